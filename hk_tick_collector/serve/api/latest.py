"""The newest ticks of a symbol: short enough for a thread of the server, without Arrow and without a reading process.

They are looked up by the index on symbol and sequence; those without a sequence by time. Newest means last by event
time, then sequence, as in every other answer. A symbol without ticks in the newest day file is looked for in the few
before it.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hk_tick_collector.client.plan import coverage_rows
from hk_tick_collector.records.columns import NAMES
from hk_tick_collector.serve.api.completeness import summary_of
from hk_tick_collector.serve.api.roots import Root
from hk_tick_collector.store.connect import translate
from hk_tick_collector.store.follow import identity_of, newest_place
from hk_tick_collector.store.layout import parse_day, recent_day_files
from hk_tick_collector.store.position import Position
from hk_tick_collector.store.reader import notes_of, open_read_only_uri, select_list

DAYS_BACK = 5
KEEP_SEC = 1.0
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


class Newest:
    """Looks up newest ticks in one data root, on a thread of its own.

    The connection to a live day file is kept for KEEP_SEC, so that many questions cost one opening, and no recorder
    waits long for a reader when it closes a file. A closed file is opened for each question.
    """

    def __init__(self, root: Root, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._root = root
        self._monotonic = monotonic
        self._kept: _Open | None = None
        self._drop_at = 0.0
        self.thread = ThreadPoolExecutor(1, "newest")

    def close(self) -> None:
        """Let the file go."""
        self.thread.submit(self._drop).result()
        self.thread.shutdown()

    def drop_when_idle(self) -> None:
        """Let the file go when its time is over; on the thread."""
        if self._kept is not None and self._monotonic() >= self._drop_at:
            self._drop()

    def ticks(self, symbols: Sequence[str], count: int) -> Latest:
        """The newest ``count`` ticks of each symbol; on the thread. Raises as ``store.reader``."""
        newest = self._newest_file()
        if newest is None:
            return Latest([], None, None, summary_of([]), list(symbols))
        try:
            position = newest.position()  # before the rows: what comes in between, the live channel gives again
            found = {symbol: newest.ticks(symbol, count) for symbol in symbols}
            judged = summary_of(coverage_rows(newest.day, notes_of(newest.conn, symbols), symbols, {}))
        except sqlite3.Error as exc:
            self._drop()
            raise translate(exc, newest.path) from exc
        if not newest.is_live:
            self._drop()  # StoreBusy: it was written to meanwhile
        self._from_days_before(found, count, newest.path)
        rows = [row for symbol in symbols for row in found[symbol]]
        return Latest(rows, position, newest.day, judged, [symbol for symbol, its in found.items() if not its])

    def _newest_file(self) -> _Open | None:
        self.drop_when_idle()
        if self._kept is None:
            paths = self._paths(1)
            if not paths:
                return None
            self._kept = _Open.of(paths[0])
            self._drop_at = self._monotonic() + KEEP_SEC
        return self._kept

    def _from_days_before(self, found: dict[str, list[tuple[Any, ...]]], count: int, newest: Path) -> None:
        """What the newest day has too few of."""
        if all(len(rows) >= count for rows in found.values()):
            return
        for path in self._paths(DAYS_BACK):
            wanted = [symbol for symbol, rows in found.items() if len(rows) < count]
            if path == newest or not wanted:
                continue
            before = _Open.of(path)
            try:
                for symbol in wanted:
                    found[symbol] = before.ticks(symbol, count - len(found[symbol])) + found[symbol]
            except sqlite3.Error as exc:
                raise translate(exc, path) from exc
            finally:
                before.conn.close()

    def _paths(self, days: int) -> list[Path]:
        return recent_day_files(self._root.data_root, days, self._root.market.trading_day(self._root.now_ms))

    def _drop(self) -> None:
        kept, self._kept = self._kept, None
        if kept is not None:
            kept.conn.close()


@dataclass(frozen=True)
class _Open:
    """An open day file."""

    path: Path
    day: str
    conn: sqlite3.Connection
    columns: str
    identity: int
    is_live: bool

    @classmethod
    def of(cls, path: Path) -> _Open:
        identity = identity_of(path)
        conn, uri = open_read_only_uri(path)
        return cls(path, parse_day(path) or "", conn, select_list(conn, NAMES), identity, "immutable" not in uri)

    def position(self) -> str:
        """Behind all rows that there are now."""
        place = newest_place(self.conn, self.day, self.identity, self.columns)
        return str(Position.at_start_of(self.day).moved(place))

    def ticks(self, symbol: str, count: int) -> list[tuple[Any, ...]]:
        """The newest of a symbol, oldest first."""
        return _newest(self.conn, self.columns, symbol, count)


def _newest(conn: sqlite3.Connection, columns: str, symbol: str, count: int) -> list[tuple[Any, ...]]:
    sequenced = f"SELECT {columns} FROM ticks WHERE symbol = ? AND seq IS NOT NULL ORDER BY seq DESC LIMIT ?"  # noqa: S608
    others = f"SELECT {columns} FROM ticks WHERE symbol = ? AND seq IS NULL ORDER BY ts_ms DESC LIMIT ?"  # noqa: S608
    rows = [*conn.execute(sequenced, (symbol, count)), *conn.execute(others, (symbol, count))]
    rows.sort(key=lambda row: (row[_TS_MS], _NO_SEQ if row[_SEQ] is None else row[_SEQ]))
    return rows[-count:]
