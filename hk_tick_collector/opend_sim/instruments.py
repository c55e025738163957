"""What is listed on the simulated exchange: codes, names, board lots, prices and the price grid.

Codes, names and board lots of the best known securities are those of the real market; prices are of the right order
of magnitude and nothing more. Any other code gets a lot and a price drawn from the seed.

Price grid: HKEX, Rules of the Exchange, Second Schedule, Part A (spread table) as it stands since phase 1 of the
minimum-spread reduction of mid-2025, which brought 10-20 HKD from 0.02 to 0.01 and 20-50 HKD from 0.05 to 0.02. Funds
and warrants have spread tables of their own on the real market; here all use Part A.
Prices are counted in thousandths of a dollar (``_milli``), which every spread is a multiple of.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from random import Random

from hk_tick_collector.market.hk.classes import SymbolClass, symbol_class

# Price from which the spread applies, and the spread, both in thousandths of a HKD.
_SPREADS_MILLI = (
    (0, 1),
    (250, 5),
    (500, 10),
    (20_000, 20),
    (50_000, 50),
    (100_000, 100),
    (200_000, 200),
    (500_000, 500),
    (1_000_000, 1_000),
    (2_000_000, 2_000),
    (5_000_000, 5_000),
)
_BANDS_MILLI = [low for low, _ in _SPREADS_MILLI]
MIN_PRICE_MILLI = 10
MAX_PRICE_MILLI = 9_995_000


@dataclass(frozen=True, slots=True)
class Instrument:
    """A listed security at the start of the simulation; live prices come from the exchange's snapshot."""

    code: str  # "HK.00700"
    name: str
    board_lot: int  # shares
    last_price: float  # HKD, on the price grid
    prev_close: float  # HKD
    kind: str  # STOCK | ETF | WARRANT, names of futu's SecurityType
    rank: int  # 0 for the most traded one


def spread_milli(price_milli: int) -> int:
    """The price step at a price, both in thousandths of a HKD."""
    return _SPREADS_MILLI[bisect_right(_BANDS_MILLI, price_milli) - 1][1]


def spread_band_milli(price_milli: int) -> tuple[int, int, int]:
    """(from, to, spread) in thousandths of a HKD: the spread holds for prices in [from, to)."""
    index = bisect_right(_BANDS_MILLI, price_milli) - 1
    low, spread = _SPREADS_MILLI[index]
    high = _BANDS_MILLI[index + 1] if index + 1 < len(_BANDS_MILLI) else MAX_PRICE_MILLI + 1
    return low, high, spread


def on_grid_milli(price_milli: float) -> int:
    """The nearest price that may be quoted, in thousandths of a HKD."""
    bounded = min(max(price_milli, MIN_PRICE_MILLI), MAX_PRICE_MILLI)
    spread = spread_milli(int(bounded))
    return round(bounded / spread) * spread


# Most traded first: code, name, board lot, price in HKD.
_KNOWN: tuple[tuple[str, str, int, float], ...] = (
    ("00700", "TENCENT", 100, 620.0),
    ("09988", "BABA-W", 100, 158.0),
    ("01810", "XIAOMI-W", 200, 42.0),
    ("03690", "MEITUAN-W", 100, 101.0),
    ("00981", "SMIC", 500, 74.0),
    ("02800", "TRACKER FUND", 500, 26.0),
    ("00005", "HSBC HOLDINGS", 400, 110.0),
    ("01299", "AIA", 200, 79.0),
    ("00388", "HKEX", 100, 415.0),
    ("09618", "JD-SW", 50, 118.0),
    ("01211", "BYD COMPANY", 500, 98.0),
    ("01024", "KUAISHOU-W", 100, 67.0),
    ("00941", "CHINA MOBILE", 500, 87.0),
    ("00939", "CCB", 1000, 8.0),
    ("01398", "ICBC", 1000, 6.3),
    ("03033", "CSOP HS TECH", 200, 5.6),
    ("02318", "PING AN", 500, 58.0),
    ("09992", "POP MART", 200, 210.0),
    ("02015", "LI AUTO-W", 100, 72.0),
    ("09868", "XPENG-W", 100, 85.0),
    ("00883", "CNOOC", 1000, 21.0),
    ("09888", "BIDU-SW", 50, 115.0),
    ("09999", "NTES-S", 100, 215.0),
    ("03988", "BANK OF CHINA", 1000, 4.6),
    ("02269", "WUXI BIO", 500, 33.0),
    ("01347", "HUA HONG SEMI", 1000, 75.0),
    ("02899", "ZIJIN MINING", 2000, 32.0),
    ("00175", "GEELY AUTO", 1000, 18.0),
    ("00020", "SENSETIME-W", 1000, 2.4),
    ("09866", "NIO-SW", 10, 45.0),
    ("02828", "HSCEI ETF", 200, 92.0),
    ("00992", "LENOVO GROUP", 2000, 11.0),
    ("02628", "CHINA LIFE", 1000, 25.0),
    ("00857", "PETROCHINA", 2000, 8.2),
    ("00386", "SINOPEC CORP", 2000, 4.2),
    ("01088", "CHINA SHENHUA", 500, 40.0),
    ("03968", "CM BANK", 500, 50.0),
    ("02020", "ANTA SPORTS", 200, 82.0),
    ("01177", "SINO BIOPHARM", 1000, 6.9),
    ("00027", "GALAXY ENT", 1000, 39.0),
    ("01801", "INNOVENT BIO", 500, 90.0),
    ("09961", "TRIP.COM-S", 50, 560.0),
    ("09626", "BILIBILI-W", 20, 210.0),
    ("06618", "JD HEALTH", 50, 60.0),
    ("00241", "ALI HEALTH", 2000, 6.0),
    ("01378", "CHINAHONGQIAO", 500, 28.0),
    ("02382", "SUNNY OPTICAL", 100, 75.0),
    ("00016", "SHK PPT", 500, 95.0),
    ("00001", "CKH HOLDINGS", 500, 53.0),
    ("02388", "BOC HONG KONG", 500, 38.0),
    ("00669", "TECHTRONIC IND", 500, 95.0),
    ("00823", "LINK REIT", 100, 41.0),
    ("01928", "SANDS CHINA LTD", 400, 20.0),
    ("01109", "CHINA RES LAND", 500, 30.0),
    ("00762", "CHINA UNICOM", 2000, 9.0),
    ("00688", "CHINA OVERSEAS", 500, 14.0),
    ("01113", "CK ASSET", 500, 38.0),
    ("00002", "CLP HOLDINGS", 500, 66.0),
    ("00003", "HK & CHINA GAS", 1000, 7.0),
    ("00066", "MTR CORPORATION", 500, 28.0),
    ("00267", "CITIC", 1000, 11.5),
    ("00288", "WH GROUP", 500, 8.1),
    ("02313", "SHENZHOU INTL", 100, 66.0),
    ("02319", "MENGNIU DAIRY", 1000, 15.0),
    ("02331", "LI NING", 500, 18.0),
    ("02333", "GWMOTOR", 500, 15.0),
    ("00868", "XINYI GLASS", 1000, 9.0),
    ("00968", "XINYI SOLAR", 2000, 3.4),
    ("01876", "BUD APAC", 100, 8.0),
    ("02007", "COUNTRY GARDEN", 1000, 0.55),
    ("02018", "AAC TECH", 500, 42.0),
    ("02618", "JD LOGISTICS", 100, 13.0),
    ("06690", "HAIER SMARTHOME", 200, 26.0),
    ("06862", "HAIDILAO", 1000, 14.0),
    ("09633", "NONGFU SPRING", 200, 52.0),
)
_KNOWN_BY_CODE = {f"HK.{row[0]}": (rank, row) for rank, row in enumerate(_KNOWN)}
_LOTS = (100, 200, 400, 500, 500, 1000, 1000, 2000, 2000, 2000, 4000, 5000, 10_000)


def default_symbols(count: int) -> list[str]:
    """``count`` codes, most traded first: the known ones, then numbered ones. ValueError above 9,000 or below 1."""
    if not 1 <= count <= 9_000:
        raise ValueError(f"{count} symbols asked for, 1 to 9000 are possible")
    codes = list(_KNOWN_BY_CODE)[:count]
    number = 1
    while len(codes) < count:
        code = f"HK.{number:05d}"
        if code not in _KNOWN_BY_CODE:
            codes.append(code)
        number += 1
    return codes


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
        centre, width = (0.09, 0.7) if kind == "WARRANT" else (4.0, 1.4)
        price = min(math.exp(rng.gauss(math.log(centre), width)), 900.0)
    prev_milli = on_grid_milli(price * 1000)
    last_milli = on_grid_milli(prev_milli * (1 + rng.gauss(0, 0.01)))
    return Instrument(code, name, lot, last_milli / 1000, prev_milli / 1000, kind, rank)


def _kind(code: str) -> str:
    found = symbol_class(code)
    if found is SymbolClass.COUNTER and code[3] == "8":
        found = symbol_class(f"HK.0{code[4:]}")  # a counter in RMB is of the same kind
    return found.name if found in (SymbolClass.ETF, SymbolClass.WARRANT) else "STOCK"
