"""The checks of ``hk-tickctl doctor`` where the source is dxLink: the secrets, the token, and whether trades come.

The trial subscribes one symbol on a connection of its own beside the recorder's.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hk_tick_collector.cli.checkup import Checkup, Outcome, fail, ok, skipped, warn
from hk_tick_collector.cli.common import App
from hk_tick_collector.core.clock import SystemClock
from hk_tick_collector.core.errors import FeedError, InputError
from hk_tick_collector.core.facts import DayFact, Fact
from hk_tick_collector.core.text import counted
from hk_tick_collector.records.tick import RejectedTick, Tick
from hk_tick_collector.sources.dxlink.tokens import SECRETS
from hk_tick_collector.sources.secrets import find, read_secrets

if TYPE_CHECKING:
    from hk_tick_collector.sources.dxlink.link import DxLinkSource

OPEN_SEC = 10.0
TRIAL_SEC = 10.0
LOOK_SEC = 0.1


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


class Counting:
    """A sink that counts."""

    def __init__(self) -> None:
        self.ticks = self.rejects = 0
        self.reason = ""

    def push(self, messages: Sequence[Sequence[Tick]]) -> None:
        self.ticks += sum(map(len, messages))

    def reject(self, rejected: Sequence[RejectedTick]) -> None:
        self.rejects += len(rejected)
        self.reason = rejected[-1].reason

    def learn(self, facts: Sequence[Fact | DayFact]) -> None:
        """Corrections are trades, too."""

    def waiting_rows(self) -> int:
        return 0

    def changed(self, interrupted: bool = False) -> None:
        """Nobody waits."""


async def _trades(app: App) -> Outcome:
    sink, symbol = Counting(), app.settings.symbols[0]
    link = _source(app).open(sink)
    try:
        await link.open(OPEN_SEC)
        await link.subscribe([symbol], OPEN_SEC)
        until = time.monotonic() + TRIAL_SEC
        while not sink.ticks and time.monotonic() < until:
            if link.lost.done():
                return fail(f"the connection was lost: {link.lost.result()}", "see the recorder's log")
            await asyncio.sleep(LOOK_SEC)
    except FeedError as exc:
        return fail(str(exc), "is the address right, and the token good for this endpoint?")
    finally:
        link.close()
    if sink.ticks:
        return ok(f"{symbol}: {counted(sink.ticks, 'trade')} came")
    if sink.rejects:
        return warn(f"{symbol}: nothing that can be recorded came: {sink.reason}", "see docs/dxlink.md")
    return warn(
        f"{symbol}: no trade within {TRIAL_SEC:.0f} s",
        "while it trades that means that the endpoint does not send TimeAndSale of it",
    )
