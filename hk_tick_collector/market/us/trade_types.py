"""The trade types of US stocks, as futu-api names them.

The consolidated tape's rule: an odd lot makes no price, nor does what was agreed at an average, derived or earlier
price, or comes late; the official opening and closing prices repeat a price without a new trade.
"""

from hk_tick_collector.market.trades import TradeTypes

TRADE_TYPES = TradeTypes(
    price_making=frozenset(
        {"AUTO_MATCH", "EXTENDED_TRADING_HOURS", "CROSS_MARKET", "REOPENINGP_RICED", "CLOSING_PRICED"}
    ),
    odd_lot=frozenset({"ODD_LOT", "ODD_LOT_CROSS_MARKET"}),
)
