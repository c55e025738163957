"""What is listed on the simulated exchange: codes, names, board lots, prices and the price grid.

The best known securities stand in ``listed``. Any other code gets a lot and a price drawn from the seed.

Prices are counted in thousandths of the currency (``_milli``), which every spread is a multiple of.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random

from hk_tick_collector.market.hk.classes import SymbolClass, symbol_class
from hk_tick_collector.opend_sim.venue import CN, HK, VENUES, Venue, venue_of


@dataclass(frozen=True, slots=True)
class Instrument:
    """A listed security at the start of the simulation; live prices come from the exchange's snapshot."""

    code: str  # "HK.00700"
    name: str
    board_lot: int  # shares
    last_price: float  # in the market's currency, on the price grid
    prev_close: float
    kind: str  # STOCK | ETF | WARRANT | INDEX | FUTURE
    rank: int  # 0 for the most traded one


_KNOWN_BY_CODE = {row[0]: (rank, row) for venue in VENUES.values() for rank, row in enumerate(venue.known)}
# The middle one, how widely they spread (of their logarithms), the highest.
_PRICES = {
    "STOCK": (4.0, 1.4, 900.0),
    "WARRANT": (0.09, 0.7, 900.0),
    "INDEX": (5000.0, 0.3, 8000.0),
    "FUTURE": (5000.0, 0.3, 8000.0),
}
_LOTS = (100, 200, 400, 500, 500, 1000, 1000, 2000, 2000, 2000, 4000, 5000, 10_000)


def default_symbols(count: int, venue: Venue = HK) -> list[str]:
    """``count`` codes, most traded first: the known ones, then made ones. ValueError above 9,000 or below 1."""
    if not 1 <= count <= 9_000:
        raise ValueError(f"{count} symbols asked for, 1 to 9000 are possible")
    codes = [row[0] for row in venue.known][:count]
    number = 1
    while len(codes) < count:
        code = _made_code(number, venue)
        if code not in _KNOWN_BY_CODE:
            codes.append(code)
        number += 1
    return codes


def _made_code(number: int, venue: Venue) -> str:
    if venue is HK:
        return f"HK.{number:05d}"
    if venue is CN:
        return f"SH.{600_000 + number}"
    return f"{venue.prefix}.Z" + "".join(chr(ord("A") + number // 26**place % 26) for place in (2, 1, 0))


def list_instruments(symbols: list[str], seed: int) -> dict[str, Instrument]:
    """Instruments by code, in the order of ``symbols``. The most traded come first in ``rank``: known ones as in the
    real market, the others in an order drawn from the seed. A code that is listed twice counts once."""
    codes = list(dict.fromkeys(symbols))
    known = sorted((code for code in codes if code in _KNOWN_BY_CODE), key=lambda code: _KNOWN_BY_CODE[code][0])
    unknown = [code for code in codes if code not in _KNOWN_BY_CODE]
    Random(f"{seed}/ranks").shuffle(unknown)
    ranks = {code: rank for rank, code in enumerate([*known, *unknown])}
    return {code: _instrument(code, ranks[code], seed) for code in codes}


def _instrument(code: str, rank: int, seed: int) -> Instrument:
    # One generator a code, so that a symbol looks the same whatever else is listed.
    rng = Random(f"{seed}/{code}")
    known = _KNOWN_BY_CODE.get(code)
    kind = _kind(code)
    if known is not None:
        _, (_, name, lot, price) = known
    else:
        name, lot = f"{kind} {code[3:]}", rng.choice(_LOTS)
        centre, width, most = _PRICES.get(kind, _PRICES["STOCK"])
        price = min(math.exp(rng.gauss(math.log(centre), width)), most)
    grid = venue_of(code).grid
    prev_milli = grid.nearest(price * 1000)
    last_milli = grid.nearest(prev_milli * (1 + rng.gauss(0, 0.01)))
    return Instrument(code, name, lot, last_milli / 1000, prev_milli / 1000, kind, rank)


def _kind(code: str) -> str:
    if venue_of(code) is not HK:
        return "STOCK"
    number = code[3:]
    if len(number) != 5 or not number.isdecimal():
        return "INDEX" if number.isdecimal() else "FUTURE"
    symbol_kind = symbol_class(code)
    if symbol_kind is SymbolClass.COUNTER and code[3] == "8":
        symbol_kind = symbol_class(f"HK.0{code[4:]}")  # a counter in RMB is of the same kind
    return symbol_kind.name if symbol_kind in (SymbolClass.ETF, SymbolClass.WARRANT) else "STOCK"
