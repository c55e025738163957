"""Reading a day file into Arrow, a closed one at more than a million rows a second, out of the writer's way.

A day is read in stripes of rowids; each stripe is a read transaction of its own, a fraction of a second long, so
checkpoints of a writer are never held up for long. The recorder only appends: all rows up to the newest rowid at the
start are one consistent state, however many transactions read them. Of a closed file two threads read, of a live one
the thread that wants the rows (``arrow_sql`` says why they are read in two ways).

Raises as ``store.read_only.open_read_only`` does, and StoreCorrupt for values of a kind that no tick has.
"""

from __future__ import annotations

import json
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from hk_tick_collector.core.errors import StoreCorrupt, StoreError
from hk_tick_collector.days.arrow_sql import Column, reading_columns
from hk_tick_collector.days.schema import COLUMNS, TICKS, ticks_schema, with_nulls
from hk_tick_collector.records.columns import known_to_all
from hk_tick_collector.store.connect import table_columns, translate
from hk_tick_collector.store.read_only import ClosedFile, column_sql, open_read_only, read_from

STRIPE_ROWS = 32_768  # 0.04 s of reading; larger ones gain nothing, and cost memory
SYMBOLS_AT_ONCE = 100  # of which rows are asked for by one statement
BATCHES_AHEAD = 4  # what workers may have ready before the consumer takes it: 32,768 rows are about 4 MB each
_POLL_SEC = 0.1

Values = Sequence[Any]


def scan_day_file(
    db: Path,
    columns: Sequence[str] = COLUMNS,
    *,
    workers: int = 2,
    stripe_rows: int = STRIPE_ROWS,
    last_rowid: int | None = None,
) -> Iterator[pa.RecordBatch]:
    """Every tick of a day file as record batches of ``ticks_schema(columns)``, stripes of rowids in any order.

    Rows committed after the call began are left out, and those behind ``last_rowid``. ``workers``: threads that read a
    closed file; 1 beside a working recorder.
    """
    names = tuple(columns)
    with read_from(db) as conn:
        low, high = conn.execute("SELECT MIN(rowid), MAX(rowid) FROM ticks").fetchone()
        if high is None:
            return
        high = high if last_rowid is None else min(high, last_rowid)
        wanted = _columns(conn, _told(conn, names, high))
        stripes = [(first, min(first + stripe_rows - 1, high)) for first in range(low, high + 1, stripe_rows)]
        read = partial(_read, conn, db, wanted, ["FROM ticks WHERE rowid BETWEEN ? AND ?"])
        if workers <= 1 or len(stripes) == 1 or not isinstance(conn, ClosedFile):
            batches = read(stripes)
        else:
            batches = _Workers(read, stripes).batches(min(workers, len(stripes)))
        for batch in batches:
            yield with_nulls(batch, names)


def told_columns(db: Path) -> tuple[str, ...]:
    """The columns that hold anything, those that every source tells in any case: 0.15 s a million rows."""
    with read_from(db) as conn:
        high = conn.execute("SELECT MAX(rowid) FROM ticks").fetchone()[0]
        return _told(conn, COLUMNS, high or 0)


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
    different = list(dict.fromkeys(symbols))
    # One branch an index: without it SQLite would scan the table.
    together = min(len(different), SYMBOLS_AT_ONCE)
    marks = ", ".join("?" * together)
    tails = [f"FROM ticks WHERE symbol IN ({marks}) AND seq IS {kind}{bounds}" for kind in ("NOT NULL", "NULL")]
    batches: list[pa.RecordBatch] = []
    with closing(open_read_only(db)) as conn:
        groups = (different[at : at + together] for at in range(0, len(different), together or 1))
        # A last one that is smaller names its first symbol again, which changes nothing.
        branches = ([*group, *group[:1] * (together - len(group)), *times] for group in groups)
        batches.extend(_read(conn, db, _columns(conn, names), tails, [branch * 2 for branch in branches]))
    return pa.Table.from_batches(batches, ticks_schema(names)).unify_dictionaries()


def scan_numbered(db: Path, seqs: Mapping[str, Sequence[int]], columns: Sequence[str] = COLUMNS) -> pa.Table:
    """The ticks with these sequences, by symbol, by the index on both: O(their number). In the order of ``seqs``, by
    sequence within a symbol."""
    names = tuple(columns)
    # "IS NOT NULL" beside it would make SQLite go through all of the symbol.
    tail = (
        "FROM json_each(?) AS wanted CROSS JOIN json_each(wanted.value, '$[1]') AS numbered CROSS JOIN ticks "
        "ON symbol = json_extract(wanted.value, '$[0]') AND seq = numbered.value"
    )
    wanted = json.dumps([(symbol, sorted(set(numbers))) for symbol, numbers in seqs.items()])
    with closing(open_read_only(db)) as conn:
        batches = list(_read(conn, db, _columns(conn, names), [tail], [[wanted]]))
    return pa.Table.from_batches(batches, ticks_schema(names)).unify_dictionaries()


def _read(
    conn: sqlite3.Connection, db: Path, columns: Sequence[Column], tails: Sequence[str], sets: Iterable[Values]
) -> Iterator[pa.RecordBatch]:
    """Run a statement once for each set of values."""
    try:
        with reading_columns(conn) as read:
            for values in sets:
                yield from map(_as_ticks, read(columns, tails, values, STRIPE_ROWS + 1))
    except (sqlite3.Error, OSError, pa.ArrowException) as exc:
        raise _translated(exc, db) from exc


def _columns(conn: sqlite3.Connection, names: tuple[str, ...]) -> list[Column]:
    """How each column of a tick is read from a file of any version."""
    columns = []
    for name, sql in column_sql(conn, names).items():
        kind = TICKS.field(name).type
        columns.append(Column(name, sql, kind, is_word=pa.types.is_dictionary(kind) and name != "symbol"))
    return columns


def _as_ticks(batch: pa.RecordBatch) -> pa.RecordBatch:
    names = tuple(batch.schema.names)
    for name, array in zip(names, batch.columns, strict=True):
        if array.null_count and not TICKS.field(name).nullable:
            raise pa.ArrowInvalid(f"column {name} holds NULL, which no tick of a recorder does")
    return pa.RecordBatch.from_arrays(batch.columns, schema=ticks_schema(names))


class _Workers:
    """Threads that read stripes and hand their batches over; at most BATCHES_AHEAD of them wait to be taken."""

    def __init__(self, read: Callable[[Iterable[Values]], Iterator[pa.RecordBatch]], stripes: Sequence[Values]) -> None:
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

    def _stripes(self) -> Iterator[Values]:
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
    if isinstance(exc, pa.ArrowException):
        return StoreCorrupt(f"{db}: a value is of a kind that no tick has: {exc}")
    return translate(exc, db)
