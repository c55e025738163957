"""What happened: an exchange that trades, an OpenD that numbers, remembers and forgets, and a ledger of both.

The ledger is the witness: which trades were made, when OpenD had each, and which of them a message to the recorder
held. It knows nothing of the recorder's code. Sequences come in every manner that has been seen or can be feared
(``NUMBERINGS``); the first one is what Futu documents for Hong Kong.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

MEMORY_ROWS = 1000  # OpenD shows no more of a symbol


class Content(NamedTuple):
    """What tells a trade from another one, whoever numbers it. The time is cut to its second."""

    symbol: str
    second: int
    price: float
    volume: int
    turnover: float
    direction: str
    tick_type: str


class Told(NamedTuple):
    """All that a trade is told by, except its sequence."""

    ts_ms: int
    content: Content


@dataclass(slots=True, eq=False)
class Trade:
    """One trade, and what became of it."""

    symbol: str
    ts_ms: int
    price: float
    volume: int
    turnover: float
    direction: int
    tick_type: int
    day_shift: int = 0  # its time string names another day
    readable: bool = True
    seq: int = 0  # as OpenD tells it; 0: without one
    push_seq: int = 0
    known_ms: int | None = None  # when OpenD first had it
    refused: bool = False  # OpenD did not take its symbol when it was made
    shown_ms: int | None = None  # when a message that a living recorder took first held it
    pushed: bool = False  # such a message was a push
    _told: Told | None = field(default=None, init=False, repr=False)

    @property
    def content(self) -> Content:
        return self.told.content

    @property
    def told(self) -> Told:
        """Made once: OpenD shows the same trades again and again, and nothing of this changes once it has."""
        if self._told is None:
            self._told = Told(self.ts_ms, self._make_content())
        return self._told

    def _make_content(self) -> Content:
        direction = {1: "BUY", 2: "SELL", 3: "NEUTRAL"}[self.direction]
        tick_type = {1: "AUTO_MATCH", 4: "INTER_AUTO_MATCH", 7: "AUCTION"}[self.tick_type]
        second = (self.ts_ms + self.day_shift * 86_400_000) // 1000
        return Content(self.symbol, second, self.price, self.volume, self.turnover, direction, tick_type)

    @property
    def is_numbered(self) -> bool:
        """Has it a sequence, the same wherever it is told?"""
        return bool(self.seq) and self.seq == self.push_seq


@dataclass(slots=True)
class Numbering:
    """How OpenD numbers a symbol's trades.

    ``manner``: futu (second << 32 | counter), first_n (the same, from a higher first counter), anew (the same,
    beginning again after each OpenD restart), lunch (again after lunch), index (index within the second), plain (a
    bare counter), none (no sequence), some (a tenth without), twice (now and then one number for two), skip (now and
    then a number that no trade has), split (pushes are numbered otherwise than answers).
    """

    manner: str
    rng: random.Random
    counters: Counter[str] = field(default_factory=Counter)
    seconds: dict[str, int] = field(default_factory=dict)
    within: Counter[str] = field(default_factory=Counter)

    def number(self, trade: Trade) -> None:
        """Give the trade its sequences, in the order in which OpenD gets it."""
        manner, symbol, rng = self.manner, trade.symbol, self.rng
        if manner == "first_n" and not self.counters[symbol]:
            self.counters[symbol] = 36
        step = 1
        if manner == "twice" and self.counters[symbol] and rng.random() < 0.03:
            step = 0
        elif manner == "skip" and rng.random() < 0.03:
            step = 2
        self.counters[symbol] += step
        counter = self.counters[symbol]
        second = trade.ts_ms // 1000
        if step == 0:
            second = self.seconds[symbol]
        self.seconds[symbol] = second
        trade.seq = second << 32 | counter
        if manner == "index":
            key = f"{symbol} {second}"
            self.within[key] += 1
            trade.seq = second << 32 | self.within[key]
        elif manner == "plain":
            trade.seq = counter
        elif manner == "none" or (manner == "some" and rng.random() < 0.1):
            trade.seq = 0
        trade.push_seq = trade.seq
        if manner == "split":
            trade.push_seq = second << 32 | (counter + 500_000)

    def begin_anew(self) -> None:
        self.counters.clear()


class OpenD:
    """The newest trades of each symbol, as OpenD shows them; up, down, or up and not logged in."""

    def __init__(self, numbering: Numbering) -> None:
        self.numbering = numbering
        self.memory: dict[str, deque[Trade]] = {}
        self.states: dict[str, deque[tuple[int, tuple[Trade, ...]]]] = {}  # for answers that are old
        self.up = True
        self.logged_in = True
        self.unsent: list[Trade] = []  # made while OpenD could not hear of it

    def hear(self, trade: Trade, now_ms: int) -> bool:
        """A trade of the exchange. False when OpenD is not there to hear it."""
        if not (self.up and self.logged_in):
            self.unsent.append(trade)
            return False
        self._take(trade, now_ms)
        return True

    def catch_up(self, now_ms: int) -> None:
        """Back with its server: it is told what it missed, as far as its memory goes."""
        missed, self.unsent = self.unsent, []
        for trade in missed:
            self._take(trade, now_ms)

    def lose_unsent(self) -> None:
        """Nobody tells it what it missed; its numbers go on as if it had known (counters of the exchange)."""
        for trade in self.unsent:
            self.numbering.number(trade)
        self.unsent = []

    def forget(self) -> None:
        self.memory.clear()
        self.states.clear()

    def shown(self, symbol: str, rows: int, age_ms: int = 0, now_ms: int = 0) -> list[Trade]:
        """The newest ``rows`` of the symbol, oldest first; with ``age_ms`` as they were then."""
        trades = list(self.memory.get(symbol, ()))
        if age_ms:
            trades = [trade for trade in trades if trade.known_ms is not None and trade.known_ms <= now_ms - age_ms]
        return trades[-rows:] if rows else []

    def _take(self, trade: Trade, now_ms: int) -> None:
        self.numbering.number(trade)
        trade.known_ms = now_ms
        self.memory.setdefault(trade.symbol, deque(maxlen=MEMORY_ROWS)).append(trade)


class Exchange:
    """Makes trades of a few symbols: busy ones, quiet ones, one that trades once, one never."""

    def __init__(self, rng: random.Random, symbols: dict[str, float], oddities: Oddities) -> None:
        self._rng = rng
        self._rates = symbols
        self._odd = oddities
        self._serial = 0
        self.trades: list[Trade] = []

    def trades_between(self, start_ms: int, end_ms: int) -> Iterator[Trade]:
        """Trades in the order of their making; their times may lag behind it when they are reported late."""
        rng = self._rng
        instants: list[tuple[int, str]] = []
        for symbol, per_sec in self._rates.items():
            at_ms = float(start_ms)
            while per_sec > 0:
                at_ms += rng.expovariate(per_sec) * 1000
                if at_ms >= end_ms:
                    break
                instants.append((int(at_ms), symbol))
                if rng.random() < 0.15:  # one order, several fills
                    instants += [(int(at_ms), symbol)] * rng.randint(1, 3)
        for at_ms, symbol in sorted(instants):
            yield self.make(symbol, at_ms)

    def make(self, symbol: str, at_ms: int, tick_type: int = 1) -> Trade:
        rng, odd = self._rng, self._odd
        self._serial += 1
        newest = next((t for t in reversed(self.trades[-5:]) if t.symbol == symbol), None)
        if newest is not None and newest.ts_ms == at_ms and rng.random() < odd.twins:
            trade = Trade(symbol, at_ms, newest.price, newest.volume, newest.turnover, newest.direction, tick_type)
        else:
            volume = 100 * rng.randint(1, 50)
            price = round(100 + self._serial * 0.001, 3)
            trade = Trade(symbol, at_ms, price, volume, round(price * volume, 3), rng.randint(1, 3), tick_type)
        if rng.random() < odd.late:
            trade.ts_ms -= rng.randint(6_000, 20_000)
            trade.tick_type = 4
        if rng.random() < odd.unreadable:
            trade.readable = False
        elif rng.random() < odd.other_day:
            trade.day_shift = rng.choice([-1, -1, -1, 1])
        self.trades.append(trade)
        return trade


@dataclass(frozen=True, slots=True)
class Oddities:
    """Shares of trades that are told in an odd way."""

    twins: float = 0.3
    late: float = 0.0
    unreadable: float = 0.0
    other_day: float = 0.0
    no_ms_in_pulls: bool = False
    sorted_by_time: bool = False
    unreadable_head: bool = False
    unreadable_tail: bool = False
