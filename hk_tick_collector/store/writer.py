"""The one writer of day files: batches of ticks in, committed rows out.

Owned by one thread at a time; only ``interrupt``, ``wal_bytes`` and ``failed_day`` may be called from others.

Promises:

- A batch counts as stored only when ``write`` returned. After any error the same batch may be written again, by this
  writer or by another one: rows already stored are ignored by their unique index, also those without a sequence.
- A day's rows are one transaction. After an error that may lie in the connection it is rolled back and the connection
  dropped, so the next write begins on a new one.
- No row disappears without a number: stored rows, ignored rows, and among them those without a sequence, are counted;
  a row that SQLite refuses raises. A tick whose sequence another one already has is stored all the same (rows.py).
- ``coverage`` and ``gaps`` of the file always say what is true of its rows: they change in the same transaction.
- A file that was moved or removed under the writer is noticed before the next batch goes into it.

Limits: MAX_OPEN_DAYS connections (today, and yesterday while late ticks come), SQLite's page cache of each. Waiting for
another process's lock takes at most ``busy_timeout_ms`` a step and ends at once on ``interrupt``.

Cost on two shared cores, batches of 500 over 900 symbols in random order (380 of them in a batch): 4.5 us a row where
fsync is free, 1.4 of it for the coverage; when most ticks are of a few symbols (75 in a batch), 2.8 us, 0.5 of it for
the coverage. About 400 index pages go into the WAL with each commit of the first kind. On a disk the checkpoints that
``wal_autocheckpoint`` asks for (at its default every third batch) add 1 to 2 us of CPU and 2 to 9 us of waiting.
Larger batches cost less a row. Opening a file costs 7 us a symbol; 1.2 us a row when its coverage must be counted anew.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from hk_tick_collector.core.clock import Clock, SystemClock
from hk_tick_collector.core.errors import RowRefused, StoreBusy, StoreError, StoreFault, StoreUnavailable
from hk_tick_collector.core.facts import DayFact, Fact, GapFound, NotSubscribed, Unproven
from hk_tick_collector.core.logline import event
from hk_tick_collector.core.tick import Tick
from hk_tick_collector.store.companions import WalLook
from hk_tick_collector.store.connect import (
    SqliteOptions,
    as_store_error,
    keep_orphaned_wal,
    open_day_file,
    translate,
    unavailable,
)
from hk_tick_collector.store.coverage import DayCoverage
from hk_tick_collector.store.layout import day_file, move_companions, set_aside_path, sync_dir
from hk_tick_collector.store.rows import StoredRows, store_rows

MAX_OPEN_DAYS = 2
FAULT_PROBE_ROWS = 20  # tried one by one before a fault of our own is laid at the door of single rows
WAL_LOOK_SEC = 1.0
BUSY_SLICE_MS = 100  # how long one call into SQLite waits for a lock; between two of them interrupt() is heard

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


class WriteResult(NamedTuple):
    """What became of a batch: every row of it is in one of the two counts."""

    inserted_rows: int = 0
    ignored_rows: int = 0  # already stored
    days: tuple[str, ...] = ()
    ignored_unsequenced_rows: int = 0  # of ignored_rows: without a sequence, told apart by their content only
    missing_ticks: int = 0  # known to be missing in the days that are open now
    collisions: int = 0  # of inserted_rows: other ticks with the sequence of a stored one

    def merged(self, other: WriteResult) -> WriteResult:
        """Both results as one; ``other`` is the later one."""
        return WriteResult(
            self.inserted_rows + other.inserted_rows,
            self.ignored_rows + other.ignored_rows,
            tuple(dict.fromkeys(self.days + other.days)),
            self.ignored_unsequenced_rows + other.ignored_unsequenced_rows,
            other.missing_ticks,
            self.collisions + other.collisions,
        )


class _OpenDay(NamedTuple):
    path: Path
    conn: sqlite3.Connection
    identity: tuple[int, int]  # device and inode: is the open file still the one at the path?


class DayFileWriter:
    """Writes ticks to the day files under ``data_root``."""

    def __init__(self, data_root: Path, options: SqliteOptions | None = None, clock: Clock | None = None) -> None:
        self.data_root = data_root
        self._options = options or SqliteOptions()
        self._clock = clock or SystemClock()
        self._open: dict[str, _OpenDay] = {}  # least recently written first
        self._coverage: dict[str, DayCoverage] = {}  # of open days; absent: load it from the file
        self._data_versions: dict[str, int] = {}  # SQLite's mark of what other connections committed
        self._wal_looks: dict[str, WalLook] = {}  # of open days
        self._next_look_sec = 0.0
        self.wal_bytes = 0  # of the open days, as last measured
        self._interrupted = threading.Event()
        self.failed_day: str | None = None  # the trading day of the last write that raised

    def write(self, ticks: Sequence[Tick], facts: Sequence[Fact | DayFact] = ()) -> WriteResult:
        """Store a batch and what the feed learned, one transaction a trading day; returns when all of it is committed.

        Facts that only confirm (HeadProven, Verified, Subscribed, RowsRead) make no file. Raises StoreBusy,
        StoreUnavailable, StoreCorrupt (``failed_day`` says which) or RowRefused; days committed before the error stay
        stored.
        """
        self._interrupted.clear()
        result = WriteResult()
        for day, rows, day_facts in _by_day(ticks, facts):
            if rows or self._wants_file(day, day_facts):
                result = result.merged(self._write_day(day, rows, day_facts))
        return result._replace(missing_ticks=self.missing_ticks)

    def isolate(
        self,
        ticks: Sequence[Tick],
        facts: Sequence[Fact | DayFact] = (),
        of_the_row: tuple[type[StoreError], ...] = (RowRefused,),
    ) -> tuple[WriteResult, list[tuple[Tick, str]]]:
        """Store a batch in which SQLite refuses some rows: halve it until each of them stands alone.

        Returns what was stored, and the refused ticks with the reason, in the order of the batch. The facts go last,
        so that none of them costs a tick. What is not ``of_the_row`` is raised; the whole call may then be repeated.
        """
        result = WriteResult()
        refused: list[tuple[Tick, str]] = []
        parts = [ticks]
        while parts:
            part = parts.pop()
            try:
                result = result.merged(self.write(part))
            except of_the_row as exc:
                if len(part) == 1:
                    refused.append((part[0], str(exc)))
                else:
                    middle = len(part) // 2
                    parts += [part[middle:], part[:middle]]
        try:
            result = result.merged(self.write((), facts))
        except of_the_row as exc:
            _log.error(event("facts_refused", facts=len(facts), error=exc, todo="their days stay unproven"))
        return result, refused

    def isolate_fault(
        self, ticks: Sequence[Tick], facts: Sequence[Fact | DayFact]
    ) -> tuple[WriteResult, list[tuple[Tick, str]]]:
        """As ``isolate``, for a batch that met a fault of the recorder's own code again and again.

        A fault that no row of an even sample escapes is not the rows' own: StoreFault then, and nothing is refused.
        """
        first = self._first_stored(ticks)
        result, refused = self.isolate(ticks, facts, (RowRefused, StoreFault))
        # The row that was stored first is met again, and ignored: it counts once.
        inserted_rows, ignored_rows = result.inserted_rows + first, result.ignored_rows - first
        return result._replace(inserted_rows=inserted_rows, ignored_rows=ignored_rows), refused

    def _first_stored(self, ticks: Sequence[Tick]) -> int:
        """Store one row, the first of an even sample that can be. 1 if it was new, 0 if it was stored already."""
        for tick in ticks[:: -(-len(ticks) // FAULT_PROBE_ROWS)] if ticks else ():
            with contextlib.suppress(StoreFault, RowRefused):
                return self.write([tick]).inserted_rows
        raise StoreFault("no row of the batch can be stored, so the fault is not of single rows")

    def close_day(self, day: str) -> None:
        """Checkpoint and close one day's file; its WAL is gone unless somebody else reads it. Harmless when closed."""
        opened = self._forget(day)
        if opened is None:
            return
        try:
            self._checkpoint_and_close(opened)
        except sqlite3.Error as exc:
            raise translate(exc, opened.path) from exc

    def close(self) -> None:
        """Checkpoint and close all files. The first error is raised after the others were closed too."""
        first_error: StoreError | None = None
        for day in list(self._open):
            try:
                self.close_day(day)
            except StoreError as exc:
                first_error = first_error or exc
        if first_error is not None:
            raise first_error

    def set_aside(self, day: str, reason: str) -> Path | None:
        """Rename a broken day file, with its WAL, to ``YYYYMMDD.db.corrupt-<utc>``; the next write begins a new one.

        Returns the new path, None when there was nothing to rename. StoreUnavailable when the directory refuses.
        """
        path = day_file(self.data_root, day)
        target = set_aside_path(path, self._clock.now_ms())
        try:
            # The database goes last: after a crash in between, the next start still finds it and calls it broken. It is
            # closed afterwards: SQLite does not touch the WAL of a database that has moved.
            move_companions(path, target)
            with contextlib.suppress(FileNotFoundError):
                path.rename(target)
        except OSError as exc:
            raise unavailable(path, exc) from exc
        finally:
            self._drop(day)
        sync_dir(path.parent)
        if not os.path.lexists(target):
            return None
        _log.error(
            event(
                "day_file_set_aside",
                trading_day=day,
                path=path,
                moved_to=target,
                reason=reason,
                todo=f"hk-tickctl salvage {target}",
            )
        )
        return target

    def interrupt(self) -> None:
        """From another thread: make a call that waits or works inside SQLite give up soon; its batch stays unwritten.

        A call that hangs in the kernel does not hear it: abandon that thread and its writer, and write the batch again
        with a new one.
        """
        self._interrupted.set()
        for opened in list(self._open.values()):
            with contextlib.suppress(sqlite3.ProgrammingError):  # closed in the meantime
                opened.conn.interrupt()

    def _look_at_wal(self, day: str, path: Path) -> None:
        """After a commit, at most once a second: measure the WAL, and notice one that another program took away.

        Rows go on into the file without a name then, where no reader finds them, and readers fail: so they are moved
        into the database, and the next write begins on new files.
        """
        now_sec = time.monotonic()
        look = self._wal_looks.get(day)
        if look is not None and now_sec < self._next_look_sec:
            return
        self._next_look_sec = now_sec + WAL_LOOK_SEC
        try:
            if look is None:
                look = self._wal_looks[day] = WalLook(path)
            elif not look.still_there() and _identity(path) == self._open[day].identity:
                self._leave_lost_wal(day, path)
        except (OSError, sqlite3.Error) as exc:  # of a batch that is committed; the next write tells of a sick disk
            _log.warning(event("day_file_wal_unseen", trading_day=day, path=path, error=exc))
        self.wal_bytes = sum(one.wal_bytes for one in self._wal_looks.values())

    def _leave_lost_wal(self, day: str, path: Path) -> None:
        busy, wal_pages, moved_pages = self._open[day].conn.execute("PRAGMA wal_checkpoint(FULL)").fetchone()
        if busy or wal_pages != moved_pages:
            return  # a reader of before holds it up; looked at again in a second
        self._drop(day)
        todo = "leave -wal and -shm of an open file alone; its rows are in the day file now"
        _log.error(event("day_file_wal_removed", trading_day=day, path=path, todo=todo))

    @property
    def open_days(self) -> tuple[str, ...]:
        """Trading days whose file is open, least recently written first."""
        return tuple(self._open)

    @property
    def missing_ticks(self) -> int:
        """Ticks known to be missing in the days that are open now."""
        return sum(coverage.missing_ticks for coverage in self._coverage.values())

    def _wants_file(self, day: str, facts: Sequence[Fact | DayFact]) -> bool:
        if any(isinstance(fact, (GapFound, NotSubscribed, Unproven)) for fact in facts):
            return True
        with contextlib.suppress(ValueError):
            return os.path.lexists(day_file(self.data_root, day))
        return False

    def _write_day(self, day: str, rows: Sequence[Tick], facts: Sequence[Fact | DayFact]) -> WriteResult:
        self.failed_day = day
        try:
            path = day_file(self.data_root, day)
        except ValueError as exc:
            raise RowRefused(str(exc)) from exc
        now_ms = self._clock.now_ms()
        try:
            conn = self._begin(day, path)
            coverage = self._coverage.pop(day, None)
            data_version = conn.execute("PRAGMA data_version").fetchone()[0]
            if coverage is None or data_version != self._data_versions.get(day):
                # Also when another program (salvage, a repair) wrote to the file.
                coverage = DayCoverage.load(conn, day)
            stored = store_rows(conn, coverage, rows, (now_ms,))
            coverage.learn(conn, facts)
            coverage.save(conn, now_ms)
            self._waiting(lambda: conn.execute("COMMIT"))
        except Exception as exc:
            error = as_store_error(exc, path)
            if not isinstance(error, RowRefused) or not self._rolled_back(day):
                self._drop(day)
            if error is exc:
                raise
            raise error from exc
        except BaseException:
            self._drop(day)
            raise
        self._coverage[day] = coverage  # only now is it what the file says
        self._data_versions[day] = data_version
        self.failed_day = None
        self._look_at_wal(day, path)
        _say_collisions(day, stored)
        ignored_rows = len(rows) - stored.inserted_rows
        unsequenced_rows = stored.ignored_unsequenced_rows
        return WriteResult(stored.inserted_rows, ignored_rows, (day,), unsequenced_rows, collisions=stored.collisions)

    def _begin(self, day: str, path: Path) -> sqlite3.Connection:
        """A connection with the day's write lock, to the file that is at ``path`` now that the lock is held: it may
        have been removed or exchanged while we waited."""
        while True:
            conn = self._connection(day, path)
            self._waiting(lambda: conn.execute("BEGIN IMMEDIATE"))  # noqa: B023 - called at once
            if _identity(path) == self._open[day].identity:
                return conn
            conn.execute("ROLLBACK")
            self._leave_replaced(day, path)

    def _connection(self, day: str, path: Path) -> sqlite3.Connection:
        opened = self._open.pop(day, None)
        if opened is not None:
            self._open[day] = opened  # now the last one
            return opened.conn
        while len(self._open) >= MAX_OPEN_DAYS:
            self._close_oldest()
        conn = self._waiting(
            lambda: open_day_file(path, self._options, min(BUSY_SLICE_MS, self._options.busy_timeout_ms))
        )
        try:
            identity = _identity(path)
        except OSError:
            conn.close()
            raise
        if identity is None:
            conn.close()
            raise StoreUnavailable(f"{path} was removed while it was being opened; the rows are written again")
        self._open[day] = _OpenDay(path, conn, identity)
        return conn

    def _leave_replaced(self, day: str, path: Path) -> None:
        """The open file is no longer the one at its path: it was moved, removed or exchanged."""
        _log.error(event("day_file_replaced", trading_day=day, path=path, todo="rows now go to the file at this path"))
        try:
            keep_orphaned_wal(path, self._clock.now_ms())
        except OSError as exc:
            raise unavailable(path, exc) from exc
        self._drop(day)

    def _close_oldest(self) -> None:
        day = next(iter(self._open))
        try:
            self.close_day(day)
        except StoreError as exc:  # its rows are committed; only tidying up failed
            _log.warning(event("day_file_close_failed", trading_day=day, error=exc))

    def _waiting(self, step: Callable[[], _T]) -> _T:
        """Run ``step`` until it meets no lock, the busy timeout is over, or somebody interrupts."""
        give_up_at = time.monotonic() + self._options.busy_timeout_ms / 1000
        while True:
            try:
                return step()
            except (sqlite3.OperationalError, StoreBusy) as exc:
                busy = isinstance(exc, StoreBusy) or isinstance(translate(exc, self.data_root), StoreBusy)
                if not busy or time.monotonic() >= give_up_at or self._interrupted.wait(0.001):
                    raise

    def _rolled_back(self, day: str) -> bool:
        """A refused row says nothing against the connection: keep it when the rollback works."""
        opened = self._open.get(day)
        if opened is None:
            return False
        with contextlib.suppress(sqlite3.Error):
            if opened.conn.in_transaction:
                opened.conn.execute("ROLLBACK")
            return True
        return False

    def _forget(self, day: str) -> _OpenDay | None:
        """Everything that is known of an open file; the caller closes it."""
        self._coverage.pop(day, None)
        self._data_versions.pop(day, None)
        self._wal_looks.pop(day, None)
        self.wal_bytes = sum(look.wal_bytes for look in self._wal_looks.values())
        return self._open.pop(day, None)

    def _drop(self, day: str) -> None:
        """Forget a connection that may be broken; whatever it still complains about changes nothing."""
        opened = self._forget(day)
        if opened is None:
            return
        with contextlib.suppress(sqlite3.Error):
            if opened.conn.in_transaction:
                opened.conn.execute("ROLLBACK")
        with contextlib.suppress(sqlite3.Error):
            opened.conn.close()

    def _checkpoint_and_close(self, opened: _OpenDay) -> None:
        try:
            if self._options.journal_mode.upper() == "WAL":
                opened.conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        finally:
            opened.conn.close()


def _by_day(
    ticks: Sequence[Tick], facts: Sequence[Fact | DayFact]
) -> Iterator[tuple[str, Sequence[Tick], Sequence[Fact | DayFact]]]:
    tick_days = list(dict.fromkeys([tick.trading_day for tick in ticks]))
    for day in dict.fromkeys([*tick_days, *(fact.trading_day for fact in facts)]):
        rows = ticks if tick_days == [day] else [tick for tick in ticks if tick.trading_day == day]
        yield day, rows, [fact for fact in facts if fact.trading_day == day]


def _say_collisions(day: str, stored: StoredRows) -> None:
    for symbol, seq in stored.first_collisions:
        _log.warning(
            event(
                "sequence_collision",
                trading_day=day,
                symbol=symbol,
                seq=seq,
                result="both ticks are stored, the later one without its sequence; the symbol's day is unproven",
            )
        )


def _identity(path: Path) -> tuple[int, int] | None:
    """Device and inode of what is at ``path`` now, None when nothing is. OSError from a disk that does not answer: it
    says nothing about the file."""
    try:
        found = os.stat(path)  # noqa: PTH116 - one call a batch on the hot path
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino
