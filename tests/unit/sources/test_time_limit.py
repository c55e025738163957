"""Whoever answers one byte after another holds nobody up: with real bytes over TCP."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from hk_tick_collector.core.clock import SystemClock
from hk_tick_collector.core.errors import FeedError
from hk_tick_collector.sources.remote import asking
from hk_tick_collector.sources.shioaji import gateway
from tests.harness import DEADLINE_SEC
from tests.unit.sources.dripping import Dripping

LIMIT_SEC = 0.3
HEADS = {
    "status line": ("http", b"HTTP"),
    "headers": ("http", b"HTTP/1.1 200 OK\r\nX-Any: x"),
    "body": ("http", b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n{"),
    "body without end": ("http", b"HTTP/1.1 200 OK\r\n\r\n{"),
    "parts": ("http", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
    "greeting of TLS": ("https", b"\x16\x03\x03\x40\x00"),  # a message of 16 KB
}


@pytest.fixture
def dripping(request: pytest.FixtureRequest) -> Iterator[str]:
    scheme, head = HEADS[request.param]
    with closing(made := Dripping(head, b"2")):
        yield f"{scheme}://{made.address}"


def rest(address: str) -> None:
    asking.Rest(address, "Far", "FAR_API").ask("/token?key=a-secret", {})


def gateway_answer(address: str) -> None:
    gateway.Gateway(address, None, SystemClock()).ask("GET", "/health", timeout_sec=LIMIT_SEC)


def gateway_stream(address: str) -> None:
    gateway.Gateway(address, None, SystemClock()).listen("/stream", LIMIT_SEC)


def words_of(ask: Callable[[str], None], address: str) -> str:
    """What is raised. On a thread of its own: without a limit it would be there for ever."""
    told: list[str] = []

    def run() -> None:
        try:
            ask(address)
        except FeedError as exc:
            told.append(str(exc))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(DEADLINE_SEC)
    assert not thread.is_alive(), "it is held up"
    return told[0]


@pytest.mark.parametrize("dripping", HEADS, indirect=True)
def test_a_rest_interface_that_drips_is_given_up(dripping: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "REQUEST_SEC", LIMIT_SEC)
    assert words_of(rest, dripping) == "/token was not answered within 0.3 s"


@pytest.mark.parametrize("dripping", HEADS, indirect=True)
def test_a_gateway_that_drips_is_given_up(dripping: str) -> None:
    assert words_of(gateway_answer, dripping) == "the gateway did not answer /health in 0.3 s"


@pytest.mark.parametrize("dripping", ["status line", "headers", "greeting of TLS"], indirect=True)
def test_a_stream_whose_beginning_drips_is_given_up(dripping: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway, "ANSWER_SEC", LIMIT_SEC)
    assert words_of(gateway_stream, dripping) == "the gateway did not answer /stream in 0.3 s"


def test_what_is_in_time_is_an_answer() -> None:
    body = b'{"fine": true}'
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    with closing(Dripping(head)) as server:
        assert asking.Rest(f"http://{server.address}", "Far", "FAR_API").ask("/x", {}) == {"fine": True}
