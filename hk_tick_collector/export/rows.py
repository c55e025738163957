"""Which ticks are exported, as tables in the order of symbol, time, sequence.

A day that is being recorded is exported as it was when the work on it began: one scan up to the newest row of that
moment, also for a few symbols (the index would show each of them a little later than the one before).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hk_tick_collector.core.errors import StoreCorrupt
from hk_tick_collector.days.catalog import Day
from hk_tick_collector.days.order import sorted_tables

SYMBOLS_BY_INDEX = 32  # of more symbols a scan of the whole day costs less than their rows by the index
SYMBOLS_AT_ONCE = 8

Advance = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class Selection:
    """Which ticks of a day. Empty means no condition."""

    symbols: tuple[str, ...] = ()
    types: frozenset[str] = frozenset()  # tick_type; ticks without one are left out
    without_types: frozenset[str] = frozenset()  # ticks without one stay

    def wants_type(self, name: str | None) -> bool:
        """True if the selection includes this tick type."""
        return name not in self.without_types and (not self.types or name in self.types)


@dataclass(frozen=True, slots=True)
class DayPart:
    """What is to be exported of one day."""

    day: Day
    selection: Selection
    so_far: bool = False  # it is still being recorded

    def symbols(self) -> list[str]:
        """The symbols that are exported, in order; a type that never occurs can still leave one without ticks."""
        return sorted(self._rows_by_symbol())

    def rows_at_most(self) -> int:
        """Of how many ticks the day's are chosen; for a progress bar."""
        return sum(self._rows_by_symbol().values())

    def tables(self, advance: Advance = lambda _rows: None) -> Iterator[pa.Table]:
        """The ticks, tables without rows left out; ``advance`` is told of the rows as they are handed out.

        StoreCorrupt, at the end, when an archive held another number of ticks than its manifest says.
        """
        rows = 0
        for table in self._sorted():
            rows += table.num_rows
            advance(table.num_rows)
            chosen = self._of_types(table)
            if chosen.num_rows:
                yield chosen
        manifest = self.day.manifest if self.day.is_archived_only else None
        if manifest is not None and not self.selection.symbols and rows != manifest.rows:
            raise StoreCorrupt(
                f"{self.day.source} holds {rows} ticks and its manifest says {manifest.rows}; "
                f"look closer with: hk-tickctl verify {self.day.trading_day}"
            )

    def _rows_by_symbol(self) -> dict[str, int]:
        there = self.day.rows_by_symbol()
        wanted = self.selection.symbols or there
        return {name: there[name] for name in wanted if there.get(name)}

    def _sorted(self) -> Iterator[pa.Table]:
        workers = 1 if self.so_far else 2
        if not self.selection.symbols:
            yield from self.day.sorted_tables(workers=workers)
            return
        symbols = self.symbols()
        if self.so_far or len(symbols) > SYMBOLS_BY_INDEX:
            chosen = _of_symbols(self.day.batches(workers=workers), set(symbols))
            yield from sorted_tables(chosen, self._rows_by_symbol())
            return
        for start in range(0, len(symbols), SYMBOLS_AT_ONCE):
            yield self.day.ticks(symbols[start : start + SYMBOLS_AT_ONCE])

    def _of_types(self, table: pa.Table) -> pa.Table:
        if not (self.selection.types or self.selection.without_types):
            return table
        kinds = table.column("tick_type").combine_chunks()
        kinds = kinds.chunk(0) if isinstance(kinds, pa.ChunkedArray) else kinds
        return table.filter(pa.array(_matching(kinds, self.selection.wants_type)))


def by_symbol(tables: Iterable[pa.Table]) -> Iterator[tuple[str, Iterator[pa.Table]]]:
    """Sorted tables parted into symbols. Each symbol's tables are to be taken before the next one's."""
    for symbol, pieces in groupby(_pieces(tables), key=lambda piece: piece[0]):
        yield symbol, (table for _, table in pieces)


def _pieces(tables: Iterable[pa.Table]) -> Iterator[tuple[str, pa.Table]]:
    for table in tables:
        column = table.column("symbol").unify_dictionaries().combine_chunks()
        column = column.chunk(0) if isinstance(column, pa.ChunkedArray) else column
        codes = column.indices.to_numpy(zero_copy_only=False)
        names = column.dictionary.to_pylist()
        starts = np.flatnonzero(np.concatenate(([True], codes[1:] != codes[:-1]))).tolist()
        for start, end in zip(starts, [*starts[1:], len(codes)], strict=True):
            yield names[codes[start]], table.slice(start, end - start)


def _of_symbols(batches: Iterable[pa.RecordBatch], symbols: set[str]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        names = batch.column(batch.schema.get_field_index("symbol"))
        chosen = batch.filter(pa.array(_matching(names, symbols.__contains__)))
        if chosen.num_rows:
            yield chosen


def _matching(texts: pa.DictionaryArray, wants: Callable[[str | None], bool]) -> npt.NDArray[np.bool_]:
    """Which rows of a text column are wanted; each different text is asked for once."""
    wanted = np.array([wants(name) for name in (*texts.dictionary.to_pylist(), None)], np.bool_)
    codes = texts.indices.fill_null(len(texts.dictionary)).to_numpy(zero_copy_only=False)
    rows: npt.NDArray[np.bool_] = wanted[codes]
    return rows
