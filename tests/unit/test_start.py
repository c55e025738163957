"""The start waits for what time can heal, and for nothing else."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from hk_tick_collector.app.config_sources import given_settings
from hk_tick_collector.app.program import program
from hk_tick_collector.app.start import RETRY_MAX_SEC, may_heal, until_it_works
from hk_tick_collector.clickhouse import password
from hk_tick_collector.core.errors import ConfigError, StoreUnavailable


class Disk:
    """Fails so many times, then works."""

    def __init__(self, failures: int, error: Exception) -> None:
        self.failures = failures
        self.error = error
        self.waits_sec: list[float] = []

    def step(self) -> str:
        if len(self.waits_sec) < self.failures:
            raise self.error
        return "there"


def test_a_disk_that_does_not_answer_is_waited_for_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    disk = Disk(100, StoreUnavailable("DATA_ROOT: directory /data does not answer (Stale file handle)"))
    assert until_it_works(disk.step, disk.waits_sec.append) == "there"
    assert len(disk.waits_sec) == 100
    assert max(disk.waits_sec) <= RETRY_MAX_SEC < sum(disk.waits_sec)
    assert caplog.text.count("start_waits") == 1, "not each attempt is a line"
    assert "Stale file handle" in caplog.text


def test_the_manager_hears_what_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr("hk_tick_collector.app.start.notify", told.append)
    disk = Disk(2, StoreUnavailable("DATA_ROOT: /data is not mounted"))
    until_it_works(disk.step, disk.waits_sec.append)
    assert told == ["STATUS=waiting to start: DATA_ROOT: /data is not mounted"] * 2


def test_a_wrong_setting_is_not_waited_for() -> None:
    disk = Disk(1, ConfigError("FUTU_PORT=abc is not a number"))
    with pytest.raises(ConfigError):
        until_it_works(disk.step, disk.waits_sec.append)
    assert not disk.waits_sec


@pytest.mark.parametrize(("number", "waits"), [(errno.EIO, True), (errno.ESTALE, True), (errno.EACCES, False)])
def test_a_settings_file_on_a_disk_that_stumbles_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, waits: bool
) -> None:
    env_file = tmp_path / ".env"
    env_file.write_text("FUTU_SYMBOLS=HK.00700\n")
    waits_sec: list[float] = []
    real = os.open

    def stumbles(path: Any, *arguments: Any, **named: Any) -> int:
        if path == env_file and not waits_sec:
            raise OSError(number, "the disk stumbles")
        return real(path, *arguments, **named)

    monkeypatch.setattr(os, "open", stumbles)
    try:
        until_it_works(lambda: given_settings(env_file, {}, ["FUTU_SYMBOLS"]), waits_sec.append)
    except ConfigError:
        assert not waits
    assert len(waits_sec) == waits


@pytest.mark.parametrize(
    ("number", "code"), [(errno.EIO, 1), (errno.ESTALE, 1), (errno.ENOENT, 78), (errno.EACCES, 78)]
)
def test_other_programs_too_stay_down_only_for_what_no_time_heals(
    number: int, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """With 78 the service manager starts none of them again."""

    def load(path: Path | None) -> None:
        try:
            raise OSError(number, os.strerror(number), "secret")
        except OSError as exc:
            raise ConfigError(f"SHIP_PASSWORD_FILE=secret cannot be read: {exc.strerror}") from exc

    assert program("hk-tick-ship", "Ship.", "ship", load, lambda _: "", lambda _: 0, []) == code
    assert os.strerror(number) in capsys.readouterr().err


def test_a_password_on_a_disk_that_stumbles_is_the_machines_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stumble(path: Path) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))

    file = tmp_path / "password"
    file.write_text("x")
    file.chmod(0o600)
    monkeypatch.setattr(password, "open_regular", stumble)
    with pytest.raises(ConfigError) as info:
        password.password_of(file, {}, "SHIP_PASSWORD_FILE", "ship")
    assert may_heal(info.value)
