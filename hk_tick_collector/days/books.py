"""A day's order books as Arrow, in bounded memory: every change, every state, or the best prices where they change.

``read`` gives record batches in the order in which pushes came, all symbols among one another; ``path`` is a book file
(``store.layout.book_file``), also one that is being written. Three forms::

    LONG    a row a changed level: symbol, recv_ts, update_no, is_full, side (bid, ask), side_ts, price, volume, orders,
            action. ``add`` a level appears, ``set`` it changes, ``gone`` it is no longer there, ``out`` it left the
            window that the account's right shows (nobody may call it cancelled); ``same`` and ``break`` are rows of a
            push without a change, and of a moment from which the book is not known, with no side and no price.
            Before the rows of a full update (``is_full``) the book is to be cleared.
    WIDE    a row a push: symbol, recv_ts, update_no, kind (F D S B), merged, bid_ts, ask_ts, bid_levels, ask_levels
            (how many there are, also beyond ``depth``), then for each level from 0 (the best) ``bid_px_0``,
            ``bid_qty_0``, ``bid_n_0``, and ``ask_px_0`` ... likewise; NULL where there is no level, and all of them in
            a row of kind B.
    QUOTES  WIDE with one level, without the rows in which no column of it changed.

``recv_ts``: timestamp[us, UTC], our clock. ``bid_ts``, ``ask_ts``, ``side_ts``: timestamp[ms, UTC], Futu's server.
``update_no``: the row's number in its file. price: float64, volume (shares), orders: int64.

    for batch in read(book_file(data_root, "20261120"), Form.WIDE, symbols=["HK.00700"], depth=5): ...

Raises StoreUnavailable when there is no such file, StoreCorrupt when it is damaged.

Numbers are cut out of the payloads by numpy, many thousand rows at a time, and put together into Arrow by it; only the
steps from state to state are Python. A side is a list of numbers there, of levels in one table of all that the chunk
says, so that a step writes one number, and a side's first ten are one slice.
"""

from __future__ import annotations

import sqlite3
from array import array
from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from hk_tick_collector.core.errors import StoreCorrupt
from hk_tick_collector.records.book import RowKind
from hk_tick_collector.records.book_codec import NUMBERS_A_STEP, Action
from hk_tick_collector.store.book_file import reading
from hk_tick_collector.store.book_reader import symbols as symbols_of
from hk_tick_collector.store.connect import translate

DEPTH = 10
CHUNK_ROWS = 16_384  # 10 levels: 8 MB of Arrow
MAX_DEPTH = 1000
CLOCK_MARGIN_US = 120_000_000  # a clock that was put back by less does not hide rows of a stretch

_LEVEL = np.dtype([("price", "<f8"), ("volume", "<i8"), ("orders", "<i8")])
_RECV = pa.timestamp("us", tz="UTC")
_SIDE_TS = pa.timestamp("ms", tz="UTC")
_NAME = pa.dictionary(pa.int32(), pa.string())
_SIDES = ("bid", "ask")
_ACTIONS = ("add", "set", "gone", "out", "same", "break")
_ADD, _SET, _GONE, _OUT, _SAME, _BREAK = range(len(_ACTIONS))
_MAX_VARINT_BYTES = 10

_Ints = npt.NDArray[np.int64]
_Floats = npt.NDArray[np.float64]


class Form(StrEnum):
    """How books are told; the module's docstring has the columns."""

    LONG = "long"
    WIDE = "wide"
    QUOTES = "quotes"


LONG_SCHEMA = pa.schema(
    [
        pa.field("symbol", _NAME, nullable=False),
        pa.field("recv_ts", _RECV, nullable=False),
        pa.field("update_no", pa.int64(), nullable=False),
        pa.field("is_full", pa.bool_(), nullable=False),
        pa.field("side", _NAME),
        pa.field("side_ts", _SIDE_TS),
        pa.field("price", pa.float64()),
        pa.field("volume", pa.int64()),
        pa.field("orders", pa.int64()),
        pa.field("action", _NAME, nullable=False),
    ]
)


def wide_schema(depth: int = DEPTH) -> pa.Schema:
    """Of WIDE; of QUOTES with ``depth`` 1."""
    fields = [
        pa.field("symbol", _NAME, nullable=False),
        pa.field("recv_ts", _RECV, nullable=False),
        pa.field("update_no", pa.int64(), nullable=False),
        pa.field("kind", _NAME, nullable=False),
        pa.field("merged", pa.int64(), nullable=False),
        pa.field("bid_ts", _SIDE_TS),
        pa.field("ask_ts", _SIDE_TS),
        pa.field("bid_levels", pa.int64()),
        pa.field("ask_levels", pa.int64()),
    ]
    for side in _SIDES:
        for level in range(depth):
            fields += [
                pa.field(f"{side}_px_{level}", pa.float64()),
                pa.field(f"{side}_qty_{level}", pa.int64()),
                pa.field(f"{side}_n_{level}", pa.int64()),
            ]
    return pa.schema(fields)


def schema_of(form: Form, depth: int = DEPTH) -> pa.Schema:
    """The columns of the batches that ``read`` gives."""
    if form is Form.LONG:
        return LONG_SCHEMA
    return wide_schema(1 if form is Form.QUOTES else depth)


class Part(NamedTuple):
    """A part of a file's rows. What is told of them is what a reading of all rows tells of them."""

    after_no: int = 0  # behind this ``update_no``
    until_no: int | None = None  # and no further than this one; None: than the newest one now
    from_us: int | None = None  # received from here on, UTC epoch us
    before_us: int | None = None  # and before this


WHOLE = Part()


def read(
    path: Path, form: Form, symbols: Sequence[str] | None = None, depth: int = DEPTH, part: Part = WHOLE
) -> Iterator[pa.RecordBatch]:
    """Record batches of ``schema_of(form, depth)``; of ``symbols`` and of a ``part`` alone when they are given. Rows
    that are committed after the call began are left out."""
    quotes = _QuoteFilter()
    shown = 1 if form is Form.QUOTES else depth
    for rows in walk(path, symbols, shown, with_changes=form is Form.LONG, part=part):
        if form is Form.LONG:
            batch = _long_batch(rows.chunk, rows.walked, rows.names)
        else:
            batch = _wide_batch(rows.chunk, rows.walked, rows.names, shown)
            batch = quotes.changed(batch, rows.chunk.symbol_ids) if form is Form.QUOTES else batch
        yield batch if part == WHOLE else _within(batch, part)


def walk(
    path: Path,
    symbols: Sequence[str] | None = None,
    depth: int = DEPTH,
    *,
    with_changes: bool = False,
    part: Part = WHOLE,
) -> Iterator[WalkedRows]:
    """As ``read``, in the arrays that it makes its batches of; for who judges a day. Of a ``part`` the rows before it
    that its states come from are among them."""
    if not 1 <= depth <= MAX_DEPTH:
        raise ValueError(f"depth {depth} is not from 1 to {MAX_DEPTH}")
    names = {key: name for name, key in symbols_of(path).items() if symbols is None or name in symbols}
    states = _States(depth)
    for chunk in _chunks(path, None if symbols is None and part == WHOLE else sorted(names), part):
        try:
            yield WalkedRows(names, chunk, states.walk(chunk, with_changes=with_changes))
        except ValueError as exc:
            raise StoreCorrupt(f"{path} is damaged: {exc}") from exc


class _Chunk(NamedTuple):
    """Rows of ``pushes`` by column."""

    update_nos: _Ints
    symbol_ids: _Ints
    recv_ts_us: _Ints
    bid_ts_ms: tuple[_Ints, npt.NDArray[np.bool_]]  # times, and which are absent
    ask_ts_ms: tuple[_Ints, npt.NDArray[np.bool_]]
    kinds: list[str]
    merged: _Ints
    payloads: list[bytes | None]


class _Steps(NamedTuple):
    """The steps of a chunk, all rows behind one another; those of row i from ``first[i]`` to ``first[i + 1]``."""

    first: list[int]
    levels: npt.NDArray[Any]  # of _LEVEL
    sides: _Ints
    actions: _Ints
    slots: _Ints


class _Walked(NamedTuple):
    """What the rows of a chunk led to."""

    steps: _Steps
    tops: tuple[npt.NDArray[Any], npt.NDArray[Any]]  # of _LEVEL, ``depth`` levels a row and side
    counts: tuple[_Ints, _Ints]  # levels a row and side; -1 where the book is not known
    known_rows: npt.NDArray[np.bool_]
    step_prices: _Floats  # of each step's level; of steps in rows without a known book it means nothing
    was_out: list[int]  # LONG: steps that took out a level which may still be there

    def top(self, side: int, depth: int) -> npt.NDArray[Any]:
        """The best levels of a side (0 bid), a row of ``depth`` of them a push: price, volume, orders. What is behind
        ``counts`` is empty."""
        return self.tops[side].reshape(-1, depth)


class WalkedRows(NamedTuple):
    """A chunk of a file, and what it led to."""

    names: dict[int, str]  # by symbol_id
    chunk: _Chunk
    walked: _Walked


def newest_no(path: Path) -> int:
    """The ``update_no`` of a file's newest row; 0 without any."""
    with reading(path) as conn:
        return conn.execute("SELECT max(rowid) FROM pushes").fetchone()[0] or 0


def _within(batch: pa.RecordBatch, part: Part) -> pa.RecordBatch:
    """Without the rows before a part, and behind it."""
    recv_us = batch.column("recv_ts").view(pa.int64())
    keep = pc.greater(batch.column("update_no"), part.after_no)
    if part.from_us is not None:
        keep = pc.and_(keep, pc.greater_equal(recv_us, part.from_us))
    if part.before_us is not None:
        keep = pc.and_(keep, pc.less(recv_us, part.before_us))
    return batch.filter(keep)


def _full_rows(conn: sqlite3.Connection, symbol_ids: Sequence[int], part: Part) -> dict[int, int]:
    """By symbol the row that the states of a part come from: a full one, or the first one of the part."""
    until_no = "SELECT max(rowid) FROM pushes WHERE kind = 'F' AND symbol_id = ? AND rowid <= ?"
    until_us = (
        "SELECT max(rowid) FROM (SELECT rowid FROM pushes WHERE kind = 'F' AND symbol_id = ? AND recv_ts_us < ? "
        "ORDER BY recv_ts_us DESC LIMIT 1)"
    )
    earliest_us = 0 if part.from_us is None else part.from_us - CLOCK_MARGIN_US
    # of any symbol: no row of the part is before it
    sql = "SELECT max(rowid) FROM pushes WHERE kind = 'F' AND recv_ts_us < ?"
    at_first = max(part.after_no + 1, conn.execute(sql, (earliest_us,)).fetchone()[0] or 0)
    found = {}
    for key in symbol_ids:
        of_no = conn.execute(until_no, (key, part.after_no)).fetchone()[0] if part.after_no else None
        of_us = conn.execute(until_us, (key, earliest_us)).fetchone()[0] if earliest_us else None
        known = [row for row in (of_no, of_us) if row is not None]
        found[key] = max(known) if known else at_first
    return found


def _chunks(path: Path, only: Sequence[int] | None, part: Part) -> Iterator[_Chunk]:
    with reading(path) as conn:
        try:
            high = conn.execute("SELECT max(rowid) FROM pushes").fetchone()[0] or 0
            high = high if part.until_no is None else min(high, part.until_no)
            firsts = {} if only is None or part == WHOLE else _full_rows(conn, only, part)
            late_us = None if part.before_us is None else part.before_us + CLOCK_MARGIN_US
            where = "" if only is None else f"AND symbol_id IN ({', '.join(map(str, only))})"
            sql = (
                "SELECT rowid, symbol_id, recv_ts_us, bid_lag_ms, ask_lag_ms, kind, merged, payload FROM pushes "  # noqa: S608
                f"WHERE rowid > ? AND rowid <= ? {where} ORDER BY rowid LIMIT {CHUNK_ROWS:d}"
            )
            last = max(0, min(firsts.values(), default=1) - 1)
            while True:  # a statement a chunk: a long transaction would hold up the writer's checkpoints
                rows = conn.execute(sql, (last, high)).fetchall()
                if not rows:
                    return
                last, is_late = rows[-1][0], late_us is not None and min(row[2] for row in rows) > late_us
                if firsts:
                    rows = [row for row in rows if row[0] >= firsts[row[1]]]
                if rows and not is_late:
                    yield _chunk_of(rows)
                if is_late:
                    return
        except sqlite3.Error as exc:
            raise translate(exc, path) from exc


def _chunk_of(rows: list[tuple[Any, ...]]) -> _Chunk:
    numbers, ids, recv, bid_lags, ask_lags, kinds, merged, payloads = zip(*rows, strict=True)
    recv_ts_us = np.array(recv, dtype=np.int64)
    recv_ts_ms = recv_ts_us // 1000
    return _Chunk(
        np.array(numbers, dtype=np.int64),
        np.array(ids, dtype=np.int64),
        recv_ts_us,
        _times(recv_ts_ms, bid_lags),
        _times(recv_ts_ms, ask_lags),
        list(kinds),
        np.array(merged, dtype=np.int64),
        list(payloads),
    )


def _times(recv_ts_ms: _Ints, lags_ms: Sequence[int | None]) -> tuple[_Ints, npt.NDArray[np.bool_]]:
    absent = np.array([lag is None for lag in lags_ms], dtype=np.bool_)
    return recv_ts_ms - np.array([lag or 0 for lag in lags_ms], dtype=np.int64), absent


def _steps_of(payloads: Sequence[bytes | None]) -> _Steps:
    numbers, counts = _numbers_of(payloads)
    if np.any(counts % NUMBERS_A_STEP):
        raise ValueError("a payload that is cut off")
    by_step = numbers.reshape(-1, NUMBERS_A_STEP)
    code, price, volume, orders = (by_step[:, column] for column in range(NUMBERS_A_STEP))
    code, odd = np.divmod(code.astype(np.int64), 2)
    code, actions = np.divmod(code, 3)
    slots, sides = np.divmod(code, 2)
    levels = np.empty(len(by_step), dtype=_LEVEL)
    levels["price"] = np.where(odd == 1, np.ascontiguousarray(price).view(np.float64), price / 1000.0)
    levels["volume"] = _volumes(volume)
    levels["orders"] = orders.astype(np.int64)
    if np.any(slots < 0):
        raise ValueError("a change of a level that is not there")
    first = np.concatenate([[0], np.cumsum(counts // NUMBERS_A_STEP)])
    return _Steps(first.tolist(), levels, sides, actions, slots)


def _numbers_of(payloads: Sequence[bytes | None]) -> tuple[npt.NDArray[np.uint64], _Ints]:
    """All LEB128 numbers, and how many are of each payload."""
    lengths = np.array([len(payload) if payload else 0 for payload in payloads], dtype=np.int64)
    data = np.frombuffer(b"".join(payload for payload in payloads if payload), dtype=np.uint8)
    ends = np.flatnonzero(data < 0x80)
    borders = np.cumsum(lengths)
    filled = borders[lengths > 0] - 1
    if len(filled) and not np.all(data[filled] < 0x80):
        raise ValueError("a payload that is cut off")
    counts = np.diff(np.concatenate([[0], np.searchsorted(ends, borders)]))
    starts = np.concatenate([[0], ends[:-1] + 1]) if len(ends) else ends
    sizes = ends - starts + 1
    if len(sizes) and sizes.max() > _MAX_VARINT_BYTES:
        raise ValueError("a number of more than 64 bits")
    numbers = np.zeros(len(ends), dtype=np.uint64)
    for place in range(int(sizes.max()) if len(sizes) else 0):
        longer = sizes > place
        part = (data[starts[longer] + place] & 0x7F).astype(np.uint64)
        numbers[longer] |= part << np.uint64(7 * place)
    return numbers, counts


def _volumes(numbers: npt.NDArray[np.uint64]) -> _Ints:
    zigzag = (numbers >> np.uint64(1)).astype(np.int64)
    volumes = (zigzag >> 1) ^ -(zigzag & 1)
    return np.where(numbers & np.uint64(1), volumes, volumes * 100)


class _States:
    """The books of all symbols while rows are walked; a side is a list of its levels' numbers in ``_table``."""

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self._books: dict[int, _Sides] = {}
        self._table = np.zeros(1, dtype=_LEVEL)  # number 0 stands for no level

    def walk(self, chunk: _Chunk, *, with_changes: bool) -> _Walked:
        """Go through the rows of a chunk. ValueError for a row that does not fit the one before."""
        steps = _steps_of(chunk.payloads)
        changes = _Steppings(steps, self._carry(steps.levels), with_changes=with_changes)
        take, books, depth = changes.take, self._books, self.depth
        padding = array("q", [0]) * depth
        bid_tops, ask_tops = array("q"), array("q")
        bid_sizes, ask_sizes = list[int](), list[int]()
        begins = steps.first
        rows = zip(chunk.symbol_ids.tolist(), chunk.kinds, begins, begins[1:], strict=False)
        for key, kind, begin, end in rows:
            if kind == _FULL:
                books[key] = (array("q"), array("q"))
            elif kind == _BREAK_ROW:
                books.pop(key, None)
            book = books.get(key)
            if book is not None and begin != end:
                take(book, begin, end)
            bids, asks = book or _UNKNOWN
            bid_size, ask_size = len(bids), len(asks)
            bid_tops += bids if bid_size == depth else bids[:depth]
            ask_tops += asks if ask_size == depth else asks[:depth]
            if bid_size < depth:
                bid_tops += padding[bid_size:]
            if ask_size < depth:
                ask_tops += padding[ask_size:]
            bid_sizes.append(bid_size if book is not None else -1)
            ask_sizes.append(ask_size if book is not None else -1)
        self._table["price"] = changes.prices
        counts = tuple(np.array(of_side, dtype=np.int64) for of_side in (bid_sizes, ask_sizes))
        return _Walked(
            steps,
            (self._table[np.frombuffer(bid_tops, np.int64)], self._table[np.frombuffer(ask_tops, np.int64)]),
            (counts[0], counts[1]),
            counts[0] >= 0,
            self._table["price"][changes.base :],
            changes.was_out,
        )

    def _carry(self, new: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The table for the next chunk: what the books still hold, and behind it the levels of the chunk's steps."""
        kept = np.frombuffer(b"".join(side.tobytes() for book in self._books.values() for side in book), np.int64)
        table = np.concatenate((np.zeros(1, dtype=_LEVEL), self._table[kept], new))
        number = 1
        for key, (bids, asks) in self._books.items():
            middle, end = number + len(bids), number + len(bids) + len(asks)
            self._books[key] = array("q", range(number, middle)), array("q", range(middle, end))
            number = end
        self._table = table
        return table


_Sides = tuple["array[int]", "array[int]"]
_UNKNOWN: _Sides = (array("q"), array("q"))
_FULL, _BREAK_ROW = RowKind.FULL.value, RowKind.BREAK.value  # plain text: compared for each row
_SET_STEP, _INSERT_STEP = int(Action.SET), int(Action.INSERT)


class _Steppings:
    """Takes the steps of a chunk, on numbers in its table; each step's own level is behind ``base``."""

    def __init__(self, steps: _Steps, table: npt.NDArray[Any], *, with_changes: bool) -> None:
        self.base = len(table) - len(steps.levels)
        self.prices: list[float] = table["price"].tolist()
        self.was_out: list[int] = []  # with changes
        self._sides, self._actions, self._slots = steps.sides.tolist(), steps.actions.tolist(), steps.slots.tolist()
        self._with_changes = with_changes

    def take(self, book: _Sides, begin: int, end: int) -> None:
        """The steps of one row. ValueError for one that does not fit the book."""
        prices, base, sides, actions, slots = self.prices, self.base, self._sides, self._actions, self._slots
        sizes = len(book[0]), len(book[1])
        has_removed = False
        try:
            for number in range(begin, end):
                levels, action, slot, step = book[sides[number]], actions[number], slots[number], number + base
                if action == _SET_STEP:
                    prices[step] = prices[levels[slot]]
                    levels[slot] = step
                elif action == _INSERT_STEP:
                    if slot > len(levels):
                        raise IndexError
                    levels.insert(slot, step)
                else:
                    prices[step] = prices[levels[slot]]
                    del levels[slot]
                    has_removed = True
        except IndexError:
            raise ValueError("a change of a level that is not there") from None
        if has_removed and self._with_changes:
            self._note_out(book, sizes, begin, end)

    def _note_out(self, book: _Sides, sizes: tuple[int, int], begin: int, end: int) -> None:
        """Which removed levels may still be there: behind the last one that is shown."""
        for step in range(begin, end):
            side, action = self._sides[step], self._actions[step]
            levels = book[side]
            if action in (_SET_STEP, _INSERT_STEP) or not levels or len(levels) < sizes[side]:
                continue
            gone, worst = self.prices[self.base + step], self.prices[levels[-1]]
            if gone > worst if side else gone < worst:
                self.was_out.append(step)


def _wide_batch(chunk: _Chunk, walked: _Walked, names: dict[int, str], depth: int) -> pa.RecordBatch:
    unknown = ~walked.known_rows
    columns = [
        _names_column(chunk.symbol_ids, names),
        pa.array(chunk.recv_ts_us, type=_RECV),
        pa.array(chunk.update_nos),
        pa.array(chunk.kinds).dictionary_encode(),
        pa.array(chunk.merged),
        pa.array(chunk.bid_ts_ms[0], type=_SIDE_TS, mask=chunk.bid_ts_ms[1]),
        pa.array(chunk.ask_ts_ms[0], type=_SIDE_TS, mask=chunk.ask_ts_ms[1]),
        pa.array(walked.counts[0], mask=unknown),
        pa.array(walked.counts[1], mask=unknown),
    ]
    for side in range(2):
        tops = walked.top(side, depth)
        for level in range(depth):
            absent = walked.counts[side] <= level
            for name in ("price", "volume", "orders"):
                columns.append(pa.array(np.ascontiguousarray(tops[:, level][name]), mask=absent))  # noqa: PERF401
    return pa.RecordBatch.from_arrays(columns, schema=wide_schema(depth))


def _long_batch(chunk: _Chunk, walked: _Walked, names: dict[int, str]) -> pa.RecordBatch:
    """A row a step, and one for each push without any."""
    steps = walked.steps
    first = np.array(steps.first, dtype=np.int64)
    # Steps of a symbol whose book is not known yet say nothing.
    per_row = np.where(walked.known_rows, np.diff(first), 0)
    rows = np.repeat(np.arange(len(chunk.kinds)), np.maximum(per_row, 1))
    has_step = per_row[rows] > 0
    step_rows = np.repeat(np.arange(len(chunk.kinds)), np.diff(first))
    told = walked.known_rows[step_rows] if len(step_rows) else np.zeros(0, dtype=np.bool_)
    actions = np.array([_SET, _ADD, _GONE])[steps.actions]
    actions[walked.was_out] = _OUT
    is_break = ~walked.known_rows
    out_actions = np.where(is_break[rows], _BREAK, _SAME)
    out_actions[has_step] = actions[told]
    sides = np.zeros(len(rows), dtype=np.int64)
    sides[has_step] = steps.sides[told]
    prices = np.zeros(len(rows))
    prices[has_step] = walked.step_prices[told]
    values = {name: np.zeros(len(rows), dtype=np.int64) for name in ("volume", "orders")}
    for name, column in values.items():
        column[has_step] = steps.levels[name][told]
    absent = ~has_step
    side_times, no_times = (np.where(sides == 0, b[rows], a[rows]) for b, a in zip(chunk.bid_ts_ms, chunk.ask_ts_ms))  # noqa: B905
    columns = [
        _names_column(chunk.symbol_ids[rows], names),
        pa.array(chunk.recv_ts_us[rows], type=_RECV),
        pa.array(chunk.update_nos[rows]),
        pa.array(np.array([kind == RowKind.FULL for kind in chunk.kinds])[rows]),
        _coded(sides, _SIDES, absent),
        pa.array(side_times, type=_SIDE_TS, mask=absent | no_times),
        pa.array(prices, mask=absent),
        pa.array(values["volume"], mask=absent),
        pa.array(values["orders"], mask=absent),
        _coded(out_actions, _ACTIONS),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=LONG_SCHEMA)


def _coded(codes: _Ints, words: Sequence[str], mask: npt.NDArray[np.bool_] | None = None) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32), mask=mask), pa.array(list(words)))


def _names_column(symbol_ids: _Ints, names: dict[int, str]) -> pa.DictionaryArray:
    keys = sorted(names)
    return _coded(np.searchsorted(np.array(keys, dtype=np.int64), symbol_ids), [names[key] for key in keys])


class _QuoteFilter:
    """Lets a row through when something that QUOTES tells of its symbol is new."""

    def __init__(self) -> None:
        self._last: dict[int, tuple[object, ...]] = {}

    def changed(self, batch: pa.RecordBatch, symbol_ids: _Ints) -> pa.RecordBatch:
        """The rows of a batch with one level that differ from the symbol's row before."""
        told = [batch.column(f"{side}_{name}_0").to_pylist() for side in _SIDES for name in ("px", "qty", "n")]
        keep: list[int] = []
        last = self._last
        levels = batch.column("bid_levels").is_null().to_pylist()
        for row, (key, *quote) in enumerate(zip(symbol_ids.tolist(), levels, *told, strict=True)):
            if last.get(key) != (now := tuple(quote)):
                last[key] = now
                keep.append(row)
        return batch.take(pa.array(keep, type=pa.int64()))
