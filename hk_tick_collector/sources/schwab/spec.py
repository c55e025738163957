"""What Schwab gives."""

from __future__ import annotations

from hk_tick_collector.core.evidence import EvidenceLevel
from hk_tick_collector.sources.source import BookOffer, Identity, PullLimits, SourceSpec

PROVIDER = "schwab"
TITLE = "Schwab"
API = "https://api.schwabapi.com"

# Symbols a command. Nothing can be asked for later: what Schwab shows of the past is bars of a minute. Level one is
# conflated, so a name for what was observed is all there is, and no day is ever complete (core.facts.CONFLATED). Books
# are whole and throttled, in Schwab's own words.
LIMITS = PullLimits(newest_rows=0, subscribe_batch=100)

US = SourceSpec(PROVIDER, "US", Identity.SEQUENCE, EvidenceLevel.ID, LIMITS, title=TITLE, books=BookOffer.CONFLATED)

SPECS = (US,)
