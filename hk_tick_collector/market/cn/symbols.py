"""``SH.600519``, ``SZ.000001``: the exchange and six digits."""

from hk_tick_collector.market.symbols import CodeGrammar

SYMBOLS = CodeGrammar("SH|SZ", r"[0-9]{6}", example="SH.600519", noun="Shanghai or Shenzhen stock")
