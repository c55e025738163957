"""What may go wrong with OpenD: restarts, lost server and login, refusals, quota; and what it can no longer show."""

from __future__ import annotations

import socket
from types import SimpleNamespace

from tests.faults.lab import (
    BEFORE_OPENING,
    Lab,
    codes,
    count_lines,
    healed,
    in_hk_and_at_night_in_us,
    in_hk_and_us,
    kill_9,
    market_time_ms,
    more_recorded,
    one_more_line,
    select,
)
from tests.harness import wait_until


@in_hk_and_us
def test_opend_restart(lab: Lab) -> None:
    simulator = lab.market()
    recorder = lab.recording(simulator)
    simulator.ctl("restart seconds=2")
    recorder.wait_for("futu_disconnected reason=")
    recorder.wait_for("futu_connect_failed .*action=")
    one_more_line(recorder, "backfill_done", 1)
    more_recorded(recorder, 300)
    lab.assert_complete_at_rest(simulator, recorder)


@in_hk_and_at_night_in_us
def test_opend_loses_its_server(lab: Lab) -> None:
    simulator = lab.market()
    recorder = lab.recording(simulator)
    simulator.ctl("lose-server seconds=3")  # 300 ticks a symbol are missed, OpenD pushes the last 50 of them
    recorder.wait_for("futu_notice kind=ConnStatus .*qot_logined=False")
    more_recorded(recorder, 1500)
    healed(recorder)
    lab.assert_complete_at_rest(simulator, recorder)


def test_resubscription_refused_at_the_second_batch(lab: Lab) -> None:
    simulator = lab.market(symbols=codes(250))
    recorder = lab.recording(simulator, 600, codes(250))
    simulator.ctl("fail-subscribe every=2 next=3")
    simulator.ctl("drop")
    one_more_line(recorder, "backfill_done", 1)
    recorder.wait_for("futu_subscribed symbols=250 wanted=250")
    assert simulator.ctl("status")["hits"]["fail-subscribe"] == 3, "the fault did not strike"
    healed(recorder)
    lab.assert_complete_at_rest(simulator, recorder)


@in_hk_and_us
def test_quota_short_records_what_fits_and_the_rest_when_there_is_room(lab: Lab) -> None:
    simulator = lab.market(rate=100, quota=2)
    recorder = lab.recording(simulator, 200)
    recorder.wait_for(f"futu_symbol_refused symbol={lab.symbol(2)} reason=.*quota")
    recorder.wait_for("futu_subscribed symbols=2 wanted=3 refused=1")
    recorder.wait_for("health .*status=warn .*symbols=2 .*refused=1")
    simulator.ctl("quota limit=1000")
    recorder.wait_for(f"futu_symbol_recovered symbol={lab.symbol(2)}")
    one_more_line(recorder, "backfill_done", 1)
    more_recorded(recorder, 200)
    lab.assert_complete_at_rest(simulator, recorder)


@in_hk_and_at_night_in_us
def test_login_lost_and_back(lab: Lab) -> None:
    simulator = lab.market()
    recorder = lab.recording(simulator)
    simulator.ctl("logout")
    recorder.wait_for("futu_notice kind=ConnStatus .*qot_logined=False")
    recorder.wait_for("futu_not_ready .*action=.*log OpenD in")
    recorder.wait_for("health connected=False .*opend=not_ready")
    simulator.ctl("login")
    one_more_line(recorder, "backfill_done", 1)
    more_recorded(recorder, 600)
    healed(recorder)
    lab.assert_complete_at_rest(simulator, recorder)


@in_hk_and_at_night_in_us
def test_opend_absent_at_start(lab: Lab) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    recorder = lab.recorder(SimpleNamespace(port=port))
    recorder.wait_for("futu_connect_failed .*action=")
    recorder.wait_for("health connected=False status=")
    simulator = lab.market(port=port)
    opened_ms = market_time_ms(simulator)
    recorder.wait_for("backfill_done")
    # What is stored first is from before the start, and of the last moments nothing need be: trading itself must last.
    wait_until(lambda: market_time_ms(simulator) > opened_ms + 3000, "three seconds of the market")
    more_recorded(recorder, 300)
    lab.assert_complete_at_rest(simulator, recorder)


def test_what_opend_can_no_longer_show_is_in_gaps_with_its_number(lab: Lab) -> None:
    simulator = lab.market(symbols="HK.00700", rate=250, start=BEFORE_OPENING)
    recorder = lab.recording(simulator, 600, "HK.00700")
    simulator.ctl("refuse seconds=7")
    simulator.ctl("drop")
    recorder.wait_for("hole_unrepaired symbol=HK.00700 .*missing_ticks=.*beyond the newest 1000")
    recorder.wait_for(r"health connected=True status=warn .* open_holes=0 missing_ticks=[1-9]")
    verdict = lab.finish(simulator, recorder)
    missing = verdict.assert_missing_in_gaps()
    assert missing >= 500, "the connection was not away for long enough"
    (gap,) = verdict.of_day()[0].gaps
    assert gap["missing_ticks"] == missing
    assert gap["state"] == "open"
    assert gap["gap_sec"] == (gap["gap_end_ts_ms"] - gap["gap_start_ts_ms"]) / 1000
    edges = select(
        lab.day_file,
        "SELECT COUNT(*) AS count FROM ticks WHERE ts_ms > ? AND ts_ms < ?",
        gap["gap_start_ts_ms"],
        gap["gap_end_ts_ms"],
    )
    assert edges == [{"count": 0}], "nothing is stored between the edges of a gap"


def test_a_gap_is_remembered_and_not_searched_again_after_a_restart(lab: Lab) -> None:
    simulator = lab.market(symbols="HK.00700", rate=250, start=BEFORE_OPENING)
    recorder = lab.recording(simulator, 600, "HK.00700")
    simulator.ctl("refuse seconds=7")
    simulator.ctl("drop")
    recorder.wait_for("hole_unrepaired")
    assert recorder.stop() == 0
    again = lab.recording(simulator, 600, "HK.00700")
    again.wait_for(r"health connected=True .* open_holes=0 missing_ticks=[1-9]")
    verdict = lab.finish(simulator, again)
    assert verdict.assert_missing_in_gaps() >= 500
    assert len(verdict.of_day()[0].gaps) == 1
    assert not count_lines(again, "hole_unrepaired"), "an old gap is no news"


@in_hk_and_at_night_in_us
def test_kicked_out_by_another_terminal(lab: Lab) -> None:
    simulator = lab.market(rate=150)
    recorder = lab.recording(simulator, 300)
    simulator.ctl("kick-out")
    recorder.wait_for("futu_notice kind=GtwEvent name=KickedOut .*action=.*another client")
    simulator.ctl("login")
    one_more_line(recorder, "backfill_done", 1)
    more_recorded(recorder, 300)
    wait_until(lambda: recorder.find("health connected=True"), "connected again")
    lab.assert_complete_at_rest(simulator, recorder)


def test_an_opend_that_never_says_what_is_subscribed(lab: Lab) -> None:
    simulator = lab.market(rate=60)
    simulator.ctl("keep-silent kind=list")
    recorder = lab.recording(simulator, 200)
    healed(recorder)
    verdict = lab.finish(simulator, recorder)
    verdict.assert_complete()
    assert "futu_list_unknown symbols=0 " in recorder.output
    assert "refused=0 remain_quota=unknown" in recorder.output
    assert "futu_disconnected" not in recorder.output


def test_an_opend_that_refuses_to_say_how_it_is(lab: Lab) -> None:
    simulator = lab.market(rate=60)
    simulator.ctl("fail-state")
    recorder = lab.recording(simulator, 200)
    wait_until(lambda: simulator.ctl("status")["hits"]["fail-state"] > 3, "asked again and again")
    more_recorded(recorder, 200)
    simulator.ctl("clear")
    one_more_line(recorder, "backfill_done", 1)
    verdict = lab.finish(simulator, recorder)
    verdict.assert_complete()
    assert "futu_state_unknown error=" in recorder.output
    assert "futu_disconnected" not in recorder.output


def test_a_hole_that_a_crash_left_open_is_in_gaps_when_opend_no_longer_shows_it(lab: Lab) -> None:
    simulator = lab.market(symbols="HK.00700", rate=400, start=BEFORE_OPENING)
    recorder = lab.recording(simulator, 600, "HK.00700")
    simulator.ctl("delay-answers ms=9000")  # no repair comes in time
    simulator.ctl("skip next=5")
    recorder.wait_for("health .*open_holes=[1-9]")
    kill_9(recorder)
    simulator.ctl("clear")
    old = simulator.ctl("status")["ticks_arrived"]
    wait_until(lambda: simulator.ctl("status")["ticks_arrived"] > old + 1800, "1,000 newer ticks and more")
    again = lab.recording(simulator, 600, "HK.00700")
    more_recorded(again, 300)
    again.wait_for("health connected=True .* open_holes=0 missing_ticks=[1-9]")
    verdict = lab.finish(simulator, again)
    assert verdict.assert_missing_in_gaps() > 500
    assert len(verdict.of_day()[0].gaps) >= 2, "the old hole and the absence"
