"""``hk-tick-api``: the routes. Each says what may be asked; who may ask is ``auth``'s, reading is ``jobs``'s affair.

``create_app`` puts it together: keys are read again every second, reading processes start with the application and end
with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.routing import Match

from hk_tick_collector import __version__
from hk_tick_collector.core.logline import RateLimitedLog, event
from hk_tick_collector.serve.api import aliases, routes
from hk_tick_collector.serve.api.asking import EXPOSED_HEADERS
from hk_tick_collector.serve.api.metrics import Measured, Metrics
from hk_tick_collector.serve.api.older import OlderAt
from hk_tick_collector.serve.api.openapi import describe
from hk_tick_collector.serve.api.pool import Pool
from hk_tick_collector.serve.api.questions import FORMS
from hk_tick_collector.serve.api.roots import Roots
from hk_tick_collector.serve.api.service import Service
from hk_tick_collector.serve.auth import Gate, Guard, request_id_of
from hk_tick_collector.serve.hooks import routes as hooks
from hk_tick_collector.serve.hooks.inbox import Inbox
from hk_tick_collector.serve.keys import KeyRing
from hk_tick_collector.serve.problems import FieldError, Problem, problem_of
from hk_tick_collector.serve.settings import ServeSettings
from hk_tick_collector.serve.web import routes as web

KEYS_LOOK_SEC = 1.0
_HTTP_SLUGS = {404: "not-found", 405: "method-not-allowed", 413: "too-large"}

_log = logging.getLogger(__name__)
_faults = RateLimitedLog(_log)


def create_app(settings: ServeSettings) -> FastAPI:
    """The application. KeysFileError when the file of keys cannot be used."""
    ring = KeyRing.open(settings.api_keys_file)
    pool = Pool(
        settings.roots, workers=settings.api_workers, timeout_sec=settings.api_timeout_sec,
        memory_bytes=settings.api_worker_memory_mb << 20, older=OlderAt.of(settings),
    )  # fmt: skip
    metrics = Metrics(pool)
    roots = Roots(settings.roots)
    inbox = Inbox(settings, roots)
    service = Service(settings, roots, Gate(settings, ring), pool, metrics)
    app = FastAPI(
        title="hk-tick-api", version=__version__, lifespan=_lifespan(service, ring, inbox), docs_url=None,
        redoc_url=None, openapi_url=None, root_path_in_servers=False,
    )  # fmt: skip
    app.state.service = service
    app.state.inbox = inbox
    app.include_router(routes.router)
    app.include_router(aliases.router)
    app.include_router(hooks.router)
    app.include_router(web.router)
    for kind, handler in _HANDLERS.items():
        app.add_exception_handler(kind, handler)
    if settings.api_origins:
        app.add_middleware(
            CORSMiddleware, allow_origins=list(settings.api_origins), allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type"], expose_headers=EXPOSED_HEADERS,
        )  # fmt: skip
    app.add_middleware(Measured, metrics=metrics)
    app.add_middleware(Guard, settings=settings)
    describe(app)
    return app


def _lifespan(service: Service, ring: KeyRing, inbox: Inbox) -> Any:
    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        for root in service.roots.all:
            if not await asyncio.to_thread(root.data_root.is_dir):
                _log.error(event("data_root_missing", path=root.data_root, then="questions get 503 until it is there"))
        tasks = [asyncio.create_task(_watch_keys(ring)), asyncio.create_task(service.let_go())]
        await service.pool.open()
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await service.pool.close()
            await service.sql_pool.close()
            await asyncio.to_thread(service.close)
            await asyncio.to_thread(inbox.close)

    return lifespan


async def _watch_keys(ring: KeyRing) -> None:
    while True:
        await asyncio.sleep(KEYS_LOOK_SEC)
        if await asyncio.to_thread(ring.reload):
            if ring.problem is not None:
                _log.error(event("keys_refused", reason=ring.problem))
            else:
                _log.info(event("keys_read", keys=len(ring.keys)))


# Errors


def _answered(request: Request, problem: Problem) -> Response:
    body, headers = problem.message(request.url.path, request_id_of(request.scope))
    response = Response(body, problem.kind.status)
    response.raw_headers = headers
    return response


async def _on_problem(request: Request, error: Exception) -> Response:
    return _answered(request, problem_of(error))


async def _on_validation(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    errors = [FieldError(_field(detail["loc"]), _message(detail)) for detail in error.errors()[:20]]
    named = ", ".join(dict.fromkeys(error.field for error in errors))
    return _answered(request, Problem("bad-parameter", f"wrong: {named}", errors=errors))


def _message(detail: Mapping[str, Any]) -> str:
    """What pydantic says, but for its regular expressions: instead of one, what such a text looks like."""
    if detail["type"] != "string_pattern_mismatch":
        return str(detail["msg"])
    place, name = (str(part) for part in (detail["loc"][0], detail["loc"][-1]))
    form = FORMS.get(f"{place}.{name}") or FORMS.get(name)
    return str(detail["msg"]) if form is None else f"is not of the form that is meant: {form}"


def _field(location: tuple[Any, ...]) -> str:
    return ".".join(map(str, location[1:])) or str(location[0])


async def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    slug = _HTTP_SLUGS.get(error.status_code, "bad-parameter" if error.status_code < 500 else "internal")
    headers: Mapping[str, str] = error.headers or {}
    if error.status_code == 405 and (allowed := _allowed(request)):
        headers = {**headers, "Allow": allowed}
    errors: list[FieldError] = [error.detail] if isinstance(error.detail, FieldError) else []
    detail = f"wrong: {errors[0].field}" if errors else ""
    return _answered(request, Problem(slug, detail, errors=errors, headers=headers))


def _allowed(request: Request) -> str:
    """Every method of an address: Starlette names those of one of its routes."""
    own = (*routes.router.routes, *aliases.router.routes, *hooks.router.routes, *web.router.routes)
    matching = [route for route in own if route.matches(request.scope)[0] is not Match.NONE]
    return ", ".join(sorted({method for route in matching for method in getattr(route, "methods", None) or ()}))


async def _on_fault(request: Request, error: Exception) -> Response:
    _faults.log(
        logging.ERROR, "request_fault", key=type(error).__name__, exc_info=True, request_id=request_id_of(request.scope)
    )
    return _answered(request, problem_of(error))


_HANDLERS: dict[type[Exception], Any] = {
    Problem: _on_problem,
    RequestValidationError: _on_validation,
    HTTPException: _on_http,
    Exception: _on_fault,
}
