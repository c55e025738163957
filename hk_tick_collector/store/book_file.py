"""A day's order books in SQLite, and its broker queues: what the files are, and how they are opened. ``states.sql``
describes the tables that both have.

Each kind has files of its own, with a writer and a thread of its own (``ingest.books``): books are a hundred times the
rows of ticks, and no tick waits for one; no book waits for a queue. What a file claims is in it: when which symbol was
watched, how many pushes were received, stored and passed over. It cannot claim to be complete: a push has no number.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from hk_tick_collector.records.book import StoredRow
from hk_tick_collector.records.book_codec import BookEncoder
from hk_tick_collector.records.broker_codec import BrokerEncoder
from hk_tick_collector.store import layout
from hk_tick_collector.store.connect import SqliteOptions
from hk_tick_collector.store.side_file import SideFile, SideKind

VERSION = 1
APPLICATION_ID = int.from_bytes(b"HKBK", "big")
BROKER_APPLICATION_ID = int.from_bytes(b"HKBR", "big")


class RowEncoder(Protocol):
    """Makes rows of the pushes of one file: ``BookEncoder``, ``BrokerEncoder``."""

    def encode(self, symbol_id: int, push: Any, merged: int = 0) -> StoredRow:
        """The row of a push. ValueError for what cannot be kept."""

    def break_row(self, symbol_id: int, at_us: int, merged: int = 0) -> StoredRow:
        """The state is not known from here on."""

    def forget(self) -> None:
        """The next push of every symbol gets a whole row."""


@dataclass(frozen=True)
class StateKind(SideKind):
    """A kind of record of which every push is the whole state of a symbol, and its files."""

    encoder: Callable[[], RowEncoder]


BOOK_KIND = StateKind(
    "books",
    SideFile(
        "order books",
        "pushes",
        ("states.sql", "books.sql"),
        APPLICATION_ID,
        VERSION,
        "BOOK_SYMBOLS chooses them",
    ),
    layout.book_file,
    layout.book_days,
    BookEncoder,
)
BROKER_KIND = StateKind(
    "brokers",
    SideFile(
        "broker queues",
        "pushes",
        ("states.sql", "brokers.sql"),
        BROKER_APPLICATION_ID,
        VERSION,
        "BOOK_BROKERS=1 records them",
    ),
    layout.broker_file,
    layout.broker_days,
    BrokerEncoder,
)
STATE_KINDS = (BOOK_KIND, BROKER_KIND)


CONFLATED = "conflated"  # of several changes in between the source tells only the last one


def note_conflated(conn: sqlite3.Connection) -> None:
    """Let a file say that its source conflates, for as long as there is the file. Files of other sources have no such
    table: they do not say how states came."""
    conn.execute("CREATE TABLE IF NOT EXISTS delivery (how TEXT PRIMARY KEY)")
    conn.execute("INSERT OR IGNORE INTO delivery VALUES (?)", (CONFLATED,))


def is_conflated(conn: sqlite3.Connection) -> bool:
    """Does its file say so?"""
    has = conn.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'delivery'").fetchone()
    return has is not None and conn.execute("SELECT 1 FROM delivery WHERE how = ?", (CONFLATED,)).fetchone() is not None


def kind_of(path: Path) -> StateKind:
    """What a file should hold, by its name."""
    return BOOK_KIND if layout.parse_broker_day(path) is None else BROKER_KIND


def open_for_writing(path: Path, options: SqliteOptions) -> sqlite3.Connection:
    """As ``SideFile.open_for_writing``."""
    return kind_of(path).file.open_for_writing(path, options)


def open_for_reading(path: Path) -> sqlite3.Connection:
    """As ``SideFile.open_for_reading``."""
    return kind_of(path).file.open_for_reading(path)


def reading(path: Path) -> AbstractContextManager[sqlite3.Connection]:
    """As ``SideFile.reading``."""
    return kind_of(path).file.reading(path)
