"""The push path: arrived ticks become pushes, faults strike, every subscriber gets the frames of a step in one write.

A push message is encoded once and its bytes are shared. With no fault active the path is: group by symbol, encode,
write. What faults hold back (late, disorder, missed while the server was lost) is kept here, bounded by the market
itself: pushes of the held time, and 50 ticks a symbol for a lost server, as OpenD gives back.
"""

from __future__ import annotations

import heapq
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from hk_tick_collector.opend_sim import encode
from hk_tick_collector.opend_sim.opend import SUB_TICKER, OpenD
from hk_tick_collector.opend_sim.routes import UPDATE_TICKER
from hk_tick_collector.opend_sim.session import EncodedPush
from hk_tick_collector.opend_sim.simtick import SimTick

MAX_MISSED_TICKS = 50
MAX_HELD_SEC = 1.0


class PushTarget(Protocol):
    """A connection that pushes can be sent to."""

    def push(self, pushes: Sequence[EncodedPush]) -> None: ...


@dataclass(frozen=True, slots=True)
class Item:
    """Ticks of one symbol that go out in one push."""

    symbol: str
    ticks: Sequence[SimTick]
    push_data_type: int = encode.PUSH_REALTIME


class Pusher:
    """Turns ticks into pushes for the sessions of one server."""

    def __init__(
        self,
        opend: OpenD,
        sessions: Mapping[int, PushTarget],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._opend = opend
        self._faults = opend.faults
        self._sessions = sessions
        self.monotonic = monotonic
        self._serial = 0
        self._late: list[tuple[float, int, Item]] = []
        self._late_made = 0
        self._held: dict[str, tuple[float, Item]] = {}
        self._missed: dict[str, deque[SimTick]] = {}
        self.pushed_ticks = 0
        self.pushes = 0

    def step(self, ticks: Sequence[SimTick]) -> None:
        """Push what arrived since the last step, and what faults held back and is due."""
        items = self._group(ticks)
        if self.holds_back:
            items = self._with_faults(items)
        if items:
            self._send([(item, self._opend.book.push_to((item.symbol, SUB_TICKER))) for item in items])

    @property
    def holds_back(self) -> bool:
        """Whether faults decide what is pushed, and when."""
        return bool(self._faults.any_active() or self._late or self._held or self._missed)

    def first_push(self, conn_id: int, symbols: Sequence[str]) -> None:
        """One cached tick of each newly subscribed symbol that has any, for this connection only."""
        if self._blocked():
            return
        fault = self._faults.hit("first-push")
        items = []
        for symbol in symbols:
            item = self._first_item(symbol, fault.kind if fault is not None else "")
            if item is not None and self._faults.active("silent", symbol) is None:
                items.append(item)
        if items:
            self._send([(item, (conn_id,)) for item in items])

    def cut_off(self) -> bool:
        """Nothing reaches OpenD from its server, or a client from OpenD."""
        return self._faults.any_active() and (self._faults.active("lose-server") is not None or self._blocked())

    def deliver(self, batches: Mapping[int, Sequence[EncodedPush]]) -> None:
        """Hand each connection its pushes, all in one write."""
        for conn_id, pushes in batches.items():
            session = self._sessions.get(conn_id)
            if session is not None:
                session.push(pushes)

    def next_serial(self) -> int:
        """Pushes carry a running number of the server."""
        self._serial += 1
        return self._serial

    def encode(self, item: Item) -> EncodedPush:
        """The push of one item, damaged where a fault strikes."""
        faults = self._faults
        faulty = faults.any_active()
        with_sequence = not faulty or faults.active("no-sequence", item.symbol) is None
        name = self._opend.market.name_of(item.symbol)
        message = encode.ticker_push(item.symbol, name, item.ticks, item.push_data_type, with_sequence)
        if faulty and faults.active("unreadable", item.symbol) is not None:
            for tick_message in message.s2c.tickerList:
                fault = faults.hit("unreadable", item.symbol)
                if fault is not None:
                    encode.damage_tick(tick_message, fault.kind)
        return EncodedPush(UPDATE_TICKER, self.next_serial(), message)

    def _group(self, ticks: Sequence[SimTick]) -> list[Item]:
        by_symbol: dict[str, list[SimTick]] = {}
        push_to = self._opend.book.push_to
        for tick in ticks:
            if push_to((tick.symbol, SUB_TICKER)):
                by_symbol.setdefault(tick.symbol, []).append(tick)
        size = self._opend.settings.ticks_per_push
        items = []
        for symbol, own in by_symbol.items():
            if not size or len(own) <= size:
                items.append(Item(symbol, own))
            else:
                items += [Item(symbol, own[i : i + size]) for i in range(0, len(own), size)]
        return items

    def _with_faults(self, items: list[Item]) -> list[Item]:
        if self._faults.active("lose-server") is not None:
            for item in items:
                self._missed.setdefault(item.symbol, deque(maxlen=MAX_MISSED_TICKS)).extend(item.ticks)
            return []
        if self._blocked():
            return []
        missed = [Item(symbol, list(ticks), encode.PUSH_BYDISCONN) for symbol, ticks in self._missed.items()]
        self._missed.clear()
        kept: list[Item] = []
        for item in missed + items:
            kept += self._strike(item)
        return self._disorder(kept) + self._due()

    def _blocked(self) -> bool:
        """Nothing is pushed while hanging, logged out, or without the right."""
        return self._faults.active("hang") is not None or self._opend.logged_out() or not self._opend.may_subscribe()

    def _strike(self, item: Item) -> list[Item]:
        """What silence, loss, lateness and doubling leave of one push."""
        faults, symbol = self._faults, item.symbol
        if faults.active("silent", symbol) is not None or faults.hit("skip", symbol) is not None:
            return []
        late = faults.hit("late", symbol)
        if late is not None:
            self._late_made += 1
            heapq.heappush(self._late, (self.monotonic() + late.ms / 1000, self._late_made, item))
            return []
        return [item, item] if faults.hit("twice", symbol) is not None else [item]

    def _disorder(self, items: list[Item]) -> list[Item]:
        out: list[Item] = []
        for item in items:
            held = self._held.pop(item.symbol, None)
            if held is not None:
                out += [item, held[1]]
            elif self._faults.hit("disorder", item.symbol) is not None:
                newest_first = Item(item.symbol, list(reversed(item.ticks)), item.push_data_type)
                self._held[item.symbol] = (self.monotonic(), newest_first)
            else:
                out.append(item)
        oldest_sec = self.monotonic() - MAX_HELD_SEC
        for symbol in [s for s, (since_sec, _) in self._held.items() if since_sec <= oldest_sec]:
            out.append(self._held.pop(symbol)[1])
        return out

    def _due(self) -> list[Item]:
        due: list[Item] = []
        while self._late and self._late[0][0] <= self.monotonic():
            due.append(heapq.heappop(self._late)[2])
        return due

    def _first_item(self, symbol: str, kind: str) -> Item | None:
        market = self._opend.market
        if kind == "empty":
            return Item(symbol, [], encode.PUSH_CACHE)
        if kind == "foreign":
            others = (s for s in market.exchange.instruments if s != symbol and market.recent(s, 1))
            symbol = next(others, symbol)
        ticks = market.recent(symbol, 1000 if kind == "stale" else 1)
        if not ticks:
            return None
        if kind == "stale":
            return Item(symbol, ticks[:1], encode.PUSH_REALTIME)
        return Item(symbol, ticks[-1:], encode.PUSH_CACHE)

    def _by_session(self, item: Item, conn_ids: tuple[int, ...]) -> list[tuple[Item, tuple[int, ...]]]:
        """What of it goes to whom: a connection gets ticks of the sessions alone that it subscribed."""
        if not self._opend.venue.extended or not item.ticks:
            return [(item, conn_ids)]
        parts: dict[tuple[int, ...], tuple[Item, tuple[int, ...]]] = {}
        for conn_id in conn_ids:
            ticks = self._opend.collected(conn_id, item.symbol, item.ticks)
            if ticks:
                same = tuple(tick.seq for tick in ticks)
                part, others = parts.get(same, (Item(item.symbol, ticks, item.push_data_type), ()))
                parts[same] = part, (*others, conn_id)
        return list(parts.values())

    def _send(self, addressed: list[tuple[Item, tuple[int, ...]]]) -> None:
        batches: dict[int, list[EncodedPush]] = {}
        for item, conn_ids in addressed:
            if not conn_ids:
                continue
            for part, part_conn_ids in self._by_session(item, conn_ids):
                push = self.encode(part)
                self.pushes += 1
                self.pushed_ticks += len(part.ticks)
                for conn_id in part_conn_ids:
                    batches.setdefault(conn_id, []).append(push)
        self.deliver(batches)
