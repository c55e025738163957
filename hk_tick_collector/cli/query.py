"""``hk-tickctl query``: SQL over recorded days."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from hk_tick_collector.cli.common import App, be_gentle, progress, say, tickctl_command
from hk_tick_collector.cli.ending import clean_ending
from hk_tick_collector.cli.options import days_option, symbols_option
from hk_tick_collector.cli.results import Output, output_options
from hk_tick_collector.cli.stretch import days_to_read
from hk_tick_collector.core.text import counted
from hk_tick_collector.watch.when import OtherDays, some_days, symbol_list

if TYPE_CHECKING:
    from hk_tick_collector.days.catalog import Day
    from hk_tick_collector.query.engine import Engine

MIN_MEMORY_MB = 128
_BARE_CODE = re.compile(
    r"\bsymbol\b[^']*'(?:(?:HK)?\d{1,5}(?:\.HK)?|HK\.\d{1,4})'", re.IGNORECASE | re.ASCII
)  # equal to no stored symbol


@tickctl_command(
    "query",
    several=True,
    help="""Query recorded days with SQL (DuckDB's dialect); live and archived days are one table.

    \b
    hk-tickctl query "SELECT symbol, count(*) FROM ticks GROUP BY 1" --days last
    hk-tickctl query "SELECT hour(ts_ms), sum(volume) FROM ticks GROUP BY 1" \\
        --symbols 700 --days 20261101..
    hk-tickctl query "SELECT * FROM gaps WHERE state = 'open'" --json
    hk-tickctl query "SELECT symbol, any_value(name), count(*) FROM ticks
        LEFT JOIN symbols USING (trading_day, symbol) GROUP BY 1"

    Tables: ticks (one row per trade: symbol, ts_ms, price, volume, turnover, direction, tick_type, seq, trading_day and
    more; DESCRIBE ticks lists them), coverage, gaps and symbols (what a symbol was on a day: name, lot_size, currency),
    all with trading_day; their times are UTC epoch milliseconds. For recorded order books: books (one row per push:
    symbol, recv_ts, bid_px_0, bid_qty_0, bid_n_0 to ask_n_9), quotes (the best prices where they change) and brokers
    (their queues). For computed levels (docs/gexbot.md): snapshots (one per second and series: symbol, package,
    category, ts_ms, spot, zero_gamma, body) and all_snapshots (all that were stored, also those of the source's own
    file of the day). In ticks times are timestamps and work on the market's clock: in Hong Kong hour(ts_ms) of the
    opening is 9. trading_day is a text like '20261120'.

    For live days, the columns that the query uses are loaded first (about 2 seconds for 5 million ticks); --days and
    --symbols narrow that. Archived days are read as needed. A query can only read: one SELECT, no files, no settings.
    Exits with 2 when the SQL is wrong, and with 0 when the answer has no rows.""",
)
@click.argument("sql")
@days_option("Default: all.")
@symbols_option()
@click.option(
    "--memory-mb", type=click.IntRange(MIN_MEMORY_MB), metavar="MB",
    help="Memory for the question; more goes to temporary files.",
)  # fmt: skip
@click.option(
    "--from", "source", metavar="URL",
    help="The copies in a ClickHouse instead of the files: clickhouse://USER@HOST:8123/hk (docs/clickhouse.md).",
)  # fmt: skip
@click.option("--recorder", metavar="NAME", help="With --from: only the copies of this recorder. Default: of all.")
@output_options
def command(
    app: App,
    sql: str,
    days: str | None,
    symbols: tuple[str, ...],
    memory_mb: int | None,
    source: str | None,
    recorder: str | None,
    **options: Any,
) -> None:
    output = Output.of(app, options)
    if source is not None:
        from hk_tick_collector.cli.copies import read_copies  # noqa: PLC0415 - with its HTTP library

        read_copies(app, source, recorder)
    elif recorder is not None:
        raise click.UsageError("--recorder goes with --from")
    with engine_of(app, days, symbols, memory_mb, every=True) as engine:
        with loading(engine) as loaded:
            result = engine.run(sql, loaded)
        output.write(result.schema, result.batches)
    if _BARE_CODE.search(sql):
        say("hint: symbols are written 'HK.00700' in SQL; nothing else is equal to that")


@contextmanager
def engine_of(
    app: App, days: str | None, symbols: tuple[str, ...], memory_mb: int | None = None, *, every: bool = False
) -> Iterator[Engine]:
    """An engine over the days meant: those with ticks, or ``every`` one of which anything is recorded."""
    from hk_tick_collector.query.engine import Engine  # noqa: PLC0415 - DuckDB takes its time

    wanted = symbol_list(app.market, symbols) if symbols else []
    if every:
        chosen, beside = _every_day(app, days)
    else:
        chosen, beside = days_to_read(app, some_days(app, days)), []
    for symbol in wanted:
        if not any(symbol in day.rows_by_symbol() for day in chosen):
            _explain_nothing(app, symbol, chosen, beside)
    be_gentle()
    with clean_ending(), Engine(chosen, wanted, memory_mb=memory_mb, beside=beside) as engine:
        yield engine


def _every_day(app: App, days: str | None) -> tuple[list[Day], list[Day]]:
    """Those of the days meant with ticks; and all of them where a data root has no tick, but something else."""
    from hk_tick_collector.days.every import EveryDay  # noqa: PLC0415

    catalog = EveryDay(app.catalog)
    names = some_days(OtherDays(app, catalog), days)
    with_ticks = catalog.with_ticks(names)
    return days_to_read(app, with_ticks) if with_ticks else [], catalog.beside(names)


def _explain_nothing(app: App, symbol: str, chosen: Sequence[Day], beside: Sequence[Day]) -> None:
    """What is to be said of a symbol without ticks; nothing where the days have something else of it."""
    from hk_tick_collector.days.every import symbols_beside  # noqa: PLC0415

    known = {name for day in beside for name in symbols_beside(day)}
    known.update(name for day in chosen for part in day.parts for name in symbols_beside(part))
    if symbol in known:
        return
    if chosen:
        from hk_tick_collector.query.fetch import explain_nothing  # noqa: PLC0415

        say(explain_nothing(app.catalog, chosen, [symbol], ""))
    else:
        say(f"{symbol} is not recorded on these days; recorded are {', '.join(sorted(known)[:10])}")


@contextmanager
def loading(engine: Engine) -> Iterator[Callable[[float], None]]:
    """A progress bar while days are loaded, and a line on standard error that says what was."""
    with progress("reading ticks", engine.live_rows() if sys.stderr.isatty() else None) as advance:
        yield advance
    if engine.loaded is not None:
        days = engine.loaded.days
        of = days[0] if len(days) == 1 else f"{len(days)} live days"
        say(f"read {counted(engine.loaded.rows, 'tick')} of {of} (columns {', '.join(engine.loaded.columns)})")
