"""Days, times and symbols as people type them.

A day is ``YYYYMMDD``, ``YYYY-MM-DD``, ``today``, ``yesterday`` or ``last`` (the newest recorded one up to today: a tick
with a wrong date can make a file of a day to come). A range is ``A..B`` with either end left out for "as far as there
is data"; commas join. Times of day are Hong Kong time.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import click

from hk_tick_collector.cli.common import App, say
from hk_tick_collector.core.errors import NoData, StoreCorrupt
from hk_tick_collector.market.dates import DAY_MS, parse_day
from hk_tick_collector.market.hk.sessions import HK_TZ, day_start_ms, hk_date

if TYPE_CHECKING:
    from hk_tick_collector.days.catalog import Day

_TIME = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2})(?:\.(\d{1,3}))?)?")


def one_day(app: App, text: str | None) -> str:
    """The trading day meant; None means the newest recorded one. UsageError for what is no day, NoData for the future
    and when nothing is recorded at all."""
    if text is None or text == "last":
        return _newest_day(app)
    day = _named_day(app, text)
    if day > hk_date(app.now_ms):
        raise NoData(f"{day} lies in the future: in Hong Kong it is {hk_date(app.now_ms)}")
    return day


def _named_day(app: App, text: str) -> str:
    if text in ("today", "yesterday"):
        return hk_date(app.now_ms - (DAY_MS if text == "yesterday" else 0))
    day = text.replace("-", "") if re.fullmatch(r"\d{4}-\d{2}-\d{2}", text) else text
    try:
        parse_day(day)
    except ValueError as exc:
        raise click.UsageError(f"{text!r} is not a day: write YYYYMMDD, YYYY-MM-DD, today, yesterday or last") from exc
    return day


def _newest_day(app: App) -> str:
    days, today = app.catalog.days(), hk_date(app.now_ms)
    if not days:
        raise NoData(f"no days are recorded under {app.data_root}")
    past = [day for day in days if day <= today]
    if not past:
        raise NoData(f"only days after today ({today}) are recorded under {app.data_root}, the first is {days[0]}")
    return past[-1]


def some_days(app: App, text: str | None) -> list[str]:
    """The recorded days meant, oldest first; None means all. NoData when there is none, or a day named alone is not
    recorded."""
    recorded = app.catalog.days()
    if text is None:
        chosen = recorded
    else:
        chosen = sorted({day for part in text.split(",") for day in _part(app, part.strip(), recorded)})
    if not chosen:
        known = f"; recorded are {len(recorded)} days, {recorded[0]} to {recorded[-1]}" if recorded else ""
        raise NoData(f"no recorded day in {text or app.data_root}{known}")
    return chosen


def days_to_read(app: App, names: Sequence[str]) -> list[Day]:
    """These recorded days. Of several, one whose file is damaged or another program's is left out: that is said, and
    the command ends with 1. Alone it is an error, as it is when none is left. Says, too, when a day's source needs
    explaining."""
    days: list[Day] = []
    for name in names:
        day = app.catalog.day(name)
        try:
            day.coverage()
            conflict = day.conflict
        except StoreCorrupt as exc:
            if name == names[-1] and not days:
                raise
            app.left_out.append(name)
            say(f"{name} is left out: {exc}")
            continue
        days.append(day)
        if conflict:
            say(conflict)
    return days


def _part(app: App, text: str, recorded: Sequence[str]) -> list[str]:
    if ".." not in text:
        day = one_day(app, text)
        app.catalog.day(day)  # says which days there are when this one is not among them
        return [day]
    ends = text.split("..", 1)
    if all(ends) and "last" not in ends and _named_day(app, ends[0]) > _named_day(app, ends[1]):
        raise click.UsageError(f"{text!r} is not a range: {ends[0]} comes after {ends[1]}")
    first, last = (one_day(app, end) if end else None for end in ends)
    if first and last and first > last:
        raise click.UsageError(f"{text!r} is not a range: {first} comes after {last}")
    return [day for day in recorded if (not first or day >= first) and (not last or day <= last)]


def instant_ms(text: str, day: str) -> int:
    """A Hong Kong time of day (``09:30``, ``09:30:00.250``) on ``day``, or an ISO date and time (Hong Kong time when it
    names no zone), as UTC epoch milliseconds."""
    found = _TIME.fullmatch(text)
    if found:
        hour, minute, second = (int(part or 0) for part in found.groups()[:3])
        if hour > 24 or minute > 59 or second > 59:
            raise click.UsageError(f"{text!r} is no time of day")
        return day_start_ms(day) + ((hour * 60 + minute) * 60 + second) * 1000 + int((found[4] or "0").ljust(3, "0"))
    try:
        moment = datetime.fromisoformat(text.upper())
    except ValueError as exc:
        raise click.UsageError(f"{text!r} is no time: write 09:30, 09:30:00.250 or 2026-11-20T09:30:00") from exc
    return round((moment if moment.tzinfo else moment.replace(tzinfo=HK_TZ)).timestamp() * 1000)


def symbol_list(texts: Sequence[str]) -> list[str]:
    """Symbols as typed (``700``, ``HK.00700``, separated by commas, several times, ``@file``) in OpenD's form.
    UsageError names each that cannot be one."""
    from hk_tick_collector.market.symbols import check_symbols  # noqa: PLC0415

    symbols, problems = check_symbols(",".join(texts))
    if problems:
        raise click.UsageError("\n".join(problems))
    return list(symbols)
