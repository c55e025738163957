"""Session hours to the millisecond, whatever time zone the process runs in."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hk_tick_collector.core.dates import parse_day
from hk_tick_collector.market.dates import add_days
from hk_tick_collector.market.hk import HK
from hk_tick_collector.market.hk.sessions import HK_TZ, ZONE, day_start_ms, hk_date
from hk_tick_collector.market.hours import CONTINUOUS, DayKind, Phase


def hk(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=HK_TZ).timestamp() * 1000)


WHOLE_EDGES = [
    ("00:00", Phase.CLOSED),
    ("09:00", Phase.PRE_OPEN_AUCTION),
    ("09:22", Phase.PRE_OPEN_WAIT),
    ("09:30", Phase.MORNING),
    ("12:00", Phase.LUNCH),
    ("13:00", Phase.AFTERNOON),
    ("16:00", Phase.CLOSING_AUCTION),
    ("16:10", Phase.POST_CLOSE),
    ("16:15", Phase.CLOSED),
]
HALF_EDGES = [
    ("00:00", Phase.CLOSED),
    ("09:00", Phase.PRE_OPEN_AUCTION),
    ("09:22", Phase.PRE_OPEN_WAIT),
    ("09:30", Phase.MORNING),
    ("12:00", Phase.CLOSING_AUCTION),
    ("12:10", Phase.POST_CLOSE),
    ("12:15", Phase.CLOSED),
]


@pytest.mark.parametrize(("kind", "edges"), [(DayKind.WHOLE, WHOLE_EDGES), (DayKind.HALF, HALF_EDGES)])
def test_every_edge_to_the_millisecond(kind: DayKind, edges: list[tuple[str, Phase]]) -> None:
    for (_, before), (at, phase) in itertools.pairwise(edges):
        edge_ms = hk(f"2026-11-20 {at}")
        assert HK.phase_at(edge_ms - 1, kind) is before
        assert HK.phase_at(edge_ms, kind) is phase
        assert HK.span_at(edge_ms + 1, kind).start_ms == edge_ms
    assert HK.phase_at(hk("2026-11-20 23:59:59.999"), kind) is Phase.CLOSED
    assert HK.span_at(hk("2026-11-20 00:00:05"), kind).start_ms == hk("2026-11-20 00:00")


def test_auction_print_at_1608_is_recorded_and_not_continuous() -> None:
    print_ms = hk("2026-11-20 16:08:12")
    start_ms, end_ms = HK.recording_window("20261120", DayKind.WHOLE)
    assert HK.phase_at(print_ms, DayKind.WHOLE) is Phase.CLOSING_AUCTION
    assert HK.phase_at(print_ms, DayKind.WHOLE) not in CONTINUOUS
    assert start_ms <= print_ms < end_ms
    assert (start_ms, end_ms) == (hk("2026-11-20 09:00"), hk("2026-11-20 16:15"))


def test_half_day_has_no_afternoon() -> None:
    assert HK.recording_window("20261224", DayKind.HALF) == (hk("2026-12-24 09:00"), hk("2026-12-24 12:15"))
    assert HK.continuous_windows("20261224", DayKind.HALF) == [(hk("2026-12-24 09:30"), hk("2026-12-24 12:00"))]
    assert HK.close_ms("20261224", DayKind.HALF) == hk("2026-12-24 12:00")
    assert HK.phase_at(hk("2026-12-24 13:30"), DayKind.HALF) is Phase.CLOSED


def test_closed_day_has_an_empty_window() -> None:
    start_ms, end_ms = HK.recording_window("20261225", DayKind.CLOSED)
    assert start_ms == end_ms
    assert HK.continuous_windows("20261225", DayKind.CLOSED) == []
    assert HK.phase_at(hk("2026-12-25 10:00"), DayKind.CLOSED) is Phase.CLOSED
    with pytest.raises(ValueError, match="20261225"):
        HK.close_ms("20261225", DayKind.CLOSED)


def test_midnight_and_year_change() -> None:
    midnight_ms = hk("2027-01-01 00:00")
    assert hk_date(midnight_ms - 1) == "20261231"
    assert hk_date(midnight_ms) == "20270101"
    assert ZONE.ms_of_day(midnight_ms) == 0
    assert ZONE.ms_of_day(midnight_ms - 1) == 86_399_999
    assert day_start_ms("20270101") == midnight_ms
    assert add_days("20261231", 1) == "20270101"
    assert add_days("20280301", -1) == "20280229"


@pytest.mark.parametrize("text", ["2026-1-1", "20261301", "20260230", "", "\uff12\uff10260101", "202601011"])
def test_a_day_that_is_none_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="YYYYMMDD"):
        parse_day(text)


@given(st.integers(min_value=hk("1980-01-01 00:00"), max_value=hk("2199-12-31 23:59:59")))
def test_arithmetic_agrees_with_the_zone_data(ts_ms: int) -> None:
    local = datetime.fromtimestamp(ts_ms // 1000, ZoneInfo("Asia/Hong_Kong"))
    assert hk_date(ts_ms) == local.strftime("%Y%m%d")
    assert ZONE.ms_of_day(ts_ms) // 1000 == (local.hour * 60 + local.minute) * 60 + local.second
    assert day_start_ms(hk_date(ts_ms)) + ZONE.ms_of_day(ts_ms) == ts_ms


@given(st.integers(min_value=hk("2026-11-20 00:00"), max_value=hk("2026-11-20 23:59:59.999")))
def test_recording_window_is_what_is_not_closed(ts_ms: int) -> None:
    for kind in DayKind:
        start_ms, end_ms = HK.recording_window("20261120", kind)
        assert (start_ms <= ts_ms < end_ms) == (HK.phase_at(ts_ms, kind) is not Phase.CLOSED)
        inside = any(low <= ts_ms < high for low, high in HK.continuous_windows("20261120", kind))
        assert inside == (HK.phase_at(ts_ms, kind) in CONTINUOUS)


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Tokyo", "Pacific/Kiritimati"])
def test_process_time_zone_changes_nothing(zone: str) -> None:
    late_ms = hk("2026-11-20 16:12")
    code = (
        "from hk_tick_collector.market.hk import HK; from hk_tick_collector.market.hours import DayKind;"
        "from hk_tick_collector.market.hk.sessions import hk_date, day_start_ms;"
        "from hk_tick_collector.market.calendar import TradingCalendar;"
        "c = TradingCalendar(HK);"
        "print(hk_date(1798732799999), hk_date(1798732800000), day_start_ms('20270101'),"
        f" HK.phase_at({late_ms}, DayKind.WHOLE), c.day_kind('20251224'), c.phase({late_ms}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "TZ": zone}, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["20261231", "20270101", "1798732800000", "post_close", "half", "post_close"]
