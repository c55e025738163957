"""Which trades make the price, and which only volume: the one place where that is decided.

A market's trade types say which are which (``Market.trade_types``).

A tick without any type (a file of an earlier recorder) counts as matched by the exchange.

OpenD writes 0 where it has no price or no volume: such a tick is stored as it came and is no trade here. It makes no
price, and no bar.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from hk_tick_collector.market.trades import TradeTypes


@dataclass(frozen=True, slots=True)
class TradeRule:
    """What counts in a bar of ticks that have these ``types``. ``prices`` is for open, high, low, close and VWAP;
    ``counts`` for volume, turnover and the number of ticks. All that makes prices counts too."""

    types: TradeTypes
    auctions: bool = True
    odd_lots: bool = False
    off_exchange: bool = False

    def prices(self, tick_type: str | None) -> bool:
        """Does a trade of this type make the price?"""
        if tick_type is None:
            return True
        return tick_type in self.types.price_making and (self.auctions or tick_type not in self.types.auction)

    def counts(self, tick_type: str | None) -> bool:
        """Does a trade of this type count in volume?"""
        if self.prices(tick_type):
            return True
        if tick_type in self.types.auction or tick_type in self.types.no_trade:
            return False
        return self.odd_lots if tick_type in self.types.odd_lot else self.off_exchange


def is_trade(ticks: pa.Table) -> pa.ChunkedArray:
    """For which rows (columns ``price`` and ``volume``) neither the price nor the volume is OpenD's 0 for "none"; one
    that is absent altogether (a file of an earlier recorder) says nothing."""
    return pc.and_(
        pc.fill_null(pc.greater(ticks.column("price"), 0.0), True),
        pc.fill_null(pc.greater(ticks.column("volume"), 0), True),
    )


def makes_price_sql(types: TradeTypes) -> str:
    """The SQL condition for ticks that make the price, as ``TradeRule(types).prices`` and ``is_trade`` say."""
    listed = ", ".join(f"'{name}'" for name in sorted(types.price_making))
    return f"((tick_type IN ({listed}) OR tick_type IS NULL) AND price > 0 AND (volume > 0 OR volume IS NULL))"
