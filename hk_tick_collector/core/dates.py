"""The one form of a day, ``YYYYMMDD``, and what is one."""

from __future__ import annotations

from datetime import date


def parse_day(day: str) -> date:
    """``YYYYMMDD`` -> date. ValueError names what was given: other digits than ASCII's, a text of another length, a day
    that no calendar has, something that is no text."""
    if not isinstance(day, str) or len(day) != 8 or not (day.isascii() and day.isdigit()):
        raise ValueError(f"{day!r} is not a date in the form YYYYMMDD")
    try:
        return date(int(day[:4]), int(day[4:6]), int(day[6:]))
    except ValueError:
        raise ValueError(f"{day!r} is not a date in the form YYYYMMDD") from None
