"""The life of the feed: connect, wait for login, subscribe, backfill, watch, and start over when it is lost.

Owns the connection and every decision about it. One connection serves until it is lost; then it is closed for good and
a new one is made after a growing delay. Nothing here blocks: every step is an awaitable with a timeout, so the daemon
stays responsive and stops at once whether OpenD is up, down or mute.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from hk_tick_collector.core.backoff import Backoff
from hk_tick_collector.core.clock import Clock
from hk_tick_collector.core.errors import FeedError, FeedLost, FeedTimeout
from hk_tick_collector.core.facts import DayFact, Fact
from hk_tick_collector.core.logline import RateLimitedLog, event
from hk_tick_collector.core.progress import FeedProgress
from hk_tick_collector.core.waiting import is_set_within
from hk_tick_collector.market.calendar import TradingCalendar
from hk_tick_collector.market.dates import add_days
from hk_tick_collector.sources.absence import NO_CONNECTION, NOT_LOGGED_IN, Absences
from hk_tick_collector.sources.books import BookKeeper
from hk_tick_collector.sources.completeness import Completeness
from hk_tick_collector.sources.culprits import Culprits
from hk_tick_collector.sources.details import SymbolDetails
from hk_tick_collector.sources.doubt import Doubt
from hk_tick_collector.sources.fetching import Fetching
from hk_tick_collector.sources.intake import Intake, RejectSink, TickSink
from hk_tick_collector.sources.options import FeedOptions
from hk_tick_collector.sources.plausible import PlausibleDays
from hk_tick_collector.sources.source import Link, Ready, Source
from hk_tick_collector.sources.subscriptions import Subscriptions

log = logging.getLogger(__name__)

OPEN_TIMEOUT_SEC = 10
STATE_TIMEOUT_SEC = 8
MUTE_LIMIT = 2  # unanswered state requests in a row, without any push between, before the connection is given up
CALENDAR_DAYS_BACK = 7
CALENDAR_DAYS_AHEAD = 60


class FeedSession:
    """Runs the feed of a source until it is told to stop.

    ``push_sink`` takes pushed ticks on the source's thread and may hold it up for a moment, ``sink`` takes pulled ones
    on the loop, at once; ``rejects`` takes unreadable ones on either, at once; ``facts`` what is subscribed.
    ``waiting_rows``: how many rows are not stored yet. ``books`` look after order books and broker queues,
    where they are wanted.
    """

    def __init__(
        self,
        options: FeedOptions,
        source: Source,
        push_sink: TickSink,
        sink: TickSink,
        rejects: RejectSink,
        continuity: Completeness,
        calendar: TradingCalendar,
        progress: FeedProgress,
        clock: Clock,
        facts: Callable[[Sequence[Fact | DayFact]], None] = lambda _: None,
        waiting_rows: Callable[[], int] = lambda: 0,
        books: Sequence[BookKeeper] = (),
    ) -> None:
        self._books = books
        self._options = options
        self._symbols = tuple(options.symbols)
        self._calendar = calendar
        self._progress = progress
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self._check_now = asyncio.Event()
        self._hurry = asyncio.Event()  # the next connection is not to be waited for
        self._source = source
        self._continuity = continuity
        self._days = PlausibleDays(calendar.market)
        self._fetching = Fetching(
            options, source.spec.pull, sink, rejects, continuity, calendar, progress, clock, self._days
        )
        self._intake = Intake(
            push_sink,
            rejects,
            facts,
            continuity,
            progress,
            clock,
            self._days,
            lambda: self._soon(self._fetching.wake_repair),
            lambda interrupted: self._soon(self._note_change, interrupted),
            waiting_rows,
            source.spec.provider,
        )
        self._culprits = Culprits(clock)
        self._backoff = Backoff(options.reconnect_min_sec, options.reconnect_max_sec)
        self._repeat_log = RateLimitedLog(log, period_sec=60)
        # What a source keeps for later is not missed while nobody is connected.
        absent = (lambda _facts: None) if source.spec.keeps_history else facts
        self._absences = Absences(absent, calendar, clock)
        self._details = SymbolDetails(facts, calendar, clock)
        self._rebuild_reason: str | None = None
        self._interrupted = False  # the far side said that it was, since the last check
        self._doubt = Doubt(clock)
        progress.symbols_wanted = len(options.symbols)

    @property
    def _word(self) -> str:
        """Begins the log lines about the source."""
        return self._source.spec.provider

    def stop(self) -> None:
        """End ``run`` soon; the connection is closed first. Call on the loop."""
        for keeper in self._books:
            keeper.stop()
        self._stop.set()

    def set_symbols(self, symbols: Sequence[str]) -> None:
        """Record another list from now on, without a break for those on both. Call on the loop."""
        self._symbols = tuple(symbols)
        self._progress.symbols_wanted = len(self._symbols)
        self._check_now.set()

    def request_rebuild(self, reason: str) -> None:
        """Give up the present connection and make a new one. Call on the loop."""
        self._rebuild_reason = reason
        self._check_now.set()

    def restart(self, reason: str) -> None:
        """Begin anew at once: give up the present connection, or the wait for the next one. Call on the loop."""
        self.request_rebuild(reason)
        self._hurry.set()

    def request_backfill(self) -> None:
        """Fetch of all symbols what OpenD still has. Call on the loop."""
        self._fetching.forget()
        self._details.forget()
        self._check_now.set()

    async def run(self) -> None:
        """Connect, feed, reconnect; returns after ``stop``."""
        self._note_absent(NO_CONNECTION)
        telling = asyncio.ensure_future(self._absences.run())
        try:
            await self._serve(telling)
        finally:
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)

    async def _serve(self, telling: asyncio.Future[None]) -> None:
        while not self._stop.is_set():
            try:
                await self._serve_one_connection()
            except FeedError as exc:
                self._progress.request_errors += 1
                self._repeat_log.log(
                    logging.WARNING,
                    f"{self._word}_connect_failed",
                    **self._source.place,
                    error=str(exc),
                    attempt=self._backoff.attempts + 1,
                    action=self._source.advice(exc),
                )
            if telling.done():
                telling.result()
            if self._stop.is_set():
                break
            delay_sec = self._backoff.next_sec()
            log.debug(event(f"{self._word}_reconnect_wait", delay_sec=delay_sec))
            await self._wait_or_stop(delay_sec)

    async def _serve_one_connection(self) -> None:
        """From connecting to the end of this connection. Raises ``FeedError`` if it never came to work."""
        progress = self._progress
        self._rebuild_reason = None  # what was asked for before is what begins here
        self._hurry.clear()
        progress.link_state = "connecting"
        link = self._source.open(self._intake)
        try:
            if not await self._unless_stopped(self._start(link)):
                return
            self._backoff.reset()
            await self._feed(link)
        finally:
            self._culprits.note_ended(is_lost=link.lost.done())
            link.close()
            if progress.connected:
                progress.disconnections += 1
            progress.connected = False
            progress.symbols_subscribed = 0
            progress.link_state = "down"
            self._note_absent(NO_CONNECTION)

    async def _start(self, link: Link) -> None:
        await link.open(OPEN_TIMEOUT_SEC)
        await self._await_login(link)

    async def _feed(self, link: Link) -> None:
        """Subscribe, then work until the connection is lost or stop is asked. Logs why it ended."""
        progress = self._progress
        progress.connected = True
        progress.connections += 1
        log.info(event(f"{self._word}_connected", **self._source.place, connection=progress.connections))
        try:
            await self._unless_stopped(self._work(link))
        except FeedError as exc:
            log.warning(event(f"{self._word}_disconnected", reason=str(exc), action="reconnecting"))

    async def _work(self, link: Link) -> None:
        """Everything that runs while connected. Ends only by raising ``FeedError``."""
        self._fetching.begin()
        self._interrupted = False
        self._begin_again()
        self._culprits.note_connected()
        subscriptions = Subscriptions(
            link,
            self._source.spec,
            self._symbols,
            self._progress,
            self._clock,
            self._continuity.interrupted,
            self._note_wanted,
            self._culprits,
        )
        work = [self._await_lost(link), self._supervise(link, subscriptions)]
        work.append(self._details.run(link, lambda: subscriptions.active if self._fetching.is_backfilled else ()))
        if self._source.spec.pull.newest_rows:
            work.append(self._fetching.poll_and_audit(link, lambda: subscriptions.active))
            work.append(self._fetching.follow_distrusted(link, lambda: subscriptions.active))
        work += [keeper.run(link, lambda: self._fetching.is_backfilled, subscriptions) for keeper in self._books]
        jobs = [asyncio.ensure_future(job) for job in work]
        try:
            await asyncio.gather(*jobs)
        finally:
            for job in jobs:
                job.cancel()
            await asyncio.gather(*jobs, return_exceptions=True)

    async def _await_lost(self, link: Link) -> None:
        raise FeedLost(await asyncio.shield(link.lost))

    async def _await_login(self, link: Link) -> None:
        """Wait until the far side is logged in and ready: being connected does not mean that."""
        self._progress.link_state = "not_ready"
        self._doubt.begin()
        while True:
            if self._note_state(await link.ready(STATE_TIMEOUT_SEC)):
                return
            await asyncio.wait({link.lost}, timeout=self._options.check_interval_sec)
            self._check_rebuild()
            if link.lost.done():
                raise FeedLost(link.lost.result())

    def _note_state(self, state: Ready) -> bool:
        """Keep what the far side says of itself; True when it can serve, or would not say."""
        if state.refusal:
            self._doubt.note_untold()
            action = "going on: what it answers to other requests counts"
            self._repeat_log.log(logging.WARNING, f"{self._word}_state_unknown", error=state.refusal, action=action)
        elif self._doubt.note_told():
            self._interrupted = True
        self._progress.last_answer_monotonic = self._clock.monotonic()
        self._progress.market_state = state.market_state
        self._progress.closed_by_source = state.market_closed
        self._progress.login_advice, self._progress.login_ends_ms = state.login_advice, state.login_ends_ms
        self._days.note_source_time(state.clock_ms, self._clock.now_ms())
        self._progress.link_state = "ready" if state.serving else "not_ready"
        if not state.serving:
            self._note_absent(NOT_LOGGED_IN)
            self._repeat_log.log(logging.WARNING, f"{self._word}_not_ready", **state.details)
        return state.serving

    async def _supervise(self, link: Link, subscriptions: Subscriptions) -> None:
        """Subscribe and backfill first, then look after the rest; after a lost login, do both again.

        What was not answered is asked for at a later check, when its time has come.
        """
        repair: asyncio.Future[None] | None = None
        try:
            await self._subscribe(subscriptions)
            await self._fetching.backfill(link, subscriptions.active)
            repair = asyncio.ensure_future(self._fetching.repair(link))
            await self._check_calendar(link)
            mute, was_ready = 0, True
            while True:
                await self._wait_check(link)
                pushes_before = self._progress.push_frames
                try:
                    ready = self._note_state(await link.ready(STATE_TIMEOUT_SEC))
                    mute = 0
                except FeedTimeout as exc:
                    mute = mute + 1 if self._progress.push_frames == pushes_before else 0
                    if mute >= MUTE_LIMIT:
                        raise FeedLost(f"the source is mute: {exc}") from exc
                    continue
                self._progress.connected = ready
                if subscriptions.wanted != self._symbols:
                    subscriptions.set_wanted(self._symbols)
                interrupted, self._interrupted = self._interrupted, False
                if was_ready and (interrupted or not ready):
                    self._begin_again()
                if ready:
                    anew = interrupted or not was_ready
                    if anew or subscriptions.retry_due() or await subscriptions.lost_some():
                        await self._subscribe(subscriptions, anew=anew)
                    await self._fetching.backfill(link, subscriptions.active)
                was_ready = ready
                if repair.done():
                    repair.result()
        finally:
            if repair is not None:
                repair.cancel()
                await asyncio.gather(repair, return_exceptions=True)

    async def _wait_check(self, link: Link) -> None:
        """Until the next check is due, or a notice or the watchdog asks for one now."""
        await is_set_within(self._check_now, self._options.check_interval_sec)
        self._check_now.clear()
        self._check_rebuild()
        if link.lost.done():
            raise FeedLost(link.lost.result())

    def _check_rebuild(self) -> None:
        if self._rebuild_reason is not None:
            reason, self._rebuild_reason = self._rebuild_reason, None
            raise FeedLost(f"rebuild asked: {reason}")

    def _begin_again(self) -> None:
        """Nothing is pushed, and whatever answers next may be another OpenD."""
        self._continuity.connected()
        self._fetching.interrupted()

    async def _subscribe(self, subscriptions: Subscriptions, *, anew: bool = False) -> None:
        self._fetching.interrupted(await subscriptions.reconcile(anew=anew))
        self._absences.note(subscriptions.wanted, subscriptions.active, subscriptions.refused, NO_CONNECTION)

    def _note_wanted(self, symbols: frozenset[str]) -> None:
        self._intake.wanted = symbols

    def _note_absent(self, reason: str) -> None:
        self._absences.note(self._symbols, (), {}, reason)

    async def _check_calendar(self, link: Link) -> None:
        """Compare our trading days with the source's; the one that says "open longer" is followed."""
        today = self._calendar.market.trading_day(self._clock.now_ms())
        first, last = add_days(today, -CALENDAR_DAYS_BACK), add_days(today, CALENDAR_DAYS_AHEAD)
        try:
            days = await link.trading_days(first, last, STATE_TIMEOUT_SEC)
        except FeedLost:
            raise
        except FeedError as exc:
            self._repeat_log.log(logging.WARNING, "calendar_check_failed", error=str(exc), action="library is used")
            return
        if days is None:
            return
        for mismatch in self._calendar.merge_source_days(dict(days), first, last):
            log.warning(
                event(
                    "calendar_mismatch",
                    day=mismatch.day,
                    library=mismatch.library,
                    **{"opend": mismatch.told},  # noqa: PIE804 - the word that users know
                    used=mismatch.used,
                )
            )

    def _note_change(self, interrupted: bool) -> None:
        self._interrupted = self._interrupted or interrupted
        for keeper in self._books:
            keeper.wake(interrupted=interrupted)
        self._check_now.set()

    def _soon(self, call: Callable[..., None], *arguments: Any) -> None:
        """On the loop, from the source's thread."""
        try:
            self._loop.call_soon_threadsafe(call, *arguments)
        except RuntimeError:  # the loop has ended
            return

    async def _unless_stopped(self, work: Awaitable[None]) -> bool:
        """Run ``work`` until it ends (True) or stop is asked (False, work cancelled)."""
        task = asyncio.ensure_future(work)
        stopped = asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
            if not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        if task.cancelled():
            return False
        task.result()
        return True

    async def _wait_or_stop(self, delay_sec: float) -> None:
        """Until the delay is over, stop is asked, or somebody wants the next connection now."""
        waits = [asyncio.ensure_future(waiter.wait()) for waiter in (self._stop, self._hurry)]
        try:
            await asyncio.wait(waits, timeout=delay_sec, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for waiter in waits:
                waiter.cancel()
