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
from hk_tick_collector.store.atomic import create_file, make_own_dir, open_lock_file, sync_file
from hk_tick_collector.store.layout import FILE_MODE, sync_dir

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
    make_own_dir(directory)
    descriptor = open_lock_file(directory / lock_file)
    try:
        _lock(descriptor, fcntl.LOCK_EX, directory)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def beside_readers(directory: Path) -> Iterator[None]:
    """Hold the lock together with other readers; without a lock file nobody ever worked there. ``Busy`` as above."""
    try:
        descriptor = os.open(directory / LOCK_FILE, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
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


def part_of(path: Path) -> Path:
    """The temporary name of a file."""
    return path.with_name(f".{path.name}{PART_SUFFIX}")


def new_part(path: Path) -> Path:
    """An empty file under the temporary name of ``path``, with the mode and owner that ``path`` is to have."""
    make_own_dir(path.parent)
    part = part_of(path)
    part.unlink(missing_ok=True)
    os.close(create_file(part, FILE_MODE))
    return part


def write_part(path: Path, text: str) -> Path:
    """The whole of a small file under its temporary name, synced."""
    part = new_part(path)
    part.write_text(text, encoding="utf-8")
    sync_file(part)
    return part


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
