"""What an answer shows by itself, and what answers show of OpenD's memory."""

from __future__ import annotations

import pytest

from hk_tick_collector.core.errors import RejectCode
from hk_tick_collector.records.tick import RejectedTick
from hk_tick_collector.sources.continuity import Continuity
from hk_tick_collector.sources.futu import spec
from hk_tick_collector.sources.futu.mapping import TickMapper, unread_rows
from hk_tick_collector.sources.memory import BEFORE_BREAK, IN_FILES, SourceMemory
from hk_tick_collector.sources.pulled import Answer, goes_back, sequence_of
from hk_tick_collector.sources.source import UnreadRow
from tests.unit.sources.bench import message_of
from tests.unit.sources.desk import DAY, SYMBOL, YESTERDAY, run, tick


@pytest.mark.parametrize(
    ("counters_and_seconds", "back"),
    [
        ([(1, 0), (2, 1), (3, 2)], False),
        ([(1, 0), (5, 1), (9, 2)], False),
        ([(1, 0), (3, 1), (2, 2), (4, 3)], False),  # sorted by time: 3 is late
        ([(1, 0), (2, 1), (3, 2), (2, 3), (4, 4)], True),  # 2 stands there twice
        ([(1, 0), (1, 0)], True),
        ([(1, 0), (1, 2)], True),
        ([(298, 0), (299, 1), (300, 2), (1, 3), (2, 4)], True),
        ([(4, 0), (5, 1), (6, 2), (1, 60), (2, 61), (3, 62)], True),
        ([(7, 0), *((n, n) for n in range(1, 6))], True),  # what is late follows its predecessor's number
        ([(1, 0), (3, 2), (2, 1), (4, 3)], True),  # in no order at all
    ],
)
def test_counters_that_begin_anew_or_repeat_in_one_answer(
    counters_and_seconds: list[tuple[int, int]], back: bool
) -> None:
    assert goes_back([tick(counter, sec) for counter, sec in counters_and_seconds]) is back


def test_unreadable_rows_are_found_at_their_places() -> None:
    day = run(1, 6)
    messages = [message_of(tick._replace(price=None) if n in (0, 3, 5) else tick) for n, tick in enumerate(day)]
    rejected: list[RejectedTick] = []
    assert len(TickMapper().map_all(SYMBOL, messages, "poll", day[0].recv_ts_ms, rejected)) == 3
    assert unread_rows(messages, rejected) == [UnreadRow(n, day[n].seq or 0) for n in (0, 3, 5)]


@pytest.mark.parametrize(("rows", "first", "begins"), [(49, 37, False), (50, 37, True), (49, 1, True), (1, 1, True)])
def test_fifty_rows_of_yesterday_are_its_end_and_fewer_may_be_late_reports(rows: int, first: int, begins: bool) -> None:
    ticks = [*run(701, 700 + rows, day=YESTERDAY), *run(first, first + 999 - rows)]
    question = Continuity(lambda facts: None, spec.HK).ask(SYMBOL, 1000, ticks[0].recv_ts_ms)
    assert Answer(question, ticks, (), ticks[0].recv_ts_ms).shows_beginning(DAY) is begins


@pytest.mark.parametrize(("told", "seq"), [(7, 7), (0, 0), (-7, 0), ("7", 0), (None, 0)])
def test_a_tick_that_cannot_be_read_may_have_no_number_either(told: object, seq: int) -> None:
    assert sequence_of(RejectedTick(SYMBOL, "bad", {"sequence": told}, 0, RejectCode.TIME)) == seq


class TestMemory:
    """May a short answer be taken for the whole day?"""

    def remembering(self) -> SourceMemory:
        """Ticks of the day were seen on the first connection; the second one is up."""
        memory = SourceMemory()
        memory.connected()
        memory.saw(DAY)
        memory.connected()
        return memory

    def test_on_a_first_start_it_may(self) -> None:
        memory = SourceMemory()
        memory.connected()
        assert memory.holds(DAY, 4001, None)

    def test_after_an_absence_something_of_before_must_be_shown(self) -> None:
        memory = self.remembering()
        assert not memory.holds(DAY, 1, None)
        memory.shows(1)
        assert memory.holds(DAY, 4, 1)

    def test_what_is_shown_of_the_second_connection_says_nothing_of_the_first(self) -> None:
        memory = self.remembering()
        memory.connected()
        memory.shows(2)
        assert not memory.holds(DAY, 4, 1)
        memory.shows(1)
        assert memory.holds(DAY, 4, 1)

    def test_one_symbol_forgotten_outweighs_another_one_remembered(self) -> None:
        memory = self.remembering()
        memory.shows(1)
        memory.forgot(DAY)
        assert not memory.holds(DAY, 4, 1)
        memory.connected()
        memory.shows(1)
        assert not memory.holds(DAY, 4, 1)

    @pytest.mark.parametrize("is_blind", [False, True])
    @pytest.mark.parametrize("unbridged", [False, True])
    def test_what_the_files_held_must_be_shown_as_far_back_as_they_are_whole(
        self, is_blind: bool, unbridged: bool
    ) -> None:
        """Also when they can be read only after ticks of the day were pushed."""
        memory = SourceMemory()
        if is_blind:
            memory.unknown_days = frozenset({DAY})
            memory.connected()
            memory.saw(DAY)
            assert not memory.holds(DAY, 1, None)
            memory.unknown_days = frozenset()
        memory.held(DAY, unbridged=unbridged)
        if not is_blind:
            memory.connected()
        assert not memory.holds(DAY, 4, None)
        memory.shows(IN_FILES)
        assert memory.holds(DAY, 4, None) is not unbridged
        memory.shows(BEFORE_BREAK)
        assert memory.holds(DAY, 4, None)

    def test_yesterdays_loss_is_over(self) -> None:
        memory = self.remembering()
        memory.shows(1)
        memory.forgot(YESTERDAY)
        assert memory.holds(DAY, 4, 1)

    @pytest.mark.parametrize(("first_counter", "held"), [(1, True), (4, False)])
    def test_nothing_shown_then_an_absence_wants_the_first_number(self, first_counter: int, held: bool) -> None:
        memory = SourceMemory()
        memory.connected()
        memory.connected()
        assert memory.holds(DAY, first_counter, 1) is held
        assert memory.holds(DAY, first_counter, 2)
