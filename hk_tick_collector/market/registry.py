"""Every market there is, by its code. A new one is a line here and a folder."""

from __future__ import annotations

import copyreg
from collections.abc import Callable

from hk_tick_collector.core.errors import ConfigError
from hk_tick_collector.market.cme import CME
from hk_tick_collector.market.cn import CN
from hk_tick_collector.market.hk import HK
from hk_tick_collector.market.market import Market
from hk_tick_collector.market.tw import TW
from hk_tick_collector.market.us import US

MARKETS: dict[str, Market] = {market.code: market for market in (HK, US, CN, CME, TW)}
DEFAULT_MARKET = HK  # where MARKET is not set, and of files from before markets had names


def market_of(code: str | None) -> Market:
    """The market of a code; DEFAULT_MARKET for None, which is what files from before markets had names hold.

    ConfigError for one that this version does not know.
    """
    if code is None:
        return DEFAULT_MARKET
    try:
        return MARKETS[code]
    except KeyError:
        raise ConfigError(f"market {code} is not known; this version knows {', '.join(MARKETS)}") from None


def _by_code(market: Market) -> tuple[Callable[[str | None], Market], tuple[str]]:
    return market_of, (market.code,)


copyreg.pickle(Market, _by_code)  # to another process a market goes by its code: its rules are functions
