"""A symbol's stored ticks against a list of all its trades: which are missing, which are too many, is the order right.

Pure comparison. A trade of the list has no time and no number, so two are the same when type, volume and price are. The
first of several like it in the list is the first of them that is stored, and so on. By the section of the day only sums
are held together: a print at the very end of one may stand in the next.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hk_tick_collector.quality.against_source import Amount
from hk_tick_collector.quality.daily_quotations import MILLI, SECTIONS, Ints, Trades

SHOWN_TRADES = 20  # of a symbol, each way

_Bools = npt.NDArray[np.bool_]


class Sums(NamedTuple):
    """Trades of one section and type."""

    section: str
    tick_type: str
    listed_trades: int
    stored_trades: int
    listed: Amount
    stored: Amount

    @property
    def equal(self) -> bool:
        """Number, volume and turnover."""
        return self.listed_trades == self.stored_trades and self.listed.equals(self.stored)


class OneTrade(NamedTuple):
    """A trade that only one side has. ``ts_ms``: its event time; of a missing one, that of the stored trade before
    it in the list, None where there is none."""

    section: str
    tick_type: str
    volume: int
    price: float
    ts_ms: int | None


@dataclass(frozen=True, slots=True)
class Stored:
    """A symbol's ticks in the order of the tape. ``turnover``: as stored, 0 where it is not known."""

    trades: Trades
    turnover: npt.NDArray[np.float64]
    ts_ms: Ints


@dataclass(frozen=True)
class Compared:
    """One symbol."""

    symbol: str
    sums: tuple[Sums, ...]
    same_trades: int
    missing: dict[str, int]  # of the list, not stored; by type
    extra: dict[str, int]  # stored, not of the list
    in_another_section: int  # of same_trades
    out_of_order: int  # of same_trades: so many would have to move
    first_missing: tuple[OneTrade, ...] = field(default=(), repr=False)
    first_extra: tuple[OneTrade, ...] = field(default=(), repr=False)

    def is_equal(self, not_compared: Iterable[str] = ()) -> bool:
        """Does it hold exactly the list's trades, types left out that the list has none of?"""
        return not self.missing and not set(self.extra).difference(not_compared)


def compare(symbol: str, listed: Trades, stored: Stored, kinds: Sequence[str]) -> Compared:
    """Hold the two together. ``kinds``: the types that ``Trades.kind`` counts."""
    ours = stored.trades
    listed_ids, stored_ids = _identities(listed, ours)
    in_order = np.argsort(stored_ids)
    place = np.searchsorted(stored_ids, listed_ids, sorter=in_order)
    matched = np.zeros(len(listed), np.bool_)
    inside = place < len(ours)
    matched[inside] = stored_ids[in_order[place[inside]]] == listed_ids[inside]
    at = in_order[place[matched]]  # where the list's trades are stored
    has = np.zeros(len(ours), np.bool_)
    has[at] = True
    return Compared(
        symbol,
        tuple(_sums(listed, stored, kinds)),
        len(at),
        _by_kind(listed, ~matched, kinds),
        _by_kind(ours, ~has, kinds),
        int(np.count_nonzero(listed.section[matched] != ours.section[at])),
        len(at) - _longest_rising(at.tolist()),
        tuple(_trades(listed, ~matched, kinds, _times_before(matched, stored.ts_ms[at]))),
        tuple(_trades(ours, ~has, kinds, stored.ts_ms)),
    )


def _identities(listed: Trades, stored: Trades) -> tuple[Ints, Ints]:
    """A number for each trade: equal on both sides for the n-th trade of the same type, volume and price."""
    both = [
        np.concatenate([getattr(listed, name), getattr(stored, name)]) for name in ("kind", "volume", "price_milli")
    ]
    order = np.lexsort(both)
    is_new = np.ones(len(order), np.bool_)
    if len(order):
        is_new[1:] = np.any([column[order][1:] != column[order][:-1] for column in both], axis=0)
    group = np.empty(len(order), np.int64)
    group[order] = np.cumsum(is_new)
    most = len(order)
    return _numbered(group[: len(listed)], most), _numbered(group[len(listed) :], most)


def _numbered(groups: Ints, most: int) -> Ints:
    """With each number how often it stood before."""
    order = np.argsort(groups, kind="stable")
    ordered = groups[order]
    starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1]))) if len(ordered) else order
    before = np.empty(len(groups), np.int64)
    before[order] = np.arange(len(groups)) - np.repeat(starts, np.diff([*starts, len(groups)]))
    numbered: Ints = groups * (most + 1) + before
    return numbered


def _longest_rising(places: Sequence[int]) -> int:
    """How many of them are in order: the longest rising part."""
    tails: list[int] = []
    for place in places:
        if not tails or place > tails[-1]:
            tails.append(place)
        else:
            tails[bisect_left(tails, place)] = place
    return len(tails)


def _by_kind(trades: Trades, chosen: _Bools, kinds: Sequence[str]) -> dict[str, int]:
    counts = np.bincount(trades.kind[chosen], minlength=len(kinds)).tolist()
    return {kind: count for kind, count in zip(kinds, counts, strict=True) if count}


def _sums(listed: Trades, stored: Stored, kinds: Sequence[str]) -> Iterable[Sums]:
    theirs = _amounts(listed, listed.volume * listed.price_milli / MILLI, len(kinds))
    ours = _amounts(stored.trades, stored.turnover, len(kinds))
    for cell in sorted({*theirs, *ours}):
        section, kind = divmod(cell, len(kinds))
        (listed_trades, listed_sum), (stored_trades, stored_sum) = (
            side.get(cell, (0, Amount())) for side in (theirs, ours)
        )
        yield Sums(SECTIONS[section], kinds[kind], listed_trades, stored_trades, listed_sum, stored_sum)


def _amounts(trades: Trades, turnover: npt.NDArray[np.float64], kinds: int) -> dict[int, tuple[int, Amount]]:
    """Number, volume and turnover by section and type."""
    cells = trades.section.astype(np.int64) * kinds + trades.kind
    there, place = np.unique(cells, return_inverse=True)
    volumes = np.zeros(len(there), np.int64)
    np.add.at(volumes, place, trades.volume)
    counts, sums = np.bincount(place).tolist(), np.bincount(place, turnover).tolist()
    return {
        cell: (count, Amount(volume, round(amount, 3)))
        for cell, count, volume, amount in zip(there.tolist(), counts, volumes.tolist(), sums, strict=True)
    }


def _times_before(matched: _Bools, times_ms: Ints) -> Ints:
    """For each trade of the list the time of the last one before it that is stored; -1 where there is none."""
    number = np.cumsum(matched)
    return np.concatenate((np.array([-1], np.int64), times_ms))[number]


def _trades(trades: Trades, chosen: _Bools, kinds: Sequence[str], times_ms: Ints) -> Iterable[OneTrade]:
    for n in np.flatnonzero(chosen)[:SHOWN_TRADES].tolist():
        yield OneTrade(
            SECTIONS[trades.section[n]],
            kinds[trades.kind[n]],
            int(trades.volume[n]),
            int(trades.price_milli[n]) / MILLI,
            int(times_ms[n]) if times_ms[n] >= 0 else None,
        )
