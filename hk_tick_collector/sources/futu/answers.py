"""OpenD's answers as values of ours, and how they are read from the protobuf messages that ``sources.futu.sdk`` gets.

Knows the messages by their fields only; the names of Futu's numbers are given by ``sources.futu.sdk``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from hk_tick_collector.sources.futu.markets import FutuMarket

_OUTAGE_EVENTS = frozenset({"KickedOut", "LoginFailed", "LoginPwdChanged", "BanLogin"})
_LATEST_SEC = 4_102_444_800  # 2100-01-01: no clock of OpenD's says later


class EnumNames(NamedTuple):
    """Futu's numbers by name."""

    gtw_events: dict[int, str]
    notify_types: dict[int, str]
    program_status: dict[int, str]
    qot_rights: dict[int, str]
    market_states: dict[int, str]
    security_types: dict[int, str]


@dataclass(frozen=True, slots=True)
class GlobalState:
    """OpenD's answer to ``get_global_state``: is it logged in, and what does it think of the market and the time."""

    qot_logined: bool
    program_status: str  # Ready when it can serve
    market_state: str  # Qot_Common.QotMarketState name; two of them ("Morning/Rest") where its places differ
    server_version: int
    opend_time_sec: int  # Futu's server clock, UTC epoch seconds; 0 when it says what no clock does

    @property
    def ready(self) -> bool:
        return self.qot_logined and self.program_status == "Ready"


@dataclass(frozen=True, slots=True)
class SubscriptionInfo:
    """OpenD's answer to ``query_subscription``: ticker codes of this connection or of all, quota over all of them."""

    ticker_codes: frozenset[str]
    remain_quota: int  # never below 0, whatever OpenD counts
    used_quota: int
    book_codes: frozenset[str] = frozenset()
    broker_codes: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class UserInfo:
    """OpenD's answer to ``get_user_info``: what the account may do."""

    quote_rights: Mapping[str, str]  # by the market's places (HK, SH, ...): Qot_Common.QotRight name, Level2, Bmp, ...
    sub_quota: int  # subscriptions the account may hold
    history_kline_quota: int  # symbols whose K-line history it may ask for in 30 days
    must_agree_disclaimer: bool


@dataclass(frozen=True, slots=True)
class SymbolInfo:
    """OpenD's static data of one security."""

    code: str
    name: str
    lot_size: int  # shares of a board lot
    kind: str  # Qot_Common.SecurityType name: Eqty, Trust, Warrant, ...
    delisted: bool  # also how OpenD marks a code that it does not know (Futu's documentation of get_stock_basicinfo)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """OpenD's snapshot of one security: its day so far."""

    code: str
    name: str
    lot_size: int
    suspended: bool
    last_price: float
    volume: int  # shares
    turnover: float  # in the symbol's currency
    updated_at_ms: int  # UTC epoch ms of the last price, 0 when OpenD does not say


@dataclass(frozen=True, slots=True)
class MinuteBar:
    """One of OpenD's one-minute K-lines."""

    label_ms: int  # OpenD's time of the bar, UTC epoch ms; which end of the minute it is: quality.against_source
    volume: int  # shares
    turnover: float  # in the symbol's currency


@dataclass(frozen=True, slots=True)
class MinuteBars:
    """A page of minute bars. ``next_key`` is what to ask the next page with, None after the last one."""

    bars: tuple[MinuteBar, ...]
    next_key: bytes | None


@dataclass(frozen=True, slots=True)
class Notice:
    """A notify push by name, with every field OpenD sent."""

    kind: str  # GtwEvent, ProgramStatus, ConnStatus, QotRight, APILevel, APIQuota, UsedQuota
    name: str  # event or status name, else ""
    fields: dict[str, object]

    @property
    def tells_outage(self) -> bool:
        """OpenD could not serve quotes when it said this, whatever it answers a moment later."""
        if self.kind == "GtwEvent":
            return self.name in _OUTAGE_EVENTS
        return (self.kind == "ProgramStatus" and self.name != "Ready") or self.fields.get("qot_logined") is False


def read_global_state(state: Any, names: EnumNames, market: FutuMarket) -> GlobalState:
    """A ``GetGlobalState.S2C``."""
    return GlobalState(
        qot_logined=state.qotLogined,
        program_status=names.program_status.get(state.programStatus.type, str(state.programStatus.type)),
        market_state="/".join(dict.fromkeys(_named(names.market_states, state, market.state_fields))),
        server_version=state.serverVer,
        opend_time_sec=state.time if 0 <= state.time < _LATEST_SEC else 0,
    )


def read_subscriptions(
    info: Any,
    ticker_type: int,
    market: FutuMarket,
    *,
    only_own: bool,
    book_type: int | None = None,
    broker_type: int | None = None,
) -> SubscriptionInfo:
    """A ``Qot_GetSubInfo.S2C``: the market's codes subscribed for ticks, and for books and queues where their types
    are given, of this connection or of all it lists."""
    subs = [sub for conn in info.connSubInfoList if conn.isOwnConnData or not only_own for sub in conn.subInfoList]

    def codes(sub_type: int | None) -> frozenset[str]:
        return frozenset(
            _code(security, market)
            for sub in subs
            if sub.subType == sub_type
            for security in sub.securityList
            if security.market in market.prefixes
        )

    return SubscriptionInfo(
        codes(ticker_type),
        max(0, info.remainQuota),
        max(0, info.totalUsedQuota),
        codes(book_type),
        codes(broker_type),
    )


def read_user_info(info: Any, names: EnumNames, market: FutuMarket) -> UserInfo:
    """A ``GetUserInfo.S2C``, with the rights for this market."""
    return UserInfo(_rights(info, names, market), info.subQuota, info.historyKLQuota, info.isNeedAgreeDisclaimer)


def read_static_info(answer: Any, names: EnumNames, market: FutuMarket) -> dict[str, SymbolInfo]:
    """A ``Qot_GetStaticInfo.S2C``, by code."""
    infos: dict[str, SymbolInfo] = {}
    for entry in answer.staticInfoList:
        basic = entry.basic
        code, kind = _code(basic.security, market), names.security_types.get(basic.secType, str(basic.secType))
        infos[code] = SymbolInfo(code, basic.name, basic.lotSize, kind, basic.delisting)
    return infos


def read_snapshots(answer: Any, market: FutuMarket) -> dict[str, Snapshot]:
    """A ``Qot_GetSecuritySnapshot.S2C``, by code."""
    snapshots: dict[str, Snapshot] = {}
    for snapshot in answer.snapshotList:
        basic = snapshot.basic
        code = _code(basic.security, market)
        snapshots[code] = Snapshot(
            code=code,
            name=basic.name,
            lot_size=basic.lotSize,
            suspended=basic.isSuspend,
            last_price=basic.curPrice,
            volume=basic.volume or _whole(basic.hpVolume),
            turnover=basic.turnover,
            updated_at_ms=_ms(basic.updateTimestamp),
        )
    return snapshots


def read_minute_bars(answer: Any) -> MinuteBars:
    """A ``Qot_RequestHistoryKL.S2C``. Bars that OpenD calls blank have a time and nothing else: they are left out."""
    bars = tuple(
        MinuteBar(_ms(line.timestamp), line.volume or _whole(line.hpVolume), line.turnover)
        for line in answer.klList
        if not line.isBlank
    )
    return MinuteBars(bars, bytes(answer.nextReqKey) or None)


def read_notice(message: Any, names: EnumNames, market: FutuMarket) -> Notice:
    """A ``Notify.Response`` by name, with its payload's fields; of quote rights those for this market."""
    body = message.s2c
    kind = names.notify_types.get(body.type, f"Type{body.type}")
    if kind == "GtwEvent":
        event = names.gtw_events.get(body.event.eventType, str(body.event.eventType))
        return Notice(kind, event, {"desc": body.event.desc})
    if kind == "ProgramStatus":
        status = body.programStatus.programStatus
        return Notice(kind, names.program_status.get(status.type, str(status.type)), {"desc": status.strExtDesc})
    if kind == "ConnStatus":
        connect = body.connectStatus
        return Notice(kind, "", {"qot_logined": connect.qotLogined, "trd_logined": connect.trdLogined})
    if kind == "QotRight":
        rights = _rights(body.qotRight, names, market)
        return Notice(
            kind, market.rights_text(rights), {"cannot_subscribe": ", ".join(market.cannot_subscribe(rights))}
        )
    payload = [value for descriptor, value in body.ListFields() if descriptor.name != "type"]
    fields: dict[str, object] = {d.name: value for part in payload for d, value in part.ListFields()}
    return Notice(kind, "", fields)


def _ms(epoch_sec: float) -> int:
    """Milliseconds; 0 for what is no time."""
    return round(epoch_sec * 1000) if 0 <= epoch_sec < _LATEST_SEC else 0


def _whole(shares: float) -> int:
    """``hpVolume``, a double, as the number it stands for; 0 for what is none."""
    return int(shares) if 0 <= shares < 1e18 else 0


def _named(names: dict[int, str], message: Any, fields: tuple[str, ...]) -> list[str]:
    return [names.get(getattr(message, field), str(getattr(message, field))) for field in fields]


def _rights(message: Any, names: EnumNames, market: FutuMarket) -> dict[str, str]:
    """By the market's places, in whose order its fields are."""
    return dict(zip(market.prefixes.values(), _named(names.qot_rights, message, market.right_fields), strict=True))


def _code(security: Any, market: FutuMarket) -> str:
    """The symbol; with OpenD's number where it is of another market."""
    return f"{market.prefixes.get(security.market, security.market)}.{security.code}"
