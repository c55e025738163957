"""What each symbol is, told to the store once a trading day: name, lot, unit, currency and tick size change over years.

Owns which symbols were told of which day. Asked is in the connection's own time: a request that fails is tried again
minutes later, and nothing else waits for it. Told is from the beginning of the day's recording on and only on a day
that has one, so that weekends and nights make and change no file.

Limits: a look every ``CHECK_SEC``, a failed request again after ``RETRY_SEC``; texts are cut to ``NAME_CHARS``.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence

from hk_tick_collector.core.clock import Clock
from hk_tick_collector.core.errors import FeedError, FeedLost
from hk_tick_collector.core.facts import DayFact, Fact, SymbolNoted
from hk_tick_collector.core.logline import RateLimitedLog
from hk_tick_collector.core.text import cut, printable
from hk_tick_collector.market.calendar import TradingCalendar
from hk_tick_collector.sources.source import Described, Link

log = logging.getLogger(__name__)

CHECK_SEC = 10.0
RETRY_SEC = 300.0
NAME_CHARS = 80
MAX_COUNT = 2**53  # beyond it no lot is believed


class SymbolDetails:
    """``facts`` takes what is told, at once. Lives over connections; runs on the loop."""

    def __init__(
        self, facts: Callable[[Sequence[Fact | DayFact]], None], calendar: TradingCalendar, clock: Clock
    ) -> None:
        self._facts = facts
        self._calendar = calendar
        self._clock = clock
        self._day = ""
        self._told: set[str] = set()  # of that day
        self._log = RateLimitedLog(log, period_sec=3600)

    def forget(self) -> None:
        """The day's file may be another one: tell it again."""
        self._told.clear()

    def due(self, symbols: Sequence[str]) -> list[str]:
        """Those of ``symbols`` that were not told of the present trading day."""
        now_ms = self._clock.now_ms()
        day = self._calendar.market.trading_day(now_ms)
        start_ms, end_ms = self._calendar.recording_window(day)
        if start_ms == end_ms or now_ms < start_ms:
            return []
        if day != self._day:
            self._day = day
            self._told.clear()
        return [symbol for symbol in symbols if symbol not in self._told]

    async def run(self, link: Link, active: Callable[[], Sequence[str]]) -> None:
        """Until cancelled: ask for what ``active`` lists, and tell it. ``FeedLost`` when the connection is gone."""
        import asyncio  # noqa: PLC0415 - an import of files notes details, too, and runs no loop

        not_before_sec = 0.0
        while True:
            await asyncio.sleep(CHECK_SEC)
            symbols = self.due(active())
            if not symbols or self._clock.monotonic() < not_before_sec:
                continue
            try:
                described = await link.describe(symbols)
            except FeedLost:
                raise
            except FeedError as exc:
                not_before_sec = self._clock.monotonic() + RETRY_SEC
                self._log.log(logging.WARNING, "symbols_undescribed", error=str(exc), action="asked again later")
                continue
            self._tell(described)
            self._told.update(info.symbol for info in described)  # also those of which nothing is known: until tomorrow
            if not self._told.issuperset(symbols):
                not_before_sec = self._clock.monotonic() + RETRY_SEC

    def _tell(self, described: Sequence[Described]) -> None:
        now_ms = self._clock.now_ms()
        notes = [noted(info, self._day, now_ms) for info in described if info != Described(info.symbol)]
        if notes:
            self._facts(notes)


def noted(described: Described, trading_day: str, at_ms: int) -> SymbolNoted:
    """As the store takes it. What cannot be is left out."""
    name, unit, currency = (_text(text) for text in (described.name, described.unit, described.currency))
    lot_size = described.lot_size
    return SymbolNoted(
        described.symbol,
        trading_day,
        at_ms,
        name=name,
        lot_size=lot_size if lot_size is not None and 0 < lot_size <= MAX_COUNT else None,
        unit=unit,
        multiplier=_number(described.multiplier),
        currency=currency,
        tick_size=_number(described.tick_size),
    )


def _text(text: str | None) -> str | None:
    return printable(cut(text, NAME_CHARS)) if text else None


def _number(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) and value > 0 else None
