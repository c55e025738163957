"""What time may do: a stepped clock, midnight, half days, the middle of a session."""

from __future__ import annotations

import time

from tests.faults.lab import Lab, Verdict, codes, healed, more_recorded, one_more_line, recorded, select
from tests.harness import Recorder, other_clock, stored_rows, wait_until

THIRTY = codes(30)


def test_the_machines_clock_is_stepped_by_an_hour(lab: Lab) -> None:
    offset = lab.directory / "offset"

    def step_to(text: str) -> None:
        new = offset.with_suffix(".new")
        new.write_text(f"{text}\n")
        new.replace(offset)  # whole or not at all: libfaketime ends a process that reads an empty file

    step_to("+0")
    simulator = lab.market(rate=150)
    recorder = lab.recording(simulator, 300, **other_clock(FAKETIME_TIMESTAMP_FILE=offset, FAKETIME_NO_CACHE=1))
    for step in ("+3600", "-3600", "+0"):
        step_to(step)
        more_recorded(recorder, 400)
    healed(recorder)
    lab.finish(simulator, recorder).assert_complete()
    (row,) = select(lab.day_file, "SELECT MAX(recv_ts_ms) - MIN(recv_ts_ms) AS span_ms FROM ticks")
    assert row["span_ms"] > 7_000_000, "the clock was not stepped"


def test_day_change_at_midnight_with_late_ticks(lab: Lab) -> None:
    simulator = lab.market("--always-open", start="2026-11-20T23:59:50")
    recorder = lab.recording(simulator)
    simulator.ctl("late ms=2500 percent=50 seconds=12")
    next_day = lab.data_root / "20261121.db"
    wait_until(next_day.exists, "the next day's file")
    simulator.ctl("drop")
    one_more_line(recorder, "backfill_done", 1)
    count = "SELECT COUNT(*) AS count FROM ticks"
    wait_until(lambda: select(next_day, count)[0]["count"] > 1500, "ticks after midnight")
    simulator.ctl("clear")
    healed(recorder)
    verdict = lab.finish(simulator, recorder)
    verdict.assert_complete(("20261120", "20261121"))
    assert not [gap for claim in verdict.of_day("20261121") for gap in claim.gaps], "a day seen from its first tick"
    for day in ("20261120", "20261121"):
        assert select(lab.data_root / f"{day}.db", "SELECT DISTINCT trading_day FROM ticks") == [{"trading_day": day}]


def test_a_restart_just_after_midnight(lab: Lab) -> None:
    simulator = lab.market("--always-open", start="2026-11-20T23:59:55")
    recorder = lab.recording(simulator, 300)
    wait_until((lab.data_root / "20261121.db").exists, "the next day's file")
    assert recorder.stop() == 0
    again = lab.recording(simulator, stored_rows(lab.data_root) + 600)
    lab.finish(simulator, again).assert_complete(("20261120", "20261121"))


def _auction_prints(verdict: Verdict, lab: Lab, day: str) -> None:
    verdict.assert_complete((day,))
    rows = select(
        lab.data_root / f"{day}.db",
        "SELECT time(ts_ms / 1000 + 28800, 'unixepoch') AS hk, symbol FROM ticks WHERE tick_type = 'AUCTION'",
    )
    closing = [row for row in rows if row["hk"] > "12:00:00"]
    assert len(closing) >= 25, rows
    assert all("12:08:10" <= row["hk"] <= "12:08:20" for row in closing), closing


def test_half_day_with_its_closing_auction(lab: Lab) -> None:
    simulator = lab.market(symbols=THIRTY, rate=None, speed=60, start="2026-12-24T11:53:00")
    recorder = lab.recorder(simulator, THIRTY)
    day_file = lab.data_root / "20261224.db"
    last_auction = "SELECT COUNT(*) AS count FROM ticks WHERE tick_type = 'AUCTION' AND ts_ms % 86400000 > 14400000"
    recorder.wait_for("backfill_done")
    wait_until(lambda: day_file.exists() and select(day_file, last_auction)[0]["count"] >= 25, "the closing auction")
    _wait_still(recorder)
    _auction_prints(lab.finish(simulator, recorder), lab, "20261224")


def _wait_still(recorder: Recorder) -> None:
    """The last print of the day is stored: rows stop growing."""
    rows = -1
    while recorder.rows() > rows:
        rows = recorder.rows()
        time.sleep(1)


def test_start_in_mid_session_says_that_the_morning_is_unknown(lab: Lab) -> None:
    simulator = lab.market(start="2026-11-20T10:15:00")
    recorder = lab.recording(simulator, 3600)
    recorded(recorder, 4200)
    verdict = lab.finish(simulator, recorder)
    verdict.assert_complete()
    for claim in verdict.of_day():
        (gap,) = claim.gaps
        assert gap["missing_ticks"] is None, gap
        assert gap["state"] == "open"
        assert "mid-session" in gap["reason"]
        assert claim.coverage["state"] == "unproven", claim.coverage
        assert "may have come before the first one seen" in claim.coverage["reason"], claim.coverage
        assert not claim.coverage["head_proven"]
