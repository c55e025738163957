"""The day files that the writer has open, and whether each is still the one at its path.

A file may be moved, removed, exchanged or written over while it is open, and its WAL may be taken away:

- Before each batch, with the write lock in hand, the file at the path is compared with the open one. What a file held
  that is there no more is kept (``rescue.py``, ``taken.py``), and rows go to the one at the path.
- A file whose marks changed though nobody committed through SQLite is read from end to end; StoreCorrupt when it is
  damaged, or lacks rows that were committed.
- After a commit, once a second, the WAL is looked at: without its name no reader finds the rows in it.

Waiting for another process's lock takes at most ``busy_timeout_ms`` a step and ends at once on ``interrupt``.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from hk_tick_collector.core.clock import Clock
from hk_tick_collector.core.errors import StoreBusy, StoreCorrupt, StoreError, StoreUnavailable
from hk_tick_collector.core.logline import event
from hk_tick_collector.store.companions import Mark, WalLook, connect_live
from hk_tick_collector.store.connect import SqliteOptions, as_store_error, open_day_file, translate
from hk_tick_collector.store.open_day import OpenDay
from hk_tick_collector.store.reading import rows_if_sound
from hk_tick_collector.store.taken import TakenFiles

MAX_OPEN_DAYS = 2
MAX_LEFT_DAYS = 8  # whose files are known again when they are opened again
WAL_LOOK_SEC = 1.0
UNREAD_AGAIN_SEC = 60.0
FRESH_TIMEOUT_SEC = 5.0  # for a lock on a file that others have changed
BUSY_SLICE_MS = 100  # how long one call into SQLite waits for a lock; between two of them interrupt() is heard

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


class OpenFiles:
    """At most MAX_OPEN_DAYS of them. ``begin`` gives a day's, locked and surely the one at its path; ``committed`` or
    ``drop`` ends what was begun. One thread's; only ``interrupt`` may be called from others, and ``wal_bytes`` read."""

    def __init__(self, data_root: Path, options: SqliteOptions, clock: Clock) -> None:
        self._data_root = data_root
        self._options = options
        self._clock = clock
        self.open: dict[str, OpenDay] = {}  # least recently written first
        self._unsure: dict[str, float] = {}  # days that others wrote to past SQLite: to be read, not before (monotonic)
        self._replaced_files = 0  # since they were last taken
        self._foreign: set[str] = set()  # days whose file was exchanged, until our first commit to it
        self._left: dict[str, tuple[Mark, int]] = {}  # the file of each day as we last left it, and its rows
        self._next_look_sec = 0.0
        self.wal_bytes = 0  # of the open days, as last measured
        self._interrupted = threading.Event()
        self._taken = TakenFiles(clock.now_ms, self._interrupted.is_set, has_ticks=True)

    def begin_call(self) -> None:
        """What interrupted an earlier call is over."""
        self._interrupted.clear()

    def interrupt(self) -> None:
        """As ``DayFileWriter.interrupt``, from another thread."""
        self._interrupted.set()
        for opened in list(self.open.values()):
            with contextlib.suppress(sqlite3.ProgrammingError):  # closed in the meantime
                opened.conn.interrupt()

    def begin(self, day: str, path: Path) -> OpenDay:
        """The open day with its write lock, on the file that is at ``path`` now that the lock is held: it may have been
        removed, exchanged or written over while we waited."""
        while True:
            opened = self._open_day(day, path)
            self.waiting(lambda: opened.conn.execute("BEGIN IMMEDIATE"))  # noqa: B023 - called at once
            mark = _mark(path)
            if not opened.is_at(mark):
                opened.conn.execute("ROLLBACK")
                self._leave_replaced(day, opened)
                continue
            if opened.left_as is not None and mark != opened.left_as and opened.is_last_writer():
                self._read_anew(day, opened)
            if day in self.open:
                return opened

    def waiting(self, step: Callable[[], _T]) -> _T:
        """Run ``step`` until it meets no lock, the busy timeout is over, or somebody interrupts."""
        give_up_at = time.monotonic() + self._options.busy_timeout_ms / 1000
        while True:
            try:
                return step()
            except (sqlite3.OperationalError, StoreBusy) as exc:
                busy = isinstance(exc, StoreBusy) or isinstance(translate(exc, self._data_root), StoreBusy)
                if not busy or time.monotonic() >= give_up_at or self._interrupted.wait(0.001):
                    raise

    def committed(self, day: str, opened: OpenDay) -> None:
        """The file is as our commit left it."""
        self._foreign.discard(day)
        self._look_at_wal(day, opened)
        self._note_mark(day, opened)
        self._taken.try_again()

    def rolled_back(self, day: str) -> bool:
        """A refused row says nothing against the connection: keep it when the rollback works."""
        opened = self.open.get(day)
        return opened is not None and opened.roll_back()

    def drop(self, day: str) -> None:
        """Forget a connection that may be broken."""
        opened = self._forget(day)
        if opened is not None:
            opened.drop()

    def leave(self, day: str) -> None:
        """The file was set aside: another one will be at its path."""
        self.drop(day)
        self._left.pop(day, None)

    def close_day(self, day: str) -> None:
        """As ``DayFileWriter.close_day``."""
        opened = self.open.get(day)
        if opened is None:
            return
        try:
            if not opened.is_at(_mark(opened.path)):
                self._leave_replaced(day, opened)
                return
            self._forget(day)
            opened.checkpoint_and_close(self._options.journal_mode)
        except (OSError, sqlite3.Error) as exc:
            self.drop(day)
            raise as_store_error(exc, opened.path) from exc

    def close(self) -> None:
        """As ``DayFileWriter.close``."""
        first_error: StoreError | None = None
        for day in list(self.open):
            try:
                self.close_day(day)
            except StoreError as exc:
                first_error = first_error or exc
        self._taken.try_again(is_last=True)
        if first_error is not None:
            raise first_error

    def is_foreign(self, day: str) -> bool:
        """Was the file exchanged for another one, to which we have not committed yet?"""
        return day in self._foreign

    def met_foreign(self, day: str) -> None:
        """The file is not the one that we knew: what was counted of it does not hold."""
        self._replaced_files += 1
        self._foreign.add(day)

    def loaded(self, day: str, opened: OpenDay, rows: int) -> None:
        """So many rows the open file was found to have. Where they are fewer than when its last connection was left, it
        was cut off, or an older copy was written over it: by its inode the same file, by its content another one."""
        if rows < opened.rows_before:
            self._say_replaced(day, opened.path)
        opened.rows_before, opened.stored_rows = 0, rows

    def is_unsure(self, day: str) -> bool:
        """Did others write to the file past SQLite, so that nothing but counting tells how many rows it has?"""
        return day in self._unsure

    def take_replaced_files(self) -> int:
        """How many were moved, removed or exchanged while they were open, since this was asked last."""
        replaced_files, self._replaced_files = self._replaced_files, 0
        return replaced_files

    def let_go_of_taken(self) -> None:
        """There is no room: what files hold that were taken away gives way."""
        self._taken.let_go()

    def _open_day(self, day: str, path: Path) -> OpenDay:
        opened = self.open.pop(day, None)
        if opened is not None:
            self.open[day] = opened  # now the last one
            return opened
        while len(self.open) >= MAX_OPEN_DAYS:
            self._close_oldest()
        conn = self.waiting(
            lambda: open_day_file(path, self._options, min(BUSY_SLICE_MS, self._options.busy_timeout_ms))
        )
        try:
            mark = _mark(path)
        except OSError:
            conn.close()
            raise
        if mark is None:
            conn.close()
            raise StoreUnavailable(f"{path} was removed while it was being opened; the rows are written again")
        opened = self.open[day] = OpenDay(path, conn, mark)
        self._note_opened(day, opened)
        return opened

    def _note_opened(self, day: str, opened: OpenDay) -> None:
        """Is it the file that we closed? Whether it still holds what that one held is known when it is read."""
        left, rows = self._left.pop(day, (opened.opened_as, 0))
        if opened.is_at(left):
            opened.rows_before = rows
        else:
            self._say_replaced(day, opened.path)
        self._left[day] = opened.opened_as, opened.rows_before
        while len(self._left) > MAX_LEFT_DAYS:
            del self._left[next(iter(self._left))]

    def _say_replaced(self, day: str, path: Path) -> None:
        self.met_foreign(day)
        todo = "rows now go to the file at this path; what OpenD still has is fetched"
        _log.warning(event("day_file_replaced", trading_day=day, path=path, kept="", todo=todo))

    def _note_mark(self, day: str, opened: OpenDay) -> None:
        """How our commit left the file. One that is still to be read keeps its old mark."""
        if day not in self.open or self._unsure.get(day):
            return
        self._unsure.pop(day, None)
        with contextlib.suppress(OSError):  # of a batch that is committed
            opened.left_as = _mark(opened.path)

    def _read_anew(self, day: str, opened: OpenDay) -> None:
        """The file changed, and SQLite knows of no commit: a checkpoint of somebody else, or a copy over the live file.
        Read it with fresh eyes. StoreCorrupt when it is damaged, or lacks rows that were committed."""
        if time.monotonic() < self._unsure.get(day, 0.0):
            return
        self._unsure[day] = time.monotonic() + UNREAD_AGAIN_SEC
        path, coverage = opened.path, opened.coverage
        if opened.wal_look is not None and not opened.wal_look.still_there():
            return  # without its WAL the file looks damaged to everybody but us
        started_sec = time.monotonic()
        try:
            with contextlib.closing(connect_live(path, "ro", FRESH_TIMEOUT_SEC)) as fresh:
                rows = rows_if_sound(fresh, path, self._interrupted.is_set)
        except StoreCorrupt:
            raise
        except (sqlite3.Error, StoreError) as exc:
            _log.warning(event("day_file_unread", trading_day=day, path=path, error=exc, again_sec=UNREAD_AGAIN_SEC))
            return
        committed_rows = coverage.stored_ticks() if coverage is not None else rows
        if rows < committed_rows:
            raise StoreCorrupt(f"{path} was overwritten: it holds {rows} rows, {committed_rows} were committed")
        took_sec = time.monotonic() - started_sec
        _log.warning(event("day_file_written_by_others", trading_day=day, path=path, rows=rows, took_sec=took_sec))
        # What SQLite keeps of the file in memory may be of another one: begin again with a new connection.
        self.drop(day)
        self._unsure[day] = 0.0
        if rows != committed_rows:
            self.met_foreign(day)

    def _leave_replaced(self, day: str, opened: OpenDay) -> None:
        """The open file is no longer the one at its path: it was moved, removed or exchanged. What it holds is still
        read through our connection: it becomes the new file, or is set aside where there is another one."""
        self._replaced_files += 1
        self._left.pop(day, None)
        kept = None
        try:
            kept = self._taken.keep(opened.path, opened.conn)
        finally:
            self._forget(day)
            if kept != opened.path:
                self._foreign.add(day)

    def _close_oldest(self) -> None:
        day = next(iter(self.open))
        try:
            self.close_day(day)
        except StoreError as exc:  # its rows are committed; only tidying up failed
            _log.warning(event("day_file_close_failed", trading_day=day, error=exc))

    def _forget(self, day: str) -> OpenDay | None:
        """Everything that is known of an open file; it is closed elsewhere."""
        self._unsure.pop(day, None)
        opened = self.open.pop(day, None)
        if opened is not None and day in self._left:
            self._left[day] = self._left[day][0], max(opened.stored_rows, opened.rows_before)
        self._measure_wal()
        return opened

    def _look_at_wal(self, day: str, opened: OpenDay) -> None:
        """After a commit, at most once a second: measure the WAL, and notice one that another program took away.

        Rows go on into the file without a name then, where no reader finds them, and readers fail: so they are moved
        into the database, and the next write begins on new files.
        """
        now_sec = time.monotonic()
        look = opened.wal_look
        if look is not None and now_sec < self._next_look_sec:
            return
        self._next_look_sec = now_sec + WAL_LOOK_SEC
        try:
            if look is None:
                opened.wal_look = WalLook(opened.path)
            elif not look.still_there() and opened.is_at(_mark(opened.path)):
                self._leave_lost_wal(day, opened)
        except (OSError, sqlite3.Error) as exc:  # of a batch that is committed; the next write tells of a sick disk
            _log.warning(event("day_file_wal_unseen", trading_day=day, path=opened.path, error=exc))
        self._measure_wal()

    def _leave_lost_wal(self, day: str, opened: OpenDay) -> None:
        busy, wal_pages, moved_pages = opened.conn.execute("PRAGMA wal_checkpoint(FULL)").fetchone()
        if busy or wal_pages != moved_pages:
            return  # a reader of before holds it up; looked at again in a second
        self.drop(day)
        todo = "leave -wal and -shm of an open file alone; its rows are in the day file now"
        _log.error(event("day_file_wal_removed", trading_day=day, path=opened.path, todo=todo))

    def _measure_wal(self) -> None:
        looks = [opened.wal_look for opened in self.open.values()]
        self.wal_bytes = sum(look.wal_bytes for look in looks if look is not None)


def _mark(path: Path) -> Mark | None:
    """What is at ``path`` now, None when nothing is. OSError from a disk that does not answer: it says nothing about
    the file."""
    try:
        stat = os.stat(path)  # noqa: PTH116 - two calls a batch on the hot path
    except FileNotFoundError:
        return None
    return Mark(stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns)
