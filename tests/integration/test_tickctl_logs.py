"""``hk-tickctl logs``: from the journal, from files that grow and rotate, from standard input."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.fake_tools import append_to_journal, broken_journalctl, journalctl
from tests.harness import BIN, Process, Recorder, Simulator, clean_env, ended, wait_until
from tests.tickctl import tickctl

START_MS = 1_795_138_200_000  # 2026-11-20 09:30:00 in Hong Kong
LINES = [
    "2026-11-20T01:30:00.000Z INFO health connected=True status=ok queue=8",
    "2026-11-20T01:30:01.000Z WARNING futu_symbol_refused symbol=HK.00005 reason=quota",
    "2026-11-20T01:30:02.000Z ERROR task_failed task=feed",
    "Traceback (most recent call last):",
    "2026-11-20T01:30:03.000Z INFO health connected=True status=ok queue=9",
]


@pytest.fixture
def log_file(tmp_path: Path) -> Path:
    path = tmp_path / "recorder.log"
    path.write_text("\n".join(LINES) + "\n")
    return path


def shown(*arguments: object, code: int = 0, **settings: object) -> list[str]:
    done = tickctl("logs", *arguments, **settings)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout.splitlines()


def following(tmp_path: Path, *arguments: object, **settings: object) -> Process:
    command = [BIN / "hk-tickctl", "logs", "--follow", *map(str, arguments)]
    return Process(command, clean_env(tmp_path / "home", **settings))


def test_times_are_on_the_clock_that_was_asked_for(log_file: Path) -> None:
    at_market = shown("--file", log_file, "--times", "market")
    assert at_market[0] == LINES[0].replace("2026-11-20T01:30:00.000Z", "2026-11-20 09:30:00.000 HKT")
    assert at_market[3] == LINES[3], "a line without a time gets none"
    assert shown("--file", log_file, "--times", "utc") == LINES


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], LINES),
        (["-n", 1], LINES[4:]),
        (["--word", "health"], [LINES[0], LINES[4]]),
        (["--level", "warning"], LINES[1:4]),
        (["--symbol", "5"], LINES[1:2]),
        (["--since", "2026-11-20T09:30:02"], LINES[2:]),
        (["--since", "2026-11-20T01:30:01Z", "--until", "2026-11-20T01:30:02+00:00"], LINES[1:4]),
        (["--word", "health", "--word", "task_failed", "-n", 2], LINES[2:]),
    ],
)
def test_a_file(log_file: Path, arguments: list[object], expected: list[str]) -> None:
    assert shown("--file", log_file, *arguments) == expected


def test_json_lines(log_file: Path) -> None:
    first, second, third, _ = map(json.loads, shown("--file", log_file, "--json"))
    assert first == {
        "at_ms": START_MS,
        "at": "2026-11-20T01:30:00.000Z",
        "level": "INFO",
        "word": "health",
        "fields": {"connected": True, "status": "ok", "queue": 8},
        "text": "health connected=True status=ok queue=8",
    }
    assert second["fields"]["symbol"] == "HK.00005"
    assert third["text"].endswith("(most recent call last):")


def test_standard_input(log_file: Path) -> None:
    command = [str(BIN / "hk-tickctl"), "logs", "--file", "-", "--word", "health"]
    env = clean_env(log_file.parent / "home")
    done = subprocess.run(command, input=log_file.read_bytes(), env=env, capture_output=True, timeout=60, check=False)
    assert done.stdout.decode().splitlines() == [LINES[0], LINES[4]]


def test_wrong_input_is_told(log_file: Path, tmp_path: Path) -> None:
    for arguments, code, expected in (
        (["--file", log_file, "--word", "nothing_like_it"], 3, "no line fits"),
        (["--file", tmp_path / "absent"], 1, "absent"),
        (["--file", log_file, "--since", "yesterdayish"], 2, "is not a time"),
        (["--file", log_file, "--level", "loud"], 2, "loud"),
        (["--file", log_file, "--symbol", "HK.7000000"], 2, "HK.7000000"),
        (["--file", log_file, "-n", "-3"], 2, "-3"),
    ):
        done = tickctl("logs", *arguments)
        assert (done.returncode, done.stdout) == (code, ""), done.stderr
        assert expected in done.stderr


def test_neither_journal_nor_file(tmp_path: Path) -> None:
    done = tickctl("logs", PATH=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert "--file" in done.stderr
    assert "journalctl" in done.stderr


def test_a_journal_that_cannot_be_read(tmp_path: Path) -> None:
    done = tickctl(
        "logs", **broken_journalctl(tmp_path, "No journal files were opened due to insufficient permissions.")
    )
    assert done.returncode == 1
    whose = "Lines of hk-tick-collector are for root and the group systemd-journal"
    if os.geteuid() == 0:
        whose = "The journal was read for the unit hk-tick-collector: name another one with --unit"
    assert f"insufficient permissions. {whose}" in done.stderr


def test_the_journal(tmp_path: Path) -> None:
    env = journalctl(
        tmp_path,
        [
            (START_MS, 6, "health connected=True queue=1"),
            (START_MS + 1000, 4, "futu_disconnected reason=x"),
            (START_MS + 2000, 3, "fatal reason=y level=ERROR"),
            (START_MS + 3000, 6, b"health connected=True queue=2"),
        ],
    )
    assert shown(**env) == [
        "2026-11-20T01:30:00.000Z INFO health connected=True queue=1",
        "2026-11-20T01:30:01.000Z WARNING futu_disconnected reason=x",
        "2026-11-20T01:30:02.000Z ERROR fatal reason=y level=ERROR",
        "2026-11-20T01:30:03.000Z INFO health connected=True queue=2",
    ]
    assert len(shown("--level", "WARNING", **env)) == 2
    assert shown("-n", 1, "--word", "health", **env) == ["2026-11-20T01:30:03.000Z INFO health connected=True queue=2"]
    assert len(shown("--since", "2026-11-20T09:30:02", **env)) == 2
    done = tickctl("logs", "--word", "nothing", **env)
    assert done.returncode == 3
    assert "hk-tick-collector" in done.stderr


def test_following_the_journal(tmp_path: Path) -> None:
    env = journalctl(tmp_path, [(START_MS + n, 6, f"health queue={n}") for n in range(5)])
    process = following(tmp_path, "-n", 2, "--word", "health", **env)
    with ended(process):
        wait_until(lambda: len(process.lines) == 2, "the newest two")
        append_to_journal(tmp_path, START_MS + 10, 6, "persist_summary inserted=1")
        append_to_journal(tmp_path, START_MS + 11, 6, "health queue=99")
        process.wait_for("health queue=99")
        process.signal(signal.SIGINT)
        assert process.wait() == 130
    health_lines = [line for line in process.lines if "health" in line]
    assert [line.rpartition("=")[2] for line in health_lines] == ["3", "4", "99"]


def test_following_a_file_over_rotation_and_truncation(log_file: Path, tmp_path: Path) -> None:
    process = following(tmp_path, "--file", log_file, "-n", 1)
    with ended(process):
        wait_until(lambda: process.lines == LINES[4:], "the newest line")
        with log_file.open("a") as file:
            file.write("2026-11-20T01:31:00.000Z INFO one n=1\n2026-11-20T01:31:00.")
            file.flush()
            process.wait_for("one n=1")
            file.write("500Z INFO two n=2\n")
        process.wait_for("two n=2")
        log_file.rename(tmp_path / "recorder.log.1")
        time.sleep(0.5)
        log_file.write_text("2026-11-20T01:32:00.000Z INFO three n=3\n")
        process.wait_for("three n=3")
        with log_file.open("r+") as file:
            file.truncate(0)
        time.sleep(0.5)
        with log_file.open("a") as file:
            file.write("2026-11-20T01:33:00.000Z INFO four n=4\n")
        process.wait_for("four n=4")
        process.signal(signal.SIGINT)
        assert process.wait() == 130
    assert [line.split()[2] for line in process.lines if " n=" in line] == ["one", "two", "three", "four"]


def test_following_standard_input_shows_a_line_when_it_comes(tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    command = [str(BIN / "hk-tickctl"), "logs", "--file", "-", "--follow", "--level", "WARNING"]
    env = {**clean_env(tmp_path / "home")}
    with subprocess.Popen(command, env=env, stdin=read_end, stdout=subprocess.PIPE, text=True) as process:
        os.close(read_end)
        assert process.stdout is not None
        os.write(write_end, (LINES[0] + "\n" + LINES[1] + "\n").encode())
        assert process.stdout.readline() == LINES[1] + "\n"
        os.write(write_end, LINES[2].encode())
        os.close(write_end)
        assert process.stdout.readline() == LINES[2] + "\n"
        assert process.wait(30) == 0


def test_the_lines_of_a_real_recorder(tmp_path: Path) -> None:
    simulator = Simulator(tmp_path / "sim", "--symbols", "HK.00700", "--always-open", "--rate", "100")
    with ended(simulator):
        recorder = Recorder(tmp_path / "HK", simulator.port, "HK.00700,HK.99999")
        with ended(recorder):
            recorder.wait_for("health connected=True")
            recorder.wait_for("persist_loop_heartbeat ")
            recorder.stop()
    log = tmp_path / "log"
    log.write_text(recorder.output + "\n")
    records = [json.loads(line) for line in shown("--file", log, "--json", "--since", "1h")]
    assert len(records) == len(recorder.lines)
    assert all(record["word"] and record["level"] and record["at_ms"] for record in records)
    health = [record for record in records if record["word"] == "health"]
    assert isinstance(health[-1]["fields"]["queue"], int)
    refused = shown("--file", log, "--symbol", "HK.99999")
    assert "futu_symbol_refused" in refused[0]


def test_a_reader_that_has_enough(log_file: Path) -> None:
    log_file.write_text("".join(f"2026-11-20T01:30:00.000Z INFO health queue={n}\n" for n in range(50_000)))
    command = f"{BIN / 'hk-tickctl'} logs --file {log_file} -n 50000 | head -1"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"], env=clean_env(log_file.parent / "home"), capture_output=True,
        text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (141, "")
    assert done.stdout == "2026-11-20T01:30:00.000Z INFO health queue=0\n"
