"""One market in several data roots, read as one: what is said of it, what is left out, what does not move."""

from __future__ import annotations

import gc
import sqlite3
import weakref
from contextlib import closing
from pathlib import Path

import pytest

from hk_tick_collector.client.coverage import MISSING, PROVEN, UNPROVEN
from hk_tick_collector.core.errors import NoData, StoreCorrupt
from hk_tick_collector.core.facts import Fact, GapFound, HeadProven, Verified
from hk_tick_collector.days.catalog import Catalog
from hk_tick_collector.days.joining import DISAGREE
from hk_tick_collector.days.union import MAX_DAYS, UnionCatalog, UnionDay
from hk_tick_collector.market.calendar import TradingCalendar
from hk_tick_collector.quality.certificate import make_certificate
from hk_tick_collector.quality.gap_list import gap_lines
from hk_tick_collector.serve.api.jobs import _as_shown
from hk_tick_collector.store.layout import archive_dir, day_file
from tests.ticks import BASE_MS, DAY, make_ticks
from tests.unit.client.days import recordings, store

SYMBOL = "HK.00700"
EVENING_MS = BASE_MS + 8 * 3_600_000
ALL = make_ticks(1, 300)
NEXT_DAY = "20261123"


def whole(last: int = 300) -> list[Fact]:
    return [HeadProven(SYMBOL, DAY, 1), Verified(SYMBOL, DAY, last, EVENING_MS)]


def lacking(root: Path, first: int, last: int) -> Path:
    """All but these ticks, which OpenD no longer shows."""
    gap = GapFound(SYMBOL, DAY, first, last, EVENING_MS, "OpenD no longer shows them")
    store(root, [*ALL[: first - 1], *ALL[last:]], [*whole(), gap])
    return root


def union(*roots: Path) -> UnionDay:
    union_day = UnionCatalog([Catalog(root, archive_dir(root)) for root in roots]).day(DAY)
    assert isinstance(union_day, UnionDay)
    return union_day


@pytest.fixture
def twins(tmp_path: Path) -> tuple[Path, Path]:
    return lacking(tmp_path / "a", 100, 120), lacking(tmp_path / "b", 200, 220)


def test_coverage_certificate_gaps_and_rows_say_the_same(twins: tuple[Path, Path]) -> None:
    """Each lacks something, and never the same."""
    here = recordings(*twins)
    assert here.load("700", DAY).num_rows == 300
    (row,) = here.coverage(DAY, "700")
    (info,) = here.days()
    certificate = here.certificate(DAY)
    assert (row.state, row.stored_ticks, info.state, info.stored_ticks) == (PROVEN, 300, PROVEN, 300)
    assert (certificate["grade"], certificate["missing_ticks"], certificate["open_gaps"]) == ("A", 0, [])
    assert all(str(day_file(root, DAY)) in certificate["source"] for root in twins)
    assert certificate["rows_read"] == 2 * 279  # of both files
    assert not [line for line in gap_lines(union(*twins)) if line.state == "open"]


@pytest.mark.parametrize("hours", [0, 24])
def test_rows_that_another_program_removed_from_one_root_are_no_complete_day(tmp_path: Path, hours: int) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    store(a, ALL, whole())
    store(b, make_ticks(1, 5, "HK.00005"), [HeadProven("HK.00005", DAY, 1), Verified("HK.00005", DAY, 5, EVENING_MS)])
    day, now_ms = union(a, b), BASE_MS + hours * 3_600_000
    calendar = TradingCalendar(day.market)
    assert not make_certificate(day, calendar, now_ms).problems
    with closing(sqlite3.connect(day_file(b, DAY))) as conn, conn:
        conn.execute("DELETE FROM ticks WHERE seq & 0xFFFFFFFF = 3")
    certificate = make_certificate(union(a, b), calendar, now_ms)
    assert certificate.problems == (f"{day_file(b, DAY)}: coverage counts 5 ticks, there are 4 rows",)
    assert certificate.grade == "F"
    served = _as_shown(certificate, day)
    assert len(served.problems) == 1
    assert str(tmp_path) not in repr(served.problems)


def test_missing_is_what_all_miss(tmp_path: Path) -> None:
    day = union(lacking(tmp_path / "a", 100, 120), lacking(tmp_path / "b", 115, 220))
    assert [(row.state, row.missing_ticks) for row in day.coverage()] == [(MISSING, 6)]
    assert [line.counters for line in gap_lines(day) if line.state == "open"] == ["115-120"]


def test_two_that_tell_differently_what_the_first_lacks_are_not_both_read(tmp_path: Path) -> None:
    roots = [lacking(tmp_path / "a", 121, 150), lacking(tmp_path / "b", 51, 90), tmp_path / "c"]
    numbered_otherwise = [
        old._replace(seq=new.seq) for old, new in zip(ALL[120:150], make_ticks(521, 550), strict=True)
    ]
    store(roots[2], [*ALL[:50], *numbered_otherwise])
    day = union(*roots)
    rows = day.coverage()
    assert (rows[0].state, rows[0].stored_ticks, day.ticks([SYMBOL]).num_rows) == (UNPROVEN, 300, 300)
    (told,) = day.contradictions
    assert f"{roots[1]} and {roots[2]} contradict each other" in told


def test_what_two_tell_differently_is_listed_and_never_chosen_silently(tmp_path: Path) -> None:
    other = [*ALL[:9], ALL[9]._replace(price=1.0), *ALL[10:]]
    small = make_ticks(1, 5, "HK.00005")
    a, b = tmp_path / "a", tmp_path / "b"
    store(a, ALL, whole())
    store(b, [*other, *small], whole())
    day = union(a, b)
    assert day.ticks(["HK.00005"]).num_rows == 5
    assert day.contradictions == []  # nothing was asked of the other symbol
    rows = {row.symbol: row for row in day.coverage()}
    assert rows[SYMBOL].state == UNPROVEN
    assert DISAGREE in str(rows[SYMBOL].reason)
    assert day.ticks([SYMBOL]).num_rows == 300  # of one of them
    (told,) = day.contradictions
    assert all(word in told for word in (SYMBOL, str(a), str(b), "1 tick told otherwise"))
    calendar = TradingCalendar(day.market)
    assert told in make_certificate(day, calendar, EVENING_MS + 3_600_000).notes


def test_a_damaged_file_is_left_out_and_said(twins: tuple[Path, Path]) -> None:
    day_file(twins[1], DAY).write_bytes(b"no database, but long enough to look like one" * 100)
    day = union(*twins)
    assert day.rows_by_symbol() == {SYMBOL: 279}
    (told,) = day.left_out
    assert str(twins[1]) in told
    assert told in str(day.conflict)
    day_file(twins[0], DAY).write_bytes(b"no database either" * 300)
    with pytest.raises(StoreCorrupt):
        union(*twins).coverage()


def damage_rows(path: Path) -> None:
    """In the middle of its ticks: its notes can be read."""
    with path.open("r+b") as file:
        file.seek(60 * 4096)
        file.write(b"\xff" * 40 * 4096)


def test_a_file_whose_damage_shows_in_its_rows_is_left_out_and_said(tmp_path: Path) -> None:
    """Whoever asks first, and with the symbol that it alone has."""
    a, b, c = tmp_path / "a", tmp_path / "b", tmp_path / "c"
    many = make_ticks(1, 6000)
    store(a, many)
    store(b, [*many, *make_ticks(1, 50, "HK.00005")])
    store(c, make_ticks(1, 40, "HK.00006"))
    damage_rows(day_file(b, DAY))
    there = {SYMBOL: 6000, "HK.00006": 40}
    day = union(a, b, c)
    of_one = day.of_symbols([SYMBOL])
    assert of_one.ticks([SYMBOL], ("seq",)).num_rows == 6000
    of_two, later = of_one.of_symbols([*there]), day.pinned([side.last_rowid for side in day.sides])
    for asked in (day, of_two, later, union(b, a, c)):
        assert asked.rows_by_symbol() == there
        assert sum(batch.num_rows for batch in asked.batches(("seq",))) == 6040
        assert asked.gaps() == []
        (told,) = asked.left_out
        assert f"what {b} has is left out" in told
        assert told in str(asked.conflict)
    assert day.contradictions == day.left_out  # a command says these at its end
    damage_rows(day_file(a, DAY))
    with pytest.raises(StoreCorrupt):
        union(a, b).ticks([SYMBOL])


def test_a_day_being_recorded_is_of_one_moment(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    store(a, ALL[:100])
    store(b, ALL[:50])
    day = union(a, b)
    assert day.rows_by_symbol() == {SYMBOL: 100}
    store(a, ALL[100:200])
    store(b, [*ALL[50:], *make_ticks(1, 7, "HK.00005")])
    assert day.ticks([SYMBOL, "HK.00005"]).num_rows == 100
    assert sum(batch.num_rows for batch in day.batches(("seq",))) == 100
    assert union(a, b).rows_by_symbol() == {SYMBOL: 300, "HK.00005": 7}
    again = union(a, b).pinned([side.last_rowid for side in day.sides])
    assert again.ticks([SYMBOL]).num_rows == 100


def test_a_part_of_the_day_and_a_few_columns(twins: tuple[Path, Path]) -> None:
    day = union(*twins)
    some = day.ticks([SYMBOL], ("seq",), start_ms=ALL[90].ts_ms, end_ms=ALL[230].ts_ms)
    assert some.column_names == ["seq"]
    assert some["seq"].to_pylist() == [tick.seq for tick in ALL[90:230]]
    assert day.of_symbols([]).coverage() == []


def test_days_of_one_root_are_read_as_there(twins: tuple[Path, Path]) -> None:
    store(twins[1], make_ticks(1, 4, trading_day=NEXT_DAY, ts_ms=BASE_MS + 3 * 86_400_000))
    catalog = UnionCatalog([Catalog(root, archive_dir(root)) for root in twins])
    assert catalog.days() == [DAY, NEXT_DAY]
    assert catalog.day(NEXT_DAY).db == day_file(twins[1], NEXT_DAY)
    with pytest.raises(NoData, match=r"no ticks of 20261124 under .*a, .*b"):
        catalog.day("20261124")


def test_days_that_were_read_are_let_go_and_what_was_found_is_kept(tmp_path: Path) -> None:
    roots = tmp_path / "a", tmp_path / "b"
    days = [f"202611{n:02d}" for n in range(2, 11)]
    for root, price in zip(roots, (612.5, 700.0), strict=True):
        for day in days:
            rows = [row._replace(trading_day=day, price=price) for row in make_ticks(1, 5)]
            store(root, rows)
    catalog = UnionCatalog([Catalog(root, archive_dir(root)) for root in roots])
    given = []
    for day in days:
        day_read = catalog.day(day)
        assert catalog.day(day) is day_read
        assert day_read.coverage()[0].state == UNPROVEN
        given.append(weakref.ref(day_read))
        del day_read
    gc.collect()
    assert [ref() is not None for ref in given] == [False] * (len(days) - MAX_DAYS) + [True] * MAX_DAYS
    assert [text[:8] for text in catalog.contradictions] == days
