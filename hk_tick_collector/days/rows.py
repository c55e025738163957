"""The ticks of a recorded day as Arrow, from its day file, its archive, or both, each tick once.

Apart from ``catalog``, so that a question that no column answers (which days, what is missing) does without Arrow.
Where both are read, a tick of the archive is told apart as the store tells them apart (store/copying.py); where all
have a sequence, that alone is compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from hk_tick_collector.days import order, parquet, scan
from hk_tick_collector.days.groups import in_groups
from hk_tick_collector.days.overlap import KEY_COLUMNS, Overlap
from hk_tick_collector.days.schema import UTC_MS, empty_table
from hk_tick_collector.store.connect import ROW_COLUMNS
from hk_tick_collector.store.copying import without_a_row

# Read together: a fraction of a second of reading, and some 10 MB.
GROUP_ROWS, GROUP_SYMBOLS = 65_536, 100


class DayFiles(NamedTuple):
    """What the ticks of a day are read from. Which of its files that is, ``Day`` decides."""

    db: Path | None  # the day file; None when the archive alone is read
    overlap: Overlap | None  # how the two stand to each other, when both are read
    parquet: Callable[[], Path]  # the archive's file. StoreUnavailable when it has none that can be read in place


def batches(
    files: DayFiles, columns: Sequence[str], *, workers: int, last_rowid: int | None
) -> Iterator[pa.RecordBatch]:
    """As ``Day.batches``."""
    if files.db is None:
        return parquet.read_batches(files.parquet(), columns)
    live = scan.scan_day_file(files.db, columns, workers=workers, last_rowid=last_rowid)
    return live if files.overlap is None else chain(live, _added_batches(files, files.overlap, columns, last_rowid))


def sorted_tables(
    files: DayFiles,
    rows_by_symbol: Callable[[], Mapping[str, int]],
    columns: Sequence[str],
    *,
    workers: int,
    last_rowid: int | None,
) -> Iterator[pa.Table]:
    """As ``Day.sorted_tables``. ``rows_by_symbol`` as of ``Day``; an archive, which is in order, needs none."""
    if files.db is None:
        return (pa.Table.from_batches([batch]) for batch in parquet.read_batches(files.parquet(), columns))
    return order.sorted_tables(batches(files, columns, workers=workers, last_rowid=last_rowid), rows_by_symbol())


def ticks(
    files: DayFiles,
    symbols: Sequence[str],
    columns: Sequence[str],
    start_ms: int | None,
    end_ms: int | None,
    last_rowid: int | None = None,
) -> pa.Table:
    """As ``Day.ticks``."""
    names = tuple(columns)
    needed = tuple(dict.fromkeys((*names, "symbol", "ts_ms", "seq")))
    if files.db is None:
        table = parquet.read_symbols(files.parquet(), symbols, needed, start_ms=start_ms, end_ms=end_ms)
    else:
        table = scan.scan_symbols(files.db, symbols, needed, start_ms=start_ms, end_ms=end_ms, last_rowid=last_rowid)
    if files.overlap is not None:
        parts = [in_stretch(added(files, symbol, needed, last_rowid), start_ms, end_ms) for symbol in symbols]
        table = pa.concat_tables([table, *parts]).unify_dictionaries()
    return order.sort_table(table).select(list(names))


def by_symbol(
    ticks_of: Callable[[Sequence[str], Sequence[str]], pa.Table],
    rows_by_symbol: Mapping[str, int],
    symbols: Sequence[str],
    columns: Sequence[str],
) -> Iterator[tuple[str, pa.Table]]:
    """As ``Day.ticks_by_symbol``, of a day of any kind; ``ticks_of`` and ``rows_by_symbol`` are its own."""
    names = tuple(columns)
    held = {symbol: rows_by_symbol.get(symbol, 0) for symbol in symbols}
    for group in in_groups(held, GROUP_ROWS, GROUP_SYMBOLS):
        table = ticks_of(group, tuple(dict.fromkeys((*names, "symbol"))))
        tables = order.parted(table)
        for symbol in group:
            yield symbol, tables.get(symbol, table.slice(0, 0)).select(list(names))


def added(files: DayFiles, symbol: str, columns: Sequence[str], last_rowid: int | None = None) -> pa.Table:
    """What the archive has of a symbol and the day file, up to a row, has not; nothing of symbols that the file has
    whole. For a day of which both are read."""
    assert files.overlap is not None
    assert files.db is not None
    names = tuple(columns)
    if symbol in files.overlap.archived_only:
        return parquet.read_symbols(files.parquet(), [symbol], names)
    if symbol not in files.overlap.differing:
        return empty_table(names)
    needed = tuple(dict.fromkeys((*names, *KEY_COLUMNS)))
    archived = parquet.read_symbols(files.parquet(), [symbol], needed)
    live = scan.scan_symbols(files.db, [symbol], KEY_COLUMNS, last_rowid=last_rowid)
    return lacking(archived, live).select(list(names))


def _added_batches(
    files: DayFiles, overlap: Overlap, columns: Sequence[str], last_rowid: int | None
) -> Iterator[pa.RecordBatch]:
    for symbol in sorted(overlap.archived_only | overlap.differing):
        yield from added(files, symbol, columns, last_rowid).to_batches()


def in_stretch(table: pa.Table, start_ms: int | None, end_ms: int | None) -> pa.Table:
    """The rows between two event times, UTC epoch ms, the end exclusive."""
    if start_ms is not None:
        table = table.filter(pc.greater_equal(table.column("ts_ms"), pa.scalar(start_ms, UTC_MS)))
    if end_ms is not None:
        table = table.filter(pc.less(table.column("ts_ms"), pa.scalar(end_ms, UTC_MS)))
    return table


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
