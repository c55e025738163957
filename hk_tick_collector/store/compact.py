"""A closed day file made as small as it can be: copied by SQLite without its holes, compared, exchanged.

The file stays what it is until a synced copy with the same content takes its name; a process that dies at any moment
leaves the one or the other. Nobody may have the file open. Somebody who opens it in the last moment is found by the
link to the old file that is kept until the exchange is over: then the old file gets its name back, with whatever was
written to it.

The copy is in rollback mode, as SQLite makes it; a recorder that opens it turns it to WAL again.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from hk_tick_collector.core.disk import unavailable
from hk_tick_collector.core.errors import StoreBusy, StoreCorrupt, StoreUnavailable
from hk_tick_collector.store.atomic import new_temporary, sync_file
from hk_tick_collector.store.companions import connect_live
from hk_tick_collector.store.connect import identify, translate
from hk_tick_collector.store.inuse import open_elsewhere
from hk_tick_collector.store.layout import sync_dir

LOCK_TIMEOUT_SEC = 2.0


@dataclass(frozen=True, slots=True)
class Compacted:
    """What came of it."""

    before_bytes: int
    after_bytes: int

    @property
    def is_changed(self) -> bool:
        """Was the file exchanged? It is left alone when the copy is not smaller."""
        return self.after_bytes < self.before_bytes


def compact(db: Path, content: Callable[[Path], object]) -> Compacted:
    """Exchange ``db`` for a copy without free space. ``content``: what a file's ticks are, to be equal in both.

    StoreBusy when another process uses the file or changed it meanwhile, StoreCorrupt when it is not ours, is damaged,
    or the copy differs, StoreUnavailable when the disk refuses. In all these cases ``db`` is as it was.
    """
    try:
        statuses = [path.stat() for path in (db, *_companions(db))]
        before_bytes = sum(status.st_size for status in statuses)
        written_ns = max(status.st_mtime_ns for status in statuses)
        with new_temporary(db, 0o600) as copy, contextlib.closing(_connect(db)) as conn:
            _close_wal(conn, db)
            version = _data_version(conn)
            conn.execute("VACUUM INTO ?", (str(copy),))
            _check_equal(conn, db, copy, content)
            if copy.stat().st_size >= before_bytes:
                os.utime(db, ns=(written_ns, written_ns))
                return Compacted(before_bytes, before_bytes)
            _take_over_owner(db, copy)
            os.utime(copy, ns=(written_ns, written_ns))  # nothing was stored since: reports of the day stay true
            sync_file(copy)
            conn.execute("BEGIN IMMEDIATE")  # from here on nobody else writes to the old file
            if _data_version(conn) != version:
                raise StoreBusy(f"{db} was written to meanwhile; nothing was changed, try again")
            after_bytes = copy.stat().st_size
            _exchange(db, copy)
    except sqlite3.Error as exc:
        raise translate(exc, db) from exc
    except OSError as exc:
        raise unavailable(db, exc) from exc
    return Compacted(before_bytes, after_bytes)


def refuse_if_open(db: Path) -> str | None:
    """StoreBusy when another process has the file open; else what could not be looked at, for a person."""
    elsewhere = open_elsewhere(db)
    if elsewhere.pids:
        raise StoreBusy(f"{db} is open in another process: {elsewhere.holders}; end that first")
    return elsewhere.caveat


def _connect(db: Path) -> sqlite3.Connection:
    conn = connect_live(db, "rw", LOCK_TIMEOUT_SEC)
    try:
        identify(conn, db)
    except BaseException:
        conn.close()
        raise
    return conn


def _close_wal(conn: sqlite3.Connection, db: Path) -> None:
    """Bring everything into the file itself. SQLite refuses while any other connection has it open in WAL mode."""
    mode = conn.execute("PRAGMA journal_mode = DELETE").fetchone()[0]
    if mode != "delete":
        raise StoreBusy(f"{db} is in use by another connection; find it with lsof or fuser")


def _data_version(conn: sqlite3.Connection) -> int:
    """Changes when another connection commits."""
    return int(conn.execute("PRAGMA data_version").fetchone()[0])


def _check_equal(conn: sqlite3.Connection, db: Path, copy: Path, content: Callable[[Path], object]) -> None:
    with contextlib.closing(sqlite3.connect(f"{copy.absolute().as_uri()}?mode=ro", uri=True)) as copied:
        answer = copied.execute("PRAGMA quick_check(1)").fetchone()[0]
        if answer != "ok":
            raise StoreCorrupt(f"the copy of {db} is damaged ({answer}); nothing was changed")
        for original, copied_part in zip(_besides_ticks(conn), _besides_ticks(copied), strict=True):
            if original != copied_part:
                raise StoreCorrupt(f"the copy of {db} differs from it ({original[0]}); nothing was changed")
    if content(db) != content(copy):
        raise StoreCorrupt(f"the copy of {db} holds other ticks; nothing was changed")


def _besides_ticks(conn: sqlite3.Connection) -> Iterator[tuple[object, ...]]:
    """All that a file holds beside its ticks: marks, schema, and the rows of the other tables."""
    for pragma in ("application_id", "user_version"):
        yield pragma, conn.execute(f"PRAGMA {pragma}").fetchone()
    schema = conn.execute("SELECT type, name, sql FROM sqlite_master ORDER BY type, name").fetchall()
    yield "schema", schema
    for kind, name, _ in schema:
        if kind == "table" and name != "ticks" and not name.startswith("sqlite_"):
            quoted = '"' + name.replace('"', '""') + '"'
            yield name, sorted(conn.execute(f"SELECT * FROM {quoted}"), key=repr)  # noqa: S608 - of the file's schema


def _take_over_owner(db: Path, copy: Path) -> None:
    """The copy belongs to whom the file belongs to, else the recorder could not write to it."""
    status = db.stat()
    descriptor = os.open(copy, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        os.fchown(descriptor, status.st_uid, status.st_gid)
        os.fchmod(descriptor, status.st_mode & 0o777)
    except OSError as exc:
        raise StoreUnavailable(f"{db} belongs to uid {status.st_uid}: run this as that user") from exc
    finally:
        os.close(descriptor)


def _exchange(db: Path, copy: Path) -> None:
    """Give the copy the file's name, unless somebody opened the file meanwhile."""
    refuse_if_open(db)
    old = copy.with_name(f".{db.name}.old{copy.name.removeprefix(f'.{db.name}')}")
    os.link(db, old)
    try:
        copy.replace(db)
        try:
            refuse_if_open(old)
        except BaseException:
            old.replace(db)
            raise
    finally:
        old.unlink(missing_ok=True)
    sync_dir(db.parent)


def _companions(db: Path) -> list[Path]:
    """What SQLite keeps beside the file and what counts as a part of it."""
    paths = [path for suffix in ("-wal", "-journal") if (path := db.with_name(db.name + suffix)).exists()]
    return [path for path in paths if path.stat().st_size]
