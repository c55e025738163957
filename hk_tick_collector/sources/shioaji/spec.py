"""What Shioaji's gateway gives. Limits: SinoPac's "Use Restrictions" of 2026."""

from __future__ import annotations

from hk_tick_collector.core.evidence import EvidenceLevel
from hk_tick_collector.sources.source import Identity, PullLimits, SourceSpec

PROVIDER = "shioaji"
TITLE = "Shioaji"
GATEWAY = "http://127.0.0.1:8080"
SECRETS = (("api_key", "secret_key"),)
MAX_SUBSCRIPTIONS = 200
REQUESTS, REQUESTS_SEC = 45, 5.0  # of 50 in 5 s

# In trading hours ten answers of trades are allowed a day, which is no repair. After the close the whole day is asked
# for, once a symbol (``replay``).
LIMITS = PullLimits(newest_rows=0, subscribe_batch=20)

TW = SourceSpec(PROVIDER, "TW", Identity.SEQUENCE, EvidenceLevel.RUNNING_TOTAL, LIMITS, title=TITLE)

SPECS = (TW,)
