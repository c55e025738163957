"""uvicorn's protocol with what it does not bound: how long the head of a request may be, and how long it may take; and
who goes when there are more connections than the server may have.

httptools collects a head without any limit, so one client without a key could fill the memory; and a client that sends
a byte now and then would hold its connection for ever. So would one that takes nothing after its answer was broken off.

Beyond ``limit_concurrency`` the connection that has asked for nothing for longest is closed for each new one, so idle
ones keep nobody out. When all of them are at work, a request is answered with a problem, 503.
"""

from __future__ import annotations

import asyncio
import logging
import math
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from hk_tick_collector.core.logline import RateLimitedLog
from hk_tick_collector.serve.problems import Problem, Send, new_request_id, send_problem
from hk_tick_collector.serve.transports import EndingTransport

MAX_HEAD_BYTES = 65_536
HEAD_SEC = 15.0
_log = RateLimitedLog(logging.getLogger(__name__))


async def overloaded(scope: dict[str, Any], _receive: object, send: Send) -> None:
    """The application of a request that comes while too many others are at work."""
    _log.log(logging.WARNING, "connections_refused", reason="all connections that there may be are at work")
    problem = Problem("overloaded", "too many connections are at work", headers={"Connection": "close"})
    await send_problem(scope, send, problem, new_request_id())


class BoundedHttp(HttpToolsProtocol):
    """Closes a connection whose request has no end of its head after MAX_HEAD_BYTES or HEAD_SEC."""

    _head_bytes = 0
    _is_in_head = True
    _head_timer: asyncio.TimerHandle | None = None
    _idle: dict[BoundedHttp, None] = {}  # noqa: RUF012 - of the process, which has one server; who waits longest first

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._application = self.app
        self._most, self.limit_concurrency = self.limit_concurrency, None  # uvicorn's own answer is a plain text

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The first head begins with the connection."""
        super().connection_made(EndingTransport(transport, self.loop))  # type: ignore[arg-type]
        self._await_head()
        self._make_room()
        self._idle[self] = None

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is waited for any more."""
        self._stop_timer()
        self._idle.pop(self, None)
        super().connection_lost(exc)

    def _make_room(self) -> bool:
        """Close idle connections beyond those that there may be; are there no more now?"""
        most = self._most or math.inf
        while len(self.connections) > most:
            idle = next((head for head in self._idle if not head.is_draining()), None)
            if idle is None:
                break
            idle.give_way()
        return max(len(self.connections), len(self.tasks)) <= most

    def is_draining(self) -> bool:
        """Is a part of its last answer still on the way to the client?"""
        return self.transport.get_write_buffer_size() > 0

    def give_way(self) -> None:
        """End a connection that asks for nothing."""
        del self._idle[self]
        self.connections.discard(self)
        self.transport.abort()

    def on_response_complete(self) -> None:
        """From here on the connection asks for nothing."""
        super().on_response_complete()
        if self._is_kept_idle():
            self._idle[self] = None

    def _is_kept_idle(self) -> bool:
        is_answered = self.cycle is None or self.cycle.response_complete
        return is_answered and not self.pipeline and not self.transport.is_closing()

    def data_received(self, data: bytes) -> None:
        """Count what belongs to a head."""
        if self._is_in_head:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES and not self._ends_here(data):
                self.transport.close()
                return
        super().data_received(data)

    def on_message_begin(self) -> None:
        """Another request of a connection that is kept."""
        if not self._is_in_head:
            self._await_head()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The head has come."""
        self._is_in_head, self._head_bytes = False, 0
        self._stop_timer()
        self._idle.pop(self, None)
        self.app = self._application if self._make_room() else overloaded
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """To what is no HTTP request, where no application is asked."""
        problem = Problem("bad-request", msg, headers={"Connection": "close"})
        body, headers = problem.message("/", new_request_id())
        lines = [b"HTTP/1.1 400 Bad Request", *(b": ".join(pair) for pair in headers), b"", body]
        self.transport.write(b"\r\n".join(lines))
        self.transport.close()

    def _await_head(self) -> None:
        self._is_in_head, self._head_bytes = True, 0
        self._stop_timer()
        self._head_timer = self.loop.call_later(HEAD_SEC, self._head_is_late)

    def _head_is_late(self) -> None:
        if self._is_in_head and not self.transport.is_closing():
            self.transport.close()

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _ends_here(self, data: bytes) -> bool:
        """A first piece may hold a whole head and a long body."""
        return self._head_bytes == len(data) and data.find(b"\r\n\r\n", 0, MAX_HEAD_BYTES) >= 0
