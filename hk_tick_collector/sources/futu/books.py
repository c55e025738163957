"""Order books and broker queues of OpenD: from pushes on the SDK's network thread to a lane, and from bytes to a book
or a queue on the lane's own.

On the network thread a push costs its checksum, a look at its first bytes for its symbol (``heads``) and one append;
its levels are read later, by ``read_book`` or ``read_brokers``, and never of a push that a newer one has overtaken.
"""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from hk_tick_collector.core.errors import TickRejected
from hk_tick_collector.core.logline import RateLimitedLog
from hk_tick_collector.core.text import cut
from hk_tick_collector.records.book import Book, BookPush, BrokerPush, BrokerQueue, Level, Place, RawPush, exact_price
from hk_tick_collector.records.book_codec import MAX_VOLUME
from hk_tick_collector.sources.books import BookSink
from hk_tick_collector.sources.futu.heads import Heads
from hk_tick_collector.sources.futu.mapping import TickMapper
from hk_tick_collector.sources.futu.sdk import decode_book, decode_broker, decode_brokers, decode_level

log = logging.getLogger(__name__)

MAX_TRAIL = 500  # pushes of one symbol in a second or two
KNOWN_PARTS = 1 << 15  # some 8 MB: the books of 1,500 symbols with ten levels a side
KNOWN_BYTES = 64  # a level, or broker, without orders has 10 to 45
MAX_LEVELS = 4000  # a side; the whole book of a busy stock has some hundreds, a queue 40 brokers
MAX_NAME_CHARS = 100  # of a broker
_LATEST_SEC = 4_102_444_800  # 2100-01-01
_NORMAL_LOTS = 0  # S2C.orderBookType

Part = TypeVar("Part")  # a level, or a broker's place


@dataclass(frozen=True)
class StatePushes:
    """A kind of push that holds a whole state."""

    word: str  # of log lines
    decode: Callable[[bytes], Any]
    read: Callable[[RawPush], BookPush | BrokerPush]
    is_wanted: Callable[[Any], bool]  # of its S2C
    tail: bytes  # what a wanted one ends with, where it is written as OpenD does


class BookHandler:
    """Takes bursts of ``Qot_UpdateOrderBook.Response``, or of ``Qot_UpdateBroker.Response``. One instance for one
    connection."""

    def __init__(
        self,
        sink: BookSink,
        mapper: TickMapper,
        now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
        kind: StatePushes | None = None,
    ) -> None:
        self.kind = kind or BOOK_PUSHES
        self.wanted: frozenset[str] = frozenset()  # replaced, never changed
        self.newest: dict[str, RawPush] = {}  # by symbol, for who holds pull and push together
        self.trailed = ""  # the symbol whose next pushes are kept as well, in ``trail``
        self.trail: deque[RawPush] = deque(maxlen=MAX_TRAIL)
        self.pushes = 0
        self.last_us = 0
        self._sink = sink
        self._mapper = mapper
        self._heads = Heads(mapper, self.kind.tail)
        self._now_us = now_us
        self._log = RateLimitedLog(log, period_sec=60)

    def __call__(self, bodies: list[bytes]) -> None:
        """One burst: whatever came with one socket read."""
        recv_ts_us = self._now_us()
        pushes: list[RawPush] = []
        for body in bodies:
            symbol = self._heads.symbol(body) or self._symbol(body)
            if symbol in self.wanted:
                push = self.newest[symbol] = RawPush(symbol, recv_ts_us, body)
                pushes.append(push)
                if symbol == self.trailed:
                    self.trail.append(push)
        if pushes:
            self.pushes += len(pushes)
            self.last_us = recv_ts_us
            self._sink.push(pushes)

    def _symbol(self, body: bytes) -> str | None:
        """Whose book it is, of a message that has to be decoded for it; None when it is none that is recorded."""
        try:
            message = self.kind.decode(body)
        except Exception as exc:  # noqa: BLE001 (protobuf's DecodeError is not a public stable name)
            self._log.log(logging.ERROR, "futu_book_undecodable", error=repr(exc), kind=self.kind.word)
            return None
        if message.retType != 0:
            self._log.log(logging.WARNING, "futu_push_refused", ret_type=message.retType, text=message.retMsg)
            return None
        try:
            symbol = self._mapper.symbol(message.s2c.security)
        except TickRejected as exc:
            self._log.log(logging.WARNING, "futu_book_unwanted", reason=str(exc), kind=self.kind.word)
            return None
        return symbol if self.kind.is_wanted(message.s2c) else None


def read_book(raw: RawPush) -> BookPush:
    """The push as a book. ValueError for one that holds values no book can have; one that no market should have, with
    crossed or repeated prices, is kept as it came."""
    body = _s2c(BOOK_PUSHES, raw)
    return BookPush(
        raw.symbol,
        raw.recv_ts_us,
        _ms(body.svrRecvTimeBidTimestamp),
        _ms(body.svrRecvTimeAskTimestamp),
        Book(_LEVELS.side(body.orderBookBidList), _LEVELS.side(body.orderBookAskList)),
    )


def read_brokers(raw: RawPush) -> BrokerPush:
    """The push as a queue. ValueError for one that is longer than any. Orders and shares, which SF shows, are left out,
    as the orders of books are."""
    body = _s2c(BROKER_PUSHES, raw)
    bids, asks = _BROKERS.side(body.brokerBidList), _BROKERS.side(body.brokerAskList)
    names = dict(named for _, named in (*bids, *asks))
    queue = BrokerQueue(tuple(place for place, _ in bids), tuple(place for place, _ in asks))
    return BrokerPush(raw.symbol, raw.recv_ts_us, queue, tuple(names.items()))


def _s2c(kind: StatePushes, raw: RawPush) -> Any:
    """The whole message, which must say what its first bytes said."""
    try:
        message = kind.decode(raw.message)
    except Exception as exc:
        raise ValueError(f"no message of {kind.word}: {exc!r}") from exc
    s2c = message.s2c
    if message.retType != 0 or raw.symbol.partition(".")[2] != s2c.security.code or not kind.is_wanted(s2c):
        raise ValueError(f"a message that begins as a push of {kind.word} and is none")
    return s2c


def queue_of(body: Any) -> BrokerQueue:
    """The places of a ``Qot_GetBroker.S2C``. ValueError as ``read_brokers``."""
    return BrokerQueue(_side(body.brokerBidList, _place), _side(body.brokerAskList, _place))


def book_of(body: Any) -> Book:
    """The levels of a ``Qot_GetOrderBook.S2C``. ValueError as ``read_book``."""
    return Book(_side(body.orderBookBidList, _level), _side(body.orderBookAskList, _level))


def _side(parts: Any, read: Callable[[Any], Part]) -> tuple[Part, ...]:
    if len(parts) > MAX_LEVELS:
        raise ValueError(f"a side of {len(parts)} places, more than {MAX_LEVELS}")
    return tuple(map(read, parts))


def _level(level: Any) -> Level:
    price, volume, orders = exact_price(level.price), level.volume or _whole(level.hpVolume), level.orederCount
    if not math.isfinite(price) or not -MAX_VOLUME < volume < MAX_VOLUME or orders < 0:
        raise ValueError(f"a level of {volume} shares in {orders} orders at {price}")
    return price, volume, orders


def _place(broker: Any) -> Place:
    return broker.pos, broker.id


def _named_place(broker: Any) -> tuple[Place, tuple[int, str]]:
    return _place(broker), (broker.id, cut(broker.name, MAX_NAME_CHARS))


class _Known(dict[bytes, Part]):
    """Levels, or brokers, by the bytes they came in: a push has nearly all of those of the one before, and reading them
    all again was two thirds of what a push costs. Whichever thread reads: what is lost of it is read again."""

    def __init__(self, decode: Callable[[bytes], Any], read: Callable[[Any], Part]) -> None:
        super().__init__()
        self._decode = decode
        self._read = read

    def side(self, messages: Any) -> tuple[Part, ...]:
        """Of a side's list. ValueError for what cannot be read, or is longer than any."""
        return _side(messages, self.__getitem__)

    def __missing__(self, message: bytes) -> Part:
        try:
            decoded = self._decode(message)
        except Exception as exc:
            raise ValueError(f"a level that cannot be read: {exc!r}") from exc
        part = self._read(decoded)
        if len(message) <= KNOWN_BYTES:
            if len(self) >= KNOWN_PARTS:
                self.clear()
            self[message] = part
        return part


_LEVELS = _Known(decode_level, _level)
_BROKERS = _Known(decode_broker, _named_place)


def _whole(shares: float) -> int:
    """``hpVolume``, a double, as the number it stands for; 0 for what is none."""
    return int(shares) if 0 <= shares < MAX_VOLUME else 0


def _ms(epoch_sec: float) -> int | None:
    """Zero after a restart of Futu's server, and in the first push of a cached book."""
    return round(epoch_sec * 1000) if math.isfinite(epoch_sec) and 0 < epoch_sec < _LATEST_SEC else None


BOOK_PUSHES = StatePushes("books", decode_book, read_book, lambda s2c: s2c.orderBookType == _NORMAL_LOTS, b"\x48\x00")
BROKER_PUSHES = StatePushes("brokers", decode_brokers, read_brokers, lambda _s2c: True, b"")
