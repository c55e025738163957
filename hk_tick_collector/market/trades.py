"""Which trades of a market make its price, under the names of futu-api's ``TickerType``, which every source uses."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TradeTypes:
    """The types that a market's prints have, by what they are good for. A type in none of these was agreed outside the
    order book, belongs to another session, or is unknown: it makes no price."""

    price_making: frozenset[str]
    auction: frozenset[str] = frozenset()  # make the price too, unless auctions are left out
    odd_lot: frozenset[str] = frozenset()
    not_in_totals: frozenset[str] = frozenset()  # the source counts them in no bar and in no day total
    no_trade: frozenset[str] = frozenset()  # nothing changed hands: in no bar, whoever asks
