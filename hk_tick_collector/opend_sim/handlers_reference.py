"""Answers that do not depend on prices: trading days, securities, market state."""

from __future__ import annotations

from typing import Any

from hk_tick_collector.market.dates import add_days
from hk_tick_collector.market.hk.sessions import day_start_ms, hk_date
from hk_tick_collector.market.hours import DayKind
from hk_tick_collector.opend_sim import encode, pb
from hk_tick_collector.opend_sim.handlers_quote import LIST_DATE, SECURITY_TYPES, parse_hk_time_ms
from hk_tick_collector.opend_sim.opend import Client, OpenD
from hk_tick_collector.opend_sim.subscriptions import Refused

MAX_TRADE_DATE_DAYS = 3660
MAX_MARKET_STATES = 400
UNKNOWN_STOCK = "未知股票"  # as OpenD names it

_TRADE_DATE_TYPES = {
    DayKind.WHOLE: int(pb.qot_common.TradeDateType_Whole),
    DayKind.HALF: int(pb.qot_common.TradeDateType_Morning),
}
_TRADE_DATE_HK = int(pb.qot_common.TradeDateMarket_HK)


def request_trade_date(opend: OpenD, _client: Client, c2s: Any, s2c: Any) -> None:
    """Trading days of the Hong Kong market between two dates, both included; half days are MORNING."""
    if c2s.HasField("security") and c2s.security.code:
        encode.symbol_of(c2s.security)
    elif c2s.market != _TRADE_DATE_HK:
        raise Refused(f"trading days of market {c2s.market} are not simulated: Hong Kong only")
    first = hk_date(parse_hk_time_ms(c2s.beginTime))
    last = hk_date(parse_hk_time_ms(c2s.endTime))
    if day_start_ms(last) - day_start_ms(first) > MAX_TRADE_DATE_DAYS * 86_400_000:
        raise Refused(f"more than {MAX_TRADE_DATE_DAYS} days asked for")
    calendar = opend.market.exchange.calendar
    day = first
    while day <= last:
        kind = calendar.day_kind(day)
        if kind in _TRADE_DATE_TYPES:
            start_ms = day_start_ms(day)
            entry = s2c.tradeDateList.add()
            entry.time = encode.hk_day_text(start_ms)
            entry.timestamp = start_ms / 1000
            entry.tradeDateType = _TRADE_DATE_TYPES[kind]
        day = add_days(day, 1)


def get_static_info(opend: OpenD, _client: Client, c2s: Any, s2c: Any) -> None:
    """Listed securities by code, or all of one type of the Hong Kong market.

    As OpenD's documentation of get_stock_basicinfo says, a code that is not known is answered too: marked as delisted,
    under the name of an unknown stock, everything else empty.
    """
    instruments = opend.market.exchange.instruments
    if c2s.securityList:
        symbols = opend.hk_symbols(list(c2s.securityList))
    elif c2s.market in encode.HK_MARKETS:
        symbols = [s for s, i in instruments.items() if c2s.secType in (0, SECURITY_TYPES[i.kind])]
    else:
        raise Refused(f"market {c2s.market} is not simulated: Hong Kong only")
    for symbol in symbols:
        instrument = instruments.get(symbol)
        entry = s2c.staticInfoList.add()
        basic = entry.basic
        encode.set_security(basic.security, symbol)
        if instrument is None:
            basic.id = basic.lotSize = basic.secType = 0
            basic.name, basic.listTime, basic.delisting = UNKNOWN_STOCK, "", True
            continue
        basic.id = 80_000_000_000_000 + int(basic.security.code)
        basic.lotSize = instrument.board_lot
        basic.secType = SECURITY_TYPES[instrument.kind]
        basic.name = instrument.name
        basic.listTime = LIST_DATE
        basic.delisting = False
        basic.exchType = int(pb.qot_common.ExchType_HK_MainBoard)
        if instrument.kind == "WARRANT":
            entry.warrantExData.type = int(pb.qot_common.WarrantType_Buy)
            encode.set_security(entry.warrantExData.owner, next(iter(instruments)))


def get_market_state(opend: OpenD, _client: Client, c2s: Any, s2c: Any) -> None:
    """The state of the market that each symbol trades in: the same for all of them."""
    state = encode.market_state_number(opend.market.exchange.market_state(opend.market.now_ms()))
    for symbol in opend.known_symbols(list(c2s.securityList), MAX_MARKET_STATES):
        entry = s2c.marketInfoList.add()
        encode.set_security(entry.security, symbol)
        entry.name = opend.market.name_of(symbol)
        entry.marketState = state
