"""Whoever asks in SQL is told of every table, wherever the tables are told."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hk_tick_collector.query.engine import Engine
from hk_tick_collector.query.statement import ONLY_DAYS
from hk_tick_collector.serve.api.questions import SqlQuery
from hk_tick_collector.serve.problems import KINDS
from hk_tick_collector.serve.web.files import STATIC

DOCS = Path(__file__).resolve().parents[3] / "docs"


def tables() -> set[str]:
    with Engine([]) as engine:
        names = "SELECT list(DISTINCT table_name) AS names FROM duckdb_columns() WHERE NOT internal"
        engine.run("SELECT 1")
        return set(engine._connection.sql(names).fetchall()[0][0])


def line_of(path: Path, words: str) -> str:
    """With the next one, in which a sentence may end."""
    lines = path.read_text(encoding="utf-8").splitlines()
    at = next(number for number, line in enumerate(lines) if words in line)
    return " ".join(lines[at : at + 2])


@pytest.mark.parametrize(
    "text",
    [
        ONLY_DAYS,
        SqlQuery.model_fields["sql"].description,
        KINDS["bad-sql"].hint,
        line_of(DOCS / "api.md", "answers one SELECT"),
        line_of(STATIC / "pages" / "sql.js", 't("One SELECT over'),
        line_of(STATIC / "text.js", "一句 SELECT"),
    ],
    ids=["refusal", "parameter", "hint", "document", "page", "page in Chinese"],
)
def test_every_table_is_named(text: str) -> None:
    assert tables() <= set(re.findall(r"[a-z_]+", text))
