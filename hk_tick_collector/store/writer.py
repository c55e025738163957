"""The one writer of day files: batches of ticks in, committed rows out.

Owned by one thread at a time; only ``interrupt``, ``wal_bytes`` and ``failed_day`` may be called from others.

Promises:

- A batch counts as stored only when ``write`` returned. After any error the same batch may be written again, by this
  writer or by another one: rows already stored are ignored by their unique index, also those without a sequence.
- A day's rows are one transaction. After an error that may lie in the connection it is rolled back and the connection
  dropped, so the next write begins on a new one.
- No row disappears without a number: stored rows, ignored rows, and among them those without a sequence, are counted;
  a row that SQLite refuses raises. A tick whose sequence another one already has is stored all the same (rows.py).
- ``coverage`` and ``gaps`` of the file always say what is true of its rows: they change in the same transaction.
- Rows go into the file that is at its path: one that was moved, removed, exchanged or written over under the writer is
  noticed before the next batch goes into it (``open_files.py``).

Limits: ``open_files.MAX_OPEN_DAYS`` connections (today, and yesterday while late ticks come), SQLite's page cache of
each. Waiting for another process's lock takes at most ``busy_timeout_ms`` a step and ends at once on ``interrupt``.

Cost on two shared cores, batches of 500 over 900 symbols in random order (380 of them in a batch): 4.5 us a row where
fsync is free, 1.4 of it for the coverage; when most ticks are of a few symbols (75 in a batch), 2.8 us, 0.5 of it for
the coverage. About 400 index pages go into the WAL with each commit of the first kind. On a disk the checkpoints that
``wal_autocheckpoint`` asks for (at its default every third batch) add 1 to 2 us of CPU and 2 to 9 us of waiting.
Larger batches cost less a row. Opening a file costs 7 us a symbol; 1.2 us a row when its coverage must be counted anew.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from hk_tick_collector.core.clock import Clock, SystemClock
from hk_tick_collector.core.errors import RowRefused
from hk_tick_collector.core.evidence import EvidenceLevel
from hk_tick_collector.core.facts import (
    CAUTIONS,
    DETAILS,
    Amended,
    DayFact,
    Fact,
    GapFound,
    Interrupted,
    NotSubscribed,
    Unproven,
)
from hk_tick_collector.core.logline import event
from hk_tick_collector.market.registry import DEFAULT_MARKET, MARKETS
from hk_tick_collector.records.tick import FIRST_ORIGIN, Origin, Tick
from hk_tick_collector.store import refusals, rescue
from hk_tick_collector.store.before_file import FactsBeforeFile
from hk_tick_collector.store.connect import (
    SqliteOptions,
    as_store_error,
    has_no_room,
)
from hk_tick_collector.store.coverage import DayCoverage
from hk_tick_collector.store.details import store_details
from hk_tick_collector.store.layout import day_file
from hk_tick_collector.store.open_day import OpenDay
from hk_tick_collector.store.open_files import OpenFiles
from hk_tick_collector.store.reading import changed_ms
from hk_tick_collector.store.rows import StoredRows, store_rows
from hk_tick_collector.store.write_result import WriteResult

COUNT_AT_ONCE_SEC, COUNT_PAUSE = 0.01, 20  # counting after others takes a twentieth of the writer's time at most

_log = logging.getLogger(__name__)


class DayFileWriter:
    """Writes ticks to the day files under ``data_root``; ``origin``: what they say of their market and provider;
    ``evidence``: whether sequences count the ticks, or only tell them apart."""

    def __init__(
        self,
        data_root: Path,
        options: SqliteOptions | None = None,
        clock: Clock | None = None,
        origin: Origin = FIRST_ORIGIN,
        evidence: EvidenceLevel = EvidenceLevel.COUNTER,
    ) -> None:
        self.data_root = data_root
        self._counts = evidence is EvidenceLevel.COUNTER
        self._by_total = evidence is EvidenceLevel.RUNNING_TOTAL
        self._origin = origin
        self._clock = clock or SystemClock()
        self._files = OpenFiles(data_root, options or SqliteOptions(), self._clock)
        self._before_file = FactsBeforeFile()
        self.failed_day: str | None = None  # the trading day of the last write that raised

    def write(self, ticks: Sequence[Tick], facts: Sequence[Fact | DayFact] = ()) -> WriteResult:
        """Store a batch and what the feed learned, one transaction a trading day; returns when all of it is committed.

        Facts that only confirm (HeadProven, Verified, Subscribed, RowsRead) make no file; what is subscribed, and what
        symbols are, is kept for the one that the day's first row makes. Raises StoreBusy, StoreUnavailable,
        StoreCorrupt (``failed_day`` says which) or RowRefused; days committed before the error stay stored.
        """
        self._files.begin_call()
        result = WriteResult()
        for day, rows, day_facts in _by_day(ticks, facts):
            if rows or self._wants_file(day, day_facts):
                before_file = self._before_file.of(day)
                result = result.merged(self._write_day(day, rows, [*before_file, *day_facts]))
                if before_file:
                    self._before_file.forget()
            else:
                self._before_file.keep(day, day_facts)
        return result._replace(
            missing_ticks=self.missing_ticks,
            unseen_ticks=self.unseen_ticks,
            replaced_files=self._files.take_replaced_files(),
        )

    def isolate(
        self, ticks: Sequence[Tick], facts: Sequence[Fact | DayFact] = ()
    ) -> tuple[WriteResult, list[tuple[Tick, str]]]:
        """Store a batch in which SQLite refuses some rows; what was stored, and the refused ticks with the reason, in
        the order of the batch (``refusals.isolate``). What is no RowRefused is raised; the call may be repeated."""
        return refusals.isolate(self, ticks, facts)

    def isolate_fault(
        self, ticks: Sequence[Tick], facts: Sequence[Fact | DayFact]
    ) -> tuple[WriteResult, list[tuple[Tick, str]]]:
        """As ``isolate``, for a batch that met a fault of the recorder's own code again and again; StoreFault when it
        is not of single rows."""
        return refusals.isolate_fault(self, ticks, facts)

    def close_day(self, day: str) -> None:
        """Checkpoint and close one day's file; its WAL is gone unless somebody else reads it. Harmless when closed.
        What a file held that was moved, removed or exchanged since the last write is kept. StoreError."""
        self._files.close_day(day)

    def close(self) -> None:
        """Checkpoint and close all files. The first error is raised after the others were closed too."""
        self._files.close()

    def interrupt(self) -> None:
        """From another thread: make a call that waits or works inside SQLite give up soon; its batch stays unwritten.

        A call that hangs in the kernel does not hear it: abandon that thread and its writer, and write the batch again
        with a new one.
        """
        self._files.interrupt()

    @property
    def wal_bytes(self) -> int:
        """Of the open days, as last measured."""
        return self._files.wal_bytes

    def set_aside(self, day: str, reason: str) -> Path | None:
        """Rename a broken day file, with its WAL, to ``YYYYMMDD.db.corrupt-<utc>``; the next write begins a new one.

        Returns the new path, None when there was nothing to rename. StoreUnavailable when the directory refuses.
        """
        path = day_file(self.data_root, day)
        try:
            target = rescue.set_aside(path, self._clock.now_ms())
        finally:
            self._files.leave(day)
        if target is None:
            return None
        _log.error(
            event(
                "day_file_set_aside",
                trading_day=day,
                path=path,
                moved_to=target,
                reason=reason,
                todo=f"hk-tickctl salvage {target}",
            )
        )
        return target

    @property
    def missing_ticks(self) -> int:
        """Ticks known to be missing in the days that are open now."""
        return sum(coverage.missing_ticks for coverage in self._known_coverages())

    @property
    def unseen_ticks(self) -> int:
        """How many at most may have come before the first ticks seen of these days."""
        return sum(coverage.unseen_ticks for coverage in self._known_coverages())

    def _known_coverages(self) -> list[DayCoverage]:
        return [opened.coverage for opened in self._files.open.values() if opened.coverage is not None]

    def _wants_file(self, day: str, facts: Sequence[Fact | DayFact]) -> bool:
        if any(isinstance(fact, (Amended, GapFound, Interrupted, NotSubscribed, Unproven)) for fact in facts):
            return True
        with contextlib.suppress(ValueError):
            return os.path.lexists(day_file(self.data_root, day))
        return False

    def _write_day(self, day: str, rows: Sequence[Tick], facts: Sequence[Fact | DayFact]) -> WriteResult:
        self.failed_day = day
        try:
            path = day_file(self.data_root, day)
        except ValueError as exc:
            raise RowRefused(str(exc)) from exc
        now_ms = self._clock.now_ms()
        try:
            opened = self._files.begin(day, path)
            conn = opened.conn
            data_version = conn.execute("PRAGMA data_version").fetchone()[0]
            coverage = self._known_coverage(day, opened, data_version)
            if self._files.is_foreign(day):
                coverage.interrupt_all(conn)
            coverage.learn(conn, [fact for fact in facts if isinstance(fact, CAUTIONS)])
            stored = store_rows(conn, coverage, coverage.told_apart(conn, rows), (now_ms,), self._origin)
            coverage.learn(conn, [fact for fact in facts if not isinstance(fact, (*CAUTIONS, *DETAILS))])
            store_details(conn, facts)
            coverage.save(conn, now_ms)
            self._files.waiting(lambda: conn.execute("COMMIT"))
        except Exception as exc:
            error = as_store_error(exc, path)
            # A refused row says nothing against the connection.
            if not isinstance(error, RowRefused) or not self._files.rolled_back(day):
                self._files.drop(day)
            if has_no_room(exc):
                self._files.let_go_of_taken()
            if error is exc:
                raise
            raise error from exc
        except BaseException:
            self._files.drop(day)
            raise
        opened.coverage = coverage  # only now is it what the file says
        opened.data_version = data_version
        opened.stored_rows += stored.inserted_rows
        self.failed_day = None
        self._files.committed(day, opened)
        _say_collisions(day, stored)
        ignored_rows = len(rows) - stored.inserted_rows
        unsequenced_rows = stored.ignored_unsequenced_rows
        return WriteResult(stored.inserted_rows, ignored_rows, (day,), unsequenced_rows, collisions=stored.collisions)

    def _known_coverage(self, day: str, opened: OpenDay, data_version: int) -> DayCoverage:
        """The coverage of an open day, loaded again when another program (salvage, a repair) committed. Until the
        commit it is nobody's: after an error it is loaded again."""
        conn = opened.conn
        coverage = ours = opened.coverage
        opened.coverage = None
        if coverage is None or ours is None:
            coverage = self._load(conn, day, None if self._files.is_unsure(day) else changed_ms(opened.path))
            self._files.loaded(day, opened, coverage.stored_ticks())
            return coverage
        if data_version != opened.data_version:
            opened.count_at_sec = opened.count_at_sec or 0.0
            coverage = self._load(conn, day, changed_ms=0)
        started_sec = time.monotonic()
        if opened.count_at_sec is not None and started_sec >= opened.count_at_sec:
            coverage = self._load(conn, day)  # rows may be gone
            took_sec = time.monotonic() - started_sec
            opened.count_at_sec = started_sec + took_sec * COUNT_PAUSE if took_sec > COUNT_AT_ONCE_SEC else None
        if coverage is not ours and not coverage.holds(ours):
            self._files.met_foreign(day)
        if coverage is not ours:
            self._files.loaded(day, opened, coverage.stored_ticks())
        return coverage

    def _load(self, conn: sqlite3.Connection, day: str, changed_ms: int | None = None) -> DayCoverage:
        market = MARKETS.get(self._origin.market, DEFAULT_MARKET)
        return DayCoverage.load(conn, day, changed_ms, counts=self._counts, by_total=self._by_total, market=market)


def _by_day(
    ticks: Sequence[Tick], facts: Sequence[Fact | DayFact]
) -> Iterator[tuple[str, Sequence[Tick], Sequence[Fact | DayFact]]]:
    tick_days = list(dict.fromkeys([tick.trading_day for tick in ticks]))
    for day in dict.fromkeys([*tick_days, *(fact.trading_day for fact in facts)]):
        rows = ticks if tick_days == [day] else [tick for tick in ticks if tick.trading_day == day]
        yield day, rows, [fact for fact in facts if fact.trading_day == day]


def _say_collisions(day: str, stored: StoredRows) -> None:
    for symbol, seq in stored.first_collisions:
        _log.warning(
            event(
                "sequence_collision",
                trading_day=day,
                symbol=symbol,
                seq=seq,
                result="both ticks are stored, the later one without its sequence; the symbol's day is unproven",
            )
        )
