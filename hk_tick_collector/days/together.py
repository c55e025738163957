"""Ticks of several recordings put together by the rules of the store, in memory: as ``hk-tickctl merge`` puts them into
a file.

Needed where some lack a sequence: which of two rows is the same trade, and what each of them tells of it, is not for
whoever reads to decide anew. It costs about 20 µs of CPU a row.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hk_tick_collector.core.errors import StoreCorrupt
from hk_tick_collector.days.schema import TICKS
from hk_tick_collector.store.connect import ROW_COLUMNS, SCHEMA_SQL
from hk_tick_collector.store.copying import copy_together

_COPIED = ("symbol", "ts_ms", "price", "volume", "turnover", "direction", "seq", "tick_type", "occurrence")
_FOUND_OUT = ("ts_ms", "seq", "occurrence")  # what one row may tell of another one's trade
_PLACE = "recv_ts_ms"
_NOTHING = {"market": "", "trading_day": "", "inserted_at_ms": 0}  # which no row goes without


def together(tables: Sequence[pa.Table]) -> pa.Table:
    """A symbol's ticks in these tables, each trade once. They have one schema, with ``twins.COLUMNS``."""
    whole = pa.concat_tables(tables).unify_dictionaries()
    starts = [sum(table.num_rows for table in tables[:number]) for number in range(len(tables))]
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as conn:
        try:
            conn.executescript(SCHEMA_SQL)
            conn.execute("BEGIN")
            copy_together(conn, [list(_rows(table, start)) for table, start in zip(tables, starts, strict=True)])
            sql = f"SELECT {_PLACE}, {', '.join(_FOUND_OUT)} FROM ticks ORDER BY rowid"  # noqa: S608 - our names
            places, *told = list(zip(*conn.execute(sql), strict=True)) or [()] * (1 + len(_FOUND_OUT))
        except (sqlite3.Error, OverflowError, ValueError) as exc:
            raise StoreCorrupt(f"what several recordings have of a symbol cannot be put together: {exc}") from exc
    joined = whole.take(pa.array(places, pa.int64()))
    for name, values in zip(_FOUND_OUT, told, strict=True):
        kind = TICKS.field(name)
        joined = joined.set_column(joined.schema.get_field_index(name), kind, pa.array(values, kind.type))
    return joined


def with_finer_times(table: pa.Table, seqs: npt.NDArray[np.int64], times_ms: npt.NDArray[np.int64]) -> pa.Table:
    """The ticks, which all have a sequence, with the times of these sequences, which are ascending."""
    own = table.column("seq").to_numpy()
    at = np.minimum(np.searchsorted(seqs, own), len(seqs) - 1)
    told = np.where(seqs[at] == own, times_ms[at], table.column("ts_ms").cast(pa.int64()).to_numpy())
    kind = TICKS.field("ts_ms")
    return table.set_column(table.schema.get_field_index("ts_ms"), kind, pa.array(told).cast(kind.type))


def _rows(table: pa.Table, start: int) -> Iterator[tuple[Any, ...]]:
    """As the store has them, with the place of each in all tables."""
    columns: dict[str, Sequence[Any]] = {
        name: (column.cast(pa.int64()) if name == "ts_ms" else column).to_pylist()
        for name in _COPIED
        for column in [table.column(name)]
    }
    columns[_PLACE] = range(start, start + table.num_rows)
    of_all = [columns.get(name) or [_NOTHING.get(name)] * table.num_rows for name in ROW_COLUMNS]
    return zip(*of_all, strict=True)
