"""Which protocol id is answered by which handler: the one place to add a request.

A handler gets the OpenD state, its client, the request's ``c2s`` and the response's ``s2c`` to fill, and raises
``Refused`` to answer with an error.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hk_tick_collector.opend_sim import (
    handlers_book,
    handlers_quote,
    handlers_reference,
    handlers_subscription,
    handlers_system,
    pb,
)
from hk_tick_collector.opend_sim.opend import Client, OpenD

INIT_CONNECT = 1001
NOTIFY = 1003
UPDATE_BASIC_QOT = 3005
UPDATE_KL = 3007
UPDATE_RT = 3009
UPDATE_TICKER = 3011
UPDATE_ORDER_BOOK = 3013
UPDATE_BROKER = 3015

Handler = Callable[[OpenD, Client, Any, Any], None]


@dataclass(frozen=True, slots=True)
class Route:
    """One request: its message classes and who answers it."""

    request: Callable[[], Any]
    response: Callable[[], Any]
    handler: Handler
    needs_init: bool = True
    needs_login: bool = True


def _route(proto: str, handler: Handler, needs_init: bool = True, needs_login: bool = True) -> Route:
    module = pb.load(proto)
    return Route(module.Request, module.Response, handler, needs_init, needs_login)


ROUTES: dict[int, Route] = {
    INIT_CONNECT: _route("InitConnect", handlers_system.init_connect, needs_init=False, needs_login=False),
    1002: _route("GetGlobalState", handlers_system.get_global_state, needs_login=False),
    1004: _route("KeepAlive", handlers_system.keep_alive, needs_login=False),
    1005: _route("GetUserInfo", handlers_system.get_user_info, needs_login=False),
    3001: _route("Qot_Sub", handlers_subscription.subscribe),
    3002: _route("Qot_RegQotPush", handlers_subscription.register_push),
    3003: _route("Qot_GetSubInfo", handlers_subscription.get_sub_info),
    3004: _route("Qot_GetBasicQot", handlers_quote.get_basic_qot),
    3006: _route("Qot_GetKL", handlers_quote.get_kline),
    3008: _route("Qot_GetRT", handlers_quote.get_rt),
    3010: _route("Qot_GetTicker", handlers_quote.get_ticker),
    3012: _route("Qot_GetOrderBook", handlers_book.get_order_book),
    3014: _route("Qot_GetBroker", handlers_book.get_broker),
    3103: _route("Qot_RequestHistoryKL", handlers_quote.request_history_kline),
    3202: _route("Qot_GetStaticInfo", handlers_reference.get_static_info),
    3203: _route("Qot_GetSecuritySnapshot", handlers_quote.get_snapshot),
    3205: _route("Qot_GetPlateSecurity", handlers_reference.get_plate_security),
    3213: _route("Qot_GetUserSecurity", handlers_reference.get_user_security),
    3219: _route("Qot_RequestTradeDate", handlers_reference.request_trade_date),
    3223: _route("Qot_GetMarketState", handlers_reference.get_market_state),
}
