"""What the shipper has done since its start, and how far it is behind. Each field is written by the one thread that its
comment names; anybody may read."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from hk_tick_collector.core.histogram import Histogram
from hk_tick_collector.core.text import counted
from hk_tick_collector.ship.waits import Waits


@dataclass(slots=True)
class ShipCounts:
    """Counters begin at 0 with each start; moments are UTC epoch milliseconds, 0 when it has not happened yet."""

    ticks: int = 0  # live's, as all up to the keeper's
    rows_of: Counter[str] = field(default_factory=Counter)  # "books", "brokers": pushes, as they were stored
    shipments: int = 0
    days_begun_again: int = 0
    last_put_ms: int = 0
    live: Waits = field(default_factory=lambda: Waits("ticks"))
    lag_ms: Histogram = field(default_factory=Histogram)  # from storing to arriving, of each shipment's oldest row
    days_verified: int = 0  # keeper's, as all below
    days_brought: int = 0  # whole days sent
    days_healed: int = 0  # of them those whose copy was another one
    days_verified_of: Counter[str] = field(default_factory=Counter)  # the same: days that were found equal there
    unequal_days: dict[str, str] = field(default_factory=dict)  # why its copy cannot be made equal; a new one each time
    keeper: Waits = field(default_factory=lambda: Waits("days"))

    @property
    def waits(self) -> int:
        """Times that ClickHouse could take nothing as it was stored."""
        return self.live.times

    @property
    def unequal(self) -> str:
        """The newest day whose copy cannot be made equal, why, and how many there are beside it; empty without one."""
        days = self.unequal_days
        if not days:
            return ""
        newest = max(days)
        return f"{newest}: {days[newest]}" + (f" (and {counted(len(days) - 1, 'day')} more)" if len(days) > 1 else "")
