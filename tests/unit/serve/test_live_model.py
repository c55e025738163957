"""The ring and the readers of the live channel against a list: random commits, days, cuts, slow readers, filters.

What a reader has been sent, over all its connections, is what the files hold, each row once and in the order stored;
every ``prev`` is the cursor before it. Real files and real sessions; the hub's thread is stepped by hand.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hk_tick_collector.core.facts import HeadProven, Verified
from hk_tick_collector.serve.keys import ANONYMOUS, Key
from hk_tick_collector.serve.live.files import Files
from hk_tick_collector.serve.live.frames import Event
from hk_tick_collector.serve.live.hub import Hub, News, Readers
from hk_tick_collector.serve.live.question import subscription
from hk_tick_collector.serve.live.ring import Ring
from hk_tick_collector.serve.live.session import Session
from hk_tick_collector.store.follow import Follower
from hk_tick_collector.store.position import Position
from hk_tick_collector.store.writer import DayFileWriter
from tests.nights import examples
from tests.unit.store_ticks import DAY, ticks

DAYS = (DAY, "20261123")
SYMBOLS = ("HK.00005", "HK.00700")
PIECE_ROWS = 7  # of one read for a reader behind the ring
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("commit"), st.integers(1, 40), st.sampled_from(SYMBOLS)),
        st.tuples(st.just("hub"), st.just(0), st.just("")),
        st.tuples(st.just("read"), st.integers(1, 6), st.just("")),
        st.tuples(st.just("news"), st.integers(0, 1), st.just("")),
        st.tuples(st.just("cut"), st.just(0), st.just("")),
        st.tuples(st.just("new_day"), st.just(0), st.just("")),
    ),
    max_size=40,
)


class Here:
    """Reads in this process."""

    def __init__(self) -> None:
        self.files = Files(days_look_sec=0, piece_rows={"ticks": PIECE_ROWS, "books": PIECE_ROWS})

    async def ask(self, question: str, *arguments: Any) -> Any:
        try:
            return getattr(self.files, question)(*arguments)
        finally:
            self.files.read_ahead()

    async def close(self) -> None:
        self.files.close()


class World:
    """A root, its hub stepped by hand, and one reader."""

    def __init__(self, root: Path, writer: DayFileWriter, wanted: str, ring_bytes: int) -> None:
        self.root, self.writer, self.wanted = root, writer, wanted
        self.made: list[tuple[str, int]] = []
        self.counts = dict.fromkeys([(day, symbol) for day in DAYS for symbol in SYMBOLS], 0)
        self.day = DAYS[0]
        self.news, self.readers = News(), Readers(make=Here)
        self.hub = Hub(root, self.news, make=Here)
        with Follower(root) as follower:
            self.hub.ring = Ring(follower.end(), max_bytes=ring_bytes)
        self.given: list[tuple[str, int]] = []
        self.cursor = str(Position.at_start_of(DAY))
        self.session: Session | None = None
        self.is_ready = True  # of the reader's outlet

    def give(self, event: Event) -> None:
        assert self.is_ready
        self.take(json.loads(event.data))

    def hear(self, *, is_ready: bool) -> None:
        """News, when the reader waits for some."""
        self.is_ready = is_ready
        if self.session is not None:
            self.session._heartbeat_at_sec = float("inf")
            had, is_waiting = len(self.given), self.session._pass_on()
            assert is_ready or (len(self.given), is_waiting) == (had, False)

    def commit(self, count: int, symbol: str) -> None:
        first = self.counts[self.day, symbol] + 1
        self.counts[self.day, symbol] += count
        self.writer.write(rows := ticks(count, first, symbol=symbol, day=self.day))
        self.made += [(symbol, row.seq or 0) for row in rows]

    async def step_hub(self) -> None:
        while await self.hub.step(0, 0):
            pass

    async def close(self) -> None:
        await self.hub.close()
        await self.readers.close()

    async def read(self, events: int) -> None:
        """Take some events, or what there is."""
        if self.session is None:
            asked = subscription({"symbols": self.wanted, "since": self.cursor}, [self.hub], ANONYMOUS)
            self.session = Session(
                asked, [self.hub], ANONYMOUS, self.news, self.readers, stopping=asyncio.Event(), outlet=self
            )
            await self.session.open()
            self.take(json.loads(self.session._welcome().data), is_first=True)
        for _ in range(events):
            for feed in self.session._feeds:
                for event in await self.session._step(feed):
                    self.take(json.loads(event.data))

    def take(self, message: dict[str, Any], *, is_first: bool = False) -> None:
        assert is_first or message["prev"] == self.cursor
        self.cursor = message["cursor"]
        for row in message.get("ticks", ()):
            self.given.append((row[1], int(row[7])))

    def expected(self) -> list[tuple[str, int]]:
        return [row for row in self.made if self.wanted in ("all", row[0])]


async def play(world: World, steps: list[tuple[str, int, str]]) -> None:
    for word, number, symbol in steps:
        if word == "commit":
            world.commit(number, symbol)
        elif word == "hub":
            await world.step_hub()
        elif word == "read":
            await world.read(number)
        elif word == "news":
            world.hear(is_ready=bool(number))
        elif word == "cut":
            world.session = None
        elif world.day == DAYS[0]:
            world.day = DAYS[1]
    for _ in range(3):
        await world.step_hub()
        await world.read(len(world.made) // PIECE_ROWS + 5)
    assert world.given == world.expected()
    assert world.session is not None
    assert all(feed.is_live for feed in world.session._feeds), "it has caught up, and reads the ring"


@settings(max_examples=examples(60), deadline=None, suppress_health_check=list(HealthCheck))
@given(STEPS, st.sampled_from(("all", "HK.00700")), st.sampled_from((4000, 1 << 20)))
def test_every_row_once_and_in_order(steps: list[tuple[str, int, str]], wanted: str, ring_bytes: int) -> None:
    with tempfile.TemporaryDirectory() as directory, closing(DayFileWriter(Path(directory))) as writer:
        writer.write(first := ticks(3))
        world = World(Path(directory), writer, wanted, ring_bytes)
        world.made += [(row.symbol, row.seq or 0) for row in first]
        world.counts[DAY, "HK.00700"] = 3
        try:
            asyncio.run(play(world, steps))
        finally:
            asyncio.run(world.close())


def test_a_reader_that_skips_ticks_is_told_everything_else() -> None:
    async def skip(world: World) -> list[dict[str, Any]]:
        asked = subscription({"since": "now", "on_slow": "conflate"}, [world.hub], ANONYMOUS)
        session = Session(asked, [world.hub], ANONYMOUS, world.news, world.readers, stopping=asyncio.Event())
        await session.open()
        world.commit(5, "HK.00700")
        await world.step_hub()
        writer.write([], proven("HK.00005", 3) + proven("HK.00700", 5))
        await world.hub.look_at_facts()
        (feed,) = session._feeds
        return [json.loads(event.data) for event in session._jumped(feed)]

    with tempfile.TemporaryDirectory() as directory, closing(DayFileWriter(Path(directory))) as writer:
        writer.write(ticks(3, symbol="HK.00005"))
        world = World(Path(directory), writer, "all", 1 << 20)
        try:
            told = asyncio.run(skip(world))
        finally:
            asyncio.run(world.close())
    assert [message["type"] for message in told] == ["coverage", "ticks"]
    assert [fact["state"] for fact in told[0]["symbols"]] == ["proven"] * 2
    assert (told[1]["prev"], told[1]["conflated"], len(told[1]["ticks"])) == (told[0]["cursor"], True, 1)


def proven(symbol: str, last: int) -> list[HeadProven | Verified]:
    """That the ticks of DAY from 1 to ``last`` are all there were, found out in the evening."""
    return [HeadProven(symbol, DAY, 1), Verified(symbol, DAY, last, ticks(1)[0].ts_ms + 8 * 3_600_000)]


async def completeness(root: Path, writer: DayFileWriter, *, begins_empty: bool) -> list[dict[str, Any]]:
    """What the first reader is told between two looks of the hub, as (type, state)."""
    hub, readers = Hub(root, News(), make=Here), Readers(make=Here)
    if begins_empty:
        await hub.begin()
    writer.write(ticks(3, symbol="HK.00700"))
    writer.write([], proven("HK.00700", 3))
    if not begins_empty:
        await hub.begin()
    asked = subscription({"symbols": "700", "since": "day"}, [hub], ANONYMOUS)
    session = Session(asked, [hub], ANONYMOUS, hub._news, readers, stopping=asyncio.Event())
    await session.open()
    (feed,) = session._feeds
    session._heartbeat_at_sec = float("inf")
    told: list[dict[str, Any]] = []

    async def read() -> None:
        for _ in range(4):
            events = [*await session._step(feed), *session._beside(has_all=feed.has_all)]
            told.extend([json.loads(event.data) for event in events])

    try:
        await read()
        while await hub.step(0, 0):
            pass
        await hub.look_at_facts()
        await read()
    finally:
        await hub.close()
        await readers.close()
    return told


@pytest.mark.parametrize("begins_empty", [False, True])
def test_the_first_reader_is_told_what_is_known_of_completeness(tmp_path: Path, begins_empty: bool) -> None:
    """Before it has caught up; or, when the first file of all came only after that, as soon as it is read."""
    with closing(DayFileWriter(tmp_path)) as writer:
        told = asyncio.run(completeness(tmp_path, writer, begins_empty=begins_empty))
    words = [message["type"] for message in told]
    assert sorted(words) == ["caught_up", "coverage", "ticks"]
    assert begins_empty or words.index("coverage") < words.index("caught_up")
    (coverage,) = [message for message in told if message["type"] == "coverage"]
    assert [(fact["symbol"], fact["state"]) for fact in coverage["symbols"]] == [("HK.00700", "proven")]


def test_a_connection_that_wants_nothing_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    from hk_tick_collector.serve.live import websocket  # noqa: PLC0415
    from hk_tick_collector.serve.problems import Problem  # noqa: PLC0415

    class Silent:
        async def next(self, _operation: str) -> dict[str, Any]:
            await asyncio.Event().wait()
            return {}

    monkeypatch.setattr(websocket, "SUBSCRIBE_SEC", 0.01)
    with pytest.raises(Problem, match="no subscribe came"):
        asyncio.run(websocket._first_wish(Silent()))  # type: ignore[arg-type]


def test_a_ring_takes_no_frame_that_does_not_follow() -> None:
    from hk_tick_collector.serve.live.frames import Frame  # noqa: PLC0415

    with pytest.raises(AssertionError, match="does not follow"):
        Ring(Position()).append(Frame(Position("20261120"), Position("20261121")))


def test_a_key_with_patterns_may_not_name_others() -> None:
    from hk_tick_collector.serve.problems import Problem  # noqa: PLC0415

    key = Key("abcdefgh", "tests", ("live",), ("HK.00700",))
    hub = Hub(Path("/nonexistent"), News())
    assert subscription({"symbols": "700"}, [hub], key).symbols == {0: frozenset({"HK.00700"})}
    with pytest.raises(Problem, match=r"may not read HK\.00005"):
        subscription({"symbols": ["700", "5"]}, [hub], key)


@pytest.mark.parametrize("on_slow", ["catch_up", "conflate", "close"])
def test_a_slow_reader_gets_what_it_asked_for(on_slow: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from hk_tick_collector.serve.live import session as sessions  # noqa: PLC0415
    from hk_tick_collector.serve.live.counts import LiveCounts  # noqa: PLC0415

    counts = LiveCounts()

    async def slow(world: World) -> list[dict[str, Any]]:
        asked = subscription({"since": "now", "on_slow": on_slow}, [world.hub], ANONYMOUS)
        session = Session(
            asked, [world.hub], ANONYMOUS, world.news, world.readers, stopping=asyncio.Event(), counts=counts
        )
        await session.open()
        for symbol in SYMBOLS:
            world.commit(5, symbol)
        await world.step_hub()
        monkeypatch.setattr(
            "hk_tick_collector.serve.live.feed.LAGGING_SEC", -1.0
        )  # the frame waits for longer than that
        monkeypatch.setattr(sessions, "MAX_LAG_SEC", -1.0)
        told = session._lag()
        assert session._lag() == [], "it is said once"
        (feed,) = session._feeds
        told += await session._step(feed)
        assert (feed.number, session.lag.rows) == (world.hub.ring.end, 0)  # type: ignore[union-attr]
        return [json.loads(event.data) for event in told]

    with tempfile.TemporaryDirectory() as directory, closing(DayFileWriter(Path(directory))) as writer:
        writer.write(ticks(3))
        world = World(Path(directory), writer, "all", 1 << 20)
        world.counts[DAY, "HK.00700"] = 3
        try:
            if on_slow == "close":
                with pytest.raises(sessions.SlowReader):
                    asyncio.run(slow(world))
                assert counts.slow_closed == 1
                return
            lagging, got = asyncio.run(slow(world))
        finally:
            asyncio.run(world.close())
    assert (lagging["type"], lagging["behind_rows"]) == ("lagging", 10)
    assert got["prev"] == lagging["cursor"]
    if on_slow == "conflate":
        assert (sorted(row[1] for row in got["ticks"]), got["conflated"], got["behind_rows"]) == ([*SYMBOLS], True, 10)
        assert counts.left_out_ticks == 8
    else:
        assert len(got["ticks"]) == 10


def test_readers_with_equal_wishes_share_a_message_and_others_do_not(tmp_path: Path) -> None:
    async def share(world: World) -> list[bytes]:
        data = []
        for wish in ({"symbols": "700,5"}, {"symbols": ["HK.00005", "HK.00700"]}, {"symbols": "700"}):
            asked = subscription({"since": "now", **wish}, [world.hub], ANONYMOUS)
            session = Session(asked, [world.hub], ANONYMOUS, world.news, world.readers, stopping=asyncio.Event())
            await session.open()
            data.append(session)
        world.commit(5, "HK.00700")
        await world.step_hub()
        return [(await session._step(session._feeds[0]))[0].data for session in data]

    with closing(DayFileWriter(tmp_path)) as writer:
        writer.write(ticks(3, symbol="HK.00005"))
        world = World(tmp_path, writer, "all", 1 << 20)
        first, second, third = asyncio.run(share(world))
        asyncio.run(world.close())
    assert first is second, "made once"
    assert third == first
    assert third is not first
