"""Who has a day file open, what waits for a day, and a closed file made small."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from hk_tick_collector.core.errors import StoreBusy, StoreCorrupt, StoreUnavailable
from hk_tick_collector.ingest.spill import SpillQueue
from hk_tick_collector.store.compact import compact, refuse_if_open
from hk_tick_collector.store.inuse import open_elsewhere, pending_spill
from hk_tick_collector.store.layout import spill_dir, sqlite_files
from hk_tick_collector.store.reader import coverage, gaps
from hk_tick_collector.store.writer import DayFileWriter
from tests.stored import iter_ticks
from tests.tickctl import record_day
from tests.unit.store_ticks import DAY, NOBODY_UID, tick, ticks, without_root

READ = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('SELECT COUNT(*) FROM ticks').fetchall()"
HOLD = READ + "; print('open', flush=True); sys.stdin.read()"


@contextmanager
def held_open(path: Path, code: str = HOLD) -> Iterator[int]:
    """Another process that has the file open; its pid."""
    with subprocess.Popen([sys.executable, "-c", code, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as proc:
        assert proc.stdout is not None
        assert proc.stdin is not None
        assert proc.stdout.readline() == b"open\n"
        try:
            yield proc.pid
        finally:
            proc.stdin.close()
            proc.wait()


@pytest.fixture
def db(tmp_path: Path) -> Path:
    """A day file with a good deal of free space in it, not as small as it could be."""
    root = tmp_path / "HK"
    record_day(root, DAY, count=500, lost=(7, 8))
    path = root / f"{DAY}.db"
    with closing(sqlite3.connect(path)) as conn:
        conn.execute("CREATE TABLE ballast AS SELECT randomblob(900) AS b FROM ticks")
        conn.execute("DROP TABLE ballast")
        conn.commit()
    return path


def ticks_of(db: Path) -> object:
    return sorted(iter_ticks(db), key=repr)


# -- who has it open ---------------------------------------------------------------------------------------------------


def test_open_in_another_process(db: Path) -> None:
    assert open_elsewhere(db).pids == ()
    with held_open(db) as pid:
        holders = open_elsewhere(db)
        assert holders.pids == (pid,)
        assert f"pid {pid} (python" in holders.holders
        with pytest.raises(StoreBusy, match=f"{DAY}.db is open in another process: pid {pid}"):
            refuse_if_open(db)
        assert open_elsewhere(db.with_name("20261121.db")).pids == ()
    assert open_elsewhere(db).pids == ()


def test_our_own_connections_do_not_count(db: Path) -> None:
    with closing(sqlite3.connect(db)) as conn:
        conn.execute("SELECT COUNT(*) FROM ticks").fetchall()
        assert open_elsewhere(db).pids == ()


def test_other_names_of_the_file_do_not_hide_it(db: Path, tmp_path: Path) -> None:
    link, hard = tmp_path / "link.db", tmp_path / "hard.db"
    link.symlink_to(db)
    hard.hardlink_to(db)
    with held_open(hard, "import sys; f = open(sys.argv[1]); print('open', flush=True); sys.stdin.read()") as pid:
        assert open_elsewhere(link).pids == open_elsewhere(db).pids == (pid,)


def test_only_the_wal_is_open(db: Path) -> None:
    wal = db.with_name(f"{db.name}-wal")
    wal.write_bytes(b"")
    with held_open(wal, "import sys; f = open(sys.argv[1]); print('open', flush=True); sys.stdin.read()") as pid:
        assert open_elsewhere(db).pids == (pid,)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_processes_of_others_are_named_as_unseen_unless_a_lock_shows_them(db: Path) -> None:
    for directory in db.parents:
        if directory.stat().st_uid == os.getuid() and directory != Path("/"):
            directory.chmod(stat.S_IMODE(directory.stat().st_mode) | stat.S_IXGRP | stat.S_IXOTH)
    db.parent.chmod(0o755)
    db.chmod(0o644)
    with closing(sqlite3.connect(db)) as conn:
        conn.execute("PRAGMA journal_mode = DELETE")
    with held_open(db) as pid, without_root():  # in rollback mode nothing shows
        holders = open_elsewhere(db)
        assert pid in holders.unseen
        assert holders.pids == ()
        assert "does not let us look into" in str(holders.caveat)
        assert "none of them has it open" in str(holders.caveat)
    with closing(sqlite3.connect(db)) as conn:
        conn.execute("PRAGMA journal_mode = WAL")
    with held_open(db) as pid:
        db.with_name(f"{db.name}-shm").chmod(0o644)
        with without_root():
            assert open_elsewhere(db).pids == (pid,)


# -- what waits for a day ----------------------------------------------------------------------------------------------


def test_pending_spill(tmp_path: Path) -> None:
    assert not pending_spill(tmp_path, DAY)
    queue = SpillQueue(tmp_path)
    queue.open()
    queue.append(ticks(1200))
    queue.append([tick(1, day="20261119")])
    queue.close()
    assert pending_spill(tmp_path, DAY)
    assert pending_spill(tmp_path, "20261119")
    assert not pending_spill(tmp_path, "20261118")
    again = SpillQueue(tmp_path)
    assert again.open() == 1201
    while again.peek(500):
        again.ack()
    assert not pending_spill(tmp_path, DAY)
    again.close()


def test_spill_over_the_edge_of_a_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    queue = SpillQueue(tmp_path)
    queue.open()
    queue.append(ticks(1))
    queue.close()
    for block_bytes in range(1, 60):
        monkeypatch.setattr("hk_tick_collector.store.inuse._BLOCK_BYTES", block_bytes)
        assert pending_spill(tmp_path, DAY), block_bytes
        assert not pending_spill(tmp_path, "20261119")


def test_spill_that_cannot_be_read_may_hold_anything(tmp_path: Path) -> None:
    segment = spill_dir(tmp_path) / f"{1:016d}.spill"
    segment.mkdir(parents=True)
    assert pending_spill(tmp_path, DAY)
    segment.rename(segment.with_name(f"{segment.name}.unreadable-20261120T013000.000Z"))
    assert not pending_spill(tmp_path, DAY)


# -- made small --------------------------------------------------------------------------------------------------------


def test_compact_keeps_all_but_the_free_space(db: Path) -> None:
    truth = ticks_of(db), coverage(db), gaps(db)
    db.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(db, NOBODY_UID, NOBODY_UID)
    os.utime(db, ns=(5, 1_795_000_000_000_000_000))
    before = db.stat()
    done = compact(db, ticks_of)
    after = db.stat()
    assert done.is_changed
    assert (done.before_bytes, done.after_bytes) == (before.st_size, after.st_size)
    assert after.st_size < before.st_size * 0.7
    assert (truth[0], truth[1], truth[2]) == (ticks_of(db), coverage(db), gaps(db))
    assert (after.st_mode, after.st_uid, after.st_gid, after.st_mtime_ns) == (
        before.st_mode, before.st_uid, before.st_gid, before.st_mtime_ns,
    )  # fmt: skip
    assert [path for path in db.parent.iterdir() if path.name.startswith((".", db.name))] == [db]
    again = compact(db, ticks_of)
    assert not again.is_changed
    writer = DayFileWriter(db.parent)  # the recorder goes on with it
    assert writer.write([tick(9999)]).inserted_rows == 1
    writer.close()


def test_a_wal_with_rows_is_taken_along(db: Path) -> None:
    writer = DayFileWriter(db.parent)
    writer.write([tick(5000)])
    saved = {path: path.read_bytes() for path in sqlite_files(db) if path.exists()}
    writer.close()
    for path, data in saved.items():  # as after a kill: committed rows are in the WAL only
        path.write_bytes(data)
    db.with_name(f"{db.name}-shm").unlink()
    assert compact(db, ticks_of).is_changed
    assert tick(5000) in set(iter_ticks(db))
    assert not db.with_name(f"{db.name}-wal").exists()


def refused(db: Path, error: type[Exception], says: str, content: object = ticks_of) -> None:
    """It raises, and everything is as it was."""
    before = ticks_of(db), {path.name for path in db.parent.iterdir() if not path.name.endswith(("-wal", "-shm"))}
    inode = db.stat().st_ino
    with pytest.raises(error, match=says):
        compact(db, content)  # type: ignore[arg-type]
    names = {path.name for path in db.parent.iterdir() if not path.name.endswith(("-wal", "-shm"))}
    assert (ticks_of(db), names) == before
    assert db.stat().st_ino == inode


def test_compact_refuses_while_another_has_it_open(db: Path) -> None:
    with held_open(db):
        refused(db, StoreBusy, "locked|in use|open in another process")


def test_compact_refuses_when_rows_came_meanwhile(db: Path) -> None:
    calls = []

    def content(path: Path) -> object:
        calls.append(path)
        if len(calls) == 2:  # the copy is made
            code = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute(sys.argv[2]); c.commit()"
            change = "UPDATE ticks SET push_type = 'later' WHERE rowid = 1"
            subprocess.run([sys.executable, "-c", code, db, change], check=True)
        return ticks_of(path)

    with pytest.raises(StoreBusy, match="written to meanwhile"):
        compact(db, content)
    assert [row.push_type for row in iter_ticks(db)].count("later") == 1
    assert [path.name for path in db.parent.iterdir()] == [db.name]


def test_somebody_opens_it_while_the_copy_is_made(db: Path) -> None:
    with held_open_later(db) as content:
        refused(db, StoreBusy, "open in another process", content)


def test_somebody_opens_the_old_file_in_the_last_moment(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the last look and the exchange: the old file gets its name back, and what is written to it stays."""
    real = Path.replace
    with held_open_later(db) as content:

        def replace(self: Path, target: Path) -> Path:
            if target == db and "tmp" in self.name and ".old" not in self.name:
                content(db)
            return real(self, target)

        monkeypatch.setattr(Path, "replace", replace)
        refused(db, StoreBusy, "open in another process")


@contextmanager
def held_open_later(db: Path) -> Iterator[object]:
    """A content function that lets another process open ``db`` when it is called."""
    processes: list[subprocess.Popen[bytes]] = []

    def content(path: Path) -> object:
        if not processes:
            proc = subprocess.Popen([sys.executable, "-c", HOLD, db], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            processes.append(proc)
            assert proc.stdout is not None
            assert proc.stdout.readline() == b"open\n"
        return ticks_of(path)

    try:
        yield content
    finally:
        for proc in processes:
            proc.communicate()


def test_a_copy_that_differs_is_not_used(db: Path) -> None:
    refused(db, StoreCorrupt, "holds other ticks", content=lambda path: path)


def test_compact_of_what_is_no_day_file(db: Path, tmp_path: Path) -> None:
    foreign = tmp_path / "20261120.db"
    with closing(sqlite3.connect(foreign)) as conn:
        conn.execute("CREATE TABLE notes (a)")
    with pytest.raises(StoreCorrupt, match="no ticks table"):
        compact(foreign, ticks_of)
    foreign.write_bytes(b"no database" * 100)
    with pytest.raises(StoreCorrupt, match="not a database"):
        compact(foreign, ticks_of)
    with pytest.raises(StoreUnavailable, match="No such file"):
        compact(tmp_path / "absent.db", ticks_of)
    assert {path.name for path in tmp_path.iterdir()} == {"HK", "20261120.db"}
