"""Days of markets that begin in the evening, on their own clock; and days of several markets in one place."""

from __future__ import annotations

import contextlib
import re
import sqlite3
from pathlib import Path

import pytest

from hk_tick_collector.archive import pack
from hk_tick_collector.archive.atomic import Refused, only_job
from hk_tick_collector.cli.day import _totals
from hk_tick_collector.core.errors import NoData
from hk_tick_collector.core.evidence import EvidenceLevel
from hk_tick_collector.core.facts import GapFound, Replayed
from hk_tick_collector.days.catalog import Catalog
from hk_tick_collector.days.manifest import PARQUET, manifest_path
from hk_tick_collector.market.calendar import TradingCalendar
from hk_tick_collector.market.cme import CME
from hk_tick_collector.market.hours import hm
from hk_tick_collector.market.market import Market
from hk_tick_collector.market.us import US
from hk_tick_collector.quality import page
from hk_tick_collector.quality.certificate import make_certificate
from hk_tick_collector.quality.gap_list import gap_lines
from hk_tick_collector.quality.model import Certificate
from hk_tick_collector.quality.recount import Recount, recount
from hk_tick_collector.records.tick import Origin, Tick
from hk_tick_collector.store.writer import DayFileWriter
from tests.tickctl import record_day
from tests.ticks import DAY, make_tick

EVENINGS = [pytest.param(US, hm(-4), "20:00", id="US"), pytest.param(CME, hm(-7), "17:00", id="CME")]
LEVELS = {US: EvidenceLevel.ID, CME: EvidenceLevel.REPLAY}


def ticks_at(market: Market, day: str, clocks_ms: list[int], **fields: object) -> list[Tick]:
    symbol = market.symbols.example
    ticks = []
    for number, clock_ms in enumerate(clocks_ms):
        ts_ms = market.zone.at_ms(day, clock_ms)
        seq = (ts_ms // 1000) << 32 | number
        told = {"ts_ms": ts_ms, "seq": seq, "recv_ts_ms": ts_ms + 50, "trading_day": day, **fields}
        ticks.append(make_tick(number, symbol, opend_recv_ts_ms=None, **told))
    return ticks


def written(root: Path, market: Market, ticks: list[Tick], *facts: GapFound | Replayed) -> None:
    (root / ".market").write_text(f"{market.code}\n")
    writer = DayFileWriter(root, origin=Origin(market.code, "x"), evidence=LEVELS[market])
    writer.write(ticks, list(facts))
    writer.close()


def counted(root: Path, market: Market, day: str = DAY) -> tuple[Certificate, Recount]:
    calendar = TradingCalendar(market)
    day_read = Catalog(root, root / "_archive").day(day)
    rows = recount(day_read, calendar.day_kind(day))
    return make_certificate(day_read, calendar, market.day_bounds(day)[1] + 1, rows), rows


@pytest.mark.parametrize(("market", "begins_ms", "shown"), EVENINGS)
@pytest.mark.parametrize("day", [DAY, "20261123"], ids=["a Friday", "a Monday"])
def test_the_minutes_of_a_day_begin_in_the_evening_before(
    tmp_path: Path, market: Market, begins_ms: int, shown: str, day: str
) -> None:
    clocks_ms = [begins_ms, begins_ms + 90_000, hm(9, 30), hm(15, 59)]
    written(tmp_path, market, ticks_at(market, day, clocks_ms))
    certificate, rows = counted(tmp_path, market, day)
    used = {minute: count for minute, count in enumerate(rows.plots.rows_a_minute) if count}
    assert used == dict.fromkeys(((clock_ms - begins_ms) // 60_000 for clock_ms in clocks_ms), 1)
    html = page.page(certificate, rows.plots, [])
    assert re.findall(r"<title>(\d\d:\d\d): 1 ticks</title>", html) == [
        shown, f"{shown[:3]}01", "09:30", "15:59",
    ]  # fmt: skip
    labels = re.findall(r'<span class="x [a-z ]*wide[a-z ]*" style="left:([\d.]+)%">(\d\d):00</span>', html)
    assert len(labels) > 10
    offsets = [(float(share), (int(hour) - int(shown[:2])) % 24) for share, hour in labels]
    assert {round(share / hours, 1) for share, hours in offsets if hours} in ({4.2}, {4.3}), "an hour's share"


@pytest.mark.parametrize(("market", "begins_ms", "shown"), EVENINGS)
def test_what_came_out_of_order_in_the_evening_is_counted(
    tmp_path: Path, market: Market, begins_ms: int, shown: str
) -> None:
    first, second, third = ticks_at(market, DAY, [begins_ms, begins_ms + 1000, begins_ms + 2000])
    received_first = first.recv_ts_ms
    written(
        tmp_path, market, [first, second._replace(recv_ts_ms=received_first + 3000), third]
    )  # the second one came last
    _, rows = counted(tmp_path, market)
    assert rows.total.out_of_order_ticks == 1
    assert rows.total.outside_session_ticks == 0
    assert rows.total.other_day_ticks == 0


def test_a_gap_of_the_evening_stands_in_the_evening_of_the_plot(tmp_path: Path) -> None:
    written(
        tmp_path,
        US,
        ticks_at(US, DAY, [hm(-3), hm(12)]),
        GapFound(US.symbols.example, DAY, None, 5, US.zone.at_ms(DAY, hm(12)), "recording began in mid-session"),
    )
    certificate, rows = counted(tmp_path, US)
    lines = gap_lines(Catalog(tmp_path, tmp_path / "_archive").day(DAY))
    html = page.page(certificate, rows.plots, lines)
    (drawn,) = re.findall(r'<rect class="gap open" x="([\d.]+)" y="\d+" width="([\d.]+)"', html)
    hour = 1000 / 24
    assert float(drawn[0]) == pytest.approx(0, abs=1), "it begins with the day, at 20:00"
    assert float(drawn[1]) == pytest.approx(hour, abs=1), "and ends with the first tick, at 21:00"


@pytest.mark.parametrize("is_copied", [True, False])
def test_what_was_read_from_a_copy_is_not_late(tmp_path: Path, is_copied: bool) -> None:
    read_ms = CME.day_bounds(DAY)[1] + 3_600_000
    ticks = ticks_at(CME, DAY, [hm(9), hm(10), hm(11)], push_type="backfill", recv_ts_ms=read_ms)
    live = ticks_at(CME, DAY, [hm(12)])
    slow = [
        tick._replace(recv_ts_ms=tick.ts_ms + 9000, seq=(tick.seq or 0) + 7) for tick in ticks_at(CME, DAY, [hm(13)])
    ]
    facts = [Replayed(CME.symbols.example, DAY, "x.scid", 5, "ab" * 32, read_ms)] if is_copied else []
    written(tmp_path, CME, [*ticks, *live, *slow], *facts)
    _, rows = counted(tmp_path, CME)
    assert rows.total.late_ticks == (1 if is_copied else 4)


@pytest.mark.parametrize("market", [US, CME], ids=lambda market: market.code)
def test_what_sequences_do_not_tell_is_not_called_a_disagreement(tmp_path: Path, market: Market) -> None:
    """Only a sequence that begins with a second can disagree with the time; CME's are microseconds."""
    ticks = ticks_at(market, DAY, [hm(10), hm(11)])
    if market is CME:
        ticks = [tick._replace(seq=tick.ts_ms * 1000) for tick in ticks]
    else:
        ticks[1] = ticks[1]._replace(seq=(ticks[1].ts_ms // 1000 - 1800) << 32)
    written(tmp_path, market, ticks)
    certificate, rows = counted(tmp_path, market)
    assert rows.total.sequence_time_disagreements == (1 if market is US else 0)
    tile = re.search(
        r'ticks expected \(0 symbols\)</div><div class="big ">([^<]*)<', page.page(certificate, rows.plots, [])
    )
    assert tile is not None
    assert tile[1] == "-", "nobody knows how many"
    assert (
        dict(_totals(certificate))["expected"] == "not known: no symbol can be counted from its first tick of the day"
    )


# --- several markets in one place


def archived(root: Path, archive: Path) -> None:
    with only_job(archive):
        pack.archive_day(root, archive, DAY, (PARQUET,), made_at_ms=1)


@pytest.fixture
def shared(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Roots of HK and of the US with one archive, which has HK's day."""
    hong_kong, new_york, archive = (tmp_path / name for name in ("hk", "us", "archive"))
    for directory in (hong_kong, new_york, archive):
        directory.mkdir()
    record_day(hong_kong, count=20)
    archived(hong_kong, archive)
    (new_york / ".market").write_text("US\n")
    return hong_kong, new_york, archive


def test_a_shared_archive_shows_each_market_its_own_days(shared: tuple[Path, Path, Path]) -> None:
    hong_kong, new_york, archive = shared
    assert Catalog(hong_kong, archive).archived_days() == [DAY]
    of_us = Catalog(new_york, archive)
    assert of_us.days() == []
    with pytest.raises(NoData, match="no ticks of 20261120"):
        of_us.day(DAY)
    written(new_york, US, ticks_at(US, DAY, [hm(10)]))
    day = of_us.day(DAY)
    assert (day.manifest, day.conflict, day.is_archived_only) == (None, None, False)
    assert day.rows_by_symbol() == {US.symbols.example: 1}
    with pytest.raises(Refused, match="give each market an archive of its own"):
        archived(new_york, archive)


def test_a_manifest_that_cannot_be_read_is_listed_so_that_somebody_says_it(shared: tuple[Path, Path, Path]) -> None:
    hong_kong, _, archive = shared
    manifest_path(archive, DAY).write_text("{")
    assert Catalog(hong_kong, archive).archived_days() == [DAY]


def test_rows_of_another_market_are_named_and_not_archived(tmp_path: Path) -> None:
    """It said that the copy is not what was read, and to check the disk."""
    record_day(tmp_path, count=20)
    (tmp_path / ".market").write_text("US\n")
    with pytest.raises(
        Refused, match=r"holds ticks of market HK \(HK\.\d+\).*move the file to a DATA_ROOT of market HK"
    ):
        archived(tmp_path, tmp_path / "_archive")
    with contextlib.closing(sqlite3.connect(tmp_path / f"{DAY}.db")) as conn, conn:
        conn.execute("UPDATE ticks SET market = char(27) || '[2J' WHERE rowid = 3")
    with pytest.raises(Refused) as refused:
        archived(tmp_path, tmp_path / "_archive")
    assert str(refused.value).isprintable()
