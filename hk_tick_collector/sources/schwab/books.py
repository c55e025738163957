"""Order books of Schwab's streamer: from messages on the connection's thread to a lane, from bytes to a book on the
lane's own, and what a link does of them.

Two services send them, each for the stocks of its exchanges; which one a stock belongs to, its listing says
(``Listings``). Source: Schwab's Streamer Guide. A message holds the whole book of a stock, and they are throttled: of
several changes in between only the last one is seen, and nothing tells that there were some.

- The time of both sides is field 1, the "market snapshot time".
- A level has a price and a size; who makes it, and how many do, is not recorded: it is no number of orders.
- A message without one of its sides is no whole book and no empty one: it is counted as unread.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, Protocol

from hk_tick_collector.core.clock import Clock
from hk_tick_collector.core.errors import FeedError, FeedLost, FeedTimeout
from hk_tick_collector.core.logline import RateLimitedLog
from hk_tick_collector.core.text import cut
from hk_tick_collector.records.book import Book, BookPush, Level, RawPush, exact_price
from hk_tick_collector.records.book_codec import MAX_VOLUME
from hk_tick_collector.sources.books import BookSink
from hk_tick_collector.sources.remote.conversation import within
from hk_tick_collector.sources.schwab.messages import (
    ASKS,
    BIDS,
    BOOK_TIME,
    LEVEL_PRICE,
    LEVEL_SIZE,
    NASDAQ_BOOK,
    NYSE_BOOK,
    ServiceClosed,
)
from hk_tick_collector.sources.schwab.symbols import at_schwab
from hk_tick_collector.sources.source import Subscribed

log = logging.getLogger(__name__)

SERVICES = frozenset({NYSE_BOOK, NASDAQ_BOOK})
# Field "exchange" of a listing: New York, NYSE American, NYSE Arca; Nasdaq.
SERVICE_OF = {"N": NYSE_BOOK, "A": NYSE_BOOK, "P": NYSE_BOOK, "Q": NASDAQ_BOOK}
LISTINGS_A_REQUEST = 50  # some 400 bytes each, of an answer that is bounded
UNLISTED_AGAIN_SEC = 300.0
MAX_LEVELS = 4000  # a side
MAX_PRICE = 1e12
MAX_TIME_MS = 1 << 42
LISTINGS_AGAIN_SEC = 30.0  # after a failure
CLOSED_SEC = 4.0  # a service that is not available: less than it takes until all of its symbols are asked for again


class BookTaker:
    """Takes the parts of messages that hold books. One instance for one connection; its thread alone calls ``take``."""

    def __init__(self, sink: BookSink, now_us: Callable[[], int] = lambda: time.time_ns() // 1000) -> None:
        self.wanted: Mapping[
            tuple[str, str], str
        ] = {}  # ours by service and Schwab's spelling; replaced, never changed
        self.late: frozenset[str] = frozenset()  # of which the newest was marked as delayed; likewise
        self.last_us = 0
        self._sink = sink
        self._now_us = now_us
        self._log = RateLimitedLog(log, period_sec=60)

    def take(self, part: Mapping[str, Any]) -> bool:
        """Is it one of books? Then those that are wanted are handed on as they came."""
        service, content = part.get("service"), part.get("content")
        if not isinstance(service, str) or service not in SERVICES:
            return False
        recv_ts_us = self._now_us()
        pushes = [push for push in map(self._push_of(service, recv_ts_us), _objects(content)) if push is not None]
        if pushes:
            self.last_us = recv_ts_us
            self._sink.push(pushes)
        return True

    def _push_of(self, service: str, recv_ts_us: int) -> Callable[[Mapping[str, Any]], RawPush | None]:
        def push_of(content: Mapping[str, Any]) -> RawPush | None:
            key = content.get("key")
            symbol = self.wanted.get((service, key)) if isinstance(key, str) else None
            if symbol is None:
                reason = f"nobody asked {service} for {cut(ascii(key))}"
                self._log.log(logging.WARNING, "schwab_book_unwanted", reason=reason)
                return None
            if (content.get("delayed") is True) is not (symbol in self.late):
                self.late = self.late.symmetric_difference({symbol})
            return RawPush(symbol, recv_ts_us, _packed(content))

        return push_of


def _packed(content: Mapping[str, Any]) -> bytes:
    """To be read later; empty for what is nested too deeply to be any book."""
    try:
        return json.dumps(content, separators=(",", ":")).encode()
    except RecursionError:
        return b""


def _objects(content: Any) -> Iterable[Mapping[str, Any]]:
    return [book for book in content if isinstance(book, dict)] if isinstance(content, list) else []


def read_book(raw: RawPush) -> BookPush:
    """The push as a book. ValueError for one that holds values no book can have, or lacks a side; one that no market
    should have, crossed or out of order, is kept as it came."""
    told = json.loads(raw.message)
    at_ms = told.get(BOOK_TIME)
    at_ms = at_ms if type(at_ms) is int and 0 < at_ms < MAX_TIME_MS else None
    return BookPush(raw.symbol, raw.recv_ts_us, at_ms, at_ms, Book(_side(told, BIDS), _side(told, ASKS)))


def _side(told: Mapping[str, Any], name: str) -> tuple[Level, ...]:
    levels = told.get(name)
    if not isinstance(levels, list):
        raise ValueError(f"a book without its {'bids' if name == BIDS else 'asks'}")
    if len(levels) > MAX_LEVELS:
        raise ValueError(f"a side of {len(levels)} levels, more than {MAX_LEVELS}")
    return tuple(map(_level, levels))


def _level(told: Any) -> Level:
    if not isinstance(told, dict):
        raise ValueError(f"a level that is {cut(ascii(told))}")
    price, size = _number(told, LEVEL_PRICE), _number(told, LEVEL_SIZE)
    if not -MAX_PRICE < price < MAX_PRICE or not -MAX_VOLUME < size < MAX_VOLUME or size != int(size):
        raise ValueError(f"a level of {cut(ascii(size))} shares at {cut(ascii(price))}")
    return exact_price(float(price)), int(size), 0


def _number(told: Mapping[str, Any], name: str) -> float:
    """As it was told; NaN for what is none."""
    value = told.get(name)
    return value if type(value) in (int, float) else math.nan  # type: ignore[return-value]


class Listings:
    """Which service has the books of a symbol. Kept over connections; asked for on a thread, what is not known yet."""

    def __init__(self, ask: Callable[[Sequence[str]], Mapping[str, Any]], clock: Clock) -> None:
        """``ask``: for symbols in Schwab's spelling, its answer. FeedError."""
        self._ask = ask
        self._clock = clock
        self._services: dict[str, str] = {}
        self._unlisted: dict[str, tuple[float, str]] = {}  # when it was asked for, and why it has none
        self._failed: tuple[float, str] | None = None  # when it was asked in vain, and why

    async def services(self, spelt: Sequence[str]) -> Mapping[str, str]:
        """Of each symbol. FeedError for one that has none, with the reason."""
        now = self._clock.monotonic()
        unknown = [
            name
            for name in spelt
            if name not in self._services and now - self._unlisted.get(name, (-math.inf, ""))[0] >= UNLISTED_AGAIN_SEC
        ]
        for at in range(0, len(unknown), LISTINGS_A_REQUEST):
            part = unknown[at : at + LISTINGS_A_REQUEST]
            self._note(part, await self._asked(part))
        for name in spelt:
            if name not in self._services:
                raise FeedError(self._unlisted[name][1])
        return {name: self._services[name] for name in spelt}

    async def _asked(self, part: Sequence[str]) -> Mapping[str, Any]:
        """Not again soon after a failure, however many ask."""
        now = self._clock.monotonic()
        if self._failed is not None and now - self._failed[0] < LISTINGS_AGAIN_SEC:
            raise FeedError(self._failed[1])
        try:
            return await asyncio.to_thread(self._ask, part)
        except FeedError as exc:
            self._failed = now, str(exc)
            raise

    def _note(self, asked: Sequence[str], answer: Mapping[str, Any]) -> None:
        for name in asked:
            told = answer.get(name)
            reference = told.get("reference") if isinstance(told, dict) else None
            exchange = reference.get("exchange") if isinstance(reference, dict) else None
            service = SERVICE_OF.get(exchange) if isinstance(exchange, str) else None
            if service is not None:
                self._services[name] = service
            else:
                why = "does not know it" if reference is None else f"has no books of exchange {cut(ascii(exchange))}"
                self._unlisted[name] = self._clock.monotonic(), f"{name}: Schwab {why}"


class Asking(Protocol):
    """What a conversation does for the feed."""

    subscribed: dict[str, frozenset[str]]

    def ask(self, *, add: Sequence[str] = (), remove: Sequence[str] = (), service: str = ...) -> Future[None]:
        """See ``Conversation.ask``."""


class BookFeed:
    """``books.StateFeed`` of one connection. Schwab cannot be asked for a book."""

    def __init__(self, talk: Asking, taker: BookTaker, listings: Listings) -> None:
        self._talk = talk
        self._taker = taker
        self._listings = listings
        self._places: dict[str, tuple[str, str]] = {}  # of what is subscribed: service and Schwab's spelling
        self._closed: dict[str, tuple[float, str]] = {}  # services that were not to be had: monotonic, and why

    async def subscribe(self, symbols: Sequence[str], timeout_sec: float) -> None:
        """FeedError for one without a service, and with the streamer's words. Where one of two services says no, what
        the other has said yes to stays subscribed, and is found so when it is asked for again."""
        spelt = {symbol: at_schwab(symbol) for symbol in symbols}
        services = await self._listings.services(list(spelt.values()))
        by_service: defaultdict[str, list[str]] = defaultdict(list)
        for symbol, theirs in spelt.items():
            place = services[theirs], theirs
            self._places[symbol] = place
            self._taker.wanted = {**self._taker.wanted, place: symbol}
            if theirs not in self._talk.subscribed[place[0]]:
                by_service[place[0]].append(theirs)
        errors = [await self._asked(service, keys, timeout_sec) for service, keys in by_service.items()]
        for error in errors:
            if error is not None:
                raise error

    async def _asked(self, service: str, keys: Sequence[str], timeout_sec: float) -> FeedError | None:
        """What one service says. A whole one that is not to be had is not asked for each symbol of a list."""
        now = time.monotonic()
        closed_at, why = self._closed.get(service, (-math.inf, ""))
        if now - closed_at < CLOSED_SEC:
            return FeedError(why)
        try:
            asked = self._talk.ask(add=keys, service=service)
            await within(asked, timeout_sec, f"the subscription to {service} was not answered")
        except FeedLost:
            raise
        except FeedError as exc:
            if isinstance(exc, ServiceClosed):
                self._closed[service] = now, str(exc)
            return exc
        return None

    async def unsubscribe(self, symbols: Sequence[str], timeout_sec: float) -> None:
        """What comes from then on goes nowhere, whatever becomes of it at Schwab; an end that is not answered is one,
        too. FeedError: it was refused, and these are sent as before."""
        by_service: defaultdict[str, list[str]] = defaultdict(list)
        for service, theirs in (self._places[symbol] for symbol in symbols if symbol in self._places):
            by_service[service].append(theirs)
        for service, keys in by_service.items():
            asked = self._talk.ask(remove=keys, service=service)
            with contextlib.suppress(FeedTimeout):
                await within(asked, timeout_sec, f"the end of a subscription to {service} was not answered")
        for symbol in symbols:
            self._places.pop(symbol, None)
        self._taker.wanted = {
            place: symbol for place, symbol in self._taker.wanted.items() if symbol not in frozenset(symbols)
        }

    async def subscribed(self, timeout_sec: float) -> Subscribed:
        """What was said yes to on this connection. How many there may be, Schwab does not say."""
        there = self._talk.subscribed
        return Subscribed(
            frozenset(symbol for symbol, (service, theirs) in self._places.items() if theirs in there[service])
        )

    def no_right(self, symbols: Sequence[str]) -> Mapping[str, str]:
        """Books that come late are not watched."""
        late = self._taker.late
        return {symbol: "it is marked as delayed" for symbol in symbols if symbol in late and symbol in self._places}

    def last_us(self) -> int:
        """When the last push came."""
        return self._taker.last_us
