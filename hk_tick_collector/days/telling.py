"""Which data root tells of a symbol's order books on a day, or of its broker queues: one of them, that which watched it
best (``days.watched.best_watched``), wherever they are read.

::

    for root in telling(day.parts, BOOK_KIND):
        with root.books.opened(root.symbols) as path:
            read(path, symbols=root.symbols)
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

from hk_tick_collector.core.clock import SystemClock
from hk_tick_collector.core.errors import NoData
from hk_tick_collector.days.book_days import BookDay
from hk_tick_collector.days.catalog import Day
from hk_tick_collector.days.watched import SymbolBooks, best_watched, watched_of
from hk_tick_collector.market.calendar import TradingCalendar
from hk_tick_collector.store.book_file import BOOK_KIND, StateKind


class Telling(NamedTuple):
    """A day of one data root, and the symbols of which it tells; None: all that it has."""

    books: BookDay
    symbols: tuple[str, ...] | None

    def of(self, symbols: Sequence[str]) -> list[str] | None:
        """Those of some symbols of which it tells; None when all that it has are meant (``symbols`` is empty)."""
        if self.symbols is None:
            return list(symbols) or None
        return [symbol for symbol in self.symbols if not symbols or symbol in symbols]


def telling(parts: Sequence[Day], kind: StateKind = BOOK_KIND) -> list[Telling]:
    """Of the days that a day is made of, each in one data root, those with books; without any an empty list. What is
    archived is unpacked only where there is a choice. StoreError."""
    days: list[tuple[Day, BookDay]] = []
    for part in parts:
        with suppress(NoData):
            days.append((part, part.books() if kind is BOOK_KIND else part.brokers()))
    if len(days) < 2:
        return [Telling(books, None) for _, books in days]
    best = best_watched([_watched(*day) for day in days])
    chosen = [tuple(sorted(symbol for symbol, root in best.items() if root == place)) for place in range(len(days))]
    return [Telling(books, symbols) for (_, books), symbols in zip(days, chosen, strict=True) if symbols]


def _watched(day: Day, books: BookDay) -> list[SymbolBooks]:
    kind = TradingCalendar(day.market).day_kind(day.trading_day)
    with books.opened() as path:
        return watched_of(path, day.trading_day, day.market, kind, SystemClock().now_ms())
