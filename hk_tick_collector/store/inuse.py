"""Is somebody still busy with a day? Asked before a day file is replaced or removed; reads only, takes no lock.

``open_elsewhere`` looks through ``/proc`` for other processes that have the database or a companion of it open, by
device and inode, so that links, mounts and other names of the file do not hide it. An ordinary user may not look into
the processes of others: those are named in ``unseen``, unless the kernel's list of locks, which everybody may read,
shows that they hold one (a connection to a database in WAL mode always does). Processes outside this container or on
another host of a network file system cannot be seen at all.

``pending_spill`` tells whether rows of a day still wait in ``_spill/``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from hk_tick_collector.core.disk import unavailable
from hk_tick_collector.core.errors import StoreUnavailable
from hk_tick_collector.store.layout import check_day, lock_file, spill_dir, sqlite_files

_PROC = Path("/proc")
_SEGMENT = re.compile(r"\d{16}\.spill", re.ASCII)
_BLOCK_BYTES = 4 * 1024 * 1024
_KERNEL_THREAD = 0x00200000  # PF_KTHREAD of linux/sched.h
_MAX_SHOWN = 5

_FileId = tuple[int, int]  # device, inode


class OpenElsewhere(NamedTuple):
    """Who else has a database open. Both in order of pid; this process is in neither."""

    pids: tuple[int, ...]
    unseen: tuple[int, ...]  # processes that this user may not look into; 1 also when others are hidden altogether

    @property
    def caveat(self) -> str | None:
        """What could not be looked at, for a person; None when nothing was left out."""
        if not self.unseen:
            return None
        return f"the system does not let us look into {_some(self.unseen)}: see that none of them has it open"

    @property
    def holders(self) -> str:
        """The processes that have it open, for a person."""
        return ", ".join(f"pid {pid} ({_name(pid)})" for pid in self.pids)


def open_elsewhere(db: Path) -> OpenElsewhere:
    """The other processes that have ``db``, its WAL, shared memory or journal open, and those that could not be asked.

    An absent file is open nowhere. StoreUnavailable when there is no ``/proc`` to look into.
    """
    wanted = set(_ids(db))
    if not wanted:
        return OpenElsewhere((), ())
    own = os.getpid()
    holders, unseen = _lock_holders(wanted) - {own}, set()
    pids = _pids()
    if 1 not in pids:
        unseen.add(1)  # mounted with hidepid: processes of others do not even show
    for pid in pids:
        if pid == own or pid in holders:
            continue
        try:
            if any(file in wanted for file in _open_files(pid)):
                holders.add(pid)
        except PermissionError:
            if not _is_kernel_thread(pid):
                unseen.add(pid)
        except OSError:
            continue  # it ended while we looked
    return OpenElsewhere(tuple(sorted(holders)), tuple(sorted(unseen)))


def recorder_holds(data_root: Path, is_file: Callable[[int, int], bool]) -> bool:
    """Has the recorder of a data root a database open, be it removed? ``is_file`` knows it by device and inode. False,
    too, of a recorder that this process cannot see."""
    locks = list(_locks())
    try:
        status = lock_file(data_root).stat()
    except OSError:
        return False
    recorders = {pid for pid, file in locks if file == (status.st_dev, status.st_ino)}
    return any(pid in recorders and is_file(*file) for pid, file in locks)


def pending_spill(data_root: Path, day: str) -> bool:
    """Do rows of ``day`` wait in the spill, or might they? A segment that cannot be read counts as one that holds some.

    Segments set aside as ``.bad-`` or ``.unreadable-`` do not count: no recorder reads them again.
    """
    # A segment is ASCII JSON in frames (ingest/frames.py): a row of the day has it as a quoted text.
    mark = f'"{check_day(day)}"'.encode("ascii")
    try:
        segments = [path for path in spill_dir(data_root).iterdir() if _SEGMENT.fullmatch(path.name)]
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return any(_may_hold(path, mark) for path in segments)


def _may_hold(path: Path, mark: bytes) -> bool:
    tail = b""
    try:
        with path.open("rb") as file:
            while block := file.read(_BLOCK_BYTES):
                if mark in (data := tail + block):
                    return True
                tail = data[-len(mark) :]
    except FileNotFoundError:
        return False  # drained meanwhile
    except OSError:
        return True
    return False


def _ids(db: Path) -> Iterator[_FileId]:
    for path in sqlite_files(db):
        try:
            status = path.stat()
        except FileNotFoundError:
            continue
        except OSError as exc:
            raise unavailable(path, exc) from exc
        yield status.st_dev, status.st_ino


def _pids() -> list[int]:
    try:
        return [int(entry.name) for entry in _PROC.iterdir() if entry.name.isdecimal()]
    except OSError as exc:
        raise StoreUnavailable(f"{_PROC}: {exc.strerror or exc}; cannot tell which processes have a file open") from exc


def _open_files(pid: int) -> Iterator[_FileId]:
    """Files of a process, by its descriptors; PermissionError when it belongs to somebody else."""
    for descriptor in os.scandir(_PROC / str(pid) / "fd"):
        try:
            if descriptor.is_file():  # follows the link; sockets and pipes are none
                status = descriptor.stat()
                yield status.st_dev, status.st_ino
        except FileNotFoundError:
            continue  # closed while we looked


def _lock_holders(wanted: set[_FileId]) -> set[int]:
    """Who holds an advisory lock on one of the files."""
    return {pid for pid, file in _locks() if file in wanted}


def _locks() -> Iterator[tuple[int, _FileId]]:
    """Each advisory lock, by who holds it and on what, from lines like
    ``1: POSIX  ADVISORY  READ 4711 fd:01:131233 128 128`` (proc(5): major and minor device in hexadecimal)."""
    try:
        lines = (_PROC / "locks").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        fields = line.replace("->", "").split()
        if len(fields) < 6 or fields[5].count(":") != 2:
            continue
        major, minor, inode = fields[5].split(":")
        if (pid := int(fields[4])) > 0:
            yield pid, (os.makedev(int(major, 16), int(minor, 16)), int(inode))


def _is_kernel_thread(pid: int) -> bool:
    try:
        text = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return True  # it ended
    return bool(int(text.rpartition(")")[2].split()[6]) & _KERNEL_THREAD)


def _name(pid: int) -> str:
    try:
        return (_PROC / str(pid) / "comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return "ended"


def _some(pids: tuple[int, ...]) -> str:
    shown = ", ".join(str(pid) for pid in pids[:_MAX_SHOWN])
    more = len(pids) - _MAX_SHOWN
    return f"{len(pids)} process{'es' if len(pids) != 1 else ''} ({shown}{f' and {more} more' if more > 0 else ''})"
