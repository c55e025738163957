"""A symbol's newest ticks, for all who need them: backfill after a connect, poll of quiet symbols, audit, repair.

Owns how many requests are in flight, and the moment that an answer speaks of: the one before it was asked for. Runs on
the loop.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from hk_tick_collector.core.clock import Clock
from hk_tick_collector.core.errors import FeedError, FeedLost, FeedTimeout
from hk_tick_collector.core.logline import RateLimitedLog
from hk_tick_collector.core.progress import FeedProgress
from hk_tick_collector.records.tick import Tick
from hk_tick_collector.sources.completeness import Completeness
from hk_tick_collector.sources.intake import RejectSink, TickSink
from hk_tick_collector.sources.plausible import PlausibleDays
from hk_tick_collector.sources.pulled import Answer
from hk_tick_collector.sources.source import Link, PullLimits

log = logging.getLogger(__name__)

PULL_TIMEOUT_SEC = 10
PACE_ROWS = 200


@dataclass(frozen=True, slots=True)
class PullResult:
    """Rows that the source returned, how many of them were new to us, and how fast the symbol trades by them."""

    fetched_rows: int
    fresh_rows: int
    rows_per_sec: float


class TickPuller:
    """Asks for a symbol's newest ticks and hands over all but what is surely ours already.

    ``on_hole`` is called when an answer shows, or leaves open, that ticks are missing.
    """

    def __init__(
        self,
        sink: TickSink,
        rejects: RejectSink,
        continuity: Completeness,
        progress: FeedProgress,
        clock: Clock,
        limits: PullLimits,
        days: PlausibleDays,
        on_hole: Callable[[], None] = lambda: None,
    ) -> None:
        self.limits = limits
        self._days = days
        self._on_hole = on_hole
        self._continuity = continuity
        self._progress = progress
        self._sink = sink
        self._rejects = rejects
        self._clock = clock
        self._in_flight = asyncio.Semaphore(limits.in_flight)
        self._answered_sec = -math.inf  # monotonic, any of them
        self._silent: dict[str, None] = {}  # not answered when they were last asked for: the longest ago first
        self._log = RateLimitedLog(log)

    async def pull(self, link: Link, symbol: str, rows: int, push_type: str) -> PullResult:
        """Fetch up to ``rows`` newest ticks. Raises ``FeedError`` (``FeedTimeout``, ``FeedLost``)."""
        async with self._in_flight:
            question = self._continuity.ask(symbol, rows, self.asking_ms())
            ticks, unread, rejected = await link.pull(symbol, rows, push_type, PULL_TIMEOUT_SEC)
            self._answered_sec = self._clock.monotonic()
        recv_ts_ms = self._clock.now_ms()
        taken = self._continuity.take(Answer(question, ticks, unread, recv_ts_ms))
        if rejected:
            self._rejects(rejected)
        if taken.ticks:
            self._sink(taken.ticks)
            newest_ms = taken.ticks[-1].ts_ms
            if newest_ms > self._progress.pulled_max_ts_ms and self._days.is_newest(newest_ms, recv_ts_ms):
                self._progress.pulled_max_ts_ms = newest_ms
        if taken.new_rows:
            self._continuity.touch(symbol, self._clock.monotonic())
        if self._continuity.has_holes:
            self._on_hole()
        self._progress.duplicate_rows += len(ticks) - taken.new_rows
        return PullResult(len(ticks) + len(rejected), taken.new_rows, _rows_per_sec(ticks))

    def asking_ms(self) -> int:
        """The moment that an answer to a question of now speaks of."""
        return self._days.surely_past_ms(self._clock.now_ms())

    async def pull_all(self, symbols: Sequence[str], pull: Callable[[str], Awaitable[None]], request: str) -> int:
        """``pull(symbol)`` for all symbols, a few at a time. Errors of single symbols are logged and counted. Those
        that were not answered at the last time come behind the others; when as many of them in a row are not answered
        again as are asked for at the same time, the rest of them has to wait for the next call.

        Returns how many failed or have to wait. Raises ``FeedLost`` as soon as the connection is gone, or answers
        nothing any more of what it answered before.
        """
        turns = {symbol: turn for turn, symbol in enumerate(self._silent, 1)}
        waiting = deque(sorted(symbols, key=lambda symbol: turns.get(symbol, 0)))
        failed = unanswered = 0

        async def work() -> None:
            nonlocal failed, unanswered
            while waiting:
                symbol = waiting.popleft()
                asked_sec = self._clock.monotonic()
                try:
                    await pull(symbol)
                    unanswered = 0
                    self._silent.pop(symbol, None)
                except FeedLost:
                    raise
                except FeedError as exc:
                    failed += 1
                    was_silent = self._note_failure(symbol, exc, request)
                    # What was asked before the last answer says nothing: it is that one alone that is not answered.
                    unanswered = unanswered + (self._answered_sec < asked_sec) if isinstance(exc, FeedTimeout) else 0
                    if unanswered >= self.limits.in_flight:
                        if not was_silent:
                            raise FeedLost(f"no {request} request is answered any more: {exc}") from exc
                        failed += len(waiting)
                        waiting.clear()

        workers = [asyncio.ensure_future(work()) for _ in range(min(self.limits.in_flight, len(symbols)))]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
        return failed

    def _note_failure(self, symbol: str, error: FeedError, request: str) -> bool:
        """Log and count it. Was the symbol not answered at the last time, too?"""
        self._progress.request_errors += 1
        self._log.log(logging.WARNING, f"{request}_failed", symbol=symbol, error=str(error))
        was_silent = symbol in self._silent
        self._silent.pop(symbol, None)
        if isinstance(error, FeedTimeout):
            self._silent[symbol] = None
        return was_silent


def _rows_per_sec(ticks: Sequence[Tick]) -> float:
    """The faster of the whole answer's pace and its newest part's: a symbol may have just become busy."""
    paces = [0.0]
    for part in (ticks, ticks[-PACE_ROWS:]):
        if len(part) > 1:
            span_ms = max(tick.ts_ms for tick in part) - min(tick.ts_ms for tick in part)
            paces.append(1000 * len(part) / max(1, span_ms))
    return max(paces)
