"""Rows of a book file as columns, many thousand at a time; ``days.book_walk`` makes states of them.

Rows come in the order of their numbers. The first chunk is small and each further one larger, so that whoever asks for
a page pays for a page, and whoever reads a day gets chunks that numpy is fast with. A statement is made for each: a
long transaction would hold up the writer's checkpoints.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from itertools import compress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hk_tick_collector.core.errors import StoreCorrupt
from hk_tick_collector.records.book import RowKind
from hk_tick_collector.store.book_file import reading
from hk_tick_collector.store.book_reader import symbols
from hk_tick_collector.store.connect import translate

FIRST_ROWS = 4096
CHUNK_ROWS = 65_536
GROWTH = 4
CLOCK_MARGIN_US = 120_000_000  # a clock that was put back by less does not hide rows of a stretch
KINDS = tuple(RowKind)
FULL, DELTA, SAME, BREAK = (KINDS.index(kind) for kind in (RowKind.FULL, RowKind.DELTA, RowKind.SAME, RowKind.BREAK))

_FETCHED_ROWS = 256  # at a time: so few that they stay in the processor's cache until they are columns
_ABSENT = -(1 << 63)
_COLUMNS = (
    f"rowid, symbol_id, recv_ts_us, coalesce(bid_lag_ms, {_ABSENT + 1} - 1), "
    f"coalesce(ask_lag_ms, {_ABSENT + 1} - 1), coalesce(unicode(kind), 0), merged, coalesce(payload, x'')"
)
_KIND_OF_CODE = np.full(256, -1, dtype=np.int64)
_KIND_OF_CODE[[ord(kind) for kind in KINDS]] = range(len(KINDS))

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


class Part(NamedTuple):
    """A part of a file's rows. What is told of them is what a reading of all rows tells of them."""

    after_no: int = 0  # behind this ``update_no``
    until_no: int | None = None  # and no further than this one; None: than the newest one now
    from_us: int | None = None  # received from here on, UTC epoch us
    before_us: int | None = None  # and before this


WHOLE = Part()


class Chunk(NamedTuple):
    """Rows of ``pushes`` by column."""

    update_nos: Ints
    symbol_ids: Ints
    recv_ts_us: Ints
    bid_ts_ms: tuple[Ints, Flags]  # times, and which are absent
    ask_ts_ms: tuple[Ints, Flags]
    kinds: Ints  # places in KINDS
    merged: Ints
    payloads: list[bytes]

    def halves(self) -> tuple[Chunk, Chunk]:
        """The first rows and the others."""
        middle = len(self.kinds) // 2
        return self._of(slice(middle)), self._of(slice(middle, None))

    def _of(self, rows: slice) -> Chunk:
        bid_ts_ms, ask_ts_ms = ((times[rows], absent[rows]) for times, absent in (self.bid_ts_ms, self.ask_ts_ms))
        numbers = self.update_nos[rows], self.symbol_ids[rows], self.recv_ts_us[rows]
        return Chunk(*numbers, bid_ts_ms, ask_ts_ms, self.kinds[rows], self.merged[rows], self.payloads[rows])


def newest_no(path: Path) -> int:
    """The ``update_no`` of a file's newest row; 0 without any."""
    with reading(path) as conn:
        return conn.execute("SELECT max(rowid) FROM pushes").fetchone()[0] or 0


def names_in(path: Path, chunk: Chunk, names: dict[int, str]) -> dict[int, str]:
    """What the symbols of a chunk are called, by number: ``names`` as they were read before the chunk, or read again
    where a symbol has come between. StoreCorrupt for a row of a symbol that the file does not name."""
    there = set(np.unique(chunk.symbol_ids).tolist())
    if there <= names.keys():
        return names
    names = {key: name for name, key in symbols(path).items()}
    if unnamed := there - names.keys():
        raise StoreCorrupt(f"{path} is damaged: a row of the symbol {min(unnamed)}, which it does not name")
    return names


def chunks(
    path: Path, only: Sequence[int] | None, part: Part, max_rows: int, *, of_themselves: bool = False
) -> Iterator[Chunk]:
    """The rows of a part, of the symbols ``only``, and those before it that its states come from, unless rows are told
    ``of_themselves``; at most ``max_rows`` at a time. Rows that are committed after the call began are left out.
    StoreError; StoreCorrupt for a damaged one."""
    with reading(path) as conn:
        try:
            yield from _chunks(conn, only, part, max_rows, of_themselves)
        except sqlite3.Error as exc:
            raise translate(exc, path) from exc
        except (ValueError, TypeError, OverflowError) as exc:
            raise StoreCorrupt(f"{path} is damaged: {exc}") from exc


def _chunks(
    conn: sqlite3.Connection, only: Sequence[int] | None, part: Part, max_rows: int, of_themselves: bool
) -> Iterator[Chunk]:
    high = conn.execute("SELECT max(rowid) FROM pushes").fetchone()[0] or 0
    high = high if part.until_no is None else min(high, part.until_no)
    firsts: dict[int, int] = {}
    if only is not None and part != WHOLE and not of_themselves:
        firsts = _full_rows(conn, only, part, high)
        only = sorted(firsts)
    late_us = None if part.before_us is None else part.before_us + CLOCK_MARGIN_US
    where = "" if only is None else f"AND symbol_id IN ({', '.join(map(str, only))})"
    sql = f"SELECT {_COLUMNS} FROM pushes WHERE rowid > ? AND rowid <= ? {where} ORDER BY rowid LIMIT ?"  # noqa: S608
    last = part.after_no if of_themselves else max(0, min(firsts.values(), default=1) - 1)
    rows = min(FIRST_ROWS, max_rows)
    while fetched := _fetched(conn.execute(sql, (last, high, rows))):
        numbers, payloads = fetched
        last, rows = int(numbers[0, -1]), min(rows * GROWTH, max_rows)
        if late_us is not None and numbers[2].min() > late_us:
            return
        if firsts:
            numbers, payloads = _from_firsts(numbers, payloads, firsts)
        if payloads:
            yield _chunk_of(numbers, payloads)


def _fetched(cursor: sqlite3.Cursor) -> tuple[Ints, list[bytes]] | None:
    """All columns of numbers, and the payloads; None without any row."""
    blocks: list[Ints] = []
    payloads: list[bytes] = []
    while rows := cursor.fetchmany(_FETCHED_ROWS):
        *numbers, payload = zip(*rows, strict=True)
        blocks.append(np.array(numbers, dtype=np.int64))
        payloads += payload
    return (np.concatenate(blocks, axis=1), payloads) if blocks else None


def _from_firsts(numbers: Ints, payloads: list[bytes], firsts: dict[int, int]) -> tuple[Ints, list[bytes]]:
    """Without the rows before each symbol's first one."""
    keys, inverse = np.unique(numbers[1], return_inverse=True)
    keep = numbers[0] >= np.array([firsts[key] for key in keys.tolist()], dtype=np.int64)[inverse]
    return numbers[:, keep], list(compress(payloads, keep.tolist()))


def _chunk_of(numbers: Ints, payloads: list[bytes]) -> Chunk:
    update_nos, symbol_ids, recv_ts_us, bid_lags_ms, ask_lags_ms, codes, merged = numbers
    if codes.min() < 0 or codes.max() >= len(_KIND_OF_CODE) or (kinds := _KIND_OF_CODE[codes]).min() < 0:
        raise ValueError("a row of an unknown kind")
    recv_ts_ms = recv_ts_us // 1000
    bid_ts_ms, ask_ts_ms = (
        (recv_ts_ms - np.where(absent, 0, lags_ms), absent)
        for lags_ms, absent in ((lags, lags == _ABSENT) for lags in (bid_lags_ms, ask_lags_ms))
    )
    return Chunk(update_nos, symbol_ids, recv_ts_us, bid_ts_ms, ask_ts_ms, kinds, merged, payloads)


def _full_rows(conn: sqlite3.Connection, symbol_ids: Sequence[int], part: Part, high: int) -> dict[int, int]:
    """By symbol the row that the states of a part come from: a full one, or the first one of the part."""
    if high <= part.after_no + CHUNK_ROWS:
        known, symbol_ids = _of_a_short_part(conn, symbol_ids, part, high)
        return known | (_full_rows_before(conn, symbol_ids, part) if symbol_ids else {})
    return _full_rows_before(conn, symbol_ids, part)


def _of_a_short_part(
    conn: sqlite3.Connection, symbol_ids: Sequence[int], part: Part, high: int
) -> tuple[dict[int, int], list[int]]:
    """Of symbols with rows in a part: the first row, where it needs none before it; and the others. A symbol that was
    still for hours before the part, and so begins in it with a full row, or is still in it, leads nobody back to where
    it was last heard of; one that needs rows before the part has its full row a minute of recording before, at most.
    """
    # The plus: by row number, not by the index of one kind.
    sql = "SELECT +symbol_id, min(rowid), kind FROM pushes WHERE rowid > ? AND rowid <= ? GROUP BY +symbol_id"
    wanted = set(symbol_ids)
    there = [row for row in conn.execute(sql, (part.after_no, high)) if row[0] in wanted]
    known = {key: first for key, first, kind in there if kind in (RowKind.FULL, RowKind.BREAK)}
    return known, [key for key, _, _ in there if key not in known]


def _full_rows_before(conn: sqlite3.Connection, symbol_ids: Sequence[int], part: Part) -> dict[int, int]:
    until_no = "SELECT max(rowid) FROM pushes WHERE kind = 'F' AND symbol_id = ? AND rowid <= ?"
    until_us = (
        "SELECT max(rowid) FROM (SELECT rowid FROM pushes WHERE kind = 'F' AND symbol_id = ? AND recv_ts_us < ? "
        "ORDER BY recv_ts_us DESC LIMIT 1)"
    )
    earliest_us = 0 if part.from_us is None else part.from_us - CLOCK_MARGIN_US
    # of any symbol: no row of the part is before it
    sql = "SELECT max(rowid) FROM pushes WHERE kind = 'F' AND recv_ts_us < ?"
    at_first = max(part.after_no + 1, conn.execute(sql, (earliest_us,)).fetchone()[0] or 0)
    rows_of = {}
    for key in symbol_ids:
        of_no = conn.execute(until_no, (key, part.after_no)).fetchone()[0] if part.after_no else None
        of_us = conn.execute(until_us, (key, earliest_us)).fetchone()[0] if earliest_us else None
        known = [row for row in (of_no, of_us) if row is not None]
        rows_of[key] = max(known) if known else at_first
    return rows_of
