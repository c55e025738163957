"""Every picture of a document is one that ``python -m tests.pictures`` makes, and each of those is shown somewhere."""

from __future__ import annotations

import re

from tests.docs.test_readme import ROOT, markdown_files
from tests.pictures import IMAGES, NAMES


def test_documents_show_the_pictures_that_are_made_here_and_no_others() -> None:
    shown = {
        (page.parent / target).resolve()
        for page in markdown_files()
        for target in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", page.read_text(encoding="utf-8"))
        if not target.startswith("http")
    }
    made = {IMAGES / f"{name}.png" for name in NAMES}
    assert shown == made, "tests/pictures.py makes what documents show"
    assert {*IMAGES.iterdir()} == made
    for picture in made:
        assert picture.read_bytes().startswith(b"\x89PNG"), picture.relative_to(ROOT)
