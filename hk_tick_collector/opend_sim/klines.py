"""K-lines of every type, made of the one-minute and day bars that the symbol's ticks left.

A bar of several minutes begins at a multiple of its length from the opening of its stretch of continuous trading, so
that none spans a pause; what prints outside of those counts from midnight. Bars of weeks and longer begin with their
first day that traded. Minutes are labelled with the end of their bar, days and longer with their start.
OpenD's own rule for bars beside a pause is not documented. Prices are never adjusted: nothing here splits or pays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from hk_tick_collector.market.dates import epoch_day
from hk_tick_collector.opend_sim import pb
from hk_tick_collector.opend_sim.book import Bar
from hk_tick_collector.opend_sim.source import MarketSource

MINUTE_MS = 60_000
_THURSDAY = 3  # of 1970-01-01, counted from Monday

_common = pb.qot_common

Slot = tuple[int, ...]  # bars with the same slot are one


@dataclass(frozen=True, slots=True)
class KlineType:
    """One type: its name, futu's numbers, and its length in minutes (0: a day or longer)."""

    name: str
    number: int  # Qot_Common.KLType
    sub_type: int  # Qot_Common.SubType
    minutes: int = 0
    of_day: Callable[[str], Slot] | None = None

    def label_ms(self, bar: Bar) -> int:
        """The time that a client sees of a bar: UTC epoch milliseconds."""
        return bar.end_ms if self.minutes else bar.start_ms


def _week(day: str) -> Slot:
    return ((epoch_day(day) + _THURSDAY) // 7,)


def _months(count: int, day: str) -> Slot:
    return (int(day[:4]), (int(day[4:6]) - 1) // count)


def _minutes(count: int) -> KlineType:
    number = getattr(_common, f"KLType_{count}Min")
    return KlineType(f"K_{count}M", int(number), int(getattr(_common, f"SubType_KL_{count}Min")), count)


_LONG = (
    KlineType("K_DAY", int(_common.KLType_Day), int(_common.SubType_KL_Day), 0, lambda day: (epoch_day(day),)),
    KlineType("K_WEEK", int(_common.KLType_Week), int(_common.SubType_KL_Week), 0, _week),
    KlineType("K_MON", int(_common.KLType_Month), int(_common.SubType_KL_Month), 0, partial(_months, 1)),
    KlineType("K_QUARTER", int(_common.KLType_Quarter), int(_common.SubType_KL_Qurater), 0, partial(_months, 3)),
    KlineType("K_YEAR", int(_common.KLType_Year), int(_common.SubType_KL_Year), 0, partial(_months, 12)),
)
KLINE_TYPES = (*(_minutes(count) for count in (1, 3, 5, 10, 15, 30, 60, 120, 180, 240)), *_LONG)
BY_NUMBER = {kind.number: kind for kind in KLINE_TYPES}
BY_SUB_TYPE = {kind.sub_type: kind for kind in KLINE_TYPES}


def bars(exchange: MarketSource, symbol: str, kind: KlineType, count: int, since_ms: int | None = None) -> list[Bar]:
    """The newest ``count`` bars, oldest first, the running one included; with ``since_ms`` those that end after it
    alone. KeyError: not listed."""
    slot_of = _Slots(exchange, kind)
    parts = exchange.newest_minutes(symbol) if kind.minutes else exchange.newest_days(symbol)
    newest_bars: list[Bar] = []
    for bar in _joined(parts, slot_of):
        if len(newest_bars) == count or (since_ms is not None and bar.end_ms <= since_ms):
            break
        newest_bars.append(bar)
    return newest_bars[::-1]


class _Slots:
    """Which bar a minute or a day belongs to."""

    def __init__(self, exchange: MarketSource, kind: KlineType) -> None:
        self._exchange = exchange
        self._market = exchange.venue.market
        self._kind = kind
        self._day_end_ms = 0
        self._day_start_ms = 0
        self._windows: Sequence[tuple[int, int]] = ()

    def of(self, start_ms: int) -> tuple[Slot, int, int]:
        """The slot of what begins then, and (start, end) of a bar of minutes; of a longer one its own times."""
        if self._kind.of_day is not None:
            return self._kind.of_day(self._market.trading_day(start_ms)), 0, 0
        length_ms = self._kind.minutes * MINUTE_MS
        if not self._day_start_ms <= start_ms < self._day_end_ms:
            day = self._market.trading_day(start_ms)
            self._day_start_ms, self._day_end_ms = self._market.day_bounds(day)
            self._windows = self._exchange.windows(day)
        first_ms, last_ms = self._day_start_ms, self._day_end_ms
        for begin_ms, end_ms in self._windows:
            if begin_ms <= start_ms < end_ms:
                first_ms, last_ms = begin_ms, end_ms
                break
        begin_ms = first_ms + (start_ms - first_ms) // length_ms * length_ms
        return (begin_ms,), begin_ms, min(begin_ms + length_ms, last_ms)


def _joined(newest_first: Iterator[Bar], slots: _Slots) -> Iterator[Bar]:
    """Bars of the kind, newest first."""
    joined: Bar | None = None
    slot: Slot = ()
    for part in newest_first:
        own, start_ms, end_ms = slots.of(part.start_ms)
        if joined is not None and own == slot:
            _put_before(joined, part)
            continue
        if joined is not None:
            yield joined
        joined, slot = part, own
        if end_ms:
            joined.start_ms, joined.end_ms = start_ms, end_ms
    if joined is not None:
        yield joined


def _put_before(joined: Bar, part: Bar) -> None:
    """An earlier part joins a bar. One in which nothing made a price has its last one: it does not stretch the bar."""
    if not part.flat:
        joined.high = max(joined.high, part.high) if not joined.flat else part.high
        joined.low = min(joined.low, part.low) if not joined.flat else part.low
        joined.open = part.open
        joined.close = part.close if joined.flat else joined.close
        joined.flat = False
    joined.start_ms = min(joined.start_ms, part.start_ms)
    joined.volume += part.volume
    joined.turnover += part.turnover
    joined.prev_close = part.prev_close
