"""What the feed begins with: how far the day files have each symbol, and what they say against it."""

from __future__ import annotations

import logging
import sqlite3
import sys
from collections.abc import Iterable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from hk_tick_collector.core.errors import StoreBusy, StoreError, StoreUnavailable
from hk_tick_collector.core.facts import NO_TICK, PUSH_PULL_DISAGREE, StoredTrack
from hk_tick_collector.core.logline import event
from hk_tick_collector.core.ranges import CounterRanges
from hk_tick_collector.records.tick import PUSH_TYPE_PUSH, Tick, seq_counter
from hk_tick_collector.store.connect import translate
from hk_tick_collector.store.coverage import LAST_SEQ_SQL
from hk_tick_collector.store.extents import parse_extents
from hk_tick_collector.store.gaps import read_meta
from hk_tick_collector.store.layout import parse_day, recent_day_files
from hk_tick_collector.store.read_only import open_read_only, select_list
from hk_tick_collector.store.reader import CoverageRow, GapRow, table_rows
from hk_tick_collector.store.symbol_coverage import TOO_MANY_HOLES
from hk_tick_collector.store.verdict import sequences_count

NUMBERED_ROWS = 32  # of a symbol's newest ticks, which tell the feed how pushes and answers are numbered
WITNESS_ROWS = 4  # of those that were pushed
_NEWEST_SQL = (  # by the same index as LAST_SEQ_SQL
    "FROM ticks INDEXED BY uniq_ticks_symbol_seq WHERE symbol = ? AND seq IS NOT NULL ORDER BY seq DESC LIMIT ?"
)

_log = logging.getLogger(__name__)


def stored_tracks(
    data_root: Path, symbols: Iterable[str], days: int, today: str | None = None, unread: list[Path] | None = None
) -> dict[str, StoredTrack]:
    """For each symbol what the newest of the last ``days`` day files holds that has a sequenced tick of it. Besides, of
    symbols that were not asked for, those with an open interruption (not ``is_wanted``).

    Costs O(symbols x log rows) a file, whatever the file's size; a symbol without a coverage row (a file of an earlier
    recorder) costs its part of the index. Symbols without a sequenced tick are left out, unless their counters are
    known to prove nothing. Files of days after ``today`` are passed over (one stray tick makes one), unless all are: it
    is the clock then that is wrong. Today's is read whatever ``days`` says. A file that cannot be read is skipped with
    a log line: seeding must never stop the recorder. Added to ``unread`` are those of today or later of which it is not
    known what they hold, and earlier ones that the disk or a lock kept from being read: they may be readable later.
    """
    track_of: dict[str, StoredTrack] = {}
    wanted = dict.fromkeys(symbols)
    asked = frozenset(wanted)
    chosen, passed_over = _seed_files(data_root, days, today)
    unread = [] if unread is None else unread
    unread += passed_over
    for path in chosen:
        if not wanted:
            break
        try:
            with closing(open_read_only(path)) as conn:
                rows = {row.symbol: row for row in table_rows(conn, CoverageRow, "coverage")}
                gaps: dict[str, list[dict[str, Any]]] = {}
                for gap in table_rows(conn, GapRow, "gaps"):
                    gaps.setdefault(gap.symbol, []).append(read_meta(gap.meta_json))
                newest_sql = f"SELECT {select_list(conn)} {_NEWEST_SQL}"
                others = [row.symbol for row in rows.values() if row.interrupted_seq and row.symbol not in asked]
                for symbol in [*wanted, *others]:
                    row = rows.get(symbol)
                    track = _track(conn, newest_sql, parse_day(path) or "", symbol, row, gaps.get(symbol, []))
                    if track is None:
                        continue
                    wanted.pop(symbol, None)
                    track_of.setdefault(symbol, track if symbol in asked else replace(track, is_wanted=False))
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
