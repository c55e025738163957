"""Kinds of record as ``hk.live`` gives them: what a row is, and what tells one from another."""

from __future__ import annotations

from array import array
from typing import Any

from hk_tick_collector.store import book_follow, broker_follow, snapshot_follow
from hk_tick_collector.store.position import ROW

COLUMNS, BOOK_COLUMNS, BROKER_COLUMNS = ROW[1:], book_follow.COLUMNS, broker_follow.COLUMNS
SNAPSHOT_COLUMNS = snapshot_follow.COLUMNS
TICK, BOOK, BROKER, SNAPSHOT = "tick", "book", "broker", "snapshot"
COLUMNS_OF = {TICK: COLUMNS, BOOK: BOOK_COLUMNS, BROKER: BROKER_COLUMNS, SNAPSHOT: SNAPSHOT_COLUMNS}
_MARKET = COLUMNS.index("market")
assert {columns.index("symbol") for columns in COLUMNS_OF.values()} == {COLUMNS.index("symbol")}
assert {columns.index("market") for columns in COLUMNS_OF.values()} == {_MARKET}
MAX_SEEN_ROWS = 20_000_000  # of a day, eight bytes each
# What tells one row from another, with a sequence and without: as the unique indexes of store/schema.sql.
_KEY = tuple(
    COLUMNS.index(name)
    for name in ("trading_day", "symbol", "seq", "ts_ms", "price", "volume", "turnover", "occurrence")
)
# Of books and queues: a push has no number, so all of it; an equal push of the same microsecond is the same one.
_BOOK_KEY = tuple(
    BOOK_COLUMNS.index(name)
    for name in ("trading_day", "symbol", "recv_ts_us", "kind", "bid_ts_ms", "ask_ts_ms", "bids", "asks")
)
_BROKER_KEY = tuple(
    BROKER_COLUMNS.index(name) for name in ("trading_day", "symbol", "recv_ts_us", "kind", "bids", "asks")
)

# Of snapshots: the series, the second and what it says.
_SNAPSHOT_KEY = tuple(
    SNAPSHOT_COLUMNS.index(name) for name in ("trading_day", "symbol", "package", "category", "ts_sec", "body")
)
_KEYS = {TICK: _KEY, BOOK: _BOOK_KEY, BROKER: _BROKER_KEY, SNAPSHOT: _SNAPSHOT_KEY}


class Seen:
    """What rows were given, so that none is given twice when a file is read again.

    Rows come again only behind ``read_again``; until then a row is eight bytes that nobody looks at. A day with more
    than MAX_SEEN_ROWS forgets its oldest: those would come twice.
    """

    def __init__(self, max_rows: int = MAX_SEEN_ROWS, kind: str = TICK) -> None:
        self._max_rows = max_rows
        self._key = _KEYS[kind]
        self._marks: dict[tuple[str, str], array[int]] = {}  # by market and day, in the order given
        self._days_again: set[str] = set()
        self._again: dict[tuple[str, str], set[int]] = {}  # what was given of days that come again

    def read_again(self, day: str) -> None:
        """From here on rows of this day may be such as were given."""
        self._days_again.add(day)

    def new(self, rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        """Those of ``rows`` that were not given yet; they are now."""
        fresh = []
        for row in rows:
            key = tuple(row[column] for column in self._key)
            day, mark = (str(row[_MARKET]), str(key[0])), hash(key)
            if day[1] in self._days_again:
                again = self._again.get(day)
                if again is None:
                    again = self._again[day] = set(self._marks.get(day, ()))
                if mark in again:
                    continue
                again.add(mark)
            self._note(day, mark)
            fresh.append(row)
        return fresh

    def _note(self, day: tuple[str, str], mark: int) -> None:
        marks = self._marks.get(day)
        if marks is None:
            marks = self._marks[day] = array("q")
            of_market = sorted(known for known in self._marks if known[0] == day[0])
            for left in of_market[:-2]:  # two days are followed at most
                del self._marks[left]
                self._again.pop(left, None)
        marks.append(mark)
        if len(marks) > self._max_rows:
            del marks[: self._max_rows // 10 + 1]


def cut(row: tuple[Any, ...], depth: int | None) -> tuple[Any, ...]:
    """A row of a book without the levels below; of a queue, all of it with None. Its sides come last."""
    return (*row[:-2], *(side if side is None else tuple(map(tuple, side[:depth])) for side in row[-2:]))
