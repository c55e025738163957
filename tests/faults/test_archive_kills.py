"""Archive, restoring and retention killed anywhere, out of disk, interrupted, lied to: no tick is ever lost.

ARCHIVE_KILLS=100 makes a long night of it.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hk_tick_collector.archive import verify
from hk_tick_collector.days.manifest import manifest_path, parquet_path, sqlite_path
from hk_tick_collector.store.connect import ROW_COLUMNS
from hk_tick_collector.store.writer import DayFileWriter
from tests.harness import BIN, clean_env, wait_until
from tests.nights import every_test
from tests.tickctl import day_ticks, record_day, tickctl, tickctl_json

DAY = "20251120"
# Of each job, half of them at a step in the file system, half after a random time.
KILLS = int(os.environ.get("ARCHIVE_KILLS", "8" if every_test() else "2"))
SEED = os.environ.get("KILLS_SEED", "")
TICKS = 60

Row = tuple[Any, ...]


class Jobs:
    """The program that runs jobs and kills them."""

    def __init__(self) -> None:
        self.proc = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.archive_jobs"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True, bufsize=1, cwd=Path(__file__).parents[2],
        )  # fmt: skip

    def run(self, scene: Scene, job: str, **options: Any) -> dict[str, Any]:
        order = {"job": job, "data": str(scene.data), "archive": str(scene.archive), "day": DAY, "kinds": scene.kinds}
        assert self.proc.stdin is not None
        assert self.proc.stdout is not None
        self.proc.stdin.write(json.dumps({**order, **options}) + "\n")
        self.proc.stdin.flush()
        line = self.proc.stdout.readline()
        assert line, "the program that runs jobs has ended"
        answer: dict[str, Any] = json.loads(line)
        return answer

    def end(self) -> None:
        self.proc.kill()
        self.proc.communicate()


@pytest.fixture(scope="module")
def jobs() -> Iterator[Jobs]:
    server = Jobs()
    try:
        yield server
    finally:
        server.end()


class Scene:
    """A data root and an archive as they are before a job."""

    def __init__(self, directory: Path, kinds: list[str]) -> None:
        self.directory = directory
        self.kinds = kinds
        self.data, self.archive = directory / "data", directory / "archive"
        self.data.mkdir(parents=True)
        self.archive.mkdir()

    @property
    def db(self) -> Path:
        return self.data / f"{DAY}.db"

    def copy(self, directory: Path) -> Scene:
        shutil.copytree(self.directory, directory)
        made = object.__new__(Scene)
        made.directory, made.kinds = directory, self.kinds
        made.data, made.archive = directory / "data", directory / "archive"
        return made

    def store(self, first: int, last: int) -> None:
        writer = DayFileWriter(self.data)
        for symbol in ("HK.00005", "HK.00700"):
            writer.write(day_ticks(symbol, TICKS, DAY)[first:last])
        writer.close()

    def lose_day_file(self) -> None:
        self.db.unlink()

    def stored(self) -> set[Row]:
        """What the day file holds, read as SQLite would after a crash."""
        if not self.db.exists():
            return set()
        with contextlib.closing(sqlite3.connect(self.db)) as conn:
            assert conn.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
            rows = conn.execute(f"SELECT {', '.join(ROW_COLUMNS)} FROM ticks").fetchall()
        assert len(rows) == len(set(rows))
        return set(rows)

    def archived(self) -> set[Row]:
        """What an archive holds that can be trusted."""
        if not verify.check_day(self.archive, DAY, None).fine:
            return set()
        with verify.opened("parquet", parquet_path(self.archive, DAY), self.archive) as ticks:
            return set(ticks.rows(["HK.00005", "HK.00700"]))

    def half_done(self) -> list[str]:
        """Temporary files of any kind."""
        return [
            str(path.relative_to(self.directory))
            for path in self.directory.rglob(".*")
            if path.is_file() and not path.name.endswith(".lock")
        ]


Keys = set[tuple[str, int]]


def keys(rows: set[Row]) -> Keys:
    return {(row[ROW_COLUMNS.index("symbol")], row[ROW_COLUMNS.index("seq")]) for row in rows}


def to_archive(scene: Scene, jobs: Jobs) -> None:
    scene.store(0, TICKS)


def to_replace(scene: Scene, jobs: Jobs) -> None:
    scene.store(0, 40)
    assert jobs.run(scene, "archive")["error"] is None
    scene.store(0, TICKS)


def to_retain(scene: Scene, jobs: Jobs) -> None:
    scene.store(0, TICKS)
    assert jobs.run(scene, "archive")["error"] is None


def to_restore(scene: Scene, jobs: Jobs) -> None:
    to_retain(scene, jobs)
    scene.lose_day_file()


def to_join(scene: Scene, jobs: Jobs) -> None:
    scene.store(0, 40)
    assert jobs.run(scene, "archive")["error"] is None
    scene.lose_day_file()
    scene.store(30, TICKS)


SCENES: list[tuple[str, Callable[[Scene, Jobs], None], list[str], str]] = [
    ("a first archive", to_archive, ["parquet"], "archive"),
    ("a first archive of both kinds", to_archive, ["parquet", "sqlite"], "archive"),
    ("an archive replaced", to_replace, ["parquet", "sqlite"], "archive"),
    ("a day file deleted", to_retain, ["parquet"], "retain"),
    ("a day restored", to_restore, ["parquet"], "restore"),
    ("a day restored from its packed file", to_restore, ["parquet", "sqlite"], "restore"),
    ("a day joined", to_join, ["parquet"], "restore"),
]


@pytest.mark.parametrize(
    ("prepare", "kinds", "job"), [scene[1:] for scene in SCENES], ids=[scene[0] for scene in SCENES]
)
def test_killed_anywhere_no_tick_is_lost(
    jobs: Jobs, tmp_path: Path, prepare: Callable[[Scene, Jobs], None], kinds: list[str], job: str
) -> None:
    first = Scene(tmp_path / "first", kinds)
    prepare(first, jobs)
    whole = keys(first.stored() | first.archived())
    assert len(whole) == 2 * TICKS
    trial = first.copy(tmp_path / "trial")
    started = time.monotonic()
    steps = jobs.run(trial, job)["steps"]
    took_sec = time.monotonic() - started
    after = (trial.stored(), trial.archived())
    draw = random.Random(f"{prepare.__name__}{kinds}{SEED}")
    killed = 0
    for n in range(KILLS):
        scene = first.copy(tmp_path / f"scene{n}")
        how = {"step": draw.randint(1, steps)} if n % 2 else {"after_sec": draw.uniform(0, took_sec)}
        ended = jobs.run(scene, job, **how)
        killed += ended["ended"] == -signal.SIGKILL
        assert keys(scene.stored() | scene.archived()) == whole, how
        assert jobs.run(scene, job)["error"] is None or (job == "retain" and not scene.db.exists()), how
        assert (scene.stored(), scene.archived()) == after, how
        assert scene.half_done() == [], how
        shutil.rmtree(scene.directory)
    assert killed >= KILLS // 2


def test_every_single_step_of_a_replacement(jobs: Jobs, tmp_path: Path) -> None:
    """One by one through the renames, the place where an old and a new archive meet."""
    first = Scene(tmp_path / "first", ["parquet"])
    to_replace(first, jobs)
    whole = keys(first.stored())
    old = keys(first.archived())
    steps = jobs.run(first.copy(tmp_path / "trial"), "archive")["steps"]
    seen: list[Keys] = []
    last = range(max(1, steps - 30), steps + 1)
    for step in last if every_test() else last[::-2]:  # a check takes every other one
        scene = first.copy(tmp_path / f"scene{step}")
        jobs.run(scene, "archive", step=step)
        assert keys(scene.stored()) == whole
        seen.append(keys(scene.archived()))
        assert jobs.run(scene, "archive")["error"] is None
        assert (keys(scene.archived()), scene.half_done()) == (whole, [])
        shutil.rmtree(scene.directory)
    assert old in seen
    assert whole in seen


# -- the built command -------------------------------------------------------------------------------------------------


def hidden(root: Path) -> list[str]:
    return [path.name for path in root.rglob(".*") if path.is_file() and not path.name.endswith(".lock")]


def start(data_root: Path, *arguments: str, **settings: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [str(BIN / "hk-tickctl"), *arguments, "--data-root", str(data_root)],
        env=clean_env(data_root.parent / "home", **settings),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


# Imported by every Python program that is started with its directory in PYTHONPATH.
STOPS_ITSELF = """
import os, signal, sys

file = os.environ.pop("STOP_FILE")


def look(event, arguments):
    global file
    if file and os.access(file, os.F_OK):
        file = None
        os.kill(os.getpid(), signal.SIGSTOP)


sys.addaudithook(look)
"""


@pytest.mark.parametrize("copy", [parquet_path, sqlite_path], ids=["parquet", "sqlite"])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_archive_leaves_nothing(
    tmp_path: Path, number: int, code: int, copy: Callable[[Path, str], Path]
) -> None:
    """It stops itself when the first or the second copy has begun, so that no machine is too fast or too slow."""
    data = tmp_path / "data"
    data.mkdir()
    rows = record_day(data, DAY, count=2_000)
    whole = copy(data / "_archive", DAY)
    part = whole.with_name(f".{whole.name}.part")
    (tmp_path / "sitecustomize.py").write_text(STOPS_ITSELF)
    process = start(data, "archive", DAY, "--format", "both", PYTHONPATH=tmp_path, STOP_FILE=part)
    try:
        wait_until(lambda: _state(process) in "TZ", "the copy has begun")
        assert process.poll() is None, process.communicate()
        process.send_signal(number)
        process.send_signal(signal.SIGCONT)
        told = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == code, told
    assert hidden(data) == []
    assert not manifest_path(data / "_archive", DAY).exists()
    assert tickctl_json("archive", DAY, data_root=data)[0]["rows"] == rows


def _state(process: subprocess.Popen[str]) -> str:
    """One letter, as ``ps`` shows it."""
    return Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_two_jobs_at_once(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for day in (DAY, "20251119"):
        record_day(data, day, count=2000)
    both = [start(data, "eod", "--json") for _ in range(2)]
    told = [process.communicate(timeout=60) for process in both]
    codes = sorted(process.returncode for process in both)
    assert codes in ([0, 0], [0, 1]), told
    if codes == [0, 1]:
        assert any("another end-of-day job works on" in err for _, err in told)
    assert all(row["fine"] for row in tickctl_json("verify", data_root=data))
    assert len(tickctl_json("verify", data_root=data)) == 2
    assert hidden(data) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MB."""
    target = tmp_path / "small"
    target.mkdir()
    mounted = os.geteuid() == 0 and not subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(target)], capture_output=True, check=False
    ).returncode  # fmt: skip
    if not mounted:
        pytest.skip("mounting a small file system needs root")
    try:
        yield target
    finally:
        subprocess.run(["umount", str(target)], check=True)


@pytest.mark.parametrize("format_", ["parquet", "sqlite"])
def test_a_full_disk_leaves_the_archive_that_was_there(tmp_path: Path, small_disk: Path, format_: str) -> None:
    data = tmp_path / "data"
    data.mkdir()
    ticks = {symbol: day_ticks(symbol, 20_000, DAY) for symbol in ("HK.00005", "HK.00700", "HK.09988")}
    writer = DayFileWriter(data)
    writer.write(ticks["HK.00005"][:500])
    writer.close()
    where = ("--archive-root", small_disk)
    assert tickctl("archive", DAY, "--format", format_, *where, data_root=data).returncode == 0
    for tick in ticks.values():
        writer.write(tick)
    writer.close()
    free_bytes = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_bsize
    (small_disk / "filler").write_bytes(b"x" * (free_bytes - 100_000))
    full = tickctl("archive", DAY, "--format", format_, *where, data_root=data)
    assert full.returncode == 1
    assert "No space left on device" in full.stdout + full.stderr or "disk is full" in full.stdout + full.stderr
    assert hidden(small_disk) == []
    (small_disk / "filler").unlink()
    check = verify.check_day(small_disk, DAY, None)
    assert (check.fine, check.rows) == (True, 500)
    if format_ == "parquet":
        assert tickctl_json("archive", DAY, *where, data_root=data)[0]["rows"] == 60_000


def test_a_disk_too_small_for_a_restored_day_stays_clean(tmp_path: Path, small_disk: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    record_day(data, DAY, count=20_000)
    assert tickctl("archive", DAY, data_root=data).returncode == 0
    done = tickctl("restore", DAY, "--into", small_disk / "back", data_root=data)
    assert done.returncode == 1
    assert "full" in done.stderr or "No space" in done.stderr
    assert [path.name for path in (small_disk / "back").iterdir()] == [".restore.lock"]


def test_deletion_believes_no_manifest(tmp_path: Path) -> None:
    """An archive of half the day, with a manifest that claims all of it."""
    data = tmp_path / "data"
    data.mkdir()
    record_day(data, DAY, count=100)
    record_day(data, "20251121", count=100)
    assert tickctl("archive", data_root=data).returncode == 0
    archive = data / "_archive"
    whole = json.loads(manifest_path(archive, DAY).read_text())
    half = tmp_path / "half"
    half.mkdir()
    record_day(half, DAY, count=50)
    assert tickctl("archive", data_root=half).returncode == 0
    shutil.copy(parquet_path(half / "_archive", DAY), parquet_path(archive, DAY))
    told = json.loads(manifest_path(half / "_archive", DAY).read_text())
    manifest_path(archive, DAY).write_text(json.dumps({**whole, "files": told["files"]}))
    (verdict,) = tickctl_json("retain", "--keep-days", 1, data_root=data, code=1)
    assert verdict["action"] == "refused"
    assert (data / f"{DAY}.db").exists()
    (result,) = tickctl_json("verify", DAY, data_root=data, code=1)
    assert not result["fine"]


RESTORED_WITH_LITTLE_MEMORY = """
import sys
from pathlib import Path
from hk_tick_collector.archive import restore

restore.FILLING_CACHE_KB = 256
print(restore.restore_day(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), now_ms=0).rows)
"""


def test_a_day_is_sorted_on_its_own_disk_and_not_among_temporary_files(tmp_path: Path, small_disk: Path) -> None:
    data, into = tmp_path / "data", tmp_path / "it's here"
    data.mkdir()
    into.mkdir()
    writer = DayFileWriter(data)
    for symbol in ("HK.00005", "HK.00700", "HK.09988"):
        writer.write(day_ticks(symbol, 20_000, DAY))
    writer.close()
    made = tickctl("archive", DAY, "--format", "parquet", "--archive-root", tmp_path / "archive", data_root=data)
    assert made.returncode == 0
    free_bytes = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_bsize
    (small_disk / "filler").write_bytes(b"x" * (free_bytes - 100_000))
    done = subprocess.run(
        [sys.executable, "-c", RESTORED_WITH_LITTLE_MEMORY, str(tmp_path / "archive"), DAY, str(into)],
        env={**os.environ, "SQLITE_TMPDIR": str(small_disk)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("60000\n", "")
    assert [path.name for path in into.iterdir()] == [f"{DAY}.db"]
