"""Settings of ``hk-tick-ship`` and ``hk-tickctl ship``. They stand in the recorder's ``.env`` file and are found in the
same way; the password stands in a file of its own."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

from hk_tick_collector.app.config_model import (
    Directory,
    OptionalPath,
    setting,
    text_error,
)
from hk_tick_collector.app.config_readers import (
    ClickHouseUrl,
    ReaderSettings,
    load_reader_settings,
)
from hk_tick_collector.app.config_sources import SHIP_PREFIXES
from hk_tick_collector.clickhouse.address import DEFAULT_USER, Address, parse_address
from hk_tick_collector.clickhouse.password import password_of
from hk_tick_collector.clickhouse.shipping import DEFAULT_DIR
from hk_tick_collector.core.errors import ConfigError

CREDENTIAL = "ship-password"
PASSWORD_FILE = "SHIP_PASSWORD_FILE"  # noqa: S105 - the name of a setting
_RECORDER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", re.ASCII)

_ship = partial(setting, "ClickHouse")


def _recorder(text: str) -> str:
    if text and not _RECORDER.fullmatch(text):
        raise text_error(f"{text!r:.100} is not a name for a recorder: letters, digits, - _ and . only, at most 64")
    return text


class ShipSettings(ReaderSettings):
    """The settings of the shipper, checked and frozen. Made by ``load_ship_settings``; tests may give attributes by
    name."""

    ship_url: ClickHouseUrl = _ship(
        "SHIP_URL", "", "empty, or an address such as http://127.0.0.1:8123/hk, without a password", repr=False
    )
    """The ClickHouse that `hk-tick-ship` fills: the address of its HTTP interface, with the database."""
    ship_user: str = _ship("SHIP_USER", DEFAULT_USER, "a name")
    """The user there."""
    ship_password_file: OptionalPath = _ship(
        "SHIP_PASSWORD_FILE", None, "empty, or the path of a file that others may not read"
    )
    """The file with the user's password in its first line; systemd's credential `ship-password` takes precedence.
    Without either: no password."""
    ship_recorder: Annotated[str, AfterValidator(_recorder)] = _ship(
        "SHIP_RECORDER", "", "empty, or letters, digits, - _ and ."
    )
    """The name of this recording there: two recorders in one database are told apart by it. Empty: this machine's
    name."""
    ship_dir: Directory = _ship("SHIP_DIR", DEFAULT_DIR, "a directory")
    """Where the shipper keeps its progress."""
    ship_metrics_port: int = _ship("SHIP_METRICS_PORT", 0, ge=0, le=65535)
    """Port of the Prometheus endpoint `/metrics` of `hk-tick-ship`, on 127.0.0.1; 0: none. It needs the extra
    `metrics`."""

    @property
    def recorder(self) -> str:
        """The name of this recording. ConfigError when this machine has none that will do."""
        name = self.ship_recorder or socket.gethostname().partition(".")[0]
        if not _RECORDER.fullmatch(name):
            raise ConfigError(f"this machine's name, {name!r:.100}, is not a name for a recorder: set SHIP_RECORDER")
        return name

    @property
    def address(self) -> Address:
        """The ClickHouse. ConfigError when none is set."""
        if not self.ship_url:
            raise ConfigError(
                "SHIP_URL is empty: write for example SHIP_URL=http://127.0.0.1:8123/hk (docs/clickhouse.md)"
            )
        address = parse_address(self.ship_url)
        return address if address.user != DEFAULT_USER else address._replace(user=self.ship_user)

    def password(self, environ: Mapping[str, str] = os.environ) -> str:
        """The password; empty without one. ConfigError when its file cannot be used."""
        return password_of(self.ship_password_file, environ, PASSWORD_FILE, CREDENTIAL)


def load_ship_settings(env_file: Path | None, environ: Mapping[str, str]) -> ShipSettings:
    """The settings from ``environ`` over ``env_file`` over defaults. ConfigErrors names all that is wrong."""
    return load_reader_settings(ShipSettings, SHIP_PREFIXES, env_file, environ)
