"""What a reader that keeps up is sent at news, without waking its task: in order with all that the task sends, never to
a socket that takes nothing, and made into a frame once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import closing, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from websockets.frames import Frame, Opcode

from hk_tick_collector.serve.keys import ANONYMOUS
from hk_tick_collector.serve.live.counts import LiveCounts
from hk_tick_collector.serve.live.frames import Event
from hk_tick_collector.serve.live.hub import News
from hk_tick_collector.serve.live.outlet import Frames
from hk_tick_collector.serve.live.question import subscription
from hk_tick_collector.serve.live.session import Session
from hk_tick_collector.store.writer import DayFileWriter
from tests.unit.serve.test_live_model import World
from tests.unit.store_ticks import ticks


class Outlet:
    """Notes which way each message went."""

    def __init__(self) -> None:
        self.is_ready = True
        self.sent: list[tuple[str, dict[str, Any]]] = []

    def give(self, event: Event) -> None:
        assert self.is_ready
        self.note("at once", event)

    def note(self, way: str, event: Event) -> None:
        self.sent.append((way, json.loads(event.data)))

    def new(self) -> list[tuple[str, str]]:
        """Ways and types since the last question."""
        (sent, self.sent[:]) = (list(self.sent), [])
        self.all = [*getattr(self, "all", []), *sent]
        return [(way, message["type"]) for way, message in sent]


def played(tmp_path: Path, play: Callable[[World, Session, Outlet], Awaitable[None]]) -> Outlet:
    """A reader of a world, its task running, until ``play`` is over."""

    async def run(world: World) -> Outlet:
        outlet = Outlet()
        asked = subscription({"since": "now"}, [world.hub], ANONYMOUS)
        session = Session(
            asked, [world.hub], ANONYMOUS, world.news, world.readers, stopping=asyncio.Event(), outlet=outlet
        )
        await session.open()

        async def listen() -> None:
            async for event in session.events():
                outlet.note("task", event)

        task = asyncio.create_task(listen())
        await settled()
        assert outlet.new() == [("task", "welcome"), ("task", "caught_up")]
        await play(world, session, outlet)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        return outlet

    with closing(DayFileWriter(tmp_path)) as writer:
        writer.write(ticks(3, symbol="HK.00005"))
        world = World(tmp_path, writer, "all", 1 << 20)
        try:
            return asyncio.run(run(world))
        finally:
            asyncio.run(world.close())


async def settled() -> None:
    """Every task has done what it can without news."""
    for _ in range(20):
        await asyncio.sleep(0)


def test_who_keeps_up_is_given_rows_without_its_task_and_who_does_not_by_its_task(tmp_path: Path) -> None:
    async def play(world: World, session: Session, outlet: Outlet) -> None:
        for count, is_ready, way in ((5, True, "at once"), (4, False, "task"), (3, True, "at once")):
            outlet.is_ready = is_ready
            world.commit(count, "HK.00700")
            await world.step_hub()
            await settled()
            assert outlet.new() == [(way, "ticks")]

    messages = [message for _, message in played(tmp_path, play).all]
    assert [len(message.get("ticks", ())) for message in messages] == [0, 0, 5, 4, 3]
    assert all(later["prev"] == before["cursor"] for before, later in pairwise(messages))


def test_a_heartbeat_and_a_stop_are_still_told(tmp_path: Path) -> None:
    async def play(world: World, session: Session, outlet: Outlet) -> None:
        session._heartbeat_at_sec = 0.0
        world.news.tell()
        await settled()
        assert outlet.new() == [("task", "heartbeat")]
        session._stopping.set()
        world.commit(2, "HK.00700")
        await world.step_hub()
        await settled()
        assert outlet.new() == [("task", "bye")], "the rest is behind its cursor"

    played(tmp_path, play)


def test_rows_that_have_waited_for_long_are_the_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:

    async def play(world: World, session: Session, outlet: Outlet) -> None:
        monkeypatch.setattr("hk_tick_collector.serve.live.feed.LAGGING_SEC", -1.0)
        world.commit(2, "HK.00700")
        await world.step_hub()
        await settled()
        assert outlet.new()[0] == ("task", "ticks")

    played(tmp_path, play)


def test_a_socket_that_one_data_root_has_filled_gets_nothing_of_the_next(tmp_path: Path) -> None:
    """A reader of several markets: what a socket is given at once is one read of one data root."""

    class Small(Outlet):
        def give(self, event: Event) -> None:
            super().give(event)
            self.is_ready = False

    async def run(worlds: list[World]) -> list[tuple[str, str]]:
        outlet, news = Small(), worlds[0].news
        hubs = [world.hub for world in worlds]
        session = Session(
            subscription({"since": "now"}, hubs, ANONYMOUS), hubs, ANONYMOUS, news, worlds[0].readers,
            stopping=asyncio.Event(), outlet=outlet,
        )  # fmt: skip
        await session.open()
        events = session.events()
        assert [(await anext(events)).type for _ in range(2)] == ["welcome", "caught_up"]
        for world in worlds:
            world.commit(5, "HK.00700")
            await world.step_hub()
        session._heartbeat_at_sec = float("inf")
        assert not session._pass_on()
        outlet.note("task", await anext(events))
        return outlet.new()

    with closing(DayFileWriter(tmp_path / "a")) as first, closing(DayFileWriter(tmp_path / "b")) as second:
        worlds = []
        for name, writer in (("a", first), ("b", second)):
            writer.write(ticks(3, symbol="HK.00005"))
            worlds.append(World(tmp_path / name, writer, "all", 1 << 20))
        try:
            assert asyncio.run(run(worlds)) == [("at once", "ticks"), ("task", "ticks")]
        finally:
            for world in worlds:
                asyncio.run(world.close())


def test_what_is_wrong_with_a_reader_ends_that_reader_alone() -> None:
    async def run() -> tuple[list[Any], int]:
        news, heard = News(), 0

        def broken() -> bool:
            raise RuntimeError("this one")

        def hears() -> bool:
            nonlocal heard
            heard += 1
            return heard < 2

        waits = [asyncio.create_task(news.after(0, at_once)) for at_once in (broken, hears)]
        waits.append(asyncio.create_task(news.after(0)))
        await asyncio.sleep(0)
        news.tell()
        await asyncio.sleep(0)
        assert [wait.done() for wait in waits] == [True, False, True]
        news.tell()
        return await asyncio.gather(*waits, return_exceptions=True), heard

    ended, heard = asyncio.run(run())
    assert (str(ended[0]), ended[1:], heard) == ("this one", [None, None], 2)


def test_a_message_is_made_into_a_frame_once() -> None:
    class Connection:
        is_ready = True

        def __init__(self) -> None:
            self.frames: list[bytes] = []

        def write_frame(self, frame: bytes) -> None:
            self.frames.append(frame)

    counts, event = LiveCounts(), Event("ticks", b"{}" * 40_000, "C1")
    first, second = Connection(), Connection()
    for connection in (first, second):
        Frames(connection, counts).give(event)  # type: ignore[arg-type]
    assert first.frames[0] is second.frames[0]
    assert first.frames == [Frame(Opcode.TEXT, event.data).serialize(mask=False)]
    assert (counts.messages, counts.message_bytes) == (2, 160_000)
