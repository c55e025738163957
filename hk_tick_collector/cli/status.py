"""``hk-tickctl status``: is it running, and is everything as it should be? Once, or as a live screen."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hk_tick_collector.cli.common import EXIT_FINE, EXIT_NO_DATA, EXIT_PROBLEM, App, tickctl_command
from hk_tick_collector.cli.options import unit_option
from hk_tick_collector.cli.terminal import KEPT, console, json_text, show
from hk_tick_collector.clickhouse.shipping import DEFAULT_DIR
from hk_tick_collector.core.errors import ConfigError
from hk_tick_collector.core.text import counted, printable
from hk_tick_collector.health.judgement import login_words
from hk_tick_collector.records.kind import TICK
from hk_tick_collector.watch.condition import FINE, NO_DATA, PROBLEM, Condition, look
from hk_tick_collector.watch.recorder import UNIT, days_text, service

if TYPE_CHECKING:
    from rich.table import Table

    from hk_tick_collector.clickhouse.shipping import ShipStatus

WATCH_INTERVAL_SEC = 1.0
_EXIT_CODES = {FINE: EXIT_FINE, PROBLEM: EXIT_PROBLEM, NO_DATA: EXIT_NO_DATA}
_COLOURS = {"ok": "green", "warn": "yellow", "alert": "bold red", "problem": "bold red", "note": "yellow"}
_UNITS = ("bytes", "KB", "MB", "GB", "TB")

Row = tuple[str, str, str]  # what it is about, the text, its style


@tickctl_command(
    "status",
    several=True,
    help="""Is it running, and is everything as it should be?

    Shows the service, the process, OpenD, the phase of the market, rows, lag and rate, what waits in queue and spill,
    holes, the disk and how long it lasts, the last alert, and how complete the newest day is. Reads what the recorder
    writes every two seconds and disturbs nothing; also works while it hangs or is dead.

    Exits with 0 when all is fine, 1 when something has to be done (not running, silent, an alert, disk full), 3 when
    nothing is recorded and nothing runs. With --watch the screen is refreshed every second until Ctrl-C (130); with
    --watch --json a line of JSON is printed every second.""",
)
@click.option("--watch", is_flag=True, help="Refresh the screen every second until Ctrl-C.")
@unit_option
def command(app: App, watch: bool, unit: str) -> int:
    if len(app.catalogs) > 1:
        return _of_several(app, watch, unit)
    if watch:
        _watch(lambda: take(app, unit), as_json=app.as_json)
    condition = take(app, unit)
    app.emit(condition.as_json(), lambda: _print(condition))
    return _EXIT_CODES[condition.verdict]


def _of_several(app: App, watch: bool, unit: str) -> int:
    """Each data root by itself, and the worst of them. UsageError with --watch, which has room for one."""
    if watch:
        raise click.UsageError("--watch shows one recorder: choose its data root with --data-root")
    own = app.data_root
    conditions = {
        str(of_root.data_root): take(of_root, unit if of_root.data_root == own else None) for of_root in app.each_root()
    }

    def human() -> None:
        for root, condition in conditions.items():
            print(f"{root}:")
            _print(condition)
            print()

    app.emit({"roots": [{"data_root": root, **condition.as_json()} for root, condition in conditions.items()]}, human)
    codes = {_EXIT_CODES[condition.verdict] for condition in conditions.values()}
    return next(code for code in (EXIT_PROBLEM, EXIT_FINE, EXIT_NO_DATA) if code in codes)


def take(app: App, unit: str | None = UNIT) -> Condition:
    """Look once with what the command was given. ``unit``: None where nobody says which it is. RecorderError when this
    user may not look."""
    # First: without D-Bus systemd talks to root alone, and behind data_root we may not be.
    systemd = None if unit is None else service(unit)
    ship_dir = ship_dir_of(app)
    return look(app.data_root, app.calendar, app.now_ms, systemd, ship_dir)


def ship_dir_of(app: App) -> Path | None:
    """Where hk-tick-ship keeps its state; None when its settings are wrong, which is its own affair. Who names a data
    root asks no settings."""
    if app.data_root_given is not None:
        return Path(os.environ.get("SHIP_DIR") or DEFAULT_DIR)
    from hk_tick_collector.ship.settings import load_ship_settings  # noqa: PLC0415 - pydantic takes its time

    with contextlib.suppress(ConfigError):
        return load_ship_settings(app.env_file, os.environ).ship_dir
    return None


def _watch(shot: Callable[[], Condition], *, as_json: bool) -> None:
    """Never returns: Ctrl-C ends it."""
    if as_json or not sys.stdout.isatty():
        while True:
            condition = shot()
            if as_json:
                print(json_text(condition.as_json()), flush=True)
            else:
                _print(condition)
                print(flush=True)
            time.sleep(WATCH_INTERVAL_SEC)
    from rich.live import Live  # noqa: PLC0415

    with Live(table(shot()), console=console(), screen=True, auto_refresh=False) as live:
        while True:
            time.sleep(WATCH_INTERVAL_SEC)
            live.update(table(shot()), refresh=True)


def _print(condition: Condition) -> None:
    if not sys.stdout.isatty():
        for name, text, _ in rows(condition):
            print(f"{name:<12}" + text.replace("\n", f"\n{'':<12}"))
        return
    show(table(condition))


def table(condition: Condition) -> Table:
    """The picture."""
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True, style="bold")
    grid.add_column(overflow="fold")
    for name, text, style in rows(condition):
        grid.add_row(name, Text(printable(text, KEPT), style=style))
    return grid


def rows(condition: Condition) -> list[Row]:
    """The picture's lines."""
    lines = [_recorder(condition), ("service", _service(condition), "")]
    status = condition.status
    if condition.is_fresh and status is not None:
        lines.append((status.source, _source(condition), "" if status.link_state == "ready" else _COLOURS["warn"]))
    lines.append(("market", condition.phase.replace("_", " "), ""))
    if condition.is_fresh and status is not None:
        commit = "nothing in the last minute"
        if status.commit_latency_p99_ms is not None:
            commit = f"99 % within {status.commit_latency_p99_ms:g} ms of their receipt"
        lag = f"no {status.noun} yet" if status.newest_ts_ms is None else _lag(_lag_sec(condition), status.noun)
        lines += [
            (
                "stored",
                f"{status.stored_rows:,} {status.noun}s since the start, {status.rows_per_sec:,g} a second; {lag}",
                "",
            ),
            ("commit", f"{commit}; WAL {_size(status.wal_bytes)}", ""),
            (
                "waiting",
                f"queue {status.queue_rows:,}, in hand {status.in_hand_rows:,}, spill {status.spill_rows:,}",
                "",
            ),
        ]
        if status.noun == TICK:  # nothing else has numbers that a hole could be in
            lines.append(("holes", f"{status.open_holes:,} open; {status.missing_ticks:,} ticks missing", ""))
    lines += [("day", _day(condition), ""), ("disk", _disk(condition), ""), ("last alert", _last_alert(condition), "")]
    if condition.ship is not None:
        lines.append(("ClickHouse", _copies(condition, condition.ship), ""))
    lines += [("problem", text, _COLOURS["problem"]) for text in condition.problems]
    lines += [("note", text, _COLOURS["note"]) for text in condition.notes]
    return lines


def _copies(condition: Condition, ship: ShipStatus) -> str:
    proven = f"{counted(ship.verified_days, 'day')} verified" + (
        f", {ship.verified_day} last" if ship.verified_day else ""
    )
    if ship.is_stopped:
        return f"hk-tick-ship is stopped; {proven}"
    if not ship.rows_behind:
        return f"nothing waits; {proven}"
    since = _span((condition.at_ms - ship.oldest_waiting_ms) / 1000)
    return f"{counted(ship.rows_behind, 'tick')} behind, {since}; {proven}"


def _recorder(condition: Condition) -> Row:
    status = condition.status
    if not condition.is_running:
        return "recorder", "not running", _COLOURS["problem"]
    if not condition.is_fresh or status is None:
        assert condition.process is not None
        return "recorder", f"pid {condition.process.pid}, silent", _COLOURS["problem"]
    pid = condition.process.pid if condition.process is not None else f"{status.pid} in another container"
    since = f"since {condition.market.stamp(status.started_at_ms)} (pid {pid}, version {status.version})"
    return "recorder", f"{status.status}, running {since}", _COLOURS.get(status.status, "")


def _service(condition: Condition) -> str:
    service = condition.service
    if service is None:
        return "not under systemd"
    if not service.installed:
        return f"no unit {service.unit}"
    restarts = f", {service.restarts} restarts" if service.restarts else ""
    return f"{service.active_state} ({service.sub_state}), {service.enabled or 'not enabled'}{restarts}"


def _source(condition: Condition) -> str:
    status = condition.status
    assert status is not None
    text = f"{status.link_state.replace('_', ' ')}, {status.symbols_subscribed} of {status.symbols_wanted} symbols"
    market_state = status.said_of_market
    if market_state:
        text += f", market {market_state}"
    if status.login_ends_at_ms is not None:
        text += f", the login {login_words(status.login_ends_at_ms, condition.at_ms)}"
    if status.symbols_refused:
        named = "; ".join(f"{code}: {why}" for code, why in status.refused_symbols.items())
        text += f"\n{status.symbols_refused} refused: {named}"
    return text


def _lag(lag_sec: float, noun: str) -> str:
    if lag_sec < 0:
        return f"newest {noun} {_span(-lag_sec)} ahead of this machine's clock"
    return f"newest {noun} {_span(lag_sec)} old"


def _lag_sec(condition: Condition) -> float:
    """The age of the newest tick. As the recorder wrote it while it is fresh: the file's own age is no lag."""
    assert condition.status is not None
    return condition.status.lag_sec or 0.0


def _day(condition: Condition) -> str:
    day = condition.day
    if day is None:
        return "nothing is recorded"
    name = f"{day.trading_day} (today)" if day.is_today else f"{day.trading_day} (newest recorded)"
    if day.error is not None:
        return f"{name}: cannot be read"
    newest = f", newest {condition.market.stamp(day.newest_ts_ms)}" if day.newest_ts_ms is not None else ""
    if day.noun != TICK:
        return f"{name}: {day.rows:,} {day.noun}s{newest}; {day.series:,} series: hk-tickctl {day.noun}s"
    states = ", ".join(f"{count} {state}" for state, count in day.state.symbols.items())
    return f"{name}: {day.rows:,} ticks{newest}; symbols: {states}"


def _disk(condition: Condition) -> str:
    disk = condition.disk
    if disk is None:
        return "does not answer"
    if disk.day_bytes is None or disk.days_left is None:
        lasts = "how long it lasts is known once a whole day is recorded"
    else:
        lasts = f"lasts {days_text(disk.days_left)} recorded days of {_size(disk.day_bytes)}"
    return f"{_size(disk.free_bytes)} free of {_size(disk.size_bytes)}; {lasts}"


def _last_alert(condition: Condition) -> str:
    status = condition.status
    if status is None or status.last_alert_at_ms is None:
        return "none known"
    ago = _span((condition.at_ms - status.last_alert_at_ms) / 1000)
    return f"{condition.market.stamp(status.last_alert_at_ms)}, {ago} ago: {status.last_alert_reason}"


def _span(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 172_800 else f"{seconds / 86_400:.0f} days"


def _size(count_bytes: float) -> str:
    unit = 0
    while count_bytes >= 1000 and unit < len(_UNITS) - 1:
        count_bytes, unit = count_bytes / 1000, unit + 1
    return f"{count_bytes:,.0f} {_UNITS[unit]}" if unit < 3 else f"{count_bytes:,.1f} {_UNITS[unit]}"
