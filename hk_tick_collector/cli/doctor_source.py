"""The checks of ``hk-tickctl doctor`` that ask OpenD, over a connection of their own beside the recorder's.

The trial subscription takes a symbol that is subscribed already when there is one, which costs no quota; otherwise one
that is wanted, and its quota is free again when the connection closes.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hk_tick_collector.cli.checkup import Checkup, Outcome, fail, failure, ok, skipped, warn
from hk_tick_collector.cli.common import App
from hk_tick_collector.core.errors import FeedError, FeedLost, FeedTimeout, RecorderError, RequestNotBuilt
from hk_tick_collector.core.text import counted

if TYPE_CHECKING:
    from hk_tick_collector.sources.futu.answers import SubscriptionInfo
    from hk_tick_collector.sources.futu.sdk import Connection

MAX_SDK_LOG_BYTES = 500_000_000
PORT_TIMEOUT_SEC = 3.0
REQUEST_TIMEOUT_SEC = 8.0
SYMBOLS_TIMEOUT_SEC = 40.0  # longer than the window of OpenD's limit for static data
CLOCK_WARN_SEC = 2.0
CLOCK_FAIL_SEC = 60.0
TRIAL_ROWS = 10
CALENDAR_DAYS = 14
SHOWN_SYMBOLS = 10
_PORT_ADVICE = "start OpenD, or correct FUTU_HOST and FUTU_PORT (its api_port)"

CHECKS = (
    "opend_port", "opend_answer", "opend_login", "clock", "quote_right", "quota", "symbols", "trading_day", "trial",
)  # fmt: skip


@dataclass
class _Patient:
    """What the checks learn of one OpenD and pass on."""

    app: App
    connection: Connection
    subscriptions: SubscriptionInfo | None = None
    unknown: set[str] = field(default_factory=set)

    @property
    def wanted(self) -> Sequence[str]:
        return self.app.settings.symbols


_Check = Callable[[_Patient], Awaitable[Outcome]]


def check(checkup: Checkup, app: App, *, offline: bool) -> None:
    """All of them, in order. The SDK must be configured (the check ``sdk_log``)."""
    if offline:
        for name in CHECKS:
            checkup.add(name, skipped("left out (--offline)"))
        return
    checkup.run("opend_port", lambda: _port(app), ["configuration"])
    why = checkup.obstacle(["opend_port", "sdk_log"])
    if why is None:
        asyncio.run(_ask(checkup, app))
    else:
        for name in CHECKS[1:]:
            checkup.add(name, skipped(why))


def _port(app: App) -> Outcome:
    host, port = app.settings.futu_host, app.settings.futu_port
    try:
        with socket.create_connection((host, port), PORT_TIMEOUT_SEC):
            return ok(f"{host}:{port} takes connections")
    except ConnectionRefusedError:
        return fail(f"nothing listens on {host}:{port}", _PORT_ADVICE)
    except socket.gaierror:
        return fail(f"the host {host} is not known", "correct FUTU_HOST, or the name's entry in DNS or /etc/hosts")
    except TimeoutError:
        return fail(f"{host}:{port} did not answer in {PORT_TIMEOUT_SEC:g} s", "check network and firewall")
    except OSError as exc:
        return fail(f"{host}:{port} cannot be reached: {exc.strerror or exc}", _PORT_ADVICE)


async def _ask(checkup: Checkup, app: App) -> None:
    from hk_tick_collector.sources.futu.markets import at_futu  # noqa: PLC0415 - futu-api takes its time
    from hk_tick_collector.sources.futu.sdk import Connection  # noqa: PLC0415

    settings = app.settings
    market = at_futu(settings.market)
    connection = Connection(settings.futu_host, settings.futu_port, lambda _pushes: None, lambda _notice: None, market)
    patient = _Patient(app, connection)
    try:
        await _run(checkup, "opend_answer", _answer, patient, [])
        await _run(checkup, "opend_login", _login, patient, ["opend_answer"])
        await _run(checkup, "clock", _clock, patient, ["opend_answer", "zone_data"])
        await _run(checkup, "quote_right", _quote_right, patient, ["opend_login"])
        await _run(checkup, "quota", _quota, patient, ["opend_login"])
        await _run(checkup, "symbols", _symbols, patient, ["opend_login"])
        await _run(checkup, "trading_day", _trading_day, patient, ["opend_login", "zone_data"])
        await _run(checkup, "trial", _trial, patient, ["opend_login", "quote_right", "zone_data"])
    finally:
        connection.close()


async def _run(checkup: Checkup, name: str, check: _Check, patient: _Patient, needs: Sequence[str]) -> None:
    why = checkup.obstacle(needs)
    if why is not None:
        checkup.add(name, skipped(why))
        return
    try:
        outcome = await check(patient)
    except (RecorderError, OSError) as exc:
        outcome = failure(exc)
    checkup.add(name, outcome)


async def _answer(patient: _Patient) -> Outcome:
    encrypted = patient.app.settings.futu_rsa_key_file is not None
    key = (
        "both sides need the same RSA key"
        if encrypted
        else "an OpenD with an RSA key needs FUTU_RSA_KEY_FILE here, too"
    )
    advice = f"is this OpenD's api_port, not its telnet or websocket port? {key}; a hanging OpenD: restart it"
    began_sec = time.monotonic()
    try:
        await patient.connection.open(REQUEST_TIMEOUT_SEC)
    except (FeedLost, FeedTimeout) as exc:
        return fail(f"no answer to InitConnect: {exc}", advice)
    except RequestNotBuilt as exc:
        return fail(f"OpenD was not asked: {exc}", "check FUTU_RSA_KEY_FILE: hk-tick-collector --check-config")
    except FeedError as exc:
        return fail(f"OpenD refuses InitConnect: {exc}", advice)
    return ok(f"answered InitConnect in {(time.monotonic() - began_sec) * 1000:.0f} ms")


async def _login(patient: _Patient) -> Outcome:
    state = await patient.connection.global_state(REQUEST_TIMEOUT_SEC)
    logged_in = "logged in to the quote server" if state.qot_logined else "not logged in to the quote server"
    finding = f"{logged_in}, status {state.program_status}, version {state.server_version}, market {state.market_state}"
    if state.ready:
        return ok(finding)
    return fail(finding, "log OpenD in; it may wait for a verification code (telnet port: input_phone_verify_code)")


async def _clock(patient: _Patient) -> Outcome:

    before_ms = patient.app.now_ms
    state = await patient.connection.global_state(REQUEST_TIMEOUT_SEC)
    after_ms = patient.app.now_ms
    # OpenD gives whole seconds: on average half of one was cut off.
    skew_sec = (before_ms + after_ms) / 2000 - (state.opend_time_sec + 0.5)
    market = patient.app.market
    ours, theirs = market.trading_day(after_ms), market.trading_day(state.opend_time_sec * 1000)
    finding = f"{abs(skew_sec):.0f} s {'ahead of' if skew_sec > 0 else 'behind'} OpenD; {ours} {market.where}"
    if ours != theirs:
        finding += f", for OpenD {theirs}"
    advice = "let the clock be set: sudo timedatectl set-ntp true (latencies, phases and days depend on it)"
    if abs(skew_sec) > CLOCK_FAIL_SEC:
        return fail(finding, advice)
    return warn(finding, advice) if abs(skew_sec) > CLOCK_WARN_SEC else ok(finding)


async def _quote_right(patient: _Patient) -> Outcome:
    info = await patient.connection.user_info(REQUEST_TIMEOUT_SEC)
    market = patient.connection.market
    finding = f"{market.market.name}: {market.rights_text(info.quote_rights)}"
    places = {code.partition(".")[0] for code in patient.wanted}
    lacking = [place for place in market.cannot_subscribe(info.quote_rights) if place in places]
    if lacking:
        which = "" if len(lacking) == len(info.quote_rights) else f": {', '.join(lacking)}"
        return fail(
            f"{finding}, which cannot subscribe{which}",
            f"get the {' and '.join(lacking)} Level 1 or Level 2 quotes; if you have them, another terminal took them: "
            "close it, and start OpenD with -auto_hold_quote_right=1",
        )
    if info.must_agree_disclaimer:
        return warn(f"{finding}; the API disclaimer is not agreed to", "agree to it on Futu's site")
    return ok(finding)


async def _quota(patient: _Patient) -> Outcome:
    info = await patient.connection.subscriptions(REQUEST_TIMEOUT_SEC, all_connections=True)
    patient.subscriptions = info
    wanted = patient.wanted
    total = info.remain_quota + info.used_quota
    needed = sum(code not in info.ticker_codes for code in wanted)
    finding = (
        f"{counted(len(wanted), 'symbol')} wanted, {needed} not subscribed yet; {info.remain_quota} of {total} are free"
    )
    if len(wanted) > total:
        return fail(
            finding, f"shorten FUTU_SYMBOLS to {total}: only the first ones are recorded; or get more quota of Futu"
        )
    if needed > info.remain_quota:
        return fail(finding, "end other programs that subscribe through this account, or shorten FUTU_SYMBOLS")
    settings = patient.app.settings
    books = len(settings.book_symbols) * (2 if settings.book_brokers else 1)
    if len(wanted) + books > total:
        nouns = "order books and broker queues" if settings.book_brokers else "order books"
        return warn(
            f"{finding}; {nouns} want {books} more",
            f"shorten BOOK_SYMBOLS: ticks go first, and {nouns} without quota are blind; or get more quota of Futu",
        )
    return ok(finding)


async def _symbols(patient: _Patient) -> Outcome:
    from hk_tick_collector.sources.futu.reference import Reference  # noqa: PLC0415 - futu-api takes its time

    wanted = patient.wanted
    try:
        async with asyncio.timeout(SYMBOLS_TIMEOUT_SEC):
            answers = await Reference(patient.connection).static_info(wanted)
    except TimeoutError:
        return warn(
            f"OpenD did not tell in {SYMBOLS_TIMEOUT_SEC:g} s about all {len(wanted)} symbols", "try again in a minute"
        )
    delisted = {code for code, info in answers.given.items() if info.delisted}
    patient.unknown = delisted | set(answers.refused)
    if not patient.unknown:
        return ok(f"all {len(wanted)} exist")
    names = [
        f"{code} ({answers.refused.get(code, 'unknown or delisted')})" for code in wanted if code in patient.unknown
    ]
    more = f" and {len(names) - SHOWN_SYMBOLS} more" if len(names) > SHOWN_SYMBOLS else ""
    return fail(
        f"{len(names)} of {len(wanted)} do not exist: {', '.join(names[:SHOWN_SYMBOLS])}{more}",
        "take them out of FUTU_SYMBOLS; the others are recorded",
    )


async def _trading_day(patient: _Patient) -> Outcome:
    from hk_tick_collector.core.dates import parse_day  # noqa: PLC0415 - needed by this check alone
    from hk_tick_collector.market.dates import add_days  # noqa: PLC0415

    calendar = patient.app.calendar
    today = calendar.market.trading_day(patient.app.now_ms)
    last = add_days(today, CALENDAR_DAYS)
    days = await patient.connection.trading_days(
        parse_day(today).isoformat(), parse_day(last).isoformat(), REQUEST_TIMEOUT_SEC
    )
    ours = calendar.day_kind(today)
    mismatches = calendar.merge_source_days(days, today, last)
    finding = f"{today}: {ours}; the next is {calendar.next_trading_day(today)}"
    if mismatches:
        other = ", ".join(
            f"{mismatch.day} {mismatch.library} here, {mismatch.told} for OpenD" for mismatch in mismatches
        )
        return warn(
            f"{finding}; the calendars differ: {other}",
            "update hk-tick-collector; until then whichever is open longer is followed",
        )
    return ok(finding)


async def _trial(patient: _Patient) -> Outcome:
    info = patient.subscriptions
    held = [] if info is None else [code for code in patient.wanted if code in info.ticker_codes]
    free = [code for code in patient.wanted if code not in patient.unknown]
    if not held and not free:
        return skipped("no wanted symbol exists")
    if not held and info is not None and not info.remain_quota:
        return skipped("no quota is free, and no wanted symbol is subscribed")
    code = (held or free)[0]
    try:
        await patient.connection.subscribe_tickers([code], REQUEST_TIMEOUT_SEC)
        ticks = (await patient.connection.recent_ticks(code, TRIAL_ROWS, REQUEST_TIMEOUT_SEC)).tickerList
    except (FeedLost, FeedTimeout):
        raise
    except FeedError as exc:
        return fail(f"{code}: OpenD refuses: {exc}", "quote right, quota and symbol are checked above")
    if ticks:
        newest = f"the newest of {ticks[-1].time} ({patient.app.market.name})"
        return ok(f"{code}: subscribed, {counted(len(ticks), 'tick')}, {newest}")
    return _no_ticks(patient, code)


def _no_ticks(patient: _Patient, code: str) -> Outcome:
    from hk_tick_collector.market.hours import CONTINUOUS  # noqa: PLC0415 - needs zone data

    if patient.app.calendar.phase(patient.app.now_ms) in CONTINUOUS:
        return warn(
            f"{code}: subscribed, but it has no tick in an open market", "normal only for a symbol nobody trades"
        )
    return ok(f"{code}: subscribed; it has no tick today")


def sdk_log(app: App) -> Outcome:
    """Does the SDK write a log, and how much?"""
    from hk_tick_collector.sources.futu import sdk  # noqa: PLC0415 - futu-api takes its time

    sdk.configure(app.settings.futu_rsa_key_file)
    directory, level = sdk.file_log()
    if directory is None:
        return ok("none is written (see home)")
    used_bytes = sum(path.stat().st_size for path in directory.glob("*") if path.is_file())
    finding = f"{logging.getLevelName(level)} and worse to {directory}, {used_bytes / 1e6:,.0f} MB"
    if level < logging.WARNING:
        return fail(finding, "every push is logged (275 bytes each): this futu-api is not the pinned one, install that")
    if used_bytes > MAX_SDK_LOG_BYTES:
        return warn(finding, "another program logs every push there; stop that, and delete old files")
    return ok(finding)
