"""From a tick's making to its row being readable by another process, at steady rates, and what CPU that takes.

    python -m benchmarks.latency

The simulator makes a steady number of ticks a second over 900 symbols and stamps each with the moment it is made. This
process polls the day file read-only about every millisecond and compares each new row's ``ts_ms`` with the clock. The
age therefore holds all of it: the simulator's step of 5 ms, TCP, the program measured, SQLite, and the poll itself
(its median gap is in the table). Rows of pulls, and of times without milliseconds, do not count.
"""

from __future__ import annotations

import contextlib
import itertools
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import rig
from tests.harness import check, ended

POLL_SEC = 0.001
SETTLE_SEC = 2.0
WINDOW_SEC = 20.0
SHORT_WINDOW_SEC = 3.0
DEFAULT_RATES = (200, 1000, 5000)

# Quiet symbols are polled as in market hours, whatever the hour of the measurement.
IN_MARKET_HOURS: dict[str, Any] = {"FUTU_POLL_TRADING_ONLY": 0}


@dataclass(frozen=True)
class Aim:
    """What is wanted on two cores."""

    p99_ms: float | None
    cpu_percent: float | None


AIMS = {200: Aim(None, 3), 1000: Aim(25, 8), 5000: Aim(60, None), 15000: Aim(250, None)}


@dataclass(frozen=True)
class Window:
    """What one program did in one window."""

    rows: int
    p50_ms: float
    p99_ms: float
    max_ms: float
    cpu_percent: float
    switches_per_sec: float
    rss_mib: float
    poll_gap_ms: float


def watch(collector: rig.Program, window_sec: float) -> Window:
    """Poll the files that ``collector`` writes for so long."""
    pid = collector.proc.pid
    ages_ms: list[float] = []
    polls_sec: list[float] = []
    with contextlib.closing(rig.RowReader(collector.data_root)) as reader:
        rig.wait_quickly(reader.rows, "first row", collector)
        newest = [(conn, conn.execute("SELECT MAX(rowid) FROM ticks").fetchone()[0]) for conn in reader.connections()]
        begun_sec, begun_cpu_sec, begun_switches = time.monotonic(), rig.cpu_sec(pid), rig.context_switches(pid)
        while (now_sec := time.monotonic()) < begun_sec + window_sec:
            polls_sec.append(now_sec)
            for index, (conn, last) in enumerate(newest):
                rows = conn.execute("SELECT rowid, ts_ms, push_type FROM ticks WHERE rowid > ?", (last,)).fetchall()
                if rows:
                    now_ms = time.time() * 1000
                    newest[index] = (conn, rows[-1][0])
                    ages_ms += [now_ms - ts_ms for _, ts_ms, how in rows if how == "push" and ts_ms % 1000]
            time.sleep(POLL_SEC)
        took_sec = time.monotonic() - begun_sec
        cpu_sec, switches = rig.cpu_sec(pid) - begun_cpu_sec, rig.context_switches(pid) - begun_switches
    assert len(ages_ms) > 100, f"{collector.kind} stored {len(ages_ms)} rows in {took_sec:.0f} s\n{collector.output}"
    percentiles = statistics.quantiles(ages_ms, n=100)
    gaps_sec = [later - earlier for earlier, later in itertools.pairwise(polls_sec)]
    return Window(
        len(ages_ms),
        percentiles[49],
        percentiles[98],
        max(ages_ms),
        cpu_sec / took_sec * 100,
        switches / took_sec,
        rig.memory_mib(pid)[0],
        statistics.median(gaps_sec) * 1000,
    )


def measure(directory: Path, kind: str, rate: int, window_sec: float, profile: bool) -> Window:
    """One program at one rate. AssertionError when it did not store every tick of the window."""
    report = directory / "profile.txt" if profile else None
    with contextlib.ExitStack() as cleanup:
        simulator = rig.simulator(directory / "sim", "--rate", rate)
        cleanup.enter_context(ended(simulator))
        collector = rig.Collector(kind, directory / "data", simulator.port, report, **IN_MARKET_HOURS)
        cleanup.enter_context(ended(collector))
        collector.wait_subscribed()
        if kind == rig.RECORDER:
            collector.wait_for("backfill_done")
        time.sleep(SETTLE_SEC)  # the first round of polls of quiet symbols
        since_ms = time.time_ns() // 1_000_000
        window = watch(collector, window_sec)
        code = collector.stop()
        assert code == 0, f"{kind} ended with {code}\n{collector.output}"
        simulator.stop()
        result = check(simulator, collector.data_root, "--since-ms", str(since_ms), "--allow-tail-ms", "2000")
    assert result.returncode == 0, f"{kind} did not store what was made:\n{result.stdout}{result.stderr}"
    if report is not None:
        print(report.read_text())
    return window


def compare(
    directory: Path, programs: Sequence[str], rate: int, window_sec: float, rounds: int, profile: bool
) -> list[list[object]]:
    """Rows of the table for one rate: the programs, the recorder's first, and the recorder's ratio to each."""
    windows: dict[str, list[Window]] = {kind: [] for kind in programs}
    for number in range(rounds):
        for kind in programs if number % 2 == 0 else reversed(programs):
            place = directory / f"{kind}-{number}"
            windows[kind].append(measure(place, kind, rate, window_sec, profile and kind == rig.RECORDER))
    return [
        *(_row(rate, kind, windows[kind]) for kind in programs),
        *(_ratio_row(rate, kind, windows) for kind in programs[1:]),
    ]


def _ratio_row(rate: int, kind: str, windows: dict[str, list[Window]]) -> list[object]:
    pairs = list(zip(windows[rig.RECORDER], windows[kind], strict=True))

    def ratio(name: str) -> float:
        return float(statistics.median(getattr(ours, name) / getattr(other, name) for ours, other in pairs))

    aim = AIMS.get(rate)
    wanted = []
    if aim is not None and kind == rig.FLOOR:
        wanted += [f"p99 {aim.p99_ms:g} ms"] if aim.p99_ms else []
        wanted += [f"CPU {aim.cpu_percent:g} %"] if aim.cpu_percent else []
    cells = [f"wanted: {', '.join(wanted)}" if wanted else None, *(ratio(name) for name in ("p50_ms", "p99_ms"))]
    return [rate, f"ratio to {kind}", *cells, None, ratio("cpu_percent"), None, None, None]


def _row(rate: int, kind: str, windows: list[Window]) -> list[object]:
    def median(name: str) -> float:
        return float(statistics.median(getattr(window, name) for window in windows))

    return [
        rate,
        kind,
        sum(window.rows for window in windows),
        median("p50_ms"),
        median("p99_ms"),
        max(window.max_ms for window in windows),
        median("cpu_percent"),
        median("switches_per_sec"),
        median("rss_mib"),
        median("poll_gap_ms"),
    ]


def main(argv: list[str] | None = None) -> int:
    """Exit codes: 0 measured, 1 a tick was lost."""
    parser = rig.parser(str(__doc__).splitlines()[0])
    parser.add_argument("--rate", type=int, nargs="+", default=list(DEFAULT_RATES), metavar="R", help="ticks a second")
    parser.add_argument("--window", type=float, default=WINDOW_SEC, metavar="SEC", help="how long each is watched")
    parser.add_argument("--usual", action="store_true", help="also a recorder as it is usually written (usual.py)")
    parser.add_argument("--profile", action="store_true", help="profile the recorder's threads")
    args = parser.parse_args(argv)
    programs = [rig.RECORDER, rig.FLOOR, *([rig.USUAL] if args.usual else [])]
    rig.print_machine()
    rows: list[list[object]] = []
    with rig.workspace(args.keep) as directory:
        for rate in args.rate:
            window_sec = SHORT_WINDOW_SEC if args.short else args.window
            rounds = 1 if args.short or args.profile else args.rounds
            try:
                rows += compare(directory / f"rate-{rate}", programs, rate, window_sec, rounds, args.profile)
            except AssertionError as exc:
                print(exc, file=sys.stderr)
                return 1
    columns = ["ticks/s", "program", "rows", "p50 ms", "p99 ms", "max ms", "CPU %", "switches/s", "RSS MiB", "poll ms"]
    print(rig.table(columns, rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
