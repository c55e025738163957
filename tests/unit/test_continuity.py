"""Holes are found on arrival, a pull hides nothing, trust is earned: against a plain set as the model."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hk_tick_collector.core.facts import (
    COUNTER_WENT_BACK,
    NO_SEQUENCE,
    NOT_COUNTING,
    PUSH_PULL_DISAGREE,
    Fact,
    GapFound,
    HeadProven,
    StoredTrack,
    Unproven,
    Verified,
)
from hk_tick_collector.core.ranges import CounterRanges
from hk_tick_collector.market.hk.sessions import day_start_ms
from hk_tick_collector.records.tick import Tick, seq_counter
from hk_tick_collector.sources.continuity import Continuity
from hk_tick_collector.sources.futu import spec
from hk_tick_collector.sources.holes import MID_SESSION, Hole
from hk_tick_collector.sources.pulled import Answer
from hk_tick_collector.sources.source import PullLimits, SourceSpec
from hk_tick_collector.sources.track import MAX_RANGES

SECOND = 1_795_138_200
DAY = "20261120"
DAY_MS = day_start_ms(DAY) + 10 * 3_600_000  # in the morning


def tick(counter: int, symbol: str = "HK.00700", day: str = DAY, second: int | None = None, price: float = 1.0) -> Tick:
    """A tick whose second grows with its counter, as OpenD's do."""
    seq = (SECOND + counter // 10 if second is None else second) << 32 | counter
    return Tick(
        symbol, SECOND * 1000 + counter, price, 100, 100.0, "BUY", seq, "AUTO_MATCH", "push", day,
        day_start_ms(day) + 10 * 3_600_000, None, None, None,
    )  # fmt: skip


class Watched(Continuity):
    """A continuity whose facts are kept."""

    def __init__(self, source: SourceSpec = spec.HK) -> None:
        self.facts: list[Fact] = []
        super().__init__(self.facts.extend, source)

    def push(self, *counters: int, at: float = 1.0) -> bool:
        return self.observe_push([tick(counter) for counter in counters], at)

    def pull(self, ticks: Iterable[Tick], asked_rows: int = 1000, at_ms: int = 5) -> list[Tick]:
        """What the store has to see of an answer for HK.00700."""
        rows = list(ticks)
        question = self.ask("HK.00700", asked_rows, at_ms)
        return self.take(Answer(question, rows, (), rows[-1].recv_ts_ms if rows else at_ms)).ticks


def counters(ticks: Iterable[Tick]) -> list[int]:
    return [seq_counter(tick.seq) for tick in ticks if tick.seq is not None]


def test_in_order_makes_no_hole() -> None:
    continuity = Watched()
    assert not continuity.push(*range(5, 200))
    assert continuity.holes() == []


def test_a_step_is_a_hole_of_known_size_and_closes() -> None:
    continuity = Watched()
    assert continuity.push(1, 2, 6)
    assert continuity.holes() == [Hole("HK.00700", DAY, 3, 5, 6)]
    assert (continuity.holes()[0].missing_rows, continuity.holes()[0].rows_back) == (3, 4)
    assert {3, 4, 5} <= set(counters(continuity.pull(map(tick, range(1, 7)))))
    assert not continuity.has_holes


def test_a_hole_in_front_of_a_pull_is_seen_too() -> None:
    continuity = Watched()
    continuity.push(1, 2)
    continuity.pull(map(tick, range(120, 220)), asked_rows=100)
    assert continuity.holes() == [Hole("HK.00700", DAY, 3, 119, 219)]


def test_out_of_order_pushes_close_their_own_hole() -> None:
    continuity = Watched()
    continuity.push(1, 3, 2, 5, 4)
    assert continuity.holes() == []


def test_poll_brings_back_a_tick_older_than_the_newest() -> None:
    """Earlier recorders dropped everything at or below the newest sequence, so a hole could never be filled."""
    continuity = Watched()
    continuity.push(1, 2, 4)
    assert counters(continuity.pull([tick(3), tick(4)])) == [3, 4]


def test_the_store_decides_about_the_first_answer_of_a_connection_and_repeats_are_left_out_later() -> None:
    continuity = Watched()
    continuity.push(*range(1, 50))
    assert counters(continuity.pull(map(tick, range(10, 50)))) == list(range(10, 50))
    continuity.push(50, 51)
    assert counters(continuity.pull(map(tick, range(20, 53)))) == [52]
    continuity.connected()
    assert counters(continuity.pull(map(tick, range(40, 53)))) == list(range(40, 53))


def test_a_new_day_starts_over_and_a_late_tick_of_the_old_day_is_no_hole() -> None:
    continuity = Watched()
    continuity.push(900, 901)
    continuity.observe_push([tick(1, day="20261123"), tick(2, day="20261123")], 2.0)
    assert not continuity.observe_push([tick(950)], 3.0)
    assert continuity.holes() == []
    assert tick(951) in continuity.pull([tick(951)])


def seeded(first: int, last: int) -> Watched:
    continuity = Watched()
    continuity.seed(
        {"HK.00700": StoredTrack(DAY, CounterRanges([(first, last)]), tick(last).seq or 0, head_known=True)}
    )
    return continuity


def test_the_seed_makes_a_restart_hole_visible() -> None:
    continuity = seeded(1, 100)
    assert continuity.push(105)
    assert continuity.holes() == [Hole("HK.00700", DAY, 101, 104, 105)]


def test_a_hole_in_the_file_is_looked_at_again_unless_it_stands_in_gaps() -> None:
    stored = CounterRanges([(1, 10), (15, 20), (30, 40)])
    continuity = Watched()
    continuity.seed({"HK.00700": StoredTrack(DAY, stored, tick(40).seq or 0, True, in_gaps=((11, 14),))})
    assert continuity.holes() == [Hole("HK.00700", DAY, 21, 29, 40)]


def test_resync_asks_again_for_what_the_files_do_not_hold() -> None:
    continuity = Watched()
    continuity.push(*range(1, 30))
    continuity.pull(map(tick, range(1, 30)))
    assert continuity.pull(map(tick, range(20, 30))) == []
    continuity.resync({"HK.00700": StoredTrack(DAY, CounterRanges([(1, 10)]), tick(10).seq or 0, True)})
    assert counters(continuity.pull(map(tick, range(5, 30)))) == list(range(5, 30))
    continuity.resync({})
    assert counters(continuity.pull(map(tick, range(5, 30)))) == list(range(5, 30))


def test_what_push_and_pull_agreed_on_is_not_forgotten_by_a_resync() -> None:
    """After the close nothing is pushed any more that could show it again."""
    continuity = Watched()
    continuity.push(*range(1, 30))
    continuity.pull(map(tick, range(1, 30)), at_ms=5)
    continuity.resync({"HK.00700": StoredTrack(DAY, CounterRanges([(1, 10)]), tick(10).seq or 0, True)})
    continuity.pull(map(tick, range(1, 30)), at_ms=70_000)
    assert Verified("HK.00700", DAY, 29, 70_000) in continuity.facts


def test_what_is_pushed_while_an_empty_answer_is_under_way_was_not_forgotten() -> None:
    """Else one symbol's first tick of the day would take the proof of the beginning from all others."""
    continuity = Watched()
    continuity.connected()
    question = continuity.ask("HK.00005", 1000, DAY_MS)
    continuity.observe_push([tick(1, "HK.00005")], 1.0)
    continuity.take(Answer(question, [], (), DAY_MS))
    continuity.push(1)
    continuity.pull([tick(1)], at_ms=DAY_MS + 1)
    assert HeadProven("HK.00700", DAY, 1) in continuity.facts


def test_resync_with_a_file_of_the_day_before_begins_the_day_anew() -> None:
    """Today's file is gone, so the files end with yesterday's."""
    continuity = Watched()
    continuity.push(*range(1, 30))
    continuity.pull(map(tick, range(1, 30)))
    yesterday = StoredTrack("20261119", CounterRanges([(1, 900)]), tick(900, day="20261119").seq or 0, True)
    continuity.resync({"HK.00700": yesterday})
    assert counters(continuity.pull(map(tick, range(5, 30)))) == list(range(5, 30))
    assert continuity.push(40), "and today's counters go on from what the answer showed"
    assert [(hole.trading_day, hole.first, hole.last) for hole in continuity.holes()] == [(DAY, 30, 39)]


def test_a_distrust_of_today_outlives_a_resync_without_todays_file() -> None:
    continuity = Watched()
    continuity.push(1)
    continuity.observe_push([tick(2)._replace(seq=None)], 1.0)
    assert unproven(continuity) == [NO_SEQUENCE]
    yesterday = StoredTrack("20261119", CounterRanges([(1, 900)]), tick(900, day="20261119").seq or 0, True)
    continuity.resync({"HK.00700": yesterday})
    assert unproven(continuity) == [NO_SEQUENCE] * 2, "said again: the file that had it is gone"
    assert continuity.distrusted_symbols == 1


def test_resync_learns_of_symbols_that_are_new_to_it() -> None:
    continuity = Watched()
    continuity.resync({"HK.00700": StoredTrack(DAY, CounterRanges([(1, 10)]), tick(10).seq or 0, True)})
    assert continuity.push(15)
    assert [(hole.first, hole.last) for hole in continuity.holes()] == [(11, 14)]


def test_an_index_within_the_second_is_distrusted_at_the_first_answer() -> None:
    continuity = Watched()
    answer = [tick(n % 3, second=SECOND + n // 3) for n in range(9)]
    assert continuity.pull(answer) == answer
    assert unproven(continuity) == [COUNTER_WENT_BACK]


def test_after_a_restart_overlap_proves_that_nothing_is_missing_between() -> None:
    continuity = seeded(1, 100)
    assert set(counters(continuity.pull(map(tick, range(50, 131)), asked_rows=81))) >= set(range(101, 131))
    assert continuity.holes() == []
    assert unproven(continuity) == []


def test_pushes_that_are_ahead_of_an_answer_do_not_make_it_all_news() -> None:
    continuity = seeded(1, 100)
    continuity.push(*range(101, 111))
    question = continuity.ask("HK.00700", 1000, 5)
    assert continuity.take(Answer(question, list(map(tick, range(50, 106))), (), 5)).new_rows == 0


def test_two_symbols_may_carry_the_same_sequence() -> None:
    continuity = Watched()
    continuity.push(1, 2)
    other = [tick(1, "HK.00005"), tick(2, "HK.00005")]
    assert continuity.take(Answer(continuity.ask("HK.00005", 1000, 5), other, (), 5)).ticks == other


def test_a_hole_given_up_becomes_a_gap_and_is_taken_if_it_comes_after_all() -> None:
    continuity = Watched()
    continuity.push(1, 9)
    continuity.give_up(continuity.holes()[0], 77)
    assert continuity.facts[-1] == GapFound("HK.00700", DAY, 2, 8, 77, "not shown by OpenD")
    assert not continuity.has_holes
    continuity.push(10, 11)
    assert not continuity.has_holes
    assert set(counters(continuity.pull(map(tick, range(5, 12))))) >= {5, 6, 7, 8}


# --- trust ---


def unproven(continuity: Watched) -> list[str]:
    return [fact.reason for fact in continuity.facts if isinstance(fact, Unproven)]


def test_agreement_of_push_and_pull_is_a_fact() -> None:
    continuity = Watched()
    continuity.push(1, 2, 3)
    continuity.pull(map(tick, [1, 2, 3]), at_ms=99)
    assert continuity.facts == [Verified("HK.00700", DAY, 3, 99), HeadProven("HK.00700", DAY, 1)]


def test_without_a_common_tick_nothing_is_verified() -> None:
    continuity = Watched()
    continuity.pull(map(tick, [1, 2, 3]))
    assert not [fact for fact in continuity.facts if isinstance(fact, Verified)]


def test_the_head_is_proven_only_when_all_was_shown() -> None:
    continuity = Watched()
    continuity.pull(map(tick, range(501, 601)), asked_rows=100)
    assert continuity.facts == []
    continuity.pull(map(tick, range(400, 601)), asked_rows=1000)
    assert continuity.facts == [HeadProven("HK.00700", DAY, 400)]
    assert not continuity.wants_whole("HK.00700")


def test_an_answer_just_short_of_the_limit_proves_no_head() -> None:
    continuity = Watched()
    continuity.pull(map(tick, range(4004, 5001)), asked_rows=1000)
    assert not [fact for fact in continuity.facts if isinstance(fact, HeadProven)]


def test_an_answer_that_begins_behind_what_we_have_proves_no_head() -> None:
    continuity = seeded(1, 100)
    continuity.seed({"HK.00700": StoredTrack(DAY, CounterRanges([(1, 100)]), tick(100).seq or 0, head_known=False)})
    continuity.pull(map(tick, range(90, 103)), asked_rows=1000)
    assert not [fact for fact in continuity.facts if isinstance(fact, HeadProven)]


def test_yesterdays_ticks_in_front_prove_the_head_as_well() -> None:
    continuity = Watched()
    yesterday = [tick(n, day="20261119", second=SECOND - 86_400) for n in range(900, 999)]
    continuity.pull([*yesterday, tick(4)], asked_rows=100)
    assert continuity.facts == [HeadProven("HK.00700", DAY, 4)]


def test_a_start_in_mid_session_is_a_gap_at_the_head() -> None:
    continuity = Watched()
    continuity.pull(map(tick, range(4001, 5001)), asked_rows=1000, at_ms=7)
    assert continuity.facts == [GapFound("HK.00700", DAY, None, 4000, 7, "recording began in mid-session")]


@pytest.mark.parametrize("seconds_later", [6, 3600])
def test_counters_that_go_back_are_distrusted_and_hide_nothing(seconds_later: int) -> None:
    continuity = Watched()
    continuity.push(*range(1, 50))
    again = [tick(n, second=SECOND + seconds_later + n) for n in range(1, 30)]
    continuity.observe_push(again, 2.0)
    assert unproven(continuity) == [COUNTER_WENT_BACK]
    assert continuity.pull(again) == again


def test_a_stale_second_as_documented_is_no_reason_for_distrust() -> None:
    continuity = Watched()
    continuity.observe_push([tick(1, second=SECOND + 9), tick(2, second=SECOND + 7), tick(1, second=SECOND + 9)], 1.0)
    continuity.observe_push([tick(3, second=SECOND + 9)], 1.0)
    assert unproven(continuity) == []


def test_absent_sequences_are_distrusted() -> None:
    continuity = Watched()
    continuity.observe_push([tick(1), tick(2)._replace(seq=None)], 1.0)
    assert unproven(continuity) == [NO_SEQUENCE]
    assert continuity.pull([tick(1)]) == [tick(1)]


def test_counters_in_many_pieces_do_not_count() -> None:
    continuity = Watched()
    continuity.push(*range(0, (MAX_RANGES + 1) * 10, 10))
    assert unproven(continuity) == [NOT_COUNTING]
    assert continuity.holes() == []


def test_a_pull_under_other_numbers_is_matched_by_content() -> None:
    continuity = Watched()
    continuity.push(1, 2, 3)
    renumbered = [tick(n)._replace(seq=SECOND << 32 | n + 7000) for n in (1, 2, 3)]
    fresh = continuity.pull(renumbered)
    assert unproven(continuity) == [PUSH_PULL_DISAGREE]
    assert [tick.seq for tick in fresh] == [None, None, None]


def test_a_pull_with_another_price_under_the_same_number_disagrees() -> None:
    continuity = Watched()
    continuity.push(1, 2, 3)
    continuity.pull([tick(3, price=9.0)])
    assert unproven(continuity) == [PUSH_PULL_DISAGREE]


def test_a_pull_that_tells_no_milliseconds_agrees() -> None:
    continuity = Watched()
    continuity.push(1, 2, 3)
    cut = [tick(n)._replace(ts_ms=tick(n).ts_ms // 1000 * 1000) for n in (1, 2, 3)]
    assert cut != [tick(n) for n in (1, 2, 3)]
    assert continuity.pull(cut) == cut  # the first answer: the store knows them
    assert (unproven(continuity), continuity.unconfirmed(["HK.00700"])) == ([], [])


def test_a_pull_without_milliseconds_and_under_other_numbers_disagrees() -> None:
    continuity = Watched()
    continuity.push(1, 2, 3)
    continuity.pull([tick(n)._replace(seq=SECOND << 32 | n + 7000, ts_ms=tick(n).ts_ms // 1000 * 1000) for n in (1, 2)])
    assert unproven(continuity) == [PUSH_PULL_DISAGREE]


def twin(counter: int) -> Tick:
    """One of several equal trades of one millisecond."""
    return tick(counter, second=SECOND)._replace(ts_ms=SECOND * 1000)


def test_an_equal_trade_beyond_either_end_of_an_answer_is_another_one() -> None:
    continuity = Watched()
    continuity.observe_push([twin(7), twin(8), twin(9)], 1.0)
    continuity.pull([twin(8)], asked_rows=1)
    assert unproven(continuity) == []
    assert counters(continuity.pull([twin(7), twin(8), twin(9), twin(10)])) == [10]


def test_an_equal_trade_whose_push_is_still_to_come_is_another_one() -> None:
    continuity = Watched()
    continuity.observe_push([twin(6), twin(8)], 1.0)
    assert counters(continuity.pull([twin(7)], asked_rows=1)) == [7]
    assert unproven(continuity) == []


@pytest.mark.parametrize("numbers", [(7007, 7008), (1, 2)])
def test_equal_trades_under_other_numbers_still_disagree(numbers: tuple[int, int]) -> None:
    continuity = Watched()
    continuity.observe_push([twin(7), twin(8)], 1.0)
    continuity.pull([twin(number) for number in numbers])
    assert unproven(continuity) == [PUSH_PULL_DISAGREE]


def test_other_numbers_are_those_of_their_day() -> None:
    """OpenD shows them for as long as it has room; those of the next day are new ones."""
    continuity = Watched()
    continuity.push(1, 2, 3)
    shown = [tick(3, price=9.0)]
    continuity.pull(shown)
    assert continuity.unkeyed == {"HK.00700": DAY}
    continuity.observe_push([tick(1, day="20261123")], 2.0)
    assert [pulled.seq is None for pulled in continuity.pull([*shown, tick(2, day="20261123")])] == [True, False]


def test_distrust_ends_with_the_day_and_is_said_once() -> None:
    continuity = Watched()
    for n in range(5):
        continuity.observe_push([tick(n)._replace(seq=None)], 1.0)
    continuity.observe_push([tick(1, day="20261123"), tick(3, day="20261123")], 2.0)
    assert unproven(continuity) == [NO_SEQUENCE]
    assert continuity.has_holes
    assert continuity.distrusted_symbols == 1
    continuity.observe_push([tick(1, day="20261124")], 3.0)
    assert continuity.distrusted_symbols == 1, "a new day without distrust counts nothing"


def test_quiet_and_active_symbols() -> None:
    continuity = Watched()
    continuity.push(1, 2, 3, at=100.0)
    continuity.observe_push([tick(1, "HK.00005")], 50.0)
    assert continuity.quiet_symbols(["HK.00700", "HK.00005", "HK.00001"], 90.0) == ["HK.00005", "HK.00001"]
    assert continuity.most_active_first(["HK.00001", "HK.00005", "HK.00700"])[:2] == ["HK.00700", "HK.00005"]


@given(st.lists(st.integers(1, 40), min_size=1, max_size=80))
def test_holes_are_exactly_what_a_set_says(seen: list[int]) -> None:
    continuity = Watched()
    for counter in seen:
        continuity.push(counter)
    missing = set(range(min(seen), max(seen))) - set(seen)
    told = {counter for hole in continuity.holes() for counter in range(hole.first, hole.last + 1)}
    assert told == missing


@given(st.lists(st.integers(1, 40), max_size=40), st.integers(1, 40), st.integers(0, 39))
def test_a_pull_returns_at_least_all_that_is_unknown(seen: list[int], first: int, length: int) -> None:
    continuity = Watched()
    for counter in seen:
        continuity.push(counter)
    fresh = counters(continuity.pull(map(tick, range(first, first + length))))
    assert set(fresh) >= set(range(first, first + length)) - set(seen)


def test_symbols_that_no_pull_has_confirmed_are_told() -> None:
    continuity = Watched()
    symbols = ["HK.00700", "HK.00005"]
    continuity.push(1, 2)
    assert continuity.unconfirmed(symbols) == ["HK.00700"]
    continuity.pull([tick(1), tick(2)])
    assert continuity.unconfirmed(symbols) == []


def test_how_far_an_answer_reaches_is_the_sources() -> None:
    """A source that shows 40 ticks: 40 of them are as many as there ever are, and a hole behind them is past help."""
    shows_40 = replace(spec.HK, pull=PullLimits(newest_rows=40, surely_all_rows=39))
    narrow, wide = Watched(shows_40), Watched()
    for continuity in (narrow, wide):
        continuity.pull(map(tick, range(101, 141)), asked_rows=40)
        continuity.push(181, 182)
    begins_unknown = [fact for fact in narrow.facts if isinstance(fact, GapFound)]
    assert [(fact.first, fact.last, fact.reason) for fact in begins_unknown] == [(None, 100, MID_SESSION)]
    assert not any(isinstance(fact, GapFound) for fact in wide.facts)
    narrow.give_up(narrow.holes()[0], 7)
    wide.give_up(wide.holes()[0], 7)
    reasons = [fact.reason for facts in (narrow.facts, wide.facts) for fact in facts[-1:] if isinstance(fact, GapFound)]
    assert reasons == ["beyond the newest 40", "not shown by OpenD"]


def test_agreement_by_a_small_answer_leaves_the_beginning_to_be_looked_for() -> None:
    continuity = Watched()
    symbols = ["HK.00700"]
    continuity.push(1, 2)
    continuity.pull([tick(2)], asked_rows=50)
    assert not continuity.holes()
    assert continuity.unconfirmed(symbols) == symbols, "a busy symbol's beginning is soon out of sight"
    continuity.pull([tick(1), tick(2)])
    assert continuity.unconfirmed(symbols) == []
    continuity.connected()
    continuity.push(3)
    assert continuity.unconfirmed(symbols) == [], "the beginning is proven"
