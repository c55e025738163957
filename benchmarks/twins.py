"""What two recordings of a day cost to compare and to merge: ``python -m benchmarks.twins --rows 1_000_000``.

Each of two data roots lacks ticks that the other one has. CPU is that of the installed commands (user and system), with
their start; the result of ``merge`` is read back by the command itself, and its number of ticks is checked here.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.ticks import TickSource
from hk_tick_collector.store.writer import DayFileWriter

DAY = "20251120"
BATCH_ROWS = 500
LACKS_EVERY = 1_000  # of this many ticks each recording lacks another one
HK_TICKCTL = Path(sys.executable).with_name("hk-tickctl")


def record(roots: list[Path], rows: int) -> list[int]:
    """The same ticks into each root but for its own gaps; how many each has."""
    source, made = TickSource(DAY, rows), 0
    writers, stored_rows = [DayFileWriter(root) for root in roots], [0] * len(roots)
    while made < rows:
        ticks = source.take(min(BATCH_ROWS, rows - made))
        for number, writer in enumerate(writers):
            kept = [tick for place, tick in enumerate(ticks, made) if place % LACKS_EVERY != 100 * (number + 1)]
            writer.write(kept)
            stored_rows[number] += len(kept)
        made += len(ticks)
    for writer in writers:
        writer.close()
    return stored_rows


def run(name: str, rows: int, *arguments: str | Path, fine: int) -> str:
    """Run a command; a row of the table. ``rows``: of all recordings; ``fine``: the exit code when it worked."""
    began = time.monotonic()
    with subprocess.Popen(
        [HK_TICKCTL, name, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as command:
        assert command.stdout is not None
        told = command.stdout.read()
        _, status, used = os.wait4(command.pid, 0)  # of this command alone: RUSAGE_CHILDREN has the peak of all so far
        command.returncode = os.waitstatus_to_exitcode(status)
    wall = time.monotonic() - began
    assert command.returncode == fine, told
    cpu = used.ru_utime + used.ru_stime
    peak_mib = used.ru_maxrss // 1024
    print(f"| {name:<7} | {cpu:5.1f} | {wall:9.1f} | {rows / cpu:18,.0f} | {peak_mib:8,} |", flush=True)
    return told


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=lambda text: int(text.replace("_", "")), default=1_000_000)
    parser.add_argument("--short", action="store_true", help="3,000 rows.")
    given = parser.parse_args()
    rows = 3_000 if given.short else given.rows
    with tempfile.TemporaryDirectory(prefix="twins-") as name:
        first, second, merged = (Path(name) / part for part in ("a", "b", "merged"))
        first.mkdir()
        second.mkdir()
        stored_rows = record([first, second], rows)
        print("| command | CPU s | seconds   | recorded rows/CPU s | peak MiB |")
        print("|---------|-------|-----------|---------------------|----------|")
        run("compare", sum(stored_rows), first, second, "--days", DAY, fine=1)
        told = run("merge", sum(stored_rows), first, second, "--into", merged, "--days", DAY, fine=0)
        assert f"{rows:,} ticks" in told, told


if __name__ == "__main__":
    main()
