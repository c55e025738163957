"""What a user without a service and without root is told of a data root that is not there: what works for that user."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hk_tick_collector import main
from hk_tick_collector.cli import doctor_local
from hk_tick_collector.cli.common import App


def advised(root: Path) -> str:
    return str(doctor_local._writable(App(data_root_given=root), None).advice)


def test_the_directory_that_doctor_advises_belongs_to_who_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1234)
    monkeypatch.setattr(os, "getegid", lambda: 5678)
    assert advised(tmp_path / "HK").endswith(f"sudo install -d -m 0750 -o 1234 -g 5678 {tmp_path}/HK")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert advised(tmp_path / "HK").endswith(f"sudo install -d -m 0750 {tmp_path}/HK"), "root's own"


def test_check_config_says_that_this_user_cannot_make_the_data_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FUTU_SYMBOLS", "700")
    monkeypatch.setenv("DATA_ROOT", str(tmp_path / "a" / "HK"))
    monkeypatch.chdir(tmp_path)
    assert main.main(["--check-config"]) == 0
    assert capsys.readouterr().err == ""
    closed = {tmp_path}
    allowed = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) not in closed and allowed(path, mode))
    assert main.main(["--check-config"]) == 0, "it may be mounted later, and the recorder waits"
    shown = capsys.readouterr()
    assert "configuration ok: 1 symbol, " in shown.out
    assert f"cannot write to {tmp_path}/a/HK now" in shown.err
