"""``hk-tickctl compare``: what two recordings of the same days have, and what one has alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hk_tick_collector.cli.common import (
    EXIT_FINE,
    EXIT_PROBLEM,
    App,
    be_gentle,
    print_table,
    progress,
    say,
    tickctl_command,
)
from hk_tick_collector.cli.options import days_option, symbols_option
from hk_tick_collector.cli.terminal import show_text
from hk_tick_collector.cli.twins import apps_of
from hk_tick_collector.core.errors import NoData
from hk_tick_collector.core.text import counted
from hk_tick_collector.watch.when import some_days, symbol_list

if TYPE_CHECKING:
    from hk_tick_collector.days.twins import Difference

NUMBERS = ("in A", "in B", "only A", "only B", "otherwise", "renumbered")


@dataclass
class Total:
    """Of a day."""

    symbols: int = 0
    common_rows: int = 0
    a_came_first: int = 0
    b_came_first: int = 0


@tickctl_command(
    "compare",
    names_roots=True,
    help="""Compare two recordings of the same days, tick by tick.

    A and B are data roots; archived days are read, too. It shows the symbols that differ: ticks that only one has,
    different trades under the same sequence (otherwise), and trades that both have under different sequences
    (renumbered). When and how a tick was received does not count as a difference, but it shows which of the two was
    first.

    Exits with 1 when anything differs, with 3 when there is no common day.
    """,
    short_help="What two recordings of a day have, tick by tick.",
)
@click.argument("first", metavar="A", type=click.Path(path_type=Path, file_okay=False, readable=False))
@click.argument("second", metavar="B", type=click.Path(path_type=Path, file_okay=False, readable=False))
@days_option("Default: the newest that both have.")
@symbols_option()
def command(app: App, first: Path, second: Path, days: str | None, symbols: tuple[str, ...]) -> int:
    """See the help text."""
    from hk_tick_collector.days.twins import differences  # noqa: PLC0415 - Arrow takes its time

    first_app, second_app = apps_of(app, [first, second]).values()
    be_gentle()
    chosen = _days(first_app, second_app, days)
    wanted = symbol_list(first_app.market, symbols) if symbols else None
    unequal: list[tuple[str, str, Difference]] = []
    totals: dict[str, Total] = {}
    for day in chosen:
        total = totals[day] = Total()
        with progress(f"compare {day}") as done:
            for symbol, difference in differences(first_app.catalog.day(day), second_app.catalog.day(day), wanted):
                total.symbols += 1
                total.common_rows += difference.common_rows
                total.a_came_first += difference.first_came_first
                total.b_came_first += difference.second_came_first
                if not difference.is_equal:
                    unequal.append((day, symbol, difference))
                done(1)
    app.emit(
        {
            "a": first_app.data_root,
            "b": second_app.data_root,
            "days": [{"trading_day": day, **vars(total)} for day, total in totals.items()],
            "differing": [_as_dict(day, symbol, difference) for day, symbol, difference in unequal],
        },
        lambda: _show(totals, unequal),
    )
    return EXIT_PROBLEM if unequal else EXIT_FINE


def _days(first_app: App, second_app: App, text: str | None) -> list[str]:
    both = sorted({*first_app.catalog.days()} & {*second_app.catalog.days()})
    if not both:
        raise NoData(f"{first_app.data_root} and {second_app.data_root} have no day in common")
    if text is None:
        return both[-1:]
    named = some_days(first_app, text)
    alone = [day for day in named if day not in both]
    if alone:
        say(f"left out, for {second_app.data_root} does not have them: {', '.join(alone)}")
    if len(alone) == len(named):
        raise NoData(f"{second_app.data_root} has no day of {text}")
    return [day for day in named if day in both]


def _as_dict(day: str, symbol: str, difference: Difference) -> dict[str, object]:
    return {"trading_day": day, "symbol": symbol, **dict(zip(_keys(), _values(difference), strict=True))}


def _keys() -> list[str]:
    return ["rows_a", "rows_b", "only_a", "only_b", "otherwise", "renumbered"]


def _values(difference: Difference) -> tuple[int, ...]:
    return (
        difference.first_rows,
        difference.second_rows,
        len(difference.first_only),
        len(difference.second_only),
        difference.otherwise,
        difference.renumbered,
    )


def _show(totals: dict[str, Total], unequal: list[tuple[str, str, Difference]]) -> None:
    if unequal:
        rows = [(day, symbol, *_values(difference)) for day, symbol, difference in unequal]
        print_table(("day", "symbol", *NUMBERS), rows, numbers=NUMBERS, spare=("renumbered", "otherwise"))
    for day, total in totals.items():
        differing = sum(name == day for name, _, _ in unequal)
        which = f"{counted(differing, 'symbol')} of {total.symbols:,} differ" if differing else "no difference"
        show_text(f"{day}: {which}; {counted(total.common_rows, 'tick')} in both{_first(total)}")


def _first(total: Total) -> str:
    if not total.common_rows:
        return ""
    a, b = (100 * rows / total.common_rows for rows in (total.a_came_first, total.b_came_first))
    return f", received first by A {a:.0f} %, by B {b:.0f} %"
