"""Deleting day files that are safely put away, and no others.

A day file is deleted only when its archive, read now from its bytes, holds exactly the ticks, coverage and gaps of the
file; the day is over and older than the trading day before today; nothing of it waits in the spill; and no process has
it open. Otherwise it stays, and the reason is said.

What makes this safe beside a recorder that may open the file at any moment:

1. ``exclusively`` turns the file back from a write-ahead log to a plain SQLite file. SQLite does that only while no
   other process has a connection to it, which therefore is proven, also for processes that this user may not see.
2. The plain file is compared with the archive. Any write from now on, by any program, shows in the file's times.
3. It is locked exclusively: a program that opens it now waits before it can read a byte. When nobody wrote to it and
   nobody has it open, it is unlinked under the lock. Who waited finds that the file is gone: the recorder's writer then
   begins a new one (store/writer.py), and the next archive run says that the two must be joined.

A file without a write-ahead log proves nothing in step 1. Then, when there are processes that this user may not look
into, the kernel is asked: it gives a lease for writing (fcntl(2), F_SETLEASE) on a file that nobody has open, and on no
other. Without that proof the file stays.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from hk_tick_collector.archive import books, kept
from hk_tick_collector.archive.atomic import Refused
from hk_tick_collector.archive.pack import check_at_rest
from hk_tick_collector.archive.verify import OnRows, check_day
from hk_tick_collector.core.disk import unavailable
from hk_tick_collector.core.errors import StoreError
from hk_tick_collector.days.manifest import load_manifest
from hk_tick_collector.market.calendar import TradingCalendar
from hk_tick_collector.store.companions import connect_live
from hk_tick_collector.store.connect import identify, translate
from hk_tick_collector.store.inuse import open_elsewhere
from hk_tick_collector.store.layout import day_file, sync_dir

LOCK_TIMEOUT_SEC = 1.0
# The clock that stamps files ticks every 1 to 10 ms: after this long a later write has a later stamp.
STAMP_SEC = 0.02

_Stamp = tuple[int, int, int, int, int]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a day file."""

    trading_day: str
    action: str  # kept | deleted | would delete | refused
    reason: str | None
    rows: int
    freed_bytes: int

    @property
    def fine(self) -> bool:
        """Was done what the rule asks for?"""
        return self.action != "refused"


def due_days(live_days: Sequence[str], keep_days: int, calendar: TradingCalendar, now_ms: int) -> list[str]:
    """The days whose files may go, oldest first: all but the newest ``keep_days`` trading days with a file, and never
    today's or one from the trading day before. A file of a day to come is no recorded day, so it keeps none back."""
    today = calendar.market.trading_day(now_ms)
    newest_first = sorted((day for day in live_days if day <= today), reverse=True)
    oldest_kept = calendar.previous_trading_day(today)
    return sorted(day for day in newest_first[keep_days:] if day < oldest_kept)


def retain_day(
    data_root: Path,
    archive_root: Path,
    day: str,
    calendar: TradingCalendar,
    now_ms: int,
    *,
    dry_run: bool = False,
    is_copy: bool = False,
    on_rows: OnRows | None = None,
) -> Verdict:
    """Delete a due day's file if that is safe, inside ``atomic.only_job(archive_root)``. ``dry_run`` looks and changes
    nothing; ``is_copy`` as of ``check_day``. Never raises for a reason to keep the file: the verdict has it."""
    db = day_file(data_root, day)
    check = partial(_check_archived, archive_root, day, db, on_rows, is_copy)
    try:
        size_bytes = db.stat().st_size
        check_at_rest(data_root, day, calendar, now_ms)
        _check_closed(db)
        if dry_run:
            rows = check()
            return Verdict(day, "would delete", None, rows, size_bytes)
        rows = _delete(db, check)
        manifest = load_manifest(archive_root, day)
        if manifest is not None:
            kept.leave_to_archive(data_root, manifest)
            books.leave_to_archive(data_root, manifest)
    except Refused as exc:
        return Verdict(day, "refused", str(exc), 0, 0)
    except (StoreError, OSError) as exc:
        return Verdict(day, "refused", f"{db} stays: {exc}", 0, 0)
    return Verdict(day, "deleted", None, rows, size_bytes)


def _delete(db: Path, check: Callable[[], int]) -> int:
    had_log = _make_plain(db)
    try:
        stamp = _settled_stamp(db)
        rows = check()
        caveat = open_elsewhere(db).caveat
        if caveat is not None and not had_log and not _is_closed_everywhere(db):
            raise Refused(f"{db} may be open elsewhere: {caveat}")
        with exclusively(db):
            if _stamp(db) != stamp:
                raise Refused(f"{db} was written to while it was compared with its archive")
            _check_closed(db)
            db.unlink()
    except BaseException:
        if had_log:
            _make_logged(db)
        raise
    sync_dir(db.parent)
    return rows


def _check_closed(db: Path) -> None:
    elsewhere = open_elsewhere(db)
    if elsewhere.pids:
        raise Refused(f"{db} is open in {elsewhere.holders}")


def _is_closed_everywhere(db: Path) -> bool:
    """Does the kernel say so? Not while this process has the file open itself."""
    descriptor = os.open(db, os.O_RDONLY)
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)  # of one who comes meanwhile; ignored unless handled
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_WRLCK)
    except OSError:  # somebody has it open, or the file system knows no leases
        return False
    finally:
        os.close(descriptor)
    return True


def _check_archived(archive_root: Path, day: str, db: Path, on_rows: OnRows | None, is_copy: bool) -> int:
    """The rows that the archive and the file both hold. ``Refused`` unless they hold the same."""
    check = check_day(archive_root, day, db, on_rows, is_copy=is_copy)
    if not check.fine:
        raise Refused(f"{db} stays: {'; '.join(check.problems)}")
    return check.rows


def _make_plain(db: Path) -> bool:
    """Turn the file into one without a write-ahead log; was there one? ``Refused`` while another process is connected
    to it."""
    with closing(_connect(db)) as conn:
        try:
            identify(conn, db)
            had_log = conn.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
            mode = conn.execute("PRAGMA journal_mode = DELETE").fetchone()[0]
        except sqlite3.Error as exc:
            raise _in_use(exc, db) from exc
    if mode != "delete":
        raise Refused(f"{db} is open in another program")
    return bool(had_log)


def _make_logged(db: Path) -> None:
    """As the recorder left it, so that the next run has its proof; a process that has it open now does that itself."""
    with contextlib.suppress(sqlite3.Error, StoreError), closing(_connect(db)) as conn:
        conn.execute("PRAGMA journal_mode = WAL").fetchall()


@contextlib.contextmanager
def exclusively(db: Path) -> Iterator[None]:
    """Hold a plain file's exclusive lock: nobody else can read or write it. ``Refused`` when somebody has it.

    Inside the block this process must not open and close the file: POSIX would drop the lock.
    """
    with closing(_connect(db)) as conn:
        try:
            conn.execute("BEGIN EXCLUSIVE")
            mode = conn.execute("PRAGMA journal_mode").fetchone()[0]
        except sqlite3.Error as exc:
            raise _in_use(exc, db) from exc
        if mode != "delete":
            raise Refused(f"{db} was opened by another program meanwhile")
        yield


def _connect(db: Path) -> sqlite3.Connection:
    try:
        return connect_live(db, "rw", LOCK_TIMEOUT_SEC)
    except sqlite3.Error as exc:
        raise translate(exc, db) from exc


def _in_use(exc: sqlite3.Error, db: Path) -> Exception:
    return Refused(f"{db} is open in another program") if "locked" in str(exc) else translate(exc, db)


def _settled_stamp(db: Path) -> _Stamp:
    """The file's stamp, once it is so old that a later write must have another one."""
    while True:
        stamp = _stamp(db)
        age_sec = time.time() - stamp[-1] / 1e9
        if not 0 <= age_sec < STAMP_SEC:
            return stamp
        time.sleep(STAMP_SEC - age_sec)


def _stamp(db: Path) -> _Stamp:
    try:
        status = db.stat()
    except OSError as exc:
        raise unavailable(db, exc) from exc
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
