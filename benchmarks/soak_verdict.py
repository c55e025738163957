"""What a soak (``soak.py``) comes to: is every tick there, is each day proven, did anything grow?"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from benchmarks import resources, rig
from benchmarks.soak_plan import Plan
from hk_tick_collector.market.calendar import TradingCalendar
from hk_tick_collector.market.hk import HK
from hk_tick_collector.market.hk.sessions import CAS_END_AFTER_MS
from hk_tick_collector.market.hours import DayKind
from hk_tick_collector.opend_sim.check import check as compare
from tests.faults.lab import Claim, Verdict, day_claims, select
from tests.harness import BuiltRecorder, Simulator

# What one close may have more than an earlier one without having grown. Memory: the margin that the recorder has for a
# day of five million ticks. A connection that is being replaced has a thread and a socket more for a moment.
MEMORY_MARGIN_MIB = 10.0
THREADS_MARGIN = 1
HANDLES_MARGIN = 1
FILES_MARGIN = 3  # yesterday's day file with its WAL and index, which is closed half an hour after its last tick
CONNECTIONS_MARGIN = 0

# What may be said of the evening before: of symbols with more ticks than OpenD shows, or nearly as many.
BEGAN_IN_MID_SESSION = "recording began in mid-session"
HEAD_NOT_PROVEN = "the day's first ticks are not proven"


@dataclass(frozen=True)
class Close:
    """The end of one day."""

    day: str
    pid: int
    holdings: resources.Holdings
    settled_sec: float  # from the moment the market stood still until everything was confirmed
    unproven: int  # symbols, when the market went on


class Run(Protocol):
    """What is judged: ``soak.Week`` when it is over."""

    simulator: Simulator
    recorder: BuiltRecorder
    data_root: Path
    plan: Plan
    eve: str
    days: list[tuple[str, DayKind]]
    closes: list[Close]
    log: list[str]
    starts: int

    def left_undone(self) -> list[str]:
        """What was planned and did not happen."""


def unconfirmed(data_root: Path, day: str, end_ms: int) -> list[str]:
    """Symbols of which no pull has confirmed that nothing came until ``end_ms`` but what is stored."""
    query = "SELECT symbol FROM coverage WHERE verified_until_ms IS NULL OR verified_until_ms < ?"
    return [row["symbol"] for row in select(data_root / f"{day}.db", query, end_ms)]


def judge(week: Run) -> tuple[list[list[object]], list[str]]:
    """Rows of the table of days, and everything that is wrong."""
    comparison = compare(week.simulator.truth, week.data_root)
    report: dict[str, Any] = json.loads(comparison.to_json())
    problems = [f"{report[name]} ticks {name}" for name in ("missing", "extra", "wrong", "duplicate") if report[name]]
    if problems:
        problems.append(comparison.text())
    claims = day_claims(week.simulator.truth, week.data_root)
    try:
        Verdict(report, claims, "").assert_true_claims()
    except AssertionError as exc:
        problems.append(f"a day file claims what is not so: {exc}")
    by_day: dict[str, list[Claim]] = {}
    for claim in claims:
        by_day.setdefault(claim.day, []).append(claim)
    problems += week.left_undone()
    rows: list[list[object]] = []
    for day, kind in [(week.eve, "from 15:55 on"), *week.days]:
        states = Counter(claim.coverage["state"] for claim in by_day.get(day, []))
        stored = sum(claim.coverage["stored_ticks"] for claim in by_day.get(day, []))
        settled = next((close.settled_sec for close in week.closes if close.day == day), None)
        rows.append([day, str(kind), stored, states["proven"], states["missing"], states["unproven"], settled])
        end_ms = HK.close_ms(day, TradingCalendar(HK).day_kind(day)) + CAS_END_AFTER_MS
        late = unconfirmed(week.data_root, day, end_ms)
        problems += [f"{day} {symbol}: its last ticks were not confirmed" for symbol in late]
        problems += [_unproven_problem(claim) for claim in by_day.get(day, []) if not _as_it_should_be(claim, week.eve)]
    return rows, problems


def _as_it_should_be(claim: Claim, eve: str) -> bool:
    """Proven; or on the evening before, when recording began in mid-session, and only the beginning is in doubt."""
    state, reason = claim.coverage["state"], claim.coverage["reason"]
    if state == "proven" or claim.day != eve:
        return bool(state == "proven")
    return [gap["reason"] for gap in claim.gaps] == [BEGAN_IN_MID_SESSION] or reason == HEAD_NOT_PROVEN


def _unproven_problem(claim: Claim) -> str:
    return f"{claim.day} {claim.symbol} is {claim.coverage['state']}: {claim.coverage['reason']}"


def growth(closes: Sequence[Close]) -> list[str]:
    """What grew by more than its margin between closes of one process.

    On the first day the process is started anew, so the first day that it saw whole is the measure, if others follow.
    """
    first = 1 if len(closes) > 2 else 0
    base, problems = closes[first], []
    for close in closes[first + 1 :]:
        if close.pid != base.pid:
            problems.append(f"{close.day}: pid {close.pid} instead of {base.pid}, so growth cannot be seen")
        for name, margin in (
            ("rss_mib", MEMORY_MARGIN_MIB),
            ("threads", THREADS_MARGIN),
            ("other_handles", HANDLES_MARGIN),
            ("files", FILES_MARGIN),
            ("connections", CONNECTIONS_MARGIN),
        ):
            more = getattr(close.holdings, name) - getattr(base.holdings, name)
            if more > margin:
                problems.append(f"{close.day}: {name} grew by {more:g} since {base.day}, allowed {margin:g}")
    return problems


def report_lines(lines: Sequence[str]) -> list[list[object]]:
    """How often each warning and error was logged."""
    counts: Counter[tuple[str, str]] = Counter()
    for line in lines:
        words = line.split()
        if len(words) > 3 and words[1] in ("WARNING", "ERROR", "CRITICAL"):
            counts[words[1], " ".join(words[2:4]) if words[2] == "WATCHDOG" else words[2]] += 1
    return [[level, name, number] for (level, name), number in sorted(counts.items())]


def print_tables(week: Run, days: list[list[object]], took_sec: float) -> None:
    """All that was seen."""
    print()
    print(rig.table(["day", "trading", "ticks", "proven", "missing", "unproven", "confirmed s"], days))
    print()
    columns = ["after the close of", "pid", "RSS MiB", "peak MiB", "threads", "handles", "files", "connections"]
    rows: list[list[object]] = []
    for close in week.closes:
        seen = close.holdings
        sizes = [seen.rss_mib, seen.peak_mib, seen.threads, seen.handles, seen.files, seen.connections]
        rows.append([close.day, str(close.pid), *sizes])
    print(rig.table(columns, rows))
    print()
    print(rig.table(["level", "line", "times"], report_lines([*week.log, *week.recorder.lines])))
    print(
        f"\n{week.plan.faults} faults, {week.starts} starts of the recorder, {took_sec / 60:.1f} minutes, "
        f"load {os.getloadavg()[1]:.1f}"
    )
