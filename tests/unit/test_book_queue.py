"""The queue of books: never full, bounded, and what it passes over is counted and comes evenly."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hk_tick_collector.core.progress import BookProgress
from hk_tick_collector.ingest import book_queue
from hk_tick_collector.ingest.book_queue import CALM_SEC, PASSING_PUSHES, BookQueue
from hk_tick_collector.records.book import PullCompared, RawPush, WatchBegan, WatchEnded
from tests.books import OPEN_US

SYMBOLS = ("HK.00005", "HK.00700", "HK.09988")


def _raw(symbol: str, number: int) -> RawPush:
    return RawPush(symbol, OPEN_US + number, b"%d" % number)


EVENTS = st.one_of(
    st.sampled_from(SYMBOLS),
    st.sampled_from(SYMBOLS).map(lambda s: WatchEnded(s, OPEN_US, "connection lost")),
    st.sampled_from(SYMBOLS).map(lambda s: WatchBegan(s, OPEN_US)),
    st.integers(1, 4),  # so many are taken
)


@given(st.lists(EVENTS, max_size=60), st.integers(1, 5))
def test_an_overfull_queue_keeps_the_newest_of_each_symbol_in_order_and_counts_the_rest(
    events: list[object], max_pushes: int
) -> None:
    progress = BookProgress()
    queue = BookQueue(progress, max_pushes)
    taken: list[object] = []
    received = put = 0
    newest: dict[str, int] = {}
    alive: dict[str, bool] = {}
    for number, action in enumerate(events):
        if isinstance(action, str):
            queue.push([_raw(action, number)])
            newest[action] = number
            put += 1
        elif isinstance(action, int):
            batch = queue.take(action)
            taken += batch.items
            received += batch.received
        else:
            queue.tell([action])
            if isinstance(action, WatchEnded):
                newest.pop(action.symbol, None)
            alive[action.symbol] = isinstance(action, WatchBegan)
        # a full queue, and of each symbol at most a break, a beginning and the newest push
        assert queue.waiting <= max_pushes + 3 * len(SYMBOLS)
    while batch := queue.take(3):
        if not batch.items:
            break
        taken += batch.items
        received += batch.received

    pushes = [item for item in taken if isinstance(item, RawPush)]
    ends = [item for item in taken if isinstance(item, WatchEnded)]
    assert received == put == progress.received
    assert put == len(pushes) + sum(item.merged for item in (*pushes, *ends))
    assert progress.merged == put - len(pushes)
    for symbol in SYMBOLS:
        numbers = [int(item.message) for item in pushes if item.symbol == symbol]
        assert numbers == sorted(numbers)
        if symbol in newest:
            assert numbers[-1] == newest[symbol]
        told = [item for item in taken if not isinstance(item, RawPush) and item.symbol == symbol]
        if symbol in alive:
            assert isinstance(told[-1], WatchBegan) == alive[symbol]


def test_a_queue_is_bounded_in_bytes_as_well() -> None:
    queue = BookQueue(BookProgress(), max_pushes=1000, max_bytes=3000)
    for number in range(100):
        queue.push([RawPush("HK.00700", OPEN_US + number, bytes(1000))])
    assert len(queue.take(1000).items) == 3
    assert [item.merged for item in queue.take(1000).items if isinstance(item, RawPush)] == [96]


def test_what_an_overfull_queue_still_holds_is_not_accounted_for() -> None:
    """Else a recorder that is killed then leaves a session of more pushes than it stored, merged and lost."""
    queue = BookQueue(BookProgress(), max_pushes=2)
    queue.push([_raw("HK.00700", number) for number in range(5)])
    assert [(len(batch.items), batch.received) for batch in (queue.take(9), queue.take(9))] == [(2, 2), (1, 3)]


def test_while_pushes_are_passed_over_what_is_kept_comes_evenly() -> None:
    """Else a queue of many pushes is filled again and again, and in between nothing of a symbol is kept for seconds."""
    queue = BookQueue(BookProgress(), max_pushes=5000)
    symbols = [f"HK.{number:05}" for number in range(1, 11)]
    kept: list[int] = []  # of the first symbol
    for turn in range(2000):  # forty come, twenty are taken
        numbers = range(turn * 40, turn * 40 + 40)
        queue.push([_raw(symbols[number % 10], number) for number in numbers])
        batch = queue.take(20).items
        if turn > 1000:  # the first filling is over
            kept += [int(item.message) for item in batch if isinstance(item, RawPush) and item.symbol == symbols[0]]
            assert queue.waiting <= PASSING_PUSHES + len(symbols)
    assert max(after - before for before, after in pairwise(kept)) < 5000


def test_a_queue_has_all_its_room_again_when_nothing_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    now_sec = 100.0
    monkeypatch.setattr(book_queue, "time", SimpleNamespace(monotonic=lambda: now_sec))
    queue = BookQueue(BookProgress(), max_pushes=5000)
    queue.push([_raw("HK.00700", number) for number in range(5100)])
    while queue.take(500).items:
        assert queue.is_passing
    queue.push([_raw("HK.00700", number) for number in range(5000)])
    assert queue.waiting == PASSING_PUSHES + 1, "it was just overrun"
    while queue.take(500).items:
        pass
    now_sec += CALM_SEC
    assert not queue.take(1).items
    assert not queue.is_passing
    queue.push([_raw("HK.00700", number) for number in range(5000)])
    assert queue.waiting == 5000


def _after_a_stall(
    monkeypatch: pytest.MonkeyPatch, load: float, *, rest_costs: float = 0.5
) -> tuple[BookQueue, BookProgress, list[bool]]:
    """``load`` times as many pushes as can be taken, for 40 s, of which nothing is taken for 3. ``rest_costs``: the
    part of them that is not taken by who rests. Was it resting, each hundredth of a second of the last fifteen?"""
    now_sec = 0.0
    monkeypatch.setattr(book_queue, "time", SimpleNamespace(monotonic=lambda: now_sec))
    monkeypatch.setattr(book_queue, "PASSING_PUSHES", 200)
    progress = BookProgress()
    queue = BookQueue(progress, max_pushes=2000)
    symbols = [f"HK.{number:05}" for number in range(50)]
    coming = takeable = 0.0
    rested: list[bool] = []
    for step in range(4000):
        now_sec = step / 100
        coming += load * 12
        queue.push([_raw(symbols[number % 50], number) for number in range(int(coming))])
        coming %= 1
        if 2 <= now_sec < 5:
            continue
        takeable = min(takeable, 32) + 12 * (1 - rest_costs if queue.is_resting else 1)
        while takeable >= 32 and queue.take(32).items:
            takeable -= 32
        if now_sec >= 25:
            rested.append(queue.is_resting)
    return queue, progress, rested


@pytest.mark.parametrize("load", [0.65, 0.9])
def test_what_a_whole_core_can_take_is_not_passed_over_for_ever(monkeypatch: pytest.MonkeyPatch, load: float) -> None:
    """A disk that was away for a moment would else leave a busy hour without half of its books."""
    queue, progress, rested = _after_a_stall(monkeypatch, load)
    assert progress.merged > 3000, "the stall was longer than the queue"
    assert not any(rested)
    assert not queue.is_passing
    assert queue.waiting < 50


@pytest.mark.parametrize(("load", "rest_costs", "least"), [(1.2, 0.5, 1.0), (1.2, 0.0, 0.6)])
def test_more_than_that_is_taken_with_rests(
    monkeypatch: pytest.MonkeyPatch, load: float, rest_costs: float, least: float
) -> None:
    """Also where rests cost nothing, since it is others that the core is wanted for: tries are few."""
    queue, _, rested = _after_a_stall(monkeypatch, load, rest_costs=rest_costs)
    assert queue.is_passing
    assert sum(rested) >= least * len(rested)


def test_a_comparison_that_finds_the_queue_full_is_forgotten() -> None:
    queue = BookQueue(BookProgress(), max_pushes=1)
    queue.push([_raw("HK.00700", 1)])
    queue.tell([PullCompared("HK.00700", OPEN_US, True)])
    assert [type(item) for item in queue.take(9).items] == [RawPush]
