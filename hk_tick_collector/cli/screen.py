"""``hk-tickctl screen``: a live picture of the recorder in the terminal."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from hk_tick_collector.cli.common import App, tickctl_command
from hk_tick_collector.cli.options import unit_option


@tickctl_command(
    "screen",
    help="""A live view in the terminal: verdict, rates, every symbol, the ticks of one of them, gaps, the log.

    \b
    hk-tickctl screen
    hk-tickctl screen --url http://ticks.example.org:8877 --key-file ~/.ticks

    Keys: arrows choose a symbol, s changes the order, / filters by part of a symbol, Escape clears the filter, l shows
    the log, q quits. It reads the files that the recorder writes, or asks a server, once a second. The log is that of
    the service, or of --log; a server does not provide it. Without a terminal: hk-tickctl status --watch.
    """,
)
@click.option("--url", metavar="URL", help="Look at a server (hk-tick-api, hk-tickctl serve) instead of files here.")
@click.option(
    "--key-file", type=click.Path(path_type=Path, dir_okay=False), help="A file with the key for it, and nothing else."
)
@click.option(
    "--log", "log_file", type=click.Path(path_type=Path, dir_okay=False), help="The file that the recorder logs to."
)
@unit_option
def command(app: App, url: str | None, key_file: Path | None, log_file: Path | None, unit: str) -> None:
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise click.UsageError("the screen needs a terminal; without one: hk-tickctl status --watch")
    if app.as_json:
        raise click.UsageError("the screen is for people; for programs: hk-tickctl status --watch --json")
    from hk_tick_collector.cli.screen_app import Screen  # noqa: PLC0415 - an extra, and it takes its time
    from hk_tick_collector.cli.screen_log import FileLog, JournalLog, ScreenLog  # noqa: PLC0415
    from hk_tick_collector.cli.screen_sources import LocalSource, RemoteSource, ScreenSource, read_key  # noqa: PLC0415

    source: ScreenSource = RemoteSource(url, read_key(key_file)) if url is not None else LocalSource(app)
    log: ScreenLog | None = None
    if log_file is not None:
        log = FileLog(log_file)
    elif url is None:
        log = JournalLog(unit)
    Screen(source, log).run()
