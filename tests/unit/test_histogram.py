"""Counts in buckets, and what can be said about the values from them."""

from __future__ import annotations

from bisect import bisect_left

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hk_tick_collector.core.histogram import LATENCY_BOUNDS_MS, Histogram

values_ms = st.lists(st.integers(0, LATENCY_BOUNDS_MS[-1]), min_size=1, max_size=200)
parts = st.sampled_from([0.01, 0.25, 0.5, 0.9, 0.99, 1.0])


def of(*values: int, bounds: tuple[int, ...] = LATENCY_BOUNDS_MS) -> Histogram:
    histogram = Histogram(bounds)
    for value in values:
        histogram.observe(value)
    return histogram


def test_a_bound_belongs_to_its_bucket() -> None:
    assert of(0, 10, 11, 20, 21, bounds=(10, 20)).snapshot().counts == (2, 2, 1)
    assert of(0, 10, 11, 20, 21, bounds=(10, 20)).snapshot().cumulative() == [2, 4, 5]


def test_one_value_may_stand_for_many() -> None:
    histogram = Histogram((10, 20))
    histogram.observe(15, 30)
    assert histogram.snapshot().counts == (0, 30, 0)
    assert histogram.snapshot().total == 450
    assert histogram.snapshot().count == 30


def test_below_zero_counts_as_zero() -> None:
    snapshot = of(-5000, bounds=(10, 20)).snapshot()
    assert (snapshot.counts, snapshot.total) == ((1, 0, 0), 0)


def test_no_value_no_quantile() -> None:
    assert Histogram().snapshot().quantile(0.5) is None


def test_a_quantile_lies_inside_its_bucket_by_its_rank() -> None:
    snapshot = of(*[5] * 50, *[15] * 50, bounds=(10, 20)).snapshot()
    assert snapshot.quantile(0.25) == 5
    assert snapshot.quantile(0.5) == 10
    assert snapshot.quantile(0.75) == 15
    assert snapshot.quantile(1.0) == 20


def test_an_empty_first_bucket_is_passed_over() -> None:
    assert of(15, bounds=(10, 20)).snapshot().quantile(0.0) == 10


def test_above_all_bounds_the_highest_is_said() -> None:
    assert of(5, 1000, 1000, bounds=(10, 20)).snapshot().quantile(0.99) == 20


def test_since_holds_only_what_came_later() -> None:
    histogram = of(5, 5, 15, bounds=(10, 20))
    earlier = histogram.snapshot()
    histogram.observe(19, 4)
    later = histogram.snapshot().since(earlier)
    assert (later.counts, later.total) == ((0, 4, 0), 76)
    assert earlier.counts == (2, 1, 0), "a snapshot does not change any more"


@pytest.mark.parametrize("bounds", [(10, 10), (20, 10), (0, 10)])
def test_bounds_must_ascend(bounds: tuple[int, ...]) -> None:
    with pytest.raises(AssertionError):
        Histogram(bounds)


@given(values_ms, parts)
def test_the_estimate_is_off_by_a_bucket_at_most(values: list[int], part: float) -> None:
    estimate = of(*values).snapshot().quantile(part)
    assert estimate is not None
    exact = sorted(values)[max(0, -int(-part * len(values) // 1) - 1)]
    at = bisect_left(LATENCY_BOUNDS_MS, exact)
    assert (0, *LATENCY_BOUNDS_MS)[at] <= estimate <= LATENCY_BOUNDS_MS[at]


@given(values_ms)
def test_quantiles_do_not_fall(values: list[int]) -> None:
    snapshot = of(*values).snapshot()
    estimates = [snapshot.quantile(part / 20) or 0.0 for part in range(21)]
    assert estimates == sorted(estimates)
