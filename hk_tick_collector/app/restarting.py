"""The feed is restarted when somebody who may ask for it left a request: the connection ends, and a new one is made.

The recorder itself goes on, with all that it holds, and the backfill fetches what was traded meanwhile. It looks every
two seconds, on a thread of its own, at one small file (``store.restarts``); a disk that hangs holds up no more.
At most one restart in ``EVERY_MS``, whatever the file says: who may write there can annoy, and lose nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from hk_tick_collector.core.aside import in_thread
from hk_tick_collector.core.clock import Clock
from hk_tick_collector.core.logline import RateLimitedLog, event
from hk_tick_collector.core.progress import FeedProgress
from hk_tick_collector.store.restarts import EVERY_MS, FRESH_MS, Restart, newest

CHECK_SEC = 2.0
LOG_PERIOD_SEC = 600

log = logging.getLogger(__name__)


class RestartReader:
    """``restart`` ends the connection and begins anew, with a reason; call ``check`` on the loop, every CHECK_SEC."""

    def __init__(
        self, directory: Path, data_root: Path, progress: FeedProgress, clock: Clock, restart: Callable[[str], None]
    ) -> None:
        self._directory = directory
        self._data_root = data_root
        self._progress = progress
        self._clock = clock
        self._restart = restart
        self._begun_ms = clock.now_ms()
        self._seen_ms: int | None = None
        self._free_sec = clock.monotonic()  # from then on the next one may come
        self._limited_log = RateLimitedLog(log, LOG_PERIOD_SEC, clock.monotonic)

    async def check(self) -> None:
        """Do what was asked since the last look."""
        try:
            asked = await in_thread("restarts", lambda: newest(self._directory, self._data_root))
        except OSError as exc:
            self._progress.takes_restarts = False
            error, todo = exc.strerror or str(exc), "restart the unit instead, or let the recorder read it"
            self._limited_log.log(logging.WARNING, "restarts_unreadable", path=self._directory, error=error, todo=todo)
            return
        self._progress.takes_restarts = True
        if asked is not None and asked.at_ms != self._seen_ms:
            is_of_before = self._seen_ms is None and asked.at_ms <= self._begun_ms  # this run answered it
            self._seen_ms = asked.at_ms
            if not is_of_before:
                self._note(asked)

    def _note(self, asked: Restart) -> None:
        now_sec = self._clock.monotonic()
        if abs(self._clock.now_ms() - asked.at_ms) > FRESH_MS:
            self._ignore(asked, "it is not of now")
        elif now_sec < self._free_sec:
            self._ignore(asked, f"the last one is less than {EVERY_MS // 1000} s ago")
        else:
            self._free_sec = now_sec + EVERY_MS / 1000
            self._progress.restarts += 1
            self._progress.restarted_at_ms, self._progress.restarted_by = self._clock.now_ms(), asked.by
            log.warning(event("feed_restart", by=asked.by, action="ending the connection and making a new one"))
            self._restart(f"asked by {asked.by}")

    def _ignore(self, asked: Restart, why: str) -> None:
        self._limited_log.log(logging.WARNING, "feed_restart_ignored", by=asked.by, reason=why)
