"""What all benchmarks share: the processes measured, their CPU and memory, the rows they wrote, and the table.

Every figure is taken from outside the measured process. Recorder and floor take turns on the same load, so that a slow
machine, or one that is busy with other things, slows both; single figures are medians over the rounds.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from hk_tick_collector.opend_sim.instruments import default_symbols
from tests.harness import BIN, Process, Simulator, clean_env

SYMBOLS_COUNT = 900
SYMBOLS = ",".join(default_symbols(SYMBOLS_COUNT))
RECORDER, FLOOR, USUAL = "recorder", "floor", "usual"
_MIB = 1024 * 1024


class Program(Process):
    """What is measured: it writes day files under ``data_root``."""

    kind: str
    data_root: Path


class Collector(Program):
    """The recorder as a user starts it, or a program it is held against, writing day files under ``data_root``."""

    def __init__(self, kind: str, data_root: Path, port: int, profile: Path | None = None, **settings: object) -> None:
        """``profile``: where ``thread_profile`` writes what it saw of the recorder."""
        self.kind = kind
        self.data_root = data_root
        data_root.mkdir(parents=True, exist_ok=True)
        env = clean_env(
            data_root.parent / f"home-{kind}",
            FUTU_HOST="127.0.0.1",
            FUTU_PORT=port,
            FUTU_SYMBOLS=SYMBOLS,
            DATA_ROOT=data_root,
            **settings,
        )
        here = Path(__file__).parent
        command: list[str | Path] = [BIN / "hk-tick-collector"]
        if kind != RECORDER:
            command = [sys.executable, "-m", f"benchmarks.{kind}"]
        elif profile is not None:
            command = [sys.executable, here / "thread_profile.py", profile]
        super().__init__(command, env)

    def wait_subscribed(self) -> None:
        """OpenD has confirmed the symbols."""
        self.wait_for(r"futu_subscribed symbols=\d+", timeout_sec=60)


def simulator(directory: Path, *arguments: object) -> Simulator:
    """An OpenD that trades the most active symbols at any hour."""
    return Simulator(directory, "--symbols-count", SYMBOLS_COUNT, "--always-open", *arguments)


def cpu_sec(pid: int) -> float:
    """User and system CPU seconds of a running process and its ended threads, to the nanosecond."""
    return time.clock_gettime(~pid << 3 | 2)  # the clock id that clock_getcpuclockid(3) returns


def memory_mib(pid: int) -> tuple[float, float]:
    """Resident memory now and at its highest."""
    status = Path(f"/proc/{pid}/status").read_text()
    now, peak = (re.search(rf"^{key}:\s+(\d+) kB", status, re.MULTILINE) for key in ("VmRSS", "VmHWM"))
    assert now is not None, f"process {pid} has ended"
    assert peak is not None, f"process {pid} has ended"
    return int(now[1]) * 1024 / _MIB, int(peak[1]) * 1024 / _MIB


def context_switches(pid: int) -> int:
    """Voluntary and forced switches of all threads that live now."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            total += sum(map(int, re.findall(r"ctxt_switches:\s+(\d+)", (task / "status").read_text())))
    return total


class RowReader:
    """Reads day files as any other process would: read-only, a short transaction at a time."""

    def __init__(self, data_root: Path) -> None:
        self._data_root = data_root
        self._open: dict[Path, sqlite3.Connection] = {}

    def connections(self) -> list[sqlite3.Connection]:
        """One for every day file that has its table by now."""
        for path in sorted(self._data_root.glob("????????.db")):
            if path not in self._open:
                conn = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
                try:
                    conn.execute("SELECT 1 FROM ticks LIMIT 1").fetchall()
                except sqlite3.OperationalError:  # it is being made
                    conn.close()
                    continue
                self._open[path] = conn
        return list(self._open.values())

    def rows(self) -> int:
        """Rows stored so far, by their row ids: no row is ever deleted, and counting them would cost more each time."""
        return sum(conn.execute("SELECT MAX(rowid) FROM ticks").fetchone()[0] or 0 for conn in self.connections())

    def close(self) -> None:
        for conn in self._open.values():
            conn.close()
        self._open.clear()


class Used(NamedTuple):
    """What a command that has ended used, with its start. ``peak_mib``: of it alone."""

    told: str
    cpu_sec: float
    wall_sec: float
    peak_mib: int


def run_command(arguments: Sequence[str | Path], env: Mapping[str, str] | None = None, fine: int = 0) -> Used:
    """Run a command to its end. AssertionError with what it printed unless it ended with ``fine``. ``told``: its
    standard output, where nothing stands between what a program reads."""
    began = time.monotonic()
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=errors, text=True, env=env) as command,
    ):
        assert command.stdout is not None
        told = command.stdout.read()
        _, status, used = os.wait4(command.pid, 0)  # of this command alone: RUSAGE_CHILDREN has the peak of all so far
        command.returncode = os.waitstatus_to_exitcode(status)
        errors.seek(0)
        said = errors.read()
    assert command.returncode == fine, f"{' '.join(map(str, arguments))} ended with {command.returncode}:\n{told}{said}"
    return Used(told, used.ru_utime + used.ru_stime, time.monotonic() - began, used.ru_maxrss // 1024)


def wait_quickly(condition: Callable[[], object], awaited: str, collector: Program, timeout_sec: float = 120.0) -> None:
    """Wait in steps of 2 ms: at full load the 20 ms of ``tests.harness.wait_until`` are hundreds of ticks.

    AssertionError with the collector's output when it ends, or ``timeout_sec`` passes, before that.
    """
    deadline = time.monotonic() + timeout_sec
    while not condition():
        ended = collector.proc.poll() is not None
        if ended or time.monotonic() > deadline:
            why = f"ended with {collector.proc.returncode}" if ended else f"waited {timeout_sec:g} s"
            raise AssertionError(f"{collector.kind}: no {awaited}, {why}\n{collector.output}")
        time.sleep(0.002)


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table with aligned columns: floats to three significant digits, None as an empty cell."""
    cells = [list(columns), *([_cell(value) for value in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(columns))]
    lines = ["| " + " | ".join(text.ljust(width) for text, width in zip(row, widths)) + " |" for row in cells]  # noqa: B905
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def exit_code(problems: Sequence[str]) -> int:
    """0 when there are none; else 1, and each is said on standard error."""
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def parser(description: str) -> argparse.ArgumentParser:
    """The options that every benchmark has."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    made.add_argument("--rounds", type=int, default=3, help="times each program is measured")
    made.add_argument("--short", action="store_true", help="one quick round: shows that it works, figures are rough")
    made.add_argument("--keep", type=Path, help="leave day files and truth files in this directory")
    return made


@contextlib.contextmanager
def workspace(keep: Path | None) -> Iterator[Path]:
    """A directory for one run, gone afterwards unless ``keep`` names one."""
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        yield Path(tempfile.mkdtemp(prefix="run-", dir=keep))
        return
    with tempfile.TemporaryDirectory(prefix="hk-tick-bench-") as directory:
        yield Path(directory)


def print_machine() -> None:
    """Where this ran and how busy the machine was: without it the figures say nothing."""
    model = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    load = os.getloadavg()[0]
    print(
        f"{len(os.sched_getaffinity(0))} cores ({model[1] if model else 'unknown CPU'}), "
        f"Python {sys.version.split()[0]}, SQLite {sqlite3.sqlite_version}, load before the run {load:.2f}"
    )
    print()
