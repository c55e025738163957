"""Rows as they are sent: each is made into JSON once, for all readers.

``seq`` is text: it is larger than what JavaScript can count exactly. Messages are JSON objects; each that carries a
``cursor`` carries as ``prev`` the one that was told before it, so a reader sees by itself whether it missed one.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import orjson

from hk_tick_collector.market.trades import TradeTypes
from hk_tick_collector.store.follow import Batch
from hk_tick_collector.store.position import ROW, Position, Row

COLUMNS = ROW[1:]
PRICE, ODD_LOTS, OFF_EXCHANGE, ALL = "price", "odd_lots", "off_exchange", "all"
TYPES = (PRICE, ODD_LOTS, OFF_EXCHANGE, ALL)
ROW_BYTES = 250  # what a row costs in memory beside its JSON
_SYMBOL, _SEQ, _TYPE = ROW.index("symbol"), ROW.index("seq"), ROW.index("tick_type")
_PRICE, _VOLUME = ROW.index("price"), ROW.index("volume")


@dataclass(frozen=True)
class Frame:
    """Rows of one batch between two positions; or, without rows, a ``message`` for the readers of ``symbol``."""

    before: Position
    after: Position
    day: str = ""
    symbols: list[str] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)  # of TYPES; "" for a row that is no trade
    parts: list[bytes] = field(default_factory=list)  # the rows as JSON arrays in the order of COLUMNS
    message: dict[str, Any] | None = None
    symbol: str | None = None
    at_sec: float = field(default_factory=time.monotonic)

    @cached_property
    def joined(self) -> bytes:
        """All rows."""
        return b",".join(self.parts)

    @cached_property
    def size_bytes(self) -> int:
        """About what it costs in memory."""
        return sum(map(len, self.parts)) * 2 + ROW_BYTES * len(self.parts) + 1000

    @cached_property
    def cursor(self) -> str:
        """The position behind it as text."""
        return str(self.after)


def frame_of(before: Position, batch: Batch, types: TradeTypes) -> Frame:
    """The frame of a batch that was read behind ``before``."""
    rows = batch.rows
    return Frame(
        before,
        batch.position,
        batch.day,
        [str(row[_SYMBOL]) for row in rows],
        [kind_of(row, types) for row in rows],
        [as_json(row) for row in rows],
    )


def as_json(row: Row) -> bytes:
    """A row as a JSON array. What no JSON has (NaN, bytes, a broken text) is null or a readable text."""
    values: list[Any] = list(row[1:])
    if values[_SEQ - 1] is not None:
        values[_SEQ - 1] = str(values[_SEQ - 1])
    try:
        return orjson.dumps(values)
    except TypeError:
        return orjson.dumps([_plain(value) for value in values])


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


def as_objects(parts: list[bytes]) -> list[bytes]:
    """The same rows with the names of their columns."""
    return [orjson.dumps(dict(zip(COLUMNS, orjson.loads(part), strict=True))) for part in parts]


def ticks_message(prev: str, cursor: str, rows: bytes, more: dict[str, Any] | None = None) -> bytes:
    """A message of rows that are JSON already."""
    head = orjson.dumps({"type": "ticks", "prev": prev, "cursor": cursor, **(more or {})})
    return b'%b,"ticks":[%b]}' % (head[:-1], rows)
