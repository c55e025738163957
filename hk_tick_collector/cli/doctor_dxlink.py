"""The checks of ``hk-tickctl doctor`` where the source is dxLink: the secrets, the token, which symbols are known, and
whether trades come.

The last two have a connection of their own each, beside the recorder's. One login serves them all.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

from hk_tick_collector.cli.checkup import Checkup, Outcome, fail, ok, skipped, warn
from hk_tick_collector.cli.common import App
from hk_tick_collector.cli.credentials import secrets_file
from hk_tick_collector.cli.trial import LOOK_SEC, OPEN_SEC, TRIAL_SEC, Counting, of_all, try_trades
from hk_tick_collector.core.clock import SystemClock
from hk_tick_collector.core.errors import FeedError, FeedLost
from hk_tick_collector.core.text import counted
from hk_tick_collector.sources.dxlink.tokens import SECRETS

if TYPE_CHECKING:
    from hk_tick_collector.sources.dxlink.link import DxLinkSource
    from hk_tick_collector.sources.dxlink.lookup import Lookup

ON_ERROR = "is the address right, and the token good for this endpoint?"
CHECKS = ("dxlink_token", "dxlink_symbols", "dxlink_trades")


def check(checkup: Checkup, app: App, *, offline: bool) -> None:
    """All of them, in order."""
    checkup.run("dxlink_secrets", lambda: _secrets(app), ["configuration"])
    if offline:
        for name in CHECKS:
            checkup.add(name, skipped("left out (--offline)"))
        return
    source = cache(lambda: _source(app))
    checkup.run("dxlink_token", lambda: _token(source()), ["dxlink_secrets"])
    checkup.run("dxlink_symbols", lambda: asyncio.run(_symbols(source(), app.settings.symbols)), ["dxlink_token"])
    checkup.run("dxlink_trades", lambda: asyncio.run(_trades(source(), app.settings.symbols)), ["dxlink_token"])


def _secrets(app: App) -> Outcome:
    path = app.settings.dxlink_secrets_file
    if path is None:
        return ok("none: DXLINK_URL is asked without a token")
    return secrets_file(path, SECRETS, "docs/dxlink.md")


def _source(app: App) -> DxLinkSource:
    from hk_tick_collector.sources.dxlink.link import DxLinkSource  # noqa: PLC0415 - for whoever has this source

    s = app.settings
    return DxLinkSource(s.spec, s.dxlink_api, s.dxlink_url, s.dxlink_secrets_file, s.dxlink_venues, SystemClock())


def _token(source: DxLinkSource) -> Outcome:
    try:
        access = source.tokens.get()
    except FeedError as exc:
        return fail(str(exc), "make a new refresh token at TastyTrade (docs/dxlink.md)")
    return ok(f"for {access.url.partition('?')[0]}" if access.token else "none is needed")


async def _symbols(source: DxLinkSource, symbols: Sequence[str]) -> Outcome:
    # Imported here: for whoever has this source.
    from hk_tick_collector.sources.dxlink.lookup import Lookup  # noqa: PLC0415
    from hk_tick_collector.sources.dxlink.mapping import TradeMapper  # noqa: PLC0415
    from hk_tick_collector.sources.dxlink.symbols import at_dxlink  # noqa: PLC0415

    spelt = {symbol: at_dxlink(symbol, source.venues) for symbol in symbols}
    mapper, batch = TradeMapper(source.market, source.days, {}), source.spec.pull.subscribe_batch
    lookup = Lookup(source.tokens, mapper, Counting(), source.clock, list(spelt.values()), batch)
    try:
        await _listen(lookup)
    except FeedError as exc:
        return fail(str(exc), ON_ERROR)
    finally:
        lookup.stop()
    unheard = [symbol for symbol, theirs in spelt.items() if theirs in lookup.unheard]
    if not unheard:
        return ok(f"{counted(len(symbols), 'symbol')}: the endpoint knows all of them")
    if len(unheard) == len(symbols):
        return warn(
            f"within {TRIAL_SEC:.0f} s nothing came that describes any of {counted(len(symbols), 'symbol')}",
            "the endpoint describes none or knows none: whether it knows a symbol shows only in its trades",
        )
    return warn(
        f"within {TRIAL_SEC:.0f} s nothing came that describes {of_all(unheard, symbols)}",
        "the endpoint says nothing of a symbol that it does not know: correct FUTU_SYMBOLS, unless they are right",
    )


async def _listen(lookup: Lookup) -> None:
    """Until all were described, or for so long. FeedError."""
    from hk_tick_collector.sources.remote.conversation import within  # noqa: PLC0415 - for whoever has this source

    lookup.start()
    await within(lookup.opened, OPEN_SEC, "no greeting")
    until = time.monotonic() + TRIAL_SEC
    while lookup.unheard and time.monotonic() < until:
        if lookup.loss.future.done():
            raise FeedLost(lookup.loss.future.result())
        await asyncio.sleep(LOOK_SEC)


async def _trades(source: DxLinkSource, symbols: Sequence[str]) -> Outcome:
    return await try_trades(
        source,
        symbols,
        page="docs/dxlink.md",
        on_error=ON_ERROR,
        means="the endpoint does not send TimeAndSale of it",
    )
