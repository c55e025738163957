"""Directories for temporary files, each of one process: none outlives it for long.

One goes with its object, behind a ``with`` or at the latest when the process ends. What a killed process left is
removed by whoever makes the next one in the same place. It is known by its name and by the lock (``flock``) that its
maker, and each child that was given it, holds for as long as it lives, also in another container. Nothing else is
touched: no link, no directory of another user, none that is in use. Where a file system has no locks nothing is
removed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import tempfile
import weakref
from pathlib import Path
from types import TracebackType

from hk_tick_collector.core.disk import unavailable
from hk_tick_collector.core.errors import StoreUnavailable

PREFIX = "hk-tick-temp-"
_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_TRIES = 5


class Scratch:
    """A new directory, removed with all that is in it::

        with Scratch("books") as path:
            ...

    ``beside``: in this directory, hidden; else where the system keeps temporary files (TMPDIR). StoreUnavailable where
    there is no place.
    """

    def __init__(self, noun: str, beside: Path | None = None) -> None:
        within = place() if beside is None else beside
        remove_abandoned(within)
        for _ in range(_TRIES):
            # Its name is known before it is there: an interrupt at any moment from here on leaves nothing behind.
            self.path = within / f"{'' if beside is None else '.'}{PREFIX}{noun}-{secrets.token_hex(8)}"
            self.lock = lock = list[int]()  # its descriptor, to pass on to children
            self._tidy = weakref.finalize(self, _remove, self.path, lock)
            try:
                self.path.mkdir(mode=0o700)
                if _is_locked_by_us(self.path, lock):
                    return
            except OSError as exc:
                self._tidy()
                raise _no_place(within, exc, is_temporary=beside is None) from exc
            self._tidy()  # somebody took it for abandoned before it was locked
        raise StoreUnavailable(f"{within}: new directories are taken away at once; name another place")

    def __enter__(self) -> Path:
        return self.path

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()

    def remove(self) -> None:
        """With all that is in it; as often as you like."""
        self._tidy()


def place() -> Path:
    """Where temporary files are kept. StoreUnavailable when there is no such place."""
    try:
        return Path(tempfile.gettempdir())
    except OSError as exc:
        raise StoreUnavailable(f"{exc.strerror or exc}: set TMPDIR to a directory that can be written to") from exc


def remove_abandoned(within: Path) -> None:
    """The directories there whose process is gone. What cannot be removed is left."""
    with contextlib.suppress(OSError), os.scandir(within) as entries:
        ours = [entry.path for entry in entries if entry.name.removeprefix(".").startswith(PREFIX)]
        for path in ours:
            _remove_abandoned(Path(path))


def _remove_abandoned(path: Path) -> None:
    lock: list[int] = []
    with contextlib.suppress(OSError):
        lock.append(os.open(path, _FLAGS))
        if os.fstat(lock[0]).st_uid == os.geteuid():
            fcntl.flock(lock[0], fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path, ignore_errors=True)
    _let_go(lock)


def _is_locked_by_us(path: Path, lock: list[int]) -> bool:
    """Hold a new directory from now on. OSError when that cannot be tried."""
    try:
        lock.append(os.open(path, _FLAGS))
        fcntl.flock(lock[0], fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (FileNotFoundError, BlockingIOError):
        return False
    except OSError:
        if not lock:
            raise
        # Nobody can lock here, so nobody removes it.
    return path.exists()


def _remove(path: Path, lock: list[int]) -> None:
    shutil.rmtree(path, ignore_errors=True)
    _let_go(lock)


def _let_go(lock: list[int]) -> None:
    while lock:
        with contextlib.suppress(OSError):
            os.close(lock.pop())


def _no_place(within: Path, exc: OSError, *, is_temporary: bool) -> StoreUnavailable:
    error = unavailable(within, exc)
    return StoreUnavailable(f"{error} (TMPDIR says where temporary files go)") if is_temporary else error
