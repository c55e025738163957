"""What a source tells of a day beside its ticks: what symbols are, and which trades it corrected or took back.

The tables, ``symbols`` and ``amendments``, are described in details.sql and change inside the caller's transaction. A
later word of a symbol replaces the earlier one, and what it leaves open stays. An amendment is stored once, however
often it is told.

Cost: a look-up a symbol, some times a day. Each amendment is looked for among those of the day; a day has few.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from hk_tick_collector.core.facts import Amended, DayFact, Fact, SymbolNoted

_TOLD = ("name", "lot_size", "unit", "multiplier", "currency", "tick_size")
_AMENDED = ("symbol", "kind", "tick_ts_ms", "tick_seq", "price", "volume", "ts_ms", "source_text")


def _note_sql() -> str:
    """A word that changes nothing writes nothing: the day's archive goes on to be equal to its file."""
    known = ", ".join(f"{name} = coalesce(excluded.{name}, {name})" for name in _TOLD)
    is_new = " OR ".join(f"excluded.{name} IS NOT NULL AND excluded.{name} IS NOT symbols.{name}" for name in _TOLD)
    return (
        f"INSERT INTO symbols (symbol, {', '.join(_TOLD)}, noted_at_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?) "  # noqa: S608
        f"ON CONFLICT (symbol) DO UPDATE SET {known}, noted_at_ms = excluded.noted_at_ms WHERE {is_new}"
    )


def _amend_sql() -> str:
    same = " AND ".join(f"{name} IS ?{place}" for place, name in enumerate(_AMENDED, start=1))
    values = ", ".join(f"?{place}" for place in range(1, len(_AMENDED) + 2))
    return (
        f"INSERT INTO amendments ({', '.join(_AMENDED)}, recv_ts_ms) SELECT {values} "  # noqa: S608 - our names
        f"WHERE NOT EXISTS (SELECT 1 FROM amendments WHERE {same})"
    )


_NOTE, _AMEND = _note_sql(), _amend_sql()


def store_details(conn: sqlite3.Connection, facts: Iterable[Fact | DayFact]) -> None:
    """Those of ``facts`` that are for these tables. sqlite3.Error as of a row of ticks."""
    for fact in facts:
        if isinstance(fact, SymbolNoted):
            conn.execute(_NOTE, (fact.symbol, *(getattr(fact, name) for name in _TOLD), fact.at_ms))
        elif isinstance(fact, Amended):
            conn.execute(_AMEND, (*(getattr(fact, name) for name in _AMENDED), fact.recv_ts_ms))
