"""Prices of ``.scid`` records: four bytes of float, perhaps in an integer unit, made into the number that was traded.

A float of four bytes holds 0.0067915 as 0.0067914999…; times the multiplier, the price is the nearest multiple of the
tick size. One that lies further away than such a float is inexact was not traded at this tick size: the multiplier or
the tick size is wrong, or the record is damaged.
"""

from __future__ import annotations

import math
import struct
from decimal import Decimal

from hk_tick_collector.sources.sierra.scid import is_price

INEXACT = 2.0**-22  # of the price: four times what rounding to four bytes does
MAX_KNOWN = 65_536  # prices kept
MAX_PRICE = 1e9  # no contract of these exchanges trades near it, in whichever unit

_FLOAT = struct.Struct("<f")


class Prices:
    """Price by float, worked out once: a day has some thousand different prices and a million trades."""

    def __init__(self, multiplier: float = 1.0, tick_size: float | None = None) -> None:
        self._multiplier = multiplier
        self._tick_size = tick_size
        self._decimals = 0 if tick_size is None else _decimals(tick_size)
        self._known: dict[float, float | None] = {}
        self._quotes: dict[float, float | None] = {}

    def of(self, value: float) -> float | None:
        """The price; None when it is none."""
        try:
            return self._known[value]
        except KeyError:
            price = self._work_out(value)
            if not math.isnan(value):  # which is no key: it never equals itself
                if len(self._known) >= MAX_KNOWN:
                    self._known.clear()
                self._known[value] = price
            return price

    def quote(self, value: float) -> float | None:
        """A bid or an ask: 0 is "not known". One beside the tick is told as it is, for no trade depends on it."""
        try:
            return self._quotes[value]
        except KeyError:
            quote = self._work_out_quote(value)
            if not math.isnan(value):
                if len(self._quotes) >= MAX_KNOWN:
                    self._quotes.clear()
                self._quotes[value] = quote
            return quote

    def in_range(self, value: float) -> bool:
        """Can a contract have such a price? It cannot with a multiplier that was mistyped."""
        return abs(value * self._multiplier) <= MAX_PRICE

    def _work_out_quote(self, value: float) -> float | None:
        if value == 0.0 or not is_price(value) or not self.in_range(value):
            return None
        price = self.of(value)
        return _tidy(shortest(value) * self._multiplier) if price is None else price

    def _work_out(self, value: float) -> float | None:
        if not is_price(value) or not self.in_range(value):
            return None
        price = shortest(value) * self._multiplier
        if self._tick_size is None:
            return _tidy(price)
        ticks = round(price / self._tick_size)
        on_tick = round(ticks * self._tick_size, self._decimals)
        return on_tick if abs(price - on_tick) <= abs(price) * INEXACT else None


def shortest(value: float) -> float:
    """The number with the fewest digits that four bytes hold as ``value``."""
    for digits in (6, 7, 8):
        short = float(f"{value:.{digits}g}")
        if _FLOAT.unpack(_FLOAT.pack(short))[0] == value:
            return short
    return float(f"{value:.9g}")


def _decimals(tick_size: float) -> int:
    return max(0, -int(Decimal(repr(tick_size)).normalize().as_tuple().exponent))


def _tidy(price: float) -> float:
    """A product of two short numbers is short: 421575 x 0.01 is 4215.75 and not 4215.750000000001."""
    return float(f"{price:.15g}") if math.isfinite(price) else price
