"""Pushes on their way from the network thread: what is handed on, counted, refused, and followed up."""

from __future__ import annotations

import logging
import os
import sys

import pytest

from hk_tick_collector.market.hk.sessions import day_start_ms
from hk_tick_collector.records.tick import Tick
from tests.unit.sources.bench import DAY, SYMBOL, Bench, play, push_of, run
from tests.unit.sources.desk import OTHER, tick


def handed(*bursts: list[list[Tick]], wanted: frozenset[str] | None = None) -> tuple[Bench, list[str]]:
    """A bench after these bursts of pushes, and when the repairer was woken."""
    woken: list[str] = []
    benches: list[Bench] = []

    async def life() -> None:
        bench = Bench(day_start_ms(DAY) + 36_000_000)
        benches.append(bench)
        handler = bench.push_handler(lambda: woken.append("hole"))
        handler.wanted = wanted
        for burst in bursts:
            handler([push_of(ticks) for ticks in burst])

    play(life())
    return benches[0], woken


def test_a_burst_is_handed_on_whole_and_counted() -> None:
    bench, woken = handed([run(1, 3), run(1, 2, symbol=OTHER)])
    assert [(row.symbol, row.seq and row.seq & 0xFFFFFFFF) for row in bench.rows] == [
        (SYMBOL, 1), (SYMBOL, 2), (SYMBOL, 3), (OTHER, 1), (OTHER, 2),
    ]  # fmt: skip
    assert (bench.progress.push_frames, bench.progress.push_rows, woken) == (2, 5, [])
    assert bench.progress.max_ts_ms == bench.rows[-1].ts_ms


def test_a_hole_wakes_the_repairer_at_once() -> None:
    bench, woken = handed([run(1, 3)], [[tick(5, 1)]], [[tick(6, 1)]])
    assert woken == ["hole"]
    assert len(bench.continuity.holes()) == 1


def test_one_unreadable_tick_costs_itself_alone_and_is_followed_up() -> None:
    day = run(1, 3)
    bench, woken = handed([[day[0], day[1], day[2]._replace(price=None)]])
    assert len(bench.rows) == 2
    assert [tick.symbol for tick in bench.rejected] == [SYMBOL]
    assert [(hole.first, hole.last, hole.unread) for hole in bench.continuity.holes()] == [(3, 3, True)]
    assert woken == ["hole"]


def test_a_day_whose_only_push_cannot_be_read_is_known() -> None:
    bench, _ = handed([[tick(1)._replace(price=None)]])
    assert bench.rows == []
    assert [(hole.trading_day, hole.first) for hole in bench.continuity.holes()] == [(DAY, 1)]


def test_what_nobody_asked_for_is_no_hole_of_anybodys_day() -> None:
    bench, woken = handed([[tick(7, symbol=OTHER)]], wanted=frozenset({SYMBOL}))
    assert (bench.rows, len(bench.rejected), woken) == ([], 1, [])
    assert bench.continuity.holes() == []


def test_a_refused_push_is_passed_over() -> None:
    async def life() -> None:
        bench = Bench(day_start_ms(DAY))
        handler = bench.push_handler()
        refused = push_of(run(1, 2))
        refused.retType = -1
        handler([refused, push_of(run(1, 2))])
        assert len(bench.rows) == 2

    play(life())


def test_a_burst_does_no_io_waits_for_nothing_and_logs_no_tick(caplog: pytest.LogCaptureFixture) -> None:
    """Of good, unreadable, unwanted and jumped over ticks, by itself: what takes them in may do all of it."""
    caplog.set_level(logging.DEBUG)
    heard: list[str] = []
    listening = [False]

    def listen(event: str, _: tuple[object, ...]) -> None:
        if listening[0] and event.startswith(("open", "os.", "socket.", "sqlite3.", "subprocess.", "time.sleep")):
            heard.append(event)

    async def life() -> None:
        bench = Bench(day_start_ms(DAY) + 36_000_000)
        handler = bench.push_handler(lambda: None)
        handler.wanted = frozenset({SYMBOL})
        handler([push_of(run(1, 3))])
        bursts = [push_of([tick(9), tick(10)._replace(price=None), tick(9)]), push_of([tick(7, symbol=OTHER)])]
        logged = len(caplog.records)
        listening[0] = True
        handler(bursts)
        listening[0] = False
        assert [(len(bench.rows), len(bench.rejected)), len(caplog.records)] == [(5, 2), logged]
        listening[0] = True
        os.listdir("/")  # noqa: PTH208 - the call that is heard
        listening[0] = False

    sys.addaudithook(listen)
    play(life())
    assert heard == ["os.listdir"], "of the test alone, which shows that it hears"
