"""Where the Parquet file of a day stands in a tree, in Hive's way (``day`` is the trading day)::

ROOT/market=HK/day=20261120/ticks.parquet
"""

from __future__ import annotations

from pathlib import Path

from hk_tick_collector.market.registry import DEFAULT_MARKET

FILE_NAME = "ticks.parquet"


def hive_path(root: Path, day: str, market: str = DEFAULT_MARKET.code) -> Path:
    """Where a day's file stands in a tree."""
    return root / f"market={market}" / f"day={day}" / FILE_NAME


def market_of_file(path: Path) -> str:
    """The market that a file's path in a tree names; Hong Kong's of a file that stands elsewhere."""
    kind, _, market = path.parent.parent.name.partition("=")
    return market if kind == "market" and market else DEFAULT_MARKET.code
