"""Settings of ``hk-tick-alert``. They stand in the recorder's ``.env`` file and are found in the same way; whom to call
is in a file of its own (``targets.py``), which holds tokens."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from hk_tick_collector.app.config_model import (
    Directory,
    OptionalDirectory,
    OptionalPath,
    setting,
)
from hk_tick_collector.app.config_readers import (
    ReaderSettings,
    hooks_dir_setting,
    load_reader_settings,
    with_state_dirs,
)
from hk_tick_collector.app.config_sources import ALERT_PREFIXES
from hk_tick_collector.store.signals import hooks_dir_of

_alert = partial(setting, "Alerts")


class AlertSettings(ReaderSettings):
    """The settings of the program that calls, checked and frozen. Made by ``load_alert_settings``; tests may give
    attributes by name."""

    alert_file: OptionalPath = _alert("ALERT_FILE", None, "empty, or the path of a TOML file that others may not read")
    """Whom `hk-tick-alert` notifies, and how (docs/alerts.md)."""
    alert_dir: OptionalDirectory = _alert("ALERT_DIR", None, "empty, or a directory")
    """Where it keeps messages until they are sent (`outbox.db`). Empty: under systemd `alert` in the unit's state
    directory."""
    hooks_dir: OptionalDirectory = hooks_dir_setting()
    """Where the API stores what hooks receive."""
    ship_dir: Directory = setting("ClickHouse", "SHIP_DIR", Path("/var/lib/hk-tick-ship"), "a directory")
    """Where the shipper keeps its progress."""


def load_alert_settings(env_file: Path | None, environ: Mapping[str, str]) -> AlertSettings:
    """The settings from ``environ`` over ``env_file`` over defaults. ConfigErrors names all that is wrong."""
    settings = load_reader_settings(AlertSettings, ALERT_PREFIXES, env_file, environ)
    return with_state_dirs(settings, environ, {"alert_dir": alert_dir_of, "hooks_dir": hooks_dir_of})


def alert_dir_of(environ: Mapping[str, str]) -> Path | None:
    """Where the outbox is when ALERT_DIR does not say: in the state directory that systemd gives a unit."""
    state = environ.get("STATE_DIRECTORY", "").split(":")[0]
    return Path(state) / "alert" if state else None
