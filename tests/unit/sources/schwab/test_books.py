"""Books of Schwab: what a message becomes, where a symbol's are asked for, and what the day's file says of them."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from hk_tick_collector.core.errors import FeedError
from hk_tick_collector.market.registry import market_of
from hk_tick_collector.records.book import Book, BookPush, PushEntry, RawPush
from hk_tick_collector.sources.books import BookLink, PulledFeed
from hk_tick_collector.sources.schwab import messages
from hk_tick_collector.sources.schwab.books import LISTINGS_AGAIN_SEC, UNLISTED_AGAIN_SEC, BookFeed, BookTaker, Listings
from hk_tick_collector.sources.schwab.books import read_book as read
from hk_tick_collector.store import book_reader
from hk_tick_collector.store.book_writer import BookWriter
from hk_tick_collector.store.connect import SqliteOptions
from hk_tick_collector.store.layout import book_file
from tests.clock import ManualClock

AT_MS = 1_796_022_346_616
NOW_MS = 1_795_204_800_000


def level(price: Any, size: Any) -> dict[str, Any]:
    return {"0": price, "1": size, "2": 2, "3": [{"0": "NSDQ", "1": size, "2": 34_200_000}]}


def told(bids: Any, asks: Any, **more: Any) -> dict[str, Any]:
    return {"key": "AAPL", "0": "AAPL", "1": AT_MS, "2": bids, "3": asks} | more


class Sink:
    def __init__(self) -> None:
        self.pushes: list[RawPush] = []

    def push(self, pushes: Sequence[RawPush]) -> None:
        self.pushes += pushes

    def tell(self, events: Any) -> None: ...


def taken(*contents: Any, service: str = messages.NASDAQ_BOOK) -> tuple[BookTaker, list[RawPush]]:
    sink = Sink()
    taker = BookTaker(sink, lambda: 1_000_000)
    taker.wanted = {(messages.NASDAQ_BOOK, "AAPL"): "US.AAPL"}
    assert taker.take({"service": service, "timestamp": AT_MS, "content": list(contents)})
    return taker, sink.pushes


def read_one(content: dict[str, Any]) -> BookPush:
    _, (raw,) = taken(content)
    return read(raw)


def test_a_message_is_a_whole_book_as_it_came() -> None:
    push = read_one(told([level(84.48, 1), level(84.47, 300.0)], [level(84.5, 40)]))
    assert push == BookPush(
        "US.AAPL", 1_000_000, AT_MS, AT_MS, Book(((84.48, 1, 0), (84.47, 300, 0)), ((84.5, 40, 0),))
    )


@pytest.mark.parametrize(
    ("bids", "asks"),
    [
        ([], []),
        ([level(10, 5)], []),
        ([level(10, 5)], [level(9, 5)]),
        ([level(9, 5), level(10, 5)], [level(11, 0)]),
        ([level(10, -5), level(10, 5)], []),
    ],
)
def test_a_book_that_no_market_should_have_is_kept(bids: Any, asks: Any) -> None:
    book = read_one(told(bids, asks)).book
    assert [len(book.bids), len(book.asks)] == [len(bids), len(asks)]


@pytest.mark.parametrize(
    "content",
    [
        told([level(float("nan"), 5)], []),
        told([level(float("inf"), 5)], []),
        told([level(10**400, 5)], []),
        told([level(10, 10**400)], []),
        told([level(10, 0.5)], []),
        told([level(True, 5)], []),
        told([level("10", 5)], []),
        told([{"0": 10}], []),
        told([5], []),
        told({"0": 10}, []),
        told(None, []),
        {"key": "AAPL", "1": AT_MS, "2": []},
        told([level(10, 5)] * 4001, []),
    ],
)
def test_what_no_book_can_hold_is_unread_and_no_fault_of_ours(content: dict[str, Any]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - as the lane takes it
        read_one(content)


def test_what_is_nested_without_end_ends_no_connection() -> None:
    deep: Any = []
    for _ in range(200_000):
        deep = [deep]
    _, (raw,) = taken(told(deep, []))
    with pytest.raises(ValueError, match="Expecting value"):
        read(raw)
    while deep:  # taken down by hand: Python itself would go as deep
        deep = deep[0]


@pytest.mark.parametrize("when", [None, "soon", -1, 0, 1 << 60, 1.5])
def test_a_time_that_is_none_is_none(when: Any) -> None:
    push = read_one(told([], [], **{"1": when}))
    assert (push.bid_ts_ms, push.ask_ts_ms) == (None, None)


def test_what_nobody_asked_for_goes_nowhere_and_is_said(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    assert taken({"key": "MSFT", "2": [], "3": []})[1] == []
    assert taken(told([], []), service=messages.NYSE_BOOK)[1] == []
    for content in ({"key": 5}, {"key": ["AAPL"]}, {}, "AAPL", None):
        assert taken(content)[1] == []
    assert caplog.text.count("schwab_book_unwanted") >= 2
    assert not BookTaker(Sink()).take({"service": messages.EQUITIES, "content": []})
    for part in ({"service": ["x"]}, {"service": messages.NYSE_BOOK, "content": 5}, {"service": messages.NYSE_BOOK}):
        BookTaker(Sink()).take(part)


class Schwab:
    """What it answers, and what it was asked."""

    def __init__(self) -> None:
        self.exchanges = {"AAPL": "Q", "IBM": "N", "SPY": "P", "OTC": "9", "ODD": 5}
        self.asked: list[list[str]] = []
        self.error = ""

    def ask(self, spelt: Sequence[str]) -> Mapping[str, Any]:
        self.asked.append(list(spelt))
        if self.error:
            raise FeedError(self.error)
        return {one: {"reference": {"exchange": self.exchanges[one]}} for one in spelt if one in self.exchanges}


class Talk:
    """A conversation that says yes."""

    def __init__(self) -> None:
        self.subscribed: dict[str, frozenset[str]] = dict.fromkeys(
            (messages.NYSE_BOOK, messages.NASDAQ_BOOK), frozenset()
        )
        self.asked: list[tuple[str, str, tuple[str, ...]]] = []

    def ask(self, *, add: Sequence[str] = (), remove: Sequence[str] = (), service: str = "") -> Future[None]:
        self.asked.append((service, "add" if add else "remove", tuple(add or remove)))
        self.subscribed[service] = self.subscribed[service].union(add).difference(remove)
        done: Future[None] = Future()
        done.set_result(None)
        return done


def test_each_symbol_is_asked_for_where_it_is_listed_and_once() -> None:
    async def script() -> None:
        schwab, talk, taker = Schwab(), Talk(), BookTaker(Sink())
        feed = BookFeed(talk, taker, Listings(schwab.ask, ManualClock(NOW_MS)))
        await feed.subscribe(["US.AAPL", "US.IBM", "US.SPY"], 5)
        assert talk.asked == [
            (messages.NASDAQ_BOOK, "add", ("AAPL",)),
            (messages.NYSE_BOOK, "add", ("IBM", "SPY")),
        ]
        assert (await feed.subscribed(5)).symbols == {"US.AAPL", "US.IBM", "US.SPY"}
        await feed.subscribe(["US.IBM"], 5)
        assert len(talk.asked) == 2
        assert len(schwab.asked) == 1
        await feed.unsubscribe(["US.IBM", "US.XYZ"], 5)
        assert talk.asked[2:] == [(messages.NYSE_BOOK, "remove", ("IBM",))]
        assert (await feed.subscribed(5)).symbols == {"US.AAPL", "US.SPY"}
        assert feed.no_right(["US.AAPL", "US.SPY"]) == {}
        late = {"service": messages.NASDAQ_BOOK, "content": [told([], [], delayed=True)]}
        taker.take(late)
        assert feed.no_right(["US.AAPL", "US.SPY"]) == {"US.AAPL": "it is marked as delayed"}
        taker.take({"service": messages.NASDAQ_BOOK, "content": [told([], [])]})
        assert feed.no_right(["US.AAPL", "US.SPY"]) == {}
        sink = taker._sink
        assert isinstance(sink, Sink)
        known = len(sink.pushes)
        taker.take({"service": messages.NYSE_BOOK, "content": [told([], [], key="IBM")]})
        assert len(sink.pushes) == known, "its end was said yes to"
        await feed.subscribe(["US.IBM"], 5)
        taker.take({"service": messages.NYSE_BOOK, "content": [told([], [], key="IBM")]})
        assert len(sink.pushes) == known + 1
        assert not isinstance(feed, PulledFeed)

    asyncio.run(script())


@pytest.mark.parametrize(
    ("symbol", "words"),
    [("US.XYZ", "XYZ: Schwab does not know it"), ("US.OTC", "no books of exchange '9'"), ("US.ODD", "exchange 5")],
)
def test_one_without_books_costs_itself_alone_and_is_looked_up_again_later(symbol: str, words: str) -> None:
    async def script() -> None:
        schwab, talk, clock = Schwab(), Talk(), ManualClock(NOW_MS)
        feed = BookFeed(talk, BookTaker(Sink()), Listings(schwab.ask, clock))
        for symbols in (["US.AAPL", symbol], [symbol], [symbol]):
            with pytest.raises(FeedError, match=words):
                await feed.subscribe(symbols, 5)
        assert talk.asked == []
        await feed.subscribe(["US.AAPL"], 5)
        assert len(schwab.asked) == 1
        clock.advance(UNLISTED_AGAIN_SEC)
        schwab.exchanges[symbol[3:]] = "Q"
        await feed.subscribe([symbol], 5)
        assert len(schwab.asked) == 2

    asyncio.run(script())


def test_an_interface_that_fails_is_not_asked_for_each_of_a_hundred() -> None:
    async def script() -> None:
        schwab, clock = Schwab(), ManualClock(NOW_MS)
        listings = Listings(schwab.ask, clock)
        schwab.error = "it was not answered"
        for _ in range(100):
            with pytest.raises(FeedError, match="not answered"):
                await listings.services(["AAPL"])
        assert len(schwab.asked) == 1
        clock.advance(LISTINGS_AGAIN_SEC)
        schwab.error = ""
        assert await listings.services(["AAPL"]) == {"AAPL": messages.NASDAQ_BOOK}

    asyncio.run(script())


@pytest.mark.parametrize("conflated", [True, False])
def test_a_file_says_that_its_source_conflates(tmp_path: Path, conflated: bool) -> None:
    market = market_of("US")
    writer = BookWriter(tmp_path, SqliteOptions(), market.trading_day, lambda: NOW_MS, conflated=conflated)
    raw = RawPush("US.AAPL", NOW_MS * 1000, json.dumps(told([level(10, 5)], [])).encode())
    day = market.trading_day(NOW_MS)
    writer.write(day, [PushEntry(read(raw))], 1)
    heir = writer.abandon()
    heir.write(day, [PushEntry(read(raw._replace(recv_ts_us=NOW_MS * 1000 + 1)))], 1)
    heir.close()
    assert book_reader.is_conflated(book_file(tmp_path, day)) is conflated


def test_a_link_of_schwab_is_one_of_books() -> None:
    class Link:
        books = None
        brokers = None

    assert isinstance(Link(), BookLink)
