"""Reading a file of broker queues: the queue of one symbol at one time, every row, the names of brokers.

What was watched, the counters and the pulls are read as those of books are: ``store.book_reader``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from hk_tick_collector.records.book import BrokerQueue, RowKind
from hk_tick_collector.records.broker_codec import BrokerDecoder
from hk_tick_collector.store.book_file import reading
from hk_tick_collector.store.book_reader import NamedRow, decoding, last_of, rows, rows_until


class QueueState(NamedTuple):
    """A queue as the recorder knew it at a row, and when it came: UTC epoch us."""

    symbol: str
    recv_ts_us: int
    kind: RowKind
    merged: int
    queue: BrokerQueue | None  # None at a break

    @property
    def is_known(self) -> bool:
        """Is there a queue?"""
        return self.queue is not None


def queues(path: Path, wanted: Sequence[str] | None = None) -> Iterator[QueueState]:
    """Every row's queue, in the order in which they came; of ``wanted`` symbols alone when they are given. StoreCorrupt
    for a damaged row."""
    return _decoded(path, rows(path, wanted))


def queue_at(path: Path, symbol: str, at_us: int) -> QueueState | None:
    """The newest queue of a symbol that had been received at a time; a break when it was not known then, None when
    nothing of it had come before."""
    return last_of(_decoded(path, rows_until(path, symbol, at_us)))


def names_of(path: Path) -> dict[int, str]:
    """What brokers are called, by number."""
    with reading(path) as conn:
        return {int(key): str(name) for key, name in conn.execute("SELECT broker_id, name FROM brokers")}


def _decoded(path: Path, named_rows: Iterable[NamedRow]) -> Iterator[QueueState]:
    decoder = BrokerDecoder()
    for symbol, row in named_rows:
        queue = decoding(path, decoder.decode, row)
        yield QueueState(symbol, row.recv_ts_us, RowKind(row.kind), row.merged, queue)
