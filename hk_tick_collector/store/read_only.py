"""A read-only connection to a day file, live or closed, of any version; never in the writer's way.

A connection is opened with ``mode=ro`` and keeps no read transaction between two chunks, so the writer's checkpoints
can always finish. A reader of a live file sees what was committed when its statement began.

A closed day file is marked as WAL, and SQLite would make a WAL and shared memory to read it, which stay: of another
owner than the recorder's, they lock it out. Nothing is missing from such a file itself, so it is opened as
``immutable``, which makes nothing; that is right only while nobody writes to it. Whoever begins to while it is read is
noticed at the end: then ``close`` raises StoreBusy, and what was read does not count.

Files of an earlier recorder (the first 14 columns only) are read too; the columns they lack are None.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from hk_tick_collector.core.disk import unavailable
from hk_tick_collector.core.errors import StoreBusy, StoreCorrupt, StoreUnavailable
from hk_tick_collector.records.columns import BY_NAME
from hk_tick_collector.records.tick import Tick
from hk_tick_collector.store.companions import Mark, connect_live, is_closed, opening, would_leave_shm
from hk_tick_collector.store.connect import APPLICATION_ID, check_known, table_columns, translate

READ_TIMEOUT_SEC = 1.0  # readers meet a lock only while a WAL is recovered or a rollback journal is committed


def open_read_only(path: Path, *, damaged: bool = False) -> sqlite3.Connection:
    """A read-only connection to a day file; ``damaged`` also opens one that was cut short. One thread after the other
    may use it.

    StoreUnavailable when it is absent, locked or may not be read; StoreCorrupt when it is damaged, belongs to another
    program or has no ``ticks`` table.
    """
    try:
        if path.exists() and not path.is_file():  # opening a pipe would wait for ever
            raise StoreCorrupt(f"{path} is not a file; a day file is wanted there: move it away")
    except OSError as exc:
        raise unavailable(path, exc) from exc
    if is_closed(path):
        return _open_closed(path, damaged)
    if would_leave_shm(path):
        raise StoreUnavailable(
            f"{path} has a WAL and no -shm: to read it would leave one that its owner cannot write; let its owner open "
            f"it once (start the recorder, or run this as its user)"
        )
    try:
        with opening(path):
            return _checked(connect_live(path, "ro", READ_TIMEOUT_SEC), path, damaged)
    except sqlite3.OperationalError as exc:
        is_locked = exc.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY  # then somebody writes: it is no closed file
        if is_locked or not path.is_file() or _has_wal_content(path):
            raise translate(exc, path) from exc
    except sqlite3.Error as exc:
        raise translate(exc, path) from exc
    return _open_closed(path, damaged)


@contextmanager
def read_from(path: Path) -> Iterator[sqlite3.Connection]:
    """``open_read_only`` for the time of a ``with``: SQLite's errors in it become StoreErrors of that file."""
    with closing(open_read_only(path)) as conn:
        try:
            yield conn
        except sqlite3.Error as exc:
            raise translate(exc, path) from exc


class ClosedFile(sqlite3.Connection):
    """What was read counts only if nobody wrote to the file meanwhile: SQLite was told that nobody would."""

    path: Path | None = None
    mark: Mark | None = None

    def close(self) -> None:
        """StoreBusy when the file has changed."""
        super().close()
        if self.path is not None and Mark.of(self.path) != self.mark:
            raise StoreBusy(f"{self.path} was written to while it was read; ask again")


def _open_closed(path: Path, damaged: bool) -> sqlite3.Connection:
    """Open a file that nobody writes to, without leaving anything beside it."""
    mark = Mark.of(path)
    try:
        # Threads: rows that are read as they are wanted may be wanted by another thread than the one that asked.
        conn = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True, timeout=READ_TIMEOUT_SEC, isolation_level=None,
            factory=ClosedFile, check_same_thread=False,
        )  # fmt: skip
        _checked(conn, path, damaged)
    except sqlite3.Error as exc:
        raise translate(exc, path) from exc
    conn.path, conn.mark = path, mark
    return conn


def _checked(conn: sqlite3.Connection, path: Path, damaged: bool) -> sqlite3.Connection:
    """The connection, to a day file of ours; else it is closed."""
    try:
        if damaged:
            conn.execute("PRAGMA writable_schema = ON")  # SQLite's switch for files shorter than their header says
        check_known(conn.execute("PRAGMA user_version").fetchone()[0], path)
        if not table_columns(conn):
            raise StoreCorrupt(f"{path} has no ticks table")
        if conn.execute("PRAGMA application_id").fetchone()[0] not in (0, APPLICATION_ID):
            raise StoreCorrupt(f"{path} belongs to another program")
    except BaseException:
        conn.close()
        raise
    return conn


def _has_wal_content(path: Path) -> bool:
    try:
        return Path(f"{path}-wal").stat().st_size > 0
    except FileNotFoundError:
        return False
    except OSError:
        return True


def schema_version(db: Path) -> int:
    """Which version the file is of; 0 for one of an earlier recorder."""
    with read_from(db) as conn:
        return int(conn.execute("PRAGMA user_version").fetchone()[0])


def select_list(conn: sqlite3.Connection, fields: tuple[str, ...] = Tick._fields) -> str:
    """The SELECT list that gives ``fields`` in order from a file of any version: absent columns by their default or as
    NULL."""
    return ", ".join(f"{sql} AS {name}" if sql != name else name for name, sql in column_sql(conn, fields).items())


def column_sql(conn: sqlite3.Connection, fields: Sequence[str]) -> dict[str, str]:
    """What gives each of ``fields`` from a file of any version."""
    present = set(table_columns(conn))
    return {name: name if name in present else BY_NAME[name].default or "NULL" for name in fields}
