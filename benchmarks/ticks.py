"""Ticks made here, for what needs millions of rows without an OpenD: 900 symbols, a heavy tail, in order of time."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from pathlib import Path

from benchmarks.rig import SYMBOLS_COUNT
from hk_tick_collector.market.hk.sessions import MORNING_START_MS, day_start_ms
from hk_tick_collector.opend_sim.instruments import default_symbols
from hk_tick_collector.records.tick import Tick
from hk_tick_collector.store.writer import DayFileWriter

TAIL = 0.9  # the n-th most traded symbol has 1 / n ** TAIL of the first one's ticks
_TYPES = (("AUTO_MATCH", " "),) * 8 + (("INTER_AUTO_MATCH", "Y"), ("INTER_NON_AUTO_MATCH", "X"))
BATCH_ROWS = 5_000
_SPAN_MS = int(5.5 * 3_600_000)


class TickSource:
    """Endless ticks of one day, the same ones for the same seed. ``rows_a_day`` sets how time goes on."""

    def __init__(
        self, day: str, rows_a_day: int = 5_000_000, seed: int = 1, symbols_count: int = SYMBOLS_COUNT
    ) -> None:
        self._day = day
        self._random = random.Random(seed)
        self._start_ms = day_start_ms(day) + MORNING_START_MS
        self._rows_a_day = rows_a_day
        self._symbols = default_symbols(symbols_count)
        self._weights = list(itertools.accumulate(1 / (n + 1) ** TAIL for n in range(len(self._symbols))))
        self._counters = dict.fromkeys(self._symbols, 0)
        self._prices = {symbol: self._random.randint(50, 4000) for symbol in self._symbols}  # in steps of 0.1
        self._made = 0

    def take(self, rows: int) -> list[Tick]:
        """The next ticks."""
        return list(itertools.islice(self._ticks(rows), rows))

    def _ticks(self, rows: int) -> Iterator[Tick]:
        draw = self._random
        for symbol in draw.choices(self._symbols, cum_weights=self._weights, k=rows):
            self._made += 1
            ts_ms = self._start_ms + self._made * _SPAN_MS // self._rows_a_day
            self._counters[symbol] += 1
            self._prices[symbol] = steps = max(10, self._prices[symbol] + draw.choice((-1, 0, 0, 1)))
            volume = draw.randint(1, 40) * 100
            kind, sign = draw.choice(_TYPES)
            yield Tick(
                symbol, ts_ms, steps / 10, volume, steps * volume / 10, draw.choice(("BUY", "SELL", "NEUTRAL")),
                (ts_ms // 1000) << 32 | self._counters[symbol], kind, "push", self._day,
                ts_ms + draw.randint(35, 200), "REALTIME", ts_ms + draw.randint(30, 100), sign,
            )  # fmt: skip


def store(root: Path, source: TickSource, ticks: int) -> None:
    """The source's next ticks into day files."""
    writer = DayFileWriter(root)
    for made in range(0, ticks, BATCH_ROWS):
        writer.write(source.take(min(BATCH_ROWS, ticks - made)))
    writer.close()
