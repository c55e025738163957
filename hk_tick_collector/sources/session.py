"""The life of the feed: connect, wait for login, subscribe, backfill, watch, and start over when it is lost.

Owns the connection and every decision about it. One connection serves until it is lost; then it is closed for good and
a new one is made after a growing delay. Nothing here blocks: every step is an awaitable with a timeout, so the daemon
stays responsive and stops at once whether OpenD is up, down or mute.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from hk_tick_collector.core.backoff import Backoff
from hk_tick_collector.core.clock import Clock
from hk_tick_collector.core.errors import FeedError, FeedLost, FeedTimeout, RequestNotBuilt
from hk_tick_collector.core.facts import DayFact, Fact
from hk_tick_collector.core.logline import RateLimitedLog, event
from hk_tick_collector.core.progress import FeedProgress
from hk_tick_collector.market.calendar import TradingCalendar
from hk_tick_collector.market.dates import add_days
from hk_tick_collector.sources.absence import NO_CONNECTION, NOT_LOGGED_IN, Absences
from hk_tick_collector.sources.backfill import Backfiller
from hk_tick_collector.sources.completeness import Completeness
from hk_tick_collector.sources.futu import sdk
from hk_tick_collector.sources.futu.markets import at_futu
from hk_tick_collector.sources.futu.push import PushHandler, RejectSink, TickSink
from hk_tick_collector.sources.plausible import PlausibleDays
from hk_tick_collector.sources.poll import Auditor, Follower, Poller
from hk_tick_collector.sources.pull import TickPuller
from hk_tick_collector.sources.repair import Repairer
from hk_tick_collector.sources.subscriptions import Subscriptions

log = logging.getLogger(__name__)

OPEN_TIMEOUT_SEC = 10
STATE_TIMEOUT_SEC = 8
MUTE_LIMIT = 2  # unanswered state requests in a row, without any push between, before the connection is given up
FOLLOW_CHECK_SEC = 1.0
CALENDAR_DAYS_BACK = 7
CALENDAR_DAYS_AHEAD = 60

# What an operator does about OpenD's own events; the others are logged by name alone.
_GTW_ADVICE = {
    "KickedOut": "another client logged in with this account: log OpenD in again",
    "LoginFailed": "check OpenD's account and password",
    "LoginPwdChanged": "give OpenD the new password",
    "BanLogin": "the account is banned from logging in: ask Futu",
    "NeedPicVerifyCode": "give OpenD the picture code (input_pic_verify_code on its telnet port)",
    "NeedPhoneVerifyCode": "give OpenD the phone code (input_phone_verify_code on its telnet port)",
    "ForceUpdate": "update OpenD",
    "UnAgreeDisclaimer": "agree to the API disclaimer on Futu's site",
}


@dataclass(frozen=True, slots=True)
class FeedOptions:
    """How to reach OpenD and how hard to look. Seconds unless named otherwise."""

    host: str
    port: int
    symbols: Sequence[str]
    backfill_rows: int
    reconnect_min_sec: float
    reconnect_max_sec: float
    check_interval_sec: float
    poll_enabled: bool
    poll_interval_sec: float
    poll_rows: int
    poll_stale_sec: float
    trading_only: bool


class FeedSession:
    """Runs the feed until it is told to stop.

    ``push_sink`` takes pushed ticks on the network thread and may hold it up for a moment, ``sink`` takes pulled ones
    on the loop, at once; ``rejects`` takes unreadable ones on either, at once; ``facts`` what is subscribed.
    """

    def __init__(
        self,
        options: FeedOptions,
        push_sink: TickSink,
        sink: TickSink,
        rejects: RejectSink,
        continuity: Completeness,
        calendar: TradingCalendar,
        progress: FeedProgress,
        clock: Clock,
        facts: Callable[[Sequence[Fact | DayFact]], None] = lambda _: None,
    ) -> None:
        self._options = options
        self._symbols = tuple(options.symbols)
        self._calendar = calendar
        self._progress = progress
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self._check_now = asyncio.Event()
        self._continuity = continuity
        hole_found = asyncio.Event()
        self._market = at_futu(calendar.market.code)
        self._days = PlausibleDays(calendar.market)
        puller = TickPuller(sink, rejects, continuity, progress, clock, hole_found.set, self._days, self._market)
        self._repairer = Repairer(puller, continuity, progress, clock, hole_found)
        self._backfiller = Backfiller(puller, continuity, progress, clock, options.backfill_rows)
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
        self._push = PushHandler(
            push_sink, rejects, continuity, progress, clock, self._wake_repairer, self._days, self._market
        )
        self._push.wanted = frozenset(self._symbols)
        self._backoff = Backoff(options.reconnect_min_sec, options.reconnect_max_sec)
        self._repeat_log = RateLimitedLog(log, period_sec=60)
        self._absences = Absences(facts, calendar, clock)
        self._notice_log = RateLimitedLog(log, period_sec=1)
        self._rebuild_reason: str | None = None
        self._backfilled = False  # on this connection; a poll before it would look for the day's beginning in vain
        progress.symbols_wanted = len(options.symbols)

    def stop(self) -> None:
        """End ``run`` soon; the connection is closed first. Call on the loop."""
        self._stop.set()

    def set_symbols(self, symbols: Sequence[str]) -> None:
        """Record another list from now on, without a break for those on both. Call on the loop."""
        self._symbols = tuple(symbols)
        # What was dropped from the list is still pushed until OpenD takes it back, a minute later perhaps.
        self._push.wanted = (self._push.wanted or frozenset()).union(self._symbols)
        self._progress.symbols_wanted = len(self._symbols)
        self._check_now.set()

    def request_rebuild(self, reason: str) -> None:
        """Give up the present connection and make a new one. Call on the loop."""
        self._rebuild_reason = reason
        self._check_now.set()

    def request_backfill(self) -> None:
        """Fetch of all symbols what OpenD still has. Call on the loop."""
        self._backfiller.forget()
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
                    "futu_connect_failed",
                    host=self._options.host,
                    port=self._options.port,
                    error=str(exc),
                    attempt=self._backoff.attempts + 1,
                    action=_advice(exc),
                )
            if telling.done():
                telling.result()
            if self._stop.is_set():
                break
            if sdk.replace_dead_network_thread():
                log.error(event("futu_network_thread_dead", action="a new one serves the next connection"))
            delay_sec = self._backoff.next_sec()
            log.debug(event("futu_reconnect_wait", delay_sec=delay_sec))
            await self._wait_or_stop(delay_sec)

    async def _serve_one_connection(self) -> None:
        """From TCP connect to the end of this connection. Raises ``FeedError`` if it never came to work."""
        options, progress = self._options, self._progress
        progress.opend_state = "connecting"
        connection = sdk.Connection(options.host, options.port, self._push, self._on_notice, self._market)
        try:
            if not await self._unless_stopped(self._start(connection)):
                return
            self._backoff.reset()
            await self._feed(connection)
        finally:
            connection.close()
            if progress.connected:
                progress.disconnections += 1
            progress.connected = False
            progress.symbols_subscribed = 0
            progress.opend_state = "down"
            self._note_absent(NO_CONNECTION)

    async def _start(self, connection: sdk.Connection) -> None:
        await connection.open(OPEN_TIMEOUT_SEC)
        await self._await_login(connection)

    async def _feed(self, connection: sdk.Connection) -> None:
        """Subscribe, then work until the connection is lost or stop is asked. Logs why it ended."""
        progress = self._progress
        progress.connected = True
        progress.connections += 1
        log.info(
            event("futu_connected", host=self._options.host, port=self._options.port, connection=progress.connections)
        )
        try:
            await self._unless_stopped(self._work(connection))
        except FeedError as exc:
            log.warning(event("futu_disconnected", reason=str(exc), action="reconnecting"))

    async def _work(self, connection: sdk.Connection) -> None:
        """Everything that runs while connected. Ends only by raising ``FeedError``."""
        self._backfilled = False
        self._begin_again()
        subscriptions = Subscriptions(
            connection, self._symbols, self._progress, self._clock, self._continuity.interrupted
        )
        jobs = [
            asyncio.ensure_future(self._await_lost(connection), loop=self._loop),
            asyncio.ensure_future(self._supervise(connection, subscriptions), loop=self._loop),
        ]
        jobs.append(asyncio.ensure_future(self._pull_by_the_clock(connection, subscriptions), loop=self._loop))
        jobs.append(asyncio.ensure_future(self._follow_distrusted(connection, subscriptions), loop=self._loop))
        try:
            await asyncio.gather(*jobs)
        finally:
            for job in jobs:
                job.cancel()
            await asyncio.gather(*jobs, return_exceptions=True)

    async def _await_lost(self, connection: sdk.Connection) -> None:
        raise FeedLost(await asyncio.shield(connection.lost))

    async def _await_login(self, connection: sdk.Connection) -> None:
        """Wait until OpenD is logged in and ready: accepting TCP does not mean that (domain: GetGlobalState)."""
        self._progress.opend_state = "not_ready"
        while True:
            state = await connection.global_state(STATE_TIMEOUT_SEC)
            if self._note_state(state):
                return
            await asyncio.wait({connection.lost}, timeout=self._options.check_interval_sec)
            if connection.lost.done():
                raise FeedLost(connection.lost.result())

    def _note_state(self, state: sdk.GlobalState) -> bool:
        """Keep what OpenD says of itself; True when it can serve."""
        self._progress.last_answer_monotonic = self._clock.monotonic()
        self._progress.market_state = state.market_state
        self._progress.closed_by_source = self._market.says_closed(state.market_state)
        self._days.note_opend_time(state.opend_time_sec * 1000, self._clock.now_ms())
        self._progress.opend_state = "ready" if state.ready else "not_ready"
        if not state.ready:
            self._note_absent(NOT_LOGGED_IN)
            self._repeat_log.log(
                logging.WARNING,
                "futu_not_ready",
                qot_logined=state.qot_logined,
                program_status=state.program_status,
                action="waiting; log OpenD in",
            )
        return state.ready

    async def _supervise(self, connection: sdk.Connection, subscriptions: Subscriptions) -> None:
        """Subscribe and backfill first, then look after the rest; after a lost login, do both again.

        What was not answered is asked for at a later check, when its time has come.
        """
        repair: asyncio.Future[None] | None = None
        try:
            await self._subscribe(subscriptions)
            await self._backfill(connection, subscriptions)
            self._backfilled = True
            repair = asyncio.ensure_future(self._repairer.run(connection))
            self._repairer.wake()
            await self._check_calendar(connection)
            mute, was_ready = 0, True
            while True:
                await self._wait_check(connection)
                pushes_before = self._progress.push_frames
                try:
                    ready = self._note_state(await connection.global_state(STATE_TIMEOUT_SEC))
                    mute = 0
                except FeedTimeout as exc:
                    mute = mute + 1 if self._progress.push_frames == pushes_before else 0
                    if mute >= MUTE_LIMIT:
                        raise FeedLost(f"OpenD is mute: {exc}") from exc
                    continue
                self._progress.connected = ready
                if subscriptions.wanted != self._symbols:
                    subscriptions.set_wanted(self._symbols)
                if was_ready and not ready:
                    self._begin_again()
                if ready:
                    if not was_ready or subscriptions.retry_due() or await subscriptions.lost_some():
                        await self._subscribe(subscriptions)
                    await self._backfill(connection, subscriptions)
                was_ready = ready
                if repair.done():
                    repair.result()
        finally:
            if repair is not None:
                repair.cancel()
                await asyncio.gather(repair, return_exceptions=True)

    async def _wait_check(self, connection: sdk.Connection) -> None:
        """Until the next check is due, or a notice or the watchdog asks for one now."""
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._check_now.wait(), self._options.check_interval_sec)
        self._check_now.clear()
        if self._rebuild_reason is not None:
            reason, self._rebuild_reason = self._rebuild_reason, None
            raise FeedLost(f"rebuild asked: {reason}")
        if connection.lost.done():
            raise FeedLost(connection.lost.result())

    def _begin_again(self) -> None:
        """Nothing is pushed, and whatever answers next may be another OpenD."""
        self._continuity.connected()
        self._backfiller.interrupted()

    async def _subscribe(self, subscriptions: Subscriptions) -> None:
        self._backfiller.interrupted(await subscriptions.reconcile())
        self._absences.note(subscriptions.wanted, subscriptions.active, subscriptions.refused, NO_CONNECTION)

    def _note_absent(self, reason: str) -> None:
        self._absences.note(self._symbols, (), {}, reason)

    async def _backfill(self, connection: sdk.Connection, subscriptions: Subscriptions) -> None:
        """In trading hours what is not answered yet; outside them what does not cover the last session's end."""
        now_ms = self._clock.now_ms()
        any_time = not self._options.trading_only or self._calendar.is_recording(now_ms)
        due = self._backfiller.due(subscriptions.active, None if any_time else self._last_session_end_ms(now_ms))
        if due:
            await self._backfiller.run(connection, due)

    def _last_session_end_ms(self, now_ms: int) -> int:
        day = self._calendar.market.trading_day(now_ms)
        _, end_ms = self._calendar.recording_window(day)
        if not self._calendar.is_trading_day(day) or end_ms > now_ms:
            day = self._calendar.previous_trading_day(day)
            _, end_ms = self._calendar.recording_window(day)
        return end_ms

    async def _pull_by_the_clock(self, connection: sdk.Connection, subscriptions: Subscriptions) -> None:
        """Poll what fell quiet, audit the others in turn, while the market trades."""
        while True:
            await asyncio.sleep(self._options.poll_interval_sec)
            if not self._pulls_now(subscriptions):
                continue
            if self._options.poll_enabled:
                await self._poller.poll_quiet(connection, subscriptions.active)
            await self._auditor.run(connection, subscriptions.active)

    async def _follow_distrusted(self, connection: sdk.Connection, subscriptions: Subscriptions) -> None:
        """Fetch what the counters of some symbols cannot show to be missing, while the market trades."""
        while True:
            await asyncio.sleep(FOLLOW_CHECK_SEC)
            if self._pulls_now(subscriptions):
                await self._follower.follow(connection, subscriptions.active)

    def _pulls_now(self, subscriptions: Subscriptions) -> bool:
        if not self._progress.connected or not self._backfilled or not subscriptions.active:
            return False
        return not self._options.trading_only or self._calendar.is_recording(self._clock.now_ms())

    async def _check_calendar(self, connection: sdk.Connection) -> None:
        """Compare our trading days with OpenD's; the one that says "open longer" is followed."""
        today = self._calendar.market.trading_day(self._clock.now_ms())
        first, last = add_days(today, -CALENDAR_DAYS_BACK), add_days(today, CALENDAR_DAYS_AHEAD)
        try:
            days = await connection.trading_days(_dashed(first), _dashed(last), STATE_TIMEOUT_SEC)
        except FeedLost:
            raise
        except FeedError as exc:
            self._repeat_log.log(logging.WARNING, "calendar_check_failed", error=str(exc), action="library is used")
            return
        for mismatch in self._calendar.merge_opend(days, first, last):
            log.warning(
                event(
                    "calendar_mismatch",
                    day=mismatch.day,
                    library=mismatch.library,
                    opend=mismatch.opend,
                    used=mismatch.used,
                )
            )

    def _on_notice(self, notice: sdk.Notice) -> None:
        """OpenD's own words (on the loop): said by name, and looked into at once."""
        advice = _GTW_ADVICE.get(notice.name)
        fields: dict[str, Any] = {key: value for key, value in notice.fields.items() if value != ""}
        lost = fields.pop("cannot_subscribe", None)
        if lost:
            advice = f"{lost} quotes are {notice.name}, which cannot subscribe: another terminal took the right"
        if advice:
            fields["action"] = advice
        level = logging.WARNING if advice or notice.fields.get("qot_logined") is False else logging.INFO
        # A name that is a bare number, and the words beside it, are OpenD's: they are no part of the key.
        key = f"{notice.kind} {'' if notice.name.isdigit() else notice.name} {notice.fields.get('qot_logined')}"
        self._notice_log.log(level, "futu_notice", key=key, kind=notice.kind, name=notice.name or "none", **fields)
        self._check_now.set()

    def _wake_repairer(self) -> None:
        """Called on the network thread when a hole appears."""
        try:
            self._loop.call_soon_threadsafe(self._repairer.wake)
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
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._stop.wait(), delay_sec)


def _advice(error: FeedError) -> str:
    if isinstance(error, RequestNotBuilt):
        return "retrying; OpenD was not asked: check FUTU_RSA_KEY_FILE, else report it"
    return "retrying; is OpenD running and is this its API port?"


def _dashed(day: str) -> str:
    return f"{day[:4]}-{day[4:6]}-{day[6:]}"
