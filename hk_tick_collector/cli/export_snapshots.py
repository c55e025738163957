"""``hk-tickctl export --kind snapshot``: days of snapshots as Parquet or CSV, every snapshot with its body."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hk_tick_collector.cli.common import App, be_gentle
from hk_tick_collector.cli.ending import clean_ending
from hk_tick_collector.cli.export_files import emit_files
from hk_tick_collector.core.clock import SystemClock
from hk_tick_collector.core.errors import NoData
from hk_tick_collector.market.hours import CONTINUOUS
from hk_tick_collector.store.layout import holds_snapshots, snapshot_days, snapshot_file
from hk_tick_collector.watch.when import some_days, symbol_list

if TYPE_CHECKING:
    from hk_tick_collector.client.plan import MarketRoots
    from hk_tick_collector.export.job import Exported

FORMATS = ("parquet", "csv")
TICK, SNAPSHOT = KINDS = ("tick", "snapshot")


def kind_meant(app: App, kind: str | None) -> str:
    """What ``--kind`` says; without it what the data root holds."""
    if kind is not None:
        return kind
    with suppress(NoData):  # there is no data root yet
        return SNAPSHOT if holds_snapshots(app.data_root) else TICK
    return TICK


def export_snapshots(
    app: App, format_: str, output: str, days: str | None, symbols: Sequence[str], *, force: bool
) -> None:
    """A file a day, under ``output``. NoData; UsageError for a format that is not for snapshots."""
    if format_ not in FORMATS:
        raise click.UsageError(f"snapshots are exported as {' or '.join(FORMATS)}, not as {format_}")
    directory = Path(output)
    if directory.suffix:
        raise click.UsageError("an export of snapshots is a tree of files: name a directory")
    wanted = set(symbol_list(app.market, symbols)) if symbols else None
    chosen = _days(app, days)
    be_gentle()
    with clean_ending():
        emit_files(app, format_, list(_write(app, format_, directory, chosen, wanted, force=force)), "snapshot")


def _days(app: App, days: str | None) -> list[str]:
    if not snapshot_days(app.data_root):
        raise NoData(f"no snapshots are recorded under {app.data_root}: SOURCE=gexbot records them (docs/gexbot.md)")
    if days is None:
        return snapshot_days(app.data_root)
    return some_days(snapshot_places(app), days)


def snapshot_places(app: App) -> MarketRoots:
    """The days with snapshots, for whoever reads days as people type them."""
    from hk_tick_collector.client.plan import MarketRoots  # noqa: PLC0415 - Arrow takes its time
    from hk_tick_collector.client.snapshots import SnapshotPlaces  # noqa: PLC0415

    return MarketRoots(app.market, SnapshotPlaces([app.catalog]), SystemClock())


def _write(
    app: App, format_: str, directory: Path, days: Sequence[str], symbols: set[str] | None, *, force: bool
) -> Iterator[Exported]:
    from hk_tick_collector.days.snapshots import read, schema  # noqa: PLC0415 - as above
    from hk_tick_collector.export.job import Exported  # noqa: PLC0415
    from hk_tick_collector.query.output import new_file, write_rows  # noqa: PLC0415
    from hk_tick_collector.store.snapshot_reader import series_there  # noqa: PLC0415

    for day in days:
        path = _target(directory, format_, app.market.code, day)
        source = snapshot_file(app.data_root, day)
        series = [
            series_name for series_name in series_there(source) if symbols is None or series_name.symbol in symbols
        ]
        path.parent.mkdir(parents=True, exist_ok=True)
        with new_file(path, replace=force) as stream:
            rows = write_rows(schema(), read(source, series, every=True), format_, stream)
        so_far = day == app.market.trading_day(app.now_ms) and app.calendar.phase(app.now_ms) in CONTINUOUS
        yield Exported(path, (day,), rows, path.stat().st_size, so_far)


def _target(directory: Path, format_: str, market: str, day: str) -> Path:
    if format_ == "parquet":
        return directory / f"market={market}" / f"day={day}" / "snapshots.parquet"
    return directory / f"{day}.snapshots.csv"
