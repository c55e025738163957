"""Days of a ClickHouse behind those of files: what has no file here any more is read there.

A day that has a file or an archive here is never asked for there. Which days are there is asked now and then; while
nobody answers, what was known last counts, and ``reason`` says so when nothing was.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from hk_tick_collector.clickhouse.connection import ClickHouse
from hk_tick_collector.clickhouse.recorded import CopiedDays, Copy, days_there_of, market_there
from hk_tick_collector.core.errors import ConfigError, CopiesUnavailable
from hk_tick_collector.core.logline import RateLimitedLog
from hk_tick_collector.days.catalog import Catalog

LOOK_SEC = 30.0  # between two looks at which days are there
AGAIN_SEC = 10.0  # after one that was not answered: whoever asks meanwhile does not wait for it

_log = RateLimitedLog(logging.getLogger(__name__))


class OlderDays(CopiedDays):
    """Some of one recorder's days there."""

    def __init__(self, copy: Copy, market: str, names: Sequence[str]) -> None:
        super().__init__(copy, market)
        self._names = list(names)

    def archived_days(self) -> list[str]:
        """Those."""
        return self._names


class _Held(NamedTuple):
    recorder: str
    market: str
    days: list[str]


class Older:
    """``client.plan.Older``: the days of ``recorder`` there, of all recorders when it is empty. ``connect`` is called
    when the first question comes. All calls come from one thread."""

    def __init__(
        self,
        connect: Callable[[], ClickHouse],
        recorder: str = "",
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connect, self._recorder, self._monotonic = connect, recorder, monotonic
        self._engine: ClickHouse | None = None
        self._held: list[_Held] = []
        self._look_at_sec = float("-inf")
        self.reason = ""  # why it is not known which days are there

    def __call__(self, catalogs: Sequence[Catalog]) -> list[Catalog]:
        """Catalogs of the days that these lack, of their markets."""
        self._look()
        here: dict[str, set[str]] = {}
        for catalog in catalogs:
            here.setdefault(catalog.market.code, set()).update(catalog.days())
        found: list[Catalog] = []
        for held in self._held:
            names = [day for day in held.days if day not in here.get(held.market, ())] if held.market in here else []
            if names and self._engine is not None:
                found.append(OlderDays(Copy(self._engine, held.recorder), held.market, names))
        return found

    def _look(self) -> None:
        if self._monotonic() < self._look_at_sec:
            return
        wait_sec = LOOK_SEC
        try:
            if self._engine is None:
                self._engine = self._connect()
            days = days_there_of(self._engine, self._recorder or None)
            self._held = [_Held(name, market_there(self._engine, name, days[name][-1]), days[name]) for name in days]
            self.reason = ""
        except (CopiesUnavailable, ConfigError) as exc:
            wait_sec = AGAIN_SEC
            self.reason = "" if self._held else str(exc)
            _log.log(logging.WARNING, "older_days", reason=str(exc), done="days that have a file are read all the same")
        self._look_at_sec = self._monotonic() + wait_sec
