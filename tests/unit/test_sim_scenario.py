"""The script file: every line is checked first, steps run when they are due."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from hk_tick_collector.core.errors import ConfigError
from hk_tick_collector.market.hk.sessions import day_start_ms
from hk_tick_collector.opend_sim.faults import Fault
from hk_tick_collector.opend_sim.scenario import play, read_scenario
from hk_tick_collector.opend_sim.simclock import SimClock

NINE_THIRTY_MS = day_start_ms("20261120") + (9 * 60 + 30) * 60_000


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "faults.txt"
    path.write_text(text)
    return path


def test_lines_times_and_comments(tmp_path: Path) -> None:
    steps = read_scenario(
        write(
            tmp_path,
            "# a bad morning\n\n5 drop\n+7.5s skip percent=10 seconds=3  # one in ten\n09:30:10 logout\n",
        )
    )
    assert [(s.line, s.after_sec, s.day_ms, s.fault.name) for s in steps] == [
        (3, 5.0, None, "drop"),
        (4, 7.5, None, "skip"),
        (5, None, (9 * 3600 + 30 * 60 + 10) * 1000, "logout"),
    ]


def test_every_bad_line_is_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as info:
        read_scenario(write(tmp_path, "5 drop\nsoon drop\n6 explode\n25:00:00 drop\n7\n"))
    text = str(info.value)
    assert all(f"line {n}:" in text for n in (2, 3, 4, 5))
    assert "line 1:" not in text
    assert "'soon' is not a time" in text
    assert "unknown fault 'explode'" in text


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.txt"):
        read_scenario(tmp_path / "absent.txt")


def test_steps_run_in_order_of_time(tmp_path: Path) -> None:
    steps = read_scenario(write(tmp_path, "0.2 silent\n0.05 drop\n0.05 login\n"))
    done: list[tuple[float, str]] = []

    async def run() -> None:
        begun_sec = asyncio.get_running_loop().time()

        def apply(fault: Fault) -> None:
            done.append((asyncio.get_running_loop().time() - begun_sec, fault.name))

        await play(steps, SimClock(), apply)

    asyncio.run(run())
    assert [name for _, name in done] == ["drop", "login", "silent"]
    assert done[0][0] >= 0.05
    assert done[2][0] >= 0.2


def test_market_times_follow_the_market_clock(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    steps = read_scenario(write(tmp_path, "09:30:10 drop\n09:29 logout\n"))
    done: list[str] = []
    clock = SimClock(NINE_THIRTY_MS, speed=100)
    caplog.set_level(logging.WARNING)
    asyncio.run(play(steps, clock, lambda fault: done.append(fault.name)))
    assert done == ["drop"]
    assert clock.now_ms() >= NINE_THIRTY_MS + 10_000
    assert "scenario_step_passed line=2 fault=logout" in caplog.text


def test_a_market_time_with_its_day_is_due_on_that_day_whatever_the_clock_does(tmp_path: Path) -> None:
    steps = read_scenario(write(tmp_path, "2026-11-23T09:30:10.500 drop\n2026-11-23T09:31:00 logout\n"))
    clock = SimClock(NINE_THIRTY_MS, speed=1000)
    done: list[tuple[str, int]] = []

    async def run() -> None:
        playing = asyncio.create_task(play(steps, clock, lambda fault: done.append((fault.name, clock.now_ms()))))
        await asyncio.sleep(0.05)
        clock.stand()
        await asyncio.sleep(0.1)
        assert not done
        clock.jump(day_start_ms("20261123") + (9 * 60 + 30) * 60_000 + 20_000)
        await asyncio.sleep(0.1)
        assert [name for name, _ in done] == ["drop"], "it was jumped over"
        clock.run()
        await asyncio.wait_for(playing, 60)

    asyncio.run(run())
    assert [name for name, _ in done] == ["drop", "logout"]
    assert done[1][1] >= day_start_ms("20261123") + (9 * 60 + 31) * 60_000


def test_a_day_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="2026-13-01T09:30:00"):
        read_scenario(write(tmp_path, "2026-13-01T09:30:00 drop\n"))
