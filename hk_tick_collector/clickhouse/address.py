"""Where a ClickHouse is: the text of an address, taken apart and checked. No password stands in one."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from hk_tick_collector.core.errors import ConfigError

SCHEMES = ("http", "https", "clickhouse", "clickhouses")
_PORTS = {"http": 8123, "https": 8443}
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}", re.ASCII)
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,250}[A-Za-z0-9])?|\[[0-9a-fA-F:]+\]", re.ASCII)
DEFAULT_DATABASE = "hk"
DEFAULT_USER = "default"


class Address(NamedTuple):
    """A server's HTTP interface and a database there."""

    url: str  # http://host:port
    database: str = DEFAULT_DATABASE
    user: str = DEFAULT_USER

    @property
    def shown(self) -> str:
        """For people and logs."""
        return f"{self.url}/{self.database}"


def parse_address(text: str) -> Address:
    """The address of ``http://host:8123/database`` or ``clickhouse://user@host:8123/database``.

    ``http`` and ``clickhouse`` are the same, as are ``https`` and ``clickhouses``. Without a port 8123 (8443 with TLS),
    without a database ``hk``, without a user ``default``. ConfigError with a sentence, which never repeats a password.
    """
    try:
        parts = urlsplit(text.strip())
        port = parts.port
    except ValueError:
        raise ConfigError(f"this is not the address of a ClickHouse; {_EXAMPLE}") from None
    if parts.password is not None:
        raise ConfigError("the address of a ClickHouse holds no password: put it into a file (SHIP_PASSWORD_FILE)")
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
    if parts.scheme not in SCHEMES or not _HOST.fullmatch(host) or parts.query or parts.fragment:
        raise ConfigError(f"{_told(text)} is not the address of a ClickHouse; {_EXAMPLE}")
    scheme = "https" if parts.scheme in ("https", "clickhouses") else "http"
    database = parts.path.strip("/") or DEFAULT_DATABASE
    if not _NAME.fullmatch(database):
        name = "this" if _may_hold_password(text) else f"{database!r:.100}"
        raise ConfigError(f"{name} is not a name for a database: letters, digits and _ only, at most 64")
    return Address(f"{scheme}://{host}:{port or _PORTS[scheme]}", database, unquote(parts.username or DEFAULT_USER))


def _told(text: str) -> str:
    return "this" if _may_hold_password(text) else f"{text!r:.100}"


def _may_hold_password(text: str) -> bool:
    """One with a sign of its own in it is taken apart elsewhere than its writer meant."""
    return any(sign in text for sign in "@?#")


_EXAMPLE = "write for example http://127.0.0.1:8123/hk"
