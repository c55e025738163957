"""Code of vendors, and programs for backtests, where they cannot be installed: a check goes on without them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.harness import DEADLINE_SEC, clean_env
from tests.nights import at_night, by_day
from tests.scratch_tree import copy_scripts, copy_tree, make_venv

NOBODY = "http://127.0.0.1:9"  # no index listens there
TESTS = (
    "tests/unit/sources/shioaji/test_mapping.py::test_a_contract_s_tick_of_the_vendor_s_own_class_becomes_a_tick",
    "tests/integration/test_dxlink.py::test_dxfeed_s_own_client_is_told_the_same_trades",
    "tests/integration/test_hftbacktest.py::test_a_backtest_sees_the_books_that_were_pushed",
    "tests/integration/test_nautilus.py::test_a_backtest_trades_on_what_was_recorded",
)


def run(tree: Path, *command: str, **changes: object) -> subprocess.CompletedProcess[str]:
    settings: dict[str, object] = {"XDG_CACHE_HOME": tree.parent / "cache", **changes}
    env = clean_env(
        tree.parent / "home", **{"PYTHON": sys.executable, **settings},
        PIP_CONFIG_FILE="/dev/null", PIP_INDEX_URL=f"{NOBODY}/simple", PIP_NO_INDEX=0,
        PIP_FIND_LINKS="", PIP_EXTRA_INDEX_URL="", PIP_RETRIES=0, npm_config_registry=NOBODY,
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
    tree = copy_scripts(tmp_path / "tree")
    for script, reason, mark in (
        ("vendors.sh", "shioaji could not be installed", "shioaji/.wanted"),
        ("backtest_venv.sh", "HftBacktest and NautilusTrader could not be installed", "backtest/.wanted"),
    ):
        done = run(tree, "bash", f"scripts/{script}")
        assert done.returncode == 69, done.stdout + done.stderr
        assert f"{script}: {reason}" in done.stderr
        assert not (tree / ".venv" / mark).exists()
    assert not (tree / ".venv/dxlink/.wanted").exists()


# A lock that nothing has to be fetched for.
NOTHING = "# nothing\n"


def beside(tree: Path, **changes: object) -> Path:
    """Where the environment is that a clone gets."""
    (tree / "requirements/nothing.txt").write_text(NOTHING)
    words = f'. scripts/lib_venv.sh; python="{sys.executable}"; ensure_beside nothing'
    done = run(tree, "bash", "-euc", words, **changes)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tree / ".venv/nothing/.wanted").exists()
    return (tree / ".venv/nothing").resolve()


@pytest.mark.parametrize("is_ours_there", by_day([True, False], bool))
def test_an_environment_beside_ours_is_made_once_for_all_clones(tmp_path: Path, is_ours_there: bool) -> None:
    """By our pip where there is one: one of its own takes longer than all that such an environment holds."""
    trees = [copy_scripts(tmp_path / name) for name in ("a tree", "another")]
    if is_ours_there:
        make_venv(trees[0])
    made = beside(trees[0])
    assert made.parent == tmp_path / "cache/hk-tick-collector-tests"
    assert any(made.glob("lib/python3*/site-packages/pip")) != is_ours_there
    written_ns = (made / ".wanted").stat().st_mtime_ns
    assert beside(trees[1]) == made
    assert (made / ".wanted").stat().st_mtime_ns == written_ns
    assert [path.name for path in made.parent.iterdir()] == [made.name], "nothing half made is left"


def test_an_environment_that_no_clone_wanted_for_a_month_is_removed(tmp_path: Path) -> None:
    tree = copy_scripts(tmp_path / "tree")
    make_venv(tree)
    kept = tmp_path / "cache/hk-tick-collector-tests"
    for name, days in (("beside-nothing-0123", 40), ("beside-nothing-4567", 20), ("beside-other-0123", 40)):
        (kept / name / "lib").mkdir(parents=True)
        os.utime(kept / name, (time.time() - days * 86_400,) * 2)
    made = beside(tree)
    assert {path.name for path in kept.iterdir()} == {made.name, "beside-nothing-4567", "beside-other-0123"}


def test_where_no_cache_can_be_written_the_environment_is_the_clone_s_own(tmp_path: Path) -> None:
    tree = copy_scripts(tmp_path / "tree")
    make_venv(tree)
    (tmp_path / "a file").touch()
    assert beside(tree, XDG_CACHE_HOME=tmp_path / "a file") == tree / ".venv/nothing"


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a directory to another user")
def test_what_somebody_else_can_write_is_no_cache(tmp_path: Path) -> None:
    tree = copy_scripts(tmp_path / "tree")
    make_venv(tree)
    theirs = tmp_path / "cache/hk-tick-collector-tests"
    theirs.mkdir(parents=True)
    os.chown(theirs, 65_534, 65_534)
    assert beside(tree) == tree / ".venv/nothing"
    assert not list(theirs.iterdir())


def test_without_room_for_an_environment_none_is_made_elsewhere(tmp_path: Path) -> None:
    """A directory without a name is the current one, and its files are those of the root directory."""
    tree = copy_scripts(tmp_path / "tree")
    (tree / "requirements/nothing.txt").write_text(NOTHING)
    full = 'mktemp() { return 1; }; quietly() { echo "runs $*" >&2; return 1; }'
    words = f'. scripts/lib_venv.sh; python="{sys.executable}"; {full}; ensure_beside nothing || exit 9'
    done = run(tree, "bash", "-euc", words)
    assert done.returncode == 9, done.stdout + done.stderr
    assert "runs" not in done.stderr


# A pip that notes how it is called and can reach nothing.
PIP = """\
import sys
from pathlib import Path
Path("calls").write_text(" ".join(sys.argv[1:]))
sys.exit("no index answers")
"""


@pytest.mark.parametrize(("version", "is_old"), [("23.2.1", True), ("25.1.1", False)])
def test_an_old_pip_is_renewed_where_that_is_possible(tmp_path: Path, version: str, is_old: bool) -> None:
    """It takes half as much computing again. That it cannot be renewed is no word to a user: it works as well."""
    tree = copy_tree(tmp_path / "tree")
    make_venv(tree)
    pip = next((tree / ".venv/lib").glob("python3*/site-packages")) / "pip"
    pip.mkdir()
    (pip / "__init__.py").write_text(f'__version__ = "{version}"\n')
    (pip / "__main__.py").write_text(PIP)
    done = run(tree, "bash", "-euc", ". scripts/lib_venv.sh; renew_pip")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tree / "calls").exists() == is_old
    assert not is_old or (tree / "calls").read_text().endswith("--upgrade pip")


@pytest.mark.parametrize("wanted", ["", "python3.99"])
def test_the_systems_python_is_taken_unless_another_one_is_named(tmp_path: Path, wanted: str) -> None:
    """One that a version manager has compiled may need a quarter more for the same."""
    is_there = '/usr/bin/python3 -I -c "import ensurepip, sys, venv; assert sys.version_info >= (3, 11)"'
    tree = copy_tree(tmp_path / "tree")
    ours = "/usr/bin/python3" if run(tree, "bash", "-c", is_there).returncode == 0 else "python3"
    done = run(tree, "bash", "-euc", '. scripts/lib_venv.sh; echo "$python"', PYTHON=wanted)
    assert (done.returncode, done.stdout) == (0, f"{wanted or ours}\n"), done.stderr
