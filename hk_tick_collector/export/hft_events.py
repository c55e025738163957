"""Ticks and books of one symbol as HftBacktest's events: what happened at the exchange, and when we saw it.

HftBacktest (2.x) takes an array of 64-byte events in nanoseconds. A row that the exchange processes has the flag EXCH
and stands in the order of ``exch_ts``, one that we see has LOCAL and stands in the order of ``local_ts``; where the two
orders differ, a row is there twice, once for each (``in_both_orders``). Within one channel, trades or depth, nothing is
reordered to fit the other.

A trade happens at its event time. A side of the book changes at the time that Futu's server gives it, since the
exchange's own is not sent. We see both when the recorder read them, if they were pushed as they happened; what was
pulled or repaired later has no latency that means anything, and gets a modelled one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

NS_PER_MS = 1_000_000
EVENT = np.dtype(
    [("ev", "<u8"), ("exch_ts", "<i8"), ("local_ts", "<i8"), ("px", "<f8"), ("qty", "<f8"), ("order_id", "<u8"),
     ("ival", "<i8"), ("fval", "<f8")],
    align=True,
)  # fmt: skip
DEPTH, TRADE, CLEAR, SNAPSHOT = 1, 2, 3, 4
EXCH, LOCAL, BUY, SELL = 1 << 31, 1 << 30, 1 << 29, 1 << 28

# Pushed, and seen so long before or after it happened: a clock was wrong, or a line was down. (Of a side of the book,
# so much earlier than as a rule.)
EARLY_MS, LATE_MS = 1_000, 10_000
FOR_EVER = np.iinfo(np.int64).max
# No market has such a price, or so many shares at once; steps and backtesters have no room for them.
PRICE_LIMIT, VOLUME_LIMIT = 1e9, 1e12
NO_MEASURE_MS = 50.0  # where nothing was measured at all

TICK_COLUMNS = ("ts_ms", "ts_ns_part", "seq", "recv_ts_ms", "price", "volume", "direction", "tick_type", "push_type",
                "push_data_type")  # fmt: skip

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Events = npt.NDArray[np.void]


class LatencyMode(StrEnum):
    """Where the time between the exchange and us comes from."""

    MEASURED = "measured"
    CONSTANT = "constant"
    LOGNORMAL = "lognormal"


@dataclass(frozen=True, slots=True)
class Latency:
    """Feed latency. ``mean_ms`` and ``sd_ms`` are of the model's latencies themselves; ``seed`` makes them the same
    again."""

    mode: LatencyMode = LatencyMode.MEASURED
    mean_ms: float = 0.0
    sd_ms: float = 0.0
    seed: int = 0

    def draw_ns(self, rows: int, series: str, typical_ms: float) -> Ints:
        """Modelled latencies; to measure, the typical one. ``series`` tells draws of one seed apart."""
        if self.mode is LatencyMode.LOGNORMAL:
            variance = np.log1p((self.sd_ms / self.mean_ms) ** 2)
            draw = np.random.default_rng([self.seed, *series.encode()])
            drawn = draw.lognormal(np.log(self.mean_ms) - variance / 2, np.sqrt(variance), rows)
            return np.rint(drawn * NS_PER_MS).astype(np.int64)
        ms = self.mean_ms if self.mode is LatencyMode.CONSTANT else typical_ms
        return np.full(rows, round(ms * NS_PER_MS), np.int64)


@dataclass
class Told:
    """What was counted on the way to the events of one symbol."""

    counts: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)  # ticks, by their type
    typical_latency_ms: float | None = None  # the median of what was measured

    def add(self, counter: str, number: int) -> None:
        """Count, where there is anything to count."""
        if number:
            self.counts[counter] = self.counts.get(counter, 0) + int(number)


def beyond_limit(price: npt.NDArray[Any], volume: npt.NDArray[Any], told: Told) -> Bools:
    """Which of these an export leaves out, and counts here: what no market has."""
    is_beyond = (np.abs(price) >= PRICE_LIMIT) | (np.abs(volume) >= VOLUME_LIMIT)
    told.add("beyond_limit", int(np.count_nonzero(is_beyond)))
    return np.asarray(is_beyond)


class Rows(NamedTuple):
    """Events before they are ordered; columns of one length."""

    ev: npt.NDArray[np.uint64]
    exch_ns: Ints
    local_ns: Ints
    price: Floats
    quantity: Floats

    @staticmethod
    def none() -> Rows:
        """No events."""
        nothing = np.zeros(0, np.int64)
        return Rows(nothing.astype(np.uint64), nothing, nothing, nothing.astype(float), nothing.astype(float))

    def then(self, others: Rows) -> Rows:
        """These, and behind them the others."""
        return Rows(*(np.concatenate(columns) for columns in zip(self, others, strict=True)))


class Trades(NamedTuple):
    """A symbol's trades in the order of the tape; columns of one length."""

    exch_ns: Ints
    local_ns: Ints  # when we saw it; it may fall where a trade was seen before an earlier one
    price: Floats
    volume: Floats
    side: Ints  # of who took it: 0 not told, 1 a buyer, 2 a seller
    seq: Ints  # 0 where it has none


def trades_of(
    ticks: pa.Table, types: frozenset[str], latency: Latency, symbol: str, told: Told, *, tick_rule: bool = False
) -> Trades:
    """``ticks`` has TICK_COLUMNS; other types than ``types``, and trades without a price or volume, are left out and
    counted. ``tick_rule``: NEUTRAL trades get the side of the last change of price."""
    if not ticks.column("seq").null_count:
        ticks = ticks.sort_by("seq")
    ticks = _chosen(ticks, types, told)
    price, volume = _floats(ticks, "price"), _floats(ticks, "volume")
    exch_ns = _ints(ticks, "ts_ms") * NS_PER_MS + _ints(ticks, "ts_ns_part")
    local_ns = _seen_ns(ticks, exch_ns, latency, f"{symbol} trades", told)
    buys, sells = (
        np.asarray(pc.fill_null(pc.equal(ticks.column("direction"), side), False)) for side in ("BUY", "SELL")
    )
    if tick_rule:
        change = np.sign(np.diff(price, prepend=price[:1]))
        last = np.maximum.accumulate(np.where(change != 0, np.arange(len(price)), 0))
        neutral = ~(buys | sells)
        buys, sells = buys | (neutral & (change[last] > 0)), sells | (neutral & (change[last] < 0))
    told.add("trades", len(price))
    told.add("trades_without_side", int(np.count_nonzero(~(buys | sells))))
    side = np.where(buys, 1, np.where(sells, 2, 0)).astype(np.int64)
    return Trades(exch_ns, local_ns, price, volume, side, _ints(ticks, "seq"))


_EV_OF_SIDE = np.array([TRADE, TRADE | BUY, TRADE | SELL], np.uint64)


def trade_rows(trades: Trades) -> Rows:
    """Trades as events."""
    return Rows(_EV_OF_SIDE[trades.side], trades.exch_ns, trades.local_ns, trades.price, trades.volume)


def _chosen(ticks: pa.Table, types: frozenset[str], told: Told) -> pa.Table:
    kinds = ticks.column("tick_type").cast(pa.string())
    right_type = pc.fill_null(pc.is_in(kinds, pa.array(sorted(types), pa.string())), False)
    for type_count in pc.value_counts(kinds.filter(pc.invert(right_type)).combine_chunks()).to_pylist():
        told.left_out[type_count["values"] or "none"] = type_count["counts"]
    ticks = ticks.filter(right_type)
    priced = np.asarray(
        pc.fill_null(pc.and_(pc.greater(ticks.column("price"), 0), pc.greater(ticks.column("volume"), 0)), False)
    )
    told.add("trades_without_price_or_volume", int(np.count_nonzero(~priced)))
    ticks = ticks.filter(pa.array(priced))
    return ticks.filter(pa.array(~beyond_limit(_floats(ticks, "price"), _floats(ticks, "volume"), told)))


def _seen_ns(ticks: pa.Table, exch_ns: Ints, latency: Latency, series: str, told: Told) -> Ints:
    """When we saw each trade."""
    pushed = np.asarray(pc.fill_null(pc.equal(ticks.column("push_data_type"), "REALTIME"), False))
    pushed &= np.asarray(pc.fill_null(pc.equal(ticks.column("push_type"), "push"), False))
    lag_ns = _ints(ticks, "recv_ts_ms") * NS_PER_MS - exch_ns
    outlier = pushed & ((lag_ns < -EARLY_MS * NS_PER_MS) | (lag_ns > LATE_MS * NS_PER_MS))
    measured = pushed & ~outlier
    if measured.any():
        told.typical_latency_ms = round(float(np.median(np.maximum(lag_ns[measured], 0))) / NS_PER_MS, 3)
    typical_ms = NO_MEASURE_MS if told.typical_latency_ms is None else told.typical_latency_ms
    modelled = latency.draw_ns(len(exch_ns), series, typical_ms)
    if latency.mode is not LatencyMode.MEASURED:
        told.add("latency_modelled", len(exch_ns))
        seen_ns = exch_ns + modelled
        # One trade with a time far ahead is not seen before those behind it, and would move all of them.
        risen_ns = np.maximum.accumulate(np.where(outlier, 0, seen_ns)) if len(seen_ns) else seen_ns
        return np.where(outlier, seen_ns, risen_ns)
    told.add("latency_modelled", int(np.count_nonzero(~pushed)))
    told.add("latency_outliers", int(np.count_nonzero(outlier)))
    told.add("latency_negative", int(np.count_nonzero(measured & (lag_ns < 0))))
    return exch_ns + np.where(measured, np.maximum(lag_ns, 0), modelled)


def in_both_orders(rows: Rows) -> Events:
    """The events, in an order that is right for the exchange and for us. Rows of one moment at the exchange keep the
    order in which they were given, those that we saw at one moment the exchange's.

    A row stands once where both orders allow it: those behind which none was seen earlier do."""
    order = np.argsort(rows.exch_ns, kind="stable")
    if not len(order):
        return np.zeros(0, EVENT)
    seen = np.empty(len(order), np.int64)  # each row's number among what we saw
    seen[np.argsort(rows.local_ns[order], kind="stable")] = np.arange(len(order))
    is_both = seen <= np.minimum.accumulate(seen[::-1])[::-1]
    late = np.flatnonzero(~is_both)
    late = late[np.argsort(seen[late])]
    both_at = np.append(np.flatnonzero(is_both), len(order))
    before = both_at[np.searchsorted(seen[is_both], seen[late])]
    place = np.concatenate((np.arange(len(order)) * 2 + 1, before * 2))
    row = np.concatenate((order, order[late]))
    flags = np.concatenate((np.where(is_both, EXCH | LOCAL, EXCH), np.full(len(late), LOCAL)))
    final = np.argsort(place, kind="stable")
    row, flags = row[final], flags[final]
    events = np.zeros(len(row), EVENT)
    events["ev"] = rows.ev[row] | flags.astype(np.uint64)
    events["exch_ts"], events["local_ts"] = rows.exch_ns[row], rows.local_ns[row]
    events["px"], events["qty"] = rows.price[row], rows.quantity[row]
    return events


ORDER_LATENCY = np.dtype([("req_ts", "<i8"), ("exch_ts", "<i8"), ("resp_ts", "<i8"), ("_padding", "<i8")])
_MINUTE_NS = 60_000 * NS_PER_MS


def order_latency(rows: Rows) -> npt.NDArray[np.void]:
    """What ``intp_order_latency`` takes: each minute the median of the feed's latency, there and back."""
    if not len(rows.exch_ns):
        return np.zeros(0, ORDER_LATENCY)
    minute = rows.exch_ns // _MINUTE_NS
    minute, lag_ns = _sorted_pairs(minute, rows.local_ns - rows.exch_ns)
    minutes, starts, counts = np.unique(minute, return_index=True, return_counts=True)
    medians = ((lag_ns[starts + (counts - 1) // 2] + lag_ns[starts + counts // 2]) / 2).astype(np.int64)
    table = np.zeros(len(minutes), ORDER_LATENCY)
    table["req_ts"] = minutes * _MINUTE_NS
    table["exch_ts"] = table["req_ts"] + medians
    table["resp_ts"] = table["exch_ts"] + medians
    return table


def _sorted_pairs(first: Ints, second: Ints) -> tuple[Ints, Ints]:
    """Both columns in the order of their rows. As one number a row, where it has room, since numbers are sorted many
    times faster than pairs."""
    lowest, offset = int(first.min()), int(second.min())
    width = int(second.max()) - offset + 1
    if (int(first.max()) - lowest + 1) * width >= FOR_EVER:
        order = np.lexsort((second, first))
        return first[order], second[order]
    numbers = np.sort((first - lowest) * width + (second - offset))
    rank = numbers // width
    return rank + lowest, numbers - rank * width + offset


def _ints(ticks: pa.Table, name: str) -> Ints:
    return np.asarray(pc.fill_null(ticks.column(name).cast(pa.int64()), 0)).astype(np.int64)


def _floats(ticks: pa.Table, name: str) -> Floats:
    return np.asarray(ticks.column(name)).astype(np.float64)
