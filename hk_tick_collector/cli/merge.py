"""``hk-tickctl merge``: one day out of the recordings of several recorders."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hk_tick_collector.cli.archiving import for_each_day, stored_rows
from hk_tick_collector.cli.common import (
    EXIT_FINE,
    EXIT_PROBLEM,
    App,
    be_gentle,
    print_table,
    say,
    tickctl_command,
)
from hk_tick_collector.cli.ending import clean_ending
from hk_tick_collector.cli.options import days_option
from hk_tick_collector.cli.twins import apps_of
from hk_tick_collector.core.errors import NoData
from hk_tick_collector.core.text import counted
from hk_tick_collector.days.catalog import Catalog
from hk_tick_collector.store import data_root
from hk_tick_collector.store.layout import archive_dir
from hk_tick_collector.watch.when import some_days

if TYPE_CHECKING:
    from hk_tick_collector.archive.merge import Merged


@tickctl_command(
    "merge",
    names_roots=True,
    help="""Make one day out of the recordings of several recorders.

    ROOTS are the data roots of recorders that ran at the same time. Each of their ticks goes once into a day file
    under --into, with what each recorder noted. What one recorder lost is not a gap if another has it; only what all
    of them lack is missing. A symbol is proven when one of them proves it, or when they do so together. If two
    recordings contradict each other on a symbol, only one of them is used; it is named, and the symbol is unproven.

    The result is read back and compared before it appears. The recordings are only read; a day that is still being
    recorded is left for later. The result is a data root like any other: day, archive, export and hk.load work on it.

    Exits with 1 when recordings contradict each other or a day failed, with 3 when there is nothing to merge.
    """,
    short_help="One day out of several recorders' recordings of it.",
)
@click.argument("roots", nargs=-1, required=True, type=click.Path(path_type=Path, file_okay=False, readable=False))
@click.option(
    "--into",
    required=True,
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="The data root of the merged days; made when it does not exist.",
)
@days_option("Default: all that are over, in every recording, and not there yet.")
@click.option("--replace", is_flag=True, help="Replace a merged day that holds something else.")
def command(app: App, roots: tuple[Path, ...], into: Path, days: str | None, replace: bool) -> int:
    """See the help text."""
    if len(roots) < 2:
        raise click.UsageError("name two data roots or more: hk-tickctl merge A B --into DIR")
    apps = apps_of(app, roots)
    target = into.absolute()
    if any(target.is_dir() and target.samefile(source_app.data_root) for source_app in apps.values()):
        raise click.UsageError(f"{into} is one of the recordings: merge into a directory of its own")
    chosen = _days(apps, target, days)
    app.work_as_owner(target if target.is_dir() else target.parent)
    be_gentle()
    results, failed = _merge(apps, target, chosen, replace=replace)
    app.emit(
        {"into": target, "days": [asdict(result) for result in results], "failed": failed},
        lambda: _show(results, failed),
    )
    return EXIT_PROBLEM if failed or any(result.conflicts for result in results) else EXIT_FINE


def _merge(
    apps: Mapping[str, App], target: Path, days: Sequence[str], *, replace: bool
) -> tuple[list[Merged], dict[str, str]]:
    """What became of each day, and which failed, why; the others go on."""
    from hk_tick_collector.archive import atomic, merge  # noqa: PLC0415 - Arrow takes its time

    first = next(iter(apps.values()))
    results: list[Merged] = []
    failed: dict[str, str] = {}

    def one_day(day: str, on_rows: Callable[[float], None]) -> Merged:
        recorded = {
            name: source_app.catalog.day(day) for name, source_app in apps.items() if day in source_app.catalog.days()
        }
        with merge.recordings(recorded, target, first.now_ms) as sources:
            return merge.merge_day(
                day, sources, target, first.market, now_ms=first.now_ms, replace=replace, on_rows=on_rows
            )

    with clean_ending(), atomic.only_job(target, merge.LOCK_FILE):
        merge.tidy(target)
        data_root.claim(target, first.market.code)
        for day, result in for_each_day(days, "merge", lambda day: _rows(apps, day), one_day):
            if isinstance(result, str):
                failed[day] = result
            else:
                results.append(result)
    return results, failed


def _days(apps: Mapping[str, App], target: Path, text: str | None) -> list[str]:
    """Those that are over, of any of the recordings. NoData when there is none."""
    recorded = [set(app.catalog.days()) for app in apps.values()]
    known = set[str]().union(*recorded)
    if text is None:
        there = set(Catalog(target, archive_dir(target)).days()) if target.is_dir() else set()
        named = known - there
        # A day that is there is not looked at again: one made of half of the recordings would stay so.
        alone = sorted(day for day in named if not all(day in days for days in recorded))
        named.difference_update(alone)
        if alone:
            say(f"left for later, for not every recording has it (--days merges it all the same): {', '.join(alone)}")
    else:
        named = set()
        for app in apps.values():
            try:
                named.update(some_days(app, text))
            except NoData as exc:
                nothing = exc
        if not named:
            raise nothing
    calendar = next(iter(apps.values())).calendar
    now_ms = next(iter(apps.values())).now_ms
    going_on = sorted(day for day in named if calendar.recording_window(day)[1] > now_ms)
    if going_on:
        say(f"left for later, for it is not over: {', '.join(going_on)}")
    chosen = sorted(named.difference(going_on))
    if not chosen and (text is not None or not known):
        raise NoData(f"there is no day to merge in {' and '.join(apps)}")
    return chosen


def _rows(apps: Mapping[str, App], day: str) -> int | None:
    return (
        sum(stored_rows(source_app, day) or 0 for source_app in apps.values() if day in source_app.catalog.days())
        or None
    )


def _show(results: list[Merged], failed: Mapping[str, str]) -> None:
    lines = [(result.trading_day, result.action, _sentence(result)) for result in results]
    lines += [(day, "failed", problem) for day, problem in failed.items()]
    if not lines:
        print("nothing to do: every day that is over in all recordings is merged already")
        return
    print_table(("day", "result", "details"), sorted(lines), text="details")
    for result in results:
        for conflict in result.conflicts:
            say(conflict.sentence(result.trading_day, "taken"))


def _sentence(result: Merged) -> str:
    states = ", ".join(f"{count:,} {state}" for state, count in sorted(result.states.items()))
    missing = f"; {counted(result.missing_ticks, 'tick')} missing in all" if result.missing_ticks else ""
    added = [f"{rows:,} from {name}" for name, rows in result.added_rows.items() if rows]
    more = f" ({' and '.join(added)} beside the fullest)" if added else ""
    return f"{counted(result.rows, 'tick')}{more}; symbols: {states}{missing}"
