"""The checks of ``hk-tickctl doctor`` where the source is Schwab: the secrets, the login and its end, the streamer,
and which service has the books that are wanted.

Nothing is subscribed: a user has one stream, and a trial would end the recorder's.
"""

from __future__ import annotations

import asyncio
from collections import Counter

from hk_tick_collector.cli.checkup import Checkup, Outcome, fail, ok, skipped, warn
from hk_tick_collector.cli.common import App
from hk_tick_collector.core.clock import SystemClock
from hk_tick_collector.core.errors import FeedError, InputError
from hk_tick_collector.core.text import counted
from hk_tick_collector.health.judgement import LOGIN_WARN_MS, login_words
from hk_tick_collector.sources.schwab.books import Listings
from hk_tick_collector.sources.schwab.symbols import at_schwab
from hk_tick_collector.sources.schwab.tokenfile import HOW, read_login
from hk_tick_collector.sources.schwab.tokens import SECRETS, Tokens
from hk_tick_collector.sources.secrets import find, read_secrets


def check(checkup: Checkup, app: App, *, offline: bool) -> None:
    """All of them, in order."""
    checkup.run("schwab_secrets", lambda: _secrets(app), ["configuration"])
    checkup.run("schwab_login", lambda: _login(app), ["configuration"])
    if offline:
        checkup.add("schwab_streamer", skipped("left out (--offline)"))
        return
    checkup.run("schwab_streamer", lambda: _streamer(app), ["schwab_secrets", "schwab_login"])
    if app.settings.book_symbols:
        checkup.run("schwab_books", lambda: _books(app), ["schwab_streamer"])


def _secrets(app: App) -> Outcome:
    path = app.settings.schwab_secrets_file
    assert path is not None  # the settings ask for it
    try:
        names = read_secrets(find(path), SECRETS)
    except InputError as exc:
        return fail(str(exc), "docs/schwab.md says what is in it")
    return ok(f"{path}: {', '.join(sorted(names))}")


def _login(app: App) -> Outcome:
    path = app.settings.schwab_token_file
    assert path is not None  # the settings ask for it
    try:
        login = read_login(path)
    except InputError as exc:
        return fail(str(exc), "a person logs in once a week (docs/schwab.md)")
    ends_ms, now_ms = round(login.ends_sec * 1000), SystemClock().now_ms()
    text = f"{path}: it {login_words(ends_ms, now_ms)}"
    if ends_ms <= now_ms:
        return fail(text, HOW)
    return warn(text, HOW) if ends_ms - now_ms < LOGIN_WARN_MS else ok(text)


def _tokens(app: App) -> Tokens:
    s = app.settings
    assert s.schwab_secrets_file is not None  # the settings ask for both
    assert s.schwab_token_file is not None
    return Tokens(s.schwab_api, s.schwab_secrets_file, s.schwab_token_file, SystemClock())


def _books(app: App) -> Outcome:
    """By their listings: whether the streamer sends them, only a subscription shows."""
    spelt = [at_schwab(symbol) for symbol in app.settings.book_symbols]
    listings = Listings(_tokens(app).listings, SystemClock())
    try:
        services = asyncio.run(listings.services(spelt))
    except FeedError as exc:
        return fail(str(exc), "take it out of BOOK_SYMBOLS if it has no books; docs/schwab.md#order-books")
    counts = Counter(services.values())
    return ok(", ".join(f"{counted(count, 'symbol')} of {service}" for service, count in sorted(counts.items())))


def _streamer(app: App) -> Outcome:
    try:
        access = _tokens(app).get()
    except FeedError as exc:
        return fail(str(exc), "docs/schwab.md says what each step needs")
    return ok(f"let in; the streamer is {access.streamer.url.partition('?')[0]}")
