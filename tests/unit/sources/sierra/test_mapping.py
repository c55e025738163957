"""From records to ticks: symbol, price, time, identity, side; and what is refused, with its code."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hk_tick_collector.core.errors import InputError, RejectCode
from hk_tick_collector.sources.sierra.mapping import LocalTimes, Mapped, TradeMapper
from hk_tick_collector.sources.sierra.naming import Instrument, instrument_of, parse_name, parse_rule
from hk_tick_collector.sources.sierra.prices import Prices, shortest
from hk_tick_collector.sources.sierra.scid import unix_us
from tests.scid_files import FIRST_PART, LAST_PART, Trade

NOON_US = 1_795_176_000_000_000
ES = Instrument("CME.ESZ26", "CME", 1.0, 0.25)


def mapped(trades: list[Trade], instrument: Instrument = ES, mapper: TradeMapper | None = None) -> Mapped:
    mapper = mapper or TradeMapper(instrument, "20261120", 1_795_176_005_000)
    return mapper.map(struct.iter_unpack("<q4f4I", b"".join(trade.pack() for trade in trades)))


def test_a_trade_is_a_tick_in_utc() -> None:
    (tick,) = mapped([Trade(NOON_US + 123_007, price=5000.25, volume=3)]).ticks
    assert tick.symbol == "CME.ESZ26"
    assert (tick.ts_ms, tick.seq) == (1_795_176_000_123, NOON_US + 123_007)
    assert (tick.price, tick.volume, tick.turnover, tick.direction) == (5000.25, 3, None, "BUY")
    assert (tick.trading_day, tick.recv_ts_ms, tick.push_type) == ("20261120", 1_795_176_005_000, "backfill")
    assert (tick.venue, tick.conditions, tick.bid_price, tick.ask_price) == ("CME", None, 5000.0, 5000.25)


@pytest.mark.parametrize(("side", "direction"), [("ask", "BUY"), ("bid", "SELL"), ("none", "NEUTRAL")])
def test_the_side_that_was_hit(side: str, direction: str) -> None:
    assert mapped([Trade(NOON_US, side=side)]).ticks[0].direction == direction


def test_parts_of_an_unbundled_trade_are_trades_of_their_own() -> None:
    parts = [Trade(NOON_US, open=FIRST_PART), Trade(NOON_US + 1), Trade(NOON_US + 2, open=LAST_PART)]
    ticks = mapped(parts).ticks
    assert [tick.seq for tick in ticks] == [NOON_US, NOON_US + 1, NOON_US + 2]
    assert [tick.conditions for tick in ticks] == ["UNBUNDLED_FIRST", None, "UNBUNDLED_LAST"]


def test_a_trade_told_without_bid_and_ask_has_none() -> None:
    (bare,) = mapped([Trade(NOON_US, price=5000.0, open=5000.0, bid=5000.0, ask=5000.0)]).ticks
    assert (bare.price, bare.bid_price, bare.ask_price) == (5000.0, None, None)
    (unknown,) = mapped([Trade(NOON_US, bid=0.0, ask=0.0)]).ticks
    assert (unknown.price, unknown.bid_price, unknown.ask_price) == (5000.25, None, None)


def test_more_than_a_thousand_trades_of_a_millisecond_run_into_the_next() -> None:
    ticks = mapped([Trade(NOON_US + number) for number in range(1500)]).ticks
    assert len({tick.seq for tick in ticks}) == 1500
    assert {tick.ts_ms for tick in ticks} == {NOON_US // 1000, NOON_US // 1000 + 1}


def test_records_of_one_time_stay_as_many_trades() -> None:
    """As in files with times of a second, where equal trades follow each other."""
    trades = [*[Trade(NOON_US)] * 3, Trade(NOON_US + 1), Trade(NOON_US + 1_000_000), Trade(NOON_US + 1_000_000)]
    ticks = mapped(trades).ticks
    assert [tick.seq - NOON_US for tick in ticks] == [0, 1, 2, 3, 1_000_000, 1_000_001]
    assert [tick.ts_ms for tick in ticks] == [trade.us // 1000 for trade in trades], "the time is told as it stands"


def test_numbers_do_not_depend_on_how_the_file_is_cut_into_parts() -> None:
    trades = [Trade(NOON_US + number // 7) for number in range(50)]
    mapper = TradeMapper(ES, "20261120", 0)
    in_parts = [tick for at in range(0, 50, 6) for tick in mapped(trades[at : at + 6], mapper=mapper).ticks]
    assert [tick.seq for tick in in_parts] == [tick.seq for tick in mapped(trades).ticks]


def test_time_that_goes_back_moves_no_later_number() -> None:
    """One damaged time must not change the identity of all trades behind it."""
    trades = [Trade(NOON_US), Trade(NOON_US + 9_000_000), Trade(NOON_US + 1_000_000), Trade(NOON_US + 2_000_000)]
    assert [tick.seq - NOON_US for tick in mapped(trades).ticks] == [0, 9_000_000, 1_000_000, 2_000_000]


@pytest.mark.parametrize(
    ("trade", "code", "says"),
    [
        (Trade(NOON_US, volume=0), RejectCode.VOLUME, "volume is 0"),
        (Trade(NOON_US, price=5000.3), RejectCode.PRICE, "not a multiple of 0.25"),
        (Trade(NOON_US, price=float("nan")), RejectCode.PRICE, "nan"),
        (Trade(NOON_US, price=float("inf")), RejectCode.PRICE, "inf"),
        (Trade(NOON_US, price=FIRST_PART), RejectCode.PRICE, "is none"),
        (Trade(NOON_US, open=float("nan")), RejectCode.PRICE, "neither a mark"),
    ],
)
def test_what_cannot_be_believed_is_refused_alone(trade: Trade, code: RejectCode, says: str) -> None:
    result = mapped([Trade(NOON_US - 5), trade, Trade(NOON_US + 5)])
    assert [tick.seq for tick in result.ticks] == [NOON_US - 5, NOON_US + 5]
    (refused,) = result.rejected
    assert refused.code is code
    assert says in refused.reason
    assert unix_us(int(str(refused.raw["time"]))) == NOON_US, "whole"


@pytest.mark.parametrize(
    ("written", "multiplier", "tick_size", "price"),
    [
        (4215.75, 1.0, 0.25, 4215.75),
        (421575.0, 0.01, 0.25, 4215.75),
        (421575.0, 0.01, None, 4215.75),
        (0.0067915, 1.0, 0.0000005, 0.0067915),
        (0.0067915, 1.0, None, 0.0067915),
        (67915.0, 1e-7, 0.0000005, 0.0067915),
        (112.015625, 1.0, 0.015625, 112.015625),
        (-37.63, 1.0, 0.01, -37.63),  # oil, once
        (0.0, 1.0, 0.25, 0.0),  # a calendar spread
        (97125.0, 1.0, 5.0, 97125.0),
        (5000.3, 1.0, 0.25, None),
        (421575.0, 1.0, 25.0, 421575.0),
        (4215.76, 1.0, 0.25, None),
        (1e31, 1.0, None, None),
    ],
)
def test_a_price_is_the_number_that_was_traded(
    written: float, multiplier: float, tick_size: float | None, price: float | None
) -> None:
    as_stored = struct.unpack("<f", struct.pack("<f", written))[0]
    prices = Prices(multiplier, tick_size)
    assert prices.of(as_stored) == price
    assert prices.of(as_stored) == price, "the second time, too"


@given(st.integers(1, 400_000), st.sampled_from([0.25, 0.01, 0.015625, 0.0000005, 0.005, 0.1]))
def test_every_multiple_of_a_tick_comes_back_as_itself(ticks: int, tick_size: float) -> None:
    price = ticks * tick_size
    if ticks < 100_000:  # beyond, four bytes are no longer exact enough to tell two ticks apart everywhere
        as_stored = struct.unpack("<f", struct.pack("<f", price))[0]
        assert Prices(1.0, tick_size).of(as_stored) == pytest.approx(price, rel=1e-12)


@given(st.floats(width=32, allow_nan=False, allow_infinity=False).filter(lambda value: abs(value) < 1e30))
def test_the_shortest_number_is_the_same_four_bytes(value: float) -> None:
    assert struct.pack("<f", shortest(value)) == struct.pack("<f", value)


@pytest.mark.parametrize(
    ("name", "symbol", "venue"),
    [
        ("ESZ26_FUT_CME.scid", "CME.ESZ26", "CME"),
        ("ZNH27_FUT_CBOT.scid", "CME.ZNH27", "CBOT"),
        ("CLF27_FUT_NYMEX.SCID", "CME.CLF27", "NYMEX"),
        ("6EZ6.CME.scid", "CME.6EZ6", "CME"),
        ("GCG7-COMEX.scid", "CME.GCG7", "COMEX"),
    ],
)
def test_the_symbol_comes_from_the_name(name: str, symbol: str, venue: str) -> None:
    assert parse_name(name)[:2] == (symbol, venue)


@pytest.mark.parametrize("name", ["AAPL-NQTV.scid", "ES.scid", "ESZ26_FUT_CME.depth", "../ESZ26_FUT_CME.scid", ".scid"])
def test_another_name_is_refused_with_what_is_expected(name: str) -> None:
    with pytest.raises(InputError, match=r"named like ESZ26_FUT_CME\.scid"):
        parse_name(name)


def test_rules_hold_for_symbols_and_the_last_one_counts() -> None:
    multipliers = [parse_rule("--multiplier", text) for text in ("0.01", "CME.6E*=0.0001")]
    tick_sizes = [parse_rule("--tick-size", "CME.ES*=0.25")]
    assert instrument_of("ESZ26_FUT_CME.scid", multipliers, tick_sizes)[2:] == (0.01, 0.25)
    assert instrument_of("6EZ26_FUT_CME.scid", multipliers, tick_sizes)[2:] == (0.0001, None)


@pytest.mark.parametrize("text", ["", "x", "0", "-1", "nan", "inf", "CME.ES*=", "CME.ES*=abc"])
def test_a_rule_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"--multiplier: .* is not a number above zero"):
        parse_rule("--multiplier", text)


def test_a_rule_that_fits_no_symbol_is_refused() -> None:
    """Prices would be stored as if it had not been given."""
    for text in ("6E*=0.0001", "cme.6E*=0.0001", "=0.0001x", "CBOT.ZB*=0.01"):
        with pytest.raises(InputError, match="--multiplier"):
            parse_rule("--multiplier", text)
    for text in ("*6E*=0.0001", "?ME.6E*=0.0001", "[C]ME.6E*=0.0001"):
        assert instrument_of("6EZ26_FUT_CME.scid", [parse_rule("--multiplier", text)]).multiplier == 0.0001


@pytest.mark.parametrize(
    ("price", "multiplier", "tick_size", "says"),
    [
        (float("nan"), 1.0, None, "price nan is none"),
        (5000.25, 1e300, None, "price 5000.25 x 1e+300 is beyond any trade: is the multiplier right?"),
        (5000.25, 1e300, 0.25, "price 5000.25 x 1e+300 is beyond any trade: is the multiplier right?"),
        (5000.3, 1.0, 0.25, "price 5000.2998046875 x 1 is not a multiple of 0.25"),
    ],
)
def test_a_price_that_is_none_is_refused_with_its_reason(
    price: float, multiplier: float, tick_size: float | None, says: str
) -> None:
    trade = Trade(NOON_US, price=price, bid=0.0, ask=0.0)
    result = mapped([trade], Instrument("CME.ESZ26", "CME", multiplier, tick_size))
    assert [(rejected.code, rejected.reason) for rejected in result.rejected] == [(RejectCode.PRICE, says)]


def test_local_times_are_read_with_their_zone_over_both_changes_of_clocks() -> None:
    chicago = LocalTimes("America/Chicago")
    local_us = 1_000_000 * 60 * 60
    winter_noon, summer_noon = NOON_US, NOON_US - 150 * 24 * local_us
    for noon, hours in ((winter_noon, 6), (summer_noon, 5)):
        record_time = struct.unpack("<q", Trade(noon).pack()[:8])[0]
        assert chicago(record_time) == noon + hours * local_us
    with pytest.raises(InputError, match="America/Chicago"):
        LocalTimes("Mars/Olympus")
    for absent in ("", "../etc/passwd", "a\0b"):
        with pytest.raises(InputError):
            LocalTimes(absent)


@given(st.lists(st.binary(min_size=40, max_size=40), max_size=5))
def test_any_records_become_ticks_or_are_refused(records: list[bytes]) -> None:
    for to_unix_us in (unix_us, LocalTimes("America/Chicago")):
        mapper = TradeMapper(replace_tick(None), "20261120", 0, to_unix_us=to_unix_us)
        result = mapper.map(struct.iter_unpack("<q4f4I", b"".join(records)))
        assert len(result.ticks) + len(result.rejected) == len(records)


def replace_tick(tick_size: float | None) -> Instrument:
    return ES._replace(tick_size=tick_size)


def test_a_quote_beside_the_tick_is_told_as_it_is() -> None:
    prices = Prices(1.0, 0.25)
    assert prices.quote(0.0) is None
    assert prices.quote(5000.25) == 5000.25
    assert prices.quote(5000.125) == 5000.125
    assert prices.quote(float("inf")) is None
