"""Which rows of the live channel are new to a client."""

from __future__ import annotations

from typing import Any

from hk_tick_collector.client.live import COLUMNS, Seen

DAY = "20261120"


def row(**values: Any) -> tuple[Any, ...]:
    given = {"market": "HK", "trading_day": DAY, "symbol": "HK.00700", "ts_ms": 1, "price": 1.0, "volume": 100}
    given.update({"occurrence": 0, **values})
    return tuple(given.get(name) for name in COLUMNS)


def test_rows_of_one_millisecond_without_a_sequence_differ_by_their_content() -> None:
    seen = Seen()
    rows = [row(), row(price=1.1), row(volume=200), row(turnover=7.0), row(occurrence=1), row(symbol="HK.00005")]
    assert seen.new(rows) == rows
    seen.read_again(DAY)
    assert seen.new(rows) == []


def test_a_row_with_a_sequence_is_known_by_it() -> None:
    seen = Seen()
    seen.read_again(DAY)
    assert len(seen.new([row(seq=7), row(seq=8), row(seq=7)])) == 2


def test_what_is_kept_of_a_day_is_bounded_and_the_newest() -> None:
    seen = Seen(max_rows=100)
    rows = [row(seq=n) for n in range(1000)]
    for n in range(0, 1000, 10):
        assert len(seen.new(rows[n : n + 10])) == 10
    assert len(seen._marks["HK", DAY]) <= 100
    seen.read_again(DAY)
    assert seen.new(rows[-50:]) == []


def test_days_of_two_markets_are_kept_apart() -> None:
    seen = Seen()
    for day in ("20261119", DAY):
        for market in ("HK", "US"):
            seen.new([row(market=market, trading_day=day, seq=1)])
    seen.read_again(DAY)
    assert seen.new([row(market=market, seq=n) for market in ("HK", "US") for n in (1, 2)]) == [
        row(market="HK", seq=2), row(market="US", seq=2)
    ]  # fmt: skip


def test_a_day_that_was_left_is_forgotten() -> None:
    seen = Seen()
    for day in ("20261118", "20261119", DAY):
        seen.new([row(trading_day=day, seq=1)])
    assert sorted(seen._marks) == [("HK", "20261119"), ("HK", DAY)]
