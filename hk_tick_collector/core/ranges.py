"""A set of counters kept as a short list of ranges: one range when nothing is missing, however many ticks there are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator


class CounterRanges:
    """Ascending, disjoint, never adjacent ``[first, last]`` ranges. Adding the next counter costs O(1)."""

    __slots__ = ("ranges",)

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        self.ranges: list[list[int]] = [list(pair) for pair in ranges]

    def __bool__(self) -> bool:
        return bool(self.ranges)

    def __len__(self) -> int:
        """How many ranges, not how many counters."""
        return len(self.ranges)

    @property
    def first(self) -> int:
        """Lowest counter; there must be one."""
        return self.ranges[0][0]

    @property
    def last(self) -> int:
        """Highest counter; there must be one."""
        return self.ranges[-1][1]

    def covers(self, counter: int) -> bool:
        """Was this counter added? Looks from the newest end."""
        for first, last in reversed(self.ranges):
            if counter > last:
                return False
            if counter >= first:
                return True
        return False

    def add(self, first: int, last: int) -> bool:
        """Add ``first``..``last``, joining what touches. True when a counter of them is new."""
        ranges = self.ranges
        at = len(ranges)
        while at and ranges[at - 1][0] > first:
            at -= 1
        if at and ranges[at - 1][1] >= last:
            return False
        if at and ranges[at - 1][1] >= first - 1:
            at -= 1
            ranges[at][1] = last
        else:
            ranges.insert(at, [first, last])
        while at + 1 < len(ranges) and ranges[at + 1][0] <= ranges[at][1] + 1:
            ranges[at][1] = max(ranges[at][1], ranges.pop(at + 1)[1])
        return True

    def holes(self) -> Iterator[tuple[int, int]]:
        """``(first, last)`` of every run of counters between the ranges, ascending."""
        for left, right in zip(self.ranges, self.ranges[1:], strict=False):
            yield left[1] + 1, right[0] - 1

    def missing(self) -> int:
        """How many counters lie between the ranges."""
        return sum(last - first + 1 for first, last in self.holes())
