"""What two recordings of a day cost to compare and to merge: ``python -m benchmarks.twins --rows 1_000_000``.

Each of two data roots lacks ticks that the other one has. CPU is that of the installed commands (user and system), with
their start; the result of ``merge`` is read back by the command itself, and its number of ticks is checked here.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from benchmarks import rig
from benchmarks.ticks import TickSource
from hk_tick_collector.store.writer import DayFileWriter
from tests.harness import BIN

DAY = "20251120"
BATCH_ROWS = 500
LACKS_EVERY = 1_000  # of this many ticks each recording lacks another one


def record(roots: list[Path], rows: int, symbols_count: int) -> list[int]:
    """The same ticks into each root but for its own gaps; how many each has."""
    source, made = TickSource(DAY, rows, symbols_count=symbols_count), 0
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
    used = rig.run_command([BIN / "hk-tickctl", name, *arguments], fine=fine)
    cells = f"{used.cpu_sec:5.1f} | {used.wall_sec:9.1f} | {rows / used.cpu_sec:19,.0f} | {used.peak_mib:8,}"
    print(f"| {name:<7} | {cells} |", flush=True)
    return used.told


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=lambda text: int(text.replace("_", "")), default=1_000_000)
    parser.add_argument("--symbols", type=int, default=rig.SYMBOLS_COUNT, help="each is read by itself")
    parser.add_argument("--short", action="store_true", help="3,000 rows of 30 symbols")
    given = parser.parse_args()
    rows, symbols_count = (3_000, 30) if given.short else (given.rows, given.symbols)
    with tempfile.TemporaryDirectory(prefix="twins-") as name:
        first, second, merged = (Path(name) / part for part in ("a", "b", "merged"))
        first.mkdir()
        second.mkdir()
        stored_rows = record([first, second], rows, symbols_count)
        print("| command | CPU s | seconds   | recorded rows/CPU s | peak MiB |")
        print("|---------|-------|-----------|---------------------|----------|")
        run("compare", sum(stored_rows), first, second, "--days", DAY, fine=1)
        told = run("merge", sum(stored_rows), first, second, "--into", merged, "--days", DAY, fine=0)
        assert f"{rows:,} ticks" in told, told


if __name__ == "__main__":
    main()
