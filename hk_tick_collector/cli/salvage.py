"""``hk-tickctl salvage``: what can be read of a damaged day file, into a whole one."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from hk_tick_collector.cli.common import EXIT_PROBLEM, App, be_gentle, progress, tickctl_command
from hk_tick_collector.cli.ending import NOTHING_LEFT, clean_ending
from hk_tick_collector.cli.terminal import show_text
from hk_tick_collector.store.layout import day_file, parse_day, set_aside_day
from hk_tick_collector.store.salvage import SalvageReport, salvage

MAX_RANGES_SHOWN = 50


@tickctl_command(
    "salvage",
    help="""Copy everything readable from a damaged day file into a sound one.

    FILE, for example 20261120.db.corrupt-20261120T013000.000Z, is only read. Its rows go into the day file beside it,
    or where --into says, also while the recorder writes there; rows that are there already are skipped. Exits with 1
    when rows were lost. Root works with the rights of the owner of FILE's directory, as everywhere.
    """,
)
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "--into", type=click.Path(path_type=Path), metavar="DATA_ROOT|FILE", help="A day file, or the directory of one."
)
def command(app: App, file: Path, into: Path | None) -> int | None:
    """Run it."""
    target = _target(file, into)
    for directory in (file.absolute().parent, target.absolute().parent):
        app.work_as_owner(directory)
    be_gentle()
    so_far = f"{target} holds what was copied so far, and the same command goes on with it"
    left = so_far if target.exists() else NOTHING_LEFT
    with clean_ending(left), progress(f"salvage {file.name}"):
        report = salvage(file, target)
    app.emit(_as_json(report, file, target), lambda: _show(report, file, target))
    return None if report.clean else EXIT_PROBLEM


def _target(source: Path, into: Path | None) -> Path:
    day = set_aside_day(source) or parse_day(source)
    if into is None or into.is_dir():
        if day is None:
            raise click.UsageError(
                f"{source.name} is not named YYYYMMDD.db.corrupt-<utc>: name the day file with --into YYYYMMDD.db"
            )
        into = day_file(into or source.parent, day)
    if into.exists() and into.samefile(source):
        raise click.UsageError(
            f"{source} cannot be salvaged into itself: move it away first or name another target with --into"
        )
    return into


def _as_json(report: SalvageReport, source: Path, target: Path) -> dict[str, object]:
    return {"file": source, "into": target, "clean": report.clean, **asdict(report)}


def _show(report: SalvageReport, source: Path, target: Path) -> None:
    there = report.read_rows - report.copied_rows - report.refused_rows
    show_text(f"salvage of {source} into {target}")
    if report.problem is not None:
        show_text(report.problem, "  not readable: ")
    print(f"  rows read: {report.read_rows:,}")
    print(f"  rows copied: {report.copied_rows:,}" + (f" ({there:,} were there already)" if there > 0 else ""))
    if report.refused_rows:
        print(f"  rows the target refused: {report.refused_rows:,}")
    print(f"  unreadable ranges of rowid: {len(report.unreadable):,}")
    for low, high in report.unreadable[:MAX_RANGES_SHOWN]:
        print(f"    {low}..{high} ({high - low + 1:,} row{'s' if high > low else ''} at most)")
    if len(report.unreadable) > MAX_RANGES_SHOWN:
        print(f"    and {len(report.unreadable) - MAX_RANGES_SHOWN:,} more")
    if report.lost_notes:
        show_text(f"{' and '.join(report.lost_notes)} could not be read: no symbol of the day is proven", "  notes of ")
    if report.clean:
        print("  every row of the file was read and is stored")
    else:
        lost = "notes were lost" if not report.unreadable and report.lost_notes else "rows were lost"
        show_text(f"{lost}; keep {source.name} until nothing more can be had from it", "  ")
