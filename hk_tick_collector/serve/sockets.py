"""What uvicorn's WebSocket does not bound.

It answers every ping at once, whether or not the client takes the answers, so a client that only sends pings would fill
the memory with them. And it ends who answers no ping politely, behind all that waits for being taken: a client that
takes nothing would stay for ever.

And what it does for each message is dear where hundreds are sent the same one: it is made into a frame once
(``text_frame``) and given to each (``write_frame``), by the ASGI extension FRAMES.
"""

from __future__ import annotations

import time
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN

from hk_tick_collector.serve.transports import EndingTransport

FRAMES = "websocket.frames"  # of scope["extensions"]: the BoundedSocket
CONTROL_FRAMES_PER_SEC = 20
CLOSE_SEC = 2.0  # for a client's answer to a close; what was sent before it reaches the client all the same


def text_frame(data: bytes) -> bytes:
    """A message as a server sends it: one frame, unmasked, uncompressed."""
    return bytes(Frame(Opcode.TEXT, data).serialize(mask=False))


class BoundedSocket(WebSocketsSansIOProtocol):
    """Cuts who sends more than CONTROL_FRAMES_PER_SEC pings and pongs, and who answers none for 20 seconds."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._second, self._frames = 0, 0
        self.close_timeout = CLOSE_SEC

    def handle_ping(self) -> None:
        """Answer, when that is in bounds."""
        if self._is_in_bounds():
            super().handle_ping()
        else:
            self.transport.abort()

    def handle_pong(self, event: Any) -> None:
        """Take note, when that is in bounds."""
        if self._is_in_bounds():
            super().handle_pong(event)
        else:
            self.transport.abort()

    def handle_connect(self, event: Any) -> None:
        """As of the protocol; the application is told of the extension before it runs."""
        super().handle_connect(event)
        if hasattr(self, "scope"):  # no bad handshake
            extensions: Any = self.scope["extensions"]
            extensions[FRAMES] = self

    @property
    def is_ready(self) -> bool:
        """Would a frame be sent at once, and to somebody?"""
        return self.writable.is_set() and self.conn.state is OPEN and not self.transport.is_closing()

    def write_frame(self, frame: bytes) -> None:
        """Send a ``text_frame``, when ``is_ready``: nothing waits here, and nothing is counted."""
        self.transport.write(frame)

    async def send(self, message: Any) -> None:
        """As of the protocol, which sends a close behind what waits: not for a client that takes nothing of it."""
        if message["type"] == "websocket.close" and isinstance(self.transport, EndingTransport):
            self.transport.watch_end()
        await super().send(message)

    def keepalive_timeout(self) -> None:
        """Say why, and do not wait until it is taken when something waits already."""
        super().keepalive_timeout()
        if not self.writable.is_set():
            self.transport.abort()

    def _is_in_bounds(self) -> bool:
        second = int(time.monotonic())
        self._frames = self._frames + 1 if second == self._second else 1
        self._second = second
        return self._frames <= CONTROL_FRAMES_PER_SEC
