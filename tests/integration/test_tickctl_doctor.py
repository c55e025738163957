"""``hk-tickctl doctor`` against a real OpenD simulator, with and without a recorder, in health and in trouble."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from Crypto.PublicKey import RSA

from tests import forked
from tests.fake_tools import systemctl
from tests.harness import BIN, Recorder, Simulator, clean_env, ended, wait_until
from tests.tickctl import record_day

SYMBOLS = "HK.00700,HK.00005"
OPEND_CHECKS = [
    "opend_port", "opend_answer", "opend_login", "clock", "quote_right", "quota", "symbols", "trading_day", "trial",
]  # fmt: skip
Checks = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def opend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulator]:
    directory = tmp_path_factory.mktemp("doctor")
    simulator = Simulator(
        directory / "sim", "--symbols", SYMBOLS, "--always-open", "--rate", "100", "--no-rate-limits", "--quota", "5"
    )
    with ended(simulator):
        yield simulator


@pytest.fixture
def simulator(opend: Simulator) -> Iterator[Simulator]:
    """Without the faults of an earlier test."""
    yield opend
    opend.ctl("clear")


def run(tmp_path: Path, *arguments: object, code: int | None = None, **settings: object) -> tuple[int, Checks]:
    """The exit code and the checks by name. The working directory is empty. Of what is read at the start alone, as
    HOME for the SDK's log, only the console script itself would hear."""
    cwd = tmp_path / "cwd"
    cwd.mkdir(exist_ok=True)
    words = ["doctor", "--json", *map(str, arguments)]
    env = clean_env(tmp_path / "home", **settings)
    if "HOME" in settings or not forked.may_fork(settings):
        done = subprocess.run(
            [str(BIN / "hk-tickctl"), *words], env=env, cwd=cwd, capture_output=True, text=True, timeout=90, check=False
        )
    else:
        done = forked.parent("doctor").run(words, env, 90, cwd)
    assert done.returncode in (0, 1), done.stderr
    assert code is None or done.returncode == code, done.stdout
    report = json.loads(done.stdout)
    checks = {check["name"]: check for check in report["checks"]}
    assert report["failed"] == [name for name, check in checks.items() if check["result"] == "fail"]
    assert done.returncode == (1 if report["failed"] else 0)
    for check in checks.values():
        assert bool(check["advice"]) == (check["result"] in ("warn", "fail")), check
    return done.returncode, checks


def examine(
    simulator: Simulator, tmp_path: Path, code: int | None = None, *arguments: object, **settings: object
) -> Checks:
    """Doctor with right settings, but for ``settings``."""
    data_root = tmp_path / "HK"
    data_root.mkdir(exist_ok=True)
    right = {"FUTU_PORT": simulator.port, "FUTU_SYMBOLS": SYMBOLS, "DATA_ROOT": data_root}
    return run(tmp_path, *arguments, code=code, **{**right, **settings})[1]


def results(checks: Checks, *names: str) -> list[str]:
    return [checks[name]["result"] for name in names]


def test_all_is_well_beside_a_recorder_which_notices_nothing(simulator: Simulator, tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "HK", simulator.port, SYMBOLS)
    with ended(recorder):
        recorder.wait_for("futu_subscribed symbols=2")
        recorder.wait_for("persist_summary ")
        simulator.ctl("quota limit=2")  # the recorder's own two: the trial must do with them
        checks = examine(simulator, tmp_path, 0, **systemctl(tmp_path))
        assert {name: check["result"] for name, check in checks.items()} == dict.fromkeys(
            ["home", "zone_data", "configuration", "data_directory", "disk", "unit", "sdk_log", *OPEND_CHECKS], "ok"
        )
        assert f"recorder pid {recorder.proc.pid}" in checks["data_directory"]["found"]
        assert "0 not subscribed yet; 0 of 2 are free" in checks["quota"]["found"]
        assert "10 ticks" in checks["trial"]["found"]
        wait_until(lambda: simulator.ctl("status")["clients"] == 1, "the connection is closed")
        assert simulator.ctl("status")["subscriptions_used"] == 2
        seen = recorder.rows()
        wait_until(lambda: recorder.rows() > seen + 100, "it goes on")
        assert recorder.find("futu_disconnected|futu_symbol_refused|ERROR") is None


def test_without_a_recorder_the_trial_takes_a_wanted_symbol_and_gives_it_back(
    simulator: Simulator, tmp_path: Path
) -> None:
    checks = examine(simulator, tmp_path, 0)
    assert checks["trial"]["found"].startswith("HK.00700: subscribed")
    assert "2 not subscribed yet; 5 of 5 are free" in checks["quota"]["found"]
    assert checks["unit"]["result"] == "skipped"
    assert "WARNING and worse" in checks["sdk_log"]["found"]
    wait_until(lambda: simulator.ctl("status")["subscriptions_used"] == 0, "the quota is free again")


def test_opend_is_down(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        _, checks = run(tmp_path, FUTU_PORT=port, FUTU_SYMBOLS=SYMBOLS, DATA_ROOT=tmp_path, code=1)
    assert checks["opend_port"]["found"] == f"nothing listens on 127.0.0.1:{port}"
    assert "start OpenD" in checks["opend_port"]["advice"]
    assert results(checks, *OPEND_CHECKS[1:]) == ["skipped"] * 8
    assert checks["trial"]["found"] == "needs opend_port, which failed"


def test_a_host_that_is_not_known(tmp_path: Path) -> None:
    _, checks = run(tmp_path, FUTU_HOST="no-such-host.invalid", FUTU_SYMBOLS=SYMBOLS, DATA_ROOT=tmp_path, code=1)
    assert checks["opend_port"]["result"] == "fail"
    assert "no-such-host.invalid" in checks["opend_port"]["found"]


def test_something_listens_that_is_no_opend(tmp_path: Path) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    with listener:
        port = listener.getsockname()[1]
        _, checks = run(tmp_path, FUTU_PORT=port, FUTU_SYMBOLS=SYMBOLS, DATA_ROOT=tmp_path, code=1)
    assert checks["opend_port"]["result"] == "ok"
    assert checks["opend_answer"]["result"] == "fail"
    assert "api_port" in checks["opend_answer"]["advice"]
    assert results(checks, *OPEND_CHECKS[2:]) == ["skipped"] * 7


def test_an_encrypted_opend_without_our_key(tmp_path: Path) -> None:
    key = tmp_path / "key.pem"
    key.write_bytes(RSA.generate(1024).export_key("PEM", pkcs=1))
    simulator = Simulator(tmp_path / "sim", "--symbols", SYMBOLS, "--always-open", "--rsa-key", key)
    with ended(simulator):
        checks = examine(simulator, tmp_path, 0, FUTU_RSA_KEY_FILE=key)
        assert checks["trial"]["result"] == "ok"
        other = tmp_path / "other.pem"
        other.write_bytes(RSA.generate(1024).export_key("PEM", pkcs=1))
        checks = examine(simulator, tmp_path, 1, FUTU_RSA_KEY_FILE=other)
        assert checks["opend_answer"]["result"] == "fail"
        assert "RSA key" in checks["opend_answer"]["advice"]


def test_opend_is_not_logged_in(simulator: Simulator, tmp_path: Path) -> None:
    simulator.ctl("logout")
    checks = examine(simulator, tmp_path, 1)
    assert results(checks, "opend_answer", "opend_login", "clock") == ["ok", "fail", "ok"]
    assert "not logged in" in checks["opend_login"]["found"]
    assert "log OpenD in" in checks["opend_login"]["advice"]
    assert results(checks, "quote_right", "quota", "symbols", "trading_day", "trial") == ["skipped"] * 5


def test_the_quote_right_is_too_low(simulator: Simulator, tmp_path: Path) -> None:
    simulator.ctl("right kind=bmp")
    checks = examine(simulator, tmp_path, 1)
    assert results(checks, "quote_right", "quota", "symbols", "trial") == ["fail", "ok", "ok", "skipped"]
    assert "Bmp" in checks["quote_right"]["found"]


def test_unknown_symbols_are_named_and_do_not_spoil_the_trial(simulator: Simulator, tmp_path: Path) -> None:
    checks = examine(simulator, tmp_path, 1, FUTU_SYMBOLS="HK.99998,HK.00700,HK.99999")
    assert results(checks, "quota", "symbols", "trial") == ["ok", "fail", "ok"]
    assert "2 of 3 do not exist: HK.99998" in checks["symbols"]["found"]
    assert "HK.99999" in checks["symbols"]["found"]
    assert checks["trial"]["found"].startswith("HK.00700")


def test_the_quota_is_too_small_for_the_list(simulator: Simulator, tmp_path: Path) -> None:
    simulator.ctl("quota limit=1")
    checks = examine(simulator, tmp_path, 1)
    assert results(checks, "quota", "trial") == ["fail", "ok"]
    assert "2 symbols wanted" in checks["quota"]["found"]
    assert "shorten FUTU_SYMBOLS to 1" in checks["quota"]["advice"]


def test_the_quota_is_enough_for_ticks_and_not_for_books(simulator: Simulator, tmp_path: Path) -> None:
    simulator.ctl("quota limit=3")
    checks = examine(simulator, tmp_path, 0, BOOK_SYMBOLS=SYMBOLS)
    assert results(checks, "quota", "trial") == ["warn", "ok"]
    assert checks["quota"]["found"].endswith("3 of 3 are free; order books want 2 more")
    assert "shorten BOOK_SYMBOLS: ticks go first" in checks["quota"]["advice"]
    simulator.ctl("quota limit=4")
    assert results(examine(simulator, tmp_path, 0, BOOK_SYMBOLS=SYMBOLS), "quota") == ["ok"]


def test_the_quota_is_used_up_by_another_program(simulator: Simulator, tmp_path: Path) -> None:
    other = Recorder(tmp_path / "other" / "HK", simulator.port, "HK.00005")
    with ended(other):
        other.wait_for("futu_subscribed symbols=1")
        simulator.ctl("quota limit=1")
        checks = examine(simulator, tmp_path, 1, FUTU_SYMBOLS="HK.00700")
        assert results(checks, "quota", "trial") == ["fail", "skipped"]
        assert "end other programs" in checks["quota"]["advice"]
        assert "no quota is free" in checks["trial"]["found"]
        assert other.find("ERROR|futu_disconnected") is None


def test_a_refused_subscription(simulator: Simulator, tmp_path: Path) -> None:
    simulator.ctl("fail-subscribe next=1")
    checks = examine(simulator, tmp_path, 1)
    assert checks["trial"]["result"] == "fail"
    assert "the server did not answer" in checks["trial"]["found"]


def test_the_clock_differs_from_opends(tmp_path: Path) -> None:
    simulator = Simulator(tmp_path / "sim", "--symbols", SYMBOLS, "--start", "2026-11-18T10:00:00")
    with ended(simulator):
        checks = examine(simulator, tmp_path, 1)
    assert checks["clock"]["result"] == "fail"
    assert "for OpenD 20261118" in checks["clock"]["found"]
    assert "set-ntp" in checks["clock"]["advice"]


def test_offline_asks_nobody(tmp_path: Path) -> None:
    _, checks = run(tmp_path, "--offline", FUTU_PORT=1, FUTU_SYMBOLS=SYMBOLS, DATA_ROOT=tmp_path, code=0)
    assert results(checks, *OPEND_CHECKS) == ["skipped"] * 9
    assert "--offline" in checks["trial"]["found"]


def test_no_settings_file(tmp_path: Path) -> None:
    _, checks = run(tmp_path, code=1)
    assert "FUTU_SYMBOLS is not set" in checks["configuration"]["found"]
    assert f"there is no {tmp_path}/cwd/.env" in checks["configuration"]["advice"]
    assert results(checks, "data_directory", "disk", "sdk_log", "opend_port", "trial") == ["skipped"] * 5
    _, checks = run(tmp_path, "--data-root", tmp_path, code=1)
    assert results(checks, "configuration", "data_directory", "disk") == ["fail", "ok", "ok"]
    _, checks = run(tmp_path, "--env-file", tmp_path / "absent.env", code=1)
    assert "absent.env cannot be read" in checks["configuration"]["found"]


def test_wrong_settings_are_all_told(tmp_path: Path) -> None:
    _, checks = run(tmp_path, FUTU_PORT="x", BATCH_SIZE=0, FUTU_SYMBOLS=SYMBOLS, code=1)
    assert "FUTU_PORT='x'" in checks["configuration"]["found"]
    assert "BATCH_SIZE='0'" in checks["configuration"]["found"]


@pytest.mark.parametrize(
    ("properties", "result", "expected"),
    [
        ({"LoadState": "not-found"}, "warn", "install_systemd.sh"),
        ({"LoadState": "masked"}, "fail", "systemctl status"),
        ({"UnitFileState": "disabled"}, "warn", "systemctl enable"),
        ({"ActiveState": "inactive", "SubState": "dead"}, "warn", "systemctl start"),
        ({"ActiveState": "failed", "SubState": "failed", "ExecMainStatus": "78"}, "fail", "hk-tickctl logs"),
        ({"NeedDaemonReload": "yes"}, "warn", "daemon-reload"),
    ],
)
def test_the_unit(tmp_path: Path, properties: dict[str, str], result: str, expected: str) -> None:
    env = systemctl(tmp_path, **properties)
    _, checks = run(tmp_path, "--offline", "--data-root", tmp_path, FUTU_SYMBOLS=SYMBOLS, **env)
    assert checks["unit"]["result"] == result
    assert expected in checks["unit"]["advice"]


@pytest.mark.parametrize(
    ("properties", "ending"),
    [
        ({"Result": "exit-code", "ExecMainCode": "1", "ExecMainStatus": "78"}, "; exit code 78"),
        ({"Result": "signal", "ExecMainCode": "2", "ExecMainStatus": "9"}, "; killed by signal 9"),
        ({"Result": "watchdog", "ExecMainCode": "3", "ExecMainStatus": "6"}, "; watchdog, killed by signal 6"),
    ],
)
def test_how_a_failed_unit_ended(tmp_path: Path, properties: dict[str, str], ending: str) -> None:
    env = systemctl(tmp_path, ActiveState="failed", SubState="failed", **properties)
    _, checks = run(tmp_path, "--offline", "--data-root", tmp_path, FUTU_SYMBOLS=SYMBOLS, code=1, **env)
    assert checks["unit"]["found"] == f"hk-tick-collector is failed (failed), enabled{ending}"


def test_the_data_directory_must_be_writable_for_the_services_user(tmp_path: Path) -> None:
    env = systemctl(tmp_path, User="nobody")
    data_root = tmp_path / "HK"
    data_root.mkdir(mode=0o700)
    _, checks = run(tmp_path, "--offline", "--data-root", data_root, FUTU_SYMBOLS=SYMBOLS, code=1, **env)
    assert "not writable for the service's user nobody" in checks["data_directory"]["found"]
    data_root.chmod(0o777)
    _, checks = run(tmp_path, "--offline", "--data-root", data_root, FUTU_SYMBOLS=SYMBOLS, code=0, **env)
    assert checks["data_directory"]["result"] == "ok"
    assert list(data_root.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="needs files of two users")
def test_what_a_reader_left_beside_a_day_file_is_found(tmp_path: Path) -> None:
    data_root = tmp_path / "HK"
    record_day(data_root, count=10)
    (db,) = data_root.glob("????????.db")
    os.chown(db, 65534, 65534)
    left = db.with_name(f"{db.name}-shm")
    left.touch(mode=0o640)
    _, checks = run(tmp_path, "--offline", "--data-root", data_root, FUTU_SYMBOLS=SYMBOLS, code=1)
    assert f"{left} belongs to root (uid 0)" in checks["data_directory"]["found"]
    assert "remove it" in checks["data_directory"]["advice"]


def test_a_data_directory_of_another_market(tmp_path: Path) -> None:
    root = tmp_path / "data"
    root.mkdir()
    (root / ".market").write_text("US\n")
    _, checks = run(tmp_path, "--offline", code=1, FUTU_SYMBOLS=SYMBOLS, DATA_ROOT=root)
    assert "holds days of market US (its file .market says so)" in checks["data_directory"]["found"]
    assert "DATA_ROOT of its own" in checks["data_directory"]["advice"]
    assert (root / ".market").read_text() == "US\n"


def test_an_absent_data_directory(tmp_path: Path) -> None:
    absent = tmp_path / "a" / "b"
    _, checks = run(tmp_path, "--offline", DATA_ROOT=absent, FUTU_SYMBOLS=SYMBOLS, code=1)
    assert results(checks, "data_directory", "disk") == ["fail", "ok"]
    assert f"install -d -m 0750 {absent}" in checks["data_directory"]["advice"]
    assert not absent.parent.exists()


def test_how_long_the_disk_lasts_comes_from_recorded_days(tmp_path: Path) -> None:
    data_root = tmp_path / "HK"
    record_day(data_root, count=100)
    _, checks = run(tmp_path, "--offline", "--data-root", data_root, FUTU_SYMBOLS=SYMBOLS, code=0)
    assert "more than 1,000 recorded days" in checks["disk"]["found"]
    with (data_root / "20261119.db").open("wb") as file:  # sparse: as large as half of what is free
        usage = os.statvfs(data_root)
        file.truncate(usage.f_bavail * usage.f_frsize // 2)
    _, checks = run(tmp_path, "--offline", "--data-root", data_root, FUTU_SYMBOLS=SYMBOLS, code=0)
    assert checks["disk"]["result"] == "warn"
    assert "full in 2.0 recorded days" in checks["disk"]["found"]


def test_no_home(tmp_path: Path) -> None:
    _, checks = run(tmp_path, "--offline", "--data-root", tmp_path, FUTU_SYMBOLS=SYMBOLS, HOME="", code=0)
    assert results(checks, "home", "sdk_log") == ["warn", "ok"]


def test_no_zone_data(tmp_path: Path) -> None:
    """Neither the system's nor the package's: everything that needs Hong Kong's time is skipped, nothing breaks."""
    (tmp_path / "shadow" / "tzdata").mkdir(parents=True)
    (tmp_path / "shadow" / "tzdata" / "__init__.py").touch()
    hidden = {"PYTHONTZPATH": "", "PYTHONPATH": tmp_path / "shadow"}
    probe = "import zoneinfo; zoneinfo.ZoneInfo('Asia/Hong_Kong')"
    env = clean_env(tmp_path / "home", **hidden)
    assert subprocess.run([sys.executable, "-c", probe], env=env, capture_output=True, check=False).returncode != 0
    _, checks = run(tmp_path, "--offline", "--data-root", tmp_path, FUTU_SYMBOLS=SYMBOLS, code=1, **hidden)
    assert checks["zone_data"]["result"] == "fail"
    assert "tzdata" in checks["zone_data"]["advice"]
    assert results(checks, "configuration", "data_directory", "disk") == ["ok", "ok", "ok"]


def test_what_a_person_reads(simulator: Simulator, tmp_path: Path) -> None:
    settings = {"FUTU_PORT": simulator.port, "FUTU_SYMBOLS": "HK.00700,HK.99999", "DATA_ROOT": tmp_path}
    command = [str(BIN / "hk-tickctl"), "doctor"]
    env = clean_env(tmp_path / "home", **settings)
    done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["ok", "home", str(tmp_path / "home")]
    at = next(n for n, line in enumerate(lines) if line.startswith("fail"))
    assert lines[at].split()[:2] == ["fail", "symbols"]
    assert lines[at + 1].strip().startswith("-> take them out of FUTU_SYMBOLS")
    assert lines[-1] == "14 ok, 1 fail, 1 skipped"
