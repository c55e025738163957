"""Everything that asks for ticks instead of waiting for them, and when each of it may: backfill, repair, poll, audit,
and following symbols whose counters prove nothing.

Each job knows by itself what it has to ask for, and goes on over connections; here is when it runs. Before all was
backfilled nothing else is asked for: it would look for the day's beginning in vain.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence

from hk_tick_collector.core.clock import Clock
from hk_tick_collector.core.progress import FeedProgress
from hk_tick_collector.market.calendar import TradingCalendar
from hk_tick_collector.sources.backfill import Backfiller
from hk_tick_collector.sources.completeness import Completeness
from hk_tick_collector.sources.intake import RejectSink, TickSink
from hk_tick_collector.sources.options import FeedOptions
from hk_tick_collector.sources.plausible import PlausibleDays
from hk_tick_collector.sources.poll import Auditor, Follower, Poller
from hk_tick_collector.sources.pull import TickPuller
from hk_tick_collector.sources.repair import Repairer
from hk_tick_collector.sources.source import Link, PullLimits

FOLLOW_CHECK_SEC = 1.0

Active = Callable[[], Sequence[str]]  # the symbols that are subscribed now


class Fetching:
    """The pulls of a feed. ``sink`` takes what they bring, on the loop, at once; ``rejects`` what cannot be read."""

    def __init__(
        self,
        options: FeedOptions,
        limits: PullLimits,
        sink: TickSink,
        rejects: RejectSink,
        continuity: Completeness,
        calendar: TradingCalendar,
        progress: FeedProgress,
        clock: Clock,
        days: PlausibleDays,
    ) -> None:
        self._options = options
        self._calendar = calendar
        self._progress = progress
        self._clock = clock
        self.is_backfilled = False  # on this connection
        hole_found = asyncio.Event()
        puller = TickPuller(sink, rejects, continuity, progress, clock, limits, days, hole_found.set)
        self._repairer = Repairer(puller, continuity, progress, clock, hole_found)
        self._backfiller = Backfiller(
            puller, continuity, progress, clock, min(options.backfill_rows, limits.newest_rows)
        )
        self._poller = Poller(
            puller,
            continuity,
            progress,
            clock,
            options.poll_interval_sec,
            options.poll_rows,
            options.poll_stale_sec,
        )
        self._auditor = Auditor(puller, continuity, clock)
        self._follower = Follower(puller, continuity, progress, clock)

    def begin(self) -> None:
        """A connection begins."""
        self.is_backfilled = False

    def interrupted(self, symbols: Iterable[str] | None = None) -> None:
        """Nothing was pushed of these (None: of all) for a while."""
        self._backfiller.interrupted(symbols)

    def forget(self) -> None:
        """What was fetched may not be in the files: all is wanted again."""
        self._backfiller.forget()

    def wake_repair(self) -> None:
        """There may be a new hole. Call on the loop."""
        self._repairer.wake()

    async def backfill(self, link: Link, symbols: Sequence[str]) -> None:
        """In trading hours what is not answered yet; outside them what does not cover the last session's end."""
        now_ms = self._clock.now_ms()
        any_time = not self._options.trading_only or self._calendar.is_recording(now_ms)
        due = self._backfiller.due(symbols, None if any_time else self._last_session_end_ms(now_ms))
        if due:
            await self._backfiller.run(link, due)
        self.is_backfilled = True

    def _last_session_end_ms(self, now_ms: int) -> int:
        day = self._calendar.market.trading_day(now_ms)
        _, end_ms = self._calendar.recording_window(day)
        if not self._calendar.is_trading_day(day) or end_ms > now_ms:
            day = self._calendar.previous_trading_day(day)
            _, end_ms = self._calendar.recording_window(day)
        return end_ms

    async def repair(self, link: Link) -> None:
        """Close holes as they are found, until the connection is gone (``FeedLost``)."""
        self._repairer.wake()
        await self._repairer.run(link)

    async def poll_and_audit(self, link: Link, active: Active) -> None:
        """Poll what fell quiet, audit the others in turn, while the market trades."""
        while True:
            await asyncio.sleep(self._options.poll_interval_sec)
            if not self._pulls_now(active):
                continue
            if self._options.poll_enabled:
                await self._poller.poll_quiet(link, active())
            await self._auditor.run(link, active())

    async def follow_distrusted(self, link: Link, active: Active) -> None:
        """Fetch what the counters of some symbols cannot show to be missing, while the market trades."""
        while True:
            await asyncio.sleep(FOLLOW_CHECK_SEC)
            if self._pulls_now(active):
                await self._follower.follow(link, active())

    def _pulls_now(self, active: Active) -> bool:
        if not self._progress.connected or not self.is_backfilled or not active():
            return False
        return not self._options.trading_only or self._calendar.is_recording(self._clock.now_ms())
