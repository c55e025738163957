"""``hk-tickctl salvage``, ``vacuum`` and ``migrate`` as people run them."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from hk_tick_collector.core.clock import SystemClock
from hk_tick_collector.ingest.spill import SpillQueue
from hk_tick_collector.market.hk.sessions import hk_date
from hk_tick_collector.market.us import US
from hk_tick_collector.records.columns import SCHEMA_VERSION
from hk_tick_collector.store import salvage as salvage_of_a_file
from hk_tick_collector.store.reader import coverage
from hk_tick_collector.store.writer import DayFileWriter
from tests.harness import BIN, clean_env, wait_until
from tests.stored import iter_ticks
from tests.tickctl import SYMBOLS, day_ticks, record_day, tickctl, tickctl_json
from tests.ticks import DAY
from tests.unit.test_store_connect import LEGACY_ROW, make_legacy

PAGE = 4096
ROWS = 3000
CORRUPT = f"{DAY}.db.corrupt-20261120T013000.000Z"
HOLD = """
import sqlite3, sys
conn = sqlite3.connect(sys.argv[1])
conn.execute("SELECT COUNT(*) FROM ticks").fetchall()
print(1, flush=True)
input()
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    record_day(tmp_path / "HK", count=ROWS // len(SYMBOLS))
    return tmp_path / "HK"


@pytest.fixture
def db(root: Path) -> Path:
    return root / f"{DAY}.db"


def make_room(db: Path, rows: int = 2000) -> None:
    """Free pages in the file, as deleted rows leave them."""
    with closing(sqlite3.connect(db)) as conn:
        conn.execute("CREATE TABLE ballast (b)")
        conn.executemany("INSERT INTO ballast VALUES (?)", ((os.urandom(900),) for _ in range(rows)))
        conn.execute("DROP TABLE ballast")
        conn.commit()


def damage(db: Path) -> None:
    """Noise over a page in the middle of the table."""
    data = bytearray(db.read_bytes())
    pages = [data[n * PAGE : (n + 1) * PAGE] for n in range(len(data) // PAGE)]
    leaves = [n for n, page in enumerate(pages) if page[0] == 13 and DAY.encode() in page]
    page = leaves[len(leaves) // 2]
    data[page * PAGE : (page + 1) * PAGE] = os.urandom(PAGE)
    db.write_bytes(data)


# -- salvage -----------------------------------------------------------------------------------------------------------


def test_salvage_of_a_whole_file(root: Path, db: Path) -> None:
    truth = set(iter_ticks(db))
    broken = db.rename(root / CORRUPT)
    done = tickctl("salvage", broken)
    assert done.returncode == 0, done.stderr
    assert f"rows read: {ROWS:,}" in done.stdout
    assert f"rows copied: {ROWS:,}" in done.stdout
    assert set(iter_ticks(db)) == truth
    assert sum(row.stored_ticks for row in coverage(db)) == ROWS
    again = tickctl_json("salvage", broken)
    assert (again["clean"], again["read_rows"], again["copied_rows"]) == (True, ROWS, 0)
    assert again["into"] == str(db)


def test_salvage_says_what_was_lost(root: Path, db: Path) -> None:
    truth = set(iter_ticks(db))
    damage(db)
    broken = db.rename(root / CORRUPT)
    before = broken.read_bytes()
    result = tickctl_json("salvage", broken, code=1)
    rows = set(iter_ticks(db))
    assert rows < truth
    assert not result["clean"]
    assert result["copied_rows"] == len(rows) > ROWS * 0.9
    named = sum(high - low + 1 for low, high in result["unreadable"])
    assert named >= len(truth) - len(rows)
    assert broken.read_bytes() == before
    done = tickctl("salvage", broken)
    assert done.returncode == 1
    assert "rows were lost" in done.stdout


def test_salvage_into_a_data_root_or_a_file(root: Path, db: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    assert tickctl_json("salvage", db, "--into", other)["into"] == str(other / f"{DAY}.db")
    assert tickctl_json("salvage", db, "--into", tmp_path / "x.db")["copied_rows"] == ROWS
    assert set(iter_ticks(other / f"{DAY}.db")) == set(iter_ticks(tmp_path / "x.db")) == set(iter_ticks(db))
    assert root.exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_salvage_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    root, into = tmp_path / "large", tmp_path / "into"
    into.mkdir()
    record_day(root, count=25_000)
    source = (root / f"{DAY}.db").rename(root / CORRUPT)
    command = [str(BIN / "hk-tickctl"), "salvage", str(source), "--into", str(into / f"{DAY}.db")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=clean_env(tmp_path / "home"))

    def is_at_work() -> bool:
        assert process.poll() is None, "it ended before it was told to"
        return any(path.name.endswith(".tmp") and path.stat().st_size > 100_000 for path in into.iterdir())

    wait_until(is_at_work, "the first rows")
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    assert (process.returncode, list(into.iterdir())) == (128 + number, []), stderr


def test_a_file_that_a_recorder_makes_meanwhile_is_joined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record_day(tmp_path / "old", count=50)
    source, into = tmp_path / "old" / f"{DAY}.db", tmp_path / "new" / f"{DAY}.db"
    into.parent.mkdir()
    synced = salvage_of_a_file.sync_file

    def meanwhile(part: Path) -> None:
        synced(part)
        record_day(into.parent, count=80, symbols=("HK.00001",))

    monkeypatch.setattr(salvage_of_a_file, "sync_file", meanwhile)
    report = salvage_of_a_file.salvage(source, into)
    assert (report.read_rows, report.copied_rows, report.clean) == (150, 150, True)
    assert len(list(iter_ticks(into))) == 230
    assert [path.name for path in into.parent.iterdir() if ".tmp" in path.name] == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_salvage_into_a_file_says_so_and_goes_on(tmp_path: Path, number: signal.Signals) -> None:
    root = tmp_path / "large"
    rows = record_day(root, count=25_000)
    record_day(tmp_path, count=1)
    source = (root / f"{DAY}.db").rename(root / CORRUPT)
    target = tmp_path / f"{DAY}.db"
    command = [str(BIN / "hk-tickctl"), "salvage", str(source), "--into", str(target)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=clean_env(tmp_path / "home"))
    wait_until(lambda: target.exists() and target.stat().st_size > 100_000, "the first rows")
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    assert (process.returncode, "goes on with it" in stderr) == (128 + number, True), stderr
    report = tickctl_json("salvage", source, "--into", target)
    assert (report["clean"], report["read_rows"]) == (True, rows)
    assert report["copied_rows"] < rows
    assert len(list(iter_ticks(target))) == rows


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ([], 2, "Missing argument"),
        (["absent.db"], 2, "does not exist"),
        (["other.db"], 2, "--into"),
        ([f"{DAY}.db"], 2, "into itself"),
        ([f"{DAY}.db", "--into", "link.db"], 2, "into itself"),
        ([f"{DAY}.db", "--into", "garbage"], 1, "not a database"),
        ([f"{DAY}.db", "--into", "garbage/x.db"], 1, "garbage"),
        (["garbage", "--into", "new.db"], 1, ""),
        (["other.db", "--unknown"], 2, "--unknown"),
    ],
)
def test_salvage_refusals(root: Path, arguments: list[str], code: int, says: str) -> None:
    (root / "garbage").write_bytes(b"garbage " * 5000)
    (root / "other.db").write_bytes(b"")
    (root / "link.db").symlink_to(root / f"{DAY}.db")
    done = subprocess.run(
        [str(BIN / "hk-tickctl"), "salvage", *arguments], cwd=root, env=clean_env(root.parent / "home"),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    names = {path.name for path in root.iterdir() if not path.name.endswith(("-wal", "-shm"))}  # of reading
    assert names == {"garbage", "other.db", "link.db", f"{DAY}.db"}
    assert (root / "garbage").read_bytes() == b"garbage " * 5000


def test_salvage_of_no_database(root: Path) -> None:
    broken = root / CORRUPT.replace(DAY, "20261119")
    broken.write_bytes(b"garbage " * 5000)
    done = tickctl("salvage", broken)
    assert done.returncode == 1
    assert "not a database" in done.stdout
    assert not (root / "20261119.db").exists()


# -- vacuum ------------------------------------------------------------------------------------------------------------


def test_vacuum(root: Path, db: Path) -> None:
    truth, known = sorted(iter_ticks(db)), coverage(db)
    make_room(db)
    before_bytes = db.stat().st_size
    result = tickctl_json("vacuum", DAY, data_root=root)
    assert result["changed"] is True
    assert (result["before_bytes"], result["after_bytes"]) == (before_bytes, db.stat().st_size)
    assert result["after_bytes"] < before_bytes - 1_000_000
    assert (sorted(iter_ticks(db)), coverage(db)) == (truth, known)
    assert [path.name for path in root.iterdir()] == [db.name]
    again = tickctl("vacuum", "last", data_root=root)
    assert again.returncode == 0
    assert "as small as it can be" in again.stdout


def vacuum_refused(root: Path, day: str, says: str, code: int = 1) -> None:
    names = {path.name: path.stat().st_ino for path in root.glob("*.db")}
    done = tickctl("vacuum", day, data_root=root)
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert {path.name: path.stat().st_ino for path in root.glob("*.db")} == names
    assert not [path for path in root.rglob(".*") if "tickctl" in path.name]


def test_vacuum_refuses_a_day_that_is_not_over(root: Path) -> None:
    today = hk_date(SystemClock().now_ms())
    record_day(root, today, count=10)
    vacuum_refused(root, "today", "is today in Hong Kong")
    vacuum_refused(root, today, "is today in Hong Kong")
    of_us = US.trading_day(SystemClock().now_ms())
    record_day(root, of_us, count=10)
    (root / ".market").write_text("US\n")
    vacuum_refused(root, of_us, "is today in the United States")
    vacuum_refused(root, "20991231", "future", 3)


def test_vacuum_refuses_what_is_not_there_or_not_ours(root: Path) -> None:
    vacuum_refused(root, "20261118", f"no ticks of 20261118 under {root}", 3)
    vacuum_refused(root, "soon", "is not a day", 2)
    (root / "20261117.db").write_bytes(b"no database at all" * 300)
    vacuum_refused(root, "20261117", "not a database")
    with closing(sqlite3.connect(root / "20261116.db")) as conn:
        conn.execute("CREATE TABLE notes (a)")
    vacuum_refused(root, "20261116", "no ticks table")


def test_vacuum_tells_a_day_that_is_only_archived_from_one_that_is_nowhere(root: Path, db: Path) -> None:
    assert tickctl("archive", DAY, data_root=root).returncode == 0
    db.unlink()
    vacuum_refused(root, DAY, f"{DAY} has no day file, only an archive", 3)


def test_vacuum_refuses_a_file_in_use(root: Path, db: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD, db], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as proc:
        assert proc.stdout is not None
        assert proc.stdout.readline() == b"1\n"
        vacuum_refused(root, DAY, f"open in another process: pid {proc.pid}")
        proc.communicate(b"\n")
    assert tickctl("vacuum", DAY, data_root=root).returncode == 0


def test_vacuum_refuses_while_rows_wait_in_the_spill(root: Path) -> None:
    queue = SpillQueue(root)
    queue.open()
    queue.append(day_ticks("HK.00700", 3, DAY, first=5000))
    queue.close()
    vacuum_refused(root, DAY, f"rows of {DAY} wait in {root / '_spill'}")


def test_vacuum_killed_at_any_moment(root: Path, db: Path) -> None:
    record_day(root, DAY, symbols=("HK.00001", "HK.00002"), count=20_000)
    truth = sorted(iter_ticks(db), key=repr)
    left = 0
    for n in range(8):
        make_room(db, 1000)
        command = [str(BIN / "hk-tickctl"), "vacuum", DAY, "--data-root", str(root)]
        with subprocess.Popen(command, env=clean_env(root.parent / "home"), stderr=subprocess.DEVNULL) as proc:
            while proc.poll() is None and not any(".tmp" in path.name for path in root.iterdir()):
                time.sleep(0.001)
            time.sleep(n * 0.03)
            proc.send_signal(signal.SIGKILL)
        left += any(".tmp" in path.name for path in root.iterdir())
        assert sorted(iter_ticks(db), key=repr) == truth
    assert left, "no kill met a vacuum at work"
    make_room(db)
    assert tickctl_json("vacuum", DAY, data_root=root)["changed"]
    assert sorted(iter_ticks(db), key=repr) == truth
    assert [path.name for path in root.iterdir()] == [db.name]


def test_vacuum_on_a_full_disk(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=5m", "tmpfs", disk], capture_output=True, text=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"cannot mount a small file system here: {mounted.stderr.strip()}")
    try:
        record_day(tmp_path / "HK", count=7000)
        shutil.copy(tmp_path / "HK" / f"{DAY}.db", disk)
        assert (disk / f"{DAY}.db").stat().st_size > 3_000_000
        truth = sorted(iter_ticks(disk / f"{DAY}.db"))
        vacuum_refused(disk, DAY, "disk")
        assert sorted(iter_ticks(disk / f"{DAY}.db")) == truth
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        vacuum_refused(disk, DAY, "ead-only")
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


# -- migrate -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def old_root(root: Path) -> Path:
    """A file of an earlier recorder beside one of ours, one of a newer and one of another program."""
    rows = [(*LEGACY_ROW[:7], LEGACY_ROW[7] + n, *LEGACY_ROW[8:]) for n in range(100)]
    make_legacy(root / "20261117.db", *rows)
    for day, sql in (("20261118", "PRAGMA user_version = 99"), ("20261119", "CREATE TABLE notes (a)")):
        if day == "20261118":
            record_day(root, day, count=5)
        with closing(sqlite3.connect(root / f"{day}.db")) as conn:
            conn.execute(sql)
            conn.commit()
    return root


def version(db: Path) -> int:
    with closing(sqlite3.connect(db)) as conn:
        return int(conn.execute("PRAGMA user_version").fetchone()[0])


def test_migrate(old_root: Path) -> None:
    truth = list(iter_ticks(old_root / "20261117.db"))
    foreign = (old_root / "20261119.db").read_bytes()
    planned = tickctl_json("migrate", "--dry-run", data_root=old_root, code=1)
    assert [(Path(step["file"]).stem, step["from_version"], step["result"]) for step in planned] == [
        ("20261117", 0, "would be migrated"),
        ("20261118", None, "refused"),
        ("20261119", None, "refused"),
        (DAY, SCHEMA_VERSION, "up to date"),
    ]
    assert version(old_root / "20261117.db") == 0
    done = tickctl_json("migrate", data_root=old_root, code=1)
    assert (done[0]["from_version"], done[0]["to_version"], done[0]["result"]) == (0, SCHEMA_VERSION, "migrated")
    assert "newer recorder (schema version 99" in done[1]["reason"]
    assert "no ticks table" in done[2]["reason"]
    assert version(old_root / "20261117.db") == SCHEMA_VERSION
    assert version(old_root / "20261118.db") == 99
    assert (old_root / "20261119.db").read_bytes() == foreign
    assert list(iter_ticks(old_root / "20261117.db")) == truth
    assert [(row.symbol, row.stored_ticks) for row in coverage(old_root / "20261117.db")] == [("HK.00700", 100)]
    assert not any(path.stat().st_size for path in old_root.glob("*-wal"))
    again = tickctl("migrate", "--days", "20261117", data_root=old_root)
    assert again.returncode == 0
    assert "up to date" in again.stdout


def test_migrate_leaves_a_file_in_use_alone(old_root: Path) -> None:
    db = old_root / "20261117.db"
    with subprocess.Popen([sys.executable, "-c", HOLD, db], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as proc:
        assert proc.stdout is not None
        assert proc.stdout.readline() == b"1\n"
        done = tickctl("migrate", "--days", "20261117", data_root=old_root)
        proc.communicate(b"\n")
    assert done.returncode == 1
    assert "open in another process" in done.stdout
    assert version(db) == 0


def test_migrate_of_what_cannot_be(old_root: Path) -> None:
    """Two rows that the new file may not hold both: it stays as it was."""
    db = old_root / "20261116.db"
    make_legacy(db, LEGACY_ROW, LEGACY_ROW)
    done = tickctl("migrate", "--days", "20261116", data_root=old_root)
    assert done.returncode == 1
    assert "cannot be migrated" in done.stdout
    assert version(db) == 0
    assert len(list(iter_ticks(db))) == 2


def test_migrate_without_files(tmp_path: Path) -> None:
    done = tickctl("migrate", data_root=tmp_path)
    assert (done.returncode, done.stdout) == (3, "")
    assert "no days are recorded under" in done.stderr


def test_migrate_beside_a_recorder(root: Path) -> None:
    """Today's file is up to date, and looking at it disturbs nobody."""
    today = hk_date(SystemClock().now_ms())
    writer = DayFileWriter(root)
    ticks = day_ticks("HK.00700", 20, today)
    writer.write(ticks[:10])
    done = tickctl_json("migrate", data_root=root)
    assert {step["result"] for step in done} == {"up to date"}
    assert writer.write(ticks).inserted_rows == 10
    writer.close()
