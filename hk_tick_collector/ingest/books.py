"""The lane of order books: from whoever receives pushes to book files, on a thread of its own. Broker queues have
another one beside it, with a thread, a queue and files of its own.

It is not a ``Lane``. A tick that finds the queue full waits a moment, and then goes to the spill, because none may be
lost; a push is a whole state of its symbol's book, so that of those which wait only the newest matters. A full queue
therefore keeps the newest push of each symbol and counts what it passed over (``merged``): whoever brings pushes never
waits, nothing is written twice, and memory is bounded by ``MAX_QUEUE_PUSHES``, ``MAX_QUEUE_BYTES`` and one push a
symbol, however long the disk stays away. That is lossless in state and lossy in history, and every row says so.

Ticks go first. Pushes are taken as bytes and read here, in slices of ``SLICE_PUSHES`` with a pause between them: the
interpreter runs one thread at a time, and a thread that brings ticks gets its turn within a millisecond.

At any moment every push received is in exactly one of: queue, the thread's hand, a file, or one of the counts
``merged`` and ``unread``. What waits when a process is killed is lost; the file then says until
when it was told of books.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import groupby
from typing import NamedTuple

from hk_tick_collector.core.backoff import Backoff
from hk_tick_collector.core.errors import RowRefused, StoreCorrupt, StoreError, StoreFault
from hk_tick_collector.core.logline import RateLimitedLog, event
from hk_tick_collector.core.progress import BookProgress
from hk_tick_collector.records.book import (
    BookEntry,
    BookEvent,
    BookPush,
    BrokerPush,
    PullCompared,
    PushEntry,
    RawPush,
    WatchBegan,
    WatchEnded,
    WatchRefused,
)
from hk_tick_collector.store.book_writer import BookWriter

log = logging.getLogger(__name__)

MAX_QUEUE_PUSHES = 20_000
MAX_QUEUE_BYTES = 64 * 1024 * 1024
BATCH_PUSHES = 128  # a commit: a millisecond of encoding, so that no thread waits longer for its turn
SLICE_PUSHES = 32
GIVE_WAY_SEC = 0.0002
COMMIT_INTERVAL_SEC = 0.1
BEAT_SEC = 1.0
LOOK_SEC = 0.1
RETRY_MIN_SEC, RETRY_MAX_SEC = 0.1, 5.0
REFUSALS = 3  # of one batch in a row, before it is taken apart


ReadPush = Callable[[RawPush], BookPush | BrokerPush]
"""ValueError for a message that holds no book, or no queue."""

_Item = RawPush | BookEvent


class _Held:
    """What a full queue keeps of a symbol: each with its number among all that came."""

    __slots__ = ("began", "ended", "merged", "raw")

    def __init__(self) -> None:
        self.ended: tuple[int, WatchEnded] | None = None  # the first one: all that follows is blind until ``began``
        self.began: tuple[int, WatchBegan] | None = None
        self.raw: tuple[int, RawPush] | None = None
        self.merged = 0

    def take(self, number: int, item: RawPush | WatchBegan | WatchEnded) -> int:
        """Bytes more than before."""
        before = self._bytes()
        if isinstance(item, WatchBegan):
            self.began = number, item
            return 0
        if self.raw is not None:
            self.merged += 1
        if isinstance(item, RawPush):
            self.raw = number, item
        else:
            self.raw = self.began = None
            self.ended = self.ended or (number, item)
        return self._bytes() - before

    def _bytes(self) -> int:
        return 0 if self.raw is None else len(self.raw[1].message)

    def items(self) -> Iterator[tuple[int, _Item]]:
        """In order; what was passed over stands on the last one that can carry it."""
        if self.ended is not None:
            number, ended = self.ended
            yield number, ended if self.raw is not None else ended._replace(merged=self.merged)
        if self.began is not None:
            yield self.began
        if self.raw is not None:
            number, raw = self.raw
            yield number, raw._replace(merged=self.merged)


class _Replaced(Exception):
    """This thread was given up."""


class Taken(NamedTuple):
    """What the writer's thread took. ``received``: the pushes that it accounts for, those passed over included."""

    items: list[_Item]
    received: int


class BookQueue:
    """Bounded, and never full: see the module."""

    def __init__(
        self, progress: BookProgress, max_pushes: int = MAX_QUEUE_PUSHES, max_bytes: int = MAX_QUEUE_BYTES
    ) -> None:
        self._progress = progress
        self._max_pushes = max_pushes
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._items: deque[_Item] = deque()
        self._held: dict[str, _Held] = {}  # while it is not empty, all that comes goes there
        self._numbers = 0  # of what came while the queue was full
        self._bytes = 0
        self._accounted = 0  # of the pushes received: taken, or passed over on behalf of one that was

    def push(self, pushes: Sequence[RawPush]) -> None:
        """Take the pushes of one burst, in the order they came; from any thread, never waits."""
        with self._lock:
            if pushes and self._progress.waiting <= 0:
                self._progress.waiting_since_monotonic = time.monotonic()
            self._progress.received += len(pushes)
            for push in pushes:
                self._put(push)

    def tell(self, events: Sequence[BookEvent]) -> None:
        """Take what became of watches, and of books that were asked for; it follows the pushes before it. A comparison
        that finds the queue full is forgotten: it is a sample."""
        with self._lock:
            for told in events:
                self._put(told)

    def take(self, max_items: int) -> Taken:
        """The oldest items; they are the caller's from now on."""
        with self._lock:
            items = self._items
            if not items and self._held:
                held = sorted(numbered for held in self._held.values() for numbered in held.items())
                items.extend(item for _, item in held)
                self._held.clear()
            batch = [items.popleft() for _ in range(min(max_items, len(items)))]
            self._bytes -= sum(len(item.message) for item in batch if isinstance(item, RawPush))
            # With nothing left, all that ever came is accounted for; what was lost on the way would not add up.
            is_rest = not items and not self._held
            received = self._progress.received - self._accounted if is_rest else sum(map(_weight, batch))
            self._accounted += received
            return Taken(batch, received)

    @property
    def waiting(self) -> int:
        """Pushes and events that wait."""
        return len(self._items) + len(self._held)

    def _put(self, item: _Item) -> None:
        is_full = bool(self._held) or len(self._items) >= self._max_pushes or self._bytes >= self._max_bytes
        if not is_full or isinstance(item, WatchRefused):  # these are few, and none of them follows anything
            self._items.append(item)
            self._bytes += len(item.message) if isinstance(item, RawPush) else 0
        elif not isinstance(item, PullCompared):
            held = self._held.setdefault(item.symbol, _Held())
            merged_before = held.merged
            self._numbers += 1
            self._bytes += held.take(self._numbers, item)
            self._progress.merged += held.merged - merged_before


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
                time.sleep(GIVE_WAY_SEC)
        self._try(writer.close)

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

    def _entries(self, items: Sequence[_Item]) -> tuple[list[BookEntry], int]:
        """What was read, and how many pushes the rest accounts for: those that could not be, and those that were passed
        over for them."""
        entries: list[BookEntry] = []
        unread = 0
        for number, item in enumerate(items):
            if not isinstance(item, RawPush):
                entries.append(item)
                continue
            if number % SLICE_PUSHES == SLICE_PUSHES - 1:
                time.sleep(GIVE_WAY_SEC)
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


def _weight(item: _Item) -> int:
    if isinstance(item, RawPush):
        return 1 + item.merged
    return item.merged if isinstance(item, WatchEnded) else 0


def _entry_weight(entry: BookEntry) -> int:
    if isinstance(entry, PushEntry):
        return 1 + entry.merged
    return entry.merged if isinstance(entry, WatchEnded) else 0


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
