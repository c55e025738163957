"""gexbot as a source: ``source.Link`` over ``Polls``, with the day's copies beside it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from hk_tick_collector.core.clock import Clock
from hk_tick_collector.core.errors import FeedError, FeedLost
from hk_tick_collector.market.calendar import TradingCalendar
from hk_tick_collector.market.hours import CONTINUOUS
from hk_tick_collector.market.registry import market_of
from hk_tick_collector.records.snapshot import Series
from hk_tick_collector.sources.gexbot.access import Access
from hk_tick_collector.sources.gexbot.copies import Copies, CopyOptions, Ledger
from hk_tick_collector.sources.gexbot.mapping import SnapshotMapper
from hk_tick_collector.sources.gexbot.polls import Polls
from hk_tick_collector.sources.gexbot.series import MAX_SERIES, SeriesName, nearest, series_of, ticker_of
from hk_tick_collector.sources.remote.conversation import within
from hk_tick_collector.sources.source import Described, Pulled, Ready, Sink, SourceSpec, Subscribed

GRACE_SEC = 2.0  # of the polls after the close: the last second is told a moment later


class GexbotLink:
    """One round of asking. There is no connection to lose: it is lost when nothing is answered, or gexbot says no."""

    def __init__(self, source: GexbotSource, sink: Sink) -> None:
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._loop = asyncio.get_running_loop()
        self._source = source
        self._symbols: dict[str, list[Series]] = {}
        self._polls = Polls(source.access, source.mapper, sink, source.clock, source.is_open, self._report_lost)
        self._copies = Copies(
            source.access, source.mapper, sink, source.calendar, source.clock,
            source.copy_options, source.ledger, source.copied,
            lambda: [asked for series in list(self._symbols.values()) for asked in series],
        )  # fmt: skip

    async def open(self, timeout_sec: float) -> None:
        """The key is there, and gexbot answers."""
        self._polls.start()
        await within(self._polls.opened, timeout_sec, "gexbot did not answer")
        self._copies.start()

    async def ready(self, timeout_sec: float) -> Ready:
        """Whatever answered last time serves; who said no is left alone, and this tells until when."""
        if self.lost.done():
            raise FeedLost(self.lost.result())
        banned = self._source.access.banned
        return Ready(serving=not banned, details={"reason": banned} if banned else {})

    async def subscribe(self, symbols: Sequence[str], timeout_sec: float) -> None:
        """FeedError for one that gexbot does not list."""
        listed = self._polls.tickers
        for symbol in symbols:
            if listed and ticker_of(symbol) not in listed:
                raise FeedError(f"gexbot does not list {ticker_of(symbol)}{nearest(ticker_of(symbol), listed)}")
        series = {symbol: series_of(symbol, self._source.series_names) for symbol in symbols}
        asked = sum(map(len, self._symbols.values())) + sum(map(len, series.values()))
        if asked > MAX_SERIES:
            raise FeedError(
                f"{asked} series a second are more than {MAX_SERIES}: shorten FUTU_SYMBOLS or GEXBOT_SERIES"
            )
        for symbol, of_symbol in series.items():
            self._symbols[symbol] = of_symbol
            self._polls.add(of_symbol)

    async def unsubscribe(self, symbols: Sequence[str], timeout_sec: float) -> None:
        """They are not asked for any more."""
        for symbol in symbols:
            self._polls.remove(self._symbols.pop(symbol, []))

    async def subscribed(self, timeout_sec: float) -> Subscribed:
        """What is asked for, without symbols of which gexbot refuses everything."""
        return Subscribed(
            frozenset(
                symbol
                for symbol, series in self._symbols.items()
                if not all(self._polls.refused(asked) for asked in series)
            )
        )

    async def pull(self, symbol: str, rows: int, push_type: str, timeout_sec: float) -> Pulled:
        """It shows no trades at all."""
        raise FeedError(f"{symbol}: gexbot has no trades")

    async def describe(self, symbols: Sequence[str]) -> Sequence[Described]:
        """It tells nothing of a symbol but its snapshots."""
        return []

    async def trading_days(self, first: str, last: str, timeout_sec: float) -> None:
        """It has no calendar."""

    def close(self) -> None:
        """The threads end by themselves."""
        self._polls.stop()
        self._copies.stop()
        if not self.lost.done():
            self.lost.set_result("closed")

    def _report_lost(self, reason: str) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(lambda: None if self.lost.done() else self.lost.set_result(reason))


class GexbotSource:
    """gexbot with one key. ``copied``: of which series a day's copy is stored."""

    def __init__(
        self,
        spec: SourceSpec,
        api: str,
        key_file: Path,
        series_names: Sequence[SeriesName],
        copy_options: CopyOptions,
        copied: Callable[[str], Collection[Series]],
        clock: Clock,
        *,
        any_time: bool = False,
    ) -> None:
        self.spec = spec
        self.clock = clock
        self.series_names = tuple(series_names)
        self.copy_options = copy_options
        self.copied = copied
        self.ledger = Ledger()
        self.access = Access(api, key_file, clock)
        self.place: Mapping[str, Any] = {"host": self.access.host}
        market = market_of(spec.market)
        self.calendar = TradingCalendar(market)
        self.mapper = SnapshotMapper(market)
        self._any_time = any_time

    def is_open(self) -> bool:
        """May there be new snapshots? gexbot computes them while the market trades."""
        now_ms = self.clock.now_ms()
        if self._any_time or self.calendar.phase(now_ms) in CONTINUOUS:
            return True
        return self.calendar.phase(now_ms - int(GRACE_SEC * 1000)) in CONTINUOUS

    def open(self, sink: Sink) -> GexbotLink:
        """A link that asks nothing yet."""
        return GexbotLink(self, sink)

    def alive(self) -> bool:
        """Each link has threads of its own."""
        return True

    def advice(self, error: FeedError) -> str:
        """The same whatever it was: the error says what failed."""
        return "retrying; hk-tickctl doctor tries each step (docs/gexbot.md)"
