"""Code of vendors, and programs for backtests, where they cannot be installed: a check goes on without them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness import DEADLINE_SEC, clean_env
from tests.nights import at_night, by_day
from tests.scratch_tree import copy_tree, make_venv

NOBODY = "http://127.0.0.1:9"  # no index listens there
TESTS = (
    "tests/unit/sources/shioaji/test_mapping.py::test_a_contract_s_tick_of_the_vendor_s_own_class_becomes_a_tick",
    "tests/integration/test_dxlink.py::test_dxfeed_s_own_client_is_told_the_same_trades",
    "tests/integration/test_hftbacktest.py::test_a_backtest_sees_the_books_that_were_pushed",
    "tests/integration/test_nautilus.py::test_a_backtest_trades_on_what_was_recorded",
)


def run(tree: Path, *command: str) -> subprocess.CompletedProcess[str]:
    env = clean_env(
        tree.parent / "home", PYTHON=sys.executable, PIP_CONFIG_FILE="/dev/null", PIP_INDEX_URL=f"{NOBODY}/simple",
        PIP_NO_INDEX=0, PIP_FIND_LINKS="", PIP_EXTRA_INDEX_URL="", PIP_RETRIES=0, npm_config_registry=NOBODY,
        npm_config_fetch_retries=0, TESTS="", CI="",
    )  # fmt: skip
    return subprocess.run(
        command, cwd=tree, env=env, capture_output=True, text=True, timeout=DEADLINE_SEC, check=False
    )  # fmt: skip


def test_of_what_is_installed_by_half_the_tests_are_left_out(tmp_path: Path) -> None:
    tree = copy_tree(tmp_path / "tree")
    (tree / ".venv/dxlink/node_modules").mkdir(parents=True)
    for name in ("shioaji", "backtest"):
        (tree / ".venv" / name / "bin").mkdir(parents=True)
        (tree / ".venv" / name / "bin/python").symlink_to(sys.executable)
    done = run(tree, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", "0", *TESTS)
    assert f"{len(TESTS)} skipped" in done.stdout.splitlines()[-1], done.stdout + done.stderr


@at_night(held_by="test_of_what_is_installed_by_half_the_tests_are_left_out")
def test_what_cannot_be_installed_is_said_and_has_no_mark(tmp_path: Path) -> None:
    tree = copy_tree(tmp_path / "tree")
    for script, reason, mark in (
        ("vendors.sh", "shioaji could not be installed", "shioaji/.wanted"),
        ("backtest_venv.sh", "HftBacktest and NautilusTrader could not be installed", "backtest/.requirements"),
    ):
        done = run(tree, "bash", f"scripts/{script}")
        assert done.returncode == 69, done.stdout + done.stderr
        assert f"{script}: {reason}" in done.stderr
        assert not (tree / ".venv" / mark).exists()
    assert not (tree / ".venv/dxlink/.wanted").exists()


@pytest.mark.parametrize("is_ours_there", by_day([True, False], bool))
def test_an_environment_beside_ours_is_filled_by_our_pip(tmp_path: Path, is_ours_there: bool) -> None:
    """One of its own takes longer than all that such an environment holds."""
    tree = copy_tree(tmp_path / "tree")
    if is_ours_there:
        make_venv(tree)
    filled = '. scripts/lib_venv.sh; make_beside place; "${pip[@]}" list --format=freeze'
    done = run(tree, "bash", "-euc", filled)
    assert done.returncode == 0, done.stdout + done.stderr
    held = {line.split("==")[0] for line in done.stdout.splitlines()}
    assert held <= {"pip", "setuptools"}, "of that environment"
    assert ("pip" in held) != is_ours_there
