"""What OpenD knows of one symbol from the ticks that were handed out: newest ticks, K-lines, the day's totals.

Limits: 1,000 ticks (as OpenD keeps), 2,000 one-minute bars, 30 days. Only prints that make a
price in their market set last, high and low; odd lots and off-exchange prints count in volume and turnover alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from hk_tick_collector.opend_sim.instruments import Instrument
from hk_tick_collector.opend_sim.simtick import SimTick
from hk_tick_collector.opend_sim.venue import venue_of

KEPT_TICKS = 1500  # OpenD shows 1,000
KEPT_MINUTES = 2000
KEPT_DAYS = 30


@dataclass(slots=True)
class Bar:
    """A K-line: prices and turnover in the market's money, volume in shares; times are UTC epoch milliseconds."""

    start_ms: int
    open: float
    high: float
    low: float
    close: float
    volume: int
    turnover: float
    prev_close: float
    end_ms: int = 0
    flat: bool = False  # nothing in it made a price: it shows the one before


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A symbol's day so far. Before its first trade the prices are the last close and the amounts are 0."""

    symbol: str
    last: float
    open: float
    high: float
    low: float
    prev_close: float
    volume: int
    turnover: float
    update_ts_ms: int  # time of the newest tick, 0 when there is none


class SymbolBook:
    """One symbol. Ticks are added in the order in which they were made."""

    __slots__ = (
        "_day_bars", "_day_end_ms", "_last", "_market", "_minute_bars", "_price_making", "_update_ts_ms", "symbol",
        "ticks",
    )  # fmt: skip

    def __init__(self, instrument: Instrument) -> None:
        self.symbol = instrument.code
        self._market = venue_of(instrument.code).market
        self._price_making = self._market.trade_types.price_making
        self.ticks: deque[SimTick] = deque(maxlen=KEPT_TICKS)
        self._minute_bars: deque[Bar] = deque(maxlen=KEPT_MINUTES)
        self._day_bars: deque[Bar] = deque(maxlen=KEPT_DAYS)
        self._last = instrument.prev_close
        self._update_ts_ms = 0
        self._day_end_ms = 0

    def add(self, tick: SimTick) -> None:
        """Take a tick in; a new trading day drops the earlier day's ticks."""
        ts_ms = tick.ts_ms
        if ts_ms >= self._day_end_ms:
            day = self._market.trading_day(ts_ms)
            self._day_end_ms = self._market.day_bounds(day)[1]
            self.ticks.clear()
            self._day_bars.append(self._new_bar(self._market.zone.midnight_ms(day), self._day_end_ms))
        self.ticks.append(tick)
        self._update_ts_ms = ts_ms
        minutes = self._minute_bars
        if not minutes or ts_ms >= minutes[-1].start_ms + 60_000:
            start_ms = ts_ms - ts_ms % 60_000
            minutes.append(self._new_bar(start_ms, start_ms + 60_000))
        minute, day_bar = minutes[-1], self._day_bars[-1]
        price = tick.price
        if tick.tick_type in self._price_making:
            self._last = price
            for bar in (minute, day_bar):
                if bar.open < 0:
                    bar.open = bar.high = bar.low = price
                elif price > bar.high:
                    bar.high = price
                elif price < bar.low:
                    bar.low = price
                bar.close = price
        minute.volume += tick.volume
        minute.turnover += tick.turnover
        day_bar.volume += tick.volume
        day_bar.turnover += tick.turnover

    def forget(self) -> None:
        """The day's ticks are shown no more."""
        self.ticks.clear()

    def recent(self, count: int) -> list[SimTick]:
        """The newest ``count`` ticks of the symbol's day, at most KEPT_TICKS, oldest first."""
        skipped = max(0, len(self.ticks) - max(count, 0))
        return list(self.ticks)[skipped:]

    def newest_minutes(self) -> Iterator[Bar]:
        """One-minute bars, newest first."""
        return map(_shown, reversed(self._minute_bars))

    def newest_days(self) -> Iterator[Bar]:
        """Day bars, newest first."""
        return map(_shown, reversed(self._day_bars))

    def snapshot(self) -> Snapshot:
        if not self._day_bars:
            last = self._last
            return Snapshot(self.symbol, last, last, last, last, last, 0, 0.0, 0)
        day = _shown(self._day_bars[-1])
        return Snapshot(
            self.symbol,
            self._last,
            day.open,
            day.high,
            day.low,
            day.prev_close,
            day.volume,
            day.turnover,
            self._update_ts_ms,
        )

    def _new_bar(self, start_ms: int, end_ms: int) -> Bar:
        return Bar(start_ms, -1.0, -1.0, -1.0, self._last, 0, 0.0, self._last, end_ms)


def _shown(bar: Bar) -> Bar:
    """A copy; a bar in which nothing has set a price shows the price before it."""
    flat = bar.open < 0
    return Bar(
        bar.start_ms,
        bar.close if flat else bar.open,
        bar.close if flat else bar.high,
        bar.close if flat else bar.low,
        bar.close,
        bar.volume,
        bar.turnover,
        bar.prev_close,
        bar.end_ms,
        flat,
    )
