"""When a silent feed is rebuilt, and when it is left alone."""

from __future__ import annotations

from dataclasses import replace

from hk_tick_collector.core.complaint import Complaint
from hk_tick_collector.health.feedwatch import FeedSnapshot, FeedWatch

START = FeedSnapshot(
    monotonic_sec=100.0,
    connected=True,
    market_open=True,
    network_thread_alive=True,
    push_rows=1000,
    poll_accepted_rows=50,
)


def after(seconds: float, **changes: object) -> FeedSnapshot:
    return replace(START, monotonic_sec=START.monotonic_sec + seconds, **changes)  # type: ignore[arg-type]


def watch() -> FeedWatch:
    feed_watch = FeedWatch(push_silent_sec=60, all_silent_sec=180)
    assert feed_watch.check(START) is None
    return feed_watch


def test_pushes_that_come_are_fine() -> None:
    feed_watch = watch()
    for n in range(1, 100):
        assert feed_watch.check(after(n * 10, push_rows=1000 + n)) is None


def test_polls_that_bring_what_no_push_brought_mean_a_dead_push_channel() -> None:
    feed_watch = watch()
    assert feed_watch.check(after(59, poll_accepted_rows=60)) is None
    assert told(feed_watch.check(after(61, poll_accepted_rows=60))) == (
        "push_silent",
        "no push for 61 s while polls brought 10 ticks",
    )


def test_quiet_symbols_raise_nothing() -> None:
    feed_watch = watch()
    assert feed_watch.check(after(100)) is None
    assert feed_watch.check(after(170)) is None


def test_an_open_market_without_any_tick_is_rebuilt_a_closed_one_not() -> None:
    assert told(complaint_of(after(181))) == ("no_ticks", "market is open and no tick came for 181 s")
    assert complaint_of(after(9000, market_open=False)) is None


def test_silence_counts_from_the_opening_however_late_it_is() -> None:
    feed_watch = watch()
    assert feed_watch.check(after(9000, market_open=False)) is None
    assert feed_watch.check(after(9010)) is None
    assert told(feed_watch.check(after(9000 + 181))) == ("no_ticks", "market is open and no tick came for 181 s")


def complaint_of(snapshot: FeedSnapshot) -> Complaint | None:
    return watch().check(snapshot)


def told(complaint: Complaint | None) -> tuple[str, str]:
    assert complaint is not None
    return complaint.code, complaint.sentence


def test_each_rebuild_in_vain_makes_it_more_patient_and_a_push_ends_that() -> None:
    feed_watch = watch()
    assert feed_watch.check(after(181))
    assert feed_watch.check(after(182)) is None  # the new connection
    assert feed_watch.check(after(182 + 181)) is None
    assert feed_watch.check(after(182 + 361))
    assert feed_watch.check(after(600, push_rows=1001)) is None
    assert feed_watch.check(after(601, push_rows=1002)) is None
    assert feed_watch.check(after(601 + 181, push_rows=1002))


def test_a_dead_network_thread_is_rebuilt_at_once() -> None:
    assert told(complaint_of(after(1, network_thread_alive=False)))[0] == "network_thread_dead"


def test_while_disconnected_nothing_is_judged() -> None:
    feed_watch = watch()
    assert feed_watch.check(after(500, connected=False)) is None
    assert feed_watch.check(after(600)) is None
    assert feed_watch.check(after(700)) is None
