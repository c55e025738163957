"""No call into the disk on the loop or on the watchdog's thread, in good days and in trouble; nothing there waits."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from tests.faults.lab import SYMBOLS, Lab, count_lines, healed, locked, more_recorded
from tests.harness import Process, Recorder, clean_env, wait_until

LISTENING = Path(__file__).with_name("listening_recorder.py")
COMMAND = [sys.executable, LISTENING]


# By whoever brings rows, under the lock of the queue or of the quarantine.
UNDER_A_LOCK = {
    *(f"IngestProgress.{name}" for name in ("in_rows", "refused_rows", "last_refused_monotonic", "spilled_rows")),
    *(f"IngestProgress.quarantine{name}_rows" for name in ("d", "_dropped", "_known")),
    *(f"BookProgress.{name}" for name in ("received", "merged", "waiting_since_monotonic")),
}
# By whoever stores, one after another: the writer's thread in its turn, or the loop when that is over.
IN_TURNS = {
    *(f"IngestProgress.{name}" for name in ("out_rows", "last_dequeue_monotonic", "commits", "files_replaced")),
    *(f"IngestProgress.{name}" for name in ("persisted_rows", "ignored_rows", "missing_ticks", "unseen_ticks")),
    *(f"IngestProgress.last_commit_{name}" for name in ("rows", "monotonic", "sec")),
    "IngestProgress.max_committed_ts_ms",
}


def assert_one_writer_a_counter(recorder: Recorder) -> None:
    """Or one lock, or one after another: ``+=`` of two threads at once would lose counts."""
    writers: dict[str, set[str]] = {}
    for line in recorder.lines:
        if line.startswith("counter_written "):
            _, name, thread = line.split(" ", 2)
            writers.setdefault(name.partition("=")[2], set()).add(thread.partition("=")[2])
    assert {"FeedProgress.push_rows", "FeedProgress.connected", "IngestProgress.commits"} <= set(writers)
    assert writers["FeedProgress.push_rows"] != writers["IngestProgress.commits"], "another thread was heard, too"
    storing = {name for threads in writers.values() for name in threads if name.startswith("writer-")} | {"MainThread"}
    assert storing.issuperset(thread for name in IN_TURNS & set(writers) for thread in writers[name])
    shared = UNDER_A_LOCK | IN_TURNS
    assert not {name: threads for name, threads in writers.items() if len(threads) > 1 and name not in shared}


def assert_no_disk_call(recorder: Recorder) -> None:
    calls = [line for line in recorder.lines if line.startswith("disk_call ")]
    assert not calls, "\n".join(calls[:20])


def test_no_disk_call_on_the_loop_or_the_watchdog_s_thread(lab: Lab, tmp_path: Path) -> None:
    """Recording, a locked file, the spill in use, a stall, a reload, rows refused and asked for again, the stop."""
    env_file = tmp_path / ".env"
    env_file.write_text(f"FUTU_SYMBOLS={SYMBOLS}\n")
    simulator = lab.market(rate=200)
    command = [*COMMAND, "--env-file", env_file]
    impatient = {"WATCHDOG_STALL_SEC": 3, "WATCHDOG_RECOVERY_MAX_FAILURES": 50, "METRICS_PORT": 0}
    recorder = lab.recorder(
        simulator, SYMBOLS, command=command, MAX_QUEUE_SIZE=200, BATCH_SIZE=100, FUTU_POLL_STALE_SEC=0.5, **impatient
    )
    recorder.wait_for("backfill_done")
    more_recorded(recorder, 300)
    with locked(lab.day_file):
        recorder.wait_for("queue_spilled ")
        recorder.wait_for("WATCHDOG stall ")
        recorder.signal(signal.SIGHUP)
        recorder.wait_for("reloaded ")
    recorder.wait_for("spill_drained ")
    healed(recorder)
    spill = lab.data_root / "_spill"
    spill.rename(spill.with_name("_elsewhere"))
    spill.write_text("a file in the way")
    with locked(lab.day_file):
        recorder.wait_for("ticks_refused ")
    spill.unlink()
    recorder.wait_for("resync ")
    seen = count_lines(recorder, " health ")
    wait_until(lambda: count_lines(recorder, " health ") > seen + 2, "more health lines")
    lab.finish(simulator, recorder)
    assert_no_disk_call(recorder)
    assert_one_writer_a_counter(recorder)


def test_a_slow_disk_does_not_stop_the_loop(lab: Lab) -> None:
    """Every write to the spill takes seconds; the loop turns, and the recorder stops in order."""
    simulator = lab.market(rate=300)
    small = {"MAX_QUEUE_SIZE": 200, "BATCH_SIZE": 100, "STOP_FLUSH_TIMEOUT_SEC": 5}
    recorder = lab.recorder(simulator, command=["env", "SLOW_DISK_SEC=3", *COMMAND], **small)
    recorder.wait_for("backfill_done")
    more_recorded(recorder, 300)
    with locked(lab.day_file):
        recorder.wait_for("queue_spilled ")
        seen = count_lines(recorder, " health ")
        wait_until(lambda: count_lines(recorder, " health ") > seen + 4, f"health lines go on\n{recorder.output}")
    assert recorder.stop() == 0
    assert not count_lines(recorder, "loop_gap "), recorder.output
    assert_no_disk_call(recorder)


@pytest.mark.parametrize(
    "call",
    ["os.stat('/')", "open('/dev/null').close()", "os.listdir('/')", "__import__('sqlite3').connect(':memory:')"],
)
def test_the_ears_hear(tmp_path: Path, call: str) -> None:
    """The test itself can fail: each kind of call is told."""
    code = (
        f"import sys, os, threading; sys.path.insert(0, {str(LISTENING.parents[2])!r})\n"
        "from tests.faults import listening_recorder as ears\n"
        "for name in ears.SILENT: ears.with_ears(name)\n"
        "sys.addaudithook(ears.listen)\n"
        "ears.watch(threading.get_ident(), 'loop')\n"
        f"{call}\n"
    )
    process = Process([sys.executable, "-c", code], clean_env(tmp_path / "home"))
    try:
        process.wait()
        assert "disk_call thread=loop" in process.output
    finally:
        process.end()
