"""Opening a day file for writing: options, schema, migration by version, and SQLite's errors in our own words.

A file is ours when its ``application_id`` says so, or when it is a version-0 file whose ``ticks`` table has exactly the
14 columns of an earlier recorder; such a file is migrated and keeps its rows. Nothing is written to a file before that
is known. A file of a newer version than ours is left alone (StoreUnavailable): its rows wait in the spill for the
newer program instead of being set aside as broken.

A new version. A column of ``ticks`` is a line in ``records.columns``; nothing is to be done here. A column of another
table: a line in its CREATE TABLE and, for files that have the table already, one in ``adds`` of the version's step
(nullable, or with a default), for example ``("coverage", "interrupted_seq INTEGER")``; readers of that table give the
field a default, which older files then show. A new table: CREATE TABLE IF NOT EXISTS in one of the scripts below.
Anything else is SQL of the step. A step may be killed at any moment: all steps are one transaction.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import NamedTuple

from hk_tick_collector.core.disk import unavailable
from hk_tick_collector.core.errors import (
    RowRefused,
    StoreBusy,
    StoreCorrupt,
    StoreError,
    StoreFault,
    StoreUnavailable,
)
from hk_tick_collector.core.logline import event
from hk_tick_collector.records import columns
from hk_tick_collector.records.columns import CONSTANT, SCHEMA_VERSION, STAMP
from hk_tick_collector.records.tick import FIRST_ORIGIN, MORE_COLUMNS, Origin, Tick
from hk_tick_collector.store.companions import connect_live, locked_out
from hk_tick_collector.store.layout import FILE_MODE, FULL_ERRNOS, make_dir, move_companions, set_aside_path, sync_dir

APPLICATION_ID = int.from_bytes(b"HKTK", "big")
JOURNAL_MODES = ("WAL", "DELETE", "TRUNCATE", "PERSIST")  # MEMORY and OFF lose the file with the process
SYNCHRONOUS_MODES = ("OFF", "NORMAL", "FULL", "EXTRA")

# 4096 is the page of the OS and of the disk. A commit of 500 ticks touches about 400 index leaves whatever their size:
# measured with checkpoints, 1024 and 2048 cost more (more pages), 8192 the same CPU with longer commits.
PAGE_SIZE_BYTES = 4096
# The tail leaf of every symbol's index entry must stay in memory: 900 leaves are 3.6 MB, more than SQLite's 2 MB.
CACHE_SIZE_KIB = 16 * 1024
# A reader that pauses a checkpoint lets the WAL grow; give the disk back once it is reset.
WAL_KEEP_BYTES = 64 * 1024 * 1024

_log = logging.getLogger(__name__)

COLUMNS = columns.NAMES
# A whole row of a file as a tuple: as ``Row`` of a tick with its stamp begins, so that the same places serve for both.
ROW_COLUMNS = (*Tick._fields, STAMP, *CONSTANT, *MORE_COLUMNS)

# ON CONFLICT DO NOTHING is INSERT OR IGNORE for the unique indexes only: OR IGNORE would also drop a row that breaks
# NOT NULL, without a word. Such a row must raise, so that it reaches the quarantine.
_UNLESS_STORED = "ON CONFLICT DO NOTHING"


class Inserts(NamedTuple):
    """Statements that take rows of one form."""

    insert: str  # each row is new, or it is an error
    unless_stored: str  # a row that a unique index knows is passed over


def _insert(names: Sequence[str], values: Sequence[str]) -> Inserts:
    insert = f"INSERT INTO ticks ({', '.join(names)}) VALUES ({', '.join(values)})"  # noqa: S608 - our own names
    return Inserts(insert, f"{insert} {_UNLESS_STORED}")


def _parameters(count: int) -> list[str]:
    return [f"?{n}" for n in range(1, count + 1)]


@cache
def inserts(fields: tuple[str, ...], origin: Origin = FIRST_ORIGIN) -> Inserts:
    """Take ticks with these fields, each with its stamp at the end. Columns that they have not are not named: they are
    NULL, and cost nothing. What is the same in every row stands in the statement: 0.17 us a row of 2.3. ValueError for
    an origin that is no plain word."""
    for word in origin:
        if not word.isidentifier():
            raise ValueError(f"{word!r} cannot be a market or a provider: letters, digits and _ only")
    names = (*fields, STAMP)
    return _insert((*names, *CONSTANT), [*_parameters(len(names)), *(f"'{word}'" for word in origin)])


def copy_sql(names: Sequence[str]) -> str:
    """Takes rows of another file with these columns; the other ones are NULL."""
    return _insert(names, _parameters(len(names))).insert


COPY = copy_sql(ROW_COLUMNS)  # takes whole rows of another file


@dataclass(frozen=True, slots=True)
class SqliteOptions:
    """How day files are opened (settings SQLITE_*). ValueError for a mode that is not in the lists above."""

    busy_timeout_ms: int = 5000
    journal_mode: str = "WAL"
    synchronous: str = "NORMAL"
    wal_autocheckpoint: int = 1000  # pages

    def __post_init__(self) -> None:
        if self.journal_mode.upper() not in JOURNAL_MODES:
            raise ValueError(f"journal_mode {self.journal_mode!r} is not one of {', '.join(JOURNAL_MODES)}")
        if self.synchronous.upper() not in SYNCHRONOUS_MODES:
            raise ValueError(f"synchronous {self.synchronous!r} is not one of {', '.join(SYNCHRONOUS_MODES)}")


def _sql(name: str) -> str:
    return resources.files("hk_tick_collector.store").joinpath(name).read_text(encoding="utf-8")


COVERAGE_SQL = _sql("coverage.sql")
DETAILS_SQL = _sql("details.sql")
SCHEMA_SQL = (
    f"{columns.create_table()}{_sql('schema.sql')}{COVERAGE_SQL}{DETAILS_SQL}"
    f"PRAGMA application_id = {APPLICATION_ID};\nPRAGMA user_version = {SCHEMA_VERSION};\n"
)


class Step(NamedTuple):
    """Brings a file from ``version - 1`` to ``version``: first the columns, where a table is there and lacks them, then
    the script."""

    version: int
    sql: str = ""
    adds: tuple[tuple[str, str], ...] = ()  # table, and the column's declaration


def _ticks_columns(version: int) -> tuple[tuple[str, str], ...]:
    return tuple(("ticks", column.declaration) for column in columns.added_by(version))


# It came without a version of its own: who does not know it writes NULL there, which says that nothing is known of it.
LATER_INTERRUPTIONS = ("coverage", "later_interruptions TEXT")
MIGRATIONS: tuple[Step, ...] = (
    Step(
        1,
        f"""
        CREATE UNIQUE INDEX IF NOT EXISTS uniq_ticks_symbol_seq ON ticks (symbol, seq) WHERE seq IS NOT NULL;
        DROP INDEX IF EXISTS uniq_ticks_symbol_ts_price_vol_turnover;
        CREATE UNIQUE INDEX uniq_ticks_symbol_ts_price_vol_turnover
          ON ticks (symbol, ts_ms, price, volume, turnover, occurrence) WHERE seq IS NULL;
        {COVERAGE_SQL}
        PRAGMA application_id = {APPLICATION_ID};
        """,
        (
            *_ticks_columns(1),
            ("gaps", "missing_ticks INTEGER"),
            ("gaps", "state TEXT NOT NULL DEFAULT 'open'"),
        ),
    ),
    Step(
        2,
        f"{COVERAGE_SQL}{DETAILS_SQL}",
        (*_ticks_columns(2), ("coverage", "interrupted_seq INTEGER"), LATER_INTERRUPTIONS),
    ),
)


def _columns_of(version: int, steps: Sequence[Step]) -> tuple[str, ...]:
    """The columns of ``ticks`` in a file of that version: an older file is ours, not one of another kind."""
    added = (adds for step in steps if step.version <= version for adds in step.adds)
    return (*columns.names_of(0), *(declaration.split()[0] for table, declaration in added if table == "ticks"))


def open_day_file(path: Path, options: SqliteOptions, timeout_ms: int | None = None) -> sqlite3.Connection:
    """A connection that may write to the day file at ``path``, made or migrated first if need be.

    ``timeout_ms`` replaces the busy timeout of the options for a caller that waits by itself. The connection is in
    autocommit mode and may be used by one thread at a time. Raises StoreBusy, StoreUnavailable or StoreCorrupt.
    """
    with prepared(path, options.busy_timeout_ms if timeout_ms is None else timeout_ms) as conn:
        version = identify(conn, path)
        set_pragmas(conn, options)
        if version != SCHEMA_VERSION:
            bring_up_to_date(conn, path)
    return conn


@contextmanager
def prepared(path: Path, timeout_ms: int) -> Iterator[sqlite3.Connection]:
    """A connection that may write to a file, which is made first if need be. It stays open, unless what prepares it in
    the ``with`` fails; SQLite's errors there become StoreErrors of the file."""
    make_file(path)
    conn: sqlite3.Connection | None = None
    try:
        conn = connect_live(path, "rw", timeout_ms / 1000)
        yield conn
    except BaseException as exc:
        if conn is not None:
            conn.close()
        if isinstance(exc, sqlite3.Error):
            raise translate(exc, path) from exc
        raise


def make_file(path: Path) -> None:
    """Create the file ourselves: SQLite would give it to everybody to read."""
    try:
        if path.is_dir():
            raise StoreCorrupt(f"{path} is a directory; a day file is wanted there: move it away")
        if not path.parent.exists():
            make_dir(path.parent)
        if not path.exists():
            keep_orphaned_wal(path)
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, FILE_MODE))
    except FileExistsError:
        # Never open and close an existing database behind SQLite's back: POSIX would drop all locks of this process.
        return
    except OSError as exc:
        raise unavailable(path, exc) from exc
    sync_dir(path.parent)


def keep_orphaned_wal(path: Path, now_ms: int | None = None) -> None:
    """Save a WAL whose database is gone from ``path``: it may hold committed rows, and SQLite would delete it or apply
    it to the file that comes next. OSError when the directory refuses."""
    if not path.with_name(f"{path.name}-wal").exists():
        return
    target = set_aside_path(path, time.time_ns() // 1_000_000 if now_ms is None else now_ms)
    if move_companions(path, target):
        todo = f"if you moved the database, rename {target.name}-wal to fit it: it may hold its newest rows"
        _log.error(event("day_file_wal_orphaned", path=path, moved_to=f"{target}-wal", todo=todo))


def as_store_error(exc: Exception, path: Path) -> StoreError:
    """Whatever an operation on ``path`` raised, as one of ours: a fault of the machine, of the file, of a row, or, when
    it is none of these, of the recorder's own code. None of them ends the recording."""
    if isinstance(exc, StoreError):
        return exc
    if isinstance(exc, OSError):
        return unavailable(path, exc)
    if isinstance(exc, SQLITE_ERRORS):
        return translate(exc, path)
    return StoreFault(f"{path}: {exc!r}; a fault of the recorder itself, please report it with the lines below")


def has_no_room(exc: BaseException | None) -> bool:
    """Does the disk refuse new bytes, as far as it says why? Of a quota that is used up SQLite tells only that it could
    not write."""
    while exc is not None:
        if getattr(exc, "sqlite_errorcode", None) in _NO_ROOM_CODES or getattr(exc, "errno", None) in FULL_ERRNOS:
            return True
        exc = exc.__cause__
    return False


def set_pragmas(conn: sqlite3.Connection, options: SqliteOptions) -> None:
    for pragma in (
        f"page_size = {PAGE_SIZE_BYTES}",
        f"cache_size = -{CACHE_SIZE_KIB}",
        f"journal_mode = {options.journal_mode}",
        f"journal_size_limit = {WAL_KEEP_BYTES}",
        f"synchronous = {options.synchronous}",
        f"wal_autocheckpoint = {options.wal_autocheckpoint:d}",
    ):
        conn.execute(f"PRAGMA {pragma}").fetchall()


def identify(conn: sqlite3.Connection, path: Path, steps: Sequence[Step] = MIGRATIONS) -> int:
    """The schema version of a file of ours; 0 for an empty one and for one of an earlier recorder.

    StoreCorrupt when it belongs to another program or has no proper ``ticks`` table, StoreUnavailable when a newer
    recorder made it. Reads only.
    """
    application_id = int(conn.execute("PRAGMA application_id").fetchone()[0])
    version, newest_version = int(conn.execute("PRAGMA user_version").fetchone()[0]), steps[-1].version
    columns = table_columns(conn)
    if application_id not in (0, APPLICATION_ID):
        raise StoreCorrupt(f"{path} belongs to another program (application_id {application_id:#x})")
    check_known(version, path, newest_version)
    if not columns:
        tables = [row[0] for row in conn.execute("SELECT name FROM sqlite_master LIMIT 5")]
        if version or tables:
            raise StoreCorrupt(f"{path} has no ticks table (it holds {', '.join(tables) or 'nothing'})")
        return 0
    expected = _columns_of(version, steps)
    if columns[: len(expected)] != expected or (not version and len(columns) != len(expected)):
        raise StoreCorrupt(f"{path} has a ticks table of another kind (columns {', '.join(columns)})")
    return version


def check_known(version: int, path: Path, newest_version: int = SCHEMA_VERSION) -> None:
    """StoreUnavailable for a file of a newer version than ours: it is neither read nor written nor set aside."""
    if version > newest_version:
        raise StoreUnavailable(
            f"{path} was made by a newer recorder (schema version {version}, this one knows {newest_version}); "
            f"install that recorder again or move the file away"
        )


def table_columns(conn: sqlite3.Connection, table: str = "ticks") -> tuple[str, ...]:
    """The column names of a table in order; empty when there is no such table."""
    return tuple(row[1] for row in conn.execute(f"PRAGMA table_info({table})"))


def bring_up_to_date(conn: sqlite3.Connection, path: Path, steps: Sequence[Step] = MIGRATIONS) -> None:
    """Create the schema in an empty file, or run the steps an older file lacks; all of it or nothing."""
    newest_version = steps[-1].version
    conn.execute("BEGIN IMMEDIATE")
    try:
        version = identify(conn, path, steps)  # once more: another process may have been first
        if version == 0 and not table_columns(conn):
            version = _run(conn, SCHEMA_SQL, SCHEMA_VERSION)
        for step in steps:
            if step.version > version:
                _add_columns(conn, step)
                version = _run(conn, step.sql, step.version)
        conn.execute("COMMIT")
    except sqlite3.IntegrityError as exc:
        conn.execute("ROLLBACK")
        raise StoreCorrupt(f"{path}: version {version} cannot be migrated to {newest_version}: {exc}") from exc
    except BaseException:
        if conn.in_transaction:
            conn.execute("ROLLBACK")
        raise


def _add_columns(conn: sqlite3.Connection, step: Step) -> None:
    for table, declaration in step.adds:
        there = table_columns(conn, table)
        if there and declaration.split()[0] not in there:
            conn.execute(f"ALTER TABLE {table} ADD COLUMN {declaration}")


def _run(conn: sqlite3.Connection, script: str, version: int) -> int:
    for statement in split_statements(script):
        conn.execute(statement)
    conn.execute(f"PRAGMA user_version = {version:d}")
    return version


@cache
def split_statements(script: str) -> tuple[str, ...]:
    """The statements of an SQL script one by one: ``executescript`` would commit the transaction it runs in. Scripts
    are few, and each is run for every day."""
    statements, pending = [], ""
    for line in script.splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            statements.append(pending)
            pending = ""
    return (*statements, pending) if pending.strip() else tuple(statements)


_BY_CODE: dict[int, type[StoreError]] = {
    5: StoreBusy,  # BUSY
    6: StoreBusy,  # LOCKED
    15: StoreBusy,  # PROTOCOL: too many racing for the WAL index
    11: StoreCorrupt,  # CORRUPT
    24: StoreCorrupt,  # FORMAT
    26: StoreCorrupt,  # NOTADB
    18: RowRefused,  # TOOBIG
    19: RowRefused,  # CONSTRAINT
    20: RowRefused,  # MISMATCH
    25: RowRefused,  # RANGE
}
_NO_ROOM_CODES = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE})
# What comes through ADBC has no error code, only SQLite's English.
_BY_TEXT: tuple[tuple[str, type[StoreError]], ...] = (
    ("is locked", StoreBusy),
    ("locking protocol", StoreBusy),
    ("malformed", StoreCorrupt),
    ("not a database", StoreCorrupt),
    ("constraint failed", RowRefused),
    ("too big", RowRefused),
    ("datatype mismatch", RowRefused),
)
SQLITE_ERRORS = (sqlite3.Error, OverflowError, ValueError)  # the last two from values that cannot be bound
_DAMAGED_SCHEMA = ("no such table", "no such column", "has no column named")
_UNBINDABLE = ("binding parameter", "bindings supplied")
_CURES = {StoreBusy: "find the other writer with lsof or fuser", StoreUnavailable: "check disk space, mount and rights"}


def translate(exc: BaseException, path: Path) -> StoreError:
    """SQLite's error, or one of the sqlite3 module on a value it cannot bind, as one of ours with the path in it."""
    kind = _kind_of(exc)
    cure = (locked_out(path) if kind is StoreUnavailable else None) or _CURES.get(kind)
    return kind(f"{path}: {exc}" + (f"; {cure}" if cure else ""))


def _kind_of(exc: BaseException) -> type[StoreError]:
    text = str(exc)
    if isinstance(exc, (OverflowError, ValueError, sqlite3.IntegrityError, sqlite3.DataError)):
        return RowRefused
    if any(part in text for part in _UNBINDABLE):
        return RowRefused
    if any(part in text for part in _DAMAGED_SCHEMA):
        return StoreCorrupt
    code = getattr(exc, "sqlite_errorcode", None)
    if code is not None:
        return _BY_CODE.get(code & 0xFF, StoreUnavailable)
    return next((kind for part, kind in _BY_TEXT if part in text), StoreUnavailable)
