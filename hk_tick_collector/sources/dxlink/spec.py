"""What dxLink gives."""

from __future__ import annotations

from hk_tick_collector.core.evidence import EvidenceLevel
from hk_tick_collector.sources.source import Identity, PullLimits, SourceSpec

PROVIDER = "dxlink"
TITLE = "dxLink"
TASTYTRADE = "https://api.tastyworks.com"

# Symbols a subscription message: some 2,000 were too many for a live server (close code 1009).
# TimeAndSale's index names a trade and counts none. There are no newest rows to be asked for: what an endpoint shows of
# the past it shows from a time on (``history``), and TastyTrade promises that for bars alone.
LIMITS = PullLimits(newest_rows=0, subscribe_batch=200)

US = SourceSpec(PROVIDER, "US", Identity.SEQUENCE, EvidenceLevel.ID, LIMITS, title=TITLE)
CME = SourceSpec(PROVIDER, "CME", Identity.SEQUENCE, EvidenceLevel.ID, LIMITS, title=TITLE)

SPECS = (US, CME)
