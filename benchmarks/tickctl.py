"""How long hk-tickctl takes on a day of five million rows, and what it costs a writer beside it.

    python -m benchmarks.tickctl

A day file is made by the recorder's own writer; each command then runs as a user would start it, on the live file and,
where that is another way, on its archive. Beside it this process commits ten ticks every ten milliseconds to another
day of the same directory, as the recorder does at 1,000 ticks/s, first alone and then under each command: the p99 of
the commits alone is what those beside a command are compared with.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import rig
from benchmarks.ticks import TickSource
from hk_tick_collector.store.layout import day_file
from hk_tick_collector.store.writer import DayFileWriter
from tests.harness import BIN, clean_env

DAY, LIVE_DAY = "20261119", "20261120"
SYMBOL = "HK.00100"
SQL = "SELECT symbol, sum(turnover) FROM ticks GROUP BY 1"
FILL_ROWS = 4000
COMMIT_ROWS = 10
COMMIT_EVERY_SEC = 0.01
ALONE_SEC = 10.0


@dataclass(frozen=True)
class Step:
    """A command and what is wanted of it."""

    name: str
    arguments: tuple[str, ...]
    wanted: str
    before: Callable[[Path], None] = lambda _: None  # brings the directory into the state that the command needs


def remove_day_file(root: Path) -> None:
    """From here on the day is read from its archive."""
    day_file(root, DAY).rename(root.parent / "kept.db")


def steps(root: Path, rows: int) -> list[Step]:
    """What is measured, in this order."""
    out = str(root.parent / "out")
    seconds = max(1, round(rows / 1_000_000))
    ticks_of_symbol = ("ticks", SYMBOL, "--day", DAY, "--format", "csv")
    return [
        Step("certificate", ("day", DAY, "--no-write"), "1 s"),
        Step("recount and cross-check", ("day", DAY, "--recount", "--no-write"), "10 s"),
        Step("export parquet", ("export", "parquet", "--days", DAY, "--output", out), f"{seconds} s (1 M rows/s)"),
        Step("export csv", ("export", "csv", "--days", DAY, "--output", out), ""),
        Step("ticks of a symbol, live", ticks_of_symbol, "150 ms to fetch"),
        Step("bars of a symbol, live", ("bars", SYMBOL, "--day", DAY, "--interval", "1m", "--format", "csv"), ""),
        Step("query: turnover by symbol", ("query", SQL, "--day", DAY), ""),
        Step("archive with verification", ("archive", DAY), "30 s"),
        Step("verify", ("verify", DAY), ""),
        Step("ticks of a symbol, archived", ticks_of_symbol, "50 ms to fetch", remove_day_file),
        Step("restore", ("restore", DAY), ""),
    ]  # fmt: skip


class Writer:
    """Commits a few ticks every ten milliseconds and remembers how long each commit took."""

    def __init__(self, root: Path) -> None:
        self._writer = DayFileWriter(root)
        self._source = TickSource(LIVE_DAY)
        self.commits_ms: list[float] = []

    def until(self, ended: Callable[[], bool]) -> list[float]:
        """Write until then; the commits' milliseconds."""
        commits_ms: list[float] = []
        due_sec = time.monotonic()
        while not ended():
            ticks = self._source.take(COMMIT_ROWS)
            begun_sec = time.perf_counter()
            self._writer.write(ticks)
            commits_ms.append((time.perf_counter() - begun_sec) * 1000)
            due_sec = max(due_sec + COMMIT_EVERY_SEC, time.monotonic())
            time.sleep(max(0.0, due_sec - time.monotonic()))
        return commits_ms

    def close(self) -> None:
        self._writer.close()


def p99(values: Sequence[float]) -> float:
    """The 99th percentile."""
    return sorted(values)[min(len(values) - 1, len(values) * 99 // 100)]


def run(step: Step, root: Path, writer: Writer | None) -> tuple[float, list[float]]:
    """Seconds that the command took, and the commits beside it. AssertionError when it fails."""
    step.before(root)
    shutil.rmtree(root.parent / "out", ignore_errors=True)
    command = [str(BIN / "hk-tickctl"), *step.arguments, "--data-root", str(root)]
    begun_sec = time.monotonic()
    process = subprocess.Popen(
        command, env=clean_env(root.parent / "home"), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    commits_ms = writer.until(lambda: process.poll() is not None) if writer is not None else []
    _, stderr = process.communicate()
    took_sec = time.monotonic() - begun_sec
    assert process.returncode == 0, f"{' '.join(command)} ended with {process.returncode}:\n{stderr}"
    return took_sec, commits_ms


def measure(root: Path, rows: int) -> list[list[object]]:
    """Rows of the table."""
    root.mkdir(parents=True)
    filler, source = DayFileWriter(root), TickSource(DAY, rows)
    for _ in range(rows // FILL_ROWS):
        filler.write(source.take(FILL_ROWS))
    filler.close()
    writer = Writer(root)
    deadline_sec = time.monotonic() + ALONE_SEC
    alone_ms = writer.until(lambda: time.monotonic() > deadline_sec)
    table: list[list[object]] = [["(the writer alone)", None, statistics.median(alone_ms), p99(alone_ms), None, ""]]
    for step in steps(root, rows):
        took_sec, beside_ms = run(step, root, writer)
        ratio = p99(beside_ms) / p99(alone_ms)
        table.append([step.name, took_sec, statistics.median(beside_ms), p99(beside_ms), ratio, step.wanted])
    writer.close()
    return table


def main(argv: list[str] | None = None) -> int:
    """Exit codes: 0 measured, 1 a command failed."""
    parser = rig.parser(str(__doc__).splitlines()[0])
    parser.add_argument("--rows", type=int, default=5_000_000, help="rows of the day")
    args = parser.parse_args(argv)
    rows = 200_000 if args.short else args.rows
    rig.print_machine()
    with rig.workspace(args.keep) as directory:
        try:
            table = measure(directory / "data", rows)
        except AssertionError as exc:
            print(exc, file=sys.stderr)
            return 1
    print(f"{rows:,} rows\n")
    columns = ("command", "seconds", "commit p50 ms", "commit p99 ms", "p99 x alone", "wanted")
    print(rig.table(columns, table))
    return 0


if __name__ == "__main__":
    sys.exit(main())
