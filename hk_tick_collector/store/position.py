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

All of them are made of what never changes in a stored row; what that is, ``followed.py`` says for each kind of record.

As text: ``v2~<day left>~<day>.<rowid>.<check>.<file>.<trail>~<check of the text>``, one part for each day that is read;
safe in addresses. ``<trail>`` is ``<base>-<trail>`` where the base is not 0. The check of the text finds what was cut,
or changed on the way. ``v1`` is the same without it, as earlier versions wrote it, and is read. A position in another
kind of record than ticks says so: ``v2.books~...``; read as one in ticks it is refused.
"""

from __future__ import annotations

import re
import zlib
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from hk_tick_collector.core.errors import StoreError
from hk_tick_collector.store.connect import COLUMNS
from hk_tick_collector.store.layout import TICKS, check_day

Row = tuple[Any, ...]

# What a follower is given of each tick.
ROW = ("rowid", *COLUMNS)
MAX_PLACES = 2  # days that are read at a time: today's, and the one before while late rows may come
_FORM, _FORM_UNCHECKED = "v2", "v1"
_BETWEEN = "+"  # the positions in several data roots
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

    @property
    def mark(self) -> str:
        """The text without the trail: what place it is, however it was reached."""
        return self._replace(trail=None).text()

    @property
    def unread(self) -> int:
        """Up to this rowid no row was read."""
        return self.rowid - 1 if self.trail is None else self.base


class Position(NamedTuple):
    """Where to read on: behind each of ``places`` (by day, MAX_PLACES at most), then the days after them.

    ``left``: no day up to this one is read any more; "" when none was left. ``kind``: the name of the kind of record
    (``followed.Followed``). ``Position()`` is before all ticks.
    """

    left: str = ""
    places: tuple[Place, ...] = ()
    kind: str = TICKS

    @classmethod
    def at_start_of(cls, day: str, kind: str = TICKS) -> Position:
        """Before the first row of a day (YYYYMMDD). ValueError when it is none."""
        moment = datetime.strptime(check_day(day), "%Y%m%d").replace(tzinfo=UTC) - timedelta(days=1)
        return cls(f"{moment:%Y%m%d}", (), kind)

    @classmethod
    def parse(cls, text: str, kind: str = TICKS) -> Position:
        """The position of a text that ``str`` made, in this kind of record. ValueError with a sentence when it is
        none."""
        try:
            left, *places = _parts(text, kind)
            matches = [_PLACE.fullmatch(place) for place in places]
            days = [match.group(1) for match in matches if match]
            if len(days) != len(places) or len(days) > MAX_PLACES:
                raise ValueError
            in_order = [check_day(day) for day in [*([left] if left != "-" else []), *days]]
            if in_order != sorted(set(in_order)):
                raise ValueError
        except ValueError:
            raise ValueError(f"{text!r:.200} is not a position in the day files; begin with a day instead") from None
        return cls("" if left == "-" else left, tuple(_place(match) for match in matches if match), kind)

    def __str__(self) -> str:
        text = "~".join((_form(self.kind), self.left or "-", *(place.text() for place in self.places)))
        return f"{text}~{text_check(text)}"

    @property
    def newest_day(self) -> str:
        """The newest day that is read or was left; "" when there is none."""
        return self.places[-1].day if self.places else self.left

    def moved(self, place: Place) -> Position:
        """With this place instead of its day's, or with its day after the others."""
        places = {known.day: known for known in self.places}
        places[place.day] = place
        return self._replace(places=tuple(places[day] for day in sorted(places)))

    def leaving(self, day: str) -> Position:
        """Without the days up to this one."""
        places = tuple(place for place in self.places if place.day > day)
        return self._replace(left=max(self.left, day), places=places)


class JoinedPosition(NamedTuple):
    """Where to read on in several data roots that are followed as one: a position in each, in the order listed."""

    of: tuple[Position, ...]

    @property
    def kind(self) -> str:
        """As of ``Position``."""
        return self.of[0].kind

    @property
    def newest_day(self) -> str:
        """Of all of them."""
        return max(part.newest_day for part in self.of)

    @classmethod
    def parse(cls, text: str, kind: str = TICKS) -> JoinedPosition:
        """The position of a text that ``str`` made, in this kind of record. ValueError with a sentence when it is
        none."""
        return cls(tuple(Position.parse(part, kind) for part in text.split(_BETWEEN)))

    def __str__(self) -> str:
        return _BETWEEN.join(map(str, self.of))

    def moved(self, number: int, part: Position) -> JoinedPosition:
        """With this position in the data root of that number."""
        return JoinedPosition((*self.of[:number], part, *self.of[number + 1 :]))


Stand = Position | JoinedPosition


def parse_stand(text: str, kind: str = TICKS) -> Stand:
    """Either of them, from its text. ValueError."""
    joined = JoinedPosition.parse(text, kind)
    return joined if len(joined.of) > 1 else joined.of[0]


def parts_of(stand: Stand) -> tuple[Position, ...]:
    """The position in each data root."""
    return (stand,) if isinstance(stand, Position) else stand.of


def rows_between(behind: Stand, ahead: Stand) -> int:
    """How many rows of each data root's newest day lie between the two, where that is known from the positions."""
    rows = 0
    for ours, theirs in zip(parts_of(behind), parts_of(ahead), strict=True):
        if ours.places and theirs.places:
            place, head = ours.places[-1], theirs.places[-1]
            rows += max(0, head.rowid - (place.rowid if place.day == head.day else 0))
    return rows


class PositionLost(StoreError):
    """A position fits the day files no more: rows behind it would be skipped or come again without a word.

    ``onward`` is where to go on, and what that costs is in the text.
    """

    def __init__(self, text: str, day: str, onward: Stand) -> None:
        super().__init__(text)
        self.day = day
        self.onward = onward

    @property
    def onward_here(self) -> Position:
        """``onward`` where one data root is followed."""
        if not isinstance(self.onward, Position):
            raise TypeError("several data roots are followed")
        return self.onward

    def __reduce__(self) -> tuple[type[PositionLost], tuple[str, str, Stand]]:
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


def _form(kind: str) -> str:
    """How the text of a position in this kind of record begins."""
    return _FORM if kind == TICKS else f"{_FORM}.{kind}"


def _parts(text: str, kind: str) -> list[str]:
    """The parts of a position's text between its form and its check. ValueError when it is not whole."""
    form, _, rest = text.partition("~")
    if form == _form(kind):
        text, _, check = text.rpartition("~")
        if check != text_check(text):
            raise ValueError
        rest = text.partition("~")[2]
    elif form != _FORM_UNCHECKED or kind != TICKS:
        raise ValueError
    return rest.split("~")


def _place(match: re.Match[str]) -> Place:
    day, rowid, check, file, base, trail = match.groups()
    if trail is None:
        return Place(day, int(rowid), int(check, 16), int(file, 16), None)
    return Place(day, int(rowid), int(check, 16), int(file, 16), int(trail, 16), int(base or 0))
