"""What Futu OpenD gives, by market."""

from __future__ import annotations

from hk_tick_collector.core.evidence import EvidenceLevel
from hk_tick_collector.sources.source import Identity, PullLimits, SourceSpec

PROVIDER = "futu"
TITLE = "OpenD"

# Qot_GetTicker shows the newest 1000 ticks of a symbol and no other; beyond them the day's beginning cannot be seen.
# An answer near the limit may be cut a little short of it.
LIMITS = PullLimits(newest_rows=1000, surely_all_rows=950, in_flight=8, subscribe_batch=100)

# Hong Kong stocks: the low 32 bits of a sequence count the symbol's ticks of the day (observed, not documented).
HK = SourceSpec(PROVIDER, "HK", Identity.SEQUENCE, EvidenceLevel.COUNTER, LIMITS, title=TITLE)
# US stocks: the low 32 bits are an index within the second (three documented rows). Shanghai and Shenzhen: sequences
# rise and leave numbers out. Either names a tick and counts nothing.
US = SourceSpec(PROVIDER, "US", Identity.SEQUENCE, EvidenceLevel.ID, LIMITS, title=TITLE)
CN = SourceSpec(PROVIDER, "CN", Identity.SEQUENCE, EvidenceLevel.ID, LIMITS, title=TITLE)

SPECS = (HK, US, CN)
