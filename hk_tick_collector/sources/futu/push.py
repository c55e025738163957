"""From decoded pushes to rows handed over, on the SDK's network thread.

Everything here runs once a socket read, not once a push, and does no I/O, waits for nothing and logs no tick by itself.
What it hands rows to may: a full queue holds this thread for a quarter of a second at most and then writes to the
spill (ingest/queue.py), a quarantine says at a bounded rate what it took.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from hk_tick_collector.core.clock import Clock
from hk_tick_collector.core.errors import RejectCode, TickRejected
from hk_tick_collector.core.logline import RateLimitedLog
from hk_tick_collector.core.progress import FeedProgress
from hk_tick_collector.records.tick import PUSH_TYPE_PUSH, RejectedTick, Tick
from hk_tick_collector.sources.completeness import Completeness
from hk_tick_collector.sources.futu.mapping import TickMapper, raw_fields
from hk_tick_collector.sources.futu.markets import HK, FutuMarket
from hk_tick_collector.sources.plausible import PlausibleDays
from hk_tick_collector.sources.views import without_sequences

log = logging.getLogger(__name__)

SYMBOL_CHARS = 20  # of a code that is none, for the quarantine

TickSink = Callable[[Sequence[Tick]], None]
RejectSink = Callable[[Sequence[RejectedTick]], None]


class PushHandler:
    """Maps bursts of ``Qot_UpdateTicker.Response`` and hands the ticks on. One instance for one network thread."""

    def __init__(
        self,
        sink: TickSink,
        rejects: RejectSink,
        continuity: Completeness,
        progress: FeedProgress,
        clock: Clock,
        on_new_hole: Callable[[], None],
        days: PlausibleDays | None = None,
        market: FutuMarket = HK,
    ) -> None:
        self.mapper = TickMapper(days, market)
        self._market = market
        self.wanted: frozenset[str] | None = None  # whose pushes are taken; None: all. Replaced, never changed
        self._sink = sink
        self._rejects = rejects
        self._continuity = continuity
        self._progress = progress
        self._clock = clock
        self._on_new_hole = on_new_hole
        self._log = RateLimitedLog(log)

    def __call__(self, pushes: list[Any]) -> None:
        """One burst: whatever came with one socket read."""
        recv_ts_ms = self._clock.now_ms()
        mapper, unkeyed, wanted = self.mapper, self._continuity.unkeyed, self.wanted
        rejected: list[RejectedTick] = []
        unread: list[RejectedTick] = []  # those of them whose symbol is known
        ticks: list[Tick] = []
        for push in pushes:
            if push.retType != 0:
                self._log.log(logging.WARNING, "futu_push_refused", ret_type=push.retType, text=push.retMsg)
                continue
            body = push.s2c
            try:
                symbol = mapper.symbol(body.security)
                if wanted is not None and symbol not in wanted:
                    raise TickRejected(RejectCode.UNWANTED, "its symbol is on no list that OpenD was asked for")
            except TickRejected as exc:
                name, words = self._name(body.security), str(exc)
                rejected += [
                    RejectedTick(name, words, raw_fields(tick), recv_ts_ms, exc.code) for tick in body.tickerList
                ]
                continue
            rejected_before = len(rejected)
            mapped = mapper.map_all(symbol, body.tickerList, PUSH_TYPE_PUSH, recv_ts_ms, rejected)
            if len(rejected) > rejected_before:
                unread += rejected[rejected_before:]
            unkeyed_day = unkeyed.get(symbol)  # one look: the loop may take it out at midnight
            ticks += mapped if unkeyed_day is None else without_sequences(mapped, unkeyed_day)
        if rejected:  # first: a doubt must be known before the ticks behind it are stored
            self._rejects(rejected)
            if self._continuity.observe_unread(unread):
                self._on_new_hole()
        if ticks:
            self._hand_over(ticks, len(pushes))

    def _name(self, security: Any) -> str:
        """Of a symbol that is none of ours, for the quarantine."""
        return f"{self._market.prefixes.get(security.market, security.market)}.{security.code}"[:SYMBOL_CHARS]

    def _hand_over(self, ticks: list[Tick], frames: int) -> None:
        self._continuity.tell_interruptions(ticks)
        self._sink(ticks)
        monotonic_sec = self._clock.monotonic()
        progress = self._progress
        progress.push_frames += frames
        progress.push_rows += len(ticks)
        progress.last_push_monotonic = monotonic_sec
        newest_ms = ticks[-1].ts_ms  # within a burst order by time is nearly given; a drift figure needs no more
        if newest_ms > progress.pushed_max_ts_ms and self.mapper.days.is_newest(newest_ms, ticks[-1].recv_ts_ms):
            progress.pushed_max_ts_ms = newest_ms
        if self._continuity.observe_push(ticks, monotonic_sec):
            self._on_new_hole()
