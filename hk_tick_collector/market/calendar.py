"""Which days the Hong Kong market trades, and what it does at an instant.

Owns the table of trading days, read a year at a time from ``exchange_calendars`` (XHKG: holidays and half days) and
checked against OpenD's ``request_trading_days``. Where the two differ, the one that says the market is open longer is
followed: recording too much costs nothing. Outside what the library covers every weekday counts as a trading day,
which is logged once.

Cost: reading a year imports pandas and builds a calendar, half a second and 85 MiB in all; only the days' kinds are
kept, a few kilobytes a year. ``warm`` has another process do it: call it before an event loop depends on quick answers.
Safe to use from several threads.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta

from hk_tick_collector.core.logline import event
from hk_tick_collector.market.sessions import (
    DayKind,
    Phase,
    add_days,
    hk_date,
    parse_day,
    phase_at,
    recording_window,
)

_log = logging.getLogger(__name__)

_OPENNESS = {DayKind.CLOSED: 0, DayKind.HALF: 1, DayKind.WHOLE: 2}
# An afternoon-only day has not been seen in Hong Kong; recording the whole day loses nothing.
_OPEND_KINDS = {"WHOLE": DayKind.WHOLE, "MORNING": DayKind.HALF, "AFTERNOON": DayKind.WHOLE}
_SEARCH_LIMIT_DAYS = 30
APART_TIMEOUT_SEC = 30  # it takes half a second; a machine that is starting may be slow

_Years = dict[int, "dict[str, DayKind] | None"]  # None: a year that the library does not cover


@dataclass(frozen=True, slots=True)
class Mismatch:
    """One day on which the calendar library and OpenD disagree, and which kind is followed."""

    day: str
    library: DayKind
    opend: DayKind
    used: DayKind


class TradingCalendar:
    """Trading days of XHKG. ``day`` is a Hong Kong date ``YYYYMMDD``; times are UTC epoch milliseconds."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._years: dict[int, dict[str, DayKind]] = {}
        self._overrides: dict[str, DayKind] = {}
        self._said_uncovered = False

    def warm(self, now_ms: int) -> None:
        """Load the years around ``now_ms`` in one go, so that later calls answer at once."""
        year = parse_day(hk_date(now_ms)).year
        self._load(year - 1, year + 1, _read_library_apart)

    def day_kind(self, day: str) -> DayKind:
        """WHOLE, HALF or CLOSED. ValueError when ``day`` is not ``YYYYMMDD``."""
        override = self._overrides.get(day)
        return override if override is not None else self._library_kind(day)

    def phase(self, now_ms: int) -> Phase:
        """What the market does at ``now_ms``."""
        return phase_at(now_ms, self.day_kind(hk_date(now_ms)))

    def is_recording(self, now_ms: int) -> bool:
        """True while ticks may come: 09:00 to 16:15 of a trading day, 12:15 of a half day."""
        day = hk_date(now_ms)
        start_ms, end_ms = recording_window(day, self.day_kind(day))
        return start_ms <= now_ms < end_ms

    def next_recording_start_ms(self, now_ms: int) -> int:
        """The first 09:00 of a trading day that lies after ``now_ms``."""
        day = hk_date(now_ms)
        start_ms, _ = recording_window(day, self.day_kind(day))
        if self.is_trading_day(day) and start_ms > now_ms:
            return start_ms
        following = self.next_trading_day(day)
        return recording_window(following, self.day_kind(following))[0]

    def is_trading_day(self, day: str) -> bool:
        """True when the market trades on that day at all."""
        return self.day_kind(day) is not DayKind.CLOSED

    def next_trading_day(self, day: str) -> str:
        """The first trading day after ``day``."""
        return self._search(day, 1)

    def previous_trading_day(self, day: str) -> str:
        """The last trading day before ``day``."""
        return self._search(day, -1)

    def merge_opend(
        self, days: Mapping[str, str], first_day: str | None = None, last_day: str | None = None
    ) -> list[Mismatch]:
        """Check the table against OpenD's answer and follow whichever is open longer from now on.

        ``days`` maps ``YYYYMMDD`` to WHOLE, MORNING or AFTERNOON; a day it leaves out between ``first_day`` and
        ``last_day`` (by default its own first and last) is closed for OpenD. An unknown word counts as WHOLE.
        Returns every disagreement in order of days, for logging; an empty answer with no range says nothing.
        """
        first = first_day or min(days, default=None)
        last = last_day or max(days, default=None)
        if first is None or last is None:
            return []
        mismatches: list[Mismatch] = []
        day = first
        while day <= last:
            library = self._library_kind(day)
            opend = _OPEND_KINDS.get(days[day].upper(), DayKind.WHOLE) if day in days else DayKind.CLOSED
            if opend is not library:
                used = max(library, opend, key=_OPENNESS.__getitem__)
                self._overrides[day] = used
                mismatches.append(Mismatch(day, library, opend, used))
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

    def _library_kind(self, day: str) -> DayKind:
        year = parse_day(day).year
        table = self._years.get(year)
        if table is None:
            table = self._load(year, year)[year]
        return table.get(day, DayKind.CLOSED)

    def _load(
        self, first_year: int, last_year: int, read: Callable[[int, int], _Years] | None = None
    ) -> dict[int, dict[str, DayKind]]:
        with self._lock:
            missing = [year for year in range(first_year, last_year + 1) if year not in self._years]
            if missing:
                for year, table in (read or _read_library)(missing[0], missing[-1]).items():
                    self._years.setdefault(year, table if table is not None else self._weekdays(year))
            return self._years

    def _weekdays(self, year: int) -> dict[str, DayKind]:
        if not self._said_uncovered:
            self._said_uncovered = True
            _log.warning(
                event("calendar_uncovered", year=year, note="no holidays known, every weekday counts as a trading day")
            )
        first = date(year, 1, 1)
        days = (first + timedelta(days=n) for n in range((date(year, 12, 31) - first).days + 1))
        return {day.strftime("%Y%m%d"): DayKind.WHOLE for day in days if day.weekday() < 5}


def _read_library_apart(first_year: int, last_year: int) -> _Years:
    """As ``_read_library``, in a process of its own: pandas stays out of this one, which lives for months.

    Isolated: ``-m`` alone looks for the module in the current directory first, and root may stand in a stranger's."""
    command = [sys.executable, "-I", "-m", __name__, str(first_year), str(last_year)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=APART_TIMEOUT_SEC, check=True)  # noqa: S603
        tables = json.loads(done.stdout)
        return {int(year): _kinds(table) for year, table in tables.items()}
    except (OSError, subprocess.SubprocessError, ValueError, AttributeError) as exc:
        _log.warning(event("calendar_read_here", error=exc, cost="about 85 MiB of memory"))
        return _read_library(first_year, last_year)


def _kinds(table: dict[str, str] | None) -> dict[str, DayKind] | None:
    return None if table is None else {day: DayKind(kind) for day, kind in table.items()}


def _read_library(first_year: int, last_year: int) -> _Years:
    """Trading days by year; None for a year that the library does not cover whole."""
    # Imported late: pandas takes its time and memory, and many commands never ask for a trading day.
    from exchange_calendars.exchange_calendar_xhkg import XHKGExchangeCalendar  # noqa: PLC0415

    years: dict[int, dict[str, DayKind] | None] = dict.fromkeys(range(first_year, last_year + 1))
    low, high = XHKGExchangeCalendar.bound_min(), XHKGExchangeCalendar.bound_max()
    covered = [
        year
        for year in years
        if (low is None or low.year < year or (low.year == year and low.dayofyear == 1))
        and (high is None or high.year > year or (high.year == year and high.month == 12 and high.day == 31))
    ]
    if not covered:
        return years
    calendar = XHKGExchangeCalendar(start=f"{covered[0]}-01-01", end=f"{covered[-1]}-12-31")
    half_days = {stamp.strftime("%Y%m%d") for stamp in calendar.early_closes}
    for year in covered:
        years[year] = {}
    for stamp in calendar.sessions:
        day = stamp.strftime("%Y%m%d")
        table = years[stamp.year]
        assert table is not None
        table[day] = DayKind.HALF if day in half_days else DayKind.WHOLE
    return years


if __name__ == "__main__":
    json.dump(_read_library(int(sys.argv[1]), int(sys.argv[2])), sys.stdout)
