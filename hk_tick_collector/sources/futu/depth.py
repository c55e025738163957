"""What a link to OpenD does of order books, and of broker queues: a ``PulledFeed`` each."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence

from hk_tick_collector.core.errors import FeedError
from hk_tick_collector.records.book import Book, BrokerQueue
from hk_tick_collector.sources.books import StateFeed
from hk_tick_collector.sources.futu.books import BookHandler, book_of, queue_of, read_book, read_brokers
from hk_tick_collector.sources.futu.sdk import Connection
from hk_tick_collector.sources.source import Subscribed

BOOK_LEVELS = 1000  # asked for; OpenD gives what the right shows


class _Feed:
    """What both share: the newest pushes, in the handler's hand."""

    def __init__(self, connection: Connection, handler: BookHandler, no_right: Callable[[], str | None]) -> None:
        self._no_right = no_right
        self._connection = connection
        self._handler = handler

    def follow(self, symbol: str) -> None:
        """From its newest push on."""
        handler = self._handler
        handler.trailed = ""  # so that the network thread adds nothing meanwhile
        handler.trail.clear()
        newest = handler.newest.get(symbol)
        if newest is not None:
            handler.trail.append(newest)
        handler.trailed = symbol

    def no_right(self, symbols: Sequence[str]) -> Mapping[str, str]:
        """A right is the account's: to all or to none."""
        why = self._no_right()
        return {} if why is None else dict.fromkeys(symbols, why)

    def last_us(self) -> int:
        """When the last push came."""
        return self._handler.last_us

    def _want(self, symbols: Sequence[str]) -> list[str]:
        self._handler.wanted = self._handler.wanted.union(symbols)
        return list(symbols)

    def _let_go(self, symbols: Sequence[str]) -> None:
        """OpenD said yes: what it pushes all the same goes nowhere."""
        self._handler.wanted = self._handler.wanted.difference(symbols)


class BookFeed(_Feed):
    """Order books. Each takes a subscription of its own from the quota."""

    async def subscribe(self, symbols: Sequence[str], timeout_sec: float) -> None:
        """As deep as the account's right shows."""
        await self._connection.subscribe_books(self._want(symbols), timeout_sec)

    async def unsubscribe(self, symbols: Sequence[str], timeout_sec: float) -> None:
        """OpenD takes it only a minute after they were subscribed."""
        await self._connection.unsubscribe_books(list(symbols), timeout_sec)
        self._let_go(symbols)

    async def subscribed(self, timeout_sec: float) -> Subscribed:
        """As OpenD has it."""
        info = await self._connection.subscriptions(timeout_sec)
        return Subscribed(info.book_codes, info.remain_quota)

    async def pull(self, symbol: str, timeout_sec: float) -> Book:
        """``get_order_book``."""
        try:
            return book_of(await self._connection.order_book(symbol, BOOK_LEVELS, timeout_sec))
        except ValueError as exc:
            raise FeedError(f"OpenD's book of {symbol} cannot be read: {exc}") from exc

    def followed(self) -> Iterator[Book]:
        """Read one by one: each costs some 10 us."""
        for raw in list(self._handler.trail):
            with contextlib.suppress(ValueError):
                yield read_book(raw).book


class BrokerFeed(_Feed):
    """Broker queues. Each takes a subscription of its own from the quota, beside the one of its book."""

    async def subscribe(self, symbols: Sequence[str], timeout_sec: float) -> None:
        """As long as the account's right shows."""
        await self._connection.subscribe_brokers(self._want(symbols), timeout_sec)

    async def unsubscribe(self, symbols: Sequence[str], timeout_sec: float) -> None:
        """OpenD takes it only a minute after they were subscribed."""
        await self._connection.unsubscribe_brokers(list(symbols), timeout_sec)
        self._let_go(symbols)

    async def subscribed(self, timeout_sec: float) -> Subscribed:
        """As OpenD has it."""
        info = await self._connection.subscriptions(timeout_sec)
        return Subscribed(info.broker_codes, info.remain_quota)

    async def pull(self, symbol: str, timeout_sec: float) -> BrokerQueue:
        """``get_broker_queue``."""
        try:
            return queue_of(await self._connection.broker_queue(symbol, timeout_sec))
        except ValueError as exc:
            raise FeedError(f"OpenD's broker queue of {symbol} cannot be read: {exc}") from exc

    def followed(self) -> Iterator[BrokerQueue]:
        """Read one by one."""
        for raw in list(self._handler.trail):
            with contextlib.suppress(ValueError):
                yield read_brokers(raw).queue


def book_feed(
    connection: Connection, handler: BookHandler | None, no_right: Callable[[], str | None]
) -> StateFeed | None:
    """None: nobody takes books."""
    return None if handler is None else BookFeed(connection, handler, no_right)


def broker_feed(
    connection: Connection, handler: BookHandler | None, no_right: Callable[[], str | None]
) -> StateFeed | None:
    """None: nobody takes broker queues."""
    return None if handler is None else BrokerFeed(connection, handler, no_right)
