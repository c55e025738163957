"""A whole heavy-tailed day at 20 times real speed: does the recorder keep up, and does it stay as small?

    python -m benchmarks.day

The simulator's own rhythm over 900 symbols (a rush after the open, a lull at noon, a rise to the close, auctions) with
some five million ticks, from 9:15 to 16:15 Hong Kong time in 21 minutes. The recorder lives in the market's time
(``market_recorder``), everything is on and at its default. By phase of the day:

- OpenD late: how far the simulator itself is behind its clock; at 20 times real speed it makes the rush no faster.
- behind: the newest tick that OpenD had against the newest one that another process could read in the day file, in
  real milliseconds, 20 times a second.
- queue, spill, commits: from the recorder's own log lines, five times a second.

Exit code 1 when a tick is missing, doubled or wrong, or when one of the limits below is broken.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import resources, rig
from hk_tick_collector.market.hk.sessions import day_start_ms
from hk_tick_collector.opend_sim import control
from hk_tick_collector.opend_sim.check import CheckReport
from hk_tick_collector.opend_sim.check import check as compare
from hk_tick_collector.opend_sim.simclock import MarketTime
from tests.harness import BuiltRecorder, Simulator, wait_until

DAY = "20261123"
SPEED = 20.0
ACTIVITY = 3.1  # with 900 symbols some five million ticks a day

BEHIND_LIMIT_MS = 1000.0  # p99 of a phase but the rush, and at the end of each
COMMIT_LIMIT_MS = 20.0  # p99; not where a backlog is worked off, since its commits hold eight batches each
MEMORY_LIMIT_MB = 160.0
GROWTH_LIMIT_MB = 10.0
WAL_LIMIT_MB = 64.0

SAMPLE_SEC = 0.05
PROGRESS_SEC = 20.0
MB = 1_000_000


def _hm(hour: int, minute: int) -> int:
    return (hour * 60 + minute) * 60_000


START_MS = _hm(9, 15)
BEFORE_OPEN, RUSH = "before the open", "rush"
FIRST_HOUR_END_MS = _hm(10, 30)
PHASES = [
    (BEFORE_OPEN, _hm(9, 30)),
    (RUSH, _hm(9, 35)),
    ("first hour", FIRST_HOUR_END_MS),
    ("morning", _hm(12, 0)),
    ("lunch", _hm(13, 0)),
    ("afternoon", _hm(15, 50)),
    ("last ten minutes", _hm(16, 0)),
    ("closing auction", _hm(16, 15)),
]


@dataclass
class Phase:
    """What was seen in one phase of the day."""

    name: str
    end_ms: int  # of the day
    begun_sec: float = 0.0
    took_sec: float = 0.0
    made_ticks: int = 0
    late_ms: list[float] = field(default_factory=list)  # the simulator behind its clock
    behind_ms: list[float] = field(default_factory=list)  # the day file behind the simulator
    commit_ms: list[float] = field(default_factory=list)
    queue_rows: int = 0  # the most
    spilled_rows: int = 0
    wal_bytes: int = 0  # the most
    cpu_sec: float = 0.0
    simulator_cpu_sec: float = 0.0
    held: resources.Holdings | None = None  # at its end

    def row(self) -> list[object]:
        """Of the table."""
        return [
            self.name,
            self.made_ticks,
            self.made_ticks / self.took_sec,
            _percentile(self.late_ms, 99),
            _percentile(self.behind_ms, 50),
            _percentile(self.behind_ms, 99),
            max(self.behind_ms, default=None),
            self.queue_rows,
            self.spilled_rows,
            _percentile(self.commit_ms, 99),
            self.wal_bytes / MB,
            self.cpu_sec / self.took_sec * 100,
            self.held.rss_mib * 1024 * 1024 / MB if self.held else None,
        ]


COLUMNS = [
    "phase", "ticks", "ticks/s", "OpenD late p99 ms", "behind p50 ms", "p99 ms", "max ms", "queue rows", "spilled",
    "commit p99 ms", "WAL MB", "CPU %", "RSS MB",
]  # fmt: skip


class TruthTail:
    """When OpenD got its newest tick, by the end of the truth file."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")

    def newest_ms(self) -> int | None:
        """Market time (UTC epoch), None while there is nothing."""
        size = self._file.seek(0, 2)
        self._file.seek(max(0, size - 400))
        lines = self._file.read().split(b"\n")[:-1]
        fields = lines[-1].split(b",") if lines else []
        return int(fields[10]) if len(fields) == 12 and fields[0].startswith(b"HK.") else None

    def close(self) -> None:
        self._file.close()


class Day:
    """One run."""

    def __init__(self, directory: Path, args: argparse.Namespace, cleanup: contextlib.ExitStack) -> None:
        self._midnight_ms = day_start_ms(DAY)
        self._speed: float = args.speed
        self._end_ms = min(PHASES[-1][1], START_MS + round(args.hours * 3_600_000))
        self.phases: list[Phase] = []
        for name, end_ms in PHASES:
            self.phases.append(Phase(name, min(end_ms, self._end_ms)))
            if end_ms >= self._end_ms:
                break
        self._lines_read = 0
        self._spilled_before = 0
        clock = directory / "clock"
        self.simulator = Simulator(
            directory / "sim", "--symbols-count", rig.SYMBOLS_COUNT, "--speed", args.speed, "--activity", args.activity,
            "--start", f"{DAY[:4]}-{DAY[4:6]}-{DAY[6:]}T09:15:00", "--clock-file", clock, "--wait-for-client",
            "--seed", args.seed,
        )  # fmt: skip
        cleanup.callback(self.simulator.end)
        self._market = MarketTime(clock)
        self.recorder = BuiltRecorder(
            directory / "data",
            self.simulator.port,
            rig.SYMBOLS,
            command=[sys.executable, str(Path(__file__).with_name("market_recorder.py")), str(clock), "1"],
            **_AS_BY_DEFAULT,
        )
        cleanup.callback(self.recorder.end)
        self._truth = TruthTail(self.simulator.truth)
        cleanup.callback(self._truth.close)
        self._reader = rig.RowReader(self.recorder.data_root)
        cleanup.callback(self._reader.close)

    def run(self) -> None:
        """Every phase, then the stop in order. AssertionError when one of the processes ends."""
        self.recorder.wait_for("backfill_done", timeout_sec=60)
        for phase in self.phases:
            self._watch(phase)
        seen = len(self.recorder.lines)
        wait_until(
            lambda: any("health " in line and " queue=0 spill=0 " in line for line in self.recorder.lines[seen:]),
            "an empty queue",
            60,
        )
        code = self.recorder.stop()
        assert code == 0, f"the recorder ended with {code}\n{self._tail()}"
        self.simulator.stop()

    def judge(self) -> CheckReport:
        """The truth file against the day file; the recorder stopped some seconds before the market did."""
        stopped_ms = round(self._speed * 5000) if self._end_ms < PHASES[-1][1] else 0
        return compare(self.simulator.truth, self.recorder.data_root, allow_tail_ms=stopped_ms)

    def _watch(self, phase: Phase) -> None:
        recorder_pid, simulator_pid = self.recorder.proc.pid, self.simulator.proc.pid
        made_before = self._made_ticks()
        cpu_before = rig.cpu_sec(recorder_pid), rig.cpu_sec(simulator_pid)
        phase.begun_sec = told_sec = time.monotonic()
        while (now_ms := self._market.now_ms() - self._midnight_ms) < phase.end_ms:
            assert self.recorder.proc.poll() is None, f"the recorder ended by itself\n{self._tail()}"
            assert self.simulator.proc.poll() is None, f"the simulator ended\n{self.simulator.output[-4000:]}"
            self._sample(phase)
            if time.monotonic() >= told_sec + PROGRESS_SEC:
                told_sec = time.monotonic()
                self._tell(phase, now_ms)
            time.sleep(SAMPLE_SEC)
        phase.took_sec = time.monotonic() - phase.begun_sec
        phase.made_ticks = self._made_ticks() - made_before
        phase.cpu_sec = rig.cpu_sec(recorder_pid) - cpu_before[0]
        phase.simulator_cpu_sec = rig.cpu_sec(simulator_pid) - cpu_before[1]
        phase.held = resources.look(recorder_pid)
        self._tell(phase, phase.end_ms)

    def _sample(self, phase: Phase) -> None:
        stored_ms = self._newest_stored_ms()
        made_ms, now_ms = self._truth.newest_ms(), self._market.now_ms()
        if made_ms is not None and stored_ms is not None:
            phase.behind_ms.append(max(0, made_ms - stored_ms) / self._speed)
            if phase.name not in (BEFORE_OPEN, "lunch", "closing auction"):  # when nothing need be made
                phase.late_ms.append((now_ms - made_ms) / self._speed)
        wal = self.recorder.data_root / f"{DAY}.db-wal"
        with contextlib.suppress(FileNotFoundError):
            phase.wal_bytes = max(phase.wal_bytes, wal.stat().st_size)
        self._read_lines(phase)

    def _read_lines(self, phase: Phase) -> None:
        lines = self.recorder.lines
        for line in lines[self._lines_read : len(lines)]:
            self._lines_read += 1
            if match := re.search(r" persist_summary .* last_commit_ms=([\d.]+)", line):
                phase.commit_ms.append(float(match[1]))
            if match := re.search(r" queue=(\d+)", line):
                phase.queue_rows = max(phase.queue_rows, int(match[1]))
            if match := re.search(r" health .* spilled_rows=(\d+)", line):
                phase.spilled_rows += int(match[1]) - self._spilled_before
                self._spilled_before = int(match[1])

    def _newest_stored_ms(self) -> int | None:
        """When OpenD got the newest tick in the day file; ticks that were pulled do not say."""
        newest: int | None = None
        for conn in self._reader.connections():
            (newest,) = conn.execute(
                "SELECT MAX(opend_recv_ts_ms) FROM (SELECT opend_recv_ts_ms FROM ticks ORDER BY rowid DESC LIMIT 200)"
            ).fetchone()
        return newest

    def _made_ticks(self) -> int:
        return int(control.call(self.simulator.control, "status")["ticks_arrived"])

    def _tell(self, phase: Phase, of_day_ms: int) -> None:
        behind_ms = _percentile(phase.behind_ms[-400:], 99)
        print(
            f"{of_day_ms // 3_600_000:02}:{of_day_ms // 60_000 % 60:02}  {self._reader.rows():>9,} rows  "
            f"behind p99 {behind_ms or 0:.0f} ms  queue {phase.queue_rows}  spilled {phase.spilled_rows}  "
            f"WAL {phase.wal_bytes / MB:.1f} MB  {resources.look(self.recorder.proc.pid).rss_mib:.1f} MiB",
            flush=True,
        )

    def _tail(self) -> str:
        return "\n".join(self.recorder.lines[-60:])


# The harness makes a recorder quick for tests; here it is as a user has it, but for how often it tells of itself.
_AS_BY_DEFAULT: dict[str, object] = {
    "FUTU_POLL_TRADING_ONLY": 1,
    "FUTU_POLL_INTERVAL_SEC": 3,
    "FUTU_POLL_STALE_SEC": 10,
    "CHECK_INTERVAL_SEC": 5,
    "RECONNECT_MIN_DELAY": 1,
    "RECONNECT_MAX_DELAY": 60,
    "HEALTH_INTERVAL_SEC": 1,
    "PERSIST_SUMMARY_INTERVAL_SEC": 0.2,
    "PERSIST_HEARTBEAT_INTERVAL_SEC": 0.5,
}


def problems_of(day: Day, report: CheckReport) -> list[str]:
    """Every limit that was broken, in words."""
    problems = [] if report.exit_code == 0 else [f"not stored as it was made:\n{report.text()}"]
    for phase in day.phases:
        p99_ms = _percentile(phase.behind_ms, 99) or 0.0
        at_end_ms = statistics.median(phase.behind_ms[-20:] or [0.0])
        if phase.name != RUSH and p99_ms > BEHIND_LIMIT_MS:
            problems.append(f"{phase.name}: the day file was {p99_ms:.0f} ms behind OpenD, allowed {BEHIND_LIMIT_MS:g}")
        if at_end_ms > BEHIND_LIMIT_MS:
            problems.append(f"{phase.name}: at its end the day file was still {at_end_ms:.0f} ms behind OpenD")
    commit_ms = _percentile(_usual_commits_ms(day.phases), 99) or 0.0
    if commit_ms > COMMIT_LIMIT_MS:
        problems.append(f"commits took {commit_ms:.1f} ms (p99), allowed {COMMIT_LIMIT_MS:g}")
    wal_mb = max(phase.wal_bytes for phase in day.phases) / MB
    if wal_mb > WAL_LIMIT_MB:
        problems.append(f"the WAL grew to {wal_mb:.0f} MB, allowed {WAL_LIMIT_MB:g}")
    return problems + _memory_problems(day.phases)


def _usual_commits_ms(phases: Sequence[Phase]) -> list[float]:
    """Of the hours without a backlog: the start has its backfill, the rush its queue."""
    return [ms for phase in phases if phase.name not in (BEFORE_OPEN, RUSH) for ms in phase.commit_ms]


def _memory_problems(phases: Sequence[Phase]) -> list[str]:
    end = phases[-1].held
    assert end is not None
    problems = []
    peak_mb = _mb(end.peak_mib)
    if peak_mb > MEMORY_LIMIT_MB:
        problems.append(f"memory went up to {peak_mb:.0f} MB, allowed {MEMORY_LIMIT_MB:g}")
    hour = next((phase.held for phase in phases if phase.end_ms == FIRST_HOUR_END_MS), None)
    if hour is None:
        return problems
    grown_mb = _mb(end.rss_mib - hour.rss_mib)
    if grown_mb > GROWTH_LIMIT_MB:
        problems.append(f"memory grew by {grown_mb:.1f} MB after the first hour, allowed {GROWTH_LIMIT_MB:g}")
    return problems


def print_tables(day: Day) -> None:
    """By phase, and the day as a whole against its limits."""
    print()
    print(rig.table(COLUMNS, [phase.row() for phase in day.phases]))
    end, took_sec = day.phases[-1].held, sum(phase.took_sec for phase in day.phases)
    assert end is not None
    hour = next((phase.held for phase in day.phases if phase.end_ms == FIRST_HOUR_END_MS), None)
    behind_ms = [ms for phase in day.phases if phase.name != RUSH for ms in phase.behind_ms]
    made = sum(phase.made_ticks for phase in day.phases)
    cpu_sec, simulator_cpu_sec = (sum(getattr(p, n) for p in day.phases) for n in ("cpu_sec", "simulator_cpu_sec"))
    rows: list[list[object]] = [
        ["ticks made", made, None],
        ["behind, p99 outside the rush, ms", _percentile(behind_ms, 99), BEHIND_LIMIT_MS],
        ["commit p99, but for backfill and rush, ms", _percentile(_usual_commits_ms(day.phases), 99), COMMIT_LIMIT_MS],
        ["WAL at its largest, MB", max(phase.wal_bytes for phase in day.phases) / MB, WAL_LIMIT_MB],
        ["memory at its highest, MB", _mb(end.peak_mib), MEMORY_LIMIT_MB],
        ["memory after the first hour, MB", _mb(hour.rss_mib) if hour else None, None],
        ["memory at the end, MB", _mb(end.rss_mib), _mb(hour.rss_mib) + GROWTH_LIMIT_MB if hour else None],
        ["CPU of the recorder, % of a core", cpu_sec / took_sec * 100, None],
        ["CPU of the recorder, us a tick", cpu_sec / max(made, 1) * 1e6, None],
        ["CPU of the simulator, % of a core", simulator_cpu_sec / took_sec * 100, None],
    ]
    print()
    print(rig.table(["whole day", "seen", "allowed"], rows))


def _mb(mib: float) -> float:
    return mib * 1024 * 1024 / MB


def _percentile(values: Sequence[float], percent: int) -> float | None:
    """None when there is nothing to take it of."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)] if ordered else None


def main(argv: list[str] | None = None) -> int:
    """Exit codes: 0 within all limits, 1 not so."""
    args = _parser().parse_args(argv)
    rig.print_machine()
    with rig.workspace(args.keep) as directory, contextlib.ExitStack() as cleanup:
        day = Day(directory, args, cleanup)
        try:
            day.run()
        except AssertionError as exc:
            print(exc, file=sys.stderr)
            return 1
        finally:
            (directory / "recorder.log").write_text(day.recorder.output)
        print_tables(day)
        problems = problems_of(day, day.judge())
    return rig.exit_code(problems)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=str(__doc__).splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--speed", type=float, default=SPEED, help="market seconds in a real second")
    parser.add_argument("--hours", type=float, default=7.0, help="market hours from 9:15 on")
    parser.add_argument(
        "--activity", type=float, default=ACTIVITY, help="times the ticks of the simulator's own rhythm"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="leave day file and truth file in this directory")
    return parser


if __name__ == "__main__":
    sys.exit(main())
