"""Ticks as a test wants them."""

from __future__ import annotations

from hk_tick_collector.records.tick import Tick

BASE_MS = 1_795_138_200_000  # 2026-11-20 09:30:00 in Hong Kong
DAY = "20261120"


def make_tick(counter: int, symbol: str = "HK.00700", **fields: object) -> Tick:
    """A tick like OpenD's: its second in the high half of the sequence, its counter in the low half."""
    ts_ms = BASE_MS + counter
    tick = Tick(
        symbol, ts_ms, 382.4, 100, 38240.0, "BUY", (ts_ms // 1000) << 32 | counter, "AUTO_MATCH", "push",
        DAY, ts_ms + 50, "REALTIME", ts_ms + 40, " ",
    )  # fmt: skip
    return tick._replace(**fields)


def make_ticks(first: int, last: int, symbol: str = "HK.00700", **fields: object) -> list[Tick]:
    """Counters ``first`` to ``last``."""
    return [make_tick(counter, symbol, **fields) for counter in range(first, last + 1)]
