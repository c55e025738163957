"""A recorded day played back is the day that was recorded."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from hk_tick_collector.core.errors import StoreError
from hk_tick_collector.market.calendar import TradingCalendar
from hk_tick_collector.market.hk import HK
from hk_tick_collector.opend_sim.check import check
from hk_tick_collector.opend_sim.exchange import Exchange, MarketConfig, SimTick
from hk_tick_collector.opend_sim.instruments import default_symbols
from hk_tick_collector.opend_sim.replay import ReplayExchange
from tests.unit.test_sim_truth_check import hk, store, write_truth

CALENDAR = TradingCalendar(HK)
START = "2026-11-20 15:59:30"


@pytest.fixture(scope="module")
def made() -> list[SimTick]:
    """The last half minute of a day with its closing auction."""
    config = MarketConfig(default_symbols(8), seed=3, history_ticks=0, no_ms_share=0.05)
    return Exchange(config, hk(START), CALENDAR).advance(hk("2026-11-20 16:15"))


@pytest.fixture(scope="module")
def day_file(made: list[SimTick], tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("day")
    store(root, reversed(made))
    return root / "20261120.db"


def test_every_tick_comes_back_in_each_symbols_order(made: list[SimTick], day_file: Path, tmp_path: Path) -> None:
    market = ReplayExchange([day_file], calendar=CALENDAR)
    assert market.history() == []
    ticks = market.advance(hk("2026-11-20 17:00"))
    assert market.ended
    for symbol in market.instruments:
        own = [tick for tick in ticks if tick.symbol == symbol]
        assert [tick.seq for tick in own] == [tick.seq for tick in made if tick.symbol == symbol]
        assert all(a.recv_ts_ms <= b.recv_ts_ms for a, b in pairwise(own))
    assert check(write_truth(tmp_path / "truth.csv", ticks), day_file.parent).clean
    by_key = {(tick.symbol, tick.seq): tick for tick in made}
    for tick in ticks:
        original = by_key[tick.symbol, tick.seq]
        assert (tick.price, tick.volume, tick.type_sign) == (original.price, original.volume, original.type_sign)
        assert tick.has_ms == (tick.ts_ms % 1000 != 0)


def test_replay_does_not_depend_on_how_time_is_sliced(day_file: Path) -> None:
    whole, sliced = (ReplayExchange([day_file], calendar=CALENDAR) for _ in range(2))
    ticks: list[SimTick] = []
    for now_ms in range(hk(START), hk("2026-11-20 16:00:01"), 37):
        part = sliced.advance(now_ms)
        assert all(tick.ts_ms <= now_ms for tick in part)
        ticks += part
    ticks += sliced.advance(hk("2026-11-20 17:00"))
    assert ticks == whole.advance(hk("2026-11-20 17:00"))


def test_a_later_start_makes_the_rest_history(made: list[SimTick], day_file: Path) -> None:
    market = ReplayExchange([day_file], hk("2026-11-20 15:59:50"), CALENDAR)
    past = market.history()
    assert past
    assert all(tick.ts_ms <= hk("2026-11-20 15:59:50") for tick in past)
    newest = [tick for tick in past if tick.symbol == "HK.00700"]
    assert market.recent("HK.00700", 1000) == newest[-1000:]
    rest = market.advance(hk("2026-11-20 17:00"))
    assert len(past) + len(rest) == len(made)
    assert market.snapshot("HK.00700").update_ts_ms == max(t.ts_ms for t in made if t.symbol == "HK.00700")
    assert next(market.newest_minutes("HK.00700")).start_ms == hk("2026-11-20 16:08")


def test_it_looks_like_an_exchange(day_file: Path) -> None:
    market = ReplayExchange([day_file], calendar=CALENDAR)
    assert market.instruments["HK.00700"].name == "TENCENT"
    assert market.market_state(hk("2026-11-20 16:05")) == "HK_CAS"
    assert market.start_ms < hk("2026-11-20 15:59:31")
    assert not market.ended


def test_several_days_follow_each_other(made: list[SimTick], day_file: Path, tmp_path: Path) -> None:
    day_ms = 3 * 86_400_000
    later = [replace(t, ts_ms=t.ts_ms + day_ms, seq=t.seq + ((day_ms // 1000) << 32)) for t in made]
    store(tmp_path, later)
    market = ReplayExchange([day_file, tmp_path / "20261123.db"], calendar=CALENDAR)
    assert len(market.advance(hk("2026-11-20 20:00"))) == len(made)
    assert len(market.advance(hk("2026-11-23 20:00"))) == len(made)
    assert market.ended


def test_rows_with_gaps_are_played_with_plain_values(made: list[SimTick], tmp_path: Path) -> None:
    store(tmp_path, made[:1], seq=None)
    ticks = ReplayExchange([tmp_path / "20261120.db"], calendar=CALENDAR).advance(hk("2026-11-20 17:00"))
    assert [(tick.seq, tick.price) for tick in ticks] == [(0, made[0].price)]


def test_files_that_cannot_be_played_are_named(tmp_path: Path) -> None:
    store(tmp_path, [])
    with pytest.raises(StoreError):
        ReplayExchange([])
    with pytest.raises(StoreError, match=r"missing\.db"):
        ReplayExchange([tmp_path / "missing.db"])
    (tmp_path / "20261120.db").write_bytes(b"rubbish" * 500)
    with pytest.raises(StoreError, match=r"20261120\.db"):
        ReplayExchange([tmp_path / "20261120.db"])
