"""The lane of books: nothing waits for it, nothing in it is lost without a number, and overload costs history only."""

from __future__ import annotations

import re
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hk_tick_collector.app.books import LaneWatch
from hk_tick_collector.core.errors import RowRefused, StoreBusy
from hk_tick_collector.core.progress import BookProgress
from hk_tick_collector.health.watchdog import WatchdogOptions
from hk_tick_collector.ingest import books
from hk_tick_collector.ingest.book_queue import BookQueue
from hk_tick_collector.ingest.books import GIVE_WAY_SEC, MAX_REST_SEC, SLICE_PUSHES, BookLane
from hk_tick_collector.market.hk import HK
from hk_tick_collector.records.book import Book, BookPush, RawPush, WatchBegan, WatchEnded
from hk_tick_collector.store import book_reader
from hk_tick_collector.store.book_writer import BookWriter
from hk_tick_collector.store.connect import SqliteOptions
from hk_tick_collector.store.layout import book_file
from tests.books import DAY, OPEN_US

PATIENCE_SEC = 20
SYMBOLS = ("HK.00005", "HK.00700", "HK.09988")


def _raw(symbol: str, number: int) -> RawPush:
    return RawPush(symbol, OPEN_US + number, b"%d" % number)


def _read(raw: RawPush) -> BookPush:
    number = int(raw.message)
    return BookPush(raw.symbol, raw.recv_ts_us, None, None, Book(((100.0, number, 1),), ()))


@contextmanager
def _lane(root: Path, progress: BookProgress, queue: BookQueue | None = None, **kinds: object) -> Iterator[BookLane]:
    make: Callable[[], BookWriter] = kinds.get("make") or (  # type: ignore[assignment]
        lambda: BookWriter(root, SqliteOptions(), HK.trading_day, lambda: OPEN_US // 1000)
    )
    lane = BookLane(make, kinds.get("read", _read), HK.trading_day, progress, queue)  # type: ignore[arg-type]
    lane.start()
    try:
        yield lane
    finally:
        lane.stop(PATIENCE_SEC)


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SEC
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def _stored(root: Path) -> list[int]:
    states = book_reader.states(book_file(root, DAY))
    return [state.book.bids[0][1] for state in states if state.book is not None]


@pytest.mark.parametrize("is_overrun", [False, True])
def test_the_lane_rests_as_long_as_it_works_while_pushes_are_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_overrun: bool
) -> None:
    """As long by the clock, also where it waits for a core or the disk."""
    progress = BookProgress()
    queue = BookQueue(progress, max_pushes=SLICE_PUSHES * 2)
    queue.push([_raw("HK.00700", number) for number in range(SLICE_PUSHES * (3 if is_overrun else 2))])
    worked_sec = 0.0
    rested: list[tuple[float, float]] = []  # after so much work, so long

    def read(raw: RawPush) -> BookPush:
        nonlocal worked_sec
        since_sec = time.monotonic()
        time.sleep(0.0002)
        worked_sec += time.monotonic() - since_sec
        return _read(raw)

    def sleep(rest_sec: float) -> None:
        nonlocal worked_sec
        rested.append((worked_sec, rest_sec))
        worked_sec = 0.0

    monkeypatch.setattr(books, "time", SimpleNamespace(**{**vars(time), "sleep": sleep}))
    with _lane(tmp_path, progress, queue, read=read):
        _until(lambda: not progress.waiting)
    for sliced_sec, rest_sec in rested[:2]:
        least_sec = min(sliced_sec, MAX_REST_SEC) if is_overrun else GIVE_WAY_SEC
        assert least_sec <= rest_sec <= (MAX_REST_SEC if is_overrun else GIVE_WAY_SEC)
    assert len(rested) >= 2


def test_a_stop_does_not_wait_for_rests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rested: list[float] = []
    monkeypatch.setattr(books, "time", SimpleNamespace(**{**vars(time), "sleep": rested.append}))
    progress = BookProgress()
    queue = BookQueue(progress, max_pushes=SLICE_PUSHES * 2)
    queue.push([_raw("HK.00700", number) for number in range(SLICE_PUSHES * 3)])
    make = lambda: BookWriter(tmp_path, SqliteOptions(), HK.trading_day, lambda: OPEN_US // 1000)  # noqa: E731
    lane = BookLane(make, _read, HK.trading_day, progress, queue)
    lane._stopping.set()
    lane.start()
    assert lane.stop(PATIENCE_SEC)
    assert set(rested) == {GIVE_WAY_SEC}


def test_what_is_put_is_stored_and_what_cannot_be_read_is_counted(tmp_path: Path) -> None:
    progress = BookProgress()
    with _lane(tmp_path, progress) as lane:
        lane.push([_raw("HK.00700", 1), RawPush("HK.00700", OPEN_US, b"no number"), _raw("HK.00700", 2)])
    assert not lane.is_running
    assert _stored(tmp_path) == [1, 2]
    assert (progress.received, progress.stored, progress.unread, progress.merged) == (3, 2, 1, 0)
    (session,) = book_reader.sessions(book_file(tmp_path, DAY))
    assert (session.received, session.stored, session.unread, session.adds_up) == (3, 2, 1, True)


def test_a_batch_over_midnight_goes_to_two_files(tmp_path: Path) -> None:
    later_us = OPEN_US + 86_400_000_000
    with _lane(tmp_path, BookProgress()) as lane:
        lane.push([_raw("HK.00700", 1), RawPush("HK.00700", later_us, b"2"), RawPush("HK.00700", later_us, b"x")])
    assert _stored(tmp_path) == [1]
    (session,) = book_reader.sessions(book_file(tmp_path, "20261121"))
    assert (session.received, session.stored, session.unread) == (2, 1, 1)


class _Writer(BookWriter):
    """Fails as it is told to."""

    def __init__(self, root: Path, refuse: Callable[[object], Exception | None]) -> None:
        super().__init__(root, SqliteOptions(), HK.trading_day, lambda: OPEN_US // 1000)
        self._refuse = refuse

    def write(self, day, entries, received, unread=0, batch=None):  # type: ignore[no-untyped-def]
        error = self._refuse(entries)
        if error is not None:
            raise error
        super().write(day, entries, received, unread, batch)


def test_while_the_disk_is_away_memory_is_bounded_and_every_push_is_counted(tmp_path: Path) -> None:
    progress, away, met = BookProgress(), threading.Event(), threading.Event()
    away.set()

    def refuse(_: object) -> Exception | None:
        met.set()
        return StoreBusy("locked") if away.is_set() else None

    queue = BookQueue(progress, max_pushes=10)
    with _lane(tmp_path, progress, queue, make=lambda: _Writer(tmp_path, refuse)) as lane:
        lane.push([_raw("HK.00700", 0)])
        assert met.wait(PATIENCE_SEC)
        for number in range(1, 5001):
            lane.push([_raw(SYMBOLS[number % 3], number)])
        assert queue.waiting <= 10 + len(SYMBOLS)
        assert lane.waiting == queue.waiting + 1  # the one in hand
        away.clear()
        _until(lambda: progress.stored + progress.merged == 5001)

    (session,) = book_reader.sessions(book_file(tmp_path, DAY))
    assert session.adds_up
    assert (session.received, session.stored) == (5001, 1 + 10 + len(SYMBOLS))
    assert _stored(tmp_path)[-3:] == [4998, 4999, 5000]
    states = list(book_reader.states(book_file(tmp_path, DAY)))
    assert sum(state.merged for state in states) == session.merged == progress.merged


def test_one_push_that_the_store_refuses_costs_itself_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(books, "RETRY_MIN_SEC", 0.001)
    progress = BookProgress()

    def refuse(entries: object) -> Exception | None:
        is_bad = any(entry.push.book.bids[0][1] == 5 for entry in entries)  # type: ignore[attr-defined]
        return RowRefused("this one not") if is_bad else None

    with _lane(tmp_path, progress, make=lambda: _Writer(tmp_path, refuse)) as lane:
        lane.push([_raw("HK.00700", number) for number in range(9)])
        _until(lambda: progress.stored == 8)
    assert _stored(tmp_path) == [0, 1, 2, 3, 4, 6, 7, 8]
    (session,) = book_reader.sessions(book_file(tmp_path, DAY))
    assert (session.received, session.stored, session.unread) == (9, 8, 1)


def test_a_stop_does_not_wait_for_ever(tmp_path: Path) -> None:
    met = threading.Event()

    def refuse(_: object) -> Exception:
        met.set()
        return StoreBusy("locked")

    with _lane(tmp_path, BookProgress(), make=lambda: _Writer(tmp_path, refuse)) as lane:
        lane.push([_raw("HK.00700", 1)])
        assert met.wait(PATIENCE_SEC)
        assert not lane.stop(0.05), "its book is lost"
        assert not lane.is_running


def test_a_fault_after_a_fault_ends_no_recording(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(books, "RETRY_MIN_SEC", 0.001)
    progress, faults = BookProgress(), iter([RuntimeError("first"), None, None, None])

    class Writer(_Writer):
        recovers = iter([RuntimeError("second"), None])

        def recover(self) -> None:
            if (fault := next(self.recovers, None)) is not None:
                raise fault
            super().recover()

    with _lane(tmp_path, progress, make=lambda: Writer(tmp_path, lambda _: next(faults, None))) as lane:
        lane.push([_raw("HK.00700", 1)])
        _until(lambda: progress.unread == 1)
        lane.push([_raw("HK.00700", 2)])
        _until(lambda: progress.stored == 1)
        assert lane.stop(PATIENCE_SEC)
    assert _stored(tmp_path) == [2]


def test_a_fault_of_ours_is_said_and_books_go_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What was in hand is counted, that it is no longer watched is stored, and the next book is a whole one."""
    progress, is_broken = BookProgress(), threading.Event()

    def day_of(ms: int) -> str:
        if is_broken.is_set():
            is_broken.clear()
            raise RuntimeError("a fault")
        return HK.trading_day(ms)

    lane = BookLane(lambda: _Writer(tmp_path, lambda _: None), _read, day_of, progress)
    lane.start()
    try:
        lane.tell([WatchBegan("HK.00700", OPEN_US)])
        lane.push([_raw("HK.00700", 1)])
        _until(lambda: progress.stored == 1)
        is_broken.set()
        lane.push([_raw("HK.00700", 2)])
        lane.tell([WatchEnded("HK.00700", OPEN_US + 3, "connection lost")])
        _until(lambda: progress.unread == 1)
        lane.push([_raw("HK.00700", 4)])
        _until(lambda: progress.stored == 2)
    finally:
        assert lane.stop(30)
    assert "books_ended action=" in caplog.text
    assert "a fault" in caplog.text
    path = book_file(tmp_path, DAY)
    assert [state.kind.value for state in book_reader.states(path)] == ["F", "B", "F"]
    assert [watch.reason for watch in book_reader.watches(path)] == ["connection lost"]
    (session,) = book_reader.sessions(path)
    assert (session.received, session.stored, session.unread, progress.waiting) == (3, 2, 1, 0)


class _Hanging(BookWriter):
    """Hangs once, at a point of its way that ``at`` names, until it is released."""

    def __init__(self, root: Path, at: str, hangs: threading.Event, released: threading.Event) -> None:
        super().__init__(root, SqliteOptions(busy_timeout_ms=50), HK.trading_day, lambda: OPEN_US // 1000)
        self._at, self._hangs, self._released = at, hangs, released
        self.is_beating = False

    def beat(self) -> None:
        self.is_beating = True
        super().beat()

    def _hang(self) -> None:
        self._hangs.set()
        assert self._released.wait(PATIENCE_SEC)

    def write(self, day, entries, received, unread=0, batch=None):  # type: ignore[no-untyped-def]
        if self._at == "before":
            self._hang()
        super().write(day, entries, received, unread, batch)

    def _open(self, path: Path) -> sqlite3.Connection:
        conn = super()._open(path)
        if self._at != "before":
            conn.set_trace_callback(lambda sql: self._hang() if sql.startswith(self._at) else None)
        return conn


@pytest.mark.parametrize("at", ["before", "BEGIN", "INSERT INTO pushes", "COMMIT"])
def test_a_thread_that_hangs_is_replaced_and_each_push_is_stored_once(tmp_path: Path, at: str) -> None:
    """Wherever it hangs, and whatever it does when it comes back."""
    progress, hangs, released = BookProgress(), threading.Event(), threading.Event()
    with _lane(tmp_path, progress, make=lambda: _Hanging(tmp_path, at, hangs, released)) as lane:
        first = lane._thread
        lane.tell([WatchBegan("HK.00700", OPEN_US)])
        lane.push([_raw("HK.00700", 1), _raw("HK.00700", 2), RawPush("HK.00700", OPEN_US, b"no number")])
        assert hangs.wait(PATIENCE_SEC)
        lane.push([_raw("HK.00700", 3)])
        lane.recover("none was stored")
        if at in ("before", "BEGIN"):  # it holds no lock: the other one goes on at once
            _until(lambda: progress.stored == 3)
        released.set()
        first.join(PATIENCE_SEC)
        assert not first.is_alive()
        _until(lambda: progress.stored == 3)
        lane.push([_raw("HK.00700", 4)])
        _until(lambda: progress.stored == 4)
    assert _stored(tmp_path) == [1, 2, 3, 4]
    assert (progress.received, progress.unread, progress.waiting) == (5, 1, 0)
    (session,) = book_reader.sessions(book_file(tmp_path, DAY))
    assert (session.received, session.stored, session.unread, session.adds_up) == (5, 4, 1, True)
    assert [watch.reason for watch in book_reader.watches(book_file(tmp_path, DAY))] == ["recorder stopped"]


class _HangingNextDay(_Hanging):
    """Hangs when the second day of a batch was committed."""

    def _open(self, path: Path) -> sqlite3.Connection:
        conn = super()._open(path)
        conn.set_trace_callback(None)
        self.is_beating = path.name.startswith("20261123")
        self._conn = _Committing(conn, self)  # type: ignore[assignment]
        return self._conn  # type: ignore[return-value]


def test_a_batch_of_two_days_that_hangs_in_the_second_is_counted_once(tmp_path: Path) -> None:
    progress, hangs, released = BookProgress(), threading.Event(), threading.Event()
    queue, next_us = BookQueue(progress), OPEN_US + 3 * 86_400_000_000
    queue.push([_raw("HK.00700", 1), RawPush("HK.00700", next_us, b"2"), RawPush("HK.00700", next_us, b"no number")])
    make = lambda: _HangingNextDay(tmp_path, "no statement", hangs, released)  # noqa: E731
    with _lane(tmp_path, progress, queue, make=make) as lane:
        assert hangs.wait(PATIENCE_SEC)
        lane.recover("none was stored")
        _until(lambda: progress.stored == 2)
        released.set()
    sessions = [session for day in (DAY, "20261123") for session in book_reader.sessions(book_file(tmp_path, day))]
    assert [(session.received, session.stored, session.unread) for session in sessions] == [(1, 1, 0), (2, 1, 1)]
    assert (progress.received, progress.stored, progress.unread, progress.waiting) == (3, 2, 1, 0)


class _HangingBeat(_Hanging):
    """Hangs when a note that it is alive was committed, and before it knows of that."""

    def _open(self, path: Path) -> sqlite3.Connection:
        conn = super()._open(path)
        conn.set_trace_callback(None)
        self._conn = _Committing(conn, self)  # type: ignore[assignment]
        return self._conn  # type: ignore[return-value]


class _Committing:
    def __init__(self, conn: sqlite3.Connection, writer: _HangingBeat) -> None:
        self._conn, self._writer = conn, writer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._conn, name)

    def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:
        cursor = self._conn.execute(sql, *args)
        if sql == "COMMIT" and self._writer.is_beating:
            self._writer._hang()
            raise sqlite3.OperationalError("disk I/O error")
        return cursor


@pytest.mark.parametrize("is_replaced", [True, False])
def test_what_comes_behind_a_beat_whose_end_is_not_known_is_stored(tmp_path: Path, *, is_replaced: bool) -> None:
    """A beat that is in the file after all is no sign that the batch behind it is, too."""
    progress, hangs, released = BookProgress(), threading.Event(), threading.Event()
    with _lane(tmp_path, progress, make=lambda: _HangingBeat(tmp_path, "no statement", hangs, released)) as lane:
        lane.push([_raw("HK.00700", 1)])
        assert hangs.wait(PATIENCE_SEC)
        lane.push([_raw("HK.00700", 2)])
        if is_replaced:
            lane.recover("none was stored")
            _until(lambda: progress.stored == 2)
        released.set()
        _until(lambda: progress.stored == 2)
    assert _stored(tmp_path) == [1, 2]
    (session,) = book_reader.sessions(book_file(tmp_path, DAY))
    assert (session.received, session.stored, session.adds_up) == (2, 2, True)


def test_a_hung_lane_is_helped_by_the_watchdogs_rule_and_not_for_ever(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """None is stored for ``stall_sec``: another thread, twice; then it is left alone, and the recorder goes on."""
    options = WatchdogOptions(30.0, 30.0, backlog_rows=1, max_failed_recoveries=2, check_interval_sec=1.0)
    progress, hangs, released = BookProgress(), threading.Event(), threading.Event()
    with _lane(tmp_path, progress, make=lambda: _Hanging(tmp_path, "INSERT INTO pushes", hangs, released)) as lane:
        lane.push([_raw("HK.00700", 1)])
        assert hangs.wait(PATIENCE_SEC)
        watch, began = LaneWatch(lane, progress), progress.waiting_since_monotonic
        helped = []
        for after_sec in (29, 31, 45, 62, 93, 200):
            watch.check(options, began + after_sec)
            helped.append(caplog.text.count("books_recovery"))
        assert helped == [0, 1, 1, 2, 2, 2]
        released.set()
        _until(lambda: progress.stored == 1)
        watch.check(options, progress.last_commit_monotonic + 1)
        lane.push([_raw("HK.00700", 2)])
        _until(lambda: progress.stored == 2)
    assert _stored(tmp_path) == [1, 2]


def test_what_is_said_to_wait_has_what_is_in_hand_and_nothing_that_is_stored(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Of a batch of two days the first one is stored; the thread of the other hangs and is replaced."""
    progress, hangs, released = BookProgress(), threading.Event(), threading.Event()
    next_day_us = OPEN_US + 86_400_000_000

    class SecondDayHangs(BookWriter):
        def write(self, day, entries, received, unread=0, batch=None):  # type: ignore[no-untyped-def]
            if day != DAY and not hangs.is_set():
                hangs.set()
                released.wait(PATIENCE_SEC)
            super().write(day, entries, received, unread, batch)

    def make() -> BookWriter:
        return SecondDayHangs(tmp_path, SqliteOptions(), HK.trading_day, lambda: OPEN_US // 1000)

    queue = BookQueue(progress)
    first = [_raw("HK.00700", number) for number in range(3)]
    queue.push([*first, *(push._replace(recv_ts_us=next_day_us + n) for n, push in enumerate(first[:2]))])
    with _lane(tmp_path, progress, queue, make=make) as lane:
        assert hangs.wait(PATIENCE_SEC)
        lane.push([_raw("HK.00700", 9)._replace(recv_ts_us=next_day_us + 9)])
        assert (queue.waiting, progress.stored, lane.waiting) == (1, 3, 3)
        lane.recover("none was stored")
        assert re.search(r"books_recovery .*waiting=3 ", caplog.text)
        _until(lambda: progress.stored == 6)
        _until(lambda: lane.waiting == 0)
        released.set()


def test_what_cannot_be_stored_at_the_end_is_counted_with_what_is_in_hand(tmp_path: Path) -> None:
    progress, hangs, released = BookProgress(), threading.Event(), threading.Event()
    lane = BookLane(lambda: _Hanging(tmp_path, "INSERT INTO pushes", hangs, released), _read, HK.trading_day, progress)
    lane.start()
    try:
        lane.push([_raw("HK.00700", 1), _raw("HK.00700", 2)])
        assert hangs.wait(PATIENCE_SEC)
        lane.push([_raw("HK.00700", 3)])
        assert not lane.stop(0.0)
        assert lane.waiting == 3
    finally:
        released.set()


def test_a_lane_without_a_writer_says_so_and_stops(caplog: pytest.LogCaptureFixture) -> None:
    def no_writer() -> BookWriter:
        raise RuntimeError("a fault")

    lane = BookLane(no_writer, _read, HK.trading_day, BookProgress())
    lane.start()
    _until(lambda: "books_ended action=" in caplog.text)
    assert lane.stop(30)


def test_books_that_wait_are_noticed_from_the_first_on() -> None:
    progress = BookProgress()
    queue = BookQueue(progress)
    assert progress.stuck_sec(1e9) == 0
    queue.push([_raw("HK.00700", 1)])
    began = progress.waiting_since_monotonic
    queue.push([_raw("HK.00700", 2)])
    assert (progress.stuck_sec(began + 60), progress.waiting) == (60, 2)
    progress.stored, progress.last_commit_monotonic = 1, began + 50
    assert progress.stuck_sec(began + 60) == 10
    progress.stored = 2
    assert progress.stuck_sec(began + 60) == 0
