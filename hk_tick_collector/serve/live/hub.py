"""Follows one data root in a thread of its own and hands frames to the loop; and reads behind positions for those who
are behind.

The thread begins behind the newest row: what was before is read for whoever asks. It looks each 10 ms, and each 250 ms
while nobody listens. ``Readers`` are two threads with followers of their own: so many readers that catch up read at a
time, in turns of one batch.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any

from hk_tick_collector.core.errors import StoreError
from hk_tick_collector.core.logline import RateLimitedLog
from hk_tick_collector.days.catalog import Catalog
from hk_tick_collector.market.market import Market
from hk_tick_collector.market.registry import market_of
from hk_tick_collector.serve.live.frames import Frame, frame_of
from hk_tick_collector.serve.live.ring import Ring
from hk_tick_collector.store import data_root, reader
from hk_tick_collector.store.follow import DAYS_LOOK_SEC, LOOK_SEC, Follower
from hk_tick_collector.store.layout import archive_dir, day_file
from hk_tick_collector.store.position import DayGone, Position, PositionLost

IDLE_LOOK_SEC = 0.25
FACTS_LOOK_SEC = 2.0
READERS = 2
_RETRY_SEC = 0.5
_WAITING_FRAMES = 8  # handed to a loop that has not taken them yet

_log = logging.getLogger(__name__)
_Facts = dict[tuple[object, ...], dict[str, Any]]


class News:
    """Wakes every reader when something came."""

    def __init__(self) -> None:
        self._next: asyncio.Future[None] | None = None

    @property
    def next(self) -> asyncio.Future[None]:
        """Done at the next news. Take it before looking."""
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
        return self._next

    def tell(self) -> None:
        """On the loop."""
        waiting, self._next = self._next, None
        if waiting is not None and not waiting.done():
            waiting.set_result(None)


class Hub:
    """One data root. ``ring`` is None until the files were looked at for the first time."""

    def __init__(self, root: Path, news: News, archive: Path | None = None) -> None:
        self.root = root
        self.archive = archive or archive_dir(root)
        self.ring: Ring | None = None
        self.facts: _Facts = {}
        self.listeners = 0
        self._news = news
        self._stop = threading.Event()
        self._room = threading.BoundedSemaphore(_WAITING_FRAMES)
        self._thread = threading.Thread(target=self._run, name="follow", daemon=True)
        self._said = RateLimitedLog(_log, 60)

    @cached_property
    def market(self) -> Market:
        """Whose days these are."""
        return market_of(data_root.market_of(self.root))

    def open(self) -> None:
        """Begin to follow, on the running loop."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    async def close(self) -> None:
        """End the thread."""
        self._stop.set()
        await asyncio.to_thread(self._thread.join, 5)

    # In the thread

    def _run(self) -> None:
        with Follower(self.root) as follower:
            position = self._begin(follower)
            facts_at_sec = 0.0
            while not self._stop.is_set():
                frame = self._next_frame(follower, position)
                if frame is not None:
                    position = frame.after
                    self._hand(frame)
                    continue
                self._stop.wait(LOOK_SEC if self.listeners else IDLE_LOOK_SEC)
                if self.listeners and time.monotonic() >= facts_at_sec:
                    facts_at_sec = time.monotonic() + FACTS_LOOK_SEC
                    self._tell_facts(position)

    def _begin(self, follower: Follower) -> Position:
        while not self._stop.is_set():
            try:
                position = follower.end()
            except StoreError as exc:
                self._wait(exc)
            else:
                self._call(self._start, position)
                return position
        return Position()

    def _next_frame(self, follower: Follower, position: Position) -> Frame | None:
        try:
            batch = follower.read_behind(position)
        except PositionLost as exc:
            return Frame(position, exc.onward, exc.day, message=reset_message(exc))
        except StoreError as exc:
            self._wait(exc)
            return None
        return None if batch is None else frame_of(position, batch, self.market.trade_types)

    def _wait(self, error: StoreError) -> None:
        self._said.log(logging.ERROR, "live_files", key=type(error).__name__, reason=str(error))
        self._stop.wait(_RETRY_SEC)

    def _hand(self, frame: Frame) -> None:
        while not self._room.acquire(timeout=0.2):
            if self._stop.is_set():
                return
        self._call(self._add, frame)

    def _call(self, function: Any, *arguments: Any) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function, *arguments)

    def _tell_facts(self, position: Position) -> None:
        day = position.newest_day
        if not day or not position.places:
            return
        try:
            facts = read_facts(day_file(self.root, day), day)
        except (StoreError, OSError):
            return  # the rows tell of it, and the next look
        self._call(self._compare, facts)

    # On the loop

    def _start(self, position: Position) -> None:
        self.ring = Ring(position)
        self._news.tell()

    def _add(self, frame: Frame) -> None:
        self._room.release()
        assert self.ring is not None
        self.ring.append(frame)
        left = [place for place in frame.before.places if place.day <= frame.after.left]
        for place in left if frame.message is None else ():
            over = {"type": "end_of_day", "day": place.day, "rows": place.rowid}
            self.ring.append(Frame(frame.after, frame.after, message=over))
        self._news.tell()

    def _compare(self, facts: _Facts) -> None:
        assert self.ring is not None
        is_first, known = not self.facts, self.facts
        self.facts = facts
        for key, fact in facts.items() if not is_first else ():
            if known.get(key) != fact:
                self.ring.append(Frame(self.ring.head, self.ring.head, message=fact, symbol=fact["symbol"]))
        self._news.tell()


def read_facts(path: Path, day: str) -> _Facts:
    """What a day file says of completeness, as messages."""
    facts: _Facts = {}
    for row in reader.coverage(path):
        facts[day, row.symbol] = {
            "type": "coverage", "day": day, "symbol": row.symbol, "state": row.state,
            "missing_ticks": row.missing_ticks, "reason": row.reason,
        }  # fmt: skip
    for gap in reader.gaps(path):
        facts[day, gap.symbol, gap.gap_start_ts_ms, gap.gap_end_ts_ms] = {
            "type": "gap", "day": day, "symbol": gap.symbol, "start_ms": gap.gap_start_ts_ms,
            "end_ms": gap.gap_end_ts_ms, "state": gap.state, "missing_ticks": gap.missing_ticks, "reason": gap.reason,
        }  # fmt: skip
    return facts


def reset_message(lost: PositionLost) -> dict[str, Any]:
    """What a reader is told when its position fits no more; its cursor is the position to go on at."""
    if isinstance(lost, DayGone):
        return {"type": "reset", "reason": "day_gone", "day": lost.day, "query": query_of(lost.day)}
    return {"type": "reset", "reason": "file_replaced", "day": lost.day}


def query_of(day: str) -> str:
    """The question to the HTTP API that covers a day."""
    return f"/v1/ticks?symbols=all&day={day}"


class Readers:
    """Threads that read behind positions, each with a follower of each root."""

    def __init__(self, count: int = READERS, days_look_sec: float = DAYS_LOOK_SEC) -> None:
        self._free: asyncio.Queue[_Reader] = asyncio.Queue()
        self._all = [_Reader(days_look_sec) for _ in range(count)]
        for one in self._all:
            self._free.put_nowait(one)

    async def next(self, hub: Hub, position: Position) -> Frame | None:
        """The next rows; None when there are none now. Raises as ``Follower.read_behind``."""
        frame: Frame | None = await self._use(hub, "frame", position)
        return frame

    async def end(self, hub: Hub, back_rows: int) -> Position:
        """The position before the newest rows."""
        found: Position = await self._use(hub, "end", back_rows)
        return found

    async def passed_over(self, hub: Hub, position: Position) -> list[str]:
        """Days behind a position that are archived and have no day file: nothing of them would be sent."""
        days: list[str] = await self._use(hub, "passed_over", position)
        return days

    async def _use(self, hub: Hub, what: str, argument: Any) -> Any:
        one = await self._free.get()
        work = asyncio.get_running_loop().run_in_executor(one.thread, getattr(one, what), hub, argument)
        work.add_done_callback(lambda done: self._is_free(one, done))  # not before: a reader that left may still read
        return await asyncio.shield(work)

    def _is_free(self, one: _Reader, done: asyncio.Future[Any]) -> None:
        self._free.put_nowait(one)
        if not done.cancelled():
            done.exception()  # taken note of: a reader that left does not ask for it, and asyncio would log it

    def close(self) -> None:
        """Close all files."""
        for one in self._all:
            one.thread.submit(one.close)
            one.thread.shutdown(wait=False)


class _Reader:
    def __init__(self, days_look_sec: float) -> None:
        self._days_look_sec = days_look_sec
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="catch-up")
        self._followers: dict[Path, Follower] = {}

    def frame(self, hub: Hub, position: Position) -> Frame | None:
        batch = self._follower(hub).read_behind(position)
        return None if batch is None else frame_of(position, batch, hub.market.trade_types)

    def end(self, hub: Hub, back_rows: int) -> Position:
        return self._follower(hub).end(back_rows)

    def passed_over(self, hub: Hub, position: Position) -> list[str]:
        return Catalog(hub.root, hub.archive).passed_over(position.newest_day)

    def _follower(self, hub: Hub) -> Follower:
        if hub.root not in self._followers:
            self._followers[hub.root] = Follower(hub.root, days_look_sec=self._days_look_sec)
        return self._followers[hub.root]

    def close(self) -> None:
        for follower in self._followers.values():
            follower.close()
