"""A ``Connection`` to the OpenD of ``world``: what ``futu.sdk.Connection`` promises, with faults, in virtual time.

It stands in for Futu's servers and for the SDK's thread. Messages are real protobuf messages; a push is handed over at
once, as the network thread would.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from futu.common.pb import Qot_Common_pb2, Qot_GetTicker_pb2, Qot_UpdateTicker_pb2

from hk_tick_collector.core.errors import FeedError, FeedLost, FeedTimeout
from hk_tick_collector.market.calendar import TradingCalendar
from hk_tick_collector.market.dates import add_days
from hk_tick_collector.opend_sim.encode import time_text
from hk_tick_collector.opend_sim.venue import HK
from hk_tick_collector.sources.futu.answers import GlobalState, SubscriptionInfo
from tests.episodes.clockwork import VirtualClock
from tests.episodes.world import Oddities, OpenD, Trade

REALTIME, CACHE = 1, 3


@dataclass
class Weather:
    """Faults that hold at the moment; the plan changes them."""

    lose_pushes: float = 0.0
    double_pushes: float = 0.0
    disorder_pushes: float = 0.0
    mute: bool = False
    answer_sec: float = 0.02
    slow_share: float = 0.0
    slow_sec: float = 2.5
    stale_share: float = 0.0
    stale_ms: int = 8_000
    fail_share: float = 0.0
    hang_share: float = 0.0
    refused: set[str] = field(default_factory=set)


class Street:
    """Everything outside the recorder: OpenD, its connections, the weather."""

    def __init__(
        self, opend: OpenD, odd: Oddities, rng: random.Random, clock: VirtualClock, calendar: TradingCalendar
    ) -> None:
        self.opend = opend
        self.odd = odd
        self.rng = rng
        self.clock = clock
        self.calendar = calendar
        self.weather = Weather()
        self.connections: list[FakeConnection] = []
        self.on_shown: Callable[[Sequence[Trade]], None] = lambda trades: None  # what one message held
        self._held: list[Trade] = []  # pushes that wait for a later one
        self._told: dict[Trade, Any] = {}

    def connect(
        self, host: str, port: int, on_push: Any, on_notice: Any, market: Any = None, **_: Any
    ) -> FakeConnection:
        connection = FakeConnection(self, on_push)
        self.connections.append(connection)
        return connection

    def trade(self, trade: Trade) -> None:
        """The exchange made a trade: OpenD hears of it and pushes it on."""
        trade.refused = trade.symbol in self.weather.refused
        if self.opend.hear(trade, self.clock.now_ms()):
            self._push(trade)

    def drop_all(self, reason: str) -> None:
        for connection in list(self.connections):
            connection.lose(reason)

    def _push(self, trade: Trade) -> None:
        weather, rng = self.weather, self.rng
        if weather.mute or rng.random() < weather.lose_pushes:
            return
        if rng.random() < weather.disorder_pushes:
            self._held.append(trade)
            return
        trades = [trade, *self._held]
        self._held.clear()
        for one in trades:
            for _ in range(2 if rng.random() < weather.double_pushes else 1):
                self.send([one], REALTIME)

    def send(self, trades: Sequence[Trade], push_data_type: int, only: FakeConnection | None = None) -> None:
        for connection in [only] if only is not None else list(self.connections):
            if connection.live and trades[0].symbol in connection.subscribed:
                message = Qot_UpdateTicker_pb2.Response(retType=0)
                set_security(message.s2c.security, trades[0].symbol)
                for trade in trades:
                    self.encode(message.s2c.tickerList.add(), trade, push_data_type)
                self.on_shown(trades)
                for trade in trades:
                    trade.pushed = True
                connection.on_push([message])

    def told(self, trade: Trade) -> Any:
        """The trade as answers tell it, encoded once: OpenD shows the same ones again and again."""
        message = self._told.get(trade)
        if message is None:
            message = self._told[trade] = Qot_Common_pb2.Ticker()
            self.encode(message, trade, None)
        return message

    def encode(self, message: Any, trade: Trade, push_data_type: int | None) -> None:
        """As OpenD tells a trade; ``push_data_type`` None: in an answer."""
        has_ms = push_data_type is not None or not self.odd.no_ms_in_pulls
        seq = trade.seq if push_data_type is None else trade.push_seq
        message.time = time_text(HK, trade.ts_ms + trade.day_shift * 86_400_000, has_ms) if trade.readable else "--"
        message.sequence = seq
        message.dir = trade.direction
        message.price = trade.price
        message.volume = trade.volume
        message.turnover = trade.turnover
        message.type = trade.tick_type
        message.timestamp = trade.ts_ms / 1000 + trade.day_shift * 86_400
        message.typeSign = 32
        if push_data_type is not None:
            message.pushDataType = push_data_type
            message.recvTime = self.clock.now_ms() / 1000 if push_data_type == REALTIME else 0.0


class FakeConnection:
    """One connection; ends for good when it is lost or closed."""

    def __init__(self, street: Street, on_push: Callable[[list[Any]], None]) -> None:
        self._street = street
        self.on_push = on_push
        self.subscribed: set[str] = set()
        self.live = False
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def lose(self, reason: str) -> None:
        self.live = False
        if self in self._street.connections:
            self._street.connections.remove(self)
        if not self.lost.done():
            self.lost.set_result(reason)

    async def open(self, timeout_sec: float) -> None:
        await asyncio.sleep(0.05)
        if not self._street.opend.up:
            self.lose("refused")
            raise FeedLost("no TCP connection: refused")
        self.live = True

    def close(self) -> None:
        self.lose("closed")

    async def _ask(self, timeout_sec: float, delay_sec: float | None = None) -> None:
        weather, rng = self._street.weather, self._street.rng
        if not self.live:
            raise FeedLost
        if rng.random() < weather.hang_share:
            delay_sec = timeout_sec + 1
        elif delay_sec is None:
            delay_sec = weather.answer_sec
        try:
            lost = await asyncio.wait_for(asyncio.shield(self.lost), min(delay_sec, timeout_sec))
        except TimeoutError:
            if delay_sec > timeout_sec:
                raise FeedTimeout(f"OpenD did not answer in {timeout_sec:g} s") from None
            if rng.random() < weather.fail_share:
                raise FeedError("OpenD is busy") from None
            return
        raise FeedLost(lost)

    async def global_state(self, timeout_sec: float) -> GlobalState:
        await self._ask(timeout_sec)
        opend = self._street.opend
        return GlobalState(opend.logged_in, "Ready", "Morning", 1011, self._street.clock.now_ms() // 1000)

    async def subscribe_tickers(self, codes: list[str], timeout_sec: float, *, push: bool = True) -> None:
        await self._ask(timeout_sec)
        bad = [code for code in codes if code in self._street.weather.refused]
        if bad:
            raise FeedError(f"unknown stock {bad[0]}")
        for code in codes:
            self.subscribed.add(code)
            newest = self._street.opend.shown(code, 1)
            if newest and push and not self._street.weather.mute:
                asyncio.get_running_loop().call_later(0.005, self._send_cached, newest)

    def _send_cached(self, trades: list[Trade]) -> None:
        if self.live and trades[0].known_ms is not None:
            self._street.send(trades, CACHE, only=self)

    async def unsubscribe_tickers(self, codes: list[str], timeout_sec: float) -> None:
        await self._ask(timeout_sec)
        self.subscribed.difference_update(codes)

    async def subscriptions(self, timeout_sec: float, *, all_connections: bool = False) -> SubscriptionInfo:
        await self._ask(timeout_sec)
        return SubscriptionInfo(frozenset(self.subscribed), 100 - len(self.subscribed), len(self.subscribed))

    async def recent_ticks(self, code: str, rows: int, timeout_sec: float) -> Any:
        street, weather, rng = self._street, self._street.weather, self._street.rng
        if code not in self.subscribed:
            await self._ask(timeout_sec)
            raise FeedError(f"{code} is not subscribed")
        age_ms = weather.stale_ms if rng.random() < weather.stale_share else 0
        slow = rng.random() < weather.slow_share
        travel_sec = weather.answer_sec / 2
        await self._ask(timeout_sec, travel_sec)
        trades = street.opend.shown(code, min(rows, 1000), age_ms, street.clock.now_ms())
        if street.odd.sorted_by_time:
            trades = sorted(trades, key=lambda trade: trade.ts_ms)
        await self._ask(timeout_sec, weather.slow_sec if slow else travel_sec)
        answer = Qot_GetTicker_pb2.S2C()
        set_security(answer.security, code)
        answer.tickerList.extend([street.told(trade) for trade in trades])
        street.on_shown(trades)
        return answer

    async def static_info(self, codes: list[str], timeout_sec: float) -> dict[str, Any]:
        return {}

    async def trading_days(self, start: str, end: str, timeout_sec: float) -> dict[str, str]:
        await self._ask(timeout_sec)
        words = {"whole": "WHOLE", "half": "MORNING"}
        days: dict[str, str] = {}
        day, last = start.replace("-", ""), end.replace("-", "")
        while day <= last:
            kind = str(self._street.calendar.day_kind(day))
            if kind in words:
                days[day] = words[kind]
            day = add_days(day, 1)
        return days


def set_security(security: Any, symbol: str) -> None:
    security.market = Qot_Common_pb2.QotMarket_HK_Security
    security.code = symbol.partition(".")[2]
