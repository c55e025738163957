"""Pushes of what is made of ticks: quotes, the day's line, K-lines. One push a step and symbol, after its ticks.

A step of a fast clock may pass over several bars: each that ended since the last push is in the next one, so that who
counts bars misses none. Costs a look-up while nobody subscribed any of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hk_tick_collector.opend_sim import encode_quote
from hk_tick_collector.opend_sim.klines import BY_SUB_TYPE, KLINE_TYPES, bars
from hk_tick_collector.opend_sim.opend import SUB_BASIC, SUB_RT, OpenD
from hk_tick_collector.opend_sim.pusher import Pusher
from hk_tick_collector.opend_sim.routes import UPDATE_BASIC_QOT, UPDATE_KL, UPDATE_RT
from hk_tick_collector.opend_sim.session import EncodedPush
from hk_tick_collector.opend_sim.simtick import SimTick
from hk_tick_collector.opend_sim.subscriptions import Key

SUB_TYPES = (SUB_BASIC, SUB_RT, *(kind.sub_type for kind in KLINE_TYPES))
MAX_PUSHED_BARS = 1000

Batches = dict[int, list[EncodedPush]]


class ViewPusher:
    """Sends through the pusher of ticks, which knows the connections."""

    def __init__(self, opend: OpenD, pusher: Pusher) -> None:
        self._opend = opend
        self._pusher = pusher
        self._seen_changes = 0
        self._wanted: dict[str, list[int]] = {}
        self._running_ms: dict[Key, int] = {}  # the start of the newest bar that was pushed
        self.pushes = 0

    def step(self, ticks: Sequence[SimTick]) -> None:
        """Push what changed with these ticks."""
        if self._opend.book.changes != self._seen_changes:
            self._look()
        if not self._wanted or not ticks or self._pusher.cut_off():
            return
        batches: Batches = {}
        for symbol in dict.fromkeys(tick.symbol for tick in ticks):
            for sub_type in self._wanted.get(symbol, ()):
                conn_ids = self._opend.book.push_to((symbol, sub_type))
                if conn_ids:
                    self._add((symbol, sub_type), conn_ids, batches)
        self._pusher.deliver(batches)

    def first_push(self, conn_id: int, keys: Sequence[Key]) -> None:
        """The state of each new subscription, for this connection only; a quote always, bars where there are any."""
        if self._pusher.cut_off():
            return
        batches: Batches = {}
        for symbol, sub_type in keys:
            if sub_type == SUB_BASIC or next(self._opend.market.exchange.newest_days(symbol), None) is not None:
                self._running_ms.pop((symbol, sub_type), None)
                self._add((symbol, sub_type), (conn_id,), batches)
        self._pusher.deliver(batches)

    def _look(self) -> None:
        book = self._opend.book
        self._seen_changes = book.changes
        self._wanted = {}
        for sub_type in SUB_TYPES:
            for symbol in book.symbols(sub_type):
                self._wanted.setdefault(symbol, []).append(sub_type)
        self._running_ms = {key: ms for key, ms in self._running_ms.items() if key[1] in self._wanted.get(key[0], ())}

    def _add(self, key: Key, conn_ids: Sequence[int], batches: Batches) -> None:
        proto_id, message = self._message(*key)
        push = EncodedPush(proto_id, self._pusher.next_serial(), message)
        self.pushes += 1
        for conn_id in conn_ids:
            batches.setdefault(conn_id, []).append(push)

    def _message(self, symbol: str, sub_type: int) -> tuple[int, Any]:
        opend = self._opend
        if sub_type == SUB_BASIC:
            return UPDATE_BASIC_QOT, encode_quote.quote_push(opend, symbol)
        exchange = opend.market.exchange
        since_ms = self._running_ms.get((symbol, sub_type))
        kind = BY_SUB_TYPE.get(sub_type, KLINE_TYPES[0])
        new = bars(exchange, symbol, kind, 1 if since_ms is None else MAX_PUSHED_BARS, since_ms)
        self._running_ms[symbol, sub_type] = new[-1].start_ms
        if sub_type == SUB_RT:
            return UPDATE_RT, encode_quote.time_share_push(opend, symbol, new[0].start_ms)
        return UPDATE_KL, encode_quote.kline_push(symbol, opend.market.name_of(symbol), kind, new, opend.venue)
