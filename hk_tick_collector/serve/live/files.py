"""What the live channel asks of the files, as one process answers it (``worker``). Nothing here waits for a network.

SQLite lets the interpreter go at each row it gives, and a thread gets it back from a busy loop only after a while; so
files are read in processes of their own, and the loop only sends.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from hk_tick_collector.archive.snapshots import SnapshotDays
from hk_tick_collector.core.errors import StoreError
from hk_tick_collector.days.book_days import BookDays
from hk_tick_collector.days.catalog import Catalog
from hk_tick_collector.days.joined_follow import JoinedBatch, JoinedFollower
from hk_tick_collector.market.registry import market_of
from hk_tick_collector.serve.live.choice import Choice, Choices, Wish
from hk_tick_collector.serve.live.facts import Facts, facts_of
from hk_tick_collector.store import data_root, reader
from hk_tick_collector.store.book_file import BROKER_KIND
from hk_tick_collector.store.book_follow import BookRows
from hk_tick_collector.store.broker_follow import QueueRows
from hk_tick_collector.store.follow import DAYS_LOOK_SEC, Batch, Follower
from hk_tick_collector.store.layout import BOOKS, BROKERS, SNAPSHOTS, TICKS, day_file
from hk_tick_collector.store.position import JoinedPosition, Position, Row, Stand
from hk_tick_collector.store.snapshot_follow import SnapshotRows

TAIL_ROWS = 1000  # at a time: the loop takes them in one piece
# Some 400 kB: a reader that takes nothing holds two of them.
PIECE_ROWS = {TICKS: 2000, BOOKS: 1000, BROKERS: 150, SNAPSHOTS: 200}
_Days = Catalog | BookDays | SnapshotDays
_DAYS: dict[str, Callable[[Path, Path], _Days]] = {
    TICKS: Catalog, BOOKS: BookDays, BROKERS: partial(BookDays, kind=BROKER_KIND), SNAPSHOTS: SnapshotDays,
}  # fmt: skip
_RowsOfKind = BookRows | QueueRows | SnapshotRows
_ROWS: dict[str, type[_RowsOfKind]] = {BOOKS: BookRows, BROKERS: QueueRows, SNAPSHOTS: SnapshotRows}


class Root(NamedTuple):
    """A data root, and where its days are put away."""

    path: Path
    archive: Path


class Follows(Protocol):
    """What reads behind positions: ``Follower``, ``JoinedFollower``, ``BookRows`` ..., each of positions of its own::

    batch = follower.read_behind(follower.end(), 1000)
    """

    def read_behind(self, position: Any, limit_rows: int) -> Batch | JoinedBatch | None: ...

    def end(self, back_rows: int) -> Stand: ...

    def close(self) -> None: ...


class Roots(NamedTuple):
    """Data roots that are followed as one, all of one market; ``numbers``: their places in DATA_ROOTS."""

    of: tuple[Root, ...]
    numbers: tuple[int, ...] = (0,)

    @property
    def first(self) -> Root:
        """The one listed first."""
        return self.of[0]


class Piece(NamedTuple):
    """Rows that were read for one reader; ``json`` as they are sent, ``told`` what is said before them."""

    after: Stand
    rows: int
    json: bytes
    is_full: bool  # there are more
    told: tuple[dict[str, Any], ...] = ()


_Asked = tuple[Roots, Stand, Wish]


class Files:
    """Follows data roots and answers, about the kind of record that the position names. ``pause``: waits so many
    seconds; True when nobody asks any more."""

    def __init__(
        self,
        days_look_sec: float = DAYS_LOOK_SEC,
        pause: Callable[[float], bool] | None = None,
        piece_rows: Mapping[str, int] = PIECE_ROWS,
    ) -> None:
        self._days_look_sec, self._piece_rows = days_look_sec, piece_rows
        self._pause = pause or _slept
        self._followers: dict[Roots, Follows] = {}
        self._beside: dict[tuple[Root, str], _RowsOfKind] = {}  # of kinds that have files beside those of ticks
        self._choices: dict[Root, Choices] = {}
        self._last_choice: Choice | None = None  # kept: the next question is often for the same reader
        self._facts: dict[Roots, Facts] = {}
        self._following: _Asked | None = None  # what is most likely asked for next
        self._ready: tuple[_Asked, Piece] | None = None

    def tail(self, roots: Roots, position: Stand, look_sec: float, wait_sec: float) -> Batch | JoinedBatch | None:
        """The next rows, waited for up to ``wait_sec``. Raises as ``Follower.read_behind``."""
        follower, until_sec = self._follower(roots, position.kind), time.monotonic() + wait_sec
        while True:
            batch = follower.read_behind(position, TAIL_ROWS)
            if batch is not None or time.monotonic() >= until_sec or self._pause(look_sec):
                return batch

    def piece(self, roots: Roots, position: Stand, wish: Wish) -> Piece | None:
        """The next rows as a reader wants them; None when there are none now. Raises as ``Follower.read_behind``."""
        asked, ready, self._ready = (roots, position, wish), self._ready, None
        piece = ready[1] if ready is not None and ready[0] == asked else self._read(*asked)
        self._following = (roots, piece.after, wish) if piece is not None and piece.is_full else None
        return piece

    def read_ahead(self) -> None:
        """Between two questions: the piece that follows the last one, so that nothing waits while that one travels.

        A full piece is kept, since nothing can be added to it. Anything else is found out again when it is asked for.
        Of one data root alone: what several say of each other is told at the reading that meets it.
        """
        following, self._following = self._following, None
        if following is not None and len(following[0].of) == 1:
            with contextlib.suppress(StoreError, OSError):
                piece = self._read(*following)
                self._ready = (following, piece) if piece is not None and piece.is_full else None

    def _read(self, roots: Roots, position: Stand, wish: Wish) -> Piece | None:
        read = self._next(roots, position, wish)
        if read is None:
            return None
        batch, is_full = read
        if roots.first not in self._choices:
            self._choices[roots.first] = Choices.of_root(roots.first.path)
        choice = self._last_choice = self._choices[roots.first].of(wish)
        rows = choice.rows(batch.rows)
        told = batch.told if isinstance(batch, JoinedBatch) else ()
        return Piece(batch.position, len(rows), choice.json(rows), is_full, told)

    def _next(self, roots: Roots, position: Stand, wish: Wish) -> tuple[Batch | JoinedBatch, bool] | None:
        limit_rows = self._piece_rows[position.kind]
        if isinstance(position, Position) and position.kind != TICKS:
            return self._rows_of(roots.first, position.kind).piece(position, limit_rows, wish.symbols)
        batch = self._follower(roots, TICKS).read_behind(position, limit_rows)
        if batch is None:
            return None
        return batch, batch.is_full if isinstance(batch, JoinedBatch) else len(batch.rows) == limit_rows

    def check(self, roots: Roots, position: Stand) -> None:
        """Does the position fit? Raises as ``Follower.read_behind``."""
        self._follower(roots, position.kind).read_behind(position, 1)

    def end(self, roots: Roots, kind: str, back_rows: int) -> Stand:
        """The position before the newest rows of a kind."""
        return self._follower(roots, kind).end(back_rows)

    def known(self, roots: Roots, position: Position, symbols: frozenset[str] | None) -> list[Row]:
        """The states that are known at a position, a row a symbol."""
        states = self._rows_of(roots.first, position.kind)
        assert not isinstance(states, SnapshotRows)
        return states.known(position, symbols)

    def passed_over(self, roots: Roots, position: Stand) -> list[str]:
        """Days behind a position that are archived and have no file: nothing of them would be sent."""
        passed: set[str] = set()
        parts = position.of if isinstance(position, JoinedPosition) else (position,)
        for root, part in zip(roots.of, parts, strict=True):
            passed.update(_DAYS[position.kind](*root).passed_over(part.newest_day))
        return sorted(passed)

    def facts(self, roots: Roots, day: str) -> Facts | None:
        """What the files of the day say of completeness, None when that is what they said last."""
        noted = []
        for root in roots.of:
            with contextlib.suppress(*(() if len(roots.of) == 1 else (StoreError, FileNotFoundError))):
                path = day_file(root.path, day)
                noted.append(reader.Notes(reader.coverage(path), reader.gaps(path)))
        follower = self._followers.get(roots)
        apart = follower.contradicting(day) if isinstance(follower, JoinedFollower) else ()
        facts = facts_of(day, noted, apart)
        if facts == self._facts.get(roots):
            return None
        self._facts[roots] = facts
        return facts

    def close(self) -> None:
        """Close all files."""
        for follower in self._followers.values():
            follower.close()
        for rows in self._beside.values():
            rows.close()
        self._followers.clear()
        self._beside.clear()

    def _rows_of(self, root: Root, kind: str) -> _RowsOfKind:
        if (root, kind) not in self._beside:
            was_end = _DAYS[kind](*root).was_end
            self._beside[root, kind] = _ROWS[kind](root.path, days_look_sec=self._days_look_sec, was_end=was_end)
        return self._beside[root, kind]

    def _follower(self, roots: Roots, kind: str) -> Follows:
        if kind != TICKS:
            return self._rows_of(roots.first, kind)
        if roots not in self._followers:
            of = [
                Follower(root.path, days_look_sec=self._days_look_sec, was_end=Catalog(*root).was_end)
                for root in roots.of
            ]
            market = market_of(data_root.market_of(roots.first.path))
            self._followers[roots] = of[0] if len(of) == 1 else JoinedFollower(of, market, numbers=roots.numbers)
        return self._followers[roots]


def _slept(seconds: float) -> bool:
    time.sleep(seconds)
    return False
