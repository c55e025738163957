"""Days of a copy that are made anew for one question: so many at once, so large, and no more."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest

from hk_tick_collector.clickhouse.connection import ClickHouse
from hk_tick_collector.clickhouse.making import Making
from hk_tick_collector.clickhouse.older import Older
from hk_tick_collector.clickhouse.tables import BOOKS, SNAPSHOTS, StateTables
from hk_tick_collector.core.errors import TooMuchAtOnce
from hk_tick_collector.serve.api import jobs
from hk_tick_collector.serve.api.older import MAX_BYTES, MAX_FILES, OlderAt
from hk_tick_collector.serve.api.roots import Roots
from hk_tick_collector.serve.keys import ANONYMOUS
from hk_tick_collector.serve.problems import problem_of
from hk_tick_collector.ship.state import State
from hk_tick_collector.store.layout import archive_dir
from tests.books import DAY, record_books
from tests.brokers import record_brokers
from tests.snapshots import DAY as SNAPSHOT_DAY
from tests.snapshots import SPX, record, snapshot
from tests.unit.ship.test_older_days import Out
from tests.unit.ship.test_ship import keeper_of

BEFORE, SNAPSHOTS_BEFORE = "20261119", "20261125"
PUSHES = 60
TWO_DAYS_SEC = 2 * 86_400


def answered(root: Path, engine: ClickHouse, question: dict[str, Any], making: Making) -> list[dict[str, Any]]:
    out = Out()
    jobs.run(Roots([(root, archive_dir(root))], older=Older(lambda: engine, making=making)), question, ANONYMOUS, out)
    rows: list[dict[str, Any]] = out.json()["data"]
    return rows


def _check_bounds(root: Path, engine: ClickHouse, question: dict[str, Any], days: tuple[str, str]) -> None:
    rows = answered(root, engine, question, Making())
    assert rows
    making = Making(2, 1 << 20)
    for _ in range(3):  # what one question has made does not count for the next
        assert answered(root, engine, question, making) == rows
    one_day = {**question, "day": days[0]}
    assert answered(root, engine, one_day, Making(1)) == rows[: len(rows) // 2]
    for bounds, text in (
        (Making(1), "would be day 2 to be made anew of a copy in ClickHouse for one question; 1 at most"),
        (Making(None, 1000), "to be made anew of copies in ClickHouse for one question; 0 MB at most"),
    ):
        with pytest.raises(TooMuchAtOnce) as raised:
            answered(root, engine, question, bounds)
        problem = problem_of(raised.value)
        assert problem.slug == "too-large"
        assert text in problem.detail


def test_days_of_books_that_one_question_has_made_anew_are_bounded(
    root: Path, of: StateTables, engine: ClickHouse, state: State
) -> None:
    for day in (BEFORE, DAY):
        (record_books if of is BOOKS else record_brokers)(root, day, pushes=PUSHES)
    keeper_of(root, engine, state).look()
    for day in (BEFORE, DAY):
        of.kind.file_of(root, day).unlink()
    question: dict[str, Any] = {"job": "books", "symbols": "700", "day": f"{BEFORE}..{DAY}", "limit": 10_000}
    question |= {"form": "wide", "depth": 1} if of is BOOKS else {"job": "brokers"}
    _check_bounds(root, engine, question, (BEFORE, DAY))


def test_days_of_snapshots_that_one_question_has_made_anew_are_bounded(
    root: Path, engine: ClickHouse, state: State
) -> None:
    root = root.parent / "US"
    for shift_sec in (-TWO_DAYS_SEC, 0):
        record(root, [snapshot(SPX, shift_sec + second) for second in range(40)])
    keeper_of(root, engine, state).look()
    for day in (SNAPSHOTS_BEFORE, SNAPSHOT_DAY):
        SNAPSHOTS.kind.file_of(root, day).unlink()
    question = {
        "job": "snapshots", "symbols": "US.SPX", "day": f"{SNAPSHOTS_BEFORE}..{SNAPSHOT_DAY}", "series": "all",
        "every": True, "bodies": True, "limit": 10_000,
    }  # fmt: skip
    _check_bounds(root, engine, question, (SNAPSHOTS_BEFORE, SNAPSHOT_DAY))


@pytest.mark.parametrize("bounds", [(1, None), (None, 10)])
def test_what_a_failed_question_left_in_a_cycle_does_not_count_for_the_next(
    tmp_path: Path, bounds: tuple[int | None, int | None]
) -> None:
    """As an exception and the frames that it came through are."""
    making = Making(*bounds)

    def failing_question() -> None:
        directory = tempfile.TemporaryDirectory(dir=tmp_path, ignore_cleanup_errors=True)
        making.begin(directory, "a day", 10)
        kept: list[object] = [directory]
        kept.append(kept)

    for _ in range(3):
        failing_question()
    held, more = (tempfile.TemporaryDirectory(dir=tmp_path) for _ in range(2))
    making.begin(held, "a day", 10)
    with pytest.raises(TooMuchAtOnce):  # what is held counts as ever
        making.begin(more, "a day", 10)
    held.cleanup()
    more.cleanup()


def test_the_servers_reading_processes_have_bounds() -> None:
    making = OlderAt("clickhouse://reader@127.0.0.1:8123/hk", None, "").open()._making
    assert (making.max_files, making.max_bytes) == (MAX_FILES, MAX_BYTES) == (100, 1 << 30)
