"""Which root a symbol is looked for in: the one whose market knows it as it was written, on both ways to ask."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from hk_tick_collector.market.cn import CN
from hk_tick_collector.market.hk import HK
from hk_tick_collector.serve.api.roots import Roots
from hk_tick_collector.serve.keys import ANONYMOUS
from hk_tick_collector.serve.live.question import subscription
from hk_tick_collector.serve.problems import Problem

WRITTEN = "700 0700.HK hk.00005 SH.600519 000001.sz"


def test_symbols_of_two_markets_as_people_write_them() -> None:
    roots = Roots([(Path("/hk"), Path("/hk")), (Path("/cn"), Path("/cn"))])
    roots.all[0].market, roots.all[1].market = HK, CN
    asked = {root.number: symbols for root, symbols in roots.symbols(WRITTEN)}
    assert asked == {0: ["HK.00005", "HK.00700"], 1: ["SH.600519", "SZ.000001"]}

    of_one = {"roots": SimpleNamespace(of=(None,)), "numbers": None}
    hubs = cast(Any, [SimpleNamespace(market=market, **of_one) for market in (HK, CN)])
    subscribed = subscription({"symbols": WRITTEN}, hubs, ANONYMOUS).symbols
    assert subscribed == {number: frozenset(symbols) for number, symbols in asked.items()}


@pytest.mark.parametrize("word", ["US.AAPL", "HK.123456", "SH.1", "@symbols"])
def test_what_no_market_here_knows_is_refused(word: str) -> None:
    roots = Roots([(Path("/hk"), Path("/hk"))])
    roots.all[0].market = HK
    with pytest.raises(Problem):
        roots.symbols(word)
    with pytest.raises(Problem):
        subscription({"symbols": word}, cast(Any, [SimpleNamespace(market=HK)]), ANONYMOUS)
