"""Trading days: holidays, half days, what OpenD says, and days beyond the library."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import pytest

from hk_tick_collector.market.calendar import Mismatch, TradingCalendar
from hk_tick_collector.market.hk import HK
from hk_tick_collector.market.hk.sessions import HK_TZ
from hk_tick_collector.market.hours import DayKind, Phase


def hk(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=HK_TZ).timestamp() * 1000)


@pytest.fixture(scope="module")
def shared() -> TradingCalendar:
    """Read only; a test that merges takes one of its own."""
    return TradingCalendar(HK)


@pytest.mark.parametrize("day", ["20251224", "20251231", "20260216", "20261224", "20261231"])
def test_half_days(shared: TradingCalendar, day: str) -> None:
    assert shared.day_kind(day) is DayKind.HALF


@pytest.mark.parametrize("day", ["20260101", "20260217", "20260218", "20260219", "20261225", "20261121", "20261122"])
def test_holidays_and_weekends(shared: TradingCalendar, day: str) -> None:
    assert shared.day_kind(day) is DayKind.CLOSED
    assert not shared.is_trading_day(day)


@pytest.mark.parametrize("day", ["20261120", "20261123", "20260220"])
def test_whole_days(shared: TradingCalendar, day: str) -> None:
    assert shared.day_kind(day) is DayKind.WHOLE


@pytest.mark.parametrize(
    ("at", "phase", "recording"),
    [
        ("2026-11-20 08:59:59.999", Phase.CLOSED, False),
        ("2026-11-20 09:00:00.000", Phase.PRE_OPEN_AUCTION, True),
        ("2026-11-20 12:30:00.000", Phase.LUNCH, True),
        ("2026-11-20 16:08:12.000", Phase.CLOSING_AUCTION, True),
        ("2026-11-20 16:14:59.999", Phase.POST_CLOSE, True),
        ("2026-11-20 16:15:00.000", Phase.CLOSED, False),
        ("2025-12-24 12:08:12.000", Phase.CLOSING_AUCTION, True),
        ("2025-12-24 12:15:00.000", Phase.CLOSED, False),
        ("2025-12-24 14:00:00.000", Phase.CLOSED, False),
        ("2026-02-17 10:00:00.000", Phase.CLOSED, False),
    ],
)
def test_phase_and_recording(shared: TradingCalendar, at: str, phase: Phase, recording: bool) -> None:
    assert shared.phase(hk(at)) is phase
    assert shared.is_recording(hk(at)) is recording


def test_neighbouring_trading_days(shared: TradingCalendar) -> None:
    assert shared.next_trading_day("20261231") == "20270104"
    assert shared.previous_trading_day("20270104") == "20261231"
    assert shared.previous_trading_day("20260220") == "20260216"


def test_dates_more_than_a_year_ahead() -> None:
    assert TradingCalendar(HK).day_kind("20311224") is DayKind.HALF
    assert TradingCalendar(HK).day_kind("20311226") is DayKind.CLOSED


def test_beyond_the_library_every_weekday_trades_and_it_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    calendar = TradingCalendar(HK)
    with caplog.at_level(logging.WARNING):
        assert calendar.day_kind("20600102") is DayKind.WHOLE
        assert calendar.day_kind("20600103") is DayKind.CLOSED
        assert calendar.day_kind("20610103") is DayKind.WHOLE
        assert calendar.day_kind("19500103") is DayKind.WHOLE
    assert [record.message.split()[0] for record in caplog.records] == ["calendar_uncovered"]


def test_opend_agreeing_changes_nothing() -> None:
    calendar = TradingCalendar(HK)
    days = {"20251222": "WHOLE", "20251223": "WHOLE", "20251224": "MORNING", "20251229": "WHOLE"}
    assert calendar.merge_source_days(days) == []
    assert calendar.day_kind("20251224") is DayKind.HALF


def test_whoever_says_open_longer_is_followed() -> None:
    calendar = TradingCalendar(HK)
    days = {"20251223": "MORNING", "20251224": "WHOLE", "20251225": "AFTERNOON", "20251226": "surprise"}
    whole, half, closed = DayKind.WHOLE, DayKind.HALF, DayKind.CLOSED
    assert calendar.merge_source_days(days, "20251222", "20251227") == [
        Mismatch("20251222", library=whole, told=closed, used=whole),
        Mismatch("20251223", library=whole, told=half, used=whole),
        Mismatch("20251224", library=half, told=whole, used=whole),
        Mismatch("20251225", library=closed, told=whole, used=whole),
        Mismatch("20251226", library=closed, told=whole, used=whole),
    ]
    assert calendar.day_kind("20251222") is whole
    assert calendar.is_recording(hk("2025-12-24 15:00"))
    assert calendar.next_trading_day("20251224") == "20251225"


def test_a_corrected_answer_takes_the_override_back() -> None:
    calendar = TradingCalendar(HK)
    assert len(calendar.merge_source_days({"20251224": "WHOLE"})) == 1
    assert calendar.merge_source_days({"20251224": "MORNING"}) == []
    assert calendar.day_kind("20251224") is DayKind.HALF


def test_empty_answer_without_range_says_nothing() -> None:
    calendar = TradingCalendar(HK)
    assert calendar.merge_source_days({}) == []
    assert calendar.day_kind("20251223") is DayKind.WHOLE


@pytest.mark.parametrize("day", ["2026-11-20", "20261131", ""])
def test_a_day_that_is_none_is_refused(shared: TradingCalendar, day: str) -> None:
    with pytest.raises(ValueError, match="YYYYMMDD"):
        shared.day_kind(day)


def test_first_use_from_many_threads_gives_one_answer() -> None:
    calendar = TradingCalendar(HK)
    with ThreadPoolExecutor(8) as pool:
        kinds = list(pool.map(calendar.day_kind, ["20251224"] * 32))
    assert set(kinds) == {DayKind.HALF}
