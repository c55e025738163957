"""The API's own description: OpenAPI 3.1 at ``/openapi.json``, and the same as a page at ``/docs``.

FastAPI's document is corrected where it does not fit this API: every error is a problem document, formats other than
JSON are named, and keys are a bearer scheme. The page is plain HTML without a script, so it works without a network.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hk_tick_collector.serve.api import answer_models
from hk_tick_collector.serve.problems import KINDS, MEDIA_TYPE

FREE = ("/v1/healthz",)
RESTART = "/v1/sources/restart"
HOOKS = ("/v1/hooks/{name}", "/ml-trade")
ABOUT = """\
Ticks as the recorder stored them, with what is proven of them. Every answer says how complete its days and symbols are.

Send a key as `Authorization: Bearer <key>`. Times in answers are UTC epoch milliseconds (`ts_ms`); in questions they
are RFC 3339 with an offset, epoch milliseconds or YYYYMMDD. Errors are problem documents (RFC 9457) with a `hint`.
"""
_ROWS = ("application/x-ndjson", "text/csv", "application/vnd.apache.arrow.stream", "application/vnd.apache.parquet")
_STREAMED = ("/v1/ticks", "/v1/books", "/v1/brokers", "/v1/snapshots", "/v1/bars", "/v1/ticks/latest", "/v1/sql")
_STATUSES = {
    "all": (400, 401, 403, 404, 405, 413, 429, 500, 503),
    "stretch": (406, 409, 410, 504),
    "day": (409, 504),
}
_STYLE = """\
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a;background:#fff}
code,pre{font-family:ui-monospace,monospace;font-size:.9em}table{border-collapse:collapse;width:100%;margin:.5rem 0}
td,th{border-bottom:1px solid #ccc;padding:.3rem .5rem;text-align:left;vertical-align:top}h2{margin-top:2.5rem}
.method{font-weight:700;color:#0b5}@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}
td,th{border-color:#444}}
"""


def describe(app: FastAPI) -> None:
    """Give the application its document and its page."""
    document: dict[str, Any] = {}

    def openapi() -> dict[str, Any]:
        if not document:
            document.update(_document(app))
        return document

    app.openapi = openapi  # type: ignore[method-assign]

    async def as_json(_request: Request) -> Response:
        return Response(json.dumps(openapi(), ensure_ascii=False).encode(), media_type="application/json")

    async def as_page(_request: Request) -> Response:
        digest = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
        csp = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; frame-ancestors 'none'"
        return Response(
            page(openapi()), headers={"Content-Security-Policy": csp}, media_type="text/html; charset=utf-8"
        )

    app.router.routes.append(Route("/openapi.json", as_json, methods=["GET"]))
    app.router.routes.append(Route("/docs", as_page, methods=["GET"]))
    app.router.routes.append(Route("/problems/{slug}", _problem_page, methods=["GET"]))


async def _problem_page(request: Request) -> Response:
    """What a problem's ``type`` points to."""
    kind = KINDS.get(request.path_params["slug"])
    if kind is None:
        return Response("no such problem\n", 404, media_type="text/plain")
    return Response(f"{kind.status} {kind.title}\n\n{kind.hint}\n", media_type="text/plain; charset=utf-8")


def _document(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(title=app.title, version=app.version, description=ABOUT, routes=app.routes)
    document["info"]["version"] = "1"  # of the API, which changes less often than the program
    schemas = document["components"]["schemas"]
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    problem = answer_models.ProblemDocument.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas.update(problem.pop("$defs"))
    schemas["ProblemDocument"] = problem
    document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    for path, operations in document["paths"].items():
        for operation in operations.values():
            _correct(path, operation)
    return document


def _correct(path: str, operation: dict[str, Any]) -> None:
    responses = operation["responses"]
    responses.pop("422", None)
    if path in _STREAMED:
        content = responses["200"]["content"]
        content.update({kind: {"schema": {"type": "string", "format": "binary"}} for kind in _ROWS})
    statuses = set(_STATUSES["all"])
    if path in (*_STREAMED, "/api/v1/ticks/historical"):
        statuses.update(_STATUSES["stretch"])
    if "{day}" in path or path.endswith("days"):
        statuses.update(_STATUSES["day"])
    if path in (*HOOKS, RESTART):
        statuses.add(409)
    if path.endswith("/file"):
        statuses.add(416)
    if path in FREE:
        responses["503"] = responses["200"]
        statuses.difference_update((401, 403, 429, 503))
    else:
        operation["security"] = [{"key": []}]
    for status in sorted(statuses):
        titles = " / ".join(kind.title for kind in KINDS.values() if kind.status == status)
        schema = {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}
        responses[str(status)] = {"description": titles, "content": {MEDIA_TYPE: schema}}


def page(document: dict[str, Any]) -> str:
    """The document for people."""
    title = html.escape(document["info"]["title"])
    parts = [
        f"<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>{title}</title><style>{_STYLE}</style><h1>{title}</h1>",
        *(f"<p>{html.escape(text)}</p>" for text in document["info"]["description"].split("\n\n")),
        "<p>For programs: <a href=openapi.json>openapi.json</a></p>",
    ]
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            parts += _operation(method, path, operation)
    parts.append("<h2>Problems</h2><table><tr><th>status<th>type<th>what to do</tr>")
    parts += [
        f"<tr><td>{kind.status}<td><code>{slug}</code><br>{html.escape(kind.title)}<td>{html.escape(kind.hint)}</tr>"
        for slug, kind in KINDS.items()
    ]
    return "".join([*parts, "</table></html>"])


def _operation(method: str, path: str, operation: dict[str, Any]) -> Iterator[str]:
    yield f"<h2><span class=method>{method.upper()}</span> <code>{html.escape(path)}</code></h2>"
    yield f"<p>{html.escape(operation.get('description', ''))}</p>"
    parameters = operation.get("parameters", [])
    if parameters:
        yield "<table><tr><th>parameter<th>values<th>meaning</tr>"
        for field in parameters:
            yield f"<tr><td><code>{html.escape(field['name'])}</code>{' *' if field.get('required') else ''}"
            yield f"<td>{html.escape(_values(field['schema']))}<td>{html.escape(field.get('description', ''))}</tr>"
        yield "</table>"
    statuses = ", ".join(status for status in operation["responses"])
    yield f"<p>Answers: {statuses}</p>"


def _values(schema: dict[str, Any]) -> str:
    plain = next((choice for choice in schema.get("anyOf", [schema]) if choice.get("type") != "null"), schema)
    if "enum" in plain or "const" in plain:
        text = ", ".join(map(str, plain.get("enum", [plain.get("const")])))
    else:
        text = str(plain.get("type", ""))
        if "minimum" in plain:
            text += f" {plain['minimum']} to {plain.get('maximum', '')}"
    return text + (f" (default {schema['default']})" if schema.get("default") is not None else "")
