"""Ticks whose sequences only name them (``EvidenceLevel.ID``): what is a repeat, and nothing else.

No number here is ever taken for a count: there are no holes, nothing is proven, and a low half that comes again (in
the US it begins anew every second) means nothing. A pulled tick is left out only when its whole sequence is among the
day's last ones that were handed over since the subscription began; the store decides about all others.

A lost push leaves no trace, so every symbol is followed (``poll.Follower``): all that the source shows is fetched about
as often as a third of it was traded. What can be known all the same is said as a doubt beside "no counter": an answer
of all that the source shows, without the tick that came last before an interruption, does not reach back to it
(``NOT_JOINED``), one that is full of a day of which we have nothing does not show its beginning (``MID_SESSION``); and
an answer that holds a pushed trade under another sequence shows that sequences are no names
either (``PUSH_PULL_DISAGREE``): that day's ticks are then told apart by content.

Memory: RECENT_SEQS numbers a symbol. A pushed tick costs a look-up and a store into an array.
"""

from __future__ import annotations

import logging
import threading
from array import array
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from hk_tick_collector.core.facts import NOT_JOINED, PUSH_PULL_DISAGREE, Fact, StoredTrack, Unproven
from hk_tick_collector.core.logline import event
from hk_tick_collector.records.tick import RejectedTick, Tick
from hk_tick_collector.records.views import without_sequences
from hk_tick_collector.sources.continuity import FactSink
from hk_tick_collector.sources.holes import MID_SESSION, Hole
from hk_tick_collector.sources.numbering import looks_like
from hk_tick_collector.sources.pulled import Answer, Question, Taken
from hk_tick_collector.sources.source import SourceSpec

log = logging.getLogger(__name__)

RECENT_SEQS = 1024  # a little more than an answer has
WITNESSES = 16  # newest pushed ticks that an answer is held against


@dataclass(slots=True)
class _Symbol:
    """What was handed over of one symbol since its subscription began, and the last of it before."""

    day: str = ""
    rows: int = 0  # pushed since the start
    last_tick_monotonic: float = 0.0
    top_seq: int = 0  # the highest sequence of the day
    is_cut: bool = True  # no answer of all that is shown has come since the last interruption
    before_seq: int = 0  # the highest sequence of the day before it; 0: we had none
    recent: array[int] = field(default_factory=lambda: array("q"))  # of the day; a ring
    at: int = 0  # the ring's oldest place
    pushed: deque[Tick] = field(default_factory=lambda: deque(maxlen=WITNESSES))  # also before an interruption
    interruptions: int = 0

    def note(self, seq: int) -> None:
        if len(self.recent) < RECENT_SEQS:
            self.recent.append(seq)
        else:
            self.recent[self.at] = seq
            self.at = (self.at + 1) % RECENT_SEQS
        if seq > self.top_seq:  # noqa: PLR1730 - a call of max() a tick costs as much as the rest
            self.top_seq = seq

    def begin(self, day: str) -> None:
        self.day = day
        self.top_seq = self.before_seq = 0
        self.recent, self.at = array("q"), 0  # numbers may begin anew with the day
        self.pushed.clear()

    def interrupt(self) -> None:
        self.interruptions += 1
        self.is_cut = True
        self.before_seq = self.before_seq or self.top_seq
        self.recent, self.at = array("q"), 0


class Identities:
    """A strategy of ``completeness.Completeness``, with its promises. ``facts`` takes what is learned, at once."""

    def __init__(self, facts: FactSink, spec: SourceSpec) -> None:
        self._facts = facts
        self._limits = spec.pull
        self._lock = threading.Lock()
        self._symbols: dict[str, _Symbol] = {}
        self.unkeyed: dict[str, str] = {}
        self.distrusted_symbols = 0
        self.has_holes = False  # there are none to be known

    # --- where it begins, and begins again ---

    def seed(
        self, known: Mapping[str, StoredTrack], symbols: Iterable[str] = (), unknown_days: Iterable[str] = ()
    ) -> None:
        """The newest stored tick of each symbol is what the first answer has to reach back to. Of ``unknown_days`` it
        is as if nothing were stored."""
        with self._lock:
            for symbol in symbols:
                self._symbol(symbol)
            for symbol, past in known.items():
                self._resume(symbol, past)

    def seed_new(self, known: Mapping[str, StoredTrack], unknown_days: Iterable[str] = ()) -> None:
        """As ``seed``, of those that are not followed yet."""
        new = {symbol: past for symbol, past in known.items() if symbol not in self._symbols}
        self.seed(new, unknown_days=unknown_days)

    def resync(self, known: Mapping[str, StoredTrack], unknown_days: Iterable[str] = ()) -> None:
        """What was handed over may not be in the files: the store decides about all that comes from now on."""
        with self._lock:
            for symbol, track in self._symbols.items():
                track.interrupt()
                track.top_seq = track.before_seq = 0
                if symbol in known:
                    self._resume(symbol, known[symbol])
        self.seed_new(known, unknown_days)

    def _resume(self, symbol: str, past: StoredTrack) -> None:
        if not past.is_wanted:
            return
        track = self._symbol(symbol)
        if past.trading_day < track.day:
            return
        track.begin(past.trading_day)
        track.top_seq = past.last_seq
        track.interrupt()
        track.pushed.extend(past.witnesses)
        if past.unkeyed:
            self.unkeyed[symbol] = past.trading_day

    def connected(self) -> None:
        """Nothing was pushed of any symbol for a while."""
        with self._lock:
            for track in self._symbols.values():
                track.interrupt()

    def interrupted(self, symbols: Iterable[str]) -> None:
        """Nor of these."""
        with self._lock:
            for symbol in symbols:
                self._symbol(symbol).interrupt()

    def tell_interruptions(self, ticks: Sequence[Tick]) -> None:
        """Nothing is proven, so no interruption takes a proof away."""

    def tell_left_over(self, ticks: Sequence[Tick]) -> None:
        """Likewise."""

    # --- what comes ---

    def observe_push(self, ticks: Sequence[Tick], monotonic_sec: float) -> bool:
        """Note pushed ticks; there is never a hole to be seen."""
        symbol: str | None = None
        with self._lock:
            for tick in ticks:
                if tick.symbol is not symbol:  # else it came in the same push
                    symbol = tick.symbol
                    track = self._symbol(symbol)
                    track.last_tick_monotonic = monotonic_sec
                track.rows += 1
                if tick.trading_day != track.day and not self._turn(track, tick):
                    continue
                if tick.seq is not None:
                    track.note(tick.seq)
                    track.pushed.append(tick)
        return False

    def observe_unread(self, rejected: Iterable[RejectedTick]) -> bool:
        """It is in the quarantine, which the certificate counts. A pull would show it as it is."""
        return False

    def ask(self, symbol: str, asked_rows: int, asked_ms: int) -> Question:
        """No counter is known, so none is expected."""
        with self._lock:
            track = self._symbol(symbol)
            return Question(symbol, asked_rows, asked_ms, track.day, 0, self._limits, track.interruptions)

    def take(self, answer: Answer) -> Taken:
        """All of an answer but the sequences that were handed over since the subscription began."""
        symbol = answer.question.symbol
        facts: list[Fact] = []
        with self._lock:
            track = self._symbol(symbol)
            our_day, ours = track.day, set(track.recent)
            ticks = [tick for tick in answer.ticks if tick.seq not in ours or tick.trading_day != our_day]
            new_rows = self._news(track, ticks)
            for tick in ticks:
                if tick.trading_day > track.day:
                    self._turn(track, tick)
            self._compare(track, answer, facts)
            if answer.question.interruption == track.interruptions:
                self._join(track, answer, facts)
                for tick in ticks:
                    if tick.seq is not None and tick.trading_day == track.day:
                        track.note(tick.seq)
            day = self.unkeyed.get(symbol, "")
            if any(tick.trading_day <= day for tick in answer.ticks):
                new = set(map(id, ticks))
                view = [tick for tick in answer.ticks if tick.trading_day <= day or id(tick) in new]
                ticks = without_sequences(view, day)
            if facts:
                self._facts(facts)
        return Taken(ticks, new_rows)

    def touch(self, symbol: str, monotonic_sec: float) -> None:
        """A pull brought something new."""
        with self._lock:
            self._symbol(symbol).last_tick_monotonic = monotonic_sec

    # --- what is worth asking for ---

    def quiet_symbols(self, symbols: Iterable[str], since_monotonic: float) -> list[str]:
        """Those without a tick since then."""
        with self._lock:
            return [s for s in symbols if self._symbol(s).last_tick_monotonic < since_monotonic]

    def most_active_first(self, symbols: Iterable[str]) -> list[str]:
        """By ticks pushed; equal ones keep their order."""
        with self._lock:
            return sorted(symbols, key=lambda s: -self._symbol(s).rows)

    def pushed_rows(self) -> dict[str, int]:
        """By symbol, since the start."""
        with self._lock:
            return {symbol: track.rows for symbol, track in self._symbols.items()}

    def wants_whole(self, symbol: str) -> bool:
        """Until an answer has reached back over the last interruption, or could not."""
        with self._lock:
            return self._symbol(symbol).is_cut

    def unconfirmed(self, symbols: Iterable[str]) -> list[str]:
        """None: an agreement would prove nothing."""
        return []

    def distrusted(self, symbols: Iterable[str]) -> dict[str, int]:
        """All: of every symbol a lost push leaves no trace."""
        with self._lock:
            return {symbol: self._symbol(symbol).rows for symbol in symbols}

    def holes(self) -> list[Hole]:
        """None can be known."""
        return []

    def give_up(self, hole: Hole, at_ms: int) -> bool:
        """Never asked: there are no holes."""
        raise NotImplementedError(f"{hole.symbol} has no counters, and so no hole ({at_ms})")

    # --- the rules ---

    def _symbol(self, symbol: str) -> _Symbol:
        track = self._symbols.get(symbol)
        if track is None:
            track = self._symbols[symbol] = _Symbol()
        return track

    def _turn(self, track: _Symbol, tick: Tick) -> bool:
        """A tick of another day: does it begin it? One of an earlier day is stored, and noted nowhere."""
        if tick.trading_day < track.day:
            return False
        track.begin(tick.trading_day)
        return True

    @staticmethod
    def _news(track: _Symbol, ticks: Sequence[Tick]) -> int:
        """How many of those that were not handed over since the subscription began were not stored before it either:
        all that come later than what was."""
        return sum(
            tick.trading_day > track.day or (tick.trading_day == track.day and (tick.seq or 0) > track.before_seq)
            for tick in ticks
        )

    def _join(self, track: _Symbol, answer: Answer, facts: list[Fact]) -> None:
        """Does the answer reach back to the newest tick before the last interruption, or to the day's beginning?"""
        if not track.is_cut or not answer.question.asks_all:
            return
        today = answer.of_day(track.day)
        if track.before_seq:
            if not any(tick.seq is not None and tick.seq <= track.before_seq for tick in today):
                self._doubt(answer.question.symbol, track.day, NOT_JOINED, facts)
        elif today and len(today) == len(answer.ticks) and answer.is_full:
            self._doubt(answer.question.symbol, track.day, MID_SESSION, facts)
        track.is_cut, track.before_seq = False, 0

    def _compare(self, track: _Symbol, answer: Answer, facts: list[Fact]) -> None:
        """Is a pushed tick of its stretch not in it, but an equal trade under a sequence that was not pushed?"""
        symbol = answer.question.symbol
        shown = {tick.seq for tick in answer.of_day(track.day) if tick.seq is not None}
        if self.unkeyed.get(symbol) == track.day or not shown or not track.pushed:
            return
        first, last = min(shown), max(shown)
        pushed_seqs = {tick.seq for tick in track.pushed}
        for pushed in track.pushed:
            if pushed.seq is None or not first < pushed.seq < last or pushed.seq in shown:
                continue
            if any(looks_like(tick, pushed) and tick.seq not in pushed_seqs for tick in answer.ticks):
                self.unkeyed[symbol] = track.day
                self.distrusted_symbols += 1
                self._doubt(symbol, track.day, PUSH_PULL_DISAGREE, facts)
                return

    @staticmethod
    def _doubt(symbol: str, day: str, reason: str, facts: list[Fact]) -> None:
        facts.append(Unproven(symbol, day, reason))
        log.warning(event("day_doubted", symbol=symbol, trading_day=day, reason=reason))
