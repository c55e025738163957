"""Kinds of record that can be followed (``follow.py``): where their files are, what a row is, what of it never changes.

``TICKS`` are the rows of day files, ``BOOKS`` those of the files of order books, ``BROKERS`` those of broker queues,
``SNAPSHOTS`` those of snapshots::

    with Follower(root, kind=BOOKS) as follower:
        batch = follower.read_behind(Position(kind=BOOKS.name))

A position proves that it still fits by what never changes in a stored row. Of ticks that is all but three columns: the
store may give a row its sequence later, or finer milliseconds, or another number among equal ones (``rows.py``). So
``occurrence`` and milliseconds are left out, and a row that was checked without a sequence still fits once it has one.
Rows of books, queues and snapshots are never changed.

Another kind needs a ``Followed``, no more; positions in it carry its name.
"""

from __future__ import annotations

import sqlite3
import struct
import zlib
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from math import nan
from operator import itemgetter
from pathlib import Path
from typing import Any

from hk_tick_collector.store import layout
from hk_tick_collector.store.book_file import open_for_reading as open_books
from hk_tick_collector.store.position import ROW, Place, Row
from hk_tick_collector.store.read_only import open_read_only, select_list
from hk_tick_collector.store.side_file import NothingYet
from hk_tick_collector.store.snapshot_file import SNAPSHOT_FILE

# What a follower is given of each row of books and of queues: ``records.book.StoredRow`` behind its rowid, by name of
# the symbol.
BOOK_ROW = ("rowid", "symbol", "recv_ts_us", "bid_lag_ms", "ask_lag_ms", "kind", "merged", "payload")
# The same of snapshots; ``body`` is packed.
SNAPSHOT_ROW = (
    "rowid", "symbol", "package", "category", "ts_sec", "recv_ts_ms", "origin", "spot", "zero_gamma", "digest", "body",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Followed:
    """One kind of record.

    ``name``: a word, carried by the text of a position. ``row``: the columns that a follower is given; the first one is
    the rowid, which grows with each commit. ``directory``, ``file_of``, ``day_of``: where under a data root the files
    are, the file of a day, the day (YYYYMMDD) of a path or None when it is no file of this kind.
    ``open_file``: a read-only connection; None for a file with nothing in it yet. StoreError as ``store.reader`` has
    it. Closing it raises StoreBusy when the file was read as a closed one and was not (``read_only.ClosedFile``).
    ``table``, ``select``: the rows in SQL, and the select list that gives ``row`` without its rowid. ``stored_at``: the
    column that says when a row was stored, as a name of the table; it is one of ``row``.
    ``checks``: 32 bits of a row that may be found there later, the first as it is now. ``trail_text``, ``trail_bytes``:
    what tells rows from others in another file; of rows in pieces, the same as of all in one.
    """

    name: str
    row: tuple[str, ...]
    directory: Callable[[Path], Path]
    file_of: Callable[[Path, str], Path]
    day_of: Callable[[Path], str | None]
    open_file: Callable[[Path], sqlite3.Connection | None]
    table: str
    select: Callable[[sqlite3.Connection], str]
    stored_at: str
    checks: Callable[[Row], tuple[int, ...]]
    trail_text: Callable[[Sequence[Row]], str]
    trail_bytes: Callable[[Sequence[Row]], bytes]

    def behind(self, place: Place, rows: Sequence[Row], file: int) -> Place:
        """The place behind ``rows``, which follow ``place`` in the file of that identity."""
        base, trail = (place.rowid, 0) if place.trail is None else (place.base, place.trail)
        last = rows[-1]
        return Place(place.day, last[0], self.checks(last)[0], file, self.extended(trail, rows), base)

    def fits(self, place: Place, row: Row) -> bool:
        """Is this the row that was read last?"""
        return bool(row[0] == place.rowid) and place.check in self.checks(row)

    def extended(self, trail: int, rows: Iterable[Row]) -> int:
        """The trail of all rows up to and with these; how they are cut into calls makes no difference."""
        rows = list(rows)
        text = self.trail_text(rows).encode("utf-8", "surrogatepass")
        return zlib.crc32(text, trail >> 32) << 32 | zlib.crc32(self.trail_bytes(rows), trail & 0xFFFFFFFF)

    def stored(self, row: Row) -> int:
        """When a row was stored, in the unit of ``stored_at``."""
        return int(row[self.row.index(self.stored_at)])


def _check(content: tuple[Any, ...]) -> int:
    return zlib.crc32(repr(content).encode("utf-8", "surrogatepass"))


_SYMBOL, _SEQ, _TS_MS = ROW.index("symbol"), ROW.index("seq"), ROW.index("ts_ms")
_fixed = itemgetter(
    *map(
        ROW.index,
        ("symbol", "price", "volume", "turnover", "direction", "tick_type", "recv_ts_ms", "inserted_at_ms"),
    )
)
_numbers = itemgetter(*map(ROW.index, ("price", "volume", "recv_ts_ms", "inserted_at_ms")))


def _tick_checks(row: Row) -> tuple[int, ...]:
    content = (*_fixed(row), row[_TS_MS] // 1000)
    return _check((*content, row[_SEQ])), _check((*content, None))


def _tick_text(rows: Sequence[Row]) -> str:
    return "".join([f"{row[_SYMBOL]}\n" for row in rows])


def _tick_bytes(rows: Sequence[Row]) -> bytes:
    values: Iterator[Any] = chain.from_iterable(map(_numbers, rows))
    try:
        return array("d", values).tobytes()
    except TypeError:  # NULL, or what no recorder stores there
        values = chain.from_iterable(map(_numbers, rows))
        return array("d", [value if isinstance(value, (int, float)) else nan for value in values]).tobytes()


TICKS = Followed(
    name=layout.TICKS,
    row=ROW,
    directory=lambda root: root,
    file_of=layout.day_file,
    day_of=layout.parse_day,
    open_file=open_read_only,
    table="ticks",
    select=lambda conn: select_list(conn, ROW[1:]),
    stored_at="inserted_at_ms",
    checks=_tick_checks,
    trail_text=_tick_text,
    trail_bytes=_tick_bytes,
)


def _opened(opened: Callable[[Path], sqlite3.Connection]) -> Callable[[Path], sqlite3.Connection | None]:
    def open_file(path: Path) -> sqlite3.Connection | None:
        try:
            return opened(path)
        except NothingYet:
            return None

    return open_file


def _book_bytes(rows: Sequence[Row]) -> bytes:
    return b"".join([struct.pack("<qi", row[2], len(row[7] or b"")) + (row[7] or b"") for row in rows])


def _of_states(name: str, file_of: Callable[[Path, str], Path], day_of: Callable[[Path], str | None]) -> Followed:
    """Of pushes that are whole states (``store.book_file``)."""
    return Followed(
        name=name,
        row=BOOK_ROW,
        directory=lambda root: root / layout.BOOK_DIR,
        file_of=file_of,
        day_of=day_of,
        open_file=_opened(open_books),
        table="pushes",
        select=lambda _: ", ".join(
            ("(SELECT symbol FROM symbols WHERE symbols.symbol_id = pushes.symbol_id) AS symbol", *BOOK_ROW[2:])
        ),
        stored_at="recv_ts_us",
        checks=lambda row: (_check(row[1:]),),
        trail_text=lambda rows: "".join([f"{row[1]} {row[5]}\n" for row in rows]),
        trail_bytes=_book_bytes,
    )


BOOKS = _of_states(layout.BOOKS, layout.book_file, layout.parse_book_day)
BROKERS = _of_states(layout.BROKERS, layout.broker_file, layout.parse_broker_day)


def _series_word(name: str) -> str:
    return f"(SELECT {name} FROM series WHERE series.series_id = snapshots.series_id) AS {name}"  # noqa: S608 - our words


SNAPSHOTS = Followed(
    name=layout.SNAPSHOTS,
    row=SNAPSHOT_ROW,
    directory=lambda root: root / layout.SNAPSHOT_DIR,
    file_of=layout.snapshot_file,
    day_of=layout.parse_snapshot_day,
    open_file=_opened(SNAPSHOT_FILE.open_for_reading),
    table="snapshots",
    select=lambda _: ", ".join((*map(_series_word, SNAPSHOT_ROW[1:4]), *SNAPSHOT_ROW[4:])),
    stored_at="recv_ts_ms",
    checks=lambda row: (_check(row[1:10]),),
    trail_text=lambda rows: "".join([f"{row[1]}/{row[2]}/{row[3]} {row[6]}\n" for row in rows]),
    trail_bytes=lambda rows: b"".join([struct.pack("<q", row[4]) + row[9] for row in rows]),
)
