"""``hk-tickctl audit``: OpenD's own sums of a day against what is stored of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

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
    tickctl_command,
)
from hk_tick_collector.cli.opend import REQUEST_TIMEOUT_SEC, with_opend
from hk_tick_collector.core.errors import FeedError, FeedLost, FeedTimeout, NoData
from hk_tick_collector.market.dates import DAY_MS, add_days
from hk_tick_collector.market.hk import HK
from hk_tick_collector.market.hk.sessions import HK_TZ, day_start_ms, hk_date
from hk_tick_collector.market.hours import DayKind
from hk_tick_collector.quality import against_opend as against
from hk_tick_collector.quality.against_opend import Amount, Comparison, TypedMinutes
from hk_tick_collector.watch.when import one_day, symbol_list

if TYPE_CHECKING:
    from hk_tick_collector.days.catalog import Day
    from hk_tick_collector.sources.futu.reference import Reference
    from hk_tick_collector.sources.futu.sdk import Connection

KLINE, SNAPSHOT = "kline", "snapshot"
UNSETTLED_MS = 15_000  # a minute this young may still get ticks
COMMIT_SEC = 3.0  # after which what OpenD had is stored too, when all is well
FEW_SYMBOLS = 20  # up to here the symbols' own index is quicker than reading the whole day
SHOWN_DIFFERENCES = 100
_COLUMNS = ("symbol", "ts_ms", "tick_type", "volume", "turnover")


@dataclass
class Result:
    """What came of it, by symbol: each is in one of the three."""

    trading_day: str
    against: str
    compared: dict[str, Comparison] = field(default_factory=dict)
    empty: list[str] = field(default_factory=list)  # neither OpenD nor we have anything
    failed: dict[str, str] = field(default_factory=dict)  # could not be compared, and why
    until_ms: int | None = None  # the market still trades: compared up to here
    suspicion: str | None = None

    @property
    def different(self) -> dict[str, Comparison]:
        return {symbol: one for symbol, one in self.compared.items() if not one.equal}

    @property
    def exit_code(self) -> int:
        if self.failed or self.different:
            return EXIT_PROBLEM
        return EXIT_FINE if self.compared else EXIT_NO_DATA

    def sentence(self) -> str:
        """All of it in a line."""
        what = "minute bars" if self.against == KLINE else "day totals"
        parts = [f"{len(self.compared) - len(self.different)} symbols equal OpenD's {what}"]
        if self.different:
            missing = sum(d.missing_volume for one in self.different.values() for d in one.differences)
            how = f"{missing:,} shares missing" if missing >= 0 else f"{-missing:,} shares too many"
            parts.append(f"{len(self.different)} differ ({how} in all)")
        if self.failed:
            parts.append(f"{len(self.failed)} could not be compared")
        if self.empty:
            parts.append(f"{len(self.empty)} did not trade")
        until = "" if self.until_ms is None else f" up to {_hk_time(self.until_ms)}"
        return f"{self.trading_day}{until}: {', '.join(parts)}"


@tickctl_command(
    "audit",
    help="""Hold the stored ticks of DAY (default: the newest) against OpenD's own sums.

    --against-kline compares volume and turnover of every minute with OpenD's one-minute history; 60 symbols take half a
    minute (OpenD's limit), and each symbol takes one of the account's history quota of 30 days. --against-snapshot
    compares the totals of the day that OpenD shows now, the present or last session.

    Ticks of types that OpenD is assumed not to count are left out (--leave-out). Volume that OpenD counts in a
    neighbouring minute is listed as moved and is no difference. While the market trades, only minutes that are over are
    compared. Without --symbols: all symbols stored that day, for the newest day all wanted ones too.

    Ends with 0 (equal), 1 (differences, or a symbol could not be compared) or 3 (nothing to compare).""",
)
@click.argument("day", required=False)
@click.option("--against-kline", "against_what", flag_value=KLINE, help="Compare every minute.")
@click.option("--against-snapshot", "against_what", flag_value=SNAPSHOT, help="Compare the day's totals.")
@click.option("--symbols", "--symbol", "-s", "symbols", multiple=True, help="Only these: 700,HK.00005 or @file.")
@click.option(
    "--leave-out",
    default=",".join(sorted(against.LEFT_OUT)),
    show_default=True,
    metavar="TYPES",
    help="Tick types that are not in OpenD's sums, separated by commas.",
)
def command(app: App, day: str | None, against_what: str | None, symbols: Sequence[str], leave_out: str) -> int | None:
    """See the help text."""
    if against_what is None:
        raise click.UsageError("say what to compare with: --against-kline or --against-snapshot")
    recorded = app.catalog.day(one_day(app, day))
    wanted = symbol_list(symbols) if symbols else _symbols_of(app, recorded)
    if not wanted:
        raise NoData(f"no symbol has ticks on {recorded.trading_day}")
    be_gentle()
    audit = _Audit(app, recorded, wanted, frozenset(part.strip().upper() for part in leave_out.split(",") if part))
    result = with_opend(app, audit.against_kline if against_what == KLINE else audit.against_snapshot)
    app.emit(_as_json(result), lambda: _show(result))
    if result.exit_code == EXIT_NO_DATA:
        say("hk-tickctl: nothing to compare: neither OpenD nor the day file has trades of these symbols")
    return result.exit_code


def _symbols_of(app: App, day: Day) -> list[str]:
    stored = set(day.symbols())
    if day.trading_day == app.catalog.days()[-1]:
        stored.update(app.settings.futu_symbols)
    return sorted(stored)


class _Audit:
    """One run. The methods that ask OpenD go on when a symbol fails, and say so."""

    def __init__(self, app: App, day: Day, symbols: Sequence[str], left_out: frozenset[str]) -> None:
        self._app = app
        self._day = day
        self._symbols = symbols
        self._left_out = left_out

    async def against_kline(self, connection: Connection) -> Result:
        """Every minute that is over."""
        day = self._day.trading_day
        result = Result(day, KLINE)
        state = await connection.global_state(REQUEST_TIMEOUT_SEC)
        settled_ms = (state.opend_time_sec * 1000 - UNSETTLED_MS) // against.MINUTE_MS * against.MINUTE_MS
        until_ms = min(settled_ms, day_start_ms(day) + DAY_MS)
        if until_ms < day_start_ms(day) + DAY_MS and self._is_trading(day, state.opend_time_sec * 1000):
            result.until_ms = until_ms
        bars = await self._bars(connection, result)
        stored = self._stored()
        edges = against.edge_spans(day, self._kind())
        for symbol, of_symbol in bars.items():
            ours = against.counted(stored.get(symbol, {}), self._left_out)
            compared = against.compare_minutes(against.minutes_of_bars(of_symbol), ours, edges, until_ms)
            if not of_symbol and compared.minutes:
                result.failed[symbol] = f"OpenD has no minute bars of {day}, although ticks of it are stored"
            elif compared.minutes:
                result.compared[symbol] = compared
            else:
                result.empty.append(symbol)
        different = {symbol: bars[symbol] for symbol in result.different}
        if different:
            result.suspicion = against.suspicion(different, stored, self._left_out, edges, until_ms)
        return result

    async def against_snapshot(self, connection: Connection) -> Result:
        """The totals of the day that OpenD shows."""
        from hk_tick_collector.sources.futu.reference import Reference  # noqa: PLC0415

        day = self._day.trading_day
        result = Result(day, SNAPSHOT)
        before = self._stored()
        state = await connection.global_state(REQUEST_TIMEOUT_SEC)
        answers = await Reference(connection).snapshots(self._symbols)
        after = before
        if self._is_trading(day, state.opend_time_sec * 1000):
            result.until_ms = state.opend_time_sec * 1000
            await asyncio.sleep(COMMIT_SEC)
            after = self._stored()
        result.failed.update(answers.refused)
        totals: dict[str, Amount] = {}
        for symbol, snapshot in answers.found.items():
            ours, later = (self._total(stored, symbol) for stored in (before, after))
            shown_day = hk_date(snapshot.updated_at_ms)
            if shown_day != day and (snapshot.volume or later.volume):
                result.failed[symbol] = f"OpenD's snapshot is of {shown_day}; other days: --against-kline"
            elif not (snapshot.volume or later.volume):
                result.empty.append(symbol)
            else:
                totals[symbol] = Amount(snapshot.volume, snapshot.turnover)
                result.compared[symbol] = against.compare_totals(totals[symbol], ours, later)
        different = {symbol: totals[symbol] for symbol in result.different}
        if different:
            result.suspicion = against.suspicion_of_totals(different, after, self._left_out)
        return result

    async def _bars(self, connection: Connection, result: Result) -> dict[str, list[tuple[int, Amount]]]:
        from hk_tick_collector.sources.futu.reference import Reference  # noqa: PLC0415

        reference = Reference(connection)
        bars: dict[str, list[tuple[int, Amount]]] = {}
        with progress("minute bars from OpenD", len(self._symbols)) as advance:
            for number, symbol in enumerate(self._symbols):
                try:
                    bars[symbol] = await self._bars_of(reference, symbol)
                except FeedTimeout as exc:
                    result.failed[symbol] = str(exc)
                except FeedLost as exc:
                    result.failed.update((one, f"connection to OpenD lost: {exc}") for one in self._symbols[number:])
                    break
                except FeedError as exc:
                    result.failed[symbol] = f"OpenD refuses: {exc}"
                advance(1)
        return bars

    async def _bars_of(self, reference: Reference, symbol: str) -> list[tuple[int, Amount]]:
        found = await reference.minute_bars(symbol, self._day.trading_day)
        return [(bar.label_ms, Amount(bar.volume, bar.turnover)) for bar in found]

    def _stored(self) -> dict[str, TypedMinutes]:
        return against.stored_by_minute(self._batches())

    def _batches(self) -> Iterator[Any]:
        if len(self._symbols) <= FEW_SYMBOLS:
            yield from self._day.ticks(self._symbols, _COLUMNS).to_batches()
        else:
            yield from self._day.batches(_COLUMNS, workers=1)

    def _total(self, stored: dict[str, TypedMinutes], symbol: str) -> Amount:
        return against.total(against.counted(stored.get(symbol, {}), self._left_out).values())

    def _kind(self) -> DayKind:
        return self._app.calendar.day_kind(self._day.trading_day)

    def _is_trading(self, day: str, opend_ms: int) -> bool:
        """By OpenD's clock: can ticks of this day still come? A day the calendar calls closed is judged by midnight."""
        kind = self._kind()
        end_ms = day_start_ms(add_days(day, 1)) if kind is DayKind.CLOSED else HK.recording_window(day, kind)[1]
        return opend_ms < end_ms


def _as_json(result: Result) -> dict[str, Any]:
    def of_symbol(comparison: Comparison) -> dict[str, Any]:
        return {
            "equal": comparison.equal,
            "minutes": comparison.minutes,
            "opend_volume": comparison.opend.volume,
            "stored_volume": comparison.stored.volume,
            "opend_turnover": comparison.opend.turnover,
            "stored_turnover": comparison.stored.turnover,
            "differences": [against.as_json(one) for one in comparison.differences],
            "moved": [against.as_json(one) for one in comparison.moved],
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
        "symbols": {symbol: of_symbol(one) for symbol, one in sorted(result.compared.items())},
        "sentence": result.sentence(),
    }


def _show(result: Result) -> None:
    rows = [
        (symbol, _hk_time(one.minute_ms) if one.minute_ms else "day", *_amounts(one))
        for symbol, comparison in sorted(result.different.items())
        for one in comparison.differences
    ]
    columns = ("symbol", "minute", "volume OpenD", "stored", "missing", "turnover OpenD", "turnover stored")
    if rows:
        print_table(columns, rows[:SHOWN_DIFFERENCES], numbers=columns[2:])
        if len(rows) > SHOWN_DIFFERENCES:
            print(f"... and {len(rows) - SHOWN_DIFFERENCES:,} more; --json lists all")
    moved = sum(len(one.moved) for one in result.compared.values())
    if moved:
        print(f"{moved} minutes hold volume that OpenD counts in a neighbouring one: nothing is missing for that")
    for symbol, reason in sorted(result.failed.items()):
        print(f"{symbol}: could not be compared: {reason}")
    if result.suspicion:
        print(f"Perhaps nothing is missing: {result.suspicion} (see --leave-out)")
    print(result.sentence())


def _amounts(one: against.Difference) -> tuple[int, int, int, float, float]:
    return one.opend_volume, one.stored_volume, one.missing_volume, one.opend_turnover, one.stored_turnover


def _hk_time(ts_ms: int) -> str:
    return datetime.fromtimestamp(ts_ms / 1000, tz=HK_TZ).strftime("%H:%M")
