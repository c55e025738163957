"""Order books of local files, for ``client.local`` and the server: which days and symbols, how well watched, the rows.

A day's books are one file, live or archived (``days.book_days``); rows come as ``days.books`` gives them, day by day,
and within one in the order in which pushes were received. Of several data roots one tells of a symbol: the
one that watched it best (``days.watched.best_watched``), and the coverage says so. What is received after the question
was asked is left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from hk_tick_collector.client.beside import Plan, plan_of, with_places
from hk_tick_collector.client.coverage import SymbolCoverage
from hk_tick_collector.client.plan import MarketRoots
from hk_tick_collector.client.question import BROKERS, BookQuestion
from hk_tick_collector.core.errors import NoData as NothingThere
from hk_tick_collector.core.text import days_there
from hk_tick_collector.days.book_days import BookDay, BookDays
from hk_tick_collector.days.books import Form, Part, newest_no, read, schema_of
from hk_tick_collector.days.brokers import SCHEMA as BROKER_SCHEMA
from hk_tick_collector.days.brokers import read as read_brokers
from hk_tick_collector.days.catalog import Day
from hk_tick_collector.days.union import UnionCatalog
from hk_tick_collector.days.watched import SymbolBooks, best_watched, watched_of
from hk_tick_collector.market.market import Market
from hk_tick_collector.quality.book_certificate import reason_of
from hk_tick_collector.quality.model import BLIND, WATCHED
from hk_tick_collector.store.book_reader import PushCounts, counts

_HINT = "BOOK_SYMBOLS chooses whose order books are recorded"
_BROKER_HINT = "BOOK_BROKERS=1 records broker queues of the stocks in BOOK_SYMBOLS"


class BookPlaces(UnionCatalog):
    """The days with order books of one market in several data roots."""

    noun = "order books"

    def days(self) -> list[str]:
        """All of them, oldest first."""
        return sorted({day for books in self.books for day in books.days()})

    def day(self, trading_day: str) -> Day:
        """The day, of which there may be no tick. NoData when there are none of it."""
        days = self.days()
        if trading_day not in days:
            raise NothingThere(f"none are recorded of {trading_day}; {days_there(days)}")
        return Day(trading_day, None, self.archive_root, self.market, self.data_root)

    @property
    def books(self) -> list[BookDays]:
        """By data root."""
        return [catalog.book_days for catalog in self.catalogs]

    def each_book_day(self, trading_day: str) -> Iterator[BookDay]:
        """The day's books in each data root that has some."""
        for books in self.books:
            if len(self.catalogs) == 1 or trading_day in books.days():
                yield books.day(trading_day)


class BrokerPlaces(BookPlaces):
    """Those with broker queues."""

    noun = "broker queues"

    @property
    def books(self) -> list[BookDays]:
        """By data root."""
        return [catalog.broker_days for catalog in self.catalogs]


@dataclass(frozen=True)
class BookRead:
    """A part of a day's books. ``symbols``: whose there are, in order; ``coverage``: of those asked for; ``chosen``:
    the symbols that other data roots have, too."""

    day: BookDay
    market: Market
    symbols: tuple[str, ...]
    coverage: list[SymbolCoverage]
    part: Part
    chosen: tuple[str, ...] = ()

    @property
    def trading_day(self) -> str:
        """YYYYMMDD."""
        return self.day.trading_day

    @property
    def is_empty(self) -> bool:
        """Is nothing of what was asked for in it?"""
        return not self.symbols

    def only(self, symbols: Sequence[str]) -> BookRead:
        """The part of these symbols."""
        kept = [row for row in self.coverage if row.symbol in symbols]
        mine, chosen = (tuple(name for name in names if name in symbols) for names in (self.symbols, self.chosen))
        return replace(self, symbols=mine, coverage=kept, chosen=chosen)

    def batches(self, question: BookQuestion, part: Part | None = None) -> Iterator[pa.RecordBatch]:
        """Its rows; none is empty. ``part``: instead of its own."""
        if self.symbols:
            with self.day.opened(self.symbols) as path:
                rows = self._rows(path, question, self.part if part is None else part)
                yield from (batch for batch in rows if batch.num_rows)

    def _rows(self, path: Path, question: BookQuestion, part: Part) -> Iterator[pa.RecordBatch]:
        if question.form == BROKERS:
            return read_brokers(path, self.symbols, part)
        return read(path, Form(question.form), self.symbols, question.depth, part)


BookPlan = Plan[BookRead]


def plan_of_books(markets: Sequence[MarketRoots], question: BookQuestion) -> BookPlan:
    """What a question means here. Raises as ``beside.plan_of``."""
    places, hint = (BrokerPlaces, _BROKER_HINT) if question.form == BROKERS else (BookPlaces, _HINT)
    return plan_of(with_places(markets, places), question.stretch, _reads_of, places.noun, hint)


def batches_of(plan: BookPlan, question: BookQuestion) -> Iterator[pa.RecordBatch]:
    """The rows, day by day."""
    for day_read in plan.reads:
        yield from day_read.batches(question)


def schema_of_question(question: BookQuestion) -> pa.Schema:
    """The columns of ``batches_of``."""
    if question.form == BROKERS:
        return BROKER_SCHEMA
    return schema_of(Form(question.form), question.depth)


class _Look(NamedTuple):
    """What a data root says of a day."""

    day: BookDay
    until_no: int
    watched: list[SymbolBooks]
    pushed: dict[str, PushCounts]


def _reads_of(
    recorded: MarketRoots, name: str, symbols: tuple[str, ...] | None, start_ms: int | None, end_ms: int | None
) -> list[BookRead]:
    assert isinstance(recorded.catalog, BookPlaces)
    looks = [_look_at(day, recorded, symbols) for day in recorded.catalog.each_book_day(name)]
    best = best_watched([look.watched for look in looks])
    roots = Counter(books.symbol for look in looks for books in look.watched)
    reads = []
    for place, look in enumerate(looks):
        mine = [books for books in look.watched if best[books.symbol] == place]
        rows = [_coverage_of(name, books, look.pushed.get(books.symbol), roots[books.symbol]) for books in mine]
        part = Part(0, look.until_no, *(None if ms is None else ms * 1000 for ms in (start_ms, end_ms)))
        told = tuple(books.symbol for books in mine)
        chosen = tuple(symbol for symbol in told if roots[symbol] > 1)
        reads.append(BookRead(look.day, recorded.market, told, rows, part, chosen))
    return reads


def _look_at(day: BookDay, recorded: MarketRoots, symbols: tuple[str, ...] | None) -> _Look:
    with day.opened(symbols) as path:
        until_no = newest_no(path)
        pushed = counts(path, until_no)
        kind = recorded.calendar.day_kind(day.trading_day)
        watched = watched_of(path, day.trading_day, recorded.market, kind, recorded.now_ms)
    return _Look(day, until_no, [books for books in watched if symbols is None or books.symbol in symbols], pushed)


def _coverage_of(day: str, books: SymbolBooks, pushed: PushCounts | None, roots: int) -> SymbolCoverage:
    """What can be said of a symbol's books: watched, or blind and why; and that other data roots have them, too."""
    reasons = [reason_of(books), f"of {roots} data roots the one that watched it best" if roots > 1 else None]
    return SymbolCoverage(
        day, books.symbol, BLIND if books.blind else WATCHED, "; ".join(filter(None, reasons)) or None,
        pushed.pushes if pushed else 0, pushed.merged if pushed else 0, None, None,
        pushed.first_us // 1000 if pushed else None, pushed.last_us // 1000 if pushed else None,
        books.watched_until_ms,
    )  # fmt: skip
