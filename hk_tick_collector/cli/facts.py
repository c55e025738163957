"""``hk-tickctl facts``: what a day shows of OpenD's habits that nobody has documented, fit to be posted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hk_tick_collector.cli.common import App, be_gentle, progress, say, tickctl_command
from hk_tick_collector.cli.options import day_argument, named_option
from hk_tick_collector.records.tick import Origin
from hk_tick_collector.watch.access import check_open
from hk_tick_collector.watch.when import one_day

if TYPE_CHECKING:
    from hk_tick_collector.quality.facts import DayFacts, Fact

WIDTH = 80
_VALUE_WIDTH = 13
_HELP = """What DAY (YYYYMMDD, today; without it the newest one) shows about undocumented behaviour of OpenD: where
counters begin and how they step, over lunch, auctions and reconnects; sequences that are missing or equal; push
against pull; rows per push; delays; times without milliseconds; types and their signs.

It groups symbols into classes by ranges of codes, which is approximate. The output has no
prices, volumes or directions, and nothing about the account. It names no symbol either, unless --name-symbols asks
for some of the unusual ones, so it can be published as it is. docs/open-facts.md says which open question each part
answers, and where to send it.

Reads every row, which takes about four seconds per million rows. Exits with 3 when there is no such day.
"""


@tickctl_command("facts", help=_HELP, short_help="What a day shows of OpenD's undocumented habits.")
@day_argument()
@named_option(
    "--name-symbols", "symbols", earlier=["--symbols"], is_flag=True,
    help="Name some symbols that are out of the ordinary.",
)  # fmt: skip
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write to this file instead."
)  # fmt: skip
def command(app: App, day: str | None, symbols: bool, output: Path | None) -> None:
    """See ``--help``."""
    stored_day = app.catalog.day(one_day(app, day))
    check_open(stored_day.source)
    if stored_day.conflict:
        say(stored_day.conflict)
    from hk_tick_collector.quality.facts import day_facts  # noqa: PLC0415 - DuckDB takes its time

    if not Origin(app.market.code).counts:
        say(f"note: {app.market.where} sequences count nothing; what follows on counters says nothing there")
    be_gentle()
    with progress("reading all rows", sum(stored_day.rows_by_symbol().values())) as done:
        facts = day_facts(stored_day, app.calendar, app.now_ms, name_symbols=symbols, on_rows=done)
    text = json.dumps(asdict(facts), indent=1) if app.as_json else "\n".join(_page(facts))
    if output is None:
        print(text)
        return
    from hk_tick_collector.store.atomic import replacing  # noqa: PLC0415

    with replacing(output.absolute()) as part:
        part.write_text(f"{text}\n", encoding="utf-8")
    say(f"written: {output}")


def _page(facts: DayFacts) -> Iterator[str]:
    ended = "still in session" if facts.so_far else "over"
    yield f"Facts of {facts.trading_day} ({facts.day_kind} day, {ended}), from the {facts.source}"
    yield f"hk-tick-collector {facts.version}, futu-api {facts.futu_api}; classes are approximate"
    for fact in facts.facts:
        yield ""
        yield from _section(fact, facts.classes)


def _section(fact: Fact, classes: tuple[str, ...]) -> Iterator[str]:
    width = min(_VALUE_WIDTH, (WIDTH - 30) // len(classes))
    yield fact.name
    yield f"({fact.about})"
    yield " " * (WIDTH - width * len(classes)) + "".join(name.rjust(width) for name in classes)
    for line in fact.lines:
        values = "".join(_shown(line.values[name], width) for name in classes)
        yield f"{line.label:<{WIDTH - width * len(classes)}}{values}".rstrip()
    if fact.symbols:
        yield f"out of the ordinary, for example: {fact.symbols[0]}"
        yield from (f"  {name}" for name in fact.symbols[1:])


def _shown(value: int | str | None, width: int) -> str:
    text = "-" if value is None else str(value)
    return text.rjust(width)
