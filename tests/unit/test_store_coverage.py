"""Every day file says what it lacks: coverage against a plain recount, in any order, with repeats, errors, restarts."""

from __future__ import annotations

import contextlib
import sqlite3
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hk_tick_collector.core.errors import RowRefused, StoreBusy, StoreError
from hk_tick_collector.core.evidence import EvidenceLevel
from hk_tick_collector.core.facts import (
    NO_TICK,
    PUSH_PULL_DISAGREE,
    GapFound,
    HeadProven,
    Interrupted,
    Subscribed,
    Unproven,
    Verified,
)
from hk_tick_collector.records.tick import SEQ_COUNTER_MASK
from hk_tick_collector.records.views import number_equal_ticks
from hk_tick_collector.store import gaps, judging, neighbours, reader
from hk_tick_collector.store import rows as row_store
from hk_tick_collector.store.connect import COLUMNS, SqliteOptions
from hk_tick_collector.store.coverage import DayCoverage
from hk_tick_collector.store.extents import count
from hk_tick_collector.store.read_only import open_read_only
from hk_tick_collector.store.rows import COLLISION
from hk_tick_collector.store.symbol_coverage import COLUMNS as COVERAGE_COLUMNS
from hk_tick_collector.store.symbol_coverage import MAX_HOLES, TOO_MANY_HOLES, ranges_of
from hk_tick_collector.store.tracks import stored_tracks
from hk_tick_collector.store.verdict import Evidence, judge
from hk_tick_collector.store.writer import DayFileWriter
from tests.clock import ManualClock
from tests.nights import examples
from tests.stored import iter_ticks
from tests.unit.store_ticks import DAY, OPEN_MS, query, table_row, tick, ticks
from tests.unit.test_store_connect import LEGACY_ROW, make_legacy

SYMBOL = "HK.00700"
OTHER = "HK.00005"
NOW_MS = OPEN_MS + 5000
GOOD = Evidence([(1, 100)], head_counter=1, verified_counter=100)
HOLED = GOOD._replace(ranges=[(1, 40), (50, 100)])


@pytest.fixture
def db(tmp_path):
    return tmp_path / f"{DAY}.db"


@pytest.fixture
def writer(tmp_path):
    made = DayFileWriter(tmp_path, SqliteOptions(busy_timeout_ms=200), ManualClock(NOW_MS))
    yield made
    made.close()


def row_of(db: Path, symbol: str = SYMBOL) -> reader.CoverageRow:
    return next(row for row in reader.coverage(db) if row.symbol == symbol)


def proofs(last: int, first: int = 1, symbol: str = SYMBOL):
    return [HeadProven(symbol, DAY, first), Verified(symbol, DAY, last, NOW_MS)]


def extents_of(counters: set[int]) -> str | None:
    missing = [n for n in range(min(counters), max(counters)) if n not in counters]
    starts = [n for n in missing if n - 1 not in missing]
    ends = [n for n in missing if n + 1 not in missing]
    return " ".join(f"{a}-{b}" for a, b in zip(starts, ends, strict=True)) or None


def check_against_ticks(db: Path) -> None:
    """All of ``coverage`` that follows from ``ticks``, by the plainest way to say it."""
    row_of = {row.symbol: row for row in reader.coverage(db)}
    stored: dict[str, list[tuple[int | None, int]]] = {}
    for symbol, seq, ts_ms in query(db, "SELECT symbol, seq, ts_ms FROM ticks"):
        stored.setdefault(symbol, []).append((seq, ts_ms))
    assert set(stored) == {symbol for symbol, row in row_of.items() if row.stored_ticks}
    for symbol, rows in stored.items():
        row = row_of[symbol]
        sequenced = [seq & SEQ_COUNTER_MASK for seq, _ in rows if seq is not None]
        counters = set(sequenced)
        assert row.stored_ticks == len(rows)
        assert row.unsequenced_ticks == len(rows) - len(sequenced)
        assert (row.first_ts_ms, row.last_ts_ms) == (min(ts for _, ts in rows), max(ts for _, ts in rows))
        first, last = (min(counters), max(counters)) if counters else (None, None)
        assert (row.first_counter, row.last_counter) == (first, last)
        assert row.holes == (extents_of(counters) if counters else None)
        assert row.head_proven == int(first is not None and row.head_counter == first)
        verdict = judging.verdict_of(row, reader.gaps(db, symbol, gaps.OPEN))
        assert (row.state, row.reason, row.missing_ticks) == verdict[:3]


@pytest.mark.parametrize(
    ("evidence", "state", "reason"),
    [
        (GOOD, "proven", None),
        (GOOD._replace(verified_counter=90), "proven", None),
        (GOOD._replace(ranges=[(0, 100)], head_counter=0), "proven", None),
        (GOOD._replace(lost_gaps=1), "missing", "gaps"),
        (HOLED._replace(lost_gaps=1, distrust="odd"), "missing", "gaps"),
        (GOOD._replace(distrust="odd"), "unproven", "odd"),
        (HOLED._replace(distrust="odd"), "unproven", "odd"),
        (HOLED, "missing", "9 ticks between"),
        (HOLED._replace(unsequenced_ticks=1), "missing", "8 ticks between"),
        (HOLED._replace(unsequenced_ticks=9), "unproven", "9 ticks without a counter of their own, 9 counters absent"),
        (HOLED._replace(surplus_ticks=9), "unproven", "9 ticks without a counter of their own, 9 counters absent"),
        (GOOD._replace(unsequenced_ticks=2), "unproven", "2 ticks without a sequence"),
        (GOOD._replace(surplus_ticks=3), "unproven", "do not count: 3 ticks too many"),
        (GOOD._replace(surplus_ticks=-3), "unproven", "do not count: 3 ticks too few"),
        (Evidence(), "unproven", "no tick stored, and OpenD did not say that it has none"),
        (Evidence(verified_counter=NO_TICK), "proven", None),
        (Evidence(verified_counter=7), "missing", "OpenD had 1 tick or more that are not stored"),
        (Evidence(verified_counter=7, head_counter=1), "missing", "OpenD had 7 ticks or more that are not stored"),
        (Evidence(verified_counter=NO_TICK, not_subscribed="refused"), "unproven", "refused"),
        (Evidence(not_subscribed="refused"), "unproven", "refused"),
        (GOOD._replace(not_subscribed="refused", distrust="odd"), "unproven", "refused"),
        (HOLED._replace(not_subscribed="refused"), "missing", "9 ticks between"),
        (GOOD._replace(verified_counter=None), "unproven", "not yet confirmed"),
        (GOOD._replace(verified_counter=NO_TICK), "unproven", "not yet confirmed"),
        (GOOD._replace(verified_counter=101), "missing", "up to counter 101, stored are those up to 100"),
        (GOOD._replace(head_counter=None), "unproven", "first ticks are not proven"),
        (GOOD._replace(head_counter=2), "unproven", "first ticks are not proven"),
        (GOOD._replace(ranges=[(5, 100)]), "missing", "began with counter 1, stored are those from 5"),
    ],
)
def test_state(evidence, state, reason):
    verdict = judge(evidence)
    assert verdict.state == state
    assert (verdict.reason is None) if reason is None else (reason in (verdict.reason or ""))
    assert (verdict.missing_ticks > 0) <= (state == "missing")
    assert count(verdict.unlisted) >= verdict.unlisted_ticks


def test_a_day_from_its_first_tick_to_the_proof(writer, db):
    assert writer.write(ticks(3)).missing_ticks == 0
    assert (row_of(db).state, row_of(db).reason) == ("unproven", "not yet confirmed by a pull")
    writer.write(ticks(2, first=4), proofs(5))
    assert row_of(db) == reader.CoverageRow(
        SYMBOL, 1, 5, 5, 0, None, 1, 5, NOW_MS, OPEN_MS + 1, OPEN_MS + 5, "proven", None, NOW_MS, 0, 1, None
    )
    writer.write(ticks(1, first=6))
    assert (row_of(db).state, row_of(db).last_counter, row_of(db).stored_ticks) == ("proven", 6, 6)
    assert writer.write(ticks(1, first=9)).missing_ticks == 2
    assert (row_of(db).state, row_of(db).holes, row_of(db).missing_ticks) == ("missing", "7-8", 2)
    assert writer.write(ticks(1, first=8)).missing_ticks == 1
    assert writer.write(ticks(1, first=7)).missing_ticks == 0
    assert (row_of(db).state, row_of(db).holes) == ("proven", None)
    check_against_ticks(db)


def test_missing_ticks_are_those_of_all_open_days(writer):
    assert writer.write([tick(1), tick(4)]).missing_ticks == 2
    assert writer.write([tick(1, day="20261123"), tick(3, day="20261123"), tick(1, OTHER), tick(8, OTHER)]) == (
        4, 0, ("20261123", DAY), 0, 9, 0, 0, 0,
    )  # fmt: skip
    writer.close_day(DAY)
    assert writer.write([tick(2, day="20261123")]).missing_ticks == 0


def test_a_later_proof_of_the_beginning_does_not_undo_the_first(writer, db):
    writer.write(ticks(9), proofs(9))
    writer.write([], [HeadProven(SYMBOL, DAY, 7)])
    assert row_of(db).state == "proven"
    writer.write([tick(0)])  # a tick before the proven first one
    assert (row_of(db).state, row_of(db).head_proven) == ("unproven", 0)


def test_ticks_that_opend_showed_and_are_not_stored_are_missing(writer, db):
    assert writer.write(ticks(5), proofs(9)).missing_ticks == 4
    assert row_of(db).state == "missing"
    assert writer.write(ticks(3, first=6)).missing_ticks == 1
    assert row_of(db).state == "missing"
    writer.write(ticks(1, first=9))
    assert row_of(db).state == "proven"


def test_old_verification_does_not_replace_a_newer_one(writer, db):
    writer.write(ticks(9), proofs(9))
    writer.write([], [Verified(SYMBOL, DAY, 5, NOW_MS - 1)])
    assert (row_of(db).verified_counter, row_of(db).verified_until_ms) == (9, NOW_MS)


@pytest.mark.parametrize("later_ms", [0, 1, 60_000])
def test_a_later_verification_replaces_an_earlier_one(writer, db, later_ms):
    writer.write(ticks(9), proofs(5))
    writer.write([], [Verified(SYMBOL, DAY, 9, NOW_MS + later_ms)])
    assert (row_of(db).verified_counter, row_of(db).verified_until_ms) == (9, NOW_MS + later_ms)


def test_what_was_verified_outlives_a_restart(writer, db, tmp_path):
    writer.write(ticks(5), proofs(5))
    writer.close()
    again = DayFileWriter(tmp_path)
    again.write([tick(6)])
    again.close()
    row = row_of(db)
    assert (row.state, row.verified_counter, row.verified_until_ms) == ("proven", 5, NOW_MS)


def test_an_opend_that_has_no_tick_any_more_takes_back_nothing(writer, db):
    writer.write([tick(1, OTHER)], [Verified(SYMBOL, DAY, 7, NOW_MS)])
    writer.write([tick(2, OTHER)], [Verified(SYMBOL, DAY, NO_TICK, NOW_MS + 1)])
    row = row_of(db)
    assert (row.state, row.verified_counter, row.verified_until_ms) == ("missing", 7, NOW_MS)


@pytest.mark.parametrize("surplus_ticks", [3, -3])
def test_counters_that_do_not_add_up_expect_no_number(surplus_ticks):
    assert judge(GOOD).expected_ticks == 100
    assert judge(GOOD._replace(surplus_ticks=surplus_ticks)).expected_ticks is None


@pytest.mark.parametrize("other_ms", [None, OPEN_MS - 5000, OPEN_MS + 5000])
def test_the_ends_of_the_day_follow_a_time_that_is_told_again(writer, db, other_ms):
    """A tick came without its milliseconds and is told again with them: alone, as the last one, as the first one."""
    cut = tick(2)._replace(ts_ms=OPEN_MS)
    others = [] if other_ms is None else [tick(1 if other_ms < OPEN_MS else 3)._replace(ts_ms=other_ms)]
    writer.write([cut, *others])
    writer.write([cut._replace(ts_ms=OPEN_MS + 250, push_type="poll")])
    check_against_ticks(db)
    times = [OPEN_MS + 250, *(other.ts_ms for other in others)]
    assert (row_of(db).first_ts_ms, row_of(db).last_ts_ms) == (min(times), max(times))


def test_distrust_lasts_for_the_day_and_over_restarts(writer, db, tmp_path):
    writer.write(ticks(9), [*proofs(9), Unproven(SYMBOL, DAY, "renumbered"), Unproven(SYMBOL, DAY, "renumbered")])
    writer.close()
    again = DayFileWriter(tmp_path)
    again.write(ticks(1, first=10), [*proofs(10), Unproven(SYMBOL, DAY, "odd too")])
    again.write(ticks(1, first=900_000))  # makes no million missing ticks
    again.close()
    row = row_of(db)
    assert (row.state, row.reason, row.missing_ticks) == ("unproven", "renumbered; odd too", 0)
    assert row.ranges.ranges == [[1, 10], [900_000, 900_000]]


symbols = st.sampled_from([SYMBOL, OTHER])
some_ticks = st.builds(
    lambda n, symbol, kind, price: tick(
        n,
        symbol,
        price=price,
        seq={"own": tick(n).seq, "none": None, "other second": tick(n).seq + (7 << 32)}[kind],
    ),
    st.integers(1, 25),
    symbols,
    st.sampled_from(["own"] * 12 + ["none", "other second"]),
    st.sampled_from([612.5] * 12 + [612.0]),
)
some_facts = st.one_of(
    st.builds(HeadProven, symbols, st.just(DAY), st.integers(1, 5)),
    st.builds(Verified, symbols, st.just(DAY), st.integers(1, 30), st.integers(1, 9)),
    st.builds(Unproven, symbols, st.just(DAY), st.just("odd")),
)
runs = st.builds(
    lambda n, count, symbol: ticks(count, first=n, symbol=symbol), st.integers(1, 20), st.integers(1, 9), symbols
)
batches = st.one_of(runs, st.lists(some_ticks, max_size=8))
steps = st.tuples(
    batches,
    st.lists(some_facts, max_size=2),
    st.sampled_from(["go on", "go on", "kill", "reopen", "poison", "lose tables", "another program"]),
)


@settings(max_examples=examples(150))
@example([(ticks(1, first=1), [HeadProven("HK.00700", DAY, 2)], "go on"), (ticks(2, first=1), [], "go on")])
@given(st.lists(steps, min_size=1, max_size=8))
def test_coverage_is_what_a_recount_says(plan):
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        root, db = Path(name), Path(name) / f"{DAY}.db"

        def new_writer():
            made = DayFileWriter(root, SqliteOptions(synchronous="OFF"))
            stack.callback(made.close)
            return made

        writer = new_writer()
        for batch, facts, then in plan:
            writer.write(batch, facts)
            if then == "kill":
                writer = new_writer()  # the other one is left as it stands
            elif then == "reopen":
                writer.close()
            elif then == "poison":
                with pytest.raises(RowRefused):
                    writer.write([*batch, tick(24), tick(25, volume=1 << 70)], facts)
            elif then in ("lose tables", "another program") and db.exists():
                writer.close()
                with contextlib.closing(sqlite3.connect(db)) as other:
                    if then == "lose tables":
                        other.executescript("DROP TABLE coverage; DROP TABLE gaps;")
                    else:
                        other.execute(
                            f"INSERT OR IGNORE INTO ticks VALUES ({','.join('?' * len(COLUMNS))})", table_row(tick(70))
                        )
                        other.commit()
                writer.write([tick(71)])
            if db.exists():
                check_against_ticks(db)


@settings(max_examples=examples(60))
@given(st.permutations(range(1, 30)), st.integers(1, 7))
def test_any_order_ends_proven(order, batch_rows):
    with tempfile.TemporaryDirectory() as name:
        writer = DayFileWriter(Path(name), SqliteOptions(synchronous="OFF"))
        for at in range(0, len(order), batch_rows):
            writer.write([tick(n) for n in order[at : at + batch_rows]])
        writer.write([tick(5)], proofs(29))
        writer.close()
        row = row_of(Path(name) / f"{DAY}.db")
        assert (row.state, row.stored_ticks, row.holes) == ("proven", 29, None)


def test_rows_that_another_program_adds_under_the_open_file_are_noticed(writer, db):
    writer.write(ticks(3))
    with contextlib.closing(sqlite3.connect(db)) as other:
        other.execute(f"INSERT INTO ticks VALUES ({','.join('?' * len(COLUMNS))})", table_row(tick(4)))
        other.execute(f"INSERT INTO ticks VALUES ({','.join('?' * len(COLUMNS))})", table_row(tick(5, price=1.0)))
        other.commit()
    result = writer.write([tick(4), tick(5), tick(6)])
    assert (result.inserted_rows, result.ignored_rows, result.collisions) == (2, 1, 1)
    check_against_ticks(db)


def test_a_failed_write_leaves_no_trace_in_memory(writer, db):
    writer.write(ticks(3))
    with contextlib.closing(sqlite3.connect(db, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreBusy):
            writer.write(ticks(3, first=4))
        other.execute("ROLLBACK")
    writer.write(ticks(1, first=9))
    assert row_of(db).holes == "4-8"
    with pytest.raises(RowRefused):
        writer.write([*ticks(5, first=4), tick(10, volume=1 << 70)])
    writer.write([tick(11)])
    assert row_of(db).holes == "4-8 10-10"
    check_against_ticks(db)


def test_commit_that_fails_leaves_no_trace_in_memory(writer, db):
    writer.write(ticks(3))
    conn = writer._files.open[DAY].conn
    with contextlib.closing(sqlite3.connect(db)) as other:  # a deferred constraint: only COMMIT finds it broken
        other.executescript(
            "CREATE TABLE parent (id INTEGER PRIMARY KEY);"
            "CREATE TABLE child (id REFERENCES parent DEFERRABLE INITIALLY DEFERRED);"
            "CREATE TRIGGER broken AFTER INSERT ON ticks WHEN new.volume = 666 "
            "BEGIN INSERT INTO child VALUES (1); END;"
        )
    conn.execute("PRAGMA foreign_keys = ON")
    with pytest.raises(RowRefused, match="FOREIGN KEY"):
        writer.write([tick(4), tick(5, volume=666)])
    writer.write([tick(6)])
    assert row_of(db).holes == "4-5"


# -- collisions ----------------------------------------------------------------------------------------------------


def test_another_tick_with_a_stored_sequence_is_stored_too(writer, db, caplog):
    first, second = tick(2), tick(2, price=613.0)
    writer.write(ticks(3))
    result = writer.write([second, tick(4)])
    assert (result.inserted_rows, result.ignored_rows, result.collisions) == (2, 0, 1)
    for _ in range(2):  # it comes again, and so does the first one
        result = writer.write([first, second])
        assert (result.inserted_rows, result.ignored_rows, result.collisions) == (0, 2, 0)
    third = tick(2, price=614.0)
    assert writer.write([third]).collisions == 1
    stored = query(db, "SELECT price, seq, occurrence FROM ticks WHERE ts_ms = ? ORDER BY price", first.ts_ms)
    assert stored == [(612.5, first.seq, 0), (613.0, None, ~first.seq), (614.0, None, ~first.seq)]
    assert caplog.text.count("sequence_collision") == 1
    assert SYMBOL in caplog.text
    assert (row_of(db).state, row_of(db).reason) == ("unproven", COLLISION)
    check_against_ticks(db)


def test_collision_within_one_batch_and_with_a_genuine_tick_without_sequence(writer, db):
    genuine = tick(2, price=613.0, seq=None)
    result = writer.write(number_equal_ticks([genuine, tick(1), tick(2), tick(2, price=613.0)]))
    assert (result.inserted_rows, result.collisions) == (4, 1)
    check_against_ticks(db)


@pytest.mark.parametrize("same", [{"price": 612}, {"recv_ts_ms": 1}, {"push_type": "poll"}, {"volume": 100.0}])
def test_the_same_tick_seen_otherwise_is_no_collision(writer, same):
    writer.write([tick(1, price=612.0)])
    result = writer.write([tick(1, **{"price": 612.0, **same})])
    assert (result.inserted_rows, result.ignored_rows, result.collisions) == (0, 1, 0)


@pytest.mark.parametrize("absent", ["price", "volume"])
def test_absent_values_compare_as_equal(writer, absent):
    writer.write([tick(1, **{absent: None})])
    assert writer.write([tick(1, **{absent: None})]).collisions == 0
    assert writer.write([tick(1)]).collisions == 1


def test_not_a_number_is_stored_as_null_and_is_no_collision(writer):
    writer.write([tick(1, price=float("nan"))])
    assert writer.write([tick(1, price=float("nan"))]).collisions == 0


def test_equal_trades_of_one_view_stay_apart_and_the_view_again_adds_nothing(writer, db):
    view = [tick(1, seq=None, occurrence=n) for n in range(3)]
    assert writer.write(view[:2]).inserted_rows == 2
    result = writer.write(view)
    assert (result.inserted_rows, result.ignored_unsequenced_rows) == (1, 2)
    row = row_of(db)
    assert (row.stored_ticks, row.unsequenced_ticks, row.state) == (3, 3, "unproven")
    assert list(iter_ticks(db)) == view


# -- limits and older files ----------------------------------------------------------------------------------------


def test_counters_that_do_not_count_are_given_up(writer, db, tmp_path):
    lone = [tick(n * 10, seq=(9 << 32) | n * 10) for n in range(1, MAX_HOLES + 50)]
    gap = GapFound(SYMBOL, DAY, 15, 18, NOW_MS, "gone")
    writer.write(lone[:3], [gap])
    for at in range(3, len(lone), 40):
        writer.write(lone[at : at + 40])
    for made in (writer, DayFileWriter(tmp_path)):
        made.write([tick(15), *lone[:2], tick(900_001)])
        made.write([tick(16)])
        row = row_of(db)
        assert TOO_MANY_HOLES in row.distrust
        assert len((row.holes or "").split()) < 50
        assert row.stored_ticks == query(db, "SELECT COUNT(*) FROM ticks")[0][0] == len(lone) + 3
        # The ranges claim what is not stored: the gap must not be closed by them.
        assert [gap.state for gap in reader.gaps(db)] == ["open"]
        assert row.state == "missing"
        made.close()
    track = stored_tracks(tmp_path, [SYMBOL], 3)[SYMBOL]
    assert (track.stored.ranges, track.counters_count) == ([], False)


def test_file_of_an_earlier_recorder_is_counted_when_it_is_opened(tmp_path, db):
    make_legacy(
        db,
        *[table_row(tick(n))[:14] for n in (1, 2, 5)],
        extra_sql="CREATE UNIQUE INDEX uniq_ticks_symbol_seq ON ticks (symbol, seq) WHERE seq IS NOT NULL; "
        "CREATE UNIQUE INDEX uniq_ticks_symbol_ts_price_vol_turnover ON ticks (symbol, ts_ms, price, volume, "
        "turnover) WHERE seq IS NULL; CREATE TABLE gaps (trading_day TEXT, symbol TEXT, gap_start_ts_ms INTEGER, "
        "gap_end_ts_ms INTEGER, gap_sec REAL, detected_at_ms INTEGER, reason TEXT, meta_json TEXT, PRIMARY KEY "
        "(symbol, gap_start_ts_ms, gap_end_ts_ms)); INSERT INTO gaps VALUES "
        f"('{DAY}', '{OTHER}', 1, 2, 0.001, 3, 'silence', '[\"old\"]');",
    )
    assert reader.coverage(db) == reader.gaps(db) == []
    assert stored_tracks(tmp_path, [SYMBOL], 1)[SYMBOL].stored.ranges == [[1, 2], [5, 5]]
    writer = DayFileWriter(tmp_path)
    twins = [tick(9, OTHER, seq=None, occurrence=n) for n in range(2)]
    assert writer.write(twins).inserted_rows == 2
    writer.close()
    assert (row_of(db).holes, row_of(db).stored_ticks) == ("3-4", 3)
    assert [(gap.reason, gap.state) for gap in reader.gaps(db)] == [("silence", "open")]
    assert row_of(db, OTHER).state == "missing"


def test_version_0_row_that_is_the_only_one(db):
    make_legacy(db, LEGACY_ROW)
    assert reader.coverage(db) == []
    assert judging.day_state(db) == judging.DayState()


def test_damaged_coverage_text_is_counted_anew(writer, db):
    writer.write([tick(1), tick(3), tick(1, OTHER)])
    writer.close()
    with contextlib.closing(sqlite3.connect(db)) as other:
        other.execute("UPDATE coverage SET holes = 'nonsense' WHERE symbol = ?", (SYMBOL,))
        other.commit()
    writer.write([tick(5)])
    assert row_of(db).holes == "2-2 4-4"
    check_against_ticks(db)


def test_looking_things_up_scans_no_table(writer, db):
    writer.write(ticks(50))
    counted = "SELECT COUNT(*), MIN(ts_ms), MAX(ts_ms) FROM ticks WHERE symbol = 'x' AND seq IS"
    with contextlib.closing(open_read_only(db)) as conn:
        for sql, args in (
            (gaps._TS_OF_COUNTER, ("x", 1, 2)),
            (row_store._BY_SEQUENCE, ("x", 1, 2, 3, 4, 5)),
            (row_store._SECONDS_WITHOUT, ("x", 1, 2)),
            (neighbours._STRETCH, ("x", 1, 2, 3, 4, 5, 6)),
            (f"{counted} NULL", ()),
            (f"{counted} NOT NULL", ()),
        ):
            plan = " ".join(row[3] for row in conn.execute(f"EXPLAIN QUERY PLAN {sql}", args))
            assert "SEARCH ticks USING" in plan, sql
            assert "SCAN" not in plan, sql
            assert "TEMP B-TREE" not in plan, sql


def test_opening_a_large_file_costs_as_much_as_a_small_one(tmp_path):
    def steps_of(day: str, rows: int) -> int:
        writer = DayFileWriter(tmp_path)
        writer.write([tick(n // 40 + 1, f"HK.{n % 40:05d}", day=day) for n in range(rows)])
        writer.close()
        count = 0

        def counted():
            nonlocal count
            count += 1

        with contextlib.closing(sqlite3.connect(tmp_path / f"{day}.db", isolation_level=None)) as conn:
            conn.set_progress_handler(counted, 1)
            DayCoverage.load(conn, day)
        return count

    small, large = steps_of("20261118", 400), steps_of("20261119", 40_000)
    assert 0 < large <= small * 1.1


# -- facts and files -----------------------------------------------------------------------------------------------


def test_facts_that_only_confirm_make_no_file(writer, tmp_path):
    assert writer.write([], proofs(5)).days == ()
    assert list(tmp_path.iterdir()) == []
    assert writer.write([], [Unproven(SYMBOL, DAY, "odd")]).days == (DAY,)
    assert writer.write([], proofs(5)).days == (DAY,)
    row = row_of(tmp_path / f"{DAY}.db")
    assert (row.stored_ticks, row.first_counter, row.first_ts_ms, row.reason) == (0, None, None, "odd")


def test_facts_go_to_their_own_day(writer, tmp_path):
    old = "20261119"
    writer.write(ticks(3, day=old))
    result = writer.write(ticks(2), [HeadProven(SYMBOL, old, 1), Verified(SYMBOL, old, 3, NOW_MS)])
    assert result.days == (DAY, old)
    assert row_of(tmp_path / f"{old}.db").state == "proven"
    assert row_of(tmp_path / f"{DAY}.db").head_counter is None


def test_a_fact_that_cannot_be_written_costs_no_tick(writer, db, caplog):
    bad = [Unproven(SYMBOL, "not a day", "odd"), Verified(SYMBOL, DAY, 1 << 70, NOW_MS)]
    for fact in bad:
        with pytest.raises(RowRefused):
            writer.write(ticks(5), [fact])
        result, refused = writer.isolate(ticks(5), [fact])
        assert refused == []
    assert "facts_refused" in caplog.text
    assert query(db, "SELECT COUNT(*) FROM ticks") == [(5,)]
    result, refused = writer.isolate([tick(6), tick(7, volume=1 << 70), tick(8)], proofs(5))
    assert (result.inserted_rows, len(refused), result.missing_ticks) == (2, 1, 1)
    assert row_of(db).head_proven == 1


# -- reading -------------------------------------------------------------------------------------------------------


def test_tracks_go_on_where_the_files_end(writer, tmp_path):
    old = "20261119"
    writer.write([*ticks(5, day=old), *ticks(3, day=old, symbol=OTHER)], [HeadProven(OTHER, old, 1)])
    writer.write([tick(2), tick(4)])
    writer.write([tick(7, "HK.00001")], [GapFound("HK.00001", DAY, None, 6, NOW_MS, "mid-session")])
    tracks = stored_tracks(tmp_path, [SYMBOL, OTHER, "HK.00001", "HK.09999"], 2)
    seen = {symbol: (t.trading_day, t.stored.ranges, t.last_seq, t.head_known) for symbol, t in tracks.items()}
    assert seen == {
        SYMBOL: (DAY, [[2, 2], [4, 4]], tick(4).seq, False),
        OTHER: (old, [[1, 3]], tick(3).seq, True),
        "HK.00001": (DAY, [[7, 7]], tick(7).seq, True),
    }
    assert stored_tracks(tmp_path, [OTHER], 1) == {}


def test_tracks_name_the_files_of_which_nobody_knows_what_they_hold(writer, tmp_path, db):
    old, coming = "20261119", "20261121"
    for day in (old, DAY, coming):
        writer.write(ticks(3, day=day))
    writer.close()
    unread: list[Path] = []
    assert stored_tracks(tmp_path, [SYMBOL], 0, DAY, unread)[SYMBOL].trading_day == DAY, "today's is read at any rate"
    assert [path.name for path in unread] == [f"{coming}.db"]
    unread.clear()
    assert stored_tracks(tmp_path, [SYMBOL], 3, "20261101", unread)[SYMBOL].trading_day == coming, "the clock is wrong"
    assert unread == []
    with contextlib.closing(sqlite3.connect(db)) as conn:
        conn.execute("UPDATE coverage SET first_counter = 'x'")
        conn.commit()
    unread.clear()
    assert stored_tracks(tmp_path, [SYMBOL], 1, DAY, unread) == {}, "it is of no use"
    assert [path.name for path in unread] == [f"{coming}.db", f"{DAY}.db"]
    unread.clear()
    assert stored_tracks(tmp_path, [SYMBOL, OTHER], 2, coming, unread)[SYMBOL].trading_day == coming
    assert unread == [], "what is wrong with a past day's notes does not heal by itself"


def test_a_lock_met_while_a_past_day_is_read_may_be_gone_later(writer, tmp_path, monkeypatch):
    writer.write(ticks(3))

    def locked(path):
        raise sqlite3.OperationalError("database is locked")

    monkeypatch.setattr("hk_tick_collector.store.tracks.open_read_only", locked)
    unread: list[Path] = []
    assert stored_tracks(tmp_path, [SYMBOL], 1, "20261124", unread) == {}
    assert [path.name for path in unread] == [f"{DAY}.db"]


def test_day_state(writer, db):
    writer.write([*ticks(5), tick(1, OTHER), tick(4, OTHER), *ticks(2, symbol="HK.00001")], proofs(5))
    assert judging.day_state(db) == judging.DayState(9, 2, {"proven": 1, "missing": 1, "unproven": 1})
    assert [row.symbol for row in reader.coverage(db)] == ["HK.00001", OTHER, SYMBOL]


COST_ROWS = 5_000


def test_cost_a_row(tmp_path, capsys):
    """Printed, not judged: seconds on a shared machine prove nothing."""
    rows = [tick(n // 900 + 1, f"HK.{n % 900:05d}") for n in range(COST_ROWS)]
    batches = [rows[at : at + 500] for at in range(0, COST_ROWS, 500)]
    writer = DayFileWriter(tmp_path, SqliteOptions(synchronous="OFF"))
    began = time.perf_counter()
    assert sum(writer.write(batch).inserted_rows for batch in batches) == COST_ROWS
    took_sec = time.perf_counter() - began
    writer.close()
    with capsys.disabled():
        print(f"\nwriter with coverage, 500 symbols a batch of 500: {took_sec / COST_ROWS * 1e6:.1f} us a row")
    check_against_ticks(tmp_path / f"{DAY}.db")


def test_every_symbol_that_was_subscribed_before_the_days_first_tick_has_a_row_from_then_on(db, writer):
    """One whose ticks nobody can read has no other: what was told of it must not wait until it is told again."""
    writer.write([], [Subscribed(DAY, (SYMBOL, OTHER), NOW_MS), Subscribed("20261119", (OTHER,), NOW_MS)])
    assert not list(db.parent.glob("*.db")), "it makes no file"
    writer.write([tick(1)])
    assert [row.symbol for row in reader.coverage(db)] == [OTHER, SYMBOL]
    assert row_of(db, OTHER).state == "unproven"
    writer.write([tick(2)])
    assert not (db.parent / "20261119.db").exists()


def test_what_is_subscribed_is_kept_when_the_days_first_write_fails(db, writer):
    writer.write([], [Subscribed(DAY, (SYMBOL, OTHER), NOW_MS)])
    db.mkdir()
    with pytest.raises(StoreError):
        writer.write([tick(1)])
    db.rmdir()
    writer.write([tick(1)])
    assert [row.symbol for row in reader.coverage(db)] == [OTHER, SYMBOL]


class TestNumbersThatNameNothing:
    """Pushes and answers number each for itself, and the file says so. Whoever stores may not know it."""

    def renumbered(self, rows, ahead: int = 500_000, **changed):
        return [row._replace(seq=row.seq + ahead, **changed) for row in rows]

    @pytest.mark.parametrize("told", ["with the rows", "before them", "to an earlier writer", "behind many others"])
    def test_a_trade_is_one_row(self, writer, db, tmp_path, told) -> None:
        writer.write(ticks(8))
        facts = [Unproven(SYMBOL, DAY, PUSH_PULL_DISAGREE)]
        if told == "behind many others":
            facts = [*(Unproven(SYMBOL, DAY, f"{'x' * 60} {n}") for n in range(7)), *facts]
        if told != "with the rows":
            writer.write([], facts)
            facts = []
        if told == "to an earlier writer":
            writer.close()
            writer = DayFileWriter(tmp_path, SqliteOptions())
        assert writer.write(self.renumbered(ticks(8)), facts).inserted_rows == 0
        assert writer.write(ticks(9)).inserted_rows == 1
        check_against_ticks(db)

    def test_equal_trades_are_as_many_as_one_view_shows(self, writer, db) -> None:
        """A view is what came the same way in one millisecond; told twice in it is told once."""
        writer.write([], [Unproven(SYMBOL, DAY, PUSH_PULL_DISAGREE)])
        twins = [tick(n, ts_ms=OPEN_MS, recv_ts_ms=OPEN_MS + 60) for n in (1, 2, 3)]
        assert writer.write(twins[:2]).inserted_rows == 2
        assert writer.write(self.renumbered(twins, recv_ts_ms=OPEN_MS + 700)).inserted_rows == 1
        assert writer.write([*twins, *twins]).inserted_rows == 0
        pushed, pulled = twins[0], twins[0]._replace(seq=9, push_type="poll")
        assert writer.write([pushed, pulled, tick(4, price=1.0)]).inserted_rows == 1
        check_against_ticks(db)

    GAP = GapFound(SYMBOL, DAY, 4, 6, NOW_MS, "mid_session")

    def gap_rows(self, db) -> list[tuple]:
        return query(db, "SELECT state, missing_ticks, json_extract(meta_json, '$.extents') FROM gaps")

    def test_late_pushes_fill_the_gap_that_was_given_up_for_them(self, writer, db, tmp_path) -> None:
        """An older process's rows wait in the spill: they come when the gap and the doubt are there."""
        writer.write([*ticks(3), *ticks(9, first=7)], [self.GAP])
        writer.write([], [Unproven(SYMBOL, DAY, PUSH_PULL_DISAGREE)])
        assert self.gap_rows(db) == [("open", 3, "4-6")]
        assert writer.write([tick(5)]).inserted_rows == 1
        assert self.gap_rows(db) == [("open", 2, "4-4 6-6")]
        (gap,) = writer._files.open[DAY].coverage.track(SYMBOL).gaps
        assert not gap.filled, "every later commit would look at it again"
        writer.close()
        again = DayFileWriter(tmp_path, SqliteOptions())
        assert again.write([tick(4), tick(6)]).inserted_rows == 2
        assert self.gap_rows(db) == [("closed", 0, None)]
        assert row_of(db).state == "unproven"
        again.close()

    def test_what_may_be_another_trade_fills_no_gap(self, writer, db) -> None:
        writer.write([*ticks(3), *ticks(9, first=7)], [self.GAP])
        writer.write([], [Unproven(SYMBOL, DAY, PUSH_PULL_DISAGREE)])
        alike = {"ts_ms": tick(3).ts_ms, "price": tick(3).price, "volume": tick(3).volume, "turnover": tick(3).turnover}
        for other in (
            tick(5, push_type="poll"),  # numbered in another way
            tick(4)._replace(seq=tick(4).seq - (1 << 32)),  # the number of another second
            tick(6)._replace(seq=tick(6).seq + (1 << 32)),
            tick(4, **alike),  # is taken for the third tick
        ):
            writer.write([other])
            assert self.gap_rows(db) == [("open", 3, "4-6")], other

    def test_a_late_push_that_an_answer_of_its_batch_may_have_told_fills_no_gap(self, writer, db) -> None:
        writer.write([*ticks(3), *ticks(9, first=7)], [self.GAP])
        writer.write([], [Unproven(SYMBOL, DAY, PUSH_PULL_DISAGREE)])
        told = tick(5)._replace(seq=tick(50).seq, push_type="poll", recv_ts_ms=tick(5).recv_ts_ms + 900)
        assert writer.write([tick(5), told]).inserted_rows == 1
        assert self.gap_rows(db) == [("open", 3, "4-6")], "two trades, or one: nothing tells"

    def test_gaps_cost_nothing_until_a_late_row_comes(self, writer, db) -> None:
        """Each is looked for from the newest row back, and a day has many of both."""
        holes = range(2, 40, 2)
        writer.write([tick(n) for n in range(1, 41) if n not in holes])
        writer.write([], [GapFound(SYMBOL, DAY, n, n, NOW_MS, "mid_session") for n in holes])
        writer.write([], [Unproven(SYMBOL, DAY, PUSH_PULL_DISAGREE)])
        writer.write([tick(41)])
        told: list[str] = []
        conn = writer._files.open[DAY].conn
        conn.set_trace_callback(told.append)
        writer.write([tick(42)])
        reads = [sql for sql in told if sql.startswith("SELECT") and "ticks" in sql]
        assert not any("seq &" in sql for sql in reads), reads
        told.clear()
        assert writer.write([tick(4), tick(6), tick(43)]).inserted_rows == 3
        conn.set_trace_callback(None)
        assert sum(missing for _, missing, _ in self.gap_rows(db)) == len(holes) - 2
        for sql in [sql for sql in told if sql.startswith("SELECT") and "FROM ticks" in sql]:
            plan = query(db, f"EXPLAIN QUERY PLAN {sql}")
            assert not any(step[-1] == "SCAN ticks" for step in plan), sql

    def test_a_gap_between_pulled_rows_has_numbers_of_their_own(self, writer, db) -> None:
        writer.write([*ticks(3), *(tick(n, push_type="poll") for n in (7, 8))], [self.GAP])
        writer.write([], [Unproven(SYMBOL, DAY, PUSH_PULL_DISAGREE)])
        assert writer.write([tick(5)]).inserted_rows == 1
        assert self.gap_rows(db) == [("open", 3, "4-6")]

    def test_other_symbols_keep_their_numbers(self, writer, db) -> None:
        writer.write([], [Unproven(OTHER, DAY, PUSH_PULL_DISAGREE)])
        assert writer.write([*ticks(4), *self.renumbered(ticks(4))]).inserted_rows == 8


@pytest.mark.parametrize("counts", [True, False])
def test_a_file_in_another_s_place_interrupts_what_is_counted_and_holds_something(tmp_path, db, counts):
    """What counts nothing goes on from nothing, and neither does a symbol without a tick."""
    writer = DayFileWriter(tmp_path, evidence=EvidenceLevel.COUNTER if counts else EvidenceLevel.ID)
    writer.write(ticks(5), [Subscribed(DAY, (OTHER,), NOW_MS)])
    writer.close()
    with contextlib.closing(sqlite3.connect(db, isolation_level=None)) as conn:
        coverage = DayCoverage.load(conn, DAY, counts=counts)
        coverage.interrupt_all(conn)
    told = {symbol: coverage.track(symbol).interrupted_seq for symbol in (SYMBOL, OTHER)}
    assert told == {SYMBOL: tick(5).seq if counts else None, OTHER: None}


@pytest.mark.parametrize(
    ("is_interrupted", "others_seq", "others_later", "later"),
    [
        (True, tick(7).seq, "", [tick(7).seq]),
        (True, tick(7).seq, None, None),
        (False, tick(3).seq, None, []),  # which is stored: the other's interruption is over here
        (True, None, None, []),
    ],
)
def test_of_another_file_s_later_interruptions_no_less_is_known_than_it_says(
    writer, db, is_interrupted, others_seq, others_later, later
):
    """A file of before that column leaves them unknown, while any is open."""
    writer.write(ticks(5), [Interrupted(SYMBOL, DAY, tick(5).seq)] if is_interrupted else [])
    writer.close()
    with contextlib.closing(sqlite3.connect(db, isolation_level=None)) as conn:
        coverage = DayCoverage.load(conn, DAY)
        (row,) = conn.execute(f"SELECT {', '.join(COVERAGE_COLUMNS)} FROM coverage")
        values = dict(zip(COVERAGE_COLUMNS, row, strict=True))
        values |= {"interrupted_seq": others_seq, "later_interruptions": others_later}
        coverage.take_over(conn, [tuple(values.values())])
    assert coverage.track(SYMBOL).later_seqs == later


@pytest.mark.parametrize(("first", "last"), [(None, 5), (5, None), (None, None)])
def test_a_row_without_one_of_its_ends_holds_nothing(first, last):
    assert not ranges_of(first, last, None).ranges
