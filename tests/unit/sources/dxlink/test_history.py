"""What is asked for of the past, and when that ends. The channel itself: tests/integration/test_dxlink.py."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from typing import Any

import pytest

from hk_tick_collector.market.registry import market_of
from hk_tick_collector.sources.dxlink import history
from hk_tick_collector.sources.dxlink.history import (
    BEFORE_MS,
    MAX_BACK_MS,
    MAX_UNANSWERED,
    HistoryChannel,
    Missed,
    Past,
)
from hk_tick_collector.sources.dxlink.messages import FIELDS, Broken, Row
from tests.clock import ManualClock

MARKET = market_of("US")
NOW_MS = 1_795_204_800_000  # 2026-11-20 15:00 in New York
DAY_MS = MARKET.day_bounds("20261120")[0]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOW_MS)


@pytest.fixture
def past(clock: ManualClock) -> Past:
    return Past(MARKET, clock)


def all_of(past: Past, *there: str) -> list[Missed]:
    all_missed: list[Missed] = []
    while (missed := past.next(there)) is not None and len(all_missed) < 10:
        all_missed.append(missed)
        past.answered(missed)
    return all_missed


def test_a_new_symbol_is_asked_for_from_the_beginning_of_its_day(past: Past) -> None:
    past.subscribed(["AAPL", "MSFT"])
    assert past.next(["NVDA"]) is None
    assert all_of(past, "AAPL", "MSFT") == [Missed("AAPL", DAY_MS), Missed("MSFT", DAY_MS)]
    past.subscribed(["AAPL"])
    assert past.next(["AAPL"]) is None, "it was asked for"


def test_a_break_is_asked_for_from_before_it_and_the_longest_of_several(past: Past, clock: ManualClock) -> None:
    past.subscribed(["AAPL"])
    all_of(past, "AAPL")
    past.lost(NOW_MS, under_a_question=False)
    clock.advance(60)
    past.lost(clock.now_ms(), under_a_question=False)  # the next one never came to work
    past.subscribed(["AAPL"])
    assert all_of(past, "AAPL") == [Missed("AAPL", NOW_MS - BEFORE_MS)]


def test_what_is_lost_further_back_while_it_is_answered_is_asked_for_again(past: Past) -> None:
    past.subscribed(["AAPL"])
    all_of(past, "AAPL")
    past.lost(NOW_MS, under_a_question=False)
    missed = past.next(["AAPL"])
    assert missed is not None
    past.lost(NOW_MS - 1, under_a_question=True)
    past.answered(missed)  # the connection before that one still had its answer
    assert past.next(["AAPL"]) == Missed("AAPL", NOW_MS - 1 - BEFORE_MS)


def test_it_is_a_day_at_most(past: Past, clock: ManualClock) -> None:
    past.subscribed(["AAPL"])
    all_of(past, "AAPL")
    past.lost(NOW_MS, under_a_question=False)
    clock.advance(3 * 86_400)
    assert all_of(past, "AAPL") == [Missed("AAPL", clock.now_ms() - MAX_BACK_MS)], "and it is answered once"


def test_who_is_no_longer_wanted_is_not_asked_for_and_is_new_the_next_time(past: Past) -> None:
    past.subscribed(["AAPL"])
    all_of(past, "AAPL")
    past.unsubscribed(["AAPL"])
    past.lost(NOW_MS, under_a_question=False)
    assert past.next(["AAPL"]) is None
    past.subscribed(["AAPL"])
    assert past.next(["AAPL"]) == Missed("AAPL", DAY_MS)


def test_connections_that_are_lost_under_a_question_end_the_asking(
    past: Past, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    past.subscribed(["AAPL"])
    past.lost(NOW_MS, under_a_question=True)
    past.lost(NOW_MS, under_a_question=False)  # an attempt in between that came to nothing forgives nothing
    assert not past.is_refused
    past.lost(NOW_MS, under_a_question=True)
    assert past.is_refused
    past.refuse("something else")
    assert len(caplog.records) == 1
    assert "lost 2 times while the past was asked for" in caplog.text


def test_a_loss_is_forgiven_once_all_is_shown_and_not_before(past: Past) -> None:
    past.subscribed(["AAPL", "MSFT"])
    past.lost(NOW_MS, under_a_question=True)
    all_of(past, "AAPL")
    past.survived()  # MSFT is still missing: a server that ends each connection after an answer would be asked for ever
    past.lost(NOW_MS, under_a_question=True)
    assert past.is_refused


def test_a_loss_long_ago_counts_no_more(past: Past) -> None:
    past.subscribed(["AAPL"])
    past.lost(NOW_MS, under_a_question=True)
    all_of(past, "AAPL")
    past.survived()
    past.lost(NOW_MS, under_a_question=True)
    assert not past.is_refused


def row(symbol: str, flags: Any = 0) -> Row:
    values: dict[str, Any] = {"eventSymbol": symbol, "eventFlags": flags}
    return tuple(values.get(name) for name in FIELDS)


class Wire:
    """A far side that does with a question what it is told to."""

    def __init__(self, answer: Callable[[HistoryChannel, str], None]) -> None:
        self.sent: list[dict[str, Any]] = []
        self.channel: HistoryChannel | None = None
        self._answer = answer
        self.busy = 0

    async def send(self, text: str) -> None:
        message = json.loads(text)
        self.sent.append(message)
        assert self.channel is not None
        if message["type"] == "CHANNEL_REQUEST":
            self.channel.opened()
        for entry in message.get("add", ()):
            self._answer(self.channel, entry["symbol"])

    def is_busy(self) -> bool:
        self.busy -= 1
        return self.busy >= 0

    def there(self) -> list[str]:
        return ["AAPL", "MSFT", "NVDA", "TSLA"]

    def taken_back(self) -> list[str]:
        return [entry["symbol"] for message in self.sent for entry in message.get("remove", ())]

    def asked(self) -> list[str]:
        return [entry["symbol"] for message in self.sent for entry in message.get("add", ())]


def run(past: Past, wire: Wire, until: Callable[[], bool]) -> None:
    async def work() -> None:
        wire.channel = HistoryChannel(past, wire)
        running = asyncio.ensure_future(wire.channel.run())
        async with asyncio.timeout(60):
            while not until():
                await asyncio.sleep(0.01)
            while wire.channel.is_asking:
                await asyncio.sleep(0.01)
        running.cancel()

    asyncio.run(work())


def test_one_that_does_not_answer_is_given_up_and_its_questions_are_taken_back(
    past: Past, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "ANSWER_SEC", 0.05)
    past.subscribed(["AAPL", "MSFT", "NVDA", "TSLA"])
    wire = Wire(lambda _channel, _symbol: None)
    run(past, wire, lambda: past.is_refused)
    assert wire.asked() == ["AAPL", "MSFT", "NVDA"]  # each in its turn
    assert len(wire.asked()) == MAX_UNANSWERED
    assert wire.taken_back() == wire.asked()


def test_one_that_goes_on_and_on_without_an_end_is_no_answer(past: Past, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "WHOLE_ANSWER_SEC", 0.05)
    past.subscribed(["AAPL"])

    def endless(channel: HistoryChannel, symbol: str) -> None:
        loop = asyncio.get_running_loop()

        def more() -> None:
            list(channel.trades([row(symbol)]))
            if len(wire.taken_back()) < MAX_UNANSWERED:
                loop.call_later(0.001, more)

        more()

    wire = Wire(endless)
    run(past, wire, lambda: past.is_refused)
    assert wire.asked() == ["AAPL"] * MAX_UNANSWERED


def test_nothing_is_asked_while_rows_wait(past: Past, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "CHECK_SEC", 0.001)
    past.subscribed(["AAPL"])
    wire = Wire(lambda channel, symbol: [*channel.trades([row(symbol, 4 | 8)])] and None)
    wire.busy = 20
    run(past, wire, lambda: past.next(["AAPL"]) is None)
    assert wire.busy < 0
    assert wire.asked() == ["AAPL"]


def test_rows_without_a_trade_are_none_and_all_others_are_kept(past: Past) -> None:
    async def work() -> None:
        channel = HistoryChannel(past, Wire(lambda _channel, _symbol: None))
        late, empty, cancelled, broken = row("MSFT"), row("AAPL", 2 | 4 | 8), row("AAPL", 2), Broken([1])
        odd = row("AAPL", "4")
        assert list(channel.trades([late, empty, cancelled, broken, odd])) == [late, broken, odd]

    asyncio.run(work())


@pytest.mark.parametrize("fatal", ["CHANNEL_REQUEST", "FEED_SETUP", "add", "remove"])
def test_one_that_ends_the_connection_over_it_is_asked_on_two_and_no_more(past: Past, fatal: str) -> None:
    class Fatal(Wire):
        ends: asyncio.Event

        async def send(self, text: str) -> None:
            await super().send(text)
            if fatal in (json.loads(text)["type"], *json.loads(text)):
                self.ends.set()

    async def connection() -> None:
        """As the conversation does: what it runs is ended, then it tells of the loss."""
        wire = Fatal(lambda channel, symbol: [*channel.trades([row(symbol, 4 | 8)])] and None)
        wire.ends = asyncio.Event()
        wire.channel = HistoryChannel(past, wire)
        past.subscribed(["AAPL"])
        running = asyncio.ensure_future(wire.channel.run())
        async with asyncio.timeout(60):
            await wire.ends.wait()
        running.cancel()
        await asyncio.wait([running])
        past.lost(NOW_MS, under_a_question=wire.channel.is_asking)

    for _ in range(history.MAX_LOSSES):
        assert not past.is_refused
        asyncio.run(connection())
    assert past.is_refused
