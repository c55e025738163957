"""How long the disk lasts, from the whole days that are recorded."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from hk_tick_collector.watch import recorder

TODAY = "20261120"
MB = 1_000_000


@pytest.fixture(autouse=True)
def room(monkeypatch: pytest.MonkeyPatch) -> None:
    """100 MB are free."""
    usage = SimpleNamespace(f_bavail=100, f_frsize=MB, f_blocks=1000)
    monkeypatch.setattr(os, "statvfs", lambda _path: usage)


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ({}, None),
        ({"20261120.db": 4096, "20261120.db-wal": 812_000}, None),  # the first minutes tell nothing of a day
        ({"20261120.db": 4 * MB, "20261120.db-wal": 9 * MB}, 13 * MB),  # but that there is room for few days of this
        ({"20261118.db": 2 * MB, "20261119.db": 4 * MB, "20261120.db": 4096}, 3 * MB),
        ({"20261118.db": 2 * MB, "20261119.db": 4 * MB, "20261120.db": MB, "20261120.db-wal": 7 * MB}, 8 * MB),
        (
            {"20261118.db": 2 * MB, "20261119.db": 4 * MB},
            4 * MB,
        ),
        ({"20261119.db": 4 * MB, "20261121.db": 90 * MB}, 4 * MB),  # a day to come is no day
    ],
)
def test_a_day_needs_what_whole_days_needed(tmp_path: Path, sizes: dict[str, int], expected: int | None) -> None:
    for name, size_bytes in sizes.items():
        with (tmp_path / name).open("wb") as file:
            file.truncate(size_bytes)
    assert recorder.disk(tmp_path, TODAY).day_bytes == expected
