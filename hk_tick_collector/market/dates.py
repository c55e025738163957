"""Calendar dates in the one form of the project, ``YYYYMMDD``: no zone, no clock."""

from __future__ import annotations

from datetime import date, timedelta
from functools import lru_cache

from hk_tick_collector.core.dates import parse_day

DAY_MS = 86_400_000
_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()
_EPOCH_WEEKDAY = 3  # a Thursday


@lru_cache(maxsize=256)
def add_days(day: str, days: int) -> str:
    """The date that many calendar days later (earlier when negative)."""
    return (parse_day(day) + timedelta(days=days)).strftime("%Y%m%d")


@lru_cache(maxsize=256)
def epoch_day(day: str) -> int:
    """Days from 1970-01-01 to ``YYYYMMDD``. ValueError when it is not a date in that form."""
    return parse_day(day).toordinal() - _EPOCH_ORDINAL


def weekday(day: str) -> int:
    """0 is Monday. ValueError when it is not a date in that form."""
    return (epoch_day(day) + _EPOCH_WEEKDAY) % 7


@lru_cache(maxsize=256)
def day_text(epoch_day_number: int) -> str:
    """The inverse of ``epoch_day``. ValueError or OverflowError beyond the years 1-9999."""
    return date.fromordinal(_EPOCH_ORDINAL + epoch_day_number).strftime("%Y%m%d")
