"""A snapshot: what a source computed of one second, such as the levels that gexbot derives from an option chain.

It is no trade: nothing was bought, and no price was made. What names it is the series and the second; the same second
may be told twice, as it was seen live and in the source's own copy of the day. Two bodies that say the same are one
row, two that differ are both kept.
"""

from __future__ import annotations

from typing import NamedTuple

from hk_tick_collector.records.kind import RecordKind

SNAPSHOT = "snapshot"
LIVE, COPY = "live", "copy"
ORIGINS = (LIVE, COPY)


class Series(NamedTuple):
    """What is computed of which symbol: US.SPX, classic, gex_full."""

    symbol: str
    package: str
    category: str

    def __str__(self) -> str:
        return f"{self.symbol}/{self.package}/{self.category}"


class Snapshot(NamedTuple):
    """One snapshot. It has what a lane asks of a record (``records.kind.Record``)."""

    symbol: str  # "US.SPX"
    ts_ms: int  # the source's second of calculation, UTC epoch milliseconds
    recv_ts_ms: int  # our clock when it was read, UTC epoch milliseconds
    trading_day: str  # YYYYMMDD, the market's trading day of ts_ms; names the file
    package: str  # "classic"
    category: str  # "gex_full"
    origin: str  # live: asked for in its second; copy: from the source's file of the whole day
    spot: float | None  # of the underlying
    zero_gamma: float | None  # the level at which dealers' gamma changes its sign; NULL where the series has none
    digest: str  # 32 hex digits of what it says, whatever the order of its fields
    body: str  # the JSON object as it came

    @property
    def series(self) -> Series:
        return Series(self.symbol, self.package, self.category)

    @property
    def seq(self) -> None:
        """It has no number: the second names it."""


def _is_live(snapshot: Snapshot) -> bool:
    return snapshot.origin == LIVE


SNAPSHOTS: RecordKind[Snapshot] = RecordKind("snapshots", SNAPSHOT, Snapshot, _is_live)
