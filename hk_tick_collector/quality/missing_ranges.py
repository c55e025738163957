"""``missing_ranges.json``: gaps with the fields that Shijim's auditor has for them.

::

    {"trading_days": ["20261120"], "summary": {"gap_count": 1, "missing_ticks": 2},
     "missing_ranges": [{"gap_type": "tick", "symbol": "HK.00700", "seq_start": 501, "seq_end": 502,
                         "start_ts": 1795138205000000000, "end_ts": 1795138207000000000,
                         "reason": "...", "metadata": {"trading_day": "20261120", "missing_ticks": 2}}]}

``seq_start``, ``seq_end``: the first and last number that is missing, among the symbol's own numbers of its ticks of
the day; null where they are not known. ``start_ts``, ``end_ts``: of the ticks around it, UTC epoch nanoseconds; null
behind the last tick. Reading takes times as ISO 8601 or as epoch s, ms, us or ns, and the list itself, or under another
of its usual names. Numbers of another source mean nothing here, so ranges are held against a day by their times.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from hk_tick_collector.core.errors import InputError
from hk_tick_collector.core.regular import read_named
from hk_tick_collector.market.market import Market
from hk_tick_collector.quality.gap_list import GapLine
from hk_tick_collector.store.extents import count
from hk_tick_collector.store.gaps import OPEN

TICK = "tick"
MAX_BYTES = 64 << 20
_LISTS = ("missing_ranges", "ranges", "gaps")
_NS_PER_MS = 1_000_000
_MS_OF_UNIT = ((10**17, 1e-6), (10**14, 1e-3), (10**11, 1.0), (0, 1e3))  # from which number on it is ns, us, ms, s
_YEAR_MS = (0, 253_402_300_800_000)  # 1970 to 9999


class Now(StrEnum):
    """What a day says of a range."""

    MISSING = "missing"
    STORED = "stored"  # no open gap meets it, and the symbol is proven
    UNPROVEN = "unproven"
    NOT_RECORDED = "not recorded"


@dataclass(frozen=True, slots=True)
class MissingRange:
    """One entry of a file. Times are UTC epoch ms, both inclusive; the end is None where it is open."""

    symbol: str
    trading_day: str
    start_ms: int
    end_ms: int | None

    def meets(self, line: GapLine) -> bool:
        """Have the range and this gap a moment in common? A gap lies between the ticks around it."""
        if line.symbol != self.symbol or line.trading_day != self.trading_day:
            return False
        mine, theirs = (self.start_ms, self.end_ms), (line.start_ts_ms, line.end_ts_ms)
        if mine == theirs:
            return True
        return (mine[1] is None or theirs[0] < mine[1]) and (theirs[1] is None or mine[0] < theirs[1])


@dataclass(frozen=True, slots=True)
class RangesFile:
    """What a file says; ``unread``: entries that mean nothing here, with the reason, at most a few."""

    ranges: tuple[MissingRange, ...]
    unread: tuple[str, ...]
    unread_count: int


UNREAD_SHOWN = 5


def document(lines: Iterable[GapLine], trading_days: Sequence[str]) -> dict[str, Any]:
    """The open gaps of these days, ready for JSON; a gap of several stretches of numbers is as many ranges."""
    open_lines = [line for line in lines if line.state == OPEN]
    return {
        "trading_days": list(trading_days),
        "summary": {
            "gap_count": len(open_lines),
            "missing_ticks": sum(line.missing_ticks or 0 for line in open_lines),
            "gaps_of_unknown_size": sum(line.missing_ticks is None for line in open_lines),
        },
        "missing_ranges": [entry for line in open_lines for entry in _entries(line)],
    }


def _entries(line: GapLine) -> list[dict[str, Any]]:
    extents: Sequence[tuple[int | None, int | None]] = _extents(line.counters) or [(None, None)]
    return [
        {
            "gap_type": TICK,
            "symbol": line.symbol,
            "seq_start": first,
            "seq_end": last,
            "start_ts": line.start_ts_ms * _NS_PER_MS,
            "end_ts": None if line.end_ts_ms is None else line.end_ts_ms * _NS_PER_MS,
            "reason": line.reason,
            "metadata": {
                "trading_day": line.trading_day,
                "missing_ticks": line.missing_ticks if first is None or last is None else count([(first, last)]),
                "evidence": line.evidence,
            },
        }
        for first, last in extents
    ]


def _extents(counters: str) -> list[tuple[int, int]]:
    """``501-502 900-910``; none where it says ``at most``."""
    ranges = []
    for word in counters.split():
        first, _, last = word.partition("-")
        if not (first.isdecimal() and (last or first).isdecimal()):
            return []
        ranges.append((int(first), int(last or first)))
    return ranges


def read_ranges(path: Path, market: Market) -> RangesFile:
    """The tick ranges of a file, in its order, each once. InputError when it is none, or too large."""
    try:
        text = read_named(path, MAX_BYTES)
    except OSError as exc:
        raise InputError(f"{path} cannot be read: {exc.strerror or exc}: is it a list of missing ranges?") from exc
    try:
        told = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise InputError(f"{path} is no JSON: {exc}") from exc
    entries = told if isinstance(told, list) else _listed(told)
    if entries is None:
        raise InputError(f"{path} has no list of ranges: a list is wanted, or one under {' or '.join(_LISTS)}")
    ranges: dict[MissingRange, None] = {}
    unread: list[str] = []
    for number, entry in enumerate(entries, start=1):
        try:
            ranges[_range(entry, market)] = None
        except InputError as exc:
            unread.append(f"range {number}: {exc}")
    return RangesFile(tuple(ranges), tuple(unread[:UNREAD_SHOWN]), len(unread))


def _listed(told: object) -> list[object] | None:
    if isinstance(told, dict):
        for name in _LISTS:
            if isinstance(told.get(name), list):
                return list(told[name])
    return None


def _range(entry: object, market: Market) -> MissingRange:
    if not isinstance(entry, dict):
        raise InputError("is not an object")
    kind = entry.get("gap_type", TICK)
    if kind != TICK:
        raise InputError("is of books, which nobody can send again" if kind == "orderbook" else "has no known gap_type")
    word = entry.get("symbol")
    symbol = market.symbols.symbol(word) if isinstance(word, str) and len(word) <= 64 else None
    if symbol is None:
        raise InputError(f"has no symbol of market {market.code}")
    start_ms = _time_ms(entry.get("start_ts"))
    if start_ms is None:
        raise InputError("has no start_ts")
    end_ms = _time_ms(entry.get("end_ts"))
    if end_ms is not None and end_ms < start_ms:
        raise InputError("ends before it begins")
    return MissingRange(symbol, market.trading_day(start_ms), start_ms, end_ms)


def _time_ms(told: object) -> int | None:
    """None for null. InputError for what is no time."""
    if told is None:
        return None
    try:
        if isinstance(told, str):
            at = datetime.fromisoformat(told)
            ms = (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp() * 1000
        elif isinstance(told, (int, float)) and not isinstance(told, bool):
            ms = told * next(factor for least, factor in _MS_OF_UNIT if abs(told) >= least)
        else:
            raise ValueError
        if not _YEAR_MS[0] <= ms < _YEAR_MS[1]:
            raise ValueError
    except (ValueError, OverflowError, StopIteration):
        raise InputError("has a time that is none") from None
    return round(ms)


def now(listed: MissingRange, lines: Sequence[GapLine], states: Mapping[str, str]) -> Now:
    """What the range's day says of it. ``lines``: its gaps; ``states``: proven, missing or unproven by symbol."""
    if listed.symbol not in states:
        return Now.NOT_RECORDED
    inside = [line for line in lines if line.state == OPEN and listed.meets(line)]
    if any(line.is_loss for line in inside):
        return Now.MISSING
    return Now.UNPROVEN if inside or states[listed.symbol] == "unproven" else Now.STORED
