"""How the gateway writes what is recorded: ``TW.2330`` is STK, TSE, 2330; ``TWO.6488`` OTC; ``TWF.TXFL6`` TAIFEX.

Real contracts only: ``TXFR1``, the month that is near, is another one tomorrow.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from hk_tick_collector.core.errors import FeedError

ODD = "@ODD"
FUTURES = "TWF"
_EXCHANGES = {"TW": "TSE", "TWO": "OTC"}
_FUTURE = re.compile(r"[A-Z0-9]{3}[A-L][0-9]", re.ASCII)  # root, month A to L, last digit of the year
_OPTION = re.compile(r"[A-Z0-9]{3}[0-9]{5}[A-X][0-9]", re.ASCII)  # root, strike, month (calls A-L, puts M-X), year


class Contract(NamedTuple):
    """As the gateway names it."""

    security_type: str  # STK | FUT | OPT
    exchange: str  # TSE | OTC | TAIFEX
    code: str
    is_odd: bool = False  # the stream of odd lots, whose volume is shares

    @property
    def key(self) -> str:
        """What its events are told apart by."""
        return f"{self.code}{ODD}" if self.is_odd else self.code

    def body(self) -> dict[str, object]:
        """Of a request."""
        return {"security_type": self.security_type, "exchange": self.exchange, "code": self.code}


def at_shioaji(symbol: str) -> Contract:
    """FeedError for one that the gateway has no name for, with what to do."""
    prefix, _, code = symbol.partition(".")
    plain = code.removesuffix(ODD)
    is_odd = plain != code
    if prefix in _EXCHANGES:
        return Contract("STK", _EXCHANGES[prefix], plain, is_odd)
    if is_odd:
        raise FeedError(f"{symbol}: only stocks have odd lots")
    for form, security_type in ((_FUTURE, "FUT"), (_OPTION, "OPT")):
        if form.fullmatch(plain):
            return Contract(security_type, "TAIFEX", plain)
    raise FeedError(f"{symbol}: no contract of TAIFEX; write a real one such as TWF.TXFL6, not TXFR1, which changes")


def prefix_of(exchange: str) -> str | None:
    """What stands before the dot of a stock there; None for another exchange."""
    return next((prefix for prefix, name in _EXCHANGES.items() if name == exchange), None)


def unit_of(contract: Contract) -> tuple[str, float | None]:
    """What its volume counts, and how many shares that is."""
    if contract.security_type != "STK":
        return "contracts", None
    return ("shares", 1.0) if contract.is_odd else ("lots", 1000.0)
