"""``hk-tickctl snapshots``: a snapshot of a symbol at a time, or what of a day's grid was seen."""

from __future__ import annotations

import json
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hk_tick_collector.cli.common import EXIT_FINE, App, print_table, tickctl_command
from hk_tick_collector.cli.options import named_option
from hk_tick_collector.cli.snapshot_report import day_of, show_report
from hk_tick_collector.cli.terminal import show_text
from hk_tick_collector.core.errors import InputError, NoData
from hk_tick_collector.records.snapshot import Series
from hk_tick_collector.store.layout import snapshot_file
from hk_tick_collector.store.snapshot_reader import Span, StoredSnapshot, newest, series_there, stored_snapshots
from hk_tick_collector.watch.when import on_day_ms, symbol_list

if TYPE_CHECKING:
    pass

LOOK_BACK_SEC = 60
FIELDS_SHOWN = 24

_HELP = """The snapshot of SYMBOL at a given time; without SYMBOL, how much of a day's grid was seen.

The grid is one snapshot per second and series while the market trades. The source's own file of the day shows which
snapshots it never offered and which are absent here; without that file every hole counts as absent, and no day is
proven.

Times are the market's. Exits with 1 when a day that is over is not proven, with 3 when there is no such snapshot.
"""


@tickctl_command("snapshots", help=_HELP, short_help="Levels of gexbot at a time.")
@click.argument("symbol", required=False)
@named_option("--days", "day", earlier=["--day"], metavar="DAY", help="The day: YYYYMMDD, today; default: the newest.")
@click.option("--series", "name", metavar="PACKAGE/CATEGORY", help="Such as classic/gex_full; default: the first.")
@click.option("--at", "at", metavar="TIME", help="09:30, 09:30:15; default: the newest.")
def command(app: App, symbol: str | None, day: str | None, name: str | None, at: str | None) -> int:
    """See ``--help``."""
    chosen = day_of(app, day)
    path = snapshot_file(app.data_root, chosen)
    if symbol is None:
        if at is not None or name is not None:
            raise click.UsageError("--at and --series need a SYMBOL")
        return show_report(app, chosen)
    return _show_snapshot(app, path, chosen, _series_of(app, path, symbol, name), at)


def _series_of(app: App, path: Path, symbol: str, name: str | None) -> Series:
    (wanted,) = symbol_list(app.market, [symbol])[:1]
    there = series_there(path)
    of_symbol = [series for series in there if series.symbol == wanted]
    if not of_symbol:
        named = dict.fromkeys(series.symbol for series in there)
        raise NoData(f"no snapshot of {wanted} is recorded on that day; recorded: {', '.join(list(named)[:10])}")
    chosen = next((series for series in of_symbol if name in (None, f"{series.package}/{series.category}")), None)
    if chosen is None:
        names = ", ".join(f"{series.package}/{series.category}" for series in of_symbol)
        raise InputError(f"{name} is not recorded of {wanted}; there is {names}")
    return chosen


def _show_snapshot(app: App, path: Path, day: str, series: Series, at: str | None) -> int:
    if at is None:
        newest_snapshot = newest(path, series)
    else:
        until_sec = on_day_ms(at, day, app.market) // 1000 + 1
        before = deque(stored_snapshots(path, [series], Span(until_sec - LOOK_BACK_SEC, until_sec)), maxlen=1)
        newest_snapshot = before[0] if before else None
    if newest_snapshot is None:
        raise NoData(f"{series}: there is no snapshot within the minute before that time on {day}")
    snapshot = newest_snapshot
    body: dict[str, Any] = json.loads(snapshot.body or "{}")
    plain = {**snapshot._asdict(), "series": str(snapshot.series), "body": body}
    app.emit(plain, lambda: _print_snapshot(app, day, snapshot, body))
    return EXIT_FINE


def _print_snapshot(app: App, day: str, snapshot: StoredSnapshot, body: dict[str, Any]) -> None:
    zone = app.market.zone
    seen = "seen live" if snapshot.origin == "live" else "from the source's file of the day"
    show_text(f"{snapshot.series}, {zone.clock(snapshot.ts_sec * 1000)} {app.market.time_word} on {day}, {seen}")
    flat = [(name, _shown(value)) for name, value in body.items()]
    print_table(("field", "value"), flat[:FIELDS_SHOWN])
    if len(flat) > FIELDS_SHOWN:
        print(f"... and {len(flat) - FIELDS_SHOWN} fields more: --json")


def _shown(value: object) -> str:
    if isinstance(value, list):
        return f"{len(value)} rows: --json"
    return json.dumps(value) if not isinstance(value, str) else value
