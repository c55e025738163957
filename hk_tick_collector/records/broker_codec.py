"""Between broker queues and the bytes of a row.

A payload is a sequence of LEB128 numbers: how many places the bid side has, then each place's level and broker (zigzag,
for the numbers are the source's), then the ask side's places. A row holds the whole queue (``F``) or says that the same
was pushed again (``S``): one broker that leaves moves all behind it, so that changes would save little.
"""

from __future__ import annotations

from hk_tick_collector.records.book import BrokerPush, BrokerQueue, RowKind, StoredRow
from hk_tick_collector.records.book_codec import FULL_EVERY_PUSHES
from hk_tick_collector.records.leb128 import numbers_of, put_numbers, unzigzag, zigzag

MAX_NUMBER = 1 << 31  # of levels and brokers: int32 at the source


def payload_of(queue: BrokerQueue) -> bytes:
    """The bytes of a queue. ValueError for a number that cannot be kept."""
    out = bytearray()
    put_numbers(out, len(queue.bids))
    for level, broker_id in (*queue.bids, *queue.asks):
        if not -MAX_NUMBER <= level < MAX_NUMBER or not -MAX_NUMBER <= broker_id < MAX_NUMBER:
            raise ValueError(f"broker {broker_id} at level {level}")
        put_numbers(out, zigzag(level), zigzag(broker_id))
    return bytes(out)


def queue_of(payload: bytes) -> BrokerQueue:
    """The queue of a payload. ValueError when it is none."""
    numbers = numbers_of(payload)
    if len(numbers) % 2 == 0 or numbers[0] > len(numbers) // 2:
        raise ValueError("a payload that is cut off")
    places = list(zip(map(unzigzag, numbers[1::2]), map(unzigzag, numbers[2::2]), strict=True))
    return BrokerQueue(tuple(places[: numbers[0]]), tuple(places[numbers[0] :]))


class BrokerEncoder:
    """Makes rows of the pushes of one file, for all its symbols."""

    def __init__(self) -> None:
        self._newest: dict[int, tuple[BrokerQueue, int]] = {}  # and how many rows since the whole one, with it

    def encode(self, symbol_id: int, push: BrokerPush, merged: int = 0) -> StoredRow:
        """The row of a push. ValueError for what cannot be kept; the state is the one before then."""
        queue, rows = self._newest.get(symbol_id, (None, 0))
        if queue == push.queue and rows < FULL_EVERY_PUSHES:
            self._newest[symbol_id] = push.queue, rows + 1
            return StoredRow(symbol_id, push.recv_ts_us, None, None, RowKind.SAME.value, merged, None)
        payload = payload_of(push.queue)
        self._newest[symbol_id] = push.queue, 1
        return StoredRow(symbol_id, push.recv_ts_us, None, None, RowKind.FULL.value, merged, payload)

    def break_row(self, symbol_id: int, at_us: int, merged: int = 0) -> StoredRow:
        """The queue is not known from here on; the next push of the symbol gets a whole row."""
        self._newest.pop(symbol_id, None)
        return StoredRow(symbol_id, at_us, None, None, RowKind.BREAK.value, merged, None)

    def forget(self) -> None:
        """The next push of every symbol gets a whole row: what was encoded may not be in the file."""
        self._newest.clear()


class BrokerDecoder:
    """Makes queues of the rows of one file, from any row on: until a symbol's first whole row its queue is None."""

    def __init__(self) -> None:
        self._queues: dict[int, BrokerQueue] = {}

    def decode(self, row: StoredRow) -> BrokerQueue | None:
        """The queue of the row's symbol after the row; None where it is not known. ValueError for a damaged row."""
        if row.kind == RowKind.BREAK:
            self._queues.pop(row.symbol_id, None)
        elif row.kind == RowKind.FULL:
            self._queues[row.symbol_id] = queue_of(row.payload or b"")
        elif row.kind != RowKind.SAME:
            raise ValueError(f"a row of the kind {row.kind}")
        return self._queues.get(row.symbol_id)
