"""Order books and broker queues as Futu's protobuf messages: 3012 to 3015."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any
from zlib import crc32

from hk_tick_collector.opend_sim import encode, pb
from hk_tick_collector.opend_sim.depth import Level, brokers_of, orders_of
from hk_tick_collector.opend_sim.depth_feed import DepthState
from hk_tick_collector.opend_sim.opend import OpenD
from hk_tick_collector.opend_sim.venue import HK, venue_of

MAX_DETAILS = 1000  # single orders of a side
_KEPT_SIDES = 4096

_book_push = pb.load("Qot_UpdateOrderBook").Response
_broker_push = pb.load("Qot_UpdateBroker").Response
_LENGTH_FOLLOWS = 2  # protobuf's wire type of messages
# All of a push before its length: the fields of success, and the tag of ``s2c``.
_BEFORE_S2C = bytes(_book_push(retType=0).SerializePartialToString()) + bytes(
    [_book_push.DESCRIPTOR.fields_by_name["s2c"].number << 3 | _LENGTH_FOLLOWS]
)


def read_push(body: bytes) -> Any:
    """The message of ``book_body``."""
    return _book_push.FromString(body)


def book_push(state: DepthState, name: str, detailed: bool = False) -> Any:
    """A Qot_UpdateOrderBook response message."""
    push = _book_push()
    push.retType = 0
    fill_book(push.s2c, state, name, len(state.depth.bids) + len(state.depth.asks), detailed)
    return push


def book_body(state: DepthState, name: str) -> bytes:
    """The bytes of ``book_push``, without details, as parts that mostly were encoded before: protobuf allows to write
    the fields of a message one behind the other."""
    bids, asks = state.depth
    s2c = b"".join((_head(state.symbol, name), _ask_side.bytes_of(asks), _bid_side.bytes_of(bids), _tail(state)))
    return _BEFORE_S2C + _varint(len(s2c)) + s2c


class _Sides:
    """The bytes of whole sides: mostly only one of a book changes. Kept by identity, of the newest ``_KEPT_SIDES``."""

    def __init__(self, bytes_of_level: Callable[[Level], bytes]) -> None:
        self._bytes_of_level = bytes_of_level
        self._kept: dict[int, tuple[tuple[Level, ...], bytes]] = {}

    def bytes_of(self, levels: tuple[Level, ...]) -> bytes:
        kept = self._kept.get(id(levels))
        if kept is not None:  # it holds the side, so that no other one can have its id
            return kept[1]
        if len(self._kept) >= _KEPT_SIDES:
            self._kept.clear()
        encoded = b"".join(map(self._bytes_of_level, levels))
        self._kept[id(levels)] = levels, encoded
        return encoded


@lru_cache(maxsize=4096)
def _head(symbol: str, name: str) -> bytes:
    s2c = _book_push().s2c
    encode.set_security(s2c.security, symbol)
    s2c.name = name
    return bytes(s2c.SerializePartialToString())


@lru_cache(maxsize=65_536)
def _ask_bytes(level: Level) -> bytes:
    s2c = _book_push().s2c
    _add_levels(s2c.orderBookAskList, (level,), False)
    return bytes(s2c.SerializePartialToString())


@lru_cache(maxsize=65_536)
def _bid_bytes(level: Level) -> bytes:
    s2c = _book_push().s2c
    _add_levels(s2c.orderBookBidList, (level,), False)
    return bytes(s2c.SerializePartialToString())


_ask_side, _bid_side = _Sides(_ask_bytes), _Sides(_bid_bytes)


def _tail(state: DepthState) -> bytes:
    s2c = _book_push().s2c
    _fill_times(s2c, state)
    return bytes(s2c.SerializePartialToString())


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def fill_book(s2c: Any, state: DepthState, name: str, levels: int, detailed: bool = False) -> None:
    """The fields that a push and an answer share, with at most ``levels`` a side. Times are of Hong Kong alone; one
    that is not known is empty text and zero."""
    encode.set_security(s2c.security, state.symbol)
    s2c.name = name
    _add_levels(s2c.orderBookAskList, state.depth.asks[:levels], detailed)
    _add_levels(s2c.orderBookBidList, state.depth.bids[:levels], detailed)
    _fill_times(s2c, state)


def _fill_times(s2c: Any, state: DepthState) -> None:
    s2c.orderBookType = 0
    venue = venue_of(state.symbol)
    if venue is not HK:
        return
    s2c.svrRecvTimeBid = encode.time_text(venue, state.bid_ts_ms, True) if state.bid_ts_ms else ""
    s2c.svrRecvTimeBidTimestamp = state.bid_ts_ms / 1000
    s2c.svrRecvTimeAsk = encode.time_text(venue, state.ask_ts_ms, True) if state.ask_ts_ms else ""
    s2c.svrRecvTimeAskTimestamp = state.ask_ts_ms / 1000


def broker_push(opend: OpenD, state: DepthState) -> Any:
    """A Qot_UpdateBroker response message."""
    push = _broker_push()
    push.retType = 0
    fill_brokers(push.s2c, opend, state)
    return push


def fill_brokers(s2c: Any, opend: OpenD, state: DepthState) -> None:
    """The fields that a push and an answer share: the queue of a book, with its orders where the right shows them.
    Where nobody knows who stood there the queue is empty."""
    encode.set_security(s2c.security, state.symbol)
    s2c.name = opend.market.name_of(state.symbol)
    if not opend.depth.has_brokers:
        return
    detailed = opend.has_sf_right()
    for target, levels in ((s2c.brokerAskList, state.depth.asks), (s2c.brokerBidList, state.depth.bids)):
        for queued in brokers_of(levels):
            broker = target.add(id=queued.broker_id, name=queued.name, pos=queued.position)
            if detailed:
                broker.orderID, broker.volume = queued.order_id, queued.volume


def _add_levels(target: Any, levels: tuple[Level, ...], detailed: bool) -> None:
    left = MAX_DETAILS
    for level in levels:
        price, volume, orders = level
        line = target.add(price=price, volume=volume, orederCount=orders, hpVolume=float(volume))
        if detailed and left:
            key = crc32(f"{price}/{volume}".encode())
            for order_id, shares in orders_of(level, key)[:left]:
                line.detailList.add(orderID=order_id, volume=shares)
            left -= min(orders, left)
