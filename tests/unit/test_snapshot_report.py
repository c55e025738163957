"""What of a day's grid was seen: absent, not offered, proven, against hand-counted days."""

from __future__ import annotations

from pathlib import Path

import pytest

from hk_tick_collector.market.hours import DayKind
from hk_tick_collector.market.us import US
from hk_tick_collector.quality.snapshots import SeriesGrid, ranges_of, report_of
from hk_tick_collector.store.layout import snapshot_file
from tests.snapshots import DAY, FLOW, GRID_SEC, NDX, OPEN_SEC, SPX, copied, filled, record, snapshot

AFTER_MS = (OPEN_SEC + GRID_SEC + 60) * 1000


def grid(root: Path, now_ms: int = AFTER_MS) -> SeriesGrid:
    (grid_read,) = report_of(snapshot_file(root, DAY), DAY, US, DayKind.HALF, now_ms).series
    return grid_read


def test_without_the_sources_file_every_hole_is_absent_and_nothing_is_proven(tmp_path: Path) -> None:
    grid_read = grid(record(tmp_path, [snapshot(SPX, second) for second in (0, 1, 5)]))
    assert (grid_read.state, grid_read.expected, grid_read.seen, grid_read.absent, grid_read.not_offered) == (
        "unproven",
        12_600,
        3,
        12_597,
        None,
    )
    assert grid_read.reason == "the source's own file of the day was not read"
    assert grid_read.absent_ranges == ((OPEN_SEC + 2, OPEN_SEC + 4), (OPEN_SEC + 6, OPEN_SEC + 12_599))


def test_the_sources_file_tells_not_offered_from_absent(tmp_path: Path) -> None:
    live = [snapshot(SPX, second) for second in (0, 1)]
    grid_read = grid(record(tmp_path, [*live, *filled(SPX, (3, 4))], [copied(SPX, (0, 1, 3, 4, 9))]))
    assert (grid_read.state, grid_read.seen, grid_read.absent, grid_read.not_offered, grid_read.only_copy) == (
        "missing",
        4,
        1,
        12_595,
        2,
    )
    assert grid_read.absent_ranges == ((OPEN_SEC + 9, OPEN_SEC + 9),)
    assert grid_read.reason == "1 second of the source's own file missing here"


def test_a_day_is_proven_when_all_of_the_file_is_stored_and_the_file_has_all_that_was_seen(tmp_path: Path) -> None:
    seconds = range(2, GRID_SEC)
    grid_read = grid(record(tmp_path, filled(SPX, seconds), [copied(SPX, seconds)]))
    assert (grid_read.state, grid_read.reason, grid_read.seen, grid_read.not_offered) == ("proven", "", GRID_SEC - 2, 2)
    assert grid_read.sha256 == "ab" * 32


def test_a_file_that_lacks_what_was_seen_live_proves_nothing(tmp_path: Path) -> None:
    grid_read = grid(record(tmp_path, [snapshot(SPX, 7), *filled(SPX, (8,))], [copied(SPX, (8,))]))
    assert (grid_read.state, grid_read.reason) == ("unproven", "the source's own file lacks 1 second seen live")


def test_a_file_with_records_that_could_not_be_read_proves_nothing(tmp_path: Path) -> None:
    grid_read = grid(record(tmp_path, filled(SPX, (8,)), [copied(SPX, (8,), unread=2)]))
    assert (grid_read.state, grid_read.reason) == ("unproven", "2 records of the source's own file could not be read")


def test_a_day_that_runs_expects_what_can_have_been(tmp_path: Path) -> None:
    grid_read = grid(record(tmp_path, [snapshot(SPX, second) for second in range(10)]), (OPEN_SEC + 10) * 1000)
    assert (grid_read.expected, grid_read.seen, grid_read.absent, grid_read.reason) == (
        10,
        10,
        0,
        "the day is not over",
    )


def test_two_snapshots_of_a_second_are_counted_and_so_are_seconds_outside_the_grid(tmp_path: Path) -> None:
    rows = [snapshot(SPX, 3), snapshot(SPX, 3, "copy", "other"), snapshot(SPX, -5), snapshot(SPX, GRID_SEC)]
    grid_read = grid(record(tmp_path, rows, [copied(SPX, (-5, 3, GRID_SEC))]))
    assert (grid_read.rows, grid_read.seen, grid_read.several, grid_read.outside, grid_read.state) == (
        4,
        1,
        1,
        2,
        "proven",
    )


def test_the_days_word_is_its_worst_series(tmp_path: Path) -> None:
    rows = [*filled(SPX, (1,)), snapshot(FLOW, 1), snapshot(NDX, 1)]
    record(tmp_path, rows, [copied(SPX, (1,)), copied(NDX, (1, 2))])
    report = report_of(snapshot_file(tmp_path, DAY), DAY, US, DayKind.HALF, AFTER_MS)
    assert [(grid_row.symbol, grid_row.package, grid_row.state) for grid_row in report.series] == [
        ("US.NDX", "classic", "missing"), ("US.SPX", "classic", "proven"), ("US.SPX", "orderflow", "unproven")
    ]  # fmt: skip
    assert report.state == "missing"
    assert "3 series, 3 of 37,800 seconds seen" in report.sentence


@pytest.mark.parametrize(
    ("seconds", "ranges"), [([], []), ([5], [(5, 5)]), ([1, 2, 3], [(1, 3)]), ([1, 3, 4, 9], [(1, 1), (3, 4), (9, 9)])]
)
def test_stretches(seconds: list[int], ranges: list[tuple[int, int]]) -> None:
    assert ranges_of(seconds) == ranges
