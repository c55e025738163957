"""The watchdog's judgement as a table, and its actions with a clock that is moved by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hk_tick_collector.health.watchdog import Action, Snapshot, Watchdog, WatchdogOptions, judge
from tests.clock import ManualClock

OPTIONS = WatchdogOptions(
    stall_sec=180, upstream_window_sec=60, backlog_rows=100, max_failed_recoveries=3, check_interval_sec=5
)
FINE = Snapshot(
    waiting_rows=0,
    refused_rows_delta=0,
    last_push_age_sec=1,
    last_commit_age_sec=1,
    loop_age_sec=0.5,
    worker_alive=True,
)
NIGHT = replace(FINE, last_push_age_sec=9e4, last_commit_age_sec=9e4)
STALLED = replace(FINE, waiting_rows=5000, last_commit_age_sec=181)


@pytest.mark.parametrize(
    ("case", "snapshot", "failed", "expected"),
    [
        ("all is well", FINE, 0, Action.NONE),
        ("quiet night: nothing waits, last commit long ago", NIGHT, 0, Action.NONE),
        ("a backlog that moves", replace(FINE, waiting_rows=20_000), 0, Action.NONE),
        ("a few rows, stale commit", replace(STALLED, waiting_rows=99), 0, Action.NONE),
        ("backlog, stale commit", STALLED, 0, Action.RECOVER),
        ("not yet stale", replace(STALLED, last_commit_age_sec=179), 0, Action.NONE),
        ("backlog and stale, but OpenD is silent", replace(STALLED, last_push_age_sec=500), 0, Action.RECOVER),
        ("refused rows, stale", replace(STALLED, waiting_rows=0, refused_rows_delta=7), 0, Action.RECOVER),
        ("refused rows, commits go on", replace(FINE, refused_rows_delta=7), 0, Action.NONE),
        ("dead worker while ticks come", replace(FINE, worker_alive=False), 0, Action.RECOVER),
        ("dead worker, nothing to do", replace(FINE, worker_alive=False, last_push_age_sec=500), 0, Action.NONE),
        ("stuck loop while ticks come", replace(FINE, loop_age_sec=200), 0, Action.RECOVER),
        ("stuck loop at night", replace(FINE, loop_age_sec=200, last_push_age_sec=500), 0, Action.NONE),
        ("third recovery failed", STALLED, 3, Action.GIVE_UP),
        ("two failed", STALLED, 2, Action.RECOVER),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)  # fmt: skip
def test_judgement(case: str, snapshot: Snapshot, failed: int, expected: Action) -> None:
    action, complaint = judge(snapshot, OPTIONS, failed)
    assert action is expected, complaint
    assert (complaint is not None) == (expected is not Action.NONE)


class Watched:
    """A watchdog over a snapshot that the test sets."""

    def __init__(self) -> None:
        self.clock = ManualClock(0)
        self.snapshot = FINE
        self.calls: list[str] = []
        self.watchdog = Watchdog(
            OPTIONS,
            lambda: self.snapshot,
            lambda reason: self.calls.append(f"recover {reason}"),
            lambda reason: self.calls.append(f"give up {reason}"),
            self.clock,
        )

    def after(self, seconds: float) -> Action:
        self.clock.advance(seconds)
        return self.watchdog.check()


def test_it_recovers_gives_each_recovery_time_then_gives_up(caplog: pytest.LogCaptureFixture) -> None:
    watched = Watched()
    assert watched.after(5) is Action.NONE
    watched.snapshot = STALLED
    assert watched.after(5) is Action.RECOVER
    assert watched.after(100) is Action.NONE, "the recovery has not had its time"
    assert watched.after(100) is Action.RECOVER
    assert watched.after(200) is Action.RECOVER
    assert watched.after(200) is Action.GIVE_UP
    assert [call.split()[0] for call in watched.calls] == ["recover", "recover", "recover", "give"]
    assert "WATCHDOG persistent_stall reason=" in caplog.text


def test_a_recovery_that_worked_is_forgotten() -> None:
    watched = Watched()
    watched.snapshot = STALLED
    for _ in range(5):
        assert watched.after(200) is Action.RECOVER
        watched.snapshot = FINE
        assert watched.after(5) is Action.NONE
        watched.snapshot = STALLED


def test_the_thread_looks_by_itself_and_ends() -> None:
    watched = Watched()
    watched.snapshot = STALLED
    quick = Watchdog(
        replace(OPTIONS, check_interval_sec=0.01), lambda: watched.snapshot, watched.calls.append, watched.calls.append,
        watched.clock,
    )  # fmt: skip
    quick.start()
    for _ in range(500):
        if watched.calls:
            break
        quick._stopped.wait(0.01)
    quick.stop()
    assert watched.calls
    assert not quick._thread.is_alive()
