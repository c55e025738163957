"""A day is read once when it is over: on its own thread, not while ticks come, and what it found is in the file."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from contextlib import closing
from datetime import datetime
from pathlib import Path

import pytest

from hk_tick_collector.app.closing import ClosingReader
from hk_tick_collector.core.facts import DayFact, RowsRead
from hk_tick_collector.market.calendar import TradingCalendar
from hk_tick_collector.market.hk import HK
from hk_tick_collector.market.hk.sessions import HK_TZ
from hk_tick_collector.market.market import Market
from hk_tick_collector.market.us import US
from hk_tick_collector.store import reader, reading
from hk_tick_collector.store.read_only import open_read_only
from hk_tick_collector.store.writer import DayFileWriter
from tests.clock import ManualClock
from tests.tickctl import record_day
from tests.ticks import DAY


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=HK_TZ).timestamp() * 1000)


class Lab:
    def __init__(self, root: Path, now: str, market: Market = HK) -> None:
        self.facts: list[DayFact] = []
        self.root = root
        self.clock = ManualClock(at(now))
        self.reader = ClosingReader(root, TradingCalendar(market), self.clock, self.facts.extend)

    def check(self) -> list[DayFact]:
        self.facts.clear()
        asyncio.run(self.reader.check())
        return list(self.facts)

    def write(self, facts: list[DayFact]) -> None:
        writer = DayFileWriter(self.root, clock=self.clock)
        writer.write([], facts)
        writer.close()
        moment = self.clock.now_ms() / 1000
        os.utime(self.root / f"{DAY}.db", (moment, moment))


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    record_day(tmp_path, count=50)
    with closing(sqlite3.connect(tmp_path / f"{DAY}.db")) as conn, conn:
        conn.execute("UPDATE coverage SET updated_at_ms = ?", (at("2026-11-20T16:12:00"),))
    return tmp_path


def test_a_day_is_read_once_it_is_over_and_the_file_says_so(recorded: Path) -> None:
    lab = Lab(recorded, "2026-11-20T16:19:00")
    assert lab.check() == [], "late ticks may come"
    lab.clock.advance(60)
    read = lab.check()
    assert read == [RowsRead(DAY, 150, lab.clock.now_ms())]
    lab.write(read)
    assert reader.notes(recorded / f"{DAY}.db").reading == reader.Reading(lab.clock.now_ms(), 150)
    lab.clock.advance(60)
    assert lab.check() == []
    assert Lab(recorded, "2026-11-20T20:00:00").check() == [], "nor after a restart"


def test_what_is_written_later_is_read_again(recorded: Path) -> None:
    lab = Lab(recorded, "2026-11-20T16:30:00")
    lab.write(lab.check())
    writer = DayFileWriter(recorded, clock=lab.clock)
    lab.clock.advance(600)
    from tests.ticks import make_ticks  # noqa: PLC0415

    writer.write(make_ticks(51, 52))
    writer.close()
    assert lab.check() == [RowsRead(DAY, 152, lab.clock.now_ms())]


@pytest.mark.parametrize("now", ["2026-11-23T09:00:00", "2026-11-23T12:30:00"])
def test_nothing_is_read_while_ticks_may_come(recorded: Path, now: str) -> None:
    assert Lab(recorded, now).check() == []
    assert Lab(recorded, "2026-11-23T08:00:00").check() != []


def test_a_reading_is_given_up_when_the_market_records_again(
    recorded: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(reading, "ASK_EVERY_STEPS", 1)
    lab = Lab(recorded, "2026-11-23T08:59:59")
    genuine = open_read_only

    def late(path: Path) -> sqlite3.Connection:
        lab.clock.advance(2)
        return genuine(path)

    monkeypatch.setattr(reading, "open_read_only", late)
    assert lab.check() == []
    assert "day_file_not_read" in caplog.text
    monkeypatch.setattr(reading, "open_read_only", genuine)
    lab.clock.advance(8 * 3600)
    assert lab.check() != [], "it is made another time"


def test_a_damaged_day_is_named_once_and_not_called_read(recorded: Path, caplog: pytest.LogCaptureFixture) -> None:
    db = recorded / f"{DAY}.db"
    with db.open("r+b") as file:
        file.seek(db.stat().st_size // 2)
        file.write(bytes(4 * 4096))
    lab = Lab(recorded, "2026-11-20T17:00:00")
    assert lab.check() == []
    assert lab.check() == []
    assert caplog.text.count("day_file_damaged") == 1
    assert "hk-tickctl salvage" in caplog.text


def test_where_days_follow_each_other_without_a_pause_it_is_read_at_night(recorded: Path) -> None:
    """In New York a Friday ends at 20:00; other days the next one begins at that moment, and is quiet until 04:00."""
    day = recorded / f"{DAY}.db"
    day.rename(recorded / "20261119.db")  # a Thursday
    over_ms = US.zone.at_ms("20261119", (20 * 60 + 5) * 60_000)
    os.utime(recorded / "20261119.db", (over_ms / 1000 - 600, over_ms / 1000 - 600))
    lab = Lab(recorded, "2026-11-20T09:00:00", US)
    lab.clock = ManualClock(over_ms - 1)
    lab.reader._clock = lab.clock
    assert lab.check() == []
    lab.clock.advance(1)
    assert [fact.trading_day for fact in lab.check()] == ["20261119"]
