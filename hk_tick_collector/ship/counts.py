"""What the shipper has done since its start, and how far it is behind. Each field is written by the one thread that its
comment names; anybody may read."""

from __future__ import annotations

from dataclasses import dataclass, field

from hk_tick_collector.core.histogram import Histogram


@dataclass(slots=True)
class ShipCounts:
    """Counters begin at 0 with each start; moments are UTC epoch milliseconds, 0 when it has not happened yet."""

    ticks: int = 0  # live's, as all up to the keeper's
    shipments: int = 0
    waits: int = 0  # times that ClickHouse could take nothing
    days_begun_again: int = 0
    last_put_ms: int = 0
    waits_for: str = ""  # why nothing is taken; empty: it is
    is_refused: bool = False  # it waits for somebody, and not for time alone
    lag_ms: Histogram = field(default_factory=Histogram)  # from storing to arriving, of each shipment's oldest row
    days_verified: int = 0  # keeper's, as all below
    days_brought: int = 0  # whole days sent
    days_healed: int = 0  # of them those whose copy was another one
    unequal: str = ""  # the day whose copy cannot be made equal, and why
    keeper_waits: int = 0
    keeper_waits_for: str = ""
