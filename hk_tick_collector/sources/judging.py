"""An answer held against what was seen of a symbol's day: what of it the store has to see, and what it proves.

The promises are those of ``track.Track``, whose state this changes. One that was asked for before the last
interruption proves nothing: it may be of another OpenD, and shows nothing of what came since.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from itertools import pairwise

from hk_tick_collector.core.facts import (
    COUNTER_WENT_BACK,
    NO_TICK,
    NOT_JOINED,
    PUSH_PULL_DISAGREE,
    Fact,
    GapFound,
    HeadProven,
    Rejoined,
    Verified,
)
from hk_tick_collector.records.tick import Tick, seq_counter, seq_epoch_sec
from hk_tick_collector.sources.holes import MID_SESSION, holes_in
from hk_tick_collector.sources.memory import SourceMemory
from hk_tick_collector.sources.numbering import agree, are_named_otherwise
from hk_tick_collector.sources.pulled import Answer, Taken, goes_back
from hk_tick_collector.sources.track import AHEAD_WITNESSES, Track

KNOWN_SEQS = 128  # of the newest rows of the last answer: what a poll sees again is not handed on again
VERIFIED_INTERVAL_MS = 60_000


def take(track: Track, answer: Answer, memory: SourceMemory, facts: list[Fact]) -> Taken:
    """Judge an answer. ``facts`` takes what was learned."""
    _turn_by(track, answer)
    return _Judging(track, answer, memory, facts).take()


def _turn_by(track: Track, answer: Answer) -> None:
    """The newest day in the answer that has a witness is the track's day."""
    today = track.market.trading_day(answer.recv_ts_ms)
    days = {tick.trading_day for tick in answer.ticks if tick.trading_day > track.day}
    days |= {today for row in answer.unread if track.day_of(row.seq) == today > track.day}
    ending = {tick.trading_day for tick in answer.ticks[-AHEAD_WITNESSES:]}
    in_a_row = ending if len(ending) == 1 and len(answer.ticks) >= AHEAD_WITNESSES else set()
    known = [day for day in days if day in in_a_row or track.clock_knows(day, answer.recv_ts_ms)]
    if known:
        track.begin(max(known))


class _Judging:
    """One answer, and the track whose day it may end in."""

    def __init__(self, track: Track, answer: Answer, memory: SourceMemory, facts: list[Fact]) -> None:
        self._track = track
        self._answer = answer
        self._memory = memory
        self._facts = facts
        self._today = answer.of_day(track.day)

    def take(self) -> Taken:
        track, answer, today, facts = self._track, self._answer, self._today, self._facts
        self._judge_numbers()
        self._judge_strays()
        ours = self._ours()
        ticks = [tick for tick in answer.ticks if tick.seq not in ours or tick.trading_day != track.day]
        new_rows = self._news(ticks)
        for tick in today:
            track.observe(tick, facts)
        for tick in answer.ticks:
            if tick.trading_day != track.day:
                track.note_elsewhere(tick, facts)
        if self._shows_unread_otherwise():
            track.distrust_by(PUSH_PULL_DISAGREE, facts)
        for row in answer.unread:
            track.note_unread(row.seq, answer.recv_ts_ms, facts)
        if answer.question.interruption == track.interruptions:
            self._conclude()
        if today and ticks:
            track.tell_interruption(facts)
        return Taken(ticks, new_rows)

    # --- what its numbers say ---

    def _judge_numbers(self) -> None:
        track, today, facts = self._track, self._today, self._facts
        if track.unkeyed_day == track.day or not today:
            return
        if not track.distrust and goes_back(today):
            track.distrust_by(COUNTER_WENT_BACK, facts)
        pushes, newest_rows = (*track.witnesses, *track.recent), track.limits.newest_rows
        if track.distrust:
            # Numbers that prove nothing may still name a tick; where they do not, it would be stored once a way.
            if are_named_otherwise(pushes, today, newest_rows):
                track.distrust_by(PUSH_PULL_DISAGREE, facts)
            return
        agreed = agree(pushes, today, track.seen, newest_rows)
        if agreed is False:
            track.distrust_by(PUSH_PULL_DISAGREE, facts)
            return
        track.confirmed |= agreed is True
        if self._is_renumbered():
            track.distrust_by(COUNTER_WENT_BACK, facts)

    def _judge_strays(self) -> None:
        """Ticks of other days have numbers, too."""
        track, answer = self._track, self._answer
        others = [tick for tick in answer.ticks if tick.trading_day != track.day] if track.strays else []
        if not others or (track.day and track.unkeyed_day == track.day):
            return
        if are_named_otherwise(track.strays, others, track.limits.newest_rows):
            track.begin_by_clock(answer.recv_ts_ms)
            track.distrust_by(PUSH_PULL_DISAGREE, self._facts)

    def _shows_unread_otherwise(self) -> bool:
        """Shows it, in less than was asked for, an unreadable tick of the second of one that we know, under another
        number, and not the one that we know?"""
        track, answer, question = self._track, self._answer, self._answer.question
        if track.distrust or answer.rows >= question.asked_rows or question.day != track.day:
            return False
        asked_after = {seq for counter, seq in track.unread.items() if counter <= question.newest_counter}
        absent = asked_after.difference(answer.unread_seqs, (tick.seq for tick in answer.ticks))
        new = answer.unread_seqs.difference(track.unread.values())
        return not {seq_epoch_sec(seq) for seq in absent}.isdisjoint(seq_epoch_sec(seq) for seq in new)

    def _is_renumbered(self) -> bool:
        """Does a counter that we know stand under another sequence?"""
        ours = self._track.own_sequences()
        return any(
            ours.get(seq_counter(tick.seq), tick.seq) != tick.seq for tick in self._today if tick.seq is not None
        )

    # --- what the store has to see ---

    def _ours(self) -> set[int | None]:
        """Sequences that need not be handed on again: none of a distrusted symbol, none before its first answer on a
        subscription, and none without a second, which may be another tick's, too; the store decides about those."""
        track = self._track
        if track.distrust or not track.answered:
            return set()
        ours = (*track.known, *(tick.seq for tick in track.recent))
        return {seq for seq in ours if seq is not None and seq_epoch_sec(seq)}

    def _news(self, ticks: Sequence[Tick]) -> int:
        """How many of these were not seen yet; without trust: how many are newer than all that were."""
        track = self._track
        if track.distrust or not track.seen:
            newest_ms = max(track.newest_ms, track.recent[-1].ts_ms if track.recent else 0)
            return sum(
                tick.trading_day > track.day or (tick.trading_day == track.day and tick.ts_ms > newest_ms)
                for tick in ticks
            )
        covers = track.seen.covers
        return sum(
            tick.trading_day == track.day and (tick.seq is None or not covers(seq_counter(tick.seq))) for tick in ticks
        )

    # --- what it proves ---

    def _conclude(self) -> None:
        track = self._track
        self._note_skipped()
        if not self._today:
            self._note_nothing()
        elif not track.distrust:
            self._join()
            self._learn_end()
            if not track.head_known:
                self._learn_head()
            track.head_asked |= self._answer.question.asks_all
        self._remember()

    def _remember(self) -> None:
        track, today = self._track, self._today
        track.answered = True
        if self._answer.ticks:
            track.note_shown(self._answer.ticks)
        if today:
            track.newest_ms = max(track.newest_ms, *(tick.ts_ms for tick in today))
            track.known = array("q", [tick.seq for tick in today[-KNOWN_SEQS:] if tick.seq is not None])

    def _note_skipped(self) -> None:
        track, answer = self._track, self._answer
        if len(track.seen) < 2 or track.distrust:
            return
        counters = {seq_counter(tick.seq) for tick in self._today if tick.seq is not None}
        counters.update(seq_counter(seq) for seq in answer.unread_seqs if track.day_of(seq) == track.day)
        holes = {(first, last) for first, last, unread in holes_in(track.seen, track.unread) if not unread}
        track.skipped |= holes.intersection((low + 1, high - 1) for low, high in pairwise(sorted(counters)))

    def _note_nothing(self) -> None:
        """OpenD showed no tick of the track's day."""
        track, answer, question = self._track, self._answer, self._answer.question
        day = track.market.trading_day(question.asked_ms)
        if not track.seen or track.day != day:
            if not answer.unread:
                self._learn_nothing(day, question.asked_ms)
        elif answer.is_short and not answer.unread and question.newest_counter and question.day == track.day:
            self._memory.forgot(track.day)  # what was pushed while the answer was under way cannot be in it

    def _learn_nothing(self, day: str, asked_ms: int) -> None:
        """An OpenD that does not forget had no tick of ``day`` when it was asked."""
        track, memory = self._track, self._memory
        if track.nothing_on != day or asked_ms < track.market.opening_ms(day):  # nothing was traded before
            track.nothing_on, track.nothing_since, track.nothing_told_ms = day, memory.connection, 0
        if not _told_lately(track.nothing_told_ms, asked_ms) and memory.holds(day, 0, track.nothing_since):
            track.nothing_told_ms = asked_ms
            self._facts.append(Verified(track.symbol, day, NO_TICK, asked_ms))

    def _join(self) -> None:
        """Does the answer show what was before an interruption together with what came after it?"""
        track, answer, seam = self._track, self._answer, self._track.seam
        if seam is None:
            return
        counters = [seq_counter(tick.seq) for tick in self._today if tick.seq is not None]
        shown = {tick.seq for tick in self._today}.union(answer.unread_seqs)
        place = next((n for n, seam in enumerate(track.seams) if seam.seq in shown), None)
        if place is not None:
            joined_seq = track.seams[place].seq
            if track.join(place):
                self._facts.append(Rejoined(track.symbol, track.day, joined_seq))
        if place == 0:
            self._memory.shows(seam.connection)
        elif counters and max(counters) >= seq_counter(seam.seq):
            if answer.is_short:
                self._memory.forgot(track.day)
            if self._is_crossed and (answer.question.asks_all or min(counters) <= seam.last):
                track.doubt(NOT_JOINED, self._facts)
                track.forget_seams()

    @property
    def _is_crossed(self) -> bool:
        """Do the counters run on over the last interruption as if there had been none?"""
        seam = self._track.seam
        return seam is not None and self._track.seen.covers(seam.last + 1)

    def _learn_head(self) -> None:
        """Is there anything of the day before the oldest tick OpenD shows?"""
        track, answer, memory = self._track, self._answer, self._memory
        counter = min(seq_counter(tick.seq) for tick in self._today if tick.seq is not None)
        if answer.shows_beginning(track.day):
            if track.seen.first < counter or not memory.holds(track.day, counter, track.day_nothing_since()):
                return
            if track.left_open and counter != 1:
                # Who had the first ticks knew more of OpenD than we do. Nothing tells of earlier ones either.
                track.from_start = True
                return
            track.head_known = True
            self._facts.append(HeadProven(track.symbol, track.day, counter))
        elif (
            track.seen.first > 1
            and track.day not in memory.unknown_days  # its file may hold what came before
            and answer.question.asks_all
            and answer.is_full
            and max(answer.rows, track.seen.last - track.seen.first + 1) >= track.limits.newest_rows
        ):
            # Before counter 1 there is hardly anything. Otherwise: we have as many as OpenD ever shows, so what came
            # before our first one will not be seen any more.
            track.head_known = True
            if not track.from_start:
                at_ms = answer.question.asked_ms
                self._facts.append(GapFound(track.symbol, track.day, None, track.seen.first - 1, at_ms, MID_SESSION))

    def _learn_end(self) -> None:
        """Nothing newer than this existed when OpenD was asked; worth a fact when it is news."""
        track, answer, question = self._track, self._answer, self._answer.question
        counter = max(seq_counter(tick.seq) for tick in self._today if tick.seq is not None)
        known = question.newest_counter if question.day == track.day else 0
        if not track.confirmed or not answer.ends_in(track.day) or counter < known or self._is_crossed:
            return
        if counter > track.verified[0] or not _told_lately(track.verified[1], question.asked_ms):
            track.verified = (counter, question.asked_ms)
            self._facts.append(Verified(track.symbol, track.day, counter, question.asked_ms))


def _told_lately(told_ms: int, now_ms: int) -> bool:
    """So that it need not be told again. A time to come is of a clock that ran ahead: it has to be corrected."""
    return 0 <= now_ms - told_ms < VERIFIED_INTERVAL_MS
