"""The SDK's context of one connection, with what of it loses data or hangs replaced: what the network thread runs."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import futu
from futu.common.constant import ProtoId
from futu.common.network_manager import CloseReason, ConnectErr
from futu.common.open_context_base import PacketErr, ReqInfo
from futu.common.pb import Qot_Common_pb2, Qot_UpdateTicker_pb2
from futu.common.utils import ProtoInfo

from hk_tick_collector.core.errors import FeedError, FeedLost, RequestNotBuilt
from hk_tick_collector.core.logline import RateLimitedLog, event
from hk_tick_collector.core.text import cut
from hk_tick_collector.sources.futu.frames_in import FrameCutter, WireStats

log = logging.getLogger(__name__)

TCP_CONNECT_TIMEOUT_SEC = 10

UPDATE_TICKER = ProtoId.Qot_UpdateTicker
UPDATE_BOOK = ProtoId.Qot_UpdateOrderBook
UPDATE_BROKER = ProtoId.Qot_UpdateBroker
decode_security = Qot_Common_pb2.Security.FromString

PushCallback = Callable[[list[Any]], None]
BodiesCallback = Callable[[list[bytes]], None]
NotifyCallback = Callable[[Any], None]
LostCallback = Callable[[str], None]


@dataclass(slots=True)
class Callbacks:
    """Where the network thread hands things over; each must return at once."""

    push: PushCallback
    notify: NotifyCallback
    connected: Callable[[str | None], None]
    lost: LostCallback
    stats: WireStats = field(default_factory=WireStats)
    kept: Mapping[int, BodiesCallback] = field(default_factory=dict)  # by proto


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


class Context(futu.OpenQuoteContext):  # type: ignore[misc]
    """An SDK context for one connection. Methods below ``connect_once`` run on the SDK's network thread."""

    def __init__(self, host: str, port: int, callbacks: Callbacks) -> None:
        self._cb = callbacks
        decode = Qot_UpdateTicker_pb2.Response.FromString
        self._cutter = FrameCutter(UPDATE_TICKER, decode, self._the_sdks_way, callbacks.stats, callbacks.kept)
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
            raise RequestNotBuilt(f"request {packed[3]} could not be put together: {cut(str(packed[1]))}")
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
            self._last_recv_time = time.time()  # the SDK closes a connection that has been silent for 33 s
            self._cutter.cut(data, pushes, encrypted=self.is_encrypt())
        except Exception as exc:  # noqa: BLE001 (edge: an exception here would end all pushes, point 4)
            self._fail("futu_frame_error", exc)
        if pushes:
            self._hand_over(pushes)
        if self._cutter.kept:
            kept, self._cutter.kept = self._cutter.kept, {}
            for proto_id, bodies in kept.items():
                self._hand_over_kept(proto_id, bodies)

    def _the_sdks_way(self, frame: bytes) -> None:
        super().on_recv(self._conn_id, frame)

    def _hand_over(self, pushes: list[Any]) -> None:
        try:
            self._cb.push(pushes)
        except Exception as exc:  # noqa: BLE001 (edge: as above)
            self._fail("futu_push_error", exc)

    def _hand_over_kept(self, proto_id: int, bodies: list[bytes]) -> None:
        """What is wrong with a book or a queue is no reason to end a connection that brings ticks."""
        try:
            self._cb.kept[proto_id](bodies)
        except Exception:  # noqa: BLE001 (edge: as above)
            self._cb.stats.callback_errors += 1
            self._wire_log.log(logging.ERROR, "futu_book_error", exc_info=True)

    def _fail(self, word: str, exc: Exception) -> None:
        """Nothing that follows on this connection can be trusted: drop it, the session reconnects and backfills."""
        self._broken = True
        self._cb.stats.callback_errors += 1
        log.error(event(word, error=str(exc), action="reconnecting"), exc_info=not isinstance(exc, FeedError))
        self.close(reason=CloseReason.ReadFail)

    def handle_push(self, conn_id: int, proto_id: int, serial_no: int, rsp_pb: Any, err: Any, msg: str) -> None:
        """Pushes that came the SDK's way: notices always, tickers when the connection is encrypted."""
        if err is not PacketErr.Ok or rsp_pb is None:
            self._cb.stats.undecodable_frames += 1
            self._wire_log.log(logging.ERROR, "futu_frame_undecodable", proto=proto_id, error=msg)
        elif proto_id == UPDATE_TICKER:
            self._cb.stats.ticker_frames += 1
            self._hand_over([rsp_pb])
        elif proto_id in self._cb.kept:
            self._cb.stats.book_frames += 1
            self._hand_over_kept(proto_id, [rsp_pb.SerializeToString()])
        elif proto_id == ProtoId.Notify:
            self._cb.notify(rsp_pb)
