"""The documents as a site: it builds strictly, asks nobody else for anything, and is the same in both languages."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from scripts.site_pages import with_links_of_the_site
from tests.docs.test_readme import CHINESE, ROOT, markdown_files, read_blocks
from tests.harness import BIN

TRANSLATED = [page for page in markdown_files() if page.name.endswith(CHINESE)]
RESOURCE = re.compile(r"<(?:script|img|link|iframe|source)\b[^>]*?\b(?:src|href)=[\"']?(?:https?:)?//", re.IGNORECASE)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built with every warning an error, a link or an anchor that leads nowhere among them."""
    site = tmp_path_factory.mktemp("build") / "site"
    env = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    command = [BIN / "mkdocs", "build", "--strict", "--quiet", "--site-dir", site]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout.strip(), done.stderr.strip()) == (0, "", "")
    return site


def test_no_page_loads_anything_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 50
    for page in pages:
        assert not RESOURCE.search(page.read_text(encoding="utf-8")), page
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(?:url\(|@import )[\"']?(?:https?:)?//", sheet.read_text(encoding="utf-8")), sheet


def test_both_languages_are_there_and_can_be_searched(site: Path) -> None:
    index = json.loads((site / "search" / "search_index.json").read_text(encoding="utf-8"))
    texts = {entry["location"]: entry["title"] + entry["text"] for entry in index["docs"]}
    assert "Hong Kong" in texts[""]
    assert "港股" in texts["zh-Hant/"]
    for page in TRANSLATED:
        uri = str(page.relative_to(ROOT / "docs")).removesuffix(CHINESE)
        assert re.search("[\u4e00-\u9fff]{4}", texts[f"zh-Hant/{uri}/"]), uri
        assert not re.search("[\u4e00-\u9fff]{4}", texts[f"{uri}/"]), uri


@pytest.mark.parametrize("page", TRANSLATED, ids=lambda page: str(page.name))
def test_a_translated_page_has_the_commands_of_its_original(page: Path) -> None:
    original = page.with_name(page.name.replace(CHINESE, ".md"))
    chinese, english = ([(block.language, block.comment, _code(block.text)) for block in read_blocks(file)]
                        for file in (page, original))  # fmt: skip
    assert chinese == english


@pytest.mark.parametrize("page", [*TRANSLATED, ROOT / "README.zh-CN.md"], ids=lambda page: str(page.name))
def test_a_translated_page_says_as_much_as_its_original(page: Path) -> None:
    """What needs no translation is the same in both: headings, rows, items, pictures, names in code, pages led to."""
    original = ROOT / "README.md" if page.name == "README.zh-CN.md" else page.with_name(_original(page.name))
    chinese, english = (_said(file.read_text(encoding="utf-8")) for file in (page, original))
    assert chinese == english


def _original(target: str) -> str:
    """The English page of a link."""
    return target.replace(CHINESE, ".md").replace("README.zh-CN.md", "README.md")


def _said(text: str) -> dict[str, object]:
    text = re.sub(r"^```.*?^```$|<!--.*?-->", "", text, flags=re.MULTILINE | re.DOTALL)
    links = {_original(target.partition("#")[0]).replace("/futu-api-doc/en/", "/futu-api-doc/")
             for target in re.findall(r"\]\(([^)\s]+)", text) if not target.startswith("#")}  # fmt: skip
    return {
        "levels of headings": [len(marks) for marks in re.findall(r"^(#+) ", text, re.MULTILINE)],
        "rows of tables": len(re.findall(r"^\|", text, re.MULTILINE)),
        "items": len(re.findall(r"^ *- ", text, re.MULTILINE)),
        "pictures": re.findall(r"!\[.*?\]\((.+?)\)", text),
        "names in code": set(re.findall(r"`([^`]+)`", re.sub(r"\s+", " ", text))),
        # The page in Chinese alone, and the other language, are led to from one side.
        "pages led to": links - {"README.md", "docs/runbook/production-onepager.md"},
    }


def _code(text: str) -> str:
    """Without comments, which are translated."""
    return re.sub(r"(?m)[ \t]*(?:#|--) .*$", "", text)


def test_links_to_what_lies_outside_lead_to_the_sites_own_pages() -> None:
    text = "[a](../CONTRIBUTING.md#habits) [b](runbook/operations.md) [c](../scripts/demo.sh) [d](https://x.org/y)"
    led = "[a](contributing.md#habits) [b](runbook/operations.md) c [d](https://x.org/y)"
    assert with_links_of_the_site(text, "docs/alerts.md") == led
    assert (
        with_links_of_the_site("![x](docs/images/dashboard-symbol.png)", "README.md")
        == "![x](images/dashboard-symbol.png)"
    )
    fenced = "```text\n[a](b)\n```"
    assert with_links_of_the_site(fenced, "README.md") == fenced
