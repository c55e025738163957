"""Errors of the HTTP programs as RFC 9457 problem documents: what happened, and what to do.

Nothing that a document says names a path, a secret or our code: ``problem_of`` turns every error into one of ``KINDS``,
and what is not known to be the client's affair is ``internal``, with a ``request_id`` by which the log has the rest.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any, NamedTuple

from hk_tick_collector.core.errors import (
    CopiesUnavailable,
    InputError,
    NoData,
    StoreBusy,
    StoreCorrupt,
    StoreUnavailable,
    TooMuchAtOnce,
)
from hk_tick_collector.core.text import cut, printable

MEDIA_TYPE = "application/problem+json"
_TEXT_CHARS = 1000
# Not our own addresses, which a text may name.
_PATH = re.compile(r"(?<![\w.:/}])/(?!v1/|docs\b|problems/)(?:[^\s/:;,'\"]+/)*([^\s/:;,'\"]*)")

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Kind(NamedTuple):
    """What a slug stands for."""

    status: int
    title: str
    hint: str


KINDS: dict[str, Kind] = {
    "bad-parameter": Kind(400, "A parameter is wrong", "correct what errors names; /docs describes each parameter"),
    "bad-request": Kind(400, "This is no HTTP request", "send HTTP/1.1, as every HTTP library does"),
    "bad-sql": Kind(
        400,
        "The SQL is wrong or not allowed",
        "write one SELECT over ticks, coverage, gaps, symbols, books, quotes, brokers, snapshots and all_snapshots",
    ),
    "bad-cursor": Kind(400, "The cursor does not belong to this query", "ask again without cursor"),
    "unauthorized": Kind(401, "A key is needed", "send the header Authorization: Bearer <key>"),
    "forbidden": Kind(403, "This is not allowed", "ask who runs the server for a key with this right"),
    "not-found": Kind(404, "There is no such address", "/docs lists all addresses"),
    "unknown-symbol": Kind(404, "The symbol is not recorded", "GET /v1/days/{day}/symbols lists what is"),
    "no-data": Kind(404, "There is nothing to show", "GET /v1/days lists what is recorded"),
    "method-not-allowed": Kind(405, "The address does not take this method", "the header Allow says which it takes"),
    "unsupported-format": Kind(406, "There is no such format", "use format=json, ndjson, csv, arrow or parquet"),
    "not-proven": Kind(409, "Not everything asked for is proven complete", "see coverage, or ask without require"),
    "idempotency-conflict": Kind(
        409, "The Idempotency-Key was used for another signal", "give each signal an Idempotency-Key of its own"
    ),
    "day-packed": Kind(409, "The day is packed away", "ask who runs the server to bring it back: hk-tickctl restore"),
    "not-listening": Kind(409, "The recorder takes no such request", "restart its unit where it runs"),
    "cursor-gone": Kind(410, "The position has no day file any more", "read that day with GET /v1/ticks"),
    "too-large": Kind(413, "That is too much at once", "ask for fewer symbols or a shorter time"),
    "range-not-satisfiable": Kind(416, "The file has no such range", "see the header Content-Range"),
    "rate-limited": Kind(429, "Too many requests", "wait as long as the header Retry-After says"),
    "internal": Kind(500, "The server failed", "tell who runs the server the request_id; the log has it"),
    "store-damaged": Kind(500, "A day's file is damaged", "tell who runs the server: hk-tickctl doctor names the file"),
    "store-unreadable": Kind(503, "The files cannot be read", "tell who runs the server: hk-tickctl doctor says why"),
    "store-busy": Kind(503, "The files cannot be read now", "ask again after Retry-After seconds"),
    "overloaded": Kind(503, "The server has too much to do", "ask again after Retry-After seconds"),
    "timeout": Kind(504, "The answer took too long", "ask for fewer symbols or a shorter time"),
}


class FieldError(NamedTuple):
    """One parameter, and what is wrong with it."""

    field: str
    message: str


class Problem(Exception):
    """What a request ends with instead of an answer."""

    def __init__(
        self,
        slug: str,
        detail: str = "",
        *,
        hint: str | None = None,
        errors: Iterable[FieldError] = (),
        headers: Mapping[str, str] | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail or KINDS[slug].title)
        self.slug = slug
        self.kind = KINDS[slug]
        self.detail = shown(detail)
        self.hint = self.kind.hint if hint is None else shown(hint)
        self.errors = tuple(FieldError(error.field, shown(error.message)) for error in errors)
        self.headers = dict(headers or {})
        self.more = dict(more or {})
        if self.kind.status == 503:
            self.headers.setdefault("Retry-After", "1")
        if self.kind.status == 401:
            self.headers.setdefault("WWW-Authenticate", 'Bearer realm="hk-ticks"')

    def document(self, instance: str, request_id: str) -> dict[str, Any]:
        """The body. ``instance``: the path that was asked for, without its query."""
        return {
            "type": f"/problems/{self.slug}",
            "title": self.kind.title,
            "status": self.kind.status,
            "detail": self.detail or self.kind.title,
            "instance": printable(cut(instance, _TEXT_CHARS)),
            "hint": self.hint,
            "request_id": request_id,
            "errors": [error._asdict() for error in self.errors],
            **self.more,
        }

    def message(self, instance: str, request_id: str) -> tuple[bytes, list[tuple[bytes, bytes]]]:
        """The body and all headers."""
        body = json.dumps(self.document(instance, request_id), ensure_ascii=False).encode("utf-8", "backslashreplace")
        headers = {
            "content-type": MEDIA_TYPE,
            "content-length": str(len(body)),
            "cache-control": "no-store",
            "x-request-id": request_id,
            **{name.lower(): value for name, value in self.headers.items()},
        }
        return body, [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]


def new_request_id() -> str:
    """A name for a request, and no secret."""
    return f"{random.getrandbits(64):016x}"


def shown(text: str) -> str:
    """A text that may go out: bounded, printable, and of every path only the last part."""
    return printable(cut(_PATH.sub(r"\1", text), _TEXT_CHARS), "\n")


# The first that fits, as the errors of the boxes below are derived from each other.
_SLUGS: tuple[tuple[type[BaseException], str], ...] = (
    (InputError, "bad-parameter"),
    (NoData, "no-data"),
    (TooMuchAtOnce, "too-large"),
    (StoreCorrupt, "store-damaged"),
    (StoreBusy, "store-busy"),
    (StoreUnavailable, "store-unreadable"),
    (CopiesUnavailable, "store-unreadable"),
)
DAYS_LISTED = ("hk.days()", "GET /v1/days")  # as the Python API names it, and as HTTP does
_FOR_CLIENTS = (
    "bad-parameter",
    "no-data",
    "unknown-symbol",
    "not-proven",
    "day-packed",
    "too-large",
)  # their texts name no file


def problem_of(error: BaseException) -> Problem:
    """The problem that an error is for a client."""
    if isinstance(error, Problem):
        return error
    slug = getattr(error, "slug", None)  # the Python API's errors have the same names
    if slug not in KINDS:
        slug = next((slug for kind, slug in _SLUGS if isinstance(error, kind)), "internal")
    text = str(error.args[0]) if slug in _FOR_CLIENTS and error.args else ""
    hint = (getattr(error, "hint", "") or None) if slug in ("day-packed", "no-data") else None
    if hint is not None:
        hint = hint.replace(*DAYS_LISTED)
    return Problem(slug, text, hint=hint)


async def send_problem(scope: Mapping[str, Any], send: Send, problem: Problem, request_id: str) -> None:
    """Answer an HTTP request, or a WebSocket's handshake, with a problem; for code that has no framework at hand."""
    body, headers = problem.message(str(scope.get("path", "/")), request_id)
    if scope["type"] == "websocket":
        if "websocket.http.response" not in (scope.get("extensions") or {}):
            await send({"type": "websocket.close", "code": 1008})
            return
        start, rest = "websocket.http.response.start", "websocket.http.response.body"
    else:
        start, rest = "http.response.start", "http.response.body"
    await send({"type": start, "status": problem.kind.status, "headers": headers})
    await send({"type": rest, "body": b"" if scope.get("method") == "HEAD" else body})
