"""A lane: everything between whoever has records of one kind and the files that they are stored in.

Queue, spill, quarantine, worker and writer thread belong together: a row is always in exactly one of them, and each is
built from the kind of record (``records.kind``). So they are one object. Two lanes share nothing, no lock, no thread,
no file, no limit: a kind with a thousand times the rows, or a disk that is full for one, delays no tick.

A lane is made on the loop. Then ``open`` (the disk; on a thread of its own), ``run`` as a task, and at the end
``flush``, ``rescue`` for what could not be stored in time, ``close`` and ``close_spill``, in this order; ``app.daemon``
is the worked example, tests/unit/test_lane.py the one for a second kind.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic

from hk_tick_collector.core.clock import Clock
from hk_tick_collector.core.facts import DayFact, Fact
from hk_tick_collector.core.progress import IngestProgress
from hk_tick_collector.ingest.quarantine import Quarantine
from hk_tick_collector.ingest.queue import RecordQueue
from hk_tick_collector.ingest.spill import SpillQueue
from hk_tick_collector.ingest.worker import PersistWorker, WorkerOptions
from hk_tick_collector.ingest.writer_thread import RecordWriter
from hk_tick_collector.records.kind import RecordKind, RecordT
from hk_tick_collector.records.tick import RejectedTick


class Lane(Generic[RecordT]):
    """The lane of one kind of record under one data root."""

    def __init__(
        self,
        kind: RecordKind[RecordT],
        data_root: Path,
        make_writer: Callable[[], RecordWriter[RecordT]],
        options: WorkerOptions,
        max_queue_rows: int,
        day_of: Callable[[int], str],
        progress: IngestProgress,
        clock: Clock,
        on_left_over: Callable[[Sequence[RecordT]], None] = lambda _: None,
    ) -> None:
        """``make_writer`` is called again when the writer hangs and is replaced. ``day_of``: the market's date
        (YYYYMMDD) of a moment in UTC epoch ms, for the quarantine's files. ``progress``: this lane's own counters.
        ``on_left_over``: as ``PersistWorker`` has it."""
        self.kind = kind
        self._loop = asyncio.get_running_loop()
        self._spill = SpillQueue(data_root, kind, clock=clock)
        self._quarantine = Quarantine(data_root, progress, day_of, kind=kind.name)
        self._queue = RecordQueue(max_queue_rows, self._spill, progress, self._wake)
        self._worker = PersistWorker(
            self._queue, self._spill, self._quarantine, make_writer, options, progress, clock, on_left_over, kind
        )
        self._run_task: asyncio.Task[None] | None = None

    # -- whoever has records -----------------------------------------------------------------------------------------

    def put(self, records: Sequence[RecordT]) -> None:
        """Take records on the loop; see ``RecordQueue.put``."""
        self._queue.put(records)

    def put_patiently(self, records: Sequence[RecordT]) -> None:
        """Take records on another thread, which a full queue makes wait; see ``RecordQueue.put_patiently``."""
        self._queue.put_patiently(records)

    def put_facts(self, facts: Sequence[Fact | DayFact]) -> None:
        """Take what was learned about completeness; it is written with the next rows. From any thread."""
        self._queue.put_facts(facts)

    def put_rejected(self, rejected: Sequence[RejectedTick]) -> None:
        """Take what could not be mapped, for the quarantine. From any thread."""
        self._quarantine.add(rejected)

    # -- its life ----------------------------------------------------------------------------------------------------

    def open(self) -> int:
        """Find what an earlier process left in spill and quarantine; rows waiting in the spill. Needs the disk.
        StoreUnavailable: try again."""
        rows = self._spill.open()
        self._quarantine.remember()
        return rows

    async def run(self) -> None:
        """Store until cancelled, or after ``flush`` until nothing is left. StoreError only after ``hurry``."""
        self._run_task = asyncio.current_task()
        await self._worker.run()

    def flush(self) -> None:
        """Make ``run`` return once queue and spill are empty. No more records may be put."""
        self._worker.flush()

    def hurry(self) -> None:
        """Stop waiting between retries: whoever flushes has run out of patience."""
        self._worker.hurry()

    def rescue(self) -> int:
        """Put all that is not committed into the spill; rows spilled. Needs the disk, safe from any thread."""
        return self._worker.rescue()

    async def close(self) -> None:
        """Write what waits for the quarantine, checkpoint and close the files. Raises StoreError."""
        await self._worker.close()

    def close_spill(self) -> None:
        """Sync and close the spill; what waits stays for the next ``open``. Needs the disk."""
        self._spill.close()

    def request_writer_recovery(self, reason: str) -> None:
        """Replace a writer that hangs; on the loop."""
        self._worker.request_writer_recovery(reason)

    # -- how it is: numbers in memory, from any thread ---------------------------------------------------------------

    @property
    def queue_rows(self) -> int:
        """Rows in memory, waiting to be stored or spilled."""
        return self._queue.rows_in_memory

    @property
    def in_hand_rows(self) -> int:
        """Rows taken from the queue whose commit has not returned."""
        return self._worker.in_hand_rows

    @property
    def spill_rows(self) -> int:
        """Rows waiting on disk."""
        return self._spill.rows

    @property
    def waiting_rows(self) -> int:
        """All that is not stored yet."""
        return self.queue_rows + self.in_hand_rows + self.spill_rows

    @property
    def spill_due(self) -> bool:
        """Are there spilled rows that could be stored now?"""
        return self._spill.due

    @property
    def wal_bytes(self) -> int:
        """Size of the open write-ahead logs, as last measured."""
        return self._worker.wal_bytes

    @property
    def is_running(self) -> bool:
        """Are the worker and its thread at work?"""
        return self._run_task is not None and not self._run_task.done() and self._worker.writer_alive

    def _wake(self) -> None:
        if not self._worker.ring() and self._worker.wants_wake:
            with contextlib.suppress(RuntimeError):  # the loop has ended; the queue is spilled by then
                self._loop.call_soon_threadsafe(self._worker.wake)
