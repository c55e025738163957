"""Files that a recorder writes are read by one SQLite in a process: a second one would drop the first one's locks.

POSIX locks belong to the process, and closing any descriptor of a file gives up all of them (fcntl(2)). SQLite looks
after that within one library alone.
"""

from __future__ import annotations

import contextlib
import gc
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pyarrow as pa
import pytest

from hk_tick_collector.core.errors import StoreCorrupt
from hk_tick_collector.days import arrow_sql
from hk_tick_collector.days.books import read_stored
from hk_tick_collector.days.scan import scan_day_file, scan_symbols
from hk_tick_collector.store import companions
from hk_tick_collector.store.book_file import open_for_reading
from hk_tick_collector.store.companions import is_closed, opening
from hk_tick_collector.store.connect import SqliteOptions, open_day_file
from hk_tick_collector.store.layout import book_file, day_file
from hk_tick_collector.store.read_only import open_read_only
from hk_tick_collector.store.writer import DayFileWriter
from tests.harness import ended
from tests.serving import BuiltServer
from tests.tickctl import record_day
from tests.ticks import make_ticks
from tests.unit.client.days import recordings

pytestmark = pytest.mark.filterwarnings("ignore::hk_tick_collector.client.errors.IncompleteData")
DAY = "20261120"
ROWS = 2000
# A recorder: it writes, says so, keeps the files open until it is told to end, and closes them.
RECORDER = """
import sys
from pathlib import Path
from hk_tick_collector.market.hk import HK
from hk_tick_collector.records.book import PushEntry, WatchBegan
from hk_tick_collector.store.book_writer import BookWriter
from hk_tick_collector.store.connect import SqliteOptions
from hk_tick_collector.store.writer import DayFileWriter
from tests.books import DAY, lively_pushes
from tests.ticks import make_ticks

root = Path(sys.argv[1])
ticks = DayFileWriter(root)
ticks.write(make_ticks(1, int(sys.argv[2])))
pushes = list(lively_pushes(("HK.00005", "HK.00700"), int(sys.argv[2])))
books = BookWriter(root, SqliteOptions(), HK.trading_day, lambda: pushes[-1].recv_ts_us // 1000)
books.write(DAY, [WatchBegan("HK.00005", pushes[0].recv_ts_us), *map(PushEntry, pushes)], len(pushes))
print("written", flush=True)
sys.stdin.readline()
ticks.close()
books.close()
"""


@contextmanager
def recorder(root: Path) -> Iterator[Callable[[], None]]:
    """A recorder that has written a day and has its files open; call to end it."""
    process = subprocess.Popen(
        [sys.executable, "-c", RECORDER, str(root), str(ROWS)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )

    def end() -> None:
        process.communicate("\n", timeout=60)
        assert process.returncode == 0

    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "written\n"
        yield end
    finally:
        process.kill()
        process.wait()


def locks_of_ours(db: Path) -> list[list[str]]:
    """The locks of this process on a database and its shared memory, as the kernel lists them: how, device and inode,
    from where to where."""
    inodes = {str(path.stat().st_ino) for path in (db, db.with_name(f"{db.name}-shm")) if path.exists()}
    lines = (line.split() for line in Path("/proc/locks").read_text(encoding="ascii").splitlines())
    return sorted(
        fields[3:] for fields in lines if fields[4] == str(os.getpid()) and fields[5].rpartition(":")[2] in inodes
    )


def _rows(batches: Iterable[pa.RecordBatch]) -> int:
    return sum(batch.num_rows for batch in batches)


def _check_locks_stay(
    recorder_ends: Callable[[], None], db: Path, reader: sqlite3.Connection, count_sql: str, read: Callable[[], int]
) -> None:
    stored_rows = reader.execute(count_sql).fetchone()[0]
    held = locks_of_ours(db)
    assert held
    assert read() == stored_rows
    assert locks_of_ours(db) == held
    recorder_ends()
    # It closed the file, and saw that somebody still reads: else it would have taken the WAL with it.
    assert db.with_name(f"{db.name}-wal").exists()
    assert read() == reader.execute(count_sql).fetchone()[0] >= stored_rows


@pytest.mark.parametrize(
    "read",
    [
        pytest.param(lambda db: _rows(scan_day_file(db)), id="a whole day"),
        pytest.param(lambda db: scan_symbols(db, ["HK.00700"]).num_rows, id="one symbol"),
        pytest.param(lambda db: recordings(db.parent).load("all", DAY).num_rows, id="the Python API"),
    ],
)
def test_a_reader_of_ticks_keeps_its_locks_while_arrow_reads_them(tmp_path: Path, read: Callable[[Path], int]) -> None:
    with recorder(tmp_path) as ends:
        db = day_file(tmp_path, DAY)
        with closing(open_read_only(db)) as reader:
            _check_locks_stay(ends, db, reader, "SELECT count(*) FROM ticks", lambda: read(db))


def test_a_reader_of_order_books_keeps_its_locks_while_arrow_reads_them(tmp_path: Path) -> None:
    with recorder(tmp_path) as ends:
        db = book_file(tmp_path, DAY)
        with closing(open_for_reading(db)) as reader:
            count_sql = "SELECT count(*) FROM pushes"
            _check_locks_stay(ends, db, reader, count_sql, lambda: _rows(read_stored(db)))


def test_locks_on_a_closed_file_that_becomes_live_while_it_is_read_stay(tmp_path: Path) -> None:
    """The driver, with its own SQLite, has the file open by then, and closing it would drop them."""
    record_day(tmp_path, DAY)
    db = day_file(tmp_path, DAY)
    batches = scan_day_file(db, workers=1, stripe_rows=10)
    next(batches)
    with recorder(tmp_path) as ends, closing(open_read_only(db)) as reader:
        reader.execute("SELECT count(*) FROM ticks").fetchone()
        held = locks_of_ours(db)
        assert held
        list(batches)
        assert locks_of_ours(db) == held
        ends()
        assert db.with_name(f"{db.name}-wal").exists()
    with closing(DayFileWriter(tmp_path)) as writer:
        writer.write(make_ticks(1, 1))
    assert _rows(scan_day_file(db))
    descriptors = [str(path.readlink()) for path in Path("/proc/self/fd").iterdir() if path.exists()]
    assert str(db) not in descriptors, "once the file is closed again, the driver's are closed, too"


def test_a_connection_that_begins_to_lock_while_the_driver_s_are_closed_keeps_its_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has none when the kernel is asked."""
    record_day(tmp_path, DAY)
    db = day_file(tmp_path, DAY)
    batches = scan_day_file(db, workers=1, stripe_rows=10)
    next(batches)
    with recorder(tmp_path), closing(companions.connect_live(db, "ro", 1.0)) as reader:
        rows = []

        def begins_to_lock(_path: Path) -> bool:
            rows.append(reader.execute("SELECT price FROM ticks"))
            rows[0].fetchone()
            return False

        monkeypatch.setattr(arrow_sql, "holds_locks", begins_to_lock)
        list(batches)
        if not rows:
            begins_to_lock(db)
        assert [lock for lock in locks_of_ours(db) if lock[2].endswith(f":{db.stat().st_ino}")]
        rows[0].close()
    monkeypatch.undo()
    with closing(DayFileWriter(tmp_path)) as writer:
        writer.write(make_ticks(1, 1))
    assert _rows(scan_day_file(db))
    descriptors = [str(path.readlink()) for path in Path("/proc/self/fd").iterdir() if path.exists()]
    assert str(db) not in descriptors


@pytest.mark.parametrize("who", ["reader", "writer"])
def test_locks_on_a_file_with_a_rollback_journal_stay_when_it_is_looked_at(tmp_path: Path, who: str) -> None:
    """Nothing stands beside such a file while it is read, or before a transaction writes its first page."""
    with closing(DayFileWriter(tmp_path, SqliteOptions(journal_mode="DELETE"))) as writer:
        writer.write(make_ticks(1, ROWS))
    db = day_file(tmp_path, DAY)
    with closing(sqlite3.connect(db, isolation_level=None)) as conn:
        rows = conn.execute("BEGIN IMMEDIATE" if who == "writer" else "SELECT price FROM ticks")
        rows.fetchone()
        held = locks_of_ours(db)
        assert held
        assert not is_closed(db)
        with closing(open_read_only(db)) as reader:
            assert reader.execute("SELECT count(*) FROM ticks").fetchone() == (ROWS,)
        assert locks_of_ours(db) == held
        rows.close()


@pytest.mark.parametrize("name", ["its own name", "another name"])
@pytest.mark.parametrize("opened_by", [open_day_file, open_read_only], ids=["writer", "reader"])
def test_a_connection_of_ours_that_begins_to_lock_while_the_file_is_looked_at_keeps_its_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened_by: Callable[[Path], sqlite3.Connection], name: str
) -> None:
    """It has no lock when the kernel is asked, and one when the descriptor is closed."""
    options = SqliteOptions(journal_mode="DELETE")
    with closing(DayFileWriter(tmp_path / "root", options)) as writer:
        writer.write(make_ticks(1, ROWS))
    (tmp_path / "link").symlink_to(tmp_path / "root")
    db = day_file(tmp_path / "root", DAY)
    conn = open_day_file(db, options) if opened_by is open_day_file else open_read_only(db)
    rows = []

    def begins_to_lock(path: Path) -> bool:
        rows.append(conn.execute("SELECT price FROM ticks"))
        rows[0].fetchone()
        return False

    monkeypatch.setattr(companions, "holds_locks", begins_to_lock)
    assert not is_closed(day_file(tmp_path / "link", DAY) if name == "another name" else db)
    if not rows:
        begins_to_lock(db)
    assert locks_of_ours(db)
    rows[0].close()
    conn.close()
    assert not companions.is_live(db)


def test_a_connection_that_nobody_closes_leaves_the_register(tmp_path: Path) -> None:
    record_day(tmp_path, DAY)
    conn = open_day_file(day_file(tmp_path, DAY), SqliteOptions())
    assert not is_closed(day_file(tmp_path, DAY))
    del conn
    gc.collect()
    assert is_closed(day_file(tmp_path, DAY))


def _lost_connection(db: Path) -> object:
    return companions.connect_live(db, "ro", 1.0)


def _lost_reading(db: Path) -> object:
    """It has begun, and ends when it is found."""
    reading = scan_day_file(db)
    next(reading)
    found_by_the_collector: list[object] = [reading]
    found_by_the_collector.append(found_by_the_collector)
    return found_by_the_collector


def _open_and_close(db: Path) -> None:
    companions.connect_live(db, "ro", 1.0).close()


def _read(db: Path) -> None:
    assert _rows(scan_day_file(db))


@pytest.mark.parametrize(("lose", "work"), [(_lost_connection, _open_and_close), (_lost_reading, _read)])
def test_what_the_collector_finds_in_the_middle_of_it_stops_no_step(
    tmp_path: Path, lose: Callable[[Path], object], work: Callable[[Path], None]
) -> None:
    """What nobody closed is ended in whatever thread the collector runs, at whatever line, whatever lock it holds."""
    for name in ("lost", "other"):
        record_day(tmp_path / name, DAY, count=50)
    lost_db, db = (day_file(tmp_path / name, DAY) for name in ("lost", "other"))
    work(db)
    gc.collect()
    gc.freeze()  # what is made from here on is found in no time
    lost = [lose(lost_db) for _ in range(120)]
    met: set[str] = set()

    def trace(frame: FrameType, _event: str, _arg: object) -> Callable[..., Any]:
        name, module = frame.f_code.co_name, Path(frame.f_code.co_filename).name
        holds_a_lock = name in ("opening", "connect_live", "close", "_driver", "_close_held") or module == "weakref.py"
        if lost and holds_a_lock:
            met.add(name)
            lost.pop()
            gc.collect()
        return trace

    def steps() -> None:
        sys.settrace(trace)
        try:
            work(db)
        finally:
            sys.settrace(None)

    thread = threading.Thread(target=steps, daemon=True)
    thread.start()
    thread.join(60)
    gc.unfreeze()
    assert not thread.is_alive(), f"it waits for itself; met in {sorted(met)}"
    assert "opening" in met
    assert lost, "every line was met"
    lost.clear()
    gc.collect()
    for path in (lost_db, db):
        assert not companions.is_live(path)


def test_a_file_that_cannot_be_opened_is_not_on_the_register(tmp_path: Path) -> None:
    with pytest.raises(sqlite3.OperationalError):
        companions.connect_live(tmp_path, "rw", 1.0)
    assert not companions.is_live(tmp_path)


def test_a_file_whose_opening_takes_long_holds_up_no_other(tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as others, opening(tmp_path / "of a disk that hangs.db"):
        record_day(tmp_path, DAY)
        reader = others.submit(open_read_only, day_file(tmp_path, DAY)).result(timeout=60)
        reader.close()


def test_what_cannot_be_opened_as_a_live_file_leaves_no_descriptor(tmp_path: Path) -> None:
    """It is read as a closed one, and looks as if it were live."""
    record_day(tmp_path, DAY)
    db = day_file(tmp_path, DAY)
    db.with_name(f"{db.name}-wal").touch()
    db.with_name(f"{db.name}-shm").symlink_to(tmp_path / "nowhere" / "shm")  # as one that others may not open
    assert not is_closed(db)
    assert _rows(scan_day_file(db))
    descriptors = [str(path.readlink()) for path in Path("/proc/self/fd").iterdir() if path.exists()]
    assert str(db) not in descriptors


@pytest.mark.parametrize("column", ["symbol", "tick_type"])
@pytest.mark.parametrize("is_live", [True, False], ids=["live", "closed"])
def test_bytes_that_are_no_text_are_told(tmp_path: Path, column: str, is_live: bool) -> None:
    record_day(tmp_path, DAY)
    db = day_file(tmp_path, DAY)
    conn = sqlite3.connect(db, isolation_level=None)
    try:
        conn.execute(f"UPDATE ticks SET {column} = CAST(x'ff41' AS TEXT) WHERE rowid = 3")
        if not is_live:
            conn.close()
        assert is_closed(db) is not is_live
        with pytest.raises(StoreCorrupt, match=rf"{db}: a value is of a kind that no tick has: .*UTF-?8"):
            _rows(scan_day_file(db))
    finally:
        conn.close()


def _processes_below(pid: int) -> list[int]:
    """A process and all that it has started, and so on."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it ended while we looked
            fields = entry.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            parents.setdefault(int(fields[1]), []).append(int(entry.parent.name))
    return [pid, *(below for child in parents.get(pid, []) for below in _processes_below(child))]


def test_the_server_has_one_sqlite_in_each_of_its_processes_while_a_day_is_recorded(tmp_path: Path) -> None:
    root = tmp_path / "HK"
    root.mkdir()
    with recorder(root):
        server = BuiltServer(tmp_path / "api", root, API_ANONYMOUS=1)
        with ended(server), server.client() as client:
            for path, asked in (
                ("/v1/ticks", {"symbols": "700", "day": DAY, "format": "arrow"}),
                ("/v1/ticks", {"symbols": "all", "day": DAY, "format": "parquet"}),
                ("/v1/ticks/latest", {"symbols": "700"}),
                ("/v1/bars", {"symbols": "700", "day": DAY, "interval": "1m"}),
                ("/v1/books", {"symbols": "700", "day": DAY, "form": "long"}),
                (f"/v1/days/{DAY}/certificate", {}),
            ):
                answer = client.get(path, params=asked)
                assert answer.status_code == 200, answer.text
            for pid in _processes_below(server.proc.pid):
                mapped = Path(f"/proc/{pid}/maps").read_text(encoding="utf-8")
                assert "adbc_driver_sqlite" not in mapped
