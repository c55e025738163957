"""A market: its clock, its trading days and their hours, its symbols, its money, its trades.

The seam for other markets. ``market/hk`` is one, ``market/cme`` another with another clock; a folder a market, with the
same file names in each. All that judges, records or prints asks the ``Market`` of its data root, and knows no other.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from hk_tick_collector.market.dates import DAY_MS, add_days
from hk_tick_collector.market.hours import (
    CLOSING_AUCTION,
    CONTINUOUS,
    OPENING_AUCTION,
    SESSION_OF,
    DayKind,
    Hours,
    Phase,
)
from hk_tick_collector.market.symbols import SymbolGrammar
from hk_tick_collector.market.table import CalendarTable
from hk_tick_collector.market.trades import TradeTypes
from hk_tick_collector.market.zone import Zone

_SEARCH_LIMIT_DAYS = 30


@dataclass(frozen=True, slots=True)
class OtherCurrencies:
    """Symbols that do not trade in the market's own currency, where their codes tell."""

    names: tuple[str, ...]
    of: Callable[[str], str | None]  # the currency of a symbol; None where it is not known
    sql: Callable[[str], str]  # the currency of a column of symbols as a SQL expression; NULL where it is not known


class Span(NamedTuple):
    """A phase of one trading day: from ``start_ms`` until before ``end_ms``, UTC epoch milliseconds."""

    start_ms: int
    end_ms: int
    phase: Phase


class Session(NamedTuple):
    """A part of the trading day that has ticks of its own, in UTC epoch milliseconds; ``end_ms`` is not in it."""

    name: str  # opening_auction | closing_auction | the word of a phase
    start_ms: int
    end_ms: int
    prints_ms: int  # from when on an auction prints; elsewhere the start
    confirmable_ms: int  # when the source has all of its ticks: an auction's late prints may be waited for until end_ms


@dataclass(frozen=True, eq=False)
class Market:
    """One market, complete::

        TOY = Market(
            code="TOY",
            name="Toy exchange",
            where="at Toy exchange",
            zone=Zone("Europe/Zurich"),
            currency="CHF",
            price_decimals=2,
            time_word="CET",
            hours=(
                Hours(
                    "00010101",
                    whole=((hm(9), Phase.REGULAR), (hm(17), Phase.CLOSED)),
                    half=((hm(9), Phase.REGULAR), (hm(12), Phase.CLOSED)),
                ),
                Hours("20270104", whole=((hm(8), Phase.REGULAR), ...), half=...),
            ),
            table=CalendarTable("20260101", "20271231", {"20261225": DayKind.CLOSED}),
            trade_types=TradeTypes(price_making=frozenset({"AUTO_MATCH"})),
            symbols=CodeGrammar("TOY", r"[A-Z]{1,5}", example="TOY.CAR", noun="toy"),
        )
        TOY.phase_at(TOY.zone.at_ms("20261120", hm(8, 30)), DayKind.WHOLE)  # CLOSED: the hours of that day are judged

    Days are ``YYYYMMDD``, moments UTC epoch milliseconds. Every interval holds its first millisecond and not its last.
    ``kind`` is an argument where hours are asked for, because the source may know of a closing that the table does not
    (``TradingCalendar.day_kind``).
    """

    code: str  # the column ``market``, the word before the dot of its symbols, the setting MARKET
    name: str
    where: str  # behind "it is Monday": "in Hong Kong"
    zone: Zone
    currency: str
    price_decimals: int
    time_word: str  # behind a time of day on its clock
    hours: tuple[Hours, ...]  # in order of first_day; the first one holds for all days before, too
    table: CalendarTable = field(repr=False)
    trade_types: TradeTypes
    symbols: SymbolGrammar
    other_currencies: OtherCurrencies | None = None  # None: every symbol trades in ``currency``
    # How many of what a symbol's price is of are in one unit of its volume: 1000 where lots are counted; None where its
    # code does not tell, as a contract's multiplier. So much more than price x volume is a turnover.
    volume_unit: Callable[[str], int | None] = lambda _symbol: 1
    day_starts_ms: int = 0  # where a trading day begins, from its local midnight: hm(-4) is 20:00 of the day before
    # Rows of ``hours`` up to here are a night that follows the session before at once, also over a weekend: Taiwan's
    # Monday begins on Friday at 15:00. None: it is the night before the day.
    night_ends_ms: int | None = None

    # Days

    def trading_day(self, ts_ms: int) -> str:
        """The day whose file holds a tick of ``ts_ms``.

        Where a day begins at midnight, the local date, be it a trading day or not. Elsewhere the first trading day
        that has not ended: Friday evening, Saturday and the evening before a holiday belong to the next session.
        ValueError or OverflowError beyond the years 1-9999."""
        if not self.day_starts_ms:
            return self.zone.date(ts_ms)
        day = self.zone.date(ts_ms)
        if self.zone.ms_of_day(ts_ms) >= DAY_MS + self.day_starts_ms:
            day = add_days(day, 1)
        return day if self.table_kind(day) is not DayKind.CLOSED else self._session_after(day)

    def day_bounds(self, day: str) -> tuple[int, int]:
        """The moments whose ``trading_day`` is ``day``: from, and until before. A day of such a market that is no
        session has none, and both are its beginning."""
        start_ms = self.zone.at_ms(day, self.day_starts_ms)
        if not self.day_starts_ms:
            return start_ms, self.zone.midnight_ms(add_days(day, 1))
        if self.table_kind(day) is DayKind.CLOSED:
            return start_ms, start_ms
        following = self._after_session_before(day)
        return self.zone.at_ms(following, self.day_starts_ms), self.zone.at_ms(add_days(day, 1), self.day_starts_ms)

    def begins_ms(self, day: str) -> int:
        """Where the clock of a trading day begins: midnight, or the evening before. Also of a Monday, to which the days
        before belong as well (``day_bounds``)."""
        return self.zone.at_ms(day, self.day_starts_ms)

    def on_clock_ms(self, day: str, ts_ms: int) -> int:
        """Where a moment stands on the clock of a trading day, from its beginning: 0 to 24 hours, for what is drawn. A
        night that a weekend follows stands there as if the day came next."""
        if self.is_night(day, ts_ms):
            return ts_ms - self.day_bounds(day)[0]
        return ts_ms - self.begins_ms(day)

    def is_night(self, day: str, ts_ms: int) -> bool:
        """Is it in the night with which the day begins, or before it?"""
        return ts_ms < self.day_bounds(day)[0] + self.night_length_ms

    @property
    def night_length_ms(self) -> int:
        """0 where no night follows the session before at once."""
        return 0 if self.night_ends_ms is None else self.night_ends_ms - self.day_starts_ms

    def table_kind(self, day: str) -> DayKind:
        """WHOLE, HALF or CLOSED as the generated table says; a weekday outside it counts as WHOLE."""
        return self.table.day_kind(day) or DayKind.WHOLE

    def _after_session_before(self, day: str) -> str:
        before = add_days(day, -1)
        while self.table_kind(before) is DayKind.CLOSED:
            before = add_days(before, -1)
        return add_days(before, 1)

    def row_starts_ms(self, day: str, clock_ms: int) -> int:
        """When a row of ``hours`` begins on a day."""
        is_night = self.night_ends_ms is not None and clock_ms <= self.night_ends_ms
        return self.zone.at_ms(self._after_session_before(day) if is_night else day, clock_ms)

    def _session_after(self, day: str) -> str:
        for _ in range(_SEARCH_LIMIT_DAYS):
            day = add_days(day, 1)
            if self.table_kind(day) is not DayKind.CLOSED:
                return day
        raise ValueError(f"{self.code} has no trading day within {_SEARCH_LIMIT_DAYS} days of {day}")

    @property
    def currencies(self) -> tuple[str, ...]:
        """All that its symbols trade in, its own first."""
        return (self.currency, *(self.other_currencies.names if self.other_currencies is not None else ()))

    def currency_of(self, symbol: str) -> str | None:
        """In which a symbol trades; None where its code does not tell."""
        return self.currency if self.other_currencies is None else self.other_currencies.of(symbol)

    def currency_sql(self, column: str = "symbol") -> str:
        """The currency of a column of symbols, as a SQL expression."""
        return f"'{self.currency}'" if self.other_currencies is None else self.other_currencies.sql(column)

    def stamp(self, ts_ms: int) -> str:
        """``2026-11-20 09:30:00 HKT``"""
        return f"{self.zone.date_and_clock(ts_ms)} {self.time_word}"

    # Hours

    def hours_on(self, day: str) -> Hours:
        """The hours that hold on ``day``, whatever they are today."""
        index = bisect_right(self.hours, day, key=lambda hours: hours.first_day) - 1
        return self.hours[max(index, 0)]

    def spans(self, day: str, kind: DayKind) -> tuple[Span, ...]:
        """The phases of a day in order, without a hole from its first phase on; none on a closed day."""
        return _spans(self, day, kind)

    def span_at(self, ts_ms: int, kind: DayKind) -> Span:
        """The phase that holds ``ts_ms``, on a trading day of that kind."""
        day = self.trading_day(ts_ms)
        spans = self.spans(day, kind)
        start_ms, end_ms = self.day_bounds(day)
        if not spans:
            return Span(start_ms, end_ms, Phase.CLOSED)
        index = bisect_right(spans, ts_ms, key=lambda span: span.start_ms) - 1
        return spans[index] if index >= 0 else Span(start_ms, spans[0].start_ms, Phase.CLOSED)

    def phase_at(self, ts_ms: int, kind: DayKind) -> Phase:
        """What the market does at ``ts_ms``, on a trading day of that kind."""
        return self.span_at(ts_ms, kind).phase

    def recording_window(self, day: str, kind: DayKind) -> tuple[int, int]:
        """When ticks of the day may come. On a closed day both ends are midnight, an empty window."""
        open_spans = [span for span in self.spans(day, kind) if span.phase is not Phase.CLOSED]
        if not open_spans:
            midnight_ms = self.zone.midnight_ms(day)
            return midnight_ms, midnight_ms
        return open_spans[0].start_ms, open_spans[-1].end_ms

    def opening_ms(self, day: str) -> int:
        """Before it no tick of ``day`` can come, whatever kind of day it turns out to be."""
        return self.recording_window(day, DayKind.WHOLE)[0]

    def continuous_windows(self, day: str, kind: DayKind) -> list[tuple[int, int]]:
        """Continuous trading of the day, when a liquid symbol is expected to print; empty on a closed day."""
        return [(span.start_ms, span.end_ms) for span in self.spans(day, kind) if span.phase in CONTINUOUS]

    def sessions(self, day: str, kind: DayKind) -> tuple[Session, ...]:
        """The sessions of a day in order; none on a closed day. The opening auction's lasts to the start of trading,
        the closing auction's as long as its prints may come."""
        hours = self.hours_on(day)
        sessions: list[Session] = []
        for start_ms, end_ms, phase in self.spans(day, kind):
            name = SESSION_OF.get(phase)
            if name is None:
                continue
            if sessions and sessions[-1].name == name:
                sessions[-1] = sessions[-1]._replace(end_ms=end_ms)
                if name == OPENING_AUCTION:
                    sessions[-1] = sessions[-1]._replace(confirmable_ms=end_ms)
                continue
            prints_ms = start_ms
            if name == OPENING_AUCTION:
                prints_ms = max(start_ms, self.zone.at_ms(day, hours.opening_match_ms))
            elif name == CLOSING_AUCTION:
                prints_ms += hours.closing_match_after_ms
            sessions.append(Session(name, start_ms, end_ms, prints_ms, end_ms))
        return tuple(sessions)

    def close_ms(self, day: str, kind: DayKind) -> int:
        """End of continuous trading. ValueError on a closed day."""
        windows = self.continuous_windows(day, kind)
        if not windows:
            raise ValueError(f"the market is closed on {day}")
        return windows[-1][1]

    def no_more_ticks_ms(self, day: str, kind: DayKind) -> int:
        """From when on no tick of the day can come: the end of recording. A day that the calendar calls closed ends
        with its date: where ticks came nevertheless, nobody knows until when."""
        if kind is DayKind.CLOSED:
            return self.zone.midnight_ms(add_days(day, 1))
        return self.recording_window(day, kind)[1]


@lru_cache(maxsize=256)
def _spans(market: Market, day: str, kind: DayKind) -> tuple[Span, ...]:
    rows = market.hours_on(day).rows(kind)
    if not rows:
        return ()
    starts_ms = [market.row_starts_ms(day, clock_ms) for clock_ms, _ in rows]
    ends_ms = [*starts_ms[1:], market.zone.at_ms(add_days(day, 1), market.day_starts_ms)]
    return tuple(
        Span(start_ms, end_ms, phase) for start_ms, end_ms, (_, phase) in zip(starts_ms, ends_ms, rows, strict=True)
    )
