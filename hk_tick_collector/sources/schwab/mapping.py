"""From what the streamer tells of a stock's last trade to ticks in UTC.

Level one is conflated: a message holds the fields that have changed since the one before, and of several trades in
between only the last one is told. So a row is an observation of the last trade, and the running total of the day's
volume says how much was traded unseen.

- ``ts_ms`` is field 35, the trade's time, and the message's own time stands in ``opend_recv_ts_ms``.
- ``seq`` names a trade: its millisecond in the upper 41 bits, 22 bits made of price and size below. It rises with time,
  and what is told again after a reconnect has the same, whatever the total volume has become since.
- ``total_volume`` is field 8. It is the day's from the streamer's own reset on (07:28 in New York) and NULL before it:
  what it counts until then, a day or the night, is not said.
- A part of a share has no whole number: ``volume`` is NULL, and ``turnover``, price x size, by the price is the part.
- No trade, and no row: a message in which the time of the last trade stays as it was (unless price or size come with
  more volume: trades of one millisecond), one without a price or a size yet, the last trade of an earlier trading day.
  Their volume counts as traded unseen.

What cannot be mapped becomes a ``RejectedTick``, whole; the others go on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hk_tick_collector.core.errors import RejectCode, TickRejected
from hk_tick_collector.core.facts import CONFLATED, Unproven
from hk_tick_collector.core.text import cut, plain, printable
from hk_tick_collector.market.hours import Phase, hm
from hk_tick_collector.market.market import Market
from hk_tick_collector.records.tick import PUSH_TYPE_PUSH, RejectedTick, Tick, tick_with
from hk_tick_collector.sources.parts import turnover_of
from hk_tick_collector.sources.plausible import DayOfMinute, PlausibleDays
from hk_tick_collector.sources.remote.conversation import MAX_REJECTED
from hk_tick_collector.sources.schwab.messages import EQUITIES, PRICE, SIZE, TOTAL_VOLUME, TRADE_TIME, VENUE

SchwabTick: Any = tick_with("total_volume", "venue")
NAME_BITS = 22
NAME_MASK = (1 << NAME_BITS) - 1
PARTS = 1_000_000  # of a share, in a name
MAX_PRICE, MAX_SIZE, MAX_TIME_MS = 1e8, 10**12, 1 << 41
# The total is told to begin anew at 07:28; a clock of theirs may be late.
TOTAL_COUNTS_FROM_MS = hm(7, 30)
RAW_FIELDS, TEXT_CHARS = 20, 32
_NAMES = {PRICE: "price", SIZE: "size", TOTAL_VOLUME: "total_volume", TRADE_TIME: "trade_time", VENUE: "venue"}


@dataclass(slots=True)
class Mapped:
    """What became of a message's parts: ticks by symbol in the order they came; ``learned`` holds of days that now have
    their first one."""

    ticks: dict[str, list[Tick]] = field(default_factory=dict)
    rejected: list[RejectedTick] = field(default_factory=list)
    learned: list[Unproven] = field(default_factory=list)
    delayed: str = ""  # a symbol whose data comes late by contract


@dataclass(slots=True)
class _Last:
    """A symbol's fields as they were told last. None: not told yet."""

    symbol: str
    day: str = ""  # that was called unproven
    price: Any = None
    size: Any = None
    total: Any = None
    time_ms: Any = None
    venue: str | None = None
    is_new: bool = True  # nothing came on this connection
    is_delayed: bool = False


class LastTradeMapper:
    """One instance for one connection, used by one thread. ``symbols``: ours by Schwab's; may be added to."""

    def __init__(self, market: Market, days: PlausibleDays, symbols: Mapping[str, str]) -> None:
        self._market = market
        self._plausible = days
        self._days = DayOfMinute(market, days)
        self._symbols = symbols
        self._last: dict[str, _Last] = {}
        self._hours: dict[int, tuple[str, bool]] = {}  # by minute: the type of its trades, and whether totals count

    def note_clock(self, server_ms: int, now_ms: int) -> None:
        """What the streamer's clock says at ``now_ms`` of ours."""
        self._plausible.note_source_time(server_ms, now_ms)

    def map(self, part: Mapping[str, Any], recv_ts_ms: int) -> Mapped:
        """One part of a message's ``data``, up to MAX_REJECTED that are rejected."""
        mapped = Mapped()
        content = part.get("content")
        if part.get("service") != EQUITIES or not isinstance(content, list):
            return mapped
        told_ms = part.get("timestamp")
        told_ms = told_ms if type(told_ms) is int and 0 < told_ms < MAX_TIME_MS else None
        for changes in content:
            if len(mapped.rejected) >= MAX_REJECTED:
                break
            if not isinstance(changes, dict):
                mapped.rejected.append(_rejected("", "no object with fields", {"value": changes}, recv_ts_ms))
                continue
            self._map_one(changes, told_ms, recv_ts_ms, mapped)
        return mapped

    def _map_one(self, changes: Mapping[str, Any], told_ms: int | None, recv_ts_ms: int, mapped: Mapped) -> None:
        key = changes.get("key")
        last = self._last.get(key) if isinstance(key, str) else None
        if last is None:
            last = self._begin(key, changes, recv_ts_ms, mapped)
            if last is None:
                return
        try:
            tick = self._observe(last, changes, told_ms, recv_ts_ms)
        except TickRejected as exc:
            mapped.rejected.append(_rejected(last.symbol, str(exc), changes, recv_ts_ms, exc.code))
            return
        if last.is_delayed:
            mapped.delayed = last.symbol
        if tick is None:
            return
        if tick.trading_day != last.day:
            last.day = tick.trading_day
            mapped.learned.append(Unproven(last.symbol, last.day, CONFLATED))
        mapped.ticks.setdefault(last.symbol, []).append(tick)

    def _begin(self, key: Any, changes: Mapping[str, Any], recv_ts_ms: int, mapped: Mapped) -> _Last | None:
        symbol = self._symbols.get(key) if isinstance(key, str) else None
        if symbol is None:
            shown = cut(key, TEXT_CHARS) if isinstance(key, str) else ""
            reason = f"nobody asked for symbol {cut(ascii(key))}"
            mapped.rejected.append(_rejected(shown, reason, changes, recv_ts_ms, RejectCode.UNWANTED))
            return None
        last = self._last[str(key)] = _Last(symbol)
        return last

    def _observe(self, last: _Last, changes: Mapping[str, Any], told_ms: int | None, recv_ts_ms: int) -> Tick | None:
        """The last trade, when it is another one than before."""
        was_new, before_ms, before_total = last.is_new, last.time_ms, last.total
        _note(last, changes)
        is_of_same_ms = (PRICE in changes or SIZE in changes) and _grew(before_total, last.total)
        if last.time_ms == before_ms and not is_of_same_ms:
            return None  # the trade that was told before
        if last.time_ms is None or not last.price or not last.size:
            return None  # no trade yet
        return self._tick(last, "SNAPSHOT" if was_new else "REALTIME", told_ms, recv_ts_ms)

    def _tick(self, last: _Last, how: str, told_ms: int | None, recv_ts_ms: int) -> Tick | None:
        ts_ms, price, size, total = last.time_ms, last.price, last.size, last.total
        if type(ts_ms) is not int or not 0 < ts_ms < MAX_TIME_MS:
            raise TickRejected(RejectCode.TIME, f"trade time {cut(ascii(ts_ms))} is no time in milliseconds")
        if type(price) not in (int, float) or not 0 < price <= MAX_PRICE:
            raise TickRejected(RejectCode.PRICE, f"price {cut(ascii(price))} is not a number up to {MAX_PRICE:g}")
        turnover = turnover_of(price, size, MAX_SIZE)
        if turnover is None and not _is_count(size):
            raise TickRejected(RejectCode.VOLUME, f"size {cut(ascii(size))} is not a whole number up to {MAX_SIZE}")
        day = self._days.of(ts_ms, recv_ts_ms)
        if how == "SNAPSHOT" and day != self._days.of(min(recv_ts_ms, MAX_TIME_MS), recv_ts_ms):
            return None  # told again, of an earlier day
        tick_type, counts = self._hours.get(ts_ms // 60_000) or self._hour(ts_ms, day)
        total = int(total) if _is_count(total) else None
        tick: Tick = tuple.__new__(
            SchwabTick,
            (
                last.symbol,
                ts_ms,
                float(price),
                int(size) if turnover is None else None,
                turnover,
                "NEUTRAL",
                ts_ms << NAME_BITS
                | (int(price * 10_000 + 0.5) * 8191 + int(size if turnover is None else size * PARTS)) & NAME_MASK,
                tick_type,
                PUSH_TYPE_PUSH,
                day,
                recv_ts_ms,
                "DELAYED" if last.is_delayed else how,
                told_ms,
                None,
                0,
                total if counts else None,
                last.venue,
            ),
        )
        return tick

    def _hour(self, ts_ms: int, day: str) -> tuple[str, bool]:
        """The market's word for trades of this time, and whether the total is the day's."""
        phase = self._market.phase_at(ts_ms, self._market.table_kind(day))
        counts = ts_ms >= self._market.zone.at_ms(day, TOTAL_COUNTS_FROM_MS)
        if len(self._hours) >= len(self._days.known) + 1000:
            self._hours.clear()
        hour = ("AUTO_MATCH" if phase is Phase.REGULAR else "EXTENDED_TRADING_HOURS", counts)
        self._hours[ts_ms // 60_000] = hour
        return hour


def _note(last: _Last, changes: Mapping[str, Any]) -> None:
    """What is not in a message has not changed."""
    last.is_new = False
    last.price = changes.get(PRICE, last.price)
    last.size = changes.get(SIZE, last.size)
    last.total = changes.get(TOTAL_VOLUME, last.total)
    last.time_ms = changes.get(TRADE_TIME, last.time_ms)
    if VENUE in changes:
        last.venue = _word(changes[VENUE])
    if "delayed" in changes:
        last.is_delayed = changes["delayed"] is True


def _is_count(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value <= MAX_SIZE and value == int(value)


def _grew(before: Any, after: Any) -> bool:
    return _is_count(before) and _is_count(after) and bool(after > before)


def _word(value: Any) -> str | None:
    return printable(cut(value, TEXT_CHARS)) if isinstance(value, str) and value.strip() else None


def _rejected(
    symbol: str, reason: str, changes: Mapping[str, Any], recv_ts_ms: int, code: RejectCode = RejectCode.SYMBOL
) -> RejectedTick:
    raw = {_NAMES.get(name, cut(name, TEXT_CHARS)): plain(value) for name, value in list(changes.items())[:RAW_FIELDS]}
    return RejectedTick(symbol, reason, raw, recv_ts_ms, code)
