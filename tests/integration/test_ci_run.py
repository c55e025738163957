"""``.ci/run`` on programs that only note how they are called: what runs side by side, what has a second chance, and
what its exit code says."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
from pathlib import Path

import pytest

from tests.harness import Process, clean_env, ended, wait_until
from tests.scratch_tree import ROOT

# Each call is a line. A program fails while its number of calls is not above what FAILS says of it (``name=calls``).
PROGRAM = """\
#!/bin/bash
name=${0##*/}
[[ $name != "$WAITS" ]] || trap 'echo "$name ended" >>calls; exit 143' TERM
echo "$name $*" >>calls
while [[ $name == "$WAITS" ]]; do sleep 0.1; done
cache=.pytest_cache/$PART/v/cache
[[ $name != test.sh ]] || { mkdir -p $cache && cp failed $cache/lastfailed; }
echo "what $name said"
for failing in $FAILS; do
  [[ $name != "${failing%=*}" ]] || (($(grep -c "^$name " calls) > ${failing#*=})) || exit 1
done
"""
LINTERS = ("ruff", "mypy", "lint-imports", "shellcheck")
# Where the runs of scripts/test.sh keep what failed, and the tests of each.
PARTS = {".": "tests", "faults": "tests/faults", "quick": "tests/docs tests/unit", "systemd": "tests/systemd"}
ONE_FAILED = '{"tests/faults/test_x.py::test_y": true}'


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    for directory in (".ci", "scripts", ".venv/bin", "bin"):
        (tree / directory).mkdir(parents=True)
    shutil.copy(ROOT / ".ci/run", tree / ".ci/run")
    (tree / "scripts/lib_venv.sh").write_text("check_python_version() { :; }\nensure_venv() { env >installing; }\n")
    (tree / "scripts/lib_needs.sh").write_text("ensure_needs() { :; }\n")
    (tree / ".venv/bin/python").symlink_to(sys.executable)
    (tree / "failed").write_text("{}")
    programs = (".ci/bare", "scripts/test.sh", "bin/shellcheck", *(f".venv/bin/{name}" for name in LINTERS[:3]))
    for name in programs:
        (tree / name).write_text(PROGRAM)
        (tree / name).chmod(0o755)
    return tree


def run(tree: Path, *, fails: str = "", waits: str = "", **more_env: str) -> Process:
    path = f"{tree / 'bin'}:{os.environ['PATH']}"
    env = clean_env(tree / "home", PATH=path, FAILS=fails, WAITS=waits, **more_env)
    return Process(["bash", tree / ".ci/run"], env)


def ended_with(tree: Path, code: int, **how: str) -> list[str]:
    with ended(script := run(tree, **how)):
        assert script.wait() == code, script.output
    return script.lines


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="a bare machine is made by root alone")


def test_all_is_green(tree: Path) -> None:
    lines = ended_with(tree, 0)
    assert {"ok    tests", *(f"ok    {name}" for name in ("ruff check", "mypy", "import-linter", "shellcheck"))} <= {
        *lines
    }
    assert ("ok    bare machine" in lines) == (os.geteuid() == 0)
    assert "what mypy said" not in lines, "only of what failed"


def test_libraries_are_compiled_when_they_are_imported_and_once(tree: Path) -> None:
    """Most of them never are, and compiling all takes a minute. Where Python keeps nothing, each process does it."""
    with ended(script := run(tree, PYTHONDONTWRITEBYTECODE="1")):
        assert script.wait() == 0, script.output
    environment = (tree / "installing").read_text().splitlines()
    assert "PIP_NO_COMPILE=no" in environment
    assert not [line for line in environment if line.startswith("PYTHONDONTWRITEBYTECODE")]


@pytest.mark.parametrize("linter", LINTERS)
def test_what_a_linter_says_is_shown_and_fails(tree: Path, linter: str) -> None:
    lines = ended_with(tree, 1, fails=f"{linter}=9")
    assert f"what {linter} said" in lines
    assert "ok    tests" in lines


@pytest.mark.parametrize(("part", "where"), PARTS.items())
def test_tests_that_fail_once_are_named_and_those_that_fail_twice_fail(tree: Path, part: str, where: str) -> None:
    (tree / "failed").write_text(ONE_FAILED)
    lines = ended_with(tree, 0, fails="test.sh=1", PART=part)
    assert "unsteady, passed alone: tests/faults/test_x.py::test_y" in lines
    again = f"test.sh -n 0 --last-failed -o cache_dir=.pytest_cache/{part} {where}"
    assert [line for line in (tree / "calls").read_text().splitlines() if line.startswith("test.sh")] == [
        "test.sh ", again,
    ]  # fmt: skip
    (tree / "calls").unlink()
    assert "FAIL  tests (exit code 1)" in ended_with(tree, 1, fails="test.sh=2", PART=part)


def test_each_run_of_the_tests_has_a_second_chance() -> None:
    begun = re.findall(r"^begin (\w+) .*?(tests/.+)$", (ROOT / "scripts/test.sh").read_text(), re.MULTILINE)
    assert {".": "tests", **dict(begun)} == PARTS


@needs_root
def test_a_bare_machine_that_fails_once_is_named_and_one_that_fails_twice_fails(tree: Path) -> None:
    assert "unsteady, passed alone: bare machine" in ended_with(tree, 0, fails="bare=1")
    (tree / "calls").unlink()
    assert "FAIL  bare machine" in ended_with(tree, 1, fails="bare=2")


@needs_root
def test_the_tests_do_not_wait_for_the_bare_machine_which_ends_with_the_run(tree: Path) -> None:
    with ended(script := run(tree, waits="bare")):
        wait_until(lambda: (tree / "calls").exists() and "test.sh" in (tree / "calls").read_text(), "the tests run")
        wait_until(lambda: "what test.sh said" in script.lines, "the tests are over")
        wait_until(lambda: "bare " in (tree / "calls").read_text(), "the bare machine is there")
        script.proc.send_signal(signal.SIGTERM)
        assert script.wait() == 143
    assert "bare ended" in (tree / "calls").read_text()


@needs_root
def test_the_bare_machine_is_made_while_the_environment_is_installed(tree: Path) -> None:
    (tree / "scripts/lib_venv.sh").write_text(
        "check_python_version() { :; }\nensure_venv() { until grep -qs '^bare ' calls; do sleep 0.1; done; }\n"
    )
    ended_with(tree, 0)


@needs_root
def test_the_bare_machine_ends_where_the_environment_cannot_be_installed(tree: Path) -> None:
    (tree / "scripts/lib_venv.sh").write_text(
        "check_python_version() { :; }\nensure_venv() { until grep -qs '^bare ' calls; do sleep 0.1; done; exit 69; }\n"
    )
    ended_with(tree, 69, waits="bare")
    assert "bare ended" in (tree / "calls").read_text()
