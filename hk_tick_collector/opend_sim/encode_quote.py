"""Quotes, K-lines and the day's line as Futu's protobuf messages, for answers and pushes alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hk_tick_collector.opend_sim import encode, pb
from hk_tick_collector.opend_sim.book import Bar
from hk_tick_collector.opend_sim.klines import KlineType
from hk_tick_collector.opend_sim.opend import OpenD
from hk_tick_collector.opend_sim.venue import Venue

LIST_DATE = "2010-01-04"
REHAB_FORWARD = int(pb.qot_common.RehabType_Forward)

_quote_push = pb.load("Qot_UpdateBasicQot").Response
_kline_push = pb.load("Qot_UpdateKL").Response
_time_share_push = pb.load("Qot_UpdateRT").Response


def quote_push(opend: OpenD, symbol: str) -> Any:
    """A Qot_UpdateBasicQot response message."""
    push = _quote_push()
    push.retType = 0
    add_quote(push.s2c, opend, symbol)
    return push


def add_quote(s2c: Any, opend: OpenD, symbol: str) -> None:
    """Append a symbol's quote to ``basicQotList``."""
    quote = s2c.basicQotList.add()
    fill_prices(opend, symbol, quote)
    quote.isSuspended = False
    quote.amplitude = amplitude(quote)
    quote.darkStatus = int(pb.qot_common.DarkStatus_None)
    quote.secStatus = int(pb.qot_common.SecurityStatus_Normal)


def fill_prices(opend: OpenD, symbol: str, target: Any) -> None:
    """The fields that a quote and a snapshot share."""
    snapshot = opend.market.exchange.snapshot(symbol)
    updated_ms = snapshot.update_ts_ms or opend.market.now_ms()
    encode.set_security(target.security, symbol)
    target.name = opend.market.name_of(symbol)
    target.listTime = LIST_DATE
    target.priceSpread = opend.venue.grid.spread(round(snapshot.last * 1000)) / 1000
    target.updateTime = encode.time_text(opend.venue, updated_ms)
    target.updateTimestamp = updated_ms / 1000
    target.openPrice = snapshot.open
    target.highPrice = snapshot.high
    target.lowPrice = snapshot.low
    target.curPrice = snapshot.last
    target.lastClosePrice = snapshot.prev_close
    target.volume = snapshot.volume
    target.hpVolume = float(snapshot.volume)
    target.turnover = snapshot.turnover
    target.turnoverRate = 0.0


def amplitude(quote: Any) -> float:
    """Of the day's range, in percent of the last close."""
    return (quote.highPrice - quote.lowPrice) / quote.lastClosePrice * 100 if quote.lastClosePrice else 0.0


def kline_push(symbol: str, name: str, kind: KlineType, bars: Sequence[Bar], venue: Venue) -> Any:
    """A Qot_UpdateKL response message, as forward adjusted: OpenD's type for who asks for none."""
    push = _kline_push()
    push.retType = 0
    push.s2c.rehabType = REHAB_FORWARD
    push.s2c.klType = kind.number
    encode.set_security(push.s2c.security, symbol)
    push.s2c.name = name
    add_bars(push.s2c.klList, bars, kind, venue)
    return push


def add_bars(kl_list: Any, bars: Sequence[Bar], kind: KlineType, venue: Venue) -> None:
    """Append bars to a ``klList``."""
    for bar in bars:
        label_ms = kind.label_ms(bar)
        kl_list.add(
            time=encode.time_text(venue, label_ms),
            timestamp=label_ms / 1000,
            isBlank=False,
            openPrice=bar.open,
            highPrice=bar.high,
            lowPrice=bar.low,
            closePrice=bar.close,
            lastClosePrice=bar.prev_close,
            volume=bar.volume,
            hpVolume=float(bar.volume),
            turnover=bar.turnover,
            turnoverRate=0.0,
            pe=0.0,
            changeRate=(bar.close / bar.prev_close - 1) * 100 if bar.prev_close else 0.0,
        )


def time_share_push(opend: OpenD, symbol: str, since_ms: int) -> Any:
    """A Qot_UpdateRT response message with the points of the day that end after ``since_ms``."""
    push = _time_share_push()
    push.retType = 0
    fill_time_share(push.s2c, opend, symbol, since_ms)
    return push


def fill_time_share(s2c: Any, opend: OpenD, symbol: str, since_ms: int = 0) -> None:
    """The day's line, a point a minute that traded: last price, mean price of the day until then, the minute's own
    volume and turnover."""
    encode.set_security(s2c.security, symbol)
    s2c.name = opend.market.name_of(symbol)
    zone = opend.venue.market.zone
    volume, turnover = 0, 0.0
    day_close = opend.market.exchange.snapshot(symbol).prev_close
    for bar in opend.market.exchange.minutes_of_day(symbol):
        volume += bar.volume
        turnover += bar.turnover
        if bar.end_ms <= since_ms:
            continue
        s2c.rtList.add(
            time=encode.time_text(opend.venue, bar.end_ms),
            timestamp=bar.end_ms / 1000,
            minute=zone.ms_of_day(bar.end_ms) // 60_000,
            isBlank=False,
            price=bar.close,
            lastClosePrice=day_close,
            avgPrice=turnover / volume if volume else bar.close,
            volume=bar.volume,
            hpVolume=float(bar.volume),
            turnover=bar.turnover,
        )
