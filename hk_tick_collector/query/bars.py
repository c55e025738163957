"""Bars out of ticks: one Arrow table in, one out. Pure: no file, no clock, no DuckDB.

What a bar is
- It is labelled with its start and holds its first millisecond, not its end's. Starts are aligned to the Hong Kong
  clock: multiples of the interval since midnight there. ``1h`` gives a bar 09:00 with what was traded from 09:30.
- Only the trades that make the price (``trade_types``) give open, high, low, close and VWAP. Open and close are the
  first and the last of them in the order of time, then sequence.
- Volume, turnover, tick count and the volumes by direction are those of the same trades, plus odd lots and
  off-exchange trades when the rule counts them. A bar of such trades alone has no price.
- No trade, no bar: lunch makes none, and neither does a tick whose price or volume is 0. The opening auction is in the
  bar of 09:20, the closing auction in that of 16:08 (half day 12:08), each where its prints are. Prints of the last
  match may carry 12:00:00 or 16:00:00 and make a bar.
- ``Fill`` adds the bars between in continuous trading, at the last close, with no volume.

Exactness: volumes are int64 sums. Turnover is the float64 nearest to the exact sum of the turnovers as decimals, VWAP
the one nearest to exact turnover / volume of the trades that make the price. A turnover that is absent is price x
volume, rounded to the thousandth of a dollar; an absent volume is 0.

Where one unit of volume is not one of what the price is of (``Market.volume_unit``: Taiwan's lots of 1000 shares, a
contract with a multiplier), VWAP is price x volume / volume, and an absent turnover that of as many as the unit holds;
of a contract whose multiplier is not known, price x volume.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from hk_tick_collector.days.clock import local_ms, trading_days
from hk_tick_collector.days.order import sort_table
from hk_tick_collector.days.schema import TEXT, UTC_MS
from hk_tick_collector.market.dates import DAY_MS
from hk_tick_collector.market.market import Market
from hk_tick_collector.market.zone import Zone
from hk_tick_collector.query.trade_types import TradeRule, is_trade

INPUT_COLUMNS = ("symbol", "ts_ms", "seq", "price", "volume", "turnover", "direction", "tick_type")
BARS = pa.schema(
    [
        pa.field("symbol", TEXT, nullable=False),
        pa.field("trading_day", TEXT, nullable=False),
        pa.field("start_ms", UTC_MS, nullable=False),
        pa.field("open", pa.float64()),
        pa.field("high", pa.float64()),
        pa.field("low", pa.float64()),
        pa.field("close", pa.float64()),
        pa.field("vwap", pa.float64()),
        pa.field("volume", pa.int64(), nullable=False),
        pa.field("turnover", pa.float64(), nullable=False),
        pa.field("tick_count", pa.int64(), nullable=False),
        pa.field("buy_volume", pa.int64(), nullable=False),
        pa.field("sell_volume", pa.int64(), nullable=False),
        pa.field("neutral_volume", pa.int64(), nullable=False),
    ]
)
_INTERVAL = re.compile(r"([0-9]{1,5})(s|m|h)")
_UNIT_MS = {"s": 1000, "m": 60_000, "h": 3_600_000}
_THOUSANDTH = 1000  # HKEX's smallest price step is 0.001, so a turnover has three decimals

_Ints = npt.NDArray[np.int64]
_Floats = npt.NDArray[np.float64]
_Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Fill:
    """Carry the close forward: a bar for every interval of these windows, from a day's first price on.

    ``windows``: continuous trading as (start_ms, end_ms), UTC epoch ms, end exclusive, in order; several days are fine
    (a close is never carried into the next day). ``until_ms``: no bar that begins at this instant or later.
    """

    windows: Sequence[tuple[int, int]]
    until_ms: int


def parse_interval_ms(text: str) -> int:
    """``1s``, ``5m``, ``1h`` -> milliseconds. ValueError says what is wrong; a day is the longest."""
    match = _INTERVAL.fullmatch(text)
    if not match or int(match[1]) == 0:
        raise ValueError(f"{text!r} is not an interval: write a number and s, m or h, for example 1s, 5m or 1h")
    interval_ms = int(match[1]) * _UNIT_MS[match[2]]
    if interval_ms > DAY_MS:
        raise ValueError(f"{text!r} is longer than a day: 24h is the longest interval")
    return interval_ms


def make_bars(
    ticks: pa.Table, interval_ms: int, market: Market, rule: TradeRule | None = None, fill: Fill | None = None
) -> pa.Table:
    """The bars of ``ticks`` (columns ``INPUT_COLUMNS``, any order, any symbols and days) as a table of ``BARS``, by
    symbol and start.

    ``ticks`` has the types of ``days.schema.TICKS``. See the module for what a bar is.
    """
    rule = rule or TradeRule(market.trade_types)
    trades = _Trades.of(sort_table(ticks.select(list(INPUT_COLUMNS))), rule, interval_ms, market)
    columns: list[dict[str, Any]] = []
    if len(trades.starts):
        bars = _aggregated(trades)
        edges = np.flatnonzero(np.diff(bars["code"])) + 1
        for first, last in zip([0, *edges.tolist()], [*edges.tolist(), len(bars["code"])], strict=True):
            part = {name: values[first:last] for name, values in bars.items()}
            columns.append(_filled(part, fill, interval_ms, market) if fill is not None else part)
    return _table(columns, trades.names, market)


def with_fill(bars: pa.Table, interval_ms: int, market: Market, fill: Fill) -> pa.Table:
    """What ``make_bars`` gives with ``fill``, of one symbol's bars that it gave without."""
    if not bars.num_rows:
        return bars
    own = {name: _chunk(bars, name) for name in BARS.names if name not in ("symbol", "trading_day")}
    part: dict[str, Any] = {
        name: _numbers(values, np.nan) if pa.types.is_floating(values.type) else values.cast(pa.int64()).to_numpy()
        for name, values in own.items()
    }
    part["code"] = np.zeros(bars.num_rows, np.int64)
    return _table([_filled(part, fill, interval_ms, market)], [bars.column("symbol")[0].as_py()], market)


def bar_start_ms(ts_ms: _Ints, interval_ms: int, zone: Zone) -> _Ints:
    """Starts of the bars that hold these instants, UTC epoch ms."""
    of_day = local_ms(ts_ms, zone) % DAY_MS
    starts: _Ints = ts_ms - of_day % interval_ms
    return starts


@dataclass(frozen=True)
class _Trades:
    """Trades that count, in the order of symbol, time, sequence, as arrays of equal length."""

    names: list[str]  # what the codes mean
    codes: _Ints
    starts: _Ints
    price: _Floats
    volume: _Ints
    turnover: _Floats
    weight: _Floats  # price x volume: what VWAP divides by the volume
    makes_price: _Bools
    buys: _Bools
    sells: _Bools
    has_volume: _Bools  # a part of a share has none: its turnover weighs in no VWAP
    group: _Ints = field(init=False)  # number of the bar
    group_starts: _Ints = field(init=False)  # where each bar's trades begin

    def __post_init__(self) -> None:
        is_new = np.ones(len(self.starts), np.bool_)
        is_new[1:] = (np.diff(self.starts) != 0) | (np.diff(self.codes) != 0)
        object.__setattr__(self, "group", np.cumsum(is_new) - 1)
        object.__setattr__(self, "group_starts", np.flatnonzero(is_new))

    @classmethod
    def of(cls, ticks: pa.Table, rule: TradeRule, interval_ms: int, market: Market) -> _Trades:
        counts = _where_text(ticks, "tick_type", rule.counts) & is_trade(ticks).to_numpy()
        if not counts.all():
            ticks = ticks.filter(pa.array(counts)).combine_chunks()
        symbols = _chunk(ticks, "symbol")
        price_column = _chunk(ticks, "price")
        price = _numbers(price_column, 0.0)
        volume = _numbers(_chunk(ticks, "volume"), 0)
        names, codes = symbols.dictionary.to_pylist(), symbols.indices.to_numpy(zero_copy_only=False).astype(np.int64)
        turnover, weight = _money(_chunk(ticks, "turnover"), price * volume, _units(names, codes, market), market)
        return cls(
            names,
            codes,
            bar_start_ms(
                _chunk(ticks, "ts_ms").view(pa.int64()).to_numpy(zero_copy_only=False), interval_ms, market.zone
            ),
            price,
            volume,
            turnover,
            weight,
            _where_text(ticks, "tick_type", rule.prices) & _valid(price_column),
            _where_text(ticks, "direction", lambda text: text == "BUY"),
            _where_text(ticks, "direction", lambda text: text == "SELL"),
            _valid(_chunk(ticks, "volume")),
        )


def _units(names: list[str], codes: _Ints, market: Market) -> _Floats | None:
    """Of each trade, how many of what its price is of are in one unit of its volume, NaN where that is not known; None:
    of every trade, one."""
    units = [market.volume_unit(name) for name in names]
    if all(unit == 1 for unit in units):
        return None
    return np.array([np.nan if unit is None else unit for unit in units], np.float64)[codes]


def _money(column: pa.Array, worth: _Floats, units: _Floats | None, market: Market) -> tuple[_Floats, _Floats]:
    """Turnover of each trade, and what VWAP divides by its volume. ``worth``: price x volume."""
    told, turnover = _valid(column), _numbers(column, 0.0)
    if units is None:
        if column.null_count:
            turnover = np.where(told, turnover, np.round(worth, market.price_decimals))
        return turnover, turnover
    made = np.round(worth * np.where(np.isnan(units), 1.0, units), market.price_decimals)
    turnover = np.where(told, turnover, made)
    return turnover, np.where(told & (units == 1), turnover, np.round(worth, market.price_decimals))


def _aggregated(trades: _Trades) -> dict[str, Any]:
    """One value a bar of everything in ``BARS``; NaN where a bar has no price."""
    at = trades.group_starts
    count = len(at)
    exact, scale = _as_integers(trades.turnover)
    buy = np.add.reduceat(np.where(trades.buys, trades.volume, 0), at)
    sell = np.add.reduceat(np.where(trades.sells, trades.volume, 0), at)
    volume = np.add.reduceat(trades.volume, at)
    bars: dict[str, Any] = {
        "code": trades.codes[at],
        "start_ms": trades.starts[at],
        "volume": volume,
        "turnover": np.array([int(total) / scale for total in np.add.reduceat(exact, at).tolist()], np.float64),
        "tick_count": np.diff(np.append(at, len(trades.group))),
        "buy_volume": buy,
        "sell_volume": sell,
        "neutral_volume": volume - buy - sell,
    }
    bars.update({name: np.full(count, np.nan) for name in ("open", "high", "low", "close", "vwap")})
    makes = trades.makes_price
    if makes.any():
        group, price = trades.group[makes], trades.price[makes]
        first = np.flatnonzero(np.append(True, np.diff(group) != 0))
        which = group[first]
        bars["open"][which] = price[first]
        bars["close"][which] = price[np.append(first[1:], len(group)) - 1]
        bars["high"][which] = np.maximum.reduceat(price, first)
        bars["low"][which] = np.minimum.reduceat(price, first)
        if trades.weight is not trades.turnover:
            exact, scale = _as_integers(trades.weight)
        totals = np.add.reduceat(np.where(trades.has_volume, exact, 0)[makes], first).tolist()
        volumes = np.add.reduceat(trades.volume[makes], first).tolist()
        bars["vwap"][which] = [
            int(total) / (scale * traded) if traded else np.nan for total, traded in zip(totals, volumes, strict=True)
        ]
    return bars


def _as_integers(values: _Floats) -> tuple[npt.NDArray[Any], int]:
    """The decimals that these floats stand for as whole numbers of 1/scale: sums of them are exact.

    Thousandths where every value is the float64 nearest to some, as all turnovers in Hong Kong are; else Python's
    integers at the scale that the longest value needs.
    """
    if not len(values) or np.abs(values).max() < 2.0**50 / _THOUSANDTH:
        thousandths = np.rint(values * _THOUSANDTH)
        if np.array_equal(thousandths / _THOUSANDTH, values):
            return thousandths.astype(np.int64), _THOUSANDTH
    exact = [Fraction(repr(value)) for value in values.tolist()]
    scale = max(_decimal_scale(value) for value in exact)
    return np.array([int(value * scale) for value in exact], dtype=object), scale


def _decimal_scale(value: Fraction) -> int:
    scale = 1
    while scale % value.denominator:
        scale *= 10
    return scale


def _filled(bars: dict[str, Any], fill: Fill, interval_ms: int, market: Market) -> dict[str, Any]:
    """One symbol's bars with those between, day by day."""
    starts = bars["start_ms"]
    days, codes = trading_days(starts, market)
    parts = []
    for code, day in enumerate(days):
        mine = codes == code
        day_start_ms, day_end_ms = market.day_bounds(day)
        windows = [window for window in fill.windows if day_start_ms <= window[0] < day_end_ms]
        firsts_ms = bar_start_ms(np.array([start_ms for start_ms, _ in windows], np.int64), interval_ms, market.zone)
        grid = [
            np.arange(first_ms, min(end_ms, fill.until_ms), interval_ms)
            for first_ms, (_, end_ms) in zip(firsts_ms, windows, strict=True)
        ]
        part = {name: values[mine] for name, values in bars.items()}
        parts.append(_day_filled(part, np.concatenate([*grid, np.array([], np.int64)])))
    return {name: np.concatenate([part[name] for part in parts]) for name in bars}


def _day_filled(bars: dict[str, Any], grid: _Ints) -> dict[str, Any]:
    """``bars`` of one symbol and day and, at every instant of ``grid`` after the first price without one, another."""
    own = bars["start_ms"]
    priced = np.flatnonzero(~np.isnan(bars["close"]))
    if not len(priced):
        return bars
    starts = np.union1d(own, grid[grid > own[priced[0]]])
    at = np.searchsorted(starts, own)
    filled: dict[str, Any] = {"start_ms": starts, "code": np.full(len(starts), bars["code"][0])}
    for name, values in bars.items():
        if name not in filled:
            blank = np.full(
                len(starts), np.nan if name in ("open", "high", "low", "close", "vwap") else 0, values.dtype
            )
            blank[at] = values
            filled[name] = blank
    last = np.searchsorted(own[priced], starts, side="right") - 1
    carried = np.where(last >= 0, bars["close"][priced][np.maximum(last, 0)], np.nan)
    for name in ("open", "high", "low", "close"):
        filled[name] = np.where(np.isnan(filled[name]), carried, filled[name])
    return filled


def _table(parts: list[dict[str, Any]], names: list[str], market: Market) -> pa.Table:
    if not parts:
        return BARS.empty_table()
    bars = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    days, day_codes = trading_days(bars["start_ms"], market)
    arrays: dict[str, pa.Array] = {
        "symbol": pa.DictionaryArray.from_arrays(pa.array(bars["code"], pa.int32()), pa.array(names, pa.string())),
        "trading_day": pa.DictionaryArray.from_arrays(pa.array(day_codes, pa.int32()), pa.array(days, pa.string())),
        "start_ms": pa.array(bars["start_ms"], pa.int64()).view(UTC_MS),
    }
    for column in BARS:
        if column.name not in arrays:
            arrays[column.name] = pa.array(
                bars[column.name], column.type, from_pandas=pa.types.is_floating(column.type)
            )
    return pa.Table.from_arrays([arrays[name] for name in BARS.names], schema=BARS)


def _chunk(table: pa.Table, name: str) -> pa.Array:
    column = table.column(name)
    if column.num_chunks == 1:
        return column.chunk(0)
    return column.unify_dictionaries().combine_chunks() if column.num_chunks else pa.array([], column.type)


def _valid(array: pa.Array) -> _Bools:
    return np.asarray(array.is_valid())


def _numbers(array: pa.Array, absent: float) -> npt.NDArray[Any]:
    numbers: npt.NDArray[Any] = pc.fill_null(array, absent).to_numpy(zero_copy_only=False)
    return numbers


def _where_text(table: pa.Table, name: str, test: Any) -> _Bools:
    """For which rows ``test`` holds of a dictionary column's text (None for NULL); asked once a distinct text."""
    array = _chunk(table, name)
    answers = np.array([bool(test(text)) for text in array.dictionary.to_pylist()] + [bool(test(None))], np.bool_)
    codes = pc.fill_null(array.indices, len(answers) - 1).to_numpy(zero_copy_only=False)
    where: _Bools = answers[codes]
    return where
