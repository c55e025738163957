"""Statements whose rows come as Arrow: ADBC's SQLite driver builds the columns in C, with the interpreter released.

Whoever calls holds the file open in ``sqlite3`` meanwhile, by the same URI: SQLite keeps the WAL index then, and this
connection need not build it. Errors are the driver's (``adbc_driver_manager.Error``) and Arrow's
(``pa.ArrowException``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import adbc_driver_manager
import adbc_driver_sqlite
import pyarrow as pa

BUSY_TIMEOUT_MS = 2000  # readers meet a lock only while a WAL is recovered


@contextmanager
def open_statement(uri: str, batch_rows: int) -> Iterator[Any]:
    """A statement to run, once or again, on a connection of its own. The driver guesses a column's type from its first
    ``batch_rows`` rows, and gives so many at a time."""
    # The driver's own classes: its DBAPI module would import pandas, a third of a second.
    with (
        adbc_driver_sqlite.connect(uri) as database,
        adbc_driver_manager.AdbcConnection(database) as conn,
        adbc_driver_manager.AdbcStatement(conn) as statement,
    ):
        statement.set_options(**{"adbc.sqlite.query.batch_rows": str(batch_rows)})
        list(run_statement(statement, f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}", ()))
        yield statement


def run_statement(statement: Any, sql: str, values: Sequence[Any]) -> Iterator[pa.RecordBatch]:
    """The rows of a query with these parameters. Read to its end, it leaves no transaction open."""
    statement.set_sql_query(sql)
    if values:
        row = pa.record_batch([[value] for value in values], names=[str(n) for n in range(len(values))])
        schema, array = row.__arrow_c_array__()
        statement.bind(array, schema)
    stream, _ = statement.execute_query()
    with pa.RecordBatchReader._import_from_c(stream.address) as batches:
        yield from batches
