"""A day file read from end to end: is every page sound, and how many rows are there?

SQLite reads what it needs. A page that was damaged in place (a copy over the live file, a bad card) is met by nobody
until somebody reads it, and what ``coverage`` notes knows nothing of it. So each day is read once when it is over, and
a live one when something other than SQLite has written to it. ``PRAGMA quick_check`` looks at the structure of every
page and at the kind of every value, not at whether values are the ones that were written: 1 to 2 s a million rows.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from hk_tick_collector.core.errors import StoreCorrupt
from hk_tick_collector.store.connect import translate
from hk_tick_collector.store.read_only import open_read_only
from hk_tick_collector.store.reader import Notes, Reading

ASK_EVERY_STEPS = 100_000  # of SQLite's machine: some milliseconds
# The recorder closes a day's file half an hour after its last row; who writes to it later is somebody else.
WRITTEN_LATER_MS = 3_600_000


def read_whole(path: Path, give_up: Callable[[], bool] = lambda: False) -> int:
    """How many rows the file holds. StoreCorrupt when it is damaged, StoreUnavailable when ``give_up`` said so."""
    with closing(open_read_only(path)) as conn:
        return rows_if_sound(conn, path, give_up)


def rows_if_sound(conn: sqlite3.Connection, path: Path, give_up: Callable[[], bool]) -> int:
    """As ``read_whole``, with a connection to the file that has read nothing of it yet."""
    conn.set_progress_handler(lambda: int(give_up()), ASK_EVERY_STEPS)
    try:
        findings = [str(row[0]) for row in conn.execute("PRAGMA quick_check(3)")]
        if findings != ["ok"]:
            raise StoreCorrupt(f"{path} is damaged: {'; '.join(findings)}")
        return int(conn.execute("SELECT COUNT(*) FROM ticks NOT INDEXED").fetchone()[0])
    except sqlite3.Error as exc:
        raise translate(exc, path) from exc


def is_current(notes: Notes, changed_ms: int | None) -> bool:
    """Does the last reading tell of the file as it is? ``changed_ms``: when the file was last written to."""
    reading = notes.reading
    if reading is None or reading.rows != sum(row.stored_ticks for row in notes.coverage):
        return False
    if any(row.updated_at_ms > reading.read_at_ms for row in notes.coverage):
        return False
    return changed_ms is not None and changed_ms <= reading.read_at_ms + WRITTEN_LATER_MS


def changed_ms(path: Path) -> int | None:
    """When the file or its write-ahead log was last written to (UTC epoch ms); None when it cannot be looked at."""
    try:
        last_ns = path.stat().st_mtime_ns
        log = path.with_name(f"{path.name}-wal")
        status = log.stat() if log.exists() else None
    except OSError:
        return None
    if status is not None and status.st_size:
        last_ns = max(last_ns, status.st_mtime_ns)
    return last_ns // 1_000_000


def reading_of(notes: Notes, path: Path, now_ms: int, give_up: Callable[[], bool] = lambda: False) -> Reading:
    """The last reading where it is current, else one made now. Raises as ``read_whole`` does."""
    if notes.reading is not None and is_current(notes, changed_ms(path)):
        return notes.reading
    return Reading(now_ms, read_whole(path, give_up))
