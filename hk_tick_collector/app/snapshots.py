"""What the watchdog's thread sees: numbers in memory, no lock that is held over a write, no call into the disk.

A disk that hangs must not stop the thread that is there to see it.
"""

from __future__ import annotations

from collections.abc import Callable

from hk_tick_collector.core.clock import Clock
from hk_tick_collector.core.progress import Progress
from hk_tick_collector.health.judgement import Backlog, Waiting
from hk_tick_collector.health.watchdog import Snapshot


class Snapshots:
    """Call it for one. It keeps since when rows wait, and what was refused before."""

    def __init__(self, progress: Progress, backlog: Callable[[], Backlog], clock: Clock) -> None:
        self._progress = progress
        self._backlog = backlog
        self._clock = clock
        self._waiting = Waiting()
        self._refused_seen = 0

    def __call__(self) -> Snapshot:
        """The counters of this moment."""
        now_sec = self._clock.monotonic()
        feed, ingest = self._progress.feed, self._progress.ingest
        backlog = self._backlog()
        waiting_rows = backlog.queue_rows + backlog.in_hand_rows + backlog.spill_rows
        refused_delta, self._refused_seen = ingest.refused_rows - self._refused_seen, ingest.refused_rows
        return Snapshot(
            waiting_rows=waiting_rows,
            refused_rows_delta=refused_delta,
            last_push_age_sec=now_sec - feed.last_push_monotonic,
            last_commit_age_sec=self._waiting.look(waiting_rows, ingest.last_commit_monotonic, now_sec),
            loop_age_sec=now_sec - self._progress.loop_beat_monotonic,
            worker_alive=not backlog.worker_dead,
        )
