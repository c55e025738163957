"""Counters that a symbol's day must have and that were not seen."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from hk_tick_collector.core.facts import COULD_NOT_BE_READ
from hk_tick_collector.core.ranges import CounterRanges

MID_SESSION = "recording began in mid-session"  # why a day's beginning is a gap


@dataclass(frozen=True, slots=True)
class Hole:
    """Counters ``first``..``last`` of ``symbol`` are known to be there and were not seen, or could not be read."""

    symbol: str
    trading_day: str
    first: int
    last: int
    newest: int  # highest counter known: how far back from the newest tick the hole begins
    unread: bool = False

    @property
    def missing_rows(self) -> int:
        return self.last - self.first + 1

    @property
    def rows_back(self) -> int:
        """How many of the symbol's newest ticks a pull must fetch to cover the hole."""
        return self.newest - self.first + 1

    def gap_reason(self, shown_rows: int) -> str:
        """Why it will not be closed any more. ``shown_rows``: so many of the newest ticks the source shows."""
        if self.unread:
            return COULD_NOT_BE_READ
        return f"beyond the newest {shown_rows}" if self.rows_back > shown_rows else "not shown by OpenD"


def holes_in(seen: CounterRanges, unread: Iterable[int]) -> Iterator[tuple[int, int, bool]]:
    """First and last counter of each hole among those ``seen``; whether it is a tick that came and could not be read,
    of which ``unread`` has the counters."""
    counters = list(unread)
    for first, last in seen.holes():
        between = sorted(counter for counter in counters if first <= counter <= last)
        for low, high in pairwise([first - 1, *between, last + 1]):
            if low + 1 < high:
                yield low + 1, high - 1, False
        yield from ((counter, counter, True) for counter in between)
    for counter in counters:
        if not seen or not seen.first <= counter <= seen.last:
            yield counter, counter, True
