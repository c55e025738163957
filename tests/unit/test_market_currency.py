"""In which currency a counter trades, by its code; in Python and in SQL."""

from __future__ import annotations

import duckdb
import pytest

from hk_tick_collector.market.hk.currency import RANGES, currency_of, currency_sql


@pytest.mark.parametrize(
    ("symbol", "currency"),
    [
        ("HK.00700", "HKD"),
        ("HK.80700", "CNY"),  # Tencent's second counter
        ("HK.82800", "CNY"),
        ("HK.87001", "CNY"),  # a REIT
        ("HK.89988", "CNY"),
        ("HK.02834", "HKD"),
        ("HK.09834", "USD"),  # the same ETF in US dollars
        ("HK.03010", "HKD"),
        ("HK.09010", "USD"),
        ("HK.09618", "HKD"),  # shares of companies, among the 9xxx
        ("HK.09863", "HKD"),
        ("HK.09988", "HKD"),
        ("HK.08083", "HKD"),  # GEM
        ("HK.13579", "HKD"),  # a warrant
        ("HK.61234", "HKD"),
        ("HK.05432", None),  # a bond
        ("HK.40123", None),
        ("nonsense", None),
        ("", None),
    ],
)
def test_the_code_tells(symbol: str, currency: str | None) -> None:
    assert currency_of(symbol) == currency


def test_sql_says_the_same() -> None:
    edges = sorted({edge for first, last, _ in RANGES for edge in (first - 1, first, last, last + 1)})
    symbols = [f"HK.{code:05d}" for code in edges] + ["", "HK.", "HK.ABCDE", "US.AAPL"]
    with duckdb.connect() as connection:
        for symbol in symbols:
            answer = connection.execute(f"SELECT {currency_sql()} FROM (SELECT ? AS symbol)", [symbol]).fetchone()
            assert answer == (currency_of(symbol),), symbol
