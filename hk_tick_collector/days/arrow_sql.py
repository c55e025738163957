"""Rows of an SQLite file as Arrow arrays, and back, by one SQLite in a process for whatever a recorder may write to.

File locks belong to the process. When a second library closes its descriptor of a file, the locks that the first one
holds there are gone, and a recorder that closes the file then removes the WAL from under a reader. Arrow's driver
(ADBC) is such a library: it brings an SQLite of its own, makes columns in C with the interpreter released, and takes
half of the CPU. So there is a rule, and this module is its only place:

- A live file is read through Python's ``sqlite3``, as everybody reads it. What costs there is a Python object for each
  value: columns of few words, half of those of a tick, come together as one text a row.
- A closed file, on which nobody holds a lock, is read by the driver. When somebody has begun to write to it meanwhile,
  and somebody here may read it as a live one, the driver's descriptor stays open until it is closed again.
- A file that is being made, which nobody else knows, is filled by the driver: at a third of the CPU.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from hk_tick_collector.store.companions import holds_locks, is_closed, is_live, opening
from hk_tick_collector.store.read_only import ClosedFile

_TOLD_AS: dict[pa.DataType, set[type]] = {
    pa.int64(): {int, type(None)},
    pa.float64(): {float, int, type(None)},
    pa.string(): {str, type(None)},
    pa.binary(): {bytes, type(None)},
}


class Column(NamedTuple):
    """What to read, and as what."""

    name: str
    sql: str
    type: pa.DataType  # int64, double, binary, a timestamp, or a dictionary of strings
    is_word: bool = False  # one of few, and of few together with the other words of its row


_UNSAFE_BUT_QUICK = ("PRAGMA journal_mode = OFF", "PRAGMA synchronous = OFF")
FILLING_CACHE_KB = 64 * 1024  # of SQLite, while a file is made

Append = Callable[[pa.RecordBatch], None]
ReadColumns = Callable[[Sequence[Column], Sequence[str], Sequence[Any], int], Iterator[pa.RecordBatch]]


@contextmanager
def reading_columns(conn: sqlite3.Connection) -> Iterator[ReadColumns]:
    """For a connection that was opened for reading, and stays open meanwhile, a function that reads::

        with reading_columns(conn) as read:
            columns = [Column("price", "price", pa.float64())]
            for batch in read(columns, ["FROM ticks WHERE symbol = ?"], ["HK.00700"], 100):
                ...

    It is given the columns; what follows them, of several such tails the rows of all; the values for the question
    marks; and how many rows a batch has at most. Read to its end, it leaves no transaction open. Of a closed file each
    thread may have such a function of its own.

    sqlite3.Error, whichever library reads; pa.ArrowException for a value of another kind than its column's.
    """
    if not isinstance(conn, ClosedFile):
        yield lambda *asked: _read_live(conn, *asked)
        return
    assert conn.path is not None
    with _driver(conn.path) as statement:
        yield lambda *asked: _read_closed(statement, *asked)


def _read_live(
    conn: sqlite3.Connection, columns: Sequence[Column], tails: Sequence[str], values: Sequence[Any], batch_rows: int
) -> Iterator[pa.RecordBatch]:
    words = [column for column in columns if column.is_word]
    others = [column for column in columns if not column.is_word]
    selected = [column.sql for column in others]
    if words:
        selected.append(f"json_array({', '.join(column.sql for column in words)})")
    names = [column.name for column in columns]
    try:
        cursor = conn.execute(_union(selected, tails), values)
        while rows := cursor.fetchmany(batch_rows):
            read = list(zip(*rows, strict=True))
            arrays = {column.name: _array(column, told) for column, told in zip(others, read, strict=False)}
            if words:
                arrays |= _word_arrays(words, read[-1])
            yield pa.RecordBatch.from_arrays([arrays[name] for name in names], names=names)
    except sqlite3.OperationalError as exc:
        if "UTF-8" in str(exc):  # of the module itself, not of SQLite
            raise pa.ArrowInvalid(str(exc)) from exc
        if words and "BLOB" in str(exc):  # no JSON: the columns one by one tell which
            for _ in _read_live(conn, [c._replace(is_word=False) for c in columns], tails, values, batch_rows):
                pass
        raise


def _union(selected: Sequence[str], tails: Sequence[str]) -> str:
    return " UNION ALL ".join(f"SELECT {', '.join(selected)} {tail}" for tail in tails)


def _array(column: Column, told: Sequence[Any]) -> pa.Array:
    kind = column.type
    plain = _plain(kind)
    if not _TOLD_AS[plain].issuperset(map(type, told)):  # Arrow would cut numbers, and take bytes for a text
        types = sorted({type(value).__name__ for value in told if type(value) not in _TOLD_AS[plain]})
        raise pa.ArrowInvalid(f"column {column.name} holds {' and '.join(types)} values")
    array = pa.array(told, plain)
    return array.dictionary_encode() if _is_text(kind) else array.view(kind)


def _plain(kind: pa.DataType) -> pa.DataType:
    """How SQLite has such values."""
    return kind.value_type if _is_text(kind) else pa.int64() if pa.types.is_timestamp(kind) else kind


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_dictionary(kind))


def _word_arrays(words: Sequence[Column], texts: Sequence[str]) -> dict[str, pa.Array]:
    """The columns that came together: ``texts`` are JSON arrays."""
    encoded = pa.array(texts, pa.string()).dictionary_encode()
    different = [json.loads(text) for text in encoded.dictionary.to_pylist()]
    return {
        column.name: _array(column, [row[place] for row in different]).take(encoded.indices)
        for place, column in enumerate(words)
    }


_held: dict[Path, list[Any]] = {}  # the driver's connections that are not used any more, by file
_held_lock = threading.RLock()  # as of ``store.companions``


@contextmanager
def _driver(path: Path) -> Iterator[Any]:
    """A statement of the driver on a connection of its own, to run again and again."""
    import adbc_driver_manager  # noqa: PLC0415 - who reads live files never loads it
    import adbc_driver_sqlite  # noqa: PLC0415

    handles: list[Any] = []
    try:
        # The driver's own classes: its DBAPI module would import pandas, a third of a second.
        handles.append(adbc_driver_sqlite.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1"))
        handles.insert(0, adbc_driver_manager.AdbcConnection(handles[0]))
        with adbc_driver_manager.AdbcStatement(handles[0]) as statement:
            yield statement
    except adbc_driver_manager.Error as exc:
        raise _own(exc) from exc
    finally:
        with _held_lock:
            _held.setdefault(path, []).extend(handles)
        _close_held()


def _close_held() -> None:
    """Close what nobody uses any more, but for files that are live by now and that somebody here has open, or holds a
    lock on."""
    with _held_lock:
        paths = list(_held)
    for path in paths:
        with opening(path):
            if is_closed(path) or not path.exists() or (not is_live(path) and holds_locks(path) is False):
                with _held_lock:
                    handles = _held.pop(path, [])
                for handle in handles:
                    handle.close()


@contextmanager
def filling(path: Path) -> Iterator[Append]:
    """For a new file with the table ``ticks``, which nobody else knows or has open, a function that appends rows: the
    columns that a batch has, times as epoch milliseconds. All rows are in one transaction, which ends with the block.

    The file is worth nothing until the block has ended, and is not synced then. sqlite3.Error, whatever refuses.
    """
    import adbc_driver_manager  # noqa: PLC0415 - as above
    import adbc_driver_sqlite  # noqa: PLC0415

    kind = adbc_driver_manager.StatementOptions
    options = {kind.INGEST_TARGET_TABLE.value: "ticks", kind.INGEST_MODE.value: "adbc.ingest.mode.append"}
    uri = f"{path.absolute().as_uri()}?mode=rw"
    try:
        with adbc_driver_sqlite.connect(uri) as database, adbc_driver_manager.AdbcConnection(database) as conn:

            def append(batch: pa.RecordBatch) -> None:
                with adbc_driver_manager.AdbcStatement(conn) as statement:
                    statement.set_options(**options)
                    schema, array = _as_stored(batch).__arrow_c_array__()
                    statement.bind(array, schema)
                    statement.execute_update()

            for sql in (*_UNSAFE_BUT_QUICK, f"PRAGMA cache_size = -{FILLING_CACHE_KB}", "BEGIN"):
                _run(conn, sql)
            yield append
            _run(conn, "COMMIT")
    except adbc_driver_manager.Error as exc:
        raise _own(exc) from exc


def _run(conn: Any, sql: str) -> None:
    import adbc_driver_manager  # noqa: PLC0415 - as above

    with adbc_driver_manager.AdbcStatement(conn) as statement:
        statement.set_sql_query(sql)
        stream, _ = statement.execute_query()
        with pa.RecordBatchReader._import_from_c(stream.address) as answer:
            answer.read_all()


def _as_stored(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The driver would make texts of times."""
    arrays = [array.view(pa.int64()) if pa.types.is_timestamp(array.type) else array for array in batch.columns]
    return pa.RecordBatch.from_arrays(arrays, names=batch.schema.names)


def _own(exc: Exception) -> Exception:
    text = str(exc)
    return pa.ArrowInvalid(text) if "Type mismatch" in text else sqlite3.DatabaseError(text)


def _read_closed(
    statement: Any, columns: Sequence[Column], tails: Sequence[str], values: Sequence[Any], batch_rows: int
) -> Iterator[pa.RecordBatch]:
    import adbc_driver_manager  # noqa: PLC0415 - as above

    # The driver guesses a column's type from its first batch, and takes one without values for integers: where that
    # would be wrong, a first row of ours shows what is meant.
    with_example = any(_is_text(column.type) or pa.types.is_floating(column.type) for column in columns)
    sql = _union([column.sql for column in columns], tails)
    if with_example:
        sql = f"SELECT {', '.join(map(_example, columns))} UNION ALL {sql}"
    try:
        statement.set_options(**{"adbc.sqlite.query.batch_rows": str(batch_rows + with_example)})
        statement.set_sql_query(sql)
        if values:
            row = pa.record_batch([[value] for value in values], names=[str(n) for n in range(len(values))])
            schema, array = row.__arrow_c_array__()
            statement.bind(array, schema)
        stream, _ = statement.execute_query()
        with pa.RecordBatchReader._import_from_c(stream.address) as batches:
            for number, batch in enumerate(batches):
                rows = batch.slice(1) if with_example and not number else batch
                if rows.num_rows:
                    yield _as_meant(rows, columns)
    except (adbc_driver_manager.Error, OSError) as exc:
        raise _own(exc) from exc


def _example(column: Column) -> str:
    if _is_text(column.type):
        return "'x'"
    return "0.5" if pa.types.is_floating(column.type) else "x''" if pa.types.is_binary(column.type) else "0"


def _as_meant(batch: pa.RecordBatch, columns: Sequence[Column]) -> pa.RecordBatch:
    arrays = []
    for column, array in zip(columns, batch.columns, strict=True):
        kind = column.type
        if array.type != _plain(kind):  # the driver widens a column's type within its first batch
            raise pa.ArrowInvalid(f"column {column.name} holds {array.type} values")
        arrays.append(_checked_texts(array) if _is_text(kind) else array.view(kind))
    return pa.RecordBatch.from_arrays(arrays, names=[column.name for column in columns])


def _checked_texts(array: pa.StringArray) -> pa.DictionaryArray:
    """The driver takes any bytes for a text."""
    encoded = array.dictionary_encode()
    encoded.dictionary.validate(full=True)
    return encoded
