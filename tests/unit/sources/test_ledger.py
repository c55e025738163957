"""Random days at a source with a ledger: nothing lost that it can still show, nothing doubled, no false word."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.sources.ledger import play

# Seeds that once lost a trade or ended a pull: a doubt about a day without a date, an answer after a file was set
# aside, numbers of a running total that came again on the next day.
KNOWN = (81, 141, 228, 1228, 2241, 2337, 2342)


@pytest.mark.parametrize("first", range(0, 60, 20))
def test_random_days(first: int, tmp_path: Path) -> None:
    for seed in range(first, first + 20):
        assert (seed, play(seed, tmp_path / str(seed)).broken()) == (seed, [])


@pytest.mark.parametrize("seed", KNOWN)
def test_days_that_were_once_broken(seed: int, tmp_path: Path) -> None:
    assert play(seed, tmp_path).broken() == []
