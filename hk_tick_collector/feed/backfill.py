"""After every connect: what OpenD still has of each symbol, so that nothing is missing from before."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from hk_tick_collector.core.clock import Clock
from hk_tick_collector.core.logline import event
from hk_tick_collector.core.tick import PUSH_TYPE_BACKFILL
from hk_tick_collector.feed.pull import TickPuller
from hk_tick_collector.feed.sdk import Connection

log = logging.getLogger(__name__)


async def backfill(puller: TickPuller, connection: Connection, symbols: Sequence[str], rows: int, clock: Clock) -> None:
    """After a connect: the newest ``rows`` ticks of every symbol, most active symbols first."""
    started_sec = clock.monotonic()
    progress = puller.progress
    fetched_before, accepted_before = progress.backfill_fetched_rows, progress.backfill_accepted_rows

    async def one(symbol: str) -> None:
        result = await puller.pull(connection, symbol, rows, PUSH_TYPE_BACKFILL)
        progress.backfill_fetched_rows += result.fetched_rows
        progress.backfill_accepted_rows += result.fresh_rows

    failed = await puller.pull_all(connection, puller.continuity.most_active_first(symbols), one, "backfill")
    log.info(
        event(
            "backfill_done",
            symbols=len(symbols),
            failed=failed,
            fetched=progress.backfill_fetched_rows - fetched_before,
            accepted=progress.backfill_accepted_rows - accepted_before,
            took_sec=clock.monotonic() - started_sec,
        )
    )
