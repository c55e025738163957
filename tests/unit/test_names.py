"""Names of one market or one source in code stay where docs/architecture.md gives a reason for them, and names in
functions say what they hold."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from fnmatch import filter as filter_names
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "hk_tick_collector"
AT_HOME = ("market/hk/", "sources/futu/", "opend_sim/")
OURS = "hk_tick_collector"
SAYS_NOTHING = {
    "one", "ones", "each", "found", "said", "them", "those", "thing", "things", "what", "who",
}  # fmt: skip
MOST_FILES = 15
ONE_OF_THEM = re.compile(r"(?i:^_?(?:hk|futu|opend)(?:_|$)|_(?:hk|futu|opend)(?:_|$))|^(?:HK|Futu|OpenD)[A-Z_]")


def names_in(source: str) -> set[str]:
    """The names in code that mean Hong Kong, Futu or OpenD; no text and no comment."""
    if not any(ONE_OF_THEM.search(word) for word in set(re.findall(r"\w+", source)) - {OURS}):
        return set()
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    matching = {token.string for token in tokens if token.type == tokenize.NAME}
    return {name for name in matching if name != OURS and ONE_OF_THEM.search(name)}


def test_names_of_one_market_or_source_stand_where_the_page_says() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    table = page.partition("### What still names one market or one source\n")[2].partition("\n## ")[0]
    cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    listed = {path for cell in cells for path in re.findall(r"`([^`]+)`", cell)}
    names_of = {
        name: names
        for path in sorted(PACKAGE.rglob("*.py"))
        if not (name := path.relative_to(PACKAGE).as_posix()).startswith(AT_HOME)
        and (names := names_in(path.read_text()))
    }
    unexplained = {name: names for name, names in names_of.items() if not any(fnmatch(name, path) for path in listed)}
    assert unexplained == {}, "say why, or name it otherwise"
    assert len(names_of) <= MOST_FILES, sorted(names_of)
    assert [path for path in listed if not filter_names(names_of, path)] == [], "these need no reason any more"


def test_a_name_is_told_from_a_text() -> None:
    source = (
        "from a.hk import HK  # OpenD\nclass OpenDAddress: pass\nfutu_port = 'HK'\nhk_tick_collector, hkt, future = 1"
    )
    assert names_in(source) == {"hk", "HK", "OpenDAddress", "futu_port"}


def bound_in(node: ast.AST) -> str | None:
    """The name that this node alone binds."""
    match node:
        case ast.Name(id=name, ctx=ast.Store()) | ast.arg(arg=name):
            return name
        case ast.ExceptHandler(name=name) | ast.MatchAs(name=name) | ast.MatchStar(name=name):
            return name
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
            return name.lstrip("_")
        case ast.alias(name=name, asname=alias):
            return alias or name
        case ast.MatchMapping(rest=name):
            return name
    return None


def weak_names(source: str) -> list[tuple[int, str]]:
    """Line and name of what is bound to a word that says nothing. A field of a class may be one: it is the key of what
    a command prints."""
    weak, fields = [], set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ClassDef):
            fields |= {id(line.target) for line in node.body if isinstance(line, ast.AnnAssign)}
        elif (name := bound_in(node)) in SAYS_NOTHING and id(node) not in fields:
            weak.append((getattr(node, "lineno", 0), name))
    return sorted(weak)


def test_names_say_what_they_hold() -> None:
    weak = [
        f"{path.relative_to(PACKAGE)}:{line} {word}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for line, word in weak_names(path.read_text())
    ]
    assert weak == [], "say the thing itself: symbol, gap, row, path, match"


@pytest.mark.parametrize(
    "source",
    [
        "found = 1", "for one in a: pass", "a = [one for one in b]", "def f(what): pass", "def _one(): pass",
        "with a as one: pass", "if (found := a): pass", "try: pass\nexcept E as what: pass", "import a as one",
        "a, (b, *each) = c", "lambda who: 1", "def f(*ones, **those): pass", "class A:\n    def found(self): pass",
        "match a:\n    case [one, *_]: pass", "match a:\n    case {**said}: pass", "async def f():\n    found = 1",
    ],
)  # fmt: skip
def test_a_name_that_says_nothing_is_seen_wherever_it_is_bound(source: str) -> None:
    assert weak_names(source) != []


@pytest.mark.parametrize(
    "source",
    ["oneself = founder = 1", "class A:\n    found: str", "print(found)", "a.found = 'one'  # what", "f(what=1)"],
)
def test_other_words_and_fields_are_not_refused(source: str) -> None:
    assert weak_names(source) == []
