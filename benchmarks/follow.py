"""A follower beside a writer: what it costs, how soon it sees a commit, and what the writer notices of it.

python -m benchmarks.follow [--short]

The writer is a process of its own, 900 symbols, a commit each 10 ms; so is the follower, which looks each 10 ms. A
row's way is counted from the stamp that its commit begins with to the moment it was read, and without the first tenth
of the rows: a new day file is looked for each second. Both turns of a rate, without and with a follower, are as long.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

from benchmarks.ticks import TickSource
from hk_tick_collector.store.follow import LOOK_SEC, Follower
from hk_tick_collector.store.position import ROW, Position
from hk_tick_collector.store.writer import DayFileWriter

DAY = "20261120"
COMMIT_SEC = 0.01
STAMP = ROW.index("inserted_at_ms")


def write(root: Path, rows_per_sec: int, seconds: float) -> None:
    """Commit at a steady rate; prints CPU a tick in microseconds and what the WAL came to."""
    rows = int(rows_per_sec * COMMIT_SEC)
    source = TickSource(DAY)
    batches = [source.take(rows) for _ in range(int(seconds / COMMIT_SEC))]
    with closing(DayFileWriter(root)) as writer:
        start_sec, cpu_sec = time.monotonic(), time.process_time()
        for n, batch in enumerate(batches):
            time.sleep(max(0.0, start_sec + n * COMMIT_SEC - time.monotonic()))
            writer.write(batch)
        cpu_sec = time.process_time() - cpu_sec
        wal_mb = (root / f"{DAY}.db-wal").stat().st_size / 1e6
    print(cpu_sec / sum(map(len, batches)) * 1e6, wal_mb, flush=True)


def read(root: Path, rows: int) -> None:
    """Follow until so many rows were seen; prints percent of a core, and the way of a row in ms at p50 and p99."""
    position, seen, ways_ms = Position(), 0, []
    started_sec = cpu_sec = 0.0
    with Follower(root) as follower:
        while seen < rows:
            batch = follower.read_behind(position)
            if batch is None:
                time.sleep(LOOK_SEC)
                continue
            position, seen = batch.position, seen + len(batch.rows)
            now_ms = time.time_ns() // 1_000_000
            if seen <= rows // 10:
                started_sec, cpu_sec = time.monotonic(), time.process_time()
            else:
                ways_ms += [now_ms - row[STAMP] for row in batch.rows]
    percent = 100 * (time.process_time() - cpu_sec) / (time.monotonic() - started_sec)
    cuts = statistics.quantiles(ways_ms, n=100)
    print(percent, cuts[49], cuts[98], flush=True)


def catch_up(root: Path) -> float:
    """CPU microseconds a row from the beginning."""
    started_sec, position, seen = time.process_time(), Position(), 0
    with Follower(root) as follower:
        while (batch := follower.read_behind(position)) is not None:
            position, seen = batch.position, seen + len(batch.rows)
    return (time.process_time() - started_sec) / seen * 1e6


def turn(rows_per_sec: int, seconds: float, *, is_followed: bool) -> list[float]:
    """Writer's CPU a tick, WAL; and with a follower its three numbers and the time to catch up."""
    with tempfile.TemporaryDirectory() as directory:
        me = [sys.executable, "-m", "benchmarks.follow"]
        rows = int(rows_per_sec * COMMIT_SEC) * int(seconds / COMMIT_SEC)
        reader = None
        if is_followed:
            reader = subprocess.Popen([*me, "--read", directory, str(rows)], stdout=subprocess.PIPE, text=True)
        told = subprocess.check_output([*me, "--write", directory, str(rows_per_sec), str(seconds)], text=True)
        numbers = [float(word) for word in told.split()]
        if reader is not None:
            numbers += [float(word) for word in reader.communicate(timeout=60)[0].split()]
            numbers.append(catch_up(Path(directory)))
    return numbers


def main() -> None:
    """The table, or one of the two processes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="one quick round, to see that it works")
    parser.add_argument("--write", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--read", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.write:
        write(Path(args.write[0]), int(args.write[1]), float(args.write[2]))
        return
    if args.read:
        read(Path(args.read[0]), int(args.read[1]))
        return
    print("| rows/s | writer us a tick: alone, followed | WAL MB | follower % | p50 ms | p99 ms | catching up us/row |")
    print("|--------|-----------------------------------|--------|------------|--------|--------|--------------------|")
    for rows_per_sec in (1000, 10_000):
        seconds = 2.0 if args.short else 20.0
        alone = turn(rows_per_sec, seconds, is_followed=False)
        cpu_us, wal_mb, percent, p50_ms, p99_ms, row_us = turn(rows_per_sec, seconds, is_followed=True)
        print(
            f"| {rows_per_sec} | {alone[0]:.1f}, {cpu_us:.1f} | {alone[1]:.1f}, {wal_mb:.1f} | {percent:.1f} "
            f"| {p50_ms:.1f} | {p99_ms:.1f} | {row_us:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
