"""What only time and the other side bring: silence, denial, limits, another program. Against the simulator's server."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import pytest

from hk_tick_collector.core.errors import FeedError, FeedLost, FeedTimeout
from hk_tick_collector.core.progress import BookProgress, FeedProgress
from hk_tick_collector.market.us import US
from hk_tick_collector.records.book import WatchBegan, WatchEnded
from hk_tick_collector.schwab_sim.server import ACCESS_SEC, Exchange, start_rest
from hk_tick_collector.schwab_sim.tape import Tape
from hk_tick_collector.sims.hub import DOOR_WAIT_SEC
from hk_tick_collector.sources.books import BookKeeper
from hk_tick_collector.sources.remote.conversation import MAX_REJECTED
from hk_tick_collector.sources.schwab import conversation, messages, spec
from hk_tick_collector.sources.schwab.books import BookFeed, BookTaker, Listings
from hk_tick_collector.sources.schwab.link import SchwabLink, SchwabSource
from hk_tick_collector.sources.schwab.messages import SILENCE_SEC
from hk_tick_collector.sources.schwab.tokenfile import LOGIN_LASTS_SEC, Login, read_login, write_login
from hk_tick_collector.sources.source import Described
from hk_tick_collector.sources.subscriptions import Subscriptions
from tests.clock import ManualClock
from tests.harness import wait_until
from tests.simulators import on_a_thread

NOW_MS = 1_795_204_800_000


class Heap:
    """A sink that keeps all."""

    def __init__(self) -> None:
        self.ticks: list[Any] = []
        self.rejected: list[Any] = []

    def push(self, messages: Any) -> None:
        self.ticks += [tick for ticks in messages for tick in ticks]

    def reject(self, rejected: Any) -> None:
        self.rejected += rejected

    def learn(self, facts: Any) -> None: ...

    def waiting_rows(self) -> int:
        return 0

    def changed(self, interrupted: bool = False) -> None: ...


class Desk:
    def __init__(self, streamer: Exchange, directory: Path) -> None:
        self.streamer = streamer
        self.rest = start_rest(streamer, 0)
        self.clock = ManualClock(NOW_MS)
        self.sink = Heap()
        secrets, self.file = directory / "secrets", directory / "token"
        secrets.write_text("client_id=an-app\nclient_secret=a-secret\n")
        secrets.chmod(0o600)
        write_login(self.file, Login("a-refresh-token", NOW_MS / 1000))
        api = f"http://127.0.0.1:{self.rest.server_port}"
        self.source = SchwabSource(spec.US, api, secrets, self.file, self.clock)

    async def opened(self) -> SchwabLink:
        link = self.source.open(self.sink)
        try:
            await link.open(60)
        except BaseException:
            link.close()
            raise
        return link

    async def lost(self, link: SchwabLink, *, advance_sec: float = 0) -> str:
        while not link.lost.done():
            self.clock.advance(advance_sec)
            await asyncio.sleep(0.05)
        return link.lost.result()


@pytest.fixture
def streamer() -> Iterator[Exchange]:
    made = Exchange(Tape(["AAPL", "MSFT", "NVDA"], 1, None), 200.0, 20)
    with on_a_thread(made):
        yield made


@pytest.fixture
def desk(streamer: Exchange, tmp_path: Path) -> Iterator[Desk]:
    made = Desk(streamer, tmp_path)
    yield made
    made.rest.shutdown()
    made.rest.server_close()


def on(desk: Desk, work: Callable[[Desk], Any]) -> None:
    asyncio.run(asyncio.wait_for(work(desk), 120))


def test_a_link_knows_what_was_said_yes_to(desk: Desk) -> None:
    async def talk(desk: Desk) -> None:
        link = await desk.opened()
        await link.subscribe(["US.AAPL", "US.BRK.B"], 60)
        await link.subscribe(["US.MSFT"], 60)  # a second SUBS would have replaced the first
        assert (await link.subscribed(1)).symbols == {"US.AAPL", "US.BRK.B", "US.MSFT"}
        assert {*next(iter(desk.streamer._clients)).symbols} == {"AAPL", "BRK/B", "MSFT"}
        (told,) = await link.describe(["US.BRK.B", "US.NVDA"])
        assert told == Described("US.BRK.B", name="BRK/B", unit="shares", currency="USD")
        with pytest.raises(FeedError, match="no trades of an index"):
            await link.subscribe(["US..DJI"], 60)
        await link.unsubscribe(["US.AAPL", "US.NVDA"], 60)
        assert {*next(iter(desk.streamer._clients)).symbols} == {"BRK/B", "MSFT"}
        assert (await link.subscribed(1)).symbols == {"US.BRK.B", "US.MSFT"}
        with pytest.raises(FeedError, match="cannot be asked"):
            await link.pull("US.AAPL", 10, "poll", 1)
        ready = await link.ready(1)
        assert ready.serving
        assert ready.login_ends_ms == NOW_MS + LOGIN_LASTS_SEC * 1000
        assert "hk-tickctl schwab login" in ready.login_advice
        link.close()
        assert await link.lost == "closed"
        with pytest.raises(FeedLost):
            await link.ready(1)

    on(desk, talk)


def test_what_is_refused_is_said_and_costs_nobody_else(desk: Desk) -> None:
    async def talk(desk: Desk) -> None:
        link = await desk.opened()
        desk.streamer.fault("limit")
        await link.subscribe(["US.AAPL", "US.MSFT"], 60)
        with pytest.raises(FeedError, match=r"the limit of symbols is reached \(code 19: no\)"):
            await link.subscribe(["US.NVDA"], 60)
        desk.streamer.fault("unavailable")
        with pytest.raises(FeedError, match="the service is not available"):
            await link.subscribe(["US.NVDA"], 60)
        assert (await link.subscribed(1)).symbols == {"US.AAPL", "US.MSFT"}
        assert not link.lost.done()
        link.close()

    on(desk, talk)


def test_silence_without_a_close_is_a_loss(desk: Desk) -> None:
    async def talk(desk: Desk) -> None:
        link = await desk.opened()
        desk.streamer.fault("silence")
        assert await desk.lost(link, advance_sec=SILENCE_SEC + 1) == f"not a message for {SILENCE_SEC} s"
        link.close()

    on(desk, talk)


@pytest.mark.parametrize("somebody_logs_in", [True, False])
def test_a_denied_login_waits_and_buys_another_token(desk: Desk, somebody_logs_in: bool) -> None:
    async def talk(desk: Desk) -> None:
        desk.streamer.fault("deny")
        for _ in range(2):
            with pytest.raises(FeedError, match=r"the login was denied \(code 3.*not asked again before"):
                await desk.opened()
        assert (desk.streamer.connections, desk.streamer.refreshes) == (1, 1)
        desk.streamer.fault("accept")
        if somebody_logs_in:
            desk.streamer.refresh_tokens.add("another")
            write_login(desk.file, Login("another", NOW_MS / 1000))
        else:
            desk.clock.advance(301)
        (await desk.opened()).close()
        assert (desk.streamer.connections, desk.streamer.refreshes) == (2, 2)

    on(desk, talk)


@pytest.mark.parametrize("at_login", [True, False])
def test_another_program_with_this_login_is_not_fought(desk: Desk, at_login: bool) -> None:
    async def talk(desk: Desk) -> None:
        words = "another program streams with this login.*not asked again before"
        if at_login:
            desk.streamer.fault("taken")
            with pytest.raises(FeedError, match=words):
                await desk.opened()
        else:
            link = await desk.opened()
            other = Desk(desk.streamer, desk.file.parent)
            (await other.opened()).close()
            other.rest.shutdown()
            other.rest.server_close()
            assert "another program streams with this login" in await desk.lost(link)
            link.close()
        desk.clock.advance(50 if at_login else 800)
        known = desk.streamer.connections
        with pytest.raises(FeedError, match=words):
            await desk.opened()
        assert desk.streamer.connections == known
        desk.streamer.fault("accept")
        desk.clock.advance(101)
        (await desk.opened()).close()

    on(desk, talk)


@pytest.mark.parametrize(
    ("fault", "words"),
    [("stop_streaming", r"stopped sending (code 30"), ("maintenance", ""), ("cut", "")],
)
def test_what_ends_the_stream_ends_the_link(desk: Desk, fault: str, words: str) -> None:
    async def talk(desk: Desk) -> None:
        link = await desk.opened()
        desk.streamer.fault(fault)
        assert words in await desk.lost(link)
        with pytest.raises(FeedLost):
            await link.subscribe(["US.AAPL"], 60)
        link.close()

    on(desk, talk)


def test_the_next_token_is_bought_on_the_connection_that_goes_on(desk: Desk) -> None:
    async def talk(desk: Desk) -> None:
        link = await desk.opened()
        for number in (2, 3):
            before = read_login(desk.file)
            desk.clock.step_wall(ACCESS_SEC - 100)  # it is the clock that jumps, not the server that is silent
            while read_login(desk.file) == before:  # not the server's count: the next step would make it last longer
                assert not link.lost.done(), link.lost.result()
                await asyncio.sleep(0.05)
            assert desk.streamer.refreshes == number
        assert desk.streamer.connections == 1
        assert not link.lost.done()
        link.close()

    on(desk, talk)


def test_a_login_that_ends_under_a_connection_ends_no_connection(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    async def talk(desk: Desk) -> None:
        link = await desk.opened()
        desk.streamer.fault("revoke")
        desk.clock.step_wall(ACCESS_SEC)
        while "schwab_token_not_renewed" not in caplog.text:
            assert not link.lost.done(), link.lost.result()
            await asyncio.sleep(0.05)
        assert not link.lost.done()
        link.close()

    on(desk, talk)
    assert "a-refresh-token" not in caplog.text


def test_the_streamer_s_clock_is_believed_where_ours_is_wrong(desk: Desk) -> None:
    async def talk(desk: Desk) -> None:
        desk.clock.advance(400 * 86_400)  # of this machine; the simulator tells the time of now
        link = await desk.opened()
        await link.subscribe(["US.AAPL"], 60)
        while not desk.sink.ticks:
            await asyncio.sleep(0.05)
        ready = await link.ready(1)
        assert abs(ready.clock_ms - desk.clock.now_ms()) > 86_400_000
        link.close()

    on(desk, talk)
    assert not desk.sink.rejected
    assert {tick.trading_day for tick in desk.sink.ticks} <= {US.trading_day(tick.ts_ms) for tick in desk.sink.ticks}


def test_who_does_not_speak_the_protocol_is_told_so(desk: Desk) -> None:
    async def talk(desk: Desk) -> None:
        desk.streamer._beat = nonsense  # type: ignore[method-assign]
        with pytest.raises(FeedError, match="is this a Schwab address"):
            await desk.opened()

    async def nonsense(client: Any) -> None:
        await client.socket.send("hello")

    on(desk, talk)
    wait_until(lambda: not desk.streamer._clients, "gone")


def test_a_door_that_is_shut_is_left_alone_until_it_said(desk: Desk) -> None:
    async def talk(desk: Desk) -> None:
        desk.streamer.fault("door_forbidden")
        refreshes = desk.streamer.refreshes
        with pytest.raises(FeedError, match=r"^the server answered with status 403$"):
            await desk.opened()
        desk.streamer.fault("door_busy")
        until = f"{datetime.fromtimestamp(NOW_MS / 1000 + DOOR_WAIT_SEC, UTC):%H:%M:%S}"
        wanted = re.escape(f"the streamer wants to be left alone (429); not asked again before {until} UTC")
        with pytest.raises(FeedError, match=wanted):
            await desk.opened()
        assert desk.streamer.refreshes == refreshes + 2  # after a 403 another token is bought
        desk.streamer.fault("door_open")
        desk.clock.advance(DOOR_WAIT_SEC - 1)
        with pytest.raises(FeedError, match=wanted):
            await desk.opened()
        assert desk.streamer.turned_away == 2
        desk.clock.advance(1)
        (await desk.opened()).close()

    on(desk, talk)


def test_a_message_full_of_nonsense_costs_the_connection_and_no_memory(desk: Desk) -> None:
    async def talk(desk: Desk) -> None:
        desk.streamer._beat = flood  # type: ignore[method-assign]
        with pytest.raises(FeedError, match=f"{MAX_REJECTED:,} events of one message cannot be read"):
            await desk.opened()

    async def flood(client: Any) -> None:
        content = f"[{'{},' * 50_000}{'7,' * 50_000}0]"
        await client.socket.send(f'{{"data": [{{"service": "LEVELONE_EQUITIES", "content": {content}}}]}}')

    on(desk, talk)
    assert len(desk.sink.rejected) == MAX_REJECTED


@pytest.mark.parametrize(("told", "code"), [(30, 30), (1_000_000, -1), (-7, -1), (True, -1), ("3", -1), (None, -1)])
def test_a_code_that_can_be_none_is_in_no_log_line(told: Any, code: int) -> None:
    assert messages.code_of({"content": {"code": told, "msg": "x"}}) == (code, "x")


@pytest.mark.parametrize("told", [None, "", "x", "\u00b2", "1" * 5000, True, [1], {}, -1, 1.5])
def test_a_heartbeat_without_a_time_is_a_sign_of_life_and_no_clock(desk: Desk, told: Any) -> None:
    async def talk(desk: Desk) -> None:
        link = await desk.opened()
        link._talk.server_ms = 0
        link._talk.take({"notify": [{"heartbeat": told}]})
        assert (await link.ready(1)).clock_ms == 0
        link.close()

    on(desk, talk)


def test_of_two_subscriptions_at_once_the_second_does_not_replace_the_first(desk: Desk) -> None:
    async def talk(desk: Desk) -> None:
        link = await desk.opened()
        asked = [link._talk.ask(add=[theirs]) for theirs in ("AAPL", "MSFT", "NVDA")]
        await asyncio.gather(*map(asyncio.wrap_future, asked))
        assert {*next(iter(desk.streamer._clients)).symbols} == {"AAPL", "MSFT", "NVDA"}
        assert link._talk.subscribed[messages.EQUITIES] == {"AAPL", "MSFT", "NVDA"}
        link.close()

    on(desk, talk)


def test_a_command_of_books_that_is_not_answered_holds_up_no_ticks(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversation, "ANSWER_SEC", 1.0)
    answer, is_mute = desk.streamer._answer, True

    async def answer_others(client: Any, request: Any, code: int, text: str) -> None:
        if not is_mute or request["service"] != messages.NASDAQ_BOOK:
            await answer(client, request, code, text)

    async def talk(desk: Desk) -> None:
        nonlocal is_mute
        desk.streamer._answer = answer_others  # type: ignore[method-assign]
        link = await desk.opened()
        books = link._talk.ask(add=["AAPL", "MSFT"], service=messages.NASDAQ_BOOK)
        await link.subscribe(["US.AAPL"], 60)
        assert books.done()
        with pytest.raises(FeedTimeout, match="not answered in 1 s"):
            books.result()
        assert link._talk.subscribed[messages.NASDAQ_BOOK] == frozenset(), "nobody knows"
        is_mute = False
        await asyncio.wrap_future(link._talk.ask(add=["AAPL"], service=messages.NASDAQ_BOOK))
        assert link._talk.subscribed[messages.NASDAQ_BOOK] == {"AAPL"}
        is_mute = True
        with pytest.raises(FeedTimeout):
            await asyncio.wrap_future(link._talk.ask(remove=["AAPL"], service=messages.NASDAQ_BOOK))
        assert link._talk.subscribed[messages.NASDAQ_BOOK] == frozenset(), "they are not sent, for all we know"
        assert not link.lost.done()
        link.close()

    on(desk, talk)


@pytest.mark.parametrize("is_mute", [True, False])
def test_a_service_of_books_that_is_not_to_be_had_costs_the_other_one_nothing(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, is_mute: bool
) -> None:
    monkeypatch.setattr(conversation, "ANSWER_SEC", 1.0)
    answer, asked = desk.streamer._answer, 0

    async def answer_others(client: Any, request: Any, code: int, text: str) -> None:
        nonlocal asked
        if request["service"] != messages.NYSE_BOOK:
            await answer(client, request, code, text)
            return
        asked += 1
        if not is_mute:
            await answer(client, request, messages.SERVICE_NOT_AVAILABLE, "no")

    async def talk(desk: Desk) -> None:
        desk.streamer._answer = answer_others  # type: ignore[method-assign]
        link = await desk.opened()
        at_new_york = {theirs: "N" if theirs.startswith("N") else "Q" for theirs in ("NYA", "NYB", "AAPL", "MSFT")}
        listings = Listings(
            lambda spelt: {one: {"reference": {"exchange": at_new_york[one]}} for one in spelt}, desk.clock
        )
        feed = BookFeed(link._talk, BookTaker(Nobody()), listings)
        progress, told = BookProgress(), Nobody()
        keeper = BookKeeper(
            [f"US.{theirs}" for theirs in at_new_york], told, progress, FeedProgress(connected=True), desk.clock, 0.1
        )
        link.books = feed
        looking = asyncio.ensure_future(keeper.run(link, lambda: True, Satisfied()))
        while not told.events:
            await asyncio.sleep(0.05)
            assert not looking.done()
        assert {event.symbol for event in told.events if isinstance(event, WatchBegan)} == {"US.AAPL", "US.MSFT"}
        assert set(progress.refused_symbols) == {"US.NYA", "US.NYB"}
        assert asked == 1
        looking.cancel()
        link.close()

    on(desk, talk)


SERVED = ("US.AAPL", "US.MSFT", "US.NVDA")


async def held(condition: Callable[[], object], seconds: float = 60) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


def keeper_of(desk: Desk, link: SchwabLink, told: Nobody, progress: BookProgress) -> BookKeeper:
    """Looks after the books of ``SERVED``; all are listed at Nasdaq."""
    listings = Listings(lambda spelt: {name: {"reference": {"exchange": "Q"}} for name in spelt}, desk.clock)
    taker = BookTaker(told)
    link._talk._books = taker
    link.books = BookFeed(link._talk, taker, listings)
    return BookKeeper(SERVED, told, progress, FeedProgress(connected=True), desk.clock, 0.05)


def test_a_symbol_whose_books_are_delayed_is_blind_alone(desk: Desk) -> None:
    async def talk(desk: Desk) -> None:
        link, told, progress = await desk.opened(), Nobody(), BookProgress()
        looking = asyncio.ensure_future(keeper_of(desk, link, told, progress).run(link, lambda: True, Satisfied()))
        await held(lambda: told.watching == set(SERVED))
        desk.streamer.fault("book_delayed_first")
        await held(lambda: told.watching == {"US.MSFT", "US.NVDA"})
        assert progress.refused_symbols == {"US.AAPL": "no right to order books: it is marked as delayed"}
        known = len(told.pushes)
        await held(lambda: {push.symbol for push in told.pushes[known:]} >= {"US.MSFT", "US.NVDA"})
        assert told.watching == {"US.MSFT", "US.NVDA"}, "they are watched on"
        assert [end.symbol for end in told.events if isinstance(end, WatchEnded)] == ["US.AAPL"]
        desk.streamer.fault("book_in_time")
        await held(lambda: told.watching == set(SERVED))
        assert progress.refused_symbols == {}
        desk.streamer.fault("book_delayed")
        await held(lambda: not told.watching)
        assert set(progress.refused_symbols) == set(SERVED)
        desk.streamer.fault("book_in_time")
        await held(lambda: told.watching == set(SERVED))
        assert not looking.done()
        looking.cancel()
        link.close()

    on(desk, talk)


@pytest.mark.parametrize("fault", ["keep", "unanswered"])
def test_a_book_that_is_sent_on_after_its_end_is_not_recorded(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setattr(conversation, "ANSWER_SEC", 1.0)

    async def talk(desk: Desk) -> None:
        link, told, progress = await desk.opened(), Nobody(), BookProgress()
        keeper = keeper_of(desk, link, told, progress)
        looking = asyncio.ensure_future(keeper.run(link, lambda: True, Satisfied()))
        await held(lambda: told.watching == set(SERVED))
        desk.streamer.fault("keep")
        desk.streamer.fault(fault)
        keeper.set_symbols(SERVED[1:])
        await held(lambda: told.watching == set(SERVED[1:]))
        known = len(told.pushes)
        await held(lambda: len(told.pushes) > known + 50)
        assert {push.symbol for push in told.pushes[known:]} == set(SERVED[1:])
        (client,) = desk.streamer._clients
        assert "AAPL" in client.books[messages.NASDAQ_BOOK], "and it is sent"
        desk.streamer.fault("answered")
        keeper.set_symbols(SERVED)
        await held(lambda: told.watching == set(SERVED))
        await held(lambda: told.pushes[-1].symbol == "US.AAPL")
        assert not looking.done()
        assert not link.lost.done()
        looking.cancel()
        link.close()

    on(desk, talk)


def test_a_symbol_that_is_never_answered_ends_no_connection(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Level one: it is refused and asked for again, and the others are recorded, on one connection."""
    monkeypatch.setattr(conversation, "ANSWER_SEC", 0.5)

    async def talk(desk: Desk) -> None:
        desk.streamer.fault("unanswered")
        link, clock = await desk.opened(), ManualClock(NOW_MS)
        subscriptions = Subscriptions(link, spec.US, SERVED, FeedProgress(), clock)
        for _ in range(4):
            await subscriptions.reconcile()
        assert subscriptions.active == list(SERVED[1:])
        assert subscriptions.refused == {"US.AAPL": "a command was not answered in 0.5 s"}
        assert not link.lost.done()
        desk.streamer.fault("answered")
        await subscriptions.reconcile()
        assert subscriptions.complete
        assert desk.streamer.connections == 1
        link.close()

    on(desk, talk)


class Nobody:
    """Keeps books, and what is told of watches."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.pushes: list[Any] = []

    def push(self, pushes: Any) -> None:
        self.pushes += pushes

    def tell(self, events: Any) -> None:
        self.events += events

    @property
    def watching(self) -> set[str]:
        """As a reader of the events has it."""
        now: set[str] = set()
        for told in self.events:
            if isinstance(told, WatchBegan):
                now.add(told.symbol)
            elif isinstance(told, WatchEnded):
                now.discard(told.symbol)
        return now


class Satisfied:
    """Ticks that lack nothing."""

    refused: ClassVar[dict[str, str]] = {}
