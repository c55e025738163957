"""A day's order books and broker queues, put away with it: their files as they are, packed and hashed as kept files
(``store.kept``).

Packed when the day is archived, so that the manifest lists it and whoever verifies the archive unpacks and hashes it;
deleted with the day file, when the archive holds the very bytes; unpacked again when the day is restored.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import shutil
import sqlite3
from pathlib import Path

from hk_tick_collector.archive.atomic import Refused
from hk_tick_collector.core.errors import StoreUnavailable
from hk_tick_collector.core.regular import open_regular
from hk_tick_collector.days.manifest import Manifest, kept_dir
from hk_tick_collector.store.book_file import STATE_KINDS, StateKind, open_for_writing
from hk_tick_collector.store.companions import Mark, is_closed
from hk_tick_collector.store.connect import SqliteOptions, translate, unavailable
from hk_tick_collector.store.inuse import open_elsewhere
from hk_tick_collector.store.kept import KeptFile, check_room, digest_of, keep, list_entry, problems_of
from hk_tick_collector.store.layout import FILE_MODE, make_dir, sync_dir


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
        _close(path)
    entry = list_entry(data_root, day, path.name)
    if entry is not None and _is_of(entry, path):
        return
    rows = _rows(path)
    with open_regular(path) as source:
        before = os.fstat(source.fileno())

        def describe(size_bytes: int, sha256: str, packed_bytes: int, packed_sha256: str) -> KeptFile:
            after = os.fstat(source.fileno())
            if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
                raise Refused(f"{path} was written to while it was packed: archive the day again")
            return KeptFile(
                path.name,
                kind.word,
                rows,
                0,
                size_bytes,
                sha256,
                packed_bytes,
                packed_sha256,
                before.st_mtime_ns,
                now_ms,
            )

        keep(source, data_root, day, describe)


def fits(manifest: Manifest, data_root: Path) -> bool:
    """Does the archive list the day's books and queues as they are, or are they still being written? By size and time
    alone."""
    return all(_fits(kind, manifest, data_root) for kind in STATE_KINDS)


def _fits(kind: StateKind, manifest: Manifest, data_root: Path) -> bool:
    path, entry = kind.file_of(data_root, manifest.trading_day), _entry(kind, manifest)
    return not path.is_file() or not is_closed(path) or (entry is not None and _is_of(entry, path))


def _is_of(entry: KeptFile, path: Path) -> bool:
    stat = path.stat()
    return (entry.size_bytes, entry.source_changed_ns) == (stat.st_size, stat.st_mtime_ns)


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


def unpack(directory: Path, entry: KeptFile, path: Path) -> None:
    """A packed file as it was, under ``path``, in one step; what is there is never replaced. StoreUnavailable, also for
    one that is not what its entry says."""
    part = path.with_name(f".{path.name}.part")
    try:
        make_dir(path.parent)
        check_room(path.parent, entry.size_bytes)  # which ``problems_of`` holds it to
        problems = problems_of(directory, entry)
        if problems:
            raise StoreUnavailable("; ".join(problems))
        part.unlink(missing_ok=True)
        descriptor = os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, FILE_MODE)
        with os.fdopen(descriptor, "wb") as file:
            with open_regular(directory / entry.packed_name) as packed, gzip.GzipFile(fileobj=packed) as unpacked:
                shutil.copyfileobj(unpacked, file)
            file.flush()
            os.fsync(file.fileno())
        os.utime(part, ns=(entry.source_changed_ns, entry.source_changed_ns))  # the archive lists it so
        with contextlib.suppress(FileExistsError):  # the recorder began one meanwhile
            path.hardlink_to(part)
        sync_dir(path.parent)
    except OSError as exc:
        raise unavailable(path, exc) from exc
    finally:
        part.unlink(missing_ok=True)


def _entry(kind: StateKind, manifest: Manifest) -> KeptFile | None:
    name = kind.file_of(Path(), manifest.trading_day).name
    return next((entry for entry in manifest.depth if entry.name == name), None)


def _close(path: Path) -> None:
    """Bring what a recorder that died left in the WAL into the file."""
    conn = open_for_writing(path, SqliteOptions())
    try:
        conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    except sqlite3.Error as exc:
        raise translate(exc, path) from exc
    finally:
        conn.close()


def _rows(path: Path) -> int:
    conn = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)
    try:
        return int(conn.execute("SELECT count(*) FROM pushes").fetchone()[0])
    except sqlite3.Error as exc:
        raise translate(exc, path) from exc
    finally:
        conn.close()
