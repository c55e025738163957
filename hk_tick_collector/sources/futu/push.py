"""From decoded pushes to ticks handed over, on the SDK's network thread.

Everything here runs once a socket read, not once a push, and does no I/O, waits for nothing and logs no tick by itself.
"""

from __future__ import annotations

import logging
from typing import Any

from hk_tick_collector.core.clock import Clock
from hk_tick_collector.core.errors import RejectCode, TickRejected
from hk_tick_collector.core.logline import RateLimitedLog
from hk_tick_collector.records.tick import PUSH_TYPE_PUSH, RejectedTick, Tick
from hk_tick_collector.sources.futu.mapping import TickMapper, raw_fields
from hk_tick_collector.sources.source import Sink

log = logging.getLogger(__name__)

SYMBOL_CHARS = 20  # of a code that is none, for the quarantine


class PushHandler:
    """Maps bursts of ``Qot_UpdateTicker.Response`` and hands the ticks on. One instance for one connection."""

    def __init__(self, sink: Sink, mapper: TickMapper, clock: Clock) -> None:
        self.wanted: frozenset[str] | None = None  # whose pushes are taken; None: all. Replaced, never changed
        self._sink = sink
        self._mapper = mapper
        self._clock = clock
        self._log = RateLimitedLog(log)

    def __call__(self, pushes: list[Any]) -> None:
        """One burst: whatever came with one socket read."""
        recv_ts_ms = self._clock.now_ms()
        mapper, wanted = self._mapper, self.wanted
        rejected: list[RejectedTick] = []
        messages: list[list[Tick]] = []
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
                name, words = mapper.name(body.security)[:SYMBOL_CHARS], str(exc)
                rejected += [
                    RejectedTick(name, words, raw_fields(tick), recv_ts_ms, exc.code) for tick in body.tickerList
                ]
                continue
            messages.append(mapper.map_all(symbol, body.tickerList, PUSH_TYPE_PUSH, recv_ts_ms, rejected))
        if rejected:  # first: a doubt must be known before the ticks behind it are stored
            self._sink.reject(rejected)
        if messages:
            self._sink.push(messages)
