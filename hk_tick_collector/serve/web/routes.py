"""The dashboard's addresses: ``/ui/`` and its files, which need no key, and the session, which takes one.

A browser sends no header of its own accord, so the key that a person pastes comes back as a cookie: no script can read
it, no other site makes the browser send it, and it ends after 12 hours, or when the key does. ``auth.credential_of``
takes it for reading alone.
"""

from __future__ import annotations

from typing import Annotated

import orjson
from fastapi import APIRouter, Body, Request
from starlette.responses import RedirectResponse, Response

from hk_tick_collector.serve.auth import SESSION_COOKIE, SESSION_SEC, address_of
from hk_tick_collector.serve.problems import Problem
from hk_tick_collector.serve.web.files import StaticFile, read_files

CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
_MAX_KEY_CHARS = 200
READ = ["GET", "HEAD"]  # the server leaves the body of a HEAD out by itself

router = APIRouter(include_in_schema=False)
_files: dict[str, StaticFile] = {}


def files() -> dict[str, StaticFile]:
    """All of them, read at the first call."""
    if not _files:
        _files.update(read_files())
    return _files


@router.api_route("/", methods=READ)
async def root() -> Response:
    """Whoever types the server's address wants to see something."""
    return RedirectResponse("ui/")


@router.api_route("/ui", methods=READ)
async def without_slash() -> Response:
    """The page's addresses are relative."""
    return RedirectResponse("ui/")


@router.api_route("/ui/{path:path}", methods=READ)
async def file(request: Request, path: str) -> Response:
    """A file of the dashboard."""
    wanted = files().get(path or "index.html")
    if wanted is None:
        raise Problem("not-found")
    headers = {
        "ETag": wanted.etag, "Cache-Control": "no-cache", "Vary": "Accept-Encoding", "Content-Security-Policy": CSP,
    }  # fmt: skip
    if wanted.etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    body = wanted.body
    if "gzip" in request.headers.get("accept-encoding", ""):
        body, headers["Content-Encoding"] = wanted.packed, "gzip"
    return Response(body, headers=headers, media_type=wanted.media_type)


@router.post("/v1/session")
async def log_in(
    request: Request, key: Annotated[str, Body(embed=True, min_length=1, max_length=_MAX_KEY_CHARS)]
) -> Response:
    """Take a key; the cookie that stands for it. Says which key it is, as ``GET`` does."""
    admitted = request.app.state.service.gate.admit(key, address_of(request.scope), "read")
    response = _session_answer(admitted.id, admitted.name)
    is_tls = request.url.scheme == "https"
    response.set_cookie(
        SESSION_COOKIE, key, max_age=SESSION_SEC, path=_cookie_path(request), secure=is_tls, httponly=True,
        samesite="strict",
    )  # fmt: skip
    return response


@router.get("/v1/session")
async def session(request: Request) -> Response:
    """Whose session it is; 401 when there is none."""
    key, _ = request.app.state.service.gate.admit_request(request.scope, "read")
    return _session_answer(key.id, key.name)


@router.delete("/v1/session")
async def log_out(request: Request) -> Response:
    """Forget the cookie."""
    response = Response(status_code=204)
    response.delete_cookie(SESSION_COOKIE, path=_cookie_path(request), httponly=True, samesite="strict")
    return response


def _cookie_path(request: Request) -> str:
    return f"{request.scope.get('root_path', '')}/v1"


def _session_answer(key_id: str, name: str) -> Response:
    body = orjson.dumps({"key": key_id, "name": name})
    return Response(body, headers={"Cache-Control": "no-store"}, media_type="application/json")
