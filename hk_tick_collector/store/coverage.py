"""What a day file knows of its own completeness: one ``coverage`` row a symbol, in step with ``ticks``.

For HK stocks the low 32 bits of a sequence count the symbol's ticks of the day (observed, not documented; see
``records.tick``). So the counters stored, as ranges, say which ticks are missing, and together with what the feed
learned (``core.facts``) whether anything can be missing at all. ``judge`` is the whole rule.

A ``DayCoverage`` is the table in memory, owned by the writer that has the file open. Promises:

- Rows of ``coverage`` and ``gaps`` are written in the transaction of the ticks they speak of. After any error the
  writer throws its ``DayCoverage`` away and the next write loads it from the file again.
- A table that does not add up to the rows of ``ticks`` (removed, an earlier recorder's file, rows that another program
  added) is counted anew from ``ticks`` when the file is opened. What only the feed knew is then kept or unproven.
- A tick in order costs a dictionary look-up and an addition; memory and loading are O(symbols).

Where a source's sequences count nothing (``SymbolCoverage.counts``) they are taken as positions that rise with time:
the range is that of the lowest and the highest one stored, nothing is known to be missing, and NO_COUNTER says so.
Such a symbol is proven only by a copy of its day (``Replay``) that had each row and no other, and was the same when it
was read again: equal to the copy, not to what the exchange told. Whatever changes its rows takes that away until the
copy is held against them anew.

Limit: a symbol with more than MAX_HOLES holes does not count its ticks. Its ranges are given up (the holes are
forgotten, its gaps stay open) and its day is unproven.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from hk_tick_collector.core.evidence import NO_COUNTER, EvidenceLevel
from hk_tick_collector.core.facts import (
    DETAILS,
    NO_TICK,
    NOT_COMPARED,
    NOT_YET_JOINED,
    PUSH_PULL_DISAGREE,
    UNKNOWN_SEQ,
    DayFact,
    Fact,
    GapFound,
    HeadProven,
    Interrupted,
    NotSubscribed,
    Rejoined,
    Replayed,
    RowsRead,
    Subscribed,
    Unproven,
    Verified,
    counters_count,
    reasons_of,
)
from hk_tick_collector.core.ranges import CounterRanges
from hk_tick_collector.core.text import counted
from hk_tick_collector.market.market import Market
from hk_tick_collector.market.registry import DEFAULT_MARKET
from hk_tick_collector.records.tick import SEQ_COUNTER_MASK, Origin, Tick
from hk_tick_collector.records.views import by_content
from hk_tick_collector.store import gaps
from hk_tick_collector.store.connect import COVERAGE_SQL, split_statements
from hk_tick_collector.store.extents import Extent, count, format_extents, parse_extents, subtract
from hk_tick_collector.store.numbering import numbered_otherwise

PROVEN, MISSING, UNPROVEN = "proven", "missing", "unproven"
MAX_HOLES = 500
READ_ONCE = (
    "equal to its file, which was not read again since: import it once more, best after its program was restarted or "
    "has connected again"
)
TOO_MANY_HOLES = f"the counters do not count: more than {MAX_HOLES} holes"
# Answers pass each other by some seconds. What is told later and is earlier by more was told before by a clock that ran
# ahead, and "OpenD was asked at 17:00" would be said of a morning.
SET_BACK_MS = 120_000
CLOSING_MS = 2000  # a file is checkpointed so long after its last commit; who writes to it later is somebody else
COUNTED_ROWS = 200_000  # so many are counted whenever a file is opened: 20 ms
# INDEXED BY: without that index this would become a scan of the day; better an error.
LAST_SEQ_SQL = (
    "SELECT seq FROM ticks INDEXED BY uniq_ticks_symbol_seq "
    "WHERE symbol = ? AND seq IS NOT NULL ORDER BY seq DESC LIMIT 1"
)
_IS_STORED = "SELECT 1 FROM ticks WHERE symbol = ? AND seq = ?"
MAX_DISTRUST_CHARS = 300  # reasons add up; a text that grows with every fact must not

_MORE_THAN_DOUBTS = (TOO_MANY_HOLES, PUSH_PULL_DISAGREE)  # what is stored, and how, depends on them
_NO_RANGE = [0, -2]  # no counter follows it
_MAX_MS, _MIN_MS = (1 << 63) - 1, -(1 << 63)

COLUMNS = (
    "symbol", "first_counter", "last_counter", "stored_ticks", "missing_ticks", "holes", "head_proven",
    "verified_counter", "verified_until_ms", "first_ts_ms", "last_ts_ms", "state", "reason", "updated_at_ms",
    "unsequenced_ticks", "head_counter", "distrust", "interrupted_seq",
)  # fmt: skip
_SELECT = f"SELECT {', '.join(COLUMNS)} FROM coverage"  # noqa: S608 - constants
_UPSERT = f"INSERT OR REPLACE INTO coverage ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})"  # noqa: S608
_ADVANCE = "UPDATE coverage SET last_counter = ?, stored_ticks = ?, last_ts_ms = ?, updated_at_ms = ? WHERE symbol = ?"
REPLAY_COLUMNS = ("symbol", "copy", "ticks", "digest", "first_at_ms", "last_at_ms")
_REPLAYS = f"SELECT {', '.join(REPLAY_COLUMNS)} FROM replays ORDER BY symbol"  # noqa: S608 - constants
_REPLAYED = f"INSERT OR REPLACE INTO replays ({', '.join(REPLAY_COLUMNS)}) VALUES (?, ?, ?, ?, ?, ?)"  # noqa: S608

Row = tuple[Any, ...]


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

    def row(self) -> Row:
        """Its columns in the order of REPLAY_COLUMNS."""
        return tuple(getattr(self, name) for name in REPLAY_COLUMNS)


def read_replays(conn: sqlite3.Connection) -> dict[str, Replay]:
    """The table ``replays`` by symbol; empty where there is none. A row that the recorder never writes is left out."""
    if not conn.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'replays'").fetchone():
        return {}
    found = (Replay(*row) for row in conn.execute(_REPLAYS))
    return {
        one.symbol: one
        for one in found
        if all(isinstance(n, int) for n in (one.ticks, one.first_at_ms, one.last_at_ms))
    }


class Evidence(NamedTuple):
    """All that a symbol's verdict follows from."""

    ranges: Sequence[Sequence[int]] = ()  # counters stored, ascending and disjoint
    surplus_ticks: int = 0  # rows with a sequence less counters stored; 0 when the counters count
    unsequenced_ticks: int = 0
    open_gaps: int = 0
    in_gaps: Sequence[Extent] = ()  # counters that are missing by these gaps
    at_most: int | None = None  # by these gaps up to so many ticks more at the beginning of the day
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


class Verdict(NamedTuple):
    """What is said of a symbol's day, by ``coverage`` and by everything that speaks of it."""

    state: str  # proven | missing | unproven
    reason: str | None  # why it is not proven
    missing_ticks: int  # known to be missing; 0 unless the state is "missing"
    missing_at_most: int | None  # not None: besides, up to so many at the beginning of the day
    expected_ticks: int | None  # None: nothing counts them, or part of the day is not known
    unlisted: list[Extent]  # counters that are not stored and stand in no open gap
    unlisted_ticks: int  # of missing_ticks: those that stand in no open gap
    level: EvidenceLevel = EvidenceLevel.COUNTER  # what it is judged by


def sequences_count(distrust: str | None) -> bool:
    """Are the low bits of the symbol's sequences counters at all, by what its file says? Else they are positions."""
    return distrust is None or NO_COUNTER not in reasons_of(distrust)


def judge(evidence: Evidence) -> Verdict:
    """The verdict on a symbol's day. Nothing else decides a state or counts what is missing.

    What OpenD could not show again is missing whatever else holds. Counters that prove nothing make no holes either.
    Otherwise a counter is missing that lies between two that are known, whether they are stored or OpenD showed them;
    but a row without a counter of its own may be any of them.

    Where there are no counters, the rows are proven by a copy of the day that is equal to them (``_unlike_copy``): then
    as many are expected as are stored.
    """
    level, against = _basis(evidence)
    in_gaps = _joined(evidence.in_gaps)
    follows = counters_count(evidence.distrust)
    absent = subtract(_known(evidence, in_gaps), evidence.ranges) if follows else in_gaps
    uncounted_ticks = evidence.unsequenced_ticks + max(0, evidence.surplus_ticks)
    in_gaps_ticks = count(in_gaps)
    missing_ticks = max(in_gaps_ticks, count(absent) - (uncounted_ticks if follows else 0))
    if evidence.open_gaps or missing_ticks:
        state = MISSING
        reason: str | None = _loss(evidence, absent, missing_ticks)
    else:
        missing_ticks = 0
        reason = evidence.not_subscribed or against or (NOT_YET_JOINED if evidence.interrupted else None)
        if level is not EvidenceLevel.REPLAY:
            reason = reason or _doubt(evidence, count(absent), uncounted_ticks)
        state = UNPROVEN if reason else PROVEN
    unknown = not follows or evidence.not_subscribed or evidence.at_most is not None
    counts = not (unknown or uncounted_ticks or evidence.surplus_ticks)
    no_trade = state == PROVEN and not evidence.ranges
    expected_ticks = count(evidence.ranges) + missing_ticks if counts and (evidence.ranges or no_trade) else None
    return Verdict(
        state,
        reason,
        missing_ticks,
        evidence.at_most,
        evidence.stored_ticks if state == PROVEN and level is EvidenceLevel.REPLAY else expected_ticks,
        subtract(absent, in_gaps) if missing_ticks > in_gaps_ticks else [],
        max(0, missing_ticks - in_gaps_ticks),
        level,
    )


def _basis(evidence: Evidence) -> tuple[EvidenceLevel, str | None]:
    """What the day is judged by, and what its file says against that."""
    if sequences_count(evidence.distrust):
        return EvidenceLevel.COUNTER, evidence.distrust
    alone = reasons_of(evidence.distrust) == (NO_COUNTER,)
    against = _unlike_copy(evidence) if alone else evidence.distrust
    return (EvidenceLevel.ID if against else EvidenceLevel.REPLAY), against


def _unlike_copy(evidence: Evidence) -> str | None:
    """Why rows without counters are not known to be those of a copy of the day; None when they are."""
    replay = evidence.replay
    if replay is None:
        return NO_COUNTER
    if replay.ticks == NOT_COMPARED:
        return f"{NO_COUNTER}; its file is another one now, and could not be compared: see what the import says of it"
    more = evidence.stored_ticks - replay.ticks
    if more:
        what = f"{abs(more)} rows {'more' if more > 0 else 'fewer'}"
        return f"{NO_COUNTER}; {what} than its file had when it was last read: import the file again"
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


def _loss(evidence: Evidence, absent: Sequence[Extent], missing_ticks: int) -> str:
    if evidence.open_gaps:
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
    return None if head == first else "the day's first ticks are not proven"


def _ends(evidence: Evidence) -> tuple[int | None, int | None]:
    return (evidence.ranges[0][0], evidence.ranges[-1][1]) if evidence.ranges else (None, None)


class SymbolCoverage:
    """One symbol's day. ``newest`` is the last range of ``ranges``: the place where a tick in order goes."""

    __slots__ = (
        "distrust", "first_ts_ms", "gaps", "head_counter", "interrupted_seq", "last_ts_ms", "missing_ticks",
        "newest", "ranges", "replay", "settled", "state", "stored_less_last", "surplus_ticks", "symbol",
        "unsequenced_ticks", "verified_counter", "verified_until_ms",
    )  # fmt: skip

    def __init__(self, symbol: str) -> None:
        self.symbol = symbol
        self.ranges = CounterRanges()
        self.newest: list[int] = _NO_RANGE
        self.surplus_ticks = 0
        self.unsequenced_ticks = 0
        self.first_ts_ms = _MAX_MS
        self.last_ts_ms = _MIN_MS
        self.head_counter: int | None = None
        self.verified_counter: int | None = None
        self.verified_until_ms: int | None = None
        self.distrust: str | None = None
        self.interrupted_seq: int | None = None
        self.gaps: list[gaps.Gap] = []
        self.replay: Replay | None = None
        # What follows from the above. ``settled``: ticks in order cannot change it.
        self.settled = False
        self.state = UNPROVEN
        self.missing_ticks = 0
        self.stored_less_last = 0

    @classmethod
    def of_row(cls, row: Row) -> SymbolCoverage:
        """What a row of the table says, its columns in the order of COLUMNS."""
        value = dict(zip(COLUMNS, row, strict=True))
        track = cls(value["symbol"])
        track.ranges = ranges_of(value["first_counter"], value["last_counter"], value["holes"])
        track.newest = track.ranges.ranges[-1] if track.ranges else _NO_RANGE
        track.unsequenced_ticks = value["unsequenced_ticks"]
        track.surplus_ticks = value["stored_ticks"] - value["unsequenced_ticks"] - track.covered_ticks()
        track.first_ts_ms = _MAX_MS if value["first_ts_ms"] is None else value["first_ts_ms"]
        track.last_ts_ms = _MIN_MS if value["last_ts_ms"] is None else value["last_ts_ms"]
        track.head_counter = value["head_counter"]
        track.verified_counter = value["verified_counter"]
        track.verified_until_ms = value["verified_until_ms"]
        track.distrust = value["distrust"]
        track.interrupted_seq = value["interrupted_seq"]
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
        if not self.ranges.add(counter, counter):
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
        if newest is _NO_RANGE:
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
        if last_seq is not None and (self.interrupted_seq is None or last_seq < self.interrupted_seq):
            self.interrupted_seq = last_seq

    def rejoin(self, last_seq: int) -> None:
        """Nothing is missing between ``last_seq`` and what came after it."""
        if self.interrupted_seq is not None and self.interrupted_seq >= last_seq:
            self.interrupted_seq = None

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
        verdict = judge(self.evidence())
        self.state, self.missing_ticks = verdict.state, verdict.missing_ticks
        # The next tick may be the one that is waited for: then it must be looked at.
        in_gaps = (high for gap in self.gaps for _, high in gap.extents)
        awaited = max([self.verified_counter or 0, self.head_counter or 0, *in_gaps])
        last = self.ranges.last if self.ranges else None
        self.settled = last is not None and last >= awaited and self.counts
        self.stored_less_last = self.stored_ticks() - (last or 0)
        return verdict.reason

    def evidence(self) -> Evidence:
        """What the verdict follows from."""
        lost = [gap for gap in self.gaps if not gap.is_window]
        return Evidence(
            self.ranges.ranges,
            self.surplus_ticks,
            self.unsequenced_ticks,
            len(lost),
            [extent for gap in lost for extent in gap.extents],
            max((gap.at_most for gap in lost if gap.at_most is not None), default=None),
            next((gap.reason for gap in reversed(self.gaps) if gap.is_window), None),
            self.head_counter,
            self.verified_counter,
            self.distrust,
            self.interrupted_seq is not None,
            self.replay,
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
            None if self.first_ts_ms == _MAX_MS else self.first_ts_ms,
            None if self.last_ts_ms == _MIN_MS else self.last_ts_ms,
            self.state,
            reason,
            now_ms,
            self.unsequenced_ticks,
            self.head_counter,
            self.distrust,
            self.interrupted_seq,
        )


class Sorted(NamedTuple):
    """A day's rows of a batch by what is known of them before SQLite sees them, each with the stamp at its end."""

    new: list[Row]  # their counters are new: none of them can be stored already
    doubtful: list[Row]  # their counters were seen: a repeat, or another tick
    unsequenced: dict[str, list[Row]]  # by symbol
    claims: bool  # is a row without a sequence stored that one of these may be?


class DayCoverage:
    """The coverage of one open day file."""

    def __init__(self, day: str, *, counts: bool = True, market: Market = DEFAULT_MARKET) -> None:
        self._day = day
        self._market = market
        self._counts = counts
        self._tracks: dict[str, SymbolCoverage] = {}
        self._unkeyed: set[str] = set()  # symbols whose sequences name no tick, since two ways number each for itself
        # Symbols whose rows who hands them over could not read, and has not seen pushes and answers agree of since.
        self._unread: set[str] = set()
        self._touched: set[str] = set()
        self.missing_ticks = 0  # of the symbols that are in the state "missing"

    @classmethod
    def load(
        cls,
        conn: sqlite3.Connection,
        day: str,
        changed_ms: int | None = None,
        *,
        counts: bool = True,
        market: Market = DEFAULT_MARKET,
    ) -> DayCoverage:
        """Read the tables, made or counted anew where they do not fit ``ticks``. Wants a write transaction.

        ``changed_ms``: when the file was last written to. If that was our own last commit, the newest rowid counts the
        rows, for the recorder only appends. Else somebody may have removed some (0.1 s a million rows). ``counts``:
        whether sequences count the ticks, where the file does not tell by its coverage or the origin of its rows.
        """
        coverage = cls(day, counts=counts, market=market)
        for statement in split_statements(COVERAGE_SQL):
            conn.execute(statement)
        stored_ticks = committed_ms = 0
        for row in conn.execute(_SELECT):
            try:
                coverage._tracks[row[0]] = SymbolCoverage.of_row(row)
                stored_ticks += row[COLUMNS.index("stored_ticks")]
                committed_ms = max(committed_ms, row[COLUMNS.index("updated_at_ms")])
            except (TypeError, ValueError):  # somebody else's text in a column: as if the row were not there
                continue
        counting = [track.counts for track in coverage._tracks.values()]
        coverage._counts = counts and all(counting) and _origin_counts(conn)
        for symbol, found in gaps.load_open(conn).items():
            coverage.track(symbol).gaps = found
        for symbol, replay in read_replays(conn).items():
            coverage.track(symbol).replay = replay
        if stored_ticks != _rows(conn, changed_ms is not None and changed_ms <= committed_ms + CLOSING_MS):
            stored = [row[0] for row in conn.execute("SELECT DISTINCT symbol FROM ticks")]
            coverage.recount(conn, {*stored, *coverage._tracks})
        if not coverage._counts and any(counting):
            coverage._count_nothing(conn)
        for track in coverage._tracks.values():
            coverage._note_unkeyed(track)
            track.settle()
            track.settled = False  # the row in the file may be absent or out of date
            coverage.missing_ticks += _counted_as_missing(track)
            if track.check_replay():
                coverage._touched.add(track.symbol)
        return coverage

    def _count_nothing(self, conn: sqlite3.Connection) -> None:
        """What was counted by counters that are none is taken as positions."""
        counted = [track for track in self._tracks.values() if track.counts]
        for track in counted:
            track.doubt(NO_COUNTER)
        self.recount(conn, [track.symbol for track in counted])

    def track(self, symbol: str) -> SymbolCoverage:
        """The symbol's coverage, empty when it is new."""
        track = self._tracks.get(symbol)
        if track is None:
            track = self._tracks[symbol] = SymbolCoverage(symbol)
            if not self._counts:
                track.doubt(NO_COUNTER)
        return track

    def stored_ticks(self) -> int:
        """How many rows the file holds."""
        return sum(track.stored_ticks() for track in self._tracks.values())

    def holds(self, other: DayCoverage) -> bool:
        """Is every counter stored that was stored by the other?"""
        return not any(
            subtract([(first, last) for first, last in track.ranges.ranges], self._ranges_of(symbol))
            for symbol, track in other._tracks.items()
            if track.counts
        )

    def _ranges_of(self, symbol: str) -> Sequence[Sequence[int]]:
        track = self._tracks.get(symbol)
        return track.ranges.ranges if track is not None else ()

    def told_apart(self, conn: sqlite3.Connection, rows: Sequence[Tick]) -> Sequence[Tick]:
        """The rows of a batch that come from a source. Who hands them over need not know that it numbers a symbol's
        trades once a way: the file does, also a day or a start later."""
        for symbol in self._unread.intersection([row.symbol for row in rows]) if self._unread else ():
            if numbered_otherwise(conn, symbol, [row for row in rows if row.symbol == symbol]):
                track = self._touch(symbol)
                track.doubt(PUSH_PULL_DISAGREE)
                self._note_unkeyed(track)
        return by_content(rows, self._unkeyed) if self._unkeyed else rows

    def _note_unkeyed(self, track: SymbolCoverage) -> None:
        if PUSH_PULL_DISAGREE in (track.distrust or ""):
            self._unkeyed.add(track.symbol)
            self._unread.discard(track.symbol)

    def sort(self, rows: Sequence[Tick], stamp: tuple[int]) -> Sorted:
        """Note the rows and part them. ValueError when a value is of a kind that no tick has."""
        if not self._counts:
            return self._sort_by_position(rows, stamp)
        new: list[Row] = []
        doubtful: list[Row] = []
        unsequenced: dict[str, list[Row]] = {}
        symbol: object = self  # which no row has
        touched: set[str] = set()
        try:
            for row in rows:
                if row.symbol is not symbol:  # ticks of one push share the string
                    symbol = row.symbol
                    track = self._tracks.get(symbol) or self.track(symbol)
                    touched.add(symbol)
                seq = row.seq
                if seq is None:
                    track.settled = False
                    unsequenced.setdefault(track.symbol, []).append(row + stamp)
                    continue
                counter = seq & SEQ_COUNTER_MASK
                newest = track.newest
                if counter == newest[1] + 1:
                    newest[1] = counter
                elif not track.add(counter):
                    doubtful.append(row + stamp)
                    continue
                new.append(row + stamp)
                ts_ms = row.ts_ms
                if ts_ms > track.last_ts_ms:  # noqa: PLR1730 - a call of max() a row costs as much as the rest
                    track.last_ts_ms = ts_ms
                if ts_ms < track.first_ts_ms:
                    track.first_ts_ms = ts_ms
                    track.settled = False
        except TypeError as exc:
            raise ValueError(f"a value is of the wrong kind: {exc}") from exc
        self._touched |= touched
        claims = any(self._tracks[symbol].unsequenced_ticks for symbol in touched)
        return Sorted(new, doubtful, unsequenced, claims)

    def _sort_by_position(self, rows: Sequence[Tick], stamp: tuple[int]) -> Sorted:
        """The same where sequences are positions: one beyond all stored ones is new."""
        new: list[Row] = []
        doubtful: list[Row] = []
        unsequenced: dict[str, list[Row]] = {}
        symbol: object = self  # which no row has
        touched: set[str] = set()
        try:
            for row in rows:
                if row.symbol is not symbol:
                    symbol = row.symbol
                    track = self.track(symbol)
                    touched.add(symbol)
                seq = row.seq
                if seq is None:
                    unsequenced.setdefault(track.symbol, []).append(row + stamp)
                elif track.pass_over(seq):
                    new.append(row + stamp)
                    ts_ms = row.ts_ms
                    if ts_ms > track.last_ts_ms:  # noqa: PLR1730 - as above
                        track.last_ts_ms = ts_ms
                    if ts_ms < track.first_ts_ms:  # noqa: PLR1730
                        track.first_ts_ms = ts_ms
                else:
                    doubtful.append(row + stamp)
        except TypeError as exc:
            raise ValueError(f"a value is of the wrong kind: {exc}") from exc
        self._touched |= touched
        return Sorted(new, doubtful, unsequenced, any(self._tracks[symbol].unsequenced_ticks for symbol in touched))

    def recount(self, conn: sqlite3.Connection, symbols: Iterable[str]) -> None:
        """Count these symbols' rows anew from ``ticks``, by its indexes: O(rows of the symbols)."""
        for symbol in symbols:
            track = self.track(symbol)
            self._touched.add(symbol)
            track.ranges, track.newest, track.surplus_ticks = CounterRanges(), _NO_RANGE, 0
            track.replay = track.replay.withdrawn() if track.replay is not None else None  # by others' hands
            sequenced_ticks = _count_sequenced(conn, track) if track.counts else _count_positions(conn, track)
            track.surplus_ticks = sequenced_ticks - track.covered_ticks()
            times: list[int] = []
            for which in ("NOT NULL", "NULL"):
                total, first_ts_ms, last_ts_ms = conn.execute(
                    f"SELECT COUNT(*), MIN(ts_ms), MAX(ts_ms) FROM ticks WHERE symbol = ? AND seq IS {which}",  # noqa: S608
                    (symbol,),
                ).fetchone()
                if total:
                    times += [first_ts_ms, last_ts_ms]
            track.unsequenced_ticks = total
            track.first_ts_ms, track.last_ts_ms = min(times, default=_MAX_MS), max(times, default=_MIN_MS)
            track.settled = False

    def learn(self, conn: sqlite3.Connection, facts: Iterable[Fact | DayFact]) -> None:
        """Take what the feed found out: cautions before the rows of the same batch, the rest after them."""
        for fact in facts:
            if isinstance(fact, Subscribed):
                self._note_subscribed(conn, fact)
            elif isinstance(fact, RowsRead):
                conn.execute(
                    "INSERT OR REPLACE INTO readings (read_at_ms, rows) VALUES (?, ?)", (fact.at_ms, fact.rows)
                )
            elif not isinstance(fact, DETAILS):
                self._learn_of_symbol(conn, fact)

    def take_over(self, conn: sqlite3.Connection, rows: Iterable[Row]) -> None:
        """Learn what another file of the day says of it: rows of its ``coverage``, in the order of COLUMNS. One that no
        recorder writes is left out. To be called before that file's ticks are stored: where the newest one before an
        open interruption is stored already, OpenD has shown it since, and whoever stored it knows what followed."""
        for row in rows:
            try:
                other = SymbolCoverage.of_row(row)
            except (TypeError, ValueError):
                continue
            self.take_note(other)
            if conn.execute(_IS_STORED, (other.symbol, other.interrupted_seq)).fetchone() is None:
                self._touch(other.symbol).interrupt(other.interrupted_seq)

    def take_note(self, other: SymbolCoverage, *, doubt: str | None = None) -> None:
        """The same of one symbol, but for its interruption. ``doubt``: what speaks against its counters besides."""
        track = self._touch(other.symbol)
        track.take_over(other)
        if doubt is not None:
            track.doubt(doubt)
        self._note_unkeyed(track)

    def interrupt_all(self, conn: sqlite3.Connection) -> None:
        """Nobody knows whether what comes goes on from what the file holds: another one was put in its place."""
        for symbol, track in self._tracks.items():
            if track.counts and track.ranges:
                self._touch(symbol).interrupt(_newest_seq(conn, symbol))

    def _learn_of_symbol(self, conn: sqlite3.Connection, fact: Fact) -> None:
        track = self._touch(fact.symbol)
        if isinstance(fact, HeadProven):
            track.begins_with(fact.first_counter)
        elif isinstance(fact, Verified):
            track.verify(fact)
            if fact.last_counter != NO_TICK:
                self._unread.discard(fact.symbol)
        elif isinstance(fact, Unproven):
            track.doubt(fact.reason)
            self._note_unkeyed(track)
        elif isinstance(fact, Interrupted):
            self._interrupt(conn, track, fact.last_seq)
        elif isinstance(fact, Rejoined):
            track.rejoin(fact.last_seq)
        elif isinstance(fact, GapFound):
            gaps.record(conn, self._day, self._market.opening_ms(self._day), track, fact)
        elif isinstance(fact, NotSubscribed):
            gaps.record_window(conn, self._day, track, fact)
        elif isinstance(fact, Replayed):
            track.hold_against(fact, _rows_of(conn, fact.symbol))

    def _interrupt(self, conn: sqlite3.Connection, track: SymbolCoverage, last_seq: int | None) -> None:
        if last_seq == UNKNOWN_SEQ:
            last_seq = _newest_seq(conn, track.symbol)
            if last_seq is not None and track.symbol not in self._unkeyed:
                self._unread.add(track.symbol)
        track.interrupt(last_seq)

    def _touch(self, symbol: str) -> SymbolCoverage:
        track = self.track(symbol)
        self._touched.add(symbol)
        track.settled = False
        return track

    def _note_subscribed(self, conn: sqlite3.Connection, fact: Subscribed) -> None:
        """Every wanted symbol has a row, also one that never trades; what OpenD did not send is over now."""
        for symbol in fact.symbols:
            track = self._tracks.get(symbol)
            if track is None or any(gap.is_window and not gap.over for gap in track.gaps):
                gaps.end_windows(conn, self._day, self._touch(symbol), fact.at_ms)
        for symbol in fact.absent:
            if symbol not in self._tracks:
                self._touch(symbol)

    def save(self, conn: sqlite3.Connection, now_ms: int) -> None:
        """Write the rows of all symbols that were touched since the last save."""
        whole: list[Row] = []
        advanced: list[Row] = []
        replays: list[Row] = []
        for symbol in self._touched:
            track = self._tracks[symbol]
            if track.settled:
                last = track.newest[1]
                advanced.append((last, track.stored_less_last + last, track.last_ts_ms, now_ms, symbol))
                continue
            if track.gaps:
                gaps.shrink(conn, self._day, track, now_ms)
                track.close_windows(conn, self._day, now_ms)
            if track.replay is not None:
                track.check_replay()
                replays.append(track.replay.row())
            self.missing_ticks -= _counted_as_missing(track)
            whole.append(track.row(now_ms))
            self.missing_ticks += _counted_as_missing(track)
        conn.executemany(_ADVANCE, advanced)
        conn.executemany(_UPSERT, whole)
        conn.executemany(_REPLAYED, replays)
        self._touched.clear()


def _newest_seq(conn: sqlite3.Connection, symbol: str) -> int | None:
    row = conn.execute(LAST_SEQ_SQL, (symbol,)).fetchone()
    return row[0] if row is not None and isinstance(row[0], int) else None


def _count_sequenced(conn: sqlite3.Connection, track: SymbolCoverage) -> int:
    """Note the counters of a symbol's rows; how many rows have one."""
    sequenced_ticks = 0
    for (seq,) in conn.execute(
        "SELECT seq FROM ticks WHERE symbol = ? AND seq IS NOT NULL ORDER BY seq", (track.symbol,)
    ):
        sequenced_ticks += 1
        counter = int(seq) & SEQ_COUNTER_MASK
        if counter == track.newest[1] + 1:
            track.newest[1] = counter
        else:
            track.add(counter)
    return sequenced_ticks


def _count_positions(conn: sqlite3.Connection, track: SymbolCoverage) -> int:
    """Note a symbol's lowest and highest position; how many rows have one."""
    total, first, last = conn.execute(
        "SELECT COUNT(*), MIN(seq), MAX(seq) FROM ticks WHERE symbol = ? AND seq IS NOT NULL", (track.symbol,)
    ).fetchone()
    if total:
        track.pass_over(first)
        track.pass_over(last)
    return int(total)


def _rows_of(conn: sqlite3.Connection, symbol: str) -> int:
    parts = ("NOT NULL", "NULL")  # an index each
    return sum(
        int(conn.execute(f"SELECT COUNT(*) FROM ticks WHERE symbol = ? AND seq IS {part}", (symbol,)).fetchone()[0])  # noqa: S608
        for part in parts
    )


def _origin_counts(conn: sqlite3.Connection) -> bool:
    """Do the sequences of the rows count them? By one row: all of a file are of one origin."""
    row = conn.execute("SELECT market, provider FROM ticks LIMIT 1").fetchone()
    return row is None or Origin(*row).counts


def _rows(conn: sqlite3.Connection, only_grew: bool) -> int:
    newest = int(conn.execute("SELECT COALESCE(MAX(rowid), 0) FROM ticks").fetchone()[0])
    if only_grew and newest > COUNTED_ROWS:
        return newest
    return int(conn.execute("SELECT COUNT(*) FROM ticks").fetchone()[0])


def ranges_of(first: int | None, last: int | None, holes: str | None) -> CounterRanges:
    """The counters stored, from the columns ``first_counter``, ``last_counter`` and ``holes``."""
    if first is None or last is None:
        return CounterRanges()
    return CounterRanges(subtract([(first, last)], parse_extents(holes)))


def _counted_as_missing(track: SymbolCoverage) -> int:
    return track.missing_ticks if track.state == MISSING else 0
