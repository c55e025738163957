"""What was known at a moment: rows that were stored by then, and how complete they were.

A row carries when it was stored (``inserted_at_ms``). Of completeness only the present state is kept, so of a moment in
the past less can be said: that ticks were missing which were stored later, and never that none was missing, unless the
source had been asked by then and nothing came after.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from hk_tick_collector.client.coverage import MISSING, UNPROVEN, SymbolCoverage
from hk_tick_collector.client.plan import DayRead
from hk_tick_collector.days.schema import UTC_MS

_COLUMNS = ("symbol", "ts_ms", "inserted_at_ms")


def stored_by(table: pa.Table, as_of_ms: int) -> pa.ChunkedArray:
    """Which rows were stored by then."""
    return pc.less_equal(table.column("inserted_at_ms"), pa.scalar(as_of_ms, UTC_MS))


class Counts(NamedTuple):
    """Of one symbol's ticks."""

    stored: int = 0  # by that moment
    later: int = 0  # stored after it
    late: int = 0  # those of them that had happened by then


def counts_of(table: pa.Table, as_of_ms: int) -> Counts:
    """Of ticks with ``ts_ms`` and ``inserted_at_ms``."""
    known = stored_by(table, as_of_ms)
    stored = pc.sum(known).as_py() or 0
    happened = pc.less_equal(table.column("ts_ms"), pa.scalar(as_of_ms, UTC_MS))
    late = pc.sum(pc.and_not(happened, known)).as_py() or 0
    return Counts(stored, table.num_rows - stored, late)


def coverage_as_of(read: DayRead, as_of_ms: int, counted: Mapping[str, Counts] | None = None) -> list[SymbolCoverage]:
    """How complete a day was, as far as it can be said today. ``counted``: of its symbols, when they were read."""
    counts = _counted(read, as_of_ms) if counted is None else counted
    return [_judged(row, counts.get(row.symbol, Counts()), as_of_ms) for row in read.coverage]


def _counted(read: DayRead, as_of_ms: int) -> dict[str, Counts]:
    stored: dict[str, int] = {}
    later: dict[str, int] = {}
    late: dict[str, int] = {}
    for table in _tables(read):
        known = stored_by(table, as_of_ms)
        _count(stored, table.filter(known))
        after = table.filter(pc.invert(known))
        _count(later, after)
        _count(late, after.filter(pc.less_equal(after.column("ts_ms"), pa.scalar(as_of_ms, UTC_MS))))
    return {
        symbol: Counts(stored.get(symbol, 0), later.get(symbol, 0), late.get(symbol, 0)) for symbol in {*stored, *later}
    }


def _judged(now: SymbolCoverage, counts: Counts, as_of_ms: int) -> SymbolCoverage:
    if not counts.later and now.verified_until_ms is not None and now.verified_until_ms <= as_of_ms:
        return now
    known = replace(now, stored_ticks=counts.stored, expected_ticks=None, verified_until_ms=None)
    if counts.late or now.state == MISSING:
        missing = counts.late + now.missing_ticks
        return replace(known, state=MISSING, missing_ticks=missing, reason="by then they were not stored")
    return replace(known, state=UNPROVEN, missing_ticks=0, reason="what was proven by then is not kept")


def _tables(read: DayRead) -> Iterator[pa.Table]:
    if read.symbols is not None:
        yield read.day.ticks(read.symbols, _COLUMNS, last_rowid=read.last_rowid)
        return
    for batch in read.day.batches(_COLUMNS, last_rowid=read.last_rowid):
        yield pa.Table.from_batches([batch])


def _count(counts: dict[str, int], table: pa.Table) -> None:
    for pair in pc.value_counts(table.column("symbol").cast(pa.string())).to_pylist():
        counts[pair["values"]] = counts.get(pair["values"], 0) + pair["counts"]
