"""Coverage held against the rows of the same file.

Beside a working recorder the two are not of one moment: coverage is read before and after the rows, and the rows must
lie between. For a symbol that got no tick meanwhile that means: be equal.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from hk_tick_collector.store.extents import Extent, count, subtract
from hk_tick_collector.store.reader import CoverageRow
from hk_tick_collector.store.symbol_coverage import TOO_MANY_HOLES
from hk_tick_collector.store.verdict import sequences_count

if TYPE_CHECKING:
    from hk_tick_collector.quality.recount import Recount, SymbolRecount


def compare(recounted: Recount, after: Iterable[CoverageRow]) -> list[str]:
    """What of the coverage is not so, a line each that begins with the symbol. ``after``: read behind the rows."""
    problems: list[str] = []
    before = {row.symbol: row for row in recounted.coverage_before}
    for row in after:
        rows = recounted.symbols.get(row.symbol)
        try:
            problems += [f"{row.symbol}: {text}" for text in _differences(before.get(row.symbol), row, rows)]
        except (ValueError, TypeError):
            continue  # a column that cannot be read is named by whoever reads it first
    other_day_ticks = recounted.total.other_day_ticks
    if other_day_ticks:
        names = [symbol for symbol, rows in recounted.symbols.items() if rows.facts.other_day_ticks]
        problems.append(f"{', '.join(names[:5])}: {other_day_ticks} ticks carry the time of another day")
    return problems


def _differences(before: CoverageRow | None, after: CoverageRow, rows: SymbolRecount | None) -> list[str]:
    """``before`` None: the symbol was new; ``rows`` None: there are none."""
    problems: list[str] = []
    ticks, unsequenced = (rows.facts.ticks, rows.unsequenced_ticks) if rows is not None else (0, 0)
    _between(problems, "ticks", before.stored_ticks if before else 0, ticks, after.stored_ticks)
    _between(problems, "ticks without a sequence", before.unsequenced_ticks if before else 0, unsequenced,
             after.unsequenced_ticks)  # fmt: skip
    ranges = rows.ranges if rows is not None else []
    if sequences_count(after.distrust) and TOO_MANY_HOLES not in (after.distrust or ""):
        had = [(extent[0], extent[1]) for extent in before.ranges.ranges] if before else []
        _lacking(problems, subtract(had, ranges), "is in coverage and not among the rows")
        _lacking(problems, subtract(ranges, after.ranges.ranges), "is among the rows and not in coverage")
    if rows is None:
        return problems
    for name, early, late, seen in (
        ("first", after.first_ts_ms, before.first_ts_ms if before else None, rows.first_ts_ms),
        ("last", before.last_ts_ms if before else None, after.last_ts_ms, rows.last_ts_ms),
    ):
        if (early is not None and seen < early) or (late is not None and seen > late):
            problems.append(f"the {name} tick is of {seen} ms, coverage says {late if name == 'last' else early} ms")
    return problems


def _between(problems: list[str], name: str, low: int, number: int, high: int) -> None:
    if not low <= number <= high:
        allowed = f"{high:,}" if low == high else f"{low:,} to {high:,}"
        problems.append(f"coverage counts {allowed} {name}, there are {number:,} rows")


def _lacking(problems: list[str], extents: list[Extent], text: str) -> None:
    if extents:
        more = f" and {len(extents) - 1} more" if len(extents) > 1 else ""
        problems.append(f"{count(extents):,} counters ({extents[0][0]}-{extents[0][1]}{more}): each {text}")
