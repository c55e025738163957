"""What the simulator must know of a market beside its ``Market``: OpenD's numbers, prices, trades, sequences.

Days, hours, clock and form of symbols are the ``Market``'s alone. A further market is a ``Venue`` here. None of the
values but Hong Kong's were seen on a live OpenD: they are those of futu-api 10.11 and of Futu's documentation.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from hk_tick_collector.core.errors import ConfigError
from hk_tick_collector.market.cn import CN as CN_MARKET
from hk_tick_collector.market.hk import HK as HK_MARKET
from hk_tick_collector.market.hours import CONTINUOUS, DayKind, Phase
from hk_tick_collector.market.market import Market
from hk_tick_collector.market.symbols import SymbolGrammar
from hk_tick_collector.market.us import US as US_MARKET
from hk_tick_collector.opend_sim import listed, pb

MIN_PRICE_MILLI = 10
MAX_PRICE_MILLI = 9_995_000

_INDEX_OR_FUTURE = re.compile(r"HK\.([0-9]{6}|[A-Z]{2,8}(main|[0-9]{4}))\Z")

_common = pb.qot_common


class Numbering(Enum):
    """How a market's sequences are made."""

    DAY_COUNTER = "second << 32, and the symbol's counter of the day"
    SECOND_INDEX = "second << 32, and the index of the symbol's tick within its second"
    SPARSE = "increasing, with holes that mean nothing"


@dataclass(frozen=True)
class PriceGrid:
    """(price, spread) rows: from that price on the spread applies; both in thousandths of the market's currency."""

    rows: tuple[tuple[int, int], ...]
    _lows: list[int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_lows", [low for low, _ in self.rows])

    def spread(self, price_milli: int) -> int:
        """The price step at a price."""
        return self.rows[bisect_right(self._lows, price_milli) - 1][1]

    def band(self, price_milli: int) -> tuple[int, int, int]:
        """(from, to, spread): the spread holds for prices in [from, to)."""
        index = bisect_right(self._lows, price_milli) - 1
        low, spread = self.rows[index]
        high = self._lows[index + 1] if index + 1 < len(self._lows) else MAX_PRICE_MILLI + 1
        return low, high, spread

    def nearest(self, price_milli: float) -> int:
        """The nearest price that may be quoted."""
        bounded = min(max(price_milli, MIN_PRICE_MILLI), MAX_PRICE_MILLI)
        spread = self.spread(int(bounded))
        return round(bounded / spread) * spread


Kinds = tuple[tuple[str, int, float], ...]  # trade type, its letter's ASCII code, its share


class HongKongListing:
    """What can be listed in the simulated Hong Kong: beside the codes that are recorded also an index (``HK.800000``)
    and a futures contract (``HK.HSImain``), as programs for futu-api name them. See ``SymbolGrammar``."""

    example = HK_MARKET.symbols.example
    noun = HK_MARKET.symbols.noun

    def symbol(self, word: str) -> str | None:
        return word if _INDEX_OR_FUTURE.match(word) else HK_MARKET.symbols.symbol(word)

    def why_not(self, word: str) -> str:
        return HK_MARKET.symbols.why_not(word)


@dataclass(frozen=True, eq=False)
class Venue:
    """One market at the simulated OpenD::

    SG = Venue(
        market=sg.SG,
        numbers={"SG": 31},
        trade_dates=8,
        exchanges={"SG": 17},
        state_fields=("marketSG",),
        right_fields=("sgStockQotRight",),
        states={Phase.CLOSED: "CLOSED", Phase.REGULAR: "MORNING"},
        numbering=Numbering.SPARSE,
        grid=PriceGrid(((0, 10),)),
        kinds=(("AUTO_MATCH", 32, 1.0),),
        known=(("D05", "DBS", 100, 54.0),),
    )
    """

    market: Market
    numbers: Mapping[str, int]  # the word before a symbol's first dot -> Qot_Common.QotMarket
    trade_dates: int  # Qot_Common.TradeDateMarket
    exchanges: Mapping[str, int]  # the same word -> Qot_Common.ExchType
    state_fields: tuple[str, ...]  # of GetGlobalState.S2C
    right_fields: tuple[str, ...]  # of GetUserInfo.S2C and Notify.QotRight
    states: Mapping[Phase, str]  # names of Qot_Common.QotMarketState without their prefix, as ``encode`` knows them
    numbering: Numbering
    grid: PriceGrid
    kinds: Kinds  # of continuous trading
    known: tuple[tuple[str, str, int, float], ...]  # most traded first: code, name, board lot, price
    extended_kinds: Kinds = ()  # of the phases in ``extended``
    extended: Mapping[Phase, float] = field(default_factory=dict)  # further phases with trades, and how busy they are
    listing: SymbolGrammar | None = None  # what can be traded, where that is more than the market's own symbols
    part_share: float = 0.0  # share of the trades that are of less than a share

    @property
    def symbols(self) -> SymbolGrammar:
        """The form of what can be listed."""
        return self.listing or self.market.symbols

    @property
    def prefix(self) -> str:
        """The first word that its symbols begin with."""
        return next(iter(self.numbers))

    def windows(self, day: str, kind: DayKind) -> list[tuple[int, int]]:
        """When trades are made one after the other: continuous trading, and the extended phases."""
        return [
            (span.start_ms, span.end_ms)
            for span in self.market.spans(day, kind)
            if span.phase in CONTINUOUS or span.phase in self.extended
        ]

    def moved(self, seq: int, second: int) -> int:
        """The sequence of a tick whose second is made another: as its market numbers, and nobody else's."""
        if self.numbering is Numbering.SPARSE:
            return seq
        low = seq & 0xFFFFFFFF
        if self.numbering is Numbering.SECOND_INDEX and second != seq >> 32:
            low = 1_000_000 + (seq >> 32) % 1_000 * 1_000 + low % 1_000
        return second << 32 | low


# HKEX, Rules of the Exchange, Second Schedule, Part A (spread table) as it stands since phase 1 of the minimum-spread
# reduction of mid-2025, which brought 10-20 HKD from 0.02 to 0.01 and 20-50 HKD from 0.05 to 0.02. Funds and warrants
# have spread tables of their own on the real market; here all use Part A.
HK_GRID = PriceGrid(
    (
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
)

HK = Venue(
    market=HK_MARKET,
    numbers={"HK": int(_common.QotMarket_HK_Security)},
    trade_dates=int(_common.TradeDateMarket_HK),
    exchanges={"HK": int(_common.ExchType_HK_MainBoard)},
    state_fields=("marketHK",),
    right_fields=("hkQotRight",),
    states={
        Phase.CLOSED: "CLOSED",
        Phase.PRE_OPEN_AUCTION: "AUCTION",
        Phase.PRE_OPEN_WAIT: "WAITING_OPEN",
        Phase.MORNING: "MORNING",
        Phase.LUNCH: "REST",
        Phase.AFTERNOON: "AFTERNOON",
        Phase.CLOSING_AUCTION: "HK_CAS",
        Phase.POST_CLOSE: "CLOSED",
    },
    numbering=Numbering.DAY_COUNTER,
    grid=HK_GRID,
    kinds=(
        ("AUTO_MATCH", 32, 0.82),
        ("INTER_AUTO_MATCH", ord("Y"), 0.10),
        ("INTER_NON_AUTO_MATCH", ord("X"), 0.07),
        ("ODD_LOT", ord("D"), 0.01),
    ),
    known=listed.HK,
    listing=HongKongListing(),
)
US = Venue(
    market=US_MARKET,
    numbers={"US": int(_common.QotMarket_US_Security)},
    trade_dates=int(_common.TradeDateMarket_US),
    exchanges={"US": int(_common.ExchType_US_Nasdaq)},
    state_fields=("marketUS",),
    right_fields=("usQotRight",),
    states={
        Phase.CLOSED: "CLOSED",
        Phase.OVERNIGHT: "OVERNIGHT",
        Phase.PRE_MARKET: "PRE_MARKET_BEGIN",
        Phase.REGULAR: "AFTERNOON",
        Phase.POST_MARKET: "AFTER_HOURS_BEGIN",
    },
    numbering=Numbering.SECOND_INDEX,
    grid=PriceGrid(((0, 10),)),
    # The documented rows of AAPL are all odd lots.
    kinds=(
        ("ODD_LOT", ord("I"), 0.66),
        ("AUTO_MATCH", 32, 0.31),
        ("CROSS_MARKET", ord("X"), 0.02),
        ("AVERAGE_PRICE", ord("W"), 0.01),
    ),
    extended_kinds=(("EXTENDED_TRADING_HOURS", ord("T"), 1.0),),
    extended={Phase.OVERNIGHT: 0.05, Phase.PRE_MARKET: 0.15, Phase.POST_MARKET: 0.15},
    part_share=0.01,
    known=listed.US,
)
CN = Venue(
    market=CN_MARKET,
    numbers={"SH": int(_common.QotMarket_CNSH_Security), "SZ": int(_common.QotMarket_CNSZ_Security)},
    trade_dates=int(_common.TradeDateMarket_CN),
    exchanges={"SH": int(_common.ExchType_CN_SH), "SZ": int(_common.ExchType_CN_SZ)},
    state_fields=("marketSH", "marketSZ"),
    right_fields=("shQotRight", "szQotRight", "cnQotRight"),
    states={
        Phase.CLOSED: "CLOSED",
        Phase.PRE_OPEN_AUCTION: "AUCTION",
        Phase.PRE_OPEN_WAIT: "WAITING_OPEN",
        Phase.MORNING: "MORNING",
        Phase.LUNCH: "REST",
        Phase.AFTERNOON: "AFTERNOON",
        Phase.CLOSING_AUCTION: "CLOSE_AUCTION",
        Phase.POST_CLOSE: "CLOSED",
    },
    numbering=Numbering.SPARSE,
    grid=PriceGrid(((0, 10),)),
    kinds=(("AUTO_MATCH", 32, 1.0),),
    known=listed.CN,
)

VENUES = {venue.market.code: venue for venue in (HK, US, CN)}
_BY_PREFIX = {prefix: venue for venue in VENUES.values() for prefix in venue.numbers}
PREFIXES = {number: prefix for venue in VENUES.values() for prefix, number in venue.numbers.items()}
PREFIXES[int(_common.QotMarket_HK_Future)] = "HK"


def venue_of(symbol: str) -> Venue:
    """The venue of a symbol, ``US.BRK.B``; Hong Kong for what is none, as a damaged file may hold."""
    return _BY_PREFIX.get(symbol.partition(".")[0], HK)


def venue_of_all(symbols: list[str]) -> Venue:
    """The one venue of these symbols. ConfigError where they are of several."""
    venues = {venue_of(symbol).market.code: venue_of(symbol) for symbol in symbols}
    if len(venues) > 1:
        raise ConfigError(f"symbols of {' and '.join(venues)} in one simulator; it trades one market")
    return next(iter(venues.values()), HK)
