"""Whoever answers one byte after another over HTTP holds nobody up, whoever asks: with real bytes over TCP."""

from __future__ import annotations

import ast
import contextlib
import socket
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from hk_tick_collector.alert import discord, post, targets, telegram
from hk_tick_collector.cli import screen_sources
from hk_tick_collector.clickhouse import connection
from hk_tick_collector.clickhouse.address import Address
from hk_tick_collector.client import remote
from hk_tick_collector.client.api import Recordings
from hk_tick_collector.client.errors import ServerError
from hk_tick_collector.core.clock import SystemClock
from hk_tick_collector.core.errors import FeedError, RecorderError
from hk_tick_collector.core.paced import paced_client
from hk_tick_collector.sources.gexbot import copies
from hk_tick_collector.sources.gexbot.access import Access
from tests.harness import DEADLINE_SEC
from tests.unit.sources.dripping import Dripping

PACKAGE = Path(copies.__file__).resolve().parents[2]
LIMIT_SEC = 0.3
LETTER = targets.Letter("1", "title", "text", {})
BEGINNINGS = {
    "status line": ("http", b"HTTP"),
    "headers": ("http", b"HTTP/1.1 200 OK\r\nX-Any: x"),
    "greeting of TLS": ("https", b"\x16\x03\x03\x40\x00"),  # a message of 16 KB
}
BODIES = {
    "body": ("http", b"HTTP/1.1 200 OK\r\nContent-Length: 999999\r\n\r\n1"),
    "body without end": ("http", b"HTTP/1.1 200 OK\r\n\r\n1"),
    "a part's own header": ("http", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;"),
}


@pytest.fixture(autouse=True)
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (targets, discord, telegram, post):
        monkeypatch.setattr(module, "SEND_SEC", LIMIT_SEC)
    monkeypatch.setattr(targets, "APPRISE_SEC", LIMIT_SEC)
    monkeypatch.setattr(copies, "READ_SEC", LIMIT_SEC)
    monkeypatch.setattr(remote, "GRACE_SEC", LIMIT_SEC)
    monkeypatch.setattr(screen_sources, "ASK_SEC", LIMIT_SEC)


def webhook(url: str) -> None:
    targets.Webhook(url, None).send(LETTER)


def channel(url: str) -> None:
    discord.Discord(url, None).send(LETTER)


def bot(url: str) -> None:
    settings = targets.TelegramSettings.model_validate({"token": "12345:abcdef", "chat": 1})
    api = telegram.TelegramApi(settings)
    api._url = url
    api.call("getUpdates", LIMIT_SEC)


def phone(url: str) -> None:
    targets.Apprise(url.replace("http", "json", 1)).send(LETTER)


def screen(url: str) -> None:
    screen_sources.RemoteSource(url, None)


def engine(url: str) -> None:
    connection.ClickHouse(Address(url, "hk"), timeout_sec=LIMIT_SEC).run("SELECT 1")


def engine_stream(url: str) -> None:
    with connection.ClickHouse(Address(url, "hk"), timeout_sec=LIMIT_SEC).stream("SELECT 1") as parts:
        for _ in parts:
            pass


def engine_insert(url: str) -> None:
    connection.ClickHouse(Address(url, "hk"), timeout_sec=LIMIT_SEC).insert("ticks", b"x" * 200_000)


def days_elsewhere(url: str) -> None:
    remote.Server(url, timeout_sec=LIMIT_SEC, tries=1).days()


def ticks_elsewhere(url: str) -> None:
    Recordings(remote.Server(url, timeout_sec=LIMIT_SEC, tries=1)).load("HK.00700", "20261127")


class Late(Dripping):
    """It answers when it is told to, and counts the questions."""

    def __init__(self) -> None:
        self.may_answer, self.asked = threading.Event(), 0
        super().__init__(b"")

    def _say(self, line: socket.socket) -> None:
        with contextlib.suppress(OSError), line:
            line.recv(65_536)
            self.asked += 1
            self.may_answer.wait(DEADLINE_SEC)
            line.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


def test_a_letter_that_a_slow_service_takes_after_all_is_not_sent_again() -> None:
    with closing(Late()) as server:
        target = targets.Apprise(f"json://{server.address}/?rto={DEADLINE_SEC}")
        for words in ("no answer within", "not answered yet"):
            with pytest.raises(targets.NotSent, match=words):
                target.send(LETTER)
        server.may_answer.set()
        assert target._at_work is not None
        target._at_work.join(DEADLINE_SEC)
        target.send(LETTER)
        assert server.asked == 1
        target.send(replace(LETTER, id="2"))
        assert server.asked == 2


@pytest.fixture
def place_of_a_file(tmp_path: Path) -> Callable[[str], None]:
    key = tmp_path / "key"
    key.write_text("key=123456789012345678901234567890123456\n")
    key.chmod(0o600)

    def ask(url: str) -> None:
        copies.address_of(Access(url, key, SystemClock()), "20261127", "US.SPX", "classic", "gex_full")

    return ask


def what_is_raised(ask: Callable[[str], None], url: str) -> Exception:
    """On a thread of its own: without a limit it would be there for ever."""
    raised: list[Exception] = []

    def run() -> None:
        try:
            ask(url)
        except Exception as exc:
            raised.append(exc)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(DEADLINE_SEC)
    assert not thread.is_alive(), "it is held up"
    assert raised, "a part was taken for the whole"
    return raised[0]


def asked(ask: Callable[[str], None], beginning: tuple[str, bytes]) -> Exception:
    scheme, head = beginning
    with closing(Dripping(head, b"2")) as server:
        return what_is_raised(ask, f"{scheme}://{server.address}")


@pytest.mark.parametrize("beginning", BEGINNINGS.values(), ids=BEGINNINGS)
@pytest.mark.parametrize(
    ("ask", "error"),
    [
        (webhook, targets.NotSent), (channel, targets.NotSent), (bot, targets.NotSent), (phone, targets.NotSent),
        (screen, RecorderError), (engine, connection.EngineLost), (engine_insert, connection.EngineLost),
        (days_elsewhere, ServerError), (ticks_elsewhere, ServerError),
    ],
)  # fmt: skip
def test_who_is_greeted_byte_by_byte_goes_on(
    ask: Callable[[str], None], error: type[Exception], beginning: tuple[str, bytes]
) -> None:
    assert isinstance(asked(ask, beginning), error)


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
@pytest.mark.parametrize(
    ("ask", "error"),
    [
        (channel, targets.NotSent), (bot, targets.NotSent), (screen, RecorderError), (engine, connection.EngineLost),
        (engine_stream, connection.EngineLost), (days_elsewhere, ServerError), (ticks_elsewhere, ServerError),
    ],
)  # fmt: skip
def test_who_is_answered_byte_by_byte_goes_on(
    ask: Callable[[str], None], error: type[Exception], body: tuple[str, bytes]
) -> None:
    assert isinstance(asked(ask, body), error)


@pytest.mark.parametrize("beginning", [*BEGINNINGS.values(), *BODIES.values()], ids=[*BEGINNINGS, *BODIES])
def test_the_address_of_a_days_file_that_drips_is_given_up(
    place_of_a_file: Callable[[str], None], beginning: tuple[str, bytes]
) -> None:
    assert isinstance(asked(place_of_a_file, beginning), FeedError)


def test_a_ping_that_is_answered_byte_by_byte_ends(caplog: pytest.LogCaptureFixture) -> None:
    def ping(url: str) -> None:
        settings = targets.DeadMan.model_validate({"url": url})
        post.DeadManPing(settings, lambda: True, threading.Event()).ping()
        raise TimeoutError(caplog.messages[-1])

    assert "ReadTimeout" in str(asked(ping, BEGINNINGS["headers"]))


def test_who_takes_nothing_of_a_large_letter_is_given_up() -> None:
    class Deaf(Dripping):
        def _say(self, line: Any) -> None:
            line.setsockopt(1, 8, 4096)  # SO_RCVBUF
            with line:
                while not self._closed.wait(0.02):
                    line.recv(16)

    def send(url: str) -> None:
        with paced_client(timeout=LIMIT_SEC) as client:
            client.post(url, content=b"x" * (32 << 20))

    with closing(Deaf(b"")) as server:
        assert isinstance(what_is_raised(send, f"http://{server.address}"), httpx.WriteTimeout)


def test_a_slow_answer_that_moves_is_read_to_its_end_and_the_readers_own_time_is_not_counted() -> None:
    body = b"y" * 60_000

    class Slow(Dripping):
        def _say(self, line: Any) -> None:
            with line:
                for _ in range(2):  # the second one on the kept connection
                    line.recv(65_536)
                    line.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body))
                    for start in range(0, len(body), 6000):
                        self._closed.wait(LIMIT_SEC / 3)
                        line.sendall(body[start : start + 6000])

    with closing(Slow(b"")) as server, paced_client(timeout=LIMIT_SEC) as client:
        for pause_sec in (0.0, LIMIT_SEC / 2):
            started_sec, came = time.monotonic(), b""
            with client.stream("GET", f"http://{server.address}") as answer:
                for part in answer.iter_bytes():
                    came += part
                    time.sleep(pause_sec)
            assert came == body
            assert time.monotonic() - started_sec > LIMIT_SEC


def test_nobody_has_a_client_of_httpx_without_it() -> None:
    names = {f"httpx.{name}" for name in ("Client", "get", "post", "put", "stream", "request")}
    owners = [
        path.name
        for path in PACKAGE.rglob("*.py")
        if b"httpx" in (source := path.read_bytes())
        for call in ast.walk(ast.parse(source))
        if isinstance(call, ast.Call) and ast.unparse(call.func) in names
    ]
    assert owners == ["paced.py"]
