"""What the bot says to people who ask."""

from __future__ import annotations

from pathlib import Path

from hk_tick_collector.alert.answers import Answers
from hk_tick_collector.store.layout import archive_dir
from tests.clock import ManualClock
from tests.snapshots import DAY, FLOW, NDX, OPEN_SEC, SPX, copied, filled, record, snapshot
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


def answers_of_snapshots(tmp_path: Path, now_sec: int) -> Answers:
    rows = [snapshot(SPX, second) for second in range(5)]
    root = record(tmp_path / "US", [*rows, snapshot(FLOW, 2), snapshot(FLOW, 9), *filled(NDX, (1, 2))])
    return Answers(root, archive_dir(root), tmp_path / "alert", ManualClock(now_sec * 1000))


def test_of_snapshots_it_says_how_many_seconds_were_seen(tmp_path: Path) -> None:
    answers = answers_of_snapshots(tmp_path, OPEN_SEC + 10)
    assert answers.answer("day", "") == f"{DAY}: 3 series, 9 of 30 seconds seen; unproven: the day is not over"
    assert answers.answer("top", "").splitlines() == [
        "US.SPX/classic/gex_full 5 snapshots", "US.NDX/classic/gex_full 2 snapshots",
        "US.SPX/orderflow/orderflow 2 snapshots",
    ]  # fmt: skip
    first, *stretches = answers.answer("gaps", "").splitlines()
    assert first == f"{DAY}: 5 stretches without a snapshot"
    assert stretches[-1].startswith("US.SPX/orderflow/orderflow")
    assert stretches[-1].endswith(": 6 seconds")
    head, *newest = answers.answer("symbol", "US.SPX").splitlines()
    assert head == "US.SPX"
    assert [line[line.index(series) :] for line, series in zip(newest, ("classic", "orderflow"), strict=True)] == [
        "classic/gex_full spot 5004", "orderflow/orderflow spot 5009",
    ]  # fmt: skip
    assert answers.answer("symbol", "US.RUT") == f"US.RUT has no snapshot on {DAY}"


def test_a_proven_day_of_snapshots_is_told(tmp_path: Path) -> None:
    root = record(tmp_path / "US", filled(SPX, range(12_600)), [copied(SPX, range(12_600))])
    answers = Answers(root, archive_dir(root), tmp_path / "alert", ManualClock((OPEN_SEC + 20_000) * 1000))
    assert answers.answer("day", "").endswith("12,600 of 12,600 seconds seen, 0 not offered, 0 absent; proven")
    assert answers.answer("gaps", "") == f"{DAY}: 0 stretches without a snapshot"
