"""Recordings in files on this machine: a ``Backend`` that disturbs nobody who records.

Nothing is kept between two questions: each looks at the directories anew. Days are read one after the other as their
rows are taken; of a day at most its rows of the symbols asked for are in memory (of ``all`` symbols of a live day,
16 bytes a tick).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hk_tick_collector.client.answer import Answer
from hk_tick_collector.client.coverage import MISSING, PROVEN, UNPROVEN, Coverage, DayInfo
from hk_tick_collector.client.errors import BadQuestion, NoData, UnknownSymbol
from hk_tick_collector.client.plan import (
    DayRead,
    MarketRoots,
    Older,
    Plan,
    check_readable,
    markets_of,
    nothing_older,
    plan_of,
)
from hk_tick_collector.client.question import (
    ALL,
    ODD_LOTS,
    OFF_EXCHANGE,
    PRICE,
    BarQuestion,
    BookQuestion,
    SnapshotQuestion,
    Stretch,
    Texts,
    TickQuestion,
)
from hk_tick_collector.client.told import UNTRANSLATED, as_ours, translated
from hk_tick_collector.core.clock import Clock, SystemClock
from hk_tick_collector.core.errors import RecorderError
from hk_tick_collector.store.judging import judged
from hk_tick_collector.watch.access import check_open
from hk_tick_collector.watch.when import one_day

if TYPE_CHECKING:
    import pyarrow as pa

    from hk_tick_collector.days.catalog import Day
    from hk_tick_collector.market.calendar import TradingCalendar
    from hk_tick_collector.market.trades import TradeTypes
    from hk_tick_collector.query.bars import Fill

BATCH_ROWS = 65_536
_KEYS = ("symbol", "ts_ms", "seq")


class LocalFiles:
    """``roots``: each data root with its archive. ``older``: where days are that these have no more."""

    def __init__(
        self, roots: Iterable[tuple[Path, Path]], clock: Clock | None = None, older: Older = nothing_older
    ) -> None:
        self.roots = list(roots)
        self.clock = clock or SystemClock()
        self._older = older

    def close(self) -> None:
        """Nothing is held."""

    def ticks(self, question: TickQuestion) -> Answer:
        """As ``Backend.ticks``."""
        with translated():
            plan = self.plan(question.stretch)
            from hk_tick_collector.days.schema import ticks_schema  # noqa: PLC0415 - Arrow takes its time

            schema = ticks_schema(question.columns)
            coverage = coverage_of(plan, question.stretch)
        return Answer(schema, coverage, _guarded(_batches(plan, question)))

    def bars(self, question: BarQuestion) -> Answer:
        """As ``Backend.bars``."""
        with translated():
            plan = self.plan(question.stretch)
            from hk_tick_collector.query.bars import BARS  # noqa: PLC0415

            coverage = coverage_of(plan, question.stretch)
            batches = self.bars_of(plan, question).to_batches()
        return Answer(BARS, coverage, iter(batches))

    def books(self, question: BookQuestion) -> Answer:
        """As ``Backend.books``."""
        from hk_tick_collector.client import books  # noqa: PLC0415 - Arrow takes its time

        with translated():
            plan = books.plan_of_books(self.markets(), question)
        return Answer(books.schema_of_question(question), plan.coverage, _guarded(books.batches_of(plan, question)))

    def snapshots(self, question: SnapshotQuestion) -> Answer:
        """As ``Backend.snapshots``."""
        from hk_tick_collector.client import snapshots  # noqa: PLC0415 - Arrow takes its time
        from hk_tick_collector.days.snapshots import schema  # noqa: PLC0415

        with translated():
            plan = snapshots.plan_of_snapshots(self.markets(), question)
        batches = _guarded(snapshots.batches_of(plan, question))
        return Answer(schema(bodies=question.bodies), plan.coverage, batches)

    def bars_of(self, plan: Plan, question: BarQuestion) -> pa.Table:
        """The bars of what a plan reads, by symbol and start, market after market."""
        import pyarrow as pa  # noqa: PLC0415

        return pa.concat_tables([self._bars(plan, recorded, question) for recorded in self.markets()])

    def coverage(self, stretch: Stretch) -> Coverage:
        """As ``Backend.coverage``."""
        with translated():
            return coverage_of(plan_of(self.markets(), stretch), stretch)

    def days(self, keep: Callable[[str], bool] = lambda _symbol: True) -> list[DayInfo]:
        """As ``Backend.days``; states are those that the recorder noted. ``keep``: of which symbols."""
        with translated():
            infos = [
                _info(day, recorded.catalog.day, recorded.market.code, keep)
                for recorded in self.markets()
                for day in recorded.catalog.days()
            ]
            infos += [info for recorded in self.markets() for info in _without_ticks(recorded)]
        return sorted(infos, key=lambda info: info.trading_day)

    def certificate(self, day: str) -> dict[str, Any]:
        """As ``Backend.certificate``; of several data roots of a market it is one for all of them."""
        from hk_tick_collector.quality.certificate import make_certificate  # noqa: PLC0415

        with translated():
            recorded, stored_day = self._one_day(day)
            check_open(stored_day.source)
            certificate = make_certificate(stored_day, recorded.calendar, recorded.now_ms)
        plain: dict[str, Any] = json.loads(json.dumps(asdict(certificate)))
        return plain

    def live(self, symbols: Texts, **options: Any) -> Any:
        """As ``Backend.live``."""
        return import_module("hk_tick_collector.client.live").follow_files(self.roots, symbols, **options)

    def markets(self) -> list[MarketRoots]:
        """What is there, by market."""
        return markets_of(self.roots, self.clock, self._older)

    def _one_day(self, text: str) -> tuple[MarketRoots, Day]:
        markets = self.markets()
        for recorded in markets:
            try:
                return recorded, recorded.catalog.day(one_day(recorded, text))
            except RecorderError:
                if recorded is markets[-1]:
                    raise
        raise NoData("no data root is named", "hk.local(DIRECTORY)")

    def plan(self, stretch: Stretch) -> Plan:
        """What is read; an error when there cannot be a row."""
        plan = plan_of(self.markets(), stretch)
        for read in plan.reads:
            check_readable(read.day)
        if plan.reads and not any(any(read.ticks_by_symbol.values()) for read in plan.reads):
            raise self._nothing(plan, stretch)
        return plan

    def _nothing(self, plan: Plan, stretch: Stretch) -> NoData:
        from hk_tick_collector.query.fetch import explain_nothing  # noqa: PLC0415

        first = plan.reads[0]
        if first.symbols is None:
            return NoData(f"{first.day.trading_day} holds no tick", "hk.days() lists what is recorded")
        market = next(recorded for recorded in self.markets() if recorded.market is first.day.market)
        names = sorted({read.day.trading_day for read in plan.reads if read.day.market is first.day.market})
        days = [market.catalog.day(name) for name in names]
        return UnknownSymbol(explain_nothing(market.catalog, days, first.symbols, ""), "hk.coverage(DAY) lists symbols")

    def _bars(self, plan: Plan, recorded: MarketRoots, question: BarQuestion) -> pa.Table:
        """The bars of one market, by symbol and start."""
        import pyarrow as pa  # noqa: PLC0415

        from hk_tick_collector.query.bars import BARS, INPUT_COLUMNS, make_bars, parse_interval_ms  # noqa: PLC0415
        from hk_tick_collector.query.trade_types import TradeRule  # noqa: PLC0415

        try:
            interval_ms = parse_interval_ms(question.interval)
        except ValueError as exc:
            raise BadQuestion(str(exc)) from exc
        market = recorded.market
        rule = TradeRule(market.trade_types, question.auctions, question.odd_lots, question.off_exchange)
        reads = [read for read in plan.reads if read.day.market is market]
        # Where a trading day begins at midnight no bar holds ticks of two, and a day at a time is in memory.
        together = [reads] if market.day_starts_ms else [[read] for read in reads]
        tables, as_of_ms = [BARS.empty_table()], question.stretch.as_of_ms
        until_ms = recorded.now_ms if as_of_ms is None else min(recorded.now_ms, as_of_ms)
        for part in together:
            wanted = TickQuestion(question.stretch, INPUT_COLUMNS)
            ticks = pa.Table.from_batches(list(_batches(Plan(part), wanted)), _schema(INPUT_COLUMNS))
            fill = fill_of(part, recorded.calendar, until_ms) if question.fill else None
            tables.append(make_bars(ticks.unify_dictionaries(), interval_ms, market, rule, fill))
        return by_symbol(pa.concat_tables(tables).unify_dictionaries())


def fill_of(reads: list[DayRead], calendar: TradingCalendar, until_ms: int) -> Fill:
    """Where bars without a trade are made: in continuous trading of these days, up to a moment (UTC epoch ms)."""
    from hk_tick_collector.query.bars import Fill  # noqa: PLC0415

    windows = []
    for read in reads:
        name = read.day.trading_day
        for start_ms, end_ms in calendar.market.continuous_windows(name, calendar.day_kind(name)):
            window = start_ms, end_ms if read.end_ms is None else min(end_ms, read.end_ms)
            if window[0] < window[1]:
                windows.append(window)
    return Fill(windows, until_ms)


def by_symbol(bars: pa.Table) -> pa.Table:
    """By symbol and start; Arrow does not sort by what stands in a dictionary."""
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.compute as pc  # noqa: PLC0415

    keys = pa.table({"symbol": bars.column("symbol").cast(pa.string()), "start_ms": bars.column("start_ms")})
    return bars.take(pc.sort_indices(keys, [("symbol", "ascending"), ("start_ms", "ascending")]))


def _schema(columns: tuple[str, ...]) -> pa.Schema:
    from hk_tick_collector.days.schema import ticks_schema  # noqa: PLC0415

    return ticks_schema(columns)


def coverage_of(plan: Plan, stretch: Stretch) -> Coverage:
    rows = [*plan.not_there]
    for read in plan.reads:
        if stretch.as_of_ms is None:
            rows += read.coverage
        else:
            from hk_tick_collector.client.known import coverage_as_of  # noqa: PLC0415

            check_readable(read.day)
            rows += coverage_as_of(read, stretch.as_of_ms)
    return Coverage(sorted(rows, key=lambda row: (row.trading_day, row.symbol)))


def _guarded(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Errors while rows are taken, as ours."""
    try:
        yield from batches
    except UNTRANSLATED as exc:
        raise as_ours(exc) from exc


def _batches(plan: Plan, question: TickQuestion) -> Iterator[pa.RecordBatch]:
    """The rows, day by day."""
    narrowing = () if question.types == (ALL,) else ("tick_type", "price", "volume")
    as_of_ms = question.stretch.as_of_ms
    stored = () if as_of_ms is None else ("inserted_at_ms",)
    needed = tuple(dict.fromkeys((*question.columns, *narrowing, *stored)))
    for read in plan.reads:
        keep = None if not narrowing else kept_types(question.types, read.day.market.trade_types)
        for table in _tables(read, needed):
            rows = narrowed(table, keep, as_of_ms).select(list(question.columns))
            yield from rows.to_batches(max_chunksize=BATCH_ROWS)


def _tables(read: DayRead, columns: tuple[str, ...]) -> Iterator[pa.Table]:
    """A day's rows in order."""
    day, last_rowid = read.day.as_it_is_now(), read.last_rowid
    if read.symbols is not None:
        symbols = [symbol for symbol, ticks in read.ticks_by_symbol.items() if ticks]
        if symbols:
            yield day.ticks(symbols, columns, start_ms=read.start_ms, end_ms=read.end_ms, last_rowid=last_rowid)
        return
    from hk_tick_collector.days.rows import in_stretch  # noqa: PLC0415

    keyed = tuple(dict.fromkeys((*columns, *_KEYS)))
    for table in day.sorted_tables(keyed, last_rowid=last_rowid):
        yield in_stretch(table, read.start_ms, read.end_ms)


def narrowed(table: pa.Table, keep: Callable[[str | None], bool] | None, as_of_ms: int | None) -> pa.Table:
    import pyarrow as pa  # noqa: PLC0415

    from hk_tick_collector.client.known import stored_by  # noqa: PLC0415
    from hk_tick_collector.query.fetch import type_mask  # noqa: PLC0415
    from hk_tick_collector.query.trade_types import is_trade  # noqa: PLC0415

    if keep is not None:
        table = table.filter(pa.array(type_mask(table, keep)))
        table = table.filter(is_trade(table))
    return table if as_of_ms is None else table.filter(stored_by(table, as_of_ms))


def kept_types(types: tuple[str, ...], of_market: TradeTypes) -> Callable[[str | None], bool]:
    """Is a tick type of one of these kinds of trades?"""
    from hk_tick_collector.query.trade_types import TradeRule  # noqa: PLC0415

    prices = TradeRule(of_market).prices
    wider = TradeRule(of_market, odd_lots=ODD_LOTS in types, off_exchange=OFF_EXCHANGE in types).counts
    return lambda tick_type: PRICE in types if prices(tick_type) else wider(tick_type)


def _info(name: str, day_of: Callable[[str], Day], market: str, keep: Callable[[str], bool]) -> DayInfo:
    """A day over its data roots. One that cannot be read says so."""
    try:
        day = day_of(name)
        noted = judged(day.notes())
        rows = {row.symbol: row for row in noted if keep(row.symbol)}
        counts = {symbol: row.stored_ticks for symbol, row in rows.items()}
        if not noted:
            counts.update({symbol: ticks for symbol, ticks in day.rows_by_symbol().items() if keep(symbol)})
        where = {_where(part) for part in day.parts}
        book_rows = sum(map(_book_rows, day.parts))
    except (RecorderError, OSError) as exc:
        return DayInfo(name, market, "live", UNPROVEN, 0, 0, 0, 0, error=str(as_ours(exc)))
    states = {row.state for row in rows.values()} or {UNPROVEN}
    return DayInfo(
        name,
        market,
        where.pop() if len(where) == 1 else "both",
        next((state for state in (MISSING, UNPROVEN) if state in states), PROVEN),
        sum(counts.values()),
        sum(row.missing_ticks for row in rows.values() if row.state == MISSING),
        len([symbol for symbol, ticks in counts.items() if ticks]),
        sum(row.state == PROVEN for row in rows.values()),
        book_rows,
        depth_files=sum(map(_depth_files, day.parts)),
    )


def _without_ticks(recorded: MarketRoots) -> Iterator[DayInfo]:
    """Days of order books, broker queues or depth files alone, whatever data root they are in."""
    from hk_tick_collector.days.catalog import Day  # noqa: PLC0415

    with_ticks = set(recorded.catalog.days())
    places = [catalog for catalog in recorded.catalog.catalogs if catalog.data_root.is_dir()]
    alone = {catalog: set(catalog.days_without_ticks()) - with_ticks for catalog in places}
    for name in sorted(set[str]().union(*alone.values())):
        days = [
            Day(name, None, catalog.archive_root, recorded.market, catalog.data_root)
            for catalog in places
            if name in alone[catalog]
        ]
        counts = sum(map(_book_rows, days)), sum(map(_depth_files, days))
        yield DayInfo(name, recorded.market.code, "live", UNPROVEN, 0, 0, 0, 0, counts[0], depth_files=counts[1])


def _depth_files(day: Day) -> int:
    """How many are kept beside it, here or in its archive; 0 when their list cannot be read."""
    from hk_tick_collector.store.book_file import STATE_KINDS  # noqa: PLC0415 - as above
    from hk_tick_collector.store.kept import kept_files  # noqa: PLC0415

    of_books = {kind.file_of(Path(), day.trading_day).name for kind in STATE_KINDS}
    try:
        listed = {kept.name for kept in day.manifest.depth} if day.manifest is not None else set()
        here = (
            {kept.name for kept in kept_files(day.data_root, day.trading_day)} if day.data_root is not None else set()
        )
    except (RecorderError, OSError):
        return 0
    return len((listed | here) - of_books)


def _book_rows(day: Day) -> int:
    """Of its order books; 0 where there are none, or they cannot be read: whoever asks for them is told."""
    try:
        return day.books().rows()
    except (RecorderError, OSError):
        return 0


def _where(day: Day) -> str:
    if day.db is None:
        return "archived"
    return "live" if day.manifest is None else "both"
