"""Which wanted symbols OpenD does not send, since when, and in whose words: a certificate must not overlook them.

A symbol that is never subscribed has no tick, no hole and no row in the day file: nothing there would say that it is
missing. So while ticks of a trading day may come, everything wanted is told to the store again and again, as subscribed
or as not. Owns since when each symbol has been absent; lives over connections. Runs on the loop, costs O(symbols) every
few minutes and when something changes.

Who begins after the day's last tick tells of what is absent then that it is wanted, and no time: that was another's.

Limits: an outage shorter than ``OUTAGE_MS`` is not told, for what was traded meanwhile is fetched and counted. A time
before this process began is nobody's: the beginning of a symbol's day is proven or missing by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from hk_tick_collector.core.clock import Clock
from hk_tick_collector.core.facts import DayFact, Fact, NotSubscribed, Subscribed
from hk_tick_collector.core.text import cut, printable
from hk_tick_collector.market.calendar import TradingCalendar

NO_CONNECTION = "no connection to OpenD"
NOT_LOGGED_IN = "OpenD is not logged in"
OUTAGE_MS = 60_000
TELL_AGAIN_MS = 300_000
CHECK_SEC = 5.0


@dataclass(slots=True)
class _Absence:
    since_ms: int
    reason: str
    by_source: bool  # it refused, and not: nobody could be asked
    told: NotSubscribed | None = None


class Absences:
    """``facts`` takes what is told, at once."""

    def __init__(
        self, facts: Callable[[Sequence[Fact | DayFact]], None], calendar: TradingCalendar, clock: Clock
    ) -> None:
        self._facts = facts
        self._calendar = calendar
        self._clock = clock
        self._absent: dict[str, _Absence] = {}
        self._active: tuple[str, ...] = ()
        self._told_active: tuple[str, int] = ("", 0)  # day and ms

    def note(self, wanted: Sequence[str], active: Collection[str], refused: Mapping[str, str], otherwise: str) -> None:
        """What is subscribed now. ``refused``: OpenD's words by symbol; ``otherwise``: why the others are absent."""
        now_ms = self._clock.now_ms()
        there, listed = set(active), set(wanted)
        gone = [symbol for symbol in self._absent if symbol in there or symbol not in listed]
        self._tell([self._absent[symbol] for symbol in gone if self._told(symbol, now_ms, over=True)])
        for symbol in gone:
            del self._absent[symbol]
        for symbol in wanted:
            if symbol not in there:
                reason = printable(cut(refused.get(symbol, otherwise)))
                absence = self._absent.setdefault(symbol, _Absence(now_ms, reason, by_source=False))
                absence.reason, absence.by_source = reason, symbol in refused
        subscribed = tuple(symbol for symbol in wanted if symbol in there)
        if subscribed != self._active:
            self._active, self._told_active = subscribed, ("", 0)
        self._tell_active(now_ms)

    async def run(self) -> None:
        """Tell what is to be told, until cancelled; then a last time."""
        try:
            while True:
                await asyncio.sleep(CHECK_SEC)
                self.tell()
        finally:
            self.tell(at_once=True)

    def tell(self, *, at_once: bool = False) -> None:
        """Hand over what is new or was told some minutes ago; ``at_once``: also what was told a moment ago."""
        now_ms = self._clock.now_ms()
        due = [symbol for symbol, absence in self._absent.items() if at_once or self._is_due(absence, now_ms)]
        self._tell([self._absent[symbol] for symbol in due if self._told(symbol, now_ms, over=False)])
        self._tell_active(now_ms)

    def _tell(self, absences: Sequence[_Absence]) -> None:
        facts = [absence.told for absence in absences if absence.told is not None]
        if facts:
            self._facts(facts)

    def _is_due(self, absence: _Absence, now_ms: int) -> bool:
        told = absence.told
        if told is None or told.trading_day != self._calendar.market.trading_day(now_ms) or now_ms < told.until_ms:
            return True
        _, end_ms = self._window(told.trading_day)
        return not told.over and now_ms >= min(told.until_ms + TELL_AGAIN_MS, end_ms)

    def _told(self, symbol: str, now_ms: int, *, over: bool) -> bool:
        """Make the fact that is to be told of a symbol; False when there is none."""
        absence, day = self._absent[symbol], self._calendar.market.trading_day(now_ms)
        start_ms, end_ms = self._window(day)
        absence.since_ms = min(absence.since_ms, now_ms)  # a time to come is of a clock that ran ahead
        from_ms, until_ms = max(absence.since_ms, start_ms), min(now_ms, end_ms)
        told = absence.told
        before = told if told is not None and told.trading_day == day and told.until_ms <= now_ms else None
        long_enough = absence.by_source or before is not None or until_ms - from_ms >= OUTAGE_MS
        if until_ms <= from_ms or not long_enough or (over and before is None) or (before is not None and before.over):
            return False
        absence.told = NotSubscribed(symbol, day, from_ms, until_ms, over or now_ms >= end_ms, absence.reason)
        return True

    def _tell_active(self, now_ms: int) -> None:
        """Once the day's ticks may come; what is subscribed in the evening only may be proven after all."""
        day = self._calendar.market.trading_day(now_ms)
        start_ms, end_ms = self._window(day)
        told_day, told_ms = self._told_active
        if not self._active or not start_ms <= now_ms or start_ms == end_ms:
            return
        if told_day != day or now_ms < told_ms or told_ms + TELL_AGAIN_MS <= now_ms < end_ms:
            self._told_active = day, now_ms
            # By day each absence is told with its time.
            absent = tuple(self._absent) if now_ms >= end_ms else ()
            self._facts([Subscribed(day, self._active, min(now_ms, end_ms), absent)])

    def _window(self, day: str) -> tuple[int, int]:
        return self._calendar.recording_window(day)
