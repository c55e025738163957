"""Pushes of order books and broker queues, beside the ticks and after them.

Costs nothing while nobody subscribed either. Each state that was made goes to the truth file of books with its fate.
A broker queue is pushed when a step changed its book, the newest.
"""

from __future__ import annotations

from collections.abc import Sequence

from hk_tick_collector.opend_sim import book_faults, encode_book
from hk_tick_collector.opend_sim.depth_feed import DepthState
from hk_tick_collector.opend_sim.depth_truth import (
    LOST,
    MERGED,
    QUEUE_CACHED,
    QUEUE_LOST,
    QUEUE_SENT,
    SENT,
    UNWANTED,
    DepthTruthWriter,
    Fated,
)
from hk_tick_collector.opend_sim.opend import SUB_BROKER, SUB_ORDER_BOOK, OpenD
from hk_tick_collector.opend_sim.pusher import Pusher
from hk_tick_collector.opend_sim.routes import UPDATE_BROKER, UPDATE_ORDER_BOOK
from hk_tick_collector.opend_sim.session import EncodedPush
from hk_tick_collector.opend_sim.simtick import SimTick

_FLOODED_AT_ONCE_SEC = 0.1


class BookPusher:
    """Sends through the pusher of ticks, which knows the connections."""

    def __init__(self, opend: OpenD, pusher: Pusher, truth: DepthTruthWriter | None = None) -> None:
        self._opend = opend
        self._pusher = pusher
        self._truth = truth
        self._seen_changes = 0
        self._wanted: frozenset[str] = frozenset()
        self._flooded_sec = 0.0
        self.pushes = 0

    def step(self, ticks: Sequence[SimTick]) -> None:
        """Push what changed since the last step."""
        subscribed = self._opend.book
        if subscribed.changes != self._seen_changes:
            self._seen_changes = subscribed.changes
            self._wanted = frozenset([*subscribed.symbols(SUB_ORDER_BOOK), *subscribed.symbols(SUB_BROKER)])
            # Once more without any, so that nothing is kept of what nobody wants.
        elif not self._wanted and not self._opend.depth.plays_along:
            return
        market = self._opend.market
        levels = self._opend.book_levels()
        states = self._opend.depth.step(ticks, market.now_ms(), self._wanted, levels, self._flood())
        if not states:
            return
        if self._pusher.cut_off():
            self._write([Fated(state, MERGED if state.merged else LOST) for state in states])
            return
        batches: dict[int, list[EncodedPush]] = {}
        fated: list[Fated] = []
        for state in states:
            fated += self._send(state, batches)
        fated += self._send_brokers(states, batches)
        self._write(fated)
        self._pusher.deliver(batches)

    def first_push(self, conn_id: int, symbols: Sequence[str], sub_type: int) -> None:
        """The cached book or queue of each symbol, for this connection only; a book without its times."""
        if self._pusher.cut_off():
            return
        batches: dict[int, list[EncodedPush]] = {}
        for symbol in symbols:
            frozen = "book-freeze" if sub_type == SUB_ORDER_BOOK else "broker-freeze"
            if self._opend.faults.active(frozen, symbol) is not None:
                continue
            state = self._opend.depth.newest(symbol, self._opend.book_levels())
            cached = state._replace(bid_ts_ms=0, ask_ts_ms=0)
            if sub_type == SUB_ORDER_BOOK:
                self._add_book(cached, (conn_id,), batches)
            else:
                self._add_queue(cached, (conn_id,), batches)
                if self._opend.depth.has_brokers:
                    self._write([Fated(cached, QUEUE_CACHED)])
        self._pusher.deliver(batches)

    def close(self) -> None:
        """The truth file is complete."""
        if self._truth is not None:
            self._truth.close()

    def _flood(self) -> int:
        """How many states more ``book-flood`` wants by now."""
        fault = self._opend.faults.active("book-flood")
        if fault is None:
            self._flooded_sec = 0.0
            return 0
        now_sec = self._pusher.monotonic()
        if not self._flooded_sec:
            self._flooded_sec = now_sec
        extra = int((now_sec - self._flooded_sec) * fault.limit)
        self._flooded_sec += extra / fault.limit
        # What a busy machine does not get done is left out: a step must not hold up ticks and answers.
        return min(extra, max(1, round(fault.limit * _FLOODED_AT_ONCE_SEC)))

    def _send(self, state: DepthState, batches: dict[int, list[EncodedPush]]) -> list[Fated]:
        if state.merged:
            return [Fated(state, MERGED)]
        conn_ids = self._opend.book.push_to((state.symbol, SUB_ORDER_BOOK))
        if not conn_ids:
            return [Fated(state, UNWANTED)]
        faults = self._opend.faults
        sent = book_faults.strike(faults, state) if faults.any_active() else [(state, "")]
        for changed, _ in sent:
            self._add_book(changed, conn_ids, batches)
        return [Fated(changed, SENT, damage) for changed, damage in sent] or [Fated(state, LOST)]

    def _add_book(self, state: DepthState, conn_ids: Sequence[int], batches: dict[int, list[EncodedPush]]) -> None:
        opend = self._opend
        name = opend.market.name_of(state.symbol)
        detailed = [conn_id for conn_id in conn_ids if opend.sees_orders(conn_id, state.symbol)]
        if detailed:
            self._add(UPDATE_ORDER_BOOK, encode_book.book_push(state, name, True), detailed, batches)
        others = [conn_id for conn_id in conn_ids if conn_id not in detailed] if detailed else conn_ids
        if others:
            body = encode_book.book_body(state, name)
            self._add(UPDATE_ORDER_BOOK, encode_book.read_push, others, batches, body)

    def _send_brokers(self, states: Sequence[DepthState], batches: dict[int, list[EncodedPush]]) -> list[Fated]:
        newest = {state.symbol: state for state in states}
        faults, fated = self._opend.faults, []
        for symbol, state in newest.items():
            conn_ids = self._opend.book.push_to((symbol, SUB_BROKER))
            if not conn_ids or not self._opend.depth.has_brokers:
                continue
            if faults.active("broker-freeze", symbol) is not None or faults.hit("broker-drop", symbol) is not None:
                fated.append(Fated(state, QUEUE_LOST))
            else:
                self._add_queue(state, conn_ids, batches)
                fated.append(Fated(state, QUEUE_SENT))
        return fated

    def _add_queue(self, state: DepthState, conn_ids: Sequence[int], batches: dict[int, list[EncodedPush]]) -> None:
        self._add(UPDATE_BROKER, encode_book.broker_push(self._opend, state), conn_ids, batches)

    def _add(
        self,
        proto_id: int,
        message: object,
        conn_ids: Sequence[int],
        batches: dict[int, list[EncodedPush]],
        body: bytes | None = None,
    ) -> None:
        push = EncodedPush(proto_id, self._pusher.next_serial(), message, body)
        self.pushes += 1
        for conn_id in conn_ids:
            batches.setdefault(conn_id, []).append(push)

    def _write(self, fated: Sequence[Fated]) -> None:
        if self._truth is not None:
            self._truth.write(fated)
