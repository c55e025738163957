"""What the bot says to people who ask."""

from __future__ import annotations

from pathlib import Path

from hk_tick_collector.alert.answers import Answers
from hk_tick_collector.core.clock import ManualClock
from hk_tick_collector.store.layout import archive_dir
from tests.ticks import BASE_MS, make_tick
from tests.unit.client.days import store


def test_a_part_of_a_share_is_told_by_its_turnover(tmp_path: Path) -> None:
    """It has no volume; a file of an earlier recorder may have no price either."""
    root = tmp_path / "HK"
    store(
        root,
        [
            make_tick(1),
            make_tick(2, price=187.2, volume=None, turnover=93.6),
            make_tick(3, volume=None, turnover=None),
            make_tick(4, price=None, volume=None, turnover=7.5),
        ],
    )
    answers = Answers(root, archive_dir(root), tmp_path / "alert", ManualClock(BASE_MS + 60_000))
    lines = answers.answer("symbol", "700").splitlines()
    assert lines[0] == "HK.00700"
    assert [line.split(" ", 1)[1].rpartition("HKT ")[2] for line in lines[1:]] == [
        "382.4 x 100", "187.2 x 0.5", "382.4 x ?", "? x ?",
    ]  # fmt: skip
