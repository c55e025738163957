"""The one thread that touches SQLite, and how a stuck one is replaced.

Jobs are functions of the writer; each result comes back to the loop as a future. The thread is a daemon
thread: one that hangs inside the file system cannot keep the process alive.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from hk_tick_collector.core.errors import StoreUnavailable
from hk_tick_collector.core.facts import DayFact, Fact
from hk_tick_collector.core.logline import Log, event
from hk_tick_collector.records.kind import RecordT
from hk_tick_collector.store.connect import as_store_error
from hk_tick_collector.store.write_result import WriteResult

T = TypeVar("T")


class RecordWriter(Protocol[RecordT]):
    """Stores records of one kind. ``store.writer.DayFileWriter`` is the one for ticks and has the whole contract.

    What a lane relies on: a batch counts as stored only when ``write`` returned, and after any error the same batch may
    be written again, by this writer or by another one, and is stored once. All errors are StoreErrors.
    """

    failed_day: str | None  # the trading day of the last write that raised

    @property
    def data_root(self) -> Path: ...

    @property
    def wal_bytes(self) -> int:
        """Size of the open write-ahead logs; read on other threads."""

    def write(self, records: Sequence[RecordT], facts: Sequence[Fact | DayFact] = (), /) -> WriteResult:
        """Store a batch; returns when all of it is committed."""

    def isolate(
        self, records: Sequence[RecordT], facts: Sequence[Fact | DayFact], /
    ) -> tuple[WriteResult, list[tuple[RecordT, str]]]:
        """As ``write``, for a batch of which some rows are refused (RowRefused): those with the reason."""

    def isolate_fault(
        self, records: Sequence[RecordT], facts: Sequence[Fact | DayFact], /
    ) -> tuple[WriteResult, list[tuple[RecordT, str]]]:
        """As ``isolate``, for a batch that our own code failed on again and again (StoreFault)."""

    def set_aside(self, day: str, reason: str, /) -> Path | None:
        """Rename a broken file, so that the next write begins a new one."""

    def close_day(self, day: str, /) -> None:
        """Close one day's file."""

    def close(self) -> None:
        """Close all files."""

    def interrupt(self) -> None:
        """From another thread: give up soon."""


class WriterThread(Generic[RecordT]):
    """Owns a writer and its thread. Used from the loop only."""

    def __init__(self, make_writer: Callable[[], RecordWriter[RecordT]], name: str, log: Log) -> None:
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._jobs: queue.SimpleQueue[
            tuple[Callable[[RecordWriter[RecordT]], object], asyncio.Future[object]] | None
        ] = queue.SimpleQueue()
        self._waiting: set[asyncio.Future[object]] = set()
        self._writer = make_writer()
        self._data_root = self._writer.data_root
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    @property
    def wal_bytes(self) -> int:
        """Size of the open write-ahead logs, as the thread last measured it."""
        return self._writer.wal_bytes

    async def call(self, job: Callable[[RecordWriter[RecordT]], T]) -> T:
        """Run ``job(writer)`` on the thread. Raises ``StoreError`` alone, whatever the job met; ``StoreUnavailable``
        when the thread was abandoned."""
        future: asyncio.Future[object] = self._loop.create_future()
        self._waiting.add(future)
        self._jobs.put((job, future))
        try:
            return await future  # type: ignore[return-value]  # the job's own type
        finally:
            self._waiting.discard(future)

    def abandon(self) -> None:
        """Give this thread up: interrupt what it does, end its waiters. It closes its files if it ever comes back."""
        self._writer.interrupt()
        for future in list(self._waiting):
            if not future.done():
                future.set_exception(StoreUnavailable("the writer was stuck and is being replaced"))
        self._jobs.put(None)

    async def close(self, timeout_sec: float) -> None:
        """Checkpoint and close the files, end the thread. Raises ``StoreError``, also when it takes too long."""
        try:
            async with asyncio.timeout(timeout_sec):
                await self.call(lambda writer: writer.close())
        except TimeoutError:
            self.abandon()
            raise StoreUnavailable(f"the day files could not be closed in {timeout_sec:g} s") from None
        finally:
            self._jobs.put(None)

    def _run(self) -> None:
        while True:
            job = self._jobs.get()
            if job is None:
                break
            call, future = job
            try:
                result = call(self._writer)
            except Exception as exc:  # noqa: BLE001 (edge: whatever it is belongs to the waiting loop)
                error = as_store_error(exc, self._data_root)
                if error is not exc:
                    error.__cause__ = exc
                self._answer(future, None, error)
            else:
                self._answer(future, result, None)
        try:
            self._writer.close()
        except Exception as exc:  # noqa: BLE001 (edge: nobody waits for it, and the next writer is at work)
            self._log.warning(event("writer_close_failed", error=exc))

    def _answer(self, future: asyncio.Future[object], result: object, error: Exception | None) -> None:
        def finish() -> None:
            if future.done():
                return
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)

        try:
            self._loop.call_soon_threadsafe(finish)
        except RuntimeError:  # the loop has ended; the rows of an unanswered job were spilled before that
            return
