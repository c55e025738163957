"""What only time brings: silence, and the end of a token. Against the simulator's server, with a clock of its own."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from hk_tick_collector.core.errors import FeedError, FeedLost
from hk_tick_collector.dxlink_sim.server import Channel, Exchange
from hk_tick_collector.dxlink_sim.tape import Tape
from hk_tick_collector.market.registry import market_of
from hk_tick_collector.sims.hub import DOOR_WAIT_SEC
from hk_tick_collector.sources.dxlink import spec
from hk_tick_collector.sources.dxlink.conversation import ROTATE_SEC, Conversation
from hk_tick_collector.sources.dxlink.link import DxLinkSource
from hk_tick_collector.sources.dxlink.mapping import TradeMapper
from hk_tick_collector.sources.dxlink.messages import SILENCE_SEC
from hk_tick_collector.sources.dxlink.tokens import QUOTE_SEC, Access
from hk_tick_collector.sources.plausible import PlausibleDays
from hk_tick_collector.sources.remote.conversation import MAX_REJECTED
from hk_tick_collector.sources.source import Described
from tests.clock import ManualClock
from tests.harness import wait_until
from tests.simulators import on_a_thread

NOW_MS = 1_795_204_800_000


class Tokens:
    def __init__(self, exchange: Exchange, clock: ManualClock) -> None:
        self._exchange, self._clock = exchange, clock
        self.given: list[str] = []
        self.refusals = 0

    def get(self, *, fresh: bool = False) -> Access:
        self.given.append(self._exchange.new_token())
        until_sec = self._clock.monotonic() + QUOTE_SEC
        return Access(f"ws://127.0.0.1:{self._exchange.ws_port}/", self.given[-1], until_sec)

    def refused(self) -> None:
        self.refusals += 1

    def leave_alone(self, why: str, wait_sec: float) -> FeedError:
        return FeedError(f"{why} {wait_sec}")


class Heap:
    """A sink that keeps all."""

    def __init__(self) -> None:
        self.ticks = 0
        self.rejected: list[Any] = []

    def push(self, messages: Any) -> None:
        self.ticks += sum(map(len, messages))

    def reject(self, rejected: Any) -> None:
        self.rejected += rejected

    def learn(self, facts: Any) -> None: ...

    def waiting_rows(self) -> int:
        return 0

    def changed(self, interrupted: bool = False) -> None: ...


@pytest.fixture
def exchange() -> Iterator[Exchange]:
    made = Exchange(Tape(["AAPL"], 1, None), 200.0)
    with on_a_thread(made):
        yield made


class Talk:
    def __init__(self, exchange: Exchange) -> None:
        self.clock = ManualClock(NOW_MS)
        self.tokens = Tokens(exchange, self.clock)
        self.sink = Heap()
        self.lost: list[str] = []
        market = market_of("US")
        mapper = TradeMapper(market, PlausibleDays(market), {"AAPL": "US.AAPL"})
        self.conversation = Conversation(self.tokens, mapper, self.sink, self.clock, self.lost.append)


@pytest.fixture
def talk(exchange: Exchange) -> Iterator[Talk]:
    made = Talk(exchange)
    made.conversation.start()
    yield made
    made.conversation.stop()
    wait_until(lambda: made.lost, "ended")


def test_a_token_is_exchanged_before_it_ends_on_the_same_connection(talk: Talk, exchange: Exchange) -> None:
    talk.conversation.opened.result(60)
    talk.conversation.ask(add=["AAPL"]).result(60)
    for step_sec in (QUOTE_SEC - ROTATE_SEC + 1, QUOTE_SEC - ROTATE_SEC + 1):
        known = len(talk.tokens.given)
        talk.conversation.heard_sec += step_sec  # it is the clock that jumps, not the server that is silent
        talk.clock.advance(step_sec)
        wait_until(lambda: len(talk.tokens.given) > known, "a new token")  # noqa: B023
    assert exchange.connections == 1
    assert talk.lost == []
    assert talk.tokens.refusals == 0


def test_silence_without_a_close_is_a_loss(talk: Talk, exchange: Exchange) -> None:
    talk.conversation.opened.result(60)
    exchange.fault("silence")

    def lost_after_a_minute() -> list[str]:
        talk.clock.advance(SILENCE_SEC + 1)  # again: what was under way may have been read after the first
        return talk.lost

    wait_until(lost_after_a_minute, "lost")
    assert talk.lost == [f"not a message for {SILENCE_SEC} s"]


@pytest.mark.parametrize("row", ["{},", "7,"])  # as objects, or as values in the order of FEED_CONFIG
def test_a_message_full_of_nonsense_costs_the_connection_and_no_memory(exchange: Exchange, row: str) -> None:
    configure = exchange._config

    async def flood(client: Any, number: int, channel: Channel) -> None:
        await configure(client, number, channel)
        data = f"[{row * 200_000}{row[:-1]}]"
        data = data if row == "{}," else f'["TimeAndSale", {data}]'
        await client.socket.send(f'{{"type": "FEED_DATA", "channel": {number}, "data": {data}}}')

    exchange._config = flood  # type: ignore[method-assign]
    talk = Talk(exchange)
    talk.conversation.start()
    wait_until(lambda: talk.lost, "lost")
    assert talk.lost == [f"{MAX_REJECTED:,} events of one message cannot be read"]
    assert len(talk.sink.rejected) == MAX_REJECTED


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("cut", r"the connection was broken off"),
        ("too_big", r"the server closed the connection \(1009: too big\)"),
        ("no_text", r"what came breaks the protocol \(1007: .+\)"),
    ],
)
def test_how_a_connection_ended_is_a_sentence(talk: Talk, exchange: Exchange, fault: str, words: str) -> None:
    talk.conversation.opened.result(60)
    if fault == "no_text":
        (client,) = exchange._clients
        assert exchange._loop is not None
        asyncio.run_coroutine_threadsafe(client.socket.send(b"\xff\xfe", text=True), exchange._loop).result(60)
    else:
        exchange.fault(fault)
    wait_until(lambda: talk.lost, "lost")
    assert re.fullmatch(words, talk.lost[0]), talk.lost


def test_a_token_that_is_refused_at_the_door_is_fetched_anew(exchange: Exchange) -> None:
    talk = Talk(exchange)
    given = talk.tokens.get

    def void(*, fresh: bool = False) -> Access:
        return given()._replace(token="of yesterday")

    talk.tokens.get = void  # type: ignore[method-assign]
    talk.conversation.start()
    with pytest.raises(FeedError, match="the token was refused"):
        talk.conversation.opened.result(60)
    wait_until(lambda: talk.lost, "ended")
    assert talk.tokens.refusals == 1


def test_a_door_that_is_shut_is_left_alone_until_it_said(exchange: Exchange, tmp_path: Path) -> None:
    secrets = tmp_path / "secrets"
    secrets.write_text(f"token={exchange.new_token()}\n")
    secrets.chmod(0o600)
    clock = ManualClock(NOW_MS)
    source = DxLinkSource(spec.US, "", f"ws://127.0.0.1:{exchange.ws_port}/", secrets, (), clock)

    async def words() -> str:
        link = source.open(Heap())
        try:
            await link.open(60)
        except FeedError as exc:
            return str(exc)
        finally:
            link.close()
        return ""

    exchange.fault("door_forbidden")
    assert asyncio.run(words()) == "the server answered with status 403"
    exchange.fault("door_busy")
    until = f"{datetime.fromtimestamp(NOW_MS / 1000 + DOOR_WAIT_SEC, UTC):%H:%M:%S}"
    wanted = f"the endpoint wants to be left alone (429); not asked again before {until} UTC"
    assert asyncio.run(words()) == wanted
    exchange.fault("door_open")
    clock.advance(DOOR_WAIT_SEC - 1)
    assert asyncio.run(words()) == wanted
    assert (exchange.turned_away, exchange.connections) == (2, 0)
    clock.advance(1)
    assert asyncio.run(words()) == ""


def test_a_link_knows_what_it_asked_for(exchange: Exchange, tmp_path: Path) -> None:
    secrets = tmp_path / "secrets"
    secrets.write_text(f"token={exchange.new_token()}\n")
    secrets.chmod(0o600)

    async def talk() -> None:
        clock = ManualClock(NOW_MS)
        source = DxLinkSource(spec.US, "", f"ws://127.0.0.1:{exchange.ws_port}/", secrets, (), clock)
        link = source.open(Heap())
        try:
            await link.open(60)
            clock.advance(SILENCE_SEC - 1)
            assert (await link.ready(1)).serving, "a quiet market is no absence"
            await link.subscribe(["US.AAPL", "US.BRK.B"], 60)
            assert (await link.subscribed(1)).symbols == {"US.AAPL", "US.BRK.B"}
            (told,) = await link.describe(["US.BRK.B", "US.MSFT"])
            assert told == Described("US.BRK.B", name="BRK/B", unit="shares", currency="USD")
            with pytest.raises(FeedError, match="no trades of an index"):
                await link.subscribe(["US..DJI"], 60)
            await link.unsubscribe(["US.AAPL"], 60)
            assert (await link.subscribed(1)).symbols == {"US.BRK.B"}
            with pytest.raises(FeedError, match="cannot be asked"):
                await link.pull("US.AAPL", 10, "poll", 1)
        finally:
            link.close()
        assert await link.lost == "closed"

    asyncio.run(talk())


def test_a_stop_before_anything_has_begun_ends_it(exchange: Exchange) -> None:
    talk = Talk(exchange)
    talk.conversation.start()
    talk.conversation.stop()
    wait_until(lambda: talk.lost, "ended")
    assert talk.sink.ticks == 0


@pytest.mark.parametrize("fault", ["cut", "too_big"])
def test_a_connection_that_is_lost_under_a_subscription_is_told_as_lost(
    talk: Talk, exchange: Exchange, fault: str
) -> None:
    talk.conversation.opened.result(60)
    exchange.fault(fault)

    def asked_in_vain() -> bool:
        try:
            talk.conversation.ask(add=["AAPL"]).result(60)
        except FeedLost:
            return True
        return False

    wait_until(asked_in_vain, "a subscription that could not be sent")
    wait_until(lambda: talk.lost, "lost")
    with pytest.raises(FeedLost):
        talk.conversation.ask(add=["AAPL"]).result(60)
