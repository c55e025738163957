"""A far side that ends connections over one symbol: it is found, and the others are recorded."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence

import pytest

from hk_tick_collector.market.calendar import TradingCalendar
from hk_tick_collector.market.hk import HK
from hk_tick_collector.market.hk.sessions import day_start_ms
from hk_tick_collector.sources.culprits import CALM_SEC, CUT_OFF, LOSSES, MANY_LOSSES, REST_MAX_SEC, REST_MIN_SEC
from tests.nights import by_day
from tests.unit.sources.bench import DAY, Bench, play

CODES = [f"HK.{number:05d}" for number in range(1, 25)]
CALENDAR = TradingCalendar(HK)
AT_MS = day_start_ms(DAY) + 10 * 3_600_000


def ends_over(bench: Bench, bad: Sequence[str], after_sec: Callable[[], float]) -> None:
    """The connection ends so long after one of these was asked for."""

    def trouble(word: str, code: str) -> None:
        if word == "subscribe" and set(bad).intersection(code.split()):
            connection = bench.opend.connections[-1]
            asyncio.get_running_loop().call_later(after_sec(), connection.lose, "closed with 1009")

    bench.opend.trouble = trouble


@pytest.mark.parametrize(
    ("bad", "after_sec"),
    by_day(
        [(bad, sec) for bad in ([CODES[0]], [CODES[23]], [CODES[3], CODES[20]]) for sec in (0.0, 2.0)],
        lambda case: (case[1] == 0.0) == (case[0] == [CODES[23]]),
    ),
)
def test_the_others_are_recorded(bad: list[str], after_sec: float) -> None:
    async def life() -> None:
        bench = Bench(AT_MS)
        session = bench.session(CODES, CALENDAR, poll_enabled=False)

        async def script() -> None:
            ends_over(bench, bad, lambda: after_sec)
            await bench.until(lambda: bench.progress.refused_symbols == dict.fromkeys(bad, CUT_OFF), 2400)
            assert bench.progress.symbols_subscribed == len(CODES) - len(bad)
            known = len(bench.opend.connections)
            assert known < 14 * len(bad)
            await asyncio.sleep(REST_MIN_SEC / 2)
            assert len(bench.opend.connections) <= known + len(bad), "they go on, on one connection"
            await asyncio.sleep(3600)
            assert len(bench.opend.connections) < known + 14 * len(bad), "it is asked for again, more and more seldom"
            assert bench.progress.symbols_subscribed >= len(CODES) - len(bad) - 1
            bench.opend.trouble = lambda word, code: None
            await bench.until(lambda: bench.progress.symbols_subscribed == len(CODES), 2 * len(bad) * REST_MAX_SEC)
            assert bench.progress.refused_symbols == {}

        await bench.serve(session, script())

    play(life())


def test_a_line_that_is_cut_again_and_again_convicts_no_symbol() -> None:
    async def life() -> None:
        bench = Bench(AT_MS)
        session = bench.session(CODES, CALENDAR, poll_enabled=False)

        async def script() -> None:
            for _ in range(60):
                await bench.until(lambda: bench.progress.connected)
                await asyncio.sleep(CALM_SEC / 3)
                assert CUT_OFF not in bench.progress.refused_symbols.values()
                bench.opend.connections[-1].lose("reset by peer")
                await bench.until(lambda: not bench.progress.connected)
            await bench.until(lambda: bench.progress.symbols_subscribed == len(CODES), 600)

        await bench.serve(session, script())

    play(life())


@pytest.mark.parametrize(
    "lives_sec",
    by_day([CALM_SEC / 3, CALM_SEC - 1, CALM_SEC + 2, CALM_SEC + 6], lambda sec: abs(sec - CALM_SEC) <= 2),
)
def test_a_line_that_is_cut_for_hours_is_recorded_for_the_most_part(lives_sec: float) -> None:
    async def life() -> None:
        bench = Bench(AT_MS)
        session = bench.session(CODES, CALENDAR, poll_enabled=False)

        async def script() -> None:
            seen: list[int] = []
            for _ in range(120):
                await bench.until(lambda: bench.progress.connected)
                await asyncio.sleep(lives_sec)
                assert CUT_OFF not in bench.progress.refused_symbols.values()
                seen.append(bench.progress.symbols_subscribed)
                bench.opend.connections[-1].lose("reset by peer")
                await bench.until(lambda: not bench.progress.connected)
            assert sum(seen) > 0.7 * len(seen) * len(CODES)
            held = [symbols for symbols in seen if symbols < len(CODES)]
            assert len(held) < 0.3 * len(seen)

        await bench.serve(session, script())

    play(life())


def test_a_line_that_is_cut_at_any_time_costs_the_symbols_little() -> None:
    """Cuts of ten seconds' mean for an hour: most fall within the time in which a symbol is suspected."""

    async def life() -> None:
        bench = Bench(AT_MS)
        session = bench.session(CODES, CALENDAR, poll_enabled=False)
        chance = random.Random(1)

        async def script() -> None:
            recorded_sec = lived_sec = 0.0
            while lived_sec < 3600:
                await bench.until(lambda: bench.progress.connected)
                until_sec = lived_sec + chance.expovariate(1 / 10)
                while lived_sec < until_sec:
                    await asyncio.sleep(1)
                    lived_sec += 1
                    recorded_sec += bench.progress.symbols_subscribed / len(CODES)
                bench.opend.connections[-1].lose("reset by peer")
                await bench.until(lambda: not bench.progress.connected)
            assert recorded_sec > 0.9 * lived_sec

        await bench.serve(session, script())

    play(life())


def test_a_symbol_over_which_connections_end_at_any_time_is_found() -> None:
    async def life() -> None:
        bench = Bench(AT_MS)
        session = bench.session(CODES, CALENDAR, poll_enabled=False)
        chance = random.Random(1)

        async def script() -> None:
            ends_over(bench, CODES[7:8], lambda: chance.uniform(0, CALM_SEC / 2))
            await bench.until(lambda: bench.progress.refused_symbols == {CODES[7]: CUT_OFF}, 2400)
            assert MANY_LOSSES < len(bench.opend.connections) < MANY_LOSSES + 14

        await bench.serve(session, script())

    play(life())


def test_a_line_that_is_well_again_has_all_symbols_after_two_calm_times() -> None:
    async def life() -> None:
        bench = Bench(AT_MS)
        session = bench.session(CODES, CALENDAR, poll_enabled=False)

        async def script() -> None:
            for _ in range(LOSSES + 1):
                await bench.until(lambda: bench.progress.symbols_subscribed > 0)
                bench.opend.connections[-1].lose("reset by peer")
                await bench.until(lambda: not bench.progress.connected)
            await bench.until(lambda: bench.progress.symbols_subscribed == len(CODES), 4 * CALM_SEC)

        await bench.serve(session, script())

    play(life())


def test_a_line_that_is_cut_behind_one_request_convicts_no_symbol() -> None:
    async def life() -> None:
        bench = Bench(AT_MS)
        session = bench.session(CODES, CALENDAR, poll_enabled=False)

        async def script() -> None:
            ends_over(bench, CODES[:1], lambda: 0.0)
            await bench.until(lambda: CODES[0] in _asked_alone(bench), 1200)
            bench.opend.trouble = lambda word, code: None
            await bench.until(lambda: bench.progress.symbols_subscribed == len(CODES), 6 * CALM_SEC)
            assert bench.progress.refused_symbols == {}

        await bench.serve(session, script())

    play(life())


def _asked_alone(bench: Bench) -> list[str]:
    return [code for word, code, _ in bench.opend.requests if word == "subscribe" and " " not in code]


def test_fewer_losses_are_the_line_s_and_hold_nothing_back() -> None:
    async def life() -> None:
        bench = Bench(AT_MS)
        session = bench.session(CODES, CALENDAR, poll_enabled=False)

        async def script() -> None:
            for number in range(1, LOSSES):
                await bench.until(lambda: bench.progress.symbols_subscribed == len(CODES))
                assert len(bench.opend.connections) == number
                bench.opend.connections[-1].lose("reset by peer")
                await bench.until(lambda: bench.progress.symbols_subscribed == 0)
            await bench.until(lambda: bench.progress.symbols_subscribed == len(CODES))

        await bench.serve(session, script())

    play(life())


def test_a_symbol_taken_from_the_list_ends_the_search() -> None:
    async def life() -> None:
        bench = Bench(AT_MS)
        session = bench.session(CODES, CALENDAR, poll_enabled=False)

        async def script() -> None:
            ends_over(bench, CODES[:1], lambda: 0.0)
            await bench.until(lambda: len(bench.opend.connections) > LOSSES + 1)
            session.set_symbols(CODES[1:])
            await bench.until(lambda: bench.progress.symbols_subscribed == len(CODES) - 1, 1200)
            assert bench.progress.refused_symbols == {}

        await bench.serve(session, script())

    play(life())
