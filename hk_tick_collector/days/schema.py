"""The columns of a tick outside SQLite: one Arrow schema for Parquet, DuckDB and everything between.

Names are those of the ``ticks`` table, so a query reads the same on a live and on an archived day. Types are what a
researcher expects: UTC timestamps in milliseconds, dictionary strings, int64 sequences. Prices stay the float64 that
the day file holds, bit for bit: a decimal type would have to round what it cannot hold, and pandas turns it into
objects.

``market`` is a column in memory and, as the Hive convention wants it, a directory name in files.
"""

from __future__ import annotations

import pyarrow as pa

from hk_tick_collector.store.connect import ROW_COLUMNS

SCHEMA_VERSION = 1
VERSION_KEY = b"hk_tick_collector.schema_version"

TEXT = pa.dictionary(pa.int32(), pa.string())
UTC_MS = pa.timestamp("ms", tz="UTC")

TICKS = pa.schema(
    [
        pa.field("market", TEXT, nullable=False),
        pa.field("symbol", TEXT, nullable=False),
        pa.field("ts_ms", UTC_MS, nullable=False),
        pa.field("price", pa.float64()),
        pa.field("volume", pa.int64()),
        pa.field("turnover", pa.float64()),
        pa.field("direction", TEXT),
        pa.field("seq", pa.int64()),
        pa.field("tick_type", TEXT),
        pa.field("push_type", TEXT),
        pa.field("provider", TEXT),
        pa.field("trading_day", TEXT, nullable=False),
        pa.field("recv_ts_ms", UTC_MS, nullable=False),
        pa.field("inserted_at_ms", UTC_MS, nullable=False),
        pa.field("push_data_type", TEXT),
        pa.field("opend_recv_ts_ms", UTC_MS),
        pa.field("type_sign", TEXT),
        pa.field("occurrence", pa.int64(), nullable=False),
    ]
)
COLUMNS: tuple[str, ...] = tuple(TICKS.names)
assert set(COLUMNS) == set(ROW_COLUMNS)


def ticks_schema(columns: tuple[str, ...] = COLUMNS) -> pa.Schema:
    """The schema of these columns, in this order. KeyError names a column that a tick does not have."""
    return pa.schema([TICKS.field(name) for name in columns])


def empty_table(columns: tuple[str, ...] = COLUMNS) -> pa.Table:
    """No ticks, with the right types."""
    return ticks_schema(columns).empty_table()
