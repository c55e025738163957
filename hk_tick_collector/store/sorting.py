"""Which rows of a batch are new, as far as the coverage in memory can tell before SQLite sees them.

Here for sequences that are positions (``SymbolCoverage.counts``) and running totals; ``DayCoverage.sort`` does it for
counters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from hk_tick_collector.records.tick import Tick
from hk_tick_collector.records.totals import NO_TRADE, SECOND_SESSION, units_of
from hk_tick_collector.store.symbol_coverage import Row, SymbolCoverage

_SYMBOL, _SEQ = Tick._fields.index("symbol"), Tick._fields.index("seq")


class Sorted(NamedTuple):
    """A day's rows of a batch by what is known of them before SQLite sees them, each with the stamp at its end."""

    new: list[Row]  # their counters are new: none of them can be stored already
    doubtful: list[Row]  # their counters were seen: a repeat, or another tick
    unsequenced: dict[str, list[Row]]  # by symbol
    claims: bool  # is a row without a sequence stored that one of these may be?


def sort_by_position(
    rows: Sequence[Tick], stamp: tuple[int], track_of: Callable[[str], SymbolCoverage]
) -> tuple[Sorted, set[str]]:
    """Note the rows and part them: one beyond all that were stored before the batch is new. And their symbols.

    ValueError when a value is of a kind that no tick has.
    """
    new: list[Row] = []
    doubtful: list[Row] = []
    unsequenced: dict[str, list[Row]] = {}
    symbol: object = doubtful  # which no row has
    tracks: dict[str, SymbolCoverage] = {}
    beyond = _Beyond()
    try:
        for row in rows:
            if row.symbol is not symbol:  # ticks of one push share the string
                symbol = row.symbol
                track = tracks[symbol] = track_of(symbol)
                beyond.tops.setdefault(symbol, track.newest[1])
                by_total = track.by_total
            seq = row.seq
            if seq is None:
                track.settled = False
                unsequenced.setdefault(track.symbol, []).append(row + stamp)
                continue
            if by_total:
                is_new = take_total(track, seq, row.volume)
            else:
                is_new = track.pass_over(seq) or beyond.take(track, seq, new)
            if not is_new:
                doubtful.append(row + stamp)
                continue
            new.append(row + stamp)
            ts_ms = row.ts_ms
            if ts_ms > track.last_ts_ms:  # noqa: PLR1730 - a call of max() a row costs as much as the rest
                track.last_ts_ms = ts_ms
            if ts_ms < track.first_ts_ms:
                track.first_ts_ms = ts_ms
                track.settled = False
    except TypeError as exc:
        raise ValueError(f"a value is of the wrong kind: {exc}") from exc
    claims = any(track.unsequenced_ticks for track in tracks.values())
    return Sorted(new, doubtful, unsequenced, claims), set(tracks)


class _Beyond:
    """Positions of a batch that do not rise, as the names of two trades of one millisecond do not: between those of
    the batch, and above all that were stored before it."""

    def __init__(self) -> None:
        self.tops: dict[str, int] = {}  # by symbol: the highest one stored before the batch
        self._taken: set[tuple[str, int]] = set()  # by rows of the batch
        self._noted_rows = 0

    def take(self, track: SymbolCoverage, seq: int, new: list[Row]) -> bool:
        """Note it. False when it may be stored already, or one of ``new`` has it."""
        if seq <= self.tops[track.symbol]:
            return False
        self._taken.update((row[_SYMBOL], row[_SEQ]) for row in new[self._noted_rows :])
        self._noted_rows = len(new)
        if (track.symbol, seq) in self._taken:
            return False
        track.surplus_ticks += 1
        return True


def take_total(track: SymbolCoverage, seq: int, volume: int | None) -> bool:
    """Note a trade that is stored. False when it may be stored already, or contradicts what is."""
    if volume is None or not 0 < volume <= seq % SECOND_SESSION or seq >= NO_TRADE:
        return False
    first, last = units_of(seq, volume)
    newest = track.newest
    if first == newest[1] + 1:
        newest[1] = last
    elif not track.take_units(first, last):
        return False
    track.surplus_ticks += 1 - volume
    return True
