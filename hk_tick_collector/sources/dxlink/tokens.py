"""How a connection gets its address and its token: from TastyTrade by OAuth, or as the settings say.

Owns both tokens over connections, so that a reconnect costs no login: the access token of the REST interface (15
minutes) and the quote token (a day). Too many refused logins block the caller's address for hours: after a refusal
nothing is asked for a while or until the file of secrets has changed (``Patience``). Runs on a thread; waits.
"""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from hk_tick_collector.core.clock import Clock
from hk_tick_collector.core.errors import FeedError, InputError
from hk_tick_collector.sources.addresses import url_problem
from hk_tick_collector.sources.remote.asking import NO_FILE, Patience, Refused, Rest, is_token
from hk_tick_collector.sources.secrets import find, read_secrets

SECRETS = (("client_secret", "refresh_token"), ("token",))
ACCESS_SEC = 900  # where the answer does not say
QUOTE_SEC = 86_400
EARLY_SEC = 60  # a token is no longer used so long before it ends


class Access(NamedTuple):
    """Where to connect and what to say there."""

    url: str
    token: str | None  # None: the endpoint wants none
    until_sec: float  # monotonic; infinite for one that does not end


class Tokens(Protocol):
    """Gives access; a test's own::

    class Open:
        def get(self, *, fresh=False):
            return Access("ws://127.0.0.1:4000", "anything", math.inf)

        def refused(self):
            pass

        def leave_alone(self, why, wait_sec):
            return FeedError(why)
    """

    def get(self, *, fresh: bool = False) -> Access:
        """A token that is good for a while; ``fresh``: one that was just made. FeedError says why there is none, and
        until when not to ask."""

    def refused(self) -> None:
        """The endpoint did not take what ``get`` gave: the next one is fetched anew."""

    def leave_alone(self, why: str, wait_sec: float) -> FeedError:
        """The endpoint is not to be connected to for a while: so long ``get`` raises the error that this gives."""


class Door:
    """Whether an endpoint may be connected to, over connections. On any thread."""

    def __init__(self, clock: Clock) -> None:
        self._lock = threading.Lock()
        self._patience = Patience(clock)

    def check(self) -> None:
        """FeedError while it is too early."""
        with self._lock:
            self._patience.wait(NO_FILE)

    def shut(self, why: str, wait_sec: float) -> FeedError:
        """Not for so long. The error that says so."""
        with self._lock:
            try:
                self._patience.refuse(NO_FILE, Refused(why, wait_sec, is_secret=False))
            except FeedError as exc:
                return exc


class FixedTokens:
    """``DXLINK_URL``: an address that is known, with the ``token`` of the file of secrets if there is one."""

    def __init__(self, url: str, secrets_file: Path | None, clock: Clock) -> None:
        self._url = url
        self._file = secrets_file
        self._door = Door(clock)

    def get(self, *, fresh: bool = False) -> Access:
        """As it is written at this moment."""
        self._door.check()
        if self._file is None:
            return Access(self._url, None, float("inf"))
        secrets = _secrets(find(self._file))
        if "token" not in secrets:
            raise FeedError(f"{self._file} has no token, which DXLINK_URL needs")
        return Access(self._url, secrets["token"], float("inf"))

    def refused(self) -> None:
        """The file is read again for the next connection."""

    def leave_alone(self, why: str, wait_sec: float) -> FeedError:
        """Of whatever token."""
        return self._door.shut(why, wait_sec)


class TastyTokens:
    """TastyTrade's REST interface: a refresh token buys an access token, and that a quote token with an address."""

    def __init__(self, api: str, secrets_file: Path, clock: Clock) -> None:
        self._rest = Rest(api, "TastyTrade", "DXLINK_API")
        self._file = secrets_file
        self._clock = clock
        self._lock = threading.Lock()  # of two threads of two connections, one asks
        self._access: tuple[str, float] | None = None
        self._quote: Access | None = None
        self._patience = Patience(clock)
        self._door = Door(clock)

    def get(self, *, fresh: bool = False) -> Access:
        """The present quote token, or a new one. A fresh one that cannot be had leaves the present one as it is."""
        if not fresh:  # that one is for a connection that there is
            self._door.check()
        with self._lock:
            now_sec = self._clock.monotonic()
            if not fresh and self._quote is not None and now_sec < self._quote.until_sec - EARLY_SEC:
                return self._quote
            path = find(self._file)
            self._patience.wait(path)
            try:
                self._quote = self._new_quote(path)
            except Refused as exc:
                self._access = None
                self._patience.refuse(path, exc)
            return self._quote

    def refused(self) -> None:
        """Fetched anew, access token and all."""
        with self._lock:
            self._quote = self._access = None

    def leave_alone(self, why: str, wait_sec: float) -> FeedError:
        """Of the endpoint. TastyTrade may be asked all the same."""
        return self._door.shut(why, wait_sec)

    def _new_quote(self, path: Path) -> Access:
        try:
            answer = self._ask_quote(path)
        except Refused as exc:
            if self._access is None or not exc.is_secret:  # it was made for this question, or we are to wait
                raise
            self._access = None
            answer = self._ask_quote(path)
        data = answer.get("data")
        data = data if isinstance(data, dict) else {}
        token, url = data.get("token"), data.get("dxlink-url")
        if not is_token(token) or not isinstance(url, str):
            raise FeedError("TastyTrade's answer has no quote token: has the account been opened?")
        problem = url_problem(url, "wss")
        if problem:
            raise FeedError(f"TastyTrade's dxlink-url {problem}")
        return Access(url, str(token), self._clock.monotonic() + QUOTE_SEC)

    def _ask_quote(self, path: Path) -> dict[str, Any]:
        access = self._access
        if access is None or self._clock.monotonic() >= access[1] - EARLY_SEC:
            self._access = None
            access = self._new_access(path)
        answer = self._rest.ask("/api-quote-tokens", {"Authorization": f"Bearer {access[0]}"})
        self._access = access
        return answer

    def _new_access(self, path: Path) -> tuple[str, float]:
        secrets = _secrets(path)
        if "refresh_token" not in secrets:
            raise FeedError(f"{path} has a token and no refresh_token: it goes with DXLINK_URL")
        body = {"grant_type": "refresh_token", **{name: secrets[name] for name in ("client_secret", "refresh_token")}}
        answer = self._rest.ask(
            "/oauth/token",
            {"Content-Type": "application/json"},
            json.dumps(body).encode(),
            credential="the refresh token or the client secret",
        )
        token, lasts_sec = answer.get("access_token"), answer.get("expires_in", ACCESS_SEC)
        if not is_token(token):
            raise FeedError("TastyTrade's answer has no access token")
        lasts_sec = lasts_sec if type(lasts_sec) is int and 0 < lasts_sec < QUOTE_SEC else ACCESS_SEC
        return str(token), self._clock.monotonic() + lasts_sec


def _secrets(path: Path) -> dict[str, str]:
    try:
        return read_secrets(path, SECRETS)
    except InputError as exc:
        raise FeedError(str(exc)) from None
