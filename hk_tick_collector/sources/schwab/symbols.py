"""How Schwab writes the symbols that are recorded: ``US.AAPL`` is ``AAPL``, ``US.BRK.B`` is ``BRK/B``."""

from __future__ import annotations

from hk_tick_collector.core.errors import FeedError


def at_schwab(symbol: str) -> str:
    """``symbol`` in Schwab's spelling. FeedError for one that has none, with what to do."""
    code = symbol.partition(".")[2]
    if code.startswith("."):
        raise FeedError(f"{symbol}: Schwab tells no trades of an index")
    return code.replace(".", "/")
