"""A day's broker queues as Arrow, in bounded memory: who stands in line at which level, push by push.

``read`` gives record batches of ``SCHEMA`` in the order in which pushes came, all symbols among one another; ``path``
is a file of broker queues (``store.layout.broker_file``), also one that is being written::

    symbol, recv_ts, update_no, kind, merged, side (bid, ask), place (from 1), level (of price, 1 is the best),
    broker_id, broker (its name)

A push with another queue (``kind`` F) has a row for each broker in it, or one without a side where both are empty. A
push of the same queue (S), and a moment from which the queue is not known (B), have one row without a side: until the
next ``update_no`` of kind F the queue stands, and behind a B nobody knows it.

``recv_ts``: timestamp[us, UTC], our clock; OpenD sends no time of a queue. ``update_no``: the row's number in its file.
Raises StoreUnavailable when there is no such file, StoreCorrupt when it is damaged.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from hk_tick_collector.core.errors import StoreCorrupt
from hk_tick_collector.days import book_rows
from hk_tick_collector.days.book_rows import FULL, KINDS, WHOLE, Part
from hk_tick_collector.records.book import BrokerQueue
from hk_tick_collector.records.broker_codec import queue_of
from hk_tick_collector.store.book_reader import symbols as symbols_of
from hk_tick_collector.store.broker_reader import names_of

CHUNK_ROWS = 1024  # of 80 brokers: 80,000 rows of Arrow

_NAME = pa.dictionary(pa.int32(), pa.string())
SCHEMA = pa.schema(
    [
        pa.field("symbol", _NAME, nullable=False),
        pa.field("recv_ts", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("update_no", pa.int64(), nullable=False),
        pa.field("kind", _NAME, nullable=False),
        pa.field("merged", pa.int64(), nullable=False),
        pa.field("side", _NAME),
        pa.field("place", pa.int32()),
        pa.field("level", pa.int32()),
        pa.field("broker_id", pa.int32()),
        pa.field("broker", _NAME),
    ]
)


PAYLOAD = "payload"
_PLACES = pa.list_(pa.field("item", pa.int32(), nullable=False))
# A row a push, as the file has it, and beside it who stands in line: for each place its price level and its broker. A
# push of the same queue, and a break, have no places.
STORED_SCHEMA = pa.schema(
    [
        *[SCHEMA.field(name) for name in ("symbol", "recv_ts", "update_no", "kind", "merged")],
        pa.field("bid_levels", _PLACES, nullable=False),
        pa.field("bid_brokers", _PLACES, nullable=False),
        pa.field("ask_levels", _PLACES, nullable=False),
        pa.field("ask_brokers", _PLACES, nullable=False),
        pa.field(PAYLOAD, pa.binary(), nullable=False),
    ]
)


class _Row(NamedTuple):
    symbol: str
    recv_ts: int
    update_no: int
    kind: str
    merged: int
    side: str | None = None
    place: int | None = None
    level: int | None = None
    broker_id: int | None = None
    broker: str | None = None


def read(path: Path, symbols: Sequence[str] | None = None, part: Part = WHOLE) -> Iterator[pa.RecordBatch]:
    """Record batches of ``SCHEMA``; of ``symbols`` and of a ``part`` alone when they are given. Rows that are committed
    after the call began are left out."""
    names = {key: name for name, key in symbols_of(path).items() if symbols is None or name in symbols}
    only = None if symbols is None and part == WHOLE else sorted(names)
    for chunk in book_rows.chunks(path, only, part, CHUNK_ROWS):
        names = book_rows.names_in(path, chunk, names)
        brokers = names_of(path)  # those that a chunk names are in the file before it is
        rows: list[_Row] = []
        columns = (chunk.update_nos, chunk.symbol_ids, chunk.recv_ts_us, chunk.kinds, chunk.merged)
        for values, payload in zip(
            zip(*(column.tolist() for column in columns), strict=True), chunk.payloads.to_pylist(), strict=True
        ):
            update_no, symbol_id, recv_us, kind, merged = values
            if not _is_within(update_no, recv_us, part):
                continue
            head = _Row(names[symbol_id], recv_us, update_no, KINDS[kind].value, merged)
            queue = _queue(path, payload) if kind == FULL else BrokerQueue((), ())
            rows += _rows_of(head, queue, brokers) or [head]
        yield _batch(rows)


def read_stored(path: Path, part: Part = WHOLE, symbols: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
    """Record batches of ``STORED_SCHEMA``: each row as the file has it. Who keeps them can make the file anew.
    ``symbols``: of these alone; ``part``: between two numbers."""
    names = {key: name for name, key in symbols_of(path).items() if symbols is None or name in symbols}
    only = None if symbols is None else sorted(names)
    for chunk in book_rows.chunks(path, only, part, CHUNK_ROWS, of_themselves=True):
        names = book_rows.names_in(path, chunk, names)
        pushes = zip(chunk.kinds.tolist(), chunk.payloads.to_pylist(), strict=True)
        queues = [_queue(path, payload) if kind == FULL else BrokerQueue((), ()) for kind, payload in pushes]
        columns: list[pa.Array] = [
            pa.array([names[key] for key in chunk.symbol_ids.tolist()], pa.string()).dictionary_encode(),
            pa.array(chunk.recv_ts_us, SCHEMA.field("recv_ts").type),
            pa.array(chunk.update_nos),
            pa.array([KINDS[kind].value for kind in chunk.kinds.tolist()], pa.string()).dictionary_encode(),
            pa.array(chunk.merged),
        ]
        for sides in ([queue.bids for queue in queues], [queue.asks for queue in queues]):
            columns += [pa.array([[place[n] for place in side] for side in sides], _PLACES) for n in (0, 1)]
        columns.append(chunk.payloads)
        yield pa.RecordBatch.from_arrays(columns, schema=STORED_SCHEMA)


def _is_within(update_no: int, recv_us: int, part: Part) -> bool:
    return (
        update_no > part.after_no
        and (part.from_us is None or recv_us >= part.from_us)
        and (part.before_us is None or recv_us < part.before_us)
    )


def _rows_of(head: _Row, queue: BrokerQueue, brokers: dict[int, str]) -> list[_Row]:
    return [
        head._replace(side=side, place=place, level=level, broker_id=broker_id, broker=brokers.get(broker_id))
        for side, places in (("bid", queue.bids), ("ask", queue.asks))
        for place, (level, broker_id) in enumerate(places, start=1)
    ]


def _queue(path: Path, payload: bytes) -> BrokerQueue:
    try:
        return queue_of(payload)
    except ValueError as exc:
        raise StoreCorrupt(f"{path} is damaged: {exc}") from exc


def _batch(rows: list[_Row]) -> pa.RecordBatch:
    columns = list(zip(*rows, strict=True)) or [()] * len(SCHEMA)
    arrays = []
    for field, values in zip(SCHEMA, columns, strict=True):
        is_name = pa.types.is_dictionary(field.type)
        arrays.append(pa.array(values, pa.string()).dictionary_encode() if is_name else pa.array(values, field.type))
    return pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)
