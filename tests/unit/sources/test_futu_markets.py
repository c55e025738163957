"""What we say of OpenD's other markets is what the SDK's protobufs say, and it is asked in their words."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import futu
import pytest
from futu.common.pb import (
    GetGlobalState_pb2,
    GetUserInfo_pb2,
    Notify_pb2,
    Qot_Common_pb2,
    Qot_GetSubInfo_pb2,
    Qot_Sub_pb2,
)

import hk_tick_collector
from hk_tick_collector.core.errors import ConfigError
from hk_tick_collector.market.registry import MARKETS as ALL_MARKETS
from hk_tick_collector.sources.futu import answers, sdk
from hk_tick_collector.sources.futu.markets import CN, HK, MARKETS, US, FutuMarket, at_futu

# Whoever makes one of these says for which market.
OF_A_MARKET = {"Connection": 5, "TickMapper": 2}


@pytest.mark.parametrize("market", MARKETS.values(), ids=MARKETS)
def test_every_number_field_and_word_is_the_sdks(market: FutuMarket) -> None:
    names = {number: name.partition("_")[2] for name, number in Qot_Common_pb2.QotMarket.items()}
    assert {names[number] for number in market.prefixes} <= {
        "HK_Security",
        "US_Security",
        "CNSH_Security",
        "CNSZ_Security",
    }
    for field in market.state_fields:
        assert field in GetGlobalState_pb2.S2C.DESCRIPTOR.fields_by_name
    for field in market.right_fields:
        assert field in GetUserInfo_pb2.S2C.DESCRIPTOR.fields_by_name
        assert field in Notify_pb2.QotRight.DESCRIPTOR.fields_by_name
    assert len(market.right_fields) == len(market.prefixes)
    assert market.not_trading <= {name.partition("_")[2] for name, _ in Qot_Common_pb2.QotMarketState.items()}
    assert hasattr(futu.TradeDateMarket, market.trade_dates)
    assert hasattr(futu.Session, market.session)
    assert ALL_MARKETS[market.spec.market] is market.market


def test_a_market_that_opend_is_not_asked_for() -> None:
    with pytest.raises(ConfigError, match=r"CME.*HK, US, CN"):
        at_futu("CME")


@pytest.mark.parametrize("symbol", ["US.AAPL", "US.BRK.B", "US..DJI"])
def test_us_stocks_are_subscribed_for_all_sessions(symbol: str) -> None:
    """Without it nothing comes outside 09:30-16:00, and nobody says so."""
    sent = subscription_of(US, symbol)
    assert (sent.extendedTime, sent.session) == (True, 3)
    assert [(security.market, security.code) for security in sent.securityList] == [(11, symbol[3:])]


@pytest.mark.parametrize(("market", "symbol"), [(HK, "HK.00700"), (CN, "SH.600519")])
def test_the_others_are_asked_for_as_before(market: FutuMarket, symbol: str) -> None:
    sent = subscription_of(market, symbol)
    assert not sent.extendedTime
    assert sent.session == 0


def subscription_of(market: FutuMarket, symbol: str) -> Any:
    """The ``Qot_Sub.C2S`` that a connection sends."""
    sent: list[Any] = []

    class Mute(sdk.Connection):
        def __init__(self) -> None:
            self.market = market

        def _ready_context(self) -> Any:
            return type("Context", (), {"get_sync_conn_id": staticmethod(lambda: 7)})

        async def _request(self, packed: Any, unpack: Any, timeout_sec: float) -> Any:
            sent.append(packed)

    coroutine = Mute().subscribe_tickers([symbol], 1.0)
    with pytest.raises(StopIteration):
        coroutine.send(None)
    ret, _, frame, *_ = sent[0]
    assert ret == futu.RET_OK
    return Qot_Sub_pb2.Request.FromString(frame[44:]).c2s


def test_rights_and_state_are_those_of_the_market() -> None:
    info = GetUserInfo_pb2.S2C(hkQotRight=1, usQotRight=3, shQotRight=2, szQotRight=5, subQuota=100, historyKLQuota=9)
    by_market = {market: answers.read_user_info(info, sdk.NAMES, market).quote_rights for market in (HK, US, CN)}
    assert by_market == {HK: {"HK": "Bmp"}, US: {"US": "Level2"}, CN: {"SH": "Level1", "SZ": "No"}}
    assert [market.cannot_subscribe(rights) for market, rights in by_market.items()] == [["HK"], [], ["SZ"]]
    assert CN.rights_text(by_market[CN]) == "SH Level1, SZ No"
    state = GetGlobalState_pb2.S2C(marketHK=6, marketUS=8, marketSH=4, marketSZ=3, time=1, qotLogined=True)
    states = {market: answers.read_global_state(state, sdk.NAMES, market).market_state for market in (HK, US, CN)}
    assert states == {HK: "Closed", US: "PreMarketBegin", CN: "Rest/Morning"}
    assert [market.says_closed(state) for market, state in states.items()] == [True, True, False]
    assert not US.says_closed("Afternoon")
    assert not US.says_closed("")
    assert US.says_closed("OVERNIGHT")
    assert CN.says_closed("Closed")


def test_a_right_that_was_taken_is_told_for_the_market_that_lost_it() -> None:
    notice = Notify_pb2.Response(retType=0)
    notice.s2c.type = Notify_pb2.NotifyType_QotRight
    notice.s2c.qotRight.hkQotRight, notice.s2c.qotRight.usQotRight = 3, 1
    told = {market: answers.read_notice(notice, sdk.NAMES, market) for market in (HK, US)}
    assert (told[HK].name, told[HK].fields["cannot_subscribe"]) == ("Level2", "")
    assert (told[US].name, told[US].fields["cannot_subscribe"]) == ("Bmp", "US")


def test_a_subscription_of_another_market_is_none_of_ours() -> None:
    info = Qot_GetSubInfo_pb2.S2C(totalUsedQuota=2, remainQuota=98)
    sub = info.connSubInfoList.add(usedQuota=2, isOwnConnData=True).subInfoList.add(subType=4)
    sub.securityList.add(market=11, code="BRK.B")
    sub.securityList.add(market=1, code="00700")
    assert answers.read_subscriptions(info, 4, US, only_own=True).ticker_codes == {"US.BRK.B"}
    assert answers.read_subscriptions(info, 4, HK, only_own=True).ticker_codes == {"HK.00700"}


def test_whoever_connects_says_for_which_market() -> None:
    """Hong Kong is the default of tests. A forgotten argument would record its rights, states and hours for others."""
    forgotten = []
    for path in Path(hk_tick_collector.__file__).parent.rglob("*.py"):
        source = path.read_text(encoding="utf-8")
        if not any(name in source for name in OF_A_MARKET):
            continue
        for node in ast.walk(ast.parse(source)):
            if not isinstance(node, ast.Call):
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            is_told = any(keyword.arg == "market" for keyword in node.keywords)
            if name in OF_A_MARKET and len(node.args) < OF_A_MARKET[name] and not is_told:
                forgotten.append(f"{path.name}:{node.lineno} {name}")
    assert forgotten == []
