"""Where everything under ``DATA_ROOT`` lives, and who may write there.

::

    DATA_ROOT/20261120.db                    SQLite, one a trading day (Hong Kong date); -wal and -shm while open
    DATA_ROOT/20261120.db.corrupt-<utc>      a day file that was set aside, never touched again by the recorder
    DATA_ROOT/_spill/                        rows that could not be queued or written yet (ingest/spill.py)
    DATA_ROOT/_quarantine/20261120.jsonl     ticks that cannot be stored as they came, with the reason
    DATA_ROOT/_depth/20261120/               depth files of that day as the source wrote them (store/kept.py)
    DATA_ROOT/book/20261120.book.db          order books of that day, apart from its ticks (store/book_file.py)
    DATA_ROOT/book/20261120.broker.db        broker queues of that day, apart from its books
    DATA_ROOT/snapshot/20261120.snapshot.db  snapshots of that day (store/snapshot_file.py)
    DATA_ROOT/_reports/                      certificates and the end-of-day job's lock (quality/report_file.py)
    DATA_ROOT/_archive/                      days put away, unless ARCHIVE_ROOT is elsewhere (days/manifest.py)
    DATA_ROOT/.market                        the code of the market whose days these are (store/data_root.py)
    DATA_ROOT/.recorder.lock                 held by the one recorder of this data root, contains its pid
    DATA_ROOT/.recorder.status.json          how the recorder is, replaced every two seconds (health/statusfile.py);
                                             .recorder.status.json.new while it is written

Directories are made 0750 and files 0640 (the process umask may only take more away): the service user writes, its
group reads, nobody else looks in. These names are made and parsed here and nowhere else.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

from hk_tick_collector.core import dates
from hk_tick_collector.core.errors import ConfigError, RecorderError, StoreUnavailable

DIR_MODE = 0o750
TICKS = "ticks"  # the kind of record that a file is of where no other one is named
BOOKS = "books"
BROKERS = "brokers"
SNAPSHOTS = "snapshots"
FILE_MODE = 0o640
SPILL_DIR = "_spill"
QUARANTINE_DIR = "_quarantine"
DEPTH_DIR = "_depth"
BOOK_DIR = "book"
SNAPSHOT_DIR = "snapshot"
REPORTS_DIR = "_reports"
ARCHIVE_DIR = "_archive"
MARKET_FILE = ".market"
LOCK_FILE = ".recorder.lock"
STATUS_FILE = ".recorder.status.json"
COMPANION_SUFFIXES = ("-wal", "-shm", "-journal")  # what SQLite keeps beside a database
DAY_FILE_GLOB = "????????.db"
KNOWN_DAYS = 64  # a recorder meets a handful of days; the cache only must not grow

_DAY_FILE = re.compile(r"(\d{8})\.db", re.ASCII)
_BOOK_FILE = re.compile(r"(\d{8})\.book\.db", re.ASCII)
_BROKER_FILE = re.compile(r"(\d{8})\.broker\.db", re.ASCII)
_SNAPSHOT_FILE = re.compile(r"(\d{8})\.snapshot\.db", re.ASCII)
_SET_ASIDE = re.compile(r"(\d{8})\.db\.corrupt-[0-9A-Za-z.-]+", re.ASCII)
FULL_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT})
# No time heals a path that cannot be a directory. Anything else may be a disk that stumbles or is not mounted yet.
_FINAL_ERRNOS = frozenset({errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL})


@lru_cache(maxsize=KNOWN_DAYS)
def check_day(day: str) -> str:
    """``day`` itself when it is a date written YYYYMMDD; ValueError otherwise, so that no odd value becomes a path."""
    try:
        dates.parse_day(day)
    except ValueError as exc:
        raise ValueError(f"trading_day {exc}") from None
    return day


def day_file(data_root: Path, day: str) -> Path:
    """The SQLite file of a trading day (YYYYMMDD); ValueError when ``day`` is not a date."""
    return data_root / f"{check_day(day)}.db"


def parse_day(path: Path) -> str | None:
    """The trading day a file name stands for, or None when it is no day file (set-aside files are none)."""
    match = _DAY_FILE.fullmatch(path.name)
    return _valid_day(match.group(1)) if match else None


def set_aside_day(path: Path) -> str | None:
    """The trading day of a file that was set aside as corrupt, or None when the name is another kind."""
    match = _SET_ASIDE.fullmatch(path.name)
    return _valid_day(match.group(1)) if match else None


def _valid_day(day: str) -> str | None:
    try:
        return check_day(day)
    except ValueError:
        return None


def day_files(data_root: Path) -> list[Path]:
    """The day files that exist, oldest first. An absent or unreadable data root has none."""
    try:
        names = [entry for entry in data_root.iterdir() if parse_day(entry) is not None]
    except OSError:
        return []
    return sorted(names, key=lambda path: path.name)


def recent_day_files(data_root: Path, days: int, until: str | None = None) -> list[Path]:
    """The newest ``days`` of them, newest first; none of a day after ``until``."""
    newest_first = day_files(data_root)[::-1]
    if until is not None:
        newest_first = [path for path in newest_first if (parse_day(path) or "") <= until]
    return newest_first[: max(0, days)]


def spill_dir(data_root: Path, kind: str = TICKS) -> Path:
    """Where rows of a kind of record wait that could not be queued or written."""
    return _of_kind(data_root / SPILL_DIR, kind)


def quarantine_dir(data_root: Path, kind: str = TICKS) -> Path:
    """Where records of a kind go that cannot be stored as they came."""
    return _of_kind(data_root / QUARANTINE_DIR, kind)


def _of_kind(directory: Path, kind: str) -> Path:
    """Ticks were there first: their files are not in a directory of their own."""
    return directory if kind == TICKS else directory / kind


def depth_dir(root: Path, day: str) -> Path:
    """Where the depth files of a day (YYYYMMDD) are kept, under the data root as ``_depth``."""
    return root / DEPTH_DIR / check_day(day)


def book_file(data_root: Path, day: str) -> Path:
    """The file of a day's order books (YYYYMMDD); ValueError when ``day`` is not a date."""
    return data_root / BOOK_DIR / f"{check_day(day)}.book.db"


def broker_file(data_root: Path, day: str) -> Path:
    """The file of a day's broker queues (YYYYMMDD); ValueError when ``day`` is not a date."""
    return data_root / BOOK_DIR / f"{check_day(day)}.broker.db"


def book_days(data_root: Path) -> list[str]:
    """The days of which there are order books, oldest first; none where the directory cannot be read."""
    return _days_of(data_root / BOOK_DIR, parse_book_day)


def broker_days(data_root: Path) -> list[str]:
    """The days of which there are broker queues, as ``book_days``."""
    return _days_of(data_root / BOOK_DIR, parse_broker_day)


def parse_book_day(path: Path) -> str | None:
    """The day (YYYYMMDD) of a file of order books, None when it is no such file."""
    match = _BOOK_FILE.fullmatch(path.name)
    return _valid_day(match.group(1)) if match else None


def parse_broker_day(path: Path) -> str | None:
    """The day (YYYYMMDD) of a file of broker queues, None when it is no such file."""
    match = _BROKER_FILE.fullmatch(path.name)
    return _valid_day(match.group(1)) if match else None


def _days_of(directory: Path, day_of: Callable[[Path], str | None]) -> list[str]:
    try:
        days = [day_of(path) for path in directory.iterdir()]
    except OSError:
        return []
    return sorted(day for day in days if day)


def snapshot_file(data_root: Path, day: str) -> Path:
    """The file of a day's snapshots (YYYYMMDD); ValueError when ``day`` is not a date."""
    return data_root / SNAPSHOT_DIR / f"{check_day(day)}.snapshot.db"


def parse_snapshot_day(path: Path) -> str | None:
    """The day (YYYYMMDD) of a file of snapshots, None when it is no such file."""
    match = _SNAPSHOT_FILE.fullmatch(path.name)
    return _valid_day(match.group(1)) if match else None


def parse_day_dir(name: str) -> str | None:
    """The day (YYYYMMDD) that a directory is named after; None when it is none."""
    return _valid_day(name) if re.fullmatch(r"\d{8}", name, re.ASCII) else None


def snapshot_archive(archive_root: Path, day: str) -> Path:
    """Where a day's snapshots are put away."""
    return archive_root / SNAPSHOT_DIR / check_day(day)


def snapshot_days(data_root: Path) -> list[str]:
    """The days of which there are snapshots, oldest first; none where the directory cannot be read."""
    try:
        days = [parse_snapshot_day(path) for path in (data_root / SNAPSHOT_DIR).iterdir()]
    except OSError:
        return []
    return sorted(day for day in days if day)


def may_have_snapshots(data_root: Path) -> bool:
    """Are there snapshots, as far as anybody can see? True, too, where their directory is there and cannot be read."""
    try:
        return any(map(parse_snapshot_day, (data_root / SNAPSHOT_DIR).iterdir()))
    except FileNotFoundError:
        return False
    except OSError:
        return True


def holds_snapshots(data_root: Path) -> bool:
    """Is it a data root of snapshots? It has files of them, and none of ticks."""
    return not day_files(data_root) and bool(snapshot_days(data_root))


def recorded_files(data_root: Path, days: int, until: str | None = None) -> list[Path]:
    """The newest ``days`` files of whatever the data root holds, newest first; none of a day after ``until``."""
    if not holds_snapshots(data_root):
        return recent_day_files(data_root, days, until)
    there = [day for day in snapshot_days(data_root) if until is None or day <= until]
    return [snapshot_file(data_root, day) for day in there[::-1]][: max(0, days)]


def reports_dir(data_root: Path) -> Path:
    """Where certificates are."""
    return data_root / REPORTS_DIR


def archive_dir(data_root: Path) -> Path:
    """Where archived days are when ``ARCHIVE_ROOT`` names no other place."""
    return data_root / ARCHIVE_DIR


def quarantine_file(data_root: Path, day: str, kind: str = TICKS) -> Path:
    """The quarantine's JSON lines of one day (YYYYMMDD)."""
    return quarantine_dir(data_root, kind) / f"{check_day(day)}.jsonl"


def market_file(data_root: Path) -> Path:
    """Says whose days these are, see ``data_root.market_of``."""
    return data_root / MARKET_FILE


def lock_file(data_root: Path) -> Path:
    """Held by the running recorder, see ``DataRootLock``."""
    return data_root / LOCK_FILE


def status_file(data_root: Path) -> Path:
    """Where the running recorder tells how it is."""
    return data_root / STATUS_FILE


def replace_file(path: Path, content: bytes) -> None:
    """Put ``content`` at ``path`` in one step: whoever reads sees the old file or the new one, never half of one.

    For one writer, and for what may be lost in a power cut: nothing is synced. OSError leaves the old file.
    """
    new = path.with_name(f"{path.name}.new")
    try:
        descriptor = os.open(new, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW, FILE_MODE)
        with open(descriptor, "wb") as file:  # noqa: PTH123 - of the descriptor, whose mode is set
            file.write(content)
        new.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            new.unlink()
        raise


def utc_stamp(now_ms: int) -> str:
    """UTC epoch milliseconds as a part of a file name that sorts by time: ``20261120T013000.123Z``."""
    moment = datetime.fromtimestamp(now_ms // 1000, tz=UTC)
    return f"{moment:%Y%m%dT%H%M%S}.{now_ms % 1000:03d}Z"


def set_aside_path(path: Path, now_ms: int) -> Path:
    """A name beside ``path`` for a damaged day file; free at the time of the call."""
    first = path.with_name(f"{path.name}.corrupt-{utc_stamp(now_ms)}")
    candidate, count = first, 1
    while os.path.lexists(candidate):
        count += 1
        candidate = first.with_name(f"{first.name}-{count}")
    return candidate


def was_set_aside(path: Path) -> bool:
    """Is there a damaged file beside ``path`` that had its name? OSError when the directory cannot be listed."""
    return any(sibling.name.startswith(f"{path.name}.corrupt-") for sibling in path.parent.iterdir())


def rescue_path(path: Path) -> Path:
    """A name beside ``path`` for a copy that is being made of it; it matches no pattern of day files."""
    return path.with_name(f".{path.name}.rescue")


def no_directory(path: Path) -> str:
    """What is said of a path that ``is_dir`` denies: whether nothing is there, or something else."""
    return f"{path} is not a directory" if os.path.lexists(path) else f"{path} does not exist"


def make_dir(path: Path) -> None:
    """Create a directory and its parents, 0750 each; OSError when the system refuses."""
    missing = []
    current = path
    while not current.exists():
        missing.append(current)
        current = current.parent
    for directory in reversed(missing):
        directory.mkdir(mode=DIR_MODE, exist_ok=True)
    if not path.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))


def sync_dir(path: Path) -> None:
    """Make new and removed names of a directory survive a power cut; a file system that cannot is left alone."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def prepare_data_root(path: Path) -> Path:
    """Make ``DATA_ROOT`` and its two inner directories, and prove that files can be made in each.

    Returns the absolute path. ConfigError for what no time can heal, StoreUnavailable for what may heal: both name the
    path, what is wrong and what to do. A full disk passes here: ticks can be taken while it is freed.
    """
    root = Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow a link that operators move
    for directory in (root, spill_dir(root), quarantine_dir(root)):
        try:
            make_dir(directory)
            probe_write(directory)
        except OSError as exc:
            if exc.errno not in FULL_ERRNOS:
                raise _error(exc)(_explain(directory, exc)) from exc
    return root


def _error(exc: OSError) -> type[RecorderError]:
    return ConfigError if exc.errno in _FINAL_ERRNOS else StoreUnavailable


def probe_write(directory: Path) -> None:
    """Prove that a file can be made in ``directory``; OSError when not. Nothing is left behind."""
    probe = directory / f".write-probe-{os.getpid()}"
    with contextlib.suppress(FileNotFoundError):
        probe.unlink()  # of a process that died; or a link that was planted, which must not be followed
    try:
        os.close(os.open(probe, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, FILE_MODE))
    finally:
        with contextlib.suppress(OSError):
            probe.unlink()


def _explain(directory: Path, exc: OSError) -> str:
    if exc.errno not in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, *_FINAL_ERRNOS):
        problem, cure = f"directory {directory} does not answer", "check the disk, its mount and the kernel log"
    elif os.path.isdir(directory):  # noqa: PTH112 - Path.is_dir() raises where we may not look
        problem = f"directory {directory} is not writable by uid {os.geteuid()}"
        cure = f"give this user write permission (chown {os.geteuid()} {directory}) or choose another DATA_ROOT"
        if exc.errno == errno.EROFS:
            cure = "its file system is mounted read-only: remount it read-write or choose another DATA_ROOT"
    elif exc.errno in (errno.ENOTDIR, errno.EEXIST):
        problem = f"{directory} cannot be a directory, because a file is in its path"
        cure = "move that file away or choose another DATA_ROOT"
    else:
        problem = f"directory {directory} does not exist and cannot be created"
        cure = f"create it for uid {os.geteuid()} (mkdir -p, chown) or choose another DATA_ROOT"
    return f"DATA_ROOT: {problem} ({exc.strerror or exc}); {cure}"


class DataRootLock:
    """One recorder a data root: an ``flock`` that the kernel lets go of with the process, however it dies.

    The file stays after the release: removing it would let two processes hold locks on two files of one name.
    """

    def __init__(self, data_root: Path) -> None:
        self.path = lock_file(data_root)
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take the lock and write our pid into it; ConfigError with the holder's pid when it is taken, StoreUnavailable
        when the disk does not let us ask, or when our own service's last process has not ended yet."""
        if self._descriptor is not None:
            return
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, FILE_MODE)
        except OSError as exc:
            if exc.errno == errno.EROFS:
                cure = "mount its file system for writing, or name another DATA_ROOT"
            else:
                cure = f"give uid {os.geteuid()} write permission to it"
            raise _error(exc)(f"DATA_ROOT: lock file {self.path} cannot be opened ({exc.strerror}); {cure}") from exc
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            holder = _holder(descriptor)
            os.close(descriptor)
            if not isinstance(exc, BlockingIOError):
                raise StoreUnavailable(f"DATA_ROOT: {self.path} cannot be locked ({exc.strerror})") from exc
            if _is_of_our_service(holder):
                raise StoreUnavailable(
                    f"DATA_ROOT: this service's process before (pid {holder}) has not ended yet and holds {self.path}"
                ) from exc
            raise ConfigError(
                f"DATA_ROOT: another recorder (pid {holder}) already writes to {self.path.parent}; "
                f"stop it or give this one another DATA_ROOT"
            ) from exc
        self._descriptor = descriptor
        with contextlib.suppress(OSError):  # a full disk must not stop a recorder that holds the lock
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode("ascii"), 0)

    def release(self) -> None:
        """Let the lock go; harmless when it is not held."""
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, 0)
            os.close(descriptor)

    def __enter__(self) -> DataRootLock:
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def _is_of_our_service(pid: str) -> bool:
    """Did the service manager start us beside it? It does so when a disk that hangs keeps a process alive that it has
    killed: that one ends with the hanging. Another container's process may have our own number."""
    if not os.environ.get("NOTIFY_SOCKET") or not pid.isdecimal() or int(pid) == os.getpid():
        return False
    try:
        return Path(f"/proc/{pid}/cgroup").read_text() == Path("/proc/self/cgroup").read_text()
    except OSError:
        return False


def _holder(descriptor: int) -> str:
    with contextlib.suppress(OSError):
        return os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
    return "unknown"


def sqlite_files(path: Path) -> Iterator[Path]:
    """The files that SQLite may keep for one database: itself, WAL, shared memory, rollback journal."""
    for suffix in ("", *COMPANION_SUFFIXES):
        yield path.with_name(path.name + suffix)


def move_companions(path: Path, target: Path) -> bool:
    """Rename the WAL, shared memory and journal of a database to fit one named ``target``; OSError if refused.

    True when there was any. SQLite would apply them to whatever database stands at ``path`` next, or delete them.
    """
    moved = False
    for suffix in COMPANION_SUFFIXES:
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(target.with_name(target.name + suffix))
            moved = True
    return moved
