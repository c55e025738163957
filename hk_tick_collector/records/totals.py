"""Sequences of a source that tells the day's running total of volume after each trade.

A trade of 5 after which the total is 120 takes the units 116 to 120, and its sequence is 120. So sequences name trades,
two neighbours touch, and units that no stored trade takes are volume that is missing. A day may have two sessions of
which nobody knows whether the second begins at 0 again or goes on from the first: they are counted apart.

=================  ===================================================================================
sequence           what it is
=================  ===================================================================================
1 to 2**31 - 1     the total in the first session of the day (of stocks: the only one)
2**31 + total      the total in the second session
2**40 + us         no trade, and no part of any total (a trial match), by microseconds of the trading day
=================  ===================================================================================
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

SECOND_SESSION = 1 << 31
MAX_TOTAL = SECOND_SESSION - 1
NO_TRADE = 1 << 40  # and above

Units = tuple[int, int]
"""From the first to the last one, both taken."""


def units_of(seq: int, volume: int) -> Units:
    """The units that a trade takes."""
    return seq - volume + 1, seq


def first_session_end(taken: Sequence[Sequence[int]]) -> int:
    """The last unit of the first session that a trade takes; 0: none does."""
    return max((high for low, high in taken if low < SECOND_SESSION), default=0)


def missing_units(taken: Sequence[Sequence[int]], shown_end: int | None = None) -> list[Units]:
    """What no trade takes from the beginning of each session to its last known trade.

    ``taken``: ascending and disjoint; ``shown_end``: the sequence of the day's last trade as the source showed it. A
    second session that goes on from where the first one ended lacks nothing before its first trade.

    Limit: one that began at 0 and lacks, in whatever was seen, exactly the volume of the first looks the same. Nothing
    tells them apart: times rise either way, and the trade whose total is its own volume is among those that lack. A
    source's running turnover would, but it is told with pushes alone, and a copy of the day has none.

    >>> missing_units([(1, 5), (8, 9)], 12)
    [(6, 7), (10, 12)]
    """
    first = [(low, high) for low, high in taken if low < SECOND_SESSION]
    second = [(low, high) for low, high in taken if low >= SECOND_SESSION]
    in_second = shown_end is not None and shown_end >= SECOND_SESSION
    absent = _absent(first, 1, None if in_second else shown_end)
    head = _absent(second, SECOND_SESSION + 1, shown_end if in_second else None)
    if head and first and second and head[0] == (SECOND_SESSION + 1, SECOND_SESSION + first[-1][1]):
        del head[0]
    return absent + head


def _absent(taken: Iterable[Units], start: int, shown_end: int | None) -> list[Units]:
    absent: list[Units] = []
    for low, high in taken:
        if low > start:
            absent.append((start, low - 1))
        start = high + 1
    if shown_end is not None and shown_end >= start:
        absent.append((start, shown_end))
    return absent
