"""What may happen to the process: stopped in order or in disorder, killed, frozen, broken inside, started twice."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from hk_tick_collector.opend_sim.truth import read_truth
from tests.faults.lab import (
    Lab,
    codes,
    count_lines,
    healed,
    in_hk_and_at_night_in_us,
    in_hk_and_us,
    kill_9,
    locked,
    market_time_ms,
    more_recorded,
    one_more_line,
    recorded,
)
from tests.harness import Recorder, wait_until
from tests.nights import every_test

BROKEN = Path(__file__).with_name("broken_recorder.py")
FIFTY = codes(50)
QUEUED_ROWS = 20_000
RESTARTED_RATE = 200  # a busy machine takes its time to start: OpenD shows what three symbols traded in 15 s


@contextmanager
def backlog(lab: Lab, recorder: Recorder) -> Iterator[None]:
    """20,000 rows wait in memory, because another program holds the day file."""
    with locked(lab.day_file):
        wait_until(lambda: _queue_rows(recorder) >= QUEUED_ROWS, f"{QUEUED_ROWS} rows queued\n{recorder.output}")
        yield


def _queue_rows(recorder: Recorder) -> int:
    match = recorder.find(r"health .* queue=(\d+)")
    return int(match.group(1)) if match else 0


def _newest_taken_ms(recorder: Recorder) -> int:
    match = recorder.find(r"health .* max_ts_utc=(\S+)")
    return round(datetime.fromisoformat(match.group(1)).timestamp() * 1000) if match else 0


def test_sigterm_with_twenty_thousand_queued_stores_them_all(lab: Lab) -> None:
    simulator = lab.market(symbols=FIFTY, rate=5000)
    recorder = lab.recording(simulator, 3000, FIFTY, MAX_QUEUE_SIZE=100_000)
    with backlog(lab, recorder):
        before_rows = recorder.rows()
        simulator.ctl("stand")  # else a busy machine is judged: what it had not read yet
        asked_ms = market_time_ms(simulator)
        newest_ms = max(tick.ts_ms for tick in read_truth(simulator.truth))
        wait_until(lambda: _newest_taken_ms(recorder) >= newest_ms, f"the newest tick is queued\n{recorder.output}")
        recorder.signal(signal.SIGTERM)
        recorder.wait_for("signal name=SIGTERM")
    assert recorder.wait() == 0, recorder.output
    assert recorder.rows() >= before_rows + QUEUED_ROWS
    recorder.wait_for("recorder_stopped exit_code=0 .*spill_rows=0")
    lab.verdict(simulator, recorder, asked_ms).assert_complete()


@in_hk_and_at_night_in_us
def test_sigterm_while_the_file_stays_locked_spills_and_the_next_start_stores(lab: Lab) -> None:
    simulator = lab.market(rate=RESTARTED_RATE)
    recorder = lab.recording(simulator, 600, STOP_FLUSH_TIMEOUT_SEC=2)
    with locked(lab.day_file):
        time.sleep(2)  # a backlog of any size
        assert recorder.stop() == 0, recorder.output
        recorder.wait_for("stop_spilled rows=[1-9]")
    again = lab.recording(simulator, 1500)
    again.wait_for("recorder_started .*spill_rows=[1-9]")
    again.wait_for("spill_drained")
    lab.assert_complete_at_rest(simulator, again)


def test_two_sigterms_cut_the_waiting_short_but_not_the_spill(lab: Lab) -> None:
    simulator = lab.market(symbols=FIFTY, rate=5000)
    # One signal alone would wait for longer than this test does.
    recorder = lab.recording(simulator, 3000, FIFTY, MAX_QUEUE_SIZE=100_000, STOP_FLUSH_TIMEOUT_SEC=300)
    with backlog(lab, recorder):
        simulator.ctl("stand")  # while nobody records: a slow machine would miss more than OpenD keeps
        recorder.signal(signal.SIGTERM)
        recorder.wait_for("signal name=SIGTERM count=1")
        recorder.signal(signal.SIGTERM)
        assert recorder.wait() == 0, recorder.output
        recorder.wait_for("recorder_stopped exit_code=0 .*spill_rows=[1-9]")
    again = lab.recorder(simulator, FIFTY)
    again.wait_for(r"recorder_started .*spill_rows=\d{5}")
    again.wait_for("backfill_done")
    simulator.ctl("run")
    again.wait_for("spill_drained")
    lab.assert_complete_at_rest(simulator, again)


def test_kill_9_at_load_again_and_again(lab: Lab) -> None:
    simulator = lab.market(symbols=FIFTY, rate=1000)
    for _ in range(5 if every_test() else 2):
        recorder = lab.recorder(simulator, FIFTY)
        recorder.wait_for("futu_connected")
        more_recorded(recorder, 1500)
        kill_9(recorder)
    recorder = lab.recording(simulator, 1000, FIFTY)
    healed(recorder)
    lab.assert_complete_at_rest(simulator, recorder)


@in_hk_and_us
def test_kill_9_with_rows_in_the_spill(lab: Lab) -> None:
    simulator = lab.market(rate=RESTARTED_RATE)
    recorder = lab.recording(simulator, 600, BATCH_SIZE=100, MAX_QUEUE_SIZE=200)
    with locked(lab.day_file):
        recorder.wait_for("health .* spill=[1-9]")
        kill_9(recorder)
    again = lab.recording(simulator, 600)
    again.wait_for("spill_drained")
    healed(again)
    lab.assert_complete_at_rest(simulator, again)


@in_hk_and_at_night_in_us
def test_a_bug_that_strikes_once_costs_nothing(lab: Lab) -> None:
    simulator = lab.market()
    recorder = lab.recorder(simulator, command=[sys.executable, BROKEN, "writer-bug"])
    recorder.wait_for("persist_error error=.*ZeroDivisionError")
    more_recorded(recorder, 600)
    healed(recorder)
    lab.assert_complete_at_rest(simulator, recorder)


def test_a_bug_in_the_writer_that_stays_saves_everything_and_exits_1(lab: Lab) -> None:
    """Every batch fails, so no single row is blamed: all of them are in the spill for a recorder without the bug."""
    simulator = lab.market(rate=RESTARTED_RATE)
    impatient = {"WATCHDOG_STALL_SEC": 2, "WATCHDOG_RECOVERY_MAX_FAILURES": 1, "STOP_FLUSH_TIMEOUT_SEC": 2}
    recorder = lab.recorder(simulator, command=[sys.executable, BROKEN, "writer-bug-stays"], **impatient)
    assert recorder.wait() == 1, recorder.output
    recorder.wait_for("persist_error error=.*ZeroDivisionError")
    recorder.wait_for("WATCHDOG persistent_stall")
    recorder.wait_for("recorder_stopped exit_code=1")
    assert not list((lab.data_root / "_quarantine").iterdir())
    again = lab.recording(simulator, 900)
    wait_until(lambda: not list((lab.data_root / "_spill").glob("*.spill")), "the spill is drained")
    healed(again)
    lab.assert_complete_at_rest(simulator, again)


@in_hk_and_at_night_in_us
def test_a_writer_that_hangs_is_replaced(lab: Lab) -> None:
    simulator = lab.market()
    recorder = lab.recorder(simulator, command=[sys.executable, BROKEN, "stuck-writer"], WATCHDOG_STALL_SEC=2)
    recorder.wait_for("WATCHDOG stall reason=")
    recorder.wait_for("writer_recovery reason=")
    more_recorded(recorder, 1500)
    healed(recorder)
    lab.assert_complete_at_rest(simulator, recorder)


def test_stopped_for_fifteen_seconds(lab: Lab) -> None:
    simulator = lab.market(rate=100)
    recorder = lab.recording(simulator, 300)
    recorder.signal(signal.SIGSTOP)
    time.sleep(15)
    recorder.signal(signal.SIGCONT)
    more_recorded(recorder, 1500)
    healed(recorder)
    lab.assert_complete_at_rest(simulator, recorder)


def test_a_service_waits_for_its_own_process_of_before(lab: Lab) -> None:
    """systemd starts the next one beside a process that a hanging disk keeps from dying."""
    simulator = lab.market()
    recorder = lab.recording(simulator, 300)
    following = lab.recorder(simulator, NOTIFY_SOCKET=lab.data_root.parent / "nobody.sock")
    following.wait_for(f"start_waits error=.*this service.s process before .pid {recorder.proc.pid}. has not ended yet")
    recorder.signal(signal.SIGKILL)
    recorder.wait()
    more_recorded(following, 600)
    healed(following)
    lab.assert_complete_at_rest(simulator, following)


def test_a_second_recorder_on_the_root_refuses_with_the_pid(lab: Lab) -> None:
    simulator = lab.market()
    recorder = lab.recording(simulator, 300)
    second = lab.recorder(simulator)
    assert second.wait() == 78, second.output
    assert f"another recorder (pid {recorder.proc.pid})" in second.output
    assert "Traceback" not in second.output
    more_recorded(recorder, 300)
    lab.assert_complete_at_rest(simulator, recorder)


@in_hk_and_at_night_in_us
def test_the_lock_of_a_killed_recorder_is_free(lab: Lab) -> None:
    simulator = lab.market(rate=RESTARTED_RATE)
    kill_9(lab.recording(simulator, 300))
    recorder = lab.recording(simulator, 600)
    lab.assert_complete_at_rest(simulator, recorder)


@in_hk_and_us
def test_a_restart_in_order_continues_where_the_file_ends(lab: Lab) -> None:
    simulator = lab.market(rate=RESTARTED_RATE)
    assert lab.recording(simulator, 600).stop() == 0
    recorder = lab.recording(simulator, 1200)
    one_more_line(recorder, "health connected=True", 0)
    assert count_lines(recorder, "seeded_symbols=3") == 1
    recorded(recorder, 1800)
    lab.assert_complete_at_rest(simulator, recorder)
