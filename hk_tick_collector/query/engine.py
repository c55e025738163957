"""SQL over recorded days with DuckDB: one table ``ticks`` of all chosen days, live and archived alike.

- An archived day is read from its Parquet file by DuckDB itself, only the columns and row groups that a question needs.
- A live day is loaded from its day file before the question runs: only the columns that the question reads, only the
  symbols chosen, into a temporary table that moves to a temporary directory when memory runs short.
- ``coverage``, ``gaps`` and ``symbols`` (names, lots) are tables too, with a column ``trading_day``.
- ``books`` and ``quotes`` are recorded order books, ``brokers`` broker queues, ``snapshots`` one computed snapshot a
  second and series, ``all_snapshots`` all that were stored: loaded likewise, of archived days too.
- Times are cut and compared on the market's clock: ``hour(ts_ms)`` of the opening is 9 in Hong Kong.

A question can read the chosen days and do nothing else: one SELECT, no access to other files, no extensions, settings
locked. Memory and temporary space are limited, because a recorder may share the machine.

DuckDB works on a thread of its own; an interrupt of the main thread stops it.
"""

from __future__ import annotations

import os
import re
import shutil
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, fields
from functools import cache
from types import TracebackType
from typing import Any, TypeVar

import duckdb
import pyarrow as pa

from hk_tick_collector.core.errors import NoData, RecorderError
from hk_tick_collector.core.scratch import Scratch
from hk_tick_collector.days import parquet, snapshots
from hk_tick_collector.days.books import Form, read, schema_of
from hk_tick_collector.days.brokers import SCHEMA as BROKERS
from hk_tick_collector.days.brokers import read as read_brokers
from hk_tick_collector.days.catalog import Day
from hk_tick_collector.days.schema import COLUMNS, TICKS, ticks_schema
from hk_tick_collector.days.telling import telling
from hk_tick_collector.market.registry import market_of
from hk_tick_collector.query.statement import Needs, SqlError, check_question, message, needs_of
from hk_tick_collector.store.book_file import BOOK_KIND, BROKER_KIND
from hk_tick_collector.store.judging import judged
from hk_tick_collector.store.reader import CoverageRow, GapRow, SymbolRow
from hk_tick_collector.store.snapshot_reader import series_there

BATCH_ROWS = 50_000
INTERRUPT_INTERVAL_SEC = 0.1
MAX_MEMORY_MB = 2048  # unless told otherwise; never more than half of what the machine has
MAX_TEMP_BYTES = 16 << 30
TEMP_DISK_SHARE = 0.25  # of what is free: the recorder may need the same disk
# For every DuckDB here, also the one that only plans: planning a read_csv opens the file.
_CLOSED: dict[str, Any] = {
    "python_enable_replacements": False,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
}
_ANY_COLUMN = "ts_ms"  # read when only rows are counted

# DuckDB's classes for what is wrong with a question. What it says of a damaged Parquet file may be in any other.
_OWN_FAULT = re.compile(r"(?:Parser|Binder|Catalog|Permission|Conversion|Out of Range|Not implemented|Syntax) Error")

_T = TypeVar("_T")


class QueryFailed(RecorderError):
    """The question is right, but could not be answered here."""


@dataclass(frozen=True)
class Result:
    """An answer: rows come as they are computed, once."""

    schema: pa.Schema
    batches: Iterator[pa.RecordBatch]


@dataclass(frozen=True)
class Loaded:
    """What was read into memory before the question ran."""

    days: tuple[str, ...]
    columns: tuple[str, ...]
    rows: int


_BOOKS = {"books": Form.WIDE, "quotes": Form.QUOTES, "brokers": None}  # None: broker queues
_SNAPSHOTS = {"snapshots": False, "all_snapshots": True}  # every one that was stored?
_ANY_BESIDE = frozenset({"symbol"})  # read when only rows are counted


class Engine:
    """DuckDB over some days; a context manager. One question an engine.

    ``symbols``: only these; empty for all. ``beside``: days of data roots that have no tick of them, for what they have
    else (``days.every``). ``workers``: threads that read a live day. ``threads``: DuckDB's.
    ``temp_mb``: of temporary files. ``for_strangers``: nothing that a question can find out names a place on this
    machine, its temporary directory aside.
    """

    def __init__(
        self,
        days: Sequence[Day],
        symbols: Sequence[str] = (),
        *,
        memory_mb: int | None = None,
        workers: int = 2,
        threads: int | None = None,
        temp_mb: int = MAX_TEMP_BYTES >> 20,
        for_strangers: bool = False,
        beside: Sequence[Day] = (),
    ) -> None:
        self._days = list(days)
        self._parts: dict[str, list[Day]] = {}  # by trading day, in each data root
        for part in (*(part for day in days for part in day.parts), *beside):
            self._parts.setdefault(part.trading_day, []).append(part)
        self.market = next((day.market for day in (*days, *beside)), market_of(None))
        self._symbols = list(symbols)
        self._workers = workers
        self._for_strangers = for_strangers
        self._loading: Callable[[int], None] = lambda _rows: None
        self.loaded: Loaded | None = None
        self._temp = Scratch("query")
        temp = str(self._temp.path)
        free_bytes = shutil.disk_usage(temp).free
        config: dict[str, Any] = {
            "memory_limit": f"{memory_mb or _default_memory_mb()}MB",
            "temp_directory": temp,
            "max_temp_directory_size": f"{min(temp_mb, int(free_bytes * TEMP_DISK_SHARE) >> 20)}MB",
            "threads": threads or os.cpu_count() or 1,
            **_CLOSED,
        }
        if for_strangers:  # both are in the home directory otherwise, which settings show
            config.update(secret_directory=temp, extension_directory=temp)
        self._connection = duckdb.connect(":memory:", config=config)
        self._thread = ThreadPoolExecutor(1, "duckdb")
        self._stop = threading.Event()

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop what runs, give back memory and temporary files."""
        self._stop.set()
        self._connection.interrupt()
        self._thread.shutdown(wait=True, cancel_futures=True)
        self._connection.close()
        self._temp.remove()

    def run(self, sql: str, loading: Callable[[int], None] | None = None) -> Result:
        """Answer one question. ``loading`` is told how many rows more were loaded, from another thread.

        SqlError when the question is wrong or not allowed, QueryFailed when memory or disk do not suffice, StoreCorrupt
        and StoreUnavailable when a day cannot be read; the same may come while the rows are taken.
        """
        if loading is not None:
            self._loading = loading
        return self._wait(lambda: self._run(sql))

    def live_rows(self) -> int | None:
        """About how many rows loading may bring: what the recorder counted; None when it did not."""
        counts = [
            row.stored_ticks
            for day in self._days
            if not day.is_archived_only
            for row in day.coverage()
            if not self._symbols or row.symbol in self._symbols
        ]
        return sum(counts) or None

    def _run(self, sql: str) -> Result:
        text = check_question(self._connection, sql)
        schemas = _schemas()
        config = {**_CLOSED, "enable_external_access": False, "threads": 1}
        with duckdb.connect(":memory:", config=config) as planner:
            statements = _empty_tables(planner)
            needs = needs_of(planner, text, schemas)
        self._make_ticks(needs)
        self._connection.execute("".join(made for name, made in statements.items() if name != "ticks"))
        self._make_small("coverage", schemas["coverage"], needs, lambda day: judged(day.notes()))
        self._make_small("gaps", schemas["gaps"], needs, lambda day: day.gaps())
        self._make_small("symbols", schemas["symbols"], needs, lambda day: day.symbol_rows())
        for name in (*_BOOKS, *_SNAPSHOTS):
            self._make_beside(name, needs)
        paths = [str(day.parquet) for day in self._days if day.is_archived_only]
        if paths and not self._for_strangers:
            self._connection.execute(f"SET allowed_paths = [{', '.join(map(_quoted, paths))}]")
        zone = f"TimeZone = '{self.market.zone.name}'"
        for setting in (zone, "enable_external_access = false", "lock_configuration = true"):
            self._connection.execute(f"SET {setting}")
        reader = self._guarded(lambda: _reader(self._connection.sql(text)))
        names = _distinct(reader.schema.names)
        schema = pa.schema([field.with_name(name) for field, name in zip(reader.schema, names, strict=True)])
        return Result(schema, self._batches(reader, schema))

    def _batches(self, reader: pa.RecordBatchReader, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        def following() -> pa.RecordBatch | None:
            try:
                return reader.read_next_batch()
            except StopIteration:
                return None

        while (batch := self._wait(lambda: self._guarded(following))) is not None:
            yield pa.RecordBatch.from_arrays(batch.columns, schema=schema)

    def _wait(self, work: Callable[[], _T]) -> _T:
        """Run on DuckDB's thread. An interrupt here stops it there, and is passed on when it has stopped."""
        future = self._thread.submit(work)
        try:
            # With a timeout: a library's handler may let SIGINT restart the wait, and nobody would ever hear of it.
            while not future.done():
                wait([future], INTERRUPT_INTERVAL_SEC)
            return future.result()
        except BaseException:
            self._stop.set()
            while not future.done():
                self._connection.interrupt()  # again and again: it means nothing before a statement has begun
                wait([future], INTERRUPT_INTERVAL_SEC)
            raise

    def _guarded(self, work: Callable[[], _T]) -> _T:
        """DuckDB's errors, also out of an Arrow stream, as ours."""
        try:
            return work()
        except duckdb.OutOfMemoryException as exc:
            raise QueryFailed(f"not enough memory or temporary space: {message(exc)}") from exc
        except (duckdb.Error, pa.ArrowException, OSError) as exc:
            if not _OWN_FAULT.match(str(exc)):
                self._check_archives()
            if isinstance(exc, (duckdb.IOException, duckdb.InternalException, duckdb.FatalException)):
                raise QueryFailed(message(exc)) from exc
            raise SqlError(message(exc)) from exc

    def _check_archives(self) -> None:
        """StoreCorrupt or StoreUnavailable when an archived day of this question is the reason of an error."""
        for day in self._days:
            if day.is_archived_only:
                for _ in parquet.read_batches(day.parquet):
                    pass

    def _make_ticks(self, needs: Needs) -> None:
        """The view ``ticks``: all columns; those that are not needed are NULL where reading them would cost."""
        needed = needs.columns.get("ticks")
        parts = [f"SELECT {_typed_nulls(COLUMNS)} WHERE false"]
        where = f" WHERE symbol IN ({', '.join(map(_quoted, self._symbols))})" if self._symbols else ""
        archived = [day for day in self._days if day.is_archived_only]
        live = [day for day in self._days if not day.is_archived_only]
        if archived and needed is not None:
            by_version: dict[int, list[Day]] = {}
            for day in archived:
                by_version.setdefault(parquet.version_of(day.parquet), []).append(day)
            for version, days in by_version.items():
                wanted = ", ".join(_archived_column(name, version, self.market.code) for name in COLUMNS)
                parts.append(f"SELECT {wanted} FROM {self._archive(version, days)}{where}")  # noqa: S608 - quoted
        if live and needed is not None:
            columns = tuple(name for name in COLUMNS if name in (needed or {_ANY_COLUMN}))
            self._load_live(live, columns)
            wanted = ", ".join(name if name in columns else _typed_nulls((name,)) for name in COLUMNS)
            parts.append(f"SELECT {wanted} FROM live_ticks")  # noqa: S608 - our names
        self._connection.execute(f"CREATE VIEW ticks AS {' UNION ALL '.join(parts)}")

    def _archive(self, version: int, days: Sequence[Day]) -> str:
        """Archived days of one version as SQL names them."""
        paths = [str(day.parquet) for day in days]
        if not self._for_strangers:
            return f"read_parquet([{', '.join(map(_quoted, paths))}], hive_partitioning = false)"
        from pyarrow import dataset  # noqa: PLC0415 - few ask for it

        options = dataset.ParquetFragmentScanOptions(use_buffered_stream=True, pre_buffer=False)
        files = dataset.dataset(paths, format=dataset.ParquetFileFormat(default_fragment_scan_options=options))
        if self._symbols:  # here, not in the view alone: a question can name what the view reads
            files = files.filter(dataset.field("symbol").isin(self._symbols))
        self._connection.register(f"archived_{version}", files)  # Arrow reads them: DuckDB is told of no file
        return f"archived_{version}"

    def _load_live(self, live: Sequence[Day], columns: tuple[str, ...]) -> None:
        rows = 0
        _load(self._connection, "live_ticks", ticks_schema(columns).empty_table())
        for day in live:
            for batch in self._day_batches(day, columns):
                if self._stop.is_set():
                    raise QueryFailed("interrupted")
                self._connection.register("incoming", pa.Table.from_batches([batch]))
                self._guarded(lambda: self._connection.execute("INSERT INTO live_ticks SELECT * FROM incoming"))
                self._connection.unregister("incoming")
                rows += batch.num_rows
                self._loading(batch.num_rows)
        self.loaded = Loaded(tuple(day.trading_day for day in live), columns, rows)

    def _day_batches(self, day: Day, columns: tuple[str, ...]) -> Iterator[pa.RecordBatch]:
        if self._symbols:
            return iter(day.ticks(self._symbols, columns).to_batches())
        return day.batches(columns, workers=self._workers)

    def _make_beside(self, name: str, needs: Needs) -> None:
        """What is recorded beside ticks, live and archived, into its table, with the columns that are needed; the
        others are NULL."""
        needed = needs.columns.get(name)
        if needed is not None:
            self._check_held(name)
        for trading_day, parts in self._parts.items() if needed is not None else ():
            for batch in self._batches_beside(name, parts, needed or _ANY_BESIDE):
                if self._stop.is_set():
                    raise QueryFailed("interrupted")
                columns = {"trading_day": pa.repeat(pa.scalar(trading_day), batch.num_rows)}
                there = [column for column in batch.schema.names if column in (needed or _ANY_BESIDE)]
                columns |= {column: batch.column(column) for column in there}
                self._connection.register("incoming", pa.table(columns))
                self._guarded(lambda: self._connection.execute(f"INSERT INTO {name} BY NAME SELECT * FROM incoming"))  # noqa: S608
                self._connection.unregister("incoming")
                self._loading(batch.num_rows)

    def _check_held(self, name: str) -> None:
        """SqlError when a day is read where no such table is kept: no row would look like no record."""
        lacking = next((part for parts in self._parts.values() for part in parts if name in part.tables_not_kept), None)
        if lacking is not None:
            raise SqlError(
                f"{name} of {lacking.trading_day} is not in {lacking.source}: it is not copied there, ask where the "
                f"files are"
            )

    def _batches_beside(self, name: str, parts: Sequence[Day], needed: Collection[str]) -> Iterator[pa.RecordBatch]:
        """Of several data roots one tells of a symbol: of books the one that watched it best (``days.watched``), of
        snapshots the first one."""
        if name in _SNAPSHOTS:
            return self._snapshot_batches(parts, every=_SNAPSHOTS[name], bodies="body" in needed)
        return self._book_batches(parts, _BOOKS[name])

    def _book_batches(self, parts: Sequence[Day], form: Form | None) -> Iterator[pa.RecordBatch]:
        for root in telling(parts, BOOK_KIND if form is not None else BROKER_KIND):
            wanted = root.of(self._symbols)
            if wanted is None or wanted:
                with root.books.opened(wanted) as path:
                    yield from read(path, form, wanted) if form is not None else read_brokers(path, wanted)

    def _snapshot_batches(self, parts: Sequence[Day], *, every: bool, bodies: bool) -> Iterator[pa.RecordBatch]:
        taken: set[str] = set()
        for part in parts:
            try:
                place = part.snapshots().narrowed(self._symbols)
            except NoData:
                continue
            with place.opened() as path:
                there = [series for series in series_there(path) if series.symbol not in taken]
                taken.update(series.symbol for series in there)
                wanted = [series for series in there if not self._symbols or series.symbol in self._symbols]
                yield from snapshots.read(path, wanted, every=every, bodies=bodies)

    def _make_small(self, name: str, schema: pa.Schema, needs: Needs, rows_of: Callable[[Day], Sequence[Any]]) -> None:
        rows: list[dict[str, Any]] = []
        if name in needs.columns:
            for day in self._days:
                for row in rows_of(day):
                    values = {name: getattr(row, name) for name in _columns(type(row))}
                    rows.append({"trading_day": day.trading_day, **values})
        if self._symbols:
            rows = [row for row in rows if row["symbol"] in self._symbols]
        if rows:
            self._connection.register("incoming", pa.Table.from_pylist(rows, schema=schema))
            self._connection.execute(f"INSERT INTO {name} SELECT * FROM incoming")  # noqa: S608 - our names
            self._connection.unregister("incoming")


def _default_memory_mb() -> int:
    return min(MAX_MEMORY_MB, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2 >> 20)


def _load(connection: Any, name: str, table: pa.Table) -> None:
    connection.register("incoming", table)
    connection.execute(f"CREATE TABLE {name} AS SELECT * FROM incoming")  # noqa: S608 - our names
    connection.unregister("incoming")


@cache
def _schemas() -> dict[str, pa.Schema]:
    """Every table that a question may read."""
    small = {"coverage": CoverageRow, "gaps": GapRow, "symbols": SymbolRow}
    schemas = {"ticks": TICKS, **{name: _schema_of(kind) for name, kind in small.items()}}
    schemas |= {name: _with_day(BROKERS if form is None else schema_of(form)) for name, form in _BOOKS.items()}
    return schemas | {name: _with_day(snapshots.schema()) for name in _SNAPSHOTS}


_STATEMENTS: dict[str, str] = {}


def _empty_tables(connection: Any) -> dict[str, str]:
    """Make all tables, empty. Returns the statements that do it, in DuckDB's own words: those are asked for once, since
    a table out of Arrow takes DuckDB as long as seven out of a statement."""
    if _STATEMENTS:
        connection.execute("".join(_STATEMENTS.values()))
    else:
        for name, schema in _schemas().items():
            _load(connection, name, schema.empty_table())
        _STATEMENTS.update(connection.execute("SELECT table_name, sql FROM duckdb_tables()").fetchall())
    return _STATEMENTS


def _reader(relation: Any) -> pa.RecordBatchReader:
    """A relation's rows as a stream; DuckDB 2 has another name for it."""
    if relation is None:
        raise SqlError("this question has no answer to show")
    make = getattr(relation, "to_arrow_reader", None) or relation.fetch_arrow_reader
    return make(BATCH_ROWS)


def _with_day(schema: pa.Schema) -> pa.Schema:
    return pa.schema([("trading_day", pa.string()), *schema])


def _schema_of(kind: type[CoverageRow] | type[GapRow] | type[SymbolRow]) -> pa.Schema:
    """A table for these rows; their times stay the numbers that the day file holds (UTC epoch ms)."""
    types = {"int": pa.int64(), "float": pa.float64(), "str": pa.string()}
    named = [(name, types[text.removesuffix(" | None")]) for name, text in _columns(kind).items()]
    return pa.schema([("trading_day", pa.string()), *(pair for pair in named if pair[0] != "trading_day")])


def _columns(kind: type[CoverageRow] | type[GapRow] | type[SymbolRow]) -> dict[str, str]:
    """Its columns, and the types they are written with; what stands in another table, or lies in day files alone, is
    none."""
    return {
        field.name: str(field.type) for field in fields(kind) if field.name not in ("replay", "later_interruptions")
    }


def _archived_column(name: str, version: int, market: str) -> str:
    """As a Parquet file of that version has it."""
    if name == "market":
        return f"{_quoted(market)} AS market"
    return name if name in parquet.file_columns(version) else _typed_nulls((name,))


def _typed_nulls(names: Sequence[str]) -> str:
    return ", ".join(f"CAST(NULL AS {_sql_type(TICKS.field(name).type)}) AS {name}" for name in names)


def _sql_type(kind: pa.DataType) -> str:
    if pa.types.is_timestamp(kind):
        return "TIMESTAMPTZ"
    if pa.types.is_integer(kind):
        return "BIGINT"
    return "DOUBLE" if pa.types.is_floating(kind) else "VARCHAR"


def _distinct(names: Sequence[str]) -> list[str]:
    """Column names that differ: ``SELECT a, a`` gives a and a_2."""
    taken: dict[str, int] = {}
    result = []
    for name in names:
        taken[name] = taken.get(name, 0) + 1
        result.append(name if taken[name] == 1 else f"{name}_{taken[name]}")
    return result


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
