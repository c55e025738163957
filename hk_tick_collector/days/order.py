"""Ticks sorted by symbol and time, or as they were stored, a bucket at a time: a day never lies in memory unpacked.

Batches arrive in any order. Each is parted by symbol, or by time, into buckets at once, and the parts are kept
compressed: about 16 bytes a tick instead of 110, so that a day of five million ticks takes 80 MB. In the end one bucket
after the other is unpacked, sorted and handed on, and its memory given back. Nothing is put on a disk: there is nothing
to run full and nothing to leave behind.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

BUCKET_ROWS = 200_000  # what is sorted at a time; a symbol with more is one bucket
PARTED_ROWS = 131_072  # what is parted at a time: parts of fewer rows are packed worse
TABLE_ROWS = 65_536  # what is handed on at a time, at most
TABLES_AHEAD = 4  # sorted before they are asked for: a bucket's last table is soon written, the next bucket's is not
_PACKING = pa.ipc.IpcWriteOptions(compression=pa.Codec("zstd", compression_level=1), use_threads=False)
# A NULL sequence goes last; no sequence reaches the end of int64 before the year 2038 (its second is in the high half).
_LAST = np.iinfo(np.int64).max

_I64 = npt.NDArray[np.int64]
_Item = TypeVar("_Item")


def sorted_tables(batches: Iterable[pa.RecordBatch], rows_by_symbol: Mapping[str, int]) -> Iterator[pa.Table]:
    """All rows as tables that follow each other in the order of symbol, time, sequence (those without one last).

    ``batches`` need ``symbol``, ``ts_ms`` and ``seq`` and have one schema, dictionaries aside. ``rows_by_symbol``:
    about how many will come, to part them evenly; wrong numbers and unknown symbols cost memory only.
    """
    buckets = _BySymbol(_bounds(rows_by_symbol))
    for batch in batches:
        buckets.add(batch)
    # Tables are sorted while the consumer writes the ones before: a fifth of the time of an export.
    yield from _made_ahead(buckets.sorted_tables())


def tables_as_stored(batches: Iterable[pa.RecordBatch], stamps_ms: _I64) -> Iterator[pa.Table]:
    """All rows as tables that follow each other in the order of ``inserted_at_ms``, ``ts_ms`` and ``seq``, those in
    which they were stored. Rows that are equal in these stay as they come.

    ``batches`` need these columns and have one schema, dictionaries aside. ``stamps_ms``: ``inserted_at_ms`` of all
    rows; rows of one stamp are sorted at once, however many they are.
    """
    buckets = _ByStamp(_evenly(stamps_ms))
    del stamps_ms
    for batch in _made_ahead(iter(batches)):
        buckets.add(batch)
        del batch
    yield from _made_ahead(buckets.sorted_tables())


def _made_ahead(items: Iterator[_Item]) -> Iterator[_Item]:
    """The same, made by another thread while the consumer works on the ones before."""
    with ThreadPoolExecutor(1, thread_name_prefix="sort") as pool:
        coming = deque(pool.submit(next, items, None) for _ in range(TABLES_AHEAD))
        while (item := coming.popleft().result()) is not None:
            coming.append(pool.submit(next, items, None))
            yield item
            del item


def sort_table(table: pa.Table) -> pa.Table:
    """The same rows in the order of symbol, time, sequence, as one chunk with one dictionary a column."""
    table = table.unify_dictionaries().combine_chunks()
    if not table.num_rows:
        return table
    symbols = _array(table.column("symbol"))
    ranks = _ranks(symbols.dictionary.to_pylist())[symbols.indices.to_numpy(zero_copy_only=False)]
    keys = _keys(_array(table.column("ts_ms")), _array(table.column("seq")))
    if _is_sorted(ranks, *keys):  # as an archived day is, and a tenth of the time of reading it is saved
        return table
    return table.take(_order(ranks, *keys))


def parted(table: pa.Table) -> dict[str, pa.Table]:
    """The rows of each symbol, in their order, of a table in which they stand together; of one that has rows."""
    table = table.combine_chunks()
    return {symbol: table.slice(start, end - start) for symbol, (start, end) in stretches(table).items()}


def stretches(table: pa.Table) -> dict[str, tuple[int, int]]:
    """Where the rows of each symbol begin and end in such a table."""
    column = _array(table.column("symbol"))
    numbers, words = column.indices.to_numpy(zero_copy_only=False), column.dictionary.to_pylist()
    starts = np.flatnonzero(np.diff(numbers, prepend=numbers[:1] - 1))
    ends = np.append(starts[1:], len(numbers))
    named = [words[number] for number in numbers[starts].tolist()]
    return dict(zip(named, zip(starts.tolist(), ends.tolist(), strict=False), strict=True))


class _Buckets(ABC):
    """Ticks parted and packed, texts as numbers: one dictionary a column for all of them."""

    def __init__(self, bounds: npt.NDArray[Any]) -> None:
        """``bounds``: where each bucket but the first one begins."""
        self._bounds = bounds
        self._packed: list[list[bytes]] = [[] for _ in range(len(bounds) + 1)]
        self._numbers: dict[str, dict[str | None, int]] = {}  # of each text, by column
        self._schema = pa.schema([])
        self._waiting: list[pa.RecordBatch] = []
        self._waiting_rows = 0

    def add(self, batch: pa.RecordBatch) -> None:
        """Take rows in."""
        self._schema = batch.schema
        self._waiting.append(self._coded(batch))
        self._waiting_rows += batch.num_rows
        if self._waiting_rows >= PARTED_ROWS:
            self._part()

    def sorted_tables(self) -> Iterator[pa.Table]:
        """The rows in order, once: each bucket's memory is given back when it is through."""
        self._part()
        _give_back()
        self._packed.reverse()
        while self._packed:
            parts = self._packed.pop()
            if not parts:
                continue
            columns, order = self._unpacked(parts)
            for start in range(0, len(order), TABLE_ROWS):
                yield self._table(columns, order.slice(start, TABLE_ROWS))
            del columns, order
            _give_back()

    def _unpacked(self, parts: list[bytes]) -> tuple[list[pa.Array], pa.Array]:
        """A bucket's columns, and which row comes first, second, ... ``parts`` is empty after it."""
        columns = _unpacked(parts)
        return columns, self._order(dict(zip(self._schema.names, columns, strict=True)))

    def _table(self, columns: Sequence[pa.Array], order: pa.Array) -> pa.Table:
        texts = {name: pa.array(list(numbers), pa.string()) for name, numbers in self._numbers.items()}
        taken = [column.take(order) for column in columns]
        return pa.Table.from_arrays(
            [
                pa.DictionaryArray.from_arrays(array, texts[name]) if name in texts else array
                for name, array in zip(self._schema.names, taken, strict=True)
            ],
            schema=self._schema,
        )

    def _coded(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        columns = []
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            if pa.types.is_dictionary(column.type):
                numbers = self._numbers.setdefault(name, {})
                number_of = [numbers.setdefault(text, len(numbers)) for text in column.dictionary.to_pylist()]
                columns.append(pa.array(number_of, pa.int32()).take(column.indices))
            else:
                columns.append(column)
        return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)

    def _part(self) -> None:
        """Pack what waits."""
        if not self._waiting_rows:
            return
        rows = pa.Table.from_batches(self._waiting).combine_chunks().to_batches()[0]
        self._waiting, self._waiting_rows = [], 0
        order, edges = self._apart(rows)
        rows = rows.take(pa.array(order))
        for parts, start, end in zip(self._packed, [0, *edges], [*edges, len(order)], strict=True):
            if end > start:
                parts.append(_pack(rows.slice(start, end - start)))
        _give_back()

    @abstractmethod
    def _apart(self, rows: pa.RecordBatch) -> tuple[_I64, list[int]]:
        """The rows' places with those of each bucket together, and where each bucket but the first one begins."""

    @abstractmethod
    def _order(self, columns: Mapping[str, pa.Array]) -> pa.Array:
        """Which row of a bucket comes first, second, ..."""


class _BySymbol(_Buckets):
    """``bounds``: the first symbol of each bucket but the first one."""

    def __init__(self, bounds: Sequence[str]) -> None:
        super().__init__(np.array(bounds, dtype=object))

    def _apart(self, rows: pa.RecordBatch) -> tuple[_I64, list[int]]:
        ranks = self._symbol_ranks()[rows.column("symbol").to_numpy()]
        order = np.argsort(ranks, kind="stable")
        names = np.sort(np.array(list(self._numbers["symbol"]), dtype=object))
        return order, np.searchsorted(ranks[order], np.searchsorted(names, self._bounds)).tolist()

    def _order(self, columns: Mapping[str, pa.Array]) -> pa.Array:
        ranks = self._symbol_ranks()[columns["symbol"].to_numpy()]
        return _order(ranks, *_keys(columns["ts_ms"], columns["seq"]))

    def _symbol_ranks(self) -> npt.NDArray[np.int32]:
        return _ranks(list(self._numbers["symbol"]))


class GroupedTicks(_BySymbol):
    """Ticks by groups of symbols, each to be had as often as it is wanted. The groups follow each other in order."""

    def __init__(self, groups: Sequence[Sequence[str]], batches: Iterable[pa.RecordBatch]) -> None:
        """``batches``: as of ``sorted_tables``, of these symbols alone."""
        super().__init__([group[0] for group in groups[1:]])
        for batch in batches:
            self.add(batch)
        self._part()
        _give_back()

    def table(self, group: int) -> pa.Table | None:
        """The rows of a group, by its number, in the order of ``sort_table``, as one chunk; None when there are
        none."""
        parts = self._packed[group]
        return self._table(*self._unpacked(list(parts))) if parts else None


class _ByStamp(_Buckets):
    """``bounds``: the last ``inserted_at_ms`` of each bucket but the last one."""

    def _apart(self, rows: pa.RecordBatch) -> tuple[_I64, list[int]]:
        stamps = _epoch_ms(rows.column("inserted_at_ms"))
        numbers = np.searchsorted(self._bounds, stamps).astype(np.int16 if len(self._bounds) < 1 << 15 else np.int64)
        order = np.argsort(numbers, kind="stable")
        return order, np.searchsorted(numbers[order], np.arange(1, len(self._bounds) + 1)).tolist()

    def _order(self, columns: Mapping[str, pa.Array]) -> pa.Array:
        return _order(_epoch_ms(columns["inserted_at_ms"]), *_keys(columns["ts_ms"], columns["seq"]))


def _pack(part: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, part.schema, options=_PACKING) as writer:
        writer.write_batch(part)
    packed: bytes = sink.getvalue().to_pybytes()  # the sink's own buffer is up to twice as large
    return packed


def _unpacked(parts: list[bytes]) -> list[pa.Array]:
    """The columns of these parts. ``parts`` is empty after it."""
    table = pa.concat_tables([pa.ipc.open_stream(part).read_all() for part in parts])
    parts.clear()
    chunked = table.columns
    del table
    columns = []
    while chunked:  # one by one: never all of them twice
        columns.append(_array(chunked.pop()))
    _give_back()
    return columns[::-1]


def _keys(times: pa.Array, seq: pa.Array) -> tuple[_I64, _I64]:
    """Times and sequences to sort by."""
    return _epoch_ms(times), pc.fill_null(seq, _LAST).to_numpy(zero_copy_only=False)


def _epoch_ms(times: pa.Array) -> _I64:
    epoch_ms: _I64 = times.view(pa.int64()).to_numpy(zero_copy_only=False)
    return epoch_ms


def _order(ranks: npt.NDArray[Any], epoch_ms: _I64, seqs: _I64) -> pa.Array:
    """Which row comes first, second, ..."""
    return pa.array(np.lexsort((seqs, epoch_ms, ranks)))


def _is_sorted(*keys: npt.NDArray[Any]) -> bool:
    """Are rows in the order of these keys, the first one above all?"""
    in_order = np.ones(len(keys[0]) - 1, np.bool_)  # where all keys are equal
    for key in reversed(keys):
        in_order = (key[:-1] < key[1:]) | ((key[:-1] == key[1:]) & in_order)
    return bool(in_order.all())


def _ranks(names: Sequence[str | None]) -> npt.NDArray[np.int32]:
    """Of each name its place in the order of names."""
    ranks = np.empty(len(names), np.int32)
    ranks[np.argsort(np.array(names, dtype=object))] = np.arange(len(names))
    return ranks


def _array(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _bounds(rows_by_symbol: Mapping[str, int]) -> list[str]:
    """The first symbol of each bucket but the first one."""
    bounds = []
    filled_rows = 0
    for symbol, rows in sorted(rows_by_symbol.items()):
        if filled_rows and filled_rows + rows > BUCKET_ROWS:
            bounds.append(symbol)
            filled_rows = 0
        filled_rows += rows
    return bounds


def _evenly(stamps_ms: _I64) -> _I64:
    """The last stamp of each bucket but the last one, so that they have about BUCKET_ROWS rows each."""
    ends = np.arange(BUCKET_ROWS, len(stamps_ms), BUCKET_ROWS) - 1
    return np.unique(np.partition(stamps_ms, ends)[ends])


def _give_back() -> None:
    """Let the allocators return what they hold in reserve, Arrow's and the C library's."""
    pa.default_memory_pool().release_unused()
    pa.system_memory_pool().release_unused()  # malloc_trim, for the drivers' and numpy's memory
