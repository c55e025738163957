"""Tests that a check leaves to the nights, each with what holds the same promise in a check.

A check (``bash scripts/test.sh``, ``.ci/run``) leaves out what is marked here, unless it is named on the command line
(``FILE::TEST``); with ``TESTS=all`` everything runs, as in the nightly workflow. Marked is only what costs much and of
which a part says the same: of a product of parameters a choice in which every value stands, of long runs a short one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

import pytest

VARIABLE, ALL = "TESTS", "all"
MARK = "night"
MIN_EXAMPLES = 6


def every_test() -> bool:
    """Is this a run of everything?"""
    return os.environ.get(VARIABLE) == ALL


def at_night(held_by: str) -> pytest.MarkDecorator:
    """A test for the nights; ``held_by`` names the test of the same module that holds its promise in a check."""
    return pytest.mark.night(held_by)


def by_day(values: Iterable[Any], chosen: Callable[[Any], bool]) -> list[Any]:
    """Parameters of a test, of which a check takes the chosen ones alone: some of them, and not all.

    A tuple is the parameters of one test, as for ``parametrize``; ``chosen`` is asked about each value as it is here.
    """
    given = [(value, chosen(value)) for value in values]
    assert {here for _, here in given} == {True, False}, "a check needs some of them, and leaves some to the nights"
    return [value if here else _param(value) for value, here in given]


def examples(count: int) -> int:
    """Examples that Hypothesis makes of a test: ``count`` in a night, and for who looks for a change that no test
    notices; two fifths of them in a check."""
    whole = every_test() or os.environ.get("HYPOTHESIS_PROFILE") == "mutation"
    return count if whole else min(count, max(MIN_EXAMPLES, count * 2 // 5))


def _param(value: Any) -> Any:
    values = value if isinstance(value, tuple) else (value,)
    return pytest.param(*values, marks=pytest.mark.night("its other parameters"))


def left_out(items: Iterable[pytest.Item], words: Iterable[str]) -> list[pytest.Item]:
    """Those of the tests that this run leaves to the nights. ``words``: what pytest was called with."""
    if every_test() or any("::" in word for word in words):
        return []
    return [item for item in items if item.get_closest_marker(MARK) is not None]
