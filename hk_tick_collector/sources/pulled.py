"""One answer of a source to "the newest N ticks of this symbol": what it shows, judged by itself.

An answer is all its rows. One that could not be read still takes its place: an answer that begins with such a row does
not show the day's first tick, one that ends with it does not show the newest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

from hk_tick_collector.records.tick import RejectedTick, Tick, seq_counter, seq_epoch_sec
from hk_tick_collector.sources.source import PullLimits, UnreadRow

EARLIER_DAY_ROWS = 50  # so many rows of earlier days in a row are that day's end; fewer may be late reports of it
LATE_ROWS_SHARE = 0.05  # of an answer sorted by time, so many rows may stand before ticks that were counted earlier


class Question(NamedTuple):
    """What was asked, and what was known at the moment it was sent."""

    symbol: str
    asked_rows: int
    asked_ms: int  # UTC epoch ms: the answer speaks of this moment, however long it was under way
    day: str
    newest_counter: int  # the highest one known of that day: an answer that ends before it is an old one
    limits: PullLimits  # what the source can show at once
    interruption: int = 0  # the symbol's last one so far: a later one is not bridged by this answer

    @property
    def asks_all(self) -> bool:
        """Was as much asked for as the source ever shows?"""
        return self.asked_rows >= self.limits.newest_rows


@dataclass(frozen=True)
class Answer:
    """The rows of an answer, oldest first as the source gave them."""

    question: Question
    ticks: Sequence[Tick]
    unread: Sequence[UnreadRow]
    recv_ts_ms: int

    @property
    def rows(self) -> int:
        return len(self.ticks) + len(self.unread)

    @property
    def is_short(self) -> bool:
        """Did the source show all that it has?"""
        return self.question.asks_all and self.rows < self.question.limits.surely_all_rows

    @property
    def is_full(self) -> bool:
        """Is it as long as an answer gets, so that there may be more?"""
        return self.rows >= self.question.limits.surely_all_rows

    @cached_property
    def unread_seqs(self) -> frozenset[int]:
        return frozenset(row.seq for row in self.unread)

    def of_day(self, day: str) -> list[Tick]:
        return [tick for tick in self.ticks if tick.trading_day == day]

    def shows_beginning(self, day: str) -> bool:
        """Is its first tick of ``day`` the first one that the source has of that day?

        Earlier days' ticks in front show it too, but a few may be late reports that happen to stand there: then only
        counter 1 does.
        """
        first = next((at for at, tick in enumerate(self.ticks) if tick.trading_day == day), None)
        if first is None or (self.unread and self.unread[0].position <= first):
            return False
        before = self.ticks[:first]
        if any(tick.trading_day > day for tick in before):
            return False
        if self.is_short:
            return True
        counters = [seq_counter(tick.seq) for tick in self.ticks[: first + 1] if tick.seq is not None]
        if len(counters) != first + 1 or not before:
            return False
        in_step = all(later == earlier + 1 for earlier, later in pairwise(counters[:-1]))
        return in_step and (len(before) >= EARLIER_DAY_ROWS or counters[-1] == 1)

    def ends_in(self, day: str) -> bool:
        """Is its last row a readable tick of ``day``?"""
        if not self.ticks or (self.unread and self.unread[-1].position == self.rows - 1):
            return False
        return self.ticks[-1].trading_day == day


class Taken(NamedTuple):
    """What became of an answer: the ticks for the store, and how many of them were news to us."""

    ticks: list[Tick]
    new_rows: int


def sequence_of(rejected: RejectedTick) -> int:
    """The sequence of a tick that could not be read; 0 when it has none."""
    seq = rejected.raw.get("sequence")
    return seq if isinstance(seq, int) and seq > 0 else 0


def goes_back(ticks: Sequence[Tick]) -> bool:
    """Do the counters of one answer (of one day) begin anew or repeat?

    In every documented answer they rise by one from tick to tick. An answer sorted by time puts a few late ticks before
    ticks that were counted earlier; a counter that stands there twice is proof whatever the order.
    """
    seqs = [tick.seq for tick in ticks if tick.seq is not None]
    counters = [seq_counter(seq) for seq in seqs]
    if all(later > earlier for earlier, later in pairwise(counters)):
        return False
    present = set(counters)
    if len(present) != len(counters):
        return True
    return not _only_late(seqs, counters, present)


def _only_late(seqs: Sequence[int], counters: Sequence[int], present: set[int]) -> bool:
    """Is every fall explained by a few ticks that happened before the ticks counted just before them?"""
    lowest = counters[-1]
    late: list[int] = []
    for at in range(len(counters) - 2, -1, -1):
        if counters[at] > lowest:
            late.append(at)
        lowest = min(lowest, counters[at])
    if len(late) > max(1, round(len(counters) * LATE_ROWS_SHARE)):
        return False
    sorted_by_time = all(seq_epoch_sec(later) >= seq_epoch_sec(earlier) for earlier, later in pairwise(seqs))
    return sorted_by_time and all(counters[at] - 1 in present for at in late)
