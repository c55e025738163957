"""Snapshots of local files, for ``client.local`` and the server: which days and series, how complete, the rows.

A day's snapshots are one file. Of several data roots the first one with a symbol tells. What is stored after the
question was asked is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa

from hk_tick_collector.client.beside import Plan, plan_of, with_places
from hk_tick_collector.client.coverage import MISSING, PROVEN, UNPROVEN, SymbolCoverage
from hk_tick_collector.client.plan import MarketRoots
from hk_tick_collector.client.question import SnapshotQuestion
from hk_tick_collector.core.errors import NoData as NothingThere
from hk_tick_collector.days.catalog import Day
from hk_tick_collector.days.snapshot_days import SnapshotPlace
from hk_tick_collector.days.snapshots import read
from hk_tick_collector.days.union import UnionCatalog
from hk_tick_collector.market.market import Market
from hk_tick_collector.quality.snapshots import SeriesGrid, report_of
from hk_tick_collector.records.snapshot import Series
from hk_tick_collector.store.snapshot_reader import WHOLE, Span, newest_no, series_there, why_absent

_HINT = "SOURCE=gexbot records snapshots; hk-tickctl snapshots lists series"


class SnapshotPlaces(UnionCatalog):
    """The days with snapshots of one market in several data roots."""

    def days(self) -> list[str]:
        """All of them, oldest first."""
        return sorted({day for catalog in self.catalogs for day in catalog.snapshot_days.live_days()})

    def day(self, trading_day: str) -> Day:
        """The day, of which there is no tick. NoData when there are no snapshots of it."""
        days = self.days()
        if trading_day not in days:
            raise NothingThere(why_absent(trading_day, days, (catalog.archive_root for catalog in self.catalogs)))
        return Day(trading_day, None, self.archive_root, self.market, self.data_root)

    def places(self, trading_day: str) -> list[SnapshotPlace]:
        """The day's file in each data root that has one."""
        places = (catalog.snapshot_days.in_a_file(trading_day) for catalog in self.catalogs)
        return [place for place in places if place is not None]


@dataclass(frozen=True)
class SnapshotRead:
    """A part of a day's snapshots. ``coverage``: of the symbols asked for, the worst of each one's series."""

    place: SnapshotPlace
    trading_day: str
    market: Market
    series: tuple[Series, ...]
    coverage: list[SymbolCoverage]
    span: Span

    @property
    def path(self) -> Path:
        """Its file."""
        return self.place.path

    @property
    def is_empty(self) -> bool:
        """Is no series of what was asked for in it?"""
        return not self.series

    def only(self, symbols: Sequence[str]) -> SnapshotRead:
        """The part of these symbols."""
        kept = [row for row in self.coverage if row.symbol in symbols]
        return replace(self, series=tuple(series for series in self.series if series.symbol in symbols), coverage=kept)

    def batches(self, question: SnapshotQuestion, span: Span | None = None) -> Iterator[pa.RecordBatch]:
        """Its rows; none is empty. ``span``: instead of its own."""
        if self.series:
            wanted = self.span if span is None else span
            yield from read(self.path, self.series, wanted, every=question.every, bodies=question.bodies)


SnapshotPlan = Plan[SnapshotRead]


def plan_of_snapshots(markets: Sequence[MarketRoots], question: SnapshotQuestion) -> SnapshotPlan:
    """What a question means here. Raises as ``beside.plan_of``."""

    def reads_of(
        recorded: MarketRoots, name: str, symbols: tuple[str, ...] | None, start_ms: int | None, end_ms: int | None
    ) -> list[SnapshotRead]:
        return _reads_of(recorded, name, symbols, question, _span(start_ms, end_ms))

    places = with_places(markets, SnapshotPlaces)
    return plan_of(places, question.stretch, reads_of, "snapshots", _HINT, question.series)


def batches_of(plan: SnapshotPlan, question: SnapshotQuestion) -> Iterator[pa.RecordBatch]:
    """The rows, day by day."""
    for day_read in plan.reads:
        yield from day_read.batches(question)


def _reads_of(
    recorded: MarketRoots, name: str, symbols: tuple[str, ...] | None, question: SnapshotQuestion, span: Span
) -> list[SnapshotRead]:
    assert isinstance(recorded.catalog, SnapshotPlaces)
    taken: set[str] = set()
    reads = []
    for place in recorded.catalog.places(name):
        day_read = _read_of(place.narrowed(symbols or ()), name, recorded, question, span)
        mine = [row.symbol for row in day_read.coverage if row.symbol not in taken]
        wanted = mine if symbols is None else [symbol for symbol in mine if symbol in symbols]
        taken.update(wanted)
        reads.append(day_read.only(wanted))
    return reads


def _span(start_ms: int | None, end_ms: int | None) -> Span:
    """A second is from its beginning on."""
    from_sec = WHOLE.from_sec if start_ms is None else -(-start_ms // 1000)
    return Span(from_sec, WHOLE.until_sec if end_ms is None else -(-end_ms // 1000))


def _read_of(
    place: SnapshotPlace, day: str, recorded: MarketRoots, question: SnapshotQuestion, span: Span
) -> SnapshotRead:
    path = place.path
    until_no = newest_no(path)
    there = [series for series in series_there(path) if question.wants(series.package, series.category)]
    report = report_of(path, day, recorded.market, recorded.calendar.day_kind(day), recorded.now_ms)
    grids = [grid for grid in report.series if Series(grid.symbol, grid.package, grid.category) in there]
    symbols = dict.fromkeys(series.symbol for series in there)
    rows = [_coverage_of(day, symbol, [grid for grid in grids if grid.symbol == symbol]) for symbol in symbols]
    return SnapshotRead(place, day, recorded.market, tuple(there), rows, span._replace(until_no=until_no))


def _coverage_of(day: str, symbol: str, grids: Sequence[SeriesGrid]) -> SymbolCoverage:
    """The worst of a symbol's series; counts are of all of them."""
    states = {grid.state for grid in grids}
    state = next((word for word in (MISSING, UNPROVEN) if word in states or not states), PROVEN)
    reasons = dict.fromkeys(f"{grid.package}/{grid.category}: {grid.reason}" for grid in grids if grid.reason)
    absent = sum(grid.absent for grid in grids if grid.state == MISSING)
    return SymbolCoverage(
        day, symbol, state, "; ".join(list(reasons)[:3]) or None, sum(grid.rows for grid in grids), absent, None,
        sum(grid.seen + grid.absent for grid in grids) if state != UNPROVEN else None, None, None, None,
    )  # fmt: skip
