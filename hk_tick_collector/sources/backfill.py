"""What OpenD still has of each symbol is fetched after every interruption, until OpenD has answered for each.

Owns up to when each symbol is covered: moved by an answered backfill alone, never by the end of a connection. A symbol
whose request failed is asked for again with growing pauses, on this connection and the next, also in the evening.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

from hk_tick_collector.core.backoff import Backoff
from hk_tick_collector.core.clock import Clock
from hk_tick_collector.core.logline import event
from hk_tick_collector.core.progress import FeedProgress
from hk_tick_collector.records.tick import PUSH_TYPE_BACKFILL
from hk_tick_collector.sources.completeness import Completeness
from hk_tick_collector.sources.pull import TickPuller
from hk_tick_collector.sources.source import Link

log = logging.getLogger(__name__)

RETRY_MIN_SEC = 5
RETRY_MAX_SEC = 300


class Backfiller:
    """``rows``: how many of the newest ticks are asked for; 0: none ever."""

    def __init__(
        self, puller: TickPuller, continuity: Completeness, progress: FeedProgress, clock: Clock, rows: int
    ) -> None:
        self._puller = puller
        self._continuity = continuity
        self._progress = progress
        self._clock = clock
        self._rows = rows
        self._covered_until_ms: dict[str, int] = {}
        self._done: set[str] = set()  # answered since they were last interrupted
        self._retries: dict[str, tuple[Backoff, float]] = {}  # and not before, monotonic

    def interrupted(self, symbols: Iterable[str] | None = None) -> None:
        """Nothing was pushed of these (None: of all) for a while."""
        if symbols is None:
            self._done.clear()
            self._retries.clear()
            return
        for symbol in symbols:
            self._done.discard(symbol)
            self._retries.pop(symbol, None)

    def forget(self) -> None:
        """What was fetched may not be in the files: all is wanted again, at any hour."""
        self._covered_until_ms.clear()
        self.interrupted()

    def due(self, symbols: Sequence[str], until_ms: int | None) -> list[str]:
        """Those that OpenD has to be asked for now. ``until_ms``: only if they are not covered until then."""
        if not self._rows:
            return []
        self._forget_times_to_come()
        now_sec = self._clock.monotonic()
        return [
            symbol
            for symbol in symbols
            if symbol not in self._done
            and (until_ms is None or self._covered_until_ms.get(symbol, 0) < until_ms)
            and (symbol not in self._retries or self._retries[symbol][1] <= now_sec)
        ]

    def _forget_times_to_come(self) -> None:
        """What was asked for when the clock ran ahead covers nothing: in the evening it would pass for all."""
        now_ms = self._clock.now_ms()
        for symbol in [symbol for symbol, until_ms in self._covered_until_ms.items() if until_ms > now_ms]:
            del self._covered_until_ms[symbol]

    async def run(self, link: Link, symbols: Sequence[str]) -> None:
        """The newest ticks of ``symbols``, most active first. Raises ``FeedLost`` when the connection is gone."""
        started_sec = self._clock.monotonic()
        progress = self._progress
        fetched_before, accepted_before = progress.backfill_fetched_rows, progress.backfill_accepted_rows
        for symbol in symbols:  # until it is answered
            backoff = self._retries[symbol][0] if symbol in self._retries else Backoff(RETRY_MIN_SEC, RETRY_MAX_SEC)
            self._retries[symbol] = backoff, started_sec + backoff.next_sec()

        async def pull(symbol: str) -> None:
            asked_ms = self._puller.asking_ms()
            result = await self._puller.pull(link, symbol, self._rows, PUSH_TYPE_BACKFILL)
            self._covered_until_ms[symbol] = asked_ms
            self._done.add(symbol)
            self._retries.pop(symbol, None)
            progress.backfill_fetched_rows += result.fetched_rows
            progress.backfill_accepted_rows += result.fresh_rows

        failed = await self._puller.pull_all(self._continuity.most_active_first(symbols), pull, "backfill")
        log.info(
            event(
                "backfill_done",
                symbols=len(symbols),
                failed=failed,
                fetched=progress.backfill_fetched_rows - fetched_before,
                accepted=progress.backfill_accepted_rows - accepted_before,
                took_sec=self._clock.monotonic() - started_sec,
            )
        )
