"""One trade of the simulated market, as the server sends it and the truth file keeps it."""

from __future__ import annotations

from dataclasses import dataclass

NEVER_MS = 1 << 62  # later than any time of a market


@dataclass(slots=True)
class SimTick:
    """A trade print. All times are market time in UTC epoch milliseconds.

    A print whose time string carries no milliseconds (``has_ms`` false) has ``ts_ms`` cut to the second, because that
    is all a client can learn; it may thus lie up to 999 ms before the prints made around it.
    """

    symbol: str  # "HK.00700"
    ts_ms: int
    price: float  # in the market's currency
    volume: int  # shares
    turnover: float  # price x volume
    direction: str  # BUY | SELL | NEUTRAL
    seq: int  # made as ``venue.Numbering`` says
    tick_type: str  # AUTO_MATCH, ODD_LOT, AUCTION, ...
    type_sign: int  # ASCII code of HKEX's trade type letter
    has_ms: bool
    recv_ts_ms: int  # when OpenD got it; never before the same symbol's earlier print
    part: float = 0.0  # of a share, beside ``volume`` whole ones
    damage: str = ""  # how OpenD spoils it wherever it shows it, see ``faults.UNREADABLE_KINDS``
