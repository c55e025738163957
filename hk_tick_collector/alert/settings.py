"""Settings of ``hk-tick-alert``. They stand in the recorder's ``.env`` file and are found in the same way; whom to call
is in a file of its own (``targets.py``), which holds tokens."""

from __future__ import annotations

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
    upper,
)
from hk_tick_collector.app.config_sources import ALERT_PREFIXES, OWN_PREFIXES, READERS_PREFIXES, Claims, ConfigErrors
from hk_tick_collector.store.layout import archive_dir
from hk_tick_collector.store.signals import hooks_dir_of

_alert = partial(setting, "Alerts")


class AlertSettings(SettingsModel):
    """The settings of the program that calls, checked and frozen. Made by ``load_alert_settings``; tests may give
    attributes by name."""

    alert_file: Annotated[Path | None, BeforeValidator(path_value)] = _alert(
        "ALERT_FILE", None, "empty, or the path of a TOML file that others may not read"
    )
    """Whom `hk-tick-alert` calls, and how (docs/alerts.md)."""
    alert_dir: Annotated[Path | None, BeforeValidator(path_value), AfterValidator(directory)] = _alert(
        "ALERT_DIR", None, "empty, or a directory"
    )
    """Where it keeps what has to be told until it was told (`outbox.db`). Empty: under systemd `alert` in the unit's
    state directory."""
    hooks_dir: Annotated[Path | None, BeforeValidator(path_value), AfterValidator(directory)] = setting(
        "Serving: signals", "HOOKS_DIR", None, "empty, or a directory"
    )
    """Where the API stores what hooks receive."""
    ship_dir: Annotated[Path, BeforeValidator(path_value), AfterValidator(directory)] = setting(
        "ClickHouse", "SHIP_DIR", Path("/var/lib/hk-tick-ship"), "a directory"
    )
    """Where the shipper keeps how far it has come."""
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


def alert_setting_table() -> list[SettingInfo]:
    """The settings that only this program has, in the order of the documents."""
    return [info for info in table_of(AlertSettings) if info.key.startswith(ALERT_PREFIXES)]


def load_alert_settings(env_file: Path | None, environ: Mapping[str, str]) -> AlertSettings:
    """The settings from ``environ`` over ``env_file`` over defaults. ConfigErrors names all that is wrong."""
    recorders = tuple(info.key for info in recorders_table())
    others = (name for name in READERS_PREFIXES if name not in ALERT_PREFIXES)
    read = read_model(AlertSettings, env_file, environ, Claims(ALERT_PREFIXES, (*OWN_PREFIXES, *others, *recorders)))
    if read.problems or read.settings is None:
        raise ConfigErrors(read.problems)
    missing: dict[str, Path | None] = {}
    if read.settings.alert_dir is None:
        missing["alert_dir"] = alert_dir_of(environ)
    if read.settings.hooks_dir is None:
        missing["hooks_dir"] = hooks_dir_of(environ)
    return read.settings.model_copy(update=missing)


def alert_dir_of(environ: Mapping[str, str]) -> Path | None:
    """Where the outbox is when ALERT_DIR does not say: in the state directory that systemd gives a unit."""
    state = environ.get("STATE_DIRECTORY", "").split(":")[0]
    return Path(state) / "alert" if state else None
