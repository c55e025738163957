"""Bars against a naive implementation, and at the places where a day is not even."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hk_tick_collector.days.schema import TICKS
from hk_tick_collector.market.cme import CME
from hk_tick_collector.market.hk import HK
from hk_tick_collector.market.hk.sessions import day_start_ms
from hk_tick_collector.market.hours import DayKind, hm
from hk_tick_collector.market.market import Market
from hk_tick_collector.market.tw import TW
from hk_tick_collector.market.us import US
from hk_tick_collector.query.bars import BARS, Fill, make_bars, parse_interval_ms
from hk_tick_collector.query.trade_types import TradeRule
from hk_tick_collector.records.tick import MORE_COLUMNS, Tick
from tests.nights import examples
from tests.ticks import DAY, make_tick

MIDNIGHT_MS = day_start_ms(DAY)
MINUTE_MS = 60_000
TYPES = ("AUTO_MATCH", "INTER_AUTO_MATCH", "AUCTION", "ODD_LOT", "INTER_NON_AUTO_MATCH", "UNKNOWN", None)


def clock(text: str, day: str = DAY) -> int:
    """Hong Kong time of a day -> UTC epoch ms."""
    hour, minute, second = (float(part) for part in f"{text}:0".split(":")[:3])
    return day_start_ms(day) + round(((hour * 60 + minute) * 60 + second) * 1000)


def trade(at: str | int, price: float | None = 10.0, volume: int | None = 100, **fields: Any) -> Tick:
    """A trade at a Hong Kong time; its turnover is price x volume unless given."""
    ts_ms = clock(at) if isinstance(at, str) else at
    turnover = None if price is None or volume is None else round(price * volume, 3)
    given_fields: dict[str, Any] = {"turnover": turnover, "seq": None, **fields}
    return make_tick(1, ts_ms=ts_ms, price=price, volume=volume, **given_fields)


def arrow(ticks: Sequence[Tick]) -> pa.Table:
    columns = {name: [getattr(tick, name) for tick in ticks] for name in Tick._fields}
    columns["inserted_at_ms"] = columns["recv_ts_ms"]
    columns["market"], columns["provider"] = ["HK"] * len(ticks), ["futu"] * len(ticks)
    columns |= {name: [None] * len(ticks) for name in MORE_COLUMNS}
    arrays = []
    for field in TICKS:
        array = pa.array(columns[field.name], pa.int64() if pa.types.is_timestamp(field.type) else None)
        if pa.types.is_dictionary(field.type):
            array = array.cast(pa.string()).dictionary_encode()
        arrays.append(array.view(field.type) if pa.types.is_timestamp(field.type) else array.cast(field.type))
    return pa.Table.from_arrays(arrays, schema=TICKS)


def bars(ticks: Sequence[Tick], interval: str = "1m", rule: TradeRule | None = None, fill: Fill | None = None) -> Any:
    table = make_bars(arrow(ticks), parse_interval_ms(interval), HK, rule, fill)
    assert table.schema.equals(BARS)
    rows = table.to_pylist()
    starts = table.column("start_ms").cast(pa.int64()).to_pylist()
    return [{**row, "start_ms": start} for row, start in zip(rows, starts, strict=True)]


def starts(rows: Any) -> list[str]:
    """The bars' starts as Hong Kong times."""
    seconds = [(row["start_ms"] - MIDNIGHT_MS) // 1000 for row in rows]
    return [f"{second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d}" for second in seconds]


def naive_bars(ticks: Sequence[Tick], interval_ms: int, rule: TradeRule) -> list[dict[str, Any]]:
    """The definition, one tick at a time, in exact decimals."""
    offset_ms = 8 * 3_600_000
    ordered = sorted(ticks, key=lambda tick: (tick.symbol, tick.ts_ms, tick.seq is None, tick.seq or 0))
    ticks_of: dict[tuple[str, int], list[Tick]] = {}
    for tick in ordered:
        if rule.counts(tick.tick_type) and tick.price != 0 and tick.volume != 0:
            of_day = (tick.ts_ms + offset_ms) % 86_400_000
            ticks_of.setdefault((tick.symbol, tick.ts_ms - of_day % interval_ms), []).append(tick)
    result = []
    for (symbol, start_ms), members in sorted(ticks_of.items()):
        priced = [tick for tick in members if rule.prices(tick.tick_type) and tick.price is not None]
        prices = [tick.price for tick in priced]
        worth = sum((_worth(tick) for tick in priced if tick.volume is not None), Decimal(0))
        traded = sum(tick.volume or 0 for tick in priced)
        by_side = {
            side: sum(tick.volume or 0 for tick in members if tick.direction == side) for side in ("BUY", "SELL")
        }
        volume = sum(tick.volume or 0 for tick in members)
        result.append(
            {
                "symbol": symbol,
                "trading_day": DAY,
                "start_ms": start_ms,
                "open": prices[0] if prices else None,
                "high": max(prices) if prices else None,
                "low": min(prices) if prices else None,
                "close": prices[-1] if prices else None,
                "vwap": float(Fraction(worth) / traded) if traded else None,
                "volume": volume,
                "turnover": float(sum((_worth(tick) for tick in members), Decimal(0))),
                "tick_count": len(members),
                "buy_volume": by_side["BUY"],
                "sell_volume": by_side["SELL"],
                "neutral_volume": volume - by_side["BUY"] - by_side["SELL"],
            }
        )
    return result


def _worth(tick: Tick) -> Decimal:
    if tick.turnover is not None:
        return Decimal(repr(tick.turnover))
    return Decimal(repr(round((tick.price or 0.0) * (tick.volume or 0), 3)))


prices = st.one_of(st.none(), st.just(0.0), st.integers(1, 500_000).map(lambda thousandths: thousandths / 1000))
turnovers = st.one_of(
    st.none(),
    st.integers(0, 10**12).map(lambda thousandths: thousandths / 1000),
    st.floats(0, 1e9, allow_nan=False, allow_subnormal=False),
)
trades = st.builds(
    trade,
    st.integers(clock("09:00"), clock("16:15")) | st.integers(clock("09:59:58"), clock("10:00:02")),
    prices,
    st.none() | st.integers(0, 10**9),
    symbol=st.sampled_from(("HK.00700", "HK.00005")),
    seq=st.none() | st.integers(0, 3) | st.integers(0, 2**62),
    tick_type=st.sampled_from(TYPES),
    direction=st.sampled_from(("BUY", "SELL", "NEUTRAL", None)),
    turnover=turnovers,
)


@settings(max_examples=examples(150))
@given(
    st.lists(trades, max_size=40, unique_by=lambda tick: (tick.symbol, tick.ts_ms, tick.seq)),
    st.sampled_from(("1s", "7s", "1m", "5m", "45m", "1h", "24h")),
    st.builds(TradeRule, st.just(HK.trade_types), st.booleans(), st.booleans(), st.booleans()),
)
def test_bars_are_those_of_the_definition(ticks: list[Tick], interval: str, rule: TradeRule) -> None:
    assert bars(ticks, interval, rule) == naive_bars(ticks, parse_interval_ms(interval), rule)


def test_a_price_or_volume_of_zero_makes_no_bar() -> None:
    ticks = [trade("10:00:00", 600.0), trade("10:00:01", 0.0), trade("10:00:02", 601.0), trade("10:00:03", 650.0, 0)]
    (row,) = bars(ticks)
    assert (row["open"], row["high"], row["low"], row["close"], row["vwap"]) == (600.0, 601.0, 600.0, 601.0, 600.5)
    assert (row["volume"], row["tick_count"]) == (200, 2)
    assert bars([trade("10:00:01", 0.0), trade("10:00:03", 650.0, 0)]) == []


def test_a_bar_holds_its_start_and_not_its_end() -> None:
    rows = bars([trade("09:59:59.999", 1.0), trade("10:00:00", 2.0), trade("10:00:59.999", 3.0), trade("10:01", 4.0)])
    assert starts(rows) == ["09:59:00", "10:00:00", "10:01:00"]
    assert (rows[1]["open"], rows[1]["close"]) == (2.0, 3.0)


def test_time_decides_open_and_close_and_then_the_sequence() -> None:
    at = clock("10:00:01")
    ticks = [trade(at, 3.0, seq=30), trade(at, 1.0, seq=10), trade(at + 1, 9.0, seq=5), trade(at, 2.0, seq=20)]
    (row,) = bars(ticks)
    assert (row["open"], row["close"]) == (1.0, 9.0)
    (row,) = bars(ticks[:2] + ticks[3:])
    assert (row["open"], row["high"], row["low"], row["close"]) == (1.0, 3.0, 1.0, 3.0)


def test_odd_lots_and_off_exchange_trades_never_touch_the_price() -> None:
    ticks = [
        trade("10:00:01", 10.0, 100),
        trade("10:00:02", 99.0, 7, tick_type="ODD_LOT"),
        trade("10:00:03", 1.0, 1000, tick_type="INTER_NON_AUTO_MATCH"),
        trade("10:00:04", 0.5, 50, tick_type="LATE"),
    ]
    (row,) = bars(ticks)
    assert (row["low"], row["high"], row["volume"], row["tick_count"], row["vwap"]) == (10.0, 10.0, 100, 1, 10.0)
    (row,) = bars(ticks, rule=TradeRule(HK.trade_types, odd_lots=True))
    assert (row["low"], row["high"], row["volume"], row["tick_count"], row["vwap"]) == (10.0, 10.0, 107, 2, 10.0)
    (row,) = bars(ticks, rule=TradeRule(HK.trade_types, odd_lots=True, off_exchange=True))
    assert (row["low"], row["high"], row["volume"], row["tick_count"]) == (10.0, 10.0, 1157, 4)
    assert row["turnover"] == 1000 + 693 + 1000 + 25


def test_a_bar_of_odd_lots_alone_has_no_price() -> None:
    (row,) = bars([trade("10:00:02", 99.0, 7, tick_type="ODD_LOT")], rule=TradeRule(HK.trade_types, odd_lots=True))
    assert (row["open"], row["close"], row["vwap"], row["volume"]) == (None, None, None, 7)


@pytest.mark.parametrize(("close", "auction"), [("16:00", "16:08"), ("12:00", "12:08")])
def test_auctions_have_bars_of_their_own_and_can_be_left_out(close: str, auction: str) -> None:
    ticks = [
        trade("09:20:05", 10.0, 500, tick_type="AUCTION"),
        trade("09:30:00", 10.1),
        trade(clock(close) - 1, 10.2),
        trade(clock(auction) + 12_345, 10.3, 900, tick_type="AUCTION"),
    ]
    rows = bars(ticks)
    last = f"{int(close[:2]) - 1}:59:00"
    assert starts(rows) == ["09:20:00", "09:30:00", last, f"{auction}:00"]
    assert (rows[-1]["close"], rows[-1]["volume"]) == (10.3, 900)
    rule = TradeRule(HK.trade_types, auctions=False, odd_lots=True, off_exchange=True)
    assert starts(bars(ticks, rule=rule)) == ["09:30:00", last]


def test_hours_are_those_of_the_clock_and_lunch_makes_no_bar() -> None:
    rows = bars([trade("09:31"), trade("11:59:59"), trade("13:00"), trade("15:59")], "1h")
    assert starts(rows) == ["09:00:00", "11:00:00", "13:00:00", "15:00:00"]


def test_sums_are_exact() -> None:
    ticks = [trade(clock("10:00") + n, 0.1, 1, turnover=0.1) for n in range(10)]
    (row,) = bars(ticks)
    assert row["turnover"] == 1.0  # adding floats gives 0.9999999999999999
    assert row["vwap"] == 0.1
    big = 2**53 + 1  # no float64 holds it
    (row,) = bars([trade("10:00:01", volume=big), trade("10:00:02", volume=2)])
    assert row["volume"] == big + 2


def whole_day_fill(until: str = "24:00", kind: DayKind = DayKind.WHOLE) -> Fill:
    return Fill(HK.continuous_windows(DAY, kind), clock(until))


def test_fill_carries_the_close_through_continuous_trading_only() -> None:
    ticks = [trade("09:20:05", 9.0, tick_type="AUCTION"), trade("11:58:30", 10.0), trade("16:08:12", 11.0)]
    rows = bars(ticks, "1m", fill=whole_day_fill())
    names = starts(rows)
    assert names[:3] == ["09:20:00", "09:30:00", "09:31:00"]
    assert "12:00:00" not in names
    assert "12:59:00" not in names
    assert names[names.index("11:59:00") + 1] == "13:00:00"
    assert names[-2:] == ["15:59:00", "16:08:00"]
    assert len(rows) == 150 + 180 + 2
    by_name = dict(zip(names, rows, strict=True))
    quiet = by_name["13:00:00"]
    assert [quiet[name] for name in ("open", "high", "low", "close")] == [10.0] * 4
    assert (quiet["volume"], quiet["tick_count"], quiet["turnover"], quiet["vwap"]) == (0, 0, 0.0, None)
    assert by_name["09:31:00"]["close"] == 9.0


def test_fill_begins_with_the_first_price_and_ends_where_it_is_told() -> None:
    rows = bars([trade("10:00:30", 10.0)], "1m", fill=whole_day_fill("10:03:30"))
    assert starts(rows) == ["10:00:00", "10:01:00", "10:02:00", "10:03:00"]
    assert starts(bars([trade("11:58", 10.0)], fill=whole_day_fill(kind=DayKind.HALF))) == ["11:58:00", "11:59:00"]


def test_fill_does_not_cross_days_or_symbols() -> None:
    other_day = "20261119"
    windows = HK.continuous_windows(other_day, DayKind.WHOLE) + HK.continuous_windows(DAY, DayKind.WHOLE)
    ticks = [
        trade(clock("15:58", other_day), 5.0, trading_day=other_day),
        trade("15:57", 6.0),
        trade("15:59", 7.0, symbol="HK.00005"),
    ]
    rows = bars(ticks, fill=Fill(windows, clock("24:00")))
    assert [(row["symbol"], row["trading_day"], row["close"]) for row in rows] == [
        ("HK.00005", DAY, 7.0),
        ("HK.00700", other_day, 5.0),
        ("HK.00700", other_day, 5.0),
        ("HK.00700", DAY, 6.0),
        ("HK.00700", DAY, 6.0),
        ("HK.00700", DAY, 6.0),
    ]


def test_fill_gives_a_bar_of_odd_lots_the_last_price() -> None:
    ticks = [trade("10:00:30", 10.0), trade("10:01:30", 3.0, 5, tick_type="ODD_LOT")]
    rows = bars(ticks, rule=TradeRule(HK.trade_types, odd_lots=True), fill=whole_day_fill("10:02"))
    assert [(row["close"], row["vwap"], row["volume"]) for row in rows] == [(10.0, 10.0, 100), (10.0, None, 5)]


def test_no_ticks_make_no_bars() -> None:
    assert bars([]) == []
    assert bars([trade("10:00", tick_type="ODD_LOT")]) == []


@pytest.mark.parametrize("text", ["", "m", "0m", "5", "5d", "1.5h", "-1s", "25h", "1441m", "86401s", "1m "])
def test_what_is_no_interval_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="interval"):
        parse_interval_ms(text)


def test_intervals() -> None:
    assert [parse_interval_ms(text) for text in ("1s", "5m", "1h", "24h")] == [1000, 300_000, 3_600_000, 86_400_000]


def test_bars_of_a_market_whose_day_begins_in_the_evening() -> None:
    """New York, the night in which the clocks go back: Sunday 20:00 is Monday, and a bar of a quarter ends where the
    clock there shows it."""
    times = (("20261101", hm(20, 7)), ("20261102", hm(9, 44)), ("20261102", hm(20)))
    at_ms = [US.zone.at_ms(day, clock_ms) for day, clock_ms in times]
    ticks = [make_tick(n, ts_ms=ts_ms, trading_day="20261102", price=10.0) for n, ts_ms in enumerate(at_ms, start=1)]
    table = make_bars(arrow(ticks), parse_interval_ms("15m"), US)
    assert table.column("trading_day").to_pylist() == ["20261102", "20261102", "20261103"]
    starts_ms = table.column("start_ms").cast(pa.int64()).to_pylist()
    assert [US.zone.date_and_clock(ts_ms) for ts_ms in starts_ms] == [
        "2026-11-01 20:00:00",
        "2026-11-02 09:30:00",
        "2026-11-02 20:00:00",
    ]


def test_a_part_of_a_share_weighs_in_no_vwap() -> None:
    """It has a price and a turnover, and no volume."""
    part = trade("10:00:01", 30.0, None, turnover=7.5)
    (bar,) = bars([trade("10:00:00", 10.0, 100), part])
    assert (bar["vwap"], bar["volume"], bar["turnover"], bar["high"], bar["tick_count"]) == (10.0, 100, 1007.5, 30.0, 2)


@pytest.mark.parametrize(
    ("market", "symbol", "turnover", "vwap"),
    [
        (TW, "TW.2330", 6_100_000.0, 1016.6666666666666),  # two lots at 1000, four at 1025: 1000 shares each
        (TW, "TW.2330@ODD", 6100.0, 1016.6666666666666),
        (TW, "TWF.TXFL6", 1_220_000.0, 1016.6666666666666),  # 200 dollars a point
        (CME, "CME.ESZ26", 305_000.0, 1016.6666666666666),
    ],
)
def test_a_vwap_is_a_price_whatever_a_unit_of_volume_is(
    market: Market, symbol: str, turnover: float, vwap: float
) -> None:
    at_ms = market.zone.at_ms(DAY, hm(10))
    ticks = [
        make_tick(n, symbol=symbol, ts_ms=at_ms, price=price, volume=volume, turnover=turnover * price * volume / 6100)
        for n, (price, volume) in enumerate([(1000.0, 2), (1025.0, 4)], start=1)
    ]
    (bar,) = make_bars(arrow(ticks), parse_interval_ms("1m"), market).to_pylist()
    assert (bar["vwap"], bar["turnover"], bar["volume"]) == (vwap, turnover, 6)


@pytest.mark.parametrize(
    ("market", "symbol", "turnover"),
    [(TW, "TW.2330", 2_000_000.0), (TW, "TW.2330@ODD", 2000.0), (TW, "TWF.TXFL6", 2000.0), (CME, "CME.ESZ26", 2000.0)],
)
def test_an_absent_turnover_is_that_of_the_unit(market: Market, symbol: str, turnover: float) -> None:
    """What a whole day brings of Taiwan has no turnover; beside it stand trades that were told one."""
    tick = make_tick(
        1, symbol=symbol, ts_ms=market.zone.at_ms(DAY, hm(10)), price=1000.0, volume=2, turnover=None
    )  # fmt: skip
    (bar,) = make_bars(arrow([tick]), parse_interval_ms("1m"), market).to_pylist()
    assert (bar["vwap"], bar["turnover"]) == (1000.0, turnover)
