"""How a question is taken: who may ask, each thing said once, and in which format the answer is wanted."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import Depends, HTTPException, Query, Request
from fastapi.routing import APIRoute
from starlette.responses import Response

from hk_tick_collector.serve.api import questions
from hk_tick_collector.serve.api.roots import bad
from hk_tick_collector.serve.api.service import Admitted, Service
from hk_tick_collector.serve.names import NameTwice, unique
from hk_tick_collector.serve.problems import FieldError, Problem

EXPOSED_HEADERS = [
    "HK-As-Of",
    "HK-Coverage",
    "HK-Next",
    "HK-Truncated",
    "HK-Warnings",
    "RateLimit",
    "RateLimit-Policy",
    "Retry-After",
    "ETag",
]
FORMATS = {
    "application/json": "json",
    "application/x-ndjson": "ndjson",
    "application/ndjson": "ndjson",
    "text/csv": "csv",
    "application/vnd.apache.arrow.stream": "arrow",
    "application/vnd.apache.parquet": "parquet",
}
NO_STORE = {"Cache-Control": "no-store"}


class _Request(Request):
    """One whose body says each thing once."""

    async def json(self) -> Any:
        """As of Request. HTTPException 400 when an object has a name twice."""
        try:
            return json.loads(await self.body(), object_pairs_hook=unique)
        except NameTwice as exc:
            raise HTTPException(400, FieldError(exc.name, "is given twice")) from exc


class StrictRoute(APIRoute):
    """A route whose request says each thing once."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """As of APIRoute."""
        handle = super().get_route_handler()

        async def handle_strictly(request: Request) -> Response:
            return await handle(_Request(request.scope, request.receive))

        return handle_strictly


Nothing = Annotated[questions.Nothing, Query()]


def service_of(request: Request) -> Service:
    """What ``create_app`` put together."""
    service: Service = request.app.state.service
    return service


async def admitted(request: Request) -> Admitted:  # not on a thread: it only counts
    """Whoever may read."""
    return _admit(request, "read")


async def admitted_to_mute(request: Request) -> Admitted:
    """Whoever may silence alerts: by a key in the header, for the dashboard's cookie only reads."""
    return _admit(request, "mute")


async def admitted_to_restart(request: Request) -> Admitted:
    """Whoever may restart a feed: by a key in the header, for the dashboard's cookie only reads."""
    return _admit(request, "restart")


async def admitted_to_sql(request: Request) -> Admitted:
    """Whoever may ask in SQL."""
    return _admit(request, "sql")


def _admit(request: Request, scope: str) -> Admitted:
    """Who asks, and nothing that would be passed over: of a parameter that is given twice only the last would count, of
    one in the address of a POST nothing."""
    reader = service_of(request).admit(request, scope)
    names = [name for name, _ in request.query_params.multi_items()]
    if request.method == "POST" and names:
        raise bad(names[0][:40], "belongs into the body: the address of a POST has no parameters")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise bad(twice[:40], "is given twice; several values are separated by commas")
    return reader


Reader = Annotated[Admitted, Depends(admitted)]
Muter = Annotated[Admitted, Depends(admitted_to_mute)]
Restarter = Annotated[Admitted, Depends(admitted_to_restart)]
Asker = Annotated[Admitted, Depends(admitted_to_sql)]


def format_of(request: Request, given: str | None) -> str:
    """The format asked for: the parameter, else the first type of Accept that there is."""
    if given is not None:
        return given
    accepted = [part.partition(";")[0].strip().lower() for part in request.headers.get("accept", "*/*").split(",")]
    for kind in accepted:
        if kind in FORMATS:
            return FORMATS[kind]
    if any(kind in ("*/*", "application/*", "text/*", "") for kind in accepted):
        return "json"
    raise Problem("unsupported-format", "none of the types of the header Accept")


def asked_of(
    request: Request, query: questions.Stretch | questions.BrokersQuery | questions.SnapshotsQuery
) -> dict[str, Any]:
    """A question's parameters as the reading process takes them."""
    asked = query.model_dump(exclude_none=True)
    asked["format"] = format_of(request, query.format)
    if asked["format"] == "json" or query.cursor is not None:
        asked.setdefault("limit", questions.PAGE_ROWS)
    for name in ("types", "fields"):
        if name in asked:
            asked[name] = [word for word in asked[name].split(",") if word]
    if "as_of" in asked:
        asked["as_of_ms"] = asked.pop("as_of")
    return asked
