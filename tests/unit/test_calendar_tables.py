"""The generated tables of trading days say what the library says, and what exchanges have announced."""

from __future__ import annotations

import importlib

import exchange_calendars
import pandas as pd
import pytest

from hk_tick_collector.market.hours import DayKind
from hk_tick_collector.market.table import CalendarTable
from scripts import calendar_tables

WHOLE, HALF, CLOSED = DayKind.WHOLE, DayKind.HALF, DayKind.CLOSED


def table_of(market: str) -> CalendarTable:
    return CalendarTable.of(importlib.import_module(f"hk_tick_collector.market.{market}.calendar_table"))


@pytest.mark.parametrize("market", calendar_tables.RANGES)
def test_a_table_says_what_the_library_says(market: str) -> None:
    library, first, last = calendar_tables.RANGES[market]
    calendar = exchange_calendars.get_calendar(library, start=first, end=last)
    table = table_of(market)
    half = set(calendar.early_closes)
    expected = {stamp: HALF if stamp in half else WHOLE for stamp in calendar.sessions}
    wrong = {
        day: (kind, expected.get(stamp, CLOSED))
        for stamp in pd.date_range(first, last)
        if (kind := table.day_kind(day := stamp.strftime("%Y%m%d"))) is not expected.get(stamp, CLOSED)
    }
    assert wrong == {}, "run scripts/calendar_tables.py and look at what has changed"
    assert table.day_kind(first) is not None
    assert (table.known_from, table.known_until) == (first, last)


# From the exchanges' own announcements, not from the library.
@pytest.mark.parametrize(
    ("market", "day", "kind"),
    [
        ("hk", "20251224", HALF),
        ("hk", "20260216", HALF),
        ("hk", "20260217", CLOSED),
        ("hk", "20260220", WHOLE),
        ("us", "20250109", CLOSED),  # a day of mourning
        ("us", "20251128", HALF),
        ("us", "20260703", CLOSED),
        ("cn", "20261001", CLOSED),
        ("cme", "20260403", CLOSED),
        ("cme", "20251127", HALF),
        ("tw", "20260227", CLOSED),
        ("jp", "20261231", CLOSED),
        ("sg", "20260217", CLOSED),
    ],
)
def test_days_as_they_were_announced(market: str, day: str, kind: DayKind) -> None:
    assert table_of(market).day_kind(day) is kind


def test_a_weekday_outside_a_table_is_not_guessed_by_it() -> None:
    table = table_of("cn")
    assert [table.day_kind(day) for day in ("20261231", "20270104", "20270102")] == [WHOLE, None, CLOSED]
