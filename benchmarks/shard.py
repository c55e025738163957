"""What one shard's record day costs, step by step, in CPU seconds: ``python -m benchmarks.shard --rows 1_250_000``.

Writes a day as the recorder's writer does, archives it, and sends it to a real S3-compatible server on this machine,
from which it is verified and restored. CPU is of this process alone (user and system); ``plan`` divides a whole market.
"""

from __future__ import annotations

import argparse
import random
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.ticks import TickSource
from hk_tick_collector.archive import copies, pack, places, restore
from hk_tick_collector.store.writer import DayFileWriter
from hk_tick_collector.watch import shards

DAY = "20251120"
BATCH_ROWS = 500


def step(name: str, rows: int, work: Callable[[], Any]) -> Any:
    cpu, wall = time.process_time(), time.monotonic()
    done = work()
    cpu, wall = time.process_time() - cpu, time.monotonic() - wall
    print(f"{name:<10} {cpu:8.1f} CPU s {cpu / rows * 1e6:8.2f} us a tick {wall:8.1f} s", flush=True)
    return done


def write(root: Path, rows: int) -> None:
    source, spent = TickSource(DAY, rows), 0.0
    writer = DayFileWriter(root)
    for _ in range(rows // BATCH_ROWS):
        ticks = source.take(BATCH_ROWS)
        before = time.process_time()
        writer.write(ticks)
        spent += time.process_time() - before
    writer.close()
    print(f"{'write':<10} {spent:8.1f} CPU s {spent / rows * 1e6:8.2f} us a tick", flush=True)


def plan_market(securities: int, ticks: int, slots: int) -> None:
    draw = random.Random(1)
    weights = [1 / (n + 1) ** 0.9 for n in range(securities)]
    scale = ticks / sum(weights)
    loads = {f"HK.{n:05d}": shards.FIXED_LOAD + weight * scale for n, weight in enumerate(weights, 1)}
    count = -(-securities // slots)
    plan = step("plan", securities, lambda: shards.divide(DAY, loads, count, slots))
    later = {symbol: load * draw.uniform(0.8, 1.2) for symbol, load in loads.items()}
    moved = len(shards.divide(DAY, later, count, slots, plan).moved)
    sums = [shard.load for shard in plan.shards]
    print(f"{count} shards of {slots}: load {min(sums):,.0f} to {max(sums):,.0f}; {moved} move after a day of +-20 %")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=lambda text: int(text.replace("_", "")), default=1_250_000)
    parser.add_argument("--place", help="s3://BUCKET/PREFIX; without it the copies go to a directory")
    parser.add_argument("--restore", action="store_true", help="Restore it, too: most of the time.")
    given = parser.parse_args()
    for slots in (100, 300, 1000, 2000):
        plan_market(17_000, 11_000_000, slots)
    with tempfile.TemporaryDirectory(prefix="shard-") as name:
        base, rows = Path(name), given.rows
        data, archive, work = (base / part for part in ("data", "archive", "work"))
        data.mkdir()
        work.mkdir()
        write(data, rows)
        step("archive", rows, lambda: pack.archive_day(data, archive, DAY, ("parquet",), made_at_ms=0))
        store = places.open_store(given.place or str(base / "copies"))
        step("send", rows, lambda: copies.send_day(archive, DAY, store, work))
        check = step("verify", rows, lambda: copies.check_copy(store, DAY, None))
        assert check.fine, check.problems
        if given.restore:
            copies.fetch_day(store, DAY, work)
            step("restore", rows, lambda: restore.restore_day(work, DAY, base / "back", now_ms=0))
        for part, path in (("day file", data / f"{DAY}.db"), ("archive", next(archive.rglob("*.parquet")))):
            print(f"{part}: {path.stat().st_size / rows:.1f} bytes a tick")
    print(f"peak RSS {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MiB")


if __name__ == "__main__":
    main()
