"""What a day file held is kept when another file takes its path: set aside, or read through an open connection."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from hk_tick_collector.core.disk import unavailable
from hk_tick_collector.core.errors import StoreUnavailable
from hk_tick_collector.core.logline import event
from hk_tick_collector.store.connect import keep_orphaned_wal
from hk_tick_collector.store.layout import FILE_MODE, move_companions, rescue_path, set_aside_path, sync_dir

Inode = tuple[int, int]  # of a file: device and inode

_log = logging.getLogger(__name__)


def set_aside(path: Path, now_ms: int) -> Path | None:
    """Rename a broken file of a day, with its WAL, to ``NAME.corrupt-<utc>``; the new path, None when there was nothing
    to rename. StoreUnavailable when the directory refuses.

    A connection to it may be closed afterwards: SQLite does not touch the WAL of a database that has moved.
    """
    target = set_aside_path(path, now_ms)
    try:
        # The database goes last: after a crash in between, the next start still finds it and calls it broken.
        move_companions(path, target)
        path.rename(target)
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise unavailable(path, exc) from exc
    finally:
        sync_dir(path.parent)
    return target


class Kept(NamedTuple):
    """Where the rows of a file are that was taken away, None where they could not be copied; and whether another writer
    goes on with its path."""

    rows_at: Path | None
    is_left_to_another: bool


def keep_rows(path: Path, conn: sqlite3.Connection, now_ms: int, is_interrupted: Callable[[], bool]) -> Kept:
    """What ``conn`` has open is no longer the file at ``path``: give its rows that path when nothing is there, else one
    beside it. StoreUnavailable when the directory refuses. When another writer was begun meanwhile
    (``is_interrupted``), what is at ``path`` is its own, and is not touched."""
    removed = inode_of(path) is None
    copy = _copy_of_open(path, conn, is_interrupted)
    is_left_to_another = is_interrupted()
    kept = None
    try:
        if not is_left_to_another:
            keep_orphaned_wal(path, now_ms)
        if copy is not None:
            kept = _put_back(path, copy, removed and not is_left_to_another, now_ms)
    except OSError as exc:
        raise unavailable(path, exc) from exc
    return Kept(kept, is_left_to_another)


def keep_aside(path: Path, conn: sqlite3.Connection, now_ms: int, is_interrupted: Callable[[], bool]) -> Path | None:
    """As ``keep_rows``, of a file whose path another one has had for a while: its companions are not touched."""
    copy = _copy_of_open(path, conn, is_interrupted)
    try:
        return None if copy is None else _put_back(path, copy, removed=False, now_ms=now_ms)
    except OSError as exc:
        raise unavailable(path, exc) from exc


def inode_of(path: Path) -> Inode | None:
    """What stands at a path; None for nothing. StoreUnavailable from a disk that does not answer: it says nothing about
    the file."""
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise unavailable(path, exc) from exc
    return stat.st_dev, stat.st_ino


def inode_of_open(path: Path) -> Inode:
    """Of a file that was opened just now. StoreUnavailable when it has gone again: its rows would have no name."""
    inode = inode_of(path)
    if inode is None:
        raise StoreUnavailable(f"{path} was removed while it was being opened; the rows are written again")
    return inode


def todo_of(aside: Path) -> str:
    """What to do about a damaged file of books or snapshots that was set aside."""
    return f'recording goes on in a new file; check the disk, and save what can be read: sqlite3 {aside} ".recover"'


def _copy_of_open(path: Path, conn: sqlite3.Connection, is_interrupted: Callable[[], bool]) -> Path | None:
    """A copy of the file that ``conn`` has open, with all its tables; None when it cannot be made."""
    copy = rescue_path(path)
    while True:
        was_interrupted = is_interrupted()
        try:
            copy.unlink(missing_ok=True)
            _check_room(conn, copy.parent)
            os.close(os.open(copy, os.O_CREAT | os.O_EXCL | os.O_WRONLY, FILE_MODE))
            conn.execute("VACUUM INTO ?", (str(copy),))
        except (OSError, sqlite3.Error) as exc:
            with contextlib.suppress(OSError):
                copy.unlink(missing_ok=True)
            if is_interrupted() and not was_interrupted:
                continue  # only by whoever went on without us: nobody waits for it now, and nobody else can read it
            _log.error(event("day_file_not_rescued", path=path, error=exc))
            return None
        return copy


def _check_room(conn: sqlite3.Connection, directory: Path) -> None:
    """OSError when a copy does not fit: it would fill the disk for everybody who writes there, and go again."""
    names = ("page_count", "freelist_count", "page_size")
    pages, unused_pages, page_bytes = (conn.execute(f"PRAGMA {name}").fetchone()[0] for name in names)
    size_bytes = (pages - unused_pages) * page_bytes
    disk = os.statvfs(directory)
    free_bytes = disk.f_bavail * disk.f_frsize
    if size_bytes > free_bytes:
        raise OSError(errno.ENOSPC, f"{size_bytes:,} bytes do not fit into the {free_bytes:,} that are free")


def _put_back(path: Path, copy: Path, removed: bool, now_ms: int) -> Path:
    """Give the copy its name, but never that of a file which is there."""
    target = path if removed else set_aside_path(path, now_ms)
    try:
        target.hardlink_to(copy)
    except FileExistsError:
        target = set_aside_path(path, now_ms)
        target.hardlink_to(copy)
    copy.unlink()
    sync_dir(path.parent)
    return target
