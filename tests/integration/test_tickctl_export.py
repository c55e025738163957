"""``hk-tickctl export`` as people run it: results, refusals, and every way to be cut off in the middle."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from hk_tick_collector.core.clock import SystemClock
from hk_tick_collector.days.tree import hive_path
from hk_tick_collector.market.hk.sessions import hk_date
from hk_tick_collector.store import reader
from hk_tick_collector.store.writer import DayFileWriter
from tests.harness import BIN, clean_env, is_over, wait_until
from tests.nights import by_day
from tests.stored import iter_ticks
from tests.tickctl import SYMBOLS, day_ticks, record_day, running, tickctl, tickctl_json
from tests.ticks import DAY

FORMATS = ("parquet", "csv", "futu-zip", "sqlite")
BIG_ROWS = 120_000


@pytest.fixture(scope="module")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two small days."""
    root = tmp_path_factory.mktemp("small") / "HK"
    record_day(root, "20261119", count=100)
    record_day(root, DAY, count=200)
    return root


@pytest.fixture(scope="module")
def big_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A day that takes a moment."""
    root = tmp_path_factory.mktemp("big") / "HK"
    record_day(root, DAY, count=BIG_ROWS // len(SYMBOLS))
    return root


@contextmanager
def exporting(*arguments: object, data_root: Path) -> Iterator[subprocess.Popen[str]]:
    """The command while it runs."""
    command = [str(BIN / "hk-tickctl"), "export", *map(str, arguments), "--data-root", str(data_root)]
    with subprocess.Popen(
        command, env=clean_env(data_root.parent / "home"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as proc:
        try:
            yield proc
        finally:
            proc.kill()


def hidden(directory: Path) -> list[Path]:
    return [path for path in directory.rglob(".*") if path.is_file()]


def rows_in(format_: str, path: Path) -> int:
    if format_ == "parquet":
        return int(pq.read_metadata(path).num_rows)
    if format_ == "csv":
        with path.open() as file:
            return sum(1 for _ in file) - 1
    if format_ == "sqlite":
        with closing(sqlite3.connect(path)) as conn:
            return int(conn.execute("SELECT COUNT(*) FROM ticks").fetchone()[0])
    with zipfile.ZipFile(path) as archived:
        assert archived.testzip() is None
        return sum(archived.read(name).count(b"\n") - 1 for name in archived.namelist())


@pytest.mark.parametrize("format_", FORMATS)
def test_all_days(data_root: Path, tmp_path: Path, format_: str) -> None:
    result = tickctl_json("export", format_, "--output", tmp_path / "out", data_root=data_root)
    assert result["format"] == format_
    assert result["rows"] == 900
    assert [(file["trading_days"], file["rows"], file["so_far"]) for file in result["files"]] == [
        (["20261119"], 300, False),
        ([DAY], 600, False),
    ]
    for file in result["files"]:
        assert rows_in(format_, Path(file["path"])) == file["rows"]
        assert Path(file["path"]).stat().st_size == file["size_bytes"]
    assert hidden(tmp_path) == []


def test_what_a_person_sees(data_root: Path, tmp_path: Path) -> None:
    done = tickctl("export", "parquet", "-o", tmp_path, "--days", f"{DAY}..", data_root=data_root)
    assert done.returncode == 0, done.stderr
    assert "600" in done.stdout
    assert str(hive_path(tmp_path, DAY)) in done.stdout
    assert not hive_path(tmp_path, "20261119").exists()
    assert done.stderr == ""


def test_symbols_types_and_names(data_root: Path, tmp_path: Path) -> None:
    (tmp_path / "names.csv").write_text("code,name\nHK.00700,TENCENT\n5,HSBC HOLDINGS\n", encoding="utf-8-sig")
    result = tickctl_json(
        "export", "futu-zip", "-o", tmp_path / "x.zip", "--days", DAY, "--symbols", "700,HK.00005,HK.01234",
        "--exclude-type", "odd_lot", "--names", tmp_path / "names.csv", data_root=data_root,
    )  # fmt: skip
    wanted = [
        tick for tick in iter_ticks(data_root / f"{DAY}.db")
        if tick.symbol in ("HK.00700", "HK.00005") and tick.tick_type != "ODD_LOT"
    ]  # fmt: skip
    assert 0 < result["rows"] == len(wanted) < 400
    with zipfile.ZipFile(tmp_path / "x.zip") as archived:
        assert b'"HSBC HOLDINGS"' in archived.read("HK.00005.csv")
        assert b'"TENCENT"' in archived.read("HK.00700.csv")


def test_one_csv_a_symbol(data_root: Path, tmp_path: Path) -> None:
    output = tmp_path / "{day}-{symbol}.csv.zst"
    result = tickctl_json("export", "csv", "-o", output, "--split-symbols", data_root=data_root)
    names = {f"{day}-{symbol}.csv.zst" for day in ("20261119", DAY) for symbol in SYMBOLS}
    assert {Path(file["path"]).name for file in result["files"]} == {path.name for path in tmp_path.iterdir()} == names


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--days", "20261118"], 3, "no ticks of 20261118"),
        (["--days", "20991231"], 3, "lies in the future"),
        (["--days", "20261101..20261105"], 3, "no recorded day"),
        (["--symbols", "HK.01234"], 3, "HK.01234"),
        (["--type", "OVERSEAS"], 3, "nothing was written"),
        (["--days", "someday"], 2, "is not a day"),
        (["--day", "20301130..20301101"], 2, "comes after"),
        (["--symbols", "AAPL"], 2, "AAPL"),
        (["--type", "ODDLOT"], 2, "ODDLOT: no tick type"),
        (["--prices", "decimal"], 2, "--prices is for parquet"),
        (["--names", "/dev/null"], 2, "--names is for futu-zip"),
        (["--output", "x/{year}.csv"], 2, "{year}"),
        (["--output", "one.csv", "--split-symbols"], 2, "{symbol}"),
        (["--output", "{day}-{symbol}.csv"], 2, "--split-symbols"),
    ],
)
def test_refusals(data_root: Path, tmp_path: Path, arguments: list[str], code: int, says: str) -> None:
    command = ["export", "csv", "--output", str(tmp_path / "out"), *arguments]
    done = tickctl(*command, data_root=data_root)
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [(["futu-zip", "-o", "one.zip"], "put {day} into it"), (["parquet", "-o", "x.parquet"], "name a directory")],
)
def test_names_that_do_not_fit_the_format(data_root: Path, arguments: list[str], says: str) -> None:
    done = tickctl("export", *arguments, data_root=data_root)
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr


def test_existing_files_are_replaced_only_by_force(data_root: Path, tmp_path: Path) -> None:
    target = tmp_path / f"{DAY}.csv"
    target.write_text("mine")
    command = ["export", "csv", "-o", tmp_path, "--days", f"..{DAY}"]
    done = tickctl(*command, data_root=data_root)
    assert done.returncode == 1
    assert f"{target} exists already" in done.stderr
    assert "--force" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == [target.name]  # nothing of the other day either
    assert target.read_text() == "mine"
    assert tickctl(*command, "--force", data_root=data_root).returncode == 0
    assert rows_in("csv", target) == 600


def test_files_that_are_not_ours(data_root: Path, tmp_path: Path) -> None:
    root = tmp_path / "HK"
    root.mkdir()
    (root / f"{DAY}.db").write_bytes(b"no database at all" * 100)
    done = tickctl("export", "parquet", "-o", tmp_path / "out", data_root=root)
    assert done.returncode == 1
    assert f"{DAY}.db" in done.stderr
    assert "not a database" in done.stderr
    assert not (tmp_path / "out").exists()


def test_decimals_that_do_not_fit(tmp_path: Path) -> None:
    record_day(tmp_path / "HK", count=50)
    command = ("export", "parquet", "--prices", "decimal", "-o")
    assert tickctl(*command, tmp_path / "a", data_root=tmp_path / "HK").returncode == 0
    writer = DayFileWriter(tmp_path / "HK")
    writer.write([day_ticks("HK.00700", 1)[0]._replace(seq=3, price=1 / 3)])
    writer.close()
    done = tickctl(*command, tmp_path / "b", data_root=tmp_path / "HK")
    assert done.returncode == 1
    assert "price 0.3333333333333333 of HK.00700 at 2026-11-20T" in done.stderr
    assert not (tmp_path / "b").exists()


# -- cut off in the middle ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format_", by_day(FORMATS, lambda format_: format_ == "parquet"))
def test_killed_and_run_again(big_root: Path, tmp_path: Path, format_: str) -> None:
    """Whatever a SIGKILL leaves is hidden, and gone after the next run; the file is there whole or not at all."""
    left = 0
    for wait_bytes in (0, 1, 200_000):
        with running("export", format_, "-o", tmp_path, data_root=big_root) as proc:
            while proc.poll() is None and not _has_written(tmp_path, wait_bytes):
                time.sleep(0.001)
            proc.kill()
            proc.wait()
        left += len(hidden(tmp_path))
        whole = [path for path in tmp_path.rglob("*") if path.is_file() and not path.name.startswith(".")]
        for path in whole:  # it was quicker than we
            assert rows_in(format_, path) == BIG_ROWS
            path.unlink()
    assert left, "no kill met a file being written"
    result = tickctl_json("export", format_, "-o", tmp_path, data_root=big_root)
    assert result["rows"] == rows_in(format_, Path(result["files"][0]["path"])) == BIG_ROWS
    assert hidden(tmp_path) == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_told_to_stop(big_root: Path, tmp_path: Path, number: int, code: int) -> None:
    target = tmp_path / "out" / "x.csv.gz"  # slow to write
    with exporting("csv", "-o", target, data_root=big_root) as proc:
        wait_until(lambda: hidden(tmp_path), "a temporary file")
        proc.send_signal(number)
        _, output = proc.communicate(timeout=60)
    assert proc.returncode == code, output
    assert "Traceback" not in output
    assert len(output.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@contextmanager
def small_disk(where: Path, size: str) -> Iterator[Path]:
    """A file system of a given size; skips where none can be mounted."""
    where.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", where], capture_output=True, text=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"cannot mount a small file system here: {mounted.stderr.strip()}")
    try:
        yield where
    finally:
        subprocess.run(["umount", "-l", where], check=True)


@pytest.mark.parametrize("format_", FORMATS)
def test_full_disk(big_root: Path, tmp_path: Path, format_: str) -> None:
    with small_disk(tmp_path / "disk", "256k") as disk:
        (disk / "kept").write_text("mine")
        done = tickctl("export", format_, "-o", disk / "out", data_root=big_root)
        assert done.returncode == 1, done.stdout
        assert "free disk space" in done.stderr or "check disk space" in done.stderr
        assert str(disk / "out") in done.stderr
        assert "Traceback" not in done.stderr
        assert [path.name for path in disk.iterdir()] == ["kept"]


def test_full_disk_does_not_cost_the_file_to_be_replaced(big_root: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "256k") as disk:
        target = disk / "x.csv"
        target.write_text("the last good one")
        done = tickctl("export", "csv", "-o", target, "--force", data_root=big_root)
        assert done.returncode == 1
        assert target.read_text() == "the last good one"
        assert list(disk.iterdir()) == [target]


def test_read_only_target(data_root: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "1m") as disk:
        (disk / "there").mkdir()
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        for output in (disk / "new" / "x", disk / "there"):
            done = tickctl("export", "csv", "-o", output, data_root=data_root)
            assert done.returncode == 1
            assert "Read-only file system" in done.stderr
            assert str(output) in done.stderr
            assert "Traceback" not in done.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_target_without_permission(data_root: Path, tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    done = tickctl("export", "csv", "-o", tmp_path / "locked", data_root=data_root)
    assert done.returncode == 1
    assert "Permission denied" in done.stderr


def test_a_day_that_is_being_recorded(tmp_path: Path) -> None:
    """Beside a writer: whole rows up to some moment, and it is said that the day is not over."""
    today = hk_date(SystemClock().now_ms())
    root = tmp_path / "HK"
    writer = DayFileWriter(root)
    ticks = day_ticks("HK.00700", 60_000, today)
    writer.write(ticks[:5000])
    stop = threading.Event()

    def record() -> None:
        for start in range(5000, len(ticks), 100):
            if stop.is_set():
                return
            writer.write(ticks[start : start + 100])
            time.sleep(0.05)

    thread = threading.Thread(target=record)
    thread.start()
    try:
        before = reader.freshness(root / f"{today}.db", 0).rows
        done = tickctl("export", "parquet", "-o", tmp_path / "out", data_root=root)
        after = reader.freshness(root / f"{today}.db", 0).rows
        result = tickctl_json("export", "parquet", "-o", tmp_path / "two", "--symbols", "700", data_root=root)
    finally:
        stop.set()
        thread.join()
        writer.close()
    assert done.returncode == 0, done.stderr
    assert (f"{today} so far" in done.stdout) is not is_over(today)
    assert result["files"][0]["so_far"] is not is_over(today)
    exported = pq.read_table(hive_path(tmp_path / "out", today), partitioning=None).column("seq").to_pylist()
    assert before <= len(exported) <= after
    assert exported == [tick.seq for tick in ticks[: len(exported)]]


def _has_written(directory: Path, size_bytes: int) -> bool:
    try:
        return any(path.stat().st_size >= size_bytes for path in hidden(directory))
    except FileNotFoundError:
        return False
