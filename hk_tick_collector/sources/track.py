"""One symbol's day as the feed has seen it: which counters, which holes, and what may be concluded from them.

For HK stocks the low 32 bits of ``sequence`` count the symbol's ticks of the day (observed, not documented; see
``records.tick``). A step above one is a *suspected* hole. The counters seen are a short list of ranges: one range when
nothing is missing, whatever the number of ticks.

What must hold, whatever the sequences do:

- *Proven means stored.* When a day is proven, every tick that OpenD showed or made before ``verified_until_ms`` is in
  the file. So each fact is the answer of an OpenD that was asked for it: ``HeadProven`` wants an answer that really
  begins with the day's first row, ``Verified`` one that really ends with the newest and is not older than what we knew
  when we asked; and a time is that of the question, not of the answer.
- *A counter never hides a tick.* A pulled tick is left out only when its whole sequence is known to be ours. A counter
  that comes again with another second, twice in one answer, or otherwise than we know it is proof that the counters do
  not count.
- *Two sides want a witness.* Counters seen before and after an interruption join only when an answer shows ticks of
  both sides; that the numbers fit is no proof (``NOT_JOINED``).
- *What could not be read is there.* An unreadable tick is a hole at its counter, wherever it is in the day; without a
  counter it is a doubt about the day.

Whatever contradicts the counters makes the day *distrusted*: said once, recorded as a fact, no hole is searched, and
every pulled tick goes to the store, whose unique indexes decide. Distrust is the safe side.

A tick counts for a day only if the day has a witness: our clock, or several ticks in a row. One stray tick dated
tomorrow begins no day. Late ticks, whose second lies behind that of their predecessor, are ordinary: a tick is judged
by its neighbours in the order of counters, never by the one that came last.

No locks here: ``Continuity`` owns all tracks.
"""

from __future__ import annotations

import logging
from array import array
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from hk_tick_collector.core.facts import (
    COUNTER_WENT_BACK,
    DATED_OTHERWISE,
    NO_LOSS,
    NO_SEQUENCE,
    NOT_COUNTING,
    NUMBERS_SKIPPED,
    PUSH_PULL_DISAGREE,
    STRAYS_DISAGREE,
    UNREAD_TICK,
    Fact,
    GapFound,
    HeadProven,
    Interrupted,
    StoredTrack,
    Unproven,
)
from hk_tick_collector.core.logline import event
from hk_tick_collector.core.ranges import CounterRanges
from hk_tick_collector.market.dates import DAY_MS
from hk_tick_collector.market.market import Market
from hk_tick_collector.records.tick import Tick, seq_counter, seq_epoch_sec
from hk_tick_collector.sources.holes import Hole, holes_in
from hk_tick_collector.sources.memory import SourceMemory
from hk_tick_collector.sources.numbering import NO_OUTLINE, Outline, is_named_otherwise, look, numbers_of, outline_of
from hk_tick_collector.sources.pulled import Question
from hk_tick_collector.sources.source import PullLimits

log = logging.getLogger(__name__)

MAX_RANGES = 512
MAX_BREAKS = 64  # interruptions of a day that are kept apart
MAX_SEAMS = 128  # that are open; more than a file notes, so that it knows of none when these are not all
MAX_ELSEWHERE = 512
MAX_UNREAD = 64  # unreadable ticks followed by their counters; more are a doubt about the day
RECENT_PUSHES = 16  # pushed ticks kept a symbol, to be compared with the next pull
SHOWN_TICKS = 32  # of the last answer, in which a push is looked up while nothing is known of how it is numbered
EDGE_SEQS = 256  # sequences at the ends of ranges, to judge what fills a hole
LATE_MAX_SEC = 120  # what fills a hole may be so much later than the tick behind it, which may be a late one
AHEAD_WITNESSES = 3  # ticks in a row that begin a day which our clock does not know yet
CLOCK_ASTRAY_DAYS = 7  # a clock that is further behind than that is no witness of any day


class Seam(NamedTuple):
    """An interruption that no answer has bridged yet: newest sequence and counter before it, and the connection."""

    seq: int
    last: int
    connection: int


@dataclass(slots=True)
class Track:
    """One symbol's day, and what is known of the subscription that feeds it."""

    symbol: str
    market: Market
    limits: PullLimits
    day: str = ""
    top_seq: int = 0  # the highest sequence seen: no tick of ours has a later second
    last_tick_monotonic: float = 0.0
    rows: int = 0
    seen: CounterRanges = field(default_factory=CounterRanges)
    given_up: list[tuple[int, int]] = field(default_factory=list)  # holes that OpenD no longer shows
    unread: dict[int, int] = field(default_factory=dict)  # counter -> sequence of ticks that could not be read
    elsewhere: set[int] = field(default_factory=set)  # counters of this day's count whose ticks are dated another day
    unnamed: set[str] = field(default_factory=set)  # other days whose files know that this count's numbers name no tick
    skipped: set[tuple[int, int]] = field(default_factory=set)  # holes whose neighbours OpenD shows side by side
    breaks: list[int] = field(default_factory=list)  # the newest counter at each interruption
    recent: deque[Tick] = field(default_factory=lambda: deque(maxlen=RECENT_PUSHES))
    witnesses: Sequence[Tick] = ()  # pushed before the restart or the loss: how pushes are numbered, not what is stored
    # The last answer's newest ones by what they look like, until answers and pushes are known to agree or not to.
    shown: dict[tuple[object, ...], list[Tick]] = field(default_factory=dict)
    outline: Outline = NO_OUTLINE  # of these
    known: array[int] = field(default_factory=lambda: array("q"))
    edges: dict[int, int] = field(default_factory=dict)  # counter -> sequence, at ends of ranges
    distrust: str = ""
    doubts: set[str] = field(default_factory=set)
    confirmed: bool = False  # push and pull agreed on a tick of this day
    head_known: bool = False  # proven, or said to be a gap, or known to stay open
    head_asked: bool = False  # all that OpenD shows of the day was seen since the last interruption
    left_open: bool = False  # an earlier process had ticks of it and could not prove its beginning
    from_start: bool = False  # its first tick was pushed after an answer without any tick of the day
    verified: tuple[int, int] = (0, 0)  # counter and ms of the last Verified fact
    newest_ms: int = 0  # newest event time in the last answer
    seams: list[Seam] = field(default_factory=list)  # interruptions that are open, the earliest first
    told: set[int] = field(default_factory=set)  # the sequences of those that the file knows of
    # What outlives the day.
    unkeyed_day: str = ""  # the newest day whose pushes and answers are numbered each for itself
    interruptions: int = 0  # how many there were
    answered: bool = False  # since the subscription began
    nothing_on: str = ""  # a day on which OpenD showed no tick of it,
    nothing_since: int = 0  # the first connection on which it did so
    nothing_told_ms: int = 0  # and when that was last told
    strays: deque[Tick] = field(default_factory=lambda: deque(maxlen=RECENT_PUSHES))  # pushed, of other days than its
    ahead: list[Tick] = field(default_factory=list)  # ticks of a later day that has no witness yet
    ahead_rows: int = 0

    # --- beginnings ---

    def begin(self, day: str) -> None:
        """Nothing is known of ``day``."""
        self.day = day
        self.top_seq = self.newest_ms = 0
        self.seen = CounterRanges()
        self.given_up = []
        self.unread.clear()
        self.elsewhere.clear()
        self.unnamed.clear()
        self.skipped.clear()
        self.breaks = []
        self.recent.clear()
        self.witnesses = ()
        self.shown = {}
        self.known = array("q")
        self.edges.clear()
        self.distrust = ""
        self.doubts.clear()
        self.confirmed = self.head_known = self.head_asked = self.from_start = self.left_open = False
        self.verified = (0, 0)
        self.forget_seams()
        self.ahead.clear()

    def begin_by_clock(self, now_ms: int) -> None:
        """Something is to be said of a day, and no tick of one came yet."""
        if not self.day:
            self.begin(self.market.trading_day(now_ms))

    def resume(self, past: StoredTrack, connection: int) -> None:
        """Begin where the day file ends."""
        self.begin(past.trading_day)
        self.seen = CounterRanges((first, last) for first, last in past.stored.ranges)
        self.top_seq = past.last_seq
        self.head_known = past.head_known
        self.confirmed = past.confirmed  # after the close no push comes that could show it again
        self.left_open = not past.head_known and bool(past.stored)
        self.given_up = list(past.in_gaps)
        self.witnesses = past.witnesses
        if any(reason in NO_LOSS for reason in past.reasons):
            self.given_up += self.seen.holes()
        self.doubts = set(past.reasons)
        if past.unkeyed:
            self.distrust = PUSH_PULL_DISAGREE
            self.unkeyed_day = max(self.unkeyed_day, self.day)
        elif not past.counters_count:
            self.distrust = past.distrust
        self.note_shown(past.shown)
        self.interrupt(connection)
        for seq in (past.interrupted_seq, *past.later_seqs):
            if seq:
                self.reopen(Seam(seq, seq_counter(seq), connection))
                self.told.add(seq)

    def interrupt(self, connection: int) -> None:
        """Nothing was pushed for a while after ``connection``. Interruptions that are still open stay."""
        self.interruptions += 1
        self.answered = self.head_asked = False
        self.known = array("q")
        if self.seen:
            self._note_break(self.seen.last)
        if self.seen and self.top_seq:
            self._open(Seam(self.top_seq, self.seen.last, connection))

    def reopen(self, seam: Seam) -> None:
        """An interruption of the day that was open before."""
        if self._open(seam):
            self._note_break(seam.last)

    def _open(self, seam: Seam) -> bool:
        if len(self.seams) >= MAX_SEAMS or any(known.seq == seam.seq for known in self.seams):
            return False
        self.seams = sorted([*self.seams, seam])
        return True

    @property
    def seam(self) -> Seam | None:
        """The earliest interruption that is open: who shows it has shown what followed all of them."""
        return self.seams[0] if self.seams else None

    def join(self, place: int) -> bool:
        """OpenD showed the ticks before and after one of ``seams``, and so all of the later ones. True: the file has to
        learn of it."""
        joined = {seam.seq for seam in self.seams[place:]}
        del self.seams[place:]
        is_told = not joined.isdisjoint(self.told)
        self.told -= joined
        return is_told

    def forget_seams(self) -> None:
        """No answer will join them any more."""
        self.seams = []
        self.told.clear()

    def note_left_over(self, day: str, seqs: Sequence[int], connection: int) -> None:
        """An earlier process left rows of ``day``, with these sequences (0: none): what comes follows them as it
        follows what the file has, unless OpenD showed them among ours."""
        if day > self.day:
            self.begin(day)
        unseen = [seq for seq in seqs if seq and not self.seen.covers(seq_counter(seq))]
        if unseen:
            newest = max(unseen)
            self.reopen(Seam(newest, seq_counter(newest), connection))

    def _note_break(self, counter: int) -> None:
        if counter not in self.breaks:
            self.breaks = [*self.breaks[1 - MAX_BREAKS :], counter]

    @property
    def has_untold(self) -> bool:
        """Does the file have to learn of an interruption before it gets a tick that follows it? Also of a day whose
        counters prove nothing: a later process must know that nobody has shown what came before."""
        return any(seam.seq not in self.told for seam in self.seams)

    def compare_pushed(self, tick: Tick, facts: list[Fact]) -> None:
        """Is it a trade that the last answer showed before it was pushed, under another number than its own?"""
        alike = self.shown.get(look(tick))
        twins = numbers_of(tick, alike) if alike and tick.seq is not None else set()
        if not twins or tick.seq in twins:
            return
        if is_named_otherwise(tick, twins, self.outline, self.limits.newest_rows):
            self.begin_by_clock(tick.recv_ts_ms)
            self.distrust_by(PUSH_PULL_DISAGREE, facts)
            self.shown = {}

    def note_shown(self, ticks: Sequence[Tick]) -> None:
        """What an answer showed: pushes that come after it are looked up there."""
        is_settled = self.confirmed or self.unkeyed_day == self.day
        self.shown = {}
        newest = () if is_settled else ticks[-SHOWN_TICKS:]
        if newest:
            self.outline = outline_of(newest)
        for tick in newest:
            self.shown.setdefault(look(tick), []).append(tick)

    def tell_interruption(self, facts: list[Fact]) -> None:
        """A tick of the day follows open interruptions."""
        if self.has_untold:
            untold = [seam.seq for seam in self.seams if seam.seq not in self.told]
            self.told.update(untold)
            facts += [Interrupted(self.symbol, self.day, seq) for seq in untold]

    # --- what is asked ---

    def newest_counter(self) -> int:
        return max((self.seen.last if self.seen else 0), *self.unread, 0)

    def question(self, asked_rows: int, asked_ms: int) -> Question:
        newest, limits = self.newest_counter(), self.limits
        return Question(self.symbol, asked_rows, asked_ms, self.day, newest, limits, self.interruptions)

    @property
    def wants_whole(self) -> bool:
        """Is there something that only an answer of all that OpenD shows can tell?"""
        return not self.distrust and (not self.head_known or bool(self.seams))

    @property
    def wants_audit(self) -> bool:
        """Has no answer yet agreed with a push of the day, or shown all to look for its beginning there?

        A small answer may agree first: to a poll, or for a hole. A busy symbol's beginning is soon out of sight.
        """
        if not self.recent or self.distrust:
            return False
        return not self.confirmed or not (self.head_known or self.head_asked)

    def open_holes(self) -> list[Hole]:
        """Holes that may still be repaired."""
        if self.distrust or (len(self.seen) < 2 and not self.unread):
            return []
        newest = self.newest_counter()
        return [
            Hole(self.symbol, self.day, first, last, newest, unread=unread)
            for first, last, unread in holes_in(self.seen, self.unread)
            if not any(low <= first and last <= high for low, high in self.given_up)
        ]

    def give_up(self, hole: Hole, at_ms: int, memory: SourceMemory, facts: list[Fact]) -> bool:
        """OpenD does not show this hole any more. True: its ticks are missing; else it is not known to have had any.

        Numbers whose neighbours it shows side by side, on a subscription without a break between them, were never a
        tick of it. Over a break it may have missed ticks itself; but once such numbers were found on a day, no number
        of that day tells how many ticks are missing.
        """
        self.given_up.append((hole.first, hole.last))
        extent = (hole.first, hole.last)
        if not hole.unread and self.elsewhere.issuperset(range(hole.first, hole.last + 1)):
            self.doubt(DATED_OTHERWISE, facts)
            return False
        at_a_break = any(hole.first <= last + 1 <= hole.last for last in self.breaks)
        never_was = extent in self.skipped and not at_a_break
        if not hole.unread and (never_was or memory.skips_on == self.day):
            memory.skips_on = self.day
            self.doubt(NUMBERS_SKIPPED, facts)
            return False
        facts.append(
            GapFound(self.symbol, self.day, hole.first, hole.last, at_ms, hole.gap_reason(self.limits.newest_rows))
        )
        return True

    # --- ticks ---

    def observe(self, tick: Tick, facts: list[Fact], memory: SourceMemory | None = None) -> bool:
        """Anything but the next counter: first tick, new day, repeat, out of order, a hole. True: a new hole.

        ``memory`` for a pushed tick; a pulled one is of the track's day, and its answer is judged as a whole.
        """
        if tick.trading_day != self.day and (memory is None or not self._turns_to(tick, facts, memory)):
            self.note_elsewhere(tick, facts)
            if memory is not None:
                self.strays.append(tick)
            return False  # a late tick of an earlier day, or a stray one: stored, not judged
        if self.distrust:
            return False
        seq = tick.seq
        if seq is None:
            self.distrust_by(NO_SEQUENCE, facts)
            return False
        counter = seq_counter(seq)
        if self._contradicts(seq, counter, pushed=memory is not None):
            self.distrust_by(COUNTER_WENT_BACK, facts)
            return False
        if memory is not None and not self.seen:
            self._begins_by_push(counter, facts, memory)
        ranges_before = len(self.seen)
        self._add(seq, counter)
        if len(self.seen) > MAX_RANGES:
            self.distrust_by(NOT_COUNTING, facts)
            return False
        return len(self.seen) > ranges_before >= 1

    def note_elsewhere(self, tick: Tick, facts: list[Fact]) -> None:
        """A tick of another date may still have a number of this day's count: in the other day's file it is none of
        that day's count, and makes or fills no hole there."""
        if tick.seq is None or len(self.elsewhere) >= MAX_ELSEWHERE or self.day_of(tick.seq) != self.day:
            return
        counter = seq_counter(tick.seq)
        if counter not in self.elsewhere:
            self.elsewhere.add(counter)
            facts.append(Unproven(self.symbol, tick.trading_day, DATED_OTHERWISE))
        if self.unkeyed_day == self.day and tick.trading_day not in self.unnamed:
            self.unnamed.add(tick.trading_day)
            facts.append(Unproven(self.symbol, tick.trading_day, STRAYS_DISAGREE))

    def _add(self, seq: int, counter: int) -> None:
        seen, edges = self.seen, self.edges
        in_order = bool(seen) and counter == seen.last + 1
        if not in_order and not seen.covers(counter):
            if len(edges) >= EDGE_SEQS:
                edges.clear()
            if seen and counter > seen.last and seq_counter(self.top_seq) == seen.last:
                edges[seen.last] = self.top_seq
            edges[counter] = seq
        seen.add(counter, counter)
        self.top_seq = max(self.top_seq, seq)
        self.unread.pop(counter, None)

    def _contradicts(self, seq: int, counter: int, *, pushed: bool) -> bool:
        """Can a tick with this sequence not be one of those that we count?"""
        seen = self.seen
        if not seen or counter > seen.last:
            return False
        if seen.covers(counter):
            if seq_epoch_sec(seq) > seq_epoch_sec(self.top_seq):
                return True  # a repeat of ours has no later second than all of ours
            if not pushed:
                return False  # held against all that is known when the answer came
            return any(ours is not None and ours != seq for ours in self._sequences_of(counter))
        if not pushed:
            return False
        behind = next(first for first, _ in seen.ranges if first > counter)
        edge = self.edges.get(behind)
        return edge is not None and seq_epoch_sec(seq) > seq_epoch_sec(edge) + LATE_MAX_SEC

    def _sequences_of(self, counter: int) -> list[int | None]:
        seqs = [tick.seq for tick in self.recent if tick.seq is not None and seq_counter(tick.seq) == counter]
        return [*seqs, self.edges.get(counter)]

    def _turns_to(self, tick: Tick, facts: list[Fact], memory: SourceMemory) -> bool:
        """Does a pushed tick of another day begin that day?"""
        day = tick.trading_day
        if day < self.day:
            return False
        if self.clock_knows(day, tick.recv_ts_ms):
            self.begin(day)
            return True
        in_a_row = bool(self.ahead) and self.rows == self.ahead_rows + 1 and self.ahead[-1].trading_day == day
        waiting = [*self.ahead, tick] if in_a_row else [tick]
        self.ahead, self.ahead_rows = waiting, self.rows
        if len(waiting) < AHEAD_WITNESSES:
            return False
        self.begin(day)
        for earlier in waiting[:-1]:
            self.observe(earlier, facts, memory)
        return True

    def clock_knows(self, day: str, now_ms: int) -> bool:
        """Is our clock a witness of the day?"""
        if day <= self.market.trading_day(now_ms):
            return True
        return not self.day and day > self.market.trading_day(now_ms + CLOCK_ASTRAY_DAYS * DAY_MS)

    def _begins_by_push(self, counter: int, facts: list[Fact], memory: SourceMemory) -> None:
        """The day's first tick: OpenD had none when it was asked on this subscription."""
        if not self.answered or self.unread or self.doubts or self.head_known:
            return
        self.from_start = True
        if counter == 1 and memory.holds(self.day, counter, self.day_nothing_since()):
            self.head_known = True
            facts.append(HeadProven(self.symbol, self.day, counter))

    def day_nothing_since(self) -> int | None:
        """The first connection on which OpenD showed no tick of the track's day; None: it did show one."""
        return self.nothing_since if self.nothing_on == self.day else None

    def note_unread(self, seq: int, now_ms: int, facts: list[Fact]) -> None:
        """A tick came that could not be read. ``seq`` 0: it has no sequence."""
        today = self.market.trading_day(now_ms)
        day = self.day_of(seq)
        if not self.day:
            self.begin(day if day and self.clock_knows(day, now_ms) else today)
        elif day == today and day > self.day:
            self.begin(day)
        if day and day < self.day:
            return
        counter = seq_counter(seq)
        if self.distrust or (day == self.day and counter in self.unread):
            return
        if day != self.day or len(self.unread) >= MAX_UNREAD:
            self.doubt(UNREAD_TICK, facts)
        elif not self.seen.covers(counter):
            self.unread.setdefault(counter, seq)
        elif seq not in self.own_sequences().values():
            self.doubt(UNREAD_TICK, facts)

    def own_sequences(self) -> dict[int, int]:
        """Counter -> sequence of ticks that surely are ours."""
        seqs = [*self.known, *self.edges.values(), *(seam.seq for seam in self.seams), self.top_seq]
        seqs += [tick.seq for tick in self.recent if tick.seq is not None]
        return {seq_counter(seq): seq for seq in seqs if seq}

    def day_of(self, seq: int) -> str:
        """The day of a sequence's second; empty when it is no time."""
        return self.market.trading_day(seq_epoch_sec(seq) * 1000) if 0 < seq_epoch_sec(seq) < 1 << 31 else ""

    # --- what stays for the day ---

    def doubt(self, reason: str, facts: list[Fact]) -> None:
        """Something about the day is not known; its counters still count."""
        if reason not in self.doubts:
            self.doubts.add(reason)
            facts.append(Unproven(self.symbol, self.day, reason))
            log.warning(event("day_doubted", symbol=self.symbol, trading_day=self.day, reason=reason))

    def distrust_by(self, reason: str, facts: list[Fact]) -> None:
        """Its counters prove nothing from now on."""
        self.distrust = reason
        if reason == PUSH_PULL_DISAGREE:
            self.unkeyed_day = self.day
        self.doubts.add(reason)
        facts.append(Unproven(self.symbol, self.day, reason))
        log.warning(event("sequence_distrusted", symbol=self.symbol, trading_day=self.day, reason=reason))
