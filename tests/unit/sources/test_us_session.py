"""A night and a morning of New York: what is subscribed, fetched and told where sequences only name ticks."""

from __future__ import annotations

import asyncio

import pytest

from hk_tick_collector.core.facts import NOT_JOINED, Unproven
from hk_tick_collector.market.calendar import TradingCalendar
from hk_tick_collector.records.tick import Tick
from hk_tick_collector.sources.futu.markets import US
from tests.unit.sources.bench import Bench, play, push_of
from tests.unit.sources.test_identities import DAY, OPEN_SEC, SYMBOL, us_tick

CODES = (SYMBOL, "US.BRK.B")
CALENDAR = TradingCalendar(US.market)
BEFORE_SEC = 60  # the session begins so long before the opening


def trades(from_sec: int, to_sec: int, per_sec: int = 4) -> list[Tick]:
    return [us_tick(second, index) for second in range(from_sec, to_sec) for index in range(per_sec)]


def seqs(rows: list[Tick]) -> set[int | None]:
    return {row.seq for row in rows}


def test_what_no_push_brought_is_fetched_before_opend_forgets_it() -> None:
    """Half of the pushes are lost without a trace: all that is shown is fetched as often as the symbol trades."""

    async def life() -> None:
        bench = Bench((OPEN_SEC - BEFORE_SEC) * 1000, US)
        opend = bench.opend
        opend.ticks = {SYMBOL: [], "US.BRK.B": []}
        session = bench.session(CODES, CALENDAR, poll_enabled=False)
        day = trades(0, 600)

        async def script() -> None:
            await bench.until(lambda: bench.progress.symbols_subscribed == 2)
            await asyncio.sleep(BEFORE_SEC)
            for at in range(0, len(day), 4):
                opend.ticks[SYMBOL] += day[at : at + 4]
                if at % 8:
                    opend.connections[0].on_push([push_of(day[at : at + 4])])
                await asyncio.sleep(1)
            await asyncio.sleep(30)

        await bench.serve(session, script())
        assert seqs(bench.rows) == seqs(day)
        assert bench.facts == []
        assert bench.progress.poll_accepted_rows > 1000  # the others came with audits
        assert bench.rejected == []

    play(life())


@pytest.mark.parametrize(("away_sec", "doubts"), [(100, []), (400, [NOT_JOINED])])
def test_a_lost_line_is_a_doubt_only_where_opend_does_not_reach_back(away_sec: int, doubts: list[str]) -> None:
    async def life() -> None:
        bench = Bench((OPEN_SEC - BEFORE_SEC) * 1000, US)
        opend = bench.opend
        opend.ticks = {SYMBOL: [], "US.BRK.B": []}
        session = bench.session(CODES, CALENDAR)
        before, missed = trades(0, 20), trades(20, 20 + away_sec)

        async def script() -> None:
            await bench.until(lambda: bench.progress.symbols_subscribed == 2)
            await asyncio.sleep(BEFORE_SEC)
            opend.ticks[SYMBOL] += before
            opend.connections[0].on_push([push_of(before)])
            await asyncio.sleep(20)
            opend.ticks[SYMBOL] += missed
            opend.connections[0].lose()
            await bench.until(lambda: len(opend.connections) == 2 and bench.progress.symbols_subscribed == 2)
            await asyncio.sleep(30)

        await bench.serve(session, script())
        assert seqs(bench.rows) == seqs([*before, *missed[-1000:]])
        told = [(fact.symbol, fact.trading_day, fact.reason) for fact in bench.facts if isinstance(fact, Unproven)]
        assert told == [(SYMBOL, DAY, reason) for reason in doubts]
        assert len(told) == len(bench.facts)

    play(life())


def test_the_market_that_opend_calls_closed_is_the_one_that_is_recorded() -> None:
    async def life() -> None:
        bench = Bench((OPEN_SEC + 60) * 1000, US)
        bench.opend.market_state = "OVERNIGHT"
        session = bench.session(CODES, CALENDAR)

        async def script() -> None:
            await bench.until(lambda: bench.progress.symbols_subscribed == 2)
            assert (bench.progress.market_state, bench.progress.closed_by_source) == ("OVERNIGHT", True)
            bench.opend.market_state = "Afternoon"
            await bench.until(lambda: bench.progress.market_state == "Afternoon")
            assert not bench.progress.closed_by_source

        await bench.serve(session, script())

    play(life())
