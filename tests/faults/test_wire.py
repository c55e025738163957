"""What may go wrong on the wire: pushes lost, doubled, disordered, broken off, silent; the file is complete anyway."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime

import pytest

from tests.faults.lab import (
    DAY,
    Lab,
    codes,
    count_lines,
    each_in_hk_and_at_night_in_us,
    each_in_hk_and_us,
    healed,
    in_hk_and_at_night_in_us,
    in_hk_and_us,
    more_recorded,
    one_more_line,
    recorded,
    select,
)
from tests.harness import wait_until


def test_steady_and_the_day_is_proven(lab: Lab) -> None:
    simulator = lab.market()
    recorder = lab.recording(simulator, 3000)
    healed(recorder)
    proven = "SELECT COUNT(*) AS count FROM coverage WHERE state = 'proven'"
    wait_until(lambda: select(lab.day_file, proven)[0]["count"] == 3, "three symbols proven")
    verdict = lab.finish(simulator, recorder)
    verdict.assert_complete()
    states = {claim.symbol: claim.coverage["state"] for claim in verdict.of_day()}
    assert set(states.values()) == {"proven"}, [claim.coverage for claim in verdict.of_day()]
    assert len(states) == 3


@pytest.mark.parametrize("zone", ["America/Los_Angeles", "Asia/Kathmandu"])
def test_foreign_time_zone(lab: Lab, zone: str) -> None:
    simulator = lab.market("--always-open", start=None)  # real time, so that zone and clock can be confused
    recorder = lab.recording(simulator, 1500, TZ=zone)
    recorder.wait_for("backfill_done")
    more_recorded(recorder, 600)  # two seconds of pushes: what was pulled, all of it history, was enough until here
    lab.finish(simulator, recorder).assert_complete()
    for path in lab.data_root.glob("*.db"):
        (row,) = select(path, "SELECT MAX(ts_ms) AS newest_ms, MAX(recv_ts_ms - ts_ms) AS late_ms FROM ticks")
        day = datetime.fromtimestamp(row["newest_ms"] / 1000 + 8 * 3600, UTC)
        assert path.stem == f"{day:%Y%m%d}", "the day is Hong Kong's"


@each_in_hk_and_us("fault", ["twice", "disorder", "late ms=700 percent=20", "skip percent=5"])
def test_pushes_that_come_otherwise(lab: Lab, fault: str) -> None:
    simulator = lab.market()
    recorder = lab.recording(simulator)
    simulator.ctl(fault)
    more_recorded(recorder, 1500)
    simulator.ctl("clear")
    healed(recorder)
    lab.finish(simulator, recorder).assert_complete()


def test_silent_push_is_polled_and_the_connection_rebuilt(lab: Lab) -> None:
    simulator = lab.market(rate=100)
    recorder = lab.recording(simulator, 300, WATCHDOG_UPSTREAM_WINDOW_SEC=3)
    simulator.ctl("silent")
    recorder.wait_for("WATCHDOG feed_silent .*no push for")
    one_more_line(recorder, "futu_connected", 1)
    simulator.ctl("clear")
    more_recorded(recorder, 300)
    healed(recorder)
    lab.finish(simulator, recorder).assert_complete()
    (polled,) = select(lab.day_file, "SELECT COUNT(*) AS count FROM ticks WHERE push_type = 'poll'")
    assert polled["count"] > 0


@in_hk_and_at_night_in_us
def test_one_silent_symbol_among_busy_ones(lab: Lab) -> None:
    simulator = lab.market(rate=150)
    recorder = lab.recording(simulator, 300)
    simulator.ctl(f"silent symbol={lab.symbol(1)}")
    more_recorded(recorder, 900)
    simulator.ctl("clear")
    more_recorded(recorder, 150)
    healed(recorder)
    lab.finish(simulator, recorder).assert_complete()
    assert not count_lines(recorder, "WATCHDOG"), "quiet symbols are normal"


@in_hk_and_us
def test_drop_with_the_market_going_on(lab: Lab) -> None:
    simulator = lab.market()
    recorder = lab.recording(simulator)
    for number in range(1, 4):
        simulator.ctl("drop")
        one_more_line(recorder, "backfill_done", number)
        more_recorded(recorder, 200)
    recorder.wait_for("futu_disconnected reason=")
    lab.finish(simulator, recorder).assert_complete()


@each_in_hk_and_at_night_in_us("fault", ["cut", "bad-sha1 next=5", "oversize"])
def test_broken_frames(lab: Lab, fault: str) -> None:
    simulator = lab.market()
    recorder = lab.recording(simulator)
    simulator.ctl(fault)
    more_recorded(recorder, 1200)
    healed(recorder)
    lab.finish(simulator, recorder).assert_complete()
    assert re.search("futu_disconnected|futu_frame_bad_sha1", recorder.output), "the fault did not strike"


def test_hang_without_close(lab: Lab) -> None:
    simulator = lab.market(rate=60)
    recorder = lab.recording(simulator, 200)
    simulator.ctl("hang")
    recorder.wait_for("futu_disconnected reason=.*mute")
    simulator.ctl("clear kind=hang")
    one_more_line(recorder, "backfill_done", 1)
    healed(recorder)
    lab.finish(simulator, recorder).assert_complete()


@in_hk_and_us
def test_unreadable_tick_among_a_hundred(lab: Lab) -> None:
    simulator = lab.market()
    recorder = lab.recording(simulator)
    simulator.ctl("unreadable every=100")
    more_recorded(recorder, 1500)
    simulator.ctl("clear")
    recorder.wait_for("tick_quarantined symbol=.* reason=.*no known form")
    healed(recorder)
    lab.finish(simulator, recorder).assert_complete()  # the pull brings the readable tick
    kept = [json.loads(line) for path in (lab.data_root / "_quarantine").iterdir() for line in path.open()]
    assert 10 <= len(kept) <= 200
    assert all(entry["reason"] and entry["raw"] and entry["symbol"] in lab.stage.symbols for entry in kept)


@each_in_hk_and_us("kind", ["future", "turnover"])
def test_absurd_ticks_are_kept_apart_and_fetched_as_they_are(lab: Lab, kind: str) -> None:
    simulator = lab.market()
    recorder = lab.recording(simulator)
    simulator.ctl(f"unreadable every=20 kind={kind}")
    more_recorded(recorder, 900)
    simulator.ctl("clear")
    healed(recorder)
    lab.finish(simulator, recorder).assert_complete()
    assert max(path.name for path in lab.data_root.glob("*.db")) == f"{DAY}.db"
    kept = [json.loads(line) for path in (lab.data_root / "_quarantine").iterdir() for line in path.open()]
    assert {entry["code"] for entry in kept} == {{"future": "day", "turnover": "turnover"}[kind]}
    assert count_lines(recorder, "tick_quarantined") < 10


@in_hk_and_at_night_in_us
def test_a_sign_that_no_encoding_can_write_does_not_end_the_recorder(lab: Lab) -> None:
    simulator = lab.market()
    recorder = lab.recording(simulator)
    simulator.ctl("unreadable every=3 kind=sign")
    more_recorded(recorder, 900)
    assert recorder.stop() == 0, recorder.output
    signs = select(lab.day_file, "SELECT count(*) AS ticks FROM ticks WHERE type_sign = 'SIGN_55296'")
    assert signs[0]["ticks"] > 100
    assert not list((lab.data_root / "_quarantine").iterdir())


def test_holes_are_closed_within_two_seconds(lab: Lab) -> None:
    simulator = lab.market(symbols=codes(900), rate=1000)
    recorder = lab.recording(simulator, 2000, codes(900))
    simulator.ctl("skip percent=5 seconds=6")
    seen = recorder.rows()
    recorded(recorder, seen + 8000)
    healed(recorder)
    simulator.ctl("drop")  # the lost last push of a symbol that fell quiet leaves no hole; a backfill shows it
    one_more_line(recorder, "backfill_done", 1)
    healed(recorder)
    lab.finish(simulator, recorder).assert_complete()
    delays_ms = sorted(_repair_delays_ms(lab))
    assert len(delays_ms) > 50, "the fault did not strike"
    print(f"repaired after {delays_ms[len(delays_ms) // 2]} ms, 99 % within {delays_ms[int(len(delays_ms) * 0.99)]} ms")


def test_nine_hundred_symbols_are_back_with_the_first_connection(lab: Lab) -> None:
    simulator = lab.market(symbols=codes(900), rate=1000)
    recorder = lab.recording(simulator, 2000, codes(900))
    before = simulator.ctl("status")["clients_total"]
    simulator.ctl("restart seconds=1")
    one_more_line(recorder, "backfill_done symbols=900 failed=0", 1)
    recorder.wait_for("futu_subscribed symbols=900 wanted=900")
    assert simulator.ctl("status")["clients_total"] == before + 1
    lab.finish(simulator, recorder).assert_complete()


def _repair_delays_ms(lab: Lab) -> list[int]:
    """For each repaired tick: from the push that showed the hole to the answer that closed it."""
    delays: list[int] = []
    waiting: list[int] = []
    symbol = ""
    rows = select(
        lab.day_file, "SELECT symbol, push_type, recv_ts_ms FROM ticks WHERE trading_day = ? ORDER BY symbol, seq", DAY
    )
    for row in rows:
        if row["symbol"] != symbol:
            symbol, waiting = row["symbol"], []
        if row["push_type"] == "repair":
            waiting.append(row["recv_ts_ms"])
        else:
            delays += [repaired_ms - row["recv_ts_ms"] for repaired_ms in waiting]
            waiting = []
    return delays
