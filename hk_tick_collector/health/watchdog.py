"""Sees the pipeline from outside, from a thread of its own, so that a stuck loop is seen as well.

``judge`` decides from a snapshot and a few numbers and touches nothing; ``Watchdog`` takes the snapshots and acts:
dump all stacks, ask for a new writer, and after too many vain recoveries save what is in memory and end the process
with exit code 1, so that the service manager starts a fresh one.
"""

from __future__ import annotations

import faulthandler
import logging
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from hk_tick_collector.core.clock import Clock
from hk_tick_collector.core.complaint import Complaint
from hk_tick_collector.core.logline import event
from hk_tick_collector.core.options import from_setting
from hk_tick_collector.health.judgement import loop_stuck, not_storing, worker_dead

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class WatchdogOptions:
    """Limits of the judgement."""

    # How long nothing may be committed while there is something to commit.
    stall_sec: float = from_setting("watchdog_stall_sec")
    # Ticks within this time mean that the source still delivers.
    upstream_window_sec: float = from_setting("watchdog_upstream_window_sec")
    backlog_rows: int = from_setting("watchdog_queue_threshold_rows")  # fewer waiting rows are no backlog
    max_failed_recoveries: int = from_setting("watchdog_recovery_max_failures")
    check_interval_sec: float = from_setting("check_interval_sec")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the watchdog saw at one moment; ages in seconds on the monotonic clock."""

    waiting_rows: int  # queue, in hand, and spill
    refused_rows_delta: int  # refused since the snapshot before
    last_push_age_sec: float
    last_commit_age_sec: float  # since the last commit, or since rows began to wait if that is later
    loop_age_sec: float  # since the loop's last beat
    worker_alive: bool


class Action(StrEnum):
    """What to do now."""

    NONE = "none"
    RECOVER = "recover"
    GIVE_UP = "give_up"


def judge(now: Snapshot, options: WatchdogOptions, failed_recoveries: int) -> tuple[Action, Complaint | None]:
    """The action for this snapshot and the reason for it. Pure.

    A stall needs all three: ticks keep coming (or came and wait), rows wait, and nothing has been committed for
    ``stall_sec``. A dead worker or a stuck loop counts as a stall by itself once rows wait or pushes arrive.
    """
    backlog = now.waiting_rows >= options.backlog_rows or now.refused_rows_delta > 0
    upstream = now.last_push_age_sec <= options.upstream_window_sec
    if not now.worker_alive and (now.waiting_rows or upstream):
        complaint = worker_dead()
    elif now.loop_age_sec >= options.stall_sec and (backlog or upstream):
        complaint = loop_stuck()
    elif backlog and now.last_commit_age_sec >= options.stall_sec:
        complaint = not_storing()
    else:
        return Action.NONE, None
    if failed_recoveries >= options.max_failed_recoveries:
        return Action.GIVE_UP, complaint
    return Action.RECOVER, complaint


class Watchdog:
    """The thread around ``judge``.

    ``snapshot`` is called on the watchdog's thread; ``recover(reason)`` and ``give_up(reason)`` too, and both must
    return soon. After a recovery it waits ``stall_sec`` again before it judges that recovery as failed.
    """

    def __init__(
        self,
        options: WatchdogOptions,
        snapshot: Callable[[], Snapshot],
        recover: Callable[[str], None],
        give_up: Callable[[str], None],
        clock: Clock,
    ) -> None:
        self._options = options
        self._snapshot = snapshot
        self._recover = recover
        self._give_up = give_up
        self._clock = clock
        self._stopped = threading.Event()
        self._failed_recoveries = 0
        self._recovered_at: float | None = None
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def start(self) -> None:
        """Begin watching."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread; returns when it has ended or within a second."""
        self._stopped.set()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join(timeout=1.0)

    def _run(self) -> None:
        while not self._stopped.wait(self._options.check_interval_sec):
            try:
                self.check()
            except Exception:
                log.exception(event("watchdog_error", action="still watching"))

    def check(self) -> Action:
        """One look, one judgement, one action. Returns the action taken."""
        now = self._snapshot()
        action, complaint = judge(now, self._options, self._failed_recoveries)
        if complaint is None:
            if now.waiting_rows < self._options.backlog_rows:
                self._failed_recoveries, self._recovered_at = 0, None
            return action
        now_sec = self._clock.monotonic()
        if self._recovered_at is not None and now_sec - self._recovered_at < self._options.stall_sec:
            return Action.NONE
        word = "persistent_stall" if action is Action.GIVE_UP else "stall"
        log.error(
            event(
                f"WATCHDOG {word}",
                reason=complaint.sentence,
                code=complaint.code,
                queue=now.waiting_rows,
                commit_age_sec=now.last_commit_age_sec,
                push_age_sec=now.last_push_age_sec,
                loop_age_sec=now.loop_age_sec,
                failed_recoveries=self._failed_recoveries,
                action="spilling what is in memory and exiting 1"
                if action is Action.GIVE_UP
                else "replacing the writer",
            )
        )
        faulthandler.dump_traceback(file=sys.stderr, all_threads=True)
        if action is Action.GIVE_UP:
            self._give_up(complaint.sentence)
            self._stopped.set()
        else:
            self._failed_recoveries += 1
            self._recovered_at = now_sec
            self._recover(complaint.sentence)
        return action
