"""What a day file's notes are judged to say: the verdict on a symbol, and on the day, from its rows of ``coverage`` and
``gaps`` (``reader``) by the one rule (``verdict.judge``)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from hk_tick_collector.store.extents import count
from hk_tick_collector.store.reader import CoverageRow, GapRow, Notes, coverage, notes
from hk_tick_collector.store.verdict import (
    MISSING,
    PROVEN,
    UNPROVEN,
    Verdict,
    gap_evidence,
    is_by_total,
    judge,
    unseen_ticks,
)


@dataclass(frozen=True, slots=True)
class DayState:
    """How complete a day file is. ``symbols``: how many are in each state."""

    stored_ticks: int = 0
    missing_ticks: int = 0  # of the symbols in the state "missing"
    symbols: dict[str, int] = field(default_factory=lambda: dict.fromkeys((PROVEN, MISSING, UNPROVEN), 0))
    unseen_symbols: int = 0  # whose beginning was never shown
    unseen_ticks: int = 0  # of theirs, at most, before the first one seen


def verdict_of(row: CoverageRow | None, open_gaps: Sequence[GapRow]) -> Verdict:
    """The verdict on a symbol, from its row (None: it has none) and its open gaps. ValueError, TypeError when a column
    holds what the recorder never writes."""
    evidence = gap_evidence(open_gaps)
    if row is None:
        return judge(evidence)
    ranges = row.ranges.ranges
    return judge(
        evidence._replace(
            ranges=ranges,
            surplus_ticks=row.stored_ticks - row.unsequenced_ticks - count(ranges),
            unsequenced_ticks=row.unsequenced_ticks,
            head_counter=row.head_counter,
            verified_counter=row.verified_counter,
            distrust=row.distrust,
            interrupted=row.interrupted_seq is not None,
            replay=row.replay,
        )
    )


def as_judged(row: CoverageRow, open_gaps: Sequence[GapRow]) -> CoverageRow:
    """The row with today's word. An earlier version called a symbol ``missing`` of which only the most is known that
    came before its first tick seen, and named one doubt of several; the files say so for ever. Any other state stands
    as it was written: what a file once knew to be lost is lost, though the row of ``gaps`` that said so may be gone."""
    if row.state == PROVEN or not (open_gaps or row.distrust):  # nothing, or one doubt alone
        return row
    try:
        began_late = gap_evidence(open_gaps).at_most is not None
        verdict = verdict_of(row, open_gaps)
    except (ValueError, TypeError):  # the certificate names it
        return row
    if verdict.state == row.state:
        return row if verdict.reason == row.reason else replace(row, reason=verdict.reason)
    if row.state != MISSING or row.missing_ticks or not began_late or verdict.state != UNPROVEN:
        return row
    return replace(row, state=UNPROVEN, reason=verdict.reason, missing_ticks=0)


def judged(notes: Notes) -> list[CoverageRow]:
    """Each row with today's word (``as_judged``)."""
    open_gaps = notes.open_gaps()
    return [as_judged(row, open_gaps.get(row.symbol, [])) for row in notes.coverage]


def day_state(db: Path) -> DayState:
    """The file's completeness in one line; reads one row a symbol, and the gaps where not all are proven."""
    rows = coverage(db)
    unseen: list[int] = []
    if any(row.state != PROVEN for row in rows):
        noted = notes(db)
        rows, open_gaps = judged(noted), noted.open_gaps()
        unseen = [ticks for row in rows if (ticks := _unseen_ticks(row, open_gaps.get(row.symbol, [])))]
    symbols = {state: sum(row.state == state for row in rows) for state in (PROVEN, MISSING, UNPROVEN)}
    missing_ticks = sum(row.missing_ticks for row in rows if row.state == MISSING)
    return DayState(sum(row.stored_ticks for row in rows), missing_ticks, symbols, len(unseen), sum(unseen))


def _unseen_ticks(row: CoverageRow, open_gaps: Sequence[GapRow]) -> int:
    try:
        return unseen_ticks(gap_evidence(open_gaps), verdict_of(row, open_gaps))
    except (ValueError, TypeError):  # the certificate names it
        return 0


def missing_at_most(row: CoverageRow, open_gaps: Sequence[GapRow]) -> int | None:
    """As of ``Verdict``; None, too, of a row that nobody can judge."""
    if row.state == PROVEN or not (open_gaps or is_by_total(row.distrust)):
        return None
    try:
        return verdict_of(row, open_gaps).missing_at_most
    except (ValueError, TypeError):  # the certificate names it
        return None
