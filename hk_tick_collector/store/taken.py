"""Day files that were taken away and could not be copied yet: their rows can be read as long as somebody has them open.

Owns their connections. Such a file still takes its space: recording goes on in the new file at its path, and as soon
as the disk has no room for new rows, the old ones are let go. Limits: ``MAX_HELD`` files, a copy is tried every
``AGAIN_SEC`` and ``MAX_TRIES`` times. For one thread.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hk_tick_collector.core.errors import StoreError
from hk_tick_collector.core.logline import event
from hk_tick_collector.store import rescue

MAX_HELD = 2
AGAIN_SEC = 60.0
MAX_TRIES = 60

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Taken:
    path: Path
    conn: sqlite3.Connection
    tries: int = 0


class TakenFiles:
    """``now_ms`` names the copies; ``is_interrupted``: somebody else went on meanwhile."""

    def __init__(self, now_ms: Callable[[], int], is_interrupted: Callable[[], bool]) -> None:
        self._now_ms = now_ms
        self._is_interrupted = is_interrupted
        self._held: list[_Taken] = []  # the oldest first
        self._again_at_sec = 0.0

    def hold(self, path: Path, conn: sqlite3.Connection) -> None:
        """``conn`` has what was at ``path``, and is ours from now on."""
        if len(self._held) >= MAX_HELD:
            self._end(self._held[0], "too many")
        self._held.append(_Taken(path, conn))
        self._again_at_sec = time.monotonic() + AGAIN_SEC

    def try_again(self, *, is_last: bool = False) -> None:
        """When it is time, or for the last time: save what they hold beside the file that took their path."""
        if not self._held or (time.monotonic() < self._again_at_sec and not is_last):
            return
        self._again_at_sec = time.monotonic() + AGAIN_SEC
        for taken in list(self._held):
            taken.tries += 1
            kept = None
            with contextlib.suppress(StoreError):
                kept = rescue.keep_aside(taken.path, taken.conn, self._now_ms(), self._is_interrupted)
            if kept is not None:
                self._close(taken)
                todo = f"bring back what it had: hk-tickctl salvage {kept}"
                _log.warning(event("day_file_rescued", path=taken.path, kept=kept, todo=todo))
            elif is_last or taken.tries >= MAX_TRIES:
                self._end(taken, "the recorder ends" if is_last else "it cannot be copied")

    def let_go(self) -> None:
        """The disk refuses new rows: these make room for them."""
        for taken in list(self._held):
            self._end(taken, "to make room for new rows")

    def _end(self, taken: _Taken, reason: str) -> None:
        self._close(taken)
        todo = "what OpenD still has is fetched"
        _log.error(event("day_file_let_go", path=taken.path, reason=reason, todo=todo))

    def _close(self, taken: _Taken) -> None:
        self._held.remove(taken)
        with contextlib.suppress(sqlite3.Error):
            taken.conn.close()
