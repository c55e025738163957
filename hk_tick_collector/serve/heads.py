"""uvicorn's protocol with what it does not bound: how long the head of a request may be, and how long it may take.

httptools collects a head without any limit, so one client without a key could fill the memory; and a client that sends
a byte now and then would hold its connection for ever. So would one that takes nothing after its answer was broken off.
"""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from hk_tick_collector.serve.transports import EndingTransport

MAX_HEAD_BYTES = 65_536
HEAD_SEC = 15.0


class BoundedHttp(HttpToolsProtocol):
    """Closes a connection whose request has no end of its head after MAX_HEAD_BYTES or HEAD_SEC."""

    _head_bytes = 0
    _is_in_head = True
    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The first head begins with the connection."""
        super().connection_made(EndingTransport(transport, self.loop))  # type: ignore[arg-type]
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is waited for any more."""
        self._stop_timer()
        super().connection_lost(exc)

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
        super().on_headers_complete()

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
