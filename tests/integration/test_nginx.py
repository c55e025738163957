"""The documented nginx example, run by nginx: names, addresses, streams that are not held back, WebSocket."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import websockets.sync.client
from websockets.typing import Subprotocol

from tests.harness import wait_until
from tests.redis_server import free_port
from tests.serving import ApiServer, add_key
from tests.tickctl import record_day
from tests.ticks import DAY

EXAMPLE = Path(__file__).resolve().parents[2] / "deploy/nginx/hk-ticks.conf"
NAME = "ticks.example.org"
NGINX = shutil.which("nginx") or "/usr/sbin/nginx"


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
    live = ApiServer(
        directory / "live", directory / "HK", "hk-tick-live", API_KEYS_FILE=directory / "keys.json", API_HOSTS=NAME,
        API_TRUSTED_PROXIES="127.0.0.1",
    )  # fmt: skip
    port = free_port()
    text = EXAMPLE.read_text()
    for before, after in {
        "127.0.0.1:8877": f"127.0.0.1:{api.port}", "127.0.0.1:8878": f"127.0.0.1:{live.port}",
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
    for server in (api, live):
        assert "Traceback" not in server.output
        server.end()


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


def test_ticks_are_not_held_back_while_the_stream_goes_on(proxy: tuple[int, str]) -> None:
    port, key = proxy
    asked = {"symbols": "HK.00700", "since": "day"}
    with client(port, key).stream("GET", "/v1/live/events", params=asked) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert next(line for line in answer.iter_lines() if '"ticks":[[' in line)


def test_a_websocket_comes_through(proxy: tuple[int, str]) -> None:
    port, key = proxy
    unchecked = ssl.create_default_context()
    unchecked.check_hostname, unchecked.verify_mode = False, ssl.CERT_NONE
    with websockets.sync.client.connect(
        f"wss://{NAME}/v1/live", ssl=unchecked, sock=socket.create_connection(("127.0.0.1", port)), proxy=None,
        subprotocols=[Subprotocol("hk-ticks.v1")], additional_headers={"Authorization": f"Bearer {key}"},
    ) as connection:  # fmt: skip
        connection.send(json.dumps({"op": "subscribe", "symbols": ["HK.00700"], "since": "day"}))
        kinds = []
        while "ticks" not in kinds:
            kinds.append(json.loads(connection.recv(timeout=30))["type"])
    assert kinds[0] == "welcome"


def test_wrong_keys_are_counted_by_the_readers_address_which_no_header_forges(proxy: tuple[int, str]) -> None:
    port, key = proxy
    wrong = key[:-8] + "AAAAAAAA"
    statuses = [
        client(port, wrong, **{"X-Forwarded-For": f"10.0.0.{n}"}).get("/v1/days").status_code for n in range(15)
    ]
    assert statuses[0] == 401
    assert statuses[-1] == 429
