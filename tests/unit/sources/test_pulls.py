"""Pull, poll, audit, follow and repair, each by itself: what is asked for, how often, and what is concluded."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from itertools import pairwise

import pytest

from hk_tick_collector.core.errors import FeedError, FeedLost
from hk_tick_collector.core.facts import NUMBERS_SKIPPED, GapFound, Unproven, Verified
from hk_tick_collector.market.hk.sessions import day_start_ms
from hk_tick_collector.records.tick import PUSH_TYPE_POLL, seq_counter
from hk_tick_collector.sources.futu.spec import LIMITS
from hk_tick_collector.sources.poll import (
    AUDIT_INTERVAL_SEC,
    AUDIT_ROWS,
    FOLLOW_MAX_SEC,
    FOLLOW_ROWS,
    Auditor,
    Follower,
    Poller,
)
from hk_tick_collector.sources.repair import REPAIR_ATTEMPTS, Repairer
from tests.unit.sources.bench import DAY, SYMBOL, Bench, FakeConnection, play, run
from tests.unit.sources.desk import OTHER, YESTERDAY, tick

MANY = [f"HK.{n:05d}" for n in range(1, 61)]


def on_a_bench(test: Callable[[Bench], Awaitable[None]]) -> Callable[[], None]:
    """Run the test in virtual time, at 10:00 of the day."""

    def runner() -> None:
        async def life() -> None:
            bench = Bench(day_start_ms(DAY) + 36_000_000)
            bench.continuity.connected()
            await test(bench)

        play(life())

    runner.__name__ = test.__name__
    return runner


# --- pull ---


@on_a_bench
async def test_an_answer_under_way_speaks_of_the_moment_before_it_was_sent(bench: Bench) -> None:
    bench.opend.ticks[SYMBOL] = run(1, 3)
    bench.continuity.observe_push(run(1, 3), 0.0)
    bench.opend.trouble = lambda word, code: 2.5
    others = [asyncio.ensure_future(bench.puller.pull(bench.link, code, 50, "poll")) for code in MANY[:8]]
    await asyncio.sleep(0)
    waits = asyncio.ensure_future(bench.puller.pull(bench.link, SYMBOL, 1000, PUSH_TYPE_POLL))
    await asyncio.gather(*others)
    sent_ms = bench.clock.now_ms()  # not when it began to wait for its turn
    await waits
    verified = [fact for fact in bench.facts if isinstance(fact, Verified) and fact.symbol == SYMBOL]
    assert [fact.at_ms for fact in verified] == [sent_ms]
    assert bench.clock.now_ms() == sent_ms + 2500


@on_a_bench
async def test_pulls_in_flight_are_bounded_and_failures_are_counted(bench: Bench) -> None:
    def trouble(word: str, code: str) -> None:
        if code in MANY[::10]:
            raise FeedError("OpenD is busy")

    bench.opend.trouble = trouble
    answered: list[str] = []

    async def one(symbol: str) -> None:
        await bench.puller.pull(bench.link, symbol, 50, PUSH_TYPE_POLL)
        answered.append(symbol)

    assert await bench.puller.pull_all(MANY, one, "poll") == 6
    assert len(answered) == 54
    assert (bench.opend.most_in_flight, bench.progress.request_errors) == (LIMITS.in_flight, 6)


@on_a_bench
async def test_an_opend_that_answers_nothing_is_given_up(bench: Bench) -> None:
    bench.opend.trouble = lambda word, code: 60.0

    async def one(symbol: str) -> None:
        await bench.puller.pull(bench.link, symbol, 50, PUSH_TYPE_POLL)

    with pytest.raises(FeedLost):
        await bench.puller.pull_all(MANY, one, "poll")
    assert len(bench.opend.pulls()) <= 2 * LIMITS.in_flight


@on_a_bench
async def test_rows_that_cannot_be_read_go_to_the_quarantine_and_stay_holes(bench: Bench) -> None:
    day = run(1, 4)
    bench.opend.ticks[SYMBOL] = [day[0]._replace(price=None), day[1], day[2]._replace(price=None), day[3]]
    result = await bench.puller.pull(bench.link, SYMBOL, 1000, PUSH_TYPE_POLL)
    assert (result.fetched_rows, result.fresh_rows) == (4, 2)
    assert [tick.symbol for tick in bench.rejected] == [SYMBOL, SYMBOL]
    assert [(hole.first, hole.unread) for hole in bench.continuity.holes()] == [(3, True), (1, True)]
    assert bench.hole_found.is_set()
    assert bench.facts == []


@on_a_bench
async def test_repeats_are_handed_on_once_a_connection_and_counted_as_duplicates(bench: Bench) -> None:
    bench.opend.ticks[SYMBOL] = run(1, 20)
    for _ in range(3):
        await bench.puller.pull(bench.link, SYMBOL, 1000, PUSH_TYPE_POLL)
    assert (len(bench.rows), bench.progress.duplicate_rows) == (20, 40)
    bench.continuity.connected()
    await bench.puller.pull(bench.link, SYMBOL, 1000, PUSH_TYPE_POLL)
    assert (len(bench.rows), bench.progress.duplicate_rows) == (40, 60)


# --- poll ---


@on_a_bench
async def test_quiet_symbols_are_polled_less_and_less_and_at_once_again_after_news(bench: Bench) -> None:
    poller = Poller(bench.puller, bench.continuity, bench.progress, bench.clock, 3.0, 100, 10.0)
    bench.opend.ticks[SYMBOL] = run(1, 5)
    for _ in range(100):
        await poller.poll_quiet(bench.link, [SYMBOL])
        await asyncio.sleep(3)
    assert 7 <= len(bench.opend.pulls()) <= 12
    assert (bench.progress.poll_accepted_rows, bench.opend.pulls()[0]) == (5, (SYMBOL, 100))
    bench.opend.ticks[SYMBOL] = run(1, 6)
    asked = len(bench.opend.pulls())
    for _ in range(35):
        await poller.poll_quiet(bench.link, [SYMBOL])
        await asyncio.sleep(3)
    assert bench.progress.poll_accepted_rows == 6
    assert len(bench.opend.pulls()) - asked >= 4


@on_a_bench
async def test_ticks_of_days_before_are_no_news_of_a_symbol_whose_counters_prove_nothing(bench: Bench) -> None:
    """OpenD shows them in front of the day's own. As news, they would be a push channel that fell silent, or a market
    that speaks, for as long as nothing is traded."""
    poller = Poller(bench.puller, bench.continuity, bench.progress, bench.clock, 3.0, 100, 10.0)
    bench.continuity.observe_push([*run(1, 2), tick(1, 5)], 0.0)
    assert bench.continuity.distrusted([SYMBOL])
    bench.opend.ticks[SYMBOL] = [*run(1, 20, day=YESTERDAY), *run(1, 2), tick(1, 5)]
    for _ in range(100):
        await poller.poll_quiet(bench.link, [SYMBOL])
        await asyncio.sleep(3)
    assert 7 <= len(bench.opend.pulls()) <= 12
    assert bench.progress.poll_accepted_rows == 0
    bench.opend.ticks[SYMBOL].append(tick(2, 90))
    for _ in range(20):
        await poller.poll_quiet(bench.link, [SYMBOL])
        await asyncio.sleep(3)
    assert bench.progress.poll_accepted_rows == 1


@on_a_bench
async def test_a_symbol_that_is_pushed_is_not_polled(bench: Bench) -> None:
    poller = Poller(bench.puller, bench.continuity, bench.progress, bench.clock, 3.0, 100, 10.0)
    for n in range(1, 10):
        bench.continuity.observe_push([tick(n, n)], bench.clock.monotonic())
        await poller.poll_quiet(bench.link, [SYMBOL])
        await asyncio.sleep(3)
    assert bench.opend.pulls() == []


# --- audit ---


@on_a_bench
async def test_every_symbol_is_audited_once_a_round_however_long_its_parts_take(bench: Bench) -> None:
    auditor = Auditor(bench.puller, bench.continuity, bench.clock)
    waits_sec = [3.0, 17.0, 40.0, 3.0, 60.0, 29.0, 48.0, 40.0]
    assert sum(waits_sec) == AUDIT_INTERVAL_SEC
    for wait_sec in waits_sec:
        await asyncio.sleep(wait_sec - (bench.clock.monotonic() % 1.0 if wait_sec > 3 else 0))
        await auditor.run(bench.link, MANY)
    asked = [code for code, _ in bench.opend.pulls()]
    assert len(asked) == len(set(asked))
    assert len(asked) >= len(MANY) - 1


@on_a_bench
async def test_a_whole_answer_is_wanted_until_beginning_and_interruptions_are_settled(bench: Bench) -> None:
    auditor = Auditor(bench.puller, bench.continuity, bench.clock)
    bench.opend.ticks[SYMBOL] = run(1, 300)
    bench.continuity.observe_push(run(1, 300)[-3:], 0.0)

    async def audit() -> int:
        await asyncio.sleep(AUDIT_INTERVAL_SEC)
        await auditor.run(bench.link, [SYMBOL])
        return bench.opend.pulls()[-1][1]

    assert await audit() == 1000
    assert await audit() == AUDIT_ROWS
    bench.continuity.connected()
    bench.continuity.interrupted([SYMBOL])
    assert [await audit(), await audit()] == [1000, AUDIT_ROWS]


# --- follow ---


@on_a_bench
async def test_a_distrusted_busy_symbol_is_pulled_whole_before_opend_can_show_no_more_of_it(bench: Bench) -> None:
    """A tick without a sequence, then no push at all: at 50 ticks a second nothing may pass unseen."""
    follower = Follower(bench.puller, bench.continuity, bench.progress, bench.clock)
    bench.continuity.observe_push([tick(1)._replace(seq=None)], 0.0)
    day = [tick._replace(ts_ms=tick.ts_ms - (n - 1) * 80) for n, tick in enumerate(run(1, 6000), 1)]
    started_sec = bench.clock.monotonic()
    while (shown := int((bench.clock.monotonic() - started_sec) * 50)) < 5900:
        bench.opend.ticks[SYMBOL] = day[max(0, shown - 1000) : shown]
        await follower.follow(bench.link, [SYMBOL, OTHER])
        await asyncio.sleep(1)
    seen = {seq_counter(row.seq) for row in bench.rows if row.seq}
    assert seen == set(range(1, max(seen) + 1))
    assert set(bench.opend.pulls()) == {(SYMBOL, 1000)}
    assert len(bench.opend.pulls()) < 40
    assert max(seen) > 5000


@on_a_bench
async def test_many_pushes_bring_the_next_pull_forward(bench: Bench) -> None:
    follower = Follower(bench.puller, bench.continuity, bench.progress, bench.clock)
    bench.continuity.observe_push([tick(1)._replace(seq=None)], 0.0)
    await follower.follow(bench.link, [SYMBOL])
    bench.continuity.observe_push(run(2, FOLLOW_ROWS), 0.0)
    await follower.follow(bench.link, [SYMBOL])
    assert len(bench.opend.pulls()) == 1
    bench.continuity.observe_push(run(FOLLOW_ROWS + 1, FOLLOW_ROWS + 1, 50), 0.0)
    await follower.follow(bench.link, [SYMBOL])
    assert len(bench.opend.pulls()) == 2


@on_a_bench
async def test_a_quiet_distrusted_symbol_and_a_failing_one_are_not_asked_all_the_time(bench: Bench) -> None:
    follower = Follower(bench.puller, bench.continuity, bench.progress, bench.clock)
    for symbol in (SYMBOL, OTHER):
        bench.continuity.observe_push([tick(1, symbol=symbol)._replace(seq=None)], 0.0)

    def trouble(word: str, code: str) -> None:
        if code == OTHER:
            raise FeedError("OpenD is busy")

    bench.opend.trouble = trouble
    for _ in range(120):
        await follower.follow(bench.link, [SYMBOL, OTHER])
        await asyncio.sleep(1)
    assert len(bench.opend.pulls(SYMBOL)) == 120 // FOLLOW_MAX_SEC
    assert 20 <= len(bench.opend.pulls(OTHER)) <= 26


# --- repair ---


async def repaired(bench: Bench, sec: float) -> None:
    """Let the repairer work for a while."""
    repairer = Repairer(bench.puller, bench.continuity, bench.progress, bench.clock, bench.hole_found)
    repairer.wake()
    task = asyncio.ensure_future(repairer.run(bench.link))
    await asyncio.sleep(sec)
    assert not task.done(), task
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@on_a_bench
async def test_a_hole_is_closed_by_a_pull_of_its_size(bench: Bench) -> None:
    day = run(1, 300)
    bench.opend.ticks[SYMBOL] = day
    bench.continuity.observe_push([*day[:100], *day[110:]], 0.0)
    await repaired(bench, 5)
    assert bench.opend.pulls() == [(SYMBOL, 300 - 100 + 20)]
    assert not bench.continuity.has_holes
    assert {101, 110} <= {seq_counter(row.seq) for row in bench.rows if row.seq}
    assert bench.progress.holes_seen == 1


@on_a_bench
async def test_what_opend_missed_itself_is_asked_for_a_few_times_and_becomes_a_gap(bench: Bench) -> None:
    day = run(1, 30)
    bench.opend.ticks[SYMBOL] = [*day[:10], *day[12:]]
    bench.continuity.observe_push(day[:10], 0.0)
    bench.continuity.connected()
    bench.continuity.observe_push(day[12:], 0.0)
    await repaired(bench, 60)
    assert len(bench.opend.pulls()) == REPAIR_ATTEMPTS
    (gap,) = [fact for fact in bench.facts if isinstance(fact, GapFound)]
    assert (gap.first, gap.last, gap.reason) == (11, 12, "not shown by OpenD")
    pauses = [later - earlier for earlier, later in pairwise(bench.opend.asked_at_sec)]
    assert pauses == sorted(pauses)


@on_a_bench
async def test_numbers_that_no_tick_has_are_no_missing_ticks(bench: Bench) -> None:
    """OpenD shows both neighbours side by side, and nothing was interrupted between them."""
    day = run(1, 30)
    bench.opend.ticks[SYMBOL] = [*day[:10], *day[12:]]
    bench.continuity.observe_push(bench.opend.ticks[SYMBOL], 0.0)
    await repaired(bench, 60)
    assert len(bench.opend.pulls()) == REPAIR_ATTEMPTS
    assert not bench.continuity.has_holes
    assert [fact.reason for fact in bench.facts if isinstance(fact, Unproven)] == [NUMBERS_SKIPPED]
    assert not [fact for fact in bench.facts if isinstance(fact, GapFound)]


@on_a_bench
async def test_what_lies_beyond_opends_memory_is_given_up_at_once(bench: Bench) -> None:
    day = run(1, 1500)
    bench.opend.ticks[SYMBOL] = day[500:]
    bench.continuity.observe_push([day[0], *day[400:]], 0.0)
    await repaired(bench, 60)
    assert bench.opend.pulls() == [(SYMBOL, 1000)]
    assert [fact.reason for fact in bench.facts if isinstance(fact, GapFound)] == ["beyond the newest 1000"]


@on_a_bench
async def test_an_unreadable_tick_is_asked_for_and_its_gap_says_why(bench: Bench) -> None:
    day = run(1, 3)
    bench.opend.ticks[SYMBOL] = [*day[:2], day[2]._replace(price=None)]
    bench.continuity.observe_push(day[:2], 0.0)
    await bench.puller.pull(bench.link, SYMBOL, 50, PUSH_TYPE_POLL)
    await repaired(bench, 60)
    (gap,) = [fact for fact in bench.facts if isinstance(fact, GapFound)]
    assert (gap.first, gap.last, gap.reason) == (3, 3, "could not be read")


@on_a_bench
async def test_a_repair_that_gets_no_answer_gives_nothing_up(bench: Bench) -> None:
    day = run(1, 30)
    bench.continuity.observe_push([*day[:10], *day[12:]], 0.0)

    def trouble(word: str, code: str) -> None:
        raise FeedError("OpenD is busy")

    bench.opend.trouble = trouble
    await repaired(bench, 60)
    assert bench.continuity.has_holes
    assert bench.facts == []
    assert len(bench.opend.pulls()) <= 150, "never in a hot loop"


@on_a_bench
async def test_several_symbols_are_repaired_at_once(bench: Bench) -> None:
    for symbol in MANY[:5]:
        day = run(1, 30, symbol=symbol)
        bench.opend.ticks[symbol] = day
        bench.continuity.observe_push([*day[:10], *day[12:]], 0.0)
    await repaired(bench, 2)
    assert sorted(code for code, _ in bench.opend.pulls()) == MANY[:5]


def test_the_fake_is_a_connection() -> None:
    """What the feed calls exists on the real one, with the same parameters."""
    import inspect  # noqa: PLC0415

    from hk_tick_collector.sources.futu.sdk import Connection  # noqa: PLC0415

    names = (
        "open", "global_state", "subscriptions", "subscribe_tickers", "unsubscribe_tickers", "recent_ticks",
        "subscribe_books", "unsubscribe_books", "order_book",
    )  # fmt: skip
    for name in names:
        assert list(inspect.signature(getattr(FakeConnection, name)).parameters) == list(
            inspect.signature(getattr(Connection, name)).parameters
        ), name
