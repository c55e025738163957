"""``TW.2330`` (TWSE), ``TWO.6488`` (TPEx), ``TWF.TXFL6`` (TAIFEX); ``TW.2330@ODD`` is the odd lots of a stock, a stream
of their own.
"""

from __future__ import annotations

from hk_tick_collector.market.symbols import CodeGrammar

LOT_SHARES = 1000

SYMBOLS = CodeGrammar(
    "TW|TWO|TWF", r"[A-Z0-9]{2,12}(@ODD)?", example="TW.2330", noun="security of TWSE, TPEx or TAIFEX"
)


def volume_unit(symbol: str) -> int | None:
    """Shares in one unit of its volume; None of a contract, whose multiplier its code does not tell."""
    if symbol.startswith("TWF."):
        return None
    return 1 if symbol.endswith("@ODD") else LOT_SHARES
