"""``scripts/test.sh`` without arguments: every test is in one of its four runs, and each of them counts.

The real script beside a Python that only notes how pytest is called.
"""

from __future__ import annotations

import os
import py_compile
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests import rewritten
from tests.harness import Process, clean_env, ended, wait_until
from tests.scratch_tree import ROOT, copy_scripts, make_venv

PYTHON = """\
#!/bin/bash
[[ " $* " != *" compileall "* ]] || {{ echo "$*" >compiled; exit 0; }}
[[ " $* " != *" tests/rewritten.py "* ]] || {{ echo "$*" >rewritten; exit 1; }}
[[ $1 == -m && $2 == pytest ]] || exec {real} "$@"
part=rest
[[ " $* " != *" tests/systemd "* ]] || part=systemd
[[ " $* " != *" tests/faults "* ]] || part=faults
[[ " $* " != *" tests/docs tests/unit "* ]] || part=quick
echo "$part: $*" >>calls
echo "$part begins" >>order
nice >nice-of-"$part"
if [[ $part == "$WAITS" ]]; then
  trap 'echo "$part: cleaned up" >>calls; exit 2' INT
  echo "$part: waits" >>calls
  while :; do sleep 0.1; done
fi
echo "what $part said"
echo "$part ends" >>order
for failing in $FAILS; do
  [[ $part != "${{failing%=*}}" ]] || exit "${{failing#*=}}"
done
"""


PARTS = ("systemd", "faults", "quick", "rest")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Everything that the tests need is there; nothing is installed."""
    tree = copy_scripts(tmp_path / "tree")
    make_venv(tree)
    directory = tree / ".venv"
    (directory / ".fingerprint-run").replace(directory / ".fingerprint-dev")
    python = directory / "bin" / "python"
    python.unlink()
    python.write_text(PYTHON.format(real=sys.executable))
    python.chmod(0o755)
    (tree / "scripts" / "lib_needs.sh").write_text("ensure_needs() { :; }\n")
    for name in ("backtest_venv.sh", "vendors.sh"):
        (tree / "scripts" / name).write_text("exit 0\n")
    return tree


def run(
    tree: Path, *arguments: str, fails: str = "", waits: str = "", under: Sequence[str] = (), **more_env: str
) -> Process:
    env = clean_env(tree / "home", PYTHON=sys.executable, FAILS=fails, WAITS=waits, **more_env)
    return Process([*under, "bash", tree / "scripts" / "test.sh", *arguments], env)


def calls(tree: Path) -> list[str]:
    file = tree / "calls"
    return file.read_text().splitlines() if file.exists() else []


def order(tree: Path) -> list[str]:
    file = tree / "order"
    return file.read_text().splitlines() if file.exists() else []


def test_every_test_is_in_one_of_four_runs(tree: Path) -> None:
    with ended(script := run(tree)):
        assert script.wait() == 0, script.output
    assert "hk_tick_collector tests" in (tree / "compiled").read_text(), "once, not by each process"
    assert (tree / "rewritten").read_text() == "-I tests/rewritten.py\n", "pytest does it itself where that fails"
    parts = {call.split(": ")[0]: call.split()[1:] for call in calls(tree)}
    assert parts.keys() == {*PARTS}
    apart = [word for part in PARTS[:-1] for word in parts[part] if word.startswith("tests/")]
    assert [word for word in parts["rest"] if "tests" in word] == [f"--ignore={directory}" for directory in apart]
    assert apart == ["tests/systemd", "tests/faults", "tests/docs", "tests/unit"]
    assert "-n" not in parts["systemd"], "one machine, one process"
    caches = {part: [word for word in words if word.startswith("cache_dir=")] for part, words in parts.items()}
    assert caches == {part: [f"cache_dir=.pytest_cache/{part}"] for part in PARTS[:-1]} | {"rest": []}, (
        "of failures, for .ci/run"
    )
    nice = {part: int((tree / f"nice-of-{part}").read_text()) for part in parts}
    assert nice["systemd"] == nice["faults"] == nice["rest"] - min(5, 19 - nice["faults"]), (
        "it gives way to those that judge real time"
    )
    assert nice["quick"] == nice["rest"]
    processes = {part: " ".join(words).split("-n ")[-1].split()[0] for part, words in parts.items() if "-n" in words}
    assert processes["quick"] == processes["rest"], "it ends last, with nobody beside it"
    for part in parts:
        assert f"what {part} said" in script.lines


def test_on_a_single_core_the_parts_go_one_after_the_other(tree: Path) -> None:
    core = min(os.sched_getaffinity(0))
    with ended(script := run(tree, under=("taskset", "-c", str(core)), fails="systemd=1")):
        assert script.wait() == 1, script.output
    assert (tree / "order").read_text().splitlines() == [
        f"{part} {what}" for part in ("systemd", "faults", "rest", "quick") for what in ("begins", "ends")
    ]
    assert [call.split("-n ")[-1].split()[0] for call in calls(tree) if " -n " in call] == ["1", "2", "2"]


def test_what_computes_has_the_place_of_the_faults_when_they_are_over(tree: Path) -> None:
    with ended(script := run(tree, waits="rest")):
        wait_until(lambda: "what quick said" not in script.lines and "quick ends" in order(tree), "the quick ones ran")
        assert order(tree).index("faults ends") < order(tree).index("quick begins")
        os.killpg(script.proc.pid, signal.SIGINT)
        assert script.wait() == 130
    assert "rest: cleaned up" in calls(tree)


@pytest.mark.parametrize("part", ["systemd", "faults"])
def test_the_rest_waits_for_no_other_and_ctrl_c_gives_each_time_to_go(tree: Path, part: str) -> None:
    with ended(script := run(tree, waits=part)):
        wait_until(lambda: f"{part}: waits" in calls(tree), "it runs")
        wait_until(lambda: "what rest said" in script.lines, "the rest is done")
        with_it = {"systemd", "faults", "rest"} if part == "faults" else {*PARTS}
        wait_until(lambda: {call.split(": ")[0] for call in calls(tree)} == with_it, "so are the others")
        os.killpg(script.proc.pid, signal.SIGINT)
        assert script.wait() == 130
    assert f"{part}: cleaned up" in calls(tree)


@pytest.mark.parametrize("part", PARTS)
def test_a_part_that_fails_stops_no_other_and_is_not_forgotten(tree: Path, part: str) -> None:
    with ended(script := run(tree, fails=f"{part}=1")):
        assert script.wait() == 1, script.output
    assert len(calls(tree)) == len(PARTS)


@pytest.mark.parametrize("part", PARTS)
def test_failed_tests_of_the_others_hide_no_part_that_did_not_run_to_its_end(tree: Path, part: str) -> None:
    """1 has a second chance in ``.ci/run``, of those tests alone that failed."""
    others = " ".join(f"{name}=1" for name in PARTS if name != part)
    with ended(script := run(tree, fails=f"{others} {part}=137")):
        assert script.wait() == 137, script.output


@pytest.mark.parametrize("program", ["shellcheck", "sqlite3"])
def test_what_is_missing_is_named_with_its_command_before_any_test(tree: Path, program: str) -> None:
    """Where it cannot be installed: without apt-get it is root's case, too."""
    shutil.copy(ROOT / "scripts" / "lib_needs.sh", tree / "scripts")
    programs = tree / "programs"
    programs.mkdir()
    for directory in map(Path, os.get_exec_path()):
        for path in directory.iterdir() if directory.is_dir() else ():
            if path.name not in (program, "apt-get") and not (programs / path.name).is_symlink():
                (programs / path.name).symlink_to(path)
    with ended(script := run(tree, PATH=str(programs))):
        assert script.wait() == 69, script.output
    (line,) = script.lines
    assert re.match(rf"test\.sh: the tests need: .*\b{program}\b", line)
    assert re.search(rf"sudo apt-get update && sudo apt-get install .*\b{program}\b", line)
    assert calls(tree) == []
    assert not (tree / "compiled").exists()


def test_pytest_takes_what_was_rewritten_before(tmp_path: Path) -> None:
    module = tmp_path / "test_something.py"
    module.write_text("def test() -> None:\n    assert 1\n")
    assert rewritten.write(module)
    command = [sys.executable, "-m", "pytest", "-p", "no:schemathesis", "-p", "no:cacheprovider", "--debug=trace"]
    done = subprocess.run(
        [*command, "--collect-only", module], cwd=tmp_path, env=clean_env(tmp_path, PYTHONDONTWRITEBYTECODE=1),
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    told = [line for line in (tmp_path / "trace").read_text().splitlines() if module.name in line]
    assert any("found cached rewritten pyc" in line for line in told), told


def test_libraries_that_were_never_compiled_are_compiled_before_the_tests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only those, and what cannot be imported stops nothing."""
    module = tmp_path / "test_something.py"
    module.write_text(
        "import json\nimport compiled_lib\nimport never_lib.part\nfrom broken_lib import x\nfrom tests import ticks\n"
    )
    wanted = rewritten.libraries([module])
    assert wanted == {"compiled_lib", "never_lib.part", "broken_lib"}
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    for name in ("compiled_lib", "never_lib", "broken_lib"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("1 / 0\n" if name == "broken_lib" else "")
        (tmp_path / name / "part.py").touch()
    py_compile.compile(str(tmp_path / "compiled_lib" / "__init__.py"))
    rewritten.compile_libraries(wanted)
    assert len(list((tmp_path / "never_lib" / "__pycache__").iterdir())) == 2
    assert "compiled_lib" not in sys.modules
    for name in ("never_lib", "never_lib.part"):
        monkeypatch.delitem(sys.modules, name)


def test_a_library_that_ends_the_process_does_not_keep_the_tests_waiting(tmp_path: Path) -> None:
    (tmp_path / "ending_lib.py").write_text("import os\nos._exit(3)\n")
    (tmp_path / "test_something.py").write_text("import ending_lib\n")
    words = f"import pathlib, sys; sys.path[:0] = [{str(tmp_path)!r}]; from tests.rewritten import prepare; "
    command = [sys.executable, "-c", f"{words}prepare(pathlib.Path({str(tmp_path)!r}))"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, "BrokenProcessPool" in done.stderr) == (1, True), done.stderr


def test_every_module_that_pytest_rewrites_is_rewritten_before() -> None:
    names = {path.relative_to(rewritten.TESTS).as_posix() for path in rewritten.modules(rewritten.TESTS)}
    assert {"conftest.py", "faults/conftest.py", "unit/test_config.py", "unit/sources/test_push.py"} <= names


def test_a_part_alone_is_one_run(tree: Path) -> None:
    with ended(script := run(tree, "tests/unit", "-k", "config", fails="rest=1")):
        assert script.wait() == 1
    (call,) = calls(tree)
    assert call.endswith("tests/unit -k config")
