"""The one door to the futu-api SDK: a connection that loses nothing, blocks nobody and always ends.

The SDK's ``OpenQuoteContext`` is kept for what it does well (sockets, handshake, encryption, keep-alive, packing of
requests). Around it, ``_Context`` replaces what loses data or hangs in futu-api 10.11, point by point:

1. The constructor's endless retry: connecting is asynchronous and one context serves one connection only.
2. The callback queue that is thrown away on disconnect: ticker pushes are read on the network thread as they arrive.
3. The SDK's own reconnect and its half resubscription: switched off; ``sources.session`` owns reconnecting. A new
   context also means a new receive buffer: the SDK would read the next connection from the middle of a cut frame.
4. The unguarded network thread: nothing of ours raises into it, and ``network_thread_alive`` lets others look.
5. Requests that block for up to 20 s, or for ever on a closed context: every request is an awaitable with a timeout,
   ended at once when the connection goes.
6. The DEBUG log file of every push: set to WARNING.
7. ``import futu`` without a usable HOME: a private directory stands in while it lasts, and the SDK logs to no file.
8. The DataFrame of every push: the protobuf is handed on as it is.
9. Notify payloads that the SDK's handler drops: the protobuf is handed on as it is.

Bytes that are no frames (``frames_in``) end the connection; the next one backfills. The names of the SDK's internals
used here are held by a test, and futu-api is pinned to one minor. What the answers hold is described in ``answers``,
how to ask for much within OpenD's limits in ``reference``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hk_tick_collector.core.errors import ConfigError, FeedError, FeedLost, FeedTimeout, RequestNotBuilt
from hk_tick_collector.core.logline import RateLimitedLog, event
from hk_tick_collector.core.text import cut
from hk_tick_collector.sources.futu import answers
from hk_tick_collector.sources.futu.answers import (
    GlobalState,
    MinuteBars,
    Notice,
    Snapshot,
    SubscriptionInfo,
    SymbolInfo,
    UserInfo,
)
from hk_tick_collector.sources.futu.frames_in import FrameCutter, WireStats
from hk_tick_collector.sources.futu.later import import_ciphers, imported_later
from hk_tick_collector.sources.futu.markets import HK, FutuMarket
from hk_tick_collector.sources.futu.no_home import lent_home
from hk_tick_collector.sources.futu.spec import LIMITS

__all__ = [
    "Connection",
    "GlobalState",
    "Notice",
    "SubscriptionInfo",
    "configure",
    "network_thread_alive",
    "replace_dead_network_thread",
]

with lent_home() as home_is_lent, imported_later():
    import futu
    from futu.common.constant import DEFAULT_INIT_PRI_KEY_FILE, ProtoId, SubType
    from futu.common.ft_logger import logger as _sdk_logger
    from futu.common.network_manager import CloseReason, ConnectErr, NetManager
    from futu.common.open_context_base import PacketErr, ReqInfo
    from futu.common.pb import (
        Common_pb2,
        Notify_pb2,
        Qot_Common_pb2,
        Qot_RequestTradeDate_pb2,
        Qot_UpdateBroker_pb2,
        Qot_UpdateOrderBook_pb2,
        Qot_UpdateTicker_pb2,
    )
    from futu.common.utils import ProtoInfo
    from futu.quote.quote_query import (
        BrokerQueueQuery,
        GetUserInfo,
        GetUserSecurityQuery,
        GlobalStateQuery,
        InitConnect,
        MarketSnapshotQuery,
        OrderBookQuery,
        PlateStockQuery,
        RequestHistoryKlineQuery,
        RequestTradeDayQuery,
        StockBasicInfoQuery,
        SubscriptionQuery,
        TickerQuery,
    )

    if home_is_lent:  # left open, the file's rotation after a day would look for a directory that is gone
        _sdk_logger.file_logger.removeHandler(_sdk_logger.fileHandler)
        _sdk_logger.fileHandler.close()
        _sdk_logger.file_logger.addHandler(logging.NullHandler())  # with no handler at all warnings would go to stderr

log = logging.getLogger(__name__)

TCP_CONNECT_TIMEOUT_SEC = 10
RESOLVER_TIMEOUT_SEC = 3.0
HISTORY_PAGE_BARS = 1000

_UPDATE_TICKER = ProtoId.Qot_UpdateTicker
_UPDATE_BOOK = ProtoId.Qot_UpdateOrderBook
_UPDATE_BROKER = ProtoId.Qot_UpdateBroker
decode_book = Qot_UpdateOrderBook_pb2.Response.FromString
decode_brokers = Qot_UpdateBroker_pb2.Response.FromString
decode_security = Qot_Common_pb2.Security.FromString

PushCallback = Callable[[list[Any]], None]
BodiesCallback = Callable[[list[bytes]], None]
NotifyCallback = Callable[[Any], None]
LostCallback = Callable[[str], None]


def _names(enum: Any) -> dict[int, str]:
    """The names of a protobuf enum, without its own in front."""
    return {number: name.partition("_")[2] for name, number in enum.items()}


NAMES = answers.EnumNames(
    gtw_events=_names(Notify_pb2.GtwEventType),
    notify_types=_names(Notify_pb2.NotifyType),
    program_status=_names(Common_pb2.ProgramStatusType),
    qot_rights=_names(Qot_Common_pb2.QotRight),
    market_states=_names(Qot_Common_pb2.QotMarketState),
    security_types=_names(Qot_Common_pb2.SecurityType),
)
_TRADE_DATE_TYPES = {0: "WHOLE", 1: "MORNING", 2: "AFTERNOON"}


def configure(rsa_key_file: Path | None = None) -> None:
    """Process-wide settings of the SDK: quiet logs, daemon threads, encryption when a private key is given."""
    time.strptime("2026", "%Y")  # the SDK's first request for days would load what this needs, on the loop
    _sdk_logger.file_level = logging.WARNING
    _sdk_logger.console_level = logging.CRITICAL
    futu.SysConfig.enable_console_log(False)
    futu.SysConfig.set_all_thread_daemon(True)
    futu.SysConfig.set_client_info("hk-tick-collector", 1)
    if rsa_key_file is not None:
        _refuse_public_key(rsa_key_file)
        import_ciphers()
        futu.SysConfig.set_init_rsa_file(str(rsa_key_file))
        futu.SysConfig.enable_proto_encrypt(True)


def file_log() -> tuple[Path | None, int]:
    """Where the SDK's log files lie, None when it writes none for want of a HOME, and the least severe level (a number
    of ``logging``) that it writes there."""
    is_open = _sdk_logger.fileHandler in _sdk_logger.file_logger.handlers
    return Path(_sdk_logger.log_path) if is_open else None, _sdk_logger.file_level


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


@dataclass(slots=True)
class _Callbacks:
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


class _Context(futu.OpenQuoteContext):  # type: ignore[misc]
    """An SDK context for one connection. Methods below ``connect_once`` run on the SDK's network thread."""

    def __init__(self, host: str, port: int, callbacks: _Callbacks) -> None:
        self._cb = callbacks
        decode = Qot_UpdateTicker_pb2.Response.FromString
        self._cutter = FrameCutter(_UPDATE_TICKER, decode, self._the_sdks_way, callbacks.stats, callbacks.kept)
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
        elif proto_id == _UPDATE_TICKER:
            self._cb.stats.ticker_frames += 1
            self._hand_over([rsp_pb])
        elif proto_id in self._cb.kept:
            self._cb.stats.book_frames += 1
            self._hand_over_kept(proto_id, [rsp_pb.SerializeToString()])
        elif proto_id == ProtoId.Notify:
            self._cb.notify(rsp_pb)


class Connection:
    """One connection to OpenD, used from one asyncio loop, for one market. Create, ``open()``, use, ``close()``; never
    reopened.

    ``on_push`` gets decoded ``Qot_UpdateTicker.Response`` messages on the SDK's network thread, a burst at a time.
    ``on_books``, if given, gets ``Qot_UpdateOrderBook.Response`` messages as bytes (``decode_book``), a burst at a time
    on the same thread, after the ticks of the burst; ``on_brokers`` likewise ``Qot_UpdateBroker.Response``.
    ``on_notice`` is called on the loop. ``lost`` is done, with the reason, when the connection is gone.
    """

    def __init__(
        self,
        host: str,
        port: int,
        on_push: PushCallback,
        on_notice: Callable[[Notice], None],
        market: FutuMarket = HK,
        on_books: BodiesCallback | None = None,
        on_brokers: BodiesCallback | None = None,
    ) -> None:
        self.market = market
        takers = {_UPDATE_BOOK: on_books, _UPDATE_BROKER: on_brokers}
        self._kept = {proto_id: self._while_open(take) for proto_id, take in takers.items() if take is not None}
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
        callbacks = _Callbacks(
            self._push, self._notify, self._report_connected, self._report_lost, self.stats, self._kept
        )
        self._context = _Context(self._host, self._port, callbacks)
        self._context.connect_once()
        try:
            async with asyncio.timeout(timeout_sec):
                await asyncio.shield(self._connected)
        except TimeoutError:
            words = await _resolver_words(self._host)
            why = f"; the host is not known: {words}" if words else ""
            raise FeedTimeout(f"no TCP connection to {self._host}:{self._port} in {timeout_sec:g} s{why}") from None
        try:
            await self._init_connect(timeout_sec)
        except FeedLost as exc:
            if not self._context.is_encrypt():
                raise
            raise FeedLost(f"{exc}, at the first encrypted request: is the key OpenD's rsa_private_key?") from exc

    async def _init_connect(self, timeout_sec: float) -> None:
        context = self._context
        assert context is not None
        sysconfig = futu.SysConfig
        init = await self._request(
            InitConnect.pack_req(
                client_ver=int(sysconfig.get_client_ver()),
                client_id=str(sysconfig.get_client_id()),
                recv_notify=True,
                is_encrypt=context.is_encrypt(),
                push_proto_fmt=sysconfig.get_proto_fmt(),
            ),
            InitConnect.unpack_rsp,
            timeout_sec,
        )
        context.accept_init(init)

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
        return answers.read_global_state(state, NAMES, self.market)

    async def subscribe_tickers(self, codes: list[str], timeout_sec: float, *, push: bool = True) -> None:
        """Subscribe ``codes``, for ticker pushes too unless ``push`` is False: asking for ticks needs a subscription
        of this connection as well. OpenD refuses the whole request when it refuses one code."""
        await self._subscribe(codes, SubType.TICKER, timeout_sec, push=push)

    async def unsubscribe_tickers(self, codes: list[str], timeout_sec: float) -> None:
        """Give ``codes`` back; OpenD takes it only a minute after they were subscribed."""
        await self._unsubscribe(codes, SubType.TICKER, timeout_sec)

    async def subscribe_books(self, codes: list[str], timeout_sec: float) -> None:
        """Have the order books of ``codes`` pushed, as deep as the account's right shows; another subscription of each.
        OpenD refuses the whole request when it refuses one code."""
        await self._subscribe(codes, SubType.ORDER_BOOK, timeout_sec, push=True)

    async def unsubscribe_books(self, codes: list[str], timeout_sec: float) -> None:
        """As ``unsubscribe_tickers``."""
        await self._unsubscribe(codes, SubType.ORDER_BOOK, timeout_sec)

    async def order_book(self, code: str, levels: int, timeout_sec: float) -> Any:
        """``Qot_GetOrderBook.S2C``: the newest book of a subscribed code. ``FeedError`` for an answer about another."""
        packed = OrderBookQuery.pack_req(code, levels, self._ready_context().get_sync_conn_id())
        answer = (await self._request(packed, _checked, timeout_sec)).s2c
        if answer.security.code != code.partition(".")[2]:
            raise FeedError(f"OpenD answered a request for {code} with a book of {cut(ascii(answer.security.code))}")
        return answer

    async def subscribe_brokers(self, codes: list[str], timeout_sec: float) -> None:
        """Have the broker queues of ``codes`` pushed; another subscription of each. As ``subscribe_books``."""
        await self._subscribe(codes, SubType.BROKER, timeout_sec, push=True)

    async def unsubscribe_brokers(self, codes: list[str], timeout_sec: float) -> None:
        """As ``unsubscribe_tickers``."""
        await self._unsubscribe(codes, SubType.BROKER, timeout_sec)

    async def broker_queue(self, code: str, timeout_sec: float) -> Any:
        """``Qot_GetBroker.S2C``: the newest queue of a subscribed code. ``FeedError`` for an answer about another."""
        packed = BrokerQueueQuery.pack_req(code, self._ready_context().get_sync_conn_id())
        answer = (await self._request(packed, _checked, timeout_sec)).s2c
        if answer.security.code != code.partition(".")[2]:
            raise FeedError(f"OpenD answered a request for {code} with the queue of {cut(ascii(answer.security.code))}")
        return answer

    async def _subscribe(self, codes: list[str], sub_type: str, timeout_sec: float, *, push: bool) -> None:
        session = getattr(futu.Session, self.market.session)
        extended = session != futu.Session.NONE
        packed = SubscriptionQuery.pack_subscribe_req(
            codes, [sub_type], self._ready_context().get_sync_conn_id(), push, push, False, extended, session
        )
        await self._request(packed, SubscriptionQuery.unpack_subscribe_rsp, timeout_sec)

    async def _unsubscribe(self, codes: list[str], sub_type: str, timeout_sec: float) -> None:
        packed = SubscriptionQuery.pack_unsubscribe_req(
            codes, [sub_type], False, self._ready_context().get_sync_conn_id()
        )
        await self._request(packed, SubscriptionQuery.unpack_unsubscribe_rsp, timeout_sec)

    async def subscriptions(self, timeout_sec: float, *, all_connections: bool = False) -> SubscriptionInfo:
        """What this connection is subscribed to, or all that OpenD has, as OpenD sees it."""
        packed = SubscriptionQuery.pack_subscription_query_req(
            all_connections, self._ready_context().get_sync_conn_id()
        )
        info = (await self._request(packed, _checked, timeout_sec)).s2c
        return answers.read_subscriptions(
            info,
            Qot_Common_pb2.SubType_Ticker,
            self.market,
            only_own=not all_connections,
            book_type=Qot_Common_pb2.SubType_OrderBook,
            broker_type=Qot_Common_pb2.SubType_Broker,
        )

    async def recent_ticks(self, code: str, rows: int, timeout_sec: float) -> Any:
        """``Qot_GetTicker.S2C``: the newest ``rows`` (at most 1000) ticks of a subscribed code, oldest first.
        ``FeedError`` for an answer about another code."""
        packed = TickerQuery.pack_req(code, min(rows, LIMITS.newest_rows), self._ready_context().get_sync_conn_id())
        answer = (await self._request(packed, _checked, timeout_sec)).s2c
        if answer.security.code != code.partition(".")[2]:
            raise FeedError(f"OpenD answered a request for {code} with ticks of {cut(ascii(answer.security.code))}")
        return answer

    async def trading_days(self, start: str, end: str, timeout_sec: float) -> dict[str, str]:
        """``{"20261224": "MORNING", ...}`` from ``start`` to ``end`` (both ``YYYY-MM-DD``)."""
        dates = getattr(futu.TradeDateMarket, self.market.trade_dates)
        packed = RequestTradeDayQuery.pack_req(dates, self._ready_context().get_sync_conn_id(), start, end)
        answer: Qot_RequestTradeDate_pb2.Response = await self._request(packed, _checked, timeout_sec)
        return {
            day.time.replace("-", "")[:8]: _TRADE_DATE_TYPES.get(day.tradeDateType, "WHOLE")
            for day in answer.s2c.tradeDateList
        }

    async def user_info(self, timeout_sec: float) -> UserInfo:
        """The account's quote rights for the market, and its quotas."""
        packed = GetUserInfo.pack_req(None, self._ready_context().get_sync_conn_id())
        info = (await self._request(packed, _checked, timeout_sec)).s2c
        return answers.read_user_info(info, NAMES, self.market)

    async def static_info(self, codes: Sequence[str], timeout_sec: float) -> dict[str, SymbolInfo]:
        """Static data of ``codes``; those that OpenD does not know are absent or marked as delisted."""
        # The codes say which market; the word is for who asks without any.
        packed = StockBasicInfoQuery.pack_req("", self._ready_context().get_sync_conn_id(), "STOCK", list(codes))
        answer = (await self._request(packed, _checked, timeout_sec)).s2c
        return answers.read_static_info(answer, NAMES, self.market)

    async def listed(self, place: str, kind: str, timeout_sec: float) -> dict[str, SymbolInfo]:
        """Static data of every code of a kind (``futu.SecurityType``) in one place (``HK``, ``US``, ``SH``)."""
        packed = StockBasicInfoQuery.pack_req(place, self._ready_context().get_sync_conn_id(), kind)
        answer = (await self._request(packed, _checked, timeout_sec)).s2c
        return answers.read_static_info(answer, NAMES, self.market)

    async def of_plate(self, code: str, timeout_sec: float) -> dict[str, SymbolInfo]:
        """Static data of the members of a plate or an index (``HK.800000``)."""
        packed = PlateStockQuery.pack_req(code, futu.SortField.CODE, True, self._ready_context().get_sync_conn_id())
        answer = (await self._request(packed, _checked, timeout_sec)).s2c
        return answers.read_static_info(answer, NAMES, self.market)

    async def of_watchlist(self, name: str, timeout_sec: float) -> dict[str, SymbolInfo]:
        """Static data of what is in a group of the account's watch lists."""
        packed = GetUserSecurityQuery.pack_req(name, self._ready_context().get_sync_conn_id())
        answer = (await self._request(packed, _checked, timeout_sec)).s2c
        return answers.read_static_info(answer, NAMES, self.market)

    async def snapshots(self, codes: Sequence[str], timeout_sec: float) -> dict[str, Snapshot]:
        """The day so far of ``codes``, at most 400; needs no subscription. OpenD refuses all for one unknown code."""
        packed = MarketSnapshotQuery.pack_req(list(codes), self._ready_context().get_sync_conn_id())
        return answers.read_snapshots((await self._request(packed, _checked, timeout_sec)).s2c, self.market)

    async def minute_bars(self, code: str, day: str, timeout_sec: float, page_key: bytes | None = None) -> MinuteBars:
        """One-minute K-lines of ``day`` (``YYYY-MM-DD``), prices not adjusted, a page of at most 1000."""
        session = getattr(futu.Session, self.market.session)
        extended = session != futu.Session.NONE
        packed = RequestHistoryKlineQuery.pack_req(
            code, day, day, futu.KLType.K_1M, futu.AuType.NONE, [futu.KL_FIELD.ALL], HISTORY_PAGE_BARS,
            self._ready_context().get_sync_conn_id(), page_key, extended, session,
        )  # fmt: skip
        return answers.read_minute_bars((await self._request(packed, _checked, timeout_sec)).s2c)

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
            async with asyncio.timeout(timeout_sec):
                await info.event.future
        except TimeoutError:
            context.forget_request(key)
            raise FeedTimeout(f"OpenD did not answer request {packed[3]} in {timeout_sec:g} s") from None
        if info.err is not PacketErr.Ok:
            reason = info.msg or info.err.name
            raise FeedLost(f"connection lost: {reason}") if info.err is PacketErr.Disconnect else FeedError(reason)
        ret, msg, result = unpack(info.rsp)
        if ret != futu.RET_OK:
            raise FeedError(cut(str(msg)) or f"OpenD refused request {packed[3]} without a reason")
        return result

    def _push(self, pushes: list[Any]) -> None:
        if not self._closing.is_set():
            self._on_push(pushes)

    def _while_open(self, take: BodiesCallback) -> BodiesCallback:
        def taken(bodies: list[bytes]) -> None:
            if not self._closing.is_set():
                take(bodies)

        return taken

    def _notify(self, message: Any) -> None:
        notice = answers.read_notice(message, NAMES, self.market)
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


async def _resolver_words(host: str) -> str | None:
    """Why ``host`` has no address, as the resolver says; None when it has one, or the resolver does not answer soon.

    In a daemon thread: a resolver that hangs must not hold up the end of the process, as the loop's own threads would.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[str | None] = loop.create_future()

    def ask() -> None:
        words = None
        try:
            socket.getaddrinfo(host, None, socket.AF_INET)
        except OSError as exc:
            words = exc.strerror or str(exc)
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(Connection._finish, answer, words)

    threading.Thread(target=ask, name="resolver", daemon=True).start()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(RESOLVER_TIMEOUT_SEC):
            return await answer
    return None


def _checked(response: Any) -> tuple[int, str, Any]:
    """An unpack function that keeps the protobuf: the SDK's own build dicts and DataFrames."""
    return response.retType, response.retMsg, response
