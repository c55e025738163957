"""What a day file held is kept when another file takes its path: set aside, or read through an open connection."""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

from hk_tick_collector.core.logline import event
from hk_tick_collector.store.connect import as_store_error, keep_orphaned_wal, unavailable
from hk_tick_collector.store.layout import FILE_MODE, move_companions, rescue_path, set_aside_path, sync_dir

_log = logging.getLogger(__name__)


def set_aside(path: Path, now_ms: int) -> Path:
    """Rename a broken day file, with its WAL, to ``YYYYMMDD.db.corrupt-<utc>``, and return the new path, at which there
    is nothing when there was nothing to rename. StoreUnavailable when the directory refuses.

    Close its connection afterwards: SQLite does not touch the WAL of a database that has moved.
    """
    target = set_aside_path(path, now_ms)
    try:
        # The database goes last: after a crash in between, the next start still finds it and calls it broken.
        move_companions(path, target)
        with contextlib.suppress(FileNotFoundError):
            path.rename(target)
    except OSError as exc:
        raise unavailable(path, exc) from exc
    return target


def keep_rows(
    path: Path, conn: sqlite3.Connection, removed: bool, now_ms: int, is_interrupted: Callable[[], bool]
) -> Path | None:
    """What ``conn`` has open is no longer the file at ``path``: give its rows that path when nothing is there
    (``removed``), else one beside it. Returns where they are, None when they cannot be read any more.
    StoreUnavailable when the directory refuses; StoreError when another writer was begun meanwhile."""
    copy = _copy_of_open(path, conn, is_interrupted)
    try:
        keep_orphaned_wal(path, now_ms)
        return _put_back(path, copy, removed, now_ms) if copy is not None else None
    except OSError as exc:
        raise unavailable(path, exc) from exc


def _copy_of_open(path: Path, conn: sqlite3.Connection, is_interrupted: Callable[[], bool]) -> Path | None:
    """A copy of the file that ``conn`` has open, with all its tables; None when it cannot be made."""
    copy = rescue_path(path)
    try:
        copy.unlink(missing_ok=True)
        os.close(os.open(copy, os.O_CREAT | os.O_EXCL | os.O_WRONLY, FILE_MODE))
        conn.execute("VACUUM INTO ?", (str(copy),))
    except (OSError, sqlite3.Error) as exc:
        with contextlib.suppress(OSError):
            copy.unlink(missing_ok=True)
        if is_interrupted():  # another writer is at work by now: leave its files alone
            raise as_store_error(exc, path) from exc
        _log.error(event("day_file_not_rescued", path=path, error=exc))
        return None
    return copy


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
