"""Answers that do not depend on prices: trading days, securities, market state."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from zlib import crc32

from hk_tick_collector.market.dates import add_days, epoch_day
from hk_tick_collector.market.hours import DayKind
from hk_tick_collector.opend_sim import encode, pb
from hk_tick_collector.opend_sim.encode_quote import LIST_DATE
from hk_tick_collector.opend_sim.handlers_quote import SECURITY_TYPES, parse_time_ms
from hk_tick_collector.opend_sim.opend import Client, OpenD
from hk_tick_collector.opend_sim.subscriptions import Refused
from hk_tick_collector.opend_sim.venue import PREFIXES

MAX_TRADE_DATE_DAYS = 3660
MAX_MARKET_STATES = 400
INDEX_MEMBERS = {"800000": 12, "800100": 8, "800700": 5}  # by the code of the index as a plate
WATCHLIST = "favourites"
UNKNOWN_STOCK = "未知股票"  # as OpenD names it

_TRADE_DATE_TYPES = {
    DayKind.WHOLE: int(pb.qot_common.TradeDateType_Whole),
    DayKind.HALF: int(pb.qot_common.TradeDateType_Morning),
}


def request_trade_date(opend: OpenD, _client: Client, c2s: Any, s2c: Any) -> None:
    """Trading days of the simulated market between two dates, both included; half days are MORNING."""
    if c2s.HasField("security") and c2s.security.code:
        encode.symbol_of(c2s.security, opend.venue)
    elif c2s.market != opend.venue.trade_dates:
        raise Refused(f"trading days of market {c2s.market} are not simulated: {opend.venue.market.name} only")
    zone = opend.venue.market.zone
    first = zone.date(parse_time_ms(c2s.beginTime, zone))
    last = zone.date(parse_time_ms(c2s.endTime, zone))
    if epoch_day(last) - epoch_day(first) > MAX_TRADE_DATE_DAYS:
        raise Refused(f"more than {MAX_TRADE_DATE_DAYS} days asked for")
    calendar = opend.market.exchange.calendar
    day = first
    while day <= last:
        kind = calendar.day_kind(day)
        if kind in _TRADE_DATE_TYPES:
            start_ms = zone.midnight_ms(day)
            entry = s2c.tradeDateList.add()
            entry.time = encode.time_text(opend.venue, start_ms)[:10]
            entry.timestamp = start_ms / 1000
            entry.tradeDateType = _TRADE_DATE_TYPES[kind]
        day = add_days(day, 1)


def get_static_info(opend: OpenD, _client: Client, c2s: Any, s2c: Any) -> None:
    """Listed securities by code, or all of one type of the simulated market.

    As OpenD's documentation of get_stock_basicinfo says, a code that is not known is answered too: marked as delisted,
    under the name of an unknown stock, everything else empty.
    """
    instruments = opend.market.exchange.instruments
    if c2s.securityList:
        symbols = opend.own_symbols(list(c2s.securityList))
    elif PREFIXES.get(c2s.market) in opend.venue.numbers:
        prefix = f"{PREFIXES[c2s.market]}."
        listed = {s: i for s, i in instruments.items() if s.startswith(prefix)}
        symbols = [s for s, i in listed.items() if c2s.secType in (0, SECURITY_TYPES[i.kind])]
    else:
        raise Refused(f"market {c2s.market} is not simulated: {opend.venue.market.name} only")
    _describe(opend, symbols, s2c)


def get_plate_security(opend: OpenD, _client: Client, c2s: Any, s2c: Any) -> None:
    """The members of an index: some of the stocks that are listed, the larger index having more."""
    members = INDEX_MEMBERS.get(c2s.plate.code)
    if members is None or PREFIXES.get(c2s.plate.market) not in opend.venue.numbers:
        raise Refused(f"no plate {c2s.plate.code}: there is {', '.join(INDEX_MEMBERS)}")
    _describe(opend, _stocks(opend)[:members], s2c)


def get_user_security(opend: OpenD, _client: Client, c2s: Any, s2c: Any) -> None:
    """The account has one watch list, of three stocks."""
    if c2s.groupName != WATCHLIST:
        raise Refused(f"no group {c2s.groupName}: there is {WATCHLIST}")
    _describe(opend, _stocks(opend)[:3], s2c)


def _stocks(opend: OpenD) -> list[str]:
    return [symbol for symbol, instrument in opend.market.exchange.instruments.items() if instrument.kind == "STOCK"]


def _describe(opend: OpenD, symbols: Sequence[str], s2c: Any) -> None:
    instruments = opend.market.exchange.instruments
    for symbol in symbols:
        instrument = instruments.get(symbol)
        entry = s2c.staticInfoList.add()
        basic = entry.basic
        encode.set_security(basic.security, symbol)
        if instrument is None:
            basic.id = basic.lotSize = basic.secType = 0
            basic.name, basic.listTime, basic.delisting = UNKNOWN_STOCK, "", True
            continue
        code = basic.security.code
        basic.id = 80_000_000_000_000 + (int(code) if code.isdecimal() else crc32(code.encode()))
        basic.lotSize = instrument.board_lot
        basic.secType = SECURITY_TYPES[instrument.kind]
        basic.name = instrument.name
        basic.listTime = LIST_DATE
        basic.delisting = False
        basic.exchType = opend.venue.exchanges[symbol.partition(".")[0]]
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
