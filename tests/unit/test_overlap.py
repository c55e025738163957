"""A day that stands in its archive and in late rows: it is read as both, each tick once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hk_tick_collector.days.catalog import Catalog, Day
from hk_tick_collector.days.rows import lacking
from hk_tick_collector.days.scan import scan_symbols
from hk_tick_collector.market.calendar import TradingCalendar
from hk_tick_collector.market.dates import DAY_MS
from hk_tick_collector.market.hk import HK
from hk_tick_collector.market.hk.sessions import day_start_ms
from hk_tick_collector.market.hours import DayKind
from hk_tick_collector.quality.certificate import make_certificate
from hk_tick_collector.quality.recount import recount
from hk_tick_collector.records.tick import Tick
from hk_tick_collector.records.views import number_equal_ticks
from hk_tick_collector.store.writer import DayFileWriter
from tests.archived_day import archive_day
from tests.nights import by_day
from tests.tickctl import day_ticks, record_day
from tests.ticks import DAY, make_ticks


def archived_and_begun_anew(tmp_path: Path, late: list[Tick]) -> Day:
    """A day of three symbols with 1,000 ticks each, archived and deleted; then these ticks came."""
    archive = tmp_path / "_archive"
    record_day(tmp_path)
    archive_day(tmp_path, archive)
    writer = DayFileWriter(tmp_path)
    writer.write(late)
    writer.close()
    return Catalog(tmp_path, archive).day(DAY)


def every_row(day: Day) -> list[Any]:
    return [row for batch in day.batches() for row in batch.to_pylist()]


@pytest.mark.parametrize("late_ticks", by_day([3, 1500, 5000], lambda ticks: ticks != 1500))
def test_late_ticks_of_another_symbol_never_hide_the_archive(tmp_path: Path, late_ticks: int) -> None:
    day = archived_and_begun_anew(tmp_path, make_ticks(1, late_ticks, "HK.01810"))
    assert day.is_joined
    assert "both are read" in str(day.conflict)
    assert day.rows_by_symbol() == {"HK.00005": 1000, "HK.00700": 1000, "HK.01810": late_ticks, "HK.09988": 1000}
    assert len(every_row(day)) == 3000 + late_ticks
    for symbol, rows in day.rows_by_symbol().items():
        assert day.ticks([symbol], ("symbol", "seq")).num_rows == rows
    tables = list(day.sorted_tables())
    assert sum(table.num_rows for table in tables) == 3000 + late_ticks
    assert [row.symbol for row in day.coverage()] == list(day.rows_by_symbol())


def test_a_symbol_in_both_is_read_from_both_and_each_tick_once(tmp_path: Path) -> None:
    """Late ticks of it: some that the archive has, some that it has not; in ticks, in rows and in the counts."""
    again = day_ticks("HK.00700", 1000)[990:]
    new = day_ticks("HK.00700", 1100)[1000:]
    day = archived_and_begun_anew(tmp_path, [*again, *new])
    assert day.rows_by_symbol()["HK.00700"] == 1100
    ticks = day.ticks(["HK.00700"], ("seq",)).column("seq").to_pylist()
    assert len(ticks) == len(set(ticks)) == 1100
    start_ms = again[0].ts_ms
    assert day.ticks(["HK.00700"], ("seq",), start_ms=start_ms, end_ms=start_ms + 1).num_rows == 1
    assert len(every_row(day)) == 3100
    (row,) = [row for row in day.coverage() if row.symbol == "HK.00700"]
    assert (row.stored_ticks, row.state) == (1100, "unproven")
    certificate = make_certificate(day, TradingCalendar(HK), day_start_ms(DAY) + DAY_MS, recount(day, DayKind.WHOLE))
    assert certificate.problems == ()
    assert certificate.grade not in "AB"
    assert any("both are read" in note for note in certificate.notes)


def test_ticks_with_and_without_their_sequence_are_the_same(tmp_path: Path) -> None:
    first, second, third, fourth = make_ticks(1, 4, "HK.01810")
    twice = [first._replace(seq=None), first._replace(seq=None, occurrence=1)]
    archived = [*twice, second._replace(seq=None), third]
    live = [*twice, second, third._replace(seq=None), fourth]
    tables = []
    for name, ticks in (("archive", archived), ("live", live)):
        writer = DayFileWriter(tmp_path / name)
        writer.write(ticks)
        writer.close()
        tables.append(scan_symbols(tmp_path / name / f"{DAY}.db", ["HK.01810"]))
    assert lacking(tables[0], tables[1]).num_rows == 0
    assert lacking(tables[1], tables[0]).column("seq").to_pylist() == [fourth.seq]


def test_the_archive_and_the_day_file_may_tell_a_trade_in_two_ways(tmp_path: Path) -> None:
    """Without milliseconds in one of them; BUY and SELL with equal numbers; two ticks with one sequence."""
    ticks = [tick._replace(ts_ms=tick.ts_ms + 1) for tick in make_ticks(1, 6, "HK.01810")]
    bought = ticks[0]._replace(seq=None, price=1.0)
    other = ticks[3]._replace(price=2.0)
    cut = [tick._replace(ts_ms=tick.ts_ms // 1000 * 1000, seq=None) for tick in ticks[1:3]]
    tables = []
    for name, told in (("archive", [bought, *cut, ticks[3], other]),
                       ("live", [bought._replace(direction="SELL"), *ticks[1:3], other, ticks[3]])):  # fmt: skip
        writer = DayFileWriter(tmp_path / name)
        writer.write(number_equal_ticks(told))
        writer.close()
        tables.append(scan_symbols(tmp_path / name / f"{DAY}.db", ["HK.01810"]))
    assert lacking(tables[0], tables[1]).column("direction").to_pylist() == ["BUY"]
    assert lacking(tables[1], tables[0]).column("direction").to_pylist() == ["SELL"]


def test_a_day_file_that_grew_after_archiving_is_read_alone(tmp_path: Path) -> None:
    archive = tmp_path / "_archive"
    record_day(tmp_path)
    archive_day(tmp_path, archive, remove=False)
    writer = DayFileWriter(tmp_path)
    writer.write(day_ticks("HK.00700", 1001)[1000:])
    writer.close()
    day = Catalog(tmp_path, archive).day(DAY)
    assert (day.conflict, day.is_archived_only, day.is_joined) == (None, False, False)
    assert day.rows_by_symbol()["HK.00700"] == 1001


def test_counters_that_began_anew_are_other_ticks(tmp_path: Path) -> None:
    """The same counters at another time: only the times of a symbol's ticks tell that the file is not the archive's."""
    later = [tick._replace(ts_ms=tick.ts_ms + 3 * 3_600_000, seq=(tick.seq or 0) + (10_800 << 32))
             for tick in day_ticks("HK.00700", 1200)]  # fmt: skip
    day = archived_and_begun_anew(tmp_path, later)
    assert day.rows_by_symbol()["HK.00700"] == 2200
