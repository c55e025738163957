"""Which days a market trades, and what it does at an instant.

Owns what is known of trading days: the market's table, generated into the package from ``exchange_calendars``
(holidays and half days) and checked against OpenD's ``request_trading_days``. Where the two differ, the one that says
the market is open longer is followed: recording too much costs nothing. Outside what the table covers every weekday
counts as a trading day, which is logged once.

Cost: the table of a market is a few kilobytes, read once in less than a millisecond; a question is a look into a
dictionary. Safe to use from several threads.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from hk_tick_collector.core.logline import event
from hk_tick_collector.market.dates import add_days
from hk_tick_collector.market.hours import DayKind, Phase
from hk_tick_collector.market.market import Market, Span

_log = logging.getLogger(__name__)

_OPENNESS = {DayKind.CLOSED: 0, DayKind.HALF: 1, DayKind.WHOLE: 2}
# An afternoon-only day has not been seen; recording the whole day loses nothing.
_KIND_OF_WORD = {"WHOLE": DayKind.WHOLE, "MORNING": DayKind.HALF, "AFTERNOON": DayKind.WHOLE}
_SEARCH_LIMIT_DAYS = 30


@dataclass(frozen=True, slots=True)
class Mismatch:
    """One day on which the calendar library and the source disagree, and which kind is followed."""

    day: str
    library: DayKind
    told: DayKind  # by the source
    used: DayKind


class TradingCalendar:
    """Trading days of ``market``. ``day`` is one of them as ``YYYYMMDD``; times are UTC epoch milliseconds."""

    def __init__(self, market: Market) -> None:
        self.market = market
        self._overrides: dict[str, DayKind] = {}
        self._said_uncovered = False

    def day_kind(self, day: str) -> DayKind:
        """WHOLE, HALF or CLOSED. ValueError when ``day`` is not ``YYYYMMDD``."""
        override = self._overrides.get(day)
        return override if override is not None else self._table_kind(day)

    def phase(self, now_ms: int) -> Phase:
        """What the market does at ``now_ms``."""
        return self.span(now_ms).phase

    def span(self, now_ms: int) -> Span:
        """The same, and since when and until when it does so."""
        return self.market.span_at(now_ms, self.day_kind(self.market.trading_day(now_ms)))

    def is_recording(self, now_ms: int) -> bool:
        """True while ticks may come (in Hong Kong 09:00 to 16:15 of a trading day, 12:15 of a half day)."""
        start_ms, end_ms = self.recording_window(self.market.trading_day(now_ms))
        return start_ms <= now_ms < end_ms

    def recording_window(self, day: str) -> tuple[int, int]:
        """When ticks of ``day`` may come: ``Market.recording_window``."""
        return self.market.recording_window(day, self.day_kind(day))

    def no_more_ticks_ms(self, day: str) -> int:
        """From when on no tick of ``day`` can come: ``Market.no_more_ticks_ms``."""
        return self.market.no_more_ticks_ms(day, self.day_kind(day))

    def is_trading_day(self, day: str) -> bool:
        """True when the market trades on that day at all."""
        return self.day_kind(day) is not DayKind.CLOSED

    def next_trading_day(self, day: str) -> str:
        """The first trading day after ``day``."""
        return self._search(day, 1)

    def previous_trading_day(self, day: str) -> str:
        """The last trading day before ``day``."""
        return self._search(day, -1)

    def merge_source_days(
        self, days: Mapping[str, str], first_day: str | None = None, last_day: str | None = None
    ) -> list[Mismatch]:
        """Check the table against the source's answer and follow whichever is open longer from now on.

        ``days`` maps ``YYYYMMDD`` to WHOLE, MORNING or AFTERNOON; a day it leaves out between ``first_day`` and
        ``last_day`` (by default its own first and last) is closed for the source. An unknown word counts as WHOLE.
        Returns every disagreement in order of days, for logging; an empty answer with no range says nothing.
        """
        first = first_day or min(days, default=None)
        last = last_day or max(days, default=None)
        if first is None or last is None:
            return []
        mismatches: list[Mismatch] = []
        day = first
        while day <= last:
            library = self._table_kind(day)
            told = _KIND_OF_WORD.get(days[day].upper(), DayKind.WHOLE) if day in days else DayKind.CLOSED
            if told is not library:
                used = max(library, told, key=_OPENNESS.__getitem__)
                self._overrides[day] = used
                mismatches.append(Mismatch(day, library, told, used))
            else:
                self._overrides.pop(day, None)
            day = add_days(day, 1)
        return mismatches

    def _search(self, day: str, step_days: int) -> str:
        for _ in range(_SEARCH_LIMIT_DAYS):
            day = add_days(day, step_days)
            if self.is_trading_day(day):
                return day
        raise ValueError(f"no trading day within {_SEARCH_LIMIT_DAYS} days of {day}")

    def _table_kind(self, day: str) -> DayKind:
        kind = self.market.table.day_kind(day)
        if kind is not None:
            return kind
        if not self._said_uncovered:
            self._said_uncovered = True
            note = "no holidays known, every weekday counts as a trading day"
            _log.warning(event("calendar_uncovered", year=int(day[:4]), note=note))
        return DayKind.WHOLE
