"""Taiwan's trade types: what the order book matched makes the price, also an odd lot, which is a symbol of its own.

A trial match (``SIMTRADE``), told before the opening and before the close, is no trade.
"""

from hk_tick_collector.market.trades import TradeTypes

SIMTRADE = "SIMTRADE"
TRADE_TYPES = TradeTypes(price_making=frozenset({"AUTO_MATCH"}), no_trade=frozenset({SIMTRADE}))
