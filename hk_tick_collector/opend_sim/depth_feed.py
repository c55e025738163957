"""Order books as they change: which states there are, when, and which of them are sent.

``DepthFeed`` makes books with the prints that arrive, for symbols alone whose book or broker queue somebody subscribed;
for all others it costs a set look-up a step. Times are those of the market, as Futu's server would have them: a side's
time is when it last changed, the print's own where a print changed it, and 0 until the first change after somebody
subscribed, as OpenD's cached books have none.

With a merge interval at most one book a symbol is sent in it, the newest; each other one is ``MERGED``.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from hk_tick_collector.opend_sim.depth import EMPTY, QUIET_STATES, Depth, DepthModel, takes_from_book
from hk_tick_collector.opend_sim.market_feed import MarketFeed
from hk_tick_collector.opend_sim.simtick import NEVER_MS, SimTick

_CACHED_TICKS = 50  # so far back the print is looked for that the first book is made of


class DepthState(NamedTuple):
    """One state of a symbol's book; ``number`` counts its states since somebody subscribed. Times are UTC epoch
    milliseconds, 0 where there is none."""

    symbol: str
    number: int
    depth: Depth
    bid_ts_ms: int
    ask_ts_ms: int
    merged: bool = False  # a newer one is sent instead


class DepthSource(Protocol):
    """Where books come from: ``DepthFeed``, or a recorded day's."""

    def step(
        self, ticks: Sequence[SimTick], now_ms: int, wanted: frozenset[str], levels: int, extra: int = 0
    ) -> list[DepthState]:
        """The states since the last step, each symbol's in their order. ``wanted``: symbols to make books of;
        ``levels``: of a side; ``extra``: so many states more, for load."""
        ...

    def newest(self, symbol: str, levels: int) -> DepthState:
        """A symbol's book as it is. KeyError: not listed."""
        ...

    def has_book(self, symbol: str) -> bool:
        """Whether there is a book of a listed symbol to subscribe."""
        ...

    @property
    def plays_along(self) -> bool:
        """Whether it must be asked for every step, wanted or not."""
        ...

    @property
    def has_brokers(self) -> bool:
        """Whether it is known who stands in the queues."""
        ...

    @property
    def next_ms(self) -> int:
        """When the next state comes that no print brings: UTC epoch milliseconds."""
        ...


@dataclass(slots=True)
class _Watched:
    """What is known of a symbol's book while somebody wants it."""

    model: DepthModel
    tick: SimTick | None
    state: DepthState
    quiet: int = 0
    extra: int = 0
    due_ms: int = 0
    without_book: bool = False  # an index has values and no orders: its book stays empty


class _Merger:
    """At most one state a symbol in ``interval_ms``, the newest; the others are marked as merged."""

    def __init__(self, interval_ms: int) -> None:
        self._interval_ms = interval_ms
        self._unsent: dict[str, DepthState] = {}
        self._free_ms: dict[str, int] = {}

    def take(self, states: Sequence[DepthState], now_ms: int) -> list[DepthState]:
        out: list[DepthState] = []
        for state in states:
            older = self._unsent.pop(state.symbol, None)
            if older is not None:
                out.append(older._replace(merged=True))
            self._unsent[state.symbol] = state
        for symbol in [symbol for symbol in self._unsent if self._free_ms.get(symbol, 0) <= now_ms]:
            out.append(self._unsent.pop(symbol))
            self._free_ms[symbol] = now_ms + self._interval_ms
        return out

    @property
    def next_ms(self) -> int:
        """When the next one is sent that waits."""
        return min((self._free_ms[symbol] for symbol in self._unsent), default=NEVER_MS)


class DepthFeed:
    """Books made with the prints. Not thread-safe: one owner."""

    has_brokers = True
    plays_along = False

    def __init__(self, market: MarketFeed, seed: int, merge_ms: int = 0) -> None:
        self._market = market
        self._seed = seed
        self._merger = _Merger(merge_ms) if merge_ms else None
        self._watched: dict[str, _Watched] = {}
        self._levels = 0
        self._due: list[tuple[int, str]] = []
        self._turn = 0

    def step(
        self, ticks: Sequence[SimTick], now_ms: int, wanted: frozenset[str], levels: int, extra: int = 0
    ) -> list[DepthState]:
        self._watch(wanted, levels)
        out: list[DepthState] = []
        for tick in ticks:
            watched = self._watched.get(tick.symbol)
            if watched is None or not takes_from_book(tick) or watched.without_book:
                continue
            self._pass(watched, tick.recv_ts_ms - 1, out)
            self._change(watched, watched.model.before(tick), tick.ts_ms - 1, out)
            self._change(watched, watched.model.after(tick), tick.ts_ms, out)
            watched.tick, watched.quiet = tick, 0
            self._set_due(watched, tick.recv_ts_ms)
        while self._due and self._due[0][0] <= now_ms:
            watched = self._watched.get(heapq.heappop(self._due)[1])
            if watched is not None:
                self._pass(watched, now_ms, out)
        if extra and self._watched:
            self._add_extra(extra, now_ms, out)
        return out if self._merger is None else self._merger.take(out, now_ms)

    def newest(self, symbol: str, levels: int) -> DepthState:
        watched = self._watched.get(symbol)
        return watched.state if watched is not None else self._first(symbol, levels).state

    def has_book(self, symbol: str) -> bool:
        return symbol in self._market.exchange.instruments

    @property
    def next_ms(self) -> int:
        due_ms = self._due[0][0] if self._due else NEVER_MS
        return due_ms if self._merger is None else min(due_ms, self._merger.next_ms)

    def _first(self, symbol: str, levels: int) -> _Watched:
        """With the book that the newest print left, as OpenD has it in its cache: without times."""
        model = DepthModel(self._market.exchange.instruments[symbol], self._seed, levels)
        has_book = self._market.exchange.instruments[symbol].kind != "INDEX"
        for tick in reversed(self._market.recent(symbol, _CACHED_TICKS) if has_book else []):
            if takes_from_book(tick):
                return _Watched(model, tick, DepthState(symbol, 0, model.after(tick), 0, 0))
        return _Watched(model, None, DepthState(symbol, 0, EMPTY, 0, 0), without_book=not has_book)

    def _watch(self, wanted: frozenset[str], levels: int) -> None:
        if self._watched.keys() != wanted:
            for symbol in self._watched.keys() - wanted:
                del self._watched[symbol]
            for symbol in wanted - self._watched.keys():
                self._watched[symbol] = self._first(symbol, levels)
        if levels != self._levels:
            self._levels = levels
            for watched in self._watched.values():
                watched.model.levels = levels

    def _pass(self, watched: _Watched, until_ms: int, out: list[DepthState]) -> None:
        """Orders that come and go while nothing prints."""
        tick = watched.tick
        while tick is not None and 0 < watched.due_ms <= until_ms:
            watched.quiet += 1
            due_ms = watched.due_ms
            depth = watched.model.after(tick, watched.quiet)
            self._change(watched, depth, tick.ts_ms + due_ms - tick.recv_ts_ms, out)
            self._set_due(watched, due_ms)

    def _set_due(self, watched: _Watched, after_ms: int) -> None:
        tick = watched.tick
        if tick is None or watched.quiet >= QUIET_STATES:
            watched.due_ms = 0
            return
        watched.due_ms = after_ms + watched.model.quiet_gap_ms(tick, watched.quiet + 1)
        heapq.heappush(self._due, (watched.due_ms, tick.symbol))

    def _change(self, watched: _Watched, depth: Depth, ts_ms: int, out: list[DepthState]) -> None:
        old = watched.state
        if depth == old.depth:
            return
        ts_ms = max(ts_ms, old.bid_ts_ms, old.ask_ts_ms)
        bid_ts_ms = ts_ms if depth.bids != old.depth.bids else old.bid_ts_ms
        ask_ts_ms = ts_ms if depth.asks != old.depth.asks else old.ask_ts_ms
        watched.state = DepthState(old.symbol, old.number + 1, depth, bid_ts_ms, ask_ts_ms)
        out.append(watched.state)

    def _add_extra(self, extra: int, now_ms: int, out: list[DepthState]) -> None:
        symbols = list(self._watched.values())
        for _ in range(extra):
            watched = symbols[self._turn % len(symbols)]
            self._turn += 1
            if watched.tick is not None:
                watched.extra += 1
                self._change(watched, watched.model.stirred(watched.state.depth, watched.extra), now_ms, out)
