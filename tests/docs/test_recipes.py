"""The recipes and the table of changes name files that are there, and every kind of change has its recipe."""

from __future__ import annotations

import re

import pytest

from tests.docs.test_readme import ROOT

PACKAGE = ROOT / "hk_tick_collector"
RECIPES = (
    "setting", "market", "column", "source", "sink", "kind of record", "alert channel", "command",
    "fault to the simulator",
)  # fmt: skip
SUFFIXES = ("py", "md", "sh", "toml", "sql")


def is_there(path: str) -> bool:
    """A path as documents write it: from the checkout, from the package, or of a place (``<code>``, ``*``)."""
    pattern = re.sub(r"<[a-z_]+>", "*", path).rstrip("/")
    if "/" not in pattern:  # of a folder that the sentence has named
        return any(PACKAGE.rglob(pattern)) or any((ROOT / "tests").rglob(pattern)) or (ROOT / pattern).exists()
    return any(any(root.glob(pattern)) for root in (ROOT, PACKAGE))


def paths_in(text: str) -> list[str]:
    words = re.findall(r"`([^`\s]+)`", text)
    return [word for word in words if word.rpartition(".")[2] in SUFFIXES or word.endswith("/")]


@pytest.mark.parametrize("kind", RECIPES)
def test_each_kind_of_change_has_a_recipe_whose_files_are_there(kind: str) -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text().partition(f"## Adding a {kind}\n")[2]
    text = text or (ROOT / "CONTRIBUTING.md").read_text().partition(f"## Adding an {kind}\n")[2]
    recipe = text.partition("\n## ")[0]
    assert recipe.strip(), kind
    assert [path for path in paths_in(recipe) if not is_there(path)] == []
    assert "test" in recipe, "each recipe ends with how it is tested"


def test_there_are_ten_changes() -> None:
    table = (ROOT / "docs/architecture.md").read_text().partition("## Ten changes")[2].partition("\n## ")[0]
    rows = [line for line in table.splitlines() if line.startswith("| ") and not line.startswith("| change")]
    assert len(rows) == 10


def test_files_and_names_on_the_page_about_the_architecture_are_there() -> None:
    """A newcomer who looks one up finds it: each path, and each name in code style is in the code."""
    text = re.sub(r"^```.*?^```$", "", (ROOT / "docs/architecture.md").read_text(), flags=re.MULTILINE | re.DOTALL)
    assert [path for path in paths_in(text) if not is_there(path)] == []
    named = set(re.findall(r"`([A-Za-z_][\w.]*)`", text))
    assert len(named) > 200
    sources = [*PACKAGE.rglob("*.py"), ROOT / "pyproject.toml"]
    known = {path.stem for path in PACKAGE.rglob("*")} | set().union(
        *(re.findall(r"\w+", path.read_text()) for path in sources)
    )
    named -= {"HttpOnly"}  # of cookies
    assert {name for name in named if not is_there(name) and not set(name.split(".")) <= known} == set()
