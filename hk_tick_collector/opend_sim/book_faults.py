"""What faults make of an order book on its way out; see ``faults.py`` for their names.

A fault changes what is sent, never the book itself: the next push and an answer to ``get_order_book`` are whole again.
"""

from __future__ import annotations

from hk_tick_collector.opend_sim.depth import Depth, Level
from hk_tick_collector.opend_sim.depth_feed import DepthState
from hk_tick_collector.opend_sim.faults import Fault, FaultState

_MIXED_LEVELS = 3


def strike(faults: FaultState, state: DepthState) -> list[tuple[DepthState, str]]:
    """What is sent instead of a state, with the faults' names: nothing, one, or the same twice."""
    symbol = state.symbol
    if faults.active("book-freeze", symbol) is not None or faults.hit("book-drop", symbol) is not None:
        return []
    damage: list[str] = []
    for name, change in _CHANGES.items():
        fault = faults.hit(name, symbol)
        if fault is not None:
            state = change(state, fault)
            damage.append(name)
    repeat = faults.hit("book-repeat", symbol)
    if repeat is None:
        return [(state, "+".join(damage))]
    damage.append("book-repeat")
    if repeat.kind == "push":
        return [(state, "+".join(damage))] * 2
    return [(_with(state, _doubled(state.depth.bids), _doubled(state.depth.asks)), "+".join(damage))]


def _with(state: DepthState, bids: tuple[Level, ...], asks: tuple[Level, ...]) -> DepthState:
    return state._replace(depth=Depth(bids, asks))


def _cross(state: DepthState, _fault: Fault) -> DepthState:
    """The best bid and the best ask change their prices: bids above asks."""
    bids, asks = state.depth
    if not bids or not asks:
        return state
    bid, ask = bids[0]._replace(price=asks[0].price), asks[0]._replace(price=bids[0].price)
    return _with(state, (bid, *bids[1:]), (ask, *asks[1:]))


def _one_sided(state: DepthState, fault: Fault) -> DepthState:
    bids, asks = state.depth
    return _with(state, (), asks) if fault.kind == "no-bid" else _with(state, bids, ())


def _unsorted(state: DepthState, _fault: Fault) -> DepthState:
    bids, asks = state.depth
    return _with(state, _mixed(bids), _mixed(asks))


def _mixed(levels: tuple[Level, ...]) -> tuple[Level, ...]:
    return (*reversed(levels[:_MIXED_LEVELS]), *levels[_MIXED_LEVELS:])


def _doubled(levels: tuple[Level, ...]) -> tuple[Level, ...]:
    return (*levels[:1], *levels)


def _without_times(state: DepthState, _fault: Fault) -> DepthState:
    return state._replace(bid_ts_ms=0, ask_ts_ms=0)


def _clock_back(state: DepthState, fault: Fault) -> DepthState:
    bid, ask = state.bid_ts_ms, state.ask_ts_ms
    return state._replace(bid_ts_ms=bid and bid - fault.ms, ask_ts_ms=ask and ask - fault.ms)


def _no_volume(state: DepthState, _fault: Fault) -> DepthState:
    bids, asks = state.depth
    return _with(state, tuple(level._replace(volume=0) for level in bids[:1]) + bids[1:], asks)


_CHANGES = {
    "book-cross": _cross,
    "book-one-sided": _one_sided,
    "book-unsorted": _unsorted,
    "book-no-volume": _no_volume,
    "book-zero-times": _without_times,
    "book-clock-back": _clock_back,
}
