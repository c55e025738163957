"""A WebSocket to the address that was given and no other: a token goes there."""

from __future__ import annotations

from websockets.asyncio.client import connect as _connect


class connect(_connect):  # noqa: N801 - as the one it is
    """As the library's, which would follow a redirect to another host."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        """Refused, whatever it says."""
        return exc
