"""Two recorders of one simulated market on one live channel: each is killed and held up in turn, clients are cut.

What each client holds is the truth, each trade once, and in ``prev`` and ``cursor`` no message was missed.
"""

from __future__ import annotations

import random
import signal
from collections import Counter
from contextlib import ExitStack, closing
from pathlib import Path

import hk_tick_collector as hk
from hk_tick_collector.core.facts import HeadProven, Verified
from hk_tick_collector.opend_sim.truth import read_truth_flagged
from hk_tick_collector.store.signals import SignalStore
from hk_tick_collector.store.writer import DayFileWriter
from tests.harness import Recorder, Simulator, ended, wait_until
from tests.integration.test_live import Reader
from tests.serving import ApiServer, add_key
from tests.serving_truth.line import Line
from tests.serving_truth.readers import HOOK, Content, OverEvents, OverPython, OverWebSocket
from tests.serving_truth.readers import Reader as Truthful
from tests.unit.store_ticks import DAY, ticks

SYMBOLS = "HK.00700,HK.00005,HK.09988"
SEED = 20


class Market:
    """A simulator, two recorders of it, and who reads what they store."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self.stack = stack
        self.simulator = Simulator(
            directory / "sim", "--symbols", SYMBOLS, "--always-open", "--rate", 60, "--seed", SEED,
            "--start", "2026-11-20T10:00:00", "--wait-for-client",
        )  # fmt: skip
        stack.enter_context(ended(self.simulator))
        self.roots = [directory / name / "HK" for name in ("a", "b")]
        self.recorders = [self._recorder(n) for n in range(2)]
        wait_until(lambda: all(recorder.rows() > 50 for recorder in self.recorders), "rows of both")
        key = add_key(directory / "keys.json", scopes=["read", "live", f"hook:{HOOK}"])
        self.signals = stack.enter_context(closing(SignalStore(directory / "hooks")))
        self.live = ApiServer(
            directory / "server", self.roots[0], "hk-tick-live", API_KEYS_FILE=directory / "keys.json",
            DATA_ROOTS=",".join(map(str, self.roots)), HOOKS_DIR=directory / "hooks",
        )  # fmt: skip
        stack.enter_context(ended(self.live))
        self.lines = [Line(self.live.port, SEED + n, 0.7) for n in range(3)]
        for line in self.lines:
            stack.callback(line.close)
        ws, events, python = (line.port for line in self.lines)
        self.readers: dict[str, Truthful] = {
            "WebSocket": OverWebSocket(ws, key),
            "server-sent events": OverEvents(events, key),
            "hk.live of a server": OverPython(hk.connect(f"http://127.0.0.1:{python}", key), 50),
            "hk.live of files": OverPython(hk.local(list(self.roots)), 7),
        }
        for reader in self.readers.values():
            reader.start()
            stack.callback(reader.end)

    def _recorder(self, number: int) -> Recorder:
        self.roots[number].mkdir(parents=True, exist_ok=True)
        recorder = Recorder(self.roots[number], self.simulator.port, SYMBOLS)
        self.stack.enter_context(ended(recorder))
        return recorder

    def truth(self) -> tuple[dict[tuple[str, int], Content], set[tuple[str, int]]]:
        """All that the simulator shows, and what of it was made since it began."""
        rows = list(read_truth_flagged(self.simulator.truth))
        content: dict[tuple[str, int], Content] = {
            (row.symbol, row.seq): (row.ts_ms, row.price, row.volume, row.turnover, row.direction, row.tick_type)
            for row, _ in rows
        }
        return content, {(row.symbol, row.seq) for row, is_history in rows if not is_history}

    def more(self, number: int, rows: int) -> None:
        """The other one stores so many more."""
        other = self.recorders[1 - number]
        before = other.rows()
        wait_until(lambda: other.rows() >= before + rows, "the other one goes on")

    def kill(self, number: int) -> None:
        self.recorders[number].signal(signal.SIGKILL)
        self.recorders[number].wait()
        self.more(number, 150)
        self.recorders[number] = self._recorder(number)
        wait_until(lambda: self.recorders[number].find("backfill_done"), "it is back, and has what it missed")

    def hold(self, number: int) -> None:
        self.recorders[number].signal(signal.SIGSTOP)
        self.more(number, 100)
        self.recorders[number].signal(signal.SIGCONT)
        self.more(1 - number, 100)


def test_every_client_holds_the_truth_and_nothing_twice(tmp_path: Path) -> None:
    with ExitStack() as stack:
        market = Market(tmp_path, stack)
        acts = [(act, number) for act in (market.kill, market.hold) for number in (0, 1)]
        random.Random(SEED).shuffle(acts)
        for act, number in acts:
            act(number)
        market.simulator.ctl("stand")
        truth, made = market.truth()
        for line in market.lines:
            line.is_calm = True
        for name, reader in market.readers.items():

            def has_all(reader: Truthful = reader) -> bool:
                return bool(reader.faults) or made <= reader.held.keys()

            wait_until(has_all, f"all of {len(made)} ticks by {name}")
        assert all(line.cuts for line in market.lines)
        for name, reader in market.readers.items():
            assert (name, reader.faults, reader.again) == (name, [], Counter())
            assert made <= reader.held.keys() <= truth.keys(), name
            assert all(truth[key] == content for key, content in reader.held.items()), name


def test_completeness_is_told_of_both_together(tmp_path: Path) -> None:
    """Proven by one is proven; a symbol of one alone is as it says."""
    roots = [tmp_path / name / "HK" for name in ("a", "b")]
    evening_ms = ticks(1)[0].ts_ms + 8 * 3_600_000
    with ExitStack() as held:
        first, second = (held.enter_context(closing(DayFileWriter(root))) for root in roots)
        first.write([*ticks(4), *ticks(6, 8)])
        second.write(ticks(13))
        second.write(ticks(3, symbol="HK.00005"))
        second.write([], [HeadProven("HK.00700", DAY, 1), Verified("HK.00700", DAY, 13, evening_ms)])
        server = ApiServer(
            tmp_path / "server", roots[0], "hk-tick-live", API_ANONYMOUS=1, DATA_ROOTS=",".join(map(str, roots))
        )
        held.enter_context(ended(server))
        reader = Reader(server.url, symbols="700,5", since="day")
        reader.until()
        told = [row for message in reader.others if message["type"] == "coverage" for row in message["symbols"]]
        assert {row["symbol"]: (row["state"], row["missing_ticks"]) for row in told} == {
            "HK.00700": ("proven", 0), "HK.00005": ("unproven", 0),
        }  # fmt: skip
        assert not [message for message in reader.others if message["type"] == "gap"]
        assert len(reader.rows) == 16
        metrics = server.client().get("/v1/live/metrics").text
        assert 'hk_live_held{root="1"} 0.0' in metrics
