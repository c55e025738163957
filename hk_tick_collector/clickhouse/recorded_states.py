"""Order books and broker queues as they lie in ClickHouse: a ``BookDay`` and ``BookDays`` whose file is made anew.

Whoever reads a file of books or of queues reads this one in the same way, in every form and depth. It is made of the
symbols that are asked for, in a temporary directory, which goes with the ``BookDay``.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from hk_tick_collector.clickhouse.batches import batches_of
from hk_tick_collector.clickhouse.connection import UNKNOWN_TABLE, EngineRefused
from hk_tick_collector.clickhouse.copy import Copy, Noted, days_there_of
from hk_tick_collector.clickhouse.remade import EXTERNAL_SORT_BYTES, Remade, remade
from hk_tick_collector.clickhouse.tables import ROW_JSON, StateTables, quoted
from hk_tick_collector.core.errors import NoData
from hk_tick_collector.core.text import days_there
from hk_tick_collector.days.book_days import BookDay, BookDays
from hk_tick_collector.store.book_file import open_for_writing

_ROW_BYTES = 100  # in the file, at most, for an estimate
_INSERT = "INSERT INTO pushes (rowid, symbol_id, recv_ts_us, bid_lag_ms, ask_lag_ms, kind, merged, payload) VALUES "
_COLUMNS = {
    "update_no": "update_no", "symbol": "symbol", "recv_ts": "toUnixTimestamp64Micro(recv_ts)",
    "bid_ts": "toUnixTimestamp64Milli(bid_ts)", "ask_ts": "toUnixTimestamp64Milli(ask_ts)", "kind": "kind",
    "merged": "merged", "payload": "payload",
}  # fmt: skip


class CopiedStateDay(BookDay):
    """A day there. ``opened`` and ``rows`` raise EngineAway and EngineRefused, too."""

    copy: Copy
    states: StateTables

    def __init__(self, trading_day: str, copy: Copy, states: StateTables) -> None:
        super().__init__(trading_day, copy.place, None)
        object.__setattr__(self, "copy", copy)
        object.__setattr__(self, "states", states)
        object.__setattr__(self, "_made", None)

    _made: tuple[frozenset[str] | None, Remade] | None

    def rows(self) -> int:
        """As of ``BookDay``."""
        return self._rows_of(None)

    def _rows_of(self, wanted: frozenset[str] | None) -> int:
        engine = self.copy.engine
        where = f"{self.copy.where(self.trading_day)}{_only(wanted)}"
        return int(engine.rows(f"SELECT count() FROM {engine.database}.{self.states.rows} WHERE {where}")[0][0])

    @contextmanager
    def opened(self, symbols: Sequence[str] | None = None) -> Iterator[Path]:
        """As of ``BookDay``, made when it is first asked for."""
        wanted = None if symbols is None else frozenset(symbols)
        made = self._made
        if made is None or (made[0] is not None and (wanted is None or not wanted <= made[0])):
            made = self._make(wanted)
            object.__setattr__(self, "_made", made)
        yield made[1].path

    def _make(self, wanted: frozenset[str] | None) -> tuple[frozenset[str] | None, Remade]:
        def fill(conn: sqlite3.Connection) -> None:
            ids = self._write_notes(conn)
            for batch in self._pushes(wanted):
                conn.executemany(f"{_INSERT} (?, ?, ?, ?, ?, ?, ?, ?)", _rows(batch, ids))

        return wanted, remade(
            self.copy,
            self._told,
            lambda directory: self.states.kind.file_of(directory, self.trading_day),
            lambda: self._rows_of(wanted) * _ROW_BYTES,
            open_for_writing,
            fill,
        )

    @property
    def _told(self) -> str:
        return f"the {self.states.kind.file.noun} of {self.trading_day}"

    def _write_notes(self, conn: sqlite3.Connection) -> Noted[str]:
        """What the file noted beside its pushes; the numbers of its symbols."""
        engine = self.copy.engine
        ids: Noted[str] = Noted(self.copy, self._told)
        for name, text in engine.rows(
            f"SELECT DISTINCT name, {ROW_JSON} FROM {engine.database}.{self.states.notes} "
            f"WHERE {self.copy.where(self.trading_day)}"
        ):
            row = json.loads(text)
            if name in self.states.noted:
                conn.execute(f"INSERT INTO {name} VALUES ({', '.join('?' * len(row))})", row)
            if name == "symbols":
                ids[row[1]] = row[0]
        ids.check()
        return ids

    def _pushes(self, wanted: frozenset[str] | None) -> Iterator[pa.RecordBatch]:
        engine = self.copy.engine
        columns = ", ".join(text for name, text in _COLUMNS.items() if name in self.states.columns)
        source, where = f"{engine.database}.{self.states.rows}", self.copy.where(self.trading_day)
        sql = f"SELECT {columns} FROM {source} WHERE {where}{_only(wanted)} ORDER BY update_no"
        return batches_of(
            engine,
            sql,
            output_format_arrow_string_as_string=0,
            max_bytes_before_external_sort=EXTERNAL_SORT_BYTES,
        )


class CopiedStateDays(BookDays):
    """One recorder's days of books or queues there; ``names``: of these alone."""

    def __init__(self, copy: Copy, states: StateTables, names: Sequence[str] | None = None) -> None:
        super().__init__(copy.place, copy.place, states.kind)
        self.copy, self._states, self._names = copy, states, names

    @cached_property
    def _there(self) -> list[str]:
        """None where the tables are those of an earlier version, which knew no such record."""
        try:
            there = days_there_of(self.copy.engine, self.copy.recorder, self._states.rows)
        except EngineRefused as exc:
            if exc.code != UNKNOWN_TABLE:
                raise
            return []
        return there.get(self.copy.recorder, [])

    def days(self) -> list[str]:
        """Oldest first."""
        return list(self._there if self._names is None else self._names)

    def day(self, trading_day: str) -> BookDay:
        """One of them. NoData when there is nothing of it."""
        if trading_day not in self.days():
            days = self.days()
            there = f"; {days_there(days)}" if days else ""
            raise NoData(f"no {self.kind.file.noun} of {trading_day} are in {self.copy.place}{there}")
        return CopiedStateDay(trading_day, self.copy, self._states)


def _only(wanted: frozenset[str] | None) -> str:
    return "" if wanted is None else f" AND symbol IN ({', '.join(map(quoted, sorted(wanted))) or quoted('')})"


def _rows(batch: pa.RecordBatch, ids: Noted[str]) -> Iterator[tuple[Any, ...]]:
    columns = [column.to_pylist() for column in batch.columns]
    if len(columns) < len(_COLUMNS):  # no times but ours
        columns[3:3] = [[None] * batch.num_rows] * 2
    for no, symbol, recv_us, bid_ms, ask_ms, kind, merged, payload in zip(*columns, strict=True):
        lags = (None if ms is None else recv_us // 1000 - ms for ms in (bid_ms, ask_ms))
        yield no, ids[symbol.decode()], recv_us, *lags, kind.decode(), merged, payload or None
