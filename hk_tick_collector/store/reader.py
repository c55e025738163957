"""What a day file says: of its completeness (``coverage``, ``gaps`` and the other notes) and of how much it holds.

Each call opens the file for itself (``read_only.py``) and is of one moment. Tables and columns that came later than the
file are empty, or have their default. Errors are those of ``open_read_only``.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import MISSING as NO_DEFAULT
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from hk_tick_collector.core.ranges import CounterRanges
from hk_tick_collector.store.extents import Extent, parse_extents
from hk_tick_collector.store.gaps import OPEN, read_meta
from hk_tick_collector.store.read_only import read_from
from hk_tick_collector.store.symbol_coverage import later_seqs_of, ranges_of
from hk_tick_collector.store.verdict import (
    Replay,
    read_replays,
)

FRESH_ROWS = 20_000  # the newest rows among which freshness() looks for the newest event time


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


def coverage(db: Path) -> list[CoverageRow]:
    """What the file says of each symbol's completeness, by symbol; empty for a file of an earlier recorder."""
    with read_from(db) as conn:
        return _coverage(conn)


def gaps(db: Path, symbol: str | None = None, state: str | None = None) -> list[GapRow]:
    """The gaps of a day file, all or those of one symbol or state (open | closed), by symbol and start."""
    which = "WHERE (?1 IS NULL OR symbol = ?1) AND (?2 IS NULL OR state = ?2) ORDER BY symbol, gap_start_ts_ms"
    with read_from(db) as conn:
        return table_rows(conn, GapRow, "gaps", which, (symbol, state))


def symbol_rows(db: Path) -> list[SymbolRow]:
    """What the symbols were on that day, by symbol; empty before version 2 and where no source said so."""
    with read_from(db) as conn:
        return table_rows(conn, SymbolRow, "symbols", "ORDER BY symbol")


def amendments(db: Path) -> list[AmendmentRow]:
    """Trades that were corrected or cancelled later, in the order stored; empty before version 2."""
    with read_from(db) as conn:
        return table_rows(conn, AmendmentRow, "amendments", "ORDER BY rowid")


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

    def gaps_by_symbol(self) -> dict[str, list[GapRow]]:
        """Open and closed; symbols without any are left out."""
        return _by_symbol(self.gaps)

    def open_gaps(self) -> dict[str, list[GapRow]]:
        """Those that are open, by symbol."""
        return _by_symbol(gap for gap in self.gaps if gap.state == OPEN)


def _by_symbol(gaps: Iterable[GapRow]) -> dict[str, list[GapRow]]:
    by_symbol: dict[str, list[GapRow]] = {}
    for gap in gaps:
        by_symbol.setdefault(gap.symbol, []).append(gap)
    return by_symbol


def notes(db: Path, *, count_rows: bool = False, last_row: bool = False) -> Notes:
    """The notes of a day file; empty ones for a file of an earlier recorder. ``count_rows``: 0.1 s a million rows;
    ``last_row``: which row is the newest."""
    with read_from(db) as conn:
        conn.execute("BEGIN")
        rows = _coverage(conn)
        gaps = table_rows(conn, GapRow, "gaps", "ORDER BY symbol, gap_start_ts_ms")
        stored = int(conn.execute("SELECT COUNT(*) FROM ticks").fetchone()[0]) if count_rows else None
        newest = "SELECT COALESCE(MAX(rowid), 0) FROM ticks"
        last_rowid = int(conn.execute(newest).fetchone()[0]) if last_row else None
        return Notes(rows, gaps, _last_reading(conn), stored, last_rowid)


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
    rows = [
        replace(row, replay=held.get(row.symbol)) for row in table_rows(conn, CoverageRow, "coverage", which, symbols)
    ]
    return Notes(rows, table_rows(conn, GapRow, "gaps", f"{which} ORDER BY symbol, gap_start_ts_ms", symbols))


_RowT = TypeVar("_RowT", CoverageRow, GapRow, SymbolRow, AmendmentRow)


def table_rows(
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
    rows, held = table_rows(conn, CoverageRow, "coverage", "ORDER BY symbol"), read_replays(conn)
    return [replace(row, replay=held.get(row.symbol)) for row in rows] if held else rows


def freshness(db: Path, now_ms: int, *, exact: bool = False) -> Freshness:
    """Rows, newest event time (UTC ms) and its age at ``now_ms`` in seconds.

    Costs the same at any file size: the recorder only appends, so the newest rowid counts the rows, and the newest
    event is looked for among the FRESH_ROWS rows stored last. ``exact`` reads the whole file instead.
    """
    with read_from(db) as conn:
        if exact:
            rows, max_ts_ms = conn.execute("SELECT COUNT(*), MAX(ts_ms) FROM ticks").fetchone()
        else:
            rows = conn.execute("SELECT COALESCE(MAX(rowid), 0) FROM ticks").fetchone()[0]
            max_ts_ms = conn.execute("SELECT MAX(ts_ms) FROM ticks WHERE rowid > ?", (rows - FRESH_ROWS,)).fetchone()[0]
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
    with read_from(db) as conn:
        return [SymbolCount(*row) for row in conn.execute(sql, (limit,))]
