"""What OpenD no longer shows becomes a row with its exact extent, shrinks as ticks come after all, and is closed."""

from __future__ import annotations

import json
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hk_tick_collector.core.evidence import EvidenceLevel
from hk_tick_collector.core.facts import GapFound, HeadProven, Unproven, Verified
from hk_tick_collector.market.cme import CME
from hk_tick_collector.market.cn import CN
from hk_tick_collector.market.dates import DAY_MS
from hk_tick_collector.market.hk import HK
from hk_tick_collector.market.hours import hm
from hk_tick_collector.market.us import US
from hk_tick_collector.records.tick import Origin
from hk_tick_collector.store import reader
from hk_tick_collector.store.connect import SqliteOptions
from hk_tick_collector.store.extents import count, format_extents, parse_extents, subtract
from hk_tick_collector.store.writer import DayFileWriter
from tests.clock import ManualClock
from tests.nights import examples
from tests.unit.store_ticks import DAY, OPEN_MS, tick, ticks

SYMBOL = "HK.00700"
NOW_MS = OPEN_MS + 60_000
START_MS = OPEN_MS - 30 * 60_000  # 09:00


@pytest.fixture
def db(tmp_path):
    return tmp_path / f"{DAY}.db"


@pytest.fixture
def writer(tmp_path):
    made = DayFileWriter(tmp_path, SqliteOptions(), ManualClock(NOW_MS))
    yield made
    made.close()


def gap(first, last, reason="gone"):
    return GapFound(SYMBOL, DAY, first, last, NOW_MS - 500, reason)


def meta(row):
    return json.loads(row.meta_json)


def only(db, **which):
    (row,) = reader.gaps(db, **which)
    return row


def coverage(db):
    return reader.coverage(db)[0]


def test_life_of_a_gap(writer, db):
    writer.write([*ticks(500), *ticks(10, first=503)])
    result = writer.write([], [gap(501, 502)])
    row = only(db)
    assert (row.trading_day, row.symbol, row.reason, row.detected_at_ms) == (DAY, SYMBOL, "gone", NOW_MS - 500)
    assert (row.gap_start_ts_ms, row.gap_end_ts_ms, row.gap_sec) == (OPEN_MS + 500, OPEN_MS + 503, 0.003)
    assert (row.missing_ticks, row.state, result.missing_ticks) == (2, "open", 2)
    assert meta(row) == {"first_counter": 501, "last_counter": 502, "found_ticks": 2, "extents": "501-502"}
    assert (coverage(db).state, coverage(db).missing_ticks) == ("missing", 2)

    assert writer.write([tick(502)]).missing_ticks == 1
    row = only(db)
    assert (row.missing_ticks, row.state, meta(row)["extents"]) == (1, "open", "501-501")

    facts = [HeadProven(SYMBOL, DAY, 1), Verified(SYMBOL, DAY, 512, NOW_MS)]
    assert writer.write([tick(501)], facts).missing_ticks == 0
    row = only(db)
    assert (row.missing_ticks, row.state) == (0, "closed")
    assert meta(row) == {"first_counter": 501, "last_counter": 502, "found_ticks": 2, "closed_at_ms": NOW_MS}
    assert coverage(db).state == "proven"


def test_gap_of_a_closed_file_is_closed_by_the_next_recorder(writer, db, tmp_path):
    writer.write([tick(1), tick(4)], [gap(2, 3)])
    writer.close()
    again = DayFileWriter(tmp_path)
    assert again.write([tick(2)]).missing_ticks == 1
    assert again.write([tick(3)]).missing_ticks == 0
    again.close()
    assert only(db).state == "closed"


def test_what_is_stored_meanwhile_is_no_gap(writer, db):
    writer.write([*ticks(3), tick(5), *ticks(3, first=8)], [gap(4, 7), gap(1, 3)])
    row = only(db)
    assert (row.missing_ticks, meta(row)["extents"]) == (3, "4-4 6-7")
    assert (row.gap_start_ts_ms, row.gap_end_ts_ms) == (OPEN_MS + 3, OPEN_MS + 8)


def test_rows_of_the_same_batch_come_before_the_fact(writer, db):
    writer.write([tick(1), tick(2), tick(3)], [gap(2, 2)])
    assert reader.gaps(db) == []


def test_the_same_gap_told_again_is_one(writer, db):
    writer.write([tick(1), tick(9)], [gap(2, 5), gap(2, 5)])
    writer.write([], [gap(2, 5), gap(4, 8)])
    row = only(db)
    assert (row.missing_ticks, meta(row)["found_ticks"], meta(row)["extents"]) == (7, 7, "2-5 6-8")


def test_two_holes_between_ticks_of_one_millisecond_are_one_row(writer, db):
    same_ms = {"ts_ms": OPEN_MS}
    writer.write([tick(n, **same_ms) for n in (1, 3, 6)], [gap(2, 2), gap(4, 5)])
    row = only(db)
    assert (row.gap_start_ts_ms, row.gap_end_ts_ms, row.missing_ticks) == (OPEN_MS, OPEN_MS, 3)
    assert meta(row) == {"first_counter": 2, "last_counter": 5, "found_ticks": 3, "extents": "2-2 4-5"}
    writer.write([tick(4, **same_ms), tick(2, **same_ms)])
    assert (only(db).missing_ticks, only(db).state) == (1, "open")
    writer.write([tick(5, **same_ms)])
    assert only(db).state == "closed"


def test_closed_gap_with_the_times_of_a_new_one_is_opened_again(writer, db):
    same_ms = {"ts_ms": OPEN_MS}
    writer.write([tick(n, **same_ms) for n in (1, 3, 6)], [gap(2, 2)])
    writer.write([tick(2, **same_ms)])
    assert only(db).state == "closed"
    writer.write([], [gap(4, 5)])
    row = only(db, state="open")
    assert (row.missing_ticks, meta(row)["found_ticks"]) == (2, 3)
    assert "closed_at_ms" not in meta(row)


def test_gap_with_nothing_stored_around_it(writer, db):
    writer.write([], [gap(5, 9)])
    row = only(db)
    assert (row.gap_start_ts_ms, row.gap_end_ts_ms, row.missing_ticks) == (START_MS, NOW_MS - 500, 5)
    assert (coverage(db).state, coverage(db).missing_ticks) == ("missing", 5)
    for n in (5, 6, 7, 8):
        assert writer.write([tick(n)]).missing_ticks == 9 - n  # in order, so nothing but the counter changes
    writer.write([tick(9)])
    assert only(db).state == "closed"


def test_gap_before_the_first_stored_tick_counts(writer, db):
    result = writer.write(ticks(3, first=10), [gap(4, 9)])
    assert result.missing_ticks == coverage(db).missing_ticks == 6
    assert coverage(db).holes is None


def test_head_gap_is_open_until_the_beginning_is_proven(writer, db):
    result = writer.write(ticks(5, first=500), [gap(None, 499, "recording began in mid-session")])
    row = only(db)
    assert (row.gap_start_ts_ms, row.gap_end_ts_ms) == (START_MS, OPEN_MS + 500)
    assert (row.missing_ticks, row.state, meta(row)) == (None, "open", {"at_most": 499})
    assert (result.missing_ticks, coverage(db).state) == (0, "unproven")
    assert coverage(db).reason == "up to 499 ticks may have come before the first one seen: see table gaps"
    writer.write(ticks(5, first=495), [gap(None, 494)])  # told again after a restart, say
    assert meta(only(db)) == {"at_most": 494}
    writer.write([], [HeadProven(SYMBOL, DAY, 400)])  # the day began earlier than what we have
    assert only(db).state == "open"
    assert (coverage(db).state, coverage(db).missing_ticks) == ("missing", 95), "OpenD had them"
    writer.write(ticks(95, first=400), [HeadProven(SYMBOL, DAY, 400)])
    row = only(db)
    assert (row.state, row.missing_ticks, meta(row)) == ("closed", 0, {"closed_at_ms": NOW_MS})
    assert coverage(db).head_proven == 1
    writer.write([], [gap(None, 399)])
    assert only(db).state == "closed"


def test_proof_of_a_later_beginning_closes_nothing(writer, db):
    writer.write(ticks(5, first=500), [gap(None, 499), HeadProven(SYMBOL, DAY, 502)])
    assert only(db).state == "open"


def test_beginning_that_leaves_no_room_is_no_gap(writer, db):
    writer.write(ticks(5, first=0), [gap(None, -1)])
    assert reader.gaps(db) == []


def test_a_head_gap_ends_with_the_first_counter_there_is(writer, db):
    """What came before our first tick was stored after all: nothing is known to be missing, and no beginning proven."""
    writer.write(ticks(3, first=4), [gap(None, 3, "recording began in mid-session")])
    assert (coverage(db).state, coverage(db).missing_ticks) == ("unproven", 0)
    writer.write(ticks(3, first=1))
    assert only(db).state == "closed"
    assert (coverage(db).state, coverage(db).head_proven) == ("unproven", 0)
    writer.write([], [gap(None, 0, "recording began in mid-session")])
    assert only(db).state == "closed"


def test_head_gap_of_an_empty_file(writer, db):
    writer.write([], [gap(None, 499)])
    assert (only(db).gap_end_ts_ms, meta(only(db))) == (NOW_MS - 500, {"at_most": 499})
    writer.write(ticks(3, first=498))
    assert meta(only(db)) == {"at_most": 497}


def test_gap_stays_what_it_is_when_the_symbol_is_distrusted(writer, db):
    writer.write([tick(1), tick(4), tick(90)], [gap(2, 3), Unproven(SYMBOL, DAY, "odd")])
    assert (coverage(db).state, coverage(db).missing_ticks) == ("missing", 2)
    writer.write([tick(2), tick(3)])
    assert (coverage(db).state, coverage(db).reason) == ("unproven", "odd")


def test_gaps_are_found_by_symbol_and_state(writer, db):
    other = GapFound("HK.00005", DAY, 2, 2, NOW_MS, "gone")
    writer.write([tick(1), tick(3), tick(5), tick(1, "HK.00005"), tick(3, "HK.00005")], [gap(2, 2), gap(4, 4), other])
    writer.write([tick(2)])
    assert [(row.symbol, row.state) for row in reader.gaps(db)] == [
        ("HK.00005", "open"), (SYMBOL, "closed"), (SYMBOL, "open"),
    ]  # fmt: skip
    assert len(reader.gaps(db, symbol=SYMBOL)) == 2
    assert len(reader.gaps(db, state="open")) == 2
    assert len(reader.gaps(db, SYMBOL, "open")) == 1


@pytest.mark.parametrize(
    ("market", "evidence", "opens"),
    [
        (HK, EvidenceLevel.COUNTER, "2026-11-20T01:00:00"),
        (US, EvidenceLevel.ID, "2026-11-20T01:00:00"),  # the evening before in New York
        (CN, EvidenceLevel.ID, "2026-11-20T01:15:00"),
        (CME, EvidenceLevel.REPLAY, "2026-11-19T23:00:00"),
    ],
    ids=lambda value: getattr(value, "code", None),
)
def test_a_gap_before_the_first_tick_begins_where_the_market_s_day_does(tmp_path, market, evidence, opens):
    writer = DayFileWriter(tmp_path, SqliteOptions(), ManualClock(NOW_MS), Origin(market.code, "futu"), evidence)
    symbol = market.symbols.example
    writer.write([], [GapFound(symbol, DAY, None, 812, NOW_MS + DAY_MS, "recording began in mid-session")])
    writer.close()
    row = only(tmp_path / f"{DAY}.db")
    began = datetime.fromtimestamp(row.gap_start_ts_ms / 1000, UTC)
    assert f"{began:%Y-%m-%dT%H:%M:%S}" == opens


@pytest.mark.parametrize("day", ["20261121", "20261225"])
def test_a_day_that_is_no_session_has_a_first_instant_too(day):
    assert HK.opening_ms(day) == HK.zone.at_ms(day, hm(9))


@settings(max_examples=examples(80))
@given(
    st.lists(st.tuples(st.sets(st.integers(1, 40), max_size=8), st.sets(st.integers(1, 40), max_size=6), st.booleans()))
)
def test_open_gaps_hold_exactly_what_was_told_and_never_came(plan):
    """Rows and holes in any order, with restarts: no gap is lost or told twice, whatever its times are."""
    with tempfile.TemporaryDirectory() as name:
        db = Path(name) / f"{DAY}.db"
        writer = DayFileWriter(Path(name), SqliteOptions(synchronous="OFF"))
        told, stored = set(), set()
        for counters, holes, restart in plan:
            stored |= counters
            told |= holes - stored
            # Two ticks a millisecond: gaps between the same two times happen.
            writer.write([tick(n, ts_ms=OPEN_MS + n // 2) for n in counters], [gap(n, n) for n in holes])
            if restart:
                writer.close()
        writer.close()
        if not db.exists():
            return
        rows = reader.gaps(db, state="open")
        open_counters = [n for row in rows for a, b in parse_extents(meta(row).get("extents")) for n in range(a, b + 1)]
        assert sorted(open_counters) == sorted(told - stored)
        assert sum(row.missing_ticks for row in rows) == len(open_counters)
        assert all(meta(row).get("extents") is None for row in reader.gaps(db, state="closed"))


ranges = st.lists(st.integers(0, 60), max_size=12, unique=True).map(
    lambda edges: [(a, b) for a, b in zip(*[iter(sorted(edges))] * 2, strict=False)]
)


@given(ranges, ranges)
def test_subtract_is_what_sets_do(extents, taken):
    def numbers(pairs):
        return {n for a, b in pairs for n in range(a, b + 1)}

    left = subtract(extents, taken)
    assert numbers(left) == numbers(extents) - numbers(taken)
    assert count(left) == len(numbers(left))
    assert parse_extents(format_extents(left)) == left
