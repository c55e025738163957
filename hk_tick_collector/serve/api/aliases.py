"""The routes of an earlier server, in its words: the same questions as in ``routes``, in another form."""

from __future__ import annotations

import time
import uuid
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from hk_tick_collector.serve.api import answer_models, facts, questions, routes
from hk_tick_collector.serve.api.asking import NO_STORE, Nothing, Reader, StrictRoute, service_of
from hk_tick_collector.serve.api.service import Admitted

router = APIRouter(route_class=StrictRoute)


@router.get("/api/v1/ticks/realtime", response_model=answer_models.AliasAnswer, tags=["aliases"])
async def realtime(request: Request, reader: Reader, query: Annotated[questions.RealtimeQuery, Query()]) -> Response:
    """As /v1/ticks/latest."""
    began = time.perf_counter()
    ticks, answer = await routes.newest_ticks(request, reader, query.symbols, query.limit)
    data = [facts.alias_tick(row) for row in routes.ticks_of(ticks)]
    return _aliased(reader, began, data, answer)


@router.get("/api/v1/ticks/historical", response_model=answer_models.AliasAnswer, tags=["aliases"])
async def historical(
    request: Request, reader: Reader, query: Annotated[questions.HistoricalQuery, Query()]
) -> Response:
    """As /v1/ticks, and with interval as /v1/bars."""
    began = time.perf_counter()
    service = service_of(request)
    asked: dict[str, Any] = {
        "symbols": query.symbols,
        "start": query.start_time,
        "end": query.end_time,
        "limit": query.limit,
        "format": "json",
    }
    if query.cursor is not None:
        asked["cursor"] = query.cursor
    job = "ticks"
    if query.interval not in (None, "tick"):
        job, asked["interval"] = "bars", query.interval
    collected = await service.collect(reader, job, asked)
    data = [facts.alias_bar(row) if job == "bars" else facts.alias_tick(row) for row in collected.pop("data")]
    return _aliased(reader, began, data, collected, interval=query.interval)


@router.get("/api/v1/status", response_model=answer_models.Anything, tags=["aliases"])
async def alias_status(request: Request, reader: Reader, query: Nothing) -> Response:
    """As /v1/status."""
    return await routes.status(request, reader, query)


def _aliased(
    reader: Admitted, began: float, data: list[dict[str, Any]], answer: dict[str, Any], interval: str | None = None
) -> Response:
    metadata = {
        "query_id": str(uuid.uuid4()),
        "response_time_ms": round((time.perf_counter() - began) * 1000, 3),
        "record_count": len(data),
        "interval": interval,
        **answer,
    }
    body = orjson.dumps({"success": True, "data": data, "metadata": metadata})
    return Response(body, headers={**NO_STORE, **reader.headers}, media_type="application/json")
