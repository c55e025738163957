"""Plays recorded order books back beside the recorded ticks: each push when it was received then.

A stretch in which the recorder was blind begins with an empty book, so that nobody trades on one that is long gone. Of
symbols whose books were not recorded there is none; with ``assumed`` one is made of their prints, as in an invented
market, which proves nothing about what rested there. Broker queues are made of the books, and with ``assumed`` alone.

Limits: every recorded push is decoded as its time comes, also of books that nobody subscribed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from hk_tick_collector.market.dates import DAY_MS
from hk_tick_collector.opend_sim.depth import EMPTY, Depth, Level
from hk_tick_collector.opend_sim.depth_feed import DepthSource, DepthState
from hk_tick_collector.opend_sim.simtick import NEVER_MS, SimTick
from hk_tick_collector.records.book import Book
from hk_tick_collector.store.book_reader import BookState, states, symbols

_MOST_ORDERS = 2**31 - 1  # the wire has no more


class RecordedDepth:
    """Books of the days in ``paths``, in the order of their days. StoreError for a file that cannot be read."""

    plays_along = True

    def __init__(self, paths: Sequence[Path], assumed: DepthSource | None = None) -> None:
        self._recorded = frozenset(symbol for path in paths for symbol in symbols(path))
        self._rows = (row for path in paths for row in states(path))
        self._next: BookState | None = next(self._rows, None)
        self._newest: dict[str, DepthState] = {}
        self._assumed = assumed
        self.has_brokers = assumed is not None

    def has_book(self, symbol: str) -> bool:
        return symbol in self._recorded or self._assumed is not None

    @property
    def next_ms(self) -> int:
        row_ms = self._next.recv_ts_us // 1000 if self._next is not None else NEVER_MS
        return min(row_ms, self._assumed.next_ms) if self._assumed is not None else row_ms

    def step(
        self, ticks: Sequence[SimTick], now_ms: int, wanted: frozenset[str], levels: int, extra: int = 0
    ) -> list[DepthState]:
        played = [state for state in self._play(now_ms) if state.symbol in wanted]
        if self._assumed is not None:
            played += self._assumed.step(ticks, now_ms, wanted - self._recorded, levels, extra)
        return played

    def newest(self, symbol: str, levels: int) -> DepthState:
        if symbol not in self._recorded and self._assumed is not None:
            return self._assumed.newest(symbol, levels)
        return self._newest.get(symbol) or DepthState(symbol, 0, EMPTY, 0, 0)

    def _play(self, now_ms: int) -> Iterator[DepthState]:
        while self._next is not None and self._next.recv_ts_us // 1000 <= now_ms:
            row = self._next
            self._next = next(self._rows, None)
            older = self._newest.get(row.symbol)
            number = older.number + 1 if older is not None else 1
            depth = _depth(row.book) if row.book is not None else EMPTY
            state = DepthState(row.symbol, number, depth, _time_ms(row, row.bid_ts_ms), _time_ms(row, row.ask_ts_ms))
            self._newest[row.symbol] = state
            yield state


def _time_ms(row: BookState, ts_ms: int | None) -> int:
    """A side's time; one that lies a day beside its receiving is a clock's error, and is sent as not known."""
    return ts_ms if ts_ms is not None and abs(ts_ms - row.recv_ts_us // 1000) < DAY_MS else 0


def _depth(book: Book) -> Depth:
    return Depth(tuple(map(_level, book.bids)), tuple(map(_level, book.asks)))


def _level(level: tuple[float, int, int]) -> Level:
    return Level(level[0], level[1], min(level[2], _MOST_ORDERS))
