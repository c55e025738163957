"""Between states of a book and the bytes of a row: a full row holds every level, a delta what has changed.

A payload is a sequence of steps, each four LEB128 numbers (unsigned, 64 bits at most)::

    code    ((slot * 2 + side) * 3 + action) * 2 + odd      side 0 bid, 1 ask; slot 0 is the best price
    price   SET, REMOVE: 0; INSERT: thousandths, or the 64 bits of the double when ``odd``
    volume  REMOVE: 0; else twice the hundreds when they are whole, twice the number plus one when not (zigzag)
    orders  REMOVE: 0

Steps are done one after the other on the list of a side: SET gives the level at ``slot`` another volume and number of
orders, INSERT puts a level before the one at ``slot``, REMOVE takes it out. A full row holds the steps from an empty
book. All steps are four numbers long, so that a reader in numpy (``days.books``) can take a million at once.

A level that is taken out need not be cancelled: it may have left the window that the account's right shows.
``days.books`` tells the two apart. It is never one whose price is in the book after the row: whoever follows prices
would lose that level. Between books that are not sorted, or have a price twice, a full row stands instead.

Any list of levels comes back as it went in, sorted or not, with equal prices or none; only finite prices, volumes below
2**60 and numbers of orders from 0 to 2**63 can be kept (ValueError).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Sequence
from enum import IntEnum
from typing import NamedTuple

from hk_tick_collector.records.book import EMPTY_BOOK, Book, BookPush, Level, RowKind, StoredRow
from hk_tick_collector.records.leb128 import numbers_of, put_numbers, unzigzag, zigzag

FULL_EVERY_PUSHES = 100  # a reader goes back over so many rows of a symbol at most ...
FULL_EVERY_US = 60_000_000  # ... and over so much of its activity

MAX_VOLUME = 1 << 60
MAX_ORDERS = 1 << 63
NUMBERS_A_STEP = 4

_DOUBLE = struct.Struct("<d")
_BITS = struct.Struct("<Q")


class Action(IntEnum):
    """What a step does to a side's list."""

    SET = 0
    INSERT = 1
    REMOVE = 2


_SET, _INSERT, _REMOVE = map(int, Action)  # an enum's member is slow to compute with, and to look up


class Step(NamedTuple):
    """One step. ``side``: 0 bid, 1 ask."""

    side: int
    slot: int
    action: Action
    price: float = 0.0
    volume: int = 0
    orders: int = 0


def full_payload(book: Book) -> bytes:
    """All levels."""
    out = bytearray()
    _side_steps(out, 0, (), book.bids)
    _side_steps(out, 1, (), book.asks)
    return bytes(out)


def delta_payload(before: Book, after: Book) -> bytes | None:
    """What changed; empty when nothing did. None where steps would take out a price that is there afterwards."""
    out = bytearray()
    for side in range(2):
        if before[side] == after[side]:
            continue
        removed = _side_steps(out, side, before[side], after[side])
        if removed and any(level[0] in removed for level in after[side]):
            return None
    return bytes(out)


def steps_of(payload: bytes) -> Iterator[Step]:
    """The steps of a payload. ValueError when it is none."""
    numbers = numbers_of(payload)
    if len(numbers) % NUMBERS_A_STEP:
        raise ValueError("a payload that is cut off")
    for at in range(0, len(numbers), NUMBERS_A_STEP):
        code, price, volume, orders = numbers[at : at + NUMBERS_A_STEP]
        code, odd = divmod(code, 2)
        code, action = divmod(code, 3)
        slot, side = divmod(code, 2)
        yield Step(side, slot, Action(action), _price(price, odd), _volume(volume), orders)


def apply_payload(book: Book, payload: bytes) -> Book:
    """The state after a row with this payload on the state before. ValueError for a payload that is none, or of another
    state."""
    sides = [list(book.bids), list(book.asks)]
    for step in steps_of(payload):
        levels = sides[step.side]
        if step.slot >= len(levels) + (step.action is Action.INSERT):
            raise ValueError(f"a step at level {step.slot + 1} of a side that has {len(levels)}")
        if step.action is Action.SET:
            levels[step.slot] = (levels[step.slot][0], step.volume, step.orders)
        elif step.action is Action.INSERT:
            levels.insert(step.slot, (step.price, step.volume, step.orders))
        else:
            del levels[step.slot]
    return Book(tuple(sides[0]), tuple(sides[1]))


class BookEncoder:
    """Makes rows of the pushes of one file, for all its symbols."""

    def __init__(self) -> None:
        self._states: dict[int, _State] = {}

    def encode(self, symbol_id: int, push: BookPush, merged: int = 0) -> StoredRow:
        """The row of a push. ValueError for what cannot be kept; the state is the one before then."""
        recv_ts_us, book = push.recv_ts_us, push.book
        state = self._states.get(symbol_id)
        changes = None if state is None or state.is_full_due(recv_ts_us) else delta_payload(state.book, book)
        payload: bytes | None
        if state is None or changes is None:
            kind, payload = RowKind.FULL, full_payload(book)
            self._states[symbol_id] = _State(book, recv_ts_us)
        else:
            kind, payload = (RowKind.DELTA, changes) if changes else (RowKind.SAME, None)
            state.book = book
            state.rows += 1
        recv_ts_ms = recv_ts_us // 1000
        bid_lag_ms = None if push.bid_ts_ms is None else recv_ts_ms - push.bid_ts_ms
        ask_lag_ms = None if push.ask_ts_ms is None else recv_ts_ms - push.ask_ts_ms
        return StoredRow(symbol_id, recv_ts_us, bid_lag_ms, ask_lag_ms, kind.value, merged, payload)

    def break_row(self, symbol_id: int, at_us: int, merged: int = 0) -> StoredRow:
        """The state is not known from here on; the next push of the symbol gets a full row."""
        self._states.pop(symbol_id, None)
        return StoredRow(symbol_id, at_us, None, None, RowKind.BREAK.value, merged, None)

    def forget(self) -> None:
        """The next push of every symbol gets a full row: what was encoded may not be in the file."""
        self._states.clear()


class BookDecoder:
    """Makes states of the rows of one file, from any row on: until a symbol's first full row its book is None."""

    def __init__(self) -> None:
        self._books: dict[int, Book] = {}

    def decode(self, row: StoredRow) -> Book | None:
        """The state of the row's symbol after the row; None where it is not known. ValueError for a damaged row."""
        if row.kind == RowKind.BREAK:
            self._books.pop(row.symbol_id, None)
            return None
        if row.kind == RowKind.FULL:
            book = apply_payload(EMPTY_BOOK, row.payload or b"")
        else:
            known = self._books.get(row.symbol_id)
            if known is None:
                return None
            book = known if row.payload is None else apply_payload(known, row.payload)
        self._books[row.symbol_id] = book
        return book


class _State:
    """What the last row of a symbol left behind."""

    __slots__ = ("book", "full_ts_us", "rows")

    def __init__(self, book: Book, full_ts_us: int) -> None:
        self.book = book
        self.full_ts_us = full_ts_us
        self.rows = 1  # since the full one, with it

    def is_full_due(self, now_us: int) -> bool:
        return self.rows >= FULL_EVERY_PUSHES or not 0 <= now_us - self.full_ts_us < FULL_EVERY_US


def _side_steps(out: bytearray, side: int, before: Sequence[Level], after: Sequence[Level]) -> Sequence[float]:
    """Both lists are walked once, as sorted ones would be; the steps lead to ``after`` whatever their order is. The
    prices that are taken out."""
    removed: list[float] = []
    at, slot, known = 0, 0, len(before)
    for level in after:
        price = level[0]
        while at < known and before[at][0] != price and _is_better(side, before[at][0], price):
            _remove(out, side, slot)
            removed.append(before[at][0])
            at += 1
        if at < known and before[at][0] == price:
            if before[at] != level:
                _put(out, ((slot * 2 + side) * 3 + _SET) * 2, 0, level[1], level[2])
            at += 1
        else:
            _insert(out, side, slot, level)
        slot += 1
    for price, _, _ in before[at:]:
        _remove(out, side, slot)
        removed.append(price)
    return removed


def _is_better(side: int, price: float, other: float) -> bool:
    return price < other if side else price > other


def _insert(out: bytearray, side: int, slot: int, level: Level) -> None:
    price = level[0]
    code = ((slot * 2 + side) * 3 + _INSERT) * 2
    if not math.isfinite(price):
        raise ValueError(f"a price of {price}")
    thousandths = round(price * 1000.0) if abs(price) < 1e15 else -1
    if thousandths >= 0 and thousandths / 1000.0 == price:
        _put(out, code, thousandths, level[1], level[2])
    else:
        _put(out, code + 1, _BITS.unpack(_DOUBLE.pack(price))[0], level[1], level[2])


def _remove(out: bytearray, side: int, slot: int) -> None:
    put_numbers(out, ((slot * 2 + side) * 3 + _REMOVE) * 2, 0, 0, 0)


def _put(out: bytearray, code: int, price: int, volume: int, orders: int) -> None:
    if not -MAX_VOLUME < volume < MAX_VOLUME or not 0 <= orders < MAX_ORDERS:
        raise ValueError(f"a level of {volume} shares in {orders} orders")
    hundreds, rest = divmod(volume, 100)
    put_numbers(out, code, price, zigzag(volume) * 2 + 1 if rest else zigzag(hundreds) * 2, orders)


def _price(number: int, odd: int) -> float:
    if odd:
        price: float = _DOUBLE.unpack(_BITS.pack(number & 0xFFFF_FFFF_FFFF_FFFF))[0]
        return price
    return number / 1000.0


def _volume(number: int) -> int:
    signed, is_single = divmod(number, 2)
    volume = unzigzag(signed)
    return volume if is_single else volume * 100
