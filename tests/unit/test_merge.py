"""Several recordings of one day: what is the same tick, and what may be said of the day that is made of them."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import fields, replace
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hk_tick_collector.archive import atomic, merge
from hk_tick_collector.archive.atomic import Refused
from hk_tick_collector.archive.merge import Merged
from hk_tick_collector.archive.pack import archive_day
from hk_tick_collector.core.facts import (
    PUSH_PULL_DISAGREE,
    Fact,
    GapFound,
    HeadProven,
    Interrupted,
    NotSubscribed,
    Unproven,
    Verified,
)
from hk_tick_collector.days import joining, twins
from hk_tick_collector.days.catalog import Catalog, Day
from hk_tick_collector.days.manifest import PARQUET
from hk_tick_collector.days.scan import scan_numbered
from hk_tick_collector.days.schema import TICKS
from hk_tick_collector.days.twins import COMPARED
from hk_tick_collector.days.union import UnionCatalog
from hk_tick_collector.market.hk import HK
from hk_tick_collector.records.tick import Tick, same_moment
from hk_tick_collector.records.views import number_equal_ticks, without_sequences
from hk_tick_collector.store import reader
from hk_tick_collector.store.connect import ROW_COLUMNS
from hk_tick_collector.store.copying import without_a_row
from hk_tick_collector.store.layout import day_file
from hk_tick_collector.store.reader import CoverageRow
from hk_tick_collector.store.writer import DayFileWriter
from tests.nights import by_day
from tests.ticks import BASE_MS, DAY, make_tick, make_ticks

SYMBOL = "HK.00700"
EVENING_MS = BASE_MS + 8 * 3_600_000
NOW_MS = EVENING_MS + 60_000


def whole(first: int = 1, last: int = 1000, symbol: str = SYMBOL) -> list[Fact]:
    """What a recorder notes of a day of which OpenD showed the beginning and, in the evening, the end."""
    return [HeadProven(symbol, DAY, first), Verified(symbol, DAY, last, EVENING_MS)]


def gap(first: int, last: int, symbol: str = SYMBOL) -> GapFound:
    return GapFound(symbol, DAY, first, last, EVENING_MS, "OpenD no longer shows them")


def record(root: Path, ticks: Iterable[Tick], facts: Sequence[Fact] = ()) -> Path:
    root.mkdir(exist_ok=True)
    writer = DayFileWriter(root)
    writer.write(list(ticks), facts)
    writer.close()
    return root


def merged_into(into: Path, *roots: Path, is_replacing: bool = False) -> Merged:
    days = {root.name: Catalog(root, root / "archive").day(DAY) for root in roots}
    with atomic.only_job(into, merge.LOCK_FILE), merge.recordings(days, into, NOW_MS) as sources:
        return merge.merge_day(DAY, sources, into, HK, now_ms=NOW_MS, replace=is_replacing)


def merged(tmp_path: Path, *roots: Path, is_replacing: bool = False) -> Merged:
    into = tmp_path / "merged"
    result = merged_into(into, *roots, is_replacing=is_replacing)
    joined = UnionCatalog([Catalog(root, root / "archive") for root in roots]).day(DAY)
    assert said_of(joined) == said_of(Catalog(into, into / "archive").day(DAY))  # as it is read without a merge
    assert len(joined.contradictions) == len(result.conflicts)
    return result


TICKS_COMPARED = pa.schema([TICKS.field(name) for name in COMPARED])


def plain(rows: pa.Table) -> pa.Table:
    """With texts as such."""
    return rows.cast(
        pa.schema(
            [field.with_type(pa.string()) if pa.types.is_dictionary(field.type) else field for field in rows.schema]
        )
    )


def as_a_set(rows: pa.Table) -> pa.Table:
    """In the one order that any order of them has: quicker than as dictionaries, of which there are 90,000 here."""
    return plain(rows).sort_by([(name, "ascending") for name in COMPARED])


def said_of(day: Day) -> dict[str, object]:
    """What a day holds and claims, whoever put it together."""
    rows = as_a_set(pa.Table.from_batches(day.batches(COMPARED), schema=TICKS_COMPARED))
    tables = plain(pa.concat_tables([TICKS_COMPARED.empty_table(), *day.sorted_tables(COMPARED)]))
    assert as_a_set(tables) == rows
    order = ["symbol", "ts_ms"]
    assert tables.select(order) == rows.select(order).sort_by([(name, "ascending") for name in order])
    assert as_a_set(day.ticks(day.symbols(), COMPARED)) == rows
    noted = [replace(row, updated_at_ms=0) for row in day.coverage()]
    open_gaps = [(gap.symbol, gap.missing_ticks, gap.gap_start_ts_ms) for gap in day.gaps() if gap.state == "open"]
    assert day.rows_by_symbol() == Counter(rows["symbol"].to_pylist())
    return {"rows": rows, "noted": noted, "gaps": open_gaps}


def coverage(result: Merged, symbol: str = SYMBOL) -> CoverageRow:
    return next(row for row in reader.coverage(Path(result.path)) if row.symbol == symbol)


def stored(result: Merged) -> list[tuple[str, int | None, int]]:
    with closing(sqlite3.connect(result.path)) as conn:
        return conn.execute("SELECT symbol, seq, ts_ms FROM ticks ORDER BY symbol, seq, ts_ms").fetchall()


def without(ticks: Sequence[Tick], first: int, last: int) -> list[Tick]:
    return [*ticks[: first - 1], *ticks[last:]]


ALL = make_ticks(1, 1000)


def test_two_that_lack_something_never_the_same_are_proven_together(tmp_path: Path) -> None:
    a = record(tmp_path / "a", without(ALL, 500, 600), [*whole(), gap(500, 600)])
    b = record(tmp_path / "b", without(ALL, 901, 950), [*whole(), gap(901, 950)])
    assert [reader.coverage(day_file(root, DAY))[0].state for root in (a, b)] == ["missing", "missing"]
    result = merged(tmp_path, a, b)
    row = coverage(result)
    assert (row.state, row.stored_ticks, row.missing_ticks) == ("proven", 1000, 0)
    assert stored(result) == [(SYMBOL, tick.seq, tick.ts_ms) for tick in ALL]
    assert result.added_rows == {"a": 50, "b": 0} or result.added_rows == {"a": 0, "b": 101}
    assert {gap.state for gap in reader.gaps(Path(result.path))} == {"closed"}


def test_missing_is_what_both_miss(tmp_path: Path) -> None:
    a = record(tmp_path / "a", without(ALL, 500, 600), [*whole(), gap(500, 600)])
    b = record(tmp_path / "b", without(ALL, 590, 650), [*whole(), gap(590, 650)])
    result = merged(tmp_path, a, b)
    assert (result.missing_ticks, result.states) == (11, {"missing": 1})
    assert {tick.seq for tick in ALL} - {seq for _, seq, _ in stored(result)} == {t.seq for t in ALL[589:600]}
    still = [gap for gap in reader.gaps(Path(result.path)) if gap.state == "open"]
    assert sum(gap.missing_ticks or 0 for gap in still) == 11


DOUBTS: list[Sequence[Fact]] = [
    [Unproven(SYMBOL, DAY, "the counters went back")],
    [Interrupted(SYMBOL, DAY, ALL[299].seq)],
    [NotSubscribed(SYMBOL, DAY, BASE_MS + 400, BASE_MS + 500, True, "quota")],
]


@pytest.mark.parametrize("doubt", DOUBTS, ids=lambda facts: type(facts[0]).__name__)
def test_what_one_doubts_is_answered_by_the_proof_of_another(tmp_path: Path, doubt: Sequence[Fact]) -> None:
    a = record(tmp_path / "a", without(ALL, 301, 400), [*doubt, HeadProven(SYMBOL, DAY, 1)])
    b = record(tmp_path / "b", ALL, whole())
    for roots in ((a, b), (b, a)):
        result = merged(tmp_path, *roots, is_replacing=True)
        assert (coverage(result).state, coverage(result).distrust) == ("proven", None)
        assert result.rows == 1000


def test_a_doubt_that_no_proof_answers_stays(tmp_path: Path) -> None:
    a = record(tmp_path / "a", without(ALL, 301, 400), [Unproven(SYMBOL, DAY, "the counters went back"), *whole()])
    b = record(tmp_path / "b", without(ALL, 501, 600), [*whole()])
    result = merged(tmp_path, a, b)
    assert result.rows == 1000
    assert coverage(result).state == "unproven"
    assert "went back" in str(coverage(result).reason)


@pytest.mark.parametrize("knows", [True, False])
def test_an_interruption_is_made_up_by_who_saw_what_followed(tmp_path: Path, knows: bool) -> None:
    """A was cut off behind 300. B, without a break, has 300 and what followed, or nothing before 301."""
    a = record(tmp_path / "a", ALL[:300], [HeadProven(SYMBOL, DAY, 1)])
    record(a, ALL[400:], [Interrupted(SYMBOL, DAY, ALL[299].seq), Verified(SYMBOL, DAY, 1000, EVENING_MS)])
    b = record(tmp_path / "b", ALL[200:] if knows else ALL[300:], [Verified(SYMBOL, DAY, 1000, EVENING_MS)])
    result = merged(tmp_path, a, b)
    assert result.rows == 1000
    assert coverage(result).state == ("proven" if knows else "unproven")


UNCOUNTED = ("ticks lost", None)  # of an earlier recorder: it does not say which
WINDOW = ("not subscribed: quota", '{"not_subscribed": true}')


def add_gap(root: Path, reason: str, meta_json: str | None, state: str = "open") -> None:
    """One between two times at which another gap may stand already."""
    with closing(sqlite3.connect(day_file(root, DAY))) as conn, conn:
        row = (DAY, SYMBOL, BASE_MS, EVENING_MS, 1.0, EVENING_MS, reason, meta_json, None, state)
        conn.execute(f"INSERT INTO gaps VALUES ({', '.join('?' * len(row))})", row)


@pytest.mark.parametrize("first_has", [None, WINDOW, (*UNCOUNTED, "closed")])
def test_a_loss_of_which_nobody_knows_the_size_stays_said(
    first_has: tuple[str, str | None] | None, tmp_path: Path
) -> None:
    """Whichever of the two knows it, and whatever the other one has between the same two times."""
    a = record(tmp_path / "a", ALL, [HeadProven(SYMBOL, DAY, 1)])
    b = record(tmp_path / "b", ALL[:900], [HeadProven(SYMBOL, DAY, 1)])
    add_gap(b, *UNCOUNTED)
    if first_has is not None:
        add_gap(a, *first_has)
    for roots in ((a, b), (b, a)):
        result = merged(tmp_path, *roots, is_replacing=True)
        assert (coverage(result).state, result.states) == ("missing", {"missing": 1})
    record(a, [], whole())
    if first_has is not WINDOW:
        assert merged(tmp_path, a, b, is_replacing=True).states == {"proven": 1}, "the proof answers it"


@pytest.mark.parametrize(("bare", "state", "missing"), [((480, 620), "unproven", 0), ((480, 550), "missing", 101)])
def test_what_another_one_has_without_a_sequence_is_not_called_missing(
    tmp_path: Path, bare: tuple[int, int], state: str, missing: int
) -> None:
    """As many as were lost, at that time: they may be the same. Fewer are not all of them."""
    a = record(tmp_path / "a", without(ALL, 500, 600), [*whole(), gap(500, 600)])
    told_bare = without_sequences(ALL[bare[0] - 1 : bare[1]])
    b = record(tmp_path / "b", told_bare, [Unproven(SYMBOL, DAY, PUSH_PULL_DISAGREE)])
    for roots in ([a, b], [b, a]):
        result = merged(tmp_path, *roots, is_replacing=True)
        assert result.rows == 899 + min(bare[1], 600) - 499
        row = coverage(result)
        assert (row.state, row.missing_ticks) == (state, missing)
        assert PUSH_PULL_DISAGREE in (row.reason or "")


def test_what_one_has_itself_without_a_sequence_is_not_what_it_lost(tmp_path: Path) -> None:
    """Another one, which recorded nothing at that time, has a tick without a sequence in the morning."""
    others = [tick._replace(price=(tick.price or 0) + 1) for tick in without_sequences(ALL[499:600])]
    a = record(tmp_path / "a", [*without(ALL, 500, 600), *others], [*whole(), gap(500, 600)])
    told = [*ALL[:9], *without_sequences(ALL[9:10]), *ALL[10:300]]
    b = record(tmp_path / "b", told, [HeadProven(SYMBOL, DAY, 1), Unproven(SYMBOL, DAY, PUSH_PULL_DISAGREE)])
    for roots in ([a, b], [b, a]):
        row = coverage(merged(tmp_path, *roots, is_replacing=True))
        assert (row.state, row.missing_ticks, row.unsequenced_ticks) == ("missing", 101, 101)


def test_a_window_stays_said_where_the_other_one_has_a_gap_between_the_same_times(tmp_path: Path) -> None:
    a = record(tmp_path / "a", ALL, [HeadProven(SYMBOL, DAY, 1)])
    b = record(tmp_path / "b", ALL[:900], [HeadProven(SYMBOL, DAY, 1)])
    add_gap(a, "filled since", '{"closed_at_ms": 1}', "closed")
    add_gap(b, *WINDOW)
    row = coverage(merged(tmp_path, a, b))
    assert (row.state, row.reason) == ("unproven", "not subscribed: quota")


def broken(root: Path, *stretches: tuple[int, int]) -> Path:
    """A recorder that was away between these stretches for longer than OpenD looks back."""
    for n, (first, last) in enumerate(stretches):
        facts: list[Fact] = [HeadProven(SYMBOL, DAY, 1)] if not n else []
        if n:
            before = stretches[n - 1][1]
            facts = [Interrupted(SYMBOL, DAY, ALL[before - 1].seq or 0), gap(before + 1, first - 1)]
        end = [Verified(SYMBOL, DAY, 1000, EVENING_MS)] if last == 1000 else []
        record(root, ALL[first - 1 : last], [*facts, *end])
    return root


def test_long_breaks_of_two_recorders_never_at_the_same_time_make_a_proven_day(tmp_path: Path) -> None:
    a = broken(tmp_path / "a", (1, 100), (151, 500), (561, 1000))
    b = broken(tmp_path / "b", (1, 300), (351, 700), (751, 1000))
    assert [reader.coverage(day_file(root, DAY))[0].state for root in (a, b)] == ["missing", "missing"]
    for roots in ((a, b), (b, a)):
        result = merged(tmp_path, *roots, is_replacing=True)
        row = coverage(result)
        assert (row.state, row.reason, row.stored_ticks, row.interrupted_seq) == ("proven", None, 1000, None)


@pytest.mark.parametrize(
    ("last", "state"), [(480, "proven"), (500, "unproven"), (520, "unproven"), (560, "unproven"), (561, "proven")]
)
def test_a_later_break_that_another_one_has_too_stays_open(tmp_path: Path, last: int, state: str) -> None:
    """All ticks are there, for B was shown what it had lost. But who went on from 500 to 561 without a break?"""
    a = broken(tmp_path / "a", (1, 100), (151, 500), (561, 1000))
    b = broken(tmp_path / "b", (1, 300), (351, last), (600, 1000))
    record(b, ALL[last:599])
    row = coverage(merged(tmp_path, a, b))
    assert (row.state, row.stored_ticks) == (state, 1000)


def test_a_recording_that_noted_its_first_break_alone_proves_no_more_than_before(tmp_path: Path) -> None:
    a = broken(tmp_path / "a", (1, 100), (151, 500), (561, 1000))
    b = broken(tmp_path / "b", (1, 300), (351, 1000))
    with closing(sqlite3.connect(day_file(b, DAY))) as conn:
        conn.execute("ALTER TABLE coverage DROP COLUMN later_interruptions")
        conn.commit()
    row = coverage(merged(tmp_path, a, b))
    assert (row.state, row.interrupted_seq, row.later_interruptions) == ("unproven", ALL[499].seq, None)


def test_recordings_that_share_no_tick_prove_nothing_together(tmp_path: Path) -> None:
    a = record(tmp_path / "a", ALL[:500], [HeadProven(SYMBOL, DAY, 1), Verified(SYMBOL, DAY, 500, BASE_MS + 600)])
    b = record(tmp_path / "b", ALL[500:], [Verified(SYMBOL, DAY, 1000, EVENING_MS)])
    result = merged(tmp_path, a, b)
    row = coverage(result)
    assert (row.stored_ticks, row.state, row.reason) == (1000, "unproven", joining.NO_COMMON_TICK)


def test_recordings_that_number_otherwise_are_not_joined(tmp_path: Path) -> None:
    shifted = [tick._replace(seq=(tick.seq or 0) + 7) for tick in ALL]
    a, b = record(tmp_path / "a", ALL, whole()), record(tmp_path / "b", shifted, whole(8, 1007))
    result = merged(tmp_path, a, b)
    assert (result.rows, coverage(result).state) == (1000, "unproven")
    assert joining.DISAGREE in str(coverage(result).reason)
    assert [(conflict.symbol, conflict.left_out) for conflict in result.conflicts] in ([(SYMBOL, "b")], [(SYMBOL, "a")])


def test_one_sequence_for_two_trades_is_a_contradiction(tmp_path: Path) -> None:
    other = [*ALL[:99], ALL[99]._replace(price=400.0, turnover=40000.0), *ALL[100:]]
    a, b = record(tmp_path / "a", ALL, whole()), record(tmp_path / "b", other, whole())
    result = merged(tmp_path, a, b)
    assert [(conflict.otherwise, conflict.renumbered) for conflict in result.conflicts] == [(1, 0)]
    assert (result.rows, coverage(result).state) == (1000, "unproven")


def test_symbols_of_one_recording_alone_are_taken_with_their_notes(tmp_path: Path) -> None:
    small = make_ticks(1, 40, "HK.00005")
    a = record(tmp_path / "a", ALL, whole())
    b = record(tmp_path / "b", [*ALL[:900], *small], [*whole(1, 40, "HK.00005"), HeadProven(SYMBOL, DAY, 1)])
    result = merged(tmp_path, a, b)
    assert result.states == {"proven": 2}
    assert result.rows == 1040


def test_ticks_without_a_sequence_have_one_row_each(tmp_path: Path) -> None:
    """Two equal trades of one moment, of which B has both: one more than A. Times cut to the second are the same."""
    bare = [make_tick(n, seq=None) for n in (10, 20, 30)]
    twice = [make_tick(20, seq=None), make_tick(20, seq=None, occurrence=1)]
    a = record(tmp_path / "a", bare)
    b = record(tmp_path / "b", [bare[0], *twice, make_tick(40, seq=None), *make_ticks(50, 60)])
    result = merged(tmp_path, a, b)
    assert result.rows == 5 + 11
    assert coverage(result).state == "unproven"


def equal_trade(number: int, ms: int, **fields: object) -> Tick:
    """One of several trades of one second that look alike."""
    second = BASE_MS // 1000
    return make_tick(number, **{"ts_ms": second * 1000 + ms, "seq": second << 32 | number, **fields})


def test_a_time_that_was_cut_takes_no_place_of_another_tick_without_a_sequence(tmp_path: Path) -> None:
    """A has two of the trades without sequences. Of the third one B does not know the milliseconds, C does."""
    a = record(tmp_path / "a", number_equal_ticks(equal_trade(n, 100, seq=None) for n in (1, 2)))
    b = record(tmp_path / "b", [equal_trade(3, 0), equal_trade(4, 900, price=2.0)])
    c = record(tmp_path / "c", [equal_trade(3, 500)])
    result = merged(tmp_path, a, b, c)
    second_ms = BASE_MS // 1000 * 1000
    assert [(seq and seq & 0xFF, ts_ms - second_ms) for _, seq, ts_ms in stored(result)] == [
        (None, 100), (None, 100), (3, 500), (4, 900),
    ]  # fmt: skip


def test_the_finer_time_of_a_tick_is_taken_from_whoever_has_it(tmp_path: Path) -> None:
    """Also where the other one has more ticks, all with sequences."""
    a = record(tmp_path / "a", [*(equal_trade(n, 0) for n in (1, 2)), *make_ticks(10, 20, "HK.00005")])
    b = record(tmp_path / "b", [equal_trade(1, 100), equal_trade(2, 200), equal_trade(3, 0), equal_trade(4, 0)])
    c = record(tmp_path / "c", [equal_trade(3, 300)])
    result = merged(tmp_path, a, b, c)
    assert [ts_ms % 1000 for symbol, _, ts_ms in stored(result) if symbol == SYMBOL] == [100, 200, 300, 0]


@pytest.mark.parametrize("seed", by_day(range(18), lambda seed: seed < 6))
def test_equal_trades_of_one_second_are_merged_as_they_are_read_together(tmp_path: Path, seed: int) -> None:
    """Each recording lacks some, and tells some without a sequence, or to the second, or both."""
    draw = Random(seed)
    moments = sorted(draw.choices((0, 100, 100, 250, 500, 999), k=draw.randint(2, 8)))
    truth = [equal_trade(n, ms, price=draw.choice((1.0, 1.0, 2.0))) for n, ms in enumerate(moments, start=1)]
    roots = []
    for name in "abc":
        share_bare, share_cut = (draw.choice((0, 0, 0.4, 1)) for _ in range(2))
        told = [tick for tick in truth if draw.random() < 0.85] or truth[:1]
        told = [tick._replace(seq=None) if draw.random() < share_bare else tick for tick in told]
        told = [tick._replace(ts_ms=tick.ts_ms // 1000 * 1000) if draw.random() < share_cut else tick for tick in told]
        roots.append(record(tmp_path / name, number_equal_ticks(told), whole()))
    assert merged(tmp_path, *roots).rows <= len(truth)


def test_the_order_of_recordings_does_not_matter_and_three_are_joined(tmp_path: Path) -> None:
    parts = [without(ALL, 100 * n, 100 * n + 150) for n in (1, 4, 7)]
    gaps = [gap(100 * n, 100 * n + 150) for n in (1, 4, 7)]
    roots = [
        record(tmp_path / name, part, [*whole(), lost]) for name, part, lost in zip("abc", parts, gaps, strict=True)
    ]
    first = merged(tmp_path, *roots)
    assert (first.action, first.states, first.rows) == ("merged", {"proven": 1}, 1000)
    assert merged(tmp_path, *roots).action == "unchanged"
    rows = stored(first)
    again = merged(tmp_path, *reversed(roots), is_replacing=True)
    assert (again.states, stored(again)) == ({"proven": 1}, rows)


def test_a_merged_day_that_holds_something_else_is_not_replaced_unasked(tmp_path: Path) -> None:
    a, b = record(tmp_path / "a", ALL[:500]), record(tmp_path / "b", ALL[:500])
    merged(tmp_path, a, b)
    record(b, ALL[500:])
    with pytest.raises(Refused, match="--replace"):
        merged(tmp_path, a, b)
    assert merged(tmp_path, a, b, is_replacing=True).action == "replaced"
    assert not list((tmp_path / "merged").glob(".2*"))


def test_an_archived_recording_is_merged(tmp_path: Path) -> None:
    a = record(tmp_path / "a", without(ALL, 500, 600), [*whole(), gap(500, 600)])
    b = record(tmp_path / "b", ALL[100:], [HeadProven(SYMBOL, DAY, 1), Verified(SYMBOL, DAY, 1000, EVENING_MS)])
    with atomic.only_job(a / "archive"):
        archive_day(a, a / "archive", DAY, [PARQUET], made_at_ms=NOW_MS)
    day_file(a, DAY).unlink()
    result = merged(tmp_path, a, b)
    assert (result.states, result.rows) == ({"proven": 1}, 1000)
    assert not list((tmp_path / "merged").glob(".hk-tick-temp-*"))


SETS = st.sets(st.integers(1, 60), min_size=1)


def random_twins(tmp_path: Path, seed: int) -> list[Path]:
    """Three recordings of a few symbols: each lacks some ticks, has some without a sequence or with a cut time, or
    tells a symbol otherwise."""
    draw = Random(seed)
    sides: list[list[Tick]] = [[], [], []]
    for symbol in (f"HK.{number:05d}" for number in range(1, 9)):
        truth = make_ticks(1, draw.randint(2, 40), symbol)
        truth = [tick._replace(price=draw.choice((1.0, 2.0, None)), ts_ms=tick.ts_ms) for tick in truth]
        for side in sides:
            told = [tick for tick in truth if draw.random() < draw.choice((1, 0.9))]
            kind = draw.choice(("whole", "whole", "whole", "bare", "cut", "otherwise", "absent"))
            if kind == "bare":
                told = [tick._replace(seq=None) if draw.random() < 0.3 else tick for tick in told]
            elif kind == "cut":
                told = [tick._replace(ts_ms=tick.ts_ms // 1000 * 1000) for tick in told]
            elif kind == "otherwise":
                told = [tick._replace(price=9.0) if draw.random() < 0.3 else tick for tick in told]
            side.extend(told if kind != "absent" else [])
    for side in sides:
        draw.shuffle(side)
    return [record(tmp_path / name, side, whole()) for name, side in zip("abc", sides, strict=True)]


@pytest.mark.parametrize("seed", by_day(range(8), lambda seed: seed < 3))
def test_a_merged_day_is_the_same_however_many_rows_are_looked_at_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    roots = random_twins(tmp_path, seed)
    told: list[tuple[object, ...]] = []
    for group_rows in (1, 60, merge.GROUP_ROWS):
        monkeypatch.setattr(merge, "GROUP_ROWS", group_rows)
        result = merged_into(tmp_path / str(group_rows), *roots)
        with closing(sqlite3.connect(result.path)) as conn:
            dump = sorted(conn.iterdump())
        told.append((dump, result.added_rows, result.states, result.conflicts))
    assert told[0] == told[1] == told[2]
    merged(tmp_path, *roots)  # and as it is read without a merge


def test_each_recording_is_read_once_and_what_was_made_of_them_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The index is asked for what one lacks alone: by it, each row costs three times as much."""
    a = record(tmp_path / "a", without(ALL, 500, 600))
    b = record(tmp_path / "b", without(ALL, 901, 950))
    scanned, scan = list[str](), merge.scan_day_file
    monkeypatch.setattr(
        merge, "scan_day_file", lambda db, *how, **more: (scanned.append(db.name), scan(db, *how, **more))[1]
    )
    monkeypatch.setattr(merge, "scan_symbols", None)
    monkeypatch.setattr(merge, "GROUP_ROWS", 1)
    result = merged_into(tmp_path / "merged", a, b)
    assert stored(result) == [(SYMBOL, tick.seq, tick.ts_ms) for tick in ALL]
    assert scanned == [f"{DAY}.db", f"{DAY}.db", f".{DAY}.db.part"]


def test_ticks_of_a_symbol_that_a_recordings_notes_do_not_name_are_not_taken(tmp_path: Path) -> None:
    a = record(tmp_path / "a", make_ticks(1, 5))
    b = record(tmp_path / "b", [*make_ticks(1, 9), *make_ticks(1, 20, "HK.00005")])
    with closing(sqlite3.connect(day_file(b, DAY))) as conn, conn:
        conn.execute("DELETE FROM coverage WHERE symbol = ?", (SYMBOL,))
    result = merged_into(tmp_path / "merged", a, b)
    assert Counter(symbol for symbol, *_ in stored(result)) == {"HK.00005": 20, SYMBOL: 5}


def test_ticks_are_found_by_their_sequences_in_the_order_that_is_asked_for(tmp_path: Path) -> None:
    record(tmp_path, [*ALL, *make_ticks(1, 20, "HK.00005"), make_tick(21, "HK.00005", seq=None)])
    seqs = {SYMBOL: [ALL[8].seq, ALL[2].seq, ALL[2].seq, 7], "HK.00005": [make_tick(3).seq], "HK.99999": [1], "'": [2]}
    expected = [(SYMBOL, ALL[2].seq), (SYMBOL, ALL[8].seq), ("HK.00005", make_tick(3).seq)]

    def found() -> list[tuple[str, int]]:
        table = scan_numbered(day_file(tmp_path, DAY), seqs, ("symbol", "seq", "tick_type"))
        return list(zip(table["symbol"].to_pylist(), table["seq"].to_pylist(), strict=True))

    assert found() == expected
    with closing(sqlite3.connect(day_file(tmp_path, DAY))) as conn:  # now it is a live file
        conn.execute("BEGIN IMMEDIATE")
        assert found() == expected


def test_sequences_far_apart_are_held_against_each_other_all_the_same() -> None:
    """They do not fit into one number with their symbol's."""
    seqs = [[1, 5, (1 << 62) + 3, (1 << 63) - 1], [1, 6, (1 << 62) + 3]]
    names = [f"HK.{number:05d}" for number in range(1, 6)]
    tables = [table_of([make_tick(1, name, seq=seq) for name in names for seq in side]) for side in seqs]
    told = twins.compare_all(*tables, names, uncounted=names)
    assert {(d.first_only.tolist()[0], len(d.first_only), len(d.second_only), d.otherwise) for d in told.values()} == {
        (1, 2, 1, 0)
    }


@given(SETS, SETS)
def test_compare_finds_what_each_has_alone(first: set[int], second: set[int]) -> None:
    difference = twins.compare(table(first), table(second))
    assert [n for n in sorted(first) if n not in second] == [sorted(first)[place] for place in difference.first_only]
    assert [n for n in sorted(second) if n not in first] == [sorted(second)[place] for place in difference.second_only]
    assert (difference.common_rows, difference.contradicts) == (len(first & second), False)
    assert difference.is_equal == (first == second)


def table(numbers: Iterable[int]) -> pa.Table:
    ticks = [make_tick(n, price=float(n)) for n in sorted(numbers)]
    columns = {name: [getattr(tick, name) for tick in ticks] for name in twins.COLUMNS}
    return pa.table(columns)


def once_by_sequence(row: tuple[Any, ...]) -> object:
    return row[:2] if row[1] is not None else object()


# Symbol, sequence (None: it has none), ms of its time (0: cut to the second), price, volume, direction, ms until it
# came; few of each, so that much is equal.
_ROWS = st.lists(
    st.tuples(
        st.sampled_from(("HK.00005", "HK.00700", "HK.09988")), st.sampled_from((None, 1, 2, 3, 4, 5, 1 << 32 | 1)),
        st.sampled_from((0, 1, 500, 1000, 1001)), st.sampled_from((None, 1.0, 2.0)), st.sampled_from((100, 200)),
        st.sampled_from((None, "BUY", "SELL")), st.integers(0, 3),
    ),
    max_size=14,
    unique_by=once_by_sequence,
)  # fmt: skip
NAMES = ("HK.00005", "HK.00700", "HK.01211", "HK.09988")


@given(_ROWS, _ROWS, st.sets(st.sampled_from(NAMES)))
def test_many_symbols_at_once_differ_as_each_of_them_row_by_row(
    first: list[tuple[Any, ...]], second: list[tuple[Any, ...]], uncounted: set[str]
) -> None:
    ticks = [sorted(map(as_tick, rows), key=in_order) for rows in (first, second)]
    tables = [table_of(side, uneven=number) for number, side in enumerate(ticks)]
    told = twins.compare_all(tables[0], tables[1], NAMES, uncounted=uncounted)
    for symbol in NAMES:
        of_symbol = [[tick for tick in side if tick.symbol == symbol] for side in ticks]
        difference = told[symbol]
        assert as_counts(difference) == slowly(*of_symbol, counts=symbol not in uncounted), symbol
        turned = twins.compare(*(table_of(side) for side in reversed(of_symbol)), counts=symbol not in uncounted)
        assert as_counts(turned.swapped()) == as_counts(difference)


def as_tick(row: tuple[Any, ...]) -> Tick:
    symbol, seq, ms, price, volume, direction, late_ms = row
    tick = make_tick(1, symbol=symbol, price=price, volume=volume)
    when = BASE_MS // 1000 * 1000 + ms
    return tick._replace(seq=seq, ts_ms=when, direction=direction, turnover=None, recv_ts_ms=when + late_ms)


def in_order(tick: Tick) -> tuple[object, ...]:
    return tick.symbol, tick.ts_ms, tick.seq is None, tick.seq or 0


def table_of(ticks: Sequence[Tick], uneven: int = 0) -> pa.Table:
    """``uneven``: with words in another order."""
    columns = {name: [getattr(tick, name, 0) for tick in ticks] for name in twins.COLUMNS}
    whole = pa.table({name: pa.array(columns[name], TICKS.field(name).type) for name in twins.COLUMNS})
    if uneven:
        words = pa.array(["SELL", "BUY", "NEUTRAL"])
        numbers = pa.array(
            [None if word is None else words.index(word).as_py() for word in columns["direction"]], pa.int32()
        )
        place = whole.schema.get_field_index("direction")
        whole = whole.set_column(place, "direction", pa.DictionaryArray.from_arrays(numbers, words))
    return whole


def as_counts(difference: twins.Difference) -> dict[str, object]:
    return {
        name: getattr(difference, name)
        if isinstance(getattr(difference, name), int)
        else getattr(difference, name).tolist()
        for name in (field.name for field in fields(difference))
    }


def slowly(first: Sequence[Tick], second: Sequence[Tick], *, counts: bool) -> dict[str, object]:
    """The rule of ``twins``, a row after the other."""
    places = [{tick.seq: n for n, tick in enumerate(side) if tick.seq is not None} for side in (first, second)]
    pairs = [(n, places[1][seq]) for seq, n in places[0].items() if seq in places[1]]
    same = [(n, m) for n, m in pairs if is_same(first[n], second[m])]
    left = [n for n in range(len(first)) if n not in dict(pairs)]
    others_left = [m for m in range(len(second)) if m not in {m for _, m in pairs}]
    if any(first[n].seq is None for n in left) or any(second[m].seq is None for m in others_left):
        rows, others = ([(*stored_row(side[n]), n) for n in at] for side, at in ((first, left), (second, others_left)))
        left = sorted(row[-1] for row in without_a_row(rows, others))
        others_left = sorted(row[-1] for row in without_a_row(others, rows))
    renumbered = 0
    if min(len(left), len(others_left)) >= 2:
        trades, other_trades = (
            Counter(trade(side[n]) for n in at) for side, at in ((first, left), (second, others_left))
        )
        shared = (trades & other_trades).total()
        renumbered = shared if shared > 1 and 2 * shared > min(trades.total(), other_trades.total()) else 0
    if counts:
        for side, alone, other in ((first, left, second), (second, others_left, first)):
            taken = {tick.seq & 0xFFFFFFFF for tick in other if tick.seq is not None}
            renumbered += sum((seq := side[n].seq) is not None and seq & 0xFFFFFFFF in taken for n in alone)
    leads = [second[m].recv_ts_ms - first[n].recv_ts_ms for n, m in same]
    finer = [second[m].ts_ms - first[n].ts_ms for n, m in same]
    return {
        "first_rows": len(first), "second_rows": len(second), "first_only": left, "second_only": others_left,
        "otherwise": len(pairs) - len(same), "renumbered": renumbered,
        "first_came_first": sum(lead > 0 for lead in leads), "second_came_first": sum(lead < 0 for lead in leads),
        "first_cut": sum(more > 0 for more in finer), "second_cut": sum(more < 0 for more in finer),
    }  # fmt: skip


def trade(tick: Tick) -> tuple[object, ...]:
    return (tick.ts_ms, tick.price, tick.volume, tick.turnover, tick.direction, tick.tick_type)


def is_same(tick: Tick, other: Tick) -> bool:
    return same_moment(tick.ts_ms, other.ts_ms) and trade(tick)[1:] == trade(other)[1:]


def stored_row(tick: Tick) -> tuple[object, ...]:
    compared = tick._replace(recv_ts_ms=0)
    return tuple(
        getattr(compared, name, 0 if name == "occurrence" else None) if name in COMPARED else None
        for name in ROW_COLUMNS
    )


_TOLD = st.dictionaries(
    st.integers(1, 6),
    st.tuples(st.sampled_from((None, 1.0, 2.0)), st.sampled_from((None, "BUY", "SELL", "NEUTRAL"))),
    min_size=1,
    max_size=6,
).map(lambda trades: dict(sorted(trades.items())))


@given(_TOLD, _TOLD)
def test_values_that_are_absent_or_words_tell_trades_apart(
    first: dict[int, tuple[float | None, str | None]], second: dict[int, tuple[float | None, str | None]]
) -> None:
    """Each table has numbers of its own for its words, in the order in which they come."""
    wanted = sorted(second.keys() - first.keys()), sum(first[no] != second[no] for no in first.keys() & second.keys())
    tables = [told(trades) for trades in (first, second)]
    difference = twins.compare(*tables)
    assert (sorted([*second][place] for place in difference.second_only), difference.otherwise) == wanted


def told(trades: dict[int, tuple[float | None, str | None]]) -> pa.Table:
    columns = table(trades)
    for name, place in (("price", 0), ("direction", 1)):
        values = pa.array([trade[place] for trade in trades.values()], (pa.float64(), pa.string())[place])
        values = values.dictionary_encode() if place else values
        columns = columns.set_column(columns.schema.get_field_index(name), name, values)
    return columns
