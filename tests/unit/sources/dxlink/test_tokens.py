"""Secrets and tokens, against a REST interface on the loopback."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from hk_tick_collector.core.errors import FeedError, InputError
from hk_tick_collector.sources.dxlink.tokens import SECRETS, FixedTokens, TastyTokens
from hk_tick_collector.sources.secrets import find, hold, read_secrets
from tests.clock import ManualClock

SECRET, REFRESH = "a-client-secret", "a-refresh-token"
URL = "wss://tasty.example/realtime"


class Rest:
    """Answers as it is told; keeps what was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, str], bytes]] = []
        self.answers: dict[str, tuple[int, bytes, dict[str, str]]] = {}
        rest = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                rest.asked.append((self.path, dict(self.headers), body))
                status, answer, headers = rest.answers[self.path]
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            do_POST = do_GET  # noqa: N815

            def log_message(self, *_: Any) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.says("/oauth/token", {"access_token": "access", "expires_in": 900})
        self.says("/api-quote-tokens", {"data": {"token": "quote", "dxlink-url": URL}})

    def says(self, path: str, answer: object, status: int = 200, **headers: str) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.answers[path] = status, answer if isinstance(answer, bytes) else json.dumps(answer).encode(), named

    def paths(self) -> list[str]:
        paths = [path for path, _, _ in self.asked]
        self.asked.clear()
        return paths


@pytest.fixture
def rest() -> Iterator[Rest]:
    made = Rest()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    path = tmp_path / "dxlink.secrets"
    path.write_text(f"# of tastytrade\nclient_secret={SECRET}\nrefresh_token = {REFRESH}\n")
    path.chmod(0o600)
    return path


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1_795_204_800_000)


@pytest.fixture
def tokens(rest: Rest, secrets: Path, clock: ManualClock) -> TastyTokens:
    return TastyTokens(f"http://127.0.0.1:{rest.server.server_port}", secrets, clock)


def test_one_login_serves_all_day(rest: Rest, tokens: TastyTokens, clock: ManualClock) -> None:
    access = tokens.get()
    assert (access.url, access.token) == (URL, "quote")
    (login_path, login_headers, login), (_, headers, _) = rest.asked
    assert (login_path, json.loads(login)) == (
        "/oauth/token", {"grant_type": "refresh_token", "client_secret": SECRET, "refresh_token": REFRESH},
    )  # fmt: skip
    assert headers["Authorization"] == "Bearer access"
    assert "hk-tick-collector/" in login_headers["User-Agent"]
    rest.asked.clear()
    clock.advance(20 * 3600)
    assert tokens.get() == access
    assert rest.paths() == []
    clock.advance(4 * 3600)
    tokens.get()
    assert rest.paths() == ["/oauth/token", "/api-quote-tokens"]
    clock.advance(60)
    tokens.get(fresh=True)
    assert rest.paths() == ["/api-quote-tokens"]  # the access token is still good
    tokens.refused()
    tokens.get()
    assert rest.paths() == ["/oauth/token", "/api-quote-tokens"]


def test_a_refusal_is_not_repeated_until_the_file_has_changed(
    rest: Rest, tokens: TastyTokens, clock: ManualClock, secrets: Path
) -> None:
    rest.says("/oauth/token", {"error": "invalid_grant"}, 400)
    for _ in range(3):
        with pytest.raises(
            FeedError, match=r"refused the refresh token or the client secret \(400\); not asked again"
        ) as told:
            tokens.get()
        assert SECRET not in str(told.value)
        assert REFRESH not in str(told.value)
    assert rest.paths() == ["/oauth/token"]
    clock.advance(901)
    with pytest.raises(FeedError, match="not asked again before"):
        tokens.get()
    assert rest.paths() == ["/oauth/token"]
    rest.says("/oauth/token", {"access_token": "access"})
    secrets.write_text(f"client_secret={SECRET}\nrefresh_token=another\n")
    assert tokens.get().token == "quote"


def test_too_many_requests_are_waited_for_as_told(rest: Rest, tokens: TastyTokens, clock: ManualClock) -> None:
    rest.says("/oauth/token", {}, 429, Retry_After="120")
    with pytest.raises(FeedError, match=r"left alone \(429\); not asked again before 20:02:00 UTC|left alone"):
        tokens.get()
    clock.advance(119)
    with pytest.raises(FeedError):
        tokens.get()
    assert rest.paths() == ["/oauth/token"]
    rest.says("/oauth/token", {"access_token": "access"})
    clock.advance(2)
    assert tokens.get().token == "quote"


def test_a_wait_of_nothing_and_one_without_end_are_bounded(rest: Rest, tokens: TastyTokens, clock: ManualClock) -> None:
    tokens.get()
    rest.paths()
    for told in ("0", "9" * 5000):
        rest.says("/api-quote-tokens", {}, 429, Retry_After=told)
        with pytest.raises(FeedError, match="left alone"):
            tokens.get(fresh=True)
        assert rest.paths()[-1] == "/api-quote-tokens", "who wants to be left alone is not asked for a login"
        clock.advance(3601)


def test_a_lapsed_access_token_is_bought_anew_once(rest: Rest, tokens: TastyTokens) -> None:
    tokens.get()
    rest.paths()
    rest.says("/api-quote-tokens", {}, 401)
    with pytest.raises(FeedError, match=r"the access token \(401\)"):
        tokens.get(fresh=True)
    assert rest.paths() == ["/api-quote-tokens", "/oauth/token", "/api-quote-tokens"]


@pytest.mark.parametrize(
    ("path", "answer", "status", "text"),
    [
        ("/oauth/token", b"<html>", 200, "no JSON object"),
        ("/oauth/token", b"[" * 60_000, 200, "no JSON object"),
        ("/oauth/token", b"{" + b" " * 70_000, 200, "no JSON object"),
        ("/oauth/token", {"access_token": "two\nlines"}, 200, "no access token"),
        ("/oauth/token", {}, 500, "status 500"),
        ("/oauth/token", {}, 302, "status 302"),
        ("/api-quote-tokens", {"data": None}, 200, "has the account been opened"),
        ("/api-quote-tokens", {"data": {"token": "t", "dxlink-url": "ws://elsewhere.example/"}}, 200, "unencrypted"),
        ("/api-quote-tokens", {"data": {"token": "t", "dxlink-url": "file:///etc/passwd"}}, 200, "not of the form"),
    ],
)
def test_an_answer_that_is_none_is_a_sentence(
    rest: Rest, tokens: TastyTokens, path: str, answer: object, status: int, text: str
) -> None:
    rest.says(path, answer, status, Location="http://127.0.0.1:1/")
    with pytest.raises(FeedError, match=text) as told:
        tokens.get()
    assert SECRET not in str(told.value)


def test_an_interface_that_is_away_is_a_sentence(secrets: Path, clock: ManualClock) -> None:
    with pytest.raises(FeedError, match=r"/oauth/token was not answered: .*refused"):
        TastyTokens("http://127.0.0.1:1", secrets, clock).get()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("client_secret=x\n", "needs client_secret and refresh_token, or token"),
        ("password=topsecret\n", "line 1: write NAME=VALUE"),
        ("token=top secret\n", "line 1: write NAME=VALUE"),
        ("token\n", "line 1: write NAME=VALUE"),
        ("x" * 20_000, "larger than 16,384 bytes"),
    ],
)
def test_a_wrong_file_of_secrets_is_never_repeated(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "s"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(InputError, match=told) as error:
        read_secrets(path, SECRETS)
    assert "topsecret" not in str(error.value)
    assert "top secret" not in str(error.value)


def test_a_file_that_others_may_read_is_refused(secrets: Path) -> None:
    secrets.chmod(0o640)
    with pytest.raises(InputError, match="may be read by others: chmod 600"):
        read_secrets(secrets, SECRETS)
    with pytest.raises(InputError, match="not a regular file"):
        read_secrets(Path("/dev/null"), SECRETS)
    with pytest.raises(InputError, match="cannot be read: No such file"):
        read_secrets(secrets.with_name("none"), SECRETS)


def test_a_credential_of_the_service_goes_first(secrets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = tmp_path / "credentials"
    given.mkdir()
    (given / secrets.name).write_text("token=of-the-service\n")
    (given / secrets.name).chmod(0o440)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(given))
    assert find(secrets) == given / secrets.name
    assert FixedTokens(URL, secrets, ManualClock(0)).get().token == "of-the-service"
    assert FixedTokens(URL, None, ManualClock(0)).get().token is None


def test_a_file_of_the_other_kind_is_a_sentence(rest: Rest, secrets: Path, clock: ManualClock) -> None:
    with pytest.raises(FeedError, match="has no token, which DXLINK_URL needs"):
        FixedTokens(URL, secrets, ManualClock(0)).get()
    secrets.write_text("token=t\n")
    with pytest.raises(FeedError, match="no refresh_token: it goes with DXLINK_URL"):
        TastyTokens(f"http://127.0.0.1:{rest.server.server_port}", secrets, clock).get()


def test_what_root_read_before_it_became_another_user_is_what_counts(tmp_path: Path) -> None:
    path = tmp_path / "secrets"
    path.write_text(f"token={SECRET}\n")
    path.chmod(0o600)
    hold(path)
    path.unlink()  # as if it were root's alone
    assert read_secrets(path, SECRETS) == {"token": SECRET}
    other = tmp_path / "others"
    other.write_text(f"token={SECRET}\n")
    other.chmod(0o644)
    hold(other)
    with pytest.raises(InputError, match="may be read by others"):
        read_secrets(other, SECRETS)
