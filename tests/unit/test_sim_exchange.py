"""The simulated market: repeatable, contiguous, on the price grid, in the exchange's own hours."""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hk_tick_collector.market.calendar import TradingCalendar
from hk_tick_collector.market.hk import HK
from hk_tick_collector.market.hk.sessions import HK_TZ, ZONE, hk_date
from hk_tick_collector.market.hours import DayKind
from hk_tick_collector.market.us import US
from hk_tick_collector.opend_sim.book import SymbolBook
from hk_tick_collector.opend_sim.exchange import Exchange, MarketConfig, SimTick
from hk_tick_collector.opend_sim.instruments import (
    default_symbols,
    list_instruments,
)
from hk_tick_collector.opend_sim.schedule import SteadySchedule, lively_rate_per_sec, symbol_weights
from hk_tick_collector.opend_sim.simclock import ClockFile, Course, MarketTime, SimClock
from hk_tick_collector.opend_sim.venue import HK as HK_VENUE
from tests.nights import examples

CALENDAR = TradingCalendar(HK)
FEW = default_symbols(12)
DAY_SYMBOLS = default_symbols(4)
MASK = (1 << 32) - 1
BOOK_TYPES = {"AUTO_MATCH", "INTER_AUTO_MATCH"}


def hk(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=HK_TZ).timestamp() * 1000)


def exchange(at: str, symbols: list[str] = FEW, **options: object) -> Exchange:
    return Exchange(MarketConfig(symbols, **options), hk(at), CALENDAR)  # type: ignore[arg-type]


def by_symbol(ticks: list[SimTick]) -> dict[str, list[SimTick]]:
    groups: dict[str, list[SimTick]] = defaultdict(list)
    for tick in ticks:
        groups[tick.symbol].append(tick)
    return groups


@pytest.fixture(scope="module")
def whole_day() -> tuple[Exchange, list[SimTick]]:
    """A Friday from before the open to after the last auction print."""
    market = exchange("2026-11-20 08:30", DAY_SYMBOLS, history_ticks=0)
    return market, market.advance(hk("2026-11-20 18:00"))


@pytest.fixture(scope="module")
def load() -> list[SimTick]:
    market = exchange("2026-11-20 10:00", default_symbols(200), rate_per_sec=10_000.0, history_ticks=0)
    return market.advance(hk("2026-11-20 10:00:05"))


# Repeatability


@pytest.mark.parametrize("options", [{}, {"rate_per_sec": 700.0}, {"always_open": True}])
@settings(max_examples=examples(15))
@given(slices_ms=st.lists(st.integers(min_value=0, max_value=1_500), min_size=1, max_size=30))
def test_ticks_do_not_depend_on_how_time_is_sliced(options: dict[str, object], slices_ms: list[int]) -> None:
    start = hk("2026-11-20 09:59:58.337")
    whole, sliced = (exchange("2026-11-20 09:59:58.337", history_ticks=500, **options) for _ in range(2))
    now_ms, ticks = start, []
    for step_ms in slices_ms:
        now_ms += step_ms
        part = sliced.advance(now_ms)
        assert all(tick.ts_ms <= now_ms for tick in part)
        ticks += part
    assert ticks == whole.advance(now_ms)
    assert whole.history() == sliced.history()


def test_slices_across_auctions_and_closed_hours_change_nothing() -> None:
    market, whole = (exchange("2026-11-20 08:30", DAY_SYMBOLS, activity=0.1, history_ticks=0) for _ in range(2))
    ticks: list[SimTick] = []
    for at in ["08:59", "09:20:30.500", "09:21", "09:30", "11:59:59.999", "12:30", "16:08:12", "16:08:12.001", "18:00"]:
        ticks += market.advance(hk(f"2026-11-20 {at}"))
    assert ticks == whole.advance(hk("2026-11-20 18:00"))
    assert len(ticks) > 5000


def test_seed_decides() -> None:
    first, again, other = (exchange("2026-11-20 10:00", seed=seed, history_ticks=0) for seed in (7, 7, 8))
    until = hk("2026-11-20 10:00:30")
    ticks = first.advance(until)
    assert ticks
    assert ticks == again.advance(until)
    assert ticks != other.advance(until)


def test_time_never_goes_back_and_nothing_comes_twice() -> None:
    market = exchange("2026-11-20 10:00", history_ticks=0)
    until = hk("2026-11-20 10:00:10")
    assert market.advance(until)
    assert market.advance(until) == []
    assert market.advance(until - 5_000) == []


# Sequences and times


def test_sequences_are_the_second_and_a_contiguous_counter(whole_day: tuple[Exchange, list[SimTick]]) -> None:
    market, ticks = whole_day
    assert {hk_date(tick.ts_ms) for tick in ticks} == {"20261120"}
    for symbol, own in by_symbol(ticks).items():
        assert own[0].seq & MASK >= 1, symbol
        for tick in own:
            assert tick.seq >> 32 == tick.ts_ms // 1000
        for before, after in pairwise(own):
            assert (after.seq & MASK) == (before.seq & MASK) + 1
            assert after.recv_ts_ms >= before.recv_ts_ms
    assert set(by_symbol(ticks)) == set(market.instruments)


def test_counter_goes_on_from_history_and_starts_again_next_day() -> None:
    market = exchange("2026-11-20 15:59:00")
    past = by_symbol([tick for tick in market.history() if hk_date(tick.ts_ms) == "20261120"])
    today = by_symbol(market.advance(hk("2026-11-20 17:00")))
    monday = by_symbol(market.advance(hk("2026-11-23 09:40")))
    for symbol in FEW:
        assert (today[symbol][0].seq & MASK) == (past[symbol][-1].seq & MASK) + 1
        assert 1 <= (monday[symbol][0].seq & MASK) < 4000
    assert any((monday[s][0].seq & MASK) != (past[s][0].seq & MASK) for s in FEW)


def test_times_without_milliseconds_are_cut_to_the_second(load: list[SimTick]) -> None:
    bare = [tick for tick in load if not tick.has_ms]
    assert 0.001 < len(bare) / len(load) < 0.008
    assert all(tick.ts_ms % 1000 == 0 for tick in bare)
    assert len({tick.ts_ms % 1000 for tick in load if tick.has_ms}) > 900
    assert all(
        tick.has_ms
        for tick in exchange("2026-11-20 10:00", no_ms_share=0.0, history_ticks=0).advance(hk("2026-11-20 10:01"))
    )


def test_delay_until_opend_has_it() -> None:
    live = exchange("2026-11-20 10:00", no_ms_share=0.0, history_ticks=0).advance(hk("2026-11-20 10:05"))
    delays_ms = sorted(tick.recv_ts_ms - tick.ts_ms for tick in live)
    assert delays_ms[0] >= 35
    assert delays_ms[-1] <= 444
    assert delays_ms[len(delays_ms) // 2] < 200
    steady = exchange("2026-11-20 10:00", rate_per_sec=500.0, no_ms_share=0.0, history_ticks=0).advance(
        hk("2026-11-20 10:00:10")
    )
    assert all(tick.recv_ts_ms == tick.ts_ms for tick in steady)


# Hours


def test_a_whole_day_keeps_to_the_sessions(whole_day: tuple[Exchange, list[SimTick]]) -> None:
    midnight = hk("2026-11-20 00:00")
    minute = Counter((tick.ts_ms - midnight) // 60_000 for tick in whole_day[1])
    auctions = [tick for tick in whole_day[1] if tick.tick_type == "AUCTION"]
    for at in minute:
        opening, morning, afternoon = 9 * 60 + 20 <= at < 9 * 60 + 22, 570 <= at < 720, 780 <= at < 960
        assert opening or morning or afternoon or 960 <= at < 969, f"{at // 60}:{at % 60:02d}"
    opening_ticks = [tick for tick in auctions if tick.ts_ms < hk("2026-11-20 09:30")]
    closing_ticks = [tick for tick in auctions if tick.ts_ms > hk("2026-11-20 16:00")]
    assert len(opening_ticks) + len(closing_ticks) == len(auctions)
    assert len(DAY_SYMBOLS) // 2 < len(opening_ticks) <= len(DAY_SYMBOLS)
    assert all(hk("2026-11-20 16:08:10") <= tick.ts_ms < hk("2026-11-20 16:08:18") for tick in closing_ticks)
    assert len(DAY_SYMBOLS) // 2 < len(closing_ticks) <= len(DAY_SYMBOLS)
    in_cas = [tick for tick in whole_day[1] if hk("2026-11-20 16:00") <= tick.ts_ms < hk("2026-11-20 16:08")]
    assert {tick.tick_type for tick in in_cas} == {"ODD_LOT"}


def test_a_half_day_ends_with_its_auction_at_noon() -> None:
    market = exchange("2026-12-24 11:50", history_ticks=0)
    ticks = market.advance(hk("2026-12-24 23:00"))
    assert any(tick.ts_ms > hk("2026-12-24 11:59") for tick in ticks)
    closing = [tick for tick in ticks if tick.tick_type == "AUCTION"]
    assert closing
    assert all(hk("2026-12-24 12:08:10") <= tick.ts_ms < hk("2026-12-24 12:08:18") for tick in closing)
    assert max(tick.ts_ms for tick in ticks) < hk("2026-12-24 12:08:18")


def test_holidays_and_weekends_are_silent() -> None:
    assert exchange("2026-12-25 08:00", history_ticks=0).advance(hk("2026-12-28 09:19:59")) == []
    assert exchange("2026-11-21 08:00", rate_per_sec=100.0, history_ticks=0).advance(hk("2026-11-22 20:00")) == []


def test_always_open_trades_on_a_saturday_night_and_over_midnight() -> None:
    market = exchange("2026-11-21 23:59:50", always_open=True, rate_per_sec=200.0)
    ticks = market.advance(hk("2026-11-22 00:00:10"))
    assert Counter(hk_date(tick.ts_ms) for tick in ticks if tick.has_ms).keys() == {"20261121", "20261122"}
    assert abs(len(ticks) - 4000) <= 2
    assert {tick.tick_type for tick in ticks} <= {
        "AUTO_MATCH",
        "INTER_AUTO_MATCH",
        "INTER_NON_AUTO_MATCH",
        "ODD_LOT",
    }


@pytest.mark.parametrize(
    ("at", "state"),
    [
        ("2026-11-20 08:59:59", "CLOSED"),
        ("2026-11-20 09:05", "AUCTION"),
        ("2026-11-20 09:25", "WAITING_OPEN"),
        ("2026-11-20 10:00", "MORNING"),
        ("2026-11-20 12:30", "REST"),
        ("2026-11-20 13:00", "AFTERNOON"),
        ("2026-11-20 16:07:59.999", "HK_CAS"),
        ("2026-11-20 16:08", "CLOSED"),
        ("2026-11-20 16:12", "CLOSED"),
        ("2026-12-24 12:07", "HK_CAS"),
        ("2026-12-24 12:08", "CLOSED"),
        ("2026-11-21 10:00", "CLOSED"),
    ],
)
def test_market_state(at: str, state: str) -> None:
    assert exchange("2026-11-20 07:00", history_ticks=0).market_state(hk(at)) == state


def test_market_state_of_an_always_open_market() -> None:
    market = exchange("2026-11-21 07:00", always_open=True, history_ticks=0)
    assert market.market_state(hk("2026-11-21 03:00")) == "MORNING"
    assert market.market_state(hk("2026-11-21 23:00")) == "AFTERNOON"


# Rates and mix


def test_steady_rate_is_exact_and_even(load: list[SimTick]) -> None:
    assert len(load) == 50_000
    per_ms = Counter(tick.ts_ms for tick in load if tick.has_ms)
    assert max(per_ms.values()) <= 11


def test_mix_of_types_signs_and_sides(load: list[SimTick]) -> None:
    types = Counter(tick.tick_type for tick in load)
    expected = {"AUTO_MATCH": 0.82, "INTER_AUTO_MATCH": 0.10, "INTER_NON_AUTO_MATCH": 0.07, "ODD_LOT": 0.01}
    assert types.keys() == expected.keys()
    for name, share in expected.items():
        assert abs(types[name] / len(load) - share) < 0.01, name
    sides = Counter(tick.direction for tick in load)
    for name, share in {"BUY": 0.54, "SELL": 0.26, "NEUTRAL": 0.195}.items():
        assert abs(sides[name] / len(load) - share) < 0.02, name
    signs = {(tick.tick_type, chr(tick.type_sign)) for tick in load}
    assert signs == {
        ("AUTO_MATCH", " "),
        ("INTER_AUTO_MATCH", "Y"),
        ("INTER_NON_AUTO_MATCH", "X"),
        ("ODD_LOT", "D"),
    }


def test_few_symbols_make_most_ticks(load: list[SimTick]) -> None:
    counts = sorted(Counter(tick.symbol for tick in load).values(), reverse=True)
    assert sum(counts[:20]) > 0.4 * len(load)
    assert counts[0] > 10 * counts[-1]
    weights = symbol_weights(900)
    assert 0.18 < sum(weights[:10]) / sum(weights) < 0.26
    assert sum(weights[:90]) / sum(weights) > 0.6


def test_the_day_is_u_shaped_and_bursty(whole_day: tuple[Exchange, list[SimTick]]) -> None:
    ticks = [tick for tick in whole_day[1] if tick.tick_type != "AUCTION"]
    minutes = Counter(ZONE.ms_of_day(tick.ts_ms) // 60_000 for tick in ticks)
    quiet = sum(minutes[m] for m in range(840, 870)) / 30
    assert minutes[570] > 6 * quiet
    assert minutes[959] > 2 * quiet
    expected = lively_rate_per_sec(len(DAY_SYMBOLS)) * 19_800
    assert 0.8 < len(ticks) / expected < 1.4
    midday = [tick.ts_ms // 1000 for tick in ticks if 840 <= ZONE.ms_of_day(tick.ts_ms) // 60_000 < 900]
    seconds = Counter(midday)
    mean = len(midday) / 3600
    variance = sum((seconds[s] - mean) ** 2 for s in range(min(midday), min(midday) + 3600)) / 3600
    assert variance > 1.5 * mean, "a Poisson process would have variance = mean"


# Prices and volumes


def test_prices_keep_to_the_grid_and_volumes_to_the_lot(whole_day: tuple[Exchange, list[SimTick]]) -> None:
    market, ticks = whole_day
    off_grid = 0
    for tick in ticks:
        milli = round(tick.price * 1000)
        lot = market.instruments[tick.symbol].board_lot
        assert tick.price > 0
        assert tick.volume > 0
        assert milli / 1000 == tick.price
        assert tick.turnover == milli * tick.volume / 1000
        if tick.tick_type in BOOK_TYPES | {"AUCTION"}:
            assert milli % HK_VENUE.grid.spread(milli) == 0, tick
            assert tick.volume % lot == 0
        elif tick.tick_type == "ODD_LOT":
            assert tick.volume < lot
            assert tick.direction == "NEUTRAL"
        else:
            off_grid += milli % HK_VENUE.grid.spread(milli) != 0
    assert off_grid > 100


def test_buyers_pay_more_than_sellers_get(whole_day: tuple[Exchange, list[SimTick]]) -> None:
    rises = {"BUY": 0, "SELL": 0}
    for own in by_symbol(whole_day[1]).values():
        book = [tick for tick in own if tick.tick_type in BOOK_TYPES and tick.direction != "NEUTRAL"]
        for before, after in pairwise(book):
            if before.direction != after.direction:
                rises[after.direction] += (after.price > before.price) - (after.price < before.price)
    assert rises["BUY"] > 0 > rises["SELL"]


def test_prices_stay_near_the_last_close(whole_day: tuple[Exchange, list[SimTick]]) -> None:
    market, ticks = whole_day
    for symbol, own in by_symbol(ticks).items():
        close = market.snapshot(symbol).prev_close
        room = max(0.085 * close, 8 * HK_VENUE.grid.spread(round(close * 1000)) / 1000)
        assert all(abs(tick.price - close) < room for tick in own if tick.tick_type in BOOK_TYPES), symbol
        assert len({tick.price for tick in own}) > 5


@pytest.mark.parametrize(
    ("price", "spread"),
    [
        (0.2, 0.001),
        (0.25, 0.005),
        (0.5, 0.01),
        (9.99, 0.01),
        (10.0, 0.01),
        (19.99, 0.01),
        (20.0, 0.02),
        (49.98, 0.02),
        (50.0, 0.05),
        (100.0, 0.1),
        (382.4, 0.2),
        (500.0, 0.5),
        (1000.0, 1.0),
        (2000.0, 2.0),
        (5000.0, 5.0),
    ],
)
def test_spread_table(price: float, spread: float) -> None:
    assert HK_VENUE.grid.spread(round(price * 1000)) == round(spread * 1000)


@given(st.floats(min_value=0.001, max_value=20_000_000))
def test_grid_prices_are_on_the_grid(price_milli: float) -> None:
    milli = HK_VENUE.grid.nearest(price_milli)
    assert 10 <= milli <= 9_995_000
    assert milli % HK_VENUE.grid.spread(milli) == 0


# Instruments


def test_known_instruments_and_seeded_ones() -> None:
    listed = list_instruments(["HK.12345", "HK.00005", "HK.00700", "HK.08888", "HK.02800"], 3)
    assert list(listed) == ["HK.12345", "HK.00005", "HK.00700", "HK.08888", "HK.02800"]
    assert (listed["HK.00700"].name, listed["HK.00700"].board_lot, listed["HK.00700"].rank) == ("TENCENT", 100, 0)
    assert [listed[code].kind for code in listed] == ["WARRANT", "STOCK", "STOCK", "STOCK", "ETF"]
    assert sorted(instrument.rank for instrument in listed.values()) == [0, 1, 2, 3, 4]
    assert list_instruments(["HK.08888"], 3)["HK.08888"].last_price == listed["HK.08888"].last_price
    assert list_instruments(["HK.08888"], 4)["HK.08888"] != list_instruments(["HK.08888"], 3)["HK.08888"]


def test_default_symbols() -> None:
    codes = default_symbols(900)
    assert codes[0] == "HK.00700"
    assert len(set(codes)) == 900
    for count in (0, 9_001):
        with pytest.raises(ValueError, match=str(count)):
            default_symbols(count)


@pytest.mark.parametrize(
    ("options", "pattern"),
    [
        ({"symbols": []}, "symbol"),
        ({"rate_per_sec": 0.0}, "rate_per_sec"),
        ({"rate_per_sec": float("nan")}, "rate_per_sec"),
        ({"delay_ms": (50, 10)}, "delay_ms"),
        ({"no_ms_share": 1.5}, "no_ms_share"),
        ({"history_ticks": -1}, "history_ticks"),
    ],
)
def test_impossible_markets_are_refused(options: dict[str, object], pattern: str) -> None:
    with pytest.raises(ValueError, match=pattern):
        MarketConfig(**{"symbols": FEW, **options})  # type: ignore[arg-type]


# History, newest ticks, K-lines, snapshots


@pytest.mark.parametrize("at", ["2026-11-20 10:30", "2026-11-20 12:20", "2026-11-20 16:09", "2026-11-20 22:00"])
def test_a_start_in_mid_day_has_a_past(at: str) -> None:
    market = exchange(at, default_symbols(50))
    past = market.history()
    assert past
    assert max(tick.ts_ms for tick in past) <= hk(at)
    assert {hk_date(tick.ts_ms) for tick in past} == {"20261119", "20261120"}
    assert len(market.recent("HK.00700", 1000)) >= 300
    for symbol in market.instruments:
        assert market.recent(symbol, 1000), symbol
    assert market.recent("HK.00700", 5) == [tick for tick in past if tick.symbol == "HK.00700"][-5:]


def test_before_the_open_the_last_trading_day_is_remembered() -> None:
    market = exchange("2026-11-23 08:00")
    newest = market.recent("HK.00700", 1)[0]
    assert hk_date(newest.ts_ms) == "20261120"
    assert newest.tick_type == "AUCTION"
    assert len(market.recent("HK.00700", 5000)) == 1500
    today = market.advance(hk("2026-11-23 09:31"))
    assert {hk_date(tick.ts_ms) for tick in market.recent("HK.00700", 1000)} == {"20261123"}
    assert market.snapshot("HK.00700").prev_close == newest.price
    assert today


def test_without_history_there_is_none() -> None:
    market = exchange("2026-11-20 10:30", history_ticks=0)
    assert all(tick.ts_ms >= hk("2026-11-20 10:29:59.900") for tick in market.history())
    assert len(market.history()) < 100
    assert exchange("2026-11-20 20:00", history_ticks=0).history() == []


def test_recent_klines_and_snapshot_come_from_the_ticks(whole_day: tuple[Exchange, list[SimTick]]) -> None:
    market, ticks = whole_day
    own = by_symbol(ticks)["HK.00700"]
    priced = [tick for tick in own if tick.tick_type in BOOK_TYPES | {"AUCTION"}]
    assert market.recent("HK.00700", 3) == own[-3:]
    assert market.recent("HK.00700", 0) == []
    snapshot = market.snapshot("HK.00700")
    assert snapshot.last == priced[-1].price
    assert snapshot.open == priced[0].price
    assert snapshot.high == max(tick.price for tick in priced)
    assert snapshot.low == min(tick.price for tick in priced)
    assert snapshot.volume == sum(tick.volume for tick in own)
    assert snapshot.turnover == pytest.approx(sum(tick.turnover for tick in own))
    assert snapshot.update_ts_ms == own[-1].ts_ms
    day = next(market.newest_days("HK.00700"))
    assert (day.open, day.high, day.low, day.close) == (snapshot.open, snapshot.high, snapshot.low, snapshot.last)
    assert (day.volume, day.start_ms) == (snapshot.volume, hk("2026-11-20 00:00"))
    minute = next(bar for bar in market.newest_minutes("HK.00700") if bar.start_ms == hk("2026-11-20 10:00"))
    inside = [tick for tick in own if minute.start_ms <= tick.ts_ms < minute.start_ms + 60_000]
    prices = [tick.price for tick in inside if tick.tick_type in BOOK_TYPES]
    assert (minute.open, minute.high, minute.low, minute.close) == (prices[0], max(prices), min(prices), prices[-1])
    assert minute.volume == sum(tick.volume for tick in inside)
    bars = list(market.newest_minutes("HK.00700"))[::-1]
    assert [bar.start_ms for bar in bars] == sorted({bar.start_ms for bar in bars})
    assert all(after.prev_close == before.close for before, after in pairwise(bars))


def test_odd_lots_and_off_exchange_prints_set_no_price() -> None:
    instrument = list_instruments(["HK.00700"], 1)["HK.00700"]
    book = SymbolBook(instrument)
    at = hk("2026-11-20 10:00")
    blank = book.snapshot()
    assert (blank.last, blank.volume, blank.update_ts_ms) == (instrument.prev_close, 0, 0)
    odd = SimTick("HK.00700", at, 1.0, 7, 7.0, "NEUTRAL", 1, "ODD_LOT", 68, True, at)
    book.add(odd)
    assert (book.snapshot().last, book.snapshot().low) == (instrument.prev_close, instrument.prev_close)
    assert book.snapshot().volume == 7
    assert next(book.newest_minutes()).open == instrument.prev_close
    book.add(SimTick("HK.00700", at + 5, 600.0, 100, 60_000.0, "BUY", 2, "AUTO_MATCH", 32, True, at))
    snapshot = book.snapshot()
    assert (snapshot.open, snapshot.high, snapshot.low, snapshot.last) == (600.0, 600.0, 600.0, 600.0)


def test_a_symbol_that_is_not_listed_is_a_key_error() -> None:
    market = exchange("2026-11-20 10:00", history_ticks=0)
    for ask in (market.snapshot, market.newest_days, market.newest_minutes):
        with pytest.raises(KeyError):
            ask("HK.99999")


def test_calendar_of_the_market_is_the_real_one() -> None:
    assert exchange("2026-11-20 10:00", history_ticks=0).calendar.day_kind("20261224") is DayKind.HALF


# Clock


def test_clock_shifts_and_speeds_up() -> None:
    now = [100.0]
    clock = SimClock(hk("2026-11-20 09:29:50"), speed=60.0, monotonic=lambda: now[0])
    assert clock.now_ms() == hk("2026-11-20 09:29:50")
    assert clock.real_sec_until(hk("2026-11-20 09:30:50")) == pytest.approx(1.0)
    now[0] += 0.5
    assert clock.now_ms() == hk("2026-11-20 09:30:20")
    assert clock.real_sec_until(hk("2026-11-20 09:30:50")) == pytest.approx(0.5)
    assert clock.real_sec_until(hk("2026-11-20 09:30:00")) == 0.0


def test_clock_stands_goes_on_and_jumps() -> None:
    now = [100.0]
    clock = SimClock(hk("2026-11-20 16:00:00"), speed=60.0, monotonic=lambda: now[0])
    courses: list[Course] = []
    clock.on_change = courses.append
    now[0] += 1.0
    clock.stand()
    now[0] += 5.0
    assert clock.now_ms() == hk("2026-11-20 16:01:00")
    clock.jump(hk("2026-11-20 23:59:00"))
    now[0] += 1.0
    assert clock.now_ms() == hk("2026-11-20 23:59:00"), "a clock that stands goes on standing"
    clock.run()
    now[0] += 2.0
    assert clock.now_ms() == hk("2026-11-21 00:01:00")
    clock.jump(hk("2026-11-23 09:00:00"))
    now[0] += 0.5
    assert clock.now_ms() == hk("2026-11-23 09:00:30")
    with pytest.raises(ValueError, match="never goes back"):
        clock.jump(hk("2026-11-23 09:00:00"))
    assert [course.speed for course in courses] == [0.0, 0.0, 60.0, 60.0]


def test_a_client_does_not_start_a_clock_that_was_told_to_stand() -> None:
    now = [100.0]
    clock = SimClock(0, monotonic=lambda: now[0], held=True)
    clock.release()
    clock.stand()
    clock.release()
    now[0] += 1.0
    assert clock.now_ms() == 0


def test_another_process_reads_the_market_time_from_the_clock_file(tmp_path: Path) -> None:
    clock = SimClock(hk("2026-11-20 16:00:00"), speed=100.0)
    file = ClockFile(tmp_path / "clock")
    file.write(clock.course)
    clock.on_change = file.write
    market = MarketTime(tmp_path / "clock")
    assert abs(market.now_ms() - clock.now_ms()) < 100_000, "a second of real time at most"
    clock.stand()
    assert market.now_ms() == clock.now_ms()
    clock.jump(hk("2026-11-23 09:00:00"))
    assert market.now_ms() == hk("2026-11-23 09:00:00")
    assert [path.name for path in tmp_path.iterdir()] == ["clock"]


def test_a_night_is_jumped_over_in_no_time() -> None:
    made = exchange("2026-12-24 11:59", history_ticks=0)
    made.advance(hk("2026-12-24 12:20"))
    assert made.advance(hk("2026-12-28 09:15")) == [], "closed from Christmas Eve's noon to Monday morning"
    assert made.advance(hk("2026-12-28 09:31"))


def test_activity_is_so_many_times_the_ticks() -> None:
    few, many = (
        len(exchange("2026-11-20 10:00", history_ticks=0, activity=activity).advance(hk("2026-11-20 10:10")))
        for activity in (0.5, 4.0)
    )
    assert 6 < many / few < 10
    with pytest.raises(ValueError, match="activity"):
        MarketConfig(["HK.00700"], activity=0.0)


@pytest.mark.parametrize("speed", [0.0, -1.0, float("nan"), float("inf")])
def test_clock_refuses_impossible_speeds(speed: float) -> None:
    with pytest.raises(ValueError, match="speed"):
        SimClock(0, speed)


@pytest.mark.parametrize(
    ("start", "minutes", "options"),
    [
        ("2026-11-20 11:58", 65, {"rate_per_sec": 0.6, "history_ticks": 0}),  # over lunch
        ("2026-11-20 15:57", 15, {"rate_per_sec": 7.3, "history_ticks": 90}),  # the closing auction
        ("2026-11-20 23:58", 4, {"rate_per_sec": 3.7, "history_ticks": 0, "always_open": True}),  # midnight
        ("2026-11-20 10:00", 1, {"rate_per_sec": 99.9, "history_ticks": 0}),
        ("2026-11-20 22:29", 2, {"symbols": ["US.AAPL"], "rate_per_sec": 5.0, "history_ticks": 0}),  # the opening
    ],
)
def test_steps_without_a_print_are_passed_over_and_change_no_tick(
    monkeypatch: pytest.MonkeyPatch, start: str, minutes: int, options: dict[str, object]
) -> None:
    made = []
    for passed_over in (True, False):
        if not passed_over:
            monkeypatch.setattr(SteadySchedule, "quiet_until_ms", lambda _, start_ms: start_ms)
        calendar = TradingCalendar(US) if "symbols" in options else CALENDAR
        market = Exchange(MarketConfig(**{"symbols": FEW, **options}), hk(start) + 3, calendar)  # type: ignore[arg-type]
        ends_ms = range(hk(start) + 977, hk(start) + minutes * 60_000, 977)
        made.append([tick for until_ms in ends_ms for tick in market.advance(until_ms)])
    assert made[0]
    assert made[0] == made[1]
