"""Sequences that only name ticks: repeats are known, nothing is proven, no number that returns hides a tick."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import pytest

from hk_tick_collector.core.facts import NOT_JOINED, PUSH_PULL_DISAGREE, Fact, StoredTrack, Unproven
from hk_tick_collector.core.ranges import CounterRanges
from hk_tick_collector.market.us import US
from hk_tick_collector.records.tick import Tick
from hk_tick_collector.sources.completeness import completeness_of
from hk_tick_collector.sources.continuity import Continuity
from hk_tick_collector.sources.futu import spec
from hk_tick_collector.sources.holes import MID_SESSION
from hk_tick_collector.sources.identities import RECENT_SEQS, Identities
from hk_tick_collector.sources.pulled import Answer
from hk_tick_collector.sources.source import PullLimits
from tests.unit.sources.desk import tick as hk_tick

SYMBOL = "US.AAPL"
DAY = "20261120"
OPEN_SEC = US.zone.at_ms(DAY, (9 * 60 + 30) * 60_000) // 1000


def us_tick(second: int, index: int = 0, **changed: object) -> Tick:
    """A print so many seconds behind the opening, the ``index``-th of its second."""
    epoch_sec = OPEN_SEC + second
    whole = hk_tick(1)._replace(
        symbol=SYMBOL, ts_ms=epoch_sec * 1000 + index, seq=epoch_sec << 32 | index, trading_day=DAY,
        recv_ts_ms=epoch_sec * 1000 + 400, price=200.0 + second / 100, tick_type="ODD_LOT",
    )  # fmt: skip
    return whole._replace(**changed)  # type: ignore[arg-type]


class Desk:
    def __init__(self) -> None:
        self.facts: list[Fact] = []
        self.identities = Identities(self.facts.extend, spec.US)
        self.identities.seed({}, [SYMBOL])
        self.identities.connected()

    def push(self, *ticks: Tick) -> None:
        self.identities.tell_interruptions(ticks)
        assert not self.identities.observe_push(ticks, 1.0)

    def pull(self, ticks: Sequence[Tick], asked_rows: int = 1000) -> tuple[list[Tick], int]:
        question = self.identities.ask(SYMBOL, asked_rows, ticks[-1].recv_ts_ms if ticks else OPEN_SEC * 1000)
        return tuple(self.identities.take(Answer(question, ticks, (), question.asked_ms)))  # type: ignore[return-value]

    @property
    def doubts(self) -> list[str]:
        assert all(isinstance(fact, Unproven) for fact in self.facts)
        return [fact.reason for fact in self.facts if isinstance(fact, Unproven)]


def test_the_evidence_chooses_the_strategy() -> None:
    assert isinstance(completeness_of(spec.HK, lambda _: None), Continuity)
    assert isinstance(completeness_of(spec.US, lambda _: None), Identities)


def test_low_halves_that_return_every_second_hide_no_tick() -> None:
    """All are 0 on a quiet symbol: taken for counters, every pulled tick would be the first one again."""
    desk = Desk()
    desk.push(us_tick(0), us_tick(1))
    day = [us_tick(second) for second in range(6)]
    taken, new_rows = desk.pull(day)
    assert taken == day[2:]
    assert new_rows == 4
    assert desk.facts == []
    assert desk.identities.distrusted_symbols == 0


def test_what_was_handed_over_is_not_again_and_all_else_is() -> None:
    desk = Desk()
    day = [us_tick(second, index) for second in range(40) for index in range(30)]
    desk.push(*day)
    late = us_tick(20, 99)
    taken, _ = desk.pull([*day[-999:-400], late, *day[-400:]])
    assert taken == [late]
    taken, _ = desk.pull([late, *day[-999:]])
    assert taken == []


def test_memory_is_bounded_and_what_falls_out_goes_to_the_store() -> None:
    desk = Desk()
    day = [us_tick(second, index) for second in range(20) for index in range(100)]
    desk.push(*day)
    taken, _ = desk.pull(day)
    assert taken == day[:-RECENT_SEQS]


def test_after_an_interruption_the_store_decides() -> None:
    desk = Desk()
    day = [us_tick(second) for second in range(5)]
    desk.push(*day)
    desk.identities.interrupted([SYMBOL])
    assert desk.pull(day)[0] == day


def test_an_answer_that_reaches_back_leaves_no_doubt() -> None:
    desk = Desk()
    desk.push(us_tick(0))
    desk.identities.connected()
    desk.pull([us_tick(0), us_tick(1), us_tick(2)])
    assert desk.facts == []


def test_an_answer_that_does_not_reach_back_is_a_doubt() -> None:
    """The busiest minutes: OpenD shows the newest thousand, and they began after the line was lost."""
    desk = Desk()
    desk.push(us_tick(0))
    desk.pull([us_tick(0)])
    desk.identities.connected()
    newest = [us_tick(30 + n // 100, n % 100) for n in range(1000)]
    assert desk.identities.wants_whole(SYMBOL)
    assert desk.pull(newest[-50:], asked_rows=50)[0] == newest[-50:]
    assert desk.doubts == []
    desk.pull(newest)
    desk.pull(newest)
    assert desk.doubts == [NOT_JOINED]
    assert not desk.identities.wants_whole(SYMBOL)


def test_a_start_in_mid_session_is_a_doubt_and_one_before_the_first_tick_is_none() -> None:
    late, early = Desk(), Desk()
    late.pull([us_tick(n // 100, n % 100) for n in range(1000)])
    assert late.doubts == [MID_SESSION]
    friday = [us_tick(-86_400 + n, trading_day="20261119") for n in range(999)]
    early.pull([*friday, us_tick(0)])
    assert early.doubts == []


def test_a_restart_goes_on_where_the_file_ends() -> None:
    desk = Desk()
    stored = StoredTrack(DAY, CounterRanges(), us_tick(5).seq or 0, head_known=False, distrust="no counter")
    desk.identities.seed({SYMBOL: stored})
    desk.pull([us_tick(60 + n // 100, n % 100) for n in range(1000)])
    assert desk.doubts == [NOT_JOINED]


def test_a_trade_under_two_numbers_takes_them_away() -> None:
    """Sequences that differ between push and pull are no names: content tells the ticks apart for that day."""
    desk = Desk()
    pushed = [us_tick(second, 7) for second in range(4)]
    desk.push(*pushed)
    answer = [us_tick(-1), *(tick._replace(seq=(tick.seq or 0) + 1) for tick in pushed), us_tick(9)]
    taken, _ = desk.pull(answer)
    assert desk.doubts == [PUSH_PULL_DISAGREE]
    assert [tick.seq for tick in taken] == [None] * len(answer)
    assert desk.identities.unkeyed == {SYMBOL: DAY}
    later = us_tick(86_400, trading_day="20261123")
    desk.push(later)
    taken, _ = desk.pull([*answer, later, us_tick(86_401, trading_day="20261123")])
    assert [tick.seq is None for tick in taken] == [True] * len(answer) + [False], (
        "that day's, as long as they are shown"
    )


@pytest.mark.parametrize("interruption", ["reconnect", "restart"])
def test_what_was_pushed_before_an_interruption_is_held_against_the_answer_behind_it(interruption: str) -> None:
    """No answer had come before it: the numbers that the store has are those of pushes."""
    desk = Desk()
    pushed = [us_tick(second, 7) for second in range(4)]
    if interruption == "reconnect":
        desk.push(*pushed)
        desk.identities.connected()
    else:
        stored = StoredTrack(
            DAY, CounterRanges(), pushed[-1].seq or 0, head_known=False, distrust="no counter", witnesses=tuple(pushed)
        )
        desk.identities.seed({SYMBOL: stored})
    taken, _ = desk.pull([us_tick(-1), *(tick._replace(seq=(tick.seq or 0) + 1) for tick in pushed), us_tick(9)])
    assert desk.doubts == [PUSH_PULL_DISAGREE]
    assert {tick.seq for tick in taken} == {None}


def test_equal_trades_of_one_moment_are_no_second_number() -> None:
    """Fills of one order: the same price, size and millisecond, each with a number of its own."""
    desk = Desk()
    fills = [us_tick(1, index, ts_ms=(OPEN_SEC + 1) * 1000) for index in range(8)]
    desk.push(*fills[::2])
    taken, _ = desk.pull([us_tick(0), *fills, us_tick(2)])
    assert [tick.seq for tick in taken] == [tick.seq for tick in (us_tick(0), *fills[1::2], us_tick(2))]
    assert desk.facts == []


def test_a_day_that_turns_begins_anew() -> None:
    """At 20:00 the next trading day begins, without an interruption."""
    desk = Desk()
    desk.push(us_tick(0))
    desk.pull([us_tick(0)])
    desk.push(us_tick(37_800, trading_day="20261123"))
    desk.pull([us_tick(37_800 + n // 100, n % 100, trading_day="20261123") for n in range(1000)])
    assert desk.facts == []


def test_every_symbol_is_followed_and_none_has_holes() -> None:
    desk = Desk()
    desk.push(us_tick(0), us_tick(5, 3))
    assert desk.identities.distrusted([SYMBOL]) == {SYMBOL: 2}
    assert (desk.identities.has_holes, desk.identities.holes(), desk.identities.unconfirmed([SYMBOL])) == (
        False,
        [],
        [],
    )


def test_numbers_that_begin_anew_with_the_day_hide_no_tick_of_the_day_before() -> None:
    """Of a running total, for instance: the first trades of two days may have one number."""
    desk = Desk()
    yesterday = us_tick(0, seq=5, trading_day="20261119")
    desk.push(us_tick(1, seq=5))
    assert desk.pull([yesterday, us_tick(1, seq=5)])[0] == [yesterday]
    desk.push(us_tick(86_400 * 3, seq=7, trading_day="20261123"))
    late = us_tick(2, seq=7)
    assert desk.pull([late, us_tick(86_400 * 3, seq=7, trading_day="20261123")])[0] == [late]
    assert desk.pull([us_tick(86_401 * 3, seq=5, trading_day="20261123")])[1] == 1  # nor one of the next


def test_of_no_day_there_is_no_doubt() -> None:
    """A source whose answers never say that they are all there is shows nothing, and nothing is stored."""
    facts: list[Fact] = []
    limited = dataclasses.replace(spec.US, pull=PullLimits(newest_rows=5))
    identities = Identities(facts.extend, limited)
    identities.connected()
    identities.take(Answer(identities.ask(SYMBOL, 5, OPEN_SEC * 1000), (), (), OPEN_SEC * 1000))
    assert not facts
