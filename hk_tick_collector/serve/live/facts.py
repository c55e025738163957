"""What day files say of completeness, as readers of the live channel are told it.

Of a symbol that several data roots have no rows are held against each other here, many times a day: what is said
follows from what they noted, and is never more than ``days.joining`` says of the day. Who is proven by one is proven.
Otherwise missing is what all of them miss, and what they prove only together is unproven until the day is asked for.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from hk_tick_collector.core.facts import reasons_of
from hk_tick_collector.core.ranges import CounterRanges
from hk_tick_collector.store.extents import count, parse_extents, subtract
from hk_tick_collector.store.gaps import CLOSED, OPEN, read_meta
from hk_tick_collector.store.judging import judged, missing_at_most
from hk_tick_collector.store.reader import CoverageRow, GapRow, Notes
from hk_tick_collector.store.verdict import MISSING, PROVEN, UNPROVEN, Evidence, gap_evidence, judge

DISAGREE = "two recorders tell it differently"
TOGETHER = "no recorder has all of it; the day's certificate joins what they have"
_COVERAGE_KEY = 2  # parts: day, symbol
Facts = dict[tuple[object, ...], dict[str, Any]]


def facts_of(day: str, noted: Sequence[Notes], contradicting: Container[str] = ()) -> Facts:
    """Of each (day, symbol), and of each gap (day, symbol, start, end). ``noted``: by each data root of one market;
    ``contradicting``: symbols that they tell differently."""
    coverage: dict[str, list[CoverageRow]] = {}
    gaps: dict[str, list[GapRow]] = {}
    for notes in noted:
        for row in judged(notes):
            coverage.setdefault(row.symbol, []).append(row)
        for gap in notes.gaps:
            gaps.setdefault(gap.symbol, []).append(gap)
    facts: Facts = {}
    for symbol, rows in coverage.items():
        if len(rows) > 1 or symbol in contradicting:  # one of both may say nothing of it, or be out of reach
            row, at_most, gaps[symbol] = _of_several(rows, gaps.get(symbol, []), disagree=symbol in contradicting)
        else:
            row = rows[0]
            at_most = missing_at_most(row, [gap for gap in gaps.get(symbol, []) if gap.state == OPEN])
        facts[day, symbol] = {
            "symbol": symbol, "state": row.state, "missing_ticks": row.missing_ticks, "missing_at_most": at_most,
            "reason": row.reason,
        }  # fmt: skip
    for gap in (gap for of_symbol in gaps.values() for gap in of_symbol):
        facts[day, gap.symbol, gap.gap_start_ts_ms, gap.gap_end_ts_ms] = {
            "symbol": gap.symbol, "start_ms": gap.gap_start_ts_ms, "end_ms": gap.gap_end_ts_ms, "state": gap.state,
            "missing_ticks": gap.missing_ticks, "reason": gap.reason,
        }  # fmt: skip
    return facts


def told_of(facts: Facts) -> list[dict[str, Any]]:
    """As messages, one for each day and kind: at the open nine hundred symbols change in one second."""
    messages: dict[tuple[object, bool], dict[str, Any]] = {}
    for key, fact in facts.items():
        is_gap = len(key) > _COVERAGE_KEY
        empty = (
            {"type": "gap", "day": key[0], "gaps": []} if is_gap else {"type": "coverage", "day": key[0], "symbols": []}
        )
        messages.setdefault((key[0], is_gap), empty)["gaps" if is_gap else "symbols"].append(fact)
    return list(messages.values())


def _of_several(
    rows: Sequence[CoverageRow], gaps: list[GapRow], *, disagree: bool
) -> tuple[CoverageRow, int | None, list[GapRow]]:
    """What is said of the symbol, up to how many ticks are missing besides, and its gaps."""
    if disagree:
        return replace(rows[0], state=UNPROVEN, reason=DISAGREE), None, gaps
    ranges = CounterRanges()
    for row in rows:
        for first, last in row.ranges.ranges:
            ranges.add(first, last)
    gaps = [_without_filled(gap, ranges) for gap in gaps]
    for row in rows:
        if row.state == PROVEN:
            return row, None, [replace(gap, state=CLOSED, missing_ticks=0) for gap in gaps]
    at_most = None
    with suppress(ValueError, TypeError):  # the certificate names it
        verdict = judge(_together(rows, gaps, ranges))
        at_most = verdict.missing_at_most
        if verdict.state == MISSING:
            known = replace(rows[0], state=MISSING, missing_ticks=verdict.missing_ticks, reason=verdict.reason)
            return known, at_most, gaps
    return replace(rows[0], state=UNPROVEN, missing_ticks=0, reason=TOGETHER), at_most, gaps


def _together(rows: Sequence[CoverageRow], gaps: Sequence[GapRow], ranges: CounterRanges) -> Evidence:
    """What all of them know. A row without a counter of its own may be told by several; each may be an absent one."""
    shown = [(row.head_counter, row.verified_counter) for row in rows]
    told = gap_evidence([gap for gap in gaps if gap.state == OPEN])
    return told._replace(
        ranges=ranges.ranges,
        unsequenced_ticks=sum(row.unsequenced_ticks for row in rows),
        in_gaps=subtract(sorted(told.in_gaps), ranges.ranges),
        head_counter=min((head for head, _ in shown if head is not None), default=None),
        verified_counter=max((newest for _, newest in shown if newest is not None), default=None),
        distrust="; ".join(dict.fromkeys(reason for row in rows for reason in reasons_of(row.distrust))) or None,
    )


def _without_filled(gap: GapRow, ranges: CounterRanges) -> GapRow:
    """A gap as far as nobody fills it."""
    extents = parse_extents(read_meta(gap.meta_json).get("extents"))
    if gap.state != OPEN or not extents:
        return gap
    left = count(subtract(extents, ranges.ranges))
    return replace(gap, state=OPEN if left else CLOSED, missing_ticks=left)
