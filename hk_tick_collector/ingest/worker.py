"""The persist worker: takes batches from the queue, has them committed, and forgets a batch only after its commit.

While all goes well the writer thread stores by itself, batch after batch (``_store_in_turn``): over the loop and back
costs as much as half a commit of 50 rows. Whatever else is to be done is done on the loop, when that turn is over: a
batch that cannot be committed is retried with back-off, and what arrives meanwhile waits in the queue, then in the
spill. Whatever goes wrong, every row is in exactly one of: queue, ``Hand``, spill file, day file, quarantine file.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from queue import Empty, SimpleQueue
from typing import Generic

from hk_tick_collector.core.backoff import Backoff
from hk_tick_collector.core.clock import Clock
from hk_tick_collector.core.errors import RowRefused, StoreBusy, StoreCorrupt, StoreError, StoreFault
from hk_tick_collector.core.facts import DayFact, Fact, RowsRead
from hk_tick_collector.core.logline import RateLimitedLog, event, log_of_kind
from hk_tick_collector.core.options import from_setting
from hk_tick_collector.core.progress import IngestProgress
from hk_tick_collector.core.waiting import is_set_within
from hk_tick_collector.ingest.hand import Hand
from hk_tick_collector.ingest.quarantine import Quarantine
from hk_tick_collector.ingest.queue import RecordQueue
from hk_tick_collector.ingest.spill import SpillQueue
from hk_tick_collector.ingest.writer_thread import RecordWriter, WriterThread
from hk_tick_collector.records.kind import TICKS, RecordKind, RecordT
from hk_tick_collector.store.write_result import WriteResult

log = logging.getLogger(__name__)

# Commits come at most this often unless a full batch waits: 100 commits/s cost 3 % of a core, 1000 would cost 20 %,
# and nobody reads a day file more often than that.
COMMIT_INTERVAL_SEC = 0.01
# A quiet market's commits come less often: below this rate the cost is the commits, not the ticks.
QUIET_ROWS_PER_SEC = 400.0
QUIET_COMMIT_INTERVAL_SEC = 0.03
RATE_SMOOTHING = 0.25  # weight of the newest batch: a rate is known after some four of them
# With a backlog, so many batches go into one commit. A commit writes every index page it touches: with 900 symbols that
# is nearly as many pages for 500 rows as for 4000, so a backlog is worked off several times faster.
BACKLOG_BATCHES = 8
IDLE_CHECK_SEC = 1.0
# So long the writer thread stores by itself before the loop looks whether anything else is to be done.
TURN_SEC = 1.0
PAUSE_SEC = 0.1  # no row for so long: the loop, which has other things to do, waits for the next one
# Nobody sends ticks of a day this long after its last one: its file is checkpointed and closed, its WAL goes.
DAY_IDLE_CLOSE_SEC = 1800.0
CLOSE_TIMEOUT_SEC = 10.0
# After so many failures of our own code in one way, the batch is taken apart: is one of its rows to blame?
FAULTS_BEFORE_ISOLATION = 3
# Rows of a batch whose latency is looked at: 12 us a commit at most, whatever the batch holds.
LATENCY_SAMPLE_ROWS = 8


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """``batch_rows``: rows a commit at most; ``max_wait_sec``: how long a row may wait for company at most."""

    batch_rows: int
    max_wait_sec: float = from_setting("max_wait_ms", factor=0.001)
    retry_min_sec: float = from_setting("persist_retry_backoff_sec")
    retry_max_sec: float = from_setting("persist_retry_backoff_max_sec")


class PersistWorker(Generic[RecordT]):
    """One instance a lane, on the loop. In its turn the writer thread has the counters and what is known of open days;
    the loop waits for the turn's end meanwhile, and touches neither."""

    def __init__(
        self,
        queue: RecordQueue[RecordT],
        spill: SpillQueue[RecordT],
        quarantine: Quarantine,
        make_writer: Callable[[], RecordWriter[RecordT]],
        options: WorkerOptions,
        progress: IngestProgress,
        clock: Clock,
        on_left_over: Callable[[Sequence[RecordT]], None] = lambda _: None,
        kind: RecordKind[RecordT] = TICKS,  # type: ignore[assignment]
    ) -> None:
        """``on_left_over`` is told of rows that an earlier process left in the spill, before they are stored."""
        self._queue = queue
        self._spill = spill
        self._quarantine = quarantine
        self._make_writer = make_writer
        self._options = options
        self._progress = progress
        self._clock = clock
        self._on_left_over = on_left_over
        self._kind = kind
        self._work = asyncio.Event()
        self.wants_wake = False  # read on other threads: nobody need wake a worker that will look anyway
        self._bell: SimpleQueue[None] = SimpleQueue()
        self._wants_bell = False
        self._hurry = asyncio.Event()
        self._flushing = threading.Event()
        self._hand: Hand[RecordT] = Hand(queue)
        self._day_written: dict[str, float] = {}  # open days and when they were last written, monotonic
        self._commit_started = 0.0
        self._rows_per_sec = 0.0
        self._fault, self._same_faults = "", 0  # of our own code, since the last commit
        self._retry = Backoff(options.retry_min_sec, options.retry_max_sec)
        self._plain_log = log_of_kind(log, kind.name, TICKS.name)
        self._log = RateLimitedLog(self._plain_log)
        self._writer_name = "writer" if kind is TICKS else f"{kind.name}-writer"
        self._writer = WriterThread(make_writer, f"{self._writer_name}-1", self._plain_log)

    @property
    def in_hand_rows(self) -> int:
        """Rows taken from the queue whose commit has not returned."""
        return self._hand.held_rows

    def wake(self) -> None:
        """Rows came to an empty queue. Call on the loop."""
        self._work.set()
        self.ring()

    def ring(self) -> bool:
        """The same, on any thread: False when nobody waits for it there."""
        wants_bell = self._wants_bell
        if wants_bell:
            self._bell.put(None)
        return wants_bell

    def _look(self) -> None:
        """Wake up once in a while for rows spilled or quarantined on another thread, which wake nobody."""
        self._work.set()
        self._look_timer = asyncio.get_running_loop().call_later(IDLE_CHECK_SEC, self._look)

    async def run(self) -> None:
        """Store until cancelled, or after ``flush`` until nothing is left."""
        self._look()
        try:
            await self._run()
        finally:
            self._look_timer.cancel()

    async def _run(self) -> None:
        while True:
            await self._wait_for_work()
            if self._are_rows_queued():
                await self._store_queue()
            if self._spill.due and self._queue.rows < self._options.batch_rows:
                # In turn with the queue: in a lively market it is never empty, and the spill would wait for the close.
                await self._until_it_works(self._drain_spill)
            elif self._flushing.is_set() and not self._is_work_left():
                return
            await self._close_idle_days()
            if self._quarantine.due:
                await self._until_it_works(self._flush_quarantine)

    async def _until_it_works(self, step: Callable[[], Awaitable[None]]) -> None:
        """A step outside ``_store`` may meet the writer's replacement: that must not end the worker."""
        while True:
            try:
                await step()
            except StoreError as exc:
                await self._wait_retry(exc)
            else:
                return

    async def _flush_quarantine(self) -> None:
        await self._writer.call(lambda _: self._quarantine.flush())

    def _batch_limit_rows(self) -> int:
        rows = self._options.batch_rows
        return rows if self._queue.rows < 2 * rows else rows * BACKLOG_BATCHES

    def flush(self) -> None:
        """Make ``run`` return once queue and spill are empty. No more rows may be put."""
        self._flushing.set()
        self.wake()

    def hurry(self) -> None:
        """Stop waiting between retries: whoever flushes has run out of patience."""
        self._hurry.set()

    def request_writer_recovery(self, reason: str) -> None:
        """Replace the writer's thread and connections; the batch in hand is written again by the new one."""
        self._hand.end_turn()  # before the old one is interrupted: it may come back before its waiter is heard
        self._progress.recoveries += 1
        self._plain_log.warning(
            event(
                "writer_recovery",
                reason=reason,
                recoveries=self._progress.recoveries,
                in_hand_rows=self.in_hand_rows,
                queue_rows=self._queue.rows,
            )
        )
        old, self._writer = (
            self._writer,
            WriterThread(self._make_writer, f"{self._writer_name}-{self._progress.recoveries + 1}", self._plain_log),
        )
        old.abandon()

    def rescue(self) -> int:
        """Put everything not committed into the spill file. Safe from any thread as a last resort. Rows spilled."""
        self._hand.end_turn()
        rows = self._queue.spill_everything(self._hand.rows)
        self._hand.rows = self._hand.facts = ()
        return rows

    @property
    def writer_alive(self) -> bool:
        return self._writer.alive

    @property
    def wal_bytes(self) -> int:
        """Size of the open write-ahead logs, as the writer last measured it."""
        return self._writer.wal_bytes

    async def close(self) -> None:
        """Write what waits for the quarantine, checkpoint and close the day files. Raises ``StoreError``."""
        if self._quarantine.waiting_rows:
            with contextlib.suppress(StoreError, TimeoutError):
                async with asyncio.timeout(CLOSE_TIMEOUT_SEC):
                    await self._flush_quarantine()
        self._quarantine.close()
        await self._writer.close(CLOSE_TIMEOUT_SEC)

    def _are_rows_queued(self) -> bool:
        return bool(self._queue.rows or self._queue.facts_waiting)

    def _is_work_left(self) -> bool:
        return self._are_rows_queued() or self._spill.due or self._quarantine.due

    async def _wait_for_work(self) -> None:
        self._work.clear()
        self.wants_wake = True  # before looking: who puts rows after this look wakes us
        if not self._is_work_left() and not self._flushing.is_set():
            await self._work.wait()
        self.wants_wake = False

    async def _store_queue(self) -> None:
        """The writer thread stores what waits; what it failed at is stored from here."""
        turn = self._hand.begin_turn()
        try:
            await self._writer.call(lambda writer: self._store_in_turn(writer, turn))
        except StoreError as exc:
            error = exc
        else:
            self._retry.reset()
            return
        finally:  # also when we are cancelled: it may be in the middle of it
            self._hand.end_turn()
        if not self._hand.rows and not self._hand.facts:
            await self._wait_retry(error)  # nothing to be written is no commit either
        else:  # rows that are refused for what they are need no wait to be found
            refused = isinstance(error, RowRefused)
            await self._store(self._hand.rows, self._hand.facts, None if refused else error)

    def _store_in_turn(self, writer: RecordWriter[RecordT], turn: int) -> None:
        """On the writer thread: commit one batch after another until the queue is empty, or the loop has to see to
        something else."""
        until_sec = self._clock.monotonic() + TURN_SEC
        while self._clock.monotonic() < until_sec:
            self._wait_for_company()
            if not self._hand.take(turn, self._batch_limit_rows(), self._note_taken):
                if not self._hand.is_turn(turn) or not self._rows_come():
                    return
                continue
            batch, facts = self._hand.rows, self._hand.facts
            result = writer.write(batch, facts)
            if not self._hand.stored(turn, partial(self._note_commit, result, batch, facts)):
                return
            self._tell_commit(result, batch)
            if self._flushing.is_set() or self._spill.due or self._quarantine.due:
                return

    def _wait_for_company(self) -> None:
        """Commits are so far apart, unless a full batch waits. A flush is in no greater hurry than that."""
        if self._queue.rows >= self._options.batch_rows or self._flushing.is_set():
            return
        quiet = self._rows_per_sec < QUIET_ROWS_PER_SEC
        interval_sec = min(QUIET_COMMIT_INTERVAL_SEC if quiet else COMMIT_INTERVAL_SEC, self._options.max_wait_sec)
        wait_sec = self._commit_started + interval_sec - self._clock.monotonic()
        if wait_sec > 0:
            self._flushing.wait(wait_sec)

    def _rows_come(self) -> bool:
        """Wait for rows, as long as they come one upon another. False: the loop waits for the next ones."""
        self._wants_bell = True  # before looking: who puts rows after this look rings
        try:
            if not self._are_rows_queued() and not self._flushing.is_set():
                self._bell.get(timeout=PAUSE_SEC)
        except Empty:
            return False
        finally:
            self._wants_bell = False
        return not self._flushing.is_set()

    def _note_taken(self, rows: int) -> None:
        """Of the queue. The rate is smoothed over the last batches."""
        now_sec = self._clock.monotonic()
        self._progress.out_rows += rows
        self._progress.last_dequeue_monotonic = now_sec
        self._rows_per_sec += RATE_SMOOTHING * (rows / max(now_sec - self._commit_started, 1e-3) - self._rows_per_sec)
        self._commit_started = now_sec

    async def _store(
        self, batch: Sequence[RecordT], facts: Sequence[Fact | DayFact] = (), error: StoreError | None = None
    ) -> None:
        """Commit ``batch`` and the facts, however long it takes; then every row is stored or quarantined. ``error``: of
        a first attempt."""
        self._hand.rows, self._hand.facts = batch, facts
        while True:
            if error is not None:
                batch, facts = await self._overcome(error, batch, facts)
            self._commit_started = self._clock.monotonic()
            try:
                result = await self._write(batch, facts)
                break
            except StoreError as exc:
                error = exc
        self._hand.rows = self._hand.facts = ()
        self._retry.reset()
        self._fault, self._same_faults = "", 0
        self._note_commit(result, batch, facts)
        self._tell_commit(result, batch)

    async def _overcome(
        self, error: StoreError, batch: Sequence[RecordT], facts: Sequence[Fact | DayFact]
    ) -> tuple[Sequence[RecordT], Sequence[Fact | DayFact]]:
        """What is to be tried next, and not before it is worth it."""
        if isinstance(error, StoreCorrupt):
            await self._set_aside(error)
        else:
            await self._wait_retry(error)
            if self._is_fault_of_ours(error):
                return self._with_company(batch, facts)
        return batch, facts

    async def _write(self, batch: Sequence[RecordT], facts: Sequence[Fact | DayFact]) -> WriteResult:
        """One attempt. Rows that are refused for what they are go into quarantine, and the others are stored."""
        if not self._isolating:
            with contextlib.suppress(RowRefused):
                return await self._writer.call(lambda writer: writer.write(batch, facts))
        is_fault = self._isolating
        recv_ts_ms = self._clock.now_ms()

        def store_apart(writer: RecordWriter[RecordT]) -> tuple[WriteResult, int]:
            isolate = writer.isolate_fault if is_fault else writer.isolate
            result, refused = isolate(batch, facts)
            # On disk before the batch counts as stored: a refused row that came from the spill is in no other place.
            self._quarantine.add_refused(refused, recv_ts_ms)
            self._quarantine.flush(sync=True)
            return result, len(refused)

        result, refused_rows = await self._writer.call(store_apart)
        self._progress.poison_rows += refused_rows
        return result

    def _is_fault_of_ours(self, error: StoreError) -> bool:
        """Did our own code fail, so often in the same way that a row may be the reason?"""
        if not isinstance(error, StoreFault):
            return False
        self._same_faults = self._same_faults + 1 if str(error) == self._fault or self._isolating else 1
        self._fault = str(error)
        return self._isolating

    @property
    def _isolating(self) -> bool:
        return self._same_faults >= FAULTS_BEFORE_ISOLATION

    def _with_company(
        self, batch: Sequence[RecordT], facts: Sequence[Fact | DayFact]
    ) -> tuple[Sequence[RecordT], Sequence[Fact | DayFact]]:
        """Rows of the queue join those in hand: a row is known as the faulty one only by others that can be stored."""
        room = self._options.batch_rows * BACKLOG_BATCHES - len(batch)
        if room > 0:
            more, more_facts = self._queue.take(room)
            self._progress.out_rows += len(more)
            batch, facts = [*batch, *more], [*facts, *more_facts]
            self._hand.rows, self._hand.facts = batch, facts
        return batch, facts

    async def _set_aside(self, error: StoreCorrupt) -> None:
        """A damaged or foreign day file: move it away loudly, so that the retry begins a new one."""
        self._note_error(error)

        def move(writer: RecordWriter[RecordT]) -> bool:
            if writer.failed_day is None:
                return False
            writer.set_aside(writer.failed_day, str(error))
            return True

        try:
            self._progress.files_set_aside += await self._writer.call(move)
        except StoreError as exc:
            await self._wait_retry(exc)

    async def _wait_retry(self, error: StoreError) -> None:
        self._note_error(error)
        busy = isinstance(error, StoreBusy)
        wait_sec = self._retry.next_sec()
        self._log.log(
            logging.WARNING if busy else logging.ERROR,
            "sqlite_busy_backoff" if busy else "persist_error",
            error=str(error),
            wait_sec=wait_sec,
            attempt=self._retry.attempts,
            in_hand_rows=self.in_hand_rows,
            queue_rows=self._queue.rows,
            spill_rows=self._spill.rows,
            exc_info=False if busy else error,
        )
        await is_set_within(self._hurry, wait_sec)
        if self._hurry.is_set():
            raise error

    def _note_error(self, error: StoreError) -> None:
        progress = self._progress
        progress.write_errors += 1
        progress.busy_errors += isinstance(error, StoreBusy)
        progress.last_error = type(error).__name__
        progress.last_error_monotonic = self._clock.monotonic()

    def _note_commit(self, result: WriteResult, batch: Sequence[RecordT], facts: Sequence[Fact | DayFact]) -> None:
        progress = self._progress
        now_sec = self._clock.monotonic()
        progress.commits += 1
        progress.persisted_rows += result.inserted_rows
        progress.ignored_rows += result.ignored_rows
        progress.files_replaced += result.replaced_files
        self._day_written.update(dict.fromkeys(result.days, now_sec))
        for fact in facts:
            if isinstance(fact, RowsRead):  # its day is over: close it now
                self._day_written[fact.trading_day] = now_sec - DAY_IDLE_CLOSE_SEC - 1
        progress.missing_ticks = result.missing_ticks
        progress.unseen_ticks = result.unseen_ticks
        progress.last_commit_rows = len(batch)
        progress.last_commit_monotonic = now_sec
        progress.last_commit_sec = now_sec - self._commit_started
        if batch:
            progress.max_committed_ts_ms = max(progress.max_committed_ts_ms, batch[-1].ts_ms)
            self._note_latency(batch)

    def _tell_commit(self, result: WriteResult, batch: Sequence[RecordT]) -> None:
        if self._plain_log.isEnabledFor(logging.DEBUG):
            self._plain_log.debug(
                event(
                    "persist_ticks",
                    rows=len(batch),
                    inserted=result.inserted_rows,
                    ignored=result.ignored_rows,
                    took_ms=self._progress.last_commit_sec * 1000,
                    queue=self._queue.rows,
                )
            )

    def _note_latency(self, batch: Sequence[RecordT]) -> None:
        """How old the batch's rows are now, from an even sample: each looked at stands for the rows around it."""
        now_ms = self._clock.now_ms()
        progress = self._progress
        step_rows = -(-len(batch) // LATENCY_SAMPLE_ROWS)
        for first in range(0, len(batch), step_rows):
            rows = min(step_rows, len(batch) - first)
            tick = batch[first + rows // 2]
            progress.commit_latency_ms.observe(now_ms - tick.recv_ts_ms, rows)
            if self._kind.is_live(tick):
                progress.event_latency_ms.observe(now_ms - tick.ts_ms, rows)

    async def _close_idle_days(self) -> None:
        limit_sec = self._clock.monotonic() - DAY_IDLE_CLOSE_SEC
        for day in [day for day, written_sec in self._day_written.items() if written_sec < limit_sec]:
            del self._day_written[day]
            try:
                await self._writer.call(lambda writer, day=day: writer.close_day(day))  # type: ignore[misc]
            except StoreError as exc:
                self._plain_log.warning(event("day_file_close_failed", trading_day=day, error=str(exc)))
            else:
                self._plain_log.info(event("day_file_closed", trading_day=day, idle_sec=DAY_IDLE_CLOSE_SEC))

    def _peek_spill(self) -> tuple[list[RecordT], bool]:
        rows = self._spill.peek(self._options.batch_rows * BACKLOG_BATCHES)
        return rows, self._spill.peeked_left_over

    async def _drain_spill(self) -> None:
        """Store the oldest spilled rows; they leave the spill only after their commit."""
        rows, left_over = await self._writer.call(lambda _: self._peek_spill())
        if left_over:
            self._on_left_over(rows)
        if rows:
            await self._store(rows, self._queue.take_cautions())
            self._progress.unspilled_rows += len(rows)
        await self._writer.call(lambda _: self._spill.ack(len(rows)))
        if rows and not self._spill.rows:
            self._plain_log.info(event("spill_drained", unspilled_rows=self._progress.unspilled_rows))
