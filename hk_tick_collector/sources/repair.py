"""Holes in the sequences are closed as they are found, or become gaps with their exact extent."""

from __future__ import annotations

import asyncio
import logging

from hk_tick_collector.core.clock import Clock
from hk_tick_collector.core.logline import event
from hk_tick_collector.core.progress import FeedProgress
from hk_tick_collector.core.waiting import is_set_within
from hk_tick_collector.records.tick import PUSH_TYPE_REPAIR
from hk_tick_collector.sources.completeness import Completeness
from hk_tick_collector.sources.holes import Hole
from hk_tick_collector.sources.pull import TickPuller
from hk_tick_collector.sources.source import Link

log = logging.getLogger(__name__)

REPAIR_SETTLE_SEC = 0.2  # pushes out of order fill their hole themselves
REPAIR_MARGIN_ROWS = 20  # ticks that arrive while the request travels
REPAIR_ATTEMPTS = 5  # answers without the missing ticks, over about 6 s: OpenD may still be catching up itself
RETRY_MIN_SEC = 0.4
IDLE_CHECK_SEC = 1.0

_Key = tuple[str, int, int]  # symbol, first and last counter missing


class Repairer:
    """Closes holes in the sequences as they are found, sized to the hole, several symbols at a time."""

    def __init__(
        self,
        puller: TickPuller,
        continuity: Completeness,
        progress: FeedProgress,
        clock: Clock,
        hole_found: asyncio.Event,
    ) -> None:
        self._puller = puller
        self._continuity = continuity
        self._progress = progress
        self._clock = clock
        self._tries: dict[_Key, tuple[int, float]] = {}  # answers in vain so far, not before (monotonic)
        self._wake = hole_found

    def wake(self) -> None:
        """There may be a new hole. Call on the loop."""
        self._wake.set()

    async def run(self, link: Link) -> None:
        """Repair until the connection is gone (``FeedLost``)."""
        while True:
            await is_set_within(self._wake, RETRY_MIN_SEC if self._tries else IDLE_CHECK_SEC)
            if self._continuity.has_holes:
                await asyncio.sleep(REPAIR_SETTLE_SEC)
                self._wake.clear()
                await self._repair_due(link)
            else:
                self._wake.clear()
                self._tries.clear()

    async def _repair_due(self, link: Link) -> None:
        now_sec = self._clock.monotonic()
        by_symbol: dict[str, list[Hole]] = {}
        holes = self._continuity.holes()
        open_keys = {_key(hole) for hole in holes}
        for key in self._tries.keys() - open_keys:
            del self._tries[key]
        for hole in holes:
            if self._tries.get(_key(hole), (0, 0.0))[1] <= now_sec:
                by_symbol.setdefault(hole.symbol, []).append(hole)

        async def pull(symbol: str) -> None:
            await self._repair(link, symbol, by_symbol[symbol])

        await self._puller.pull_all(list(by_symbol), pull, "repair")

    async def _repair(self, link: Link, symbol: str, holes: list[Hole]) -> None:
        self._progress.holes_seen += sum(_key(hole) not in self._tries for hole in holes)
        rows = min(self._puller.limits.newest_rows, max(hole.rows_back for hole in holes) + REPAIR_MARGIN_ROWS)
        await self._puller.pull(link, symbol, rows, PUSH_TYPE_REPAIR)
        still_open = {_key(hole) for hole in self._continuity.holes() if hole.symbol == symbol}
        for hole in holes:
            key = _key(hole)
            tries = self._tries.pop(key, (0, 0.0))[0] + 1
            if key not in still_open:
                continue
            if tries >= REPAIR_ATTEMPTS or hole.last < hole.newest - self._puller.limits.newest_rows:
                self._give_up(hole)
            else:
                self._tries[key] = (tries, self._clock.monotonic() + RETRY_MIN_SEC * 2 ** (tries - 1))

    def _give_up(self, hole: Hole) -> None:
        if not self._continuity.give_up(hole, self._clock.now_ms()):
            return
        log.error(
            event(
                "hole_unrepaired",
                symbol=hole.symbol,
                trading_day=hole.trading_day,
                first_counter=hole.first,
                last_counter=hole.last,
                missing_ticks=hole.missing_rows,
                reason=hole.gap_reason(self._puller.limits.newest_rows),
                action="recorded in the gaps table",
            )
        )


def _key(hole: Hole) -> _Key:
    return hole.symbol, hole.first, hole.last
