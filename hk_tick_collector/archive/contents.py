"""The ticks of one file, a day file or a Parquet file alike, and what one holds that another lacks.

Whole days are compared by the content hashes of their symbols (``days.content``). Only where those differ are rows
looked at one by one, a few symbols at a time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from hk_tick_collector.days import parquet, scan
from hk_tick_collector.days.content import DayContent, SymbolContent
from hk_tick_collector.days.manifest import Manifest, SymbolClaim
from hk_tick_collector.records.columns import NAMES, Role, names_of, with_role
from hk_tick_collector.store import reader
from hk_tick_collector.store.connect import ROW_COLUMNS
from hk_tick_collector.store.copying import without_a_row
from hk_tick_collector.store.read_only import schema_version

ROWS_AT_ONCE = 100_000  # of each side, as Python objects: about 100 MB
SHOWN_SYMBOLS = 5

Row = tuple[Any, ...]  # in the order of ROW_COLUMNS, times in UTC epoch ms
RowsOf = Callable[[Sequence[str]], list[Row]]
SYMBOL = ROW_COLUMNS.index("symbol")
SEQ = ROW_COLUMNS.index("seq")
_WITH_SEQUENCE = tuple(ROW_COLUMNS.index(name) for name in with_role(Role.KEY))
_WITHOUT_SEQUENCE = tuple(ROW_COLUMNS.index(name) for name in with_role(Role.KEY, Role.CONTENT) if name != "seq")


class Ticks(Protocol):
    """A file of ticks."""

    def batches(self) -> Iterator[pa.RecordBatch]:
        """All of them, with all columns."""

    def rows(self, symbols: Sequence[str]) -> list[Row]:
        """Those of a few symbols."""

    def columns(self) -> tuple[str, ...]:
        """Those that an archive of its version has; the other ones are NULL in all rows."""


@dataclass(frozen=True, slots=True)
class DayFileTicks:
    """The ticks of a SQLite day file, up to a rowid."""

    db: Path
    workers: int = 2
    last_rowid: int | None = None

    def batches(self) -> Iterator[pa.RecordBatch]:
        return scan.scan_day_file(self.db, workers=self.workers, last_rowid=self.last_rowid)

    def rows(self, symbols: Sequence[str]) -> list[Row]:
        return rows_of(scan.scan_symbols(self.db, symbols))

    def columns(self) -> tuple[str, ...]:
        return names_of(max(parquet.FIRST_VERSION, schema_version(self.db)))


@dataclass(frozen=True, slots=True)
class ParquetTicks:
    """The ticks of a Parquet file of ours."""

    path: Path

    def batches(self) -> Iterator[pa.RecordBatch]:
        return parquet.read_batches(self.path)

    def rows(self, symbols: Sequence[str]) -> list[Row]:
        return rows_of(parquet.read_symbols(self.path, symbols))

    def columns(self) -> tuple[str, ...]:
        return names_of(parquet.version_of(self.path))


def rows_of(table: pa.Table | pa.RecordBatch, names: Sequence[str] = ROW_COLUMNS) -> list[Row]:
    """Ticks as tuples of plain values, as SQLite has them."""
    columns = []
    for name in names:
        column = table.column(table.schema.get_field_index(name))
        if pa.types.is_timestamp(column.type):
            column = column.cast(pa.int64())
        columns.append(_plain(column))
    return list(zip(*columns, strict=True))


def _plain(column: pa.Array | pa.ChunkedArray) -> list[object]:
    """A column's values. Of words the index is looked up: Arrow makes a new string for each row, which costs a
    microsecond and, with nine such columns, was half of a restore."""
    if not pa.types.is_dictionary(column.type):
        values: list[object] = column.to_pylist()
        return values
    plain_values: list[object] = []
    for chunk in column.chunks if isinstance(column, pa.ChunkedArray) else [column]:
        words = [*chunk.dictionary.to_pylist(), None]
        plain_values += map(words.__getitem__, chunk.indices.fill_null(len(words) - 1).to_pylist())
    return plain_values


def differing(mine: Mapping[str, SymbolContent], other: Mapping[str, SymbolContent | SymbolClaim]) -> list[str]:
    """The symbols that are not the same in both, in order."""
    return sorted(
        symbol
        for symbol in {*mine, *other}
        if symbol not in mine
        or symbol not in other
        or (mine[symbol].rows, mine[symbol].content_hash) != (other[symbol].rows, other[symbol].content_hash)
    )


def lacking(holder: Ticks, held: DayContent, others: RowsOf, symbols: Iterable[str]) -> Iterator[list[Row]]:
    """The rows that ``holder`` has and the other file has not, among these symbols, a part at a time.

    ``others``: the other file's rows of a few symbols.

    ``held``: what ``holder`` contains, to read about ROWS_AT_ONCE rows at a time. A tick whose sequence or milliseconds
    were found out or taken away later (store/rows.py) is the same tick. What the holder's version has no columns for,
    it does not hold: there the other file may have anything.
    """
    columns = holder.columns()
    for group in groups(symbols, held):
        rows = lacked(holder.rows(group), others(group), columns)
        if rows:
            yield rows


def groups(symbols: Iterable[str], held: DayContent) -> Iterator[list[str]]:
    group: list[str] = []
    rows = 0
    for symbol in symbols:
        content = held.symbols.get(symbol)
        if content is None:
            continue
        if group and rows + content.rows > ROWS_AT_ONCE:
            yield group
            group, rows = [], 0
        group.append(symbol)
        rows += content.rows
    if group:
        yield group


def lacked(rows: Sequence[Row], others: Sequence[Row], columns: Sequence[str] = NAMES) -> list[Row]:
    """Those of ``rows`` that ``others`` have not, or have as they came another way: the earlier one is to be kept.

    ``columns``: those that are compared, where ``rows`` are of an earlier version and have NULL in the rest."""
    unheld = [n for n, name in enumerate(ROW_COLUMNS) if name not in columns]
    if unheld:
        others = [tuple(None if n in unheld else value for n, value in enumerate(row)) for row in others]
    left, right = Counter(rows), Counter(others)
    missing, extra = [*(left - right).elements()], [*(right - left).elements()]
    came_otherwise = Counter(map(_identity, extra)) & Counter(map(_identity, missing))
    unmatched, spare = _parted(missing, Counter(came_otherwise)), _parted(extra, came_otherwise)
    return [*unmatched[0], *without_a_row(unmatched[1], spare[1])]


def _parted(rows: Sequence[Row], wanted: Counter[Row]) -> tuple[list[Row], list[Row]]:
    """The rows with these identities, and the others."""
    parts: tuple[list[Row], list[Row]] = ([], [])
    for row in rows:
        identity = _identity(row)
        is_wanted = wanted[identity] > 0
        wanted[identity] -= is_wanted
        parts[not is_wanted].append(row)
    return parts


def _identity(row: Row) -> Row:
    """What is equal in two rows that tell one tick in one form."""
    return tuple(row[n] for n in (_WITH_SEQUENCE if row[SEQ] is not None else _WITHOUT_SEQUENCE))


def differing_notes(db: Path, manifest: Manifest) -> list[str]:
    """Which tables beside ``ticks`` are not in the day file as the manifest has them. StoreError as of the reader."""
    pairs: dict[str, tuple[Sequence[object], Sequence[object]]] = {
        "coverage": (reader.coverage(db), manifest.coverage),
        "gaps": (reader.gaps(db), manifest.gaps),
        "symbols": (reader.symbol_rows(db), manifest.symbol_rows),
        "amendments": (reader.amendments(db), manifest.amendments),
    }
    return [name for name, (there, claimed) in pairs.items() if list(there) != list(claimed)]


def some(names: Sequence[str]) -> str:
    """A few names and how many more there are, for a person."""
    more = len(names) - SHOWN_SYMBOLS
    return ", ".join(names[:SHOWN_SYMBOLS]) + (f" and {more} more" if more > 0 else "")
