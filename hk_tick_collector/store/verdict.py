"""The verdict on a symbol's day: proven, missing or unproven, by what its file knows. ``judge`` is the whole rule.

Nothing here knows of rows or connections but ``read_replays``; ``coverage`` and all that speaks of a day ask ``judge``.

Where a source's sequences count nothing (``sequences_count``) a symbol is proven only by a copy of its day (``Replay``)
that had each row and no other, and was the same when it was read again: equal to the copy, not to what the exchange
told. Whatever changes its rows takes that away until the copy is held against them anew.

Where they are a running total of volume (``is_by_total``) it is proven when every step adds up from 0 to the last trade
of the day as the source showed it after the close; ``ranges`` are then units of volume (``records.totals``).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

from hk_tick_collector.core.evidence import BY_TOTAL, NO_COUNTER, EvidenceLevel
from hk_tick_collector.core.facts import NO_TICK, NOT_COMPARED, NOT_YET_JOINED, counters_count, reasons_of
from hk_tick_collector.core.text import counted
from hk_tick_collector.records.totals import missing_units
from hk_tick_collector.store.extents import Extent, count, subtract

PROVEN, MISSING, UNPROVEN = "proven", "missing", "unproven"
READ_ONCE = (
    "equal to its file, which was not read again since: import it once more, best after its program was restarted or "
    "has connected again"
)
FIRST_NOT_PROVEN = "the day's first ticks are not proven"
UP_TO = "up to "  # begins the doubt of a day whose beginning was not shown
NOT_SHOWN = "the source has not yet shown the whole day after its close"
REPLAY_COLUMNS = ("symbol", "copy", "ticks", "digest", "first_at_ms", "last_at_ms")
_REPLAYS = f"SELECT {', '.join(REPLAY_COLUMNS)} FROM replays ORDER BY symbol"  # noqa: S608 - constants


@dataclass(frozen=True, slots=True)
class Replay:
    """A whole copy of a symbol's day that was held against its rows: a row of ``replays``."""

    symbol: str
    copy: str
    ticks: int  # of the day, in the copy; NOT_COMPARED
    digest: str
    first_at_ms: int
    last_at_ms: int

    @property
    def confirmed(self) -> bool:
        """Was it read again later, unchanged, and equal to the rows?"""
        return self.last_at_ms > self.first_at_ms

    def withdrawn(self) -> Replay:
        """The rows have changed since: it must be held against them again."""
        return replace(self, last_at_ms=self.first_at_ms)

    def row(self) -> tuple[Any, ...]:
        """Its columns in the order of REPLAY_COLUMNS."""
        return tuple(getattr(self, name) for name in REPLAY_COLUMNS)


def read_replays(conn: sqlite3.Connection) -> dict[str, Replay]:
    """The table ``replays`` by symbol; empty where there is none. A row that the recorder never writes is left out."""
    if not conn.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'replays'").fetchone():
        return {}
    replays = (Replay(*row) for row in conn.execute(_REPLAYS))
    return {
        replay.symbol: replay
        for replay in replays
        if all(isinstance(n, int) for n in (replay.ticks, replay.first_at_ms, replay.last_at_ms))
    }


class OpenGap(Protocol):
    """What a verdict needs to know of an open row of ``gaps``."""

    @property
    def is_window(self) -> bool:
        """A time without subscription, and no ticks that are known to be missing."""

    @property
    def reason(self) -> str: ...

    @property
    def extents(self) -> Sequence[Extent]:
        """Counters still missing."""

    @property
    def at_most(self) -> int | None:
        """Not None: up to this counter the day may have had ticks before the first one seen."""


class Evidence(NamedTuple):
    """All that a symbol's verdict follows from."""

    ranges: Sequence[Sequence[int]] = ()  # counters stored, ascending and disjoint
    surplus_ticks: int = 0  # rows with a sequence less counters stored; 0 when the counters count
    unsequenced_ticks: int = 0
    lost_gaps: int = 0  # open gaps of ticks that the source had
    in_gaps: Sequence[Extent] = ()  # counters that are missing by these gaps
    at_most: int | None = None  # by an open gap ticks up to this counter may have come before the first one seen
    not_subscribed: str | None = None  # why OpenD did not send the symbol's ticks all day, as far as nothing made up
    head_counter: int | None = None  # the day's first counter as OpenD showed it
    verified_counter: int | None = None  # OpenD's newest one when it was last asked; NO_TICK: it had none
    distrust: str | None = None
    interrupted: bool = False  # what was stored after an interruption is not known to go on from what was before
    replay: Replay | None = None  # the copy of the day that was last held against the rows

    @property
    def stored_ticks(self) -> int:
        """How many rows there are."""
        return count(self.ranges) + self.surplus_ticks + self.unsequenced_ticks


NO_GAPS = Evidence()


def gap_evidence(open_gaps: Sequence[OpenGap]) -> Evidence:
    """What the open gaps of a symbol say, and nothing else of it.

    A gap says that ticks are lost, but for two kinds. Of a window nobody knows whether there were any. Neither of a
    beginning that was never shown, of which only a bound is known: the counters of a day begin with 1 as a rule, not
    always, so its first tick seen may be its first one.
    """
    if not open_gaps:
        return NO_GAPS
    of_ticks = [gap for gap in open_gaps if not gap.is_window]
    bounds = [gap.at_most for gap in of_ticks if gap.at_most is not None]
    return Evidence(
        lost_gaps=sum(bool(gap.extents) or gap.at_most is None for gap in of_ticks),
        in_gaps=[extent for gap in of_ticks for extent in gap.extents],
        at_most=max(bounds, default=None),
        not_subscribed=next((gap.reason for gap in reversed(open_gaps) if gap.is_window), None),
    )


class Verdict(NamedTuple):
    """What is said of a symbol's day, by ``coverage`` and by everything that speaks of it."""

    state: str  # proven | missing | unproven
    reason: str | None  # why it is not proven
    missing_ticks: int  # known to be missing; 0 unless the state is "missing"
    missing_at_most: int | None  # not None: besides, up to so many that nothing counts, as before the first one seen
    expected_ticks: int | None  # None: nothing counts them, or part of the day is not known
    unlisted: list[Extent]  # counters that are not stored and stand in no open gap
    unlisted_ticks: int  # of missing_ticks: those that stand in no open gap
    level: EvidenceLevel = EvidenceLevel.COUNTER  # what it is judged by


def unseen_ticks(evidence: Evidence, verdict: Verdict) -> int:
    """How many ticks at most, that nothing counts, may have come before the first one seen of a day whose beginning was
    never shown; 0 of any other day."""
    return 0 if evidence.at_most is None else verdict.missing_at_most or 0


def sequences_count(distrust: str | None) -> bool:
    """Are the low bits of the symbol's sequences counters at all, by what its file says? Else they are positions."""
    return distrust is None or NO_COUNTER not in reasons_of(distrust)


def is_by_total(distrust: str | None) -> bool:
    """Are the symbol's sequences a running total of volume, by what its file says?"""
    return distrust is not None and BY_TOTAL in reasons_of(distrust)


def judge(evidence: Evidence) -> Verdict:
    """The verdict on a symbol's day. Nothing else decides a state or counts what is missing.

    What OpenD could not show again is missing whatever else holds. Counters that prove nothing make no holes either.
    Otherwise a counter is missing that lies between two that are known, whether they are stored or OpenD showed them;
    but a row without a counter of its own may be any of them. What came before all of these is not known to be missing
    where OpenD never showed how the day began: the most that it can be is told, and the symbol is unproven.

    Where there are no counters, the rows are proven by a copy of the day that is equal to them (``_unlike_copy``): then
    as many are expected as are stored.
    """
    level, against = _basis(evidence)
    if level is EvidenceLevel.RUNNING_TOTAL:
        return _judge_by_total(evidence, against)
    in_gaps = _joined(evidence.in_gaps)
    follows = counters_count(evidence.distrust)
    absent = subtract(_known(evidence, in_gaps), evidence.ranges) if follows else in_gaps
    uncounted_ticks = evidence.unsequenced_ticks + max(0, evidence.surplus_ticks)
    in_gaps_ticks = count(in_gaps)
    missing_ticks = max(in_gaps_ticks, count(absent) - (uncounted_ticks if follows else 0))
    bound = _before_first(evidence, in_gaps, uncounted_ticks) if follows else evidence.at_most
    if evidence.lost_gaps or missing_ticks:
        state = MISSING
        reason = _reason(_loss(evidence, absent, missing_ticks), evidence.not_subscribed, against, _up_to(bound))
    else:
        missing_ticks = 0
        reason = _reason(evidence.not_subscribed, against, _beginning(evidence, bound))
        reason = reason or (NOT_YET_JOINED if evidence.interrupted else None)
        if level is not EvidenceLevel.REPLAY:
            reason = reason or _doubt(evidence, count(absent), uncounted_ticks)
        state = UNPROVEN if reason else PROVEN
    unknown = not follows or evidence.not_subscribed or bound is not None
    counts = not (unknown or uncounted_ticks or evidence.surplus_ticks)
    no_trade = state == PROVEN and not evidence.ranges
    expected_ticks = count(evidence.ranges) + missing_ticks if counts and (evidence.ranges or no_trade) else None
    return Verdict(
        state,
        reason,
        missing_ticks,
        bound,
        evidence.stored_ticks if state == PROVEN and level is EvidenceLevel.REPLAY else expected_ticks,
        subtract(absent, in_gaps) if missing_ticks > in_gaps_ticks else [],
        max(0, missing_ticks - in_gaps_ticks),
        level,
    )


def _basis(evidence: Evidence) -> tuple[EvidenceLevel, str | None]:
    """What the day is judged by, and what its file says against that."""
    if sequences_count(evidence.distrust):
        return EvidenceLevel.COUNTER, evidence.distrust
    if is_by_total(evidence.distrust):
        others = [reason for reason in reasons_of(evidence.distrust) if reason not in (NO_COUNTER, BY_TOTAL)]
        return EvidenceLevel.RUNNING_TOTAL, "; ".join(others) or None
    alone = reasons_of(evidence.distrust) == (NO_COUNTER,)
    against = _unlike_copy(evidence) if alone else evidence.distrust
    return (EvidenceLevel.ID if against else EvidenceLevel.REPLAY), against


def _judge_by_total(evidence: Evidence, against: str | None) -> Verdict:
    """At least a trade is missing in each stretch of units that no stored trade takes, at most one a unit."""
    end = evidence.verified_counter
    absent = missing_units(evidence.ranges, None if end == NO_TICK else end)
    units = count(absent)
    if evidence.lost_gaps or absent:
        where = f"in {counted(len(absent), 'place')} between its running totals"
        loss = f"{units:,} of volume missing {where}" if units else _loss(evidence, [], 0)
        reason = _reason(loss, evidence.not_subscribed, against, _up_to(evidence.at_most))
    else:
        reason = _reason(evidence.not_subscribed, against, _beginning(evidence, evidence.at_most))
        if reason is None and evidence.unsequenced_ticks:
            reason = f"{counted(evidence.unsequenced_ticks, 'tick')} without a sequence"
        if reason is None and _is_end_unseen(evidence, end):
            reason = NOT_SHOWN
    lost = evidence.lost_gaps or units
    state = MISSING if lost else UNPROVEN if reason else PROVEN
    return Verdict(
        state,
        reason,
        len(absent),
        units - len(absent) or evidence.at_most,
        evidence.stored_ticks if state == PROVEN else None,
        absent,
        len(absent),
        EvidenceLevel.RUNNING_TOTAL,
    )


def _is_end_unseen(evidence: Evidence, end: int | None) -> bool:
    """Did the source not show the day's end, or only one that trades lie behind?"""
    return end is None or (bool(evidence.ranges) and end < evidence.ranges[-1][1])


def _unlike_copy(evidence: Evidence) -> str | None:
    """Why rows without counters are not known to be those of a copy of the day; None when they are."""
    replay = evidence.replay
    if replay is None:
        return NO_COUNTER
    if replay.ticks == NOT_COMPARED:
        return f"{NO_COUNTER}; its file is another one now, and could not be compared: see what the import says of it"
    more = evidence.stored_ticks - replay.ticks
    if more:
        difference = f"{abs(more)} rows {'more' if more > 0 else 'fewer'}"
        return f"{NO_COUNTER}; {difference} than its file had when it was last read: import the file again"
    if not replay.confirmed:
        return f"{NO_COUNTER}; {READ_ONCE}"
    return None


def _known(evidence: Evidence, in_gaps: Sequence[Extent]) -> list[Extent]:
    """From the lowest counter that is known to the highest."""
    edges = [edge for extent in in_gaps for edge in extent]
    if evidence.ranges:
        edges += [evidence.ranges[0][0], evidence.ranges[-1][1]]
    shown = (evidence.head_counter, evidence.verified_counter)
    edges += [counter for counter in shown if counter is not None and counter != NO_TICK]
    return [(min(edges), max(edges))] if edges else []


def _joined(extents: Iterable[Extent]) -> list[Extent]:
    """The same counters, none of them twice."""
    joined: list[Extent] = []
    for first, last in sorted(extents):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(last, joined[-1][1]))
        else:
            joined.append((first, last))
    return joined


def _before_first(evidence: Evidence, in_gaps: Sequence[Extent], uncounted_ticks: int) -> int | None:
    """How many ticks at most, that nothing counts, the day had before the first one seen; None: no gap says that it had
    any, or OpenD showed the day's first counter, so that all of them are counted."""
    known = _known(evidence, in_gaps)
    if evidence.at_most is None or not known:
        return evidence.at_most
    lowest = known[0][0]
    # Where the beginning is known, a row without a counter of its own was taken for one of the ticks before.
    bound = min(evidence.at_most, uncounted_ticks if evidence.head_counter == lowest else lowest - 1)
    return bound if bound > 0 else None


def _reason(*doubts: str | None) -> str | None:
    """All that speaks against a day, the gravest first: what is lost, ticks that did not come, counters that prove
    nothing, a beginning that nobody saw."""
    return "; ".join(doubt for doubt in doubts if doubt is not None) or None


def _beginning(evidence: Evidence, bound: int | None) -> str | None:
    """Why a day is not proven whose beginning is an open gap."""
    return _up_to(bound) or (FIRST_NOT_PROVEN if evidence.at_most is not None else None)


def _up_to(bound: int | None) -> str | None:
    if bound is None:
        return None
    return f"{UP_TO}{counted(bound, 'tick')} may have come before the first one seen: see table gaps"


def _loss(evidence: Evidence, absent: Sequence[Extent], missing_ticks: int) -> str:
    if evidence.lost_gaps:
        return "ticks that OpenD no longer shows: see table gaps"
    first, last = _ends(evidence)
    if first is None or last is None:
        return f"OpenD had {counted(missing_ticks, 'tick')} or more that are not stored"
    between = count(absent) - count(part for part in absent if part[1] < first or part[0] > last)
    if between:
        return f"{counted(min(between, missing_ticks), 'tick')} between the stored ones"
    if evidence.verified_counter is not None and evidence.verified_counter > last:
        return f"OpenD had ticks up to counter {evidence.verified_counter}, stored are those up to {last}"
    return f"the day began with counter {evidence.head_counter}, stored are those from {first}"


def _doubt(evidence: Evidence, absent_ticks: int, uncounted_ticks: int) -> str | None:
    (first, last), head, verified = _ends(evidence), evidence.head_counter, evidence.verified_counter
    if absent_ticks:
        bare = f"{counted(uncounted_ticks, 'tick')} without a counter of their own"
        return f"{bare}, {counted(absent_ticks, 'counter')} absent"
    if evidence.unsequenced_ticks:
        return f"{counted(evidence.unsequenced_ticks, 'tick')} without a sequence"
    if evidence.surplus_ticks:
        surplus = evidence.surplus_ticks
        return f"the counters do not count: {counted(abs(surplus), 'tick')} too {'many' if surplus > 0 else 'few'}"
    if first is None or last is None:
        return None if verified == NO_TICK else "no tick stored, and OpenD did not say that it has none"
    if verified is None or verified == NO_TICK:
        return "not yet confirmed by a pull"
    return None if head == first else FIRST_NOT_PROVEN


def _ends(evidence: Evidence) -> tuple[int | None, int | None]:
    return (evidence.ranges[0][0], evidence.ranges[-1][1]) if evidence.ranges else (None, None)
