"""How a connection gets its address and its token: Schwab's OAuth, from a login that a person made.

An access token lasts half an hour and is bought with the refresh token of the login, which ends a week after it and
cannot be made longer. Owns both over connections; writes what was bought into the file of the login, where another
process may have put a newer login meanwhile: that one stays. After a refusal nothing is asked for a while, or until
somebody has logged in again (``Patience``). Runs on a thread; waits.
"""

from __future__ import annotations

import base64
import contextlib
import logging
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlencode, urlsplit

from hk_tick_collector.core.clock import Clock
from hk_tick_collector.core.errors import FeedError, InputError
from hk_tick_collector.core.logline import event
from hk_tick_collector.sources.addresses import url_problem
from hk_tick_collector.sources.remote.asking import Patience, Refused, Rest, is_token, stamp
from hk_tick_collector.sources.schwab.messages import Streamer
from hk_tick_collector.sources.schwab.spec import TITLE
from hk_tick_collector.sources.schwab.tokenfile import HOW, Login, changing, read_login, write_login
from hk_tick_collector.sources.secrets import find, read_secrets

log = logging.getLogger(__name__)

SECRETS = (("client_id", "client_secret"),)
ACCESS_SEC = 1800  # where the answer does not say
MAX_ACCESS_SEC = 86_400
EARLY_SEC = 300  # a token is renewed so long before it ends
OAUTH, PREFERENCES, QUOTES = "/v1/oauth", "/trader/v1/userPreference", "/marketdata/v1/quotes"
REFUSED_LOGIN = f"the login, which ends after seven days: {HOW}"


class Access(NamedTuple):
    """Where to connect and what to say there."""

    streamer: Streamer
    token: str


class OAuth:
    """The token interface. Blocks; FeedError, and Refused for what asking again would not change."""

    def __init__(self, api: str, secrets_file: Path, clock: Clock) -> None:
        self.rest = Rest(api, TITLE, "SCHWAB_API")
        self._api = api.rstrip("/")
        self._secrets_file = secrets_file
        self._clock = clock

    def page(self, callback: str) -> str:
        """Where a person logs in; ``callback``: where the browser is sent afterwards, as it is registered."""
        query = {"client_id": self._secrets()["client_id"], "redirect_uri": callback, "response_type": "code"}
        return f"{self._api}{OAUTH}/authorize?{urlencode(query)}"

    def exchange(self, code: str, callback: str) -> Login:
        """The login that a code of the redirected address stands for; a code is good for half a minute, once."""
        now_sec = self._clock.now_ms() / 1000
        return self._buy(
            {"grant_type": "authorization_code", "code": code, "redirect_uri": callback},
            now_sec,
            "the code, which is good once and for half a minute",
        )

    def refresh(self, login: Login) -> Login:
        """The same login with another access token."""
        form = {"grant_type": "refresh_token", "refresh_token": login.refresh_token}
        return self._buy(form, login.made_sec, REFUSED_LOGIN, login.refresh_token)

    def _buy(self, form: Mapping[str, str], made_sec: float, credential: str, refresh: str = "") -> Login:
        secrets = self._secrets()
        both = f"{secrets['client_id']}:{secrets['client_secret']}".encode()
        headers = {
            "Authorization": f"Basic {base64.b64encode(both).decode()}",
            "Content-Type": "application/x-www-form-urlencoded",
        }
        answer = self.rest.ask(f"{OAUTH}/token", headers, urlencode(form).encode(), credential=credential)
        access, lasts_sec = answer.get("access_token"), answer.get("expires_in", ACCESS_SEC)
        refresh = answer.get("refresh_token") or refresh
        if not is_token(access) or not is_token(refresh):
            raise FeedError("Schwab's answer has no token")
        lasts_sec = lasts_sec if type(lasts_sec) is int and 0 < lasts_sec <= MAX_ACCESS_SEC else ACCESS_SEC
        return Login(refresh, made_sec, str(access), self._clock.now_ms() / 1000 + lasts_sec)

    def _secrets(self) -> dict[str, str]:
        try:
            return read_secrets(find(self._secrets_file), SECRETS)
        except InputError as exc:
            raise FeedError(str(exc)) from None


def code_in(address: str) -> str:
    """The code in the address that the browser was sent to. InputError."""
    try:
        given = parse_qs(urlsplit(address.strip()).query).get("code", [])
    except ValueError:
        given = []
    if len(given) != 1 or not is_token(given[0]):
        raise InputError(
            "that address has no code: copy the whole line of the browser after the login, ?code=... and all"
        )
    return given[0]


class Tokens:
    """What a connection needs, for as long as the login lasts."""

    def __init__(self, api: str, secrets_file: Path, token_file: Path, clock: Clock) -> None:
        self._oauth = OAuth(api, secrets_file, clock)
        self._file = token_file
        self._clock = clock
        self._lock = threading.Lock()  # of two threads of two connections, one asks
        self._patience = Patience(clock)
        self._listing_patience = Patience(clock)  # its own: no refusal there holds up a connection
        self._login: Login | None = None
        self._seen: tuple[int, int] | None = None  # the file that was read
        self._unsaved = ""  # why the newest token is not in the file

    @property
    def login_ends_ms(self) -> int:
        """When somebody has to log in again; 0: not known yet."""
        login = self._login
        return round(login.ends_sec * 1000) if login is not None else 0

    def get(self) -> Access:
        """A good token, and where the streamer is at this moment. FeedError says why there is none, and until when not
        to ask."""
        with self._lock:
            self._patience.wait(self._file)
            try:
                login = self._good(early_sec=0)
                try:
                    return self._access(login)
                except Refused as exc:
                    if not exc.is_secret:
                        raise
                return self._access(self._renew())  # it was taken back before its time
            except Refused as exc:
                self._patience.refuse(self._file, exc)

    def listings(self, symbols: Sequence[str]) -> Mapping[str, Any]:
        """What Schwab says of these, in its spelling: its answer to a question for their reference data. FeedError.

        Asked without the lock: no connection waits for an answer about books."""
        path = f"{QUOTES}?{urlencode({'symbols': ','.join(symbols), 'fields': 'reference'})}"
        with self._lock:
            self._listing_patience.wait(self._file)
            self._patience.wait(self._file)
            try:
                login = self._good(early_sec=0)
            except Refused as exc:
                self._patience.refuse(self._file, exc)
        try:
            try:
                return self._ask_listings(path, login)
            except Refused as exc:
                if not exc.is_secret:
                    raise
            return self._ask_listings(path, self._after(login))  # the token was taken back before its time
        except Refused as exc:
            with self._lock:
                self._listing_patience.refuse(self._file, exc)

    def _after(self, login: Login) -> Login:
        """The login with the token that follows; Refused."""
        with self._lock:
            if self._login is None or self._login.access_token == login.access_token:
                self._login = login
                return self._renew()
            return self._login

    def _ask_listings(self, path: str, login: Login) -> Mapping[str, Any]:
        headers = {"Authorization": f"Bearer {login.access_token}"}
        return self._oauth.rest.ask(path, headers, credential="the question for listings")

    def renew(self) -> bool:
        """Buy the next token when the present one ends soon, so that none is missing when a connection is made. True:
        it was bought. FeedError when it cannot be had: the present one is as good as before."""
        with self._lock:
            before = self._login
            self._patience.wait(self._file)
            try:
                return self._good(early_sec=EARLY_SEC) is not before
            except Refused as exc:
                self._patience.refuse(self._file, exc)

    def refused(self) -> None:
        """The streamer did not take what ``get`` gave: the next one is bought anew."""
        with self._lock:
            if self._login is not None:
                self._login = self._login._replace(access_until_sec=0.0)

    def leave_alone(self, why: str, wait_sec: float, *, login_helps: bool = False) -> FeedError:
        """For a while nothing is asked; ``login_helps``: unless somebody logs in anew. The error that says so."""
        with self._lock:
            try:
                self._patience.refuse(self._file, Refused(why, wait_sec, is_secret=login_helps))
            except FeedError as exc:
                return exc

    def _good(self, early_sec: float) -> Login:
        if self._login is None or stamp(self._file) != self._seen:
            self._login = self._read()
        if self._login.access_until_sec - early_sec <= self._clock.now_ms() / 1000:
            return self._renew()
        return self._login

    def _read(self) -> Login:
        self._seen = stamp(self._file)
        try:
            return read_login(self._file)
        except InputError as exc:
            raise FeedError(str(exc)) from None

    def _renew(self) -> Login:
        """Under the lock of the file: who asks second finds what the first has bought. Whoever holds it for good holds
        up no connection: the file is theirs then."""
        assert self._login is not None
        is_ours = True
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(changing(self._file))
            except OSError as exc:
                is_ours = not isinstance(exc, TimeoutError)
                self._note_unsaved(exc)
            before, there = self._login, self._read()
            if there.access_token != before.access_token and there.access_until_sec > self._clock.now_ms() / 1000:
                self._login = there
            else:
                self._login = self._oauth.refresh(there)
                if is_ours:
                    self._save()
            return self._login

    def _save(self) -> None:
        assert self._login is not None
        try:
            write_login(self._file, self._login)
        except OSError as exc:
            self._note_unsaved(exc)
        else:
            self._seen, self._unsaved = stamp(self._file), ""

    def _note_unsaved(self, exc: OSError) -> None:
        """It works from memory; a restart buys another one."""
        why = exc.strerror or type(exc).__name__
        if why != self._unsaved:
            self._unsaved = why
            todo = "end that process" if isinstance(exc, TimeoutError) else "make it writable"
            log.warning(event("schwab_token_not_saved", file=self._file, error=why, action=todo))

    def _access(self, login: Login) -> Access:
        headers = {"Authorization": f"Bearer {login.access_token}"}
        return Access(_streamer(self._oauth.rest.ask(PREFERENCES, headers)), login.access_token)


def _streamer(preferences: Mapping[str, Any]) -> Streamer:
    told = preferences.get("streamerInfo")
    first = told[0] if isinstance(told, list) and told and isinstance(told[0], dict) else {}
    names = ("streamerSocketUrl", "schwabClientCustomerId", "schwabClientCorrelId", "schwabClientChannel",
             "schwabClientFunctionId")  # fmt: skip
    values = [first.get(name) for name in names]
    if not all(is_token(value) for value in values):
        raise FeedError("Schwab's preferences name no streamer: does the application have Market Data?")
    streamer = Streamer(*map(str, values))
    problem = url_problem(streamer.url, "wss")
    if problem:
        raise FeedError(f"Schwab's streamerSocketUrl {problem}")
    return streamer
