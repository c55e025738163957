"""When prints happen and of which symbol: the rhythm of the simulated market, without prices.

A schedule is asked for one step of market time after the other and gives (ts_ms, rank) pairs, sorted. What it gives
depends on its random numbers and on the order of the steps only. Three rhythms exist:

- ``SteadySchedule``: a fixed number of prints a second, evenly spread. For load.
- ``LivelySchedule``: a day as the market has it. Intensity is high after the open, falls, and rises to the close;
  prints excite prints (a discrete Hawkes process with a memory of a second), come in small runs of one symbol (1.7 on
  the average, as OpenD's pushes do), and now and then one symbol is in the news for some seconds.
- ``SparseSchedule``: a given number of prints over a long time, in steps of a minute. For cheap history.

Symbols are drawn by Zipf-Mandelbrot weights of their rank: of 900 symbols ten make a fifth of all prints and a tenth
makes two thirds.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import accumulate
from random import Random
from typing import Protocol

from hk_tick_collector.market.dates import DAY_MS

LEADER_RATE_PER_SEC = 2.5  # prints of the most traded symbol, average of the day: some 50,000 a day
ALWAYS_OPEN_INTENSITY = 1.5
_ZIPF_SHIFT = 12.0
_COUNTED_FROM_MS = 8 * 3_600_000
_ZIPF_EXPONENT = 1.3

_RUN_LENGTHS = (1,) * 12 + (2,) * 4 + (3,) * 2 + (4, 5)
_MEAN_RUN = sum(_RUN_LENGTHS) / len(_RUN_LENGTHS)
_EXCITED_SHARE = 0.5  # each print causes so many others on the average
_MEMORY_DECAY = 0.9  # a step of 100 ms
_NEWS_CHANCE_A_STEP = 1 / 3_000  # one in five minutes
_NEWS_EXTRA = 0.3


class Schedule(Protocol):
    """Prints of one step of ``step_ms``; steps are asked for in order."""

    step_ms: int

    def prints(self, start_ms: int) -> list[tuple[int, int]]:
        """(ts_ms, rank) of the prints in [start_ms, start_ms + step_ms), sorted by time."""
        ...

    def quiet_until_ms(self, start_ms: int) -> int:
        """The start of a step that need not be asked for those before it, from ``start_ms`` on: they have no print."""
        ...


def symbol_weights(count: int) -> list[float]:
    """Share of each rank's prints relative to the leader's (1.0)."""
    return [((_ZIPF_SHIFT + 1) / (_ZIPF_SHIFT + 1 + rank)) ** _ZIPF_EXPONENT for rank in range(count)]


def lively_rate_per_sec(count: int) -> float:
    """Average prints a second of continuous trading for that many symbols."""
    return LEADER_RATE_PER_SEC * sum(symbol_weights(count))


def intensity(since_start_ms: int, to_close_ms: int, is_opening: bool) -> float:
    """How busy continuous trading is so long after its start (the day's opening, or that after a pause) and before
    the day's close, 1.0 on the average of a whole day."""
    to_close_sec = to_close_ms / 1000
    sec = since_start_ms / 1000
    if is_opening:
        value = 30 * math.exp(-sec / 25) + 3 * math.exp(-sec / 240) + 1.2 * math.exp(-sec / 1800)
    else:
        value = 2 * math.exp(-sec / 60) + 0.6 * math.exp(-sec / 900)
    return 0.75 + value + 2 * math.exp(-to_close_sec / 300) + 5 * math.exp(-to_close_sec / 20)


class _Draw:
    """Ranks by weight, many at once."""

    def __init__(self, count: int, rng: Random) -> None:
        self._rng = rng
        self._ranks = range(count)
        self._cumulative = list(accumulate(symbol_weights(count)))

    def ranks(self, count: int) -> list[int]:
        return self._rng.choices(self._ranks, cum_weights=self._cumulative, k=count)


class SteadySchedule:
    """``rate_per_sec`` prints a second, spread evenly to the millisecond."""

    step_ms = 10

    def __init__(self, rate_per_sec: float, symbols: int, rng: Random) -> None:
        self._rate_per_sec = rate_per_sec
        self._draw = _Draw(symbols, rng)

    def prints(self, start_ms: int) -> list[tuple[int, int]]:
        # Counted from one instant of each day, whatever a market's clock shows then, so that the number of prints up
        # to any instant is exact.
        of_day_ms = (start_ms + _COUNTED_FROM_MS) % DAY_MS
        before = math.floor(self._rate_per_sec * of_day_ms / 1000)
        count = math.floor(self._rate_per_sec * (of_day_ms + self.step_ms) / 1000) - before
        if count == 0:
            return []
        step_ms = self.step_ms
        return [(start_ms + i * step_ms // count, rank) for i, rank in enumerate(self._draw.ranks(count))]

    def quiet_until_ms(self, start_ms: int) -> int:
        of_day_ms = (start_ms + _COUNTED_FROM_MS) % DAY_MS
        due_ms = (math.floor(self._rate_per_sec * of_day_ms / 1000) + 1) * 1000 / self._rate_per_sec
        quiet_steps = int((min(due_ms, DAY_MS) - of_day_ms) // self.step_ms) - 1  # one less: for rounding, and its own
        return start_ms + max(0, quiet_steps) * self.step_ms


class SparseSchedule:
    """``total`` prints spread over ``active_ms`` of trading."""

    step_ms = 60_000

    def __init__(self, total: int, active_ms: int, symbols: int, rng: Random) -> None:
        self._per_step = total * self.step_ms / max(active_ms, 1)
        self._owed = 0.0
        self._rng = rng
        self._draw = _Draw(symbols, rng)

    def prints(self, start_ms: int) -> list[tuple[int, int]]:
        self._owed += self._per_step
        count = math.floor(self._owed)
        self._owed -= count
        span_ms = self.step_ms
        return sorted((start_ms + int(self._rng.random() * span_ms), rank) for rank in self._draw.ranks(count))

    def quiet_until_ms(self, start_ms: int) -> int:
        return start_ms  # each step adds to what is owed


class LivelySchedule:
    """The market's own rhythm; ``busy`` gives the intensity at an instant."""

    step_ms = 100

    def __init__(self, symbols: int, rng: Random, busy: Callable[[int], float]) -> None:
        self._symbols = symbols
        self._rng = rng
        self._busy = busy
        self._draw = _Draw(symbols, rng)
        self._base_per_step = lively_rate_per_sec(symbols) * self.step_ms / 1000 / _MEAN_RUN * (1 - _EXCITED_SHARE)
        self._excited = 0.0
        self._news_until_ms = 0
        self._news_rank = 0

    def prints(self, start_ms: int) -> list[tuple[int, int]]:
        rng = self._rng
        expected = self._base_per_step * self._busy(start_ms) + self._excited
        runs = poisson(rng, expected)
        self._excited = self._excited * _MEMORY_DECAY + _EXCITED_SHARE * (1 - _MEMORY_DECAY) * runs
        ranks = self._draw.ranks(runs) if runs else []
        if rng.random() < _NEWS_CHANCE_A_STEP:
            self._news_until_ms = start_ms + rng.randrange(5_000, 60_000)
            self._news_rank = rng.randrange(min(self._symbols, 100))
        if start_ms < self._news_until_ms:
            ranks += [self._news_rank] * poisson(rng, max(expected * _NEWS_EXTRA, 0.5))
        prints: list[tuple[int, int]] = []
        last_ms = start_ms + self.step_ms - 1
        for rank in ranks:
            ts_ms = start_ms + int(rng.random() * self.step_ms)
            for _ in range(rng.choice(_RUN_LENGTHS)):
                prints.append((ts_ms, rank))
                ts_ms = min(ts_ms + rng.randrange(3), last_ms)
        prints.sort()
        return prints

    def quiet_until_ms(self, start_ms: int) -> int:
        return start_ms  # each step is drawn


def poisson(rng: Random, mean: float) -> int:
    """A Poisson number; by the normal distribution where the mean is large."""
    if mean > 50:
        return max(0, round(rng.gauss(mean, math.sqrt(mean))))
    limit = math.exp(-mean)
    product = rng.random()
    count = 0
    while product > limit:
        product *= rng.random()
        count += 1
    return count
