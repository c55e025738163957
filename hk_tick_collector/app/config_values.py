"""What a value has to be that its type and bounds do not say: checks of single settings of the recorder.

Each takes a value as it is written, or as an earlier check left it, and gives what the setting holds; ``text_error``
says what is wrong in the operator's words.
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

from pydantic_core.core_schema import ValidationInfo

from hk_tick_collector.app.config_model import base_dir, text_error
from hk_tick_collector.core.errors import InputError
from hk_tick_collector.core.extras import how_to_install
from hk_tick_collector.core.regular import open_named
from hk_tick_collector.market.registry import MARKETS, market_of
from hk_tick_collector.market.symbols import SymbolGrammar, check_symbols
from hk_tick_collector.sources import registry
from hk_tick_collector.sources.addresses import url_problem
from hk_tick_collector.sources.dxlink.symbols import parse_venue
from hk_tick_collector.sources.gexbot.series import parse_series_name
from hk_tick_collector.sources.sierra.naming import parse_rule

_FIRST = re.compile(r"first[ :]+(\d{1,6})", re.ASCII | re.IGNORECASE)
_MAX_KEY_BYTES = 1 << 16
_RSA_BITS = 1024  # Futu's documentation of rsa_private_key


def usable_rsa_key(path: Path | None) -> Path | None:
    """Futu takes PKCS#1 without a passphrase only; the same private key is OpenD's ``rsa_private_key``."""
    if path is None:
        return None
    try:
        with open_named(path) as file:  # not a pipe: the SDK reads it again
            content = file.read(_MAX_KEY_BYTES)
    except OSError as error:
        reason = error.strerror or "unreadable"
        raise text_error(f"the key file cannot be read ({reason}); check path and permissions") from error
    if b"-----BEGIN RSA PRIVATE KEY-----" not in content:
        raise text_error(
            "the file is no PKCS#1 private key (-----BEGIN RSA PRIVATE KEY-----); convert it with: "
            "openssl rsa -traditional -in KEY -out NEW"
        )
    if b"ENCRYPTED" in content:
        raise text_error(
            "the key has a passphrase, which OpenD does not take; remove it with: "
            "openssl rsa -traditional -in KEY -out NEW"
        )
    problem = _unusable_key(content)
    if problem is not None:
        raise text_error(problem)
    return path


def _unusable_key(content: bytes) -> str | None:
    """What is wrong with a key that looks like one, for OpenD; never a word of the key itself."""
    # Imported here: few have a key. It comes with futu-api, which reads the file in the same way.
    from Crypto.PublicKey import RSA  # noqa: PLC0415

    new_key = f"openssl genrsa -traditional -out KEY {_RSA_BITS}, and give OpenD the same file as rsa_private_key"
    try:
        key = RSA.import_key(content.decode("utf-8"))
    except (ValueError, IndexError, TypeError):
        return (
            "the key cannot be read: it is cut off or damaged, its lines were joined, or something comes before its "
            f"first line; copy it again as it is, or make a new one: {new_key}"
        )
    if not key.has_private() or key.size_in_bits() != _RSA_BITS:
        return f"the key has {key.size_in_bits()} bits and OpenD takes {_RSA_BITS}; make a new one: {new_key}"
    return None


def _grammar(info: ValidationInfo) -> SymbolGrammar:
    """Of the market that is recorded; of Hong Kong when that setting is wrong, which is told where it stands."""
    return MARKETS.get(info.data.get("market", ""), market_of(None)).symbols


def symbols_value(value: object, info: ValidationInfo) -> object:
    """Of a market that is not offered, nothing is right or wrong: MARKET's problem says it all."""
    text = value if isinstance(value, str) else ",".join(value) if isinstance(value, list | tuple) else ""
    symbols, problems = check_symbols(text, _grammar(info), base_dir(info))
    if problems and info.data.get("market") in {spec.market for spec in registry.OFFERED}:
        raise text_error("\n".join(problems))
    return tuple(symbols)


def book_symbols_value(value: object, info: ValidationInfo) -> object:
    """None, or as ``FUTU_SYMBOLS``, or the first of them."""
    if not value:
        return ()
    first = _FIRST.fullmatch(value.strip()) if isinstance(value, str) else None
    if first is None:
        return symbols_value(value, info)
    return tuple(info.data.get("futu_symbols", ()))[: int(first.group(1))]


def rules_value(value: object, info: ValidationInfo) -> object:
    """``0.01, CME.6E*=0.0001`` as rules, the first for every symbol."""
    if not isinstance(value, str):
        return value
    try:
        written = [text.strip() for text in value.split(",") if text.strip()]
        return tuple(parse_rule(str(info.field_name).upper(), text) for text in written)
    except InputError as exc:
        raise text_error(str(exc).partition(": ")[2]) from None


def venues_value(value: object) -> object:
    """``LBR=XCME``, by commas, as venues of dxLink."""
    if not isinstance(value, str):
        return value
    try:
        return tuple(parse_venue(text) for text in value.split(",") if text.strip())
    except InputError as exc:
        raise text_error(str(exc)) from None


def series_value(value: object) -> object:
    """``classic/gex_full``, by commas, as names of series; each once."""
    if not isinstance(value, str):
        return value
    try:
        return tuple(dict.fromkeys(parse_series_name(text) for text in value.split(",") if text.strip()))
    except InputError as exc:
        raise text_error(str(exc)) from None


def https_address(value: str) -> str:
    """An address of which all is encrypted."""
    problem = url_problem(value, "https")
    if problem:
        raise text_error(f"the address {problem}")
    return value


def dxlink_address(value: str | None, info: ValidationInfo) -> str | None:
    """An address of dxLink: https for its API, wss for the channel."""
    problem = url_problem(value, "https" if info.field_name == "dxlink_api" else "wss") if value else ""
    if problem:
        raise text_error(f"the address {problem}")
    return value


def shioaji_address(value: str) -> str:
    """The gateway's address, without a slash at its end."""
    problem = url_problem(value, "https")
    if problem:
        raise text_error(f"the address {problem}")
    return value.rstrip("/")


def usable_metrics_port(port: int) -> int:
    """A port, if the endpoint can be served."""
    if port and importlib.util.find_spec("prometheus_client") is None:
        raise text_error(
            f"the endpoint needs the package prometheus-client: {how_to_install('metrics')}, or set METRICS_PORT=0"
        )
    return port
