"""Answers about subscriptions: Qot_Sub, Qot_RegQotPush, Qot_GetSubInfo."""

from __future__ import annotations

from typing import Any

from hk_tick_collector.opend_sim import pb
from hk_tick_collector.opend_sim.encode import set_security
from hk_tick_collector.opend_sim.klines import KLINE_TYPES
from hk_tick_collector.opend_sim.opend import (
    SUB_BASIC,
    SUB_BROKER,
    SUB_ORDER_BOOK,
    SUB_RT,
    SUB_TICKER,
    Client,
    OpenD,
    Reach,
)
from hk_tick_collector.opend_sim.subscriptions import Key, Refused

SERVED_SUB_TYPES = {
    SUB_TICKER: "TICKER",
    SUB_ORDER_BOOK: "ORDER_BOOK",
    SUB_BROKER: "BROKER",
    SUB_BASIC: "QUOTE",
    SUB_RT: "RT_DATA",
    **{kind.sub_type: kind.name for kind in KLINE_TYPES},
}


def subscribe(opend: OpenD, client: Client, c2s: Any, s2c: Any) -> None:
    """Subscribe, unsubscribe, or give back everything; all codes of a request or none."""
    s2c.SetInParent()
    if c2s.isUnsubAll:
        opend.book.unsubscribe(client.conn_id, opend.book.keys_of(client.conn_id))
        return
    keys = _keys(opend, c2s)
    if not c2s.isSubOrUnSub:
        opend.book.unsubscribe(client.conn_id, keys)
        return
    opend.may_answer("subscribe", _symbols(keys, SUB_TICKER))
    if opend.faults.hit("fail-subscribe") is not None:
        raise Refused("subscription failed: the server did not answer, try again")
    if not opend.may_subscribe():
        raise Refused(
            f"no right to subscribe: the {opend.venue.market.name} quote right is BMP or none, which cannot subscribe"
        )
    for symbol in _symbols(keys, SUB_ORDER_BOOK):
        if not opend.depth.has_book(symbol):
            raise Refused(
                f"{symbol}: its order book was not recorded; hk-opend-sim run --assumed-book makes one of prints"
            )
    push = c2s.isRegOrUnRegPush if c2s.HasField("isRegOrUnRegPush") else None
    reach = _reach(c2s)
    opend.book.subscribe(client.conn_id, keys, opend.quota(), push)
    opend.reach.setdefault(client.conn_id, {}).update(dict.fromkeys(_symbols(keys, SUB_TICKER), reach))
    if c2s.isSubOrderBookDetail:
        opend.detailed.setdefault(client.conn_id, set()).update(_symbols(keys, SUB_ORDER_BOOK))
    opend.market.clock.release()
    if push and (c2s.isFirstPush or not c2s.HasField("isFirstPush")):
        client.first_push += keys


def register_push(opend: OpenD, client: Client, c2s: Any, s2c: Any) -> None:
    """Turn pushes of held subscriptions on or off for this connection."""
    s2c.SetInParent()
    keys = _keys(opend, c2s)
    opend.book.register_push(client.conn_id, keys, c2s.isRegOrUnReg)
    if c2s.isRegOrUnReg and (c2s.isFirstPush or not c2s.HasField("isFirstPush")):
        client.first_push += keys


def get_sub_info(opend: OpenD, client: Client, c2s: Any, s2c: Any) -> None:
    """Subscriptions of this connection or of all, and the quota they use together."""
    opend.may_answer("list")
    book = opend.book
    own = client.conn_id
    conn_ids = sorted({own, *book.connections()}) if c2s.isReqAllConn else [own]
    for conn_id in conn_ids:
        keys = book.keys_of(conn_id)
        info = s2c.connSubInfoList.add()
        info.usedQuota = len(keys)
        info.isOwnConnData = conn_id == own
        for sub_type in sorted({sub_type for _, sub_type in keys}):
            entry = info.subInfoList.add()
            entry.subType = sub_type
            for symbol, _ in sorted(key for key in keys if key[1] == sub_type):
                set_security(entry.securityList.add(), symbol)
    s2c.totalUsedQuota = book.used()
    s2c.remainQuota = max(0, opend.quota() - book.used())


def _keys(opend: OpenD, c2s: Any) -> list[Key]:
    symbols = opend.known_symbols(list(c2s.securityList))
    sub_types = list(dict.fromkeys(c2s.subTypeList))
    if not sub_types:
        raise Refused("no subscription type given")
    for sub_type in sub_types:
        if sub_type not in SERVED_SUB_TYPES:
            served = ", ".join(SERVED_SUB_TYPES.values())
            raise Refused(f"subscription type {sub_type} is not simulated; there are {served}")
    return [(symbol, sub_type) for symbol in symbols for sub_type in sub_types]


def _reach(c2s: Any) -> Reach:
    """Which of the day's sessions are asked for; what was asked last holds. In a market of one session it means
    nothing."""
    if c2s.session == int(pb.common.Session_OVERNIGHT):
        raise Refused("session OVERNIGHT cannot be subscribed; ask for ALL")
    if c2s.session == int(pb.common.Session_ALL):
        return Reach.ALL
    return Reach.EXTENDED if c2s.extendedTime or c2s.session == int(pb.common.Session_ETH) else Reach.REGULAR


def _symbols(keys: list[Key], sub_type: int) -> list[str]:
    return [symbol for symbol, of_type in keys if of_type == sub_type]
