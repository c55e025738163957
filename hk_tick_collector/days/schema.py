"""The columns of a tick outside SQLite: ``records.columns`` as one Arrow schema for Parquet,
DuckDB and everything between.

Names are those of the ``ticks`` table, so a query reads the same on a live and on an archived day. Types are what a
researcher expects: UTC timestamps in milliseconds, dictionary strings, int64 sequences. Prices stay the float64 that
the day file holds, bit for bit: a decimal type would have to round what it cannot hold, and pandas turns it into
objects.

``market`` is a column in memory and, as the Hive convention wants it, a directory name in files.
"""

from __future__ import annotations

import pyarrow as pa

from hk_tick_collector.records import columns
from hk_tick_collector.records.columns import NAMES, SCHEMA_VERSION, Arrow

__all__ = [
    "COLUMNS",
    "SCHEMA_VERSION",
    "TEXT",
    "TICKS",
    "UTC_MS",
    "VERSION_KEY",
    "empty_table",
    "ticks_schema",
    "with_nulls",
]
VERSION_KEY = b"hk_tick_collector.schema_version"

TEXT = pa.dictionary(pa.int32(), pa.string())
UTC_MS = pa.timestamp("ms", tz="UTC")
_TYPES = {Arrow.TEXT: TEXT, Arrow.UTC_MS: UTC_MS, Arrow.INT64: pa.int64(), Arrow.FLOAT64: pa.float64()}

TICKS = pa.schema([pa.field(column.name, _TYPES[column.arrow], nullable=column.nullable) for column in columns.TICKS])
COLUMNS = NAMES


def ticks_schema(columns: tuple[str, ...] = COLUMNS) -> pa.Schema:
    """The schema of these columns, in this order. KeyError names a column that a tick does not have."""
    return pa.schema([TICKS.field(name) for name in columns])


def with_nulls(batch: pa.RecordBatch, names: tuple[str, ...]) -> pa.RecordBatch:
    """The batch with these columns in this order, all NULL where it lacks one."""
    if len(names) == batch.num_columns:
        return batch
    arrays = [
        batch.column(place)
        if (place := batch.schema.get_field_index(name)) >= 0
        else pa.nulls(batch.num_rows, TICKS.field(name).type)
        for name in names
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=ticks_schema(names))


def empty_table(columns: tuple[str, ...] = COLUMNS) -> pa.Table:
    """No ticks, with the right types."""
    return ticks_schema(columns).empty_table()
