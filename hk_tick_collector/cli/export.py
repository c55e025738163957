"""``hk-tickctl export``: days, live and archived, as files for other programs."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hk_tick_collector.cli.common import App, be_gentle, progress, say, tickctl_command
from hk_tick_collector.cli.ending import clean_ending
from hk_tick_collector.cli.export_backtest import (
    BACKTEST_FORMATS,
    HFTBACKTEST,
    backtest_options,
    check_backtest_options,
    export_backtest,
)
from hk_tick_collector.cli.export_files import emit_files
from hk_tick_collector.cli.export_proofs import say_incomplete
from hk_tick_collector.cli.export_snapshots import KINDS, SNAPSHOT, export_snapshots, kind_meant
from hk_tick_collector.cli.options import days_option, named_option, symbols_option
from hk_tick_collector.cli.stretch import days_to_read
from hk_tick_collector.core.errors import NoData
from hk_tick_collector.core.regular import read_named
from hk_tick_collector.market.hours import DayKind
from hk_tick_collector.market.market import Market
from hk_tick_collector.market.zone import Zone
from hk_tick_collector.sources.registry import TRADE_TYPES
from hk_tick_collector.watch.when import some_days, symbol_list

if TYPE_CHECKING:
    from hk_tick_collector.export.job import Exported
    from hk_tick_collector.export.rows import Advance, DayPart, Selection

PARQUET, CSV, FUTU_ZIP, SQLITE = TICK_FORMATS = ("parquet", "csv", "futu-zip", "sqlite")
FORMATS = (*TICK_FORMATS, *BACKTEST_FORMATS)
_NAMELESS_TYPE = re.compile(r"TYPE_\d+", re.ASCII)  # as the recorder stores types that its OpenD package does not know


@tickctl_command(
    "export",
    several=True,
    help="""Write days as files for other programs.

    \b
    parquet   a tree market=HK/day=YYYYMMDD/ticks.parquet under --output,
              sorted by symbol and time
    csv       the columns of the table ticks; one file per day
    futu-zip  a zip per day with one CSV per symbol: code, name, time, price,
              volume, turnover, ticker_direction, sequence, type
    sqlite    the table ticks with its indexes
    hftbacktest  for each day and symbol the events of books and trades
              (.npz), an order latency, and a meta with tick and lot
              size, gaps and what was left out; --output is a directory
    nautilus  a NautilusTrader catalog: trades, best prices of the books,
              instruments, and a meta; --output is the catalog

    --output is a directory, or a file name in which {day} (and with --split-symbols {symbol}) may stand:
    out/{day}.csv.zst. A csv or sqlite name without {day} takes all days in one file. Files appear whole or not at
    all. A day that is still being recorded is exported as far as it has come.

    Exits with 1 when --strict refuses a day, with 3 when there is nothing to export.
    """,
)
@click.argument("format_", metavar="FORMAT", type=click.Choice(FORMATS))
@click.option("--kind", type=click.Choice(KINDS), help="tick, or snapshot: parquet and csv. Default: what is there.")
@click.option("--output", "-o", required=True, metavar="DIR|FILE", help="Where to write.")
@days_option("Default: all.")
@symbols_option()
@click.option("--type", "types", multiple=True, help="Only these tick types, for example AUTO_MATCH,AUCTION.")
@click.option("--exclude-type", "without_types", multiple=True, help="All but these tick types, for example ODD_LOT.")
@click.option("--force", is_flag=True, help="Replace files that exist.")
@click.option(
    "--prices", type=click.Choice(["double", "decimal"]), help="parquet: double (as stored) or decimal(18,4)."
)
@named_option(
    "--times",
    "times",
    earlier=["--time"],
    type=click.Choice(["ms", "iso", "utc"]),
    help="csv: UTC epoch milliseconds (default), or ISO 8601 in UTC (iso and utc are the same).",
)
@click.option("--split-symbols", is_flag=True, help="csv: one file per day and symbol.")
@click.option(
    "--names",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="futu-zip: a CSV of code,name for the column name, which is empty otherwise.",
)
@backtest_options
def command(
    app: App,
    format_: str,
    kind: str | None,
    output: str,
    days: str | None,
    symbols: Sequence[str],
    types: Sequence[str],
    without_types: Sequence[str],
    force: bool,
    prices: str | None,
    times: str | None,
    split_symbols: bool,
    names: Path | None,
    **backtest: Any,
) -> int | None:
    """Run it."""
    for given, option, fits in (
        (prices, "--prices", PARQUET), (times, "--times", CSV), (split_symbols, "--split-symbols", CSV),
        (names, "--names", FUTU_ZIP),
    ):  # fmt: skip
        if given and format_ != fits:
            raise click.UsageError(f"{option} is for {fits}, not for {format_}")
    check_backtest_options(format_, backtest)
    if kind_meant(app, kind) == SNAPSHOT:
        if types or without_types or prices or times or split_symbols:
            raise click.UsageError("--type, --exclude-type, --prices, --times and --split-symbols are for ticks")
        export_snapshots(app, format_, output, days, symbols, force=force)
        return None
    if format_ in BACKTEST_FORMATS and (types or without_types):
        raise click.UsageError(
            f"--type and --exclude-type are not for {format_}: it takes trades of the order book alone"
        )
    name_of = _names(names, app.market) if names else {}
    selected = (tuple(symbol_list(app.market, symbols)) if symbols else (), _types(types), _types(without_types))

    from hk_tick_collector.export.rows import Selection  # noqa: PLC0415 - Arrow takes its time

    takes_books = format_ == HFTBACKTEST and not backtest["trades_only"]
    parts = _parts(app, days, Selection(*selected), takes_books=takes_books)
    be_gentle()
    if format_ in BACKTEST_FORMATS:
        export_backtest(app, format_, parts, output, backtest, force=force)
        say_incomplete(parts)
        return None
    total = sum(part.rows_at_most() for part in parts)
    with clean_ending(), progress(f"export {format_}", total) as advance:
        zone = app.market.zone
        options = _Options(
            format_,
            output,
            force,
            prices == "decimal",
            "ms" if times in (None, "ms") else "iso",
            split_symbols,
            name_of,
            zone,
        )
        done = list(_run(options, parts, advance))
    emit_files(app, format_, done)
    say_incomplete(parts)
    return None


@dataclass(frozen=True)
class _Options:
    format_: str
    output: str
    force: bool
    decimal: bool
    times: str
    split_symbols: bool
    name_of: dict[str, str]
    zone: Zone  # the market's clock


def _run(options: _Options, parts: Sequence[DayPart], advance: Advance) -> Iterator[Exported]:
    """The files of the export, one after the other as they are written."""
    from hk_tick_collector.export import csv_files, futu_zip, job, parquet_tree, sqlite_file  # noqa: PLC0415
    from hk_tick_collector.export.target import BadPattern, pattern_of  # noqa: PLC0415

    write: job.Write
    if options.format_ == PARQUET:
        if options.output.endswith(".parquet"):
            raise click.UsageError("a Parquet export is a tree of files: name a directory")
        write = lambda path, tables, _: parquet_tree.write_parquet(path, tables, decimal=options.decimal)  # noqa: E731
        return job.export_tree(parts, Path(options.output), write, force=options.force, advance=advance)
    if options.format_ == CSV:
        suffixes: tuple[str, ...] = csv_files.SUFFIXES
        write = lambda path, tables, target: csv_files.write_csv(path, tables, like=target, times=options.times)  # noqa: E731
    elif options.format_ == FUTU_ZIP:
        suffixes = futu_zip.SUFFIXES
        write = lambda path, tables, _: futu_zip.write_zip(path, tables, options.name_of, options.zone)  # noqa: E731
    else:
        suffixes = sqlite_file.SUFFIXES
        write = lambda path, tables, _: sqlite_file.write_sqlite(path, tables)  # noqa: E731
    try:
        pattern = pattern_of(options.output, suffixes, split_symbols=options.split_symbols)
        if options.split_symbols:
            return job.export_symbols(parts, pattern, write, force=options.force, advance=advance)
        one_day = options.format_ == FUTU_ZIP
        return job.export_files(parts, pattern, write, force=options.force, advance=advance, one_day_a_file=one_day)
    except BadPattern as exc:
        raise click.UsageError(str(exc)) from exc


def _parts(app: App, days: str | None, selection: Selection, *, takes_books: bool) -> list[DayPart]:
    """What is exported of each day; NoData when no day has one of the symbols. ``takes_books``: a symbol with a book
    is there without a trade."""
    from hk_tick_collector.export.rows import DayPart  # noqa: PLC0415

    words = "ticks or books" if takes_books else "ticks"
    parts = []
    for day in days_to_read(app, some_days(app, days)):
        name = day.trading_day
        part = DayPart(day, selection, _is_so_far(app, name))
        if part.symbols() or (takes_books and _has_books(part)):
            parts.append(part)
        else:
            say(f"{name}: no {words} of {', '.join(selection.symbols) or 'any symbol'}; left out")
    absent = set(selection.symbols).difference(*(part.symbols() for part in parts))
    if not parts:
        raise NoData(f"no recorded day of these has {words} of " + (", ".join(selection.symbols) or "any symbol"))
    if absent:
        say(f"no ticks on any of these days: {', '.join(sorted(absent))}")
    return parts


def _has_books(part: DayPart) -> bool:
    from hk_tick_collector.export.backtest import with_books  # noqa: PLC0415

    wanted, booked = part.selection.symbols, with_books(part)
    return bool(booked.intersection(wanted) if wanted else booked)


def _is_so_far(app: App, day: str) -> bool:
    """Is the day still being recorded?"""
    if day != app.market.trading_day(app.now_ms):
        return False
    kind = app.calendar.day_kind(day)
    return kind is DayKind.CLOSED or app.now_ms < app.calendar.recording_window(day)[1]


def _types(texts: Sequence[str]) -> frozenset[str]:
    names = {name.strip().upper() for text in texts for name in text.split(",") if name.strip()}
    unknown = {name for name in names.difference(TRADE_TYPES) if not _NAMELESS_TYPE.fullmatch(name)}
    if unknown:
        known = ", ".join(TRADE_TYPES)
        raise click.UsageError(f"{', '.join(sorted(unknown))}: no tick type; there are {known}")
    return frozenset(names)


_MAX_NAMES_BYTES = 16 << 20


def _names(path: Path, market: Market) -> dict[str, str]:
    """Names by symbol out of a CSV with code and name in its first two columns; other lines than those are refused."""
    from hk_tick_collector.market.symbols import check_symbols  # noqa: PLC0415

    names: dict[str, str] = {}
    try:
        with io.StringIO(read_named(path, _MAX_NAMES_BYTES).decode("utf-8-sig"), newline="") as file:
            for number, row in enumerate(csv.reader(file), start=1):
                if not row or (number == 1 and row[0].strip().lower() == "code"):
                    continue
                symbols, problems = check_symbols(row[0], market.symbols)
                if problems or len(symbols) != 1 or len(row) < 2:
                    raise click.UsageError(f"{path} line {number}: a code and a name are wanted, separated by a comma")
                names[symbols[0]] = row[1].strip()
    except (UnicodeDecodeError, csv.Error) as exc:
        raise click.UsageError(f"{path} is no CSV in UTF-8: {exc}") from exc
    return names
