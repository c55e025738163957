"""The format of Sierra Chart's intraday files, ``.scid``, and what a record of one is.

Source: Sierra Chart, "Intraday Data File Format". Little-endian; a header that tells its own size and a record's, then
records of 40 bytes, each either one trade ("1 Tick" storage) or a bar. Which of the two is not said anywhere and shows
in the records alone, so it is judged by trading day: the setting may have been changed.

Nothing here opens a file. Limits: MAX_HEADER_BYTES, MAX_RECORD_BYTES; a file that claims more is none.
"""

from __future__ import annotations

import math
import struct
from enum import StrEnum
from typing import NamedTuple

from hk_tick_collector.core.errors import RecorderError

HEADER = struct.Struct("<4sIIHHI36s")  # magic, header bytes, record bytes, version, unused, start index, reserve
MAGIC = b"SCID"
VERSION = 1
FIELDS = "<q4f4I"
FIELD_BYTES = struct.calcsize(FIELDS)
MAX_HEADER_BYTES = 65_536
MAX_RECORD_BYTES = 1_024

# DateTime counts microseconds from 1899-12-30 00:00 UTC.
UNIX_EPOCH_US = 2_209_161_600_000_000


def _single(value: float) -> float:
    """The value as four bytes hold it."""
    result: float = struct.unpack("<f", struct.pack("<f", value))[0]
    return result


# What Open holds where a record is a trade with bid and ask.
SINGLE_TRADE = 0.0
UNBUNDLED_FIRST = _single(-1.99900095e37)  # the first part of a trade that CME told as a whole,
UNBUNDLED_LAST = _single(-1.99900197e37)  # and the last one
MARKS = frozenset({SINGLE_TRADE, UNBUNDLED_FIRST, UNBUNDLED_LAST})
NO_PRICE_ABOVE = 1e30  # larger ones are marks of the format, or damage

# time, open, high (ask), low (bid), close (price), trades, volume, bid volume, ask volume
Record = tuple[int, float, float, float, float, int, int, int, int]


class ScidError(RecorderError):
    """This is no .scid file that can be read."""


class Kind(StrEnum):
    """What a record is."""

    TRADE = "trade"  # also one that cannot be believed: the mapping decides
    BAR = "bar"
    INDEX = "index"  # a price and no volume: nothing was traded


class Layout(NamedTuple):
    """What a header says."""

    header_bytes: int
    record_bytes: int

    @property
    def records(self) -> struct.Struct:
        """Unpacks a ``Record``, also of a later format whose records are longer."""
        return struct.Struct(f"{FIELDS}{self.record_bytes - FIELD_BYTES}x")

    def whole_records(self, size_bytes: int) -> int:
        """How many a file of that size holds; a rest behind the last one is a write in progress, or a torn one."""
        return max(0, size_bytes - self.header_bytes) // self.record_bytes

    def offset(self, index: int) -> int:
        """Where record ``index`` begins."""
        return self.header_bytes + index * self.record_bytes


def read_header(data: bytes) -> Layout | None:
    """The layout by the first ``HEADER.size`` bytes; None when the header is not written yet.

    ScidError when these are not the bytes of a ``.scid`` file of a version that is known.
    """
    magic = data[: len(MAGIC)]
    if magic != MAGIC[: len(magic)]:
        raise ScidError("it is no Sierra Chart intraday file: it does not begin with SCID")
    if len(data) < HEADER.size:
        return None
    _, header_bytes, record_bytes, version, *_ = HEADER.unpack_from(data)
    if version != VERSION:
        raise ScidError(f"it is a .scid file of version {version}, and version {VERSION} is known here")
    if not HEADER.size <= header_bytes <= MAX_HEADER_BYTES or not FIELD_BYTES <= record_bytes <= MAX_RECORD_BYTES:
        raise ScidError(
            f"its header is damaged: it claims {header_bytes} bytes for itself and {record_bytes} for a record"
        )
    return Layout(header_bytes, record_bytes)


def unix_us(record_time: int) -> int:
    """A record's DateTime as microseconds of the Unix epoch."""
    return record_time - UNIX_EPOCH_US


def kind_of(record: Record) -> Kind:
    """Is it one trade? A bar sums several trades, or has four different prices; four equal ones are a trade that was
    told without bid and ask."""
    _, opened, high, low, close, trades, volume, *_ = record
    if trades > 1:
        return Kind.BAR
    if opened in MARKS:
        return Kind.TRADE
    prices = (opened, high, low, close)
    if not all(map(is_price, prices)):
        return Kind.TRADE
    if volume == 0:
        return Kind.INDEX
    return Kind.TRADE if opened == high == low == close else Kind.BAR


def is_price(value: float) -> bool:
    """Can it be a price? Spreads trade at zero and below."""
    return math.isfinite(value) and abs(value) < NO_PRICE_ABOVE
