"""What the simulators share: what is wrong with a command line is a sentence, and the pace of a market."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from hk_tick_collector.dxlink_sim import cli as dxlink
from hk_tick_collector.gexbot_sim import cli as gexbot
from hk_tick_collector.schwab_sim import cli as schwab
from hk_tick_collector.shioaji_sim import cli as shioaji
from hk_tick_collector.sims.pace import Pace

COMMANDS = {"dxlink": dxlink.main, "gexbot": gexbot.main, "schwab": schwab.main, "shioaji": shioaji.main}
Main = Callable[[list[str]], int]


@pytest.fixture(params=COMMANDS)
def name(request: pytest.FixtureRequest) -> str:
    sim_name: str = request.param
    return sim_name


@pytest.fixture
def main(name: str) -> Main:
    return COMMANDS[name]


@pytest.mark.parametrize("text", ["no json\n", "[]\n", '{"symbol": "AAPL"}\n', "\xff\xfe\n", "7\n"])
def test_what_is_no_truth_file_is_said(
    main: Main, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    truth = tmp_path / "truth"
    truth.write_bytes(text.encode("latin-1"))
    assert main(["check", str(truth), str(tmp_path)]) == 2
    assert f"{truth} is not a truth file" in capsys.readouterr().err


def test_a_file_and_a_port_that_cannot_be_had_are_said(
    name: str, main: Main, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", str(tmp_path / "none"), str(tmp_path)]) == 2
    assert f"hk-{name}-sim: {tmp_path}/none: No such file or directory" in capsys.readouterr().err
    assert main(["run", "--truth", str(tmp_path / "none" / "truth")]) == 2
    assert f"hk-{name}-sim: {tmp_path}/none/truth: No such file or directory" in capsys.readouterr().err
    with socket.create_server(("127.0.0.1", 0)) as taken:
        option = "--rest-port" if name in ("dxlink", "schwab") else "--port"
        assert main(["run", option, str(taken.getsockname()[1])]) == 2
    assert "Address already in use" in capsys.readouterr().err


def test_a_port_or_a_rate_that_cannot_be_is_a_wrong_command_line(
    name: str, main: Main, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = [(["run", "--port", "99999"], "--port: 99999 is not from 0 to 65535")]
    if name in ("dxlink", "schwab"):
        wrong.append((["run", "--rest-port", "-1"], "--rest-port: -1 is not from 0 to 65535"))
    if name != "gexbot":
        wrong += [(["run", "--rate", text], f"--rate: {text} is not above 0") for text in ("0", "nan", "inf")]
    for words, told in wrong:
        with pytest.raises(SystemExit, match="2"):
            main(words)
        assert told in capsys.readouterr().err
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    fault = "garbage"
    assert main(["fault", str(port), fault]) == 1
    assert f"{fault} was not done: Connection refused; is a simulator on port {port}?" in capsys.readouterr().err


def test_an_empty_data_root_is_no_day_without_faults(
    name: str, main: Main, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "truth").touch()
    assert main(["check", str(tmp_path / "truth"), str(tmp_path)]) == 3
    assert f"no {'snapshot' if name == 'gexbot' else 'tick'} is recorded" in capsys.readouterr().out


def test_a_fault_that_nobody_does_is_said(name: str, main: Main, capsys: pytest.CaptureFixture[str]) -> None:
    fault = "busy"
    with socket.create_server(("127.0.0.1", 0)) as unheard:
        port = unheard.getsockname()[1]
    assert main(["fault", str(port), fault]) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert f"hk-{name}-sim: busy was not done: " in told.err
    assert f"is a simulator on port {port}?" in told.err


def test_a_fault_that_another_server_refuses_is_said(main: Main, capsys: pytest.CaptureFixture[str]) -> None:
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as other:  # knows no POST
        thread = threading.Thread(target=other.handle_request)
        thread.start()
        assert main(["fault", str(other.server_port), "busy"]) == 1
        thread.join()
    assert "busy was not done: HTTP Error 501" in capsys.readouterr().err


def test_help_names_every_fault(name: str, main: Main, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["fault", "--help"])
    assert ended.value.code == 0
    assert "429" in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        main(["fault", "1", "no-such-fault"])
    assert ended.value.code == 2
    with pytest.raises(SystemExit):
        main(["--version"])
    assert f"hk-{name}-sim" in capsys.readouterr().out


def test_a_line_that_is_not_written_to_its_end_is_not_there_yet(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = {"series": "SPX/classic/gex_full", "second": 1, "digest": "", "odd": False, "how": "live"}
    (tmp_path / "truth").write_text(json.dumps(line) + "\n" + json.dumps(line)[:-9])
    assert gexbot.main(["check", str(tmp_path / "truth"), str(tmp_path)]) == 3
    assert "no snapshot" in capsys.readouterr().out


class Clock:
    def __init__(self) -> None:
        self.now_sec = 50.0

    def __call__(self) -> float:
        return self.now_sec


def test_a_market_makes_what_is_due_and_nothing_of_its_pauses() -> None:
    clock = Clock()
    pace = Pace(10.0, 25, clock)
    made = []
    for after_sec, is_paused in [(0.05, False), (0.1, False), (0.5, True), (0.1, False), (9.0, False), (0.1, False)]:
        clock.now_sec += after_sec
        made.append(pace.due(is_paused=is_paused))
    assert made == [0, 1, 0, 1, 25, 1]


def test_a_reader_that_has_enough_ends_a_command_without_a_stack(tmp_path: Path) -> None:
    """As ``hk-opend-sim check ... | head -1``: the whole of what a command prints is written when it ends."""
    work = "import sys; from hk_tick_collector.sims.command import printed; sys.exit(printed(lambda: print('x') or 0))"
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as gone:
        done = subprocess.run([sys.executable, "-c", work], stdout=gone, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (141, "")
