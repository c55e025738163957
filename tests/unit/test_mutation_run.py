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
    tried: list[str] = []

    class Copy:
        def test(self, place: str, timeout_sec: float | None) -> tuple[int, str]:
            tried.append(place)
            return int(place == "three"), "assert 1 == 2"

    limits = mutation._limits_sec(Copy(), ["one", "two", "three"])
    assert limits == {"one": limits["two"], "two": limits["one"], "three": None}
    assert tried == ["one", "three"]
    told = capsys.readouterr()
    assert told.out == "the tests of one take 0 s without a change\n"
    assert told.err == "the tests of three fail without any change:\nassert 1 == 2\n"


def test_the_changes_of_a_module(mutation: ModuleType) -> None:
    found = [(one.before, one.after) for one in mutation.mutants_of("a/place", SOURCE)]
    assert sorted(found) == sorted(
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
    for one in mutation.mutants_of("a/place", SOURCE):
        assert ast.dump(ast.parse(one.applied_to(SOURCE))) != ast.dump(ast.parse(SOURCE))


def test_every_place_is_there_with_its_tests_and_has_mutants(mutation: ModuleType) -> None:
    for place, patterns in mutation.PLACES.items():
        assert any(list((ROOT / "tests").glob(pattern)) for pattern in patterns), place
    chosen, scores = mutation.choose(list(mutation.PLACES), 5, "seed", None)
    assert len(chosen) == 5 * len(mutation.PLACES)
    assert chosen == mutation.choose(list(mutation.PLACES), 5, "seed", None)[0]
    assert chosen != mutation.choose(list(mutation.PLACES), 5, "another", None)[0]
    assert all(score.mutants > 20 for score in scores.values())


def project(root: Path, test: str) -> None:
    (root / "hk_tick_collector").mkdir(parents=True)
    (root / "hk_tick_collector/__init__.py").touch()
    (root / "hk_tick_collector/place.py").write_text("def low(n: int) -> bool:\n    return n < 3\n")
    (root / "tests").mkdir()
    shutil.copy(ROOT / "pyproject.toml", root)  # as in the project, pytest leaves a plugin of two seconds alone
    (root / "tests/test_place.py").write_text(f"from hk_tick_collector.place import low\ndef test():\n    {test}\n")


def test_what_a_test_does_not_look_at_survives(
    mutation: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project(tmp_path / "project", "assert low(0) and not low(9)")
    monkeypatch.setattr(mutation, "ROOT", tmp_path / "project")
    monkeypatch.setattr(mutation, "PLACES", {"place": ("test_place.py",)})
    chosen, scores = mutation.choose(["place"], None, "seed", None)
    found = mutation.run(chosen, tmp_path / "copies", scores)
    assert sorted(f"{one.before} -> {one.after}" for one in found) == ["3 -> 4", "n < 3 -> n <= 3"]
    assert (scores["place"].tried, scores["place"].noticed) == (3, 1), "'return None' was noticed"
    assert "| `place` | 3 | 3 | 1 | 33.3 % |" in mutation.report(scores, found, "seed", "all")
    assert "n < 3" in (tmp_path / "project/hk_tick_collector/place.py").read_text()


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
