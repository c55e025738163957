"""``get_rt_ticker`` for all who need it: backfill after a connect, poll of quiet symbols, audit, repair of holes.

Owns how many requests are in flight and what is new in an answer. Runs on the loop; an answer of 1000 ticks is mapped
in about 3 ms.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from hk_tick_collector.core.clock import Clock
from hk_tick_collector.core.errors import FeedError, FeedLost, FeedTimeout
from hk_tick_collector.core.logline import RateLimitedLog
from hk_tick_collector.core.progress import FeedProgress
from hk_tick_collector.core.tick import RejectedTick
from hk_tick_collector.feed.continuity import Continuity
from hk_tick_collector.feed.mapping import TickMapper
from hk_tick_collector.feed.plausible import PlausibleDays
from hk_tick_collector.feed.push import RejectSink, TickSink
from hk_tick_collector.feed.sdk import Connection

log = logging.getLogger(__name__)

MAX_PULLS_IN_FLIGHT = 8
PULL_TIMEOUT_SEC = 10


@dataclass(frozen=True, slots=True)
class PullResult:
    """Rows OpenD returned, and how many of them were new to us."""

    fetched_rows: int
    fresh_rows: int


class TickPuller:
    """Asks for a symbol's newest ticks and hands over those that are new."""

    def __init__(
        self,
        sink: TickSink,
        rejects: RejectSink,
        continuity: Continuity,
        progress: FeedProgress,
        clock: Clock,
        days: PlausibleDays | None = None,
    ) -> None:
        self.on_hole: Callable[[], None] = lambda: None  # an answer may begin behind a hole as a push may
        self.mapper = TickMapper(days)
        self.continuity = continuity
        self.progress = progress
        self._sink = sink
        self._rejects = rejects
        self._clock = clock
        self._in_flight = asyncio.Semaphore(MAX_PULLS_IN_FLIGHT)
        self._log = RateLimitedLog(log)

    async def pull(self, connection: Connection, symbol: str, rows: int, push_type: str) -> PullResult:
        """Fetch up to ``rows`` newest ticks. Raises ``FeedError`` (``FeedTimeout``, ``FeedLost``)."""
        async with self._in_flight:
            answer = await connection.recent_ticks(symbol, rows, PULL_TIMEOUT_SEC)
        recv_ts_ms = self._clock.now_ms()
        rejected: list[RejectedTick] = []
        ticks = self.mapper.map_all(symbol, answer.tickerList, push_type, recv_ts_ms, rejected)
        fresh = self.continuity.new_of_pull(symbol, ticks, rows, recv_ts_ms)
        if rejected:
            self._rejects(rejected)
        if fresh:
            self._sink(fresh)
            self.continuity.touch(symbol, self._clock.monotonic())
            self.progress.max_ts_ms = max(self.progress.max_ts_ms, fresh[-1].ts_ms)
            if self.continuity.has_holes:
                self.on_hole()
        self.progress.duplicate_rows += len(ticks) - len(fresh)
        return PullResult(len(answer.tickerList), len(fresh))

    async def pull_all(
        self, connection: Connection, symbols: Sequence[str], one: Callable[[str], Awaitable[None]], what: str
    ) -> int:
        """``one(symbol)`` for all symbols, a few at a time. Errors of single symbols are logged and counted.

        Returns how many failed. Raises ``FeedLost`` as soon as the connection is gone, or answers nothing any more.
        """
        waiting = iter(symbols)
        failed = unanswered = 0

        async def work() -> None:
            nonlocal failed, unanswered
            for symbol in waiting:
                try:
                    await one(symbol)
                    unanswered = 0
                except FeedLost:
                    raise
                except FeedError as exc:
                    failed += 1
                    unanswered = unanswered + 1 if isinstance(exc, FeedTimeout) else 0
                    self.progress.request_errors += 1
                    self._log.log(logging.WARNING, f"{what}_failed", symbol=symbol, error=str(exc))
                    if unanswered >= MAX_PULLS_IN_FLIGHT:
                        raise FeedLost(f"OpenD answers no {what} request: {exc}") from exc

        workers = [asyncio.ensure_future(work()) for _ in range(min(MAX_PULLS_IN_FLIGHT, len(symbols)))]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
        return failed
