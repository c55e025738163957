"""One day's rows of a batch into ``ticks``, and what became of each, exactly, for the coverage.

A row whose counter is new cannot be stored already, so such rows go in together. A row whose counter was seen is looked
at by itself: it is a repeat, or another tick with the same sequence. Two ticks with one sequence cannot both keep it.
The later one is stored without, and its ``occurrence`` is ``~seq``: a negative number that the same tick gets again
whenever it comes again, and that no other one has.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

from hk_tick_collector.core.tick import Tick
from hk_tick_collector.store.connect import ROW_COLUMNS, STORE
from hk_tick_collector.store.coverage import DayCoverage, Row, Sorted

# A trade that came without its sequence and now comes with it is the same trade: the row gets its sequence. The first
# of equal ones is taken; a collision (negative occurrence) is another trade.
_CLAIM = (
    "UPDATE OR IGNORE ticks SET seq = ?2, occurrence = 0 WHERE rowid = (SELECT rowid FROM ticks "
    "WHERE seq IS NULL AND symbol = ?1 AND ts_ms = ?3 AND price IS ?4 AND volume IS ?5 AND turnover IS ?6 "
    "AND occurrence >= 0 ORDER BY occurrence LIMIT 1)"
)

COLLISION = "two ticks with one sequence"

_SYMBOL, _TS_MS, _PRICE, _VOLUME, _TURNOVER, _SEQ, _OCCURRENCE = (
    ROW_COLUMNS.index(name) for name in ("symbol", "ts_ms", "price", "volume", "turnover", "seq", "occurrence")
)
# IS, by SQLite: it compares the values as it would store them (NaN becomes NULL, 612 becomes 612.0).
_SAME_TICK = "SELECT ts_ms IS ?3 AND price IS ?4 AND volume IS ?5 FROM ticks WHERE symbol = ?1 AND seq = ?2"


class StoredRows(NamedTuple):
    """What became of the rows."""

    inserted_rows: int
    ignored_unsequenced_rows: int
    collisions: int  # of inserted_rows
    first_collisions: list[tuple[str, int]]  # symbol and sequence of the first one of each symbol that had none today


def store_rows(conn: sqlite3.Connection, coverage: DayCoverage, ticks: Sequence[Tick], stamp: tuple[int]) -> StoredRows:
    """Insert the rows inside the caller's transaction; ``stamp`` is ``inserted_at_ms``."""
    parts = coverage.sort(ticks, stamp)
    new = parts.new
    if parts.claims:
        new = _claim(conn, coverage, new)
    before_rows = conn.total_changes
    conn.executemany(STORE.sequenced, new)
    in_step = conn.total_changes - before_rows == len(new)
    doubtful = parts.doubtful if in_step else [*new, *parts.doubtful]
    collided = _store_doubtful(conn, coverage, doubtful) if doubtful else []
    ignored_rows = _store_unsequenced(conn, coverage, parts) if parts.unsequenced else 0
    collisions, first_collisions = _store_collided(conn, coverage, collided)
    if not in_step:  # another program added rows
        coverage.recount(conn, {row[_SYMBOL] for row in new})
    return StoredRows(conn.total_changes - before_rows, ignored_rows, collisions, first_collisions)


def _claim(conn: sqlite3.Connection, coverage: DayCoverage, rows: Sequence[Row]) -> list[Row]:
    """Give rows that are stored without a sequence theirs; returns those of ``rows`` that are still to be stored."""
    left: list[Row] = []
    for row in rows:
        track = coverage.track(row[_SYMBOL])
        key = (row[_SYMBOL], row[_SEQ], row[_TS_MS], row[_PRICE], row[_VOLUME], row[_TURNOVER])
        if track.unsequenced_ticks and conn.execute(_CLAIM, key).rowcount == 1:
            track.unsequenced_ticks -= 1
            track.settled = False
        else:
            left.append(row)
    return left


def _store_doubtful(conn: sqlite3.Connection, coverage: DayCoverage, rows: Sequence[Row]) -> list[Row]:
    """Insert those whose sequence is not stored; returns the ones whose sequence another tick has."""
    collided: list[Row] = []
    for row in rows:
        found = conn.execute(_SAME_TICK, (row[_SYMBOL], row[_SEQ], row[_TS_MS], row[_PRICE], row[_VOLUME])).fetchone()
        if found is None:
            conn.execute(STORE.sequenced, row)
            track = coverage.track(row[_SYMBOL])
            track.surplus_ticks += 1
            track.settled = False
        elif not found[0]:
            collided.append(row)
    return collided


def _store_collided(
    conn: sqlite3.Connection, coverage: DayCoverage, rows: Sequence[Row]
) -> tuple[int, list[tuple[str, int]]]:
    """Store them without their sequence; returns how many are new, and the symbols that had none before today."""
    collisions = 0
    first_collisions: list[tuple[str, int]] = []
    for row in rows:
        track = coverage.track(row[_SYMBOL])
        before_rows = conn.total_changes
        conn.execute(STORE.unsequenced, _without_sequence(row))
        inserted_rows = conn.total_changes - before_rows
        collisions += inserted_rows
        track.unsequenced_ticks += inserted_rows
        if COLLISION not in (track.distrust or ""):
            first_collisions.append((row[_SYMBOL], row[_SEQ]))
        track.doubt(COLLISION)
    return collisions, first_collisions


def _store_unsequenced(conn: sqlite3.Connection, coverage: DayCoverage, parts: Sorted) -> int:
    """Insert the rows without a sequence; returns how many were stored already."""
    ignored_rows = 0
    for symbol, rows in parts.unsequenced.items():
        before_rows = conn.total_changes
        conn.executemany(STORE.unsequenced, rows)
        inserted_rows = conn.total_changes - before_rows
        coverage.track(symbol).unsequenced_ticks += inserted_rows
        ignored_rows += len(rows) - inserted_rows
    return ignored_rows


def _without_sequence(row: Row) -> Row:
    changed = list(row)
    changed[_OCCURRENCE], changed[_SEQ] = ~row[_SEQ], None
    return tuple(changed)
