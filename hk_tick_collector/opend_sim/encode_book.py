"""Order books and broker queues as Futu's protobuf messages: 3012 to 3015."""

from __future__ import annotations

from typing import Any
from zlib import crc32

from hk_tick_collector.opend_sim import encode, pb
from hk_tick_collector.opend_sim.depth import Level, brokers_of, orders_of
from hk_tick_collector.opend_sim.depth_feed import DepthState
from hk_tick_collector.opend_sim.opend import OpenD
from hk_tick_collector.opend_sim.venue import HK, venue_of

MAX_DETAILS = 1000  # single orders of a side

_book_push = pb.load("Qot_UpdateOrderBook").Response
_broker_push = pb.load("Qot_UpdateBroker").Response


def book_push(state: DepthState, name: str, detailed: bool = False) -> Any:
    """A Qot_UpdateOrderBook response message."""
    push = _book_push()
    push.retType = 0
    fill_book(push.s2c, state, name, len(state.depth.bids) + len(state.depth.asks), detailed)
    return push


def fill_book(s2c: Any, state: DepthState, name: str, levels: int, detailed: bool = False) -> None:
    """The fields that a push and an answer share, with at most ``levels`` a side. Times are of Hong Kong alone; one
    that is not known is empty text and zero."""
    encode.set_security(s2c.security, state.symbol)
    s2c.name = name
    _add_levels(s2c.orderBookAskList, state.depth.asks[:levels], detailed)
    _add_levels(s2c.orderBookBidList, state.depth.bids[:levels], detailed)
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
