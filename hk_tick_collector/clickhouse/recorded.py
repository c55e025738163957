"""Recorded days as they lie in ClickHouse: a ``Day`` and a ``Catalog`` whose rows and notes come from there.

Whoever reads days (the Python API, bars, exports) reads these in the same way, and gets the same rows in the same order
as from the files. A day has the rows that had arrived when its first batch was asked for.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

from hk_tick_collector.clickhouse.batches import batches_of
from hk_tick_collector.clickhouse.copy import Copy, days_there_of
from hk_tick_collector.clickhouse.recorded_snapshots import CopiedSnapshotDays
from hk_tick_collector.clickhouse.recorded_states import CopiedStateDays
from hk_tick_collector.clickhouse.tables import (
    BATCH,
    BOOKS,
    BROKERS,
    DAYS_TABLE,
    NOTES,
    REPLAY,
    TICKS_TABLE,
    note_columns,
    quoted,
)
from hk_tick_collector.core.errors import NoData
from hk_tick_collector.core.text import counted, days_there
from hk_tick_collector.days import order
from hk_tick_collector.days.book_days import BookDay, BookDays
from hk_tick_collector.days.catalog import Catalog, Day
from hk_tick_collector.days.schema import TICKS, UTC_MS, ticks_schema
from hk_tick_collector.days.snapshot_days import SnapshotDays, SnapshotPlace
from hk_tick_collector.market.market import Market
from hk_tick_collector.market.registry import market_of
from hk_tick_collector.records.columns import NAMES
from hk_tick_collector.store.reader import AmendmentRow, CoverageRow, GapRow, Notes, SymbolRow
from hk_tick_collector.store.verdict import PROVEN, UNPROVEN, Replay

_Row = TypeVar("_Row", CoverageRow, SymbolRow)
_SORT = ("symbol", "ts_ms", "seq")
_BLOCK_ROWS = 65_536
_OF_SNAPSHOTS = frozenset({"snapshots", "all_snapshots"})  # tables of a query


class CopiedDay(Day):
    """A day there. ``batches`` and its like raise EngineAway and EngineRefused."""

    def __init__(self, day: str, copy: Copy, market: Market) -> None:
        super().__init__(day, None, copy.place, market)
        object.__setattr__(self, "copy", copy)

    copy: Copy

    @property
    def source(self) -> Path:
        """For messages."""
        return self.archive_root

    @cached_property
    def overlap(self) -> None:
        """There is nothing beside it."""
        return None

    @property
    def is_archived_only(self) -> bool:
        """It is read as a live day is, by ``batches``."""
        return False

    @property
    def archived_file(self) -> Path:
        """What is read can be read in place."""
        return self.archive_root / f"{self.trading_day}.parquet"

    @property
    def is_copied(self) -> bool:
        """It does."""
        return True

    @property
    def tables_not_kept(self) -> frozenset[str]:
        """Snapshots, where the tables are those of an earlier version."""
        return frozenset() if CopiedSnapshotDays(self.copy).is_kept else _OF_SNAPSHOTS

    def without_notes(self) -> Day:
        """It keeps none."""
        return self

    @cached_property
    def content_mark(self) -> str:
        """As of ``Day``: what was verified of it, and how many rows came, as which shipment, since."""
        where, engine = self.copy.where(self.trading_day), self.copy.engine
        verified = engine.rows(f"SELECT content_hash FROM {engine.database}.{DAYS_TABLE} FINAL WHERE {where}")
        ((rows, newest),) = self._rows(f"count(), max({BATCH})", "")
        content_hash = verified[0][0] if verified else ""
        return f"{zlib.crc32(f'{content_hash}/{rows}/{newest}'.encode()):08x}"

    def coverage(self) -> list[CoverageRow]:
        """As of ``Day``."""
        rows = []
        for values in self._notes("coverage"):
            replay = values.pop(REPLAY)
            rows.append(CoverageRow(**values, replay=None if replay is None else Replay(**json.loads(replay))))
        return self._as_far_as_copied(_newest_of(rows, lambda row: row.updated_at_ms))

    def _as_far_as_copied(self, rows: list[CoverageRow]) -> list[CoverageRow]:
        """Notes and ticks come apart from each other: what is noted of other ticks than are there proves nothing. Of a
        day that was verified, and to which nothing came since, the ticks need not be counted by symbol."""
        engine, where = self.copy.engine, self.copy.where(self.trading_day)
        noted = sum(row.stored_ticks for row in rows)
        verified = engine.rows(f"SELECT rows FROM {engine.database}.{DAYS_TABLE} FINAL WHERE {where}")
        held = engine.rows(f"SELECT count() FROM {engine.database}.{TICKS_TABLE} WHERE {where}")
        if not rows or [noted] == [count for (count,) in verified] == [count for (count,) in held]:
            return rows
        there = self.rows_by_symbol()
        return [_held_against(row, there.get(row.symbol, 0)) for row in rows]

    def gaps(self) -> list[GapRow]:
        """As of ``Day``."""
        return sorted(
            (GapRow(**note) for note in self._notes("gaps")), key=lambda gap: (gap.symbol, gap.gap_start_ts_ms)
        )

    def symbol_rows(self) -> list[SymbolRow]:
        """As of ``Day``."""
        return _newest_of((SymbolRow(**note) for note in self._notes("symbols")), lambda row: row.noted_at_ms)

    def books(self) -> BookDay:
        """As of ``Day``."""
        return CopiedStateDays(self.copy, BOOKS).day(self.trading_day)

    def brokers(self) -> BookDay:
        """As of ``Day``."""
        return CopiedStateDays(self.copy, BROKERS).day(self.trading_day)

    def snapshots(self) -> SnapshotPlace:
        """As of ``Day``."""
        return CopiedSnapshotDays(self.copy).day(self.trading_day)

    def amendments(self) -> list[AmendmentRow]:
        """As of ``Day``, by time received."""
        return sorted((AmendmentRow(**note) for note in self._notes("amendments")), key=lambda row: row.recv_ts_ms)

    def notes(self, *, count_rows: bool = False, last_row: bool = False) -> Notes:
        """As of ``Day``; no rows are counted."""
        return Notes(self.coverage(), self.gaps())

    def rows_by_symbol(self) -> dict[str, int]:
        """As of ``Day``, counted there."""
        return dict(self._rows("symbol, count()", "GROUP BY symbol ORDER BY symbol"))

    def batches(
        self, columns: Sequence[str] = NAMES, *, workers: int = 2, last_rowid: int | None = None
    ) -> Iterator[pa.RecordBatch]:
        """As of ``Day``."""
        return self._read(columns, "")

    def sorted_tables(
        self, columns: Sequence[str] = NAMES, *, workers: int = 2, last_rowid: int | None = None
    ) -> Iterator[pa.Table]:
        """As of ``Day``."""
        return order.sorted_tables(self._read(columns, ""), self.rows_by_symbol())

    def ticks(
        self,
        symbols: Sequence[str],
        columns: Sequence[str] = NAMES,
        *,
        start_ms: int | None = None,
        end_ms: int | None = None,
        last_rowid: int | None = None,
    ) -> pa.Table:
        """As of ``Day``."""
        needed = tuple(dict.fromkeys((*columns, *_SORT)))
        more = f" AND symbol IN ({', '.join(map(quoted, symbols))})"
        for sign, moment_ms in ((">=", start_ms), ("<", end_ms)):
            if moment_ms is not None:
                more += f" AND ts_ms {sign} fromUnixTimestamp64Milli(toInt64({moment_ms:d}), 'UTC')"
        batches = list(self._read(needed, more))
        table = pa.Table.from_batches(batches, ticks_schema(needed))
        return order.sort_table(table).select(list(columns))

    def _rows(self, columns: str, more: str) -> list[list[Any]]:
        engine = self.copy.engine
        return engine.rows(
            f"SELECT {columns} FROM {engine.database}.{TICKS_TABLE} FINAL "
            f"WHERE {self.copy.where(self.trading_day)} {more}",
            do_not_merge_across_partitions_select_final=1,
        )

    def _notes(self, table: str) -> Iterator[dict[str, Any]]:
        known = {field.name for field in fields(NOTES[table])}
        names = [name for name in note_columns(table) if name in known or name == REPLAY]
        source, where = f"{self.copy.engine.database}.{table}", self.copy.where(self.trading_day)
        # Distinct: a server that was killed may have notes twice until ``hk-tick-ship`` has seen it. No column says
        # which of two gaps is the newer one: one that was closed may be told as open that long.
        sql = f"SELECT DISTINCT {', '.join(names)} FROM {source} WHERE {where}"
        for row in self.copy.engine.rows(sql):
            yield dict(zip(names, row, strict=True))

    def _read(self, columns: Sequence[str], more: str) -> Iterator[pa.RecordBatch]:
        names = tuple(columns)
        engine = self.copy.engine
        sql = (
            f"SELECT {', '.join(names)} FROM {engine.database}.{TICKS_TABLE} FINAL "
            f"WHERE {self.copy.where(self.trading_day)}{more}"
        )
        batches = batches_of(
            engine,
            sql,
            do_not_merge_across_partitions_select_final=1,
            output_format_arrow_string_as_string=1,
            max_block_size=_BLOCK_ROWS,
        )
        yield from (_as_ticks(batch, names) for batch in batches if batch.num_rows)


def _newest_of(rows: Iterable[_Row], at_ms: Callable[[_Row], int]) -> list[_Row]:
    """Of each symbol the newest one, by symbol."""
    newest = {row.symbol: row for row in sorted(rows, key=at_ms)}
    return [newest[symbol] for symbol in sorted(newest)]


def _held_against(row: CoverageRow, there: int) -> CoverageRow:
    if row.state != PROVEN or row.stored_ticks == there:
        return row
    doubt = f"ClickHouse has {counted(there, 'tick')} of it, and what is noted there is of {row.stored_ticks:,}"
    distrust = doubt if row.distrust is None else f"{row.distrust}; {doubt}"
    return replace(row, state=UNPROVEN, reason=doubt, distrust=distrust)


def _as_ticks(batch: pa.RecordBatch, names: tuple[str, ...]) -> pa.RecordBatch:
    """With the types of ``days.schema``."""
    arrays = []
    for name in names:
        kind, array = TICKS.field(name).type, batch.column(batch.schema.get_field_index(name))
        if pa.types.is_dictionary(kind):
            if pa.types.is_dictionary(array.type):
                array = array.dictionary_decode()
            array = array.cast(pa.string()).dictionary_encode()
        arrays.append(array.cast(UTC_MS) if pa.types.is_timestamp(kind) else array.cast(kind))
    return pa.RecordBatch.from_arrays(arrays, schema=ticks_schema(names))


class CopiedDays(Catalog):
    """One recorder's days there."""

    def __init__(self, copy: Copy, market: str) -> None:
        super().__init__(copy.place, copy.place)
        self.copy = copy
        self.__dict__["market"] = market_of(market)

    @property
    def book_days(self) -> BookDays:
        """As of ``Catalog``."""
        return CopiedStateDays(self.copy, BOOKS)

    @property
    def broker_days(self) -> BookDays:
        """As of ``Catalog``."""
        return CopiedStateDays(self.copy, BROKERS)

    @property
    def snapshot_days(self) -> SnapshotDays:
        """As of ``Catalog``."""
        return CopiedSnapshotDays(self.copy)

    def live_days(self) -> list[str]:
        """None: no file is here."""
        return []

    def archived_days(self) -> list[str]:
        """Every day there."""
        return days_there_of(self.copy.engine, self.copy.recorder).get(self.copy.recorder, [])

    def day(self, trading_day: str) -> Day:
        """One day. NoData when it is not there."""
        days = self.days()
        if trading_day not in days:
            raise NoData(f"no ticks of {trading_day} in {self.data_root}; {days_there(days)}")
        return CopiedDay(trading_day, self.copy, self.market)

    def day_beside(self, trading_day: str) -> Day:
        """As of ``Catalog``: its books are there, not here."""
        return CopiedDay(trading_day, self.copy, self.market)
