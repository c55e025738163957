"""Book files: what was pushed, watched and counted is in them, whatever happened while it was written."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hk_tick_collector.core.errors import StoreCorrupt, StoreUnavailable
from hk_tick_collector.market.hk import HK
from hk_tick_collector.records.book import (
    Book,
    BookEntry,
    BookPush,
    PullCompared,
    PushEntry,
    RowKind,
    WatchBegan,
    WatchEnded,
)
from hk_tick_collector.store import book_reader
from hk_tick_collector.store.book_file import open_for_writing
from hk_tick_collector.store.book_writer import DAY_OVER, DIED, QUIET_MS, STOPPED, BookWriter
from hk_tick_collector.store.companions import is_closed
from hk_tick_collector.store.connect import SqliteOptions
from hk_tick_collector.store.layout import book_days, book_file, day_files
from tests.books import BOOKS, DAY, OPEN_US, lively_pushes
from tests.nights import examples

TENCENT = "HK.00700"
BOOK = Book(((412.2, 3000, 7),), ((412.4, 800, 2),))
OTHER = Book(((412.0, 100, 1),), ())
NEXT_DAY = "20261121"
MIDNIGHT_US = OPEN_US + (14 * 60 + 30) * 60_000_000


class _Clock:
    def __init__(self) -> None:
        self.now_us = OPEN_US

    def now_ms(self) -> int:
        return self.now_us // 1000


def _writer(root: Path, clock: _Clock | None = None) -> BookWriter:
    return BookWriter(root, SqliteOptions(), HK.trading_day, (clock or _Clock()).now_ms)


def _entries(books: Sequence[Book], at_us: int = OPEN_US) -> list[BookEntry]:
    return [PushEntry(BookPush(TENCENT, at_us + n, None, None, book)) for n, book in enumerate(books)]


def _books(root: Path, day: str = DAY) -> list[Book | None]:
    return [state.book for state in book_reader.states(book_file(root, day))]


class _Traced(BookWriter):
    inserts = 0

    def _open(self, path: Path) -> sqlite3.Connection:
        conn = super()._open(path)
        conn.set_trace_callback(self._count_insert)
        return conn

    def _count_insert(self, sql: str) -> None:
        self.inserts += sql.startswith("INSERT INTO pushes")


@pytest.mark.parametrize(("pushes", "statements"), [(1, 1), (32, 1), (33, 2), (128, 4)])
def test_a_batch_takes_few_statements(tmp_path: Path, pushes: int, statements: int) -> None:
    """At each one the interpreter is given away and taken back, which ticks and books have to share."""
    books = [Book(((412.2, 100 * (n + 1), 7),), ()) for n in range(pushes)]
    writer = _Traced(tmp_path, SqliteOptions(), HK.trading_day, _Clock().now_ms)
    writer.write(DAY, _entries(books), pushes)
    writer.close()
    assert writer.inserts == statements
    assert _books(tmp_path) == books


@settings(max_examples=examples(15), deadline=None)
@given(st.lists(st.lists(BOOKS, max_size=4), max_size=6))
def test_any_states_in_any_batches_are_in_the_file(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[Book]]
) -> None:
    root = tmp_path_factory.mktemp("books")
    writer = _writer(root)
    for batch in batches:
        writer.write(DAY, _entries(batch), len(batch))
    writer.close()

    pushed = [book for batch in batches for book in batch]
    assert (_books(root) if pushed else []) == pushed


def test_a_file_tells_who_was_watched_until_when_and_why_not_longer(tmp_path: Path) -> None:
    clock = _Clock()
    writer = _writer(tmp_path, clock)
    writer.write(DAY, [WatchBegan(TENCENT, OPEN_US), WatchBegan("HK.00005", OPEN_US), *_entries([BOOK])], 1)
    clock.now_us += 9_000_000
    writer.write(DAY, [WatchEnded(TENCENT, OPEN_US + 8_000_000, "connection lost", 3)], 3)
    clock.now_us += 1_000_000
    writer.close()

    path, open_ms = book_file(tmp_path, DAY), OPEN_US // 1000
    assert book_reader.watches(path) == [
        ("HK.00005", open_ms, open_ms + 10_000, STOPPED),
        (TENCENT, open_ms, open_ms + 8_000, "connection lost"),
    ]
    (session,) = book_reader.sessions(path)
    assert (session.received, session.stored, session.merged, session.ended) == (4, 1, 3, True)
    assert session.adds_up
    assert [state.kind for state in book_reader.states(path, [TENCENT])] == [RowKind.FULL, RowKind.BREAK]
    assert book_reader.book_at(path, TENCENT, OPEN_US + 7_999_999).book == BOOK  # type: ignore[union-attr]
    assert book_reader.book_at(path, TENCENT, OPEN_US + 8_000_000).kind is RowKind.BREAK  # type: ignore[union-attr]
    assert book_reader.book_at(path, TENCENT, OPEN_US - 1) is None
    assert book_reader.book_at(path, "HK.09988", OPEN_US) is None


def test_book_files_are_no_day_files_and_nobody_else_may_read_them(tmp_path: Path) -> None:
    writer = _writer(tmp_path)
    writer.write(DAY, _entries([BOOK]), 1)
    assert (book_days(tmp_path), day_files(tmp_path)) == ([DAY], [])
    assert book_file(tmp_path, DAY).stat().st_mode & 0o777 == 0o640
    assert book_file(tmp_path, DAY).parent.stat().st_mode & 0o777 == 0o750


def test_pulls_are_counted_by_symbol(tmp_path: Path) -> None:
    writer = _writer(tmp_path)
    compared = [PullCompared(TENCENT, OPEN_US, agrees) for agrees in (True, True, False)]
    writer.write(DAY, compared, 0)
    assert book_reader.pulls(book_file(tmp_path, DAY)) == {TENCENT: (2, 3)}


def test_the_next_day_gets_a_file_of_its_own_and_is_watched_on(tmp_path: Path) -> None:
    clock = _Clock()
    writer = _writer(tmp_path, clock)
    writer.write(DAY, [WatchBegan(TENCENT, OPEN_US), *_entries([BOOK])], 1)
    clock.now_us = MIDNIGHT_US + 5_000_000
    writer.beat()  # quiet: no file is made for a day that has nothing yet
    assert book_days(tmp_path) == [DAY]
    writer.write(NEXT_DAY, _entries([BOOK], clock.now_us), 1)
    writer.close()

    assert [watch.reason for watch in book_reader.watches(book_file(tmp_path, DAY))] == [DAY_OVER]
    (watch,) = book_reader.watches(book_file(tmp_path, NEXT_DAY))
    assert watch.from_ms == MIDNIGHT_US // 1000 + 5_000
    assert [state.kind for state in book_reader.states(book_file(tmp_path, NEXT_DAY))] == [RowKind.FULL, RowKind.BREAK]


def test_after_the_close_the_file_is_whole_and_only_a_push_opens_it_again(tmp_path: Path) -> None:
    now_ms = OPEN_US // 1000
    writer = BookWriter(tmp_path, SqliteOptions(), HK.trading_day, lambda: now_ms, lambda ms: ms > OPEN_US // 1000)
    pushes = list(lively_pushes(("HK.00700",), 3))
    path = book_file(tmp_path, DAY)
    writer.write(DAY, [WatchBegan("HK.00700", OPEN_US), PushEntry(pushes[0])], 1)
    writer.beat()
    assert not is_closed(path), "the market trades"
    now_ms += QUIET_MS - 1
    writer.beat()
    assert not is_closed(path), "a last push may come"
    now_ms += 1
    writer.beat()
    content = path.read_bytes()
    assert is_closed(path)
    rested_ms = now_ms

    now_ms += 60_000
    writer.beat()
    writer.write(DAY, [PullCompared("HK.00700", now_ms * 1000, agrees=True), WatchBegan("HK.00005", now_ms * 1000)], 0)
    assert (is_closed(path), path.read_bytes()) == (True, content)
    writer.write(DAY, [PushEntry(pushes[1])], 1)
    assert [state.kind for state in book_reader.states(path)] == ["F", "B", "F"]
    writer.close()
    told = [(watch.symbol, watch.from_ms, watch.until_ms, watch.reason) for watch in book_reader.watches(path)]
    assert told == [
        ("HK.00005", now_ms, now_ms, STOPPED),
        ("HK.00700", OPEN_US // 1000, rested_ms, DAY_OVER),
        ("HK.00700", rested_ms, now_ms, STOPPED),
    ]
    assert all(session.adds_up for session in book_reader.sessions(path))


def test_what_a_killed_recorder_committed_stays_and_is_known_until_then(tmp_path: Path) -> None:
    """Killed in the middle of its writing, by a signal that nobody hears."""
    script = f"""
import sys
from pathlib import Path
from tests.unit.test_book_store import _writer, _entries, WatchBegan, lively_pushes, PushEntry, TENCENT, DAY, OPEN_US
writer = _writer(Path({str(tmp_path)!r}))
writer.write(DAY, [WatchBegan(TENCENT, OPEN_US)], 0)
for n, push in enumerate(lively_pushes((TENCENT,), 1_000_000)):
    writer.write(DAY, [PushEntry(push)], 1)
    if n == 300:
        print("going", flush=True)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=Path.cwd()) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"going\n"
        os.kill(process.pid, signal.SIGKILL)
        process.wait()

    path = book_file(tmp_path, DAY)
    (session,) = book_reader.sessions(path)
    assert session.received >= 300
    assert session.adds_up
    truth = [push.book for push in lively_pushes((TENCENT,), session.stored)]
    assert _books(tmp_path) == truth
    (watch,) = book_reader.watches(path)
    assert watch.reason is None

    clock = _Clock()
    clock.now_us += 3_600_000_000
    writer = _writer(tmp_path, clock)  # the next start says where the other one ended
    writer.write(DAY, _entries([BOOK], clock.now_us), 1)
    assert _books(tmp_path) == [*truth, None, BOOK]
    (watch,) = book_reader.watches(path)
    assert (watch.until_ms, watch.reason) == (session.alive_ms, DIED)


class _KilledBehind(list[BookEntry]):
    """Entries behind which the recorder is killed: in the middle of the transaction that stores them."""

    def __iter__(self) -> Iterator[BookEntry]:
        yield from list.__iter__(self)
        os.kill(os.getpid(), signal.SIGKILL)


@settings(max_examples=examples(20), deadline=None)
@given(st.lists(st.lists(BOOKS, min_size=1, max_size=4), min_size=1, max_size=8), st.data())
def test_any_states_that_were_committed_before_a_kill_decode_to_the_same_states(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[Book]], data: st.DataObject
) -> None:
    committed = data.draw(st.integers(1, len(batches)))
    root = tmp_path_factory.mktemp("books")
    pid = os.fork()
    if pid == 0:
        try:
            writer = _writer(root)
            for batch in batches[:committed]:
                writer.write(DAY, _entries(batch), len(batch))
            for batch in batches[committed : committed + 1]:
                writer.write(DAY, _KilledBehind([WatchBegan("HK.00005", OPEN_US), *_entries(batch)]), len(batch))
            os.kill(os.getpid(), signal.SIGKILL)
        finally:
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL
    states = [book for batch in batches[:committed] for book in batch]
    assert _books(root) == states
    (session,) = book_reader.sessions(book_file(root, DAY))
    assert (session.received, session.ended, session.adds_up) == (len(states), False, True)


class _FailsOnce:
    """A connection whose COMMIT reports an error, before or after it was done."""

    def __init__(self, conn: sqlite3.Connection, *, done: bool) -> None:
        self._conn, self._done = conn, done

    def execute(self, sql: str, values: Sequence[object] = ()) -> sqlite3.Cursor:
        if sql == "COMMIT":
            if self._done:
                self._conn.execute(sql)
            raise sqlite3.OperationalError("disk I/O error")
        return self._conn.execute(sql, values)

    def __getattr__(self, name: str) -> object:
        return getattr(self._conn, name)


@pytest.mark.parametrize("done", [False, True])
def test_a_batch_whose_commit_failed_is_stored_once(tmp_path: Path, done: bool) -> None:
    writer = _writer(tmp_path)
    writer.write(DAY, _entries([BOOK]), 1)
    writer._conn = _FailsOnce(writer._conn, done=done)  # type: ignore[arg-type]
    batch = [WatchBegan(TENCENT, OPEN_US + 5), *_entries([Book((), BOOK.asks)], OPEN_US + 9)]
    with pytest.raises(StoreUnavailable):
        writer.write(DAY, batch, 1)
    writer.write(DAY, batch, 1)
    writer.write(DAY, _entries([BOOK], OPEN_US + 20), 1)
    writer.close()

    assert _books(tmp_path) == [BOOK, Book((), BOOK.asks), BOOK, None]
    assert len(book_reader.watches(book_file(tmp_path, DAY))) == 1
    (session,) = book_reader.sessions(book_file(tmp_path, DAY))
    assert (session.received, session.stored) == (3, 3)


def test_a_damaged_file_is_set_aside_and_the_day_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = book_file(tmp_path, DAY)
    path.parent.mkdir()
    path.write_bytes(b"this is no database" * 400)
    writer = _writer(tmp_path)
    with pytest.raises(StoreCorrupt):
        writer.write(DAY, _entries([BOOK]), 1)
    aside = writer.set_aside("no database")
    writer.write(DAY, _entries([BOOK]), 1)

    assert aside is not None
    assert aside.read_bytes().startswith(b"this is no")
    assert f'sqlite3 {aside} ".recover"' in caplog.records[-1].getMessage().replace('\\"', '"')
    assert _books(tmp_path) == [BOOK]


def _take_away(path: Path, how: str) -> None:
    for companion in [path, *path.parent.glob(f"{path.name}-*")]:
        if how == "moved":
            companion.rename(path.parent.parent / companion.name)
        else:
            companion.unlink()
    if how == "exchanged":
        path.write_bytes(b"")


@pytest.mark.parametrize("by", ["beat", "push", "close"])
@pytest.mark.parametrize("how", ["moved", "removed"])
def test_a_file_that_is_taken_away_comes_back_with_all_its_rows(tmp_path: Path, how: str, by: str) -> None:
    writer = _writer(tmp_path)
    writer.write(DAY, [WatchBegan(TENCENT, OPEN_US), *_entries([BOOK])], 1)
    _take_away(book_file(tmp_path, DAY), how)
    if by == "beat":
        writer.beat()
    elif by == "push":
        writer.write(DAY, _entries([BOOK]), 1)
    writer.close()

    stored = 2 if by == "push" else 1
    assert _books(tmp_path) == [*[BOOK] * stored, None]
    assert [watch.reason for watch in book_reader.watches(book_file(tmp_path, DAY))] == [STOPPED]
    (session,) = book_reader.sessions(book_file(tmp_path, DAY))
    assert session.stored == stored


def test_what_an_exchanged_file_held_is_set_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = book_file(tmp_path, DAY)
    writer = _writer(tmp_path)
    writer.write(DAY, _entries([BOOK]), 1)
    _take_away(path, "exchanged")
    writer.write(DAY, _entries([OTHER]), 1)
    writer.leave()

    (aside,) = path.parent.glob(f"{path.name}.corrupt-*")
    assert _books(tmp_path) == [OTHER]
    with closing(sqlite3.connect(aside)) as conn:
        assert conn.execute("SELECT count(*) FROM pushes").fetchone() == (1,)
    assert "day_file_replaced" in caplog.text
    assert str(aside) in caplog.text


def test_the_sessions_of_a_file_that_took_the_place_are_not_ours(tmp_path: Path) -> None:
    path, clock, hour_us = book_file(tmp_path, DAY), _Clock(), 3_600_000_000
    other = _writer(tmp_path / "other")
    other.write(DAY, [WatchBegan("HK.00001", OPEN_US), *_entries([BOOK])], 1)
    other.leave()
    writer = _writer(tmp_path, clock)
    writer.write(DAY, [WatchBegan(TENCENT, OPEN_US), *_entries([BOOK])], 1)
    _take_away(path, "removed")
    book_file(tmp_path / "other", DAY).rename(path)
    clock.now_us += hour_us
    writer.write(DAY, _entries([OTHER], OPEN_US + hour_us), 1)
    writer.close()

    theirs, ours = book_reader.sessions(path)
    assert (theirs.stored, theirs.alive_ms) == (1, OPEN_US // 1000)
    assert (ours.stored, ours.began_ms) == (1, clock.now_ms())
    watches = {watch.symbol: (watch.from_ms, watch.reason) for watch in book_reader.watches(path)}
    assert watches == {"HK.00001": (OPEN_US // 1000, DIED), TENCENT: (clock.now_ms(), STOPPED)}


def test_what_a_damaged_file_held_is_not_said_to_be_in_the_new_one(tmp_path: Path) -> None:
    clock = _Clock()
    writer = _writer(tmp_path, clock)
    writer.write(DAY, [WatchBegan(TENCENT, OPEN_US), *_entries([BOOK])], 1)
    clock.now_us += 3_600_000_000
    assert writer.set_aside("damaged") is not None
    writer.write(DAY, _entries([OTHER], clock.now_us), 1)
    writer.close()
    assert [watch.from_ms for watch in book_reader.watches(book_file(tmp_path, DAY))] == [clock.now_ms()]


def test_a_database_of_something_else_or_of_a_later_version_is_not_touched(tmp_path: Path) -> None:
    other, later = tmp_path / "a.db", tmp_path / "b.db"
    with closing(sqlite3.connect(other)) as conn:
        conn.execute("CREATE TABLE pushes (x)")
    open_for_writing(later, SqliteOptions()).close()
    with closing(sqlite3.connect(later)) as conn:
        conn.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreCorrupt):
        open_for_writing(other, SqliteOptions())
    with pytest.raises(StoreUnavailable, match="newer recorder"):
        open_for_writing(later, SqliteOptions())
    with pytest.raises(StoreUnavailable, match="BOOK_SYMBOLS"):
        list(book_reader.states(tmp_path / "absent.db"))


def test_a_payload_that_does_not_fit_is_called_damage(tmp_path: Path) -> None:
    writer = _writer(tmp_path)
    writer.write(DAY, _entries([BOOK, Book((), BOOK.asks)]), 2)
    writer.close()
    with closing(sqlite3.connect(book_file(tmp_path, DAY))) as conn:
        conn.execute("UPDATE pushes SET payload = x'ff' WHERE kind = 'D'")
        conn.commit()
    with pytest.raises(StoreCorrupt, match="damaged"):
        _books(tmp_path)


def test_a_push_costs_at_most_45_bytes_in_sqlite(tmp_path: Path) -> None:
    writer = _writer(tmp_path)
    symbols = tuple(f"HK.{n:05}" for n in range(1, 21))
    pushes = [PushEntry(push) for push in lively_pushes(symbols, 20_000)]
    for at in range(0, len(pushes), 200):
        writer.write(DAY, pushes[at : at + 200], 200)
    writer.close()
    assert book_file(tmp_path, DAY).stat().st_size / len(pushes) <= 45
