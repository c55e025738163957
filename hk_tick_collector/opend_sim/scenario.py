"""A script of timed faults: one a line, ``TIME FAULT [parameter=value ...]``.

TIME is seconds after the simulator is ready (``12.5``), a time of day of the simulated market (``09:30:10``, its local
time, on the day it starts) or such a time with its day (``2026-12-22T09:30:10``). ``#`` begins a comment. Every line is
checked before anything runs; commands run in order of time, lines of the same time in the order of the file. Market
times follow the market's clock when it stands still or jumps: a step that was jumped over is carried out then.
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
from hk_tick_collector.market.hk import HK
from hk_tick_collector.market.market import Market
from hk_tick_collector.opend_sim.faults import Fault, FaultError, parse_fault
from hk_tick_collector.opend_sim.simclock import SimClock, time_ms

MAX_STEPS = 10_000
LOOK_AGAIN_SEC = 0.02  # a market clock may be stopped, started and set at any time
_DAY_TIME = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)(?::([0-5]\d)(\.\d+)?)?\Z")
_SECONDS = re.compile(r"\+?(\d+(?:\.\d+)?)s?\Z")
_DATED_TIME = re.compile(r"\d{4}-\d\d-\d\dT")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Step:
    """One line. Exactly one of ``after_sec`` (after ready), ``day_ms`` (after local midnight) and ``at_ms`` (UTC
    epoch) is set."""

    line: int
    fault: Fault
    after_sec: float | None = None
    day_ms: int | None = None
    at_ms: int | None = None
    market: Market = HK

    def due_ms(self, start_ms: int) -> int:
        """The market time of a step that has one, in a market that was ready at ``start_ms``."""
        if self.at_ms is not None:
            return self.at_ms
        assert self.day_ms is not None
        zone = self.market.zone
        return zone.at_ms(zone.date(start_ms), self.day_ms)


def read_scenario(path: Path, market: Market = HK) -> list[Step]:
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
            steps.append(_parse_step(number, words, market))
        except FaultError as err:
            problems.append(f"{path} line {number}: {err}")
    if len(steps) > MAX_STEPS:
        problems.append(f"{path}: {len(steps)} steps, at most {MAX_STEPS} are allowed")
    if problems:
        raise ConfigError("\n".join(problems))
    return steps


def _parse_step(number: int, words: Sequence[str], market: Market) -> Step:
    fault = parse_fault(words[1:])
    seconds = _SECONDS.match(words[0])
    if seconds:
        return Step(number, fault, after_sec=float(seconds[1]))
    if _DATED_TIME.match(words[0]):
        try:
            return Step(number, fault, at_ms=time_ms(words[0], market.zone))
        except ValueError as err:
            raise FaultError(str(err)) from err
    time_of_day = _DAY_TIME.match(words[0])
    if time_of_day:
        hour, minute, second, fraction = time_of_day.groups(default="0")
        day_sec = int(hour) * 3600 + int(minute) * 60 + int(second) + float(fraction)
        return Step(number, fault, day_ms=round(day_sec * 1000), market=market)
    raise FaultError(
        f"{words[0]!r} is not a time; write seconds (12.5) or a market time (09:30:10, 2026-12-22T09:30:10)"
    )


async def play(steps: Sequence[Step], clock: SimClock, apply: Callable[[Fault], object]) -> None:
    """Carry the steps out when they are due. A market time that has passed before is skipped with a log line."""
    start_ms = clock.now_ms()
    by_market = [(step.due_ms(start_ms), step) for step in steps if step.after_sec is None]
    for due_ms, step in by_market:
        if due_ms < start_ms:
            _log.warning(event("scenario_step_passed", line=step.line, fault=step.fault.name))
    ahead = [(due_ms, step) for due_ms, step in by_market if due_ms >= start_ms]
    by_second = [(step.after_sec, step) for step in steps if step.after_sec is not None]
    await asyncio.gather(_play_by_second(by_second, apply), _play_by_market(ahead, clock, apply))


async def _play_by_second(steps: Sequence[tuple[float, Step]], apply: Callable[[Fault], object]) -> None:
    loop = asyncio.get_running_loop()
    ready_sec = loop.time()
    for after_sec, step in sorted(steps, key=lambda pair: pair[0]):
        await asyncio.sleep(max(0.0, ready_sec + after_sec - loop.time()))
        apply(step.fault)


async def _play_by_market(steps: Sequence[tuple[int, Step]], clock: SimClock, apply: Callable[[Fault], object]) -> None:
    for due_ms, step in sorted(steps, key=lambda pair: pair[0]):
        while True:
            wait_sec = clock.real_sec_until(due_ms)
            if not wait_sec:
                break
            await asyncio.sleep(min(wait_sec, LOOK_AGAIN_SEC))
        apply(step.fault)
