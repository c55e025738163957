"""A day that stands in its archive and in a day file: what each of the two holds that the other lacks.

Ticks that come after the day file was archived and deleted begin a new one, so neither is the day then. Symbols are
compared by what the recorder noted of them and the manifest claims: counts, times and counters, a row a symbol. Only
where that leaves a doubt are rows read (``rows``). Nothing here needs Arrow.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hk_tick_collector.core.evidence import NO_COUNTER
from hk_tick_collector.core.ranges import CounterRanges
from hk_tick_collector.days.manifest import Manifest, SymbolClaim
from hk_tick_collector.store.extents import count, format_extents, subtract
from hk_tick_collector.store.reader import CoverageRow, SymbolCount
from hk_tick_collector.store.verdict import UNPROVEN, sequences_count

if TYPE_CHECKING:
    import pyarrow as pa

KEY_COLUMNS = ("symbol", "ts_ms", "price", "volume", "turnover", "direction", "seq", "tick_type", "occurrence")
NOT_JOINED = "its ticks are in the archive and in the day file, which are not joined"


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


def uncovered(counted: SymbolCount) -> CoverageRow:
    """The coverage of a symbol in a file of an earlier recorder: its number of ticks, and nothing is known of them."""
    return CoverageRow(
        counted.symbol, None, None, counted.rows, 0, None, 0, None, None, None, None, UNPROVEN, NOT_JOINED, 0,
        counted.rows, None, NOT_JOINED,
    )  # fmt: skip


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
        distrust=NOT_JOINED if sequences_count(live.distrust) else f"{NO_COUNTER}; {NOT_JOINED}",
        replay=None,
    )
