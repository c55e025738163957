"""A day as one Parquet file: sorted by symbol and time, zstd, small row groups whose statistics let filters skip.

It stands in a tree (``tree``) whose directories name the market, which is not a column of the file.

Counters and times are delta-encoded, texts and prices dictionary-encoded: what is nearly regular costs nearly nothing.
The schema's version is in the file's metadata. A file of an earlier version has the columns of its version and is read
with NULL for the others; a later version is refused.

Every page has a checksum, so damage among the ticks is found by whoever reads them. The footer has none: there, damage
is found when it makes no sense or another number of rows. A bit that turns into something as good (the bound of a row
group's symbols, say) goes unnoticed here: the manifest's hashes find it, with ``hk-tickctl verify``. And
about one flipped bit of a footer in five thousand makes Arrow end the process (seen with pyarrow 26).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hk_tick_collector.core.disk import unavailable
from hk_tick_collector.core.errors import StoreCorrupt, StoreUnavailable
from hk_tick_collector.core.regular import check_regular
from hk_tick_collector.days.schema import COLUMNS, SCHEMA_VERSION, TICKS, UTC_MS, VERSION_KEY, ticks_schema
from hk_tick_collector.days.tree import market_of_file
from hk_tick_collector.records.columns import Packing, known_to_all, names_of, packed

FILE_COLUMNS = tuple(name for name in COLUMNS if name != "market")
FIRST_VERSION = 1  # of Parquet files: a day of version 0 is archived as what it becomes
_TEXTS = tuple(name for name in FILE_COLUMNS if pa.types.is_dictionary(TICKS.field(name).type))
# Small enough that one symbol's ticks are read without much beside them, large enough that dictionaries pay.
ROW_GROUP_ROWS = 65_536
ZSTD_LEVEL = 3

# What Arrow raises over bytes that make no sense; a name or a text that is no UTF-8 is a ValueError.
_SENSELESS = (pa.ArrowException, ValueError)

_DELTA = packed(Packing.DELTA, FILE_COLUMNS)
_SPLIT = packed(Packing.SPLIT, FILE_COLUMNS)
_DICTIONARY = packed(Packing.DICTIONARY, FILE_COLUMNS)


# pandas makes floats of integers with NULLs, and a sequence does not survive that: this asks for its nullable integers.
_PANDAS = json.dumps(
    {
        "columns": [
            {"name": name, "field_name": name, "pandas_type": "int64", "numpy_type": "Int64", "metadata": None}
            for name in ("volume", "seq")
        ],
        "index_columns": [],
        "column_indexes": [],
        "creator": {"library": "pyarrow", "version": pa.__version__},
        "pandas_version": "2.0.0",
    }
).encode()


def file_schema() -> pa.Schema:
    """What a file holds, with the schema's version in its metadata."""
    metadata = {VERSION_KEY: str(SCHEMA_VERSION).encode(), b"pandas": _PANDAS}
    return ticks_schema(FILE_COLUMNS).with_metadata(metadata)


def write_sorted(path: Path, tables: Iterable[pa.Table], schema: pa.Schema | None = None) -> int:
    """Write tables that are in order and follow each other (``order.sorted_tables``) to a new file; rows written.

    ``schema``: ``file_schema`` with other types, which the tables must have then.
    ``path`` is the caller's temporary name: it is neither synced nor renamed here. OSError when the disk refuses.
    """
    rows = 0
    schema = file_schema() if schema is None else schema
    floats = [name for name in _SPLIT if pa.types.is_floating(schema.field(name).type)]
    with pq.ParquetWriter(
        path,
        schema,
        compression="zstd",
        compression_level=ZSTD_LEVEL,
        use_dictionary=[*_DICTIONARY, *(name for name in _SPLIT if name not in floats)],
        column_encoding={**dict.fromkeys(_DELTA, "DELTA_BINARY_PACKED"), **dict.fromkeys(floats, "BYTE_STREAM_SPLIT")},
        write_page_index=True,
        write_page_checksum=True,
        sorting_columns=[pq.SortingColumn(FILE_COLUMNS.index("symbol")), pq.SortingColumn(FILE_COLUMNS.index("ts_ms"))],
    ) as writer:
        for table in tables:
            writer.write_table(_whole(table).cast(schema), row_group_size=ROW_GROUP_ROWS)
            rows += table.num_rows
    return rows


def _whole(table: pa.Table) -> pa.Table:
    """With all columns of a file, those that hold nothing too."""
    for name in FILE_COLUMNS:
        if name not in table.column_names:
            table = table.append_column(name, pa.nulls(table.num_rows, TICKS.field(name).type))
    return table.select(list(FILE_COLUMNS))


def open_file(path: Path) -> pq.ParquetFile:
    """Open a file of ours. StoreUnavailable when it cannot be read, StoreCorrupt when it is cut short or foreign."""
    try:
        check_regular(path)
    except OSError as exc:
        raise unavailable(path, exc) from exc
    try:
        footer = pq.read_metadata(path)
        texts = [name for name in _TEXTS if name in footer.schema.names]
        file = pq.ParquetFile(path, metadata=footer, read_dictionary=texts, page_checksum_verification=True)
    except _SENSELESS as exc:
        raise StoreCorrupt(f"{path} is no Parquet file, or one that was cut short: {exc}") from exc
    except OSError as exc:
        if exc.errno is None:  # Arrow's own: a footer that cannot be read
            raise StoreCorrupt(f"{path} is no Parquet file, or one that was cut short: {exc}") from exc
        raise StoreUnavailable(f"{path}: {exc}") from exc
    try:
        with _reading(path):
            check_version(file, path)
            rows = sum(file.metadata.row_group(number).num_rows for number in range(file.num_row_groups))
            _check_rows(path, rows, file.metadata.num_rows)
    except BaseException:
        file.close()
        raise
    return file


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """What Arrow says of bytes that make no sense becomes StoreCorrupt."""
    try:
        yield
    except (*_SENSELESS, OSError) as exc:
        raise StoreCorrupt(f"{path} is damaged: {exc}") from exc


def _check_rows(path: Path, rows: int, promised_rows: int) -> None:
    if rows != promised_rows:
        raise StoreCorrupt(f"{path} is damaged: it holds {rows} ticks and its footer says {promised_rows}")


def check_version(file: pq.ParquetFile, path: Path) -> None:
    """StoreCorrupt when the file is not one of ours, in the names and types of its version, StoreUnavailable when a
    newer version wrote it."""
    version = (file.schema_arrow.metadata or {}).get(VERSION_KEY)
    if version is None:
        raise _foreign(path)
    if not version.isdigit() or int(version) > SCHEMA_VERSION:
        raise StoreUnavailable(
            f"{path} has schema version {version.decode(errors='replace')}, this program knows {SCHEMA_VERSION}: "
            "install the newer version to read it"
        )
    names = file_columns(int(version))
    if not set(names).issubset(file.schema_arrow.names):
        raise _foreign(path)
    wrong = [
        f"{name} is {there}, not {ours}"
        for name in names
        if (there := _stored_type(file.schema_arrow, name)) != (ours := _stored_type(TICKS, name))
    ]
    if wrong:
        raise StoreCorrupt(f"{path} does not hold ticks as they are archived: {'; '.join(wrong)}")


def file_columns(version: int) -> tuple[str, ...]:
    """The columns of a file of that version, in order."""
    return tuple(name for name in names_of(max(version, FIRST_VERSION)) if name != "market")


def version_of(path: Path) -> int:
    """The schema version of a file of ours; errors as of ``open_file``."""
    with open_file(path) as file:
        return int(file.schema_arrow.metadata[VERSION_KEY])


def columns_there(file: pq.ParquetFile, names: Iterable[str]) -> list[str]:
    """Those of these columns that an open file has, and that hold anything; the other ones are NULL in all its rows."""
    there = [name for name in names if name in file.schema_arrow.names]
    return [name for name in there if name in known_to_all() or not _is_empty(file, name)]


def _is_empty(file: pq.ParquetFile, name: str) -> bool:
    """Is the column NULL in all rows, by its statistics? Without any it may hold something."""
    column = file.schema_arrow.get_field_index(name)
    for number in range(file.num_row_groups):
        statistics = _statistics(file, number, column)
        if statistics is None or not statistics.has_null_count:
            return False
        if statistics.null_count != file.metadata.row_group(number).num_rows:
            return False
    return True


def told_columns(path: Path) -> tuple[str, ...]:
    """The columns of the table that hold anything, those that every source tells in any case."""
    with open_file(path) as file, _reading(path):
        there = columns_there(file, COLUMNS)
    return tuple(name for name in COLUMNS if name in there or name == "market")


def _stored_type(schema: pa.Schema, name: str) -> pa.DataType:
    """A column's type, whether or not its values are in a dictionary."""
    kind = schema.field(name).type
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _foreign(path: Path) -> StoreCorrupt:
    return StoreCorrupt(f"{path} is a Parquet file of another program: it has no ticks of ours")


def read_batches(path: Path, columns: Sequence[str] = COLUMNS) -> Iterator[pa.RecordBatch]:
    """Every tick of a file, in its order, as record batches of ``ticks_schema(columns)``.

    Errors as of ``open_file``; StoreCorrupt also when a page turns out damaged.
    """
    names = tuple(columns)
    rows = 0
    with open_file(path) as file, _reading(path):
        wanted = columns_there(file, names)
        for batch in file.iter_batches(batch_size=ROW_GROUP_ROWS, columns=wanted):
            ticks = with_market(batch, names, market_of_file(path))
            rows += ticks.num_rows
            yield ticks
        _check_rows(path, rows, file.metadata.num_rows)


def read_symbols(
    path: Path,
    symbols: Sequence[str],
    columns: Sequence[str] = COLUMNS,
    *,
    start_ms: int | None = None,
    end_ms: int | None = None,
) -> pa.Table:
    """The ticks of a few symbols between two event times (UTC epoch ms, end exclusive), in the file's order."""
    names = tuple(columns)
    with open_file(path) as file, _reading(path):
        wanted = columns_there(file, dict.fromkeys((*names, "symbol", "ts_ms")))
        groups = [number for number in range(file.num_row_groups) if _may_hold(file, number, symbols, start_ms, end_ms)]
        if not groups:
            return ticks_schema(names).empty_table()
        table = file.read_row_groups(groups, columns=wanted)
        _check_rows(path, table.num_rows, sum(file.metadata.row_group(number).num_rows for number in groups))
        table = table.filter(_matches(table, symbols, start_ms, end_ms))
        batches = [with_market(batch, names, market_of_file(path)) for batch in table.to_batches()]
    return pa.Table.from_batches(batches, ticks_schema(names)).unify_dictionaries()


def _may_hold(
    file: pq.ParquetFile, number: int, symbols: Sequence[str], start_ms: int | None, end_ms: int | None
) -> bool:
    """Can the row group hold one of these ticks, by its statistics? Those that make no sense say nothing."""
    try:
        by_symbol = _statistics(file, number, FILE_COLUMNS.index("symbol"))
        by_time = _statistics(file, number, FILE_COLUMNS.index("ts_ms"))
        if by_symbol is None or by_time is None or not (by_symbol.has_min_max and by_time.has_min_max):
            return True
        first, last, earliest, latest = by_symbol.min, by_symbol.max, by_time.min, by_time.max
    except (*_SENSELESS, OverflowError):
        return True
    texts, times = isinstance(first, str) and isinstance(last, str), (earliest, latest)
    if not texts or not all(isinstance(time, datetime) for time in times) or first > last or earliest > latest:
        return True
    first_ms, last_ms = (int(time.timestamp() * 1000 + 0.5) for time in times)
    if (start_ms is not None and last_ms < start_ms) or (end_ms is not None and first_ms >= end_ms):
        return False
    return any(first <= symbol <= last for symbol in symbols)


def _statistics(file: pq.ParquetFile, number: int, column: int) -> pq.Statistics | None:
    chunk = file.metadata.row_group(number).column(column)
    if chunk.physical_type != file.schema.column(column).physical_type:  # Arrow would end the process
        return None
    return chunk.statistics


def _matches(table: pa.Table, symbols: Sequence[str], start_ms: int | None, end_ms: int | None) -> pa.ChunkedArray:
    mask = pc.is_in(table.column("symbol").cast(pa.string()), value_set=pa.array(list(symbols), pa.string()))
    if start_ms is not None:
        mask = pc.and_(mask, pc.greater_equal(table.column("ts_ms"), pa.scalar(start_ms, UTC_MS)))
    if end_ms is not None:
        mask = pc.and_(mask, pc.less(table.column("ts_ms"), pa.scalar(end_ms, UTC_MS)))
    return mask


def with_market(batch: pa.RecordBatch, names: tuple[str, ...], market: str) -> pa.RecordBatch:
    """A batch out of a file with its market in place, in our types; NULL in columns that it lacks."""
    arrays = []
    for name in names:
        kind = TICKS.field(name).type
        if name == "market":
            indices = pa.repeat(pa.scalar(0, pa.int32()), batch.num_rows)
            arrays.append(pa.DictionaryArray.from_arrays(indices, pa.array([market])))
            continue
        place = batch.schema.get_field_index(name)
        if place < 0:
            arrays.append(pa.nulls(batch.num_rows, kind))
            continue
        array = batch.column(place)
        if pa.types.is_dictionary(kind) and not pa.types.is_dictionary(array.type):
            array = array.dictionary_encode()
        arrays.append(array if array.type == kind else array.cast(kind))
    return pa.RecordBatch.from_arrays(arrays, schema=ticks_schema(names))
