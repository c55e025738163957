"""How OpenD speaks of each market that is recorded from it: numbers, fields of its answers, words.

Plain data, held against the SDK's own protobufs by a test. A further market is a ``FutuMarket`` here and a line in
``spec``. None of the values but Hong Kong's were seen on a live OpenD: they are those of futu-api 10.11 and of Futu's
documentation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hk_tick_collector.core.errors import ConfigError
from hk_tick_collector.market import cn, hk, us
from hk_tick_collector.market.market import Market
from hk_tick_collector.sources.futu import spec
from hk_tick_collector.sources.source import SourceSpec

# Qot_Common.QotRight without a subscription; the last one in Futu's spelling.
CANNOT_SUBSCRIBE = frozenset({"Bmp", "No", "Unknow"})


@dataclass(frozen=True, eq=False)
class FutuMarket:
    """One market at OpenD::

        JP = FutuMarket(
            market=jp.JP,
            spec=spec.JP,
            prefixes={41: "JP"},
            state_fields=("marketJP",),
            right_fields=("jpStockQotRight",),
            trade_dates="JP",
            not_trading=frozenset({"Rest", "Closed"}),
        )

    ``Connection``, ``TickMapper``, ``PushHandler`` and ``TickPuller`` are made for one of these.
    """

    market: Market
    spec: SourceSpec
    prefixes: Mapping[int, str]  # Qot_Common.QotMarket -> the word before a symbol's first dot
    state_fields: tuple[str, ...]  # of GetGlobalState.S2C: what the market does now
    right_fields: tuple[str, ...]  # of GetUserInfo.S2C and Notify.QotRight: what the account may see
    trade_dates: str  # futu.TradeDateMarket
    not_trading: frozenset[str]  # names of Qot_Common.QotMarketState in which no continuous trading takes place
    session: str = "NONE"  # futu.Session of a subscription: which of the day's sessions are sent
    is_second_in_seq: bool = True  # do the high 32 bits of a sequence hold the tick's second?
    is_volume_whole: bool = True  # can no trade be of less than a share?

    @property
    def numbers(self) -> frozenset[int]:
        """Its numbers of Qot_Common.QotMarket."""
        return frozenset(self.prefixes)

    def says_closed(self, state: str) -> bool:
        """Does OpenD's market state (as ``read_global_state`` gives it) say that there is no continuous trading at
        this moment? An exceptional closing or a late opening is in no calendar. An unknown state says nothing."""
        return all(word in self.not_trading for word in state.split("/"))

    def cannot_subscribe(self, rights: Mapping[str, str]) -> list[str]:
        """Which of the market's places cannot be subscribed with these rights, as ``UserInfo`` has them."""
        return [place for place, right in rights.items() if right in CANNOT_SUBSCRIBE]

    def rights_text(self, rights: Mapping[str, str]) -> str:
        """``Level2``, and ``SH Level1, SZ Bmp`` where the places of a market have rights of their own."""
        if len(rights) == 1:
            return next(iter(rights.values()))
        return ", ".join(f"{place} {right}" for place, right in rights.items())


HK = FutuMarket(
    market=hk.HK,
    spec=spec.HK,
    prefixes={1: "HK"},
    state_fields=("marketHK",),
    right_fields=("hkQotRight",),
    trade_dates="HK",
    not_trading=frozenset({"Auction", "WaitingOpen", "Rest", "Closed", "HkCas"}),
)
US = FutuMarket(
    market=us.US,
    spec=spec.US,
    prefixes={11: "US"},
    state_fields=("marketUS",),
    right_fields=("usQotRight",),
    trade_dates="US",
    not_trading=frozenset(
        {
            "Auction", "WaitingOpen", "Rest", "Closed", "PreMarketBegin", "PreMarketEnd", "AfterHoursBegin",
            "AfterHoursEnd", "AFTERNOON_END", "NIGHT", "OVERNIGHT_BEGIN", "OVERNIGHT_END", "OVERNIGHT",
        }
    ),
    session="ALL",  # without it, ticks outside 09:30-16:00 do not come
    is_volume_whole=False,
)  # fmt: skip
CN = FutuMarket(
    market=cn.CN,
    spec=spec.CN,
    prefixes={21: "SH", 22: "SZ"},
    state_fields=("marketSH", "marketSZ"),
    right_fields=("shQotRight", "szQotRight"),
    trade_dates="CN",
    not_trading=frozenset(
        {
            "Auction", "WaitingOpen", "Rest", "Closed", "CLOSE_AUCTION", "StibAfterHoursWait", "StibAfterHoursBegin",
            "StibAfterHoursEnd", "AShareAfterHoursWait", "AShareAfterHoursBegin", "AShareAfterHoursEnd",
        }
    ),
    is_second_in_seq=False,
)  # fmt: skip

MARKETS = {market.spec.market: market for market in (HK, US, CN)}


def at_futu(code: str) -> FutuMarket:
    """The market of a setting MARKET or of a data root's days. ConfigError where OpenD is not asked for it."""
    try:
        return MARKETS[code]
    except KeyError:
        raise ConfigError(f"OpenD is not asked for market {code}: it is for {', '.join(MARKETS)}") from None
