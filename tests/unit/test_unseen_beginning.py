"""A beginning that OpenD never showed is not called missing: by nobody who speaks of the day, and neither of a file in
which an earlier version wrote that word."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pytest

import hk_tick_collector
from hk_tick_collector.alert.rules import Seer
from hk_tick_collector.core.complaint import Code, Level
from hk_tick_collector.core.facts import UNREAD_TICK, Fact, GapFound, HeadProven, NotSubscribed, Unproven, Verified
from hk_tick_collector.quality.gap_list import gap_lines
from hk_tick_collector.quality.grade import explained
from hk_tick_collector.quality.missing_ranges import MissingRange, Now, now
from hk_tick_collector.quality.model import counted_reasons
from hk_tick_collector.query.engine import Engine
from hk_tick_collector.serve.live.facts import facts_of
from hk_tick_collector.store import judging, reader
from hk_tick_collector.store.writer import DayFileWriter
from hk_tick_collector.watch.condition import look
from hk_tick_collector.watch.repair import plan
from tests.ticks import DAY, make_ticks
from tests.unit.test_certificate import AFTER, CALENDAR, CONFIRMED, SYMBOL, certify, day_of, write
from tests.unit.test_complaints import NOTHING_WAITS, Desk, look_at

OLD_WORD = ("missing", "ticks that OpenD no longer shows: see table gaps")
WHY = "up to 36 ticks may have come before the first one seen: see table gaps"
BEGAN_LATE = GapFound(SYMBOL, DAY, None, 36, CONFIRMED, "recording began in mid-session")


@pytest.fixture(params=["new", "old"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A day whose counters begin with 37 as far as anybody saw; as this version and as an earlier one wrote it."""
    write(tmp_path, make_ticks(37, 136), [BEGAN_LATE, Verified(SYMBOL, DAY, 136, CONFIRMED)])
    if request.param == "old":
        with closing(sqlite3.connect(tmp_path / f"{DAY}.db")) as conn, conn:
            conn.execute("UPDATE coverage SET state = ?, reason = ?", OLD_WORD)
    return tmp_path


def test_everybody_says_unproven_and_how_many_at_most(root: Path) -> None:
    found = certify(root)
    assert found.problems == (), "the word of an earlier version is no contradiction"
    (symbol,) = found.symbols
    assert (symbol.state, symbol.reason, symbol.missing_ticks, symbol.missing_at_most) == ("unproven", WHY, 0, 36)
    assert (found.grade, found.missing_symbols, found.unproven_symbols) == ("E", 0, 1)
    assert "what came before the first tick seen, at most 36 ticks" in found.sentence
    assert "misses" not in found.sentence
    assert not found.fine, "the day is not known to be whole: `day` ends with 1, as `gaps` does"
    assert certify(root, rows=True).problems == ()

    told = judging.day_state(root / f"{DAY}.db")
    assert (told.symbols["missing"], told.symbols["unproven"], told.missing_ticks) == (0, 1, 0)
    live = facts_of(DAY, [reader.notes(root / f"{DAY}.db")])
    assert live[DAY, SYMBOL] == {
        "symbol": SYMBOL, "state": "unproven", "missing_ticks": 0, "missing_at_most": 36, "reason": WHY,
    }  # fmt: skip
    with hk_tick_collector.local(root) as hk:
        (day,) = hk.days()
        (row,) = hk.coverage(DAY)
    assert (day.state, day.missing_ticks) == ("unproven", 0)
    assert (row.state, row.missing_at_most, row.reason) == ("unproven", 36, WHY)


def test_no_doubt_hides_another_one(root: Path) -> None:
    """That counters prove nothing is graver than the beginning, and that ticks did not come at all than both."""
    write(root, [], [Unproven(SYMBOL, DAY, "the counters went back")])
    (symbol,) = certify(root).symbols
    assert (symbol.reason, symbol.missing_at_most) == (f"the counters went back; {WHY}", 36)
    write(root, [], [NotSubscribed(SYMBOL, DAY, CONFIRMED, CONFIRMED + 9, True, "quota")])
    (symbol,) = certify(root).symbols
    assert symbol.reason == f"not subscribed: quota; the counters went back; {WHY}"


def test_a_loss_hides_no_doubt(root: Path) -> None:
    """Neither in the file nor in what is made of it."""
    lost = [GapFound(SYMBOL, DAY, 137, 140, CONFIRMED, "gone"), Unproven(SYMBOL, DAY, "the counters went back")]
    write(root, [], [*lost, NotSubscribed(SYMBOL, DAY, CONFIRMED, CONFIRMED + 9, True, "quota")])
    (symbol,), (row,) = certify(root).symbols, reader.coverage(root / f"{DAY}.db")
    assert (symbol.state, symbol.missing_ticks) == (row.state, row.missing_ticks) == ("missing", 4)
    assert symbol.reason == row.reason == f"{OLD_WORD[1]}; not subscribed: quota; the counters went back; {WHY}"


@pytest.mark.parametrize("lost", [False, True])
def test_an_old_file_that_names_one_doubt_of_several_is_read_as_saying_all(root: Path, lost: bool) -> None:
    gaps = [GapFound(SYMBOL, DAY, 137, 140, CONFIRMED, "gone")] if lost else []
    write(root, [], [*gaps, Unproven(SYMBOL, DAY, "the counters went back")])
    with closing(sqlite3.connect(root / f"{DAY}.db")) as conn, conn:
        conn.execute("UPDATE coverage SET reason = ?", [OLD_WORD[1] if lost else WHY])
    (symbol,), (row,) = certify(root).symbols, judging.judged(reader.notes(root / f"{DAY}.db"))
    live = facts_of(DAY, [reader.notes(root / f"{DAY}.db")])[DAY, SYMBOL]
    with hk_tick_collector.local(root) as hk:
        (covered,) = hk.coverage(DAY)
    doubts = f"the counters went back; {WHY}"
    whole = ("missing", f"{OLD_WORD[1]}; {doubts}") if lost else ("unproven", doubts)
    for told in (symbol, row, covered):
        assert (told.state, told.reason) == whole
    assert (live["state"], live["reason"]) == whole


def test_a_bound_is_not_said_of_what_nothing_counts(root: Path) -> None:
    """Of one symbol the most that may be missing is known, of the other one nothing is."""
    assert "also" not in certify(root).sentence
    assert explained(certify(root)) == "at most 36 of 136 ticks may be missing (26 %)"
    write(root, make_ticks(1, 9, "HK.00005"), [Unproven("HK.00005", DAY, "the counters went back")])
    certificate = certify(root)
    assert "at most 36 ticks; 0 are proven complete, 2 unproven (also: the counters went back)." in certificate.sentence
    assert explained(certificate) == (
        "at most 36 of 145 ticks may be missing (25 %); besides, nothing counts what other doubts may hide"
    )


def test_a_doubt_beside_it_is_told_without_it(root: Path) -> None:
    """What came before the first tick is in the sentence already, and with its number."""
    write(root, [], [Unproven(SYMBOL, DAY, "the counters went back")])
    sentence = certify(root).sentence
    assert "before the first tick seen, at most 36 ticks; 0 are proven complete" in sentence
    assert "1 unproven (also: the counters went back)." in sentence


@pytest.mark.parametrize("numbers", [(36, 136), (1_036, 20_271_000)])
def test_a_number_of_any_size_is_one_number_where_reasons_are_counted(numbers: tuple[int, int]) -> None:
    reasons = (f"up to {number:,} ticks may have come before" for number in numbers)
    assert counted_reasons(reasons) == {"up to n ticks may have come before": 2}


def test_status_notes_it_and_pages_nobody(root: Path) -> None:
    assert judging.day_state(root / f"{DAY}.db") == judging.DayState(
        100, 0, {"proven": 0, "missing": 0, "unproven": 1}, unseen_symbols=1, unseen_ticks=36
    )
    condition = look(root, CALENDAR, AFTER)
    (told,) = (complaint for complaint in condition.complaints if complaint.code == Code.BEGINNING_UNSEEN)
    assert (told.level, told.sentence) == (
        Level.NOTE,
        f"{DAY}: the beginning of 1 symbol was not shown, up to 36 ticks may have come before the first ones seen: "
        "hk-tickctl gaps",
    )
    assert told.sentence in condition.notes
    assert condition.as_json()["day"]["state"]["unseen_ticks"] == 36
    assert Code.BEGINNING_UNSEEN not in {finding.code for finding in Seer().findings(condition)}


@pytest.mark.parametrize(("recorders_ticks", "said"), [(36, 1), (136, 2), (6, 2)])
def test_status_says_it_once_where_recorder_and_file_say_the_same(root: Path, recorders_ticks: int, said: int) -> None:
    """The recorder may have the files of two days open."""
    desk = Desk()
    desk.progress.ingest.unseen_ticks = recorders_ticks
    told = [asdict(complaint) for complaint in desk.judge.complaints(NOTHING_WAITS)]
    condition = look_at(root, complaints=told)
    assert condition.is_fresh
    assert [complaint.code for complaint in condition.complaints].count(Code.BEGINNING_UNSEEN) == said


def test_status_says_nothing_of_a_day_whose_beginning_is_known(tmp_path: Path) -> None:
    """Not even where ticks of it are missing: that is another complaint."""
    write(tmp_path, make_ticks(1, 5) + make_ticks(8, 9), [GapFound(SYMBOL, DAY, 6, 7, CONFIRMED, "gone")])
    codes = {complaint.code for complaint in look(tmp_path, CALENDAR, AFTER).complaints}
    assert (Code.TICKS_MISSING in codes, Code.BEGINNING_UNSEEN in codes) == (True, False)


def test_the_recorder_counts_it_until_the_beginning_is_shown(tmp_path: Path) -> None:
    def written(*facts: Fact) -> int:
        """Over a restart each time."""
        writer = DayFileWriter(tmp_path)
        told_ticks = writer.write(make_ticks(37, 136), facts).unseen_ticks
        assert told_ticks == writer.unseen_ticks
        writer.close()
        return told_ticks

    other = GapFound("HK.00005", DAY, None, 4, CONFIRMED, "recording began in mid-session")
    assert [written(), written(BEGAN_LATE), written(other), written(HeadProven(SYMBOL, DAY, 37))] == [0, 36, 40, 4]


def test_a_loss_in_front_of_the_first_tick_seen_stands_beside_the_bound_of_what_came_before_it(tmp_path: Path) -> None:
    """Both lie between the same two times, so they are one row of ``gaps``."""
    told = [BEGAN_LATE, GapFound(SYMBOL, DAY, 30, 36, CONFIRMED, "not shown by OpenD")]
    write(tmp_path, make_ticks(37, 136), [*told, Verified(SYMBOL, DAY, 136, CONFIRMED)])
    (gap,) = reader.gaps(tmp_path / f"{DAY}.db")
    assert (gap.extents, gap.at_most) == ([(30, 36)], 36)
    (symbol,) = certify(tmp_path).symbols
    assert (symbol.state, symbol.missing_ticks, symbol.missing_at_most) == ("missing", 7, 29)
    assert symbol.reason == f"{OLD_WORD[1]}; {WHY.replace('36', '29')}"


def test_sql_says_what_the_commands_say(root: Path) -> None:
    with Engine([day_of(root)]) as engine:
        result = engine.run("SELECT state, reason FROM coverage")
        assert pa.Table.from_batches(result.batches, result.schema).to_pylist() == [
            {"state": "unproven", "reason": WHY}
        ]


def test_repair_asks_for_it(root: Path) -> None:
    recorded = SimpleNamespace(data_root=root, now_ms=AFTER)
    asked = plan(recorded, CALENDAR, DAY, [])
    assert [(one.symbol, one.why, one.before.state, one.before.open_gaps) for one in asked.repairs] == [
        (SYMBOL, WHY, "unproven", 1)
    ]


def test_the_next_who_writes_says_today_s_word(root: Path) -> None:
    write(root, make_ticks(137, 137))
    (row,) = reader.coverage(root / f"{DAY}.db")
    assert (row.state, row.reason) == ("unproven", WHY)


def test_what_came_before_is_missing_once_opend_shows_where_the_day_began(root: Path) -> None:
    write(root, [], [HeadProven(SYMBOL, DAY, 2)])
    (symbol,) = certify(root).symbols
    assert (symbol.state, symbol.missing_ticks, symbol.missing_at_most) == ("missing", 35, None)
    assert judging.day_state(root / f"{DAY}.db").symbols["missing"] == 1
    write(root, make_ticks(2, 36), [HeadProven(SYMBOL, DAY, 2)])
    assert [one.state for one in certify(root).symbols] == ["proven"]


def test_a_range_before_the_first_tick_is_not_missing(root: Path) -> None:
    (line,) = gap_lines(day_of(root))
    assert (line.missing_ticks, line.counters, line.is_loss) == (None, "1-36 at most", False)
    asked = MissingRange(SYMBOL, DAY, line.start_ts_ms, line.start_ts_ms + 1)
    assert now(asked, [line], {SYMBOL: "unproven"}) is Now.UNPROVEN
    assert now(asked, [line], {SYMBOL: "missing"}) is Now.UNPROVEN, "what is missing is elsewhere"


def test_a_loss_that_is_known_stays_missing_in_an_old_file(tmp_path: Path) -> None:
    write(tmp_path, make_ticks(1, 5) + make_ticks(8, 9), [GapFound(SYMBOL, DAY, 6, 7, CONFIRMED, "gone")])
    (row,) = judging.judged(reader.notes(tmp_path / f"{DAY}.db"))
    assert (row.state, row.missing_ticks) == ("missing", 2)


@pytest.mark.parametrize("of_gap", ["DELETE FROM gaps WHERE missing_ticks > 0", "DELETE FROM gaps"])
def test_what_a_file_knew_to_be_lost_stays_lost_without_the_row_that_said_where(of_gap: str, tmp_path: Path) -> None:
    behind = GapFound(SYMBOL, DAY, 137, 140, CONFIRMED, "gone")
    write(tmp_path, make_ticks(37, 136), [BEGAN_LATE, Verified(SYMBOL, DAY, 136, CONFIRMED), behind])
    with closing(sqlite3.connect(tmp_path / f"{DAY}.db")) as conn, conn:
        conn.execute(of_gap)
    (row,) = judging.judged(reader.notes(tmp_path / f"{DAY}.db"))
    assert (row.state, row.missing_ticks) == ("missing", 4)
    assert judging.day_state(tmp_path / f"{DAY}.db").symbols["missing"] == 1
    (symbol,) = certify(tmp_path).symbols
    assert (symbol.state, symbol.missing_ticks) == ("missing", 4)


def test_an_old_file_s_loss_between_its_counters_is_read_with_the_doubt_beside_it(tmp_path: Path) -> None:
    """No row of ``gaps`` tells of either."""
    write(tmp_path, make_ticks(1, 5) + make_ticks(8, 9), [Unproven(SYMBOL, DAY, UNREAD_TICK)])
    with closing(sqlite3.connect(tmp_path / f"{DAY}.db")) as conn, conn:
        conn.execute("UPDATE coverage SET reason = '2 ticks between the stored ones'")
    (row,), (symbol,) = judging.judged(reader.notes(tmp_path / f"{DAY}.db")), certify(tmp_path).symbols
    assert row.reason == symbol.reason == f"2 ticks between the stored ones; {UNREAD_TICK}"


def test_a_loss_without_a_size_stays_lost_without_its_row_beside_another_doubt(tmp_path: Path) -> None:
    write(tmp_path, make_ticks(1, 9), [HeadProven(SYMBOL, DAY, 1), Unproven(SYMBOL, DAY, UNREAD_TICK)])
    with closing(sqlite3.connect(tmp_path / f"{DAY}.db")) as conn, conn:
        conn.execute("UPDATE coverage SET state = ?, reason = ?, missing_ticks = 0", OLD_WORD)
    (row,) = judging.judged(reader.notes(tmp_path / f"{DAY}.db"))
    assert (row.state, row.reason) == OLD_WORD


def test_a_row_that_nobody_can_judge_is_left_as_it_stands(root: Path) -> None:
    with closing(sqlite3.connect(root / f"{DAY}.db")) as conn, conn:
        conn.execute("UPDATE coverage SET holes = 'nonsense'")
    (row,) = judging.judged(reader.notes(root / f"{DAY}.db"))
    assert row.holes == "nonsense"


def test_a_gap_of_an_earlier_recorder_that_says_no_size_is_a_loss_wherever_it_is_told(tmp_path: Path) -> None:
    gone = GapFound(SYMBOL, DAY, 6, 7, CONFIRMED, "gone")
    write(tmp_path, make_ticks(1, 5) + make_ticks(8, 9), [HeadProven(SYMBOL, DAY, 1), gone])
    with closing(sqlite3.connect(tmp_path / f"{DAY}.db")) as conn, conn:
        conn.execute("UPDATE gaps SET meta_json = NULL, missing_ticks = NULL")
    line = next(line for line in gap_lines(day_of(tmp_path)) if line.missing_ticks is None)
    assert line.is_loss
    assert now(MissingRange(SYMBOL, DAY, line.start_ts_ms, line.end_ts_ms), [line], {SYMBOL: "missing"}) is Now.MISSING


@pytest.mark.parametrize(
    ("fact", "missing_ticks"),
    [(HeadProven(SYMBOL, DAY, 2), 35), (GapFound(SYMBOL, DAY, 137, 140, CONFIRMED, "gone"), 4)],
)
def test_what_one_of_two_recorders_knows_to_be_lost_is_missing_in_the_live_channel(
    fact: HeadProven | GapFound, missing_ticks: int, tmp_path: Path
) -> None:
    """As the joined day says: both began late, and one of them was told of more."""
    roots = [tmp_path / "a", tmp_path / "b"]
    for root, told in zip(roots, ([], [fact]), strict=True):
        root.mkdir()
        write(root, make_ticks(37, 136), [BEGAN_LATE, *told])
    notes = [reader.notes(root / f"{DAY}.db") for root in roots]
    with hk_tick_collector.local([*roots]) as hk:
        (row,) = hk.coverage(DAY)
    for noted in (notes, notes[::-1]):
        live = facts_of(DAY, noted)[DAY, SYMBOL]
        assert (live["state"], live["missing_ticks"]) == (row.state, row.missing_ticks) == ("missing", missing_ticks)
        assert live["missing_at_most"] == row.missing_at_most


def test_of_two_recorders_who_began_late_the_earlier_one_bounds_what_came_before(tmp_path: Path) -> None:
    roots = [tmp_path / "a", tmp_path / "b"]
    for root, first in zip(roots, (37, 20), strict=True):
        root.mkdir()
        write(root, make_ticks(first, 136), [BEGAN_LATE._replace(last=first - 1)])
    notes = [reader.notes(root / f"{DAY}.db") for root in roots]
    with hk_tick_collector.local([*roots]) as hk:
        (row,) = hk.coverage(DAY)
    for noted in (notes, notes[::-1]):
        live = facts_of(DAY, noted)[DAY, SYMBOL]
        assert (live["state"], live["missing_at_most"]) == (row.state, row.missing_at_most) == ("unproven", 19)
