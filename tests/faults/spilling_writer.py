"""Spills rows and stores them at the same time, until it is killed; run by test_kills.py only.

python spilling_writer.py DATA_ROOT FIRST_COUNTER

The highest counter that is safe on disk is printed, one a line: ``append`` had returned for it.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from hk_tick_collector.core.aside import in_thread
from hk_tick_collector.core.clock import SystemClock
from hk_tick_collector.core.progress import IngestProgress
from hk_tick_collector.ingest.quarantine import Quarantine
from hk_tick_collector.ingest.queue import RecordQueue
from hk_tick_collector.ingest.spill import SpillQueue
from hk_tick_collector.ingest.worker import PersistWorker, WorkerOptions
from hk_tick_collector.market.hk.sessions import hk_date
from hk_tick_collector.store.layout import prepare_data_root
from hk_tick_collector.store.writer import DayFileWriter
from tests.ticks import make_ticks

ROWS = 40
SEGMENT_BYTES = 20_000


async def spill_and_store(root: Path, first: int) -> None:
    progress = IngestProgress()
    spill = SpillQueue(root, segment_bytes=SEGMENT_BYTES)
    spill.open()
    queue = RecordQueue(1000, spill, progress, lambda: None)
    quarantine = Quarantine(root, progress, hk_date)
    options = WorkerOptions(batch_rows=50, max_wait_sec=1.0, retry_min_sec=0.01, retry_max_sec=0.05)
    worker = PersistWorker(queue, spill, quarantine, lambda: DayFileWriter(root), options, progress, SystemClock())
    task = asyncio.create_task(worker.run())
    while not task.done():
        rows = make_ticks(first, first + ROWS - 1)
        await in_thread("append", lambda rows=rows: spill.append(rows))  # type: ignore[misc]
        first += ROWS
        print(first - 1, flush=True)
        worker.wake()
    task.result()


if __name__ == "__main__":
    asyncio.run(spill_and_store(prepare_data_root(Path(sys.argv[1])), int(sys.argv[2])))
