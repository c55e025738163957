"""The source before a simulated gateway, on a clock that the test moves; what it hands over goes into day files."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from hk_tick_collector.core.evidence import EvidenceLevel
from hk_tick_collector.core.facts import DayFact, Fact
from hk_tick_collector.imports.stored import RecordedDays
from hk_tick_collector.market.tw import TW
from hk_tick_collector.records.tick import Origin, RejectedTick, Tick
from hk_tick_collector.shioaji_sim.cli import compare
from hk_tick_collector.shioaji_sim.server import Exchange, start_server
from hk_tick_collector.shioaji_sim.tape import Event, Tape, read_truth
from hk_tick_collector.sims.rest import HOST
from hk_tick_collector.sources.shioaji import spec
from hk_tick_collector.sources.shioaji.link import ShioajiLink, ShioajiSource
from hk_tick_collector.sources.shioaji.replay import Replay
from hk_tick_collector.store import data_root
from hk_tick_collector.store.reader import CoverageRow, coverage
from hk_tick_collector.store.writer import DayFileWriter
from tests.clock import ManualClock

SYMBOLS = ("TW.2330", "TW.2317", "TWF.TXFL6")
DEADLINE_SEC = 60.0


class StoreSink:
    """Keeps what came until ``flush``, on the thread that owns the files."""

    def __init__(self, root: Path) -> None:
        data_root.claim(root, "TW")
        self._writer = DayFileWriter(root, origin=Origin("TW", "shioaji"), evidence=EvidenceLevel.RUNNING_TOTAL)
        self._lock = threading.Lock()
        self._ticks: list[Tick] = []
        self._facts: list[Fact | DayFact] = []
        self.rejected: list[RejectedTick] = []
        self.pushed = 0

    def push(self, messages: Sequence[Sequence[Tick]], *, replayed: bool = False) -> None:
        with self._lock:
            for ticks in messages:
                self._ticks += ticks
                self.pushed += len(ticks)

    def reject(self, rejected: Sequence[RejectedTick]) -> None:
        with self._lock:
            self.rejected += rejected

    def learn(self, facts: Sequence[Fact | DayFact]) -> None:
        with self._lock:
            self._facts += facts

    def waiting_rows(self) -> int:
        return 0

    def changed(self, interrupted: bool = False) -> None:
        raise AssertionError("a gateway says nothing of itself")

    def flush(self) -> None:
        with self._lock:
            ticks, facts = self._ticks, self._facts
            self._ticks, self._facts = [], []
        self._writer.write(ticks, facts)

    def close(self) -> None:
        self._writer.close()


class Desk:
    """Make it inside a loop; ``close`` it."""

    def __init__(self, root: Path, start: str, clock: str, *, goes_on: bool = False) -> None:
        self.root = root / "TW"
        self.root.mkdir()
        self.truth = root / "truth.jsonl"
        self.clock = ManualClock(at_ms(start, clock))
        tape = Tape([symbol.partition(".")[2] for symbol in SYMBOLS], 5, self.truth, goes_on=goes_on)
        self.exchange = Exchange(tape, 0, self.clock.now_ms)
        self.server = start_server(self.exchange, 0)
        url = f"http://{HOST}:{self.server.server_port}"
        self.source = ShioajiSource(spec.TW, url, None, RecordedDays(self.root, 8), self.clock)
        self.sink = StoreSink(self.root)
        self.replay = Replay(self.source.gateway, TW, self.source.stored, self.sink, self.clock)
        self.link: ShioajiLink | None = None

    async def connect(self, symbols: Sequence[str] = SYMBOLS) -> None:
        self.link = self.source.open(self.sink)
        await self.link.open(10)
        await self.link.subscribe(symbols, 10)
        self.replay.wanted = self.link._replay.wanted
        for symbol in self.replay.wanted:
            self.replay._since_ms.setdefault(symbol, self.clock.now_ms())

    def disconnect(self) -> None:
        assert self.link is not None
        self.link.close()

    def go_to(self, day: str, clock: str) -> None:
        """Forward only."""
        ahead_ms = at_ms(day, clock) - self.clock.now_ms()
        assert ahead_ms >= 0, f"{day} {clock} is over"
        self.clock.advance(ahead_ms / 1000)

    async def trade(self, count: int, over_sec: float = 60.0) -> list[Event]:
        """So many ticks, and all that were told are with us."""
        events: list[Event] = []
        for _ in range(4):
            events += self.exchange.trade(count // 4)
            self.clock.advance(over_sec / 4)
        await self.until(lambda: self.sink.pushed + len(self.sink.rejected) >= self.told)
        return events

    @property
    def told(self) -> int:
        """By the simulator, in all."""
        return sum(event["shown"] for event in read_truth(self.truth))

    async def until(self, condition: Callable[[], object]) -> None:
        deadline_sec = asyncio.get_running_loop().time() + DEADLINE_SEC
        while not condition():
            assert asyncio.get_running_loop().time() < deadline_sec, "not in time"
            await asyncio.sleep(0.01)

    def states(self, day: str) -> dict[str, str]:
        return {row.symbol: row.state for row in self.rows(day)}

    def rows(self, day: str) -> list[CoverageRow]:
        self.sink.flush()
        return coverage(self.root / f"{day}.db")

    async def compare_days(self) -> None:
        """What the replay's thread does every few seconds."""
        self.sink.flush()
        await asyncio.to_thread(self.replay.check)
        self.sink.flush()

    def checked(self) -> dict[str, int]:
        self.sink.flush()
        return compare(read_truth(self.truth), self.root)

    def close(self) -> None:
        if self.link is not None:
            self.link.close()
        self.sink.close()
        self.server.shutdown()
        self.server.server_close()


def at_ms(day: str, clock: str) -> int:
    hours, minutes = clock.split(":")
    return TW.zone.at_ms(day, (int(hours) * 60 + int(minutes)) * 60_000)
