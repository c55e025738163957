"""Writes the trading days of every market into the package, from exchange_calendars.

    python scripts/calendar_tables.py            # writes hk_tick_collector/market/*/calendar_table.py
    python scripts/calendar_tables.py --check    # writes nothing, exit code 1 when a file would change

The library needs pandas and half a second for a year; the tables need neither. Run it after the library was updated,
look at the difference, and let the tests of the tables decide. A market's table ends where the library does, or where
its holidays are no longer announced but only computed from a rule.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import NamedTuple

PACKAGE = Path(__file__).resolve().parent.parent / "hk_tick_collector" / "market"


class Range(NamedTuple):
    """Which calendar of the library a market's table comes from, and the days that it covers (YYYYMMDD)."""

    library: str
    first: str
    last: str


# Hong Kong as far as the library goes. US, CME and Japanese holidays follow law, those of Taiwan, China and Singapore
# are announced a year at a time.
RANGES = {
    "hk": Range("XHKG", "19600101", "20491231"),
    "us": Range("XNYS", "20000101", "20351231"),
    "cn": Range("XSHG", "20000101", "20261231"),
    "cme": Range("CMES", "20000101", "20351231"),
    "tw": Range("XTAI", "20000101", "20261231"),
    "jp": Range("XTKS", "20000101", "20351231"),
    "sg": Range("XSES", "20000101", "20261231"),
}


def days_of(market: str) -> tuple[list[str], list[str]]:
    """(weekdays without trading, half days) of a market's range as ``YYYYMMDD``, in order."""
    import exchange_calendars  # noqa: PLC0415 - half a second, and --help needs none of it
    import pandas as pd  # noqa: PLC0415

    library, first, last = RANGES[market]
    calendar = exchange_calendars.get_calendar(library, start=first, end=last)
    sessions = {stamp.strftime("%Y%m%d") for stamp in calendar.sessions}
    half_days = [stamp.strftime("%Y%m%d") for stamp in calendar.early_closes]
    weekdays = {stamp.strftime("%Y%m%d") for stamp in pd.bdate_range(first, last)}
    if not sessions <= weekdays:
        raise SystemExit(f"{library} trades on a weekend: {min(sessions - weekdays)}; a table cannot say that")
    return sorted(weekdays - sessions), half_days


def table_of(market: str) -> str:
    """The text of a market's ``calendar_table.py``."""
    library, first, last = RANGES[market]
    closed, half = days_of(market)
    return (
        f'"""Trading days of {library}. Written by scripts/calendar_tables.py; do not edit."""\n\n'
        f'KNOWN_FROM = "{first}"\nKNOWN_UNTIL = "{last}"\n\n'
        f"# MMDD by year: the weekdays without trading, and the days of a short session.\n"
        f"CLOSED: dict[int, str] = {_by_year(closed)}\nHALF: dict[int, str] = {_by_year(half)}\n"
    )


def _by_year(days: list[str]) -> str:
    years: dict[str, list[str]] = {}
    for day in days:
        years.setdefault(day[:4], []).append(day[4:])
    lines = (f'    {year}: "{" ".join(month_days)}",\n' for year, month_days in years.items())
    return "{\n" + "".join(lines) + "}" if years else "{}"


def main(argv: list[str] | None = None) -> int:
    """Exit code 0: written, or nothing to write; 1: ``--check`` and a file differs."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--check", action="store_true", help="only say which files would change")
    is_check = parser.parse_args(argv).check
    changed = [market for market in RANGES if _write(market, is_check=is_check)]
    print(f"changed: {', '.join(changed) or 'none'}")
    return 1 if is_check and changed else 0


def _write(market: str, *, is_check: bool) -> bool:
    path = PACKAGE / market / "calendar_table.py"
    text = table_of(market)
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return False
    if not is_check:
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return True


if __name__ == "__main__":
    sys.exit(main())
