"""What the counters of one symbol's day say: how many ticks there must have been, which are missing, and its state.

The state is that of ``store.coverage.judge`` with two differences, because a report speaks of a file and not of a
recorder at work:

- ticks that OpenD is known to have shown and that are not stored are missing, also before the first and after the last
  stored one; to the recorder they are still on their way;
- holes that rows without a counter of their own may fill are no missing ticks: the symbol is unproven.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hk_tick_collector.store.coverage import MISSING, UNPROVEN, Evidence, judge
from hk_tick_collector.store.extents import Extent, count, parse_extents, subtract
from hk_tick_collector.store.gaps import read_meta
from hk_tick_collector.store.reader import CoverageRow, GapRow


@dataclass(frozen=True, slots=True)
class SymbolCounts:
    """One symbol's numbers, from its coverage and its open gaps."""

    evidence: Evidence
    expected_ticks: int | None  # None: the counters do not count, or the day's beginning is lost
    missing_ticks: int  # at least
    missing_at_most: int | None  # not None: besides, up to so many at the beginning of the day
    unlisted: list[Extent]  # missing counters that stand in no open gap

    @classmethod
    def of(cls, row: CoverageRow, open_gaps: Sequence[GapRow]) -> SymbolCounts:
        """ValueError, TypeError when a column holds what the recorder never writes."""
        ranges = row.ranges.ranges
        surplus_ticks = row.stored_ticks - row.unsequenced_ticks - count(ranges)
        evidence = Evidence(
            row.first_counter,
            row.last_counter,
            count(parse_extents(row.holes)),
            surplus_ticks,
            row.unsequenced_ticks,
            len(open_gaps),
            row.head_counter,
            row.verified_counter,
            row.distrust,
        )
        metas = [read_meta(gap.meta_json) for gap in open_gaps]
        in_gaps = _joined(extent for meta in metas for extent in parse_extents(meta.get("extents")))
        at_most = max((int(meta["at_most"]) for meta in metas if meta.get("at_most") is not None), default=None)
        first, last = row.first_counter, row.last_counter
        if first is None or last is None or row.distrust:
            return cls(evidence, None, count(in_gaps), at_most, [])
        if row.unsequenced_ticks or surplus_ticks:
            uncounted = row.unsequenced_ticks + max(0, surplus_ticks)
            return cls(evidence, None, max(count(in_gaps), evidence.hole_ticks - uncounted), at_most, [])
        known = [first, last, *(edge for extent in in_gaps for edge in extent)]
        known += [counter for counter in (row.head_counter, row.verified_counter) if counter is not None]
        missing = subtract([(min(known), max(known))], ranges)
        expected_ticks = row.stored_ticks + count(missing) if at_most is None else None
        return cls(evidence, expected_ticks, count(missing), at_most, subtract(missing, in_gaps))

    def state(self) -> tuple[str, str | None]:
        """``(proven | missing | unproven, why it is not proven)``."""
        evidence = self.evidence
        state, reason = judge(evidence)
        if state == MISSING and not evidence.open_gaps and not self.missing_ticks:
            uncounted = evidence.unsequenced_ticks + evidence.surplus_ticks
            return UNPROVEN, f"{uncounted} ticks without a counter of their own, {evidence.hole_ticks} counters absent"
        if state == UNPROVEN and self.unlisted:
            return MISSING, reason
        return state, reason


def _joined(extents: Iterable[Extent]) -> list[Extent]:
    """The same counters, none of them twice."""
    joined: list[Extent] = []
    for first, last in sorted(extents):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(last, joined[-1][1]))
        else:
            joined.append((first, last))
    return joined
