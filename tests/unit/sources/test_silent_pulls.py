"""Symbols that a source takes and never shows: they cost the others nothing, however many they are."""

from __future__ import annotations

import asyncio

import pytest

from hk_tick_collector.core.errors import FeedLost
from hk_tick_collector.market.calendar import TradingCalendar
from hk_tick_collector.market.hk import HK
from hk_tick_collector.market.hk.sessions import day_start_ms
from hk_tick_collector.records.tick import PUSH_TYPE_POLL
from hk_tick_collector.sources.backfill import RETRY_MAX_SEC
from hk_tick_collector.sources.futu.spec import LIMITS
from tests.nights import by_day
from tests.unit.sources.bench import DAY, Bench, play, run

SYMBOLS = [f"HK.{n:05d}" for n in range(1, 41)]
CALENDAR = TradingCalendar(HK)


def bench_at(hour: int) -> Bench:
    bench = Bench(day_start_ms(DAY) + hour * 3_600_000)
    bench.opend.ticks = {symbol: run(1, 20, symbol=symbol) for symbol in SYMBOLS}
    return bench


def shown(bench: Bench) -> set[str]:
    return {tick.symbol for tick in bench.rows}


OF_FORTY = [(3, 1), (14, 7), (0, 8), (8, 8), (32, 8), (4, 16), (1, 39)]  # the first that is silent, and how many


@pytest.mark.parametrize(
    ("first", "silent", "hour"),
    by_day(
        [(*silent, hour) for silent in OF_FORTY for hour in (10, 17)],
        lambda case: case[2] == (10, 17)[OF_FORTY.index(case[:2]) % 2],
    ),
)
def test_they_are_asked_for_behind_the_others_and_end_no_connection_again(first: int, silent: int, hour: int) -> None:
    bad = set(SYMBOLS[first : first + silent])

    async def life() -> None:
        bench = bench_at(hour)
        bench.opend.trouble = lambda word, code: 3600.0 if word == "ticks" and code in bad else None
        session = bench.session(SYMBOLS, CALENDAR)

        async def script() -> None:
            await bench.until(lambda: len(shown(bench)) == len(SYMBOLS) - silent, 600)
            await asyncio.sleep(1800)
            connections = len(bench.opend.connections)
            assert connections <= 1 + silent // LIMITS.in_flight, "each that was silent for the first time counts once"
            bench.opend.trouble = lambda word, code: None
            await bench.until(lambda: shown(bench) == set(SYMBOLS), 2 * RETRY_MAX_SEC)
            assert len(bench.opend.connections) == connections

        await bench.serve(session, script())

    play(life())


@pytest.mark.parametrize("share", [2, 3])
def test_requests_that_are_lost_here_and_there_end_no_connection(share: int) -> None:
    """Also where all that are under way are lost ones: what was asked before them was answered since."""

    async def life() -> None:
        bench = bench_at(10)
        bench.opend.trouble = lambda word, code: (
            3600.0 if word == "ticks" and len(bench.opend.pulls()) % share == 0 else None
        )
        session = bench.session(SYMBOLS, CALENDAR)
        await bench.serve(session, bench.until(lambda: shown(bench) == set(SYMBOLS), 600))
        assert len(bench.opend.connections) == 1

    play(life())


def test_of_those_that_stay_silent_a_round_asks_for_a_few_in_turn() -> None:
    async def life() -> None:
        bench = bench_at(10)
        bad = set(SYMBOLS[:36])
        bench.opend.trouble = lambda word, code: 3600.0 if code in bad else None

        async def pull(symbol: str) -> None:
            await bench.puller.pull(bench.link, symbol, 50, PUSH_TYPE_POLL)

        async def asked() -> list[str]:
            before = len(bench.opend.pulls())
            assert await bench.puller.pull_all(SYMBOLS, pull, "poll") == len(bad)
            return [code for code, _ in bench.opend.pulls()[before:]]

        for _ in range(4):  # eight of them at a time are unanswered for the first time
            with pytest.raises(FeedLost):
                await bench.puller.pull_all(SYMBOLS, pull, "poll")
        _, *rounds = [await asked() for _ in range(4)]  # the last four are found at the first one
        for codes in rounds:
            assert codes[:4] == SYMBOLS[36:], "those that are answered come first"
            assert len(codes) <= 4 + 3 * LIMITS.in_flight
        assert {code for codes in rounds for code in codes} == set(SYMBOLS)

    play(life())
