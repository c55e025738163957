"""``/v1/live``: WebSocket, subprotocol ``hk-ticks.v1``. Who has no key in a header sends a ticket in the address, or
the key in its first message."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping
from typing import Any

import orjson
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from hk_tick_collector.core.waiting import until_first
from hk_tick_collector.serve.auth import address_of, bearer_of, header, request_id_of
from hk_tick_collector.serve.keys import Key
from hk_tick_collector.serve.live.counts import LiveCounts
from hk_tick_collector.serve.live.outlet import Frames
from hk_tick_collector.serve.live.session import Session, SlowReader
from hk_tick_collector.serve.live.shared import MAX_CONNECTIONS, Live
from hk_tick_collector.serve.names import NameTwice, check_names
from hk_tick_collector.serve.problems import Problem, send_problem

SUBPROTOCOL = "hk-ticks.v1"
AUTH_SEC = 5.0
SUBSCRIBE_SEC = 10.0
MESSAGES_PER_SEC = 20
CLOSE_REFUSED, CLOSE_SLOW, CLOSE_RESTART, CLOSE_GONE = 4003, 4008, 1012, 4010
MAX_REASON_BYTES = 123  # of a close; half a cursor would be of no use


async def converse(socket: WebSocket) -> None:
    """One connection, from its handshake to its end."""
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
    inbox = Inbox(socket)
    try:
        if key is None:
            key = await _authenticated(live, socket, inbox)
        wanted = live.wanted(await _first_wish(inbox), key)
        outlet = Frames.of(socket, live.counts)
        with live.connected(key), live.session(wanted, key, outlet) as session:
            await session.open()
            await until_first(_sent(socket, session, outlet, live.counts), live.key_ended(key), inbox.drain())
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


async def _first_wish(inbox: Inbox) -> Mapping[str, Any]:
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


async def _authenticated(live: Live, socket: WebSocket, inbox: Inbox) -> Key:
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


class Inbox:
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
