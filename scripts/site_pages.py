"""Hooks of mkdocs: pages that lie outside of ``docs`` belong to the site, and links lead to where pages are there.

A link to a file that is no page (a script, a unit) becomes its name: the site shows documents.
"""

from __future__ import annotations

import posixpath
import re
import shutil
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import event_priority

ROOT = Path(__file__).resolve().parents[1]
OUTSIDE = {
    "README.md": "index.md",
    "README.zh-CN.md": "index.zh-Hant.md",
    "CHANGELOG.md": "changelog.md",
    "CODE_OF_CONDUCT.md": "code-of-conduct.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "SUPPORT.md": "support.md",
    "benchmarks/README.md": "benchmarks.md",
}
_LINK = re.compile(r"(?P<image>!?)\[(?P<text>[^\]]*)\]\((?P<target>(?!https?://|mailto:|#)[^)\s]+)\)")
_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


@event_priority(100)  # before languages are told apart
def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the pages together in a directory of the build's own."""
    staged = Path(config.site_dir).parent / "pages"
    shutil.rmtree(staged, ignore_errors=True)
    shutil.copytree(ROOT / "docs", staged)
    sources = {
        **OUTSIDE,
        **{f"docs/{path.relative_to(staged)}": str(path.relative_to(staged)) for path in staged.rglob("*.md")},
    }
    for source, uri in sources.items():
        (staged / uri).write_text(
            with_links_of_the_site((ROOT / source).read_text(encoding="utf-8"), source), encoding="utf-8"
        )
    config.docs_dir = str(staged)
    return config


def with_links_of_the_site(text: str, source: str) -> str:
    """The text of a file of the repository, with links to where the pages are on the site."""
    here = posixpath.dirname(_uri_of(source) or "")

    def led(match: re.Match[str]) -> str:
        file, hash_, anchor = match["target"].partition("#")
        uri = _uri_of(posixpath.normpath(posixpath.join(posixpath.dirname(source), file)))
        if uri is None:
            return match["text"]
        return f"{match['image']}[{match['text']}]({posixpath.relpath(uri, here or '.')}{hash_}{anchor})"

    parts, end = [], 0
    for fence in _FENCE.finditer(text):
        parts += [_LINK.sub(led, text[end : fence.start()]), fence.group()]
        end = fence.end()
    return "".join([*parts, _LINK.sub(led, text[end:])])


def _uri_of(path: str) -> str | None:
    """Where a file of the repository is on the site; None when it is no part of it."""
    if path in OUTSIDE:
        return OUTSIDE[path]
    return path.removeprefix("docs/") if path.startswith("docs/") and (ROOT / path).is_file() else None
