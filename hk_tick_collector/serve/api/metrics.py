"""Numbers about the API for Prometheus: requests, their time, rows, reading processes. No key, no address in them."""

from __future__ import annotations

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hk_tick_collector.serve.api.pool import Pool

MEDIA_TYPE = CONTENT_TYPE_PLAIN_0_0_4
_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 60)


class Metrics:
    """One registry a server."""

    def __init__(self, pool: Pool) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "hk_api_requests", "Requests by route and status", ["route", "status"], registry=self._registry
        )
        self._seconds = Histogram(
            "hk_api_request_seconds", "Time of a request by route", ["route"], registry=self._registry, buckets=_BUCKETS
        )
        self.rows = Counter("hk_api_rows", "Rows sent", registry=self._registry)
        readers = Gauge("hk_api_readers", "Reading processes that run", registry=self._registry)
        readers.set_function(lambda: pool.ready)
        replaced = Gauge("hk_api_readers_replaced", "Reading processes that were replaced", registry=self._registry)
        replaced.set_function(lambda: pool.replaced)

    def note(self, route: str, status: int, seconds: float) -> None:
        """One request."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def text(self) -> bytes:
        """For Prometheus."""
        exposition: bytes = generate_latest(self._registry)
        return exposition


class Measured:
    """ASGI middleware: counts every request by the route that took it; what no route took is one line."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 0

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noted)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            self._metrics.note(route, status, time.perf_counter() - began)
