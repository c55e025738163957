"""Order books of the simulator: made with their prints, the same whoever looks when, and spoiled on command only."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hk_tick_collector.market.hk.sessions import day_start_ms
from hk_tick_collector.opend_sim import encode_book, pb, wire
from hk_tick_collector.opend_sim.book_pusher import BookPusher
from hk_tick_collector.opend_sim.depth import Depth, DepthModel, Level, brokers_of, orders_of, takes_from_book
from hk_tick_collector.opend_sim.depth_feed import DepthFeed, DepthState
from hk_tick_collector.opend_sim.depth_truth import DepthTruthWriter, Fated, read_depth_truth
from hk_tick_collector.opend_sim.exchange import Exchange, MarketConfig
from hk_tick_collector.opend_sim.faults import FaultState, parse_fault
from hk_tick_collector.opend_sim.market_feed import MarketFeed
from hk_tick_collector.opend_sim.opend import SUB_BROKER, SUB_ORDER_BOOK, OpenD, SimSettings
from hk_tick_collector.opend_sim.prints import AUCTION
from hk_tick_collector.opend_sim.pusher import Pusher
from hk_tick_collector.opend_sim.session import EncodedPush
from hk_tick_collector.opend_sim.simclock import SimClock
from hk_tick_collector.opend_sim.simtick import SimTick
from hk_tick_collector.opend_sim.truth import TruthError
from tests.clock import ManualClock
from tests.opend_inbox import Inbox

LEADER = "HK.00700"
SYMBOLS = [LEADER, "HK.00005"]
OPENING_MS = day_start_ms("20261120") + 9 * 3_600_000
START_MS = OPENING_MS + 3_600_000
_PROTOS = {3013: pb.load("Qot_UpdateOrderBook").Response, 3015: pb.load("Qot_UpdateBroker").Response}


def market(seed: int = 3, rate_per_sec: float | None = 40) -> tuple[ManualClock, MarketFeed]:
    clock = ManualClock(START_MS)
    config = MarketConfig(SYMBOLS, seed=seed, rate_per_sec=rate_per_sec, always_open=True, history_ticks=50)
    return clock, MarketFeed(Exchange(config, START_MS), SimClock(START_MS, monotonic=clock.monotonic))


@cache
def day_of_prints() -> tuple[dict[str, DepthModel], list[SimTick]]:
    """From the opening auction into continuous trading, at the market's own rhythm."""
    exchange = Exchange(MarketConfig(SYMBOLS, seed=4, history_ticks=0), OPENING_MS)
    models = {symbol: DepthModel(instrument, 4, 10) for symbol, instrument in exchange.instruments.items()}
    return models, exchange.advance(OPENING_MS + 31 * 60_000)


def test_a_print_executes_at_the_touch_of_the_book_before_it() -> None:
    models, ticks = day_of_prints()
    emptied = seen = 0
    for tick in ticks:
        if not takes_from_book(tick) or tick.tick_type == AUCTION or tick.direction == "NEUTRAL":
            continue
        before, after = models[tick.symbol].before(tick), models[tick.symbol].after(tick)
        met, left = (before.asks, after.asks) if tick.direction == "BUY" else (before.bids, after.bids)
        resting = met[0].volume - tick.volume
        assert met[0].price == tick.price
        if resting:
            assert (left[0].price, left[0].volume) == (tick.price, resting)
            assert left[1:] == met[1:]
        else:
            assert left[:9] == met[1:]  # the next price is the best one now, and an eleventh comes into view
            emptied += 1
        seen += 1
        for depth in (before, after):
            assert len(depth.bids) == len(depth.asks) == 10
            assert depth.bids[0].price < depth.asks[0].price
            assert list(depth.bids) == sorted(depth.bids, reverse=True)
            assert list(depth.asks) == sorted(depth.asks)
    assert seen > 100
    assert 0.1 < emptied / seen < 0.25


def test_orders_rest_across_until_an_auction_matches_them() -> None:
    models, ticks = day_of_prints()
    auctions = [tick for tick in ticks if tick.tick_type == AUCTION]
    assert auctions
    for tick in auctions:
        before, after = models[tick.symbol].before(tick), models[tick.symbol].after(tick)
        assert before.bids[0].price > tick.price > before.asks[0].price
        assert after.bids[0].price < after.asks[0].price


def states_of(slices: Iterable[float], watch_from_sec: float = 0.0) -> list[DepthState]:
    """The leader's states of five seconds, in steps of so many seconds each."""
    clock, feed = market(rate_per_sec=None)
    depth = DepthFeed(feed, seed=3)
    states: list[DepthState] = []
    passed_sec = 0.0
    for step_sec in slices:
        clock.advance(step_sec)
        passed_sec += step_sec
        wanted = frozenset([LEADER] if passed_sec >= watch_from_sec else [])
        states += depth.step(feed.step(), feed.now_ms(), wanted, 10)
    return states


def test_books_depend_neither_on_how_time_is_sliced_nor_on_when_somebody_looks() -> None:
    fine, coarse = states_of([0.005] * 4000), states_of([0.5] * 40)
    assert fine == coarse
    assert len(fine) > 100
    late = states_of([0.005] * 4000, watch_from_sec=10.0)
    assert [s.depth for s in late[2:]] == [s.depth for s in fine[-len(late) + 2 :]]


def test_the_time_of_a_side_is_when_it_last_changed_and_never_goes_back() -> None:
    states = states_of([0.1] * 200)
    bid_ts_ms = ask_ts_ms = 0
    depth = states[0].depth
    for number, state in enumerate(states[1:], start=2):
        assert state.number == number
        assert (state.bid_ts_ms > 0, state.ask_ts_ms > 0) >= (bid_ts_ms > 0, ask_ts_ms > 0)
        assert state.bid_ts_ms >= bid_ts_ms
        assert state.ask_ts_ms >= ask_ts_ms
        assert state.depth.bids != depth.bids or state.bid_ts_ms in (bid_ts_ms, states[0].bid_ts_ms)
        bid_ts_ms, ask_ts_ms, depth = state.bid_ts_ms, state.ask_ts_ms, state.depth
    assert START_MS < bid_ts_ms <= START_MS + 20_000


def test_the_queue_of_brokers_follows_the_levels() -> None:
    levels = (Level(10.0, 500, 2), Level(10.01, 300, 9))
    queue = brokers_of(levels)
    assert [broker.position for broker in queue] == [1, 1, 2, 2, 2, 2]
    assert sum(volume for _, volume in orders_of(levels[1], 7)) == 300
    assert len(brokers_of(tuple(Level(1.0 + i, 900, 9) for i in range(40)))) == 40


class BookInbox(Inbox):
    def books(self) -> list[Depth]:
        return [Depth(_levels(s2c.orderBookBidList), _levels(s2c.orderBookAskList)) for s2c in self.of(3013)]


def _levels(sent: Any) -> tuple[Level, ...]:
    return tuple(Level(line.price, line.volume, line.orederCount) for line in sent)


class World:
    """One OpenD with a client that subscribed the leader's book, and a clock that is moved by hand."""

    def __init__(self, truth: Path, **settings: Any) -> None:
        self.clock, self.market = market()
        self.faults = FaultState(self.clock.monotonic, seed=1)
        self.opend = OpenD(SimSettings(seed=3, **settings), self.market, self.faults)
        self.inbox = BookInbox(_PROTOS)
        self.pusher = Pusher(self.opend, {1: self.inbox}, self.clock.monotonic)
        self.books = BookPusher(self.opend, self.pusher, DepthTruthWriter(truth))
        self.truth = truth

    def subscribe(self, *sub_types: int) -> None:
        self.opend.book.subscribe(1, [(LEADER, sub_type) for sub_type in sub_types], 100, True)

    def fault(self, line: str) -> None:
        self.faults.begin(parse_fault(line.split()))

    def move(self, seconds: float = 1.0, steps: int = 20) -> None:
        for _ in range(steps):
            self.clock.advance(seconds / steps)
            self.books.step(self.market.step())

    def fates(self) -> list[Fated]:
        return list(read_depth_truth(self.truth))


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path / "books.csv")
    world.subscribe(SUB_ORDER_BOOK)
    return world


def test_every_state_is_pushed_in_order_and_stands_in_the_truth_file(world: World) -> None:
    world.move()
    fates = world.fates()
    assert {fate for _, fate, _ in fates} == {"sent"}
    assert [state.depth for state, _, _ in fates] == world.inbox.books()
    assert [state.number for state, _, _ in fates] == list(range(1, len(fates) + 1))
    assert len(fates) > 40
    last = world.inbox.of(3013)[-1]
    assert round(last.svrRecvTimeBidTimestamp * 1000) == fates[-1].state.bid_ts_ms
    assert (last.security.code, last.name, last.orderBookType) == ("00700", "TENCENT", 0)


def test_no_book_is_made_of_what_nobody_subscribed(tmp_path: Path) -> None:
    world = World(tmp_path / "books.csv")
    world.opend.depth = SimpleNamespace(plays_along=False)  # type: ignore[assignment]  # whoever asks it more fails
    world.move()
    world.subscribe(SUB_ORDER_BOOK)
    with pytest.raises(AttributeError):
        world.move()


def test_the_first_push_is_the_cached_book_without_times(world: World) -> None:
    world.books.first_push(1, [LEADER], SUB_ORDER_BOOK)
    (first,) = world.inbox.of(3013)
    assert (first.svrRecvTimeBid, first.svrRecvTimeBidTimestamp, first.svrRecvTimeAsk) == ("", 0, "")
    assert len(first.orderBookBidList) == len(first.orderBookAskList) == 10


def test_in_a_merge_interval_the_newest_book_is_sent_and_the_others_are_marked(tmp_path: Path) -> None:
    world = World(tmp_path / "books.csv", book_merge_ms=200)
    world.subscribe(SUB_ORDER_BOOK)
    world.move(2.0, steps=400)
    fates = world.fates()
    sent = [state for state, fate, _ in fates if fate == "sent"]
    assert 8 <= len(sent) <= 11
    assert [state.depth for state in sent] == world.inbox.books()
    assert [state.number for state, _, _ in fates] == list(range(1, len(fates) + 1))
    assert len(fates) > 5 * len(sent)


@pytest.mark.parametrize(("right", "levels"), [("sf", 40), ("level2", 10), ("level1", 1)])
def test_the_right_says_how_many_levels_are_seen(tmp_path: Path, right: str, levels: int) -> None:
    world = World(tmp_path / "books.csv", right=right)
    world.subscribe(SUB_ORDER_BOOK, SUB_BROKER)
    world.opend.detailed[1] = {LEADER}
    world.move()
    book, queue = world.inbox.of(3013)[-1], world.inbox.of(3015)[-1]
    assert len(book.orderBookBidList) == levels
    assert queue.brokerBidList[-1].pos <= levels
    for line in book.orderBookBidList:
        with_orders = [detail.volume for detail in line.detailList]
        assert len(with_orders) == (line.orederCount if right == "sf" else 0)
        assert sum(with_orders) in (0, line.volume)
    assert queue.brokerBidList[0].HasField("orderID") is (right == "sf")
    world.fault("right kind=bmp")
    before = len(world.inbox.messages)
    world.move()
    assert len(world.inbox.messages) == before
    assert world.fates()[-1].fate == "lost"


def test_a_push_of_parts_is_the_message_in_every_format() -> None:
    """Most of a push was encoded before; who speaks JSON, or encrypts, gets the same message."""
    world = market()[1]
    depth = DepthFeed(world, seed=3)
    states = depth.step(world.step(START_MS + 20_000), START_MS + 20_000, frozenset(SYMBOLS), 10)
    odd = Depth((Level(-1.0, -5, 2**31 - 1), Level(12.34567, 1 << 59, 0)), ())
    states = [*states[:50], DepthState(LEADER, 1, odd, START_MS, 0), DepthState("US.BRK.B", 1, odd, 0, 0)]
    cipher = wire.AesCipher(wire.ENC_AES_CBC, "k" * 16, "v" * 16)
    for state in states:
        message = encode_book.book_push(state, "TENCENT")
        body = encode_book.book_body(state, "TENCENT")
        assert encode_book.read_push(body) == message
        push = EncodedPush(3013, 1, encode_book.read_push, body)
        assert push.frame(wire.FMT_PROTOBUF, None)[wire.HEADER_BYTES :] == body
        assert push.frame(wire.FMT_JSON, None) == EncodedPush(3013, 1, message).frame(wire.FMT_JSON, None)
        assert cipher.decrypt(push.frame(wire.FMT_PROTOBUF, cipher)[wire.HEADER_BYTES :]) == body


def test_single_orders_of_a_side_are_at_most_a_thousand() -> None:
    levels = tuple(Level(10.0 + i, 100_000, 600) for i in range(3))
    s2c = encode_book.book_push(DepthState(LEADER, 1, Depth(levels, ()), 0, 0), "TENCENT", True).s2c
    assert [len(line.detailList) for line in s2c.orderBookBidList] == [600, 400, 0]


def crossed(book: Depth) -> bool:
    return book.bids[0].price > book.asks[0].price


@pytest.mark.parametrize(
    ("line", "shows"),
    [
        ("book-cross", crossed),
        ("book-one-sided", lambda book: not book.bids and len(book.asks) == 10),
        ("book-one-sided kind=no-ask", lambda book: not book.asks and len(book.bids) == 10),
        ("book-unsorted", lambda book: book.bids[0].price < book.bids[1].price),
        ("book-repeat", lambda book: book.bids[0] == book.bids[1]),
        ("book-no-volume", lambda book: book.bids[0].volume == 0),
    ],
)
def test_a_damaged_book_is_damaged_once_and_said(world: World, line: str, shows: Any) -> None:
    world.move()
    assert not any(shows(book) for book in world.inbox.books())
    world.fault(f"{line} next=3")
    world.move()
    assert sum(shows(book) for book in world.inbox.books()) == 3
    fates = world.fates()
    assert [damage for _, _, damage in fates if damage] == [line.split(maxsplit=1)[0]] * 3
    assert [state.depth for state, _, _ in fates] == world.inbox.books()
    assert not shows(world.opend.depth.newest(LEADER, 10).depth)


def test_books_are_lost_silenced_repeated_and_timed_wrongly_on_command(world: World) -> None:
    world.fault("book-drop next=5")
    world.move()
    assert [fate for _, fate, _ in world.fates()][:6] == ["lost"] * 5 + ["sent"]
    world.fault(f"book-freeze symbol={LEADER} seconds=1")
    pushed = len(world.inbox.messages)
    world.move(0.9)
    assert len(world.inbox.messages) == pushed
    world.clock.advance(0.2)
    world.fault("book-repeat kind=push next=1")
    world.move()
    books = world.inbox.books()[pushed:]
    assert books[0] == books[1]
    world.fault("book-zero-times next=1")
    world.move()
    assert any(s2c.svrRecvTimeBidTimestamp == 0 for s2c in world.inbox.of(3013)[-60:])
    world.fault("book-clock-back ms=60000 next=1")
    pushed = len(world.inbox.messages)
    world.move()
    times = [s2c.svrRecvTimeBidTimestamp for s2c in world.inbox.of(3013)[pushed - 1 :]]
    assert times[1] < times[0] - 50 < times[2]


def test_a_flood_makes_so_many_states_more(world: World) -> None:
    world.fault("book-flood limit=500")
    world.move()
    pushed = len(world.inbox.messages)
    world.move(2.0)
    assert 1000 <= len(world.inbox.messages) - pushed <= 1400


def test_a_truth_file_reads_back_and_a_damaged_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "books.csv"
    writer = DepthTruthWriter(path)
    fated = [
        Fated(DepthState(LEADER, 1, Depth((Level(620.2, 100, 1),), ()), 7, 0), "sent", "book-cross"),
        Fated(DepthState(LEADER, 2, Depth((), (Level(0.01, 5, 2), Level(0.011, 6, 3))), 7, 8), "merged"),
    ]
    writer.write(fated)
    writer.close()
    assert list(read_depth_truth(path)) == fated
    with path.open("a") as file:
        file.write("HK.00700,3,1,1,sent,,620:x:1,\nHK.")
    with pytest.raises(TruthError, match="line 4 is damaged"):
        list(read_depth_truth(path))
    (tmp_path / "other").write_text("symbol\n")
    with pytest.raises(TruthError, match="first line"):
        list(read_depth_truth(tmp_path / "other"))
