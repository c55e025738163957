"""Following order books: every committed state once and in order, from any position, over restarts and days."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hk_tick_collector.core.errors import StoreError
from hk_tick_collector.market.hk import HK
from hk_tick_collector.records.book import Book, BookEntry, BookPush, PushEntry, WatchBegan
from hk_tick_collector.store import book_reader
from hk_tick_collector.store.book_file import open_for_writing
from hk_tick_collector.store.book_follow import BookFollower
from hk_tick_collector.store.book_reader import BookState
from hk_tick_collector.store.book_writer import BookWriter
from hk_tick_collector.store.connect import SqliteOptions
from hk_tick_collector.store.follow import Follower, follow
from hk_tick_collector.store.followed import BOOKS
from hk_tick_collector.store.layout import book_file, set_aside_path
from hk_tick_collector.store.position import DayChanged, DayGone, Position
from tests.books import BOOKS as ANY_BOOK
from tests.books import DAY, OPEN_US
from tests.nights import examples

NEXT_DAY = "20261121"
SYMBOLS = ("HK.00700", "HK.00005", "HK.09988")
START = Position(kind=BOOKS.name)


class _Clock:
    def __init__(self) -> None:
        self.now_us = OPEN_US

    def now_ms(self) -> int:
        return self.now_us // 1000


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[BookWriter]:
    writer = _writer(tmp_path)
    yield writer
    writer.close()


def _writer(root: Path) -> BookWriter:
    return BookWriter(root, SqliteOptions(), HK.trading_day, _Clock().now_ms)


def _entries(count: int, first: int = 0) -> list[BookEntry]:
    pushes = [
        BookPush(SYMBOLS[n % 3], OPEN_US + n, None, OPEN_US // 1000, Book(((400 + n % 7, 100 * n, n),), ()))
        for n in range(first, first + count)
    ]
    return [PushEntry(push) for push in pushes]


def _rest(follower: BookFollower, position: Position, limit_rows: int = 7) -> tuple[list[BookState], Position]:
    states_read: list[BookState] = []
    while (batch := follower.read_behind(position, limit_rows)) is not None:
        assert 0 < len(batch.states) <= limit_rows
        states_read += batch.states
        position = batch.position
    return states_read, position


def _stored(root: Path, day: str = DAY) -> list[BookState]:
    return list(book_reader.states(book_file(root, day)))


def test_states_come_once_in_order_and_go_on_from_the_text_of_any_position(writer: BookWriter, tmp_path: Path) -> None:
    position, given, positions = START, [], [START]
    with BookFollower(tmp_path, days_look_sec=0) as follower:
        assert follower.read_behind(START) is None
        for first in range(0, 400, 40):
            writer.write(DAY, _entries(40, first), 40)
            states, position = _rest(follower, position)
            given += states
            positions.append(position)
    assert given == _stored(tmp_path)
    assert all(state.book is not None for state in given)
    for n, kept in enumerate(positions):
        with BookFollower(tmp_path, days_look_sec=0) as follower:
            assert _rest(follower, Position.parse(str(kept), BOOKS.name))[0] == given[40 * n :]


@settings(max_examples=examples(15), deadline=None)
@given(
    st.lists(
        st.tuples(st.lists(ANY_BOOK, min_size=1, max_size=4), st.booleans(), st.integers(1, 3)), min_size=1, max_size=8
    )
)
def test_any_states_in_any_cuts_over_restarts(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[list[Book], bool, int]]
) -> None:
    root = tmp_path_factory.mktemp("books")
    writer = _writer(root)
    states_read: list[BookState] = []
    position, at_us = START, OPEN_US
    follower = BookFollower(root, days_look_sec=0)
    for books, is_restart, limit_rows in steps:
        entries: list[BookEntry] = [WatchBegan(SYMBOLS[0], at_us)]
        for book in books:
            at_us += 1
            entries.append(PushEntry(BookPush(SYMBOLS[at_us % 2], at_us, None, None, book)))
        writer.write(DAY, entries, len(books))
        batch = follower.read_behind(position, limit_rows)  # behind what was left of the steps before
        assert batch is not None
        states_read, position = [*states_read, *batch.states], batch.position
        if is_restart:
            writer.close()
            writer = _writer(root)
            follower.close()
            follower, position = BookFollower(root, days_look_sec=0), Position.parse(str(position), BOOKS.name)
    writer.close()
    states_read += _rest(follower, position)[0]
    follower.close()
    assert states_read == _stored(root)


def test_the_next_day_is_entered_and_its_books_are_its_own(tmp_path: Path) -> None:
    clock = _Clock()
    writer = BookWriter(tmp_path, SqliteOptions(), HK.trading_day, clock.now_ms)
    with BookFollower(tmp_path, days_look_sec=0) as follower:
        writer.write(DAY, _entries(9), 9)
        today, position = _rest(follower, START)
        writer.write(NEXT_DAY, _entries(9), 9)
        tomorrow, position = _rest(follower, position)
        assert (today, tomorrow) == (_stored(tmp_path), _stored(tmp_path, NEXT_DAY))
        assert position.newest_day == NEXT_DAY
    writer.close()


def test_reading_begins_at_the_end_with_the_books_of_then(writer: BookWriter, tmp_path: Path) -> None:
    writer.write(DAY, _entries(250), 250)
    with BookFollower(tmp_path, days_look_sec=0) as follower:
        position = follower.end()
        writer.write(DAY, _entries(3, 250), 3)
        states, _ = _rest(follower, position)
    assert states == _stored(tmp_path)[250:]
    assert all(state.book is not None for state in states)


def test_a_file_with_the_same_rows_goes_on_and_another_one_is_said(writer: BookWriter, tmp_path: Path) -> None:
    path = book_file(tmp_path, DAY)
    writer.write(DAY, _entries(30), 30)
    writer.close()
    with BookFollower(tmp_path, days_look_sec=0) as follower:
        _, position = _rest(follower, START)
    copy = path.with_suffix(".copy")
    shutil.copyfile(path, copy)
    copy.replace(path)
    with BookFollower(tmp_path, days_look_sec=0) as follower:
        assert follower.read_behind(position) is None
    with closing(open_for_writing(path, SqliteOptions())) as conn:
        conn.execute("UPDATE pushes SET payload = x'00' WHERE rowid = (SELECT max(rowid) FROM pushes)")
    with BookFollower(tmp_path, days_look_sec=0) as follower, pytest.raises(DayChanged) as changed:
        follower.read_behind(position)
    assert changed.value.onward.kind == BOOKS.name
    path.unlink()
    with BookFollower(tmp_path, days_look_sec=0) as follower, pytest.raises(DayGone, match=path.name):
        follower.read_behind(position)
    set_aside_path(path, OPEN_US // 1000).touch()
    with BookFollower(tmp_path, days_look_sec=0) as follower:
        assert follower.read_behind(position) is None, "the next rows make a new one"


def test_rows_that_do_not_fit_those_before_are_damage(writer: BookWriter, tmp_path: Path) -> None:
    writer.write(DAY, _entries(6), 6)
    with closing(sqlite3.connect(book_file(tmp_path, DAY))) as conn, conn:
        conn.execute("UPDATE pushes SET payload = x'FF' WHERE rowid = 5")
    with BookFollower(tmp_path, days_look_sec=0) as follower, pytest.raises(StoreError, match="damaged"):
        follower.read_behind(START)


def test_kinds_are_not_mixed_up(writer: BookWriter, tmp_path: Path) -> None:
    writer.write(DAY, _entries(3), 3)
    with Follower(tmp_path, kind=BOOKS) as books:
        batch = books.read_behind(START)
        assert batch is not None
        assert {len(row) for row in batch.rows} == {len(BOOKS.row)}
        with pytest.raises(ValueError, match="ticks"):
            books.read_behind(Position())
    with Follower(tmp_path) as ticks:
        assert ticks.read_behind(Position()) is None
        with pytest.raises(ValueError, match="books"):
            ticks.read_behind(batch.position)
    text = str(batch.position)
    assert Position.parse(text, BOOKS.name) == batch.position
    with pytest.raises(ValueError, match="not a position"):
        Position.parse(text)
    with pytest.raises(ValueError, match="not a position"):
        Position.parse(str(Position()), BOOKS.name)
    ((first, behind),) = [next(follow(tmp_path, START, kind=BOOKS))]
    assert (first.rows, behind) == (batch.rows, batch.position)
