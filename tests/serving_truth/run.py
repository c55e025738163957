"""One run: a simulator with faults, a recorder, the servers, readers behind lines that are cut; and the verdict.

What is done, in which order and when comes from the seed. When every line was cut as often as was asked, and everything
was done, the market stands still: then whatever was made has to be in the day files and with every reader, once.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import sqlite3
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import hk_tick_collector as hk
from hk_tick_collector.opend_sim.truth import read_truth_flagged
from hk_tick_collector.store.signals import SignalStore, read_signals
from tests.faults.lab import healed
from tests.harness import BIN, Process, Recorder, Simulator, check, clean_env, stored_rows, wait_until
from tests.redis_server import RedisServer
from tests.serving import ApiServer, add_key
from tests.serving_truth.line import Line
from tests.serving_truth.readers import (
    CONTENT,
    HOOK,
    Channel,
    Content,
    Key,
    OverApi,
    OverEvents,
    OverPython,
    OverRedis,
    OverWebSocket,
    Reader,
    content_of,
)

P = TypeVar("P", bound=Process)

SYMBOLS = "HK.00005,HK.00388,HK.00700,HK.01299,HK.03690,HK.09988"
US_SYMBOLS = "US.AAPL,US.MSFT"
DAY, NEXT_DAY = "20261120", "20261121"
PATIENCE_SEC = 120.0
DAMAGED_BYTES = 16384
BEFORE_MIDNIGHT = "23:59:57"
FAULTS = (
    "drop",
    "cut",
    "twice percent=30 seconds=2",
    "skip percent=20 seconds=2",
    "disorder percent=50 seconds=2",
    "late ms=1500 percent=30 seconds=3",
    "silent seconds=2",
    "hang seconds=2",
    "restart kind=remember seconds=1",
    "twins percent=10 seconds=3",
    "delay-answers ms=800 seconds=3",
)


@dataclass(frozen=True)
class Size:
    """How much happens in one run."""

    midnight_after_sec: int  # of the simulator's start, or later: the market waits for us there
    ticks_per_sec: int
    cuts: int  # of each line, at least
    cut_mean_sec: float
    us_ticks_per_sec: int
    live_kills: int
    api_kills: int
    relay_kills: int
    redis_kills: int
    recorder_kills: int
    faults: int


SHORT = Size(
    midnight_after_sec=10, ticks_per_sec=150, cuts=2, cut_mean_sec=1.0, us_ticks_per_sec=20, live_kills=2, api_kills=1,
    relay_kills=1, redis_kills=1, recorder_kills=1, faults=2,
)  # fmt: skip
LONG = Size(
    midnight_after_sec=100, ticks_per_sec=200, cuts=100, cut_mean_sec=0.8, us_ticks_per_sec=60, live_kills=20,
    api_kills=20, relay_kills=20, redis_kills=10, recorder_kills=5, faults=25,
)  # fmt: skip


class Run:
    """``play``, then ``settle`` and ``verdict``. ``stack`` ends every process."""

    def __init__(self, directory: Path, size: Size, seed: int, stack: contextlib.ExitStack) -> None:
        self.directory, self.size, self.seed, self._stack = directory, size, seed, stack
        self.root = directory / "data"
        self.root.mkdir(parents=True)
        self._rng = random.Random(seed)
        self.done: list[str] = []
        self.replaced: set[str] = set()
        self._is_next_day = False
        self._must_hear: set[str] = set()  # readers that had something of a file when it was replaced
        self._outputs: list[Process] = []
        scenario = directory / "scenario"
        scenario.write_text(f"{BEFORE_MIDNIGHT} stand\n")
        self.simulator = self._ending(
            Simulator(
                directory / "sim", "--symbols", SYMBOLS, "--always-open", "--rate", size.ticks_per_sec, "--seed", seed,
                "--start", _start_text(size.midnight_after_sec), "--wait-for-client",
                "--scenario", scenario,
            )
        )  # fmt: skip
        self.recorder = self._ending(Recorder(self.root, self.simulator.port, SYMBOLS))
        self.us_root = directory / "us" / "data"
        self.us_root.mkdir(parents=True)
        self.us_simulator = self._ending(
            Simulator(
                directory / "us" / "sim", "--market", "US", "--symbols", US_SYMBOLS, "--always-open",
                "--rate", size.us_ticks_per_sec, "--seed", seed, "--start", "2026-11-20T10:00:00", "--wait-for-client",
            )
        )  # fmt: skip
        self.us_recorder = self._ending(Recorder(self.us_root, self.us_simulator.port, US_SYMBOLS, MARKET="US"))
        self.hooks = directory / "hooks"
        self._signals = SignalStore(self.hooks)
        stack.callback(self._signals.close)
        self._key = add_key(directory / "keys.json", scopes=["read", "live", f"hook:{HOOK}"])
        self.redis = RedisServer(directory / "redis")
        self.redis.start()
        stack.callback(self.redis.kill)
        self.live, self.api = self._live(), self._api()
        self.lines = {name: self._line(number, name) for number, name in enumerate(("ws", "events", "python"))}
        for number, name in enumerate(("redis", "relay"), 3):
            self.lines[name] = self._line(number, name)
        self.relay = self._relay()
        wait_until(lambda: stored_rows(self.root) > 100 and stored_rows(self.us_root) > 10, "the first rows")
        self.readers = self._readers()
        for name, reader in self.readers.items():
            wait_until(lambda r=reader: r.held, f"rows by {name}")

    def _ending(self, process: P) -> P:
        self._stack.callback(process.end)
        self._outputs.append(process)
        return process

    def _live(self) -> ApiServer:
        return self._server("hk-tick-live", HOOKS_DIR=self.hooks)

    def _api(self, port: int = 0) -> ApiServer:
        return self._server("hk-tick-api", API_PORT=port)

    def _server(self, program: str, **settings: object) -> ApiServer:
        keys, roots = self.directory / "keys.json", f"{self.root},{self.us_root}"
        directory = self.directory / "server"
        return self._ending(ApiServer(directory, self.root, program, API_KEYS_FILE=keys, DATA_ROOTS=roots, **settings))

    def _relay(self) -> Process:
        url = f"redis://127.0.0.1:{self.lines['relay'].port}/0"
        env = clean_env(self.directory / "home", DATA_ROOT=self.root, REDIS_URL=url, HOOKS_DIR=self.hooks)
        return self._ending(Process([BIN / "hk-tick-redis"], env))

    def _line(self, number: int, name: str) -> Line:
        target = self.redis.port if name in ("redis", "relay") else self.live.port
        line = Line(target, self.seed * 10 + number, self.size.cut_mean_sec)
        self._stack.callback(line.close)
        return line

    def _readers(self) -> dict[str, Reader]:
        readers: dict[str, Reader] = {
            "WebSocket": OverWebSocket(self.lines["ws"].port, self._key),
            "server-sent events": OverEvents(self.lines["events"].port, self._key),
            "hk.live of a server": OverPython(
                hk.connect(f"http://127.0.0.1:{self.lines['python'].port}", self._key), 1000
            ),
            "hk.live of files": OverPython(hk.local([self.root, self.us_root]), 20),
            "HTTP API": OverApi(self.api.port, self._key),
            "Redis": OverRedis(self.lines["redis"].port),
        }
        for reader in readers.values():
            reader.start()
            self._stack.callback(reader.end)
        return readers

    # What happens

    def play(self) -> None:
        """All that the seed has drawn."""
        size = self.size
        acts: list[Callable[[], None]] = [
            *[self._kill_live] * size.live_kills,
            *[self._kill_api] * size.api_kills,
            *[self._kill_relay] * size.relay_kills,
            *[self._kill_redis] * size.redis_kills,
            *[self._kill_recorder] * size.recorder_kills,
            *[self._fault] * size.faults,
        ]
        self._rng.shuffle(acts)
        acts.insert(self._rng.randrange(len(acts)), self._replace_a_file)
        for act in acts:
            self._more_rows(self._rng.randint(5, self.size.ticks_per_sec))
            self.done.append(act.__name__.strip("_"))
            act()
        while not self._is_next_day:
            self._more_rows(1)
        for name, line in self.lines.items():
            wait_until(lambda line=line: line.cuts >= size.cuts, f"{size.cuts} cuts of the line {name}", 600)
        local = self.readers["hk.live of files"]
        wait_until(lambda: local.ends >= size.cuts, f"{size.cuts} beginnings of hk.live", 600)

    def _add_signal(self) -> None:
        self._signals.add(
            HOOK, "HK.00700", {"symbol": "HK.00700", "act": len(self.done)}, recv_ts_ms=time.time_ns() // 1_000_000,
            cursor=None, sender="run",
        )  # fmt: skip

    def _more_rows(self, rows: int) -> None:
        self._add_signal()
        before = stored_rows(self.root)
        wait_until(
            lambda: stored_rows(self.root) > before + rows or self._stands_before_midnight(),
            f"more rows\n{self.recorder.output[-3000:]}",
        )
        if self._stands_before_midnight():
            self._pass_midnight()

    def _stands_before_midnight(self) -> bool:
        return not self._is_next_day and self.simulator.find(" fault name=stand") is not None

    def _pass_midnight(self) -> None:
        """In peace: what OpenD has not shown by then it shows never again."""
        self.simulator.ctl("clear")
        healed(self.recorder)
        self.simulator.ctl("run")
        wait_until((self.root / f"{NEXT_DAY}.db").exists, "midnight")
        self._is_next_day = True
        self.done.append("midnight")

    def _kill_live(self) -> None:
        self.live.end()
        self.live = self._live()
        for name in ("ws", "events", "python"):
            self.lines[name].target = self.live.port

    def _kill_api(self) -> None:
        self.api.end()
        self.api = self._api(self.api.port)

    def _kill_relay(self) -> None:
        self.relay.end()
        self.relay = self._relay()

    def _kill_redis(self) -> None:
        self.redis.kill()
        self.redis.start()

    def _kill_recorder(self) -> None:
        self.recorder.end()
        self.recorder = self._ending(Recorder(self.root, self.simulator.port, SYMBOLS))

    def _fault(self) -> None:
        words = self._rng.choice(FAULTS)
        self.done[-1] = words
        self.simulator.ctl(words)

    def _replace_a_file(self) -> None:
        """The newest file is damaged while nobody writes; the recorder sets it aside, and what it held is salvaged."""
        assert self.recorder.stop() == 0, self.recorder.output[-3000:]
        damaged = max(self.root.glob("????????.db"))
        self.replaced.add(damaged.stem)
        self._must_hear = {name for name, reader in self.readers.items() if damaged.stem in reader.days}
        with damaged.open("r+b") as file:
            file.seek(-DAMAGED_BYTES, os.SEEK_END)
            file.write(bytes(DAMAGED_BYTES))
        self.recorder = self._ending(Recorder(self.root, self.simulator.port, SYMBOLS))
        aside = self.recorder.wait_for(r'day_file_set_aside .*todo=.*salvage ([^"]+)"').group(1)
        self._more_rows(50)
        salvage = subprocess.run(
            [str(BIN / "hk-tickctl"), "salvage", aside], env=clean_env(self.directory / "home"), capture_output=True,
            text=True, timeout=PATIENCE_SEC, check=False,
        )  # fmt: skip
        assert salvage.returncode in (0, 1), salvage.stdout + salvage.stderr  # all but the rows of damaged pages

    # What is so in the end

    def settle(self) -> None:
        """No more cuts, no more ticks; everybody gets what is left."""
        for line in self.lines.values():
            line.is_calm = True
        self.simulator.ctl("clear")
        self.simulator.ctl("stand")
        self.us_simulator.ctl("stand")
        healed(self.recorder)
        healed(self.us_recorder)
        made = self.made()
        with contextlib.suppress(AssertionError):  # the verdict says what is missing
            wait_until(lambda: made <= self.stored().keys(), "every tick is stored", PATIENCE_SEC)
        signals = self.signals()
        for name, reader in self.readers.items():
            stored = self.stored(reader)
            with contextlib.suppress(AssertionError):
                wait_until(lambda r=reader, s=stored: len(r.held) >= len(s) or r.faults, name, PATIENCE_SEC)
                wait_until(lambda r=reader: len(r.signals) >= len(signals) or not self._hears(r), name, PATIENCE_SEC)

    def made(self) -> set[Key]:
        """What the simulator made since it began."""
        rows = itertools.chain(*(read_truth_flagged(sim.truth) for sim in (self.simulator, self.us_simulator)))
        return {(tick.symbol, tick.seq) for tick, is_history in rows if not is_history}

    def stored(self, reader: Reader | None = None) -> dict[Key, Content]:
        """What the day files hold, of those that a reader reads: the relay has one data root."""
        content_of_key: dict[Key, Content] = {}
        roots = (self.root,) if isinstance(reader, OverRedis) else (self.root, self.us_root)
        for path in [path for root in roots for path in sorted(root.glob("????????.db"))]:
            with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as conn:
                conn.row_factory = sqlite3.Row
                for row in conn.execute(f"SELECT symbol, seq, {', '.join(CONTENT)} FROM ticks"):
                    content_of_key[row["symbol"], row["seq"]] = content_of(row)
        return content_of_key

    def signals(self) -> list[int]:
        """The numbers of all signals."""
        return [signal.number for signal in read_signals(self.hooks)]

    @staticmethod
    def _hears(reader: Reader) -> bool:
        """Is it told of signals, too?"""
        return not isinstance(reader, (OverPython, OverApi))

    def verdict(self) -> list[str]:
        """What is not as promised."""
        checked = [check(self.simulator, self.root), check(self.us_simulator, self.us_root)]
        broken = [f"the day files are not the truth: {process.stdout}" for process in checked if process.returncode]
        for name, reader in self.readers.items():
            stored = self.stored(reader)
            other = _differences(reader.held, stored)
            broken += [f"{name}: {text}" for text in [*reader.faults[:10], *other]]
            broken += [f"{name} is at {reader.where()}"] if other else []
            if self._hears(reader) and reader.signals != self.signals():
                broken.append(f"{name}: signals {reader.signals}, and {len(self.signals())} were stored")
            again = {day: rows for day, rows in reader.again.items() if day not in self.replaced}
            broken += [f"{name}: rows came again of {again}, whose files are as they were"] if again else []
            if isinstance(reader, Channel) and name in self._must_hear and not reader.resets:
                broken.append(f"{name}: nothing was said of a replaced file")
        broken += [
            process.output[process.output.index("Traceback") :][:4000]
            for process in self._outputs
            if "Traceback" in process.output
        ]
        return broken

    def summary(self) -> str:
        """What was done."""
        cuts = ", ".join(f"{name} {line.cuts}" for name, line in self.lines.items())
        held = ", ".join(f"{name} {len(reader.held)}" for name, reader in self.readers.items())
        return (
            f"{len(self.stored())} rows, {len(self.done)} acts ({' '.join(self.done)});"
            f" cuts: {cuts}; held: {held}; replaced: {sorted(self.replaced)}"
        )


def _differences(held: dict[Key, Content], stored: dict[Key, Content]) -> list[str]:
    missing, extra = stored.keys() - held.keys(), held.keys() - stored.keys()
    other = [key for key in held.keys() & stored.keys() if held[key] != stored[key]]
    groups = [(missing, "missing"), (extra, "that nobody made"), (other, "with another content")]
    return [f"{len(keys)} rows {group}, {sorted(keys)[:3]}" for keys, group in groups if keys]


def _start_text(before_midnight_sec: int) -> str:
    minutes, seconds = divmod(24 * 3600 - before_midnight_sec, 60)
    return f"2026-11-20T{minutes // 60:02}:{minutes % 60:02}:{seconds:02}"


def run(directory: Path, size: Size, seed: int) -> tuple[list[str], str]:
    """Play one run: what was not as promised, and what was done."""
    with contextlib.ExitStack() as stack:
        run = Run(directory, size, seed, stack)
        run.play()
        run.settle()
        return run.verdict(), run.summary()
