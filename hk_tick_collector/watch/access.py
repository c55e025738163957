"""Files that this user may not read: told apart from files that are damaged or not there."""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
from pathlib import Path

from hk_tick_collector.core.errors import RecorderError

CLOSED_ADVICE = "use sudo, or join the group that the recorder's files belong to"
DAMAGED_ADVICE = "hk-tickctl verify says more, hk-tickctl salvage copies what can be read"


def check_open(path: Path) -> None:
    """PermissionError when this user may not read a file or look into a directory that is there."""
    if _is_closed(path):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))


def closed_to_us(exc: BaseException) -> str | None:
    """What this user may not read and what to do about it, when that is what the error comes from."""
    path = _closed_path(exc)
    return None if path is None else f"{path} cannot be read ({os.strerror(errno.EACCES)}): {CLOSED_ADVICE}"


def _closed_path(exc: BaseException) -> Path | None:
    cause = exc.__cause__ if isinstance(exc, RecorderError) else exc
    if isinstance(cause, PermissionError) and isinstance(cause.filename, (str, bytes)):
        path = Path(os.fsdecode(cause.filename))
    elif isinstance(cause, sqlite3.OperationalError):  # SQLite says neither which file nor why; our text names the file
        path = Path(str(exc).partition(": ")[0])
    else:
        return None
    for directory in reversed(path.absolute().parents):
        if not os.access(directory, os.X_OK):
            return directory if directory.is_dir() else None
    return path if _is_closed(path) else None


def _is_closed(path: Path) -> bool:
    try:
        is_dir = stat.S_ISDIR(path.stat().st_mode)
    except PermissionError:  # a link into a closed directory
        return True
    except OSError:
        return False
    return not os.access(path, os.R_OK | os.X_OK if is_dir else os.R_OK)
