"""The currency in which a counter trades, from its code: the one place where that is decided.

OpenD's ticks carry no currency: price and turnover are in the counter's own. HKEX's code allocation tells it:

=========================================== ========= ================================================================
codes                                       currency  what
=========================================== ========= ================================================================
80000-89999                                 CNY       all that trades in renminbi: second counters, bonds, REITs
09000-09599, 09700-09799, 09800-09849       USD       second counters of ETFs and of leveraged and inverse products,
                                                      named after the first (02834: 09834, 03010: 09010, 07200: 09200)
04000-04329, 04400-04599, 05000-06029,      not known debt: the code does not tell
40000-40999
all others                                  HKD       shares, funds, warrants, CBBCs
=========================================== ========= ================================================================

A sum over counters of several currencies has no meaning, and none is made here.
"""

from __future__ import annotations

HKD, CNY, USD = "HKD", "CNY", "USD"
RANGES: tuple[tuple[int, int, str | None], ...] = (
    (80_000, 89_999, CNY),
    (9_000, 9_599, USD),
    (9_700, 9_799, USD),
    (9_800, 9_849, USD),
    (4_000, 4_329, None),
    (4_400, 4_599, None),
    (5_000, 6_029, None),
    (40_000, 40_999, None),
)


def currency_of(symbol: str) -> str | None:
    """``HK.00700`` is HKD, ``HK.80700`` CNY; None where the code does not tell, or is none."""
    digits = symbol.removeprefix("HK.")
    if not (digits.isascii() and digits.isdigit()):
        return None
    code = int(digits)
    return next((currency for first, last, currency in RANGES if first <= code <= last), HKD)


def currency_sql(column: str = "symbol") -> str:
    """The same as a SQL expression of a column that holds symbols."""
    code = f"try_cast(replace({column}, 'HK.', '') AS INTEGER)"
    cases = " ".join(
        f"WHEN {code} BETWEEN {first} AND {last} THEN {'NULL' if currency is None else repr(currency)}"
        for first, last, currency in RANGES
    )
    return f"CASE WHEN {code} IS NULL THEN NULL {cases} ELSE '{HKD}' END"
