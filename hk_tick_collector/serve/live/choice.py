"""What readers with equal wishes share: which rows they are sent, in which shape, and the messages made of them.

Readers that keep up stand at the same place, so a message is made once and kept until the next ones, whoever asks.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

from hk_tick_collector.market.registry import market_of
from hk_tick_collector.market.trades import TradeTypes
from hk_tick_collector.serve.keys import EVERY_SYMBOL, may_read
from hk_tick_collector.serve.live.frames import (
    ALL,
    SYMBOL,
    Event,
    Frame,
    books_json,
    kind_of,
    plain_json,
    rows_json,
    rows_message,
    told_json,
)
from hk_tick_collector.store import data_root
from hk_tick_collector.store.layout import BOOKS, TICKS
from hk_tick_collector.store.position import Row

_KEPT_MESSAGES = 4
_MAX_KNOWN_SYMBOLS = 100_000


class Wish(NamedTuple):
    """``symbols``: None for all that a key with these ``patterns`` may read. ``types``, ``shape``, ``kind``, ``depth``:
    as of a subscription."""

    symbols: frozenset[str] | None
    types: frozenset[str]
    shape: str
    patterns: tuple[str, ...]
    kind: str = TICKS
    depth: int = 0


class Choice:
    """What comes of a wish."""

    def __init__(self, wish: Wish, trade_types: TradeTypes) -> None:
        self.wish = wish
        self._symbols, self._types, self._is_object = wish.symbols, wish.types, wish.shape != "array"
        self._reads_all = wish.symbols is None and EVERY_SYMBOL in wish.patterns
        self._trade_types = trade_types
        self._may: dict[str, bool] = {}
        self._made: dict[tuple[str, str, int, int], Event | None] = {}

    @property
    def is_named(self) -> bool:
        """Were symbols named?"""
        return self._symbols is not None

    def reads(self, symbol: str) -> bool:
        """Is this symbol asked for, and allowed?"""
        if self._symbols is not None:
            return symbol in self._symbols
        known = self._may.get(symbol)
        if known is None:
            if len(self._may) >= _MAX_KNOWN_SYMBOLS:
                self._may.clear()
            known = self._may[symbol] = may_read(self.wish.patterns, symbol)
        return known

    def rows(self, rows: Sequence[Row]) -> Sequence[Row]:
        """Those that are sent."""
        if not self._reads_all:
            rows = [row for row in rows if self.reads(row[SYMBOL])]
        if ALL not in self._types:
            rows = [row for row in rows if kind_of(row, self._trade_types) in self._types]
        return rows

    def json(self, rows: Sequence[Row]) -> bytes:
        """Rows as they are sent."""
        if self.wish.kind == BOOKS:
            return books_json(rows, self.wish.depth, as_objects=self._is_object)
        if self.wish.kind == TICKS:
            return rows_json(rows, as_objects=self._is_object)
        return plain_json(self.wish.kind, rows, as_objects=self._is_object)

    def message(self, prev: str, cursor: str, first: int, frames: Sequence[Frame]) -> Event | None:
        """The message of frames of the ring, ``first`` being the first one's number; None when it has no rows."""
        place = prev, cursor, first, len(frames)
        if place in self._made:
            return self._made[place]
        rows = [row for frame in frames if self._may_have(frame) for row in self.rows(frame.rows)]
        kind = self.wish.kind
        return self._keep(
            place, Event(kind, rows_message(kind, prev, cursor, self.json(rows)), cursor) if rows else None
        )

    def told(self, message: dict[str, Any]) -> dict[str, Any] | None:
        """A message as these readers get it; None when nothing in it is of a symbol of theirs."""
        if "symbol" in message and not self.reads(message["symbol"]):
            return None
        part = next((part for part in ("symbols", "gaps") if part in message), None)
        if part is None or self._reads_all:
            return message
        facts = [fact for fact in message[part] if self.reads(fact["symbol"])]
        return {**message, part: facts} if facts else None

    def told_message(self, prev: str, cursor: str, number: int, message: dict[str, Any]) -> Event | None:
        """The same as it is sent; ``number``: of its frame in the ring."""
        place = prev, cursor, number, 0
        if place in self._made:
            return self._made[place]
        told = self.told(message)
        return self._keep(place, None if told is None else Event(told["type"], told_json(prev, cursor, told), cursor))

    def _keep(self, place: tuple[str, str, int, int], made: Event | None) -> Event | None:
        if len(self._made) >= _KEPT_MESSAGES:
            del self._made[next(iter(self._made))]
        self._made[place] = made
        return made

    def _may_have(self, frame: Frame) -> bool:
        return self._symbols is None or not self._symbols.isdisjoint(frame.symbols)


class Choices:
    """Those that are used now; two readers with equal wishes get the same one."""

    def __init__(self, trade_types: TradeTypes) -> None:
        self._trade_types = trade_types
        self._used: WeakValueDictionary[Wish, Choice] = WeakValueDictionary()

    @classmethod
    def of_root(cls, root: Path) -> Choices:
        """Those of the market that is recorded there."""
        return cls(market_of(data_root.market_of(root)).trade_types)

    def of(self, wish: Wish) -> Choice:
        """For a reader."""
        choice = self._used.get(wish)
        if choice is None:
            choice = self._used[wish] = Choice(wish, self._trade_types)
        return choice
