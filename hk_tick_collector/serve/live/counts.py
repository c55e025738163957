"""What the live channel has done since its start. The loop alone writes it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class LiveCounts:
    """Counters begin at 0 with each start."""

    messages: int = 0  # given to sockets, of every type
    message_bytes: int = 0  # as JSON, before the framing of WebSocket or SSE
    connections: int = 0  # readers that were let in
    left_out_ticks: int = 0  # by readers' own wish (``conflate``)
    slow_closed: int = 0  # readers that were closed for it (``close``)
    keys_ended: int = 0  # readers whose key was revoked, changed or expired

    def note_message(self, data: bytes) -> None:
        """One was given to a socket."""
        self.messages += 1
        self.message_bytes += len(data)
