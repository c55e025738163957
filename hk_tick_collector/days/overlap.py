"""A day that stands in its archive and in a day file: what each of the two holds that the other lacks.

Ticks that come after the day file was archived and deleted begin a new one, so neither is the day then. Symbols are
compared by what the recorder noted of them and the manifest claims: counts, times and counters, a row a symbol. Only
where that leaves a doubt are rows read, and told apart as the store tells them apart (store/copying.py); where all have
a sequence, that alone is compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from hk_tick_collector.core.ranges import CounterRanges
from hk_tick_collector.days.manifest import Manifest, SymbolClaim
from hk_tick_collector.days.schema import UTC_MS
from hk_tick_collector.store.connect import ROW_COLUMNS
from hk_tick_collector.store.copying import without_a_row
from hk_tick_collector.store.coverage import UNPROVEN
from hk_tick_collector.store.extents import count, format_extents, subtract
from hk_tick_collector.store.reader import CoverageRow, SymbolCount

KEY_COLUMNS = ("symbol", "ts_ms", "price", "volume", "turnover", "direction", "seq", "tick_type", "occurrence")
NOT_JOINED = "its ticks stand in the archive and in the day file, which are not joined"


@dataclass(frozen=True, slots=True)
class Overlap:
    """Symbols by where their ticks are. In none of these: both sides hold the same, or the day file all."""

    archived_only: frozenset[str]
    live_more: frozenset[str]  # in the day file alone, or more of them there and all that the archive has
    differing: frozenset[str]  # in both, and neither is known to hold all of the other

    @property
    def is_live_whole(self) -> bool:
        """Does the day file hold every tick of the archive?"""
        return not (self.archived_only or self.differing)

    @property
    def is_archive_whole(self) -> bool:
        """Is the archive the day, and the day file a part of it?"""
        return bool(self.archived_only) and not (self.live_more or self.differing)


def overlap_of(live: Mapping[str, CoverageRow], manifest: Manifest) -> Overlap:
    """``live``: the day file's coverage by symbol."""
    noted = {row.symbol: row for row in manifest.coverage}
    stored = {symbol for symbol, row in live.items() if row.stored_ticks}
    claimed = {symbol for symbol, claim in manifest.symbols.items() if claim.rows}
    differing = {
        symbol
        for symbol in stored & claimed
        if not _holds_all(live[symbol], noted.get(symbol), manifest.symbols[symbol])
    }
    more = {symbol for symbol in stored & noted.keys() if _counted(live[symbol]) != _counted(noted[symbol])}
    return Overlap(
        frozenset(claimed - stored), frozenset((stored - claimed) | (more - differing)), frozenset(differing)
    )


def _counted(row: CoverageRow) -> tuple[object, ...]:
    """What is the same when the ticks are."""
    return (row.stored_ticks, row.unsequenced_ticks, row.first_counter, row.last_counter, row.holes, row.first_ts_ms,
            row.last_ts_ms)  # fmt: skip


def _holds_all(live: CoverageRow, archived: CoverageRow | None, claim: SymbolClaim) -> bool:
    """Is every tick of the archive in the day file, as far as the notes tell?"""
    if archived is None:  # an earlier recorder's day: it noted nothing
        return live.stored_ticks == claim.rows and live.first_ts_ms in (None, claim.first_ts_ms)
    if _counted(live) == _counted(archived):
        return True
    if not (_is_counting(live) and _is_counting(archived)):
        return False
    within = _bounds(live)[0] <= _bounds(archived)[0] and _bounds(archived)[1] <= _bounds(live)[1]
    theirs = [(first, last) for first, last in archived.ranges.ranges]
    return within and not subtract(theirs, live.ranges.ranges)


def _is_counting(row: CoverageRow) -> bool:
    """Has each tick a counter of its own?"""
    return not row.unsequenced_ticks and not row.distrust and row.stored_ticks == count(row.ranges.ranges)


def _bounds(row: CoverageRow) -> tuple[int, int]:
    return row.first_ts_ms or 0, row.last_ts_ms or 0


def is_likely_more(live: CoverageRow, manifest: Manifest) -> bool:
    """Does the day file look as if it held all of the archive's symbol? Good enough only where nothing can be read."""
    claim = manifest.symbols[live.symbol]
    first_ms, last_ms = _bounds(live)
    return (
        live.stored_ticks >= claim.rows and first_ms <= (claim.first_ts_ms or 0) and (claim.last_ts_ms or 0) <= last_ms
    )


def in_stretch(table: pa.Table, start_ms: int | None, end_ms: int | None) -> pa.Table:
    """The rows between two event times, UTC epoch ms, the end exclusive."""
    if start_ms is not None:
        table = table.filter(pc.greater_equal(table.column("ts_ms"), pa.scalar(start_ms, UTC_MS)))
    if end_ms is not None:
        table = table.filter(pc.less(table.column("ts_ms"), pa.scalar(end_ms, UTC_MS)))
    return table


def uncovered(counted: SymbolCount) -> CoverageRow:
    """The coverage of a symbol in a file of an earlier recorder: its number of ticks, and nothing is known of them."""
    return CoverageRow(
        counted.symbol, None, None, counted.rows, 0, None, 0, None, None, None, None, UNPROVEN, NOT_JOINED, 0,
        counted.rows, None, NOT_JOINED,
    )  # fmt: skip


def lacking(archived: pa.Table, live: pa.Table) -> pa.Table:
    """The ticks of one symbol that its archive has and its day file has not. Both with ``KEY_COLUMNS``."""
    theirs, ours = archived.column("seq"), live.column("seq")
    if ours.null_count or theirs.null_count:
        rows = without_a_row(_rows(archived), _rows(live))
        return archived.take(pa.array(sorted(row[-1] for row in rows), pa.int64()))
    return archived.filter(pc.invert(pc.is_in(theirs, value_set=ours.combine_chunks())))


def _rows(table: pa.Table) -> list[tuple[Any, ...]]:
    """The rows as the store has them, with None for what is not compared, and their place at the end."""
    columns = {name: table.column(name) for name in KEY_COLUMNS}
    columns["ts_ms"] = columns["ts_ms"].cast(pa.int64())
    nothing = [None] * table.num_rows
    values = [columns[name].to_pylist() if name in columns else nothing for name in ROW_COLUMNS]
    return list(zip(*values, range(table.num_rows), strict=True))


def joined_row(live: CoverageRow, archived: CoverageRow | None, added: pa.Table) -> CoverageRow:
    """The coverage of a symbol that stands in both, of which nothing is proven. ``added``: the archive's besides."""
    ranges = CounterRanges()
    for row in (live, archived):
        for first, last in row.ranges.ranges if row is not None else []:
            ranges.add(first, last)
    holes = list(ranges.holes())
    times = [ms for row in (live, archived) if row is not None for ms in (row.first_ts_ms, row.last_ts_ms) if ms]
    return replace(
        live,
        first_counter=ranges.first if ranges else None,
        last_counter=ranges.last if ranges else None,
        holes=format_extents(holes) or None,
        stored_ticks=live.stored_ticks + added.num_rows,
        unsequenced_ticks=live.unsequenced_ticks + added.column("seq").null_count,
        missing_ticks=0,
        first_ts_ms=min(times, default=None),
        last_ts_ms=max(times, default=None),
        state=UNPROVEN,
        reason=NOT_JOINED,
        distrust=NOT_JOINED,
    )
