"""A feed on a scripted OpenD and a clock of its own: nothing waits, and every request is on record."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

from futu.common.pb import Qot_Common_pb2, Qot_GetTicker_pb2, Qot_UpdateTicker_pb2

from hk_tick_collector.core.clock import Clock
from hk_tick_collector.core.errors import FeedError, FeedLost, FeedTimeout
from hk_tick_collector.core.facts import DayFact, Fact
from hk_tick_collector.core.progress import BookProgress, FeedProgress
from hk_tick_collector.market.calendar import TradingCalendar
from hk_tick_collector.records.tick import RejectedTick, Tick
from hk_tick_collector.sources.books import BookKeeper, BookSink
from hk_tick_collector.sources.completeness import completeness_of
from hk_tick_collector.sources.futu import sdk
from hk_tick_collector.sources.futu.answers import GlobalState, SubscriptionInfo, SymbolInfo
from hk_tick_collector.sources.futu.link import FutuLink, FutuSource
from hk_tick_collector.sources.futu.mapping import TickMapper
from hk_tick_collector.sources.futu.markets import HK, MARKETS, FutuMarket
from hk_tick_collector.sources.futu.push import PushHandler
from hk_tick_collector.sources.intake import Intake
from hk_tick_collector.sources.options import FeedOptions
from hk_tick_collector.sources.plausible import PlausibleDays
from hk_tick_collector.sources.pull import TickPuller
from hk_tick_collector.sources.session import FeedSession
from tests.episodes.clockwork import VirtualClock, VirtualLoop
from tests.unit.sources.desk import DAY, SYMBOL, run

__all__ = ["DAY", "SYMBOL", "Bench", "FakeConnection", "FakeOpenD", "play", "run"]


def play(work: Coroutine[Any, Any, None]) -> None:
    """Run it in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(work)


def place_of(symbol: str) -> tuple[int, FutuMarket]:
    """OpenD's number of the symbol's place, and its market."""
    prefix = symbol.partition(".")[0]
    return next((n, market) for market in MARKETS.values() for n, place in market.prefixes.items() if place == prefix)


def local_time(tick: Tick) -> str:
    """``2026-11-20 09:30:00.123`` on the market's own clock."""
    zone = place_of(tick.symbol)[1].market.zone
    return f"{zone.date_and_clock(tick.ts_ms)}.{tick.ts_ms % 1000:03d}"


def message_of(tick: Tick) -> Any:
    """The tick as OpenD tells it; one without a price cannot be read."""
    message = Qot_Common_pb2.Ticker(
        time=local_time(tick), sequence=tick.seq or 0, dir=1, price=tick.price, volume=tick.volume,
        turnover=tick.turnover, type=1, timestamp=tick.ts_ms / 1000,
    )  # fmt: skip
    if tick.price is None:
        message.price = -1.0
    return message


def push_of(ticks: Sequence[Tick]) -> Any:
    push = Qot_UpdateTicker_pb2.Response(retType=0)
    push.s2c.security.market = place_of(ticks[0].symbol)[0]
    push.s2c.security.code = ticks[0].symbol.partition(".")[2]
    push.s2c.tickerList.extend(map(message_of, ticks))
    return push


@dataclass
class FakeOpenD:
    """What it has and how it behaves. ``trouble`` may raise or return seconds that an answer takes."""

    clock: Clock
    ticks: dict[str, list[Tick]] = field(default_factory=dict)
    books: dict[str, Any] = field(default_factory=dict)  # Qot_GetOrderBook.S2C, by code
    refused_books: set[str] = field(default_factory=set)
    requests: list[tuple[str, str, int]] = field(default_factory=list)  # word, code, rows
    asked_at_sec: list[float] = field(default_factory=list)
    trouble: Callable[[str, str], float | None] = lambda word, code: None
    refused: set[str] = field(default_factory=set)
    static: dict[str, SymbolInfo] = field(default_factory=dict)
    quota: int = 100
    ready: bool = True
    market_state: str = "Morning"
    connections: list[FakeConnection] = field(default_factory=list)
    in_flight: int = 0
    most_in_flight: int = 0

    def connect(
        self,
        host: str,
        port: int,
        on_push: Any,
        on_notice: Any,
        market: FutuMarket,
        on_books: Any,
        on_brokers: Any = None,
    ) -> FakeConnection:
        self.connections.append(FakeConnection(self, on_push, on_notice, on_books))
        return self.connections[-1]

    def pulls(self, symbol: str | None = None) -> list[tuple[str, int]]:
        """Codes and rows of all ticks that were asked for."""
        return [(code, rows) for word, code, rows in self.requests if word == "ticks" and symbol in (None, code)]


class FakeConnection:
    """What ``sources.futu.sdk.Connection`` promises."""

    def __init__(self, opend: FakeOpenD, on_push: Any = None, on_notice: Any = None, on_books: Any = None) -> None:
        self.opend, self.on_push, self.on_notice, self.on_books = opend, on_push, on_notice, on_books
        self.subscribed: list[str] = []
        self.books: list[str] = []
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def lose(self, reason: str = "reset by peer") -> None:
        if not self.lost.done():
            self.lost.set_result(reason)

    close = lose

    async def _ask(self, word: str, timeout_sec: float, code: str = "", rows: int = 0) -> None:
        opend = self.opend
        opend.requests.append((word, code, rows))
        opend.asked_at_sec.append(opend.clock.monotonic())
        opend.in_flight += 1
        opend.most_in_flight = max(opend.most_in_flight, opend.in_flight)
        try:
            takes_sec = opend.trouble(word, code)
            delay_sec = 0.01 if takes_sec is None else takes_sec
            await asyncio.wait({self.lost}, timeout=min(delay_sec, timeout_sec))
            if self.lost.done():
                raise FeedLost(self.lost.result())
            if delay_sec > timeout_sec:
                raise FeedTimeout(f"no answer in {timeout_sec:g} s")
        finally:
            opend.in_flight -= 1

    async def open(self, timeout_sec: float) -> None:
        await self._ask("open", timeout_sec)

    async def global_state(self, timeout_sec: float) -> GlobalState:
        await self._ask("state", timeout_sec)
        return GlobalState(self.opend.ready, "Ready", self.opend.market_state, 1011, self.opend.clock.now_ms() // 1000)

    async def subscriptions(self, timeout_sec: float, *, all_connections: bool = False) -> SubscriptionInfo:
        await self._ask("list", timeout_sec)
        used = len(self.subscribed) + len(self.books)
        left = self.opend.quota - used
        return SubscriptionInfo(frozenset(self.subscribed), left, used, frozenset(self.books))

    async def subscribe_tickers(self, codes: list[str], timeout_sec: float, *, push: bool = True) -> None:
        await self._ask("subscribe", timeout_sec, " ".join(codes))
        bad = sorted(self.opend.refused.intersection(codes))
        if bad:
            raise FeedError(f"unknown stock {bad[0]}")
        self.subscribed += codes

    async def unsubscribe_tickers(self, codes: list[str], timeout_sec: float) -> None:
        await self._ask("unsubscribe", timeout_sec, " ".join(codes))
        self.subscribed = [code for code in self.subscribed if code not in codes]

    async def subscribe_books(self, codes: list[str], timeout_sec: float) -> None:
        await self._ask("subscribe books", timeout_sec, " ".join(codes))
        bad = sorted(self.opend.refused_books.intersection(codes))
        if bad:
            raise FeedError(f"no book of {bad[0]}")
        self.books += [code for code in codes if code not in self.books]

    async def unsubscribe_books(self, codes: list[str], timeout_sec: float) -> None:
        await self._ask("unsubscribe books", timeout_sec, " ".join(codes))
        self.books = [code for code in self.books if code not in codes]

    async def order_book(self, code: str, levels: int, timeout_sec: float) -> Any:
        await self._ask("book", timeout_sec, code, levels)
        return self.opend.books[code]

    async def recent_ticks(self, code: str, rows: int, timeout_sec: float) -> Any:
        shown = list(self.opend.ticks.get(code, ()))
        await self._ask("ticks", timeout_sec, code, rows)
        answer = Qot_GetTicker_pb2.S2C()
        answer.tickerList.extend(map(message_of, shown[-rows:]))
        return answer

    async def static_info(self, codes: Sequence[str], timeout_sec: float) -> dict[str, SymbolInfo]:
        await self._ask("static", timeout_sec, " ".join(codes))
        return {code: self.opend.static[code] for code in codes if code in self.opend.static}

    async def trading_days(self, start: str, end: str, timeout_sec: float) -> dict[str, str]:
        await self._ask("days", timeout_sec)
        raise FeedError("asked in other tests")


class AheadClock:
    """The wall clock runs ahead of OpenD's by ``ahead_ms``, until somebody sets it right."""

    def __init__(self, true: Clock, ahead_ms: int) -> None:
        self.true, self.ahead_ms = true, ahead_ms
        self.monotonic = true.monotonic

    def now_ms(self) -> int:
        return self.true.now_ms() + self.ahead_ms


class Bench:
    """Parts of a feed, or a whole session, on a ``FakeOpenD``. Make it inside ``play``."""

    def __init__(self, at_ms: int, market: FutuMarket = HK) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        self.clock: Clock = VirtualClock(loop, at_ms)
        self.market = market
        self.opend = FakeOpenD(self.clock)
        self.facts: list[Fact] = []
        self.told: list[Fact | DayFact] = []  # by the session itself
        self.rows: list[Tick] = []
        self.rejected: list[RejectedTick] = []
        self.progress = FeedProgress()
        self.book_progress = BookProgress()
        self.book_keeper: BookKeeper | None = None
        self.continuity = completeness_of(market.spec, self.facts.extend)
        self.hole_found = asyncio.Event()
        self.puller = TickPuller(
            self.rows.extend, self.rejected.extend, self.continuity, self.progress, self.clock,
            market.spec.pull, PlausibleDays(market.market), self.hole_found.set,
        )  # fmt: skip
        self.connection = FakeConnection(self.opend)
        self.link = FutuLink(self.connection, TickMapper(market=market), self.clock)  # type: ignore[arg-type]

    def push_handler(self, on_new_hole: Callable[[], None] = lambda: None) -> PushHandler:
        """What a connection hands its pushes to, up to the rows."""
        days = PlausibleDays(self.market.market)
        intake = Intake(
            self.rows.extend, self.rejected.extend, self.facts.extend, self.continuity, self.progress, self.clock, days,
            on_new_hole, lambda: None,
        )  # fmt: skip
        return PushHandler(intake, TickMapper(days, self.market), self.clock)

    def session(
        self,
        symbols: Sequence[str],
        calendar: TradingCalendar,
        books: tuple[Sequence[str], BookSink] | None = None,
        **changed: Any,
    ) -> FeedSession:
        """``books``: whose, and what takes them."""
        options = {
            "symbols": symbols, "backfill_rows": 1000, "reconnect_min_sec": 1.0,
            "reconnect_max_sec": 8.0, "check_interval_sec": 10.0, "poll_enabled": True, "poll_interval_sec": 3.0,
            "poll_rows": 100, "poll_stale_sec": 10.0, "trading_only": True, **changed,
        }  # fmt: skip
        with mock.patch.object(sdk, "configure"):
            source = FutuSource(self.market.spec, "opend", 1, None, self.clock, books[1] if books else None)
        keepers = []
        if books:
            check_sec = float(options["check_interval_sec"])
            keeper = BookKeeper(*books, self.book_progress, self.progress, self.clock, check_sec)
            self.book_keeper = keeper
            keepers.append(keeper)
        return FeedSession(
            FeedOptions(**options), source, self.rows.extend, self.rows.extend, self.rejected.extend, self.continuity,
            calendar, self.progress, self.clock, self.told.extend, books=keepers,
        )  # fmt: skip

    async def serve(self, session: FeedSession, script: Coroutine[Any, Any, None]) -> None:
        """Let the session run while ``script`` plays, then stop it."""
        with (
            mock.patch.object(sdk, "Connection", self.opend.connect),
            mock.patch.object(sdk, "replace_dead_network_thread", return_value=False),
        ):
            running = asyncio.ensure_future(session.run())
            playing = asyncio.ensure_future(script)
            await asyncio.wait({running, playing}, return_when=asyncio.FIRST_COMPLETED)
            playing.result()
            session.stop()
            await running

    async def until(self, condition: Callable[[], object], limit_sec: float = 3600.0) -> None:
        """Wait for it, in virtual time."""
        deadline_sec = self.clock.monotonic() + limit_sec
        while not condition():
            assert self.clock.monotonic() < deadline_sec, f"not within {limit_sec:g} s: {self.opend.requests[-20:]}"
            await asyncio.sleep(0.05)
