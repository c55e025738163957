"""``get_rt_ticker`` for the three who need it: poll of quiet symbols, backfill after a connect, repair of holes.

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
from hk_tick_collector.core.logline import RateLimitedLog, event
from hk_tick_collector.core.progress import FeedProgress
from hk_tick_collector.core.tick import PUSH_TYPE_BACKFILL, PUSH_TYPE_POLL, PUSH_TYPE_REPAIR, RejectedTick
from hk_tick_collector.feed.continuity import Continuity, Hole
from hk_tick_collector.feed.mapping import TickMapper
from hk_tick_collector.feed.push import RejectSink, TickSink
from hk_tick_collector.feed.sdk import GET_TICKER_MAX_ROWS, Connection

log = logging.getLogger(__name__)

MAX_PULLS_IN_FLIGHT = 8
PULL_TIMEOUT_SEC = 10
REPAIR_SETTLE_SEC = 0.2  # pushes out of order fill their hole themselves
REPAIR_MARGIN_ROWS = 20  # ticks that arrive while the request travels
REPAIR_ATTEMPTS = 3
QUIET_POLL_MAX_SEC = 60  # a symbol whose polls bring nothing is asked less and less often, down to this


@dataclass(frozen=True, slots=True)
class PullResult:
    """Rows OpenD returned, and how many of them were new to us."""

    fetched_rows: int
    fresh_rows: int


class TickPuller:
    """Asks for a symbol's newest ticks and hands over those that are new."""

    def __init__(
        self, sink: TickSink, rejects: RejectSink, continuity: Continuity, progress: FeedProgress, clock: Clock
    ) -> None:
        self.on_hole: Callable[[], None] = lambda: None  # an answer may begin behind a hole as a push may
        self.mapper = TickMapper()
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
        fresh = self.continuity.new_of_pull(symbol, ticks)
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


async def backfill(puller: TickPuller, connection: Connection, symbols: Sequence[str], rows: int, clock: Clock) -> None:
    """After a connect: the newest ``rows`` ticks of every symbol, most active symbols first."""
    started_sec = clock.monotonic()
    progress = puller.progress
    fetched_before, accepted_before = progress.backfill_fetched_rows, progress.backfill_accepted_rows

    async def one(symbol: str) -> None:
        result = await puller.pull(connection, symbol, rows, PUSH_TYPE_BACKFILL)
        progress.backfill_fetched_rows += result.fetched_rows
        progress.backfill_accepted_rows += result.fresh_rows

    failed = await puller.pull_all(connection, puller.continuity.most_active_first(symbols), one, "backfill")
    log.info(
        event(
            "backfill_done",
            symbols=len(symbols),
            failed=failed,
            fetched=progress.backfill_fetched_rows - fetched_before,
            accepted=progress.backfill_accepted_rows - accepted_before,
            took_sec=clock.monotonic() - started_sec,
        )
    )


class Poller:
    """Pulls symbols that have been quiet for a while: a push channel can fall silent without saying so."""

    def __init__(self, puller: TickPuller, clock: Clock, interval_sec: float, rows: int, stale_sec: float) -> None:
        self._puller = puller
        self._clock = clock
        self._interval_sec = interval_sec
        self._rows = rows
        self._stale_sec = stale_sec
        self._next_poll: dict[str, tuple[float, float]] = {}  # symbol -> (not before, wait after that), monotonic

    async def poll_quiet(self, connection: Connection, symbols: Sequence[str]) -> None:
        """One round over the quiet ones among ``symbols``. Raises ``FeedLost`` when the connection is gone."""
        now_sec = self._clock.monotonic()
        quiet = self._puller.continuity.quiet_symbols(symbols, now_sec - self._stale_sec)
        never = (0.0, 0.0)
        due = [symbol for symbol in quiet if self._next_poll.get(symbol, never)[0] <= now_sec]
        for symbol in set(self._next_poll).difference(quiet):
            del self._next_poll[symbol]
        progress = self._puller.progress

        async def one(symbol: str) -> None:
            result = await self._puller.pull(connection, symbol, self._rows, PUSH_TYPE_POLL)
            progress.poll_fetched_rows += result.fetched_rows
            progress.poll_accepted_rows += result.fresh_rows
            self._schedule(symbol, quiet=not result.fresh_rows)

        await self._puller.pull_all(connection, due, one, "poll")

    def _schedule(self, symbol: str, *, quiet: bool) -> None:
        wait_sec = self._next_poll.get(symbol, (0.0, 0.0))[1]
        wait_sec = min(max(self._interval_sec, wait_sec * 2), QUIET_POLL_MAX_SEC) if quiet else self._interval_sec
        self._next_poll[symbol] = (self._clock.monotonic() + wait_sec, wait_sec)


class Repairer:
    """Closes holes in the sequences as they are found, sized to the hole, several symbols at a time."""

    def __init__(self, puller: TickPuller) -> None:
        self._puller = puller
        self._attempts: dict[tuple[str, int, int], int] = {}
        self._wake = asyncio.Event()
        puller.on_hole = self.wake

    def wake(self) -> None:
        """There may be a new hole. Call on the loop."""
        self._wake.set()

    async def run(self, connection: Connection) -> None:
        """Repair until the connection is gone (``FeedLost``)."""
        while True:
            await self._wake.wait()
            await asyncio.sleep(REPAIR_SETTLE_SEC)
            self._wake.clear()
            await self._repair_all(connection)
            if self._count_open():
                self._wake.set()

    async def _repair_all(self, connection: Connection) -> None:
        by_symbol: dict[str, list[Hole]] = {}
        for hole in self._puller.continuity.holes():
            by_symbol.setdefault(hole.symbol, []).append(hole)
        self._puller.progress.open_holes = sum(map(len, by_symbol.values()))

        async def one(symbol: str) -> None:
            await self._repair(connection, by_symbol[symbol])

        await self._puller.pull_all(connection, list(by_symbol), one, "repair")

    async def _repair(self, connection: Connection, holes: list[Hole]) -> None:
        symbol = holes[0].symbol
        for hole in holes:
            key = (symbol, hole.first, hole.last)
            self._attempts[key] = self._attempts.get(key, 0) + 1
        rows = min(GET_TICKER_MAX_ROWS, max(hole.rows_back for hole in holes) + REPAIR_MARGIN_ROWS)
        self._puller.progress.holes_seen += sum(self._attempts[symbol, h.first, h.last] == 1 for h in holes)
        await self._puller.pull(connection, symbol, rows, PUSH_TYPE_REPAIR)
        still_open = {(h.first, h.last): h for h in self._puller.continuity.holes() if h.symbol == symbol}
        for hole in holes:
            key = (symbol, hole.first, hole.last)
            if (hole.first, hole.last) not in still_open:
                self._attempts.pop(key, None)
            elif self._attempts[key] >= REPAIR_ATTEMPTS:
                self._attempts.pop(key)
                self._give_up(hole)

    def _give_up(self, hole: Hole) -> None:
        self._puller.continuity.give_up(hole)
        self._puller.progress.missing_ticks += hole.missing_rows
        log.error(
            event(
                "hole_unrepaired",
                symbol=hole.symbol,
                first_counter=hole.first,
                last_counter=hole.last,
                missing_ticks=hole.missing_rows,
                reason="OpenD no longer shows these ticks",
            )
        )

    def _count_open(self) -> int:
        holes = len(self._puller.continuity.holes())
        self._puller.progress.open_holes = holes
        return holes
