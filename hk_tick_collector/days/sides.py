"""A day in one of several data roots that are read as one day (``union``), and what they have of one symbol."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from hk_tick_collector.core.errors import StoreCorrupt
from hk_tick_collector.days.catalog import Day
from hk_tick_collector.days.overlap import uncovered
from hk_tick_collector.store.reader import CoverageRow, GapRow, SymbolCount

if TYPE_CHECKING:
    import pyarrow as pa

    from hk_tick_collector.days.joining import Conflict

GROUP_ROWS = 200_000  # of all roots, about so many of shared symbols are in memory at a time


class Side:
    """A day in one of the data roots, as it was at the first look. Raises as ``Day.notes``."""

    def __init__(self, day: Day) -> None:
        self.day = day
        self.name = str(day.data_root or day.archive_root)
        self.damage: StoreCorrupt | None = None  # that showed when its rows were read
        notes = day.notes(last_row=True)
        self.last_rowid = notes.last_rowid
        self.coverage = {row.symbol: row for row in notes.coverage}
        if not self.coverage:  # an earlier recorder's: it noted nothing
            rows = day.rows_by_symbol()
            self.coverage = {symbol: uncovered(SymbolCount(symbol, rows[symbol], None)) for symbol in rows}
        self.gaps = notes.gaps_by_symbol()

    def rows(self, symbol: str) -> int:
        """How many ticks it has."""
        return self.coverage[symbol].stored_ticks if symbol in self.coverage else 0

    def ticks(
        self, symbols: Sequence[str], columns: Sequence[str], start_ms: int | None = None, end_ms: int | None = None
    ) -> pa.Table:
        """As ``Day.ticks``, up to the newest row of the first look."""
        day = self.day.as_it_is_now()
        try:
            return day.ticks(symbols, columns, start_ms=start_ms, end_ms=end_ms, last_rowid=self.last_rowid)
        except StoreCorrupt as exc:
            self.damage = exc
            raise

    def batches(self, columns: Sequence[str], workers: int) -> Iterator[pa.RecordBatch]:
        """As ``Day.batches``, likewise."""
        return self.day.as_it_is_now().batches(columns, workers=workers, last_rowid=self.last_rowid)


class Joint(NamedTuple):
    """A symbol that several roots have. ``sides``: whose ticks are its ticks, each adding to those before it."""

    sides: tuple[Side, ...]
    row: CoverageRow
    gaps: list[GapRow]
    conflicts: list[Conflict]
