"""How dxFeed writes the symbols that are recorded: ``US.AAPL`` is ``AAPL``, ``CME.ESZ26`` is ``/ESZ26:XCME``.

A future is named with its exchange, which its code does not say: known roots are in a table, and ``DXLINK_VENUES`` says
it of others.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from hk_tick_collector.core.errors import FeedError, InputError

# ISO 10383 of CME Group's exchanges, as dxFeed writes them.
VENUES = {"XCME": "CME", "XCBT": "CBOT", "XNYM": "NYMEX", "XCEC": "COMEX"}
_ROOTS = {
    "XCME": "ES MES NQ MNQ RTY M2K EMD NKD 6A 6B 6C 6E 6J 6M 6N 6S M6A M6B M6E BTC MBT ETH MET SR1 SR3 LE HE GF",
    "XCBT": "YM MYM ZB ZN ZF ZT UB TN ZC ZS ZW ZM ZL ZO KE ZQ",
    "XNYM": "CL MCL QM NG QG RB HO PL PA BZ",
    "XCEC": "GC MGC SI SIL HG MHG QO QI",
}
_EXCHANGE_OF_ROOT = {root: exchange for exchange, roots in _ROOTS.items() for root in roots.split()}
_CONTRACT = re.compile(r"CME\.(?P<root>[A-Z0-9]{1,4}?)[FGHJKMNQUVXZ][0-9]{1,2}", re.ASCII)


class Venue(NamedTuple):
    """``LBR=XCME``: contracts of this root trade there."""

    root: str
    exchange: str

    def __str__(self) -> str:
        """As it is written."""
        return f"{self.root}={self.exchange}"


def parse_venue(text: str) -> Venue:
    """One entry of ``DXLINK_VENUES``; InputError says what is wrong."""
    root, _, exchange = text.strip().upper().partition("=")
    if not re.fullmatch(r"[A-Z0-9]{1,4}", root, re.ASCII) or exchange not in VENUES:
        raise InputError(
            f"{text!r} is not a root and an exchange: write LBR=XCME, the exchange being one of {', '.join(VENUES)}"
        )
    return Venue(root, exchange)


def at_dxlink(symbol: str, venues: Sequence[Venue] = ()) -> str:
    """``symbol`` in dxFeed's spelling. FeedError for one that has none, with what to do."""
    market, _, code = symbol.partition(".")
    if market == "CME":
        match = _CONTRACT.fullmatch(symbol)
        root = match["root"] if match else ""
        exchange = {**_EXCHANGE_OF_ROOT, **dict(venues)}.get(root)
        if exchange is None:
            raise FeedError(f"{symbol}: on which exchange {root or code} trades is not known; say it in DXLINK_VENUES")
        return f"/{code}:{exchange}"
    if code.startswith("."):
        raise FeedError(f"{symbol}: dxLink tells no trades of an index")
    return code.replace(".", "/")  # BRK.B is BRK/B
