"""The bounded queue between whoever has ticks and the one who stores them.

Bounded in rows, never in chunks. A chunk that does not fit goes to the spill file, on the thread that brought it:
memory stays bounded whatever SQLite or the loop do, and the price is paid by the socket, which is the right place. The
network thread first waits a moment for room (``put_patiently``); the loop, which makes the room, never does (``put``).
Only when the spill cannot be written either are rows refused: counted per symbol and said.

``put`` may be called from any thread and takes one lock a burst; everything else belongs to the loop, but
``spill_everything``, which is for a last resort when the loop is stuck.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence

from hk_tick_collector.core.errors import StoreError
from hk_tick_collector.core.facts import Fact, Verified
from hk_tick_collector.core.logline import RateLimitedLog
from hk_tick_collector.core.progress import IngestProgress
from hk_tick_collector.core.tick import Tick
from hk_tick_collector.ingest.spill import SpillQueue

log = logging.getLogger(__name__)

# How long ``put_patiently`` waits: many commits, yet short against every timeout of the connection it holds up.
PATIENCE_SEC = 0.25
# After a wait in vain the store is slow or stuck: spill at once for so long, so that the socket is read on.
IMPATIENT_SEC = 5.0
MAX_FACTS = 50_000  # hours of a store outage; beyond it only those are dropped that are told again


class TickQueue:
    """Chunks of ticks in, batches of ticks out. ``wake`` is called once when rows come to an empty queue."""

    def __init__(self, max_rows: int, spill: SpillQueue, progress: IngestProgress, wake: Callable[[], None]) -> None:
        self._max_rows = max_rows
        self._spill = spill
        self._progress = progress
        self._wake = wake
        self._lock = threading.Lock()
        self._room = threading.Condition(self._lock)
        self._room_wanted = False
        self._impatient_until_monotonic = 0.0
        self._chunks: deque[Sequence[Tick]] = deque()
        self._rows = 0
        self._facts: list[Fact] = []
        self._closed = False
        self._log = RateLimitedLog(log)
        self.refused_by_symbol: Counter[str] = Counter()

    @property
    def rows(self) -> int:
        """Rows waiting."""
        return self._rows

    def put(self, ticks: Sequence[Tick]) -> None:
        """Take ``ticks``; they are queued, spilled, or counted as refused on return. Never raises, never waits."""
        with self._lock:
            was_empty = self._accept(ticks)
        if was_empty:
            self._wake()

    def put_patiently(self, ticks: Sequence[Tick]) -> None:
        """As ``put``, but a full queue is given up to ``PATIENCE_SEC`` to become half empty. Never call it on the loop.

        While the store keeps up with the socket at all, the socket is slowed down instead of writing every row twice:
        2.5 times the speed and two thirds of the CPU a tick at full load, against spilling at once.
        """
        with self._lock:
            if self._rows + len(ticks) > self._max_rows and time.monotonic() >= self._impatient_until_monotonic:
                self._wait_for_room()
            was_empty = self._accept(ticks)
        if was_empty:
            self._wake()

    def _wait_for_room(self) -> None:
        """Until half the queue is empty: one wake-up for many bursts, and the writer works undisturbed meanwhile."""
        self._room_wanted = True
        if not self._room.wait_for(lambda: self._rows <= self._max_rows // 2 or self._closed, PATIENCE_SEC):
            self._impatient_until_monotonic = time.monotonic() + IMPATIENT_SEC
        self._room_wanted = False

    def _accept(self, ticks: Sequence[Tick]) -> bool:
        """Queue or spill ``ticks``, the lock being held. True when they came to an empty queue."""
        rows = len(ticks)
        self._progress.in_rows += rows
        if self._rows + rows > self._max_rows or self._closed:
            self._to_spill(ticks)
            return False
        was_empty = not self._rows
        self._chunks.append(ticks)
        self._rows += rows
        return was_empty

    def put_facts(self, facts: Sequence[Fact]) -> None:
        """Take what was learned about completeness; it is written with the next rows. From any thread."""
        with self._lock:
            was_empty = not self._facts and not self._rows
            self._facts.extend(facts)
            if len(self._facts) > MAX_FACTS:
                self._facts = [fact for fact in self._facts if not isinstance(fact, Verified)]
        if was_empty:
            self._wake()

    @property
    def facts_waiting(self) -> int:
        """Facts not taken yet."""
        return len(self._facts)

    def take(self, max_rows: int) -> tuple[list[Tick], list[Fact]]:
        """The oldest rows, at most ``max_rows``, and the facts if these were the last rows waiting.

        They are the caller's from now on. So no fact is written before the rows it speaks of.
        """
        batch: list[Tick] = []
        facts: list[Fact] = []
        with self._lock:
            while self._chunks and len(batch) < max_rows:
                chunk = self._chunks.popleft()
                room = max_rows - len(batch)
                batch += chunk[:room]
                if len(chunk) > room:
                    self._chunks.appendleft(chunk[room:])
            self._rows -= len(batch)
            if self._room_wanted and self._rows <= self._max_rows // 2:
                self._room.notify()
            if not self._rows:
                facts, self._facts = self._facts, []
        return batch, facts

    def spill_everything(self, in_hand: Sequence[Tick]) -> int:
        """Close the queue: ``in_hand`` and all that waits go to disk, later rows too. Returns rows spilled."""
        with self._lock:
            self._closed = True
            self._room.notify()
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
