"""The way out for a reader that keeps up: its messages are given to its socket at news, and no task is woken for it.

Hundreds of readers with equal wishes are sent the same message. What each of them costs is a look whether its socket
takes something, and the call to the kernel.
"""

from __future__ import annotations

from typing import Protocol

from starlette.websockets import WebSocket

from hk_tick_collector.serve.live.counts import LiveCounts
from hk_tick_collector.serve.live.frames import Event
from hk_tick_collector.serve.sockets import FRAMES, BoundedSocket, text_frame


class Outlet(Protocol):
    """A way out on which nothing waits, beside ``events``, for what a reader that keeps up is sent::

    class Kept:
        is_ready = True

        def give(self, event):
            self.events.append(event)
    """

    @property
    def is_ready(self) -> bool:
        """Would a message be taken now?"""

    def give(self, event: Event) -> None:
        """Send it."""


class Frames:
    """The way out of a WebSocket without a wait: each message is made into a frame once for all who get it."""

    def __init__(self, connection: BoundedSocket, counts: LiveCounts) -> None:
        self._connection, self._counts = connection, counts

    @classmethod
    def of(cls, socket: WebSocket, counts: LiveCounts) -> Frames | None:
        """None where the server knows no such way."""
        connection = socket.scope.get("extensions", {}).get(FRAMES)
        return None if connection is None else cls(connection, counts)

    @property
    def is_ready(self) -> bool:
        """Does nothing wait on the connection?"""
        return self._connection.is_ready

    def give(self, event: Event) -> None:
        """Send it."""
        self._counts.note_message(event.data)
        if event.frame is None:
            event.frame = text_frame(event.data)
        self._connection.write_frame(event.frame)
