"""Schwab's streamer as a source: ``source.Link`` over a ``Conversation``."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from hk_tick_collector.core.clock import Clock
from hk_tick_collector.core.errors import FeedError, FeedLost
from hk_tick_collector.market.registry import market_of
from hk_tick_collector.sources.books import BookSink, StateFeed
from hk_tick_collector.sources.plausible import PlausibleDays
from hk_tick_collector.sources.remote.conversation import Loss, within
from hk_tick_collector.sources.schwab.books import BookFeed, BookTaker, Listings
from hk_tick_collector.sources.schwab.conversation import Conversation
from hk_tick_collector.sources.schwab.mapping import LastTradeMapper
from hk_tick_collector.sources.schwab.messages import EQUITIES
from hk_tick_collector.sources.schwab.symbols import at_schwab
from hk_tick_collector.sources.schwab.tokenfile import HOW
from hk_tick_collector.sources.schwab.tokens import Tokens
from hk_tick_collector.sources.source import Described, Pulled, Ready, Sink, SourceSpec, Subscribed


class SchwabLink:
    """One connection. What the streamer said yes to counts as subscribed."""

    def __init__(self, source: SchwabSource, sink: Sink) -> None:
        self._loss = Loss()
        self.lost: asyncio.Future[str] = self._loss.future
        self._source = source
        mapper = LastTradeMapper(source.market, source.days, source.ours)
        taker = BookTaker(source.books) if source.books is not None else None
        self._talk = Conversation(source.tokens, mapper, sink, source.clock, self._loss.report, taker)
        self.books: StateFeed | None = None if taker is None else BookFeed(self._talk, taker, source.listings)
        self.brokers: StateFeed | None = None
        self._spelt: dict[str, str] = {}  # of what is subscribed: ours and Schwab's spelling

    async def open(self, timeout_sec: float) -> None:
        """Connected and logged in."""
        self._talk.start()
        await within(self._talk.opened, timeout_sec, "no answer to the login")

    async def ready(self, timeout_sec: float) -> Ready:
        """Let in is able to serve. A heartbeat comes every few seconds, whatever trades: without one the connection is
        lost, and until then nothing speaks against it."""
        if self.lost.done():
            raise FeedLost(self.lost.result())
        talk = self._talk
        clock_ms = talk.server_ms and talk.server_ms + self._source.clock.now_ms() - talk.server_heard_ms
        ends_ms = self._source.tokens.login_ends_ms
        return Ready(serving=True, clock_ms=clock_ms, login_ends_ms=ends_ms, login_advice=HOW)

    async def subscribe(self, symbols: Sequence[str], timeout_sec: float) -> None:
        """FeedError for one that Schwab has no spelling for, and with the streamer's words."""
        spelt = {symbol: at_schwab(symbol) for symbol in symbols}
        self._source.ours.update({theirs: ours for ours, theirs in spelt.items()})
        await within(self._talk.ask(add=list(spelt.values())), timeout_sec, "the subscription was not answered")
        self._spelt.update(spelt)

    async def unsubscribe(self, symbols: Sequence[str], timeout_sec: float) -> None:
        """What comes for a moment more goes nowhere (``Intake.wanted``)."""
        spelt = [self._spelt[symbol] for symbol in symbols if symbol in self._spelt]
        await within(self._talk.ask(remove=spelt), timeout_sec, "the end of a subscription was not answered")
        for symbol in symbols:
            self._spelt.pop(symbol, None)

    async def subscribed(self, timeout_sec: float) -> Subscribed:
        """What was said yes to on this connection."""
        there = self._talk.subscribed[EQUITIES]
        return Subscribed(frozenset(symbol for symbol, theirs in self._spelt.items() if theirs in there))

    async def pull(self, symbol: str, rows: int, push_type: str, timeout_sec: float) -> Pulled:
        """It shows no trades of the past."""
        raise FeedError(f"{symbol}: Schwab cannot be asked for trades of the past")

    async def describe(self, symbols: Sequence[str]) -> Sequence[Described]:
        """Schwab's spelling, as the name."""
        currency = self._source.market.currency
        return [
            Described(symbol, name=self._spelt[symbol], unit="shares", currency=currency)
            for symbol in symbols
            if symbol in self._spelt
        ]

    async def trading_days(self, first: str, last: str, timeout_sec: float) -> None:
        """It has no calendar."""

    def close(self) -> None:
        """The thread ends by itself."""
        self._talk.stop()
        self._loss.tell("closed")


class SchwabSource:
    """One login, on US stocks."""

    def __init__(
        self,
        spec: SourceSpec,
        api: str,
        secrets_file: Path,
        token_file: Path,
        clock: Clock,
        books: BookSink | None = None,
    ) -> None:
        """``books``: who takes order books; None: nobody does, and none is asked for."""
        self.spec = spec
        self.clock = clock
        self.market = market_of(spec.market)
        self.days = PlausibleDays(self.market)
        self.ours: dict[str, str] = {}  # of all that was ever subscribed, by Schwab's spelling; only ever added to
        self.tokens = Tokens(api, secrets_file, token_file, clock)
        self.books = books
        self.listings = Listings(self.tokens.listings, clock)
        self.place: Mapping[str, Any] = {"host": urlsplit(api).hostname or ""}

    def open(self, sink: Sink) -> SchwabLink:
        """A link that is not connected."""
        return SchwabLink(self, sink)

    def alive(self) -> bool:
        """Each link has a thread of its own."""
        return True

    def advice(self, error: FeedError) -> str:
        """The same whatever it was: the error says which step failed."""
        return "retrying; hk-tickctl doctor tries each step (docs/schwab.md)"
