"""CME Group's trade types: every print of the central order book makes the price."""

from hk_tick_collector.market.trades import TradeTypes

TRADE_TYPES = TradeTypes(price_making=frozenset({"AUTO_MATCH"}))
