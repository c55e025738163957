"""A file of order books, of broker queues or of snapshots, as rows that somebody keeps elsewhere: what they are, how
they are read, and what of them counts in which way in the content hash (``days.state_content``).

::

    stored = stored_of(BROKER_KIND)
    for batch in stored.read(path, Part(after_no=1000)):
        keep(batch)                                      # of ``stored.schema``
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from hk_tick_collector.days import books, brokers, snapshots
from hk_tick_collector.days.book_rows import Part
from hk_tick_collector.days.content import MIX_STEP
from hk_tick_collector.store import snapshot_follow
from hk_tick_collector.store.book_file import BOOK_KIND, BROKER_KIND
from hk_tick_collector.store.position import Row
from hk_tick_collector.store.side_file import SideKind
from hk_tick_collector.store.snapshot_file import SNAPSHOT_KIND

PAYLOAD = "payload"
assert {PAYLOAD} == {books.PAYLOAD, brokers.PAYLOAD}
_MASK = (1 << 64) - 1


class Read(Protocol):
    """Reads the rows of a file, or a part of them, or those of some symbols."""

    def __call__(
        self, path: Path, part: Part = ..., symbols: Sequence[str] | None = None
    ) -> Iterator[pa.RecordBatch]: ...


@dataclass(frozen=True)
class Bodies:
    """Rows that have a packed body each, some a thousand times as large as others, and stand by themselves: they are
    counted by bytes, and made of what a follower gives of them.

    ``unpack``: such a row with the columns of ``Stored.schema``, the body last; StoreCorrupt when it cannot be.
    ``batch``: of unpacked rows, one at least.
    """

    unpack: Callable[[Row, Path], Row]
    batch: Callable[[Sequence[Row]], pa.RecordBatch]


@dataclass(frozen=True)
class Stored:
    """``chained``: columns whose values are mixed one after the other; the others are added up, each times a number of
    its own, which is cheaper where there are many. ``payload`` is the row's own, from which the file can be made."""

    schema: pa.Schema
    read: Read
    chained: tuple[str, ...]
    live_rows: int = 20_000  # of a shipment: with ten levels a side, or 80 places, some 15 MB
    bodies: Bodies | None = None

    @property
    def summed(self) -> tuple[str, ...]:
        """Those that are added up."""
        return tuple(name for name in self.schema.names if name not in self.chained)

    def factor_of(self, name: str) -> int:
        """What a summed column is multiplied by: odd, so that no bit of it is lost."""
        return (MIX_STEP * (2 * self.summed.index(name) + 1)) & _MASK


_STORED = {
    BOOK_KIND.word: Stored(
        books.STORED_SCHEMA,
        books.read_stored,
        (
            "symbol", "recv_ts", "update_no", "kind", "merged", "bid_ts", "ask_ts", "bid_levels", "ask_levels", PAYLOAD,
        ),
    ),
    SNAPSHOT_KIND.word: Stored(
        snapshots.STORED_SCHEMA, snapshots.read_stored, tuple(snapshots.STORED_SCHEMA.names), live_rows=500,
        bodies=Bodies(snapshot_follow.stored_row, snapshots.stored_batch),
    ),
    BROKER_KIND.word: Stored(brokers.STORED_SCHEMA, brokers.read_stored, tuple(brokers.STORED_SCHEMA.names)),
}  # fmt: skip


def stored_of(kind: SideKind) -> Stored:
    """Of a kind of record."""
    return _STORED[kind.word]
