"""Do two ways give a trade the same number? What only the file can tell, where who hands rows over could not read it.

The feed compares pushes with answers (``sources.numbering``, whose rule this is). After a start at which a day file
could not be read it does not know what was pushed before, and an answer's rows may be those pushes under other numbers.
Likewise of *strays*, ticks that another day counted and that are dated this one: the feed notes what it found in the
file of the day that counted them.

Limit: the one of ``sources.numbering``, and of strays it is wider: numbers as near as those of twins tell nothing here,
since the rest of their count is in another file. Both are stored, and the day is unproven.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

from hk_tick_collector.core.facts import DATED_OTHERWISE, PUSH_PULL_DISAGREE, STRAYS_DISAGREE, reasons_of
from hk_tick_collector.market.market import Market
from hk_tick_collector.records.tick import PUSH_TYPE_PUSH, Tick, same_moment, seq_counter, seq_epoch_sec
from hk_tick_collector.records.views import by_content

NEAR_NUMBERS = 1000  # the numbers of twins, of which a source shows one and not yet the other, are no further apart
_NO_TIME_SEC = 1 << 31  # what is above it in a sequence is no second
_OF_SECOND = (
    "SELECT seq, ts_ms, price, volume, turnover FROM ticks INDEXED BY uniq_ticks_symbol_seq "
    "WHERE symbol = ? AND seq BETWEEN ? AND ? AND (push_type = ?) IS NOT ?"
)


class Names:
    """Of which symbols of a day file a sequence names a trade, and of which content alone does."""

    def __init__(self, day: str, market: Market) -> None:
        self._day = day
        self._market = market
        self._unkeyed: set[str] = set()  # two ways number each for itself
        # Whose rows who hands them over could not read, and has not seen pushes and answers agree of since.
        self._unread: set[str] = set()
        self._strayed: set[str] = set()  # that have strays
        self._unkeyed_strays: set[str] = set()  # whose strays two ways number each for itself

    def note(self, symbol: str, distrust: str | None) -> None:
        """What the file says against the symbol's counters."""
        reasons = reasons_of(distrust)
        if PUSH_PULL_DISAGREE in reasons:
            self._unkeyed.add(symbol)
            self._unread.discard(symbol)
        if DATED_OTHERWISE in reasons:
            self._strayed.add(symbol)
        if STRAYS_DISAGREE in reasons:
            self._strayed.add(symbol)
            self._unkeyed_strays.add(symbol)

    def note_unread(self, symbol: str) -> None:
        """Who hands over its rows does not know what is stored of it."""
        if symbol not in self._unkeyed:
            self._unread.add(symbol)

    def note_read(self, symbol: str) -> None:
        """Who hands over its rows has seen pushes and answers agree."""
        self._unread.discard(symbol)

    def doubts(self, conn: sqlite3.Connection, rows: Sequence[Tick]) -> list[tuple[str, str]]:
        """What these rows of a batch say, held against what is stored: symbols, and the reason to be noted of each."""
        if not self._unread and not self._strayed:
            return []
        by_symbol: dict[str, list[Tick]] = {}
        for row in rows:
            by_symbol.setdefault(row.symbol, []).append(row)
        disagreeing = [
            (symbol, PUSH_PULL_DISAGREE)
            for symbol in self._unread.intersection(by_symbol)
            if numbered_otherwise(conn, symbol, by_symbol[symbol])
        ]
        return disagreeing + [
            (symbol, STRAYS_DISAGREE)
            for symbol in (self._strayed - self._unkeyed_strays).intersection(by_symbol)
            if numbered_otherwise(conn, symbol, filter(self._is_stray, by_symbol[symbol]))
        ]

    def without_numbers(self, rows: Sequence[Tick]) -> set[str]:
        """Of these rows, the symbols that are told apart by content alone."""
        return self._unkeyed.intersection(row.symbol for row in rows) if self._unkeyed else set()

    def told_apart(self, rows: Sequence[Tick]) -> Sequence[Tick]:
        """The rows of a batch, without the sequences that name no trade."""
        if self._unkeyed:
            rows = by_content(rows, self._unkeyed)
        if self._unkeyed_strays:
            strays = [row for row in rows if row.symbol in self._unkeyed_strays and self._is_stray(row)]
            if strays:
                are_strays = set(map(id, strays))
                others = [row for row in rows if id(row) not in are_strays]
                rows = [*others, *by_content(strays, self._unkeyed_strays)]
        return rows

    def _is_stray(self, row: Tick) -> bool:
        """Did another day count it?"""
        second = seq_epoch_sec(row.seq or 0)
        return 0 < second < _NO_TIME_SEC and self._market.trading_day(second * 1000) != self._day


class _Stored(NamedTuple):
    seq: int
    ts_ms: int
    price: float
    volume: int
    turnover: float


class _Told:
    """Rows of one second, told together: found by number, and by what they look like, each at once. A burst has
    thousands in a second, and is held against as many stored ones."""

    def __init__(self, rows: Iterable[Tick]) -> None:
        self._seqs: set[int] = set()
        self._alike: dict[tuple[object, ...], list[Tick]] = {}
        for row in rows:
            self._seqs.add(row.seq or 0)
            self._alike.setdefault(_content(row), []).append(row)

    def otherwise(self, stored: _Stored) -> list[int]:
        """Under which numbers do they hold the stored trade, or one that looks like it, where they lack its own?"""
        if stored.seq in self._seqs:
            return []
        alike = self._alike.get(_content(stored), ())
        return [row.seq or 0 for row in alike if same_moment(row.ts_ms, stored.ts_ms)]


def numbered_otherwise(conn: sqlite3.Connection, symbol: str, rows: Iterable[Tick]) -> bool:
    """Is one of these trades of ``symbol`` stored as the other way told it, under another number than it has here?

    Costs a look at the rows of each second that is told.
    """
    views: dict[tuple[bool, int], list[Tick]] = {}  # an answer each, and what was pushed together
    for row in rows:
        if row.seq is not None:
            views.setdefault((row.push_type == PUSH_TYPE_PUSH, row.recv_ts_ms), []).append(row)
    return any(_is_told_otherwise(conn, symbol, told, is_push) for (is_push, _), told in views.items())


def _is_told_otherwise(conn: sqlite3.Connection, symbol: str, told: Sequence[Tick], is_push: bool) -> bool:
    seconds: dict[int, list[Tick]] = {}
    for row in told:
        seconds.setdefault(seq_epoch_sec(row.seq or 0), []).append(row)
    # Of the seconds that an answer begins and ends with it need not show all. It comes in the order of arrival, where
    # a tick of an earlier second may follow later ones: it begins with its first row, not with its smallest number.
    began, ended = seq_epoch_sec(told[0].seq or 0), seq_epoch_sec(told[-1].seq or 0)
    taken = () if is_push else _counters_in_order(told)
    for second, rows in seconds.items():
        first_seq = second << 32
        values = (symbol, first_seq, first_seq | 0xFFFF_FFFF, PUSH_TYPE_PUSH, is_push)
        is_inside = not is_push and began < second < ended
        of_second = _Told(rows)
        stored = [_Stored(*row) for row in conn.execute(_OF_SECOND, values)]
        if any(_is_one_of(trade, of_second, is_inside=is_inside, taken=taken) for trade in stored):
            return True
    return False


def _counters_in_order(told: Sequence[Tick]) -> Collection[int]:
    """The counters of an answer, in which they rise; none of one in which they do not.

    Where they rise, a trade whose counter another one has there would stand between that one and its own second,
    whatever the numbers count: so the answer shows it.
    """
    counters = [seq_counter(row.seq or 0) for row in told]
    return set(counters) if all(earlier < later for earlier, later in pairwise(counters)) else ()


def _is_one_of(stored: _Stored, told: _Told, *, is_inside: bool, taken: Collection[int]) -> bool:
    """Is the trade among these rows of its second, under another number than its own? ``is_inside``: they are all of
    that second; ``taken``: the counters of their answer."""
    seqs = told.otherwise(stored)
    if not seqs:
        return False
    is_shown = is_inside or seq_counter(stored.seq) in taken
    return is_shown or all(abs(seq - stored.seq) > NEAR_NUMBERS for seq in seqs)


def _content(trade: Tick | _Stored) -> tuple[object, ...]:
    return trade.price, trade.volume, trade.turnover
