"""One day file read as a stream: the rows behind a place in it, live or closed, and the proof that the place fits.

``follow.Follower`` goes from day to day; what happens to a file under a reader is known here. It may be closed by its
writer, moved away, exchanged for another one or removed, at any moment:

- While it is live a connection stays, with no transaction open between two reads, so the writer's checkpoints pass; one
  that has met no commit for LET_GO_SEC is closed, so that the writer can remove its WAL.
- While it is closed a connection serves one read. In between the marks of the file (size and time of change, and those
  of its WAL) tell whether anybody wrote, and a mark younger than SETTLED_SEC tells nothing.
- Another file at the path has another identity: the rows up to the place are read again and compared with its trail
  (``position.py``). Rows that prove nothing are a ``Misfit``.

Not safe to share between threads.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from hk_tick_collector.core.errors import StoreBusy, StoreCorrupt, StoreError, StoreUnavailable
from hk_tick_collector.store.companions import Mark, is_closed
from hk_tick_collector.store.connect import as_store_error
from hk_tick_collector.store.followed import Followed
from hk_tick_collector.store.position import Place, Row
from hk_tick_collector.store.read_only import ClosedFile

TAIL_ROWS = 1000  # before the end, which a position that begins there carries the trail of
TRAIL_STEP_ROWS = 5000  # of one statement, so that no read transaction lives long
LET_GO_SEC = 30.0
SETTLED_SEC = 1.0  # a file changed so recently may change again within one tick of its file system's clock
YOUNG_SEC = 10.0  # a day file that was just made has no table yet

_Marks = tuple[Mark | None, Mark | None]


class Misfit(Exception):
    """Not the file that the place was made in; the text goes on after the file's name."""


class FileStream:
    """One day file as it is read: through a connection that stays while it is live, through one for each read while it
    is closed. Between reads without a connection its marks (size and time of change, and those of its WAL) tell whether
    anybody wrote to it."""

    def __init__(self, path: Path, day: str, monotonic: Callable[[], float], kind: Followed) -> None:
        self._kind = kind
        self._path = path
        self._wal = path.with_name(f"{path.name}-wal")
        self._day = day
        self._monotonic = monotonic
        self._conn: sqlite3.Connection | None = None
        self._is_live = False
        self._columns = ""
        self._versions = (-1, -1)  # data_version and schema_version, as of the last read
        self._end: Place | None = None  # behind which there was nothing, as of _versions or _marks
        self._marks: _Marks | None = None
        self._proven: tuple[Place, int] | None = None  # a place of another file, and the identity of the equal one
        self._changed_at_sec = 0.0  # when a commit was last met
        self.identity = 0  # of the file that is read, ``identity_of``

    def close(self) -> None:
        """Let the file go; what was known of it is forgotten."""
        self._end, self._marks = None, None
        conn, self._conn = self._conn, None
        if conn is not None:
            with contextlib.suppress(StoreBusy, sqlite3.Error):
                conn.close()

    def is_over(self) -> bool:
        """Did whoever wrote to it close it, or is it gone?"""
        return is_closed(self._path) or not os.path.lexists(self._path)

    def rows_behind(self, place: Place, limit_rows: int) -> list[Row]:
        """The rows behind ``place``. FileNotFoundError without a file, Misfit when it is another one, StoreError."""
        was_open = self._conn is not None
        try:
            return self._behind(place, limit_rows)
        except StoreUnavailable:
            if not was_open:
                raise
        # It was moved away under the connection, with what SQLite keeps beside it: what is at the path now answers.
        return self._behind(place, limit_rows)

    def _behind(self, place: Place, limit_rows: int) -> list[Row]:
        with self._own_errors():
            if self._conn is not None and self._is_exchanged():
                self.close()
            marks = self._look() if self._conn is None else None
            if marks is not None and (place, marks) == (self._end, self._marks):
                return []
            if self._conn is None and not self._open(is_begun=bool(place.rowid)):
                return []
            return self._read(place, limit_rows, marks)

    @contextlib.contextmanager
    def looked_into(self) -> Iterator[sqlite3.Connection | None]:
        """As of ``Follower.look_into``."""
        with self._own_errors():
            if self._conn is not None and self._is_exchanged():
                self.close()
            is_there = self._conn is not None
            if not is_there:
                with contextlib.suppress(FileNotFoundError):
                    is_there = self._open(is_begun=False)
            yield self._conn if is_there else None
            if is_there and not self._is_live:
                self._end_reading()

    def place_at(self, rowid: int | None) -> Place | None:
        """The place behind one row, by default the newest; None without such a row."""
        with self._own_errors():
            if not self._open(is_begun=True):
                return None
            where = "rowid = ?" if rowid is not None else "rowid > ? ORDER BY rowid DESC"
            rows, identity = self._execute(where, rowid or 0, 1), self.identity
            self._end_reading()
            return self._kind.behind(Place(self._day), rows, identity)._replace(trail=None) if rows else None

    def end(self, back_rows: int) -> Place | None:
        """The place behind all rows but the last ``back_rows``; None without a file."""
        self.close()
        with contextlib.suppress(FileNotFoundError), self._own_errors():
            self._look()
            if not self._open(is_begun=False):
                return None
            tail = f"rowid <= (SELECT MAX(rowid) FROM {self._kind.table}) - ? ORDER BY rowid DESC"  # noqa: S608 - ours
            rows, identity = self._execute(tail, back_rows, TAIL_ROWS)[::-1], self.identity
            self._end_reading()
            start = Place(self._day)
            return self._kind.behind(start._replace(base=rows[0][0] - 1), rows, identity) if rows else start
        return None

    @contextlib.contextmanager
    def _own_errors(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise
        except Misfit:
            if self._conn is not None and not self._is_live:
                self._end_reading()  # StoreBusy: it was being written to, so what was read says nothing
            raise
        except (OSError, sqlite3.Error, StoreError) as exc:
            self.close()
            raise as_store_error(exc, self._path) from exc

    def _read(self, place: Place, limit_rows: int, marks: _Marks | None) -> list[Row]:
        # Before the rows: what is committed in between is met by the next read.
        versions = self._pragma("data_version"), self._pragma("schema_version")
        if place == self._end and versions == self._versions:
            self._let_go_when_idle()
            return []
        if versions != self._versions:
            self._versions, self._changed_at_sec = versions, self._monotonic()
            self._columns = self._kind.select(self._connection)
        rows = self._rows(place, limit_rows)
        if not self._is_live:
            self._end_reading()
            self._marks = marks
        self._end = None if rows else place
        return rows

    def _rows(self, place: Place, limit_rows: int) -> list[Row]:
        if not place.rowid:
            return self._execute("rowid > ? ORDER BY rowid", 0, limit_rows)
        if place.file != self.identity:
            self._prove(place)
        rows = self._execute("rowid >= ? ORDER BY rowid", place.rowid, limit_rows + 1)
        if not rows or not self._kind.fits(place, rows[0]):
            raise Misfit(f"holds another row at the place that was reached ({place.rowid})")
        return rows[1:]

    def _prove(self, place: Place) -> None:
        """Are the rows up to a place of another file the same here? Reads those that the place has the trail of, once.

        Rows that were never read are the same ones when there are as many, and each was stored before the place's own
        row: what was stored behind it is no older, and none of it can be among them.
        """
        if self._proven == (place, self.identity):
            return
        if place.trail is not None and self._trail(place.base, place.rowid) != place.trail:
            raise Misfit("was exchanged for one with other rows, or in another order")
        if place.unread and not self._has_before(place):
            raise Misfit("was exchanged, and what it held before was not read")
        self._proven = place, self.identity

    def _trail(self, base: int, end: int) -> int:
        """Of the rows behind ``base`` up to ``end``."""
        trail, last = 0, base
        while last < end:
            rows = self._execute("rowid > ? ORDER BY rowid", last, min(TRAIL_STEP_ROWS, end - last))
            rows = [row for row in rows if row[0] <= end]
            if not rows:
                break
            trail, last = self._kind.extended(trail, rows), rows[-1][0]
        return trail

    def _has_before(self, place: Place) -> bool:
        """Are there as many rows as before that were not read, all stored before the place's own one?"""
        own = self._execute("rowid = ?", place.rowid, 1)
        sql = f"SELECT COUNT(*), MAX({self._kind.stored_at}) FROM {self._kind.table} WHERE rowid <= ?"  # noqa: S608 - ours
        count, newest = self._connection.execute(sql, (place.unread,)).fetchone()
        is_there = bool(own) and self._kind.fits(place, own[0])
        return is_there and count == place.unread and newest < self._kind.stored(own[0])

    @property
    def _connection(self) -> sqlite3.Connection:
        assert self._conn is not None
        return self._conn

    def _execute(self, where: str, start: int, limit_rows: int) -> list[Row]:
        sql = f"SELECT rowid, {self._columns} FROM {self._kind.table} WHERE {where} LIMIT ?"  # noqa: S608 - our names
        return self._connection.execute(sql, (start, limit_rows)).fetchall()

    def _pragma(self, name: str) -> int:
        return int(self._connection.execute(f"PRAGMA {name}").fetchone()[0])

    def _open(self, *, is_begun: bool) -> bool:
        """Connect to the file that is at the path. False when it was only just made and has no table yet."""
        before = identity_of(self._path)
        try:
            conn = self._kind.open_file(self._path)
        except StoreCorrupt:
            if is_begun or time.time() - self._path.stat().st_mtime > YOUNG_SEC:
                raise
            return False
        if conn is None:
            return False
        self._conn = conn
        if identity_of(self._path) != before:
            raise StoreBusy(f"{self._path} was exchanged while it was opened; ask again")
        self._is_live = not isinstance(conn, ClosedFile)
        self._columns = self._kind.select(self._connection)
        self._versions, self._changed_at_sec = (-1, -1), self._monotonic()
        self.identity = before
        return True

    def _end_reading(self) -> None:
        """Close the connection. StoreBusy when the file was read as a closed one and somebody wrote to it meanwhile:
        then what was read does not count."""
        conn, self._conn = self._connection, None
        conn.close()

    def _is_exchanged(self) -> bool:
        """Is another file at the path? A file that was only removed is still read through the connection: the recorder
        puts back what it held."""
        try:
            return identity_of(self._path) != self.identity
        except FileNotFoundError:
            return False

    def _look(self) -> _Marks | None:
        """The file from outside; None when it changed so recently that a later change may look the same."""
        status = self._path.stat()
        marks = Mark.of(self._path), Mark.of(self._wal)
        settled_ns = time.time_ns() - int(SETTLED_SEC * 1e9)
        is_settled = status.st_mtime_ns < settled_ns and all(
            mark is None or mark.changed_ns < settled_ns for mark in marks
        )
        return marks if is_settled else None

    def _let_go_when_idle(self) -> None:
        """A live file without commits is closed, so that its writer, when it closes it, can remove its WAL."""
        if self._monotonic() - self._changed_at_sec < LET_GO_SEC or not os.path.lexists(self._path):
            return
        marks = self._look()
        if marks is not None and self._pragma("data_version") == self._versions[0]:
            self._end_reading()
            self._marks = marks


def identity_of(path: Path) -> int:
    """What tells one file from another at the same path. OSError when there is none."""
    status = os.stat(path)  # noqa: PTH116 - at every look
    return identity(status.st_dev, status.st_ino)


def identity(device: int, inode: int) -> int:
    """As ``identity_of``, of what a system call said."""
    return zlib.crc32(f"{device}:{inode}".encode())
