"""The page about the tests names tests that exist."""

from __future__ import annotations

import re

from tests.scratch_tree import ROOT

PAGE = ROOT / "tests" / "README.md"


def test_every_test_it_names_exists() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", PAGE.read_text(encoding="utf-8"))
    assert len(named) > 100
    absent = [
        f"{path}::{name}"
        for path, name in named
        if not (ROOT / path).is_file() or (name and f"def {name}(" not in (ROOT / path).read_text(encoding="utf-8"))
    ]
    assert not absent
