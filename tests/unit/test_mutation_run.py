"""``scripts/mutation.py``: which changes it makes, and what it says of tests that notice and of those that do not."""

from __future__ import annotations

import ast
import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.nights import at_night
from tests.scratch_tree import ROOT

SOURCE = '''
"""A module."""
import logging
LIMIT = 3
def grade(n: int, fine: bool = True) -> str | None:
    """Its text."""
    assert n > 0
    logging.info("grade %d", n + 1)
    if n < LIMIT and fine:
        return "low" * n
    return None
'''


@pytest.fixture
def mutation(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("mutation_run", ROOT / "scripts/mutation.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


def test_places_with_the_same_tests_are_tried_once_without_a_change_and_each_trial_is_told(
    mutation: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(mutation, "PLACES", {"one": ("a",), "two": ("a",), "three": ("b",)})
    tried: list[list[str]] = []

    runs = mutation.Runs(1.0, {"test": (1.0, frozenset())})

    class Copy:
        def trace(self, places: list[str]) -> tuple[int, str, dict[str, object]]:
            tried.append(places)
            return int("three" in places), "assert 1 == 2", dict.fromkeys(places, runs)

    traced = mutation._traced(Copy(), ["one", "two", "three"])
    assert traced == {"one": runs, "two": runs, "three": mutation.Runs()}
    assert tried == [["one", "two"], ["three"]]
    told = capsys.readouterr()
    assert told.out == "the tests of one, two take 0 s without a change, each statement noted\n"
    assert told.err == "the tests of three fail without any change:\nassert 1 == 2\n"


def test_of_a_change_the_tests_that_run_its_statement_are_tried_the_quickest_first(mutation: ModuleType) -> None:
    source = (
        "LIMIT = 3\n"
        "def low(n, most=LIMIT + 1):\n"
        "    if (\n"
        "        n < LIMIT\n"
        "    ):\n"
        "        return n + 1\n"
        "    return (\n"
        "        n - 1\n"
        "    )\n"
    )
    runs = mutation.Runs(
        2.0, {"slow": (3.0, frozenset({3, 4, 6})), "quick": (1.0, frozenset({4, 7})), "other": (2.0, frozenset())}
    )
    assert runs.limit_sec(["slow", "quick"]) == mutation.SLOWER * 6 + mutation.LONGER_SEC
    chosen = {
        (mutant.line, mutant.before): mutation.tests_of(mutant, source, runs)
        for mutant in mutation.mutants_of("a/place", source)
    }
    assert chosen == {
        (1, "3"): ["quick", "other", "slow"],  # at import
        (2, "LIMIT + 1"): ["quick", "other", "slow"],
        (2, "1"): ["quick", "other", "slow"],
        (3, "if n < LIMIT:"): ["quick", "slow"],
        (4, "n < LIMIT"): ["quick", "slow"],
        (6, "return n + 1"): ["slow"],
        (6, "n + 1"): ["slow"],
        (6, "1"): ["slow"],
        (7, "return n - 1"): ["quick"],
        (8, "n - 1"): ["quick"],
        (8, "1"): ["quick"],
    }


def test_the_changes_of_a_module(mutation: ModuleType) -> None:
    changes = [(mutant.before, mutant.after) for mutant in mutation.mutants_of("a/place", SOURCE)]
    assert sorted(changes) == sorted(
        [
            ("3", "4"),
            ("True", "False"),
            ("if n < LIMIT and fine:", "if not (n < LIMIT and fine):"),
            ("n < LIMIT and fine", "n < LIMIT or fine"),
            ("n < LIMIT and fine", "fine"),
            ("n < LIMIT and fine", "n < LIMIT"),
            ("n < LIMIT", "n <= LIMIT"),
            ("return 'low' * n", "return None"),
            ("'low' * n", "'low' // n"),
        ]
    ), "not the assertion, the line for the log, annotations and texts"
    for mutant in mutation.mutants_of("a/place", SOURCE):
        assert ast.dump(ast.parse(mutant.applied_to(SOURCE))) != ast.dump(ast.parse(SOURCE))


def test_every_place_is_there_with_its_tests_and_has_mutants(mutation: ModuleType) -> None:
    for place, patterns in mutation.PLACES.items():
        assert any(list((ROOT / "tests").glob(pattern)) for pattern in patterns), place
    chosen, scores = mutation.choose(list(mutation.PLACES), 5, "seed", None)
    assert len(chosen) == 5 * len(mutation.PLACES)
    few = list(mutation.PLACES)[-2:]
    first, again, other = (mutation.choose(few, 5, seed, None)[0] for seed in ("seed", "seed", "another"))
    assert first == again != other
    assert all(score.mutants > 20 for score in scores.values())


def project(root: Path, test: str) -> None:
    (root / "hk_tick_collector").mkdir(parents=True)
    (root / "hk_tick_collector/__init__.py").touch()
    (root / "hk_tick_collector/place.py").write_text("def low(n: int) -> bool:\n    return n < 3\n")
    (root / "tests").mkdir()
    shutil.copy(ROOT / "pyproject.toml", root)  # as in the project, pytest leaves a plugin of two seconds alone
    (root / "tests/test_place.py").write_text(f"from hk_tick_collector.place import low\ndef test():\n    {test}\n")


@at_night(held_by="test_what_no_test_runs_survives_at_once")
def test_what_a_test_does_not_look_at_survives(
    mutation: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    project(tmp_path / "project", "assert low(0) and not low(9)")
    monkeypatch.setattr(mutation, "ROOT", tmp_path / "project")
    monkeypatch.setattr(mutation, "PLACES", {"place": ("test_place.py",)})
    chosen, scores = mutation.choose(["place"], None, "seed", None)
    survivors = mutation.run(chosen, tmp_path / "copies", scores)
    assert sorted(f"{mutant.before} -> {mutant.after}" for mutant in survivors) == ["3 -> 4", "n < 3 -> n <= 3"]
    assert (scores["place"].tried, scores["place"].noticed) == (3, 1), "'return None' was noticed"
    assert "| `place` | 3 | 3 | 1 | 33.3 % |" in mutation.report(scores, survivors, "seed", "all")
    assert "no test runs it" not in capsys.readouterr().out
    assert "n < 3" in (tmp_path / "project/hk_tick_collector/place.py").read_text()


def test_what_no_test_runs_survives_at_once(
    mutation: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    project(tmp_path / "project", "assert low")
    monkeypatch.setattr(mutation, "ROOT", tmp_path / "project")
    monkeypatch.setattr(mutation, "PLACES", {"place": ("test_place.py",)})
    chosen, scores = mutation.choose(["place"], None, "seed", None)
    assert mutation.run(chosen, tmp_path / "copies", scores) == chosen
    assert capsys.readouterr().out.count("no test runs it") == len(chosen)


def test_tests_that_fail_anyway_are_said(
    mutation: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    project(tmp_path / "project", "assert low(3)")
    monkeypatch.setattr(mutation, "ROOT", tmp_path / "project")
    monkeypatch.setattr(mutation, "PLACES", {"place": ("test_place.py",)})
    chosen, scores = mutation.choose(["place"], None, "seed", None)
    assert mutation.run(chosen, tmp_path / "copies", scores) == []
    assert scores["place"].tried == 0
    assert "the tests of place fail without any change" in capsys.readouterr().err


def test_what_is_no_place_is_refused() -> None:
    command = [sys.executable, ROOT / "scripts/mutation.py", "no/place"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "no such place: no/place; there are sources/continuity" in done.stderr
