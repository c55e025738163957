"""One connection to OpenD as the loop has it: opened once, asked, closed for good."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Sequence
from typing import Any

import futu
from futu.common.constant import SubType
from futu.common.open_context_base import PacketErr
from futu.common.pb import Common_pb2, Notify_pb2, Qot_Common_pb2
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

from hk_tick_collector.core.errors import FeedError, FeedLost, FeedTimeout
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
from hk_tick_collector.sources.futu.frames_in import WireStats
from hk_tick_collector.sources.futu.markets import HK, FutuMarket
from hk_tick_collector.sources.futu.sdk.context import (
    UPDATE_BOOK,
    UPDATE_BROKER,
    BodiesCallback,
    Callbacks,
    Context,
    PushCallback,
)
from hk_tick_collector.sources.futu.spec import LIMITS

RESOLVER_TIMEOUT_SEC = 3.0
HISTORY_PAGE_BARS = 1000


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
        takers = {UPDATE_BOOK: on_books, UPDATE_BROKER: on_brokers}
        self._kept = {proto_id: self._while_open(take) for proto_id, take in takers.items() if take is not None}
        self._host = host
        self._port = port
        self._on_push = on_push
        self._on_notice = on_notice
        self._loop = asyncio.get_running_loop()
        self._connected: asyncio.Future[None] = self._loop.create_future()
        self.lost: asyncio.Future[str] = self._loop.create_future()
        self.stats = WireStats()
        self._context: Context | None = None
        self._closing = threading.Event()

    async def open(self, timeout_sec: float) -> None:
        """TCP connect and InitConnect. Raises ``FeedTimeout``, ``FeedLost`` or ``FeedError`` with OpenD's words."""
        callbacks = Callbacks(
            self._push, self._notify, self._report_connected, self._report_lost, self.stats, self._kept
        )
        self._context = Context(self._host, self._port, callbacks)
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
        state = await self._ask(packed, timeout_sec)
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
        return _of_code(code, await self._ask(packed, timeout_sec), "a book")

    async def subscribe_brokers(self, codes: list[str], timeout_sec: float) -> None:
        """Have the broker queues of ``codes`` pushed; another subscription of each. As ``subscribe_books``."""
        await self._subscribe(codes, SubType.BROKER, timeout_sec, push=True)

    async def unsubscribe_brokers(self, codes: list[str], timeout_sec: float) -> None:
        """As ``unsubscribe_tickers``."""
        await self._unsubscribe(codes, SubType.BROKER, timeout_sec)

    async def broker_queue(self, code: str, timeout_sec: float) -> Any:
        """``Qot_GetBroker.S2C``: the newest queue of a subscribed code. ``FeedError`` for an answer about another."""
        packed = BrokerQueueQuery.pack_req(code, self._ready_context().get_sync_conn_id())
        return _of_code(code, await self._ask(packed, timeout_sec), "the queue")

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
        info = await self._ask(packed, timeout_sec)
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
        return _of_code(code, await self._ask(packed, timeout_sec), "ticks")

    async def trading_days(self, start: str, end: str, timeout_sec: float) -> dict[str, str]:
        """``{"20261224": "MORNING", ...}`` from ``start`` to ``end`` (both ``YYYY-MM-DD``)."""
        dates = getattr(futu.TradeDateMarket, self.market.trade_dates)
        packed = RequestTradeDayQuery.pack_req(dates, self._ready_context().get_sync_conn_id(), start, end)
        answer = await self._ask(packed, timeout_sec)
        return {
            day.time.replace("-", "")[:8]: _TRADE_DATE_TYPES.get(day.tradeDateType, "WHOLE")
            for day in answer.tradeDateList
        }

    async def user_info(self, timeout_sec: float) -> UserInfo:
        """The account's quote rights for the market, and its quotas."""
        packed = GetUserInfo.pack_req(None, self._ready_context().get_sync_conn_id())
        info = await self._ask(packed, timeout_sec)
        return answers.read_user_info(info, NAMES, self.market)

    async def static_info(self, codes: Sequence[str], timeout_sec: float) -> dict[str, SymbolInfo]:
        """Static data of ``codes``; those that OpenD does not know are absent or marked as delisted."""
        # The codes say which market; the word is for who asks without any.
        packed = StockBasicInfoQuery.pack_req("", self._ready_context().get_sync_conn_id(), "STOCK", list(codes))
        return answers.read_static_info(await self._ask(packed, timeout_sec), NAMES, self.market)

    async def listed(self, place: str, kind: str, timeout_sec: float) -> dict[str, SymbolInfo]:
        """Static data of every code of a kind (``futu.SecurityType``) in one place (``HK``, ``US``, ``SH``)."""
        packed = StockBasicInfoQuery.pack_req(place, self._ready_context().get_sync_conn_id(), kind)
        return answers.read_static_info(await self._ask(packed, timeout_sec), NAMES, self.market)

    async def of_plate(self, code: str, timeout_sec: float) -> dict[str, SymbolInfo]:
        """Static data of the members of a plate or an index (``HK.800000``)."""
        packed = PlateStockQuery.pack_req(code, futu.SortField.CODE, True, self._ready_context().get_sync_conn_id())
        return answers.read_static_info(await self._ask(packed, timeout_sec), NAMES, self.market)

    async def of_watchlist(self, name: str, timeout_sec: float) -> dict[str, SymbolInfo]:
        """Static data of what is in a group of the account's watch lists."""
        packed = GetUserSecurityQuery.pack_req(name, self._ready_context().get_sync_conn_id())
        return answers.read_static_info(await self._ask(packed, timeout_sec), NAMES, self.market)

    async def snapshots(self, codes: Sequence[str], timeout_sec: float) -> dict[str, Snapshot]:
        """The day so far of ``codes``, at most 400; needs no subscription. OpenD refuses all for one unknown code."""
        packed = MarketSnapshotQuery.pack_req(list(codes), self._ready_context().get_sync_conn_id())
        return answers.read_snapshots(await self._ask(packed, timeout_sec), self.market)

    async def minute_bars(self, code: str, day: str, timeout_sec: float, page_key: bytes | None = None) -> MinuteBars:
        """One-minute K-lines of ``day`` (``YYYY-MM-DD``), prices not adjusted, a page of at most 1000."""
        session = getattr(futu.Session, self.market.session)
        extended = session != futu.Session.NONE
        packed = RequestHistoryKlineQuery.pack_req(
            code, day, day, futu.KLType.K_1M, futu.AuType.NONE, [futu.KL_FIELD.ALL], HISTORY_PAGE_BARS,
            self._ready_context().get_sync_conn_id(), page_key, extended, session,
        )  # fmt: skip
        return answers.read_minute_bars(await self._ask(packed, timeout_sec))

    def _ready_context(self) -> Context:
        if self._context is None or self.lost.done():
            raise FeedLost
        return self._context

    async def _ask(self, packed: tuple[Any, ...], timeout_sec: float) -> Any:
        """The ``S2C`` message of the answer."""
        return (await self._request(packed, _checked, timeout_sec)).s2c

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


def _of_code(code: str, answer: Any, noun: str) -> Any:
    """The answer, if it is about the code that was asked for."""
    if answer.security.code != code.partition(".")[2]:
        raise FeedError(f"OpenD answered a request for {code} with {noun} of {cut(ascii(answer.security.code))}")
    return answer


def _checked(response: Any) -> tuple[int, str, Any]:
    """An unpack function that keeps the protobuf: the SDK's own build dicts and DataFrames."""
    return response.retType, response.retMsg, response
