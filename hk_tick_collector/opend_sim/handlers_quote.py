"""Answers with prices: ticks, quotes, snapshots, K-lines. All of it comes from the simulated market's own ticks."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime
from typing import Any

from hk_tick_collector.market.dates import DAY_MS
from hk_tick_collector.market.zone import Zone
from hk_tick_collector.opend_sim import encode, encode_quote, pb
from hk_tick_collector.opend_sim.book import KEPT_MINUTES
from hk_tick_collector.opend_sim.klines import BY_NUMBER, KLINE_TYPES, KlineType, bars
from hk_tick_collector.opend_sim.opend import SUB_BASIC, SUB_RT, SUB_TICKER, Client, OpenD
from hk_tick_collector.opend_sim.simtick import SimTick
from hk_tick_collector.opend_sim.subscriptions import Refused

MAX_TICKS = 1000
MAX_BARS = 1000
MAX_SNAPSHOTS = 400

SECURITY_TYPES = {
    "STOCK": int(pb.qot_common.SecurityType_Eqty),
    "ETF": int(pb.qot_common.SecurityType_Trust),
    "WARRANT": int(pb.qot_common.SecurityType_Warrant),
    "INDEX": int(pb.qot_common.SecurityType_Index),
    "FUTURE": int(pb.qot_common.SecurityType_Future),
}

_PAGE_KEY = re.compile(rb"[0-9]{1,15}\Z")


def get_ticker(opend: OpenD, client: Client, c2s: Any, s2c: Any) -> None:
    """The newest ticks of a subscribed symbol, oldest first, at most ``MAX_TICKS``."""
    symbol = _known(opend, c2s.security)
    opend.require_subscribed(client.conn_id, symbol, SUB_TICKER, "TICKER")
    if c2s.maxRetNum < 1:
        raise Refused(f"maxRetNum {c2s.maxRetNum} is not from 1 to {MAX_TICKS}")
    opend.may_answer("ticks", [symbol])
    encode.set_security(s2c.security, symbol)
    s2c.name = opend.market.name_of(symbol)
    with_sequence = opend.faults.active("no-sequence", symbol) is None
    for tick in _answered_ticks(opend, client, symbol, min(c2s.maxRetNum, MAX_TICKS)):
        encode.add_tick(s2c.tickerList, tick, encode.PUSH_CACHE, with_sequence)


def _answered_ticks(opend: OpenD, client: Client, symbol: str, count: int) -> list[SimTick]:
    """The newest ticks, and what faults of answers make of them."""
    market = opend.market
    old = opend.faults.active("old-answers", symbol)
    if old is None:
        ticks = market.recent(symbol, count)
    else:
        ticks = market.recent_as_of(symbol, count, market.now_ms() - old.ms)
    ticks = list(opend.collected(client.conn_id, symbol, ticks))
    if opend.faults.active("no-ms", symbol) is not None:
        ticks = [replace(tick, has_ms=False) for tick in ticks]
    if ticks and opend.faults.hit("yesterday", symbol) is not None:
        middle = len(ticks) // 2
        tick = ticks[middle]
        of_yesterday = replace(
            tick, ts_ms=tick.ts_ms - DAY_MS, seq=opend.venue.moved(tick.seq, (tick.seq >> 32) - DAY_MS // 1000)
        )
        ticks = [*ticks[:middle], of_yesterday, *ticks[middle + 1 :]]
    return ticks


def get_basic_qot(opend: OpenD, client: Client, c2s: Any, s2c: Any) -> None:
    """Quotes of subscribed symbols."""
    for symbol in opend.known_symbols(list(c2s.securityList)):
        opend.require_subscribed(client.conn_id, symbol, SUB_BASIC, "QUOTE")
        encode_quote.add_quote(s2c, opend, symbol)


def get_snapshot(opend: OpenD, _client: Client, c2s: Any, s2c: Any) -> None:
    """Snapshots of up to ``MAX_SNAPSHOTS`` symbols; no subscription needed. Best prices are those of the order book."""
    for symbol in opend.known_symbols(list(c2s.securityList), MAX_SNAPSHOTS):
        instrument = opend.market.exchange.instruments[symbol]
        basic = s2c.snapshotList.add().basic
        encode_quote.fill_prices(opend, symbol, basic)
        basic.type = SECURITY_TYPES[instrument.kind]
        basic.isSuspend = False
        basic.lotSize = instrument.board_lot
        basic.amplitude = encode_quote.amplitude(basic)
        basic.secStatus = int(pb.qot_common.SecurityStatus_Normal)
        if basic.volume:
            basic.avgPrice = basic.turnover / basic.volume
        bids, asks = opend.depth.newest(symbol, 1).depth
        if bids:
            basic.bidPrice, basic.bidVol = bids[0].price, bids[0].volume
        if asks:
            basic.askPrice, basic.askVol = asks[0].price, asks[0].volume


def get_rt(opend: OpenD, client: Client, c2s: Any, s2c: Any) -> None:
    """The day's line of a subscribed symbol."""
    symbol = _known(opend, c2s.security)
    opend.require_subscribed(client.conn_id, symbol, SUB_RT, "RT_DATA")
    encode_quote.fill_time_share(s2c, opend, symbol)


def get_kline(opend: OpenD, client: Client, c2s: Any, s2c: Any) -> None:
    """The newest bars of a symbol that is subscribed with the same K-line type."""
    symbol = _known(opend, c2s.security)
    kind = _kline_type(c2s.klType)
    opend.require_subscribed(client.conn_id, symbol, kind.sub_type, kind.name)
    if not 1 <= c2s.reqNum <= MAX_BARS:
        raise Refused(f"reqNum {c2s.reqNum} is not from 1 to {MAX_BARS}")
    encode.set_security(s2c.security, symbol)
    s2c.name = opend.market.name_of(symbol)
    newest_bars = bars(opend.market.exchange, symbol, kind, c2s.reqNum)
    encode_quote.add_bars(s2c.klList, newest_bars, kind, opend.venue)


def request_history_kline(opend: OpenD, _client: Client, c2s: Any, s2c: Any) -> None:
    """Bars between two dates, a page at a time: ``nextReqKey`` is where the next page begins."""
    symbol = _known(opend, c2s.security)
    kind = _kline_type(c2s.klType)
    begin_ms = parse_time_ms(c2s.beginTime, opend.venue.market.zone)
    end_ms = parse_time_ms(c2s.endTime, opend.venue.market.zone, end_of_day=True)
    if c2s.nextReqKey:
        if not _PAGE_KEY.match(c2s.nextReqKey):
            raise Refused("nextReqKey is not one this simulator gave out")
        begin_ms = int(c2s.nextReqKey)
    page = min(c2s.maxAckKLNum, MAX_BARS) if c2s.maxAckKLNum > 0 else MAX_BARS
    every = bars(opend.market.exchange, symbol, kind, KEPT_MINUTES)
    asked_bars = [bar for bar in every if begin_ms <= kind.label_ms(bar) <= end_ms]
    encode.set_security(s2c.security, symbol)
    s2c.name = opend.market.name_of(symbol)
    encode_quote.add_bars(s2c.klList, asked_bars[:page], kind, opend.venue)
    if len(asked_bars) > page:
        s2c.nextReqKey = str(kind.label_ms(asked_bars[page])).encode()


def parse_time_ms(text: str, zone: Zone, end_of_day: bool = False) -> int:
    """UTC epoch milliseconds of ``2026-11-20`` or ``2026-11-20 09:30:00`` in a zone. Refused for anything else.

    A date alone is its first millisecond, or its last with ``end_of_day``.
    """
    for form, whole_day in (("%Y-%m-%d %H:%M:%S", False), ("%Y-%m-%d", True)):
        try:
            moment = datetime.strptime(text, form).replace(tzinfo=zone.tzinfo)
        except ValueError:
            continue
        ts_ms = int(moment.timestamp()) * 1000
        return ts_ms + 86_400_000 - 1 if whole_day and end_of_day else ts_ms
    raise Refused(f"time {text[:40]!r} is not in the form yyyy-MM-dd or yyyy-MM-dd HH:mm:ss")


def _known(opend: OpenD, security: Any) -> str:
    return opend.known_symbols([security])[0]


def _kline_type(number: int) -> KlineType:
    kind = BY_NUMBER.get(number)
    if kind is None:
        names = ", ".join(kind.name for kind in KLINE_TYPES)
        raise Refused(f"K-line type {number} is not simulated; there are {names}")
    return kind
