"""The persist worker: takes batches from the queue, has them committed, and forgets a batch only after its commit.

Runs on the loop; SQLite itself is touched on the writer thread. While a batch cannot be committed it is retried with
back-off, and what arrives meanwhile waits in the queue, then in the spill. Whatever goes wrong, every row is in exactly
one of: queue, ``in_hand``, spill file, day file, quarantine file.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic

from hk_tick_collector.core.backoff import Backoff
from hk_tick_collector.core.clock import Clock
from hk_tick_collector.core.errors import RowRefused, StoreBusy, StoreCorrupt, StoreError, StoreFault
from hk_tick_collector.core.facts import DayFact, Fact, RowsRead
from hk_tick_collector.core.logline import RateLimitedLog, event, log_of_kind
from hk_tick_collector.core.options import from_setting
from hk_tick_collector.core.progress import IngestProgress
from hk_tick_collector.core.waiting import is_set_within
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
# Nobody sends ticks of a day this long after its last one: its file is checkpointed and closed, its WAL goes.
DAY_IDLE_CLOSE_SEC = 1800.0
CLOSE_TIMEOUT_SEC = 10.0
# After so many failures of our own code in one way, the batch is taken apart: is one of its rows to blame?
FAULTS_BEFORE_ISOLATION = 3
# Rows of a batch whose latency is looked at: 25 us a commit at most, whatever the batch holds.
LATENCY_SAMPLE_ROWS = 16


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """``batch_rows``: rows a commit at most; ``max_wait_sec``: how long a row may wait for company at most."""

    batch_rows: int
    max_wait_sec: float = from_setting("max_wait_ms", factor=0.001)
    retry_min_sec: float = from_setting("persist_retry_backoff_sec")
    retry_max_sec: float = from_setting("persist_retry_backoff_max_sec")


class PersistWorker(Generic[RecordT]):
    """One instance a lane. Everything but ``request_writer_recovery``'s caller lives on the loop."""

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
        self._hurry = asyncio.Event()
        self._flushing = False
        self._in_hand: Sequence[RecordT] = ()
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
        return len(self._in_hand)

    def wake(self) -> None:
        """Rows came to an empty queue. Call on the loop."""
        self._work.set()

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
            batch, facts = self._queue.take(self._batch_limit_rows())
            if batch or facts:
                self._progress.out_rows += len(batch)
                self._progress.last_dequeue_monotonic = self._clock.monotonic()
                await self._store(batch, facts)
            if self._spill.due and self._queue.rows < self._options.batch_rows:
                # In turn with the queue: in a lively market it is never empty, and the spill would wait for the close.
                await self._until_it_works(self._drain_spill)
            elif not batch and not facts and self._flushing and not self._quarantine.due:
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
        self._flushing = True
        self._work.set()

    def hurry(self) -> None:
        """Stop waiting between retries: whoever flushes has run out of patience."""
        self._hurry.set()

    def request_writer_recovery(self, reason: str) -> None:
        """Replace the writer's thread and connections; the batch in hand is written again by the new one."""
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
        rows = self._queue.spill_everything(self._in_hand)
        self._in_hand = ()
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

    async def _wait_for_work(self) -> None:
        queue = self._queue
        if queue.rows < self._options.batch_rows and not self._flushing:
            quiet = self._rows_per_sec < QUIET_ROWS_PER_SEC
            interval_sec = min(QUIET_COMMIT_INTERVAL_SEC if quiet else COMMIT_INTERVAL_SEC, self._options.max_wait_sec)
            wait_sec = self._commit_started + interval_sec - self._clock.monotonic()
            if wait_sec > 0:
                await asyncio.sleep(wait_sec)
        self._work.clear()
        self.wants_wake = True  # before looking: who puts rows after this look wakes us
        idle = not (queue.rows or queue.facts_waiting or self._spill.due or self._quarantine.due)
        if idle and not self._flushing:
            await self._work.wait()
        self.wants_wake = False

    async def _store(self, batch: Sequence[RecordT], facts: Sequence[Fact | DayFact] = ()) -> None:
        """Commit ``batch`` and the facts, however long it takes; then every row is stored or quarantined."""
        self._in_hand = batch
        self._note_rate(len(batch))
        while True:
            self._commit_started = self._clock.monotonic()
            try:
                result = await self._write(batch, facts)
                break
            except StoreCorrupt as exc:
                await self._set_aside(exc)
            except StoreError as exc:
                await self._wait_retry(exc)
                if self._is_fault_of_ours(exc):
                    batch, facts = self._with_company(batch, facts)
        self._in_hand = ()
        self._retry.reset()
        self._fault, self._same_faults = "", 0
        self._note_commit(result, batch)
        for fact in facts:
            if isinstance(fact, RowsRead):  # its day is over: close it now
                self._day_written[fact.trading_day] = self._clock.monotonic() - DAY_IDLE_CLOSE_SEC - 1

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
            self._in_hand = batch
        return batch, facts

    def _note_rate(self, rows: int) -> None:
        """Rows a second, smoothed over the last batches."""
        since_sec = max(self._clock.monotonic() - self._commit_started, 1e-3)
        self._rows_per_sec += RATE_SMOOTHING * (rows / since_sec - self._rows_per_sec)

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
            exc_info=not busy,
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

    def _note_commit(self, result: WriteResult, batch: Sequence[RecordT]) -> None:
        progress = self._progress
        now_sec = self._clock.monotonic()
        progress.commits += 1
        progress.persisted_rows += result.inserted_rows
        progress.ignored_rows += result.ignored_rows
        progress.files_replaced += result.replaced_files
        self._day_written.update(dict.fromkeys(result.days, now_sec))
        progress.missing_ticks = result.missing_ticks
        progress.unseen_ticks = result.unseen_ticks
        progress.last_commit_rows = len(batch)
        progress.last_commit_monotonic = now_sec
        progress.last_commit_sec = now_sec - self._commit_started
        if batch:
            progress.max_committed_ts_ms = max(progress.max_committed_ts_ms, batch[-1].ts_ms)
            self._note_latency(batch)
        if self._plain_log.isEnabledFor(logging.DEBUG):
            self._plain_log.debug(
                event(
                    "persist_ticks",
                    rows=len(batch),
                    inserted=result.inserted_rows,
                    ignored=result.ignored_rows,
                    took_ms=progress.last_commit_sec * 1000,
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
