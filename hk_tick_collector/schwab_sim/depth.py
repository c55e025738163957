"""Order books that the simulator makes up around its trades, and the truth file that says which were shown.

A line of the truth file, beside that of the trades with ``.books`` behind its name, is one state that was shown:
``{"symbol": "AAPL", "time": ..., "bids": [[price, size], ...], "asks": [...], "odd": false}``, best price first.
``odd``: no program can store it as a book (a price NaN, a side that is not there).
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from hk_tick_collector.sims import truth

LEVELS = 10
CENT = 0.01
NYSE_BOOK, NASDAQ_BOOK = BOOKS = ("NYSE_BOOK", "NASDAQ_BOOK")
BOOK_ODDITIES = ("cross", "one_sided", "unsorted", "nan", "half_told", "part")
UNREADABLE = frozenset({"nan", "half_told", "part"})


@dataclass(slots=True)
class State:
    """A symbol's book at a moment. ``number``: of all that were made."""

    symbol: str  # Schwab's spelling
    number: int
    time: int  # UTC epoch ms
    bids: list[tuple[float, float]]
    asks: list[tuple[float, float]]
    oddity: str = ""

    def fields(self) -> dict[str, Any]:
        """By the numbers of a service of books. Market makers stand in each level."""
        told = {"0": self.symbol, "1": self.time, "2": _levels(self.bids), "3": _levels(self.asks)}
        if self.oddity == "half_told":
            del told["3"]
        return told

    def line(self) -> dict[str, Any]:
        """Of the truth file."""
        odd = self.oddity in UNREADABLE
        return asdict(Line(self.symbol, self.time, self.bids, self.asks, odd))


@dataclass(slots=True)
class Line:
    """A line of the truth file."""

    symbol: str
    time: int
    bids: list[tuple[float, float]]
    asks: list[tuple[float, float]]
    odd: bool


_FIELDS = {field.name for field in fields(Line)}


class Depth:
    """Makes books of ``symbols``. ``nyse``: those listed in New York."""

    def __init__(
        self, symbols: Sequence[str], nyse: Sequence[str] = (), seed: int = 1, path: Path | None = None
    ) -> None:
        self.states: dict[str, State] = {}
        self.oddities: list[str] = []  # to be made next, in order
        self._symbols, self._nyse = frozenset(symbols), frozenset(nyse)
        self._random = random.Random(seed)
        self._sizes: dict[tuple[str, int], float] = {}
        self._numbers = 0
        self._shown: dict[int, State] = {}  # not in the truth file yet
        self._noted = 0
        self._truth = truth.TruthFile(path)

    def listing(self, symbol: str) -> dict[str, str] | None:
        """What a quote says of it; None for one that is not known."""
        if symbol not in self._symbols:
            return None
        code, name = ("N", "NYSE") if symbol in self._nyse else ("Q", "NASDAQ")
        return {"description": symbol, "exchange": code, "exchangeName": name}

    def service_of(self, symbol: str) -> str | None:
        """Which one has its books."""
        return None if symbol not in self._symbols else NYSE_BOOK if symbol in self._nyse else NASDAQ_BOOK

    def move(self, symbol: str, price: float, time_ms: int, *, is_asked: bool) -> bool:
        """The market moved there: another book, an odd one if that was asked for and somebody asks for this symbol's.
        True: it is odd, and not to be lost among others."""
        if not math.isfinite(price):
            return False
        self._numbers += 1
        cents = round(price / CENT)
        self._sizes[symbol, cents + self._random.randint(-LEVELS, LEVELS)] = self._size()
        bids = [self._level(symbol, cents - step) for step in range(1, LEVELS + 1)]
        asks = [self._level(symbol, cents + step) for step in range(1, LEVELS + 1)]
        oddity = self.oddities.pop(0) if self.oddities and is_asked else ""
        state = self.states[symbol] = State(symbol, self._numbers, time_ms, bids, asks, oddity)
        _make_odd(state)
        return bool(oddity)

    def show(self, states: Sequence[State]) -> None:
        """These are being told to somebody."""
        self._shown.update((state.number, state) for state in states if state.number not in self._shown)

    def note(self) -> None:
        """What was shown, into the truth file."""
        self._truth.note(state.line() for state in self._shown.values())
        self._shown.clear()

    def _level(self, symbol: str, cents: int) -> tuple[float, float]:
        return round(cents * CENT, 2), self._sizes.setdefault((symbol, cents), self._size())

    def _size(self) -> float:
        return self._random.choice((1, 40, 100, 100, 200, 1300))


def _make_odd(state: State) -> None:
    if state.oddity == "cross":
        state.bids[0] = state.asks[1][0], state.bids[0][1]
    elif state.oddity == "one_sided":
        state.asks = []
    elif state.oddity == "unsorted":
        state.bids.reverse()
    elif state.oddity == "nan":
        state.bids[0] = math.nan, state.bids[0][1]
    elif state.oddity == "part":
        state.bids[0] = state.bids[0][0], 0.5


def _levels(side: Sequence[tuple[float, float]]) -> list[dict[str, Any]]:
    return [{"0": price, "1": size, "2": 1, "3": [{"0": "NSDQ", "1": size, "2": 34_200_000}]} for price, size in side]


def book_truth(trades: Path | None) -> Path | None:
    """The truth file of books beside that of trades."""
    return None if trades is None else trades.with_name(f"{trades.name}.books")


def read_book_truth(path: Path) -> list[Line]:
    """Its states. OSError; TruthError when it is none."""
    return [
        Line(
            made["symbol"],
            made["time"],
            [(price, size) for price, size in made["bids"]],
            [(price, size) for price, size in made["asks"]],
            made["odd"],
        )
        for made in truth.read_truth(path, _FIELDS)
    ]
