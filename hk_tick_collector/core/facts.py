"""What the feed learns about completeness, on its way into the day file beside the ticks.

Facts travel with the rows and are written in the same transaction. What confirms (HeadProven, Verified) is written
after the rows it speaks of, and may be lost in a crash: something is then not proven. A caution (``CAUTIONS``) is
written no later than the rows that follow it. So one that a crash takes lies behind every row of the file. There the
next process has an interruption, also before rows that wait in the spill: only an answer of OpenD that reaches back to
it, and so shows again whatever there was to doubt, makes the day proven.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from hk_tick_collector.core.ranges import CounterRanges

# Reasons of ``Unproven``. These say that a symbol's counters prove nothing today, and make no holes either:
PUSH_PULL_DISAGREE = "push and pull disagree on the same ticks"
NO_SEQUENCE = "ticks without a sequence"
COUNTER_WENT_BACK = "counters went back while time went on"
NOT_COUNTING = "sequences do not count the ticks"
# and these take away the proof alone: the counters go on to be followed.
UNREAD_TICK = "a tick could not be read"
NOT_JOINED = "OpenD did not show the ticks before and after an interruption together"
IN_QUARANTINE = "a tick that could not be stored is in the quarantine"
NOTES_LOST = "notes of the day could not be read when its file was salvaged"
NOT_YET_JOINED = "OpenD has not yet shown the ticks before and after an interruption together"  # may still be withdrawn
# Beside NO_COUNTER: the source tells the last trade now and then, and of several in between only that one.
CONFLATED = "conflated by the source"
DOUBTS = (UNREAD_TICK, NOT_JOINED, IN_QUARANTINE, NOTES_LOST)
# The same, and a counter that is not stored is no missing tick by itself.
NUMBERS_SKIPPED = "OpenD shows no ticks for some counters and never had them"
DATED_OTHERWISE = "a tick of this day's count is dated another day"
STRAYS_DISAGREE = "push and pull disagree on ticks that another day counted"
NO_LOSS = (NUMBERS_SKIPPED, DATED_OTHERWISE, STRAYS_DISAGREE)

# A reason of ``GapFound``: the tick itself is in the quarantine.
COULD_NOT_BE_READ = "could not be read"

CORRECTION, CANCEL = "correction", "cancel"  # ``Amended.kind``

NO_TICK = -1  # as ``Verified.last_counter``: OpenD had no tick of the day
UNKNOWN_SEQ = 0  # as ``Interrupted.last_seq``: the newest one that the file has by then
NOT_COMPARED = -1  # as ``Replayed.ticks``: the copy's part of the day could not be held against the rows

TEXTS_KEPT = 256  # of reasons


class HeadProven(NamedTuple):
    """No tick of ``symbol``'s day comes before ``first_counter``: OpenD showed all of the day so far."""

    symbol: str
    trading_day: str
    first_counter: int


class Verified(NamedTuple):
    """At ``at_ms``, the moment before OpenD was asked, it had no tick of the symbol behind ``last_counter``; push and
    pull agreed on what both had.

    ``NO_TICK``: OpenD answered, and had no tick of the symbol's day.
    """

    symbol: str
    trading_day: str
    last_counter: int
    at_ms: int  # UTC epoch ms


class Unproven(NamedTuple):
    """From now on this symbol's day cannot be proven complete."""

    symbol: str
    trading_day: str
    reason: str


class Interrupted(NamedTuple):
    """The ticks of the day that come from now on follow an interruption, ``last_seq`` being the newest sequence before
    it. Until ``Rejoined`` nobody knows whether they go on from there, in this process or the next. Others that are
    open, earlier or later, stay.

    ``UNKNOWN_SEQ``: whoever tells it does not know what the file holds. Where that is nothing, nothing was interrupted.
    """

    symbol: str
    trading_day: str
    last_seq: int


class Rejoined(NamedTuple):
    """OpenD showed the ticks before and after the interruption at ``last_seq`` together, and so all of the later ones.
    One that began earlier goes on."""

    symbol: str
    trading_day: str
    last_seq: int


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


class NotSubscribed(NamedTuple):
    """OpenD did not send ``symbol``'s ticks from ``from_ms`` to ``until_ms``, although they were wanted.

    Told again while it lasts. Not ``over``: it is so still; ``until_ms`` is then the moment of telling.
    """

    symbol: str
    trading_day: str
    from_ms: int  # UTC epoch ms
    until_ms: int
    over: bool
    reason: str  # OpenD's words, or ours when it said nothing


class Subscribed(NamedTuple):
    """At ``at_ms`` OpenD said that it sends the ticks of these symbols, whether any come or not."""

    trading_day: str
    symbols: tuple[str, ...]
    at_ms: int  # UTC epoch ms
    absent: tuple[str, ...] = ()  # wanted besides, and not sent; told when the day is over, for nobody knows since when


class RowsRead(NamedTuple):
    """The day's file was read from end to end: at ``at_ms`` it was sound and held so many rows."""

    trading_day: str
    rows: int
    at_ms: int  # UTC epoch ms


class Replayed(NamedTuple):
    """At ``at_ms`` a whole copy of the symbol's day was held against the rows: each of its ticks is stored.

    ``NOT_COMPARED``: it is no longer what it was, and could not be held against them.
    """

    symbol: str
    trading_day: str
    copy: str  # which one: a file's name
    ticks: int  # of the day, in the copy
    digest: str  # of the copy's part of the day
    at_ms: int  # UTC epoch ms


class SymbolNoted(NamedTuple):
    """What the source says ``symbol`` is on that day: a row of ``symbols``. None: it does not say."""

    symbol: str
    trading_day: str
    at_ms: int  # UTC epoch ms: when it said so
    name: str | None = None
    lot_size: int | None = None  # units in a board lot
    unit: str | None = None  # what volume counts: shares, contracts
    multiplier: float | None = None  # turnover = price x volume x multiplier
    currency: str | None = None  # ISO 4217
    tick_size: float | None = None  # the smallest step of the price


class Amended(NamedTuple):
    """The source corrected or cancelled a trade that it had told: a row of ``amendments``. The tick stays as it is."""

    symbol: str
    trading_day: str
    kind: str  # CORRECTION | CANCEL
    recv_ts_ms: int  # UTC epoch ms
    tick_ts_ms: int | None = None  # which trade, as far as the source says
    tick_seq: int | None = None
    price: float | None = None  # what is right instead; None for a cancel
    volume: int | None = None
    ts_ms: int | None = None  # when it was amended
    source_text: str | None = None  # the source's words


Fact = HeadProven | Verified | Unproven | Interrupted | Rejoined | GapFound | NotSubscribed | Replayed


class SnapshotsCopied(NamedTuple):
    """The source's own copy of a day's snapshots of a series was read to its end, and all of it handed over."""

    trading_day: str
    symbol: str
    package: str
    category: str
    fetched_ms: int
    records: int
    unread: int  # of these: could be no snapshot, and are in the quarantine
    seconds: tuple[int, ...]  # which the others are of, epoch
    sha256: str  # of the file as it came


Detail = SymbolNoted | Amended
DayFact = Subscribed | RowsRead | SnapshotsCopied | Detail  # by which no symbol's completeness is judged
DETAILS = (SymbolNoted, Amended)
CAUTIONS = (Unproven, Interrupted, Rejoined)  # true before the rows that follow are stored; in the order they were told


@dataclass(frozen=True, slots=True)
class StoredTrack:
    """What a day file knows of a symbol, for the feed to go on from after a restart."""

    trading_day: str
    stored: CounterRanges
    last_seq: int  # newest sequence stored
    head_known: bool  # the day's beginning is proven, or recorded as a gap
    unkeyed: bool = False  # push and pull disagreed: sequences are no key today, content alone tells repeats
    in_gaps: tuple[tuple[int, int], ...] = ()  # counters that stand in open gaps: asked for in vain before
    distrust: str = ""  # the reasons why the day cannot be proven, as the file has them
    interrupted_seq: int = 0  # newest sequence before an interruption that is still open; 0: none
    confirmed: bool = False  # push and pull agreed on a tick of the day
    witnesses: tuple[Any, ...] = ()  # pushed ticks among its newest ones, oldest first; () where none is needed
    shown: tuple[Any, ...] = ()  # the others of these: what answers showed
    later_seqs: tuple[int, ...] = ()  # the same as interrupted_seq of later ones that are open
    is_wanted: bool = True  # False: nobody follows it; its open interruption tells that OpenD may have forgotten

    @property
    def counters_count(self) -> bool:
        """False when one of the reasons is more than a doubt: there is nothing to follow then."""
        return all(reason in (*DOUBTS, *NO_LOSS) for reason in self.reasons)

    @property
    def reasons(self) -> tuple[str, ...]:
        return reasons_of(self.distrust)


@lru_cache(TEXTS_KEPT)
def reasons_of(distrust: str | None) -> tuple[str, ...]:
    """The reasons in a text that the store made of them. Kept: nearly all symbols have one of a few, and each commit
    asks for that of every symbol in it."""
    return tuple(reason for reason in (distrust or "").split("; ") if reason)


def counters_count(distrust: str | None) -> bool:
    """Is each counter that is not stored a missing tick, in spite of these reasons?"""
    return all(reason in DOUBTS for reason in reasons_of(distrust))
