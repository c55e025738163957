"""Which ticks of each symbol we have seen today: holes are found as the tick behind them arrives, trust is earned.

For HK stocks the low 32 bits of ``sequence`` count the symbol's ticks of the day (observed, not documented; see
``core.tick``). A step above one is a *suspected* hole. Per symbol and day this keeps the counters seen as a short list
of ranges: one range when nothing is missing, whatever the number of ticks.

Nothing is concluded from counters that do not behave: ticks without a sequence, counters that go back while time goes
on, more than ``MAX_RANGES`` pieces, or a pull that shows a pushed tick otherwise than it was pushed. The symbol's day
is then *distrusted*: said once, recorded as a fact, no hole is searched, and every pulled tick goes to the store, whose
unique indexes decide. Push and pull agreeing on a tick is what a symbol needs before its day can be called proven.

Called from the SDK's network thread (pushes) and from the loop (pulls): one lock, taken once a burst.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from hk_tick_collector.core.facts import PUSH_PULL_DISAGREE, Fact, GapFound, HeadProven, StoredTrack, Unproven, Verified
from hk_tick_collector.core.logline import event
from hk_tick_collector.core.ranges import CounterRanges
from hk_tick_collector.core.tick import SEQ_COUNTER_MASK, Tick, same_moment, seq_counter, seq_epoch_sec
from hk_tick_collector.feed.mapping import without_sequences

log = logging.getLogger(__name__)

MAX_RANGES = 512
PULL_LIMIT_ROWS = 1000  # OpenD shows no more: beyond it the day's beginning cannot be seen
PULL_SURELY_ALL_ROWS = 950  # an answer near the limit may be cut a little short of it
RECENT_PUSHES = 16  # pushed ticks kept a symbol, to be compared with the next pull
BACKWARD_TOLERANCE_SEC = 5  # a sequence's second was seen 2 s stale; more is a counter that went back
VERIFIED_INTERVAL_MS = 60_000

NO_SEQUENCE = "ticks without a sequence"
COUNTER_WENT_BACK = "counters went back while time went on"
NOT_COUNTING = "sequences do not count the ticks"

FactSink = Callable[[Sequence[Fact]], None]


@dataclass(slots=True)
class _Track:
    """One symbol's day."""

    day: str = ""
    last_seq: int = 0  # full sequence of the highest counter seen
    seed_seq: int = 0  # the newest one stored when this process began
    last_tick_monotonic: float = 0.0
    rows: int = 0
    seen: CounterRanges = field(default_factory=CounterRanges)
    given_up: list[tuple[int, int]] = field(default_factory=list)  # holes that OpenD no longer shows
    recent: deque[Tick] = field(default_factory=lambda: deque(maxlen=RECENT_PUSHES))
    distrust: str = ""
    confirmed: bool = False  # push and pull agreed on a tick of this day
    head_known: bool = False  # proven, or said to be a gap
    verified: tuple[int, int] = (0, 0)  # counter and ms of the last Verified fact

    def restart(self, day: str) -> None:
        self.day = day
        self.last_seq = self.seed_seq = 0
        self.seen = CounterRanges()
        self.given_up = []
        self.recent.clear()
        self.distrust = ""
        self.confirmed = self.head_known = False
        self.verified = (0, 0)

    def anchors(self) -> set[int | None]:
        """Sequences of the newest ticks we know. Pushes may be ahead of an answer, so the very newest is not enough."""
        return {self.last_seq, self.seed_seq, *(tick.seq for tick in self.recent)}

    def open_holes(self) -> list[tuple[int, int]]:
        """Holes that may still be repaired."""
        if len(self.seen) < 2 or self.distrust:
            return []
        return [
            (first, last)
            for first, last in self.seen.holes()
            if not any(low <= first and last <= high for low, high in self.given_up)
        ]


@dataclass(frozen=True, slots=True)
class Hole:
    """Counters ``first``..``last`` of ``symbol`` were not seen although later ones were."""

    symbol: str
    trading_day: str
    first: int
    last: int
    newest: int  # highest counter seen: how far back from the newest tick the hole begins

    @property
    def missing_rows(self) -> int:
        return self.last - self.first + 1

    @property
    def rows_back(self) -> int:
        """How many of the symbol's newest ticks a pull must fetch to cover the hole."""
        return self.newest - self.first + 1


class Continuity:
    """The tracks of all symbols. ``facts`` takes what is learned about completeness, from any thread, at once."""

    def __init__(self, facts: FactSink) -> None:
        self._facts = facts
        self._lock = threading.Lock()
        self._tracks: dict[str, _Track] = {}
        self._holed: dict[str, None] = {}  # symbols with open holes, in the order found
        self.unkeyed: dict[str, str] = {}  # symbols whose pushes and pulls are numbered differently, and on which day
        self.distrusted_symbols = 0  # today's and earlier ones', for the health line

    def seed(self, known: Mapping[str, StoredTrack]) -> None:
        """Begin where the day files end."""
        with self._lock:
            for symbol, past in known.items():
                track = self._track(symbol)
                track.restart(past.trading_day)
                track.seen = CounterRanges((first, last) for first, last in past.stored.ranges)
                track.last_seq = track.seed_seq = past.last_seq
                track.head_known = past.head_known
                track.given_up = list(past.in_gaps)
                if past.unkeyed:
                    self.unkeyed[symbol] = past.trading_day
                self._note_holed(symbol, track)

    def resync(self, known: Mapping[str, StoredTrack]) -> None:
        """Rows were lost on the way to the files: what they do not hold was never seen."""
        with self._lock:
            for track in self._tracks.values():
                track.restart(track.day)
            self._holed.clear()
        self.seed(known)

    def observe_push(self, ticks: Sequence[Tick], monotonic_sec: float) -> bool:
        """Note pushed ticks. True when a symbol has just got a hole (worth a look by the repairer)."""
        facts: list[Fact] = []
        new_hole = False
        symbol: str | None = None
        with self._lock:
            for tick in ticks:
                if tick.symbol is not symbol:  # else it came in the same push
                    symbol = tick.symbol
                    track = self._tracks.get(symbol) or self._track(symbol)
                    track.last_tick_monotonic = monotonic_sec
                track.rows += 1
                ranges = track.seen.ranges
                seq = tick.seq
                if seq is not None and ranges and tick.trading_day == track.day:
                    newest = ranges[-1]
                    counter = seq & SEQ_COUNTER_MASK
                    if counter == newest[1] + 1:
                        newest[1] = counter
                        track.last_seq = seq
                        track.recent.append(tick)
                        continue
                new_hole |= self._observe_slow(tick, track, facts)
                if seq is not None and tick.trading_day == track.day:
                    track.recent.append(tick)
        if facts:
            self._facts(facts)
        return new_hole

    def new_of_pull(self, symbol: str, ticks: Sequence[Tick], asked_rows: int, at_ms: int) -> list[Tick]:
        """Note an answer of OpenD (one symbol, oldest first) for its newest ``asked_rows`` ticks, read at ``at_ms``.

        Returns the ticks that are not known to be ours already. One is skipped only if its counter was seen *and* the
        answer shares a tick with the newest ones we know, so renumbered sequences never hide a tick.
        """
        facts: list[Fact] = []
        with self._lock:
            track = self._track(symbol)
            if ticks and ticks[-1].trading_day > track.day:
                self._new_day(symbol, track, ticks[-1].trading_day)
            today = [tick for tick in ticks if tick.trading_day == track.day]
            if not track.distrust and _goes_back(today):
                self._distrust(symbol, track, COUNTER_WENT_BACK, facts)
            self._compare(symbol, track, today, facts)
            comparable = not track.distrust and not track.anchors().isdisjoint(tick.seq for tick in today)
            fresh = [
                tick
                for tick in ticks
                if not (
                    comparable
                    and tick.seq is not None
                    and tick.trading_day == track.day
                    and track.seen.covers(seq_counter(tick.seq))
                )
            ]
            for tick in fresh:
                self._observe_slow(tick, track, facts)
            if today and not track.distrust:
                all_shown = len(ticks) < min(asked_rows, PULL_SURELY_ALL_ROWS) or len(today) < len(ticks)
                self._learn_end(symbol, track, today[-1], at_ms, facts)
                if not track.head_known:
                    self._learn_head(symbol, track, today[0], all_shown, asked_rows, at_ms, facts)
            if symbol in self.unkeyed:
                fresh = without_sequences(fresh)
        if facts:
            self._facts(facts)
        return fresh

    def touch(self, symbol: str, monotonic_sec: float) -> None:
        """A pull brought something new: the symbol is not quiet."""
        with self._lock:
            self._track(symbol).last_tick_monotonic = monotonic_sec

    def quiet_symbols(self, symbols: Iterable[str], since_monotonic: float) -> list[str]:
        """Those of ``symbols`` without a tick since then."""
        with self._lock:
            return [s for s in symbols if self._track(s).last_tick_monotonic < since_monotonic]

    def most_active_first(self, symbols: Iterable[str]) -> list[str]:
        """Those with the most ticks so far first: they have the most to lose; equal ones keep their order."""
        with self._lock:
            return sorted(symbols, key=lambda s: -self._track(s).rows)

    def pushed_rows(self) -> dict[str, int]:
        """How many ticks of each symbol were pushed since the start."""
        with self._lock:
            return {symbol: track.rows for symbol, track in self._tracks.items()}

    def head_known(self, symbol: str) -> bool:
        """Is the beginning of the symbol's day settled, as proven or as a gap?"""
        with self._lock:
            return self._track(symbol).head_known

    def unconfirmed(self, symbols: Iterable[str]) -> list[str]:
        """Those of ``symbols`` that were pushed today and whose pushes no pull has confirmed yet."""
        with self._lock:
            return [s for s in symbols if (t := self._track(s)).recent and not t.confirmed and not t.distrust]

    @property
    def has_holes(self) -> bool:
        """Has any symbol a hole that may be repaired?"""
        return bool(self._holed)

    def holes(self) -> list[Hole]:
        """All holes that may be repaired, oldest found symbol first."""
        with self._lock:
            return [
                Hole(symbol, track.day, first, last, track.seen.last)
                for symbol in self._holed
                for track in (self._tracks[symbol],)
                for first, last in track.open_holes()
            ]

    def give_up(self, hole: Hole, at_ms: int, reason: str) -> None:
        """OpenD does not show this hole any more: it becomes a gap. Should its ticks come after all, they are taken."""
        with self._lock:
            track = self._track(hole.symbol)
            if track.day == hole.trading_day:
                track.given_up.append((hole.first, hole.last))
                self._note_holed(hole.symbol, track)
        self._facts([GapFound(hole.symbol, hole.trading_day, hole.first, hole.last, at_ms, reason)])

    def _track(self, symbol: str) -> _Track:
        track = self._tracks.get(symbol)
        if track is None:
            track = self._tracks[symbol] = _Track()
        return track

    def _observe_slow(self, tick: Tick, track: _Track, facts: list[Fact]) -> bool:
        """Anything but the next counter: first tick, new day, repeat, out of order, a hole. True: a new hole."""
        if tick.trading_day < track.day:
            return False  # a late tick of an earlier day: stored, not judged
        if tick.trading_day > track.day:
            self._new_day(tick.symbol, track, tick.trading_day)
        if track.distrust:
            return False
        seq = tick.seq
        if seq is None:
            self._distrust(tick.symbol, track, NO_SEQUENCE, facts)
            return False
        counter = seq_counter(seq)
        if (
            track.seen
            and counter <= track.seen.last
            and seq_epoch_sec(seq) > seq_epoch_sec(track.last_seq) + BACKWARD_TOLERANCE_SEC
        ):
            self._distrust(tick.symbol, track, COUNTER_WENT_BACK, facts)
            return False
        if not track.seen or counter > track.seen.last:
            track.last_seq = seq
        ranges_before = len(track.seen)
        track.seen.add(counter, counter)
        if len(track.seen) > MAX_RANGES:
            self._distrust(tick.symbol, track, NOT_COUNTING, facts)
            return False
        self._note_holed(tick.symbol, track)
        return len(track.seen) > ranges_before >= 1

    def _new_day(self, symbol: str, track: _Track, day: str) -> None:
        track.restart(day)
        self._holed.pop(symbol, None)
        self.unkeyed.pop(symbol, None)

    def _note_holed(self, symbol: str, track: _Track) -> None:
        if track.open_holes():
            self._holed.setdefault(symbol)
        else:
            self._holed.pop(symbol, None)

    def _distrust(self, symbol: str, track: _Track, reason: str, facts: list[Fact]) -> None:
        track.distrust = reason
        if reason == PUSH_PULL_DISAGREE:
            self.unkeyed[symbol] = track.day
        self._holed.pop(symbol, None)
        self.distrusted_symbols += 1
        facts.append(Unproven(symbol, track.day, reason))
        log.warning(event("sequence_distrusted", symbol=symbol, trading_day=track.day, reason=reason))

    def _compare(self, symbol: str, track: _Track, pulled: Sequence[Tick], facts: list[Fact]) -> None:
        """Do the newest pushed ticks look the same in this answer?"""
        if track.distrust or not track.recent or not pulled:
            return
        by_seq = {tick.seq: tick for tick in pulled}
        for pushed in track.recent:
            same = by_seq.get(pushed.seq)
            if same is not None and _looks_like(same, pushed):
                track.confirmed = True
            elif same is not None or _is_numbered_otherwise(pushed, track, pulled):
                self._distrust(symbol, track, PUSH_PULL_DISAGREE, facts)
                return

    def _learn_head(
        self, symbol: str, track: _Track, oldest: Tick, all_shown: bool, asked_rows: int, at_ms: int, facts: list[Fact]
    ) -> None:
        """Is there anything of the day before the oldest tick OpenD shows?"""
        assert oldest.seq is not None
        counter = seq_counter(oldest.seq)
        if all_shown and track.seen.first >= counter:
            track.head_known = True
            facts.append(HeadProven(symbol, track.day, counter))
        elif (
            track.seen.first > 1
            and asked_rows >= PULL_LIMIT_ROWS
            and track.seen.last - track.seen.first + 1 >= PULL_LIMIT_ROWS
        ):
            # Before counter 1 there is hardly anything. Otherwise: we have as many as OpenD ever shows, so what came
            # before our first one will not be seen any more.
            track.head_known = True
            reason = "recording began in mid-session"
            facts.append(GapFound(symbol, track.day, None, track.seen.first - 1, at_ms, reason))

    def _learn_end(self, symbol: str, track: _Track, newest: Tick, at_ms: int, facts: list[Fact]) -> None:
        """Nothing newer than this existed at that moment; worth a fact when it is news."""
        assert newest.seq is not None
        counter = seq_counter(newest.seq)
        if track.confirmed and (counter > track.verified[0] or at_ms - track.verified[1] >= VERIFIED_INTERVAL_MS):
            track.verified = (counter, at_ms)
            facts.append(Verified(symbol, track.day, counter, at_ms))


def _goes_back(ticks: Sequence[Tick]) -> bool:
    """Does the counter fall within one answer, in which every documented one rises by one from tick to tick?"""
    seqs = [tick.seq for tick in ticks if tick.seq is not None]
    return any(
        seq_counter(later) < seq_counter(earlier) and seq_epoch_sec(later) >= seq_epoch_sec(earlier)
        for earlier, later in pairwise(seqs)
    )


def _is_numbered_otherwise(pushed: Tick, track: _Track, pulled: Sequence[Tick]) -> bool:
    """Does the answer, which lacks its sequence, hold this trade under another one?

    It may also hold an equal trade instead, if this one lies just beyond its beginning or end. Large orders are filled
    in equal parts within a millisecond, and OpenD does not get all of them at once. The twin then has a number among
    those we know; under another numbering it would not.
    """
    twins = [tick.seq for tick in pulled if _looks_like(tick, pushed)]
    first, last = pulled[0].seq, pulled[-1].seq
    if not twins or pushed.seq is None or first is None or last is None or first <= pushed.seq <= last:
        return bool(twins)
    return not all(seq is not None and track.seen.first <= seq_counter(seq) <= track.seen.last for seq in twins)


def _looks_like(tick: Tick, other: Tick) -> bool:
    return (
        tick.price == other.price
        and tick.volume == other.volume
        and tick.turnover == other.turnover
        and same_moment(tick.ts_ms, other.ts_ms)
    )
