"""Salvage from files that are really damaged; tests/integration/test_tickctl_store_tools.py has the command."""

from __future__ import annotations

import contextlib
import os
import random
import sqlite3
from pathlib import Path

import pytest

from hk_tick_collector.core.facts import (
    NOTES_LOST,
    UNREAD_TICK,
    Fact,
    GapFound,
    HeadProven,
    Interrupted,
    NotSubscribed,
    Unproven,
    Verified,
)
from hk_tick_collector.records.tick import Tick
from hk_tick_collector.store import salvage as store_salvage
from hk_tick_collector.store.reader import CoverageRow, coverage, gaps
from hk_tick_collector.store.salvage import salvage
from hk_tick_collector.store.writer import DayFileWriter
from tests.stored import iter_ticks
from tests.unit.store_ticks import DAY, query, tick, ticks
from tests.unit.test_store_connect import LEGACY_ROW, make_legacy

PAGE = 4096
ROWS = 6000


@pytest.fixture
def broken(tmp_path):
    """A whole file under the name of one that was set aside; the tests break it."""
    writer = DayFileWriter(tmp_path)
    for first in range(1, ROWS, 500):
        writer.write(ticks(500, first=first))
    writer.close()
    return (tmp_path / f"{DAY}.db").rename(tmp_path / f"{DAY}.db.corrupt-20261120T013005.000Z")


@pytest.fixture
def target(tmp_path):
    return tmp_path / f"{DAY}.db"


def pages_of(path: Path, name: str, kind: bytes) -> list[int]:
    """Page numbers (from 0) of one table or index, leaf (b'\\r') or interior (b'\\5')."""
    with contextlib.closing(sqlite3.connect(path)) as conn:
        try:
            numbers = [row[0] - 1 for row in conn.execute("SELECT pageno FROM dbstat WHERE name = ?", (name,))]
        except sqlite3.OperationalError:  # SQLite built without dbstat
            numbers = range(1, path.stat().st_size // PAGE)
    data = path.read_bytes()
    return [number for number in numbers if data[number * PAGE : number * PAGE + 1] == kind]


def overwrite(path: Path, page: int, content: bytes | None = None) -> None:
    with path.open("r+b") as file:
        file.seek(page * PAGE)
        file.write(random.Random(page).randbytes(PAGE) if content is None else content)


def assert_true_rows(target: Path, at_least: int) -> None:
    """Whatever was salvaged is what was stored, row by row."""
    rows = list(iter_ticks(target))
    truth = set(ticks(ROWS))
    assert all(row in truth for row in rows)
    assert len(set(rows)) == len(rows)
    assert len(rows) >= at_least


@pytest.mark.parametrize("table", ["gaps", "coverage", "amendments"])
def test_notes_that_cannot_be_read_leave_no_day_proven(tmp_path: Path, target: Path, table: str) -> None:
    stored = ticks(10)
    with contextlib.closing(DayFileWriter(tmp_path)) as writer:
        symbol, first, last = stored[0].symbol, stored[0].seq & 0xFFFFFFFF, stored[-1].seq & 0xFFFFFFFF
        away = NotSubscribed(symbol, DAY, stored[0].ts_ms, stored[-1].ts_ms, False, "refused")
        writer.write(stored, [HeadProven(symbol, DAY, first), Verified(symbol, DAY, last, stored[-1].ts_ms + 1), away])
    broken = (tmp_path / f"{DAY}.db").rename(tmp_path / f"{DAY}.db.corrupt-20261120T013005.000Z")
    (page,) = query(broken, f"SELECT rootpage FROM sqlite_master WHERE name = '{table}'")[0]
    overwrite(broken, page - 1)
    report = salvage(broken, target)
    assert (report.copied_rows, report.clean, report.lost_notes) == (10, False, [table])
    (row,) = coverage(target)
    assert row.state == "unproven"
    if table == "gaps":
        assert NOTES_LOST in str(row.reason)


def test_whole_file_is_copied_with_its_insert_times(broken, target):
    inserted = query(broken, "SELECT seq, inserted_at_ms FROM ticks")
    report = salvage(broken, target)
    assert (report.read_rows, report.copied_rows, report.clean) == (ROWS, ROWS, True)
    assert sorted(query(target, "SELECT seq, inserted_at_ms FROM ticks")) == sorted(inserted)
    again = salvage(broken, target)
    assert (again.read_rows, again.copied_rows, again.clean) == (ROWS, 0, True)


def test_rows_join_those_that_were_stored_since(broken, target):
    writer = DayFileWriter(target.parent)
    writer.write([*ticks(100), *ticks(50, first=ROWS + 1)])  # the recorder keeps the file open meanwhile
    report = salvage(broken, target)
    assert (report.read_rows, report.copied_rows, report.clean) == (ROWS, ROWS - 100, True)
    assert writer.write(ticks(10, first=ROWS + 51)).inserted_rows == 10
    writer.close()
    assert query(target, "SELECT COUNT(*) FROM ticks") == [(ROWS + 60,)]


@pytest.mark.parametrize("content", [None, b"\0" * PAGE, b"\xff" * PAGE], ids=["noise", "zeros", "ones"])
def test_pages_in_the_middle_cost_their_own_rows(broken, target, content):
    leaves = pages_of(broken, "ticks", b"\r")
    for page in (leaves[len(leaves) // 3], leaves[len(leaves) // 3 + 1], leaves[-10]):
        overwrite(broken, page, content)
    before = broken.read_bytes()
    report = salvage(broken, target)
    assert_true_rows(target, ROWS - 3 * 50)
    lost = ROWS - len(list(iter_ticks(target)))
    assert report.read_rows == ROWS - lost
    assert report.unreadable
    assert lost > 0
    assert broken.read_bytes() == before


def test_the_ranges_name_every_row_that_is_missing(broken, target):
    leaves = pages_of(broken, "ticks", b"\r")
    for page in (leaves[4], leaves[40], leaves[41], leaves[-1]):
        overwrite(broken, page)
    report = salvage(broken, target)
    named = {rowid for low, high in report.unreadable for rowid in range(low, high + 1)}
    rows = set(iter_ticks(target))
    missing = {rowid for rowid, row in enumerate(ticks(ROWS), 1) if row not in rows}
    assert missing
    assert missing <= named
    assert named & set(range(1, ROWS + 1)) == missing


@pytest.mark.parametrize("which", [0, 7, -1], ids=["first", "middle", "last"])
def test_a_broken_page_costs_its_own_rows_and_no_other(broken, target, which):
    page = pages_of(broken, "ticks", b"\r")[which]
    cells = int.from_bytes(broken.read_bytes()[page * PAGE + 3 : page * PAGE + 5], "big")
    overwrite(broken, page, b"\0" * PAGE)
    assert salvage(broken, target).read_rows == ROWS - cells


def test_rows_behind_millions_that_cannot_be_read_are_found_soon():
    first, last = 7_000_000, 40_000_000
    with contextlib.closing(sqlite3.connect(":memory:")) as conn:
        conn.execute("CREATE TABLE ticks (rowid INTEGER PRIMARY KEY, trading_day TEXT)")
        asked: list[str] = []
        conn.set_trace_callback(asked.append)
        sql = "SELECT rowid, trading_day FROM ticks WHERE rowid = ?"
        assert store_salvage._next_row(conn, sql, 2, last) is None
        assert len(asked) < 12 * store_salvage.FINENESS
        conn.executemany("INSERT INTO ticks VALUES (?, ?)", [(first + n, DAY) for n in range(2000)])
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(store_salvage, "_plausible", lambda _values: True)
            assert store_salvage._next_row(conn, sql, 2, last) == (first, (DAY,))


def test_a_file_that_a_recorder_made_meanwhile_keeps_its_rows(tmp_path, monkeypatch):
    """Where there are no hard links the copy was put in its place."""
    root = tmp_path / "aside"
    source = set_aside(root, ticks(20))
    into = tmp_path / "HK" / f"{DAY}.db"
    into.parent.mkdir()

    def made_meanwhile(self: Path, _target: Path) -> None:
        writer = DayFileWriter(into.parent)
        writer.write([tick(30)], [])
        writer.close()
        raise OSError("this file system has no hard links")

    monkeypatch.setattr(Path, "hardlink_to", made_meanwhile)
    salvage(source, into)
    assert query(into, "SELECT count(*) FROM ticks") == [(21,)]


def test_first_leaf_is_damaged(broken, target):
    overwrite(broken, pages_of(broken, "ticks", b"\r")[0])
    report = salvage(broken, target)
    assert report.unreadable[0][0] == 1
    assert_true_rows(target, ROWS - 60)


def test_indexes_do_not_matter(broken, target):
    for page in pages_of(broken, "uniq_ticks_symbol_seq", b"\n"):
        overwrite(broken, page)
    report = salvage(broken, target)
    assert (report.read_rows, report.clean) == (ROWS, True)


def test_root_of_the_table_is_damaged(broken, target):
    root_page = query(broken, "SELECT rootpage FROM sqlite_master WHERE name = 'ticks'")[0][0] - 1
    overwrite(broken, root_page)
    report = salvage(broken, target)
    assert (report.read_rows, report.clean) == (0, False)


def test_truncated_file(broken, target):
    size = broken.stat().st_size
    os.truncate(broken, size // 2 // PAGE * PAGE)
    report = salvage(broken, target)
    assert not report.clean
    assert_true_rows(target, ROWS // 3)


def test_no_database_at_all(broken, target):
    broken.write_bytes(b"garbage " * 5000)
    report = salvage(broken, target)
    assert not report.clean
    assert "not a database" in (report.problem or "")
    assert not target.exists()


def test_values_of_the_wrong_kind_are_not_copied(broken, target):
    """Damage that SQLite does not see: a page is well formed, its values are not."""
    with contextlib.closing(sqlite3.connect(broken)) as conn:
        conn.execute("UPDATE ticks SET symbol = x'00ff' WHERE rowid = 7")
        conn.execute("UPDATE ticks SET ts_ms = 'later' WHERE rowid = 8")
        conn.execute("UPDATE ticks SET trading_day = '2026-xx' WHERE rowid = 100")
        conn.execute("UPDATE ticks SET direction = CAST(x'ff' AS TEXT) WHERE rowid = 200")
        conn.execute("DELETE FROM ticks WHERE rowid BETWEEN 300 AND 310")
        conn.commit()
    report = salvage(broken, target)
    assert report.unreadable == [(7, 8), (100, 100), (200, 200), (300, 310)]
    assert report.copied_rows == ROWS - 4 - 11


def test_wal_of_the_file_is_read_too(tmp_path, target):
    writer = DayFileWriter(tmp_path)
    writer.write(ticks(300))
    moved = writer.set_aside(DAY, "test")
    assert Path(f"{moved}-wal").stat().st_size > 0
    report = salvage(moved, target)
    assert (report.copied_rows, report.clean) == (300, True)


def test_file_of_an_earlier_recorder_with_deleted_rows_is_clean(tmp_path, target):
    old = tmp_path / "old.db"
    make_legacy(old, LEGACY_ROW, *[(*LEGACY_ROW[:7], n, *LEGACY_ROW[8:]) for n in (1, 2, 3)])
    with contextlib.closing(sqlite3.connect(old)) as conn:
        conn.execute("DELETE FROM ticks WHERE rowid IN (1, 3)")
        conn.commit()
    assert salvage(old, target).clean
    assert [row.seq for row in iter_ticks(target)] == [1, 3]


def test_rows_without_sequence(tmp_path, target):
    writer = DayFileWriter(tmp_path / "a")
    rows: list[Tick] = [tick(1, seq=None), tick(2, seq=None, price=None)]
    writer.write(rows)
    writer.close()
    for _ in range(2):
        assert salvage(tmp_path / "a" / f"{DAY}.db", target).clean
    assert list(iter_ticks(target)) == rows


# -- what the file noted of its day --

SYMBOL = ticks(1)[0].symbol
PROOF: list[Fact] = [HeadProven(SYMBOL, DAY, 1), Verified(SYMBOL, DAY, 200, 1_795_140_000_000)]


def set_aside(root: Path, rows: list[Tick], *facts: Fact) -> Path:
    writer = DayFileWriter(root)
    writer.write(rows, facts)
    moved = writer.set_aside(DAY, "test")
    writer.close()
    assert moved is not None
    return moved


def covered(target: Path) -> CoverageRow:
    (row,) = coverage(target)
    return row


def test_what_was_proven_is_proven_in_the_salvaged_file(tmp_path, target):
    salvage(set_aside(tmp_path, ticks(200), *PROOF), target)
    row = covered(target)
    assert (row.state, row.head_proven, row.verified_until_ms) == ("proven", 1, 1_795_140_000_000)


def test_rows_that_were_lost_are_missing_in_it(tmp_path, target):
    damaged = set_aside(tmp_path, ticks(200), *PROOF)
    with contextlib.closing(sqlite3.connect(damaged)) as conn:
        conn.execute("DELETE FROM ticks WHERE rowid BETWEEN 191 AND 200")
        conn.commit()
    salvage(damaged, target)
    assert (covered(target).state, covered(target).missing_ticks) == ("missing", 10)


@pytest.mark.parametrize(
    ("fact", "state"),
    [
        (Unproven(SYMBOL, DAY, UNREAD_TICK), "unproven"),
        (Interrupted(SYMBOL, DAY, ticks(100)[99].seq or 0), "unproven"),
        (GapFound(SYMBOL, DAY, 201, 210, 1_795_140_000_000, "not shown by OpenD"), "missing"),
    ],
)
def test_a_caution_outlives_its_file(tmp_path, target, fact, state):
    """Else the next answer of OpenD, which knows nothing of it, would prove the day."""
    salvage(set_aside(tmp_path, ticks(200), fact), target)
    writer = DayFileWriter(tmp_path)
    writer.write([], PROOF)
    writer.close()
    assert covered(target).state == state
    assert len(gaps(target)) == (state == "missing")


def test_what_the_new_file_knows_of_a_later_time_stays(tmp_path, target):
    moved = set_aside(tmp_path, ticks(200), *PROOF)
    writer = DayFileWriter(tmp_path)
    writer.write(ticks(20, first=201), [Verified(SYMBOL, DAY, 220, 1_795_150_000_000)])
    salvage(moved, target)
    assert (covered(target).state, covered(target).verified_counter) == ("proven", 220)
    assert covered(target).verified_until_ms == 1_795_150_000_000
    writer.write(ticks(1, first=221), [])
    writer.close()
    assert (covered(target).state, covered(target).stored_ticks) == ("proven", 221)


def test_an_interruption_that_was_bridged_since_stays_bridged(tmp_path, target):
    """OpenD has shown its tick again to whoever records now, and nobody would tell the end of it twice."""
    seq = ticks(150)[149].seq or 0
    moved = set_aside(tmp_path, ticks(200), *PROOF, Interrupted(SYMBOL, DAY, seq))
    writer = DayFileWriter(tmp_path)
    writer.write(ticks(100, first=121), [Verified(SYMBOL, DAY, 220, 1_795_150_000_000)])
    writer.close()
    for _ in range(2):
        salvage(moved, target)
        assert (covered(target).state, covered(target).stored_ticks) == ("proven", 220)


def test_notes_that_no_recorder_writes_are_left_out(tmp_path, target):
    moved = set_aside(tmp_path, ticks(200), *PROOF, GapFound(SYMBOL, DAY, 1, 9, 1, "x"))
    with contextlib.closing(sqlite3.connect(moved)) as conn:
        conn.execute("UPDATE coverage SET verified_until_ms = 'noon', holes = 'a-b'")
        conn.execute("INSERT INTO gaps VALUES (?, ?, 'a', 'b', 1, 2, 'x', NULL, NULL, 'open')", (DAY, SYMBOL))
        conn.commit()
    report = salvage(moved, target)
    assert (report.clean, report.lost_notes) == (False, ["gaps", "coverage"])
    assert (covered(target).state, covered(target).head_counter) == ("unproven", None)
