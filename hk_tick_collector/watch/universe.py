"""Which symbols to record: ranked by what was recorded of them, and kept from day to day as long as they deserve it.

A subscription is a slot of an account's quota. So there are ``limit`` symbols at most: those that are always wanted
(``keep``), and the first ones of each ranking. A symbol that comes and goes leaves holes in its history, so it goes
later than it came: it comes in at rank ``in_rank`` or better, and goes out when it is behind ``out_rank`` (a fifth
more) in every ranking, not before ``STAY_DAYS`` trading days. ``in_rank`` is as large as the limit allows, with room
for those that stay.

A choice is stored with its reasons, ``DATA_ROOT/universe/YYYYMMDD.json``; the next one begins with it.
"""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hk_tick_collector.core.errors import InputError, RecorderError
from hk_tick_collector.core.regular import read_named
from hk_tick_collector.core.text import counted
from hk_tick_collector.store.atomic import write_whole

KEPT, TURNOVER, TICKS, VOLATILITY = "keep", "turnover", "ticks", "volatility"
STRATEGIES = (TURNOVER, TICKS, VOLATILITY)
OUT_FACTOR = 1.2
STAY_DAYS = 5
MIN_TICKS_A_DAY = 50  # with fewer trades the spread is what moves the price
MIN_KEPT = 0.5  # of yesterday's symbols; a ranking that names fewer has failed
FORMAT_VERSION = 1

_MAX_BYTES = 16 << 20
_FILE = re.compile(r"(\d{8})\.json", re.ASCII)


class RankingFailed(RecorderError):
    """What came out cannot be meant; nothing was changed."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One symbol on one day; ``volatility`` in per cent, None with less than two traded minutes."""

    symbol: str
    ticks: int
    turnover: float
    volatility: float | None


@dataclass(frozen=True, slots=True)
class Score:
    """Medians over the days on which the symbol traded. ``is_snapshot``: never recorded, its turnover is OpenD's."""

    symbol: str
    days: int
    ticks: float = 0.0
    turnover: float = 0.0
    volatility: float | None = None
    is_snapshot: bool = False


@dataclass(frozen=True, slots=True)
class Member:
    """Why a symbol is recorded. ``since``: the trading day from which on it is, without a break."""

    symbol: str
    reason: str  # keep, one of STRATEGIES, or "stays"
    since: str
    ranks: dict[str, int]
    score: Score | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """The symbols from a trading day on, those that matter most first. ``in_rank``, ``out_rank``: the bounds."""

    trading_day: str
    limit: int
    in_rank: int
    out_rank: int
    members: tuple[Member, ...]
    came: tuple[str, ...] = ()
    went: tuple[str, ...] = ()

    @property
    def symbols(self) -> tuple[str, ...]:
        """In order."""
        return tuple(member.symbol for member in self.members)


def scores(days: Iterable[Iterable[Measured]]) -> dict[str, Score]:
    """Of days as they were recorded: medians, which one wild day does not move."""
    by_symbol: dict[str, list[Measured]] = {}
    for day in days:
        for measured in day:
            by_symbol.setdefault(measured.symbol, []).append(measured)
    return {symbol: _score(symbol, values) for symbol, values in by_symbol.items()}


def _score(symbol: str, values: Sequence[Measured]) -> Score:
    ticks = statistics.median(value.ticks for value in values)
    moves = [value.volatility for value in values if value.volatility is not None and value.ticks >= MIN_TICKS_A_DAY]
    turnover = statistics.median(value.turnover for value in values)
    return Score(symbol, len(values), ticks, turnover, statistics.median(moves) if moves else None)


def ranking(strategy: str, of: Mapping[str, Score], comparable: Collection[str] | None = None) -> list[str]:
    """Symbols by a strategy, the first ones first, without those that have nothing to show. ``comparable``: by turnover
    only these, for turnovers of two currencies cannot be held against each other."""
    values = {symbol: getattr(score, strategy) for symbol, score in of.items()}
    if strategy == TURNOVER and comparable is not None:
        values = {symbol: value for symbol, value in values.items() if symbol in comparable}
    return sorted((symbol for symbol, value in values.items() if value), key=lambda symbol: (-values[symbol], symbol))


def choose(
    trading_day: str,
    limit: int,
    keep: Sequence[str],
    rankings: Mapping[str, Sequence[str]],
    *,
    of: Mapping[str, Score],
    before: Choice | None = None,
    days_between: Callable[[str, str], int] = lambda _first, _last: STAY_DAYS,
) -> Choice:
    """The symbols from ``trading_day`` on. ``days_between``: trading days from one to another.

    InputError when ``keep`` alone is more than the limit. ::

        choose("20261123", 100, ["HK.00005"], {"turnover": ["HK.00700", "HK.09988", ...]}, of=scores)
    """
    keep = list(dict.fromkeys(keep))
    if len(keep) > limit:
        raise InputError(
            f"{len(keep)} symbols are always wanted, and the limit is {limit}: name fewer, or raise --limit"
        )
    in_rank = _in_rank(list(rankings.values()), set(keep), limit - len(keep))
    out_rank = int(in_rank * OUT_FACTOR)
    places = {name: {symbol: n for n, symbol in enumerate(symbols, 1)} for name, symbols in rankings.items()}
    since = {member.symbol: member.since for member in before.members} if before is not None else {}
    chosen: dict[str, str] = dict.fromkeys(keep, KEPT)
    for rank in range(in_rank):
        for name, symbols in rankings.items():
            if rank < len(symbols) and len(chosen) < limit:
                chosen.setdefault(symbols[rank], name)
    for symbol, first_day in since.items():
        is_young = days_between(first_day, trading_day) < STAY_DAYS
        is_near = any(places[name].get(symbol, out_rank + 1) <= out_rank for name in places)
        if (is_young or is_near) and symbol in of and len(chosen) < limit:
            chosen.setdefault(symbol, "stays")
    members = tuple(
        Member(
            symbol,
            reason,
            since.get(symbol, trading_day),
            {name: place[symbol] for name, place in places.items() if symbol in place},
            of.get(symbol),
        )
        for symbol, reason in chosen.items()
    )
    came = tuple(symbol for symbol in chosen if symbol not in since)
    went = tuple(symbol for symbol in since if symbol not in chosen)
    return Choice(trading_day, limit, in_rank, out_rank, members, came, went)


def _in_rank(rankings: Sequence[Sequence[str]], keep: Collection[str], slots: int) -> int:
    """The worst rank at which all rankings together name as many symbols beside ``keep`` as there is room for, with
    some for those that stay. When the first symbols are more than that, it is their rank: as many come in as can."""
    room = max(min(slots, 1), int(slots / OUT_FACTOR))
    named: set[str] = set()
    ranks = max(map(len, rankings), default=0)
    for rank in range(ranks):
        before = len(named)
        named.update(symbols[rank] for symbols in rankings if rank < len(symbols) and symbols[rank] not in keep)
        if len(named) > room:
            return rank if before else rank + 1
    return ranks


def check(choice: Choice, recorded: int) -> None:
    """RankingFailed when the choice cannot be meant: none, or less than half of the symbols recorded until now."""
    if len(choice.members) < max(1, recorded * MIN_KEPT):
        there = f"; {recorded} are recorded now" if recorded else ""
        raise RankingFailed(f"only {counted(len(choice.members), 'symbol')} were chosen{there}: nothing was changed")


# -- on the disk -------------------------------------------------------------------------------------------------------


def directory(data_root: Path) -> Path:
    """Where choices are."""
    return data_root / "universe"


def store(data_root: Path, choice: Choice) -> Path:
    """Keep it, with its reasons. OSError when the disk refuses."""
    path = directory(data_root) / f"{choice.trading_day}.json"
    text = json.dumps({"format_version": FORMAT_VERSION, **asdict(choice)}, indent=1)
    return write_whole(path, f"{text}\n")


def newest(data_root: Path, until: str) -> Choice | None:
    """The newest choice for a trading day before ``until``; None when there is none that can be read."""
    try:
        names = sorted(path.name for path in directory(data_root).iterdir() if _FILE.fullmatch(path.name))
    except OSError:
        return None
    for name in reversed([name for name in names if name[:8] < until]):
        universe = _read(directory(data_root) / name)
        if universe is not None:
            return universe
    return None


def _read(path: Path) -> Choice | None:
    try:
        told: dict[str, Any] = json.loads(read_named(path, _MAX_BYTES))
        if told.pop("format_version") != FORMAT_VERSION:
            return None
        members = tuple(_member(member) for member in told.pop("members"))
        return Choice(members=members, came=tuple(told.pop("came")), went=tuple(told.pop("went")), **told)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def _member(told: dict[str, Any]) -> Member:
    score = told.pop("score")
    return Member(**told, score=None if score is None else Score(**score))


def symbols_text(choice: Choice) -> str:
    """A file for ``FUTU_SYMBOLS=@...``: a code a line, and why behind it."""
    head = f"# chosen for {choice.trading_day} by hk-tickctl universe, which writes this file anew\n"
    return head + "".join(f"{member.symbol}  # {why(member)}\n" for member in choice.members)


def why(member: Member) -> str:
    """``turnover 3, ticks 17, since 20261120``"""
    ranks = ", ".join(f"{name} {rank}" for name, rank in member.ranks.items()) or "not ranked"
    reason = {KEPT: "always wanted; ", "stays": "stays; "}.get(member.reason, "")
    return f"{reason}{ranks}, since {member.since}"
