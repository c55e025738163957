"""Every scenario gets a laboratory of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.lab import IN_HK, Lab


@pytest.fixture
def lab(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Lab]:
    """In Hong Kong, unless the test is marked otherwise."""
    laboratory = Lab(tmp_path, getattr(request, "param", IN_HK))
    try:
        yield laboratory
    finally:
        laboratory.end()
