"""A real OpenQuoteContext on the simulator: order books, broker queues and everything else that is made of prints."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from futu import RET_ERROR, RET_OK, BrokerHandlerBase, OrderBookHandlerBase, OrderBookType, SubType

from hk_tick_collector.opend_sim.depth_truth import read_depth_truth
from tests.harness import Simulator, ended, wait_until
from tests.integration.sim_client import SdkClient

LEADER = "HK.00700"


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


@pytest.fixture(scope="module")
def book_truth(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("truth") / "books.csv"


@pytest.fixture(scope="module")
def simulator(tmp_path_factory: pytest.TempPathFactory, book_truth: Path) -> Iterator[Simulator]:
    options = ["--always-open", "--rate", "60", "--symbols-count", "6", "--book-truth", book_truth]
    simulator = Simulator(tmp_path_factory.mktemp("sim"), *options, "--quota", "30", "--no-rate-limits")
    with ended(simulator):
        yield simulator


@pytest.fixture
def client(simulator: Simulator) -> Iterator[SdkClient]:
    with SdkClient(simulator.port) as client:
        yield client


def test_books_are_pushed_pulled_and_those_of_the_truth_file(client: SdkClient, book_truth: Path) -> None:
    books = Books()
    client.ctx.set_handler(books)
    assert client.ctx.subscribe([LEADER], [SubType.TICKER, SubType.ORDER_BOOK])[0] == RET_OK
    wait_until(lambda: len(books.kept) > 50, "50 books")
    ret, pulled = client.ctx.get_order_book(LEADER, 3)
    assert ret == RET_OK
    assert (len(pulled["Bid"]), len(pulled["Ask"]), pulled["code"]) == (3, 3, LEADER)
    ret, subscriptions = client.ctx.query_subscription()
    assert subscriptions["own_used"] == 2  # a code and a type each
    client.ctx.close()
    first, *live = books.kept
    assert (first["svr_recv_time_bid"], first["svr_recv_time_ask"]) == ("", "")
    made = [
        ([tuple(level) for level in state.depth.bids], [tuple(level) for level in state.depth.asks])
        for state, fate, _ in read_depth_truth(book_truth)
        if state.symbol == LEADER and fate == "sent"
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
