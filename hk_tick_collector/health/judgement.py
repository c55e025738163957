"""The rules by which the recorder complains about itself: each stands here once, whoever asks.

``Judge`` answers for the health line, the status file, metrics and the service manager from the same counters. The
watchdog and ``FeedWatch`` see by themselves when they have to act, and take their words from here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hk_tick_collector.core.clock import Clock
from hk_tick_collector.core.complaint import Code, Complaint, Level
from hk_tick_collector.core.progress import Progress
from hk_tick_collector.core.text import counted
from hk_tick_collector.market.calendar import TradingCalendar
from hk_tick_collector.market.hours import CONTINUOUS

LOGIN_WARN_MS, LOGIN_ALERT_MS = 48 * 3_600_000, 12 * 3_600_000  # so long before a login ends


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits at this moment."""

    queue_rows: int
    in_hand_rows: int
    spill_rows: int
    open_holes: int  # in the sequences, that may still be repaired
    wal_bytes: int
    worker_dead: bool  # ended although nobody asked


class Waiting:
    """How long rows have been waiting without a commit. One for each thread that looks, regularly; others may read
    ``age_sec``."""

    def __init__(self) -> None:
        self._since_sec: float | None = None
        self.age_sec = 0.0  # as of the last look; 0 when nothing waits

    def look(self, rows: int, last_commit_sec: float, now_sec: float) -> float:
        """Seconds since the last commit, or since rows began to wait if that is later. Times are monotonic."""
        if not rows:
            self._since_sec = None
            self.age_sec = 0.0
        else:
            if self._since_sec is None:
                self._since_sec = now_sec
            self.age_sec = now_sec - max(self._since_sec, last_commit_sec)
        return self.age_sec


class Judge:
    """What is wrong, from the counters. Reads only, so any thread may ask; ``waiting`` is looked at by its owner."""

    def __init__(
        self,
        progress: Progress,
        calendar: TradingCalendar,
        clock: Clock,
        drift_warn_sec: float,
        stall_sec: float,
        waiting: Waiting,
    ) -> None:
        """``drift_warn_sec``: how old the newest tick may be in continuous trading. ``stall_sec``: how long rows may
        wait without a commit, and a connected source may say nothing at all."""
        self._progress = progress
        self._calendar = calendar
        self._clock = clock
        self._drift_warn_sec = drift_warn_sec
        self._stall_sec = stall_sec
        self._waiting = waiting
        self._started_sec = clock.monotonic()

    def complaints(self, backlog: Backlog) -> tuple[Complaint, ...]:
        """All that is wrong now, gravest first. An open market without ticks is never without one."""
        return tuple(self._complaints(backlog))

    def stuck(self) -> Complaint | None:
        """Why the process should be restarted from outside: what waits is not stored, or a connected source in an open
        market says nothing. A closed market and a source that is known to be down are no reason."""
        if self._waiting.age_sec >= self._stall_sec:
            return not_storing()
        return self._mute() if self.market_open else None

    @property
    def market_open(self) -> bool:
        """Continuous trading, by our calendar."""
        return self._calendar.phase(self._clock.now_ms()) in CONTINUOUS

    @property
    def quiet_sec(self) -> float:
        """How long nothing was pushed that could have been: silence counts from the opening, late as that may be."""
        feed = self._progress.feed
        since_push_sec = self._clock.monotonic() - (feed.last_push_monotonic or self._started_sec)
        return min(since_push_sec, (self._clock.now_ms() - self._opening_ms) / 1000)

    @property
    def _opening_ms(self) -> int:
        """When what the market does now began."""
        return self._calendar.span(self._clock.now_ms()).start_ms

    def _complaints(self, backlog: Backlog) -> Iterator[Complaint]:
        feed, ingest = self._progress.feed, self._progress.ingest
        now_ms = self._clock.now_ms()
        if backlog.worker_dead:
            yield worker_dead()
        if ingest.refused_rows > ingest.refused_rows_settled:
            yield Complaint(
                Code.TICKS_REFUSED, Level.ALERT, f"{feed.noun}s were refused: queue full and spill not writable"
            )
        if self._waiting.age_sec >= self._stall_sec:
            yield not_storing()
        if not feed.connected:
            level = Level.ALERT if self._calendar.is_recording(now_ms) else Level.WARN
            yield Complaint(Code.SOURCE_DISCONNECTED, level, f"{feed.source} is {feed.link_state}")
        if self.market_open:
            yield from self._silence(now_ms)
        yield from self._left_over(backlog)

    def _books(self) -> Iterator[Complaint]:
        now = self._clock.monotonic()
        for noun, books in (("order book", self._progress.books), ("broker queue", self._progress.brokers)):
            refused = books.refused_symbols
            if refused and self._progress.feed.connected:
                sentence = f"{counted(len(refused), noun)} not subscribed ({next(iter(refused.values()))}); ticks go on"
                yield Complaint(Code.BOOKS_REFUSED, Level.WARN, sentence)
            stuck_sec = books.stuck_sec(now)
            if stuck_sec >= self._stall_sec:
                sentence = f"{noun}s wait and none was stored for {stuck_sec:.0f} s; ticks go on"
                yield Complaint(Code.BOOKS_NOT_STORING, Level.WARN, sentence)

    def _left_over(self, backlog: Backlog) -> Iterator[Complaint]:
        """What is not as it should be while recording goes on."""
        feed, ingest = self._progress.feed, self._progress.ingest
        if feed.symbols_refused:
            yield Complaint(Code.SYMBOLS_REFUSED, Level.WARN, f"{feed.symbols_refused} symbols are not subscribed")
        yield from self._books()
        yield from self._login()
        if ingest.missing_ticks and not backlog.spill_rows and not backlog.open_holes:
            is_shown = feed.shows_whole_day
            complaint = f"{feed.noun}s are missing" + ("" if is_shown else f" that {feed.source} no longer shows")
            later = f"; {feed.source} shows the whole day after its close" if is_shown else ""
            yield Complaint(Code.TICKS_MISSING, Level.WARN, complaint + later)
        if ingest.unseen_ticks:
            most = counted(ingest.unseen_ticks, feed.noun)
            yield Complaint(
                Code.BEGINNING_UNSEEN,
                Level.NOTE,
                f"the day's beginning was not shown: up to {most} may have come before the first ones seen",
            )
        if backlog.spill_rows:
            yield Complaint(Code.SPILL_WAITING, Level.WARN, "rows wait in the spill")

    def _login(self) -> Iterator[Complaint]:
        """Does a person have to log in again soon?"""
        feed, now_ms = self._progress.feed, self._clock.now_ms()
        left_ms = feed.login_ends_ms - now_ms
        if not feed.login_ends_ms or left_ms >= LOGIN_WARN_MS:
            return
        level, span = Level.ALERT if left_ms < LOGIN_ALERT_MS else Level.WARN, hours_words(left_ms)
        if left_ms > 0:
            yield Complaint(Code.LOGIN_ENDS, level, f"the login at {feed.source} ends in {span}: {feed.login_advice}")
        else:
            yield Complaint(Code.LOGIN_ENDS, level, f"the login at {feed.source} ended {span} ago: {feed.login_advice}")

    def _silence(self, now_ms: int) -> Iterator[Complaint]:
        """In continuous trading: does nothing come, or nothing new?"""
        feed = self._progress.feed
        quiet_sec = self.quiet_sec
        if quiet_sec > self._drift_warn_sec and feed.closed_by_source:
            yield Complaint(
                Code.MARKET_CLOSED_BY_SOURCE,
                Level.WARN,
                f"{feed.source} says the market is {feed.market_state}, our calendar says it is open",
            )
        elif quiet_sec > self._drift_warn_sec:
            yield no_ticks(quiet_sec, feed.noun)
        mute = self._mute()
        if mute is not None:
            yield mute
        if feed.max_ts_ms and now_ms - max(feed.max_ts_ms, self._opening_ms) > self._drift_warn_sec * 1000:
            yield Complaint(Code.TICKS_LATE, Level.WARN, f"newest {feed.noun} is older than DRIFT_WARN_SEC")

    def _mute(self) -> Complaint | None:
        """In continuous trading: does a connected source neither push nor answer?"""
        feed = self._progress.feed
        mute_sec = self._clock.monotonic() - max(feed.last_push_monotonic, feed.last_answer_monotonic)
        if not feed.connected or mute_sec < self._stall_sec:
            return None
        return Complaint(Code.SOURCE_MUTE, Level.ALERT, f"{feed.source} is connected and silent for {mute_sec:.0f} s")


def hours_words(span_ms: int) -> str:
    """``2 d 3 h``, whichever sign it has."""
    hours = abs(span_ms) // 3_600_000
    return f"{hours // 24} d {hours % 24} h" if hours >= 24 else f"{hours} h"


def login_words(ends_ms: int, now_ms: int) -> str:
    """``ends in 2 d 3 h``"""
    span = hours_words(ends_ms - now_ms)
    return f"ends in {span}" if ends_ms > now_ms else f"ended {span} ago"


def worker_dead() -> Complaint:
    """The persist worker, or its writer's thread, has ended."""
    return Complaint(Code.WORKER_DEAD, Level.ALERT, "persist worker is dead")


def loop_stuck() -> Complaint:
    """The event loop does not turn."""
    return Complaint(Code.LOOP_STUCK, Level.ALERT, "event loop is stuck")


def not_storing() -> Complaint:
    """Rows wait, and for too long nothing was committed."""
    return Complaint(Code.NOT_STORING, Level.ALERT, "rows wait and nothing is committed")


def no_ticks(silent_sec: float, noun: str = "tick") -> Complaint:
    """An open market in which nothing comes."""
    return Complaint(Code.NO_TICKS, Level.ALERT, f"market is open and no {noun} came for {silent_sec:.0f} s")


def push_silent(silent_sec: float, pulled_rows: int) -> Complaint:
    """The push channel is dead: polls brought what no push did."""
    return Complaint(
        Code.PUSH_SILENT, Level.WARN, f"no push for {silent_sec:.0f} s while polls brought {pulled_rows} ticks"
    )


def network_thread_dead() -> Complaint:
    """The SDK's thread, which reads the sockets, has ended."""
    return Complaint(Code.NETWORK_THREAD_DEAD, Level.ALERT, "the SDK's network thread is dead")
