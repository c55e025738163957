"""What is wrong outside of the recorder: a hook that fell silent, a day that nobody put away."""

from __future__ import annotations

from pathlib import Path

import pytest

from hk_tick_collector.alert.outside import ARCHIVE_LATE_MS, DAYS_EVERY_MS, HOOKS_EVERY_MS, Outside
from hk_tick_collector.core.complaint import Code
from hk_tick_collector.days.catalog import Catalog
from hk_tick_collector.market.calendar import TradingCalendar
from hk_tick_collector.market.hk import HK
from hk_tick_collector.store.signals import SignalStore
from tests.archived_day import archive_day
from tests.tickctl import record_day
from tests.ticks import DAY

CALENDAR = TradingCalendar(HK)
NEXT = "20261123"  # DAY is a Friday
OPEN_MS = HK.continuous_windows(NEXT, CALENDAR.day_kind(NEXT))[0][0]
MINUTE_MS = 60_000


@pytest.fixture
def hooks(tmp_path: Path) -> Path:
    store = SignalStore(tmp_path / "hooks")
    for name, at_ms in (("ml-trade", OPEN_MS + 60 * MINUTE_MS), ("other", OPEN_MS + 80 * MINUTE_MS)):
        store.add(name, "HK.00700", {"side": "BUY"}, recv_ts_ms=at_ms, cursor=None, sender="tests")
    store.close()
    return tmp_path / "hooks"


def seen(outside: Outside, at_ms: int) -> list[tuple[str, str]]:
    return [(finding.code, finding.subject) for finding in outside.findings(at_ms)]


def outside_of(tmp_path: Path, hooks_dir: Path | None = None, **silent_sec: float) -> Outside:
    named = {name.replace("_", "-"): sec for name, sec in silent_sec.items()}
    return Outside(Catalog(tmp_path / "HK", tmp_path / "archive"), CALENDAR, named, hooks_dir)


def test_a_hook_is_silent_in_continuous_trading_alone(tmp_path: Path, hooks: Path) -> None:
    def look(minute: float) -> list[tuple[str, str]]:
        return seen(outside_of(tmp_path, hooks, ml_trade=1800), OPEN_MS + int(minute * MINUTE_MS))

    silent = [(Code.HOOK_SILENT, "ml-trade")]
    assert look(-10) == []
    assert look(89) == []
    assert look(90) == silent
    assert look(150) == []  # the lunch break
    assert look(211) == []  # a minute into the afternoon, of which silence is counted anew
    assert look(240) == silent
    assert look(24 * 60) == []


def test_a_hook_that_never_sent_is_silent_since_the_opening(tmp_path: Path) -> None:
    outside = outside_of(tmp_path, tmp_path / "none", ml_trade=600)
    assert seen(outside, OPEN_MS + 9 * MINUTE_MS) == []
    (finding,) = outside.findings(OPEN_MS + 10 * MINUTE_MS)
    assert finding.sentence == "no signal of ml-trade for 10 minutes of trading (none came yet)"


def test_what_was_found_holds_until_the_next_look(tmp_path: Path, hooks: Path) -> None:
    outside, at_ms = outside_of(tmp_path, hooks, ml_trade=1800), OPEN_MS + 90 * MINUTE_MS
    silent = [(Code.HOOK_SILENT, "ml-trade")]
    assert seen(outside, at_ms) == silent
    store = SignalStore(hooks)
    store.add("ml-trade", "HK.00700", {}, recv_ts_ms=at_ms + 1000, cursor=None, sender="tests")
    store.close()
    assert seen(outside, at_ms + 2000) == silent
    assert seen(outside, at_ms + HOOKS_EVERY_MS) == []


def test_a_day_that_nobody_put_away(tmp_path: Path) -> None:
    root, archive = tmp_path / "HK", tmp_path / "archive"
    record_day(root, "20261119")
    record_day(root, DAY)
    late_ms = CALENDAR.no_more_ticks_ms(DAY) + ARCHIVE_LATE_MS
    assert seen(outside_of(tmp_path), late_ms) == [], "where nothing is archived, nothing is late"
    archive_day(root, archive, "20261119")
    left = [(Code.DAY_NOT_ARCHIVED, DAY)]
    assert seen(outside_of(tmp_path), late_ms - 1) == []
    assert seen(outside_of(tmp_path), late_ms) == left
    outside = outside_of(tmp_path)
    assert seen(outside, OPEN_MS) == left, "on Monday still"
    archive_day(root, archive, DAY)
    assert seen(outside, OPEN_MS + DAYS_EVERY_MS) == []
