"""What of a stored row may still change, as one text: equal texts are equal rows, if the rowids are of one file.

``store.rows`` changes only these columns of a row that is stored. SQLite makes the text, which costs a sixth of reading
the rows.
"""

from __future__ import annotations

import sqlite3

from hk_tick_collector.store.read_only import select_list

CHANGING = ("ts_ms", "seq", "occurrence")


def changing_sql(conn: sqlite3.Connection, which: str) -> str:
    """The statement that gives the text of the rows of ``which`` (SQL behind ``FROM ticks``); NULL when there are
    none."""
    columns = select_list(conn, CHANGING)
    text = "rowid || ' ' || ts_ms || ' ' || ifnull(seq, '') || ' ' || ifnull(occurrence, '')"
    return f"SELECT group_concat({text}) FROM (SELECT rowid, {columns} FROM ticks {which})"  # noqa: S608 - our names
