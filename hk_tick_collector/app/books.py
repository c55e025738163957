"""What records order books, and broker queues where they are wanted: for each kind a lane and who subscribes for it."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from functools import partial

from hk_tick_collector.app.config import Settings
from hk_tick_collector.core.clock import Clock
from hk_tick_collector.core.logline import event
from hk_tick_collector.core.options import options_of
from hk_tick_collector.core.progress import BookProgress, Progress
from hk_tick_collector.health.watchdog import Action, Snapshot, WatchdogOptions, judge
from hk_tick_collector.ingest.books import BookLane
from hk_tick_collector.market.calendar import TradingCalendar
from hk_tick_collector.market.hours import Phase
from hk_tick_collector.sources.books import BookKeeper
from hk_tick_collector.sources.registry import book_reader
from hk_tick_collector.sources.source import BookOffer
from hk_tick_collector.store.book_file import BOOK_KIND, BROKER_KIND, StateKind
from hk_tick_collector.store.book_writer import BookWriter

log = logging.getLogger(__name__)

STOP_SEC = 8.0  # for each of two lanes, within a step of the end
# A lane's thread keeps the interpreter for so long when another thread wants it (Python's own: 5 ms). Ticks wait for
# it at every turn, and with 20,000 pushes a second that is many times a batch; a recorder without books is left alone.
SWITCH_INTERVAL_SEC = 0.0005


class LaneWatch:
    """A lane, and how often it was helped in vain."""

    def __init__(self, lane: BookLane, progress: BookProgress) -> None:
        self._lane = lane
        self._progress = progress
        self._failed_recoveries = 0
        self._recovered_at: float | None = None

    def check(self, options: WatchdogOptions, now: float) -> None:
        stuck_sec = self._progress.stuck_sec(now)
        seen = Snapshot(self._progress.waiting, 0, 0.0, stuck_sec, 0.0, worker_alive=True)
        action, _ = judge(seen, options, self._failed_recoveries)
        if action is Action.NONE:
            self._failed_recoveries, self._recovered_at = 0, None
            return
        is_helped = self._recovered_at is not None and now - self._recovered_at < options.stall_sec
        if action is Action.RECOVER and not is_helped:
            self._failed_recoveries, self._recovered_at = self._failed_recoveries + 1, now
            self._lane.recover(f"none was stored for {stuck_sec:.0f} s")


class BookLanes:
    """Made on the loop. ``books`` and ``brokers`` take pushes; None where they are not wanted."""

    def __init__(self, settings: Settings, progress: Progress, calendar: TradingCalendar, clock: Clock) -> None:
        self._settings = settings
        self._calendar = calendar
        self._clock = clock
        self.books = self._lane(BOOK_KIND, progress.books) if settings.book_symbols else None
        has_brokers = self.books is not None and settings.book_brokers
        self.brokers = self._lane(BROKER_KIND, progress.brokers) if has_brokers else None
        self._options = options_of(WatchdogOptions, settings)
        lanes = (self.books, progress.books), (self.brokers, progress.brokers)
        self._watched = [LaneWatch(lane, of) for lane, of in lanes if lane is not None]
        make = partial(BookKeeper, settings.book_symbols)
        ends = progress.feed, clock, settings.check_interval_sec
        self.keepers: list[BookKeeper] = []
        if self.books is not None:
            sys.setswitchinterval(SWITCH_INTERVAL_SEC)
            self.keepers.append(make(self.books, progress.books, *ends, behind=progress.brokers))
        if self.brokers is not None:
            self.keepers.append(make(self.brokers, progress.brokers, *ends, word="brokers", before=progress.books))

    def start(self) -> None:
        """Begin to store."""
        for lane in self._lanes:
            lane.start()

    def stop(self) -> bool:
        """Store what waits, on a thread that may wait; books first. False when it was not all
        stored: that is in the log."""
        all_stored = True
        for lane in self._lanes:
            if not lane.stop(STOP_SEC):
                all_stored = False
                told = "their file says until when it was told"
                log.error(event("books_not_stored", waiting=lane.waiting, action=told, kind=lane.word))
        return all_stored

    def check(self) -> None:
        """Replace a lane's thread that hangs, by the watchdog's own rule for the writer of ticks; but a lane of books
        that is given up is said to store nothing (``books_not_storing``), and ends no recorder. On the loop."""
        for watched in self._watched:
            watched.check(self._options, self._clock.monotonic())

    def set_symbols(self, symbols: Sequence[str]) -> None:
        """Whose are wanted from now on. After the list of ticks, whose quota goes first."""
        for keeper in self.keepers:
            keeper.set_symbols(symbols)
        if symbols and not self.keepers:
            log.warning(event("books_need_a_restart", symbols=len(symbols), action="no books were wanted at the start"))

    @property
    def _lanes(self) -> list[BookLane]:
        return [lane for lane in (self.books, self.brokers) if lane is not None]

    def _lane(self, kind: StateKind, progress: BookProgress) -> BookLane:
        settings, day_of = self._settings, self._calendar.market.trading_day

        def make_writer() -> BookWriter:
            now_ms = self._clock.now_ms
            conflated = settings.spec.books is BookOffer.CONFLATED
            return BookWriter(
                settings.data_root, settings.sqlite, day_of, now_ms, self._is_closed, kind, conflated=conflated
            )

        return BookLane(make_writer, book_reader(settings.spec, kind.word), day_of, progress, word=kind.word)

    def _is_closed(self, at_ms: int) -> bool:
        return self._calendar.phase(at_ms) in (Phase.POST_CLOSE, Phase.CLOSED)
