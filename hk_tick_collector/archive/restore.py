"""Bringing a day back: a day file out of its archive.

Without a day file a new one is built beside its place, read back, and linked into it, whole or not at all; what the
archive holds comes back with all columns, coverage and gaps. A packed day file comes back as it was; from Parquet the
rows are stored in the order of the time at which the recorder first stored them.

With a day file the archive's ticks are joined to it in one transaction: nothing is lost, nothing is there twice. Of a
tick that both have, the archive's version is kept, for it is the earlier one. Coverage and gaps are brought in step by
the recorder's own rules (store/coverage.py). A writer beside would be noticed and waits; to be on the safe side a file
that another process has open is refused.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pyarrow as pa

from hk_tick_collector.archive import atomic, books, kept
from hk_tick_collector.archive.atomic import Refused
from hk_tick_collector.archive.contents import (
    DayFileTicks,
    Row,
    Ticks,
    differing,
    differing_notes,
    groups,
    lacked,
    lacking,
)
from hk_tick_collector.archive.verify import (
    OnRows,
    archive_paths,
    check_bytes,
    check_files,
    count,
    differences,
    opened,
    unpack,
)
from hk_tick_collector.core.errors import NoData, RowRefused, StoreCorrupt, StoreError
from hk_tick_collector.days import parquet
from hk_tick_collector.days.arrow_sql import FILLING_CACHE_KB, filling
from hk_tick_collector.days.content import DayContent
from hk_tick_collector.days.manifest import PARQUET, SQLITE, Manifest, load_manifest, manifest_path
from hk_tick_collector.days.order import tables_as_stored
from hk_tick_collector.records.columns import Role, with_role
from hk_tick_collector.store import data_root as roots
from hk_tick_collector.store import reader
from hk_tick_collector.store.atomic import sync_file
from hk_tick_collector.store.connect import (
    ROW_COLUMNS,
    SqliteOptions,
    keep_orphaned_wal,
    open_day_file,
    table_columns,
    translate,
)
from hk_tick_collector.store.copying import CopiedRows, copy_rows, is_keyed
from hk_tick_collector.store.coverage import DayCoverage
from hk_tick_collector.store.inuse import open_elsewhere
from hk_tick_collector.store.layout import DAY_FILE_GLOB, day_file, sqlite_files, sync_dir
from hk_tick_collector.store.reader import AmendmentRow, CoverageRow, GapRow, SymbolRow
from hk_tick_collector.store.symbol_coverage import COLUMNS as COVERAGE_COLUMNS
from hk_tick_collector.store.verdict import Replay, is_by_total, sequences_count

LOCK_FILE = ".restore.lock"
SORTING_THREADS = 1  # of SQLite, beside the one that reads the rows whose index is made
INSERTED = ROW_COLUMNS.index("inserted_at_ms")

_KEY, _CONTENT = with_role(Role.KEY), with_role(Role.CONTENT)
_COUNT = "SELECT COUNT(*) FROM ticks"
_SELECT = f"SELECT {', '.join(ROW_COLUMNS)} FROM ticks"  # noqa: S608 - our names


@dataclass(frozen=True, slots=True)
class Restored:
    """What became of a day. ``added_rows``: rows of the archive that the day file did not have."""

    trading_day: str
    action: str  # restored | joined | unchanged
    rows: int
    added_rows: int
    path: str
    source: str


def restore_day(
    archive_root: Path,
    day: str,
    data_root: Path,
    *,
    now_ms: int,
    is_copy: bool = False,
    on_rows: OnRows | None = None,
) -> Restored:
    """Put the archived ticks of a day into its day file under ``data_root``, then its order books beside it where there
    are none, inside ``atomic.only_job`` of both. ``is_copy``: the archive goes afterwards, so the files that were kept
    beside the day come back, too.

    ``NoData`` when the day is not archived, ``Refused`` when another process has the day file open or the data root
    holds days of another market, StoreCorrupt when
    no file of the archive is what its manifest says, StoreError or OSError when reading or writing fails. Whatever is
    raised, the day file holds what it held, or, where only what stands beside it could not be brought back, all ticks.
    """
    manifest = load_manifest(archive_root, day)
    if manifest is None:
        raise NoData(f"{day} is not archived: there is no {manifest_path(archive_root, day)}")
    if roots.noted(data_root) not in (None, manifest.market):
        raise Refused(f"{day}: {roots.foreign(data_root, manifest.market)}")
    db = day_file(data_root, day)
    if db.exists():
        elsewhere = open_elsewhere(db)
        if elsewhere.pids:
            raise Refused(f"{db} is open in {elsewhere.holders}: restore {day} when it is closed")
    done = _ticks_back(archive_root, manifest, db, now_ms, on_rows)
    try:
        if is_copy:
            kept.bring_back(archive_root, manifest, data_root)
    finally:  # one damaged file does not keep the books away
        books.bring_back(archive_root, manifest, data_root)
    return done


def _ticks_back(archive_root: Path, manifest: Manifest, db: Path, now_ms: int, on_rows: OnRows | None) -> Restored:
    day = manifest.trading_day
    if not db.exists():
        keep_orphaned_wal(db, now_ms)  # of another file that stood here: SQLite would apply it to ours
        try:
            path = _built(archive_root, manifest, db, on_rows)
        except FileExistsError:
            pass  # the recorder began one meanwhile: join the two
        else:
            return Restored(day, "restored", manifest.rows, manifest.rows, str(db), str(path))
    kind, path = _good_file(archive_root, manifest)
    with opened(kind, path, archive_root, manifest.rows) as ticks:
        added_rows = _join(ticks, manifest, db, now_ms)
    rows = reader.freshness(db, now_ms).rows
    return Restored(day, "joined" if added_rows else "unchanged", rows, added_rows, str(db), str(path))


def tidy(data_root: Path) -> None:
    """Remove what a restore that died left. Inside ``atomic.only_job(data_root, LOCK_FILE)``."""
    for path in data_root.glob(f".{DAY_FILE_GLOB}{atomic.PART_SUFFIX}*"):
        path.unlink(missing_ok=True)


def _good_file(archive_root: Path, manifest: Manifest) -> tuple[str, Path]:
    """The first file of the archive that is what the manifest says, read from end to end."""
    all_problems: list[str] = []
    paths = archive_paths(archive_root, manifest.trading_day, manifest.market)
    for kind in _kinds(manifest):
        _, problems = check_files(archive_root, manifest, paths, only=kind)
        if not problems:
            return kind, paths[kind]
        all_problems += problems
    raise _untrusted(manifest, all_problems)


def _kinds(manifest: Manifest) -> list[str]:
    """Those of the archive's files; the day file itself first, if it is there."""
    return sorted((file.kind for file in manifest.files), key=lambda kind: kind != SQLITE)


def _untrusted(manifest: Manifest, problems: Sequence[str]) -> StoreCorrupt:
    told = "; ".join(problems) or "it is empty"
    return StoreCorrupt(f"the archive of {manifest.trading_day} cannot be trusted: {told}")


# -- a new day file ----------------------------------------------------------------------------------------------------


def _built(archive_root: Path, manifest: Manifest, db: Path, on_rows: OnRows | None) -> Path:
    """Build it out of the first file of the archive that is what its manifest says; which one that is.

    Its bytes are checked first. Its rows are counted once, when they are read back: what is there must be what the
    manifest claims. Only when it is not, they are counted in the archive as well, to say whose fault it is.
    """
    all_problems: list[str] = []
    paths = archive_paths(archive_root, manifest.trading_day, manifest.market)
    for kind in _kinds(manifest):
        problems, error = check_bytes(archive_root, manifest, only=kind), None
        if not problems:
            try:
                _build(kind, paths[kind], manifest, db, on_rows)
            except (StoreCorrupt, RowRefused) as exc:
                error = exc
            else:
                return paths[kind]
        problems = check_files(archive_root, manifest, paths, only=kind)[1] or problems
        if error is not None and not problems:
            raise error
        all_problems += problems
    raise _untrusted(manifest, all_problems)


def _build(kind: str, path: Path, manifest: Manifest, db: Path, on_rows: OnRows | None) -> None:
    part = atomic.new_part(db)
    try:
        if kind == PARQUET:
            _fill(part, path, manifest, on_rows)
        else:
            unpack(path, part, manifest.rows)
        make_logged(part)  # then it is read as a closed file, which takes half of the time
        _check_built(part, manifest)
        sync_file(part)
        os.link(part, db)  # unlike a rename it never replaces a file
        sync_dir(db.parent)
    finally:
        for file_path in sqlite_files(part):
            file_path.unlink(missing_ok=True)


def _fill(part: Path, path: Path, manifest: Manifest, on_rows: OnRows | None) -> None:
    # Nobody else knows this file, and it counts only when it is synced and linked into place.
    options = SqliteOptions(journal_mode="TRUNCATE", synchronous="OFF")
    try:
        with closing(open_day_file(part, options)) as conn:
            indexes = _without_indexes(conn)
        with filling(part) as append:
            for table in _as_stored(path, manifest.rows):
                for batch in table.to_batches():
                    append(batch)
                if on_rows is not None:
                    on_rows(table.num_rows)
        with closing(open_day_file(part, options)) as conn:
            conn.execute(f"PRAGMA cache_size = -{FILLING_CACHE_KB}")
            conn.execute(f"PRAGMA threads = {SORTING_THREADS}")
            with _sorting_beside(conn, part):
                conn.execute("BEGIN IMMEDIATE")
                for sql in indexes:
                    conn.execute(sql)
            _insert(conn, "coverage", CoverageRow, manifest.coverage)
            _insert(conn, "replays", Replay, [row.replay for row in manifest.coverage if row.replay is not None])
            _insert(conn, "gaps", GapRow, manifest.gaps)
            _insert(conn, "symbols", SymbolRow, manifest.symbol_rows)
            _insert(conn, "amendments", AmendmentRow, manifest.amendments)
            conn.execute("COMMIT")
    except (sqlite3.Error, OverflowError, ValueError) as exc:
        raise translate(exc, part) from exc


@contextmanager
def _sorting_beside(conn: sqlite3.Connection, part: Path) -> Iterator[None]:
    """What SQLite sorts and does not keep in memory lies on the disk that the file is made on, and not on that of
    temporary files, which may be small, or memory: 150 MB for five million ticks. It has no name there, so a kill
    leaves nothing. The setting is the process's: nobody else in a command that restores sorts meanwhile."""
    directory = str(part.parent).replace("'", "''")
    conn.execute(f"PRAGMA temp_store_directory = '{directory}'")
    try:
        yield
    finally:
        conn.execute("PRAGMA temp_store_directory = ''")


def _without_indexes(conn: sqlite3.Connection) -> list[str]:
    """Take the indexes of ``ticks`` away; what makes them again when all rows are there. Sorting them once takes half
    of the time that finding the place of each row does. Rows that an index refuses are an error then."""
    made = "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND tbl_name = 'ticks' AND sql IS NOT NULL"
    indexes = conn.execute(made).fetchall()
    for name, _ in indexes:
        conn.execute(f"DROP INDEX {name}")
    return [sql for _, sql in indexes]


def _as_stored(path: Path, rows: int) -> Iterator[pa.Table]:
    """The ticks of a Parquet file as they were stored, a part at a time. StoreCorrupt when it has not so many rows."""
    stamps = [column.view(pa.int64()).to_numpy() for (column,) in parquet.read_batches(path, ("inserted_at_ms",))]
    stamps_ms = np.concatenate([*stamps, np.empty(0, np.int64)])
    if len(stamps_ms) != rows:
        raise StoreCorrupt(f"{path} holds {len(stamps_ms)} ticks, its manifest says {rows}")
    return tables_as_stored(parquet.read_batches(path, parquet.told_columns(path)), stamps_ms)


def make_logged(part: Path) -> None:
    """With a write-ahead log, as a recorder's file: retention draws a proof from it (retain.py)."""
    try:
        with closing(sqlite3.connect(part)) as conn:
            conn.execute("PRAGMA journal_mode = WAL").fetchall()
    except sqlite3.Error as exc:
        raise translate(exc, part) from exc


def _insert(
    conn: sqlite3.Connection,
    table: str,
    kind: type[CoverageRow | GapRow | SymbolRow | AmendmentRow | Replay],
    rows: Sequence[CoverageRow | GapRow | SymbolRow | AmendmentRow | Replay],
) -> None:
    names = [field.name for field in fields(kind) if field.name in table_columns(conn, table)]
    sql = f"INSERT OR IGNORE INTO {table} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"  # noqa: S608
    conn.executemany(sql, [[getattr(row, name) for name in names] for row in rows])


def _check_built(part: Path, manifest: Manifest) -> None:
    if differences(count(DayFileTicks(part)), manifest, part) or differing_notes(part, manifest):
        raise StoreCorrupt(f"{part}: what was written is not what the archive holds; check the disk")


# -- joined to a day file ----------------------------------------------------------------------------------------------


def _join(ticks: Ticks, manifest: Manifest, db: Path, now_ms: int) -> int:
    """Store what of the archive the day file lacks; how many rows that were."""
    archived, columns = count(ticks), ticks.columns()
    symbols = differing(archived.symbols, count(DayFileTicks(db)).symbols)
    if not _is_missing(ticks, archived, db, symbols) and not _lacks_notes(db, manifest):
        return 0
    known = reader.amendments(db)
    amendments = [row for row in manifest.amendments if row not in known]
    with closing(open_day_file(db, SqliteOptions())) as conn:
        # Inside the transaction the file is read through this connection alone: another SQLite library in this process
        # would drop its locks when it closes the file (POSIX).
        try:
            conn.execute("BEGIN IMMEDIATE")
            _insert(conn, "gaps", GapRow, manifest.gaps)
            _insert(conn, "symbols", SymbolRow, manifest.symbol_rows)
            _insert(conn, "amendments", AmendmentRow, amendments)
            counts = all(sequences_count(row.distrust) for row in manifest.coverage)
            by_total = any(is_by_total(row.distrust) for row in manifest.coverage)
            coverage = DayCoverage.load(conn, manifest.trading_day, counts=counts, by_total=by_total)
            coverage.take_over(conn, map(_row_of, manifest.coverage))
            before_rows = conn.execute(_COUNT).fetchone()[0]
            for group in groups(symbols, archived):
                _join_symbols(conn, coverage, ticks, group, columns)
            added_rows = conn.execute(_COUNT).fetchone()[0] - before_rows
            coverage.save(conn, now_ms)
            conn.execute("COMMIT")
        except (sqlite3.Error, OverflowError, ValueError) as exc:
            raise translate(exc, db) from exc
    if _is_missing(ticks, archived, db, symbols):
        raise StoreError(f"{db} still lacks ticks of the archive after they were joined; the archive is kept")
    return int(added_rows)


def _join_symbols(
    conn: sqlite3.Connection, coverage: DayCoverage, ticks: Ticks, symbols: Sequence[str], columns: Sequence[str]
) -> None:
    """Each tick with its own time of storing. All rows of the symbols go in: each wants a row of its own there."""
    rows = ticks.rows(symbols)
    if not lacked(rows, _stored(conn, symbols), columns):
        return
    copy_rows(conn, sorted(rows, key=lambda row: (not is_keyed(row), row[INSERTED])), CopiedRows())
    _take_witness(conn, lacked(rows, _stored(conn, symbols), columns), columns)
    coverage.recount(conn, symbols)


def _take_witness(conn: sqlite3.Connection, rows: Sequence[Row], columns: Sequence[str]) -> None:
    """How these ticks came to us, as the archive has it, so far as it has columns for it; the ticks are the same."""
    witness = with_role(Role.CONTENT, Role.WITNESS, among=columns)
    places = [ROW_COLUMNS.index(name) for name in (*witness, *_KEY, "inserted_at_ms", *_CONTENT)]
    conn.executemany(
        f"UPDATE OR IGNORE ticks SET {', '.join(f'{name} = ?' for name in witness)} "  # noqa: S608 - our names
        f"WHERE {' AND '.join(f'{name} IS ?' for name in _KEY)} AND inserted_at_ms >= ? "
        f"AND (seq IS NOT NULL OR ({' AND '.join(f'{name} IS ?' for name in _CONTENT)}))",
        [[row[n] for n in places] for row in rows],
    )


def _is_missing(ticks: Ticks, archived: DayContent, db: Path, symbols: Sequence[str]) -> bool:
    return any(True for _ in lacking(ticks, archived, DayFileTicks(db).rows, symbols))


def _stored(conn: sqlite3.Connection, symbols: Sequence[str]) -> list[Row]:
    marks = ", ".join("?" * len(symbols))
    # A branch an index, as in days/scan.py: without them the table would be scanned.
    parts = [f"{_SELECT} WHERE symbol IN ({marks}) AND seq IS {kind}" for kind in ("NOT NULL", "NULL")]
    return [tuple(row) for part in parts for row in conn.execute(part, tuple(symbols))]


def _knows_less(stored: CoverageRow | None, archived: CoverageRow) -> bool:
    """Of what OpenD showed and what stays for the day; where it was salvaged, nothing is known of either."""
    if stored is None or (stored.verified_until_ms or 0) < (archived.verified_until_ms or 0):
        return True
    return any(
        getattr(archived, name) is not None and getattr(stored, name) is None for name in ("head_counter", "distrust")
    )


def _row_of(row: CoverageRow) -> Row:
    return tuple(getattr(row, name) for name in COVERAGE_COLUMNS)


def _lacks_notes(db: Path, manifest: Manifest) -> bool:
    """Did the recorder learn more of these ticks than the day file knows?"""
    covered = {row.symbol: row for row in reader.coverage(db)}
    described = {row.symbol for row in reader.symbol_rows(db)}
    amended = reader.amendments(db)
    return (
        any(_knows_less(covered.get(row.symbol), row) for row in manifest.coverage)
        or any(row.symbol not in described for row in manifest.symbol_rows)
        or any(row not in amended for row in manifest.amendments)
    )
