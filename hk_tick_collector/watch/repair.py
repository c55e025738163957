"""What a day file lacks and OpenD may still show: which symbols to ask for, and why.

``repairable_day`` and ``plan`` read and decide; ``repair_job.RepairJob`` asks and stores; ``RepairPlan.look_again``
says what came of it. None of the first needs a connection, so a program may ask every minute whether something is left
to repair.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from hk_tick_collector.core.errors import RecorderError
from hk_tick_collector.market.market import Market
from hk_tick_collector.market.zone import Zone
from hk_tick_collector.sources.registry import spec_to_ask
from hk_tick_collector.store import judging, layout, reader
from hk_tick_collector.store.gaps import OPEN
from hk_tick_collector.store.reader import CoverageRow
from hk_tick_collector.store.verdict import PROVEN, UNPROVEN

if TYPE_CHECKING:
    from hk_tick_collector.market.calendar import TradingCalendar
    from hk_tick_collector.watch.when import Recorded

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


@dataclass(frozen=True, slots=True)
class DayStates:
    """What the day file says, by symbol. Without a file, or in a file of an earlier recorder, there are no ``rows``."""

    by_symbol: Mapping[str, State]
    rows: Mapping[str, CoverageRow]


@dataclass(frozen=True)
class RepairPlan:
    """Which symbols to ask OpenD for; none when nothing is missing."""

    trading_day: str
    market: Market
    db: Path  # the day file, which may not exist yet
    repairs: list[Repair]

    @property
    def complete(self) -> bool:
        """After ``look_again``: is every symbol that was asked for complete?"""
        return all(repair.complete for repair in self.repairs)

    def look_again(self) -> None:
        """Fill ``after`` of each repair from the day file. StoreError when it cannot be read."""
        after = read_states(self.db).by_symbol
        for repair in self.repairs:
            repair.after = after.get(repair.symbol, State())


def repairable_day(recorded: Recorded, calendar: TradingCalendar, day: str | None = None) -> str:
    """The day that can be repaired now, YYYYMMDD. RecorderError when ``day`` is another one, or when it is archived and
    has no day file."""
    trading_day = shown_day(calendar, recorded.now_ms)
    if day is not None and day != trading_day:
        spec = spec_to_ask(calendar.market.code)
        newest = f"{spec.pull.newest_rows} " if spec is not None else ""
        raise RecorderError(
            f"{day} cannot be repaired: OpenD shows the newest {newest}ticks of {trading_day} and nothing older"
            if day < trading_day
            else f"{day} cannot be repaired: no tick of it can be there yet; OpenD shows {trading_day}"
        )
    db = layout.day_file(recorded.data_root, trading_day)
    if not db.exists() and trading_day in recorded.catalog.archived_days():
        raise RecorderError(
            f"{trading_day} is archived and has no day file: bring it back first, with hk-tickctl restore {trading_day}"
        )
    return trading_day


def plan(
    recorded: Recorded, calendar: TradingCalendar, trading_day: str, wanted: Iterable[str], only: Sequence[str] = ()
) -> RepairPlan:
    """What to ask OpenD for: of the symbols stored and ``wanted`` those that may lack something, or ``only`` these.

    ``trading_day``: the one of ``repairable_day``. StoreError when its file cannot be read.
    """
    db = layout.day_file(recorded.data_root, trading_day)
    states = read_states(db)
    confirmed_by_ms = min(recorded.now_ms, calendar.recording_window(trading_day)[1]) - UNCONFIRMED_MS
    repairs = []
    for symbol in only or sorted({*states.by_symbol, *wanted}):
        before = states.by_symbol.get(symbol, State())
        why = reason_to_ask(states.rows.get(symbol), before, confirmed_by_ms, calendar.market.zone)
        if why or only:
            repairs.append(Repair(symbol, why or "asked for", before))
    return RepairPlan(trading_day, calendar.market, db, repairs)


def shown_day(calendar: TradingCalendar, now_ms: int) -> str:
    """The day whose ticks OpenD shows: today from 09:00 on when it trades, else the last day that did."""
    today = calendar.market.trading_day(now_ms)
    if calendar.is_trading_day(today) and now_ms >= calendar.recording_window(today)[0]:
        return today
    return calendar.previous_trading_day(today)


def read_states(db: Path) -> DayStates:
    """What the file says by symbol; nothing when there is no file. StoreError when it cannot be read."""
    if not db.exists():
        return DayStates({}, {})
    notes = reader.notes(db)
    rows = {row.symbol: row for row in judging.judged(notes)}
    if not rows:  # a file of an earlier recorder
        counts = reader.count_by_symbol(db, -1)
        return DayStates({count.symbol: State(UNPROVEN, NO_COVERAGE, count.rows) for count in counts}, {})
    open_gaps = Counter(gap.symbol for gap in notes.gaps if gap.state == OPEN)
    states = {
        symbol: State(row.state, row.reason, row.stored_ticks, row.missing_ticks, open_gaps[symbol])
        for symbol, row in rows.items()
    }
    return DayStates(states, rows)


def reason_to_ask(row: CoverageRow | None, state: State, confirmed_by_ms: int, zone: Zone) -> str | None:
    """Why a symbol may lack something; None when it is proven and was confirmed after ``confirmed_by_ms``."""
    if row is None:
        return state.reason or "no tick is stored"
    if row.state != PROVEN or state.open_gaps:
        return row.reason or row.state
    if row.verified_until_ms is not None and row.verified_until_ms < confirmed_by_ms:
        return f"confirmed only until {zone.clock(row.verified_until_ms)}"
    return None
