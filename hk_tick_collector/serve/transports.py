"""A connection that is closed ends, also when its client takes nothing: what waits to be taken would hold it open."""

from __future__ import annotations

import asyncio
from typing import Any

TAKEN_SEC = 2.0  # in which a client has to take something of what waits


class EndingTransport:
    """A transport whose ``close`` waits only while the client takes what is on its way."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._is_watched = False
        # At every message, so not by the way of all other names.
        self.write = transport.write
        self.is_closing = transport.is_closing

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def close(self) -> None:
        """As of the transport."""
        self._transport.close()
        self.watch_end()

    def watch_end(self) -> None:
        """From here on the connection is cut when its client takes nothing for TAKEN_SEC."""
        if not self._is_watched:
            self._is_watched = True
            self._loop.call_later(TAKEN_SEC, self._look, self._transport.get_write_buffer_size())

    def _look(self, waiting_bytes: int) -> None:
        now_bytes = self._transport.get_write_buffer_size()
        if not now_bytes:
            return
        if now_bytes >= waiting_bytes:
            self._transport.abort()
        else:
            self._loop.call_later(TAKEN_SEC, self._look, now_bytes)
