"""From the simulated market's values to Futu's protobuf messages: ticks, times, enum numbers.

Times on the wire are Hong Kong local text (UTC+8, no daylight saving since 1979) next to epoch seconds. A tick without
milliseconds has none in its text, as OpenD shows it for a few of a thousand.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from hk_tick_collector.opend_sim import pb
from hk_tick_collector.opend_sim.simtick import SimTick
from hk_tick_collector.opend_sim.subscriptions import Refused

HK_OFFSET_SEC = 8 * 3600
HK_MARKETS = (pb.qot_common.QotMarket_HK_Security, pb.qot_common.QotMarket_HK_Future)
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
}


@lru_cache(maxsize=4096)
def hk_second_text(epoch_sec: int) -> str:
    """``2026-11-20 09:30:00`` for a UTC epoch second."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(epoch_sec + HK_OFFSET_SEC))


def hk_time_text(ts_ms: int, with_ms: bool = False) -> str:
    """Local time as OpenD writes it, ``2026-11-20 09:30:00.123`` or without the fraction."""
    text = hk_second_text(ts_ms // 1000)
    return f"{text}.{ts_ms % 1000:03d}" if with_ms else text


def hk_day_text(ts_ms: int) -> str:
    return hk_second_text(ts_ms // 1000)[:10]


def market_state_number(name: str) -> int:
    """Qot_Common.QotMarketState of the exchange's state name. KeyError for a name that is none of the HK market's."""
    return _MARKET_STATES[name]


def symbol_of(security: Any) -> str:
    """``HK.00700`` of a Qot_Common.Security. Refused when it is no Hong Kong code."""
    code = str(security.code)
    if security.market not in HK_MARKETS:
        raise Refused(f"unknown stock {code[:MAX_CODE_CHARS]!r}: this simulator has the Hong Kong market only")
    if not code or len(code) > MAX_CODE_CHARS:
        raise Refused(f"unknown stock {code[:MAX_CODE_CHARS]!r}: a Hong Kong code has five digits")
    return f"HK.{code}"


def set_security(security: Any, symbol: str) -> None:
    """Fill a Qot_Common.Security from ``HK.00700``."""
    security.market = pb.qot_common.QotMarket_HK_Security
    security.code = symbol.partition(".")[2]


def add_tick(tick_list: Any, tick: SimTick, push_data_type: int, with_sequence: bool = True) -> Any:
    """Append one tick to a ``tickerList`` and give its message back.

    A direction or type that is none of the HK market's (a replayed file may hold one) is sent as unknown, 0.
    ``recvTime`` is OpenD's clock for real-time pushes and 0 for everything it took from its cache.
    """
    has_ms = tick.has_ms
    ts_ms = tick.ts_ms
    message = tick_list.add()
    message.time = hk_time_text(ts_ms, has_ms)
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
    message.hpVolume = float(tick.volume)
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
