"""The Python part of ``scripts/demo.sh``: simulator and recorder side by side, watched from outside, then checked.

Owns two child processes and a scratch directory; starts the simulator, then the recorder, and stops them in that order,
each by its own pid, so that the market ends first and every tick it made has to be stored. What it shows is read from
the day files (read-only, only the rows that are new) and from the recorder's ``health`` lines.

Exit codes: 0 every tick is stored, 1 something failed, 2 usage, 130 stopped by a signal before there was anything to
show, or by a second one.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from hk_tick_collector.app.config import setting_table
from hk_tick_collector.core.errors import StoreError
from hk_tick_collector.opend_sim.instruments import default_symbols
from hk_tick_collector.store.layout import parse_day
from hk_tick_collector.store.read_only import open_read_only

EXIT_OK, EXIT_FAILED, EXIT_STOPPED = 0, 1, 130
BIN = Path(sys.executable).parent
ROOT = Path(__file__).resolve().parent.parent
SYMBOLS_COUNT = 20
HISTORY_TICKS = 6000  # of all symbols: what the busiest has of them stays well below the 1,000 that OpenD shows of each
START_TIMEOUT_SEC = 60.0
STOP_TIMEOUT_SEC = 15.0
WINDOW_SEC = 5  # rates are averages over this time
TOP_SYMBOLS = 10
FRESHNESS_SQL = "SELECT ROUND(strftime('%s','now')-MAX(ts_ms)/1000.0,3) AS lag_sec, COUNT(*) AS rows FROM ticks;"
NEW_ROWS_SQL = (
    "SELECT rowid, symbol, ts_ms, price, push_type, inserted_at_ms, opend_recv_ts_ms FROM ticks WHERE rowid > ?"
)
HIDE_CURSOR, SHOW_CURSOR, CLEAR_TO_END_OF_LINE = "\x1b[?25l", "\x1b[?25h", "\x1b[K"


class DemoError(Exception):
    """Something did not work; the text says what and where to look."""


class Stopped(Exception):
    """A signal came before there was anything to show, or a second one."""


class Interrupt:
    """Counts the signals that ask for an end. The first one ends the show, the second one everything."""

    def __init__(self) -> None:
        self._came = threading.Event()
        self.count = 0
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            if signal.getsignal(number) is not signal.SIG_IGN:  # the script that started this one passes SIGINT on
                signal.signal(number, self._note)

    def _note(self, _number: int, _frame: object) -> None:
        self.count += 1
        self._came.set()

    @property
    def came(self) -> bool:
        return self._came.is_set()

    def sleep(self, seconds: float) -> None:
        """Sleep, or return early when a signal has come."""
        self._came.wait(seconds)


class Child:
    """One process of ours with its output in a log file. In a session of its own: nobody else's Ctrl-C reaches it."""

    def __init__(self, name: str, command: list[str], log: Path, scratch: Path) -> None:
        self.name = name
        self.log = log
        with log.open("wb") as out:
            self.proc = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=_environment(scratch),
                cwd=scratch,
                start_new_session=True,
            )
        self._read_bytes = 0
        self._partial = ""

    def new_lines(self) -> list[str]:
        """Whole lines that were written since the last call."""
        with self.log.open("rb") as file:
            file.seek(self._read_bytes)
            data = file.read()
        self._read_bytes += len(data)
        *lines, self._partial = (self._partial + data.decode("utf-8", "replace")).split("\n")
        return lines

    def check_alive(self) -> None:
        """DemoError with its last words when it has ended."""
        code = self.proc.poll()
        if code is not None:
            last = "\n".join(f"    {line}" for line in self.log.read_text("utf-8", "replace").splitlines()[-8:])
            how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
            raise DemoError(f"the {self.name} {how}. Its last lines:\n{last}\n  All of them: {self.log}")

    def stop(self) -> int:
        """SIGTERM, and SIGKILL if that is not heard. Returns the exit code."""
        if self.proc.poll() is None:
            self.proc.terminate()
            try:
                self.proc.wait(STOP_TIMEOUT_SEC)
            except subprocess.TimeoutExpired:
                self.proc.kill()
        return self.proc.wait()


def _environment(scratch: Path) -> dict[str, str]:
    """Without the user's own settings of the recorder; the SDK's log goes to the scratch directory."""
    ours = {info.key for info in setting_table()}
    return {key: value for key, value in os.environ.items() if key not in ours} | {"HOME": str(scratch)}


class Watcher:
    """Follows the day files row by row and the recorder's log line by line."""

    def __init__(self, data_root: Path) -> None:
        self.rows = 0
        self.live_rows = 0
        self.newest_ms = 0
        self.last_price: dict[str, float | None] = {}
        self.live_by_symbol: Counter[str] = Counter()
        self.health: dict[str, str] = {}
        self.answered_symbols = 0  # whose earlier ticks OpenD has told on this connection
        self.delays_ms: deque[int] = deque(maxlen=1000)  # OpenD's receipt to the writing of the row, newest live rows
        self._data_root = data_root
        self._last_rowid: dict[Path, int] = {}
        self._samples: deque[tuple[float, int, Counter[str]]] = deque()

    def day_files(self) -> list[Path]:
        """All day files, oldest first: two of them when the demo runs over midnight in Hong Kong."""
        return sorted(path for path in self._data_root.glob("*.db") if parse_day(path))

    def read_files(self) -> None:
        """Take in the rows that were committed since the last call."""
        for path in self.day_files():
            try:
                with contextlib.closing(open_read_only(path)) as conn:
                    new = conn.execute(NEW_ROWS_SQL, (self._last_rowid.get(path, 0),)).fetchall()
            except (StoreError, sqlite3.Error):
                continue  # being made at this moment; the next look will see its rows
            if new:
                self._last_rowid[path] = new[-1][0]
                self.rows += len(new)
            for _, symbol, ts_ms, price, push_type, inserted_at_ms, opend_recv_ts_ms in new:
                self.newest_ms = max(self.newest_ms, ts_ms)
                self.last_price[symbol] = price
                if push_type == "push":
                    self.live_rows += 1
                    self.live_by_symbol[symbol] += 1
                    if opend_recv_ts_ms:
                        self.delays_ms.append(inserted_at_ms - opend_recv_ts_ms)

    def sample(self) -> None:
        """Remember the counts of this moment for the rates."""
        now_sec = time.monotonic()
        self._samples.append((now_sec, self.live_rows, Counter(self.live_by_symbol)))
        while now_sec - self._samples[0][0] > WINDOW_SEC:
            self._samples.popleft()

    def read_log(self, lines: list[str]) -> None:
        """Keep the fields of the newest ``health`` line, and count whose earlier ticks have come."""
        for line in lines:
            words = line.split(" ", 3)
            if len(words) < 4:
                continue
            if words[2] == "health":
                self.health = _fields(words[3])
            elif words[2] == "backfill_done":
                fields = _fields(words[3])
                self.answered_symbols += int(fields["symbols"]) - int(fields["failed"])
            elif words[2] == "futu_disconnected":
                self.answered_symbols = 0

    def live_rate(self, symbol: str | None = None) -> float:
        """Live rows a second, lately; of one symbol if given. Zero until there are two samples."""
        (then_sec, rows, by_symbol), (now_sec, now_rows, now_by_symbol) = self._samples[0], self._samples[-1]
        if symbol is not None:
            rows, now_rows = by_symbol[symbol], now_by_symbol[symbol]
        return (now_rows - rows) / max(now_sec - then_sec, 0.5)

    @property
    def newest_age_sec(self) -> float:
        return time.time() - self.newest_ms / 1000

    def status(self) -> str:
        """The recorder's own judgement, with its reason."""
        reason = self.health.get("reason", "none")
        return self.health.get("status", "starting") + ("" if reason == "none" else f" ({reason})")


def _fields(text: str) -> dict[str, str]:
    """Of a log line."""
    return dict(word.split("=", 1) for word in shlex.split(text) if "=" in word)


class Screen:
    """The live picture: in place on a terminal, else a line a call."""

    def __init__(self) -> None:
        self._terminal = sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self._drawn_lines = 0

    def show(self, watcher: Watcher, passed_sec: float, seconds: int) -> None:
        if not self._terminal:
            print(_one_line(watcher, passed_sec), flush=True)
            return
        columns, height = shutil.get_terminal_size()
        lines = _picture(watcher, passed_sec, seconds)[: max(3, height - 1)]
        up = f"\x1b[{self._drawn_lines}A" if self._drawn_lines else HIDE_CURSOR
        text = "".join(f"{line[: columns - 1]}{CLEAR_TO_END_OF_LINE}\n" for line in lines)
        sys.stdout.write(f"{up}\r{text}\x1b[J")
        sys.stdout.flush()
        self._drawn_lines = len(lines)

    def end(self) -> None:
        """Leave the last picture where it is and give the cursor back."""
        if self._drawn_lines:
            sys.stdout.write(SHOW_CURSOR)
            sys.stdout.flush()


def _one_line(watcher: Watcher, passed_sec: float) -> str:
    top = ",".join(f"{symbol}:{rows}" for symbol, rows in watcher.live_by_symbol.most_common(3)) or "none"
    return (
        f"demo sec={passed_sec:.0f} health={watcher.health.get('status', 'starting')} rows={watcher.rows} "
        f"live_rows={watcher.live_rows} live_rows_per_sec={watcher.live_rate():.1f} "
        f"newest_age_sec={watcher.newest_age_sec:.3f} queue={watcher.health.get('queue', 'none')} top={top}"
    )


def _picture(watcher: Watcher, passed_sec: float, seconds: int) -> list[str]:
    health = watcher.health
    delay = f"{statistics.median(watcher.delays_ms):.0f} ms" if watcher.delays_ms else "-"
    files = ", ".join(str(path) for path in watcher.day_files())
    lines = [
        f"hk-tick-collector on a simulated market: {passed_sec:.0f} of {seconds} s (Ctrl-C ends it)",
        "",
        f"  health        {watcher.status()}: OpenD {health.get('opend', '-')}, "
        f"{health.get('symbols', '-')} of {health.get('wanted', '-')} symbols subscribed",
        f"  rows stored   {watcher.rows}: {watcher.rows - watcher.live_rows} backfilled, {watcher.live_rows} live",
        f"  rows/s        {watcher.live_rate():.1f} live, over the last {WINDOW_SEC} s",
        f"  newest tick   {watcher.newest_age_sec:.2f} s old; from OpenD's receipt to its row {delay} (median)",
        f"  queue         {health.get('queue', '-')} rows, spill {health.get('spill', '-')} rows, "
        f"open holes {health.get('open_holes', '-')}",
        f"  file          {files}",
        "",
        f"  {'symbol':<10} {'live rows':>9} {'rows/s':>8} {'last print':>11}",
    ]
    for symbol, rows in watcher.live_by_symbol.most_common(TOP_SYMBOLS):
        price = watcher.last_price.get(symbol)
        shown = "-" if price is None else f"{price:.3f}"
        lines.append(f"  {symbol:<10} {rows:>9} {watcher.live_rate(symbol):>8.1f} {shown:>11}")
    return lines


def _live_screen(data_root: Path, log: Path, interrupt: Interrupt, look: Callable[[], str | None]) -> Any:
    """``hk-tickctl screen`` on the demo's files; None where it cannot be drawn: no terminal, or its library is missing.

    ``look`` is called once a second and gives the words for the head; None ends it.
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()) or os.environ.get("TERM", "dumb") == "dumb":
        return None
    try:
        from hk_tick_collector.cli.common import App  # noqa: PLC0415 - an extra, and it takes its time
        from hk_tick_collector.cli.screen_app import Screen as LiveScreen  # noqa: PLC0415
        from hk_tick_collector.cli.screen_log import FileLog  # noqa: PLC0415
        from hk_tick_collector.cli.screen_sources import LocalSource  # noqa: PLC0415
    except ModuleNotFoundError:
        return None

    class DemoScreen(LiveScreen):
        BINDINGS: ClassVar[list[Any]] = [("ctrl+c", "quit", "end")]

        def on_mount(self) -> None:
            super().on_mount()
            self.set_interval(1.0, self._look)
            self.set_interval(0.1, self._end_when_asked)
            self._look()

        def _look(self) -> None:
            words = look()
            if words is None:
                self.exit()
            else:
                self.say(words)

        def _end_when_asked(self) -> None:
            if interrupt.came:
                self.exit()

    return DemoScreen(LocalSource(App(data_root_given=data_root)), FileLog(log))


class Demo:
    """One run, from the scratch directory to the verdict."""

    def __init__(self, seconds: int, scratch: Path, interrupt: Interrupt, *, plain: bool) -> None:
        self._seconds, self._plain = seconds, plain
        self._scratch = scratch
        self._interrupt = interrupt
        self._truth = scratch / "truth.csv"
        self._data_root = scratch / "data"
        self._children: list[Child] = []
        self._watcher = Watcher(self._data_root)
        self.recorded = False

    def run(self) -> None:
        """All of it. DemoError when something failed; on every way out no process of ours is left."""
        try:
            print(f"Scratch directory: {self._scratch}", flush=True)
            simulator = self._start_simulator()
            recorder = self._start_recorder()
            self._show(simulator, recorder)
            self._stop(simulator, recorder)
        finally:
            for child in self._children:
                child.stop()
        self._print_freshness()
        self._print_check()

    def _start_simulator(self) -> Child:
        port_file = self._scratch / "port"
        simulator = self._start(
            "simulator",
            "hk-opend-sim",
            *("run", "--always-open", "--symbols-count", SYMBOLS_COUNT, "--history", HISTORY_TICKS),
            *("--port", 0, "--port-file", port_file, "--truth", self._truth),
        )
        self._wait(lambda: port_file.is_file() and port_file.read_text().endswith("\n"), "the simulator listens")
        self._port = int(port_file.read_text())
        print(f"Simulated OpenD on 127.0.0.1:{self._port} (pid {simulator.proc.pid})", flush=True)
        return simulator

    def _start_recorder(self) -> Child:
        env_file = self._scratch / "recorder.env"
        settings = {
            "FUTU_HOST": "127.0.0.1",
            "FUTU_PORT": self._port,
            "FUTU_SYMBOLS": ",".join(default_symbols(SYMBOLS_COUNT)),
            "FUTU_POLL_TRADING_ONLY": 0,
            "DATA_ROOT": self._data_root,
            "HEALTH_INTERVAL_SEC": 1,
        }
        env_file.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
        recorder = self._start("recorder", "hk-tick-collector", "--env-file", env_file)
        print(f"Recorder (pid {recorder.proc.pid}) with the settings in {env_file}\n", flush=True)
        self._wait(self._has_rows, "the recorder stores rows")
        # What was traded between the market's begin and a symbol's first push comes with this answer alone.
        self._wait(lambda: self._has_answers(recorder), "OpenD has told the earlier ticks of every symbol")
        self.recorded = True
        return recorder

    def _start(self, name: str, command: str, *arguments: object) -> Child:
        if self._interrupt.came:
            raise Stopped
        words = [str(BIN / command), *map(str, arguments)]
        child = Child(name, words, self._scratch / f"{name}.log", self._scratch)
        self._children.append(child)
        return child

    def _wait(self, condition: Callable[[], bool], awaited: str) -> None:
        deadline = time.monotonic() + START_TIMEOUT_SEC
        while not condition():
            for child in self._children:
                child.check_alive()
            if self._interrupt.came:
                raise Stopped
            if time.monotonic() > deadline:
                raise DemoError(f"not within {START_TIMEOUT_SEC:g} s: {awaited}. Logs are in {self._scratch}")
            self._interrupt.sleep(0.05)

    def _has_rows(self) -> bool:
        self._watcher.read_files()
        return self._watcher.rows > 0

    def _has_answers(self, recorder: Child) -> bool:
        self._watcher.read_log(recorder.new_lines())
        return self._watcher.answered_symbols >= SYMBOLS_COUNT

    def _show(self, simulator: Child, recorder: Child) -> None:
        """Look once a second until the time is over or a signal comes: on the live screen, or simpler."""
        started_sec = time.monotonic()
        failures: list[DemoError] = []

        def look() -> str | None:
            try:
                self._look(simulator, recorder)
            except DemoError as exc:  # it is told when the terminal is a terminal again
                failures.append(exc)
                return None
            passed_sec = time.monotonic() - started_sec
            words = f"hk-tick-collector on a simulated market: {passed_sec:.0f} of {self._seconds} s (q ends it)"
            return words if passed_sec < self._seconds else None

        live = None if self._plain else _live_screen(self._data_root, recorder.log, self._interrupt, look)
        if live is None:
            self._show_simply(simulator, recorder, started_sec)
            return
        live.run()
        if failures:
            raise failures[0]
        if live.return_code:
            raise DemoError("the live screen failed; --plain shows a simpler picture")

    def _look(self, simulator: Child, recorder: Child) -> None:
        simulator.check_alive()
        recorder.check_alive()
        self._watcher.read_log(recorder.new_lines())
        self._watcher.read_files()
        self._watcher.sample()

    def _show_simply(self, simulator: Child, recorder: Child, started_sec: float) -> None:
        screen = Screen()
        try:
            for tick in range(self._seconds + 1):
                self._interrupt.sleep(max(0.0, started_sec + tick - time.monotonic()))
                self._look(simulator, recorder)
                screen.show(self._watcher, time.monotonic() - started_sec, self._seconds)
                if self._interrupt.came:
                    return
        finally:
            screen.end()

    def _stop(self, simulator: Child, recorder: Child) -> None:
        """The market first: then the recorder has seen all that was made when it notices that OpenD is gone."""
        for child, before in ((simulator, None), (recorder, "futu_disconnected")):
            if before is not None:
                self._wait_line(child, before)
            if self._interrupt.count > 1:
                raise Stopped
            code = child.stop()
            if code != 0:
                raise DemoError(f"the {child.name} ended with exit code {code}; its log: {child.log}")
        print("\nStopped the simulator, then the recorder (SIGTERM, exit code 0 both).")

    def _wait_line(self, child: Child, word: str) -> None:
        deadline = time.monotonic() + STOP_TIMEOUT_SEC
        while not any(word in line for line in child.new_lines()):
            if time.monotonic() > deadline or self._interrupt.count > 1 or child.proc.poll() is not None:
                return  # the check at the end says what this cost
            time.sleep(0.05)

    def _print_freshness(self) -> None:
        *_, path = self._watcher.day_files()
        with contextlib.closing(open_read_only(path)) as conn:
            lag_sec, rows = conn.execute(FRESHNESS_SQL).fetchone()
        print("\nHow fresh is the file? Any program may ask it (SQLite counts whole seconds, so up to 1 s too low):")
        print(f"  sqlite3 -header -column {shlex.quote(f'file:{path}?mode=ro')} {_double_quoted(FRESHNESS_SQL)}")
        print(f"  lag_sec  rows\n  {lag_sec:<7}  {rows}")

    def _print_check(self) -> None:
        """The simulator's own comparison of the truth file with the day files decides."""
        files = ["--truth", str(self._truth), "--data-root", str(self._data_root)]
        command = [str(BIN / "hk-opend-sim"), "check", *files]
        print(f"\nIs every tick of the market stored?\n  {shlex.join(command)}")
        done = subprocess.run(
            command,
            env=_environment(self._scratch),
            capture_output=True,
            text=True,
            check=False,
            start_new_session=True,
        )
        print("".join(f"  {line}\n" for line in done.stdout.splitlines()), end="")
        if done.returncode != 0:
            raise DemoError(f"what is stored is not what was made (exit code {done.returncode}) {done.stderr}".rstrip())
        required = re.search(r"required (\d+)", done.stdout)
        if required is None or int(required[1]) == 0:
            raise DemoError("the market made no tick while the recorder ran: nothing is proven")
        print(f"  Yes: all {required[1]} ticks made during the demo are there, each once and unchanged.")
        print("  The other rows are earlier ticks that OpenD still had; it no longer shows the excused ones.")
        print("\nThe file:")
        for path in self._watcher.day_files():
            print(f"  {path}")
        print("\nWhat next? Install the tools; then see the day's certificate, its ticks, and all of it over HTTP:")
        print(f"  {shlex.quote(str(BIN / 'pip'))} install {shlex.quote(f'{ROOT}[serve]')}")
        for words in (("day", "--html"), ("ticks", "700", "--last", "5"), ("serve", "--anonymous")):
            print(f"  {shlex.join([str(BIN / 'hk-tickctl'), *words, '--data-root', str(self._data_root)])}")
        print("day --html writes a page for the browser. serve has a dashboard, and runs until Ctrl-C; meanwhile:")
        print("  curl 'http://127.0.0.1:8877/v1/ticks/latest?symbols=700&n=5'")
        print("In Python:")
        day = f'hk.local({json.dumps(str(self._data_root))}).load("700", "last")'
        print(f"  {shlex.join([sys.executable, '-c', f'import hk_tick_collector as hk; print({day})'])}")
        print("OpenD still had every tick of this day, so day reports none missing.")
        print("\nThe logs and the market's truth file are beside the data. To remove everything:")
        print(f"  rm -r {shlex.quote(str(self._scratch))}")


def _double_quoted(sql: str) -> str:
    """For a shell; the query holds single quotes and nothing that a shell would expand."""
    return f'"{sql}"'


def _seconds(text: str) -> int:
    value = int(text)
    if not 1 <= value <= 99_999:
        raise argparse.ArgumentTypeError(f"{value} is not from 1 to 99999")
    return value


def main() -> int:
    """Run the demo; the exit code."""
    interrupt = Interrupt()
    parser = argparse.ArgumentParser(description="Show the recorder at work on a simulated market.")
    parser.add_argument("--seconds", type=_seconds, default=30, help="how long to show it (default 30)")
    parser.add_argument("--plain", action="store_true", help="the simple picture, also where the live screen can be")
    given = parser.parse_args()
    try:
        scratch = Path(tempfile.mkdtemp(prefix="hk-tick-demo."))
    except OSError as exc:
        print(f"demo: FAILED: no scratch directory: {exc}; TMPDIR names another place", file=sys.stderr)
        return EXIT_FAILED
    demo = Demo(given.seconds, scratch, interrupt, plain=given.plain)
    try:
        demo.run()
    except Stopped:
        if not demo.recorded:
            shutil.rmtree(scratch, ignore_errors=True)
        left = f"; what was recorded is in {scratch}" if demo.recorded else ""
        print(f"\ndemo: stopped, no process is left{left}", file=sys.stderr)
        return EXIT_STOPPED
    except BrokenPipeError:  # whoever read the output has gone, as "head" does; Python's last flush must not fail, too
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    except (DemoError, StoreError, sqlite3.Error, OSError) as exc:
        print(f"\ndemo: FAILED: {exc}", file=sys.stderr)
        return EXIT_FAILED
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
