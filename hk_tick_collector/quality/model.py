"""What a completeness certificate consists of. Plain values that become JSON; how they come about is in certificate.py.

The JSON is what ``dataclasses.asdict`` makes of a ``Certificate``. Times are UTC epoch milliseconds, counts are of
ticks unless their name says otherwise, null means "not known": the rows were not read, or the counters do not count.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from hk_tick_collector.core.evidence import WITHOUT_COUNTERS, EvidenceLevel
from hk_tick_collector.market.registry import market_of
from hk_tick_collector.market.zone import Zone
from hk_tick_collector.store.reader import GapRow
from hk_tick_collector.store.verdict import MISSING

FORMAT_VERSION = 1
WATCHED, BLIND = "watched", "blind"  # of order books and broker queues, which nobody can prove
UNREAD = "unread"  # they were not looked at, or cannot be read
_NUMBERS = re.compile(r"\d+(?:,\d{3})*")


def counted_reasons(reasons: Iterable[str | None]) -> Counter[str]:
    """How many symbols have which reason; those that differ in a number alone are one."""
    return Counter(_NUMBERS.sub("n", reason) for reason in reasons if reason)


@dataclass(frozen=True, slots=True)
class SessionRows:
    """The ticks of one session."""

    ticks: int = 0
    first_ts_ms: int | None = None
    last_ts_ms: int | None = None


@dataclass(frozen=True, slots=True)
class RowFacts:
    """What only the rows tell, of a symbol or of the day."""

    ticks: int
    opening_auction_ticks: int | None  # of type AUCTION at the opening match; None on a closed day
    closing_auction_ticks: int | None  # of type AUCTION from the earliest random close on
    out_of_order_ticks: int  # their event time lies before that of a tick of the symbol received earlier
    late_ticks: int  # received more than LATE_MS after their event
    sequence_time_disagreements: int  # the sequence's second and the event time are further apart than the tolerance
    received_before_event_ticks: int  # OpenD's clock says it had them before they happened
    outside_session_ticks: int
    other_day_ticks: int  # their event time belongs to another day
    no_price_ticks: int  # OpenD gave 0 for the price: they are stored and make none
    no_volume_ticks: int  # the same of the volume
    by_type: dict[str, int]
    by_direction: dict[str, int]
    by_source: dict[str, int]  # push, poll, backfill, repair
    sessions: tuple[SessionRows, ...]  # in the order of Certificate.sessions


@dataclass(frozen=True, slots=True)
class SymbolCertificate:
    """One symbol's day."""

    symbol: str
    state: str  # proven | missing | unproven
    reason: str | None  # why it is not proven
    stored_ticks: int
    expected_ticks: int | None  # None: the counters do not count, or the day's beginning is lost
    missing_ticks: int  # known to be missing
    missing_at_most: int | None  # not None: besides, up to so many that nothing counts, as before the first one seen
    first_ts_ms: int | None
    last_ts_ms: int | None
    verified_until_ms: int | None  # when OpenD (by replay: the imported file) last had nothing that is not stored
    confirmed_sessions: tuple[bool, ...]  # was it asked after the session's end, by Certificate.sessions
    open_gaps: int
    rows: RowFacts | None
    not_subscribed: bool  # for a part of the day OpenD did not send its ticks, and nothing made up for it
    evidence: str = EvidenceLevel.COUNTER.value  # what it is judged by: counter | replay | id
    name: str | None = None  # as the source wrote it on that day; None: it did not say
    seen_volume: int | None = None  # of a conflated day: what the rows hold of told_volume
    told_volume: int | None = None  # what the source says was traded by its running total; None: not known

    @property
    def is_missing(self) -> bool:
        """Is a tick of the symbol known to be missing?"""
        return self.state == MISSING

    @property
    def may_miss(self) -> bool:
        """Are ticks missing, or is of those before the first one seen only known how many there were at most?"""
        return self.is_missing or self.missing_at_most is not None


@dataclass(frozen=True, slots=True)
class SymbolBookCertificate:
    """What can be said of one symbol's order books, or of its broker queues. Counts are of continuous trading but for
    those of pushes; where the pushes were not read, what only they tell is None. Queues tell ``pushes`` and ``merged``
    alone."""

    symbol: str
    state: str  # watched | blind
    reason: str | None  # why it is blind, and how long
    watched_ms: int
    wanted_ms: int  # continuous trading so far
    blind_stretches: int
    pulls: int  # books that were asked for, and held against the newest push
    pulls_agreed: int
    pushes: int | None = None
    merged: int | None = None
    same: int | None = None
    one_sided: int | None = None
    crossed: int | None = None
    unsorted: int | None = None
    repeated: int | None = None
    no_shares: int | None = None
    without_times: int | None = None
    clock_back: int | None = None
    trades: int | None = None  # while watched; 0 where the day's ticks are not there
    trades_answered: int | None = None
    suspected_holes: int | None = None

    @property
    def impossible(self) -> int | None:
        """States that no book of continuous trading should show."""
        counts = self.crossed, self.unsorted, self.repeated, self.no_shares
        return None if None in counts else sum(count or 0 for count in counts)


@dataclass(frozen=True, slots=True)
class BookCertificate:
    """A day's order books beside its ticks, or its broker queues: watched and witnessed. A push has no number, so
    nothing here says that none is missing, and the day's grade is that of its ticks alone."""

    state: str  # watched | blind | unread
    sentence: str
    pushes_read: bool  # was every push judged; of queues: counted?
    source: str  # the file
    error: str | None = None  # they could not be read
    received: int | None = None  # pushes of all symbols: stored, or merged, or unread
    stored: int | None = None
    merged: int | None = None
    unread: int | None = None
    adds_up: bool = True
    symbols: tuple[SymbolBookCertificate, ...] = ()
    conflated: bool = False  # the source says that of several changes it tells only the last one


@dataclass(frozen=True, slots=True)
class SessionCertificate:
    """One session of the day over all symbols."""

    name: str
    start_ms: int
    end_ms: int
    confirmed_symbols: int
    rows: SessionRows | None


@dataclass(frozen=True, slots=True)
class Certificate:
    """A day's completeness, from what the recorder noted and, where ``recounted``, from every row."""

    format_version: int
    trading_day: str
    so_far: bool  # ticks of the day may still come
    recounted: bool
    source_changed_ns: int | None  # when the file was last written to, as of the beginning of the reading
    grade: str  # A to F, see certificate.GRADES
    sentence: str
    made_at_ms: int
    version: str  # of the program that made it
    day_kind: str  # whole | half | closed, by the calendar
    source: str  # the file that was read
    market: str = "HK"
    error: str | None = None  # it could not be read; the counts are then 0
    stored_ticks: int = 0
    expected_ticks: int = 0  # of the symbols whose counters count
    missing_ticks: int = 0
    proven_symbols: int = 0
    replayed_symbols: int = 0  # of proven_symbols: equal to a file that was imported, which is not the exchange
    missing_symbols: int = 0
    unproven_symbols: int = 0
    seen_volume: int | None = None  # of the symbols whose day is conflated: what the rows hold of told_volume
    told_volume: int | None = None
    rows_read_at_ms: int | None = None  # when the file was last read from end to end; None: not since a write
    rows_read: int | None = None  # how many rows it had then
    not_subscribed_symbols: int = 0  # wanted, and for a part of the day OpenD did not send their ticks
    uncounted_symbols: int = 0  # no number can be expected of them
    end_confirmed_symbols: int = 0  # OpenD was asked after the closing auction, and had nothing newer
    confirmed_until_ms: int | None = None  # the earliest verified_until_ms of the proven symbols
    first_ts_ms: int | None = None
    last_ts_ms: int | None = None
    reasons: dict[str, int] = field(default_factory=dict)  # why symbols are not proven, and how many
    sessions: tuple[SessionCertificate, ...] = ()
    rows: RowFacts | None = None
    problems: tuple[str, ...] = ()  # the file contradicts itself, by symbol
    notes: tuple[str, ...] = ()
    symbols: tuple[SymbolCertificate, ...] = ()  # the worst first
    open_gaps: tuple[GapRow, ...] = ()
    books: BookCertificate | None = None  # None: no order book of the day is recorded
    brokers: BookCertificate | None = None  # None: no broker queue of the day is recorded

    @property
    def zone(self) -> Zone:
        """The clock of its market."""
        return market_of(self.market).zone

    @property
    def time_word(self) -> str:
        """What stands behind or over times on that clock: ``HKT``."""
        return market_of(self.market).time_word

    @property
    def evidence(self) -> list[str]:
        """What its symbols are judged by where that is no counter: ``id: 3 symbols without counters, and ...``."""
        levels = Counter(verdict.evidence for verdict in self.symbols)
        return [
            f"{level}: {levels[level]:,} symbol{'s' if levels[level] > 1 else ''} {words}"
            for level, words in WITHOUT_COUNTERS.items()
            if levels[level]
        ]

    @property
    def counted_symbols(self) -> int:
        """Of which a number of ticks can be expected."""
        return self.proven_symbols + self.missing_symbols + self.unproven_symbols - self.uncounted_symbols

    @property
    def fine(self) -> bool:
        """Nothing is known to be missing, no beginning was never shown, every wanted symbol was subscribed, nothing
        contradicts itself and the file could be read."""
        told = self.missing_symbols or self.not_subscribed_symbols or self.problems
        return self.error is None and not told and not any(verdict.may_miss for verdict in self.symbols)

    @property
    def rows_unread(self) -> bool:
        """Was a day file that is over not read again? An archive was read when it was made."""
        return not self.so_far and self.rows_read_at_ms is None and self.source.endswith(".db")

    def symbol(self, name: str) -> SymbolCertificate | None:
        """One symbol's part; None when nothing of it is stored."""
        return next((verdict for verdict in self.symbols if verdict.symbol == name), None)
