"""Trades that the simulator makes up, one seed one tape, and the truth file that says what was shown.

A line of the truth file is one trade: ``{"symbol": "AAPL", "time": ..., "price": ..., "size": ..., "total": ...,
"odd": false, "shown": true}``. ``total``: the running total of the day after it. ``odd``: no program can store it as a
trade (a price NaN). ``shown``: it was a symbol's last trade when somebody was told of it.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from hk_tick_collector.sims import truth

ODDITIES = ("nan", "fraction")


@dataclass(slots=True)
class Trade:
    """One trade of the market."""

    symbol: str  # Schwab's spelling
    time: int  # UTC epoch ms
    price: float
    size: float
    total: int
    venue: str
    odd: bool = False
    shown: bool = False

    def fields(self) -> dict[str, Any]:
        """By the numbers of LEVELONE_EQUITIES."""
        return {
            "0": self.symbol, "3": self.price, "8": self.total, "9": self.size, "16": "Q", "35": self.time,
            "41": self.venue,
        }  # fmt: skip


_FIELDS = {field.name for field in fields(Trade)}


class Tape:
    """Makes trades of ``symbols``; each one's time is given."""

    def __init__(self, symbols: Sequence[str], seed: int, path: Path | None, total: int = 0) -> None:
        self._random = random.Random(seed)
        self.symbols = tuple(symbols)
        self._prices = {symbol: 20.0 + 480.0 * self._random.random() for symbol in symbols}
        self._totals = dict.fromkeys(symbols, total)
        self.oddities: list[str] = []  # to be made next, in order
        self._truth = truth.TruthFile(path)

    def next(self, time_ms: int) -> Trade:
        """The next trade, an odd one if that was asked for."""
        symbol = self._random.choice(self.symbols)
        oddity = self.oddities.pop(0) if self.oddities else ""
        self._prices[symbol] = max(1.0, self._prices[symbol] + self._random.choice((-0.01, 0.0, 0.01)))
        price = float("nan") if oddity == "nan" else round(self._prices[symbol], 2)
        size = 0.5 if oddity == "fraction" else self._random.choice((1, 7, 100, 100, 200, 500))
        self._totals[symbol] += round(size)
        venue = self._random.choice(("XNAS", "XNYS", "ARCX"))
        return Trade(symbol, time_ms, price, size, self._totals[symbol], venue, odd=oddity == "nan")

    def begin_day(self) -> None:
        """The totals begin anew."""
        self._totals = dict.fromkeys(self.symbols, 0)

    def note(self, trades: Sequence[Trade]) -> None:
        """Into the truth file."""
        self._truth.note(asdict(trade) for trade in trades)


def read_truth(path: Path) -> list[dict[str, Any]]:
    """The trades of a truth file. OSError; TruthError when it is none."""
    return truth.read_truth(path, _FIELDS)
