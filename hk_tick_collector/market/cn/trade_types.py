"""The trade types of Shanghai and Shenzhen stocks: every print that OpenD sends is matched by the exchange."""

from hk_tick_collector.market.trades import TradeTypes

TRADE_TYPES = TradeTypes(price_making=frozenset({"AUTO_MATCH", "AUCTION"}), auction=frozenset({"AUCTION"}))
