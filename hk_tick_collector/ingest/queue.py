"""The bounded queue between whoever has ticks and the one who stores them.

Bounded in rows, never in chunks. A chunk that does not fit goes to the spill file at once, on the thread that brought
it: memory stays bounded whatever SQLite or the loop do, and the price is paid by the socket, which is the right place.
Only when the spill cannot be written either are rows refused: counted per symbol and said.

``put`` may be called from any thread and takes one lock a burst; everything else belongs to the loop, but
``spill_everything``, which is for a last resort when the loop is stuck.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence

from hk_tick_collector.core.errors import StoreError
from hk_tick_collector.core.logline import RateLimitedLog
from hk_tick_collector.core.progress import IngestProgress
from hk_tick_collector.core.tick import Tick
from hk_tick_collector.ingest.spill import SpillQueue

log = logging.getLogger(__name__)


class TickQueue:
    """Chunks of ticks in, batches of ticks out. ``wake`` is called once when rows come to an empty queue."""

    def __init__(self, max_rows: int, spill: SpillQueue, progress: IngestProgress, wake: Callable[[], None]) -> None:
        self._max_rows = max_rows
        self._spill = spill
        self._progress = progress
        self._wake = wake
        self._lock = threading.Lock()
        self._chunks: deque[Sequence[Tick]] = deque()
        self._rows = 0
        self._closed = False
        self._log = RateLimitedLog(log)
        self.refused_by_symbol: Counter[str] = Counter()

    @property
    def rows(self) -> int:
        """Rows waiting."""
        return self._rows

    def put(self, ticks: Sequence[Tick]) -> None:
        """Take ``ticks``; they are queued, spilled, or counted as refused when this returns. Never raises."""
        rows = len(ticks)
        with self._lock:
            self._progress.in_rows += rows
            if self._rows + rows > self._max_rows or self._closed:
                self._to_spill(ticks)
                return
            was_empty = not self._rows
            self._chunks.append(ticks)
            self._rows += rows
        if was_empty:
            self._wake()

    def take(self, max_rows: int) -> list[Tick]:
        """The oldest rows, at most ``max_rows``; they are the caller's from now on."""
        batch: list[Tick] = []
        with self._lock:
            while self._chunks and len(batch) < max_rows:
                chunk = self._chunks.popleft()
                room = max_rows - len(batch)
                batch += chunk[:room]
                if len(chunk) > room:
                    self._chunks.appendleft(chunk[room:])
            self._rows -= len(batch)
        return batch

    def spill_everything(self, in_hand: Sequence[Tick]) -> int:
        """Close the queue: ``in_hand`` and all that waits go to disk, later rows too. Returns rows spilled."""
        with self._lock:
            self._closed = True
            before = self._progress.spilled_rows
            if in_hand:
                self._to_spill(in_hand)
            while self._chunks:
                chunk = self._chunks.popleft()
                self._rows -= len(chunk)
                self._to_spill(chunk)
            return self._progress.spilled_rows - before

    def _to_spill(self, ticks: Sequence[Tick]) -> None:
        try:
            self._spill.append(ticks)
        except (StoreError, OSError) as exc:
            self._progress.refused_rows += len(ticks)
            self.refused_by_symbol.update(tick.symbol for tick in ticks)
            self._log.log(
                logging.ERROR,
                "ticks_refused",
                rows=len(ticks),
                total_rows=self._progress.refused_rows,
                error=str(exc),
                action="queue is full and the spill cannot be written: free the disk",
            )
            return
        self._progress.spilled_rows += len(ticks)
        self._log.log(
            logging.WARNING,
            "queue_spilled",
            rows=len(ticks),
            spilled_rows=self._progress.spilled_rows,
            reason="stopping" if self._closed else "queue full",
        )
