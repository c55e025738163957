"""Days, times and symbols as people type them.

A day is ``YYYYMMDD``, ``YYYY-MM-DD``, ``today``, ``yesterday`` or ``last`` (the newest recorded one up to today: a tick
with a wrong date can make a file of a day to come). A range is ``A..B`` with either end left out for "as far as there
is data"; commas join. Times of day are the market's. What means nothing is an InputError, in words for the person who
typed it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from hk_tick_collector.core.dates import parse_day
from hk_tick_collector.core.errors import InputError, NoData, StoreCorrupt
from hk_tick_collector.core.text import days_there
from hk_tick_collector.market.dates import DAY_MS, add_days
from hk_tick_collector.market.market import Market
from hk_tick_collector.market.zone import Zone
from hk_tick_collector.store.layout import holds_snapshots

if TYPE_CHECKING:
    from pathlib import Path

    from hk_tick_collector.days.catalog import Catalog, Day

_TIME = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2})(?:\.(\d{1,3}))?)?")


class Recorded(Protocol):
    """What is recorded, and what time it is. A catalogue may be made when it is first asked for: ``today`` needs none.

    An API would hold one for each request::

        @dataclass
        class Request:
            data_root: Path
            market: Market
            catalog: Catalog
            now_ms: int  # UTC epoch milliseconds

        catalog = Catalog(data_root, archive_root)
        request = Request(data_root, catalog.market, catalog, clock.now_ms())
        days = some_days(request, "20261120..last")  # ["20261120", "20261123", ...]
    """

    @property
    def data_root(self) -> Path:
        """Where the day files are; for error messages."""

    @property
    def market(self) -> Market:
        """Whose days they are."""

    @property
    def catalog(self) -> Catalog:
        """All days, live and archived."""

    @property
    def now_ms(self) -> int:
        """The wall clock, UTC epoch milliseconds."""


@dataclass(frozen=True)
class OtherDays:
    """``Recorded`` with another catalogue than its own."""

    recorded: Recorded
    catalog: Catalog

    @property
    def data_root(self) -> Path:
        """As it was."""
        return self.recorded.data_root

    @property
    def market(self) -> Market:
        """As it was."""
        return self.recorded.market

    @property
    def now_ms(self) -> int:
        """As it was."""
        return self.recorded.now_ms


@dataclass
class ReadableDays:
    """Days that can be read, in the order asked for, and what there is to say."""

    days: list[Day] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)  # trading days whose file is damaged or another program's
    remarks: list[str] = field(default_factory=list)  # for the person: why a day is left out, which source is read


def nothing_recorded(data_root: Path) -> NoData:
    """There is no day of ticks at all; where the data root holds something else, what reads it."""
    told = f"no days are recorded under {data_root}: is that the recorder's DATA_ROOT, and is it recording?"
    if holds_snapshots(data_root):
        told = f"no ticks are recorded under {data_root}: it holds snapshots, which hk-tickctl snapshots shows"
    return NoData(told)


def one_day(recorded: Recorded, text: str | None) -> str:
    """The trading day meant; None means the newest recorded one. InputError for what is no day, NoData for the future
    and when nothing is recorded at all."""
    if text is None or text == "last":
        return _newest_day(recorded)
    day = _named_day(recorded, text)
    today = recorded.market.trading_day(recorded.now_ms)
    if day > today:
        raise NoData(f"{day} lies in the future: {recorded.market.where} it is {today}")
    return day


def _named_day(recorded: Recorded, text: str) -> str:
    if text in ("today", "yesterday"):
        return recorded.market.trading_day(recorded.now_ms - (DAY_MS if text == "yesterday" else 0))
    day = text.replace("-", "") if re.fullmatch(r"\d{4}-\d{2}-\d{2}", text) else text
    try:
        parse_day(day)
    except ValueError as exc:
        raise InputError(f"{text!r} is not a day: write YYYYMMDD, YYYY-MM-DD, today, yesterday or last") from exc
    return day


def _newest_day(recorded: Recorded) -> str:
    days, today = recorded.catalog.days(), recorded.market.trading_day(recorded.now_ms)
    if not days:
        raise nothing_recorded(recorded.data_root)
    past = [day for day in days if day <= today]
    if not past:
        raise NoData(f"only days after today ({today}) are recorded under {recorded.data_root}, the first is {days[0]}")
    return past[-1]


def some_days(recorded: Recorded, text: str | None) -> list[str]:
    """The recorded days meant, oldest first; None means all. NoData when there is none, or a day named alone is not
    recorded."""
    days = recorded.catalog.days()
    if text is None:
        chosen = days
    else:
        chosen = sorted({day for part in text.split(",") for day in _part(recorded, part.strip(), days)})
    if not days and text is None:
        raise nothing_recorded(recorded.data_root)
    if not chosen:
        known = f"; {days_there(days)}" if days else ""
        raise NoData(f"no recorded day in {text or recorded.data_root}{known}")
    return chosen


def readable_days(recorded: Recorded, names: Sequence[str]) -> ReadableDays:
    """These recorded days. Of several, one whose file is damaged or another program's is left out. Alone it is an error
    (StoreCorrupt), as it is when none is left. A remark tells when a day's source needs explaining."""
    readable = ReadableDays()
    for name in names:
        day = recorded.catalog.day(name)
        try:
            day.check()
            conflict = day.conflict
        except StoreCorrupt as exc:
            if name == names[-1] and not readable.days:
                raise
            readable.left_out.append(name)
            readable.remarks.append(f"{name} is left out: {exc}")
            continue
        readable.days.append(day)
        if day.left_out:
            readable.left_out.append(name)
        if conflict:
            readable.remarks.append(conflict)
    return readable


def _part(recorded: Recorded, text: str, days: Sequence[str]) -> list[str]:
    if ".." not in text:
        day = one_day(recorded, text)
        recorded.catalog.day(day)  # says which days there are when this one is not among them
        return [day]
    ends = text.split("..", 1)
    if all(ends) and "last" not in ends and _named_day(recorded, ends[0]) > _named_day(recorded, ends[1]):
        raise InputError(f"{text!r} is not a range: {ends[0]} comes after {ends[1]}")
    first, last = (one_day(recorded, end) if end else None for end in ends)
    if first and last and first > last:
        raise InputError(f"{text!r} is not a range: {first} comes after {last}")
    return [day for day in days if (not first or day >= first) and (not last or day <= last)]


def instant_ms(text: str, day: str, zone: Zone) -> int:
    """A time of day on the market's clock (``09:30``, ``09:30:00.250``) on ``day``, or an ISO date and time (on that
    clock when it names no zone), as UTC epoch milliseconds."""
    match = _TIME.fullmatch(text)
    if match:
        hour, minute, second = (int(part or 0) for part in match.groups()[:3])
        if hour > 24 or minute > 59 or second > 59:
            raise InputError(f"{text!r} is not a time of day: write for example 09:30 or 16:08:30")
        ms = int((match[4] or "0").ljust(3, "0"))
        return zone.at_ms(day, ((hour * 60 + minute) * 60 + second) * 1000 + ms)
    try:
        moment = datetime.fromisoformat(text.upper())
    except ValueError as exc:
        raise InputError(f"{text!r} is not a time: write 09:30, 09:30:00.250 or 2026-11-20T09:30:00") from exc
    return round((moment if moment.tzinfo else moment.replace(tzinfo=zone.tzinfo)).timestamp() * 1000)


def on_day_ms(text: str, day: str, market: Market, *, is_end: bool = False) -> int:
    """As ``instant_ms``; a time of day is the one that the trading day has: where it begins in the evening before, a
    time of that evening. The hour at which the day begins is its beginning, or, as an end, its end."""
    at_ms = instant_ms(text, day, market.zone)
    day_ends_ms = market.begins_ms(add_days(day, 1))
    if not _TIME.fullmatch(text) or at_ms < day_ends_ms or (is_end and at_ms == day_ends_ms):
        return at_ms
    return at_ms if not market.day_starts_ms else instant_ms(text, add_days(day, -1), market.zone)


def symbol_list(market: Market, texts: Sequence[str]) -> list[str]:
    """Symbols as typed (``700``, ``HK.00700``, separated by commas, several times, ``@file``) in OpenD's form.
    InputError names each that cannot be one."""
    from hk_tick_collector.market.symbols import check_symbols  # noqa: PLC0415

    symbols, problems = check_symbols(",".join(texts), market.symbols)
    if problems:
        raise InputError("\n".join(problems))
    return list(symbols)


def told(start: str | None, end: str | None) -> str:
    """The times asked for, in words; empty when none were."""
    return " ".join(text for text in (start and f"from {start}", end and f"to {end}") if text)
