"""What was known at a moment: rows that were stored by then, and how complete they were.

A row carries when it was stored (``inserted_at_ms``). Of completeness only the present state is kept, so of a moment in
the past less can be said: that ticks were missing which were stored later, and never that none was missing, unless the
source had been asked by then and nothing came after.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from hk_tick_collector.client.coverage import MISSING, UNPROVEN, SymbolCoverage
from hk_tick_collector.client.plan import DayRead
from hk_tick_collector.days.schema import UTC_MS

_COLUMNS = ("symbol", "ts_ms", "inserted_at_ms")


def stored_by(table: pa.Table, as_of_ms: int) -> pa.ChunkedArray:
    """Which rows were stored by then."""
    return pc.less_equal(table.column("inserted_at_ms"), pa.scalar(as_of_ms, UTC_MS))


def coverage_as_of(read: DayRead, as_of_ms: int) -> list[SymbolCoverage]:
    """How complete a day was, as far as it can be said today."""
    stored: dict[str, int] = {}
    later: dict[str, int] = {}
    late: dict[str, int] = {}
    for table in _tables(read):
        known = stored_by(table, as_of_ms)
        _count(stored, table.filter(known))
        after = table.filter(pc.invert(known))
        _count(later, after)
        _count(late, after.filter(pc.less_equal(after.column("ts_ms"), pa.scalar(as_of_ms, UTC_MS))))
    return [
        _judged(row, stored.get(row.symbol, 0), later.get(row.symbol, 0), late.get(row.symbol, 0), as_of_ms)
        for row in read.coverage
    ]


def _judged(now: SymbolCoverage, stored: int, later: int, late: int, as_of_ms: int) -> SymbolCoverage:
    """``later``: ticks stored after that moment; ``late``: those of them that had happened by then."""
    if not later and now.verified_until_ms is not None and now.verified_until_ms <= as_of_ms:
        return now
    known = replace(now, stored_ticks=stored, expected_ticks=None, verified_until_ms=None)
    if late or now.state == MISSING:
        missing = late + now.missing_ticks
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
