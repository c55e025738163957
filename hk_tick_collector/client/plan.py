"""What is read for a question: which days of which market, which symbols there, and how complete they are.

Several data roots may hold one market: their days are read as one (``days.union``). A trading day without any file,
within the stretch asked for, is no error but is not complete either: it stands in the coverage as not recorded. A
holiday does not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from hk_tick_collector.client.coverage import NOT_RECORDED, UNPROVEN, WHOLE_DAY, SymbolCoverage
from hk_tick_collector.client.errors import BadQuestion, DayPacked, NoData
from hk_tick_collector.client.question import Bound, Stretch
from hk_tick_collector.core.clock import Clock
from hk_tick_collector.core.errors import InputError, StoreCorrupt
from hk_tick_collector.core.errors import NoData as NothingThere
from hk_tick_collector.days.catalog import Catalog, Day
from hk_tick_collector.days.union import UnionCatalog
from hk_tick_collector.market.calendar import TradingCalendar
from hk_tick_collector.market.dates import add_days
from hk_tick_collector.market.market import Market
from hk_tick_collector.quality.certificate import verified_until_ms
from hk_tick_collector.store.judging import verdict_of
from hk_tick_collector.store.reader import CoverageRow, GapRow, Notes
from hk_tick_collector.watch.when import one_day, some_days

_NOTHING_NOTED = "no tick of it is recorded on this day"
_OPEN_MS = (-(10**15), 10**15)  # no moment before, none after


@dataclass
class MarketRoots:
    """The data roots of one market; what ``watch.when`` calls ``Recorded``."""

    market: Market
    catalog: UnionCatalog
    clock: Clock

    @property
    def data_root(self) -> Path:
        """The first one: for messages."""
        return self.catalog.data_root

    @property
    def now_ms(self) -> int:
        """The wall clock."""
        return self.clock.now_ms()

    @cached_property
    def calendar(self) -> TradingCalendar:
        """Its trading days."""
        return TradingCalendar(self.market)


@dataclass(frozen=True)
class DayRead:
    """A part of a day to read. ``symbols``: None for all; times in UTC epoch ms, end exclusive, None for open.

    ``coverage`` and ``ticks_by_symbol`` (of the symbols wanted, in order) are of one moment with ``last_rowid``, and
    rows behind it are not read: one state, whatever is recorded meanwhile.
    """

    day: Day
    symbols: tuple[str, ...] | None
    coverage: list[SymbolCoverage]
    ticks_by_symbol: dict[str, int]
    last_rowid: int | None
    start_ms: int | None = None
    end_ms: int | None = None

    @classmethod
    def of(cls, day: Day, symbols: tuple[str, ...] | None, start_ms: int | None, end_ms: int | None) -> DayRead:
        """What there is to read, and how complete it is. Raises as ``Day.notes``."""
        day = day if symbols is None else day.of_symbols(symbols)
        notes = day.notes(last_row=True)
        ticks = _ticks_by_symbol(day, notes, symbols)
        coverage = coverage_rows(day.trading_day, notes, symbols, ticks)
        return cls(day.without_notes(), symbols, coverage, ticks, notes.last_rowid, start_ms, end_ms)

    def only(self, symbols: tuple[str, ...]) -> DayRead:
        """The part of these symbols."""
        ticks = {symbol: self.ticks_by_symbol.get(symbol, 0) for symbol in symbols}
        rows = [row for row in self.coverage if row.symbol in ticks]
        return replace(self, symbols=symbols, coverage=rows, ticks_by_symbol=ticks)


@dataclass
class Plan:
    """What to read, by day and market, and the coverage of what cannot be."""

    reads: list[DayRead] = field(default_factory=list)
    not_there: list[SymbolCoverage] = field(default_factory=list)


def _ticks_by_symbol(day: Day, notes: Notes, symbols: Sequence[str] | None) -> dict[str, int]:
    counts = {row.symbol: row.stored_ticks for row in notes.coverage} or day.rows_by_symbol()
    names = sorted(symbol for symbol, ticks in counts.items() if ticks) if symbols is None else symbols
    return {symbol: counts.get(symbol, 0) for symbol in names}


def coverage_rows(
    day: str, notes: Notes, symbols: Sequence[str] | None, ticks_by_symbol: Mapping[str, int]
) -> list[SymbolCoverage]:
    """How complete a day is, by symbol, from its notes."""
    rows, gaps = {row.symbol: row for row in notes.coverage}, notes.open_gaps()
    names = sorted({*rows, *gaps, *ticks_by_symbol}) if symbols is None else symbols
    return [
        _symbol_coverage(day, name, rows.get(name), gaps.get(name, []), ticks_by_symbol.get(name, 0)) for name in names
    ]


def _symbol_coverage(
    day: str, symbol: str, row: CoverageRow | None, gaps: list[GapRow], stored_ticks: int
) -> SymbolCoverage:
    if row is None and not gaps and not stored_ticks:
        return blank(day, symbol, UNPROVEN, _NOTHING_NOTED)
    try:
        verdict = verdict_of(row, gaps)
    except (ValueError, TypeError) as exc:
        return blank(day, symbol, UNPROVEN, f"its coverage cannot be read: {exc}", stored_ticks)
    return SymbolCoverage(
        day, symbol, verdict.state, verdict.reason, stored_ticks, verdict.missing_ticks, verdict.missing_at_most,
        verdict.expected_ticks, row.first_ts_ms if row else None, row.last_ts_ms if row else None,
        verified_until_ms(row, verdict) if row else None,
    )  # fmt: skip


def blank(day: str, symbol: str, state: str, reason: str | None, stored_ticks: int = 0) -> SymbolCoverage:
    """The coverage of what nothing is known of."""
    return SymbolCoverage(day, symbol, state, reason, stored_ticks, 0, None, None, None, None, None)


Older = Callable[[Sequence[Catalog]], Sequence[Catalog]]


def nothing_older(_catalogs: Sequence[Catalog]) -> Sequence[Catalog]:
    """There is nothing but the files."""
    return ()


def markets_of(roots: Iterable[tuple[Path, Path]], clock: Clock, older: Older = nothing_older) -> list[MarketRoots]:
    """The data roots by market, in the order listed. ``older``: catalogs of days that those of the files lack."""
    files = [Catalog(data_root, archive_root) for data_root, archive_root in roots]
    by_market: dict[str, list[Catalog]] = {}
    for catalog in (*files, *older(files)):
        by_market.setdefault(catalog.market.code, []).append(catalog)
    return [MarketRoots(catalogs[0].market, UnionCatalog(catalogs), clock) for catalogs in by_market.values()]


def plan_of(markets: Sequence[MarketRoots], stretch: Stretch) -> Plan:
    """What a question means here. BadQuestion for what is no day or symbol, NoData when no recorded day is meant."""
    plan = Plan()
    nothing: list[tuple[NoData, tuple[str, ...]]] = []
    for recorded, symbols in symbols_by_market(markets, stretch.symbols):
        try:
            _add(plan, recorded, symbols, stretch)
        except NoData as exc:
            nothing.append((exc, symbols or ()))
    if not plan.reads and not plan.not_there:
        raise nothing[0][0] if nothing else NoData("nothing of these days was recorded by then")
    newest = max(read.day.trading_day for read in plan.reads) if plan.reads else plan.not_there[-1].trading_day
    for error, symbols in nothing:  # of one market, where another one has something
        plan.not_there += [blank(newest, symbol, NOT_RECORDED, error.args[0]) for symbol in symbols]
    plan.reads.sort(key=lambda read: read.day.trading_day)  # stable: markets stay in their order
    return plan


def symbols_by_market(
    markets: Sequence[MarketRoots], words: Sequence[str]
) -> list[tuple[MarketRoots, tuple[str, ...] | None]]:
    """Which symbols are of which market; None for all of them."""
    if not words:
        return [(recorded, None) for recorded in markets]
    named: dict[str, list[str]] = {recorded.market.code: [] for recorded in markets}
    problems = []
    for word in words:
        meant = ((recorded.market.code, recorded.market.symbols.symbol(word)) for recorded in markets)
        code, symbol = next(((code, symbol) for code, symbol in meant if symbol), ("", ""))
        if symbol:
            named[code].append(symbol)
        else:
            problems.append(f"{word!r}: {markets[0].market.symbols.why_not(word)}")
    if problems:
        raise BadQuestion("; ".join(problems), f"recorded here: {', '.join(named)}")
    by_code = ((recorded, tuple(sorted(set(named[recorded.market.code])))) for recorded in markets)
    return [(recorded, symbols) for recorded, symbols in by_code if symbols]


def _add(plan: Plan, recorded: MarketRoots, symbols: tuple[str, ...] | None, stretch: Stretch) -> None:
    """One market's part."""
    start_ms, end_ms = (bound_ms(recorded.market, end) for end in (stretch.start, stretch.end))
    names = days_meant(recorded, stretch, start_ms, end_ms)
    for name in names:
        first_ms, after_ms = recorded.market.day_bounds(name)
        if stretch.as_of_ms is not None and stretch.as_of_ms < first_ms:
            continue
        start = None if start_ms is None or start_ms <= first_ms else start_ms
        end = None if end_ms is None or end_ms >= after_ms else end_ms
        try:
            plan.reads.append(DayRead.of(recorded.catalog.day(name), symbols, start, end))
        except StoreCorrupt as exc:
            if len(names) == 1:
                raise
            damage = f"left out, it cannot be read: {exc}"
            plan.not_there += [blank(name, symbol, UNPROVEN, damage) for symbol in symbols or (WHOLE_DAY,)]
    for day, reason in unrecorded(recorded, stretch, start_ms, end_ms):
        plan.not_there += [blank(day, symbol, NOT_RECORDED, reason) for symbol in symbols or (WHOLE_DAY,)]


def check_readable(day: Day) -> None:
    """DayPacked when its ticks cannot be read in place."""
    if (day.is_archived_only or day.is_joined) and day.archived_file.suffix != ".parquet":
        raise DayPacked(
            f"{day.trading_day} is archived as a packed day file only, which cannot be read in place",
            f"bring it back with: hk-tickctl restore {day.trading_day}",
        )


def days_meant(recorded: MarketRoots, stretch: Stretch, start_ms: int | None, end_ms: int | None) -> list[str]:
    """The recorded ones. NoData says why there is none."""
    if stretch.start is None and stretch.end is None:
        try:
            return [one_day(recorded, None)] if stretch.days is None else some_days(recorded, stretch.days)
        except NothingThere as exc:
            raise NoData(str(exc), _why_nothing(recorded, stretch.days)) from exc
    low, high = start_ms if start_ms is not None else _OPEN_MS[0], end_ms if end_ms is not None else _OPEN_MS[1]
    if low >= high:
        raise BadQuestion("start is not before end", "end is exclusive")
    days = recorded.catalog.days()
    meant = [day for day in days if (bounds := recorded.market.day_bounds(day))[0] < high and bounds[1] > low]
    if not meant:
        known = f"recorded are {len(days)} days, {days[0]} to {days[-1]}" if days else "nothing is recorded at all"
        raise NoData(f"no recorded day lies between start and end under {recorded.data_root}; {known}")
    return meant


def _why_nothing(recorded: MarketRoots, text: str | None) -> str:
    """Of a day named alone: was the market closed?"""
    try:
        day = one_day(recorded, text)
        is_trading_day = recorded.calendar.is_trading_day(day)
    except (NothingThere, InputError, ValueError):
        return "hk.days() lists what is recorded"
    if is_trading_day:
        return f"{recorded.market.name} traded on {day}, but nothing was recorded; hk.days() lists what is"
    return f"{recorded.market.name} was closed on {day}"


def unrecorded(
    recorded: MarketRoots, stretch: Stretch, start_ms: int | None, end_ms: int | None
) -> Iterator[tuple[str, str | None]]:
    """Trading days in the stretch that have begun and have no file. Before the first recorded day it is one, with a
    reason: a stretch may begin with the century."""
    days = recorded.catalog.days()
    there, now_ms = set(days), recorded.now_ms if stretch.as_of_ms is None else stretch.as_of_ms
    for first, last in _spans(recorded, stretch, start_ms, end_ms):
        before = recorded.calendar.previous_trading_day(days[0])
        if first <= before:
            yield before, f"nothing is recorded before {days[0]}"
        day = max(first, days[0])
        while day <= last:
            windows = recorded.market.continuous_windows(day, recorded.calendar.day_kind(day))
            if day not in there and windows and windows[0][0] < now_ms:
                yield day, None
            day = add_days(day, 1)


def _spans(
    recorded: MarketRoots, stretch: Stretch, start_ms: int | None, end_ms: int | None
) -> Iterator[tuple[str, str]]:
    """First and last day of each stretch; an open end is the first or last recorded day."""
    days = recorded.catalog.days()
    if stretch.days is not None:
        for part in stretch.days.split(","):
            if ".." in part:
                first, last = (one_day(recorded, end) if end else None for end in part.strip().split("..", 1))
                yield first or days[0], last or days[-1]
    elif start_ms is not None or end_ms is not None:
        trading_day = recorded.market.trading_day
        today = trading_day(recorded.now_ms)
        first = days[0] if start_ms is None else trading_day(start_ms)
        last = days[-1] if end_ms is None else min(trading_day(end_ms - 1), today)
        yield first, last


def bound_ms(market: Market, bound: Bound | None) -> int | None:
    """A start or an end as UTC epoch ms: a day stands for its beginning."""
    return market.day_bounds(bound)[0] if isinstance(bound, str) else bound
