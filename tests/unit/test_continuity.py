"""Holes are found on arrival, and a pull hides nothing: against a plain set as the model."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hk_tick_collector.core.tick import SEQ_COUNTER_MASK, Tick
from hk_tick_collector.feed.continuity import MAX_RANGES, Continuity, Hole

SECOND = 1_795_138_200


def tick(counter: int, symbol: str = "HK.00700", day: str = "20261120", second: int | None = None) -> Tick:
    """A tick whose second grows with its counter, as OpenD's do."""
    seq = (SECOND + counter // 10 if second is None else second) << 32 | counter
    return Tick(
        "HK", symbol, SECOND * 1000 + counter, 1.0, 100, 100.0, "BUY", seq, "AUTO_MATCH", "push", "futu", day, 1,
        None, None, None,
    )  # fmt: skip


def push(continuity: Continuity, *counters: int, at: float = 1.0) -> bool:
    return continuity.observe_push([tick(counter) for counter in counters], at)


def test_in_order_makes_no_hole() -> None:
    continuity = Continuity()
    assert not push(continuity, *range(5, 200))
    assert continuity.holes() == []


def test_a_step_is_a_hole_of_known_size_and_closes() -> None:
    continuity = Continuity()
    assert push(continuity, 1, 2, 6)
    assert continuity.holes() == [Hole("HK.00700", 3, 5, 6)]
    assert (continuity.holes()[0].missing_rows, continuity.holes()[0].rows_back) == (3, 4)
    fresh = continuity.new_of_pull("HK.00700", [tick(n) for n in range(1, 7)])
    assert [t.seq & SEQ_COUNTER_MASK for t in fresh if t.seq] == [3, 4, 5]
    assert continuity.holes() == []


def test_out_of_order_pushes_close_their_own_hole() -> None:
    continuity = Continuity()
    push(continuity, 1, 3, 2, 5, 4)
    assert continuity.holes() == []


def test_poll_brings_back_a_tick_older_than_the_newest() -> None:
    """Earlier recorders dropped everything at or below the newest sequence, so a hole could never be filled."""
    continuity = Continuity()
    push(continuity, 1, 2, 4)
    assert [t.seq & SEQ_COUNTER_MASK for t in continuity.new_of_pull("HK.00700", [tick(3), tick(4)]) if t.seq] == [3]


def test_a_pull_with_nothing_new_is_skipped() -> None:
    continuity = Continuity()
    push(continuity, *range(1, 50))
    assert continuity.new_of_pull("HK.00700", [tick(n) for n in range(10, 50)]) == []


def test_renumbered_sequences_hide_nothing() -> None:
    """The same counters under other seconds: OpenD counts anew. Everything goes to the store, whose index decides."""
    continuity = Continuity()
    push(continuity, *range(1, 50))
    renumbered = [tick(n, second=SECOND + 1000 + n) for n in range(1, 50)]
    assert continuity.new_of_pull("HK.00700", renumbered) == renumbered


def test_a_new_day_starts_over_and_a_late_tick_of_the_old_day_is_no_hole() -> None:
    continuity = Continuity()
    push(continuity, 900, 901)
    continuity.observe_push([tick(1, day="20261123"), tick(2, day="20261123")], 2.0)
    assert not continuity.observe_push([tick(950, day="20261120")], 3.0)
    assert continuity.holes() == []
    late = tick(951, day="20261120")
    assert continuity.new_of_pull("HK.00700", [late]) == [late]


def test_the_seed_makes_a_restart_hole_visible() -> None:
    continuity = Continuity()
    continuity.seed({"HK.00700": ("20261120", tick(100).seq or 0)})
    assert push(continuity, 105)
    assert continuity.holes() == [Hole("HK.00700", 101, 104, 105)]


def test_counters_that_do_not_count_are_not_judged() -> None:
    continuity = Continuity()
    push(continuity, *range(0, MAX_RANGES * 40, 10))
    assert continuity.holes() == []
    strange = [tick(n) for n in range(5, 100, 10)]
    assert continuity.new_of_pull("HK.00700", strange) == strange


def test_two_symbols_may_carry_the_same_sequence() -> None:
    continuity = Continuity()
    push(continuity, 1, 2)
    other = [tick(1, "HK.00005"), tick(2, "HK.00005")]
    assert continuity.new_of_pull("HK.00005", other) == other


def test_giving_a_hole_up_closes_it() -> None:
    continuity = Continuity()
    push(continuity, 1, 9)
    continuity.give_up(continuity.holes()[0])
    assert continuity.holes() == []
    assert continuity.new_of_pull("HK.00700", [tick(9)]) == []


def test_quiet_and_active_symbols() -> None:
    continuity = Continuity()
    push(continuity, 1, 2, 3, at=100.0)
    continuity.observe_push([tick(1, "HK.00005")], 50.0)
    assert continuity.quiet_symbols(["HK.00700", "HK.00005", "HK.00001"], 90.0) == ["HK.00005", "HK.00001"]
    assert continuity.most_active_first(["HK.00001", "HK.00005", "HK.00700"])[:2] == ["HK.00700", "HK.00005"]


@given(st.lists(st.integers(1, 60), min_size=1, max_size=80))
def test_holes_are_exactly_what_a_set_says(counters: list[int]) -> None:
    continuity = Continuity()
    for counter in counters:
        push(continuity, counter)
    missing = set(range(min(counters), max(counters))) - set(counters)
    told = {counter for hole in continuity.holes() for counter in range(hole.first, hole.last + 1)}
    assert told == missing


@given(st.lists(st.integers(1, 40), max_size=40), st.integers(1, 40), st.integers(0, 39))
def test_a_pull_returns_at_least_all_that_is_unknown(seen: list[int], first: int, length: int) -> None:
    continuity = Continuity()
    for counter in seen:
        push(continuity, counter)
    pulled = [tick(n) for n in range(first, first + length)]
    fresh = {t.seq & SEQ_COUNTER_MASK for t in continuity.new_of_pull("HK.00700", pulled) if t.seq}
    assert fresh >= set(range(first, first + length)) - set(seen)
