"""Is a text one question to the database, and which tables and columns does it need?

A question is a single SELECT (WITH, FROM, VALUES, TABLE, PIVOT, DESCRIBE, SHOW, SUMMARIZE and EXPLAIN are SELECTs in
DuckDB's eyes or hold one). Everything else is refused by its kind before it runs, COPY and ATTACH among it.

What a question needs is what DuckDB's own planner says: it plans the text over empty tables with every optimizer off
but the one that drops unused columns. The same plan finds spelling mistakes before a row is read.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

import duckdb
import pyarrow as pa

from hk_tick_collector.core.errors import QuestionError

_FIRST_WORDS = frozenset(
    [
        "select",
        "with",
        "from",
        "values",
        "table",
        "pivot",
        "unpivot",
        "describe",
        "desc",
        "show",
        "summarize",
        "explain",
    ]
)
_SKIPPED = re.compile(r"\s+|--[^\n]*(?:\n|$)|/\*.*?\*/|\(", re.DOTALL)
_EXPLAIN = re.compile(r"explain\s+(?:analyze\s+)?", re.IGNORECASE)
_PIVOT = re.compile(r"\b(?:un)?pivot", re.IGNORECASE)
_NAMES_ARE_MADE = ("query", "execute")  # in the names of table functions that may put a table's name together
_NEEDED = "unused_columns"
_OUTSIDE = re.compile(r"^Permission Error|disabled by configuration|(?:in|requires) the \w+ extension|Extension Error")
_TIME_TYPES = re.compile(
    r"(?=.*TIMESTAMP WITH TIME ZONE)(?:cannot (?:mix|compare) values|no function matches).*(?:INT|DOUBLE|DECIMAL)",
    re.DOTALL | re.IGNORECASE,
)
ONLY_DAYS = (
    "a question reads the tables ticks, coverage, gaps, symbols, books, quotes, brokers, snapshots and all_snapshots "
    "and nothing else: no files, no network, no extensions"
)
TIME_HINT = (
    "hint: in ticks, times are timestamps: epoch_ms(ts_ms) is the number that day files, coverage and gaps hold "
    "(UTC epoch milliseconds), make_timestamptz(1000 * ms) turns such a number into a timestamp"
)
_MARKED_LINE = re.compile(r"(LINE 1: ).*?\(FORMAT json\) ")
_SELECTS = frozenset({"SELECT", "EXPLAIN", "MULTI"})


class SqlError(QuestionError):
    """The SQL is wrong, or asks for what is not allowed here."""


@dataclass(frozen=True)
class Needs:
    """The columns that a question reads, by table; tables it does not read are absent."""

    columns: dict[str, set[str]] = field(default_factory=dict)


def check_question(connection: Any, sql: str) -> str:
    """The text to run. SqlError when it is not one question, or cannot be parsed."""
    text = sql.strip()
    if _first_word(text) not in _FIRST_WORDS:
        begins = f"begins with {_first_word(text).upper()}" if _first_word(text) else "is empty"
        raise SqlError(f"the SQL {begins}: write one SELECT (days are only read here; --output writes the answer)")
    inner = _explained(text)
    if inner is not None:
        return text[: len(text) - len(inner)] + check_question(connection, inner)
    try:
        kinds = [statement.type.name for statement in connection.extract_statements(text)]
    except duckdb.Error as exc:
        raise SqlError(message(exc)) from exc
    is_pivot = bool(_PIVOT.search(text))
    if is_pivot and kinds and set(kinds[:-1]) <= {"CREATE"}:
        kinds = kinds[-1:]  # DuckDB before 1.4 prepares a PIVOT by making a type
    if len(kinds) != 1 or kinds[0] not in _SELECTS or (kinds[0] == "MULTI" and not is_pivot):
        raise SqlError(f"write one SELECT and nothing else; this is {', '.join(kinds) or 'nothing'}")
    return text


def needs_of(connection: Any, sql: str, tables: dict[str, pa.Schema]) -> Needs:
    """What a checked question reads of these tables, which exist in ``connection``, empty, with these schemas.

    SqlError when it does not fit them. Where the plan cannot be understood the answer is everything.
    """
    everything = Needs({name: set(schema.names) for name, schema in tables.items()})
    names = [row[0] for row in connection.execute("SELECT name FROM duckdb_optimizers()").fetchall()]
    disabled = ",".join(name for name in names if name != _NEEDED)
    for setting in (f"disabled_optimizers = '{disabled}'", "lock_configuration = true"):
        connection.execute(f"SET {setting}")
    inner = _explained(sql.strip()) or sql.strip()
    if _PIVOT.search(inner):  # its columns depend on the rows
        text = inner.lower()
        if any(word in text for word in _NAMES_ARE_MADE):
            return everything
        return Needs({name: read for name, read in everything.columns.items() if name in text})
    if _FIRST_WORDS.intersection((_first_word(inner),)) & {"describe", "desc", "show"}:
        return Needs()
    columns_of = _scans(connection, inner, tables)
    # A plan that does not show what is known to be read is written in a way that this program does not know.
    for name, schema in tables.items():
        shown, compared = schema.names[-2:]
        canary = f"SELECT {shown} FROM {name} WHERE {compared} IS NOT NULL"  # noqa: S608 - our names
        if _scans(connection, canary, tables) != {name: {shown, compared}}:
            return everything
    return everything if columns_of is None else Needs(columns_of)


_NO_TABLE = re.compile(r"(Table with name .* does not exist!)(?:\nDid you mean [^\n]*)?")


def message(exc: BaseException) -> str:
    """DuckDB's words without its classification; ours where it speaks of what is not available here, and a hint where
    the types of times do not fit."""
    text = re.sub(r"^(?:[A-Z][A-Za-z]+ )+Error: ", "", str(exc).strip())
    if _OUTSIDE.search(str(exc)):
        return f"{ONLY_DAYS} ({text.splitlines()[0]})"
    if _TIME_TYPES.search(text):
        return f"{text}\n{TIME_HINT}"
    return text


def _scans(connection: Any, sql: str, tables: dict[str, pa.Schema]) -> dict[str, set[str]] | None:
    """Columns read by table; None when the plan is not understood."""
    try:
        rows = connection.execute(f"EXPLAIN (FORMAT json) {sql}").fetchall()
    except duckdb.Error as exc:
        text = _NO_TABLE.sub(rf"\1 There are: {', '.join(tables)}.", _without_explain(message(exc)))
        raise SqlError(text) from exc
    columns_of: dict[str, set[str]] = {}
    try:
        waiting = list(json.loads(rows[-1][1]))
        while waiting:
            node = waiting.pop()
            waiting.extend(node["children"])
            info = node["extra_info"]
            table = str(info["Table"]).rpartition(".")[2].strip('"') if "Table" in info else ""
            if table in tables:
                columns = info["Projections"]
                read = {columns} if isinstance(columns, str) else set(columns)
                read.discard("")
                columns_of.setdefault(table, set()).update(read)
                if not read <= set(tables[table].names):
                    return None
    except (ValueError, KeyError, TypeError, IndexError):
        return None
    return columns_of


def _without_explain(text: str) -> str:
    """DuckDB's words on a question that we asked with EXPLAIN in front, its mark moved to the right place."""
    lines = text.splitlines()
    for number, line in enumerate(lines[:-1]):
        match = _MARKED_LINE.match(line)
        if match:
            lines[number] = match[1] + line[match.end() :]
            lines[number + 1] = lines[number + 1][match.end() - len(match[1]) :]
    return "\n".join(lines)


def _first_word(text: str) -> str:
    at = 0
    while match := _SKIPPED.match(text, at):
        at = match.end()
    word = re.match(r"\w+", text[at:])
    return word.group().lower() if word else ""


def _explained(text: str) -> str | None:
    """What stands behind EXPLAIN [ANALYZE]; None when the text does not begin with it."""
    if _first_word(text) != "explain":
        return None
    match = _EXPLAIN.match(text)
    if not match:
        raise SqlError("write EXPLAIN or EXPLAIN ANALYZE and then one SELECT")
    return text[match.end() :]
