"""``US.AAPL``, ``US.BRK.B``, ``US..DJI``: a code may have a dot of its own, an index begins with one.
``US.ES_SPX``: levels of an index beside the price of its future, as gexbot names them.

Whether OpenD sends ticks of a code, an index above all, only OpenD can tell.
"""

from hk_tick_collector.market.symbols import CodeGrammar

SYMBOLS = CodeGrammar("US", r"[.]?[A-Z][A-Z0-9]{0,9}([.][A-Z]{1,3}|_[A-Z]{1,6})?", example="US.AAPL", noun="US stock")
