"""Do pushes and answers give a trade the same number?

Two ways may number each for itself: the same trade then comes twice, under two numbers, and no number is a name. What
tells it is a pushed trade that an answer shows under another number, and not under its own.

An equal trade is no proof everywhere. Large orders are filled in equal parts within a millisecond, and a source does
not show all of them at once: beside a pushed part, just beyond the beginning or the end of an answer, another part may
stand in it. The number of such a twin is *near*; of a trade between others, of one whose number the answer gives to
another trade, or far from its own number, there is no such excuse.

Limit: of a trade at the end of an answer, numbered near its push, nothing can tell whether it is that push or its twin.
Both are stored, for a tick that was shown is never left out on a suspicion; a later answer tells, and the day is
unproven then. Until it comes, the trade may stand there twice.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

from hk_tick_collector.core.ranges import CounterRanges
from hk_tick_collector.records.tick import Tick, same_moment, seq_counter

Look = tuple[object, ...]


def look(tick: Tick) -> Look:
    """What one trade looks like on both ways, but for its time."""
    return tick.price, tick.volume, tick.turnover


def looks_like(tick: Tick, other: Tick) -> bool:
    """May the two be one trade?"""
    return look(tick) == look(other) and same_moment(tick.ts_ms, other.ts_ms)


def numbers_of(trade: Tick, ticks: Iterable[Tick]) -> set[int]:
    """Under which numbers do these hold this trade, or one that looks like it?"""
    return {tick.seq for tick in ticks if tick.seq is not None and looks_like(tick, trade)}


def is_near(seq: int, others: Iterable[int], newest_rows: int) -> bool:
    """Is one of ``others`` so near that both may be numbers of one way? ``newest_rows``: so many a source shows."""
    return any(abs(seq - other) <= newest_rows for other in others)


def agree(pushes: Sequence[Tick], pulled: Sequence[Tick], seen: CounterRanges, newest_rows: int) -> bool | None:
    """Do pushed ticks look the same in this answer? None when it shows none of them. ``seen``: the counters known."""
    by_seq = {tick.seq: tick for tick in pulled}
    agreed: bool | None = None
    for pushed in pushes:
        same = by_seq.get(pushed.seq)
        if same is not None and looks_like(same, pushed):
            agreed = True
        elif same is not None or _is_numbered_otherwise(pushed, pushes, pulled, seen, newest_rows):
            return False
    return agreed


def _is_numbered_otherwise(
    pushed: Tick, pushes: Sequence[Tick], pulled: Sequence[Tick], seen: CounterRanges, newest_rows: int
) -> bool:
    """Does the answer, which lacks its sequence, hold this trade under another one?

    At the answer's ends, a twin's number is among those that we know, and near this one's. Of a way that tells
    milliseconds, a tick on the full second is no twin of all that second's ticks.
    """
    whole_seconds = any(all(tick.ts_ms % 1000 == 0 for tick in way) for way in (pulled, pushes))
    twins = [tick.seq for tick in pulled if looks_like(tick, pushed) and (whole_seconds or tick.ts_ms == pushed.ts_ms)]
    first, last = pulled[0].seq, pulled[-1].seq
    if not twins or pushed.seq is None or first is None or last is None or first <= pushed.seq <= last:
        return bool(twins)
    low, high = seq_counter(pushed.seq) - newest_rows, seq_counter(pushed.seq) + newest_rows
    if seen:  # nothing is known to be seen where the file that had it was set aside
        low, high = max(seen.first, low), min(seen.last, high)
    return not all(seq is not None and low <= seq_counter(seq) <= high for seq in twins)


def are_named_otherwise(pushed: Iterable[Tick], pulled: Sequence[Tick], newest_rows: int) -> bool:
    """The same of numbers that prove nothing, but may still name a tick: does the answer lack the number of one that
    was pushed, and hold this trade under a number that was not?"""
    pushes = {tick.seq: tick for tick in pushed if tick.seq is not None}
    outline = outline_of(pulled)
    named = {(tick.seq, tick.price, tick.volume, tick.ts_ms // 1000) for tick in pulled}
    for seq, tick in pushes.items():
        if (seq, tick.price, tick.volume, tick.ts_ms // 1000) in named:
            continue
        if is_named_otherwise(tick, numbers_of(tick, pulled) - pushes.keys(), outline, newest_rows):
            return True
    return False


class Outline(NamedTuple):
    """What an answer need not show, and what it would: ``outline_of``."""

    began_sec: int  # the seconds of its first and its last tick, of which it need not show all
    ended_sec: int
    counters: frozenset[int]  # a trade with one of these would stand in it; empty where nothing is known of that


NO_OUTLINE = Outline(0, 0, frozenset())


def outline_of(pulled: Sequence[Tick]) -> Outline:
    """Of an answer of one tick or more, in the order of arrival.

    A tick of an earlier second may follow later ones there: its oldest tick is not where it begins. Where its counters
    rise, a trade whose counter another one has would stand between that one and its own second. Where they do not (they
    may begin anew each second), the same counter is that of many trades, and says nothing.
    """
    counters = [seq_counter(tick.seq) for tick in pulled if tick.seq is not None]
    rise = all(earlier < later for earlier, later in pairwise(counters))
    return Outline(pulled[0].ts_ms // 1000, pulled[-1].ts_ms // 1000, frozenset(counters if rise else ()))


def is_named_otherwise(pushed: Tick, twins: Collection[int], outline: Outline, newest_rows: int) -> bool:
    """Is one of ``twins``, numbers of equal trades in an answer that lacks the pushed one's, the pushed one's there?
    ``outline``: the answer's."""
    if not twins or pushed.seq is None:
        return False
    if not is_near(pushed.seq, twins, newest_rows):
        return True
    is_inside = outline.began_sec < pushed.ts_ms // 1000 < outline.ended_sec
    return is_inside or seq_counter(pushed.seq) in outline.counters
