"""Random days at a source with a ledger: nothing lost that it can still show, nothing doubled, no false word."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.nights import examples
from tests.unit.sources.ledger import play

# Seeds that once lost a trade, of a running total whose numbers came again on the next day, or ended a pull that
# answered after a file was set aside.
KNOWN = (155, 229, 1228)


@pytest.mark.parametrize("first", range(0, 60, 20))
def test_random_days(first: int, tmp_path: Path) -> None:
    for seed in range(first, first + examples(20)):
        assert (seed, play(seed, tmp_path / str(seed)).broken()) == (seed, [])


@pytest.mark.parametrize("seed", KNOWN)
def test_days_that_were_once_broken(seed: int, tmp_path: Path) -> None:
    assert play(seed, tmp_path).broken() == []
