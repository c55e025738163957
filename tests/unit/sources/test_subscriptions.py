"""Wanted symbols against what OpenD takes: nobody is left out for a neighbour, and nothing is asked in a hurry."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest

from hk_tick_collector.core.errors import FeedError
from hk_tick_collector.sources.futu.spec import HK
from hk_tick_collector.sources.subscriptions import (
    RETRY_MAX_SEC,
    RETRY_MIN_SEC,
    SUBSCRIBE_TIMEOUT_SEC,
    Subscriptions,
)
from tests.unit.sources.bench import Bench, play

CODES = [f"HK.{n:05d}" for n in range(1, 251)]


def on_a_bench(test: Callable[[Bench, Subscriptions], Awaitable[None]]) -> Callable[[], None]:
    """Run the test in virtual time with the first 250 codes wanted."""

    def runner() -> None:
        async def life() -> None:
            bench = Bench(0)
            bench.opend.quota = 1000
            await test(bench, Subscriptions(bench.link, HK, CODES, bench.progress, bench.clock))

        play(life())

    runner.__name__ = test.__name__
    return runner


@on_a_bench
async def test_all_are_subscribed_in_batches_and_once(bench: Bench, subscriptions: Subscriptions) -> None:
    assert await subscriptions.reconcile() == CODES
    assert [len(code.split()) for word, code, _ in bench.opend.requests if word == "subscribe"] == [100, 100, 50]
    assert await subscriptions.reconcile() == []
    assert subscriptions.complete
    assert not subscriptions.retry_due()
    assert bench.progress.symbols_subscribed == 250


@on_a_bench
async def test_bad_codes_stand_alone_and_are_tried_again_later(bench: Bench, subscriptions: Subscriptions) -> None:
    bench.opend.refused = {CODES[3], CODES[120]}
    assert await subscriptions.reconcile() == [code for code in CODES if code not in bench.opend.refused]
    assert set(subscriptions.refused) == bench.opend.refused
    assert len([word for word, _, _ in bench.opend.requests if word == "subscribe"]) < 3 + 4 * 7
    assert not subscriptions.retry_due()
    await asyncio.sleep(RETRY_MIN_SEC * 1.2)
    assert subscriptions.retry_due()
    bench.opend.refused = set()
    assert await subscriptions.reconcile() == [CODES[3], CODES[120]]
    assert subscriptions.refused == {}


@on_a_bench
async def test_retries_come_with_growing_pauses(bench: Bench, subscriptions: Subscriptions) -> None:
    bench.opend.refused = {CODES[3]}
    tries = 0
    for _ in range(3600):
        if subscriptions.retry_due():
            tries += 1
            await subscriptions.reconcile()
        await asyncio.sleep(1)
    assert 3600 / RETRY_MAX_SEC <= tries <= 20


@on_a_bench
async def test_a_short_quota_is_spent_in_the_lists_order(bench: Bench, subscriptions: Subscriptions) -> None:
    bench.opend.quota = 30
    assert await subscriptions.reconcile() == CODES[:30]
    assert len(subscriptions.refused) == 220
    assert "quota is short" in subscriptions.refused[CODES[-1]]


@on_a_bench
async def test_what_is_no_longer_wanted_is_given_back_when_opend_takes_it(
    bench: Bench, subscriptions: Subscriptions
) -> None:
    await subscriptions.reconcile()
    subscriptions.set_wanted(CODES[1:])

    def too_early(word: str, code: str) -> None:
        if word == "unsubscribe":
            raise FeedError("a minute has not passed")

    bench.opend.trouble = too_early
    assert subscriptions.retry_due()
    await subscriptions.reconcile()
    assert CODES[0] in bench.connection.subscribed
    assert subscriptions.active == CODES[1:]
    bench.opend.trouble = lambda word, code: None
    await asyncio.sleep(RETRY_MIN_SEC * 1.2)
    assert subscriptions.retry_due()
    await subscriptions.reconcile()
    assert CODES[0] not in bench.connection.subscribed
    assert not subscriptions.retry_due()


@on_a_bench
async def test_what_could_not_be_given_back_is_not_forgotten_without_a_list(
    bench: Bench, subscriptions: Subscriptions
) -> None:
    """Its slot would stay taken until the connection ends."""
    await subscriptions.reconcile()
    subscriptions.set_wanted(CODES[1:])

    def no_list(word: str, code: str) -> None:
        if word in ("list", "unsubscribe"):
            raise FeedError("not now")

    bench.opend.trouble = no_list
    for _ in range(3):
        await subscriptions.reconcile()
        assert CODES[0] in bench.connection.subscribed
        await asyncio.sleep(RETRY_MAX_SEC * 1.2)
        assert subscriptions.retry_due()
    bench.opend.trouble = lambda word, code: no_list(word, code) if word == "list" else None
    await subscriptions.reconcile()
    assert CODES[0] not in bench.connection.subscribed
    assert subscriptions.active == CODES[1:]
    assert not subscriptions.retry_due()


@on_a_bench
async def test_what_opend_dropped_by_itself_is_told_and_new_again(bench: Bench, subscriptions: Subscriptions) -> None:
    """Nothing of it was pushed since: it is interrupted before it is subscribed again, and backfilled after."""
    told: list[tuple[list[str], int]] = []
    watched = Subscriptions(
        bench.link, HK, CODES[:3], bench.progress, bench.clock,
        lambda codes: told.append((list(codes), len(bench.connection.subscribed))),
    )  # fmt: skip
    await watched.reconcile()
    bench.connection.subscribed.remove(CODES[1])
    assert await watched.reconcile() == [CODES[1]]
    assert told == [(CODES[:3], 0), ([CODES[1]], 2)]


@on_a_bench
async def test_a_symbol_that_is_never_answered_costs_itself_alone(bench: Bench, subscriptions: Subscriptions) -> None:
    """The others of its request are there after some tries, and no connection ends over it."""
    bad = CODES[130]
    bench.opend.trouble = lambda word, code: 3600.0 if word == "subscribe" and bad in code.split() else None
    await subscriptions.reconcile()
    assert subscriptions.active == [*CODES[:100], *CODES[200:]], "one request of three"
    assert subscriptions.refused[bad] == f"no answer in {SUBSCRIBE_TIMEOUT_SEC:g} s"
    tries = 1
    while set(subscriptions.refused) != {bad}:
        assert tries < 10
        await asyncio.sleep(1)
        if subscriptions.retry_due():
            tries += 1
            await subscriptions.reconcile()
    assert subscriptions.active == [code for code in CODES if code != bad]
    bench.opend.trouble = lambda word, code: None
    await asyncio.sleep(RETRY_MAX_SEC * 1.2)
    await subscriptions.reconcile()
    assert subscriptions.complete


@pytest.mark.parametrize("silent", [(0, 1), (5, 130), (0, 99, 100, 101, 249), range(20)], ids=len)
def test_several_that_are_never_answered_cost_themselves_alone(silent: Sequence[int]) -> None:
    bad = {CODES[number] for number in silent}

    @on_a_bench
    async def life(bench: Bench, subscriptions: Subscriptions) -> None:
        bench.opend.trouble = lambda word, code: 3600.0 if word == "subscribe" and bad & set(code.split()) else None
        began_sec = bench.clock.monotonic()
        await subscriptions.reconcile()
        while set(subscriptions.refused) != bad:
            assert bench.clock.monotonic() - began_sec < 60 * len(bad) + 240
            await asyncio.sleep(1)
            if subscriptions.retry_due():
                await subscriptions.reconcile()
        assert subscriptions.active == [code for code in CODES if code not in bad]

    life()


@on_a_bench
async def test_a_source_that_was_silent_for_a_while_has_all_soon_after(
    bench: Bench, subscriptions: Subscriptions
) -> None:
    bench.opend.trouble = lambda word, code: 3600.0 if word == "subscribe" else None
    until_sec = bench.clock.monotonic() + 1800
    while bench.clock.monotonic() < until_sec:
        while not subscriptions.retry_due():
            await asyncio.sleep(1)
        await subscriptions.reconcile()
    bench.opend.trouble = lambda word, code: None
    healed_sec = bench.clock.monotonic()
    while not subscriptions.complete:
        await asyncio.sleep(1)
        if subscriptions.retry_due():
            await subscriptions.reconcile()
    assert bench.clock.monotonic() - healed_sec < 90


@on_a_bench
async def test_a_source_that_answers_nothing_is_asked_twice_and_not_for_each(
    bench: Bench, subscriptions: Subscriptions
) -> None:
    bench.opend.trouble = lambda word, code: 3600.0 if word == "subscribe" else None
    began_sec = bench.clock.monotonic()
    await subscriptions.reconcile()
    assert bench.clock.monotonic() - began_sec < 3 * SUBSCRIBE_TIMEOUT_SEC
    assert len(subscriptions.refused) == len(CODES)


@on_a_bench
async def test_an_end_that_is_not_answered_ends_no_connection(bench: Bench, subscriptions: Subscriptions) -> None:
    await subscriptions.reconcile()
    subscriptions.set_wanted(CODES[1:])
    bench.opend.trouble = lambda word, code: 3600.0 if word == "unsubscribe" else None
    await subscriptions.reconcile()
    assert subscriptions.active == CODES[1:]
    bench.opend.trouble = lambda word, code: None
    await asyncio.sleep(RETRY_MIN_SEC * 1.2)
    await subscriptions.reconcile()
    assert CODES[0] not in bench.connection.subscribed


@on_a_bench
async def test_whose_ticks_are_wanted_is_told_until_they_are_given_back(
    bench: Bench, subscriptions: Subscriptions
) -> None:
    await subscriptions.reconcile()
    told: list[frozenset[str]] = []
    watched = Subscriptions(bench.link, HK, CODES[:3], bench.progress, bench.clock, on_wanted=told.append)
    await watched.reconcile()
    assert told[-1] == set(CODES[:3])
    watched.set_wanted(CODES[1:4])

    def too_early(word: str, code: str) -> None:
        if word == "unsubscribe":
            raise FeedError("a minute has not passed")

    bench.opend.trouble = too_early
    await watched.reconcile()
    assert told[-1] == set(CODES[:4]), "it is sent until it is given back"
    bench.opend.trouble = lambda word, code: None
    await watched.reconcile()
    assert told[-1] == set(CODES[1:4])
