"""What the settings say of a feed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hk_tick_collector.core.options import from_setting


@dataclass(frozen=True, slots=True)
class FeedOptions:
    """What is wanted and how hard to look. Seconds unless named otherwise."""

    symbols: Sequence[str] = from_setting("futu_symbols")
    backfill_rows: int = from_setting("backfill_rows")
    reconnect_min_sec: float = from_setting("reconnect_min_delay_sec")
    reconnect_max_sec: float = from_setting("reconnect_max_delay_sec")
    check_interval_sec: float = from_setting("check_interval_sec")
    poll_enabled: bool = from_setting("futu_poll_enabled")
    poll_interval_sec: float = from_setting("futu_poll_interval_sec")
    poll_rows: int = from_setting("futu_poll_rows")
    poll_stale_sec: float = from_setting("futu_poll_stale_sec")
    trading_only: bool = from_setting("futu_poll_trading_only")
