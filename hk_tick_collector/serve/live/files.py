"""What the live channel asks of the files, as one process answers it (``worker``). Nothing here waits for a network.

SQLite lets the interpreter go at each row it gives, and a thread gets it back from a busy loop only after a while; so
files are read in processes of their own, and the loop only sends.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from hk_tick_collector.days.book_days import BookDays
from hk_tick_collector.days.catalog import Catalog
from hk_tick_collector.serve.live.choice import Choice, Choices, Wish
from hk_tick_collector.store import reader
from hk_tick_collector.store.book_follow import BookRows
from hk_tick_collector.store.follow import DAYS_LOOK_SEC, Batch, Follower
from hk_tick_collector.store.layout import BOOKS, TICKS, day_file
from hk_tick_collector.store.position import Position, Row

TAIL_ROWS = 1000  # at a time: the loop takes them in one piece
PIECE_ROWS = {TICKS: 2000, BOOKS: 1000}  # some 400 kB: a reader that takes nothing holds two of them
_COVERAGE_KEY = 2  # parts: day, symbol
Facts = dict[tuple[object, ...], dict[str, Any]]


class Root(NamedTuple):
    """A data root, and where its days are put away."""

    path: Path
    archive: Path


class Piece(NamedTuple):
    """Rows that were read for one reader; ``json`` as they are sent."""

    after: Position
    rows: int
    json: bytes
    is_full: bool  # there are more


class Files:
    """Follows data roots and answers, about ticks or books as the position's kind says. ``pause``: waits so many
    seconds; True when nobody asks any more."""

    def __init__(self, days_look_sec: float = DAYS_LOOK_SEC, pause: Callable[[float], bool] | None = None) -> None:
        self._days_look_sec = days_look_sec
        self._pause = pause or _slept
        self._followers: dict[Root, Follower] = {}
        self._books: dict[Root, BookRows] = {}
        self._choices: dict[Root, Choices] = {}
        self._last_choice: Choice | None = None  # kept: the next question is often for the same reader
        self._facts: dict[Root, Facts] = {}

    def tail(self, root: Root, position: Position, look_sec: float, wait_sec: float) -> Batch | None:
        """The next rows, waited for up to ``wait_sec``. Raises as ``Follower.read_behind``."""
        follower, until_sec = self._follower(root, position.kind), time.monotonic() + wait_sec
        while True:
            batch = follower.read_behind(position, TAIL_ROWS)
            if batch is not None or time.monotonic() >= until_sec or self._pause(look_sec):
                return batch

    def piece(self, root: Root, position: Position, wish: Wish) -> Piece | None:
        """The next rows as a reader wants them; None when there are none now. Raises as ``Follower.read_behind``."""
        limit_rows = PIECE_ROWS[position.kind]
        if position.kind == BOOKS:
            found = self._books_of(root).piece(position, limit_rows, wish.symbols)
            if found is None:
                return None
            batch, is_full = found
        else:
            ticks = self._follower(root, TICKS).read_behind(position, limit_rows)
            if ticks is None:
                return None
            batch, is_full = ticks, len(ticks.rows) == limit_rows
        if root not in self._choices:
            self._choices[root] = Choices.of_root(root.path)
        choice = self._last_choice = self._choices[root].of(wish)
        rows = choice.rows(batch.rows)
        return Piece(batch.position, len(rows), choice.json(rows), is_full)

    def check(self, root: Root, position: Position) -> None:
        """Does the position fit? Raises as ``Follower.read_behind``."""
        self._follower(root, position.kind).read_behind(position, 1)

    def end(self, root: Root, kind: str, back_rows: int) -> Position:
        """The position before the newest rows of a kind."""
        return self._follower(root, kind).end(back_rows)

    def books(self, root: Root, position: Position, symbols: frozenset[str] | None) -> list[Row]:
        """The books that are known at a position, a row a symbol."""
        return self._books_of(root).books(position, symbols)

    def passed_over(self, root: Root, position: Position) -> list[str]:
        """Days behind a position that are archived and have no file: nothing of them would be sent."""
        days = BookDays(*root) if position.kind == BOOKS else Catalog(*root)
        return days.passed_over(position.newest_day)

    def facts(self, root: Root, day: str) -> Facts | None:
        """What the file of the day says of completeness, None when that is what it said last."""
        facts = read_facts(day_file(root.path, day), day)
        if facts == self._facts.get(root):
            return None
        self._facts[root] = facts
        return facts

    def close(self) -> None:
        """Close all files."""
        for follower in self._followers.values():
            follower.close()
        for books in self._books.values():
            books.close()
        self._followers.clear()
        self._books.clear()

    def _books_of(self, root: Root) -> BookRows:
        if root not in self._books:
            self._books[root] = BookRows(root.path, days_look_sec=self._days_look_sec, was_end=BookDays(*root).was_end)
        return self._books[root]

    def _follower(self, root: Root, kind: str) -> Follower | BookRows:
        if kind == BOOKS:
            return self._books_of(root)
        if root not in self._followers:
            self._followers[root] = Follower(
                root.path, days_look_sec=self._days_look_sec, was_end=Catalog(*root).was_end
            )
        return self._followers[root]


def _slept(seconds: float) -> bool:
    time.sleep(seconds)
    return False


def read_facts(path: Path, day: str) -> Facts:
    """What a day file says of completeness: of each (day, symbol), and of each gap (day, symbol, start, end)."""
    facts: Facts = {}
    for row in reader.coverage(path):
        facts[day, row.symbol] = {
            "symbol": row.symbol, "state": row.state, "missing_ticks": row.missing_ticks, "reason": row.reason,
        }  # fmt: skip
    for gap in reader.gaps(path):
        facts[day, gap.symbol, gap.gap_start_ts_ms, gap.gap_end_ts_ms] = {
            "symbol": gap.symbol, "start_ms": gap.gap_start_ts_ms, "end_ms": gap.gap_end_ts_ms, "state": gap.state,
            "missing_ticks": gap.missing_ticks, "reason": gap.reason,
        }  # fmt: skip
    return facts


def told_of(facts: Facts) -> list[dict[str, Any]]:
    """As messages, one for each day and kind: at the open nine hundred symbols change in one second."""
    messages: dict[tuple[object, bool], dict[str, Any]] = {}
    for key, fact in facts.items():
        is_gap = len(key) > _COVERAGE_KEY
        empty = (
            {"type": "gap", "day": key[0], "gaps": []} if is_gap else {"type": "coverage", "day": key[0], "symbols": []}
        )
        messages.setdefault((key[0], is_gap), empty)["gaps" if is_gap else "symbols"].append(fact)
    return list(messages.values())
