"""What a data root holds of a symbol's days, for the source that reads the same trades from a file."""

from __future__ import annotations

import heapq
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from hk_tick_collector.sources.stored import Stored
from hk_tick_collector.store.companions import connect_live
from hk_tick_collector.store.connect import translate
from hk_tick_collector.store.layout import day_file, parse_day, recent_day_files
from hk_tick_collector.store.reader import coverage, replays

READ_TIMEOUT_SEC = 5.0

_SEQUENCED = (
    "SELECT ts_ms, seq, price, volume, direction FROM ticks WHERE symbol = ? AND seq IS NOT NULL ORDER BY symbol, seq"
)
_UNSEQUENCED = (
    "SELECT ts_ms, seq, price, volume, direction FROM ticks WHERE symbol = ? AND seq IS NULL ORDER BY symbol, ts_ms"
)


def stored_rows(db: Path, symbol: str) -> Iterator[Stored]:
    """A symbol's rows in order of time; none when there is no such file.

    While they are read, the file is written to by this very process. So it is opened as its writer does, which may
    come at any time, and not as a closed file, whose reader would be told that it has changed. StoreError.
    """
    if not db.exists():
        return
    try:
        with closing(connect_live(db, "rw", READ_TIMEOUT_SEC)) as conn:
            conn.execute("PRAGMA query_only = ON")
            sides = (_rows(conn, sql, symbol) for sql in (_SEQUENCED, _UNSEQUENCED))
            yield from heapq.merge(*sides, key=lambda row: row.ts_ms)
    except sqlite3.Error as exc:
        raise translate(exc, db) from exc


def _rows(conn: sqlite3.Connection, sql: str, symbol: str) -> Iterator[Stored]:
    return map(Stored._make, conn.execute(sql, (symbol,)))


class RecordedDays:
    """The newest ``recent_files`` day files of a data root: a ``sources.stored.StoredDays``."""

    def __init__(self, data_root: Path, recent_files: int) -> None:
        self._data_root = data_root
        self._recent_files = max(1, recent_files)

    def days(self, symbol: str) -> list[str]:
        """As ``StoredDays`` has it."""
        newest = recent_day_files(self._data_root, self._recent_files)
        having = (parse_day(db) for db in newest if any(row.symbol == symbol for row in coverage(db)))
        return sorted(day for day in having if day is not None)

    def rows(self, symbol: str, day: str) -> Iterator[Stored]:
        """As ``StoredDays`` has it."""
        return stored_rows(day_file(self._data_root, day), symbol)

    def replay(self, symbol: str, day: str) -> tuple[str, bool] | None:
        """As ``StoredDays`` has it."""
        db = day_file(self._data_root, day)
        replay = replays(db).get(symbol) if db.exists() else None
        return None if replay is None else (replay.digest, replay.confirmed)

    def shown_until_ms(self, symbol: str, day: str) -> int | None:
        """As ``StoredDays`` has it."""
        db = day_file(self._data_root, day)
        until_ms = (row.verified_until_ms for row in (coverage(db) if db.exists() else ()) if row.symbol == symbol)
        return next(until_ms, None)
