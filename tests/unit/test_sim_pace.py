"""A replay goes no faster than clients read, in slices that are the same at any speed; recorded books play along."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from hk_tick_collector.market.calendar import TradingCalendar
from hk_tick_collector.market.hk import HK
from hk_tick_collector.opend_sim import encode_book
from hk_tick_collector.opend_sim.depth import EMPTY
from hk_tick_collector.opend_sim.depth_feed import DepthFeed
from hk_tick_collector.opend_sim.exchange import Exchange, MarketConfig
from hk_tick_collector.opend_sim.faults import FaultState
from hk_tick_collector.opend_sim.market_feed import MarketFeed
from hk_tick_collector.opend_sim.opend import OpenD, SimSettings
from hk_tick_collector.opend_sim.pace import BACKLOG_BYTES, IDLE_SEC, SLICE_MS, STEP_SEC, STUCK_SEC, Pace
from hk_tick_collector.opend_sim.recorded_depth import RecordedDepth
from hk_tick_collector.opend_sim.replay import ReplayExchange
from hk_tick_collector.opend_sim.simclock import SimClock, hk_time_ms
from hk_tick_collector.opend_sim.simtick import SimTick
from hk_tick_collector.opend_sim.source import MarketSource
from hk_tick_collector.records.book import Book, BookEntry, BookPush, Level, PushEntry, WatchBegan, WatchEnded
from hk_tick_collector.store.book_writer import BookWriter
from hk_tick_collector.store.connect import SqliteOptions
from hk_tick_collector.store.layout import book_file
from tests.clock import ManualClock
from tests.recorded_day import BEGIN, DAY, END, SYMBOLS, record

LEADER = "HK.00700"
BEGIN_MS, END_MS = hk_time_ms(BEGIN), hk_time_ms(END)


class Outlet:
    """A client's way out, as full as the test wants."""

    def __init__(self) -> None:
        self.waiting = 0
        self.given_up = False

    def waiting_bytes(self) -> int:
        return self.waiting

    def give_up(self) -> None:
        self.given_up = True


class Session:
    def __init__(self) -> None:
        self.outlet = Outlet()


class World:
    """A recorded day, or an invented market, a clock moved by hand, and one client."""

    def __init__(self, root: Path | None, speed: float, merge_ms: int = 0) -> None:
        self.clock = ManualClock(BEGIN_MS)
        calendar = TradingCalendar(HK)
        exchange: MarketSource = (
            ReplayExchange([root / f"{DAY}.db"], BEGIN_MS, calendar)
            if root is not None
            else Exchange(
                MarketConfig([*SYMBOLS], rate_per_sec=8, delay_ms=(3, 40), history_ticks=50), BEGIN_MS, calendar
            )
        )
        self.market = MarketFeed(exchange, SimClock(BEGIN_MS, speed, self.clock.monotonic))
        depth = DepthFeed(self.market, 1, merge_ms) if root is None else RecordedDepth([book_file(root, DAY)])
        self.opend = OpenD(SimSettings(), self.market, FaultState(self.clock.monotonic), depth)
        self.session = Session()
        self.pace = Pace(self.opend, {1: self.session}, self.clock.monotonic)  # type: ignore[dict-item]
        self.seen: list[tuple[int, Any]] = []
        self.arrived: list[tuple[int, SimTick]] = []  # and when

    def turn(self, seconds: float = 0.005) -> None:
        """One turn of the server's loop."""
        self.clock.advance(seconds)
        for until_ms in self.pace.steps():
            ticks = self.market.step(until_ms)
            self.arrived += [(until_ms, tick) for tick in ticks]
            states = self.opend.depth.step(ticks, until_ms, frozenset(SYMBOLS), 10)
            if ticks or states:
                self.seen.append((until_ms, ([tick.seq for tick in ticks], states)))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("day")
    record(root)
    return root


@pytest.mark.parametrize("speed", [50.0, 1e6])
def test_slices_of_a_day_are_the_same_at_any_speed(root: Path, speed: float) -> None:
    world = World(root, speed)
    while world.market.now_ms() < END_MS - SLICE_MS:
        world.turn()
    whole = World(root, 1.0)
    whole.market.clock.jump(END_MS)
    while whole.market.now_ms() < END_MS - SLICE_MS:
        whole.turn()
    assert world.seen == whole.seen
    assert all(until_ms % SLICE_MS == 0 for until_ms, _ in world.seen)
    assert len(world.seen) > 1000


def test_the_time_is_that_of_what_was_played_and_ends_with_the_day(root: Path) -> None:
    world = World(root, 1e6)
    world.turn()
    assert world.pace.hurries
    assert world.market.now_ms() < world.market.clock.now_ms()
    for _ in range(2000):
        world.turn()
    midnight_ms = hk_time_ms("2026-11-21T00:00:00")
    assert midnight_ms - 2 * SLICE_MS < world.market.now_ms() < midnight_ms
    assert not world.pace.hurries


def test_it_waits_for_who_reads_slowly_and_gives_up_who_reads_nothing(root: Path) -> None:
    world = World(root, 1000.0)
    world.turn()
    world.session.outlet.waiting = BACKLOG_BYTES + 1
    world.turn()
    before_ms, at_ms = world.market.clock.now_ms(), world.market.now_ms()
    world.turn(STUCK_SEC - 1)
    assert (world.market.clock.now_ms(), world.market.now_ms()) == (before_ms, at_ms)
    assert not world.session.outlet.given_up
    world.session.outlet.waiting = 0
    world.turn()
    world.turn()
    assert world.market.now_ms() > at_ms
    world.session.outlet.waiting = BACKLOG_BYTES + 1
    world.turn()
    world.turn(STUCK_SEC + 1)
    assert world.session.outlet.given_up


def test_a_clock_that_is_held_obeys_commands_and_goes_on_only_when_nothing_stops_it() -> None:
    clock = ManualClock(0)
    market = SimClock(0, monotonic=clock.monotonic)
    market.hold(True)
    market.stand()
    market.hold(False)
    clock.advance(1)
    assert market.now_ms() == 0
    market.hold(True)
    market.run()
    clock.advance(1)
    assert market.now_ms() == 0
    market.hold(False)
    clock.advance(1)
    assert market.now_ms() == 1000


class TestTheNextTurn:
    """An invented market is looked at when something of it is due, and not two hundred times a second."""

    @pytest.mark.parametrize(("speed", "idle_sec"), [(1.0, IDLE_SEC), (5.0, IDLE_SEC / 5), (0.5, IDLE_SEC)])
    @pytest.mark.parametrize("merge_ms", [0, 300])
    def test_nothing_is_later_than_a_step(self, speed: float, idle_sec: float, merge_ms: int) -> None:
        world = World(None, speed, merge_ms)
        world.turn()
        late_ms: list[int] = []
        turns = 0
        while world.market.now_ms() < BEGIN_MS + 60_000:
            nap_sec = world.pace.nap_sec(faults=False)
            assert STEP_SEC <= nap_sec <= idle_sec
            due_ms = min(world.market.next_ms, world.opend.depth.next_ms)
            told = len(world.arrived)
            world.turn(nap_sec)
            turns += 1
            late_ms += [world.market.now_ms() - due_ms]
            late_ms += [at_ms - tick.recv_ts_ms for at_ms, tick in world.arrived[told:]]
        assert len(world.arrived) > 300
        assert max(late_ms) <= 1000 * STEP_SEC * speed + 1
        assert turns < 0.8 * 60 / STEP_SEC / speed

    def test_faults_and_recorded_days_are_looked_at_all_the_time(self, root: Path) -> None:
        assert World(None, 1.0).pace.nap_sec(faults=True) == STEP_SEC
        recorded = World(root, 1.0)
        recorded.turn()
        assert recorded.pace.nap_sec(faults=False) == STEP_SEC
        recorded.market.clock.jump(END_MS)
        recorded.turn()
        assert recorded.pace.nap_sec(faults=False) == 0


def write(root: Path, entries: Sequence[BookEntry]) -> Path:
    writer = BookWriter(root, SqliteOptions(), HK.trading_day, lambda: END_MS)
    writer.write(DAY, list(entries), sum(isinstance(entry, PushEntry) for entry in entries))
    writer.close()
    return book_file(root, DAY)


def pushed(at_ms: int, bid_ts_ms: int | None, *bids: Level) -> PushEntry:
    return PushEntry(BookPush(LEADER, at_ms * 1000, bid_ts_ms, None, Book(bids, ())))


def test_any_recorded_book_can_be_sent(tmp_path: Path) -> None:
    """Impossible levels are sent as they were recorded, as far as the wire has room for them."""
    odd: list[Level] = [(-1.0, -5, 2**40), (12.34567, 1 << 59, 0), (1e300, 0, 1)]
    path = write(
        tmp_path,
        [
            WatchBegan(LEADER, BEGIN_MS * 1000),
            pushed(BEGIN_MS + 1, BEGIN_MS, *odd),
            pushed(BEGIN_MS + 2, BEGIN_MS - 10**11, *odd),
            WatchEnded(LEADER, (BEGIN_MS + 3) * 1000, "right lost"),
        ],
    )
    depth = RecordedDepth([path])
    assert depth.next_ms == BEGIN_MS + 1
    first, second, ended = depth.step((), END_MS, frozenset([LEADER]), 10)
    assert [first.bid_ts_ms, second.bid_ts_ms] == [BEGIN_MS, 0]  # a clock's error is not sent on
    assert ended.depth == EMPTY
    for state in (first, second, ended):
        message = encode_book.book_push(state, "TENCENT")
        assert len(message.SerializeToString()) > 10
        assert len(message.s2c.orderBookBidList) == len(state.depth.bids)
    assert depth.newest(LEADER, 10) == ended
    assert depth.newest("HK.00005", 10).depth == EMPTY
    assert (depth.has_book(LEADER), depth.has_book("HK.00005"), depth.has_brokers) == (True, False, False)
