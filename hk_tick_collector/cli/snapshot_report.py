"""What of a day's grid of snapshots was seen, as ``snapshots`` says it, and ``day`` where they are recorded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from hk_tick_collector.cli.common import EXIT_FINE, EXIT_PROBLEM, App, print_table
from hk_tick_collector.cli.terminal import show_text
from hk_tick_collector.core.errors import NoData
from hk_tick_collector.store.layout import snapshot_days, snapshot_file
from hk_tick_collector.store.snapshot_reader import why_absent
from hk_tick_collector.store.verdict import PROVEN
from hk_tick_collector.watch.when import one_day

if TYPE_CHECKING:
    from hk_tick_collector.quality.snapshots import SeriesGrid, SnapshotReport

RANGES_SHOWN = 3

_COLUMNS = ("series", "state", "grid", "seen", "absent", "not offered", "only copy", "several")


def day_of(app: App, day: str | None) -> str:
    """The day meant; None: the newest with snapshots. NoData."""
    days = snapshot_days(app.data_root)
    if not days:
        raise NoData(f"no snapshots are recorded under {app.data_root}: SOURCE=gexbot records them (docs/gexbot.md)")
    if day in (None, "last"):
        return days[-1]
    chosen = one_day(app, day)
    if chosen not in days:
        raise NoData(f"no snapshots: {why_absent(chosen, days, [app.archive_root])}")
    return chosen


def show_report(app: App, day: str) -> int:
    """Of one day. The exit code: 1 when it is over and not proven."""
    from hk_tick_collector.quality.snapshots import report_of  # noqa: PLC0415 - not for --help

    report = report_of(snapshot_file(app.data_root, day), day, app.market, app.calendar.day_kind(day), app.now_ms)
    plain = {"state": report.state, "sentence": report.sentence, **asdict(report)}
    app.emit(plain, lambda: _print_report(app, report))
    return EXIT_PROBLEM if report.is_over and report.state != PROVEN else EXIT_FINE


def _print_report(app: App, report: SnapshotReport) -> None:
    show_text(f"{report.trading_day}: {report.sentence}")
    print_table(_COLUMNS, [_row(grid) for grid in report.series], numbers=_COLUMNS[2:], spare=("several", "only copy"))
    for grid in report.series:
        if grid.reason and report.is_over:
            show_text(f"{grid.symbol}/{grid.package}/{grid.category}: {grid.reason}{_ranges(app, grid.absent_ranges)}")


def _row(grid: SeriesGrid) -> tuple[object, ...]:
    name = f"{grid.symbol}/{grid.package}/{grid.category}"
    return name, grid.state, grid.expected, grid.seen, grid.absent, grid.not_offered, grid.only_copy, grid.several


def _ranges(app: App, ranges: Sequence[tuple[int, int]]) -> str:
    clock = app.market.zone.clock
    shown = [f"{clock(first * 1000)} to {clock(last * 1000)}" for first, last in ranges[:RANGES_SHOWN]]
    more = f" and {len(ranges) - RANGES_SHOWN} more stretches" if len(ranges) > RANGES_SHOWN else ""
    return f"; absent {', '.join(shown)}{more}" if shown else ""
