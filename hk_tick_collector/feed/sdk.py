"""The one door to the futu-api SDK: a connection that loses nothing, blocks nobody and always ends.

The SDK's ``OpenQuoteContext`` is kept for what it does well (sockets, handshake, encryption, keep-alive, packing of
requests). Around it, ``_Context`` replaces what loses data or hangs in futu-api 10.11, point by point:

1. The constructor's endless retry: connecting is asynchronous and one context serves one connection only.
2. The callback queue that is thrown away on disconnect: ticker pushes are read on the network thread as they arrive.
3. The SDK's own reconnect and its half resubscription: switched off; ``feed.session`` owns reconnecting. A new context
   also means a new receive buffer: the SDK would read the next connection from the middle of a cut frame.
4. The unguarded network thread: nothing of ours raises into it, and ``network_thread_alive`` lets others look.
5. Requests that block for up to 20 s, or for ever on a closed context: every request is an awaitable with a timeout,
   ended at once when the connection goes.
6. The DEBUG log file of every push: set to WARNING.
7. ``import futu`` without a usable HOME: a private directory stands in.
8. The DataFrame of every push: the protobuf is handed on as it is.
9. Notify payloads that the SDK's handler drops: the protobuf is handed on as it is.

Frames are bounded: a header that promises a body above ``MAX_FRAME_BYTES``, or bytes that are no frame, end the
connection (nothing behind them can be trusted; the next one backfills); a wrong checksum costs its frame. The names of
the SDK's internals used here are held by a test, and futu-api is pinned to one minor.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import struct
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hk_tick_collector.core.errors import ConfigError, FeedError, FeedLost, FeedTimeout
from hk_tick_collector.core.logline import RateLimitedLog, event


def _ensure_home() -> None:
    """futu opens a log file under $HOME when it is imported, and raises when it cannot (point 7)."""
    home = os.environ.get("HOME")
    if home and os.access(home, os.W_OK):
        return
    os.environ["HOME"] = tempfile.mkdtemp(prefix="hk-tick-collector-home-")


_ensure_home()

import futu  # noqa: E402  (needs HOME)
from futu.common.constant import DEFAULT_INIT_PRI_KEY_FILE, ProtoId, SubType  # noqa: E402
from futu.common.ft_logger import logger as _sdk_logger  # noqa: E402
from futu.common.network_manager import CloseReason, ConnectErr, NetManager  # noqa: E402
from futu.common.open_context_base import PacketErr, ReqInfo  # noqa: E402
from futu.common.pb import (  # noqa: E402
    Common_pb2,
    Notify_pb2,
    Qot_Common_pb2,
    Qot_RequestTradeDate_pb2,
    Qot_UpdateTicker_pb2,
)
from futu.common.utils import ProtoInfo  # noqa: E402
from futu.quote.quote_query import (  # noqa: E402
    GlobalStateQuery,
    InitConnect,
    RequestTradeDayQuery,
    SubscriptionQuery,
    TickerQuery,
)

log = logging.getLogger(__name__)

MAX_FRAME_BYTES = 16 * 1024 * 1024  # 1000 ticks are about 100 KB; a day's K-lines stay far below
TCP_CONNECT_TIMEOUT_SEC = 10
GET_TICKER_MAX_ROWS = 1000  # OpenD gives the newest 1000 ticks of a symbol at most

_HEAD = struct.Struct("<2sIBBII20s8s")  # FT, proto id, body format, version, serial, body length, SHA-1, reserve
_HEAD_BYTES = _HEAD.size
_MAGIC = b"FT"
_FMT_PROTOBUF = 0
_UPDATE_TICKER = ProtoId.Qot_UpdateTicker
_UpdateTickerResponse = Qot_UpdateTicker_pb2.Response

PushCallback = Callable[[list[Any]], None]
NotifyCallback = Callable[[Any], None]
LostCallback = Callable[[str], None]

_GTW_EVENTS = {number: name.partition("_")[2] for name, number in Notify_pb2.GtwEventType.items()}
_NOTIFY_TYPES = {number: name.partition("_")[2] for name, number in Notify_pb2.NotifyType.items()}
_PROGRAM_STATUS = {number: name.partition("_")[2] for name, number in Common_pb2.ProgramStatusType.items()}
_QOT_RIGHTS = {number: name.partition("_")[2] for name, number in Qot_Common_pb2.QotRight.items()}
_MARKET_STATES = {number: name.partition("_")[2] for name, number in Qot_Common_pb2.QotMarketState.items()}
_TRADE_DATE_TYPES = {0: "WHOLE", 1: "MORNING", 2: "AFTERNOON"}


def configure(rsa_key_file: Path | None = None) -> None:
    """Process-wide settings of the SDK: quiet logs, daemon threads, encryption when a private key is given."""
    _sdk_logger.file_level = logging.WARNING
    _sdk_logger.console_level = logging.CRITICAL
    futu.SysConfig.enable_console_log(False)
    futu.SysConfig.set_all_thread_daemon(True)
    futu.SysConfig.set_client_info("hk-tick-collector", 1)
    if rsa_key_file is not None:
        _refuse_public_key(rsa_key_file)
        futu.SysConfig.set_init_rsa_file(str(rsa_key_file))
        futu.SysConfig.enable_proto_encrypt(True)


def _refuse_public_key(rsa_key_file: Path) -> None:
    """The SDK ships a private key that everybody has: encrypting with it protects nothing."""
    shipped = Path(futu.__file__).parent / "common" / DEFAULT_INIT_PRI_KEY_FILE
    if shipped.exists() and rsa_key_file.read_bytes().split() == shipped.read_bytes().split():
        raise ConfigError(
            f"FUTU_RSA_KEY_FILE: {rsa_key_file} is the key that futu-api ships to everybody; make one of your own: "
            "openssl genrsa -traditional -out KEY 1024, and give OpenD the same file as rsa_private_key"
        )


def network_thread_alive() -> bool:
    """Is the SDK's one network thread running? When it is not, no connection of this process can work (point 4)."""
    manager = NetManager._default_inst
    return manager is None or manager._thread.is_alive()


def replace_dead_network_thread() -> bool:
    """Give the next connection a new network manager if the thread of the present one has died. True if replaced."""
    if network_thread_alive():
        return False
    with NetManager._default_inst_lock:
        NetManager._default_inst = None
    return True


@dataclass(frozen=True, slots=True)
class GlobalState:
    """OpenD's answer to ``get_global_state``: is it logged in, and what does it think of the market and the time."""

    qot_logined: bool
    program_status: str  # Ready when it can serve
    market_hk: str  # Qot_Common.QotMarketState name
    server_version: int
    opend_time_sec: int  # Futu's server clock, UTC epoch seconds

    @property
    def ready(self) -> bool:
        return self.qot_logined and self.program_status == "Ready"


@dataclass(frozen=True, slots=True)
class SubscriptionInfo:
    """OpenD's answer to ``query_subscription``: ticker codes of this connection, quota left over all of them."""

    ticker_codes: frozenset[str]
    remain_quota: int
    used_quota: int


@dataclass(frozen=True, slots=True)
class Notice:
    """A notify push by name, with every field OpenD sent (point 9)."""

    kind: str  # GtwEvent, ProgramStatus, ConnStatus, QotRight, APILevel, APIQuota, UsedQuota
    name: str  # event or status name, else ""
    fields: dict[str, object]


@dataclass(slots=True)
class WireStats:
    """What the network thread saw. Written by that thread only, read by health lines."""

    ticker_frames: int = 0
    other_frames: int = 0
    bad_sha1_frames: int = 0
    undecodable_frames: int = 0
    callback_errors: int = 0


@dataclass(slots=True)
class _Callbacks:
    """Where the network thread hands things over; each must return at once."""

    push: PushCallback
    notify: NotifyCallback
    connected: Callable[[str | None], None]
    lost: LostCallback
    stats: WireStats = field(default_factory=WireStats)


class _FutureEvent:
    """Stands in for the ``threading.Event`` of the SDK's request record: completes an asyncio future instead."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.future: asyncio.Future[None] = loop.create_future()

    def set(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._finish)
        except RuntimeError:  # the loop is closed: nobody waits any more
            return

    def _finish(self) -> None:
        if not self.future.done():
            self.future.set_result(None)


class _Context(futu.OpenQuoteContext):  # type: ignore[misc]
    """An SDK context for one connection. Methods below ``connect_once`` run on the SDK's network thread."""

    def __init__(self, host: str, port: int, callbacks: _Callbacks) -> None:
        self._cb = callbacks
        self._tail = b""
        self._broken = False
        self._wire_log = RateLimitedLog(log)
        self._host_port = (host, port)
        super().__init__(host=host, port=port, is_async_connect=True)
        self._auto_reconnect = False

    def _wait_reconnect(self, wait_reconnect_interval: float = 6) -> None:
        """The SDK's connect timer, called by its constructor and on every loss: never used (points 1 and 3)."""

    def connect_once(self) -> None:
        """Begin the one connection of this context; ``callbacks.connected`` reports how it went."""
        with self._lock:
            self._status = futu.common.constant.ContextStatus.CONNECTING
            _, info = self._net_mgr.connect(
                self._host_port, self, TCP_CONNECT_TIMEOUT_SEC, self.is_encrypt(), is_sync=False
            )
            self._conn_id = info.conn_id

    def send_request(self, packed: tuple[Any, ...], loop: asyncio.AbstractEventLoop) -> tuple[ReqInfo, ProtoInfo]:
        """Register and send one packed request. Raises ``FeedError`` or ``FeedLost`` when it cannot be sent."""
        if packed[0] != futu.RET_OK:
            raise FeedError(f"request not built: {packed[1]}")
        _, _, frame, proto_id, serial_no = packed
        info = ReqInfo(proto_id=proto_id, serial_no=serial_no, req_time=float("inf"), is_sync=False)
        info.event = _FutureEvent(loop)
        key = ProtoInfo(proto_id=proto_id, serial_no=serial_no)
        with self._lock:
            if not self.can_send_proto(proto_id):
                raise FeedLost(f"not connected (SDK status {self._status})")
            self._req_map[key] = info
            self._net_mgr.send(self._conn_id, frame)
        return info, key

    def forget_request(self, key: ProtoInfo) -> None:
        """An answer that comes after its timeout is dropped."""
        with self._lock:
            self._req_map.pop(key, None)

    def accept_init(self, init: dict[str, Any]) -> None:
        """InitConnect was answered: the context is ready for every other request."""
        self._handle_init_connect_rsp(init)

    def on_connect(self, conn_id: int, conn_info: Any) -> None:
        super().on_connect(conn_id, conn_info)
        self._cb.connected(None if conn_info.err is ConnectErr.Ok else conn_info.msg or str(conn_info.err))

    def on_disconnect(self, conn_id: int, reason: Any, msg: str) -> None:
        super().on_disconnect(conn_id, reason, msg)
        self._cb.lost(f"{reason.name} {msg}".strip())

    def on_recv(self, conn_id: int, data: bytes) -> None:
        """Bytes from the socket. Ticker pushes of one read are handed over together; the rest goes the SDK's way."""
        if conn_id != self._conn_id or self._broken:
            return
        pushes: list[Any] = []
        try:
            self._split(data, pushes)
        except Exception as exc:  # noqa: BLE001 (edge: an exception here would end all pushes, point 4)
            self._fail("futu_frame_error", exc)
        if pushes:
            self._hand_over(pushes)

    def _hand_over(self, pushes: list[Any]) -> None:
        try:
            self._cb.push(pushes)
        except Exception as exc:  # noqa: BLE001 (edge: as above)
            self._fail("futu_push_error", exc)

    def _fail(self, word: str, exc: Exception) -> None:
        """Nothing that follows on this connection can be trusted: drop it, the session reconnects and backfills."""
        self._broken = True
        self._cb.stats.callback_errors += 1
        log.error(event(word, error=str(exc), action="reconnecting"), exc_info=not isinstance(exc, FeedError))
        self.close(reason=CloseReason.ReadFail)

    def _split(self, data: bytes, pushes: list[Any]) -> None:
        """Cut ``data`` (after what was left of the last read) into frames; put the ticker pushes into ``pushes``.

        Replaces the SDK's per-frame buffer deletion, header dict, lock and log call: about a third of its CPU a push.
        """
        if self._tail:
            data = self._tail + data
        self._last_recv_time = time.time()  # the SDK closes a connection that has been silent for 33 s
        at, end, encrypted = 0, len(data), self.is_encrypt()
        while end - at >= _HEAD_BYTES:
            magic, proto_id, body_format, _, _, body_bytes, sha1, _ = _HEAD.unpack_from(data, at)
            if magic != _MAGIC:
                raise FeedError(f"bytes from OpenD are no frame: {data[at : at + 16].hex()}")
            stop = at + _HEAD_BYTES + body_bytes
            if body_bytes > MAX_FRAME_BYTES:
                raise FeedError(f"frame of {body_bytes} bytes announced (proto {proto_id}), limit {MAX_FRAME_BYTES}")
            if stop > end:
                break
            if proto_id == _UPDATE_TICKER and not encrypted and body_format == _FMT_PROTOBUF:
                push = self._ticker_push(data[at + _HEAD_BYTES : stop], sha1)
                if push is not None:
                    pushes.append(push)
            else:
                self._cb.stats.other_frames += 1
                super().on_recv(self._conn_id, data[at:stop])
            at = stop
        self._tail = data[at:]

    def _ticker_push(self, body: bytes, sha1: bytes) -> Any:
        """The decoded push, or None when its checksum or its encoding is wrong: only that frame is lost, and said."""
        if hashlib.sha1(body, usedforsecurity=False).digest() != sha1:
            self._cb.stats.bad_sha1_frames += 1
            self._wire_log.log(logging.ERROR, "futu_frame_bad_sha1", proto=_UPDATE_TICKER, body_bytes=len(body))
            return None
        try:
            push = _UpdateTickerResponse.FromString(body)
        except Exception as exc:  # noqa: BLE001 (protobuf's DecodeError is not a public stable name)
            self._cb.stats.undecodable_frames += 1
            self._wire_log.log(logging.ERROR, "futu_frame_undecodable", proto=_UPDATE_TICKER, error=repr(exc))
            return None
        self._cb.stats.ticker_frames += 1
        return push

    def handle_push(self, conn_id: int, proto_id: int, serial_no: int, rsp_pb: Any, err: Any, msg: str) -> None:
        """Pushes that came the SDK's way: notices always, tickers when the connection is encrypted."""
        if err is not PacketErr.Ok or rsp_pb is None:
            self._cb.stats.undecodable_frames += 1
            self._wire_log.log(logging.ERROR, "futu_frame_undecodable", proto=proto_id, error=msg)
        elif proto_id == _UPDATE_TICKER:
            self._cb.stats.ticker_frames += 1
            self._hand_over([rsp_pb])
        elif proto_id == ProtoId.Notify:
            self._cb.notify(rsp_pb)


class Connection:
    """One connection to OpenD, used from one asyncio loop. Create, ``open()``, use, ``close()``; never reopened.

    ``on_push`` gets decoded ``Qot_UpdateTicker.Response`` messages on the SDK's network thread, a burst at a time.
    ``on_notice`` is called on the loop. ``lost`` is done, with the reason, when the connection is gone.
    """

    def __init__(self, host: str, port: int, on_push: PushCallback, on_notice: Callable[[Notice], None]) -> None:
        self._host = host
        self._port = port
        self._on_push = on_push
        self._on_notice = on_notice
        self._loop = asyncio.get_running_loop()
        self._connected: asyncio.Future[None] = self._loop.create_future()
        self.lost: asyncio.Future[str] = self._loop.create_future()
        self.stats = WireStats()
        self._context: _Context | None = None
        self._closing = threading.Event()

    async def open(self, timeout_sec: float) -> None:
        """TCP connect and InitConnect. Raises ``FeedTimeout``, ``FeedLost`` or ``FeedError`` with OpenD's words."""
        callbacks = _Callbacks(self._push, self._notify, self._report_connected, self._report_lost, self.stats)
        self._context = _Context(self._host, self._port, callbacks)
        self._context.connect_once()
        try:
            await asyncio.wait_for(asyncio.shield(self._connected), timeout_sec)
        except asyncio.TimeoutError:
            raise FeedTimeout(f"no TCP connection to {self._host}:{self._port} in {timeout_sec:g} s") from None
        sysconfig = futu.SysConfig
        init = await self._request(
            InitConnect.pack_req(
                client_ver=int(sysconfig.get_client_ver()),
                client_id=str(sysconfig.get_client_id()),
                recv_notify=True,
                is_encrypt=self._context.is_encrypt(),
                push_proto_fmt=sysconfig.get_proto_fmt(),
            ),
            InitConnect.unpack_rsp,
            timeout_sec,
        )
        self._context.accept_init(init)

    def close(self) -> None:
        """End the connection and its SDK thread; every waiting request ends with ``FeedLost``. Safe to call twice."""
        self._closing.set()
        if self._context is not None:
            self._context.close()
            self._context._pop_all_req_info(PacketErr.Disconnect)
            self._context._close_callback_executor()
        self._finish(self.lost, "closed")

    async def global_state(self, timeout_sec: float) -> GlobalState:
        """Ask whether OpenD is logged in and ready: accepting TCP does not mean that."""
        context = self._ready_context()
        packed = GlobalStateQuery.pack_req(context.get_login_user_id(), context.get_sync_conn_id())
        state = (await self._request(packed, _checked, timeout_sec)).s2c
        return GlobalState(
            qot_logined=state.qotLogined,
            program_status=_PROGRAM_STATUS.get(state.programStatus.type, str(state.programStatus.type)),
            market_hk=_MARKET_STATES.get(state.marketHK, str(state.marketHK)),
            server_version=state.serverVer,
            opend_time_sec=state.time,
        )

    async def subscribe_tickers(self, codes: list[str], timeout_sec: float) -> None:
        """Subscribe ``codes`` for ticker pushes. OpenD refuses the whole request when it refuses one code."""
        packed = SubscriptionQuery.pack_subscribe_req(
            codes, [SubType.TICKER], self._ready_context().get_sync_conn_id(), True, True, False, False
        )
        await self._request(packed, SubscriptionQuery.unpack_subscribe_rsp, timeout_sec)

    async def unsubscribe_tickers(self, codes: list[str], timeout_sec: float) -> None:
        """Give ``codes`` back; OpenD takes it only a minute after they were subscribed."""
        packed = SubscriptionQuery.pack_unsubscribe_req(
            codes, [SubType.TICKER], False, self._ready_context().get_sync_conn_id()
        )
        await self._request(packed, SubscriptionQuery.unpack_unsubscribe_rsp, timeout_sec)

    async def subscriptions(self, timeout_sec: float) -> SubscriptionInfo:
        """What this connection is subscribed to, as OpenD sees it."""
        packed = SubscriptionQuery.pack_subscription_query_req(False, self._ready_context().get_sync_conn_id())
        info = (await self._request(packed, _checked, timeout_sec)).s2c
        ticker_type = Qot_Common_pb2.SubType_Ticker
        codes = frozenset(
            f"HK.{security.code}"
            for conn in info.connSubInfoList
            if conn.isOwnConnData
            for sub in conn.subInfoList
            if sub.subType == ticker_type
            for security in sub.securityList
            if security.market == Qot_Common_pb2.QotMarket_HK_Security
        )
        return SubscriptionInfo(codes, info.remainQuota, info.totalUsedQuota)

    async def recent_ticks(self, code: str, rows: int, timeout_sec: float) -> Any:
        """``Qot_GetTicker.S2C``: the newest ``rows`` (at most 1000) ticks of a subscribed code, oldest first."""
        packed = TickerQuery.pack_req(code, min(rows, GET_TICKER_MAX_ROWS), self._ready_context().get_sync_conn_id())
        return (await self._request(packed, _checked, timeout_sec)).s2c

    async def trading_days(self, start: str, end: str, timeout_sec: float) -> dict[str, str]:
        """``{"20261224": "MORNING", ...}`` from ``start`` to ``end`` (both ``YYYY-MM-DD``), HK market."""
        packed = RequestTradeDayQuery.pack_req(
            futu.TradeDateMarket.HK, self._ready_context().get_sync_conn_id(), start, end
        )
        answer: Qot_RequestTradeDate_pb2.Response = await self._request(packed, _checked, timeout_sec)
        return {
            day.time.replace("-", "")[:8]: _TRADE_DATE_TYPES.get(day.tradeDateType, "WHOLE")
            for day in answer.s2c.tradeDateList
        }

    def _ready_context(self) -> _Context:
        if self._context is None or self.lost.done():
            raise FeedLost
        return self._context

    async def _request(self, packed: tuple[Any, ...], unpack: Callable[[Any], Any], timeout_sec: float) -> Any:
        """Send, wait at most ``timeout_sec``, unpack. Nothing here can wait longer or block the loop."""
        context = self._context
        if context is None or self.lost.done():
            raise FeedLost
        info, key = context.send_request(packed, self._loop)
        try:
            await asyncio.wait_for(info.event.future, timeout_sec)
        except asyncio.TimeoutError:
            context.forget_request(key)
            raise FeedTimeout(f"OpenD did not answer request {packed[3]} in {timeout_sec:g} s") from None
        if info.err is not PacketErr.Ok:
            reason = info.msg or info.err.name
            raise FeedLost(f"connection lost: {reason}") if info.err is PacketErr.Disconnect else FeedError(reason)
        ret, msg, result = unpack(info.rsp)
        if ret != futu.RET_OK:
            raise FeedError(str(msg) or f"OpenD refused request {packed[3]} without a reason")
        return result

    def _push(self, pushes: list[Any]) -> None:
        if not self._closing.is_set():
            self._on_push(pushes)

    def _notify(self, message: Any) -> None:
        notice = read_notice(message)
        self._on_loop(lambda: self._on_notice(notice))

    def _report_connected(self, error: str | None) -> None:
        def report() -> None:
            if error is None:
                self._finish(self._connected, None)
            elif not self._connected.done():
                self._connected.set_exception(FeedLost(f"no TCP connection to {self._host}:{self._port}: {error}"))

        self._on_loop(report)

    def _report_lost(self, reason: str) -> None:
        self._on_loop(lambda: self._finish(self.lost, reason))

    def _on_loop(self, call: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(call)
        except RuntimeError:  # the loop has ended: so has everyone who could care
            return

    @staticmethod
    def _finish(future: asyncio.Future[Any], value: object) -> None:
        if not future.done():
            future.set_result(value)


def _checked(response: Any) -> tuple[int, str, Any]:
    """An unpack function that keeps the protobuf: the SDK's own build dicts and DataFrames."""
    return response.retType, response.retMsg, response


def read_notice(message: Any) -> Notice:
    """A ``Notify.Response`` by name, with its payload's fields."""
    body = message.s2c
    kind = _NOTIFY_TYPES.get(body.type, f"Type{body.type}")
    if kind == "GtwEvent":
        event = _GTW_EVENTS.get(body.event.eventType, str(body.event.eventType))
        return Notice(kind, event, {"desc": body.event.desc})
    if kind == "ProgramStatus":
        status = body.programStatus.programStatus
        return Notice(kind, _PROGRAM_STATUS.get(status.type, str(status.type)), {"desc": status.strExtDesc})
    if kind == "ConnStatus":
        status = body.connectStatus
        return Notice(kind, "", {"qot_logined": status.qotLogined, "trd_logined": status.trdLogined})
    if kind == "QotRight":
        right = body.qotRight.hkQotRight
        return Notice(kind, _QOT_RIGHTS.get(right, str(right)), {})
    payload = [value for descriptor, value in body.ListFields() if descriptor.name != "type"]
    fields: dict[str, object] = {d.name: value for part in payload for d, value in part.ListFields()}
    return Notice(kind, "", fields)
