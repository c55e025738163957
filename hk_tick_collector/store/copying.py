"""Rows of another day file into this one, and which of them this one lacks.

The rows of one file are as many trades. So each of them has a row of its own afterwards: one that this file had, if
rows.py takes the two for one tick, else a new one. The same file again changes nothing.

Rows with a sequence or a mark must all be handed over before the others: any of those may be one of these.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from hk_tick_collector.store.connect import COPY, ROW_COLUMNS
from hk_tick_collector.store.neighbours import Equals, Stored, mark_of
from hk_tick_collector.store.rows import BORROWED_TIME, OneByOne, SymbolRows, content_of
from hk_tick_collector.store.symbol_coverage import Row, SymbolCoverage

_SYMBOL, _TS_MS, _SEQ, _OCCURRENCE = (ROW_COLUMNS.index(name) for name in ("symbol", "ts_ms", "seq", "occurrence"))


class CopiedRows:
    """Rowids of the rows that are in the file because of those that were copied: no other one may be taken for them."""

    def __init__(self) -> None:
        self._copied = bytearray()  # a byte a rowid
        self._pending: set[int] = set()  # of the transaction that is open

    def __contains__(self, rowid: object) -> bool:
        assert isinstance(rowid, int)
        return rowid in self._pending or (rowid < len(self._copied) and bool(self._copied[rowid]))

    def add(self, rowid: int) -> None:
        """Note one, until the transaction ends."""
        self._pending.add(rowid)

    def commit(self) -> None:
        """The transaction was committed."""
        needed = max(self._pending, default=0) + 1
        if needed > len(self._copied):
            self._copied.extend(bytes(max(needed, 2 * len(self._copied)) - len(self._copied)))
        for rowid in self._pending:
            self._copied[rowid] = 1
        self._pending.clear()

    def rollback(self) -> None:
        """The transaction was not committed."""
        self._pending.clear()


def is_keyed(row: Row) -> bool:
    """Has it a sequence, or the mark of one?"""
    return row[_SEQ] is not None or row[_OCCURRENCE] < 0


def vagueness(row: Row) -> tuple[bool, bool]:
    """How little it tells of which trade it is: the vaguer of two rows may be either of two trades, and must not take
    the place of the one that the other row is."""
    return not is_keyed(row), row[_TS_MS] % 1000 == 0


def copy_together(conn: sqlite3.Connection, files: Sequence[Sequence[Row]]) -> None:
    """Copy what several files have of the same symbols, inside the caller's transaction: afterwards each row of each
    file has a row of its own among them.

    What tells most goes in first, of all files. Else a time that was cut, say, takes the place of a tick without a
    sequence, and gives it up again when a later file tells that time whole.
    """
    copied = [CopiedRows() for _ in files]
    for kind in sorted({vagueness(row) for rows in files for row in rows}):
        for rows, taken in zip(files, copied, strict=True):
            alike = [row for row in rows if vagueness(row) == kind]
            copy_rows(conn, sorted(alike, key=lambda row: (row[_TS_MS], row[_OCCURRENCE])), taken)


def copy_rows(conn: sqlite3.Connection, rows: Sequence[Row], copied: CopiedRows) -> int:
    """Copy them inside the caller's transaction; returns how many were new. ``coverage`` is the caller's to count."""
    by_symbol: dict[str, SymbolRows] = {}
    for row in rows:
        parts = by_symbol.setdefault(row[_SYMBOL], SymbolRows([], [], []))
        (parts.unsequenced if row[_SEQ] is None else parts.doubtful).append(row)
    inserted_rows = 0
    for symbol, parts in by_symbol.items():
        copier = _Copy(conn, symbol, parts, copied)
        copier.store(parts)
        inserted_rows += copier.inserted_rows
    return inserted_rows


def without_a_row(rows: Sequence[Row], others: Sequence[Row]) -> list[Row]:
    """Those of ``rows``, of one file, that find none of their own among ``others``, of another file."""
    equals: dict[tuple[object, ...], Equals] = {}
    for rowid, other in enumerate(others):
        stored = Stored(rowid, other[_TS_MS], other[_SEQ], other[_OCCURRENCE])
        equals.setdefault((other[_SYMBOL], *content_of(other)), Equals()).add(stored)
    lacking = []
    for row in sorted(rows, key=vagueness):
        among = equals.get((row[_SYMBOL], *content_of(row)), Equals())
        own = _own_row(row, among)
        if own is None:
            lacking.append(row)
        else:
            among.remove(own)
    return lacking


def _own_row(row: Row, among: Equals) -> Stored | None:
    ts_ms, seq = row[_TS_MS], row[_SEQ]
    if not is_keyed(row):
        return among.first(ts_ms)
    mark = mark_of(seq if seq is not None else ~row[_OCCURRENCE])
    return among.keyed(mark, ts_ms, row[_OCCURRENCE] == BORROWED_TIME) or among.loose(ts_ms)


class _Copy(OneByOne):
    def __init__(self, conn: sqlite3.Connection, symbol: str, rows: SymbolRows, copied: CopiedRows) -> None:
        super().__init__(conn, SymbolCoverage(symbol), symbol, rows, COPY, copied)
        self._copied = copied

    def _took(self, rowid: int) -> None:
        self._copied.add(rowid)

    def _store_unsequenced(self, row: Row) -> None:
        known = self._equals(row).first(row[_TS_MS])
        if known is None:
            self._insert(row, None, self._free_number(row))
        else:
            self._change_to_unsequenced(known, row)
