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

import adbc_driver_manager
import adbc_driver_sqlite
import pyarrow as pa

from hk_tick_collector.export.texts import epoch_ms, plain_columns
from hk_tick_collector.store.connect import SCHEMA_SQL, split_statements, translate

SUFFIXES = (".db", ".sqlite", ".sqlite3")
_INDEX = re.compile(r"CREATE (UNIQUE )?INDEX", re.ASCII)
_UNSAFE_BUT_QUICK = ("PRAGMA journal_mode = OFF", "PRAGMA synchronous = OFF", "PRAGMA cache_size = -65536")


def write_sqlite(path: Path, tables: Iterable[pa.Table]) -> int:
    """Write an empty file full; rows written. StoreUnavailable when the disk refuses."""
    statements = list(split_statements(SCHEMA_SQL))
    indexes = [statement for statement in statements if _INDEX.search(statement)]
    try:
        _run(path, [statement for statement in statements if statement not in indexes])
        rows = _insert(path, tables)
        _run(path, indexes)  # last: an index that is built at once is small and quick
    except (sqlite3.Error, adbc_driver_manager.Error) as exc:
        error = exc if isinstance(exc, sqlite3.Error) else sqlite3.OperationalError(str(exc))
        raise translate(error, path) from exc
    return rows


def _run(path: Path, statements: Iterable[str]) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        for pragma in _UNSAFE_BUT_QUICK:
            conn.execute(pragma).fetchall()
        conn.execute("BEGIN")
        for statement in statements:
            conn.execute(statement)
        conn.execute("COMMIT")


def _insert(path: Path, tables: Iterable[pa.Table]) -> int:
    rows = 0
    uri = path.absolute().as_uri()
    # The driver's own classes: its DBAPI module would import pandas and polars, 65 MB and a quarter of a second.
    with (
        adbc_driver_sqlite.connect(uri) as database,
        adbc_driver_manager.AdbcConnection(database) as conn,
        adbc_driver_manager.AdbcStatement(conn) as statement,
    ):
        for sql in (*_UNSAFE_BUT_QUICK, "BEGIN"):
            _execute(statement, sql)
        for table in tables:
            _append(conn, plain_columns(table, epoch_ms))
            rows += table.num_rows
        _execute(statement, "COMMIT")
    return rows


def _execute(statement: adbc_driver_manager.AdbcStatement, sql: str) -> None:
    statement.set_sql_query(sql)
    stream, _ = statement.execute_query()
    with pa.RecordBatchReader._import_from_c(stream.address) as answer:
        answer.read_all()


def _append(conn: adbc_driver_manager.AdbcConnection, batch: pa.RecordBatch) -> None:
    options = {
        adbc_driver_manager.StatementOptions.INGEST_TARGET_TABLE.value: "ticks",
        adbc_driver_manager.StatementOptions.INGEST_MODE.value: "adbc.ingest.mode.append",
    }
    with adbc_driver_manager.AdbcStatement(conn) as statement:
        statement.set_options(**options)
        schema, array = batch.__arrow_c_array__()
        statement.bind(array, schema)
        statement.execute_update()
