"""What ClickHouse does not take, as one thread of the shipper meets it, and saying so: once for each reason."""

from __future__ import annotations

import logging

from hk_tick_collector.clickhouse.connection import EngineAway, EngineRefused
from hk_tick_collector.core.logline import event

_log = logging.getLogger(__name__)


class Waits:
    """Written by one thread; anybody may read."""

    def __init__(self, subject: str) -> None:
        self._what = subject
        self.times = 0  # since the start
        self.reason = ""  # why nothing is taken; empty: it is
        self.is_refused = False  # it waits for somebody, and not for time alone

    def on(self, error: EngineAway | EngineRefused, about: str = "", *, is_refused: bool = False) -> None:
        """One more try, ``about`` which part of it all, has failed."""
        self.times += 1
        self.still(error, about, is_refused=is_refused)

    def still(self, error: EngineAway | EngineRefused, about: str = "", *, is_refused: bool = False) -> None:
        """What that error said still holds. ``is_refused``: time alone has not helped."""
        reason = f"{about}: {error}" if about else str(error)
        self.is_refused = is_refused or isinstance(error, EngineRefused)
        if reason != self.reason:
            do = "what the reason says" if self.is_refused else "nothing; if it stays so, see to that ClickHouse"
            done = "nothing is lost, it is tried again by itself"
            _log.error(event("ship_waits", what=self._what, reason=reason, done=done, do=do))
        self.reason = reason

    def over(self, attempts: int) -> None:
        """It was taken, after that many attempts that were not."""
        if self.reason:
            _log.info(event("ship_goes_on", what=self._what, attempts=attempts))
        self.reason, self.is_refused = "", False
