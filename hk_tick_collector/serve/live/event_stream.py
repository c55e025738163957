"""``/v1/live/events``: server-sent events. ``id`` is the cursor, so ``Last-Event-ID`` goes on without a hole."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from hk_tick_collector.core.waiting import until_first
from hk_tick_collector.serve.auth import header
from hk_tick_collector.serve.keys import Key
from hk_tick_collector.serve.live.counts import LiveCounts
from hk_tick_collector.serve.live.session import Session, SlowReader
from hk_tick_collector.serve.live.shared import Live
from hk_tick_collector.serve.problems import Problem


async def events(request: Request) -> Response:
    """What a reader asks for, until the client goes, the key ends or the server stops."""
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
            await until_first(super().__call__(scope, receive, send), self._live.key_ended(self._key))

    @staticmethod
    async def _lines(session: Session, counts: LiveCounts) -> AsyncIterator[bytes]:
        yield b"retry: 2000\n\n"
        with contextlib.suppress(SlowReader):
            async for piece in session.events():
                counts.note_message(piece.data)
                yield b"id: %b\nevent: %b\ndata: %b\n\n" % (piece.cursor.encode(), piece.type.encode(), piece.data)
