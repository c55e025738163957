"""Files that appear whole or not at all: written under a hidden name, synced, renamed.

The temporary ``.<name>.hk-tickctl-<pid>.tmp`` stands beside its target and is locked (``flock``) while it is written.
It is removed when the work fails or is interrupted. What a killed process left is recognised by its name, and removed
by the next work in that directory, once the pid is dead and nobody holds the lock (which a process of another
container, whose pid means nothing here, would).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from collections.abc import Iterator
from pathlib import Path

from hk_tick_collector.store.connect import unavailable
from hk_tick_collector.store.layout import sqlite_files, sync_dir

_TEMPORARY = re.compile(r"(\..+\.hk-tickctl-(\d+)\.tmp)(?:-wal|-shm|-journal)?", re.ASCII)
_PUBLIC_MODE = 0o666  # less the umask, as any program's output


def temporary_path(target: Path) -> Path:
    """The hidden name beside ``target`` under which this process writes."""
    return target.with_name(f".{target.name}.hk-tickctl-{os.getpid()}.tmp")


@contextlib.contextmanager
def replacing(target: Path, mode: int = _PUBLIC_MODE) -> Iterator[Path]:
    """An empty file to write to; it becomes ``target``, replacing what is there, when the block ends without an error.

    The block must close what it opened. An OSError of the disk, in the block or here, comes as StoreUnavailable.
    """
    try:
        with new_temporary(target, mode) as path:
            yield path
            sync_file(path)
            path.replace(target)
        sync_dir(target.parent)
    except OSError as exc:
        raise unavailable(target, exc) from exc


@contextlib.contextmanager
def new_temporary(target: Path, mode: int = _PUBLIC_MODE) -> Iterator[Path]:
    """As ``replacing``, but to sync and to rename the file is the block's own affair. OSError as it comes."""
    remove_stale(target.parent)
    path = temporary_path(target)
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, mode)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield path
    finally:
        os.close(descriptor)
        for file in sqlite_files(path):
            file.unlink(missing_ok=True)


def sync_file(path: Path) -> None:
    """Wait until the disk has the file's content; OSError when it cannot take it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_stale(directory: Path) -> list[Path]:
    """Remove what killed processes left in ``directory``; the files removed. One that cannot be removed is left."""
    removed = []
    try:
        entries = list(directory.iterdir())
    except OSError:
        return []
    for path in entries:
        found = _TEMPORARY.fullmatch(path.name)
        if found and not _is_alive(int(found.group(2))) and not _is_locked(path.with_name(found.group(1))):
            with contextlib.suppress(OSError):
                path.unlink()
                removed.append(path)
    return removed


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _is_locked(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False
