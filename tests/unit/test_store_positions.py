"""Sequences that count nothing: they tell ticks apart and rise with time, and the day is unproven for that reason."""

from __future__ import annotations

import random
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from hk_tick_collector.core.evidence import NO_COUNTER, EvidenceLevel
from hk_tick_collector.core.facts import HeadProven, Verified
from hk_tick_collector.records.tick import Origin, Tick
from hk_tick_collector.store.judging import verdict_of
from hk_tick_collector.store.reader import coverage
from hk_tick_collector.store.rows import OneByOne
from hk_tick_collector.store.tracks import stored_tracks
from hk_tick_collector.store.writer import DayFileWriter
from tests.unit.store_ticks import DAY, query, tick

US = 1_795_138_200_000_000


def trade(us: int, **changes: object) -> Tick:
    return tick(symbol="CME.ESZ26", seq=us, ts_ms=us // 1000, volume=us % 7 + 1, **changes)


def writer(root: Path) -> DayFileWriter:
    return DayFileWriter(root, origin=Origin("CME", "sierra"), evidence=EvidenceLevel.REPLAY)


def stored_seqs(root: Path) -> list[object]:
    return [row[0] for row in query(root / f"{DAY}.db", "SELECT seq FROM ticks ORDER BY seq")]


def spread(count: int) -> list[Tick]:
    """Over five hours: the low 32 bits begin anew four times."""
    return [trade(US + number * 18_000_000_000 // count) for number in range(count)]


def test_rows_are_stored_once_whatever_their_order(tmp_path: Path) -> None:
    rows = spread(1000)
    random.Random(7).shuffle(rows)
    store = writer(tmp_path)
    results = [store.write(rows[at : at + 250]) for at in range(0, 1000, 250)]
    again = store.write(rows)
    store.close()
    assert sum(result.inserted_rows for result in results) == 1000
    assert (again.inserted_rows, again.ignored_rows, again.collisions) == (0, 1000, 0)
    assert stored_seqs(tmp_path) == [row.seq for row in spread(1000)]


@pytest.mark.parametrize("parts", [1, 3])
def test_the_file_says_that_nothing_counts(tmp_path: Path, parts: int) -> None:
    """Also after it was opened again, by a writer that was told nothing."""
    rows = spread(999)
    for part in range(parts):
        store = writer(tmp_path) if part == 0 else DayFileWriter(tmp_path, origin=Origin("CME", "sierra"))
        store.write(rows[part * 999 // parts : (part + 1) * 999 // parts])
        store.close()
    (row,) = coverage(tmp_path / f"{DAY}.db")
    assert (row.state, row.reason, row.missing_ticks, row.holes) == ("unproven", NO_COUNTER, 0, None)
    assert (row.stored_ticks, row.first_counter, row.last_counter) == (999, rows[0].seq, rows[-1].seq)
    assert (row.first_ts_ms, row.last_ts_ms) == (rows[0].ts_ms, rows[-1].ts_ms)


def test_rows_that_somebody_removed_are_counted_anew(tmp_path: Path) -> None:
    store = writer(tmp_path)
    store.write(spread(100))
    store.close()
    with sqlite3.connect(tmp_path / f"{DAY}.db") as conn:
        conn.execute("DELETE FROM ticks WHERE seq IN (SELECT seq FROM ticks ORDER BY seq LIMIT 10)")
    conn.close()
    store = writer(tmp_path)
    assert store.write(spread(100)).inserted_rows == 10
    store.close()
    (row,) = coverage(tmp_path / f"{DAY}.db")
    assert (row.stored_ticks, row.reason) == (100, NO_COUNTER)
    assert row.first_counter == US


def test_another_trade_of_the_same_number_is_stored_and_said(tmp_path: Path) -> None:
    store = writer(tmp_path)
    store.write([trade(US), trade(US + 5)])
    assert store.write([trade(US, price=1.0)]).collisions == 1
    store.close()
    (row,) = coverage(tmp_path / f"{DAY}.db")
    assert row.stored_ticks == 3
    assert "two ticks with one sequence" in str(row.reason)


def two_a_millisecond(count: int) -> list[Tick]:
    """As sources name them that tell two trades of a millisecond apart by what they are: the names rise in no order."""
    names = random.Random(11).sample(range(1000), count)
    return [trade(US + at // 2 * 1000 + name) for at, name in enumerate(names)]


@pytest.mark.parametrize("batch_rows", [2, 10, 100])
def test_names_that_do_not_rise_are_new_without_a_look_into_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch_rows: int
) -> None:
    batches = [two_a_millisecond(100)[at : at + batch_rows] for at in range(0, 100, batch_rows)]
    with monkeypatch.context() as patched:
        patched.setattr(OneByOne, "store", lambda *_: pytest.fail("looked up one by one"))
        store = writer(tmp_path)
        assert sum(store.write(batch).inserted_rows for batch in batches) == 100
    again = store.write(two_a_millisecond(100))
    store.close()
    assert (again.inserted_rows, again.ignored_rows, again.collisions) == (0, 100, 0)
    (row,) = coverage(tmp_path / f"{DAY}.db")
    assert row.stored_ticks == 100
    assert (row.first_counter, row.last_counter) == (min(stored_seqs(tmp_path)), max(stored_seqs(tmp_path)))


def test_names_that_do_not_rise_and_come_again_are_stored_once(tmp_path: Path) -> None:
    """In one batch: as repeats, as another trade of the same name, and mixed with those that were stored before."""
    rng = random.Random(5)
    rows = two_a_millisecond(60)
    other = rows[31]._replace(price=1.0)
    store = writer(tmp_path)
    store.write(rows[:20])
    batch = [*rows[10:], *rng.sample(rows, 30), other]
    rng.shuffle(batch)
    result = store.write(batch)
    store.close()
    assert (result.inserted_rows, result.collisions) == (41, 1)
    (row,) = coverage(tmp_path / f"{DAY}.db")
    assert row.stored_ticks == 61


def test_a_recorder_is_not_told_of_holes(tmp_path: Path) -> None:
    store = writer(tmp_path)
    store.write(spread(50))
    store.close()
    track = stored_tracks(tmp_path, ["CME.ESZ26"], 1)["CME.ESZ26"]
    assert not track.stored
    assert not track.counters_count


def test_no_fact_makes_such_a_day_proven(tmp_path: Path) -> None:
    """Beginning and end confirmed is all that a counted day wants."""
    rows = spread(50)
    store = writer(tmp_path)
    facts = [HeadProven("CME.ESZ26", DAY, US), Verified("CME.ESZ26", DAY, rows[-1].seq or 0, rows[-1].ts_ms + 1)]
    store.write(rows, facts)
    store.close()
    (row,) = coverage(tmp_path / f"{DAY}.db")
    assert (row.state, row.reason) == ("unproven", NO_COUNTER)
    assert verdict_of(row, ()).level is EvidenceLevel.ID
    for distrust in (None, "ticks without a sequence"):
        assert verdict_of(replace(row, distrust=distrust), ()).level is EvidenceLevel.COUNTER
