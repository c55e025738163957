"""``hk-tickctl keys``: who may read over HTTP."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hk_tick_collector.cli.common import group_command, print_table, say, write_json
from hk_tick_collector.cli.groups import Group
from hk_tick_collector.core.clock import SystemClock
from hk_tick_collector.core.errors import ConfigError, InputError

if TYPE_CHECKING:
    from hk_tick_collector.serve.keys import Key, KeyLimits, StoredKey

_SPAN = re.compile(r"([1-9][0-9]{0,4})([hdw])", re.ASCII)
_SPAN_MS = {"h": 3_600_000, "d": 86_400_000, "w": 7 * 86_400_000}
_LIMITS = ("requests_per_min", "rows_per_min", "heavy_reads", "live_connections", "live_symbols")


@click.group(
    "keys",
    cls=Group,
    help="""Who may read over HTTP: keys for hk-tick-api and hk-tick-live.

    \b
    hk-tickctl keys add research
    hk-tickctl keys add visitor --symbols HK.00700,HK.00005 --expires 30d
    hk-tickctl keys revoke visitor

    The keys are in the file that API_KEYS_FILE names (mode 0640): hashes, never the keys. A running server takes a
    change within two seconds.
    """,
    short_help="Who may read over HTTP.",
)
def command() -> None:
    """See ``--help``."""


def _key_command(name: str, **attrs: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A command on the file of keys. The function gets the file's path first."""
    keys_file = click.Option(
        ["--keys-file"], type=click.Path(path_type=Path, dir_okay=False), help="Instead of API_KEYS_FILE."
    )
    return group_command(command, _on_keys, name, keys_file, **attrs)


def _on_keys(
    function: Callable[..., None], env_file: Path | None, as_json: bool, keys_file: Path | None, **arguments: Any
) -> None:
    function(keys_file or _file(env_file), as_json, **arguments)


def _file(env_file: Path | None) -> Path:
    from hk_tick_collector.serve.settings import load_serve_settings  # noqa: PLC0415 - pydantic takes its time

    path = load_serve_settings(env_file, os.environ).api_keys_file
    if path is None:
        raise ConfigError("API_KEYS_FILE is not set: set it in .env, or name the file with --keys-file")
    return path


@_key_command(
    "add",
    help="""Make a key for NAME and print it. It is shown this once and stored nowhere.

    Scopes: read (hk-tick-api), live (hk-tick-live), sql, mute (silence alerts), restart (have a feed
    connected anew), hook:NAME (send signals), admin (all of them).
    """,
    short_help="Make a key and print it.",
)
@click.argument("name")
@click.option("--scopes", default="read,live", show_default=True, help="What it may do, with commas.")
@click.option("--symbols", default="*", show_default=True, help="What it may see: HK.00700, HK.*, with commas.")
@click.option("--expires", metavar="WHEN", help="12h, 30d, 8w from now, or a day (2027-01-31, UTC, at its beginning).")
@click.option("--requests-per-min", type=click.IntRange(0), help="Requests a minute.")
@click.option("--rows-per-min", type=click.IntRange(0), help="Rows a minute.")
@click.option("--heavy-reads", type=click.IntRange(0), help="Reads of days at once.")
@click.option("--live-connections", type=click.IntRange(0), help="Live connections at once.")
@click.option("--live-symbols", type=click.IntRange(0), help="Symbols of a live connection.")
def add(path: Path, as_json: bool, name: str, scopes: str, symbols: str, expires: str | None, **limits: Any) -> None:
    """See ``--help``."""
    from hk_tick_collector.serve.keys import edited, new_key  # noqa: PLC0415

    now_ms = SystemClock().now_ms()
    expires_at_ms = None if expires is None else _moment_ms(expires, now_ms)
    stored, text = new_key(
        name, _words(scopes), _words(symbols), now_ms=now_ms, expires_at_ms=expires_at_ms, limits=_limits(limits)
    )
    with edited(path) as keys:
        keys.append(stored)
    _print_key(stored, text, as_json)


@_key_command("list", help="All keys: whose, what they allow, until when. Never the keys themselves.")
def list_keys(path: Path, as_json: bool) -> None:
    """See ``--help``."""
    from hk_tick_collector.serve.keys import read_keys  # noqa: PLC0415

    keys = [stored.key for stored in read_keys(path)]
    if as_json:
        write_json([asdict(key) for key in keys])
    elif not keys:
        say(f"there is no key in {path}")
    else:
        columns = ("id", "name", "scopes", "symbols", "made", "expires")
        print_table(columns, [_row(key) for key in keys], spare=("made",))


@_key_command("revoke", help="Revoke a key: KEY is its id, or its name if no other key has it.")
@click.argument("key")
def revoke(path: Path, as_json: bool, key: str) -> None:
    """See ``--help``."""
    from hk_tick_collector.serve.keys import edited, named  # noqa: PLC0415

    with edited(path) as keys:
        gone = named(keys, key)
        keys.remove(gone)
    if as_json:
        write_json({"revoked": gone.key.id, "name": gone.key.name})
    else:
        say(f"revoked: {gone.key.id} ({gone.key.name})")


@_key_command(
    "rotate",
    help="""Give the reader of KEY a new key with the same rights, and print it. KEY is an id, or a name that no other
    key has.

    The old key becomes invalid at once, or stays valid for as long as --keep-for says.
    """,
    short_help="A new key for the same reader.",
)
@click.argument("key")
@click.option("--keep-for", metavar="SPAN", help="How long the old key stays valid: 12h, 7d.")
def rotate(path: Path, as_json: bool, key: str, keep_for: str | None) -> None:
    """See ``--help``."""
    from hk_tick_collector.serve.keys import edited, named, new_key  # noqa: PLC0415

    now_ms = SystemClock().now_ms()
    until_ms = None if keep_for is None else _span_ms(keep_for) + now_ms
    with edited(path) as keys:
        old = named(keys, key)
        stored, text = new_key(
            old.key.name, old.key.scopes, old.key.symbols, now_ms=now_ms, expires_at_ms=old.key.expires_at_ms,
            limits=old.key.limits,
        )  # fmt: skip
        keys.remove(old)
        if until_ms is not None:
            ends_ms = min(until_ms, old.key.expires_at_ms or until_ms)
            keys.append(replace(old, key=replace(old.key, expires_at_ms=ends_ms)))
        keys.append(stored)
    _print_key(stored, text, as_json)


def _print_key(stored: StoredKey, text: str, as_json: bool) -> None:
    if as_json:
        write_json({**asdict(stored.key), "key": text})
        return
    print(text, flush=True)
    say("keep it now: it is not shown again")


def _words(text: str) -> list[str]:
    return [word for word in re.split(r"[,\s]+", text) if word]


def _limits(given: dict[str, Any]) -> KeyLimits:
    from hk_tick_collector.serve.keys import KeyLimits  # noqa: PLC0415

    return KeyLimits(**{name: given[name] for name in _LIMITS if given[name] is not None})


def _moment_ms(text: str, now_ms: int) -> int:
    if _SPAN.fullmatch(text):
        return now_ms + _span_ms(text)
    try:
        moment = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError as exc:
        raise InputError(f"{text!r} is not a time: write 12h, 30d, 8w, or a day such as 2027-01-31") from exc
    if moment.timestamp() * 1000 <= now_ms:
        raise InputError(f"{text} is over already")
    return round(moment.timestamp() * 1000)


def _span_ms(text: str) -> int:
    match = _SPAN.fullmatch(text)
    if match is None:
        raise InputError(f"{text!r} is not a span of time: write 12h, 30d or 8w")
    return int(match[1]) * _SPAN_MS[match[2]]


def _row(key: Key) -> tuple[object, ...]:
    return (
        key.id,
        key.name,
        ",".join(key.scopes),
        ",".join(key.symbols),
        _day(key.created_at_ms),
        _day(key.expires_at_ms),
    )


def _day(ts_ms: int | None) -> str | None:
    return None if ts_ms is None else f"{datetime.fromtimestamp(ts_ms / 1000, UTC):%Y-%m-%d %H:%M}Z"
