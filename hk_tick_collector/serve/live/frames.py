"""Rows as they are sent: what many readers ask for is made into JSON once (``choice``).

A row is a rowid, then the COLUMNS of its kind; all kinds have the symbol at the same place. ``seq`` is text: it is
larger than what JavaScript can count exactly. Messages are JSON objects; each that carries a
``cursor`` carries as ``prev`` the one that was told before it, so a reader sees by itself whether it missed one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import orjson

from hk_tick_collector.market.trades import TradeTypes
from hk_tick_collector.store import book_follow, broker_follow, snapshot_follow
from hk_tick_collector.store.layout import BOOKS, BROKERS, SNAPSHOTS, TICKS
from hk_tick_collector.store.position import ROW, Row, Stand, parts_of

# Of a row behind its rowid, by kind.
COLUMNS = {
    TICKS: ROW[1:], BOOKS: book_follow.COLUMNS, BROKERS: broker_follow.COLUMNS, SNAPSHOTS: snapshot_follow.COLUMNS,
}  # fmt: skip
PRICE, ODD_LOTS, OFF_EXCHANGE, ALL = "price", "odd_lots", "off_exchange", "all"
TYPES = (PRICE, ODD_LOTS, OFF_EXCHANGE, ALL)
ROW_BYTES, LEVEL_BYTES, FRAME_BYTES = (
    1000,
    150,
    2000,
)  # what they cost in memory; a book may have hundreds of levels, or a queue of places
SYMBOL = ROW.index("symbol")
assert {columns[SYMBOL - 1] for columns in COLUMNS.values()} == {"symbol"}
# Kinds of which a row is the whole state of a symbol, and where its two sides are; None where it is not known.
SIDES = {kind: (1 + COLUMNS[kind].index("bids"), 1 + COLUMNS[kind].index("asks")) for kind in (BOOKS, BROKERS)}
STATES = frozenset(SIDES)
_AT_ONCE = 500  # rows; nobody else can do anything meanwhile
_SEQ, _TYPE = ROW.index("seq"), ROW.index("tick_type")
_PRICE, _VOLUME = ROW.index("price"), ROW.index("volume")


@dataclass(frozen=True)
class Frame:
    """Rows of one batch between two positions; or, without rows, a ``message``."""

    before: Stand
    after: Stand
    day: str = ""
    rows: list[Row] = field(default_factory=list)  # columns as of ROW
    message: dict[str, Any] | None = None
    at_sec: float = field(default_factory=time.monotonic)

    @cached_property
    def size_bytes(self) -> int:
        """About what it costs in memory."""
        more_bytes = 0
        if self.after.kind in STATES:
            bids, asks = SIDES[self.after.kind]
            more_bytes = LEVEL_BYTES * sum(
                len(row[bids]) + len(row[asks]) for row in self.rows if row[bids] is not None
            )
        elif self.after.kind == SNAPSHOTS:
            more_bytes = sum(len(row[snapshot_follow.BODY]) for row in self.rows)
        return ROW_BYTES * len(self.rows) + more_bytes + FRAME_BYTES

    @cached_property
    def symbols(self) -> frozenset[str]:
        """Of its rows."""
        return frozenset([row[SYMBOL] for row in self.rows])

    @cached_property
    def cursor(self) -> str:
        """The position behind it as text."""
        return ",".join(map(str, parts_of(self.after)))


@dataclass(eq=False, slots=True)
class Event:
    """A message, and the cursor that is told with it. Readers that keep up are given the same one: ``frame`` is kept by
    whoever sends it in another form."""

    type: str
    data: bytes
    cursor: str
    frame: bytes | None = None


def rows_json(rows: Sequence[Row], *, as_objects: bool = False) -> bytes:
    """Rows as JSON arrays in the order of COLUMNS, or as objects, with commas between. What no JSON has (NaN, bytes, a
    broken text) is null or a readable text."""
    return b",".join([_json(rows[n : n + _AT_ONCE], as_objects) for n in range(0, len(rows), _AT_ONCE)])


def _json(rows: Sequence[Row], as_objects: bool) -> bytes:
    listed: list[Any] = []
    for row in rows:
        values = list(row)  # and then changed: a third less than a tuple put together
        if values[_SEQ] is not None:
            values[_SEQ] = str(values[_SEQ])
        del values[0]
        listed.append(values)
    if as_objects:
        listed = [dict(zip(COLUMNS[TICKS], row, strict=True)) for row in listed]
    try:
        return orjson.dumps(listed)[1:-1]
    except TypeError:
        if as_objects:
            return orjson.dumps([{name: _plain(value) for name, value in row.items()} for row in listed])[1:-1]
        return orjson.dumps([[_plain(value) for value in row] for row in listed])[1:-1]


def books_json(rows: Sequence[Row], depth: int, *, as_objects: bool = False) -> bytes:
    """Rows of books likewise, of ``depth`` levels a side at most."""
    return b",".join([_books_json(rows[n : n + _AT_ONCE], depth, as_objects) for n in range(0, len(rows), _AT_ONCE)])


def _books_json(rows: Sequence[Row], depth: int, as_objects: bool) -> bytes:
    bids, asks = SIDES[BOOKS]
    listed: list[Any] = [
        row[1:] if row[bids] is None else (*row[1:bids], row[bids][:depth], row[asks][:depth]) for row in rows
    ]
    if as_objects:
        listed = [dict(zip(COLUMNS[BOOKS], row, strict=True)) for row in listed]
    return orjson.dumps(listed)[1:-1]


def plain_json(kind: str, rows: Sequence[Row], *, as_objects: bool = False) -> bytes:
    """Rows of broker queues and of snapshots likewise; a snapshot's body is the text of a JSON object."""
    listed: list[Any] = [row[1:] for row in rows]
    if as_objects:
        listed = [dict(zip(COLUMNS[kind], row, strict=True)) for row in listed]
    return orjson.dumps(listed)[1:-1]


def newest_of_each(kind: str, rows: Sequence[Row]) -> list[Row]:
    """Of what a reader lags behind, the last row of each symbol; of each series, where a symbol has several."""
    parts = snapshot_follow.SERIES if kind == SNAPSHOTS else (SYMBOL,)
    return list({tuple(row[part] for part in parts): row for row in rows}.values())


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, (int, float)):
        return value
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    return text.encode("utf-8", "replace").decode()


def kind_of(row: Row, types: TradeTypes) -> str:
    """Which of TYPES a row is, as the HTTP API's parameter ``types`` sees it; "" when it has no price or no volume."""
    if row[_PRICE] == 0 or row[_VOLUME] == 0:
        return ""
    tick_type = row[_TYPE]
    if tick_type is None or tick_type in types.price_making:
        return PRICE
    return ODD_LOTS if tick_type in types.odd_lot else OFF_EXCHANGE


def told_json(prev: str, cursor: str, message: dict[str, Any]) -> bytes:
    """A message as it is sent, with its cursors."""
    return orjson.dumps({"type": message["type"], "prev": prev, "cursor": cursor, **message})


def rows_message(
    kind: str, prev: str, cursor: str, rows: bytes, more: dict[str, Any] | None = None, word: str | None = None
) -> bytes:
    """A message of rows of a kind (TICKS, BOOKS ...) that are JSON already. ``word``: its type, by default the kind."""
    head = orjson.dumps({"type": word or kind, "prev": prev, "cursor": cursor, **(more or {})})
    return b'%b,"%b":[%b]}' % (head[:-1], kind.encode(), rows)
