"""``docs/configuration.md`` and ``.env.example`` say what the settings class does."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from dotenv import dotenv_values

from hk_tick_collector.app.config import load_settings
from hk_tick_collector.cli.all_settings import all_settings_table

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "config_docs.py"
CATALOGUE = ROOT / "scripts" / "config_docs.zh-Hant.toml"


def run_generator(script: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_files_are_what_the_generator_writes() -> None:
    done = run_generator(SCRIPT, "--check")
    assert done.returncode == 0, done.stdout + done.stderr


def test_generator_notices_and_repairs_a_file_that_differs(tmp_path: Path) -> None:
    """On a copy of the layout, since the script works on the tree it lies in."""
    (tmp_path / "scripts").mkdir()
    (tmp_path / "docs").mkdir()
    script = tmp_path / "scripts" / SCRIPT.name
    script.write_text(SCRIPT.read_text(encoding="utf-8"), encoding="utf-8")
    shutil.copy(CATALOGUE, script.parent)
    page = tmp_path / "docs" / "configuration.md"
    page.write_text("old")

    checked = run_generator(script, "--check")
    assert checked.returncode == 1
    assert "docs/configuration.md: out of date" in checked.stdout
    assert page.read_text() == "old"
    assert run_generator(script).returncode == 0
    assert run_generator(script, "--check").returncode == 0
    assert page.read_text(encoding="utf-8") == (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")


def test_every_setting_has_one_row_with_its_default() -> None:
    for name, required, empty in (
        ("configuration.md", "required", "empty"),
        ("configuration.zh-Hant.md", "必填", "空白"),
    ):
        page = (ROOT / "docs" / name).read_text(encoding="utf-8")
        for info in all_settings_table():
            rows = re.findall(rf"^\| `{info.key}` \| (.*?) \|", page, re.MULTILINE)
            expected = required if info.default is None else f"`{info.default}`" if info.default else empty
            assert rows == [expected], info.key


def test_a_text_without_its_chinese_is_named_and_one_that_nothing_says(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "scripts").mkdir()
    script = tmp_path / "scripts" / SCRIPT.name
    shutil.copy(SCRIPT, script)
    texts = CATALOGUE.read_text(encoding="utf-8")
    script.with_name(CATALOGUE.name).write_text(
        texts.replace('"Where OpenD listens."', '"Where OpenD was."').replace('"rows"', '"lines"'), encoding="utf-8"
    )
    done = run_generator(script)
    assert done.returncode == 1
    assert done.stdout.splitlines()[:4] == [
        f"scripts/{CATALOGUE.name}: has no Chinese yet: Where OpenD listens.",
        f"scripts/{CATALOGUE.name}: has no Chinese yet: rows",
        f"scripts/{CATALOGUE.name}: no setting says this any more: lines",
        f"scripts/{CATALOGUE.name}: no setting says this any more: Where OpenD was.",
    ]


def test_example_names_every_key_with_its_default() -> None:
    example = dotenv_values(ROOT / ".env.example", interpolate=False)
    defaults = {info.key: info.default for info in all_settings_table()}
    assert example.keys() == defaults.keys()
    assert {key: text for key, text in example.items() if defaults[key] is not None} == {
        key: text for key, text in defaults.items() if text is not None
    }


def test_example_works_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    example = load_settings(ROOT / ".env.example", {})
    assert example == load_settings(None, {"FUTU_SYMBOLS": ",".join(example.futu_symbols)})


def test_example_can_be_read_by_systemd_too() -> None:
    """EnvironmentFile= knows comments only at the beginning of a line."""
    for line in (ROOT / ".env.example").read_text(encoding="utf-8").splitlines():
        assert line == "" or line.startswith("#") or re.fullmatch(r"[A-Z_]+=[^#'\"$\s]*", line), line
