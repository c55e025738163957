"""The recorder's feed and store, real ones, in one virtual thread: session, pulls, continuity, writer, day files.

Queue, spill and worker are left out: a timer commits what the feed handed over, rows and facts together. ``kill`` ends
it as the kernel would: what was not committed is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from pathlib import Path

from hk_tick_collector.core.facts import DayFact, Fact, StoredTrack
from hk_tick_collector.core.progress import Progress
from hk_tick_collector.market.calendar import TradingCalendar
from hk_tick_collector.market.hk.sessions import hk_date
from hk_tick_collector.records.tick import RejectedTick, Tick
from hk_tick_collector.sources.continuity import Continuity
from hk_tick_collector.sources.futu.link import FutuSource
from hk_tick_collector.sources.futu.spec import HK
from hk_tick_collector.sources.options import FeedOptions
from hk_tick_collector.sources.session import FeedSession
from hk_tick_collector.store.connect import SqliteOptions
from hk_tick_collector.store.tracks import stored_tracks
from hk_tick_collector.store.writer import DayFileWriter
from tests.episodes.clockwork import VirtualClock

COMMIT_SEC = 0.05


class Recorder:
    """One process of the recorder, from start to stop or kill."""

    def __init__(
        self,
        data_root: Path,
        symbols: Sequence[str],
        calendar: TradingCalendar,
        clock: VirtualClock,
        poll_rows: int,
        backfill_rows: int,
        blind_sec: float = 0,
    ) -> None:
        self._clock = clock
        self.rows: list[Tick] = []
        self.facts: list[Fact | DayFact] = []
        self.rejected: list[RejectedTick] = []
        self.progress = Progress()
        self._commit_due = False
        self._dead = False
        self.writer = DayFileWriter(data_root, SqliteOptions(synchronous="OFF", wal_autocheckpoint=100_000), clock)
        self.continuity = Continuity(self._take_facts, HK)
        self._data_root = data_root
        self._symbols = list(symbols)
        if blind_sec:
            self.continuity.seed({}, symbols, {hk_date(clock.now_ms())})
            asyncio.get_running_loop().call_later(blind_sec, self._see)
        else:
            self.continuity.seed(self._tracks(), symbols)
        options = FeedOptions(
            symbols=symbols, backfill_rows=backfill_rows, reconnect_min_sec=1.0,
            reconnect_max_sec=30.0, check_interval_sec=10.0, poll_enabled=True, poll_interval_sec=5.0,
            poll_rows=poll_rows, poll_stale_sec=10.0, trading_only=True,
        )  # fmt: skip
        source = FutuSource(HK, "127.0.0.1", 1, None, clock)
        self.session = FeedSession(
            options, source, self._take_rows, self._take_rows, self._take_rejected, self.continuity, calendar,
            self.progress.feed, clock, self._take_facts,
        )  # fmt: skip
        self._task = asyncio.ensure_future(self.session.run())

    def _tracks(self) -> dict[str, StoredTrack]:
        return stored_tracks(self._data_root, self._symbols, 3, hk_date(self._clock.now_ms()))

    def _see(self) -> None:
        """The day file can be read by now."""
        if not self._dead:
            self.continuity.resync(self._tracks())
            self.session.request_backfill()

    def check_alive(self) -> None:
        """Raise what ended the feed, if anything did."""
        if self._task.done():
            self._task.result()

    def _take_rows(self, ticks: Sequence[Tick]) -> None:
        self.rows += ticks
        self._commit_soon()

    def _take_facts(self, facts: Sequence[Fact | DayFact]) -> None:
        self.facts += facts
        self._commit_soon()

    def _take_rejected(self, rejected: Sequence[RejectedTick]) -> None:
        self.rejected += rejected

    def _commit_soon(self) -> None:
        if not self._commit_due and not self._dead:
            self._commit_due = True
            asyncio.get_running_loop().call_later(COMMIT_SEC, self.commit)

    def commit(self) -> None:
        """Write what waits, as the persist worker does: facts behind the rows they speak of."""
        self._commit_due = False
        if self._dead:
            return
        rows, self.rows = self.rows, []
        facts, self.facts = self.facts, []
        if rows or facts:
            self.writer.write(rows, facts)

    async def stop(self) -> None:
        """In order: the feed ends, everything is committed."""
        self.session.stop()
        await self._task
        self.commit()
        self._dead = True
        self.writer.close()

    async def kill(self) -> list[Tick]:
        """At once. Returns the rows that were on their way to the file."""
        self._dead = True
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        self.writer.close()  # committed rows stay, with or without a checkpoint
        return self.rows
