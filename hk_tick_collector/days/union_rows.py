"""The rows of a day in several data roots, each tick once, and what follows from them (``union``)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from hk_tick_collector.days import order, twins
from hk_tick_collector.days.joining import SymbolPlan, joined_notes, plan_symbol
from hk_tick_collector.days.rows import in_stretch
from hk_tick_collector.days.schema import empty_table
from hk_tick_collector.days.union import Joint, Side, UnionDay
from hk_tick_collector.store.reader import GapRow
from hk_tick_collector.store.verdict import PROVEN

if TYPE_CHECKING:
    from hk_tick_collector.store.reader import CoverageRow

_JOINED = (*twins.COLUMNS, "provider")
_SORT = ("symbol", "ts_ms", "seq")


def joints(day: UnionDay, symbols: Sequence[str], known: Mapping[str, Sequence[Side]]) -> dict[str, Joint]:
    """What several roots have of these symbols, held against each other. StoreError as of ``Day.ticks``."""
    tables = {
        side: _by_symbol(side, [symbol for symbol in symbols if side in known[symbol]], _JOINED) for side in day.sides
    }
    plans: dict[str, SymbolPlan[Side]] = {}
    adding: dict[str, tuple[Side, ...]] = {}
    doubtful: dict[str, pa.Table] = {}
    for symbol in symbols:
        ticks = {side: tables[side][symbol] for side in known[symbol]}
        plan = plans[symbol] = plan_symbol(symbol, ticks)
        adding[symbol], rows = _joined([(side, ticks[side]) for side in plan.taken])
        row = plan.notes_of.coverage[symbol]
        if row.state != PROVEN or plan.doubt is not None or len(adding[symbol]) > 1:
            doubtful[symbol] = rows
    notes = joined_notes(day.trading_day, {symbol: plans[symbol] for symbol in doubtful}, doubtful, day.market)
    judged = {row.symbol: row for row in notes.coverage}
    gaps: dict[str, list[GapRow]] = {}
    for gap in notes.gaps:
        gaps.setdefault(gap.symbol, []).append(gap)
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


def _joined(tables: Sequence[tuple[Side, pa.Table]]) -> tuple[tuple[Side, ...], pa.Table]:
    """The rows of all of them, each tick once, and who adds to those before it; the first one always."""
    (first, kept), *others = tables
    sides = [first]
    for side, table in others:
        lacking = twins.compare(kept, table, counts=False).second_only
        if len(lacking):
            sides.append(side)
            kept = pa.concat_tables([kept, table.take(pa.array(lacking))]).unify_dictionaries()
    return tuple(sides), kept


def _by_symbol(side: Side, symbols: Sequence[str], columns: Sequence[str]) -> dict[str, pa.Table]:
    if not symbols:
        return {}
    names = tuple(dict.fromkeys((*columns, *_SORT)))
    stored = [symbol for symbol in symbols if side.rows(symbol)]
    table = side.ticks(stored, names) if stored else empty_table(names)
    tables = order.parted(table)
    return {symbol: tables.get(symbol, table.slice(0, 0)) for symbol in symbols}


def ticks(
    day: UnionDay, symbols: Sequence[str], columns: Sequence[str], start_ms: int | None, end_ms: int | None
) -> pa.Table:
    """As ``Day.ticks``."""
    needed = tuple(dict.fromkeys((*columns, *_SORT)))
    alone: dict[Side, list[str]] = {}
    parts: list[pa.Table] = []
    for symbol, sides in day.sides_of(symbols).items():
        if len(sides) == 1:
            alone.setdefault(sides[0], []).append(symbol)
        else:
            parts.append(in_stretch(_of_several(symbol, sides, needed), start_ms, end_ms))
    for side, names in alone.items():
        parts.append(side.ticks(names, needed, start_ms, end_ms))
    table = pa.concat_tables(parts) if parts else empty_table(needed)
    return order.sort_table(table).select(list(columns))


def _of_several(symbol: str, sides: Sequence[Side], columns: tuple[str, ...]) -> pa.Table:
    names = tuple(dict.fromkeys((*columns, *twins.COLUMNS)))
    _, table = _joined([(side, _by_symbol(side, [symbol], names)[symbol]) for side in sides])
    return table.select(list(columns))


def batches(day: UnionDay, columns: Sequence[str], workers: int) -> Iterator[pa.RecordBatch]:
    """As ``Day.batches``: what one root has alone by one scan of it, the others symbol by symbol."""
    needed = tuple(dict.fromkeys((*columns, "symbol")))
    mine: dict[Side, set[str]] = {side: set() for side in day.sides}
    several: list[tuple[str, tuple[Side, ...]]] = []
    for symbol, sides in day.sides_of(day.symbols()).items():
        if len(sides) == 1:
            mine[sides[0]].add(symbol)
        else:
            several.append((symbol, sides))
    for side, symbols in mine.items():
        if symbols:
            for batch in side.batches(needed, workers):
                yield from _only(batch, symbols, columns)
    for symbol, sides in several:
        yield from _of_several(symbol, sides, tuple(columns)).to_batches()


def _only(batch: pa.RecordBatch, symbols: set[str], columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    names = batch.column(batch.schema.get_field_index("symbol"))
    wanted = np.array([name in symbols for name in names.dictionary.to_pylist()], np.bool_)
    if not wanted.all():
        batch = batch.filter(pa.array(wanted[names.indices.to_numpy(zero_copy_only=False)]))
    if batch.num_rows:
        yield batch.select(list(columns))
