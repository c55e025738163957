"""What only US stocks have: a day that begins in the evening, clocks that change, pushes that nothing tells of.

The faults that both markets have are marked ``in_hk_and_us`` where they stand.
"""

from __future__ import annotations

import pytest

from tests.faults.lab import Lab, count_lines, healed, in_us, market_time_ms, more_recorded, one_more_line, select
from tests.harness import wait_until

pytestmark = in_us
HOUR_MS = 3_600_000


def test_the_day_changes_at_20_in_the_evening(lab: Lab) -> None:
    simulator = lab.market(start="2026-11-18T19:59:57")  # a Wednesday
    recorder = lab.recording(simulator)
    next_day = lab.data_root / "20261119.db"
    wait_until(next_day.exists, f"the next day's file\n{recorder.output}")
    more_recorded(recorder, 600)
    lab.finish(simulator, recorder).assert_complete()
    (first,) = select(next_day, "SELECT MIN(ts_ms) AS ms FROM ticks")
    assert first["ms"] // HOUR_MS % 24 == 1, "20:00 in New York is 01:00 UTC in winter"


@pytest.mark.parametrize(
    ("opens", "day", "utc_hour"),
    [("2026-03-08T20:00:00", "20260309", 0), ("2026-11-01T20:00:00", "20261102", 1)],
    ids=["forward", "back"],
)
def test_the_first_evening_after_the_clocks_were_changed(lab: Lab, opens: str, day: str, utc_hour: int) -> None:
    simulator = lab.market(start=opens)
    recorder = lab.recording(simulator)
    more_recorded(recorder, 600)
    verdict = lab.finish(simulator, recorder)
    verdict.assert_complete()
    assert len(verdict.of_day(day)) == 3
    (first,) = select(lab.data_root / f"{day}.db", "SELECT MIN(ts_ms) AS ms FROM ticks")
    assert first["ms"] // HOUR_MS % 24 == utc_hour


def test_lost_pushes_that_no_counter_tells_of_are_fetched_as_ticks_go_on(lab: Lab) -> None:
    """Without a new connection: a symbol is asked for about as often as 300 of its ticks were made."""
    simulator = lab.market()
    recorder = lab.recording(simulator)
    simulator.ctl("skip next=30")
    wait_until(lambda: simulator.ctl("status")["hits"].get("skip") == 30, "the fault to strike")
    more_recorded(recorder, 2100)  # 700 of each
    asked_ms = market_time_ms(simulator)
    assert recorder.stop() == 0
    lab.verdict(simulator, recorder, asked_ms).assert_complete()
    (fetched,) = select(lab.day_file, "SELECT COUNT(*) AS rows FROM ticks WHERE push_type = 'poll'")
    assert fetched["rows"] >= 30
    assert count_lines(recorder, "backfill_done") == 1


def test_an_absence_longer_than_opend_shows_is_said_though_nobody_can_count_it(lab: Lab) -> None:
    symbol = lab.symbol(0)
    simulator = lab.market(symbols=symbol, rate=250)
    recorder = lab.recording(simulator, 600, symbol)
    simulator.ctl("refuse seconds=6")
    simulator.ctl("drop")
    one_more_line(recorder, "backfill_done", 1)
    more_recorded(recorder, 300)
    healed(recorder)
    verdict = lab.finish(simulator, recorder)
    assert verdict.report["missing"] >= 400, "the connection was not away for long enough"
    assert all(verdict.report[word] == 0 for word in ("extra", "wrong", "duplicate")), verdict.report
    verdict.assert_true_claims()
    claims = verdict.of_day()
    assert "before and after an interruption together" in claims[0].coverage["reason"], claims[0].coverage
