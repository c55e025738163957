"""Who is let in, for both HTTP programs: ``Guard`` before anything else, ``Gate`` where a right is needed.

``Guard`` is ASGI middleware: every request gets an id, a ``Host`` that is not ours is refused (DNS rebinding would let
a web page reach a server on the loopback address), so is an ``Origin`` that is neither ours nor listed, and a body that
is too long ends. ``Gate`` checks the key: wrong ones are counted by address, and after ten in a minute nothing is
looked up any more.

An address is what uvicorn says: the peer's, or what a proxy of ``API_TRUSTED_PROXIES`` forwards (``server.py``).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import urlsplit

from hk_tick_collector.serve.keys import ANONYMOUS, Key, KeyRing
from hk_tick_collector.serve.limits import Allowance, MinuteLimit
from hk_tick_collector.serve.problems import Problem, Send, new_request_id, send_problem
from hk_tick_collector.serve.settings import ServeSettings

FAILED_KEYS_PER_MIN = 10
MAX_BODY_BYTES = 1 << 20
BODY_SEC = 15.0  # for each piece of a body
MAX_QUERY_BYTES = 16_384
SESSION_COOKIE = "hk_key"
SESSION_SEC = 12 * 3600
_COOKIE_RIGHTS = ("read", "live", "sql")  # what the dashboard does; a signal is sent by a program, with a header
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
SECURITY_HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
}

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


def header(scope: Mapping[str, Any], name: bytes) -> str | None:
    """A request's header; None when it is absent. A header that is there twice is taken as one that means nothing."""
    values = [value for key, value in scope["headers"] if key == name]
    if not values:
        return None
    return values[0].decode("latin-1") if len(values) == 1 else ""


def own_names(settings: ServeSettings) -> frozenset[str]:
    """The host names by which clients may call the server, in small letters."""
    named = settings.api_host.lower()
    wild = named in ("0.0.0.0", "::")  # noqa: S104 - compared, not bound
    return frozenset([*LOOPBACK_NAMES, *settings.api_hosts, *(() if wild else (named,))])


def host_name(value: str | None) -> str | None:
    """The name in a ``Host`` header, without its port; None when it is no such header."""
    if not value or any(sign in value for sign in "/@?#\\, "):
        return None
    try:
        parts = urlsplit(f"//{value}")
        _ = parts.port  # ValueError when it is no number
        return parts.hostname
    except ValueError:
        return None


def is_own_host(value: str | None, names: Iterable[str]) -> bool:
    """Is the ``Host`` of a request one of ours?"""
    name = host_name(value)
    return name is not None and name.rstrip(".") in names


def is_allowed_origin(origin: str | None, host: str | None, listed: Iterable[str]) -> bool:
    """May a page of this ``Origin`` ask? No page at all (None) may; ours (same host and port), and those listed."""
    if origin is None:
        return True
    lowered = origin.lower()
    return lowered in listed or (bool(host) and lowered.partition("://")[2] == str(host).lower())


def bearer_of(scope: Mapping[str, Any]) -> str | None:
    """The key in ``Authorization: Bearer``. None when there is none; "" for another scheme, or two headers."""
    value = header(scope, b"authorization")
    if value is None:
        return None
    scheme, _, rest = value.partition(" ")
    return rest.strip() if scheme.lower() == "bearer" else ""


def credential_of(scope: Mapping[str, Any], right: str) -> str | None:
    """The key that a request brings: in ``Authorization``, else, for reading, in the dashboard's cookie.

    A browser sends the cookie with whatever it is told to load, so a request that another page began has none for us;
    one that would change something had its ``Origin`` checked by ``Guard`` already.
    """
    bearer = bearer_of(scope)
    if bearer is not None or right not in _COOKIE_RIGHTS:
        return bearer
    if (header(scope, b"sec-fetch-site") or "same-origin") not in ("same-origin", "none"):
        return None
    cookies = SimpleCookie()
    with contextlib.suppress(CookieError):
        cookies.load(header(scope, b"cookie") or "")
    morsel = cookies.get(SESSION_COOKIE)
    return morsel.value if morsel is not None else None


def address_of(scope: Mapping[str, Any]) -> str:
    """The client's address; what cannot be told apart shares one."""
    client = scope.get("client")
    return str(client[0]) if client else "unknown"


def request_id_of(scope: Mapping[str, Any]) -> str:
    """The id that ``Guard`` gave the request."""
    return str(scope.get("state", {}).get("request_id", ""))


class Guard:
    """ASGI middleware, the outermost one: ids, ``Host``, ``Origin``, sizes, headers of each answer."""

    def __init__(self, app: App, settings: ServeSettings, *, max_body_bytes: int = MAX_BODY_BYTES) -> None:
        self._app = app
        self._names = own_names(settings)
        self._origins = frozenset(settings.api_origins)
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        request_id = new_request_id()
        scope.setdefault("state", {})["request_id"] = request_id
        problem = self._refused(scope)
        if problem is not None:
            await send_problem(scope, send, problem, request_id)
            return
        # A live connection lasts, and its messages are bounded by uvicorn.
        bounded = self._bounded(receive) if scope["type"] == "http" else receive
        await self._app(scope, bounded, _with_headers(send, request_id))

    def _refused(self, scope: Scope) -> Problem | None:
        host = header(scope, b"host")
        if not is_own_host(host, self._names):
            return Problem(
                "forbidden", "this server is not called that", hint="call it by its own name, or add it to API_HOSTS"
            )
        if not is_allowed_origin(header(scope, b"origin"), host, self._origins):
            return Problem("forbidden", "a page of another origin asks", hint="add the origin to API_ORIGINS")
        if len(scope.get("query_string", b"")) > MAX_QUERY_BYTES:
            return Problem("too-large", f"the query is longer than {MAX_QUERY_BYTES} bytes", hint="POST it as JSON")
        length = header(scope, b"content-length") or "0"
        if not length.isascii() or not length.isdigit() or int(length[:20]) > self._max_body_bytes:
            return Problem("too-large", f"the body is longer than {self._max_body_bytes} bytes")
        return None

    def _bounded(self, receive: Receive) -> Receive:
        """A body that grows beyond the limit is a Problem; one of which a piece is late, as if the client had gone."""
        left, is_whole = self._max_body_bytes, False

        async def receive_bounded() -> MutableMapping[str, Any]:
            nonlocal left, is_whole
            try:
                async with asyncio.timeout(None if is_whole else BODY_SEC):
                    message = await receive()
            except TimeoutError:
                return {"type": "http.disconnect"}
            if message["type"] == "http.request":
                is_whole = not message.get("more_body", False)
                left -= len(message.get("body", b""))
                if left < 0:
                    raise Problem("too-large", f"the body is longer than {self._max_body_bytes} bytes")
            return message

        return receive_bounded


def _with_headers(send: Send, request_id: str) -> Send:
    added = [(name.encode(), value.encode()) for name, value in SECURITY_HEADERS.items()]
    added.append((b"x-request-id", request_id.encode()))

    async def send_with_headers(message: MutableMapping[str, Any]) -> None:
        if message["type"] in ("http.response.start", "websocket.http.response.start"):
            there = {name for name, _ in message.get("headers", ())}
            message["headers"] = [*message.get("headers", ()), *(pair for pair in added if pair[0] not in there)]
        await send(message)

    return send_with_headers


class Gate:
    """The check of keys. One for each program; its numbers are by address and by key."""

    def __init__(self, settings: ServeSettings, ring: KeyRing) -> None:
        self.ring = ring
        self._is_open = settings.api_anonymous and settings.is_loopback
        self._failed = MinuteLimit()
        self._requests = MinuteLimit()
        self.rows = MinuteLimit()

    def admit(self, bearer: str | None, address: str, scope: str) -> Key:
        """The key, when it is good and has this right; else a Problem: 401, 403 or 429."""
        key = self._known(bearer, address)
        if not key.may(scope):
            raise Problem("forbidden", f"the key {key.id} has no scope {scope}")
        return key

    def admit_request(self, scope: Mapping[str, Any], right: str) -> tuple[Key, Allowance]:
        """As ``admit``, for a request, which counts; and what the key has left."""
        key = self.admit(credential_of(scope, right), address_of(scope), right)
        allowance = self._requests.take(key.id, key.limits.requests_per_min)
        if not allowance.is_allowed:
            raise limited(allowance, f"the key {key.id} may ask {allowance.limit} times a minute")
        return key, allowance

    def check_failed(self, address: str) -> None:
        """A Problem, 429, when too many wrong keys or signatures came from an address."""
        failed = self._failed.take(address, FAILED_KEYS_PER_MIN, 0)
        if failed.remaining < 1:
            raise limited(failed, "too many wrong keys from this address")

    def count_failed(self, address: str) -> None:
        """One more wrong key or signature."""
        self._failed.charge(address, 1)

    def _known(self, bearer: str | None, address: str) -> Key:
        if bearer is None:
            if self._is_open:
                return ANONYMOUS
            raise Problem("unauthorized")
        self.check_failed(address)
        key = self.ring.check(bearer)
        if key is None:
            self.count_failed(address)
            raise Problem("unauthorized", "the key is not known, or its time is over")
        return key


def limited(allowance: Allowance, detail: str) -> Problem:
    """The problem of a limit that was reached."""
    return Problem(
        "rate-limited", detail, headers={"Retry-After": str(allowance.reset_sec), **limit_headers(allowance)}
    )


def limit_headers(allowance: Allowance) -> dict[str, str]:
    """What a key has left, as the IETF's draft of rate limit headers writes it."""
    return {
        "RateLimit-Policy": f'"requests";q={allowance.limit};w=60',
        "RateLimit": f'"requests";r={allowance.remaining};t={allowance.reset_sec}',
    }
