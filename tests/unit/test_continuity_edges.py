"""The edges of what all tracks together know: what begins, what is said once, what others may not say."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hk_tick_collector.core.errors import RejectCode
from hk_tick_collector.core.facts import (
    COUNTER_WENT_BACK,
    NO_SEQUENCE,
    NOT_JOINED,
    NUMBERS_SKIPPED,
    PUSH_PULL_DISAGREE,
    UNKNOWN_SEQ,
    UNREAD_TICK,
    GapFound,
    HeadProven,
    Interrupted,
    StoredTrack,
    Unproven,
    Verified,
)
from hk_tick_collector.core.ranges import CounterRanges
from hk_tick_collector.records.tick import RejectedTick
from hk_tick_collector.sources.pulled import Answer
from tests.unit.test_continuity import DAY, SECOND, Watched, tick, unproven

SYMBOL, OTHER, THIRD, FOURTH = "HK.00700", "HK.00005", "HK.00001", "HK.00002"
NEXT_DAY, DAY_BEFORE = "20261123", "20261119"


def stored(first: int, last: int, *, day: str = DAY, head_known: bool = False) -> StoredTrack:
    """What a file holds of ``SYMBOL``."""
    return StoredTrack(day, CounterRanges([(first, last)]), tick(last, day=day).seq or 0, head_known=head_known)


def heads(continuity: Watched) -> list[int]:
    return [fact.first_counter for fact in continuity.facts if isinstance(fact, HeadProven)]


def interruptions(continuity: Watched) -> list[int]:
    return [fact.last_seq for fact in continuity.facts if isinstance(fact, Interrupted)]


# --- where it begins, and begins again ---


def test_symbols_that_were_looked_for_are_followed_though_no_file_has_them() -> None:
    continuity = Watched()
    continuity.seed({}, [SYMBOL])
    continuity.tell_left_over([tick(3)])
    assert unproven(continuity) == [], "an answer will show them together with what comes"
    assert interruptions(continuity) == [tick(3).seq]


def test_what_the_files_have_of_a_new_symbol_says_nothing_of_an_earlier_connection() -> None:
    continuity = Watched()
    continuity.connected()
    continuity.seed_new({OTHER: stored(1, 9)})
    continuity.push(4, 5)
    continuity.pull([tick(4), tick(5)])
    assert heads(continuity) == [4]


def test_a_symbol_that_nobody_wants_any_more_is_not_followed_and_keeps_no_other_one_from_it() -> None:
    continuity = Watched()
    continuity.seed({OTHER: replace(stored(1, 9), is_wanted=False), SYMBOL: stored(1, 9, head_known=True)})
    continuity.push(12)
    assert [hole.symbol for hole in continuity.holes()] == [SYMBOL]
    continuity.tell_left_over([tick(10, OTHER)])
    assert unproven(continuity) == [NOT_JOINED]


def test_numbers_that_were_skipped_before_the_start_count_no_loss_of_any_symbol() -> None:
    continuity = Watched()
    continuity.seed({OTHER: replace(stored(1, 9, head_known=True), distrust=NUMBERS_SKIPPED)})
    continuity.push(1, 5)
    assert not continuity.give_up(continuity.holes()[0], 7)
    assert [fact for fact in continuity.facts if fact.symbol == SYMBOL] == [Unproven(SYMBOL, DAY, NUMBERS_SKIPPED)]


def test_numbers_that_were_skipped_on_an_earlier_day_are_a_loss_today() -> None:
    continuity = Watched()
    continuity.seed(
        {
            OTHER: replace(stored(1, 9, day=DAY_BEFORE, head_known=True), distrust=NUMBERS_SKIPPED),
            SYMBOL: stored(1, 9, head_known=True),
        }
    )
    continuity.push(12)
    assert continuity.give_up(continuity.holes()[0], 7)
    assert isinstance(continuity.facts[-1], GapFound)


@pytest.mark.parametrize(
    ("held", "is_ours"),
    [((5, 10), True), ((5, 7), True), ((6, 10), True), ((3, 7), False), ((7, 12), False), ((1, 3), False)],
)
def test_a_file_that_is_read_late_leaves_the_beginning_open_unless_all_of_it_is_ours(
    held: tuple[int, int], is_ours: bool
) -> None:
    """Whoever had the other ticks knew more of OpenD than we do."""
    continuity = Watched()
    continuity.seed({}, [SYMBOL], {DAY})
    continuity.connected()
    continuity.push(*range(5, 11))
    continuity.resync({SYMBOL: stored(*held)})
    first = min(held[0], 5)
    continuity.pull([tick(n) for n in range(first, 14)])
    assert heads(continuity) == ([first] if is_ours or first == 1 else [])


def test_a_file_of_another_day_is_not_ours_whatever_its_counters_are() -> None:
    continuity = Watched()
    continuity.seed({}, [SYMBOL], {DAY, NEXT_DAY})
    continuity.connected()
    continuity.push(*range(1, 11))
    continuity.resync({SYMBOL: stored(4, 7, day=NEXT_DAY)})
    continuity.pull([tick(n, day=NEXT_DAY) for n in range(4, 9)])
    assert heads(continuity) == []


def test_of_a_day_that_nobody_has_read_an_interruption_is_told_once_and_again_after_the_next_look() -> None:
    continuity = Watched()
    continuity.seed({}, [SYMBOL], {DAY})
    for _ in range(2):
        continuity.tell_interruptions([tick(1), tick(2)])
    continuity.tell_interruptions([tick(1, OTHER)])
    continuity.tell_interruptions([tick(1, day=NEXT_DAY)])
    unknown = [Interrupted(SYMBOL, DAY, UNKNOWN_SEQ), Interrupted(OTHER, DAY, UNKNOWN_SEQ)]
    assert continuity.facts == unknown
    continuity.resync({}, {DAY})
    continuity.tell_interruptions([tick(3)])
    assert continuity.facts == [*unknown, unknown[0]]
    continuity.resync({}, {NEXT_DAY})
    continuity.tell_interruptions([tick(4)])
    assert continuity.facts == [*unknown, unknown[0]]


def test_rows_left_over_of_a_day_that_nobody_has_read_follow_an_interruption_too() -> None:
    continuity = Watched()
    continuity.seed({}, [SYMBOL], {DAY})
    continuity.tell_left_over([tick(3)])
    assert interruptions(continuity) == [UNKNOWN_SEQ, tick(3).seq]


def test_while_a_days_file_is_unread_its_beginning_is_not_proven() -> None:
    for unread_days, proven in (({DAY}, []), (set[str](), [1])):
        continuity = Watched()
        continuity.seed({}, [SYMBOL], unread_days)
        continuity.pull([tick(1), tick(2)])
        assert heads(continuity) == proven
        continuity = Watched()
        continuity.resync({}, unread_days)
        continuity.pull([tick(1), tick(2)])
        assert heads(continuity) == proven


def test_a_file_that_is_gone_takes_the_proven_beginning_with_it() -> None:
    continuity = Watched()
    continuity.push(1, 2, 3)
    continuity.pull([tick(1), tick(2), tick(3)])
    assert not continuity.wants_whole(SYMBOL)
    continuity.resync({})
    assert continuity.wants_whole(SYMBOL)
    continuity.pull([tick(1), tick(2), tick(3)])
    assert heads(continuity) == [1, 1]


def test_a_file_that_is_there_keeps_its_proven_beginning() -> None:
    continuity = Watched()
    continuity.push(1, 2, 3)
    continuity.resync({SYMBOL: stored(1, 3, head_known=True)})
    continuity.pull([tick(2), tick(3)], asked_rows=50)
    assert not continuity.wants_whole(SYMBOL)


def test_pushes_that_only_the_file_knows_of_are_compared_after_a_resync() -> None:
    continuity = Watched()
    continuity.seed({}, [SYMBOL])
    continuity.resync({SYMBOL: replace(stored(1, 3), witnesses=(tick(1), tick(2), tick(3)))})
    continuity.pull([tick(n)._replace(seq=SECOND << 32 | n + 7000) for n in (1, 2, 3)])
    assert unproven(continuity) == [PUSH_PULL_DISAGREE]


def test_a_day_that_the_file_distrusts_is_distrusted_after_a_resync() -> None:
    continuity = Watched()
    continuity.seed({}, [SYMBOL])
    continuity.resync({SYMBOL: replace(stored(1, 3), distrust=COUNTER_WENT_BACK)})
    assert continuity.distrusted([SYMBOL, OTHER]) == {SYMBOL: 0}
    assert continuity.distrusted_symbols == 1


def test_a_doubt_outlives_any_number_of_lost_files_and_is_said_once_for_each() -> None:
    continuity = Watched()
    continuity.push(1)
    assert not continuity.observe_unread([RejectedTick(SYMBOL, "bad", {}, tick(1).recv_ts_ms, RejectCode.TIME)])
    for lost_files in range(3):
        assert unproven(continuity) == [UNREAD_TICK] * (1 + lost_files)
        continuity.resync({})
    continuity.resync({SYMBOL: replace(stored(1, 1), distrust=UNREAD_TICK)})
    assert unproven(continuity) == [UNREAD_TICK] * 4, "that file has it"


def test_a_resync_that_has_nothing_to_say_says_nothing() -> None:
    calls: list[int] = []
    continuity = Watched()
    continuity._facts = lambda facts: calls.append(len(facts))
    continuity.push(1, 2)
    continuity.resync({})
    continuity.connected()
    continuity.pull([])
    assert calls == []


# --- what the files had at the start, and whether OpenD still shows it ---


def of_other(symbol: str, last: int, interrupted: int = 0) -> StoredTrack:
    """Ticks 1..``last`` of another symbol, and an interruption behind one of them."""
    return StoredTrack(
        DAY,
        CounterRanges([(1, last)]),
        tick(last, symbol).seq or 0,
        head_known=True,
        interrupted_seq=(tick(interrupted, symbol).seq or 0) if interrupted else 0,
    )


def begun_with(*others: tuple[str, int, int]) -> Watched:
    continuity = Watched()
    continuity.seed({symbol: of_other(symbol, last, interrupted) for symbol, last, interrupted in others}, [SYMBOL])
    continuity.connected()
    return continuity


def proves_beginning(continuity: Watched) -> bool:
    """Does an answer of all that OpenD shows of ``SYMBOL``, from its fourth tick on?"""
    continuity.pull([tick(4), tick(5)])
    return heads(continuity) == [4]


def show(continuity: Watched, symbol: str, first: int, last: int) -> None:
    question = continuity.ask(symbol, 1000, 5)
    continuity.take(Answer(question, [tick(n, symbol) for n in range(first, last + 1)], (), tick(last).recv_ts_ms))


def test_a_beginning_is_proven_when_some_symbol_shows_what_the_files_had() -> None:
    continuity = begun_with((OTHER, 50, 0))
    assert not proves_beginning(continuity)
    show(continuity, OTHER, 40, 51)
    assert proves_beginning(continuity)


def test_what_was_pushed_on_an_earlier_connection_has_to_be_shown_likewise() -> None:
    continuity = Watched()
    continuity.connected()
    continuity.observe_push([tick(n, OTHER) for n in range(1, 51)], 1.0)
    continuity.connected()
    assert not proves_beginning(continuity)
    show(continuity, OTHER, 40, 51)
    assert proves_beginning(continuity)


def test_without_anything_in_the_files_of_the_day_there_is_nothing_to_be_shown() -> None:
    continuity = Watched()
    continuity.seed({OTHER: replace(of_other(OTHER, 50), trading_day=DAY_BEFORE)}, [SYMBOL])
    continuity.connected()
    assert proves_beginning(continuity)


@pytest.mark.parametrize(
    ("shown", "proven"),
    [
        ((OTHER, 30, 50), True),  # over its own break
        ((OTHER, 45, 50), False),  # what came after it
        ((THIRD, 40, 50), False),  # no break of its own, and nothing of before the other one's
        ((FOURTH, 10, 20), True),  # all of it is of before
    ],
)
def test_a_break_that_nobody_bridged_wants_something_of_before_it(shown: tuple[str, int, int], proven: bool) -> None:
    continuity = begun_with((OTHER, 50, 30), (THIRD, 50, 0), (FOURTH, 20, 0))
    assert not proves_beginning(continuity)
    show(continuity, *shown)
    assert proves_beginning(continuity) == proven


def test_what_a_file_that_is_read_late_tells_of_a_symbol_that_nobody_wants_counts() -> None:
    continuity = Watched()
    continuity.seed({}, [SYMBOL], {DAY})
    continuity.connected()
    continuity.resync({OTHER: replace(of_other(OTHER, 50, 30), is_wanted=False)})
    assert not proves_beginning(continuity)
    continuity.tell_left_over([tick(60, OTHER)])
    assert unproven(continuity) == [NOT_JOINED], "it is not followed"


def test_what_a_file_of_another_day_tells_counts_for_that_day() -> None:
    continuity = Watched()
    continuity.seed({}, [OTHER], {DAY, NEXT_DAY})
    continuity.connected()
    continuity.observe_push([tick(n, OTHER) for n in range(1, 11)], 1.0)
    continuity.resync({OTHER: replace(of_other(OTHER, 7), trading_day=NEXT_DAY)})
    continuity.pull([tick(4, day=NEXT_DAY), tick(5, day=NEXT_DAY)])
    assert heads(continuity) == []


# --- what a resync keeps ---


def test_what_the_file_has_is_followed_from_its_end_after_the_start() -> None:
    continuity = Watched()
    continuity.seed({SYMBOL: stored(1, 3)})
    assert continuity.untold == {SYMBOL}
    continuity.tell_interruptions([tick(4)])
    assert interruptions(continuity) == [tick(3).seq]


def test_the_end_of_what_we_had_is_a_break_within_what_the_file_has() -> None:
    continuity = Watched()
    continuity.push(1, 2, 3)
    continuity.resync({SYMBOL: stored(1, 5)})
    continuity.tell_interruptions([tick(6)])
    assert interruptions(continuity) == [tick(3).seq, tick(5).seq]


def test_the_end_of_what_we_had_is_none_behind_what_the_file_has() -> None:
    continuity = Watched()
    continuity.push(1, 2, 3)
    continuity.resync({SYMBOL: stored(1, 1)})
    continuity.tell_interruptions([tick(6)])
    assert interruptions(continuity) == [tick(1).seq]


def test_rows_that_others_added_leave_no_beginning_open_where_the_file_was_known() -> None:
    continuity = Watched()
    continuity.connected()
    continuity.push(4, 5)
    continuity.resync({SYMBOL: stored(3, 5)})
    continuity.pull([tick(3), tick(4), tick(5)])
    assert heads(continuity) == [3]


@pytest.mark.parametrize("is_connected", [True, False])
def test_a_beginning_that_an_earlier_process_left_open_stays_open_over_a_resync(is_connected: bool) -> None:
    continuity = Watched()
    continuity.seed({SYMBOL: stored(3, 5)})
    if is_connected:
        continuity.connected()
    continuity.resync({SYMBOL: stored(3, 5)})
    continuity.pull([tick(n) for n in range(3, 7)])
    assert heads(continuity) == []


def test_that_push_and_pull_agreed_outlives_a_resync_though_no_push_is_shown_again() -> None:
    continuity = Watched()
    continuity.push(*range(1, 30))
    continuity.pull([tick(n) for n in range(1, 30)])
    continuity.resync({SYMBOL: stored(1, 10, head_known=True)})
    continuity.pull([tick(n) for n in range(40, 46)], asked_rows=6, at_ms=70_000)
    assert Verified(SYMBOL, DAY, 45, 70_000) in continuity.facts


def test_pushes_of_before_a_resync_are_compared_after_it() -> None:
    continuity = Watched()
    continuity.push(1, 2, 3)
    continuity.resync({SYMBOL: stored(1, 3)})
    continuity.pull([tick(n)._replace(seq=SECOND << 32 | n + 7000) for n in (1, 2, 3)])
    assert unproven(continuity) == [PUSH_PULL_DISAGREE]


def test_what_only_the_file_knows_of_the_same_day_is_taken_over() -> None:
    continuity = Watched()
    continuity.seed({SYMBOL: stored(1, 3), OTHER: of_other(OTHER, 3)})
    continuity.resync(
        {
            SYMBOL: replace(stored(1, 3), witnesses=(tick(1), tick(2), tick(3))),
            OTHER: replace(of_other(OTHER, 3), distrust=COUNTER_WENT_BACK),
        }
    )
    assert continuity.distrusted([SYMBOL, OTHER]) == {OTHER: 0}
    continuity.pull([tick(n)._replace(seq=SECOND << 32 | n + 7000) for n in (1, 2, 3)])
    assert unproven(continuity) == [PUSH_PULL_DISAGREE]


def test_a_distrust_that_todays_file_does_not_know_outlives_a_resync() -> None:
    continuity = Watched()
    continuity.observe_push([tick(1), tick(2)._replace(seq=None)], 1.0)
    continuity.resync({SYMBOL: stored(1, 1)})
    assert continuity.distrusted([SYMBOL]) == {SYMBOL: 2}
    assert continuity.distrusted_symbols == 1


# --- what is told before ticks are handed over ---


def test_a_late_tick_of_an_earlier_day_tells_of_no_interruption_of_today() -> None:
    continuity = Watched()
    continuity.push(1, 2)
    continuity.connected()
    continuity.tell_interruptions([tick(950, day=DAY_BEFORE)])
    assert continuity.facts == []
    continuity.tell_interruptions([tick(3)])
    assert interruptions(continuity) == [tick(2).seq]


def test_a_symbol_that_is_subscribed_again_follows_an_interruption_and_no_other_one_does() -> None:
    continuity = Watched()
    continuity.push(1, 2)
    continuity.observe_push([tick(1, OTHER)], 1.0)
    continuity.interrupted([SYMBOL])
    continuity.tell_interruptions([tick(3), tick(2, OTHER)])
    assert continuity.facts == [Interrupted(SYMBOL, DAY, tick(2).seq or 0)]


def test_what_was_told_needs_no_second_look() -> None:
    continuity = Watched()
    continuity.push(1, 2)
    continuity.connected()
    assert continuity.untold == {SYMBOL}
    continuity.tell_interruptions([tick(3)])
    assert continuity.untold == set()
    continuity.interrupted([SYMBOL])
    assert continuity.untold == set(), "nothing came since"


def test_an_answer_tells_of_a_day_that_nobody_has_read_and_of_an_interruption_that_it_bridges() -> None:
    continuity = Watched()
    continuity.seed({}, [SYMBOL], {DAY})
    continuity.pull([tick(1), tick(2)])
    assert interruptions(continuity) == [UNKNOWN_SEQ]
    continuity = Watched()
    continuity.push(1, 2)
    continuity.connected()
    continuity.pull([tick(1), tick(2), tick(3)])
    assert continuity.untold == set()


def test_what_rows_left_over_tell_needs_no_second_look_either() -> None:
    continuity = Watched()
    continuity.seed({SYMBOL: stored(1, 3)})
    continuity.tell_left_over([tick(9)])
    assert interruptions(continuity) == [tick(3).seq, tick(9).seq]
    assert continuity.untold == set()


def test_the_interruption_follows_the_tick_with_the_highest_second() -> None:
    """Not the one with the highest counter: seconds may be stale."""
    continuity = Watched()
    continuity.observe_push([tick(1, second=SECOND + 9), tick(2, second=SECOND + 7)], 1.0)
    continuity.connected()
    continuity.tell_interruptions([tick(3)])
    assert interruptions(continuity) == [tick(1, second=SECOND + 9).seq]


def test_a_push_under_another_number_than_the_answer_before_it_is_known_before_it_is_stored() -> None:
    continuity = Watched()
    continuity.pull([tick(n) for n in range(1, 6)])
    pushed = tick(5)._replace(seq=SECOND << 32 | 7005)
    continuity.tell_interruptions([tick(5, OTHER), pushed])
    assert (continuity.unkeyed, continuity.distrusted_symbols) == ({SYMBOL: DAY}, 1)
    assert unproven(continuity) == [PUSH_PULL_DISAGREE]
    continuity.tell_interruptions([pushed])
    assert unproven(continuity) == [PUSH_PULL_DISAGREE]


def test_rows_left_over_without_a_sequence_follow_nothing() -> None:
    continuity = Watched()
    continuity.push(5, 6)
    continuity.tell_left_over([tick(4)._replace(seq=None)])
    assert continuity.facts == []


def test_rows_left_over_of_todays_followed_symbols_are_no_doubt() -> None:
    continuity = Watched()
    continuity.push(5, 6)
    continuity.tell_left_over([tick(4), tick(9, OTHER), tick(900, day=DAY_BEFORE)])
    assert [fact for fact in continuity.facts if isinstance(fact, Unproven)] == [
        Unproven(OTHER, DAY, NOT_JOINED),
        Unproven(SYMBOL, DAY_BEFORE, NOT_JOINED),
    ]
    assert interruptions(continuity) == [tick(4).seq]
    assert continuity.untold == set()


# --- what comes ---


def test_the_next_number_on_another_day_is_none_of_this_days_count() -> None:
    continuity = Watched()
    continuity.push(1, 2)
    continuity.observe_push([tick(3, day=NEXT_DAY, second=SECOND + 3 * 86_400)], 2.0)
    assert continuity.ask(SYMBOL, 1000, 5).day == NEXT_DAY


def test_the_first_push_after_the_files_were_lost_begins_the_day_anew() -> None:
    continuity = Watched()
    continuity.push(1, 2)
    continuity.resync({})
    assert not continuity.push(7)
    assert continuity.holes() == []
    assert continuity.push(9)
    assert [(hole.first, hole.last) for hole in continuity.holes()] == [(8, 8)]


def test_the_number_before_the_newest_one_is_no_next_one_however_late_it_is() -> None:
    continuity = Watched()
    continuity.observe_push([tick(5), tick(4, second=SECOND + 500)], 1.0)
    assert unproven(continuity) == [COUNTER_WENT_BACK]


def test_a_late_tick_of_an_earlier_day_wants_no_answer_of_today() -> None:
    continuity = Watched()
    continuity.seed({SYMBOL: stored(1, 3, head_known=True)})
    continuity.observe_push([tick(950, day=DAY_BEFORE)], 2.0)
    assert continuity.unconfirmed([SYMBOL]) == []
    continuity.push(4)
    assert continuity.unconfirmed([SYMBOL]) == [SYMBOL]


def test_pushed_rows_are_counted_by_symbol() -> None:
    continuity = Watched()
    continuity.push(1, 2, 3)
    continuity.observe_push([tick(1, OTHER), tick(9, OTHER)], 1.0)
    assert continuity.pushed_rows() == {SYMBOL: 3, OTHER: 2}


def test_a_symbol_is_not_quiet_at_the_moment_of_its_last_tick_nor_after_a_pull_brought_one() -> None:
    continuity = Watched()
    continuity.push(1, at=90.0)
    assert continuity.quiet_symbols([SYMBOL, OTHER], 90.0) == [OTHER]
    continuity.touch(OTHER, 95.0)
    assert continuity.quiet_symbols([SYMBOL, OTHER], 95.0) == [SYMBOL]


def test_an_unreadable_push_is_a_hole_that_a_pull_may_fill() -> None:
    continuity = Watched()
    continuity.push(1)
    assert continuity.observe_unread([RejectedTick(SYMBOL, "bad", {"sequence": tick(2).seq}, 0, RejectCode.TIME)])
    assert continuity.has_holes
    continuity.pull([tick(1), tick(2)])
    assert not continuity.has_holes


def test_a_hole_of_a_day_that_is_over_is_missing_when_it_is_given_up() -> None:
    continuity = Watched()
    continuity.push(1, 5)
    (hole,) = continuity.holes()
    continuity.observe_push([tick(1, day=NEXT_DAY)], 2.0)
    assert continuity.give_up(hole, 77)
    assert continuity.facts[-1] == GapFound(SYMBOL, DAY, 2, 4, 77, "not shown by OpenD")
    assert not continuity.has_holes


def test_holes_are_told_in_the_order_in_which_their_symbols_got_one() -> None:
    continuity = Watched()
    continuity.observe_push([tick(1, OTHER), tick(1), tick(3, OTHER), tick(3), tick(4, OTHER)], 1.0)
    assert [hole.symbol for hole in continuity.holes()] == [OTHER, SYMBOL]


def test_an_answer_of_a_symbol_without_sequences_is_handed_on_whole() -> None:
    continuity = Watched()
    continuity.observe_push([tick(1), tick(2)._replace(seq=None)], 1.0)
    assert unproven(continuity) == [NO_SEQUENCE]
    rows = [tick(1), tick(2)._replace(seq=None)]
    assert continuity.take(Answer(continuity.ask(SYMBOL, 1000, 5), rows, (), 5)).ticks == rows
