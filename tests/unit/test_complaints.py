"""Codes of complaints: one table, and everybody who complains keeps to it."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from hk_tick_collector.app.config import setting_table
from hk_tick_collector.core.complaint import (
    EXPLANATIONS,
    TABLE,
    Code,
    Complaint,
    Level,
    Teller,
    status_word,
    told_by,
)
from hk_tick_collector.core.progress import Progress
from hk_tick_collector.health.judgement import LOGIN_WARN_MS, Backlog, Judge, Waiting
from hk_tick_collector.health.report import Reporter
from hk_tick_collector.health.statusfile import MAX_COMPLAINTS, RecorderStatus, read_status
from hk_tick_collector.market.calendar import TradingCalendar
from hk_tick_collector.market.hk import HK
from hk_tick_collector.store import layout
from hk_tick_collector.watch.condition import Condition, look
from tests.clock import ManualClock

ROOT = Path(__file__).resolve().parents[2]
NOW_MS = int(datetime(2026, 11, 20, 2, 30, tzinfo=UTC).timestamp() * 1000)  # a Friday, 10:30 in Hong Kong
NOTHING_WAITS = Backlog(queue_rows=0, in_hand_rows=0, spill_rows=0, open_holes=0, wal_bytes=0, worker_dead=False)
SEVERITIES = {"critical": Level.ALERT, "warning": Level.WARN}


def test_every_code_is_explained_once() -> None:
    assert [explanation.code for explanation in TABLE] == list(Code)
    for explanation in TABLE:
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", explanation.code)
        assert list(explanation.levels) == sorted(explanation.levels, key=list(Level).index, reverse=True)
        assert explanation.tellers


def test_the_page_shows_the_table() -> None:
    section = (ROOT / "docs/monitoring.md").read_text().partition("\n## Complaints\n")[2].partition("\n## ")[0]
    shown = [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        for line in section.splitlines()
        if line.startswith("| `")
    ]
    assert shown == [
        [
            f"`{explanation.code}`",
            ", ".join(explanation.levels),
            ", ".join(explanation.tellers),
            explanation.meaning,
            explanation.action,
        ]
        for explanation in TABLE
    ]


@pytest.mark.parametrize(
    ("module", "tellers"),
    [
        ("health/judgement.py", {Teller.RECORDER, Teller.WATCHDOG}),
        ("watch/condition.py", {Teller.STATUS}),
        ("alert/outside.py", {Teller.ALERT}),
        ("clickhouse/shipping.py", {Teller.SHIPPER}),
    ],
)
def test_who_complains_speaks_the_codes_that_the_table_gives_it(module: str, tellers: set[Teller]) -> None:
    spoken = {
        Code[name] for name in re.findall(r"\bCode\.([A-Z_]+)", (ROOT / "hk_tick_collector" / module).read_text())
    }
    assert spoken == {code for teller in tellers for code in told_by(teller)}


def test_nobody_else_makes_complaints() -> None:
    speakers = {
        path.relative_to(ROOT / "hk_tick_collector").as_posix()
        for path in (ROOT / "hk_tick_collector").rglob("*.py")
        if re.search(r"\bCode\.[A-Z_]+", path.read_text()) and "core.complaint import" in path.read_text()
    }
    assert speakers == {
        "health/judgement.py",
        "watch/condition.py",
        "alert/rules.py",
        "alert/outside.py",
        "clickhouse/shipping.py",
    }


def test_what_hk_tick_alert_sees_by_itself_is_what_the_rules_tell() -> None:
    spoken = set(re.findall(r"yield Code\.([A-Z_]+)", (ROOT / "hk_tick_collector/alert/rules.py").read_text()))
    assert {Code[name] for name in spoken} <= set(told_by(Teller.RULES))


def test_the_alert_rules_carry_the_codes() -> None:
    content = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text())
    rules = [rule for group in content["groups"] for rule in group["rules"]]
    assert {rule["labels"]["code"] for rule in rules} == set(told_by(Teller.RULES))
    for rule in rules:
        level = SEVERITIES[rule["labels"]["severity"]]
        assert level in EXPLANATIONS[Code(rule["labels"]["code"])].levels, rule["alert"]


class Desk:
    """A judge over counters that the test sets: an open market, connected, a tick just came."""

    def __init__(self) -> None:
        self.clock = ManualClock(NOW_MS)
        self.progress = Progress()
        self.waiting = Waiting()
        self.backlog = NOTHING_WAITS
        calendar = TradingCalendar(HK)
        self.judge = Judge(self.progress, calendar, self.clock, drift_warn_sec=120, stall_sec=180, waiting=self.waiting)
        self.reporter = Reporter(self.progress, lambda: self.backlog, calendar, self.clock, self.judge)
        feed = self.progress.feed
        feed.connected, feed.link_state = True, "ready"
        feed.last_push_monotonic = feed.last_answer_monotonic = self.clock.monotonic()
        feed.pushed_max_ts_ms = NOW_MS

    def complaints(self) -> dict[str, Complaint]:
        return {complaint.code: complaint for complaint in self.judge.complaints(self.backlog)}


def disconnect(desk: Desk) -> None:
    desk.progress.feed.connected, desk.progress.feed.link_state = False, "down"


def close_by_source(desk: Desk) -> None:
    desk.progress.feed.market_state, desk.progress.feed.closed_by_source = "Closed", True
    desk.clock.advance(121)


def refuse_ticks(desk: Desk) -> None:
    desk.progress.ingest.refused_rows = 1


def refuse_symbols(desk: Desk) -> None:
    desk.progress.feed.symbols_refused = 2


def refuse_books(desk: Desk) -> None:
    desk.progress.books.refused_symbols = dict.fromkeys(("HK.00700", "HK.00005"), "no right to order books: Bmp")


def hold_books_up(desk: Desk) -> None:
    desk.progress.books.received, desk.progress.books.waiting_since_monotonic = 5, desk.clock.monotonic()
    desk.clock.advance(181)
    desk.progress.feed.last_push_monotonic = desk.clock.monotonic()


def let_login_end(desk: Desk) -> None:
    desk.progress.feed.login_ends_ms = desk.clock.now_ms() + LOGIN_WARN_MS - 1


def miss_ticks(desk: Desk) -> None:
    desk.progress.ingest.missing_ticks = 3


def begin_late(desk: Desk) -> None:
    desk.progress.ingest.unseen_ticks = 36


def spill(desk: Desk) -> None:
    desk.backlog = replace(NOTHING_WAITS, spill_rows=4)


def kill_worker(desk: Desk) -> None:
    desk.backlog = replace(NOTHING_WAITS, worker_dead=True)


def stall(desk: Desk) -> None:
    now_sec = desk.clock.monotonic()
    desk.waiting.look(5, 0.0, now_sec)
    desk.waiting.look(5, 0.0, now_sec + 180)


CAUSES: list[tuple[Callable[[Desk], None], Code]] = [
    (kill_worker, Code.WORKER_DEAD),
    (refuse_ticks, Code.TICKS_REFUSED),
    (stall, Code.NOT_STORING),
    (disconnect, Code.SOURCE_DISCONNECTED),
    (lambda desk: desk.clock.advance(181), Code.SOURCE_MUTE),
    (lambda desk: desk.clock.advance(121), Code.NO_TICKS),
    (close_by_source, Code.MARKET_CLOSED_BY_SOURCE),
    (lambda desk: desk.clock.advance(121), Code.TICKS_LATE),
    (refuse_symbols, Code.SYMBOLS_REFUSED),
    (refuse_books, Code.BOOKS_REFUSED),
    (hold_books_up, Code.BOOKS_NOT_STORING),
    (let_login_end, Code.LOGIN_ENDS),
    (miss_ticks, Code.TICKS_MISSING),
    (begin_late, Code.BEGINNING_UNSEEN),
    (spill, Code.SPILL_WAITING),
]


@pytest.mark.parametrize(("cause", "code"), CAUSES, ids=[code for _, code in CAUSES])
def test_the_recorder_complains_under_its_code(
    cause: Callable[[Desk], None], code: Code, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    desk = Desk()
    assert desk.complaints() == {}
    assert desk.reporter.health().endswith(" complaints=none")
    cause(desk)
    complaints = desk.complaints()
    assert code in complaints
    for spoken, complaint in complaints.items():
        assert spoken in told_by(Teller.RECORDER)
        assert complaint.level in EXPLANATIONS[Code(spoken)].levels
    line = desk.reporter.health()
    assert line.endswith(f" complaints={','.join(complaints)}")
    assert f"status={status_word(list(complaints.values()))[0]} " in line


def test_all_codes_of_the_recorder_have_a_cause_here() -> None:
    assert [code for _, code in CAUSES] == list(told_by(Teller.RECORDER))


def test_the_gravest_complaint_is_the_status() -> None:
    note, warn, alert = (Complaint(Code.TICKS_REFUSED, level, level.value) for level in Level)
    assert status_word([]) == status_word([note]) == ("ok", None)
    assert status_word([note, warn]) == ("warn", "warn")
    assert status_word([warn, alert, note]) == ("alert", "alert")


def test_waiting_counts_from_the_later_of_commit_and_arrival() -> None:
    waiting = Waiting()
    assert waiting.look(3, last_commit_sec=0.0, now_sec=1000.0) == 0.0
    assert waiting.look(3, last_commit_sec=0.0, now_sec=1100.0) == waiting.age_sec == 100.0
    assert waiting.look(3, last_commit_sec=1090.0, now_sec=1100.0) == 10.0
    assert waiting.look(0, last_commit_sec=1090.0, now_sec=1200.0) == 0.0
    assert waiting.look(1, last_commit_sec=1090.0, now_sec=1300.0) == 0.0


def test_a_stalled_store_and_a_mute_source_stop_the_heartbeat_a_closed_market_does_not() -> None:
    desk = Desk()
    assert desk.judge.stuck() is None
    stall(desk)
    stuck = desk.judge.stuck()
    assert stuck is not None
    assert stuck.code == Code.NOT_STORING
    mute = Desk()
    mute.clock.advance(181)
    stuck = mute.judge.stuck()
    assert stuck is not None
    assert stuck.code == Code.SOURCE_MUTE
    mute.clock.advance(12 * 3600)  # night
    assert mute.judge.stuck() is None


def look_at(data_root: Path, **changes: Any) -> Condition:
    """A recorder of another container, which has just written its status."""
    status = RecorderStatus(
        pid=4711, version="1.2.3", process_space="elsewhere", started_at_ms=NOW_MS, written_at_ms=NOW_MS, status="ok"
    )
    content = {**asdict(status), **changes}
    layout.status_file(data_root).write_text(json.dumps(content))
    return look(data_root, TradingCalendar(HK), NOW_MS)


def test_the_recorder_s_codes_come_through_the_file_into_status(tmp_path: Path) -> None:
    told = [
        Complaint(Code.NO_TICKS, Level.ALERT, "market is open and no tick came for 130 s", NOW_MS - 9000),
        Complaint(Code.SYMBOLS_REFUSED, Level.WARN, "2 symbols are not subscribed", NOW_MS),
    ]
    condition = look_at(
        tmp_path, status="alert", reason=told[0].sentence, complaints=[asdict(complaint) for complaint in told]
    )
    assert condition.status is not None
    assert condition.status.complaints == tuple(told)
    assert condition.problems == ["the recorder raises an alert: market is open and no tick came for 130 s"]
    assert "the recorder warns: 2 symbols are not subscribed" in condition.notes
    shown = json.loads(json.dumps(condition.as_json()))
    assert [(complaint["code"], complaint["level"], complaint["since_ms"]) for complaint in shown["complaints"]][
        :2
    ] == [
        ("no_ticks", "alert", NOW_MS - 9000),
        ("symbols_refused", "warn", NOW_MS),
    ]
    assert shown["problems"] == condition.problems
    assert shown["recorder"]["complaints"][0]["code"] == "no_ticks"


def test_books_that_are_not_subscribed_say_why_while_there_is_a_connection() -> None:
    desk = Desk()
    refuse_books(desk)
    desk.progress.brokers.refused_symbols = {"HK.00700": "quota is short: 0 left for 1 brokers"}
    assert [complaint.sentence for complaint in desk.judge.complaints(desk.backlog)] == [
        "2 order books not subscribed (no right to order books: Bmp); ticks go on",
        "1 broker queue not subscribed (quota is short: 0 left for 1 brokers); ticks go on",
    ]
    disconnect(desk)
    assert Code.BOOKS_REFUSED not in desk.complaints()


def test_a_recorder_without_codes_is_understood(tmp_path: Path) -> None:
    condition = look_at(tmp_path, status="alert", reason="persist worker is dead", complaints=None)
    assert condition.problems == ["the recorder raises an alert: persist worker is dead"]
    assert condition.complaints[0].code == Code.RECORDER_COMPLAINS
    assert look_at(tmp_path, status="warn", reason="rows wait", complaints=None).notes[0] == (
        "the recorder warns: rows wait"
    )


@pytest.mark.parametrize(
    "strange",
    [
        "no list",
        [None, 5, {}, {"code": "no_ticks"}],
        [{"code": "NO TICKS\x1b[2J", "level": "alert", "sentence": "x"}],
        [{"code": "no_ticks", "level": "panic", "sentence": "x"}],
        [{"code": "no_ticks", "level": ["alert"], "sentence": "x"}],
        [{"code": "no_ticks", "level": "alert", "sentence": 7}],
    ],
)
def test_what_is_no_complaint_is_left_out(tmp_path: Path, strange: object) -> None:
    condition = look_at(tmp_path, complaints=strange)
    assert condition.status is not None
    assert condition.status.complaints == ()


def test_no_more_complaints_are_read_than_a_recorder_has(tmp_path: Path) -> None:
    many = [{"code": "new_in_another_version", "level": "note", "sentence": "x", "since_ms": None}] * 100
    look_at(tmp_path, complaints=many)
    status = read_status(layout.status_file(tmp_path))
    assert status is not None
    assert len(status.complaints) == MAX_COMPLAINTS >= len(told_by(Teller.RECORDER))


def test_the_advice_for_books_that_hang_is_what_the_recorder_does() -> None:
    """It replaces the thread by itself and gives up after a bound; only what is left then is a person's to do."""
    advice = EXPLANATIONS[Code.BOOKS_NOT_STORING].action
    replaced, restarted = advice.index("`books_recovery`"), advice.index("Restart the recorder")
    assert replaced < restarted < advice.index("`WATCHDOG_RECOVERY_MAX_FAILURES`")
    assert "go on by themselves once the disk answers" in advice[replaced:restarted]


def test_each_setting_in_an_advice_is_one() -> None:
    settings = {info.key for info in setting_table()}
    for explanation in TABLE:
        assert settings.issuperset(re.findall(r"`([A-Z]+_[A-Z_]+)`", explanation.action)), explanation.code
