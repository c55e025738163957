"""What may happen to the disk: locks, no room, no permission, damage; rows wait, nothing is forgotten."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hk_tick_collector.records.tick import seq_counter
from tests.faults.broken_recorder import POISON_EVERY
from tests.faults.lab import (
    BEFORE_OPENING,
    SYMBOLS,
    Lab,
    codes,
    count_lines,
    each_in_hk_and_us,
    healed,
    in_hk_and_at_night_in_us,
    in_hk_and_us,
    kill_9,
    locked,
    more_recorded,
)
from tests.harness import BIN, Recorder, clean_env, wait_until

BROKEN = Path(__file__).with_name("broken_recorder.py")
MEMORY_LIMIT_BYTES = 400 * 1000 * 1000
Damage = Callable[[Path], None]


@pytest.fixture
def small_disk(lab: Lab) -> Iterator[Path]:
    """The data root on a disk of 8 MiB of its own."""
    lab.data_root.mkdir()
    _mount("-t", "tmpfs", "-o", "size=8m,mode=700", "tmpfs", lab.data_root)
    yield lab.data_root
    lab.end()
    subprocess.run(["umount", "--lazy", lab.data_root], check=True)


def _mount(*arguments: object) -> None:
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    done = subprocess.run(["mount", *map(str, arguments)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"this machine does not let root mount: {done.stderr.strip()}")


@contextlib.contextmanager
def full(disk: Path) -> Iterator[None]:
    """Not a byte is free on this disk."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    assert not os.statvfs(disk).f_bavail
    yield
    ballast.unlink()


def test_database_locked_until_far_more_waits_than_the_queue_holds(lab: Lab) -> None:
    simulator = lab.market()
    recorder = lab.recording(simulator, 600, MAX_QUEUE_SIZE=500)
    with locked(lab.day_file):
        recorder.wait_for("sqlite_busy_backoff .*locked")
        recorder.wait_for("queue_spilled .*reason=.queue full")
        recorder.wait_for(r"health .* spill=[1-9]\d{3}")
    recorder.wait_for("spill_drained unspilled_rows=[1-9]")
    healed(recorder)
    lab.assert_complete_at_rest(simulator, recorder)


def test_a_lock_at_thousands_of_ticks_a_second_keeps_memory_bounded(lab: Lab) -> None:
    """The minute at 10,000 ticks a second with a lock of 30 s in it is benchmarks/lock_minute.py: a busy machine cannot
    keep that pace, and would be judged here instead of the recorder."""
    simulator = lab.market(symbols=codes(300), rate=3_000)
    recorder = lab.recording(simulator, 6_000, codes(300), command=[BIN / "hk-tick-collector"], MAX_QUEUE_SIZE=5_000)
    with locked(lab.day_file):
        recorder.wait_for(r"health .* spill=[1-9]\d{3}")
    recorder.wait_for("spill_drained unspilled_rows=[1-9]")
    healed(recorder)
    peak_bytes = _peak_bytes(recorder)
    lab.assert_complete_at_rest(simulator, recorder)
    assert peak_bytes < MEMORY_LIMIT_BYTES


def _peak_bytes(recorder: Recorder) -> int:
    status = Path(f"/proc/{recorder.proc.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) * 1024


def test_a_lock_beyond_the_watchdogs_patience_ends_with_1_and_loses_nothing(lab: Lab) -> None:
    simulator = lab.market(rate=200)
    patience = {"WATCHDOG_STALL_SEC": 1, "WATCHDOG_RECOVERY_MAX_FAILURES": 2, "MAX_WAIT_MS": 500}
    recorder = lab.recording(simulator, 600, MAX_QUEUE_SIZE=500, STOP_FLUSH_TIMEOUT_SEC=1, **patience)
    with locked(lab.day_file):
        assert recorder.wait() == 1, recorder.output
        recorder.wait_for("WATCHDOG persistent_stall ")
        recorder.wait_for("recorder_stopped exit_code=1 .*spill_rows=[1-9]")
        assert count_lines(recorder, "writer_recovery") == 2
        assert count_lines(recorder, "Thread 0x") > 2, "all stacks are dumped"
    again = lab.recording(simulator, 900)
    again.wait_for("spill_drained")
    healed(again)
    lab.assert_complete_at_rest(simulator, again)


@in_hk_and_at_night_in_us
def test_disk_full_and_freed(lab: Lab, small_disk: Path) -> None:
    simulator = lab.market()
    recorder = lab.recording(simulator, 600)
    with full(small_disk):
        recorder.wait_for("persist_error error=.*(full|space|disk)")
        time.sleep(3)
    healed(recorder)
    more_recorded(recorder, 300)
    lab.assert_complete_at_rest(simulator, recorder)


@in_hk_and_us
def test_disk_full_beyond_the_queue_is_refetched(lab: Lab, small_disk: Path) -> None:
    simulator = lab.market(rate=150)
    recorder = lab.recording(simulator, 300, BATCH_SIZE=100, MAX_QUEUE_SIZE=200)
    with full(small_disk):
        recorder.wait_for("ticks_refused rows=[1-9].*free the disk")
        recorder.wait_for("health .*status=alert reason=.*refused")
        time.sleep(1)
    more_recorded(recorder, 600)
    healed(recorder)
    lab.assert_complete_at_rest(simulator, recorder)


def test_data_directory_read_only_and_back(lab: Lab, small_disk: Path) -> None:
    """An open file stays writable whatever is mounted over it, so a lock first makes the writer let go of it."""
    simulator = lab.market()
    recorder = lab.recording(simulator, 600)
    with locked(lab.day_file):
        recorder.wait_for("sqlite_busy_backoff")
        _mount("--bind", small_disk, small_disk)
        _mount("-o", "remount,bind,ro", small_disk)
    try:
        recorder.wait_for("persist_error error=.*(readonly|read-only)")
        time.sleep(2)
    finally:
        subprocess.run(["umount", "--lazy", small_disk], check=True)
    healed(recorder)
    more_recorded(recorder, 300)
    lab.assert_complete_at_rest(simulator, recorder)


def test_a_disk_that_is_not_ready_at_the_start_is_waited_for(lab: Lab, small_disk: Path) -> None:
    """And nothing that time can heal ends the process: an exit with 78 would keep the service down for good."""
    simulator = lab.market()
    _mount("-o", "remount,ro", small_disk)
    recorder = lab.recorder(simulator)
    recorder.wait_for("start_waits error=.*(r|R)ead-only")
    assert recorder.proc.poll() is None
    _mount("-o", "remount,rw", small_disk)
    recorder.wait_for("recorder_started ")
    more_recorded(recorder, 600)
    healed(recorder)
    lab.assert_complete_at_rest(simulator, recorder)


@in_hk_and_at_night_in_us
def test_files_that_may_not_grow(lab: Lab) -> None:
    """A write that fails in the middle of a transaction: the kernel refuses every byte beyond a file's size limit."""
    simulator = lab.market()
    recorder = lab.recording(simulator, 600)
    _, hard = resource.prlimit(recorder.proc.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(recorder.proc.pid, resource.RLIMIT_FSIZE, (4096, hard))
    recorder.wait_for("persist_error error=.*disk")
    time.sleep(2)
    resource.prlimit(recorder.proc.pid, resource.RLIMIT_FSIZE, (hard, hard))
    healed(recorder)
    more_recorded(recorder, 300)
    lab.assert_complete_at_rest(simulator, recorder)


def _garbage(path: Path) -> None:
    path.write_bytes(b"this is no database, whatever its name says. " * 400)


def _foreign(path: Path) -> None:
    path.unlink()
    with contextlib.closing(sqlite3.connect(path)) as conn:
        conn.executescript("CREATE TABLE notes (text); INSERT INTO notes VALUES ('mine');")


def _half(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _pages(path: Path) -> None:
    """Header and schema are whole; the tables behind them are not."""
    with path.open("r+b") as file:
        file.seek(2 * 4096)
        file.write(os.urandom(path.stat().st_size - 2 * 4096))


@each_in_hk_and_us("damage", [_garbage, _foreign, _half, _pages])
def test_a_corrupt_day_file_is_set_aside_and_refetched(lab: Lab, damage: Damage) -> None:
    simulator = lab.market(rate=100)
    assert lab.recording(simulator, 600).stop() == 0
    damage(lab.day_file)
    recorder = lab.recorder(simulator)
    recorder.wait_for("day_file_set_aside trading_day=20261120 .*moved_to=.*corrupt-.*todo=.*salvage")
    recorder.wait_for("backfill_done")
    more_recorded(recorder, 300)
    healed(recorder)
    assert len(list(lab.data_root.glob("20261120.db.corrupt-*"))) >= 1
    lab.assert_complete_at_rest(simulator, recorder)


@pytest.mark.parametrize("damage", [_garbage, _half])
def test_a_day_file_that_breaks_while_it_is_recorded(lab: Lab, damage: Damage) -> None:
    simulator = lab.market(rate=100)
    recorder = lab.recording(simulator, 600)
    with locked(lab.day_file):
        recorder.wait_for("sqlite_busy_backoff")
    with contextlib.closing(sqlite3.connect(lab.day_file, timeout=30)) as conn:  # pages in the WAL would heal the file
        assert conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
    damage(lab.day_file)
    recorder.wait_for("day_file_set_aside trading_day=20261120 ")
    more_recorded(recorder, 600)
    healed(recorder)
    lab.assert_complete_at_rest(simulator, recorder)


def test_salvage_brings_back_what_opend_no_longer_shows(lab: Lab) -> None:
    simulator = lab.market(symbols="HK.00700", rate=400, start=BEFORE_OPENING)
    recorder = lab.recording(simulator, 2500, "HK.00700")
    assert recorder.stop() == 0
    with lab.day_file.open("r+b") as file:  # the newest pages
        file.seek(-8192, os.SEEK_END)
        file.write(bytes(8192))
    again = lab.recorder(simulator, "HK.00700")
    match = again.wait_for(r'day_file_set_aside .*todo=.*salvage ([^"]+)"')
    again.wait_for("backfill_done")
    again.wait_for("health connected=True .*open_holes=0")
    salvage = subprocess.run(
        [str(BIN / "hk-tickctl"), "salvage", match.group(1)],
        env=clean_env(lab.directory / "home"), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert salvage.returncode == 1, salvage.stdout + salvage.stderr  # the damaged pages are unreadable, the rest is not
    assert "unreadable ranges of rowid: 1" in salvage.stdout
    verdict = lab.finish(simulator, again)
    assert verdict.report["duplicate"] == verdict.report["wrong"] == verdict.report["extra"] == 0
    assert len(verdict.of_day()[0].stored) > 2000, salvage.stdout


@in_hk_and_at_night_in_us
def test_a_damaged_wal(lab: Lab) -> None:
    simulator = lab.market(rate=100)
    recorder = lab.recording(simulator, 600)
    kill_9(recorder)
    wal = lab.day_file.with_name(lab.day_file.name + "-wal")
    with wal.open("r+b") as file:
        file.seek(wal.stat().st_size // 2)
        file.write(os.urandom(4096))
    again = lab.recording(simulator, 600)
    healed(again)
    lab.assert_complete_at_rest(simulator, again)


def _torn(segment: Path) -> None:
    os.truncate(segment, segment.stat().st_size - 100)


def _scratched(segment: Path) -> None:
    with segment.open("r+b") as file:
        file.seek(segment.stat().st_size // 2)
        file.write(os.urandom(64))


def _noise(segment: Path) -> None:
    segment.write_bytes(os.urandom(segment.stat().st_size))


@each_in_hk_and_us("damage", [_torn, _scratched, _noise])
def test_a_damaged_spill(lab: Lab, damage: Damage) -> None:
    simulator = lab.market(rate=120)  # what the spill loses must still be among the newest 1000
    recorder = lab.recording(simulator, 600, BATCH_SIZE=100, MAX_QUEUE_SIZE=200)
    with locked(lab.day_file):
        recorder.wait_for(r"health .* spill=[1-9]\d")
        kill_9(recorder)
    segment = max((lab.data_root / "_spill").glob("*.spill"))
    damage(segment)
    again = lab.recording(simulator, 600)
    wait_until(lambda: not list((lab.data_root / "_spill").glob("*.spill")), f"the spill is drained\n{again.output}")
    healed(again)
    lab.assert_complete_at_rest(simulator, again)  # what the spill lost is fetched again


def test_poison_rows_cost_themselves_alone(lab: Lab) -> None:
    simulator = lab.market()
    recorder = lab.recorder(simulator, command=[sys.executable, BROKEN, "poison"])
    more_recorded(recorder, 2500)
    wait_until(lambda: list((lab.data_root / "_quarantine").glob("*.jsonl")), "a quarantine file")
    verdict = lab.finish(simulator, recorder)
    poisoned = {(c.symbol, n) for c in verdict.of_day() for n in c.missing}
    assert len(poisoned) > 10, "the fault did not strike"
    assert all(number % POISON_EVERY == 0 for _, number in poisoned), sorted(poisoned)
    assert verdict.report["duplicate"] == verdict.report["wrong"] == verdict.report["extra"] == 0
    verdict.assert_true_claims()  # each of them is a hole in the coverage
    kept = [json.loads(line) for path in (lab.data_root / "_quarantine").iterdir() for line in path.open()]
    assert poisoned <= {(entry["symbol"], seq_counter(entry["raw"]["seq"])) for entry in kept}
    assert recorder.find("tick_quarantined symbol=HK")
    assert {claim.symbol for claim in verdict.of_day()} == set(SYMBOLS.split(","))
