"""Who is let in: Host, Origin, keys, and how often somebody may try."""

from __future__ import annotations

import asyncio
import json
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import pytest

from hk_tick_collector.app.config import load_settings
from hk_tick_collector.core.errors import ConfigError
from hk_tick_collector.serve import auth, limits
from hk_tick_collector.serve.keys import ANONYMOUS, Key, KeyRing, new_key, write_keys
from hk_tick_collector.serve.problems import KINDS, Problem, problem_of, shown
from hk_tick_collector.serve.settings import ServeSettings, check_exposure, load_serve_settings

NAMES = frozenset(auth.LOOPBACK_NAMES)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:8877", "localhost:1", "LOCALHOST", "[::1]:8877", "localhost."]
)
def test_own_hosts(host: str) -> None:
    assert auth.is_own_host(host, NAMES)


@pytest.mark.parametrize(
    "host",
    [None, "", "evil.example", "evil.example:8877", "127.0.0.1.evil.example", "localhost@evil.example",
     "evil@localhost", "localhost/evil", "127.0.0.1, evil",
     "[::1", "localhost:x", "localhost:99999999", "2130706433", "0x7f.1"],
)  # fmt: skip
def test_other_hosts(host: str | None) -> None:
    assert not auth.is_own_host(host, NAMES)


def test_origins() -> None:
    listed = frozenset({"https://app.example.org"})
    assert auth.is_allowed_origin(None, "localhost:8877", listed)
    assert auth.is_allowed_origin("http://localhost:8877", "localhost:8877", listed)
    assert auth.is_allowed_origin("https://APP.example.org", "localhost:8877", listed)
    for origin in ("null", "", "http://localhost:9999", "https://app.example.org.evil.example", "http://evil.example"):
        assert not auth.is_allowed_origin(origin, "localhost:8877", listed), origin


async def asked(headers: dict[str, str], settings: ServeSettings | None = None, body: bytes = b"") -> tuple[int, Any]:
    """Status and document of a request through the guard to an application that reads the body and says ok."""
    sent: list[MutableMapping[str, Any]] = []

    async def app(scope: auth.Scope, receive: auth.Receive, send: auth.Send) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": body}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": "GET", "path": "/v1/days", "query_string": b"", "client": ("127.0.0.1", 9),
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }  # fmt: skip
    await auth.Guard(app, settings or ServeSettings(), max_body_bytes=100)(scope, receive, send)
    names = {name for name, _ in sent[0]["headers"]}
    assert b"x-request-id" in names
    return sent[0]["status"], json.loads(sent[1]["body"])


def test_the_guard_lets_ours_in_and_refuses_the_rest() -> None:
    assert asyncio.run(asked({"host": "localhost:8877"}))[0] == 200
    status, document = asyncio.run(asked({"host": "evil.example"}))
    assert (status, document["type"]) == (403, "/problems/forbidden")
    assert asyncio.run(asked({"host": "localhost", "origin": "http://evil.example"}))[0] == 403
    assert asyncio.run(asked({"host": "localhost", "content-length": "101"}))[0] == 413
    assert asyncio.run(asked({"host": "localhost", "content-length": "9" * 400}))[0] == 413


def test_a_body_that_grows_too_long_is_a_problem() -> None:
    with pytest.raises(Problem) as raised:
        asyncio.run(asked({"host": "localhost"}, body=b"x" * 101))
    assert raised.value.kind.status == 413


def gate(tmp_path: Path, **settings: Any) -> tuple[auth.Gate, Key, str]:
    stored, text = new_key("research", ["read"], now_ms=0)
    write_keys(tmp_path / "keys.json", [stored])
    return auth.Gate(ServeSettings(**settings), KeyRing.open(tmp_path / "keys.json")), stored.key, text


def refused(work: Any) -> Problem:
    with pytest.raises(Problem) as raised:
        work()
    return raised.value


def test_the_gate_wants_a_key_and_its_right(tmp_path: Path) -> None:
    door, key, text = gate(tmp_path)
    assert door.admit(text, "127.0.0.1", "read") == key
    assert refused(lambda: door.admit(text, "127.0.0.1", "live")).slug == "forbidden"
    missing = refused(lambda: door.admit(None, "127.0.0.1", "read"))
    assert missing.slug == "unauthorized"
    assert missing.headers["WWW-Authenticate"].startswith("Bearer")


def test_anonymous_reading_is_for_loopback_and_never_excuses_a_wrong_key(tmp_path: Path) -> None:
    door, _, _ = gate(tmp_path, api_anonymous=True)
    assert door.admit(None, "127.0.0.1", "read") is ANONYMOUS
    assert refused(lambda: door.admit("hktk_wrong", "127.0.0.1", "read")).slug == "unauthorized"
    assert refused(lambda: door.admit(None, "127.0.0.1", "admin")).slug == "forbidden"
    wide, _, _ = gate(tmp_path, api_anonymous=True, api_host="0.0.0.0")
    assert refused(lambda: wide.admit(None, "127.0.0.1", "read")).slug == "unauthorized"


def test_after_ten_wrong_keys_an_address_is_not_looked_up(tmp_path: Path) -> None:
    door, _, text = gate(tmp_path)
    for _ in range(auth.FAILED_KEYS_PER_MIN):
        assert refused(lambda: door.admit("wrong", "192.0.2.1", "read")).slug == "unauthorized"
    stopped = refused(lambda: door.admit(text, "192.0.2.1", "read"))
    assert stopped.slug == "rate-limited"
    assert int(stopped.headers["Retry-After"]) >= 1
    assert door.admit(text, "192.0.2.2", "read")


def test_a_minute_limit_slides(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 6000.0
    counted = limits.MinuteLimit(lambda: now)
    assert [counted.take("a", 3).is_allowed for _ in range(4)] == [True, True, True, False]
    assert counted.take("b", 3).is_allowed
    now += 60
    assert not counted.take("a", 3).is_allowed  # all of the minute before still counts
    now += 30
    assert [counted.take("a", 3).is_allowed for _ in range(2)] == [True, False]
    now += 120
    counted.charge("a", 1000)
    assert not counted.take("a", 3).is_allowed
    monkeypatch.setattr(limits, "MAX_NAMES", 5)
    for number in range(50):
        counted.charge(f"address {number}", 1)
    assert len(counted._counts) == 5


def test_no_path_leaves_with_a_problem() -> None:
    text = shown("no ticks under /srv/data/HK or /srv/data/HK/_archive; a day 2026/11/20, see http://host/x")
    assert text == "no ticks under HK or _archive; a day 2026/11/20, see http://host/x"
    assert "secret" not in json.dumps(problem_of(RuntimeError("/etc/secret")).document("/v1", "id"))
    assert all(300 < kind.status < 600 and kind.hint for kind in KINDS.values())
    assert [kind.hint for kind in KINDS.values() if shown(kind.hint) != kind.hint] == [], "an address is no path"


def test_strangers_find_no_door(tmp_path: Path) -> None:
    empty = KeyRing.open(None)
    stored, _ = new_key("research", now_ms=0)
    write_keys(tmp_path / "keys.json", [stored])
    full = KeyRing.open(tmp_path / "keys.json")
    check_exposure(ServeSettings(api_anonymous=True), empty)
    check_exposure(ServeSettings(api_host="0.0.0.0"), full)
    with pytest.raises(ConfigError, match="no key yet"):
        check_exposure(ServeSettings(api_host="0.0.0.0"), empty)
    with pytest.raises(ConfigError, match="API_ANONYMOUS"):
        check_exposure(ServeSettings(api_host="::", api_anonymous=True), full)


@pytest.mark.parametrize(
    ("key", "value"),
    [("API_ORIGINS", "*"), ("API_ORIGINS", "https://a/b"), ("API_HOSTS", "a/b"), ("API_TRUSTED_PROXIES", "proxy"),
     ("API_ROOT_PATH", "x"), ("API_PORT", "99999"), ("API_HOST", "a b"), ("API_HOSTT", "x")],
)  # fmt: skip
def test_settings_that_mean_nothing_are_told(key: str, value: str, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(f"{key}={value}\nFUTU_SYMBOLS=HK.00700\n")
    with pytest.raises(ConfigError, match=key):
        load_serve_settings(tmp_path / ".env", {})


def test_recorder_and_server_read_one_file(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(
        "FUTU_SYMBOLS=HK.00700\nAPI_HOST=127.0.0.2\nDATA_ROOTS=hk, us\nLIVE_PORT=1\nAPI_HOSTS=A.example b.example\n"
    )
    assert load_settings(tmp_path / ".env", {}).futu_symbols == ("HK.00700",)
    settings = load_serve_settings(tmp_path / ".env", {})
    assert (settings.api_host, settings.api_hosts) == ("127.0.0.2", ("a.example", "b.example"))
    assert [root for root, _ in settings.roots] == [tmp_path / "hk", tmp_path / "us"]
