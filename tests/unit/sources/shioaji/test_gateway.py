"""The gateway's answers, good and bad: what is asked again, when not, and that nobody hears of a key."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import closing
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest

from hk_tick_collector.core.clock import SystemClock
from hk_tick_collector.core.errors import FeedError, FeedLost, FeedTimeout
from hk_tick_collector.imports.stored import RecordedDays
from hk_tick_collector.market.registry import market_of
from hk_tick_collector.shioaji_sim.server import MAX_SUBSCRIPTIONS, Exchange, start_server
from hk_tick_collector.shioaji_sim.tape import Tape
from hk_tick_collector.sims.rest import HOST
from hk_tick_collector.sources.plausible import PlausibleDays
from hk_tick_collector.sources.shioaji import messages, spec
from hk_tick_collector.sources.shioaji.conversation import Conversation
from hk_tick_collector.sources.shioaji.gateway import Gateway, Pace
from hk_tick_collector.sources.shioaji.link import ShioajiLink, ShioajiSource
from hk_tick_collector.sources.shioaji.mapping import TickMapper
from hk_tick_collector.sources.source import Subscribed
from tests.clock import ManualClock
from tests.harness import DEADLINE_SEC
from tests.unit.sources.dripping import Dripping
from tests.unit.sources.shioaji.desk import StoreSink, at_ms

KEY = "a-very-secret-key"


class Place:
    def __init__(self) -> None:
        self.exchange = Exchange(Tape(["2330", "TXFL6"], 1, None), 0)
        self.server: ThreadingHTTPServer = start_server(self.exchange, 0)
        self.url = f"http://{HOST}:{self.server.server_port}"


@pytest.fixture
def place() -> Iterator[Place]:
    made = Place()
    yield made
    made.exchange.stop()
    made.server.shutdown()
    made.server.server_close()


def secrets(tmp_path: Path, key: str = KEY) -> Path:
    path = tmp_path / "shioaji.secrets"
    path.write_text(f"api_key={key}\nsecret_key={key}\n")
    path.chmod(0o600)
    return path


@pytest.mark.parametrize(("fault", "words"), [("busy", "429: simulated"), ("banned", "451: simulated")])
def test_whoever_is_told_to_wait_waits_longer_each_time(place: Place, fault: str, words: str) -> None:
    clock = ManualClock(at_ms("20261127", "14:40"))
    gateway = Gateway(place.url, None, clock)
    place.exchange.fault(fault)
    for minutes, until in ((1, "06:41:00"), (2, "06:43:00"), (4, "06:47:00")):
        with pytest.raises(FeedError, match=rf"left alone \({words}\); not asked again before {until} UTC"):
            gateway.ask("GET", messages.HEALTH)
        asked = dict(place.exchange.requests)
        clock.advance(minutes * 60 - 1)
        with pytest.raises(FeedError, match=f"not asked again before {until} UTC"):
            gateway.listen(messages.channel_path("tick_stk"), 5)
        assert place.exchange.requests == asked
        clock.advance(1)
    place.exchange.fault("accept")
    assert gateway.ask("GET", messages.HEALTH)["status"] == "healthy"
    place.exchange.fault(fault)
    with pytest.raises(FeedError, match="06:48:00"):  # a minute again
        gateway.ask("GET", messages.HEALTH)


def test_another_key_is_tried_at_once_and_none_is_ever_told(
    place: Place, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    gateway = Gateway(place.url, secrets(tmp_path), ManualClock(at_ms("20261127", "14:40")))
    place.exchange.fault("refuse")
    refusals = []
    for _ in range(2):
        with pytest.raises(FeedError, match=r"refused the key \(401: simulated\); not asked again") as caught:
            gateway.ask("GET", messages.HEALTH)
        refusals.append(str(caught.value))
    assert place.exchange.requests == {"health": 1}
    place.exchange.fault("accept")
    secrets(tmp_path, "another-secret")
    assert gateway.ask("GET", messages.HEALTH)["status"] == "healthy"
    assert "secret" not in "".join(refusals).replace("SHIOAJI_SECRETS_FILE", "") + caplog.text


def test_a_file_of_secrets_that_others_may_read_is_refused(place: Place, tmp_path: Path) -> None:
    path = secrets(tmp_path)
    path.chmod(0o644)
    with pytest.raises(FeedError, match="chmod 600"):
        Gateway(place.url, path, SystemClock()).ask("GET", messages.HEALTH)
    assert not place.exchange.requests


def test_nobody_there_is_a_sentence() -> None:
    with pytest.raises(FeedLost, match=r"the gateway was not reached: .*refused"):
        Gateway("http://127.0.0.1:9", None, SystemClock()).ask("GET", messages.HEALTH)


def test_requests_keep_their_pace() -> None:
    clock = ManualClock(0)
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        clock.advance(seconds)

    pace = Pace(3, 5.0, sleep)
    for _ in range(7):
        pace.wait(clock)
    assert waits == [5.0, 5.0]


def link_of(place: Place, tmp_path: Path, silence_sec: float | None = None) -> tuple[ShioajiLink, StoreSink]:
    root = tmp_path / "TW"
    root.mkdir()
    sink = StoreSink(root)
    return ShioajiSource(spec.TW, place.url, None, RecordedDays(root, 1), SystemClock()).open(sink), sink


def test_a_gateway_that_recovers_is_not_ready_and_says_what_helps(place: Place, tmp_path: Path) -> None:
    async def go() -> None:
        link, _ = link_of(place, tmp_path)
        await link.open(10)
        assert (await link.ready(10)).serving
        place.exchange.fault("recovering")
        ready = await link.ready(10)
        assert not ready.serving
        assert "systemctl restart shioaji-gateway" in ready.details["action"]
        link.close()
        link.close()
        assert await link.lost == "closed"

    asyncio.run(go())


def test_what_a_gateway_had_subscribed_is_asked_for_again_after_it_has_recovered(place: Place, tmp_path: Path) -> None:
    async def go() -> None:
        link, _ = link_of(place, tmp_path)
        await link.open(10)
        await link.subscribe(["TW.2330"], 10)
        await link.subscribe(["TW.2330"], 10)
        assert place.exchange.requests["stream/subscribe"] == 1
        place.exchange.fault("recovering")
        await link.ready(10)
        place.exchange.fault("recovered")
        assert (await link.ready(10)).serving
        assert (await link.subscribed(10)).symbols == frozenset()
        await link.subscribe(["TW.2330"], 10)
        assert place.exchange.requests["stream/subscribe"] == 2
        assert (await link.subscribed(10)).symbols == {"TW.2330"}
        link.close()

    asyncio.run(go())


def test_a_token_that_has_ended_is_said_and_ticks_go_on(
    place: Place, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def go() -> None:
        link, _ = link_of(place, tmp_path)
        await link.open(10)
        place.exchange.fault("stale")
        assert [(await link.ready(10)).serving for _ in range(3)] == [True] * 3
        link.close()

    asyncio.run(go())
    assert caplog.text.count("shioaji_token_stale") == 1


def test_what_is_refused_is_said_and_the_others_are_subscribed(place: Place, tmp_path: Path) -> None:
    async def go() -> None:
        link, _ = link_of(place, tmp_path)
        await link.open(10)
        with pytest.raises(FeedError, match="Contract not found: 9999"):
            await link.subscribe(["TW.2330", "TW.9999"], 10)
        await link.subscribe(["TW.2330", "TWF.TXFL6"], 10)
        told = await link.subscribed(10)
        assert told == Subscribed(frozenset({"TW.2330", "TWF.TXFL6"}), MAX_SUBSCRIPTIONS - 2)
        assert place.exchange.requests["stream/subscribe"] == 3  # what is there is not asked for again
        assert [info.unit for info in await link.describe(["TW.2330", "TWF.TXFL6"])] == ["lots", "contracts"]
        await link.unsubscribe(["TW.2330"], 10)
        assert place.exchange.subscribed == {("TXFL6", False)}
        link.close()

    asyncio.run(go())


def test_a_contract_that_is_never_answered_costs_itself_alone(place: Place, tmp_path: Path) -> None:
    async def go() -> None:
        link, _ = link_of(place, tmp_path)
        await link.open(10)
        place.exchange.fault("unanswered")
        with pytest.raises(FeedTimeout, match=r"no answer to .*subscribe in 1 s|did not answer .*subscribe in 1 s"):
            await link.subscribe(["TW.2330", "TW.9999", "TWF.TXFL6"], 1)
        assert (await link.subscribed(10)).symbols == {"TWF.TXFL6"}
        place.exchange.fault("answered")
        with pytest.raises(FeedError, match="Contract not found: 9999"):
            await link.subscribe(["TW.2330", "TW.9999", "TWF.TXFL6"], 10)
        assert (await link.subscribed(10)).symbols == {"TW.2330", "TWF.TXFL6"}
        place.exchange.fault("unanswered")
        with pytest.raises(FeedTimeout):
            await link.unsubscribe(["TW.2330", "TWF.TXFL6"], 1)
        assert (await link.subscribed(10)).symbols == {"TW.2330"}, "the other one has ended"
        assert not link.lost.done()
        link.close()

    asyncio.run(go())


@pytest.mark.parametrize(
    ("fault", "words"),
    [("cut", "closed the connection"), ("half_event", "closed the connection"), ("silence", "not a byte")],
)
def test_a_stream_that_ends_or_falls_silent_is_lost(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, words: str
) -> None:
    if fault == "silence":
        monkeypatch.setattr(messages, "SILENCE_SEC", 5)

    async def go() -> None:
        link, sink = link_of(place, tmp_path)
        place.exchange.heartbeat_sec = 0.2
        await link.open(10)
        await link.subscribe(["TW.2330", "TWF.TXFL6"], 10)
        place.exchange.trade(20)
        while sink.pushed < 20:
            assert not link.lost.done()
            await asyncio.sleep(0.01)
        place.exchange.fault(fault)
        place.exchange.trade(6)
        reason = await asyncio.wait_for(link.lost, 60)
        assert words in reason or "it ended in the middle of an answer" in reason or "reset" in reason
        link.close()

    asyncio.run(go())


def test_a_stream_of_bytes_without_an_event_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "SILENCE_SEC", 0.5)
    market, clock, sink = market_of("TW"), SystemClock(), StoreSink(tmp_path)
    mapper = TickMapper(market, PlausibleDays(market), {})
    lost: Future[str] = Future()
    with closing(Dripping(b"HTTP/1.1 200 OK\r\n\r\n", b"x")) as server:
        gateway = Gateway(f"http://{server.address}", None, clock)
        talk = Conversation("tick_stk", gateway, mapper, sink, clock, lost.set_result)
        talk.start()
        assert lost.result(DEADLINE_SEC) == "bytes and not an event for 0.5 s"
