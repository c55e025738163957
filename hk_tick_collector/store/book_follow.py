"""Following order books: the rows that ``follow.py`` gives of them as states, each once, in the order of coming.

A row says what changed since the row of its symbol before. So whoever goes on in the middle of a file first reads each
symbol's last full row and what came after it: at most a hundred rows a symbol, and none of them is given again.

::

    with BookFollower(root) as follower:
        position = follower.end()                        # or Position.parse(saved, BOOKS.name)
        known = follower.books(position)                 # the book of each symbol there
        while (batch := follower.read_behind(position)) is not None:
            show(batch.states)
            position = batch.position

``BookRows`` gives the same as rows of COLUMNS, for the live channel and the Python client.
"""

from __future__ import annotations

import sqlite3
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from hk_tick_collector.core.errors import StoreBusy, StoreCorrupt
from hk_tick_collector.market.registry import market_of
from hk_tick_collector.records.book import RowKind, StoredRow
from hk_tick_collector.records.book_codec import FULL_EVERY_US, BookDecoder
from hk_tick_collector.store import data_root
from hk_tick_collector.store.book_file import open_for_reading
from hk_tick_collector.store.book_reader import BookState
from hk_tick_collector.store.connect import translate
from hk_tick_collector.store.follow import DAYS_LOOK_SEC, LIMIT_ROWS, Batch, Follower, identity_of
from hk_tick_collector.store.followed import BOOKS
from hk_tick_collector.store.layout import book_file
from hk_tick_collector.store.position import Place, Position, Row
from hk_tick_collector.store.side_file import NothingYet

# Of a row as live readers get it. ``bids``, ``asks``: (price, volume, orders) by level, best first; None at a break
# (kind B), from which the book is not known. ``update_no``: the row's number in its day's file.
COLUMNS = (
    "market", "symbol", "trading_day", "recv_ts_us", "update_no", "kind", "merged", "bid_ts_ms", "ask_ts_ms", "bids",
    "asks",
)  # fmt: skip
KIND, BIDS, ASKS = (1 + COLUMNS.index(name) for name in ("kind", "bids", "asks"))  # in a row, behind its rowid

MAX_KEPT = 8  # places that are read on from without reading back
CLOCK_MARGIN_US = 120_000_000  # a clock that was put back by less hides no change of a book

_LAST_FULL = "SELECT max(rowid) FROM pushes WHERE kind = 'F' AND symbol_id = ? AND rowid <= ?"
_LAST_BREAKS = "SELECT symbol_id, max(rowid) FROM pushes WHERE kind = 'B' AND rowid <= ? GROUP BY symbol_id"
_RECV = "SELECT recv_ts_us FROM pushes WHERE rowid >= ? ORDER BY rowid LIMIT 1"
_STORED = "SELECT rowid, symbol_id, recv_ts_us, bid_lag_ms, ask_lag_ms, kind, merged, payload FROM pushes"


class Known(NamedTuple):
    """The newest state of a symbol, and its row's number in its day's file."""

    day: str  # YYYYMMDD
    update_no: int
    state: BookState


class BookBatch(NamedTuple):
    """States of one day in the order in which they came, and the position behind them.

    ``update_nos``: the number of each one's row in its file. ``is_full``: as many rows were read as were asked for.
    """

    day: str  # YYYYMMDD
    states: list[BookState]  # at least one, unless symbols were named
    position: Position
    update_nos: list[int]
    is_full: bool


class BookFollower:
    """Reads books behind positions, as ``Follower`` does rows, with its promises and errors. MAX_KEPT readers go on
    where they were; another position costs the reading back."""

    def __init__(
        self,
        root: Path,
        *,
        days_look_sec: float = DAYS_LOOK_SEC,
        was_end: Callable[[Place], bool] | None = None,
    ) -> None:
        """``was_end``: as of ``Follower``."""
        self._root = root
        self._follower = Follower(root, kind=BOOKS, days_look_sec=days_look_sec, was_end=was_end)
        self._kept: OrderedDict[tuple[Place, frozenset[str] | None], _Day] = OrderedDict()

    def __enter__(self) -> BookFollower:
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
    ) -> BookBatch | None:
        """The next states behind ``position``, of at most ``limit_rows`` rows and of one day; None when there are none
        now. ``symbols``: of these alone.

        Errors are those of ``Follower.read_behind``; StoreCorrupt, too, for a row that does not fit the one before.
        """
        batch = self._follower.read_behind(position, limit_rows)
        if batch is None:
            return None
        before = next((place for place in position.places if place.day == batch.day), Place(batch.day))
        behind = next(place for place in batch.position.places if place.day == batch.day)
        path = book_file(self._root, batch.day)
        day = self._kept.pop((before, symbols), None) or self._read_back(before, path, behind.file, symbols)
        rows = batch.rows if symbols is None else [row for row in batch.rows if row[1] in symbols]
        states = day.states(rows, path)
        self._keep((behind, symbols), day)
        return BookBatch(batch.day, states, batch.position, [row[0] for row in rows], len(batch.rows) >= limit_rows)

    def books(self, position: Position, symbols: frozenset[str] | None = None) -> dict[str, Known]:
        """The book of each symbol at a position, where it is known. PositionLost when the position does not fit; where
        to go on then ``read_behind`` tells."""
        found: dict[str, Known] = {}
        for place in position.places:
            path = book_file(self._root, place.day)
            self._follower.read_in(place, 1)  # does it fit?
            if not path.exists():
                continue  # it was put away, and ended with the day
            day = self._kept.get((place, symbols)) or self._read_back(place, path, identity_of(path), symbols)
            found.update(day.newest)
            self._keep((place, symbols), day)
        return {symbol: known for symbol, known in found.items() if known.state.book is not None}

    def _keep(self, key: tuple[Place, frozenset[str] | None], day: _Day) -> None:
        self._kept[key] = day
        self._kept.move_to_end(key)
        while len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)

    def _read_back(self, place: Place, path: Path, identity: int, symbols: Collection[str] | None) -> _Day:
        """What the books were at a place. StoreBusy when the file at the path is not the one of that identity."""
        day = _Day(place.day)
        if not place.rowid:
            return day
        try:
            with closing(open_for_reading(path)) as conn:
                day.states(_rows_since_full(conn, place.rowid, symbols), path)
        except sqlite3.Error as exc:
            raise translate(exc, path) from exc
        except NothingYet:
            return day
        if identity_of(path) != identity:
            raise StoreBusy(f"{path} was exchanged while it was read; ask again")
        return day


class _Day:
    """The books of a day file at a place in it."""

    def __init__(self, day: str) -> None:
        self.newest: dict[str, Known] = {}
        self._day = day
        self._decoder = BookDecoder()
        self._numbers: dict[str, int] = {}  # of symbols, for the decoder

    def states(self, rows: Iterable[Row], path: Path) -> list[BookState]:
        """The states after rows, which follow those before."""
        try:
            return [self._state(row) for row in rows]
        except (ValueError, KeyError) as exc:
            raise StoreCorrupt(f"{path} is damaged: {exc}") from exc

    def _state(self, row: Row) -> BookState:
        rowid, symbol, recv_ts_us, bid_lag_ms, ask_lag_ms, kind, merged, payload = row
        number = self._numbers.setdefault(symbol, len(self._numbers))
        recv_ts_ms = recv_ts_us // 1000
        state = BookState(
            symbol,
            recv_ts_us,
            None if bid_lag_ms is None else recv_ts_ms - bid_lag_ms,
            None if ask_lag_ms is None else recv_ts_ms - ask_lag_ms,
            RowKind(kind),
            merged,
            self._decoder.decode(StoredRow(number, recv_ts_us, bid_lag_ms, ask_lag_ms, kind, merged, payload)),
        )
        self.newest[symbol] = Known(self._day, rowid, state)
        return state


class BookRows:
    """``BookFollower`` with rows for states: a rowid, then COLUMNS. Batches are those of ``Follower``, but where
    ``symbols`` are named of these alone, so that one may have no row."""

    def __init__(
        self,
        root: Path,
        *,
        days_look_sec: float = DAYS_LOOK_SEC,
        was_end: Callable[[Place], bool] | None = None,
        symbols: frozenset[str] | None = None,
    ) -> None:
        self._symbols = symbols
        self._follower = BookFollower(root, days_look_sec=days_look_sec, was_end=was_end)
        self._market = market_of(data_root.market_of(root)).code
        self.close, self.end = self._follower.close, self._follower.end

    def read_behind(self, position: Position, limit_rows: int = LIMIT_ROWS) -> Batch | None:
        """As ``Follower.read_behind``."""
        found = self.piece(position, limit_rows, self._symbols)
        return None if found is None else found[0]

    def piece(self, position: Position, limit_rows: int, symbols: frozenset[str] | None) -> tuple[Batch, bool] | None:
        """The same of these symbols, and whether as many rows were read as were asked for."""
        batch = self._follower.read_behind(position, limit_rows, symbols)
        if batch is None:
            return None
        known = zip(batch.update_nos, batch.states, strict=True)
        rows = [self._row(Known(batch.day, number, state)) for number, state in known]
        return Batch(batch.day, rows, batch.position), batch.is_full

    def books(self, position: Position, symbols: frozenset[str] | None = None) -> list[Row]:
        """As ``BookFollower.books``, by symbol."""
        known = self._follower.books(position, self._symbols if symbols is None else symbols)
        return [self._row(known[symbol]) for symbol in sorted(known)]

    def _row(self, known: Known) -> Row:
        state, book = known.state, known.state.book
        return (
            known.update_no, self._market, state.symbol, known.day, state.recv_ts_us, known.update_no,
            state.kind.value, state.merged, state.bid_ts_ms, state.ask_ts_ms,
            None if book is None else book.bids, None if book is None else book.asks,
        )  # fmt: skip


def _rows_since_full(conn: sqlite3.Connection, until: int, symbols: Collection[str] | None) -> list[Row]:
    """Each symbol's last full row up to a rowid and its rows since; its break alone where that is newer.

    A symbol that went still hours ago costs no reading of all that came since: it has no row that is FULL_EVERY_US
    younger than its full one.
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
    lasts = {key: _last_change(conn, first, until) for key, first in firsts.items()}
    moving = {key for key, last in lasts.items() if last == until}
    if moving:
        found = conn.execute(f"{_STORED} WHERE rowid BETWEEN ? AND ?", (min(firsts[key] for key in moving), until))
        rows += [row for row in found if row[1] in moving and row[0] >= firsts[row[1]]]
    for key in lasts.keys() - moving:
        sql = f"{_STORED} WHERE symbol_id = ? AND rowid BETWEEN ? AND ?"
        rows += conn.execute(sql, (key, firsts[key], lasts[key])).fetchall()
    return [(row[0], names[row[1]], *row[2:]) for row in sorted(rows)]


def _last_change(conn: sqlite3.Connection, full: int, until: int) -> int:
    """Behind this row there is none that says what changed since that full row."""
    before_us = conn.execute(_RECV, (full,)).fetchone()[0] + FULL_EVERY_US + CLOCK_MARGIN_US
    low, high = full, until
    while low < high:
        middle = (low + high + 1) // 2
        found = conn.execute(_RECV, (middle,)).fetchone()
        if found is not None and found[0] <= before_us:
            low = middle
        else:
            high = middle - 1
    return low
