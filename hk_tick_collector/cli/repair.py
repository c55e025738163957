"""``hk-tickctl repair``: ask OpenD for what a day file lacks, and store it the way the recorder does.

What is stored and concluded is the feed's own doing: its mapping, its ``Continuity`` (begun where the day file ends,
the newest stored pushes as its witnesses) and the recorder's ``DayFileWriter``. Beside a running recorder SQLite's lock
keeps the two apart; each notices what the other committed and reads the coverage again.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from hk_tick_collector.cli.common import (
    EXIT_FINE,
    EXIT_PROBLEM,
    App,
    be_gentle,
    print_table,
    progress,
    say,
    tickctl_command,
)
from hk_tick_collector.cli.opend import with_opend
from hk_tick_collector.core.clock import SystemClock
from hk_tick_collector.core.errors import FeedError, FeedLost, FeedTimeout, RecorderError, RowRefused
from hk_tick_collector.core.facts import Fact, StoredTrack
from hk_tick_collector.core.progress import FeedProgress
from hk_tick_collector.market.hk import HK
from hk_tick_collector.market.hk.sessions import HK_TZ, hk_date
from hk_tick_collector.records.tick import PUSH_TYPE_PUSH, PUSH_TYPE_REPAIR, RejectedTick, Tick
from hk_tick_collector.store import layout, reader
from hk_tick_collector.store.connect import SqliteOptions
from hk_tick_collector.store.coverage import PROVEN, UNPROVEN
from hk_tick_collector.store.gaps import OPEN
from hk_tick_collector.store.reader import CoverageRow
from hk_tick_collector.watch.newest import newest_ticks
from hk_tick_collector.watch.when import one_day, symbol_list

if TYPE_CHECKING:
    from pathlib import Path

    from hk_tick_collector.market.calendar import TradingCalendar
    from hk_tick_collector.sources.futu.sdk import Connection
    from hk_tick_collector.store.writer import DayFileWriter

PULL_ROWS = 1000  # all that OpenD shows of a symbol
PULLS_AT_ONCE = 8
WITNESS_ROWS = 200  # newest stored ticks among which pushes are looked for
SUBSCRIBE_CODES, SUBSCRIBE_TIMEOUT_SEC = 100, 12.0
UNCONFIRMED_MS = 10 * 60_000  # the recorder confirms every symbol every four minutes, up to the end of recording
NO_TICKS = "no ticks"
NO_COVERAGE = "the recorder that wrote the file kept no coverage"


@dataclass(frozen=True, slots=True)
class State:
    """What the day file says of a symbol."""

    state: str = NO_TICKS  # proven, missing, unproven, or no ticks
    reason: str | None = None
    stored_ticks: int = 0
    missing_ticks: int = 0
    open_gaps: int = 0


@dataclass
class Repair:
    """One symbol: why it is asked for, and what came of it."""

    symbol: str
    why: str
    before: State
    after: State = field(default_factory=State)
    new_ticks: int = 0
    error: str | None = None

    @property
    def complete(self) -> bool:
        """Proven, or OpenD has no tick of the day either."""
        return self.error is None and self.after.state in (PROVEN, NO_TICKS)


@tickctl_command(
    "repair",
    help="""Ask OpenD for what the day file lacks, and store it.

    OpenD shows the newest 1000 ticks of a symbol, of the present session or, before 09:00 and on days without trading,
    of the last one: that is the only DAY that can be repaired. Asked for are the symbols of which ticks are missing,
    that are not proven complete, or that were last confirmed well before now, and wanted symbols without any tick;
    --symbols asks for these, whatever their state. They are subscribed for as long as this takes, without pushes; what
    the recorder has subscribed already costs no quota.

    Safe while the recorder runs. Shows every symbol before and after. Ends with 0 when all of them are proven complete
    afterwards (or OpenD has no tick of them), else 1. With --dry-run: 0 when there is nothing to ask for, else 1.""",
)
@click.argument("day", required=False)
@click.option("--symbols", "--symbol", "-s", "symbols", multiple=True, help="Only these: 700,HK.00005 or @file.")
@click.option("--dry-run", is_flag=True, help="Only show what would be asked for.")
def command(app: App, day: str | None, symbols: Sequence[str], dry_run: bool) -> int | None:
    """See the help text."""
    trading_day = shown_day(app.calendar, app.now_ms)
    chosen = one_day(app, day) if day else trading_day
    if chosen != trading_day:
        raise RecorderError(
            f"{chosen} cannot be repaired: OpenD shows the newest {PULL_ROWS} ticks of {trading_day} and nothing older"
            if chosen < trading_day
            else f"{chosen} cannot be repaired: no tick of it can be there yet; OpenD shows {trading_day}"
        )
    db = _day_file(app, trading_day)
    states = _states(db)
    repairs = plan(app, trading_day, states, symbol_list(symbols) if symbols else ())
    if dry_run or not repairs:
        app.emit(_as_json(trading_day, repairs, dry_run=dry_run), lambda: _show_plan(trading_day, repairs))
        return EXIT_PROBLEM if repairs else EXIT_FINE
    be_gentle()
    work = _Work(app, trading_day, db, {one.symbol: one for one in repairs})
    with_opend(app, work.run)
    after = _states(db)
    for one in repairs:
        one.after = after[0].get(one.symbol, State())
    app.emit(_as_json(trading_day, repairs, dry_run=False), lambda: _show(trading_day, repairs))
    if work.rejected_ticks:
        say(f"hk-tickctl: {work.rejected_ticks} ticks of OpenD cannot be stored; the recorder puts such aside")
    return EXIT_FINE if all(one.complete for one in repairs) else EXIT_PROBLEM


def shown_day(calendar: TradingCalendar, now_ms: int) -> str:
    """The day whose ticks OpenD shows: today from 09:00 on when it trades, else the last day that did."""
    today = hk_date(now_ms)
    if calendar.is_trading_day(today) and now_ms >= HK.recording_window(today, calendar.day_kind(today))[0]:
        return today
    return calendar.previous_trading_day(today)


def _day_file(app: App, day: str) -> Path:
    """Where the day's ticks belong. RecorderError when they must not be put there."""
    db = layout.day_file(app.data_root, day)
    if not db.exists() and day in app.catalog.archived_days():
        raise RecorderError(
            f"{day} is archived and has no day file: bring it back first, with hk-tickctl restore {day}"
        )
    return db


def _states(db: Path) -> tuple[dict[str, State], dict[str, CoverageRow]]:
    """What the file says by symbol; nothing when there is no file."""
    if not db.exists():
        return {}, {}
    rows = {row.symbol: row for row in reader.coverage(db)}
    if not rows:  # a file of an earlier recorder
        counts = reader.count_by_symbol(db, -1)
        return {one.symbol: State(UNPROVEN, NO_COVERAGE, one.rows) for one in counts}, {}
    open_gaps = Counter(gap.symbol for gap in reader.gaps(db, state=OPEN))
    states = {
        symbol: State(row.state, row.reason, row.stored_ticks, row.missing_ticks, open_gaps[symbol])
        for symbol, row in rows.items()
    }
    return states, rows


def plan(
    app: App, day: str, states: tuple[Mapping[str, State], Mapping[str, CoverageRow]], only: Sequence[str]
) -> list[Repair]:
    """Which symbols to ask for, and why; ``only`` these when given."""
    by_symbol, rows = states
    end_ms = HK.recording_window(day, app.calendar.day_kind(day))[1]
    confirmed_by_ms = min(app.now_ms, end_ms) - UNCONFIRMED_MS
    repairs = []
    for symbol in only or sorted({*by_symbol, *app.settings.futu_symbols}):
        why = reason_to_ask(rows.get(symbol), by_symbol.get(symbol, State()), confirmed_by_ms)
        if why or only:
            repairs.append(Repair(symbol, why or "asked for", by_symbol.get(symbol, State())))
    return repairs


def reason_to_ask(row: CoverageRow | None, state: State, confirmed_by_ms: int) -> str | None:
    """Why a symbol may lack something; None when it is proven and was confirmed after ``confirmed_by_ms``."""
    if row is None:
        return state.reason or "no tick is stored"
    if row.state != PROVEN or state.open_gaps:
        return row.reason or row.state
    if row.verified_until_ms is not None and row.verified_until_ms < confirmed_by_ms:
        return f"confirmed only until {_hk_time(row.verified_until_ms)}"
    return None


class _Work:
    """Asks, stores, and notes beside each symbol what came of it."""

    def __init__(self, app: App, day: str, db: Path, repairs: Mapping[str, Repair]) -> None:
        from hk_tick_collector.sources.continuity import Continuity  # noqa: PLC0415 - futu-api takes its time
        from hk_tick_collector.sources.pull import TickPuller  # noqa: PLC0415

        self._app = app
        self._day = day
        self._repairs = repairs
        self._clock = SystemClock()
        self._ticks: list[Tick] = []
        self._facts: list[Fact] = []
        self.rejected_ticks = 0
        self._continuity = Continuity(self._facts.extend)
        self._puller = TickPuller(self._ticks.extend, self._reject, self._continuity, FeedProgress(), self._clock)
        self._witnesses = _witnesses(db, list(repairs)) if db.exists() else {}
        self._seeds = _seeds(app.data_root, day, list(repairs))
        self._continuity.seed(self._seeds)
        self._continuity.connected()

    async def run(self, connection: Connection) -> None:
        """Subscribe, then pull a few symbols at a time and store what is new."""
        await self._subscribe(connection, list(self._repairs))
        symbols = [symbol for symbol, one in self._repairs.items() if one.error is None]
        writer = _writer(self._app)
        try:
            with progress("ticks from OpenD", len(symbols)) as advance:
                for at in range(0, len(symbols), PULLS_AT_ONCE):
                    part = symbols[at : at + PULLS_AT_ONCE]
                    answered = await asyncio.gather(*(self._pull(connection, symbol) for symbol in part))
                    self._store(writer)
                    advance(len(part))
                    if not any(answered):
                        for symbol in symbols[at + len(part) :]:
                            self._repairs[symbol].error = f"not asked: {self._repairs[part[0]].error}"
                        break
        finally:
            writer.close()

    async def _subscribe(self, connection: Connection, symbols: list[str]) -> None:
        """OpenD refuses all codes for one bad one: halve until the culprits stand alone."""
        parts = [symbols[at : at + SUBSCRIBE_CODES] for at in range(0, len(symbols), SUBSCRIBE_CODES)]
        while parts:
            part = parts.pop()
            try:
                await connection.subscribe_tickers(part, SUBSCRIBE_TIMEOUT_SEC, push=False)
            except (FeedLost, FeedTimeout):
                raise
            except FeedError as exc:
                if len(part) == 1:
                    self._repairs[part[0]].error = f"OpenD refuses: {exc}"
                else:
                    parts += [part[: len(part) // 2], part[len(part) // 2 :]]

    async def _pull(self, connection: Connection, symbol: str) -> bool:
        """False when there was no answer at all."""
        if symbol in self._seeds and symbol in self._witnesses:
            self._continuity.observe_push(self._witnesses[symbol], self._clock.monotonic())
        try:
            await self._puller.pull(connection, symbol, PULL_ROWS, PUSH_TYPE_REPAIR)
        except FeedError as exc:
            self._repairs[symbol].error = str(exc)
            return not isinstance(exc, (FeedLost, FeedTimeout))
        return True

    def _store(self, writer: DayFileWriter) -> None:
        """Ticks and facts of this day, a symbol a transaction: the recorder beside us never waits long for the lock."""
        ticks: dict[str, list[Tick]] = {}
        for tick in self._ticks:
            if tick.trading_day == self._day:
                ticks.setdefault(tick.symbol, []).append(tick)
        facts = [fact for fact in self._facts if fact.trading_day == self._day and self._may_conclude(fact.symbol)]
        self._ticks.clear()
        self._facts.clear()
        for symbol, rows in ticks.items():
            one = self._repairs[symbol]
            of_symbol = [fact for fact in facts if fact.symbol == symbol]
            try:
                one.new_ticks += writer.write(rows, of_symbol).inserted_rows
            except RowRefused:
                result, refused = writer.isolate(rows, of_symbol)
                one.new_ticks += result.inserted_rows
                self.rejected_ticks += len(refused)
        alone = [fact for fact in facts if fact.symbol not in ticks]
        if alone:
            writer.write((), alone)

    def _may_conclude(self, symbol: str) -> bool:
        """Only if the track began where the file ends: else ticks that are stored would look absent."""
        return symbol in self._seeds or not self._repairs[symbol].before.stored_ticks

    def _reject(self, rejected: Sequence[RejectedTick]) -> None:
        self.rejected_ticks += len(rejected)


def _seeds(data_root: Path, day: str, symbols: list[str]) -> dict[str, StoredTrack]:
    """Where the day file ends, by symbol. Symbols with a newer file are left out."""
    newest_first = [layout.parse_day(path) for path in layout.recent_day_files(data_root, sys.maxsize)]
    files = newest_first.index(day) + 1 if day in newest_first else 0
    tracks = reader.tracks(data_root, symbols, files)
    return {symbol: track for symbol, track in tracks.items() if track.trading_day == day}


def _witnesses(db: Path, symbols: Sequence[str]) -> dict[str, list[Tick]]:
    """The newest stored pushes of each symbol, oldest first: when OpenD shows the same ticks in the same way, its
    counters may be trusted, as the recorder does."""
    found = newest_ticks(db, symbols, WITNESS_ROWS)
    pushed = {symbol: [tick for tick in ticks if tick.push_type == PUSH_TYPE_PUSH] for symbol, ticks in found.items()}
    return {symbol: ticks for symbol, ticks in pushed.items() if ticks}


def _writer(app: App) -> DayFileWriter:
    from hk_tick_collector.store.writer import DayFileWriter  # noqa: PLC0415

    settings = app.settings
    options = SqliteOptions(
        busy_timeout_ms=settings.sqlite_busy_timeout_ms,
        journal_mode=settings.sqlite_journal_mode,
        synchronous=settings.sqlite_synchronous,
        wal_autocheckpoint=settings.sqlite_wal_autocheckpoint_pages,
    )
    return DayFileWriter(app.data_root, options)


def _as_json(day: str, repairs: Sequence[Repair], *, dry_run: bool) -> dict[str, Any]:
    return {
        "trading_day": day,
        "dry_run": dry_run,
        "asked_symbols": 0 if dry_run else len(repairs),
        "new_ticks": sum(one.new_ticks for one in repairs),
        "complete": not repairs if dry_run else all(one.complete for one in repairs),
        "symbols": [{**asdict(one), "complete": one.complete and not dry_run} for one in repairs],
    }


def _show_plan(day: str, repairs: Sequence[Repair]) -> None:
    if not repairs:
        print(f"{day}: nothing is missing, every symbol is proven complete: nothing to ask for")
        return
    columns = ("symbol", "state", "stored", "missing", "open gaps", "why")
    rows = [
        (one.symbol, one.before.state, one.before.stored_ticks, one.before.missing_ticks, one.before.open_gaps, one.why)
        for one in repairs
    ]
    print_table(columns, rows, numbers=columns[2:5])
    print(f"{day}: OpenD would be asked for the newest {PULL_ROWS} ticks of {len(repairs)} symbols")


def _show(day: str, repairs: Sequence[Repair]) -> None:
    columns = (
        "symbol",
        "before",
        "after",
        "missing before",
        "after ",
        "open gaps before",
        "after  ",
        "new ticks",
        "note",
    )
    rows = [
        (
            one.symbol, one.before.state, one.after.state, one.before.missing_ticks, one.after.missing_ticks,
            one.before.open_gaps, one.after.open_gaps, one.new_ticks, one.error or one.after.reason or "",
        )
        for one in repairs
    ]  # fmt: skip
    print_table(columns, rows, numbers=columns[3:8])
    left = [one for one in repairs if not one.complete]
    failed = sum(one.error is not None for one in repairs)
    new_ticks = sum(one.new_ticks for one in repairs)
    end = "all are complete now" if not left else f"{len(left)} are not proven complete, of these {failed} failed"
    print(f"{day}: asked for {len(repairs)} symbols, stored {new_ticks:,} new ticks; {end}")


def _hk_time(ts_ms: int) -> str:
    return datetime.fromtimestamp(ts_ms / 1000, tz=HK_TZ).strftime("%H:%M:%S")
