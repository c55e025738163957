"""Names of one market or one source in code stay where docs/architecture.md gives a reason for them."""

from __future__ import annotations

import io
import re
import tokenize
from fnmatch import filter as filter_names
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "hk_tick_collector"
AT_HOME = ("market/hk/", "sources/futu/", "opend_sim/")
OURS = "hk_tick_collector"
MOST_FILES = 15
ONE_OF_THEM = re.compile(r"(?i:^_?(?:hk|futu|opend)(?:_|$)|_(?:hk|futu|opend)(?:_|$))|^(?:HK|Futu|OpenD)[A-Z_]")


def names_in(source: str) -> set[str]:
    """The names in code that mean Hong Kong, Futu or OpenD; no text and no comment."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    found = {token.string for token in tokens if token.type == tokenize.NAME}
    return {name for name in found if name != OURS and ONE_OF_THEM.search(name)}


def test_names_of_one_market_or_source_stand_where_the_page_says() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    table = page.partition("### What still names one market or one source\n")[2].partition("\n## ")[0]
    cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    listed = {path for cell in cells for path in re.findall(r"`([^`]+)`", cell)}
    found = {
        name: names
        for path in sorted(PACKAGE.rglob("*.py"))
        if not (name := path.relative_to(PACKAGE).as_posix()).startswith(AT_HOME)
        and (names := names_in(path.read_text()))
    }
    unexplained = {name: names for name, names in found.items() if not any(fnmatch(name, path) for path in listed)}
    assert unexplained == {}, "say why, or name it otherwise"
    assert len(found) <= MOST_FILES, sorted(found)
    assert [path for path in listed if not filter_names(found, path)] == [], "these need no reason any more"


def test_a_name_is_told_from_a_text() -> None:
    source = (
        "from a.hk import HK  # OpenD\nclass OpenDAddress: pass\nfutu_port = 'HK'\nhk_tick_collector, hkt, future = 1"
    )
    assert names_in(source) == {"hk", "HK", "OpenDAddress", "futu_port"}
