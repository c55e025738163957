"""Real processes for tests: the built simulator, the built recorder, and waiting with a deadline."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from hk_tick_collector.market.calendar import TradingCalendar
from hk_tick_collector.market.hk import HK
from hk_tick_collector.opend_sim.control import call
from hk_tick_collector.opend_sim.exchange import DEFAULT_HISTORY_TICKS
from hk_tick_collector.opend_sim.simclock import hk_time_ms
from tests.forked import Child, may_fork, recorders, simulators

BIN = Path(sys.executable).parent
DEADLINE_SEC = 120.0  # only a hang reaches it, on a machine as busy as it may be
# Of a symbol, before a simulator's start: more than OpenD shows, and few to be made, written and judged. Thirty
# thousand, its own choice, would take half a second of CPU.
HISTORY_TICKS = 3_000


def wait_until(
    condition: Callable[[], Any], awaited: str, timeout_sec: float = DEADLINE_SEC, *, pause_max_sec: float = 0.2
) -> Any:
    """The condition's first true value; fails with ``awaited`` after the deadline. It is looked at less and less often,
    down to ``pause_max_sec`` between two looks: a look may count the rows of a file."""
    begun = time.monotonic()
    while True:
        value = condition()
        if value:
            return value
        waited_sec = time.monotonic() - begun
        if waited_sec > timeout_sec:
            raise AssertionError(f"not within {timeout_sec:g} s: {awaited}")
        time.sleep(min(pause_max_sec, max(0.02, waited_sec / 8)))


class Process:
    """A child process whose stderr lines are kept and can be waited for; ended by its pid."""

    def __init__(self, command: Sequence[str | Path], env: dict[str, str]) -> None:
        self.lines: list[str] = []
        self.proc = self._begin([str(part) for part in command], env)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _begin(self, command: list[str], env: dict[str, str]) -> subprocess.Popen[str] | Child:
        return subprocess.Popen(
            command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )

    def _read(self) -> None:
        assert self.proc.stdout is not None
        for line in self.proc.stdout:
            self.lines.append(line.rstrip("\n"))

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    def find(self, pattern: str) -> re.Match[str] | None:
        """The last line that matches."""
        return _last_match(pattern, self.lines[:])

    def wait_for(self, pattern: str, timeout_sec: float = DEADLINE_SEC) -> re.Match[str]:
        """Wait for a line; fails at once when the process ends without it."""
        looked_at = 0

        def seen() -> re.Match[str] | None:
            nonlocal looked_at
            lines = self.lines[looked_at:]  # none of those before matched
            looked_at += len(lines)
            match = _last_match(pattern, lines)
            if not match and self.proc.poll() is not None:
                self._reader.join(10)
                match = self.find(pattern)
                assert match, f"ended with {self.proc.returncode} without {pattern!r}:\n{self.output}"
            return match

        try:
            return wait_until(seen, f"line {pattern!r}", timeout_sec)
        except AssertionError as exc:
            raise AssertionError(f"{exc}\n{self.output}") from None

    def signal(self, number: int) -> None:
        self.proc.send_signal(number)

    def wait(self, timeout_sec: float = DEADLINE_SEC) -> int:
        code = self.proc.wait(timeout_sec)
        self._reader.join(5)
        return code

    def stop(self, timeout_sec: float = DEADLINE_SEC) -> int:
        """SIGTERM and the exit code."""
        self.signal(signal.SIGTERM)
        return self.wait(timeout_sec)

    def end(self) -> None:
        """Whatever state it is in: gone when this returns."""
        if self.proc.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                self.proc.send_signal(signal.SIGCONT)
                self.proc.kill()
        self.proc.wait(60)
        self._reader.join(5)
        if self.proc.stdout is not None:
            self.proc.stdout.close()


def _last_match(pattern: str, lines: Sequence[str]) -> re.Match[str] | None:
    return next((match for line in reversed(lines) if (match := re.search(pattern, line))), None)


def clean_env(home: Path, **settings: object) -> dict[str, str]:
    """The environment without settings of ours that the developer may have, or a size of the terminal, plus
    ``settings``."""
    ours = re.compile(
        r"(FUTU|DXLINK|GEXBOT|SCHWAB|SIERRA|SHIOAJI|SQLITE|WATCHDOG|PERSIST|API|LIVE|HOOK|REDIS|ALERT)_|(COLUMNS|LINES)$"
    )
    keep = {key: value for key, value in os.environ.items() if not ours.match(key)}
    home.mkdir(parents=True, exist_ok=True)
    keep.update(HOME=str(home), PYTHONUNBUFFERED="1", PYTHONFAULTHANDLER="1")
    keep.update({key: str(value) for key, value in settings.items()})
    return keep


class Simulator(Process):
    """``hk-opend-sim run`` with a truth file and a control port, in a process whose imports are done (``forked``)."""

    def _begin(self, command: list[str], env: dict[str, str]) -> Child:
        return simulators().start(command[1:], env)

    def __init__(self, directory: Path, *arguments: object, port: int = 0) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.truth = directory / "truth"
        command = [BIN / "hk-opend-sim", "run", "--port", str(port), "--truth", self.truth, "--control-port", "0"]
        words = [str(word) for word in arguments]
        if "--symbols" in words and not {"--history", "--replay"} & set(words):
            symbols = words[words.index("--symbols") + 1].count(",") + 1
            words += ["--history", str(min(symbols * HISTORY_TICKS, DEFAULT_HISTORY_TICKS))]
        super().__init__([*command, *words], clean_env(directory / "home"))
        ready = self.wait_for(r"opend_sim_ready .*port=(\d+)")
        self.port = int(ready.group(1))
        self.control = self.wait_for(r"control=(\S+)").group(1)

    def ctl(self, command: str) -> dict[str, Any]:
        """Send a fault command as ``hk-opend-sim ctl`` does; its answer."""
        answer = call(self.control, command)
        assert answer["ok"], f"{command}: {answer}"
        return answer


class Recorder(Process):
    """``hk-tick-collector`` on a data root, quick enough for tests, in a process whose imports are done (``forked``).
    ``command`` is another one, which is started as it is; ``settings`` are environment variables."""

    def _begin(self, command: list[str], env: dict[str, str]) -> subprocess.Popen[str] | Child:
        return recorders().start(command[1:], env) if self._may_fork else super()._begin(command, env)

    def __init__(
        self, data_root: Path, port: int, symbols: str, *, command: Sequence[str | Path] = (), **settings: object
    ) -> None:
        self.data_root = data_root
        quick: dict[str, object] = {
            "FUTU_HOST": "127.0.0.1",
            "FUTU_PORT": port,
            "FUTU_SYMBOLS": symbols,
            "DATA_ROOT": data_root,
            "FUTU_POLL_TRADING_ONLY": 0,
            "FUTU_POLL_INTERVAL_SEC": 0.5,
            "FUTU_POLL_STALE_SEC": 1,
            "CHECK_INTERVAL_SEC": 0.5,
            "RECONNECT_MIN_DELAY": 0.2,
            "RECONNECT_MAX_DELAY": 1,
            "HEALTH_INTERVAL_SEC": 1,
            "PERSIST_SUMMARY_INTERVAL_SEC": 1,
            "PERSIST_HEARTBEAT_INTERVAL_SEC": 1,
            "LOG_LEVEL": "INFO",
        }
        quick.update(settings)
        self._may_fork = not command and may_fork(settings)
        super().__init__(command or [BIN / "hk-tick-collector"], clean_env(data_root.parent / "home", **quick))

    def rows(self) -> int:
        return stored_rows(self.data_root)


class ForkedRecorder(Process):
    """``hk-tick-collector`` of whatever source, by its environment alone, in a process whose imports are done."""

    def __init__(self, env: dict[str, str]) -> None:
        super().__init__([BIN / "hk-tick-collector"], env)

    def _begin(self, command: list[str], env: dict[str, str]) -> Child:
        return recorders().start(command[1:], env)


class BuiltRecorder(Recorder):
    """The console script itself, whatever its start costs: for who measures it, and for tests of the script."""

    def _begin(self, command: list[str], env: dict[str, str]) -> subprocess.Popen[str] | Child:
        return Process._begin(self, command, env)


def stored_rows(data_root: Path) -> int:
    """Rows in all day files, read as another process would."""
    total = 0
    for path in data_root.glob("????????.db"):
        with (
            contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as conn,
            contextlib.suppress(sqlite3.OperationalError),
        ):
            total += conn.execute("SELECT COUNT(*) FROM ticks").fetchone()[0]
    return total


def stop_after_market(simulator: Simulator, recorder: Recorder) -> None:
    """Stop both, the market first: when the recorder notices that OpenD is gone, it has taken all that was made. The
    other way round the market goes on while the recorder stores what waits, for as long as the machine is busy."""
    disconnected = recorder.output.count("futu_disconnected")
    assert simulator.stop() == 0, simulator.output
    wait_until(lambda: recorder.output.count("futu_disconnected") > disconnected, f"OpenD is gone\n{recorder.output}")
    assert recorder.stop() == 0, recorder.output


def check(simulator: Simulator, data_root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """``hk-opend-sim check`` of what was recorded against what was made."""
    words = ["check", "--truth", simulator.truth, "--data-root", data_root, *arguments]
    return simulators().run(list(map(str, words)), clean_env(data_root.parent / "home"), 120)


@contextlib.contextmanager
def ended(*processes: Process) -> Iterator[None]:
    """All of them gone afterwards."""
    try:
        yield
    finally:
        for process in processes:
            process.end()


def is_over(day: str) -> bool:
    """Can no more tick of this Hong Kong day come by now? For tests by the machine's own clock, at whatever hour."""
    return int(time.time() * 1000) >= TradingCalendar(HK).no_more_ticks_ms(day)


def other_clock(**shown: object) -> dict[str, object]:
    """Settings of a process with another clock, as libfaketime's settings ``shown`` say. Its monotonic clock and the
    times of files are the machine's."""
    library = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
    if library is None:
        pytest.skip("another clock needs libfaketime (apt-get install libfaketime)")
    return {
        "LD_PRELOAD": library,
        **shown,
        "FAKETIME_DONT_FAKE_MONOTONIC": 1,
        "DONT_FAKE_MONOTONIC": 1,
        # What the library does for some glibc makes waiting with a deadline return at once: threads would spin where
        # they wait for Python's lock, at two to five times the CPU of the whole process.
        "FAKETIME_FORCE_MONOTONIC_FIX": 0,
        "NO_FAKE_STAT": 1,
    }


def at_market_time(text: str) -> dict[str, object]:
    """Settings of a program whose clock shows this Hong Kong time now (``2026-11-20T16:00:00``)."""
    return other_clock(FAKETIME=f"{hk_time_ms(text) // 1000 - int(time.time()):+d}")
