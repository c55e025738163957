"""A day's snapshots as Arrow, in bounded memory, and which days there are.

Columns of ``schema``: ``symbol``, ``package``, ``category``; ``ts_ms`` (timestamp[ms, UTC], the source's second),
``recv_ts_ms`` (our clock), ``origin`` (live, copy), ``spot``, ``zero_gamma`` (float64), ``snapshot_no`` (its place in
the file), and ``body`` (the JSON object as it came) where bodies are wanted. Rows come by second::

    for batch in read(snapshot_file(data_root, "20261127"), [Series("US.SPX", "classic", "gex_full")]): ...

Raises StoreUnavailable when there is no such file, StoreCorrupt when it is damaged.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from hk_tick_collector.days.book_rows import WHOLE as WHOLE_FILE
from hk_tick_collector.days.book_rows import Part
from hk_tick_collector.records.snapshot import Series
from hk_tick_collector.store.snapshot_reader import WHOLE, Span, StoredSnapshot, stored_rows, stored_snapshots

CHUNK_ROWS = 200  # of up to 100 kB each

_NAME = pa.dictionary(pa.int32(), pa.string())
_MS = pa.timestamp("ms", tz="UTC")
_FIELDS = [
    pa.field("symbol", _NAME, nullable=False),
    pa.field("package", _NAME, nullable=False),
    pa.field("category", _NAME, nullable=False),
    pa.field("ts_ms", _MS, nullable=False),
    pa.field("recv_ts_ms", _MS, nullable=False),
    pa.field("origin", _NAME, nullable=False),
    pa.field("spot", pa.float64()),
    pa.field("zero_gamma", pa.float64()),
    pa.field("snapshot_no", pa.int64(), nullable=False),
]


def schema(*, bodies: bool = True) -> pa.Schema:
    """The columns of ``read``."""
    return pa.schema([*_FIELDS, pa.field("body", pa.string(), nullable=False)] if bodies else _FIELDS)


def read(
    path: Path, series: Sequence[Series], span: Span = WHOLE, *, every: bool = False, bodies: bool = True
) -> Iterator[pa.RecordBatch]:
    """The snapshots of these series; one a second, or ``every`` one."""
    wanted, series_snapshots = schema(bodies=bodies), stored_snapshots(path, series, span, every=every, bodies=bodies)
    while chunk := list(islice(series_snapshots, CHUNK_ROWS)):
        yield pa.RecordBatch.from_arrays(list(_columns(chunk, wanted)), schema=wanted)


STORED_SCHEMA = pa.schema(
    [
        *_FIELDS,
        pa.field("digest", pa.binary(), nullable=False),
        pa.field("body", pa.binary(), nullable=False),
    ]
)


def read_stored(path: Path, part: Part = WHOLE_FILE, symbols: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
    """Record batches of ``STORED_SCHEMA``, in the order of ``snapshot_no``: each row as the file has it, with its body
    unpacked. Who keeps them can make the file anew. ``part``: by number; ``symbols``: of these alone."""
    for rows in stored_rows(path, part.after_no, part.until_no, CHUNK_ROWS, symbols):
        if rows:
            yield stored_batch(rows)


def stored_batch(rows: Sequence[Sequence[Any]]) -> pa.RecordBatch:
    """Of ``STORED_SCHEMA``, of rows with its columns; one at least."""
    arrays = []
    for field, values in zip(STORED_SCHEMA, zip(*rows, strict=True), strict=True):
        array = pa.array(values, pa.string() if field.type == _NAME else field.type)
        arrays.append(array.dictionary_encode() if field.type == _NAME else array)
    return pa.RecordBatch.from_arrays(arrays, schema=STORED_SCHEMA)


def _columns(chunk: Sequence[StoredSnapshot], wanted: pa.Schema) -> Iterator[pa.Array]:
    values: dict[str, list[object]] = {
        "symbol": [snapshot.series.symbol for snapshot in chunk],
        "package": [snapshot.series.package for snapshot in chunk],
        "category": [snapshot.series.category for snapshot in chunk],
        "ts_ms": [snapshot.ts_sec * 1000 for snapshot in chunk],
        "recv_ts_ms": [snapshot.recv_ts_ms for snapshot in chunk],
        "origin": [snapshot.origin for snapshot in chunk],
        "spot": [snapshot.spot for snapshot in chunk],
        "zero_gamma": [snapshot.zero_gamma for snapshot in chunk],
        "snapshot_no": [snapshot.snapshot_no for snapshot in chunk],
        "body": [snapshot.body for snapshot in chunk],
    }
    for field in wanted:
        array = pa.array(values[field.name], pa.string() if field.type == _NAME else field.type)
        yield array.dictionary_encode() if field.type == _NAME else array
