"""What the service manager hears: ready, a live sentence, and a heartbeat that stops when nothing moves any more."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from hk_tick_collector.core.clock import Clock
from hk_tick_collector.core.progress import Progress
from hk_tick_collector.health.judgement import Backlog, Judge, Waiting
from hk_tick_collector.health.sdnotify import notify

DEFAULT_INTERVAL_SEC = 1.0  # a datagram a second: the sentence is never staler than that


class Service:
    """``Type=notify`` with ``WatchdogSec``. Without a service manager nothing happens."""

    def __init__(
        self,
        progress: Progress,
        backlog: Callable[[], Backlog],
        clock: Clock,
        judge: Judge,
        waiting: Waiting,
    ) -> None:
        """``waiting`` is looked at here, with each beat, and read by the judge."""
        self._progress = progress
        self._backlog = backlog
        self._clock = clock
        self._judge = judge
        self._waiting = waiting

    @property
    def interval_sec(self) -> float:
        """Seconds between two words: a third of WATCHDOG_USEC, so that one may come late."""
        watchdog_usec = os.environ.get("WATCHDOG_USEC", "")
        return min(DEFAULT_INTERVAL_SEC, int(watchdog_usec) / 3e6) if watchdog_usec.isdigit() else DEFAULT_INTERVAL_SEC

    def ready(self) -> None:
        """The recorder can take ticks, whether OpenD is up or not."""
        notify("READY=1", f"STATUS={self.sentence()}")

    def reloading(self) -> None:
        """A reload has begun; ``ready`` ends it."""
        notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        notify("STOPPING=1", "STATUS=storing what waits")

    def beat(self) -> None:
        """The sentence, and the heartbeat if things move."""
        words = [f"STATUS={self.sentence()}"]
        if self.moves():
            words.append("WATCHDOG=1")
        notify(*words)

    def moves(self) -> bool:
        """Rows that wait are being committed, and an OpenD that is connected in an open market says something."""
        backlog = self._backlog()
        last_commit_sec = self._progress.ingest.last_commit_monotonic
        self._waiting.look(backlog.queue_rows + backlog.in_hand_rows, last_commit_sec, self._clock.monotonic())
        return self._judge.stuck() is None

    def sentence(self) -> str:
        """One line for ``systemctl status``."""
        feed, ingest = self._progress.feed, self._progress.ingest
        if not feed.connected:
            return f"waiting for {feed.source} ({feed.link_state}); {ingest.persisted_rows} {feed.noun}s stored"
        lag_sec = (self._clock.now_ms() - feed.max_ts_ms) / 1000 if feed.max_ts_ms else None
        newest = f"newest {max(0.0, lag_sec):.1f} s ago" if lag_sec is not None else f"no {feed.noun} yet"
        return (
            f"recording {feed.symbols_subscribed}/{feed.symbols_wanted} symbols, "
            f"{ingest.persisted_rows} {feed.noun}s stored, {newest}, {ingest.missing_ticks} missing"
        )
