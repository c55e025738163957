"""Order books of OpenD: from pushes on the SDK's network thread to the lane, and from bytes to a book on the lane's.

On the network thread a push costs its checksum, one decoding for its symbol and one append; its levels are read later,
by ``read_book``, and never of a push that a newer one has overtaken.
"""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from hk_tick_collector.core.errors import TickRejected
from hk_tick_collector.core.logline import RateLimitedLog
from hk_tick_collector.records.book import Book, BookPush, Level, RawPush, exact_price
from hk_tick_collector.records.book_codec import MAX_VOLUME
from hk_tick_collector.sources.books import BookSink
from hk_tick_collector.sources.futu.mapping import TickMapper
from hk_tick_collector.sources.futu.sdk import decode_book

log = logging.getLogger(__name__)

MAX_TRAIL = 500  # pushes of one symbol in a second or two
MAX_LEVELS = 4000  # a side; the whole book of a busy stock has some hundreds
_LATEST_SEC = 4_102_444_800  # 2100-01-01
_NORMAL_LOTS = 0  # S2C.orderBookType


class BookHandler:
    """Takes bursts of ``Qot_UpdateOrderBook.Response``. One instance for one connection."""

    def __init__(
        self, sink: BookSink, mapper: TickMapper, now_us: Callable[[], int] = lambda: time.time_ns() // 1000
    ) -> None:
        self.wanted: frozenset[str] = frozenset()  # replaced, never changed
        self.newest: dict[str, RawPush] = {}  # by symbol, for who holds pull and push together
        self.trailed = ""  # the symbol whose next pushes are kept as well, in ``trail``
        self.trail: deque[RawPush] = deque(maxlen=MAX_TRAIL)
        self.pushes = 0
        self.last_us = 0
        self._sink = sink
        self._mapper = mapper
        self._now_us = now_us
        self._log = RateLimitedLog(log, period_sec=60)

    def __call__(self, bodies: list[bytes]) -> None:
        """One burst: whatever came with one socket read."""
        recv_ts_us = self._now_us()
        pushes: list[RawPush] = []
        for body in bodies:
            symbol = self._symbol(body)
            if symbol is not None:
                push = self.newest[symbol] = RawPush(symbol, recv_ts_us, body)
                pushes.append(push)
                if symbol == self.trailed:
                    self.trail.append(push)
        if pushes:
            self.pushes += len(pushes)
            self.last_us = recv_ts_us
            self._sink.push(pushes)

    def _symbol(self, body: bytes) -> str | None:
        """Whose book it is; None when nobody asked for it."""
        try:
            message = decode_book(body)
        except Exception as exc:  # noqa: BLE001 (protobuf's DecodeError is not a public stable name)
            self._log.log(logging.ERROR, "futu_book_undecodable", error=repr(exc))
            return None
        if message.retType != 0:
            self._log.log(logging.WARNING, "futu_push_refused", ret_type=message.retType, text=message.retMsg)
            return None
        try:
            symbol = self._mapper.symbol(message.s2c.security)
        except TickRejected as exc:
            self._log.log(logging.WARNING, "futu_book_unwanted", reason=str(exc))
            return None
        return symbol if symbol in self.wanted and message.s2c.orderBookType == _NORMAL_LOTS else None


def read_book(raw: RawPush) -> BookPush:
    """The push as a book. ValueError for one that holds values no book can have; one that no market should have, with
    crossed or repeated prices, is kept as it came."""
    body = decode_book(raw.message).s2c
    return BookPush(
        raw.symbol,
        raw.recv_ts_us,
        _ms(body.svrRecvTimeBidTimestamp),
        _ms(body.svrRecvTimeAskTimestamp),
        book_of(body),
    )


def book_of(body: Any) -> Book:
    """The levels of a ``Qot_UpdateOrderBook.S2C``, or of a ``Qot_GetOrderBook.S2C``. ValueError as ``read_book``."""
    return Book(_side(body.orderBookBidList), _side(body.orderBookAskList))


def _side(levels: Any) -> tuple[Level, ...]:
    if len(levels) > MAX_LEVELS:
        raise ValueError(f"a side of {len(levels)} levels, more than {MAX_LEVELS}")
    side = []
    for level in levels:
        price, volume, orders = exact_price(level.price), level.volume or _whole(level.hpVolume), level.orederCount
        if not math.isfinite(price) or not -MAX_VOLUME < volume < MAX_VOLUME or orders < 0:
            raise ValueError(f"a level of {volume} shares in {orders} orders at {price}")
        side.append((price, volume, orders))
    return tuple(side)


def _whole(shares: float) -> int:
    """``hpVolume``, a double, as the number it stands for; 0 for what is none."""
    return int(shares) if 0 <= shares < MAX_VOLUME else 0


def _ms(epoch_sec: float) -> int | None:
    """Zero after a restart of Futu's server, and in the first push of a cached book."""
    return round(epoch_sec * 1000) if math.isfinite(epoch_sec) and 0 < epoch_sec < _LATEST_SEC else None
