"""Which days are due, what their report says, and that a report is whole or not there."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

from hk_tick_collector.cli.eod import main
from hk_tick_collector.core.facts import GapFound, HeadProven, Verified
from hk_tick_collector.market.calendar import TradingCalendar
from hk_tick_collector.market.sessions import HK_TZ, DayKind
from hk_tick_collector.quality import end_of_day
from hk_tick_collector.store.writer import DayFileWriter
from tests.ticks import DAY, make_ticks

CALENDAR = TradingCalendar()


def at(text: str) -> int:
    """Hong Kong time as UTC epoch ms."""
    return int(datetime.fromisoformat(text).replace(tzinfo=HK_TZ).timestamp() * 1000)


def record(root: Path, day: str = DAY, *, gap: bool = False) -> None:
    writer = DayFileWriter(root)
    confirmed_ms = at("2026-11-20T16:12:00")
    ticks = [*make_ticks(1, 10, trading_day=day), *(make_ticks(15, 20, trading_day=day) if gap else ())]
    facts = [HeadProven("HK.00700", day, 1), Verified("HK.00700", day, 20 if gap else 10, confirmed_ms)]
    lost = [GapFound("HK.00700", day, 11, 14, confirmed_ms, "not shown by OpenD")] if gap else []
    writer.write(ticks, [*facts, *lost])
    writer.close()


@pytest.mark.parametrize(
    ("day", "now", "due"),
    [
        (DAY, "2026-11-20T16:14:59", False),
        (DAY, "2026-11-20T16:15:00", True),
        ("20261224", "2026-12-24T12:14:59", False),
        ("20261224", "2026-12-24T12:15:00", True),  # a half day
        (DAY, "2026-11-27T03:00:00", True),  # a week late: still that day, not "today"
    ],
)
def test_a_day_is_due_when_its_recording_is_over(tmp_path: Path, day: str, now: str, due: bool) -> None:
    record(tmp_path, day)
    assert end_of_day.due_days(tmp_path, CALENDAR, at(now)) == ([day] if due else [])


def test_missed_days_are_done_in_order_and_a_reported_one_only_when_it_changed(tmp_path: Path) -> None:
    for day in ("20261120", "20261118", "20261119"):
        record(tmp_path, day)
    now_ms = at("2026-11-21T09:00:00")
    assert end_of_day.due_days(tmp_path, CALENDAR, now_ms) == ["20261118", "20261119", "20261120"]
    for day in ("20261118", "20261120"):
        end_of_day.write_report(tmp_path, end_of_day.make_report(tmp_path, day, DayKind.WHOLE, now_ms))
    assert end_of_day.due_days(tmp_path, CALENDAR, now_ms) == ["20261119"]
    future_ns = 4_000_000_000_000_000_000
    os.utime(tmp_path / "20261120.db", ns=(future_ns, future_ns))
    assert end_of_day.due_days(tmp_path, CALENDAR, now_ms) == ["20261119", "20261120"]


def test_a_proven_day(tmp_path: Path) -> None:
    record(tmp_path)
    report = end_of_day.make_report(tmp_path, DAY, DayKind.WHOLE, 1)
    assert report.fine
    assert (report.stored_ticks, report.proven_symbols, report.end_confirmed_symbols) == (10, 1, 1)
    assert report.sentence() == "20261120: 10 ticks of 1 symbols; proven 1, missing 0 (0 ticks), unproven 0"


def test_a_day_with_a_gap_names_it(tmp_path: Path) -> None:
    record(tmp_path, gap=True)
    report = end_of_day.make_report(tmp_path, DAY, DayKind.WHOLE, 1)
    assert not report.fine
    assert (report.missing_symbols, report.missing_ticks) == (1, 4)
    assert [gap["missing_ticks"] for gap in report.open_gaps] == [4]
    assert list(report.reasons.values()) == [1]


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    code = main([str(part) for part in arguments])
    shown = capsys.readouterr()
    return code, shown.out + shown.err


@pytest.mark.parametrize(
    ("prepare", "code", "words"),
    [
        (record, 0, "proven 1"),
        (lambda root: record(root, gap=True), 1, "missing 1 (4 ticks)"),
        (lambda root: (root / f"{DAY}.db").write_bytes(b"no database" * 1000), 1, "not readable"),
        (lambda root: None, 3, "is DATA_ROOT right?"),
    ],
)
def test_the_command_tells_by_its_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], prepare: Callable[[Path], object], code: int, words: str
) -> None:
    prepare(tmp_path)
    told, text = run(capsys, "--data-root", tmp_path)
    assert (told, words in text) == (code, True), text
    if code != 3:
        report = json.loads((tmp_path / "_reports" / f"{DAY}.json").read_text())
        assert report["trading_day"] == DAY
        assert not list((tmp_path / "_reports").glob("*.part"))
        assert run(capsys, "--data-root", tmp_path) == (0, "nothing is due: every day that is over has its report\n")


def test_two_jobs_do_not_meet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record(tmp_path)
    with end_of_day.only_one(tmp_path):
        code, text = run(capsys, "--data-root", tmp_path)
    assert code == 1
    assert "another end-of-day job" in text


def test_a_file_being_written_is_read_without_disturbing_it(tmp_path: Path) -> None:
    record(tmp_path)
    writer = sqlite3.connect(tmp_path / f"{DAY}.db", isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    assert end_of_day.make_report(tmp_path, DAY, DayKind.WHOLE, 1).stored_ticks == 10
    writer.execute("ROLLBACK")
    writer.close()
