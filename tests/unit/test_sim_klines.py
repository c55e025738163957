"""K-lines, quotes and the day's line: made of the ticks that reached OpenD, whole at any speed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from itertools import groupby, pairwise
from random import Random
from typing import Any

import pytest

from hk_tick_collector.market.hk.sessions import day_start_ms
from hk_tick_collector.market.hk.trade_types import TRADE_TYPES
from hk_tick_collector.opend_sim import encode, pb
from hk_tick_collector.opend_sim.exchange import Exchange, MarketConfig
from hk_tick_collector.opend_sim.faults import FaultState
from hk_tick_collector.opend_sim.instruments import list_instruments
from hk_tick_collector.opend_sim.klines import BY_NUMBER, KLINE_TYPES, KlineType, bars
from hk_tick_collector.opend_sim.market_feed import MarketFeed
from hk_tick_collector.opend_sim.opend import SUB_BASIC, SUB_RT, OpenD, SimSettings
from hk_tick_collector.opend_sim.pusher import Pusher
from hk_tick_collector.opend_sim.simclock import SimClock
from hk_tick_collector.opend_sim.simtick import SimTick
from hk_tick_collector.opend_sim.source import MarketSource
from hk_tick_collector.opend_sim.venue import HK
from hk_tick_collector.opend_sim.views import ViewPusher
from tests.clock import ManualClock
from tests.opend_inbox import Inbox

LEADER = "HK.00700"
MINUTE_MS = 60_000
DAY = "20261120"
_BEFORE_LUNCH_MS = day_start_ms(DAY) + (11 * 60 + 20) * MINUTE_MS
_PROTOS = {
    3005: pb.load("Qot_UpdateBasicQot").Response,
    3007: pb.load("Qot_UpdateKL").Response,
    3009: pb.load("Qot_UpdateRT").Response,
}


class _Handmade(MarketSource):
    def advance(self, until_ms: int) -> list[SimTick]:
        return []


@pytest.fixture(scope="module")
def traded() -> tuple[MarketSource, list[SimTick]]:
    """Two trading days with auctions, prints at lunch and after the close, and minutes without any."""
    rng = Random(4)
    times = [day_start_ms(day) + rng.randrange(9 * 60, 16 * 60 + 10) * MINUTE_MS for day in (DAY, "20261123") * 400]
    ticks = []
    for count, minute_ms in enumerate(sorted(times)):
        price, volume = rng.randrange(6000, 6100) / 10, rng.randrange(1, 9) * 100
        kind = rng.choice(("AUTO_MATCH", "AUTO_MATCH", "ODD_LOT", "AUCTION"))
        ts_ms = minute_ms + rng.randrange(1000) * 60
        ticks.append(SimTick(LEADER, ts_ms, price, volume, price * volume, "BUY", count, kind, 32, True, ts_ms))
    ticks.sort(key=lambda tick: tick.ts_ms)
    market = _Handmade(list_instruments([LEADER], 1), None)
    market.remember(ticks)
    return market, ticks


def opening_of_stretch_ms(ts_ms: int) -> int:
    """09:30, 13:00, or midnight for what prints outside continuous trading."""
    midnight_ms = ts_ms - (ts_ms + 8 * 3_600_000) % 86_400_000
    of_day = (ts_ms - midnight_ms) / 3_600_000
    hour = 9.5 if 9.5 <= of_day < 12 else 13 if 13 <= of_day < 16 else 0
    return midnight_ms + round(hour * 3_600_000)


@pytest.mark.parametrize("kind", [kind for kind in KLINE_TYPES if kind.minutes], ids=lambda kind: kind.name)
def test_bars_of_minutes_are_those_of_the_ticks_and_span_no_pause(
    traded: tuple[MarketSource, list[SimTick]], kind: KlineType
) -> None:
    exchange, ticks = traded

    def begin(tick: SimTick) -> int:
        opening_ms, length_ms = opening_of_stretch_ms(tick.ts_ms), kind.minutes * MINUTE_MS
        return opening_ms + (tick.ts_ms - opening_ms) // length_ms * length_ms

    expected = []
    for start_ms, group in groupby(ticks, begin):
        own = list(group)
        prices = [tick.price for tick in own if tick.tick_type in TRADE_TYPES.price_making]
        amounts = sum(tick.volume for tick in own), pytest.approx(sum(tick.turnover for tick in own))
        expected.append((start_ms, prices and (prices[0], max(prices), min(prices), prices[-1]), *amounts))
    made = bars(exchange, LEADER, kind, 2000)
    assert len(made) == len(expected) > 2
    for bar, (start_ms, prices, volume, turnover) in zip(made, expected, strict=True):
        assert (bar.start_ms, bar.volume, bar.turnover) == (start_ms, volume, turnover)
        assert not prices or (bar.open, bar.high, bar.low, bar.close) == prices
        assert bar.start_ms < bar.end_ms <= bar.start_ms + kind.minutes * MINUTE_MS
    assert all(later.prev_close == before.close for before, later in pairwise(made))
    lunch_ms = day_start_ms(DAY) + 12 * 3_600_000
    assert not any(bar.start_ms < lunch_ms < bar.end_ms for bar in made)


def test_bars_of_weeks_and_longer_join_their_days(traded: tuple[MarketSource, list[SimTick]]) -> None:
    exchange, ticks = traded
    days = bars(exchange, LEADER, BY_NUMBER[2], 30)
    assert [encode.time_text(HK, bar.start_ms)[:10] for bar in days] == ["2026-11-20", "2026-11-23"]
    weeks, months = (bars(exchange, LEADER, BY_NUMBER[number], 30) for number in (3, 4))
    assert date(2026, 11, 20).isocalendar().week != date(2026, 11, 23).isocalendar().week
    assert [bar.volume for bar in weeks] == [bar.volume for bar in days]
    (month,) = months
    assert month.volume == sum(tick.volume for tick in ticks)
    assert (month.open, month.close) == (days[0].open, days[-1].close)
    assert (month.high, month.low) == (max(bar.high for bar in days), min(bar.low for bar in days))
    assert len(bars(exchange, LEADER, BY_NUMBER[11], 30)) == 1  # of a quarter
    assert len(bars(exchange, LEADER, BY_NUMBER[5], 30)) == 1  # of a year


def test_only_the_newest_are_given(traded: tuple[MarketSource, list[SimTick]]) -> None:
    exchange, _ = traded
    every = bars(exchange, LEADER, KLINE_TYPES[0], 2000)
    assert bars(exchange, LEADER, KLINE_TYPES[0], 3) == every[-3:]
    assert bars(exchange, LEADER, KLINE_TYPES[0], 2000, since_ms=every[-5].start_ms) == every[-5:]
    assert bars(exchange, LEADER, KLINE_TYPES[0], 0) == []


class World:
    """One OpenD with a client, before lunch, and a clock that is moved by hand."""

    def __init__(self) -> None:
        self.clock = ManualClock(_BEFORE_LUNCH_MS)
        config = MarketConfig([LEADER], seed=5, history_ticks=20)
        self.market = MarketFeed(
            Exchange(config, _BEFORE_LUNCH_MS), SimClock(_BEFORE_LUNCH_MS, monotonic=self.clock.monotonic)
        )
        self.opend = OpenD(SimSettings(), self.market, FaultState(self.clock.monotonic))
        self.inbox = Inbox(_PROTOS)
        self.views = ViewPusher(self.opend, Pusher(self.opend, {1: self.inbox}, self.clock.monotonic))

    def subscribe(self, *sub_types: int) -> None:
        keys = [(LEADER, sub_type) for sub_type in sub_types]
        self.opend.book.subscribe(1, keys, 100, True)
        self.views.first_push(1, keys)

    def move(self, seconds: float, steps: int) -> list[SimTick]:
        arrived: list[SimTick] = []
        for _ in range(steps):
            self.clock.advance(seconds / steps)
            ticks = self.market.step()
            arrived += ticks
            self.views.step(ticks)
        return arrived


def last_lines(pushes: list[Any], lines: Callable[[Any], Any]) -> dict[str, Any]:
    """The newest line of each time that was pushed, as a client keeps them."""
    return {line.time: line for s2c in pushes for line in lines(s2c)}


@pytest.mark.parametrize("steps", [900, 4], ids=["slow", "fast"])
def test_whoever_keeps_what_is_pushed_has_every_bar_whole_at_any_speed(steps: int) -> None:
    world = World()
    world.subscribe(*(kind.sub_type for kind in KLINE_TYPES), SUB_RT)
    world.move(900, steps)
    for kind in KLINE_TYPES:
        pushed = last_lines([s2c for s2c in world.inbox.of(3007) if s2c.klType == kind.number], lambda s2c: s2c.klList)
        for bar in bars(world.market.exchange, LEADER, kind, 2000)[-len(pushed) :]:
            line = pushed[encode.time_text(HK, kind.label_ms(bar))]
            assert (line.openPrice, line.highPrice, line.lowPrice, line.closePrice) == (
                bar.open, bar.high, bar.low, bar.close,
            )  # fmt: skip
            assert (line.volume, line.lastClosePrice) == (bar.volume, bar.prev_close)
    points = last_lines(world.inbox.of(3009), lambda s2c: s2c.rtList)
    of_day = world.market.exchange.minutes_of_day(LEADER)
    newest = list(points.values())[-1]
    assert newest.avgPrice == pytest.approx(sum(bar.turnover for bar in of_day) / sum(bar.volume for bar in of_day))
    assert [point.volume for point in points.values()] == [bar.volume for bar in of_day[-len(points) :]]
    assert len(points) >= 15


def test_a_quote_is_pushed_with_what_trades_and_is_that_of_the_ticks() -> None:
    world = World()
    world.subscribe(SUB_BASIC)
    (first,) = world.inbox.of(3005)
    arrived = world.move(20, 400)
    pushes = world.inbox.of(3005)
    quote = pushes[-1].basicQotList[0]
    day_volume = first.basicQotList[0].volume + sum(tick.volume for tick in arrived)
    assert (quote.security.code, quote.volume, quote.updateTimestamp) == ("00700", day_volume, arrived[-1].ts_ms / 1000)
    assert quote.curPrice == [t.price for t in arrived if t.tick_type in TRADE_TYPES.price_making][-1]
    assert 2 < len(pushes) <= len(arrived) + 1


def test_a_tick_that_is_under_way_is_in_no_bar_and_no_quote() -> None:
    world = World()
    seen = {"volume": world.market.exchange.snapshot(LEADER).volume}
    for _ in range(400):
        world.clock.advance(0.05)
        seen["volume"] += sum(tick.volume for tick in world.market.step())
        assert world.market.exchange.snapshot(LEADER).volume == seen["volume"]
        assert sum(bar.volume for bar in world.market.exchange.minutes_of_day(LEADER)) == seen["volume"]


def test_nothing_is_encoded_of_what_nobody_subscribed() -> None:
    world = World()
    world.move(5, 100)
    assert (world.views.pushes, world.inbox.messages) == (0, [])
    world.subscribe(SUB_BASIC)
    world.opend.drop_connection(1)
    pushed = world.views.pushes
    world.move(5, 100)
    assert world.views.pushes == pushed
