"""Save what can be read from a damaged day file (``hk-tickctl salvage``).

The file is opened read-only and never changed. Its rows are read in order of rowid; where SQLite reports damage, the
next row that can be read by itself is looked for, rowid by rowid, so one broken page costs the rows of that page;
behind thousands that cannot be read, in growing steps. SQLite keeps no checksums; damage that it cannot see shows as
values of the wrong kind, or as rowids that are missing in a file that only ever grew: both count as unreadable.

Rows go into the target by the rules of copying.py with their old ``inserted_at_ms``, in short transactions, so that a
recorder may be writing to the same file. What the file noted of its day goes with them, as far as it can be read: what
OpenD showed, and every doubt, gap and interruption. The state follows from both: rows that were lost are missing.
"""

from __future__ import annotations

import contextlib
import marshal
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, fields
from itertools import islice
from pathlib import Path
from typing import Any

from hk_tick_collector.core.clock import SystemClock
from hk_tick_collector.core.disk import unavailable
from hk_tick_collector.core.errors import RowRefused, StoreError
from hk_tick_collector.core.facts import NOTES_LOST
from hk_tick_collector.records.columns import BY_NAME
from hk_tick_collector.store.atomic import new_temporary, sync_file
from hk_tick_collector.store.connect import (
    ROW_COLUMNS,
    SqliteOptions,
    open_day_file,
    table_columns,
    translate,
)
from hk_tick_collector.store.copying import CopiedRows, copy_rows, is_keyed
from hk_tick_collector.store.coverage import DayCoverage
from hk_tick_collector.store.layout import FILE_MODE, check_day, parse_day, sqlite_files, sync_dir
from hk_tick_collector.store.read_only import open_read_only, select_list
from hk_tick_collector.store.reader import GapRow
from hk_tick_collector.store.symbol_coverage import COLUMNS

CHUNK_ROWS = 1000  # rows a transaction of the target
MIN_ROW_BYTES = 24  # no stored tick is smaller; bounds the rowids when the last one cannot be read
FINENESS = 4096  # a readable stretch is met when it is no smaller than this part of the unreadable one before it

Row = tuple[Any, ...]
# What Python gives for a value that a recorder may have stored in the column.
_FRACTIONAL = ("volume", "total_volume")  # SQLite keeps a fraction in an INTEGER column
_KINDS: dict[str, tuple[type, ...]] = {"TEXT": (str,), "INTEGER": (int,), "REAL": (int, float)}
_ALLOWED = tuple(
    (_KINDS["REAL" if column.name in _FRACTIONAL else column.sql], column.nullable)
    for column in (BY_NAME[name] for name in ROW_COLUMNS)
)
_NOTES = {"coverage": COLUMNS, "gaps": tuple(field.name for field in fields(GapRow))}
_NONE = type(None)
_NOTED: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(_NOTES["coverage"] + _NOTES["gaps"], (int, _NONE)),
    **dict.fromkeys(("stored_ticks", "unsequenced_ticks"), (int,)),
    **dict.fromkeys(("gap_start_ts_ms", "gap_end_ts_ms", "detected_at_ms"), (int,)),
    **dict.fromkeys(("trading_day", "symbol", "state"), (str,)),
    "holes": (str, _NONE), "reason": (str, _NONE), "distrust": (str, _NONE), "meta_json": (str, _NONE),
    "later_interruptions": (str, _NONE),
    "gap_sec": (float, int),
}  # fmt: skip
_TAKE_GAP = f"INSERT OR IGNORE INTO gaps ({', '.join(_NOTES['gaps'])}) VALUES ({', '.join('?' * len(_NOTES['gaps']))})"  # noqa: S608
_TRADING_DAY = ROW_COLUMNS.index("trading_day")


@dataclass
class SalvageReport:
    """What came out of the file. Ranges are rowids, both ends included."""

    read_rows: int = 0
    copied_rows: int = 0  # read_rows less what the target already had
    refused_rows: int = 0  # read, but the target does not take them
    unreadable: list[tuple[int, int]] = field(default_factory=list)
    problem: str | None = None  # the file as a whole could not be opened
    lost_notes: list[str] = field(default_factory=list)  # tables beside the ticks of which not all could be read

    @property
    def clean(self) -> bool:
        """True when every row of the file was read and stored, and what was noted beside them."""
        return not self.unreadable and self.problem is None and self.refused_rows == 0 and not self.lost_notes

    def mark(self, low: int, high: int) -> None:
        """Rowids ``low``..``high`` are unreadable; joins the range before when it touches it."""
        if self.unreadable and self.unreadable[-1][1] + 1 >= low:
            low = self.unreadable.pop()[0]
        self.unreadable.append((low, high))


class _Damage(Exception):
    """The next row of a range cannot be read."""


def salvage(source: Path, into: Path) -> SalvageReport:
    """Copy every readable row of ``source`` into the day file ``into``. StoreError when that cannot be written.

    An absent one is made: it appears whole or not at all, and not for a source that cannot be opened. One that is there
    keeps what was copied until an end comes, and the next run goes on with it."""
    report = SalvageReport()
    try:
        conn = open_read_only(source, damaged=True)
    except StoreError as exc:
        report.problem = str(exc)
        return report
    day = parse_day(into) or ""
    with closing(conn):
        if into.exists() or not _made(conn, source, into, day, report):
            _copy(conn, source, into, day, report)
    return report


def _made(conn: sqlite3.Connection, source: Path, into: Path, day: str, report: SalvageReport) -> bool:
    """Did the copy become ``into``? Not when a recorder made that file meanwhile; then ``report`` is as it was."""
    try:
        with new_temporary(into, FILE_MODE) as part:
            copied = SalvageReport()
            _copy(conn, source, part, day, copied)
            sync_file(part)
            try:
                into.hardlink_to(part)
            except FileExistsError:
                return False
            except OSError:  # a file system without hard links
                if into.exists():
                    return False
                part.replace(into)
        sync_dir(into.parent)
    except OSError as exc:
        raise unavailable(into, exc) from exc
    vars(report).update(vars(copied))
    return True


def _copy(conn: sqlite3.Connection, source: Path, into: Path, day: str, report: SalvageReport) -> None:
    with closing(open_day_file(into, SqliteOptions())) as target:
        told = _take_notes(conn, target, into, day, report)
        copied = CopiedRows()
        for chunk in _chunks(_keyed_first(_readable_rows(conn, source, report), into.parent)):
            _store(target, into, chunk, copied, report)
        _copy_details(conn, target, into, report)
        recount(target, into, day, told)


def _take_notes(
    conn: sqlite3.Connection, target: sqlite3.Connection, into: Path, day: str, report: SalvageReport
) -> list[Row]:
    """Before the rows: a doubt is in the file no later than the rows it is about, whenever this ends. Returns the
    coverage that was told."""
    gaps, told = _told(conn, "gaps", report), _told(conn, "coverage", report)
    try:
        target.execute("BEGIN IMMEDIATE")
        target.executemany(_TAKE_GAP, [gap for gap in gaps if day in ("", gap[0])])
        coverage = DayCoverage.load(target, day)
        coverage.take_over(target, told)
        if report.lost_notes:
            coverage.doubt_all(NOTES_LOST)
        coverage.save(target, SystemClock().now_ms())
        target.execute("COMMIT")
    except sqlite3.Error as exc:
        raise translate(exc, into) from exc
    return told


def _told(conn: sqlite3.Connection, table: str, report: SalvageReport) -> list[Row]:
    """The readable rows of one of these tables, in the order of _NOTES; none where that cannot be told any more, which
    the report says. A file of before the table has none to lose."""
    names = _NOTES[table]
    there = table_columns(conn, table)
    if not there:
        if not _is_absent(conn, table):
            report.lost_notes.append(table)
        return []
    columns = ", ".join(name if name in there else "NULL" for name in names)
    try:
        rows = conn.execute(f"SELECT {columns} FROM {table}").fetchall()  # noqa: S608 - of our schema
    except sqlite3.Error:
        report.lost_notes.append(table)
        return []
    told = [row for row in rows if all(isinstance(value, _NOTED[name]) for name, value in zip(names, row, strict=True))]
    if len(told) < len(rows):
        report.lost_notes.append(table)
    return told


def _is_absent(conn: sqlite3.Connection, table: str) -> bool:
    """Does the file say that it has no such table?"""
    try:
        return (
            conn.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", (table,)).fetchone() is None
        )
    except sqlite3.Error:
        return False


def _copy_details(conn: sqlite3.Connection, target: sqlite3.Connection, into: Path, report: SalvageReport) -> None:
    """What was told of symbols and later of trades, as far as it can be read and is not there yet."""
    for table in ("symbols", "amendments"):
        names = table_columns(target, table)
        values = ", ".join(f"?{n}" for n in range(1, len(names) + 1))
        same = " AND ".join(f"{name} IS ?{n}" for n, name in enumerate(names, start=1))
        sql = f"INSERT OR IGNORE INTO {table} SELECT {values} WHERE NOT EXISTS (SELECT 1 FROM {table} WHERE {same})"  # noqa: S608
        try:
            rows = conn.execute(f"SELECT {', '.join(names)} FROM {table}").fetchall()  # noqa: S608 - of our schema
        except sqlite3.Error:
            if not _is_absent(conn, table):  # as in a file of an earlier version
                report.lost_notes.append(table)
            continue
        try:
            target.executemany(sql, rows)
        except sqlite3.Error as exc:
            raise translate(exc, into) from exc


def _keyed_first(rows: Iterable[Row], directory: Path) -> Iterator[Row]:
    """As copying.py wants them: those without sequence or mark wait in a temporary file in this directory."""
    with tempfile.TemporaryFile(dir=directory) as waiting:
        for row in rows:
            if is_keyed(row):
                yield row
            else:
                marshal.dump(row, waiting)
        waiting.seek(0)
        with contextlib.suppress(EOFError):
            while True:
                yield marshal.load(waiting)  # noqa: S302 - our own file, which nobody else can open


def _chunks(rows: Iterator[Row]) -> Iterator[list[Row]]:
    while chunk := list(islice(rows, CHUNK_ROWS)):
        yield chunk


def recount(target: sqlite3.Connection, into: Path, day: str, told: Sequence[Row] = ()) -> None:
    """Bring ``coverage`` and ``gaps`` of the day file in step with the rows it has now. ``told``: the coverage of the
    file of which it took over what could be read."""
    try:
        target.execute("BEGIN IMMEDIATE")
        coverage = DayCoverage.load(target, day)
        coverage.lose_ends(told)
        coverage.save(target, SystemClock().now_ms())
        target.execute("COMMIT")
    except sqlite3.Error as exc:
        raise translate(exc, into) from exc


def _readable_rows(conn: sqlite3.Connection, source: Path, report: SalvageReport) -> Iterator[Row]:
    try:
        columns = select_list(conn, ROW_COLUMNS)
        only_grew = conn.execute("PRAGMA user_version").fetchone()[0] > 0
    except sqlite3.Error as exc:
        report.problem = str(exc)
        return
    last, claimed = _last_rowid(conn, source)
    done = 0
    for rowid, row in _by_stretches(conn, columns, last):
        if row is None:
            report.mark(done + 1, rowid)
        else:
            if only_grew and rowid > done + 1:
                report.mark(done + 1, rowid - 1)
            report.read_rows += 1
            yield row
        done = rowid
    if only_grew and last > done:
        report.mark(done + 1, last)
    if claimed > last:
        report.mark(last + 1, claimed)


def _by_stretches(conn: sqlite3.Connection, columns: str, last: int) -> Iterator[tuple[int, Row | None]]:
    """The rows up to ``last`` in order of rowid; behind each stretch of which nothing can be read its last rowid, and
    None."""
    some = f"SELECT rowid, {columns} FROM ticks WHERE rowid BETWEEN ? AND ? ORDER BY rowid"  # noqa: S608 - our names
    row_sql = f"SELECT rowid, {columns} FROM ticks WHERE rowid = ?"  # noqa: S608 - it never looks at the page behind
    low = 1
    while low <= last:
        with contextlib.suppress(_Damage):
            for rowid, row in _scan(conn, some, low, last):
                low = rowid + 1
                yield rowid, row
            return
        first_row = _next_row(conn, row_sql, low, last)
        end = last if first_row is None else first_row[0] - 1
        if end >= low:
            yield end, None
        if first_row is None:
            return
        yield first_row
        low = first_row[0] + 1


def _next_row(conn: sqlite3.Connection, sql: str, low: int, last: int) -> tuple[int, Row] | None:
    """The first row from ``low`` on that can be read by itself. At first every rowid is tried, further away one in
    each FINENESS-th of the way: where a page near the root is damaged, the rowids that might be number millions."""
    before, at = low - 1, low
    while before < last:
        readable = _single(conn, sql, at)
        if readable is not None:
            between = (_single(conn, sql, rowid) for rowid in range(before + 1, at))
            return next((row for row in between if row is not None), readable)
        before, at = at, min(at + 1 + (at - low) // FINENESS, last)
    return None


def _single(conn: sqlite3.Connection, sql: str, rowid: int) -> tuple[int, Row] | None:
    with contextlib.suppress(sqlite3.Error):
        stored = conn.execute(sql, (rowid,)).fetchone()
        if stored is not None and stored[0] == rowid and _plausible(stored[1:]):
            return rowid, tuple(stored[1:])
    return None


def _scan(conn: sqlite3.Connection, sql: str, low: int, high: int) -> Iterator[tuple[int, Row]]:
    """The rows of a range; _Damage at the first that is broken, also when only its values show it."""
    read_up_to = low - 1
    try:
        for rowid, *values in conn.execute(sql, (low, high)):
            if not read_up_to < rowid <= high or not _plausible(values):
                raise _Damage
            read_up_to = rowid
            yield rowid, tuple(values)
    except sqlite3.Error as exc:
        raise _Damage from exc


def _last_rowid(conn: sqlite3.Connection, source: Path) -> tuple[int, int]:
    """The last rowid to look for, and the one the table claims. The first is bounded by what the file has room for: a
    damaged page may claim any number."""
    room_bytes = sum(path.stat().st_size for path in sqlite_files(source) if path.is_file())
    most = room_bytes // MIN_ROW_BYTES
    try:
        claimed = int(conn.execute("SELECT COALESCE(MAX(rowid), 0) FROM ticks").fetchone()[0])
    except sqlite3.Error:
        claimed = most
    return min(claimed, most), claimed


def _plausible(values: Sequence[Any]) -> bool:
    """False for values that no recorder stores in these columns: the mark of a page that was overwritten."""
    try:
        check_day(values[_TRADING_DAY])
    except (ValueError, TypeError):
        return False
    return all(
        isinstance(value, kinds) or (value is None and nullable)
        for value, (kinds, nullable) in zip(values, _ALLOWED, strict=True)
    )


def _store(
    target: sqlite3.Connection, path: Path, rows: Sequence[Row], copied: CopiedRows, report: SalvageReport
) -> None:
    try:
        target.execute("BEGIN IMMEDIATE")
        copied_rows = copy_rows(target, rows, copied)
        target.execute("COMMIT")
    except (sqlite3.Error, OverflowError, ValueError) as exc:
        copied.rollback()
        if target.in_transaction:
            target.execute("ROLLBACK")
        error = translate(exc, path)
        if not isinstance(error, RowRefused):
            raise error from exc
        if len(rows) == 1:
            report.refused_rows += 1
            return
        middle = len(rows) // 2
        _store(target, path, rows[:middle], copied, report)
        _store(target, path, rows[middle:], copied, report)
        return
    copied.commit()
    report.copied_rows += copied_rows
