"""OpenD's own sums of a day against what is stored of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from hk_tick_collector.core.errors import FeedError, FeedLost, FeedTimeout
from hk_tick_collector.market.hours import DayKind
from hk_tick_collector.market.market import Market
from hk_tick_collector.quality import against_source as against
from hk_tick_collector.quality.against_source import Amount, Comparison, TypedMinutes

if TYPE_CHECKING:
    from hk_tick_collector.days.catalog import Day
    from hk_tick_collector.market.calendar import TradingCalendar

KLINE, SNAPSHOT = "kline", "snapshot"
UNSETTLED_MS = 15_000  # a minute this young may still get ticks
COMMIT_SEC = 3.0  # after which what OpenD had is stored too, when all is well
FEW_SYMBOLS = 20  # up to here the symbols' own index is quicker than reading the whole day
_COLUMNS = ("symbol", "ts_ms", "tick_type", "volume", "turnover")


class DaySum(Protocol):
    """A symbol's day so far, or a minute of it."""

    @property
    def volume(self) -> int: ...
    @property
    def turnover(self) -> float: ...


class Total(DaySum, Protocol):
    """``updated_at_ms``: of the last price, UTC epoch ms."""

    @property
    def updated_at_ms(self) -> int: ...


class Bar(DaySum, Protocol):
    """``label_ms``: one end of its minute, UTC epoch ms."""

    @property
    def label_ms(self) -> int: ...


class Totals(Protocol):
    """By symbol; ``refused``: with the source's words."""

    @property
    def given(self) -> Mapping[str, Total]: ...
    @property
    def refused(self) -> Mapping[str, str]: ...


class SourceSums(Protocol):
    """The source's own figures, for instance ``sources.futu.reference.Reference``. FeedError with its words."""

    async def clock_ms(self) -> int:
        """The source's time, UTC epoch ms."""

    async def snapshots(self, symbols: Sequence[str], /) -> Totals:
        """The day so far."""

    async def minute_bars(self, symbol: str, day: str, /) -> Sequence[Bar]:
        """All of a day (``YYYYMMDD``)."""


@dataclass
class AuditResult:
    """What came of it, by symbol: each is in one of the three."""

    trading_day: str
    against: str
    market: Market
    compared: dict[str, Comparison] = field(default_factory=dict)
    empty: list[str] = field(default_factory=list)  # neither OpenD nor we have anything
    failed: dict[str, str] = field(default_factory=dict)  # could not be compared, and why
    until_ms: int | None = None  # the market still trades: compared up to here
    suspicion: str | None = None

    @property
    def different(self) -> dict[str, Comparison]:
        """Where OpenD's sums and ours are not the same."""
        return {symbol: compared for symbol, compared in self.compared.items() if not compared.equal}

    @property
    def equal(self) -> bool:
        """Everything that was asked for could be compared, and nothing differs."""
        return not self.failed and not self.different

    def sentence(self) -> str:
        """All of it in a line."""
        sums = "minute bars" if self.against == KLINE else "day totals"
        parts = [f"{len(self.compared) - len(self.different)} symbols equal OpenD's {sums}"]
        if self.different:
            missing = sum(d.missing_volume for compared in self.different.values() for d in compared.differences)
            how = f"{missing:,} shares missing" if missing >= 0 else f"{-missing:,} shares too many"
            parts.append(f"{len(self.different)} differ ({how} in all)")
        if self.failed:
            parts.append(f"{len(self.failed)} could not be compared")
        if self.empty:
            parts.append(f"{len(self.empty)} did not trade")
        until = "" if self.until_ms is None else f" up to {self.market.zone.minute(self.until_ms)}"
        return f"{self.trading_day}{until}: {', '.join(parts)}"


class Audit:
    """One run. A symbol that fails costs only itself: it stands in ``AuditResult.failed`` with the reason.

    ``left_out``: tick types that are not in OpenD's sums. ``advance`` is told of each symbol whose bars were asked for.
    """

    def __init__(
        self,
        day: Day,
        calendar: TradingCalendar,
        symbols: Sequence[str],
        left_out: frozenset[str] = against.LEFT_OUT,
        advance: Callable[[float], None] = lambda _symbols: None,
    ) -> None:
        self._day = day
        self._calendar = calendar
        self._symbols = symbols
        self._left_out = left_out
        self._advance = advance

    async def against_kline(self, sums: SourceSums) -> AuditResult:
        """Every minute that is over. FeedError when OpenD cannot tell the time, StoreError when the day cannot be
        read."""
        day = self._day.trading_day
        result = AuditResult(day, KLINE, self._day.market)
        now_ms = await sums.clock_ms()
        settled_ms = (now_ms - UNSETTLED_MS) // against.MINUTE_MS * against.MINUTE_MS
        day_end_ms = self._day.market.day_bounds(day)[1]
        until_ms = min(settled_ms, day_end_ms)
        if until_ms < day_end_ms and self._is_trading(day, now_ms):
            result.until_ms = until_ms
        bars = await self._bars(sums, result)
        stored = self._stored()
        edges = against.edge_spans(self._day.market, day, self._kind())
        for symbol, of_symbol in bars.items():
            ours = against.counted(stored.get(symbol, {}), self._left_out)
            compared = against.compare_minutes(against.minutes_of_bars(of_symbol), ours, edges, until_ms)
            if not of_symbol and compared.minutes:
                result.failed[symbol] = f"OpenD has no minute bars of {day}, although ticks of it are stored"
            elif compared.minutes:
                result.compared[symbol] = compared
            else:
                result.empty.append(symbol)
        different = {symbol: bars[symbol] for symbol in result.different}
        if different:
            result.suspicion = against.suspicion(different, stored, self._left_out, edges, until_ms)
        return result

    async def against_snapshot(self, sums: SourceSums) -> AuditResult:
        """The totals of the day that OpenD shows. FeedError when it does not answer, StoreError when the day cannot be
        read."""
        day = self._day.trading_day
        result = AuditResult(day, SNAPSHOT, self._day.market)
        before = self._stored()
        now_ms = await sums.clock_ms()
        answers = await sums.snapshots(self._symbols)
        after = before
        if self._is_trading(day, now_ms):
            result.until_ms = now_ms
            await asyncio.sleep(COMMIT_SEC)
            after = self._stored()
        result.failed.update(answers.refused)
        totals: dict[str, Amount] = {}
        for symbol, snapshot in answers.given.items():
            ours, later = (self._total(stored, symbol) for stored in (before, after))
            shown_day = self._day.market.trading_day(snapshot.updated_at_ms)
            if shown_day != day and (snapshot.volume or later.volume):
                result.failed[symbol] = f"OpenD's snapshot is of {shown_day}; other days: --against-kline"
            elif not (snapshot.volume or later.volume):
                result.empty.append(symbol)
            else:
                totals[symbol] = Amount(snapshot.volume, snapshot.turnover)
                result.compared[symbol] = against.compare_totals(totals[symbol], ours, later)
        different = {symbol: totals[symbol] for symbol in result.different}
        if different:
            result.suspicion = against.suspicion_of_totals(different, after, self._left_out)
        return result

    async def _bars(self, sums: SourceSums, result: AuditResult) -> dict[str, list[tuple[int, Amount]]]:
        bars: dict[str, list[tuple[int, Amount]]] = {}
        for number, symbol in enumerate(self._symbols):
            try:
                bars[symbol] = await self._bars_of(sums, symbol)
            except FeedTimeout as exc:
                result.failed[symbol] = str(exc)
            except FeedLost as exc:
                result.failed.update((left, f"connection to OpenD lost: {exc}") for left in self._symbols[number:])
                break
            except FeedError as exc:
                result.failed[symbol] = f"OpenD refuses: {exc}"
            self._advance(1)
        return bars

    async def _bars_of(self, sums: SourceSums, symbol: str) -> list[tuple[int, Amount]]:
        bars = await sums.minute_bars(symbol, self._day.trading_day)
        return [(bar.label_ms, Amount(bar.volume, bar.turnover)) for bar in bars]

    def _stored(self) -> dict[str, TypedMinutes]:
        return against.stored_by_minute(self._batches())

    def _batches(self) -> Iterator[Any]:
        if len(self._symbols) <= FEW_SYMBOLS:
            yield from self._day.ticks(self._symbols, _COLUMNS).to_batches()
        else:
            yield from self._day.batches(_COLUMNS, workers=1)

    def _total(self, stored: dict[str, TypedMinutes], symbol: str) -> Amount:
        return against.total(against.counted(stored.get(symbol, {}), self._left_out).values())

    def _kind(self) -> DayKind:
        return self._calendar.day_kind(self._day.trading_day)

    def _is_trading(self, day: str, now_ms: int) -> bool:
        """By OpenD's clock: can ticks of this day still come? A day the calendar calls closed is judged by midnight."""
        return now_ms < self._calendar.no_more_ticks_ms(day)
