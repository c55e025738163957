"""``hk-tickctl audit``: OpenD's own sums of a day, or HKEX's list of its trades, against what is stored of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hk_tick_collector.cli.asking import with_reference
from hk_tick_collector.cli.common import (
    EXIT_FINE,
    EXIT_NO_DATA,
    EXIT_PROBLEM,
    App,
    be_gentle,
    print_table,
    progress,
    say,
    tickctl_command,
)
from hk_tick_collector.cli.options import day_argument, symbols_option
from hk_tick_collector.cli.terminal import show_text
from hk_tick_collector.core.errors import NoData
from hk_tick_collector.quality import against_source as against
from hk_tick_collector.quality.against_source import Comparison
from hk_tick_collector.watch.when import one_day, symbol_list

if TYPE_CHECKING:
    from hk_tick_collector.days.catalog import Day
    from hk_tick_collector.watch.audit import AuditResult

SHOWN_DIFFERENCES = 100


@tickctl_command(
    "audit",
    help="""Compare the stored ticks of DAY (default: the newest) with OpenD's own totals, or with HKEX's list of
    trades.

    --against-kline compares volume and turnover of every minute with OpenD's one-minute history; 60 symbols take half a
    minute (OpenD's limit), and each symbol uses one unit of the account's 30-day history quota. --against-snapshot
    compares the totals of the day that OpenD shows now: the current or last session.

    Ticks of types that OpenD is assumed not to count are left out (--leave-out). Volume that OpenD counts in a
    neighbouring minute is listed as moved and does not count as a difference. While the market trades, only finished
    minutes are compared. Without --symbols: all symbols stored that day, and for the newest day all wanted symbols as
    well.

    --against daily-quotations FILE needs no OpenD: FILE is HKEX's page of the day (dYYMMDDe.htm), which lists every
    trade. Each symbol's trades are compared one by one; DAY defaults to the day of the page. The result becomes a
    note in the day's certificate, except with --symbols or --no-write.

    Exits with 0 (equal), 1 (differences, or a symbol could not be compared), 2 (FILE is another day's, in Chinese, or
    something else) or 3 (nothing to compare).""",
)
@day_argument()
@click.option("--against-kline", "against_what", flag_value="kline", help="Compare every minute.")
@click.option("--against-snapshot", "against_what", flag_value="snapshot", help="Compare the day's totals.")
@click.option(
    "--against",
    "against_file",
    type=(click.Choice(["daily-quotations"]), click.Path(path_type=Path, exists=True, dir_okay=False, readable=False)),
    metavar="daily-quotations FILE",
    help="Compare every trade with HKEX's list.",
)
@click.option("--no-write", is_flag=True, help="Leave the certificate alone.")
@symbols_option()
@click.option(
    "--leave-out",
    metavar="TYPES",
    help="Tick types that OpenD's totals exclude, separated by commas. "
    f"[default: the market's, in Hong Kong {','.join(sorted(against.LEFT_OUT))}]",
)
def command(
    app: App,
    day: str | None,
    against_what: str | None,
    against_file: tuple[str, Path] | None,
    no_write: bool,
    symbols: Sequence[str],
    leave_out: str | None,
) -> int | None:
    """See the help text."""
    if (against_what is None) == (against_file is None):
        raise click.UsageError("say what to compare with: --against-kline, --against-snapshot or --against")
    if against_what is None:
        assert against_file is not None
        if leave_out is not None:
            raise click.UsageError("--leave-out is for OpenD's sums: HKEX's list is compared type by type")
        from hk_tick_collector.cli.audit_list import audit_list  # noqa: PLC0415 - Arrow takes its time

        return audit_list(app, day, against_file[1], symbols, write=not no_write)
    recorded = app.catalog.day(one_day(app, day))
    wanted = symbol_list(app.market, symbols) if symbols else _symbols_of(app, recorded)
    if not wanted:
        raise NoData(f"no symbol has ticks on {recorded.trading_day}")
    be_gentle()
    left_out = app.market.trade_types.not_in_totals
    if leave_out is not None:
        left_out = frozenset(part.strip().upper() for part in leave_out.split(",") if part)
    result = _run(app, recorded, wanted, left_out, against_what)
    app.emit(_as_json(result), lambda: _show(result))
    if result.equal and not result.compared:
        say("hk-tickctl: nothing to compare: neither OpenD nor the day file has trades of these symbols")
        return EXIT_NO_DATA
    return EXIT_FINE if result.equal else EXIT_PROBLEM


def _run(app: App, recorded: Day, symbols: Sequence[str], left_out: frozenset[str], against_what: str) -> AuditResult:
    from hk_tick_collector.watch.audit import KLINE, Audit  # noqa: PLC0415 - futu-api takes its time

    if against_what != KLINE:
        return with_reference(app, Audit(recorded, app.calendar, symbols, left_out).against_snapshot)
    with progress("minute bars from OpenD", len(symbols)) as advance:
        return with_reference(app, Audit(recorded, app.calendar, symbols, left_out, advance).against_kline)


def _symbols_of(app: App, day: Day) -> list[str]:
    stored = set(day.symbols())
    if day.trading_day == app.catalog.days()[-1]:
        stored.update(app.settings.symbols)
    return sorted(stored)


def _as_json(result: AuditResult) -> dict[str, Any]:
    def of_symbol(comparison: Comparison) -> dict[str, Any]:
        return {
            "equal": comparison.equal,
            "minutes": comparison.minutes,
            "opend_volume": comparison.theirs.volume,
            "stored_volume": comparison.stored.volume,
            "opend_turnover": comparison.theirs.turnover,
            "stored_turnover": comparison.stored.turnover,
            "differences": [against.as_json(difference) for difference in comparison.differences],
            "moved": [against.as_json(moved) for moved in comparison.moved],
        }

    return {
        "trading_day": result.trading_day,
        "against": result.against,
        "until_ms": result.until_ms,
        "equal_symbols": len(result.compared) - len(result.different),
        "different_symbols": len(result.different),
        "failed": result.failed,
        "did_not_trade": result.empty,
        "suspicion": result.suspicion,
        "symbols": {symbol: of_symbol(comparison) for symbol, comparison in sorted(result.compared.items())},
        "sentence": result.sentence(),
    }


def _show(result: AuditResult) -> None:
    clock = result.market.zone.minute
    rows = [
        (symbol, clock(difference.minute_ms) if difference.minute_ms else "day", *_amounts(difference))
        for symbol, comparison in sorted(result.different.items())
        for difference in comparison.differences
    ]
    minute = f"minute ({result.market.time_word})"
    columns = ("symbol", minute, "volume OpenD", "stored", "missing", "turnover OpenD", "turnover stored")
    if rows:
        print_table(columns, rows[:SHOWN_DIFFERENCES], numbers=columns[2:], spare=columns[:4:-1])
        if len(rows) > SHOWN_DIFFERENCES:
            print(f"... and {len(rows) - SHOWN_DIFFERENCES:,} more; --json lists all")
    moved = sum(len(comparison.moved) for comparison in result.compared.values())
    if moved:
        hold = "minute holds" if moved == 1 else "minutes hold"
        show_text(f"{moved:,} {hold} volume that OpenD counts in a neighbouring one: nothing is missing for that")
    for symbol, reason in sorted(result.failed.items()):
        show_text(f"could not be compared: {reason}", f"{symbol}: ")
    if result.suspicion:
        show_text(f"Perhaps nothing is missing: {result.suspicion} (see --leave-out)")
    show_text(result.sentence())


def _amounts(difference: against.Difference) -> tuple[int, int, int, float, float]:
    return (
        difference.theirs_volume,
        difference.stored_volume,
        difference.missing_volume,
        difference.theirs_turnover,
        difference.stored_turnover,
    )
