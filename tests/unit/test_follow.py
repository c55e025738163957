"""Following day files: each committed row once and in order, or an error that says where to go on."""

from __future__ import annotations

import itertools
import os
import pickle
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from hk_tick_collector.core.errors import StoreCorrupt, StoreUnavailable
from hk_tick_collector.records.tick import Tick
from hk_tick_collector.store.compact import compact
from hk_tick_collector.store.connect import SqliteOptions
from hk_tick_collector.store.file_stream import LET_GO_SEC
from hk_tick_collector.store.follow import Follower, follow
from hk_tick_collector.store.followed import TICKS
from hk_tick_collector.store.layout import DataRootLock, sqlite_files
from hk_tick_collector.store.position import ROW, DayChanged, DayDamaged, DayGone, Place, Position
from hk_tick_collector.store.salvage import salvage
from hk_tick_collector.store.writer import DayFileWriter
from tests.unit.store_ticks import DAY, NOBODY_UID, query, table_row, tick, ticks, without_root
from tests.unit.test_store_connect import LEGACY_ROW, make_legacy

BEFORE, AFTER = "20261119", "20261121"
SEQ = ROW.index("seq")


class Monotonic:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now_sec = 0.0

    def __call__(self) -> float:
        return self.now_sec


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def writer(root: Path) -> Iterator[DayFileWriter]:
    writer = DayFileWriter(root)
    yield writer
    writer.close()


@pytest.fixture
def follower(root: Path) -> Iterator[Follower]:
    with Follower(root, days_look_sec=0) as follower:
        yield follower


def sequences(rows: list[tuple[object, ...]]) -> list[object]:
    return [row[SEQ] for row in rows]


def rest(follower: Follower, position: Position, limit_rows: int = 3) -> tuple[list[object], Position]:
    """The sequences of everything behind ``position``, and the position behind it."""
    seqs_read: list[object] = []
    while (batch := follower.read_behind(position, limit_rows)) is not None:
        assert 0 < len(batch.rows) <= limit_rows
        seqs_read += sequences(batch.rows)
        position = batch.position
    return seqs_read, position


def seqs(rows: list[Tick]) -> list[int | None]:
    return [row.seq for row in rows]


def companions(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir() if not path.name.endswith(".db"))


def test_rows_come_once_in_the_order_of_storing(writer: DayFileWriter, follower: Follower) -> None:
    assert follower.read_behind(Position()) is None
    writer.write(ticks(4, first=11))
    seqs_read, position = rest(follower, Position())
    writer.write(ticks(5))  # older ones, stored later
    more, position = rest(follower, position)
    assert seqs_read == seqs(ticks(4, first=11))
    assert more == seqs(ticks(5))
    assert rest(follower, position) == ([], position)


def test_a_position_goes_on_in_another_process_by_its_text(writer: DayFileWriter, root: Path) -> None:
    writer.write(ticks(5))
    with Follower(root) as follower:
        batch = follower.read_behind(Position(), 2)
    assert batch is not None
    writer.write(ticks(3, first=6))
    with Follower(root) as follower:
        assert rest(follower, Position.parse(str(batch.position)))[0] == seqs(ticks(8))[2:]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "v1",
        "v2~-",
        "v1~2026112",
        "v1~20261345",
        "v1~-~20261120.1.0.0.0",
        "v1~-~20261120.1.00000000.00000000.000000000000000G",
        "v1~-~20261120.1.00000000.00000000.0000000000000000~20261120.1.00000000.00000000.0000000000000000",
        "v1~20261121~20261120.1.00000000.00000000.0000000000000000",
        "v1~-~20261120.\u0661.00000000.00000000.0000000000000000",
        "v1~-~../../etc",
    ],
)
def test_a_text_that_is_no_position_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"position|date"):
        Position.parse(text)


@pytest.mark.parametrize(
    "position",
    [
        Position(),
        Position.at_start_of(DAY),
        Position("", (Place(DAY),)),
        Position(BEFORE, (Place(DAY, 7, 1, 2, None), Place(AFTER, 2**50, 2**32 - 1, 0, 2**64 - 1))),
    ],
)
def test_a_position_survives_its_text(position: Position) -> None:
    assert Position.parse(str(position)) == position


def test_days_follow_each_other_and_late_rows_of_the_day_before_are_seen(
    writer: DayFileWriter, follower: Follower
) -> None:
    writer.write(ticks(2))
    seqs_read, position = rest(follower, Position())
    writer.write(ticks(2, day=AFTER))
    more, position = rest(follower, position)
    writer.write([tick(3), tick(3, day=AFTER)])
    late, position = rest(follower, position)
    assert (seqs_read, more) == (seqs(ticks(2)), seqs(ticks(2, day=AFTER)))
    assert late == seqs([tick(3), tick(3, day=AFTER)])
    assert [place.day for place in position.places] == [DAY, AFTER]


def test_a_day_is_left_when_its_file_was_closed_and_a_newer_one_has_rows(writer: DayFileWriter, root: Path) -> None:
    writer.write([*ticks(2), *ticks(1, day=AFTER)])
    writer.close_day(DAY)
    with Follower(root) as follower:
        seqs_read, position = rest(follower, Position())
        assert seqs_read == seqs([*ticks(2), *ticks(1, day=AFTER)])
        assert [place.day for place in position.places] == [AFTER]
        assert position.left == DAY
        writer.write([tick(3)])  # into a day that is over: not followed
        assert rest(follower, position) == ([], position)


def test_a_third_day_ends_the_first(writer: DayFileWriter, follower: Follower) -> None:
    days = [BEFORE, DAY, AFTER]
    position = Position()
    for day in days:
        writer.write(ticks(2, day=day))
        _, position = rest(follower, position)
    assert [place.day for place in position.places] == [DAY, AFTER]
    assert position.left == BEFORE


def test_a_stray_day_of_the_future_is_passed_over(writer: DayFileWriter, follower: Follower) -> None:
    writer.write([*ticks(2), *ticks(1, day="29991231")])
    seqs_read, position = rest(follower, Position())
    assert seqs_read == seqs(ticks(2))
    assert position.newest_day == DAY


def test_reading_begins_at_a_day_or_at_the_end(writer: DayFileWriter, follower: Follower) -> None:
    writer.write([*ticks(3, day=BEFORE), *ticks(5)])
    assert rest(follower, Position.at_start_of(DAY))[0] == seqs(ticks(5))
    position, with_some = follower.end(), follower.end(back_rows=2)
    assert rest(follower, position)[0] == []
    assert rest(follower, with_some)[0] == seqs(ticks(2, first=4))
    assert rest(follower, follower.end(back_rows=99))[0] == seqs(ticks(5))
    writer.write([tick(4, day=BEFORE), tick(6)])
    assert rest(follower, position)[0] == seqs([tick(4, day=BEFORE), tick(6)])


def test_the_end_of_nothing_is_the_beginning(root: Path, follower: Follower) -> None:
    assert follower.end() == Position()


def test_a_sequence_that_comes_later_brings_no_second_copy(
    writer: DayFileWriter, root: Path, follower: Follower
) -> None:
    """The row is the same one: its place still fits, and its final state is at its rowid."""
    writer.write([tick(1, seq=None)])
    seqs_read, position = rest(follower, Position())
    assert seqs_read == [None]
    assert writer.write([tick(1)]).inserted_rows == 0
    assert rest(follower, position)[0] == []
    with Follower(root) as again:
        assert rest(again, Position.parse(str(position)))[0] == []
    writer.write([tick(2)])
    assert rest(follower, position)[0] == seqs([tick(2)])
    assert query(root / f"{DAY}.db", "SELECT seq FROM ticks WHERE rowid = ?", position.places[0].rowid) == [
        (tick(1).seq,)
    ]


def test_finer_milliseconds_that_come_later_bring_no_second_copy(writer: DayFileWriter, follower: Follower) -> None:
    rough = tick(1)
    rough = rough._replace(ts_ms=rough.ts_ms // 1000 * 1000)
    writer.write([rough])
    _, position = rest(follower, Position())
    writer.write([tick(1)])
    assert rest(follower, position) == ([], position)


def test_a_file_set_aside_is_said_and_its_day_begins_again(
    writer: DayFileWriter, root: Path, follower: Follower
) -> None:
    writer.write(ticks(3))
    _, position = rest(follower, Position())
    aside = writer.set_aside(DAY, "a test")
    writer.write(ticks(6))
    with pytest.raises(DayChanged, match=f"day file of {DAY} was exchanged.*from its start") as raised:
        follower.read_behind(position)
    assert raised.value.day == DAY
    seqs_read, position = rest(follower, raised.value.onward)
    assert seqs_read == seqs(ticks(6))
    assert aside is not None
    salvage(aside, root / f"{DAY}.db")
    assert rest(follower, position) == ([], position)  # it had all of them


def test_a_salvage_into_a_new_file_without_loss_goes_on(writer: DayFileWriter, root: Path, follower: Follower) -> None:
    writer.write(ticks(5))
    _, position = rest(follower, Position())
    aside = writer.set_aside(DAY, "a test")
    assert aside is not None
    salvage(aside, root / f"{DAY}.db")
    writer.write([tick(6)])
    assert rest(follower, position)[0] == seqs([tick(6)])


def test_a_place_that_fits_by_chance_in_another_order_is_found_out(
    writer: DayFileWriter, root: Path, follower: Follower
) -> None:
    """Salvage stores rows with a sequence first: the row at the place is the same, another one moved in before it."""
    lost, loose, behind = tick(1), tick(2, seq=None, symbol="HK.00005"), tick(3, symbol="HK.00001")
    writer.write([lost])
    writer.write([loose])
    _, position = rest(follower, Position())
    writer.write([behind])
    aside = writer.set_aside(DAY, "a test")
    assert aside is not None
    with closing(sqlite3.connect(aside)) as conn, conn:
        conn.execute("DELETE FROM ticks WHERE rowid = 1")
    salvage(aside, root / f"{DAY}.db")
    assert query(root / f"{DAY}.db", "SELECT symbol FROM ticks ORDER BY rowid") == [("HK.00001",), ("HK.00005",)]
    with pytest.raises(DayChanged):
        follower.read_behind(position)


def rows_of(path: Path) -> object:
    return query(path, "SELECT * FROM ticks ORDER BY rowid")


@pytest.mark.parametrize("change", ["compact", "vacuum", "copy", "away and back"])
def test_a_file_with_the_same_rows_in_the_same_order_goes_on(
    change: str, writer: DayFileWriter, root: Path, follower: Follower
) -> None:
    db = root / f"{DAY}.db"
    writer.write(ticks(2000))
    _, position = rest(follower, Position(), limit_rows=500)
    writer.write(ticks(3, first=2001))
    follower.close()
    writer.close()
    if change == "compact":
        with closing(sqlite3.connect(db)) as conn, conn:
            conn.execute("CREATE TABLE big AS SELECT * FROM ticks")
            conn.execute("DROP TABLE big")
        assert compact(db, rows_of).is_changed
    elif change == "vacuum":
        with closing(sqlite3.connect(db)) as conn:
            conn.execute("VACUUM")
    elif change == "copy":
        shutil.copy(db, root / "copy")
        (root / "copy").replace(db)
    else:
        db.rename(root / "away")
        with pytest.raises(DayGone, match=f"{DAY}.db is gone.*restore {DAY}") as raised:
            follower.read_behind(position)
        assert rest(follower, raised.value.onward)[0] == []
        (root / "away").rename(db)
    assert rest(follower, position)[0] == seqs(ticks(3, first=2001))


def test_a_file_that_was_set_aside_is_not_gone_while_the_next_one_is_to_come(
    writer: DayFileWriter, root: Path, follower: Follower
) -> None:
    """At lunch that takes an hour; it is gone once a newer day has begun without it."""
    writer.write(ticks(20))
    _, position = rest(follower, Position())
    writer.write(ticks(5, first=21))
    follower.close()
    writer.set_aside(DAY, "pages were damaged")
    assert follower.read_behind(position) is None
    writer.write(ticks(30))
    with pytest.raises(DayChanged) as raised:
        follower.read_behind(position)
    assert rest(follower, raised.value.onward)[0] == seqs(ticks(30))
    _, position = rest(follower, Position())
    writer.write(ticks(5, first=31))
    follower.close()
    writer.set_aside(DAY, "pages were damaged again")
    writer.write(ticks(3, day=AFTER))
    with pytest.raises(DayGone):
        follower.read_behind(position)


def remove(root: Path) -> None:
    for path in sqlite_files(root / f"{DAY}.db"):
        path.unlink(missing_ok=True)


def test_a_file_that_was_removed_is_not_gone_while_its_recorder_will_put_it_back(
    writer: DayFileWriter, root: Path
) -> None:
    """By another program, after the reader had let it go; who stands there now may have been started since."""
    writer.write(ticks(20))
    with Follower(root) as reader:
        _, position = rest(reader, Position())
    writer.write(ticks(5, first=21))
    with DataRootLock(root), Follower(root) as started_since:
        remove(root)
        assert started_since.read_behind(position) is None
        writer.write(ticks(5, first=26))
        assert rest(started_since, position)[0] == seqs(ticks(10, first=21)), "nothing twice, and nothing left out"


@pytest.mark.parametrize("recorder", ["closed it", "is another program"])
def test_a_file_that_nobody_will_put_back_is_gone(recorder: str, writer: DayFileWriter, root: Path) -> None:
    writer.write(ticks(20))
    with Follower(root) as follower:
        _, position = rest(follower, Position())
    writer.write(ticks(5, first=21))
    with DataRootLock(root) as lock, Follower(root) as follower:
        writer.close() if recorder == "closed it" else lock.release()
        remove(root)
        with pytest.raises(DayGone):
            follower.read_behind(position)


def test_what_was_set_aside_is_looked_for_as_seldom_as_a_new_day(writer: DayFileWriter, root: Path) -> None:
    clock = Monotonic()
    with Follower(root, days_look_sec=1, monotonic=clock) as follower:
        writer.write(ticks(20))
        _, position = rest(follower, Position())
        writer.write([tick(21)])
        follower.close()
        writer.set_aside(DAY, "pages were damaged")
        assert follower.read_behind(position) is None
        for path in root.glob(f"{DAY}.db.corrupt-*"):  # with its WAL
            path.unlink()
        assert follower.read_behind(position) is None
        clock.now_sec += 1
        with pytest.raises(DayGone):
            follower.read_behind(position)


def test_vacuum_keeps_rowids_or_is_said(writer: DayFileWriter, root: Path, follower: Follower) -> None:
    """Of a file with holes, which only other programs make."""
    db = root / f"{DAY}.db"
    writer.write(ticks(100))
    _, position = rest(follower, Position(), limit_rows=50)
    writer.close()
    with closing(sqlite3.connect(db)) as conn:
        conn.execute("DELETE FROM ticks WHERE rowid IN (5, 6, 50)")
        conn.commit()
        conn.execute("VACUUM")
    kept = query(db, "SELECT MAX(rowid) FROM ticks") == [(100,)]
    writer.write([tick(101)])
    if kept:
        assert rest(follower, position)[0] == seqs([tick(101)])
    else:
        with pytest.raises(DayChanged):
            follower.read_behind(position)


def test_other_content_at_the_path_is_said(writer: DayFileWriter, root: Path, follower: Follower) -> None:
    """Copied over the file in place: it is the same inode."""
    db = root / f"{DAY}.db"
    writer.write(ticks(2))
    writer.close()
    backup = db.read_bytes()
    writer.write(ticks(3, first=3))
    _, position = rest(follower, Position())
    follower.close()
    writer.close()
    db.write_bytes(backup)
    with pytest.raises(DayChanged, match="holds another row at the place that was reached \\(5\\)"):
        follower.read_behind(position)
    writer.write(ticks(5, first=11))
    with pytest.raises(DayChanged):
        follower.read_behind(position)


@pytest.mark.parametrize("back_rows", [0, 30])
@pytest.mark.parametrize("change", ["copy", "vacuum", "salvage", "migrated"])
def test_a_position_from_the_end_goes_on_in_a_file_with_the_same_rows(
    change: str, back_rows: int, writer: DayFileWriter, root: Path, follower: Follower
) -> None:
    db = root / f"{DAY}.db"
    if change == "migrated":
        make_legacy(db, *(table_row(row)[:14] for row in ticks(1500)))
    else:
        writer.write(ticks(500))
        time.sleep(0.002)  # stored later than those before
        writer.write(ticks(1000, first=501))
    position = Position.parse(str(follower.end(back_rows)))
    follower.close()
    if change == "salvage":
        aside = writer.set_aside(DAY, "a test")
        assert aside is not None
        salvage(aside, db)
    elif change != "migrated":
        writer.close()
        shutil.copy(db, root / "copy")
        (root / "copy").replace(db)
        if change == "vacuum":
            with closing(sqlite3.connect(db)) as conn:
                conn.execute("VACUUM")
    writer.write(ticks(3, first=1501))
    assert rest(follower, position, 1000)[0] == seqs(ticks(1503))[1500 - back_rows :]


@pytest.mark.parametrize("back_rows", [0, 30])
def test_a_position_from_the_end_is_told_of_rows_that_are_lost_before_it(
    back_rows: int, writer: DayFileWriter, root: Path, follower: Follower
) -> None:
    """Another row moved into the place of the lost one, so that the place itself still fits."""
    db = root / f"{DAY}.db"
    for first in range(1, 1502, 500):
        writer.write(ticks(500, first=first))
        time.sleep(0.002)
    position = follower.end(back_rows)
    follower.close()
    writer.close()
    with closing(sqlite3.connect(db)) as conn, conn:
        (last,) = conn.execute("SELECT MAX(rowid) FROM ticks").fetchone()
        conn.execute("DELETE FROM ticks WHERE rowid = 7")
        conn.execute("UPDATE ticks SET rowid = 7 WHERE rowid = ?", (last,))
    shutil.copy(db, root / "copy")
    (root / "copy").replace(db)
    with pytest.raises(DayChanged, match="was exchanged"):
        follower.read_behind(position)


def test_a_position_of_one_row_alone_goes_on_when_it_can_be_told(
    writer: DayFileWriter, root: Path, follower: Follower
) -> None:
    """As an earlier version wrote it, and as the newest ticks over HTTP carry it."""
    db = root / f"{DAY}.db"
    writer.write(ticks(5))
    time.sleep(0.002)
    writer.write([tick(6)])
    known = follower.end().places[0]._replace(trail=None, base=0)
    writer.write(ticks(2, first=7))
    behind = follower.read_behind(Position("20261119", (known,)))
    follower.close()
    writer.close()
    shutil.copy(db, root / "copy")
    (root / "copy").replace(db)
    text = f"v1~20261119~{known.text()}"
    assert text.endswith(".-")
    assert rest(follower, Position.parse(text))[0] == seqs(ticks(2, first=7))
    assert behind is not None
    assert behind.position.places[0].base == known.rowid
    assert rest(follower, Position.parse(str(behind.position)))[0] == []


def test_a_text_that_was_changed_on_the_way_is_refused(writer: DayFileWriter, follower: Follower) -> None:
    """Also where it would still be a position: of another day, or of another row."""
    writer.write(ticks(40))
    text = str(follower.end(back_rows=3))
    assert Position.parse(text).places[0].rowid == 37
    for n, old in enumerate(text):
        for new in "0123456789abcdef~.-v" if old.isalnum() else "0a~":
            if new != old:
                with pytest.raises(ValueError, match="is not a position"):
                    Position.parse(text[:n] + new + text[n + 1 :])
    for n in range(len(text)):
        with pytest.raises(ValueError, match="is not a position"):
            Position.parse(text[:n])


def test_a_file_removed_under_the_recorder_comes_back_with_its_rows(
    writer: DayFileWriter, root: Path, follower: Follower
) -> None:
    writer.write(ticks(3))
    _, position = rest(follower, Position())
    for path in root.glob(f"{DAY}.db*"):
        path.unlink()
    assert rest(follower, position) == ([], position)  # still read through the open connection
    writer.write([tick(4)])
    assert rest(follower, position)[0] == seqs([tick(4)])


def test_an_older_file_that_the_recorder_migrates_goes_on(
    writer: DayFileWriter, root: Path, follower: Follower
) -> None:
    db = root / f"{DAY}.db"
    make_legacy(db)
    with closing(sqlite3.connect(db)) as conn, conn:
        conn.execute(f"INSERT INTO ticks VALUES ({', '.join('?' * 14)})", LEGACY_ROW)
    seqs_read, position = rest(follower, Position())
    assert len(seqs_read) == 1
    writer.write([tick(5)])
    more, position = rest(follower, position)
    assert more == seqs([tick(5)])
    batch = follower.read_behind(Position())
    assert batch is not None
    assert {len(row) for row in batch.rows} == {len(ROW)}


def test_a_columns_list_follows_a_migration_under_the_open_connection(root: Path, follower: Follower) -> None:
    db = root / f"{DAY}.db"
    make_legacy(db)
    with closing(sqlite3.connect(db)) as conn:
        conn.execute("PRAGMA journal_mode = WAL")
        conn.execute(f"INSERT INTO ticks VALUES ({', '.join('?' * 14)})", LEGACY_ROW)
        conn.commit()
        _, position = rest(follower, Position())
        with closing(DayFileWriter(root)) as writer:
            writer.write([tick(5)])
            batch = follower.read_behind(position)
    assert batch is not None
    assert batch.rows[0][ROW.index("push_data_type")] == "REALTIME"


def test_closed_days_are_left_as_they_are(writer: DayFileWriter, root: Path, follower: Follower) -> None:
    writer.write([*ticks(3, day=BEFORE), *ticks(3)])
    writer.close()
    before = {path.name: path.stat().st_mtime_ns for path in root.iterdir()}
    seqs_read, position = rest(follower, Position())
    assert len(seqs_read) == 6
    assert rest(follower, position) == ([], position)
    assert {path.name: path.stat().st_mtime_ns for path in root.iterdir()} == before


def test_rows_that_come_into_a_closed_file_are_seen(writer: DayFileWriter, root: Path, follower: Follower) -> None:
    position = Position()
    for n in range(1, 30):  # faster than the clock of the file system
        writer.write([tick(n)])
        writer.close()
        seqs_read, position = rest(follower, position)
        assert seqs_read == seqs([tick(n)])


def test_two_commits_within_one_tick_of_the_file_systems_clock_are_two(
    writer: DayFileWriter, root: Path, follower: Follower
) -> None:
    db = root / f"{DAY}.db"
    writer.write([tick(1)])
    writer.close()
    _, position = rest(follower, Position())
    before = db.stat()
    writer.write([tick(2)])
    writer.close()
    os.utime(db, ns=(before.st_mtime_ns, before.st_mtime_ns))
    assert db.stat().st_size == before.st_size  # nothing to be seen from outside
    assert rest(follower, position)[0] == seqs([tick(2)])


def test_a_live_file_without_commits_is_let_go_and_its_writer_closes_it_cleanly(
    writer: DayFileWriter, root: Path
) -> None:
    monotonic = Monotonic()
    with Follower(root, days_look_sec=0, monotonic=monotonic) as follower:
        writer.write(ticks(2))
        _, position = rest(follower, Position())
        monotonic.now_sec += LET_GO_SEC + 1
        for path in root.iterdir():
            os.utime(path, (1, 1))
        assert rest(follower, position) == ([], position)
        writer.write(ticks(1, first=3))
        seqs_read, position = rest(follower, position)
        assert seqs_read == seqs(ticks(1, first=3))
        monotonic.now_sec += LET_GO_SEC + 1
        for path in root.iterdir():
            os.utime(path, (1, 1))
        assert rest(follower, position) == ([], position)
        writer.close()
        assert companions(root) == []
        assert rest(follower, position) == ([], position)
        assert companions(root) == []


def test_the_writers_checkpoints_pass(root: Path) -> None:
    """A follower at work keeps no transaction: the WAL begins anew as without one."""
    with closing(DayFileWriter(root, SqliteOptions(wal_autocheckpoint=20))) as writer, Follower(root) as follower:
        position = Position()
        for n in range(200):
            writer.write(ticks(50, first=50 * n + 1))
            _, position = rest(follower, position, limit_rows=7)
        assert (root / f"{DAY}.db-wal").stat().st_size < 1_000_000
        assert len(query(root / f"{DAY}.db", "SELECT 1 FROM ticks")) == 10_000


@pytest.mark.parametrize("journal_mode", ["DELETE", "TRUNCATE", "PERSIST"])
def test_rollback_journals_are_followed_too(root: Path, journal_mode: str, follower: Follower) -> None:
    with closing(DayFileWriter(root, SqliteOptions(journal_mode=journal_mode))) as writer:
        position = Position()
        for n in range(1, 4):
            writer.write([tick(n)])
            seqs_read, position = rest(follower, position)
            assert seqs_read == seqs([tick(n)])


def test_a_file_that_is_only_begun_is_waited_for(root: Path, follower: Follower) -> None:
    db = root / f"{DAY}.db"
    db.touch()
    assert follower.read_behind(Position()) is None
    os.utime(db, (1, 1))
    with pytest.raises(StoreCorrupt, match="no ticks table"):
        follower.read_behind(Position())


def test_a_damaged_file_is_said_and_may_be_given_up(writer: DayFileWriter, root: Path, follower: Follower) -> None:
    writer.write([*ticks(3), *ticks(2, day=AFTER)])
    writer.close()
    (root / f"{DAY}.db").write_bytes(b"no database" * 1000)
    os.utime(root / f"{DAY}.db", (1, 1))
    with pytest.raises(StoreCorrupt):
        follower.read_behind(Position())
    assert rest(follower, Position().leaving(DAY))[0] == seqs(ticks(2, day=AFTER))


def test_a_damaged_day_that_is_over_holds_nobody_up(writer: DayFileWriter, root: Path) -> None:
    now_sec = [0.0]
    with Follower(root, days_look_sec=0, monotonic=lambda: now_sec[0]) as follower:
        writer.write(ticks(3))
        _, position = rest(follower, Position.at_start_of(DAY))
        writer.write(ticks(3, 4))
        writer.close()
        follower.close()
        (root / f"{DAY}.db").write_bytes(b"no database" * 1000)
        os.utime(root / f"{DAY}.db", (1, 1))
        for now_sec[0] in (1.0, 100.0):  # whoever writes to it sets it aside
            with pytest.raises(StoreCorrupt):
                follower.read_behind(position)
        writer.write(ticks(2, day=AFTER))
        with pytest.raises(DayDamaged, match=f"{DAY} is over") as damaged:
            follower.read_behind(position)
        lost = pickle.loads(pickle.dumps(damaged.value))
        assert (lost.day, str(lost), lost.onward) == (DAY, str(damaged.value), position.leaving(DAY))
        assert rest(follower, lost.onward)[0] == seqs(ticks(2, day=AFTER))


def test_a_wal_without_its_shared_memory_waits_for_the_recorder(
    writer: DayFileWriter, tmp_path_factory: pytest.TempPathFactory, root: Path
) -> None:
    """As after a power cut: to read it would make a -shm that the recorder could not write."""
    writer.write(ticks(3))
    after = Path(tmp_path_factory.mktemp("after"))
    for name in (f"{DAY}.db", f"{DAY}.db-wal"):
        shutil.copy(root / name, after / name)
    for path in (after, *after.iterdir(), *itertools.takewhile(lambda path: "pytest" in str(path), after.parents)):
        path.chmod(0o755)
    names = sorted(path.name for path in after.iterdir())
    with Follower(after, days_look_sec=0) as follower:
        if os.geteuid() == 0:
            with without_root(), pytest.raises(StoreUnavailable, match="WAL and no -shm"):
                follower.read_behind(Position())
        assert sorted(path.name for path in after.iterdir()) == names
        with closing(DayFileWriter(after)) as recorder:
            recorder.write([tick(4)])
            assert rest(follower, Position())[0] == seqs(ticks(4))


def test_a_data_root_that_may_not_be_listed_is_said(root: Path, follower: Follower) -> None:
    root.chmod(0o700 if os.geteuid() == 0 else 0)
    with without_root(), pytest.raises(StoreUnavailable, match=r"cannot be listed.*read permission"):
        follower.read_behind(Position())
    root.chmod(0o700)


def test_the_loop_yields_positions_to_keep_and_ends_when_told(writer: DayFileWriter, root: Path) -> None:
    writer.write(ticks(5))
    stop, seqs_read = threading.Event(), []
    for batch, position in follow(root, Position(), limit_rows=2, stop=stop):
        assert position == batch.position
        seqs_read += sequences(batch.rows)
        if len(seqs_read) == 5:
            writer.write([tick(6)])
        if len(seqs_read) == 6:
            stop.set()
    assert seqs_read == seqs(ticks(6))


def test_the_loop_waits_for_a_disk_and_then_says_what_it_is(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tries = []

    def read_behind(*_: object) -> None:
        tries.append(1)
        raise StoreUnavailable("the disk is away")

    monkeypatch.setattr(Follower, "read_behind", read_behind)
    with pytest.raises(StoreUnavailable, match="away"):
        next(follow(root, Position(), look_sec=0.001, patience_sec=0.05))
    assert len(tries) > 1


def test_a_trail_does_not_depend_on_how_rows_were_cut(writer: DayFileWriter, follower: Follower) -> None:
    writer.write([*ticks(7), tick(8, price=None), tick(9, volume=None)])
    batch = follower.read_behind(Position())
    assert batch is not None
    whole = TICKS.extended(0, batch.rows)
    assert whole == TICKS.extended(TICKS.extended(0, batch.rows[:3]), batch.rows[3:])
    assert whole != TICKS.extended(0, [*batch.rows[1:], batch.rows[0]])


READER = """
import os, sys
from pathlib import Path
from hk_tick_collector.store.follow import Follower, Position
os.setgroups([]); os.setgid(int(sys.argv[2])); os.setuid(int(sys.argv[3]))
position = Position()
with Follower(Path(sys.argv[1])) as follower:
    for _ in sys.stdin:
        rows = 0
        while (batch := follower.read_behind(position)) is not None:
            rows, position = rows + len(batch.rows), batch.position
        print(rows, flush=True)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_group_read_is_enough(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Live, after a writer that was killed, and closed; nothing is made or changed by the reader."""
    root = Path(tmp_path_factory.mktemp("shared"))
    for directory in itertools.takewhile(lambda path: "pytest" in str(path), (root, *root.parents)):
        directory.chmod(0o755)
    group = 54321
    os.chown(root, 0, group)
    root.chmod(0o2750)
    with closing(DayFileWriter(root)) as writer:
        writer.write(ticks(3))
        reader = subprocess.Popen(
            [sys.executable, "-c", READER, str(root), str(group), str(NOBODY_UID)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert reader.stdin is not None
        assert reader.stdout is not None

        def ask() -> int:
            reader.stdin.write("\n")
            reader.stdin.flush()
            return int(reader.stdout.readline())

        try:
            assert ask() == 3
            writer.write(ticks(2, first=4))
            assert ask() == 2
            assert {path.stat().st_uid for path in root.iterdir()} == {0}
        finally:
            reader.stdin.close()
            reader.wait()
    writer.close()
    names = sorted(path.name for path in root.iterdir())
    again = subprocess.run(
        [sys.executable, "-c", READER, str(root), str(group), str(NOBODY_UID)],
        input="\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert again.stdout == "5\n", again.stderr
    assert sorted(path.name for path in root.iterdir()) == names
