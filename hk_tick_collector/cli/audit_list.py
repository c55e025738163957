"""``hk-tickctl audit --against daily-quotations FILE``."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from hk_tick_collector.cli.common import (
    EXIT_FINE,
    EXIT_NO_DATA,
    EXIT_PROBLEM,
    App,
    be_gentle,
    print_table,
    progress,
    say,
)
from hk_tick_collector.cli.terminal import show_text
from hk_tick_collector.quality.against_list import Compared
from hk_tick_collector.quality.daily_quotations import DailyQuotations
from hk_tick_collector.quality.witness import write_witness
from hk_tick_collector.watch.when import one_day, symbol_list
from hk_tick_collector.watch.witness import DAILY_QUOTATIONS, AgainstList, against_list

SYMBOLS_SHOWN, TRADES_SHOWN = 50, 20


def audit_list(app: App, day: str | None, file: Path, symbols: Sequence[str], *, write: bool) -> int:
    """Run it; the exit code."""
    if app.market.code != "HK":
        raise click.UsageError("HKEX's Daily Quotations are Hong Kong's: these days are not")
    wanted = symbol_list(app.market, symbols) if symbols else []
    with contextlib.closing(DailyQuotations(file)) as page:
        asked = page.trading_day if day is None else one_day(app, day)
        if asked != page.trading_day:
            raise click.UsageError(
                f"{file} is of {page.trading_day}, not of {asked}: leave the day out to compare that one"
            )
        recorded = app.catalog.day(page.trading_day)
        be_gentle()
        with progress("HKEX's list", len(wanted or recorded.rows_by_symbol())) as advance:
            result = against_list(recorded, app.calendar, page, wanted, advance)
    if write and not wanted and result.compared:
        say(f"written: {write_witness(app.data_root, result.witness(app.now_ms))}")
    app.emit(_as_json(result), lambda: _show(result, app))
    if not result.compared and not result.unread:
        say("hk-tickctl: nothing to compare: the list has none of the symbols that are stored")
        return EXIT_NO_DATA
    return EXIT_FINE if result.equal else EXIT_PROBLEM


def _as_json(result: AgainstList) -> dict[str, Any]:
    def of_symbol(compared: Compared) -> dict[str, Any]:
        return {
            "equal": compared.is_equal(result.not_compared),
            "same_trades": compared.same_trades,
            "missing": compared.missing,
            "extra": compared.extra,
            "in_another_section": compared.in_another_section,
            "out_of_order": compared.out_of_order,
            "sums": [
                {
                    "section": sums.section,
                    "type": sums.tick_type,
                    "equal": sums.equal,
                    "listed_trades": sums.listed_trades,
                    "stored_trades": sums.stored_trades,
                    "listed_volume": sums.listed.volume,
                    "stored_volume": sums.stored.volume,
                    "listed_turnover": sums.listed.turnover,
                    "stored_turnover": sums.stored.turnover,
                }
                for sums in compared.sums
            ],
            "first_missing": [trade._asdict() for trade in compared.first_missing],
            "first_extra": [trade._asdict() for trade in compared.first_extra],
        }

    return {
        "trading_day": result.trading_day,
        "against": DAILY_QUOTATIONS,
        "file": result.file,
        "equal": result.equal,
        "is_cut": result.is_cut,
        "not_compared": list(result.not_compared),
        "unread": result.unread,
        "absent": result.absent,
        "sentence": result.sentence(),
        "symbols": {symbol: of_symbol(compared) for symbol, compared in sorted(result.compared.items())},
    }


def _show(result: AgainstList, app: App) -> None:
    different = sorted(result.different.items())
    rows = [
        (symbol, sums.section, sums.tick_type, sums.listed_trades, sums.stored_trades, sums.listed.volume,
         sums.stored.volume, sums.listed.turnover, sums.stored.turnover)
        for symbol, compared in different
        for sums in compared.sums
        if not sums.equal
    ]  # fmt: skip
    columns = ("symbol", "section", "type", "trades", "stored", "volume", "vol. stored", "turnover", "turnover stored")
    if rows:
        print_table(columns, rows[:SYMBOLS_SHOWN], numbers=columns[3:], spare=columns[:4:-1])
        _and_more(len(rows) - SYMBOLS_SHOWN)
    lines = list(_trades(result, app))
    for line in lines[:TRADES_SHOWN]:
        show_text(line)
    _and_more(len(lines) - TRADES_SHOWN)
    for symbol, reason in sorted(result.unread.items())[:SYMBOLS_SHOWN]:
        show_text(f"could not be compared: {reason}", f"{symbol}: ")
    if result.absent:
        show_text(f"stored and not in the list: {', '.join(result.absent[:SYMBOLS_SHOWN])}")
        _and_more(len(result.absent) - SYMBOLS_SHOWN)
    show_text(result.sentence())


def _trades(result: AgainstList, app: App) -> list[str]:
    clock = app.market.zone.clock_with_ms
    return [
        f"{symbol} {label} {trade.tick_type} {trade.volume:,} at {trade.price:g}, {trade.section}"
        + (f", {at}{clock(trade.ts_ms)} {app.market.time_word}" if trade.ts_ms is not None else "")
        for symbol, compared in sorted(result.different.items())
        for label, at, trades in (
            ("missing:", "after ", compared.first_missing),
            ("not in the list:", "", compared.first_extra),
        )
        for trade in trades
        if trade.tick_type not in result.not_compared
    ]


def _and_more(more: int) -> None:
    if more > 0:
        print(f"... and {more:,} more (--json)")
