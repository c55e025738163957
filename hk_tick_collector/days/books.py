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

``recv_ts``: timestamp[us, UTC], our clock. ``bid_ts``, ``ask_ts``, ``side_ts``: timestamp[ms, UTC], the source's
server.
``update_no``: the row's number in its file. price: float64, volume (shares), orders: int64.

    for batch in read(book_file(data_root, "20261120"), Form.WIDE, symbols=["HK.00700"], depth=5): ...

Raises StoreUnavailable when there is no such file, StoreCorrupt when it is damaged.

``days.book_rows`` reads the rows, ``days.book_walk`` makes states of them, many thousand at a time; here they become
Arrow.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hk_tick_collector.core.errors import StoreCorrupt
from hk_tick_collector.days import book_rows
from hk_tick_collector.days.book_rows import FULL, KINDS, WHOLE, Chunk, Flags, Ints, Part, newest_no
from hk_tick_collector.days.book_walk import Floats, States, Walked
from hk_tick_collector.store.book_reader import symbols as symbols_of

__all__ = ["DEPTH", "WHOLE", "Form", "Part", "newest_no", "read", "schema_of", "walk"]

DEPTH = 10
MAX_DEPTH = 1000
BATCH_ROWS = 16_384  # 10 levels: 8 MB of Arrow

_RECV = pa.timestamp("us", tz="UTC")
_SIDE_TS = pa.timestamp("ms", tz="UTC")
_NAME = pa.dictionary(pa.int32(), pa.string())
_SIDES = ("bid", "ask")
_ACTIONS = ("add", "set", "gone", "out", "same", "break")
_ADD, _SET, _GONE, _OUT, _SAME, _BREAK = range(len(_ACTIONS))


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


PAYLOAD = "payload"
STORED_SCHEMA = wide_schema().append(pa.field(PAYLOAD, pa.binary(), nullable=False))


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
            batch = batch.filter(quotes.changed(rows.chunk, rows.walked)) if form is Form.QUOTES else batch
        batch = batch if part == WHOLE else _within(batch, part)
        for start in range(0, max(batch.num_rows, 1), BATCH_ROWS):
            yield batch.slice(start, BATCH_ROWS)


def read_stored(path: Path, part: Part = WHOLE, symbols: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
    """Record batches of ``STORED_SCHEMA``: WIDE, and beside it each row as the file has it. Who keeps them can make the
    file anew. ``symbols``: of these alone."""
    for rows in walk(path, symbols, part=part):
        wide = _wide_batch(rows.chunk, rows.walked, rows.names, DEPTH)
        batch = pa.RecordBatch.from_arrays([*wide.columns, rows.chunk.payloads], schema=STORED_SCHEMA)
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
    states = States(depth)
    only = None if symbols is None and part == WHOLE else sorted(names)
    for chunk in book_rows.chunks(path, only, part, max(1, book_rows.CHUNK_ROWS * DEPTH // max(depth, DEPTH))):
        names = book_rows.names_in(path, chunk, names)
        try:
            for rows, walked in states.walk(chunk, with_changes=with_changes):
                yield WalkedRows(names, rows, walked)
        except (ValueError, TypeError) as exc:
            raise StoreCorrupt(f"{path} is damaged: {exc}") from exc


class WalkedRows(NamedTuple):
    """A chunk of a file, and what it led to."""

    names: dict[int, str]  # by symbol_id
    chunk: Chunk
    walked: Walked


def _within(batch: pa.RecordBatch, part: Part) -> pa.RecordBatch:
    """Without the rows before a part, and behind it."""
    recv_us = batch.column("recv_ts").view(pa.int64())
    keep = pc.greater(batch.column("update_no"), part.after_no)
    if part.from_us is not None:
        keep = pc.and_(keep, pc.greater_equal(recv_us, part.from_us))
    if part.before_us is not None:
        keep = pc.and_(keep, pc.less(recv_us, part.before_us))
    return batch.filter(keep)


def _wide_batch(chunk: Chunk, walked: Walked, names: dict[int, str], depth: int) -> pa.RecordBatch:
    columns = [
        _names_column(chunk.symbol_ids, names),
        pa.array(chunk.recv_ts_us, type=_RECV),
        pa.array(chunk.update_nos),
        _coded(chunk.kinds, KINDS),
        pa.array(chunk.merged),
        pa.array(chunk.bid_ts_ms[0], type=_SIDE_TS, mask=chunk.bid_ts_ms[1]),
        pa.array(chunk.ask_ts_ms[0], type=_SIDE_TS, mask=chunk.ask_ts_ms[1]),
        *(_column(counts, _bits(walked.known_rows)) for counts in walked.counts),
    ]
    for shown, counts in zip(walked.shown, walked.counts, strict=True):
        for level, numbers in enumerate(np.ascontiguousarray(shown.T)):
            is_there = _bits(counts > level)  # once for the three
            columns += [_column(values, is_there) for values in walked.table.take(numbers)]
    return pa.RecordBatch.from_arrays(columns, schema=wide_schema(depth))


def _bits(is_there: Flags) -> pa.Buffer | None:
    """As Arrow tells which values are there; None for all of them."""
    return None if is_there.all() else pa.py_buffer(np.packbits(is_there, bitorder="little"))


def _column(values: Ints | Floats, is_there: pa.Buffer | None) -> pa.Array:
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), [is_there, pa.py_buffer(values)])


def _long_batch(chunk: Chunk, walked: Walked, names: dict[int, str]) -> pa.RecordBatch:
    """A row a step, and one for each push without any."""
    steps = walked.steps
    # Steps of a symbol whose book is not known yet say nothing.
    per_row = np.where(walked.known_rows, np.diff(steps.first), 0)
    rows = np.repeat(np.arange(len(chunk.kinds)), np.maximum(per_row, 1))
    has_step = per_row[rows] > 0
    told = walked.known_rows[steps.rows]
    actions = np.array([_SET, _ADD, _GONE])[steps.actions]
    actions[walked.was_out] = _OUT
    is_break = ~walked.known_rows
    out_actions = np.where(is_break[rows], _BREAK, _SAME)
    out_actions[has_step] = actions[told]
    sides = np.zeros(len(rows), dtype=np.int64)
    sides[has_step] = steps.sides[told]
    prices = np.zeros(len(rows))
    prices[has_step] = walked.step_prices[told]
    volumes, orders = np.zeros((2, len(rows)), dtype=np.int64)
    volumes[has_step], orders[has_step] = steps.levels.volume[told], steps.levels.orders[told]
    absent = ~has_step
    side_times, no_times = (np.where(sides == 0, b[rows], a[rows]) for b, a in zip(chunk.bid_ts_ms, chunk.ask_ts_ms))  # noqa: B905
    columns = [
        _names_column(chunk.symbol_ids[rows], names),
        pa.array(chunk.recv_ts_us[rows], type=_RECV),
        pa.array(chunk.update_nos[rows]),
        pa.array((chunk.kinds == FULL)[rows]),
        _coded(sides, _SIDES, absent),
        pa.array(side_times, type=_SIDE_TS, mask=absent | no_times),
        pa.array(prices, mask=absent),
        pa.array(volumes, mask=absent),
        pa.array(orders, mask=absent),
        _coded(out_actions, _ACTIONS),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=LONG_SCHEMA)


def _coded(codes: Ints, words: Sequence[str], mask: Flags | None = None) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32), mask=mask), pa.array(list(words)))


def _names_column(symbol_ids: Ints, names: dict[int, str]) -> pa.DictionaryArray:
    keys = sorted(names)
    return _coded(np.searchsorted(np.array(keys, dtype=np.int64), symbol_ids), [names[key] for key in keys])


class _QuoteFilter:
    """Lets a row through when something that QUOTES tells of its symbol is new."""

    def __init__(self) -> None:
        self._last: dict[int, Ints] = {}

    def changed(self, chunk: Chunk, walked: Walked) -> pa.Array:
        """Which rows differ from the symbol's row before, in the best levels or in that there are any."""
        order = np.argsort(chunk.symbol_ids, kind="stable")
        told = _quotes(walked)[order]
        ids = chunk.symbol_ids[order]
        firsts = np.flatnonzero(np.diff(ids, prepend=ids[0] - 1) != 0)
        is_new = np.ones(len(ids), dtype=np.bool_)
        is_new[1:] = np.any(told[1:] != told[:-1], axis=1)
        lasts = np.append(firsts[1:], len(ids)) - 1
        for key, first, last in zip(ids[firsts].tolist(), firsts.tolist(), lasts.tolist(), strict=True):
            is_new[first] = key not in self._last or bool(np.any(told[first] != self._last[key]))
            self._last[key] = told[last]
        by_row = np.empty(len(order), dtype=np.bool_)
        by_row[order] = is_new
        return pa.array(by_row)


def _quotes(walked: Walked) -> Ints:
    """A row a push: the best levels of both sides, as numbers that are alike when the quotes are."""
    told: list[Ints] = [walked.known_rows.astype(np.int64)]
    for side, counts in enumerate(walked.counts):
        best = walked.top(side)
        price = best.price[:, 0] + 0.0  # one zero
        told += [(counts > 0).astype(np.int64), price.view(np.int64), best.volume[:, 0], best.orders[:, 0]]
    return np.stack(told, axis=1)
