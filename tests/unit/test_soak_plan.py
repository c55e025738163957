"""What the soak does wrong, and how it judges: a plan follows from its seed, growth from looks at one process."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from pathlib import Path

import pytest

from benchmarks import resources, soak_plan
from benchmarks.soak_verdict import FILES_MARGIN, HANDLES_MARGIN, MEMORY_MARGIN_MIB, Close, growth
from hk_tick_collector.market.hk.sessions import ZONE, day_start_ms, hk_date
from hk_tick_collector.market.hours import DayKind
from hk_tick_collector.opend_sim.scenario import read_scenario

WEEK = [
    ("20261221", DayKind.WHOLE),
    ("20261222", DayKind.WHOLE),
    ("20261223", DayKind.WHOLE),
    ("20261224", DayKind.HALF),
    ("20261228", DayKind.WHOLE),
]
PAUSE_MS = 900_000
TO_LIFE = {"kill", "kill-locked", "terminate"}


@pytest.mark.parametrize("seed", range(20))
def test_a_week_has_every_kind_and_the_simulator_understands_it(seed: int, tmp_path: Path) -> None:
    plan = soak_plan.make(seed, WEEK, PAUSE_MS)
    script = tmp_path / "scenario"
    script.write_text(plan.scenario())
    steps = read_scenario(script)
    assert [step.at_ms for step in steps] == [at_ms for at_ms, _ in plan.commands]
    kinds = {step.fault.name for step in steps} | {act.name for act in plan.acts}
    assert kinds >= {"drop", "restart", "skip", "twice", "late", "disorder", "lock", "stop", "full", "read"} | TO_LIFE
    assert len(plan.listing().splitlines()) == len(plan.commands) + len(plan.acts)
    assert plan.faults > 60


@pytest.mark.parametrize("seed", range(20))
def test_the_process_ends_on_the_first_day_only(seed: int) -> None:
    acts = soak_plan.make(seed, WEEK, PAUSE_MS).acts
    assert sorted(act.name for act in acts if act.name in TO_LIFE) == sorted(TO_LIFE)
    assert {hk_date(act.at_ms) for act in acts if act.name in TO_LIFE} == {"20261221"}


def test_faults_keep_to_trading_hours_and_away_from_the_close() -> None:
    plan = soak_plan.make(3, WEEK, PAUSE_MS)
    kinds = dict(WEEK)
    for at_ms in [at_ms for at_ms, _ in plan.commands] + [act.at_ms for act in plan.acts]:
        close = 16 if kinds[hk_date(at_ms)] is DayKind.WHOLE else 12
        assert 9 * 3_600_000 <= ZONE.ms_of_day(at_ms) <= (close * 60 + 5) * 60_000


def test_a_seed_makes_one_plan() -> None:
    assert soak_plan.make(7, WEEK, PAUSE_MS) == soak_plan.make(7, WEEK, PAUSE_MS)
    assert soak_plan.make(7, WEEK, PAUSE_MS) != soak_plan.make(8, WEEK, PAUSE_MS)


def test_times_are_written_as_the_simulator_reads_them() -> None:
    assert soak_plan.hk_time(day_start_ms("20261221") + 36_000_250) == "2026-12-21T10:00:00.250"


def test_a_look_at_a_process_sees_what_it_takes_on(tmp_path: Path) -> None:
    before = resources.look(os.getpid())
    released = threading.Event()
    thread = threading.Thread(target=released.wait)
    thread.start()
    with contextlib.ExitStack() as held:
        held.enter_context((tmp_path / "file").open("w"))
        server = held.enter_context(socket.create_server(("127.0.0.1", 0)))
        held.enter_context(socket.create_connection(server.getsockname()))
        held.enter_context(server.accept()[0])
        after = resources.look(os.getpid())
    released.set()
    thread.join()
    assert after.threads == before.threads + 1
    assert after.handles == before.handles + 4
    assert after.files == before.files + 1
    assert after.connections == before.connections + 2, "both ends are ours"
    assert 1 < after.rss_mib <= after.peak_mib


def close(
    day: str, pid: int = 1, rss_mib: float = 60.0, others: int = 10, files: int = 5, connections: int = 1
) -> Close:
    return Close(day, pid, resources.Holdings(rss_mib, rss_mib, 5, others + files, files, connections), 1.0, 0)


def test_growth_is_what_exceeds_its_margin() -> None:
    most = close("2", rss_mib=60 + MEMORY_MARGIN_MIB, others=10 + HANDLES_MARGIN, files=5 + FILES_MARGIN)
    assert growth([close("1"), most]) == []
    whole_days = [close("2", rss_mib=70.0), close("3", rss_mib=50.0), close("4", rss_mib=81.0)]
    assert growth([close("1", rss_mib=40.0), *whole_days]) == ["4: rss_mib grew by 11 since 2, allowed 10"]
    assert growth([close("1"), close("2", connections=2)]) == ["2: connections grew by 1 since 1, allowed 0"]
    assert growth([close("1"), close("2", others=12)]) == ["2: other_handles grew by 2 since 1, allowed 1"]
    assert len(growth([close("1"), close("2", files=9)])) == 1


def test_another_process_shows_no_growth_and_that_is_said() -> None:
    (problem,) = growth([close("1", pid=1), close("2", pid=2)])
    assert "pid 2 instead of 1" in problem
