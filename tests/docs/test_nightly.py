"""What the nights run is there: each file and module that a command of the nightly workflow names, and every test that
a check leaves out."""

from __future__ import annotations

import ast
import dataclasses
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import yaml

from tests import nights
from tests.episodes.episode import plan_of
from tests.episodes.test_episodes import DEAR, EPISODES, KEPT, LONG, SPARED
from tests.harness import clean_env
from tests.scratch_tree import ROOT

WORKFLOW = yaml.safe_load((ROOT / ".github/workflows/nightly.yml").read_text())
COMMANDS = [run["command"] for run in WORKFLOW["jobs"]["random"]["strategy"]["matrix"]["run"]]
MODULES = [f"benchmarks.{run['module']}" for run in WORKFLOW["jobs"]["long"]["strategy"]["matrix"]["run"]]


@pytest.mark.parametrize("command", COMMANDS)
def test_what_a_command_names_is_there(command: str) -> None:
    named = re.findall(r"(?:tests|scripts)/[\w/.]+", command)
    named += [f"{module.replace('.', '/')}/__main__.py" for module in re.findall(r"-m (tests[\w.]+)", command)]
    assert named
    for path in named:
        assert (ROOT / path).exists(), path
    for variable in set(re.findall(r"\b([A-Z_]+)=", command)):
        files = [
            file for path in named for file in ([ROOT / path] if path.endswith(".py") else (ROOT / path).glob("*.py"))
        ]
        assert any(f'"{variable}"' in file.read_text() for file in files), f"nobody reads {variable}"


@pytest.mark.parametrize("module", MODULES)
def test_the_long_runs_are_there(module: str) -> None:
    assert (ROOT / f"{module.replace('.', '/')}.py").exists()


def test_an_episode_that_the_check_leaves_out_is_run_every_night() -> None:
    named = [re.search(r"tests\.episodes --seed ([\d ]+)", command) for command in COMMANDS]
    nightly = {int(seed) for match in named if match is not None for seed in match[1].split()}
    assert {*range(60)} <= nightly | {*EPISODES}
    assert nightly == LONG


def traits(seed: int) -> set[tuple[object, ...]]:
    """What an episode has of what may happen."""
    plan = plan_of(seed)
    odd = [field.name for field in dataclasses.fields(plan.odd) if getattr(plan.odd, field.name)]
    return {
        ("manner", plan.manner),
        *(("fault", what) for _, what in plan.faults),
        *(("oddity", name) for name in odd),
        *((plan.manner, name) for name in odd),
        ("rate", plan.rate), ("rows", plan.poll_rows), ("rows at first", plan.backfill_rows),
        ("half hour", plan.start_ms // 1_800_000), ("days", plan.days), ("shows yesterday", plan.keeps_yesterday),
    }  # fmt: skip


def test_the_episodes_of_a_check_have_all_that_those_of_a_night_have() -> None:
    has = Counter(trait for seed in EPISODES if seed not in SPARED for trait in traits(seed))
    whole = Counter(trait for seed in EPISODES for trait in traits(seed))
    twice = {"manner", "fault", "oddity"}
    less = {trait for trait, times in whole.items() if has[trait] < min(times, 2 if trait[0] in twice else 1)}
    assert not less
    assert set(EPISODES) > SPARED
    assert set(KEPT) > DEAR


MARKED = """
import pytest
from tests.nights import at_night, by_day

@at_night(held_by="test_short")
def test_long(): pass

def test_short(): pass

@pytest.mark.parametrize("width", by_day([375, 768, 1440], lambda width: width != 768))
def test_fits(width): pass

@pytest.mark.parametrize(("width", "language"), by_day([(375, "en"), (375, "zh")], lambda pair: pair[1] == "zh"))
def test_reads(width, language): pass
"""
BY_DAY = {"test_short", "test_fits[375]", "test_fits[1440]", "test_reads[375-zh]"}
AT_NIGHT = {"test_long", "test_fits[768]", "test_reads[375-en]"}


@pytest.fixture
def marked(tmp_path: Path) -> Path:
    (tmp_path / "conftest.py").write_text("from tests.conftest import pytest_collection_modifyitems\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = night(held_by): as in pyproject.toml\n")
    (tmp_path / "test_marked.py").write_text(MARKED)
    return tmp_path / "test_marked.py"


def run_tests(marked: Path, *words: str, **variables: object) -> set[str]:
    """The tests that pass."""
    command = [sys.executable, "-m", "pytest", "-p", "no:schemathesis", "-p", "no:cacheprovider", "-v"]
    env = clean_env(marked.parent / "home", PYTHONPATH=ROOT, **variables)
    done = subprocess.run(
        [*command, *words], cwd=marked.parent, env=env, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return set(re.findall(r"::(\S+) PASSED", done.stdout))


def test_a_check_leaves_out_what_is_marked_and_a_night_nothing(marked: Path) -> None:
    assert run_tests(marked) == BY_DAY
    assert run_tests(marked, TESTS="all") == BY_DAY | AT_NIGHT


def test_a_test_that_is_asked_for_by_its_name_runs(marked: Path) -> None:
    assert run_tests(marked, f"{marked.name}::test_long") == {"test_long"}


def test_hypothesis_makes_fewer_examples_in_a_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(nights.VARIABLE, raising=False)
    monkeypatch.delenv("HYPOTHESIS_PROFILE", raising=False)
    assert [nights.examples(count) for count in (100, 15, 5)] == [40, 6, 5]
    monkeypatch.setenv("HYPOTHESIS_PROFILE", "mutation")
    assert nights.examples(60) == 60
    monkeypatch.delenv("HYPOTHESIS_PROFILE")
    monkeypatch.setenv(nights.VARIABLE, nights.ALL)
    assert nights.examples(60) == 60


def test_no_test_has_a_number_of_examples_of_its_own() -> None:
    """Else a night would make no more of them than a check."""
    for path in (ROOT / "tests").rglob("*.py"):
        assert not re.search(r"max_examples=\d", path.read_text(encoding="utf-8")), path


def test_every_test_runs_every_night() -> None:
    """In one run of all suites as root, and in one on a bare machine; neither names a part."""
    steps = [step.get("run", "") for job in WORKFLOW["jobs"].values() for step in job["steps"]]
    assert 'sudo env "PATH=$PATH" TESTS=all bash scripts/test.sh' in steps
    assert "sudo ./.ci/bare --all" in steps
    assert "--all) tests='TESTS=all bash scripts/test.sh' ;;" in (ROOT / ".ci/bare").read_text()


def test_only_the_nights_run_everything() -> None:
    """What a check is for is said by one switch: no workflow and no script of a check sets it."""
    for path in (".github/workflows/ci.yml", ".ci/run", "scripts/test.sh"):
        does = re.sub(r"<<'USAGE'\n.*?^USAGE$", "", (ROOT / path).read_text(), flags=re.DOTALL | re.MULTILINE)
        assert nights.VARIABLE + "=" not in does, path


def marks() -> list[tuple[Path, str, str, set[str]]]:
    """Of each test that is marked whole: its module, its name, what holds its promise, and the module's other tests."""
    found = []
    for path in (ROOT / "tests").rglob("test_*.py"):
        text = path.read_text(encoding="utf-8")
        if "at_night" not in text or path == Path(__file__):
            continue
        tests = {node.name: node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)}
        held = {name: _held_by(node) for name, node in tests.items()}
        others = {name for name in tests if name.startswith("test_") and held[name] is None}
        found += [(path, name, by, others) for name, by in held.items() if by is not None]
    return found


def _held_by(test: ast.FunctionDef) -> str | None:
    for mark in test.decorator_list:
        if isinstance(mark, ast.Call) and isinstance(mark.func, ast.Name) and mark.func.id == "at_night":
            return str(ast.literal_eval(mark.keywords[0].value))
    return None


def test_what_a_check_leaves_out_is_held_by_a_test_that_it_runs() -> None:
    for path, name, held_by, others in marks():
        assert held_by in others, f"{path.name}::{name}: no test {held_by} runs in a check"
