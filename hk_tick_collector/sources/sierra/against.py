"""Which ticks of a day are stored already, so that a file may be read again and again and stores nothing twice.

The sequence tells, and where it does not the content within a second: after a reconnect Sierra Chart downloads what it
missed, and such trades may carry other microseconds than they had live. Both sides are read in order of time, a second
at a time; memory is what a second holds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import groupby

from hk_tick_collector.core.errors import RecorderError
from hk_tick_collector.records.tick import Tick
from hk_tick_collector.sources.stored import Stored

CONFLICT_ROWS = 20  # with one sequence and another price, before it is called a wrong multiplier

Content = tuple[float | None, int | None, str | None]


class OtherPrices(RecorderError):
    """The day file holds other prices for the same trades."""


class AgainstStored:
    """Parts a day's ticks into those that are stored and those that are not."""

    def __init__(self, stored: Iterable[Stored]) -> None:
        self._seconds = groupby(stored, key=lambda row: row.ts_ms // 1000)
        self._next = next(self._seconds, None)
        self.last_ms = -1  # of the stored rows that were passed so far
        self.already = 0
        self.renumbered = 0  # of already: stored with another sequence
        self._same_seq = self._other_price = 0

    def new(self, ticks: Iterable[Tick]) -> Iterator[Tick]:
        """Those of ``ticks``, in order of time, that are not stored. OtherPrices when they are, at other prices."""
        if self._next is None:
            yield from ticks
            return
        for second, group in groupby(ticks, key=lambda tick: tick.ts_ms // 1000):
            rows = self._rows_of(second)
            if rows:
                yield from self._match(list(group), rows)
            else:
                yield from group

    def _rows_of(self, second: int) -> list[Stored]:
        while self._next is not None and self._next[0] < second:
            self._next = next(self._seconds, None)
        if self._next is None or self._next[0] != second:
            return []
        rows = list(self._next[1])
        self.last_ms = rows[-1].ts_ms
        self._next = next(self._seconds, None)
        return rows

    @property
    def is_behind(self) -> bool:
        """Are rows stored that are later than all ticks so far?"""
        return self._next is not None

    def _match(self, ticks: list[Tick], rows: list[Stored]) -> list[Tick]:
        by_seq: dict[int | None, Stored] = {row.seq: row for row in rows if row.seq is not None}
        left: list[Tick] = []
        for tick in ticks:
            row = by_seq.get(tick.seq)
            if row is not None:
                self._note(tick, row)
            if row is not None and _content(row) == _content(tick):
                del by_seq[tick.seq]
                self.already += 1
            else:
                left.append(tick)
        others = Counter(_content(row) for row in rows if row.seq is None or row.seq in by_seq)
        new: list[Tick] = []
        for tick in left:
            if others[_content(tick)] > 0:
                others[_content(tick)] -= 1
                self.already += 1
                self.renumbered += 1
            else:
                new.append(tick)
        return new

    def _note(self, tick: Tick, row: Stored) -> None:
        """Nearly every trade at another price is no accident of numbering."""
        self._same_seq += 1
        self._other_price += row.volume == tick.volume and row.price != tick.price
        if self._other_price >= CONFLICT_ROWS and self._other_price * 2 > self._same_seq:
            raise OtherPrices(
                f"the same trades are stored at other prices ({row.price} and not {tick.price}): they were imported "
                "with another --multiplier or --tick-size; give the same ones, or move the day file away"
            )


def _content(row: Tick | Stored) -> Content:
    return row.price, row.volume, row.direction
