"""What an import keeps of records that cannot be believed, and what it says of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from hk_tick_collector.imports import sierra
from hk_tick_collector.sources.sierra.naming import parse_name
from tests.scid_files import Trade, run_of, write_scid

NOON_US = 1_795_176_000_000_000
NOW_MS = NOON_US // 1000 + 60_000
NAME = "ESZ26_FUT_CME.scid"


@pytest.mark.parametrize(
    "bad",
    [
        run_of(NOON_US + 10**15, 30),  # times to come: of no day
        [Trade(NOON_US + number, volume=0) for number in range(30)],
    ],
)
def test_what_the_quarantine_does_not_take_is_not_said_to_be_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bad: list[Trade]
) -> None:
    monkeypatch.setattr(sierra, "MAX_REJECTED_ROWS", 10)
    path = write_scid(tmp_path / NAME, [*run_of(NOON_US - 10**7, 5), *bad])
    for stored in (5, 0):
        writer = sierra.new_writer(tmp_path)
        result = sierra.SierraImport(path, parse_name(NAME), writer, NOW_MS).run()
        writer.close()
        assert (result.stored, sum(result.quarantined.values()), result.not_kept) == (stored, 30, 20)
        (kept,) = (tmp_path / "_quarantine").iterdir()
        assert len(kept.read_text().splitlines()) == 10
