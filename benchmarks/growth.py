"""What grows with the rows stored, and what does not: inserting, the WAL, reading the day's state, starting.

    python -m benchmarks.growth

Part one fills two day files through the recorder's own writer, one to row 100,000 and one to row 10,000,000. Then both
get batches as in a lively market, in turns, and CPU a row is compared. In both it also times each commit, watches the
WAL, and times what a health check reads. Part two starts the recorder on five day files of five million rows each and
times from the simulator's answer to the subscription.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks import rig
from benchmarks.ticks import TickSource
from hk_tick_collector.store import judging, reader
from hk_tick_collector.store.layout import day_file
from hk_tick_collector.store.writer import DayFileWriter
from tests.harness import ended

DAY = "20261120"
EARLIER_DAYS = ("20261116", "20261117", "20261118", "20261119", "20261120")
BATCH_ROWS = 500
FILL_ROWS = 4000
PLACE_ROWS = 100_000  # rows that go in at a place, while it is measured
TURNS = 10
COLUMNS = (
    "around row", "CPU us/row", "commit p50 ms", "commit p99 ms", "commit max ms", "WAL max MB", "state ms",
    "bytes/row",
)  # fmt: skip


@dataclass(frozen=True)
class Aim:
    """What is wanted on two cores."""

    ratio: float = 1.2
    commit_p99_ms: float = 20
    wal_mb: float = 64
    start_sec: float = 1.5


AIM = Aim()


@dataclass(frozen=True)
class Place:
    """Writing at one size of the file."""

    row: int
    cpu_us: float
    commits_ms: list[float]
    wal_bytes: int
    state_ms: float
    bytes_a_row: float

    def cells(self) -> list[object]:
        commits = sorted(self.commits_ms)
        p99 = commits[min(len(commits) - 1, len(commits) * 99 // 100)]
        wal_mb = self.wal_bytes / 1e6
        return [
            self.row,
            self.cpu_us,
            statistics.median(commits),
            p99,
            commits[-1],
            wal_mb,
            self.state_ms,
            self.bytes_a_row,
        ]


class Filling:
    """One day file on its way, and what was measured while rows went in."""

    def __init__(self, root: Path, rows: int) -> None:
        """``rows``: that only have to be there."""
        root.mkdir()
        self._root = root
        self._writer, self._source = DayFileWriter(root), TickSource(DAY)
        self._row = rows
        self._cpu_sec = 0.0
        self._commits_ms: list[float] = []
        self._wal_bytes = 0
        for _ in range(rows // FILL_ROWS):
            self._writer.write(self._source.take(FILL_ROWS))

    def write(self, rows: int) -> None:
        """Rows as the recorder would write them."""
        batches = [self._source.take(BATCH_ROWS) for _ in range(rows // BATCH_ROWS)]
        begun_cpu_sec = time.process_time()
        for batch in batches:
            begun_sec = time.perf_counter()
            self._writer.write(batch)
            self._commits_ms.append((time.perf_counter() - begun_sec) * 1000)
            self._wal_bytes = max(self._wal_bytes, self._writer.wal_bytes)
        self._cpu_sec += time.process_time() - begun_cpu_sec

    def look(self) -> Place:
        """What it came to; the file is closed."""
        rows = len(self._commits_ms) * BATCH_ROWS
        path = day_file(self._root, DAY)
        begun_sec = time.perf_counter()
        judging.day_state(path)
        reader.freshness(path, 0)
        state_ms = (time.perf_counter() - begun_sec) * 1000
        self._writer.close()
        return Place(
            self._row,
            self._cpu_sec / rows * 1e6,
            self._commits_ms,
            self._wal_bytes,
            state_ms,
            path.stat().st_size / (self._row + rows),
        )


def measure_growth(root: Path, first_row: int, last_row: int) -> list[Place]:
    """A file at each of the two places. They take turns: a machine that becomes slower meanwhile slows both."""
    root.mkdir()
    places = [Filling(root / "last", last_row), Filling(root / "first", first_row)]
    os.sync()  # filling wrote in minutes what a market brings in hours: the disk shall not still be at it
    for _ in range(TURNS):
        for place in places:
            place.write(PLACE_ROWS // TURNS)
    return [place.look() for place in reversed(places)]


def measure_start(directory: Path, rows: int) -> tuple[float, float]:
    """Seconds from OpenD's answer to the subscription being confirmed: on an empty root and on five large days."""
    full = directory / "full" / "data"
    made = directory / "made"
    made.mkdir()
    writer, source = DayFileWriter(made), TickSource(EARLIER_DAYS[0], rows)
    for _ in range(max(1, rows // FILL_ROWS)):
        writer.write(source.take(FILL_ROWS))
    writer.close()
    return _start(directory / "empty" / "data", None), _start(full, day_file(made, EARLIER_DAYS[0]))


def _start(root: Path, day_rows: Path | None) -> float:
    simulator = rig.simulator(root.parent / "sim", "--rate", 10)
    root.mkdir(parents=True)
    for day in EARLIER_DAYS if day_rows else ():  # the recorder only reads them: one file under five names
        os.link(day_rows or root, day_file(root, day))
    with ended(simulator):
        collector = rig.Collector(rig.RECORDER, root, simulator.port)
        with ended(collector):
            simulator.wait_for("client_connected")
            begun_sec = time.monotonic()
            collector.wait_subscribed()
            took_sec = time.monotonic() - begun_sec
            collector.stop()
    return took_sec


def main(argv: list[str] | None = None) -> int:
    """Exit codes: 0 measured, 1 CPU a row at the end is above ``--max-ratio`` times that at the beginning."""
    parser = rig.parser(str(__doc__).splitlines()[0])
    parser.add_argument("--first", type=int, default=100_000, help="size of the file at the first place")
    parser.add_argument("--rows", type=int, default=10_000_000, help="size of the file at the second place")
    parser.add_argument("--day-rows", type=int, default=5_000_000, help="rows of the five files at start")
    parser.add_argument("--max-ratio", type=float, help="fail when a row costs more than this against the first place")
    args = parser.parse_args(argv)
    first_row, last_row, day_rows = args.first, args.rows, args.day_rows
    if args.short:
        first_row, last_row, day_rows = 20_000, 300_000, 100_000
    rig.print_machine()
    with rig.workspace(args.keep) as directory:
        first, last = measure_growth(directory / "growth", first_row, last_row)
        empty_sec, full_sec = measure_start(directory, day_rows)
    print(rig.table(COLUMNS, [first.cells(), last.cells()]))
    ratio = last.cpu_us / first.cpu_us
    print(
        f"\nratio {ratio:.2f} (wanted: {AIM.ratio} at most; commit p99 {AIM.commit_p99_ms} ms, WAL {AIM.wal_mb} MB)\n"
    )
    names = ("day files", "connected -> subscribed s", "wanted")
    starts = [["none", empty_sec, AIM.start_sec], [f"5 of {day_rows:,} rows", full_sec, AIM.start_sec]]
    print(rig.table(names, starts))
    if args.max_ratio is not None and ratio > args.max_ratio:
        print(f"a row costs {ratio:.2f} times what it cost at first, allowed {args.max_ratio:g}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
