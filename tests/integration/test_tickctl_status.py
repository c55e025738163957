"""``hk-tickctl status`` beside a real recorder in every state, and beside none."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import select
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from hk_tick_collector.cli import status
from hk_tick_collector.cli.common import App
from hk_tick_collector.core.errors import RecorderError
from hk_tick_collector.health.statusfile import RecorderStatus, process_space
from hk_tick_collector.store import layout
from tests.fake_tools import systemctl
from tests.harness import BIN, Process, Recorder, Simulator, clean_env, ended, is_over, wait_until
from tests.tickctl import record_day, tickctl, tickctl_json
from tests.unit.store_ticks import without_root

SYMBOLS = "HK.00700,HK.00005"


@pytest.fixture(scope="module")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulator]:
    directory = tmp_path_factory.mktemp("status")
    simulator = Simulator(directory / "sim", "--symbols", SYMBOLS, "--always-open", "--rate", "200")
    with ended(simulator):
        yield simulator


def status_of(data_root: Path, **settings: object) -> tuple[int, dict[str, Any]]:
    """Exit code and JSON, whatever the code."""
    done = tickctl("status", "--json", data_root=data_root, **settings)
    assert done.returncode in (0, 1, 3), done.stderr
    picture: dict[str, Any] = json.loads(done.stdout)
    return done.returncode, picture


def written(data_root: Path, **fields: object) -> None:
    """A status file as a recorder with this process' pid would have written it just now."""
    now_ms = time.time_ns() // 1_000_000
    status = RecorderStatus(os.getpid(), "1.0", process_space(), now_ms - 60_000, now_ms, "ok", phase="morning")
    layout.replace_file(layout.status_file(data_root), json.dumps({**asdict(status), **fields}).encode())


@contextlib.contextmanager
def kept_up(data_root: Path) -> Iterator[None]:
    """``written`` again and again, however long a busy machine takes to look."""
    looked = threading.Event()

    def write() -> None:
        while not looked.wait(1):
            written(data_root)

    written(data_root)
    writing = threading.Thread(target=write)
    writing.start()
    try:
        yield
    finally:
        looked.set()
        writing.join()


def test_a_running_recorder_is_seen_in_full(simulator: Simulator, tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "HK", simulator.port, f"{SYMBOLS},HK.99999")
    with ended(recorder):
        recorder.wait_for("persist_summary ")

        def shown() -> dict[str, Any] | None:
            code, picture = status_of(recorder.data_root)
            written_now = picture["recorder"] or {"stored_rows": 0, "symbols_refused": 0}
            assert code == (1 if written_now.get("status") == "alert" else 0), picture["problems"]
            return picture if written_now["stored_rows"] > 500 and written_now["symbols_refused"] else None

        picture = wait_until(shown, "a status with rows")
        status = picture["recorder"]
        assert picture["running"] is True
        assert picture["process"]["pid"] == status["pid"] == recorder.proc.pid
        assert status["status"] == "warn"
        assert status["opend_state"] == "ready"
        assert (status["symbols_subscribed"], status["symbols_wanted"]) == (2, 3)
        assert "HK.99999" in status["refused_symbols"]["HK.99999"]
        assert 0 <= status["lag_sec"] < 10
        assert 20 < status["rows_per_sec"] < 2000
        assert picture["day"]["is_today"] is True
        assert picture["day"]["rows"] >= 500
        # One that was refused all day has its row once the day is over.
        assert sum(picture["day"]["state"]["symbols"].values()) == 2 + is_over(picture["day"]["trading_day"])
        assert picture["disk"]["days_left"] is None  # of a day that is not over nobody knows how large it will be
        assert stat.S_IMODE(layout.status_file(recorder.data_root).stat().st_mode) == 0o640

        human = tickctl("status", data_root=recorder.data_root)
        for part in (
            f"pid {recorder.proc.pid}",
            "ready, 2 of 3 symbols",
            "HK.99999",
            "ticks since the start",
            "free of",
        ):
            assert part in human.stdout, human.stdout

        assert recorder.stop() == 0
        code, picture = status_of(recorder.data_root)
        assert code == 1
        assert picture["recorder"]["status"] == "stopped"
        assert picture["running"] is False
        assert picture["problems"] == ["the recorder was stopped (asked to stop); start it: hk-tick-collector"]


def test_killed_and_stopped_by_a_signal(simulator: Simulator, tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "HK", simulator.port, SYMBOLS)
    with ended(recorder):
        recorder.wait_for("persist_summary ")
        recorder.signal(signal.SIGSTOP)
        code, picture = status_of(recorder.data_root)
        assert code == 1
        assert picture["running"] is True
        assert [f"kill -CONT {recorder.proc.pid}" in text for text in picture["problems"]] == [True]
        assert "silent" in tickctl("status", data_root=recorder.data_root).stdout

        recorder.signal(signal.SIGCONT)
        wait_until(lambda: status_of(recorder.data_root)[1]["recorder"]["status"] in ("ok", "warn"), "going on")
        assert not any("kill -CONT" in text for text in status_of(recorder.data_root)[1]["problems"])

        recorder.signal(signal.SIGKILL)
        recorder.wait()
        code, picture = status_of(recorder.data_root)  # at once: the file is still fresh
        assert code == 1
        assert picture["running"] is False
        assert "ended without an ordered stop" in picture["problems"][0]


def test_opend_is_down(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "HK", 1, SYMBOLS)
    with ended(recorder):
        recorder.wait_for("futu_connect_failed")

        def told() -> dict[str, Any] | None:
            code, picture = status_of(recorder.data_root)
            status = picture["recorder"]
            if status is None or status["opend_state"] != "down":
                return None
            assert status["status"] in ("warn", "alert")  # by the hour of the test
            assert code == (1 if status["status"] == "alert" else 0)
            return picture

        picture = wait_until(told, "OpenD is down")
        assert any("OpenD is down" in text for text in picture["problems"] + picture["notes"])
        assert picture["recorder"]["lag_sec"] is None
        assert "no tick yet" in tickctl("status", data_root=recorder.data_root).stdout


def test_an_alert_is_a_problem_and_is_remembered(tmp_path: Path) -> None:
    with layout.DataRootLock(tmp_path):
        written(tmp_path, status="alert", reason="market is open and no tick came for 130 s", last_alert_at_ms=1)
        code, picture = status_of(tmp_path)
        assert code == 1
        assert picture["problems"] == ["the recorder raises an alert: market is open and no tick came for 130 s"]
        an_hour_ago_ms = time.time_ns() // 1_000_000 - 3_600_000
        written(tmp_path, last_alert_at_ms=an_hour_ago_ms, last_alert_reason="persist worker is dead")
        assert status_of(tmp_path)[0] == 0
        assert "60 min ago: persist worker is dead" in tickctl("status", data_root=tmp_path).stdout


def test_a_living_recorder_that_says_nothing(tmp_path: Path) -> None:
    with layout.DataRootLock(tmp_path):
        old_ms = time.time_ns() // 1_000_000 - 60_000
        written(tmp_path, written_at_ms=old_ms)
        os.utime(layout.lock_file(tmp_path), (old_ms / 1000 - 60, old_ms / 1000 - 60))
        code, picture = status_of(tmp_path)
        assert code == 1
        assert f"pid {os.getpid()}) lives but has not said anything for 6" in picture["problems"][0]

        os.utime(layout.lock_file(tmp_path))  # taken after the file was written: a new one that has not spoken yet
        code, picture = status_of(tmp_path)
        assert (code, picture["problems"]) == (0, [])
        assert "has been starting for" in picture["notes"][0]
        layout.status_file(tmp_path).unlink()
        hour_ago = time.time() - 3600
        os.utime(layout.lock_file(tmp_path), (hour_ago, hour_ago))
        code, picture = status_of(tmp_path)
        assert code == 1
        assert "has been starting for 36" in picture["problems"][0]


def test_a_pid_that_another_program_got_is_not_the_recorder(tmp_path: Path) -> None:
    """Nobody holds the lock, whatever lives under that pid."""
    record_day(tmp_path, count=10)
    (tmp_path / ".recorder.lock").write_text(f"{os.getpid()}\n")
    written(tmp_path)
    code, picture = status_of(tmp_path)
    assert (code, picture["running"], picture["process"]) == (1, False, None)


def test_a_recorder_in_another_container_is_known_by_its_file(tmp_path: Path) -> None:
    record_day(tmp_path, count=10)
    written(tmp_path, process_space="elsewhere pid:[1]", pid=1)
    code, picture = status_of(tmp_path)
    assert (code, picture["running"]) == (0, True)
    assert "in another container" in tickctl("status", data_root=tmp_path).stdout
    written(tmp_path, process_space="elsewhere pid:[1]", pid=1, written_at_ms=time.time_ns() // 1_000_000 - 60_000)
    assert status_of(tmp_path)[0] == 1


def test_nothing_recorded_and_nothing_running(tmp_path: Path) -> None:
    code, picture = status_of(tmp_path)
    assert (code, picture["verdict"], picture["problems"]) == (3, "no_data", [])
    assert tickctl("status", data_root=tmp_path).returncode == 3
    done = tickctl("status", "--data-root", tmp_path / "absent")
    assert (done.returncode, done.stdout) == (3, "")
    assert "--data-root" in done.stderr


def test_days_without_a_recorder_are_a_problem(tmp_path: Path) -> None:
    record_day(tmp_path, count=100, lost=[50, 51])
    code, picture = status_of(tmp_path)
    assert code == 1
    assert picture["problems"] == ["no recorder runs on this data root; start it: hk-tick-collector"]
    assert picture["day"]["state"]["missing_ticks"] == 2
    assert any("1 symbol misses 2 ticks: hk-tickctl gaps" in note for note in picture["notes"])


def test_a_damaged_day_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "20261120.db").write_bytes(b"this is no database, whatever its name says" * 100)
    code, picture = status_of(tmp_path)
    assert code == 1
    assert "20261120.db" in picture["problems"][-1]


@pytest.mark.parametrize(
    ("properties", "code", "expected"),
    [
        ({}, 0, None),
        ({"UnitFileState": "disabled"}, 0, "sudo systemctl enable hk-tick-collector"),
        ({"LoadState": "not-found", "ActiveState": "inactive"}, 0, None),
        ({"ActiveState": "failed", "Result": "exit-code", "ExecMainStatus": "78"}, 1, "hk-tickctl config"),
        ({"ActiveState": "activating", "SubState": "auto-restart", "NRestarts": "17"}, 1, "17 restarts"),
    ],
)  # fmt: skip
def test_the_service(tmp_path: Path, properties: dict[str, str], code: int, expected: str | None) -> None:
    data_root = tmp_path / "HK"
    data_root.mkdir()
    with layout.DataRootLock(data_root):
        written(data_root)
        exit_code, picture = status_of(data_root, **systemctl(tmp_path, **properties))
    assert exit_code == code, picture
    complaints = picture["problems"] + picture["notes"]
    assert complaints == [] if expected is None else any(expected in text for text in complaints), complaints


def test_a_service_with_wrong_settings_is_not_told_to_start(tmp_path: Path) -> None:
    data_root = tmp_path / "HK"
    data_root.mkdir()
    written(data_root, status="stopped", reason="asked to stop")
    failed = systemctl(tmp_path, ActiveState="failed", Result="exit-code", ExecMainStatus="78", MainPID="0")
    code, picture = status_of(data_root, **failed)
    assert code == 1
    (problem,) = picture["problems"]
    assert problem.startswith("the configuration is wrong, so the recorder does not start")
    assert "hk-tickctl config" in problem


def test_a_service_that_records_elsewhere(tmp_path: Path) -> None:
    data_root = tmp_path / "HK"
    record_day(data_root, count=10)
    code, picture = status_of(data_root, **systemctl(tmp_path))
    assert code == 1
    assert any("on another data root" in text for text in picture["problems"])
    assert "sudo systemctl start" in picture["problems"][0]


def test_a_user_without_the_right_is_told_what_to_do() -> None:
    with tempfile.TemporaryDirectory() as name:
        data_root = Path(name)
        written(data_root)
        data_root.chmod(0o700)
        if os.geteuid() != 0:
            data_root.chmod(0o000)
        try:
            with without_root(), pytest.raises(RecorderError, match=r"cannot be read .* join the group"):
                status.take(App(data_root_given=data_root))
        finally:
            data_root.chmod(0o700)


def test_watch_writes_until_it_is_interrupted(tmp_path: Path) -> None:
    record_day(tmp_path / "HK", count=10)
    command = [BIN / "hk-tickctl", "status", "--watch", "--json", "--data-root", tmp_path / "HK"]
    watching = Process(command, clean_env(tmp_path / "home"))
    with ended(watching):
        wait_until(lambda: len(watching.lines) >= 3, "three pictures")
        assert all(json.loads(line)["verdict"] == "problem" for line in watching.lines[:3])
        watching.signal(signal.SIGINT)
        assert watching.wait() == 130


def test_watch_on_a_terminal_gives_the_screen_back(tmp_path: Path) -> None:
    record_day(tmp_path / "HK", count=10)
    master, slave = pty.openpty()
    env = {**clean_env(tmp_path / "home"), "TERM": "xterm", "COLUMNS": "120", "LINES": "40"}
    command = [str(BIN / "hk-tickctl"), "status", "--watch", "--data-root", str(tmp_path / "HK")]
    watching = subprocess.Popen(command, env=env, stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
    os.close(slave)
    shown = b""
    try:
        deadline = time.monotonic() + 30
        while shown.count(b"not running") < 2:
            assert time.monotonic() < deadline, shown
            if select.select([master], [], [], 0.2)[0]:
                shown += os.read(master, 65536)
        watching.send_signal(signal.SIGINT)
        while watching.poll() is None:
            assert time.monotonic() < deadline
            if select.select([master], [], [], 0.2)[0]:
                with contextlib.suppress(OSError):
                    shown += os.read(master, 65536)
        with contextlib.suppress(OSError):
            while select.select([master], [], [], 0.2)[0]:
                shown += os.read(master, 65536)
        assert watching.returncode == 130
        assert shown.rindex(b"\x1b[?1049l") > shown.index(b"\x1b[?1049h"), "the alternate screen is left"
    finally:
        watching.kill()
        watching.wait()
        os.close(master)


def test_a_quick_question_imports_nothing_heavy(tmp_path: Path) -> None:
    record_day(tmp_path, count=10)
    code = (
        "import sys\n"
        "from hk_tick_collector.cli.main import main\n"
        "try:\n"
        f"    main(['status', '--json', '--data-root', {str(tmp_path)!r}])\n"
        "finally:\n"
        "    print(sorted({'pandas', 'numpy', 'pyarrow', 'duckdb', 'futu', 'exchange_calendars'} & set(sys.modules)), "
        "file=sys.stderr)\n"
    )
    with layout.DataRootLock(tmp_path), kept_up(tmp_path):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.strip() == "[]"


def test_looking_takes_no_lock(tmp_path: Path) -> None:
    """A recorder that starts while somebody watches must find its lock free."""
    record_day(tmp_path, count=10)
    watching = Process(
        [BIN / "hk-tickctl", "status", "--watch", "--json", "--data-root", tmp_path], clean_env(tmp_path / "h")
    )
    with ended(watching):
        wait_until(lambda: watching.lines, "a picture")
        deadline = time.monotonic() + 2.5
        while time.monotonic() < deadline:
            with layout.DataRootLock(tmp_path):
                pass
    assert tickctl_json("status", data_root=tmp_path, code=1)["running"] is False
