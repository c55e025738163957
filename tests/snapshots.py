"""Snapshots for tests: small snapshots, and days of them as a recorder leaves them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from hk_tick_collector.core.facts import SnapshotsCopied
from hk_tick_collector.market.registry import market_of
from hk_tick_collector.market.us import US
from hk_tick_collector.records.snapshot import COPY, LIVE, Series, Snapshot
from hk_tick_collector.store.connect import SqliteOptions
from hk_tick_collector.store.data_root import claim
from hk_tick_collector.store.snapshot_writer import SnapshotWriter

DAY = "20261127"  # of an early close: 12,600 seconds
OPEN_SEC = 1_795_789_800
GRID_SEC = 12_600
SPX = Series("US.SPX", "classic", "gex_full")
FLOW = Series("US.SPX", "orderflow", "orderflow")
NDX = Series("US.NDX", "classic", "gex_full")
assert market_of("US").trading_day(OPEN_SEC * 1000) == DAY


def snapshot(series: Series, second: int, origin: str = LIVE, says: str = "", large: int = 0) -> Snapshot:
    """A snapshot of a second after the opening."""
    body = json.dumps({"timestamp": OPEN_SEC + second, "ticker": series.symbol[3:], "says": says, "pad": "x" * large})
    digest = hashlib.sha256(body.encode()).hexdigest()[:32]
    ts_ms = (OPEN_SEC + second) * 1000
    return Snapshot(
        series.symbol, ts_ms, ts_ms + 300, US.trading_day(ts_ms), series.package, series.category, origin,
        5000.0 + second, None, digest, body,
    )  # fmt: skip


def copied(series: Series, seconds: Iterable[int], unread: int = 0) -> SnapshotsCopied:
    """The source's own file of the day, read to its end."""
    there = tuple(OPEN_SEC + second for second in seconds)
    return SnapshotsCopied(DAY, *series, (OPEN_SEC + 90_000) * 1000, len(there) + unread, unread, there, "ab" * 32)


def record(root: Path, snapshots: Iterable[Snapshot], copies: Iterable[SnapshotsCopied] = ()) -> Path:
    """A closed file in a data root of the US market."""
    root.mkdir(parents=True, exist_ok=True)
    claim(root, "US")
    writer = SnapshotWriter(root, SqliteOptions(), lambda: (OPEN_SEC + 90_000) * 1000)
    writer.write(list(snapshots), list(copies))
    writer.close()
    return root


def filled(series: Series, seconds: Iterable[int]) -> list[Snapshot]:
    """As the source's file has them."""
    return [snapshot(series, second, COPY) for second in seconds]
