"""What Sierra Chart's files give."""

from __future__ import annotations

from hk_tick_collector.core.evidence import EvidenceLevel
from hk_tick_collector.sources.source import Identity, PullLimits, SourceSpec

PROVIDER = "sierra"

# A trade is told by its time, which rises with every record. The file is its own second copy, and it keeps what was
# recorded while nobody read it; nothing can be asked of it.
CME = SourceSpec(
    PROVIDER,
    "CME",
    Identity.TIME,
    EvidenceLevel.REPLAY,
    PullLimits(newest_rows=0, subscribe_batch=1000),
    title="Sierra Chart",
    keeps_history=True,
)

SPECS = (CME,)
