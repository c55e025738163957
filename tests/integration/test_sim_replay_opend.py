"""A recorded day as a whole OpenD: futu-api programs run on it unchanged, at any speed, and see what was recorded."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from futu import RET_ERROR, RET_OK, KLType, SubType

from hk_tick_collector.market.hk.trade_types import TRADE_TYPES
from hk_tick_collector.opend_sim import encode
from hk_tick_collector.opend_sim.depth_feed import DepthState
from hk_tick_collector.opend_sim.simclock import hk_time_ms
from hk_tick_collector.opend_sim.simtick import SimTick
from hk_tick_collector.opend_sim.venue import HK
from tests.harness import Process, Simulator, clean_env, ended, wait_until
from tests.integration.sim_client import SdkClient
from tests.integration.test_futu_examples import example
from tests.integration.test_sim_quotes import Books, Klines
from tests.nights import at_night
from tests.recorded_day import BEGIN, DAY, SYMBOLS, record

ROOT = Path(__file__).parents[2]
LEADER = "HK.00700"
FULL_SPEED = "1000000"

Recorded = tuple[Path, list[SimTick], list[DepthState]]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    root = tmp_path_factory.mktemp("recorded")
    return root, *record(root)


def replay(root: Path, home: Path, *options: str) -> Simulator:
    return Simulator(home, "--replay", root / f"{DAY}.db", "--start", BEGIN, "--wait-for-client", *options)


def strategy(port: int, home: Path) -> Process:
    program = ROOT / "docs/examples/futu_strategy.py"
    # Unbuffered, a line and its end are two writes, and the SDK's threads write into the same pipe.
    return Process([sys.executable, program, str(port), LEADER], clean_env(home, PYTHONUNBUFFERED=""))


@pytest.fixture(scope="module")
def outcome(recorded: Recorded, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What the strategy of the documents does on the day, at full speed."""
    home = tmp_path_factory.mktemp("full-speed")
    return run_strategy(recorded[0], home, FULL_SPEED)


def run_strategy(root: Path, home: Path, speed: str) -> list[str]:
    simulator = replay(root, home, "--speed", speed)
    with ended(simulator):
        process = strategy(simulator.port, home)
        with ended(process):
            assert process.wait() == 0, process.output
    return [line for line in process.lines if re.match(r"2026-11-20|closed", line) and " | " not in line]


def test_a_strategy_for_futu_api_runs_on_history_and_trades_at_the_recorded_states(
    recorded: Recorded, outcome: list[str]
) -> None:
    _, ticks, states = recorded
    *orders, closed = outcome
    closes = minute_closes(ticks)
    held, profit = 0.0, 0.0
    seen = 0
    for line in orders:
        when, side, price = re.match(r"(\S+ \S+) (buy|sell) 100 at (\S+)", line).groups()  # type: ignore[union-attr]
        minute_ms = hk_time_ms(when.replace(" ", "T"))
        mean = [close for end_ms, close in closes.items() if end_ms < minute_ms][-5:]
        assert (closes[minute_ms] > sum(mean) / len(mean)) == (side == "buy")
        assert float(price) in best_prices(states, minute_ms, side)
        profit += (float(price) - held) * 100 if side == "sell" else 0.0
        held = float(price) if side == "buy" else 0.0
        seen += 1
    assert seen >= 3
    assert closed == f"closed, profit {profit:.2f}"


@at_night(held_by="test_everything_recorded_is_pushed_once_and_in_order_at_full_speed")
def test_the_outcome_is_the_same_at_any_speed(recorded: Recorded, outcome: list[str], tmp_path: Path) -> None:
    assert run_strategy(recorded[0], tmp_path, "300") == outcome


def minute_closes(ticks: Sequence[SimTick]) -> dict[int, float]:
    """The last price of each minute of the leader that traded, by the minute's end."""
    closes: dict[int, float] = {}
    last = 0.0
    for tick in ticks:
        if tick.symbol == LEADER:
            last = tick.price if tick.tick_type in TRADE_TYPES.price_making else last
            closes[tick.ts_ms // 60_000 * 60_000 + 60_000] = last
    return closes


def best_prices(states: Sequence[DepthState], minute_ms: int, side_traded: str) -> set[float]:
    """The best price of each book from the last two seconds of a minute until the next minute's first print."""
    own = [state for state in states if state.symbol == LEADER]
    near = [s for s in own if minute_ms - 2_000 <= max(s.bid_ts_ms, s.ask_ts_ms) <= minute_ms + 60_000]
    before = [s for s in own if max(s.bid_ts_ms, s.ask_ts_ms) < minute_ms - 2_000][-1:]
    sides = [s.depth.asks if side_traded == "buy" else s.depth.bids for s in before + near]
    return {side[0].price for side in sides if side}


def test_everything_recorded_is_pushed_once_and_in_order_at_full_speed(recorded: Recorded, tmp_path: Path) -> None:
    root, ticks, states = recorded
    simulator = replay(root, tmp_path, "--speed", FULL_SPEED)
    with ended(simulator), SdkClient(simulator.port) as client:
        books, klines = Books(), Klines()
        client.ctx.set_handler(books)
        client.ctx.set_handler(klines)
        types = [SubType.TICKER, SubType.ORDER_BOOK, SubType.K_1M, SubType.BROKER]
        assert client.ctx.subscribe([LEADER], types, is_first_push=False)[0] == RET_OK
        made = [tick.seq for tick in ticks if tick.symbol == LEADER]
        wait_until(lambda: len(client.seqs(LEADER)) == len(made), "all ticks")
        recorded_states = [state for state in states if state.symbol == LEADER]
        # The watch ended when recording did: there the book is empty.
        wait_until(lambda: len(books.kept) == len(recorded_states) + 1, "all books")
        assert client.seqs(LEADER) == made
        sent = [([level[:3] for level in book["Bid"]], [level[:3] for level in book["Ask"]]) for book in books.kept]
        assert sent[:-1] == [
            ([tuple(level) for level in state.depth.bids], [tuple(level) for level in state.depth.asks])
            for state in recorded_states
        ]
        assert sent[-1] == ([], [])
        assert books.kept[0]["svr_recv_time_bid"] == encode.time_text(HK, recorded_states[0].bid_ts_ms, True)
        newest: dict[str, Any] = {}
        for lines in klines.kept:
            newest.update({line["time_key"]: line["close"] for line in lines.to_dict("records")})
        assert newest == {encode.time_text(HK, end_ms): close for end_ms, close in minute_closes(ticks).items()}
        ret, days = client.ctx.request_history_kline(LEADER, "2026-11-20", "2026-11-20", KLType.K_DAY)[:2]
        assert (ret, days["volume"][0]) == (RET_OK, sum(tick.volume for tick in ticks if tick.symbol == LEADER))
        assert client.ctx.get_global_state()[1]["market_hk"] == "CLOSED"


def test_the_clock_is_that_of_the_day_and_can_be_stopped_and_stepped(recorded: Recorded, tmp_path: Path) -> None:
    root, ticks, states = recorded
    simulator = replay(root, tmp_path, "--speed", "1")
    with ended(simulator), SdkClient(simulator.port) as client:
        simulator.ctl("stand")
        assert client.ctx.subscribe([LEADER], [SubType.TICKER, SubType.ORDER_BOOK])[0] == RET_OK
        for to, state in (("2026-11-20T15:55:00", "AFTERNOON"), ("2026-11-20T16:05:00", "HK_CAS")):
            simulator.ctl(f"jump to={to}")
            to_ms = hk_time_ms(to)
            until = [tick.seq for tick in ticks if tick.symbol == LEADER and tick.recv_ts_ms <= to_ms]
            wait_until(lambda until=until: client.seqs(LEADER)[-1:] == until[-1:], "ticks until then")  # type: ignore[misc]
            assert client.ctx.get_global_state()[1]["market_hk"] == state
            assert client.ctx.get_market_state([LEADER])[1]["market_state"][0] == state
            assert int(client.ctx.get_global_state()[1]["timestamp"]) == to_ms // 1000
            book = client.ctx.get_order_book(LEADER)[1]
            known = [s for s in states if s.symbol == LEADER and max(s.bid_ts_ms, s.ask_ts_ms) + 60 <= to_ms][-1]
            assert [level[:3] for level in book["Bid"]] == [tuple(level) for level in known.depth.bids]
            last = [t.price for t in ticks if t.seq in set(until) and t.tick_type in TRADE_TYPES.price_making][-1]
            assert client.ctx.get_market_snapshot([LEADER])[1]["last_price"][0] == last


def test_a_book_that_was_not_recorded_is_refused_and_assumed_on_demand_alone(
    recorded: Recorded, tmp_path: Path
) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / f"{DAY}.db").write_bytes((recorded[0] / f"{DAY}.db").read_bytes())
    simulator = replay(bare, tmp_path / "without")
    with ended(simulator), SdkClient(simulator.port) as client:
        ret, text = client.ctx.subscribe([LEADER], [SubType.ORDER_BOOK])
        assert (ret, text) == (
            RET_ERROR,
            "HK.00700: its order book was not recorded; hk-opend-sim run --assumed-book makes one of prints",
        )
        assert client.ctx.subscribe([LEADER], [SubType.QUOTE])[0] == RET_OK
    simulator = replay(bare, tmp_path / "assumed", "--assumed-book", "--speed", "60")
    with ended(simulator), SdkClient(simulator.port) as client:
        books = Books()
        client.ctx.set_handler(books)
        assert client.ctx.subscribe([LEADER], [SubType.ORDER_BOOK, SubType.BROKER])[0] == RET_OK
        wait_until(lambda: len(books.kept) > 10, "assumed books")
        assert len(client.ctx.get_broker_queue(LEADER)[1]) > 0


def test_where_the_recorder_was_blind_the_book_is_empty(tmp_path: Path) -> None:
    record(tmp_path, blind_from="2026-11-20T15:53:00")
    simulator = replay(tmp_path, tmp_path / "home", "--speed", FULL_SPEED)
    with ended(simulator), SdkClient(simulator.port) as client:
        assert client.ctx.subscribe([LEADER], [SubType.ORDER_BOOK], subscribe_push=False)[0] == RET_OK
        wait_until(lambda: client.ctx.get_global_state()[1]["market_hk"] == "CLOSED", "the end of the day")
        book = client.ctx.get_order_book(LEADER)[1]
        assert (book["Bid"], book["Ask"], book["svr_recv_time_bid"]) == ([], [], "")


def test_the_examples_of_futu_api_run_on_a_recorded_day(recorded: Recorded, tmp_path: Path) -> None:
    simulator = replay(recorded[0], tmp_path, "--speed", "100")
    with ended(simulator):
        other = SYMBOLS[1]
        demo = example("quote_and_trade_demo.py", simulator, tmp_path, f"HK.HSImain={other}", "sleep(15)=sleep(2)")
        push = example("quote_push.py", simulator, tmp_path, f"HK.999010={other}")
        with ended(demo), ended(push):
            push.wait_for(r"\* subscribe : \(0, None\)")
            assert demo.wait() == 0, demo.output
            for printed in ("StockQuoteTest :", "RTDataTest :", "TickerTest", "OrderBookTest", "BrokerTest code"):
                assert f"* {printed}" in demo.output
            assert "error" not in push.output
        shots = example("get_mkt_snapshot_demo.py", simulator, tmp_path, "sleep(3)=sleep(0)")
        with ended(shots):
            assert shots.wait() == 0, shots.output
            assert "sub_type=STOCK, count=2" in shots.output
