"""A minute at 10,000 ticks a second with a 30-second lock on the day file in it: nothing lost, memory bounded.

    python -m benchmarks.lock_minute

Another program takes the write lock of the day file for half of the time. What cannot be stored meanwhile waits in the
queue, then in the spill on disk; afterwards everything is compared with the simulator's truth file. Exit code 1 when a
tick is missing, doubled or wrong, or when the recorder's memory went above the limit.
"""

from __future__ import annotations

import argparse
import contextlib
import sqlite3
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks import rig
from tests.harness import Simulator, check, ended

TICKS_PER_SEC = 10_000
MINUTE_SEC, LOCK_SEC = 60.0, 30.0
MEMORY_LIMIT_MIB = 381  # 400 MB
DRAIN_LIMIT_SEC = 120.0


@dataclass(frozen=True)
class Run:
    """One minute."""

    made_rows: int
    spilled_rows: int
    drain_sec: float  # from the end of the lock until the newest tick was readable again
    cpu_us: float  # a tick, over the whole run
    peak_mib: float


def measure(directory: Path, ticks_per_sec: int, minute_sec: float, lock_sec: float) -> Run:
    """AssertionError with the difference when a row is missing or wrong."""
    with contextlib.ExitStack() as cleanup:
        simulator = rig.simulator(directory / "sim", "--rate", ticks_per_sec)
        cleanup.enter_context(ended(simulator))
        collector = rig.Collector(
            rig.RECORDER, directory / "data", simulator.port, HEALTH_INTERVAL_SEC=1, PERSIST_RETRY_BACKOFF_MAX_SEC=1
        )
        cleanup.enter_context(ended(collector))
        collector.wait_for("backfill_done", timeout_sec=60)
        begun_sec, begun_cpu_sec = time.monotonic(), rig.cpu_sec(collector.proc.pid)
        before_sec = (minute_sec - lock_sec) / 2
        time.sleep(before_sec)
        _hold_lock(collector.data_root, lock_sec)
        drain_sec = _drained_sec(collector)
        time.sleep(max(0.0, begun_sec + minute_sec - time.monotonic()))
        _drained_sec(collector)
        cpu_sec = rig.cpu_sec(collector.proc.pid) - begun_cpu_sec
        peak_mib = rig.memory_mib(collector.proc.pid)[1]
        made_rows, spilled_rows = _stop(simulator, collector)
    return Run(made_rows, spilled_rows, drain_sec, cpu_sec / made_rows * 1e6, peak_mib)


def _hold_lock(data_root: Path, lock_sec: float) -> None:
    path = max(data_root.glob("????????.db"))
    with contextlib.closing(sqlite3.connect(path, timeout=30, isolation_level=None)) as conn:
        conn.execute("BEGIN IMMEDIATE")
        time.sleep(lock_sec)
        conn.execute("ROLLBACK")


def _drained_sec(collector: rig.Collector) -> float:
    """Seconds until a health line, made from now on, shows an empty spill."""
    seen, from_sec = len(collector.lines), time.monotonic()
    rig.wait_quickly(
        lambda: any(" spill=0 " in line and "health " in line for line in collector.lines[seen:]),
        "empty spill",
        collector,
        DRAIN_LIMIT_SEC,
    )
    return time.monotonic() - from_sec


def _stop(simulator: Simulator, collector: rig.Collector) -> tuple[int, int]:
    """Rows stored and rows that went through the spill; AssertionError unless all is there."""
    asked_sec = time.monotonic()
    code = collector.stop()
    assert code == 0, f"the recorder ended with {code}\n{collector.output}"
    simulator.stop()
    tail_ms = round((time.monotonic() - asked_sec + 0.5) * 1000)
    result = check(simulator, collector.data_root, "--allow-tail-ms", str(tail_ms))
    assert result.returncode == 0, f"not stored as it was made:\n{result.stdout}{result.stderr}{collector.output}"
    spilled = collector.find(r"health .* spilled_rows=(\d+)")
    assert spilled is not None, collector.output
    with contextlib.closing(rig.RowReader(collector.data_root)) as reader:
        return reader.rows(), int(spilled.group(1))


def main(argv: list[str] | None = None) -> int:
    """Exit codes: 0 nothing lost within the memory limit, 1 not so."""
    parser = argparse.ArgumentParser(
        description=str(__doc__).splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--ticks-per-sec", type=int, default=TICKS_PER_SEC)
    parser.add_argument("--seconds", type=float, default=MINUTE_SEC)
    parser.add_argument("--lock-sec", type=float, default=LOCK_SEC)
    parser.add_argument("--keep", type=Path, help="leave day files and truth files in this directory")
    args = parser.parse_args(argv)
    rig.print_machine()
    with rig.workspace(args.keep) as directory:
        try:
            run = measure(directory, args.ticks_per_sec, args.seconds, args.lock_sec)
        except AssertionError as exc:
            print(exc, file=sys.stderr)
            return 1
    columns = ["ticks", "through the spill", "drained after s", "CPU us/tick", "peak MiB", "limit MiB"]
    row = [run.made_rows, run.spilled_rows, run.drain_sec, run.cpu_us, run.peak_mib, MEMORY_LIMIT_MIB]
    print(rig.table(columns, [row]))
    if run.peak_mib > MEMORY_LIMIT_MIB:
        print(f"memory went up to {run.peak_mib:.0f} MiB, allowed {MEMORY_LIMIT_MIB}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
