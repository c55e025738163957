"""The command of the simulated streamer: what is wrong is a sentence."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from hk_tick_collector.schwab_sim.cli import main


@pytest.mark.parametrize("text", ["no json\n", "[]\n", '{"symbol": "AAPL"}\n', "\xff\xfe\n"])
def test_what_is_no_truth_file_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str) -> None:
    truth = tmp_path / "truth"
    truth.write_bytes(text.encode("latin-1"))
    assert main(["check", str(truth), str(tmp_path)]) == 2
    assert f"{truth} is not a truth file" in capsys.readouterr().err


def test_a_file_and_a_port_that_cannot_be_had_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(tmp_path / "none"), str(tmp_path)]) == 2
    assert "No such file" in capsys.readouterr().err
    assert main(["run", "--truth", str(tmp_path / "none" / "truth")]) == 2
    assert "No such file" in capsys.readouterr().err
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert main(["run", "--rest-port", str(taken.getsockname()[1])]) == 2
    assert "Address already in use" in capsys.readouterr().err


def test_an_empty_data_root_is_no_day_without_faults(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "truth").touch()
    assert main(["check", str(tmp_path / "truth"), str(tmp_path)]) == 3
    assert "no tick is recorded" in capsys.readouterr().out
