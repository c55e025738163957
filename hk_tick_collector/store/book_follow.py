"""Following order books: the rows that ``follow.py`` gives of them as states, each once, in the order of coming.

A row says what changed since the row of its symbol before. So whoever goes on in the middle of a file first reads each
symbol's last full row and what came after it: at most a hundred rows a symbol, and none of them is given again.

::

    with BookFollower(root) as follower:
        position = follower.end()                        # or Position.parse(saved, BOOKS.name)
        while (batch := follower.read_behind(position)) is not None:
            show(batch.states)
            position = batch.position
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from hk_tick_collector.core.errors import StoreBusy, StoreCorrupt
from hk_tick_collector.records.book import RowKind, StoredRow
from hk_tick_collector.records.book_codec import BookDecoder
from hk_tick_collector.store.book_file import open_for_reading
from hk_tick_collector.store.book_reader import BookState
from hk_tick_collector.store.connect import translate
from hk_tick_collector.store.follow import DAYS_LOOK_SEC, LIMIT_ROWS, Batch, Follower, identity_of
from hk_tick_collector.store.followed import BOOKS
from hk_tick_collector.store.layout import book_file
from hk_tick_collector.store.position import MAX_PLACES, Place, Position, Row

_LAST_FULL = "SELECT max(rowid) FROM pushes WHERE kind = 'F' AND symbol_id = ? AND rowid <= ?"


class BookBatch(NamedTuple):
    """States of one day in the order in which they came, and the position behind them."""

    day: str  # YYYYMMDD
    states: list[BookState]  # at least one
    position: Position


class BookFollower:
    """Reads books behind positions, as ``Follower`` does rows, with its promises and errors. Of one reader that goes
    on; another position costs the reading back."""

    def __init__(self, root: Path, *, days_look_sec: float = DAYS_LOOK_SEC) -> None:
        self._root = root
        self._follower = Follower(root, kind=BOOKS, days_look_sec=days_look_sec)
        self._days: dict[str, _Day] = {}

    def __enter__(self) -> BookFollower:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all files."""
        self._follower.close()

    def end(self) -> Position:
        """The position behind all that is committed now."""
        return self._follower.end()

    def read_behind(self, position: Position, limit_rows: int = LIMIT_ROWS) -> BookBatch | None:
        """The next states behind ``position``, at most ``limit_rows`` and of one day; None when there are none now.

        Errors are those of ``Follower.read_behind``; StoreCorrupt, too, for a row that does not fit the one before.
        """
        batch = self._follower.read_behind(position, limit_rows)
        if batch is None:
            return None
        before = next((place for place in position.places if place.day == batch.day), Place(batch.day))
        day = self._days.get(batch.day)
        if day is None or day.place != before:
            day = _Day(before)
            self._read_back(day, batch)
        path = book_file(self._root, batch.day)
        states = day.states(batch.rows, path)
        day.place = next(place for place in batch.position.places if place.day == batch.day)
        self._days[batch.day] = day
        while len(self._days) > MAX_PLACES:
            del self._days[min(self._days)]
        return BookBatch(batch.day, states, batch.position)

    def _read_back(self, day: _Day, batch: Batch) -> None:
        """What the books were at its place. StoreBusy when the file was exchanged since the batch was read."""
        if not day.place.rowid:
            return
        path = book_file(self._root, batch.day)
        with closing(open_for_reading(path)) as conn:
            try:
                day.states(_rows_since_full(conn, day.place.rowid), path)
            except sqlite3.Error as exc:
                raise translate(exc, path) from exc
        read = next(place.file for place in batch.position.places if place.day == batch.day)
        if identity_of(path) != read:
            raise StoreBusy(f"{path} was exchanged while it was read; ask again")


class _Day:
    """The books of a day file at a place in it."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self._decoder = BookDecoder()
        self._numbers: dict[str, int] = {}  # of symbols, for the decoder

    def states(self, rows: Iterable[Row], path: Path) -> list[BookState]:
        """The states after rows, which follow those before."""
        try:
            return [self._state(row) for row in rows]
        except (ValueError, KeyError) as exc:
            raise StoreCorrupt(f"{path} is damaged: {exc}") from exc

    def _state(self, row: Row) -> BookState:
        _, symbol, recv_ts_us, bid_lag_ms, ask_lag_ms, kind, merged, payload = row
        number = self._numbers.setdefault(symbol, len(self._numbers))
        recv_ts_ms = recv_ts_us // 1000
        return BookState(
            symbol,
            recv_ts_us,
            None if bid_lag_ms is None else recv_ts_ms - bid_lag_ms,
            None if ask_lag_ms is None else recv_ts_ms - ask_lag_ms,
            RowKind(kind),
            merged,
            self._decoder.decode(StoredRow(number, recv_ts_us, bid_lag_ms, ask_lag_ms, kind, merged, payload)),
        )


def _rows_since_full(conn: sqlite3.Connection, until_rowid: int) -> list[Row]:
    """Each symbol's last full row up to a rowid, and its rows since."""
    rows: list[Row] = []
    for (number,) in conn.execute("SELECT symbol_id FROM symbols").fetchall():
        (full,) = conn.execute(_LAST_FULL, (number, until_rowid)).fetchone()
        sql = f"SELECT rowid, {BOOKS.select(conn)} FROM pushes WHERE symbol_id = ? AND rowid BETWEEN ? AND ?"  # noqa: S608
        rows += conn.execute(f"{sql} ORDER BY rowid", (number, full or until_rowid, until_rowid)).fetchall()
    return rows
