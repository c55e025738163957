"""``hk-tickctl``: one command for the operator and the researcher.

Each sub-command is a module that is loaded when asked for.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import os
import sys
from pathlib import Path
from typing import Any

import click

from hk_tick_collector import __version__
from hk_tick_collector.cli.groups import Outermost
from hk_tick_collector.cli.terminal import guarded
from hk_tick_collector.core.extras import extra_with, how_to_install, missing_library
from hk_tick_collector.core.unused import without_unused

# name: (module, what it does), by the question they answer. The texts stand here so that --help imports nothing.
SECTIONS: dict[str, dict[str, tuple[str, str]]] = {
    "Is it running?": {
        "status": ("status", "Is everything as it should be?"),
        "sources": ("sources", "Every recorder of this machine, one line each."),
        "screen": ("screen", "A live view in the terminal."),
        "doctor": ("doctor", "Check everything the recorder needs, and say what to do."),
        "symbols": ("symbols", "Wanted, subscribed and refused symbols."),
        "universe": ("universe", "Choose the symbols to record."),
        "logs": ("logs", "The recorder's log lines, filtered."),
        "config": ("config", "The settings in effect and where each comes from."),
        "schwab": ("schwab", "Log in at Schwab, and see how long the login lasts."),
    },
    "Is the day complete?": {
        "day": ("day", "The completeness certificate of a day."),
        "gaps": ("gaps", "What is missing, and where."),
        "repair": ("repair", "Ask OpenD for what is missing, and store it."),
        "audit": ("audit", "Compare a day with OpenD's totals or HKEX's list of trades."),
        "facts": ("facts", "What a day shows about OpenD's undocumented behaviour."),
        "compare": ("compare", "Compare two recordings of a day, tick by tick."),
    },
    "Give me the data": {
        "ticks": ("ticks", "The ticks of a symbol."),
        "bars": ("bars", "Bars of a symbol: OHLCV, VWAP, buy and sell volume."),
        "book": ("book", "A symbol's order book at a given time; a day's books."),
        "snapshots": ("snapshots", "gexbot's levels at a given time; how much was seen."),
        "top": ("top", "The symbols with the most turnover, ticks or volatility."),
        "query": ("query", "SQL over all days, live and archived."),
        "export": ("export", "Days as Parquet, CSV, SQLite, Futu's zip, for backtests."),
    },
    "Let others read": {
        "serve": ("serve", "HTTP API and live channel, on this machine."),
        "keys": ("keys", "Who may read over HTTP."),
        "ship": ("ship", "Copies in ClickHouse: create the tables, prove a day."),
        "alert": ("alert", "Who is alerted when something is wrong: try it, mute it."),
    },
    "Put it away": {
        "eod": ("eod", "The end of the day: certificate, archive, retention."),
        "archive": ("archive", "Archive a day, and read the copy back."),
        "verify": ("verify", "Read an archive and compare it with what it claims."),
        "restore": ("restore", "Restore a day from the archive."),
        "retain": ("retain", "Delete old days that are safely archived."),
    },
    "Day files": {
        "merge": ("merge", "One day out of several recorders' recordings of it."),
        "salvage": ("salvage", "Copy what can be read from a damaged day file."),
        "vacuum": ("vacuum", "Make a closed day file as small as possible."),
        "migrate": ("migrate", "Update day files of earlier versions."),
        "import": ("importing", "Import what other programs recorded (Sierra Chart)."),
    },
}
COMMANDS: dict[str, tuple[str, str]] = {
    name: entry for commands in SECTIONS.values() for name, entry in commands.items()
}


class _Lazy(Outermost):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        command: click.Command = importlib.import_module(f"hk_tick_collector.cli.{entry[0]}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        widest = max(map(len, COMMANDS))
        for title, commands in SECTIONS.items():
            formatter.write(f"\n{title}\n")
            with formatter.indentation():
                formatter.write_dl([(name.ljust(widest), about) for name, (_, about) in commands.items()])


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="hk-tickctl")
def tickctl() -> None:
    """Look after the recorder and use what it recorded.

    Every command but serve takes --json. A command exits with 0 (fine), 1 (a problem was found), 2 (wrong usage or
    configuration) or 3 (no data).
    """


_BY_SIGNAL = 128  # exit codes above it: this much and the signal's number


def _end_at_once(code: int) -> None:
    """End an interrupted command, which has cleaned up. Arrow's threads may be in the middle of a read, and an
    interpreter that ends in an orderly way meanwhile is aborted by them."""
    atexit._run_exitfuncs()  # what must not be left behind; there is no public way that does not end the interpreter
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def main(argv: list[str] | None = None) -> Any:
    """The console script."""
    try:
        with guarded(), without_unused():
            return tickctl.main(args=argv, prog_name="hk-tickctl", standalone_mode=True)
    except SystemExit as exc:
        if isinstance(exc.code, int) and exc.code > _BY_SIGNAL:
            _end_at_once(exc.code)
        raise
    except ModuleNotFoundError as exc:
        missing = missing_library(exc)
        text = f"this command needs the package {missing}: {how_to_install(extra_with(missing))}"
        if missing in sys.stdlib_module_names:  # root takes the rights of a data root's owner
            text = f"Python's own module {missing} cannot be loaded: let this user read {Path(os.__file__).parent}"
        click.echo(f"hk-tickctl: {text}", err=True)
        return 1


if __name__ == "__main__":
    sys.exit(main())
