"""A day with its order books, recorded as a recorder does, for what plays it back: ``python`` has no part in it but the
simulator's own market."""

from __future__ import annotations

from pathlib import Path

from hk_tick_collector.market.calendar import TradingCalendar
from hk_tick_collector.market.hk import HK
from hk_tick_collector.opend_sim.depth_feed import DepthFeed, DepthState
from hk_tick_collector.opend_sim.exchange import Exchange, MarketConfig
from hk_tick_collector.opend_sim.market_feed import MarketFeed
from hk_tick_collector.opend_sim.simclock import SimClock, hk_time_ms
from hk_tick_collector.opend_sim.simtick import SimTick
from hk_tick_collector.records.book import Book, BookEntry, BookPush, PushEntry, WatchBegan, WatchEnded
from hk_tick_collector.store.book_writer import BookWriter
from hk_tick_collector.store.connect import SqliteOptions
from tests.unit.test_sim_truth_check import store

DAY = "20261120"
BEGIN, END = "2026-11-20T15:50:00", "2026-11-20T16:12:00"
SYMBOLS = ("HK.00700", "HK.00005")


def record(root: Path, *, blind_from: str | None = None) -> tuple[list[SimTick], list[DepthState]]:
    """The last minutes of a day into ``root``: its ticks, and the states of the books of both symbols.

    ``blind_from``: the connection for books is lost then, and does not come back."""
    begin_ms, end_ms = hk_time_ms(BEGIN), hk_time_ms(END)
    exchange = Exchange(
        MarketConfig(list(SYMBOLS), seed=8, history_ticks=0, activity=0.3), begin_ms, TradingCalendar(HK)
    )
    feed = MarketFeed(exchange, SimClock(begin_ms))
    depth = DepthFeed(feed, seed=8)
    ticks: list[SimTick] = []
    states: list[DepthState] = []
    for now_ms in range(begin_ms, end_ms, 1000):
        arrived = feed.step(now_ms)
        ticks += arrived
        states += depth.step(arrived, now_ms, frozenset(SYMBOLS), 10)
    store(root, ticks)
    blind_ms = hk_time_ms(blind_from) if blind_from else end_ms
    known = [state for state in states if _recv_ms(state) < blind_ms]
    entries: list[BookEntry] = [WatchBegan(symbol, begin_ms * 1000) for symbol in SYMBOLS]
    entries += [PushEntry(_push(state)) for state in known]
    entries += [WatchEnded(symbol, blind_ms * 1000, "connection lost") for symbol in SYMBOLS]
    writer = BookWriter(root, SqliteOptions(), HK.trading_day, lambda: end_ms)
    writer.write(DAY, entries, len(known))
    writer.close()
    return ticks, known


def _recv_ms(state: DepthState) -> int:
    return max(state.bid_ts_ms, state.ask_ts_ms) + 60


def _push(state: DepthState) -> BookPush:
    book = Book(tuple(map(tuple, state.depth.bids)), tuple(map(tuple, state.depth.asks)))  # type: ignore[arg-type]
    return BookPush(state.symbol, _recv_ms(state) * 1000, state.bid_ts_ms or None, state.ask_ts_ms or None, book)
