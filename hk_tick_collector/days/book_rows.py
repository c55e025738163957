"""Rows of a book file as columns, many thousand at a time; ``days.book_walk`` makes states of them.

Rows come in the order of their numbers. The first chunk is small and each further one larger, so that whoever asks for
a page pays for a page, and whoever reads a day gets chunks that numpy is fast with. A statement is made for each: a
long transaction would hold up the writer's checkpoints.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from hk_tick_collector.core.errors import StoreCorrupt
from hk_tick_collector.days.arrow_sql import Column, ReadColumns, reading_columns
from hk_tick_collector.records.book import RowKind
from hk_tick_collector.store.book_file import reading
from hk_tick_collector.store.book_reader import symbols
from hk_tick_collector.store.connect import translate

FIRST_ROWS = 4096
CHUNK_ROWS = 65_536
GROWTH = 4
MAX_RUNS = 8  # of wanted symbols' numbers: more are looked up
CLOCK_MARGIN_US = 120_000_000  # a clock that was put back by less does not hide rows of a stretch
KINDS = tuple(RowKind)
FULL, DELTA, SAME, BREAK = (KINDS.index(kind) for kind in (RowKind.FULL, RowKind.DELTA, RowKind.SAME, RowKind.BREAK))

_COLUMNS = (
    *(Column(name, name, pa.int64()) for name in ("rowid", "symbol_id", "recv_ts_us", "bid_lag_ms", "ask_lag_ms")),
    # In SQLite's order a text is less than any blob; Arrow would take its bytes for one.
    Column("kind", "CASE WHEN payload < x'' THEN -1 ELSE coalesce(unicode(kind), 0) END", pa.int64()),
    Column("merged", "merged", pa.int64()),
    Column("payload", "coalesce(payload, x'')", pa.binary()),
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
    payloads: pa.BinaryArray

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
            with reading_columns(conn) as read:
                yield from _chunks(conn, read, only, part, max_rows, of_themselves)
        except sqlite3.Error as exc:
            raise translate(exc, path) from exc
        except (ValueError, TypeError, OverflowError) as exc:  # Arrow's are ValueErrors
            raise StoreCorrupt(f"{path} is damaged: {exc}") from exc


def _chunks(
    conn: sqlite3.Connection,
    read: ReadColumns,
    only: Sequence[int] | None,
    part: Part,
    max_rows: int,
    of_themselves: bool,
) -> Iterator[Chunk]:
    high = conn.execute("SELECT max(rowid) FROM pushes").fetchone()[0] or 0
    high = high if part.until_no is None else min(high, part.until_no)
    firsts: dict[int, int] = {}
    if only is not None and part != WHOLE and not of_themselves:
        firsts = _full_rows(conn, only, part, high)
        only = sorted(firsts)
    late_us = None if part.before_us is None else part.before_us + CLOCK_MARGIN_US
    where = "" if only is None else f"AND {_is_one_of(only)}"
    tail = f"FROM pushes WHERE rowid > ? AND rowid <= ? {where} ORDER BY rowid LIMIT ?"
    last = part.after_no if of_themselves else max(0, min(firsts.values(), default=1) - 1)
    rows = min(FIRST_ROWS, max_rows)
    while (fetched := _fetched(read, tail, (last, high, rows))) is not None:
        last, rows = fetched["rowid"][-1].as_py(), min(rows * GROWTH, max_rows)
        if late_us is not None and pc.min(fetched["recv_ts_us"]).as_py() > late_us:
            return
        if firsts:
            fetched = _from_firsts(fetched, firsts)
        if fetched.num_rows:
            yield _chunk_of(fetched)


def _is_one_of(symbol_ids: Sequence[int]) -> str:
    """A condition in SQL. Numbers that follow one another are compared at their ends, which costs less than looking a
    number up; a file numbers its symbols in the order in which they were subscribed."""
    numbers = np.array(sorted(set(symbol_ids)), dtype=np.int64)
    runs = np.split(numbers, np.flatnonzero(np.diff(numbers) > 1) + 1)
    if not len(numbers) or len(runs) > MAX_RUNS:
        return f"symbol_id IN ({', '.join(map(str, numbers.tolist()))})"
    return f"({' OR '.join(f'symbol_id BETWEEN {run[0]} AND {run[-1]}' for run in runs)})"


def _fetched(read: ReadColumns, tail: str, values: tuple[int, int, int]) -> pa.RecordBatch | None:
    """The rows of a query, whose last value is its limit; None without any."""
    batches = list(read(_COLUMNS, [tail], values, values[-1] + 1))
    return batches[0] if batches else None


def _from_firsts(fetched: pa.RecordBatch, firsts: dict[int, int]) -> pa.RecordBatch:
    """Without the rows before each symbol's first one."""
    keys, inverse = np.unique(np.asarray(fetched["symbol_id"]), return_inverse=True)
    first_of_row = np.array([firsts[key] for key in keys.tolist()], dtype=np.int64)[inverse]
    return fetched.filter(pa.array(np.asarray(fetched["rowid"]) >= first_of_row))


def _chunk_of(fetched: pa.RecordBatch) -> Chunk:
    update_nos, symbol_ids, recv_ts_us, bid_lags, ask_lags, kinds, merged, payloads = fetched.columns
    codes = np.asarray(kinds)
    if codes.min() < 0 or codes.max() >= len(_KIND_OF_CODE) or (kind_places := _KIND_OF_CODE[codes]).min() < 0:
        raise ValueError("a row of an unknown kind, or a payload that is no blob")
    recv_us = np.asarray(recv_ts_us)
    recv_ts_ms = recv_us // 1000
    bid_ts_ms, ask_ts_ms = (
        (recv_ts_ms - np.asarray(pc.fill_null(lags, 0)), np.asarray(lags.is_null())) for lags in (bid_lags, ask_lags)
    )
    return Chunk(
        np.asarray(update_nos), np.asarray(symbol_ids), recv_us, bid_ts_ms, ask_ts_ms, kind_places,
        np.asarray(merged), payloads,
    )  # fmt: skip


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
