"""An interruption that no answer has bridged is known to the day file, and outlives the process and a lost file."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

from hk_tick_collector.core.facts import NOT_JOINED, NOT_YET_JOINED, Fact, Interrupted, Rejoined
from hk_tick_collector.sources.continuity import Continuity
from hk_tick_collector.sources.futu import spec
from hk_tick_collector.sources.pulled import Answer
from hk_tick_collector.store import reader
from hk_tick_collector.store.tracks import stored_tracks
from tests.unit.sources.desk import DAY, OTHER, SYMBOL, TOMORROW, Desk, Unreadable, run
from tests.unit.sources.test_odd_days import proven


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_a_day_is_unproven_from_the_first_tick_after_an_interruption_until_an_answer_joins_it(desk: Desk) -> None:
    shown = proven(desk)
    desk.continuity.connected()
    assert desk.state() == "proven"
    shown += run(9, 12, 60)
    desk.push(run(9, 12, 60))
    assert (desk.state(), desk.reason()) == ("unproven", NOT_YET_JOINED)
    desk.later(1)
    desk.pull(shown)
    assert (desk.state(), desk.coverage().interrupted_seq) == ("proven", None)


def test_later_interruptions_are_noted_while_the_first_is_open_and_outlive_the_process(desk: Desk) -> None:
    shown = proven(desk)
    desk.continuity.connected()  # away for longer than OpenD looks back: 9 to 20 are lost
    shown = run(21, 24, 60)
    desk.push(shown)
    desk.continuity.connected()
    desk.push(run(25, 26, 70))
    assert later(desk) == (run(8, 8)[0].seq, [shown[-1].seq])
    desk = desk.restarted()
    desk.push(run(27, 27, 80))
    first, seqs = later(desk)
    assert (first, len(seqs)) == (run(8, 8)[0].seq, 2)
    desk.later(1)
    desk.pull([*shown, *run(25, 26, 70), *run(27, 27, 80)])
    assert later(desk) == (run(8, 8)[0].seq, [])  # what followed 24 was shown
    assert desk.state() != "proven"


def later(desk: Desk) -> tuple[int | None, list[int]]:
    """The first interruption that is open, and those behind it."""
    row = desk.coverage()
    assert row.later_seqs is not None
    return row.interrupted_seq, row.later_seqs


def test_what_was_away_is_not_told_until_a_tick_of_its_day_comes(desk: Desk) -> None:
    """A connection that is made at night writes nothing into yesterday's file."""
    shown = proven(desk)
    desk.facts.clear()
    desk.continuity.connected()
    desk.pull(shown)
    desk.continuity.connected()
    desk.push([])
    assert not [fact for fact in desk.facts if isinstance(fact, (Interrupted, Rejoined))]


def test_a_new_count_that_goes_on_exactly_is_not_believed_by_the_next_process(desk: Desk) -> None:
    """Its first 8 ticks were never shown; killed before OpenD answered, which then forgot once more."""
    proven(desk)
    desk.continuity.connected()
    desk.push(run(9, 12, 500))
    desk = desk.restarted()
    anew = run(9, 20, 500)
    desk.push(anew[-4:])
    desk.later(1)
    desk.pull(anew)
    assert desk.state() == "unproven"
    assert NOT_JOINED in desk.reason()


def test_an_open_interruption_outlives_any_number_of_processes_and_is_joined_in_the_end(desk: Desk) -> None:
    shown = proven(desk)
    for first in (9, 13, 17):
        desk.continuity.connected()
        desk.push(run(first, first + 3, first * 10))
        shown += run(first, first + 3, first * 10)
        desk = desk.restarted()
        assert desk.state() == "unproven"
    desk.push(run(21, 22, 300))
    shown += run(21, 22, 300)
    desk.later(1)
    desk.pull(shown)
    assert desk.state() == "proven"


def test_rows_that_were_lost_do_not_hide_an_interruption(desk: Desk) -> None:
    proven(desk)
    desk.continuity.connected()
    desk.push(run(9, 12, 500))
    desk.coverage()
    desk.continuity.resync(stored_tracks(desk.data_root, [SYMBOL], 3, DAY))
    anew = run(1, 1300, 500)
    desk.push(anew[12:])
    desk.later(1)
    desk.pull(anew)
    assert desk.state() == "unproven"


def test_a_file_that_was_set_aside_takes_no_open_interruption_with_it(desk: Desk) -> None:
    """The newest rows and what was known of the interruption are gone, the old ones came back from a copy."""
    proven(desk)
    known = stored_tracks(desk.data_root, [SYMBOL], 3, DAY)
    desk.continuity.connected()
    desk.push(run(9, 12, 500))
    desk.continuity.resync(
        {SYMBOL: known[SYMBOL].__class__(DAY, known[SYMBOL].stored, run(12, 12, 500)[0].seq or 0, True)}
    )
    desk.facts.clear()
    desk.push(run(13, 14, 520))
    assert desk.reason() == NOT_YET_JOINED
    assert desk.coverage().interrupted_seq == run(8, 8)[0].seq


@pytest.mark.parametrize("lost", [True, False], ids=["killed", "stopped in order"])
def test_a_doubt_that_dies_while_the_store_is_down_makes_no_proof(desk: Desk, lost: bool) -> None:
    """A tick without a sequence could not be read, rows wait in the spill, and OpenD shows it no more."""
    shown = proven(desk)
    desk.push_unreadable(Unreadable(0))
    spilled = desk.push_to_spill(run(9, 1400, 60))
    shown += spilled
    desk = desk.killed() if lost else desk.restarted()
    desk.unspill(spilled)
    assert desk.state() == "unproven"
    shown += run(1401, 1402, 300)
    desk.push(run(1401, 1402, 300))
    desk.later(1)
    desk.pull(shown)
    desk.give_up()
    assert desk.state() != "proven"
    assert len(desk.stored()) == 1402


def test_rows_of_the_spill_are_proven_when_an_answer_reaches_back_to_what_was_stored_before(desk: Desk) -> None:
    shown = proven(desk)
    spilled = desk.push_to_spill(run(9, 400, 60))
    shown += spilled
    desk = desk.killed()
    desk.unspill(spilled)
    desk.later(1)
    desk.pull(shown)
    desk.push(run(401, 402, 300))
    desk.later(1)
    desk.pull([*shown, *run(401, 402, 300)])
    assert (desk.state(), len(desk.stored())) == ("proven", 402)


def test_rows_left_in_the_spill_for_a_day_that_has_turned_are_doubted(desk: Desk) -> None:
    """Today's ticks come before the spill is drained: no answer will show yesterday's interruption."""
    proven(desk)
    desk.push_unreadable(Unreadable(0))
    spilled = desk.push_to_spill(run(9, 40, 60))
    desk = desk.killed()
    desk.later(3 * 86_400)
    desk.push([tick._replace(recv_ts_ms=desk.now_ms) for tick in run(1, 3, day=TOMORROW)])
    desk.unspill(spilled)
    assert (desk.state(), desk.reason()) == ("unproven", NOT_JOINED)


def test_rows_left_in_the_spill_for_a_symbol_that_nobody_wants_any_more_are_doubted(desk: Desk) -> None:
    proven(desk)
    desk.push_unreadable(Unreadable(0))
    spilled = desk.push_to_spill(run(9, 40, 60))
    desk = desk.killed(wanted=[OTHER])
    desk.unspill(spilled)
    assert (desk.state(), desk.reason()) == ("unproven", NOT_JOINED)


def test_a_day_whose_only_rows_were_left_in_the_spill_can_be_proven(desk: Desk) -> None:
    desk.pull([])
    shown = run(1, 8)
    spilled = desk.push_to_spill(shown)
    desk = desk.killed()
    desk.unspill(spilled)
    desk.push(run(9, 10, 60))
    shown += run(9, 10, 60)
    desk.later(1)
    desk.pull(shown)
    assert desk.state() == "proven"


def test_a_symbol_that_is_wanted_again_follows_an_interruption(desk: Desk) -> None:
    """The process before recorded its first 300 ticks, and OpenD began to count anew since."""
    proven(desk, 300)
    desk = desk.restarted(wanted=[OTHER])
    desk.continuity.seed_new(stored_tracks(desk.data_root, [SYMBOL, OTHER], 3, DAY))
    desk.continuity.interrupted([SYMBOL])
    anew = run(1, 1300, 500)
    desk.push(anew[-3:])
    for _ in range(2):
        desk.later(1)
        desk.pull(anew)
        desk.give_up()
    assert desk.state() == "unproven"
    assert NOT_JOINED in desk.reason()


@pytest.mark.parametrize("how", ["another connection", "subscribed again"])
def test_an_answer_that_was_asked_for_before_an_interruption_does_not_bridge_it(desk: Desk, how: str) -> None:
    shown = proven(desk)
    question = desk.ask()
    if how == "another connection":
        desk.continuity.connected()
    else:
        desk.continuity.interrupted([SYMBOL])
    desk.later(1)
    desk.answer(question, shown)
    anew = run(1, 1300, 500)
    desk.push(anew[8:])
    assert desk.reason() == NOT_YET_JOINED
    desk.later(1)
    desk.pull(anew)
    assert desk.state() == "unproven"


def test_an_answer_that_was_asked_for_before_an_interruption_still_brings_its_ticks(desk: Desk) -> None:
    shown = proven(desk)
    question = desk.ask()
    desk.continuity.connected()
    desk.answer(question, [*shown, *run(9, 12, 60)])
    assert (desk.counters(), desk.reason()) == (list(range(1, 13)), NOT_YET_JOINED)


def test_that_an_interruption_is_over_is_told_after_that_it_began(desk: Desk) -> None:
    """The network thread tells of it; the loop has an answer at the same moment."""
    shown = [*proven(desk), *run(9, 12, 60)]
    told: list[Fact] = []
    answering: list[threading.Thread] = []

    def take(facts: Sequence[Fact]) -> None:
        if isinstance(facts[0], Interrupted):
            answering.append(threading.Thread(target=desk.continuity.take, args=[answer]))
            answering[0].start()
            answering[0].join(0.2)  # it may not overtake, however long this takes
        told.extend(facts)

    desk.continuity = Continuity(take, spec.HK)
    desk.continuity.seed(stored_tracks(desk.data_root, [SYMBOL], 3, DAY))
    desk.continuity.connected()
    answer = Answer(desk.ask(), shown, [], desk.now_ms)
    desk.continuity.tell_interruptions(run(9, 12, 60))
    answering[0].join()
    assert [type(fact) for fact in told if isinstance(fact, (Interrupted, Rejoined))] == [Interrupted, Rejoined]


@pytest.mark.parametrize("pulled", [False, True], ids=["pushed", "pulled"])
def test_a_start_that_cannot_read_the_file_does_not_go_on_from_what_it_holds(desk: Desk, pulled: bool) -> None:
    """A new count goes on exactly where the file ends, and the process is killed before it could read the file."""
    proven(desk)
    desk = desk.restarted_blind()
    anew = run(1, 12, 500)
    if pulled:
        desk.pull(anew[8:])
    else:
        desk.push(anew[8:])
    assert (desk.state(), desk.coverage().interrupted_seq) == ("unproven", run(8, 8)[0].seq)
    desk = desk.killed()
    desk.push(run(13, 13, 510))
    desk.later(1)
    desk.pull([*anew[8:], *run(13, 13, 510)])
    assert desk.state() == "unproven"


def test_a_break_of_its_own_hides_none_that_a_blind_start_made(desk: Desk) -> None:
    """OpenD shows what came before and after the later one together, and nothing of what the file had."""
    proven(desk)
    desk = desk.restarted_blind()
    desk.push(run(9, 12, 500))
    desk.continuity.connected()
    desk.push(run(13, 14, 600))
    desk.later(1)
    desk.pull([*run(9, 12, 500), *run(13, 14, 600)])
    assert (desk.state(), desk.coverage().interrupted_seq) == ("unproven", run(8, 8)[0].seq)


def test_what_a_blind_start_left_open_is_joined_once_the_file_was_read(desk: Desk) -> None:
    shown = proven(desk)
    desk = desk.restarted_blind()
    desk.push(run(9, 12, 60))
    shown += run(9, 12, 60)
    desk.look_again()
    desk.later(1)
    desk.pull(shown)
    desk.push(run(13, 14, 90))
    desk.later(1)
    desk.pull([*shown, *run(13, 14, 90)])
    assert desk.state() == "proven"


def test_a_blind_start_on_a_day_without_rows_interrupts_nothing(desk: Desk) -> None:
    proven(desk)
    desk = desk.restarted_blind()
    desk.push(run(1, 2, symbol=OTHER))
    assert desk.coverage(OTHER).interrupted_seq is None
    assert desk.state() == "proven"


@pytest.mark.parametrize("first", ["pushed", "left over"])
def test_rows_of_the_spill_are_no_beginning_of_a_new_count(desk: Desk, first: str) -> None:
    """The file has none of the day's rows but those, and the new count ends exactly where they begin."""
    desk.pull([])
    spilled = desk.push_to_spill(run(30, 50))
    desk = desk.killed()
    desk.pull([])
    anew = run(1, 29, 500)
    if first == "pushed":
        desk.push(anew)
    desk.unspill(spilled)
    if first != "pushed":
        desk.push(anew)
    desk.later(1)
    desk.pull(anew)
    assert len(desk.stored()) == 50
    assert desk.state() == "unproven"


def test_rows_of_the_spill_that_an_answer_has_shown_already_begin_no_interruption(desk: Desk) -> None:
    shown = proven(desk)
    spilled = desk.push_to_spill(run(9, 40, 60))
    shown += spilled
    desk = desk.killed()
    desk.push(run(41, 42, 90))
    shown += run(41, 42, 90)
    desk.later(1)
    desk.pull(shown)
    desk.unspill(spilled)
    assert desk.state() == "proven"


def test_another_symbol_is_not_concerned(desk: Desk) -> None:
    proven(desk)
    desk.push(run(1, 3, symbol=OTHER))
    spilled = desk.push_to_spill(run(4, 5, 60, symbol=OTHER))
    desk = desk.killed()
    desk.unspill(spilled)
    assert desk.state() == "proven"


def test_a_file_made_before_interruptions_were_known_is_read_and_gets_the_column(desk: Desk) -> None:
    shown = proven(desk)
    desk.restarted()
    path = desk.data_root / f"{DAY}.db"
    with closing(sqlite3.connect(path)) as conn:
        conn.execute("ALTER TABLE coverage DROP COLUMN interrupted_seq")
        conn.execute("PRAGMA user_version = 1")
        conn.commit()
    assert [(row.state, row.interrupted_seq) for row in reader.coverage(path)] == [("proven", None)]
    desk = Desk(desk.data_root)
    desk.continuity.seed(stored_tracks(desk.data_root, [SYMBOL], 3, DAY))
    desk.push(run(9, 9, 60))
    assert desk.reason() == NOT_YET_JOINED
    desk.later(1)
    desk.pull([*shown, *run(9, 9, 60)])
    assert desk.state() == "proven"
