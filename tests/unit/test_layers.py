"""The table of boxes in docs/architecture.md is what import-linter holds: every import that is not in it is refused."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.nights import by_day
from tests.unit.test_circles import edges_of

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "hk_tick_collector"
WRITER = "store.writer"
EXTERNAL = ("futu", "click", "rich")
_ROW = re.compile(r"^\| (?P<boxes>`\w+`(?:, `\w+`)*) \|[^|]*\| (?P<allowed>[^|]+) \|$", re.MULTILINE)


def read_table() -> dict[str, set[str]]:
    """What each box may import of the others."""
    text = (ROOT / "docs/architecture.md").read_text()
    section = text.partition("| box | holds | may import |")[2].partition("\n\n")[0]
    table: dict[str, set[str]] = {}
    for row in _ROW.finditer(section):
        above = {*table, WRITER}
        for box in re.findall(r"`(\w+)`", row["boxes"]):
            table[box] = (
                _all_but(above, row["allowed"]) if row["allowed"].startswith("all above") else _named(row["allowed"])
            )
    return table


def _all_but(above: set[str], allowed: str) -> set[str]:
    _, _, exceptions = allowed.partition(" but ")
    return above - set(exceptions.split(", "))


def _named(allowed: str) -> set[str]:
    names = set() if allowed == "nothing of ours" else set(allowed.split(", "))
    if "store" in names:
        names.add(WRITER)
    return {name.removesuffix("*") for name in names}


TABLE = read_table()


def copy_package(tree: Path) -> None:
    shutil.copytree(ROOT / PACKAGE, tree / PACKAGE, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tree)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    copy_package(tmp_path)
    return tmp_path


def lint(tree: Path) -> subprocess.CompletedProcess[str]:
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache", "--no-logo"]
    return subprocess.run(command, cwd=tree, capture_output=True, text=True, timeout=60, check=False)


def add_imports(tree: Path, box: str, names: set[str]) -> str:
    """Let a box import each of ``names``; the module that does it."""
    module = box if (tree / PACKAGE / f"{box}.py").exists() else f"{box}.intruder"
    path = tree / PACKAGE / f"{module.replace('.', '/')}.py"
    with path.open("a") as file:
        file.writelines(f"import {name if name in EXTERNAL else f'{PACKAGE}.{name}'}\n" for name in sorted(names))
    return f"{PACKAGE}.{module}"


def test_the_table_names_every_box() -> None:
    files = {path.stem for path in (ROOT / PACKAGE).glob("*.py")} - {"__init__", "__main__"}
    assert set(TABLE) == files | {path.parent.name for path in (ROOT / PACKAGE).glob("*/__init__.py")}


def forbidden_to(box: str) -> set[str]:
    forbidden = {*TABLE, WRITER} - TABLE[box] - {box} - ({WRITER} if box == "store" else set())
    return forbidden if box == "opend_sim" else {*forbidden, "futu"}


@pytest.fixture(scope="module")
def everything_forbidden(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], str]:
    """Every box imports all that it may not: the module that does it in each, and what is said of them."""
    tree = tmp_path_factory.mktemp("forbidden")
    copy_package(tree)
    modules = {box: add_imports(tree, box, forbidden_to(box)) for box in TABLE}
    checked = lint(tree)
    assert checked.returncode == 1, checked.stdout + checked.stderr
    return modules, re.sub(r"\s+", " ", checked.stdout)


@pytest.mark.parametrize("box", sorted(TABLE))
def test_what_the_table_leaves_out_is_refused(box: str, everything_forbidden: tuple[dict[str, str], str]) -> None:
    modules, told = everything_forbidden
    module = re.escape(modules[box])
    not_seen = {n for n in forbidden_to(box) if not re.search(rf"{module} -> (\w+\.)?{re.escape(n)} \(l\.", told)}
    assert not not_seen, told


@pytest.mark.parametrize(
    ("box", "name"),
    by_day(
        [
            ("core", "query"),
            ("store", "query"),
            ("sources", "query"),
            ("ingest", "archive"),
            ("query", "archive"),
            ("archive", "quality"),
            ("days", "store.writer"),
        ],
        lambda case: case[0] in ("core", "sources", "archive", "days"),
    ),
)
def test_one_forbidden_import_is_enough(box: str, name: str, copy: Path) -> None:
    module = add_imports(copy, box, {name})
    checked = lint(copy)
    assert checked.returncode == 1, checked.stdout + checked.stderr
    assert f"{module} -> {PACKAGE}.{name}" in re.sub(r"\s+", " ", checked.stdout)


def test_a_job_that_prints_is_refused(copy: Path) -> None:
    module = add_imports(copy, "watch", {"click", "rich"})
    told = re.sub(r"\s+", " ", lint(copy).stdout)
    for name in ("click", "rich"):
        assert f"{module} -> {name} (l." in told


def test_a_module_that_a_text_names_may_be_imported() -> None:
    """``import_module`` is no import that a linter sees."""
    named = {edge for edge in edges_of(ROOT) if all(module.startswith(f"{PACKAGE}.") for module in edge)}
    boxes = {(box_of(module), box_of(name)) for module, name in named} - {("__main__", "main")}
    assert len(boxes) > 50
    assert [(box, name) for box, name in sorted(boxes) if name not in {*TABLE[box], box}] == []


def box_of(module: str) -> str:
    return module.split(".")[1]


def test_what_the_table_allows_is_accepted(copy: Path) -> None:
    for box, allowed in TABLE.items():
        add_imports(copy, box, allowed)
    checked = lint(copy)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_a_box_that_nobody_put_into_a_line_is_refused(copy: Path) -> None:
    (copy / PACKAGE / "annex").mkdir()
    (copy / PACKAGE / "annex/__init__.py").touch()
    checked = lint(copy)
    assert checked.returncode == 1, checked.stdout + checked.stderr
    assert "annex" in checked.stdout
