"""For all suites: how Hypothesis looks for examples, how tests are gathered, and which are left to the nights.

One place, because a test that takes long on a busy machine has not failed: no example has a deadline.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Generator

import pytest
from hypothesis import HealthCheck, Phase, settings

from hk_tick_collector.core.unused import THREADS
from tests import nights

# Before numpy is loaded: here, and by what tests start that is not one of our programs.
os.environ.setdefault(THREADS, "1")

settings.register_profile(
    "here", max_examples=nights.examples(100), deadline=None, print_blob=True,
    suppress_health_check=(HealthCheck.too_slow,),
)  # fmt: skip
# The same examples at each run: a pull request must not fail by an example that has nothing to do with it.
settings.register_profile("ci", settings.get_profile("here"), derandomize=True)
# A mutant has to be found, not explained (scripts/mutation.py).
settings.register_profile(
    "mutation", settings.get_profile("ci"), phases=(Phase.explicit, Phase.generate), database=None
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "here"))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What is imported and gathered stays until the end: the garbage collector looks for none in it, now or later."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.set_threshold(10_000)  # of what tests make, little is a circle
        gc.enable()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What is left to the nights counts as deselected: pytest says how many."""
    left = nights.left_out(items, config.args)
    if left:
        config.hook.pytest_deselected(items=left)
        away = set(left)
        items[:] = [item for item in items if item not in away]
