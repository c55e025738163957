"""Which trades make the price, and which only volume: the one place where that is decided.

A Hong Kong trade's type is HKEX's (OMD-C market data, trade type), under the names of futu-api's TickerType:

===================== ============================================================ ===== ==========================
type                  what it is                                                   price counted in bars
===================== ============================================================ ===== ==========================
AUTO_MATCH            matched by the exchange, continuous trading                  yes   always
INTER_AUTO_MATCH      the same, both sides with one broker                         yes   always
AUCTION               opening and closing auction, at the auction's one price      yes   unless auctions are excluded
ODD_LOT               less than a board lot, in the odd-lot market, off the price  no    by choice
all others            agreed outside the order book and reported to the exchange   no    by choice
                      (NON_AUTO_MATCH, INTER_NON_AUTO_MATCH), of an earlier
                      session (LATE), partly abroad (OVERSEAS), or unknown
===================== ============================================================ ===== ==========================

A tick without any type (a file of an earlier recorder) counts as matched by the exchange.

OpenD writes 0 where it has no price or no volume: such a tick is stored as it came and is no trade here. It makes no
price, and no bar.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

AUCTION = "AUCTION"
ODD_LOT_TYPES = frozenset({"ODD_LOT", "ODD_LOT_CROSS_MARKET"})
PRICE_TYPES = frozenset({"AUTO_MATCH", "INTER_AUTO_MATCH", AUCTION})


@dataclass(frozen=True, slots=True)
class TradeRule:
    """What counts in a bar. ``prices`` is for open, high, low, close and VWAP; ``counts`` for volume, turnover and the
    number of ticks. All that makes prices counts too."""

    auctions: bool = True
    odd_lots: bool = False
    off_exchange: bool = False

    def prices(self, tick_type: str | None) -> bool:
        """Does a trade of this type make the price?"""
        if tick_type is None:
            return True
        return tick_type in PRICE_TYPES and (self.auctions or tick_type != AUCTION)

    def counts(self, tick_type: str | None) -> bool:
        """Does a trade of this type count in volume?"""
        if self.prices(tick_type):
            return True
        if tick_type == AUCTION:
            return False
        return self.odd_lots if tick_type in ODD_LOT_TYPES else self.off_exchange


def is_trade(ticks: pa.Table) -> pa.ChunkedArray:
    """For which rows (columns ``price`` and ``volume``) neither the price nor the volume is OpenD's 0 for "none"; one
    that is absent altogether (a file of an earlier recorder) says nothing."""
    return pc.and_(
        pc.fill_null(pc.greater(ticks.column("price"), 0.0), True),
        pc.fill_null(pc.greater(ticks.column("volume"), 0), True),
    )


def makes_price_sql() -> str:
    """The SQL condition for ticks that make the price, as ``TradeRule().prices`` and ``is_trade`` say."""
    listed = ", ".join(f"'{name}'" for name in sorted(PRICE_TYPES))
    return f"((tick_type IN ({listed}) OR tick_type IS NULL) AND price > 0 AND (volume > 0 OR volume IS NULL))"
