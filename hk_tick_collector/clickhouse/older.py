"""Days of a ClickHouse behind those of files: what has no file here any more is read there.

A day that has a file or an archive here is never asked for there. Which days are there is asked now and then; while
nobody answers, what was known last counts, and ``reason`` says so when nothing was.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from hk_tick_collector.clickhouse.connection import ClickHouse
from hk_tick_collector.clickhouse.copy import Copy, days_there_of, not_there_now, recorders
from hk_tick_collector.clickhouse.making import Making
from hk_tick_collector.clickhouse.recorded import CopiedDays
from hk_tick_collector.clickhouse.recorded_snapshots import CopiedSnapshotDays
from hk_tick_collector.clickhouse.recorded_states import CopiedStateDays
from hk_tick_collector.clickhouse.tables import BOOKS, BROKERS, SNAPSHOTS, STATES, columns_there
from hk_tick_collector.core.errors import ConfigError, CopiesUnavailable
from hk_tick_collector.core.logline import RateLimitedLog
from hk_tick_collector.days.book_days import BookDays
from hk_tick_collector.days.catalog import Catalog
from hk_tick_collector.days.snapshot_days import SnapshotDays

LOOK_SEC = 30.0  # between two looks at which days are there
AGAIN_SEC = 10.0  # after one that was not answered: whoever asks meanwhile does not wait for it

_log = RateLimitedLog(logging.getLogger(__name__))


class OlderDays(CopiedDays):
    """Some of one recorder's days there."""

    def __init__(self, copy: Copy, market: str, names: Sequence[str], with_states: Mapping[str, Sequence[str]]) -> None:
        """``with_states``: the days with order books, broker queues and snapshots, by table."""
        super().__init__(copy, market)
        self._names, self._with_states = list(names), with_states

    @property
    def book_days(self) -> BookDays:
        """Those with order books that no file here has."""
        return CopiedStateDays(self.copy, BOOKS, self._with_states[BOOKS.rows])

    @property
    def broker_days(self) -> BookDays:
        """Those with broker queues that no file here has."""
        return CopiedStateDays(self.copy, BROKERS, self._with_states[BROKERS.rows])

    @property
    def snapshot_days(self) -> SnapshotDays:
        """Those with snapshots that no file here has."""
        return CopiedSnapshotDays(self.copy, self._with_states[SNAPSHOTS.rows])

    def archived_days(self) -> list[str]:
        """Those."""
        return self._names


class _Held(NamedTuple):
    recorder: str
    market: str
    days: list[str]
    with_states: dict[str, list[str]]  # days with books, and those with queues, by table


class Older:
    """``client.plan.Older``: the days of ``recorder`` there, of all recorders when it is empty. ``connect`` is called
    when the first question comes. All calls come from one thread."""

    def __init__(
        self,
        connect: Callable[[], ClickHouse],
        recorder: str = "",
        monotonic: Callable[[], float] = time.monotonic,
        making: Making | None = None,
    ) -> None:
        """``making``: how much may be made anew of copies at once."""
        self._connect, self._recorder, self._monotonic = connect, recorder, monotonic
        self._making = making or Making()
        self._engine: ClickHouse | None = None
        self._held: list[_Held] = []
        self._look_at_sec = float("-inf")
        self.reason = ""  # why it is not known which days are there

    def __call__(self, catalogs: Sequence[Catalog]) -> list[Catalog]:
        """Catalogs of the days that these lack, of their markets."""
        self._look()
        stored_here: list[Catalog] = []
        for held in self._held:
            mine = [catalog for catalog in catalogs if catalog.market.code == held.market]
            names = _lacking(held.days, [catalog.days() for catalog in mine])
            with_states = {
                BOOKS.rows: _lacking(held.with_states[BOOKS.rows], [catalog.book_days.days() for catalog in mine]),
                BROKERS.rows: _lacking(
                    held.with_states[BROKERS.rows], [catalog.broker_days.days() for catalog in mine]
                ),
                SNAPSHOTS.rows: _lacking(
                    held.with_states[SNAPSHOTS.rows], [catalog.snapshot_days.days() for catalog in mine]
                ),
            }
            if mine and (names or any(with_states.values())) and self._engine is not None:
                copy = Copy(self._engine, held.recorder, self._making)
                stored_here.append(OlderDays(copy, held.market, names, with_states))
        return stored_here

    def _look(self) -> None:
        if self._monotonic() < self._look_at_sec:
            return
        wait_sec = LOOK_SEC
        try:
            if self._engine is None:
                self._engine = self._connect()
            self._held = _held(self._engine, self._recorder or None)
            self.reason = ""
        except (CopiesUnavailable, ConfigError) as exc:
            wait_sec = AGAIN_SEC
            self.reason = "" if self._held else str(exc)
            _log.log(logging.WARNING, "older_days", reason=str(exc), done="days that have a file are read all the same")
        self._look_at_sec = self._monotonic() + wait_sec


def _held(engine: ClickHouse, recorder: str | None) -> list[_Held]:
    days, there = days_there_of(engine, recorder), columns_there(engine)
    of_states = {  # a table that an earlier version has not made has no days
        states.rows: days_there_of(engine, recorder, states.rows) if states.rows in there else {} for states in STATES
    }
    markets = recorders(engine)
    names = dict.fromkeys(name for by_recorder in (days, *of_states.values()) for name in by_recorder)
    for name in names.keys() - markets.keys():
        raise not_there_now(engine, f"all that is there of {name}")
    return [
        _Held(
            name,
            markets[name],
            days.get(name, []),
            {table: by_recorder.get(name, []) for table, by_recorder in of_states.items()},
        )
        for name in names
    ]


def _lacking(there: Sequence[str], here: Sequence[Sequence[str]]) -> list[str]:
    known = {day for days in here for day in days}
    return [day for day in there if day not in known]
