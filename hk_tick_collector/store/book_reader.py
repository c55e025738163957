"""Reading a book file without Arrow: its rows, the book of one symbol at one time, what was watched, the counters.

``days.books`` reads whole days as Arrow. Both see what was committed, also while the recorder writes.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from hk_tick_collector.core.errors import StoreCorrupt
from hk_tick_collector.records.book import Book, RowKind, StoredRow
from hk_tick_collector.records.book_codec import BookDecoder
from hk_tick_collector.store.book_file import reading
from hk_tick_collector.store.connect import translate

_COLUMNS = "symbol_id, recv_ts_us, bid_lag_ms, ask_lag_ms, kind, merged, payload"


class Watch(NamedTuple):
    """A stretch in which a symbol's pushes would have reached us: UTC epoch ms, the end not included."""

    symbol: str
    from_ms: int
    until_ms: int
    reason: str | None  # why it ended; None while it lasts


class SessionCounts(NamedTuple):
    """What became of the pushes that a run of the recorder received. ``adds_up`` is the promise."""

    began_ms: int
    alive_ms: int
    ended: bool
    received: int
    stored: int
    merged: int
    unread: int

    @property
    def adds_up(self) -> bool:
        return self.received == self.stored + self.merged + self.unread


class BookState(NamedTuple):
    """A book as the recorder knew it at a row, and when it came. Times UTC; None where OpenD does not say."""

    symbol: str
    recv_ts_us: int
    bid_ts_ms: int | None
    ask_ts_ms: int | None
    kind: RowKind
    merged: int
    book: Book | None  # None at a break


def symbols(path: Path) -> dict[str, int]:
    """The symbols of a file with their numbers in it, by name. Raises as ``open_for_reading`` does."""
    with reading(path) as conn:
        return {str(name): int(key) for name, key in conn.execute("SELECT symbol, symbol_id FROM symbols ORDER BY 1")}


def states(path: Path, wanted: Sequence[str] | None = None) -> Iterator[BookState]:
    """Every row's state, in the order in which they came; of ``wanted`` symbols alone when they are given.

    StoreCorrupt for a row that does not fit the one before.
    """
    names = {key: name for name, key in symbols(path).items() if wanted is None or name in wanted}
    if not names:
        return
    only = "" if wanted is None else f"WHERE symbol_id IN ({', '.join(str(key) for key in names)})"
    decoder = BookDecoder()
    with reading(path) as conn:
        sql = f"SELECT {_COLUMNS} FROM pushes {only} ORDER BY rowid"  # noqa: S608 - numbers of ours
        yield from _decoded(conn, path, sql, (), names, decoder)


def book_at(path: Path, symbol: str, at_us: int) -> BookState | None:
    """The newest state of a symbol that had been received at a time; a break when the book was not known then, None
    when nothing of it had come before."""
    key = symbols(path).get(symbol)
    if key is None:
        return None
    newest: BookState | None = None
    with reading(path) as conn:
        first = conn.execute(
            "SELECT max(rowid) FROM (SELECT rowid FROM pushes WHERE kind = 'F' AND symbol_id = ? AND recv_ts_us <= ? "
            "ORDER BY recv_ts_us DESC LIMIT 1)",
            (key, at_us),
        ).fetchone()[0]
        if first is None:
            return None
        sql = f"SELECT {_COLUMNS} FROM pushes WHERE rowid >= ? AND symbol_id = ? ORDER BY rowid"  # noqa: S608
        for state in _decoded(conn, path, sql, (first, key), {key: symbol}, BookDecoder()):
            if state.recv_ts_us > at_us:
                break
            newest = state
    return newest


def newest_book(path: Path, symbol: str) -> BookState | None:
    """The symbol's newest book, whether or not it is still known; None when nothing of it came."""
    key = symbols(path).get(symbol)
    sql = "SELECT rowid FROM pushes WHERE symbol_id = ? AND kind <> 'B' ORDER BY rowid DESC LIMIT 1"
    full = "SELECT max(rowid) FROM pushes WHERE kind = 'F' AND symbol_id = ? AND rowid <= ?"
    with reading(path) as conn:
        found = None if key is None else conn.execute(sql, (key,)).fetchone()
        if key is None or found is None:
            return None
        first = conn.execute(full, (key, found[0])).fetchone()[0] or 0
        rows = f"SELECT {_COLUMNS} FROM pushes WHERE rowid BETWEEN ? AND ? AND symbol_id = ? ORDER BY rowid"  # noqa: S608
        return deque(_decoded(conn, path, rows, (first, found[0], key), {key: symbol}, BookDecoder()), 1).pop()


def watches(path: Path) -> list[Watch]:
    """What was watched, by symbol and time. A watch that nobody ended lasts until its recorder's last commit."""
    sql = (
        "SELECT s.symbol, w.from_ms, coalesce(w.until_ms, n.alive_ms), w.reason FROM watches w "
        "JOIN symbols s USING (symbol_id) JOIN sessions n USING (session_id) ORDER BY s.symbol, w.from_ms"
    )
    with reading(path) as conn:
        return [Watch(*row) for row in conn.execute(sql)]


def sessions(path: Path) -> list[SessionCounts]:
    """The recorder's runs in this file, oldest first."""
    sql = "SELECT began_ms, alive_ms, ended, received, stored, merged, unread FROM sessions ORDER BY session_id"
    with reading(path) as conn:
        return [SessionCounts(row[0], row[1], bool(row[2]), *row[3:]) for row in conn.execute(sql)]


def pulls(path: Path) -> dict[str, tuple[int, int]]:
    """Books that were asked for: how many agreed with the newest push, of how many, by symbol."""
    sql = "SELECT s.symbol, sum(p.agrees), count(*) FROM pulls p JOIN symbols s USING (symbol_id) GROUP BY 1 ORDER BY 1"
    with reading(path) as conn:
        return {str(symbol): (int(agreed), int(asked)) for symbol, agreed, asked in conn.execute(sql)}


class PushCounts(NamedTuple):
    """A symbol's rows. Times of receipt, UTC epoch us."""

    pushes: int
    merged: int
    first_us: int
    last_us: int


def counts(path: Path, until_no: int | None = None) -> dict[str, PushCounts]:
    """What was pushed, by symbol, up to a row: breaks are none. Reads every row, a second for some ten million."""
    sql = (
        "SELECT s.symbol, sum(p.kind <> 'B'), sum(p.merged), min(p.recv_ts_us), max(p.recv_ts_us) FROM pushes p "
        "JOIN symbols s USING (symbol_id) WHERE p.rowid <= ? GROUP BY p.symbol_id ORDER BY 1"
    )
    with reading(path) as conn:
        try:
            rows = conn.execute(sql, (until_no if until_no is not None else (1 << 62),)).fetchall()
        except sqlite3.Error as exc:
            raise translate(exc, path) from exc
    return {str(symbol): PushCounts(*map(int, values)) for symbol, *values in rows}


def _decoded(
    conn: sqlite3.Connection,
    path: Path,
    sql: str,
    values: Sequence[int],
    names: dict[int, str],
    decoder: BookDecoder,
) -> Iterator[BookState]:
    try:
        for values_of_row in conn.execute(sql, values):
            row = StoredRow(*values_of_row)
            recv_ts_ms = row.recv_ts_us // 1000
            yield BookState(
                names[row.symbol_id],
                row.recv_ts_us,
                None if row.bid_lag_ms is None else recv_ts_ms - row.bid_lag_ms,
                None if row.ask_lag_ms is None else recv_ts_ms - row.ask_lag_ms,
                RowKind(row.kind),
                row.merged,
                decoder.decode(row),
            )
    except (ValueError, KeyError) as exc:
        raise StoreCorrupt(f"{path} is damaged: {exc}") from exc
    except sqlite3.Error as exc:
        raise translate(exc, path) from exc
