"""Holes in the sequences are closed as they are found, or become gaps with their exact extent."""

from __future__ import annotations

import asyncio
import logging

from hk_tick_collector.core.clock import Clock
from hk_tick_collector.core.logline import event
from hk_tick_collector.core.tick import PUSH_TYPE_REPAIR
from hk_tick_collector.feed.continuity import Hole
from hk_tick_collector.feed.pull import TickPuller
from hk_tick_collector.feed.sdk import GET_TICKER_MAX_ROWS, Connection

log = logging.getLogger(__name__)

REPAIR_SETTLE_SEC = 0.2  # pushes out of order fill their hole themselves
REPAIR_MARGIN_ROWS = 20  # ticks that arrive while the request travels
REPAIR_ATTEMPTS = 3


class Repairer:
    """Closes holes in the sequences as they are found, sized to the hole, several symbols at a time."""

    def __init__(self, puller: TickPuller, clock: Clock) -> None:
        self._puller = puller
        self._clock = clock
        self._attempts: dict[tuple[str, int, int], int] = {}
        self._wake = asyncio.Event()
        puller.on_hole = self.wake

    def wake(self) -> None:
        """There may be a new hole. Call on the loop."""
        self._wake.set()

    async def run(self, connection: Connection) -> None:
        """Repair until the connection is gone (``FeedLost``)."""
        while True:
            await self._wake.wait()
            await asyncio.sleep(REPAIR_SETTLE_SEC)
            self._wake.clear()
            await self._repair_all(connection)
            if self._count_open():
                self._wake.set()

    async def _repair_all(self, connection: Connection) -> None:
        by_symbol: dict[str, list[Hole]] = {}
        for hole in self._puller.continuity.holes():
            by_symbol.setdefault(hole.symbol, []).append(hole)
        self._puller.progress.open_holes = sum(map(len, by_symbol.values()))

        async def one(symbol: str) -> None:
            await self._repair(connection, by_symbol[symbol])

        await self._puller.pull_all(connection, list(by_symbol), one, "repair")

    async def _repair(self, connection: Connection, holes: list[Hole]) -> None:
        symbol = holes[0].symbol
        for hole in holes:
            key = (symbol, hole.first, hole.last)
            self._attempts[key] = self._attempts.get(key, 0) + 1
        rows = min(GET_TICKER_MAX_ROWS, max(hole.rows_back for hole in holes) + REPAIR_MARGIN_ROWS)
        self._puller.progress.holes_seen += sum(self._attempts[symbol, h.first, h.last] == 1 for h in holes)
        await self._puller.pull(connection, symbol, rows, PUSH_TYPE_REPAIR)
        still_open = {(h.first, h.last): h for h in self._puller.continuity.holes() if h.symbol == symbol}
        for hole in holes:
            key = (symbol, hole.first, hole.last)
            if (hole.first, hole.last) not in still_open:
                self._attempts.pop(key, None)
            elif self._attempts[key] >= REPAIR_ATTEMPTS:
                self._attempts.pop(key)
                self._give_up(hole)

    def _give_up(self, hole: Hole) -> None:
        reason = "beyond the newest 1000" if hole.rows_back > GET_TICKER_MAX_ROWS else "not shown by OpenD"
        self._puller.continuity.give_up(hole, self._clock.now_ms(), reason)
        log.error(
            event(
                "hole_unrepaired",
                symbol=hole.symbol,
                trading_day=hole.trading_day,
                first_counter=hole.first,
                last_counter=hole.last,
                missing_ticks=hole.missing_rows,
                reason=reason,
                action="recorded in the gaps table",
            )
        )

    def _count_open(self) -> int:
        holes = len(self._puller.continuity.holes())
        self._puller.progress.open_holes = holes
        return holes
