"""What a certificate says of a day: numbers, states, grades, what the rows tell, and where file and rows disagree."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sqlite3
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hk_tick_collector.core.evidence import NO_COUNTER, EvidenceLevel
from hk_tick_collector.core.facts import (
    NO_TICK,
    UNREAD_TICK,
    DayFact,
    Fact,
    GapFound,
    HeadProven,
    NotSubscribed,
    RowsRead,
    Subscribed,
    Unproven,
    Verified,
)
from hk_tick_collector.days import manifest as manifests
from hk_tick_collector.days import parquet
from hk_tick_collector.days.catalog import Catalog, Day
from hk_tick_collector.days.content import ALGORITHM, content_of
from hk_tick_collector.days.tree import hive_path
from hk_tick_collector.market.calendar import TradingCalendar
from hk_tick_collector.market.hk import HK
from hk_tick_collector.market.hk.sessions import HK_TZ, day_start_ms
from hk_tick_collector.market.hours import DayKind, Hours, Phase, hm
from hk_tick_collector.quality import certificate as certificate_module
from hk_tick_collector.quality import page, plots, report_file
from hk_tick_collector.quality import recount as recounting
from hk_tick_collector.quality.certificate import make_certificate
from hk_tick_collector.quality.gap_list import NOT_GIVEN_UP, gap_lines
from hk_tick_collector.quality.grade import GRADES, explained
from hk_tick_collector.quality.model import Certificate
from hk_tick_collector.quality.recount import Recount, recount
from hk_tick_collector.records.tick import Tick
from hk_tick_collector.store import atomic, read_only, reader
from hk_tick_collector.store.doubles import likely_doubles
from hk_tick_collector.store.judging import verdict_of
from hk_tick_collector.store.read_only import open_read_only
from hk_tick_collector.store.reader import CoverageRow, GapRow
from hk_tick_collector.store.writer import DayFileWriter
from tests.nights import examples
from tests.tickctl import day_ticks, record_day
from tests.ticks import DAY, make_tick, make_ticks

CALENDAR = TradingCalendar(HK)
HALF_DAY, SUNDAY = "20261224", "20261122"
SYMBOL = "HK.00700"


def at(text: str) -> int:
    """Hong Kong time as UTC epoch ms."""
    return int(datetime.fromisoformat(text).replace(tzinfo=HK_TZ).timestamp() * 1000)


AFTER = at("2026-11-20T17:00:00")
CONFIRMED = at("2026-11-20T16:12:00")


def day_of(root: Path, day: str = DAY) -> Day:
    return Catalog(root, root / "_archive").day(day)


def certify(root: Path, day: str = DAY, *, now_ms: int = AFTER, rows: bool = False) -> Certificate:
    day_read = day_of(root, day)
    return make_certificate(day_read, CALENDAR, now_ms, recount(day_read, CALENDAR.day_kind(day)) if rows else None)


def write(root: Path, ticks: Sequence[Tick], facts: Sequence[Fact | DayFact] = ()) -> None:
    writer = DayFileWriter(root)
    writer.write(list(ticks), list(facts))
    writer.close()


def change(root: Path, sql: str, *values: object) -> None:
    with contextlib.closing(sqlite3.connect(root / f"{DAY}.db")) as conn, conn:
        assert conn.execute(sql, values).rowcount != 0


def row(**columns: object) -> CoverageRow:
    """A coverage row of ticks 1-10, proven."""
    proven = CoverageRow(SYMBOL, 1, 10, 10, 0, None, 1, 10, CONFIRMED, 0, 9, "proven", None, 0, 0, 1, None)
    return replace(proven, **columns)


def gap(**meta: object) -> GapRow:
    return GapRow(DAY, SYMBOL, 0, 1, 0.001, 1, "not shown by OpenD", json.dumps(meta), None, "open")


@pytest.mark.parametrize(
    ("coverage", "gaps", "state", "expected", "missing", "at_most"),
    [
        (row(), [], "proven", 10, 0, None),
        (row(holes="4-5", stored_ticks=8), [], "missing", 10, 2, None),
        (row(holes="4-5", stored_ticks=8), [gap(extents="4-5")], "missing", 10, 2, None),
        (row(), [gap(extents="12-13")], "missing", 13, 3, None),  # counter 11 is missing as well then
        (row(verified_counter=13), [], "missing", 13, 3, None),  # OpenD showed them
        (row(first_counter=3, stored_ticks=8), [], "missing", 10, 2, None),  # OpenD showed that the day began with 1
        (row(head_counter=None), [], "unproven", 10, 0, None),
        (row(head_counter=4), [], "unproven", 10, 0, None),  # shows no more than it has
        (row(verified_counter=None), [], "unproven", 10, 0, None),
        (row(first_counter=8, head_counter=None, stored_ticks=3), [gap(at_most=7)], "unproven", None, 0, 7),
        # What OpenD showed the day to begin with is counted, and nothing came before it.
        (row(first_counter=8, stored_ticks=3), [gap(at_most=7)], "missing", 10, 7, None),
        (row(first_counter=8, head_counter=4, stored_ticks=3), [gap(at_most=7)], "missing", 7, 4, None),
        (row(first_counter=8, stored_ticks=5, unsequenced_ticks=2), [gap(at_most=7)], "missing", None, 5, 2),
        # A gap whose counters are known is of ticks that OpenD had, also beside a beginning of which only the most is.
        (
            row(first_counter=8, head_counter=None, stored_ticks=3),
            [gap(at_most=7), gap(extents="9-9")],
            "missing",
            None,
            1,
            7,
        ),
        (row(head_counter=None), [gap()], "missing", 10, 0, None),  # of an earlier recorder: it says no more
        (row(distrust="they go back", holes="4-5", stored_ticks=8), [], "unproven", None, 0, None),
        (row(distrust="they go back", verified_counter=13), [], "unproven", None, 0, None),
        (row(distrust="they go back"), [gap(extents="20-22")], "missing", None, 3, None),
        # Rows without a sequence may be those that seem to be missing.
        (row(holes="4-5", stored_ticks=10, unsequenced_ticks=2), [], "unproven", None, 0, None),
        (row(holes="4-6", stored_ticks=9, unsequenced_ticks=2), [], "missing", None, 1, None),
        (row(holes="4-5", stored_ticks=10), [], "unproven", None, 0, None),  # two rows with a counter that was there
        (
            row(first_counter=None, last_counter=None, stored_ticks=0),
            [],
            "missing",
            None,
            10,
            None,
        ),  # OpenD showed them
    ],
)
def test_numbers_and_state_of_a_symbol(
    coverage: CoverageRow, gaps: list[GapRow], state: str, expected: int | None, missing: int, at_most: int | None
) -> None:
    verdict = verdict_of(coverage, gaps)
    assert (verdict.state, verdict.expected_ticks, verdict.missing_at_most, verdict.missing_ticks) == (
        state,
        expected,
        at_most,
        missing,
    )
    assert (verdict.reason is None) == (state == "proven")


def test_a_complete_day(tmp_path: Path) -> None:
    record_day(tmp_path, count=50)
    certificate = certify(tmp_path)
    assert (certificate.grade, certificate.fine, certificate.so_far, certificate.recounted) == ("A", True, False, False)
    assert (certificate.stored_ticks, certificate.expected_ticks, certificate.missing_ticks) == (150, 150, 0)
    assert (certificate.proven_symbols, certificate.missing_symbols, certificate.unproven_symbols) == (3, 0, 0)
    assert certificate.end_confirmed_symbols == 3
    assert certificate.rows is None
    assert all(verdict.rows is None for verdict in certificate.symbols)
    assert any("--recount" in note for note in certificate.notes), "what was not read is said"
    assert certificate.sentence == (
        "20261120 is complete: 150 ticks of 3 symbols, every symbol proven, and OpenD had nothing more after the close."
        " Its 150 rows were read again at 17:00:00 HKT."
    )
    with pytest.raises(AttributeError):
        certificate.grade = "F"  # type: ignore[misc]


def test_what_is_missing_is_first_and_counted(tmp_path: Path) -> None:
    record_day(tmp_path, count=50, lost=(20, 21, 30))
    certificate = certify(tmp_path)
    assert not certificate.fine
    assert (certificate.missing_ticks, certificate.expected_ticks, certificate.missing_symbols) == (3, 150, 1)
    assert (certificate.symbols[0].symbol, certificate.symbols[0].state, certificate.symbols[0].missing_ticks) == (
        "HK.00005",
        "missing",
        3,
    )
    assert len(certificate.open_gaps) == certificate.symbols[0].open_gaps == 2
    assert certificate.sentence.startswith("20261120 misses 3 of 150 ticks, in 1 of 3 symbols; 2 are proven complete")


def only(state: str, ticks: int, missing: int = 0, at_most: int | None = None) -> tuple[str, int, int, int | None]:
    return state, ticks, missing, at_most


@pytest.mark.parametrize(
    ("grade", "symbols", "fields"),
    [
        ("A", [only("proven", 100)], {}),
        ("B", [only("proven", 100)], {"end_confirmed_symbols": 0}),
        ("A", [only("proven", 100)], {"end_confirmed_symbols": 0, "so_far": True}),
        ("B", [only("proven", 990), only("unproven", 10)], {}),
        ("C", [only("proven", 980), only("unproven", 20)], {}),
        ("D", [only("missing", 999, 1)], {}),
        ("E", [only("missing", 998, 2)], {}),
        ("E", [only("missing", 999, 0, 5)], {}),
        ("D", [only("missing", 400, 0, 5), only("proven", 9_600)], {}),
        ("E", [only("missing", 400, 6, 5), only("proven", 9_600)], {}),
        ("E", [only("unproven", 999, 0, 5)], {}),  # the most that may have come before the first tick seen
        ("D", [only("unproven", 400, 0, 5), only("proven", 9_600)], {}),
        ("E", [only("unproven", 400, 0, 5), only("missing", 9_600, 6)], {}),
        ("F", [], {}),
        ("F", [only("proven", 100)], {"error": "it is gone"}),
        ("F", [only("proven", 100)], {"problems": ("HK.00700: no",)}),
    ],
)
def test_grades(
    tmp_path: Path, grade: str, symbols: list[tuple[str, int, int, int | None]], fields: dict[str, object]
) -> None:
    from hk_tick_collector.quality.grade import graded  # noqa: PLC0415

    record_day(tmp_path, count=1, symbols=(SYMBOL,))
    blank = certify(tmp_path)
    made = tuple(
        replace(blank.symbols[0], state=state, stored_ticks=ticks, missing_ticks=missing, missing_at_most=at_most)
        for state, ticks, missing, at_most in symbols
    )
    whole = {
        "symbols": made,
        "stored_ticks": sum(verdict.stored_ticks for verdict in made),
        "missing_ticks": sum(verdict.missing_ticks for verdict in made),
        "proven_symbols": sum(verdict.state == "proven" for verdict in made),
        "unproven_symbols": sum(verdict.state == "unproven" for verdict in made),
        "missing_symbols": sum(verdict.state == "missing" for verdict in made),
        "end_confirmed_symbols": len(made),
        **fields,
    }
    grading = graded(replace(blank, **whole))
    assert grading.grade == grade, GRADES
    assert grading.sentence.startswith(DAY)


@pytest.mark.parametrize(
    ("missing", "sentence", "why"),
    [
        (
            0,
            "is not proven to be complete: for 1 of 2 symbols it is unknown what came before the first tick seen, "
            "at most 5 ticks;",
            "at most 5 of 10,005 ticks may be missing (0.05 %)",
        ),
        (
            6,
            "misses at least 6 ticks in 1 of 2 symbols; for 1 it is unknown what came before the first tick seen "
            "(at most 11 in all);",
            "at most 11 of 10,011 ticks are missing (0.11 %)",
        ),
    ],
)
def test_of_a_symbol_that_began_late_the_most_that_is_missing_is_said(
    tmp_path: Path, missing: int, sentence: str, why: str
) -> None:
    from hk_tick_collector.quality.grade import explained, graded  # noqa: PLC0415

    record_day(tmp_path, count=1, symbols=(SYMBOL,))
    blank = certify(tmp_path)
    state = "missing" if missing else "unproven"
    late = replace(blank.symbols[0], state=state, stored_ticks=400, missing_ticks=missing, missing_at_most=5)
    other = replace(blank.symbols[0], state="proven", stored_ticks=9_600)
    grading = graded(
        replace(
            blank, symbols=(late, other), stored_ticks=10_000, missing_ticks=missing,
            missing_symbols=int(late.is_missing), proven_symbols=1, unproven_symbols=int(not late.is_missing),
        )
    )  # fmt: skip
    assert sentence in grading.sentence
    assert explained(grading) == why
    assert not grading.fine, "what was never shown may be lost: as with an open gap the command ends with 1"


@pytest.mark.parametrize(
    ("day", "now", "so_far"),
    [
        (DAY, "2026-11-20T16:14:59", True),
        (DAY, "2026-11-20T16:15:00", False),
        (HALF_DAY, "2026-12-24T12:14:59", True),
        (HALF_DAY, "2026-12-24T12:15:00", False),
        (SUNDAY, "2026-11-22T23:59:59", True),
        (SUNDAY, "2026-11-23T00:00:00", False),
    ],
)
def test_a_day_in_session_is_judged_so_far(tmp_path: Path, day: str, now: str, so_far: bool) -> None:
    record_day(tmp_path, day, count=5)
    certificate = certify(tmp_path, day, now_ms=at(now))
    assert certificate.so_far is so_far
    assert (certificate.rows_read_at_ms is None) is so_far, (
        "the recorder writes to a live file: it is read when it is over"
    )
    assert ("so far" in certificate.sentence) is so_far
    assert certificate.day_kind == {DAY: "whole", HALF_DAY: "half", SUNDAY: "closed"}[day]
    assert [session.name for session in certificate.sessions] == {
        DAY: ["opening_auction", "morning", "afternoon", "closing_auction"],
        HALF_DAY: ["opening_auction", "morning", "closing_auction"],
        SUNDAY: [],
    }[day]
    assert any("closed" in note for note in certificate.notes) is (day == SUNDAY)


def test_sessions_are_confirmed_up_to_where_opend_was_asked(tmp_path: Path) -> None:
    asked = at("2026-11-20T13:30:00")
    write(tmp_path, make_ticks(1, 9), [HeadProven(SYMBOL, DAY, 1), Verified(SYMBOL, DAY, 9, asked)])
    certificate = certify(tmp_path)
    assert [session.confirmed_symbols for session in certificate.sessions] == [1, 1, 0, 0]
    assert certificate.confirmed_until_ms == asked
    assert (certificate.grade, certificate.end_confirmed_symbols) == ("B", 0)
    assert "1 of them not to the end of the day" in certificate.sentence


@pytest.mark.parametrize(
    ("asked", "confirmed"),
    [
        ("12:59:59.999", [1, 1, 0, 0]),
        ("15:59:59.999", [1, 1, 0, 0]),
        ("16:00:00", [1, 1, 1, 0]),  # the closing auction only begins: its prints come eight minutes later
        ("16:09:59.999", [1, 1, 1, 0]),
        ("16:10:00", [1, 1, 1, 1]),
    ],
)
def test_the_closing_auction_is_confirmed_by_its_end_not_by_its_start(
    asked: str, confirmed: list[int], tmp_path: Path
) -> None:
    write(tmp_path, make_ticks(1, 9), [HeadProven(SYMBOL, DAY, 1), Verified(SYMBOL, DAY, 9, at(f"2026-11-20T{asked}"))])
    certificate = certify(tmp_path)
    assert [session.confirmed_symbols for session in certificate.sessions] == confirmed
    assert (certificate.grade, certificate.end_confirmed_symbols) == (("A", 1) if confirmed[-1] else ("B", 0))


def test_a_symbol_written_to_while_it_is_read_is_not_judged_by_tables_of_two_moments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The recorder closes a gap between the reading of ``coverage`` and that of ``gaps``."""
    missing = GapFound(SYMBOL, DAY, 5, 5, CONFIRMED, "not shown by OpenD")
    facts = [HeadProven(SYMBOL, DAY, 1), Verified(SYMBOL, DAY, 9, CONFIRMED), missing]
    recorder = DayFileWriter(tmp_path)  # has the file open all the time, as a recorder at work
    recorder.write([*make_ticks(1, 4), *make_ticks(6, 9)], facts)
    read = reader.table_rows

    def meanwhile(conn: sqlite3.Connection, kind: type, *rest: object) -> object:
        if kind is GapRow:
            recorder.write(make_ticks(5, 5))
        return read(conn, kind, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(reader, "table_rows", meanwhile)
    certificate = certify(tmp_path)
    assert (certificate.problems, certificate.symbols[0].state, certificate.symbols[0].missing_ticks) == (
        (),
        "missing",
        1,
    )
    assert certify(tmp_path).symbols[0].state == "proven"
    recorder.close()


def states_everywhere(root: Path) -> dict[str, dict[str, tuple[str, int]]]:
    """State and missing ticks of each symbol, by who says it."""
    day_read = day_of(root)
    states = {
        "coverage": {row.symbol: (row.state, row.missing_ticks) for row in day_read.coverage()},
        "day": {verdict.symbol: (verdict.state, verdict.missing_ticks) for verdict in certify(root).symbols},
        "recount": {
            verdict.symbol: (verdict.state, verdict.missing_ticks) for verdict in certify(root, rows=True).symbols
        },
    }
    lines = [line for line in gap_lines(day_read) if line.state == "open"]
    lost = {line.symbol for line in lines if line.is_loss}
    states["gaps"] = {
        symbol: (
            "missing" if symbol in lost else "not missing",
            sum(line.missing_ticks or 0 for line in lines if line.symbol == symbol),
        )
        for symbol in states["day"]
    }
    return states


_COUNTERS = st.integers(1, 12)
_FACT = st.one_of(
    st.builds(HeadProven, st.just(SYMBOL), st.just(DAY), _COUNTERS),
    st.builds(Verified, st.just(SYMBOL), st.just(DAY), _COUNTERS | st.just(NO_TICK), st.integers(1, 4)),
    st.builds(Unproven, st.just(SYMBOL), st.just(DAY), st.sampled_from(["odd", UNREAD_TICK])),
    st.builds(
        lambda first, more: GapFound(SYMBOL, DAY, first, first + more, 7, "gone"), _COUNTERS, st.integers(0, 3)
    ),
    st.builds(lambda last: GapFound(SYMBOL, DAY, None, last, 7, "late"), _COUNTERS),
    st.builds(
        lambda since, more, over: NotSubscribed(SYMBOL, DAY, since, since + more, over, "No right"),
        st.integers(1, 3), st.integers(0, 2), st.booleans(),
    ),
    st.builds(lambda at_ms: Subscribed(DAY, (SYMBOL,), at_ms), st.integers(1, 4)),
)  # fmt: skip
_TICK = st.builds(
    lambda counter, moved, sequenced: make_tick(counter)._replace(
        ts_ms=make_tick(counter).ts_ms + moved, seq=make_tick(counter).seq if sequenced else None
    ),
    _COUNTERS,
    st.sampled_from([0, 0, 0, 1000]),
    st.sampled_from([True, True, True, False]),
)


@settings(max_examples=examples(60))
@given(st.lists(st.tuples(st.lists(_TICK, max_size=6), st.lists(_FACT, max_size=3)), min_size=1, max_size=4))
def test_all_who_speak_of_a_symbol_say_the_same(batches: list[tuple[list[Tick], list[Fact | DayFact]]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        write(root, make_ticks(1, 2, symbol="HK.00005"))
        for ticks, facts in batches:
            write(root, ticks, facts)
        states = states_everywhere(root)
        assert states["coverage"] == states["day"] == states["recount"]
        for symbol, (state, missing) in states["day"].items():
            assert states["gaps"][symbol] == ("missing" if state == "missing" else "not missing", missing)
        certificate = certify(root)
        assert certificate.problems == ()
        assert certificate.missing_ticks == sum(missing for _, missing in states["day"].values())
        still_open = any(line.state == "open" for line in gap_lines(day_of(root)))
        assert certificate.fine is not still_open, "`day` and `gaps` end with the same code"


def special_day(day: str, closing: str) -> list[Tick]:
    """Ticks of which each tells something, of one symbol; the closing auction's print at ``closing``."""
    iso = f"{day[:4]}-{day[4:6]}-{day[6:]}T"
    base = make_tick(1, trading_day=day)

    def one(counter: int, clock: str, late_ms: int = 60, **fields: object) -> Tick:
        ts_ms = at(iso + clock)
        return base._replace(
            ts_ms=ts_ms, recv_ts_ms=ts_ms + late_ms, opend_recv_ts_ms=ts_ms + 40, seq=(ts_ms // 1000) << 32 | counter
        )._replace(**fields)

    return [
        one(1, "09:20:30", tick_type="AUCTION"),
        one(2, "09:30:01"),
        one(3, "09:30:02", late_ms=5_001, push_type="repair"),  # late, and received behind 4 and 5
        one(4, "09:30:03", direction=None),
        one(5, "09:30:04", seq=(at(f"{iso}09:30:04") // 1000 + 6) << 32 | 5),  # its second disagrees
        one(6, "09:30:05", opend_recv_ts_ms=at(f"{iso}09:30:05") - 1),  # received before the event
        one(7, "12:30:00", tick_type="ODD_LOT"),  # in the lunch break, on a half day long after the close
        one(8, closing, tick_type="AUCTION", direction="NEUTRAL"),
    ]


@pytest.mark.parametrize(
    ("day", "closing", "sessions"),
    [(DAY, "16:08:12", [1, 5, 0, 1]), (HALF_DAY, "12:08:12", [1, 5, 1]), (SUNDAY, "16:08:12", [])],
)
def test_what_only_the_rows_tell(tmp_path: Path, day: str, closing: str, sessions: list[int]) -> None:
    write(tmp_path, special_day(day, closing))
    certificate = certify(tmp_path, day, rows=True)
    assert certificate.recounted
    assert certificate.problems == ()
    (symbol,) = certificate.symbols
    rows = certificate.rows
    assert rows is not None
    assert symbol.rows == rows, "one symbol is the whole day"
    assert (rows.ticks, rows.out_of_order_ticks, rows.late_ticks) == (8, 1, 1)
    assert (rows.sequence_time_disagreements, rows.received_before_event_ticks, rows.other_day_ticks) == (1, 1, 0)
    auctions = (None, None) if day == SUNDAY else (1, 1)
    assert (rows.opening_auction_ticks, rows.closing_auction_ticks) == auctions
    assert [session.ticks for session in rows.sessions] == sessions
    assert rows.outside_session_ticks == 8 - sum(sessions)
    assert rows.by_type == {"AUTO_MATCH": 5, "AUCTION": 2, "ODD_LOT": 1}
    assert rows.by_direction == {"BUY": 6, "NEUTRAL": 1, "none": 1}
    assert rows.by_source == {"push": 7, "repair": 1}
    if day == DAY:
        morning = rows.sessions[1]
        assert (morning.first_ts_ms, morning.last_ts_ms) == (at("2026-11-20T09:30:01"), at("2026-11-20T09:30:05"))


def test_session_windows_join_the_calendar() -> None:
    whole, half = HK.sessions(DAY, DayKind.WHOLE), HK.sessions(HALF_DAY, DayKind.HALF)
    assert [(session.end_ms - session.start_ms) // 60_000 for session in whole] == [30, 150, 180, 15]
    assert [(session.end_ms - session.start_ms) // 60_000 for session in half] == [30, 150, 15]
    assert HK.sessions(SUNDAY, DayKind.CLOSED) == ()


def test_a_day_is_judged_by_the_hours_of_its_date(tmp_path: Path) -> None:
    """Longer hours from January on: a day of November, judged later, keeps its grade and its sessions."""
    write(tmp_path, make_ticks(1, 9), [HeadProven(SYMBOL, DAY, 1), Verified(SYMBOL, DAY, 9, at("2026-11-20T16:10:00"))])
    before = certify(tmp_path, rows=True)
    longer = Hours("20270104", ((hm(9), Phase.MORNING), (hm(18), Phase.CLOSED)), half=())
    changed = replace(HK, hours=(*HK.hours, longer))
    day, now_ms = replace(day_of(tmp_path), market=changed), at("2027-06-01T12:00:00")
    recounted = recount(day, DayKind.WHOLE)
    after = make_certificate(day, TradingCalendar(changed), now_ms, recounted)
    assert (after.grade, after.sessions, after.rows) == (before.grade, before.sessions, before.rows)
    assert after.grade == "A"
    assert changed.recording_window("20270104", DayKind.WHOLE)[1] == at("2027-01-04T18:00:00")


def archive(root: Path, day: str = DAY) -> None:
    """Put a day away as an archive has it, and remove its file."""
    day_read = day_of(root, day)
    path = hive_path(root / "_archive" / "ticks", day)
    path.parent.mkdir(parents=True)
    rows = parquet.write_sorted(path, day_read.sorted_tables())
    content = content_of(day_read.batches())
    claim = manifests.Manifest(
        manifests.FORMAT_VERSION, day, "HK", 1, "0", 1, 1, rows, ALGORITHM, content.content_hash,
        manifests.claims_of(content), (), tuple(day_read.coverage()), tuple(day_read.gaps()),
    )  # fmt: skip
    target = manifests.manifest_path(root / "_archive", day)
    target.parent.mkdir(parents=True)
    target.write_text(claim.to_json())
    (root / f"{day}.db").unlink()


def comparable(certificate: Certificate) -> dict[str, object]:
    return {**asdict(certificate), "source": "", "source_changed_ns": 0}


def test_an_archived_day_gets_the_same_certificate(tmp_path: Path) -> None:
    record_day(tmp_path, count=300, lost=(7, 8))
    live = certify(tmp_path, rows=True)
    archive(tmp_path)
    put_away = certify(tmp_path, rows=True)
    assert put_away.source.endswith("ticks.parquet")
    assert comparable(put_away) == comparable(live)
    assert comparable(certify(tmp_path))["symbols"] != comparable(live)["symbols"], "without rows it knows less"


def test_the_order_of_rows_changes_nothing(tmp_path: Path) -> None:
    write(tmp_path, [*special_day(DAY, "16:08:12"), *day_ticks("HK.00005", 400)])
    day = day_of(tmp_path)
    (whole,) = day.batches(recounting.COLUMNS)
    mixed = whole.take(pa.array([(n * 37) % whole.num_rows for n in range(whole.num_rows)]))
    assert whole.num_rows % 37
    results = []
    for batches in ([whole], [mixed], [mixed.slice(n, 10) for n in range(0, mixed.num_rows, 10)]):
        counter = recounting._Counter(HK, DAY, DayKind.WHOLE)
        for batch in batches:
            counter.add(batch)
        results.append(counter.result([], None))
    assert results[0] == results[1] == results[2]
    assert results[0].total.ticks == 408


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        (
            "UPDATE coverage SET stored_ticks = 51, last_counter = 51 WHERE {it}",
            "coverage counts 51",
        ),
        ("UPDATE coverage SET first_counter = 2, stored_ticks = 49 WHERE {it}", r"1 counters \(1-1\)"),
        (
            "UPDATE coverage SET holes = '4-5', stored_ticks = 48, state = 'missing' WHERE {it}",
            r"\(4-5\)",
        ),
        ("UPDATE coverage SET first_ts_ms = first_ts_ms + 1 WHERE {it}", "the first tick"),
        ("UPDATE coverage SET last_ts_ms = last_ts_ms - 1 WHERE {it}", "the last tick"),
        (
            "UPDATE coverage SET unsequenced_ticks = 1 WHERE {it}",
            "coverage counts 1 ticks without",
        ),
        ("UPDATE coverage SET state = 'unproven' WHERE {it}", "coverage says unproven"),
        ("UPDATE coverage SET holes = 'none' WHERE {it}", "its coverage cannot be read"),
        ("DELETE FROM coverage WHERE {it}", "50 rows, and nothing about them"),
        ("DELETE FROM ticks WHERE {it} AND seq & 0xFFFFFFFF = 30", "coverage counts 50 ticks"),
        ("DELETE FROM ticks WHERE {it}", "coverage counts 50 ticks, there are 0 rows"),
        (
            "UPDATE ticks SET ts_ms = ts_ms + 86400000 WHERE {it} AND seq & 0xFFFFFFFF = 50",
            "of another day",
        ),
        ("UPDATE ticks SET seq = seq + 1000 WHERE {it} AND seq & 0xFFFFFFFF = 50", r"\(1050-1050\)"),
    ],
)
def test_a_file_that_contradicts_itself(tmp_path: Path, sql: str, words: str) -> None:
    record_day(tmp_path, count=50)
    change(tmp_path, sql.format(it=f"symbol = '{SYMBOL}'"))
    certificate = certify(tmp_path, rows=True)
    assert any(re.match(f"{SYMBOL}: .*{words}", problem) for problem in certificate.problems), certificate.problems
    assert all(problem.startswith(f"{SYMBOL}: ") for problem in certificate.problems), "nothing is said of the others"
    assert (certificate.grade, certificate.fine) == ("F", False)
    assert "contradicts itself" in certificate.sentence


def test_a_state_that_the_numbers_do_not_bear_is_seen_without_the_rows(tmp_path: Path) -> None:
    record_day(tmp_path, count=50, lost=(7,))
    change(tmp_path, "UPDATE coverage SET state = 'proven', reason = NULL WHERE symbol = 'HK.00005'")
    certificate = certify(tmp_path)
    assert [problem.split(":")[0] for problem in certificate.problems] == ["HK.00005"]
    assert certificate.symbols[0].state == "missing"


@pytest.mark.parametrize("more", [make_ticks(31, 45), make_ticks(40, 45), make_ticks(10, 12, symbol="HK.00001")])
def test_a_recorder_at_work_contradicts_nothing(tmp_path: Path, more: list[Tick]) -> None:
    facts = [HeadProven(SYMBOL, DAY, 1), Verified(SYMBOL, DAY, 30, CONFIRMED)]
    write(tmp_path, make_ticks(1, 30), facts)
    day = day_of(tmp_path)
    rows = recount(day, DayKind.WHOLE)
    write(tmp_path, more)
    certificate = make_certificate(day, CALENDAR, AFTER, rows)
    assert certificate.problems == ()
    change(tmp_path, "UPDATE coverage SET holes = '3-4' WHERE symbol = 'HK.00700'")
    assert make_certificate(day, CALENDAR, AFTER, rows).problems, "what cannot have come meanwhile is found"


def test_a_file_of_an_earlier_recorder(tmp_path: Path) -> None:
    write(tmp_path, [*make_ticks(1, 30), *make_ticks(1, 10, symbol="HK.00001"), *make_ticks(13, 20, symbol="HK.00001")])
    with contextlib.closing(sqlite3.connect(tmp_path / f"{DAY}.db")) as conn:
        conn.executescript("DROP TABLE coverage; DROP TABLE gaps;")
    noted = certify(tmp_path)
    assert (noted.stored_ticks, noted.symbols, noted.grade) == (48, (), "C")
    assert any("earlier recorder" in note for note in noted.notes)
    counted = certify(tmp_path, rows=True)
    assert {verdict.symbol: (verdict.state, verdict.missing_ticks) for verdict in counted.symbols} == {
        "HK.00001": ("missing", 2),
        "HK.00700": ("unproven", 0),
    }
    assert counted.problems == ()


def test_a_symbol_of_which_only_a_gap_is_known(tmp_path: Path) -> None:
    write(tmp_path, make_ticks(1, 3, symbol="HK.00001"), [GapFound(SYMBOL, DAY, 5, 9, CONFIRMED, "not shown")])
    change(tmp_path, "DELETE FROM coverage WHERE symbol = ?", SYMBOL)
    verdict = certify(tmp_path).symbol(SYMBOL)
    assert verdict is not None
    assert (verdict.state, verdict.missing_ticks, verdict.stored_ticks) == ("missing", 5, 0)


def test_a_file_that_cannot_be_read_makes_a_certificate_that_says_so(tmp_path: Path) -> None:
    (tmp_path / f"{DAY}.db").write_bytes(b"no database" * 1000)
    certificate = certify(tmp_path)
    assert (certificate.grade, certificate.fine) == ("F", False)
    assert certificate.error is not None
    assert "cannot be read" in certificate.sentence


def test_the_one_known_limit(tmp_path: Path) -> None:
    """OpenD was restarted at noon and shows its short memory as the whole day, and recording begins only then: it
    cannot be told from a day that began at noon. The first tick's time gives it away to a person."""
    facts = [HeadProven(SYMBOL, DAY, 501), Verified(SYMBOL, DAY, 600, CONFIRMED)]
    write(tmp_path, make_ticks(501, 600), facts)
    assert certify(tmp_path).proven_symbols == 1
    write(tmp_path, make_ticks(101, 102))  # had it recorded in the morning, its own counters would stand against it
    assert certify(tmp_path).missing_ticks == 398


def test_rows_in_the_spill_are_mentioned(tmp_path: Path) -> None:
    record_day(tmp_path, count=5)
    assert not any("spill" in note for note in certify(tmp_path).notes)
    (tmp_path / "_spill").mkdir(exist_ok=True)
    (tmp_path / "_spill" / "00000001.spill").write_bytes(b"x")
    assert any("spill" in note for note in certify(tmp_path).notes)


@pytest.mark.parametrize(("files", "note"), [(0, None), (1, "1 depth file is kept"), (2, "2 depth files are kept")])
def test_what_is_kept_beside_a_day_is_mentioned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: int, note: str | None
) -> None:
    record_day(tmp_path, count=5)
    monkeypatch.setattr(certificate_module, "kept_files", lambda root, day: ["an entry"] * files)
    assert [note.partition(" beside")[0] for note in certify(tmp_path).notes if "depth" in note] == (
        [note] if note else []
    )


def test_doubles_of_an_earlier_recorder_are_counted_in_a_note(tmp_path: Path) -> None:
    write(tmp_path, make_ticks(1, 10))
    change(tmp_path, "UPDATE ticks SET seq = NULL, occurrence = -1 - (SELECT seq FROM ticks WHERE rowid = 1), "
           "ts_ms = ts_ms / 1000 * 1000 WHERE rowid = 2")  # fmt: skip
    assert [note for note in certify(tmp_path, rows=True).notes if "doubles" in note] == [
        "1 rows are likely doubles that an earlier recorder stored"
    ]
    assert not [note for note in certify(tmp_path).notes if "doubles" in note]


def test_doubles_of_a_day_file_are_none_of_the_archive_that_is_read_in_its_place(tmp_path: Path) -> None:
    write(tmp_path, [*make_ticks(1, 10), *make_ticks(1, 10, symbol="HK.00005")])
    archive(tmp_path)
    write(tmp_path, make_ticks(1, 10))
    change(tmp_path, "UPDATE ticks SET seq = NULL, occurrence = -1 - (SELECT seq FROM ticks WHERE rowid = 1), "
           "ts_ms = ts_ms / 1000 * 1000 WHERE rowid = 2")  # fmt: skip
    assert likely_doubles(tmp_path / f"{DAY}.db") == 1
    notes = certify(tmp_path, rows=True).notes
    assert any("the archive is read" in note for note in notes)
    assert not any("likely doubles" in note for note in notes)


def test_a_day_that_was_read_when_it_closed_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, [make_tick(n, symbol=f"HK.{code:05d}") for code in range(1, 901) for n in (1, 2)])
    now_ms = int(datetime.now(tz=HK_TZ).timestamp() * 1000)
    assert certify(tmp_path, now_ms=now_ms).rows_read_at_ms == now_ms, "nobody has read it yet: it is read now"
    write(tmp_path, [], [RowsRead(DAY, 1800, now_ms + 1)])
    statements: list[str] = []
    genuine = open_read_only

    def traced(db: Path) -> sqlite3.Connection:
        conn = genuine(db)
        conn.set_trace_callback(statements.append)
        return conn

    for module in (read_only, certificate_module):
        monkeypatch.setattr(module, "open_read_only", traced)
    certificate = certify(tmp_path, now_ms=now_ms + 5000)
    assert (certificate.unproven_symbols, certificate.rows_read_at_ms, certificate.rows_read) == (900, now_ms + 1, 1800)
    assert any("FROM coverage" in statement for statement in statements)
    assert not [statement for statement in statements if "FROM ticks" in statement or "quick_check" in statement]


@pytest.mark.parametrize("after", ["a row", "a count", "a touch"])
def test_a_reading_of_before_does_not_count(tmp_path: Path, after: str) -> None:
    record_day(tmp_path, count=50)
    now_ms = int(datetime.now(tz=HK_TZ).timestamp() * 1000)
    write(tmp_path, [], [RowsRead(DAY, 150, now_ms + 1)])
    assert certify(tmp_path, now_ms=now_ms + 5000).rows_read_at_ms == now_ms + 1
    if after == "a row":
        change(tmp_path, "UPDATE coverage SET updated_at_ms = ?", now_ms + 2)
    elif after == "a count":
        change(tmp_path, "UPDATE readings SET rows = 149")
    else:
        later = now_ms / 1000 + 2 * 3600
        os.utime(tmp_path / f"{DAY}.db", (later, later))
    assert certify(tmp_path, now_ms=now_ms + 5000).rows_read_at_ms == now_ms + 5000


def test_a_closed_day_whose_pages_are_damaged_is_no_complete_one(tmp_path: Path) -> None:
    record_day(tmp_path, count=3000)
    db = tmp_path / f"{DAY}.db"
    with db.open("r+b") as file:
        file.seek(db.stat().st_size // 2)
        file.write(bytes(8 * 4096))
    certificate = certify(tmp_path)
    assert certificate.grade == "F"
    assert "is damaged" in certificate.sentence


@pytest.mark.parametrize("now", ["2026-11-20T11:00:00", "2026-11-20T17:00:00"])
def test_rows_that_another_program_removed_are_no_complete_day(tmp_path: Path, now: str) -> None:
    record_day(tmp_path, count=20)
    change(tmp_path, "DELETE FROM ticks WHERE symbol = ? AND (seq & 0xFFFFFFFF) IN (7, 8)", SYMBOL)
    certificate = certify(tmp_path, now_ms=at(now))
    assert (certificate.grade, certificate.problems) == ("F", ("coverage counts 60 ticks, there are 58 rows",))
    assert not certificate.fine


def test_what_opend_did_not_send_is_named_in_the_sentence_and_costs_the_grade(tmp_path: Path) -> None:
    record_day(tmp_path, count=50)
    refused = NotSubscribed("HK.09988", DAY, at("2026-11-20T09:00:00"), at("2026-11-20T16:15:00"), True, "No right")
    write(tmp_path, [], [refused])
    certificate = certify(tmp_path)
    assert (certificate.grade, certificate.fine, certificate.not_subscribed_symbols, certificate.unproven_symbols) == (
        "C",
        False,
        1,
        1,
    )
    assert (
        "1 wanted symbol was not subscribed: HK.09988 from 09:00:00 to 16:15:00 HKT (No right)." in certificate.sentence
    )
    assert "150 ticks of 3 symbols" in certificate.sentence
    assert explained(certificate) == "nothing is known to be missing; a wanted symbol was not subscribed all day"
    write(
        tmp_path,
        [],
        [NotSubscribed("HK.00011", DAY, at("2026-11-20T10:00:00"), at("2026-11-20T10:05:00"), False, "No")],
    )
    assert "HK.00011 since 10:00:00 HKT (No)" in certify(tmp_path, now_ms=at("2026-11-20T10:07:00")).sentence
    assert "HK.00011 from 10:00:00 to 10:05:00 HKT (No)" in certify(tmp_path).sentence
    (line,) = [line for line in gap_lines(day_of(tmp_path)) if line.symbol == "HK.09988"]
    assert (line.state, line.missing_ticks, line.reason) == ("open", None, "not subscribed: No right")


def test_a_grade_is_explained_by_the_part_of_its_rule_that_holds(tmp_path: Path) -> None:
    asked = at("2026-11-20T13:30:00")
    write(tmp_path, make_ticks(1, 9), [HeadProven(SYMBOL, DAY, 1), Verified(SYMBOL, DAY, 9, asked)])
    certificate = certify(tmp_path)
    assert explained(certificate) == (
        "nothing is known to be missing; OpenD was not asked for each symbol after the closing auction"
    )
    write(tmp_path, make_ticks(1001, 1009, symbol="HK.00005"), [GapFound("HK.00005", DAY, None, 1000, asked, "began")])
    assert explained(certify(tmp_path)) == "at most 1,000 of 1,018 ticks may be missing (98 %)"


# What is missing, and where


def test_gaps_and_holes_that_nobody_gave_up_yet(tmp_path: Path) -> None:
    ticks = [tick for tick in make_ticks(1, 40) if (tick.seq or 0) & 0xFFFF not in (5, 6, 20)]
    facts: list[Fact] = [HeadProven(SYMBOL, DAY, 1), Verified(SYMBOL, DAY, 43, CONFIRMED)]
    facts += [
        GapFound(SYMBOL, DAY, 5, 6, CONFIRMED, "not shown by OpenD"),
        GapFound("HK.00001", DAY, None, 12, 1, "late"),
    ]
    write(tmp_path, [*ticks, *make_ticks(13, 14, symbol="HK.00001")], facts)
    lines = gap_lines(day_of(tmp_path))
    told = [(line.symbol, line.counters, line.missing_ticks, line.reason, line.end_ts_ms) for line in lines]
    assert told == [
        ("HK.00001", "1-12 at most", None, "late", make_tick(13).ts_ms),
        (SYMBOL, "5-6", 2, "not shown by OpenD", make_tick(7).ts_ms),
        (SYMBOL, "20-20", 1, NOT_GIVEN_UP, make_tick(21).ts_ms),
        (SYMBOL, "41-43", 3, NOT_GIVEN_UP, None),
    ]
    assert [line.start_ts_ms for line in lines[1:]] == [make_tick(n).ts_ms for n in (4, 19, 40)]
    verdict = certify(tmp_path).symbol(SYMBOL)
    assert verdict is not None
    assert verdict.missing_ticks == 6 == sum(line.missing_ticks or 0 for line in lines)
    assert gap_lines(day_of(tmp_path), ["HK.00001"]) == lines[:1]
    write(tmp_path, make_ticks(5, 6))
    (closed,) = [line for line in gap_lines(day_of(tmp_path)) if line.state == "closed"]
    assert (closed.counters, closed.missing_ticks, closed.closed_at_ms is not None) == ("5-6", 0, True)


def test_holes_of_counters_that_do_not_count_are_no_gaps(tmp_path: Path) -> None:
    write(tmp_path, [*make_ticks(1, 5), *make_ticks(9, 12)], [Unproven(SYMBOL, DAY, "counters went back")])
    assert gap_lines(day_of(tmp_path)) == []


# The files


def recounted_day(root: Path) -> tuple[Certificate, Recount]:
    day = day_of(root)
    rows = recount(day, DayKind.WHOLE)
    return make_certificate(day, CALENDAR, AFTER, rows), rows


def test_the_json_is_whole_private_and_told_by_its_head(tmp_path: Path) -> None:
    record_day(tmp_path, count=20)
    path = report_file.write_certificate(tmp_path, certify(tmp_path))
    assert path == tmp_path / "_reports" / f"{DAY}.json"
    assert path.stat().st_mode & 0o777 == 0o640 & ~os.umask(os.umask(0))
    loaded = json.loads(path.read_text())
    assert (loaded["format_version"], loaded["trading_day"], loaded["grade"]) == (1, DAY, "A")
    assert loaded["rows"] is None
    assert [verdict["symbol"] for verdict in loaded["symbols"]] == ["HK.00005", "HK.00700", "HK.09988"]
    head = report_file.read_head(path)
    assert head is not None
    assert (head.so_far, head.recounted) == (False, False)
    assert report_file.is_current(path, tmp_path / f"{DAY}.db")
    write(tmp_path, make_ticks(21, 22))
    assert not report_file.is_current(path, tmp_path / f"{DAY}.db"), "the file has changed"
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_a_write_that_fails_leaves_the_old_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record_day(tmp_path, count=20)
    certificate = certify(tmp_path)
    path = report_file.write_certificate(tmp_path, certificate)

    def full(_: Path, **__: bool) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic, "sync_file", full)
    with pytest.raises(OSError, match="No space"):
        report_file.write_certificate(tmp_path, replace(certificate, grade="F"))
    assert json.loads(path.read_text())["grade"] == "A"
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_a_day_without_a_tick_has_a_page_too(tmp_path: Path) -> None:
    write(tmp_path, [], [GapFound(SYMBOL, DAY, 1, 3, CONFIRMED, "not shown")])
    certificate, rows = recounted_day(tmp_path)
    assert certificate.missing_ticks == 3
    assert "<svg" in page.page(certificate, rows.plots, gap_lines(day_of(tmp_path)))


def test_the_span_of_the_plots_holds_every_row() -> None:
    sessions = [(540, 570), (570, 720), (780, 960), (960, 975)]
    nothing = [0] * 1440
    assert (plots.span_of(sessions, nothing).first, plots.span_of(sessions, nothing).last) == (540, 990)
    assert plots.span_of(sessions, nothing).breaks == ((720, 780),)
    late = [*nothing[:-1], 1]
    assert plots.span_of(sessions, late).last == 1440
    assert plots.span_of([], nothing).x(0) < plots.span_of([], nothing).x(1440)


def test_the_lag_is_the_median_and_the_tail_of_pushed_ticks(tmp_path: Path) -> None:
    ticks = [
        tick._replace(recv_ts_ms=tick.ts_ms + (2000 if n > 95 else 50)) for n, tick in enumerate(make_ticks(1, 100))
    ]
    pulled = make_ticks(101, 200, push_type="backfill", recv_ts_ms=day_start_ms(DAY) + 80_000_000)
    write(tmp_path, [*ticks, *pulled])
    _, rows = recounted_day(tmp_path)
    minute = 9 * 60 + 30
    assert rows.plots.lag_p50_ms[minute] == pytest.approx(50, rel=0.07)
    assert rows.plots.lag_p99_ms[minute] == pytest.approx(2000, rel=0.07)
    assert rows.plots.rows_a_minute[minute] == sum(rows.plots.rows_a_minute) == 200
    assert rows.plots.heat[SYMBOL][minute // 5] == 200
    assert rows.plots.lag_p50_ms[minute + 1] is None


def test_what_a_day_is_judged_by_is_told(tmp_path: Path) -> None:
    for root, level, told in (("hk", EvidenceLevel.COUNTER, "counter"), ("other", EvidenceLevel.ID, "id")):
        writer = DayFileWriter(tmp_path / root, evidence=level)
        writer.write([make_tick(n) for n in (1, 2, 5)])
        writer.close()
        certificate = certify(tmp_path / root)
        assert [asdict(verdict)["evidence"] for verdict in certificate.symbols] == [told]
    assert certificate.symbols[0].reason == NO_COUNTER
