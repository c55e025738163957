"""Follows one data root and hands frames to its readers; and reads behind positions for those who are behind.

Files are read by processes of their own (``worker``): one for each root, which waits for the next rows, and two
(``Readers``) for readers that catch up, in turns of one batch. The ring begins behind the newest row: what was before
is read for whoever asks. Rows are looked for each 10 ms, and each 250 ms while nobody listens.

Books, broker queues and snapshots are kinds of record of their own, whose files are followed while anybody listens, and
a minute longer. A hub of books or queues keeps, beside the ring, that of each symbol at its head.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from hk_tick_collector.core.errors import StoreCorrupt, StoreError
from hk_tick_collector.core.logline import RateLimitedLog
from hk_tick_collector.days.joined_follow import JoinedBatch
from hk_tick_collector.market.market import Market
from hk_tick_collector.market.registry import market_of
from hk_tick_collector.records.book import RowKind
from hk_tick_collector.serve.live.choice import Choices, Wish
from hk_tick_collector.serve.live.facts import Facts, told_of
from hk_tick_collector.serve.live.files import Piece, Root, Roots
from hk_tick_collector.serve.live.frames import COLUMNS, SIDES, STATES, SYMBOL, Frame
from hk_tick_collector.serve.live.ring import Ring
from hk_tick_collector.serve.live.worker import Answers, Worker
from hk_tick_collector.store import data_root
from hk_tick_collector.store.follow import LOOK_SEC, Batch
from hk_tick_collector.store.layout import BROKERS, TICKS, archive_dir
from hk_tick_collector.store.position import ROW, DayDamaged, DayGone, PositionLost, Row, Stand, parts_of

IDLE_LOOK_SEC = 0.25
WAIT_SEC = 1.0  # of one question for the next rows
FACTS_LOOK_SEC = 2.0
READERS = 2
REST_SEC = 60.0
_RETRY_SEC = 0.5
_STORED_MS = ROW.index("inserted_at_ms")
_KIND_OF_QUEUE = 1 + COLUMNS[BROKERS].index("kind")
_DAY_OF_STATE = 1 + COLUMNS[BROKERS].index("trading_day")
assert {COLUMNS[kind][_DAY_OF_STATE - 1] for kind in STATES} == {"trading_day"}

_log = logging.getLogger(__name__)


def _wakes() -> bool:
    return False


class News:
    """Wakes every reader when something came, and no sooner than ``pace_sec`` after the last time: what came meanwhile
    is one message then, and the same one for all who keep up. ``number`` counts how often."""

    def __init__(self, pace_sec: Callable[[], float] = float) -> None:
        self.number = 0
        self._pace_sec = pace_sec
        self._waiting: list[tuple[asyncio.Future[None], Callable[[], bool]]] = []
        self._told_at_sec = float("-inf")
        self._timer: asyncio.TimerHandle | None = None

    async def after(self, number: int, at_once: Callable[[], bool] = _wakes) -> None:
        """Returns once there is news after that number: the one before you looked.

        ``at_once`` is called first, at each news: who needs no task for it says True and waits on. Waking hundreds of
        tasks costs more than what most of them do.
        """
        if self.number == number:
            waiter = asyncio.get_running_loop().create_future()
            self._waiting.append((waiter, at_once))
            await waiter

    def tell(self) -> None:
        """On the loop."""
        if self._timer is None:
            loop = asyncio.get_running_loop()
            wait_sec = self._told_at_sec + self._pace_sec() - loop.time()
            if wait_sec > 0:
                self._timer = loop.call_later(wait_sec, self._wake, loop)
            else:
                self._wake(loop)

    def _wake(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        self._told_at_sec = loop.time()
        self.number += 1
        waiting, self._waiting = self._waiting, []
        for waiting_one in waiting:
            waiter, at_once = waiting_one
            if waiter.done():
                continue
            try:
                if at_once():
                    self._waiting.append(waiting_one)
                else:
                    waiter.set_result(None)
            except Exception as exc:  # noqa: BLE001 - the edge of a reader: it ends, and nobody else does
                waiter.set_exception(exc)


class Hub:
    """One data root, or several of one market that are followed as one, and one ``kind`` of record in it. ``ring`` is
    None until the files were looked at for the first time. ``known``, of books and queues: a row for each symbol of
    which one is known at the ring's head. ``beside``: the further data roots, each with its archive; ``numbers``: the
    places of all of them in DATA_ROOTS, None for the next ones (``question.numbers_of``)."""

    def __init__(
        self,
        root: Path,
        news: News,
        archive: Path | None = None,
        *,
        kind: str = TICKS,
        make: Callable[[], Answers] = Worker,
        beside: Sequence[tuple[Path, Path]] = (),
        numbers: Sequence[int] | None = None,
    ) -> None:
        of = (Root(root, archive or archive_dir(root)), *(Root(*place) for place in beside))
        self.numbers = None if numbers is None else tuple(numbers)
        self.roots = Roots(of, self.numbers or tuple(range(len(of))))
        self.kind = kind
        self.known: dict[str, Row] = {}
        self.ring: Ring | None = None
        self.facts: Facts = {}
        self.listeners = 0
        self._news = news
        self._files = make()
        self._is_damaged = False  # and readers were told
        self.held: frozenset[int] = frozenset()  # whose files cannot be read now, by their numbers in ``roots``
        self.rows = [0] * len(of)  # of each data root, since the start
        self.newest_ms = [0] * len(of)  # when the newest of them was stored
        self._tasks: list[asyncio.Task[None]] = []
        self._left_at_sec = 0.0
        self._said = RateLimitedLog(_log, 60)

    @cached_property
    def market(self) -> Market:
        """Whose days these are."""
        return market_of(data_root.market_of(self.roots.first.path))

    @cached_property
    def choices(self) -> Choices:
        """What its readers share."""
        return Choices(self.market.trade_types)

    def open(self) -> None:
        """Begin to follow, on the running loop."""
        self._tasks = [asyncio.create_task(self._follow())]
        if self.kind == TICKS:
            self._tasks.append(asyncio.create_task(self._watch_facts()))

    async def close(self) -> None:
        """End."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._files.close()

    def enter(self) -> None:
        """Somebody listens."""
        self.listeners += 1
        if not self._tasks:
            self.open()

    def leave(self) -> None:
        """And does no more."""
        self.listeners -= 1
        self._left_at_sec = time.monotonic()

    async def rest(self) -> None:
        """Let the files go when nobody has listened for a while; whoever comes next opens them."""
        if self.listeners or not self._tasks or time.monotonic() - self._left_at_sec < REST_SEC:
            return
        tasks, self._tasks, self.ring = self._tasks, [], None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if not self._tasks:
            await self._files.close()

    # Rows

    async def _follow(self) -> None:
        while self.ring is None:
            try:
                await self.begin()
            except StoreError as exc:
                await self._wait(exc)
        self._news.tell()
        while True:
            await self.step(LOOK_SEC if self.listeners else IDLE_LOOK_SEC, WAIT_SEC)

    async def begin(self) -> None:
        """Make the ring, behind the newest row. StoreError."""
        head = await self._files.ask("end", self.roots, self.kind, 0)
        if self.kind in STATES:
            known: list[Row] = await self._files.ask("known", self.roots, head, None)
            self.known.clear()  # those of before a rest, some of which ended meanwhile
            self._note_states(known)
        if self.kind == TICKS:  # before the first reader can have caught up, who is told what is known then
            await self._read_facts(head)
        self.ring = Ring(head)

    async def step(self, look_sec: float, wait_sec: float) -> bool:
        """Take the next rows, waited for; were there any?"""
        assert self.ring is not None
        position = self.ring.head
        try:
            batch: Batch | JoinedBatch | None = await self._files.ask("tail", self.roots, position, look_sec, wait_sec)
        except PositionLost as exc:
            self.known.clear()
            self._add(Frame(position, exc.onward, exc.day, message=reset_message(exc)))
            return True
        except StoreError as exc:
            if isinstance(exc, StoreCorrupt) and not self._is_damaged:
                self._is_damaged = True
                self._add(Frame(position, position, message={"type": "damaged"}))
            await self._wait(exc)
            return False
        self._is_damaged = False
        if not isinstance(batch, JoinedBatch):
            self.held = frozenset()
        if batch is None:
            return False
        self._count(batch)
        for message in batch.told if isinstance(batch, JoinedBatch) else ():
            self._add(Frame(position, position, message=message))
        self._forget_left(position, batch.position)
        self._add(Frame(position, batch.position, batch.day, batch.rows))
        return True

    def _count(self, batch: Batch | JoinedBatch) -> None:
        counts: Sequence[int] = (len(batch.rows),)
        if isinstance(batch, JoinedBatch):
            self.held, counts = frozenset(map(self.roots.numbers.index, batch.held)), batch.read_rows
        if self.kind in STATES:
            self._note_states(batch.rows)
        for n, rows in enumerate(counts):
            self.rows[n] += rows
            if rows and batch.rows and self.kind == TICKS:
                self.newest_ms[n] = batch.rows[-1][_STORED_MS] or 0

    def _note_states(self, rows: Sequence[Row]) -> None:
        bids, _ = SIDES[self.kind]
        for row in rows:
            known = self.known.get(row[SYMBOL])
            if known is not None and known[_DAY_OF_STATE] > row[_DAY_OF_STATE]:
                continue  # a day that ends late, which says nothing of the next one
            if row[bids] is None:
                self.known.pop(row[SYMBOL], None)
            elif row[SYMBOL] not in self.known or not self._is_told_again(row):
                self.known[row[SYMBOL]] = row

    def _forget_left(self, before: Stand, after: Stand) -> None:
        """A state ends with its day, as from the files: also that of a recorder that could not say so."""
        days = _days_in(after)
        if days != _days_in(before):
            for symbol in [symbol for symbol, row in self.known.items() if row[_DAY_OF_STATE] not in days]:
                del self.known[symbol]

    def _is_told_again(self, row: Row) -> bool:
        """A queue that was pushed once more is known from the row that told it, as from the files (``StatesOfDay``)."""
        return self.kind == BROKERS and row[_KIND_OF_QUEUE] == RowKind.SAME

    async def _wait(self, error: StoreError) -> None:
        self.held = frozenset(range(len(self.roots.of)))
        self._said.log(logging.ERROR, "live_files", key=type(error).__name__, reason=str(error))
        await asyncio.sleep(_RETRY_SEC)

    def _add(self, frame: Frame) -> None:
        assert self.ring is not None
        self.ring.append(frame)
        for over in days_over(frame.before, frame.after) if frame.message is None else ():
            self.ring.append(Frame(frame.after, frame.after, message=over))
        self._news.tell()

    # Completeness

    async def _watch_facts(self) -> None:
        while True:
            await asyncio.sleep(FACTS_LOOK_SEC if self.listeners else FACTS_LOOK_SEC / 10)
            if self.listeners and self.ring is not None:
                await self.look_at_facts()

    async def look_at_facts(self) -> None:
        """Tell readers what the files say of the newest day and have not said before."""
        assert self.ring is not None
        known = self.facts
        await self._read_facts(self.ring.head)
        for message in told_of({key: fact for key, fact in self.facts.items() if known.get(key) != fact}):
            self._add(Frame(self.ring.head, self.ring.head, message=message))

    async def _read_facts(self, head: Stand) -> None:
        if any(part.places for part in parts_of(head)):
            with contextlib.suppress(StoreError):  # the rows tell of it, and the next look
                facts: Facts | None = await self._files.ask("facts", self.roots, head.newest_day)
                self.facts = self.facts if facts is None else facts


def _days_in(stand: Stand) -> set[str]:
    return {place.day for part in parts_of(stand) for place in part.places}


def days_over(before: Stand, after: Stand) -> list[dict[str, Any]]:
    """What readers are told of days that were left on the way. Of several data roots: by all that went on."""
    rows: dict[str, int] = {}
    for part in parts_of(before):
        for place in part.places:
            rows[place.day] = rows.get(place.day, 0) + place.rowid
    over = [day for day in sorted(rows) if _is_over(after, day) and not _is_over(before, day)]
    return [{"type": "end_of_day", "day": day, "rows": rows[day]} for day in over]


def _is_over(stand: Stand, day: str) -> bool:
    """Has every data root that has a newer day left this one, and has any?"""
    newer = [part for part in parts_of(stand) if part.newest_day > day or part.left >= day]
    return bool(newer) and not any(place.day == day for part in newer for place in part.places)


def reset_message(lost: PositionLost) -> dict[str, Any]:
    """What a reader is told when its position fits no more; its cursor is the position to go on at."""
    if isinstance(lost, (DayGone, DayDamaged)):
        reason = "day_gone" if isinstance(lost, DayGone) else "day_damaged"
        return {"type": "reset", "reason": reason, "day": lost.day, "query": query_of(lost.day, lost.onward.kind)}
    return {"type": "reset", "reason": "file_replaced", "day": lost.day}


def query_of(day: str, kind: str = TICKS) -> str:
    """The question to the HTTP API that covers a day."""
    return f"/v1/{kind}?symbols=all&day={day}"


class Readers:
    """They read behind positions for readers that catch up: so many at a time."""

    def __init__(self, count: int = READERS, make: Callable[[], Answers] = lambda: Worker(is_nice=True)) -> None:
        self._all = [make() for _ in range(count)]
        self._free: asyncio.LifoQueue[Answers] = asyncio.LifoQueue()  # one that runs already comes first
        for worker in self._all:
            self._free.put_nowait(worker)

    async def check(self, hub: Hub, position: Stand) -> None:
        """Does the position fit? Raises as ``Follower.read_behind``."""
        await self._use("check", hub.roots, position)

    async def next(self, hub: Hub, position: Stand, wish: Wish) -> Piece | None:
        """The next rows; None when there are none now. Raises as ``Follower.read_behind``."""
        piece: Piece | None = await self._use("piece", hub.roots, position, wish)
        return piece

    async def end(self, hub: Hub, back_rows: int) -> Stand:
        """The position before the newest rows."""
        end: Stand = await self._use("end", hub.roots, hub.kind, back_rows)
        return end

    async def known(self, hub: Hub, position: Stand, symbols: frozenset[str] | None) -> list[Row]:
        """The books or queues that are known there. Raises as ``store.state_follow``."""
        rows: list[Row] = await self._use("known", hub.roots, position, symbols)
        return rows

    async def passed_over(self, hub: Hub, position: Stand) -> list[str]:
        """Days behind a position that are archived and have no day file: nothing of them would be sent."""
        days: list[str] = await self._use("passed_over", hub.roots, position)
        return days

    async def _use(self, question: str, *arguments: Any) -> Any:
        worker = await self._free.get()
        work = asyncio.ensure_future(worker.ask(question, *arguments))
        work.add_done_callback(
            lambda done: self._is_free(worker, done)
        )  # not before: a reader that left may still read
        return await asyncio.shield(work)

    def _is_free(self, worker: Answers, done: asyncio.Future[Any]) -> None:
        self._free.put_nowait(worker)
        if not done.cancelled():
            done.exception()  # taken note of: a reader that left does not ask for it, and asyncio would log it

    async def close(self) -> None:
        """No more questions."""
        await asyncio.gather(*(worker.close() for worker in self._all))
