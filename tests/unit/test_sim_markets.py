"""The simulator of other markets: sequences, hours, states, days, fields and files as that market has them."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from hk_tick_collector.core.errors import ConfigError
from hk_tick_collector.opend_sim import handlers_reference, handlers_subscription, handlers_system, pb
from hk_tick_collector.opend_sim.exchange import Exchange, MarketConfig
from hk_tick_collector.opend_sim.faults import FaultState
from hk_tick_collector.opend_sim.market_feed import MarketFeed
from hk_tick_collector.opend_sim.opend import Client, OpenD, SimSettings
from hk_tick_collector.opend_sim.simclock import SimClock, time_ms
from hk_tick_collector.opend_sim.simtick import SimTick
from hk_tick_collector.opend_sim.subscriptions import Refused
from hk_tick_collector.opend_sim.truth import TruthWriter, read_truth
from hk_tick_collector.opend_sim.venue import CN, US, VENUES, Venue, venue_of
from hk_tick_collector.sources.futu import markets

US_SYMBOLS = ["US.AAPL", "US.BRK.B", "US..DJI"]
CN_SYMBOLS = ["SH.600519", "SZ.000001"]
MINUTE_MS = 60_000


def at(venue: Venue, text: str) -> int:
    return time_ms(text, venue.market.zone)


def market(venue: Venue, start: str, **config: Any) -> Exchange:
    symbols = US_SYMBOLS if venue is US else CN_SYMBOLS
    return Exchange(
        MarketConfig(symbols, seed=2, **{"rate_per_sec": 50.0, "history_ticks": 0, **config}), at(venue, start)
    )


def opend(venue: Venue, start: str = "2026-11-20T10:00:00") -> OpenD:
    exchange = market(venue, start)
    clock = SimClock(at(venue, start), held=True)
    return OpenD(SimSettings(), MarketFeed(exchange, clock), FaultState())


def request(proto: str) -> Any:
    return pb.load(proto).Request().c2s


def answer(proto: str) -> Any:
    return pb.load(proto).Response().s2c


def of_symbol(ticks: list[SimTick], symbol: str) -> list[SimTick]:
    return [tick for tick in ticks if tick.symbol == symbol]


@pytest.mark.parametrize("code", VENUES)
def test_the_simulator_speaks_of_a_market_as_the_recorder_reads_it(code: str) -> None:
    venue, known = VENUES[code], markets.at_futu(code)
    assert dict(known.prefixes) == {number: prefix for prefix, number in venue.numbers.items()}
    assert known.state_fields == venue.state_fields
    assert set(known.right_fields) <= set(venue.right_fields)
    assert venue.market is known.market


def test_us_sequences_count_within_their_second() -> None:
    exchange = market(US, "2026-11-20T10:00:00")
    ticks = of_symbol(exchange.advance(at(US, "2026-11-20T10:00:20")), "US.BRK.B")
    assert len(ticks) > 100
    for before, tick in pairwise(ticks):
        assert tick.seq >> 32 == tick.ts_ms // 1000
        is_same_second = tick.seq >> 32 == before.seq >> 32
        assert tick.seq & 0xFFFFFFFF == ((before.seq & 0xFFFFFFFF) + 1 if is_same_second else 0)


def test_cn_sequences_increase_with_holes_over_days() -> None:
    exchange = market(CN, "2026-11-19T14:50:00")
    ticks = of_symbol(exchange.advance(at(CN, "2026-11-20T09:31:00")), "SZ.000001")
    steps = [tick.seq - before.seq for before, tick in pairwise(ticks)]
    assert min(steps) >= 1
    assert max(steps[:1000]) > 1
    assert ticks[-1].ts_ms > at(CN, "2026-11-20T09:30:00")


@pytest.mark.parametrize(
    ("start", "state", "types"),
    [
        ("2026-11-19T20:00:00", "OVERNIGHT", {"EXTENDED_TRADING_HOURS"}),
        ("2026-11-20T04:00:00", "PRE_MARKET_BEGIN", {"EXTENDED_TRADING_HOURS"}),
        ("2026-11-20T09:30:00", "AFTERNOON", {"ODD_LOT", "AUTO_MATCH", "CROSS_MARKET", "AVERAGE_PRICE"}),
        ("2026-11-20T16:00:00", "AFTER_HOURS_BEGIN", {"EXTENDED_TRADING_HOURS"}),
        ("2026-11-20T20:00:00", "CLOSED", set()),  # a Friday
        ("2026-11-27T13:00:00", "AFTER_HOURS_BEGIN", {"EXTENDED_TRADING_HOURS"}),  # an early close
        ("2026-11-27T17:00:00", "CLOSED", set()),
        ("2026-11-26T10:00:00", "CLOSED", set()),  # Thanksgiving
        ("2026-03-08T20:00:00", "OVERNIGHT", {"EXTENDED_TRADING_HOURS"}),  # the evening after the clocks went forward
        ("2026-11-01T20:00:00", "OVERNIGHT", {"EXTENDED_TRADING_HOURS"}),  # and after they went back
    ],
)
def test_us_hours(start: str, state: str, types: set[str]) -> None:
    start_ms = at(US, start)
    exchange = market(US, start, rate_per_sec=300.0)
    assert exchange.market_state(start_ms) == state
    made = exchange.history() + exchange.advance(start_ms + 5_000)
    assert {tick.tick_type for tick in made} == types
    before = market(US, start, rate_per_sec=300.0)
    assert before.market_state(start_ms - 1) != state or state == "CLOSED"


def test_a_part_of_a_share_has_volume_0_on_the_wire_and_comes_back_from_the_truth_file(tmp_path: Path) -> None:
    ticks = market(US, "2026-11-20T10:00:00").advance(at(US, "2026-11-20T10:01:00"))
    parts = [tick for tick in ticks if tick.part]
    assert parts
    assert {(tick.volume, tick.part) for tick in parts} == {(0, 0.25)}
    writer = TruthWriter(tmp_path / "truth")
    writer.write(ticks)
    writer.close()
    assert list(read_truth(tmp_path / "truth")) == ticks


@pytest.mark.parametrize(
    ("session", "extended", "phases"),
    [("NONE", False, 1), ("RTH", False, 1), ("ETH", False, 2), ("NONE", True, 2), ("ALL", True, 3), ("ALL", False, 3)],
)
def test_ticks_go_to_who_asked_for_their_session(session: str, extended: bool, phases: int) -> None:
    sim = opend(US)
    c2s = request("Qot_Sub")
    c2s.securityList.add(market=11, code="AAPL")
    c2s.subTypeList.append(int(pb.qot_common.SubType_Ticker))
    c2s.isSubOrUnSub = True
    c2s.extendedTime, c2s.session = extended, getattr(pb.common, f"Session_{session}")
    handlers_subscription.subscribe(sim, Client(7), c2s, answer("Qot_Sub"))
    ticks = [
        of_symbol(market(US, start).advance(at(US, start) + 2_000), "US.AAPL")[0]
        for start in ("2026-11-20T10:00:00", "2026-11-20T05:00:00", "2026-11-20T01:00:00")
    ]
    assert list(sim.collected(7, "US.AAPL", ticks)) == ticks[:phases]
    assert list(sim.collected(8, "US.AAPL", ticks)) == ticks[:1], "who asked for nothing"


def test_session_overnight_alone_is_refused() -> None:
    c2s = request("Qot_Sub")
    c2s.securityList.add(market=11, code="AAPL")
    c2s.subTypeList.append(int(pb.qot_common.SubType_Ticker))
    c2s.isSubOrUnSub, c2s.session = True, int(pb.common.Session_OVERNIGHT)
    with pytest.raises(Refused, match="OVERNIGHT"):
        handlers_subscription.subscribe(opend(US), Client(7), c2s, answer("Qot_Sub"))


@pytest.mark.parametrize("venue", [US, CN], ids=["US", "CN"])
def test_states_and_rights_are_those_of_the_market_alone(venue: Venue) -> None:
    sim = opend(venue)
    state = answer("GetGlobalState")
    handlers_system.get_global_state(sim, Client(1), None, state)
    fields = ("marketHK", "marketUS", "marketSH", "marketSZ")
    closed = int(pb.qot_common.QotMarketState_Closed)
    assert {name for name in fields if getattr(state, name) != closed} == set(venue.state_fields)
    info = answer("GetUserInfo")
    handlers_system.get_user_info(sim, Client(1), None, info)
    no = int(pb.qot_common.QotRight_No)
    rights = ("hkQotRight", "usQotRight", "shQotRight", "szQotRight", "cnQotRight")
    assert {name for name in rights if getattr(info, name) != no} == set(venue.right_fields)


def test_trading_days_of_the_market_asked_for() -> None:
    c2s, s2c = request("Qot_RequestTradeDate"), answer("Qot_RequestTradeDate")
    c2s.market, c2s.beginTime, c2s.endTime = 2, "2026-11-25", "2026-11-28"
    handlers_reference.request_trade_date(opend(US), Client(1), c2s, s2c)
    days = [(day.time, day.tradeDateType) for day in s2c.tradeDateList]
    assert days == [("2026-11-25", 0), ("2026-11-27", int(pb.qot_common.TradeDateType_Morning))]
    c2s.market = 1
    with pytest.raises(Refused, match="market 1"):
        handlers_reference.request_trade_date(opend(US), Client(1), c2s, s2c)


def test_a_simulator_trades_one_market() -> None:
    with pytest.raises(ConfigError, match="HK and US"):
        Exchange(MarketConfig(["HK.00700", "US.AAPL"]), 0)


def test_a_tick_that_is_moved_takes_nobodys_sequence() -> None:
    second = 1_700_000_000
    seqs = {
        venue_of("US.AAPL").moved((second + late) << 32 | index, second) for late in range(60) for index in range(9)
    }
    assert len(seqs) == 60 * 9
    assert {seq >> 32 for seq in seqs} == {second}
