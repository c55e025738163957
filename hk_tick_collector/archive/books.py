"""A day's order books and broker queues, put away with it: their files as they are, packed and hashed as kept files
(``store.kept``).

Packed when the day is archived, so that the manifest lists it and whoever verifies the archive unpacks and hashes it;
deleted with the day file, when the archive holds the very bytes; unpacked again when the day is restored.
"""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

from hk_tick_collector.archive.whole import finish, is_packed, pack, unpack
from hk_tick_collector.core.errors import StoreUnavailable
from hk_tick_collector.days.manifest import Manifest, kept_dir
from hk_tick_collector.store.book_file import STATE_KINDS, StateKind, open_for_writing
from hk_tick_collector.store.companions import Mark, is_closed
from hk_tick_collector.store.connect import translate
from hk_tick_collector.store.inuse import open_elsewhere
from hk_tick_collector.store.kept import KeptFile, digest_of, list_entry
from hk_tick_collector.store.layout import depth_dir, sync_dir


def keep_books(data_root: Path, day: str, now_ms: int) -> None:
    """Pack the day's books and queues beside it, unless that is done. While another program has them open, ticks are
    put away without them, and ``fits`` says so later. ``Refused``, StoreError, OSError."""
    for kind in STATE_KINDS:
        _keep(kind, data_root, day, now_ms)


def _keep(kind: StateKind, data_root: Path, day: str, now_ms: int) -> None:
    path = kind.file_of(data_root, day)
    if not path.is_file() or open_elsewhere(path).pids:
        return
    if not is_closed(path):
        finish(path, open_for_writing)
    entry = list_entry(data_root, day, path.name)
    if entry is not None and is_packed(entry, path):
        return
    pack(path, depth_dir(data_root, day), kind.word, _rows(path), now_ms)


def fits(manifest: Manifest, data_root: Path) -> bool:
    """Does the archive list the day's books and queues as they are, or are they still being written? By size and time
    alone."""
    return all(_fits(kind, manifest, data_root) for kind in STATE_KINDS)


def _fits(kind: StateKind, manifest: Manifest, data_root: Path) -> bool:
    path, entry = kind.file_of(data_root, manifest.trading_day), _entry(kind, manifest)
    return not path.is_file() or not is_closed(path) or (entry is not None and is_packed(entry, path))


def leave_to_archive(data_root: Path, manifest: Manifest) -> None:
    """The archive was read and holds the day's books and queues: the files go, unless one is another or somebody has
    it."""
    for kind in STATE_KINDS:
        _leave(kind, data_root, manifest)


def _leave(kind: StateKind, data_root: Path, manifest: Manifest) -> None:
    path = kind.file_of(data_root, manifest.trading_day)
    entry = _entry(kind, manifest)
    with contextlib.suppress(OSError):
        if entry is None or not path.is_file() or not is_closed(path) or open_elsewhere(path).pids:
            return
        before = Mark.of(path)
        is_held = digest_of(path) == (entry.size_bytes, entry.sha256)
        if is_held and Mark.of(path) == before and is_closed(path) and not open_elsewhere(path).pids:
            path.unlink()
            sync_dir(path.parent)


def bring_back(archive_root: Path, manifest: Manifest, data_root: Path) -> None:
    """Unpack the books and queues of an archived day, where there are none. StoreUnavailable, also when the disk cannot
    take what its manifest says of their size; what is there is never replaced."""
    for kind in STATE_KINDS:
        _bring(kind, archive_root, manifest, data_root)


def _bring(kind: StateKind, archive_root: Path, manifest: Manifest, data_root: Path) -> None:
    entry, path = _entry(kind, manifest), kind.file_of(data_root, manifest.trading_day)
    if entry is None or path.exists():
        return
    try:
        unpack(kept_dir(archive_root, manifest.trading_day), entry, path)
    except StoreUnavailable as exc:
        day = manifest.trading_day
        raise StoreUnavailable(
            f"the ticks of {day} are there, its {kind.file.noun} stay in the archive: {exc}"
        ) from exc


def _entry(kind: StateKind, manifest: Manifest) -> KeptFile | None:
    name = kind.file_of(Path(), manifest.trading_day).name
    return next((entry for entry in manifest.depth if entry.name == name), None)


def _rows(path: Path) -> int:
    conn = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)
    try:
        return int(conn.execute("SELECT count(*) FROM pushes").fetchone()[0])
    except sqlite3.Error as exc:
        raise translate(exc, path) from exc
    finally:
        conn.close()
