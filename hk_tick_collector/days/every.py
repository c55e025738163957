"""Every day of which anything is recorded: ticks, order books, broker queues or snapshots, or some of them.

A ``Catalog`` knows the days of ticks. Who reads the other kinds, too, meets them by the same names of days here; what
the day is in a data root that has no tick of it comes from ``beside``::

    every = EveryDay(catalog)
    names = some_days(OtherDays(recorded, every), "last")
    with Engine([every.day(name) for name in every.with_ticks(names)], beside=every.beside(names)) as engine: ...
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property

from hk_tick_collector.core.errors import NoData
from hk_tick_collector.core.text import days_there
from hk_tick_collector.days.catalog import Catalog, Day
from hk_tick_collector.store.book_reader import symbols as book_symbols
from hk_tick_collector.store.snapshot_reader import series_there


class EveryDay(Catalog):
    """The days of a catalogue, and of those of its data roots that hold more than ticks."""

    def __init__(self, catalog: Catalog) -> None:
        super().__init__(catalog.data_root, catalog.archive_root)
        self._catalog = catalog
        self.__dict__["market"] = catalog.market

    @cached_property
    def _days_with_ticks(self) -> frozenset[str]:
        return frozenset(self._catalog.days())

    @cached_property
    def _beside(self) -> dict[str, list[Catalog]]:
        """By day, the data roots that have something of it and no tick."""
        catalogs_of: dict[str, list[Catalog]] = {}
        for catalog in self._catalog.of_each_root():
            for day in catalog.days_beside():
                catalogs_of.setdefault(day, []).append(catalog)
        return catalogs_of

    def days(self) -> list[str]:
        """All of them, oldest first."""
        return sorted({*self._days_with_ticks, *self._beside})

    def day(self, trading_day: str) -> Day:
        """The day, without rows where it has no tick. NoData when nothing of it is recorded."""
        if trading_day in self._days_with_ticks:
            return self._catalog.day(trading_day)
        if trading_day not in self._beside:
            raise NoData(f"nothing is recorded of {trading_day} under {self.data_root}; {days_there(self.days())}")
        return self._beside[trading_day][0].day_beside(trading_day)

    def with_ticks(self, names: Sequence[str]) -> list[str]:
        """Those of these days of which there are ticks."""
        return [name for name in names if name in self._days_with_ticks]

    def beside(self, names: Sequence[str]) -> list[Day]:
        """These days in each data root that has no tick of them, but something else."""
        return [catalog.day_beside(name) for name in names for catalog in self._beside.get(name, ())]


def symbols_beside(day: Day) -> set[str]:
    """The symbols that a day has in one data root beside those with ticks. StoreCorrupt, StoreUnavailable."""
    symbols: set[str] = set()
    for states in (day.books, day.brokers):
        with suppress(NoData), states().opened() as path:
            symbols.update(book_symbols(path))
    with suppress(NoData), day.snapshots().opened() as path:
        symbols.update(series.symbol for series in series_there(path))
    return symbols
