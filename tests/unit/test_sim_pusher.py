"""The push path on a real exchange: what is pushed, to whom, and what each fault makes of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from hk_tick_collector.market.hk.sessions import day_start_ms
from hk_tick_collector.opend_sim import encode, pb, wire
from hk_tick_collector.opend_sim.exchange import Exchange, MarketConfig
from hk_tick_collector.opend_sim.faults import FaultState, parse_fault
from hk_tick_collector.opend_sim.market_feed import MarketFeed
from hk_tick_collector.opend_sim.oddities import Oddities
from hk_tick_collector.opend_sim.opend import SUB_TICKER, OpenD, SimSettings
from hk_tick_collector.opend_sim.pusher import Pusher
from hk_tick_collector.opend_sim.session import EncodedPush
from hk_tick_collector.opend_sim.simclock import SimClock
from hk_tick_collector.opend_sim.simtick import SimTick
from hk_tick_collector.opend_sim.venue import HK
from tests.clock import ManualClock

START_MS = day_start_ms("20261120") + 10 * 3_600_000
SYMBOLS = ["HK.00700", "HK.00005", "HK.01299"]
_response = pb.load("Qot_UpdateTicker").Response


@dataclass
class Inbox:
    """What one client was sent."""

    messages: list[Any] = field(default_factory=list)
    frames: list[bytes] = field(default_factory=list)

    def push(self, pushes: Sequence[EncodedPush]) -> None:
        for push in pushes:
            frame = push.frame(wire.FMT_PROTOBUF, None)
            header = wire.decode_header(frame[: wire.HEADER_BYTES])
            message = _response()
            message.ParseFromString(wire.open_body(header, frame[wire.HEADER_BYTES :]))
            self.frames.append(frame)
            self.messages.append(message)

    def seqs(self, symbol: str = "HK.00700") -> list[int]:
        code = symbol[3:]
        return [t.sequence for m in self.messages if m.s2c.security.code == code for t in m.s2c.tickerList]


class World:
    """One OpenD with two clients, and a clock that is moved by hand."""

    def __init__(self, ticks_per_push: int = 0) -> None:
        self.clock = ManualClock(START_MS)
        self.market = MarketFeed(
            Exchange(MarketConfig(SYMBOLS, seed=5, rate_per_sec=100, always_open=True, history_ticks=100), START_MS),
            SimClock(START_MS, monotonic=self.clock.monotonic),
        )
        self.faults = FaultState(self.clock.monotonic, seed=1)
        self.opend = OpenD(SimSettings(ticks_per_push=ticks_per_push), self.market, self.faults)
        self.inboxes = {1: Inbox(), 2: Inbox()}
        self.pusher = Pusher(self.opend, self.inboxes, self.clock.monotonic)

    def subscribe(self, conn_id: int = 1, symbols: Sequence[str] = ("HK.00700",)) -> None:
        self.opend.book.subscribe(conn_id, [(s, SUB_TICKER) for s in symbols], 100, True)

    def fault(self, line: str) -> None:
        self.faults.begin(parse_fault(line.split()))

    def move(self, seconds: float, steps: int = 10, symbol: str = "HK.00700") -> list[SimTick]:
        """Let the market run; the ticks of one symbol that were made."""
        made: list[SimTick] = []
        for _ in range(steps):
            self.clock.advance(seconds / steps)
            ticks = self.market.step()
            made += [t for t in ticks if t.symbol == symbol]
            self.pusher.step(ticks)
        return made

    def messages(self) -> list[Any]:
        return self.inboxes[1].messages


@pytest.fixture
def world() -> World:
    world = World()
    world.subscribe()
    return world


def seqs_of(ticks: Sequence[SimTick]) -> list[int]:
    return [tick.seq for tick in ticks]


def test_every_tick_of_a_subscribed_symbol_is_pushed_in_order(world: World) -> None:
    made = world.move(2)
    assert len(made) > 20
    assert world.inboxes[1].seqs() == seqs_of(made)
    assert {m.s2c.security.code for m in world.messages()} == {"00700"}
    first = world.messages()[0].s2c.tickerList[0]
    assert first.time == encode.time_text(HK, made[0].ts_ms, made[0].has_ms)
    assert (first.price, first.volume, first.turnover) == (made[0].price, made[0].volume, made[0].turnover)
    assert first.pushDataType == encode.PUSH_REALTIME
    assert first.recvTime == made[0].recv_ts_ms / 1000


def test_the_same_frame_bytes_go_to_every_subscriber(world: World) -> None:
    world.subscribe(2)
    world.move(0.5)
    assert world.inboxes[1].frames
    assert [id(f) for f in world.inboxes[1].frames] == [id(f) for f in world.inboxes[2].frames]


@pytest.mark.parametrize("size", [1, 3])
def test_pushes_hold_at_most_so_many_ticks(size: int) -> None:
    world = World(ticks_per_push=size)
    world.subscribe()
    made = world.move(2, steps=2)
    assert max(len(m.s2c.tickerList) for m in world.messages()) == size
    assert world.inboxes[1].seqs() == seqs_of(made)


def test_the_first_push_is_the_newest_tick_from_the_cache(world: World) -> None:
    world.move(1)
    world.messages().clear()
    world.pusher.first_push(1, SYMBOLS)
    newest = {s: world.market.recent(s, 1)[0].seq for s in SYMBOLS}
    assert {s: world.inboxes[1].seqs(s) for s in SYMBOLS} == {s: [seq] for s, seq in newest.items()}
    tick = world.messages()[0].s2c.tickerList[0]
    assert (tick.pushDataType, tick.recvTime) == (encode.PUSH_CACHE, 0)
    assert not world.inboxes[2].messages


def test_a_wrong_first_push_is_an_old_tick_or_none_or_anothers(world: World) -> None:
    world.move(1)
    sent = []
    for kind in ("stale", "empty", "foreign"):
        world.messages().clear()
        world.fault(f"first-push next=1 kind={kind}")
        world.pusher.first_push(1, ["HK.00700"])
        sent.append(world.messages()[0])
    assert sent[0].s2c.tickerList[0].sequence == world.market.recent("HK.00700", 1000)[0].seq
    assert (sent[1].s2c.security.code, len(sent[1].s2c.tickerList)) == ("00700", 0)
    assert sent[2].s2c.security.code in ("00005", "01299")


def test_silence_is_for_its_symbol_and_its_time(world: World) -> None:
    world.subscribe(1, ["HK.00005"])
    world.fault("silent symbol=HK.00700 seconds=1")
    world.move(0.9)
    assert world.inboxes[1].seqs() == []
    assert world.inboxes[1].seqs("HK.00005")
    world.move(0.2)
    world.messages().clear()
    made = world.move(0.5)
    assert world.inboxes[1].seqs() == seqs_of(made)


def test_skipped_pushes_are_lost_but_stay_in_the_cache(world: World) -> None:
    world.fault("skip next=2")
    made = world.move(2)
    pushed = world.inboxes[1].seqs()
    assert len(made) - len(pushed) > 0
    assert set(pushed) < set(seqs_of(made))
    assert seqs_of(world.market.recent("HK.00700", len(made))) == seqs_of(made)
    assert world.faults.hit_counts == {"skip": 2}


def test_twice_means_the_same_push_again(world: World) -> None:
    world.fault("twice")
    made = world.move(0.5)
    seqs = world.inboxes[1].seqs()
    assert sorted(seqs) == sorted(seqs_of(made) * 2)


def test_disorder_mixes_but_loses_nothing(world: World) -> None:
    world.fault("disorder")
    made = world.move(2)
    world.faults.end()
    made += world.move(2)
    seqs = world.inboxes[1].seqs()
    assert seqs != sorted(seqs)
    assert sorted(seqs) == seqs_of(made)


def test_late_pushes_come_after_their_delay(world: World) -> None:
    world.fault("late ms=500")
    early = world.move(0.4)
    assert early
    assert world.inboxes[1].seqs() == []
    world.move(0.4)
    got = world.inboxes[1].seqs()
    assert got
    assert got == seqs_of(early)[: len(got)]
    world.faults.end()
    world.move(1)
    assert set(seqs_of(early)) < set(world.inboxes[1].seqs())


def test_unreadable_ticks_spoil_only_themselves(world: World) -> None:
    for kind in ("time", "nan", "negative", "enum", "zero-seq", "future", "turnover", "sign"):
        world.messages().clear()
        world.fault(f"unreadable every=5 kind={kind}")
        made = world.move(1)
        ticks = [t for m in world.messages() for t in m.s2c.tickerList]
        bad = {
            "time": [t for t in ticks if "xx" in t.time],
            "nan": [t for t in ticks if math.isnan(t.price)],
            "negative": [t for t in ticks if t.price < 0],
            "enum": [t for t in ticks if t.type == t.dir == encode.UNKNOWN_ENUM],
            "zero-seq": [t for t in ticks if t.sequence == 0],
            "future": [t for t in ticks if t.time.startswith("9999")],
            "turnover": [t for t in ticks if t.turnover > 1e299],
            "sign": [t for t in ticks if t.typeSign == encode.LONE_SURROGATE],
        }
        assert {k: len(v) for k, v in bad.items() if v} == {kind: len(made) // 5}
        world.faults.end()


def test_a_sequence_can_be_left_out(world: World) -> None:
    world.fault("no-sequence")
    world.move(0.5)
    assert world.messages()
    assert not any(t.HasField("sequence") for m in world.messages() for t in m.s2c.tickerList)


def test_after_losing_its_server_opend_gives_back_fifty_ticks(world: World) -> None:
    world.fault("lose-server")
    missed = world.move(4)
    assert len(missed) > 60
    assert not world.messages()
    assert not world.opend.qot_logined()
    world.faults.end()
    after = world.move(0.3)
    first = world.messages()[0].s2c.tickerList
    assert [t.sequence for t in first] == seqs_of(missed)[-50:]
    assert {t.pushDataType for t in first} == {encode.PUSH_BYDISCONN}
    assert world.inboxes[1].seqs()[50:] == seqs_of(after)


@pytest.mark.parametrize("line", ["hang", "logout", "kick-out", "right kind=bmp"])
def test_nothing_is_pushed_while_blocked(world: World, line: str) -> None:
    world.fault(line)
    world.move(0.5)
    world.pusher.first_push(1, ["HK.00700"])
    assert not world.messages()
    world.faults.end()
    assert world.move(0.5)
    assert world.messages()


def test_renumbering_changes_what_everyone_sees(world: World) -> None:
    before = world.move(0.5)
    world.market.renumber("restart")
    restarted = world.move(0.5)
    assert [t.seq & 0xFFFFFFFF for t in restarted] == list(range(1, len(restarted) + 1))
    world.market.renumber("second")
    by_second = world.move(2)
    counts = [(t.seq >> 32, t.seq & 0xFFFFFFFF) for t in by_second]
    assert all(count == 1 for (sec, count), (old, _) in zip(counts[1:], counts, strict=False) if sec != old)
    world.market.renumber("")
    assert world.inboxes[1].seqs() == seqs_of(before + restarted + by_second)
    assert seqs_of(world.market.recent("HK.00700", 1000))[-len(by_second) :] == seqs_of(by_second)


def test_each_command_to_renumber_begins_anew(world: World) -> None:
    for _ in range(2):
        command = object()
        world.market.renumber("restart", command)
        assert world.move(0.5)[0].seq & 0xFFFFFFFF == 1
        world.market.renumber("restart", command)
        assert world.move(0.5)[0].seq & 0xFFFFFFFF > 1


def test_odd_ticks_are_the_same_in_the_market_and_in_pushes() -> None:
    world = World()
    world.subscribe()
    world.market.alter = Oddities(world.faults).strike
    world.fault("backdate ms=10000 next=2 symbol=HK.00700")
    world.fault("twins next=3 symbol=HK.00700")
    made = world.move(1)
    assert world.market.recent("HK.00700", len(made)) == made
    assert world.inboxes[1].seqs() == seqs_of(made)
    assert [t.seq & 0xFFFFFFFF for t in made] == list(range(made[0].seq & 0xFFFFFFFF, (made[-1].seq & 0xFFFFFFFF) + 1))
    assert all(t.seq >> 32 == t.ts_ms // 1000 for t in made)
    assert any(t.recv_ts_ms - t.ts_ms >= 9000 for t in made)
    assert world.faults.hit_counts == {"backdate": 2, "twins": 3}
    assert world.faults.active_faults() == {}


def test_a_spoiled_tick_is_unreadable_in_pushes_and_stays_so() -> None:
    world = World()
    world.subscribe()
    world.market.alter = Oddities(world.faults).strike
    world.fault("spoil kind=nan next=1 symbol=HK.00700")
    made = world.move(1)
    pushed = [t.price for m in world.inboxes[1].messages for t in m.s2c.tickerList]
    assert [math.isnan(price) for price in pushed] == [True] + [False] * (len(made) - 1)
    assert [t.damage for t in world.market.recent("HK.00700", len(made))] == ["nan"] + [""] * (len(made) - 1)


def test_opend_may_forget_and_may_answer_as_of_some_time_ago() -> None:
    world = World()
    world.subscribe()
    made = world.move(2)
    then_ms = world.market.now_ms() - 1000
    assert world.market.recent_as_of("HK.00700", 5, then_ms) == [t for t in made if t.recv_ts_ms <= then_ms][-5:]
    world.market.exchange.forget()
    assert world.market.recent("HK.00700", 1000) == []
    later = world.move(1)
    assert world.market.recent("HK.00700", 1000) == later


def test_a_tick_is_in_no_answer_before_it_arrives() -> None:
    clock = ManualClock(START_MS)
    config = MarketConfig(SYMBOLS, seed=5, rate_per_sec=100, always_open=True, delay_ms=(200, 400), history_ticks=0)
    market = MarketFeed(Exchange(config, START_MS), SimClock(START_MS, monotonic=clock.monotonic))
    past = market.exchange.history()
    arrived: list[SimTick] = []
    for _ in range(100):
        clock.advance(0.02)
        arrived += market.step()
        now_ms = market.now_ms()
        for symbol in SYMBOLS:
            own = [t for t in past + arrived if t.symbol == symbol]
            assert market.recent(symbol, 1000) == own
            assert seqs_of(own) == sorted(seqs_of(own))
        assert all(t.recv_ts_ms <= now_ms for t in arrived)
        assert all(t.ts_ms <= now_ms - 200 for t in arrived)
    assert len(arrived) > 100
