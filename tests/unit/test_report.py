"""The lines that operators grep, and the status they act on."""

from __future__ import annotations

import logging
import re
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hk_tick_collector.core.complaint import status_word
from hk_tick_collector.core.progress import Progress
from hk_tick_collector.health.judgement import Backlog, Judge, Waiting
from hk_tick_collector.health.report import Reporter
from hk_tick_collector.health.sdnotify import notify
from hk_tick_collector.market.calendar import TradingCalendar
from hk_tick_collector.market.hk import HK
from tests.clock import ManualClock

MID_MORNING = datetime(2026, 11, 20, 2, 30, tzinfo=UTC)  # a Friday, 10:30 in Hong Kong
NIGHT = datetime(2026, 11, 20, 15, 0, tzinfo=UTC)
NOTHING_WAITS = Backlog(queue_rows=0, in_hand_rows=0, spill_rows=0, open_holes=0, wal_bytes=0, worker_dead=False)


class Desk:
    """A reporter with everything in hand."""

    def __init__(self, moment: datetime = MID_MORNING) -> None:
        self.clock = ManualClock(int(moment.timestamp() * 1000))
        self.progress = Progress()
        self.backlog = NOTHING_WAITS
        calendar = TradingCalendar(HK)
        self.waiting = Waiting()
        self.judge = Judge(self.progress, calendar, self.clock, drift_warn_sec=120, stall_sec=180, waiting=self.waiting)
        self.reporter = Reporter(self.progress, lambda: self.backlog, calendar, self.clock, self.judge)
        feed = self.progress.feed
        feed.connected, feed.link_state = True, "ready"
        self.tick()

    def tick(self) -> None:
        self.progress.feed.last_push_monotonic = self.clock.monotonic()
        self.progress.feed.pushed_max_ts_ms = self.clock.now_ms()

    def source_says(self, state: str, *, closed: bool) -> None:
        self.progress.feed.market_state, self.progress.feed.closed_by_source = state, closed

    def status(self) -> tuple[str, str | None]:
        return status_word(self.judge.complaints(self.backlog))


def test_an_open_market_with_ticks_is_ok() -> None:
    assert Desk().status() == ("ok", None)


def test_an_open_market_without_ticks_is_never_ok() -> None:
    desk = Desk()
    desk.clock.advance(121)
    assert desk.status() == ("alert", "market is open and no tick came for 121 s")
    silent_from_the_start = Desk()
    silent_from_the_start.progress.feed.last_push_monotonic = 0.0
    silent_from_the_start.clock.advance(300)
    assert silent_from_the_start.status()[0] == "alert"


@pytest.mark.parametrize(("hour", "minute"), [(1, 30), (5, 0)], ids=["after the opening auction", "after lunch"])
def test_silence_counts_from_the_opening(hour: int, minute: int) -> None:
    """Nothing can be traded before: the first second of trading is no alarm, two minutes without a tick are."""
    opening = datetime(2026, 11, 20, hour, minute, tzinfo=UTC)
    desk = Desk(opening - timedelta(minutes=8))
    desk.source_says("Rest", closed=True)
    desk.clock.advance(480)
    desk.progress.feed.last_answer_monotonic = desk.clock.monotonic()
    assert (desk.status(), desk.judge.stuck()) == (("ok", None), None)
    desk.clock.advance(119)
    assert desk.status() == ("ok", None)
    desk.source_says("Morning", closed=False)
    desk.clock.advance(2)
    assert desk.status() == ("alert", "market is open and no tick came for 121 s")


@pytest.mark.parametrize(
    ("moment", "level"),
    [
        (datetime(2026, 11, 20, 4, 30, tzinfo=UTC), "ok"),  # lunch
        (datetime(2026, 11, 20, 1, 29, tzinfo=UTC), "ok"),  # before the opening
        (datetime(2026, 12, 24, 6, 0, tzinfo=UTC), "ok"),  # the afternoon of a half day
        (datetime(2026, 11, 21, 3, 0, tzinfo=UTC), "ok"),  # a Saturday
        (datetime(2026, 11, 20, 6, 0, tzinfo=UTC), "alert"),
    ],
)
def test_a_source_says_nothing_where_nothing_is_traded(moment: datetime, level: str) -> None:
    """Hours since the last push, and OpenD answers: only an open market makes that an alarm."""
    desk = Desk(moment)
    feed = desk.progress.feed
    feed.last_push_monotonic, feed.pushed_max_ts_ms = desk.clock.monotonic() - 9000, desk.clock.now_ms() - 9_000_000
    feed.last_answer_monotonic = desk.clock.monotonic()
    assert desk.status()[0] == level
    assert desk.judge.stuck() is None


@pytest.mark.parametrize("state", ["Closed", "WaitingOpen"])
def test_a_market_that_opend_calls_closed_is_no_alarm_and_no_secret(state: str) -> None:
    """A typhoon closes the exchange on a day that every calendar calls open."""
    desk = Desk()
    desk.source_says(state, closed=True)
    assert desk.status() == ("ok", None)
    desk.clock.advance(121)
    assert desk.status() == ("warn", f"OpenD says the market is {state}, our calendar says it is open")
    desk.source_says("Morning", closed=False)
    assert desk.status()[0] == "alert"


def test_a_closed_market_may_be_silent() -> None:
    desk = Desk(NIGHT)
    desk.clock.advance(3600)
    assert desk.status() == ("ok", None)


@pytest.mark.parametrize(("moment", "level"), [(MID_MORNING, "alert"), (NIGHT, "warn")])
def test_disconnected_is_told_by_the_hour(moment: datetime, level: str) -> None:
    desk = Desk(moment)
    desk.progress.feed.connected, desk.progress.feed.link_state = False, "down"
    assert desk.status() == (level, "OpenD is down")


@pytest.mark.parametrize(
    ("part", "field", "value", "level"),
    [
        ("ingest", "refused_rows", 1, "alert"),
        ("feed", "symbols_refused", 2, "warn"),
        ("ingest", "missing_ticks", 3, "warn"),
    ],
)
def test_what_went_wrong_is_named(part: str, field: str, value: int, level: str) -> None:
    desk = Desk()
    setattr(getattr(desk.progress, part), field, value)
    status, reason = desk.status()
    assert status == level
    assert reason


def test_the_health_line_has_every_field_and_rates_by_the_minute(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    desk = Desk()
    desk.progress.ingest.persisted_rows = 50
    desk.clock.advance(30)
    desk.tick()
    line = desk.reporter.health()
    for field in (
        "connected", "status", "phase", "queue", "persisted_rows_per_min", "ignored_rows_per_min", "push_rows_per_min",
        "poll_fetched", "poll_accepted", "queue_in", "queue_out", "db_commits_per_min", "last_commit_age_sec",
        "ts_drift_sec", "max_ts_utc", "dropped_queue_full", "dropped_duplicate", "symbols", "spilled_rows",
        "quarantined_rows", "open_holes", "missing_ticks", "latency_ms_p50", "latency_ms_p99", "event_latency_ms_p50",
        "event_latency_ms_p99",
    ):  # fmt: skip
        assert re.search(rf" {field}=", line), field
    assert line.startswith("health connected=True status=ok ")
    assert "persisted_rows_per_min=100 " in line
    assert "phase=morning" in line
    assert "max_ts_utc=2026-11-20T02:30:30.000Z" in line
    desk.clock.advance(60)
    assert "persisted_rows_per_min=0 " in desk.reporter.health()


def test_latencies_are_those_since_the_line_before() -> None:
    desk = Desk()
    ingest = desk.progress.ingest
    assert "latency_ms_p50=none latency_ms_p99=none event_latency_ms_p50=none" in desk.reporter.health()
    ingest.commit_latency_ms.observe(20_000, 1000)
    ingest.event_latency_ms.observe(60_000, 1000)
    assert re.search(r" latency_ms_p50=20000 .* event_latency_ms_p99=59700", desk.reporter.health())
    ingest.commit_latency_ms.observe(10, 99)
    ingest.commit_latency_ms.observe(1000)
    ingest.event_latency_ms.observe(100, 10)
    line = desk.reporter.health()
    latencies = dict(re.findall(r"(\w*latency_ms_p\d+)=([\d.]+)", line))
    assert 5 < float(latencies["latency_ms_p50"]) < float(latencies["latency_ms_p99"]) <= 10
    assert 75 < float(latencies["event_latency_ms_p50"]) <= float(latencies["event_latency_ms_p99"]) <= 100
    assert "latency_ms_p50=none" in desk.reporter.health(), "nothing came since"


def test_persist_summary_is_silent_when_nothing_was_stored(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    desk = Desk()
    desk.reporter.persist_summary()
    assert "persist_summary" not in caplog.text
    desk.progress.ingest.out_rows = desk.progress.ingest.persisted_rows = 7
    desk.reporter.persist_summary()
    assert "persist_summary inserted=7 ignored=0" in caplog.text


def test_the_heartbeat_tells_the_last_error(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    desk = Desk()
    desk.progress.ingest.last_error = "StoreBusy"
    desk.progress.ingest.last_error_monotonic = desk.clock.monotonic()
    desk.clock.advance(4)
    desk.reporter.heartbeat()
    assert re.search(r"persist_loop_heartbeat queue=0 .*last_error=StoreBusy last_error_age_sec=4 ", caplog.text)


def test_the_service_manager_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(path))
        monkeypatch.setenv("NOTIFY_SOCKET", str(path))
        assert notify("READY=1", "STATUS=fine")
        assert manager.recv(100) == b"READY=1\nSTATUS=fine"
    path.unlink()
    assert not notify("READY=1")
    monkeypatch.delenv("NOTIFY_SOCKET")
    assert not notify("READY=1")
