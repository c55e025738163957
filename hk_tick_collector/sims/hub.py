"""A simulator's clients over WebSockets. Listens on 127.0.0.1 alone."""

from __future__ import annotations

import asyncio
import json
from abc import ABC, abstractmethod
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Generic, TypeVar

from hk_tick_collector.sims.rest import HOST

MAX_MESSAGE_BYTES = 1 << 20
DOOR_WAIT_SEC = 90  # what who is busy asks for
DOOR = {
    "door_busy": f"whoever wants a WebSocket is answered 429 from now on, with a Retry-After of {DOOR_WAIT_SEC} s",
    "door_forbidden": "whoever wants a WebSocket is answered 403 from now on",
    "door_open": "WebSockets are given again",
}
_DOOR_STATUS = {"door_busy": HTTPStatus.TOO_MANY_REQUESTS, "door_forbidden": HTTPStatus.FORBIDDEN, "door_open": None}
_FAULT_SEC = 10  # how long one may take

Client = TypeVar("Client")


class Hub(ABC, Generic[Client]):
    """All clients, and what they are told. ``run`` on a loop; ``fault`` on any other thread."""

    def __init__(self) -> None:
        self._clients: set[Client] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.connections = 0  # so far
        self.ws_port = 0
        self._door: HTTPStatus | None = None  # None: it is open
        self.turned_away = 0

    async def run(self, port: int, on_ready: Callable[[int], None]) -> None:
        """Serve for ever. ``port`` 0: any, which ``on_ready`` is told."""
        from websockets.asyncio.server import serve  # noqa: PLC0415 - an extra

        self._loop = asyncio.get_running_loop()
        async with serve(
            self._serve, HOST, port, ping_interval=None, max_size=MAX_MESSAGE_BYTES, process_request=self._at_the_door
        ) as server:
            self.ws_port = server.sockets[0].getsockname()[1]
            on_ready(self.ws_port)
            await self._work()

    def fault(self, name: str) -> None:
        """Do one; returns when it is done."""
        assert self._loop is not None
        if name in DOOR:
            self._door = _DOOR_STATUS[name]
            return
        asyncio.run_coroutine_threadsafe(self._fault(name), self._loop).result(_FAULT_SEC)

    def _at_the_door(self, connection: Any, _request: Any) -> Any:
        """An answer instead of a WebSocket; None: it is given."""
        if self._door is None:
            return None
        self.turned_away += 1
        answer = connection.respond(self._door, "no\n")
        if self._door is HTTPStatus.TOO_MANY_REQUESTS:
            answer.headers["Retry-After"] = str(DOOR_WAIT_SEC)
        return answer

    async def _serve(self, socket: Any) -> None:
        client = self._client(socket)
        self._clients.add(client)
        self.connections += 1
        beating = asyncio.ensure_future(self._beat(client))
        try:
            async for raw in socket:
                await self._take(client, json.loads(raw))
        except Exception:  # noqa: BLE001, S110 - whatever a client does ends its connection alone
            pass
        finally:
            beating.cancel()
            self._clients.discard(client)

    @abstractmethod
    def _client(self, socket: Any) -> Client:
        """One that has just come."""

    @abstractmethod
    async def _work(self) -> None:
        """Make what clients are told, for ever."""

    @abstractmethod
    async def _beat(self, client: Client) -> None:
        """Say that the server lives, for ever."""

    @abstractmethod
    async def _take(self, client: Client, message: Any) -> None:
        """A message of a client."""

    @abstractmethod
    async def _fault(self, name: str) -> None:
        """Do one, on the loop."""
