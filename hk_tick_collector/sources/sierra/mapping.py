"""From a record to a tick in UTC.

- ``ts_ms`` is the record's time cut to milliseconds: that is how exact Sierra Chart's times are. The microseconds below
  are a counter that keeps trades of one millisecond apart and in order; more than a thousand of them run into the next.
- ``seq`` is the record's time in Unix microseconds, the identity of the trade. Where records share one (files of old
  versions, other programs' files) each following one gets the next microsecond, so that no trade passes for another.
- Whether the time is the exchange's or that of Sierra's receiving depends on the data service; the file does not say.

A record that cannot be believed becomes a ``RejectedTick`` with a code, and the others go on. Times that stand in local
time, as other programs write them, are read by ``LocalTimes``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from hk_tick_collector.core.errors import InputError, RejectCode
from hk_tick_collector.records.tick import PUSH_TYPE_BACKFILL, RejectedTick, Tick, tick_with
from hk_tick_collector.sources.sierra.naming import Instrument
from hk_tick_collector.sources.sierra.prices import Prices
from hk_tick_collector.sources.sierra.scid import MARKS, UNBUNDLED_FIRST, UNBUNDLED_LAST, Record, is_price, unix_us

MORE = ("venue", "conditions", "bid_price", "ask_price")
SierraTick: Any = tick_with(*MORE)
CONDITIONS = {UNBUNDLED_FIRST: "UNBUNDLED_FIRST", UNBUNDLED_LAST: "UNBUNDLED_LAST"}
_QUARTER_US = 900_000_000  # no change of clocks divides it
_FIELDS = ("time", "open", "high", "low", "close", "trades", "volume", "bid_volume", "ask_volume")

ToUnixUs = Callable[[int], int]


class Mapped(NamedTuple):
    """What became of some records."""

    ticks: list[Tick]
    rejected: list[RejectedTick]


class LocalTimes:
    """Reads a record's time as the local time of ``zone``. Of an hour that comes twice, the first is meant: markets
    are closed then."""

    def __init__(self, zone: str) -> None:
        try:
            self._zone = ZoneInfo(zone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise InputError(f"{zone!r} is not a time zone: write its name as in America/Chicago, or UTC") from None
        self._offsets_us: dict[int, int] = {}

    def __call__(self, record_time: int) -> int:
        local_us = unix_us(record_time)
        quarter = local_us // _QUARTER_US
        offset_us = self._offsets_us.get(quarter)
        if offset_us is None:
            offset_us = self._offsets_us[quarter] = self._offset_us(quarter)
        return local_us - offset_us

    def _offset_us(self, quarter: int) -> int:
        """Zero for what is no date; its record is refused for that."""
        try:
            local = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=quarter * _QUARTER_US)
            offset = local.replace(tzinfo=self._zone).utcoffset() or timedelta()
        except (OverflowError, ValueError):
            return 0
        return offset // timedelta(microseconds=1)


class TradeMapper:
    """Maps the records of one symbol's trading day, in the order of the file and from its first one on.

    ``recv_ts_ms`` and ``push_type`` are those of the ticks to come, and may be changed.
    """

    def __init__(
        self,
        instrument: Instrument,
        day: str,
        recv_ts_ms: int,
        push_type: str = PUSH_TYPE_BACKFILL,
        to_unix_us: ToUnixUs = unix_us,
    ) -> None:
        self._instrument = instrument
        self._prices = Prices(instrument.multiplier, instrument.tick_size)
        self._day = day
        self.recv_ts_ms = recv_ts_ms
        self.push_type = push_type
        self._to_unix_us = to_unix_us
        self._last_us = self._last_seq = -(1 << 63)

    def map(self, records: Iterable[Record]) -> Mapped:
        """Ticks in order of the records, and what is none."""
        ticks: list[Tick] = []
        rejected: list[RejectedTick] = []
        symbol, venue, *_ = self._instrument
        day, recv_ts_ms, push_type = self._day, self.recv_ts_ms, self.push_type
        price_of, quote_of, to_unix_us, new = self._prices.of, self._prices.quote, self._to_unix_us, tuple.__new__
        last_us, seq = self._last_us, self._last_seq
        for record in records:
            time, opened, high, low, close, _, volume, bid_volume, ask_volume = record
            time_us = to_unix_us(time)
            # Unique within the day, and the same whenever the file is read.
            seq = seq + 1 if last_us <= time_us <= seq else time_us
            last_us = time_us
            price = price_of(close)
            quoted = opened in MARKS
            if price is None or not volume or not (quoted or opened == high == low == close):
                rejected.append(self._reject(record))
                continue
            direction = "NEUTRAL" if bool(bid_volume) == bool(ask_volume) else "BUY" if ask_volume else "SELL"
            bid, ask = (quote_of(low), quote_of(high)) if quoted else (None, None)
            ticks.append(
                new(
                    SierraTick,
                    (
                        symbol, time_us // 1000, price, volume, None, direction, seq, None, push_type, day, recv_ts_ms,
                        None, None, None, 0, venue, CONDITIONS.get(opened), bid, ask,
                    ),
                )
            )  # fmt: skip
        self._last_us, self._last_seq = last_us, seq
        return Mapped(ticks, rejected)

    def _reject(self, record: Record) -> RejectedTick:
        code, reason = _why(record, self._prices, self._instrument)
        return reject(self._instrument.symbol, record, code, reason, self.recv_ts_ms)


def reject(symbol: str, record: Record, code: RejectCode, reason: str, recv_ts_ms: int) -> RejectedTick:
    """A record for the quarantine, whole."""
    raw: dict[str, object] = dict(zip(_FIELDS, record, strict=True))
    for name, value in raw.items():
        if isinstance(value, float) and not math.isfinite(value):
            raw[name] = repr(value)  # JSON has no form for it
    return RejectedTick(symbol, reason, raw, recv_ts_ms, code)


def _why(record: Record, prices: Prices, instrument: Instrument) -> tuple[RejectCode, str]:
    _, opened, _, _, close, _, volume, *_ = record
    if not volume:
        return RejectCode.VOLUME, "its volume is 0"
    if prices.of(close) is None:
        price, factor = f"price {close!r}", f" x {instrument.multiplier:g}"
        if not is_price(close):
            return RejectCode.PRICE, f"{price} is none"
        if not prices.in_range(close):
            return RejectCode.PRICE, f"{price}{factor} is beyond any trade: is the multiplier right?"
        return RejectCode.PRICE, f"{price}{factor} is not a multiple of {instrument.tick_size}"
    return RejectCode.PRICE, f"open {opened!r} is neither a mark of a trade nor its price"
