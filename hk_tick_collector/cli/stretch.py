"""The stretch of time and the symbols that ``ticks`` and ``bars`` work on, as options and as what they mean."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from hk_tick_collector.cli.common import App, say
from hk_tick_collector.cli.options import days_option
from hk_tick_collector.watch.when import readable_days

if TYPE_CHECKING:
    import pyarrow as pa

    from hk_tick_collector.days.catalog import Day
    from hk_tick_collector.query.fetch import DayPart


def stretch_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """SYMBOL..., --days, --from, --to."""
    options: list[Callable[[Callable[..., Any]], Callable[..., Any]]] = [
        click.argument("symbols", nargs=-1, required=True, metavar="SYMBOL..."),
        days_option(),
        click.option(
            "--from", "start", metavar="TIME",
            help="Time of each day on the market's clock (09:30, 09:30:00.250), or one instant (2026-11-20T09:30).",
        ),
        click.option("--to", "end", metavar="TIME", help="Like --from, but exclusive."),
    ]  # fmt: skip
    for option in reversed(options):
        function = option(function)
    return function


def days_to_read(app: App, names: Sequence[str]) -> list[Day]:
    """These recorded days that can be read, as ``watch.when.readable_days`` says. A day that is left out is said, and
    the exit code is 1."""
    readable = readable_days(app, names)
    _say_remarks(app, readable.left_out, readable.remarks)
    return readable.days


def parts_of(app: App, days: str | None, start: str | None, end: str | None) -> list[DayPart]:
    """The stretches of the days meant, oldest first, as ``watch.stretch.stretch_of`` says; its remarks are printed."""
    from hk_tick_collector.watch.stretch import stretch_of  # noqa: PLC0415 - Arrow takes its time

    stretch = stretch_of(app, days, start, end)
    _say_remarks(app, stretch.left_out, stretch.remarks)
    return stretch.parts


def check_rows(app: App, parts: Sequence[DayPart], symbols: Sequence[str], table: pa.Table, narrowing: str) -> None:
    """NoData when there are no rows; a line on standard error for each symbol without."""
    from hk_tick_collector.watch.stretch import explain_missing  # noqa: PLC0415

    for sentence in explain_missing(app, parts, symbols, table, narrowing):
        say(sentence)


def _say_remarks(app: App, left_out: Sequence[str], remarks: Sequence[str]) -> None:
    app.left_out.extend(left_out)
    for remark in remarks:
        say(remark)
