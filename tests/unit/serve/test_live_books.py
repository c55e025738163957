"""Readers of order books that are slow, a hub of them that nobody listens to, and books that went still long ago."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from hk_tick_collector.archive.books import keep_books
from hk_tick_collector.core.errors import StoreError
from hk_tick_collector.days.book_days import BookDays
from hk_tick_collector.market.hk import HK
from hk_tick_collector.records.book import Book, BookEntry, BookPush, PushEntry, WatchBegan, WatchEnded
from hk_tick_collector.serve.keys import ANONYMOUS
from hk_tick_collector.serve.live import hub as hubs
from hk_tick_collector.serve.live.frames import Frame
from hk_tick_collector.serve.live.hub import Hub, News, Readers
from hk_tick_collector.serve.live.question import subscription
from hk_tick_collector.serve.live.session import Session
from hk_tick_collector.store import book_reader
from hk_tick_collector.store.book_file import open_for_writing
from hk_tick_collector.store.book_follow import BookFollower
from hk_tick_collector.store.book_writer import BookWriter
from hk_tick_collector.store.connect import SqliteOptions
from hk_tick_collector.store.follow import Follower
from hk_tick_collector.store.followed import BOOKS
from hk_tick_collector.store.layout import book_file
from hk_tick_collector.store.position import Place, Position
from tests.books import DAY, OPEN_US, lively_pushes
from tests.unit.serve.test_live_model import Here

STILL, LOST, LIVELY = "HK.00005", "HK.09988", "HK.00700"


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[BookWriter]:
    with closing(BookWriter(tmp_path, SqliteOptions(), HK.trading_day, lambda: OPEN_US // 1000)) as writer:
        yield writer


def push(symbol: str, after_us: int, price: float) -> PushEntry:
    return PushEntry(BookPush(symbol, OPEN_US + after_us, None, None, Book(((price, 100, 1),), ())))


def write(writer: BookWriter, *entries: BookEntry) -> None:
    writer.write(DAY, entries, sum(isinstance(entry, PushEntry) for entry in entries))


async def reader(root: Path, **asked: Any) -> tuple[Hub, Session]:
    news = News()
    hub = Hub(root, news, kind="books", make=Here)
    await hub.begin()
    wanted = subscription({"kind": "book", **asked}, [hub], ANONYMOUS)
    session = Session(wanted, [hub], ANONYMOUS, news, Readers(make=Here), stopping=asyncio.Event())
    await session.open()
    return hub, session


def test_a_slow_reader_that_skips_pushes_is_told_every_book_and_says_so(
    writer: BookWriter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also the one that changed before all that the ring still has."""

    async def slow() -> list[dict[str, Any]]:
        hub, session = await reader(tmp_path, on_slow="conflate")
        write(writer, push(STILL, 1, 7.0))
        await hub.step(0, 0)
        assert hub.ring is not None
        hub.ring._max_bytes = 5000
        for n in range(5):
            write(writer, push(LIVELY, 2 + n, 400.0 + n))
            await hub.step(0, 0)
        monkeypatch.setattr("hk_tick_collector.serve.live.feed.LAGGING_SEC", -1.0)
        return [json.loads(event.data) for event in await session._step(session._feeds[0])]

    write(writer, WatchBegan(STILL, OPEN_US), push(STILL, 0, 6.8), push(LOST, 0, 80.0), WatchBegan(LOST, OPEN_US))
    lagging, snapshot = asyncio.run(slow())
    assert (lagging["type"], snapshot["type"], snapshot["conflated"]) == ("lagging", "snapshot", True)
    assert snapshot["prev"] == lagging["cursor"]
    assert {row[1]: row[9] for row in snapshot["books"]} == {
        STILL: [[7.0, 100, 1]], LOST: [[80.0, 100, 1]], LIVELY: [[404.0, 100, 1]],
    }  # fmt: skip


@pytest.mark.parametrize("levels", [10, 500])
def test_the_ring_knows_what_deep_books_cost(writer: BookWriter, tmp_path: Path, levels: int) -> None:
    """Its bound is of memory, and a right to the whole book shows hundreds of levels."""

    def cost_bytes(value: Any) -> int:
        return sys.getsizeof(value) + (sum(map(cost_bytes, value)) if isinstance(value, tuple) else 0)

    async def followed() -> Frame:
        hub = Hub(tmp_path, News(), kind="books", make=Here)
        await hub.begin()
        write(writer, PushEntry(BookPush(LIVELY, OPEN_US + 1, None, None, Book(side(-1), side(1)))))
        await hub.step(0, 0)
        assert hub.ring is not None
        (frame,) = hub.ring.take(0, 1)
        return frame

    def side(step: int) -> tuple[tuple[float, int, int], ...]:
        return tuple((400.0 + step * (1 + n) / 10, 1000 + n, 300 + n) for n in range(levels))

    write(writer, push(STILL, 0, 6.8))
    frame = asyncio.run(followed())
    assert 0.5 < cost_bytes(frame.rows[0]) / frame.size_bytes < 1.2


def test_files_rest_when_nobody_listens_and_are_opened_again(
    writer: BookWriter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def listen() -> None:
        hub = Hub(tmp_path, News(), kind="books", make=Turning)
        for price in (6.8, 7.0):
            write(writer, push(STILL, 0, price))
            hub.enter()
            while hub.ring is None:
                await asyncio.sleep(0)
            assert hub.known[STILL][-2] == ((price, 100, 1),)
            await hub.rest()
            assert hub.ring is not None, "somebody listens"
            hub.leave()
            await hub.rest()
            assert hub.ring is not None, "somebody has listened just now"
            monkeypatch.setattr(hubs, "REST_SEC", 0.0)
            await hub.rest()
            assert hub.ring is None
            monkeypatch.undo()
        await hub.close()

    asyncio.run(listen())


def test_a_book_that_was_lost_while_the_files_rested_is_not_shown(
    writer: BookWriter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def listen() -> set[str]:
        hub = Hub(tmp_path, News(), kind="books", make=Turning)
        hub.enter()
        while hub.ring is None:
            await asyncio.sleep(0)
        hub.leave()
        monkeypatch.setattr(hubs, "REST_SEC", 0.0)
        await hub.rest()
        write(writer, WatchEnded(LOST, OPEN_US + 1000, "connection lost"))
        hub.enter()
        while hub.ring is None:
            await asyncio.sleep(0)
        await hub.close()
        return set(hub.known)

    began = [WatchBegan(symbol, OPEN_US) for symbol in (STILL, LOST)]
    write(writer, *began, push(STILL, 0, 6.8), push(LOST, 0, 80.0))
    assert asyncio.run(listen()) == {STILL}


def test_the_book_of_a_symbol_that_went_still_or_was_lost_long_ago(writer: BookWriter, tmp_path: Path) -> None:
    """In a file that has the index of breaks, and in one of an earlier version."""
    began = [WatchBegan(symbol, OPEN_US) for symbol in (STILL, LOST)]
    write(writer, *began, push(STILL, 1, 6.8), push(LOST, 2, 80.0), push(STILL, 3, 6.9))
    hour_us = 3_600_000_000
    later = [
        push._replace(recv_ts_us=push.recv_ts_us + hour_us) for push in lively_pushes((LIVELY,), 300, step_us=10**6)
    ]
    write(writer, *map(PushEntry, later))
    write(writer, WatchEnded(LOST, OPEN_US + 2 * hour_us, "connection lost"), push(LIVELY, 2 * hour_us, 1.0))
    path = book_file(tmp_path, DAY)
    expected = {state.symbol: state for state in book_reader.states(path)}
    del expected[LOST]
    for _ in range(2):
        with BookFollower(tmp_path) as follower:
            known_of = follower.known(follower.end())
            assert {symbol: known.state for symbol, known in known_of.items()} == expected
            assert known_of.keys() == {STILL, LIVELY}
            (only,) = follower.known(follower.end(back_rows=302), frozenset({LOST})).values()
            assert only.state.book == Book(((80.0, 100, 1),), ())
        with closing(open_for_writing(path, SqliteOptions())) as conn:
            conn.execute("DROP INDEX IF EXISTS breaks")


def test_a_day_that_was_put_away_is_over_for_who_read_it_to_its_end(writer: BookWriter, tmp_path: Path) -> None:
    write(writer, push(STILL, 0, 6.8), push(STILL, 1, 6.9))
    writer.close()
    with Follower(tmp_path, kind=BOOKS) as follower:
        end, middle = follower.end(), follower.end(back_rows=1)
    days = BookDays(tmp_path, tmp_path / "_archive")
    assert not days.was_end(end.places[0]), "nothing says so"
    keep_books(tmp_path, DAY, 0)
    assert days.passed_over("") == []
    days._entry = lambda *_: _Entry()  # type: ignore[assignment,method-assign,return-value]
    assert (days.was_end(end.places[0]), days.was_end(middle.places[0])) == (True, False)
    days._entry = _refuse  # type: ignore[assignment,method-assign]
    assert not days.was_end(Place(DAY, 2))
    with pytest.raises(ValueError, match="not a position"):
        Position.parse(str(Position()), BOOKS.name)


class Turning(Here):
    """Gives others their turn."""

    async def ask(self, question: str, *arguments: Any) -> Any:
        await asyncio.sleep(0)
        return await super().ask(question, *((*arguments[:-2], 0, 0) if question == "tail" else arguments))


class _Entry:
    records = 2


def _refuse(*_: object) -> None:
    raise StoreError("cannot be read")


def test_a_book_ends_with_its_day_also_where_its_recorder_was_killed(tmp_path: Path) -> None:
    """What a hub knows is what the files say is known at its head, for however long it has run."""

    async def days_on() -> None:
        writer = BookWriter(tmp_path, SqliteOptions(), HK.trading_day, lambda: OPEN_US // 1000)
        write(writer, push(STILL, 1, 7.0), push(LIVELY, 2, 400.0))
        hub = Hub(tmp_path, News(), kind="books", make=Here)
        await hub.begin()
        assert set(hub.known) == {STILL, LIVELY}
        for number, day in enumerate(("20261123", "20261124", "20261125"), 3):
            writer.abandon()  # nobody ends its day
            after_us = number * 86_400_000_000
            now_ms = (OPEN_US + after_us) // 1000
            writer = BookWriter(tmp_path, SqliteOptions(), HK.trading_day, lambda now_ms=now_ms: now_ms)
            writer.write(day, [push(LIVELY, after_us, 400.0 + number)], 1)
            while await hub.step(0, 0):
                assert hub.ring is not None
                assert isinstance(hub.ring.head, Position)
                with BookFollower(tmp_path, days_look_sec=0) as from_files:
                    known = from_files.known(hub.ring.head)
                assert {symbol: row[0] for symbol, row in hub.known.items()} == {
                    symbol: newest.update_no for symbol, newest in known.items()
                }
            assert hub.known[LIVELY][3] == day
        assert set(hub.known) == {LIVELY}
        writer.close()
        await hub.close()

    asyncio.run(days_on())
