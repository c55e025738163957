"""A data root of snapshots is told as one: status, alerts and commands count what is there and miss what is not."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import pytest

from hk_tick_collector.alert.rules import Seer
from hk_tick_collector.cli.status import rows
from hk_tick_collector.core.complaint import Code, Level, status_word
from hk_tick_collector.core.progress import Progress
from hk_tick_collector.health.judgement import Backlog, Judge, Waiting
from hk_tick_collector.market.calendar import TradingCalendar
from hk_tick_collector.market.us import US
from hk_tick_collector.records.snapshot import COPY, SNAPSHOTS
from hk_tick_collector.records.tick import Tick
from hk_tick_collector.sources.completeness import completeness_of
from hk_tick_collector.sources.gexbot.spec import US as GEXBOT
from hk_tick_collector.sources.intake import Intake
from hk_tick_collector.sources.plausible import PlausibleDays
from hk_tick_collector.store.layout import snapshot_file
from hk_tick_collector.watch.condition import look
from tests.clock import ManualClock
from tests.snapshots import DAY, NDX, OPEN_SEC, SPX, copied, record, snapshot

CALENDAR = TradingCalendar(US)
NOTHING_WAITS = Backlog(queue_rows=0, in_hand_rows=0, spill_rows=0, open_holes=0, wal_bytes=0, worker_dead=False)
MORNING_MS = int(datetime(2026, 11, 27, 15, 0, tzinfo=UTC).timestamp() * 1000)  # 10:00 in New York


class Feed:
    """A recorder of snapshots in an open market, from what its connection receives to what it says of itself."""

    def __init__(self) -> None:
        self.clock = ManualClock(MORNING_MS)
        self.progress = Progress()
        feed = self.progress.feed
        feed.connected, feed.link_state, feed.source, feed.noun = True, "ready", GEXBOT.title, GEXBOT.kind.noun
        self.judge = Judge(self.progress, CALENDAR, self.clock, 120, 600, Waiting())
        self.stored: list[Tick] = []
        self.intake = Intake(
            self.stored.extend, lambda _rows: None, lambda _facts: None, completeness_of(GEXBOT, lambda _facts: None),
            feed, self.clock, PlausibleDays(US), lambda: None, lambda _interrupted: None,
        )  # fmt: skip

    def live(self) -> None:
        second = self.clock.now_ms() // 1000 - OPEN_SEC
        self.intake.push([[cast("Tick", snapshot(SPX, second))]])

    def copy_of_yesterday(self) -> None:
        self.intake.push([[cast("Tick", snapshot(SPX, -86_400, COPY))]], replayed=True)

    def says(self) -> tuple[str, str | None]:
        return status_word(self.judge.complaints(NOTHING_WAITS))


def test_a_silent_feed_is_told_also_while_files_of_past_days_are_read() -> None:
    feed = Feed()
    feed.live()
    for _ in range(12):
        feed.clock.advance(10)
        feed.live()
        assert feed.says() == ("ok", None)
    for _ in range(13):
        feed.clock.advance(10)
        feed.copy_of_yesterday()
    assert feed.says() == ("alert", "market is open and no snapshot came for 130 s")
    assert len(feed.stored) == 1 + 12 + 13  # the copies are kept all the same
    feed.live()
    assert feed.says() == ("ok", None)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return record(
        tmp_path / "US", [snapshot(SPX, 5), snapshot(SPX, 6), snapshot(NDX, 9)], [copied(SPX, [5, 6]), copied(NDX, [9])]
    )


def test_the_newest_day_is_the_file_of_snapshots(root: Path) -> None:
    condition = look(root, CALENDAR, (OPEN_SEC + 86_400) * 1000)
    assert condition.day is not None
    assert (condition.day.trading_day, condition.day.rows, condition.day.series) == (DAY, 3, 2)
    assert condition.day.newest_ts_ms == (OPEN_SEC + 9) * 1000
    assert condition.noun == SNAPSHOTS.noun
    (told,) = [text for name, text, _ in rows(condition) if name == "day"]
    assert (
        told == f"{DAY} (newest recorded): 3 snapshots, newest 2026-11-27 09:30:09 ET; 2 series: hk-tickctl snapshots"
    )
    assert condition.disk is not None
    assert condition.disk.day_bytes  # what a day needs is known
    # Nobody records there: that is worth a call, as it is of a root of ticks.
    assert [finding.code for finding in Seer().findings(condition)] == [Code.RECORDER_DOWN]


def test_a_damaged_file_days_to_come_and_a_spill_of_snapshots_are_told(root: Path) -> None:
    record(root, [snapshot(SPX, 5 * 86_400)])
    spill = root / "_spill" / "snapshots"
    spill.mkdir(parents=True)
    (spill / "1.spill").write_bytes(b"12345")
    snapshot_file(root, DAY).write_bytes(b"no database" * 500)
    condition = look(root, CALENDAR, (OPEN_SEC + 86_400) * 1000)
    told = {complaint.code: (complaint.level, complaint.sentence) for complaint in condition.complaints}
    assert told[Code.DAY_FILE_UNREADABLE][0] is Level.ALERT
    assert told[Code.DAYS_TO_COME] == (
        Level.ALERT,
        "there are files of days to come (20261202.snapshot.db): their snapshots carry a wrong date, or this machine's "
        "clock is wrong; if the clock is right: move these files away",
    )
    assert told[Code.SPILL_WAITING][1] == "5 bytes wait in the spill; the recorder stores them when it starts"
