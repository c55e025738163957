"""The stored rows that one symbol's doubtful ticks may be: read a stretch of seconds at a time, kept in step.

Used inside one write transaction. Rows of one second with equal content (price, volume, turnover, direction, type) are
``Equals``. A row is *keyed* when it has a sequence or the mark of one, else *loose*.

Limit: a row whose sequence names another second of the day, more than SEQ_SECOND_SLACK away from its time, is not
found. Sequences that name no moment of the day at all (small numbers) are, at a cost of O(such rows) a stretch.
"""

from __future__ import annotations

import sqlite3
from bisect import bisect_left, bisect_right, insort
from collections.abc import Container, Iterable, Iterator
from itertools import count
from typing import Any, NamedTuple

from hk_tick_collector.market.market import Market
from hk_tick_collector.market.registry import DEFAULT_MARKET
from hk_tick_collector.records.tick import SEQ_COUNTER_BITS, WITNESS_TOLERANCE_MS, same_moment

SEQ_SECOND_SLACK = WITNESS_TOLERANCE_MS // 1000
STRETCH_SEC = 10  # seconds nearer to each other than this are read together
# Equal numbers under one mark or number, but of another direction or type: the unique index of the file does not hold
# those, so every further kind takes a value so many steps away. No sequence of the same day lies there.
MARK_BITS = 50
NUMBER_STEP = 1_000_000

_NEWEST_SEQ = (1 << 63) - 1  # sequences of this form end in January 2038
_FIELDS = (
    "SELECT rowid, ts_ms, seq, occurrence, price, volume, turnover, direction, tick_type FROM ticks WHERE symbol = ?1"
)
_AT = "AND ts_ms BETWEEN ?2 AND ?3"
_STRETCH = (
    f"{_FIELDS} AND seq IS NULL {_AT} UNION ALL {_FIELDS} AND seq >= ?4 AND seq < ?5 {_AT} "
    f"UNION ALL {_FIELDS} AND seq < ?6 {_AT} UNION ALL {_FIELDS} AND seq >= ?7 {_AT}"
)

Numbers = tuple[Any, Any, Any]  # price, volume, turnover
Kind = tuple[Any, Any]  # direction, type


def mark_of(seq: int) -> int:
    """What all marks of one sequence have in common."""
    return seq & ((1 << MARK_BITS) - 1)


class Stored(NamedTuple):
    """A stored row, as far as it matters here."""

    rowid: int
    ts_ms: int
    seq: int | None
    occurrence: int

    @property
    def mark(self) -> int | None:
        """Of its sequence; None when it is loose."""
        if self.seq is not None:
            return mark_of(self.seq)
        return mark_of(~self.occurrence) if self.occurrence < 0 else None


class Equals:
    """Stored trades of one second that look alike."""

    __slots__ = ("_keyed", "_keyed_at", "_loose_at", "_numbers", "rows")

    def __init__(self) -> None:
        self.rows = 0
        self._loose_at: dict[int, dict[int, Stored]] = {}  # by time and rowid
        self._keyed_at: dict[int, dict[int, Stored]] = {}
        self._keyed: dict[int, dict[int, Stored]] = {}  # by mark and rowid
        self._numbers: dict[int, list[int]] = {}  # of the loose ones, by time, in order

    def add(self, row: Stored) -> None:
        """Note a row."""
        self.rows += 1
        if row.mark is None:
            self._loose_at.setdefault(row.ts_ms, {})[row.rowid] = row
            insort(self._numbers.setdefault(row.ts_ms, []), row.occurrence % NUMBER_STEP)
        else:
            self._keyed_at.setdefault(row.ts_ms, {})[row.rowid] = row
            self._keyed.setdefault(row.mark, {})[row.rowid] = row

    def remove(self, row: Stored) -> None:
        """Forget a row, as it was noted."""
        self.rows -= 1
        if row.mark is None:
            _drop(self._loose_at, row.ts_ms, row.rowid)
            self._numbers[row.ts_ms].remove(row.occurrence % NUMBER_STEP)
        else:
            _drop(self._keyed_at, row.ts_ms, row.rowid)
            _drop(self._keyed, row.mark, row.rowid)

    def count_at(self, ts_ms: int) -> int:
        """How many have exactly this time."""
        return len(self._loose_at.get(ts_ms, ())) + len(self._keyed_at.get(ts_ms, ()))

    def is_numbered(self, ts_ms: int, number: int) -> bool:
        """Has a loose one of exactly this time this number?"""
        numbers = self._numbers.get(ts_ms, [])
        place = bisect_left(numbers, number)
        return place < len(numbers) and numbers[place] == number

    def numbered_above(self, ts_ms: int, number: int) -> int:
        """How many loose ones of exactly this time have a higher number: they came after the one with this number."""
        numbers = self._numbers.get(ts_ms, [])
        return len(numbers) - bisect_right(numbers, number)

    def first_at(self, ts_ms: int) -> Stored | None:
        """One that has exactly this time, best a loose one."""
        return _first(self._loose_at, ts_ms) or _first(self._keyed_at, ts_ms)

    def first(self, ts_ms: int) -> Stored | None:
        """One that may be of this moment, best one of exactly this time, then a loose one."""
        return self.first_at(ts_ms) or self.loose(ts_ms) or _nearest(self._keyed_at, ts_ms)

    def loose(self, ts_ms: int) -> Stored | None:
        """A loose one that may be of this moment, best one of exactly this time."""
        return _nearest(self._loose_at, ts_ms)

    def keyed(self, mark: int, ts_ms: int, any_moment: bool = False) -> Stored | None:
        """The one with this mark that may be of this moment, or of any in this second."""
        rows = self._keyed.get(mark, {}).values()
        return next((row for row in rows if any_moment or same_moment(row.ts_ms, ts_ms)), None)


_Side = dict[int, dict[int, Stored]]


def _first(side: _Side, key: int) -> Stored | None:
    return next(iter(side[key].values())) if key in side else None


def _nearest(side: _Side, ts_ms: int) -> Stored | None:
    whole_ms = ts_ms - ts_ms % 1000
    if ts_ms == whole_ms and ts_ms not in side and side:
        return _first(side, min(side))
    return _first(side, ts_ms) or _first(side, whole_ms)


def _drop(side: _Side, key: int, rowid: int) -> None:
    rows = side[key]
    del rows[rowid]
    if not rows:
        del side[key]


class Neighbours:
    """One symbol's rows around the seconds given, as they are stored now, but for those with the rowids ``hidden``.
    ``market`` says which seconds are of the day."""

    def __init__(
        self,
        conn: sqlite3.Connection,
        symbol: str,
        seconds: Iterable[int],
        hidden: Container[int] = (),
        market: Market = DEFAULT_MARKET,
    ) -> None:
        self._market = market
        self._conn = conn
        self._symbol = symbol
        self._hidden = hidden
        self._stretches = list(stretches(seconds))
        self._known: set[tuple[int, int]] = set()  # stretches that were read
        self._equals: dict[tuple[int, Numbers, Kind], Equals] = {}
        self._taken: dict[tuple[int, Numbers], set[int]] = {}  # occurrences without a sequence, by time and numbers

    def equals(self, ts_ms: int, numbers: Numbers, kind: Kind) -> Equals:
        """The rows that look like this tick, in its second."""
        second = ts_ms // 1000
        place = bisect_right(self._stretches, second, key=lambda stretch: stretch[0]) - 1
        stretch = self._stretches[place]
        if stretch not in self._known:
            self._known.add(stretch)
            self._read(*stretch)
        return self._equals_of(second, numbers, kind)

    def add(self, row: Stored, numbers: Numbers, kind: Kind) -> None:
        """Note a row that was stored, or as it is now."""
        if row.rowid not in self._hidden:
            self._equals_of(row.ts_ms // 1000, numbers, kind).add(row)
        if row.seq is None:
            self._taken.setdefault((row.ts_ms, numbers), set()).add(row.occurrence)

    def remove(self, row: Stored, numbers: Numbers, kind: Kind) -> None:
        """Forget a row as it was."""
        self._equals_of(row.ts_ms // 1000, numbers, kind).remove(row)
        if row.seq is None:
            self._taken[row.ts_ms, numbers].discard(row.occurrence)

    def forget(self) -> None:
        """Rows were changed behind this: read them again."""
        self._known.clear()
        self._equals.clear()
        self._taken.clear()

    def free_number(self, ts_ms: int, numbers: Numbers, number: int) -> int:
        """The ``occurrence`` for a loose row that has this number among its equals."""
        taken = self._taken.get((ts_ms, numbers), set())
        return next(n for n in count(number, NUMBER_STEP) if n not in taken)

    def free_mark(self, ts_ms: int, numbers: Numbers, seq: int) -> int:
        """The ``occurrence`` for a row whose sequence another tick has. ValueError when there is none any more."""
        taken = self._taken.get((ts_ms, numbers), set())
        for step in range(1 << (63 - MARK_BITS)):
            mark = ~(seq ^ (step << MARK_BITS))
            if mark not in taken:
                return mark
        raise ValueError(
            f"sequence {seq} of {self._symbol} has {len(taken)} ticks that differ in direction or type only"
        )

    def _equals_of(self, second: int, numbers: Numbers, kind: Kind) -> Equals:
        key = (second, numbers, kind)
        equals = self._equals.get(key)
        if equals is None:
            equals = self._equals[key] = Equals()
        return equals

    def _read(self, first: int, last: int) -> None:
        for rowid, ts_ms, seq, occurrence, price, volume, turnover, *kind in rows_in(
            self._conn, self._symbol, first, last, self._market
        ):
            self.add(Stored(rowid, ts_ms, seq, occurrence), (price, volume, turnover), (kind[0], kind[1]))


def rows_in(conn: sqlite3.Connection, symbol: str, first: int, last: int, market: Market) -> Iterator[tuple[Any, ...]]:
    """A symbol's rows from one second to another: rowid, ``ts_ms``, ``seq``, ``occurrence``, ``price``, ``volume``,
    ``turnover``, ``direction``, ``tick_type``."""
    day_start_ms, day_end_ms = market.day_bounds(market.trading_day(first * 1000))
    ends = (
        first - SEQ_SECOND_SLACK,
        last + SEQ_SECOND_SLACK + 1,
        day_start_ms // 1000 - SEQ_SECOND_SLACK,
        max(day_end_ms // 1000, last + 1) + SEQ_SECOND_SLACK,
    )
    seqs = [min(second << SEQ_COUNTER_BITS, _NEWEST_SEQ) for second in ends]
    yield from conn.execute(_STRETCH, (symbol, first * 1000, last * 1000 + 999, *seqs))


def stretches(seconds: Iterable[int]) -> Iterator[tuple[int, int]]:
    """First and last second of each run of them that is read together, in order."""
    first: int | None = None
    last = 0
    for second in sorted(set(seconds)):
        if first is not None and second - last > STRETCH_SEC:
            yield first, last
            first = None
        if first is None:
            first = second
        last = second
    if first is not None:
        yield first, last
