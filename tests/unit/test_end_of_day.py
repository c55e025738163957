"""Which days are due, and the job that makes their certificates."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

from hk_tick_collector.cli.eod import command
from hk_tick_collector.core.facts import GapFound, HeadProven, Verified
from hk_tick_collector.days.catalog import Catalog
from hk_tick_collector.market.calendar import TradingCalendar
from hk_tick_collector.market.hk import HK
from hk_tick_collector.market.hk.sessions import HK_TZ
from hk_tick_collector.quality import end_of_day
from hk_tick_collector.quality.certificate import make_certificate
from hk_tick_collector.quality.model import Certificate
from hk_tick_collector.quality.report_file import report_file, write_certificate
from hk_tick_collector.store.writer import DayFileWriter
from tests.ticks import DAY, make_ticks

CALENDAR = TradingCalendar(HK)


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


def certificate(root: Path, now_ms: int, day: str = DAY) -> Certificate:
    return make_certificate(Catalog(root, root / "_archive").day(day), CALENDAR, now_ms)


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
        write_certificate(tmp_path, certificate(tmp_path, now_ms, day))
    assert end_of_day.due_days(tmp_path, CALENDAR, now_ms) == ["20261119"]
    future_ns = 4_000_000_000_000_000_000
    os.utime(tmp_path / "20261120.db", ns=(future_ns, future_ns))
    assert end_of_day.due_days(tmp_path, CALENDAR, now_ms) == ["20261119", "20261120"]


def test_a_certificate_of_a_day_that_was_not_over_leaves_the_day_due(tmp_path: Path) -> None:
    record(tmp_path)
    write_certificate(tmp_path, certificate(tmp_path, at("2026-11-20T16:14:00")))
    assert end_of_day.due_days(tmp_path, CALENDAR, at("2026-11-20T16:30:00")) == [DAY]
    write_certificate(tmp_path, certificate(tmp_path, at("2026-11-20T16:16:00")))
    assert end_of_day.due_days(tmp_path, CALENDAR, at("2026-11-20T16:30:00")) == []


@pytest.mark.parametrize(
    "text", ["", "{}", '{"trading_day": "20261120"}', '{\n "format_version": 0,\n "trading_day": 1']
)
def test_a_report_of_another_form_leaves_the_day_due(tmp_path: Path, text: str) -> None:
    record(tmp_path)
    (tmp_path / "_reports").mkdir()
    report_file(tmp_path, DAY).write_text(text)
    assert end_of_day.due_days(tmp_path, CALENDAR, at("2026-11-20T16:30:00")) == [DAY]


@pytest.fixture(autouse=True)
def _not_gentle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hk_tick_collector.cli.archiving.be_gentle", lambda: None)


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    with pytest.raises(SystemExit) as ended:
        command.main([str(part) for part in arguments], standalone_mode=False)
    shown = capsys.readouterr()
    assert isinstance(ended.value.code, int)
    return ended.value.code, shown.out + shown.err


@pytest.mark.parametrize(
    ("prepare", "code", "words", "code_again"),
    [
        (record, 0, "is complete: 10 ticks of 1 symbol", 0),
        (lambda root: record(root, gap=True), 1, "misses 4 of 20 ticks", 0),
        (lambda root: (root / f"{DAY}.db").write_bytes(b"no database" * 1000), 1, "cannot be read", 1),
        (lambda root: None, 3, "is DATA_ROOT right?", 3),
    ],
)
def test_the_command_tells_by_its_exit_code(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    prepare: Callable[[Path], object],
    code: int,
    words: str,
    code_again: int,
) -> None:
    prepare(tmp_path)
    told, text = run(capsys, "--data-root", tmp_path)
    assert (told, words in text) == (code, True), text
    if code != 3:
        report = json.loads((tmp_path / "_reports" / f"{DAY}.json").read_text())
        assert report["trading_day"] == DAY
        assert not list((tmp_path / "_reports").glob(".*.tmp"))
    if code_again != 1:
        assert (tmp_path / "_reports" / f"{DAY}.html").exists() == (code != 3)
        assert (tmp_path / "_archive" / "manifests" / f"{DAY}.json").exists() == (code != 3)
    told, text = run(capsys, "--data-root", tmp_path)
    assert (told, "nothing is due" in text) == (code_again, code_again == 0), text


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
    assert certificate(tmp_path, 1).stored_ticks == 10
    writer.execute("ROLLBACK")
    writer.close()
