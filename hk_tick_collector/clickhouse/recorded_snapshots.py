"""Snapshots as they lie in ClickHouse: a ``SnapshotPlace`` and ``SnapshotDays`` whose file is made anew.

Whoever reads a file of snapshots reads this one in the same way. It is made with all its notes, and the snapshots of
the symbols that are asked for, in a temporary directory that goes with the ``SnapshotPlace``.
"""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from hk_tick_collector.clickhouse.batches import batches_of
from hk_tick_collector.clickhouse.copy import Copy, Noted, days_there_of
from hk_tick_collector.clickhouse.remade import EXTERNAL_SORT_BYTES, Remade, remade
from hk_tick_collector.clickhouse.tables import ROW_JSON, SNAPSHOTS, columns_there, quoted
from hk_tick_collector.core.errors import NoData
from hk_tick_collector.core.text import days_there
from hk_tick_collector.days.snapshot_days import SnapshotDays, SnapshotPlace
from hk_tick_collector.store.layout import snapshot_file
from hk_tick_collector.store.snapshot_file import open_for_writing

_BLOCK_ROWS = 512  # of up to 100 kB each
_PACKED_OF = 4  # a body is packed to less than this part of it
_INSERTS = {
    "series": "INSERT INTO series VALUES (?, ?, ?, ?)",
    "copies": "INSERT INTO copies VALUES (?, ?, ?, ?, ?, ?, ?)",
}
_BLOBS = {"copies": 5}  # which column of a note is bytes, and stands there in hex
_SQL = (
    "INSERT INTO snapshots (rowid, series_id, ts_sec, recv_ts_ms, origin, spot, zero_gamma, digest, body) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)


class CopiedSnapshotPlace(SnapshotPlace):
    """A day there. ``path`` and ``opened`` raise EngineAway and EngineRefused, too."""

    copy: Copy
    symbols: tuple[str, ...]

    def __init__(self, trading_day: str, copy: Copy, symbols: Sequence[str] = ()) -> None:
        super().__init__(trading_day, None)
        object.__setattr__(self, "copy", copy)
        object.__setattr__(self, "symbols", tuple(symbols))

    def narrowed(self, symbols: Sequence[str]) -> SnapshotPlace:
        """As of ``SnapshotPlace``."""
        return CopiedSnapshotPlace(self.trading_day, self.copy, symbols) if symbols else self

    @property
    def path(self) -> Path:
        """The file that was made of it."""
        return self._made.path

    @property
    def source(self) -> Path:
        """As of ``SnapshotPlace``."""
        return self.copy.place / self.trading_day

    @contextmanager
    def opened(self) -> Iterator[Path]:
        """As of ``SnapshotPlace``, made when it is first asked for."""
        yield self.path

    @cached_property
    def _made(self) -> Remade:
        return remade(
            self.copy,
            self._told,
            lambda directory: snapshot_file(directory, self.trading_day),
            lambda: self._body_bytes() // _PACKED_OF,
            open_for_writing,
            self._fill,
        )

    def _fill(self, conn: sqlite3.Connection) -> None:
        ids = self._write_notes(conn)
        for batch in self._rows():
            conn.executemany(_SQL, _values(batch, ids))

    def _body_bytes(self) -> int:
        engine = self.copy.engine
        sql = f"SELECT sum(length(body)) FROM {engine.database}.{SNAPSHOTS.rows} WHERE {self._where}{self._only}"
        return int(engine.rows(sql)[0][0] or 0)

    @property
    def _where(self) -> str:
        return self.copy.where(self.trading_day)

    @property
    def _only(self) -> str:
        return f" AND symbol IN ({', '.join(map(quoted, self.symbols))})" if self.symbols else ""

    @property
    def _told(self) -> str:
        return f"the snapshots of {self.trading_day}"

    def _write_notes(self, conn: sqlite3.Connection) -> Noted[tuple[str, str, str]]:
        """What the file says beside its snapshots; the numbers of its series."""
        engine = self.copy.engine
        ids: Noted[tuple[str, str, str]] = Noted(self.copy, self._told)
        sql = f"SELECT DISTINCT name, {ROW_JSON} FROM {engine.database}.{SNAPSHOTS.notes} WHERE {self._where}"
        for name, text in engine.rows(sql):
            row = json.loads(text)
            if name in _BLOBS:
                row[_BLOBS[name]] = bytes.fromhex(row[_BLOBS[name]])
            conn.execute(_INSERTS[name], row)
            if name == "series":
                ids[row[1], row[2], row[3]] = row[0]
        ids.check()
        return ids

    def _rows(self) -> Iterator[pa.RecordBatch]:
        engine = self.copy.engine
        columns = (
            "snapshot_no, symbol, package, category, toUnixTimestamp64Milli(ts_ms) AS at_ms, "
            "toUnixTimestamp64Milli(recv_ts_ms) AS recv_ms, origin, spot, zero_gamma, digest, body"
        )
        sql = (
            f"SELECT {columns} FROM {engine.database}.{SNAPSHOTS.rows} WHERE {self._where}{self._only} "
            "ORDER BY snapshot_no"
        )
        return batches_of(
            engine,
            sql,
            output_format_arrow_string_as_string=0,
            output_format_arrow_low_cardinality_as_dictionary=0,
            max_block_size=_BLOCK_ROWS,
            max_bytes_before_external_sort=EXTERNAL_SORT_BYTES,
        )


class CopiedSnapshotDays(SnapshotDays):
    """One recorder's days of snapshots there."""

    def __init__(self, copy: Copy, names: Sequence[str] | None = None) -> None:
        """``names``: of these days alone."""
        super().__init__(copy.place, copy.place)
        self.copy, self._names = copy, names

    @cached_property
    def is_kept(self) -> bool:
        """Are there tables of them? Those of an earlier version know no snapshots."""
        return SNAPSHOTS.rows in columns_there(self.copy.engine)

    @cached_property
    def _there(self) -> list[str]:
        if self._names is not None:
            return list(self._names)
        if not self.is_kept:
            return []
        return days_there_of(self.copy.engine, self.copy.recorder, SNAPSHOTS.rows).get(self.copy.recorder, [])

    def days(self) -> list[str]:
        """Oldest first."""
        return list(self._there)

    def live_days(self) -> list[str]:
        """All of them."""
        return self.days()

    def day(self, trading_day: str) -> SnapshotPlace:
        """One of them. NoData when there is nothing of it."""
        place = self.in_a_file(trading_day)
        if place is None:
            there = f"; {days_there(self._there)}" if self._there else ""
            raise NoData(f"no snapshots of {trading_day} are in {self.copy.place}{there}")
        return place

    def in_a_file(self, trading_day: str) -> SnapshotPlace | None:
        """As of ``SnapshotDays``, made of what is there."""
        return CopiedSnapshotPlace(trading_day, self.copy) if trading_day in self._there else None


def _values(batch: pa.RecordBatch, ids: Noted[tuple[str, str, str]]) -> Iterator[tuple[Any, ...]]:
    for no, symbol, package, category, at_ms, recv_ms, origin, spot, gamma, digest, body in zip(
        *(column.to_pylist() for column in batch.columns), strict=True
    ):
        series_id = ids[symbol.decode(), package.decode(), category.decode()]
        yield no, series_id, at_ms // 1000, recv_ms, origin.decode(), spot, gamma, digest, zlib.compress(body)
