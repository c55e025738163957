"""A script of timed faults: one a line, ``TIME FAULT [parameter=value ...]``.

TIME is seconds after the simulator is ready (``12.5``) or a time of day of the simulated market (``09:30:10``, Hong
Kong, on the day it starts). ``#`` begins a comment. Every line is checked before anything runs; commands run in order
of time, lines of the same time in the order of the file.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hk_tick_collector.core.errors import ConfigError
from hk_tick_collector.core.logline import event
from hk_tick_collector.market.sessions import day_start_ms, hk_date
from hk_tick_collector.opend_sim.faults import Fault, FaultError, parse_fault
from hk_tick_collector.opend_sim.simclock import SimClock

MAX_STEPS = 10_000
_DAY_TIME = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)(?::([0-5]\d)(\.\d+)?)?\Z")
_SECONDS = re.compile(r"\+?(\d+(?:\.\d+)?)s?\Z")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Step:
    """One line. Exactly one of ``after_sec`` (after ready) and ``day_ms`` (after Hong Kong midnight) is set."""

    line: int
    fault: Fault
    after_sec: float | None = None
    day_ms: int | None = None

    def wait_sec(self, clock: SimClock) -> float:
        """Real seconds from now, when the simulator is ready, until this step is due; negative when it has passed."""
        if self.after_sec is not None:
            return self.after_sec
        assert self.day_ms is not None
        due_ms = day_start_ms(hk_date(clock.now_ms())) + self.day_ms
        return -1.0 if due_ms < clock.now_ms() else clock.real_sec_until(due_ms)


def read_scenario(path: Path) -> list[Step]:
    """The steps of a script file. ConfigError names every bad line."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as err:
        raise ConfigError(f"scenario file {path}: {err}") from err
    steps: list[Step] = []
    problems: list[str] = []
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        try:
            steps.append(_parse_step(number, words))
        except FaultError as err:
            problems.append(f"{path} line {number}: {err}")
    if len(steps) > MAX_STEPS:
        problems.append(f"{path}: {len(steps)} steps, at most {MAX_STEPS} are allowed")
    if problems:
        raise ConfigError("\n".join(problems))
    return steps


def _parse_step(number: int, words: Sequence[str]) -> Step:
    fault = parse_fault(words[1:])
    seconds = _SECONDS.match(words[0])
    if seconds:
        return Step(number, fault, after_sec=float(seconds[1]))
    time_of_day = _DAY_TIME.match(words[0])
    if time_of_day:
        hour, minute, second, fraction = time_of_day.groups(default="0")
        day_sec = int(hour) * 3600 + int(minute) * 60 + int(second) + float(fraction)
        return Step(number, fault, day_ms=round(day_sec * 1000))
    raise FaultError(f"{words[0]!r} is no time; write seconds (12.5) or a market time of day (09:30:10)")


async def play(steps: Sequence[Step], clock: SimClock, apply: Callable[[Fault], object]) -> None:
    """Carry the steps out when they are due. A market time that has passed is skipped with a log line."""
    loop = asyncio.get_running_loop()
    ready_sec = loop.time()
    waits = [(step.wait_sec(clock), step) for step in steps]
    for wait_sec, step in sorted(waits, key=lambda pair: pair[0]):
        if wait_sec < 0:
            _log.warning(event("scenario_step_passed", line=step.line, fault=step.fault.name))
            continue
        await asyncio.sleep(max(0.0, ready_sec + wait_sec - loop.time()))
        apply(step.fault)
