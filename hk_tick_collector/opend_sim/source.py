"""Where the simulator's ticks come from, seen by the server: something that makes them as market time goes on.

``Exchange`` invents a market, ``ReplayExchange`` plays a recorded day back. Both keep OpenD's memory of every symbol
here, so that pulls, quotes and K-lines answer from exactly the ticks that were handed out.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from itertools import takewhile

from hk_tick_collector.market.calendar import TradingCalendar
from hk_tick_collector.market.dates import DAY_MS
from hk_tick_collector.market.hours import DayKind, Phase
from hk_tick_collector.opend_sim.book import Bar, Snapshot, SymbolBook
from hk_tick_collector.opend_sim.instruments import Instrument
from hk_tick_collector.opend_sim.simtick import NEVER_MS, SimTick
from hk_tick_collector.opend_sim.venue import HK, Venue


class MarketSource(ABC):
    """A market with its listed ``instruments`` and its trading ``calendar``. Not thread-safe: one owner."""

    def __init__(self, instruments: dict[str, Instrument], calendar: TradingCalendar | None, venue: Venue = HK) -> None:
        self.venue = venue
        self.instruments = instruments
        self.calendar = calendar or TradingCalendar(venue.market)
        self._books = {code: SymbolBook(instrument) for code, instrument in instruments.items()}
        self._history: list[SimTick] = []
        self.told_of_arrivals = False

    @property
    def recorded(self) -> bool:
        """Whether it was played before: then it is played no faster than everybody follows."""
        return False

    @property
    def next_ms(self) -> int:
        """No tick is made before then: UTC epoch milliseconds, 0 where that is not known."""
        return 0

    @property
    def end_ms(self) -> int:
        """The market's time ends then; UTC epoch milliseconds."""
        return NEVER_MS

    @abstractmethod
    def advance(self, until_ms: int) -> list[SimTick]:
        """All ticks made since the last call up to and including ``until_ms``, in the order they were made."""

    def history(self) -> list[SimTick]:
        """The ticks made before the simulation began, oldest first; not part of what ``advance`` gives."""
        return list(self._history)

    def recent(self, symbol: str, count: int) -> list[SimTick]:
        """The newest ticks of the symbol's newest day, at most 1,500, oldest first. KeyError: not listed."""
        return self._books[symbol].recent(count)

    def forget(self) -> None:
        """Ticks made so far are shown no more, as by an OpenD that was started again."""
        for book in self._books.values():
            book.forget()

    def newest_minutes(self, symbol: str) -> Iterator[Bar]:
        """One-minute bars, newest first, the running one included. KeyError: not listed."""
        return self._books[symbol].newest_minutes()

    def newest_days(self, symbol: str) -> Iterator[Bar]:
        """Day bars, newest first, the running one included. KeyError: not listed."""
        return self._books[symbol].newest_days()

    def minutes_of_day(self, symbol: str) -> list[Bar]:
        """The one-minute bars of the symbol's newest day, oldest first. KeyError: not listed."""
        day = next(self.newest_days(symbol), None)
        since_ms = day.start_ms if day is not None else 0
        return list(takewhile(lambda bar: bar.start_ms >= since_ms, self.newest_minutes(symbol)))[::-1]

    def snapshot(self, symbol: str) -> Snapshot:
        """The symbol's day so far. KeyError: not listed."""
        return self._books[symbol].snapshot()

    def windows(self, day: str) -> list[tuple[int, int]]:
        """(from, until) of the stretches of a day in which trades are made one after the other: UTC epoch ms."""
        return self.venue.windows(day, self.calendar.day_kind(day))

    def market_state(self, now_ms: int) -> str:
        """Name of futu's ``MarketState`` for the market at ``now_ms``."""
        kind = self.calendar.day_kind(self.venue.market.trading_day(now_ms))
        return market_state_of(now_ms, kind, venue=self.venue)

    def remember(self, ticks: Iterable[SimTick]) -> None:
        """From now on they are in the answers above. ``advance`` does it, unless ``told_of_arrivals``."""
        books = self._books
        for tick in ticks:
            books[tick.symbol].add(tick)


def market_state_of(now_ms: int, kind: DayKind, always_open: bool = False, venue: Venue = HK) -> str:
    """OpenD's name for what the market does: as the phase, but CLOSED from when a closing auction matches, before its
    prints (in Hong Kong 16:08)."""
    market = venue.market
    if always_open:
        return "MORNING" if market.zone.ms_of_day(now_ms) < DAY_MS // 2 else "AFTERNOON"
    span = market.span_at(now_ms, kind)
    if span.phase is Phase.CLOSING_AUCTION:
        after_ms = market.hours_on(market.trading_day(now_ms)).closing_match_after_ms
        if after_ms and now_ms >= span.start_ms + after_ms:
            return "CLOSED"
    return venue.states[span.phase]
