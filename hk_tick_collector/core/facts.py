"""What the feed learns about completeness, on its way into the day file beside the ticks.

Facts travel with the rows and are written in the same transaction. A fact that is lost (a crash, a spill) only means
that something is not proven: never that something missing is called complete.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from hk_tick_collector.core.ranges import CounterRanges

PUSH_PULL_DISAGREE = "push and pull disagree on the same ticks"  # a reason of ``Unproven`` that outlives a restart


class HeadProven(NamedTuple):
    """No tick of ``symbol``'s day comes before ``first_counter``: OpenD showed all of the day so far."""

    symbol: str
    trading_day: str
    first_counter: int


class Verified(NamedTuple):
    """At ``at_ms`` OpenD's newest tick of the symbol was ``last_counter``; push and pull agreed on what both had."""

    symbol: str
    trading_day: str
    last_counter: int
    at_ms: int  # UTC epoch ms


class Unproven(NamedTuple):
    """From now on nothing may be concluded from this symbol's counters today."""

    symbol: str
    trading_day: str
    reason: str


class GapFound(NamedTuple):
    """Counters ``first``..``last`` were not seen and OpenD no longer shows them.

    ``first`` None: the day's beginning is unknown (recording began in mid-session); ``last`` is then the counter before
    the first tick we have, and how many ticks are missing is not known exactly.
    """

    symbol: str
    trading_day: str
    first: int | None
    last: int
    detected_at_ms: int  # UTC epoch ms
    reason: str


Fact = HeadProven | Verified | Unproven | GapFound


@dataclass(frozen=True, slots=True)
class StoredTrack:
    """What a day file knows of a symbol, for the feed to go on from after a restart."""

    trading_day: str
    stored: CounterRanges
    last_seq: int  # newest sequence stored
    head_known: bool  # the day's beginning is proven, or recorded as a gap
    unkeyed: bool = False  # push and pull disagreed: sequences are no key today, content alone tells repeats
    in_gaps: tuple[tuple[int, int], ...] = ()  # counters that stand in open gaps: asked for in vain before
