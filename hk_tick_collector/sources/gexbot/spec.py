"""What gexbot gives."""

from __future__ import annotations

from hk_tick_collector.core.evidence import EvidenceLevel
from hk_tick_collector.records.snapshot import SNAPSHOTS
from hk_tick_collector.sources.source import Identity, PullLimits, SourceSpec

PROVIDER = "gexbot"
API = "https://api.gex.bot/v2"

# A symbol is several requests a second, one a series.
LIMITS = PullLimits(newest_rows=0, subscribe_batch=50)

US = SourceSpec(
    PROVIDER, "US", Identity.TIME, EvidenceLevel.REPLAY, LIMITS, keeps_history=True, kind=SNAPSHOTS
)  # fmt: skip

SPECS = (US,)
