"""The recorder as seen from outside: its process, its service, its disk. Asks the system and disturbs nobody.

The data root's lock is looked up in the kernel's list, never taken: a recorder that starts at that moment would find it
taken and give up. Nothing here imports pandas, pyarrow or the SDK.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from hk_tick_collector.core.errors import StoreCorrupt
from hk_tick_collector.core.regular import open_regular
from hk_tick_collector.store import layout

UNIT = "hk-tick-collector"
INSTANCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}", re.ASCII)  # of further recorders: a name of theirs
EXIT_CONFIG = 78  # of the recorder, see main.py
SYSTEMCTL_TIMEOUT_SEC = 5.0
SAMPLE_DAYS = 5  # recorded days from which the need of a day is estimated
FEW_DAYS = 10  # of room: the first day's own bytes say something only where there is less
MANY_DAYS = 1000
_PROC = Path("/proc")
_PID_BYTES = 32
_UNIT_PROPERTIES = (
    "LoadState", "ActiveState", "SubState", "UnitFileState", "MainPID", "NRestarts", "Result", "ExecMainCode",
    "ExecMainStatus", "StatusText", "NeedDaemonReload", "User", "ActiveEnterTimestamp",
)  # fmt: skip


_CLD_EXITED = 1  # sigaction(2): the process ended by itself, its status is an exit code and no signal
_PLAIN_RESULTS = ("success", "exit-code", "signal", "core-dump", "")  # say no more than code or signal


@dataclass(frozen=True, slots=True)
class Service:
    """What systemd says of the unit."""

    unit: str
    load_state: str  # loaded, not-found, masked, ...
    active_state: str  # active, inactive, failed, activating, ...
    sub_state: str
    enabled: str  # enabled, disabled, static, ...
    main_pid: int  # 0: none
    restarts: int
    result: str  # success, exit-code, watchdog, ...
    exit_code: int  # of the last process; 0 when a signal ended it
    signal: int  # that ended the last process; 0: none
    status_text: str  # the recorder's own sentence
    needs_reload: bool  # the unit file changed on disk
    user: str
    active_since: str

    @property
    def installed(self) -> bool:
        return self.load_state not in ("not-found", "")

    @property
    def ending(self) -> str:
        """How the last process ended, and what else systemd had against it (watchdog, timeout, ...)."""
        how = f"killed by signal {self.signal}" if self.signal else f"exit code {self.exit_code}"
        return how if self.result in _PLAIN_RESULTS else f"{self.result}, {how}"


def unit_of(env_file: Path | None) -> str:
    """The unit of the recorder with these settings: the plain one, or ``hk-tick-collector@NAME`` with ``NAME.env``."""
    is_further = env_file is not None and env_file.suffix == ".env" and INSTANCE.fullmatch(env_file.stem)
    return f"{UNIT}@{env_file.stem}" if env_file is not None and is_further else UNIT


def service(unit: str = UNIT) -> Service | None:
    """The unit's state; None when this machine is not run by systemd, or it does not answer."""
    systemctl = shutil.which("systemctl")
    if systemctl is None:
        return None
    try:
        done = subprocess.run(  # noqa: S603 - our own arguments
            [systemctl, "show", unit, f"--property={','.join(_UNIT_PROPERTIES)}"],
            capture_output=True, text=True, timeout=SYSTEMCTL_TIMEOUT_SEC, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    properties = dict(line.partition("=")[::2] for line in done.stdout.splitlines())
    if done.returncode or not properties.get("LoadState"):
        return None
    status = _number(properties.get("ExecMainStatus", ""))
    by_itself = _number(properties.get("ExecMainCode", "")) in (0, _CLD_EXITED)  # 0: none has ended yet
    return Service(
        unit=unit,
        load_state=properties["LoadState"],
        active_state=properties.get("ActiveState", ""),
        sub_state=properties.get("SubState", ""),
        enabled=properties.get("UnitFileState", ""),
        main_pid=_number(properties.get("MainPID", "")),
        restarts=_number(properties.get("NRestarts", "")),
        result=properties.get("Result", ""),
        exit_code=status if by_itself else 0,
        signal=0 if by_itself else status,
        status_text=properties.get("StatusText", ""),
        needs_reload=properties.get("NeedDaemonReload") == "yes",
        user=properties.get("User", ""),
        active_since=properties.get("ActiveEnterTimestamp", ""),
    )


def _number(text: str) -> int:
    return int(text) if text.isdigit() else 0


@dataclass(frozen=True, slots=True)
class Process:
    """The process that holds the data root's lock."""

    pid: int
    locked_at_ms: int  # when it took the lock, UTC epoch ms
    is_stopped: bool  # by a signal (SIGSTOP) or a debugger: it lives and does nothing


def lock_holder(data_root: Path) -> Process | None:
    """Who records into ``data_root``; None when nobody does, as far as this process may see.

    A holder in another container does not show here, a recorder on another host of a network file system neither.
    """
    path = layout.lock_file(data_root)
    try:
        with open_regular(path) as file:
            status = os.fstat(file.fileno())
            written_pid = _number(file.read(_PID_BYTES).decode("ascii", "replace").strip())
    except (OSError, StoreCorrupt):
        return None
    try:
        locks = (_PROC / "locks").read_text(encoding="ascii", errors="replace")
    except OSError:
        # No list of locks on this system: the pid that was written there, if it lives.
        pid = written_pid if written_pid and (_PROC / str(written_pid)).exists() else 0
    else:
        pid = _holder(locks, status, written_pid)
    return Process(pid, status.st_mtime_ns // 1_000_000, _is_stopped(pid)) if pid else None


def sees_processes() -> bool:
    """May this process know of others at all? One in a unit with ProcSubset=pid may not: there only files tell."""
    return (_PROC / "locks").exists()


def _holder(locks: str, status: os.stat_result, written_pid: int) -> int:
    """The pid from a line like ``1: FLOCK  ADVISORY  WRITE 4711 fd:01:131233 0 EOF`` (proc(5)); 0 when there is none.

    Some file systems show another device number there than to stat(2): then inode and pid have to be right.
    """
    device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}"
    for line in locks.splitlines():
        words = line.split()
        if len(words) < 6 or words[1] != "FLOCK" or words[3] != "WRITE":
            continue
        pid = _number(words[4])
        where, _, inode = words[5].rpartition(":")
        if pid and inode == str(status.st_ino) and (where == device or pid == written_pid):
            return pid
    return 0


def _is_stopped(pid: int) -> bool:
    try:
        text = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] in ("T", "t")  # proc(5): stopped on a signal, or by a tracer


@dataclass(frozen=True, slots=True)
class Disk:
    """The disk of the data root. Bytes as ``df`` counts them for an ordinary user."""

    free_bytes: int
    size_bytes: int
    day_bytes: int | None  # what a recorded day needs; None when nothing is recorded

    @property
    def days_left(self) -> float | None:
        """Recorded days until it is full; None when nothing tells how much a day needs."""
        return self.free_bytes / self.day_bytes if self.day_bytes else None


def disk(data_root: Path, today: str) -> Disk:
    """The room, and how long it lasts, by the days until ``today``. The newest day may not be over: it counts only when
    it needs more than those before it, or is alone; today alone only says that the room is short. OSError when the file
    system does not answer."""
    usage = os.statvfs(data_root)
    free_bytes = usage.f_bavail * usage.f_frsize
    files = layout.recorded_files(data_root, SAMPLE_DAYS + 1, today)
    sizes = [_size_bytes(path) for path in files]
    whole = sizes[1:] or sizes
    day_bytes = max([sum(whole) // len(whole), sizes[0]]) if whole else None
    is_all_of_today = len(files) == 1 and files[0].name.startswith(f"{today}.")
    if is_all_of_today and sizes[0] * FEW_DAYS < free_bytes:
        day_bytes = None
    return Disk(free_bytes, usage.f_blocks * usage.f_frsize, day_bytes)


def days_text(days: float) -> str:
    """How long the disk lasts, no more exactly than anybody knows."""
    if days > MANY_DAYS:
        return f"more than {MANY_DAYS:,}"
    return f"{days:,.0f}" if days >= 10 else f"{days:.1f}"


def _size_bytes(db: Path) -> int:
    """Of a day file with its WAL, which holds what was not brought into it yet."""
    size_bytes = 0
    for path in (db, db.with_name(f"{db.name}-wal")):
        with contextlib.suppress(OSError):  # gone meanwhile: archived, or closed
            size_bytes += path.stat().st_size
    return size_bytes
