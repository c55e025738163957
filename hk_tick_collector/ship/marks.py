"""What a day's files look like: whoever writes to them changes it."""

from __future__ import annotations

from pathlib import Path

from hk_tick_collector.days.manifest import manifest_path
from hk_tick_collector.ship.state import Compared, Verified, marked_days
from hk_tick_collector.store.book_file import BOOK_KIND, BROKER_KIND, StateKind
from hk_tick_collector.store.companions import Mark
from hk_tick_collector.store.layout import day_file

_TABLES: dict[str, Compared] = {BOOK_KIND.word: "books", BROKER_KIND.word: "brokers"}


def files_mark(data_root: Path, archive_root: Path, day: str) -> str:
    """Of the day file, its WAL and the manifest of its archive."""
    return _mark_of(day_file(data_root, day), archive_root, day)


def mark_of(kind: StateKind, data_root: Path, archive_root: Path, day: str) -> str:
    """The same of its file of order books, or of broker queues."""
    return _mark_of(kind.file_of(data_root, day), archive_root, day)


def _mark_of(db: Path, archive_root: Path, day: str) -> str:
    paths = (db, db.with_name(f"{db.name}-wal"), manifest_path(archive_root, day))
    return "|".join("-" if (mark := Mark.of(path)) is None else ".".join(map(str, mark)) for path in paths)


def verified_copy(ship_dir: Path, data_root: Path, archive_root: Path, day: str) -> Verified | None:
    """When the copy of a day was proven, if its files are still those that it was compared with."""
    file, mark = marked_days(ship_dir).get(day, (None, ""))
    return file if mark == files_mark(data_root, archive_root, day) else None


def verified_states(kind: StateKind, ship_dir: Path, data_root: Path, archive_root: Path, day: str) -> Verified | None:
    """The same of its order books, or of its broker queues."""
    file, mark = marked_days(ship_dir, _TABLES[kind.word]).get(day, (None, ""))
    return file if mark == mark_of(kind, data_root, archive_root, day) else None
