"""Settings of the programs that serve recorded ticks (``hk-tick-api``, ``hk-tick-live``).

They stand in the recorder's ``.env`` file and are found in the same way (``app/config.py``). ``check_exposure`` is what
a program asks before it listens.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator

from hk_tick_collector.alert.settings import alert_dir_of
from hk_tick_collector.app.config_model import (
    HOST_PATTERN,
    OptionalDirectory,
    OptionalPath,
    setting,
    text_error,
)
from hk_tick_collector.app.config_readers import (
    ClickHouseUrl,
    DataRoots,
    ReaderSettings,
    data_roots_setting,
    load_reader_settings,
    with_state_dirs,
)
from hk_tick_collector.app.config_sources import SERVE_PREFIXES
from hk_tick_collector.core.errors import ConfigError
from hk_tick_collector.serve.keys import KeyRing
from hk_tick_collector.store.layout import archive_dir
from hk_tick_collector.store.restarts import restarts_dir_of
from hk_tick_collector.store.signals import hooks_dir_of

_ADDRESS = rf"{HOST_PATTERN}|^[0-9a-fA-F]*:[0-9a-fA-F:]*$"
_NAME = re.compile(HOST_PATTERN)
_ORIGIN = re.compile(r"https?://(?:[A-Za-z0-9.-]+|\[[0-9a-fA-F:]+\])(?::\d{1,5})?")
_MAX_LISTED = 100
ALERT_DIR = "ALERT_DIR"  # the setting of another program

_api = partial(setting, "Serving: the HTTP API")
_live = partial(setting, "Serving: the live channel")
_hooks = partial(setting, "Serving: signals")


def _words(value: object) -> object:
    """``a, b`` as a tuple of texts."""
    if not isinstance(value, str):
        return value
    words = tuple(word for word in re.split(r"[,\s]+", value) if word)
    if len(words) > _MAX_LISTED:
        raise text_error(f"{len(words)} are listed; {_MAX_LISTED} at most")
    return words


def _host_names(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if not _NAME.match(name):
            raise text_error(f"{name!r} is not a host name; write for example ticks.example.org, without a port")
    return tuple(name.lower() for name in names)


def _origins(origins: tuple[str, ...]) -> tuple[str, ...]:
    for origin in origins:
        if not _ORIGIN.fullmatch(origin):
            raise text_error(
                f"{origin!r} is not an origin; write for example https://app.example.org, without a path or *"
            )
    return tuple(origin.lower() for origin in origins)


def _networks(texts: tuple[str, ...]) -> tuple[str, ...]:
    for text in texts:
        try:
            ipaddress.ip_network(text)
        except ValueError as error:
            raise text_error(
                f"{text!r} is not an address or network; write for example 127.0.0.1 or 10.0.0.0/8"
            ) from error
    return texts


_Words = Annotated[tuple[str, ...], BeforeValidator(_words)]


class ServeSettings(ReaderSettings):
    """The settings of the serving programs, checked and frozen. Made by ``load_serve_settings``; tests may give
    attributes by name."""

    api_host: str = _api("API_HOST", "127.0.0.1", "a host name or an address, no port", pattern=_ADDRESS)
    """Address of this machine on which the API and the live channel listen. Any address but a loopback one needs keys:
    without them nothing starts (exit code 78)."""
    api_port: int = _api("API_PORT", 8877, "0: any free one, told in the first line", ge=0, le=65535)
    """Port of the API."""
    api_keys_file: OptionalPath = _api("API_KEYS_FILE", None, "empty, or the path of a file that others may not read")
    """The file of keys, which `hk-tickctl keys` makes (mode 0640). It is read again when it changes."""
    api_anonymous: bool = _api("API_ANONYMOUS", False)
    """Anybody on this machine may read without a key, over the loopback address. Not with another `API_HOST`."""
    api_hosts: Annotated[_Words, AfterValidator(_host_names)] = _api(
        "API_HOSTS", (), "empty, or host names separated by commas"
    )
    """Names by which clients call this server, beside `localhost` and `API_HOST`. Requests for any other are refused,
    so that no web page can reach the server through a name of its own."""
    api_origins: Annotated[_Words, AfterValidator(_origins)] = _api(
        "API_ORIGINS", (), "empty, or origins separated by commas, such as https://app.example.org"
    )
    """Origins of other servers' web pages that may read from a browser (CORS, and the live channel). `*` is not
    taken."""
    api_trusted_proxies: Annotated[_Words, AfterValidator(_networks)] = _api(
        "API_TRUSTED_PROXIES", (), "empty, or addresses or networks separated by commas"
    )
    """Reverse proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed; nobody else's are."""
    api_root_path: str = _api(
        "API_ROOT_PATH", "", "empty, or a path such as /ticks", pattern=r"^((/[A-Za-z0-9._~-]+)+)?$"
    )
    """The path under which a reverse proxy shows the server."""
    api_workers: int = _api("API_WORKERS", 2, "processes", ge=1, le=8)
    """Processes that read days, so that a large answer holds nobody up."""
    api_worker_memory_mb: int = _api("API_WORKER_MEMORY_MB", 1024, "megabytes", ge=128, le=65_536)
    """Memory that one of them may take; a read that needs more fails."""
    api_timeout_sec: float = _api("API_TIMEOUT_SEC", 60, "seconds", ge=1, le=3600)
    """Longest time a read may work without sending anything; then it is ended."""

    api_clickhouse_url: ClickHouseUrl = _api(
        "API_CLICKHOUSE_URL",
        "",
        "empty, or an address such as clickhouse://user@host:8123/hk, without a password",
        repr=False,
    )
    """A ClickHouse that `hk-tick-ship` fills. Days that have neither a day file nor an archive here are read from
    it."""
    api_clickhouse_password_file: OptionalPath = _api(
        "API_CLICKHOUSE_PASSWORD_FILE", None, "empty, or the path of a file that others may not read"
    )
    """The file with that user's password in its first line; systemd's credential `api-clickhouse-password` takes
    precedence. Without either: no password."""
    api_clickhouse_recorder: str = _api("API_CLICKHOUSE_RECORDER", "", "empty, or the name of a recorder")
    """The recorder whose days are read there. Empty: the days of all recorders, joined."""

    live_port: int = _live("LIVE_PORT", 8878, "0: any free one, told in the first line", ge=0, le=65535)
    """Port of the live channel."""

    hooks_dir: OptionalDirectory = _hooks("HOOKS_DIR", None, "empty, or a directory")
    """Where the API stores what hooks receive (`signals.db`). Empty: there are no hooks; under systemd `hooks` in the
    unit's state directory. Outside of `DATA_ROOT`, to which the API cannot write."""
    hooks_secrets_file: OptionalPath = _hooks(
        "HOOKS_SECRETS_FILE", None, "empty, or the path of a file that others may not read"
    )
    """Lines `name=secret` for senders that sign (HMAC-SHA256) and have no key. A secret has 32 characters or more."""

    data_roots: DataRoots = data_roots_setting()
    """Several data roots for the programs that read: one for each market, and those of one market are read as one.
    Empty: `DATA_ROOT` alone. Their archives are in `_archive/` of each."""
    alert_dir: OptionalDirectory = setting("Alerts", ALERT_DIR, None, "empty, or a directory")
    """That of `hk-tick-alert`, whose outbox the dashboard shows."""
    restarts_dir: OptionalDirectory = setting(
        "Watchdog, health and stop", "RESTARTS_DIR", None, "empty, or a directory"
    )
    """The recorder's: where the API leaves requests to restart a feed."""

    @property
    def roots(self) -> tuple[tuple[Path, Path], ...]:
        """Each data root that is served, with its archive."""
        if self.data_roots:
            return tuple((root, archive_dir(root)) for root in self.data_roots)
        return ((self.data_root, self.archive),)

    @property
    def is_loopback(self) -> bool:
        """Does nobody but this machine reach the server?"""
        return is_loopback(self.api_host)


def is_loopback(host: str) -> bool:
    """Is it a loopback address, or the name of one?"""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def load_serve_settings(env_file: Path | None, environ: Mapping[str, str]) -> ServeSettings:
    """The settings from ``environ`` over ``env_file`` over defaults. ConfigErrors names all that is wrong."""
    settings = load_reader_settings(ServeSettings, SERVE_PREFIXES, env_file, environ)
    places = {"hooks_dir": hooks_dir_of, "alert_dir": alert_dir_of, "restarts_dir": restarts_dir_of}
    return with_state_dirs(settings, environ, places)


def check_exposure(settings: ServeSettings, ring: KeyRing) -> None:
    """Before a server listens. ConfigError when strangers could read, with what to do."""
    if settings.is_loopback:
        return
    where = f"API_HOST={settings.api_host} is open to the network"
    if settings.api_anonymous:
        raise ConfigError(
            f"{where}, and API_ANONYMOUS=1 would let everybody read: set API_ANONYMOUS=0 and give each reader a key "
            "(hk-tickctl keys add NAME), or API_HOST=127.0.0.1"
        )
    if not ring.keys:
        raise ConfigError(
            f"{where}, and there is no key yet: set API_KEYS_FILE and make one with hk-tickctl keys add NAME, or set "
            "API_HOST=127.0.0.1"
        )
