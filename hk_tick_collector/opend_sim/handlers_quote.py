"""Answers with prices: ticks, quotes, snapshots, K-lines. All of it comes from the simulated market's own ticks.

One-minute bars are labelled with the end of their minute, day bars with midnight, in local time. Prices are not
adjusted: nothing here ever splits or pays a dividend.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from hk_tick_collector.market.dates import DAY_MS
from hk_tick_collector.market.zone import Zone
from hk_tick_collector.opend_sim import encode, pb
from hk_tick_collector.opend_sim.book import KEPT_DAYS, KEPT_MINUTES, Bar
from hk_tick_collector.opend_sim.opend import SUB_TICKER, Client, OpenD
from hk_tick_collector.opend_sim.simtick import SimTick
from hk_tick_collector.opend_sim.subscriptions import Refused
from hk_tick_collector.opend_sim.venue import Venue

MAX_TICKS = 1000
MAX_BARS = 1000
MAX_SNAPSHOTS = 400
LIST_DATE = "2010-01-04"

SUB_BASIC = int(pb.qot_common.SubType_Basic)
KL_1MIN = int(pb.qot_common.KLType_1Min)
KL_DAY = int(pb.qot_common.KLType_Day)
SECURITY_TYPES = {
    "STOCK": int(pb.qot_common.SecurityType_Eqty),
    "ETF": int(pb.qot_common.SecurityType_Trust),
    "WARRANT": int(pb.qot_common.SecurityType_Warrant),
}

_KLINE_SUBS = {
    KL_1MIN: (int(pb.qot_common.SubType_KL_1Min), "K_1M"),
    KL_DAY: (int(pb.qot_common.SubType_KL_Day), "K_DAY"),
}
_PAGE_KEY = re.compile(rb"[0-9]{1,15}\Z")


def get_ticker(opend: OpenD, client: Client, c2s: Any, s2c: Any) -> None:
    """The newest ticks of a subscribed symbol, oldest first, at most ``MAX_TICKS``."""
    symbol = _known(opend, c2s.security)
    opend.require_subscribed(client.conn_id, symbol, SUB_TICKER, "TICKER")
    if c2s.maxRetNum < 1:
        raise Refused(f"maxRetNum {c2s.maxRetNum} is not from 1 to {MAX_TICKS}")
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
        quote = s2c.basicQotList.add()
        _fill_prices(opend, symbol, quote)
        quote.isSuspended = False
        quote.amplitude = _amplitude(quote)
        quote.darkStatus = int(pb.qot_common.DarkStatus_None)
        quote.secStatus = int(pb.qot_common.SecurityStatus_Normal)


def get_snapshot(opend: OpenD, _client: Client, c2s: Any, s2c: Any) -> None:
    """Snapshots of up to ``MAX_SNAPSHOTS`` symbols; no subscription needed."""
    for symbol in opend.known_symbols(list(c2s.securityList), MAX_SNAPSHOTS):
        instrument = opend.market.exchange.instruments[symbol]
        basic = s2c.snapshotList.add().basic
        _fill_prices(opend, symbol, basic)
        basic.type = SECURITY_TYPES[instrument.kind]
        basic.isSuspend = False
        basic.lotSize = instrument.board_lot
        basic.amplitude = _amplitude(basic)
        basic.secStatus = int(pb.qot_common.SecurityStatus_Normal)
        if basic.volume:
            basic.avgPrice = basic.turnover / basic.volume


def get_kline(opend: OpenD, client: Client, c2s: Any, s2c: Any) -> None:
    """The newest bars of a symbol that is subscribed with the same K-line type."""
    symbol = _known(opend, c2s.security)
    sub_type, what = _kline_type(c2s.klType)
    opend.require_subscribed(client.conn_id, symbol, sub_type, what)
    if not 1 <= c2s.reqNum <= MAX_BARS:
        raise Refused(f"reqNum {c2s.reqNum} is not from 1 to {MAX_BARS}")
    encode.set_security(s2c.security, symbol)
    s2c.name = opend.market.name_of(symbol)
    for bar in _bars(opend, symbol, c2s.klType)[-c2s.reqNum :]:
        _add_bar(s2c.klList, bar, c2s.klType, opend.venue)


def request_history_kline(opend: OpenD, _client: Client, c2s: Any, s2c: Any) -> None:
    """Bars between two dates, a page at a time: ``nextReqKey`` is where the next page begins."""
    symbol = _known(opend, c2s.security)
    _kline_type(c2s.klType)
    begin_ms = parse_time_ms(c2s.beginTime, opend.venue.market.zone)
    end_ms = parse_time_ms(c2s.endTime, opend.venue.market.zone, end_of_day=True)
    if c2s.nextReqKey:
        if not _PAGE_KEY.match(c2s.nextReqKey):
            raise Refused("nextReqKey is not one this simulator gave out")
        begin_ms = int(c2s.nextReqKey)
    page = min(c2s.maxAckKLNum, MAX_BARS) if c2s.maxAckKLNum > 0 else MAX_BARS
    bars = [b for b in _bars(opend, symbol, c2s.klType) if begin_ms <= _label_ms(b, c2s.klType) <= end_ms]
    encode.set_security(s2c.security, symbol)
    s2c.name = opend.market.name_of(symbol)
    for bar in bars[:page]:
        _add_bar(s2c.klList, bar, c2s.klType, opend.venue)
    if len(bars) > page:
        s2c.nextReqKey = str(_label_ms(bars[page], c2s.klType)).encode()


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


def _kline_type(kl_type: int) -> tuple[int, str]:
    found = _KLINE_SUBS.get(kl_type)
    if found is None:
        raise Refused(f"K-line type {kl_type} is not simulated; there are K_1M and K_DAY")
    return found


def _bars(opend: OpenD, symbol: str, kl_type: int) -> Sequence[Bar]:
    exchange = opend.market.exchange
    if kl_type == KL_1MIN:
        return exchange.kline_1m(symbol, KEPT_MINUTES)
    return exchange.kline_day(symbol, KEPT_DAYS)


def _label_ms(bar: Bar, kl_type: int) -> int:
    return bar.start_ms + 60_000 if kl_type == KL_1MIN else bar.start_ms


def _add_bar(kl_list: Any, bar: Bar, kl_type: int, venue: Venue) -> None:
    label_ms = _label_ms(bar, kl_type)
    line = kl_list.add()
    line.time = encode.time_text(venue, label_ms)
    line.timestamp = label_ms / 1000
    line.isBlank = False
    line.openPrice = bar.open
    line.highPrice = bar.high
    line.lowPrice = bar.low
    line.closePrice = bar.close
    line.lastClosePrice = bar.prev_close
    line.volume = bar.volume
    line.hpVolume = float(bar.volume)
    line.turnover = bar.turnover
    line.turnoverRate = 0.0
    line.pe = 0.0
    line.changeRate = (bar.close / bar.prev_close - 1) * 100 if bar.prev_close else 0.0


def _fill_prices(opend: OpenD, symbol: str, target: Any) -> None:
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


def _amplitude(quote: Any) -> float:
    return (quote.highPrice - quote.lowPrice) / quote.lastClosePrice * 100 if quote.lastClosePrice else 0.0
