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

from pydantic import AfterValidator, BeforeValidator

from hk_tick_collector.app.config import LogLevel
from hk_tick_collector.app.config import setting_table as recorders_table
from hk_tick_collector.app.config_model import (
    SettingInfo,
    SettingsModel,
    directory,
    path_value,
    read_model,
    setting,
    table_of,
    text_error,
    upper,
)
from hk_tick_collector.app.config_sources import OWN_PREFIXES, READERS_PREFIXES, SHIP_PREFIXES, Claims, ConfigErrors
from hk_tick_collector.clickhouse.address import DEFAULT_USER, Address, parse_address
from hk_tick_collector.clickhouse.password import password_of
from hk_tick_collector.clickhouse.shipping import DEFAULT_DIR
from hk_tick_collector.core.errors import ConfigError
from hk_tick_collector.store.layout import archive_dir

CREDENTIAL = "ship-password"
PASSWORD_FILE = "SHIP_PASSWORD_FILE"  # noqa: S105 - the name of a setting
_RECORDER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", re.ASCII)

_ship = partial(setting, "ClickHouse")


def _address(text: str) -> str:
    if text:
        try:
            parse_address(text)
        except ConfigError as exc:
            raise text_error(str(exc)) from None
    return text


def _recorder(text: str) -> str:
    if text and not _RECORDER.fullmatch(text):
        raise text_error(f"{text!r:.100} is not a name for a recorder: letters, digits, - _ and . only, at most 64")
    return text


class ShipSettings(SettingsModel):
    """The settings of the shipper, checked and frozen. Made by ``load_ship_settings``; tests may give attributes by
    name."""

    ship_url: Annotated[str, AfterValidator(_address)] = _ship(
        "SHIP_URL", "", "empty, or an address such as http://127.0.0.1:8123/hk, without a password", repr=False
    )
    """The ClickHouse that `hk-tick-ship` fills: its HTTP interface, and the database there."""
    ship_user: str = _ship("SHIP_USER", DEFAULT_USER, "a name")
    """The user there."""
    ship_password_file: Annotated[Path | None, BeforeValidator(path_value)] = _ship(
        "SHIP_PASSWORD_FILE", None, "empty, or the path of a file that others may not read"
    )
    """The file with the user's password in its first line; systemd's credential `ship-password` goes before it.
    Neither: no password."""
    ship_recorder: Annotated[str, AfterValidator(_recorder)] = _ship(
        "SHIP_RECORDER", "", "empty, or letters, digits, - _ and ."
    )
    """The name of this recording there: two recorders in one database are told apart by it. Empty: this machine's
    name."""
    ship_dir: Annotated[Path, BeforeValidator(path_value), AfterValidator(directory)] = _ship(
        "SHIP_DIR", DEFAULT_DIR, "a directory"
    )
    """Where the shipper keeps how far it has come."""
    ship_metrics_port: int = _ship("SHIP_METRICS_PORT", 0, "a whole number from 0 to 65535", ge=0, le=65535)
    """Port of the Prometheus endpoint `/metrics` of `hk-tick-ship`, on 127.0.0.1; 0: none. It needs the extra
    `metrics`."""

    data_root: Annotated[Path, BeforeValidator(path_value), AfterValidator(directory)] = setting(
        "What is recorded, and where", "DATA_ROOT", Path("/data/sqlite/HK"), "a directory"
    )
    """The recorder's."""
    archive_root: Annotated[Path | None, BeforeValidator(path_value), AfterValidator(directory)] = setting(
        "What is recorded, and where", "ARCHIVE_ROOT", None, "empty, or a directory"
    )
    """The recorder's."""
    log_level: Annotated[LogLevel, BeforeValidator(upper)] = setting("Logs", "LOG_LEVEL", "INFO")
    """Least severe level that is logged."""

    @property
    def archive(self) -> Path:
        """Where days are put away."""
        return self.archive_root or archive_dir(self.data_root)

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


def ship_setting_table() -> list[SettingInfo]:
    """The settings that only the shipper has, in the order of the documents."""
    return [info for info in table_of(ShipSettings) if info.key.startswith(SHIP_PREFIXES)]


def load_ship_settings(env_file: Path | None, environ: Mapping[str, str]) -> ShipSettings:
    """The settings from ``environ`` over ``env_file`` over defaults. ConfigErrors names all that is wrong."""
    recorders = tuple(info.key for info in recorders_table())
    others = (name for name in READERS_PREFIXES if name not in SHIP_PREFIXES)
    read = read_model(ShipSettings, env_file, environ, Claims(SHIP_PREFIXES, (*OWN_PREFIXES, *others, *recorders)))
    if read.problems or read.settings is None:
        raise ConfigErrors(read.problems)
    return read.settings
