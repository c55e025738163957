"""The files that SQLite keeps beside a database: WAL, shared memory, rollback journal. Whose are they, are they there?

A connection that writes in WAL mode has both ``-wal`` and ``-shm``, from its first access to its end. A reader that
opens such a file with ``mode=ro`` makes them when they are absent, with its own owner, and leaves them: the owner of
the database may then find itself locked out by its reader. So readers of ours make none (``is_closed``), and what
others have left is named (``locked_out``).
"""

from __future__ import annotations

import contextlib
import os
import pwd
import sqlite3
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from hk_tick_collector.store.layout import COMPANION_SUFFIXES

_HEADER_BYTES = 20
_WRITE_VERSION = 18  # offset in a database's header: 2 for WAL mode
_WAL_VERSION = 2

_FileId = tuple[int, int]


class _Turn:
    """The lock of one file; it goes when nobody uses it."""

    def __init__(self) -> None:
        self.lock = threading.RLock()


_turns: weakref.WeakValueDictionary[_FileId | str, _Turn] = weakref.WeakValueDictionary()
# Here and in ``days.arrow_sql``: a reading that nobody ended is ended where the collector finds it, which may be in
# this thread while it has the lock.
_turns_lock = threading.RLock()
# The file of each connection of this process, by what stands for the connection. No lock: one that nobody closed leaves
# where the collector finds it, which may be in this thread while it holds any lock. Each step is one of a dict's own.
_live: dict[object, _FileId] = {}


@contextlib.contextmanager
def opening(path: Path) -> Iterator[None]:
    """Held while ``sqlite3`` opens a live file to read it, and while anybody else closes a descriptor of that file,
    which drops the locks that this process has on it: nobody begins to read it as a live one in between. Each file has
    its own: one that is locked, or whose disk hangs, holds up no other."""
    key = _file_id(path) or str(path.absolute())  # a file may have two names
    with _turns_lock:
        turn = _turns.get(key)
        if turn is None:
            turn = _turns[key] = _Turn()
    with turn.lock:
        yield


class LiveFile(sqlite3.Connection):
    """A connection to a file that somebody may write to: on the register from before it is made until it is closed."""

    _leave: weakref.finalize[..., LiveFile] | None = None

    def close(self) -> None:
        """Its locks are given up."""
        super().close()
        if self._leave is not None:
            self._leave()

    def _stand_for(self, key: object) -> None:
        self._leave = weakref.finalize(self, _forget, key)  # also where nobody closes it
        self._leave.atexit = False


def connect_live(path: Path, mode: str, timeout_sec: float) -> LiveFile:
    """The one way to open a file that somebody may write to: in autocommit mode, for one thread at a time. ``mode``:
    ``ro`` or ``rw``. sqlite3.Error."""
    with opening(path):
        key, file_id = object(), _file_id(path)
        if file_id is not None:
            _live[key] = file_id
        try:
            conn = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode={mode}", uri=True, timeout=timeout_sec, isolation_level=None,
                check_same_thread=False, factory=LiveFile,
            )  # fmt: skip
        except BaseException:
            _forget(key)
            raise
        conn._stand_for(key)
    return conn


def _forget(key: object) -> None:
    _live.pop(key, None)


def is_live(path: Path) -> bool:
    """Has a connection of this process the file open, whether it has locks on it now or not?"""
    return _file_id(path) in list(_live.values())


def _file_id(path: Path) -> _FileId | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def holds_locks(path: Path) -> bool | None:
    """Has this process POSIX locks on the file? None where the kernel does not tell."""
    try:
        inode, pid = b"%d" % path.stat().st_ino, b"%d" % os.getpid()
        lines = Path("/proc/locks").read_bytes().splitlines()
    except OSError:
        return None
    locks = (line.split() for line in lines)  # 1: POSIX ADVISORY READ pid major:minor:inode from to
    return any(lock[1] == b"POSIX" and lock[4] == pid and lock[5].rpartition(b":")[2] == inode for lock in locks)


class Mark(NamedTuple):
    """A closed database as it was: whoever wrote to it since has changed one of these."""

    device: int
    inode: int
    size_bytes: int
    changed_ns: int

    @classmethod
    def of(cls, path: Path) -> Mark | None:
        """None when the file cannot be looked at."""
        try:
            status = path.stat()
        except OSError:
            return None
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def is_closed(path: Path) -> bool:
    """Is the database in WAL mode, with nothing in a WAL, and open in no program that writes? One that opens it later
    is not foreseen: compare ``Mark.of`` before and after.

    Companions that another program made and left look like those of a writer at work: then the answer is False.
    """
    wal, shm, journal = (path.with_name(path.name + suffix) for suffix in COMPANION_SUFFIXES)
    with opening(path):
        try:
            if os.path.lexists(journal) or (os.path.lexists(wal) and os.path.lexists(shm)):
                return False
            if os.path.lexists(wal) and wal.stat().st_size:
                return False
            # Closing it would drop their locks. With a rollback journal a database has no companions most of the time.
            if is_live(path) or holds_locks(path):
                return False
            with path.open("rb") as file:
                header = file.read(_HEADER_BYTES)
        except OSError:
            return False
    return len(header) == _HEADER_BYTES and header[_WRITE_VERSION] == _WAL_VERSION


def would_leave_shm(path: Path) -> bool:
    """Would reading make a shared memory file that the owner of the database cannot write? So it is when a WAL with
    content has lost its own."""
    wal, shm, _ = (path.with_name(path.name + suffix) for suffix in COMPANION_SUFFIXES)
    try:
        owner = path.stat().st_uid
    except OSError:
        return False
    # As root, SQLite gives what it makes to the owner of the database.
    return os.geteuid() not in (0, owner) and os.path.lexists(wal) and not os.path.lexists(shm)


def locked_out(path: Path, uid: int | None = None) -> str | None:
    """A sentence about a companion of ``path`` that ``uid`` (default: this process) cannot write; None without one."""
    for suffix in COMPANION_SUFFIXES:
        companion = path.with_name(path.name + suffix)
        with contextlib.suppress(OSError):
            status = companion.stat()
            own = os.geteuid() if uid is None else uid
            writable = os.access(companion, os.W_OK, effective_ids=True) if uid is None else uid in (0, status.st_uid)
            if not writable:
                return (
                    f"{companion} belongs to {_user(status.st_uid)} and uid {own} cannot write it: a reader left it; "
                    f"when nothing has the file open (fuser {companion}), remove it"
                )
    return None


class WalLook:
    """The WAL of one open database: its size, and whether it and the shared memory are still those at their path."""

    def __init__(self, path: Path) -> None:
        self._paths = [path.with_name(path.name + suffix) for suffix in COMPANION_SUFFIXES[:2]]
        self._known = self._ids()

    def _ids(self) -> list[_FileId | None]:
        self.wal_bytes = 0
        ids: list[_FileId | None] = []
        for path in self._paths:
            try:
                status = path.stat()
            except FileNotFoundError:
                ids.append(None)
                continue
            ids.append((status.st_dev, status.st_ino))
            if path is self._paths[0]:
                self.wal_bytes = status.st_size
        return ids

    def still_there(self) -> bool:
        """Look again. False when another program removed or exchanged one of them. OSError from a disk that does not
        answer."""
        return self._ids() == self._known


def _user(uid: int) -> str:
    try:
        return f"{pwd.getpwuid(uid).pw_name} (uid {uid})"
    except KeyError:
        return f"uid {uid}"
