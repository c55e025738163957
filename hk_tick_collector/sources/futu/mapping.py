"""Futu's ticker protobuf -> ``Tick`` in UTC. Owns every rule about what a field means; reads no clock of its own.

Event time comes from the local time string read in the market's zone. ``timestamp`` and the high half of ``sequence``
are witnesses: they are compared and disagreement is counted, but they never move a tick, and neither does the wall
clock. They are used to give a date to a time string that has none, and to doubt: a time that they put on another day,
or a day that no tick of now can be of (``PlausibleDays``). What cannot be mapped or believed raises ``TickRejected``
for that tick alone. Values from OpenD stand in reasons and raw fields cut to ``SHOWN_CHARS``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from hk_tick_collector.core.errors import RejectCode, TickRejected
from hk_tick_collector.core.text import cut
from hk_tick_collector.records.tick import (
    EARLIEST_WITNESS_SEC,
    SEQ_COUNTER_BITS,
    WITNESS_TOLERANCE_MS,
    RejectedTick,
    Tick,
)
from hk_tick_collector.records.views import number_equal_ticks
from hk_tick_collector.sources.futu.markets import HK, FutuMarket
from hk_tick_collector.sources.futu.spec import TICK_TYPES
from hk_tick_collector.sources.plausible import PlausibleDays
from hk_tick_collector.sources.pulled import sequence_of
from hk_tick_collector.sources.source import UnreadRow

# Qot_Common.TickerDirection, TickerType and PushDataType under the names the SDK gives them; a test holds them equal.
DIRECTIONS = {1: "BUY", 2: "SELL", 3: "NEUTRAL"}
PUSH_DATA_TYPES = {1: "REALTIME", 2: "BYDISCONN", 3: "CACHE"}

SECOND_CACHE_ENTRIES = 4_096
SYMBOL_CACHE_ENTRIES = 20_000  # ten times the symbols that an account may subscribe
# Far above what a trade on any of the exchanges can be, far below what sums over a day can no longer hold.
MAX_PRICE = 1e8
MAX_TURNOVER = 1e14
MAX_VOLUME = 10**12
DOUBTED_MS = 86_400_000  # witnesses that are further off than this doubt a time

_new_tuple = tuple.__new__
# HKEX's letters; another number of typeSign is kept as SIGN_n.
_TYPE_SIGNS = {number: chr(number) for number in range(0x20, 0x7F)}
# What may follow the seconds of a time string, and its milliseconds: looked up, because reading a number costs more.
_FRACTION_MS = {f"{point}{ms:03d}": ms for point in ".:," for ms in range(1000)} | {"": 0}
_DAY_AND_TIME = re.compile(
    r"(\d{4})[-/]?(\d{2})[-/]?(\d{2})[ T]?(\d{2}):?(\d{2}):?(\d{2})(?:[.:,](\d{1,9}))?$", re.ASCII
)
_TIME_ONLY = re.compile(r"(\d{1,2}):?(\d{2}):?(\d{2})(?:[.:,](\d{1,9}))?$", re.ASCII)


class TickerMessage(Protocol):
    """What is read of a ``Qot_Common.Ticker``."""

    time: str
    sequence: int
    dir: int
    price: float
    volume: int
    turnover: float
    recvTime: float  # noqa: N815 (Futu's names)
    type: int
    typeSign: int  # noqa: N815
    pushDataType: int  # noqa: N815
    timestamp: float
    hpVolume: float  # noqa: N815

    def HasField(self, name: str) -> bool: ...  # noqa: N802


@dataclass(slots=True)
class MappingStats:
    """Counts since start. Written by whichever thread maps; read for health lines."""

    mapped_rows: int = 0
    rejected_rows: int = 0
    no_sequence_rows: int = 0
    unknown_enum_rows: int = 0
    timestamp_disagree_rows: int = 0
    sequence_disagree_rows: int = 0
    fractional_rows: int = 0  # of less than a share, or of shares and a part: stored without a volume


class TickMapper:
    """Maps ticker messages of the securities of one market.

    One instance is used by one thread at a time: it keeps the calendar second it read last, because consecutive ticks
    share it (parsing costs 0.1 us then, 6 us otherwise).
    """

    def __init__(self, days: PlausibleDays | None = None, market: FutuMarket = HK) -> None:
        self.stats = MappingStats()
        self.days = days or PlausibleDays(market.market)
        self.market = market
        self._zone = market.market.zone.tzinfo
        self._symbols: dict[tuple[int, str], str] = {}
        self._seconds: dict[str, tuple[int, str]] = {}

    def symbol(self, security: Any) -> str:
        """``HK.00700`` for a ``Qot_Common.Security``; raises ``TickRejected`` for another market, and for a code that
        is none: symbols become names of files."""
        code: str = security.code
        known = self._symbols.get((security.market, code))
        return self._new_symbol(security.market, code) if known is None else known

    def name(self, security: Any) -> str:
        """Of a ``Qot_Common.Security`` that is none of ours, for the quarantine."""
        return f"{self.market.prefixes.get(security.market, security.market)}.{security.code}"

    def _new_symbol(self, number: int, code: str) -> str:
        market = self.market.market
        prefix = self.market.prefixes.get(number)
        if prefix is None:
            raise TickRejected(RejectCode.MARKET, f"market {number} is not {market.code} (code {_shown(code)})")
        symbol = f"{prefix}.{code}" if isinstance(code, str) else ""  # protobuf hands out bytes that are no UTF-8
        if market.symbols.symbol(symbol) != symbol:
            raise TickRejected(
                RejectCode.SYMBOL, f"code {_shown(code)} is of no {market.symbols.noun}: {market.symbols.example}"
            )
        if len(self._symbols) >= SYMBOL_CACHE_ENTRIES:
            self._symbols.clear()
        self._symbols[number, code] = symbol
        return symbol

    def map_all(
        self, symbol: str, messages: Any, push_type: str, recv_ts_ms: int, rejected: list[RejectedTick]
    ) -> list[Tick]:
        """Every mappable tick of ``messages`` in order; the others are appended to ``rejected``, one by one.

        ``messages`` is one view of the symbol: one push frame, or one answer. Equal ticks without a sequence in one
        view are as many trades, so they get an ``occurrence`` each; the same view again gives the same numbers.
        """
        ticks: list[Tick] = []
        stats, seconds = self.stats, self._seconds
        is_second_in_seq, is_volume_whole = self.market.is_second_in_seq, self.market.is_volume_whole
        unsequenced_rows = 0
        most_ms, bits = WITNESS_TOLERANCE_MS, SEQ_COUNTER_BITS
        # One body for the whole way of a tick: a method for each tick and its own constructor cost 0.3 us of 1.5.
        for message in messages:
            price, turnover, volume = message.price, message.turnover, message.volume
            text, seq, timestamp_sec = message.time, message.sequence, message.timestamp
            recv_sec, type_sign = message.recvTime, message.typeSign
            try:
                if not (0.0 <= price <= MAX_PRICE and 0.0 <= turnover <= MAX_TURNOVER):
                    raise _absurd_amount(price, turnover)
                if not 0 < volume <= MAX_VOLUME or not (is_volume_whole or message.hpVolume in (0.0, volume)):
                    volume = _other_volume(message, self.market)
                    stats.fractional_rows += volume is None
                if seq <= 0:
                    seq = None
                    unsequenced_rows += 1
                second = seconds.get(text[:19])
                fraction_ms = _FRACTION_MS.get(text[19:])
                if second is None or fraction_ms is None:
                    ts_ms, trading_day = self._read_time(text, seq, timestamp_sec, recv_ts_ms)
                else:
                    ts_ms = second[0] + fraction_ms
                    trading_day = second[1]
                if timestamp_sec > 0.0 and not -most_ms <= ts_ms - timestamp_sec * 1000.0 <= most_ms:
                    stats.timestamp_disagree_rows += 1
                    _ask_witnesses(text, ts_ms, seq if is_second_in_seq else None, timestamp_sec)
            except TickRejected as exc:
                rejected.append(RejectedTick(symbol, str(exc), raw_fields(message), recv_ts_ms, exc.code))
                continue
            if is_second_in_seq and seq is not None and not -most_ms <= ts_ms - (seq >> bits) * 1000 <= most_ms:
                stats.sequence_disagree_rows += 1
            ticks.append(
                _new_tuple(
                    Tick,
                    (
                        symbol,
                        ts_ms,
                        price,
                        volume,
                        turnover,
                        DIRECTIONS.get(message.dir) or self._unknown_direction(message),
                        seq,
                        TICK_TYPES.get(message.type) or self._unknown_name("TYPE", message.type),
                        push_type,
                        trading_day,
                        recv_ts_ms,
                        PUSH_DATA_TYPES.get(message.pushDataType),
                        int(recv_sec * 1000.0 + 0.5) if 0.0 < recv_sec < 1e11 else None,
                        (_TYPE_SIGNS.get(type_sign) or self._unknown_name("SIGN", type_sign)) if type_sign else None,
                        0,  # occurrence
                    ),
                )
            )
        if unsequenced_rows:
            stats.no_sequence_rows += unsequenced_rows
            ticks = number_equal_ticks(ticks)
        stats.mapped_rows += len(ticks)
        stats.rejected_rows += len(messages) - len(ticks)
        return ticks

    def _unknown_direction(self, message: TickerMessage) -> str | None:
        """0 and absent are Futu's own "unknown" and stay NULL; a number we have no name for is kept as it is."""
        return self._unknown_name("DIRECTION", message.dir) if message.dir else None

    def _unknown_name(self, kind: str, number: int) -> str:
        self.stats.unknown_enum_rows += 1
        return f"{kind}_{number}"

    def _read_time(self, text: str, seq: int | None, timestamp_sec: float, recv_ts_ms: int) -> tuple[int, str]:
        """The time in UTC and its trading day. What is read here once a second of ticks costs nothing a tick."""
        if not isinstance(text, str):  # protobuf hands out bytes where a string is not UTF-8
            raise TickRejected(RejectCode.TIME, f"time {_shown(text)} is not text")
        match = _DAY_AND_TIME.match(text)
        if match:
            year, month, day, hour, minute, second = (int(part) for part in match.groups()[:6])
            fraction = match.group(7)
        else:
            match = _TIME_ONLY.match(text)
            if not match:
                raise TickRejected(RejectCode.TIME, f"time {_shown(text)} is in no known form")
            hour, minute, second = (int(part) for part in match.groups()[:3])
            fraction = match.group(4)
            year, month, day = self._date_from_witness(text, seq, timestamp_sec)
        try:
            moment = datetime(year, month, day, hour, minute, second, tzinfo=self._zone)
            base_ms = int(moment.timestamp()) * 1000
            trading_day = self.market.market.trading_day(base_ms)
        except (ValueError, OverflowError) as exc:
            raise TickRejected(RejectCode.TIME, f"time {_shown(text)} is not a date and time: {exc}") from None
        if not self.days.hold(trading_day, recv_ts_ms):
            raise TickRejected(RejectCode.DAY, f"time {_shown(text)} is of no day that now has ticks")
        if len(text) in (19, 23) and text[10:11] == " ":
            if len(self._seconds) >= SECOND_CACHE_ENTRIES:
                self._seconds.clear()
            self._seconds[text[:19]] = (base_ms, trading_day)
        return base_ms + (int(fraction[:3].ljust(3, "0")) if fraction else 0), trading_day

    def _date_from_witness(self, text: str, seq: int | None, timestamp_sec: float) -> tuple[int, int, int]:
        """Local date for a time string without one, from ``timestamp``, else from the sequence's second."""
        seq_sec = float(seq >> SEQ_COUNTER_BITS) if seq and self.market.is_second_in_seq else 0.0
        for epoch_sec in (timestamp_sec, seq_sec):
            if EARLIEST_WITNESS_SEC <= epoch_sec < 1e11:  # far from overflow
                moment = datetime.fromtimestamp(epoch_sec, tz=UTC).astimezone(self._zone)
                return moment.year, moment.month, moment.day
        raise TickRejected(
            RejectCode.TIME, f"time {_shown(text)} has no date, and neither timestamp nor sequence gives one"
        )


def _shown(value: object) -> str:
    """A value of OpenD's in a reason."""
    return cut(ascii(value))


def _absurd_amount(price: float, turnover: float) -> TickRejected:
    if not 0.0 <= price <= MAX_PRICE:
        return TickRejected(RejectCode.PRICE, f"price {price!r} is not a number from 0 to {MAX_PRICE:g}")
    return TickRejected(RejectCode.TURNOVER, f"turnover {turnover!r} is not a number from 0 to {MAX_TURNOVER:g}")


def _ask_witnesses(text: str, ts_ms: int, seq: int | None, timestamp_sec: float) -> None:
    """Raise ``TickRejected`` when every witness puts a tick on another day than its time does.

    The timestamp's meaning is documented; the sequence's second is not, and counts only where it can be one.
    """
    if abs(ts_ms - timestamp_sec * 1000.0) <= DOUBTED_MS:
        return
    seq_sec = (seq or 0) >> SEQ_COUNTER_BITS
    if seq_sec >= EARLIEST_WITNESS_SEC and abs(ts_ms - seq_sec * 1000) <= DOUBTED_MS:
        return
    raise TickRejected(
        RejectCode.WITNESSES,
        f"time {_shown(text)} is more than a day away from timestamp {timestamp_sec!r} and sequence {seq}",
    )


def _other_volume(message: TickerMessage, market: FutuMarket) -> int | None:
    """``hpVolume`` is newer and stands in when ``volume`` is absent.

    Where a trade may be of less than a share, None for one of a part of a share: no whole number is right, and turnover
    by price tells the part. Without a turnover it is rejected, for then nothing that is stored would tell it.
    """
    volume = message.volume
    if 0 <= volume <= MAX_VOLUME and message.HasField("hpVolume"):
        high_precision = message.hpVolume
        is_amount = 0.0 <= high_precision <= MAX_VOLUME
        if is_amount and high_precision.is_integer():
            return int(high_precision)
        if is_amount and not market.is_volume_whole and message.turnover > 0.0 and message.price > 0.0:
            return None
        raise TickRejected(
            RejectCode.VOLUME, f"hpVolume {high_precision!r} is not a whole number of shares up to {MAX_VOLUME}"
        )
    if volume:
        raise TickRejected(RejectCode.VOLUME, f"volume {volume} is not a number of shares from 0 to {MAX_VOLUME}")
    return volume


def raw_fields(message: Any) -> dict[str, object]:
    """The fields that are set in a protobuf message, as plain values that JSON can hold; long texts are cut."""
    fields: dict[str, object] = {}
    for descriptor, value in message.ListFields():
        if isinstance(value, bytes):
            fields[descriptor.name] = cut(value.decode("utf-8", "backslashreplace"))
        elif isinstance(value, str):
            fields[descriptor.name] = cut(value)
        else:
            odd = isinstance(value, float) and not math.isfinite(value)
            fields[descriptor.name] = repr(value) if odd else value
    return fields


def unread_rows(messages: Sequence[Any], rejected: Sequence[RejectedTick]) -> list[UnreadRow]:
    """The places of the rejected ones among the messages that were mapped, both in the same order."""
    rows: list[UnreadRow] = []
    for position, message in enumerate(messages):
        if len(rows) == len(rejected):
            break
        if raw_fields(message) == rejected[len(rows)].raw:
            rows.append(UnreadRow(position, sequence_of(rejected[len(rows)])))
    return rows
