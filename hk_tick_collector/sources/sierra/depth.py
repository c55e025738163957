"""Sierra Chart's market depth files (``.depth``): whose they are, and whether they are what they claim to be.

``MarketDepthData/ESZ26_FUT_CME.2026-11-20.depth`` holds the book's changes of one symbol on one UTC day. Such a file is
kept as it is; nothing here makes a book of it. Its header (``<4sIII``: SCDD, header bytes, record bytes, version) is
believed no further than the limits below; of the records the first and the last whole one are looked at.

Source: Sierra Chart, "Market Depth Data File Format".
"""

from __future__ import annotations

import re
import struct
from typing import BinaryIO, NamedTuple

from hk_tick_collector.core.dates import parse_day
from hk_tick_collector.core.errors import InputError
from hk_tick_collector.sources.sierra.naming import EXCHANGES, MARKET
from hk_tick_collector.sources.sierra.scid import ScidError, unix_us

DIRECTORY = "MarketDepthData"  # in Sierra Chart's data directory
SUFFIX = ".depth"
HEADER = struct.Struct("<4sIII")
RECORD = struct.Struct("<qBBHfII")  # time, command, flags, orders, price, quantity, reserved
HEADER_BYTES, RECORD_BYTES = 64, 24
MAX_HEADER_BYTES, MAX_RECORD_BYTES = 4096, 256
COMMANDS = range(1, 8)  # clear the book; add, modify, delete a level of either side
_FIRST_US, _LAST_US = 946_684_800_000_000, 4_102_444_800_000_000  # 2000 to 2100

_NAME = re.compile(
    rf"(?P<code>[A-Z0-9]{{1,16}})(?:_FUT_|[.-])(?:{'|'.join(EXCHANGES)})"
    r"\.(?P<date>\d{4}-\d\d-\d\d)\.depth", re.ASCII
)  # fmt: skip


class DepthError(ScidError):
    """It is no depth file that is known here: the text says why."""


class DepthName(NamedTuple):
    """What a file's name says."""

    symbol: str  # "CME.ESZ26"
    utc_day: str  # YYYYMMDD


class DepthLayout(NamedTuple):
    """What its header says, and what follows from its size."""

    records: int
    torn_bytes: int  # behind the last whole record


def parse_depth_name(file_name: str) -> DepthName:
    """``ESZ26_FUT_CME.2026-11-20.depth`` -> ``CME.ESZ26``, ``20261120``; InputError with what a name must look like."""
    match = _NAME.fullmatch(file_name)
    day = match["date"].replace("-", "") if match else ""
    try:
        parse_day(day)
    except ValueError:
        raise InputError(
            f"{file_name}: symbol and day cannot be told from the file's name; a depth file is named like "
            "ESZ26_FUT_CME.2026-11-20.depth"
        ) from None
    assert match is not None
    return DepthName(f"{MARKET}.{match['code']}", day)


def read_layout(file: BinaryIO, size_bytes: int) -> DepthLayout:
    """Look at an open file from its beginning on. DepthError when it is none, or holds no record."""
    head = file.read(HEADER.size)
    if head[:4] != b"SCDD"[: len(head)]:
        raise DepthError("it is no Sierra Chart depth file: it does not begin with SCDD")
    if size_bytes < HEADER_BYTES or len(head) < HEADER.size:
        raise DepthError("its header is not written wholly")
    _, header_bytes, record_bytes, version = HEADER.unpack(head)
    if version != 1:
        raise DepthError(f"it is a .depth file of version {version}, and version 1 is known here")
    if not HEADER_BYTES <= header_bytes <= MAX_HEADER_BYTES or not RECORD_BYTES <= record_bytes <= MAX_RECORD_BYTES:
        raise DepthError(
            f"its header is damaged: it claims {header_bytes} bytes for itself and {record_bytes} for a record"
        )
    records, torn_bytes = divmod(max(0, size_bytes - header_bytes), record_bytes)
    if not records:
        raise DepthError("it holds no record")
    for index in {0, records - 1}:
        file.seek(header_bytes + index * record_bytes)
        _check_record(file.read(RECORD_BYTES), index)
    file.seek(0)
    return DepthLayout(records, torn_bytes)


def _check_record(data: bytes, index: int) -> None:
    if len(data) < RECORD_BYTES:
        raise DepthError("it was cut while it was read")
    time_us, command, *_ = RECORD.unpack(data)
    if command not in COMMANDS or not _FIRST_US <= unix_us(time_us) < _LAST_US:
        raise DepthError(f"record {index + 1} is none: it has the command {command} and the time {time_us}")
