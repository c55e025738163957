"""The simulated exchange: ticks of a believable market, by seed, as market time goes on.

Promises: with the same configuration and the same start the ticks are the same, however ``advance`` slices the time;
each symbol's sequence is made as its ``Venue`` numbers: in Hong Kong ``(epoch second << 32) | counter`` with a counter
that is contiguous within its day and begins at a value drawn from the seed. Ticks come out in the order in which they
were made.

Phases follow the ``Market`` and the trading calendar. In Hong Kong: one auction print a symbol between 09:20 and 09:22,
continuous trading, odd lots while the closing auction collects orders, one auction print a symbol at 16:08:10-16:08:17
(half day 12:08). ``always_open`` trades at any hour of any day instead, without auctions.

An exchange that starts in mid-day has a past: sparse prints since the trading day before, then the last
thousands of prints at full rate, so that the newest 1,000 of an active symbol look as they should. Those are in
``history()``, never in ``advance``.
Limits: history is some ``history_ticks`` prints (twice that when the close of a day falls in it); at most one step is
made ahead of the time asked for (10 ms at a steady rate, else 100 ms).
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from random import Random

from hk_tick_collector.market.calendar import TradingCalendar
from hk_tick_collector.market.dates import add_days
from hk_tick_collector.market.hours import CONTINUOUS, DayKind, Phase
from hk_tick_collector.market.market import Market
from hk_tick_collector.opend_sim.book import Bar, Snapshot
from hk_tick_collector.opend_sim.instruments import Instrument, list_instruments
from hk_tick_collector.opend_sim.prints import AUCTION, ODD_LOT, PrintMaker
from hk_tick_collector.opend_sim.schedule import (
    ALWAYS_OPEN_INTENSITY,
    LivelySchedule,
    Schedule,
    SparseSchedule,
    SteadySchedule,
    intensity,
    lively_rate_per_sec,
)
from hk_tick_collector.opend_sim.simtick import SimTick
from hk_tick_collector.opend_sim.source import MarketSource, market_state_of
from hk_tick_collector.opend_sim.venue import venue_of_all

__all__ = ["Bar", "Exchange", "Instrument", "MarketConfig", "SimTick", "Snapshot", "market_state_of"]

# OpenD got the ticks of a live run of 2026 so long after the event.
LIVE_DELAY_MS = (35, 444)
_IN_AUCTIONS = ("STOCK", "ETF")
DEFAULT_HISTORY_TICKS = 30_000


@dataclass(frozen=True)
class MarketConfig:
    """What is traded and how much.

    ``rate_per_sec`` is the steady number of ticks of all symbols in a second of continuous trading; None is the
    market's own rhythm, with ``activity`` times as many ticks. ``delay_ms`` is the (least, most) time until OpenD has a
    tick; None is as seen live, or 0 at a steady rate.
    ``no_ms_share`` is the share of times without milliseconds.
    """

    symbols: list[str]
    seed: int = 1
    rate_per_sec: float | None = None
    always_open: bool = False
    delay_ms: tuple[int, int] | None = None
    no_ms_share: float = 0.004
    history_ticks: int = DEFAULT_HISTORY_TICKS
    activity: float = 1.0

    def __post_init__(self) -> None:
        if not self.symbols:
            raise ValueError("a market needs at least one symbol")
        if self.rate_per_sec is not None and not 0 < self.rate_per_sec <= 1_000_000:
            raise ValueError(f"rate_per_sec {self.rate_per_sec} is not above 0 and at most 1000000")
        if not 0 < self.activity <= 1_000:
            raise ValueError(f"activity {self.activity} is not above 0 and at most 1000")
        if self.delay_ms is not None and not 0 <= self.delay_ms[0] <= self.delay_ms[1]:
            raise ValueError(f"delay_ms {self.delay_ms} is not (least, most) with 0 <= least <= most")
        if not 0 <= self.no_ms_share <= 1:
            raise ValueError(f"no_ms_share {self.no_ms_share} is not between 0 and 1")
        if self.history_ticks < 0:
            raise ValueError(f"history_ticks {self.history_ticks} is negative")

    @property
    def delay_range_ms(self) -> tuple[int, int]:
        """The delay in force."""
        if self.delay_ms is not None:
            return self.delay_ms
        return LIVE_DELAY_MS if self.rate_per_sec is None else (0, 0)


@dataclass
class _DayPlan:
    """What a day holds: trading windows, and single prints (ts_ms, rank, type) outside them in order of time."""

    end_ms: int
    windows: list[tuple[int, int]]
    specials: list[tuple[int, int, str]]
    specials_done: int = 0

    def is_trading(self, at_ms: int) -> bool:
        # Asked at each step of a day: a generator costs more than the answer.
        for start_ms, end_ms in self.windows:  # noqa: SIM110
            if start_ms <= at_ms < end_ms:
                return True
        return False

    def specials_until(self, before_ms: int) -> list[tuple[int, int, str]]:
        first = self.specials_done
        while self.specials_done < len(self.specials) and self.specials[self.specials_done][0] < before_ms:
            self.specials_done += 1
        return self.specials[first : self.specials_done]

    def next_active_ms(self, at_ms: int, step_ms: int) -> int:
        """The first step from ``at_ms`` on in which something can happen; the next midnight when nothing does."""
        if self.is_trading(at_ms):
            return at_ms
        candidates = [self.end_ms]
        candidates += [max(start, at_ms) for start, end in self.windows if at_ms < end]
        if self.specials_done < len(self.specials):
            special_ms = self.specials[self.specials_done][0]
            candidates.append(max(special_ms - special_ms % step_ms, at_ms))
        return min(candidates)

    def steps_alike(self, at_ms: int, step_ms: int) -> int:
        """How many steps from ``at_ms`` on lie in its window and hold no single print; 0 outside of trading."""
        until_ms = next((end for start, end in self.windows if start <= at_ms < end), at_ms)
        steps = -(-(until_ms - at_ms) // step_ms)
        if self.specials_done < len(self.specials):
            steps = min(steps, max(0, self.specials[self.specials_done][0] - at_ms) // step_ms)
        return steps


class Exchange(MarketSource):
    """The market from ``clock_start_ms`` (UTC epoch milliseconds) on. Not thread-safe: one owner."""

    def __init__(self, config: MarketConfig, clock_start_ms: int, calendar: TradingCalendar | None = None) -> None:
        super().__init__(list_instruments(config.symbols, config.seed), calendar, venue_of_all(config.symbols))
        self.config = config
        self._ranked = sorted(self.instruments.values(), key=lambda instrument: instrument.rank)
        self._maker = PrintMaker(self._ranked, config.seed, config.no_ms_share, config.delay_range_ms, self.venue)
        self._schedule = self._live_schedule()
        self._made: list[SimTick] = []
        self._made_ms: list[int] = []
        self._next_ms = clock_start_ms - clock_start_ms % self._schedule.step_ms
        self._plan = _DayPlan(0, [], [])
        self._opens_ms = self._close_ms = 0
        if config.history_ticks:
            self._make_past(self._next_ms)
        else:
            self._open_day(self._next_ms)
            self._plan.specials_until(self._next_ms)
        self._history = self.advance(clock_start_ms)

    def advance(self, until_ms: int) -> list[SimTick]:
        while self._next_ms <= until_ms:
            self._step(self._schedule)
        count = bisect_right(self._made_ms, until_ms)
        ticks = self._made[:count]
        del self._made[:count]
        del self._made_ms[:count]
        if not self.told_of_arrivals:
            self.remember(ticks)
        return ticks

    @property
    def next_ms(self) -> int:
        return min(self._made_ms[0], self._next_ms) if self._made_ms else self._next_ms

    def market_state(self, now_ms: int) -> str:
        return market_state_of(now_ms, self._kind(self._day(now_ms)), self.config.always_open, self.venue)

    def _step(self, schedule: Schedule) -> None:
        start_ms = self._next_ms
        if start_ms >= self._plan.end_ms:
            self._open_day(start_ms)
        plan = self._plan
        end_ms = start_ms + schedule.step_ms
        for ts_ms, rank, tick_type in plan.specials_until(end_ms):
            self._made.append(self._maker.special(ts_ms, rank, tick_type))
            self._made_ms.append(ts_ms)
        if plan.is_trading(start_ms):
            if self.venue.extended:
                self._maker.enter(self._is_extended(start_ms))
            prints = schedule.prints(start_ms)
            self._made += self._maker.trade(prints)
            self._made_ms += [ts_ms for ts_ms, _ in prints]
        self._next_ms = self._next_step_ms(schedule, end_ms)

    def _next_step_ms(self, schedule: Schedule, end_ms: int) -> int:
        """The first step from ``end_ms`` on that can make a print."""
        step_ms = schedule.step_ms
        at_ms = self._plan.next_active_ms(end_ms, step_ms)
        quiet_ms = schedule.quiet_until_ms(at_ms)
        if quiet_ms == at_ms:
            return at_ms
        quiet_ms = min(quiet_ms, at_ms + self._plan.steps_alike(at_ms, step_ms) * step_ms)
        return self._plan.next_active_ms(quiet_ms, step_ms)

    def _open_day(self, at_ms: int) -> None:
        day = self._day(at_ms)
        windows = self.windows(day)
        specials = [] if self.config.always_open else self._specials(day, self._kind(day))
        self._plan = _DayPlan(self._market.day_bounds(day)[1], windows, specials)
        if windows:
            self._maker.begin_day(day)
            self._opens_ms, self._close_ms = self._continuous(day)

    def _specials(self, day: str, kind: DayKind) -> list[tuple[int, int, str]]:
        """Auction prints and the odd lots dealt while the closing auction collects orders."""
        hours = self._market.hours_on(day)
        if kind is DayKind.CLOSED or not hours.opening_match_ms:
            return []
        rng = Random(f"{self.config.seed}/{day}/auctions")
        close = self._market.close_ms(day, kind)
        matching_ms = self._market.zone.at_ms(day, hours.opening_match_ms) + rng.randrange(110_000)
        specials: list[tuple[int, int, str]] = []
        for instrument in self._ranked:
            rank = instrument.rank
            if instrument.kind not in _IN_AUCTIONS:
                continue
            # Each symbol draws the same number of times, so that the list is the same whatever is left out.
            opening, closing, odd = rng.random(), rng.random(), rng.random()
            delays_ms = rng.randrange(8_000), rng.randrange(10_000, 17_000), rng.randrange(5_000, 450_000)
            if opening < (0.95 if rank < 300 else 0.4):
                specials.append((matching_ms + delays_ms[0], rank, AUCTION))
            if odd < (0.6 if rank < 200 else 0.05):
                specials.append((close + delays_ms[2], rank, ODD_LOT))
            if closing < (0.98 if rank < 300 else 0.7):
                specials.append((close + hours.closing_match_after_ms + delays_ms[1], rank, AUCTION))
        return sorted(specials)

    def _live_schedule(self) -> Schedule:
        rng = Random(f"{self.config.seed}/schedule")
        if self.config.rate_per_sec is not None:
            return SteadySchedule(self.config.rate_per_sec, len(self.instruments), rng)
        return LivelySchedule(len(self.instruments), rng, self._busy)

    def _busy(self, at_ms: int) -> float:
        if self.config.always_open:
            return ALWAYS_OPEN_INTENSITY * self.config.activity
        start_ms, _ = next(window for window in self._plan.windows if at_ms < window[1])
        quiet = self.venue.extended.get(self._phase(at_ms)) if self.venue.extended else None
        if quiet is not None:
            return quiet * self.config.activity
        return intensity(at_ms - start_ms, self._close_ms - at_ms, start_ms == self._opens_ms) * self.config.activity

    def _make_past(self, live_ms: int) -> None:
        """Fill the time before ``live_ms``: a third of the prints spread thinly, the rest at the live rate."""
        windows = self._past_windows(live_ms)
        active_ms = sum(end - start for start, end in windows)
        rate = self.config.rate_per_sec or lively_rate_per_sec(len(self.instruments)) * self.config.activity
        dense_ms = min(int(self.config.history_ticks * 2 / 3 / rate * 1000), active_ms)
        dense_from_ms = _walk_back(windows, dense_ms, live_ms)
        sparse = SparseSchedule(
            self.config.history_ticks // 3,
            active_ms - dense_ms,
            len(self.instruments),
            Random(f"{self.config.seed}/history"),
        )
        self._next_ms = self._market.day_bounds(self._day(windows[0][0] if windows else live_ms))[0]
        sparse_until_ms = dense_from_ms - dense_from_ms % sparse.step_ms
        while self._next_ms < sparse_until_ms:
            self._step(sparse)
        self._next_ms = max(self._next_ms, dense_from_ms - dense_from_ms % self._schedule.step_ms)

    def _past_windows(self, live_ms: int) -> list[tuple[int, int]]:
        """Trading windows before ``live_ms`` of the two newest days that have any."""
        days: list[list[tuple[int, int]]] = []
        day = self._day(live_ms)
        for _ in range(30):
            begun = [(start, min(end, live_ms)) for start, end in self.windows(day) if start < live_ms]
            if begun:
                days.insert(0, begun)
            if len(days) == 2:
                break
            day = add_days(day, -1)
        return [window for windows in days for window in windows]

    def windows(self, day: str) -> list[tuple[int, int]]:
        if self.config.always_open:
            return [self._market.day_bounds(day)]
        return self.venue.windows(day, self._kind(day))

    @property
    def _market(self) -> Market:
        return self.venue.market

    def _day(self, ts_ms: int) -> str:
        return self._market.trading_day(ts_ms)

    def _phase(self, ts_ms: int) -> Phase:
        return self._market.phase_at(ts_ms, self._kind(self._day(ts_ms)))

    def _is_extended(self, ts_ms: int) -> bool:
        return self._phase(ts_ms) not in CONTINUOUS

    def _continuous(self, day: str) -> tuple[int, int]:
        """From the opening until the close of a trading day."""
        windows = self._market.continuous_windows(day, self._kind(day))
        return windows[0][0], windows[-1][1]

    def _kind(self, day: str) -> DayKind:
        return DayKind.WHOLE if self.config.always_open else self.calendar.day_kind(day)


def _walk_back(windows: list[tuple[int, int]], active_ms: int, from_ms: int) -> int:
    """The instant with ``active_ms`` of trading between it and ``from_ms``."""
    for start, end in reversed(windows):
        if end - start >= active_ms:
            return end - active_ms if active_ms else from_ms
        active_ms -= end - start
    return windows[0][0] if windows else from_ms
