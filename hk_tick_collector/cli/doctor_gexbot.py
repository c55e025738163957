"""The checks of ``hk-tickctl doctor`` where the source is gexbot: the key, the tickers, a snapshot, the file of a day.

The trial asks for one series a few times beside the recorder, and for the address of one file, which it does not read.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from hk_tick_collector.cli.checkup import Checkup, Outcome, fail, ok, skipped, warn
from hk_tick_collector.cli.common import App
from hk_tick_collector.cli.credentials import secrets_file
from hk_tick_collector.cli.trial import LOOK_SEC, OPEN_SEC, TRIAL_SEC, Counting
from hk_tick_collector.core.clock import SystemClock
from hk_tick_collector.core.errors import FeedError
from hk_tick_collector.core.text import counted
from hk_tick_collector.sources.gexbot.access import SECRETS

if TYPE_CHECKING:
    from hk_tick_collector.sources.gexbot.link import GexbotSource

CHECKS = ("gexbot_key", "gexbot_tickers", "gexbot_snapshot", "gexbot_copy")


def check(checkup: Checkup, app: App, *, offline: bool) -> None:
    """All of them, in order."""
    checkup.run("gexbot_key", lambda: _key(app), ["configuration"])
    if offline:
        for name in CHECKS[1:]:
            checkup.add(name, skipped("left out (--offline)"))
        return
    checkup.run("gexbot_tickers", lambda: asyncio.run(_tickers(app)), ["gexbot_key"])
    checkup.run("gexbot_snapshot", lambda: asyncio.run(_snapshot(app)), ["gexbot_tickers"])
    checkup.run("gexbot_copy", lambda: _copy(app), ["gexbot_snapshot"])


def _key(app: App) -> Outcome:
    path = app.settings.gexbot_key_file
    assert path is not None  # the settings ask for it
    return secrets_file(path, SECRETS, "docs/gexbot.md")


def _source(app: App) -> GexbotSource:
    from hk_tick_collector.sources.gexbot.copies import CopyOptions  # noqa: PLC0415 - for whoever has this source
    from hk_tick_collector.sources.gexbot.link import GexbotSource  # noqa: PLC0415

    s = app.settings
    assert s.gexbot_key_file is not None
    return GexbotSource(
        s.spec, s.gexbot_api, s.gexbot_key_file, s.gexbot_series[:1], CopyOptions(0, 1), lambda _day: (),
        SystemClock(), any_time=True,
    )  # fmt: skip


async def _tickers(app: App) -> Outcome:
    link, refused = _source(app).open(Counting()), []
    try:
        await link.open(OPEN_SEC)
        for symbol in app.settings.symbols:
            try:
                await link.subscribe([symbol], OPEN_SEC)
            except FeedError as exc:
                refused.append(str(exc))
    except FeedError as exc:
        return fail(str(exc), "is GEXBOT_API right, and may this machine ask over the internet?")
    finally:
        link.close()
    if refused:
        return fail("; ".join(refused[:5]), "correct FUTU_SYMBOLS: gexbot's tickers with US. before them")
    return ok(f"{counted(len(app.settings.symbols), 'symbol')}: gexbot lists all of them")


async def _snapshot(app: App) -> Outcome:
    sink, symbol = Counting(), app.settings.symbols[0]
    link = _source(app).open(sink)
    try:
        await link.open(OPEN_SEC)
        await link.subscribe([symbol], OPEN_SEC)
        until = time.monotonic() + TRIAL_SEC
        while not sink.ticks and not sink.rejects and time.monotonic() < until:
            if link.lost.done():
                return fail(link.lost.result(), "is the key right, and the series in the subscription?")
            await asyncio.sleep(LOOK_SEC)
    except FeedError as exc:
        return fail(str(exc), "is the key right, and the series in the subscription?")
    finally:
        link.close()
    series = f"{symbol}, {app.settings.gexbot_series[0]}"
    if sink.ticks:
        wanted = len(app.settings.symbols) * len(app.settings.gexbot_series)
        alone = f" (of {wanted:,} series this one was tried)" if wanted > 1 else ""
        return ok(f"{series}: a snapshot came{alone}")
    if sink.rejects:
        return warn(f"{series}: nothing that can be recorded came: {sink.reason}", "see docs/gexbot.md")
    return fail(f"{series}: no snapshot within {TRIAL_SEC:.0f} s", "see the recorder's log")


def _copy(app: App) -> Outcome:
    from hk_tick_collector.sources.gexbot.copies import address_of  # noqa: PLC0415 - for whoever has this source

    if not app.settings.gexbot_copy_days:
        return skipped("GEXBOT_COPY_DAYS=0: no file of a day is wanted")
    source = _source(app)
    day = app.calendar.previous_trading_day(app.calendar.market.trading_day(app.now_ms))
    symbol, name = app.settings.symbols[0], app.settings.gexbot_series[0]
    try:
        address_of(source.access, day, symbol, *name)
    except FeedError as exc:
        return warn(
            f"the file of {day} is not given: {exc}",
            "days stay unproven without files; they take the Quant subscription, or set GEXBOT_COPY_DAYS=0",
        )
    return ok(f"the file of {day} is there")
