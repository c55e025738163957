"""What kind of security a code probably is, from the ranges in which HKEX hands out codes.

Approximate: HKEX's stock code allocation plan changes, old codes stay where they were, and only OpenD knows what is
listed. Good enough to tell groups apart in a report; nothing that is recorded or judged rests on it.
"""

from __future__ import annotations

from enum import StrEnum


class SymbolClass(StrEnum):
    """The value is the word in reports."""

    STOCK = "stock"
    ETF = "etf"  # with leveraged and inverse products
    WARRANT = "warrant"  # with inline warrants and CBBCs
    COUNTER = "counter"  # a security's second counter, in RMB or USD
    OTHER = "other"  # debt, and what no range below holds


# The first range that holds a code says its class. First and last code.
_RANGES: tuple[tuple[int, int, SymbolClass], ...] = (
    (2_800, 2_849, SymbolClass.ETF),
    (3_000, 3_199, SymbolClass.ETF),
    (7_200, 7_599, SymbolClass.ETF),
    (4_000, 6_029, SymbolClass.OTHER),
    (9_000, 9_399, SymbolClass.COUNTER),
    (9_500, 9_599, SymbolClass.COUNTER),
    (9_800, 9_849, SymbolClass.COUNTER),
    (1, 9_999, SymbolClass.STOCK),
    (10_000, 29_999, SymbolClass.WARRANT),
    (47_000, 69_999, SymbolClass.WARRANT),
    (80_000, 89_999, SymbolClass.COUNTER),
)


def symbol_class(symbol: str) -> SymbolClass:
    """The class of ``HK.NNNNN``, approximately; OTHER for what is in another form."""
    code = symbol.removeprefix("HK.")
    if len(code) == 5 and code.isascii() and code.isdigit():
        for first, last, symbol_class in _RANGES:
            if first <= int(code) <= last:
                return symbol_class
    return SymbolClass.OTHER
