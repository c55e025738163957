"""The tracks of all symbols: which ticks we have seen, what is missing, and what that proves.

``track.Track`` has the rules for one symbol's day, ``memory.SourceMemory`` what all symbols together say of OpenD. This
owns them, and the lock: it is called from the SDK's network thread (pushes) and from the loop (pulls), and takes the
lock once a burst. The tick that has the next counter and a later sequence than all before is done here, at the cost of
a look-up and an addition; any other goes the long way.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence

from hk_tick_collector.core.facts import (
    NOT_JOINED,
    NUMBERS_SKIPPED,
    UNKNOWN_SEQ,
    Fact,
    GapFound,
    Interrupted,
    StoredTrack,
    Unproven,
)
from hk_tick_collector.market.registry import market_of
from hk_tick_collector.records.tick import SEQ_COUNTER_MASK, RejectedTick, Tick, seq_epoch_sec
from hk_tick_collector.records.views import without_sequences
from hk_tick_collector.sources import judging
from hk_tick_collector.sources.holes import Hole
from hk_tick_collector.sources.memory import BEFORE_BREAK, IN_FILES, SourceMemory
from hk_tick_collector.sources.pulled import Answer, Question, Taken, sequence_of
from hk_tick_collector.sources.source import SourceSpec
from hk_tick_collector.sources.track import RECENT_PUSHES, Track

FactSink = Callable[[Sequence[Fact]], None]


class Continuity:
    """``facts`` takes what is learned about completeness, from any thread, at once. It is called under the lock: so
    facts come in the order in which they became true, an interruption before the answer that ends it."""

    def __init__(self, facts: FactSink, spec: SourceSpec) -> None:
        self._facts = facts
        self._limits = spec.pull
        self._market = market_of(spec.market)
        self._lock = threading.Lock()
        self._memory = SourceMemory()
        self._tracks: dict[str, Track] = {}
        self._holed: dict[str, None] = {}  # symbols with open holes, in the order found
        self.unkeyed: dict[str, str] = {}  # symbols whose pushes and pulls were numbered differently, and the last day
        self.untold: set[str] = set()  # symbols whose ticks to come follow an interruption that no fact tells of yet
        self._uncompared: set[str] = set()  # symbols that an answer showed, and no answer has agreed with a push of
        self.distrusted_symbols = 0  # today's and earlier ones', for the health line
        self._unknown_days: frozenset[str] = frozenset()  # of which it is not known what their files hold
        self._told_unknown: set[tuple[str, str]] = set()  # symbols and such days of which ticks were handed over

    # --- where it begins, and begins again ---

    def seed(
        self, known: Mapping[str, StoredTrack], symbols: Iterable[str] = (), unknown_days: Iterable[str] = ()
    ) -> None:
        """Begin where the day files end. ``symbols`` are all that were looked for in them; the files of
        ``unknown_days`` could not be looked at: what comes of those days follows an interruption there. Others that
        are not wanted any more are held against OpenD's memory, and not followed."""
        with self._lock:
            self._unknown_days |= set(unknown_days)
            self._memory.unknown_days = self._unknown_days
            for symbol in symbols:
                self._track(symbol)
            connections = self._hold(known) if not self._memory.connection else {}
            for symbol, past in known.items():
                if not past.is_wanted:
                    continue
                track = self._track(symbol)
                before = track.distrust
                track.resume(past, connections.get(symbol, self._memory.connection))
                if NUMBERS_SKIPPED in past.reasons:
                    self._memory.skips_on = max(self._memory.skips_on, past.trading_day)
                self._settle(track, before)
                self._note_untold(track)

    def _hold(self, known: Mapping[str, StoredTrack]) -> dict[str, int]:
        """Note what the files held at the start; on which connection it came, by symbol."""
        day = max((past.trading_day for past in known.values()), default="")
        today = {symbol: past for symbol, past in known.items() if past.trading_day == day}
        breaks = [seq_epoch_sec(past.interrupted_seq) for past in today.values() if past.interrupted_seq]
        if today:
            self._memory.held(day, unbridged=bool(breaks))
        break_sec = min(breaks, default=0)  # what was traded by then came before all of them
        return {
            symbol: BEFORE_BREAK if seq_epoch_sec(past.interrupted_seq or past.last_seq) <= break_sec else IN_FILES
            for symbol, past in today.items()
        }

    def _is_ours(self, symbol: str, past: StoredTrack) -> bool:
        """Is all that the file has of the symbol what this process has seen?"""
        if not past.is_wanted:
            return False
        track = self._track(symbol)
        return track.day == past.trading_day and all(
            any(low <= first and last <= high for low, high in track.seen.ranges) for first, last in past.stored.ranges
        )

    def seed_new(self, known: Mapping[str, StoredTrack], unknown_days: Iterable[str] = ()) -> None:
        """The same for symbols that were not followed so far. To be called before they are subscribed."""
        new = {symbol: past for symbol, past in known.items() if symbol not in self._tracks}
        self.seed(new, unknown_days=unknown_days)

    def resync(self, known: Mapping[str, StoredTrack], unknown_days: Iterable[str] = ()) -> None:
        """Rows were lost on the way to the files, or their files can be read now: what they do not hold was never seen.

        The reasons for which a day cannot be proven are said again: the file that had them may be set aside.
        """
        facts: list[Fact] = []
        with self._lock:
            unread, self._unknown_days = self._unknown_days, frozenset(unknown_days)
            self._memory.unknown_days = self._unknown_days
            self._told_unknown.clear()
            days = unread - self._unknown_days
            read = {s: past for s, past in known.items() if past.trading_day in days and not self._is_ours(s, past)}
            connections = self._hold(read)
            for symbol, track in self._tracks.items():
                past = known.get(symbol)
                day, distrust, doubts, confirmed = track.day, track.distrust, set(track.doubts), track.confirmed
                witnesses = (*track.witnesses, *track.recent)[-RECENT_PUSHES:]
                is_left_open = track.left_open
                track.interrupt(self._memory.connection)
                seams = track.seams
                if past is None or past.trading_day < day:
                    track.begin(day)
                else:
                    track.resume(past, connections.get(symbol, self._memory.connection))
                if track.day == day:
                    for seam in seams:
                        if not track.seams or seam.seq < track.seams[-1].seq:  # a later one is behind what the file has
                            track.reopen(seam)
                    track.left_open &= symbol in connections or is_left_open
                    # That push and pull agreed stays true. After the close no push comes that could show it again.
                    track.confirmed |= confirmed
                    track.witnesses = witnesses or track.witnesses
                    track.distrust = distrust or track.distrust
                    facts += [Unproven(symbol, day, reason) for reason in sorted(doubts - track.doubts)]
                    track.doubts |= doubts
                self._settle(track, distrust)
                self._note_untold(track)
            if facts:
                self._facts(facts)
        self.seed_new(known)

    def connected(self) -> None:
        """A connection was made; nothing was pushed since the last one was lost."""
        with self._lock:
            for track in self._tracks.values():
                track.interrupt(self._memory.connection)
                self._note_untold(track)
            self._memory.connected()

    def interrupted(self, symbols: Iterable[str]) -> None:
        """These were not subscribed for a while on this connection. To be called before they are again."""
        with self._lock:
            for symbol in symbols:
                track = self._track(symbol)
                track.interrupt(self._memory.connection)
                self._note_untold(track)

    def _tell_unknown(self, ticks: Sequence[Tick], facts: list[Fact]) -> None:
        """Ticks of a day are handed over whose file nobody has read."""
        if not self._unknown_days:
            return
        pairs = dict.fromkeys((t.symbol, t.trading_day) for t in ticks if t.trading_day in self._unknown_days)
        new = [pair for pair in pairs if pair not in self._told_unknown]
        self._told_unknown.update(new)
        facts += [Interrupted(symbol, day, UNKNOWN_SEQ) for symbol, day in new]

    def tell_interruptions(self, ticks: Sequence[Tick]) -> None:
        """To be called before ticks are handed over that no answer brought: the file must know that they follow an
        interruption before it has them, or another process would take them for its own count's. Likewise that they are
        numbered otherwise than the answer that has shown them already."""
        is_uncompared = bool(self._uncompared) and not self._uncompared.isdisjoint([tick.symbol for tick in ticks])
        if not self.untold and not self._unknown_days and not is_uncompared:
            return
        facts: list[Fact] = []
        with self._lock:
            self._tell_unknown(ticks, facts)
            if is_uncompared:
                self._compare_pushed(ticks, facts)
            for symbol, day in dict.fromkeys((t.symbol, t.trading_day) for t in ticks if t.symbol in self.untold):
                track = self._track(symbol)
                if day == track.day:
                    track.tell_interruption(facts)
                self._note_untold(track)
            if facts:
                self._facts(facts)

    def _compare_pushed(self, ticks: Sequence[Tick], facts: list[Fact]) -> None:
        for tick in ticks:
            if tick.symbol in self._uncompared:
                track = self._track(tick.symbol)
                distrust = track.distrust
                track.compare_pushed(tick, facts)
                self._settle(track, distrust)

    def tell_left_over(self, ticks: Sequence[Tick]) -> None:
        """To be called before rows are stored that an earlier process left in the spill: what it knew of them may have
        died with it. Where no answer will show them together with what the file has, that stays a doubt: the day has
        turned since, or nobody asks for the symbol any more."""
        rows: dict[tuple[str, str], list[int]] = {}
        for tick in ticks:
            rows.setdefault((tick.symbol, tick.trading_day), []).append(tick.seq or 0)
        with self._lock:
            facts: list[Fact] = []
            self._tell_unknown(ticks, facts)
            for (symbol, day), seqs in rows.items():
                track = self._tracks.get(symbol)
                if track is None or day < track.day:
                    facts.append(Unproven(symbol, day, NOT_JOINED))
                else:
                    track.note_left_over(day, seqs, self._memory.connection)
                    track.tell_interruption(facts)
                    self._note_untold(track)
            if facts:
                self._facts(facts)

    # --- what comes ---

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
                    if counter == newest[1] + 1 and seq > track.top_seq:
                        newest[1] = counter
                        track.top_seq = seq
                        track.recent.append(tick)
                        continue
                new_hole |= self._observe_slow(tick, track, facts)
            if facts:
                self._facts(facts)
        return new_hole

    def _observe_slow(self, tick: Tick, track: Track, facts: list[Fact]) -> bool:
        distrust = track.distrust
        new_hole = track.observe(tick, facts, self._memory)
        if tick.seq is not None and tick.trading_day == track.day:
            track.recent.append(tick)
        self._settle(track, distrust)
        return new_hole

    def observe_unread(self, rejected: Iterable[RejectedTick]) -> bool:
        """Note pushed ticks that could not be read. True when one may be had by a pull."""
        facts: list[Fact] = []
        with self._lock:
            for tick in rejected:
                track = self._track(tick.symbol)
                track.note_unread(sequence_of(tick), tick.recv_ts_ms, facts)
                self._settle(track, track.distrust)
            holed = bool(self._holed)
            if facts:
                self._facts(facts)
        return holed

    def ask(self, symbol: str, asked_rows: int, asked_ms: int) -> Question:
        """What is about to be asked of OpenD. To be made just before it is sent."""
        with self._lock:
            return self._track(symbol).question(asked_rows, asked_ms)

    def take(self, answer: Answer) -> Taken:
        """Note an answer; returns what the store has to see of it: all but what is surely ours already."""
        facts: list[Fact] = []
        symbol = answer.question.symbol
        with self._lock:
            track = self._track(symbol)
            distrust = track.distrust
            taken = judging.take(track, answer, self._memory, facts)
            self._tell_unknown(taken.ticks, facts)
            self._settle(track, distrust)
            self._note_untold(track)
            if symbol in self.unkeyed:
                taken = Taken(without_sequences(taken.ticks, self.unkeyed[symbol]), taken.new_rows)
            if facts:
                self._facts(facts)
        return taken

    def touch(self, symbol: str, monotonic_sec: float) -> None:
        """A pull brought something new: the symbol is not quiet."""
        with self._lock:
            self._track(symbol).last_tick_monotonic = monotonic_sec

    # --- what is worth asking for ---

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

    def wants_whole(self, symbol: str) -> bool:
        """Is there something that only an answer of all that OpenD shows can tell?"""
        with self._lock:
            return self._track(symbol).wants_whole

    def unconfirmed(self, symbols: Iterable[str]) -> list[str]:
        """Those of ``symbols`` that were pushed today and whose pushes no pull has confirmed yet, or whose beginning
        none has looked for."""
        with self._lock:
            return [s for s in symbols if self._track(s).wants_audit]

    def distrusted(self, symbols: Iterable[str]) -> dict[str, int]:
        """Those of ``symbols`` whose counters prove nothing today, and how many ticks of each were pushed."""
        with self._lock:
            return {s: t.rows for s in symbols if (t := self._track(s)).distrust}

    @property
    def has_holes(self) -> bool:
        """Has any symbol a hole that may be repaired?"""
        return bool(self._holed)

    def holes(self) -> list[Hole]:
        """All holes that may be repaired, oldest found symbol first."""
        with self._lock:
            return [hole for symbol in self._holed for hole in self._tracks[symbol].open_holes()]

    def give_up(self, hole: Hole, at_ms: int) -> bool:
        """OpenD does not show this hole any more. Should its ticks come after all, they are taken.

        True: its ticks are missing, and it becomes a gap. False: OpenD is not known to have had any.
        """
        facts: list[Fact] = []
        missing = True
        with self._lock:
            track = self._track(hole.symbol)
            if track.day == hole.trading_day:
                missing = track.give_up(hole, at_ms, self._memory, facts)
                self._settle(track, track.distrust)
            else:
                reason = hole.gap_reason(self._limits.newest_rows)
                facts.append(GapFound(hole.symbol, hole.trading_day, hole.first, hole.last, at_ms, reason))
            self._facts(facts)
        return missing

    def _track(self, symbol: str) -> Track:
        track = self._tracks.get(symbol)
        if track is None:
            track = self._tracks[symbol] = Track(symbol, self._market, self._limits)
        return track

    def _note_untold(self, track: Track) -> None:
        if track.has_untold:
            self.untold.add(track.symbol)
        else:
            self.untold.discard(track.symbol)

    def _settle(self, track: Track, distrust_before: str) -> None:
        """What is known of all symbols follows what has just become of one."""
        symbol = track.symbol
        self._memory.saw(track.day)
        if track.distrust and not distrust_before:
            self.distrusted_symbols += 1
        if track.unkeyed_day:
            self.unkeyed[symbol] = track.unkeyed_day
        if track.shown:
            self._uncompared.add(symbol)
        else:
            self._uncompared.discard(symbol)
        if track.open_holes():
            self._holed.setdefault(symbol)
        else:
            self._holed.pop(symbol, None)
