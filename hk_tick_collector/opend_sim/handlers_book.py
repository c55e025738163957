"""Answers about order books and broker queues: Qot_GetOrderBook, Qot_GetBroker."""

from __future__ import annotations

from typing import Any

from hk_tick_collector.opend_sim import encode_book, pb
from hk_tick_collector.opend_sim.depth_feed import DepthState
from hk_tick_collector.opend_sim.opend import SUB_BROKER, SUB_ORDER_BOOK, Client, OpenD
from hk_tick_collector.opend_sim.subscriptions import Refused

_ODD_LOTS = int(pb.qot_common.OrderBookType_Odd)


def get_order_book(opend: OpenD, client: Client, c2s: Any, s2c: Any) -> None:
    """The newest book of a subscribed symbol: as many levels as wanted and as the right shows."""
    if c2s.orderBookType == _ODD_LOTS:
        raise Refused("the order book of odd lots is not simulated; leave order_book_type out")
    if c2s.orderBookType:
        raise Refused(f"orderBookType {c2s.orderBookType} is not known; leave it out")
    if c2s.num < 1:
        raise Refused(f"num {c2s.num} is not from 1")
    state = _newest(opend, client, c2s.security, SUB_ORDER_BOOK, "ORDER_BOOK")
    detailed = opend.sees_orders(client.conn_id, state.symbol)
    encode_book.fill_book(s2c, state, opend.market.name_of(state.symbol), c2s.num, detailed)


def get_broker(opend: OpenD, client: Client, c2s: Any, s2c: Any) -> None:
    """The newest queue of a subscribed symbol."""
    state = _newest(opend, client, c2s.security, SUB_BROKER, "BROKER")
    encode_book.fill_brokers(s2c, opend, state)


def _newest(opend: OpenD, client: Client, security: Any, sub_type: int, data_kind: str) -> DepthState:
    symbol = opend.known_symbols([security])[0]
    opend.require_subscribed(client.conn_id, symbol, sub_type, data_kind)
    if not opend.may_subscribe():
        raise Refused(f"no right to order books: the {opend.venue.market.name} quote right is BMP or none")
    return opend.depth.newest(symbol, opend.book_levels())
