"""``hk-tickctl config``: what is in effect, from where, and what is wrong."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from Crypto.PublicKey import RSA

from hk_tick_collector.app.config import setting_table
from tests import forked
from tests.harness import BIN, clean_env


def config(tmp_path: Path, *arguments: object, **settings: object) -> subprocess.CompletedProcess[str]:
    cwd = tmp_path / "cwd"
    cwd.mkdir(exist_ok=True)
    words = ["config", *map(str, arguments)]
    return forked.parent("config").run(words, clean_env(tmp_path / "home", **settings), 60, cwd)


def settings_of(tmp_path: Path, *arguments: object, **settings: object) -> dict[str, dict[str, Any]]:
    done = config(tmp_path, *arguments, "--json", **settings)
    assert done.returncode == 0, done.stderr
    return {row["setting"]: row for row in json.loads(done.stdout)["settings"]}


@pytest.fixture
def env_file(tmp_path: Path) -> Path:
    path = tmp_path / "of-the-service.env"
    path.write_text("FUTU_SYMBOLS=HK.00700,5\nFUTU_PORT=22222\nDATA_ROOT=days\nLOG_LEVEL=\nOTHER_PROGRAMS=1\n")
    return path


def test_each_value_with_its_source(tmp_path: Path, env_file: Path) -> None:
    rows = settings_of(tmp_path, "--env-file", env_file, FUTU_PORT=33333, BATCH_SIZE="")
    assert list(rows) == [info.key for info in setting_table()]
    assert rows["FUTU_PORT"]["value"] == "33333"
    assert rows["FUTU_PORT"]["source"] == "the environment"
    assert rows["FUTU_SYMBOLS"]["value"] == "HK.00700,HK.00005"
    assert rows["FUTU_SYMBOLS"]["source"] == str(env_file)
    assert rows["DATA_ROOT"]["value"] == str(tmp_path / "days"), "relative to the file"
    assert (rows["BATCH_SIZE"]["value"], rows["BATCH_SIZE"]["source"]) == ("500", "default")
    assert (rows["LOG_LEVEL"]["value"], rows["LOG_LEVEL"]["source"]) == ("INFO", "default"), "empty is not given"


def test_the_file_in_the_working_directory_is_read(tmp_path: Path) -> None:
    (tmp_path / "cwd").mkdir()
    (tmp_path / "cwd" / ".env").write_text("FUTU_SYMBOLS=HK.00700\n")
    assert settings_of(tmp_path)["FUTU_SYMBOLS"]["source"] == ".env"


def test_only_what_was_changed(tmp_path: Path, env_file: Path) -> None:
    rows = settings_of(tmp_path, "--changed", "--env-file", env_file, BATCH_SIZE=500)
    assert set(rows) == {"FUTU_SYMBOLS", "FUTU_PORT", "DATA_ROOT"}


def test_options_of_the_command_win(tmp_path: Path, env_file: Path) -> None:
    rows = settings_of(tmp_path, "--env-file", env_file, "--data-root", tmp_path)
    assert rows["DATA_ROOT"]["value"] == str(tmp_path)
    assert rows["DATA_ROOT"]["source"] == "the option --data-root"


def test_secrets_are_hidden(tmp_path: Path, env_file: Path) -> None:
    key = tmp_path / "very-secret-place.pem"
    key.write_bytes(RSA.generate(1024).export_key("PEM", pkcs=1))
    for arguments in ([], ["--json"]):
        done = config(tmp_path, "--env-file", env_file, *arguments, FUTU_RSA_KEY_FILE=key)
        assert done.returncode == 0
        assert "(hidden)" in done.stdout
        assert "very-secret-place" not in done.stdout + done.stderr
    assert "(hidden)" not in config(tmp_path, "--env-file", env_file).stdout


def test_everything_that_is_wrong_is_told(tmp_path: Path, env_file: Path) -> None:
    env_file.write_text(env_file.read_text() + "BATCH_SIZ=3\n")
    wrong = {"FUTU_PORT": "many", "WATCHDOG_STALL_SEC": 1, "CHECK_INTERVAL_SEC": 9}
    done = config(tmp_path, "--env-file", env_file, **wrong)
    assert (done.returncode, done.stdout) == (2, "")
    for part in ("FUTU_PORT='many'", "did you mean BATCH_SIZE", "CHECK_INTERVAL_SEC=9"):
        assert part in done.stderr
    done = config(tmp_path, "--env-file", env_file, "--json", **wrong)
    assert done.returncode == 2
    keys = [problem["key"] for problem in json.loads(done.stdout)["problems"]]
    assert {"FUTU_PORT", "BATCH_SIZ", "CHECK_INTERVAL_SEC"} <= set(keys)


def test_no_file_and_nothing_set(tmp_path: Path) -> None:
    done = config(tmp_path)
    assert done.returncode == 2
    assert "FUTU_SYMBOLS is not set" in done.stderr
    done = config(tmp_path, "--env-file", tmp_path / "absent.env")
    assert done.returncode == 2
    assert "absent.env cannot be read" in done.stderr


def test_a_setting_on_two_lines_is_told_by_whoever_shows_settings(tmp_path: Path) -> None:
    """The last one counts: who changed the first one sees no change."""
    twice = tmp_path / "twice.env"
    twice.write_text("FUTU_SYMBOLS=HK.00700\nDATA_ROOT=days\nFUTU_SYMBOLS=HK.00005\n")
    told = f"note: {twice} sets FUTU_SYMBOLS on lines 1, 3: the last one counts\n"
    done = config(tmp_path, "--env-file", twice, "--changed")
    assert (done.returncode, told in done.stderr) == (0, True), done.stderr
    recorder = [str(BIN / "hk-tick-collector"), "--check-config", "--env-file", str(twice)]
    checked = subprocess.run(
        recorder, env=clean_env(tmp_path / "home"), capture_output=True, text=True, timeout=60, check=False
    )
    assert (checked.returncode, told in checked.stderr) == (0, True), checked.stderr
    assert "1 symbol, data root" in checked.stdout
