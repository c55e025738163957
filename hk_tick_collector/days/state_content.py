"""What a set of order books or broker queues holds, in a few numbers, as ``days.content`` has it of ticks.

A row is one of ``days.stored_states``: its number, its times and the stored payload are mixed one after the other; of
books the levels that the payload led to are added up, each times a number of its own. So a changed bit, a lost, doubled
or renumbered row gives other sums, in whatever order rows come.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from hk_tick_collector.days.content import MIX_NULL, MIX_STEP, SymbolContent, mixed
from hk_tick_collector.days.stored_states import Stored

_U64 = npt.NDArray[np.uint64]


def state_content_of(batches: Iterable[pa.RecordBatch], stored: Stored) -> dict[str, SymbolContent]:
    """By symbol; times and sequences are left out."""
    content = StateContent(stored)
    for batch in batches:
        content.add(batch)
    return content.symbols


class StateContent:
    """The books or queues of a day by symbol, filled batch by batch."""

    def __init__(self, stored: Stored) -> None:
        self._stored = stored
        self.symbols: dict[str, SymbolContent] = {}

    def add(self, batch: pa.RecordBatch) -> None:
        """Count a batch in."""
        if not batch.num_rows:
            return
        numbers = _row_numbers(batch, self._stored)
        symbols = batch.column(batch.schema.get_field_index("symbol"))
        codes = symbols.indices.to_numpy(zero_copy_only=False)
        names = symbols.dictionary.to_pylist()
        for code in np.unique(codes).tolist():
            mine = numbers[codes == code]
            part = SymbolContent(
                rows=len(mine),
                sum_1=int(np.add.reduce(mine, dtype=np.uint64)),
                sum_2=int(np.add.reduce(mixed(mine), dtype=np.uint64)),
            )
            self.symbols.setdefault(names[code], SymbolContent()).add(part)


def _row_numbers(batch: pa.RecordBatch, stored: Stored) -> _U64:
    total = np.zeros(batch.num_rows, np.uint64)
    for name in stored.summed:
        total += _values(batch.column(batch.schema.get_field_index(name))) * np.uint64(stored.factor_of(name))
    hashes = mixed(total + np.uint64(MIX_STEP))
    for name in stored.chained:
        values = _values(batch.column(batch.schema.get_field_index(name)))
        hashes = mixed(hashes + np.uint64(MIX_STEP) + values)
    return hashes


def _values(array: pa.Array) -> _U64:
    """Each value as 64 bits of its own."""
    if pa.types.is_binary(array.type):
        values = _checksums(array.to_pylist())
    elif pa.types.is_list(array.type):
        values = _checksums([f"[{','.join(map(str, places))}]".encode() for places in array.to_pylist()])
    elif pa.types.is_dictionary(array.type):
        digests = np.array([_digest(text) for text in array.dictionary.to_pylist()], np.uint64)
        values = digests[array.indices.to_numpy(zero_copy_only=False)]
    elif pa.types.is_floating(array.type):
        values = pc.fill_null(array, 0.0).to_numpy(zero_copy_only=False).view(np.uint64)
    else:
        values = pc.fill_null(array.view(pa.int64()), 0).to_numpy(zero_copy_only=False).view(np.uint64)
    if array.null_count:
        values = np.where(np.asarray(pc.is_valid(array)), values, np.uint64(MIX_NULL))
    return values


def _checksums(texts: Sequence[bytes]) -> _U64:
    """A checksum of 32 bits, and the length above it."""
    return np.array([zlib.crc32(text) | len(text) << 32 for text in texts], np.uint64)


def _digest(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
