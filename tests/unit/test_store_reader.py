"""Reading day files, live and closed, without ever getting in the writer's way."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from hk_tick_collector.core.errors import StoreBusy, StoreCorrupt, StoreUnavailable
from hk_tick_collector.days.scan import scan_day_file, scan_symbols
from hk_tick_collector.store import judging, reader
from hk_tick_collector.store.connect import SqliteOptions
from hk_tick_collector.store.coverage import LAST_SEQ_SQL
from hk_tick_collector.store.read_only import open_read_only
from hk_tick_collector.store.reader import count_by_symbol, freshness
from hk_tick_collector.store.tracks import stored_tracks
from hk_tick_collector.store.writer import DayFileWriter
from tests.stored import iter_ticks
from tests.unit.store_ticks import DAY, OPEN_MS, tick, ticks, without_root
from tests.unit.test_store_connect import LEGACY_ROW, make_legacy


def last_seqs(root: Path, symbols: list[str], days: int) -> dict[str, tuple[str, int]]:
    return {symbol: (track.trading_day, track.last_seq) for symbol, track in stored_tracks(root, symbols, days).items()}


@pytest.fixture
def root():
    """Reachable for other users, so that permissions can be tested."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)
        Path(name).chmod(0o755)


def stored(root: Path, rows, *, close=True) -> DayFileWriter:
    writer = DayFileWriter(root, SqliteOptions())
    writer.write(rows)
    if close:
        writer.close()
    return writer


def test_ticks_come_back_as_they_went_in(root):
    rows = [tick(2), tick(1), tick(4, symbol="HK.00005", price=None, seq=(1 << 63) - 1), tick(3, seq=None)]
    stored(root, rows)
    assert list(iter_ticks(root / f"{DAY}.db")) == rows
    assert list(iter_ticks(root / f"{DAY}.db", chunk_rows=1)) == rows


def test_live_file_is_read_while_its_writer_goes_on(root):
    writer = stored(root, ticks(10), close=False)
    rows = iter_ticks(root / f"{DAY}.db", chunk_rows=4)
    first = [next(rows) for _ in range(4)]
    writer.write(ticks(5, first=11))
    assert first + list(rows) == ticks(15)
    half_read = iter_ticks(root / f"{DAY}.db", chunk_rows=4)
    next(half_read)
    writer.close_day(DAY)  # a reader between two chunks holds nothing: the checkpoint is complete
    assert Path(f"{root / DAY}.db").stat().st_size > 4096
    assert len(list(half_read)) == 14
    writer.close()


def test_legacy_file_is_read_without_being_changed(root):
    db = root / f"{DAY}.db"
    make_legacy(
        db,
        LEGACY_ROW,
        extra_sql="CREATE UNIQUE INDEX uniq_ticks_symbol_seq ON ticks (symbol, seq) WHERE seq IS NOT NULL;",
    )
    before = db.read_bytes()
    expected = tick(1, push_data_type=None, opend_recv_ts_ms=None, type_sign=None)
    assert list(iter_ticks(db)) == [expected]
    assert list(iter_ticks(db, "HK.00700")) == [expected]
    assert last_seqs(root, ["HK.00700"], 3) == {"HK.00700": (DAY, expected.seq)}
    assert db.read_bytes() == before


def test_tracks_take_the_newest_day_of_each_symbol(root):
    old, new = "20261119", DAY
    stored(
        root, [*ticks(5, day=old), *ticks(3, day=old, symbol="HK.00005"), tick(9, day=old, seq=None, symbol="HK.00001")]
    )
    stored(root, [tick(2, day=new), tick(1, day=new)])
    stored(root, ticks(5, day="20261110", symbol="HK.00009"))
    wanted = ["HK.00700", "HK.00005", "HK.00001", "HK.00009", "HK.00700"]
    assert last_seqs(root, wanted, 2) == {"HK.00700": (new, tick(2).seq), "HK.00005": (old, tick(3).seq)}
    assert last_seqs(root, wanted, 3)["HK.00009"] == ("20261110", tick(5).seq)
    assert last_seqs(root, wanted, 0) == {}
    assert last_seqs(root / "absent", wanted, 3) == {}


def test_tracks_skip_what_cannot_be_read(root, caplog):
    stored(root, ticks(5, day="20261110"))
    (root / "20261119.db").write_bytes(b"garbage " * 1000)
    (root / "20261118.db").mkdir()
    (root / "20261117.db").touch()
    with contextlib.closing(sqlite3.connect(root / "20261116.db")) as conn:
        conn.execute("CREATE TABLE ticks (symbol, seq)")  # no index: reading it would be a scan
    with contextlib.closing(sqlite3.connect(root / "20261115.db")) as conn:
        conn.executescript("CREATE TABLE ticks (symbol, seq); PRAGMA application_id = 7;")
    assert last_seqs(root, ["HK.00700"], 9) == {"HK.00700": ("20261110", tick(5).seq)}
    for day in ("20261119", "20261118", "20261117", "20261116", "20261115"):
        assert f"{day}.db" in caplog.text


def test_the_newest_sequence_searches_an_index_and_scans_nothing(root):
    stored(root, ticks(50))
    with contextlib.closing(open_read_only(root / f"{DAY}.db")) as conn:
        plan = " ".join(row[3] for row in conn.execute(f"EXPLAIN QUERY PLAN {LAST_SEQ_SQL}", ("HK.00700",)))
    assert plan == "SEARCH ticks USING COVERING INDEX uniq_ticks_symbol_seq (symbol=? AND seq>?)"


def test_the_newest_sequence_costs_the_same_in_a_large_file(root):
    """Steps of SQLite's machine, not seconds: 100 times the rows may add a level of the index and no more."""

    def steps(day: str, rows: int) -> int:
        stored(root, [tick(n, symbol=f"HK.{n % 40:05d}", day=day) for n in range(rows)])
        count = 0

        def counted():
            nonlocal count
            count += 1

        with contextlib.closing(open_read_only(root / f"{day}.db")) as conn:
            conn.set_progress_handler(counted, 1)
            for n in range(40):
                conn.execute(LAST_SEQ_SQL, (f"HK.{n:05d}",)).fetchone()
        return count

    small, large = steps("20261118", 400), steps("20261119", 40_000)
    assert 0 < large <= small * 1.5


def test_freshness(root):
    db = root / f"{DAY}.db"
    writer = stored(root, [tick(5), tick(9), tick(2)], close=False)
    assert freshness(db, OPEN_MS + 1009) == (3, OPEN_MS + 9, 1.0)
    assert freshness(db, OPEN_MS + 1009, exact=True) == (3, OPEN_MS + 9, 1.0)
    writer.write([tick(5), tick(20)])  # an ignored row leaves no hole in the count
    assert freshness(db, OPEN_MS).rows == freshness(db, OPEN_MS, exact=True).rows == 4
    writer.close()


def test_freshness_of_an_empty_day(root):
    writer = stored(root, [tick(1)], close=False)
    with contextlib.closing(sqlite3.connect(root / f"{DAY}.db")) as conn:
        conn.execute("DELETE FROM ticks")
        conn.commit()
    assert freshness(root / f"{DAY}.db", OPEN_MS) == (0, None, None)
    writer.close()


def test_count_by_symbol(root):
    stored(root, [*ticks(3), *ticks(5, symbol="HK.00005"), tick(9, seq=None), tick(1, symbol="HK.00001", seq=None)])
    expected = [("HK.00005", 5, tick(5).seq), ("HK.00700", 4, tick(3).seq), ("HK.00001", 1, None)]
    assert count_by_symbol(root / f"{DAY}.db") == expected
    assert count_by_symbol(root / f"{DAY}.db", 1) == expected[:1]


@pytest.mark.parametrize("name", ["absent.db", "directory.db"])
def test_no_file(root, name):
    (root / "directory.db").mkdir()
    with pytest.raises((StoreUnavailable, StoreCorrupt), match=name):
        freshness(root / name, OPEN_MS)
    assert not (root / "absent.db").exists()


def test_damage_met_while_reading_is_named(root):
    stored(root, ticks(5000))
    db = root / f"{DAY}.db"
    with db.open("r+b") as file:
        file.seek(4096 * 20)
        file.write(os.urandom(db.stat().st_size - 4096 * 20))
    with pytest.raises(StoreCorrupt, match=f"{DAY}.db"):
        list(iter_ticks(db))
    with pytest.raises(StoreCorrupt):
        freshness(db, OPEN_MS, exact=True)
    with pytest.raises(StoreCorrupt):
        count_by_symbol(db)


def test_closed_file_in_a_directory_that_may_not_be_written(root):
    stored(root, ticks(3))
    (root / f"{DAY}.db").chmod(0o644)
    root.chmod(0o555)  # not for its owner either: the tests may run as an ordinary user
    with without_root():
        with (
            contextlib.closing(sqlite3.connect(f"file:{root / DAY}.db?mode=ro", uri=True)) as plain,
            pytest.raises(sqlite3.OperationalError),  # the plain way fails, which is why there is another
        ):
            plain.execute("SELECT 1 FROM ticks")
        assert list(iter_ticks(root / f"{DAY}.db")) == ticks(3)
    root.chmod(0o755)
    assert [p.name for p in root.iterdir()] == [f"{DAY}.db"]


def test_live_file_in_a_directory_that_may_not_be_written(root):
    writer = stored(root, ticks(3), close=False)
    for path in root.iterdir():
        path.chmod(0o644)
    with without_root():
        assert list(iter_ticks(root / f"{DAY}.db")) == ticks(3)
    writer.close()


def test_wal_that_cannot_be_read_is_an_error_not_an_old_state(root):
    """Without its WAL the file would show fewer rows than were committed."""
    writer = stored(root, ticks(3), close=False)
    (root / "copy").mkdir()
    for suffix in ("", "-wal"):
        (root / "copy" / f"{DAY}.db{suffix}").write_bytes((root / f"{DAY}.db{suffix}").read_bytes())
    writer.close()
    (root / "copy").chmod(0o555)
    if os.geteuid() != 0:
        pytest.skip("SQLite may make its shared memory as the directory's owner")
    with without_root(), pytest.raises(StoreUnavailable):
        freshness(root / "copy" / f"{DAY}.db", OPEN_MS)


def test_path_with_signs_that_mean_something_in_a_uri(root):
    odd = root / "a?mode=rwc#b%20c d"
    stored(odd, ticks(2))
    assert len(list(iter_ticks(odd / f"{DAY}.db"))) == 2


def test_reading_takes_no_lock_that_stops_the_writer(root):
    writer = stored(root, ticks(100), close=False)
    rows = iter_ticks(root / f"{DAY}.db", chunk_rows=10)
    next(rows)
    # A lock would make it StoreBusy: the read goes on only afterwards.
    assert writer.write(ticks(100, first=200)).inserted_rows == 100
    assert next(rows, None) is not None
    writer.close()


def every_reader(db: Path) -> list[Callable[[], object]]:
    return [
        lambda: open_read_only(db).close(),
        lambda: freshness(db, OPEN_MS),
        lambda: freshness(db, OPEN_MS, exact=True),
        lambda: count_by_symbol(db),
        lambda: list(iter_ticks(db)),
        lambda: reader.coverage(db),
        lambda: reader.gaps(db),
        lambda: judging.day_state(db),
        lambda: stored_tracks(db.parent, ["HK.00700"], 1),
        lambda: list(scan_day_file(db, stripe_rows=10)),
        lambda: scan_symbols(db, ["HK.00700"]),
    ]


def test_no_reader_leaves_anything_beside_a_closed_file(root):
    db = root / f"{DAY}.db"
    stored(root, ticks(100))
    for read in every_reader(db):
        read()
    root.chmod(0o777)
    for left in ([], ["-wal"], ["-shm"]):  # and what others have left stays as it is
        for suffix in left:
            db.with_name(db.name + suffix).touch()
        names = sorted(path.name for path in root.iterdir())
        with without_root():  # a member of the group, who may write to the directory and not to the file
            db_readers = every_reader(db)
            for read in db_readers:
                read()
        assert sorted(path.name for path in root.iterdir()) == names
        for suffix in left:
            db.with_name(db.name + suffix).unlink()


@pytest.mark.parametrize("mode", ["WAL", "DELETE"])
def test_what_a_writer_commits_meanwhile_is_seen_and_never_mistaken(root, mode):
    """A live file is never taken for a closed one, whatever its journal."""
    db = root / f"{DAY}.db"
    writer = DayFileWriter(root, SqliteOptions(journal_mode=mode))
    writer.write(ticks(5))
    for first in range(6, 50, 5):
        with contextlib.closing(open_read_only(db)) as conn:
            writer.write(ticks(5, first=first))
            assert conn.execute("SELECT COUNT(*) FROM ticks").fetchone() == (first + 4,)
    writer.close()


def test_a_closed_file_that_is_written_to_while_it_is_read_is_said(root):
    db = root / f"{DAY}.db"
    stored(root, ticks(5))
    conn = open_read_only(db)
    assert conn.execute("SELECT COUNT(*) FROM ticks").fetchone() == (5,)
    stored(root, ticks(9))
    with pytest.raises(StoreBusy, match="written to while it was read"):
        conn.close()
    with contextlib.closing(open_read_only(db)) as again:
        assert again.execute("SELECT COUNT(*) FROM ticks").fetchone() == (9,)


def test_a_wal_without_shared_memory_is_left_to_its_owner(root):
    """To read it would make a -shm that belongs to the reader: the recorder could not write any more."""
    db = root / f"{DAY}.db"
    writer = stored(root, ticks(5), close=False)
    copy = root / "copy"
    copy.mkdir()
    for suffix in ("", "-wal"):
        shutil.copy(f"{db}{suffix}", copy / f"{db.name}{suffix}")
    writer.close()
    copy.chmod(0o777)
    with without_root(), pytest.raises(StoreUnavailable, match="its owner"):
        open_read_only(copy / db.name)
    with contextlib.closing(open_read_only(copy / db.name)) as conn:
        assert conn.execute("SELECT COUNT(*) FROM ticks").fetchone() == (5,)
