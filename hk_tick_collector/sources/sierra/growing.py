"""Reads a ``.scid`` file that Sierra Chart writes to while we read.

Normal life is append, in whole records some time. Not normal, and noticed: the file is cut, made anew under the same
name, or an older copy of it is put back. What was read is therefore remembered by what stood there (``Position``), and
not by a number of bytes alone; when it does not stand there any more, reading begins again with the first record.
Identity makes that harmless: a trade that is stored is stored once.

The file is opened for each look, read and closed: never locked, never written, and a share that comes and goes is no
error for longer than it is gone. Limits: MAX_READ_RECORDS a look, TAIL_RECORDS kept.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, NamedTuple

from hk_tick_collector.core.regular import open_regular
from hk_tick_collector.sources.sierra.scid import HEADER, Layout, read_header, unix_us

MAX_READ_RECORDS = 250_000  # 10 MB
TAIL_RECORDS = 16


class Position(NamedTuple):
    """Up to where a file was read, and what stood there."""

    size_bytes: int = 0  # of the file when it was read
    records: int = 0  # that were read
    first: bytes = b""  # the header and the first record
    tail: bytes = b""  # the last TAIL_RECORDS that were read


START = Position()


class Look(NamedTuple):
    """What a look at the file gave."""

    position: Position
    layout: Layout | None = None  # None: the header is not there yet
    first_index: int = 0  # of ``data``'s first record in the file
    data: bytes = b""  # whole records
    began_anew: bool = False  # what was read before is no longer what the file holds
    more: bool = False  # there are whole records behind ``data``


def look(path: Path, position: Position = START, max_records: int = MAX_READ_RECORDS) -> Look:
    """The records behind ``position``, and the position behind them.

    OSError when the file cannot be read now (StoreUnavailable for what is no regular file), ScidError when it is none.
    """
    with open_regular(path) as file:
        size_bytes = os.fstat(file.fileno()).st_size
        layout = read_header(_at(file, 0, HEADER.size))
        if layout is None:
            return Look(START, began_anew=position.records > 0)
        known = _still_there(file, layout, position, size_bytes)
        begin = position if known else START
        last = layout.whole_records(size_bytes)
        wanted = min(last, begin.records + max_records)
        data = _at(file, layout.offset(begin.records), (wanted - begin.records) * layout.record_bytes)
        data = data[: len(data) // layout.record_bytes * layout.record_bytes]
        read = begin.records + len(data) // layout.record_bytes
        first = _at(file, 0, layout.offset(min(read, 1)))
        if not _still_there(file, layout, begin, os.fstat(file.fileno()).st_size):
            # Rewritten while it was read: nothing of this is believed.
            return Look(START, layout, began_anew=True, more=True)
    tail = (begin.tail + data)[-TAIL_RECORDS * layout.record_bytes :]
    after = Position(size_bytes, read, first, tail)
    began_anew = not known and position.records > 0
    return Look(after, layout, begin.records, data, began_anew, more=read < last)


def _still_there(file: BinaryIO, layout: Layout, position: Position, size_bytes: int) -> bool:
    """Does the file hold what was read?"""
    if not position.records:
        return True
    end = layout.offset(position.records)
    if size_bytes < end or _at(file, 0, len(position.first)) != position.first:
        return False
    return _at(file, end - len(position.tail), len(position.tail)) == position.tail


def _at(file: BinaryIO, offset: int, length: int) -> bytes:
    file.seek(offset)
    return file.read(length)


def position_at(path: Path, from_us: int, to_unix_us: Callable[[int], int] = unix_us) -> Position:
    """Before the first record of ``from_us`` (Unix microseconds) or later, found by halves: records rise with time.

    START where the file has no records yet. OSError, ScidError as ``look``.
    """
    with open_regular(path) as file:
        size_bytes = os.fstat(file.fileno()).st_size
        layout = read_header(_at(file, 0, HEADER.size))
        if layout is None:
            return START
        low, high = 0, layout.whole_records(size_bytes)
        while low < high:
            middle = (low + high) // 2
            data = _at(file, layout.offset(middle), layout.record_bytes)
            if len(data) < layout.record_bytes:  # cut while we look
                return START
            if to_unix_us(layout.records.unpack(data)[0]) < from_us:
                low = middle + 1
            else:
                high = middle
        if not low:
            return START
        begin = max(0, low - TAIL_RECORDS)
        tail = _at(file, layout.offset(begin), (low - begin) * layout.record_bytes)
        return Position(size_bytes, low, _at(file, 0, layout.offset(1)), tail)


def last_time_us(path: Path, to_unix_us: Callable[[int], int] = unix_us) -> int | None:
    """The time of the last whole record in Unix microseconds; None when there is none. OSError, ScidError."""
    with open_regular(path) as file:
        layout = read_header(_at(file, 0, HEADER.size))
        records = layout.whole_records(os.fstat(file.fileno()).st_size) if layout is not None else 0
        if layout is None or not records:
            return None
        data = _at(file, layout.offset(records - 1), layout.record_bytes)
        return to_unix_us(layout.records.unpack(data)[0]) if len(data) == layout.record_bytes else None
