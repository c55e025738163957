"""What each source asks of the settings together: its secrets, its packages, symbols that it knows.

A new source adds its check to ``_CHECKS``.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from hk_tick_collector.app.config_sources import Problem
from hk_tick_collector.core.errors import FeedError
from hk_tick_collector.core.extras import how_to_install
from hk_tick_collector.sources import registry
from hk_tick_collector.sources.addresses import LOOPBACK
from hk_tick_collector.sources.dxlink.spec import PROVIDER as DXLINK
from hk_tick_collector.sources.dxlink.symbols import at_dxlink
from hk_tick_collector.sources.futu.spec import PROVIDER as FUTU
from hk_tick_collector.sources.gexbot.series import MAX_SERIES
from hk_tick_collector.sources.gexbot.spec import PROVIDER as GEXBOT
from hk_tick_collector.sources.schwab.spec import PROVIDER as SCHWAB
from hk_tick_collector.sources.schwab.symbols import at_schwab
from hk_tick_collector.sources.shioaji.spec import GATEWAY
from hk_tick_collector.sources.shioaji.spec import PROVIDER as SHIOAJI
from hk_tick_collector.sources.shioaji.symbols import at_shioaji
from hk_tick_collector.sources.sierra.spec import PROVIDER as SIERRA
from hk_tick_collector.sources.source import choose


def _gexbot_problems(right: Mapping[str, Any]) -> Iterator[Problem]:
    if importlib.util.find_spec("httpx") is None:
        yield Problem("SOURCE", f"SOURCE=gexbot needs the package httpx: {how_to_install('gexbot')}")
    if "gexbot_key_file" in right and right["gexbot_key_file"] is None:
        yield Problem("GEXBOT_KEY_FILE", "SOURCE=gexbot needs GEXBOT_KEY_FILE: the file with key=")
    series = len(right.get("futu_symbols", ())) * len(right.get("gexbot_series", ()))
    if series > MAX_SERIES:
        yield Problem(
            "GEXBOT_SERIES", f"{series} series are more than {MAX_SERIES}; shorten FUTU_SYMBOLS or GEXBOT_SERIES"
        )


def _dxlink_problems(right: Mapping[str, Any]) -> Iterator[Problem]:
    if importlib.util.find_spec("websockets") is None:
        yield Problem("SOURCE", f"SOURCE=dxlink needs the package websockets: {how_to_install('dxlink')}")
    if (
        "dxlink_secrets_file" in right
        and "dxlink_url" in right
        and not any(right[name] for name in ("dxlink_secrets_file", "dxlink_url"))
    ):
        yield Problem(
            "DXLINK_SECRETS_FILE", "SOURCE=dxlink needs DXLINK_SECRETS_FILE: what TastyTrade lets you in with"
        )
    for symbol in right.get("futu_symbols", ()):
        try:
            at_dxlink(symbol, right.get("dxlink_venues", ()))
        except FeedError as exc:
            yield Problem("FUTU_SYMBOLS", str(exc))


def _schwab_problems(right: Mapping[str, Any]) -> Iterator[Problem]:
    if importlib.util.find_spec("websockets") is None:
        yield Problem("SOURCE", f"SOURCE=schwab needs the package websockets: {how_to_install('schwab')}")
    for key, content in (
        ("SCHWAB_SECRETS_FILE", "client_id and client_secret of your application"),
        ("SCHWAB_TOKEN_FILE", "where hk-tickctl schwab login keeps the login"),
    ):
        if right.get(key.lower(), "") is None:
            yield Problem(key, f"SOURCE=schwab needs {key}: {content}")
    for key in ("FUTU_SYMBOLS", "BOOK_SYMBOLS"):
        for symbol in right.get(key.lower(), ()):
            try:
                at_schwab(symbol)
            except FeedError as exc:
                yield Problem(key, str(exc))


def _shioaji_problems(right: Mapping[str, Any]) -> Iterator[Problem]:
    host = urlsplit(right.get("shioaji_url", GATEWAY)).hostname
    if host not in LOOPBACK and right.get("shioaji_secrets_file", "") is None:
        yield Problem(
            "SHIOAJI_SECRETS_FILE",
            "SHIOAJI_URL is another machine, whose gateway wants a key: name SHIOAJI_SECRETS_FILE",
        )
    for symbol in right.get("futu_symbols", ()):
        try:
            at_shioaji(symbol)
        except FeedError as exc:
            yield Problem("FUTU_SYMBOLS", str(exc))


def _sierra_problems(right: Mapping[str, Any]) -> Iterator[Problem]:
    if "sierra_dir" in right and right["sierra_dir"] is None:
        yield Problem("SIERRA_DIR", "SOURCE=sierra needs SIERRA_DIR: the directory of Sierra Chart's .scid files")


def _broker_problems(provider: str, right: Mapping[str, Any]) -> Iterator[Problem]:
    if (provider, right["market"]) != (FUTU, "HK"):
        where = f"SOURCE={provider} MARKET={right['market']}"
        yield Problem("BOOK_BROKERS", f"{where} has no broker queues to record: leave BOOK_BROKERS empty")
    elif not right.get("book_symbols", "wrong by itself"):
        yield Problem("BOOK_BROKERS", "whose broker queues? BOOK_SYMBOLS chooses them, and is empty")


_CHECKS: Mapping[str, Callable[[Mapping[str, Any]], Iterator[Problem]]] = {
    SIERRA: _sierra_problems,
    DXLINK: _dxlink_problems,
    GEXBOT: _gexbot_problems,
    SCHWAB: _schwab_problems,
    SHIOAJI: _shioaji_problems,
}


def source_problems(right: Mapping[str, Any]) -> Iterator[Problem]:
    """What is wrong with ``SOURCE``, ``MARKET`` and what goes with them.

    ``right`` has the values that are right by themselves, by attribute; what is not in it was told already.
    """
    choice = choose(right["source"], right["market"], registry.OFFERED)
    if choice.spec is None:
        yield Problem(choice.problem.partition("=")[0], choice.problem)
        return
    provider = choice.spec.provider
    if choice.spec.books is None and right.get("book_symbols"):
        yield Problem("BOOK_SYMBOLS", f"SOURCE={provider} has no order books to record: leave BOOK_SYMBOLS empty")
    if right.get("book_brokers"):
        yield from _broker_problems(provider, right)
    check = _CHECKS.get(provider)
    if check is not None:
        yield from check(right)
