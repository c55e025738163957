"""Price and volume of a day by symbol, for the page: bars added up while the rows go by, in any order.

Memory is bounded before the first row is read: a minute a bar where the day has few symbols, five minutes where it has
many, and MAX_SYMBOLS symbols at most (those that trade most), 72 bytes a bar: 41 MB for 2,000 symbols.

Only trades that make the price count, as in ``hk-tickctl bars``: open and close are the first and the last of them in
the order of time, then sequence; of a bar without a trade there is none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

MINUTES = 1440
FEW_SYMBOLS, MAX_SYMBOLS = 150, 2_000
_NOT_CHARTED = -1

_Ints = npt.NDArray[np.int64]
_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Bars:
    """One symbol's bars, in order. ``slots``: which one of the day, counted from the beginning of its clock."""

    slots: list[int]
    open: list[float]
    high: list[float]
    low: list[float]
    close: list[float]
    volume: list[int]


@dataclass(frozen=True, slots=True)
class Charts:
    """What the page shows of prices. ``left_out``: symbols with ticks of which nothing was added up."""

    slot_minutes: int
    bars: dict[str, Bars]
    left_out: int


class PriceBars:
    """Takes batches. ``ticks_by_symbol``: what the day is said to have; empty where nothing says so, then the first
    MAX_SYMBOLS that come are taken."""

    def __init__(self, ticks_by_symbol: Mapping[str, int]) -> None:
        few = 0 < len(ticks_by_symbol) <= FEW_SYMBOLS
        self.slot_minutes = 1 if few else 5
        self._slots = MINUTES // self.slot_minutes
        most = sorted(ticks_by_symbol, key=lambda name: (-ticks_by_symbol[name], name))[:MAX_SYMBOLS]
        self._wanted = frozenset(most) if most else None
        self._rows = np.zeros(0, np.int64)  # by the caller's number of a symbol: which row of the tables is its
        self._names: list[str] = []
        self._left_out = 0
        self._prices = {name: np.zeros((0, self._slots)) for name in ("open", "high", "low", "close")}
        self._keys = {name: np.zeros((0, self._slots), np.int64) for name in ("open", "close", "open_seq", "close_seq")}
        self._volume = np.zeros((0, self._slots), np.int64)
        self._traded = np.zeros((0, self._slots), np.bool_)

    def add(
        self, names: Sequence[str], codes: _Ints, minutes: _Ints, ts_ms: _Ints, seqs: _Ints, price: _Floats,
        volume: _Ints,
    ) -> None:  # fmt: skip
        """Trades that make the price. ``names``: what the numbers in ``codes`` mean, growing; ``minutes`` of the day's
        clock, 0 to 1439."""
        self._learn(names)
        rows = self._rows[codes]
        cells = rows * self._slots + minutes // self.slot_minutes
        order = np.lexsort((seqs, ts_ms, cells))
        order = order[np.searchsorted(rows[order], 0) :]
        if not len(order):
            return
        cells, ts_ms, seqs, price = cells[order], ts_ms[order], seqs[order], price[order]
        first = np.flatnonzero(np.concatenate(([True], cells[1:] != cells[:-1])))
        last = np.append(first[1:], len(cells)) - 1
        at = cells[first]
        low, high = np.minimum.reduceat(price, first), np.maximum.reduceat(price, first)
        is_new = ~self._traded.ravel()[at]
        self._extreme("low", at, low, is_new | (low < self._prices["low"].ravel()[at]))
        self._extreme("high", at, high, is_new | (high > self._prices["high"].ravel()[at]))
        self._edge("open", at, first, is_new, ts_ms, seqs, price, earlier=True)
        self._edge("close", at, last, is_new, ts_ms, seqs, price, earlier=False)
        self._volume.ravel()[at] += np.add.reduceat(volume[order], first)
        self._traded.ravel()[at] = True

    def _learn(self, names: Sequence[str]) -> None:
        """Rows of the tables for names that are new."""
        known = len(self._rows)
        if len(names) == known:
            return
        rows = []
        for name in names[known:]:
            takes = len(self._names) < MAX_SYMBOLS and (self._wanted is None or name in self._wanted)
            rows.append(len(self._names) if takes else _NOT_CHARTED)
            if takes:
                self._names.append(name)
            else:
                self._left_out += 1
        self._rows = np.append(self._rows, np.array(rows, np.int64))
        if len(self._names) > len(self._traded):
            self._grow(min(MAX_SYMBOLS, max(len(self._names), 2 * len(self._traded))))

    def _grow(self, rows: int) -> None:
        self._prices = {name: _grown(table, rows) for name, table in self._prices.items()}
        self._keys = {name: _grown(table, rows) for name, table in self._keys.items()}
        self._volume, self._traded = _grown(self._volume, rows), _grown(self._traded, rows)

    def _extreme(self, name: str, at: _Ints, values: _Floats, wins: npt.NDArray[np.bool_]) -> None:
        self._prices[name].ravel()[at[wins]] = values[wins]

    def _edge(
        self, name: str, at: _Ints, which: _Ints, is_new: npt.NDArray[np.bool_], ts_ms: _Ints, seqs: _Ints,
        price: _Floats, *, earlier: bool,
    ) -> None:  # fmt: skip
        """The first or last trade of bars, against those of earlier batches."""
        times, numbers = self._keys[name].ravel(), self._keys[f"{name}_seq"].ravel()
        ts, seq = ts_ms[which], seqs[which]
        beats_ts, beats_seq = (ts < times[at], seq < numbers[at]) if earlier else (ts > times[at], seq >= numbers[at])
        wins = is_new | beats_ts | ((ts == times[at]) & beats_seq)
        won = at[wins]
        times[won], numbers[won] = ts[wins], seq[wins]
        self._prices[name].ravel()[won] = price[which][wins]

    def result(self) -> Charts:
        """Everything that was added up."""
        bars = {}
        for row, name in enumerate(self._names):
            slots = np.flatnonzero(self._traded[row])
            if len(slots):
                prices = {kind: table[row][slots].tolist() for kind, table in self._prices.items()}
                bars[name] = Bars(slots.tolist(), volume=self._volume[row][slots].tolist(), **prices)
        return Charts(self.slot_minutes, bars, self._left_out)


_Kind = TypeVar("_Kind", bound=np.generic)


def _grown(table: npt.NDArray[_Kind], rows: int) -> npt.NDArray[_Kind]:
    grown = np.zeros((rows, table.shape[1]), table.dtype)
    grown[: len(table)] = table
    return grown
