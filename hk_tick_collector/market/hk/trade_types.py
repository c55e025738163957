"""Hong Kong's trade types.

HKEX's (OMD-C market data, trade type), under the names of futu-api's TickerType:

===================== ============================================================ ===== ==========================
type                  what it is                                                   price counted in bars
===================== ============================================================ ===== ==========================
AUTO_MATCH            matched by the exchange, continuous trading                  yes   always
INTER_AUTO_MATCH      the same, both sides with one broker                         yes   always
AUCTION               opening and closing auction, at the auction's one price      yes   unless auctions are excluded
ODD_LOT               less than a board lot, in the odd-lot market, off the price  no    by choice
all others            agreed outside the order book and reported to the exchange   no    by choice
                      (NON_AUTO_MATCH, INTER_NON_AUTO_MATCH), of an earlier
                      session (LATE), partly abroad (OVERSEAS), or unknown
===================== ============================================================ ===== ==========================

LATE are trades of an earlier day, reported today (HKEX's P), OVERSEAS those done on another market: OpenD's sums hold
neither. Everything else is HKEX turnover of the day.
"""

from hk_tick_collector.market.trades import TradeTypes

TRADE_TYPES = TradeTypes(
    price_making=frozenset({"AUTO_MATCH", "INTER_AUTO_MATCH", "AUCTION"}),
    auction=frozenset({"AUCTION"}),
    odd_lot=frozenset({"ODD_LOT", "ODD_LOT_CROSS_MARKET"}),
    not_in_totals=frozenset({"LATE", "OVERSEAS"}),
)
