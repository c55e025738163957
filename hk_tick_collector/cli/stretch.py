"""The stretch of time and the symbols that ``ticks`` and ``bars`` work on, as options and as what they mean."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from hk_tick_collector.cli.common import App, say
from hk_tick_collector.cli.when import days_to_read, instant_ms, one_day, some_days, symbol_list
from hk_tick_collector.core.errors import NoData
from hk_tick_collector.market.dates import DAY_MS
from hk_tick_collector.market.hk.sessions import day_start_ms

if TYPE_CHECKING:
    import pyarrow as pa

    from hk_tick_collector.query.fetch import DayPart


def stretch_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """SYMBOL..., --days, --from, --to."""
    options = [
        click.argument("symbols", nargs=-1, required=True, metavar="SYMBOL..."),
        click.option(
            "--days", "--day", "days", metavar="A..B",
            help="A day (YYYYMMDD, today, last), a range A..B, A.. or ..B, or several (commas). Default: the newest.",
        ),
        click.option(
            "--from", "start", metavar="TIME",
            help="Hong Kong time of each day (09:30, 09:30:00.250), or one instant (2026-11-20T09:30).",
        ),
        click.option("--to", "end", metavar="TIME", help="As --from; this instant is not included."),
    ]  # fmt: skip
    for option in reversed(options):
        function = option(function)
    return function


def symbols_of(texts: Sequence[str]) -> list[str]:
    """``700``, ``HK.00700`` and ``HK.00700,HK.00005`` in OpenD's form. UsageError names what is no symbol."""
    return symbol_list(texts)


def parts_of(app: App, days: str | None, start: str | None, end: str | None) -> list[DayPart]:
    """The stretches of the days meant, oldest first. UsageError for an empty stretch, NoData when no day is recorded
    in it. Says on standard error when a day's source needs explaining."""
    from hk_tick_collector.query.fetch import DayPart  # noqa: PLC0415 - Arrow takes its time

    is_instant = any(text is not None and "-" in text for text in (start, end))
    names = some_days(app, days) if days is not None or is_instant else [one_day(app, None)]
    parts = []
    for name in names:
        start_ms = None if start is None else instant_ms(start, name)
        end_ms = None if end is None else instant_ms(end, name)
        if start_ms is not None and end_ms is not None and start_ms >= end_ms:
            raise click.UsageError(f"nothing lies between --from {start} and --to {end}")
        midnight_ms = day_start_ms(name)
        if (start_ms is None or start_ms < midnight_ms + DAY_MS) and (end_ms is None or end_ms > midnight_ms):
            parts.append(DayPart(app.catalog.day(name), start_ms, end_ms))
    if not parts:
        raise NoData(f"no recorded day lies {told(start, end)}; recorded are {names[0]} to {names[-1]}")
    readable = {day.trading_day: day for day in days_to_read(app, [part.day.trading_day for part in parts])}
    return [replace(part, day=readable[name]) for part in parts if (name := part.day.trading_day) in readable]


def told(start: str | None, end: str | None) -> str:
    """The times asked for, in words; empty when none were."""
    return " ".join(text for text in (start and f"from {start}", end and f"to {end}") if text)


def check_found(app: App, parts: Sequence[DayPart], symbols: Sequence[str], table: pa.Table, what: str) -> None:
    """NoData when there are no rows; a line on standard error for each symbol without."""
    from hk_tick_collector.query.fetch import explain_nothing  # noqa: PLC0415

    days = [part.day for part in parts]
    if not table.num_rows:
        raise NoData(explain_nothing(app.catalog, days, symbols, what))
    if len(symbols) > 1:
        found = set(table.column("symbol").unique().to_pylist())
        for symbol in symbols:
            if symbol not in found:
                say(explain_nothing(app.catalog, days, [symbol], what))
