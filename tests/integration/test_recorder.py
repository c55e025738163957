"""The recorder against the simulator, over TCP, into real files; its start and its end by the built one."""

from __future__ import annotations

import contextlib
import importlib.util
import re
import signal
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from Crypto.PublicKey import RSA

from hk_tick_collector.store import data_root
from tests.harness import (
    BIN,
    BuiltRecorder,
    Process,
    Recorder,
    Simulator,
    check,
    clean_env,
    ended,
    stop_after_market,
    wait_until,
)

SYMBOLS = "HK.00700,HK.00005,HK.09988"
LESS_THAN_A_REQUEST_SEC = 9.0  # the shortest timeout of anything asked of OpenD is 10 s: who waits for one is later
ALWAYS_OPEN = ("--symbols", SYMBOLS, "--always-open", "--rate", "300")


@pytest.fixture
def simulator(tmp_path: Path) -> Iterator[Simulator]:
    simulator = Simulator(tmp_path / "sim", *ALWAYS_OPEN)
    with ended(simulator):
        yield simulator


def recorded(recorder: Recorder, rows: int) -> None:
    wait_until(lambda: recorder.rows() >= rows, f"{rows} rows\n{recorder.output}")


def assert_complete(simulator: Simulator, recorder: Recorder) -> None:
    """Stop both; every tick the simulator made is stored once and right, but for those of the last 2 s before the
    recorder was told to stop: a fault may have struck them that only the next poll makes good."""
    asked_sec = time.monotonic()
    assert recorder.stop() == 0, recorder.output
    simulator.stop()
    tail_ms = 2000 + round((time.monotonic() - asked_sec) * 1000)
    result = check(simulator, recorder.data_root, "--allow-tail-ms", str(tail_ms))
    assert result.returncode == 0, result.stdout + result.stderr + recorder.output


def test_ticks_are_stored_as_they_were_made(simulator: Simulator, tmp_path: Path) -> None:
    recorder = BuiltRecorder(tmp_path / "data", simulator.port, SYMBOLS)
    with ended(recorder):
        recorder.wait_for("futu_connected")
        recorded(recorder, 4000)
        recorder.wait_for(r"health connected=True status=ok .*symbols=3 .*queue=\d+")
        recorder.wait_for("persist_summary inserted=")
        recorder.wait_for("persist_loop_heartbeat ")
        stop_after_market(simulator, recorder)
        assert "recorder_stopped exit_code=0" in recorder.lines[-1]
        assert not list((tmp_path / "data").glob("*-wal")), "a stopped recorder leaves no WAL"
        result = check(simulator, recorder.data_root)
        assert result.returncode == 0, result.stdout + result.stderr


def test_rows_follow_the_published_schema(simulator: Simulator, tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "data", simulator.port, SYMBOLS)
    with ended(recorder):
        recorded(recorder, 1000)
        recorder.stop()
    (path,) = (tmp_path / "data").glob("*.db")
    with contextlib.closing(sqlite3.connect(path)) as conn:
        columns = [row[1] for row in conn.execute("PRAGMA table_info(ticks)")]
        assert columns == [
            "market", "symbol", "ts_ms", "price", "volume", "turnover", "direction", "seq", "tick_type", "push_type",
            "provider", "trading_day", "recv_ts_ms", "inserted_at_ms", "push_data_type", "opend_recv_ts_ms",
            "type_sign", "occurrence",
            "ts_ns_part", "total_volume", "venue", "conditions", "bid_price", "ask_price",
        ]  # fmt: skip
        indexes = {row[1] for row in conn.execute("PRAGMA index_list(ticks)")}
        assert {"uniq_ticks_symbol_seq", "uniq_ticks_symbol_ts_price_vol_turnover"} == indexes
        assert conn.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert conn.execute("SELECT DISTINCT market, provider, trading_day FROM ticks").fetchall() == [
            ("HK", "futu", path.stem)
        ]
        lag_sec, rows = conn.execute(
            "SELECT ROUND(strftime('%s','now')-MAX(ts_ms)/1000.0,3) AS lag_sec, COUNT(*) AS rows FROM ticks"
        ).fetchone()
        assert rows >= 1000
        assert abs(lag_sec) < 30


def test_opend_absent_at_start_then_there(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    recorder = Recorder(tmp_path / "data", port, SYMBOLS)
    with ended(recorder):
        recorder.wait_for("futu_connect_failed .*action=")
        recorder.wait_for("health connected=False")
        simulator = Simulator(tmp_path / "sim", *ALWAYS_OPEN, port=port)
        with ended(simulator):
            recorder.wait_for("backfill_done")
            recorded(recorder, 1000)
            assert_complete(simulator, recorder)


@pytest.mark.parametrize("answer", ["closed", "mute", "garbage"])
def test_sigterm_ends_it_within_three_seconds_whatever_opend_does(tmp_path: Path, answer: str) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    peers: list[socket.socket] = []

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                peer, _ = listener.accept()
                peers.append(peer)
                if answer == "garbage":
                    peer.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nServer: not an OpenD\r\n\r\n")

    if answer == "closed":
        listener.close()
    else:
        threading.Thread(target=serve, daemon=True).start()
    recorder = BuiltRecorder(tmp_path / "data", port, SYMBOLS)
    with ended(recorder):
        recorder.wait_for("health connected=False")
        if answer == "garbage":
            recorder.wait_for("futu_frame_error .*no frame")
        assert recorder.stop(timeout_sec=LESS_THAN_A_REQUEST_SEC) == 0
    listener.close()
    for peer in peers:
        peer.close()


def test_a_refused_symbol_costs_only_itself(simulator: Simulator, tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "data", simulator.port, SYMBOLS + ",HK.99999")
    with ended(recorder):
        recorder.wait_for("futu_symbol_refused symbol=HK.99999 reason=.*unknown")
        recorder.wait_for("futu_subscribed symbols=3 wanted=4 refused=1")
        recorded(recorder, 1000)
        assert_complete(simulator, recorder)


def test_reconnect_leaves_no_hole(simulator: Simulator, tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "data", simulator.port, SYMBOLS)
    with ended(recorder):
        recorded(recorder, 1000)
        for _ in range(3):
            connections = len(re.findall("futu_connected", recorder.output))
            simulator.ctl("drop")
            wait_until(lambda n=connections: len(re.findall("futu_connected", recorder.output)) > n, "a new connection")
        recorder.wait_for("futu_disconnected reason=")
        assert_complete(simulator, recorder)


@pytest.mark.parametrize(
    "fault",
    ["skip percent=20", "twice", "disorder", "cut", "bad-sha1 next=5", "oversize next=2", "hang seconds=3"],
)
def test_faults_on_the_wire_cost_nothing(simulator: Simulator, tmp_path: Path, fault: str) -> None:
    recorder = Recorder(tmp_path / "data", simulator.port, SYMBOLS)
    with ended(recorder):
        recorded(recorder, 500)
        simulator.ctl(fault)
        rows = recorder.rows()
        recorded(recorder, rows + 1500)
        simulator.ctl("clear")
        recorder.wait_for(r"health connected=True .* open_holes=0 missing_ticks=0")
        assert_complete(simulator, recorder)


def test_an_unreadable_tick_costs_itself_and_is_kept(simulator: Simulator, tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "data", simulator.port, SYMBOLS)
    with ended(recorder):
        recorded(recorder, 500)
        simulator.ctl("unreadable next=3")
        recorder.wait_for("tick_quarantined symbol=HK.* reason=.*no known form")
        wait_until(lambda: list((tmp_path / "data" / "_quarantine").glob("*.jsonl")), "a quarantine file")
        assert_complete(simulator, recorder)  # the pull that closes the hole brings the readable tick


def test_an_encrypted_connection_records_the_same(tmp_path: Path) -> None:
    key_file = tmp_path / "key.pem"
    key_file.write_bytes(RSA.generate(1024).export_key("PEM", pkcs=1))
    simulator = Simulator(tmp_path / "sim", *ALWAYS_OPEN, "--rsa-key", key_file)
    with ended(simulator):
        recorder = BuiltRecorder(tmp_path / "data", simulator.port, SYMBOLS, FUTU_RSA_KEY_FILE=key_file)
        with ended(recorder):
            recorder.wait_for("futu_connected")
            recorded(recorder, 1000)
            recorder.wait_for(r"health connected=True .* push_rows_per_min=[1-9]")
            simulator.ctl("skip percent=20")
            recorded(recorder, recorder.rows() + 1000)
            assert_complete(simulator, recorder)


def test_reload_changes_the_list_without_a_break(simulator: Simulator, tmp_path: Path) -> None:
    codes = tmp_path / "codes.txt"
    codes.write_text("HK.00700\n")
    recorder = Recorder(tmp_path / "data", simulator.port, f"@{codes}")
    with ended(recorder):
        recorder.wait_for("futu_subscribed symbols=1 wanted=1")
        recorded(recorder, 1000)
        codes.write_text(SYMBOLS.replace(",", "\n"))
        recorder.signal(signal.SIGHUP)
        recorder.wait_for("futu_subscribed symbols=3 wanted=3")
        codes.write_text("US.AAPL\n")
        recorder.signal(signal.SIGHUP)
        recorder.wait_for("reload_failed .*US.AAPL")
        recorded(recorder, recorder.rows() + 500)
        assert len(re.findall("futu_connected", recorder.output)) == 1
        assert_complete(simulator, recorder)


def test_sigusr1_writes_all_stacks_from_a_thread_that_holds_the_interpreter(
    simulator: Simulator, tmp_path: Path
) -> None:
    """A handler below the interpreter read frames of threads that ran on, and ended the recorder with SIGSEGV."""
    recorder = BuiltRecorder(tmp_path / "data", simulator.port, SYMBOLS)
    with ended(recorder):
        recorder.wait_for("futu_connected")
        for asked in range(1, 21):
            recorder.signal(signal.SIGUSR1)
            wait_until(lambda asked=asked: len(re.findall("Current thread 0x", recorder.output)) >= asked, "the stacks")
        assert re.search(r"Current thread 0x.*\n  File \".*stacks\.py\", line \d+ in _answer\n", recorder.output)
        assert re.search(r"Thread 0x(?s:.*)asyncio", recorder.output)
        recorded(recorder, 1000)
        assert recorder.stop() == 0


def test_a_request_for_stacks_in_the_first_moments_does_not_end_the_recorder(
    simulator: Simulator, tmp_path: Path
) -> None:
    recorder = BuiltRecorder(tmp_path / "data", simulator.port, SYMBOLS)
    with ended(recorder):
        asked = 0
        while "futu_connected" not in recorder.output:
            status = Path(f"/proc/{recorder.proc.pid}/status").read_text()
            blocked = int(re.search(r"SigBlk:\s*(\w+)", status).group(1), 16)  # type: ignore[union-attr]
            if blocked >> (signal.SIGUSR1 - 1) & 1:
                recorder.signal(signal.SIGUSR1)
                asked += 1
            assert recorder.proc.poll() is None, recorder.output
        recorder.wait_for(r"Current thread 0x")
        assert asked
        assert recorder.stop() == 0


def test_a_second_recorder_on_the_same_root_is_refused_with_the_pid(simulator: Simulator, tmp_path: Path) -> None:
    first = BuiltRecorder(tmp_path / "data", simulator.port, SYMBOLS)
    with ended(first):
        first.wait_for("recorder_started")
        second = BuiltRecorder(tmp_path / "data", simulator.port, SYMBOLS)
        with ended(second):
            assert second.wait() == 78
            assert f"pid {first.proc.pid}" in second.output
        recorded(first, 1000)
        assert first.stop() == 0


def command(tmp_path: Path, *arguments: str, **settings: object) -> Process:
    return Process([BIN / "hk-tick-collector", *arguments], clean_env(tmp_path / "home", **settings))


def test_every_wrong_setting_is_named_at_once_and_exits_78(tmp_path: Path) -> None:
    process = command(tmp_path, FUTU_PORT="abc", BATCH_SIZE="0", FUTU_SYMBOLS="HK.00700,US.AAPL", FUTU_POL_NUM="3")
    with ended(process):
        assert process.wait() == 78
    for word in ("FUTU_PORT", "abc", "BATCH_SIZE", "US.AAPL", "FUTU_POLL_NUM"):
        assert word in process.output
    assert "Traceback" not in process.output


def test_a_data_root_of_another_market_is_refused_and_left_alone(tmp_path: Path) -> None:
    root = tmp_path / "data"
    root.mkdir()
    data_root.claim(root, "CME")
    process = command(tmp_path, FUTU_SYMBOLS="HK.00700", DATA_ROOT=root, FUTU_PORT=1)
    with ended(process):
        assert process.wait() == 78
        assert f"{root} holds days of market CME (its file .market says so), and this is market HK" in process.output
        assert "Traceback" not in process.output
    assert data_root.market_of(root) == "CME"


def test_a_source_that_there_is_not_exits_78_with_the_choices(tmp_path: Path) -> None:
    process = command(tmp_path, "--check-config", FUTU_SYMBOLS="HK.00700", SOURCE="tape")
    with ended(process):
        assert process.wait() == 78
        assert "SOURCE=tape is unknown: there is" in process.output


def test_the_key_that_everybody_has_is_refused(tmp_path: Path) -> None:
    shipped = Path(str(importlib.util.find_spec("futu").origin)).parent / "common" / "conn_key.txt"  # type: ignore[union-attr]
    process = command(tmp_path, FUTU_SYMBOLS="HK.00700", DATA_ROOT=tmp_path / "d", FUTU_RSA_KEY_FILE=shipped)
    with ended(process):
        assert process.wait() == 78
        assert "FUTU_RSA_KEY_FILE" in process.output


def test_check_config_and_version(tmp_path: Path) -> None:
    process = command(tmp_path, "--check-config", FUTU_SYMBOLS="HK.00700", DATA_ROOT=tmp_path / "d")
    with ended(process):
        assert process.wait() == 0
        assert "configuration ok" in process.output
    assert not (tmp_path / "d").exists()
    process = command(tmp_path, "--version")
    with ended(process):
        assert process.wait() == 0
        assert re.fullmatch(r"hk-tick-collector \d+\.\d+\.\d+", process.output)


def test_a_data_root_that_cannot_be_is_a_configuration_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    process = command(tmp_path, FUTU_SYMBOLS="HK.00700", DATA_ROOT=tmp_path / "file" / "data")
    with ended(process):
        assert process.wait() == 78
        assert "DATA_ROOT" in process.output
