"""Trades that the simulator makes up, one seed one tape, and the truth file that says what was shown.

A line of the truth file is one event: ``{"kind": "NEW", "symbol": "AAPL", "index": ..., "time": ..., "price": ...,
"size": ..., "odd": false, "shown": true}``. ``odd``: no program can store it as a trade (a price NaN).
``shown``: it went to somebody. What is shown later, as a trade of the past, has a second line that says so.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from hk_tick_collector.sims import truth

KEPT_EVENTS = 100_000  # of each symbol, for who asks for the past
ODDITIES = ("nan", "fraction", "correction", "cancel")


@dataclass(slots=True)
class Event:
    """One TimeAndSale."""

    kind: str  # NEW | CORRECTION | CANCEL
    symbol: str  # dxFeed's spelling
    index: int
    time: int  # UTC epoch ms
    sequence: int
    price: float | str
    size: float
    side: str
    is_extended: bool = False
    odd: bool = False
    shown: bool = False

    def values(self, flags: int = 0) -> dict[str, Any]:
        """By the names of dxFeed's fields. ``flags``: its place in a snapshot."""
        price = self.price if isinstance(self.price, str) else round(self.price, 2)
        return {
            "eventType": "TimeAndSale", "eventSymbol": self.symbol, "eventTime": 0, "eventFlags": flags,
            "index": self.index, "time": self.time, "timeNanoPart": self.index % 1_000_000, "sequence": self.sequence,
            "exchangeCode": "Q", "price": price, "size": self.size, "bidPrice": price, "askPrice": price,
            "exchangeSaleConditions": "@ TI" if self.size < 100 else "@   ", "tradeThroughExempt": "\0",
            "aggressorSide": self.side, "spreadLeg": False, "extendedTradingHours": self.is_extended,
            "validTick": self.size >= 100, "type": self.kind, "buyer": None, "seller": None,
        }  # fmt: skip


_FIELDS = {field.name for field in fields(Event)}


class Tape:
    """Makes trades of ``symbols``; each one's time is given."""

    def __init__(self, symbols: Sequence[str], seed: int, path: Path | None) -> None:
        self._random = random.Random(seed)
        self._symbols = list(symbols)
        self._prices = {symbol: 20.0 + 480.0 * self._random.random() for symbol in symbols}
        self._sequences = dict.fromkeys(symbols, 0)
        self._last: dict[str, Event] = {}
        self._past: dict[str, deque[Event]] = {symbol: deque(maxlen=KEPT_EVENTS) for symbol in symbols}
        self.oddities: list[str] = []  # to be made next, in order
        self._truth = truth.TruthFile(path)

    def next(self, time_ms: int) -> Event:
        """The next event, an oddity if one was asked for."""
        symbol = self._random.choice(self._symbols)
        oddity = self.oddities.pop(0) if self.oddities else ""
        last = self._last.get(symbol)
        if oddity in ("correction", "cancel") and last is not None:
            size = last.size + 100
            return Event(oddity.upper(), symbol, last.index, last.time, last.sequence, last.price, size, last.side)
        self._prices[symbol] = max(1.0, self._prices[symbol] + self._random.choice((-0.01, 0.0, 0.01)))
        self._sequences[symbol] = sequence = self._sequences[symbol] + self._random.choice((1, 1, 2, 3))
        size = float(self._random.choice((1, 7, 100, 100, 200, 500)))
        price: float | str = round(self._prices[symbol], 2)
        if oddity == "nan":
            price = "NaN"
        elif oddity == "fraction":
            size = 0.5
        index = time_ms // 1000 << 32 | time_ms % 1000 << 22 | sequence
        side = self._random.choice(("BUY", "SELL", "UNDEFINED"))
        odd = oddity == "nan"
        made = Event("NEW", symbol, index, time_ms, sequence, price, size, side, odd=odd)
        if not odd:
            self._last[symbol] = made
        self._past[symbol].append(made)
        return made

    @property
    def symbols(self) -> Sequence[str]:
        """Those that it knows."""
        return self._symbols

    def past(self, symbol: str, from_ms: int) -> list[Event]:
        """Its trades from then on, the newest first, as far as they are kept."""
        return [event for event in reversed(self._past.get(symbol, ())) if event.time >= from_ms]

    def note(self, events: Sequence[Event]) -> None:
        """Into the truth file."""
        self._truth.note(asdict(event) for event in events)


def read_truth(path: Path) -> list[dict[str, Any]]:
    """The events of a truth file. OSError; TruthError when it is none."""
    return truth.read_truth(path, _FIELDS)
