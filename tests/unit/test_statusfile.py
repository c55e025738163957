"""The status file: what it tells, that it is never half written, and that a bad disk costs nothing but the file."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import stat
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from hk_tick_collector.core.complaint import Code, Complaint, Level
from hk_tick_collector.core.progress import Progress
from hk_tick_collector.health import statusfile
from hk_tick_collector.health.judgement import Backlog
from hk_tick_collector.health.statusfile import MAX_REFUSED_NAMES, RecorderStatus, StatusFile, read_status
from hk_tick_collector.market.calendar import TradingCalendar
from hk_tick_collector.market.hk import HK
from hk_tick_collector.store import layout
from tests.clock import ManualClock

MID_MORNING_MS = int(datetime(2026, 11, 20, 2, 30, tzinfo=UTC).timestamp() * 1000)
CALENDAR = TradingCalendar(HK)  # shared: it loads a year of days
NOTHING_WAITS = Backlog(queue_rows=0, in_hand_rows=0, spill_rows=0, open_holes=0, wal_bytes=0, worker_dead=False)


class Desk:
    """A status file over counters that the test sets. Create it inside a loop."""

    def __init__(self, path: Path, replace_content: Callable[[Path, bytes], None] = layout.replace_file) -> None:
        self.path = path
        self.clock = ManualClock(MID_MORNING_MS)
        self.progress = Progress()
        self.backlog = NOTHING_WAITS
        self.complaints: list[Complaint] = []
        self.file = StatusFile(
            path, replace_content, self.progress, lambda: self.backlog, lambda _backlog: self.complaints,
            CALENDAR, self.clock, "1.2.3",
        )  # fmt: skip

    async def written(self, stopping: str | None = None) -> RecorderStatus:
        self.file.write(stopping)
        await asyncio.wait_for(self.file._idle.wait(), 60)
        status = read_status(self.path)
        assert status is not None
        return status


def on_loop(go: Callable[[], Awaitable[None]]) -> None:
    async def run() -> None:
        await go()

    asyncio.run(run())


def test_it_tells_what_the_counters_say(tmp_path: Path) -> None:
    async def go() -> None:
        desk = Desk(layout.status_file(tmp_path))
        feed, ingest = desk.progress.feed, desk.progress.ingest
        feed.link_state, feed.market_state = "ready", "Morning"
        feed.symbols_wanted, feed.symbols_subscribed, feed.symbols_refused = 3, 2, 1
        feed.refused_symbols = {"HK.99999": "unknown stock"}
        feed.pushed_max_ts_ms, feed.disconnections = desk.clock.now_ms() - 250, 4
        ingest.persisted_rows, ingest.commits, ingest.missing_ticks = 1000, 5, 7
        ingest.refused_rows, ingest.quarantined_rows, ingest.write_errors = 11, 12, 13
        ingest.last_commit_monotonic = desk.clock.monotonic()
        ingest.commit_latency_ms.observe(15, 100)
        desk.backlog = Backlog(1, 2, 3, open_holes=4, wal_bytes=5, worker_dead=False)
        desk.complaints = [Complaint(Code.SPILL_WAITING, Level.WARN, "rows wait in the spill")]
        desk.clock.advance(2)
        status = await desk.written()
        assert (status.pid, status.version) == (os.getpid(), "1.2.3")
        assert (status.started_at_ms, status.written_at_ms) == (MID_MORNING_MS, MID_MORNING_MS + 2000)
        assert (status.status, status.reason, status.phase) == ("warn", "rows wait in the spill", "morning")
        assert (status.opend_state, status.market_state, status.disconnections) == ("ready", "Morning", 4)
        assert (status.symbols_wanted, status.symbols_subscribed, status.symbols_refused) == (3, 2, 1)
        assert status.refused_symbols == {"HK.99999": "unknown stock"}
        assert (status.stored_rows, status.rows_per_sec) == (1000, 500.0)
        assert (status.newest_ts_ms, status.lag_sec) == (MID_MORNING_MS - 250, 2.25)
        assert status.last_commit_age_sec == 2.0
        assert status.commit_latency_p99_ms == pytest.approx(20, abs=10)
        assert (status.queue_rows, status.in_hand_rows, status.spill_rows) == (1, 2, 3)
        assert (status.open_holes, status.missing_ticks, status.wal_bytes) == (4, 7, 5)
        assert (status.refused_rows, status.quarantined_rows, status.write_errors) == (11, 12, 13)

        ingest.persisted_rows += 30
        desk.clock.advance(3)
        assert (await desk.written()).rows_per_sec == 10.0

    on_loop(go)


def test_before_the_first_tick_there_is_no_lag(tmp_path: Path) -> None:
    async def go() -> None:
        status = await Desk(layout.status_file(tmp_path)).written()
        assert status.newest_ts_ms is None
        assert status.lag_sec is None
        assert status.last_commit_age_sec is None
        assert status.commit_latency_p99_ms is None
        assert status.last_alert_at_ms is None

    on_loop(go)


def test_the_latency_is_of_the_last_minute(tmp_path: Path) -> None:
    async def go() -> None:
        desk = Desk(layout.status_file(tmp_path))
        latency = desk.progress.ingest.commit_latency_ms
        latency.observe(9_000, 1000)
        first = await desk.written()
        assert (first.commit_latency_p99_ms or 0) > 5_000
        for _ in range(statusfile.LATENCY_WINDOW_WRITES):
            latency.observe(15, 10)
            last = await desk.written()
        assert (last.commit_latency_p99_ms or 0) < 50

    on_loop(go)


def test_the_last_alert_is_kept_also_over_a_restart(tmp_path: Path) -> None:
    async def go() -> None:
        path = layout.status_file(tmp_path)
        desk = Desk(path)
        desk.complaints = [Complaint(Code.WORKER_DEAD, Level.ALERT, "persist worker is dead")]
        await desk.written()
        desk.clock.advance(60)
        desk.complaints = []
        status = await desk.written()
        assert (status.status, status.last_alert_at_ms) == ("ok", MID_MORNING_MS)
        assert status.last_alert_reason == "persist worker is dead"
        status = await Desk(path).written()
        assert (status.last_alert_at_ms, status.last_alert_reason) == (MID_MORNING_MS, "persist worker is dead")

    on_loop(go)


def test_a_stop_is_no_alert_and_its_last_word_is_stopped(tmp_path: Path) -> None:
    async def go() -> None:
        desk = Desk(layout.status_file(tmp_path))
        desk.complaints = [
            Complaint(Code.SOURCE_DISCONNECTED, Level.ALERT, "OpenD is down")
        ]  # what the stop itself brings about
        stopping = await desk.written("asked to stop")
        assert (stopping.status, stopping.reason, stopping.last_alert_at_ms) == ("stopping", "asked to stop", None)
        await desk.file.close("asked to stop")
        last = read_status(desk.path)
        assert last is not None
        assert (last.status, last.reason) == ("stopped", "asked to stop")

    on_loop(go)


def test_refused_symbols_are_named_up_to_a_limit(tmp_path: Path) -> None:
    async def go() -> None:
        desk = Desk(layout.status_file(tmp_path))
        desk.progress.feed.refused_symbols = {f"HK.{n:05d}": "unknown" for n in range(5000)}
        desk.progress.feed.symbols_refused = 5000
        status = await desk.written()
        assert len(status.refused_symbols) == MAX_REFUSED_NAMES
        assert status.symbols_refused == 5000
        assert desk.path.stat().st_size < 10_000

    on_loop(go)


def test_the_file_is_for_its_user_and_group_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        on_loop(lambda: Desk(layout.status_file(tmp_path)).written())  # type: ignore[arg-type,return-value]
    finally:
        os.umask(before)
    (path,) = tmp_path.iterdir()
    assert path.name == ".recorder.status.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_reader_never_sees_half_a_file(tmp_path: Path) -> None:
    path = layout.status_file(tmp_path)
    unreadable: list[str] = []
    reads = 0
    done = threading.Event()

    def read() -> None:
        nonlocal reads
        while not done.is_set():
            if path.exists():
                text = path.read_text()
                reads += 1
                try:
                    json.loads(text)
                except ValueError:
                    unreadable.append(text)

    async def go() -> None:
        desk = Desk(path)
        for _ in range(300):
            await desk.written()

    reader = threading.Thread(target=read)
    reader.start()
    on_loop(go)
    done.set()
    reader.join(60)
    assert reads > 100
    assert unreadable == []


def test_a_refused_write_is_counted_said_once_and_leaves_the_old_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    full = False

    def replace_content(path: Path, content: bytes) -> None:
        if full:
            raise OSError(28, "No space left on device")
        layout.replace_file(path, content)

    async def go() -> None:
        nonlocal full
        desk = Desk(layout.status_file(tmp_path), replace_content)
        first = await desk.written()
        full = True
        for _ in range(5):
            desk.clock.advance(2)
            assert await desk.written() == first
        assert desk.file.failed_writes == 5
        full = False
        assert (await desk.written()).written_at_ms > first.written_at_ms

    with caplog.at_level(logging.WARNING):
        on_loop(go)
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 1
    assert lines[0].startswith("status_file_failed path=")
    assert "No space left on device" in lines[0]


def test_nothing_is_left_of_a_write_that_failed(tmp_path: Path) -> None:
    target = tmp_path / "name"
    target.mkdir()  # a directory cannot be replaced by a file
    (target / "inside").touch()
    with pytest.raises(OSError, match="directory"):
        layout.replace_file(target, b"content")
    assert [path.name for path in tmp_path.iterdir()] == ["name"]


def test_a_hanging_disk_holds_up_neither_the_loop_nor_the_end(tmp_path: Path) -> None:
    """One write hangs: no other begins, ``write`` returns at once, ``close`` gives up."""
    release = threading.Event()
    began, waited_out = 0, []

    def hang(_path: Path, _content: bytes) -> None:
        nonlocal began
        began += 1
        waited_out.append(not release.wait(60))

    async def go() -> None:
        desk = Desk(layout.status_file(tmp_path), hang)
        for _ in range(10):
            desk.file.write()
            await asyncio.sleep(0)
        assert began == 1
        assert desk.file.failed_writes == 9
        before = time.monotonic()
        await desk.file.close("asked to stop")
        assert time.monotonic() - before > statusfile.CLOSE_TIMEOUT_SEC - 0.1
        assert began == 1

    on_loop(go)
    assert waited_out == [], "the loop waited for the hanging thread"
    release.set()


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "7", '{"pid": 1}', '{"pid": "1", "version": "x", "status": "ok"}', "x" * 100_000, "\x00" * 10],
)
def test_what_is_no_status_is_none(tmp_path: Path, content: str) -> None:
    path = layout.status_file(tmp_path)
    assert read_status(path) is None
    path.write_text(content)
    assert read_status(path) is None


def test_fields_of_another_version_do_not_hurt(tmp_path: Path) -> None:
    path = layout.status_file(tmp_path)
    needed = {"pid": 7, "version": "9", "process_space": "h", "started_at_ms": 1, "written_at_ms": 2, "status": "ok"}
    path.write_text(json.dumps({**needed, "flux": 3, "queue_rows": "many", "lag_sec": 2, "spill_rows": True}))
    status = read_status(path)
    assert status == RecorderStatus(7, "9", "h", 1, 2, "ok", lag_sec=2)


def test_one_costs_little_whatever_was_recorded(tmp_path: Path) -> None:
    """What the loop pays each two seconds in CPU: below a thousandth of it, with 2,000 symbols refused as well."""

    async def go() -> None:
        desk = Desk(layout.status_file(tmp_path), lambda _path, _content: None)
        desk.progress.feed.refused_symbols = {f"HK.{n:05d}": "unknown" for n in range(2000)}
        desk.progress.ingest.persisted_rows = 10**9
        times = []
        for _ in range(50):
            before = time.thread_time()
            desk.file.write()
            times.append(time.thread_time() - before)
            await desk.file._idle.wait()
        assert sorted(times)[25] < 0.002, times

    on_loop(go)


def test_a_complaint_tells_since_when_it_has_been_so(tmp_path: Path) -> None:
    async def go() -> None:
        desk = Desk(layout.status_file(tmp_path))
        spill = Complaint(Code.SPILL_WAITING, Level.WARN, "rows wait in the spill")
        missing = Complaint(Code.TICKS_MISSING, Level.WARN, "3 ticks are missing")
        desk.complaints = [spill]
        assert [complaint.since_ms for complaint in (await desk.written()).complaints] == [MID_MORNING_MS]
        desk.clock.advance(60)
        desk.complaints = [replace(missing, sentence="4 ticks are missing"), spill]
        status = await desk.written()
        assert [(complaint.code, complaint.since_ms) for complaint in status.complaints] == [
            ("ticks_missing", MID_MORNING_MS + 60_000),
            ("spill_waiting", MID_MORNING_MS),
        ]
        desk.complaints = []
        assert (await desk.written()).complaints == ()
        desk.clock.advance(60)
        desk.complaints = [spill]  # another time
        assert [complaint.since_ms for complaint in (await desk.written()).complaints] == [MID_MORNING_MS + 120_000]
        assert (await desk.written("asked to stop")).complaints == ()

    on_loop(go)
