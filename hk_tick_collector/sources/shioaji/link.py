"""Shioaji's gateway as a source: ``source.Link`` over its HTTP requests and two ``Conversation``s."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Future, InvalidStateError
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from hk_tick_collector.core.clock import Clock
from hk_tick_collector.core.errors import FeedError, FeedLost, FeedTimeout
from hk_tick_collector.core.logline import RateLimitedLog
from hk_tick_collector.market.registry import market_of
from hk_tick_collector.sources.plausible import PlausibleDays
from hk_tick_collector.sources.remote.conversation import Loss, shown, within
from hk_tick_collector.sources.shioaji import messages
from hk_tick_collector.sources.shioaji.conversation import Conversation
from hk_tick_collector.sources.shioaji.gateway import Gateway
from hk_tick_collector.sources.shioaji.mapping import TickMapper
from hk_tick_collector.sources.shioaji.replay import Replay
from hk_tick_collector.sources.shioaji.spec import MAX_SUBSCRIPTIONS
from hk_tick_collector.sources.shioaji.symbols import Contract, at_shioaji, unit_of
from hk_tick_collector.sources.source import Described, Pulled, Ready, Sink, SourceSpec, Subscribed
from hk_tick_collector.sources.stored import StoredDays
from hk_tick_collector.sources.subscriptions import MAX_UNANSWERED

log = logging.getLogger(__name__)

T = TypeVar("T")
RESTART = "if it stays so, restart the gateway: systemctl restart shioaji-gateway"


class ShioajiLink:
    """One connection. The gateway has no list of subscriptions: what it accepted counts as subscribed, for as
    long as it has its session."""

    def __init__(self, source: ShioajiSource, sink: Sink) -> None:
        self._loss = Loss()
        self.lost: asyncio.Future[str] = self._loss.future
        self._source = source
        self._contracts: dict[str, Contract] = {}  # of what is subscribed
        self._talks = [
            Conversation(
                channel,
                source.gateway,
                TickMapper(source.market, source.days, source.ours),
                sink,
                source.clock,
                self._loss.report,
            )
            for channel in messages.CHANNELS
        ]
        self._replay = Replay(source.gateway, source.market, source.stored, sink, source.clock)
        self._log = RateLimitedLog(log, period_sec=600)

    async def open(self, timeout_sec: float) -> None:
        """Both channels are open, so that no tick after a subscription is missed."""
        for talk in self._talks:
            talk.start()
        for talk in self._talks:
            await within(talk.opened, timeout_sec, "no stream")
        self._replay.start()

    async def ready(self, timeout_sec: float) -> Ready:
        """What the gateway says of its session. A heartbeat proves the gateway, and only ticks prove its line: an open
        market without any is the recorder's own alarm."""
        if self.lost.done():
            raise FeedLost(self.lost.result())
        try:
            health = await self._ask("GET", messages.HEALTH, None, timeout_sec)
        except (FeedLost, FeedTimeout):
            raise
        except FeedError as exc:  # a stream that runs is not given up because nothing more may be asked
            self._log.log(logging.WARNING, "shioaji_health_unknown", error=str(exc), action="ticks go on")
            return Ready(serving=True)
        if not isinstance(health, dict):
            raise FeedLost("the gateway's health is not in the known form")
        status = shown(health.get("status"))
        is_recovering = health.get("session_recovering") is True
        if health.get("token_stale") is True:
            self._log.log(logging.WARNING, "shioaji_token_stale", action=RESTART)
        is_serving = status == "healthy" and not is_recovering
        if not is_serving:
            self._replay.note_deaf()
            self._contracts.clear()  # nobody knows whether its next session has them: they are asked for again
        return Ready(
            serving=is_serving,
            clock_ms=_clock_ms(health.get("timestamp")),
            details={"status": status, "session_recovering": is_recovering, "action": RESTART},
        )

    async def subscribe(self, symbols: Sequence[str], timeout_sec: float) -> None:
        """FeedError for one that the gateway does not take, FeedTimeout for one that it does not answer; the others are
        subscribed all the same, and not asked for again. After two without an answer no more are asked for."""
        missing = [symbol for symbol in symbols if symbol not in self._contracts]
        try:
            await self._for_each_symbol(missing, lambda symbol: self._subscribe(symbol, timeout_sec))
        finally:
            self._replay.wanted = dict(self._contracts)

    async def _subscribe(self, symbol: str, timeout_sec: float) -> None:
        contract = at_shioaji(symbol)
        self._source.ours[contract.key] = symbol
        answer = await self._ask("POST", messages.SUBSCRIBE, messages.subscription(contract), timeout_sec)
        if not isinstance(answer, dict) or answer.get("success") is not True:
            words = answer.get("message") if isinstance(answer, dict) else None
            raise FeedError(f"{symbol}: refused: {shown(words)}")
        self._contracts[symbol] = contract

    @staticmethod
    async def _for_each_symbol(symbols: Sequence[str], ask: Callable[[str], Awaitable[None]]) -> None:
        """The gateway takes one at a time. What goes wrong with one is told when the others were asked for."""
        error: FeedError | None = None
        unanswered = 0
        for symbol in symbols:
            try:
                await ask(symbol)
            except FeedLost:
                raise
            except FeedError as exc:
                unanswered += isinstance(exc, FeedTimeout)
                error = exc if error is None or isinstance(exc, FeedTimeout) else error
                if unanswered == MAX_UNANSWERED:
                    break
        if error is not None:
            raise error

    async def unsubscribe(self, symbols: Sequence[str], timeout_sec: float) -> None:
        """Their events may come for a moment more, and go nowhere (``Intake.wanted``)."""
        there = [symbol for symbol in symbols if symbol in self._contracts]
        try:
            await self._for_each_symbol(there, lambda symbol: self._unsubscribe(symbol, timeout_sec))
        finally:
            self._replay.wanted = dict(self._contracts)

    async def _unsubscribe(self, symbol: str, timeout_sec: float) -> None:
        body = messages.subscription(self._contracts[symbol])
        await self._ask("POST", messages.UNSUBSCRIBE, body, timeout_sec)
        self._contracts.pop(symbol, None)  # a gateway without a session has none left

    async def subscribed(self, timeout_sec: float) -> Subscribed:
        """What was accepted on this connection."""
        return Subscribed(frozenset(self._contracts), MAX_SUBSCRIPTIONS - len(self._contracts))

    async def pull(self, symbol: str, rows: int, push_type: str, timeout_sec: float) -> Pulled:
        """In trading hours ten answers a day are allowed: too few to live on."""
        raise FeedError(f"{symbol}: Shioaji is asked for the whole day after its close, and not before")

    async def describe(self, symbols: Sequence[str]) -> Sequence[Described]:
        """What is counted: lots of 1000 shares, shares, contracts."""
        described = []
        for symbol in symbols:
            if symbol in self._contracts:
                unit, multiplier = unit_of(self._contracts[symbol])
                currency = self._source.market.currency
                described.append(Described(symbol, unit=unit, multiplier=multiplier, currency=currency))
        return described

    async def trading_days(self, first: str, last: str, timeout_sec: float) -> None:
        """It has no calendar."""

    def close(self) -> None:
        """The threads end by themselves."""
        self._replay.stop()
        for talk in self._talks:
            talk.stop()
        self._loss.tell("closed")

    async def _ask(self, method: str, path: str, body: Mapping[str, object] | None, timeout_sec: float) -> Any:
        gateway = self._source.gateway
        asked = _on_thread(lambda: gateway.ask(method, path, body, timeout_sec=timeout_sec))
        return await within(asked, timeout_sec, f"no answer to {path}")


class ShioajiSource:
    """One gateway."""

    def __init__(self, spec: SourceSpec, url: str, secrets_file: Path | None, stored: StoredDays, clock: Clock) -> None:
        self.spec = spec
        self.clock = clock
        self.stored = stored
        self.market = market_of(spec.market)
        self.days = PlausibleDays(self.market)
        self.ours: dict[str, str] = {}  # of all that was ever subscribed, by the gateway's keys; only ever added to
        self.gateway = Gateway(url, secrets_file, clock)
        self.place: Mapping[str, Any] = {"host": urlsplit(url).hostname or "", "port": self.gateway.port}

    def open(self, sink: Sink) -> ShioajiLink:
        """A link that is not connected."""
        return ShioajiLink(self, sink)

    def alive(self) -> bool:
        """Each link has threads of its own."""
        return True

    def advice(self, error: FeedError) -> str:
        """The same whatever it was: the error says which step failed."""
        return "retrying; does the gateway run? hk-tickctl doctor tries each step (docs/shioaji.md)"


def _on_thread(call: Callable[[], T]) -> Future[T]:
    """On a thread that holds nobody up when the program ends."""
    done: Future[T] = Future()

    def run() -> None:
        with contextlib.suppress(InvalidStateError):  # nobody waits for it any more
            try:
                done.set_result(call())
            except Exception as exc:  # noqa: BLE001 - handed to who waits
                done.set_exception(exc)

    threading.Thread(target=run, name="shioaji ask", daemon=True).start()
    return done


def _clock_ms(text: Any) -> int:
    """``2024-01-15T08:30:00Z``; 0 for anything else."""
    try:
        moment = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return 0
    return round(moment.timestamp() * 1000) if moment.tzinfo is not None else 0
