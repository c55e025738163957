"""From an event of the gateway, or a row of a whole day, to a tick in UTC.

- ``ts_ms`` is ``date`` and ``time``: Taipei's wall clock, which has no daylight saving.
- ``seq`` is the running total after the trade (``records.totals``). TAIFEX has two sessions a day, night and day.
- A trial match (``simtrade``) is kept as ``SIMTRADE``, by its time: it is no trade, and no part of a total.
- ``volume`` counts lots of 1000 shares, shares in the odd-lot stream, contracts at TAIFEX.

What cannot be mapped becomes a ``RejectedTick``, whole; the others go on.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hk_tick_collector.core.errors import RejectCode, TickRejected
from hk_tick_collector.core.text import cut, plain
from hk_tick_collector.market.market import Market
from hk_tick_collector.market.tw.trade_types import SIMTRADE
from hk_tick_collector.records.tick import PUSH_TYPE_PUSH, RejectedTick, Tick, tick_with
from hk_tick_collector.records.totals import MAX_TOTAL, NO_TRADE, SECOND_SESSION
from hk_tick_collector.sources.plausible import DayOfMinute, PlausibleDays
from hk_tick_collector.sources.shioaji.symbols import FUTURES, ODD

ShioajiTick: Any = tick_with("ts_ns_part", "total_volume")
MAX_PRICE, MAX_VOLUME, MAX_AMOUNT = 1e8, 10**9, 1e15
DAY_SESSION_SEC = (5 * 3600, 15 * 3600)  # of TAIFEX, by the clock: what lies outside is the night
CLOCKS_KEPT = 4096
RAW_FIELDS = 40
_CLOCK = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9]):([0-5][0-9])", re.ASCII)
_DATE = re.compile(r"(2[0-9]{3})[-/]([0-9]{2})[-/]([0-9]{2})", re.ASCII)
_FRACTION = re.compile(r"[0-9]{1,9}", re.ASCII)


@dataclass(slots=True)
class Mapped:
    """What became of events: ticks by symbol in the order they came."""

    ticks: dict[str, list[Tick]] = field(default_factory=dict)
    rejected: list[RejectedTick] = field(default_factory=list)


class WallClock:
    """Taipei's date and time of day to UTC. One thread."""

    def __init__(self, market: Market) -> None:
        self._market = market
        self._midnights_us: dict[str, int] = {}
        self._seconds: dict[str, int] = {}

    def at_us(self, date: Any, clock: Any) -> tuple[int, int]:
        """UTC epoch microseconds, and the second of the local day. TickRejected for what is no date or no time."""
        try:
            midnight_us, second = self._midnights_us[date], self._seconds[clock[:8]]
        except (KeyError, TypeError):
            midnight_us, second = self._look(date, clock)
        fraction = clock[9:]
        if len(clock) == 15 and clock[8] == "." and fraction.isdigit() and fraction.isascii():
            return midnight_us + second * 1_000_000 + int(fraction), second
        return midnight_us + second * 1_000_000 + _fraction_us(clock), second

    def _look(self, date: Any, clock: Any) -> tuple[int, int]:
        day = _DATE.fullmatch(date) if isinstance(date, str) else None
        time = _CLOCK.match(clock) if isinstance(clock, str) else None
        if day is None or time is None:
            raise TickRejected(RejectCode.TIME, f"{cut(ascii(date))} {cut(ascii(clock))} is no date and time")
        if len(self._midnights_us) >= CLOCKS_KEPT or len(self._seconds) >= 86_400:
            self._midnights_us.clear()
            self._seconds.clear()
        try:
            midnight_us = self._market.zone.midnight_ms("".join(day.groups())) * 1000
        except ValueError:
            raise TickRejected(RejectCode.TIME, f"{cut(ascii(date))} is no date") from None
        second = (int(time[1]) * 60 + int(time[2])) * 60 + int(time[3])
        self._midnights_us[date], self._seconds[clock[:8]] = midnight_us, second
        return midnight_us, second


def _fraction_us(clock: str) -> int:
    if len(clock) == 8:
        return 0
    if clock[8] != "." or not _FRACTION.fullmatch(clock[9:]):
        raise TickRejected(RejectCode.TIME, f"{cut(ascii(clock))} is no time of day")
    return int(clock[9:15].ljust(6, "0"))


class TickMapper:
    """One instance for one connection, used by one thread. ``symbols``: ours by the gateway's keys; may be added to."""

    def __init__(self, market: Market, days: PlausibleDays, symbols: Mapping[str, str]) -> None:
        self._market = market
        self._days = DayOfMinute(market, days)
        self._symbols = symbols
        self._clock = WallClock(market)

    def map(self, events: Iterable[Any], recv_ts_ms: int) -> Mapped:
        """Every event ends as one of the two."""
        mapped = Mapped()
        ticks = mapped.ticks
        for event in events:
            symbol: str | None = None
            try:
                symbol = self._symbol(event)
                tick = self._tick(symbol, event, recv_ts_ms)
            except TickRejected as exc:
                mapped.rejected.append(RejectedTick(symbol or "", str(exc), raw_of(event), recv_ts_ms, exc.code))
                continue
            if symbol in ticks:
                ticks[symbol].append(tick)
            else:
                ticks[symbol] = [tick]
        return mapped

    def _symbol(self, event: Any) -> str:
        if type(event) is not dict:
            raise TickRejected(RejectCode.SYMBOL, "no event")
        code = event.get("code")
        key = f"{code}{ODD}" if event.get("intraday_odd") is True else code
        symbol = self._symbols.get(key) if isinstance(key, str) else None
        if symbol is None:
            raise TickRejected(RejectCode.UNWANTED, f"nobody asked for code {cut(ascii(key))}")
        return symbol

    def _tick(self, symbol: str, event: Mapping[str, Any], recv_ts_ms: int) -> Tick:
        time_us, second = self._clock.at_us(event.get("date"), event.get("time"))
        ts_ms = time_us // 1000
        day = self._days.known.get(ts_ms // 60_000) or self._days.of(ts_ms, recv_ts_ms)
        is_trial = event.get("simtrade")
        if is_trial is not False and is_trial is not True and is_trial is not None:
            raise TickRejected(RejectCode.VOLUME, f"simtrade {cut(ascii(is_trial))} is not yes or no")
        volume, total = event.get("volume"), event.get("total_volume")
        if is_trial:
            seq = NO_TRADE + time_us - self._market.day_bounds(day)[0] * 1000
            self._check_volume(volume, 0)
        else:
            seq = self._sequence(symbol, second, volume, total)
        tick: Tick = tuple.__new__(
            ShioajiTick,
            (
                symbol,
                ts_ms,
                price_of(event.get("close"), 0.0 if is_trial else None),
                volume,
                _amount(event.get("amount")),
                direction_of(event.get("tick_type")),
                seq,
                SIMTRADE if is_trial else "AUTO_MATCH",
                PUSH_TYPE_PUSH,
                day,
                recv_ts_ms,
                SIMTRADE if is_trial else "REALTIME",
                None,
                None,
                0,
                time_us % 1000 * 1000,
                None if is_trial else total,
            ),
        )
        return tick

    def _sequence(self, symbol: str, second: int, volume: Any, total: Any) -> int:
        self._check_volume(volume, 1)
        if type(total) is not int or not volume <= total <= MAX_TOTAL:
            raise TickRejected(
                RejectCode.VOLUME, f"total_volume {cut(ascii(total))} is no running total after a trade of {volume}"
            )
        return total + session_base(symbol, second)

    @staticmethod
    def _check_volume(volume: Any, least: int) -> None:
        if type(volume) is not int or not least <= volume <= MAX_VOLUME:
            raise TickRejected(
                RejectCode.VOLUME, f"volume {cut(ascii(volume))} is not a whole number from {least} to {MAX_VOLUME}"
            )


def session_base(symbol: str, second: int) -> int:
    """What is added to a running total: the two sessions of TAIFEX are counted apart."""
    first, last = DAY_SESSION_SEC
    return SECOND_SESSION if symbol.startswith(FUTURES) and first <= second < last else 0


def price_of(value: Any, least: float | None = None) -> float:
    """A price as text or as a number, above zero; ``least``: from that on."""
    price = math.nan
    if type(value) in (str, int, float) and (type(value) is not str or len(value) <= 32):
        try:
            price = float(value)
        except (ValueError, OverflowError):
            price = math.nan
    if not (0 < price <= MAX_PRICE or price == least):
        raise TickRejected(RejectCode.PRICE, f"price {cut(ascii(value))} is not a number above 0, up to {MAX_PRICE:g}")
    return price


def direction_of(side: Any) -> str:
    """Who began the trade."""
    return "BUY" if side == 1 else "SELL" if side == 2 else "NEUTRAL"


def _amount(value: Any) -> float | None:
    """The money of the trade; None where it is not told (TAIFEX tells points)."""
    try:
        amount = float(value) if type(value) in (str, int, float) else math.nan
    except (ValueError, OverflowError):
        return None
    return amount if 0 <= amount <= MAX_AMOUNT else None


def raw_of(event: Any) -> dict[str, object]:
    """As it came, as JSON can hold it."""
    if type(event) is not dict:
        return {"raw": cut(ascii(event))}
    return {cut(str(name)): plain(value) for name, value in list(event.items())[:RAW_FIELDS]}
