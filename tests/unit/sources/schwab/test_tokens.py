"""The login, its file and its tokens, against the simulated REST interface."""

from __future__ import annotations

import json
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from hk_tick_collector.core.errors import FeedError, InputError
from hk_tick_collector.schwab_sim.server import ACCESS_SEC, Exchange, start_rest
from hk_tick_collector.schwab_sim.tape import Tape
from hk_tick_collector.sources.remote.asking import Refused
from hk_tick_collector.sources.schwab import tokenfile, tokens
from hk_tick_collector.sources.schwab.tokenfile import LOGIN_LASTS_SEC, Login, changing, read_login, write_login
from hk_tick_collector.sources.schwab.tokens import EARLY_SEC, OAuth, Tokens, code_in
from tests.clock import ManualClock

NOW_MS = 1_795_204_800_000
REFRESH = "a-refresh-token"


class Desk:
    """A simulator's REST interface alone, and files of secrets and of a login."""

    def __init__(self, directory: Path) -> None:
        self.streamer = Exchange(Tape(["AAPL"], 1, None), 0.0)
        self.streamer.ws_port = 4711
        self.server: ThreadingHTTPServer = start_rest(self.streamer, 0)
        self.clock = ManualClock(NOW_MS)
        self.secrets, self.file = directory / "schwab.secrets", directory / "schwab.token"
        self.secrets.write_text("client_id=an-app\nclient_secret=a-client-secret\n")
        self.secrets.chmod(0o600)
        write_login(self.file, Login(REFRESH, NOW_MS / 1000 - 3600))
        self.tokens = self.new_tokens()

    @property
    def api(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def new_tokens(self) -> Tokens:
        return Tokens(self.api, self.secrets, self.file, self.clock)

    def oauth(self) -> OAuth:
        return OAuth(self.api, self.secrets, self.clock)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.server.shutdown()
    made.server.server_close()


def test_one_token_serves_until_it_ends_and_survives_a_restart(desk: Desk) -> None:
    access = desk.tokens.get()
    assert access.streamer.url == "ws://127.0.0.1:4711/ws"
    assert access.streamer[1:] == ("customer", "correl", "N9", "APIAPP")
    assert desk.tokens.get().token == access.token
    assert desk.new_tokens().get().token == access.token  # of the file
    assert desk.streamer.refreshes == 1
    assert desk.tokens.login_ends_ms == NOW_MS - 3_600_000 + LOGIN_LASTS_SEC * 1000
    desk.clock.advance(ACCESS_SEC + 1)
    assert desk.tokens.get().token != access.token
    assert desk.streamer.refreshes == 2


def test_a_token_is_renewed_before_it_ends(desk: Desk) -> None:
    before = desk.tokens.get()
    assert not desk.tokens.renew()
    desk.clock.advance(ACCESS_SEC - EARLY_SEC)
    assert desk.tokens.renew()
    assert desk.streamer.refreshes == 2
    assert desk.tokens.get().token != before.token
    assert read_login(desk.file).made_sec == NOW_MS / 1000 - 3600  # the login is not made longer by it
    assert oct(desk.file.stat().st_mode & 0o777) == "0o600"


def test_a_token_that_is_taken_back_is_bought_anew_at_once(desk: Desk) -> None:
    first = desk.tokens.get()
    desk.streamer.access_tokens.clear()
    assert desk.tokens.get().token != first.token  # the preferences said 401
    second = desk.tokens.get()
    desk.tokens.refused()  # the streamer said code 3
    assert desk.tokens.get().token != second.token


def test_a_question_for_listings_buys_a_token_and_holds_up_no_connection(desk: Desk) -> None:
    first = desk.tokens.get()
    desk.streamer.access_tokens.clear()  # before its time
    assert desk.tokens.listings(["AAPL"])["AAPL"]["reference"]["exchange"] == "Q"
    assert desk.tokens.get().token != first.token
    desk.streamer.listings_status = 403
    for _ in range(3):
        with pytest.raises(FeedError, match=r"refused the question for listings.*not asked again before"):
            desk.tokens.listings(["AAPL"])
    assert desk.streamer.listings == 3  # the first one, and one more with another token
    desk.tokens.get()  # trades go on


def test_a_login_that_has_ended_is_not_asked_for_until_there_is_another(desk: Desk) -> None:
    desk.streamer.refresh_tokens.clear()
    for _ in range(3):
        with pytest.raises(FeedError, match=r"refused the login.*hk-tickctl schwab login.*not asked again before") as e:
            desk.tokens.get()
        assert REFRESH not in str(e.value)
    assert desk.streamer.refreshes == 1
    desk.streamer.refresh_tokens.add("another")
    write_login(desk.file, Login("another", NOW_MS / 1000))
    assert desk.tokens.get().token
    assert desk.tokens.login_ends_ms == NOW_MS + LOGIN_LASTS_SEC * 1000


def test_a_new_login_is_taken_while_the_old_token_is_good(desk: Desk) -> None:
    desk.tokens.get()
    desk.streamer.refresh_tokens.add("another")
    write_login(desk.file, Login("another", NOW_MS / 1000))
    assert desk.tokens.renew()
    assert read_login(desk.file).refresh_token == "another"


def test_of_two_that_renew_the_second_takes_what_the_first_has_bought(desk: Desk) -> None:
    other = desk.new_tokens()
    desk.tokens.get()
    other.get()
    desk.clock.advance(ACCESS_SEC + 1)
    assert desk.tokens.get().token == other.get().token
    assert desk.streamer.refreshes == 2


@pytest.mark.parametrize(("fault", "status"), [({"rest_status": 429}, 429), ({"rest_status": 503}, 503)])
def test_who_is_busy_is_left_alone(desk: Desk, fault: dict[str, int], status: int) -> None:
    vars(desk.streamer).update(fault)
    for _ in range(2):
        with pytest.raises(FeedError, match=rf"left alone \({status}\); not asked again before"):
            desk.tokens.get()
    assert desk.streamer.refreshes == 1
    desk.streamer.rest_status = 200
    desk.clock.advance(61)
    assert desk.tokens.get().token


def test_another_program_is_left_alone(desk: Desk) -> None:
    desk.tokens.get()
    assert "not asked again before" in str(desk.tokens.leave_alone("another program streams", 900))
    with pytest.raises(FeedError, match="another program streams; not asked again before"):
        desk.tokens.get()
    desk.clock.advance(901)
    assert desk.tokens.get().token


def test_a_login_that_cannot_be_kept_serves_from_memory(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(tokens, "write_login", refuse)
    first = desk.tokens.get()
    assert desk.tokens.get().token == first.token
    desk.clock.advance(ACCESS_SEC)
    desk.tokens.get()
    assert [record.message for record in caplog.records if "schwab_token_not_saved" in record.message]
    assert len(caplog.records) == 1
    assert read_login(desk.file).access_token == ""


def test_a_process_that_keeps_the_lock_holds_up_no_connection(
    desk: Desk, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokenfile, "LOCK_SEC", 0.1, raising=False)
    content = desk.file.read_bytes()
    given: Future[str] = Future()
    with changing(desk.file):
        threading.Thread(target=lambda: given.set_result(desk.tokens.get().token), daemon=True).start()
        token = given.result(20)
        assert desk.file.read_bytes() == content, "it is theirs"
    assert "another process does not let go of it" in caplog.text
    assert "end that process" in caplog.text
    assert desk.tokens.get().token == token
    desk.clock.advance(ACCESS_SEC + 1)
    assert desk.tokens.get().token != token
    assert read_login(desk.file).access_token == desk.tokens.get().token


def test_a_code_is_exchanged_once(desk: Desk) -> None:
    page = desk.oauth().page("https://127.0.0.1:8182")
    assert page.startswith(
        f"{desk.api}/v1/oauth/authorize?client_id=an-app&redirect_uri=https%3A%2F%2F127.0.0.1%3A8182"
    )
    opener = urllib.request.build_opener(tokens_no_redirect())
    with pytest.raises(urllib.request.HTTPError) as redirected:
        opener.open(page, timeout=30)
    code = code_in(redirected.value.headers["Location"])
    redirected.value.close()
    login = desk.oauth().exchange(code, "https://127.0.0.1:8182")
    assert (login.made_sec, login.access_until_sec) == (NOW_MS / 1000, NOW_MS / 1000 + ACCESS_SEC)
    assert login.refresh_token.startswith("refresh-")
    with pytest.raises(Refused, match=r"refused the code.*\(400\)"):
        desk.oauth().exchange(code, "https://127.0.0.1:8182")


def tokens_no_redirect() -> urllib.request.HTTPRedirectHandler:
    class No(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_: object) -> None:  # type: ignore[override]
            return None

    return No()


@pytest.mark.parametrize(
    "address", ["", "nonsense", "https://127.0.0.1/?state=1", "https://x/?code=a&code=b", "http://["]
)
def test_an_address_without_a_code_is_said(address: str) -> None:
    with pytest.raises(InputError, match="has no code"):
        code_in(address)


def test_the_code_of_an_address_is_read_as_it_was_meant() -> None:
    assert code_in("https://127.0.0.1:8182/?code=C0.b2F1dGg%40&session=1\n") == "C0.b2F1dGg@"


@pytest.mark.parametrize(
    "content",
    [
        b"", b"[]", b"{}", b"\xff", b"null", b"[" * 10_000, b'{"creation_timestamp": 1, "token": []}',
        b'{"creation_timestamp": "x", "token": {"refresh_token": "a"}}',
        b'{"creation_timestamp": NaN, "token": {"refresh_token": "a"}}',
        b'{"creation_timestamp": 1' + b"0" * 400 + b', "token": {"refresh_token": "a"}}',
        b'{"creation_timestamp": 1, "token": {"refresh_token": ""}}',
        b'{"creation_timestamp": 1, "token": {"refresh_token": "two\\nlines"}}',
    ],
)  # fmt: skip
def test_what_is_no_login_is_said(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "token"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(InputError, match="hk-tickctl schwab login"):
        read_login(path)


def test_a_file_that_others_may_read_is_refused(desk: Desk) -> None:
    desk.file.chmod(0o640)
    with pytest.raises(FeedError, match="may be read by others: chmod 600"):
        desk.tokens.get()
    with pytest.raises(InputError, match="is not there: log in"):
        read_login(desk.file.with_name("none"))


def test_the_file_of_schwab_py_is_a_login(tmp_path: Path) -> None:
    token = {
        "expires_in": 1800, "token_type": "Bearer", "scope": "api", "refresh_token": "r", "access_token": "a",
        "id_token": "i", "expires_at": 1_795_200_000,
    }  # fmt: skip
    path = tmp_path / "token.json"
    path.write_text(json.dumps({"creation_timestamp": 1_795_100_000, "token": token}))
    path.chmod(0o600)
    assert read_login(path) == Login("r", 1_795_100_000, "a", 1_795_200_000)


def test_a_login_is_replaced_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "token"
    write_login(path, Login("first", 1))

    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tokenfile.os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        write_login(path, Login("second", 1))
    assert read_login(path).refresh_token == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["token"]


def test_one_changes_the_file_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "token"
    order: list[str] = []

    def second() -> None:
        with changing(path):
            order.append("second")

    thread = threading.Thread(target=second)
    with changing(path):
        thread.start()
        time.sleep(0.05)  # it would be through by then
        order.append("first")
    thread.join(60)
    assert order == ["first", "second"]


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"streamerInfo": []},
        {"streamerInfo": [{}]},
        {"streamerInfo": "x"},
        {"streamerInfo": [{"streamerSocketUrl": 1}]},
    ],
)
def test_preferences_without_a_streamer_are_said(answer: dict[str, object]) -> None:
    with pytest.raises(FeedError, match="name no streamer"):
        tokens._streamer(answer)


def test_a_token_goes_to_no_address_without_encryption() -> None:
    names = ("schwabClientCustomerId", "schwabClientCorrelId", "schwabClientChannel", "schwabClientFunctionId")
    info = {"streamerSocketUrl": "ws://streamer.example/ws", **dict.fromkeys(names, "x")}
    with pytest.raises(FeedError, match="streamerSocketUrl would send the token unencrypted"):
        tokens._streamer({"streamerInfo": [info]})


def test_a_connection_waits_for_no_listing(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, may_answer = threading.Event(), threading.Event()
    ask = desk.tokens._oauth.rest.ask

    def slow(path: str, *arguments: Any, **more: Any) -> dict[str, Any]:
        if path.startswith(tokens.QUOTES):
            asked.set()
            assert may_answer.wait(60)
        return ask(path, *arguments, **more)

    monkeypatch.setattr(desk.tokens._oauth.rest, "ask", slow)
    with ThreadPoolExecutor() as threads:
        listings = threads.submit(desk.tokens.listings, ["AAPL"])
        try:
            assert asked.wait(60)
            assert threads.submit(desk.tokens.get).result(30).token
            assert not listings.done()
        finally:
            may_answer.set()
        assert "AAPL" in listings.result(60)
