"""A market's clock over whole columns: numpy arrays of UTC epoch milliseconds to local ones, and to trading days."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from hk_tick_collector.market.market import Market
from hk_tick_collector.market.zone import Zone

_QUARTER_MS = 900_000  # no clock is changed and no trading day begins within one

Ints = npt.NDArray[np.int64]
_T = TypeVar("_T")


def local_ms(ts_ms: Ints, zone: Zone) -> Ints:
    """What the zone's clock shows, as milliseconds since its 1970-01-01 0:00."""
    if zone.fixed_offset_ms is not None:
        return ts_ms + zone.fixed_offset_ms
    offsets_ms, which = _by_quarter(ts_ms, zone.offset_ms)
    shown: Ints = ts_ms + np.array(offsets_ms, np.int64)[which]
    return shown


def trading_days(ts_ms: Ints, market: Market) -> tuple[list[str], Ints]:
    """The trading days of these moments, in order, and which of them each moment has."""
    names, which = _by_quarter(ts_ms, market.trading_day)
    days = sorted(set(names))
    codes: Ints = np.array([days.index(name) for name in names], np.int64)[which]
    return days, codes


def _by_quarter(ts_ms: Ints, ask: Callable[[int], _T]) -> tuple[list[_T], Ints]:
    quarters, which = np.unique(ts_ms // _QUARTER_MS, return_inverse=True)
    return [ask(quarter * _QUARTER_MS) for quarter in quarters.tolist()], which
