"""What the recorder noted of a day's order books, or of its broker queues, and the words for it: watched or blind, by
symbol. No state is read.

``quality.books`` adds what the pushes themselves tell. Nothing here, and nothing there, says that books are complete.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from hk_tick_collector.core.facts import CONFLATED
from hk_tick_collector.market.hours import DayKind
from hk_tick_collector.market.market import Market
from hk_tick_collector.store import book_reader
from hk_tick_collector.store.book_reader import Watch

NOT_BEGUN = "not watched yet"
LAST_WORD = "the recorder's last word"
UNTOLD_MS = 5_000  # a recorder that watches says so each second, and may be busy
MAX_LISTED = 100  # stretches of a kind and symbol


class Stretch(NamedTuple):
    """From, to (UTC epoch ms), and why."""

    from_ms: int
    until_ms: int
    reason: str

    @property
    def length_ms(self) -> int:
        return self.until_ms - self.from_ms


@dataclass
class SymbolBooks:
    """One symbol's day. Counts are of continuous trading, but for pushes, merged, same, breaks and the pulls."""

    symbol: str
    watched_ms: int = 0
    wanted_ms: int = 0  # continuous trading so far
    blind: list[Stretch] = field(default_factory=list)
    pushes: int = 0
    merged: int = 0
    same: int = 0
    breaks: int = 0
    one_sided: int = 0  # or empty: normal where nobody trades
    crossed: int = 0
    unsorted: int = 0
    repeated: int = 0
    no_shares: int = 0
    without_times: int = 0  # but for a cached first push
    clock_back: int = 0
    pulls: int = 0
    pulls_agreed: int = 0
    trades: int = 0  # while watched; 0 where the day's ticks are not there
    trades_answered: int = 0
    holes: list[Stretch] = field(default_factory=list)
    watched_until_ms: int | None = None  # UTC epoch ms: the end of its last watch

    @property
    def impossible(self) -> int:
        return self.crossed + self.unsorted + self.repeated + self.no_shares


class BooksBySymbol(dict[str, SymbolBooks]):
    """By symbol, each made when it is first met: a symbol may come between two readings of a file."""

    def __missing__(self, symbol: str) -> SymbolBooks:
        books = self[symbol] = SymbolBooks(symbol)
        return books


class Totals(NamedTuple):
    """Of several symbols' books. What only the pushes tell is None where they were not read."""

    symbols: int
    watched_ms: int
    wanted_ms: int
    blind: int  # stretches
    pulls: int
    pulls_agreed: int
    merged: int | None = None
    impossible: int | None = None
    trades: int | None = None
    trades_answered: int | None = None
    holes: int | None = None
    conflated: bool = False  # by the source, as the file says


def totals_of(symbols: Sequence[SymbolBooks], *, conflated: bool = False) -> Totals:
    """Of symbols whose pushes were read."""

    def summed(name: str) -> int:
        return sum(getattr(books, name) for books in symbols)

    blind, holes = sum(len(books.blind) for books in symbols), sum(len(books.holes) for books in symbols)
    names = ("watched_ms", "wanted_ms", "pulls", "pulls_agreed", "merged", "impossible", "trades", "trades_answered")
    sums = {name: summed(name) for name in names}
    return Totals(len(symbols), blind=blind, holes=holes, conflated=conflated, **sums)


def sentence_of(totals: Totals, noun: str = "order books") -> str:
    """What can be said, without a word that claims more than is known. ``noun``: of what the totals are."""
    if not totals.symbols:
        return f"no {noun}"
    watched = f"watched {share(totals.watched_ms, totals.wanted_ms)} of trading"
    parts = [watched if totals.wanted_ms else "no continuous trading to watch"]
    if totals.conflated:
        parts.append(CONFLATED)
    if totals.blind:
        parts.append(f"{totals.blind:,} blind {'stretch' if totals.blind == 1 else 'stretches'}")
    if totals.merged:
        parts.append(f"{totals.merged:,} pushes merged")
    if totals.impossible is not None:
        parts.append(f"{totals.impossible:,} impossible states")
    if totals.pulls:
        parts.append(f"{totals.pulls_agreed:,} of {totals.pulls:,} pulls agree")
    if totals.trades:
        parts.append(f"{share(totals.trades_answered or 0, totals.trades)} of trades answered")
    if totals.holes:
        parts.append(f"{totals.holes:,} suspected holes")
    return ", ".join(parts)


def watched_of(path: Path, day: str, market: Market, kind: DayKind, now_ms: int) -> list[SymbolBooks]:
    """What the recorder noted of a book file, by symbol: what was watched and what is blind, the pulls. No state is
    read, so what a book shows is not counted."""
    windows = [(start, min(end, now_ms)) for start, end in market.continuous_windows(day, kind) if start < now_ms]
    noted = BooksBySymbol((name, SymbolBooks(name)) for name in book_reader.symbols(path))
    for symbol, (agreed, asked) in book_reader.pulls(path).items():
        noted[symbol].pulls, noted[symbol].pulls_agreed = asked, agreed
    by_symbol: dict[str, list[Watch]] = defaultdict(list)
    for watch in book_reader.watches(path):
        by_symbol[watch.symbol].append(watch)
    for symbol, books in noted.items():
        note_watches(books, by_symbol[symbol], windows, now_ms)
    return [noted[symbol] for symbol in sorted(noted)]


def note_watches(books: SymbolBooks, watches: Sequence[Watch], windows: Sequence[tuple[int, int]], now_ms: int) -> None:
    """What of continuous trading was watched; the rest with its reason. What the recorder has not told of yet, because
    it is about to, is neither."""
    books.watched_until_ms = max((watch.until_ms for watch in watches), default=None)
    for start, end in windows:
        books.wanted_ms += end - start
        at, reason = start, _reason_before(watches, start)
        for watch in watches:
            if watch.until_ms <= at or watch.from_ms >= end:
                continue
            if watch.from_ms > at:
                books.blind.append(Stretch(at, watch.from_ms, reason))
            books.watched_ms += min(watch.until_ms, end) - max(watch.from_ms, at)
            at, reason = min(watch.until_ms, end), watch.reason or LAST_WORD
        if at >= now_ms - UNTOLD_MS and end == now_ms and reason == LAST_WORD:
            books.wanted_ms -= end - at
        elif at < end:
            books.blind.append(Stretch(at, end, reason))
    del books.blind[MAX_LISTED:]


def _reason_before(watches: Sequence[Watch], at_ms: int) -> str:
    ended = [watch for watch in watches if watch.until_ms <= at_ms]
    return (ended[-1].reason or NOT_BEGUN) if ended else NOT_BEGUN


def share(part: float, whole: float) -> str:
    """Never rounded up to all of it."""
    if not whole:
        return "none"
    percent = 100.0 * part / whole
    return "100 %" if part >= whole else f"{min(percent, 99.99):.2f} %"


def best_watched(roots: Sequence[Sequence[SymbolBooks]]) -> dict[str, int]:
    """Which of several data roots tells of a symbol's books, or queues, by its place: the one that was blind for less
    of continuous trading, then the one with fewer blind stretches, then the one listed first.

    One alone tells: a push has no number, so nobody can say which pushes of two recorders are the same one.
    """
    best: dict[str, tuple[int, int, int]] = {}
    for place, symbols in enumerate(roots):
        for books in symbols:
            rank = (books.wanted_ms - books.watched_ms, len(books.blind), place)
            best[books.symbol] = min(best.get(books.symbol, rank), rank)
    return {symbol: place for symbol, (_, _, place) in best.items()}
