"""The market as OpenD sees it: ticks arrive some milliseconds after they happened, and go to the truth file then.

Owns the clock, the exchange and the truth file. ``step()`` moves the market to now and gives the ticks that arrived
since, each symbol's in the order they were made; what has not arrived yet is in no answer either. Limits: ticks under
way are held in memory, a second of the market at most.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from typing import Protocol

from hk_tick_collector.opend_sim.book import KEPT_TICKS
from hk_tick_collector.opend_sim.simclock import SimClock
from hk_tick_collector.opend_sim.simtick import NEVER_MS, SimTick
from hk_tick_collector.opend_sim.source import MarketSource


class TruthSink(Protocol):
    """Where every tick that arrived is written down."""

    def write(self, ticks: Sequence[SimTick], history: bool = False) -> None: ...

    def close(self) -> None: ...


class MarketFeed:
    """The exchange behind OpenD. Times are UTC epoch milliseconds of the simulated market."""

    def __init__(self, exchange: MarketSource, clock: SimClock, truth: TruthSink | None = None) -> None:
        self.exchange = exchange
        self.clock = clock
        self._truth = truth
        self._under_way: list[tuple[int, int, SimTick]] = []
        self._made = 0
        self._renumber = ""
        self._renumber_command: object = None
        self._counters: dict[str, tuple[int, int]] = {}
        self.alter: Callable[[SimTick], None] = lambda _tick: None  # what else becomes of a tick that was made
        self.arrived_ticks = 0
        self._at_ms = clock.start_ms
        exchange.told_of_arrivals = True  # no answer and no K-line shows a tick that is still under way

    def now_ms(self) -> int:
        """The market's time; in a replay that of what was played."""
        return self._at_ms if self.exchange.recorded else self.clock.now_ms()

    @property
    def next_ms(self) -> int:
        """No tick is made and none arrives before then."""
        under_way_ms = self._under_way[0][0] if self._under_way else NEVER_MS
        return min(under_way_ms, self.exchange.next_ms)

    def knows(self, symbol: str) -> bool:
        return symbol in self.exchange.instruments

    def name_of(self, symbol: str) -> str:
        return self.exchange.instruments[symbol].name

    def step(self, until_ms: int | None = None) -> list[SimTick]:
        """Make the market's ticks up to then, or now; the ticks that reached OpenD since the last step."""
        now_ms = self._at_ms = self.clock.now_ms() if until_ms is None else until_ms
        for tick in self.exchange.advance(now_ms):
            self._send_off(tick)
        arrived: list[SimTick] = []
        while self._under_way and self._under_way[0][0] <= now_ms:
            arrived.append(heapq.heappop(self._under_way)[2])
        self.exchange.remember(arrived)
        self.record(arrived)
        return arrived

    def record(self, ticks: Sequence[SimTick]) -> None:
        """Count and write down ticks that arrived."""
        if ticks:
            self.arrived_ticks += len(ticks)
            if self._truth is not None:
                self._truth.write(ticks)

    def record_history(self) -> None:
        """Write down the ticks from before the simulation, which pulls can show."""
        if self._truth is not None:
            self._truth.write(self.exchange.history(), history=True)

    def recent(self, symbol: str, count: int) -> list[SimTick]:
        """The newest ticks that have arrived, oldest first."""
        return self.exchange.recent(symbol, count)

    def recent_as_of(self, symbol: str, count: int, then_ms: int) -> list[SimTick]:
        """As ``recent`` would have answered then, of ticks that are still kept."""
        return [tick for tick in self.exchange.recent(symbol, KEPT_TICKS) if tick.recv_ts_ms <= then_ms][-count:]

    def renumber(self, kind: str, command: object = None) -> None:
        """New ticks get other sequences from now on; "" goes back to the exchange's own. See ``faults.py``.

        Every new ``command`` begins anew, also one of the same kind that came before anybody saw the old one end."""
        if kind != self._renumber or command is not self._renumber_command:
            self._renumber, self._renumber_command = kind, command
            self._counters.clear()

    def close(self) -> None:
        """Everything that arrived is on disk."""
        if self._truth is not None:
            self._truth.close()

    def _send_off(self, tick: SimTick) -> None:
        if self._renumber:
            # In place: the exchange's cache, the truth file and the push then all show the same tick.
            tick.seq = self._new_sequence(tick)
        self.alter(tick)
        self._made += 1
        heapq.heappush(self._under_way, (tick.recv_ts_ms, self._made, tick))

    def _new_sequence(self, tick: SimTick) -> int:
        second = tick.seq >> 32
        last_second, count = self._counters.get(tick.symbol, (second, 0))
        count = 1 if self._renumber == "second" and second != last_second else count + 1
        self._counters[tick.symbol] = (second, count)
        return (second << 32) | count
