"""The one thread that touches SQLite, and how a stuck one is replaced.

Jobs are functions of the ``DayFileWriter``; each result comes back to the loop as a future. The thread is a daemon
thread: one that hangs inside the file system cannot keep the process alive.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import Callable
from typing import TypeVar

from hk_tick_collector.core.errors import StoreUnavailable
from hk_tick_collector.core.logline import event
from hk_tick_collector.store.connect import as_store_error
from hk_tick_collector.store.writer import DayFileWriter

log = logging.getLogger(__name__)

T = TypeVar("T")
_Job = tuple[Callable[[DayFileWriter], object], "asyncio.Future[object]"]


class WriterThread:
    """Owns a ``DayFileWriter`` and its thread. Used from the loop only."""

    def __init__(self, make_writer: Callable[[], DayFileWriter], name: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
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

    async def call(self, job: Callable[[DayFileWriter], T]) -> T:
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
            await asyncio.wait_for(self.call(DayFileWriter.close), timeout_sec)
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
            log.warning(event("writer_close_failed", error=exc))

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
