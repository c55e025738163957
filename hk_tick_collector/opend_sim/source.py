"""Where the simulator's ticks come from, seen by the server: something that makes them as market time goes on.

``Exchange`` invents a market, ``ReplayExchange`` plays a recorded day back. Both keep OpenD's memory of every symbol
here, so that pulls, quotes and K-lines answer from exactly the ticks that were handed out.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from hk_tick_collector.market.calendar import TradingCalendar
from hk_tick_collector.market.dates import DAY_MS
from hk_tick_collector.market.hk import HK
from hk_tick_collector.market.hk.sessions import CAS_RANDOM_CLOSE_AFTER_MS, hk_date, hk_ms_of_day
from hk_tick_collector.market.hours import DayKind, Phase
from hk_tick_collector.opend_sim.book import Bar, Snapshot, SymbolBook
from hk_tick_collector.opend_sim.instruments import Instrument
from hk_tick_collector.opend_sim.simtick import SimTick

_STATE_NAMES = {
    Phase.CLOSED: "CLOSED",
    Phase.PRE_OPEN_AUCTION: "AUCTION",
    Phase.PRE_OPEN_WAIT: "WAITING_OPEN",
    Phase.MORNING: "MORNING",
    Phase.LUNCH: "REST",
    Phase.AFTERNOON: "AFTERNOON",
    Phase.CLOSING_AUCTION: "HK_CAS",
    Phase.POST_CLOSE: "CLOSED",
}


class MarketSource(ABC):
    """A market with its listed ``instruments`` and its trading ``calendar``. Not thread-safe: one owner."""

    def __init__(self, instruments: dict[str, Instrument], calendar: TradingCalendar | None) -> None:
        self.instruments = instruments
        self.calendar = calendar or TradingCalendar(HK)
        self._books = {code: SymbolBook(instrument) for code, instrument in instruments.items()}
        self._history: list[SimTick] = []

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

    def kline_1m(self, symbol: str, count: int = 1000) -> list[Bar]:
        """The newest one-minute bars, oldest first, the running one included. KeyError: not listed."""
        return self._books[symbol].minute_bars(count)

    def kline_day(self, symbol: str, count: int = 1000) -> list[Bar]:
        """The newest day bars, oldest first, the running one included. KeyError: not listed."""
        return self._books[symbol].day_bars(count)

    def snapshot(self, symbol: str) -> Snapshot:
        """The symbol's day so far. KeyError: not listed."""
        return self._books[symbol].snapshot()

    def market_state(self, now_ms: int) -> str:
        """Name of futu's ``MarketState`` for the Hong Kong market at ``now_ms``."""
        return market_state_of(now_ms, self.calendar.day_kind(hk_date(now_ms)))

    def _remember(self, ticks: list[SimTick]) -> None:
        books = self._books
        for tick in ticks:
            books[tick.symbol].add(tick)


def market_state_of(now_ms: int, kind: DayKind, always_open: bool = False) -> str:
    """OpenD's name for what the market does: as the phase, but CLOSED from 16:08 on, before the auction prints."""
    if always_open:
        return "MORNING" if hk_ms_of_day(now_ms) < DAY_MS // 2 else "AFTERNOON"
    phase = HK.phase_at(now_ms, kind)
    if phase is Phase.CLOSING_AUCTION and now_ms >= HK.span_at(now_ms, kind).start_ms + CAS_RANDOM_CLOSE_AFTER_MS:
        return "CLOSED"
    return _STATE_NAMES[phase]
