"""What keeps an archive whole whatever happens to the program: one job at a time, and files that appear complete.

A file is written as ``.<name>.part`` beside its place, synced, and renamed. Jobs on the same directory hold a lock that
ends with the process, however that dies; so a part found under the exclusive lock belongs to nobody and is removed.
New files are 0640 and directories 0750; what root makes belongs to the owner of the directory it is made in, so that
the service can go on with it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

from hk_tick_collector.core.errors import RecorderError
from hk_tick_collector.store.layout import FILE_MODE, make_dir, sync_dir

LOCK_FILE = ".archive.lock"
PART_SUFFIX = ".part"
_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Refused(RecorderError):
    """The work would put stored ticks at risk; nothing was changed."""


class Busy(RecorderError):
    """Another job works on the same archive."""


@contextlib.contextmanager
def only_job(directory: Path, lock_file: str = LOCK_FILE) -> Iterator[None]:
    """Hold the directory's lock, alone; it is made when it is not there. ``Busy`` when somebody else works there."""
    own_dir(directory)
    path = directory / lock_file
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, FILE_MODE)
    try:
        hand_over(path)
        _lock(descriptor, fcntl.LOCK_EX, directory)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def beside_readers(directory: Path) -> Iterator[None]:
    """Hold the lock together with other readers; without a lock file nobody ever worked there. ``Busy`` as above."""
    try:
        descriptor = os.open(directory / LOCK_FILE, os.O_RDONLY)
    except OSError:
        yield
        return
    try:
        _lock(descriptor, fcntl.LOCK_SH, directory)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, kind: int, directory: Path) -> None:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError as exc:
        raise Busy(f"another job works on {directory}; wait for it to end") from exc


def own_dir(path: Path) -> None:
    """Make a directory and its parents. OSError when the system refuses."""
    missing = [one for one in (path, *path.parents) if not one.exists()]
    make_dir(path)
    for directory in reversed(missing):
        hand_over(directory)
        sync_dir(directory.parent)


def hand_over(path: Path) -> None:
    """Give what root made to the owner of its directory."""
    if os.geteuid() == 0:
        owner = path.parent.stat()
        with contextlib.suppress(OSError):
            os.chown(path, owner.st_uid, owner.st_gid)


def part_of(path: Path) -> Path:
    """The temporary name of a file."""
    return path.with_name(f".{path.name}{PART_SUFFIX}")


def new_part(path: Path) -> Path:
    """An empty file under the temporary name of ``path``, with the mode and owner that ``path`` is to have."""
    own_dir(path.parent)
    part = part_of(path)
    part.unlink(missing_ok=True)
    os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, FILE_MODE))
    hand_over(part)
    return part


def write_part(path: Path, text: str) -> Path:
    """The whole of a small file under its temporary name, synced."""
    part = new_part(path)
    part.write_text(text, encoding="utf-8")
    sync(part)
    return part


def sync(path: Path, *, forget: bool = False) -> None:
    """Bring a file's bytes to the disk. ``forget`` also lets go of the copy in memory: who reads it next, reads what
    the disk has."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        if forget:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def rename(path: Path, target: Path) -> None:
    """Rename, for good."""
    path.replace(target)
    sync_dir(target.parent)


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold Ctrl-C and requests to stop back until the block ends: it is a few renames long.

    By handlers, not by the thread's signal mask: Arrow's threads would take the signal, and Python runs its handler in
    the main thread all the same.
    """
    if threading.current_thread() is not threading.main_thread():  # it hears no signals
        yield
        return
    held: list[int] = []
    before = {number: signal.signal(number, lambda number, _: held.append(number)) for number in _STOPPING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        for caught in held:
            signal.raise_signal(caught)
