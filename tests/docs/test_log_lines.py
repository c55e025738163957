"""Log lines that the documents quote or name exist in the code, with the keys they are shown with, in that order.

A block of ``log`` holds lines as they are printed (``journalctl -o cat``); `` ... `` stands for keys left out.
"""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from tests.docs.test_readme import ROOT, markdown_files, read_blocks, without_blocks
from tests.harness import Recorder, Simulator, ended

PAGES = [page for page in markdown_files() if not page.name.startswith(("CHANGELOG", "CONTRIBUTING"))]
RUNBOOKS = sorted((ROOT / "docs" / "runbook").glob("*.md"))
# Put on by the formatter, and by RateLimitedLog for what it held back.
ADDED_KEYS = ["suppressed", "level"]
# What greps look for beside log words: the level, Python, and the kernel's and systemd's own lines.
OTHERS_WORDS = {"ERROR", "Traceback"}
KERNEL_GREP = {"I/O error", "EXT4-fs", "XFS", "read-only", "out of memory"}


def _words(node: ast.expr) -> list[str]:
    """The message words an expression can be, as regular expressions."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [re.escape(node.value)]
    if isinstance(node, ast.IfExp):
        return _words(node.body) + _words(node.orelse)
    if isinstance(node, ast.JoinedStr):
        parts = [re.escape(part.value) if isinstance(part, ast.Constant) else r"[a-z_]+" for part in node.values]
        return ["".join(map(str, parts))]
    return []


def _keys(keyword: ast.keyword) -> list[str]:
    """As regular expressions; of a dictionary its keys, ``*`` where they are not written out."""
    if keyword.arg is not None:
        return [keyword.arg]
    written = keyword.value.keys if isinstance(keyword.value, ast.Dict) else []
    return [word for key in written if key is not None for word in _words(key)] or ["*"]


@cache
def events() -> tuple[tuple[str, tuple[str, ...]], ...]:
    """``(pattern of the word, keys)`` of every ``event(...)`` and ``RateLimitedLog.log(...)`` in the package."""
    lines_of = []
    for path in sorted((ROOT / "hk_tick_collector").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            position = {"event": 0, "log": 1, "_fail": 0}.get(name)  # _fail: of sources/futu/sdk/context.py
            if position is None or len(node.args) <= position:
                continue
            keys = tuple(
                key for keyword in node.keywords if keyword.arg not in ("key", "exc_info") for key in _keys(keyword)
            )
            keys = keys if name != "_fail" else ("*",)
            lines_of += [(word, keys) for word in _words(node.args[position])]
    return tuple(lines_of)


def is_log_word(text: str) -> bool:
    return any(re.fullmatch(word, text) for word, _ in events())


def objection(line: str) -> str | None:
    """What is wrong with a quoted line; None when the code prints such a line."""
    unquoted = re.sub(r'"(?:[^"\\]|\\.)*"', '""', line)
    word, *rest = re.split(r" (?=[a-z_0-9]+=|\.\.\.)", unquoted)
    keys = [part.partition("=")[0] for part in rest if part != "..."]
    candidates = [known for pattern, known in events() if re.fullmatch(pattern, word)]
    if not candidates:
        return f"no line of the recorder begins with {word!r}"
    for known in candidates:
        allowed = iter([*known, *ADDED_KEYS])
        if "*" in known or all(any(re.fullmatch(allowed_key, key) for allowed_key in allowed) for key in keys):
            return None
    return f"{word} has the keys {', '.join(candidates[0])}, in this order; the page has {', '.join(keys)}"


def log_lines(page: Path) -> list[str]:
    return [line for block in read_blocks(page) if block.language == "log" for line in block.text.splitlines() if line]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_quoted_lines_are_lines_the_code_prints(page: Path) -> None:
    assert [problem for line in log_lines(page) if (problem := objection(line))] == []


@pytest.mark.parametrize("page", RUNBOOKS, ids=lambda page: page.name)
def test_a_runbook_begins_with_a_log_line(page: Path) -> None:
    assert read_blocks(page)[0].language == "log"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_words_that_lead_a_table_row_are_log_words(page: Path) -> None:
    """In tables whose first column is headed ``line``, every name in code style in it is a log word."""
    rows = re.findall(r"^\| line \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", without_blocks(page), re.MULTILINE)
    names = [
        name
        for table in rows
        for row in table.splitlines()
        for name in re.findall(r"`([^`]+)`", re.split(r"(?<!\\) \|", row)[0])
    ]
    for name in names:
        word = re.split(r" (?=\.\.\.|[a-z_0-9]+=)", name)[0]
        assert is_log_word(word), f"{page.name}: {name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_names_in_code_style_are_names_of_the_project(page: Path) -> None:
    """A name such as `queue_in` is a log word, a key, a column or something else that the sources know."""
    for name in set(re.findall(r"`([a-z]+(?:_[a-z0-9]+)+)`", without_blocks(page))):
        if name.startswith(("hk_tick_collector_", "hk_redis_", "hk_ship_", "hk_live_", "process_")):
            continue  # a metric: the tests of what serves it compare those
        assert name in words_of_sources() or is_log_word(name), f"{page.name}: {name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_grep_looks_for_can_be_found(page: Path) -> None:
    for block in read_blocks(page):
        for pattern in re.findall(r'\| grep -i?E "([^"]+)"', block.text):
            for word in set(pattern.split("|")) - OTHERS_WORDS - KERNEL_GREP:
                assert any(re.match(word, known) for known, _ in events()), f"{block.where}: {word}"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("health connected=True ... queue=8", None),
        ('fatal reason="a b=1 c" action=x level=ERROR', None),
        ("healthy connected=True", "no line of the recorder"),
        ("health queue=8 connected=True", "in this order"),
        ("health opend=ready market_us=Morning symbols=4", None),
        ("health market_us=Morning opend=ready", "in this order"),
        ("WATCHDOG stall reason=x rows=1", "in this order"),
    ],
)
def test_a_wrong_line_is_noticed(line: str, expected: str | None) -> None:
    problem = objection(line)
    assert problem is None if expected is None else expected in (problem or "")


def test_lines_of_a_running_recorder_pass_the_same_check(tmp_path: Path) -> None:
    """The check reads sources; here it reads what is really printed."""
    simulator = Simulator(tmp_path / "sim", "--symbols", "HK.00700", "--always-open", "--rate", "50")
    with ended(simulator):
        recorder = Recorder(tmp_path / "HK", simulator.port, "HK.00700")
        with ended(recorder):
            recorder.wait_for("persist_loop_heartbeat ")
            recorder.wait_for("health connected=True")
            assert recorder.stop() == 0
    printed = [re.sub(r"^\S+Z [A-Z]+ ", "", line) for line in recorder.lines]
    assert len(printed) > 6
    assert [problem for line in printed if (problem := objection(line))] == []


@cache
def words_of_sources() -> set[str]:
    places = [ROOT / "hk_tick_collector", ROOT / "scripts", ROOT / "deploy"]
    return {
        word
        for place in places
        for path in sorted(place.rglob("*"))
        if path.suffix in {".py", ".sql", ".sh", ".service", ".timer", ".yml"}
        for word in re.findall(r"\w+", path.read_text(encoding="utf-8"))
    }
