"""The rows of a day in several data roots, each tick once, and what follows from them (``union``)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from hk_tick_collector.days import order, twins
from hk_tick_collector.days.groups import in_groups
from hk_tick_collector.days.joining import Held, SymbolPlan, joined_notes, plan_symbol
from hk_tick_collector.days.rows import in_stretch
from hk_tick_collector.days.schema import empty_table
from hk_tick_collector.days.sides import GROUP_ROWS, Joint, Side
from hk_tick_collector.days.together import together, with_finer_times
from hk_tick_collector.market.market import Market
from hk_tick_collector.store.reader import GapRow
from hk_tick_collector.store.verdict import PROVEN

if TYPE_CHECKING:
    from hk_tick_collector.store.reader import CoverageRow

_JOINED = (*twins.COLUMNS, "provider")
_SORT = ("symbol", "ts_ms", "seq")


def joints(trading_day: str, market: Market, known: Mapping[str, Sequence[Side]]) -> dict[str, Joint]:
    """What several roots have of symbols, held against each other; ``known``: the roots that know of each. StoreError
    as of ``Day.ticks``."""
    held = _held(known, _JOINED)
    plans: dict[str, SymbolPlan[Side]] = {}
    adding: dict[str, tuple[Side, ...]] = {}
    doubtful: dict[str, pa.Table] = {}
    for symbol in known:
        plan = plans[symbol] = plan_symbol(symbol, held)
        adding[symbol], rows = _joined(symbol, plan.taken, held)
        row = plan.notes_of.coverage[symbol]
        if row.state != PROVEN or plan.doubt is not None or len(adding[symbol]) > 1:
            doubtful[symbol] = rows
    notes = joined_notes(trading_day, {symbol: plans[symbol] for symbol in doubtful}, doubtful, market)
    judged = {row.symbol: row for row in notes.coverage}
    gaps = notes.gaps_by_symbol()
    return {symbol: _joint(symbol, plan, adding[symbol], judged, gaps) for symbol, plan in plans.items()}


def _joint(
    symbol: str,
    plan: SymbolPlan[Side],
    adding: tuple[Side, ...],
    judged: Mapping[str, CoverageRow],
    gaps: Mapping[str, list[GapRow]],
) -> Joint:
    if symbol in judged:
        return Joint(adding, judged[symbol], gaps.get(symbol, []), plan.conflicts)
    return Joint(adding, plan.notes_of.coverage[symbol], plan.notes_of.gaps.get(symbol, []), plan.conflicts)


def _joined(symbol: str, sides: Sequence[Side], held: Held[Side]) -> tuple[tuple[Side, ...], pa.Table]:
    """The rows of all of them, each tick once, and who adds to those before it; the first one always."""
    if held.is_vague(symbol, sides):
        return tuple(sides), together([held.ticks(side, symbol) for side in sides])
    added, finer = held.added(symbol, sides), held.finer(symbol, sides)
    adding = tuple(sides) if len(finer[0]) else (sides[0], *(side for side in sides[1:] if len(added[side])))
    first, *others = (held.ticks(side, symbol) for side in adding)
    more = [table.take(pa.array(added[side])) for side, table in zip(adding[1:], others, strict=True)]
    joined = pa.concat_tables([first, *more]).unify_dictionaries() if more else first
    return adding, with_finer_times(joined, *finer) if len(finer[0]) else joined


def _held(sides_of: Mapping[str, Sequence[Side]], columns: Sequence[str]) -> Held[Side]:
    """The rows of symbols, in order, of those roots that are named for each."""
    names = tuple(dict.fromkeys((*columns, *twins.COLUMNS)))
    symbols_of: dict[Side, list[str]] = {side: [] for sides in sides_of.values() for side in sides}
    for symbol, sides in sides_of.items():
        for side in sides:
            symbols_of[side] += [symbol] if side.rows(symbol) else []
    tables = {
        side: side.ticks(symbols, names) if symbols else empty_table(names) for side, symbols in symbols_of.items()
    }
    return Held(list(sides_of), tables)


def ticks(
    sides_of: Mapping[str, tuple[Side, ...]], columns: Sequence[str], start_ms: int | None, end_ms: int | None
) -> pa.Table:
    """As ``Day.ticks``; ``sides_of``: whose ticks are the ticks of each symbol."""
    needed = tuple(dict.fromkeys((*columns, *_SORT)))
    alone: dict[Side, list[str]] = {}
    several: dict[str, tuple[Side, ...]] = {}
    parts: list[pa.Table] = []
    for symbol, sides in sides_of.items():
        if len(sides) == 1:
            alone.setdefault(sides[0], []).append(symbol)
        else:
            several[symbol] = sides
    parts += [in_stretch(table, start_ms, end_ms) for table in _of_several(several, needed)]
    for side, names in alone.items():
        parts.append(side.ticks(names, needed, start_ms, end_ms))
    table = pa.concat_tables(parts) if parts else empty_table(needed)
    return order.sort_table(table).select(list(columns))


def _of_several(several: Mapping[str, Sequence[Side]], columns: Sequence[str]) -> Iterator[pa.Table]:
    """The rows of each of these symbols."""
    ordered = {symbol: several[symbol] for symbol in sorted(several)}
    rows = {symbol: sum(side.rows(symbol) for side in sides) for symbol, sides in ordered.items()}
    for group in in_groups(rows, GROUP_ROWS):
        held = _held({symbol: ordered[symbol] for symbol in group}, columns)
        for symbol in group:
            yield _joined(symbol, ordered[symbol], held)[1].select(list(columns))


def batches(
    in_turn: Sequence[Side], sides_of: Mapping[str, tuple[Side, ...]], columns: Sequence[str], workers: int
) -> Iterator[pa.RecordBatch]:
    """As ``Day.batches``: what one root has alone by one scan of it, ``in_turn``, the others some symbols at a time."""
    needed = tuple(dict.fromkeys((*columns, "symbol")))
    mine: dict[Side, set[str]] = {side: set() for side in in_turn}
    several: dict[str, tuple[Side, ...]] = {}
    for symbol, sides in sides_of.items():
        if len(sides) == 1:
            mine[sides[0]].add(symbol)
        else:
            several[symbol] = sides
    for side, symbols in mine.items():
        if symbols:
            for batch in side.batches(needed, workers):
                yield from _only(batch, symbols, columns)
    for table in _of_several(several, columns):
        yield from table.to_batches()


def _only(batch: pa.RecordBatch, symbols: set[str], columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    names = batch.column(batch.schema.get_field_index("symbol"))
    wanted = np.array([name in symbols for name in names.dictionary.to_pylist()], np.bool_)
    if not wanted.all():
        batch = batch.filter(pa.array(wanted[names.indices.to_numpy(zero_copy_only=False)]))
    if batch.num_rows:
        yield batch.select(list(columns))
