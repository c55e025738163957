"""Directories for the temporary files of the reading processes: one a process, and none outlives it for long.

A process that is killed leaves its files behind. Its server removes them; when the server is killed, the process ends
and removes them itself; when both are killed, the next server does. It knows them by the lock that a server holds on
each of its directories for as long as it lives, and it touches no directory of another user.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

PREFIX = "hk-tick-api-"


class Scratch:
    """A directory that is ours while this process lives."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor

    def remove(self) -> None:
        """With all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        with contextlib.suppress(OSError):
            os.close(self._descriptor)


def make() -> Scratch | None:
    """A new one where this process has its temporary files; None where there is no place."""
    try:
        path = Path(tempfile.mkdtemp(prefix=PREFIX))
        held = _hold(path)
    except OSError:
        return None
    return None if held is None else Scratch(path, held)


def remove_abandoned() -> None:
    """Those that no server holds any more."""
    for path in _ours():
        with contextlib.suppress(OSError):
            held = _hold(path)
            if held is not None:
                Scratch(path, held).remove()


def _ours() -> Iterator[Path]:
    with contextlib.suppress(OSError), os.scandir(tempfile.gettempdir()) as entries:
        for entry in entries:
            if entry.name.startswith(PREFIX) and entry.stat(follow_symlinks=False).st_uid == os.geteuid():
                yield Path(entry.path)


def _hold(path: Path) -> int | None:
    """The lock of a directory, None when another process has it. OSError for what is no directory."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException as exc:
        os.close(descriptor)
        if isinstance(exc, BlockingIOError):
            return None
        raise
    return descriptor
