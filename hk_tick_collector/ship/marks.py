"""What a day's files look like: whoever writes to them changes it."""

from __future__ import annotations

from pathlib import Path

from hk_tick_collector.days.manifest import manifest_path
from hk_tick_collector.ship.state import Compared, Verified, marked_days
from hk_tick_collector.store.book_file import BOOK_KIND, BROKER_KIND
from hk_tick_collector.store.companions import Mark
from hk_tick_collector.store.kept import LIST_SUFFIX
from hk_tick_collector.store.layout import day_file, snapshot_archive
from hk_tick_collector.store.side_file import SideKind
from hk_tick_collector.store.snapshot_file import SNAPSHOT_KIND

_TABLES: dict[str, Compared] = {
    BOOK_KIND.word: "books", BROKER_KIND.word: "brokers", SNAPSHOT_KIND.word: "snapshots",
}  # fmt: skip


def files_mark(data_root: Path, archive_root: Path, day: str) -> str:
    """Of the day file, its WAL and the manifest of its archive."""
    return _mark_of(day_file(data_root, day), manifest_path(archive_root, day))


def mark_of(kind: SideKind, data_root: Path, archive_root: Path, day: str) -> str:
    """The same of its file of order books, of broker queues or of snapshots."""
    db = kind.file_of(data_root, day)
    if kind is SNAPSHOT_KIND:  # archived by itself
        return _mark_of(db, snapshot_archive(archive_root, day) / f"{db.name}{LIST_SUFFIX}")
    return _mark_of(db, manifest_path(archive_root, day))


def _mark_of(db: Path, archived: Path) -> str:
    paths = (db, db.with_name(f"{db.name}-wal"), archived)
    return "|".join("-" if (mark := Mark.of(path)) is None else ".".join(map(str, mark)) for path in paths)


def verified_copy(ship_dir: Path, data_root: Path, archive_root: Path, day: str) -> Verified | None:
    """When the copy of a day was proven, if its files are still those that it was compared with."""
    file, mark = marked_days(ship_dir).get(day, (None, ""))
    return file if mark == files_mark(data_root, archive_root, day) else None


def verified_states(kind: SideKind, ship_dir: Path, data_root: Path, archive_root: Path, day: str) -> Verified | None:
    """The same of its order books, its broker queues or its snapshots."""
    file, mark = marked_days(ship_dir, _TABLES[kind.word]).get(day, (None, ""))
    return file if mark == mark_of(kind, data_root, archive_root, day) else None
