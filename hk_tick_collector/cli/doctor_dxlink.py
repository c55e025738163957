"""The checks of ``hk-tickctl doctor`` where the source is dxLink: the secrets, the token, and whether trades come.

The trial subscribes one symbol on a connection of its own beside the recorder's.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from hk_tick_collector.cli.checkup import Checkup, Outcome, fail, ok, skipped
from hk_tick_collector.cli.common import App
from hk_tick_collector.cli.trial import try_trades
from hk_tick_collector.core.clock import SystemClock
from hk_tick_collector.core.errors import FeedError, InputError
from hk_tick_collector.sources.dxlink.tokens import SECRETS
from hk_tick_collector.sources.secrets import find, read_secrets

if TYPE_CHECKING:
    from hk_tick_collector.sources.dxlink.link import DxLinkSource


def check(checkup: Checkup, app: App, *, offline: bool) -> None:
    """All of them, in order."""
    checkup.run("dxlink_secrets", lambda: _secrets(app), ["configuration"])
    if offline:
        for name in ("dxlink_token", "dxlink_trades"):
            checkup.add(name, skipped("left out (--offline)"))
        return
    checkup.run("dxlink_token", lambda: _token(app), ["dxlink_secrets"])
    checkup.run("dxlink_trades", lambda: asyncio.run(_trades(app)), ["dxlink_token"])


def _secrets(app: App) -> Outcome:
    path = app.settings.dxlink_secrets_file
    if path is None:
        return ok("none: DXLINK_URL is asked without a token")
    try:
        names = read_secrets(find(path), SECRETS)
    except InputError as exc:
        return fail(str(exc), "docs/dxlink.md says what is in it")
    return ok(f"{path}: {', '.join(sorted(names))}")


def _source(app: App) -> DxLinkSource:
    from hk_tick_collector.sources.dxlink.link import DxLinkSource  # noqa: PLC0415 - for whoever has this source

    s = app.settings
    return DxLinkSource(s.spec, s.dxlink_api, s.dxlink_url, s.dxlink_secrets_file, s.dxlink_venues, SystemClock())


def _token(app: App) -> Outcome:
    try:
        access = _source(app).tokens.get()
    except FeedError as exc:
        return fail(str(exc), "make a new refresh token at TastyTrade (docs/dxlink.md)")
    return ok(f"for {access.url.partition('?')[0]}" if access.token else "none is needed")


async def _trades(app: App) -> Outcome:
    return await try_trades(
        _source(app),
        app.settings.symbols[0],
        page="docs/dxlink.md",
        on_error="is the address right, and the token good for this endpoint?",
        means="the endpoint does not send TimeAndSale of it",
    )
