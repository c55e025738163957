"""A running total of volume: what is missing of it, what proves the day, and what takes the proof away."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hk_tick_collector.archive import atomic, pack, restore
from hk_tick_collector.core.evidence import BY_TOTAL, NO_COUNTER, EvidenceLevel
from hk_tick_collector.core.facts import NO_TICK, DayFact, Fact, NotSubscribed, Unproven, Verified
from hk_tick_collector.days.catalog import Catalog
from hk_tick_collector.days.manifest import PARQUET, SQLITE
from hk_tick_collector.quality.gap_list import gap_lines
from hk_tick_collector.records.tick import Origin, Tick
from hk_tick_collector.records.totals import NO_TRADE, SECOND_SESSION, missing_units
from hk_tick_collector.sources import registry
from hk_tick_collector.store import data_root, salvage
from hk_tick_collector.store.coverage import TOTALS_DISAGREE
from hk_tick_collector.store.judging import verdict_of
from hk_tick_collector.store.reader import CoverageRow, coverage, gaps
from hk_tick_collector.store.verdict import NOT_SHOWN, Evidence, judge
from hk_tick_collector.store.writer import DayFileWriter
from tests.unit.store_ticks import DAY, query, tick

SYMBOL = "TW.2330"
TW_SHIOAJI = Origin("TW", "shioaji")
NINE_MS = 1_795_741_200_000


def trades(volumes: Sequence[int], start: int = 0, base: int = 0) -> list[Tick]:
    """One after the other, from a total on."""
    rows: list[Tick] = []
    for number, volume in enumerate(volumes):
        start += volume
        rows.append(
            tick(symbol=SYMBOL, seq=base + start, ts_ms=NINE_MS + 1000 * (start + base % 7 + number), volume=volume)
        )
    return rows


def trial(us: int) -> Tick:
    return tick(symbol=SYMBOL, seq=NO_TRADE + us, ts_ms=NINE_MS - 1000 + us // 1000, volume=7, tick_type="SIMTRADE")


def store(root: Path, rows: Sequence[Tick], *facts: Fact | DayFact) -> CoverageRow:
    writer = DayFileWriter(root, origin=TW_SHIOAJI, evidence=EvidenceLevel.RUNNING_TOTAL)
    writer.write(rows, facts)
    writer.close()
    (row,) = coverage(root / f"{DAY}.db")
    verdict = verdict_of(row, gaps(root / f"{DAY}.db", state="open"))
    assert (row.state, row.reason) == (verdict.state, verdict.reason)
    assert verdict.level is EvidenceLevel.RUNNING_TOTAL
    assert row.stored_ticks == query(root / f"{DAY}.db", "SELECT COUNT(*) FROM ticks")[0][0]
    return row


def shown(total: int, at_ms: int = NINE_MS + 30_000_000) -> Verified:
    return Verified(SYMBOL, DAY, total, at_ms)


def test_a_day_is_proven_when_every_step_adds_up_from_zero_to_the_end_that_was_shown(tmp_path: Path) -> None:
    rows = trades([5, 1, 120, 3])
    row = store(tmp_path, rows)
    assert (row.state, row.reason) == ("unproven", NOT_SHOWN)
    assert store(tmp_path, [], shown(129)).state == "proven"


@pytest.mark.parametrize("base", [0, SECOND_SESSION])
def test_a_trade_beyond_the_end_that_was_shown_takes_the_proof_away_until_it_is_shown(
    tmp_path: Path, base: int
) -> None:
    """What was shown was not the whole day: nobody knows what else followed."""
    first = trades([5, 1, 120, 3])
    assert store(tmp_path, first, shown(129)).state == "proven"
    last = trades([11], 0 if base else 129, base)
    row = store(tmp_path, last)
    assert (row.state, row.reason, row.missing_ticks) == ("unproven", NOT_SHOWN, 0)
    assert store(tmp_path, [], shown(last[-1].seq or 0, NINE_MS + 40_000_000)).state == "proven"


@pytest.mark.parametrize(
    ("kept", "end", "holes", "least"),
    [
        ([0, 1, 3], 129, "7-126", 1),  # in the middle
        ([1, 2, 3], 129, "1-5", 1),  # the head
        ([0, 1, 2], 129, "127-129", 1),  # the end, as it was shown
        ([1, 3], 140, "1-5 7-126 130-140", 3),
    ],
)
def test_missing_volume_is_said_wherever_it_is(
    tmp_path: Path, kept: list[int], end: int, holes: str, least: int
) -> None:
    rows = trades([5, 1, 120, 3])
    row = store(tmp_path, [rows[n] for n in kept], shown(end))
    assert row.state == "missing"
    assert row.missing_ticks == least  # at least, and at most one a unit
    verdict = verdict_of(row, ())
    assert " ".join(f"{first}-{last}" for first, last in verdict.unlisted) == holes
    units = sum(last - first + 1 for first, last in verdict.unlisted)
    assert f"{units:,} of volume missing" in str(row.reason)
    assert least + (verdict.missing_at_most or 0) == units
    data_root.claim(tmp_path, "TW")
    lines = gap_lines(Catalog(tmp_path, tmp_path / "_archive").day(DAY))
    assert [line.counters for line in lines] == holes.split()
    assert {line.missing_ticks for line in lines} == {None}  # how many trades it was, nobody knows
    whole = store(tmp_path, rows, *([] if end == 129 else [shown(129, NINE_MS + 31_000_000)]))
    assert whole.state == "proven"


def test_the_times_around_a_gap_are_those_of_its_neighbours(tmp_path: Path) -> None:
    rows = trades([5, 1, 120, 3])
    store(tmp_path, [rows[1], rows[3]])
    data_root.claim(tmp_path, "TW")
    head, middle = gap_lines(Catalog(tmp_path, tmp_path / "_archive").day(DAY))
    assert (head.end_ts_ms, head.evidence) == (rows[1].ts_ms, "running_total")
    assert (middle.start_ts_ms, middle.end_ts_ms) == (rows[1].ts_ms, rows[3].ts_ms)


def test_of_a_time_without_subscription_nobody_knows_whether_ticks_are_lost(tmp_path: Path) -> None:
    rows = trades([5, 1, 120, 3])
    store(tmp_path, [*rows[:2], rows[3]], NotSubscribed(SYMBOL, DAY, NINE_MS, NINE_MS + 10, True, "no right"))
    data_root.claim(tmp_path, "TW")
    window, middle = gap_lines(Catalog(tmp_path, tmp_path / "_archive").day(DAY))
    assert (window.is_loss, middle.is_loss) == (False, True)


@given(st.lists(st.integers(1, 500), min_size=1, max_size=60), st.randoms(), st.integers(1, 20))
def test_the_order_and_the_batches_make_no_difference(volumes: list[int], order: random.Random, size: int) -> None:
    """In memory: what a store notes of the rows is what their sum says."""
    rows = trades(volumes)
    order.shuffle(rows)
    stored = [((row.volume or 0), (row.seq or 0)) for row in rows[:size]]
    missing = missing_units(sorted((seq - volume + 1, seq) for volume, seq in stored), sum(volumes))
    units = sum(last - first + 1 for first, last in missing)
    assert units == sum(volumes) - sum(volume for volume, _ in stored)


def test_rows_in_any_order_and_again_are_stored_once(tmp_path: Path) -> None:
    rows = trades([random.Random(3).randint(1, 9) for _ in range(600)])
    mixed = list(rows)
    random.Random(7).shuffle(mixed)
    for at in range(0, 600, 50):
        store(tmp_path, mixed[at : at + 50])
    row = store(tmp_path, [*rows, *rows], shown(rows[-1].seq or 0))
    assert (row.state, row.stored_ticks, row.holes) == ("proven", 600, None)


def test_what_contradicts_the_totals_takes_the_proof_away(tmp_path: Path) -> None:
    """A trade whose part another one has."""
    rows = trades([5, 1, 120, 3])
    assert store(tmp_path, rows, shown(129)).state == "proven"
    odd = tick(symbol=SYMBOL, seq=100, ts_ms=NINE_MS + 50, volume=4)
    row = store(tmp_path, [odd])
    assert (row.state, row.reason) == ("unproven", TOTALS_DISAGREE)
    with sqlite3.connect(tmp_path / f"{DAY}.db") as conn:  # and who counts anew finds the same
        conn.execute("DELETE FROM coverage")
    conn.close()
    row = store(tmp_path, [odd])
    assert row.state != "proven"
    assert TOTALS_DISAGREE in str(row.distrust)


@pytest.mark.parametrize(("total", "volume"), [(3, 4), (3, 5), (SECOND_SESSION + 3, 5)])
def test_a_trade_of_more_than_its_total_proves_nothing_and_no_other_symbol_is_harmed(
    tmp_path: Path, total: int, volume: int
) -> None:
    """No source of ours gives such a one; other hands may have put it into the file."""
    row = store(tmp_path, [tick(symbol=SYMBOL, seq=total, ts_ms=NINE_MS, volume=volume)], shown(total))
    assert (row.state, row.stored_ticks) == ("missing", 1)
    assert TOTALS_DISAGREE in str(row.distrust)
    other = store(tmp_path / "other", trades([3, 2]), shown(5))
    assert (other.state, other.last_counter) == ("proven", 5)


@pytest.mark.parametrize(
    ("evidence", "state"),
    [
        (Evidence([(1, 9)], -7, verified_counter=9, distrust=f"{NO_COUNTER}; {BY_TOTAL}"), "proven"),
        (Evidence([(1, 9)], -7, verified_counter=NO_TICK, distrust=f"{NO_COUNTER}; {BY_TOTAL}"), "unproven"),
        (Evidence((), 0, verified_counter=NO_TICK, distrust=f"{NO_COUNTER}; {BY_TOTAL}"), "proven"),
        (Evidence((), 0, distrust=f"{NO_COUNTER}; {BY_TOTAL}"), "unproven"),
        (Evidence([(1, 9)], -7, 1, verified_counter=9, distrust=f"{NO_COUNTER}; {BY_TOTAL}"), "unproven"),
        (Evidence([(1, 9)], -7, verified_counter=9, distrust=f"{NO_COUNTER}; {BY_TOTAL}; other"), "unproven"),
        (Evidence([(1, 9)], -7, verified_counter=9, not_subscribed="x", distrust=f"{NO_COUNTER}; {BY_TOTAL}"),
         "unproven"),
        (Evidence([(1, 9)], -7, verified_counter=9, at_most=3, distrust=f"{NO_COUNTER}; {BY_TOTAL}"), "unproven"),
    ],
)  # fmt: skip
def test_nothing_else_proves(evidence: Evidence, state: str) -> None:
    assert judge(evidence).state == state


def test_a_trial_match_is_no_part_of_a_total(tmp_path: Path) -> None:
    rows = trades([5, 1])
    row = store(tmp_path, [trial(5), rows[0], trial(9), rows[1], trial(5)], shown(6))
    assert (row.state, row.stored_ticks) == ("proven", 4)


@pytest.mark.parametrize("by", ["another program", "salvage"])
@pytest.mark.parametrize("gone", ["its last trade", "all of it"])
def test_trades_that_are_gone_from_the_end_of_a_first_session_take_the_proof_away(
    tmp_path: Path, by: str, gone: str
) -> None:
    """The second one begins again: no total tells of them."""
    night, day = trades([3, 4]), trades([2, 2], base=SECOND_SESSION)
    end = day[-1].seq or 0
    assert store(tmp_path, [*night, *day], shown(end)).state == "proven"
    with closing(sqlite3.connect(tmp_path / f"{DAY}.db")) as conn:
        conn.execute("DELETE FROM ticks WHERE seq BETWEEN ? AND 7", (7 if gone == "its last trade" else 1,))
        conn.commit()
    root = tmp_path
    if by == "salvage":
        root = tmp_path / "saved"
        root.mkdir()
        assert not salvage.salvage(tmp_path / f"{DAY}.db", root / f"{DAY}.db").clean
    row = store(root, day)
    assert (row.state, row.reason, row.verified_until_ms) == ("unproven", NOT_SHOWN, None)
    assert store(root, night).state == "unproven"
    assert store(root, [], shown(end)).state == "proven"


def test_trades_that_are_gone_elsewhere_are_missing_by_the_totals(tmp_path: Path) -> None:
    night, day = trades([3, 4, 5]), trades([2, 2], base=SECOND_SESSION)
    store(tmp_path, [*night, *day], shown(day[-1].seq or 0))
    with closing(sqlite3.connect(tmp_path / f"{DAY}.db")) as conn:
        conn.execute("DELETE FROM ticks WHERE seq IN (7, ?)", (day[-1].seq,))
        conn.commit()
    row = store(tmp_path, night[:1])
    assert (row.state, row.reason) == ("missing", "6 of volume missing in 2 places between its running totals")


def test_a_second_session_begins_again_or_goes_on(tmp_path: Path) -> None:
    night = trades([3, 4])
    for number, day in enumerate((trades([2, 2], base=SECOND_SESSION), trades([2, 2], 7, SECOND_SESSION))):
        root = tmp_path / str(number)
        row = store(root, [*night, *day], shown(day[-1].seq or 0))
        assert row.state == "proven"
    row = store(tmp_path / "hole", [*night, *trades([2], 9, SECOND_SESSION)])
    assert row.state == "missing"
    row = store(tmp_path / "no_night", trades([2, 2], 7, SECOND_SESSION))
    assert (row.state, row.reason) == ("missing", "7 of volume missing in 1 place between its running totals")


def test_a_time_without_subscription_is_made_up_by_the_whole_day(tmp_path: Path) -> None:
    rows = trades([5, 1])
    away = NotSubscribed(SYMBOL, DAY, NINE_MS, NINE_MS + 60_000, True, "no connection")
    assert store(tmp_path, rows[:1], away).state == "unproven"
    assert store(tmp_path, rows, shown(6)).state == "proven"


def test_a_doubt_of_the_second_copy_stays(tmp_path: Path) -> None:
    assert store(tmp_path, trades([5]), Unproven(SYMBOL, DAY, "it differs"), shown(5)).reason == "it differs"


def test_whose_sequences_are_totals_is_said_the_same_everywhere() -> None:
    for spec in registry.OFFERED:
        is_total = spec.evidence is EvidenceLevel.RUNNING_TOTAL
        assert Origin(spec.market, spec.provider).totals == is_total, spec.name


@pytest.mark.parametrize("kind", [PARQUET, SQLITE])
@pytest.mark.parametrize("kept", [[0, 1, 2, 3], [0, 1, 3]])
def test_an_archived_day_comes_back_with_what_it_claims(tmp_path: Path, kind: str, kept: list[int]) -> None:
    """And once more into a file that has less."""
    root, archive = tmp_path / "data", tmp_path / "archive"
    root.mkdir()
    data_root.claim(root, "TW")
    rows = [trades([5, 1, 120, 3])[n] for n in kept]
    before = store(root, [trial(7), *rows], shown(129))
    assert before.state == ("proven" if len(kept) == 4 else "missing")
    db = root / f"{DAY}.db"
    with atomic.only_job(archive), atomic.only_job(root, restore.LOCK_FILE):
        pack.archive_day(root, archive, DAY, (kind,), made_at_ms=NINE_MS)
        db.unlink()
        archived = Catalog(root, archive).day(DAY)
        assert archived.coverage() == [before]
        assert kind == SQLITE or len(gap_lines(archived)) == 4 - len(kept)  # a packed file is not read in place
        restore.restore_day(archive, DAY, root, now_ms=NINE_MS)
        assert coverage(db) == [before]
        db.unlink()
        store(root, rows[1:2])
        restore.restore_day(archive, DAY, root, now_ms=NINE_MS)
    (after,) = coverage(db)
    assert (after.state, after.holes, after.stored_ticks) == (before.state, before.holes, before.stored_ticks)
