"""The newest frames of one data root, in memory: a reader is a number in it, not a queue.

Bounded by age and by bytes. Whoever falls behind its beginning reads on from the files (``session``) and joins again
where its position is one of the ring's.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from hk_tick_collector.serve.live.frames import Frame
from hk_tick_collector.store.position import Place, Position, Stand, parts_of

MAX_SEC = 60.0
MAX_BYTES = 64 << 20
_LOOKED_AT = 64  # of the newest places, for who has read all there is


class Ring:
    """Frames ``start`` to ``end``, exclusive; numbers only rise. ``head`` is the position behind the last one."""

    def __init__(
        self,
        head: Stand,
        *,
        max_sec: float = MAX_SEC,
        max_bytes: int = MAX_BYTES,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.head = head
        self.start = 0
        self.size_bytes = 0
        self._max_sec, self._max_bytes, self._monotonic = max_sec, max_bytes, monotonic
        self._frames: dict[int, Frame] = {}  # by number, so that a reader finds its own at once
        self._numbers: dict[tuple[tuple[str, int], ...], int] = {}  # of the frame behind a place of the newest day

    @property
    def end(self) -> int:
        """The number of the next frame."""
        return self.start + len(self._frames)

    def append(self, frame: Frame) -> None:
        """Add the next frame; the oldest ones go."""
        assert frame.before == self.head, "a frame that does not follow the last one"
        self._numbers.setdefault(_key(frame.before), self.end)
        self._frames[self.end] = frame
        self.head = frame.after
        self.size_bytes += frame.size_bytes
        oldest_sec = self._monotonic() - self._max_sec
        while self._frames and (self.size_bytes > self._max_bytes or self._frames[self.start].at_sec < oldest_sec):
            gone = self._frames.pop(self.start)
            self.size_bytes -= gone.size_bytes
            if self._numbers.get(_key(gone.before)) == self.start:
                del self._numbers[_key(gone.before)]
            self.start += 1

    def take(self, number: int, max_bytes: int) -> list[Frame]:
        """Frames from this number on: one at least when there is one, and no more once they have ``max_bytes``."""
        taken: list[Frame] = []
        size = 0
        while size < max_bytes and (frame := self._frames.get(number)) is not None:
            taken.append(frame)
            size += frame.size_bytes
            number += 1
        return taken

    def waiting_since_sec(self, number: int) -> float | None:
        """Since when the frame of this number is there; None when it is still to come."""
        frame = self._frames.get(number)
        return None if frame is None else frame.at_sec

    def number_behind(self, position: Stand, *, is_at_end: bool) -> int | None:
        """The number of the frame that follows ``position``; None when the ring does not know the position.

        ``is_at_end``: the files had nothing behind it a moment ago. Then a day that one of both has left is no
        difference: whoever left it, nothing of it is skipped. The place is then one of the newest, also where a data
        root that has nothing of the day is stood in otherwise.
        """
        number = self._numbers.get(_key(position))
        if number is None and _key(position) == _key(self.head):
            number = self.end
        if number is not None:
            return number if _is_same(position, self._behind(number), is_at_end) else None
        if not is_at_end:
            return None
        newest = range(max(self.start, self.end - _LOOKED_AT), self.end + 1)
        return next((number for number in newest if _is_same(position, self._behind(number), is_at_end)), None)

    def _behind(self, number: int) -> Stand:
        """Where a reader stands whose next frame is this one."""
        return self.head if number == self.end else self._frames[number].before


def _key(stand: Stand) -> tuple[tuple[str, int], ...]:
    return tuple(
        (part.places[-1].day, part.places[-1].rowid) if part.places else (part.left, 0) for part in parts_of(stand)
    )


def _is_same(stand: Stand, boundary: Stand, is_at_end: bool) -> bool:
    return all(
        _is_same_place(ours, theirs, is_at_end)
        for ours, theirs in zip(parts_of(stand), parts_of(boundary), strict=True)
    )


def _is_same_place(position: Position, boundary: Position, is_at_end: bool) -> bool:
    ours, theirs = _marks(position.places), _marks(boundary.places)
    if ours == theirs:
        return is_at_end or bool(ours) or position.left == boundary.left
    if not is_at_end or any(ours[day] != theirs[day] for day in ours.keys() & theirs.keys()):
        return False
    # A day that one of them alone stands in was left by the other one, or begun behind.
    return all(day <= position.left or day < position.newest_day for day in theirs.keys() - ours.keys()) and all(
        day <= boundary.left or day < boundary.newest_day for day in ours.keys() - theirs.keys()
    )


def _marks(places: tuple[Place, ...]) -> dict[str, tuple[int, int, int]]:
    return {place.day: (place.rowid, place.check, place.file) for place in places}
