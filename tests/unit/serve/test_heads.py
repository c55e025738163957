"""Connections beyond those that a server may have, over TCP: idle ones give way, work is refused with a problem."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from http.client import HTTPConnection, HTTPResponse
from typing import Any

import pytest
import uvicorn

from hk_tick_collector.serve.heads import BoundedHttp
from hk_tick_collector.serve.server import Sparing
from tests.harness import wait_until

MOST = 3
PATIENCE_SEC = 20.0
LARGE_BYTES = 16_000_000  # more than a socket takes at once


class _Server:
    """uvicorn with a small limit; ``/slow`` answers once it is let."""

    def __init__(self) -> None:
        self.at_work = self.answers = 0
        self.may_end = threading.Event()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        config = uvicorn.Config(
            self._answer,
            http=BoundedHttp,
            interface="asgi3",
            lifespan="off",
            limit_concurrency=MOST,
            log_config=None,
            access_log=False,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]}, daemon=True)
        self._thread.start()
        wait_until(lambda: self._server.started, "the server")

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/slow":
            self.at_work += 1
            while not self.may_end.is_set():
                await asyncio.sleep(0.01)
        body = b"ok" if scope["path"] != "/large" else bytes(LARGE_BYTES)
        length = str(len(body)).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
        await send({"type": "http.response.body", "body": body})
        self.answers += 1

    @property
    def connections(self) -> int:
        return len(self._server.server_state.connections)

    def close(self) -> None:
        self.may_end.set()
        self._server.should_exit = True
        self._thread.join(PATIENCE_SEC)
        self._socket.close()


@pytest.fixture
def server() -> Iterator[_Server]:
    running = _Server()
    yield running
    running.close()


@pytest.fixture
def held() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def connect(server: _Server, held: ExitStack) -> socket.socket:
    return held.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_SEC))


def ask(server: _Server, held: ExitStack, path: str = "/") -> HTTPConnection:
    connection = HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE_SEC)
    held.callback(connection.close)
    connection.request("GET", path)
    return connection


def answered(connection: HTTPConnection) -> tuple[HTTPResponse, bytes]:
    response = connection.getresponse()
    return response, response.read()


def test_idle_connections_keep_nobody_out(server: _Server, held: ExitStack) -> None:
    idle = [connect(server, held) for _ in range(4 * MOST)]
    kept = ask(server, held)
    assert answered(kept)[1] == b"ok"
    for connection in idle[: 3 * MOST]:
        with suppress(ConnectionResetError):
            assert connection.recv(1) == b""
    for _ in range(MOST):  # a kept connection that asks for nothing gives way, too
        assert answered(ask(server, held))[1] == b"ok"
    wait_until(lambda: server.connections <= MOST, "no more than there may be")


def test_an_answer_that_is_still_on_its_way_is_not_cut(server: _Server, held: ExitStack) -> None:
    slow = ask(server, held, "/large")
    wait_until(lambda: server.answers == 1, "written by the application")
    strangers = [connect(server, held) for _ in range(2 * MOST)]
    for connection in strangers[:MOST]:
        with suppress(ConnectionResetError):
            assert connection.recv(1) == b"", "strangers go, who ask for nothing"
    assert len(answered(slow)[1]) == LARGE_BYTES


def test_work_beyond_the_limit_is_refused_with_a_problem(server: _Server, held: ExitStack) -> None:
    working = [ask(server, held, "/slow") for _ in range(MOST)]
    wait_until(lambda: server.at_work == MOST, "work")
    response, body = answered(ask(server, held))
    problem = json.loads(body)
    assert (response.status, response.headers["content-type"]) == (503, "application/problem+json")
    assert (problem["type"], problem["status"], problem["instance"]) == ("/problems/overloaded", 503, "/")
    assert (response.headers["retry-after"], response.headers["connection"]) == ("1", "close")
    assert problem["request_id"] == response.headers["x-request-id"]
    server.may_end.set()
    assert [answered(connection)[1] for connection in working] == [b"ok"] * MOST
    assert answered(ask(server, held))[0].status == 200


def test_what_is_no_request_is_answered_with_a_problem(server: _Server, held: ExitStack) -> None:
    stranger = connect(server, held)
    stranger.sendall(b"\x16\x03\x01 GET it\r\n\r\n")
    head, _, body = stranger.makefile("rb").read().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert json.loads(body)["type"] == "/problems/bad-request"


def test_a_line_that_strangers_can_cause_is_said_once_in_a_while() -> None:
    sparing = Sparing()

    def is_said(level: int, text: str) -> bool:
        return bool(sparing.filter(logging.LogRecord("uvicorn.error", level, "", 0, text, (), None)))

    assert [is_said(logging.WARNING, "Invalid HTTP request received.") for _ in range(3)] == [True, False, False]
    assert is_said(logging.WARNING, "Unsupported upgrade request.")
    assert [is_said(logging.INFO, "connection rejected (%d %s)") for _ in range(2)] == [True, False]
    assert all(is_said(logging.ERROR, "Exception in ASGI application") for _ in range(3))
