"""Every column of the table ``ticks``, once: its name, its types, since when it is there, and what it means.

SQL (``store.connect``), the Arrow schema (``days.schema``), Parquet's encodings (``days.parquet``), what a salvaged
value may be (``store.salvage``), the content hash (``days.content``) and what tells ticks apart in an archive
(``archive.contents``, ``archive.restore``) are made from ``TICKS``; the tables of the documents are held against it. So
a new column is one line here, with the schema version that brings it.

Versions. 0 is a file of an earlier recorder (the first 14 columns, no mark), 1 is what this recorder first wrote. A
file is known by the columns of its own version and stays readable for ever; a column that it lacks is NULL (or the
column's default) to whoever reads. Columns are only ever added, at the end, and after version 1 they are nullable: an
older file is brought up to date by ALTER TABLE, which touches no row.

Nothing here knows SQLite or Arrow: types are names, and those who use a library map them.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum

SCHEMA_VERSION = 2  # of day files (PRAGMA user_version), of Parquet files and of manifests


class Role(StrEnum):
    """What a column says of a tick. The rules that tell ticks apart (``store.rows``) go by the first two."""

    KEY = "key"  # which tick it is
    CONTENT = "content"  # besides, which tick it is when it has no sequence
    WITNESS = "witness"  # how the same tick came to us, or what was told beside it
    DAY = "day"  # the file it stands in


class Arrow(StrEnum):
    """A column's type outside SQLite."""

    TEXT = "text"  # a dictionary of strings
    UTC_MS = "utc_ms"  # a timestamp in milliseconds
    INT64 = "int64"
    FLOAT64 = "float64"


class Packing(StrEnum):
    """How the values of a column lie in Parquet."""

    DICTIONARY = "dictionary"  # few different values
    DELTA = "delta"  # nearly regular integers
    SPLIT = "split"  # floats of which hardly two are equal: zstd sees their equal bytes


@dataclass(frozen=True, slots=True)
class Column:
    """One column. ``default`` is what a file without it stands for, as an SQL literal."""

    name: str
    sql: str  # SQLite's type: TEXT, INTEGER, REAL
    arrow: Arrow
    role: Role
    meaning: str  # the documents say it in the same words
    since: int = 0  # the schema version that brings it
    nullable: bool = True
    default: str | None = None
    packing: Packing = Packing.DICTIONARY

    @property
    def declaration(self) -> str:
        """As in CREATE TABLE and in ALTER TABLE ... ADD COLUMN."""
        null = "" if self.nullable else " NOT NULL"
        return f"{self.name} {self.sql}{null}" + (f" DEFAULT {self.default}" if self.default is not None else "")


def _text(name: str, role: Role, meaning: str, *, since: int = 0, nullable: bool = True) -> Column:
    return Column(name, "TEXT", Arrow.TEXT, role, meaning, since, nullable)


def _time(name: str, role: Role, meaning: str, *, since: int = 0, nullable: bool = True) -> Column:
    return Column(name, "INTEGER", Arrow.UTC_MS, role, meaning, since, nullable, None, Packing.DELTA)


def _integer(
    name: str, role: Role, meaning: str, *, since: int = 0, nullable: bool = True, default: str | None = None
) -> Column:
    return Column(name, "INTEGER", Arrow.INT64, role, meaning, since, nullable, default, Packing.DELTA)


def _float(name: str, role: Role, meaning: str, *, since: int = 0, packing: Packing = Packing.DICTIONARY) -> Column:
    return Column(name, "REAL", Arrow.FLOAT64, role, meaning, since, packing=packing)


TICKS: tuple[Column, ...] = (
    # The first 14 are the interface that users' SQL relies on, in this order.
    _text("market", Role.WITNESS, "HK", nullable=False),
    _text("symbol", Role.KEY, "HK.00700", nullable=False),
    _time("ts_ms", Role.KEY, "when the trade happened: UTC, epoch milliseconds", nullable=False),
    _float("price", Role.KEY, "in the counter's own currency"),
    _integer("volume", Role.KEY, "shares"),
    _float("turnover", Role.CONTENT, "likewise", packing=Packing.SPLIT),
    _text("direction", Role.CONTENT, "BUY, SELL, NEUTRAL"),
    _integer("seq", Role.KEY, "Futu's sequence"),
    _text("tick_type", Role.CONTENT, "AUTO_MATCH, ODD_LOT, AUCTION, ..."),
    _text("push_type", Role.WITNESS, "how it came: push, poll, backfill, repair"),
    _text("provider", Role.WITNESS, "futu"),
    _text("trading_day", Role.DAY, "YYYYMMDD, Hong Kong", nullable=False),
    _time("recv_ts_ms", Role.WITNESS, "when the recorder read it: UTC, epoch milliseconds", nullable=False),
    _time("inserted_at_ms", Role.WITNESS, "when it was written: UTC, epoch milliseconds", nullable=False),
    # What research needs and OpenD sends anyway.
    _text("push_data_type", Role.WITNESS, "REALTIME, BYDISCONN, CACHE; NULL when pulled", since=1),
    _time("opend_recv_ts_ms", Role.WITNESS, "when OpenD received it; NULL when OpenD does not say", since=1),
    _text("type_sign", Role.WITNESS, "the exchange's letter for the trade type", since=1),
    _integer(
        "occurrence", Role.KEY, "without a sequence: 0, 1, 2 ... among trades that look the same",
        since=1, nullable=False, default="0",
    ),
    # What other sources tell; NULL from OpenD.
    _integer("ts_ns_part", Role.WITNESS, "nanoseconds of the trade's time behind ts_ms, 0 to 999,999", since=2),
    _integer("total_volume", Role.WITNESS, "the source's running total of the day after this trade", since=2),
    _text("venue", Role.WITNESS, "where it traded, in the source's word", since=2),
    _text("conditions", Role.WITNESS, "sale conditions, in the source's words", since=2),
    _float("bid_price", Role.WITNESS, "the best bid beside the trade", since=2),
    _float("ask_price", Role.WITNESS, "the best ask beside the trade", since=2),
)  # fmt: skip
NAMES: tuple[str, ...] = tuple(column.name for column in TICKS)
BY_NAME: dict[str, Column] = {column.name: column for column in TICKS}
# The store's own or said once for all ticks of a data root; a source may give the other ones.
STAMP = "inserted_at_ms"
CONSTANT = ("market", "provider")


def names_of(version: int) -> tuple[str, ...]:
    """The columns of a file of that version, in order. Files of a later version than ours have these and more."""
    return tuple(column.name for column in TICKS if column.since <= version)


def added_by(version: int) -> tuple[Column, ...]:
    """The columns that a version brings."""
    return tuple(column for column in TICKS if column.since == version)


def later_than(version: int) -> tuple[str, ...]:
    """The columns that a file of that version lacks."""
    return tuple(column.name for column in TICKS if column.since > version)


def known_to_all() -> tuple[str, ...]:
    """The columns of version 1: every source tells them, and every archive has them."""
    return names_of(1)


def with_role(*roles: Role, among: Collection[str] = NAMES) -> tuple[str, ...]:
    """The columns with one of these roles, in order."""
    return tuple(column.name for column in TICKS if column.role in roles and column.name in among)


def packed(packing: Packing, among: Collection[str] = NAMES) -> tuple[str, ...]:
    """The columns that lie in Parquet in this way, in order."""
    return tuple(column.name for column in TICKS if column.packing is packing and column.name in among)


def create_table() -> str:
    """The statement that makes ``ticks`` in a new file."""
    lines = ",\n  ".join(column.declaration for column in TICKS)
    return f"CREATE TABLE ticks (\n  {lines}\n);\n"
