"""Ticks sorted by symbol and time, a part at a time: a whole day never lies in memory twice.

Batches arrive in any order. Each is parted by symbol into buckets at once; in the end one bucket after the other is
joined, sorted and handed on, and its memory given back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

BUCKET_ROWS = 400_000  # what is sorted at a time; a symbol with more is one bucket


def sorted_tables(batches: Iterable[pa.RecordBatch], rows_by_symbol: Mapping[str, int]) -> Iterator[pa.Table]:
    """All rows as tables that follow each other in the order of symbol, time, sequence (those without one last).

    ``batches`` need ``symbol``, ``ts_ms`` and ``seq``. ``rows_by_symbol``: about how many will come, to part them
    evenly; wrong numbers and unknown symbols cost memory only.
    """
    bounds = _bounds(rows_by_symbol)
    parts: list[list[pa.RecordBatch]] = [[] for _ in range(len(bounds) + 1)]
    for batch in batches:
        for number, part in _split(batch, bounds):
            parts[number].append(part)
    waiting = [part for part in reversed(parts) if part]
    del parts

    def next_bucket() -> pa.Table:
        return sort_table(pa.Table.from_batches(waiting.pop()))

    # One bucket is sorted while the consumer writes the one before: a fifth of the time of an export.
    with ThreadPoolExecutor(1, thread_name_prefix="sort") as pool:
        sorting = [pool.submit(next_bucket)] if waiting else []
        while sorting:
            table = sorting.pop().result()
            if waiting:
                sorting.append(pool.submit(next_bucket))
            yield table


def sort_table(table: pa.Table) -> pa.Table:
    """The same rows in the order of symbol, time, sequence, as one chunk with one dictionary a column."""
    table = table.unify_dictionaries().combine_chunks()
    if not table.num_rows:
        return table
    symbols = _chunk(table, "symbol")
    names = np.array(symbols.dictionary.to_pylist(), dtype=object)
    rank = np.empty(len(names), np.int64)
    rank[np.argsort(names)] = np.arange(len(names))
    codes = rank[symbols.indices.to_numpy(zero_copy_only=False)]
    times = _chunk(table, "ts_ms").view(pa.int64()).to_numpy(zero_copy_only=False)
    seq = _chunk(table, "seq")
    # A NULL goes last; no sequence reaches the end of int64 before the year 2038 (its second is in the high half).
    seqs = pc.fill_null(seq, np.iinfo(np.int64).max).to_numpy(zero_copy_only=False)
    return table.take(pa.array(np.lexsort((seqs, times, codes))))


def _chunk(table: pa.Table, name: str) -> pa.Array:
    column = table.column(name)
    return column.chunk(0) if column.num_chunks else pa.array([], column.type)


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


def _split(batch: pa.RecordBatch, bounds: Sequence[str]) -> Iterator[tuple[int, pa.RecordBatch]]:
    if not bounds:
        yield 0, batch
        return
    symbols = batch.column(batch.schema.get_field_index("symbol"))
    names = np.array(symbols.dictionary.to_pylist(), dtype=object)
    bucket_of = np.searchsorted(np.array(bounds, dtype=object), names, side="right")
    buckets = bucket_of[symbols.indices.to_numpy(zero_copy_only=False)]
    order = np.argsort(buckets, kind="stable")
    edges = np.searchsorted(buckets[order], np.arange(len(bounds) + 2))
    for number in range(len(bounds) + 1):
        start, end = int(edges[number]), int(edges[number + 1])
        if end > start:  # each part with memory of its own, so that it is given back with its bucket
            yield number, batch.take(pa.array(order[start:end]))
