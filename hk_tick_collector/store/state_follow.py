"""Following pushes of which each is the whole state of a symbol, order books and broker queues: the rows that
``follow.py`` gives of them as states, each once, in the order of coming. ``book_follow.py`` and ``broker_follow.py``
say what a state is.

A row may say no more than what changed since the row of its symbol before. So whoever goes on in the middle of a file
first reads each symbol's last full row and what came after it: at most a hundred rows a symbol, and none of them is
given again.
"""

from __future__ import annotations

import sqlite3
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar, Generic, NamedTuple, Self, TypeVar

from hk_tick_collector.core.errors import StoreBusy, StoreCorrupt
from hk_tick_collector.market.registry import market_of
from hk_tick_collector.records.book import RowKind
from hk_tick_collector.store import data_root
from hk_tick_collector.store.book_file import open_for_reading
from hk_tick_collector.store.book_reader import BookState
from hk_tick_collector.store.broker_reader import QueueState
from hk_tick_collector.store.connect import translate
from hk_tick_collector.store.file_stream import identity_of
from hk_tick_collector.store.follow import DAYS_LOOK_SEC, LIMIT_ROWS, Batch, Follower
from hk_tick_collector.store.followed import Followed
from hk_tick_collector.store.position import Place, Position, Row
from hk_tick_collector.store.side_file import NothingYet

MAX_KEPT = 8  # places that are read on from without reading back
CLOCK_MARGIN_US = 120_000_000  # a clock that was put back by less hides no change of a state

_LAST_FULL = "SELECT max(rowid) FROM pushes WHERE kind = 'F' AND symbol_id = ? AND rowid <= ?"
_LAST_BREAKS = "SELECT symbol_id, max(rowid) FROM pushes WHERE kind = 'B' AND rowid <= ? GROUP BY symbol_id"
_RECV = "SELECT recv_ts_us FROM pushes WHERE rowid >= ? ORDER BY rowid LIMIT 1"
_STORED = "SELECT rowid, symbol_id, recv_ts_us, bid_lag_ms, ask_lag_ms, kind, merged, payload FROM pushes"

S = TypeVar("S", BookState, QueueState)


class Known(NamedTuple, Generic[S]):
    """The newest state of a symbol, and its row's number in its day's file."""

    day: str  # YYYYMMDD
    update_no: int
    state: S


class StateBatch(NamedTuple, Generic[S]):
    """States of one day in the order in which they came, and the position behind them.

    ``update_nos``: the number of each one's row in its file. ``is_full``: as many rows were read as were asked for.
    """

    day: str  # YYYYMMDD
    states: list[S]  # at least one, unless symbols were named
    position: Position
    update_nos: list[int]
    is_full: bool


class StatesOfDay(Generic[S]):
    """The states of a day file at a place in it.

    ``changes_us``: so long behind a full row there may be rows that say what changed since; None: every change is a
    full row. Then a row of the same state again (S) tells nothing but that pushes come, and what is known stays the
    row that told it.
    """

    changes_us: ClassVar[int | None]

    def __init__(self, day: str) -> None:
        self.newest: dict[str, Known[S]] = {}
        self._day = day

    def states(self, rows: Iterable[Row], path: Path) -> list[S]:
        """The states after rows, which follow those before."""
        try:
            return [self._noted(row) for row in rows]
        except (ValueError, KeyError) as exc:
            raise StoreCorrupt(f"{path} is damaged: {exc}") from exc

    def _noted(self, row: Row) -> S:
        state = self.state(row)
        is_told = self.changes_us is None and state.kind is RowKind.SAME and state.symbol in self.newest
        if not is_told:
            self.newest[state.symbol] = Known(self._day, row[0], state)
        return state

    def state(self, row: Row) -> S:
        """The state after a row. ValueError, KeyError for a damaged one."""
        raise NotImplementedError


class StateFollower(Generic[S]):
    """Reads states behind positions, as ``Follower`` does rows, with its promises and errors. MAX_KEPT readers go on
    where they were; another position costs the reading back.

    ``followed``: the kind of record. ``of_day``: what makes states of the rows of a day.
    """

    followed: ClassVar[Followed]
    of_day: ClassVar[type[StatesOfDay[Any]]]  # a class variable knows no S

    def __init__(
        self,
        root: Path,
        *,
        days_look_sec: float = DAYS_LOOK_SEC,
        was_end: Callable[[Place], bool] | None = None,
    ) -> None:
        """``was_end``: as of ``Follower``."""
        self._root = root
        self._follower = Follower(root, kind=self.followed, days_look_sec=days_look_sec, was_end=was_end)
        self._kept: OrderedDict[tuple[Place, frozenset[str] | None], StatesOfDay[S]] = OrderedDict()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all files."""
        self._follower.close()

    def end(self, back_rows: int = 0) -> Position:
        """The position behind all that is committed now, less the last ``back_rows`` of the newest day."""
        return self._follower.end(back_rows)

    def read_behind(
        self, position: Position, limit_rows: int = LIMIT_ROWS, symbols: frozenset[str] | None = None
    ) -> StateBatch[S] | None:
        """The next states behind ``position``, of at most ``limit_rows`` rows and of one day; None when there are none
        now. ``symbols``: of these alone.

        Errors are those of ``Follower.read_behind``; StoreCorrupt, too, for a row that does not fit the one before.
        """
        batch = self._follower.read_behind(position, limit_rows)
        if batch is None:
            return None
        before = next((place for place in position.places if place.day == batch.day), Place(batch.day))
        behind = next(place for place in batch.position.places if place.day == batch.day)
        path = self.followed.file_of(self._root, batch.day)
        day = self._kept.pop((before, symbols), None) or self._read_back(before, path, behind.file, symbols)
        rows = batch.rows if symbols is None else [row for row in batch.rows if row[1] in symbols]
        states = day.states(rows, path)
        self._keep((behind, symbols), day)
        return StateBatch(batch.day, states, batch.position, [row[0] for row in rows], len(batch.rows) >= limit_rows)

    def known(self, position: Position, symbols: frozenset[str] | None = None) -> dict[str, Known[S]]:
        """The state of each symbol at a position, where it is known. PositionLost when the position does not fit; where
        to go on then ``read_behind`` tells."""
        known_of: dict[str, Known[S]] = {}
        for place in position.places:
            path = self.followed.file_of(self._root, place.day)
            self._follower.read_in(place, 1)  # does it fit?
            if not path.exists():
                continue  # it was put away, and ended with the day
            day = self._kept.get((place, symbols)) or self._read_back(place, path, identity_of(path), symbols)
            known_of.update(day.newest)
            self._keep((place, symbols), day)
        return {symbol: known for symbol, known in known_of.items() if known.state.is_known}

    def _keep(self, key: tuple[Place, frozenset[str] | None], day: StatesOfDay[S]) -> None:
        self._kept[key] = day
        self._kept.move_to_end(key)
        while len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)

    def _read_back(self, place: Place, path: Path, identity: int, symbols: Collection[str] | None) -> StatesOfDay[S]:
        """What the states were at a place. StoreBusy when the file at the path is not the one of that identity."""
        day: StatesOfDay[S] = self.of_day(place.day)
        if not place.rowid:
            return day
        try:
            with closing(open_for_reading(path)) as conn:
                day.states(_rows_since_full(conn, place.rowid, symbols, day.changes_us), path)
        except sqlite3.Error as exc:
            raise translate(exc, path) from exc
        except NothingYet:
            return day
        if identity_of(path) != identity:
            raise StoreBusy(f"{path} was exchanged while it was read; ask again")
        return day


class StateRows(Generic[S]):
    """``StateFollower`` with rows for states: a rowid, then the COLUMNS of the kind. Batches are those of ``Follower``,
    but where ``symbols`` are named of these alone, so that one may have no row."""

    follower: ClassVar[type[StateFollower[Any]]]  # a class variable knows no S

    def __init__(
        self,
        root: Path,
        *,
        days_look_sec: float = DAYS_LOOK_SEC,
        was_end: Callable[[Place], bool] | None = None,
        symbols: frozenset[str] | None = None,
    ) -> None:
        self._root, self._symbols = root, symbols
        self._follower: StateFollower[S] = self.follower(root, days_look_sec=days_look_sec, was_end=was_end)
        self._market = market_of(data_root.market_of(root)).code
        self.close, self.end = self._follower.close, self._follower.end

    def read_behind(self, position: Position, limit_rows: int = LIMIT_ROWS) -> Batch | None:
        """As ``Follower.read_behind``."""
        piece = self.piece(position, limit_rows, self._symbols)
        return None if piece is None else piece[0]

    def piece(self, position: Position, limit_rows: int, symbols: frozenset[str] | None) -> tuple[Batch, bool] | None:
        """The same of these symbols, and whether as many rows were read as were asked for."""
        batch = self._follower.read_behind(position, limit_rows, symbols)
        if batch is None:
            return None
        known = zip(batch.update_nos, batch.states, strict=True)
        rows = self._rows([Known(batch.day, number, state) for number, state in known])
        return Batch(batch.day, rows, batch.position), batch.is_full

    def known(self, position: Position, symbols: frozenset[str] | None = None) -> list[Row]:
        """As ``StateFollower.known``, by symbol."""
        known = self._follower.known(position, self._symbols if symbols is None else symbols)
        return self._rows([known[symbol] for symbol in sorted(known)])

    def _rows(self, known: Sequence[Known[S]]) -> list[Row]:
        raise NotImplementedError


def _rows_since_full(
    conn: sqlite3.Connection, until: int, symbols: Collection[str] | None, changes_us: int | None
) -> list[Row]:
    """Each symbol's last full row up to a rowid and its rows since; its break alone where that is newer.

    A symbol that went still hours ago costs no reading of all that came since: it has no change that is ``changes_us``
    younger than its full row.
    """
    names = {
        int(key): str(name)
        for key, name in conn.execute("SELECT symbol_id, symbol FROM symbols").fetchall()
        if symbols is None or name in symbols
    }
    firsts: dict[int, int] = {}
    rows: list[Row] = []
    breaks = dict(conn.execute(_LAST_BREAKS, (until,)).fetchall())
    for key in names:
        full, broke = conn.execute(_LAST_FULL, (key, until)).fetchone()[0] or 0, breaks.get(key, 0)
        if full > broke:
            firsts[key] = full
        elif broke:
            rows += conn.execute(f"{_STORED} WHERE rowid = ?", (broke,)).fetchall()
    lasts = {key: _last_change(conn, first, until, changes_us) for key, first in firsts.items()}
    moving = {key for key, last in lasts.items() if last == until}
    if moving:
        stored = conn.execute(f"{_STORED} WHERE rowid BETWEEN ? AND ?", (min(firsts[key] for key in moving), until))
        rows += [row for row in stored if row[1] in moving and row[0] >= firsts[row[1]]]
    for key in lasts.keys() - moving:
        sql = f"{_STORED} WHERE symbol_id = ? AND rowid BETWEEN ? AND ?"
        rows += conn.execute(sql, (key, firsts[key], lasts[key])).fetchall()
    return [(row[0], names[row[1]], *row[2:]) for row in sorted(rows)]


def _last_change(conn: sqlite3.Connection, full: int, until: int, changes_us: int | None) -> int:
    """Behind this row there is none that says what changed since that full row."""
    if changes_us is None:
        return full
    before_us = conn.execute(_RECV, (full,)).fetchone()[0] + changes_us + CLOCK_MARGIN_US
    low, high = full, until
    while low < high:
        middle = (low + high + 1) // 2
        recv_row = conn.execute(_RECV, (middle,)).fetchone()
        if recv_row is not None and recv_row[0] <= before_us:
            low = middle
        else:
            high = middle - 1
    return low
