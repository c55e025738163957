"""Ticks of one or several days as one SQLite file with the tables and indexes of a day file.

Rows are in the order of day, symbol, time. ``coverage`` and ``gaps`` are there and empty: a part of a day, or several
days, have no completeness of their own. The file is a day file by its form; it is made by nobody but this export, so
it needs no journal while it is written.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import pyarrow as pa

from hk_tick_collector.days.arrow_sql import FILLING_CACHE_KB, filling
from hk_tick_collector.store.connect import SCHEMA_SQL, split_statements, translate

SUFFIXES = (".db", ".sqlite", ".sqlite3")
_INDEX = re.compile(r"CREATE (UNIQUE )?INDEX", re.ASCII)
_UNSAFE_BUT_QUICK = ("journal_mode = OFF", "synchronous = OFF", f"cache_size = -{FILLING_CACHE_KB}", "threads = 1")


def write_sqlite(path: Path, tables: Iterable[pa.Table]) -> int:
    """Write an empty file full; rows written. StoreUnavailable when the disk refuses."""
    statements = list(split_statements(SCHEMA_SQL))
    indexes = [statement for statement in statements if _INDEX.search(statement)]
    try:
        _run(path, [statement for statement in statements if statement not in indexes])
        rows = 0
        with filling(path) as append:
            for table in tables:
                for batch in table.to_batches():
                    append(batch)
                rows += table.num_rows
        _run(path, indexes)  # last: an index that is built at once is small and quick
    except sqlite3.Error as exc:
        raise translate(exc, path) from exc
    return rows


def _run(path: Path, statements: Iterable[str]) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        for pragma in _UNSAFE_BUT_QUICK:
            conn.execute(f"PRAGMA {pragma}").fetchall()
        conn.execute("BEGIN")
        for statement in statements:
            conn.execute(statement)
        conn.execute("COMMIT")
