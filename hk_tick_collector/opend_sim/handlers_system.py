"""Answers about the connection and the login: InitConnect, KeepAlive, GetGlobalState, GetUserInfo."""

from __future__ import annotations

from typing import Any

from hk_tick_collector.opend_sim import pb, wire
from hk_tick_collector.opend_sim.encode import market_state_number
from hk_tick_collector.opend_sim.opend import (
    HISTORY_KL_QUOTA,
    KEEP_ALIVE_SEC,
    LOGIN_USER_ID,
    SERVER_BUILD,
    SERVER_VERSION,
    Client,
    OpenD,
)
from hk_tick_collector.opend_sim.subscriptions import Refused

_ENC_ALGOS = (wire.ENC_NONE, wire.ENC_FTAES_ECB, wire.ENC_AES_ECB, wire.ENC_AES_CBC)
_NO_RIGHT = int(pb.qot_common.QotRight_No)
_RIGHT_FIELDS = (
    "hkQotRight", "usQotRight", "cnQotRight", "shQotRight", "szQotRight", "hkOptionQotRight", "hkFutureQotRight",
)  # fmt: skip


def init_connect(opend: OpenD, client: Client, c2s: Any, s2c: Any) -> None:
    """Hand out the connection id, the AES key, and the keep-alive interval.

    Without an RSA key nothing is encrypted; with one the client's ``packetEncAlgo`` decides, and may be none.
    """
    algo = c2s.packetEncAlgo if c2s.HasField("packetEncAlgo") else wire.ENC_FTAES_ECB
    if algo not in _ENC_ALGOS:
        raise Refused(f"unknown packetEncAlgo {algo}")
    if opend.settings.rsa_key is None:
        if algo != wire.ENC_NONE and c2s.HasField("packetEncAlgo"):
            raise Refused("encryption is asked for, but this simulator runs without --rsa-key")
        algo = wire.ENC_NONE
    client.initialized = True
    client.recv_notify = c2s.recvNotify
    client.push_fmt = wire.FMT_JSON if c2s.pushProtoFmt == wire.FMT_JSON else wire.FMT_PROTOBUF
    client.enc_algo = algo
    client.aes_key = wire.new_key_text()
    s2c.serverVer = SERVER_VERSION
    s2c.loginUserID = LOGIN_USER_ID
    s2c.connID = client.conn_id
    s2c.connAESKey = client.aes_key
    s2c.keepAliveInterval = KEEP_ALIVE_SEC
    s2c.userAttribution = int(pb.common.UserAttribution_HK)
    if algo in (wire.ENC_NONE, wire.ENC_AES_CBC):
        client.aes_iv = wire.new_key_text()
        s2c.aesCBCiv = client.aes_iv


def keep_alive(opend: OpenD, _client: Client, _c2s: Any, s2c: Any) -> None:
    s2c.time = opend.market.now_ms() // 1000


def get_global_state(opend: OpenD, client: Client, _c2s: Any, s2c: Any) -> None:
    """Only the simulated market trades here; every other one is closed."""
    if opend.faults.hit("fail-state") is not None:
        raise Refused("how it is cannot be said now, try again")
    now_ms = opend.market.now_ms()
    closed = int(pb.qot_common.QotMarketState_Closed)
    fault = opend.faults.active("market-state")
    state = fault.kind if fault is not None else opend.market.exchange.market_state(now_ms)
    for field in ("marketHK", "marketUS", "marketSH", "marketSZ", "marketSG", "marketMY", "marketJP"):
        setattr(s2c, field, closed)
    for field in opend.venue.state_fields:
        setattr(s2c, field, market_state_number(state))
    for field in ("marketHKFuture", "marketUSFuture", "marketSGFuture", "marketJPFuture"):
        setattr(s2c, field, int(pb.qot_common.QotMarketState_FutureClose))
    s2c.qotLogined = opend.qot_logined()
    s2c.trdLogined = not opend.logged_out()
    s2c.serverVer = SERVER_VERSION
    s2c.serverBuildNo = SERVER_BUILD
    s2c.time = now_ms // 1000
    s2c.localTime = now_ms / 1000
    s2c.programStatus.type = opend.program_status()
    s2c.connID = client.conn_id


def get_user_info(opend: OpenD, _client: Client, _c2s: Any, s2c: Any) -> None:
    """All fields that concern quotes, whatever the request's flag asks for; no right outside the market."""
    s2c.nickName = "simulator"
    s2c.userID = LOGIN_USER_ID
    for field in _RIGHT_FIELDS:
        setattr(s2c, field, opend.right() if field in opend.venue.right_fields else _NO_RIGHT)
    s2c.isNeedAgreeDisclaimer = False
    s2c.updateType = 0
    s2c.subQuota = opend.quota()
    s2c.historyKLQuota = HISTORY_KL_QUOTA
    s2c.userAttribution = int(pb.common.UserAttribution_HK)
