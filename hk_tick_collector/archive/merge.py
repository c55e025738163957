"""One day out of several recordings of it: of recorders that ran beside each other (``hk-tickctl merge``).

The recording with the most ticks is copied; what the others have besides goes into the copy, each tick with its own
time of storing.

What is taken, and what is said of it, ``days.joining`` decides.

The file is built beside its place, read back and held against every recording, and linked into place, whole or not at
all. Recordings are only read, each of them once: what is compared waits compressed, about 15 bytes a tick of each.
"""

from __future__ import annotations

import os
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pyarrow as pa

from hk_tick_collector.archive import atomic
from hk_tick_collector.archive.atomic import Refused
from hk_tick_collector.archive.contents import DayFileTicks, differing, rows_of
from hk_tick_collector.archive.restore import make_logged, restore_day
from hk_tick_collector.archive.verify import OnRows, count
from hk_tick_collector.core.errors import NoData, StoreCorrupt
from hk_tick_collector.core.scratch import Scratch, remove_abandoned
from hk_tick_collector.days import twins
from hk_tick_collector.days.catalog import Day
from hk_tick_collector.days.groups import in_groups
from hk_tick_collector.days.joining import Conflict, Held, SymbolPlan, note, plan_symbol
from hk_tick_collector.days.order import GroupedTicks, sort_table
from hk_tick_collector.days.scan import scan_day_file, scan_numbered, scan_symbols
from hk_tick_collector.days.schema import empty_table
from hk_tick_collector.market.market import Market
from hk_tick_collector.store import judging, reader
from hk_tick_collector.store.atomic import sync_file
from hk_tick_collector.store.connect import (
    COPY,
    ROW_COLUMNS,
    SqliteOptions,
    keep_orphaned_wal,
    open_day_file,
    table_columns,
    translate,
)
from hk_tick_collector.store.copying import copy_together
from hk_tick_collector.store.inuse import open_elsewhere
from hk_tick_collector.store.layout import DAY_FILE_GLOB, day_file, sqlite_files, sync_dir
from hk_tick_collector.store.read_only import open_read_only
from hk_tick_collector.store.reader import CoverageRow, GapRow, Notes
from hk_tick_collector.store.symbol_coverage import COLUMNS
from hk_tick_collector.store.verdict import MISSING

LOCK_FILE = ".merge.lock"
GROUP_ROWS = 200_000  # of all recordings, about so many are in memory at a time


@dataclass(frozen=True, slots=True)
class Merged:
    """What became of a day. ``added_rows``: by recording, the ticks that no recording before it had."""

    trading_day: str
    action: str  # merged | unchanged | replaced
    path: str
    rows: int
    added_rows: dict[str, int]
    states: dict[str, int]  # symbols by state
    missing_ticks: int
    conflicts: list[Conflict]


class Recording:
    """One recorder's file of the day. ``name``: what a person calls it."""

    def __init__(self, name: str, db: Path) -> None:
        self.name = name
        self.db = db

    @cached_property
    def notes(self) -> Notes:
        """Of one moment; the rows that are read are those of that moment."""
        return reader.notes(self.db, last_row=True)

    @cached_property
    def coverage(self) -> dict[str, CoverageRow]:
        """By symbol. NoData for a file of an earlier recorder: it noted nothing that could be merged."""
        if not self.notes.coverage and self.notes.last_rowid:
            raise NoData(
                f"{self.db} notes nothing of its completeness: an earlier recorder made it; bring it up to date with: "
                "hk-tickctl migrate"
            )
        return {row.symbol: row for row in self.notes.coverage}

    @cached_property
    def gaps(self) -> dict[str, list[GapRow]]:
        """By symbol, open and closed."""
        return self.notes.gaps_by_symbol()

    def rows(self, symbols: Sequence[str]) -> int:
        """How many ticks it has of these."""
        return sum(self.coverage[symbol].stored_ticks for symbol in symbols if symbol in self.coverage)

    def ticks(self, symbols: Sequence[str], columns: Sequence[str]) -> pa.Table:
        """Those of these symbols, by symbol, in one order whatever the columns."""
        names = tuple(dict.fromkeys((*columns, "symbol", "ts_ms", "seq", "occurrence")))
        known = [symbol for symbol in symbols if symbol in self.coverage]
        return sort_table(scan_symbols(self.db, known, names, last_rowid=self.notes.last_rowid))

    def all_ticks(self, groups: Sequence[Sequence[str]]) -> Callable[[int], pa.Table]:
        """The same of every symbol, read once, as tables of these groups by their number, with ``twins.COLUMNS``."""
        batches = scan_day_file(self.db, twins.COLUMNS, last_rowid=self.notes.last_rowid)
        grouped = GroupedTicks(groups, map(self._noted, batches))
        return lambda group: grouped.table(group) or empty_table(twins.COLUMNS)

    def _noted(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """What is of symbols that its notes name."""
        column = batch.column(batch.schema.get_field_index("symbol"))
        is_noted = [symbol in self.coverage for symbol in column.dictionary.to_pylist()]
        return batch if all(is_noted) else batch.filter(pa.array(is_noted).take(column.indices))

    def numbered(self, seqs: Mapping[str, Sequence[int]], columns: Sequence[str]) -> pa.Table:
        """The ticks that have these sequences, by symbol."""
        return scan_numbered(self.db, seqs, columns)


def tidy(into: Path) -> None:
    """Remove what a merge that died left. Inside ``atomic.only_job(into, LOCK_FILE)``."""
    for path in into.glob(f".{DAY_FILE_GLOB}{atomic.PART_SUFFIX}*"):
        path.unlink(missing_ok=True)
    remove_abandoned(into)


@contextmanager
def recordings(days: Mapping[str, Day], into: Path, now_ms: int) -> Iterator[list[Recording]]:
    """The day's files by name, opened as files: one that is archived, or joined of both, is restored for as long."""
    with ExitStack() as stack:
        opened = []
        for name, day in days.items():
            db = day.db
            if db is None or day.manifest is not None:
                directory = stack.enter_context(Scratch("merging", into))
                if db is not None:
                    _copy(db, day_file(directory, day.trading_day))
                restore_day(day.archive_root, day.trading_day, directory, now_ms=now_ms)
                db = day_file(directory, day.trading_day)
            opened.append(Recording(name, db))
        yield opened


def merge_day(
    trading_day: str,
    sources: Sequence[Recording],
    into: Path,
    market: Market,
    *,
    now_ms: int,
    replace: bool = False,
    on_rows: OnRows | None = None,
) -> Merged:
    """Build the day file of ``into`` out of these recordings, inside ``atomic.only_job(into, LOCK_FILE)``.

    ``Refused`` when there is one with other content, unless ``replace`` is wanted and nobody has it open; StoreError or
    OSError when reading or writing fails, StoreCorrupt when the result, read back, lacks a tick. Whatever is raised,
    the directory holds what it held.
    """
    db = day_file(into, trading_day)
    base = max(sources, key=lambda source: source.rows(list(source.coverage)))
    part = atomic.new_part(db)
    try:
        _copy(base.db, part)
        read = _Read.of(sources)
        added, conflicts = _fill(part, trading_day, base, read, market, now_ms, on_rows)
        make_logged(part)
        _check(part, read, conflicts)
        sync_file(part)
        action = _put(part, db, replace=replace, now_ms=now_ms)
    finally:
        for path in sqlite_files(part):
            path.unlink(missing_ok=True)
    rows = judging.judged(reader.notes(db))
    return Merged(
        trading_day,
        action,
        str(db),
        sum(row.stored_ticks for row in rows),
        {source.name: added[source.name] for source in sources},
        dict(Counter(row.state for row in rows)),
        sum(row.missing_ticks for row in rows if row.state == MISSING),
        conflicts,
    )


def _copy(db: Path, target: Path) -> None:
    try:
        with closing(open_read_only(db)) as conn, closing(sqlite3.connect(target)) as copy:
            conn.backup(copy)
    except sqlite3.Error as exc:
        raise translate(exc, db) from exc


# -- what each symbol is made of ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Read:
    """What recordings have, each read once: the symbols of all of them in order, a part of them at a time, and each
    one's ticks of a part by its number. They wait compressed (``days.order``)."""

    groups: list[list[str]]
    ticks: dict[Recording, Callable[[int], pa.Table]]

    @classmethod
    def of(cls, sources: Sequence[Recording]) -> _Read:
        symbols = sorted({symbol for source in sources for symbol in source.coverage})
        rows = {symbol: sum(source.rows([symbol]) for source in sources) for symbol in symbols}
        groups = list(in_groups(rows, GROUP_ROWS))
        return cls(groups, {source: source.all_ticks(groups) for source in sources})


# -- into the copy -----------------------------------------------------------------------------------------------------


def _fill(
    part: Path,
    trading_day: str,
    base: Recording,
    read: _Read,
    market: Market,
    now_ms: int,
    on_rows: OnRows | None,
) -> tuple[Counter[str], list[Conflict]]:
    """Rows and notes; how many ticks each recording added, and what contradicts."""
    added: Counter[str] = Counter()
    changed: set[str] = set()
    plans: dict[str, SymbolPlan[Recording]] = {}
    # Nobody else knows this file, and it counts only when it is synced and linked into place.
    with closing(open_day_file(part, SqliteOptions(journal_mode="TRUNCATE", synchronous="NORMAL"))) as conn:
        try:
            conn.execute("PRAGMA synchronous = OFF")
            conn.execute("BEGIN IMMEDIATE")
            conn.execute("DELETE FROM readings")  # of another file
            for number, group in enumerate(read.groups):
                held = Held(group, {source: ticks(number) for source, ticks in read.ticks.items()})
                plans_of_group = {symbol: plan_symbol(symbol, held) for symbol in group}
                added_of_group, changed_of_group = _store(conn, plans_of_group, held, base)
                added.update(added_of_group)
                changed |= changed_of_group
                plans.update(plans_of_group)
                if on_rows is not None:
                    on_rows(sum(source.rows(group) for source in read.ticks))
            note(conn, trading_day, plans, base, market, now_ms, changed)
            _copy_details(conn, list(read.ticks))
            conn.execute("COMMIT")
        except (sqlite3.Error, OverflowError, ValueError) as exc:
            raise translate(exc, part) from exc
    return added, [conflict for plan in plans.values() for conflict in plan.conflicts]


def _store(
    conn: sqlite3.Connection, plans: Mapping[str, SymbolPlan[Recording]], held: Held[Recording], base: Recording
) -> tuple[Counter[str], set[str]]:
    """The ticks of these symbols that the copy lacks; how many each recording added, and which symbols are not as they
    were copied."""
    added: Counter[str] = Counter()
    changed: set[str] = set()
    lacking: dict[Recording, dict[str, list[int]]] = {}  # sequences by symbol
    finer: list[tuple[int, int, str]] = []  # time, sequence, symbol
    for symbol, plan in plans.items():
        sources = sorted(plan.taken, key=lambda source: source is not base)  # what the copy has comes first
        places = held.added(symbol, sources)
        is_vague = held.is_vague(symbol, sources)
        if is_vague or base not in plan.taken:  # the copy has it otherwise, or not at all
            conn.execute("DELETE FROM ticks WHERE symbol = ?", (symbol,))
            changed.add(symbol)
        if is_vague:
            copy_together(conn, [rows_of(source.ticks([symbol], ROW_COLUMNS)) for source in plan.taken])
        else:
            seqs, times_ms = held.finer(symbol, sources)
            finer += [(*told, symbol) for told in zip(times_ms.tolist(), seqs.tolist(), strict=True)]
            changed.update([symbol] if len(seqs) else [])
        for number, source in enumerate(sources):
            if source is base or not len(places[source]):
                continue
            changed.add(symbol)
            if is_vague:
                added[source.name] += len(places[source])
            elif not number:
                added[source.name] += _insert(conn, rows_of(source.ticks([symbol], ROW_COLUMNS)))
            else:
                numbers = held.ticks(source, symbol).column("seq").take(pa.array(places[source]))
                lacking.setdefault(source, {})[symbol] = numbers.to_pylist()
    for source, seqs_by_symbol in lacking.items():
        rows = rows_of(source.numbered(seqs_by_symbol, ROW_COLUMNS))
        added[source.name] += _insert(conn, rows)
    conn.executemany("UPDATE ticks SET ts_ms = ? WHERE seq = ? AND symbol = ?", finer)
    return added, changed


def _insert(conn: sqlite3.Connection, rows: Sequence[tuple[object, ...]]) -> int:
    before_rows = conn.total_changes
    conn.executemany(COPY, rows)
    return conn.total_changes - before_rows


def _copy_details(conn: sqlite3.Connection, sources: Sequence[Recording]) -> None:
    """What was told of symbols, and later of trades, once."""
    for table, read in (("symbols", reader.symbol_rows), ("amendments", reader.amendments)):
        names = table_columns(conn, table)
        values = ", ".join(f"?{n}" for n in range(1, len(names) + 1))
        same = " AND ".join(f"{name} IS ?{n}" for n, name in enumerate(names, start=1))
        sql = f"INSERT OR IGNORE INTO {table} SELECT {values} WHERE NOT EXISTS (SELECT 1 FROM {table} WHERE {same})"  # noqa: S608
        for source in sources:
            conn.executemany(sql, [[getattr(row, name) for name in names] for row in read(source.db)])


# -- read back, and put into place -------------------------------------------------------------------------------------


def _check(part: Path, read: _Read, conflicts: Sequence[Conflict]) -> None:
    """Is every tick of every recording there, but of those that were left out?"""
    left_out = {(conflict.left_out, conflict.symbol) for conflict in conflicts}
    merged = Recording("merged", part).all_ticks(read.groups)
    for number, group in enumerate(read.groups):
        there = merged(number)
        for source, ticks in read.ticks.items():
            differences = twins.compare_all(there, ticks(number), group)
            for symbol, told in differences.items():
                lacks_rows = len(told.second_only) + told.otherwise
                if lacks_rows and (source.name, symbol) not in left_out:
                    raise StoreCorrupt(
                        f"{part.name}, read back, lacks {lacks_rows} ticks of {symbol} that {source.name} has: nothing "
                        "was put into place; check the disk, and if it is sound, merge fewer of these recordings"
                    )


def _put(part: Path, db: Path, *, replace: bool, now_ms: int) -> str:
    """merged | unchanged | replaced."""
    if not db.exists():
        keep_orphaned_wal(db, now_ms)  # of another file that stood here: SQLite would apply it to ours
        os.link(part, db)  # unlike a rename it never replaces a file
        sync_dir(db.parent)
        return "merged"
    if _is_same(part, db):
        return "unchanged"
    if not replace:
        raise Refused(
            f"{db} is there already and holds something else; replace it with --replace, or name another directory"
        )
    holders = open_elsewhere(db)
    if holders.pids:
        raise Refused(f"{db} is open in {holders.holders}: replace it when it is closed")
    if any(path.exists() and path.stat().st_size for path in list(sqlite_files(db))[1:]):
        raise Refused(f"{db} was not closed: its -wal file holds rows; read it once with hk-tickctl vacuum")
    atomic.rename(part, db)
    return "replaced"


def _is_same(part: Path, db: Path) -> bool:
    """The same rows, and the same said of them, whenever that was."""
    if differing(count(DayFileTicks(part)).symbols, count(DayFileTicks(db)).symbols):
        return False
    part_coverage, other = (
        [tuple(getattr(row, name) for name in COLUMNS if name != "updated_at_ms") for row in reader.coverage(path)]
        for path in (part, db)
    )
    return part_coverage == other
