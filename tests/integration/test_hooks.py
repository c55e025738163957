"""Signals over a real server: stored with the tick that was newest, once, for those who may, and read back."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import resource
import signal
import stat
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from hk_tick_collector.serve.api.roots import Roots
from hk_tick_collector.serve.hooks import inbox as inbox_module
from hk_tick_collector.serve.hooks.inbox import Inbox, Sender
from hk_tick_collector.serve.problems import Problem
from hk_tick_collector.serve.settings import ServeSettings
from hk_tick_collector.store.follow import Follower
from hk_tick_collector.store.position import Position
from hk_tick_collector.store.signals import read_signals
from hk_tick_collector.store.writer import DayFileWriter
from tests.harness import ended
from tests.serving import ApiServer, add_key
from tests.tickctl import record_day
from tests.ticks import DAY
from tests.unit.store_ticks import tick

SECRET = "a-secret-of-thirty-two-characters"
TRADE = {
    "symbol": "MNQ", "action": "entry", "direction": "long", "price": 165.25, "confidence": 0.785,
    "position_before": 0, "position_after": 1, "pnl": 0.0, "total_pnl": 0.0, "total_trades": 1,
    "timestamp": "2025-11-19T14:30:22.123456+00:00", "simulated": True,
}  # fmt: skip


class Hooked(ApiServer):
    """A server with hooks, and keys for it."""

    root: Path
    hooks: Path
    keys: dict[str, str]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hooked]:
    directory = tmp_path_factory.mktemp("hooks")
    record_day(directory / "HK", DAY, count=500)
    secrets = directory / "secrets"
    secrets.write_text(f"# signs\nsigned={SECRET}\nshort=abc\n")
    secrets.chmod(0o640)
    keys_file = directory / "keys.json"
    keys = {
        "hook": add_key(keys_file, "hook", scopes=["hook:ml-trade", "hook:other"]),
        "one symbol": add_key(keys_file, "one", scopes=["hook:other"], symbols=["HK.00005"]),
        "reader": add_key(keys_file, "reader", scopes=["read"]),
    }
    running = Hooked(
        directory / "server", directory / "HK", API_KEYS_FILE=keys_file, API_ANONYMOUS=1,
        HOOKS_DIR=directory / "_hooks", HOOKS_SECRETS_FILE=secrets,
    )  # fmt: skip
    running.root, running.hooks, running.keys = directory / "HK", directory / "_hooks", keys
    yield running
    assert "Traceback" not in running.output, running.output[-3000:]
    assert SECRET not in running.output
    running.end()


@pytest.fixture
def client(server: Hooked) -> Iterator[httpx.Client]:
    with server.client(server.keys["hook"]) as client:
        yield client


def accepted(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 202, answer.text
    body: dict[str, Any] = answer.json()
    return body


def refused(answer: httpx.Response, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    return body


def test_the_trade_of_another_pipeline_is_taken_and_read_back(server: Hooked, client: httpx.Client) -> None:
    before_ms = time.time_ns() // 1_000_000
    told = accepted(client.post("/ml-trade", json=TRADE))
    assert (told["name"], told["symbol"], told["is_new"]) == ("ml-trade", "MNQ", True)
    assert before_ms <= told["recv_ts_ms"] <= time.time_ns() // 1_000_000
    read = client.get("/v1/hooks/ml-trade", params={"after": told["number"] - 1}).json()
    assert read["data"][0]["payload"] == TRADE
    assert read["data"][0]["cursor"] == told["cursor"]
    assert read["next"] is None
    assert stat.S_IMODE((server.hooks / "signals.db").stat().st_mode) == 0o640


def test_a_signal_knows_behind_which_tick_it_came(server: Hooked, client: httpx.Client) -> None:
    first = accepted(client.post("/v1/hooks/other", json={"symbol": "700"}))
    assert first["symbol"] == "HK.00700"
    with Follower(server.root) as follower:
        assert follower.read_behind(Position.parse(first["cursor"])) is None
        writer = DayFileWriter(server.root)
        writer.write([tick(9000, day=DAY)])
        second = accepted(client.post("/v1/hooks/other", json={"symbol": "700"}))
        between = follower.read_behind(Position.parse(first["cursor"]))
        assert between is not None
        assert [row[3] for row in between.rows] == [tick(9000).ts_ms]
        assert follower.read_behind(Position.parse(second["cursor"])) is None
        writer.close()


def test_what_is_answered_202_is_on_the_disk_when_the_server_is_killed(tmp_path: Path, server: Hooked) -> None:
    key = add_key(tmp_path / "keys.json", scopes=["hook:x"])
    doomed = ApiServer(tmp_path / "server", server.root, API_KEYS_FILE=tmp_path / "keys.json", HOOKS_DIR=tmp_path / "h")
    with doomed.client(key) as client:
        numbers = [accepted(client.post("/v1/hooks/x", json={"symbol": "700", "n": n}))["number"] for n in range(5)]
    doomed.signal(signal.SIGKILL)
    doomed.wait()
    assert [signal.number for signal in read_signals(tmp_path / "h")] == numbers


def test_an_idempotency_key_stores_one_signal_also_at_once(server: Hooked, client: httpx.Client) -> None:
    def send(_n: int) -> dict[str, Any]:
        return accepted(client.post("/ml-trade", json=TRADE, headers={"Idempotency-Key": "once"}))

    with ThreadPoolExecutor(4) as pool:
        told = list(pool.map(send, range(8)))
    assert len({reply["number"] for reply in told}) == 1
    assert [reply["is_new"] for reply in told].count(True) == 1
    other = {**TRADE, "price": 1.5}
    problem = refused(client.post("/ml-trade", json=other, headers={"Idempotency-Key": "once"}), 409)
    assert problem["type"] == "/problems/idempotency-conflict"


def sign(body: bytes, now_sec: float, secret: str = SECRET) -> dict[str, str]:
    text = f"{int(now_sec)}"
    signature = hmac.new(secret.encode(), text.encode() + b"." + body, hashlib.sha256).hexdigest()
    return {"X-HK-Time": text, "X-HK-Signature": signature}


def test_who_signs_needs_no_key_and_a_replay_stores_nothing(server: Hooked) -> None:
    body = b'{"symbol": "HK.00005", "n": 1}'
    headers = sign(body, time.time())
    with server.client() as client:
        first = accepted(client.post("/v1/hooks/signed", content=body, headers=headers))
        again = accepted(client.post("/v1/hooks/signed", content=body, headers=headers))
        caught = accepted(
            client.post("/v1/hooks/signed", content=body, headers=headers | {"Idempotency-Key": "another"})
        )
    assert (first["is_new"], again["is_new"], caught["is_new"]) == (True, False, False)
    assert first["number"] == again["number"] == caught["number"]
    assert first["number"] == again["number"]


def test_openssl_and_curl_sign_as_the_documents_say(server: Hooked, tmp_path: Path) -> None:
    script = f"""
body='{{"symbol": "HK.00700", "action": "buy"}}'
time=$(date +%s)
signature=$(printf '%s.%s' "$time" "$body" | openssl dgst -sha256 -hmac "$SECRET" | sed 's/.* //')
curl -sS -X POST {server.url}/v1/hooks/signed -H "X-HK-Time: $time" -H "X-HK-Signature: $signature" -d "$body"
"""
    done = subprocess.run(
        ["bash", "-c", script], check=True, env={"SECRET": SECRET, "PATH": "/usr/bin:/bin"}, capture_output=True
    )
    assert json.loads(done.stdout)["is_new"] is True, done.stderr


@pytest.mark.parametrize(
    ("how", "name"),
    [
        ("late", "signed"), ("early", "signed"), ("other body", "signed"), ("other secret", "signed"),
        ("no time", "signed"), ("another hook", "other"), ("a short secret", "short"),
    ],
)  # fmt: skip
def test_a_wrong_signature_is_none(tmp_path: Path, server: Hooked, how: str, name: str) -> None:
    body = b'{"symbol": "HK.00005"}'
    now_sec = time.time() + {"late": -400, "early": 400}.get(how, 0)
    secret = {"other secret": "x" * 32, "a short secret": "abc"}.get(how, SECRET)
    headers = sign(b"{}" if how == "other body" else body, now_sec, secret)
    if how == "no time":
        del headers["X-HK-Time"]
    with server.client() as client:
        refused(client.post(f"/v1/hooks/{name}", content=body, headers=headers), 401)


def test_each_key_may_what_it_may(server: Hooked) -> None:
    any_signal = {"symbol": "HK.00700"}
    with server.client() as nobody, server.client(server.keys["reader"]) as reader:
        refused(nobody.post("/v1/hooks/other", json=any_signal), 403)  # reading on this machine is all that it may
        refused(reader.post("/v1/hooks/other", json=any_signal), 403)
        refused(reader.get("/v1/hooks/other"), 403)
        refused(reader.post("/ml-trade", json=TRADE), 403)
    with server.client(server.keys["one symbol"]) as narrow, server.client(server.keys["hook"]) as all_symbols:
        refused(narrow.post("/v1/hooks/other", json=any_signal), 403)
        accepted(all_symbols.post("/v1/hooks/other", json=any_signal))
        accepted(narrow.post("/v1/hooks/other", json={"symbol": "5"}))
        assert {line["symbol"] for line in narrow.get("/v1/hooks/other").json()["data"]} == {"HK.00005"}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"confidence": 1.5}, "confidence"),
        ({"timestamp": "2025-11-19T14:30:22"}, "timestamp"),
        ({"timestamp": 0}, "timestamp"),
        ({"direction": "up"}, "direction"),
        ({"price": -1}, "price"),
        ({"price": "165.25"}, "price"),
        ({"action": "a b"}, "action"),
        ({"symbol": "../x y"}, "symbol"),
        ({"symbol": None}, "symbol"),
        ({"total_trades": 10**30}, "total_trades"),
    ],
)
def test_a_trade_that_means_nothing_is_refused_by_field(
    client: httpx.Client, change: dict[str, object], field: str
) -> None:
    problem = refused(client.post("/ml-trade", json={**TRADE, **change}), 400)
    assert [error["field"] for error in problem["errors"]] == [field]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"[]", 400),
        (b"null", 400),
        (b'{"symbol": "700", "action": "buy", "action": "sell"}', 400),
        (b'{"symbol": "700", "orders": [{"side": "buy", "side": "sell"}]}', 400),
        (b'{"symbol": "700", "n": NaN}', 400),
        (b'{"symbol": "700", "n": 1e999}', 400),
        (b'{"symbol": "\xff"}', 400),
        (b'{"symbol": "700", "text": "\\ud800"}', 400),
        (b'{"symbol": "700", "deep": ' + b"[" * 8000 + b"]" * 8000 + b"}", 400),
        (b'{"symbol": "700", "long": "' + b"x" * 16_384 + b'"}', 413),
    ],
)
def test_a_body_that_is_no_signal_is_refused(client: httpx.Client, body: bytes, status: int) -> None:
    refused(client.post("/v1/hooks/other", content=body), status)


def test_what_an_address_takes_is_told_whole(client: httpx.Client) -> None:
    answer = client.request("PATCH", "/v1/hooks/other")
    refused(answer, 405)
    assert answer.headers["allow"] == "GET, POST"


def test_a_key_of_idempotency_that_is_none_is_named(client: httpx.Client) -> None:
    problem = refused(client.post("/ml-trade", json=TRADE, headers={"Idempotency-Key": "a b"}), 400)
    assert "idempotency" in problem["errors"][0]["field"].lower()


def test_pages_go_on_by_number(client: httpx.Client) -> None:
    for n in range(3):
        accepted(client.post("/v1/hooks/other", json={"symbol": "HK.00001", "n": n}))
    numbers: list[int] = []
    after = 0
    while True:
        page = client.get("/v1/hooks/other", params={"after": after, "limit": 2}).json()
        numbers += [line["number"] for line in page["data"]]
        if page["next"] is None:
            break
        after = page["next"]
    assert numbers == sorted(set(numbers))
    assert len(numbers) >= 3
    refused(client.get("/v1/hooks/other", params={"after": -1}), 400)
    refused(client.get("/v1/hooks/Other"), 400)


def test_a_server_without_hooks_says_so(tmp_path: Path, server: Hooked) -> None:
    key = add_key(tmp_path / "keys.json", scopes=["hook:x"])
    plain = ApiServer(tmp_path / "server", server.root, API_KEYS_FILE=tmp_path / "keys.json")
    with plain.client(key) as client:
        assert "HOOKS_DIR" in refused(client.post("/v1/hooks/x", json={"symbol": "700"}), 404)["hint"]
    plain.end()


def test_a_disk_that_is_full_is_said_and_nothing_counts_as_stored(tmp_path: Path, server: Hooked) -> None:
    """The kernel refuses every byte beyond a file's size limit, as a full disk does."""
    key = add_key(tmp_path / "keys.json", scopes=["hook:x"])
    narrow = ApiServer(tmp_path / "server", server.root, API_KEYS_FILE=tmp_path / "keys.json", HOOKS_DIR=tmp_path / "h")
    with ended(narrow), narrow.client(key) as client:
        first = accepted(client.post("/v1/hooks/x", json={"symbol": "700", "n": 0}))
        soft, hard = resource.prlimit(narrow.proc.pid, resource.RLIMIT_FSIZE)
        size_bytes = (tmp_path / "h" / "signals.db").stat().st_size
        resource.prlimit(narrow.proc.pid, resource.RLIMIT_FSIZE, (size_bytes, hard))
        large = {"symbol": "700", "text": "x" * 16_000}
        headers = {"Idempotency-Key": "of-the-full-disk"}
        problem = refused(client.post("/v1/hooks/x", json=large, headers=headers), 503)
        assert str(tmp_path) not in json.dumps(problem)
        assert [signal.number for signal in read_signals(tmp_path / "h")] == [first["number"]]
        resource.prlimit(narrow.proc.pid, resource.RLIMIT_FSIZE, (soft, hard))
        stored = accepted(client.post("/v1/hooks/x", json=large, headers=headers))  # the sender tries again
        assert stored["is_new"]
    assert [signal.number for signal in read_signals(tmp_path / "h")] == [first["number"], stored["number"]]


def test_two_servers_on_one_directory_store_each_signal_once(tmp_path: Path, server: Hooked) -> None:
    key = add_key(tmp_path / "keys.json", scopes=["hook:x"])
    settings = {"API_KEYS_FILE": tmp_path / "keys.json", "HOOKS_DIR": tmp_path / "h"}
    servers = [ApiServer(tmp_path / f"server{n}", server.root, **settings) for n in range(2)]
    with (
        ended(*servers),
        servers[0].client(key) as first,
        servers[1].client(key) as other,
        ThreadPoolExecutor(4) as pool,
    ):

        def send(n: int) -> dict[str, Any]:
            headers = {"Idempotency-Key": f"{n // 2}"}  # each by both
            return accepted(
                (first, other)[n % 2].post("/v1/hooks/x", json={"symbol": "700", "n": n // 2}, headers=headers)
            )

        told = list(pool.map(send, range(80)))
    stored = read_signals(tmp_path / "h")
    assert [signal.number for signal in stored] == list(range(1, 41))
    assert sorted(signal.payload["n"] for signal in stored) == list(range(40))
    assert [answer["is_new"] for answer in told].count(True) == 40


def test_a_sender_is_counted_whatever_hooks_it_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key of the scope admin may name any hook: thousands of names are no way round the limit."""
    settings = ServeSettings(hooks_dir=tmp_path / "h", data_root=tmp_path)
    sender = Sender("key", lambda _symbol: True)

    async def flood() -> None:
        inbox = Inbox(settings, Roots(settings.roots))
        try:
            for number in range(3):
                await inbox.receive(f"hook-{number}", b'{"symbol": "700"}', sender, None)
            with pytest.raises(Problem, match="signals a minute"):
                await inbox.receive("hook-3", b'{"symbol": "700"}', sender, None)
        finally:
            inbox.close()

    monkeypatch.setattr(inbox_module, "SIGNALS_PER_MIN", 3)
    asyncio.run(flood())


def test_a_directory_that_cannot_be_written_costs_a_503(tmp_path: Path, server: Hooked) -> None:
    key = add_key(tmp_path / "keys.json", scopes=["hook:x"])
    (tmp_path / "h" / "signals.db").mkdir(parents=True)
    broken = ApiServer(tmp_path / "server", server.root, API_KEYS_FILE=tmp_path / "keys.json", HOOKS_DIR=tmp_path / "h")
    with broken.client(key) as client:
        problem = refused(client.post("/v1/hooks/x", json={"symbol": "700"}), 503)
        assert str(tmp_path) not in json.dumps(problem)
    broken.end()
