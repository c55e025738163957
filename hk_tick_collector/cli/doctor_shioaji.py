"""The checks of ``hk-tickctl doctor`` where the source is Shioaji: the gateway, its traffic, and whether trades come.

A contract is looked up, which subscribes nothing. The trial subscribes one symbol, which stays subscribed at the
gateway, as it is for the recorder.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from hk_tick_collector.cli.checkup import Checkup, Outcome, fail, ok, skipped, warn
from hk_tick_collector.cli.common import App
from hk_tick_collector.cli.credentials import secrets_file
from hk_tick_collector.cli.trial import of_all, try_trades
from hk_tick_collector.core.clock import SystemClock
from hk_tick_collector.core.errors import FeedError, RecorderError
from hk_tick_collector.core.text import counted, cut, printable
from hk_tick_collector.sources.shioaji.gateway import NotThere
from hk_tick_collector.sources.shioaji.messages import HEALTH, INFO, USAGE, contract_path
from hk_tick_collector.sources.shioaji.spec import MAX_SUBSCRIPTIONS, SECRETS
from hk_tick_collector.sources.shioaji.symbols import at_shioaji, prefix_of

if TYPE_CHECKING:
    from hk_tick_collector.sources.shioaji.link import ShioajiSource

CHECKS = ("shioaji_gateway", "shioaji_traffic", "shioaji_symbols", "shioaji_trades")
LOW_BYTES = 50_000_000
MB = 1_000_000


def check(checkup: Checkup, app: App, *, offline: bool) -> None:
    """All of them, in order."""
    checkup.run("shioaji_secrets", lambda: _secrets(app), ["configuration"])
    if offline:
        for name in CHECKS:
            checkup.add(name, skipped("left out (--offline)"))
        return
    checkup.run("shioaji_gateway", lambda: _gateway(app), ["shioaji_secrets"])
    checkup.run("shioaji_traffic", lambda: _traffic(app), ["shioaji_gateway"])
    checkup.run("shioaji_symbols", lambda: _symbols(app), ["shioaji_gateway"])
    checkup.run("shioaji_trades", lambda: asyncio.run(_trades(app)), ["shioaji_gateway"])


def _secrets(app: App) -> Outcome:
    path = app.settings.shioaji_secrets_file
    if path is None:
        return ok("none: a gateway on this machine wants no key")
    return secrets_file(path, SECRETS, "docs/shioaji.md")


def _source(app: App) -> ShioajiSource:
    # Imported here: for whoever has this source.
    from hk_tick_collector.imports.stored import RecordedDays  # noqa: PLC0415
    from hk_tick_collector.sources.shioaji.link import ShioajiSource  # noqa: PLC0415

    s = app.settings
    return ShioajiSource(s.spec, s.shioaji_url, s.shioaji_secrets_file, RecordedDays(s.data_root, 1), SystemClock())


def _ask(app: App, path: str) -> dict[str, Any]:
    answer = _source(app).gateway.ask("GET", path)
    if not isinstance(answer, dict):
        raise FeedError(f"{path}: the answer is not in the known form; is this a Shioaji gateway?")
    return answer


def _gateway(app: App) -> Outcome:
    try:
        health, info = _ask(app, HEALTH), _ask(app, INFO)
    except RecorderError as exc:
        return fail(str(exc), "start the gateway (docs/shioaji.md), and see SHIOAJI_URL")
    status = printable(cut(str(health.get("status")), 40))
    state_text = f"version {printable(cut(str(health.get('version')), 20))}, {status}"
    restart = "restart it: systemctl restart shioaji-gateway"
    if status != "healthy" or health.get("session_recovering") is True:
        return fail(f"{state_text}; its session is not there", restart)
    if health.get("token_stale") is True:
        return fail(f"{state_text}; its token has ended", restart)
    if len(app.settings.symbols) > MAX_SUBSCRIPTIONS:
        return fail(
            f"{state_text}; {len(app.settings.symbols)} symbols are wanted",
            f"SinoPac allows {MAX_SUBSCRIPTIONS} subscriptions: shorten FUTU_SYMBOLS",
        )
    if info.get("simulation") is True:
        return warn(f"{state_text}, in simulation", "its market is not the real one: set SJ_PRODUCTION=true")
    return ok(state_text)


def _traffic(app: App) -> Outcome:
    try:
        usage = _ask(app, USAGE)
    except RecorderError as exc:
        return warn(str(exc), "without it no day can be compared after its close")
    left, limit = usage.get("remaining_bytes"), usage.get("limit_bytes")
    if type(left) is not int or type(limit) is not int:
        return warn("the gateway does not say how much is left", "without it no day can be compared after its close")
    shown = f"{left / MB:,.0f} MB of {limit / MB:,.0f} MB left today"
    if left < LOW_BYTES:
        return warn(shown, "days are compared after 08:00 Taipei time, when it begins anew; ticks go on")
    return ok(shown)


def _symbols(app: App) -> Outcome:
    """Each, in the list of contracts. A pause in answers ends it: what was not asked for then is said."""
    gateway, symbols = _source(app).gateway, app.settings.symbols
    unknown, problems = [], []
    for number, symbol in enumerate(symbols):
        contract = at_shioaji(symbol)
        try:
            answer = gateway.ask("GET", contract_path(contract))
        except NotThere:
            unknown.append(symbol)
        except RecorderError as exc:
            untried = symbols[number:]
            problems.append(f"{exc}; not looked up: {of_all(untried, symbols)}")
            break
        else:
            exchange = answer.get("exchange") if isinstance(answer, dict) else None
            right = prefix_of(exchange) if isinstance(exchange, str) else None
            if right is not None and exchange != contract.exchange:
                problems.append(f"{symbol} trades on {exchange}: write {right}.{symbol.partition('.')[2]}")
    if unknown:
        problems.insert(0, f"the gateway does not know {of_all(unknown, symbols)}")
    if problems:
        return fail("; ".join(problems), "correct FUTU_SYMBOLS; a gateway older than 1.7 has no such list")
    return ok(f"{counted(len(symbols), 'symbol')}: the gateway knows all of them")


async def _trades(app: App) -> Outcome:
    return await try_trades(
        _source(app),
        app.settings.symbols,
        page="docs/shioaji.md",
        on_error="see the gateway's own log: journalctl -u shioaji-gateway",
        means="the gateway's line to the market is dead: restart it",
    )
