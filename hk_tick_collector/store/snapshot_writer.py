"""The writer of snapshot files: rows in, committed rows out. ``ingest.writer_thread.RecordWriter`` is the contract.

Owned by one thread at a time. A batch may be written twice and is stored once: a row is named by its series, its second
and what it says. What is told of a source's copy is written in the transaction of the rows that it came with; whether
the rows are all there is for the reader to say, from the file.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hk_tick_collector.core.errors import RowRefused, StoreError, StoreFault
from hk_tick_collector.core.facts import DayFact, Fact, SnapshotsCopied
from hk_tick_collector.core.logline import event
from hk_tick_collector.records.snapshot import Series, Snapshot
from hk_tick_collector.store import rescue
from hk_tick_collector.store.connect import SqliteOptions, as_store_error, has_no_room
from hk_tick_collector.store.layout import snapshot_file
from hk_tick_collector.store.snapshot_file import open_for_writing, pack_seconds
from hk_tick_collector.store.taken import TakenFiles
from hk_tick_collector.store.write_result import WriteResult

COMPRESSION = 1  # of zlib: a tenth larger than 6, in a quarter of its time

log = logging.getLogger(__name__)

_INSERT = "INSERT INTO snapshots VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"


@dataclass(slots=True)
class _Open:
    """A day's file."""

    path: Path
    conn: sqlite3.Connection
    inode: rescue.Inode
    series_ids: dict[Series, int] = field(default_factory=dict)


class SnapshotWriter:
    """Writes snapshots under ``data_root``."""

    def __init__(self, data_root: Path, options: SqliteOptions, now_ms: Callable[[], int]) -> None:
        self.data_root = data_root
        self.wal_bytes = 0
        self.failed_day: str | None = None
        self._options = options
        self._now_ms = now_ms
        self._files: dict[str, _Open] = {}
        self._is_interrupted = False
        self._taken = TakenFiles(now_ms, lambda: self._is_interrupted)

    def write(self, records: Sequence[Snapshot], facts: Sequence[Fact | DayFact] = (), /) -> WriteResult:
        """Store a batch and what was learned of copies, one transaction a day. Raises StoreError."""
        copies = [fact for fact in facts if isinstance(fact, SnapshotsCopied)]
        days = dict.fromkeys([*(row.trading_day for row in records), *(copy.trading_day for copy in copies)])
        result = WriteResult()
        for day in days:
            rows = [row for row in records if row.trading_day == day]
            told = [copy for copy in copies if copy.trading_day == day]
            result = result.merged(self._write_day(day, rows, told))
        return result

    def isolate(
        self, records: Sequence[Snapshot], facts: Sequence[Fact | DayFact], /
    ) -> tuple[WriteResult, list[tuple[Snapshot, str]]]:
        """Each row by itself; those that are refused with the reason."""
        return self._apart(records, facts, RowRefused)

    def isolate_fault(
        self, records: Sequence[Snapshot], facts: Sequence[Fact | DayFact], /
    ) -> tuple[WriteResult, list[tuple[Snapshot, str]]]:
        """Likewise, also of rows that our own code failed on; a fault that all of them meet is raised."""
        result, refused = self._apart(records, facts, RowRefused, StoreFault)
        if records and len(refused) == len(records):
            raise StoreFault(refused[0][1])
        return result, refused

    def set_aside(self, day: str, reason: str, /) -> Path | None:
        """Rename a damaged file; the next batch makes a new one. StoreUnavailable when the directory refuses."""
        path = snapshot_file(self.data_root, day)
        try:
            target = rescue.set_aside(path, self._now_ms())
        finally:
            self._drop(day)
        if target is None:
            return None
        todo = rescue.todo_of(target)
        log.error(event("snapshot_file_set_aside", path=path, moved_to=target, reason=reason, todo=todo))
        return target

    def close_day(self, day: str, /) -> None:
        """Checkpoint and close one file."""
        opened = self._files.get(day)
        if opened is None:
            return
        try:
            if rescue.inode_of(opened.path) != opened.inode:
                self._leave_replaced(day, opened)
            else:
                opened.conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        except sqlite3.Error as exc:
            raise as_store_error(exc, opened.path) from exc
        finally:
            self._drop(day)

    def close(self) -> None:
        """All of them; the first error is raised when all are closed."""
        first: StoreError | None = None
        for day in list(self._files):
            try:
                self.close_day(day)
            except StoreError as exc:
                first = first or exc
        self._taken.try_again(is_last=True)
        if first is not None:
            raise first

    def interrupt(self) -> None:
        """From another thread: end the statement at work."""
        self._is_interrupted = True
        for opened in list(self._files.values()):
            with contextlib.suppress(sqlite3.Error):
                opened.conn.interrupt()

    def _write_day(self, day: str, rows: Sequence[Snapshot], copies: Sequence[SnapshotsCopied]) -> WriteResult:
        path = snapshot_file(self.data_root, day)
        try:
            opened, replaced = self._opened(day, path)
            conn = opened.conn
            conn.execute("BEGIN IMMEDIATE")
            before = conn.total_changes
            values = [_values(self._series_id(opened, row.series), row) for row in rows]
            series_rows = conn.total_changes - before
            conn.executemany(_INSERT, values)
            inserted = conn.total_changes - before - series_rows
            for copy in copies:
                self._store_copy(opened, copy)
            conn.execute("COMMIT")
            self.wal_bytes = _wal_bytes(path)
        except Exception as exc:
            self.failed_day = day
            self._drop(day)
            if has_no_room(exc):
                self._taken.let_go()
            error = as_store_error(exc, path)
            if error is exc:
                raise
            raise error from exc
        self._taken.try_again()
        return WriteResult(inserted, len(rows) - inserted, (day,), replaced_files=replaced)

    def _opened(self, day: str, path: Path) -> tuple[_Open, int]:
        """The file, and whether it is another one than before."""
        opened = self._files.get(day)
        replaced = 0
        if opened is not None and rescue.inode_of(path) != opened.inode:
            self._leave_replaced(day, opened)
            opened, replaced = None, 1
        if opened is None:
            conn = open_for_writing(path, self._options)
            try:
                opened = self._files[day] = _Open(path, conn, rescue.inode_of_open(path))
            except StoreError:
                conn.close()
                raise
            opened.series_ids = {Series(*words): int(key) for key, *words in conn.execute("SELECT * FROM series")}
        return opened, replaced

    def _leave_replaced(self, day: str, opened: _Open) -> None:
        """The open file was moved, removed or exchanged; what it holds is kept. StoreUnavailable, and it is left."""
        try:
            self._taken.keep(opened.path, opened.conn)
        finally:
            del self._files[day]

    @staticmethod
    def _series_id(opened: _Open, series: Series) -> int:
        series_id = opened.series_ids.get(series)
        if series_id is None:
            sql = "INSERT INTO series (symbol, package, category) VALUES (?, ?, ?)"
            series_id = opened.series_ids[series] = int(opened.conn.execute(sql, series).lastrowid or 0)
        return series_id

    def _store_copy(self, opened: _Open, copy: SnapshotsCopied) -> None:
        series_id = self._series_id(opened, Series(copy.symbol, copy.package, copy.category))
        first_sec, packed = pack_seconds(copy.seconds)
        opened.conn.execute(
            "INSERT INTO copies VALUES (?, ?, ?, ?, ?, ?, ?)",
            (series_id, copy.fetched_ms, copy.records, copy.unread, first_sec, packed, copy.sha256),
        )

    def _apart(
        self, records: Sequence[Snapshot], facts: Sequence[Fact | DayFact], *of_the_row: type[StoreError]
    ) -> tuple[WriteResult, list[tuple[Snapshot, str]]]:
        result, refused = self.write((), facts), []
        for row in records:
            try:
                result = result.merged(self.write((row,)))
            except of_the_row as exc:
                refused.append((row, str(exc)))
        return result, refused

    def _drop(self, day: str) -> None:
        """Leave a connection that may be broken."""
        opened = self._files.pop(day, None)
        if opened is None:
            return
        with contextlib.suppress(sqlite3.Error):
            if opened.conn.in_transaction:
                opened.conn.execute("ROLLBACK")
        with contextlib.suppress(sqlite3.Error):
            opened.conn.close()


def _values(series_id: int, row: Snapshot) -> tuple[object, ...]:
    body = zlib.compress(row.body.encode(), COMPRESSION)
    second = row.ts_ms // 1000
    return (
        series_id, second, row.recv_ts_ms, row.origin, row.spot, row.zero_gamma, bytes.fromhex(row.digest), body
    )  # fmt: skip


def _wal_bytes(path: Path) -> int:
    try:
        return path.with_name(f"{path.name}-wal").stat().st_size
    except OSError:
        return 0
