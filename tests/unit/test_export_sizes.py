"""Tick and lot size of an exported day."""

from __future__ import annotations

import numpy as np
import pytest

from hk_tick_collector.export.backtest import PRICE_LIMIT, Options, sizes_of
from hk_tick_collector.export.hft_events import Told

LOTS = np.array([300.0, 500.0])


@pytest.mark.parametrize("absurd", [PRICE_LIMIT, 99_999_999_999.0, 1e300, -1e300])
@pytest.mark.parametrize(("told", "tick"), [(None, 0.2), (0.2, 0.2), (0.5, 0.1)])
def test_one_price_that_no_market_has_does_not_make_the_tick_size(
    absurd: float, told: float | None, tick: float
) -> None:
    counted = Told()
    with np.errstate(all="raise"):
        sizes = sizes_of(np.array([412.2, absurd, 412.4, 0.0]), LOTS, (told, None), Options(), counted)
    assert sizes.tick == pytest.approx(tick)
    assert sizes.lot == 100
    assert counted.counts == {"prices_beyond_limit": 1}


def test_a_step_of_nine_decimals_is_seen() -> None:
    counted = Told()
    prices = np.array([PRICE_LIMIT - 1, 0.000_000_25, 0.000_000_75])
    assert sizes_of(prices, LOTS, (None, None), Options(), counted).tick == 0.000_000_25
    assert not counted.counts
