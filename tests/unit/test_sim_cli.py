"""The command line: what is wrong is named, and exit codes are 0, 1 and 2."""

from __future__ import annotations

import json
import socket
import threading
from pathlib import Path

import pytest

from hk_tick_collector.opend_sim.cli import main


def fails(argv: list[str]) -> int:
    with pytest.raises(SystemExit) as info:
        main(argv)
    assert isinstance(info.value.code, int)
    return info.value.code


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        ([], "COMMAND"),
        (["run", "--start", "yesterday"], "'yesterday' is not a time like 2026-11-20T09:29:50"),
        (["run", "--port", "70000"], "not from 0 to 65535"),
        (["run", "--speed", "0"], "not above 0"),
        (["run", "--quota", "-3"], "-3"),
        (["run", "--control-port", "0", "--control-socket", "x"], "not allowed with"),
        (["ctl", "drop"], "--control"),
        (["check"], "--truth"),
    ],
)
def test_wrong_usage_is_exit_two(argv: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert fails(argv) == 2
    assert text in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--symbols", "US.AAPL"], "US.AAPL"),
        (["--symbols-count", "9999"], "9999 symbols"),
        (["--scenario", "absent.txt"], "absent.txt"),
        (["--rsa-key", "absent.pem"], "absent.pem"),
        (["--truth", "no/such/folder/truth"], "truth"),
        (["--firehose", "10", "--rate", "5"], "--firehose"),
        (["--replay", "20261120.db", "--rate", "5"], "--replay"),
        (["--rate", "2000000"], "rate_per_sec"),
    ],
)
def test_a_run_that_cannot_start_says_why(
    options: list[str], text: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["run", "--port", "0", *options]) == 2
    captured = capsys.readouterr()
    assert text in captured.err
    assert "Traceback" not in captured.err
    assert "opend_sim_ready" not in captured.out


def test_a_taken_port_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["run", "--port", str(port), "--symbols", "HK.00700"]) == 2
    assert f"cannot listen on 127.0.0.1:{port}" in capsys.readouterr().err


def test_an_unknown_fault_names_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ctl", "--control", "127.0.0.1:1", "explode"]) == 2
    answer = json.loads(capsys.readouterr().out)
    assert answer["ok"] is False
    assert "unknown fault 'explode'; known faults: drop, refuse" in answer["error"]


def test_no_simulator_there_is_exit_one(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["ctl", "--control", str(tmp_path / "no.sock"), "drop"]) == 1
    told = capsys.readouterr().err
    assert "no simulator at" in told
    assert "Errno" not in told


def test_a_truth_file_that_is_not_there_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("check", "check-books"):
        assert main([command, "--truth", str(tmp_path / "none"), "--data-root", str(tmp_path)]) == 2
        assert f"the truth file cannot be read: {tmp_path}/none: No such file or directory" in capsys.readouterr().err


def test_something_else_on_the_control_address_is_exit_one(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:

        def answer() -> None:
            conn, _ = other.accept()
            with conn:
                conn.recv(100)
                conn.sendall(b"HTTP/1.1 400 Bad Request\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        assert main(["ctl", "--control", f"127.0.0.1:{other.getsockname()[1]}", "drop"]) == 1
        thread.join(60)
    assert "does not answer as a simulator" in capsys.readouterr().err


def test_help_lists_every_fault(capsys: pytest.CaptureFixture[str]) -> None:
    assert fails(["ctl", "--help"]) == 0
    text = capsys.readouterr().out
    assert "unreadable [every=EVERY] [kind=time|nan|negative|enum|zero-seq|future|turnover|sign]" in text
    assert "throttle bytes_per_sec=BYTES_PER_SEC" in text


def test_check_of_nothing_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--truth", str(tmp_path / "absent"), "--data-root", str(tmp_path)]) == 2
    assert "absent" in capsys.readouterr().err
