"""Symbols over several recorders: which one records which, by how much they trade, moved as seldom as possible.

A shard is an account with an OpenD, a recorder and a data root of its own. Each may subscribe ``slots`` symbols. The
busiest symbol goes first, to the shard with the least load that has a slot free; a symbol stays where it was while its
shard is no more than ``STICKY`` above the mean. The load of a symbol is its ticks a day and ``FIXED_LOAD`` beside them.

A plan is one file beside the lists that the recorders read: ``symbols.shards.json``, ``symbols.1.txt``,
``symbols.2.txt``, ... Whoever reads one of them reads the same plan, so nothing is agreed on at run time.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hk_tick_collector.core.errors import InputError
from hk_tick_collector.core.regular import read_named
from hk_tick_collector.store.atomic import write_whole
from hk_tick_collector.watch.universe import Score

FIXED_LOAD = 500.0  # ticks a day: what a symbol costs that never trades (polls, audits, its row in every report)
STICKY = 1.05  # of the mean load
MAX_SHARDS = 64
MAX_PLAN_BYTES = 8_000_000
FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True)
class Shard:
    """What one recorder records. ``load``: ticks a day and the fixed load, of all of them."""

    number: int  # from 1
    load: float
    symbols: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """All shards from a trading day on; each symbol is in exactly one of them. ``moved``: those that were in another
    one before."""

    trading_day: str
    slots: int
    shards: tuple[Shard, ...]
    moved: tuple[str, ...] = ()


def loads_of(symbols: Sequence[str], of: Mapping[str, Score]) -> dict[str, float]:
    """What each costs. One that was never recorded is taken to trade as often for its turnover as the others do."""
    known = [score for score in of.values() if not score.is_snapshot and score.turnover > 0]
    turnover = sum(score.turnover for score in known)
    ticks_per_unit = sum(score.ticks for score in known) / turnover if turnover else 0.0

    def load(symbol: str) -> float:
        score = of.get(symbol)
        if score is None:
            return FIXED_LOAD
        return FIXED_LOAD + (score.turnover * ticks_per_unit if score.is_snapshot else score.ticks)

    return {symbol: load(symbol) for symbol in symbols}


def divide(trading_day: str, loads: Mapping[str, float], count: int, slots: int, before: Plan | None = None) -> Plan:
    """A plan for ``count`` shards. InputError when they have too few slots. ::

    divide("20261123", {"HK.00700": 90_000.0, "HK.00005": 20_000.0}, count=2, slots=300)
    """
    if len(loads) > count * slots:
        raise InputError(
            f"{len(loads):,} symbols do not fit into {count} shards of {slots:,}: take more shards, or fewer symbols"
        )
    was = {symbol: shard.number for shard in before.shards for symbol in shard.symbols} if before is not None else {}
    bound = STICKY * sum(loads.values()) / count
    load = [0.0] * count
    members: list[list[str]] = [[] for _ in range(count)]
    for symbol in sorted(loads, key=lambda name: (-loads[name], name)):
        at = was.get(symbol, 0) - 1
        if not (0 <= at < count and len(members[at]) < slots and load[at] + loads[symbol] <= bound):
            free = (n for n in range(count) if len(members[n]) < slots)
            at = min(free, key=lambda n: (load[n], n))
        load[at] += loads[symbol]
        members[at].append(symbol)
    shards = tuple(Shard(n + 1, round(load[n]), tuple(sorted(members[n]))) for n in range(count))
    moved = tuple(
        symbol for shard in shards for symbol in shard.symbols if was.get(symbol, shard.number) != shard.number
    )
    return Plan(trading_day, slots, shards, moved)


# -- on the disk -------------------------------------------------------------------------------------------------------


def plan_path(target: Path) -> Path:
    """``symbols.txt`` -> ``symbols.shards.json``."""
    return target.with_name(f"{target.stem}.shards.json")


def list_path(target: Path, number: int) -> Path:
    """``symbols.txt`` -> ``symbols.1.txt``."""
    return target.with_name(f"{target.stem}.{number}{target.suffix}")


def write(target: Path, plan: Plan, lines: Mapping[str, str]) -> list[Path]:
    """The lists, each symbol with its line, and the plan behind them; where they are. OSError when the disk refuses.

    Lists of shards that the plan has no longer are emptied to a comment: a recorder that still reads one says so.
    """
    written = []
    for shard in plan.shards:
        head = f"# shard {shard.number} of {len(plan.shards)} for {plan.trading_day}, by hk-tickctl universe\n"
        text = head + "".join(f"{lines[symbol]}\n" for symbol in shard.symbols)
        written.append(write_whole(list_path(target, shard.number), text))
    for number in range(len(plan.shards) + 1, MAX_SHARDS + 1):
        if list_path(target, number).exists():
            write_whole(list_path(target, number), f"# there is no shard {number} any more\n")
    text = json.dumps({"format_version": FORMAT_VERSION, **asdict(plan)}, indent=1)
    return [*written, write_whole(plan_path(target), f"{text}\n")]


def read(target: Path) -> Plan | None:
    """The plan beside ``target``; None when there is none yet. InputError for one that cannot be read: a new one made
    without it would move symbols about."""
    path = plan_path(target)
    try:
        raw = read_named(path, MAX_PLAN_BYTES)
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise InputError(f"{path} cannot be read: {exc.strerror or exc}") from None
    try:
        told: dict[str, Any] = json.loads(raw)
        if told.pop("format_version") != FORMAT_VERSION:
            raise ValueError
        shards = tuple(
            Shard(int(shard["number"]), float(shard["load"]), tuple(map(str, shard["symbols"])))
            for shard in told.pop("shards")
        )
        return Plan(str(told["trading_day"]), int(told["slots"]), shards)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise InputError(f"{path} is not a plan of shards: put the right one there, or move it away") from None


def problems(target: Path, plan: Plan, listed: Mapping[int, Sequence[str] | None]) -> list[str]:
    """What is wrong with the lists, in sentences: ``listed`` are the symbols of each shard's list, None for one that is
    not there."""
    places: dict[str, list[int]] = {}
    absent = [shard.number for shard in plan.shards if listed.get(shard.number) is None]
    for number, symbols in listed.items():
        for symbol in symbols or ():
            places.setdefault(symbol, []).append(number)
    planned = {symbol: shard.number for shard in plan.shards for symbol in shard.symbols}
    return [
        *(f"{list_path(target, number)} is not there: shard {number} records nothing of it" for number in absent),
        *(
            f"{symbol} is in no list: the plan has it in shard {number}"
            for symbol, number in planned.items()
            if symbol not in places and number not in absent
        ),
        *filter(None, (_misplaced(symbol, numbers, planned.get(symbol)) for symbol, numbers in places.items())),
    ]


def _misplaced(symbol: str, numbers: Sequence[int], planned: int | None) -> str:
    if len(numbers) > 1:
        return f"{symbol} is in {len(numbers)} lists: shards {', '.join(map(str, numbers))}"
    if planned is None:
        return f"{symbol} is in the list of shard {numbers[0]} and not in the plan"
    if planned != numbers[0]:
        return f"{symbol} is in the list of shard {numbers[0]}: the plan has it in shard {planned}"
    return ""
