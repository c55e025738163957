"""One log line is one event: the message word first, then ``key=value`` pairs, all on one line.

Operators grep these lines (``health``, ``persist_summary``, ``WATCHDOG``), so the word and the keys are interface.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, MutableMapping
from typing import Any

from hk_tick_collector.core.text import cut, printable

MAX_VALUE_CHARS = 1_000  # longer ones are cut: a line stays a line, whatever OpenD sent
MAX_KEYS = 256  # of one limiter; what comes beyond shares one line

_ANY_KEY = "\0"
_PLAIN_EXTRA = frozenset("._-+:/,%@*<>()[]|~#")


class _OfKind(logging.LoggerAdapter[logging.Logger]):
    """Says behind each line which kind of record it is of."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        kind = (self.extra or {}).get("kind")
        return f"{msg} kind={kind}", kwargs


Log = logging.Logger | logging.LoggerAdapter[logging.Logger]


def log_of_kind(logger: logging.Logger, kind: str, usual: str) -> Log:
    """The log of what handles one kind of record of several: its lines end with ``kind=books``. Those of the ``usual``
    kind are as they always were."""
    return logger if kind == usual else _OfKind(logger, {"kind": kind})


def event(word: str, **fields: object) -> str:
    """``event("health", queue=0, phase="morning")`` -> ``health queue=0 phase=morning``.

    Floats are cut to three decimals, None becomes ``none``; a value with blanks, quotes, ``=`` or control
    characters is quoted, and line breaks never get through, so that one event stays one line. A value longer than
    MAX_VALUE_CHARS is cut.
    """
    parts = [word]
    parts += [f"{key}={_value(value)}" for key, value in fields.items()]
    return " ".join(parts)


def _value(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, float):
        return f"{value:.3f}".rstrip("0").rstrip(".") if math.isfinite(value) else str(value)
    text = cut(str(value), MAX_VALUE_CHARS)
    if text and all(c.isalnum() or c in _PLAIN_EXTRA for c in text):
        return text
    return '"' + printable(text.replace("\\", "\\\\").replace('"', '\\"')) + '"'


class RateLimitedLog:
    """Logs the first event of each key, then at most one a ``period_sec`` with the count of what was held back.

    Thread-safe; meant for errors that may repeat thousands of times a second. A key is the kind of an event and holds
    nothing that came from outside; should it do so all the same, MAX_KEYS bound lines and memory.
    """

    def __init__(
        self,
        logger: Log,
        period_sec: float = 10.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._logger = logger
        self._period_sec = period_sec
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._state: dict[str, tuple[float, int]] = {}

    def log(
        self, level: int, word: str, *, key: str = "", exc_info: bool | BaseException = False, **fields: object
    ) -> None:
        """Write the event now, or count it if its ``word`` and ``key`` were logged less than a period ago."""
        now_sec = self._monotonic()
        state_key = f"{word}\0{key}"
        with self._lock:
            if state_key not in self._state and len(self._state) >= MAX_KEYS:
                state_key = self._make_room(now_sec, state_key)
            last_sec, held_back = self._state.get(state_key, (float("-inf"), 0))
            if now_sec - last_sec < self._period_sec:
                self._state[state_key] = (last_sec, held_back + 1)
                return
            self._state[state_key] = (now_sec, 0)
        if held_back:
            fields["suppressed"] = held_back
        self._logger.log(level, event(word, **fields), exc_info=exc_info)

    def _make_room(self, now_sec: float, state_key: str) -> str:
        """Forget keys that are quiet; the key to use, which is one for all when none is."""
        quiet = [key for key, (last_sec, _) in self._state.items() if now_sec - last_sec >= self._period_sec]
        for key in quiet:
            del self._state[key]
        return state_key if quiet else _ANY_KEY
