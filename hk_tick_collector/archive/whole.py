"""Files of a day that are put away as they are: packed, hashed and listed as kept files (``store.kept``), and unpacked
to their very bytes."""

from __future__ import annotations

import contextlib
import gzip
import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

from hk_tick_collector.archive.atomic import Refused
from hk_tick_collector.core.disk import unavailable
from hk_tick_collector.core.errors import StoreUnavailable
from hk_tick_collector.core.regular import open_regular
from hk_tick_collector.store.connect import SqliteOptions, translate
from hk_tick_collector.store.kept import KeptFile, check_room, keep_in, problems_of
from hk_tick_collector.store.layout import FILE_MODE, make_dir, sync_dir


def finish(path: Path, open_for_writing: Callable[[Path, SqliteOptions], sqlite3.Connection]) -> None:
    """Bring what a recorder that died left in the WAL into the file. StoreError."""
    conn = open_for_writing(path, SqliteOptions())
    try:
        conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    except sqlite3.Error as exc:
        raise translate(exc, path) from exc
    finally:
        conn.close()


def pack(path: Path, directory: Path, noun: str, records: int, now_ms: int) -> KeptFile:
    """Pack a file into ``directory`` and list it there. ``noun`` stands where files of one symbol name it. Refused when
    somebody wrote to it meanwhile, and nothing is kept then; OSError, StoreUnavailable."""
    with open_regular(path) as source:
        before = os.fstat(source.fileno())

        def describe(size_bytes: int, sha256: str, packed_bytes: int, packed_sha256: str) -> KeptFile:
            after = os.fstat(source.fileno())
            if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
                raise Refused(f"{path} was written to while it was packed: archive the day again")
            return KeptFile(
                path.name, noun, records, 0, size_bytes, sha256, packed_bytes, packed_sha256, before.st_mtime_ns, now_ms
            )

        return keep_in(directory, source, describe)


def is_packed(entry: KeptFile, path: Path) -> bool:
    """Is the file still the one that was packed? By size and time alone. OSError."""
    stat = path.stat()
    return (entry.size_bytes, entry.source_changed_ns) == (stat.st_size, stat.st_mtime_ns)


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
