"""A real OpenQuoteContext on the simulator, started as its own process: every request it serves, and the rules."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

import pytest
from futu import RET_ERROR, RET_OK, KLType, Market, Plate, SecurityType, SubType, TradeDateMarket

from hk_tick_collector.opend_sim.truth import read_truth
from tests.harness import Simulator, ended, wait_until
from tests.integration.sim_client import SdkClient

LEADER = "HK.00700"


@pytest.fixture(scope="module")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulator]:
    options = ["--always-open", "--rate", "300", "--symbols-count", "12", "--quota", "20", "--min-hold", "0.5"]
    simulator = Simulator(tmp_path_factory.mktemp("sim"), *options)
    with ended(simulator):
        yield simulator


@pytest.fixture
def client(simulator: Simulator) -> Iterator[SdkClient]:
    with SdkClient(simulator.port) as client:
        yield client


def market_sec(simulator: Simulator) -> float:
    """The market's time. The machine's may have been set since it began."""
    return float(simulator.ctl("status")["market_time_ms"]) / 1000


def test_global_state_says_logged_in_ready_and_the_time(simulator: Simulator, client: SdkClient) -> None:
    since_sec = market_sec(simulator)
    ret, state = client.ctx.get_global_state()
    assert ret == RET_OK
    assert state["qot_logined"] is True
    assert state["program_status_type"] == "READY"
    assert state["market_hk"] in ("MORNING", "AFTERNOON")
    assert int(since_sec) <= int(state["timestamp"]) <= market_sec(simulator)


def test_user_info_has_right_and_quota(client: SdkClient) -> None:
    ret, info = client.ctx.get_user_info()
    assert ret == RET_OK
    assert (info["hk_qot_right"], info["sub_quota"]) == ("LV2", 20)


def test_ticks_are_pushed_and_pulled_and_are_those_of_the_truth_file(simulator: Simulator, client: SdkClient) -> None:
    client.subscribe(LEADER, "HK.00005")
    wait_until(lambda: len(client.ticks(LEADER)) > 30, "30 ticks pushed")
    ret, pulled = client.ctx.get_rt_ticker(LEADER, 1000)
    assert ret == RET_OK
    client.ctx.close()
    seqs = client.seqs(LEADER)
    counters = [seq & 0xFFFFFFFF for seq in seqs]
    assert counters == list(range(counters[0], counters[0] + len(seqs)))
    made = {t.seq: t for t in read_truth(simulator.truth) if t.symbol == LEADER}
    hong_kong = timezone(timedelta(hours=8))
    for tick in client.ticks(LEADER):
        truth = made[tick.sequence]
        when = datetime.strptime(tick.time, "%Y-%m-%d %H:%M:%S.%f").replace(tzinfo=hong_kong)
        assert round(when.timestamp() * 1000) == truth.ts_ms
        assert (tick.price, tick.volume, tick.turnover) == (truth.price, truth.volume, truth.turnover)
    assert set(pulled["sequence"]) <= set(made)
    assert list(pulled["sequence"]) == sorted(pulled["sequence"])


def test_the_first_push_is_one_cached_tick_unless_declined(client: SdkClient) -> None:
    client.subscribe("HK.00005")
    wait_until(lambda: client.pushes, "first push")
    first = client.pushes[0]
    assert len(first.tickerList) == 1
    assert first.tickerList[0].pushDataType == 3
    client.subscribe("HK.00388", first_push=False)
    wait_until(lambda: client.ticks("HK.00388"), "a tick")
    assert {t.pushDataType for t in client.ticks("HK.00388")} == {1}


def test_a_tick_is_pushed_within_milliseconds_of_its_making(simulator: Simulator, client: SdkClient) -> None:
    ages_ms: list[float] = []
    client.subscribe(LEADER, first_push=False)
    wait_until(lambda: len(client.ticks()) > 20, "20 ticks")
    for push in client.pushes[-5:]:
        ages_ms += [t.recvTime * 1000 - t.timestamp * 1000 for t in push.tickerList]
    assert all(abs(age) <= 1 for age in ages_ms)
    wait_until(lambda: market_sec(simulator) - client.ticks()[-1].timestamp < 1, "a tick of this second")


def test_pulling_without_a_subscription_is_refused(client: SdkClient) -> None:
    assert client.ctx.get_rt_ticker(LEADER, 10) == (RET_ERROR, f"{LEADER}: subscribe to TICKER first")


def test_a_pull_gives_the_newest_so_many(client: SdkClient) -> None:
    client.subscribe(LEADER)
    ret, few = client.ctx.get_rt_ticker(LEADER, 3)
    ret_all, many = client.ctx.get_rt_ticker(LEADER, 1000)
    assert (ret, ret_all) == (RET_OK, RET_OK)
    assert len(few) == 3
    assert len(many) == 1000  # from before the subscription too


def test_an_unknown_code_is_refused_by_name_and_the_rest_with_it(client: SdkClient) -> None:
    ret, text = client.ctx.subscribe([LEADER, "HK.99999"], [SubType.TICKER])
    assert (ret, text) == (RET_ERROR, "unknown stock HK.99999")
    ret, text = client.ctx.subscribe(["US.AAPL"], [SubType.TICKER])
    assert ret == RET_ERROR
    assert "AAPL" in text
    ret, info = client.ctx.query_subscription(is_all_conn=False)
    assert (ret, info["own_used"]) == (RET_OK, 0)


def test_quota_is_shared_and_counts_a_code_once(simulator: Simulator, client: SdkClient) -> None:
    symbols = sorted(client.ctx.get_stock_basicinfo(Market.HK, SecurityType.STOCK)[1]["code"])[:10]
    types = [SubType.TICKER, SubType.QUOTE]
    assert client.ctx.subscribe(symbols, types, is_first_push=False)[0] == RET_OK
    with SdkClient(simulator.port) as other:
        assert other.ctx.subscribe(symbols[:2], types, is_first_push=False)[0] == RET_OK
        ret, text = other.ctx.subscribe(symbols[:1], [SubType.K_1M])
        assert ret == RET_ERROR
        assert "quota exceeded: 1 more wanted, 0 of 20 left" in text
        ret, info = other.ctx.query_subscription(is_all_conn=True)
        assert ret == RET_OK
        assert (info["total_used"], info["remain"], info["own_used"]) == (20, 0, 4)
    client.ctx.close()

    def freed() -> bool:
        with SdkClient(simulator.port) as third:
            return bool(third.ctx.query_subscription()[1]["total_used"] == 0)

    wait_until(freed, "quota free again")


def test_a_subscription_can_be_given_back_after_its_time_only(client: SdkClient) -> None:
    client.subscribe(LEADER)
    ret, text = client.ctx.unsubscribe([LEADER], [SubType.TICKER])
    assert ret == RET_ERROR
    assert re.search(r"was subscribed \d s ago", text)
    wait_until(lambda: client.ctx.unsubscribe_all()[0] == RET_OK, "unsubscribed")
    assert client.ctx.query_subscription()[1]["own_used"] == 0
    client.wait_no_more_ticks()


def test_klines_snapshots_and_quotes_come_from_the_same_ticks(client: SdkClient) -> None:
    assert client.ctx.subscribe([LEADER], [SubType.QUOTE, SubType.K_1M, SubType.K_DAY])[0] == RET_OK
    ret, minutes = client.ctx.get_cur_kline(LEADER, 5, KLType.K_1M)
    assert ret == RET_OK
    assert 1 <= len(minutes) <= 5
    assert (minutes["low"] <= minutes["close"]).all()
    assert (minutes["close"] <= minutes["high"]).all()
    ret, days = client.ctx.get_cur_kline(LEADER, 2, KLType.K_DAY)
    assert ret == RET_OK
    ret, snapshot = client.ctx.get_market_snapshot([LEADER])
    assert ret == RET_OK
    row, day = snapshot.iloc[0], days.iloc[-1]
    assert row["code"] == LEADER
    assert row["volume"] >= day["volume"] > 0
    assert row["lot_size"] == 100
    assert day["low"] <= row["last_price"] <= max(day["high"], row["high_price"])
    ret, quote = client.ctx.get_stock_quote([LEADER])
    assert ret == RET_OK
    assert quote.iloc[0]["prev_close_price"] == row["prev_close_price"]


def test_history_klines_come_in_pages(client: SdkClient) -> None:
    today = datetime.now(timezone(timedelta(hours=8))).date()
    span = {"start": str(today - timedelta(days=10)), "end": str(today + timedelta(days=1)), "ktype": KLType.K_1M}
    ret, whole, _ = client.ctx.request_history_kline(LEADER, max_count=250, **span)
    assert ret == RET_OK
    times: list[str] = []
    key = None
    for _ in range(3):
        ret, page, key = client.ctx.request_history_kline(LEADER, max_count=50, page_req_key=key, **span)
        assert (ret, len(page)) == (RET_OK, 50)
        times += list(page["time_key"])
    assert times == list(whole["time_key"])[:150] == sorted(set(times))


def test_trading_days_know_half_days_and_holidays(client: SdkClient) -> None:
    ret, days = client.ctx.request_trading_days(TradeDateMarket.HK, start="2026-12-21", end="2027-01-04")
    assert ret == RET_OK
    kinds = {d["time"]: d["trade_date_type"] for d in days}
    assert kinds["2026-12-24"] == "MORNING"
    assert kinds["2026-12-28"] == "WHOLE"
    assert "2026-12-25" not in kinds
    assert "2026-12-27" not in kinds
    assert client.ctx.request_trading_days(TradeDateMarket.US, start="2026-12-21", end="2027-01-04")[0] == RET_ERROR


def test_basic_info_and_market_state(client: SdkClient) -> None:
    ret, info = client.ctx.get_stock_basicinfo(Market.HK, SecurityType.STOCK, [LEADER, "HK.00005"])
    assert ret == RET_OK
    assert list(info["lot_size"]) == [100, 400]
    assert list(info["name"]) == ["TENCENT", "HSBC HOLDINGS"]
    ret, state = client.ctx.get_market_state([LEADER])
    assert ret == RET_OK
    assert state.iloc[0]["market_state"] in ("MORNING", "AFTERNOON")


def test_what_is_not_simulated_gets_an_error_not_a_hang(client: SdkClient) -> None:
    assert client.ctx.get_plate_list(Market.HK, Plate.ALL) == (RET_ERROR, "protocol 3204 is not simulated")
    ret, text = client.ctx.subscribe([LEADER], [SubType.ORDER_BOOK_ODD])
    assert ret == RET_ERROR
    assert "not simulated" in text  # the SDK's own words after a timeout are others


def test_calls_are_limited_as_opend_does(client: SdkClient) -> None:
    answers = [client.ctx.get_market_state([LEADER]) for _ in range(12)]
    refused = [text for ret, text in answers if ret == RET_ERROR]
    assert 2 <= len(refused) < 12
    assert "may be called 10 times in 30 s" in refused[0]
    assert client.ctx.get_global_state()[0] == RET_OK
