"""What a set of ticks holds, in a few numbers that do not depend on their order.

Each row becomes a 64-bit number from the bytes of all its values (a float's bits, a text's digest, NULL apart from 0
and ''), and the numbers of a symbol are added up: the same rows in any order, file format or dictionary give the same
sum, and one changed bit, a lost or a doubled row another one. Two sums (of the numbers, and of the numbers mixed once
more) make 128 bits. That finds damage and mistakes; it is no signature against somebody who forges rows on purpose.
Against him two files are counted with a key that he cannot know (``DayContent(new_key())``): each row's two numbers are
then from a keyed BLAKE2b of its values. Such sums are compared with each other alone and stand in no manifest.

A column that version 1 did not have counts where it holds a value, and nothing where it is NULL. So a day counts the
same before and after its file is migrated, and a manifest of any version holds for ever.

The algorithm is part of every manifest ever written: a change needs another ``ALGORITHM`` name beside this one.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from hk_tick_collector.records.columns import NAMES, later_than, names_of

ALGORITHM = "rowsum128-v1"
_FIRST_VERSION = 1
_MASK = (1 << 64) - 1
_U64 = npt.NDArray[np.uint64]
# splitmix64's constants (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
MIX_STEP = 0x9E3779B97F4A7C15
_STEP = np.uint64(MIX_STEP)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
MIX_NULL = 0xA5A5_5A5A_0F0F_F0F1  # what stands for NULL
_NULL: np.uint64 = np.uint64(MIX_NULL)


@dataclass(slots=True)
class SymbolContent:
    """One symbol's ticks. Times are UTC epoch ms; a sequence is None when no tick has one."""

    rows: int = 0
    first_ts_ms: int | None = None
    last_ts_ms: int | None = None
    min_seq: int | None = None
    max_seq: int | None = None
    sum_1: int = 0
    sum_2: int = 0

    @property
    def content_hash(self) -> str:
        """128 bits in hexadecimal."""
        return f"{self.sum_1:016x}{self.sum_2:016x}"

    def add(self, other: SymbolContent) -> None:
        """Take in more rows of the same symbol."""
        self.rows += other.rows
        self.first_ts_ms = _least(self.first_ts_ms, other.first_ts_ms)
        self.last_ts_ms = _most(self.last_ts_ms, other.last_ts_ms)
        self.min_seq = _least(self.min_seq, other.min_seq)
        self.max_seq = _most(self.max_seq, other.max_seq)
        self.sum_1 = (self.sum_1 + other.sum_1) & _MASK
        self.sum_2 = (self.sum_2 + other.sum_2) & _MASK


class DayContent:
    """The contents of a day by symbol, filled batch by batch with all columns that hold anything. ``key``: of
    ``new_key``, where somebody may have forged rows; only contents of the same key can be compared."""

    def __init__(self, key: bytes = b"") -> None:
        self.symbols: dict[str, SymbolContent] = {}
        self._key = key
        self._texts: dict[str, np.uint64] = {}

    @property
    def rows(self) -> int:
        """Ticks in all."""
        return sum(symbol.rows for symbol in self.symbols.values())

    @property
    def content_hash(self) -> str:
        """Over all symbols, 128 bits in hexadecimal."""
        total = SymbolContent()
        for symbol in self.symbols.values():
            total.add(symbol)
        return total.content_hash

    def add(self, batch: pa.RecordBatch) -> None:
        """Count a batch in."""
        if not batch.num_rows:
            return
        numbers = self._keyed_numbers(batch) if self._key else self._row_numbers(batch)
        symbols = batch.column(batch.schema.get_field_index("symbol"))
        codes = symbols.indices.to_numpy(zero_copy_only=False)
        order = np.argsort(codes, kind="stable") if np.any(codes[1:] < codes[:-1]) else None
        times = _ints(batch, "ts_ms")
        seq = batch.column(batch.schema.get_field_index("seq"))
        has_seq = np.asarray(pc.is_valid(seq))
        seqs = pc.fill_null(seq, 0).to_numpy(zero_copy_only=False)
        if order is not None:
            codes, numbers, times = codes[order], numbers[:, order], times[order]
            has_seq, seqs = has_seq[order], seqs[order]
        starts = np.flatnonzero(np.concatenate(([True], codes[1:] != codes[:-1])))
        ends = np.append(starts[1:], len(codes))
        firsts, lasts = np.minimum.reduceat(times, starts), np.maximum.reduceat(times, starts)
        sums_1, sums_2 = np.add.reduceat(numbers, starts, axis=1)
        names = symbols.dictionary.to_pylist()
        for n, (start, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
            with_seq = seqs[start:end][has_seq[start:end]]
            part = SymbolContent(
                end - start,
                int(firsts[n]),
                int(lasts[n]),
                int(with_seq.min()) if len(with_seq) else None,
                int(with_seq.max()) if len(with_seq) else None,
                int(sums_1[n]),
                int(sums_2[n]),
            )
            self.symbols.setdefault(names[codes[start]], SymbolContent()).add(part)

    def _keyed_numbers(self, batch: pa.RecordBatch) -> _U64:
        """Two numbers a row, which nobody without the key can foretell. NULL is told by a bit a column, and a column
        that a version lacks is NULL."""
        values = np.zeros((batch.num_rows, len(NAMES) + 1), np.uint64)
        for n, name in enumerate(NAMES):
            place = batch.schema.get_field_index(name)
            if place >= 0:
                is_there = np.asarray(pc.is_valid(batch.column(place)))
                values[:, n] = np.where(is_there, self._values(batch.column(place)), 0)
                values[:, -1] |= is_there.astype(np.uint64) << np.uint64(n)
        keyed = hashlib.blake2b(key=self._key, digest_size=16)
        digests = bytearray()
        for row in values:
            digest = keyed.copy()
            digest.update(row)
            digests += digest.digest()
        return np.frombuffer(digests, np.uint64).reshape(-1, 2).T

    def _row_numbers(self, batch: pa.RecordBatch) -> _U64:
        """Two numbers a row, as manifests count."""
        hashes = np.zeros(batch.num_rows, np.uint64)
        for name in names_of(_FIRST_VERSION):
            hashes = mixed(hashes + _STEP + self._values(batch.column(batch.schema.get_field_index(name))))
        for name in later_than(_FIRST_VERSION):
            place = batch.schema.get_field_index(name)
            array = batch.column(place) if place >= 0 else None
            if array is not None and array.null_count < len(array):
                salt = self._digest(name)  # without it a text would count the same in two columns
                told = mixed(hashes + salt + self._values(array))
                hashes = np.where(np.asarray(pc.is_valid(array)), told, hashes)
        return np.stack((hashes, mixed(hashes)))

    def _values(self, array: pa.Array) -> _U64:
        """Each value as 64 bits of its own."""
        if pa.types.is_dictionary(array.type):
            digests = np.array([self._digest(text) for text in array.dictionary.to_pylist()] or [_NULL], np.uint64)
            codes = pc.fill_null(array.indices, 0).to_numpy(zero_copy_only=False)
            values: _U64 = digests[codes]
        elif pa.types.is_floating(array.type):
            values = pc.fill_null(array, 0.0).to_numpy(zero_copy_only=False).view(np.uint64)
        else:
            values = pc.fill_null(array.view(pa.int64()), 0).to_numpy(zero_copy_only=False).view(np.uint64)
        if array.null_count:
            values = np.where(np.asarray(pc.is_valid(array)), values, _NULL)
        return values

    def _digest(self, text: str | None) -> np.uint64:
        if text is None:
            return _NULL
        if text not in self._texts:
            digest = hashlib.blake2b(text.encode(), digest_size=8, key=self._key).digest()
            self._texts[text] = np.uint64(int.from_bytes(digest, "little"))
        return self._texts[text]


def new_key() -> bytes:
    """A key for one comparison, kept in memory alone."""
    return secrets.token_bytes(32)


def content_of(batches: Iterable[pa.RecordBatch]) -> DayContent:
    """The contents of these batches together."""
    content = DayContent()
    for batch in batches:
        content.add(batch)
    return content


def mixed(values: _U64) -> _U64:
    """splitmix64's finalizer: every bit of the result depends on every bit of the value."""
    mixed: _U64 = values ^ (values >> np.uint64(30))
    mixed *= _MIX_1
    mixed ^= mixed >> np.uint64(27)
    mixed *= _MIX_2
    mixed ^= mixed >> np.uint64(31)
    return mixed


def _ints(batch: pa.RecordBatch, name: str) -> npt.NDArray[np.int64]:
    values: npt.NDArray[np.int64] = (
        batch.column(batch.schema.get_field_index(name)).view(pa.int64()).to_numpy(zero_copy_only=False)
    )
    return values


def _least(first: int | None, second: int | None) -> int | None:
    return second if first is None else first if second is None else min(first, second)


def _most(first: int | None, second: int | None) -> int | None:
    return second if first is None else first if second is None else max(first, second)
