"""Two recordings of one symbol's day, held against each other: which ticks both have, and what one has alone.

Two recorders beside each other hear the same trades and lose different ones. A tick with a sequence is the same tick
where both have that sequence; the others are told apart as the store tells them apart (store/copying.py). What came to
either of them when, and by push or pull, is no part of a trade.

That sequences name the same trade in two OpenDs was never seen live, so it is checked and not believed: ``otherwise``
counts ticks that have one sequence and are different trades, ``renumbered`` trades that both have under different
sequences. Where either is not zero, the two recordings cannot be joined.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from hk_tick_collector.records.columns import Role, with_role
from hk_tick_collector.records.tick import SEQ_COUNTER_MASK
from hk_tick_collector.store.connect import ROW_COLUMNS
from hk_tick_collector.store.copying import without_a_row

if TYPE_CHECKING:
    from hk_tick_collector.days.catalog import Day

COMPARED = ("symbol", "ts_ms", "price", "volume", "turnover", "direction", "seq", "tick_type", "occurrence")
CAME_AT = "recv_ts_ms"
COLUMNS = (*COMPARED, CAME_AT)

_CONTENT = ("price", "volume", *with_role(Role.CONTENT))  # beside its time, what a trade is
_I64 = npt.NDArray[np.int64]
_BOOL = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Difference:
    """What two recordings of a symbol's day have, each in rows. ``first_only`` and ``second_only`` are places in the
    two tables."""

    first_rows: int
    second_rows: int
    first_only: _I64
    second_only: _I64
    otherwise: int  # one sequence, and not the same trade
    renumbered: int  # the same trade, and not the same sequence
    first_came_first: int  # of those that both have: how many the first recording received earlier
    second_came_first: int
    median_lead_ms: float | None  # by how much, by the two machines' clocks; None when they share no tick

    @property
    def common_rows(self) -> int:
        """Ticks that both have, as the same trade."""
        return self.first_rows - len(self.first_only) - self.otherwise

    @property
    def is_equal(self) -> bool:
        """Have both the same ticks?"""
        return not (len(self.first_only) or len(self.second_only) or self.otherwise)

    @property
    def contradicts(self) -> bool:
        """Can they not be two recordings of the same numbered trades?"""
        return bool(self.otherwise or self.renumbered)


def compare(first: pa.Table, second: pa.Table, *, counts: bool = True) -> Difference:
    """Hold two recordings of one symbol's day against each other. Both have ``COLUMNS``.

    ``counts``: whether the low half of a sequence counts the symbol's ticks, so that one number cannot be two trades::

        compare(ticks_of_a, ticks_of_b).first_only  # places in the first table whose ticks the second has not
    """
    paired = _paired(first, second)
    numbers, others = paired.numbers, paired.others
    renumbered = _renumbered(first, paired.first_only, second, paired.second_only)
    if counts:
        renumbered += _counted_otherwise(numbers, paired.first_only, others, paired.second_only)
    leads = _leads_ms(first, second, paired.pairs[paired.same], paired.others_pairs[paired.same])
    return Difference(
        first.num_rows,
        second.num_rows,
        paired.first_only,
        paired.second_only,
        paired.otherwise,
        renumbered,
        int(np.count_nonzero(leads > 0)),
        int(np.count_nonzero(leads < 0)),
        float(np.median(leads)) if len(leads) else None,
    )


def lacking(first: pa.Table, second: pa.Table) -> tuple[_I64, int]:
    """What the first recording lacks of the second: the places in the second table of ticks that it has not, and how
    many it has otherwise. ``second_only`` and ``otherwise`` of ``compare``, in less time."""
    paired = _paired(first, second)
    return paired.second_only, paired.otherwise


def differences(first: Day, second: Day, symbols: Sequence[str] | None = None) -> Iterator[tuple[str, Difference]]:
    """Every symbol of two recordings of a day, or those of these, in order. StoreError as of ``Day.ticks``."""
    notes = [{row.symbol: row.distrust for row in day.coverage()} for day in (first, second)]
    held = [day.rows_by_symbol() for day in (first, second)]
    wanted = sorted({*held[0], *held[1]} if symbols is None else {*symbols})
    tables_of = [day.ticks_by_symbol(wanted, COLUMNS) for day in (first, second)]
    for (symbol, table), (_, other) in zip(*tables_of, strict=True):
        counts = all(distrust.get(symbol) is None for distrust in notes)
        yield symbol, compare(table, other, counts=counts)


@dataclass(frozen=True, slots=True)
class _Paired:
    """Two tables held against each other. ``numbers``, ``others``: the sequences of each, and which rows have one.
    ``pairs`` and ``others_pairs``: places of one sequence; ``same``: whether they are the same trade."""

    numbers: tuple[_I64, _BOOL]
    others: tuple[_I64, _BOOL]
    pairs: _I64
    others_pairs: _I64
    same: _BOOL
    first_only: _I64
    second_only: _I64

    @property
    def otherwise(self) -> int:
        """Of the pairs."""
        return int(len(self.same) - np.count_nonzero(self.same))


def _paired(first: pa.Table, second: pa.Table) -> _Paired:
    numbers, others = (_sequences(table) for table in (first, second))
    keyed, others_keyed = (np.flatnonzero(mask) for _, mask in (numbers, others))
    _, at, others_at = np.intersect1d(
        numbers[0][keyed], others[0][others_keyed], assume_unique=True, return_indices=True
    )
    pairs, others_pairs = keyed[at], others_keyed[others_at]
    same = _same_trade(first, pairs, second, others_pairs)
    first_left, second_left = _rest(first.num_rows, pairs), _rest(second.num_rows, others_pairs)
    if numbers[1][first_left].all() and others[1][second_left].all():
        only = first_left, second_left
    else:
        only = _unmatched(first, first_left, second, second_left)
    return _Paired(numbers, others, pairs, others_pairs, same, *only)


def _rest(rows: int, places: _I64) -> _I64:
    """The other places of so many rows, ascending."""
    is_left = np.ones(rows, bool)
    is_left[places] = False
    return np.flatnonzero(is_left)


def _sequences(table: pa.Table) -> tuple[_I64, _BOOL]:
    """Each row's sequence (0 for none), and whether it has one."""
    column = table.column("seq").combine_chunks()
    return _numbers(column), np.asarray(pc.is_valid(column))


def _numbers(column: pa.Array | pa.ChunkedArray) -> _I64:
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    numbers: _I64 = pc.fill_null(column.cast(pa.int64()), 0).to_numpy(zero_copy_only=False)
    return numbers


def _same_trade(first: pa.Table, pairs: _I64, second: pa.Table, others_pairs: _I64) -> _BOOL:
    """Pair by pair. Some channels cut a time to the second (``records.tick.same_moment``)."""
    times, others = _numbers(first.column("ts_ms"))[pairs], _numbers(second.column("ts_ms"))[others_pairs]
    cut = (times // 1000 == others // 1000) & ((times % 1000 == 0) | (others % 1000 == 0))
    same: _BOOL = (times == others) | cut
    for name in _CONTENT:
        mine, theirs = (table.column(name).combine_chunks() for table in (first, second))
        if pa.types.is_dictionary(mine.type):
            known: dict[str | None, int] = {None: -1}
            same &= _codes(mine, known)[pairs] == _codes(theirs, known)[others_pairs]
        else:
            same &= _equal(mine.take(pa.array(pairs)), theirs.take(pa.array(others_pairs)))
    return same


def _codes(column: pa.Array, known: dict[str | None, int]) -> _I64:
    """A number for each value, the same for the same text in all columns with one ``known``; -1 for none."""
    code_of = [known.setdefault(text, len(known)) for text in (*column.dictionary.to_pylist(), None)]
    return np.array(code_of, np.int64)[_numbers(pc.fill_null(column.indices, len(code_of) - 1))]


def _equal(mine: pa.Array, theirs: pa.Array) -> _BOOL:
    equal = pc.fill_null(pc.equal(mine, theirs), False)
    if mine.null_count and theirs.null_count:
        equal = pc.or_(equal, pc.and_(pc.is_null(mine), pc.is_null(theirs)))
    return np.asarray(equal)


def _plain(column: pa.ChunkedArray) -> pa.Array:
    array = column.combine_chunks()
    return array.cast(array.type.value_type) if pa.types.is_dictionary(array.type) else array


def _unmatched(first: pa.Table, first_left: _I64, second: pa.Table, second_left: _I64) -> tuple[_I64, _I64]:
    """Of the rows without a partner by sequence those that have none by what the store goes by either."""
    rows, others = (_rows(table, places) for table, places in ((first, first_left), (second, second_left)))
    return _places(without_a_row(rows, others)), _places(without_a_row(others, rows))


def _rows(table: pa.Table, places: _I64) -> list[tuple[Any, ...]]:
    """The rows at these places as the store has them, with None for what is not compared, and the place behind."""
    part = table.take(pa.array(places))
    columns = {name: _plain(part.column(name)) for name in COMPARED}
    columns["ts_ms"] = columns["ts_ms"].cast(pa.int64())
    nothing = [None] * part.num_rows
    values = [columns[name].to_pylist() if name in columns else nothing for name in ROW_COLUMNS]
    return list(zip(*values, places.tolist(), strict=True))


def _places(rows: Sequence[tuple[Any, ...]]) -> _I64:
    return np.array(sorted(row[-1] for row in rows), np.int64)


def _renumbered(first: pa.Table, first_only: _I64, second: pa.Table, second_only: _I64) -> int:
    """How many of the ticks that each has alone are the same trades, when most of them are: else equal trades of one
    moment that each lost another one of."""
    if min(len(first_only), len(second_only)) < 2:
        return 0
    trades, others = (_trades(table, places) for table, places in ((first, first_only), (second, second_only)))
    shared = sum((trades & others).values())
    return shared if shared > 1 and 2 * shared > min(trades.total(), others.total()) else 0


def _trades(table: pa.Table, places: _I64) -> Counter[tuple[Any, ...]]:
    part = table.take(pa.array(places))
    values = [_plain(part.column(name)).to_pylist() for name in _CONTENT]
    return Counter(zip(_numbers(part.column("ts_ms")).tolist(), *values, strict=True))


def _counted_otherwise(
    numbers: tuple[_I64, _BOOL], first_only: _I64, others: tuple[_I64, _BOOL], second_only: _I64
) -> int:
    """How many of the ticks that one has alone bear a number that the other gives to a tick of its own."""
    first, second = (seqs[mask] & SEQ_COUNTER_MASK for seqs, mask in (numbers, others))
    alone, others_alone = (
        seqs[places][mask[places]] & SEQ_COUNTER_MASK
        for (seqs, mask), places in ((numbers, first_only), (others, second_only))
    )
    return int(np.count_nonzero(np.isin(alone, second)) + np.count_nonzero(np.isin(others_alone, first)))


def _leads_ms(first: pa.Table, second: pa.Table, pairs: _I64, others_pairs: _I64) -> _I64:
    """How much earlier the first recording received each tick that both have."""
    came = _numbers(first.column(CAME_AT).take(pa.array(pairs)))
    others_came = _numbers(second.column(CAME_AT).take(pa.array(others_pairs)))
    leads: _I64 = others_came - came
    return leads
