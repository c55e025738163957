"""Reading a file of whole states without Arrow, of order books or of broker queues: its rows, the state of one symbol
at one time, what was watched, the counters.

``days.books`` reads whole days as Arrow. Both see what was committed, also while the recorder writes.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from hk_tick_collector.core.errors import StoreCorrupt
from hk_tick_collector.records.book import Book, RowKind, StoredRow
from hk_tick_collector.records.book_codec import BookDecoder
from hk_tick_collector.store import book_file
from hk_tick_collector.store.book_file import reading
from hk_tick_collector.store.connect import translate

T = TypeVar("T")

SAMPLES, SAMPLE_ROWS = 64, 1024
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


class NamedRow(NamedTuple):
    """A row, and whose it is."""

    symbol: str
    row: StoredRow


class BookState(NamedTuple):
    """A book as the recorder knew it at a row, and when it came. Times UTC; None where the source does not say."""

    symbol: str
    recv_ts_us: int
    bid_ts_ms: int | None
    ask_ts_ms: int | None
    kind: RowKind
    merged: int
    book: Book | None  # None at a break

    @property
    def is_known(self) -> bool:
        """Is there a book?"""
        return self.book is not None


def symbols(path: Path) -> dict[str, int]:
    """The symbols of a file with their numbers in it, by name. Raises as ``open_for_reading`` does."""
    with reading(path) as conn:
        return {str(name): int(key) for name, key in conn.execute("SELECT symbol, symbol_id FROM symbols ORDER BY 1")}


def is_conflated(path: Path) -> bool:
    """Does the file say that its source tells of several changes only the last one? False: it does not say."""
    with reading(path) as conn:
        return book_file.is_conflated(conn)


def states(path: Path, wanted: Sequence[str] | None = None) -> Iterator[BookState]:
    """Every row's state, in the order in which they came; of ``wanted`` symbols alone when they are given.

    StoreCorrupt for a row that does not fit the one before.
    """
    yield from _decoded(path, rows(path, wanted))


def book_at(path: Path, symbol: str, at_us: int) -> BookState | None:
    """The newest state of a symbol that had been received at a time; a break when the book was not known then, None
    when nothing of it had come before."""
    return last_of(_decoded(path, rows_until(path, symbol, at_us)))


def newest_book(path: Path, symbol: str) -> BookState | None:
    """The symbol's newest book, whether or not it is still known; None when nothing of it came."""
    return last_of(_decoded(path, newest_rows(path, symbol)))


def rows(path: Path, wanted: Sequence[str] | None = None) -> Iterator[NamedRow]:
    """Every row, in the order in which they came; of ``wanted`` symbols alone when they are given."""
    names = {key: name for name, key in symbols(path).items() if wanted is None or name in wanted}
    if names:
        only = "" if wanted is None else f"WHERE symbol_id IN ({', '.join(str(key) for key in names)})"
        sql = f"SELECT {_COLUMNS} FROM pushes {only} ORDER BY rowid"  # noqa: S608 - numbers of ours
        with reading(path) as conn:
            yield from _named(conn, path, sql, (), names)


def rows_until(path: Path, symbol: str, at_us: int) -> Iterator[NamedRow]:
    """The rows that make a symbol's state at a time: from the whole one before it on. None when nothing had come."""
    key = symbols(path).get(symbol)
    if key is None:
        return
    with reading(path) as conn:
        first = conn.execute(
            "SELECT max(rowid) FROM (SELECT rowid FROM pushes WHERE kind = 'F' AND symbol_id = ? AND recv_ts_us <= ? "
            "ORDER BY recv_ts_us DESC LIMIT 1)",
            (key, at_us),
        ).fetchone()[0]
        if first is None:
            return
        sql = f"SELECT {_COLUMNS} FROM pushes WHERE rowid >= ? AND symbol_id = ? ORDER BY rowid"  # noqa: S608
        for named in _named(conn, path, sql, (first, key), {key: symbol}):
            if named.row.recv_ts_us > at_us:
                return
            yield named


def newest_rows(path: Path, symbol: str) -> Iterator[NamedRow]:
    """The rows that make a symbol's newest state, a break behind it left out. None when nothing came."""
    key = symbols(path).get(symbol)
    newest = "SELECT rowid FROM pushes WHERE symbol_id = ? AND kind <> 'B' ORDER BY rowid DESC LIMIT 1"
    full = "SELECT max(rowid) FROM pushes WHERE kind = 'F' AND symbol_id = ? AND rowid <= ?"
    if key is None:
        return
    with reading(path) as conn:
        newest_row = conn.execute(newest, (key,)).fetchone()
        if newest_row is None:
            return
        first = conn.execute(full, (key, newest_row[0])).fetchone()[0] or 0
        sql = f"SELECT {_COLUMNS} FROM pushes WHERE rowid BETWEEN ? AND ? AND symbol_id = ? ORDER BY rowid"  # noqa: S608
        yield from _named(conn, path, sql, (first, newest_row[0], key), {key: symbol})


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
    """What was pushed, by symbol, up to a row: breaks are none. Reads and sorts every row."""
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


def sampled_shares(path: Path) -> dict[str, float]:
    """About what part of the rows is of each symbol, by a look at ``SAMPLES`` places of the file; in the order of the
    file's numbers for them. A small file is counted whole. Raises as ``counts``."""
    sql = "SELECT symbol_id, count(*) FROM pushes WHERE rowid > ? AND rowid <= ? GROUP BY +symbol_id"
    with reading(path) as conn:
        try:
            names = dict(conn.execute("SELECT symbol_id, symbol FROM symbols ORDER BY 1"))
            high = conn.execute("SELECT max(rowid) FROM pushes").fetchone()[0] or 0
            rows = dict.fromkeys(names, 0)
            step = max(high // SAMPLES, SAMPLE_ROWS)
            for first in range(0, high, step):
                for key, more in conn.execute(sql, (first, first + SAMPLE_ROWS)):
                    rows[key] = rows.get(key, 0) + more
        except sqlite3.Error as exc:
            raise translate(exc, path) from exc
    whole = sum(rows.values()) or 1
    return {str(names[key]): count / whole for key, count in rows.items() if key in names}


def last_of(items: Iterable[T]) -> T | None:
    """The last one; None when there is none."""
    newest = None
    for newest in items:  # noqa: B007 - the last one is wanted
        pass
    return newest


def decoding(path: Path, decode: Callable[[StoredRow], T], row: StoredRow) -> T:
    """A row's state. StoreCorrupt for a row that does not fit the one before."""
    try:
        return decode(row)
    except (ValueError, KeyError) as exc:
        raise StoreCorrupt(f"{path} is damaged: {exc}") from exc


def _named(
    conn: sqlite3.Connection, path: Path, sql: str, values: Sequence[int], names: dict[int, str]
) -> Iterator[NamedRow]:
    try:
        for values_of_row in conn.execute(sql, values):
            row = StoredRow(*values_of_row)
            if row.symbol_id not in names:
                raise StoreCorrupt(f"{path} is damaged: a row of the symbol {row.symbol_id}, which it does not name")
            yield NamedRow(names[row.symbol_id], row)
    except sqlite3.Error as exc:
        raise translate(exc, path) from exc


def _decoded(path: Path, named_rows: Iterable[NamedRow]) -> Iterator[BookState]:
    decoder = BookDecoder()
    for symbol, row in named_rows:
        recv_ts_ms = row.recv_ts_us // 1000
        yield BookState(
            symbol,
            row.recv_ts_us,
            None if row.bid_lag_ms is None else recv_ts_ms - row.bid_lag_ms,
            None if row.ask_lag_ms is None else recv_ts_ms - row.ask_lag_ms,
            decoding(path, lambda stored: RowKind(stored.kind), row),
            row.merged,
            decoding(path, decoder.decode, row),
        )
