"""The trading days of one ``.scid`` file: which records are of which day, whether they are trades, and their digest.

A file holds all days of a contract. It is read once from end to end, about a third of a microsecond a record; memory is
a few numbers a day. Records whose time cannot be one belong to no day.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

from hk_tick_collector.core.regular import open_regular
from hk_tick_collector.sources.sierra.growing import START, Look, look
from hk_tick_collector.sources.sierra.mapping import ToUnixUs
from hk_tick_collector.sources.sierra.scid import MARKS, Kind, Layout, Record, ScidError, kind_of, unix_us

NO_DAY = ""
READ_AGAIN = 3  # times that a file may be made anew while it is read
PART_RECORDS = 20_000  # of a day, read again at a time: what is made of them stays small
MAX_SPANS = 10_000  # of one day, each a stretch of records without one of another day in between
_MAX_US = 253_370_764_800_000_000  # year 9999


class Days(Protocol):
    """What is asked of a market."""

    def trading_day(self, ts_ms: int) -> str:
        """The day whose file holds a tick of ``ts_ms``."""

    def day_bounds(self, day: str) -> tuple[int, int]:
        """The moments whose trading day it is, from and until before."""


class Span(NamedTuple):
    """Records that follow each other."""

    first_index: int
    records: int


@dataclass(slots=True)
class FileDay:
    """One trading day as the file has it."""

    day: str  # NO_DAY: of no day
    spans: list[Span] = field(default_factory=list)
    records: int = 0
    bars: int = 0
    indexes: int = 0  # records with a price and no volume
    in_order: bool = True
    _hash: hashlib._Hash = field(default_factory=hashlib.sha256)

    @property
    def digest(self) -> str:
        """SHA-256 of the day's records, in hexadecimal."""
        return self._hash.hexdigest()

    @property
    def refusal(self) -> str | None:
        """Why the day's records are no trades; None when they are."""
        if self.bars:
            return (
                f"{self.bars:,} of {self.records:,} records are bars, not trades: set Intraday Data Storage Time Unit "
                "to 1 Tick in Sierra Chart's data settings, delete the file there and download it again"
            )
        if self.indexes:
            return f"{self.indexes:,} of {self.records:,} records have a price and no volume: an index has no trades"
        return None

    def add(self, first_index: int, records: int, data: bytes) -> None:
        """Some records more, which follow each other."""
        self._hash.update(data)
        self.records += records
        last = self.spans[-1] if self.spans else None
        if last is not None and last.first_index + last.records == first_index:
            self.spans[-1] = Span(last.first_index, last.records + records)
        elif len(self.spans) >= MAX_SPANS:
            raise ScidError(f"its records jump between days more than {MAX_SPANS:,} times: the file is damaged")
        else:
            self.spans.append(Span(first_index, records))


class FileDays(NamedTuple):
    """A file, read to its end."""

    path: Path
    layout: Layout
    records: int
    size_bytes: int
    days: dict[str, FileDay]  # in the order of the file; NO_DAY among them when there are such records

    @property
    def rest_bytes(self) -> int:
        """Behind the last whole record: a write in progress, or a torn one."""
        return max(0, self.size_bytes - self.layout.offset(self.records))


def read_days(
    path: Path,
    market: Days,
    now_ms: int,
    to_unix_us: ToUnixUs = unix_us,
    on_records: Callable[[int], None] = lambda _records: None,
) -> FileDays:
    """Read the file to its end. ScidError when it is none, is empty, or does not stand still; OSError."""
    for _ in range(READ_AGAIN):
        reading = _Reading(market, now_ms, to_unix_us)
        position = START
        while True:
            part = look(path, position)
            if part.layout is None:
                raise ScidError("its header is not written yet")
            if part.began_anew:
                break
            reading.take(part, part.layout)
            on_records(part.position.records - part.first_index)
            position = part.position
            if not part.more:
                return FileDays(path, part.layout, position.records, position.size_bytes, reading.days)
    raise ScidError("it is being written anew while it is read: try again when Sierra Chart has finished")


class _Reading:
    """The days so far."""

    def __init__(self, market: Days, now_ms: int, to_unix_us: ToUnixUs) -> None:
        self._market = market
        self._latest_us = min(_MAX_US, (now_ms + 86_400_000) * 1000)
        self._to_unix_us = to_unix_us
        self.days: dict[str, FileDay] = {}
        self._day = FileDay(NO_DAY)
        self._from_us = self._until_us = 0
        self._last_us = 0

    def take(self, part: Look, layout: Layout) -> None:
        """The records of a look."""
        data, size = part.data, layout.record_bytes
        begin = index = 0
        to_unix_us, last_us = self._to_unix_us, self._last_us
        from_us, until_us = self._from_us, self._until_us
        for record in layout.records.iter_unpack(data):
            time_us = to_unix_us(record[0])
            if not from_us <= time_us < until_us:
                self._add(part.first_index, begin, index, data, size)
                begin = index
                last_us = self._enter(time_us)
                from_us, until_us = self._from_us, self._until_us
            if time_us < last_us:
                self._day.in_order = False
            last_us = time_us
            if record[5] > 1 or record[1] not in MARKS:
                self._judge(record)
            index += 1
        self._last_us = last_us
        self._add(part.first_index, begin, index, data, size)

    def _add(self, first_index: int, begin: int, end: int, data: bytes, size: int) -> None:
        if end > begin:
            self._day.add(first_index + begin, end - begin, data[begin * size : end * size])

    def _enter(self, time_us: int) -> int:
        """Go over to the day of a time; what the time before counts as there."""
        name, self._from_us, self._until_us = self._bounds(time_us)
        known = self.days.get(name)
        if known is None:
            self._day = self.days[name] = FileDay(name)
            return time_us
        self._day = known
        known.in_order = False
        return time_us

    def _bounds(self, time_us: int) -> tuple[str, int, int]:
        if 0 < time_us < self._latest_us:
            try:
                day = self._market.trading_day(time_us // 1000)
                from_ms, until_ms = self._market.day_bounds(day)
            except (ValueError, OverflowError):
                return NO_DAY, time_us, time_us + 1
            return day, from_ms * 1000, min(until_ms * 1000, self._latest_us)
        return NO_DAY, time_us, time_us + 1

    def _judge(self, record: Record) -> None:
        kind = kind_of(record)
        if kind is Kind.BAR:
            self._day.bars += 1
        elif kind is Kind.INDEX:
            self._day.indexes += 1


def records_of(file_days: FileDays, day: FileDay) -> Iterator[bytes]:
    """The day's records again, in parts of whole ones; fewer when the file has become shorter. OSError."""
    size = file_days.layout.record_bytes
    with open_regular(file_days.path) as file:
        for span in day.spans:
            file.seek(file_days.layout.offset(span.first_index))
            left = span.records
            while left:
                data = file.read(min(left, PART_RECORDS) * size)
                if len(data) < size:
                    return
                yield data[: len(data) // size * size]
                left -= len(data) // size
