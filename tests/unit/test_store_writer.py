"""The writer of day files: nothing stored twice, nothing gone without a number, every trouble survived."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hk_tick_collector.core.errors import RowRefused, StoreBusy, StoreCorrupt, StoreError, StoreUnavailable
from hk_tick_collector.core.facts import (
    IN_QUARANTINE,
    UNKNOWN_SEQ,
    HeadProven,
    Interrupted,
    Rejoined,
    Verified,
)
from hk_tick_collector.store import open_files, reader, taken
from hk_tick_collector.store.companions import WalLook
from hk_tick_collector.store.connect import SqliteOptions
from hk_tick_collector.store.symbol_coverage import MAX_LATER
from hk_tick_collector.store.write_result import WriteResult
from hk_tick_collector.store.writer import DayFileWriter
from tests.clock import ManualClock
from tests.nights import examples
from tests.unit.store_ticks import DAY, OPEN_MS, query, table_row, tick, ticks, without_root

NEXT_DAY = "20261123"
COUNT = "SELECT COUNT(*) FROM ticks"


@pytest.fixture
def db(tmp_path):
    return tmp_path / f"{DAY}.db"


@pytest.fixture
def writer(tmp_path):
    made = DayFileWriter(tmp_path, SqliteOptions(busy_timeout_ms=300), ManualClock(OPEN_MS + 5000))
    yield made
    with contextlib.suppress(StoreError):
        made.close()


@contextlib.contextmanager
def locked(db: Path):
    """Another process's writer, as far as SQLite can tell."""
    with contextlib.closing(sqlite3.connect(db, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield other
        if other.in_transaction:
            other.execute("ROLLBACK")


@contextlib.contextmanager
def small_disk(mount: Path, size: str):
    mount.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", mount], capture_output=True, check=False
    )
    if made.returncode != 0:
        pytest.skip("mounting a small tmpfs is not allowed here")
    try:
        yield mount
    finally:
        subprocess.run(["umount", mount], check=True)


def test_row_is_stored_as_it_is(writer, db):
    row = tick(5, seq=(1 << 62) + 1, price=0.1 + 0.2, volume=(1 << 53) + 1, turnover=None, type_sign=None)
    assert writer.write([row]) == WriteResult(1, 0, (DAY,))
    stored = query(db, "SELECT * FROM ticks")[0]
    assert stored == table_row(row, OPEN_MS + 5000)


def test_visible_to_others_when_write_returns(writer, db):
    writer.write(ticks(500))
    assert query(db, COUNT) == [(500,)]


def test_same_batch_again_is_ignored_and_counted(writer, db):
    batch = ticks(100)
    assert writer.write(batch) == WriteResult(100, 0, (DAY,))
    assert writer.write(batch) == WriteResult(0, 100, (DAY,))
    assert writer.write([*batch[:50], *ticks(50, first=101)]) == WriteResult(50, 50, (DAY,))
    assert query(db, COUNT) == [(150,)]


def test_empty_batch(writer, tmp_path):
    assert writer.write([]) == WriteResult()
    assert list(tmp_path.iterdir()) == []


def test_two_symbols_may_carry_the_same_sequence(writer):
    assert writer.write([tick(1), tick(1, symbol="HK.00005")]).inserted_rows == 2


def test_days_are_parted(writer, tmp_path):
    batch = [tick(1), tick(2, day=NEXT_DAY), tick(3), tick(4, day=NEXT_DAY), tick(5)]
    # Counters 1, 3, 5 lie in one file and 2, 4 in the other: three are missing between them.
    assert writer.write(batch) == WriteResult(5, 0, (DAY, NEXT_DAY), missing_ticks=3)
    assert query(tmp_path / f"{DAY}.db", COUNT) == [(3,)]
    assert query(tmp_path / f"{NEXT_DAY}.db", COUNT) == [(2,)]


def test_without_sequence_repeats_are_ignored_with_a_number_of_their_own(writer, db):
    row = tick(1, seq=None)
    other = tick(1, seq=None, price=612.0)
    assert writer.write([row, row, other, tick(2)]) == WriteResult(3, 1, (DAY,), ignored_unsequenced_rows=1)
    assert writer.write([row, other]) == WriteResult(0, 2, (DAY,), ignored_unsequenced_rows=2)
    assert query(db, COUNT) == [(3,)]


@pytest.mark.parametrize("absent", [["price"], ["volume"], ["turnover"], ["price", "volume", "turnover"]])
def test_retry_without_sequence_and_value_stores_nothing_twice(writer, db, absent):
    row = tick(1, seq=None, **dict.fromkeys(absent))
    assert writer.write([row]).inserted_rows == 1
    assert writer.write([row]).ignored_unsequenced_rows == 1
    assert writer.write([tick(2, seq=None, **dict.fromkeys(absent))]).inserted_rows == 1
    assert query(db, COUNT) == [(2,)]


optional = st.sampled_from([None, 1.0, 2.5])
small_ticks = st.builds(
    tick,
    n=st.integers(1, 3),
    symbol=st.sampled_from(["HK.00700", "HK.00005"]),
    day=st.sampled_from([DAY, NEXT_DAY]),
    seq=st.sampled_from([None, None, 1, 2, (1 << 63) - 1]),
    price=optional,
    volume=st.sampled_from([None, 100]),
    turnover=st.just(None),  # not compared between ticks of one sequence
    occurrence=st.sampled_from([0, 0, 1]),
)


def identity(row):
    """What makes two ticks of one file the same."""
    if row.seq is not None:  # two contents with one sequence are two ticks
        return row.trading_day, row.symbol, row.seq, row.ts_ms, row.price, row.volume
    return row.trading_day, row.symbol, row.ts_ms, row.price, row.volume, row.turnover, row.occurrence, "no sequence"


@settings(max_examples=examples(60))
@given(batches=st.lists(st.lists(small_ticks, max_size=8), max_size=4))
def test_any_batches_store_each_identity_once(batches):
    # A trade seen with and without its sequence is one trade (test_store_views.py); here no symbol has both kinds.
    batches = [
        [row._replace(symbol="HK.09999") if row.seq is None else row._replace(occurrence=0) for row in batch]
        for batch in batches
    ]
    with tempfile.TemporaryDirectory() as name:
        writer = DayFileWriter(Path(name), SqliteOptions(synchronous="OFF"))
        known = set()
        for batch in batches:
            new = {identity(row) for row in batch} - known
            result = writer.write(batch)
            assert result.inserted_rows == len(new)
            assert result.inserted_rows + result.ignored_rows == len(batch)
            known |= new
        writer.close()
        for day in {row.trading_day for batch in batches for row in batch}:
            assert query(Path(name) / f"{day}.db", COUNT) == [(sum(key[0] == day for key in known),)]


def test_at_most_two_days_stay_open_and_the_others_lose_their_wal(writer, tmp_path):
    for day in ("20261118", "20261119", "20261120"):
        writer.write(ticks(3, day=day))
    assert tuple(writer._files.open) == ("20261119", "20261120")
    writer.write(ticks(3, first=9, day="20261119"))
    assert tuple(writer._files.open) == ("20261120", "20261119")
    assert not (tmp_path / "20261118.db-wal").exists()
    assert query(tmp_path / "20261118.db", COUNT) == [(3,)]


def test_close_day_and_close_leave_one_file_each(writer, tmp_path):
    writer.write([*ticks(10), *ticks(10, day=NEXT_DAY)])
    assert writer.wal_bytes > 0
    writer.close_day(DAY)
    assert tuple(writer._files.open) == (NEXT_DAY,)
    assert not (tmp_path / f"{DAY}.db-wal").exists()
    writer.close_day(DAY)
    writer.close()
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"{DAY}.db", f"{NEXT_DAY}.db"]
    assert writer.wal_bytes == 0
    assert writer.write([tick(99)]).inserted_rows == 1


@pytest.mark.parametrize("mode", ["WAL", "DELETE", "TRUNCATE", "PERSIST"])
def test_every_journal_mode_stores(tmp_path, mode):
    writer = DayFileWriter(tmp_path, SqliteOptions(journal_mode=mode))
    writer.write(ticks(10))
    writer.close()
    assert query(tmp_path / f"{DAY}.db", COUNT) == [(10,)]


def test_lock_of_another_is_waited_for(writer, db):
    writer.write([tick(1)])
    with locked(db) as other:
        done: list[WriteResult] = []
        thread = threading.Thread(target=lambda: done.append(writer.write([tick(2)])))
        thread.start()
        time.sleep(0.05)
        assert not done
        other.execute("ROLLBACK")
        thread.join(60)
    assert done == [WriteResult(1, 0, (DAY,))]


def test_lock_that_stays_is_busy_after_the_timeout(writer, db):
    writer.write([tick(1)])
    with locked(db):
        began = time.monotonic()
        with pytest.raises(StoreBusy, match=rf"{DAY}\.db.*lsof"):
            writer.write([tick(2)])
        assert time.monotonic() - began > 0.25
        assert writer.failed_day == DAY
        assert tuple(writer._files.open) == ()
    assert writer.write([tick(2)]) == WriteResult(1, 0, (DAY,))
    assert writer.failed_day is None


def test_lock_while_the_file_is_being_made(writer, db):
    with locked(db), pytest.raises(StoreBusy):
        writer.write([tick(1)])
    assert writer.write([tick(1)]).inserted_rows == 1


def test_interrupt_ends_waiting_for_a_lock(tmp_path, db):
    writer = DayFileWriter(tmp_path, SqliteOptions(busy_timeout_ms=60_000))
    writer.write([tick(1)])
    errors: list[BaseException] = []

    def write():
        try:
            writer.write([tick(2)])
        except StoreError as exc:
            errors.append(exc)

    with locked(db):
        thread = threading.Thread(target=write)
        thread.start()
        deadline = time.monotonic() + 60
        while thread.is_alive() and time.monotonic() < deadline:
            writer.interrupt()
            thread.join(0.05)
        assert not thread.is_alive()
    assert [type(error) for error in errors] == [StoreBusy]
    assert writer.write([tick(2)]).inserted_rows == 1
    writer.close()


def test_an_interrupt_is_for_the_call_that_is_under_way(tmp_path, db):
    """The next one has its whole patience again."""
    writer = DayFileWriter(tmp_path, SqliteOptions(busy_timeout_ms=60_000))
    writer.write([tick(1)])
    writer.interrupt()
    other = sqlite3.connect(db, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    unlock = threading.Timer(0.5, lambda: other.execute("ROLLBACK"))
    unlock.start()
    assert writer.write([tick(2)]).inserted_rows == 1
    unlock.join()
    other.close()
    writer.close()


def test_interrupt_ends_a_statement_that_runs(writer, db):
    writer.write([tick(1)])
    with contextlib.closing(sqlite3.connect(db)) as other:
        other.executescript(
            "CREATE TRIGGER slow BEFORE INSERT ON ticks BEGIN SELECT COUNT(*) FROM ("
            "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x FROM c); END;"
        )
    errors: list[BaseException] = []

    def write():
        try:
            writer.write([tick(2)])
        except StoreError as exc:
            errors.append(exc)

    thread = threading.Thread(target=write)
    thread.start()
    deadline = time.monotonic() + 60
    while thread.is_alive() and time.monotonic() < deadline:
        writer.interrupt()
        thread.join(0.05)
    assert not thread.is_alive()
    assert [type(error) for error in errors] == [StoreUnavailable]
    assert query(db, COUNT) == [(1,)]


def test_full_disk_and_freed(writer, db):
    writer.write(ticks(10))
    conn = writer._files.open[DAY].conn
    conn.execute("PRAGMA max_page_count = 1")
    with pytest.raises(StoreUnavailable, match=r"full.*check disk space"):
        writer.write(ticks(5000, first=100))
    assert query(db, COUNT) == [(10,)]
    assert writer.write(ticks(5000, first=100)).inserted_rows == 5000


def test_full_file_system_and_freed(tmp_path):
    with small_disk(tmp_path / "small", "512k") as mount:
        ballast = mount / "ballast"
        writer = DayFileWriter(mount)
        writer.write(ticks(10))
        ballast.write_bytes(b"x" * 250_000)
        with pytest.raises(StoreUnavailable):
            writer.write(ticks(3000, first=100))
        ballast.unlink()
        assert query(mount / f"{DAY}.db", COUNT) == [(10,)]
        assert writer.write(ticks(200, first=100)).inserted_rows == 200
        writer.close()


def test_file_size_limit_of_the_system_is_unavailable(writer, db):
    writer.write(ticks(10))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64 * 1024, hard))
    try:
        with pytest.raises(StoreUnavailable):
            writer.write(ticks(3000, first=100))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert query(db, COUNT) == [(10,)]
    assert writer.write(ticks(3000, first=100)).inserted_rows == 3000


def test_absent_directory_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreUnavailable, match="file"):
        DayFileWriter(tmp_path / "file" / "root").write([tick(1)])


@pytest.mark.parametrize(
    "poison",
    [
        {"volume": 1 << 63},
        {"symbol": None},
        {"recv_ts_ms": None},
        {"trading_day": "../../etc"},
        {"trading_day": None},
        {"direction": "\ud800"},
        {"price": {"not": "a price"}},
        {"seq": None, "symbol": None},
    ],
)
def test_refused_row_is_found_and_costs_nothing_else(writer, db, poison):
    bad = tick(40, **poison)
    batch = [*ticks(39), bad, *ticks(60, first=41)]
    with pytest.raises(RowRefused):
        writer.write(batch)
    assert not db.exists() or query(db, COUNT)[0][0] in (0, 99)
    result, refused = writer.isolate(batch)
    assert [row for row, _ in refused] == [bad]
    assert refused[0][1]
    assert query(db, COUNT) == [(99,)]
    assert result.inserted_rows + result.ignored_rows == 99


def test_many_refused_rows_keep_their_order_and_the_connection(writer, db):
    batch = [tick(n, volume=1 << 70) if n % 2 else tick(n) for n in range(1, 201)]
    writer.write([tick(1000)])
    conn = writer._files.open[DAY].conn
    result, refused = writer.isolate(batch)
    assert [row.ts_ms - OPEN_MS for row, _ in refused] == list(range(1, 200, 2))
    assert (result.inserted_rows, result.ignored_rows, result.days) == (100, 0, (DAY,))
    assert writer._files.open[DAY].conn is conn
    assert query(db, COUNT) == [(101,)]


def test_isolate_passes_other_errors_on_and_can_be_repeated(writer, db):
    writer.write([tick(1)])
    batch = [tick(2), tick(3, volume=1 << 70)]
    with locked(db), pytest.raises(StoreBusy):
        writer.isolate(batch)
    result, refused = writer.isolate(batch)
    assert (result.inserted_rows, len(refused)) == (1, 1)


def test_corrupt_file_is_set_aside_and_recording_goes_on(writer, db, tmp_path, caplog):
    db.write_bytes(b"garbage, not a database" * 400)
    with pytest.raises(StoreCorrupt, match="not a database"):
        writer.write(ticks(10))
    assert writer.failed_day == DAY
    moved = writer.set_aside(DAY, "not a database")
    assert moved == tmp_path / f"{DAY}.db.corrupt-20261120T013005.000Z"
    assert moved.read_bytes().startswith(b"garbage")
    assert "day_file_set_aside" in caplog.text
    assert "hk-tickctl salvage" in caplog.text
    assert writer.write(ticks(10)).inserted_rows == 10
    assert writer.set_aside("20200101", "absent") is None


def test_set_aside_keeps_the_wal_of_an_open_file(writer, db, tmp_path):
    writer.write(ticks(10))
    wal = Path(f"{db}-wal").read_bytes()
    moved = writer.set_aside(DAY, "asked for")
    assert Path(f"{moved}-wal").read_bytes() == wal
    assert writer.write(ticks(3)).inserted_rows == 3
    assert query(db, COUNT) == [(3,)]
    assert query(moved, COUNT) == [(10,)]


def test_directory_in_place_of_the_file_is_set_aside(writer, db):
    db.mkdir()
    with pytest.raises(StoreCorrupt, match="is a directory"):
        writer.write([tick(1)])
    assert writer.set_aside(DAY, "directory").is_dir()
    assert writer.write([tick(1)]).inserted_rows == 1


def test_damage_under_a_running_writer(writer, db):
    writer.write(ticks(20_000))
    writer.close()
    size = db.stat().st_size
    with db.open("r+b") as file:
        for page in range(2, size // 4096):
            file.seek(page * 4096)
            file.write(os.urandom(4096))
    with pytest.raises(StoreCorrupt, match="malformed"):
        writer.write(ticks(2000, first=50_000))
    writer.set_aside(DAY, "malformed")
    assert writer.write(ticks(2000, first=50_000)).inserted_rows == 2000


def test_table_that_vanished_is_corrupt(writer, db):
    writer.write([tick(1)])
    with contextlib.closing(sqlite3.connect(db)) as other:
        other.execute("DROP TABLE ticks")
    with pytest.raises(StoreCorrupt, match="no such table"):
        writer.write([tick(2)])


@pytest.mark.parametrize("how", ["exchanged while open", "exchanged while closed", "copied over"])
def test_rows_in_a_file_that_somebody_put_there_follow_an_interruption(writer, db, tmp_path, how):
    """It holds what goes before by its counters alone: the feed knows nothing of it until it reads the files anew."""
    facts = [HeadProven("HK.00700", DAY, 1), Verified("HK.00700", DAY, 5, OPEN_MS)]
    other = DayFileWriter(tmp_path / "other")
    other.write(ticks(6), facts)
    other.close()
    writer.write(ticks(5, first=100))
    if how == "copied over":
        with contextlib.closing(sqlite3.connect(db)) as conn:
            conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        db.write_bytes((tmp_path / "other" / f"{DAY}.db").read_bytes())
    else:
        if how == "exchanged while closed":
            writer.close_day(DAY)
        db.unlink()
        (tmp_path / "other" / f"{DAY}.db").rename(db)
    assert writer.write(ticks(3, first=7)).replaced_files == 1
    assert writer.write(ticks(1, first=10)).replaced_files == 0
    assert query(db, "SELECT state, stored_ticks, interrupted_seq FROM coverage") == [
        ("unproven", 10, ticks(1, first=6)[0].seq)
    ]
    writer.write([], [Rejoined("HK.00700", DAY, ticks(1, first=6)[0].seq)])
    writer.write(ticks(1, first=11))
    assert query(db, "SELECT state, interrupted_seq FROM coverage") == [("proven", None)]


@pytest.mark.parametrize("how", ["cut to nothing", "an older copy"])
@pytest.mark.parametrize("left", ["closed", "dropped"])
def test_a_file_that_lost_its_rows_while_we_had_no_connection_is_another_one(writer, db, caplog, left, how):
    """Its inode is the same: only what it holds tells."""
    writer.write(ticks(5), [HeadProven("HK.00700", DAY, 1), Verified("HK.00700", DAY, 5, OPEN_MS)])
    writer.close_day(DAY)
    older = db.read_bytes()
    writer.write(ticks(10, first=6))
    if left == "closed":
        writer.close_day(DAY)
    else:
        with locked(db), pytest.raises(StoreBusy):
            writer.write(ticks(1, first=16))
        with contextlib.closing(sqlite3.connect(db)) as conn:
            conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    db.write_bytes(b"" if how == "cut to nothing" else older)
    assert writer.write(ticks(2, first=16)).replaced_files == 1
    assert caplog.text.count("day_file_replaced") == 1
    assert writer.write(ticks(1, first=18)).replaced_files == 0
    assert [row.state for row in reader.coverage(db)] == ["unproven" if how == "cut to nothing" else "missing"]


@pytest.mark.parametrize("again", ["closed", "set aside", "dropped"])
def test_the_writers_own_file_is_not_taken_for_anothers(writer, db, again):
    writer.write(ticks(5))
    if again == "closed":
        writer.close_day(DAY)
    elif again == "set aside":
        writer.set_aside(DAY, "damaged")
    else:
        with locked(db), pytest.raises(StoreBusy):
            writer.write(ticks(1, first=6))
    assert writer.write(ticks(1, first=6)).replaced_files == 0
    assert query(db, "SELECT interrupted_seq FROM coverage") == [(None,)]


def test_a_caution_is_known_before_the_rows_of_its_batch(writer, db):
    writer.write(ticks(5))
    writer.write(ticks(3, first=6), [Interrupted("HK.00700", DAY, UNKNOWN_SEQ)])
    assert query(db, "SELECT interrupted_seq FROM coverage") == [(tick(5).seq,)]
    writer.write(ticks(3, first=9), [Interrupted("HK.00700", DAY, tick(8).seq)])
    assert query(db, "SELECT interrupted_seq FROM coverage") == [(tick(5).seq,)], "the earlier one is still open"
    both = "SELECT interrupted_seq, later_interruptions FROM coverage"
    assert query(db, both) == [(tick(5).seq, str(tick(8).seq))]
    writer.write([], [Rejoined("HK.00700", DAY, tick(8).seq)])
    assert query(db, both) == [(tick(5).seq, "")], "and a later one's end does not end it"
    writer.write(ticks(3, first=12), [Interrupted("HK.00700", DAY, tick(n).seq) for n in (11, 8)])
    assert query(db, both) == [(tick(5).seq, f"{tick(8).seq} {tick(11).seq}")]
    writer.write([], [Rejoined("HK.00700", DAY, tick(5).seq)])
    assert query(db, both) == [(None, None)]


def test_of_a_file_of_before_later_interruptions_nothing_is_known(writer, db):
    """Nor of more of them than are noted."""
    writer.write(ticks(5))
    writer.write(ticks(1, first=6), [Interrupted("HK.00700", DAY, tick(5).seq)])
    writer.close()
    with contextlib.closing(sqlite3.connect(db)) as conn:
        conn.execute("ALTER TABLE coverage DROP COLUMN later_interruptions")
        conn.commit()
    (row,) = reader.coverage(db)
    assert (row.interrupted_seq, row.later_seqs) == (tick(5).seq, None)
    writer.write(ticks(1, first=7), [Interrupted("HK.00700", DAY, tick(6).seq)])
    assert [row.later_seqs for row in reader.coverage(db)] == [None]
    writer.write([], [Rejoined("HK.00700", DAY, tick(5).seq)])
    writer.write(ticks(99, first=8), [Interrupted("HK.00700", DAY, tick(n).seq) for n in (7, 8)])
    assert [row.later_seqs for row in reader.coverage(db)] == [[tick(8).seq]]
    writer.write([], [Interrupted("HK.00700", DAY, tick(n).seq) for n in range(9, 9 + MAX_LATER)])
    assert [row.later_seqs for row in reader.coverage(db)] == [None]


@pytest.mark.parametrize("how", ["removed", "moved", "exchanged"])
def test_a_file_that_was_taken_away_is_left_and_what_it_held_is_kept(writer, db, tmp_path, caplog, how):
    facts = [HeadProven("HK.00700", DAY, 1), Verified("HK.00700", DAY, 5, OPEN_MS)]
    writer.write(ticks(5), facts)
    taken = tmp_path / "taken.db"
    db.rename(taken)
    if how == "removed":
        for file in (taken, Path(f"{db}-wal"), Path(f"{db}-shm")):
            file.unlink()
    if how == "exchanged":
        other = DayFileWriter(tmp_path / "other")
        other.write(ticks(2, first=100))
        other.close()
        (tmp_path / "other" / f"{DAY}.db").rename(db)
    result = writer.write(ticks(5, first=6))
    assert (result.inserted_rows, result.replaced_files) == (5, 1)
    assert writer.write([tick(11)]).replaced_files == 0
    assert query(db, COUNT) == [(8 if how == "exchanged" else 11,)]
    assert "day_file_replaced" in caplog.text
    assert not list(tmp_path.glob(".*.rescue"))
    if how == "exchanged":
        kept = [path for path in tmp_path.glob(f"{DAY}.db.corrupt-*") if not path.name.endswith(("-wal", "-shm"))]
        assert [query(path, COUNT) for path in kept] == [[(5,)]]
        assert str(kept[0]) in caplog.text
    else:
        assert query(db, "SELECT state, stored_ticks FROM coverage") == [("proven", 11)], "notes come along"
        assert stat.S_IMODE(db.stat().st_mode) == 0o640
    if how == "moved":  # what only the WAL of the moved file has is not lost either
        (orphan,) = tmp_path.glob(f"{DAY}.db.corrupt-*-wal")
        assert str(orphan) in caplog.text
        orphan.rename(tmp_path / "taken.db-wal")
        assert query(taken, COUNT) == [(5,)]
    writer.close()
    assert query(db, "PRAGMA integrity_check") == [("ok",)]


@pytest.mark.parametrize("by", ["close", "close_day"])
@pytest.mark.parametrize("how", ["removed", "exchanged"])
def test_a_file_that_was_taken_away_since_the_last_row_is_kept_when_it_is_closed(writer, db, tmp_path, how, by):
    writer.write(ticks(5))
    for file in tmp_path.glob(f"{DAY}.db*"):
        file.unlink()
    if how == "exchanged":
        other = DayFileWriter(tmp_path / "other")
        other.write(ticks(2, first=100))
        other.close()
        (tmp_path / "other" / f"{DAY}.db").rename(db)
    writer.close() if by == "close" else writer.close_day(DAY)
    kept = [db] if how == "removed" else list(tmp_path.glob(f"{DAY}.db.corrupt-*"))
    assert [query(path, COUNT) for path in kept] == [[(5,)]]
    assert how == "removed" or query(db, COUNT) == [(2,)]


def test_a_file_taken_away_that_cannot_be_copied_does_not_stop_the_writing(writer, db, tmp_path, caplog, monkeypatch):
    writer.write(ticks(5))
    (tmp_path / f".{DAY}.db.rescue").mkdir()
    db.unlink()
    assert writer.write(ticks(5, first=6)) == WriteResult(5, 0, (DAY,), replaced_files=1)
    assert query(db, COUNT) == [(5,)]
    assert "day_file_not_rescued" in caplog.text
    assert "what OpenD still has is fetched" in caplog.text


def test_a_copy_whose_name_is_refused_is_made_again_and_the_day_is_interrupted(writer, db, tmp_path, monkeypatch):
    writer.write(ticks(5))
    other = DayFileWriter(tmp_path / "other")
    other.write(ticks(2, first=100))
    other.close()
    (tmp_path / "other" / f"{DAY}.db").replace(db)
    with monkeypatch.context() as refusing:
        refusing.setattr(Path, "hardlink_to", refuse)
        with pytest.raises(StoreUnavailable, match="Input/output error"):
            writer.write(ticks(5, first=102))
    assert writer.write(ticks(5, first=102)).replaced_files == 1
    assert query(db, "SELECT interrupted_seq FROM coverage") == [(tick(101).seq,)]
    writer.close()
    (kept,) = tmp_path.glob(f"{DAY}.db.corrupt-*Z")
    assert (query(kept, COUNT), query(db, COUNT)) == ([(5,)], [(7,)])
    assert not list(tmp_path.glob(".*.rescue"))


def refuse(*_: object) -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


@pytest.mark.parametrize("when", ["later", "at the end", "never"])
def test_what_a_removed_file_held_is_kept_as_soon_as_there_is_room(writer, db, tmp_path, caplog, monkeypatch, when):
    writer.write(ticks(5))
    no_room = tmp_path / f".{DAY}.db.rescue"
    no_room.mkdir()
    for file in tmp_path.glob(f"{DAY}.db*"):
        file.unlink()
    assert writer.write(ticks(5, first=6)).replaced_files == 1
    if when != "never":
        no_room.rmdir()
    if when == "later":
        assert not list(tmp_path.glob("*.corrupt-*"))
        monkeypatch.setattr(taken, "AGAIN_SEC", 0.0)
        monkeypatch.setattr(writer._files._taken, "_again_at_sec", 0.0)
        writer.write(ticks(5, first=11))
        assert list(tmp_path.glob("*.corrupt-*"))
    writer.close()
    kept = list(tmp_path.glob("*.corrupt-*"))
    assert [query(file, COUNT) for file in kept] == ([] if when == "never" else [[(5,)]])
    assert query(db, COUNT) == [(10 if when == "later" else 5,)]
    assert ("day_file_let_go" in caplog.text) == (when == "never")
    assert open_descriptors(tmp_path) == []


def test_a_removed_file_that_cannot_be_copied_makes_room_for_new_rows(writer, db, tmp_path, caplog, monkeypatch):
    writer.write(ticks(5))
    (tmp_path / f".{DAY}.db.rescue").mkdir()
    for file in tmp_path.glob(f"{DAY}.db*"):
        file.unlink()
    writer.write(ticks(5, first=6))
    assert any(name.endswith("(deleted)") for name in open_descriptors(tmp_path))
    writer._files.open[DAY].conn.execute("PRAGMA max_page_count = 1")
    with pytest.raises(StoreUnavailable, match="full"):
        writer.write(ticks(5000, first=11))
    assert not any(name.endswith("(deleted)") for name in open_descriptors(tmp_path))
    assert "day_file_let_go" in caplog.text
    assert writer.write(ticks(5000, first=11)).inserted_rows == 5000


def test_a_failure_that_has_nothing_to_do_with_room_lets_no_removed_file_go(writer, db, tmp_path, caplog):
    writer.write(ticks(5))
    refused = tmp_path / f".{DAY}.db.rescue"
    refused.mkdir()
    for file in tmp_path.glob(f"{DAY}.db*"):
        file.unlink()
    writer.write(ticks(5, first=6))
    with contextlib.closing(sqlite3.connect(tmp_path / f"{NEXT_DAY}.db")) as conn:
        conn.execute("CREATE TABLE ticks (a)")
        conn.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreUnavailable, match="newer recorder"):
        writer.write(ticks(1, trading_day=NEXT_DAY))
    refused.rmdir()
    writer.close()
    (kept,) = tmp_path.glob(f"{DAY}.db.corrupt-*")
    assert query(kept, COUNT) == [(5,)]
    assert "day_file_let_go" not in caplog.text


def test_no_copy_is_begun_for_which_there_is_no_room(tmp_path, caplog, monkeypatch):
    """It would fill the disk for the spill and the books as well, and once a minute."""
    monkeypatch.setattr(taken, "AGAIN_SEC", 0.0)
    with small_disk(tmp_path / "small", "6m") as disk, contextlib.closing(DayFileWriter(disk)) as writer:
        writer.write(ticks(5000))
        statements = []
        writer._files.open[DAY].conn.set_trace_callback(statements.append)
        for file in disk.glob(f"{DAY}.db*"):
            file.unlink()
        ballast = disk / "ballast"
        free = os.statvfs(disk)
        ballast.write_bytes(bytes(free.f_bavail * free.f_frsize - 500_000))
        for first in (6001, 6006):
            writer.write(ticks(5, first=first))
        assert not [statement for statement in statements if "VACUUM" in statement]
        assert caplog.text.count("do not fit into") == 3
        ballast.unlink()
        writer.write(ticks(5, first=6011))
        (kept,) = disk.glob(f"{DAY}.db.corrupt-*")
        assert (query(kept, COUNT), query(disk / f"{DAY}.db", COUNT)) == ([(5000,)], [(15,)])


def open_descriptors(directory: Path) -> list[str]:
    paths = (str(path.readlink()) for path in Path("/proc/self/fd").iterdir() if path.is_symlink())
    return [path for path in paths if path.startswith(f"{directory}/")]


@pytest.mark.parametrize("at", ["before", "during"])
def test_a_writer_that_was_given_up_keeps_what_a_removed_file_held_and_leaves_the_next_one_s_alone(
    writer, db, tmp_path, caplog, at
):
    """A copy of gigabytes may take longer than the watchdog waits."""
    writer.write(ticks(5))
    for file in tmp_path.glob(f"{DAY}.db*"):
        file.unlink()
    heir = DayFileWriter(tmp_path)
    conn = writer._files.open[DAY].conn

    def give_up() -> int:
        conn.set_progress_handler(None, 0)
        heir.write(ticks(3, first=6))
        writer.interrupt()
        return 0

    is_begun = False

    def statement(sql: str) -> None:
        nonlocal is_begun
        if sql.startswith("VACUUM INTO") and not is_begun:
            is_begun = True
            if at == "during":
                conn.set_progress_handler(give_up, 1)
            else:
                give_up()

    conn.set_trace_callback(statement)
    with pytest.raises(StoreUnavailable, match="another writer goes on"):
        writer.write(ticks(2, first=9))
    writer.close()

    heir.write(ticks(2, first=9))
    assert query(db, COUNT) == [(5,)], "what the next one stored is at the path, WAL and all"
    heir.close()
    (kept,) = tmp_path.glob(f"{DAY}.db.corrupt-*")
    assert query(kept, COUNT) == [(5,)]
    assert f"kept={kept}" in caplog.text


def test_a_copy_over_the_live_file_is_noticed(writer, db, tmp_path, caplog):
    """`cp snapshot.db DAY.db` beside the recorder: SQLite sees no commit. The copy is of the file itself, so its pages
    lie where those in memory lay; pages of another layout make SQLite stumble in a way that depends on the schema."""
    small = DayFileWriter(tmp_path, SqliteOptions(wal_autocheckpoint=20))
    for first in range(1, 2001, 100):
        small.write(ticks(100, first=first))
    with contextlib.closing(sqlite3.connect(db)) as other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    snapshot = db.read_bytes()
    for first in range(2001, 6001, 100):
        small.write(ticks(100, first=first))
    db.write_bytes(snapshot)
    with pytest.raises(StoreCorrupt, match="was overwritten: it holds 2000 rows, 6000 were committed"):
        small.write(ticks(100, first=6001))
    assert small.failed_day == DAY
    small.set_aside(DAY, "damaged")
    assert small.write(ticks(5, first=6001)).inserted_rows == 5
    small.close()
    assert query(db, COUNT) == [(5,)]


def test_pages_zeroed_in_place_are_noticed_and_the_next_file_is_watched_too(tmp_path, db):
    small = DayFileWriter(tmp_path, SqliteOptions(wal_autocheckpoint=1))

    def spoil() -> None:
        with db.open("r+b") as file:
            file.seek(db.stat().st_size // 2)
            file.write(bytes(12 * 4096))

    for _ in range(2):
        for first in range(1, 3001, 500):
            small.write(ticks(500, first=first))
        spoil()
        with pytest.raises(StoreCorrupt, match="is damaged: "):
            small.write([tick(3001)])
        small.set_aside(DAY, "damaged")
    small.close()


def test_a_checkpoint_of_somebody_else_is_no_damage_and_is_read_once(writer, db, caplog):
    writer.write(ticks(500))
    with contextlib.closing(sqlite3.connect(db)) as other:
        other.execute("PRAGMA wal_checkpoint").fetchall()
    writer.write(ticks(5, first=501))
    writer.write(ticks(5, first=506))
    assert caplog.text.count("day_file_written_by_others") == 1
    assert query(db, COUNT) == [(510,)]


def test_a_sound_file_with_more_rows_than_were_committed_is_anothers(writer, db, monkeypatch):
    writer.write(ticks(500))
    with contextlib.closing(sqlite3.connect(db)) as other:
        other.execute("PRAGMA wal_checkpoint").fetchall()
    monkeypatch.setattr(open_files, "rows_if_sound", lambda *_: 501)
    assert writer.write(ticks(5, first=501)).replaced_files == 1
    assert query(db, "SELECT interrupted_seq FROM coverage") == [(tick(500).seq,)]


def test_rows_that_another_program_removed_are_missed_at_once_and_after_a_restart(writer, db, tmp_path):
    proof = [HeadProven("HK.00700", DAY, 1), Verified("HK.00700", DAY, 20, OPEN_MS)]
    writer.write(ticks(20), proof)

    def remove(counters: str) -> None:
        with contextlib.closing(sqlite3.connect(db)) as other, other:
            assert other.execute(f"DELETE FROM ticks WHERE (seq & 0xFFFFFFFF) IN ({counters})").rowcount > 0

    remove("7, 8")
    writer.write(ticks(1, first=21))
    states = "SELECT state, missing_ticks, stored_ticks FROM coverage"
    assert query(db, states) == [("missing", 2, 19)]
    writer.close()
    remove("9")
    writer.write(ticks(1, first=22))
    assert query(db, states) == [("missing", 3, 19)]


def test_a_big_file_is_counted_at_its_opening_only_if_somebody_wrote_to_it(tmp_path, db, monkeypatch):
    monkeypatch.setattr("hk_tick_collector.store.coverage.COUNTED_ROWS", 10)
    real = DayFileWriter(tmp_path)
    real.write(ticks(50))
    real.close()
    statements: list[str] = []
    opened = open_files.open_day_file

    def traced(*args: object) -> sqlite3.Connection:
        conn = opened(*args)
        conn.set_trace_callback(statements.append)
        return conn

    monkeypatch.setattr(open_files, "open_day_file", traced)
    again = DayFileWriter(tmp_path)
    again.write([tick(51)])
    again.close()
    assert not any("COUNT(*) FROM ticks" in sql for sql in statements), "its own last commit: the newest rowid counts"
    os.utime(db, (time.time() + 60, time.time() + 60))
    again.write([tick(52)])
    again.close()
    assert any("COUNT(*) FROM ticks" in sql for sql in statements)


def test_wal_without_its_database_is_kept_at_the_start(writer, db, tmp_path, caplog):
    writer.write(ticks(5))
    wal = Path(f"{db}-wal").read_bytes()
    db.unlink()
    assert DayFileWriter(tmp_path).write(ticks(2)).inserted_rows == 2
    (orphan,) = tmp_path.glob(f"{DAY}.db.corrupt-*-wal")
    assert orphan.read_bytes() == wal
    assert "day_file_wal_orphaned" in caplog.text


def test_foreign_exception_leaves_no_transaction(writer, db):
    writer.write([tick(1)])

    class Wrong:
        def __conform__(self, _):  # called by sqlite3 while it binds the row
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        writer.write([tick(2), tick(3, price=Wrong())])
    assert query(db, COUNT) == [(1,)]
    with locked(db):  # nobody holds the lock any more
        pass
    assert writer.write([tick(2)]).inserted_rows == 1


def test_close_keeps_the_first_error_and_closes_the_rest(writer, tmp_path):
    writer.write([*ticks(3), *ticks(3, day=NEXT_DAY)])
    writer._files.open[DAY].conn.close()  # checkpoint on it fails
    with pytest.raises(StoreError, match=f"{DAY}.db"):
        writer.close()
    assert tuple(writer._files.open) == ()
    assert not (tmp_path / f"{NEXT_DAY}.db-wal").exists()


def test_reader_with_an_open_transaction_does_not_stop_the_writer(writer, db):
    writer.write([tick(1)])
    with contextlib.closing(sqlite3.connect(f"file:{db}?mode=ro", uri=True, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        assert reader.execute(COUNT).fetchone() == (1,)
        assert writer.write(ticks(3000, first=2)).inserted_rows == 3000
        assert reader.execute(COUNT).fetchone() == (1,)


def test_wal_of_a_killed_process_is_read(tmp_path, db):
    code = (
        "import os; from pathlib import Path; from tests.unit.store_ticks import ticks\n"
        "from hk_tick_collector.store.writer import DayFileWriter\n"
        f"writer = DayFileWriter(Path({str(tmp_path)!r})); writer.write(ticks(700)); os.kill(os.getpid(), 9)"
    )
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", code], cwd=root, check=False)
    assert Path(f"{db}-wal").stat().st_size > 0
    assert DayFileWriter(tmp_path).write(ticks(701)) == WriteResult(1, 700, (DAY,))


def test_a_file_removed_while_a_batch_waits_for_its_lock_does_not_take_the_batch_with_it(tmp_path: Path) -> None:
    """Whoever removes a day file holds its lock (archive/retain.py): the batch that waited goes into a new file, and so
    do the rows of the old one."""
    writer = DayFileWriter(tmp_path)
    writer.write(ticks(10))
    db = tmp_path / f"{DAY}.db"
    remover = sqlite3.connect(db, isolation_level=None)
    remover.execute("BEGIN IMMEDIATE")
    begun = threading.Event()

    def write() -> None:
        begun.set()
        writer.write([tick(1_000)])

    thread = threading.Thread(target=write)
    thread.start()
    begun.wait(60)
    deadline = time.monotonic() + 60
    while not lock_is_waited_for() and time.monotonic() < deadline:
        time.sleep(0.005)
    db.unlink()
    remover.execute("COMMIT")
    remover.close()
    thread.join(60)
    assert not thread.is_alive()
    writer.close()
    assert query(db, "SELECT COUNT(*) FROM ticks") == [(11,)]


def lock_is_waited_for() -> bool:
    """The writing thread is inside ``OpenFiles.waiting``."""
    stacks = [traceback.walk_stack(frame) for frame in sys._current_frames().values()]
    return any(frame.f_code is open_files.OpenFiles.waiting.__code__ for stack in stacks for frame, _ in stack)


def test_a_refused_row_leaves_a_mark_on_its_symbols_day(writer, db):
    proof = [HeadProven("HK.00700", DAY, 1), Verified("HK.00700", DAY, 9, OPEN_MS)]
    writer.write([*ticks(9), tick(1, "HK.00005")], [*proof, HeadProven("HK.00005", DAY, 1)])
    assert query(db, "SELECT state FROM coverage WHERE symbol = 'HK.00700'") == [("proven",)]
    _, refused = writer.isolate([tick(10, price=object())])
    assert len(refused) == 1
    assert query(db, "SELECT symbol, state, reason FROM coverage") == [
        ("HK.00005", "unproven", "not yet confirmed by a pull"),
        ("HK.00700", "unproven", IN_QUARANTINE),
    ]


def test_a_companion_that_a_reader_left_is_named_with_its_owner():
    """The recorder cannot write a -shm of another user: it says which file, whose, and what to do."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        root.chmod(0o777)
        with without_root():
            writer = DayFileWriter(root)
            writer.write(ticks(3))
            writer.close()
        if os.geteuid() != 0:
            pytest.skip("needs files of two users")
        for suffix in ("-wal", "-shm"):
            root.joinpath(f"{DAY}.db{suffix}").touch(mode=0o640)
            root.joinpath(f"{DAY}.db{suffix}").chmod(0o644)
        with without_root():
            writer = DayFileWriter(root, SqliteOptions(busy_timeout_ms=50))
            with pytest.raises(StoreUnavailable, match=r"20261120\.db-(wal|shm) belongs to root .uid 0.*remove it"):
                writer.write(ticks(9))
            for suffix in ("-wal", "-shm"):
                root.joinpath(f"{DAY}.db{suffix}").unlink()
            assert writer.write(ticks(9)).inserted_rows == 6
            writer.close()


@pytest.mark.parametrize("removed", [("-wal",), ("-shm",), ("-wal", "-shm")])
def test_a_wal_removed_under_the_writer_is_noticed_and_readers_work_again(writer, db, caplog, monkeypatch, removed):
    monkeypatch.setattr("hk_tick_collector.store.open_files.WAL_LOOK_SEC", 0)
    writer.write(ticks(50))
    for suffix in removed:
        db.with_name(db.name + suffix).unlink()
    writer.write(ticks(50, first=51))  # into the file without a name
    writer.write(ticks(50, first=101))
    assert "day_file_wal_removed" in caplog.text
    assert query(db, COUNT) == [(150,)]
    writer.write(ticks(50, first=151))
    assert query(db, COUNT) == [(200,)]
    assert caplog.text.count("day_file_wal_removed") == 1
    writer.close()
    assert query(db, COUNT) == [(200,)]
    assert query(db, "SELECT stored_ticks FROM coverage") == [(200,)]


def test_a_wal_removed_under_the_writer_and_a_reader_loses_nothing(writer, db, monkeypatch):
    """While a reader of before holds up the checkpoint, the writer keeps the file without a name."""
    monkeypatch.setattr("hk_tick_collector.store.open_files.WAL_LOOK_SEC", 0)
    writer.write(ticks(50))
    with contextlib.closing(sqlite3.connect(f"file:{db}?mode=ro", uri=True, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        assert reader.execute(COUNT).fetchone() == (50,)
        db.with_name(f"{db.name}-wal").unlink()
        for first in range(51, 200, 50):
            writer.write(ticks(50, first=first))
        reader.execute("COMMIT")
    writer.write(ticks(50, first=201))
    writer.write(ticks(50, first=251))
    assert query(db, COUNT) == [(300,)]


def test_the_wal_is_looked_at_no_more_than_once_a_second(writer, monkeypatch):
    looks = []
    real = WalLook._ids
    monkeypatch.setattr(WalLook, "_ids", lambda look: looks.append(1) or real(look))
    monkeypatch.setattr("hk_tick_collector.store.open_files.WAL_LOOK_SEC", 1e9)
    for first in range(1, 100, 5):
        writer.write(ticks(5, first=first))
    assert len(looks) == 1
