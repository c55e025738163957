"""The bounded queue between whoever has ticks and the one who stores them.

Bounded in rows, never in chunks. A chunk that does not fit goes to the spill file: memory stays bounded whatever SQLite
or the loop do. The network thread first waits a moment for room and then writes to the spill itself
(``put_patiently``), so the price is paid by the socket, which is the right place. The loop, which makes the room, never
waits and never touches the disk (``put``): what it brings beyond the limit is spilled by a thread made for it. Only
when the spill cannot be written either are rows refused: counted per symbol and said.

The lock is held for work in memory only, never over a write: whoever takes, puts or asks waits for no disk. Each row is
in exactly one place: the chunks, the overflow, or in transit to the spill, until it is on disk or refused.
``spill_everything`` is the last resort: it closes the queue and saves all of it, also what hangs in transit.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Generic

from hk_tick_collector.core.errors import RowRefused, StoreBusy, StoreError
from hk_tick_collector.core.facts import CAUTIONS, UNKNOWN_SEQ, DayFact, Fact, Interrupted, Rejoined, Verified
from hk_tick_collector.core.logline import RateLimitedLog, event
from hk_tick_collector.core.progress import IngestProgress
from hk_tick_collector.ingest.spill import SpillQueue
from hk_tick_collector.records.kind import RecordT

# How long ``put_patiently`` waits: many commits, yet short against every timeout of the connection it holds up.
PATIENCE_SEC = 0.25
# After a wait in vain the store is slow or stuck: spill at once for so long, so that the socket is read on.
IMPATIENT_SEC = 5.0
# How long a thread may be at the spill before the last resort goes round it.
HANGING_SEC = 5.0
MAX_FACTS = 50_000  # hours of a store outage; beyond it only those are dropped that are told again


class RecordQueue(Generic[RecordT]):
    """Chunks of records in, batches of records out. ``wake`` is called once when rows come to an empty queue."""

    def __init__(
        self, max_rows: int, spill: SpillQueue[RecordT], progress: IngestProgress, wake: Callable[[], None]
    ) -> None:
        self._max_rows = max_rows
        self._spill = spill
        self._progress = progress
        self._wake = wake
        self._lock = threading.Lock()
        self._room = threading.Condition(self._lock)
        self._room_wanted = False
        self._impatient_until_monotonic = 0.0
        self._chunks: deque[Sequence[RecordT]] = deque()
        self._rows = 0
        self._overflow: deque[Sequence[RecordT]] = deque()  # of the loop, beyond the limit: for the spill
        self._overflow_rows = 0
        self._overflow_thread: threading.Thread | None = None
        self._in_transit: dict[int, Sequence[RecordT]] = {}  # being written to the spill, by whom does not matter
        self._last_key = 0
        self._arrived = threading.Condition(self._lock)
        self._facts: list[Fact | DayFact] = []
        self._cautions: list[Fact | DayFact] = []
        self._closed = False
        self._plain_log = spill.log
        self._log = RateLimitedLog(self._plain_log)
        self.refused_by_symbol: Counter[str] = Counter()

    @property
    def rows(self) -> int:
        """Rows waiting to be taken."""
        return self._rows

    @property
    def rows_in_memory(self) -> int:
        """Rows waiting to be taken, or to be spilled."""
        return self._rows + self._overflow_rows

    def put(self, ticks: Sequence[RecordT]) -> None:
        """Take ``ticks`` on the loop. Never raises, never waits, never writes: what is beyond the limit is spilled
        soon, and what is beyond twice the limit is refused."""
        refused = False
        with self._lock:
            self._progress.in_rows += len(ticks)
            was_empty = self._queued(ticks)
            if was_empty is None and not self._overflowed(ticks):
                refused = True
        if refused:
            self._refuse(ticks, "the spill does not keep up")
        elif was_empty:
            self._wake()

    def put_patiently(self, ticks: Sequence[RecordT]) -> None:
        """As ``put``, but a full queue is given up to ``PATIENCE_SEC`` to become half empty, and then ``ticks`` are in
        the spill, or refused, on return. Never call it on the loop.

        While the store keeps up with the socket at all, the socket is slowed down instead of writing every row twice:
        2.5 times the speed and two thirds of the CPU a tick at full load, against spilling at once.
        """
        with self._lock:
            if self._rows + len(ticks) > self._max_rows and time.monotonic() >= self._impatient_until_monotonic:
                self._wait_for_room()
            self._progress.in_rows += len(ticks)
            was_empty = self._queued(ticks)
        if was_empty is None:
            self._to_spill(ticks)
        elif was_empty:
            self._wake()

    def _wait_for_room(self) -> None:
        """Until half the queue is empty: one wake-up for many bursts, and the writer works undisturbed meanwhile."""
        self._room_wanted = True
        if not self._room.wait_for(lambda: self._rows <= self._max_rows // 2 or self._closed, PATIENCE_SEC):
            self._impatient_until_monotonic = time.monotonic() + IMPATIENT_SEC
        self._room_wanted = False

    def _queued(self, ticks: Sequence[RecordT]) -> bool | None:
        """Queue ``ticks``, the lock being held. True when they came to an empty queue; None when there is no room."""
        rows = len(ticks)
        if self._rows + rows > self._max_rows or self._closed:
            return None
        was_empty = not self._rows
        self._chunks.append(ticks)
        self._rows += rows
        return was_empty

    def _overflowed(self, ticks: Sequence[RecordT]) -> bool:
        """Leave ``ticks`` to a thread that spills them, the lock being held. False when too many wait for that."""
        if self._overflow and self._overflow_rows + len(ticks) > self._max_rows:
            return False
        self._overflow.append(ticks)
        self._overflow_rows += len(ticks)
        if self._overflow_thread is None:
            self._overflow_thread = threading.Thread(target=self._spill_overflow, name="spill", daemon=True)
            self._overflow_thread.start()
        return True

    def _spill_overflow(self) -> None:
        """On the spill's own thread, which ends when nothing is left."""
        while True:
            with self._lock:
                if not self._overflow:
                    self._overflow_thread = None
                    return
                ticks = self._overflow.popleft()
                self._overflow_rows -= len(ticks)
                key = self._leave(ticks)
            self._spill_in_transit(key, ticks)

    def put_facts(self, facts: Sequence[Fact | DayFact]) -> None:
        """Take what was learned about completeness: a caution is written no later than the rows that are put after it,
        any other fact not before the rows that were put before it. From any thread."""
        with self._lock:
            was_empty = not self.facts_waiting and not self._rows
            self._facts += [fact for fact in facts if not isinstance(fact, CAUTIONS)]
            self._cautions += [fact for fact in facts if isinstance(fact, CAUTIONS)]
            if len(self._facts) > MAX_FACTS:
                self._facts = [fact for fact in self._facts if not isinstance(fact, Verified)]
            if len(self._cautions) > MAX_FACTS:
                self._cautions = _that_hold(self._cautions)
        if was_empty:
            self._wake()

    @property
    def facts_waiting(self) -> int:
        """Facts not taken yet."""
        return len(self._facts) + len(self._cautions)

    def take_cautions(self) -> list[Fact | DayFact]:
        """Those that were put so far: they go with rows that come by another way than ``take``."""
        with self._lock:
            cautions, self._cautions = self._cautions, []
        return cautions

    def take(self, max_rows: int) -> tuple[list[RecordT], list[Fact | DayFact]]:
        """The oldest rows, at most ``max_rows``, all cautions, and the other facts if these were the last rows waiting.

        They are the caller's from now on. So none but a caution is written before the rows it speaks of.
        """
        batch: list[RecordT] = []
        facts: list[Fact | DayFact] = []
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
            facts, self._cautions = self._cautions, []
            if not self._rows:
                facts, self._facts = facts + self._facts, []
        return batch, facts

    def spill_everything(self, in_hand: Sequence[RecordT]) -> int:
        """Close the queue: ``in_hand`` and all that waits go to disk, later rows too. Returns rows spilled.

        Blocks for the disk's time, so never call it on the loop. When another thread hangs in the spill, all of it goes
        to a segment of its own, together with what that thread has in hand.
        """
        with self._lock:
            self._closed = True
            self._room.notify()
            left = [tick for chunk in (in_hand, *self._chunks, *self._overflow) for tick in chunk]
            self._chunks.clear()
            self._overflow.clear()
            self._rows = self._overflow_rows = 0
            hangs = not self._arrived.wait_for(lambda: not self._in_transit, HANGING_SEC)
            if hangs:
                left += [tick for chunk in self._in_transit.values() for tick in chunk]
        if not left:
            return 0
        return len(left) if self._to_spill(left, self._append_apart if hangs else self._append_soon) else 0

    def _append_soon(self, ticks: Sequence[RecordT]) -> None:
        try:
            self._spill.append(ticks, HANGING_SEC)
        except StoreBusy:  # another thread hangs, reading
            self._append_apart(ticks)

    def _append_apart(self, ticks: Sequence[RecordT]) -> None:
        self._plain_log.error(
            event("spill_hangs", rows=len(ticks), action="writing to a segment apart, for the next start")
        )
        self._spill.append_apart(ticks)

    def _to_spill(self, ticks: Sequence[RecordT], append: Callable[[Sequence[RecordT]], None] | None = None) -> bool:
        """Write ``ticks`` to the spill on this thread, without the lock. False when they were refused."""
        with self._lock:
            key = self._leave(ticks)
        return self._spill_in_transit(key, ticks, append)

    def _leave(self, ticks: Sequence[RecordT]) -> int:
        """``ticks`` are on their way to the spill from now on, the lock being held."""
        self._last_key += 1
        self._in_transit[self._last_key] = ticks
        return self._last_key

    def _spill_in_transit(
        self, key: int, ticks: Sequence[RecordT], append: Callable[[Sequence[RecordT]], None] | None = None
    ) -> bool:
        error: Exception | None = None
        try:
            (append or self._spill.append)(ticks)
        except (StoreError, OSError) as exc:
            error = exc
        with self._lock:
            del self._in_transit[key]
            self._arrived.notify_all()
            if error is None:
                self._progress.spilled_rows += len(ticks)
        if isinstance(error, RowRefused) and len(ticks) > 1:
            middle = len(ticks) // 2
            first_half = self._to_spill(ticks[:middle], append)
            return self._to_spill(ticks[middle:], append) and first_half
        if error is not None:
            self._refuse(ticks, str(error))
            return False
        self._log.log(
            logging.WARNING,
            "queue_spilled",
            rows=len(ticks),
            spilled_rows=self._progress.spilled_rows,
            reason="stopping" if self._closed else "queue full",
        )
        return True

    def _refuse(self, ticks: Sequence[RecordT], error: str) -> None:
        with self._lock:
            self._progress.refused_rows += len(ticks)
            self._progress.last_refused_monotonic = time.monotonic()
            self.refused_by_symbol.update(tick.symbol for tick in ticks)
        self._log.log(
            logging.ERROR,
            "ticks_refused",
            rows=len(ticks),
            total_rows=self._progress.refused_rows,
            error=error,
            action="queue is full and the spill cannot be written: free the disk",
        )


def _that_hold(cautions: Sequence[Fact | DayFact]) -> list[Fact | DayFact]:
    """Of the interruptions of a symbol's day, begun or over, those without which the file would know something else;
    where only the file knows a place, all of them."""
    open_ones: dict[tuple[str, str], list[Interrupted | Rejoined]] = {}
    others: list[Fact | DayFact] = []
    for fact in cautions:
        if not isinstance(fact, (Interrupted, Rejoined)) or fact.last_seq == UNKNOWN_SEQ:
            others.append(fact)
            continue
        known = open_ones.setdefault((fact.symbol, fact.trading_day), [])
        if isinstance(fact, Rejoined):
            known[:] = [earlier for earlier in known if earlier.last_seq < fact.last_seq]
            if any(isinstance(earlier, Rejoined) for earlier in known):
                continue  # what it ended began behind an earlier one, and is gone with it
        if fact not in known:
            known.append(fact)
    return [*dict.fromkeys(others), *(fact for facts in open_ones.values() for fact in facts)]
