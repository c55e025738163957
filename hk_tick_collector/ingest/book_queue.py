"""The queue of a lane of order books, or of broker queues: bounded, never full, and nobody who brings pushes waits.

A push is a whole state of its symbol's book, so that of those which wait only the newest matters. A full queue keeps
the newest push of each symbol and counts what it passed over (``merged``): memory is bounded by ``MAX_QUEUE_PUSHES``,
``MAX_QUEUE_BYTES`` and one push a symbol, however long the disk stays away. While pushes are passed over the queue
holds no more than ``PASSING_PUSHES``, so that what is kept comes evenly: one full queue after the other would be a
second of every push, and then seconds of none.

Meanwhile who takes them is asked to rest (``is_resting``), for half of its time. Where no more than half of the pushes
were passed over in ``REST_SEC``, its whole time would do for all of them, and it has ``TRY_SEC`` without a rest to
catch up. Else a disk that was away for a moment would leave a busy hour passed over to its end.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from hk_tick_collector.core.progress import BookProgress
from hk_tick_collector.records.book import BookEvent, PullCompared, RawPush, WatchBegan, WatchEnded, WatchRefused

MAX_QUEUE_PUSHES = 20_000
MAX_QUEUE_BYTES = 64 * 1024 * 1024
PASSING_PUSHES = 2_000
CALM_SEC = 1.0  # without a push that was passed over
REST_SEC, TRY_SEC = 5.0, 2.0  # a try has to end in calm

Item = RawPush | BookEvent


class _Held:
    """What a full queue keeps of a symbol: each with its number among all that came."""

    __slots__ = ("began", "ended", "merged", "raw")

    def __init__(self) -> None:
        self.ended: tuple[int, WatchEnded] | None = None  # the first one: all that follows is blind until ``began``
        self.began: tuple[int, WatchBegan] | None = None
        self.raw: tuple[int, RawPush] | None = None
        self.merged = 0

    def overtake(self, number: int, raw: RawPush) -> int:
        """Of a symbol of which a push is held: the newer one instead. Bytes more than before."""
        assert self.raw is not None
        more_bytes = len(raw.message) - len(self.raw[1].message)
        self.raw = number, raw
        self.merged += 1
        return more_bytes

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

    def items(self) -> Iterator[tuple[int, Item]]:
        """In order; what was passed over stands on the last one that can carry it."""
        if self.ended is not None:
            number, ended = self.ended
            yield number, ended if self.raw is not None else ended._replace(merged=self.merged)
        if self.began is not None:
            yield self.began
        if self.raw is not None:
            number, raw = self.raw
            yield number, raw._replace(merged=self.merged)


class Taken(NamedTuple):
    """What the writer's thread took. ``received``: the pushes that it accounts for, those passed over included."""

    items: list[Item]
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
        self._items: deque[Item] = deque()
        self._held: dict[str, _Held] = {}  # while it is not empty, all that comes goes there
        self._room_pushes = max_pushes
        self._passed_sec = -math.inf  # monotonic: when what was held was taken last
        self.is_passing = False  # are pushes passed over, or were they a moment ago? As of the last ``take``
        self.is_resting = False  # should who takes them rest as long as it works? Likewise
        self._until_sec = 0.0  # monotonic: so long it rests, or tries without
        self._received_before = self._merged_before = 0  # before that began
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
                held = self._held.get(push.symbol)
                if held is None or held.raw is None:
                    self._put(push)
                else:  # nearly all, when more come than can be stored
                    self._numbers += 1
                    self._bytes += held.overtake(self._numbers, push)
                    self._progress.merged += 1

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
            self._look_around()
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

    def _look_around(self) -> None:
        """Are pushes passed over, and is half of the time of who takes them as good as all of it?"""
        now_sec = time.monotonic()
        if self._held:
            self._passed_sec = now_sec
        was_passing, self.is_passing = self.is_passing, now_sec - self._passed_sec < CALM_SEC
        self._room_pushes = min(PASSING_PUSHES, self._max_pushes) if self.is_passing else self._max_pushes
        if not self.is_passing:
            self.is_resting = False
        elif not was_passing or now_sec >= self._until_sec:
            received, merged = self._progress.received, self._progress.merged
            could_catch_up = 2 * (merged - self._merged_before) <= received - self._received_before
            self.is_resting = not (was_passing and self.is_resting and could_catch_up)
            self._until_sec = now_sec + (REST_SEC if self.is_resting else TRY_SEC)
            self._received_before, self._merged_before = received, merged

    def _put(self, item: Item) -> None:
        is_full = bool(self._held) or len(self._items) >= self._room_pushes or self._bytes >= self._max_bytes
        if not is_full or isinstance(item, WatchRefused):  # these are few, and none of them follows anything
            self._items.append(item)
            self._bytes += len(item.message) if isinstance(item, RawPush) else 0
        elif not isinstance(item, PullCompared):
            held = self._held.setdefault(item.symbol, _Held())
            merged_before = held.merged
            self._numbers += 1
            self._bytes += held.take(self._numbers, item)
            self._progress.merged += held.merged - merged_before


def _weight(item: Item) -> int:
    if isinstance(item, RawPush):
        return 1 + item.merged
    return item.merged if isinstance(item, WatchEnded) else 0
