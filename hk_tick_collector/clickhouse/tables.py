"""The tables in ClickHouse: their text, making them, and bringing them up to date.

``ticks`` has every column of a tick (``records.columns``), the recorder that stored it, and the number of the shipment;
a partition is one recorder's day, so that a day is checked, replaced and dropped as one thing. Beside it: the notes of
each day (``coverage``, ``gaps``, ``symbols``, ``amendments``: the rows of the day file), ``days`` (what was verified,
and when), ``about`` (this database's own number, who ships as which recorder). Each table of rows has a twin
``*_stage``, in which a day is put together before it takes the place of the one that is there.

Day and recorder stand in the key, and not in the partition alone: FINAL merges equal rows across partitions before it
looks at who wants which, so that of two recorders' equal rows one would be gone.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import Any

from hk_tick_collector.clickhouse.connection import ClickHouse, EngineRefused
from hk_tick_collector.records.columns import NAMES, TICKS, Arrow, Column
from hk_tick_collector.store.book_file import BOOK_KIND, BROKER_KIND
from hk_tick_collector.store.reader import AmendmentRow, CoverageRow, GapRow, SymbolRow
from hk_tick_collector.store.side_file import SideKind
from hk_tick_collector.store.snapshot_file import SNAPSHOT_KIND

SCHEMA_VERSION = 4  # of what is not made from ``records.columns``
TICKS_TABLE, DAYS_TABLE, ABOUT_TABLE, ALL_VIEW = "ticks", "days", "about", "ticks_one"
ROW_JSON = "row_json"
_NOTED = ("symbols", "sessions", "watches", "pulls")
RECORDER, BATCH, DAY, REPLAY = "recorder", "batch", "trading_day", "replay_json"
NOTES: dict[str, type] = {"coverage": CoverageRow, "gaps": GapRow, "symbols": SymbolRow, "amendments": AmendmentRow}
_KEYS = {"coverage": "symbol", "gaps": "symbol, gap_start_ts_ms", "symbols": "symbol", "amendments": "symbol"}
_WINDOW = 1000  # inserts that a table remembers the tokens of
_TEXT = "LowCardinality(String)"
_TYPES = {Arrow.TEXT: "String", Arrow.UTC_MS: "DateTime64(3, 'UTC')", Arrow.INT64: "Int64", Arrow.FLOAT64: "Float64"}
# Measured on two busy cores with 300,000 ticks (docs/clickhouse.md): bytes a tick, not time, is where codecs differ.
_ZSTD = "CODEC(ZSTD(1))"
_DELTA = "CODEC(Delta(8), ZSTD(1))"
_DELTA_TIME = "CODEC(Delta(8), T64('bit'), ZSTD(1))"
_DELTA_PRICE = "CODEC(Delta(8), ZSTD(6))"
_WORDS = "CODEC(ZSTD(6))"
_CODECS = {
    "seq": _DELTA, "update_no": _DELTA, "snapshot_no": _DELTA, "total_volume": _DELTA,
    "occurrence": "CODEC(T64, ZSTD(1))",
    "volume": "CODEC(GCD, T64, ZSTD(1))",  # lots
    "price": _DELTA_PRICE, "bid_price": _DELTA_PRICE, "ask_price": _DELTA_PRICE,  # mostly as the one before
    "turnover": "CODEC(ZSTD(3))",
    "direction": _WORDS, "tick_type": _WORDS, "type_sign": _WORDS,  # that change from tick to tick
    "ts_ms": _DELTA_TIME, "recv_ts_ms": _DELTA_TIME, "opend_recv_ts_ms": _DELTA_TIME,
}  # fmt: skip
# What tells ticks apart, NULL and all. Two contents under one sequence stay two rows, for somebody to see.
_IDENTITY = "symbol, ts_ms, ifNull(seq, -1), ifNull(price, -1.), ifNull(volume, -1), ifNull(turnover, -1.), occurrence"
# An insert that was acknowledged survives a power cut; the server's default is that it may not.
_SETTINGS = f"non_replicated_deduplication_window = {_WINDOW}, fsync_after_insert = 1, fsync_part_directory = 1"


@dataclass(frozen=True, slots=True)
class StateTables:
    """The tables of a kind of record with files beside those of ticks. ``rows``: a row a push, or a snapshot;
    ``notes``: those of the tables ``noted`` of its files, which stand beside them; ``days``: what was verified."""

    kind: SideKind
    rows: str
    notes: str
    days: str
    noted: tuple[str, ...]
    number: str = "update_no"  # the column that numbers the rows of a day

    @property
    def columns(self) -> Mapping[str, str]:
        """Of ``rows``, with their types, in order."""
        return _state_columns(self.kind)

    @property
    def word(self) -> str:
        """For log lines and messages."""
        return self.kind.word


BOOKS = StateTables(BOOK_KIND, "books", "book_notes", "book_days", _NOTED)
BROKERS = StateTables(BROKER_KIND, "brokers", "broker_notes", "broker_days", (*_NOTED, "brokers"))
SNAPSHOTS = StateTables(
    SNAPSHOT_KIND, "snapshots", "snapshot_notes", "snapshot_days", ("series", "copies"), "snapshot_no"
)
STATES = (BOOKS, BROKERS, SNAPSHOTS)


@dataclass(frozen=True, slots=True)
class Shape:
    """How tables are made: by themselves, or replicated over the replicas of a cluster."""

    replicated: bool = False

    def engine(self, table: str, database: str, family: str, version: str = "") -> str:
        """The ENGINE clause of a table of that family (MergeTree, ReplacingMergeTree)."""
        if not self.replicated:
            return f"{family}({version})"
        rest = f", {version}" if version else ""
        return f"Replicated{family}('/clickhouse/tables/{{shard}}/{database}_{table}', '{{replica}}'{rest})"


def ticks_columns() -> dict[str, str]:
    """The columns of ``ticks`` with their types, in order."""
    return {**{column.name: _type(column) for column in TICKS}, RECORDER: _TEXT, BATCH: "UInt64"}


def _type(column: Column) -> str:
    inner = _TYPES[column.arrow]
    wrapped = f"Nullable({inner})" if column.nullable else inner
    return f"LowCardinality({wrapped})" if column.arrow is Arrow.TEXT else wrapped


def _codec(name: str, kind: str) -> str:
    return _CODECS.get(name, _DELTA if "DateTime64" in kind or name == BATCH else _ZSTD)


NOT_COPIED = "later_interruptions"  # tables of before it need no change; None says that nothing is known of them


@cache
def note_columns(table: str) -> Mapping[str, str]:
    """The columns of a table of notes with their types, in order: those of its row, the day and the recorder."""
    hints = typing.get_type_hints(NOTES[table], localns={"Replay": object})
    names = [field.name for field in fields(NOTES[table]) if field.name not in ("replay", NOT_COPIED)]
    columns = {name: _note_type(hints[name]) for name in names}
    if table == "coverage":
        columns[REPLAY] = "Nullable(String)"
    return {**columns, DAY: _TEXT, RECORDER: _TEXT}


def _note_type(hint: Any) -> str:
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    inner = {int: "Int64", str: "String", float: "Float64"}[options[0]]
    return f"Nullable({inner})" if type(None) in options else inner


@cache
def _state_columns(kind: SideKind) -> Mapping[str, str]:
    from hk_tick_collector.days.stored_states import stored_of  # noqa: PLC0415 - Arrow takes its time

    columns = {field.name: _state_type(str(field.type), field.nullable) for field in stored_of(kind).schema}
    return {"market": _TEXT, DAY: _TEXT, RECORDER: _TEXT, **columns}


def _state_type(arrow: str, nullable: bool) -> str:
    if arrow.startswith("dictionary"):
        return _TEXT
    if arrow.startswith("list<"):
        return "Array(Int32)"
    inner = _STATE_TYPES[arrow]
    return f"Nullable({inner})" if nullable else inner


_STATE_TYPES = {
    "timestamp[us, tz=UTC]": "DateTime64(6, 'UTC')", "timestamp[ms, tz=UTC]": "DateTime64(3, 'UTC')",
    "int64": "Int64", "double": "Float64", "binary": "String",
}  # fmt: skip
_STATE_NOTES = {"name": _TEXT, ROW_JSON: "String", DAY: _TEXT, RECORDER: _TEXT}
_DAYS = {
    RECORDER: _TEXT, DAY: _TEXT, "market": _TEXT, "rows": "UInt64", "symbols": "UInt64", "content_hash": "String",
    "verified_at": "DateTime64(3, 'UTC')",
}  # fmt: skip
_ABOUT = {"key": "String", "value": "String", "written_at": "DateTime64(3, 'UTC')"}


@dataclass(frozen=True, slots=True)
class Table:
    """One table: its columns with their types, and the statement that makes it."""

    name: str
    columns: Mapping[str, str]
    family: str
    version: str
    tail: str

    def create(self, database: str, shape: Shape, setting: str = "") -> str:
        """CREATE TABLE, unless it is there; with one more setting."""
        lines = ",\n  ".join(f"{name} {kind} {_codec(name, kind)}".rstrip() for name, kind in self.columns.items())
        engine = shape.engine(self.name, database, self.family, self.version)
        more = f"{', ' if 'SETTINGS' in self.tail else ' SETTINGS '}{setting}" if setting else ""
        return f"CREATE TABLE IF NOT EXISTS {database}.{self.name} (\n  {lines}\n) ENGINE = {engine}\n{self.tail}{more}"


def tables() -> Iterator[Table]:
    """All of them."""
    part = f"PARTITION BY ({DAY}, {RECORDER})"
    for name in (TICKS_TABLE, stage_of(TICKS_TABLE)):
        tail = f"{part}\nPRIMARY KEY (symbol, ts_ms)\nORDER BY ({_IDENTITY}, {DAY}, {RECORDER})\nSETTINGS {_SETTINGS}"
        yield Table(name, ticks_columns(), "ReplacingMergeTree", BATCH, tail)
    for note, key in _KEYS.items():
        for name in (note, stage_of(note)):
            tail = f"{part}\nORDER BY ({key})\nSETTINGS fsync_after_insert = 1, fsync_part_directory = 1"
            yield Table(name, note_columns(note), "MergeTree", "", tail)
    for states in STATES:
        for base, columns, key in (
            (states.rows, states.columns, f"symbol, {states.number}"),
            (states.notes, _STATE_NOTES, "name"),
        ):
            for name in (base, stage_of(base)):
                tail = f"{part}\nORDER BY ({key})\nSETTINGS {_SETTINGS}"
                yield Table(name, columns, "MergeTree", "", tail)
    for name in (DAYS_TABLE, *(states.days for states in STATES)):
        yield Table(name, _DAYS, "ReplacingMergeTree", "verified_at", f"ORDER BY ({RECORDER}, {DAY})")
    yield Table(ABOUT_TABLE, _ABOUT, "ReplacingMergeTree", "written_at", "ORDER BY key")


def stage_of(table: str) -> str:
    """Where a day of that table is put together."""
    return f"{table}_stage"


def staged() -> tuple[str, ...]:
    """The tables whose days are put together in a stage."""
    return (TICKS_TABLE, *NOTES, *(name for states in STATES for name in (states.rows, states.notes)))


def view(database: str) -> str:
    """``ticks_one``: every tick once, whoever recorded it."""
    return (
        f"CREATE OR REPLACE VIEW {database}.{ALL_VIEW} AS SELECT {', '.join(NAMES)} "
        f"FROM {database}.{TICKS_TABLE} FINAL ORDER BY {RECORDER} LIMIT 1 BY {DAY}, {_IDENTITY}"
    )


def init(engine: ClickHouse, shape: Shape, now_ms: int) -> list[str]:
    """Make what is missing and bring the rest up to date; what was done, in words. Twice is fine.

    EngineRefused when a table is there with columns that cannot be ours; nothing is ever dropped.
    """
    database, done = engine.database, []
    engine.run(f"CREATE DATABASE IF NOT EXISTS {database}")
    have, without_statistics = columns_there(engine), _without_statistics(engine)
    for table in tables():
        if table.name not in have:
            engine.run(table.create(database, shape, without_statistics))
            done.append(f"made {database}.{table.name}")
        else:
            done += _bring_up_to_date(engine, table, have[table.name], without_statistics)
    engine.run(view(database))
    if "sink_id" not in about(engine):
        write_about(engine, "sink_id", engine.run("SELECT generateUUIDv4()").decode().strip(), now_ms)
    write_about(engine, "schema_version", str(SCHEMA_VERSION), now_ms)
    return done


def _bring_up_to_date(
    engine: ClickHouse, table: Table, known: Mapping[str, str], without_statistics: str
) -> Iterator[str]:
    """Columns that are missing, codecs of what is stored from now on, and no statistics; each in words."""
    name, alter = f"{engine.database}.{table.name}", f"ALTER TABLE {engine.database}.{table.name}"
    _check(table, known, engine.database)
    for column in [column for column in table.columns if column not in known]:
        kind = table.columns[column]
        engine.run(
            f"{alter} ADD COLUMN IF NOT EXISTS {column} {kind} {_codec(column, kind)} AFTER {_before(table, column)}"
        )
        yield f"added {name}.{column}"
    ((engine_text,),) = engine.rows(
        f"SELECT engine_full FROM system.tables WHERE database = '{engine.database}' AND name = '{table.name}'"
    )
    if without_statistics and without_statistics not in engine_text:
        engine.run(f"{alter} MODIFY SETTING {without_statistics}")
        yield f"{name} keeps no statistics any more"
    window = f"non_replicated_deduplication_window = {_WINDOW}"
    if window in table.tail and window not in engine_text and "Replicated" not in engine_text:
        engine.run(f"{alter} MODIFY SETTING {window}")
        yield f"{name} counts a shipment that comes twice once"
    codecs = _codecs_there(engine, table.name)
    packed = [name for name, kind in table.columns.items() if name in known and codecs[name] != _codec(name, kind)]
    for column in packed:
        kind = table.columns[column]
        engine.run(f"{alter} MODIFY COLUMN {column} {kind} {_codec(column, kind)}")
    if packed:
        yield f"{name}: {len(packed)} columns are packed better from now on"


def _without_statistics(engine: ClickHouse) -> str:
    """A setting of tables; empty where the server does not know it. Statistics that a server makes by itself of each
    column of each part take three bytes a tick, and nobody asks these tables in a way that they would help."""
    name = "auto_statistics_types"
    ((count,),) = engine.rows(f"SELECT count() FROM system.merge_tree_settings WHERE name = '{name}'")
    return f"{name} = ''" if count else ""


def _codecs_there(engine: ClickHouse, table: str) -> dict[str, str]:
    where = f"database = '{engine.database}' AND table = '{table}'"
    return dict(engine.rows(f"SELECT name, compression_codec FROM system.columns WHERE {where}"))


def _before(table: Table, name: str) -> str:
    names = list(table.columns)
    return names[names.index(name) - 1]


def columns_there(engine: ClickHouse) -> dict[str, dict[str, str]]:
    """The tables of the database, with the types of their columns."""
    kinds_of: dict[str, dict[str, str]] = {}
    for table, name, kind in engine.rows(
        f"SELECT table, name, type FROM system.columns WHERE database = '{engine.database}' ORDER BY table, position"
    ):
        kinds_of.setdefault(table, {})[name] = kind
    return kinds_of


def check(engine: ClickHouse) -> None:
    """EngineRefused, saying what to do, unless the tables are there as this version fills them."""
    have = columns_there(engine)
    for table in tables():
        check_there(engine, table.name, have)
        _check(table, have[table.name], engine.database)
        missing = [name for name in table.columns if name not in have[table.name]]
        if missing:
            raise EngineRefused(
                f"{engine.address.shown}: {table.name} lacks {', '.join(missing)}: bring it up to date with "
                "hk-tickctl ship init"
            )


def check_there(engine: ClickHouse, table: str, have: Collection[str]) -> None:
    """EngineRefused unless a table is among those that the database has."""
    if table not in have:
        raise EngineRefused(f"{engine.address.shown} has no table {table}: make it with hk-tickctl ship init")


def _check(table: Table, known: Mapping[str, str], database: str) -> None:
    wrong = [
        f"{name} is {known[name]} and not {kind}"
        for name, kind in table.columns.items()
        if name in known and known[name] != kind
    ]
    if wrong:
        raise EngineRefused(
            f"{database}.{table.name} is a table of another kind: {'; '.join(wrong)}; name another database in "
            "SHIP_URL, or rename that table"
        )


def about(engine: ClickHouse) -> dict[str, str]:
    """What the database says of itself."""
    return dict(engine.rows(f"SELECT key, value FROM {engine.database}.{ABOUT_TABLE} FINAL"))


def write_about(engine: ClickHouse, key: str, value: str, now_ms: int) -> None:
    """Set one of its words; what is written last counts, whatever the clocks of the writers say."""
    ((old_ms,),) = engine.rows(
        f"SELECT max(toUnixTimestamp64Milli(written_at)) FROM {engine.database}.{ABOUT_TABLE} WHERE key = {quoted(key)}"
    )
    now_ms = max(now_ms, old_ms + 1)
    engine.run(
        f"INSERT INTO {engine.database}.{ABOUT_TABLE} SETTINGS async_insert = 0 "
        f"VALUES ({quoted(key)}, {quoted(value)}, fromUnixTimestamp64Milli(toInt64({now_ms:d}), 'UTC'))"
    )


def quoted(text: str) -> str:
    """A text as an SQL literal."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
