"""The ticks that a day file holds, for tests: in steps, so that a writer or a reader may do something between two."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from hk_tick_collector.records.tick import Tick
from hk_tick_collector.store.connect import translate
from hk_tick_collector.store.read_only import open_read_only, select_list

CHUNK_ROWS = 5000
MIN_SEQ = -(1 << 63)


def iter_ticks(db: Path, symbol: str | None = None, *, chunk_rows: int = CHUNK_ROWS) -> Iterator[Tick]:
    """Every tick of a day file in the order it was stored (of one batch first those with a sequence); of one symbol:
    those with a sequence in its order, then those without in the order of time.

    Rows committed while reading may or may not be seen. Raises as ``open_read_only`` does.
    """
    with closing(open_read_only(db)) as conn:
        columns = select_list(conn)
        try:
            if symbol is None:
                yield from _in_order_stored(conn, columns, chunk_rows)
            else:
                yield from _symbol_ticks(conn, columns, symbol, chunk_rows)
        except sqlite3.Error as exc:
            raise translate(exc, db) from exc


def _in_order_stored(conn: sqlite3.Connection, columns: str, chunk_rows: int) -> Iterator[Tick]:
    sql = f"SELECT rowid, {columns} FROM ticks WHERE rowid > ? ORDER BY rowid LIMIT ?"
    last_rowid = MIN_SEQ
    while True:
        rows = conn.execute(sql, (last_rowid, chunk_rows)).fetchall()
        yield from (Tick._make(row[1:]) for row in rows)
        if len(rows) < chunk_rows:
            return
        last_rowid = rows[-1][0]


def _symbol_ticks(conn: sqlite3.Connection, columns: str, symbol: str, chunk_rows: int) -> Iterator[Tick]:
    sequenced = f"SELECT {columns} FROM ticks WHERE symbol = ? AND seq > ? ORDER BY seq LIMIT ?"
    last_seq = MIN_SEQ
    while True:
        rows = conn.execute(sequenced, (symbol, last_seq, chunk_rows)).fetchall()
        yield from map(Tick._make, rows)
        if len(rows) < chunk_rows:
            break
        last_seq = rows[-1][Tick._fields.index("seq")]
    unsequenced = (
        f"SELECT rowid, {columns} FROM ticks WHERE symbol = ? AND seq IS NULL AND (ts_ms, rowid) > (?, ?) "
        "ORDER BY ts_ms, rowid LIMIT ?"
    )
    last_ts_ms, last_rowid = MIN_SEQ, MIN_SEQ
    while True:
        rows = conn.execute(unsequenced, (symbol, last_ts_ms, last_rowid, chunk_rows)).fetchall()
        yield from (Tick._make(row[1:]) for row in rows)
        if len(rows) < chunk_rows:
            return
        last_rowid, last_ts_ms = rows[-1][0], rows[-1][1 + Tick._fields.index("ts_ms")]
