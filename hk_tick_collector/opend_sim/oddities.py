"""Faults that strike a tick when it is made, so that the truth file, answers and pushes all show the same one.

``Oddities.strike`` changes the tick in place: backdate, twins, spoil; see ``faults.py``.
"""

from __future__ import annotations

from dataclasses import replace

from hk_tick_collector.opend_sim.faults import FaultState
from hk_tick_collector.opend_sim.simtick import SimTick
from hk_tick_collector.opend_sim.venue import venue_of


class Oddities:
    """Remembers each symbol's newest tick while a fault is active, for twins."""

    def __init__(self, faults: FaultState) -> None:
        self._faults = faults
        self._newest: dict[str, SimTick] = {}

    def strike(self, tick: SimTick) -> None:
        """What active faults make of a new tick."""
        faults, symbol = self._faults, tick.symbol
        if not faults.any_active():
            self._newest.clear()
            return
        backdate = faults.hit("backdate", symbol)
        if backdate is not None:
            _move_back(tick, backdate.ms)
        before = self._newest.get(symbol)
        if before is not None and faults.hit("twins", symbol) is not None:
            _make_equal(tick, before)
        spoil = faults.hit("spoil", symbol)
        if spoil is not None:
            tick.damage = spoil.kind
        self._newest[symbol] = replace(tick)


def _move_back(tick: SimTick, ms: int) -> None:
    tick.ts_ms -= ms if tick.has_ms else ms - ms % 1000
    tick.seq = venue_of(tick.symbol).moved(tick.seq, tick.ts_ms // 1000)


def _make_equal(tick: SimTick, other: SimTick) -> None:
    tick.ts_ms, tick.has_ms = other.ts_ms, other.has_ms
    tick.price, tick.volume, tick.turnover = other.price, other.volume, other.turnover
    tick.direction, tick.tick_type, tick.type_sign = other.direction, other.tick_type, other.type_sign
    tick.part = other.part
    tick.seq = venue_of(tick.symbol).moved(tick.seq, other.seq >> 32)
