"""The documented nginx example, run by nginx: names, addresses, streams that are not held back, WebSocket."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
import uvicorn
import websockets.sync.client
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from tests.harness import wait_until
from tests.redis_server import free_port
from tests.serving import ApiServer, add_key
from tests.tickctl import record_day
from tests.ticks import DAY

EXAMPLE = Path(__file__).resolve().parents[2] / "deploy/nginx/hk-ticks.conf"
NAME = "ticks.example.org"
NGINX = shutil.which("nginx") or "/usr/sbin/nginx"


async def _events(_request: Request) -> StreamingResponse:
    """One event at once, and then nothing for longer than any test waits."""

    async def events() -> AsyncIterator[str]:
        yield "data: first\n\n"
        await asyncio.sleep(60)

    return StreamingResponse(events(), media_type="text/event-stream")


async def _socket(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_json(dict(websocket.headers))
    await websocket.close()


@contextlib.contextmanager
def live_server() -> Iterator[int]:
    """What sends and holds as the live channel does."""
    app = Starlette(routes=[Route("/v1/live/events", _events), WebSocketRoute("/v1/live", _socket)])
    port = free_port()
    server = uvicorn.Server(
        uvicorn.Config(app, port=port, log_level="warning", ws="websockets-sansio", timeout_graceful_shutdown=1)
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    wait_until(lambda: server.started, "the live server")
    yield port
    server.should_exit = True
    thread.join(30)


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, str]]:
    """nginx's port, and a key."""
    directory = tmp_path_factory.mktemp("nginx")
    record_day(directory / "HK", DAY)
    key = add_key(directory / "keys.json")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", f"/CN={NAME}", "-keyout", directory / "key.pem", "-out", directory / "cert.pem"],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    api = ApiServer(
        directory / "api", directory / "HK", API_KEYS_FILE=directory / "keys.json", API_HOSTS=NAME,
        API_TRUSTED_PROXIES="127.0.0.1",
    )  # fmt: skip
    port = free_port()
    with live_server() as live_port:
        text = EXAMPLE.read_text()
        for before, after in {
            "127.0.0.1:8877": f"127.0.0.1:{api.port}", "127.0.0.1:8878": f"127.0.0.1:{live_port}",
            "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
            "/etc/ssl/certs/ticks.example.org.pem": f"{directory}/cert.pem",
            "/etc/ssl/private/ticks.example.org.key": f"{directory}/key.pem",
        }.items():  # fmt: skip
            assert before in text
            text = text.replace(before, after)
        temporary = "".join(
            f"{kind}_temp_path {directory}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        whole = directory / "nginx.conf"
        whole.write_text(
            f"daemon off; pid {directory}/pid; error_log stderr; events {{}}\nuser root;\n"
            f"http {{ access_log off;\n{temporary}{text} }}\n"
        )
        nginx = subprocess.Popen([NGINX, "-c", whole, "-p", directory], stderr=subprocess.DEVNULL)
        wait_until(lambda: nginx.poll() is not None or _answers(port), "nginx")
        assert nginx.poll() is None
        yield port, key
        nginx.terminate()
        nginx.wait(30)
    assert "Traceback" not in api.output
    api.end()


def _answers(port: int) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return client(port).get("/v1/healthz").status_code == 200
    return False


def client(port: int, key: str = "", **headers: str) -> httpx.Client:
    if key:
        headers["Authorization"] = f"Bearer {key}"
    return httpx.Client(
        base_url=f"https://127.0.0.1:{port}", headers={"Host": NAME, **headers}, verify=False, timeout=30
    )


def test_the_api_answers_by_its_public_name_alone(proxy: tuple[int, str]) -> None:
    port, key = proxy
    assert client(port, key).get("/v1/days").json()["data"][0]["day"] == DAY
    assert client(port).get("/v1/days").status_code == 401
    assert client(port, key, Host="evil.example").get("/v1/days").status_code == 403


def test_a_large_answer_comes_whole(proxy: tuple[int, str]) -> None:
    port, key = proxy
    answer = client(port, key).get("/v1/ticks", params={"symbols": "all", "day": DAY, "format": "ndjson"})
    assert answer.status_code == 200
    assert len(answer.text.splitlines()) > 100


def test_an_event_is_not_held_back(proxy: tuple[int, str]) -> None:
    port, _ = proxy
    began = time.monotonic()
    with client(port).stream("GET", "/v1/live/events") as answer:
        assert next(answer.iter_lines()) == "data: first"
    assert time.monotonic() - began < 30, "it waited for the end"


def test_a_websocket_comes_through_and_tells_who_asks(proxy: tuple[int, str]) -> None:
    port, _ = proxy
    unchecked = ssl.create_default_context()
    unchecked.check_hostname, unchecked.verify_mode = False, ssl.CERT_NONE
    with websockets.sync.client.connect(
        f"wss://{NAME}:{port}/v1/live", ssl=unchecked, sock=_socket_to(port), proxy=None
    ) as connection:
        headers = connection.recv(timeout=30)
    assert f'"host":"{NAME}"' in str(headers).replace(": ", ":")
    assert '"x-forwarded-for":"127.0.0.1"' in str(headers).replace(": ", ":")


def test_wrong_keys_are_counted_by_the_readers_address_which_no_header_forges(proxy: tuple[int, str]) -> None:
    port, key = proxy
    wrong = key[:-8] + "AAAAAAAA"
    statuses = [
        client(port, wrong, **{"X-Forwarded-For": f"10.0.0.{n}"}).get("/v1/days").status_code for n in range(15)
    ]
    assert statuses[0] == 401
    assert statuses[-1] == 429


def _socket_to(port: int) -> socket.socket:

    return socket.create_connection(("127.0.0.1", port))
