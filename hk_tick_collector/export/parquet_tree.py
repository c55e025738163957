"""Days as a tree of Parquet files in Hive's layout, with prices as they are stored or as decimals.

Doubles are what OpenD sends and the day file holds, bit for bit. A decimal holds the number that a person reads in the
double: the export is refused when a value has more than four decimals, never rounded.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hk_tick_collector.core.errors import RowRefused
from hk_tick_collector.days.parquet import FILE_COLUMNS, file_schema, write_sorted
from hk_tick_collector.records.columns import TICKS, Arrow

DECIMAL_DIGITS, DECIMAL_PLACES = 18, 4
DECIMAL = pa.decimal128(DECIMAL_DIGITS, DECIMAL_PLACES)
DECIMAL_COLUMNS = tuple(column.name for column in TICKS if column.arrow is Arrow.FLOAT64)
_SCALE = 10**DECIMAL_PLACES
_EXACT_BELOW = 2.0**53  # doubles hold every integer up to here


def write_parquet(path: Path, tables: Iterable[pa.Table], *, decimal: bool = False) -> int:
    """Write a file of sorted tables; rows written. RowRefused names the first tick whose price is no such decimal."""
    if not decimal:
        return write_sorted(path, tables)
    return write_sorted(path, _with_decimals(tables), decimal_schema())


def decimal_schema() -> pa.Schema:
    """What a file with decimals holds."""
    schema = file_schema()
    for name in DECIMAL_COLUMNS:
        schema = schema.set(schema.get_field_index(name), pa.field(name, DECIMAL))
    return schema


def _with_decimals(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    for table in tables:
        columns = {name: table.column(name) for name in FILE_COLUMNS}
        for name in DECIMAL_COLUMNS:
            columns[name] = _decimals(table, name)
        yield pa.table(list(columns.values()), names=list(columns))


def _decimals(table: pa.Table, name: str) -> pa.Array:
    column = table.column(name).combine_chunks()
    array = column.chunk(0) if isinstance(column, pa.ChunkedArray) else column
    is_valid = np.asarray(pc.is_valid(array))
    values = pc.fill_null(array, 0.0).to_numpy(zero_copy_only=False)
    with np.errstate(invalid="ignore", over="ignore"):
        scaled = np.rint(values * _SCALE)
        fits = (scaled / _SCALE == values) & (np.abs(scaled) < _EXACT_BELOW)
    if not fits.all():
        _refuse(table, name, int(np.argmin(fits)))
    words = np.empty((len(values), 2), "<i8")  # a 128-bit integer, low half first
    words[:, 0] = scaled
    words[:, 1] = words[:, 0] >> 63
    validity = None if is_valid.all() else pa.array(is_valid).buffers()[1]
    return pa.Array.from_buffers(DECIMAL, len(values), [validity, pa.py_buffer(words)])


def _refuse(table: pa.Table, name: str, row: int) -> None:
    tick = table.slice(row, 1).select(["symbol", "ts_ms", "seq", name]).to_pylist()[0]
    raise RowRefused(
        f"{name} {tick[name]!r} of {tick['symbol']} at {tick['ts_ms'].isoformat()} (seq {tick['seq']}) is not a "
        f"decimal with {DECIMAL_PLACES} places and {DECIMAL_DIGITS} digits; export with --prices double"
    )
