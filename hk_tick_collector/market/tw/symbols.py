"""``TW.2330`` (TWSE), ``TWO.6488`` (TPEx), ``TWF.TXFL6`` (TAIFEX); ``TW.2330@ODD`` is the odd lots of a stock, a stream
of their own.
"""

from hk_tick_collector.market.symbols import CodeGrammar

SYMBOLS = CodeGrammar(
    "TW|TWO|TWF", r"[A-Z0-9]{2,12}(@ODD)?", example="TW.2330", noun="security of TWSE, TPEx or TAIFEX"
)
