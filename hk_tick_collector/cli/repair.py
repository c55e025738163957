"""``hk-tickctl repair``: ask OpenD for what a day file lacks, and store it the way the recorder does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from hk_tick_collector.cli.asking import check_source, with_link
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
from hk_tick_collector.cli.gap_ranges import ranges_in
from hk_tick_collector.cli.options import day_argument, symbols_option
from hk_tick_collector.cli.terminal import show_text
from hk_tick_collector.core.errors import NoData
from hk_tick_collector.core.text import counted
from hk_tick_collector.sources.registry import spec_to_ask
from hk_tick_collector.watch.repair import Repair, RepairPlan, plan, repairable_day
from hk_tick_collector.watch.when import one_day, symbol_list


@tickctl_command(
    "repair",
    help="""Fetch from OpenD what is missing in the day file, and store it.

    OpenD shows the newest 1000 ticks of a symbol, from the current session or, before 09:00 and on days without
    trading, the last one: that is the only DAY that can be repaired. It asks for symbols that have missing ticks, are
    not proven complete or were last confirmed some time ago, and for wanted symbols without any tick. With --symbols it
    asks for those, whatever their state. They are subscribed, without pushes, for as long as this takes; symbols that
    the recorder has subscribed already cost no extra quota.

    --ranges FILE asks for the symbols of a missing_ranges.json (hk-tickctl gaps --output, or Shijim's); ranges of other
    days are named, and the exit code is then 1.

    Safe while the recorder runs. Shows every symbol before and after. Exits with 0 when all of them are proven complete
    afterwards (or OpenD has no ticks of them), else 1. With --dry-run: 0 when there is nothing to ask for, else 1.""",
)
@day_argument()
@symbols_option()
@click.option(
    "--ranges", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Ask for the symbols of this list."
)
@click.option("--dry-run", is_flag=True, help="Only show what would be asked for.")
def command(app: App, day: str | None, symbols: Sequence[str], ranges: Path | None, dry_run: bool) -> int | None:
    """See the help text."""
    check_source(app)
    chosen = one_day(app, day) if day else None
    trading_day = repairable_day(app, app.calendar, chosen)
    only = symbol_list(app.market, symbols) if symbols else []
    others = 0
    if ranges is not None:
        listed, others = _of_day(app, ranges, trading_day)
        only = list(dict.fromkeys((*only, *listed)))
    repair_plan = plan(app, app.calendar, trading_day, () if only else app.settings.symbols, only)
    repairs = repair_plan.repairs
    if dry_run or not repairs:
        app.emit(
            _as_json(trading_day, repairs, dry_run=dry_run), lambda: _show_plan(trading_day, repairs, app.market.code)
        )
        return EXIT_PROBLEM if repairs or others else EXIT_FINE
    be_gentle()
    rejected_ticks = _run(app, repair_plan)
    repair_plan.look_again()
    app.emit(_as_json(trading_day, repairs, dry_run=False), lambda: _show(trading_day, repairs))
    if rejected_ticks:
        say(f"hk-tickctl: {counted(rejected_ticks, 'tick')} of OpenD cannot be stored; the recorder puts such aside")
    return EXIT_FINE if repair_plan.complete and not others else EXIT_PROBLEM


def _of_day(app: App, path: Path, trading_day: str) -> tuple[list[str], int]:
    """The symbols of a file's ranges of the day, and how many ranges are of other days. NoData when none is of it."""
    ranges = ranges_in(app, path)
    others = Counter(time_range.trading_day for time_range in ranges if time_range.trading_day != trading_day)
    if others:
        days = ", ".join(sorted(others)[:5]) + (", ..." if len(others) > 5 else "")
        say(f"{counted(others.total(), 'range')} of {days} cannot be asked for: OpenD shows {trading_day} alone")
    if others.total() == len(ranges):
        raise NoData(f"{path} has no range of {trading_day}, the day that OpenD shows")
    return [time_range.symbol for time_range in ranges if time_range.trading_day == trading_day], others.total()


def _run(app: App, repair_plan: RepairPlan) -> int:
    """Ask and store; how many ticks could not be stored."""
    from hk_tick_collector.watch.repair_job import RepairJob  # noqa: PLC0415 - futu-api takes its time

    with progress("ticks from OpenD", len(repair_plan.repairs)) as advance:
        job = RepairJob(repair_plan, app.data_root, app.settings.sqlite, advance)
        with_link(app, job.days, job.run)
    return job.rejected_ticks


def _as_json(day: str, repairs: Sequence[Repair], *, dry_run: bool) -> dict[str, Any]:
    return {
        "trading_day": day,
        "dry_run": dry_run,
        "asked_symbols": 0 if dry_run else len(repairs),
        "new_ticks": sum(repair.new_ticks for repair in repairs),
        "complete": not repairs if dry_run else all(repair.complete for repair in repairs),
        "symbols": [{**asdict(repair), "complete": repair.complete and not dry_run} for repair in repairs],
    }


def _show_plan(day: str, repairs: Sequence[Repair], market: str) -> None:
    if not repairs:
        show_text(f"{day}: nothing is missing, every symbol is proven complete: nothing to ask for")
        return
    columns = ("symbol", "state", "stored", "missing", "open gaps", "why")
    rows = [
        (
            repair.symbol,
            repair.before.state,
            repair.before.stored_ticks,
            repair.before.missing_ticks,
            repair.before.open_gaps,
            repair.why,
        )
        for repair in repairs
    ]
    print_table(columns, rows, numbers=columns[2:5], spare=("open gaps",), text="why")
    spec = spec_to_ask(market)
    newest = f"{spec.pull.newest_rows} " if spec is not None else ""
    show_text(f"{day}: OpenD would be asked for the newest {newest}ticks of {counted(len(repairs), 'symbol')}")


def _show(day: str, repairs: Sequence[Repair]) -> None:
    columns = (
        "symbol",
        "before",
        "after",
        "missing before",
        "after ",
        "open gaps before",
        "after  ",
        "new ticks",
        "note",
    )
    rows = [
        (
            repair.symbol, repair.before.state, repair.after.state,
            repair.before.missing_ticks, repair.after.missing_ticks,
            repair.before.open_gaps, repair.after.open_gaps,
            repair.new_ticks, repair.error or repair.after.reason or "",
        )
        for repair in repairs
    ]  # fmt: skip
    print_table(columns, rows, numbers=columns[3:8], spare=columns[6:4:-1], text="note")
    left = [repair for repair in repairs if not repair.complete]
    failed = sum(repair.error is not None for repair in repairs)
    new_ticks = sum(repair.new_ticks for repair in repairs)
    end = "all are complete now" if not left else f"{len(left)} are not proven complete, of these {failed} failed"
    show_text(f"{day}: asked for {counted(len(repairs), 'symbol')}, stored {counted(new_ticks, 'new tick')}; {end}")
