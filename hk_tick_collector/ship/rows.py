"""Rows as ClickHouse takes them: an Arrow stream of ``clickhouse.tables``' columns."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa

from hk_tick_collector.clickhouse.tables import BATCH, DAY, NOT_COPIED, RECORDER, REPLAY, note_columns
from hk_tick_collector.core.errors import StoreCorrupt
from hk_tick_collector.days.schema import TEXT, TICKS, with_nulls
from hk_tick_collector.records.columns import NAMES
from hk_tick_collector.store.position import Row

_NOTE_TYPES = {"Int64": pa.int64(), "Float64": pa.float64()}


def batch_of(rows: Sequence[Row]) -> pa.RecordBatch:
    """Rows of a follower as one batch of ``days.schema.TICKS``. StoreCorrupt for values that no tick has."""
    columns = list(zip(*rows, strict=True))[1:]  # without the rowid
    arrays = []
    for field, values in zip(TICKS, columns, strict=True):
        try:
            if field.type == TEXT:
                array = pa.array(values, pa.string()).dictionary_encode()
            else:
                array = pa.array(values, field.type)
        except (pa.ArrowException, OverflowError, UnicodeError, TypeError) as exc:
            raise StoreCorrupt(
                f"rowid {rows[0][0]} to {rows[-1][0]}: {field.name} has a value that no tick has: {exc}"
            ) from exc
        arrays.append(array)
    return pa.RecordBatch.from_arrays(arrays, schema=TICKS)


def ticks_stream(batches: Sequence[pa.RecordBatch], recorder: str, number: int) -> bytes:
    """The body of one insert, of ticks stored by ``recorder``, as shipment ``number``."""
    schema = pa.schema([*TICKS, pa.field(RECORDER, TEXT), pa.field(BATCH, pa.uint64())])
    sink = pa.BufferOutputStream()
    # One dictionary a stream would be better packed; a replaced one is what every reader of streams understands.
    with pa.ipc.new_stream(sink, schema) as writer:
        for batch in batches:
            count = batch.num_rows
            own = pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, np.int32)), pa.array([recorder]))
            numbers = pa.array(np.full(count, number, np.uint64))
            arrays = [*with_nulls(batch, NAMES).columns, own, numbers]
            writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=schema))
    return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]


def token_of(recorder: str, day: str, first_rowid: int, last_rowid: int, body: bytes) -> str:
    """What names a shipment by its content: one token for other rows would have ClickHouse drop them in silence."""
    return f"{recorder}/{day}/{first_rowid}-{last_rowid}/{hashlib.blake2b(body, digest_size=16).hexdigest()}"


def notes_stream(table: str, rows: Sequence[Any], day: str, recorder: str) -> bytes:
    """The body of one insert, of a day's notes of one table."""
    columns: dict[str, list[Any]] = {name: [] for name in note_columns(table)}
    for row in rows:
        for name, value in {**_values(row), DAY: day, RECORDER: recorder}.items():
            columns[name].append(value)
    arrays = {name: pa.array(columns[name], _arrow_type(kind)) for name, kind in note_columns(table).items()}
    sink = pa.BufferOutputStream()
    batch = pa.RecordBatch.from_pydict(arrays)
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]


def _arrow_type(kind: str) -> pa.DataType:
    return next((arrow for name, arrow in _NOTE_TYPES.items() if name in kind), pa.string())


def _values(row: Any) -> Mapping[str, Any]:
    values = asdict(row)
    values.pop(NOT_COPIED, None)
    if "replay" in values:
        replay = values.pop("replay")
        values[REPLAY] = None if replay is None else json.dumps(replay, sort_keys=True)
    return values
