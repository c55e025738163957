"""The newest ticks of a symbol: short enough for a thread of the server, without Arrow and without a reading process.

They are looked up by the index on symbol and sequence; those without a sequence by time. Newest means last by event
time, then sequence, as in every other answer. A symbol without ticks in the newest day file is looked for in the few
before it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from hk_tick_collector.client.coverage import Coverage
from hk_tick_collector.client.plan import coverage_rows
from hk_tick_collector.records.columns import NAMES
from hk_tick_collector.serve.api.completeness import summary_of
from hk_tick_collector.serve.api.roots import Root
from hk_tick_collector.store.connect import translate
from hk_tick_collector.store.follow import place_at
from hk_tick_collector.store.layout import parse_day, recent_day_files
from hk_tick_collector.store.position import Position
from hk_tick_collector.store.reader import notes_of, open_read_only, select_list

MAX_TICKS = 1000
DAYS_BACK = 5
_SEQ, _TS_MS = NAMES.index("seq"), NAMES.index("ts_ms")
_NO_SEQ = 1 << 63


@dataclass
class Latest:
    """Rows of a root's symbols, oldest first, as columns of ``NAMES``."""

    rows: list[tuple[Any, ...]]
    position: str | None  # behind the newest row when they were read: where the live channel goes on
    day: str | None  # the newest day file
    coverage: dict[str, Any]  # of the newest day file
    lacking: list[str]  # symbols without any


def latest(root: Root, symbols: Sequence[str], count: int) -> Latest:
    """The newest ``count`` ticks of each symbol. Raises as ``store.reader``."""
    today = root.market.trading_day(root.now_ms)
    paths = recent_day_files(root.data_root, DAYS_BACK, today)
    found: dict[str, list[tuple[Any, ...]]] = {symbol: [] for symbol in symbols}
    judged, position, day = Coverage(), None, None
    for path in paths:
        wanted = [symbol for symbol, rows in found.items() if len(rows) < count]
        if not wanted:
            break
        if position is None:  # before the rows: what comes in between is met by the live channel again
            day = parse_day(path) or ""
            position = str(Position.at_start_of(day).moved(place_at(path, day)))
        with closing(open_read_only(path)) as conn:
            try:
                if path == paths[0]:
                    judged = Coverage(coverage_rows(day or "", notes_of(conn, symbols), symbols, {}))
                columns = select_list(conn, NAMES)
                for symbol in wanted:
                    older = _newest(conn, columns, symbol, count - len(found[symbol]))
                    found[symbol] = older + found[symbol]
            except sqlite3.Error as exc:
                raise translate(exc, path) from exc
    rows = [row for symbol in symbols for row in found[symbol]]
    return Latest(rows, position, day, summary_of(judged), [symbol for symbol, its in found.items() if not its])


def _newest(conn: sqlite3.Connection, columns: str, symbol: str, count: int) -> list[tuple[Any, ...]]:
    sequenced = f"SELECT {columns} FROM ticks WHERE symbol = ? AND seq IS NOT NULL ORDER BY seq DESC LIMIT ?"  # noqa: S608
    others = f"SELECT {columns} FROM ticks WHERE symbol = ? AND seq IS NULL ORDER BY ts_ms DESC LIMIT ?"  # noqa: S608
    rows = [*conn.execute(sequenced, (symbol, count)), *conn.execute(others, (symbol, count))]
    rows.sort(key=lambda row: (row[_TS_MS], _NO_SEQ if row[_SEQ] is None else row[_SEQ]))
    return rows[-count:]
