"""A day's file beside its ticks: order books, broker queues, snapshots. What the file is, and how it is opened.

Each kind has files, tables, a writer and a thread of its own, so that no tick waits for a row of it. ``SideFile`` says
what a kind's files are; ``store/book_file.py`` and ``store/snapshot_file.py`` have those there are.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from hk_tick_collector.core.errors import StoreCorrupt, StoreUnavailable
from hk_tick_collector.store.companions import Mark, connect_live, is_closed, opening, would_leave_shm
from hk_tick_collector.store.connect import SqliteOptions, prepared, set_pragmas, split_statements, translate
from hk_tick_collector.store.read_only import READ_TIMEOUT_SEC, ClosedFile


class NothingYet(StoreUnavailable):
    """A file that was only just made."""


@dataclass(frozen=True)
class SideKind:
    """A kind of record beside ticks, and where its files are."""

    word: str  # of log lines and archives
    file: SideFile
    file_of: Callable[[Path, str], Path]  # data root, day
    days_of: Callable[[Path], list[str]]  # data root


@dataclass(frozen=True)
class SideFile:
    """What the files of a kind are."""

    noun: str  # "order books"
    table: str  # one that every file has
    scripts: tuple[str, ...]  # in this package, make the tables
    application_id: int
    version: int
    advice: str  # where there is none: what records them

    def open_for_writing(self, path: Path, options: SqliteOptions) -> sqlite3.Connection:
        """A connection in autocommit mode, to a file that is made first if need be. StoreBusy, StoreUnavailable;
        StoreCorrupt for a file that is damaged or not one of this kind."""
        with prepared(path, options.busy_timeout_ms) as conn:
            is_new = self._is_new(conn, path)
            set_pragmas(conn, options)
            if is_new:
                self._make_tables(conn)
        return conn

    def open_for_reading(self, path: Path) -> sqlite3.Connection:
        """A read-only connection. StoreUnavailable when there is no file, nothing in it yet or it may not be read;
        StoreCorrupt when it is damaged or not one of this kind. Closing it may raise StoreBusy, as ``store.reader`` has
        it."""
        conn: sqlite3.Connection | None = None
        try:
            if not path.is_file():
                raise StoreUnavailable(f"{path}: no {self.noun} were recorded there; {self.advice}")
            if would_leave_shm(path):
                raise StoreUnavailable(f"{path} has a WAL and no -shm: let its owner open it once (start the recorder)")
            with opening(path):
                conn = _connect_for_reading(path)
                is_new = self._is_new(conn, path)
            if is_new:
                raise NothingYet(f"{path} holds nothing yet")
        except BaseException as exc:
            if conn is not None:
                sqlite3.Connection.close(conn)
            if isinstance(exc, (sqlite3.Error, OSError)):
                raise translate(exc, path) from exc
            raise
        return conn

    @contextmanager
    def reading(self, path: Path) -> Iterator[sqlite3.Connection]:
        """A read-only connection for as long as the context lasts, whose errors are ours: StoreBusy, StoreUnavailable,
        StoreCorrupt, also of a file whose damage lies behind its first page."""
        with closing(self.open_for_reading(path)) as conn:
            try:
                yield conn
            except sqlite3.Error as exc:
                raise translate(exc, path) from exc

    def _is_new(self, conn: sqlite3.Connection, path: Path) -> bool:
        """Is it empty? StoreCorrupt, StoreUnavailable for a file that is not ours to write."""
        application_id = int(conn.execute("PRAGMA application_id").fetchone()[0])
        version = int(conn.execute("PRAGMA user_version").fetchone()[0])
        tables = {str(row[0]) for row in conn.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not tables and not application_id:
            return True
        if application_id != self.application_id or self.table not in tables:
            raise StoreCorrupt(f"{path} holds no {self.noun} (application_id {application_id:#x})")
        if version > self.version:
            raise StoreUnavailable(
                f"{path} was made by a newer recorder ({self.noun} of version {version}, this one knows "
                f"{self.version}); install that recorder again or move the file away"
            )
        return False

    def _make_tables(self, conn: sqlite3.Connection) -> None:
        directory = resources.files("hk_tick_collector.store")
        scripts = [directory.joinpath(name).read_text(encoding="utf-8") for name in self.scripts]
        conn.execute("BEGIN IMMEDIATE")
        try:
            for statement in (sql for script in scripts for sql in split_statements(script)):
                conn.execute(statement)
            conn.execute(f"PRAGMA application_id = {self.application_id:d}")
            conn.execute(f"PRAGMA user_version = {self.version:d}")
            conn.execute("COMMIT")
        except BaseException:
            if conn.in_transaction:
                conn.execute("ROLLBACK")
            raise


def _connect_for_reading(path: Path) -> sqlite3.Connection:
    mark = Mark.of(path)
    if not is_closed(path):
        return connect_live(path, "ro", READ_TIMEOUT_SEC)
    # As it is, without making a file beside it.
    uri = path.absolute().as_uri()
    conn = sqlite3.connect(f"{uri}?mode=ro&immutable=1", uri=True, isolation_level=None, factory=ClosedFile)
    conn.path, conn.mark = path, mark
    return conn
