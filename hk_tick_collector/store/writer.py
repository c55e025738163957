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
- A file that was moved or removed under the writer is noticed before the next batch goes into it, and what it held is
  kept. One that something else than SQLite wrote to is read from end to end; if it is damaged, StoreCorrupt says so.

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
from typing import TypeVar

from hk_tick_collector.core.clock import Clock, SystemClock
from hk_tick_collector.core.errors import RowRefused, StoreBusy, StoreCorrupt, StoreError, StoreUnavailable
from hk_tick_collector.core.evidence import EvidenceLevel
from hk_tick_collector.core.facts import (
    CAUTIONS,
    DETAILS,
    Amended,
    DayFact,
    Fact,
    GapFound,
    Interrupted,
    NotSubscribed,
    Unproven,
)
from hk_tick_collector.core.logline import event
from hk_tick_collector.market.registry import DEFAULT_MARKET, MARKETS
from hk_tick_collector.records.tick import FIRST_ORIGIN, Origin, Tick
from hk_tick_collector.store import refusals, rescue
from hk_tick_collector.store.before_file import FactsBeforeFile
from hk_tick_collector.store.companions import Mark, WalLook, connect_live
from hk_tick_collector.store.connect import (
    SqliteOptions,
    as_store_error,
    has_no_room,
    open_day_file,
    translate,
)
from hk_tick_collector.store.coverage import DayCoverage
from hk_tick_collector.store.details import store_details
from hk_tick_collector.store.layout import day_file
from hk_tick_collector.store.open_day import OpenDay
from hk_tick_collector.store.reading import changed_ms, rows_if_sound
from hk_tick_collector.store.rows import StoredRows, store_rows
from hk_tick_collector.store.taken import TakenFiles
from hk_tick_collector.store.write_result import WriteResult

MAX_OPEN_DAYS = 2
MAX_LEFT_DAYS = 8  # whose files are known again when they are opened again
WAL_LOOK_SEC = 1.0
COUNT_AT_ONCE_SEC, COUNT_PAUSE = 0.01, 20  # counting after others takes a twentieth of the writer's time at most
UNREAD_AGAIN_SEC = 60.0
FRESH_TIMEOUT_SEC = 5.0  # for a lock on a file that others have changed
BUSY_SLICE_MS = 100  # how long one call into SQLite waits for a lock; between two of them interrupt() is heard

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


class DayFileWriter:
    """Writes ticks to the day files under ``data_root``; ``origin``: what they say of their market and provider;
    ``evidence``: whether sequences count the ticks, or only tell them apart."""

    def __init__(
        self,
        data_root: Path,
        options: SqliteOptions | None = None,
        clock: Clock | None = None,
        origin: Origin = FIRST_ORIGIN,
        evidence: EvidenceLevel = EvidenceLevel.COUNTER,
    ) -> None:
        self.data_root = data_root
        self._counts = evidence is EvidenceLevel.COUNTER
        self._by_total = evidence is EvidenceLevel.RUNNING_TOTAL
        self._origin = origin
        self._options = options or SqliteOptions()
        self._clock = clock or SystemClock()
        self._open: dict[str, OpenDay] = {}  # least recently written first
        self._unsure: dict[str, float] = {}  # days that others wrote to past SQLite: to be read, not before (monotonic)
        self._before_file = FactsBeforeFile()
        self._replaced_files = 0  # since the last result
        self._foreign: set[str] = set()  # days whose file was exchanged, until our first commit to it
        self._left: dict[str, Mark] = {}  # the file of each day, as we last left it open or closed
        self._next_look_sec = 0.0
        self.wal_bytes = 0  # of the open days, as last measured
        self._interrupted = threading.Event()
        self._taken = TakenFiles(self._clock.now_ms, self._interrupted.is_set)
        self.failed_day: str | None = None  # the trading day of the last write that raised

    def write(self, ticks: Sequence[Tick], facts: Sequence[Fact | DayFact] = ()) -> WriteResult:
        """Store a batch and what the feed learned, one transaction a trading day; returns when all of it is committed.

        Facts that only confirm (HeadProven, Verified, Subscribed, RowsRead) make no file; what is subscribed, and what
        symbols are, is kept for the one that the day's first row makes. Raises StoreBusy, StoreUnavailable,
        StoreCorrupt (``failed_day`` says which) or RowRefused; days committed before the error stay stored.
        """
        self._interrupted.clear()
        result = WriteResult()
        for day, rows, day_facts in _by_day(ticks, facts):
            if rows or self._wants_file(day, day_facts):
                before_file = self._before_file.of(day)
                result = result.merged(self._write_day(day, rows, [*before_file, *day_facts]))
                if before_file:
                    self._before_file.forget()
            else:
                self._before_file.keep(day, day_facts)
        replaced_files, self._replaced_files = self._replaced_files, 0
        return result._replace(
            missing_ticks=self.missing_ticks, unseen_ticks=self.unseen_ticks, replaced_files=replaced_files
        )

    def isolate(
        self, ticks: Sequence[Tick], facts: Sequence[Fact | DayFact] = ()
    ) -> tuple[WriteResult, list[tuple[Tick, str]]]:
        """Store a batch in which SQLite refuses some rows; what was stored, and the refused ticks with the reason, in
        the order of the batch (``refusals.isolate``). What is no RowRefused is raised; the call may be repeated."""
        return refusals.isolate(self, ticks, facts)

    def isolate_fault(
        self, ticks: Sequence[Tick], facts: Sequence[Fact | DayFact]
    ) -> tuple[WriteResult, list[tuple[Tick, str]]]:
        """As ``isolate``, for a batch that met a fault of the recorder's own code again and again; StoreFault when it
        is not of single rows."""
        return refusals.isolate_fault(self, ticks, facts)

    def close_day(self, day: str) -> None:
        """Checkpoint and close one day's file; its WAL is gone unless somebody else reads it. Harmless when closed.
        What a file held that was moved, removed or exchanged since the last write is kept. StoreError."""
        opened = self._open.get(day)
        if opened is None:
            return
        try:
            mark = _mark(opened.path)
            if not opened.is_at(mark):
                self._leave_replaced(day, opened, removed=mark is None)
                return
            self._forget(day)
            opened.checkpoint_and_close(self._options.journal_mode)
        except (OSError, sqlite3.Error) as exc:
            self._drop(day)
            raise as_store_error(exc, opened.path) from exc

    def close(self) -> None:
        """Checkpoint and close all files. The first error is raised after the others were closed too."""
        first_error: StoreError | None = None
        for day in list(self._open):
            try:
                self.close_day(day)
            except StoreError as exc:
                first_error = first_error or exc
        self._taken.try_again(is_last=True)
        if first_error is not None:
            raise first_error

    def set_aside(self, day: str, reason: str) -> Path | None:
        """Rename a broken day file, with its WAL, to ``YYYYMMDD.db.corrupt-<utc>``; the next write begins a new one.

        Returns the new path, None when there was nothing to rename. StoreUnavailable when the directory refuses.
        """
        path = day_file(self.data_root, day)
        try:
            target = rescue.set_aside(path, self._clock.now_ms())
        finally:
            self._drop(day)
            self._left.pop(day, None)
        if target is None:
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

    def _measure_wal(self) -> None:
        looks = [opened.wal_look for opened in self._open.values()]
        self.wal_bytes = sum(look.wal_bytes for look in looks if look is not None)

    def _leave_lost_wal(self, day: str, opened: OpenDay) -> None:
        busy, wal_pages, moved_pages = opened.conn.execute("PRAGMA wal_checkpoint(FULL)").fetchone()
        if busy or wal_pages != moved_pages:
            return  # a reader of before holds it up; looked at again in a second
        self._drop(day)
        todo = "leave -wal and -shm of an open file alone; its rows are in the day file now"
        _log.error(event("day_file_wal_removed", trading_day=day, path=opened.path, todo=todo))

    @property
    def missing_ticks(self) -> int:
        """Ticks known to be missing in the days that are open now."""
        return sum(coverage.missing_ticks for coverage in self._known_coverages())

    @property
    def unseen_ticks(self) -> int:
        """How many at most may have come before the first ticks seen of these days."""
        return sum(coverage.unseen_ticks for coverage in self._known_coverages())

    def _known_coverages(self) -> list[DayCoverage]:
        return [opened.coverage for opened in self._open.values() if opened.coverage is not None]

    def _wants_file(self, day: str, facts: Sequence[Fact | DayFact]) -> bool:
        if any(isinstance(fact, (Amended, GapFound, Interrupted, NotSubscribed, Unproven)) for fact in facts):
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
            opened = self._begin(day, path)
            conn = opened.conn
            data_version = conn.execute("PRAGMA data_version").fetchone()[0]
            coverage = self._known_coverage(day, opened, data_version)
            if day in self._foreign:
                coverage.interrupt_all(conn)
            coverage.learn(conn, [fact for fact in facts if isinstance(fact, CAUTIONS)])
            stored = store_rows(conn, coverage, coverage.told_apart(conn, rows), (now_ms,), self._origin)
            coverage.learn(conn, [fact for fact in facts if not isinstance(fact, (*CAUTIONS, *DETAILS))])
            store_details(conn, facts)
            coverage.save(conn, now_ms)
            self._waiting(lambda: conn.execute("COMMIT"))
        except Exception as exc:
            error = as_store_error(exc, path)
            if not isinstance(error, RowRefused) or not self._rolled_back(day):
                self._drop(day)
            if has_no_room(exc):
                self._taken.let_go()
            if error is exc:
                raise
            raise error from exc
        except BaseException:
            self._drop(day)
            raise
        opened.coverage = coverage  # only now is it what the file says
        opened.data_version = data_version
        self._foreign.discard(day)
        self.failed_day = None
        self._look_at_wal(day, opened)
        self._note_mark(day, opened)
        self._taken.try_again()
        _say_collisions(day, stored)
        ignored_rows = len(rows) - stored.inserted_rows
        unsequenced_rows = stored.ignored_unsequenced_rows
        return WriteResult(stored.inserted_rows, ignored_rows, (day,), unsequenced_rows, collisions=stored.collisions)

    def _begin(self, day: str, path: Path) -> OpenDay:
        """The open day with its write lock, on the file that is at ``path`` now that the lock is held: it may have been
        removed, exchanged or written over while we waited."""
        while True:
            opened = self._open_day(day, path)
            self._waiting(lambda: opened.conn.execute("BEGIN IMMEDIATE"))  # noqa: B023 - called at once
            mark = _mark(path)
            if not opened.is_at(mark):
                opened.conn.execute("ROLLBACK")
                self._leave_replaced(day, opened, removed=mark is None)
                continue
            if opened.left_as is not None and mark != opened.left_as and opened.is_last_writer():
                self._read_anew(day, opened)
            if day in self._open:
                return opened

    def _open_day(self, day: str, path: Path) -> OpenDay:
        opened = self._open.pop(day, None)
        if opened is not None:
            self._open[day] = opened  # now the last one
            return opened
        while len(self._open) >= MAX_OPEN_DAYS:
            self._close_oldest()
        conn = self._waiting(
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
        opened = self._open[day] = OpenDay(path, conn, mark)
        self._note_opened(day, path, mark)
        return opened

    def _note_opened(self, day: str, path: Path, mark: Mark) -> None:
        """Is it the file that we closed?"""
        left = self._left.pop(day, mark)
        if (left.device, left.inode) != (mark.device, mark.inode):
            self._met_foreign(day)
            todo = "rows now go to the file at this path; what OpenD still has is fetched"
            _log.warning(event("day_file_replaced", trading_day=day, path=path, kept="", todo=todo))
        self._left[day] = mark
        while len(self._left) > MAX_LEFT_DAYS:
            del self._left[next(iter(self._left))]

    def _met_foreign(self, day: str) -> None:
        self._replaced_files += 1
        self._foreign.add(day)

    def _note_mark(self, day: str, opened: OpenDay) -> None:
        """How our commit left the file. One that is still to be read keeps its old mark."""
        if day not in self._open or self._unsure.get(day):
            return
        self._unsure.pop(day, None)
        with contextlib.suppress(OSError):  # of a batch that is committed
            opened.left_as = _mark(opened.path)

    def _known_coverage(self, day: str, opened: OpenDay, data_version: int) -> DayCoverage:
        """The coverage of an open day, loaded again when another program (salvage, a repair) committed. Until the
        commit it is nobody's: after an error it is loaded again."""
        conn = opened.conn
        coverage = ours = opened.coverage
        opened.coverage = None
        if coverage is None or ours is None:
            return self._load(conn, day, None if day in self._unsure else changed_ms(opened.path))
        if data_version != opened.data_version:
            opened.count_at_sec = opened.count_at_sec or 0.0
            coverage = self._load(conn, day, changed_ms=0)
        started_sec = time.monotonic()
        if opened.count_at_sec is not None and started_sec >= opened.count_at_sec:
            coverage = self._load(conn, day)  # rows may be gone
            took_sec = time.monotonic() - started_sec
            opened.count_at_sec = started_sec + took_sec * COUNT_PAUSE if took_sec > COUNT_AT_ONCE_SEC else None
        if coverage is not ours and not coverage.holds(ours):
            self._met_foreign(day)
        return coverage

    def _load(self, conn: sqlite3.Connection, day: str, changed_ms: int | None = None) -> DayCoverage:
        market = MARKETS.get(self._origin.market, DEFAULT_MARKET)
        return DayCoverage.load(conn, day, changed_ms, counts=self._counts, by_total=self._by_total, market=market)

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
        self._drop(day)
        self._unsure[day] = 0.0
        if rows != committed_rows:
            self._met_foreign(day)

    def _leave_replaced(self, day: str, opened: OpenDay, *, removed: bool) -> None:
        """The open file is no longer the one at its path: it was moved, removed or exchanged. What it holds is still
        read through our connection: it becomes the new file, or is set aside where there is another one."""
        self._replaced_files += 1
        self._left.pop(day, None)
        path = opened.path
        try:
            kept = rescue.keep_rows(path, opened.conn, removed, self._clock.now_ms(), self._interrupted.is_set)
            if kept is None and self._forget(day) is not None:
                self._taken.hold(path, opened.conn)
        finally:
            self._drop(day)
        if kept != path:
            self._foreign.add(day)
        if kept == path:
            todo = "its rows are in the new file; find out who took it away"
        elif kept is not None:
            todo = f"rows now go to the file at this path; bring back what it had: hk-tickctl salvage {kept}"
        else:
            todo = "rows now go to the file at this path; what OpenD still has is fetched, and a copy is tried again"
        _log.error(event("day_file_replaced", trading_day=day, path=path, kept=kept or "", todo=todo))

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
        return opened is not None and opened.roll_back()

    def _forget(self, day: str) -> OpenDay | None:
        """Everything that is known of an open file; the caller closes it."""
        self._unsure.pop(day, None)
        opened = self._open.pop(day, None)
        self._measure_wal()
        return opened

    def _drop(self, day: str) -> None:
        """Forget a connection that may be broken."""
        opened = self._forget(day)
        if opened is not None:
            opened.drop()


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


def _mark(path: Path) -> Mark | None:
    """What is at ``path`` now, None when nothing is. OSError from a disk that does not answer: it says nothing about
    the file."""
    try:
        stat = os.stat(path)  # noqa: PTH116 - two calls a batch on the hot path
    except FileNotFoundError:
        return None
    return Mark(stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns)
