"""One symbol's day in memory: which counters are stored, what OpenD showed, and every caution; a row of ``coverage``.

Limit: a symbol with more than MAX_HOLES holes does not count its ticks. Its ranges are given up (the holes are
forgotten, its gaps stay open) and its day is unproven.
"""

from __future__ import annotations

import sqlite3
from typing import Any

from hk_tick_collector.core.facts import (
    NO_TICK,
    PUSH_PULL_DISAGREE,
    STRAYS_DISAGREE,
    Replayed,
    Verified,
    reasons_of,
)
from hk_tick_collector.core.ranges import CounterRanges
from hk_tick_collector.records import totals
from hk_tick_collector.records.totals import SECOND_SESSION
from hk_tick_collector.store import gaps
from hk_tick_collector.store.extents import count, format_extents, parse_extents, subtract
from hk_tick_collector.store.verdict import (
    PROVEN,
    UNPROVEN,
    Evidence,
    Replay,
    gap_evidence,
    is_by_total,
    judge,
    sequences_count,
    unseen_ticks,
)

MAX_HOLES = 500
MAX_LATER = 64  # interruptions that are open besides the first one; of more only that one is known
TOO_MANY_HOLES = f"the counters do not count: more than {MAX_HOLES} holes"
# Answers pass each other by some seconds. What is told later and is earlier by more was told before by a clock that ran
# ahead, and "OpenD was asked at 17:00" would be said of a morning.
SET_BACK_MS = 120_000
MAX_DISTRUST_CHARS = 300  # reasons add up; a text that grows with every fact must not

_MORE_THAN_DOUBTS = (TOO_MANY_HOLES, PUSH_PULL_DISAGREE, STRAYS_DISAGREE)  # what is stored, and how, depends on them
NO_RANGE = [0, -2]  # no counter follows it
MAX_MS, MIN_MS = (1 << 63) - 1, -(1 << 63)

COLUMNS = (
    "symbol", "first_counter", "last_counter", "stored_ticks", "missing_ticks", "holes", "head_proven",
    "verified_counter", "verified_until_ms", "first_ts_ms", "last_ts_ms", "state", "reason", "updated_at_ms",
    "unsequenced_ticks", "head_counter", "distrust", "interrupted_seq", "later_interruptions",
)  # fmt: skip

Row = tuple[Any, ...]


class SymbolCoverage:
    """One symbol's day. ``newest`` is the last range of ``ranges``: the place where a tick in order goes."""

    __slots__ = (
        "distrust", "first_ts_ms", "gaps", "head_counter", "interrupted_seq", "last_ts_ms", "later_seqs",
        "missing_ticks", "newest", "ranges", "replay", "settled", "state", "stored_less_last", "surplus_ticks",
        "symbol", "unseen_ticks", "unsequenced_ticks", "verified_counter", "verified_until_ms",
    )  # fmt: skip

    def __init__(self, symbol: str) -> None:
        self.symbol = symbol
        self.ranges = CounterRanges()
        self.newest: list[int] = NO_RANGE
        self.surplus_ticks = 0
        self.unsequenced_ticks = 0
        self.first_ts_ms = MAX_MS
        self.last_ts_ms = MIN_MS
        self.head_counter: int | None = None
        self.verified_counter: int | None = None
        self.verified_until_ms: int | None = None
        self.distrust: str | None = None
        self.interrupted_seq: int | None = None
        self.later_seqs: list[int] | None = []  # the same of later ones that are open, ascending; None: not known
        self.gaps: list[gaps.Gap] = []
        self.replay: Replay | None = None
        # What follows from the above. ``settled``: ticks in order change nothing of the row but its newest end.
        self.settled = False
        self.state = UNPROVEN
        self.missing_ticks = 0
        self.unseen_ticks = 0  # at most, before the first one seen
        self.stored_less_last = 0  # ticks stored, less the last counter and ``surplus_ticks``

    @classmethod
    def of_row(cls, row: Row) -> SymbolCoverage:
        """What a row of the table says, its columns in the order of COLUMNS."""
        value = dict(zip(COLUMNS, row, strict=True))
        track = cls(value["symbol"])
        track.ranges = ranges_of(value["first_counter"], value["last_counter"], value["holes"])
        track.newest = track.ranges.ranges[-1] if track.ranges else NO_RANGE
        track.unsequenced_ticks = value["unsequenced_ticks"]
        track.surplus_ticks = value["stored_ticks"] - value["unsequenced_ticks"] - track.covered_ticks()
        track.first_ts_ms = MAX_MS if value["first_ts_ms"] is None else value["first_ts_ms"]
        track.last_ts_ms = MIN_MS if value["last_ts_ms"] is None else value["last_ts_ms"]
        track.head_counter = value["head_counter"]
        track.verified_counter = value["verified_counter"]
        track.verified_until_ms = value["verified_until_ms"]
        track.distrust = value["distrust"]
        track.interrupted_seq = value["interrupted_seq"]
        track.later_seqs = later_seqs_of(value["interrupted_seq"], value["later_interruptions"])
        return track

    @property
    def counted(self) -> bool:
        """False when the ranges were given up: they then claim more than is stored."""
        return self.counts and (self.distrust is None or TOO_MANY_HOLES not in self.distrust)

    @property
    def counts(self) -> bool:
        """False when sequences are positions only, which count nothing."""
        return sequences_count(self.distrust)

    @property
    def by_total(self) -> bool:
        """Are sequences a running total, and ``ranges`` units of volume?"""
        return is_by_total(self.distrust)

    @property
    def head_proven(self) -> bool:
        """The lowest counter stored is the day's first one, as OpenD showed it."""
        return self.head_counter is not None and bool(self.ranges) and self.ranges.first == self.head_counter

    def covered_ticks(self) -> int:
        """How many counters the ranges hold."""
        return count(self.ranges.ranges)

    def stored_ticks(self) -> int:
        """How many rows of the symbol the file holds."""
        return self.covered_ticks() + self.surplus_ticks + self.unsequenced_ticks

    def add(self, counter: int) -> bool:
        """Note a counter that is not the next one. True when it is new."""
        return self._add(counter, counter)

    def take_units(self, first: int, last: int) -> bool:
        """Note the units of volume of a trade. False when another one has some of them: nothing is noted then."""
        low = next((span for span in reversed(self.ranges.ranges) if span[0] <= last), None)
        return (low is None or low[1] < first) and self._add(first, last)

    def _add(self, first: int, last: int) -> bool:
        if not self.ranges.add(first, last):
            return False
        self.settled = False
        if len(self.ranges) > MAX_HOLES + 1:
            self.surplus_ticks -= self.ranges.missing()
            self.ranges = CounterRanges([(self.ranges.first, self.ranges.last)])
            self.doubt(TOO_MANY_HOLES)
        self.newest = self.ranges.ranges[-1]
        return True

    def pass_over(self, seq: int) -> bool:
        """Note a position below or above all others, as one that is stored. False for one between them."""
        newest = self.newest
        if newest is NO_RANGE:
            self.ranges = CounterRanges([(seq, seq)])
            self.newest = self.ranges.ranges[0]
            return True
        if seq > newest[1]:
            self.surplus_ticks -= seq - newest[1] - 1
            newest[1] = seq
            return True
        if seq < newest[0]:
            self.surplus_ticks -= newest[0] - seq - 1
            newest[0] = seq
            self.settled = False
            return True
        return False

    def note_time(self, ts_ms: int) -> None:
        """A row of this time is stored, or an existing one has it now."""
        self.first_ts_ms = min(self.first_ts_ms, ts_ms)
        self.last_ts_ms = max(self.last_ts_ms, ts_ms)
        self.settled = False

    def doubt(self, reason: str) -> None:
        """From now on the counters prove nothing today; every other reason is kept beside the first."""
        self.settled = False
        if self.distrust is None:
            self.distrust = reason
        elif reason not in self.distrust and (len(self.distrust) < MAX_DISTRUST_CHARS or reason in _MORE_THAN_DOUBTS):
            self.distrust = f"{self.distrust}; {reason}"

    def interrupt(self, last_seq: int | None) -> None:
        """What comes follows an interruption behind ``last_seq``; None: there is nothing before it."""
        if last_seq is None or last_seq == self.interrupted_seq:
            return
        if self.interrupted_seq is None:
            self.interrupted_seq, self.later_seqs = last_seq, []
            return
        self.interrupted_seq, later_seq = sorted((self.interrupted_seq, last_seq))
        if self.later_seqs is not None:
            self.later_seqs = sorted({*self.later_seqs, later_seq})
            if len(self.later_seqs) > MAX_LATER:
                self.later_seqs = None

    def rejoin(self, last_seq: int) -> None:
        """Nothing is missing between ``last_seq`` and what came after it."""
        if self.interrupted_seq is not None and self.interrupted_seq >= last_seq:
            self.interrupted_seq, self.later_seqs = None, []
        elif self.later_seqs:
            self.later_seqs = [seq for seq in self.later_seqs if seq < last_seq]

    def verify(self, fact: Verified) -> None:
        """What OpenD's newest tick was. That it has none says nothing once there was one: it may have forgotten."""
        if fact.last_counter == NO_TICK and (self.stored_ticks() or (self.verified_counter or NO_TICK) != NO_TICK):
            return
        until_ms = self.verified_until_ms
        if until_ms is None or fact.at_ms >= until_ms:
            self.verified_counter, self.verified_until_ms = fact.last_counter, fact.at_ms
        elif until_ms - fact.at_ms > SET_BACK_MS:
            self.verified_counter = max(fact.last_counter, self.verified_counter or NO_TICK)
            self.verified_until_ms = fact.at_ms

    def forget_end(self, first_session_end: int) -> None:
        """Its first session reached to this unit. Where trades of its end are gone and a second one follows, no total
        tells that they were there: only a new look at the whole day does."""
        is_told_by_second = (self.verified_counter or 0) >= SECOND_SESSION
        if self.by_total and is_told_by_second and totals.first_session_end(self.ranges.ranges) < first_session_end:
            self.verified_counter = self.verified_until_ms = None

    def begins_with(self, counter: int) -> None:
        """OpenD showed that no tick comes before it. The lowest one holds: without its cache it shows a later one."""
        self.head_counter = counter if self.head_counter is None else min(self.head_counter, counter)

    def take_over(self, other: SymbolCoverage) -> None:
        """What another file says of this symbol's day besides its rows: what OpenD showed, and every caution."""
        if other.head_counter is not None:
            self.begins_with(other.head_counter)
        counter, until_ms = other.verified_counter, other.verified_until_ms
        if counter is not None and until_ms is not None and until_ms > (self.verified_until_ms or 0):
            self.verify(Verified(self.symbol, "", counter, until_ms))
        for reason in reasons_of(other.distrust):
            self.doubt(reason)

    def hold_against(self, fact: Replayed, rows: int) -> None:
        """A copy of the day was compared; ``rows``: how many the symbol has, counted now."""
        known, at_ms = self.replay, fact.at_ms
        same = known is not None and (known.copy, known.ticks, known.digest) == (fact.copy, fact.ticks, fact.digest)
        # One of a time to come is of a clock that ran ahead: it is no earlier reading.
        first_at_ms = known.first_at_ms if known is not None and same and known.first_at_ms <= at_ms else at_ms
        is_equal = fact.ticks == rows == self.stored_ticks()
        self.replay = Replay(
            fact.symbol, fact.copy, fact.ticks, fact.digest, first_at_ms, at_ms if is_equal else first_at_ms
        )

    def check_replay(self) -> bool:
        """Withdraw it when there are not as many rows as it had. True when it was withdrawn just now: rows are only
        added while a file is open, so that an equal number is no coincidence."""
        replay = self.replay
        if replay is None or not replay.confirmed or replay.ticks == self.stored_ticks():
            return False
        self.replay = replay.withdrawn()
        return True

    def close_windows(self, conn: sqlite3.Connection, day: str, now_ms: int) -> None:
        """A time without subscription was made up when OpenD, asked after it, had nothing that is not stored."""
        until_ms = self.verified_until_ms
        past = [gap for gap in self.gaps if gap.is_window and gap.over and until_ms and gap.end_ts_ms <= until_ms]
        if past and judge(self.evidence()._replace(not_subscribed=None)).state == PROVEN:
            for gap in past:
                self.gaps.remove(gap)
                gaps.close(conn, day, self.symbol, gap, now_ms)

    def settle(self) -> str | None:
        """Work out state and numbers anew; returns the reason."""
        evidence = self.evidence()
        verdict = judge(evidence)
        self.state, self.missing_ticks = verdict.state, verdict.missing_ticks
        self.unseen_ticks = unseen_ticks(evidence, verdict)
        # The next tick may be the one that is waited for: then it must be looked at.
        in_gaps = (high for gap in self.gaps for _, high in gap.extents)
        awaited = max([self.verified_counter or 0, self.head_counter or 0, *in_gaps])
        last = self.ranges.last if self.ranges else None
        # And a copy of the day is withdrawn by any.
        self.settled = last is not None and last >= awaited and self.replay is None
        self.stored_less_last = self.stored_ticks() - self.surplus_ticks - (last or 0)
        return verdict.reason

    def evidence(self) -> Evidence:
        """What the verdict follows from."""
        return gap_evidence(self.gaps)._replace(
            ranges=self.ranges.ranges,
            surplus_ticks=self.surplus_ticks,
            unsequenced_ticks=self.unsequenced_ticks,
            head_counter=self.head_counter,
            verified_counter=self.verified_counter,
            distrust=self.distrust,
            interrupted=self.interrupted_seq is not None,
            replay=self.replay,
        )

    def row(self, now_ms: int) -> Row:
        """The symbol's row of the table, its columns in the order of COLUMNS."""
        reason = self.settle()
        ranges = self.ranges
        return (
            self.symbol,
            ranges.first if ranges else None,
            ranges.last if ranges else None,
            self.stored_ticks(),
            self.missing_ticks,
            format_extents(ranges.holes()) or None,
            int(self.head_proven),
            self.verified_counter,
            self.verified_until_ms,
            None if self.first_ts_ms == MAX_MS else self.first_ts_ms,
            None if self.last_ts_ms == MIN_MS else self.last_ts_ms,
            self.state,
            reason,
            now_ms,
            self.unsequenced_ticks,
            self.head_counter,
            self.distrust,
            self.interrupted_seq,
            None if self.interrupted_seq is None or self.later_seqs is None else " ".join(map(str, self.later_seqs)),
        )


def later_seqs_of(interrupted_seq: int | None, later: str | None) -> list[int] | None:
    """The interruptions behind the first one that is open, from the columns of both; None: not known."""
    if interrupted_seq is None:
        return []
    try:
        return None if later is None else sorted(map(int, later.split()))
    except (ValueError, AttributeError):  # somebody else's
        return None


def ranges_of(first: int | None, last: int | None, holes: str | None) -> CounterRanges:
    """The counters stored, from the columns ``first_counter``, ``last_counter`` and ``holes``."""
    if first is None or last is None:
        return CounterRanges()
    return CounterRanges(subtract([(first, last)], parse_extents(holes)))
