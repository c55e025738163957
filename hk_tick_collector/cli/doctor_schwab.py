"""The checks of ``hk-tickctl doctor`` where the source is Schwab: the secrets, the login and its end, the streamer,
which symbols are known, and which service has the books that are wanted.

Nothing is subscribed: a user has one stream, and a trial would end the recorder's.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter

from hk_tick_collector.cli.checkup import Checkup, Outcome, fail, ok, skipped, warn
from hk_tick_collector.cli.common import App
from hk_tick_collector.cli.credentials import secrets_file
from hk_tick_collector.cli.trial import of_all
from hk_tick_collector.core.clock import SystemClock
from hk_tick_collector.core.errors import FeedError, InputError
from hk_tick_collector.core.text import counted
from hk_tick_collector.health.judgement import LOGIN_WARN_MS, login_words
from hk_tick_collector.sources.schwab.books import LISTINGS_A_REQUEST, Listings
from hk_tick_collector.sources.schwab.symbols import at_schwab
from hk_tick_collector.sources.schwab.tokenfile import HOW, read_login
from hk_tick_collector.sources.schwab.tokens import SECRETS, Tokens


def check(checkup: Checkup, app: App, *, offline: bool) -> None:
    """All of them, in order."""
    checkup.run("schwab_secrets", lambda: _secrets(app), ["configuration"])
    checkup.run("schwab_login", lambda: _login(app), ["configuration"])
    if offline:
        for name in ("schwab_streamer", "schwab_symbols"):
            checkup.add(name, skipped("left out (--offline)"))
        return
    checkup.run("schwab_streamer", lambda: _streamer(app), ["schwab_secrets", "schwab_login"])
    checkup.run("schwab_symbols", lambda: _symbols(app), ["schwab_streamer"])
    if app.settings.book_symbols:
        checkup.run("schwab_books", lambda: _books(app), ["schwab_streamer"])


def _secrets(app: App) -> Outcome:
    path = app.settings.schwab_secrets_file
    assert path is not None  # the settings ask for it
    return secrets_file(path, SECRETS, "docs/schwab.md")


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


def _symbols(app: App) -> Outcome:
    """By their reference data: whether their trades come, only a subscription shows."""
    tokens, symbols, unknown = _tokens(app), app.settings.symbols, []
    for at in range(0, len(symbols), LISTINGS_A_REQUEST):
        part = {symbol: at_schwab(symbol) for symbol in symbols[at : at + LISTINGS_A_REQUEST]}
        try:
            answer = tokens.listings(list(part.values()))
        except FeedError as exc:
            return warn(f"{exc}; not asked for: {of_all(symbols[at:], symbols)}", "run doctor again after that")
        unknown += [symbol for symbol, theirs in part.items() if not isinstance(answer.get(theirs), dict)]
    if unknown:
        return fail(f"Schwab does not know {of_all(unknown, symbols)}", "correct FUTU_SYMBOLS")
    return ok(f"{counted(len(symbols), 'symbol')}: Schwab knows all of them; trades were not tried, see docs/schwab.md")


def _books(app: App) -> Outcome:
    """By their listings: whether the streamer sends them, only a subscription shows."""
    counts, problems = asyncio.run(_book_services(app))
    if problems:
        return fail("; ".join(problems), "take it out of BOOK_SYMBOLS if it has no books; docs/schwab.md#order-books")
    return ok(", ".join(f"{counted(count, 'symbol')} of {service}" for service, count in sorted(counts.items())))


async def _book_services(app: App) -> tuple[Counter[str], list[str]]:
    """How many symbols each service has, and what is said of those that none has."""
    listings = Listings(_tokens(app).listings, SystemClock())
    spelt = [at_schwab(symbol) for symbol in app.settings.book_symbols]
    with contextlib.suppress(FeedError):  # told below, of each
        await listings.services(spelt)
    counts: Counter[str] = Counter()
    problems: dict[str, None] = {}
    for name in spelt:
        try:
            counts.update((await listings.services([name])).values())
        except FeedError as exc:
            problems[str(exc)] = None
    return counts, list(problems)


def _streamer(app: App) -> Outcome:
    try:
        access = _tokens(app).get()
    except FeedError as exc:
        return fail(str(exc), "docs/schwab.md says what each step needs")
    return ok(f"let in; the streamer is {access.streamer.url.partition('?')[0]}")
