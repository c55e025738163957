"""What can honestly be said of a day's order books: they were watched, they were witnessed; never that they are whole.

A push of a book has no number, so that a missing one leaves no trace. The report says, symbol by symbol:

- how much of continuous trading was watched, and why the rest is blind (exact: the recorder's own notes),
- that every push that reached the recorder is stored, or counted as passed over (exact: ``received = stored + merged +
  unread`` in every session of the file),
- how many books that were asked for had been pushed just before (sampled),
- what share of the trades of the order book had a push of the book within ``ANSWER_SEC`` (statistical),
- what no book of continuous trading should show, in the ``DEPTH`` best levels: crossed or locked, out of order, a price
  twice, no shares (counted; in an auction a crossed book is normal, and not judged),
- stretches in which trades went on and the book stood still (suspected holes),
- whether the source says that it conflates: of several changes in between only the last one was told,
- pushes without times, with an earlier time than the one before (a replayed cache), the same as the one before.

Nothing here can be repaired: no source keeps a history of books.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from hk_tick_collector.days.book_rows import BREAK, SAME
from hk_tick_collector.days.books import WalkedRows, walk
from hk_tick_collector.days.catalog import Day
from hk_tick_collector.days.watched import (
    MAX_LISTED,
    BooksBySymbol,
    Stretch,
    SymbolBooks,
    note_watches,
    sentence_of,
    totals_of,
)
from hk_tick_collector.market.hours import DayKind
from hk_tick_collector.market.market import Market
from hk_tick_collector.records.tick import PUSH_TYPE_PUSH
from hk_tick_collector.store import book_reader
from hk_tick_collector.store.book_reader import SessionCounts, Watch

DEPTH = 10
ANSWER_SEC = 1.0
HOLE_SEC = 30.0
HOLE_TRADES = 10  # in a stretch that is suspected ...
HOLE_RHYTHM = 20.0  # ... which is so many times longer than the symbol's usual pause
_MATCHED = "AUTO_MATCH"  # a trade that takes from the book

_Ints = npt.NDArray[np.int64]
_Flags = npt.NDArray[np.bool_]
_NO_PUSH = np.zeros(0, np.int64)


@dataclass
class BookReport:
    """A day's."""

    trading_day: str
    sessions: list[SessionCounts]
    symbols: list[SymbolBooks]
    conflated: bool = False  # of several changes the source tells only the last one, as the file says

    @property
    def accounted(self) -> bool:
        """Is every push that reached the recorder stored or counted?"""
        return all(session.adds_up for session in self.sessions)

    @property
    def problems(self) -> int:
        """Of those that a healthy day has none of: 0 is fine."""
        of_symbols = sum(
            len(books.blind)
            + books.impossible
            + len(books.holes)
            + (books.pulls - books.pulls_agreed)
            + books.clock_back
            for books in self.symbols
        )
        return of_symbols + (not self.accounted)

    @property
    def sentence(self) -> str:
        """Without a word that claims more than is known."""
        return sentence_of(totals_of(self.symbols, conflated=self.conflated))


def report_of(
    path: Path, day: str, market: Market, kind: DayKind, now_ms: int, trades: dict[str, _Ints] | None = None
) -> BookReport:
    """Read a book file and judge it. ``trades``: by symbol, when the recorder received trades of the order book (UTC
    epoch ms, sorted), pushed ones alone; None: they are not there. Raises as ``days.books.read`` does."""
    windows = [(start, min(end, now_ms)) for start, end in market.continuous_windows(day, kind) if start < now_ms]
    known = BooksBySymbol((name, SymbolBooks(name)) for name in book_reader.symbols(path))
    pushed = _count(path, known, windows)
    by_symbol: dict[str, list[Watch]] = defaultdict(list)
    for watch in book_reader.watches(path):
        by_symbol[watch.symbol].append(watch)
    for symbol, (agreed, asked) in book_reader.pulls(path).items():
        known[symbol].pulls, known[symbol].pulls_agreed = asked, agreed
    for symbol, books in known.items():
        note_watches(books, by_symbol[symbol], windows, now_ms)
        if trades is not None:
            _hold_against(books, by_symbol[symbol], windows, trades.get(symbol), pushed.get(symbol, _NO_PUSH))
    in_order = [known[symbol] for symbol in sorted(known)]
    return BookReport(day, book_reader.sessions(path), in_order, book_reader.is_conflated(path))


def _count(path: Path, by_symbol: BooksBySymbol, windows: Sequence[tuple[int, int]]) -> dict[str, _Ints]:
    """Everything that a push shows by itself; when each came, by symbol (UTC epoch us)."""
    times: dict[str, list[_Ints]] = defaultdict(list)
    clocks: dict[tuple[int, int], int] = {}
    fresh: set[int] = set()
    for rows in walk(path, depth=DEPTH):
        is_push = rows.chunk.kinds != BREAK
        is_judged = is_push & _within(rows.chunk.recv_ts_us // 1000, windows)
        flags = _impossible(rows, is_judged)
        flags["pushes"] = is_push
        flags["same"] = rows.chunk.kinds == SAME
        flags["breaks"] = ~is_push
        flags["without_times"] = _without_times(rows, is_push, fresh)
        flags["clock_back"] = _clock_back(rows, clocks)
        for key in np.unique(rows.chunk.symbol_ids).tolist():
            of_symbol = rows.chunk.symbol_ids == key
            books = by_symbol[rows.names[key]]
            for name, flag in flags.items():
                setattr(books, name, getattr(books, name) + int(np.count_nonzero(flag & of_symbol)))
            books.merged += int(rows.chunk.merged[of_symbol].sum())
            times[rows.names[key]].append(rows.chunk.recv_ts_us[of_symbol & is_push])
    return {symbol: np.concatenate(parts) for symbol, parts in times.items()}


def _impossible(rows: WalkedRows, is_judged: _Flags) -> dict[str, _Flags]:
    """By the name of the count: which rows show it."""
    sides = []
    flags = {name: np.zeros(len(is_judged), dtype=np.bool_) for name in ("unsorted", "repeated", "no_shares")}
    for side in range(2):
        top, count = rows.walked.top(side), rows.walked.counts[side]
        is_there = np.arange(DEPTH) < count[:, None]
        both = is_there[:, 1:]
        steps = np.diff(top.price, axis=1) * (1 if side else -1)
        flags["unsorted"] |= np.any(both & (steps < 0), axis=1)
        flags["repeated"] |= np.any(both & (steps == 0), axis=1)
        flags["no_shares"] |= np.any(is_there & (top.volume <= 0), axis=1)
        sides.append((top.price[:, 0], count))
    (bid, bids), (ask, asks) = sides
    flags["crossed"] = (bids > 0) & (asks > 0) & (bid >= ask)
    flags["one_sided"] = (bids == 0) | (asks == 0)
    return {name: flag & is_judged for name, flag in flags.items()}


def _without_times(rows: WalkedRows, is_push: _Flags, fresh: set[int]) -> _Flags:
    """Pushes without any time, but for the first of a symbol after a break, which is the cached one. ``fresh``: symbols
    that had their first one; carried on."""
    absent = rows.chunk.bid_ts_ms[1] & rows.chunk.ask_ts_ms[1] & is_push
    for row in np.flatnonzero(absent | ~is_push | _is_new(rows.chunk.symbol_ids, fresh)).tolist():
        key = int(rows.chunk.symbol_ids[row])
        if not is_push[row]:
            fresh.discard(key)
        elif key not in fresh:
            fresh.add(key)
            absent[row] = False
    return absent


def _is_new(symbol_ids: _Ints, known: set[int]) -> _Flags:
    """Rows of symbols that are not known yet."""
    return ~np.isin(symbol_ids, np.fromiter(known, np.int64, len(known)))


def _clock_back(rows: WalkedRows, clocks: dict[tuple[int, int], int]) -> _Flags:
    """Rows in which a side has an earlier time than its symbol had before. ``clocks``: by symbol and side the last
    time; carried on."""
    back = np.zeros(len(rows.chunk.symbol_ids), dtype=np.bool_)
    order = np.argsort(rows.chunk.symbol_ids, kind="stable")
    for side, (times, absent) in enumerate((rows.chunk.bid_ts_ms, rows.chunk.ask_ts_ms)):
        told = order[~absent[order]]
        ids = rows.chunk.symbol_ids[told]
        before = np.concatenate([[0], times[told][:-1]]) if len(told) else times[told]
        firsts = np.flatnonzero(np.diff(ids, prepend=-1)) if len(told) else np.zeros(0, np.int64)
        for first in firsts.tolist():
            before[first] = clocks.get((int(ids[first]), side), 0)
        back[told] |= times[told] < before
        lasts = np.concatenate([firsts[1:], [len(told)]]) - 1 if len(firsts) else firsts
        for last in lasts.tolist():
            clocks[int(ids[last]), side] = int(times[told[last]])
    return back


def _within(times_ms: _Ints, windows: Iterable[tuple[int, int]]) -> _Flags:
    inside = np.zeros(len(times_ms), dtype=np.bool_)
    for start, end in windows:
        inside |= (times_ms >= start) & (times_ms < end)
    return inside


def _hold_against(
    books: SymbolBooks,
    watches: Sequence[Watch],
    windows: Sequence[tuple[int, int]],
    trades_ms: _Ints | None,
    pushed_us: _Ints,
) -> None:
    """Did the book move when the market did?"""
    if trades_ms is None or not len(trades_ms):
        return
    watched = [
        (max(watch.from_ms, start), min(watch.until_ms, end))
        for start, end in windows
        for watch in watches
        if watch.from_ms < end and watch.until_ms > start
    ]
    for start, end in watched:
        trades = trades_ms[(trades_ms >= start) & (trades_ms < end - ANSWER_SEC * 1000)]
        pushes = np.sort(pushed_us[(pushed_us >= start * 1000) & (pushed_us < end * 1000)]) // 1000
        books.trades += len(trades)
        tolerance_ms = round(ANSWER_SEC * 1000)
        first = np.searchsorted(pushes, trades - tolerance_ms)
        last = np.searchsorted(pushes, trades + tolerance_ms, side="right")
        books.trades_answered += int(np.count_nonzero(last > first))
        books.holes += _still(pushes, trades, start, end)
    del books.holes[MAX_LISTED:]


def _still(pushes_ms: _Ints, trades_ms: _Ints, start: int, end: int) -> list[Stretch]:
    """Stretches without a push in which trades went on, much longer than the symbol's usual pause."""
    marks = [start, *pushes_ms.tolist(), end]
    usual_ms = float(np.median(np.diff(pushes_ms))) if len(pushes_ms) > 1 else 0.0
    least_ms = max(HOLE_SEC * 1000, HOLE_RHYTHM * usual_ms)
    stretches = []
    for begin, until in pairwise(marks):
        if until - begin < least_ms:
            continue
        trades = int(np.count_nonzero((trades_ms > begin) & (trades_ms < until)))
        if trades >= HOLE_TRADES:
            stretches.append(Stretch(begin, until, f"{trades:,} trades, and the book stood still"))
    return stretches


def trades_of(day: Day, symbols: Sequence[str]) -> dict[str, _Ints]:
    """When trades of the order book were received, of those that were pushed, for ``report_of``. Raises StoreError."""
    table = day.ticks(symbols, ("symbol", "recv_ts_ms", "tick_type", "push_type"))
    matched = pc.and_(
        pc.equal(pc.cast(table["tick_type"], pa.string()), _MATCHED),
        pc.equal(pc.cast(table["push_type"], pa.string()), PUSH_TYPE_PUSH),
    )
    table = table.filter(matched)
    names = np.array(pc.cast(table["symbol"], pa.string()).to_pylist(), dtype=object)
    times = pc.cast(table["recv_ts_ms"], pa.int64()).to_numpy()
    return {symbol: np.sort(times[names == symbol]) for symbol in symbols}
