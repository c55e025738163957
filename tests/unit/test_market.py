"""Markets as objects: clocks over both changes, trading days that begin in the evening, hours by effective date."""

from __future__ import annotations

import dataclasses
import itertools
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

import hk_tick_collector.market
from hk_tick_collector.core.errors import ConfigError
from hk_tick_collector.days.catalog import Catalog
from hk_tick_collector.market import registry
from hk_tick_collector.market.cme import CME
from hk_tick_collector.market.cn import CN
from hk_tick_collector.market.hk import HK
from hk_tick_collector.market.hours import DayKind, Hours, Phase, hm
from hk_tick_collector.market.market import Market
from hk_tick_collector.market.tw import TW
from hk_tick_collector.market.us import US
from hk_tick_collector.market.zone import Zone
from hk_tick_collector.store import data_root

MARKETS = tuple(registry.MARKETS.values())
WHOLE, HALF, CLOSED = DayKind.WHOLE, DayKind.HALF, DayKind.CLOSED


def at(market: Market, text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(market.zone.name)).timestamp() * 1000)


@pytest.mark.parametrize(
    ("market", "moment", "day"),
    [
        (CME, "2026-11-19 16:59:59.999", "20261119"),
        (CME, "2026-11-19 17:00", "20261120"),
        (CME, "2026-11-20 15:59:59.999", "20261120"),
        (CME, "2026-11-20 17:00", "20261123"),  # Friday evening
        (CME, "2026-11-21 12:00", "20261123"),
        (CME, "2026-11-22 17:00", "20261123"),
        (CME, "2026-04-02 17:00", "20260406"),  # the evening before Good Friday
        (CME, "2026-03-06 16:59:59.999", "20260306"),
        (CME, "2026-03-08 17:00", "20260309"),  # the clocks went forward in the morning
        (CME, "2026-03-09 16:59:59.999", "20260309"),
        (CME, "2026-11-01 17:00", "20261102"),  # and back
        (CME, "2026-11-02 17:00", "20261103"),
        (US, "2026-11-19 19:59:59.999", "20261119"),
        (US, "2026-11-19 20:00", "20261120"),
        (US, "2026-11-20 20:00", "20261123"),
        (US, "2026-11-22 20:00", "20261123"),
        (US, "2026-11-25 20:00", "20261127"),  # no overnight before Thanksgiving
        (US, "2026-11-26 20:00", "20261127"),
        (US, "2026-03-08 20:00", "20260309"),
        (US, "2026-11-01 20:00", "20261102"),
        (TW, "2026-11-27 14:59:59.999", "20261127"),
        (TW, "2026-11-27 15:00", "20261130"),  # Friday's night is Monday's
        (TW, "2026-11-28 04:59:59.999", "20261130"),
        (TW, "2026-12-24 15:00", "20261228"),  # 25 December is no session
        (HK, "2026-11-20 23:59:59.999", "20261120"),
        (HK, "2026-11-21 00:00", "20261121"),  # a Saturday: the local date, whatever it is
    ],
)
def test_the_trading_day_of_a_moment(market: Market, moment: str, day: str) -> None:
    assert market.trading_day(at(market, moment)) == day


@given(st.sampled_from(MARKETS), st.integers(at(US, "2024-01-01 00:00"), at(US, "2027-12-31 00:00")))
def test_the_bounds_of_a_day_are_where_its_moments_are(market: Market, ts_ms: int) -> None:
    start_ms, end_ms = market.day_bounds(market.trading_day(ts_ms))
    assert start_ms <= ts_ms < end_ms
    assert market.trading_day(start_ms) == market.trading_day(end_ms - 1) == market.trading_day(ts_ms)
    assert market.trading_day(start_ms - 1) < market.trading_day(ts_ms) < market.trading_day(end_ms)


@given(
    st.sampled_from(["America/New_York", "America/Chicago", "Asia/Shanghai", "Asia/Hong_Kong", "Europe/Zurich"]),
    st.integers(at(HK, "2000-01-01 00:00"), at(HK, "2049-12-31 00:00")),
)
def test_a_zone_agrees_with_the_zone_data(name: str, ts_ms: int) -> None:
    zone = Zone(name)
    local = datetime.fromtimestamp(ts_ms / 1000, ZoneInfo(name))
    assert zone.date_and_clock(ts_ms) == local.strftime("%Y-%m-%d %H:%M:%S")
    assert zone.date(ts_ms) == local.strftime("%Y%m%d")
    shown_ms = zone.at_ms(zone.date(ts_ms), zone.ms_of_day(ts_ms))
    assert shown_ms == ts_ms or zone.clock_with_ms(shown_ms) == zone.clock_with_ms(ts_ms)  # the hour that comes twice


@pytest.mark.parametrize("market", [HK, CN, TW])
def test_a_zone_of_fixed_clocks_is_the_one_of_the_zone_data(market: Market) -> None:
    by_data = Zone(market.zone.name)
    for ts_ms in range(at(HK, "1992-01-01 00:00"), at(HK, "2049-12-31 00:00"), 86_400_000 * 7):
        assert market.zone.offset_ms(ts_ms) == by_data.offset_ms(ts_ms)


@given(
    st.sampled_from(MARKETS),
    st.integers(at(US, "2026-01-01 00:00"), at(US, "2026-12-31 00:00")),
    st.sampled_from(DayKind),
)
def test_phases_fill_the_day_and_the_recording_window_is_what_is_not_closed(
    market: Market, ts_ms: int, kind: DayKind
) -> None:
    day = market.trading_day(ts_ms)
    spans = market.spans(day, kind)
    assert all(before.end_ms == after.start_ms for before, after in itertools.pairwise(spans))
    assert not spans or spans[-1].end_ms == market.day_bounds(day)[1] or market.table_kind(day) is CLOSED
    span = market.span_at(ts_ms, kind)
    assert span.start_ms <= ts_ms < span.end_ms
    low_ms, high_ms = market.recording_window(day, kind)
    assert (low_ms <= ts_ms < high_ms) == (span.phase is not Phase.CLOSED)
    in_window = any(low <= ts_ms < high for low, high in market.continuous_windows(day, kind))
    assert in_window == (span.phase in {Phase.MORNING, Phase.AFTERNOON, Phase.REGULAR})
    assert high_ms <= market.no_more_ticks_ms(day, kind)


@pytest.mark.parametrize(
    ("market", "moment", "kind", "phase"),
    [
        (CME, "2026-11-22 16:59:59.999", WHOLE, Phase.CLOSED),  # of Monday, which has not begun to trade
        (CME, "2026-11-22 17:00", WHOLE, Phase.REGULAR),
        (CME, "2026-11-23 16:00", WHOLE, Phase.PAUSE),
        (CME, "2026-11-26 12:00", HALF, Phase.PAUSE),
        (US, "2026-11-25 21:00", HALF, Phase.CLOSED),  # the eve of a holiday
        (US, "2026-11-26 20:00", HALF, Phase.OVERNIGHT),
        (US, "2026-11-27 04:00", HALF, Phase.PRE_MARKET),
        (US, "2026-11-27 09:30", HALF, Phase.REGULAR),
        (US, "2026-11-27 13:00", HALF, Phase.POST_MARKET),
        (US, "2026-11-27 17:00", HALF, Phase.CLOSED),
        (US, "2026-11-30 16:00", WHOLE, Phase.POST_MARKET),
        (TW, "2026-11-27 20:00", WHOLE, Phase.OVERNIGHT),  # Friday
        (TW, "2026-11-28 05:00", WHOLE, Phase.PAUSE),
        (TW, "2026-11-29 20:00", WHOLE, Phase.PAUSE),  # no night before a Monday
        (TW, "2026-11-30 08:45", WHOLE, Phase.PRE_OPEN_AUCTION),
        (TW, "2026-11-30 13:30", WHOLE, Phase.CLOSING_AUCTION),
        (CN, "2026-11-20 09:20", WHOLE, Phase.PRE_OPEN_AUCTION),
        (CN, "2026-11-20 11:30", WHOLE, Phase.LUNCH),
        (CN, "2026-11-20 14:59", WHOLE, Phase.CLOSING_AUCTION),
        (CN, "2026-11-20 15:30", WHOLE, Phase.CLOSED),
    ],
)
def test_what_a_market_does(market: Market, moment: str, kind: DayKind, phase: Phase) -> None:
    assert market.phase_at(at(market, moment), kind) is phase


def test_new_hours_leave_older_days_as_they_were() -> None:
    later = Hours(
        "20270104", ((hm(8), Phase.MORNING), (hm(18), Phase.CLOSED)), ((hm(8), Phase.MORNING), (hm(11), Phase.CLOSED))
    )
    changed = dataclasses.replace(HK, hours=(*HK.hours, later))
    for kind in DayKind:
        assert changed.spans("20270103", kind) == HK.spans("20270103", kind)
        assert changed.recording_window("20251119", kind) == HK.recording_window("20251119", kind)
    assert changed.recording_window("20270104", WHOLE) == (at(HK, "2027-01-04 08:00"), at(HK, "2027-01-04 18:00"))
    assert changed.phase_at(at(HK, "2027-01-04 12:30"), WHOLE) is Phase.MORNING
    assert changed.phase_at(at(HK, "2026-12-30 12:30"), WHOLE) is Phase.LUNCH


def test_every_market_is_in_the_registry_and_has_the_same_files() -> None:
    package = Path(hk_tick_collector.market.__file__).parent
    folders = {path.parent.name for path in package.glob("*/sessions.py")}
    assert folders == {code.lower() for code in registry.MARKETS}
    for folder in folders:
        names = {path.name for path in (package / folder).glob("*.py")}
        assert {"__init__.py", "sessions.py", "calendar_table.py", "symbols.py", "trade_types.py"} <= names


@pytest.mark.parametrize("market", MARKETS)
def test_a_market_contradicts_nothing(market: Market) -> None:
    assert market.symbols.symbol(market.symbols.example) == market.symbols.example
    assert market.trade_types.auction <= market.trade_types.price_making
    assert not market.trade_types.odd_lot & market.trade_types.price_making
    assert [hours.first_day for hours in market.hours] == sorted(hours.first_day for hours in market.hours)
    for hours in market.hours:
        for rows in (hours.whole, hours.half):
            assert list(rows) == sorted(rows, key=lambda row: row[0])
            assert rows[0][0] >= market.day_starts_ms


def test_the_market_of_days_is_that_of_their_data_root(tmp_path: Path) -> None:
    assert Catalog(tmp_path, tmp_path / "_archive").market is HK
    data_root.claim(tmp_path, "CME")
    assert Catalog(tmp_path, tmp_path / "_archive").market is CME


def test_a_data_root_of_a_market_to_come_is_refused_by_name(tmp_path: Path) -> None:
    data_root.claim(tmp_path, "MOON")
    with pytest.raises(ConfigError, match="market MOON is not known; this version knows HK"):
        _ = Catalog(tmp_path, tmp_path / "_archive").market
