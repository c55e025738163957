"""What Futu OpenD gives, by market."""

from __future__ import annotations

from hk_tick_collector.core.evidence import EvidenceLevel
from hk_tick_collector.sources.source import BookOffer, Identity, PullLimits, SourceSpec

PROVIDER = "futu"
TITLE = "OpenD"
BOOKS = BookOffer.PUSHED

# Qot_GetTicker shows the newest 1000 ticks of a symbol and no other; beyond them the day's beginning cannot be seen.
# An answer near the limit may be cut a little short of it.
LIMITS = PullLimits(newest_rows=1000, surely_all_rows=950, in_flight=8, subscribe_batch=100)

# Qot_Common.TickerType, by number.
TICK_TYPES = {
    0: "UNKNOWN",
    1: "AUTO_MATCH",
    2: "LATE",
    3: "NON_AUTO_MATCH",
    4: "INTER_AUTO_MATCH",
    5: "INTER_NON_AUTO_MATCH",
    6: "ODD_LOT",
    7: "AUCTION",
    8: "BULK",
    9: "CRASH",
    10: "CROSS_MARKET",
    11: "BULK_SOLD",
    12: "FREE_ON_BOARD",
    13: "RULE127_OR_155",
    14: "DELAY",
    15: "MARKET_CENTER_CLOSE_PRICE",
    16: "NEXT_DAY",
    17: "MARKET_CENTER_OPENING",
    18: "PRIOR_REFERENCE_PRICE",
    19: "MARKET_CENTER_OPEN_PRICE",
    20: "SELLER",
    21: "T",
    22: "EXTENDED_TRADING_HOURS",
    23: "CONTINGENT",
    24: "AVERAGE_PRICE",
    25: "OTC_SOLD",
    26: "ODD_LOT_CROSS_MARKET",
    27: "DERIVATIVELY_PRICED",
    28: "REOPENINGP_RICED",  # the SDK's spelling
    29: "CLOSING_PRICED",
    30: "COMPREHENSIVE_DELAY_PRICE",
    31: "OVERSEAS",
}

# Hong Kong stocks: the low 32 bits of a sequence count the symbol's ticks of the day (observed, not documented).
HK = SourceSpec(PROVIDER, "HK", Identity.SEQUENCE, EvidenceLevel.COUNTER, LIMITS, TICK_TYPES, TITLE, books=BOOKS)
# US stocks: the low 32 bits are an index within the second (three documented rows). Shanghai and Shenzhen: sequences
# rise and leave numbers out. Either names a tick and counts nothing.
US = SourceSpec(PROVIDER, "US", Identity.SEQUENCE, EvidenceLevel.ID, LIMITS, TICK_TYPES, TITLE, books=BOOKS)
CN = SourceSpec(PROVIDER, "CN", Identity.SEQUENCE, EvidenceLevel.ID, LIMITS, TICK_TYPES, TITLE, books=BOOKS)

SPECS = (HK, US, CN)
