"""The lane of order books: from whoever receives pushes to book files, on a thread of its own. Broker queues have
another one beside it, with a thread, a queue and files of its own.

It is not a ``Lane``. A tick that finds the queue full waits a moment, and then goes to the spill, because none may be
lost; of the pushes that wait only the newest of each symbol matters, and a full queue passes over the others
(``ingest.book_queue``). That is lossless in state and lossy in history, and every row says so.

Ticks go first. Pushes are taken as bytes and read here, in slices of ``SLICE_PUSHES`` with a pause between them: the
interpreter runs one thread at a time, and a thread that brings ticks gets its turn within a millisecond. While more
pushes are passed over than a whole core could read the pauses are as long as the work, and the thread works half of the
time at most: reading more of them would not make the history whole, and ticks would be late for it. The work is taken
by the clock: on a busy machine this thread waits for a core while it has the interpreter, and everybody waits for it.

At any moment every push received is in exactly one of: queue, the thread's hand, a file, or one of the counts
``merged`` and ``unread``. What waits when a process is killed is lost; the file then says until
when it was told of books.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import groupby

from hk_tick_collector.core.backoff import Backoff
from hk_tick_collector.core.errors import RowRefused, StoreCorrupt, StoreError, StoreFault
from hk_tick_collector.core.logline import RateLimitedLog, event
from hk_tick_collector.core.progress import BookProgress
from hk_tick_collector.ingest.book_queue import BookQueue, Item, Taken
from hk_tick_collector.records.book import (
    BookEntry,
    BookPush,
    BrokerPush,
    PushEntry,
    RawPush,
    WatchEnded,
)
from hk_tick_collector.store.book_writer import BookWriter

log = logging.getLogger(__name__)

BATCH_PUSHES = 128  # a commit: a millisecond of encoding, so that no thread waits longer for its turn
SLICE_PUSHES = 32
GIVE_WAY_SEC = 0.001  # twice the work of a slice: a fifth of it cost a tick's p99 3 to 10 ms at 20,000 pushes a second
MAX_REST_SEC = 0.05
COMMIT_INTERVAL_SEC = 0.1
BEAT_SEC = 1.0
LOOK_SEC = 0.1
RETRY_MIN_SEC, RETRY_MAX_SEC = 0.1, 5.0
REFUSALS = 3  # of one batch in a row, before it is taken apart


ReadPush = Callable[[RawPush], BookPush | BrokerPush]
"""ValueError for a message that holds no book, or no queue."""


class _Replaced(Exception):
    """This thread was given up."""


class BookLane:
    """The queue, the thread and the writer behind it. Make it, ``start``, and at the end ``stop`` on a thread that may
    wait."""

    def __init__(
        self,
        make_writer: Callable[[], BookWriter],
        read: ReadPush,
        day_of: Callable[[int], str],
        progress: BookProgress,
        queue: BookQueue | None = None,
        word: str = "books",
    ) -> None:
        """``read`` is called on the lane's thread. ``day_of``: the trading day of a moment in UTC epoch ms. ``word``:
        what the lane carries, in log lines."""
        self.word = word
        self._make_writer = make_writer
        self._read = read
        self._day_of = day_of
        self._progress = progress
        self._queue = queue or BookQueue(progress)
        self.push = self._queue.push
        self.tell = self._queue.tell
        self._stopping = threading.Event()
        self._give_up = threading.Event()
        self._retry = Backoff(RETRY_MIN_SEC, RETRY_MAX_SEC)
        self._log = RateLimitedLog(log, period_sec=60)
        self._turns = threading.Lock()  # held for moments, never over a write: which thread is at work
        self._writer: BookWriter | None = None
        self._in_hand: Taken | None = None  # what is being stored ...
        self._was_hung = False  # its thread was given up
        self._settled = self._done_before = 0  # ... of it, what the file accounts for; what was done before it
        self._unread_before = 0  # ... what was unread before it
        self._stored_items = 0  # ... how many of its items are in a file
        self._stored_parts: set[object] = set()  # ... by their names
        self._batches = 0  # that were taken
        self._worked_from_sec = 0.0  # monotonic: since when it works without a rest
        self._is_halved = False  # it was refused, and taken apart
        self._thread = threading.Thread(target=self._run, name=word, daemon=True)

    def start(self) -> None:
        """Begin to store."""
        self._thread.start()

    def recover(self, reason: str) -> None:
        """The thread hangs: another one goes on with another writer, and what was in hand is written again. What hangs
        is given up, and touches nothing when it comes back. From any thread; never waits for the disk."""
        thread = threading.Thread(target=self._run, name=self.word, daemon=True)
        with self._turns:
            self._thread = thread
            self._writer = None if self._writer is None else self._writer.abandon()
            self._was_hung = True
        told = "another thread and another connection go on; ticks are not touched"
        log.error(event("books_recovery", reason=reason, waiting=self.waiting, action=told, kind=self.word))
        thread.start()

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """A moment in which nobody else takes over. ``_Replaced`` on a thread that was given up."""
        with self._turns:
            if threading.current_thread() is not self._thread:
                raise _Replaced
            yield

    def stop(self, timeout_sec: float) -> bool:
        """Store what waits, close the file, end the thread. False when it did not end in time: what was not stored is
        lost then, and the file says until when it was told of books."""
        self._stopping.set()
        deadline_sec = time.monotonic() + timeout_sec
        while self._thread.is_alive() and time.monotonic() < deadline_sec:
            self._thread.join(LOOK_SEC)  # it may be replaced meanwhile
        if self._thread.is_alive():
            self._give_up.set()
            self._thread.join(1.0)
            return False
        return not self.waiting  # it may have died of a fault

    @property
    def waiting(self) -> int:
        """Pushes and events that are not stored yet, those in hand too; from any thread."""
        with self._turns:
            done = self._stored_items + self._progress.unread - self._unread_before
            in_hand = 0 if self._in_hand is None else max(0, len(self._in_hand.items) - done)
            return self._queue.waiting + in_hand

    @property
    def is_running(self) -> bool:
        """Is the thread at work?"""
        return self._thread.is_alive()

    def _run(self) -> None:
        """A fault of ours ends no recording: what was in hand is counted as unread, and what comes next is stored."""
        writer, is_fault = self._writer, False
        while not self._give_up.is_set():
            try:
                if writer is None:
                    writer = self._make_writer()
                if is_fault:
                    writer.recover()
                    is_fault = False
                with self._turn():
                    self._writer = writer
                self._record(writer)
                return
            except _Replaced:
                if writer is not None:
                    writer.leave()
                return
            except Exception:  # noqa: BLE001 (edge: ticks do not depend on this thread, and it goes on)
                self._log.log(
                    logging.ERROR,
                    "books_ended",
                    action=f"ticks go on, and so do {self.word}; report this",
                    kind=self.word,
                    exc_info=True,
                )
            is_fault = True
            if self._stopping.is_set() and writer is None:
                return
            self._give_up.wait(self._retry.next_sec())

    def _record(self, writer: BookWriter) -> None:
        self._settle(writer)
        beat_at = time.monotonic() + BEAT_SEC
        while True:
            is_last = self._stopping.is_set()  # looked at before the queue: nothing is put after it
            with self._turn():
                taken = self._queue.take(BATCH_PUSHES)
                if taken.items:
                    self._in_hand, self._settled, self._stored_items, self._is_halved = taken, 0, 0, False
                    self._stored_parts.clear()
                    self._batches += 1
                    self._unread_before = self._progress.unread
                    self._done_before = self._progress.stored + self._unread_before
            if taken.items:
                self._worked_from_sec = time.monotonic()
                self._store(writer, taken)
                with self._turn():
                    self._in_hand = None
                beat_at = time.monotonic() + BEAT_SEC
            elif time.monotonic() >= beat_at:
                self._try(writer.beat)
                beat_at = time.monotonic() + BEAT_SEC
            if self._give_up.is_set() or (is_last and not taken.items):
                break
            if len(taken.items) < BATCH_PUSHES:
                self._stopping.wait(COMMIT_INTERVAL_SEC)
            else:
                self._give_way()
        self._try(writer.close)

    def _give_way(self) -> None:
        """A slice of work is done: others go on."""
        worked_sec = time.monotonic() - self._worked_from_sec
        has_time = self._queue.is_resting and not self._stopping.is_set()
        time.sleep(min(worked_sec, MAX_REST_SEC) if has_time else GIVE_WAY_SEC)
        self._worked_from_sec = time.monotonic()

    def _settle(self, writer: BookWriter) -> None:
        """What a fault left: its pushes are counted as unread; what became of watches is stored all the same. What a
        thread left that hung is stored again, but for the days of it that are stored; not what was taken apart."""
        with self._turn():
            taken, is_again = self._in_hand, self._was_hung and not self._is_halved
            self._in_hand, self._was_hung = taken if is_again else None, False
            if taken is not None and is_again:
                self._progress.unread = self._unread_before  # it is read again
        if taken is None:
            return
        if self._in_hand is not None:
            self._store(writer, taken)
            with self._turn():
                self._in_hand = None
            return
        raws = sum(isinstance(item, RawPush) for item in taken.items)
        lost = raws - (self._progress.stored + self._progress.unread - self._done_before)
        left = taken.received - self._settled
        self._progress.unread += lost
        told = [] if self._settled else [item for item in taken.items if not isinstance(item, RawPush)]
        day = self._day(told[0]) if told else self._day_of(_now_ms())
        self._store_part(writer, day, told, left, left - sum(map(_entry_weight, told)), ("left", self._batches))

    def _store(self, writer: BookWriter, taken: Taken) -> None:
        """Until all of it is stored, or given up at the end."""
        entries, unread = self._entries(taken.items)
        days = [(day, list(part)) for day, part in groupby(entries, self._day)] or [(self._day_of(_now_ms()), [])]
        left = taken.received
        for number, (day, part) in enumerate(days):
            is_last = number == len(days) - 1
            received = left if is_last else sum(map(_entry_weight, part))
            left -= received
            name = self._batches, number
            if name not in self._stored_parts:
                self._store_part(writer, day, part, received, unread if is_last else 0, name)

    def _store_part(
        self, writer: BookWriter, day: str, part: Sequence[BookEntry], received: int, unread: int, name: object
    ) -> None:
        """A batch of one day, however long it takes; one that is refused for what it holds is halved until the culprit
        stands alone, and that is counted as unread."""
        refusals = 0
        while not self._give_up.is_set():
            try:
                writer.write(day, part, received, unread, name)
                with self._turn():
                    self._settled += received
                    self._stored_items += len(part)
                    self._stored_parts.add(name)
                    self._note_commit(part)
                return
            except StoreError as exc:
                self._note_error(exc)
                if isinstance(exc, StoreCorrupt):
                    self._try(partial(writer.set_aside, str(exc)))
                refusals = refusals + 1 if isinstance(exc, (RowRefused, StoreFault)) else 0
                if refusals >= REFUSALS and part:
                    with self._turn():
                        self._is_halved = True
                    self._halve(writer, day, part, received, unread, str(exc), name)
                    return
            self._give_up.wait(self._retry.next_sec())

    def _halve(
        self,
        writer: BookWriter,
        day: str,
        part: Sequence[BookEntry],
        received: int,
        unread: int,
        why: str,
        name: object,
    ) -> None:
        if len(part) == 1:
            with self._turn():
                self._progress.unread += 1
            self._log.log(
                logging.ERROR, "book_refused", error=why, action="this push is counted as unread", kind=self.word
            )
            self._store_part(writer, day, (), received, received, ("refused", name))
            return
        middle = len(part) // 2
        first = sum(map(_entry_weight, part[:middle]))
        self._store_part(writer, day, part[:middle], first, 0, ("first half", name))
        self._store_part(writer, day, part[middle:], received - first, unread, ("second half", name))

    def _note_commit(self, part: Sequence[BookEntry]) -> None:
        self._retry.reset()
        progress = self._progress
        progress.stored += sum(isinstance(entry, PushEntry) for entry in part)
        progress.commits += 1
        progress.last_commit_monotonic = time.monotonic()
        newest = next((entry for entry in reversed(part) if isinstance(entry, PushEntry)), None)
        if newest is not None:
            progress.last_commit_lag_sec = max(0.0, time.time() - newest.push.recv_ts_us / 1e6)

    def _entries(self, items: Sequence[Item]) -> tuple[list[BookEntry], int]:
        """What was read, and how many pushes the rest accounts for: those that could not be, and those that were passed
        over for them."""
        entries: list[BookEntry] = []
        unread = 0
        for number, item in enumerate(items):
            if not isinstance(item, RawPush):
                entries.append(item)
                continue
            if number % SLICE_PUSHES == SLICE_PUSHES - 1:
                self._give_way()
            try:
                entries.append(PushEntry(self._read(item), item.merged))
            except ValueError as exc:
                unread += self._note_unread(item)
                self._log.log(logging.WARNING, "book_unread", symbol=item.symbol, reason=str(exc), kind=self.word)
            except Exception:  # noqa: BLE001 (edge: whatever one message holds, the next one is read)
                unread += self._note_unread(item)
                self._log.log(
                    logging.ERROR, "book_unread", key="fault", symbol=item.symbol, kind=self.word, exc_info=True
                )
        return entries, unread

    def _note_unread(self, item: RawPush) -> int:
        with self._turn():
            self._progress.unread += 1
        return 1 + item.merged

    def _day(self, entry: BookEntry) -> str:
        return self._day_of((entry.push.recv_ts_us if isinstance(entry, PushEntry) else entry.at_us) // 1000)

    def _try(self, step: Callable[[], object]) -> None:
        """A step that nothing depends on."""
        try:
            step()
        except StoreError as exc:
            self._note_error(exc)

    def _note_error(self, exc: StoreError) -> None:
        with self._turn():
            self._progress.write_errors += 1
            self._progress.last_error = type(exc).__name__
        self._log.log(
            logging.ERROR,
            "book_persist_error",
            error=str(exc),
            waiting=self.waiting,
            merged=self._progress.merged,
            action="trying again; of what waits the newest of each symbol is kept",
            kind=self.word,
            exc_info=isinstance(exc, StoreFault),
        )


def _entry_weight(entry: BookEntry) -> int:
    if isinstance(entry, PushEntry):
        return 1 + entry.merged
    return entry.merged if isinstance(entry, WatchEnded) else 0


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
