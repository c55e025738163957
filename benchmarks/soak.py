"""A week with faults in some twenty minutes: nothing missing at its end, and nothing that grew.

    python -m benchmarks.soak

Five trading days of the exchange's calendar, one of them a half day, with a holiday and a weekend between them, at 100
times real speed; the nights are jumped over. The recorder lives in the market's time (``market_recorder``). A plan
made from ``--seed`` (``soak_plan``) breaks connections, restarts OpenD, loses, doubles, delays and disorders pushes,
locks and fills the disk, stops and kills the recorder. Recording begins on the evening before the first day, so that no
day is the first one of its process.

After each close the market stands still until the recorder has confirmed the day; what its process holds is then
looked at. Exit code 1 when a tick of the week is missing, doubled or wrong, when a day file's coverage claims anything
that the truth file does not confirm, when a symbol's day is not proven to its end, or when memory, threads, handles or
connections grew by more than the margins in ``soak_verdict``.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import resource
import signal
import sqlite3
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks import resources, rig, soak_plan
from benchmarks.soak_plan import Act
from benchmarks.soak_verdict import Close, growth, judge, print_tables, unconfirmed
from hk_tick_collector.market.calendar import TradingCalendar
from hk_tick_collector.market.dates import add_days
from hk_tick_collector.market.hk import HK
from hk_tick_collector.market.hk.sessions import CAS_END_AFTER_MS, day_start_ms
from hk_tick_collector.market.hours import DayKind
from hk_tick_collector.opend_sim import control
from hk_tick_collector.opend_sim.instruments import default_symbols
from hk_tick_collector.opend_sim.simclock import MarketTime
from tests.faults.lab import locked, select
from tests.harness import BuiltRecorder, Simulator, wait_until

# The most traded symbol makes some 60 ticks a real second, at any speed: a recorder may be away for 10 s.
ACTIVITY_PER_SPEED = 25.0
STEP_SEC = 0.02
PROGRESS_SEC = 20.0
SETTLE_LIMIT_SEC = 30.0

DAY_STAND_AFTER_CLOSE_MS = 13 * 60_000  # behind the closing auction's prints, within the hours of recording
DAY_END_AFTER_CLOSE_MS = 17 * 60_000


@dataclass(frozen=True)
class Size:
    """How much of a week."""

    first_day: str
    days: int
    speed: float
    symbols: int
    pause_sec: float  # real seconds from one fault to the next


WEEK = Size(first_day="20261221", days=5, speed=100.0, symbols=150, pause_sec=9.0)
SHORT = Size(first_day="20261223", days=2, speed=1000.0, symbols=40, pause_sec=3.0)


class Week:
    """One run: the simulator, the recorders one after the other, and what was seen."""

    def __init__(self, directory: Path, size: Size, seed: int, cleanup: contextlib.ExitStack) -> None:
        self._directory = directory
        self._size = size
        self._cleanup = cleanup
        self._calendar = TradingCalendar(HK)
        self.days = self._trading_days()
        self.eve = self._calendar.previous_trading_day(self.days[0][0])
        self.plan = soak_plan.make(seed, self.days, round(size.pause_sec * size.speed * 1000))
        self._acts = list(self.plan.acts)
        self.acts_done = 0
        self.data_root = directory / "data"
        self.log: list[str] = []
        self.starts = 0
        self.closes: list[Close] = []
        self.simulator = self._start_simulator(seed)
        self._market = MarketTime(directory / "clock")
        self.recorder = self._start_recorder()
        self._told_sec = time.monotonic()

    def run(self) -> None:
        """The evening before, then day after day. AssertionError when the recorder ends or does not come back."""
        self.recorder.wait_for("backfill_done", timeout_sec=60)
        self._pass_day(self.eve)
        for day, _ in self.days:
            self._pass_night(day)
            self.closes.append(self._pass_day(day))

    def stop(self) -> None:
        """Stop the recorder in order, then the market."""
        code = self.recorder.stop()
        assert code == 0, f"the recorder ended with {code}\n{self._tail()}"
        self.simulator.stop()

    def left_undone(self) -> list[str]:
        """What was planned and did not happen."""
        asked = [line for line in self.simulator.lines if re.search(r" fault name=(?!stand|run|jump)", line)]
        undone = {"simulator": len(self.plan.commands) - len(asked), "soak": len(self.plan.acts) - self.acts_done}
        return [f"{number} faults were left out by the {reporter}" for reporter, number in undone.items() if number]

    def _trading_days(self) -> list[tuple[str, DayKind]]:
        day, days = self._size.first_day, []
        for _ in range(self._size.days):
            days.append((day, self._calendar.day_kind(day)))
            day = self._calendar.next_trading_day(day)
        return days

    def _start_simulator(self, seed: int) -> Simulator:
        size = self._size
        scenario = self._directory / "scenario"
        scenario.write_text(self.plan.scenario())
        evening_ms = HK.close_ms(self.eve, self._calendar.day_kind(self.eve)) - 5 * 60_000
        simulator = Simulator(
            self._directory / "sim", "--symbols-count", size.symbols, "--seed", seed, "--speed", size.speed,
            "--start", soak_plan.hk_time(evening_ms), "--activity", ACTIVITY_PER_SPEED / size.speed,
            "--clock-file", self._directory / "clock", "--scenario", scenario, "--wait-for-client",
        )  # fmt: skip
        self._cleanup.callback(simulator.end)
        return simulator

    def _start_recorder(self) -> BuiltRecorder:
        program, clock = Path(__file__).with_name("market_recorder.py"), self._directory / "clock"
        recorder = BuiltRecorder(
            self.data_root,
            self.simulator.port,
            ",".join(default_symbols(self._size.symbols)),
            command=[sys.executable, program, clock, str(self._size.speed)],
            FUTU_POLL_TRADING_ONLY=1,
            PERSIST_RETRY_BACKOFF_MAX_SEC=0.5,
            PERSIST_SUMMARY_INTERVAL_SEC=5,
            PERSIST_HEARTBEAT_INTERVAL_SEC=10,
            SQLITE_BUSY_TIMEOUT_MS=500,
            MAX_QUEUE_SIZE=2000,
            STOP_FLUSH_TIMEOUT_SEC=2,
        )
        self._cleanup.callback(recorder.end)
        self.starts += 1
        return recorder

    def _pass_day(self, day: str) -> Close:
        close = HK.close_ms(day, self._calendar.day_kind(day))
        self._pass_until(close + DAY_STAND_AFTER_CLOSE_MS)
        self._control("stand")
        stood_sec = time.monotonic()
        unproven = self._settle(day)
        settled_sec = time.monotonic() - stood_sec
        holdings = resources.look(self.recorder.proc.pid)
        self._control("run")
        self._pass_until(close + DAY_END_AFTER_CLOSE_MS)
        self._tell(f"{day} closed, confirmed after {settled_sec:.1f} s, {unproven} symbols not proven")
        return Close(day, self.recorder.proc.pid, holdings, settled_sec, unproven)

    def _pass_night(self, day: str) -> None:
        """Jump to one minute around each midnight and to the morning, over everything else in which nothing trades."""
        today = soak_plan.hk_time(self._market.now_ms())[:10].replace("-", "")
        while today < day:
            today = add_days(today, 1)
            midnight_ms = day_start_ms(today)
            self._jump(midnight_ms - 30_000)
            self._pass_until(midnight_ms + 30_000)
        self._jump(day_start_ms(day) + 9 * 3_600_000 - 60_000)

    def _jump(self, to_ms: int) -> None:
        self._control(f"jump to={soak_plan.hk_time(to_ms)}")

    def _control(self, words: str) -> None:
        answer = control.call(self.simulator.control, words)
        assert answer["ok"], f"{words}: {answer}"

    def _pass_until(self, at_ms: int) -> None:
        """Let market time pass; do what the plan has for it."""
        while self._market.now_ms() < at_ms:
            while self._acts and self._acts[0].at_ms <= self._market.now_ms():
                self._act(self._acts.pop(0))
            assert self.recorder.proc.poll() is None, f"the recorder ended by itself\n{self._tail()}"
            assert self.simulator.proc.poll() is None, f"the simulator ended\n{self.simulator.output[-4000:]}"
            if time.monotonic() >= self._told_sec + PROGRESS_SEC:
                with contextlib.suppress(sqlite3.OperationalError, OSError):  # just killed, or its file is locked
                    self._tell("")
            time.sleep(STEP_SEC)

    def _act(self, act: Act) -> None:
        doing: dict[str, Callable[[float], None]] = {
            "stop": self._freeze, "lock": self._lock, "read": self._read, "full": self._full, "reload": self._reload,
            "kill": self._kill, "kill-locked": self._kill_locked, "terminate": self._terminate,
        }  # fmt: skip
        doing[act.name](act.seconds)
        self.acts_done += 1

    def _freeze(self, seconds: float) -> None:
        self.recorder.signal(signal.SIGSTOP)
        time.sleep(seconds)
        self.recorder.signal(signal.SIGCONT)

    def _lock(self, seconds: float) -> None:
        with locked(self._day_file()):
            time.sleep(seconds)

    def _read(self, seconds: float) -> None:
        uri = f"file:{self._day_file()}?mode=ro"
        with contextlib.closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as conn:
            conn.execute("BEGIN")
            conn.execute("SELECT COUNT(*) FROM coverage").fetchall()
            time.sleep(seconds)

    def _full(self, seconds: float) -> None:
        pid = self.recorder.proc.pid
        before = resource.prlimit(pid, resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
        time.sleep(seconds)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, before)

    def _reload(self, _seconds: float) -> None:
        self.recorder.signal(signal.SIGHUP)

    def _kill(self, _seconds: float) -> None:
        self.recorder.signal(signal.SIGKILL)
        self.recorder.wait()
        self._start_again()

    def _kill_locked(self, seconds: float) -> None:
        with locked(self._day_file()):
            time.sleep(seconds)
            self.recorder.signal(signal.SIGKILL)
            self.recorder.wait()
        self._start_again()

    def _terminate(self, _seconds: float) -> None:
        code = self.recorder.stop()
        assert code == 0, f"the recorder ended with {code}\n{self._tail()}"
        self._start_again()

    def _start_again(self) -> None:
        self.log += self.recorder.lines
        self.recorder = self._start_recorder()

    def _day_file(self) -> Path:
        return max(self.data_root.glob("????????.db"))

    def _settle(self, day: str) -> int:
        """Wait until the recorder has confirmed the day's end; symbols whose day is not proven then."""
        seen = len(self.recorder.lines)
        clean = (" health connected=True ", " refused=0 ", " open_holes=0 ", " queue=0 ", " spill=0 ")
        end_ms = HK.close_ms(day, self._calendar.day_kind(day)) + CAS_END_AFTER_MS
        with contextlib.suppress(AssertionError):  # what is not so in time is judged at the end
            wait_until(
                lambda: (
                    any(all(word in line for word in clean) for line in self.recorder.lines[seen:])
                    and not unconfirmed(self.data_root, day, end_ms)
                    and (day == self.eve or not self._unproven(day))
                ),
                "a confirmed day",
                SETTLE_LIMIT_SEC,
            )
        return self._unproven(day)

    def _unproven(self, day: str) -> int:
        path = self.data_root / f"{day}.db"
        return int(select(path, "SELECT COUNT(*) AS count FROM coverage WHERE state != 'proven'")[0]["count"])

    def _tell(self, words: str) -> None:
        self._told_sec = time.monotonic()
        now = soak_plan.hk_time(self._market.now_ms())[:16].replace("T", " ")
        with contextlib.closing(rig.RowReader(self.data_root)) as reader:
            rows = reader.rows()
        holdings = resources.look(self.recorder.proc.pid)
        print(
            f"{now}  {rows:>9,} rows  {holdings.rss_mib:5.1f} MiB  {holdings.threads} threads  "
            f"{holdings.handles} handles  {words}".rstrip(),
            flush=True,
        )

    def _tail(self) -> str:
        return "\n".join(self.recorder.lines[-60:])


def main(argv: list[str] | None = None) -> int:
    """Exit codes: 0 all stored, proven and nothing grew, 1 not so."""
    args = _parser().parse_args(argv)
    base = SHORT if args.short else WEEK
    size = Size(
        base.first_day, args.days or base.days, args.speed or base.speed, args.symbols or base.symbols, base.pause_sec
    )
    if size.days < 2:
        print("soak: growth shows from one day to the next: --days must be 2 at least", file=sys.stderr)
        return 2
    rig.print_machine()
    begun_sec = time.monotonic()
    with rig.workspace(args.keep) as directory, contextlib.ExitStack() as cleanup:
        week = Week(directory, size, args.seed, cleanup)
        print(f"seed {args.seed}: {week.plan.faults} faults\n{week.plan.listing()}", flush=True)
        try:
            week.run()
            week.stop()
            days, problems = judge(week)
        except AssertionError as exc:
            print(exc, file=sys.stderr)
            return 1
        finally:
            (directory / "recorder.log").write_text("\n".join([*week.log, *week.recorder.lines]))
        print_tables(week, days, time.monotonic() - begun_sec)
        problems += growth(week.closes)
    return rig.exit_code(problems)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=str(__doc__).splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=1, help="the same seed makes the same faults and ticks")
    parser.add_argument("--days", type=int, help=f"trading days (5 from {WEEK.first_day} on)")
    parser.add_argument("--speed", type=float, help="market seconds in a real second (100)")
    parser.add_argument("--symbols", type=int, help="the most traded ones (150)")
    parser.add_argument("--short", action="store_true", help="a day and a half day in about a minute, few ticks")
    parser.add_argument("--keep", type=Path, help="leave day files, truth file and scenario in this directory")
    return parser


if __name__ == "__main__":
    sys.exit(main())
