"""Days whose sequences, answers and interruptions are odd: no tick that OpenD shows stays away, and nothing that is not
so is called proven. Each scenario goes through a real day file, which says what it claims."""

from __future__ import annotations

from pathlib import Path

import pytest

from hk_tick_collector.core.facts import (
    COULD_NOT_BE_READ,
    COUNTER_WENT_BACK,
    DATED_OTHERWISE,
    NO_SEQUENCE,
    NOT_JOINED,
    NUMBERS_SKIPPED,
    PUSH_PULL_DISAGREE,
    UNREAD_TICK,
)
from hk_tick_collector.market.dates import DAY_MS
from hk_tick_collector.market.hk.sessions import day_start_ms
from hk_tick_collector.records.tick import Tick, seq_counter
from hk_tick_collector.sources.futu import spec
from hk_tick_collector.store import reader
from hk_tick_collector.store.tracks import stored_tracks
from tests.unit.sources.desk import (
    DAY,
    OTHER,
    SYMBOL,
    TOMORROW,
    YESTERDAY,
    Desk,
    Unreadable,
    run,
    tick,
    unreadable,
)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def proven(desk: Desk, last: int = 8) -> list[object]:
    """A day that is proven so far: ticks 1 to ``last``, pushed and pulled."""
    desk.pull([])
    desk.push(run(1, last))
    desk.later(1)
    desk.pull(run(1, last))
    assert desk.state() == "proven"
    return [*run(1, last)]


def test_an_ordinary_day_is_proven_over_an_interruption(desk: Desk) -> None:
    shown = proven(desk)
    desk.continuity.connected()
    desk.push(run(12, 13, 60))
    shown += run(9, 13, 59.7)
    assert desk.pull(shown) == 13
    assert desk.counters() == list(range(1, 14))
    assert desk.state() == "proven"


def test_an_unreadable_tick_turns_to_its_day_before_the_answer_is_judged(desk: Desk) -> None:
    """Behind the day before, all of which OpenD still shows, stands today's first tick, and nobody can read it."""
    shown = proven(desk)
    desk = desk.restarted()
    desk.now_ms = day_start_ms(TOMORROW) + 36_000_000
    first = Unreadable(tick(1, day=TOMORROW).seq)
    desk.pull([*shown, first])
    assert desk.state() == "proven"
    today = run(2, 5, 1, day=TOMORROW)
    desk.later(1)
    assert desk.pull([*shown, first, *today]) == len(shown) + 4
    desk.push([])
    desk.give_up()
    assert desk.state(day=TOMORROW) == "missing"


# --- counters that begin anew ---


@pytest.mark.parametrize("restart", ["connection", "process"])
def test_counters_that_begin_anew_while_away_and_are_ahead_already(desk: Desk, restart: str) -> None:
    proven(desk)
    if restart == "process":
        desk = desk.restarted()
    else:
        desk.continuity.connected()
    anew = run(1, 17, 500)
    desk.push(anew[-1:])  # what OpenD pushes first
    assert desk.pull(anew) == 17
    desk.push([tick(18, 520)])
    desk.pull([*anew, tick(18, 520)])
    assert len(desk.stored()) == 8 + 18
    assert desk.state() == "unproven"
    assert COUNTER_WENT_BACK in desk.reason()


def test_counters_that_begin_anew_and_go_on_with_the_next_number(desk: Desk) -> None:
    proven(desk, 3)
    desk.continuity.connected()
    anew = run(1, 4, 500)
    desk.push(anew[-1:])
    desk.pull(anew)
    assert len(desk.stored()) == 7
    assert desk.state() == "unproven"


def test_counters_that_begin_anew_over_lunch_in_more_ticks_than_opend_shows(desk: Desk) -> None:
    shown = proven(desk, 300)
    desk.continuity.connected()
    shown += run(1, 1150, 12_000)
    assert desk.pull(shown) == 1000
    assert len(desk.stored()) == 1300
    assert desk.state() == "unproven"


def test_a_push_that_is_numbered_far_beyond_its_twins_is_none_of_their_count(desk: Desk) -> None:
    """The day's beginning came by answers alone, so what it says of their numbers includes the push's own."""
    desk.pull(run(1, 1))
    twins = [tick(n, 60) for n in (2, 3)]
    desk.push([tick(500_003, 60)])
    desk.pull([*run(1, 1), *twins])
    desk.give_up()
    assert desk.reason() == PUSH_PULL_DISAGREE
    assert desk.coverage().missing_ticks == 0


@pytest.mark.parametrize("asked_rows", [21, 1000])
def test_an_unreadable_tick_that_is_numbered_otherwise_in_answers_is_not_missed_twice(
    desk: Desk, asked_rows: int
) -> None:
    desk.pull([])
    desk.push_unreadable(unreadable(500_001))
    for _ in range(5):
        desk.later(1)
        desk.pull([unreadable(1)], asked_rows=asked_rows)
    desk.give_up()
    assert desk.reason() == PUSH_PULL_DISAGREE
    assert (desk.state(), desk.coverage().missing_ticks) == ("unproven", 0)


def test_an_unreadable_tick_that_opend_forgot_and_a_later_one_are_both_missing(desk: Desk) -> None:
    desk.pull([])
    desk.push_unreadable(unreadable(1))
    desk.push([tick(2, 1)])
    desk.later(60)
    desk.pull([tick(3, 60), unreadable(4, 61), tick(5, 62)])
    desk.give_up()
    assert (desk.state(), desk.coverage().missing_ticks) == ("missing", 2)


@pytest.mark.parametrize("how", ["restarted", "resync"])
def test_pushes_of_before_a_restart_still_show_that_they_are_numbered_otherwise(desk: Desk, how: str) -> None:
    """A pushed number far beyond those of the answers is no hole of thousands of ticks."""
    desk.pull(run(1, 2))
    desk.push([tick(500_003, 1)])
    desk.coverage()
    if how == "restarted":
        desk = desk.restarted()
    else:
        desk.continuity.resync(stored_tracks(desk.data_root, [SYMBOL], 3, DAY))
    assert len(desk.continuity.holes()) == 1
    desk.later(1)
    desk.pull([*run(1, 2), tick(3, 1)])
    assert desk.continuity.holes() == []
    assert PUSH_PULL_DISAGREE in desk.reason()


def test_bare_numbers_that_begin_anew_in_silence_hide_no_tick(desk: Desk) -> None:
    """Without a second in the sequence, its number alone does not say whose it is; the next answer shows known ones."""

    def bare(first: int, last: int, sec: float, price: float) -> list[Tick]:
        ticks = [tick(n, sec + n, price=price) for n in range(first, last + 1)]
        return [tick._replace(seq=seq_counter(tick.seq or 0)) for tick in ticks]

    desk.pull([])
    before = bare(1, 100, 0, 1.0)
    desk.push(before)
    desk.pull(before)
    anew = bare(1, 5, 500, 2.0)
    desk.pull(anew)
    assert len(desk.stored()) == 100 + 5
    assert desk.state() == "unproven"


def test_a_new_count_that_only_fits_on_is_not_joined(desk: Desk) -> None:
    """OpenD forgot, and what it shows begins with the next number: nothing tells whether it is the same count."""
    proven(desk)
    desk.continuity.connected()
    desk.push(run(9, 12, 500))
    desk.later(1)
    desk.pull(run(9, 12, 500))
    assert desk.state() == "unproven"
    assert NOT_JOINED in desk.reason()


def test_an_answer_too_short_to_reach_back_joins_nothing_and_verifies_nothing(desk: Desk) -> None:
    shown = proven(desk)
    verified = desk.coverage().verified_counter
    desk.continuity.connected()
    desk.push(run(9, 100, 60))
    shown += run(9, 100, 60)
    desk.later(1)
    desk.pull(shown, asked_rows=50)
    assert desk.coverage().verified_counter == verified
    assert desk.continuity.wants_whole(SYMBOL)
    desk.pull(shown)
    assert (desk.state(), desk.coverage().verified_counter) == ("proven", 100)


def test_one_symbol_subscribed_again_is_joined_in_the_same_way(desk: Desk) -> None:
    proven(desk)
    desk.continuity.interrupted([SYMBOL])
    desk.push(run(9, 12, 500))
    desk.pull(run(9, 12, 500))
    assert NOT_JOINED in desk.reason()


# --- counters that repeat ---


def test_an_index_within_the_second_whose_second_push_is_lost(desk: Desk) -> None:
    desk.pull([])
    desk.push([tick(1)])
    desk.later(64)
    desk.pull([tick(1), tick(1, 2)])
    assert len(desk.stored()) == 2
    assert desk.state() == "unproven"


def test_a_counter_twice_in_one_answer_is_proof_in_any_order(desk: Desk) -> None:
    desk.pull([tick(1), tick(2, 1), tick(3, 2), tick(2, 3), tick(4, 4)])
    assert len(desk.stored()) == 5
    assert COUNTER_WENT_BACK in desk.reason()


def test_a_hole_filled_with_a_much_later_second_is_another_count(desk: Desk) -> None:
    desk.push([*run(1, 4), *run(6, 8, 1)])
    desk.push([tick(5, 500)])
    assert COUNTER_WENT_BACK in desk.reason()


# --- ticks that cannot be read ---


def test_an_unreadable_first_tick_leaves_the_beginning_open(desk: Desk) -> None:
    desk.push(run(1, 5)[1:])
    for _ in range(2):
        desk.pull([unreadable(1), *run(1, 5)[1:]])
        assert desk.state() != "proven"
    assert [(hole.first, hole.last, hole.gap_reason(1000)) for hole in desk.continuity.holes()] == [
        (1, 1, COULD_NOT_BE_READ)
    ]
    desk.give_up()
    assert (desk.state(), desk.coverage().missing_ticks) == ("missing", 1)
    desk.pull(run(1, 5))
    assert desk.state() == "proven"


@pytest.mark.parametrize("pushed", [True, False])
def test_an_unreadable_last_tick_is_not_verified_away(desk: Desk, pushed: bool) -> None:
    shown = proven(desk)
    before = desk.coverage()
    if pushed:
        desk.push_unreadable(unreadable(9, 60))
    desk.later(120)
    desk.pull([*shown, unreadable(9, 60)])
    assert desk.coverage().verified_until_ms == before.verified_until_ms
    assert [hole.first for hole in desk.continuity.holes()] == [9]
    desk.give_up()
    assert desk.state() == "missing"
    desk.push([tick(10, 130)])
    desk.pull([*shown, unreadable(9, 60), tick(10, 130)])
    assert (desk.state(), desk.coverage().missing_ticks) == ("missing", 1)


def test_a_pushed_tick_that_could_not_be_read_heals_with_the_pull_that_can(desk: Desk) -> None:
    shown = proven(desk)
    desk.push_unreadable(unreadable(9, 60))
    desk.push([tick(10, 60)])
    assert [hole.first for hole in desk.continuity.holes()] == [9]
    desk.pull([*shown, tick(9, 60), tick(10, 60)])
    assert not desk.continuity.has_holes
    assert desk.state() == "proven"


def test_the_only_tick_of_a_day_cannot_be_read(desk: Desk) -> None:
    desk.pull([unreadable(1)])
    desk.give_up()
    assert (desk.state(), desk.coverage().missing_ticks) == ("missing", 1)


@pytest.mark.parametrize("only_pushed", [True, False])
def test_an_unreadable_tick_without_a_sequence_is_a_doubt_for_the_day(desk: Desk, only_pushed: bool) -> None:
    shown = proven(desk)
    if only_pushed:
        desk.push_unreadable(Unreadable(0))
    else:
        desk.pull([*shown[:4], Unreadable(0), *shown[4:]])
    desk.push([tick(10, 60)])
    assert desk.continuity.has_holes, "the counters go on to be followed"
    desk.pull([*shown, tick(9, 60), tick(10, 60)])
    assert (desk.state(), desk.reason()) == ("unproven", UNREAD_TICK)
    assert desk.restarted().pull([*shown, *run(9, 12, 60)]) == 12


def test_an_unreadable_tick_of_yesterday_says_nothing_of_today(desk: Desk) -> None:
    proven(desk)
    desk.push_unreadable(Unreadable(tick(7, day=YESTERDAY).seq))
    desk.pull([Unreadable(tick(7, day=YESTERDAY).seq), *run(1, 8)])
    assert desk.state() == "proven"


def test_a_repeat_of_a_known_tick_that_cannot_be_read_is_no_doubt(desk: Desk) -> None:
    proven(desk)
    desk.push_unreadable(Unreadable(tick(8, 0.7).seq))
    assert desk.state() == "proven"


def test_sixty_unreadable_rows_of_a_full_answer_hide_no_beginning(desk: Desk) -> None:
    day = run(1, 1500)
    shown = [unreadable(n, (n - 1) / 10) if n % 16 == 0 else day[n - 1] for n in range(501, 1501)]
    desk.pull(shown)
    desk.give_up()
    unread = sum(isinstance(row, Unreadable) for row in shown)
    assert desk.state() == "missing"
    assert sum(gap.missing_ticks or 0 for gap in reader.gaps(desk.data_root / f"{DAY}.db")) == unread
    assert [gap.reason for gap in reader.gaps(desk.data_root / f"{DAY}.db") if gap.missing_ticks is None] == [
        "recording began in mid-session"
    ]


# --- ticks of other dates, and short answers ---


def before_first(ticks: int) -> str:
    """Why a day is unproven of which OpenD never showed the beginning."""
    return f"up to {ticks} ticks may have come before the first one seen: see table gaps"


def test_a_count_that_does_not_begin_with_one_proves_no_loss(desk: Desk) -> None:
    """OpenD was first asked when it had as many as it shows: all of the day is stored, and nothing says so."""
    day = run(37, 1036)
    desk.push(day[-1:])
    desk.pull(day)
    desk.give_up()
    coverage = desk.coverage()
    assert (coverage.state, coverage.missing_ticks, coverage.stored_ticks) == ("unproven", 0, 1000)
    assert coverage.reason == before_first(36)


@pytest.mark.parametrize("at", [0, 1, 500, 999])
def test_a_late_report_of_yesterday_in_a_full_answer_shows_no_beginning(desk: Desk, at: int) -> None:
    day = run(1, 1500)
    shown = day[500:]
    shown[at] = tick(700, day=YESTERDAY)
    desk.pull(shown)
    desk.push([tick(1501, 200)])
    desk.pull([*shown[1:], tick(1501, 200)])
    desk.give_up()
    why = before_first(501) if at == 0 else f"{NUMBERS_SKIPPED}; {before_first(500)}"  # it stands for one of today's
    assert (desk.state(), desk.reason()) == ("unproven", why)
    assert [gap.reason for gap in reader.gaps(desk.data_root / f"{DAY}.db")][:1] == ["recording began in mid-session"]


@pytest.mark.parametrize("counted_by", ["today", "yesterday"])
def test_several_late_reports_in_front_of_a_full_answer_show_no_beginning(desk: Desk, counted_by: str) -> None:
    late = run(900, 902, day=YESTERDAY)
    if counted_by == "today":
        late = [tick._replace(trading_day=YESTERDAY) for tick in run(501, 503, 50)]
    shown = [*late, *run(504, 1500, 50.3)]
    desk.push(shown[-5:])
    desk.pull(shown)
    desk.give_up()
    assert (desk.state(), desk.reason()) == ("unproven", before_first(503))
    assert [gap.reason for gap in reader.gaps(desk.data_root / f"{DAY}.db")] == ["recording began in mid-session"]


def test_yesterdays_last_ticks_in_front_of_a_full_answer_show_the_beginning(desk: Desk) -> None:
    shown = [*run(801, 1200, day=YESTERDAY), *run(4, 603)]
    desk.push([shown[-1]])
    desk.pull(shown)
    assert desk.state() == "proven"


@pytest.mark.parametrize("asked_rows", [100, 999])
def test_an_answer_to_a_small_question_is_never_all(desk: Desk, asked_rows: int) -> None:
    day = run(1, 400)
    desk.push([day[-1]])
    desk.pull([*day[-asked_rows:-1], unreadable(400, 40)], asked_rows=asked_rows)
    assert desk.continuity.wants_whole(SYMBOL)
    assert desk.state() != "proven"


def test_a_tick_of_another_date_with_todays_number_is_no_missing_tick(desk: Desk) -> None:
    stray = tick(9, 60)._replace(trading_day=YESTERDAY)
    shown = [*proven(desk), stray, unreadable(10, 60), *run(11, 12, 60)]
    desk.push([stray, *run(11, 12, 60)])
    desk.pull(shown)
    assert [(hole.first, hole.last) for hole in desk.continuity.holes()] == [(9, 9), (10, 10)]
    desk.give_up()
    assert (desk.state(), desk.coverage().missing_ticks) == ("missing", 1)
    desk.pull([*shown[:-3], tick(10, 60), *shown[-2:]])
    assert (desk.state(), desk.reason()) == ("unproven", DATED_OTHERWISE)


@pytest.mark.parametrize("counter", [13, 20])
def test_a_tick_with_todays_number_makes_and_fills_no_hole_in_another_days_count(desk: Desk, counter: int) -> None:
    yesterday = (
        [*run(1, 10, day=YESTERDAY), *run(15, 16, day=YESTERDAY)] if counter == 13 else run(1, 10, day=YESTERDAY)
    )
    desk.push(yesterday)
    desk.pull(yesterday)
    before = desk.state(day=YESTERDAY)
    day = run(1, 25)
    day[counter - 1] = day[counter - 1]._replace(trading_day=YESTERDAY, ts_ms=day[counter - 1].ts_ms - DAY_MS)
    desk.push(day)
    desk.pull(day)
    assert before == ("missing" if counter == 13 else "proven")
    assert (desk.state(day=YESTERDAY), desk.coverage(day=YESTERDAY).missing_ticks) == ("unproven", 0)


def test_a_tick_dated_tomorrow_makes_no_hole_in_tomorrows_count(desk: Desk) -> None:
    day = run(1, 40)
    day[36] = day[36]._replace(trading_day=TOMORROW, ts_ms=day[36].ts_ms + 3 * DAY_MS)
    desk.push(day)
    desk.pull(day)
    desk.later(3 * DAY_MS / 1000)
    tomorrow = [tick._replace(recv_ts_ms=desk.now_ms) for tick in run(1, 20, day=TOMORROW)]
    desk.pull([])
    desk.push(tomorrow)
    desk.pull(tomorrow)
    assert (desk.state(day=TOMORROW), desk.coverage(day=TOMORROW).missing_ticks) == ("unproven", 0)


# --- old and slow answers ---


def test_an_answer_speaks_of_the_moment_it_was_asked_for(desk: Desk) -> None:
    proven(desk)
    question = desk.ask()
    desk.later(2.5)  # under way; pushes are lost meanwhile
    desk.push([tick(9, 60)])
    desk.answer(question, [*run(1, 8), tick(9, 60)])
    assert desk.coverage().verified_until_ms == question.asked_ms


def test_an_answer_that_ends_before_what_was_known_when_asking_verifies_nothing(desk: Desk) -> None:
    proven(desk)
    before = desk.coverage()
    desk.push(run(9, 15, 60))
    desk.later(120)
    desk.pull(run(1, 8))
    assert desk.coverage().verified_until_ms == before.verified_until_ms
    desk.pull([*run(1, 8), *run(9, 15, 60)])
    assert desk.coverage().verified_counter == 15


# --- the day's beginning ---


def test_first_ticks_in_an_outage_after_which_opend_has_forgotten(desk: Desk) -> None:
    desk.pull([])
    desk.continuity.connected()
    desk.pull([])
    desk.push([tick(4, 60)])
    desk.pull([tick(4, 60)])
    assert (desk.state(), desk.reason()) == ("unproven", "the day's first ticks are not proven")


@pytest.mark.parametrize(("minute", "state"), [(530, "proven"), (570, "unproven")])
def test_before_the_market_opens_no_tick_can_be_lost(desk: Desk, minute: int, state: str) -> None:
    """An empty answer at 08:50 says as much on the second connection as on the first; one at 09:30 does not."""
    desk.now_ms = day_start_ms(DAY) + minute * 60_000
    desk.pull([])
    desk.continuity.connected()
    desk.pull([])
    desk.push([tick(37, 60)])
    desk.later(3600)
    desk.pull([tick(37, 60)])
    assert desk.state() == state


def test_other_symbols_show_whether_opend_has_forgotten(desk: Desk) -> None:
    others = run(1, 50, symbol=OTHER)
    desk.push(others)
    desk.pull(others, symbol=OTHER)
    desk.pull([])
    desk.continuity.connected()
    desk.pull([tick(4, 60)])
    desk.push([tick(5, 61)])
    desk.later(1)
    desk.pull([tick(4, 60), tick(5, 61)])
    assert desk.state() == "unproven", "nothing shows yet that OpenD remembers"
    desk.pull(others, symbol=OTHER)
    desk.pull([tick(4, 60), tick(5, 61)])
    assert desk.state() == "proven"


def test_what_one_symbol_shows_to_be_forgotten_holds_for_all(desk: Desk) -> None:
    desk.push(run(1, 50, symbol=OTHER))
    desk.pull([])
    for connection in range(2):
        desk.continuity.connected()
        desk.pull([tick(60, 100, symbol=OTHER)], symbol=OTHER)
        desk.push([tick(1, 120)])
        desk.pull([tick(1, 120)])
        assert desk.state() == "unproven", f"connection {connection}"


def forgotten_by_opend(desk: Desk, later_rows: int) -> list[Tick]:
    """OpenD was restarted while we were away and forgot; OTHER, which traded before, traded on. What it shows of it."""
    others = run(1, 50, symbol=OTHER)
    desk.push(others)
    desk.pull(others, symbol=OTHER)
    desk.pull([])
    desk.later(60)
    desk.continuity.connected()
    desk.pull([])
    later = run(51, 50 + later_rows, 70, symbol=OTHER)
    desk.push(later)
    desk.pull(later, symbol=OTHER)
    return later


@pytest.mark.parametrize("how", ["restarted", "killed", "restarted_blind"])
@pytest.mark.parametrize("later_rows", [40, 1200])
def test_that_opend_has_forgotten_is_known_after_a_restart_too(desk: Desk, how: str, later_rows: int) -> None:
    """Ticks 1-3 were traded in the outage. The next process sees an OpenD that shows whatever came since."""
    others = forgotten_by_opend(desk, later_rows)
    desk.push(run(4, 8, 80))
    desk.pull(run(4, 8, 80))
    assert desk.state() == "unproven"
    desk = getattr(desk, how)()
    for second in (200, 300):
        others = [*others, tick(len(others) + 51, second, symbol=OTHER)]
        desk.pull(others, symbol=OTHER)
        desk.push([tick(second // 100 + 7, second)])
        desk.pull([*run(4, 8, 80), *(tick(n // 100 + 7, n) for n in range(200, second + 1, 100))])
        desk.later(60)
        assert desk.state() == "unproven"
        desk.look_again()


@pytest.mark.parametrize("later_rows", [40, 1200])
@pytest.mark.parametrize("trades", [True, False], ids=["trading", "silent"])
def test_it_is_known_too_where_the_symbol_that_shows_it_is_wanted_no_more(
    desk: Desk, later_rows: int, trades: bool
) -> None:
    """Its first ticks were traded before OpenD forgot, when nobody wanted it either."""
    forgotten_by_opend(desk, later_rows)
    asked_ms = desk.coverage().verified_until_ms  # before that, when it had none
    desk = desk.restarted([SYMBOL])
    if not trades:
        desk.later(3600)
        desk.pull([])
        assert desk.coverage().verified_until_ms == asked_ms
        return
    desk.push(run(1, 8, 80))  # it counts anew
    desk.later(60)
    desk.pull(run(1, 8, 80))
    assert desk.state() == "unproven"


@pytest.mark.parametrize("wanted", [[SYMBOL], [SYMBOL, OTHER]], ids=["alone", "both"])
@pytest.mark.parametrize("went_back", ["in the outage", "before it"])
def test_a_count_that_is_not_believed_tells_of_the_interruption_all_the_same(
    desk: Desk, went_back: str, wanted: list[str]
) -> None:
    """OTHER counts anew after the restart of OpenD, or was not believed before it. SYMBOL's first ticks were traded in
    the outage, and forgotten."""
    others = run(1, 50, symbol=OTHER)
    desk.push(others)
    desk.pull(others, symbol=OTHER)
    if went_back == "before it":
        desk.push([tick(51, 20, symbol=OTHER)._replace(seq=None)])
    desk.later(60)
    desk.continuity.connected()
    anew = run(1, 30, 70, symbol=OTHER)
    desk.pull(anew, symbol=OTHER)
    assert desk.coverage(OTHER).distrust
    desk.push([*run(1, 5, 80), tick(31, 81, symbol=OTHER)])
    desk = desk.restarted(wanted)
    desk.later(60)
    if OTHER in wanted:
        desk.pull([*anew, tick(31, 81, symbol=OTHER)], symbol=OTHER)
    desk.pull(run(1, 5, 80))
    assert desk.state() == "unproven"


def test_a_list_that_grows_back_follows_the_interruption_of_before(desk: Desk) -> None:
    others = forgotten_by_opend(desk, 40)
    desk = desk.restarted([SYMBOL])
    desk.continuity.seed_new(stored_tracks(desk.data_root, [SYMBOL, OTHER], 3, DAY))
    desk.continuity.interrupted([OTHER])
    desk.push(run(91, 95, 200, symbol=OTHER))
    desk.later(60)
    desk.pull([*others, *run(91, 95, 200, symbol=OTHER)], symbol=OTHER)
    assert desk.state(OTHER) != "proven"
    assert len(desk.stored(OTHER)) == 95


def test_nor_is_a_symbol_proven_whose_first_tick_comes_after_that_restart(desk: Desk) -> None:
    third = "HK.00001"
    others, new = forgotten_by_opend(desk, 1200), run(1, 5, 90, symbol=third)
    desk.push(new)
    desk.pull(new, symbol=third)
    desk = desk.restarted((SYMBOL, OTHER, third))
    desk.pull([])
    desk.pull(others, symbol=OTHER)
    desk.pull(new, symbol=third)  # OpenD shows what the file has of it, and that is no older than its restart
    desk.push(run(4, 8, 300))
    desk.later(60)
    desk.pull(run(4, 8, 300))
    assert desk.state() == "unproven"


def test_an_interruption_that_is_bridged_after_a_restart_says_that_opend_remembers(desk: Desk) -> None:
    """The first process was killed before OpenD had answered."""
    others = run(1, 50, symbol=OTHER)
    desk.push(others)
    desk.pull(others, symbol=OTHER)
    desk.continuity.connected()
    others += run(51, 60, 70, symbol=OTHER)
    desk.push(others[50:])
    desk = desk.restarted()
    desk.pull([])
    desk.pull(others, symbol=OTHER)
    desk.push(run(1, 5, 80))
    desk.later(60)
    desk.pull(run(1, 5, 80))
    assert (desk.state(), desk.state(OTHER)) == ("proven", "proven")


def test_nothing_is_proven_while_the_days_file_is_unread(desk: Desk) -> None:
    """It may tell that OpenD has forgotten."""
    others = forgotten_by_opend(desk, 40)
    desk = desk.restarted_blind()
    desk.push(run(4, 8, 80))
    desk.pull(run(4, 8, 80))
    assert desk.state() == "unproven"
    desk.look_again()
    desk.pull(others, symbol=OTHER)
    desk.pull(run(4, 8, 80))
    assert desk.state() == "unproven"


def test_a_beginning_that_an_earlier_process_left_open_is_unproven_and_not_missing(desk: Desk) -> None:
    """It was killed before OpenD had answered; whether it knew more nobody can say."""
    day = run(37, 60)
    desk.push(day)
    desk = desk.killed()
    desk.pull(day)
    desk.push(run(61, 1300, 60))
    desk.later(200)
    desk.pull([*day, *run(61, 1300, 60)])
    assert (desk.state(), desk.reason()) == ("unproven", "the day's first ticks are not proven")


def test_a_file_that_holds_nothing_but_our_own_ticks_leaves_no_beginning_open(desk: Desk) -> None:
    """It could not be read for a while after the start."""
    desk = desk.restarted_blind()
    day = run(37, 60)
    desk.push(day)
    desk.pull(day)
    assert desk.state() == "unproven"
    desk.look_again()
    desk.later(60)
    desk.pull(day)
    assert desk.state() == "proven"


@pytest.mark.parametrize("first", [1, 37])
def test_more_ticks_than_opend_shows_before_the_first_pull(desk: Desk, first: int) -> None:
    """An empty answer and an unbroken subscription since are evidence for the beginning."""
    desk.pull([])
    day = run(first, first + 1199)
    desk.push(day)
    desk.later(60)
    desk.pull(day)
    assert (desk.state(), len(desk.stored())) == (("proven" if first == 1 else "unproven"), 1200)
    assert reader.gaps(desk.data_root / f"{DAY}.db") == []


def test_yesterdays_answer_and_an_unbroken_subscription_are_evidence_too(desk: Desk) -> None:
    desk.now_ms -= 86_400_000
    yesterday = [tick._replace(recv_ts_ms=desk.now_ms) for tick in run(1, 20, day=YESTERDAY)]
    desk.push(yesterday)
    desk.pull(yesterday)
    desk.now_ms += 86_400_000
    day = run(1, 1200)
    desk.push(day)
    desk.pull(day)
    assert desk.state() == "proven"


# --- late ticks ---


def test_a_late_tick_is_judged_by_its_neighbours(desk: Desk) -> None:
    desk.pull([])
    desk.push([*run(1, 5, 100), tick(7, 95), tick(7, 95), tick(6, 105), tick(5, 100.4)])
    shown = [*run(1, 5, 100), tick(6, 105), tick(7, 95)]
    desk.pull(shown)
    assert (desk.state(), desk.reason()) == ("proven", "")


def test_an_answer_sorted_by_time_is_no_count_that_goes_back(desk: Desk) -> None:
    desk.pull([])
    desk.push([*run(1, 40), tick(41, 1.5), *run(42, 60, 4)])
    shown = sorted([*run(1, 40), tick(41, 1.5), *run(42, 60, 4)], key=lambda row: row.ts_ms)
    desk.pull(shown)
    assert (desk.state(), desk.reason()) == ("proven", "")


def test_two_counts_in_one_answer_are_not_taken_for_late_ticks(desk: Desk) -> None:
    desk.pull([*run(4, 6), *run(1, 3, 60)])
    assert COUNTER_WENT_BACK in desk.reason()


# --- a tick dated tomorrow ---


def test_one_tick_dated_tomorrow_ends_no_hole_repair(desk: Desk) -> None:
    shown = proven(desk)
    desk.push([tick(9, day=TOMORROW)])
    desk.push(run(9, 14, 60)[2:])
    assert [(hole.trading_day, hole.first, hole.last) for hole in desk.continuity.holes()] == [(DAY, 9, 10)]
    desk.pull([*shown, *run(9, 14, 60), tick(15, day=TOMORROW)])
    assert not desk.continuity.has_holes
    assert desk.counters() == list(range(1, 15))


def test_strays_do_not_add_up_to_a_day(desk: Desk) -> None:
    proven(desk)
    for n in range(5):
        desk.push([tick(500 + n, day=TOMORROW), tick(9 + 2 * n, 60 + n)])
    assert len(desk.continuity.holes()) == 4
    assert desk.continuity.holes()[0].trading_day == DAY


def test_after_a_restart_the_newest_file_may_be_one_strays(desk: Desk) -> None:
    proven(desk)
    desk.push([tick(9, day=TOMORROW)])
    desk = desk.restarted()
    desk.push(run(11, 12, 60))
    assert [(hole.trading_day, hole.first, hole.last) for hole in desk.continuity.holes()] == [(DAY, 9, 10)]


def test_a_day_that_our_clock_does_not_know_yet_begins_with_several_ticks(desk: Desk) -> None:
    proven(desk)
    desk.push(run(1, 5, day=TOMORROW))
    desk.push([tick(8, 60, day=TOMORROW)])
    assert [(hole.trading_day, hole.first, hole.last) for hole in desk.continuity.holes()] == [(TOMORROW, 6, 7)]


# --- distrust, and what is said over restarts ---


@pytest.mark.parametrize("how", ["restart", "resync", "file set aside"])
def test_distrust_stays_for_the_day(desk: Desk, how: str) -> None:
    desk.push([*run(1, 5), tick(6)._replace(seq=None), *run(9, 12, 2)])
    assert desk.state() == "unproven"
    if how == "restart":
        desk = desk.restarted()
    elif how == "resync":
        desk.continuity.resync(stored_tracks(desk.data_root, [SYMBOL], 3, DAY))
    else:
        desk.continuity.resync({})
        assert desk.facts, "the new file has to be told"
    desk.push(run(13, 14, 3))
    assert desk.continuity.holes() == []
    assert desk.continuity.distrusted([SYMBOL]).keys() == {SYMBOL}


def test_a_symbol_whose_ticks_have_no_sequences_is_still_known_after_a_restart(desk: Desk) -> None:
    desk.push([tick._replace(seq=None) for tick in run(1, 5)])
    desk = desk.restarted()
    assert desk.continuity.distrusted([SYMBOL, OTHER]).keys() == {SYMBOL}


@pytest.mark.parametrize("how", ["restarted", "killed", "restarted_blind"])
def test_a_day_can_be_confirmed_to_its_end_after_a_restart_behind_the_close(desk: Desk, how: str) -> None:
    """No push comes any more that could be held against an answer; the process before had that."""
    proven(desk)
    desk.coverage()
    desk = getattr(desk, how)()
    day = [*desk.stored(), *run(9, 20, 3600)]
    desk.later(7200)
    desk.pull(day)
    desk.look_again()
    desk.later(60)
    desk.pull(day)
    row = desk.coverage()
    assert (row.state, row.verified_counter, row.verified_until_ms) == ("proven", 20, desk.now_ms)


def test_resync_wants_a_witness_for_both_sides_as_a_restart_does(desk: Desk) -> None:
    proven(desk)
    desk.continuity.resync(stored_tracks(desk.data_root, [SYMBOL], 3, DAY))
    desk.push(run(9, 12, 500))
    desk.pull(run(9, 12, 500))
    assert NOT_JOINED in desk.reason()


def test_the_limit_is_what_opend_shows() -> None:
    assert spec.LIMITS.newest_rows == 1000


# --- pushes and answers that are numbered each for itself ---


def pushed_as(ticks: list[Tick], ahead: int = 500_000) -> list[Tick]:
    """The same trades as pushes number them."""
    return [tick._replace(seq=(tick.seq or 0) + ahead) for tick in ticks]


def trades(first: int, last: int, sec: float = 0.5, day: str = DAY) -> list[Tick]:
    """Trades a second apart, no two of them equal."""
    return [tick(n, sec + n, day=day, price=float(n)) for n in range(first, last + 1)]


def gone_back(desk: Desk) -> list[Tick]:
    """A day whose counters went back; the answers' trades so far."""
    anew = [tick(n, 100.5 + n, price=100.0 + n) for n in range(1, 5)]
    shown = [*trades(1, 4), *anew]
    desk.push(pushed_as(shown[:4]))
    desk.push(pushed_as(anew))
    assert desk.reason() == COUNTER_WENT_BACK
    return shown


def test_counters_that_went_back_on_two_ways_that_number_each_for_itself(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    shown = gone_back(desk)
    desk.pull(shown, asked_rows=1)  # it begins and ends with this one, whose number is no near one
    assert len(desk.stored()) == len(shown)
    for _ in range(2):
        desk.pull(shown)
        assert len(desk.stored()) == len(shown), "each once"
        newest = tick(len(shown), 200 + len(shown), price=200.0 + len(shown))
        shown.append(newest)
        desk.push(pushed_as([newest]))
    assert COUNTER_WENT_BACK in desk.reason()
    assert PUSH_PULL_DISAGREE in desk.reason()
    assert [caplog.text.count(reason) for reason in (COUNTER_WENT_BACK, PUSH_PULL_DISAGREE)] == [1, 1], "said once"


def test_counters_that_went_back_still_name_a_tick_where_both_ways_tell_them(desk: Desk) -> None:
    """Equal trades come in several pushes, one of them is lost, and the answer begins or ends between them."""
    desk.push([*trades(1, 4), tick(2, 100.5)])
    assert desk.reason() == COUNTER_WENT_BACK
    twins = [tick(n, 110.25) for n in (3, 4, 5)]
    desk.push(twins[:1])
    desk.push(twins[2:])
    desk.pull(twins[1:], asked_rows=2)  # begins behind the first one
    desk.pull([tick(2, 100.5), *twins[:2]])  # was made before the last one
    desk.pull([tick(2, 100.5), *twins, tick(6, 120.5)])
    assert desk.reason() == COUNTER_WENT_BACK
    assert len(desk.stored()) == 5 + 3 + 1


def test_other_numbers_of_a_trade_between_those_shown_are_proof_however_near(desk: Desk) -> None:
    shown = [*trades(1, 4), *(tick(n, 100.5 + n, price=100.0 + n) for n in range(1, 5))]
    desk.push(pushed_as(shown, 1))
    assert desk.reason() == COUNTER_WENT_BACK
    desk.pull(shown)
    assert PUSH_PULL_DISAGREE in desk.reason()
    assert len(desk.stored()) == len(shown)


def test_the_day_before_stays_without_numbers_when_the_day_turns(desk: Desk) -> None:
    """OpenD shows it for as long as it has room. An early tick that is dated the new day stands among its ticks."""
    shown = trades(1, 8)
    desk.push(pushed_as(shown))
    desk.pull(shown)
    assert len(desk.stored()) == 8
    shown.append(tick(9, 12.5, price=9.0)._replace(trading_day=TOMORROW))
    desk.now_ms = day_start_ms(TOMORROW) + 32_400_000
    desk.pull(shown)
    desk.push(run(1, 3, day=TOMORROW))
    desk.pull([*shown, *run(1, 3, day=TOMORROW)])
    assert len(desk.stored()) == 8
    assert [tick.seq is None for tick in desk.stored(day=TOMORROW)] == [False] * 4


@pytest.mark.parametrize("other_day", [YESTERDAY, TOMORROW])
def test_a_tick_of_another_date_is_one_row_whoever_numbers_it(desk: Desk, other_day: str) -> None:
    """It is counted with this day's ticks, on both ways."""
    shown = trades(1, 8)
    desk.push(pushed_as(shown))
    desk.pull(shown)
    shift_ms = day_start_ms(other_day) - day_start_ms(DAY)
    stray = tick(9, 12.5, price=9.0)
    stray = stray._replace(trading_day=other_day, ts_ms=stray.ts_ms + shift_ms)
    desk.push(pushed_as([stray]))
    desk.pull([*shown, stray])
    assert len(desk.stored(day=other_day)) == 1


def test_a_restart_before_any_answer_compares_what_was_pushed_before_it(desk: Desk) -> None:
    shown = trades(1, 8)
    desk.push(pushed_as(shown))
    desk = desk.restarted()
    desk.pull(shown)
    assert len(desk.stored()) == 8
    assert PUSH_PULL_DISAGREE in desk.reason()


def numbered_apart(desk: Desk) -> list[Tick]:
    """A day on which pushes and answers are known to be numbered each for itself; its trades, as answers tell them."""
    shown = trades(1, 8)
    desk.push(pushed_as(shown))
    desk.pull(shown)
    assert len(desk.stored()) == len(shown)
    return shown


def test_a_start_on_the_next_day_stores_nothing_of_the_day_before_twice(desk: Desk) -> None:
    """What it begins with is the newer file, and the older one is still shown."""
    shown = numbered_apart(desk)
    today = run(1, 3, day=TOMORROW)
    desk.now_ms = day_start_ms(TOMORROW) + 36_000_000
    desk.push(today)
    desk = desk.restarted(today=TOMORROW)
    desk.pull([*shown, *today])
    assert len(desk.stored()) == len(shown)
    assert len(desk.stored(day=TOMORROW)) == len(today)


def test_a_start_that_cannot_read_the_file_stores_nothing_twice(desk: Desk) -> None:
    shown = numbered_apart(desk)
    desk = desk.restarted_blind()
    desk.pull(shown)
    twins = [tick(n, 20.25) for n in (9, 10)]
    desk.push(pushed_as(twins))
    desk.look_again()
    desk.pull([*shown, *twins])
    assert len(desk.stored()) == len(shown) + 2


def test_rows_left_over_in_the_spill_are_stored_once(desk: Desk) -> None:
    shown = numbered_apart(desk)
    desk = desk.restarted()
    desk.unspill([shown[2], *pushed_as([shown[3]], 700_000)])
    assert len(desk.stored()) == len(shown)


def test_a_push_that_an_answer_was_faster_than_is_one_row(desk: Desk) -> None:
    """The first trade that comes on both ways comes by the answer first, and behind a later one's push."""
    shown = trades(1, 8)
    desk.pull(shown[:7])
    desk.push(pushed_as(shown[7:]))
    desk.push(pushed_as(shown[6:7]))
    assert len(desk.stored()) == 8
    assert PUSH_PULL_DISAGREE in desk.reason()


def test_equal_trades_of_which_the_answer_had_the_first_ones_number_nothing_otherwise(desk: Desk) -> None:
    twins = [tick(n, 0.5) for n in range(1, 6)]
    desk.pull(twins[:2])
    desk.push(twins[1:4])
    desk.push([*twins[4:], tick(6, 3.5)])
    desk.later(1)
    desk.pull([*twins, tick(6, 3.5)])
    assert len(desk.stored()) == 6
    assert desk.state() == "proven"


def test_other_numbers_are_no_counters_that_went_back(desk: Desk) -> None:
    """Those of the answer are known under another second, and that is all there is to say."""
    shown = trades(1, 8)
    desk.push(pushed_as(shown, 1))
    desk.pull(shown)
    assert desk.reason() == PUSH_PULL_DISAGREE


def test_a_trade_that_an_answer_tells_without_its_number_has_no_other_one(desk: Desk) -> None:
    shown = trades(1, 8)
    shown[0] = shown[0]._replace(seq=None)
    desk.push(shown)
    desk.pull([tick._replace(seq=None) if n in (3, 7) else tick for n, tick in enumerate(shown)])
    assert desk.reason() == NO_SEQUENCE
    assert len(desk.stored()) == 8
