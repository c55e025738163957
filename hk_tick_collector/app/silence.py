"""A feed that is silent although it should speak gets a new connection, unless its source calls the market closed."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from hk_tick_collector.core.clock import Clock
from hk_tick_collector.core.logline import event
from hk_tick_collector.core.options import from_setting
from hk_tick_collector.core.progress import FeedProgress
from hk_tick_collector.health.feedwatch import FeedSnapshot, FeedWatch
from hk_tick_collector.health.judgement import Judge
from hk_tick_collector.market.calendar import TradingCalendar

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SilenceOptions:
    """How long silence is believed."""

    push_silent_sec: float = from_setting("watchdog_upstream_window_sec")
    all_silent_sec: float = from_setting("watchdog_stall_sec")
    quiet_sec: float = from_setting("drift_warn_sec")  # from then on an exceptional closing is said


class SilenceWatch:
    """``source_lives``: as ``source.Source.alive``; ``rebuild`` takes the reason. Lives on the loop."""

    def __init__(
        self,
        options: SilenceOptions,
        progress: FeedProgress,
        judge: Judge,
        source_lives: Callable[[], bool],
        calendar: TradingCalendar,
        clock: Clock,
        rebuild: Callable[[str], None],
    ) -> None:
        self._options = options
        self._progress = progress
        self._judge = judge
        self._source_lives = source_lives
        self._calendar = calendar
        self._clock = clock
        self._rebuild = rebuild
        self._feed_watch = FeedWatch(options.push_silent_sec, options.all_silent_sec)
        self._said_closed = False

    def check(self) -> None:
        """Look, and ask for a new connection if need be."""
        feed = self._progress
        complaint = self._feed_watch.check(
            FeedSnapshot(
                monotonic_sec=self._clock.monotonic(),
                connected=feed.connected,
                market_open=self._judge.market_open and not self._closed_by_source(),
                network_thread_alive=self._source_lives(),
                push_rows=feed.push_rows,
                poll_accepted_rows=feed.poll_accepted_rows,
                noun=feed.noun,
            )
        )
        if complaint is not None:
            log.error(
                event(
                    "WATCHDOG feed_silent",
                    reason=complaint.sentence,
                    code=complaint.code,
                    action="rebuilding the connection",
                )
            )
            self._rebuild(complaint.sentence)

    def _closed_by_source(self) -> bool:
        """An exceptional closing: recording and polling go on as the calendar says, alarms follow the source. Said
        once."""
        feed = self._progress
        quiet = self._judge.quiet_sec > self._options.quiet_sec
        if feed.closed_by_source and quiet and self._judge.market_open and not self._said_closed:
            self._said_closed = True
            log.warning(
                event(
                    "market_closed_by_opend",
                    **{f"market_{self._calendar.market.code.lower()}": feed.market_state},
                    phase=self._calendar.phase(self._clock.now_ms()),
                    action=f"no alarm while {feed.source} says so; recording and polling go on",
                )
            )
        elif not feed.closed_by_source:
            self._said_closed = False
        return feed.closed_by_source
