"""A day's snapshots put away: the file as it is, packed and hashed as a kept file (``store.kept``).

::

    ARCHIVE_ROOT/snapshot/20261127/20261127.snapshot.db.0f3a...gz   the file, packed
    ARCHIVE_ROOT/snapshot/20261127/20261127.snapshot.db.json        what was packed: sizes, SHA-256, snapshots

A live file is deleted only when the archive, read at that moment, unpacks to its very bytes.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from hk_tick_collector.archive.atomic import Refused
from hk_tick_collector.archive.whole import finish, is_packed, pack, unpack
from hk_tick_collector.core.errors import NoData, StoreError
from hk_tick_collector.core.text import days_there
from hk_tick_collector.market.calendar import TradingCalendar
from hk_tick_collector.store.companions import Mark, is_closed
from hk_tick_collector.store.inuse import open_elsewhere
from hk_tick_collector.store.kept import KeptFile, digest_of, entry_in, problems_of
from hk_tick_collector.store.layout import (
    SNAPSHOT_DIR,
    parse_day_dir,
    snapshot_archive,
    snapshot_days,
    snapshot_file,
    sync_dir,
)
from hk_tick_collector.store.position import Place
from hk_tick_collector.store.snapshot_file import open_for_writing
from hk_tick_collector.store.snapshot_reader import newest_no

AFTER_CLOSE_MS = 30 * 60_000
_NOUN = "snapshots"  # of many symbols


def archived_days(archive_root: Path) -> list[str]:
    """The days that are put away, oldest first."""
    try:
        days = [parse_day_dir(path.name) for path in (archive_root / SNAPSHOT_DIR).iterdir()]
    except OSError:
        return []
    return sorted(day for day in days if day and entry_of(archive_root, day) is not None)


class SnapshotDays:
    """The days with snapshots under a data root and its archive, for who follows its files."""

    def __init__(self, data_root: Path, archive_root: Path) -> None:
        self.data_root = data_root
        self.archive_root = archive_root

    def passed_over(self, newest_day: str) -> list[str]:
        """Days behind this one that are archived and have no file: who follows files meets nothing of them."""
        live = set(snapshot_days(self.data_root))
        return [day for day in archived_days(self.archive_root) if day > newest_day and day not in live]

    def was_end(self, place: Place) -> bool:
        """Does the archive of a day say that it ended there? False when it cannot be read."""
        with contextlib.suppress(StoreError):
            entry = entry_of(self.archive_root, place.day)
            return entry is not None and entry.records == place.rowid
        return False


def is_over(day: str, calendar: TradingCalendar, now_ms: int) -> bool:
    """Is nothing computed of a day any more?"""
    return now_ms >= calendar.market.day_bounds(day)[1] or (
        calendar.is_trading_day(day)
        and now_ms >= calendar.market.close_ms(day, calendar.day_kind(day)) + AFTER_CLOSE_MS
    )


def is_archived(data_root: Path, archive_root: Path, day: str) -> bool:
    """Does the archive have the file as it is? By size and time alone."""
    path, entry = snapshot_file(data_root, day), entry_of(archive_root, day)
    return entry is not None and is_closed(path) and is_packed(entry, path)


def put_away(data_root: Path, archive_root: Path, day: str, now_ms: int) -> KeptFile:
    """Pack a day's file and read the copy back. Refused while another process has it open; StoreError, OSError."""
    path, directory = snapshot_file(data_root, day), snapshot_archive(archive_root, day)
    if not path.is_file():
        raise NoData(f"no snapshots are recorded of {day}")
    if open_elsewhere(path).pids:
        raise Refused(f"{path} is open: the recorder leaves it half an hour after its last snapshot; try again")
    if not is_closed(path):
        finish(path, open_for_writing)
    entry = entry_of(archive_root, day)
    if entry is None or not is_packed(entry, path):
        entry = pack(path, directory, _NOUN, newest_no(path), now_ms)
    problems = problems_of(directory, entry)
    if problems:
        raise Refused("; ".join(problems))
    return entry


def check(data_root: Path, archive_root: Path, day: str) -> tuple[KeptFile | None, list[str]]:
    """Read an archived day to its end; what is wrong with it, also against the live file where there is one."""
    try:
        entry = entry_of(archive_root, day)
    except StoreError as exc:
        return None, [str(exc)]
    if entry is None:
        return None, [f"no snapshots of {day} are archived"]
    problems = problems_of(snapshot_archive(archive_root, day), entry)
    path = snapshot_file(data_root, day)
    if path.is_file() and is_closed(path) and digest_of(path) != (entry.size_bytes, entry.sha256):
        problems.append(f"{path} is another one now: hk-tickctl archive {day} --kind snapshot brings it up to date")
    return entry, problems


def bring_back(archive_root: Path, day: str, data_root: Path) -> Path:
    """Unpack an archived day where there is no file. NoData, StoreUnavailable; Refused for one that is there."""
    entry, path = entry_of(archive_root, day), snapshot_file(data_root, day)
    if entry is None:
        raise NoData(f"no snapshots of {day} are archived; {days_there(archived_days(archive_root))}")
    if path.exists():
        raise Refused(f"{path} is there: it is never replaced; move it away, or restore --into another directory")
    unpack(snapshot_archive(archive_root, day), entry, path)
    return path


def leave_to_archive(data_root: Path, archive_root: Path, day: str, *, dry_run: bool) -> int:
    """Delete a live file whose very bytes the archive holds; how many they were. Refused, with the reason."""
    path = snapshot_file(data_root, day)
    before = _at_rest(path)
    entry, problems = check(data_root, archive_root, day)
    if problems or entry is None:
        raise Refused("; ".join(problems))
    if _at_rest(path) != before:
        raise Refused(f"{path} was written to while it was compared with its archive: archive the day again")
    if not dry_run:
        path.unlink()
        sync_dir(path.parent)
    return entry.size_bytes


def _at_rest(path: Path) -> Mark | None:
    """Which file it is now, for who looks again later. Refused while another process has it open."""
    mark = Mark.of(path)
    if open_elsewhere(path).pids or not is_closed(path):
        raise Refused(f"{path} is open")
    return mark


def entry_of(archive_root: Path, day: str) -> KeptFile | None:
    """What the archive says of a day; None when it has none. StoreCorrupt, StoreUnavailable."""
    return entry_in(snapshot_archive(archive_root, day), snapshot_file(Path(), day).name)
