"""Rules of hk-tick-alert: the same as Prometheus's, and what a few looks show."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from hk_tick_collector.alert.rules import ABSENCE, RULES, Seer
from hk_tick_collector.core.complaint import Code, Complaint, Level
from hk_tick_collector.health.statusfile import RecorderStatus, process_space
from hk_tick_collector.market.calendar import TradingCalendar
from hk_tick_collector.market.hk import HK
from hk_tick_collector.watch import recorder as system
from hk_tick_collector.watch.condition import Condition, look

PROMETHEUS = Path(__file__).resolve().parents[3] / "deploy" / "prometheus" / "alerts.yml"
NOW_MS = 1_795_914_000_000
LEVELS = {"critical": Level.ALERT, "warning": Level.WARN}


def prometheus_rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load(PROMETHEUS.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def seconds(text: str) -> float:
    return float(text[:-1]) * {"s": 1, "m": 60, "h": 3600}[text[-1]]


@pytest.mark.parametrize("rule", prometheus_rules(), ids=lambda rule: str(rule["alert"]))
def test_each_prometheus_rule_is_here_with_its_level_and_duration(rule: dict[str, Any]) -> None:
    ours = RULES[rule["labels"]["code"]]
    assert ours.level is LEVELS[rule["labels"]["severity"]]
    assert ours.for_sec == seconds(rule.get("for", "0s"))
    if "[15m]" in rule["expr"]:
        assert ours.keep_sec == 900


def test_what_prometheus_has_no_rule_for_is_known_by_name() -> None:
    theirs = {rule["labels"]["code"] for rule in prometheus_rules()}
    from_files = {Code.DAY_FILE_UNREADABLE, Code.DAYS_TO_COME, Code.DISK_SILENT}  # of files, which it does not see
    of_others = {Code.UNIT_FAILED, Code.HOOK_SILENT, Code.DAY_NOT_ARCHIVED, Code.COPY_BEHIND, Code.COPY_UNEQUAL}
    by_recorder = {Code.SOURCE_MUTE, Code.RECORDER_COMPLAINS, Code.MARKET_CLOSED_BY_SOURCE, Code.LOGIN_ENDS}
    by_recorder |= {Code.BOOKS_NOT_STORING, Code.BOOKS_REFUSED}
    assert set(RULES) - theirs <= from_files | of_others | by_recorder


def test_every_code_that_needs_somebody_has_a_rule_or_is_an_absence() -> None:
    logged = {Code.LOOP_STUCK, Code.NETWORK_THREAD_DEAD, Code.PUSH_SILENT}  # in the log alone, where the watchdog acts
    notes = {Code.RECORDER_STOPPING, Code.SERVICE_NOT_ENABLED, Code.BEGINNING_UNSEEN}
    assert set(Code) - logged - notes == {code for code in Code if code in RULES or code in ABSENCE}


def status(**values: Any) -> RecorderStatus:
    given = {"pid": 1, "version": "1", "process_space": process_space(), "started_at_ms": NOW_MS - 60_000,
             "written_at_ms": NOW_MS, "status": "ok"}  # fmt: skip
    return RecorderStatus(**(given | values))


def condition(now: RecorderStatus | None, *complaints: Complaint, at_ms: int = NOW_MS) -> Condition:
    return Condition(
        at_ms=at_ms, data_root=Path("/data"), market=HK, service=None, process=None, status=now,
        is_running=now is not None, phase="morning", disk=None, day=None, spill_bytes=0, complaints=list(complaints),
    )  # fmt: skip


def codes(seer: Seer, *args: Any, **more: Any) -> dict[str, Level]:
    return {finding.code: finding.level for finding in seer.findings(condition(*args, **more))}


def test_what_happened_since_the_look_before_is_a_finding() -> None:
    seer, calm = Seer(), status(refused_rows=5, quarantined_rows=7, writer_recoveries=1)
    assert codes(seer, calm) == {}  # what was before the first look is nobody's call
    worse = replace(calm, refused_rows=9, quarantined_rows=8, writer_recoveries=2)
    assert set(codes(seer, worse)) == {Code.TICKS_REFUSED, Code.TICKS_QUARANTINED, Code.WRITER_REPLACED}
    assert codes(seer, worse) == {}
    anew = status(started_at_ms=NOW_MS - 1, refused_rows=1, quarantined_rows=1)
    assert codes(seer, anew) == {}


def test_states_of_one_look() -> None:
    seer = Seer()
    assert set(codes(seer, status(open_holes=2, spill_rows=10, commit_latency_p99_ms=2500.0))) == {
        Code.HOLES_OPEN, Code.SPILL_WAITING, Code.COMMITS_SLOW,
    }  # fmt: skip
    assert Code.SPILL_GROWING in codes(seer, status(spill_rows=11))
    assert Code.SPILL_GROWING not in codes(seer, status(spill_rows=11))
    assert set(codes(seer, status(newest_ts_ms=NOW_MS + 61_000))) == {Code.TICKS_FROM_FUTURE}


def test_an_absence_is_one_event_whatever_its_words_and_hides_what_only_the_recorder_tells() -> None:
    seer, before = Seer(), status(open_holes=1)
    codes(seer, before)
    died = Complaint(Code.RECORDER_DIED, Level.ALERT, "it ended")
    failed = Complaint(Code.SERVICE_FAILED, Level.ALERT, "the unit failed")
    old = replace(before, written_at_ms=NOW_MS - 600_000)
    assert codes(seer, old, died, failed) == {Code.RECORDER_DOWN: Level.ALERT}


def test_a_unit_that_failed_says_nothing_of_a_recorder_that_records() -> None:
    """The plain unit may be another data root's."""
    failed = Complaint(Code.SERVICE_FAILED, Level.ALERT, "the unit failed")
    assert codes(Seer(), status(), failed) == {}


def test_a_recorder_that_starts_again_and_again_is_said() -> None:
    seer = Seer()
    for number in range(3):
        assert codes(seer, status(started_at_ms=NOW_MS - 1000 * (3 - number))).get(Code.RECORDER_RESTARTING) == (
            Level.WARN if number == 2 else None
        )
    assert Code.RECORDER_RESTARTING not in codes(seer, status(started_at_ms=NOW_MS - 1000), at_ms=NOW_MS + 1_801_000)


def test_notes_call_nobody() -> None:
    note = Complaint(Code.TICKS_REFUSED, Level.NOTE, "since the start")
    assert codes(Seer(), status(), note) == {}


def test_a_recorder_lives_by_its_file_where_no_process_can_be_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a unit with ProcSubset=pid: it said that a recorder had died which worked beside it."""
    root = tmp_path / "HK"
    root.mkdir()
    now = status()
    (root / ".recorder.status.json").write_text(json.dumps(asdict(now)))
    seen = look(root, TradingCalendar(HK), NOW_MS)
    assert not seen.is_running  # its process would be seen here
    monkeypatch.setattr(system, "_PROC", tmp_path / "no-proc")
    assert look(root, TradingCalendar(HK), NOW_MS).is_running
    gone = look(root, TradingCalendar(HK), NOW_MS + 60_000)
    assert not gone.is_running
    assert [complaint.code for complaint in gone.complaints if complaint.level is Level.ALERT] == [Code.RECORDER_DIED]
