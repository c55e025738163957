"""Two recordings of a day, held against each other symbol by symbol: which ticks both have, and what one has alone.

Two recorders beside each other hear the same trades and lose different ones. A tick with a sequence is the same tick
where both have that sequence; the others are told apart as the store tells them apart (store/copying.py). What came to
either of them when, and by push or pull, is no part of a trade.

That sequences name the same trade in two OpenDs was never seen live, so it is checked and not believed: ``otherwise``
counts ticks that have one sequence and are different trades, ``renumbered`` trades that both have under different
sequences. Where either is not zero, the two recordings cannot be joined.

Many symbols are held against each other at once: most have few ticks, and what is done for each of them by itself costs
a hundred times what its rows do. One by one only those come whose rows differ in more than that one of them lacks some.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from hk_tick_collector.days.groups import in_groups
from hk_tick_collector.records.columns import Role, with_role
from hk_tick_collector.records.tick import SEQ_COUNTER_MASK
from hk_tick_collector.store.connect import ROW_COLUMNS
from hk_tick_collector.store.copying import without_a_row

if TYPE_CHECKING:
    from hk_tick_collector.days.catalog import Day

COMPARED = ("symbol", "ts_ms", "price", "volume", "turnover", "direction", "seq", "tick_type", "occurrence")
CAME_AT = "recv_ts_ms"
COLUMNS = (*COMPARED, CAME_AT)
GROUP_ROWS = 200_000  # of both recordings, about so many are in memory at a time

_CONTENT = ("price", "volume", *with_role(Role.CONTENT))  # beside its time, what a trade is
_COUNTER_BITS = SEQ_COUNTER_MASK.bit_length()
_INT64_BITS = 63  # beside the sign
_I64 = npt.NDArray[np.int64]
_BOOL = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Difference:
    """What two recordings of a symbol's day have, each in rows. ``first_only`` and ``second_only`` are places among the
    symbol's rows in the two tables, ascending."""

    first_rows: int
    second_rows: int
    first_only: _I64
    second_only: _I64
    otherwise: int  # one sequence, and not the same trade
    renumbered: int  # the same trade, and not the same sequence
    first_came_first: int  # of those that both have: how many the first recording received earlier
    second_came_first: int
    first_cut: int  # of those that both have: how many the first tells to the second, and the other one finer
    second_cut: int

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

    def swapped(self) -> Difference:
        """The same, with the two recordings in the other order."""
        return replace(
            self,
            first_rows=self.second_rows,
            second_rows=self.first_rows,
            first_only=self.second_only,
            second_only=self.first_only,
            first_came_first=self.second_came_first,
            second_came_first=self.first_came_first,
            first_cut=self.second_cut,
            second_cut=self.first_cut,
        )


def compare(first: pa.Table, second: pa.Table, *, counts: bool = True) -> Difference:
    """Hold two recordings of one symbol's day against each other. Both have ``COLUMNS``.

    ``counts``: whether the low half of a sequence counts the symbol's ticks, so that one number cannot be two trades::

        compare(ticks_of_a, ticks_of_b).first_only  # places in the first table whose ticks the second has not
    """
    named = [table.column("symbol")[0].as_py() for table in (first, second) if table.num_rows]
    symbol = named[0] if named else ""
    return compare_all(first, second, [symbol], uncounted=() if counts else (symbol,))[symbol]


def compare_all(
    first: pa.Table, second: pa.Table, symbols: Sequence[str], *, uncounted: Container[str] = ()
) -> dict[str, Difference]:
    """The same of several symbols, which both tables have in this order and no other ones. ``uncounted``: those whose
    sequences do not count their ticks. Costs less than a microsecond a row, and little for each symbol."""
    sides = _side(first, symbols), _side(second, symbols)
    pairs = _paired(*sides)
    only = _alone(sides, pairs)
    renumbered = _renumbered_by_symbol(sides, only, len(symbols))
    counting = np.array([symbol not in uncounted for symbol in symbols], np.bool_)
    renumbered += np.where(counting, _counted_otherwise(sides, only, len(symbols)), 0)
    of_pair = sides[0].numbers[pairs.first]
    leads = _leads_ms(first, second, pairs)[pairs.same]
    times, others_times = (
        _numbers(table.column("ts_ms"))[places] for table, places in ((first, pairs.first), (second, pairs.second))
    )
    finer = (others_times - times)[pairs.same]  # of two times of one moment the later one tells more
    told = [_counts(of_pair[~pairs.same], symbols), renumbered]
    told += [_counts(of_pair[pairs.same][counted], symbols) for counted in (leads > 0, leads < 0, finer > 0, finer < 0)]
    rows = [np.diff(side.edges).tolist() for side in sides]
    alone = [_by_symbol(side, places) for side, places in zip(sides, only, strict=True)]
    values = zip(symbols, *rows, *alone, *(column.tolist() for column in told), strict=True)
    return {symbol: Difference(*symbol_values) for symbol, *symbol_values in values}


def differences(first: Day, second: Day, symbols: Sequence[str] | None = None) -> Iterator[tuple[str, Difference]]:
    """Every symbol of two recordings of a day, or those of these, in order. StoreError as of ``Day.ticks``."""
    distrusted = {row.symbol for day in (first, second) for row in day.coverage() if row.distrust is not None}
    held = [day.rows_by_symbol() for day in (first, second)]
    wanted = sorted({*held[0], *held[1]} if symbols is None else {*symbols})
    rows = {symbol: sum(rows_of.get(symbol, 0) for rows_of in held) for symbol in wanted}
    for group in in_groups(rows, GROUP_ROWS):
        yield from compare_all(
            first.ticks(group, COLUMNS), second.ticks(group, COLUMNS), group, uncounted=distrusted
        ).items()


# -- the rows of many symbols, held against each other -----------------------------------------------------------------


class _Side(NamedTuple):
    """One recording's rows: which symbol's each is, where those of each symbol begin and the last one's end, the
    sequence of each (0 for none), and whether it has one."""

    table: pa.Table
    numbers: _I64
    edges: _I64
    seqs: _I64
    is_keyed: _BOOL


_Sides = tuple[_Side, _Side]
_Places = tuple[_I64, _I64]  # in the one table, and in the other one


class _Pairs(NamedTuple):
    """Places of rows with one sequence, by symbol, and whether they are the same trade."""

    first: _I64
    second: _I64
    same: _BOOL


def _side(table: pa.Table, symbols: Sequence[str]) -> _Side:
    column = table.column("symbol").combine_chunks()
    encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    number_of = {symbol: number for number, symbol in enumerate(symbols)}
    words = np.array([number_of.get(word, -1) for word in encoded.dictionary.to_pylist()], np.int64)
    numbers = words[encoded.indices.to_numpy(zero_copy_only=False)]
    assert not len(numbers) or (numbers[0] >= 0 and (numbers[1:] >= numbers[:-1]).all()), "symbols in another order"
    seqs = table.column("seq").combine_chunks()
    edges = np.searchsorted(numbers, np.arange(len(symbols) + 1))
    return _Side(table, numbers, edges, _numbers(seqs), np.asarray(pc.is_valid(seqs)))


def _paired(first: _Side, second: _Side) -> _Pairs:
    keyed, others_keyed = np.flatnonzero(first.is_keyed), np.flatnonzero(second.is_keyed)
    numbers = np.concatenate([first.numbers[keyed], second.numbers[others_keyed]])
    seqs = np.concatenate([first.seqs[keyed], second.seqs[others_keyed]])
    order = _order(numbers, seqs)  # of equal ones the first recording's comes first
    numbers, seqs, is_other = numbers[order], seqs[order], order >= len(keyed)
    at = np.flatnonzero((numbers[1:] == numbers[:-1]) & (seqs[1:] == seqs[:-1]) & ~is_other[:-1] & is_other[1:])
    places, others = keyed[order[at]], others_keyed[order[at + 1] - len(keyed)]
    return _Pairs(places, others, _same_trade(first.table, places, second.table, others))


def _order(numbers: _I64, seqs: _I64) -> _I64:
    """Which row comes first, second, ... by symbol and sequence, equal ones as they come. Both in one number where they
    fit: two recordings are two runs that are nearly in order, and then sorting is merging."""
    if len(seqs):
        low, high = int(seqs.min()), int(seqs.max())
        seq_bits = (high - low).bit_length()
        if seq_bits + int(numbers.max()).bit_length() < _INT64_BITS:
            return np.argsort(numbers << seq_bits | seqs - low, kind="stable")
    return np.lexsort((seqs, numbers))


def _alone(sides: _Sides, pairs: _Pairs) -> _Places:
    """The rows that the other recording has not, neither by their sequence nor by what the store goes by else."""
    left = np.ones(len(sides[0].numbers), np.bool_), np.ones(len(sides[1].numbers), np.bool_)
    left[0][pairs.first] = False
    left[1][pairs.second] = False
    unkeyed = [side.numbers[is_left & ~side.is_keyed] for side, is_left in zip(sides, left, strict=True)]
    for number in np.unique(np.concatenate(unkeyed)).tolist():
        stretches = [slice(*side.edges[number : number + 2].tolist()) for side in sides]
        rests = [
            stretch.start + np.flatnonzero(is_left[stretch]) for is_left, stretch in zip(left, stretches, strict=True)
        ]
        only = _unmatched(sides[0].table, rests[0], sides[1].table, rests[1])
        for is_left, stretch, places in zip(left, stretches, only, strict=True):
            is_left[stretch] = False
            is_left[places] = True
    return np.flatnonzero(left[0]), np.flatnonzero(left[1])


def _counts(numbers: _I64, symbols: Sequence[str]) -> _I64:
    return np.bincount(numbers, minlength=len(symbols))


def _by_symbol(side: _Side, places: _I64) -> list[_I64]:
    """Places in the table as places among each symbol's rows."""
    if not len(places):
        return [places] * (len(side.edges) - 1)
    cuts, edges = np.searchsorted(places, side.edges).tolist(), side.edges.tolist()
    return [places[start:end] - edge for start, end, edge in zip(cuts, cuts[1:], edges, strict=False)]


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


def _renumbered_by_symbol(sides: _Sides, only: _Places, symbols_count: int) -> _I64:
    """How many of the ticks that each has alone are the same trades, when most of them are: else equal trades of one
    moment that each lost another one of."""
    renumbered = np.zeros(symbols_count, np.int64)
    cuts = [np.searchsorted(places, side.edges) for side, places in zip(sides, only, strict=True)]
    for number in np.flatnonzero(np.minimum(*(np.diff(cut) for cut in cuts)) >= 2).tolist():
        trades, others = (
            _trades(side.table, places[slice(*cut[number : number + 2].tolist())])
            for side, places, cut in zip(sides, only, cuts, strict=True)
        )
        shared = sum((trades & others).values())
        if shared > 1 and 2 * shared > min(trades.total(), others.total()):
            renumbered[number] = shared
    return renumbered


def _trades(table: pa.Table, places: _I64) -> Counter[tuple[Any, ...]]:
    part = table.take(pa.array(places))
    values = [_plain(part.column(name)).to_pylist() for name in _CONTENT]
    return Counter(zip(_numbers(part.column("ts_ms")).tolist(), *values, strict=True))


def _counted_otherwise(sides: _Sides, only: _Places, symbols_count: int) -> _I64:
    """How many of the ticks that one has alone bear a number that the other gives to a tick of its own."""
    counted = np.zeros(symbols_count, np.int64)
    for places, side, other in zip(only, sides, reversed(sides), strict=True):
        places = places[side.is_keyed[places]]  # noqa: PLW2901 - those that bear one
        if len(places):
            bears = _are_among(_counters(side)[places], _counters(other)[other.is_keyed])
            counted += np.bincount(side.numbers[places[bears]], minlength=symbols_count)
    return counted


def _are_among(few: _I64, many: _I64) -> _BOOL:
    """Which of a few numbers are among many, none of which is sorted for it (as ``np.isin`` does)."""
    wanted = np.sort(few)
    at = np.minimum(np.searchsorted(wanted, many), len(wanted) - 1)
    is_there = np.zeros(len(wanted), np.bool_)
    is_there[at[wanted[at] == many]] = True
    return is_there[np.searchsorted(wanted, few)]


def _counters(side: _Side) -> _I64:
    """The number that each row bears, together with its symbol's."""
    return side.numbers << _COUNTER_BITS | side.seqs & SEQ_COUNTER_MASK


def _leads_ms(first: pa.Table, second: pa.Table, pairs: _Pairs) -> _I64:
    """How much earlier the first recording received each tick that both have."""
    leads: _I64 = _numbers(second.column(CAME_AT))[pairs.second] - _numbers(first.column(CAME_AT))[pairs.first]
    return leads
