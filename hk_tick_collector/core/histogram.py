"""How long things took, as counts in fixed buckets: quantiles of millions of values in a few hundred bytes.

One thread observes, any thread may take a snapshot: there is no lock, and a snapshot is whole in its counts and at most
one observation old in its sum. Memory and cost do not depend on how many values were observed.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

# From a commit that follows at once to rows that waited an outage out in the spill; about three steps a decade, closer
# together where a healthy recorder is (a few tens of milliseconds).
LATENCY_BOUNDS_MS = (
    1, 2, 5, 10, 20, 30, 50, 75, 100, 150, 200, 300, 500, 750, 1_000, 2_000, 5_000, 10_000, 30_000, 60_000, 300_000,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class HistogramSnapshot:
    """What was observed up to a moment. ``counts`` has one more entry than ``bounds``, for what lies above them all."""

    bounds: tuple[int, ...]  # inclusive upper ends, ascending
    counts: tuple[int, ...]
    total: int  # sum of all values

    @property
    def count(self) -> int:
        """How many values."""
        return sum(self.counts)

    def since(self, earlier: HistogramSnapshot) -> HistogramSnapshot:
        """What came after ``earlier``, a snapshot of the same histogram."""
        counts = tuple(now - then for now, then in zip(self.counts, earlier.counts, strict=True))
        return HistogramSnapshot(self.bounds, counts, self.total - earlier.total)

    def cumulative(self) -> list[int]:
        """For each bound how many values are not above it; the last entry is all of them."""
        return list(accumulate(self.counts))

    def quantile(self, part: float) -> float | None:
        """The value that ``part`` (0 to 1) of all values do not exceed, in the unit observed; None without values.

        An estimate: inside its bucket values are taken to be spread evenly, so it is off by a bucket's width at most.
        Above the highest bound nothing is known but that; then the highest bound is returned.
        """
        rank = part * self.count
        below = 0
        low = 0
        for bound, count in zip(self.bounds, self.counts, strict=False):
            if count and below + count >= rank:
                return low + (bound - low) * max(rank - below, 0.0) / count
            below += count
            low = bound
        return float(self.bounds[-1]) if self.count else None


class Histogram:
    """Counts of values from 0 on. ``bounds``: the buckets' inclusive upper ends, ascending, in the unit observed."""

    __slots__ = ("_bounds", "_counts", "_total")

    def __init__(self, bounds: Sequence[int] = LATENCY_BOUNDS_MS) -> None:
        assert all(low < high for low, high in zip((0, *bounds), bounds, strict=False)), "bounds must ascend from 0"
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(bounds) + 1)
        self._total = 0

    def observe(self, value: int, times: int = 1) -> None:
        """Count ``value`` as seen ``times`` times. One below 0 (clocks disagree) counts as 0."""
        value = max(value, 0)
        self._counts[bisect_left(self._bounds, value)] += times
        self._total += value * times

    def snapshot(self) -> HistogramSnapshot:
        """What was observed so far. From any thread."""
        return HistogramSnapshot(self._bounds, tuple(self._counts), self._total)
