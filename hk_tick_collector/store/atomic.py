"""Files that appear whole or not at all: written under a hidden name, synced, renamed. The one place for that.

The temporary ``.<name>.hk-tickctl-<pid>.tmp`` stands beside its target and is locked (``flock``) while it is written.
It is removed when the work fails or is interrupted. What a killed process left is recognised by its name, and removed
by the next work in that directory, once the pid is dead and nobody holds the lock (which a process of another
container, whose pid means nothing here, would).

No file is ever made through a link: who may write to the directory could have planted one. What root makes belongs to
the owner of its directory (``owner.hand_over``).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from hk_tick_collector.core.disk import unwritable
from hk_tick_collector.store.layout import FILE_MODE, make_dir, sqlite_files, sync_dir
from hk_tick_collector.store.owner import hand_over

PUBLIC_MODE = 0o666  # less the umask, as any program's output

_TEMPORARY = re.compile(r"(\..+\.hk-tickctl-(\d+)\.tmp)(?:-wal|-shm|-journal)?", re.ASCII)


def temporary_path(target: Path) -> Path:
    """The hidden name beside ``target`` under which this process writes."""
    return target.with_name(f".{target.name}.hk-tickctl-{os.getpid()}.tmp")


def create_file(path: Path, mode: int) -> int:
    """A new, empty file of the directory's owner; its descriptor, to read and write. FileExistsError when anything,
    also a link, has the name."""
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_RDWR, mode)
    if mode != PUBLIC_MODE:  # an output belongs to who asked for it
        hand_over(descriptor, path.parent)
    return descriptor


def open_lock_file(path: Path) -> int:
    """The descriptor of a lock file, made when it is not there. OSError when the name stands for anything else."""
    with contextlib.suppress(FileExistsError):
        return create_file(path, FILE_MODE)
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "is not a regular file", str(path))
    return descriptor


def make_own_dir(path: Path) -> None:
    """Make a directory and its parents, synced, each of its parent's owner. OSError when the system refuses."""
    missing = [directory for directory in (path, *path.parents) if not directory.exists()]
    make_dir(path)
    for directory in reversed(missing):
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            hand_over(descriptor, directory.parent)
        finally:
            os.close(descriptor)
        sync_dir(directory.parent)


@contextlib.contextmanager
def replacing(target: Path, mode: int = PUBLIC_MODE) -> Iterator[Path]:
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
        raise unwritable(target, exc) from exc


@contextlib.contextmanager
def new_temporary(target: Path, mode: int = PUBLIC_MODE) -> Iterator[Path]:
    """As ``replacing``, but to sync and to rename the file is the block's own affair. OSError as it comes."""
    remove_stale(target.parent)
    path = temporary_path(target)
    descriptor = create_file(path, mode)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield path
    finally:
        os.close(descriptor)
        for file in sqlite_files(path):
            file.unlink(missing_ok=True)


def write_whole(path: Path, text: str) -> Path:
    """A small file in one step, 0640, its directory made when it is not there. OSError when the disk refuses."""
    make_own_dir(path.parent)
    with new_temporary(path, FILE_MODE) as part:
        part.write_text(text, encoding="utf-8", errors="backslashreplace")
        sync_file(part)
        part.replace(path)
    sync_dir(path.parent)
    return path


def sync_file(path: Path, *, forget: bool = False) -> None:
    """Wait until the disk has the file's content; OSError when it cannot take it. ``forget`` also lets go of the copy
    in memory: who reads it next, reads what the disk has."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        if forget:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
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
        match = _TEMPORARY.fullmatch(path.name)
        if match and not is_alive(int(match.group(2))) and not _is_locked(path.with_name(match.group(1))):
            with contextlib.suppress(OSError):
                path.unlink()
                removed.append(path)
    return removed


def is_alive(pid: int) -> bool:
    """Is there a process of this number?"""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _is_locked(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return False
    except OSError as exc:
        return exc.errno != errno.ELOOP  # a link is none of ours, and nobody writes to it
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False
