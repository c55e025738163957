"""Where a follower stands: a place in each day file that it reads, as a text that proves whether it still fits.

A day file is only appended to, so ``rowid`` is a log position: what has been read up to N is all there is up to N. That
holds for one file. So a ``Place`` carries, besides the rowid:

- ``check``: 32 bits of the row there. It is compared at every read, in the statement that reads on.
- ``file``: 32 bits of the file's identity (device and inode).
- ``trail``: 64 bits of the rows behind ``base`` up to there, made while they were read. When the identity is another
  one (compacted, restored, copied, salvaged), they are read again and compared: equal rows in equal order, and the
  place is as good as before. ``base`` is 0 for who read the day from its start. Rows up to another ``base`` were never
  read; that they are the same ones is shown by their number and their times of storing (``follow.py``). The trail is
  None where no row but the last one was read.

All of them are made of what never changes in a stored row. The store may give a row its sequence later, or finer
milliseconds, or another number among equal ones (``rows.py``): ``occurrence`` and milliseconds are left out, and a row
that was checked without a sequence still fits once it has one.

As text: ``v2~<day left>~<day>.<rowid>.<check>.<file>.<trail>~<check of the text>``, one part for each day that is read;
safe in addresses. ``<trail>`` is ``<base>-<trail>`` where the base is not 0. The check of the text finds what was cut,
or changed on the way. ``v1`` is the same without it, as earlier versions wrote it, and is read.
"""

from __future__ import annotations

import re
import zlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import chain
from math import nan
from operator import itemgetter
from typing import Any, NamedTuple

from hk_tick_collector.core.errors import StoreError
from hk_tick_collector.store.connect import COLUMNS
from hk_tick_collector.store.layout import check_day

Row = tuple[Any, ...]

# What a follower is given of each row.
ROW = ("rowid", *COLUMNS)
MAX_PLACES = 2  # days that are read at a time: today's, and the one before while late rows may come
_FORM, _FORM_UNCHECKED = "v2", "v1"
_SYMBOL = ROW.index("symbol")
_SEQ, _TS_MS = ROW.index("seq"), ROW.index("ts_ms")
_fixed = itemgetter(
    *map(
        ROW.index,
        ("symbol", "price", "volume", "turnover", "direction", "tick_type", "recv_ts_ms", "inserted_at_ms"),
    )
)
_numbers = itemgetter(*map(ROW.index, ("price", "volume", "recv_ts_ms", "inserted_at_ms")))
_STAMP = ROW.index("inserted_at_ms")
_PLACE = re.compile(
    r"(\d{8})\.(0|[1-9]\d{0,17})\.([0-9a-f]{8})\.([0-9a-f]{8})\.(?:-|(?:([1-9]\d{0,17})-)?([0-9a-f]{16}))", re.ASCII
)


class Place(NamedTuple):
    """How far one day file was read."""

    day: str  # YYYYMMDD
    rowid: int = 0  # of the last row read; 0: none yet
    check: int = 0
    file: int = 0
    trail: int | None = 0
    base: int = 0

    def text(self) -> str:
        """As in the text of a position."""
        trail = "-" if self.trail is None else f"{self.trail:016x}"
        base = f"{self.base}-" if self.base and self.trail is not None else ""
        return f"{self.day}.{self.rowid}.{self.check:08x}.{self.file:08x}.{base}{trail}"

    def behind(self, rows: Sequence[Row], file: int) -> Place:
        """The place behind ``rows``, which follow this one in the file of that identity."""
        base, trail = (self.rowid, 0) if self.trail is None else (self.base, self.trail)
        return Place(self.day, rows[-1][0], check_of(rows[-1]), file, extended(trail, rows), base)

    @property
    def mark(self) -> str:
        """The text without the trail: what place it is, however it was reached."""
        return self._replace(trail=None).text()

    @property
    def unread(self) -> int:
        """Up to this rowid no row was read."""
        return self.rowid - 1 if self.trail is None else self.base

    def fits(self, row: Row) -> bool:
        """Is this the row that was read last?"""
        if row[0] != self.rowid:
            return False
        return self.check in (check_of(row), check_of(row, with_sequence=False))


class Position(NamedTuple):
    """Where to read on: behind each of ``places`` (by day, MAX_PLACES at most), then the days after them.

    ``left``: no day up to this one is read any more; "" when none was left. ``Position()`` is before everything.
    """

    left: str = ""
    places: tuple[Place, ...] = ()

    @classmethod
    def at_start_of(cls, day: str) -> Position:
        """Before the first row of a day (YYYYMMDD). ValueError when it is none."""
        moment = datetime.strptime(check_day(day), "%Y%m%d").replace(tzinfo=UTC) - timedelta(days=1)
        return cls(f"{moment:%Y%m%d}")

    @classmethod
    def parse(cls, text: str) -> Position:
        """The position of a text that ``str`` made. ValueError with a sentence when it is none."""
        try:
            left, *places = _parts(text)
            found = [_PLACE.fullmatch(place) for place in places]
            days = [match.group(1) for match in found if match]
            if len(days) != len(places) or len(days) > MAX_PLACES:
                raise ValueError
            in_order = [check_day(day) for day in [*([left] if left != "-" else []), *days]]
            if in_order != sorted(set(in_order)):
                raise ValueError
        except ValueError:
            raise ValueError(f"{text!r:.200} is not a position in the day files; begin with a day instead") from None
        return cls("" if left == "-" else left, tuple(_place(match) for match in found if match))

    def __str__(self) -> str:
        text = "~".join((_FORM, self.left or "-", *(place.text() for place in self.places)))
        return f"{text}~{text_check(text)}"

    @property
    def newest_day(self) -> str:
        """The newest day that is read or was left; "" when there is none."""
        return self.places[-1].day if self.places else self.left

    def moved(self, place: Place) -> Position:
        """With this place instead of its day's, or with its day after the others."""
        places = {known.day: known for known in self.places}
        places[place.day] = place
        return Position(self.left, tuple(places[day] for day in sorted(places)))

    def leaving(self, day: str) -> Position:
        """Without the days up to this one."""
        return Position(max(self.left, day), tuple(place for place in self.places if place.day > day))


class PositionLost(StoreError):
    """A position fits the day files no more: rows behind it would be skipped or come again without a word.

    ``onward`` is where to go on, and what that costs is in the text.
    """

    def __init__(self, text: str, day: str, onward: Position) -> None:
        super().__init__(text)
        self.day = day
        self.onward = onward

    def __reduce__(self) -> tuple[type[PositionLost], tuple[str, str, Position]]:
        """Whole also where another process reads the files."""
        return type(self), (str(self), self.day, self.onward)


class DayChanged(PositionLost):
    """The file of a day is another one. ``onward`` begins that day again: drop the rows that you have."""


class DayGone(PositionLost):
    """A day has no day file any more, and nothing shows that it was read to its end. ``onward`` goes on behind it: the
    rest of the day is in its archive."""


class DayDamaged(PositionLost):
    """The file of a day that is over cannot be read on. ``onward`` goes on behind that day: its rest is to be
    salvaged."""


def text_check(text: str) -> str:
    """What shows that a text is the one that was given out: eight hexadecimal digits."""
    return f"{zlib.crc32(text.encode()):08x}"


def stored_ms(row: Row) -> int:
    """When a row was stored, UTC epoch ms."""
    return int(row[_STAMP])


def _parts(text: str) -> list[str]:
    """The parts of a position's text between its form and its check. ValueError when it is not whole."""
    form, _, rest = text.partition("~")
    if form == _FORM:
        text, _, check = text.rpartition("~")
        if check != text_check(text):
            raise ValueError
        rest = text.partition("~")[2]
    elif form != _FORM_UNCHECKED:
        raise ValueError
    return rest.split("~")


def check_of(row: Row, *, with_sequence: bool = True) -> int:
    """32 bits of one row."""
    content = (*_fixed(row), row[_TS_MS] // 1000, row[_SEQ] if with_sequence else None)
    return zlib.crc32(repr(content).encode("utf-8", "surrogatepass"))


def extended(trail: int, rows: Iterable[Row]) -> int:
    """The trail of all rows up to and with these; how they are cut into calls makes no difference."""
    rows = list(rows)
    text = "".join([f"{row[_SYMBOL]}\n" for row in rows]).encode("utf-8", "surrogatepass")
    return zlib.crc32(text, trail >> 32) << 32 | zlib.crc32(_packed(rows), trail & 0xFFFFFFFF)


def _packed(rows: Sequence[Row]) -> bytes:
    values: Iterator[Any] = chain.from_iterable(map(_numbers, rows))
    try:
        return array("d", values).tobytes()
    except TypeError:  # NULL, or what no recorder stores there
        values = chain.from_iterable(map(_numbers, rows))
        return array("d", [value if isinstance(value, (int, float)) else nan for value in values]).tobytes()


def _place(match: re.Match[str]) -> Place:
    day, rowid, check, file, base, trail = match.groups()
    if trail is None:
        return Place(day, int(rowid), int(check, 16), int(file, 16), None)
    return Place(day, int(rowid), int(check, 16), int(file, 16), int(trail, 16), int(base or 0))
