"""From the simulated market's values to Futu's protobuf messages: ticks, times, enum numbers.

Times on the wire are local text of the symbol's market next to epoch seconds. A tick without
milliseconds has none in its text, as OpenD shows it for a few of a thousand.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from hk_tick_collector.opend_sim import pb
from hk_tick_collector.opend_sim.simtick import SimTick
from hk_tick_collector.opend_sim.subscriptions import Refused
from hk_tick_collector.opend_sim.venue import HK, PREFIXES, Venue, venue_of

MAX_CODE_CHARS = 32

PUSH_REALTIME = int(pb.qot_common.PushDataType_Realtime)
PUSH_BYDISCONN = int(pb.qot_common.PushDataType_ByDisConn)
PUSH_CACHE = int(pb.qot_common.PushDataType_Cache)

UNKNOWN_ENUM = 99

_DIRECTIONS = {
    "BUY": int(pb.qot_common.TickerDirection_Bid),
    "SELL": int(pb.qot_common.TickerDirection_Ask),
    "NEUTRAL": int(pb.qot_common.TickerDirection_Neutral),
}
_TYPES = {
    "AUTO_MATCH": int(pb.qot_common.TickerType_Automatch),
    "LATE": int(pb.qot_common.TickerType_Late),
    "NON_AUTO_MATCH": int(pb.qot_common.TickerType_NoneAutomatch),
    "INTER_AUTO_MATCH": int(pb.qot_common.TickerType_InterAutomatch),
    "INTER_NON_AUTO_MATCH": int(pb.qot_common.TickerType_InterNoneAutomatch),
    "ODD_LOT": int(pb.qot_common.TickerType_OddLot),
    "AUCTION": int(pb.qot_common.TickerType_Auction),
    "OVERSEAS": int(pb.qot_common.TickerType_Overseas),
    "CROSS_MARKET": int(pb.qot_common.TickerType_CrossMarket),
    "EXTENDED_TRADING_HOURS": int(pb.qot_common.TickerType_ExtendedTradingHours),
    "AVERAGE_PRICE": int(pb.qot_common.TickerType_AvgPrice),
}
_MARKET_STATES = {
    "NONE": int(pb.qot_common.QotMarketState_None),
    "AUCTION": int(pb.qot_common.QotMarketState_Auction),
    "WAITING_OPEN": int(pb.qot_common.QotMarketState_WaitingOpen),
    "MORNING": int(pb.qot_common.QotMarketState_Morning),
    "REST": int(pb.qot_common.QotMarketState_Rest),
    "AFTERNOON": int(pb.qot_common.QotMarketState_Afternoon),
    "CLOSED": int(pb.qot_common.QotMarketState_Closed),
    "HK_CAS": int(pb.qot_common.QotMarketState_HkCas),
    "PRE_MARKET_BEGIN": int(pb.qot_common.QotMarketState_PreMarketBegin),
    "AFTER_HOURS_BEGIN": int(pb.qot_common.QotMarketState_AfterHoursBegin),
    "OVERNIGHT": int(pb.qot_common.QotMarketState_OVERNIGHT),
    "CLOSE_AUCTION": int(pb.qot_common.QotMarketState_CLOSE_AUCTION),
}


@lru_cache(maxsize=4096)
def _second_text(venue: Venue, epoch_sec: int) -> str:
    return venue.market.zone.date_and_clock(epoch_sec * 1000)


def time_text(venue: Venue, ts_ms: int, with_ms: bool = False) -> str:
    """Local time as OpenD writes it, ``2026-11-20 09:30:00.123`` or without the fraction."""
    text = _second_text(venue, ts_ms // 1000)
    return f"{text}.{ts_ms % 1000:03d}" if with_ms else text


def market_state_number(name: str) -> int:
    """Qot_Common.QotMarketState of the exchange's state name. KeyError for a name that is none of those simulated."""
    return _MARKET_STATES[name]


def symbol_of(security: Any, venue: Venue = HK) -> str:
    """``HK.00700`` of a Qot_Common.Security. Refused when it is no code of the venue's market."""
    code = str(security.code)
    prefix = PREFIXES.get(security.market)
    if prefix not in venue.numbers:
        raise Refused(
            f"unknown stock {code[:MAX_CODE_CHARS]!r}: this simulator has the {venue.market.name} market only"
        )
    if not code or len(code) > MAX_CODE_CHARS:
        raise Refused(f"unknown stock {code[:MAX_CODE_CHARS]!r}: a code looks as {venue.market.symbols.example}")
    return f"{prefix}.{code}"


def set_security(security: Any, symbol: str) -> None:
    """Fill a Qot_Common.Security from ``HK.00700``: a code may have dots of its own."""
    prefix, _, code = symbol.partition(".")
    security.market = venue_of(symbol).numbers[prefix]
    security.code = code


def add_tick(tick_list: Any, tick: SimTick, push_data_type: int, with_sequence: bool = True) -> Any:
    """Append one tick to a ``tickerList`` and give its message back.

    A direction or type that is none of those above (a replayed file may hold one) is sent as unknown, 0.
    ``recvTime`` is OpenD's clock for real-time pushes and 0 for everything it took from its cache.
    """
    has_ms = tick.has_ms
    ts_ms = tick.ts_ms
    message = tick_list.add()
    message.time = time_text(venue_of(tick.symbol), ts_ms, has_ms)
    if with_sequence:
        message.sequence = tick.seq
    message.dir = _DIRECTIONS.get(tick.direction, 0)
    message.price = tick.price
    message.volume = tick.volume
    message.turnover = tick.turnover
    message.recvTime = tick.recv_ts_ms / 1000 if push_data_type == PUSH_REALTIME else 0.0
    message.type = _TYPES.get(tick.tick_type, 0)
    message.typeSign = tick.type_sign
    message.pushDataType = push_data_type
    message.timestamp = ts_ms / 1000 if has_ms else float(ts_ms // 1000)
    message.hpVolume = tick.volume + tick.part
    if tick.damage:
        damage_tick(message, tick.damage)
    return message


LONE_SURROGATE = 0xD800  # a character that no encoding can write


def damage_tick(message: Any, kind: str) -> None:
    """Make one tick unreadable in the way named; see ``faults.UNREADABLE_KINDS``."""
    if kind == "time":
        message.time = "2026-13-45 99:61:xx"
        message.timestamp = 0.0
    elif kind == "nan":
        message.price = math.nan
    elif kind == "negative":
        message.price = -abs(message.price)
    elif kind == "enum":
        message.dir = UNKNOWN_ENUM
        message.type = UNKNOWN_ENUM
    elif kind == "future":
        message.time = "9999-12-31 09:30:00.000"
    elif kind == "turnover":
        message.turnover = 1e300
    elif kind == "sign":
        message.typeSign = LONE_SURROGATE
    else:
        assert kind == "zero-seq"
        message.sequence = 0


_ticker_push = pb.load("Qot_UpdateTicker").Response


def ticker_push(
    symbol: str, name: str, ticks: Sequence[SimTick], push_data_type: int, with_sequence: bool = True
) -> Any:
    """A Qot_UpdateTicker response message with these ticks of one symbol."""
    push = _ticker_push()
    push.retType = 0
    s2c = push.s2c
    set_security(s2c.security, symbol)
    s2c.name = name
    tick_list = s2c.tickerList
    for tick in ticks:
        add_tick(tick_list, tick, push_data_type, with_sequence)
    return push
