"""``create_app``: the live channel as an ASGI application.

- ``/v1/live``: WebSocket, subprotocol ``hk-ticks.v1``. Who has no key in a header sends a ticket in the address, or the
  key in its first message.
- ``/v1/live/events``: server-sent events; ``id`` is the cursor, so ``Last-Event-ID`` goes on without a hole.
- ``POST /v1/live/ticket``: a ticket for one connection, for browsers, which can send no header.

Nothing waits for a reader: each connection is a task that makes a message when the one before was taken. A key that is
revoked ends its connections within seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import signal
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import orjson
from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from hk_tick_collector.core.logline import event
from hk_tick_collector.serve.auth import Gate, Guard, address_of, bearer_of, header, request_id_of
from hk_tick_collector.serve.keys import ANONYMOUS, Key, KeyRing
from hk_tick_collector.serve.live.counts import LiveCounts
from hk_tick_collector.serve.live.hub import Hub, News, Readers
from hk_tick_collector.serve.live.outlet import Frames, Outlet
from hk_tick_collector.serve.live.question import KINDS, Subscription, subscription
from hk_tick_collector.serve.live.session import Session, SlowReader
from hk_tick_collector.serve.live.signals import Signals
from hk_tick_collector.serve.names import NameTwice, check_names
from hk_tick_collector.serve.problems import Problem, problem_of, send_problem
from hk_tick_collector.serve.settings import ServeSettings
from hk_tick_collector.store.data_root import by_market
from hk_tick_collector.store.layout import BOOKS, BROKERS, SNAPSHOTS, TICKS

if TYPE_CHECKING:
    from hk_tick_collector.serve.live.metrics import LiveMetrics

SUBPROTOCOL = "hk-ticks.v1"
MAX_CONNECTIONS = 500
PACE_SEC = ((20, 0.01), (100, 0.025), (MAX_CONNECTIONS, 0.05))  # up to so many readers, so long between two messages
AUTH_SEC = 5.0
SUBSCRIBE_SEC = 10.0
TICKET_SEC = 30.0
MAX_TICKETS = 10_000
KEYS_LOOK_SEC = 0.5
MESSAGES_PER_SEC = 20
CLOSE_REFUSED, CLOSE_SLOW, CLOSE_RESTART, CLOSE_GONE = 4003, 4008, 1012, 4010
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
BYE_SEC = 2.0
MAX_REASON_BYTES = 123  # of a close; half a cursor would be of no use

_log = logging.getLogger(__name__)


class Live:
    """What all connections share."""

    def __init__(self, settings: ServeSettings) -> None:
        self.keys = KeyRing.open(settings.api_keys_file)
        self.gate = Gate(settings, self.keys)
        self.news = News(self.pace_sec)
        self.hubs = [
            Hub(
                settings.roots[first][0], self.news, settings.roots[first][1],
                beside=[settings.roots[n] for n in others], numbers=(first, *others),
            )
            for first, *others in by_market([root for root, _ in settings.roots])
        ]  # fmt: skip
        self.resting_hubs = {
            kind: [Hub(root, self.news, archive, kind=kind) for root, archive in settings.roots]
            for kind in (BOOKS, BROKERS, SNAPSHOTS)
        }
        self.readers = Readers()
        self.signals = None if settings.hooks_dir is None else Signals(settings.hooks_dir, self.news)
        self.counts = LiveCounts()
        self.sessions: set[Session] = set()  # of readers that are connected
        self.stopping = asyncio.Event()
        self.tickets: dict[str, tuple[Key, str | None, float]] = {}
        self.connections: Counter[str] = Counter()
        self.keys_used: WeakValueDictionary[Key, asyncio.Event] = WeakValueDictionary()  # set: good no more

    def pace_sec(self) -> float:
        """Between two messages of a reader, with as many readers as there are."""
        return pace_sec_of(self.connections.total())

    def wanted(self, given: Mapping[str, Any], key: Key) -> Subscription:
        """What a reader asks for, checked. Problem."""
        return subscription(given, self.resting_hubs.get(KINDS.get(str(given.get("kind")), TICKS), self.hubs), key)

    @contextlib.contextmanager
    def session(self, wanted: Subscription, key: Key, outlet: Outlet | None = None) -> Iterator[Session]:
        """A reader, for as long as it is connected: one that has gone is counted and shown no more."""
        hubs = self.resting_hubs.get(wanted.kind, self.hubs)
        session = Session(
            wanted, hubs, key, self.news, self.readers, stopping=self.stopping, signals=self.signals,
            counts=self.counts, outlet=outlet,
        )  # fmt: skip
        self.sessions.add(session)
        for hub in hubs:
            hub.enter()
        try:
            yield session
        finally:
            self.sessions.discard(session)
            for hub in hubs:
                hub.leave()

    @cached_property
    def metrics(self) -> LiveMetrics:
        """For Prometheus, whose library is loaded when it first asks."""
        from hk_tick_collector.serve.live.metrics import LiveMetrics  # noqa: PLC0415

        return LiveMetrics(self.counts, self.hubs, self.sessions)

    @contextlib.contextmanager
    def connected(self, key: Key) -> Iterator[None]:
        """A reader more. Problem when the key, or the server, has enough."""
        if self.connections.total() >= MAX_CONNECTIONS:
            raise Problem("overloaded", f"{MAX_CONNECTIONS} readers are connected")
        if self.connections[key.id] >= key.limits.live_connections:
            raise Problem("rate-limited", f"the key {key.id} may have {key.limits.live_connections} live connections")
        self.connections[key.id] += 1
        self.counts.connections += 1
        try:
            yield
        finally:
            self.connections[key.id] -= 1
            self.connections += Counter()  # without those that have none

    # Tickets

    def new_ticket(self, key: Key, origin: str | None) -> str:
        """For one connection of a page of this origin."""
        now_sec = time.monotonic()
        self.tickets = {text: ticket for text, ticket in self.tickets.items() if ticket[2] > now_sec}
        if len(self.tickets) >= MAX_TICKETS:
            raise Problem("overloaded", "too many tickets wait")
        text = secrets.token_urlsafe(32)
        self.tickets[text] = key, origin, now_sec + TICKET_SEC
        return text

    def of_ticket(self, text: str, origin: str | None) -> Key:
        """The key of a ticket, which is used up. Problem when it is none."""
        key, of_origin, until_sec = self.tickets.pop(text, (None, None, 0.0))
        if key is None or until_sec <= time.monotonic() or of_origin != origin or self.keys.current(key) is None:
            raise Problem("unauthorized", "the ticket is not known, was used, or its time is over")
        return key

    async def watch_keys(self) -> None:
        """Read the keys again when they change; end who has none any more."""
        while True:
            await asyncio.sleep(KEYS_LOOK_SEC)
            if await asyncio.to_thread(self.keys.reload):
                _log.info(event("keys_read", keys=len(self.keys.keys)))
            for hub in chain(*self.resting_hubs.values()):
                await hub.rest()
            for key, ended in list(self.keys_used.items()):
                if self.keys.current(key) != key:
                    ended.set()
            self.news.tell()  # so that readers look at the clock: heartbeats, lag

    async def key_ended(self, key: Key) -> None:
        """Returns once the key is good no more, or has other rights than those that were checked."""
        await self.keys_used.setdefault(key, asyncio.Event()).wait()


def pace_sec_of(readers: int) -> float:
    """Between two messages of a reader, with so many readers."""
    return next((pace for most, pace in PACE_SEC if readers <= most), PACE_SEC[-1][1])


def create_app(settings: ServeSettings) -> Starlette:
    """The application. ``app.state.live``: what its connections share."""
    live = Live(settings)
    app = Starlette(
        routes=[
            WebSocketRoute("/v1/live", _socket),
            Route("/v1/live/events", _events),
            Route("/v1/live/ticket", _ticket, methods=["POST"]),
            Route("/v1/live/healthz", _health),
            Route("/v1/live/metrics", _metrics),
            Route("/v1/live/readers", _readers),
        ],
        exception_handlers={Problem: _on_problem, Exception: _on_problem},
        lifespan=_lifespan(live),
    )
    app.state.live = live
    if settings.api_origins:
        app.add_middleware(
            CORSMiddleware, allow_origins=list(settings.api_origins), allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type", "Last-Event-ID"],
        )  # fmt: skip
    app.add_middleware(Guard, settings=settings)
    return app


def _lifespan(live: Live) -> Any:
    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        for hub in live.hubs:
            hub.open()
        watching = [asyncio.create_task(live.watch_keys())]
        if live.signals is not None:
            watching.append(asyncio.create_task(live.signals.watch()))
        with _says_bye(live):
            yield
        live.stopping.set()
        for task in watching:
            task.cancel()
        await live.readers.close()
        for hub in (*live.hubs, *chain(*live.resting_hubs.values())):
            await hub.close()

    return lifespan


@contextlib.contextmanager
def _says_bye(live: Live) -> Iterator[None]:
    """uvicorn closes connections before the application hears of a stop: hear the signal first, and hand it on once
    every reader was told."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    async def stop(number: int) -> None:
        live.stopping.set()
        live.news.tell()
        until_sec = time.monotonic() + BYE_SEC
        while live.connections.total() and time.monotonic() < until_sec:  # noqa: ASYNC110 - for a moment
            await asyncio.sleep(0.02)
        handler = before[signal.Signals(number)]
        if callable(handler):
            handler(number, None)

    def heard(number: int, _frame: object) -> None:
        loop.call_soon_threadsafe(lambda: stops.append(asyncio.ensure_future(stop(number))))

    stops: list[asyncio.Future[None]] = []
    for number in before:
        signal.signal(number, heard)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


async def _on_problem(request: Request, error: Exception) -> Response:
    problem = problem_of(error)
    if problem.slug == "internal":
        _log.error(event("request_fault", request_id=request_id_of(request.scope)), exc_info=error)
    body, headers = problem.message(request.url.path, request_id_of(request.scope))
    response = Response(body, problem.kind.status)
    response.raw_headers = headers
    return response


async def _health(request: Request) -> Response:
    live: Live = request.app.state.live
    is_ready = all(hub.ring is not None for hub in live.hubs)
    return JSONResponse({"status": "ok" if is_ready else "starting"}, 200 if is_ready else 503)


async def _metrics(request: Request) -> Response:
    live: Live = request.app.state.live
    live.gate.admit_request(request.scope, "read")
    return Response(live.metrics.text(), headers={"cache-control": "no-store"}, media_type=METRICS_TYPE)


async def _readers(request: Request) -> Response:
    """Who is connected, and how far behind: all for the scope ``admin`` and where anybody on the machine may read, else
    those of the key that asks."""
    live: Live = request.app.state.live
    key, _ = live.gate.admit_request(request.scope, "read")
    sees_all = key.may("admin") or key is ANONYMOUS
    connections = [session.as_seen() for session in list(live.sessions) if sees_all or session.is_of(key)]
    connections.sort(key=lambda seen: (-seen["behind_rows"], seen["since_ms"]))
    return JSONResponse({"data": connections}, headers={"cache-control": "no-store"})


async def _ticket(request: Request) -> Response:
    live: Live = request.app.state.live
    key, _ = live.gate.admit_request(request.scope, "live")
    text = live.new_ticket(key, header(request.scope, b"origin"))
    return JSONResponse({"ticket": text, "expires_sec": TICKET_SEC}, headers={"cache-control": "no-store"})


# Server-sent events


async def _events(request: Request) -> Response:
    live: Live = request.app.state.live
    given = _parameters(request.query_params)
    ticket = given.pop("ticket", None)
    if ticket is None:
        key, _ = live.gate.admit_request(request.scope, "live")
    else:
        key = live.of_ticket(ticket, header(request.scope, b"origin"))
    last = header(request.scope, b"last-event-id")
    if last:
        given["since"] = last
    held = contextlib.ExitStack()
    held.enter_context(live.connected(key))
    try:
        session = held.enter_context(live.session(live.wanted(given, key), key))
        await session.open()
    except BaseException:
        held.close()
        raise
    return _EventStream(live, session, key, held)


def _parameters(query: Any) -> dict[str, Any]:
    given: dict[str, Any] = {}
    for name, value in query.multi_items():
        if name in given:
            raise Problem("bad-parameter", f"{name[:40]} is given twice")
        given[name] = value
    return given


class _EventStream(StreamingResponse):
    """What a session sends, until the client goes, the key ends or the server stops."""

    def __init__(self, live: Live, session: Session, key: Key, held: contextlib.ExitStack) -> None:
        super().__init__(
            self._lines(session, live.counts),
            media_type="text/event-stream",
            headers={"cache-control": "no-store", "x-accel-buffering": "no"},
        )
        self._live, self._key, self._held = live, key, held

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        with self._held:
            await _until_first(super().__call__(scope, receive, send), self._live.key_ended(self._key))

    @staticmethod
    async def _lines(session: Session, counts: LiveCounts) -> AsyncIterator[bytes]:
        yield b"retry: 2000\n\n"
        with contextlib.suppress(SlowReader):
            async for piece in session.events():
                counts.note_message(piece.data)
                yield b"id: %b\nevent: %b\ndata: %b\n\n" % (piece.cursor.encode(), piece.type.encode(), piece.data)


async def _until_first(*works: Any) -> None:
    """Do all of them until one ends; its error is raised."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()


# WebSocket


async def _socket(socket: WebSocket) -> None:
    live: Live = socket.app.state.live
    try:
        key = _key_of_handshake(live, socket)
        if live.connections.total() >= MAX_CONNECTIONS:
            raise Problem("overloaded", f"{MAX_CONNECTIONS} readers are connected")
    except Problem as problem:
        await send_problem(socket.scope, socket.send, problem, request_id_of(socket.scope))
        return
    offered = socket.scope.get("subprotocols") or []
    await socket.accept(subprotocol=SUBPROTOCOL if SUBPROTOCOL in offered else None)
    with contextlib.suppress(WebSocketDisconnect, RuntimeError, ConnectionError):  # it has gone
        await _converse(live, socket, key)


def _key_of_handshake(live: Live, socket: WebSocket) -> Key | None:
    """The key of header or ticket; None when the first message has to bring it."""
    ticket = socket.query_params.get("ticket")
    if ticket is not None:
        return live.of_ticket(ticket, header(socket.scope, b"origin"))
    bearer = bearer_of(socket.scope)
    if bearer is not None:
        return live.gate.admit(bearer, address_of(socket.scope), "live")
    with contextlib.suppress(Problem):
        return live.gate.admit(None, address_of(socket.scope), "live")
    return None


async def _converse(live: Live, socket: WebSocket, key: Key | None) -> None:
    code, reason = 1000, ""
    inbox = _Inbox(socket)
    try:
        if key is None:
            key = await _authenticated(live, socket, inbox)
        wanted = live.wanted(await _first_wish(inbox), key)
        outlet = Frames.of(socket, live.counts)
        with live.connected(key), live.session(wanted, key, outlet) as session:
            await session.open()
            await _until_first(_sent(socket, session, outlet, live.counts), live.key_ended(key), inbox.drain())
            code, reason = _why_ended(live, key)
    except Problem as problem:
        code, reason = (CLOSE_GONE if problem.slug == "cursor-gone" else CLOSE_REFUSED), problem.slug
        document = problem.document("/v1/live", request_id_of(socket.scope))
        await socket.send_text(orjson.dumps({**document, "type": "error", "slug": problem.slug}).decode())
    except SlowReader:
        code, reason = (
            CLOSE_SLOW,
            session.told if len(session.told) <= MAX_REASON_BYTES else "go on with your last cursor",
        )
    if socket.client_state is WebSocketState.CONNECTED:
        await socket.close(code, reason)


async def _first_wish(inbox: _Inbox) -> Mapping[str, Any]:
    """The subscription. A connection that wants nothing is not held open: it would count for no key."""
    try:
        async with asyncio.timeout(SUBSCRIBE_SEC):
            return await inbox.next("subscribe")
    except TimeoutError:
        raise Problem("bad-parameter", f"op: no subscribe came within {SUBSCRIBE_SEC:g} seconds") from None


def _why_ended(live: Live, key: Key) -> tuple[int, str]:
    if live.keys.current(key) != key:
        live.counts.keys_ended += 1
        return CLOSE_REFUSED, "the key is good no more"
    return (CLOSE_RESTART, "the server stops") if live.stopping.is_set() else (1000, "")


async def _authenticated(live: Live, socket: WebSocket, inbox: _Inbox) -> Key:
    try:
        async with asyncio.timeout(AUTH_SEC):
            message = await inbox.next("auth")
    except TimeoutError:
        raise Problem("unauthorized", f"no key came within {AUTH_SEC:g} seconds") from None
    bearer = message.get("key")
    return live.gate.admit(bearer if isinstance(bearer, str) else "", address_of(socket.scope), "live")


async def _sent(socket: WebSocket, session: Session, outlet: Frames | None, counts: LiveCounts) -> None:
    async for piece in session.events():
        if outlet is not None and outlet.is_ready:
            outlet.give(piece)
        else:
            counts.note_message(piece.data)
            await socket.send_text(piece.data.decode())


class _Inbox:
    """What a client says, bounded: JSON objects, MESSAGES_PER_SEC at most."""

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket
        self._second, self._count = 0, 0

    async def next(self, operation: str) -> Mapping[str, Any]:
        """The next message, which must be of this operation; ``ping`` is passed over."""
        while True:
            message = await self._message()
            if message.get("op") == operation:
                return message
            if message.get("op") != "ping":
                raise Problem("bad-parameter", f"op: a message with op {operation} is awaited")

    async def drain(self) -> None:
        """Take what comes; returns never, but raises when the client has gone or talks too much."""
        while True:
            await self.next("ping")

    async def _message(self) -> dict[str, Any]:
        received = await self._socket.receive()
        if received["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(received.get("code", 1005))
        second = int(time.monotonic())
        self._count = self._count + 1 if second == self._second else 1
        self._second = second
        if self._count > MESSAGES_PER_SEC:
            raise Problem("rate-limited", f"more than {MESSAGES_PER_SEC} messages a second")
        try:
            text = received.get("text") or received.get("bytes") or b""
            message = orjson.loads(text)
            check_names(text)
        except NameTwice as exc:
            raise Problem("bad-parameter", f"a message is wrong: {exc}") from None
        except (ValueError, RecursionError):
            raise Problem("bad-parameter", "a message is no JSON") from None
        if not isinstance(message, dict):
            raise Problem("bad-parameter", "a message is no JSON object")
        return message
