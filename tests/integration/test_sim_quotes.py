"""A real OpenQuoteContext on the simulator: order books, broker queues and everything else that is made of prints."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from futu import (
    RET_ERROR,
    RET_OK,
    BrokerHandlerBase,
    CurKlineHandlerBase,
    KLType,
    Market,
    OpenSecTradeContext,
    OrderBookHandlerBase,
    OrderBookType,
    RTDataHandlerBase,
    SecurityType,
    StockQuoteHandlerBase,
    SubType,
    TrdMarket,
    TrdSide,
)

from hk_tick_collector.opend_sim import pb
from hk_tick_collector.opend_sim.depth_truth import read_depth_truth
from tests.harness import Simulator, ended, wait_until
from tests.integration.sim_client import RawClient, SdkClient

LEADER = "HK.00700"
ALONE = "HK.09988"  # one test has it for itself, whatever ran before on this simulator
SYMBOLS = f"{LEADER},{ALONE},HK.02800,HK.800000,HK.HSImain,HK.12345"


class _Kept:
    """What the SDK hands to a handler, after its own unpacking."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[Any] = []

    def on_recv_rsp(self, rsp_pb: Any) -> Any:
        answer = super().on_recv_rsp(rsp_pb)  # type: ignore[misc]
        assert answer[0] == RET_OK, answer
        self.kept.append(answer[1:] if len(answer) > 2 else answer[1])
        return answer


class Books(_Kept, OrderBookHandlerBase):  # type: ignore[misc]
    pass


class Queues(_Kept, BrokerHandlerBase):  # type: ignore[misc]
    pass


class Klines(_Kept, CurKlineHandlerBase):  # type: ignore[misc]
    pass


class Lines(_Kept, RTDataHandlerBase):  # type: ignore[misc]
    pass


class Quotes(_Kept, StockQuoteHandlerBase):  # type: ignore[misc]
    pass


ALL_TYPES = ["TICKER", "QUOTE", "ORDER_BOOK", "BROKER", "RT_DATA"]
_MINUTES = (1, 3, 5, 10, 15, 30, 60, 120, 180, 240)
KLINES = [*(f"K_{minutes}M" for minutes in _MINUTES), "K_DAY", "K_WEEK", "K_MON", "K_QUARTER", "K_YEAR"]


@pytest.fixture(scope="module")
def book_truth(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("truth") / "books.csv"


@pytest.fixture(scope="module")
def simulator(tmp_path_factory: pytest.TempPathFactory, book_truth: Path) -> Iterator[Simulator]:
    options = [
        "--always-open",
        "--rate",
        "60",
        "--symbols",
        SYMBOLS,
        "--book-truth",
        book_truth,
    ]
    simulator = Simulator(tmp_path_factory.mktemp("sim"), *options, "--quota", "110", "--no-rate-limits")
    with ended(simulator):
        yield simulator


@pytest.fixture
def client(simulator: Simulator) -> Iterator[SdkClient]:
    with SdkClient(simulator.port) as client:
        yield client


@pytest.fixture
def quiet_client(tmp_path: Path) -> Iterator[SdkClient]:
    """Of a market with few ticks: of each K-line that is pushed the SDK makes a table, a millisecond of work."""
    simulator = Simulator(
        tmp_path / "sim", "--always-open", "--rate", "5", "--symbols", SYMBOLS, "--quota", "110", "--no-rate-limits"
    )
    with ended(simulator), SdkClient(simulator.port) as client:
        yield client


def test_books_are_pushed_pulled_and_those_of_the_truth_file(client: SdkClient, book_truth: Path) -> None:
    books = Books()
    client.ctx.set_handler(books)
    assert client.ctx.subscribe([ALONE], [SubType.TICKER, SubType.ORDER_BOOK])[0] == RET_OK
    wait_until(lambda: len(books.kept) > 50, "50 books")
    ret, pulled = client.ctx.get_order_book(ALONE, 3)
    assert ret == RET_OK
    assert (len(pulled["Bid"]), len(pulled["Ask"]), pulled["code"]) == (3, 3, ALONE)
    ret, subscriptions = client.ctx.query_subscription()
    assert subscriptions["own_used"] == 2  # a code and a type each
    client.ctx.close()
    first, *live = books.kept
    assert (first["svr_recv_time_bid"], first["svr_recv_time_ask"]) == ("", "")
    made = [
        ([tuple(level) for level in state.depth.bids], [tuple(level) for level in state.depth.asks])
        for state, fate, _ in read_depth_truth(book_truth)
        if state.symbol == ALONE and fate == "sent"
    ]
    sent = [([level[:3] for level in book["Bid"]], [level[:3] for level in book["Ask"]]) for book in live]
    assert sent == made[: len(sent)]
    assert pulled["Bid"][0][:3] in [bids[0] for bids, _ in made]


def test_the_queue_of_brokers_is_pushed_and_pulled(client: SdkClient) -> None:
    queues = Queues()
    client.ctx.set_handler(queues)
    assert client.ctx.get_broker_queue(LEADER)[:2] == (RET_ERROR, "HK.00700: subscribe to BROKER first")
    assert client.ctx.subscribe([LEADER], [SubType.BROKER])[0] == RET_OK
    wait_until(lambda: len(queues.kept) > 3, "queues of brokers")
    code, (bids, asks) = queues.kept[-1]
    assert code == LEADER
    assert bids["bid_broker_pos"].min() == asks["ask_broker_pos"].min() == 1
    ret, bids, asks = client.ctx.get_broker_queue(LEADER)
    assert ret == RET_OK
    assert set(bids["order_id"]) == {"N/A"}  # the SF right alone shows orders


def test_books_with_single_orders_need_the_right_and_are_asked_for(simulator: Simulator, client: SdkClient) -> None:
    simulator.ctl("right kind=sf")
    assert client.ctx.subscribe([LEADER], [SubType.ORDER_BOOK], is_detailed_orderbook=True)[0] == RET_OK

    def detailed() -> bool:
        ret, book = client.ctx.get_order_book(LEADER, 40)
        return ret == RET_OK and len(book["Bid"]) == 40 and len(book["Bid"][0][3]) == book["Bid"][0][2]

    wait_until(detailed, "40 levels with their orders")
    simulator.ctl("right kind=bmp")
    ret, text = client.ctx.get_order_book(LEADER)
    simulator.ctl("clear kind=right")
    assert (ret, text) == (RET_ERROR, "no right to order books: the Hong Kong quote right is BMP or none")


def test_the_book_of_odd_lots_is_refused(client: SdkClient) -> None:
    assert client.ctx.subscribe([LEADER], [SubType.ORDER_BOOK])[0] == RET_OK
    ret, text = client.ctx.get_order_book(LEADER, order_book_type=OrderBookType.ODD)
    assert (ret, text) == (RET_ERROR, "the order book of odd lots is not simulated; leave order_book_type out")


def test_every_type_of_every_kind_of_code_is_pushed(quiet_client: SdkClient) -> None:
    codes = {LEADER: "STOCK", "HK.02800": "ETF", "HK.800000": "IDX", "HK.HSImain": "FUTURE", "HK.12345": "WARRANT"}
    klines, lines, quotes = Klines(), Lines(), Quotes()
    for handler in (klines, lines, quotes):
        quiet_client.ctx.set_handler(handler)
    assert quiet_client.ctx.subscribe(list(codes), ALL_TYPES + KLINES) == (RET_OK, None)
    pushed = {(code, kind) for code in codes for kind in KLINES}
    wait_until(lambda: {(k.iloc[0]["code"], k.iloc[0]["k_type"]) for k in klines.kept[:]} == pushed, "all K-lines")
    for kept in (lines.kept, quotes.kept, quiet_client.pushes):
        wait_until(lambda kept=kept: len(kept) > 10, "lines, quotes and ticks")  # type: ignore[misc]
    wait_until(lambda: {q.iloc[0]["code"] for q in quotes.kept[:]} == set(codes), "quotes")
    for code, kind in codes.items():
        ret, listed = quiet_client.ctx.get_stock_basicinfo(Market.HK, getattr(SecurityType, kind))
        assert (ret, list(listed["code"])) == (RET_OK, [LEADER, ALONE] if kind == "STOCK" else [code])
    assert quiet_client.ctx.get_order_book("HK.800000")[1]["Bid"] == []  # an index has values, and no orders


def test_bars_lines_and_snapshots_agree_with_one_another(client: SdkClient) -> None:
    types = ["QUOTE", "RT_DATA", *KLINES]
    assert client.ctx.subscribe([LEADER], types, subscribe_push=False)[0] == RET_OK
    minute = client.ctx.get_cur_kline(LEADER, 1000, KLType.K_1M)[1]
    for kind in KLINES[1:10]:
        longer = client.ctx.get_cur_kline(LEADER, 1000, kind)[1]
        assert len(longer) <= len(minute)
        assert set(longer["time_key"].str[-2:]) == {"00"}
    line = client.ctx.get_rt_data(LEADER)[1]
    ret, snapshot = client.ctx.get_market_snapshot([LEADER])
    assert ret == RET_OK
    row = snapshot.iloc[0]
    assert 0 < line["volume"].sum() <= row["volume"]  # it trades on
    assert row["bid_price"] < row["ask_price"]
    assert row["bid_vol"] > 0 < row["ask_vol"]
    history = client.ctx.request_history_kline(LEADER, start=line["time"][0][:10], ktype=KLType.K_5M)[1]
    assert list(history["time_key"]) == sorted(set(history["time_key"]))


def test_trading_is_refused_in_one_clear_sentence(simulator: Simulator) -> None:
    trading = OpenSecTradeContext(filter_trdmarket=TrdMarket.HK, host="127.0.0.1", port=simulator.port)
    try:
        sentence = "trading is not simulated: this OpenD serves quotes alone (protocol 2001); orders need a real one"
        assert trading.get_acc_list() == (RET_ERROR, sentence)
        assert trading.place_order(600.0, 100, LEADER, TrdSide.BUY) == (RET_ERROR, sentence)
    finally:
        trading.close()


def test_ten_thousand_subscriptions_are_refused_at_once_and_nothing_is_kept(client: SdkClient) -> None:
    many = [f"HK.{number:05d}" for number in range(1, 4001)]
    ret, text = client.ctx.subscribe(many, ["QUOTE", "TICKER", "ORDER_BOOK"])
    assert ret == RET_ERROR
    assert "unknown stock" in text
    assert len(text) < 300
    ret, text = client.ctx.subscribe(["HK.00700"] * 3 + many + many, ["QUOTE"])
    assert ret == RET_ERROR
    assert client.ctx.query_subscription()[1]["own_used"] == 0


def test_odd_requests_are_refused_in_words_that_a_terminal_bears(simulator: Simulator) -> None:
    with RawClient(simulator.port) as raw:
        raw.init()
        answer = raw.subscribe(["HK.\x1b[31m", "HK.00700\n"])
        assert answer.retType == RET_ERROR
        assert answer.retMsg.isprintable()
        assert raw.subscribe([LEADER]).retType == RET_OK
        for fields, text in (
            ({"num": 0}, "num 0 is not from 1"),
            ({"num": 3, "orderBookType": 77}, "orderBookType 77 is not known; leave it out"),
            ({"num": 2**31 - 1}, "HK.00700: subscribe to ORDER_BOOK first"),
        ):
            request = pb.load("Qot_GetOrderBook").Request()
            request.c2s.security.market, request.c2s.security.code = 1, "00700"
            for name, value in fields.items():
                setattr(request.c2s, name, value)
            answer = raw.ask(3012, "Qot_GetOrderBook", request)
            assert (answer.retType, answer.retMsg) == (RET_ERROR, text)
