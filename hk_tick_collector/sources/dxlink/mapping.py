"""From a TimeAndSale to a tick in UTC, or to an amendment of one that was told before.

- ``ts_ms`` is ``time``; the index repeats it and is a witness: disagreement is counted and moves nothing.
- ``seq`` is ``index``: seconds, milliseconds and sequence in 32, 10 and 22 bits. Programs in JavaScript between the
  server and us round it; then its lower bits are not ``sequence``, and it is made anew from time and sequence.
- ``tick_type`` is named as for every source of the market, so that bars are made by the market's own rule. What the
  server calls not valid makes no price. The source's own words are kept in ``conditions``.
- A part of a share has no whole number: ``volume`` is NULL, and ``turnover``, price x size, by the price is the part.
- A correction or a cancel leaves its tick as it is, and is kept beside it; a size that is a part, in its words.

What cannot be mapped becomes a ``RejectedTick``, whole; the others go on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hk_tick_collector.core.errors import RejectCode, TickRejected
from hk_tick_collector.core.facts import CANCEL, CORRECTION, Amended
from hk_tick_collector.core.text import cut, plain, printable
from hk_tick_collector.market.market import Market
from hk_tick_collector.records.tick import PUSH_TYPE_PUSH, RejectedTick, Tick, tick_with
from hk_tick_collector.sources.dxlink.messages import FIELDS, Broken, Row
from hk_tick_collector.sources.parts import is_part, turnover_of
from hk_tick_collector.sources.plausible import DayOfMinute, PlausibleDays
from hk_tick_collector.sources.remote.conversation import MAX_REJECTED

DxTick: Any = tick_with("ts_ns_part", "venue", "conditions", "bid_price", "ask_price")
_FLAGS, _KIND = FIELDS.index("eventFlags"), FIELDS.index("type")
AMENDING = ("CORRECTION", "CANCEL")
REMOVED, SNAPSHOT = 0x02, 0x04 | 0x08 | 0x10  # eventFlags
SEQUENCE_BITS, SECOND_SHIFT, MS_SHIFT = 22, 32, 22
ROUNDED = 0x3FF  # the bits that are nought in every index that was a double once
MAX_PRICE, MAX_SIZE, MAX_TIME_MS = 1e8, 10**12, 4_102_444_800_000
DOUBTED_MS = 86_400_000  # an index that is further off than this doubts a time
TEXT_CHARS, WORDS_KEPT = 32, 4096
RAW_VALUES = 40  # of a broken row


@dataclass(slots=True)
class Mapped:
    """What became of the rows of a message: ticks by symbol in the order they came."""

    ticks: dict[str, list[Tick]] = field(default_factory=dict)
    rejected: list[RejectedTick] = field(default_factory=list)
    amended: list[Amended] = field(default_factory=list)
    disagree_rows: int = 0  # whose index has another time than the trade


class _Words(dict[str, str | None]):
    """Texts as they are stored: made fit once for those that come with nearly every trade. dxFeed writes "NaN" also
    where a text is missing."""

    def __missing__(self, text: str) -> str | None:
        word = printable(cut(text, TEXT_CHARS)) if text.strip("\0 ") and text != "NaN" else None
        if len(text) <= TEXT_CHARS:
            if len(self) >= WORDS_KEPT:
                self.clear()
            self[text] = word
        return word

    def of(self, value: Any) -> str | None:
        """Of whatever came; None for what is no text."""
        return self[value] if type(value) is str else None


class TradeMapper:
    """One instance for one connection, used by one thread. ``symbols``: ours by dxFeed's; may be added to.
    ``push_type``: how its ticks came."""

    def __init__(
        self, market: Market, days: PlausibleDays, symbols: Mapping[str, str], push_type: str = PUSH_TYPE_PUSH
    ) -> None:
        self._push_type = push_type
        self._days = DayOfMinute(market, days)
        self._symbols = symbols
        self._has_parts = market.code == "US"  # of a share
        self._negative = market.code == "CME"  # oil has traded below zero, spreads often do
        self._words = _Words()
        self._disagree_rows = 0  # of the message at hand

    def map(self, rows: Iterable[Row | Broken], recv_ts_ms: int) -> Mapped:
        """Every row ends as one of the three, up to MAX_REJECTED that are rejected."""
        mapped = Mapped()
        self._disagree_rows = 0
        ticks, rejected, symbols = mapped.ticks, mapped.rejected, self._symbols
        for row in rows:
            if len(rejected) >= MAX_REJECTED:
                break
            if type(row) is Broken:
                rejected.append(_broken(row, recv_ts_ms))
                continue
            name = row[0]
            symbol = symbols.get(name) if isinstance(name, str) else None
            try:
                if symbol is None:
                    raise TickRejected(RejectCode.UNWANTED, f"nobody asked for symbol {cut(ascii(name))}")
                kind = _kind_of(row)
                if kind in AMENDING:
                    mapped.amended.append(self._amendment(symbol, row, kind, recv_ts_ms))
                    continue
                tick = self._tick(symbol, row, recv_ts_ms)
            except TickRejected as exc:
                shown = symbol or (cut(name, TEXT_CHARS) if isinstance(name, str) else "")
                rejected.append(RejectedTick(shown, str(exc), _raw(row), recv_ts_ms, exc.code))
                continue
            if symbol in ticks:
                ticks[symbol].append(tick)
            else:
                ticks[symbol] = [tick]
        mapped.disagree_rows = self._disagree_rows
        return mapped

    def _tick(self, symbol: str, row: Row, recv_ts_ms: int) -> Tick:
        (
            _, index, time_ms, price, size, flags, nano_part, sequence, venue, bid, ask, conditions, side,
            is_leg, is_extended, is_valid, _,
        ) = row  # fmt: skip
        seq, trading_day = self._seq_and_day(index, time_ms, sequence, recv_ts_ms)
        words = self._words
        worth = price if type(price) is float and 0.0 <= price <= MAX_PRICE else self._price(price)
        volume = turnover = None
        if type(size) is int and 0 <= size <= MAX_SIZE:
            volume = size
        else:
            turnover = turnover_of(worth, size, MAX_SIZE) if self._has_parts else None
            volume = _size(size) if turnover is None else None
        is_snapshot = self._push_type != PUSH_TYPE_PUSH or (type(flags) is int and flags & SNAPSHOT)
        tick: Tick = tuple.__new__(
            DxTick,
            (
                symbol,
                time_ms,
                worth,
                volume,
                turnover,
                side if side in ("BUY", "SELL") else "NEUTRAL",
                seq,
                _trade_type(is_valid, is_leg, is_extended, conditions),
                self._push_type,
                trading_day,
                recv_ts_ms,
                "SNAPSHOT" if is_snapshot else "REALTIME",
                None,
                None,
                0,
                nano_part if type(nano_part) is int and 0 <= nano_part < 1_000_000 else None,
                words[venue] if type(venue) is str else None,
                words[conditions] if type(conditions) is str else None,
                bid if type(bid) is float and 0.0 <= bid <= MAX_PRICE else _quote(bid),
                ask if type(ask) is float and 0.0 <= ask <= MAX_PRICE else _quote(ask),
            ),
        )
        return tick

    def _amendment(self, symbol: str, row: Row, kind: str, recv_ts_ms: int) -> Amended:
        _, index, time_ms, price, size, _, _, sequence, _, _, _, conditions, *_ = row
        seq, trading_day = self._seq_and_day(index, time_ms, sequence, recv_ts_ms)
        is_correction = kind == "CORRECTION"
        is_a_part = is_correction and self._has_parts and is_part(size, MAX_SIZE)
        words = [f"size {size!r}" if is_a_part else None, self._words.of(conditions)]
        return Amended(
            symbol,
            trading_day,
            CORRECTION if is_correction else CANCEL,
            recv_ts_ms,
            time_ms,
            seq,
            self._price(price) if is_correction else None,
            _size(size) if is_correction and not is_a_part else None,
            source_text="; ".join(word for word in words if word) or None,
        )

    def _seq_and_day(self, index: Any, time_ms: Any, sequence: Any, recv_ts_ms: int) -> tuple[int, str]:
        if type(time_ms) is not int or not 0 < time_ms < MAX_TIME_MS:
            raise TickRejected(RejectCode.TIME, f"time {cut(ascii(time_ms))} is not a time in milliseconds")
        day = self._days.known.get(time_ms // 60_000) or self._days.of(time_ms, recv_ts_ms)
        has_sequence = type(sequence) is int and 0 <= sequence < 1 << SEQUENCE_BITS
        if type(index) is not int or not 0 < index < 1 << 63 or (has_sequence and index & 0x3FFFFF != sequence):
            if not has_sequence:
                raise TickRejected(RejectCode.TIME, f"index {cut(ascii(index))} names no trade")
            index = time_ms // 1000 << SECOND_SHIFT | time_ms % 1000 << MS_SHIFT | sequence
        elif not has_sequence and index & ROUNDED == 0:
            raise TickRejected(RejectCode.TIME, f"index {index} may have been rounded, and no sequence tells")
        elif (index >> SECOND_SHIFT) * 1000 + (index >> MS_SHIFT & 0x3FF) != time_ms:
            self._disagree(index, time_ms)
        return index, day

    def _disagree(self, index: int, time_ms: int) -> None:
        self._disagree_rows += 1
        if abs((index >> SECOND_SHIFT) * 1000 - time_ms) > DOUBTED_MS:
            raise TickRejected(RejectCode.WITNESSES, f"time {time_ms} is more than a day away from index {index}")

    def _price(self, value: Any) -> float:
        if type(value) in (int, float) and -MAX_PRICE <= value <= MAX_PRICE and (value >= 0 or self._negative):
            return float(value)
        least = f"-{MAX_PRICE:g}" if self._negative else "0"
        raise TickRejected(RejectCode.PRICE, f"price {cut(ascii(value))} is not a number from {least} to {MAX_PRICE:g}")


def _size(value: Any) -> int:
    if type(value) in (int, float) and 0 <= value <= MAX_SIZE and value == int(value):
        return int(value)
    raise TickRejected(RejectCode.VOLUME, f"size {cut(ascii(value))} is not a whole number from 0 to {MAX_SIZE}")


def _kind_of(row: Row) -> Any:
    """What the server calls it, or that it was taken back."""
    flags = row[_FLAGS]
    return "CANCEL" if type(flags) is int and flags & REMOVED else row[_KIND]


def _quote(value: Any) -> float | None:
    return float(value) if type(value) in (int, float) and -MAX_PRICE <= value <= MAX_PRICE else None


def _trade_type(is_valid: Any, is_leg: Any, is_extended: Any, conditions: Any) -> str:
    """The market's word. An odd lot is one by the letter I among the SIP's conditions."""
    if isinstance(conditions, str) and "I" in conditions and conditions != "NaN":
        return "ODD_LOT"
    if is_valid is False or is_leg is True:
        return "NON_AUTO_MATCH"
    return "EXTENDED_TRADING_HOURS" if is_extended is True else "AUTO_MATCH"


def _raw(row: Row) -> dict[str, object]:
    return {name: plain(value) for name, value in zip(FIELDS, row, strict=True) if value is not None}


def _broken(row: Broken, recv_ts_ms: int) -> RejectedTick:
    raw: dict[str, object] = {"values": [plain(value) for value in row.values[:RAW_VALUES]]}
    reason = f"{len(row.values)} values are no whole event"
    return RejectedTick("", reason, raw, recv_ts_ms, RejectCode.SYMBOL)
