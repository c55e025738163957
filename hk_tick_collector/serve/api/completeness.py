"""How complete an answer is, small enough to stand in every answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from hk_tick_collector.client.coverage import MISSING, NOT_RECORDED, PROVEN, UNPROVEN, SymbolCoverage

LISTED = 100  # symbol-days that are not proven; the rest is counted


def summary_of(rows: Iterable[SymbolCoverage]) -> dict[str, Any]:
    """How many symbol-days are in each state, which are not proven, and the worst state."""
    rows = list(rows)
    states = Counter(row.state for row in rows)
    doubtful = [row for row in rows if row.state != PROVEN]
    return {
        "state": _worst(states),
        **{state: states[state] for state in (PROVEN, MISSING, UNPROVEN, NOT_RECORDED)},
        "missing_ticks": sum(row.missing_ticks for row in rows),
        "not_proven": [
            {
                "day": row.trading_day,
                "symbol": row.symbol,
                "state": row.state,
                "missing_ticks": row.missing_ticks,
                "missing_at_most": row.missing_at_most,
                "reason": row.reason,
            }
            for row in doubtful[:LISTED]
        ],
    }


def _worst(states: Counter[str]) -> str:
    if states[MISSING]:
        return MISSING
    return PROVEN if states[PROVEN] and states[PROVEN] == states.total() else UNPROVEN
