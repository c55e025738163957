"""``hk-tick-api`` under people who mean it no good: forged headers, wrong bytes, floods, reads that break."""

from __future__ import annotations

import os
import random
import signal
import socket
import sqlite3
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from hk_tick_collector.days import manifest
from hk_tick_collector.serve.keys import KeyLimits, edited, named
from tests.harness import BIN, Process, clean_env, ended, wait_until
from tests.serving import BEFORE, PROGRAM, ApiServer, add_key, record_roots
from tests.tickctl import record_day, tickctl
from tests.ticks import DAY

MAX_FAILED = 10


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    directory = tmp_path_factory.mktemp("hostile")
    root = record_roots(directory)
    record_day(root, "20261123", symbols=["HK.00700"], count=100_000)
    key = add_key(directory / "keys.json")
    running = ApiServer(directory, root, API_KEYS_FILE=directory / "keys.json", API_ANONYMOUS=1)
    running.key = key  # type: ignore[attr-defined]
    running.root = root  # type: ignore[attr-defined]
    with ended(running):
        yield running
        assert "Traceback" not in running.output, running.output[-3000:]


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory, server: ApiServer) -> Iterator[ApiServer]:
    """Gives up soon on a reading process or a client from which nothing comes. On a busy machine that may be one that
    is well: nothing else is asked here."""
    root = server.root  # type: ignore[attr-defined]
    running = ApiServer(tmp_path_factory.mktemp("impatient"), root, API_ANONYMOUS=1, API_TIMEOUT_SEC=2)
    with ended(running):
        yield running
        assert "Traceback" not in running.output, running.output[-3000:]


@pytest.fixture(autouse=True)
def still_serves(server: ApiServer) -> Iterator[None]:
    yield
    with server.client() as client:
        assert client.get("/v1/healthz").json() == {"ok": True}


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "127.0.0.1.evil.example"},
        {"Host": "localhost@evil.example"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Host": "evil.example", "X-Forwarded-Host": "localhost", "Forwarded": "host=localhost"},
    ],
)
def test_forged_names_are_refused(server: ApiServer, headers: dict[str, str]) -> None:
    with server.client() as client:
        response = client.get("/v1/healthz", headers=headers)
    assert response.status_code == 403
    assert response.json()["type"] == "/problems/forbidden"


def test_two_hosts_or_none(server: ApiServer) -> None:
    for hosts in (b"Host: localhost\r\nHost: evil.example\r\n", b""):
        answer = server.raw(b"GET /v1/healthz HTTP/1.1\r\n" + hosts + b"Connection: close\r\n\r\n")
        assert answer.split(b" ")[1] in (b"400", b"403"), answer


def test_a_forwarded_address_counts_only_from_a_trusted_proxy(tmp_path: Path, server: ApiServer) -> None:
    """Wrong keys are counted by address: one that the client makes up evades nothing."""
    running = ApiServer(tmp_path, server.root, API_ANONYMOUS=0)  # type: ignore[attr-defined]
    try:
        with running.client("hktk_aaaaaaaa_" + "A" * 43) as client:
            statuses = [
                client.get("/v1/days", headers={"X-Forwarded-For": f"192.0.2.{n}"}).status_code
                for n in range(MAX_FAILED + 2)
            ]
        assert statuses == [401] * MAX_FAILED + [429] * 2
        with running.client() as client:
            assert client.get("/v1/days").status_code == 401
    finally:
        running.end()


@pytest.mark.parametrize(
    "target",
    [
        "/v1/ticks?symbols=%00",
        "/v1/ticks?symbols=700%00&day=20261120",
        "/v1/days/..%2f..%2fetc%2fpasswd",
        "/v1/days/%2e%2e/file",
        "/v1/days/20261120%00/file",
        "/v1/ticks?symbols=@/etc/passwd",
        "/v1/ticks?symbols=700&day=../../etc",
        "/v1/ticks?symbols=700&limit=" + "9" * 4000,
        "/v1/ticks?symbols=700&start=" + "9" * 14,
        "/v1/ticks?symbols=700&start=-" + "9" * 14,
        "/v1/bars?symbols=700&end=-" + "9" * 14,
        "/v1/ticks?symbols=700&start=00010101&end=00010102",
        "/v1/ticks?symbols=700&start=99991231",
        "/v1/ticks?symbols=700&end=0001-01-01T00:00:00%2B23:59",
        "/v1/ticks?symbols=700&start=9999-12-31T23:59:59-23:59",
        "/v1/ticks?symbols=" + "7," * 900,
        "/v1/calendar?first=99991231&days=400",
        "/v1/calendar?first=00000000",
        "/v1/bars?symbols=700&interval=99999h",
        "/v1/bars?symbols=700&interval=0s",
        "/v1/ticks?symbols=700&cursor=c1..",
        "/v1/ticks?symbols=%F0%9F%92%A9",
        "/v1/ticks?symbols=%ff%fe",
        "/problems/../../etc/passwd",
        "//evil.example/v1/days",
    ],
)
def test_odd_addresses_get_a_plain_answer(server: ApiServer, target: str) -> None:
    request = f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    answer = server.raw(request.encode())
    status = int(answer.split(b" ")[1])
    assert 400 <= status < 500, answer[:500]
    assert b"root:" not in answer
    assert str(server.root).encode() not in answer  # type: ignore[attr-defined]


def test_a_long_query_and_a_large_or_deep_body(server: ApiServer) -> None:
    with server.client() as client:
        assert client.get("/v1/ticks?symbols=" + "7" * 40_000).status_code == 413
        assert client.post("/v1/ticks", content=b"x" * (2 << 20)).status_code == 413
        assert client.post("/v1/ticks", content=iter([b"x" * 65_536] * 32)).status_code in (400, 413)
        for body in (
            "[" * 100_000,
            '{"symbols":' * 5000,
            "null",
            '{"symbols": 1e999}',
            "",
            "\ud800".encode("utf-16-le", "surrogatepass"),
        ):
            response = client.post("/v1/ticks", content=body, headers={"Content-Type": "application/json"})
            assert response.status_code == 400, (str(body)[:40], response.text[:300])
            assert response.json()["type"] == "/problems/bad-parameter"
        many = ",".join(f"HK.{n:05d}" for n in range(1, 200_000))
        assert client.post("/v1/ticks", json={"symbols": many}).status_code in (400, 413)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/ticks", '{"symbols":"700","day":"20261120","symbols":"5"}'),
        ("/v1/bars", '{"symbols":"700","interval":"1m","symbols":"700"}'),
    ],
)
def test_a_body_that_names_a_thing_twice_is_refused(server: ApiServer, path: str, body: str) -> None:
    with server.client() as client:
        response = client.post(path, content=body, headers={"Content-Type": "application/json"})
    assert response.status_code == 400, response.text
    assert response.json()["errors"] == [{"field": "symbols", "message": "is given twice"}]


def test_a_cursor_with_a_flipped_bit_is_refused(server: ApiServer) -> None:
    draw = random.Random(4)
    with server.client() as client:
        params: dict[str, Any] = {"symbols": "700", "day": DAY, "limit": 2}
        cursor = client.get("/v1/ticks", params=params).json()["next"]
        for _ in range(60):
            place = draw.randrange(len(cursor))
            changed = chr(ord(cursor[place]) ^ (1 << draw.randrange(7)))
            flipped = cursor[:place] + changed + cursor[place + 1 :]
            assert client.get("/v1/ticks", params={**params, "cursor": flipped}).status_code == 400, flipped


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_methods_that_are_not_taken(server: ApiServer, method: str) -> None:
    with server.client() as client:
        response = client.request(method, "/v1/ticks")
    assert response.status_code == 405
    assert "GET" in response.headers["allow"]
    assert response.json()["type"] == "/problems/method-not-allowed"


def test_who_sends_slowly_or_nothing_stops_nobody(server: ApiServer) -> None:
    idle = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(150)]
    try:
        for number, connection in enumerate(idle):
            if number % 2:
                connection.sendall(b"GET /v1/days HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
        with server.client() as client:
            assert client.get("/v1/ticks/latest", params={"symbols": "700"}).status_code == 200
        endless = server.raw(b"GET /v1/days HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"a" * (1 << 20))
        assert not endless
    finally:
        for connection in idle:
            connection.close()


def test_a_flood_of_reads_is_answered_or_refused_in_words(server: ApiServer) -> None:
    def one(_: int) -> int:
        with server.client(server.key) as client:  # type: ignore[attr-defined]
            return client.get("/v1/ticks", params={"symbols": "700", "day": DAY, "limit": 10}).status_code

    with ThreadPoolExecutor(30) as threads:
        statuses = set(threads.map(one, range(40)))
    assert 200 in statuses
    assert statuses <= {200, 429, 503}


# Reads that break


def reader_pid(server: ApiServer, other_than: int = 0) -> int:
    """The only reading process, once it is ready."""

    def ready() -> int | None:
        command = ["pgrep", "-P", str(server.proc.pid)]
        reader_pids = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()
        if len(reader_pids) != 1 or int(reader_pids[0]) == other_than:
            return None
        with server.client() as client:
            return int(reader_pids[0]) if client.get("/v1/status").json()["server"]["readers"] == 1 else None

    return int(wait_until(ready, "one reading process"))


LARGE = {"symbols": "700", "day": "20261123", "format": "ndjson"}


def test_a_read_that_is_killed_in_the_middle_looks_broken(server: ApiServer) -> None:
    pid = reader_pid(server)
    with (
        server.client(headers={"Accept-Encoding": "identity"}) as client,
        client.stream("GET", "/v1/ticks", params=LARGE) as response,
    ):
        assert response.status_code == 200
        pieces = response.iter_raw(4096)
        next(pieces)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(httpx.RemoteProtocolError):
            for _ in pieces:
                pass
    assert reader_pid(server, other_than=pid)


def test_a_read_whose_key_is_taken_back_is_cut_in_seconds(server: ApiServer) -> None:
    path = server.root.parent / "keys.json"  # type: ignore[attr-defined]
    looks = server.output.count("keys_read")
    key = add_key(path, "for a while")
    # its log tells when it knows the key: to ask with one that it does not know yet counts as guessing
    wait_until(lambda: server.output.count("keys_read") > looks, "the key is known")
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        connection.settimeout(30)
        connection.connect(("127.0.0.1", server.port))
        target = "/v1/ticks?symbols=700&day=20261123&format=ndjson"
        connection.sendall(f"GET {target} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n\r\n".encode())
        body = connection.recv(1024)
        with edited(path) as keys:
            keys.remove(named(keys, "for a while"))
        replaced, pieces = server.output.count("reader_replaced"), [body]

        def is_cut() -> bool:  # not for taking nothing: it takes what comes, for longer than a key is looked at
            pieces.extend(connection.recv(16_384) for _ in range(10))
            return server.output.count("reader_replaced") > replaced

        wait_until(is_cut, "the read is cut", 15)
        body = b"".join(pieces)
        while piece := connection.recv(65_536):
            body += piece
    assert b"\r\n0\r\n\r\n" not in body, "it does not look whole"


def test_a_flood_of_ranges_costs_nothing(server: ApiServer) -> None:
    for ranges in (",".join("0-0" for _ in range(6000)), ",".join(f"{n}-{n}" for n in range(0, 12000, 2)), "0-" * 9000):
        with server.client(headers={"Range": f"bytes={ranges}"[:60_000]}) as client:
            response = client.get(f"/v1/days/{BEFORE}/file")
        assert response.status_code in (200, 206, 400, 416)
        assert len(response.content) < 4_000_000


def test_a_client_that_leaves_ends_its_read(server: ApiServer) -> None:
    pid = reader_pid(server)
    with (
        server.client(headers={"Accept-Encoding": "identity"}) as client,
        client.stream("GET", "/v1/ticks", params=LARGE) as response,
    ):
        next(response.iter_raw(4096))
    assert reader_pid(server, other_than=pid)


def test_a_client_that_takes_nothing_is_cut_off(impatient: ApiServer) -> None:
    broken = impatient.output.count("answer_broken")

    def cut_off() -> bool:  # once it has an answer: a busy machine may give up before that
        pid = reader_pid(impatient)
        with socket.socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect(("127.0.0.1", impatient.port))
            target = "/v1/ticks?symbols=700&day=20261123&format=ndjson"
            connection.sendall(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            assert reader_pid(impatient, other_than=pid)
        return impatient.output.count("answer_broken") > broken

    wait_until(cut_off, "an answer is broken off")


def test_a_reader_that_hangs_is_replaced(impatient: ApiServer) -> None:
    params = {"symbols": "700", "day": DAY}
    pid = reader_pid(impatient)
    os.kill(pid, signal.SIGSTOP)
    with impatient.client() as client:
        response = client.get("/v1/ticks", params=params)
        assert (response.status_code, response.json()["type"]) == (504, "/problems/timeout")
        assert reader_pid(impatient, other_than=pid)
        wait_until(lambda: client.get("/v1/ticks", params=params).status_code == 200, "the next one answers")


def test_a_read_that_takes_too_much_memory_is_ended(tmp_path: Path, server: ApiServer) -> None:
    running = ApiServer(tmp_path, server.root, API_ANONYMOUS=1, API_WORKER_MEMORY_MB=128)  # type: ignore[attr-defined]
    try:
        with running.client() as client:
            response = client.get("/v1/days/20261123/certificate", params={"format": "html"})
        assert response.status_code in (200, 413, 503)
    finally:
        running.end()


def test_no_temporary_directory_outlives_a_killed_server(tmp_path: Path, server: ApiServer) -> None:
    temporary = tmp_path / "temporary"
    left = temporary / "hk-tick-temp-api-left"  # of a server and readers that were killed together
    left.mkdir(parents=True)
    (left / "part").write_text("half of a sort")
    (temporary / "hk-tick-temp-api-file").write_text("no directory of ours")
    running = ApiServer(tmp_path, server.root, TMPDIR=temporary, API_WORKERS=2)  # type: ignore[attr-defined]
    try:
        made = wait_until(lambda: set(temporary.glob("hk-tick-temp-api-*/")), "readers")
        assert left not in made
        another = ApiServer(tmp_path / "other", server.root, TMPDIR=temporary)  # type: ignore[attr-defined]
        try:
            assert made <= set(temporary.iterdir()), "those of a living server are left to it"
        finally:
            another.end()
    finally:
        running.end()  # as kill -9
    wait_until(lambda: [path.name for path in temporary.iterdir()] == ["hk-tick-temp-api-file"], "readers end alone")


def test_a_packed_day_says_so(tmp_path: Path) -> None:
    root = tmp_path / "HK"
    record_day(root, BEFORE, count=20)
    record_day(root, DAY, count=20)
    done = tickctl("archive", BEFORE, "--format", "sqlite", data_root=root)
    assert done.returncode == 0, done.stderr
    assert manifest.sqlite_path(root / "_archive", BEFORE).exists()
    (root / f"{BEFORE}.db").unlink()
    (root / f"{DAY}.db").write_bytes(b"SQLite format 3\0" + b"\xff" * 5000)
    running = ApiServer(tmp_path, root, API_ANONYMOUS=1)
    try:
        with running.client() as client:
            for path in (f"/v1/ticks?symbols=700&day={BEFORE}", f"/v1/days/{BEFORE}/file"):
                packed = client.get(path)
                assert (packed.status_code, packed.json()["type"]) == (409, "/problems/day-packed"), packed.text
                assert f"hk-tickctl restore {BEFORE}" in packed.json()["hint"]
            damaged = client.get(f"/v1/ticks?symbols=700&day={DAY}")
            assert (damaged.status_code, damaged.json()["type"]) == (500, "/problems/store-damaged")
            assert str(tmp_path) not in damaged.text
            assert {line["day"]: line["state"] for line in client.get("/v1/days").json()["data"]}[DAY] == "damaged"
        assert "Traceback" not in running.output
    finally:
        running.end()


def test_a_store_that_is_busy_says_so(tmp_path: Path) -> None:
    root = tmp_path / "HK"
    record_day(root, DAY, count=20)
    with sqlite3.connect(root / f"{DAY}.db", isolation_level=None) as conn:
        conn.execute("PRAGMA journal_mode = DELETE")  # in WAL mode readers wait for nobody
        conn.execute("BEGIN EXCLUSIVE")
        running = ApiServer(tmp_path, root, API_ANONYMOUS=1)
        try:
            with running.client() as client:
                for path in ("/v1/ticks?symbols=700", "/v1/ticks/latest?symbols=700"):
                    busy = client.get(path)
                    assert (busy.status_code, busy.json().get("type")) == (503, "/problems/store-busy"), busy.text
                    assert busy.headers["retry-after"]
                conn.execute("ROLLBACK")
                assert client.get("/v1/ticks?symbols=700").status_code == 200
        finally:
            running.end()


# Starts that are refused


def start(directory: Path, **settings: object) -> tuple[int, str]:
    given = {"DATA_ROOT": directory, "API_PORT": 0, **settings}
    running = Process([BIN / PROGRAM], clean_env(directory / "home", **given))
    try:
        return running.wait(), running.output
    finally:
        running.end()


def test_no_door_is_left_open(tmp_path: Path) -> None:
    code, words = start(tmp_path, API_HOST="0.0.0.0")
    assert (code, "make one with hk-tickctl keys add NAME" in words) == (78, True), words
    path = tmp_path / "keys.json"
    add_key(path)
    code, words = start(tmp_path, API_HOST="0.0.0.0", API_KEYS_FILE=path, API_ANONYMOUS=1)
    assert (code, "API_ANONYMOUS" in words) == (78, True), words
    path.chmod(0o644)
    code, words = start(tmp_path, API_KEYS_FILE=path)
    assert (code, "chmod 0640" in words) == (78, True), words
    code, words = start(tmp_path, API_ORIGINS="*")
    assert (code, "API_ORIGINS" in words) == (78, True), words
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        code, words = start(tmp_path, API_PORT=taken.getsockname()[1])
    assert (code, "cannot be used" in words) == (1, True), words


ASKED = (
    "/v1/ticks?symbols=700&limit=1",
    "/v1/ticks/latest?symbols=700&n=1",
    "/api/v1/ticks/realtime?symbols=700&limit=1",
    "/api/v1/ticks/historical?symbols=700&start_time=2026-11-20T00:00:00Z&end_time=2026-11-21T00:00:00Z",
)


@pytest.fixture(scope="module")
def limited(server: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ApiServer, dict[str, str]]]:
    """A server, and of each question the key that asks it, which may read 30 rows a minute."""
    place = tmp_path_factory.mktemp("limited")
    limits = KeyLimits(rows_per_min=30)
    keys = {asked: add_key(place / "keys.json", f"key-{n}", limits=limits) for n, asked in enumerate(ASKED)}
    running = ApiServer(place, server.root, API_KEYS_FILE=place / "keys.json")  # type: ignore[attr-defined]
    with ended(running):
        yield running, keys


@pytest.mark.parametrize("asked", ASKED)
def test_a_key_that_has_read_its_rows_waits_whatever_it_asks(
    limited: tuple[ApiServer, dict[str, str]], asked: str
) -> None:
    running, keys = limited
    with running.client(keys[asked]) as client:
        assert client.get("/v1/ticks/latest?symbols=700&n=50").status_code == 200, "what was asked in time is whole"
        refused = client.get(asked)
        assert (refused.status_code, refused.json()["type"]) == (429, "/problems/rate-limited")
        assert "30 rows a minute" in refused.json()["detail"]
        assert refused.headers["retry-after"]
