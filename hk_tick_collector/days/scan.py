"""Reading a day file into Arrow at more than a million rows a second, without standing in the writer's way.

The rows come through ADBC's SQLite driver, which builds Arrow buffers in C with the interpreter lock released: twice
the speed of sqlite3's tuples on one core, and two cores work. A day is read in stripes of rowids; each stripe is a
read transaction of its own, a fraction of a second long, so checkpoints of a writer are never held up for long. The
recorder only appends: all rows up to the newest rowid at the start are one consistent state, however many transactions
read them.

Raises as ``store.reader.open_read_only`` does, and StoreCorrupt for values of a kind that no tick has.
"""

from __future__ import annotations

import queue
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any

import adbc_driver_manager
import pyarrow as pa

from hk_tick_collector.core.errors import StoreCorrupt, StoreError, StoreUnavailable
from hk_tick_collector.days.arrow_sql import open_statement, run_statement
from hk_tick_collector.days.schema import COLUMNS, TICKS, ticks_schema, with_nulls
from hk_tick_collector.records.columns import known_to_all
from hk_tick_collector.store.connect import table_columns, translate
from hk_tick_collector.store.reader import open_read_only, open_read_only_uri, select_list

STRIPE_ROWS = 32_768  # 0.04 s of reading; larger ones gain nothing, and cost memory
BATCHES_AHEAD = 4  # what workers may have ready before the consumer takes it: 32,768 rows are about 4 MB each
_POLL_SEC = 0.1

Stripe = tuple[int, int]  # first and last rowid


def scan_day_file(
    db: Path,
    columns: Sequence[str] = COLUMNS,
    *,
    workers: int = 2,
    stripe_rows: int = STRIPE_ROWS,
    last_rowid: int | None = None,
) -> Iterator[pa.RecordBatch]:
    """Every tick of a day file as record batches of ``ticks_schema(columns)``, stripes of rowids in any order.

    Rows committed after the call began are left out, and those behind ``last_rowid``. ``workers``: threads that read;
    1 beside a working recorder.
    """
    names = tuple(columns)
    connection, uri = open_read_only_uri(db)
    with closing(connection) as conn:  # held open: SQLite keeps the WAL index then, and the drivers need not build it
        try:
            low, high = conn.execute("SELECT MIN(rowid), MAX(rowid) FROM ticks").fetchone()
            if high is None:
                return
            high = high if last_rowid is None else min(high, last_rowid)
            wanted = _told(conn, names, high)
            select = select_list(conn, wanted)
        except sqlite3.Error as exc:
            raise translate(exc, db) from exc
        stripes = [(first, min(first + stripe_rows - 1, high)) for first in range(low, high + 1, stripe_rows)]
        sql = f"SELECT {select} FROM ticks WHERE rowid BETWEEN ? AND ?"  # noqa: S608 - our names
        read = partial(_read, uri, db, sql, wanted)
        if workers <= 1 or len(stripes) == 1:
            batches = read(stripes)
        else:
            batches = _Workers(read, stripes).batches(min(workers, len(stripes)))
        for batch in batches:
            yield with_nulls(batch, names)


def told_columns(db: Path) -> tuple[str, ...]:
    """The columns that hold anything, those that every source tells in any case: 0.15 s a million rows."""
    with closing(open_read_only(db)) as conn:
        try:
            high = conn.execute("SELECT MAX(rowid) FROM ticks").fetchone()[0]
            return _told(conn, COLUMNS, high or 0)
        except sqlite3.Error as exc:
            raise translate(exc, db) from exc


def _told(conn: sqlite3.Connection, names: tuple[str, ...], high: int) -> tuple[str, ...]:
    """These columns without those that nobody told, up to a rowid; one at least. To look costs half of what
    reading them does."""
    more = [name for name in names if name not in known_to_all()]
    there = [name for name in table_columns(conn) if name in more]
    told: list[str] = []
    if there:
        any_told = f"coalesce({', '.join(there)}, NULL) IS NOT NULL"
        sql = f"SELECT 1 FROM ticks WHERE rowid <= ? AND {any_told} LIMIT 1"  # noqa: S608 - our names
        told = there if conn.execute(sql, (high,)).fetchone() else []
    return tuple(name for name in names if name not in more or name in told) or names[:1]


def scan_symbols(
    db: Path,
    symbols: Sequence[str],
    columns: Sequence[str] = COLUMNS,
    *,
    start_ms: int | None = None,
    end_ms: int | None = None,
    last_rowid: int | None = None,
) -> pa.Table:
    """The ticks of a few symbols, by the index on symbol: O(their rows), whatever the file holds beside them.

    ``start_ms`` (inclusive) and ``end_ms`` (exclusive) bound the event time, UTC epoch milliseconds; ``last_rowid``
    (inclusive) leaves out what was stored later. Not sorted.
    """
    names = tuple(columns)
    given = {"ts_ms >= ?": start_ms, "ts_ms < ?": end_ms, "rowid <= ?": last_rowid}
    bounds = "".join(f" AND {condition}" for condition, bound in given.items() if bound is not None)
    times = [bound for bound in given.values() if bound is not None]
    connection, uri = open_read_only_uri(db)
    batches: list[pa.RecordBatch] = []
    with closing(connection) as conn:
        select = select_list(conn, names)
        # One branch an index: without it SQLite would scan the table.
        branches = [
            f"SELECT {select} FROM ticks WHERE symbol = ? AND seq IS {kind}{bounds}"  # noqa: S608 - our names
            for kind in ("NOT NULL", "NULL")
        ]
        parameters = [(symbol, *times, symbol, *times) for symbol in dict.fromkeys(symbols)]
        batches.extend(_read(uri, db, " UNION ALL ".join(branches), names, parameters))
    return pa.Table.from_batches(batches, ticks_schema(names)).unify_dictionaries()


def _read(
    uri: str, db: Path, sql: str, names: tuple[str, ...], parameters: Iterable[Sequence[Any]]
) -> Iterator[pa.RecordBatch]:
    """Run a statement once for each set of parameters, one connection for all."""
    typed = f"{_typed_row(names)} UNION ALL {sql}"
    try:
        with open_statement(uri, STRIPE_ROWS + 1) as statement:
            for values in parameters:
                is_first = True
                for batch in run_statement(statement, typed, values):
                    rows = batch.slice(1) if is_first else batch
                    is_first = False
                    if rows.num_rows:
                        yield _as_ticks(rows, names)
    except (adbc_driver_manager.Error, OSError, pa.ArrowException) as exc:
        raise _translated(exc, db) from exc


def _typed_row(names: tuple[str, ...]) -> str:
    """A first row that shows the driver each column's type: it guesses from the first rows, where any may be NULL."""
    values = []
    for name in names:
        kind = TICKS.field(name).type
        values.append("'x'" if pa.types.is_dictionary(kind) else "0.5" if pa.types.is_floating(kind) else "0")
    return f"SELECT {', '.join(values)}"


def _as_ticks(batch: pa.RecordBatch, names: tuple[str, ...]) -> pa.RecordBatch:
    arrays = []
    for name, array in zip(names, batch.columns, strict=True):
        kind = TICKS.field(name).type
        if array.type != _driver_type(kind):  # the driver widens a column's type within its first batch
            raise pa.ArrowInvalid(f"column {name} holds {array.type} values")
        if pa.types.is_dictionary(kind):
            encoded = array.dictionary_encode()
        else:
            encoded = array.view(kind) if pa.types.is_timestamp(kind) else array
        if encoded.null_count and not TICKS.field(name).nullable:
            raise pa.ArrowInvalid(f"column {name} holds NULL, which no tick of a recorder does")
        arrays.append(encoded)
    return pa.RecordBatch.from_arrays(arrays, schema=ticks_schema(names))


def _driver_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_dictionary(kind):
        return pa.string()
    return kind if pa.types.is_floating(kind) else pa.int64()


class _Workers:
    """Threads that read stripes and hand their batches over; at most BATCHES_AHEAD of them wait to be taken."""

    def __init__(self, read: Callable[[Iterable[Stripe]], Iterator[pa.RecordBatch]], stripes: Sequence[Stripe]) -> None:
        self._read = read
        self._todo = iter(stripes)
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._ready: queue.Queue[pa.RecordBatch | BaseException | None] = queue.Queue(BATCHES_AHEAD)

    def batches(self, workers: int) -> Iterator[pa.RecordBatch]:
        """Everything that is read, by ``workers`` threads; they have ended when this ends. Raises what they raise."""
        threads = [threading.Thread(target=self._work, name=f"scan-{n}", daemon=True) for n in range(workers)]
        for thread in threads:
            thread.start()
        try:
            while workers:
                try:
                    item = self._ready.get(timeout=_POLL_SEC)  # a wait without an end may not hear Ctrl-C
                except queue.Empty:
                    continue
                if item is None:
                    workers -= 1
                elif isinstance(item, BaseException):
                    raise item
                else:
                    yield item
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()

    def _work(self) -> None:
        try:
            for batch in self._read(self._stripes()):
                self._put(batch)
        except BaseException as exc:  # noqa: BLE001 - handed to the consumer, who raises it
            self._put(exc)
        self._put(None)

    def _stripes(self) -> Iterator[Stripe]:
        while not self._stop.is_set():
            with self._lock:
                stripe = next(self._todo, None)
            if stripe is None:
                return
            yield stripe

    def _put(self, item: pa.RecordBatch | BaseException | None) -> None:
        while not self._stop.is_set():
            with suppress(queue.Full):
                self._ready.put(item, timeout=_POLL_SEC)
                return


def _translated(exc: BaseException, db: Path) -> StoreError:
    text = str(exc)
    if "Type mismatch" in text or isinstance(exc, pa.ArrowException):
        return StoreCorrupt(f"{db}: a value is of a kind that no tick has: {text}")
    if "locked" in text or "unable to open" in text:
        return StoreUnavailable(f"{db}: {text}")
    return translate(sqlite3.DatabaseError(text), db)
