"""How gexbot is asked: the key, the headers it wants, and when it is left alone.

Owns the key and the waiting over connections, so that a reconnect asks nobody who said no. No contract about limits is
published: whoever answers 429, or refuses the key, is left alone for a time that doubles, and every message says until
when. Safe to use from several threads; ``get`` of a key reads a file.
"""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from hk_tick_collector import __version__
from hk_tick_collector.core.clock import Clock
from hk_tick_collector.core.errors import FeedError, InputError
from hk_tick_collector.sources.secrets import find, read_secrets

SECRETS = (("key",),)
AGENT = f"hk-tick-collector/{__version__}"
MIN_WAIT_SEC, MAX_WAIT_SEC = 60.0, 3600.0


class Banned(FeedError):
    """gexbot is not asked for a while."""


class Access:
    """One key at one address."""

    def __init__(self, api: str, key_file: Path, clock: Clock) -> None:
        self.api = api.rstrip("/")
        parts = urlsplit(self.api)
        self.origin = f"{parts.scheme}://{parts.netloc}"
        self.host = parts.hostname or ""
        self._file = key_file
        self._clock = clock
        self._lock = threading.Lock()
        self._not_before_sec = 0.0
        self._wait_sec = MIN_WAIT_SEC
        self._why = ""
        self._refused_file: tuple[int, int] | None = None

    def headers(self) -> dict[str, str]:
        """Of every request that needs the key. FeedError says what is wrong with its file."""
        try:
            key = read_secrets(find(self._file), SECRETS)["key"]
        except InputError as exc:
            raise FeedError(str(exc)) from None
        return {"Authorization": f"Bearer {key}", **PLAIN_HEADERS}

    def check(self) -> None:
        """Banned while gexbot is to be left alone; another key than the refused one is tried at once."""
        with self._lock:
            left_sec = self._not_before_sec - self._clock.monotonic()
            if left_sec <= 0 or (self._refused_file is not None and _stamp(find(self._file)) != self._refused_file):
                return
            raise self._banned(left_sec)

    @property
    def banned(self) -> str:
        """Why and until when it is left alone; empty when it is not."""
        try:
            self.check()
        except Banned as exc:
            return str(exc)
        return ""

    def refuse(self, status: int, retry_after: str | None, *, is_key: bool) -> Banned:
        """gexbot said no: leave it alone, longer each time. The error to raise."""
        with self._lock:
            now_sec = self._clock.monotonic()
            if now_sec < self._not_before_sec and not is_key:
                return self._banned(self._not_before_sec - now_sec)  # answers that were on their way
            asked = int(retry_after[:6]) if retry_after and retry_after.isascii() and retry_after.isdigit() else 0
            wait_sec = min(max(self._wait_sec, asked), MAX_WAIT_SEC)
            self._wait_sec = min(2 * self._wait_sec, MAX_WAIT_SEC)
            self._not_before_sec = now_sec + wait_sec
            self._why = f"gexbot refused the key ({status})" if is_key else f"gexbot wants to be left alone ({status})"
            self._refused_file = _stamp(find(self._file)) if is_key else None
            return self._banned(wait_sec)

    def served(self) -> None:
        """It answered as it should: the next wait begins small again."""
        if self._wait_sec == MIN_WAIT_SEC:
            return
        with self._lock:
            if self._clock.monotonic() >= self._not_before_sec or self._refused_file is not None:
                self._wait_sec, self._refused_file, self._not_before_sec = MIN_WAIT_SEC, None, 0.0

    def _banned(self, left_sec: float) -> Banned:
        until = datetime.fromtimestamp(self._clock.now_ms() / 1000 + left_sec, UTC)
        return Banned(f"{self._why}; not asked again before {until:%H:%M:%S} UTC")


PLAIN_HEADERS = {"User-Agent": AGENT, "Accept": "application/json", "Accept-Encoding": "gzip"}


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns
