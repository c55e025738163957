"""Order books and broker queues in ClickHouse while they are recorded: each push once, whatever is lost on the way, and
proven later."""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from hk_tick_collector.clickhouse.connection import ClickHouse, EngineAway
from hk_tick_collector.clickhouse.copy import Copy
from hk_tick_collector.clickhouse.recorded_states import CopiedStateDays
from hk_tick_collector.clickhouse.tables import BOOKS, StateTables
from hk_tick_collector.core.errors import StoreBusy
from hk_tick_collector.days.book_days import BookDays
from hk_tick_collector.market.hk import HK
from hk_tick_collector.records import book_codec
from hk_tick_collector.records.book import BookPush, BrokerPush, PushEntry, WatchBegan
from hk_tick_collector.ship.copies import Symbols
from hk_tick_collector.ship.live_states import LiveStates
from hk_tick_collector.ship.state import State
from hk_tick_collector.ship.states import StateCopies
from hk_tick_collector.store.book_writer import BookWriter
from hk_tick_collector.store.connect import SqliteOptions
from hk_tick_collector.store.follow import Follower
from tests.books import DAY, OPEN_US, lively_pushes, record_books
from tests.brokers import lively_queues, record_brokers
from tests.clickhouse import ClickHouseServer
from tests.unit.ship.test_books import is_equal
from tests.unit.ship.test_ship import catalog, keeper_of

SYMBOLS = ("HK.00005", "HK.00700")
PUSHES = 600


class Recording:
    """A file of books, or of queues, that grows."""

    def __init__(self, root: Path, of: StateTables) -> None:
        self._pushes: Iterator[BookPush | BrokerPush] = (lively_pushes if of is BOOKS else lively_queues)(
            SYMBOLS, 100_000
        )
        self._writer = BookWriter(root, SqliteOptions(), HK.trading_day, lambda: OPEN_US // 1000, kind=of.kind)
        self._writer.write(DAY, [WatchBegan(symbol, OPEN_US) for symbol in SYMBOLS], 0)
        self.rows = 0

    def go_on(self, pushes: int = PUSHES) -> None:
        entries = [PushEntry(next(self._pushes)) for _ in range(pushes)]
        self._writer.write(DAY, entries, pushes)
        self.rows += pushes

    def close(self) -> None:
        self._writer.close()


@pytest.fixture
def recording(root: Path, of: StateTables) -> Iterator[Recording]:
    with closing(Recording(root, of)) as recording:
        yield recording


def live_books(root: Path, of: StateTables, engine: ClickHouse, state: State, max_rows: int = 250) -> LiveStates:
    return LiveStates(catalog(root), StateCopies(engine, "A", "HK", of), state, max_rows=max_rows)


def stored(engine: ClickHouse, of: StateTables) -> list[int]:
    rows = engine.rows(f"SELECT update_no FROM {engine.database}.{of.rows} WHERE recorder = 'A' ORDER BY update_no")
    return [row[0] for row in rows]


def shipped(books: LiveStates) -> None:
    while books.step():
        pass


def test_pushes_of_a_symbol_whose_note_is_on_its_way_are_not_called_unreadable(
    root: Path, of: StateTables, recording: Recording, engine: ClickHouse, state: State
) -> None:
    """Notes go with the proof of a day, its rows before."""
    recording.go_on()
    with closing(live_books(root, of, engine, state)) as books:
        shipped(books)
    StateCopies(engine, "A", "HK", of)._send_notes(DAY, of.kind.file_of(root, DAY))
    engine.run(
        f"ALTER TABLE {engine.database}.{of.notes} DELETE WHERE name = 'symbols' AND row_json LIKE '%00700%' "
        "SETTINGS mutations_sync = 2"
    )
    day = CopiedStateDays(Copy(engine, "A"), of).day(DAY)
    with pytest.raises(EngineAway, match=r"no notes of 'HK\.00700' in the .* yet"), day.opened():
        pass


def test_pushes_arrive_as_they_are_stored_and_the_closed_day_is_proven_as_it_came(
    root: Path, of: StateTables, recording: Recording, engine: ClickHouse, state: State
) -> None:
    with closing(live_books(root, of, engine, state)) as books:
        for _ in range(3):
            recording.go_on()
            shipped(books)
            assert stored(engine, of) == list(range(1, recording.rows + 1))
        recording.close()
        shipped(books)
    rows = len(stored(engine, of))
    assert rows > recording.rows, "and the breaks of the end"
    assert is_equal(of, of.kind.file_of(root, DAY), engine)
    keeper = keeper_of(root, engine, state)
    assert keeper.check_states(of.word, DAY) == "", "nothing was brought anew"
    assert state.sent(of.word).mark(DAY) is not None


def test_nothing_comes_twice_whatever_is_lost(
    root: Path,
    of: StateTables,
    recording: Recording,
    engine: ClickHouse,
    server: ClickHouseServer,
    tmp_path: Path,
    state: State,
) -> None:
    books = live_books(root, of, engine, state)
    for fault in ("before", "after"):
        recording.go_on()
        server.fault(fault)
        with pytest.raises(EngineAway):
            shipped(books)
        assert state.sent(of.word).intent() is not None
        books.close()
        books = live_books(root, of, engine, state)  # another process
        shipped(books)
        assert stored(engine, of) == list(range(1, recording.rows + 1))
    books.close()
    recording.go_on(50)
    with closing(State(tmp_path / "anew")) as anew, closing(live_books(root, of, engine, anew)) as again:
        shipped(again)
        assert stored(engine, of) == list(range(1, recording.rows + 1)), (
            "from the start, after what was there was dropped"
        )


def test_a_day_is_not_compared_while_its_pushes_are_on_their_way(
    root: Path, of: StateTables, recording: Recording, engine: ClickHouse, state: State
) -> None:
    with closing(live_books(root, of, engine, state)) as books:
        recording.go_on()
        shipped(books)
        recording.go_on()
        recording.close()
        keeper = keeper_of(root, engine, state)
        keeper.look()
        assert keeper.counts.days_verified_of[of.word] == 0
        shipped(books)
        keeper.look()
        assert keeper.counts.days_verified_of[of.word] == 1
    assert is_equal(of, of.kind.file_of(root, DAY), engine)


def test_a_day_that_was_begun_is_sent_to_its_end_however_many_days_have_come_since(
    root: Path, of: StateTables, recording: Recording, engine: ClickHouse, state: State
) -> None:
    """ClickHouse was away for some days in between."""
    with closing(live_books(root, of, engine, state)) as books:
        recording.go_on()
        assert books.step() == 250
    recording.close()
    for day in ("20261123", "20261124"):
        (record_books if of is BOOKS else record_brokers)(root, day, pushes=20)
    with closing(live_books(root, of, engine, state)) as books:
        shipped(books)
    assert is_equal(of, of.kind.file_of(root, DAY), engine)
    keeper = keeper_of(root, engine, state)
    keeper.look()
    assert keeper.counts.days_verified_of[of.word] == 3


def test_a_day_that_goes_on_while_it_is_brought_anew_has_no_push_twice(
    root: Path, of: StateTables, recording: Recording, engine: ClickHouse, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The recorder is started again just then: its first pushes come with the whole day."""
    recording.go_on()
    recording.close()
    keeper = keeper_of(root, engine, state)
    keeper.check_states(of.word, DAY)
    engine.run(f"ALTER TABLE {engine.database}.{of.rows} DELETE WHERE update_no = 5 SETTINGS mutations_sync = 2")
    bring = StateCopies._bring
    again: list[Recording] = []

    def started_again(self: StateCopies, day: str, path: Path) -> Symbols:
        again.append(Recording(root, of))
        again[0].go_on(50)
        return bring(self, day, path)

    with monkeypatch.context() as patch:
        patch.setattr(StateCopies, "_bring", started_again)
        with pytest.raises(StoreBusy):
            keeper.check_states(of.word, DAY)
    with closing(again[0]), closing(live_books(root, of, engine, state)) as books:
        shipped(books)
        again[0].go_on(50)
        shipped(books)
        numbers = stored(engine, of)
    assert len(numbers) == len(set(numbers))
    assert set(range(1, PUSHES + 101)) <= set(numbers)


def test_a_row_that_cannot_be_decoded_holds_up_no_other(
    root: Path,
    of: StateTables,
    recording: Recording,
    engine: ClickHouse,
    state: State,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(book_codec, "FULL_EVERY_PUSHES", 40)
    recording.go_on()
    with closing(live_books(root, of, engine, state)) as books:
        shipped(books)
        before = recording.rows
        recording.go_on(300)
        with closing(sqlite3.connect(of.kind.file_of(root, DAY))) as conn, conn:
            sql = "SELECT rowid FROM pushes WHERE symbol_id = 1 AND kind = ? AND rowid > ? LIMIT 1"
            (damaged,) = conn.execute(sql, ("D" if of is BOOKS else "F", before)).fetchone()
            conn.execute("UPDATE pushes SET payload = x'ffffff' WHERE rowid = ?", (damaged,))
        shipped(books)
        assert state.sent(of.word).intent() is None
        recording.go_on(600)
        shipped(books)
        assert state.sent(of.word).places()[DAY].rowid == recording.rows
    with closing(sqlite3.connect(of.kind.file_of(root, DAY))) as conn:
        symbols = dict(conn.execute("SELECT symbol_id, symbol FROM symbols"))
        numbers = {
            key: [row[0] for row in conn.execute("SELECT rowid FROM pushes WHERE symbol_id = ? ORDER BY 1", (key,))]
            for key in symbols
        }
    there = stored(engine, of)
    assert [no for no in numbers[2] if no not in there] == [], "of the other symbol all are there"
    lacking = [no for no in numbers[1] if no not in there]
    assert damaged in lacking
    assert len(lacking) < 250, "and of this one those behind its next full row"
    assert numbers[1][-1] in there
    assert len(there) == len(set(there))
    assert f"of {symbols[1]} are left out" in caplog.text
    assert symbols[2] not in caplog.text
    recording.close()
    keeper_of(root, engine, state).look()
    assert state.sent(of.word).mark(DAY) is None, "it is not proven"


def test_a_file_that_is_another_one_is_sent_from_its_start(
    root: Path, of: StateTables, recording: Recording, engine: ClickHouse, state: State
) -> None:
    with closing(live_books(root, of, engine, state)) as books:
        recording.go_on()
        shipped(books)
        recording.close()
        of.kind.file_of(root, DAY).unlink()
        with closing(Recording(root, of)) as other:
            other.go_on(100)
            shipped(books)
            shipped(books)
            assert stored(engine, of) == list(range(1, 101))


def test_a_look_costs_no_reading_of_the_archive_nor_of_a_copied_day(
    root: Path, of: StateTables, recording: Recording, engine: ClickHouse, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes each second, for as long as the day is one of the newest two."""
    with closing(live_books(root, of, engine, state)) as books:
        recording.go_on()
        shipped(books)
        recording.close()
        shipped(books)
        path = of.kind.file_of(root, DAY)
        copied = path.with_name("copied")
        shutil.copyfile(path, copied)
        copied.replace(path)  # another file with the same rows
        long_ago_sec = time.time() - 60
        os.utime(path, (long_ago_sec, long_ago_sec))
        assert books.step() == 0
        assert DAY in state.sent(of.word).places(), "the place holds in the copy"
        for kind, name in ((Follower, "read_in"), (BookDays, "days")):
            monkeypatch.setattr(kind, name, lambda *_: pytest.fail("read again"))
        for _ in range(3):
            assert books.step() == 0
        monkeypatch.undo()
        one = next(lively_pushes(("HK.00388",), 1) if of is BOOKS else lively_queues(("HK.00388",), 1))
        with closing(
            BookWriter(root, SqliteOptions(), HK.trading_day, lambda: OPEN_US // 1000, kind=of.kind)
        ) as writer:
            writer.write(DAY, [WatchBegan("HK.00388", OPEN_US)], 0)  # another start
            writer.write(DAY, [PushEntry(one)], 1)
        shipped(books)
    assert is_equal(of, path, engine)
