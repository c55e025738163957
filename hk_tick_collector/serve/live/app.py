"""``create_app``: the live channel as an ASGI application.

- ``/v1/live``: WebSocket (``websocket.py``).
- ``/v1/live/events``: server-sent events (``event_stream.py``).
- ``POST /v1/live/ticket``: a ticket for one connection, for browsers, which can send no header.

Nothing waits for a reader: each connection is a task that makes a message when the one before was taken. A key that is
revoked ends its connections within seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import threading
import time
from collections.abc import AsyncIterator, Iterator
from itertools import chain
from typing import Any

from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute

from hk_tick_collector.core.logline import event
from hk_tick_collector.serve.auth import Guard, header, request_id_of
from hk_tick_collector.serve.keys import ANONYMOUS
from hk_tick_collector.serve.live.event_stream import events
from hk_tick_collector.serve.live.shared import TICKET_SEC, Live
from hk_tick_collector.serve.live.websocket import converse
from hk_tick_collector.serve.problems import Problem, problem_of
from hk_tick_collector.serve.settings import ServeSettings

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
BYE_SEC = 2.0

_log = logging.getLogger(__name__)


def create_app(settings: ServeSettings) -> Starlette:
    """The application. ``app.state.live``: what its connections share."""
    live = Live(settings)
    app = Starlette(
        routes=[
            WebSocketRoute("/v1/live", converse),
            Route("/v1/live/events", events),
            Route("/v1/live/ticket", _ticket, methods=["POST"]),
            Route("/v1/live/healthz", _health),
            Route("/v1/live/metrics", _metrics),
            Route("/v1/live/readers", _readers),
        ],
        exception_handlers={Problem: _on_problem, Exception: _on_problem},
        lifespan=_lifespan(live),
    )
    app.state.live = live
    if settings.api_origins:
        app.add_middleware(
            CORSMiddleware, allow_origins=list(settings.api_origins), allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type", "Last-Event-ID"],
        )  # fmt: skip
    app.add_middleware(Guard, settings=settings)
    return app


def _lifespan(live: Live) -> Any:
    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        for hub in live.hubs:
            hub.open()
        watching = [asyncio.create_task(live.watch_keys())]
        if live.signals is not None:
            watching.append(asyncio.create_task(live.signals.watch()))
        with _says_bye(live):
            yield
        live.stopping.set()
        for task in watching:
            task.cancel()
        await live.readers.close()
        for hub in (*live.hubs, *chain(*live.resting_hubs.values())):
            await hub.close()

    return lifespan


@contextlib.contextmanager
def _says_bye(live: Live) -> Iterator[None]:
    """uvicorn closes connections before the application hears of a stop: hear the signal first, and hand it on once
    every reader was told."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    async def stop(number: int) -> None:
        live.stopping.set()
        live.news.tell()
        until_sec = time.monotonic() + BYE_SEC
        while live.connections.total() and time.monotonic() < until_sec:  # noqa: ASYNC110 - for a moment
            await asyncio.sleep(0.02)
        handler = before[signal.Signals(number)]
        if callable(handler):
            handler(number, None)

    def heard(number: int, _frame: object) -> None:
        loop.call_soon_threadsafe(lambda: stops.append(asyncio.ensure_future(stop(number))))

    stops: list[asyncio.Future[None]] = []
    for number in before:
        signal.signal(number, heard)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


async def _on_problem(request: Request, error: Exception) -> Response:
    problem = problem_of(error)
    if problem.slug == "internal":
        _log.error(event("request_fault", request_id=request_id_of(request.scope)), exc_info=error)
    body, headers = problem.message(request.url.path, request_id_of(request.scope))
    response = Response(body, problem.kind.status)
    response.raw_headers = headers
    return response


async def _health(request: Request) -> Response:
    live: Live = request.app.state.live
    is_ready = all(hub.ring is not None for hub in live.hubs)
    return JSONResponse({"status": "ok" if is_ready else "starting"}, 200 if is_ready else 503)


async def _metrics(request: Request) -> Response:
    live: Live = request.app.state.live
    live.gate.admit_request(request.scope, "read")
    return Response(live.metrics.text(), headers={"cache-control": "no-store"}, media_type=METRICS_TYPE)


async def _readers(request: Request) -> Response:
    """Who is connected, and how far behind: all for the scope ``admin`` and where anybody on the machine may read, else
    those of the key that asks."""
    live: Live = request.app.state.live
    key, _ = live.gate.admit_request(request.scope, "read")
    sees_all = key.may("admin") or key is ANONYMOUS
    connections = [session.as_seen() for session in list(live.sessions) if sees_all or session.is_of(key)]
    connections.sort(key=lambda seen: (-seen["behind_rows"], seen["since_ms"]))
    return JSONResponse({"data": connections}, headers={"cache-control": "no-store"})


async def _ticket(request: Request) -> Response:
    live: Live = request.app.state.live
    key, _ = live.gate.admit_request(request.scope, "live")
    text = live.new_ticket(key, header(request.scope, b"origin"))
    return JSONResponse({"ticket": text, "expires_sec": TICKET_SEC}, headers={"cache-control": "no-store"})
