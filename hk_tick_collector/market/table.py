"""A market's trading days, as its generated ``calendar_table`` gives them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType

from hk_tick_collector.market.dates import weekday
from hk_tick_collector.market.hours import DayKind

_SATURDAY = 5


@dataclass(frozen=True, slots=True)
class CalendarTable:
    """Every weekday trades but those that are named, between two days; beyond them nothing is known.

    >>> table = CalendarTable("20260101", "20261231", {"20261225": DayKind.CLOSED, "20261224": DayKind.HALF})
    >>> table.day_kind("20261224"), table.day_kind("20261226"), table.day_kind("20270101")
    (<DayKind.HALF: 'half'>, <DayKind.CLOSED: 'closed'>, None)

    Days are ``YYYYMMDD`` in the market's own zone.
    """

    known_from: str
    known_until: str
    exceptions: Mapping[str, DayKind]

    @classmethod
    def of(cls, module: ModuleType) -> CalendarTable:
        """From a generated module, which holds the two kinds of exceptions as a text a year: months and days."""
        exceptions = _days_of(module.CLOSED, DayKind.CLOSED) | _days_of(module.HALF, DayKind.HALF)
        return cls(module.KNOWN_FROM, module.KNOWN_UNTIL, exceptions)

    def day_kind(self, day: str) -> DayKind | None:
        """WHOLE, HALF or CLOSED; None for a weekday outside the table. ValueError when ``day`` is not ``YYYYMMDD``."""
        kind = self.exceptions.get(day)
        if kind is not None:
            return kind
        if weekday(day) >= _SATURDAY:
            return DayKind.CLOSED
        return DayKind.WHOLE if self.known_from <= day <= self.known_until else None


def _days_of(years: Mapping[int, str], kind: DayKind) -> dict[str, DayKind]:
    return {f"{year}{month_day}": kind for year, texts in years.items() for month_day in texts.split()}
