"""Read-only access to day files, live or closed; never in the writer's way.

A connection is opened with ``mode=ro`` and keeps no read transaction between two chunks, so the writer's checkpoints
can always finish. A reader of a live file sees what was committed when its statement began.

A closed day file is marked as WAL, and SQLite would make a WAL and shared memory to read it, which stay: of another
owner than the recorder's, they lock it out. Nothing is missing from such a file itself, so it is opened as
``immutable``, which makes nothing; that is right only while nobody writes to it. Whoever begins to while it is read is
noticed at the end: then ``close`` raises StoreBusy, and what was read does not count.

Files of an earlier recorder (the first 14 columns only) are read too; the columns they lack are None.
"""

from __future__ import annotations

import logging
import sqlite3
import sys
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import MISSING as NO_DEFAULT
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from hk_tick_collector.core.errors import StoreBusy, StoreCorrupt, StoreError, StoreUnavailable
from hk_tick_collector.core.facts import NO_TICK, PUSH_PULL_DISAGREE, StoredTrack
from hk_tick_collector.core.logline import event
from hk_tick_collector.core.ranges import CounterRanges
from hk_tick_collector.records.columns import BY_NAME
from hk_tick_collector.records.tick import PUSH_TYPE_PUSH, Tick, seq_counter
from hk_tick_collector.store.companions import Mark, connect_live, is_closed, opening, would_leave_shm
from hk_tick_collector.store.connect import APPLICATION_ID, check_known, table_columns, translate, unavailable
from hk_tick_collector.store.coverage import LAST_SEQ_SQL
from hk_tick_collector.store.extents import Extent, parse_extents
from hk_tick_collector.store.gaps import OPEN, read_meta
from hk_tick_collector.store.layout import parse_day, recent_day_files
from hk_tick_collector.store.symbol_coverage import TOO_MANY_HOLES, later_seqs_of, ranges_of
from hk_tick_collector.store.verdict import (
    Replay,
    read_replays,
    sequences_count,
)

READ_TIMEOUT_SEC = 1.0  # readers meet a lock only while a WAL is recovered or a rollback journal is committed
FRESH_ROWS = 20_000  # the newest rows among which freshness() looks for the newest event time
NUMBERED_ROWS = 32  # of a symbol's newest ticks, which tell the feed how pushes and answers are numbered
WITNESS_ROWS = 4  # of those that were pushed
_NEWEST_SQL = (  # by the same index as LAST_SEQ_SQL
    "FROM ticks INDEXED BY uniq_ticks_symbol_seq WHERE symbol = ? AND seq IS NOT NULL ORDER BY seq DESC LIMIT ?"
)

_log = logging.getLogger(__name__)


class Freshness(NamedTuple):
    """How much a day file holds and how old its newest event is."""

    rows: int
    max_ts_ms: int | None
    lag_sec: float | None  # None: no rows yet


class SymbolCount(NamedTuple):
    """One symbol's part of a day file."""

    symbol: str
    rows: int
    max_seq: int | None


@dataclass(frozen=True, slots=True)
class CoverageRow:
    """A row of ``coverage``, with the symbol's row of ``replays``; the columns are described in coverage.sql."""

    symbol: str
    first_counter: int | None
    last_counter: int | None
    stored_ticks: int
    missing_ticks: int
    holes: str | None
    head_proven: int
    verified_counter: int | None
    verified_until_ms: int | None
    first_ts_ms: int | None
    last_ts_ms: int | None
    state: str
    reason: str | None
    updated_at_ms: int
    unsequenced_ticks: int
    head_counter: int | None
    distrust: str | None
    interrupted_seq: int | None = None  # files that were made before it was known lack it
    later_interruptions: str | None = None  # likewise
    replay: Replay | None = None

    @property
    def ranges(self) -> CounterRanges:
        """The counters stored."""
        return ranges_of(self.first_counter, self.last_counter, self.holes)

    @property
    def later_seqs(self) -> list[int] | None:
        """The newest sequences before interruptions that are open, but for the first one's; None: not known."""
        return later_seqs_of(self.interrupted_seq, self.later_interruptions)


@dataclass(frozen=True, slots=True)
class GapRow:
    """A row of ``gaps``; ``meta_json`` is described in gaps.py."""

    trading_day: str
    symbol: str
    gap_start_ts_ms: int
    gap_end_ts_ms: int
    gap_sec: float
    detected_at_ms: int
    reason: str
    meta_json: str | None
    missing_ticks: int | None
    state: str

    @property
    def is_window(self) -> bool:
        """A time in which OpenD did not send the symbol's ticks, and not ticks that are known to be missing."""
        return bool(read_meta(self.meta_json).get("not_subscribed"))

    @property
    def extents(self) -> list[Extent]:
        """Counters still missing. ValueError for what the recorder never writes."""
        return parse_extents(read_meta(self.meta_json).get("extents"))

    @property
    def at_most(self) -> int | None:
        """Not None: up to this counter the day may have had ticks before the first one seen. As ``extents``."""
        told = read_meta(self.meta_json).get("at_most")
        return None if told is None else int(told)

    @property
    def is_over(self) -> bool:
        """False for a window that lasts: its end is then the last time it was seen."""
        return read_meta(self.meta_json).get("over") is not False


@dataclass(frozen=True, slots=True)
class SymbolRow:
    """A row of ``symbols``; the columns are described in details.sql."""

    symbol: str
    name: str | None
    lot_size: int | None
    unit: str | None
    multiplier: float | None
    currency: str | None
    tick_size: float | None
    noted_at_ms: int


@dataclass(frozen=True, slots=True)
class AmendmentRow:
    """A row of ``amendments``; the columns are described in details.sql."""

    symbol: str
    kind: str
    tick_ts_ms: int | None
    tick_seq: int | None
    price: float | None
    volume: int | None
    ts_ms: int | None
    recv_ts_ms: int
    source_text: str | None


def open_read_only(path: Path, *, damaged: bool = False) -> sqlite3.Connection:
    """A read-only connection to a day file; ``damaged`` also opens one that was cut short. One thread after the other
    may use it.

    StoreUnavailable when it is absent, locked or may not be read; StoreCorrupt when it is damaged, belongs to another
    program or has no ``ticks`` table.
    """
    try:
        if path.exists() and not path.is_file():  # opening a pipe would wait for ever
            raise StoreCorrupt(f"{path} is not a file; a day file is wanted there: move it away")
    except OSError as exc:
        raise unavailable(path, exc) from exc
    if is_closed(path):
        return _open_closed(path, damaged)
    if would_leave_shm(path):
        raise StoreUnavailable(
            f"{path} has a WAL and no -shm: to read it would leave one that its owner cannot write; let its owner open "
            f"it once (start the recorder, or run this as its user)"
        )
    try:
        with opening(path):
            return _checked(connect_live(path, "ro", READ_TIMEOUT_SEC), path, damaged)
    except sqlite3.OperationalError as exc:
        is_locked = exc.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY  # then somebody writes: it is no closed file
        if is_locked or not path.is_file() or _has_wal_content(path):
            raise translate(exc, path) from exc
    except sqlite3.Error as exc:
        raise translate(exc, path) from exc
    return _open_closed(path, damaged)


class ClosedFile(sqlite3.Connection):
    """What was read counts only if nobody wrote to the file meanwhile: SQLite was told that nobody would."""

    path: Path | None = None
    mark: Mark | None = None

    def close(self) -> None:
        """StoreBusy when the file has changed."""
        super().close()
        if self.path is not None and Mark.of(self.path) != self.mark:
            raise StoreBusy(f"{self.path} was written to while it was read; ask again")


def _open_closed(path: Path, damaged: bool) -> sqlite3.Connection:
    """Open a file that nobody writes to, without leaving anything beside it."""
    mark = Mark.of(path)
    try:
        # Threads: rows that are read as they are wanted may be wanted by another thread than the one that asked.
        conn = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True, timeout=READ_TIMEOUT_SEC, isolation_level=None,
            factory=ClosedFile, check_same_thread=False,
        )  # fmt: skip
        _checked(conn, path, damaged)
    except sqlite3.Error as exc:
        raise translate(exc, path) from exc
    conn.path, conn.mark = path, mark
    return conn


def _checked(conn: sqlite3.Connection, path: Path, damaged: bool) -> sqlite3.Connection:
    """The connection, to a day file of ours; else it is closed."""
    try:
        if damaged:
            conn.execute("PRAGMA writable_schema = ON")  # SQLite's switch for files shorter than their header says
        check_known(conn.execute("PRAGMA user_version").fetchone()[0], path)
        if not table_columns(conn):
            raise StoreCorrupt(f"{path} has no ticks table")
        if conn.execute("PRAGMA application_id").fetchone()[0] not in (0, APPLICATION_ID):
            raise StoreCorrupt(f"{path} belongs to another program")
    except BaseException:
        conn.close()
        raise
    return conn


def _has_wal_content(path: Path) -> bool:
    try:
        return Path(f"{path}-wal").stat().st_size > 0
    except FileNotFoundError:
        return False
    except OSError:
        return True


def tracks(
    data_root: Path, symbols: Iterable[str], days: int, today: str | None = None, unread: list[Path] | None = None
) -> dict[str, StoredTrack]:
    """For each symbol what the newest of the last ``days`` day files holds that has a sequenced tick of it.

    Costs O(symbols x log rows) a file, whatever the file's size; a symbol without a coverage row (a file of an earlier
    recorder) costs its part of the index. Symbols without a sequenced tick are left out, unless their counters are
    known to prove nothing. Files of days after ``today`` are passed over (one stray tick makes one), unless all are: it
    is the clock then that is wrong. Today's is read whatever ``days`` says. A file that cannot be read is skipped with
    a log line: seeding must never stop the recorder. Added to ``unread`` are those of today or later of which it is not
    known what they hold, and earlier ones that the disk or a lock kept from being read: they may be readable later.
    """
    track_of: dict[str, StoredTrack] = {}
    wanted = dict.fromkeys(symbols)
    chosen, passed_over = _seed_files(data_root, days, today)
    unread = [] if unread is None else unread
    unread += passed_over
    for path in chosen:
        if not wanted:
            break
        try:
            with closing(open_read_only(path)) as conn:
                rows = {row.symbol: row for row in _rows(conn, CoverageRow, "coverage")}
                gaps: dict[str, list[dict[str, Any]]] = {}
                for gap in _rows(conn, GapRow, "gaps"):
                    gaps.setdefault(gap.symbol, []).append(read_meta(gap.meta_json))
                newest_sql = f"SELECT {select_list(conn)} {_NEWEST_SQL}"
                for symbol in list(wanted):
                    row = rows.get(symbol)
                    track = _track(conn, newest_sql, parse_day(path) or "", symbol, row, gaps.get(symbol, []))
                    if track is None:
                        continue
                    del wanted[symbol]
                    track_of[symbol] = track
        except (StoreError, sqlite3.Error, TypeError, ValueError) as exc:
            _log.warning(event("seed_file_skipped", path=path, error=exc))
            error = translate(exc, path) if isinstance(exc, sqlite3.Error) else exc
            is_past = today is not None and (parse_day(path) or "") < today
            if not is_past or isinstance(error, (StoreBusy, StoreUnavailable)):
                unread.append(path)
    return track_of


def _track(
    conn: sqlite3.Connection,
    newest_sql: str,
    day: str,
    symbol: str,
    row: CoverageRow | None,
    gaps: list[dict[str, Any]],
) -> StoredTrack | None:
    newest = conn.execute(LAST_SEQ_SQL, (symbol,)).fetchone()
    last_seq = newest[0] if newest is not None and isinstance(newest[0], int) else 0
    distrust = (row.distrust if row is not None else None) or ""
    if not last_seq and not distrust:
        return None
    # Ranges that were given up claim more than is stored.
    given_up = TOO_MANY_HOLES in distrust or not sequences_count(distrust)
    stored = CounterRanges() if row is None or given_up else row.ranges
    if row is None:
        for (seq,) in conn.execute("SELECT seq FROM ticks WHERE symbol = ? AND seq IS NOT NULL", (symbol,)):
            stored.add(*(seq_counter(seq),) * 2)
    in_gaps = tuple(extent for meta in gaps for extent in parse_extents(meta.get("extents")))
    head_known = any("at_most" in meta for meta in gaps) or (row is not None and bool(row.head_proven))
    interrupted_seq = (row.interrupted_seq if row is not None else None) or 0
    unkeyed = PUSH_PULL_DISAGREE in distrust
    confirmed = row is not None and row.verified_counter is not None and row.verified_counter != NO_TICK
    pushed, shown = _newest(conn, newest_sql, symbol) if len(stored) > 1 or not confirmed else ([], [])
    return StoredTrack(
        day,
        stored,
        last_seq,
        head_known,
        unkeyed,
        in_gaps,
        distrust,
        interrupted_seq,
        confirmed,
        tuple(pushed[-WITNESS_ROWS:]),
        tuple(shown),
        tuple((row.later_seqs if row is not None else None) or ()),
    )


def _newest(conn: sqlite3.Connection, newest_sql: str, symbol: str) -> tuple[list[Tick], list[Tick]]:
    """What was pushed of it, and what answers showed, oldest first. Read where counters are absent (these may be holes,
    or the two ways may number otherwise), and where no answer has agreed with a push yet."""
    newest = [Tick._make(values) for values in conn.execute(newest_sql, (symbol, NUMBERED_ROWS))]
    readable = [tick for tick in reversed(newest) if isinstance(tick.ts_ms, int)]
    pushed = [tick for tick in readable if tick.push_type == PUSH_TYPE_PUSH]
    return pushed, [tick for tick in readable if tick.push_type != PUSH_TYPE_PUSH]


def _seed_files(data_root: Path, days: int, today: str | None) -> tuple[list[Path], list[Path]]:
    """Those to read, newest first, and those of days after today that are not read."""
    newest_first = recent_day_files(data_root, sys.maxsize)
    past = [path for path in newest_first if today is None or (parse_day(path) or "") <= today]
    if past and parse_day(past[0]) == today:
        days = max(1, days)
    passed_over = [path for path in newest_first if path not in past] if past else []
    return (past or newest_first)[: max(0, days)], passed_over


def schema_version(db: Path) -> int:
    """Which version the file is of; 0 for one of an earlier recorder."""
    with closing(open_read_only(db)) as conn:
        try:
            return int(conn.execute("PRAGMA user_version").fetchone()[0])
        except sqlite3.Error as exc:
            raise translate(exc, db) from exc


def coverage(db: Path) -> list[CoverageRow]:
    """What the file says of each symbol's completeness, by symbol; empty for a file of an earlier recorder."""
    with closing(open_read_only(db)) as conn:
        try:
            return _coverage(conn)
        except sqlite3.Error as exc:
            raise translate(exc, db) from exc


def gaps(db: Path, symbol: str | None = None, state: str | None = None) -> list[GapRow]:
    """The gaps of a day file, all or those of one symbol or state (open | closed), by symbol and start."""
    which = "WHERE (?1 IS NULL OR symbol = ?1) AND (?2 IS NULL OR state = ?2) ORDER BY symbol, gap_start_ts_ms"
    with closing(open_read_only(db)) as conn:
        try:
            return _rows(conn, GapRow, "gaps", which, (symbol, state))
        except sqlite3.Error as exc:
            raise translate(exc, db) from exc


def symbol_rows(db: Path) -> list[SymbolRow]:
    """What the symbols were on that day, by symbol; empty before version 2 and where no source said so."""
    with closing(open_read_only(db)) as conn:
        try:
            return _rows(conn, SymbolRow, "symbols", "ORDER BY symbol")
        except sqlite3.Error as exc:
            raise translate(exc, db) from exc


def amendments(db: Path) -> list[AmendmentRow]:
    """Trades that were corrected or cancelled later, in the order stored; empty before version 2."""
    with closing(open_read_only(db)) as conn:
        try:
            return _rows(conn, AmendmentRow, "amendments", "ORDER BY rowid")
        except sqlite3.Error as exc:
            raise translate(exc, db) from exc


class Reading(NamedTuple):
    """When a file was last read from end to end and found sound, and how many rows it had then."""

    read_at_ms: int
    rows: int


class Notes(NamedTuple):
    """What a day's file says of its completeness, all of one moment."""

    coverage: list[CoverageRow]  # by symbol
    gaps: list[GapRow]  # by symbol and start, open and closed
    reading: Reading | None = None
    rows: int | None = None  # rows in ``ticks`` at the same moment, where they were counted
    last_rowid: int | None = (
        None  # of ``ticks`` at the same moment, where it was asked for: later rows have greater ones
    )

    def open_gaps(self) -> dict[str, list[GapRow]]:
        """Those that are open, by symbol."""
        gaps_of: dict[str, list[GapRow]] = {}
        for gap in self.gaps:
            if gap.state == OPEN:
                gaps_of.setdefault(gap.symbol, []).append(gap)
        return gaps_of


def notes(db: Path, *, count_rows: bool = False, last_row: bool = False) -> Notes:
    """The notes of a day file; empty ones for a file of an earlier recorder. ``count_rows``: 0.1 s a million rows;
    ``last_row``: which row is the newest."""
    with closing(open_read_only(db)) as conn:
        try:
            conn.execute("BEGIN")
            rows = _coverage(conn)
            gaps = _rows(conn, GapRow, "gaps", "ORDER BY symbol, gap_start_ts_ms")
            stored = int(conn.execute("SELECT COUNT(*) FROM ticks").fetchone()[0]) if count_rows else None
            newest = "SELECT COALESCE(MAX(rowid), 0) FROM ticks"
            last_rowid = int(conn.execute(newest).fetchone()[0]) if last_row else None
            return Notes(rows, gaps, _last_reading(conn), stored, last_rowid)
        except sqlite3.Error as exc:
            raise translate(exc, db) from exc


def _last_reading(conn: sqlite3.Connection) -> Reading | None:
    if not conn.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'readings'").fetchone():
        return None
    row = conn.execute("SELECT read_at_ms, rows FROM readings ORDER BY read_at_ms DESC LIMIT 1").fetchone()
    return None if row is None or not all(isinstance(value, int) for value in row) else Reading(*row)


def replays(db: Path) -> dict[str, Replay]:
    """Those that hold, by symbol: as many ticks are stored as the copy had."""
    return {row.symbol: row.replay for row in coverage(db) if row.replay and row.replay.ticks == row.stored_ticks}


def notes_of(conn: sqlite3.Connection, symbols: Sequence[str]) -> Notes:
    """The notes of a few symbols, through a connection of ``open_read_only``: costs what their rows do."""
    which = f"WHERE symbol IN ({', '.join('?' * len(symbols))})"
    held = read_replays(conn)
    rows = [replace(row, replay=held.get(row.symbol)) for row in _rows(conn, CoverageRow, "coverage", which, symbols)]
    return Notes(rows, _rows(conn, GapRow, "gaps", f"{which} ORDER BY symbol, gap_start_ts_ms", symbols))


_RowT = TypeVar("_RowT", CoverageRow, GapRow, SymbolRow, AmendmentRow)


def _rows(
    conn: sqlite3.Connection, kind: type[_RowT], table: str, which: str = "", args: Sequence[Any] = ()
) -> list[_RowT]:
    """The rows of a table, as objects of ``kind``; none where the table is absent or of an earlier recorder. Columns
    that came later have a default."""
    present = {row[1] for row in conn.execute(f"PRAGMA table_info({table})")}
    names = [field.name for field in fields(kind) if field.name in present or field.default is NO_DEFAULT]
    if not present.issuperset(names):
        return []
    rows = conn.execute(f"SELECT {', '.join(names)} FROM {table} {which}", args)  # noqa: S608 - our names
    return [kind(**dict(zip(names, row, strict=True))) for row in rows]


def _coverage(conn: sqlite3.Connection) -> list[CoverageRow]:
    rows, held = _rows(conn, CoverageRow, "coverage", "ORDER BY symbol"), read_replays(conn)
    return [replace(row, replay=held.get(row.symbol)) for row in rows] if held else rows


def freshness(db: Path, now_ms: int, *, exact: bool = False) -> Freshness:
    """Rows, newest event time (UTC ms) and its age at ``now_ms`` in seconds.

    Costs the same at any file size: the recorder only appends, so the newest rowid counts the rows, and the newest
    event is looked for among the FRESH_ROWS rows stored last. ``exact`` reads the whole file instead.
    """
    with closing(open_read_only(db)) as conn:
        try:
            if exact:
                rows, max_ts_ms = conn.execute("SELECT COUNT(*), MAX(ts_ms) FROM ticks").fetchone()
            else:
                rows = conn.execute("SELECT COALESCE(MAX(rowid), 0) FROM ticks").fetchone()[0]
                max_ts_ms = conn.execute(
                    "SELECT MAX(ts_ms) FROM ticks WHERE rowid > ?", (rows - FRESH_ROWS,)
                ).fetchone()[0]
        except sqlite3.Error as exc:
            raise translate(exc, db) from exc
    return Freshness(rows, max_ts_ms, None if max_ts_ms is None else (now_ms - max_ts_ms) / 1000)


def count_by_symbol(db: Path, limit: int = 20) -> list[SymbolCount]:
    """The ``limit`` symbols with the most ticks, most first. Reads an index from end to end: a tool's query, not a
    heartbeat's."""
    sql = (
        "SELECT symbol, SUM(n), MAX(top) FROM ("
        "SELECT symbol, COUNT(*) AS n, MAX(seq) AS top FROM ticks WHERE seq IS NOT NULL GROUP BY symbol "
        "UNION ALL SELECT symbol, COUNT(*), NULL FROM ticks WHERE seq IS NULL GROUP BY symbol"
        ") GROUP BY symbol ORDER BY 2 DESC, 1 LIMIT ?"
    )
    with closing(open_read_only(db)) as conn:
        try:
            return [SymbolCount(*row) for row in conn.execute(sql, (limit,))]
        except sqlite3.Error as exc:
            raise translate(exc, db) from exc


def select_list(conn: sqlite3.Connection, fields: tuple[str, ...] = Tick._fields) -> str:
    """The SELECT list that gives ``fields`` in order from a file of any version: absent columns by their default or as
    NULL."""
    return ", ".join(f"{sql} AS {name}" if sql != name else name for name, sql in column_sql(conn, fields).items())


def column_sql(conn: sqlite3.Connection, fields: Sequence[str]) -> dict[str, str]:
    """What gives each of ``fields`` from a file of any version."""
    present = set(table_columns(conn))
    return {name: name if name in present else BY_NAME[name].default or "NULL" for name in fields}
