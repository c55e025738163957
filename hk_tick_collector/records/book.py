"""The order book, and the queue of brokers in it, as they are recorded: what a push says, and what a row of their files
says of it.

A push is a whole state of one symbol's book as far as the account's right shows it: two lists of levels, best price
first, of any length and in whatever order they came. Nothing in it says what changed since the push before, whether one
is missing, or when the exchange made the change; so a file of books can be witnessed, never proven.

::

    push = BookPush("HK.00700", recv_ts_us=1795138205123456, bid_ts_ms=1795138205100, ask_ts_ms=None,
                    book=Book(bids=((412.2, 3000, 7), (412.0, 12500, 31)), asks=((412.4, 800, 2),)))

A push of brokers is the whole queue likewise, without any time of its own::

    push = BrokerPush("HK.00700", recv_ts_us=1795138205123456,
                      queue=BrokerQueue(bids=((1, 4001), (1, 4038), (2, 4001)), asks=((1, 4075),)),
                      names=((4001, "Simulated Broker 1"), (4038, "Simulated Broker 2"), (4075, "Simulated Broker 3")))

Times are UTC. ``records.book_codec`` and ``records.broker_codec`` turn a sequence of pushes into rows and back.
"""

from __future__ import annotations

import math
from enum import StrEnum
from typing import NamedTuple

# price in the counter's currency; shares; number of orders (0 where it is not told)
Level = tuple[float, int, int]

THOUSANDTH_TOLERANCE = 1e-6  # of a thousandth: nearer than this, a price is that many thousandths


class Book(NamedTuple):
    """Both sides, best price first as they came; an empty side is normal (a new listing, an illiquid warrant)."""

    bids: tuple[Level, ...]
    asks: tuple[Level, ...]


EMPTY_BOOK = Book((), ())


class BookPush(NamedTuple):
    """One push. ``bid_ts_ms``, ``ask_ts_ms``: when the source's server had that side from the exchange, None when it
    does not say (a cached book)."""

    symbol: str
    recv_ts_us: int  # our clock, UTC epoch microseconds
    bid_ts_ms: int | None
    ask_ts_ms: int | None
    book: Book


Place = tuple[int, int]  # a broker's in a queue: the price level, 1 is the best; the broker's number


class BrokerQueue(NamedTuple):
    """Who stands in line at the price levels, both sides, in the order they came; an empty side is normal."""

    bids: tuple[Place, ...]
    asks: tuple[Place, ...]


EMPTY_QUEUE = BrokerQueue((), ())


class BrokerPush(NamedTuple):
    """One push. ``names``: of the brokers in it, by number."""

    symbol: str
    recv_ts_us: int  # our clock, UTC epoch microseconds
    queue: BrokerQueue
    names: tuple[tuple[int, str], ...] = ()


class RawPush(NamedTuple):
    """A push as it came. ``message``: the source's own bytes, which it reads later; they are what it costs to wait.
    ``merged``: pushes before it that were passed over because the disk was behind."""

    symbol: str
    recv_ts_us: int
    message: bytes
    merged: int = 0


class PushEntry(NamedTuple):
    """A push on its way to the file; ``merged`` as ``RawPush`` has it."""

    push: BookPush | BrokerPush
    merged: int = 0


class WatchBegan(NamedTuple):
    """From here on every push of the symbol reaches us: it is subscribed, and the connection lives."""

    symbol: str
    at_us: int


class WatchEnded(NamedTuple):
    """From here on nobody would tell us of a change. ``merged``: pushes before it that were passed over. ``known_us``:
    the last time at which the watch was known to be good, where that is earlier (0: it is not)."""

    symbol: str
    at_us: int
    reason: str
    merged: int = 0
    known_us: int = 0


class PullCompared(NamedTuple):
    """The book was asked for, and held against the newest push."""

    symbol: str
    at_us: int
    agrees: bool


class WatchRefused(NamedTuple):
    """The symbol's books are wanted, and nobody sends them: why its day is blind."""

    symbol: str
    at_us: int
    reason: str


BookEvent = WatchBegan | WatchEnded | WatchRefused | PullCompared
BookEntry = PushEntry | BookEvent


class RowKind(StrEnum):
    """What a row says of its symbol's book."""

    FULL = "F"  # the whole state
    DELTA = "D"  # what changed since the row before
    SAME = "S"  # the same state was pushed again
    BREAK = "B"  # from here on the state is not known, until the next full row


class StoredRow(NamedTuple):
    """A row of the table ``pushes``, in the order of its columns.

    ``bid_lag_ms``, ``ask_lag_ms``: the receive time in milliseconds less that side's time, None when it has none; so
    they are small. ``merged``: pushes that came before this one and were passed over because the disk was behind.
    """

    symbol_id: int
    recv_ts_us: int
    bid_lag_ms: int | None
    ask_lag_ms: int | None
    kind: str
    merged: int
    payload: bytes | None


def exact_price(price: float) -> float:
    """The price as the thousandths that it stands for, where it is next to a whole number of them; else as it came."""
    scaled = price * 1000.0
    if not math.isfinite(scaled):
        return price
    nearest = round(scaled)
    return nearest / 1000.0 if abs(scaled - nearest) <= THOUSANDTH_TOLERANCE else price
