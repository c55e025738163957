"""dxLink as a source: ``source.Link`` over a ``Conversation``."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from hk_tick_collector.core.clock import Clock
from hk_tick_collector.core.errors import FeedError, FeedLost
from hk_tick_collector.market.registry import market_of
from hk_tick_collector.records.tick import PUSH_TYPE_BACKFILL
from hk_tick_collector.sources.dxlink.conversation import Conversation
from hk_tick_collector.sources.dxlink.history import Past
from hk_tick_collector.sources.dxlink.mapping import TradeMapper
from hk_tick_collector.sources.dxlink.symbols import Venue, at_dxlink
from hk_tick_collector.sources.dxlink.tokens import FixedTokens, TastyTokens, Tokens
from hk_tick_collector.sources.plausible import PlausibleDays
from hk_tick_collector.sources.remote.conversation import Loss, within
from hk_tick_collector.sources.source import Described, Pulled, Ready, Sink, SourceSpec, Subscribed


class DxLink:
    """One connection. The server acknowledges no subscription: what was asked for counts as subscribed."""

    def __init__(self, source: DxLinkSource, sink: Sink) -> None:
        self._loss = Loss()
        self.lost: asyncio.Future[str] = self._loss.future
        self._source = source
        mapper = TradeMapper(source.market, source.days, source.ours)
        past = None
        if source.past is not None:
            past = source.past, TradeMapper(source.market, source.days, source.ours, PUSH_TYPE_BACKFILL)
        self._talk = Conversation(source.tokens, mapper, sink, source.clock, self._loss.report, past)
        self._dx: dict[str, str] = {}  # of what is subscribed: ours and dxFeed's spelling

    async def open(self, timeout_sec: float) -> None:
        """Connected, let in, and a channel for events is open."""
        self._talk.start()
        await within(self._talk.opened, timeout_sec, "no greeting")

    async def ready(self, timeout_sec: float) -> Ready:
        """Let in is able to serve. The server promises a message a minute, whatever trades: without one the connection
        is lost, and until then nothing speaks against it."""
        if self.lost.done():
            raise FeedLost(self.lost.result())
        return Ready(serving=True)

    async def subscribe(self, symbols: Sequence[str], timeout_sec: float) -> None:
        """FeedError for one that dxFeed has no spelling for."""
        spelt = {symbol: at_dxlink(symbol, self._source.venues) for symbol in symbols}
        self._source.ours.update({theirs: ours for ours, theirs in spelt.items()})
        await within(self._talk.ask(add=list(spelt.values())), timeout_sec, "the subscription was not sent")
        self._dx.update(spelt)

    async def unsubscribe(self, symbols: Sequence[str], timeout_sec: float) -> None:
        """Their events may come for a moment more, and go nowhere (``Intake.wanted``)."""
        spelt = [self._dx[symbol] for symbol in symbols if symbol in self._dx]
        await within(self._talk.ask(remove=spelt), timeout_sec, "the subscription was not sent")
        for symbol in symbols:
            self._dx.pop(symbol, None)

    async def subscribed(self, timeout_sec: float) -> Subscribed:
        """What was asked for on this connection."""
        there = self._talk.subscribed
        return Subscribed(frozenset(symbol for symbol, theirs in self._dx.items() if theirs in there))

    async def pull(self, symbol: str, rows: int, push_type: str, timeout_sec: float) -> Pulled:
        """The past comes by itself, where it is asked for (``history``)."""
        raise FeedError(f"{symbol}: dxLink cannot be asked for its newest trades")

    async def describe(self, symbols: Sequence[str]) -> Sequence[Described]:
        """dxFeed's spelling, as the name, and what is counted."""
        unit = "contracts" if self._source.market.code == "CME" else "shares"
        currency = self._source.market.currency
        return [
            Described(symbol, name=self._dx[symbol], unit=unit, currency=currency)
            for symbol in symbols
            if symbol in self._dx
        ]

    async def trading_days(self, first: str, last: str, timeout_sec: float) -> None:
        """It has no calendar."""

    def close(self) -> None:
        """The thread ends by itself."""
        self._talk.stop()
        self._loss.tell("closed")


class DxLinkSource:
    """One endpoint, on one market. ``url`` None: TastyTrade names it. ``history``: trades that were missed are asked
    for."""

    def __init__(
        self,
        spec: SourceSpec,
        api: str,
        url: str | None,
        secrets_file: Path | None,
        venues: Sequence[Venue],
        clock: Clock,
        *,
        history: bool = False,
    ) -> None:
        self.spec = spec
        self.clock = clock
        self.venues = tuple(venues)
        self.market = market_of(spec.market)
        self.days = PlausibleDays(self.market)
        self.past = Past(self.market, clock) if history else None
        self.ours: dict[str, str] = {}  # of all that was ever subscribed, by dxFeed's spelling; only ever added to
        if url is None:
            assert secrets_file is not None  # the settings ask for it
            self.tokens: Tokens = TastyTokens(api, secrets_file, clock)
        else:
            self.tokens = FixedTokens(url, secrets_file, clock)
        self.place: Mapping[str, Any] = {"host": urlsplit(url or api).hostname or ""}

    def open(self, sink: Sink) -> DxLink:
        """A link that is not connected."""
        return DxLink(self, sink)

    def alive(self) -> bool:
        """Each link has a thread of its own."""
        return True

    def advice(self, error: FeedError) -> str:
        """The same whatever it was: the error says which step failed."""
        return "retrying; hk-tickctl doctor tries each step (docs/dxlink.md)"
