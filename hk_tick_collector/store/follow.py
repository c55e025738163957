"""Committed rows behind a position, from day file to day file: what live consumers of a recorder read.

The file is the stream: one writer appends, a reader sees whole commits, so nothing has to be handed over inside the
recorder and no follower can slow it down. Late, pulled and repaired ticks come later in this order, so a follower gets
them too, each row once, in the order in which it was stored.

``Follower.read_behind`` is the whole of it: give it a position, get the next rows and the position behind them, and
keep that one once the rows are safe. ``follow`` is the loop around it.

Promises:

- Every committed row of a day that is followed exactly once, or an error that says what happened (``PositionLost``) and
  where to go on. Positions prove that they fit at every read; ``position.py`` says how.
- Nothing is written, nothing is left beside a closed file, and no transaction stays open between two calls, so the
  writer's checkpoints pass. A connection that has seen no commit for LET_GO_SEC is closed; the file is then looked at
  from outside. Group read permission is enough.

What is followed:

- One kind of record (``followed.py``): the ticks, unless another one is asked for.
- Two days at most (MAX_PLACES): the newest day file, and the one before while rows may still come into it. A day is
  left when a newer one has rows and its own file was closed, or when a third one begins; it was read to its end then.
  What comes into a day after it was left (a salvage, a restored archive, an import of history) is not followed.
- Days are entered in their order, the oldest day behind the position first; a file that appears behind the newest day
  followed is not. Files of days after tomorrow (one stray tick makes one) are passed over.
- A row is given as it was when it was read. A sequence or finer milliseconds that the store fills in later
  (``rows.py``) bring no second copy: whoever needs the final state of such a row reads it again by its rowid, or the
  day when it is over. A log of these changes would cost every tick something and concern nearly none.

Cost on two shared cores with commits each 10 ms, looking each 10 ms: docs/performance.md. Memory: the rows of one call.
Not safe to share between threads.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from hk_tick_collector.core.clock import Clock, SystemClock
from hk_tick_collector.core.errors import StoreBusy, StoreCorrupt, StoreUnavailable
from hk_tick_collector.store.file_stream import FileStream, Misfit, identity
from hk_tick_collector.store.followed import TICKS, Followed
from hk_tick_collector.store.inuse import recorder_holds
from hk_tick_collector.store.layout import was_set_aside
from hk_tick_collector.store.position import (
    MAX_PLACES,
    DayChanged,
    DayDamaged,
    DayGone,
    Place,
    Position,
    Row,
)

LIMIT_ROWS = 5000  # of one call, so that no read transaction lives long
LOOK_SEC = 0.01
DAYS_LOOK_SEC = 1.0  # between two looks for a new day file
PATIENCE_SEC = 60.0
DAMAGED_SEC = 5.0  # so long at every look, before a day that is over is given up


class Batch(NamedTuple):
    """Rows of one day in the order in which they were stored, and the position behind them."""

    day: str  # YYYYMMDD
    rows: list[
        Row
    ]  # at least one; the columns are those of the kind, of ticks ``position.ROW``: rowid, then the others
    position: Position


def follow(
    root: Path,
    after: Position,
    *,
    kind: Followed = TICKS,
    limit_rows: int = LIMIT_ROWS,
    look_sec: float = LOOK_SEC,
    patience_sec: float = PATIENCE_SEC,
    stop: threading.Event | None = None,
) -> Iterator[tuple[Batch, Position]]:
    """Every batch behind ``after`` with the position behind it, for ever or until ``stop``.

    Keep the position once the rows are safe, and begin with it again after a death::

        for batch, position in follow(root, Position.parse(saved)):
            store(batch.rows)                  # durable when it returns
            save(str(position))

    A disk or a lock that stands in the way is waited for up to ``patience_sec``, then StoreBusy or StoreUnavailable
    come out. All other errors are those of ``Follower.read_behind``; what came before them stays good.
    """
    stop = stop or threading.Event()
    position, give_up_at = after, time.monotonic() + patience_sec
    with Follower(root, kind=kind) as follower:
        while not stop.is_set():
            try:
                batch = follower.read_behind(position, limit_rows)
            except (StoreBusy, StoreUnavailable):
                if time.monotonic() >= give_up_at:
                    raise
                batch = None
            else:
                give_up_at = time.monotonic() + patience_sec
            if batch is None:
                stop.wait(look_sec)
                continue
            position = batch.position
            yield batch, position


def newest_place(conn: sqlite3.Connection, day: str, identity: int, columns: str) -> Place:
    """The place behind all rows of an open day file, as ``Follower.end`` would say. ``columns``: the select list of
    ``position.ROW`` but its rowid; ``identity``: of the file, ``identity_of``."""
    sql = f"SELECT rowid, {columns} FROM ticks ORDER BY rowid DESC LIMIT 1"  # noqa: S608 - our names
    row = conn.execute(sql).fetchone()
    return Place(day) if row is None else TICKS.behind(Place(day), [row], identity)._replace(trail=None)


def place_at(path: Path, day: str, rowid: int | None = None, kind: Followed = TICKS) -> Place:
    """The place in a file of that kind behind the row of that rowid; behind all of them when None, before all of them
    when there is no such row. What was before it was not read, as of ``Follower.end``. Raises as ``store.reader``."""
    file = FileStream(path, day, time.monotonic, kind)
    try:
        return file.place_at(rowid) or Place(day)
    finally:
        file.close()


class Follower:
    """Reads behind positions. One may serve many readers of one data root: a position that has nothing behind it costs
    a few microseconds a day followed."""

    def __init__(
        self,
        root: Path,
        *,
        kind: Followed = TICKS,
        days_look_sec: float = DAYS_LOOK_SEC,
        monotonic: Callable[[], float] = time.monotonic,
        clock: Clock | None = None,
        was_end: Callable[[Place], bool] | None = None,
    ) -> None:
        """``kind``: what is followed, and whose positions are taken. ``was_end``: was this place the end of a file that
        was put away since (``days.catalog.Catalog.was_end``)? Then its day is over for whoever stands there, and no
        DayGone; without it every day without a file is."""
        self._root = root
        self._kind = kind
        self._was_end = was_end
        self._ends: dict[str, Place] = {}  # of days that were put away
        self._days_look_sec = days_look_sec
        self._monotonic = monotonic
        self._clock = clock or SystemClock()
        self._files: dict[str, FileStream] = {}
        self._damaged: dict[str, float] = {}  # since when
        self._anew_until: dict[str, float] = {}  # so long days count as begun anew
        self._days: list[str] = []
        self._list_at = float("-inf")

    def __enter__(self) -> Follower:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all files."""
        for file in self._files.values():
            file.close()
        self._files.clear()

    def read_behind(self, position: Position, limit_rows: int = LIMIT_ROWS) -> Batch | None:
        """The next rows behind ``position``, at most ``limit_rows`` and of one day; None when there are none now.

        A day that was read to its end may be put away: ``was_end`` tells. None, too, while the newest day's file was
        set aside and the next one is not made yet. Raises DayChanged or DayGone when the position does not fit;
        DayDamaged when a file is damaged and a newer day has begun, so that nobody will write to it; StoreBusy and
        StoreUnavailable when the disk, a lock or rights are in the way (ask again with the same position); StoreCorrupt
        when the newest file is damaged (the recorder sets it aside when it writes to it).
        ValueError for a position in another kind of record.
        """
        if position.kind != self._kind.name:
            raise ValueError(f"a position in {position.kind} was given to a follower of {self._kind.name}")
        for place in position.places:
            rows = self._rows_behind(position, place, limit_rows)
            if rows:
                return self._batch(position, place, rows)
        day = self._next_day(position.newest_day)
        if day is None:
            return None
        if len(position.places) >= MAX_PLACES:
            position = position.leaving(position.places[0].day)
        place = Place(day)
        rows = self._rows_behind(position, place, limit_rows)
        return self._batch(position, place, rows) if rows else None

    def read_in(self, place: Place, limit_rows: int = LIMIT_ROWS) -> tuple[list[Row], Place]:
        """The next rows of one day alone, whatever day it is, and the place behind them; none when there are none now.
        Raises as ``read_behind``."""
        rows = self._rows_behind(Position.at_start_of(place.day, self._kind.name), place, limit_rows)
        return rows, self._kind.behind(place, rows, self._file(place.day).identity) if rows else place

    @contextlib.contextmanager
    def look_into(self, day: str) -> Iterator[sqlite3.Connection | None]:
        """A read-only connection to the file of a day for a look; None when there is no file, or no row yet. Raises as
        ``read_behind`` of a file that cannot be read now."""
        with self._file(day).looked_into() as conn:
            yield conn

    def end(self, back_rows: int = 0) -> Position:
        """The position behind the rows that are committed now, less the last ``back_rows`` of the newest day.

        It costs the same at any file size: TAIL_ROWS before it are read. Those before them never are; when the file is
        exchanged for another one, ``FileStream._prove`` says when they count as the same.
        """
        days = self._known_days()[-MAX_PLACES:]
        if not days:
            return Position(kind=self._kind.name)
        newest = len(days) - 1
        places = [self._file(day).end(back_rows if n == newest else 0) for n, day in enumerate(days)]
        start = Position.at_start_of(days[0], self._kind.name)
        return start._replace(places=tuple(place for place in places if place is not None))

    def _rows_behind(self, position: Position, place: Place, limit_rows: int) -> list[Row]:
        try:
            rows = self._file(place.day).rows_behind(place, limit_rows)
            self._damaged.pop(place.day, None)
            return rows
        except Misfit as exc:
            raise DayChanged(
                f"the day file of {place.day} {exc}: what was read of it cannot be told from what was not; read that "
                f"day again from its start and drop the rows that you have, by symbol and sequence",
                place.day,
                position.moved(Place(place.day)),
            ) from None
        except FileNotFoundError:
            if not place.rowid or self._is_end(place) or self._begins_anew(place):
                return []
            path = self._kind.file_of(self._root, place.day)
            raise DayGone(
                f"{path} is gone: the day was put away or removed; read the rest of it from "
                f"its archive (hk-tickctl query), or restore it (hk-tickctl restore {place.day}) and ask again",
                place.day,
                position.leaving(place.day),
            ) from None
        except StoreCorrupt as exc:
            if not self._is_given_up(place.day):
                raise
            raise DayDamaged(
                f"{exc}; {place.day} is over, so nobody sets its file aside: the rest of that day is left out; salvage "
                f"it with hk-tickctl salvage",
                place.day,
                position.leaving(place.day),
            ) from exc

    def _is_end(self, place: Place) -> bool:
        """Was a day that has no file any more read to its end?"""
        if self._ends.get(place.day) != place and self._was_end is not None and self._was_end(place):
            self._ends[place.day] = place
        return self._ends.get(place.day) == place

    def _begins_anew(self, place: Place) -> bool:
        """Was the newest day's file set aside, or removed while the recorder has it open? The recorder's next rows make
        a new one, with all that the removed one held; at lunch in an hour. Looked at as often as for a new day."""
        day, now_sec = place.day, self._monotonic()
        if now_sec < self._anew_until.get(day, now_sec):
            return True
        newer = max(self._known_days(), default="") > day
        if newer:
            return False
        with contextlib.suppress(OSError):
            was_aside = was_set_aside(self._kind.file_of(self._root, day))
            if was_aside or recorder_holds(self._root, lambda *file: identity(*file) == place.file):
                self._anew_until[day] = now_sec + self._days_look_sec
                return True
        return False

    def _is_given_up(self, day: str) -> bool:
        """Is a damaged day over, and was it damaged at every look for a while?"""
        since_sec = self._damaged.setdefault(day, self._monotonic())
        return max(self._known_days(), default="") > day and self._monotonic() - since_sec >= DAMAGED_SEC

    def _batch(self, position: Position, place: Place, rows: list[Row]) -> Batch:
        file = self._file(place.day)
        position = position.moved(self._kind.behind(place, rows, file.identity))
        oldest = position.places[0].day
        if oldest < place.day and self._file(oldest).is_over():
            position = position.leaving(oldest)
        for day in [day for day in self._files if day <= position.left]:
            self._files.pop(day).close()
            self._ends.pop(day, None)
        return Batch(place.day, rows, position)

    def _file(self, day: str) -> FileStream:
        file = self._files.get(day)
        if file is None:
            file = self._files[day] = FileStream(self._kind.file_of(self._root, day), day, self._monotonic, self._kind)
        return file

    def _next_day(self, newest: str) -> str | None:
        if self._monotonic() >= self._list_at:
            self._days = self._known_days()
            self._list_at = self._monotonic() + self._days_look_sec
        return next((day for day in self._days if day > newest), None)

    def _known_days(self) -> list[str]:
        directory = self._kind.directory(self._root)
        tomorrow = datetime.fromtimestamp(self._clock.now_ms() / 1000, tz=UTC) + timedelta(days=1)
        try:
            days = [self._kind.day_of(path) or "" for path in directory.iterdir()]
        except FileNotFoundError:
            return []
        except OSError as exc:
            raise StoreUnavailable(
                f"{directory} cannot be listed ({exc.strerror}); uid {os.geteuid()} needs read permission: the "
                f"recorder's group has it"
            ) from exc
        return sorted(day for day in days if "" < day <= f"{tomorrow:%Y%m%d}")
